//! Profile files: what binding needs of a kernel, written down as JSON, so that a later scan of the same
//! build needs neither its BTF nor its kallsyms.
//!
//! A file is input like any other: sizes are bounded, and what it says is verified against the memory
//! like any profile. Symbols are kept as distances from the image's beginning, as KASLR moves it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::layout::{Member, Members};
use serde::{Deserialize, Serialize};

use crate::symbols::Symbols;

/// Version of the format; another one is refused.
pub const FORMAT: u32 = 1;

/// Largest file that is read: a real one has about 20 KB.
pub const FILE_BYTES_MAX: usize = 4 << 20;

/// Why a file is no profile.
#[derive(Debug)]
pub enum Error {
    /// It is larger than a profile can be.
    TooLarge {
        /// Its size in bytes.
        bytes: usize,
    },
    /// It is not the JSON that it should be.
    Json(serde_json::Error),
    /// It is of another version of the format.
    Format {
        /// Which.
        found: u32,
    },
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::TooLarge { bytes } => {
                write!(f, "profile: {bytes} bytes, more than {FILE_BYTES_MAX}")
            }
            Self::Json(error) => write!(f, "profile: {error}"),
            Self::Format { found } => write!(f, "profile: format {found}, not {FORMAT}"),
        }
    }
}

impl core::error::Error for Error {}

/// Fields by structure and path, and structures' sizes.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct RecordedMembers {
    structures: BTreeMap<String, Structure>,
}

#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
struct Structure {
    size: Option<u32>,
    /// Offset and size by dotted path.
    members: BTreeMap<String, (u32, u32)>,
}

impl Members for RecordedMembers {
    fn member(&self, structure: &str, path: &str) -> Option<Member> {
        let (offset, size) = *self.structures.get(structure)?.members.get(path)?;
        Some(Member { offset, size })
    }

    fn size_of(&self, structure: &str) -> Option<u32> {
        self.structures.get(structure)?.size
    }
}

/// Hands look-ups on and writes down what was found.
pub(crate) struct Recorder<'m> {
    members: &'m dyn Members,
    record: RefCell<RecordedMembers>,
}

impl<'m> Recorder<'m> {
    pub(crate) fn new(members: &'m dyn Members) -> Self {
        Self { members, record: RefCell::default() }
    }

    pub(crate) fn into_members(self) -> RecordedMembers {
        self.record.into_inner()
    }
}

impl Members for Recorder<'_> {
    fn member(&self, structure: &str, path: &str) -> Option<Member> {
        let found = self.members.member(structure, path)?;
        let mut record = self.record.borrow_mut();
        let recorded = record.structures.entry(structure.to_owned()).or_default();
        recorded.members.insert(path.to_owned(), (found.offset, found.size));
        Some(found)
    }

    fn size_of(&self, structure: &str) -> Option<u32> {
        let found = self.members.size_of(structure)?;
        let mut record = self.record.borrow_mut();
        record.structures.entry(structure.to_owned()).or_default().size = Some(found);
        Some(found)
    }
}

/// A kernel's profile, for every boot of it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileFile {
    format: u32,
    /// The kernel's build id in lower-case hex.
    pub build_id: String,
    /// Its release.
    pub release: String,
    /// Distances of symbols from the image's beginning, by name.
    symbols: BTreeMap<String, u64>,
    /// Fields and sizes.
    members: RecordedMembers,
}

impl ProfileFile {
    pub(crate) fn new(
        build_id: String,
        release: String,
        symbols: &Symbols,
        image: Range<u64>,
        members: RecordedMembers,
    ) -> Self {
        let symbols = symbols
            .iter()
            .filter_map(|(name, address)| {
                let address = address?.0;
                // What lies elsewhere (found by following pointers) moves from boot to boot.
                image.contains(&address).then(|| (name.to_owned(), address - image.start))
            })
            .collect();
        Self { format: FORMAT, build_id, release, symbols, members }
    }

    /// Reads a file's bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > FILE_BYTES_MAX {
            return Err(Error::TooLarge { bytes: bytes.len() });
        }
        let file: Self = serde_json::from_slice(bytes).map_err(Error::Json)?;
        if file.format != FORMAT {
            return Err(Error::Format { found: file.format });
        }
        Ok(file)
    }

    /// The file's bytes, ending in a line feed.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// Fills in every symbol that the file has, for an image that begins at `start`.
    pub(crate) fn place_symbols(&self, start: u64, symbols: &mut Symbols) {
        for (name, distance) in &self.symbols {
            if let Some(field) = symbols.field_mut(name) {
                *field = Some(KernelVa(start.wrapping_add(*distance)));
            }
        }
    }
}

impl Members for ProfileFile {
    fn member(&self, structure: &str, path: &str) -> Option<Member> {
        self.members.member(structure, path)
    }

    fn size_of(&self, structure: &str) -> Option<u32> {
        self.members.size_of(structure)
    }
}
