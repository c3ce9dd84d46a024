//! The engine: reads a machine's memory, decodes the kernel's structures, tracks them from scan to
//! scan, and reports what changed.
//!
//! In the order in which data flows: [`address`] (translation and batches), [`walk`] (one scan:
//! bytes to a [`walk::Snapshot`]), [`path`] (names of files), [`page_cache`] (file contents), [`state`] (comparison with earlier scans), [`attest`] (running
//! code checked against an SBOM), [`history`] (shell commands), [`permissions`] (executable
//! memory), [`shells`] (shells controlled from outside), [`written`] (changed files), [`policy`]
//! (what is reported) and [`watch`], which joins them. [`limits`] sets every capacity, and
//! [`containers`] has the configuration of containers.
//!
//! Not here: configuration, command line and threads (`panoptes`), and the output format
//! (`panoptes-sinks`). Time, memory and randomness are arguments, so that every run can be
//! replayed.
//!
//! Start reading at [`walk`].
#![forbid(unsafe_code)]

// Lets unit tests share the hand-made machines of the tests in `tests/`.
#[cfg(test)]
extern crate self as panoptes_engine;

pub mod address;
pub mod attest;
pub mod containers;
pub mod history;
pub mod limits;
pub mod page_cache;
pub mod path;
pub mod permissions;
pub mod policy;
pub mod shells;
pub mod state;
pub mod system;
pub mod walk;
pub mod watch;
pub mod written;
