//! [`RamPageIndex`]: where the last content of each page of memory is in the file.
//!
//! One word a page: 2 MiB for each GiB of memory. Writers send a page again if the guest has
//! changed it, so a later record replaces an earlier one. Differences (XBZRLE) need the content
//! before them: a list keeps these.

use crate::dump::DumpProblem;
use crate::dump::bytes::DumpBytes;
use crate::dump::codec::{BlockCompression, Codec};

use super::xbzrle;

/// Largest page: arm64's.
pub(super) const PAGE_BYTES_MAX: usize = 1 << 16;

/// Largest memory in bytes: an index of 2 GiB.
pub(super) const MEMORY_BYTES_MAX: u64 = 1 << 40;

/// Maximum number of differences.
const DIFFERENCES_MAX: usize = 1 << 26;

/// Maximum number of differences of one page, one upon another. Each takes up to a page's copy.
const PAGE_DIFFERENCES_MAX: u16 = 1024;

/// Number of bits of an entry for an offset or a number; the others are its kind.
const VALUE_BITS: u32 = 60;
const VALUE_MAX: u64 = (1 << VALUE_BITS) - 1;

/// What the file has of a page.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum RamPageContent {
    /// Nothing: the guest gave the page back, or the file was cut.
    Absent,
    /// Bytes of one value.
    Filled(u8),
    /// The page at an offset.
    Plain(u64),
    /// Bytes compressed with zlib at an offset, behind their number.
    Packed(u64),
    /// The number of a difference from what the page was before.
    Changed(u64),
}

impl RamPageContent {
    const fn word(self) -> u64 {
        let (kind, value) = match self {
            Self::Absent => (0, 0),
            Self::Filled(byte) => (1, byte as u64),
            Self::Plain(at) => (2, at),
            Self::Packed(at) => (3, at),
            Self::Changed(number) => (4, number),
        };
        kind << VALUE_BITS | value & VALUE_MAX
    }

    const fn of(word: u64) -> Self {
        let value = word & VALUE_MAX;
        match word >> VALUE_BITS {
            1 => Self::Filled(value as u8),
            2 => Self::Plain(value),
            3 => Self::Packed(value),
            4 => Self::Changed(value),
            _ => Self::Absent,
        }
    }
}

/// A difference.
#[derive(Clone, Copy, Debug)]
struct Difference {
    /// What the page was before.
    before: u64,
    /// Offset of its bytes, behind their number.
    at: u64,
    /// Number of differences before this one.
    depth: u16,
}

/// The contents of all pages.
#[derive(Debug)]
pub(super) struct RamPageIndex {
    page_bytes: usize,
    words: Vec<u64>,
    differences: Vec<Difference>,
    /// Number of pages that the file has.
    count: u64,
    packed: Vec<u8>,
    codec: Codec,
}

impl RamPageIndex {
    pub(super) fn new(page_bytes: usize) -> Self {
        Self {
            page_bytes,
            words: Vec::new(),
            differences: Vec::new(),
            count: 0,
            packed: Vec::new(),
            codec: Codec::new(),
        }
    }

    pub(super) fn page_bytes(&self) -> usize {
        self.page_bytes
    }

    /// Number of pages that the file has.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Makes room for a number of pages.
    pub(super) fn reserve(&mut self, pages: u64) -> Result<(), DumpProblem> {
        let most = MEMORY_BYTES_MAX / self.page_bytes as u64;
        if pages > most {
            return Err(DumpProblem::TooLarge("pages"));
        }
        // Pages that were never sent cost nothing: the words are zeros, which no memory backs.
        self.words = vec![0; pages as usize];
        let bound = self.page_bytes + self.page_bytes / 16 + 64;
        self.packed = vec![0; bound];
        Ok(())
    }

    pub(super) fn get(&self, page: u64) -> RamPageContent {
        let word = usize::try_from(page).ok().and_then(|page| self.words.get(page));
        word.map_or(RamPageContent::Absent, |word| RamPageContent::of(*word))
    }

    /// Sets the content of a page; ignores a page that does not exist.
    pub(super) fn set(&mut self, page: u64, content: RamPageContent) {
        let word = usize::try_from(page).ok().and_then(|page| self.words.get_mut(page));
        let Some(word) = word else { return };
        self.count += u64::from(*word == 0);
        *word = content.word();
    }

    /// Adds a difference at an offset.
    pub(super) fn change(&mut self, page: u64, at: u64) -> Result<(), DumpProblem> {
        let before = self.get(page);
        let depth = match before {
            RamPageContent::Changed(number) => {
                self.differences.get(number as usize).map_or(0, |one| one.depth + 1)
            }
            _ => 0,
        };
        if depth >= PAGE_DIFFERENCES_MAX || self.differences.len() >= DIFFERENCES_MAX {
            return Err(DumpProblem::TooLarge(
                "differences of one page; save the guest while it is paused",
            ));
        }
        let number = self.differences.len() as u64;
        self.differences.push(Difference { before: before.word(), at, depth });
        self.set(page, RamPageContent::Changed(number));
        Ok(())
    }

    /// Reads a page to `target`, which has its size; `false` if the file is damaged there.
    /// Allocates nothing.
    pub(super) fn load(&mut self, file: &DumpBytes, page: u64, target: &mut [u8]) -> bool {
        match self.get(page) {
            RamPageContent::Changed(number) => self.load_changed(file, number, target),
            content => self.load_content(file, content, target),
        }
    }

    /// Reads a page that is differences upon another content.
    fn load_changed(&mut self, file: &DumpBytes, number: u64, target: &mut [u8]) -> bool {
        let mut chain = [0_u64; PAGE_DIFFERENCES_MAX as usize];
        let mut length = 0;
        let mut content = RamPageContent::Changed(number);
        while let RamPageContent::Changed(number) = content {
            let (Some(difference), Some(place)) =
                (self.differences.get(number as usize), chain.get_mut(length))
            else {
                return false;
            };
            *place = difference.at;
            length += 1;
            content = RamPageContent::of(difference.before);
        }
        self.load_content(file, content, target)
            && chain[..length].iter().rev().all(|at| {
                let bytes = self.behind::<2>(file, *at);
                let bytes = bytes.and_then(|bytes| self.packed.get(..bytes));
                bytes.is_some_and(|bytes| xbzrle::apply(bytes, target))
            })
    }

    /// Reads a content that depends on no other.
    fn load_content(
        &mut self,
        file: &DumpBytes,
        content: RamPageContent,
        target: &mut [u8],
    ) -> bool {
        match content {
            // Memory that was never sent is empty.
            RamPageContent::Absent => {
                target.fill(0);
                true
            }
            RamPageContent::Filled(byte) => {
                target.fill(byte);
                true
            }
            RamPageContent::Plain(at) => file.read(at, target),
            RamPageContent::Packed(at) => {
                let Some(bytes) = self.behind::<4>(file, at) else { return false };
                let Some(packed) = self.packed.get(..bytes) else { return false };
                self.codec.unpack(BlockCompression::Zlib, packed, target)
            }
            RamPageContent::Changed(_) => false,
        }
    }

    /// Reads the bytes behind their number of `N` bytes to the buffer; returns that number.
    fn behind<const N: usize>(&mut self, file: &DumpBytes, at: u64) -> Option<usize> {
        let mut number = [0; N];
        file.read(at, &mut number).then_some(())?;
        let bytes = number.iter().fold(0_usize, |value, byte| value << 8 | usize::from(*byte));
        let room = self.packed.get_mut(..bytes)?;
        file.read(at + N as u64, room).then_some(bytes)
    }
}
