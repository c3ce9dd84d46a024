//! Terminals behind descriptors, with the two ends of each pseudoterminal joined.
//!
//! They are read in the same batches as the sockets ([`super::connections`]): the
//! `tty_file_private` behind the open file, then the `tty_struct` behind that.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::Layouts;
use panoptes_decoders::kernel::inode::device_numbers;
use panoptes_decoders::layout::View;

use super::snapshot::{FileRow, Index};
use super::tables::Snapshot;

/// One terminal that a descriptor leads to: a real one, or one end of a pseudoterminal.
#[derive(Clone, Copy, Debug)]
pub struct TerminalRow {
    /// `struct tty_struct *`
    pub address: KernelVa,
    /// `struct tty_struct *` of a pseudoterminal's other end.
    pub link_address: KernelVa,
    /// The other end, if a descriptor leads to it.
    pub link: Option<Index<Self>>,
    /// Number within its driver.
    pub number: u32,
    /// Whether it is the master end of a pseudoterminal (`/dev/ptmx`).
    pub is_master: bool,
}

impl TerminalRow {
    fn new(address: KernelVa) -> Self {
        Self { address, link_address: KernelVa::NULL, link: None, number: 0, is_master: false }
    }
}

/// Lists that one batch passes to the next. The first three run in parallel.
#[derive(Debug)]
pub(super) struct Lists {
    /// Open files of terminals, with their addresses.
    pub(super) files: Vec<(Index<FileRow>, KernelVa)>,
    /// `struct tty_file_private` of each.
    pub(super) privates: Vec<KernelVa>,
    /// `struct tty_struct` of each; after the first batch, of each row of [`Snapshot::terminals`].
    pub(super) terminals: Vec<KernelVa>,
}

/// Whether a character device belongs to terminals: virtual consoles and serial lines (4),
/// /dev/tty, /dev/console and /dev/ptmx (5), pseudoterminals (2, 3, 136 to 143)
/// (Documentation/admin-guide/devices.txt).
pub(super) fn may_be_terminal(device: u32) -> bool {
    matches!(device_numbers(device).0, 2..=5 | 136..=143)
}

/// Whether a device is the master end of a pseudoterminal: /dev/ptmx, or a BSD-style master (major
/// 2).
fn is_master(device: u32) -> bool {
    matches!(device_numbers(device), (5, 2) | (2, _))
}

impl Lists {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            files: Vec::with_capacity(capacity),
            privates: Vec::with_capacity(capacity),
            terminals: Vec::with_capacity(capacity),
        }
    }

    pub(super) fn clear(&mut self) {
        self.files.clear();
        self.privates.clear();
        self.terminals.clear();
    }

    /// Lists an open file, if there is room; `private` is its `struct tty_file_private`.
    pub(super) fn add(&mut self, index: Index<FileRow>, file: &FileRow, private: KernelVa) {
        if self.privates.len() < self.privates.capacity() {
            self.files.push((index, file.address));
            self.privates.push(private);
            self.terminals.push(KernelVa::NULL);
        }
    }

    /// Adds a row for each terminal that the first batch found.
    pub(super) fn make_rows(&mut self, snapshot: &mut Snapshot) {
        for (&address, &(file, _)) in self.terminals.iter().zip(&self.files) {
            if !address.is_plausible() {
                continue;
            }
            let row = snapshot.terminals.row_of(address.0, || TerminalRow::new(address));
            let file = &mut snapshot.files[file];
            file.terminal = row;
            let device = snapshot.inodes.at(file.inode).map_or(0, |inode| inode.attributes.rdev);
            if let Some(terminal) = snapshot.terminals.at_mut(row) {
                terminal.is_master |= is_master(device);
            }
        }
        self.terminals.clear();
        self.terminals.extend(snapshot.terminals.iter().map(|row| row.address));
    }
}

impl Snapshot {
    /// Fills a terminal's row from its `tty_struct`.
    pub(super) fn place_terminal(
        &mut self,
        layouts: &Layouts,
        row: Index<TerminalRow>,
        view: View<'_>,
    ) {
        let Some(layout) = &layouts.tty_struct else { return };
        let terminal = &mut self.terminals[row];
        terminal.link_address = view.pointer(layout.link);
        terminal.number = view.unsigned(layout.index) as u32;
    }

    /// Joins the two ends of each pseudoterminal.
    pub(super) fn join_terminals(&mut self) {
        for row in self.terminals.indexes() {
            let link = self.terminals.find(self.terminals[row].link_address.0);
            self.terminals[row].link = link;
        }
    }
}
