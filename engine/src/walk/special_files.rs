//! Open files of one kind (sockets, terminals), and what is behind them.

use panoptes_decoders::address::KernelVa;
use panoptes_tables::{AddressMap, room};

use super::snapshot::{FileRow, Index, SocketRow, row_at};
use super::tables::Snapshot;
use super::terminals::is_master;

/// Lists that one batch passes to the next. They run in parallel.
#[derive(Debug)]
pub(super) struct HeldFiles {
    /// Open files, with their addresses.
    pub(super) files: Vec<(Index<FileRow>, KernelVa)>,
    /// `private_data` of each: a `struct socket` or a `tty_file_private`.
    pub(super) privates: Vec<KernelVa>,
    /// `struct sock` or `tty_struct` of each; after the first batch, of each row of the table.
    pub(super) objects: Vec<KernelVa>,
}

impl HeldFiles {
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self {
            files: room::list(capacity),
            privates: room::list(capacity),
            objects: room::list(capacity),
        }
    }

    pub(super) fn clear(&mut self) {
        self.files.clear();
        self.privates.clear();
        self.objects.clear();
    }

    /// Lists an open file, if there is room; `private` is what is behind it.
    pub(super) fn add(&mut self, index: Index<FileRow>, file: &FileRow, private: KernelVa) {
        if self.privates.len() < self.privates.capacity() {
            self.files.push((index, file.address));
            self.privates.push(private);
            self.objects.push(KernelVa::NULL);
        }
    }

    /// Each file whose object the first batch found, with that object's address.
    fn found(&self) -> impl Iterator<Item = (Index<FileRow>, KernelVa)> {
        let files = self.files.iter().map(|&(file, _)| file);
        files.zip(self.objects.iter().copied()).filter(|(_, object)| object.is_plausible())
    }
}

impl Snapshot {
    /// Adds a row for each socket that the first batch found.
    pub(super) fn add_sockets(&mut self, held: &mut HeldFiles) {
        for (file, address) in held.found() {
            self.files[file].socket = self.sockets.push(SocketRow::new(address, file));
        }
        held.objects.clear();
        held.objects.extend(self.sockets.iter().map(|row| row.address));
    }

    /// Adds a row for each terminal that the first batch found.
    pub(super) fn add_terminals(&mut self, held: &mut HeldFiles) {
        for (file, address) in held.found() {
            let row = row_at(&mut self.terminals, address);
            let file = &mut self.files[file];
            file.terminal = row;
            let device = self.inodes.at(file.inode).map_or(0, |inode| inode.attributes.rdev);
            if let Some(terminal) = self.terminals.at_mut(row) {
                terminal.is_master |= is_master(device);
            }
        }
        held.objects.clear();
        held.objects.extend(self.terminals.iter().map(|row| row.address));
    }

    /// Joins the ends of each AF_UNIX pair.
    pub(super) fn join_sockets(&mut self, seen: &mut AddressMap) {
        seen.clear();
        for (index, row) in self.sockets.indexed() {
            seen.insert(row.address.0, index.number());
        }
        for row in self.sockets.iter_mut().filter(|row| !row.peer_address.is_null()) {
            row.peer = seen.get(row.peer_address.0).and_then(Index::from_number);
        }
    }

    /// Joins the two ends of each pseudoterminal.
    pub(super) fn join_terminals(&mut self) {
        for row in self.terminals.indexes() {
            let link = self.terminals.find(self.terminals[row].link_address.0);
            self.terminals[row].link = link;
        }
    }
}
