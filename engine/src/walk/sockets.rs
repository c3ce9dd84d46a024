//! Sockets behind descriptors, with the two ends of each AF_UNIX pair joined.
//!
//! They are read in the same three batches as the TCP sockets ([`super::connections`]): the
//! `struct socket` behind the open file, then the `struct sock` behind that, then the peer of an
//! AF_UNIX socket.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::Layouts;
use panoptes_decoders::kernel::sock::Endpoints;
use panoptes_decoders::kernel::unix_sock::AF_UNIX;

use super::snapshot::{FileRow, Index, NetRow};
use super::tables::Snapshot;
use panoptes_tables::AddressMap;

/// One socket that a descriptor leads to.
#[derive(Clone, Copy, Debug)]
pub struct SocketRow {
    /// `struct sock *`
    pub address: KernelVa,
    /// Its open file.
    pub file: Index<FileRow>,
    /// Family, state, network namespace and, for IPv4 and IPv6, addresses and ports; `None` if
    /// unreadable.
    pub endpoints: Option<Endpoints>,
    /// `SOCK_*`
    pub kind: u16,
    /// `IPPROTO_*`
    pub protocol: u16,
    /// `struct sock *` of the AF_UNIX socket that it is connected to.
    pub peer_address: KernelVa,
    /// The peer socket, if a descriptor leads to it.
    pub peer: Option<Index<Self>>,
    /// Network namespace.
    pub net: Option<Index<NetRow>>,
}

impl SocketRow {
    /// `AF_*`, or 0 if it could not be read.
    pub fn family(&self) -> u16 {
        self.endpoints.map_or(0, |endpoints| endpoints.family)
    }

    fn new(address: KernelVa, file: Index<FileRow>) -> Self {
        Self {
            address,
            file,
            endpoints: None,
            kind: 0,
            protocol: 0,
            peer_address: KernelVa::NULL,
            peer: None,
            net: None,
        }
    }
}

/// Lists that one batch passes to the next. The first three run in parallel.
#[derive(Debug)]
pub(super) struct Lists {
    /// Open files of sockets, with their addresses.
    pub(super) files: Vec<(Index<FileRow>, KernelVa)>,
    /// `struct socket` of each.
    pub(super) sockets: Vec<KernelVa>,
    /// `struct sock` of each; after the first batch, of each row of [`Snapshot::sockets`].
    pub(super) socks: Vec<KernelVa>,
    /// AF_UNIX sockets; `unix` has their addresses.
    pub(super) unix_rows: Vec<Index<SocketRow>>,
    pub(super) unix: Vec<KernelVa>,
}

impl Lists {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            files: Vec::with_capacity(capacity),
            sockets: Vec::with_capacity(capacity),
            socks: Vec::with_capacity(capacity),
            unix_rows: Vec::with_capacity(capacity),
            unix: Vec::with_capacity(capacity),
        }
    }

    pub(super) fn clear(&mut self) {
        self.files.clear();
        self.sockets.clear();
        self.socks.clear();
    }

    /// Lists an open file, if there is room; `socket` is its `struct socket`.
    pub(super) fn add(&mut self, index: Index<FileRow>, file: &FileRow, socket: KernelVa) {
        if self.sockets.len() < self.sockets.capacity() {
            self.files.push((index, file.address));
            self.sockets.push(socket);
            self.socks.push(KernelVa::NULL);
        }
    }

    /// Adds a row for each socket that the first batch found.
    pub(super) fn make_rows(&mut self, snapshot: &mut Snapshot) {
        for (&address, &(file, _)) in self.socks.iter().zip(&self.files) {
            if address.is_plausible() {
                let row = snapshot.sockets.push(SocketRow::new(address, file));
                snapshot.files[file].socket = row;
            }
        }
        self.socks.clear();
        self.socks.extend(snapshot.sockets.iter().map(|row| row.address));
    }

    /// Lists the AF_UNIX sockets that the second batch found, if their layout is known.
    pub(super) fn list_unix(&mut self, layouts: &Layouts, snapshot: &Snapshot) {
        self.unix_rows.clear();
        self.unix.clear();
        if layouts.unix_sock.is_none() {
            return;
        }
        for (index, row) in snapshot.sockets.indexed() {
            if row.family() == AF_UNIX {
                self.unix_rows.push(index);
                self.unix.push(row.address);
            }
        }
    }
}

impl Snapshot {
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
}
