//! What is worth saying, and how: from facts to records and to lines of `panoptes scan`.
//!
//! [`describe`] fills the details objects of both; [`lines`] prints a snapshot; [`reporter`] turns
//! changes into records, as [`config`] wants them, and `attestation` what was not shipped.

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
