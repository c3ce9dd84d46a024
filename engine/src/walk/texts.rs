//! Room for the texts of a scan: command lines, long names of files, and names of control groups.
//!
//! They share [`super::Snapshot::bytes`], in this order. Command lines are divided by max-min
//! fairness, first among owners and then among processes, and may not take the last three eighths.
//! Names of files may not take the last quarter, which is for control groups. The last part of
//! either is divided by [`TableShares`]. Nobody's command line or file name is absent for lack of
//! room: it is cut.

use panoptes_tables::{CutText, Rows, Span};

use super::fair_share::{Leads, TableShares};
use super::snapshot::{DentryRow, NAME_INLINE_BYTES};

/// A kind of names, and its part of the room.
#[derive(Clone, Copy, Debug)]
pub(super) enum NamePool {
    Files,
    /// Directories of control groups, and containers.
    Groups,
}

impl NamePool {
    /// The last eighth of the room that these may take, and how many eighths before it are divided.
    const fn eighths(self) -> (usize, usize) {
        match self {
            Self::Files => (6, 1),
            Self::Groups => (8, 2),
        }
    }

    /// Adds a name to which a process leads, if there is room and neither the process nor its owner
    /// has more than their parts.
    pub(super) fn add(
        self,
        bytes: &mut Rows<u8>,
        shares: &mut TableShares,
        process: Leads,
        name: &[u8],
    ) -> Option<Span<u8>> {
        let (end, divided) = self.eighths();
        let eighth = bytes.capacity() / 8;
        let is_free = bytes.len() + name.len() <= eighth * (end - divided);
        if is_free || shares.charge_text(self as usize, process, eighth * divided, name.len()) {
            return bytes.extend(name);
        }
        bytes.dropped = bytes.dropped.saturating_add(1);
        None
    }
}

impl TableShares {
    /// Adds a text about control groups to which a process leads, if there is room for it.
    pub(super) fn add_group_text(
        &mut self,
        bytes: &mut Rows<u8>,
        process: Leads,
        text: &[u8],
    ) -> Option<Span<u8>> {
        NamePool::Groups.add(bytes, self, process, text)
    }
}

/// Number of bytes that all command lines may have together.
pub(super) fn room_for_lines(bytes: &Rows<u8>) -> u64 {
    (bytes.capacity() / 8 * 5) as u64
}

impl DentryRow {
    /// Sets a long name. Without room beside the row it is cut, with a hash.
    pub(super) fn set_long_name(
        &mut self,
        bytes: &mut Rows<u8>,
        shares: &mut TableShares,
        name: &[u8],
    ) {
        self.readable = true;
        if let Some(text) = NamePool::Files.add(bytes, shares, self.process, name) {
            self.long = text.first();
            return;
        }
        let cut = CutText::new(name, NAME_INLINE_BYTES);
        let length = cut.bytes().len();
        self.text[..length].copy_from_slice(cut.bytes());
        self.name.length = length as u32;
    }
}

#[cfg(test)]
mod tests {
    use panoptes_tables::{HashKey, Index};

    use super::*;

    #[test]
    fn a_long_name_without_room_is_cut_and_that_of_another_process_is_not() {
        let mut shares = TableShares::new(100, HashKey::new(1));
        shares.begin(20);
        let mut bytes = Rows::with_capacity(8000);
        let mut add = |process: usize, name: &[u8]| {
            let mut row = DentryRow { process: Index::new(process), ..DentryRow::default() };
            row.name.length = name.len() as u32;
            row.set_long_name(&mut bytes, &mut shares, name);
            assert!(row.readable);
            let length = row.name.length;
            if let Some(start) = row.long {
                assert_eq!(bytes.range(Span::of(start, length)), name);
            } else {
                let cut = CutText::new(name, NAME_INLINE_BYTES);
                assert_eq!((length, &row.text[..]), (40, cut.bytes()));
            }
            row.long.is_some()
        };
        let name = |number: u8| [&[b'x'; 199][..], &[number]].concat();
        let whole = (0..100).filter(|&number| add(0, &name(number))).count();
        assert_eq!(whole, 25 + 2, "five eighths of the room, and a part of the sixth");
        assert!(add(1, &name(0)) && !add(0, &name(0)));
        assert!(shares.refused == Index::new(0) && bytes.dropped == 74);
        // Names of control groups have the rest, in the same way.
        let mut add = |process: usize| {
            let name = &[b'g'; 200];
            NamePool::Groups.add(&mut bytes, &mut shares, Index::new(process), name).is_some()
        };
        assert_eq!((0..100).filter(|_| add(0)).count(), 2 + 2);
        assert!(add(1) && !add(0));
    }
}
