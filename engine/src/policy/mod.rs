//! What is worth saying, and how: from facts to records and to lines of `panoptes scan`.
//!
//! [`describe`] fills the details objects of both; [`lines`] prints a snapshot; [`reporter`] turns
//! changes into records, as [`config`] wants them.

pub mod config;
pub mod describe;
pub mod lines;
pub mod reporter;
#[cfg(test)]
mod tests;

pub use config::PolicyConfig;
pub use reporter::{Policy, Reporter};
