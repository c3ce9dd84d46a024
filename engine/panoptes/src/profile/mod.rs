//! `panoptes profile`: the description of a kernel as a file, so that a search in memory is not
//! needed.

mod build;
mod show;
mod source;
mod verify;

pub use build::build;
pub use show::show;
pub use verify::verify;
