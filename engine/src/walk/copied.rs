//! How the memory that is walked was made.

/// Whether memory is a copy, and what the machine did meanwhile.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum MemoryCopyMode {
    /// It is the machine's own.
    #[default]
    No,
    /// The machine stood still: all of the copy is of one moment.
    AtOnce,
    /// The machine may have run: page after page was copied, in ascending order of addresses.
    PageByPage,
}

impl MemoryCopyMode {
    /// Whether it is a copy, which may lack pages.
    pub const fn is_copy(self) -> bool {
        !matches!(self, Self::No)
    }
}
