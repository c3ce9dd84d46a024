//! Decides what to report, and in which form: from facts to records and to lines of `panoptes
//! scan`.
//!
//! [`describe`] fills the details objects of both. [`lines`] prints a snapshot. [`reporter`] turns
//! changes into records, as [`config`] allows, and `attestation` turns attestation alerts into
//! records.

mod attestation;
pub mod config;
mod connections;
mod containers;
pub mod describe;
mod hidden;
pub mod lines;
mod permissions;
pub mod reporter;
mod reverse_shell;
mod shell_history;
mod techniques;
#[cfg(test)]
mod tests;
mod written;

pub use config::PolicyConfig;
pub use reporter::{Policy, Reporter};
