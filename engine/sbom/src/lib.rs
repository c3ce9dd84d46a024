//! What should run: software bills of materials (SBOMs), made from what is shipped and read again.
//!
//! [`build`] makes one from a root directory, a container image, or a Debian package. [`load`]
//! reads one, in Panoptes' own format or in others (SPDX, CycloneDX, plain lists of hashes), and
//! refuses it entirely if any part is wrong. [`model`] is their common form; [`format`](mod@format)
//! is Panoptes' own format.
//!
//! The input may be hostile: every length is bounded, no link is followed out of a root, and no
//! file is written.
//!
//! Not here: evaluating what runs (`panoptes-engine`), and the configuration (`panoptes`).
//!
//! Start reading at [`model`].

#![forbid(unsafe_code)]

pub mod build;
pub mod digest;
pub mod error;
pub mod format;
pub mod import;
pub mod load;
pub mod model;

pub use error::{SbomError, SbomErrorKind};
