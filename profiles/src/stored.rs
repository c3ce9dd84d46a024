//! What files and built-in tables have in common: a kernel's numbers, written down before.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::layout::Member;

use crate::profile_file::ProfileFile;
use crate::symbols::Symbols;

/// What is known about something.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Answer<T> {
    /// Nothing: nobody asked when it was written down.
    Unasked,
    /// The kernel does not have it.
    Absent,
    /// The kernel has it.
    Known(T),
}

impl<T> Answer<T> {
    pub(crate) fn known(self) -> Option<T> {
        match self {
            Self::Unasked | Self::Absent => None,
            Self::Known(value) => Some(value),
        }
    }

    /// From what was written down, if anything was.
    #[allow(clippy::option_option, reason = "this is where it ends")]
    pub(crate) fn of(written: Option<Option<T>>) -> Self {
        match written {
            None => Self::Unasked,
            Some(None) => Self::Absent,
            Some(Some(value)) => Self::Known(value),
        }
    }
}

/// Knows some answers and, of the others, that it does not know them.
pub(crate) trait Answers {
    /// What is known about a path in a structure; the empty path is the structure itself.
    fn answer(&self, structure: &str, path: &str) -> Answer<Member>;
}

/// A kernel's profile that was made before.
pub(crate) trait Stored: Answers {
    /// How far from the image's beginning a symbol lies.
    fn symbol(&self, name: &str) -> Answer<u64>;
}

impl Answers for ProfileFile {
    fn answer(&self, structure: &str, path: &str) -> Answer<Member> {
        self.members().answer(structure, path)
    }
}

impl Stored for ProfileFile {
    fn symbol(&self, name: &str) -> Answer<u64> {
        self.distance(name)
    }
}

/// Fills in every symbol that is stored, for an image that begins at `start`; the first name that is not.
pub(crate) fn place_symbols(
    stored: &dyn Stored,
    start: u64,
    symbols: &mut Symbols,
) -> Option<&'static str> {
    let mut unknown = None;
    for &name in Symbols::NAMES {
        match stored.symbol(name) {
            Answer::Unasked => unknown = unknown.or(Some(name)),
            Answer::Absent => {}
            Answer::Known(distance) => {
                if let Some(field) = symbols.field_mut(name) {
                    *field = Some(KernelVa(start.wrapping_add(distance)));
                }
            }
        }
    }
    unknown
}
