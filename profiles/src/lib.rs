//! Finds a kernel in raw memory and binds the decoders' layouts to it.
//!
//! For: everything between "here is a machine's physical memory" and "its tasks are listed there, in this
//! form". What is here: finding the kernel ([`discovery`]), its types ([`btf`]), symbols ([`kallsyms`])
//! and notes ([`vmcoreinfo`]), checking all of it against the memory ([`verify`]), and writing a profile
//! down for the next time ([`profile_file`]).
//!
//! What is not here: scanning (the engine does that, in batches, with the [`profile::Profile`] that comes
//! from here), and any reading but through the [`MemorySource`](panoptes_decoders::source::MemorySource)
//! that is handed in. This is cold code: it allocates, and runs once a boot.
//!
//! All input is hostile: memory, files, and every number in them. Nothing panics, loops without a bound
//! or allocates what a number says without checking it; failures are values that say what and where.
//!
//! Start reading at [`discovery::discover`].
#![forbid(unsafe_code)]

pub mod btf;
pub mod builtin;
pub mod discovery;
#[cfg(feature = "import")]
pub mod import;
pub mod kallsyms;
pub mod memory;
pub mod memory_regions;
pub mod modules;
mod object;
pub mod profile;
pub mod profile_file;
pub mod report;
mod stored;
mod sweep;
pub mod symbols;
pub mod verify;
pub mod vmcoreinfo;

pub use discovery::{Options, discover, mapped_share};
pub use profile::Profile;
pub use profile_file::ProfileFile;
pub use report::{DiscoveryError, Event, Progress};
pub use symbols::Symbols;
