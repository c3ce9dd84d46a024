//! The engine: reads a machine's memory, decodes the kernel's structures, tracks them from scan to
//! scan, and reports what changed.
//!
//! In the order in which data flows: [`address`] (translation and batches), [`walk`] (one scan:
//! bytes to a [`walk::Snapshot`]), [`path`] (names of files), [`page_cache`] (file contents),
//! [`kernel_code`] (integrity of the kernel's code),
//! [`state`] (comparison with earlier scans), [`detect`] (attacks), [`policy`] (what is reported)
//! and [`watch`], which joins them. [`system`] attaches to a machine. [`limits`] sets every
//! capacity, [`container_config`] has the configuration of containers, [`shipped`] the SBOMs, and
//! [`time`] the clocks.
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
pub mod container_config;
pub mod detect;
pub mod executables;
pub mod kernel_code;
pub mod limits;
pub mod loss;
pub mod page_cache;
pub mod path;
pub mod policy;
pub mod shipped;
pub mod state;
pub mod system;
pub mod time;
pub mod walk;
pub mod watch;
