//! What should run: software bills of materials (SBOMs), made from what is shipped and read again.
//!
//! [`build`] makes one of a root directory, a container image, or a Debian package; [`load`] reads one, of our
//! own format or of others (SPDX, CycloneDX, plain lists of hashes), and refuses it whole if anything in it is
//! wrong. Between the two lies [`model`]; [`format`](mod@format) is how we write it down.
//!
//! What is read here may have been made by anybody: every length is bounded, nothing is followed out of a
//! root, and no file is written.
//!
//! Not for: deciding about what runs (`panoptes-engine`), or the configuration (`panoptes`).
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

pub use error::{Error, Kind};
