//! Contents of files from the kernel's page cache: hashes without opening a file.
//!
//! Callers ask [`Contents`] for files by their [`FileIdentity`]. Files that are not known yet are
//! queued, and [`Contents::work`] processes a slice of the queue between scans, never during one.
//!
//! A file has [`Hashes`] only if the kernel has every page of it. Of a file that lacks pages it is
//! known how many pages are cached, and which known file they match best, according to a
//! [`PageMatcher`].
//!
//! [`FileReader`] reads a few bytes of a file, and [`Symbols`] the symbols that an ELF file
//! defines.
//!
//! Not here: what a file ought to contain, which the judge knows, and which files to hash.

mod bytes;
mod contents;
mod digest;
mod fair_share;
mod identity;
mod job;
mod memory;
mod opened;
mod overlay;
mod pages;
mod scratch;
mod symbols;
mod traits;
mod tree;

#[cfg(test)]
#[path = "../../tests/common/cached.rs"]
mod cached;

pub use bytes::{FileBytes, FileReader, MissingPage};
pub use contents::Contents;
pub use identity::FileIdentity;
pub use memory::MachineMemory;
pub use scratch::HashBuffers;
pub use symbols::Symbols;
pub use traits::Traits;

use panoptes_decoders::early_stop::EarlyStop;

/// Maximum size of a file that is hashed, in bytes. Larger files stay unknown.
pub const FILE_BYTES_MAX: u64 = 64 << 30;

/// Contents are compared in pages of this size, whatever the kernel's page size is.
pub use panoptes_decoders::source::PAGE_BYTES;

/// The first bytes of the SHA-256 of one page of [`PAGE_BYTES`], the last page ending with the
/// file.
pub type PageDigest = [u8; 16];

/// The hashes of a whole file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Hashes {
    pub sha256: [u8; 32],
    pub sha1: [u8; 20],
    pub md5: [u8; 16],
}

impl ContentFacts {
    /// The file's hashes, if all of it was read.
    pub const fn hashes(&self) -> Option<Hashes> {
        match self.outcome {
            HashOutcome::Whole { hashes } => Some(hashes),
            HashOutcome::Partial(_) | HashOutcome::Nothing => None,
        }
    }
}

/// How much of a file's content was read.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum HashOutcome {
    Whole {
        hashes: Hashes,
    },
    /// Some of its pages. Retried later, while a caller asks for it.
    Partial(Partial),
    /// Nothing: no page is in memory, the file has no pages, or it kept changing. Retried later,
    /// while a caller asks for it.
    #[default]
    Nothing,
}

/// A file of which the kernel lacks pages.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Partial {
    /// Number of pages of [`PAGE_BYTES`] that the file has.
    pub pages: u32,
    /// Number of them that are in memory.
    pub resident: u32,
    /// The shipped file that matches best, according to the [`PageMatcher`].
    pub best_match: Option<BestMatch>,
}

/// How well a file's pages match those of a shipped one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BestMatch {
    /// Number of the shipped file, given by the [`PageMatcher`].
    pub shipped: u32,
    /// Number of pages that were compared.
    pub compared: u32,
    /// Number of those that differ.
    pub differing: u32,
}

/// The format of a file according to its first page.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ContentFormat {
    /// Its first page is not in memory.
    #[default]
    Unknown,
    /// Not an ELF file: it does not begin with the magic number.
    Other,
    Elf(ElfKind),
}

/// The kind of an ELF file, by `e_type` (include/uapi/linux/elf.h).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ElfKind {
    /// `ET_REL`
    Relocatable,
    /// `ET_EXEC`
    Executable,
    /// `ET_DYN`: libraries, and executables that run at any address.
    SharedObject,
    /// `ET_CORE`
    Core,
    Other(u16),
}

/// Known facts of a file's content.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ContentFacts {
    pub outcome: HashOutcome,
    pub format: ContentFormat,
    /// What words in the pages that were read show about the file.
    pub traits: Traits,
}

/// Index of shipped files, page by page.
pub trait PageMatcher {
    /// The shipped file of `size` bytes that differs least from these pages, if page hashes of such
    /// a file are known. `pages` has the index of each page of [`PAGE_BYTES`] that is in memory,
    /// ascending, and its digest.
    fn best_match(&self, size: u64, pages: &[(u32, PageDigest)]) -> Option<BestMatch>;
}

/// An index without files.
impl PageMatcher for () {
    fn best_match(&self, _: u64, _: &[(u32, PageDigest)]) -> Option<BestMatch> {
        None
    }
}

/// Process that asks for the content of a file, with its owner.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Asker {
    /// 0: nobody in the machine.
    pub process_id: u32,
    /// Owner of that process: a container or a user ([`crate::walk::Snapshot::group_of`]).
    pub group: u64,
}

impl Asker {
    fn blamed(self) -> Option<u32> {
        Some(self.process_id).filter(|&id| id != 0)
    }
}

/// Source of file contents.
pub trait ContentSource {
    /// Returns the known facts of a file. If there are none, queues the file on behalf of a
    /// process.
    fn ask(&mut self, file: &FileIdentity, asker: Asker) -> Option<ContentFacts>;

    /// The same; while a file is read again, what was known of it before.
    fn ask_last(&mut self, file: &FileIdentity, asker: Asker) -> Option<ContentFacts> {
        self.ask(file, asker)
    }

    /// What was known of a file as it was. Queues nothing.
    fn known(&self, _file: &FileIdentity) -> Option<ContentFacts> {
        None
    }

    /// The reason why the content of a file is not known whole although it is, or may be, in
    /// memory; `None` if that is not known any more.
    fn stop_of(&self, _file: &FileIdentity) -> Option<EarlyStop> {
        None
    }
}

impl ContentSource for Contents {
    fn ask(&mut self, file: &FileIdentity, asker: Asker) -> Option<ContentFacts> {
        self.ask_for(file, asker).copied()
    }

    fn ask_last(&mut self, file: &FileIdentity, asker: Asker) -> Option<ContentFacts> {
        let known = self.ask_for(file, asker).copied();
        known.or_else(|| self.get_last(file).copied())
    }

    fn known(&self, file: &FileIdentity) -> Option<ContentFacts> {
        self.get_last(file).copied()
    }

    fn stop_of(&self, file: &FileIdentity) -> Option<EarlyStop> {
        self.stop(file)
    }
}

/// A source without contents, which queues nothing.
impl ContentSource for () {
    fn ask(&mut self, _: &FileIdentity, _: Asker) -> Option<ContentFacts> {
        None
    }
}
