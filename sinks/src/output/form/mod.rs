//! The forms of records for receivers that want more than lines of JSON: one file a form.

pub mod msgpack;
pub mod otlp;
pub mod syslog;
