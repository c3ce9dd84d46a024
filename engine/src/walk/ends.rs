//! Sockets and terminals behind descriptors, with the two ends of each pair joined.
//!
//! They are read beside the TCP sockets, in the same three batches ([`super::connections`]): the
//! `struct socket` or `tty_file_private` behind the open file, then the `struct sock` or
//! `tty_struct` behind that, then the peer of an AF_UNIX socket.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::Layouts;
use panoptes_decoders::kernel::file::FMODE_PATH;
use panoptes_decoders::kernel::inode::{device_numbers, mode};
use panoptes_decoders::kernel::sock::Endpoints;
use panoptes_decoders::kernel::super_block::magic;
use panoptes_decoders::kernel::unix_sock::AF_UNIX;
use panoptes_decoders::layout::Packing;

use super::snapshot::{Rows, Snapshot};
use super::{NONE, row_of};
use panoptes_tables::AddressMap;

/// Maximum number of terminals in one scan. The kernel makes at most 4096 pseudoterminals
/// (`kernel.pty.max`), each with two ends.
pub(super) const TERMINALS_MAX: usize = 16_384;

/// One socket that a descriptor leads to.
#[derive(Clone, Copy, Debug)]
pub struct SocketRow {
    /// `struct sock *`
    pub address: KernelVa,
    /// Index of its open file.
    pub file: u32,
    /// Family, state, network namespace and, for IPv4 and IPv6, addresses and ports; `None` if
    /// unreadable.
    pub endpoints: Option<Endpoints>,
    /// `SOCK_*`
    pub kind: u16,
    /// `IPPROTO_*`
    pub protocol: u16,
    /// `struct sock *` of the AF_UNIX socket that it is connected to.
    pub peer_address: KernelVa,
    /// Index of the peer socket, if a descriptor leads to it.
    pub peer: u32,
    /// Number of its network namespace, or 0.
    pub network_namespace: u32,
}

impl SocketRow {
    /// `AF_*`, or 0 if it could not be read.
    pub fn family(&self) -> u16 {
        self.endpoints.map_or(0, |endpoints| endpoints.family)
    }
}

/// One terminal that a descriptor leads to: a real one, or one end of a pseudoterminal.
#[derive(Clone, Copy, Debug)]
pub struct TerminalRow {
    /// `struct tty_struct *`
    pub address: KernelVa,
    /// `struct tty_struct *` of a pseudoterminal's other end.
    pub link_address: KernelVa,
    /// Index of the other end, if a descriptor leads to it.
    pub link: u32,
    /// Number within its driver.
    pub number: u32,
    /// Whether it is the master end of a pseudoterminal (`/dev/ptmx`).
    pub is_master: bool,
}

/// Lists that the three batches pass on; the lists of a pair run in parallel.
#[derive(Debug)]
pub(super) struct Ends {
    /// Open files of sockets: row index and address.
    pub(super) socket_files: Vec<(u32, KernelVa)>,
    /// `struct socket` of each.
    pub(super) sockets: Vec<KernelVa>,
    /// Open files of terminals: row index and address.
    pub(super) terminal_files: Vec<(u32, KernelVa)>,
    /// `struct tty_file_private` of each.
    pub(super) privates: Vec<KernelVa>,
    /// The `struct sock` of each socket; after the first batch, of each row of
    /// [`Snapshot::sockets`].
    pub(super) socks: Vec<KernelVa>,
    /// The `struct tty_struct` of each terminal's file; after the first batch, of each row of
    /// [`Snapshot::terminals`].
    pub(super) terminals: Vec<KernelVa>,
    /// Rows of AF_UNIX sockets; `unix` has their addresses.
    pub(super) unix_rows: Vec<u32>,
    pub(super) unix: Vec<KernelVa>,
}

/// The packings of terminals and AF_UNIX sockets; empty where a kernel has no such layout.
pub(super) struct Packings {
    pub(super) private: Packing,
    pub(super) terminal: Packing,
    pub(super) unix: Packing,
}

impl Packings {
    pub(super) fn of(layouts: &Layouts) -> Self {
        Self {
            private: layouts.tty_file_private.map(|it| it.packing).unwrap_or_default(),
            terminal: layouts.tty_struct.map(|it| it.packing).unwrap_or_default(),
            unix: layouts.unix_sock.map(|it| it.packing).unwrap_or_default(),
        }
    }
}

/// Whether a character device belongs to terminals: virtual consoles and serial lines (4),
/// /dev/tty, /dev/console and /dev/ptmx (5), pseudoterminals (2, 3, 136 to 143)
/// (Documentation/admin-guide/devices.txt).
fn may_be_terminal(device: u32) -> bool {
    matches!(device_numbers(device).0, 2..=5 | 136..=143)
}

/// Whether a device is the master end of a pseudoterminal: /dev/ptmx, or a BSD-style master (major
/// 2).
fn serves(device: u32) -> bool {
    matches!(device_numbers(device), (5, 2) | (2, _))
}

impl Ends {
    /// Allocates for `files` open files.
    pub(super) fn new(files: usize) -> Self {
        Self {
            socket_files: Vec::with_capacity(files),
            sockets: Vec::with_capacity(files),
            terminal_files: Vec::with_capacity(TERMINALS_MAX),
            privates: Vec::with_capacity(TERMINALS_MAX),
            socks: Vec::with_capacity(files),
            terminals: Vec::with_capacity(TERMINALS_MAX),
            unix_rows: Vec::with_capacity(files),
            unix: Vec::with_capacity(files),
        }
    }

    /// Lists the open files of sockets and terminals.
    pub(super) fn list(&mut self, layouts: &Layouts, snapshot: &Snapshot) {
        self.socket_files.clear();
        self.sockets.clear();
        self.terminal_files.clear();
        self.privates.clear();
        let with_terminals = layouts.tty_file_private.is_some() && layouts.tty_struct.is_some();
        for (index, file) in snapshot.files.iter().enumerate() {
            let Some(inode) = snapshot.inodes.at(file.inode) else { continue };
            // A file opened with `O_PATH` leads to nothing.
            let behind = file.open.private_data;
            if behind.is_null() || file.open.mode & FMODE_PATH != 0 {
                continue;
            }
            let place = (index as u32, file.address);
            let attributes = &inode.attributes;
            match attributes.kind() {
                mode::S_IFSOCK if self.sockets.len() < self.sockets.capacity() => {
                    let filesystem = snapshot.super_blocks.at(inode.super_block);
                    if filesystem.is_some_and(|row| row.filesystem.magic == magic::SOCKFS) {
                        self.socket_files.push(place);
                        self.sockets.push(behind);
                    }
                }
                mode::S_IFCHR
                    if with_terminals
                        && may_be_terminal(attributes.rdev)
                        && self.privates.len() < self.privates.capacity() =>
                {
                    self.terminal_files.push(place);
                    self.privates.push(behind);
                }
                _ => {}
            }
        }
        self.socks.clear();
        self.socks.resize(self.sockets.len(), KernelVa::NULL);
        self.terminals.clear();
        self.terminals.resize(self.privates.len(), KernelVa::NULL);
    }

    /// Adds a row for each socket and terminal that the first batch found.
    pub(super) fn make_rows(&mut self, snapshot: &mut Snapshot, seen: &mut AddressMap) {
        let (sockets, terminals) = (&mut snapshot.sockets, &mut snapshot.terminals);
        for (&address, &(file, _)) in self.socks.iter().zip(&self.socket_files) {
            if !address.is_plausible() {
                continue;
            }
            let row = sockets.push(SocketRow::new(address, file));
            if let (Some(row), Some(file)) = (row, snapshot.files.get_mut(file as usize)) {
                file.socket = row;
            }
        }
        seen.clear();
        for (&address, &(file, _)) in self.terminals.iter().zip(&self.terminal_files) {
            if !address.is_plausible() {
                continue;
            }
            let row = row_of(seen, terminals, address, || TerminalRow::new(address));
            let Some(file) = snapshot.files.get_mut(file as usize) else { continue };
            file.terminal = row;
            let device = snapshot.inodes.at(file.inode).map_or(0, |inode| inode.attributes.rdev);
            if let Some(terminal) = terminals.get_mut(row as usize) {
                terminal.is_master |= serves(device);
            }
        }
        self.socks.clear();
        self.socks.extend(sockets.iter().map(|row| row.address));
        self.terminals.clear();
        self.terminals.extend(terminals.iter().map(|row| row.address));
    }

    /// Lists the AF_UNIX sockets that the second batch found, if their layout is known.
    pub(super) fn list_unix(&mut self, layouts: &Layouts, sockets: &Rows<SocketRow>) {
        self.unix_rows.clear();
        self.unix.clear();
        if layouts.unix_sock.is_none() {
            return;
        }
        for (index, row) in sockets.iter().enumerate() {
            if row.family() == AF_UNIX {
                self.unix_rows.push(index as u32);
                self.unix.push(row.address);
            }
        }
    }

    /// Joins the ends of each pair.
    pub(super) fn join(snapshot: &mut Snapshot, seen: &mut AddressMap) {
        seen.clear();
        for (index, row) in snapshot.sockets.iter().enumerate() {
            seen.insert(row.address.0, index as u32);
        }
        for row in snapshot.sockets.iter_mut().filter(|row| !row.peer_address.is_null()) {
            row.peer = seen.get(row.peer_address.0).unwrap_or(NONE);
        }
        seen.clear();
        for (index, row) in snapshot.terminals.iter().enumerate() {
            seen.insert(row.address.0, index as u32);
        }
        for row in snapshot.terminals.iter_mut().filter(|row| !row.link_address.is_null()) {
            row.link = seen.get(row.link_address.0).unwrap_or(NONE);
        }
    }
}

impl SocketRow {
    fn new(address: KernelVa, file: u32) -> Self {
        Self {
            address,
            file,
            endpoints: None,
            kind: 0,
            protocol: 0,
            peer_address: KernelVa::NULL,
            peer: NONE,
            network_namespace: 0,
        }
    }
}

impl TerminalRow {
    fn new(address: KernelVa) -> Self {
        Self { address, link_address: KernelVa::NULL, link: NONE, number: 0, is_master: false }
    }
}
