//! Open files whose names no scan could read: whether that may be by chance.
//!
//! The kernel marks a name while it changes (`d_seq`), and a machine may stand still in the middle
//! of that, for as long as its host gives it no processor. A file that is open for longer has a
//! name that is hidden.

use panoptes_tables::RecentList;

use crate::state::facts::DescriptorFacts;
use crate::time::Monotonic;

/// How long a name may be unreadable by chance.
const CHANGING_NS: i64 = 500_000_000;
/// Number of files that are remembered.
const OPENED_MAX: usize = 64;

/// The last files whose descriptors were first seen without a name: device and number of their
/// inodes, and when that was.
#[derive(Debug)]
pub(super) struct Nameless {
    opened: RecentList<((u32, u64), Monotonic)>,
}

impl Nameless {
    pub(super) fn new() -> Self {
        Self { opened: RecentList::new(OPENED_MAX) }
    }

    /// Remembers the file of a descriptor that is seen first, if it has no name.
    pub(super) fn note(&mut self, descriptor: &DescriptorFacts<'_>, now: Monotonic) {
        if let Some(inode) = nameless_inode(descriptor)
            && !self.opened.iter().any(|(of, _)| *of == inode)
        {
            self.opened.push((inode, now));
        }
    }

    /// Whether a descriptor that has closed had no name, but its file was open for a short time
    /// only.
    pub(super) fn is_by_chance(&self, descriptor: &DescriptorFacts<'_>, now: Monotonic) -> bool {
        nameless_inode(descriptor).is_some_and(|inode| {
            let mut opened = self.opened.iter();
            opened.any(|(of, since)| *of == inode && now.since(*since) < CHANGING_NS)
        })
    }
}

/// Device and number of the inode of a descriptor without a name.
fn nameless_inode(descriptor: &DescriptorFacts<'_>) -> Option<(u32, u64)> {
    let inode = descriptor.inode.filter(|_| descriptor.name.is_none())?;
    Some((inode.device, inode.number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::facts::{FileName, InodeFacts};
    use crate::time::Now;

    /// A descriptor of the inode with this number.
    fn descriptor(number: u64) -> DescriptorFacts<'static> {
        let inode = Some(InodeFacts { number, device: 23, ..InodeFacts::default() });
        DescriptorFacts { inode, ..DescriptorFacts::default() }
    }

    fn at(ms: i64) -> Monotonic {
        Now::default().after(ms * 1_000_000).monotonic
    }

    #[test]
    fn a_name_that_is_unknown_for_long_is_not_so_by_chance() {
        let mut nameless = Nameless::new();
        nameless.note(&descriptor(300), at(0));
        assert!(nameless.is_by_chance(&descriptor(300), at(80)));
        assert!(!nameless.is_by_chance(&descriptor(301), at(80)));
        // Opening it again does not help.
        nameless.note(&descriptor(300), at(550));
        assert!(!nameless.is_by_chance(&descriptor(300), at(600)));
    }

    #[test]
    fn a_file_with_a_name_is_not_remembered() {
        let mut nameless = Nameless::new();
        let name = Some(FileName::Text(b"/etc/shadow"));
        let named = DescriptorFacts { name, ..descriptor(300) };
        nameless.note(&named, at(0));
        assert!(!nameless.is_by_chance(&descriptor(300), at(1)));
        nameless.note(&descriptor(300), at(2));
        assert!(!nameless.is_by_chance(&named, at(3)));
    }
}
