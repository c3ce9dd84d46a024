//! What the kernel has cached of files' content: hashes without a file being opened.
//!
//! [`Contents`] is asked for files by their [`FileIdentity`] and answers what is known. What is not known is
//! queued, and [`Contents::work`] does a slice of it, between scans: never inside one.
//!
//! Nothing is guessed. A file of which the kernel has every page has [`Hashes`]; of one that lacks pages it is
//! said how much was there, and a [`Judge`] says which known file the pages that are there are those of.
//!
//! [`FileReader`] reads a few bytes of a file, and [`Symbols`] what an ELF file defines.
//!
//! Not here: what a file ought to be, which is the judge's, and whose hashes are wanted.

mod bytes;
mod contents;
mod digest;
mod identity;
mod job;
mod opened;
mod overlay;
mod pages;
mod symbols;
mod traits;
mod tree;
mod workbench;

#[cfg(test)]
#[path = "../../tests/common/cached.rs"]
mod cached;

pub use bytes::{FileBytes, FileReader, Unread};
pub use contents::Contents;
pub use identity::FileIdentity;
pub use symbols::Symbols;
pub use traits::Traits;

/// Largest file that is hashed; of a larger one nothing is known.
pub const FILE_BYTES_MAX: u64 = 64 << 30;

/// Bytes of a page as contents are compared, whatever the kernel's own pages have.
pub const PAGE_BYTES: u64 = 4096;

/// The first bytes of the SHA-256 of one page of [`PAGE_BYTES`]; of the last page only up to the file's end.
pub type PageDigest = [u8; 16];

/// The hashes of a whole file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Hashes {
    /// SHA-256
    pub sha256: [u8; 32],
    /// SHA-1
    pub sha1: [u8; 20],
    /// MD5
    pub md5: [u8; 16],
}

impl Known {
    /// The file's hashes, where all of it could be had.
    pub const fn hashes(&self) -> Option<Hashes> {
        match self.outcome {
            Outcome::Whole { hashes } => Some(hashes),
            Outcome::Partial(_) | Outcome::Nothing => None,
        }
    }
}

/// What of a file could be had.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// All of it.
    Whole {
        /// Its hashes.
        hashes: Hashes,
    },
    /// Some of its pages. It is tried again later, while somebody asks.
    Partial(Partial),
    /// Nothing: no page of it is in memory, it is no file that has pages, or it never held still. It is tried
    /// again later, while somebody asks.
    Nothing,
}

/// A file of which the kernel lacks pages.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Partial {
    /// How many pages of [`PAGE_BYTES`] the file has.
    pub pages: u32,
    /// How many of them are in memory.
    pub resident: u32,
    /// The shipped file that it agrees with best, by the [`Judge`].
    pub likest: Option<Likest>,
}

/// How well a file's pages agree with those of a shipped one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Likest {
    /// Which shipped file, as the [`Judge`] numbers them.
    pub shipped: u32,
    /// How many pages were compared.
    pub compared: u32,
    /// How many of those were different.
    pub differing: u32,
}

/// What a file's first page says it is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Format {
    /// Its first page is not in memory.
    #[default]
    Unknown,
    /// No ELF file: it does not begin with the magic number.
    Other,
    /// An ELF file.
    Elf(ElfKind),
}

/// What kind of ELF file, by `e_type` (include/uapi/linux/elf.h).
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
    /// Another number.
    Other(u16),
}

/// What is known of a file's content.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Known {
    /// How much of it could be had.
    pub outcome: Outcome,
    /// What it is.
    pub format: Format,
    /// What the words in it say of it, as far as its pages are there.
    pub traits: Traits,
}

/// Knows which files were shipped, page by page.
pub trait Judge {
    /// The shipped file of `size` bytes that differs from these pages least, if there is one whose pages are
    /// known. `pages` has the index of each page of [`PAGE_BYTES`] that is in memory, ascending, and its digest.
    fn likest(&self, size: u64, pages: &[(u32, PageDigest)]) -> Option<Likest>;
}

/// Knows of no shipped file.
impl Judge for () {
    fn likest(&self, _: u64, _: &[(u32, PageDigest)]) -> Option<Likest> {
        None
    }
}

/// Whoever knows what files hold.
pub trait Knower {
    /// What is known of a file; it is found out when nothing is.
    fn ask(&mut self, file: &FileIdentity) -> Option<Known>;
}

impl Knower for Contents {
    fn ask(&mut self, file: &FileIdentity) -> Option<Known> {
        Contents::ask(self, file).copied()
    }
}

/// Knows nothing and finds nothing out.
impl Knower for () {
    fn ask(&mut self, _: &FileIdentity) -> Option<Known> {
        None
    }
}
