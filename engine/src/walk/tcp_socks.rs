//! The sockets in the rows of TCP connections: their counters, routes and open files, and beside
//! them the sockets and terminals behind descriptors.
//!
//! Three batches read all of them. Not here: how the sockets are found ([`super::connections`]).

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::Layouts;
use panoptes_decoders::kernel::file::FMODE_PATH;
use panoptes_decoders::kernel::inode::mode;
use panoptes_decoders::kernel::sock::{Endpoints, IPPROTO_TCP, SOCK_STREAM, TcpCounters};
use panoptes_decoders::kernel::unix_sock::AF_UNIX;
use panoptes_decoders::layout::View;

use super::connections::is_sockfs;
use super::copied::MemoryCopyMode;
use super::losses::WalkedStructure;
use super::snapshot::{ConnectionRow, FileRow, Index, SocketRow};
use super::tables::Snapshot;
use super::terminals::may_be_terminal;
use super::{Kernel, Reads, ScannedMemory, WalkScratch, Walker, fetch_groups};
use panoptes_tables::{AddressMap, Insertion, room};

// Sockets in the first two states are no `tcp_sock`s, but `inet_timewait_sock`s and
// `request_sock`s (include/net/tcp_states.h).
const TCP_TIME_WAIT: u8 = 6;
const TCP_NEW_SYN_RECV: u8 = 12;
const TCP_FIN_WAIT2: u8 = 5;
const TCP_LISTEN: u8 = 10;

/// In place of the number of a route's device: a copy of memory lacks the route. The numbers of
/// devices are `int` (`struct net_device`, include/linux/netdevice.h).
pub const UNREAD_DEVICE: u32 = u32::MAX;

/// The route of a socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Route {
    None,
    /// Position in [`TcpSockLists::distinct`].
    At(usize),
    /// The socket now belongs to another connection.
    Torn,
}

/// Lists that the batches fill and read.
#[derive(Debug)]
pub(super) struct TcpSockLists {
    /// Sockets that are full `tcp_sock`s.
    full: Reads<ConnectionRow>,
    /// Sockets in TIME_WAIT.
    waiting: Reads<ConnectionRow>,
    /// `struct socket` of each full socket.
    sockets: Vec<KernelVa>,
    /// `struct dst_entry` of each full socket.
    routes: Vec<KernelVa>,
    route_of: Vec<Route>,
    /// The routes, each once.
    distinct: Vec<KernelVa>,
    /// `struct net_device` of each route in `distinct`, and its number.
    devices: Vec<KernelVa>,
    device_numbers: Vec<u32>,
    /// Positions of full sockets without a file.
    orphans: Vec<usize>,
    /// Their rows, and the `struct socket` of each.
    orphan_sockets: Reads<ConnectionRow>,
    /// Connections whose open file has the inode of another socket, and that `struct socket`.
    doubtful: Reads<ConnectionRow>,
    /// AF_UNIX sockets.
    unix: Reads<SocketRow>,
}

impl TcpSockLists {
    /// Allocates for all sockets of a snapshot.
    pub(super) fn new(snapshot: &Snapshot) -> Self {
        let capacity = snapshot.connections.capacity();
        Self {
            full: Reads::with_capacity(capacity),
            waiting: Reads::with_capacity(capacity),
            sockets: room::list(capacity),
            routes: room::list(capacity),
            route_of: room::list(capacity),
            distinct: room::list(capacity),
            devices: room::list(capacity),
            device_numbers: room::list(capacity),
            orphans: room::list(capacity),
            orphan_sockets: Reads::with_capacity(capacity),
            doubtful: Reads::with_capacity(capacity),
            unix: Reads::with_capacity(snapshot.sockets.capacity()),
        }
    }

    fn collect(&mut self, snapshot: &Snapshot) {
        self.full.clear();
        self.waiting.clear();
        self.doubtful.clear();
        for (index, row) in snapshot.connections.indexed() {
            match row.endpoints.state {
                TCP_TIME_WAIT => self.waiting.push(index, row.address),
                TCP_NEW_SYN_RECV => {}
                _ => self.full.push(index, row.address),
            }
        }
        self.sockets.clear();
        self.sockets.resize(self.full.rows.len(), KernelVa::NULL);
        self.routes.clear();
        self.routes.resize(self.full.rows.len(), KernelVa::NULL);
    }
}

impl ConnectionRow {
    /// Leaves out what its `struct sock` would show.
    pub(super) const fn lose_sock(&mut self, copied: MemoryCopyMode) {
        self.counters = None;
        if copied.is_copy() {
            self.route_device = UNREAD_DEVICE;
        }
    }
}

/// The objects of the first batch behind rows of sockets and terminals, in the order of its lists.
#[derive(Clone, Copy)]
enum StateObjectKind {
    TcpSock,
    Sock,
    TimeWait,
    Socket,
    TtyPrivate,
}

impl StateObjectKind {
    const fn structure(self) -> WalkedStructure {
        match self {
            Self::TcpSock | Self::Sock | Self::TimeWait | Self::Socket => WalkedStructure::Socket,
            Self::TtyPrivate => WalkedStructure::Terminal,
        }
    }
}

impl Walker {
    /// Reads counters, routes and holders of the sockets, in three batches.
    pub(super) fn read_sockets(&mut self, memory: &mut ScannedMemory<'_>) {
        self.list_sockets(memory.kernel);
        self.read_states(memory);
        self.snapshot.add_sockets(&mut self.scratch.sockets);
        self.snapshot.add_terminals(&mut self.scratch.terminals);
        self.read_holders(memory);
        self.read_devices_and_peers(memory);
        let lists = &self.scratch.connections;
        let is_copy = self.snapshot.copied.is_copy();
        for (&row, &route) in lists.full.rows.iter().zip(&lists.route_of) {
            let device = match route {
                Route::At(position) => lists.device_numbers.get(position).copied(),
                Route::None | Route::Torn => None,
            };
            let connection = &mut self.snapshot.connections[row];
            let is_lost = is_copy && device == Some(0);
            if is_lost {
                connection.route_device = UNREAD_DEVICE;
            } else if connection.route_device != UNREAD_DEVICE {
                connection.route_device = device.unwrap_or(0);
            }
        }
    }

    /// Lists the TCP sockets, and the open files of sockets and terminals.
    fn list_sockets(&mut self, kernel: &Kernel) {
        self.scratch.connections.collect(&self.snapshot);
        let (sockets, terminals) = (&mut self.scratch.sockets, &mut self.scratch.terminals);
        sockets.clear();
        terminals.clear();
        let layouts = &kernel.layouts;
        let with_terminals = layouts.tty_file_private.is_some() && layouts.tty_struct.is_some();
        let snapshot = &self.snapshot;
        for (index, file) in snapshot.files.indexed() {
            let Some(inode) = snapshot.inodes.at(file.inode) else { continue };
            // A file opened with `O_PATH` leads to nothing.
            let behind = file.open.private_data;
            if behind.is_null() || file.open.mode & FMODE_PATH != 0 {
                continue;
            }
            match inode.attributes.kind() {
                mode::S_IFSOCK if is_sockfs(snapshot, inode) => sockets.add(index, file, behind),
                mode::S_IFCHR if with_terminals && may_be_terminal(inode.attributes.rdev) => {
                    terminals.add(index, file, behind);
                }
                _ => {}
            }
        }
    }

    /// First batch: the counters of full sockets, the state of those in TIME_WAIT, and what is
    /// behind the open files of sockets and terminals.
    fn read_states(&mut self, memory: &mut ScannedMemory<'_>) {
        let layouts = &memory.kernel.layouts;
        let private = layouts.tty_file_private.map(|it| it.packing).unwrap_or_default();
        let snapshot = &mut self.snapshot;
        let WalkScratch { connections, sockets: held, terminals, torn_files: torn, .. } =
            &mut self.scratch;
        let TcpSockLists { full, waiting, sockets, routes, .. } = connections;
        let batch = [
            (StateObjectKind::TcpSock, &layouts.tcp_sock.packing, full.addresses.as_slice()),
            (StateObjectKind::Sock, &layouts.sock.packing, &full.addresses),
            (StateObjectKind::TimeWait, &layouts.inet_timewait_sock.packing, &waiting.addresses),
            (StateObjectKind::Socket, &layouts.socket.packing, &held.privates),
            (StateObjectKind::TtyPrivate, &private, &terminals.privates),
        ];
        let lists = batch.map(|(_, _, addresses)| addresses);
        fetch_groups(&mut self.reader, memory, batch, |kind, index, bytes| {
            let Some(bytes) = bytes else {
                snapshot.losses.miss(kind.structure(), lists[kind as usize][index]);
                if matches!(kind, StateObjectKind::Sock) {
                    snapshot.connections[full.rows[index]].lose_sock(snapshot.copied);
                }
                return;
            };
            let view = View::new(bytes);
            match kind {
                StateObjectKind::TcpSock => {
                    snapshot.connections[full.rows[index]].counters =
                        Some(TcpCounters::decode(&layouts.tcp_sock, bytes));
                }
                StateObjectKind::Sock => {
                    let connection = &mut snapshot.connections[full.rows[index]];
                    let is_tcp = view.unsigned(layouts.sock.sk_type) as u16 == SOCK_STREAM
                        && view.unsigned(layouts.sock.sk_protocol) as u16 == IPPROTO_TCP;
                    if !is_tcp {
                        return connection.counters = None;
                    }
                    sockets[index] = view.pointer(layouts.sock.sk_socket);
                    // A route in a listening socket would be an old one: it sends nothing itself.
                    if connection.endpoints.state != TCP_LISTEN {
                        routes[index] = view.pointer(layouts.sock.sk_dst_cache);
                    }
                }
                StateObjectKind::TimeWait => {
                    let state = view.unsigned(layouts.inet_timewait_sock.tw_substate) as u8;
                    if state == TCP_FIN_WAIT2 {
                        snapshot.connections[waiting.rows[index]].endpoints.state = state;
                    }
                }
                StateObjectKind::Socket
                    if view.pointer(layouts.socket.file) != held.files[index].1 =>
                {
                    note_torn(torn, held.files[index].0);
                }
                StateObjectKind::Socket => held.objects[index] = view.pointer(layouts.socket.sk),
                StateObjectKind::TtyPrivate => {
                    let Some(layout) = &layouts.tty_file_private else { return };
                    if view.pointer(layout.file) == terminals.files[index].1 {
                        terminals.objects[index] = view.pointer(layout.tty);
                    }
                }
            }
        });
    }

    /// Second batch: the open files and routes of the TCP sockets, the sockets and terminals behind
    /// other descriptors. The 4-tuples of the TCP sockets are read again: the kernel may have
    /// reused their memory between reading the bucket and reading the counters.
    fn read_holders(&mut self, memory: &mut ScannedMemory<'_>) {
        #[derive(Clone, Copy)]
        enum HolderObjectKind {
            Socket,
            Route,
            HeldEndpoints,
            HeldSock,
            Terminal,
            Endpoints,
        }
        let layouts = &memory.kernel.layouts;
        let terminal = layouts.tty_struct.map(|it| it.packing).unwrap_or_default();
        let (snapshot, lists) = (&mut self.snapshot, &mut self.scratch.connections);
        let TcpSockLists { full, sockets, routes, distinct, route_of, .. } = lists;
        let TcpSockLists { devices, orphans, doubtful, .. } = lists;
        // Connections share routes, so each route is read once.
        find_distinct(&mut self.visited, routes, distinct, route_of);
        orphans.clear();
        devices.clear();
        devices.resize(distinct.len(), KernelVa::NULL);
        // One for each row of their tables, in order.
        let (held, terminals) = (&self.scratch.sockets.objects, &self.scratch.terminals.objects);
        let batch = [
            (HolderObjectKind::Socket, &layouts.socket.packing, sockets.as_slice()),
            (HolderObjectKind::Route, &layouts.dst_entry.packing, distinct),
            (HolderObjectKind::HeldEndpoints, &layouts.sock_common.packing, held),
            (HolderObjectKind::HeldSock, &layouts.sock.packing, held),
            (HolderObjectKind::Terminal, &terminal, terminals),
            (HolderObjectKind::Endpoints, &layouts.sock_common.packing, &full.addresses),
        ];
        fetch_groups(&mut self.reader, memory, batch, |kind, index, bytes| {
            if matches!(kind, HolderObjectKind::Endpoints) {
                let after = bytes.map(|bytes| Endpoints::decode(&layouts.sock_common, bytes));
                if !snapshot.connections[full.rows[index]].check(after) {
                    route_of[index] = Route::Torn;
                }
                return;
            }
            let Some(bytes) = bytes else { return };
            let view = View::new(bytes);
            match kind {
                HolderObjectKind::Socket => {
                    let (row, file) = (full.rows[index], view.pointer(layouts.socket.file));
                    orphans.extend(file.is_null().then_some(index));
                    snapshot.connections[row].file = file;
                    if let Some(other) = other_socket(snapshot, layouts, (file, sockets[index])) {
                        doubtful.push(row, other);
                    }
                }
                HolderObjectKind::Route => devices[index] = view.pointer(layouts.dst_entry.dev),
                HolderObjectKind::HeldEndpoints => {
                    let Some(socket) = snapshot.sockets.get_mut(index) else { return };
                    socket.endpoints = Some(Endpoints::decode(&layouts.sock_common, bytes));
                }
                HolderObjectKind::HeldSock => {
                    let Some(socket) = snapshot.sockets.get_mut(index) else { return };
                    socket.kind = view.unsigned(layouts.sock.sk_type) as u16;
                    socket.protocol = view.unsigned(layouts.sock.sk_protocol) as u16;
                }
                HolderObjectKind::Terminal => {
                    let row = snapshot.terminals.get_mut(index).zip(layouts.tty_struct.as_ref());
                    let Some((terminal, layout)) = row else { return };
                    terminal.link_address = view.pointer(layout.link);
                    terminal.number = view.unsigned(layout.index) as u32;
                }
                HolderObjectKind::Endpoints => {}
            }
        });
        orphans.retain(|&index| route_of[index] != Route::Torn);
    }

    /// Third batch: the devices of routes, the inodes of sockets without a file, and the peers of
    /// AF_UNIX sockets.
    fn read_devices_and_peers(&mut self, memory: &mut ScannedMemory<'_>) {
        #[derive(Clone, Copy)]
        enum PeerObjectKind {
            Device,
            Orphan,
            Doubtful,
            Unix,
        }
        let layouts = &memory.kernel.layouts;
        let unix_packing = layouts.unix_sock.map(|it| it.packing).unwrap_or_default();
        let snapshot = &mut self.snapshot;
        let TcpSockLists {
            full,
            sockets,
            orphans,
            orphan_sockets,
            doubtful,
            devices,
            device_numbers,
            unix,
            ..
        } = &mut self.scratch.connections;
        orphan_sockets.clear();
        for &index in &*orphans {
            orphan_sockets.push(full.rows[index], sockets[index]);
        }
        unix.clear();
        if layouts.unix_sock.is_some() {
            for (index, row) in snapshot.sockets.indexed() {
                if row.family() == AF_UNIX {
                    unix.push(index, row.address);
                }
            }
        }
        device_numbers.clear();
        device_numbers.resize(devices.len(), 0);
        let batch = [
            (PeerObjectKind::Device, &layouts.net_device_index.packing, devices.as_slice()),
            (PeerObjectKind::Orphan, &layouts.socket_alloc.packing, &orphan_sockets.addresses),
            (PeerObjectKind::Doubtful, &layouts.socket.packing, &doubtful.addresses),
            (PeerObjectKind::Unix, &unix_packing, &unix.addresses),
        ];
        fetch_groups(&mut self.reader, memory, batch, |kind, index, bytes| {
            match (kind, bytes.map(View::new)) {
                (PeerObjectKind::Doubtful, view) => {
                    let file = view.map(|view| view.pointer(layouts.socket.file));
                    let connection = &mut snapshot.connections[doubtful.rows[index]];
                    if file != Some(connection.file) {
                        connection.file = KernelVa::NULL;
                    }
                }
                (_, None) => {}
                (PeerObjectKind::Device, Some(view)) => {
                    let number = view.unsigned(layouts.net_device_index.ifindex);
                    device_numbers[index] = number as u32;
                }
                (PeerObjectKind::Orphan, Some(view)) => {
                    let connection = &mut snapshot.connections[orphan_sockets.rows[index]];
                    connection.inode = view.unsigned(layouts.socket_alloc.ino);
                }
                (PeerObjectKind::Unix, Some(view)) => {
                    let Some(layout) = &layouts.unix_sock else { return };
                    snapshot.sockets[unix.rows[index]].peer_address = view.pointer(layout.peer);
                }
            }
        });
    }
}

/// What the scan's row of an open file leads to instead of the socket that has that file: the
/// `struct socket` around its inode, or null if it is no row of a socket. `None` if it leads to the
/// socket, or was not read.
///
/// A file that was closed and one that was opened since can have the same descriptor and address.
/// The row may then be of the first, or a mixture. A socket and its inode are one `socket_alloc`.
/// One exception lasts: a socket of SMC that fell back to TCP has its inode, and the file's
/// `private_data` is the TCP socket inside (`smc_switch_to_fallback`, net/smc/af_smc.c).
fn other_socket(
    snapshot: &Snapshot,
    layouts: &Layouts,
    (file, socket): (KernelVa, KernelVa),
) -> Option<KernelVa> {
    let row = snapshot.files.at(snapshot.files.find(file.0));
    let open = row.map(|row| row.open).filter(|open| !open.inode.is_null())?;
    if open.private_data != socket {
        return Some(KernelVa::NULL);
    }
    let inode = layouts.socket_alloc.ino.offset.wrapping_sub(layouts.inode.i_ino.offset);
    let other = open.inode.minus(inode.into());
    (other != socket).then_some(other)
}

/// Notes that a socket has another open file than the one that it was listed for. What was read of
/// that is torn.
fn note_torn(torn: &mut Vec<Index<FileRow>>, file: Index<FileRow>) {
    if torn.len() < torn.capacity() {
        torn.push(file);
    }
}

impl ConnectionRow {
    /// Whether its socket still belongs to it; if not, drops what was read through the socket.
    fn check(&mut self, after: Option<Endpoints>) -> bool {
        let is_it = after.is_some_and(|after| is_still(&self.endpoints, &after));
        if !is_it {
            self.counters = None;
            self.file = KernelVa::NULL;
        }
        is_it
    }
}

/// Whether a socket still belongs to the same connection. A socket that was closed meanwhile does:
/// until its memory is reused it keeps its counters, though not its port
/// (net/ipv4/inet_hashtables.c, `inet_put_port`).
fn is_still(before: &Endpoints, after: &Endpoints) -> bool {
    after.family == before.family
        && after.destination == before.destination
        && after.destination_port == before.destination_port
        && after.source == before.source
        && (after.source_port == before.source_port || after.source_port == 0)
}

/// Fills `found` with each address once, and `routes` with the position in `found` of each of
/// `addresses`.
fn find_distinct(
    seen: &mut AddressMap,
    addresses: &[KernelVa],
    found: &mut Vec<KernelVa>,
    routes: &mut Vec<Route>,
) {
    seen.clear();
    found.clear();
    routes.clear();
    for &address in addresses {
        let next = found.len();
        let route = if address.is_null() {
            Route::None
        } else {
            match seen.insert(address.0, next as u32) {
                Insertion::Old(position) => Route::At(position as usize),
                Insertion::New => {
                    found.push(address);
                    Route::At(next)
                }
                Insertion::Full => Route::None,
            }
        };
        routes.push(route);
    }
}

#[cfg(test)]
mod tests {
    use panoptes_decoders::kernel::sock::AF_INET;

    use super::*;

    #[test]
    fn a_socket_that_was_given_away_is_another_connections() {
        let before = Endpoints {
            family: AF_INET,
            state: 1,
            source: [10, 0, 0, 1].into(),
            source_port: 443,
            destination: [10, 0, 0, 2].into(),
            destination_port: 50_000,
            bound_device: 0,
            net: KernelVa::NULL,
            prot: KernelVa::NULL,
            next: 1,
        };
        assert!(is_still(&before, &Endpoints { state: 7, next: 3, ..before }));
        assert!(is_still(&before, &Endpoints { state: 7, source_port: 0, ..before }));
        assert!(!is_still(&before, &Endpoints { destination_port: 50_001, ..before }));
        assert!(!is_still(&before, &Endpoints { source_port: 80, ..before }));
        let free = Endpoints {
            family: 0,
            source: [0; 4].into(),
            source_port: 0,
            destination: [0; 4].into(),
            destination_port: 0,
            ..before
        };
        assert!(!is_still(&before, &free));
    }

    #[test]
    fn sockets_without_a_route_do_not_get_that_of_another() {
        let (mut found, mut routes) = (Vec::new(), Vec::new());
        let (a, b) = (KernelVa(0xffff_8880_0000_1000), KernelVa(0xffff_8880_0000_2000));
        let none = KernelVa::NULL;
        let addresses = [none, a, none, b, a, none, b];
        find_distinct(
            &mut AddressMap::new(16, panoptes_tables::HashKey::new(0)),
            &addresses,
            &mut found,
            &mut routes,
        );
        assert_eq!(found, [a, b]);
        let [none, a, b] = [Route::None, Route::At(0), Route::At(1)];
        assert_eq!(routes, [none, a, none, b, a, none, b]);
    }
}
