//! The program `panoptes`: command line, configuration and service around the engine.
//!
//! Everything is in this library so that tests reach it; the binary only calls [`run`]. [`cli`]
//! parses the arguments, and `program` calls the module of each command ([`scan`], [`watch`],
//! [`profile`], …). [`request`] checks the arguments of `scan`, `watch` and `run` together with the
//! configuration ([`config`]). [`message`] writes messages for people, [`exit`] has the exit codes.
//!
//! Not for: reading memory, decoding it, deciding what is worth reporting (`panoptes-engine`), or
//! writing records (`panoptes-sinks`).

mod advice;
pub mod attach;
pub mod boot_ids;
pub mod check;
pub mod cli;
mod completions;
pub mod config;
pub mod dma;
mod doctor;
pub mod exit;
mod flow;
pub mod guests;
pub mod interfaces;
pub mod memory;
pub mod message;
pub mod profile;
mod random;
mod record_header;
pub mod request;
mod sandbox;
pub mod sbom;
pub mod scan;
mod scanner_cores;
mod shells;
mod size;
mod system_argument;
pub mod systems;
pub mod watch;
mod watched;

mod program;

pub use flow::{FlowSettingText, argus_conf_remarks, flow_setting_texts};
pub use program::run;
