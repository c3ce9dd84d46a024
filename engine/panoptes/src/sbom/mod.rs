//! SBOMs: `panoptes sbom build`, and the references of the configuration's `sbom`.
//!
//! Not for: making and reading SBOMs (`panoptes-sbom`), or comparing them with running
//! programs (`panoptes-engine`).

mod build;
mod load;

pub use build::build;
pub(crate) use build::{Bar, counted, failure, finish, options};
pub use load::{SbomFault, Sboms};
