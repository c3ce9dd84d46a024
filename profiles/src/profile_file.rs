//! Profile files: everything that binding needs of a kernel, stored as JSON, so that a later scan
//! of the same build needs neither its BTF nor its kallsyms.
//!
//! Files are untrusted: sizes are bounded, and a stored profile is verified against the memory like
//! any other. Symbols are stored as distances from the image's first byte, because KASLR moves the
//! image.
//!
//! Members that the kernel lacks are stored too, as `null`. So a file without an entry is older
//! than the code that needs it, and discovery reads that entry from memory.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;

use panoptes_decoders::layout::{Member, Members};
use serde::{Deserialize, Serialize};

use crate::stored::{StoredAnswer, StoredAnswers, StoredProfile};
use crate::symbols::Symbols;

/// Version of the format; others are refused.
const FORMAT: u32 = 2;

/// Maximum size of a file in bytes: a real one has about 20 KB.
pub const FILE_BYTES_MAX: usize = 4 << 20;

/// Why a file is not a profile.
#[derive(Debug, thiserror::Error)]
pub enum ProfileFileError {
    #[error("profile: {bytes} bytes, more than {}", FILE_BYTES_MAX)]
    TooLarge { bytes: usize },
    #[error("profile: {0}")]
    Json(serde_json::Error),
    #[error("profile: format {found}, not {}; make it again with `panoptes profile build`", FORMAT)]
    Format { found: u32 },
}

/// Fields by structure and path, and sizes of structures, as far as they were looked up.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct RecordedMembers {
    /// Offset and size by structure and dotted path; the empty path is the structure itself. `None`
    /// if the kernel lacks it.
    structures: BTreeMap<String, BTreeMap<String, Option<(u32, u32)>>>,
}

impl RecordedMembers {
    /// The recorded answer for a path.
    pub(crate) fn answer(&self, structure: &str, path: &str) -> StoredAnswer<Member> {
        let written = self.structures.get(structure).and_then(|paths| paths.get(path)).copied();
        StoredAnswer::of(written.map(|field| field.map(|(offset, size)| Member { offset, size })))
    }

    /// All recorded answers, by structure and path, both in ascending order. `None` if the kernel
    /// lacks it.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, Option<Member>)> {
        self.structures.iter().flat_map(|(structure, paths)| {
            paths.iter().map(move |(path, answer)| {
                let member = answer.map(|(offset, size)| Member { offset, size });
                (structure.as_str(), path.as_str(), member)
            })
        })
    }

    fn record(&mut self, structure: &str, path: &str, answer: Option<Member>) {
        let answer = answer.map(|member| (member.offset, member.size));
        self.structures.entry(structure.to_owned()).or_default().insert(path.to_owned(), answer);
    }
}

impl Members for RecordedMembers {
    fn member(&self, structure: &str, path: &str) -> Option<Member> {
        self.answer(structure, path).known()
    }

    fn size_of(&self, structure: &str) -> Option<u32> {
        self.answer(structure, "").known().map(|itself| itself.size)
    }
}

/// Passes look-ups on and records their results.
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
        let found = self.members.member(structure, path);
        self.record.borrow_mut().record(structure, path, found);
        found
    }

    fn size_of(&self, structure: &str) -> Option<u32> {
        let found = self.members.size_of(structure);
        let itself = found.map(|size| Member { offset: 0, size });
        self.record.borrow_mut().record(structure, "", itself);
        found
    }
}

/// Passes look-ups on and records the first one without a stored answer.
pub(crate) struct Completeness<'a> {
    answers: &'a dyn StoredAnswers,
    unanswered: RefCell<Option<String>>,
}

impl<'a> Completeness<'a> {
    pub(crate) fn of(answers: &'a dyn StoredAnswers) -> Self {
        Self { answers, unanswered: RefCell::default() }
    }

    /// The first look-up without a stored answer.
    pub(crate) fn unanswered(&self) -> Option<String> {
        self.unanswered.borrow().clone()
    }

    fn ask(&self, structure: &str, path: &str) -> Option<Member> {
        let answer = self.answers.answer(structure, path);
        if answer == StoredAnswer::Unasked {
            let dot = if path.is_empty() { "" } else { "." };
            self.unanswered
                .borrow_mut()
                .get_or_insert_with(|| format!("struct {structure}{dot}{path}"));
        }
        answer.known()
    }
}

impl Members for Completeness<'_> {
    fn member(&self, structure: &str, path: &str) -> Option<Member> {
        self.ask(structure, path)
    }

    fn size_of(&self, structure: &str) -> Option<u32> {
        self.ask(structure, "").map(|itself| itself.size)
    }
}

/// The profile of a kernel, valid for every boot of it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileFile {
    format: u32,
    /// The kernel's build id in lower-case hex; empty if its source shows none.
    pub build_id: String,
    pub release: String,
    /// Distances of symbols from the image's first byte, by name; `None` if the kernel lacks the
    /// symbol.
    symbols: BTreeMap<String, Option<u64>>,
    members: RecordedMembers,
}

impl ProfileFile {
    /// A profile from a kernel's symbols and members. `all_symbols`: the symbols come from the
    /// kernel's complete table, so that a missing symbol does not exist.
    pub(crate) fn new(
        build_id: String,
        release: String,
        symbols: &Symbols,
        all_symbols: bool,
        image: Range<u64>,
        members: RecordedMembers,
    ) -> Self {
        let symbols = symbols
            .iter()
            .filter_map(|(name, address)| {
                // Other addresses (found by following pointers) differ from boot to boot.
                let range = image.start..=image.end;
                let inside = address.filter(|address| range.contains(&address.0));
                let distance = inside.map(|address| address.0 - image.start);
                (distance.is_some() || all_symbols).then(|| (name.to_owned(), distance))
            })
            .collect();
        Self { format: FORMAT, build_id, release, symbols, members }
    }

    /// Parses the bytes of a file.
    pub fn parse(bytes: &[u8]) -> Result<Self, ProfileFileError> {
        /// The part that every version of the format has.
        #[derive(Deserialize)]
        struct Any {
            format: u32,
        }
        if bytes.len() > FILE_BYTES_MAX {
            return Err(ProfileFileError::TooLarge { bytes: bytes.len() });
        }
        let any: Any = serde_json::from_slice(bytes).map_err(ProfileFileError::Json)?;
        if any.format != FORMAT {
            return Err(ProfileFileError::Format { found: any.format });
        }
        serde_json::from_slice(bytes).map_err(ProfileFileError::Json)
    }

    /// The bytes of the file, with a line feed at the end.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// Distances of symbols from the image's first byte, in ascending order of names; `None` if the
    /// kernel lacks the symbol.
    pub fn symbols(&self) -> impl Iterator<Item = (&str, Option<u64>)> {
        self.symbols.iter().map(|(name, distance)| (name.as_str(), *distance))
    }

    /// The stored answer for a symbol.
    pub(crate) fn distance(&self, name: &str) -> StoredAnswer<u64> {
        StoredAnswer::of(self.symbols.get(name).copied())
    }

    /// The recorded members of structures.
    pub fn members(&self) -> &RecordedMembers {
        &self.members
    }
}

impl StoredAnswers for ProfileFile {
    fn answer(&self, structure: &str, path: &str) -> StoredAnswer<Member> {
        self.members().answer(structure, path)
    }
}

impl StoredProfile for ProfileFile {
    fn symbol(&self, name: &str) -> StoredAnswer<u64> {
        self.distance(name)
    }
}
