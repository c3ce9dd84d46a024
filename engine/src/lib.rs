//! The engine: it reads a machine's memory, decodes the kernel's structures, remembers what it saw, and
//! says what changed.
//!
//! In the order in which bytes travel: [`source`] (where memory comes from), [`address`] (translation and
//! batches), [`walk`] (one scan: bytes to a [`walk::Snapshot`]), [`path`] (names of files), [`state`] (what
//! was there before), [`policy`] (what is worth saying) and [`watch`], which joins them. [`limits`] fixes
//! every capacity.
//!
//! What is not here: configuration, command line, threads (`panoptes`), and the format of what goes out
//! (`panoptes-sinks`). Time, memory and randomness are arguments, so that any run can be replayed.
//!
//! Start reading at [`walk`].

pub mod address;
pub mod limits;
pub mod path;
pub mod policy;
pub mod source;
pub mod state;
pub mod system;
pub mod walk;
pub mod watch;
