//! What should run: `panoptes sbom build`, and what the configuration's `sbom` names.
//!
//! Not for: making and reading SBOMs (`panoptes-reference`), nor comparing them with what runs
//! (`panoptes-engine`).

mod build;
mod load;

pub use build::build;
pub use load::{Fault, Sboms};
