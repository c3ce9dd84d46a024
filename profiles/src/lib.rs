//! Finds a kernel in raw memory and binds the decoders' layouts to it.
//!
//! For: finding the kernel ([`discovery`]), its types ([`btf`]), symbols ([`kallsyms`]) and notes
//! ([`vmcoreinfo`]), verifying all of them against the memory ([`verify`]), and storing a profile
//! for later ([`profile_file`]).
//!
//! Not for: scanning (the engine does that, in batches, with the [`profile::Profile`] from here),
//! and any access to memory other than the caller's
//! [`MemorySource`](panoptes_decoders::source::MemorySource). This is cold code: it allocates, and
//! runs once a boot.
//!
//! All input is hostile: memory, files, and every number in them. Nothing panics, loops without a
//! bound or allocates an unchecked size. Errors state what failed and where.
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
mod table_marks;
pub mod unsupported;
pub mod verify;
pub mod vmcoreinfo;

pub use discovery::{DiscoveryOptions, discover, mapped_share};
pub use profile::Profile;
pub use profile_file::ProfileFile;
pub use report::{DiscoveryError, DiscoveryProgress, Event};
pub use symbols::Symbols;
