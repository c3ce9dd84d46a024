//! The common part of profile files and built-in tables: stored answers about a kernel.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::layout::Member;

use crate::symbols::Symbols;

/// A stored answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum StoredAnswer<T> {
    /// Not recorded when the profile was stored.
    Unasked,
    /// The kernel lacks it.
    Absent,
    Known(T),
}

impl<T> StoredAnswer<T> {
    pub(crate) fn known(self) -> Option<T> {
        match self {
            Self::Unasked | Self::Absent => None,
            Self::Known(value) => Some(value),
        }
    }

    /// Converts a stored entry, if there is one.
    #[allow(clippy::option_option, reason = "the only place that converts it")]
    pub(crate) fn of(written: Option<Option<T>>) -> Self {
        match written {
            None => Self::Unasked,
            Some(None) => Self::Absent,
            Some(Some(value)) => Self::Known(value),
        }
    }
}

/// Stored answers about structures, which may be incomplete.
pub(crate) trait StoredAnswers {
    /// The answer for a path in a structure; the empty path is the structure itself.
    fn answer(&self, structure: &str, path: &str) -> StoredAnswer<Member>;
}

/// A stored profile of a kernel.
pub(crate) trait StoredProfile: StoredAnswers {
    /// Distance of a symbol from the image's first byte.
    fn symbol(&self, name: &str) -> StoredAnswer<u64>;

    /// Whether it says nothing of any symbol: its source was the kernel's headers.
    fn has_only_types(&self) -> bool {
        Symbols::NAMES.iter().all(|name| self.symbol(name) == StoredAnswer::Unasked)
    }
}

/// Sets every stored symbol, for an image that begins at `start`; returns the first name without an
/// answer.
pub(crate) fn place_symbols(
    stored: &dyn StoredProfile,
    start: u64,
    symbols: &mut Symbols,
) -> Option<&'static str> {
    let mut unknown = None;
    for &name in Symbols::NAMES {
        match stored.symbol(name) {
            StoredAnswer::Unasked => unknown = unknown.or(Some(name)),
            StoredAnswer::Absent => {}
            StoredAnswer::Known(distance) => {
                if let Some(field) = symbols.field_mut(name) {
                    *field = Some(KernelVa(start.wrapping_add(distance)));
                }
            }
        }
    }
    unknown
}
