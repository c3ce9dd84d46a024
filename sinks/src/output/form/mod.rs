//! The forms of records for receivers that want more than lines of JSON: one file a form.

mod ecs;
mod envelope;
mod mapping;
pub mod msgpack;
mod ocsf;
pub mod otlp;
pub mod syslog;

pub use envelope::Envelope;

use syslog::MessageSubject;

/// A schema that others have published, in whose events records are written: one event a line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Schema {
    /// The Open Cybersecurity Schema Framework.
    Ocsf,
    /// The Elastic Common Schema.
    Ecs,
}

impl Schema {
    /// Appends a record as an event; `None`, and nothing, if it cannot be read.
    pub fn append(
        self,
        about: &MessageSubject<'_>,
        record: &[u8],
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let start = out.len();
        let written = match self {
            Self::Ocsf => ocsf::append(about, record, out),
            Self::Ecs => ecs::append(about, record, out),
        };
        if written.is_none() {
            out.truncate(start);
        }
        written
    }
}
