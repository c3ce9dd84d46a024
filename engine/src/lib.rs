//! The engine: it reads a machine's memory, decodes the kernel's structures, remembers what it saw, and
//! says what changed.
//!
//! In the order in which bytes travel: [`source`] (where memory comes from), [`address`] (translation and
//! batches), [`walk`] (one scan: bytes to a [`walk::Snapshot`]), [`path`] (names of files), [`page_cache`] (what
//! files hold), [`state`] (what was there before), [`attest`] (whether what runs is what was shipped), [`history`] (what is
//! typed into shells), [`permissions`] (who may execute memory), [`shells`] (who is commanded from outside), [`policy`]
//! (what is worth saying) and [`watch`], which joins them. [`limits`] fixes every capacity,
//! [`containers`] has what a user says of containers.
//!
//! What is not here: configuration, command line, threads (`panoptes`), and the format of what goes out
//! (`panoptes-sinks`). Time, memory and randomness are arguments, so that any run can be replayed.
//!
//! Start reading at [`walk`].

// So that unit tests can share the machines made by hand of the tests in `tests/`.
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
pub mod source;
pub mod state;
pub mod system;
pub mod walk;
pub mod watch;
pub mod written;
