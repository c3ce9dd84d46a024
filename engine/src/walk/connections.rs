//! TCP sockets: from the hash tables, bucket by bucket, all chains at once; then the counters and
//! the open file of each full socket.
//!
//! Network namespaces share hash tables.

use core::mem;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::inet_hashinfo::{
    EHASH_BUCKET_BYTES, EHASH_BUCKETS_MAX, LHASH2_BUCKETS_MAX,
};
use panoptes_decoders::kernel::sock::{
    AF_INET, AF_INET6, Counters, Endpoints, IPPROTO_TCP, SOCK_STREAM, TcpState,
};
use panoptes_decoders::kernel::super_block::magic;
use panoptes_decoders::layout::{View, u64_at};
use panoptes_decoders::source::MemorySource;

use super::ends::{Ends, Packings};
use super::snapshot::{ConnectionRow, NetRow};
use super::{Kernel, NONE, Walker, fetch, fetch_groups, row_of};
use panoptes_tables::{AddressMap, Insertion};

/// Maximum number of entries followed in a bucket's chain. The kernel's tables keep chains at a
/// few; an attacker who floods one bucket makes its chain longer.
const CHAIN_MAX: u32 = 4096;
/// Maximum number of buckets in all tables together: four times the largest table. A namespace can
/// have its own table, and a guest can present one piece of memory as the tables of many
/// namespaces.
const BUCKETS_MAX: u32 = 4 * EHASH_BUCKETS_MAX;
/// Replaces a route index where the socket now belongs to another connection.
const TORN: u32 = NONE - 1;
/// Bytes of a bucket array that are read at once.
const SLICE_BYTES: u32 = 1 << 16;

impl Walker {
    /// Fills `connections`.
    pub(super) fn read_connections<S: MemorySource>(&mut self, source: &mut S, kernel: &Kernel) {
        let mut socks = mem::take(&mut self.scratch.addresses);
        self.maps.visited.clear();
        let mut buckets_left = BUCKETS_MAX;
        for index in 0..self.snapshot.nets.len() {
            let hashinfo = self.snapshot.nets[index].hashinfo;
            // Namespaces share one table, except those configured with their own.
            let shared = self.snapshot.nets[..index].iter().any(|net| net.hashinfo == hashinfo);
            if !shared && !hashinfo.is_null() {
                self.read_table(source, kernel, hashinfo, &mut buckets_left, &mut socks);
            }
        }
        self.scratch.addresses = socks;
        self.read_sockets(source, kernel);
        self.name_namespaces(source, kernel);
        self.snapshot.connections.sort_unstable_by_key(|row| {
            let ends = &row.endpoints;
            (ends.source, ends.source_port, ends.destination, ends.destination_port, row.address)
        });
        self.adopt();
        self.link_files();
        Ends::join(&mut self.snapshot, &mut self.maps.visited);
    }

    /// Reads all sockets of one table.
    fn read_table<S: MemorySource>(
        &mut self,
        source: &mut S,
        kernel: &Kernel,
        hashinfo: KernelVa,
        buckets_left: &mut u32,
        socks: &mut Vec<KernelVa>,
    ) {
        let layouts = &kernel.layouts;
        self.reader.clear();
        self.reader.push(&kernel.space, hashinfo, &layouts.inet_hashinfo.packing);
        self.reader.run(source, kernel.space.levels);
        let Some(view) = self.reader.object(0).map(View::new) else {
            self.snapshot.losses.unreadable += 1;
            return;
        };
        let buckets = |mask: u64, max: u32| (mask as u32).min(max - 1) + 1;
        let layout = &layouts.inet_hashinfo;
        let ehash = view.pointer(layout.ehash);
        let ehash_count = buckets(view.unsigned(layout.ehash_mask), EHASH_BUCKETS_MAX);
        let listen = &layouts.inet_listen_hashbucket;
        let (listeners, listeners_count) = match (layout.listening_hash, layout.lhash2) {
            (Some(inside), _) => {
                let count = inside.size / listen.size.max(1);
                (hashinfo.plus(u64::from(inside.offset)), count)
            }
            (None, Some(lhash2)) => {
                let mask = view.optional(layout.lhash2_mask).unwrap_or(0);
                (view.pointer(lhash2), buckets(mask, LHASH2_BUCKETS_MAX))
            }
            (None, None) => (KernelVa::NULL, 0),
        };
        let Some(left) = buckets_left.checked_sub(ehash_count + listeners_count) else {
            self.snapshot.losses.dropped += 1;
            return;
        };
        *buckets_left = left;
        socks.clear();
        self.read_buckets(source, kernel, (ehash, ehash_count), (EHASH_BUCKET_BYTES, 0), socks);
        self.read_buckets(
            source,
            kernel,
            (listeners, listeners_count),
            (listen.size, listen.first.offset),
            socks,
        );
        self.follow_chains(source, kernel, socks);
    }

    /// Collects the first socket of every bucket. `(array, count)` is the array of buckets;
    /// `stride` is the size of a bucket and `offset` that of its pointer.
    fn read_buckets<S: MemorySource>(
        &mut self,
        source: &mut S,
        kernel: &Kernel,
        (array, count): (KernelVa, u32),
        (stride, offset): (u32, u32),
        socks: &mut Vec<KernelVa>,
    ) {
        if array.is_null() || u64::from(offset) + 8 > u64::from(stride) || stride > SLICE_BYTES {
            return;
        }
        let link = u64::from(kernel.layouts.sock_common.skc_node.offset);
        let bytes = u64::from(count) * u64::from(stride);
        let slice = u64::from(SLICE_BYTES / stride * stride);
        let mut at = 0;
        while at < bytes {
            self.reader.clear();
            while at < bytes {
                let length = slice.min(bytes - at) as u32;
                if self.reader.push_bytes(&kernel.space, array.plus(at), length).is_none() {
                    break;
                }
                at += u64::from(length);
            }
            if self.reader.is_empty() {
                return;
            }
            self.reader.run(source, kernel.space.levels);
            for object in 0..self.reader.len() {
                let Some(bytes) = self.reader.object(object) else {
                    self.snapshot.losses.unreadable += 1;
                    continue;
                };
                for bucket in bytes.chunks_exact(stride as usize) {
                    let first = u64_at(bucket, offset as usize);
                    // The lowest bit marks the end of a list (`is_a_nulls`).
                    if first & 1 == 0 && first != 0 && socks.len() < socks.capacity() {
                        socks.push(KernelVa(first).minus(link));
                    }
                }
            }
        }
    }

    /// Reads sockets and, round after round, the next one in each chain.
    fn follow_chains<S: MemorySource>(
        &mut self,
        source: &mut S,
        kernel: &Kernel,
        socks: &mut Vec<KernelVa>,
    ) {
        let layout = &kernel.layouts.sock_common;
        let link = u64::from(layout.skc_node.offset);
        let next = &mut self.scratch.more;
        for _ in 0..CHAIN_MAX {
            if socks.is_empty() {
                return;
            }
            next.clear();
            let (connections, visited) = (&mut self.snapshot.connections, &mut self.maps.visited);
            let losses = &mut self.snapshot.losses;
            let (nets, net_map) = (&mut self.snapshot.nets, &mut self.maps.nets);
            fetch(&mut self.reader, source, kernel, &layout.packing, socks, |index, bytes| {
                let address = socks[index];
                let Some(bytes) = bytes else {
                    losses.unreadable += 1;
                    return;
                };
                if visited.insert(address.0, 0) != Insertion::New {
                    return;
                }
                let endpoints = Endpoints::decode(layout, bytes);
                if endpoints.next & 1 == 0 && endpoints.next != 0 && next.len() < next.capacity() {
                    next.push(KernelVa(endpoints.next).minus(link));
                }
                let is_tcp = matches!(endpoints.family, AF_INET | AF_INET6)
                    // A closed socket is in no table: it left the table during this scan.
                    && !matches!(
                        TcpState::from_number(endpoints.state),
                        None | Some(TcpState::Closed)
                    );
                if is_tcp {
                    // The row index for now; `name_namespaces` replaces it with the number.
                    let net = endpoints.net;
                    let network_namespace = row_of(net_map, nets, net, || NetRow::new(net));
                    let file = KernelVa::NULL;
                    connections.push(ConnectionRow {
                        address,
                        endpoints,
                        counters: None,
                        file,
                        inode: 0,
                        route_device: 0,
                        network_namespace,
                    });
                }
            });
            mem::swap(socks, next);
        }
        self.snapshot.losses.unbounded += 1;
    }

    /// Sets the namespace number of every socket. A namespace without processes is read only now.
    fn name_namespaces<S: MemorySource>(&mut self, source: &mut S, kernel: &Kernel) {
        let unread = self.snapshot.nets.iter().position(|net| net.inum == 0);
        if let Some(unread) = unread {
            self.read_nets_from(source, kernel, unread);
        }
        let snapshot = &mut self.snapshot;
        for row in snapshot.connections.iter_mut() {
            row.network_namespace =
                snapshot.nets.at(row.network_namespace).map_or(0, |net| net.inum);
        }
        for row in snapshot.sockets.iter_mut() {
            let net = row.endpoints.and_then(|endpoints| self.maps.nets.get(endpoints.net.0));
            row.network_namespace =
                net.and_then(|net| snapshot.nets.at(net)).map_or(0, |net| net.inum);
        }
    }

    /// Reads counters and holders of the sockets that are full `tcp_sock`s, and the state of those
    /// in TIME_WAIT.
    fn read_sockets<S: MemorySource>(&mut self, source: &mut S, kernel: &Kernel) {
        // Sockets in the first two states are no `tcp_sock`s, but `inet_timewait_sock`s and
        // `request_sock`s.
        const TCP_TIME_WAIT: u8 = 6;
        const TCP_NEW_SYN_RECV: u8 = 12;
        const TCP_FIN_WAIT2: u8 = 5;
        const TCP_LISTEN: u8 = 10;
        let layouts = &kernel.layouts;
        self.scratch.ends.list(layouts, &self.snapshot);
        let connections = &mut self.snapshot.connections;
        let (full, sockets) = (&mut self.scratch.addresses, &mut self.scratch.more);
        let rows = &mut self.scratch.owners;
        full.clear();
        rows.clear();
        for (index, row) in connections.iter().enumerate() {
            if !matches!(row.endpoints.state, TCP_TIME_WAIT | TCP_NEW_SYN_RECV) {
                full.push(row.address);
                rows.push(index as u32);
            }
        }
        let whole = full.len();
        let left = &mut self.scratch.extra;
        left.clear();
        for (index, row) in connections.iter().enumerate() {
            if row.endpoints.state == TCP_TIME_WAIT {
                left.push(row.address);
                rows.push(index as u32);
            }
        }
        sockets.clear();
        sockets.resize(whole, KernelVa::NULL);
        let routes = &mut self.scratch.results;
        routes.clear();
        routes.resize(whole, KernelVa::NULL);
        let losses = &mut self.snapshot.losses;
        let Ends {
            socket_files, sockets: held, socks, terminal_files, privates, terminals, ..
        } = &mut self.scratch.ends;
        let packings = Packings::of(layouts);
        fetch_groups(
            &mut self.reader,
            source,
            kernel,
            [
                (&layouts.tcp_sock.packing, full),
                (&layouts.sock.packing, full),
                (&layouts.inet_timewait_sock.packing, left),
                (&layouts.socket.packing, held),
                (&packings.private, privates),
            ],
            |group, index, bytes| {
                let Some(bytes) = bytes else {
                    losses.unreadable += 1;
                    if group == 1 {
                        connections[rows[index] as usize].counters = None;
                    }
                    return;
                };
                if group == 3 {
                    let view = View::new(bytes);
                    if view.pointer(layouts.socket.file) == socket_files[index].1 {
                        socks[index] = view.pointer(layouts.socket.sk);
                    }
                } else if group == 4 {
                    let Some(layout) = &layouts.tty_file_private else { return };
                    let view = View::new(bytes);
                    if view.pointer(layout.file) == terminal_files[index].1 {
                        terminals[index] = view.pointer(layout.tty);
                    }
                } else if group == 2 {
                    let view = View::new(bytes);
                    let state = view.unsigned(layouts.inet_timewait_sock.tw_substate) as u8;
                    if state == TCP_FIN_WAIT2 {
                        connections[rows[whole + index] as usize].endpoints.state = state;
                    }
                } else if group == 0 {
                    connections[rows[index] as usize].counters =
                        Some(Counters::decode(&layouts.tcp_sock, bytes));
                } else {
                    let view = View::new(bytes);
                    let is_tcp = view.unsigned(layouts.sock.sk_type) as u16 == SOCK_STREAM
                        && view.unsigned(layouts.sock.sk_protocol) as u16 == IPPROTO_TCP;
                    if is_tcp {
                        sockets[index] = view.pointer(layouts.sock.sk_socket);
                        // A route in a listening socket would be an old one: it sends nothing
                        // itself.
                        if connections[rows[index] as usize].endpoints.state != TCP_LISTEN {
                            routes[index] = view.pointer(layouts.sock.sk_dst_cache);
                        }
                    } else {
                        connections[rows[index] as usize].counters = None;
                    }
                }
            },
        );
        self.scratch.ends.make_rows(&mut self.snapshot, &mut self.maps.visited);
        self.read_holders_and_routes(source, kernel);
    }

    /// Reads the open files and devices behind the sockets in `scratch.more` and the routes in
    /// `scratch.results`.
    ///
    /// The connections are the rows in `scratch.owners`, in the same order. `scratch.addresses` has
    /// their sockets, whose 4-tuples are read again: the kernel may have reused the memory between
    /// reading the bucket and reading the counters.
    fn read_holders_and_routes<S: MemorySource>(&mut self, source: &mut S, kernel: &Kernel) {
        let layouts = &kernel.layouts;
        let connections = &mut self.snapshot.connections;
        let rows = &self.scratch.owners;
        // Connections share routes, so each route is read once.
        let (routes, route_of) = (&mut self.scratch.extra, &mut self.scratch.more_owners);
        distinct(&mut self.maps.visited, &self.scratch.results, routes, route_of);
        let devices = &mut self.scratch.results;
        devices.clear();
        devices.resize(routes.len(), KernelVa::NULL);
        let (full, sockets) = (&mut self.scratch.addresses, &self.scratch.more);
        // Indexes of the sockets without a file.
        let orphans = &mut self.scratch.orphans;
        orphans.clear();
        let packings = Packings::of(layouts);
        let (ends, held) = (&mut self.scratch.ends, &mut self.snapshot.sockets);
        let terminals = &mut self.snapshot.terminals;
        fetch_groups(
            &mut self.reader,
            source,
            kernel,
            [
                (&layouts.socket.packing, sockets),
                (&layouts.dst_entry.packing, routes),
                (&layouts.sock_common.packing, &ends.socks),
                (&layouts.sock.packing, &ends.socks),
                (&packings.terminal, &ends.terminals),
                (&layouts.sock_common.packing, full),
            ],
            |group, index, bytes| {
                if group == 5 {
                    let row = &mut connections[rows[index] as usize];
                    let after = bytes.map(|bytes| Endpoints::decode(&layouts.sock_common, bytes));
                    if !after.is_some_and(|after| is_still(&row.endpoints, &after)) {
                        row.counters = None;
                        row.file = KernelVa::NULL;
                        route_of[index] = TORN;
                    }
                    return;
                }
                let Some(bytes) = bytes else { return };
                let view = View::new(bytes);
                match group {
                    0 => {}
                    1 => devices[index] = view.pointer(layouts.dst_entry.dev),
                    2 => {
                        held[index].endpoints =
                            Some(Endpoints::decode(&layouts.sock_common, bytes));
                    }
                    3 => {
                        held[index].kind = view.unsigned(layouts.sock.sk_type) as u16;
                        held[index].protocol = view.unsigned(layouts.sock.sk_protocol) as u16;
                    }
                    _ => {
                        let Some(layout) = &layouts.tty_struct else { return };
                        terminals[index].link_address = view.pointer(layout.link);
                        terminals[index].number = view.unsigned(layout.index) as u32;
                    }
                }
                if group != 0 {
                    return;
                }
                let file = view.pointer(layouts.socket.file);
                connections[rows[index] as usize].file = file;
                if file.is_null() {
                    orphans.push(index as u32);
                }
            },
        );
        orphans.retain(|&index| route_of[index as usize] != TORN);
        let orphan_sockets = full;
        orphan_sockets.clear();
        orphan_sockets.extend(orphans.iter().map(|&index| sockets[index as usize]));
        ends.list_unix(layouts, held);
        let device_numbers = &mut self.scratch.numbers;
        device_numbers.clear();
        device_numbers.resize(devices.len(), 0);
        fetch_groups(
            &mut self.reader,
            source,
            kernel,
            [
                (&layouts.net_device_index.packing, devices),
                (&layouts.socket_alloc.packing, orphan_sockets),
                (&packings.unix, &ends.unix),
            ],
            |group, index, bytes| {
                let Some(view) = bytes.map(View::new) else { return };
                if group == 2 {
                    let Some(layout) = &layouts.unix_sock else { return };
                    held[ends.unix_rows[index] as usize].peer_address = view.pointer(layout.peer);
                } else if group == 0 {
                    let number = view.unsigned(layouts.net_device_index.ifindex);
                    device_numbers[index] = number as u32;
                } else {
                    let connection = &mut connections[rows[orphans[index] as usize] as usize];
                    connection.inode = view.unsigned(layouts.socket_alloc.ino);
                }
            },
        );
        for (&row, &route) in rows.iter().zip(route_of.iter()) {
            let number = device_numbers.get(route as usize).copied();
            connections[row as usize].route_device = number.unwrap_or(0);
        }
    }

    /// Gives each socket without its own file the file of the socket with the same inode number.
    fn adopt(&mut self) {
        let snapshot = &mut self.snapshot;
        if !snapshot.connections.iter().any(|row| row.inode != 0) {
            return;
        }
        let by_number = &mut self.maps.visited;
        by_number.clear();
        for (index, file) in snapshot.files.iter().enumerate() {
            let Some(inode) = snapshot.inodes.at(file.inode) else { continue };
            let magic = snapshot.super_blocks.at(inode.super_block).map(|row| row.filesystem.magic);
            if magic == Some(magic::SOCKFS) {
                by_number.insert(inode.attributes.ino, index as u32);
            }
        }
        for row in snapshot.connections.iter_mut().filter(|row| row.inode != 0) {
            let file = by_number.get(row.inode).and_then(|file| snapshot.files.at(file));
            row.file = file.map_or(KernelVa::NULL, |file| file.address);
        }
    }

    /// Sets `connection` in every open file of a connection's socket.
    fn link_files(&mut self) {
        for (index, row) in self.snapshot.connections.iter().enumerate() {
            if row.file.is_null() {
                continue;
            }
            let file = self.maps.files.get(row.file.0);
            if let Some(file) = file.and_then(|file| self.snapshot.files.get_mut(file as usize)) {
                file.connection = index as u32;
            }
        }
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

/// Fills `found` with each address once, and `places` with the index in `found` of each of
/// `addresses`; `NONE` for a null address.
fn distinct(
    seen: &mut AddressMap,
    addresses: &[KernelVa],
    found: &mut Vec<KernelVa>,
    places: &mut Vec<u32>,
) {
    seen.clear();
    found.clear();
    places.clear();
    for &address in addresses {
        let next = found.len() as u32;
        let place = if address.is_null() {
            NONE
        } else {
            match seen.insert(address.0, next) {
                Insertion::Old(place) => place,
                Insertion::New => {
                    found.push(address);
                    next
                }
                Insertion::Full => NONE,
            }
        };
        places.push(place);
    }
}

#[cfg(test)]
mod tests {
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
        let (mut found, mut places) = (Vec::new(), Vec::new());
        let (a, b) = (KernelVa(0xffff_8880_0000_1000), KernelVa(0xffff_8880_0000_2000));
        let none = KernelVa::NULL;
        let addresses = [none, a, none, b, a, none, b];
        distinct(&mut AddressMap::new(16, 0), &addresses, &mut found, &mut places);
        assert_eq!(found, [a, b]);
        assert_eq!(places, [NONE, 0, NONE, 1, 0, NONE, 1]);
    }
}
