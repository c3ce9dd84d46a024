//! TCP sockets: from the hash tables, bucket by bucket, all chains at once.
//!
//! Network namespaces share hash tables. What is behind each socket is read in
//! [`super::tcp_socks`].

use core::mem;
use core::net::IpAddr;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::early_stop::EarlyStop;
use panoptes_decoders::kernel::inet_hashinfo::{
    EHASH_BUCKET_BYTES, EHASH_BUCKETS_MAX, LHASH2_BUCKETS_MAX,
};
use panoptes_decoders::kernel::sock::{AF_INET, AF_INET6, Endpoints, TcpState};
use panoptes_decoders::kernel::super_block::magic;
use panoptes_decoders::layout::{View, u64_at};

use super::budget::{BudgetMark, SOCKET_BYTES};
use super::losses::WalkedStructure;
use super::snapshot::{ConnectionRow, Index, InodeRow, row_at};
use super::tables::Snapshot;
use super::{Losses, ScannedMemory, WalkScratch, Walker, fetch};
use panoptes_tables::{AddressMap, Insertion, Rows, fair_share};

/// Maximum number of rounds that follow the chains of all buckets. The kernel's tables keep chains
/// at a few sockets; an attacker who floods one bucket makes its chain longer.
const CHAIN_MAX: u32 = 4096;
/// Maximum number of buckets in all tables together: four times the largest table. A namespace can
/// have its own table, and a guest can present one piece of memory as the tables of many
/// namespaces.
const BUCKETS_MAX: u64 = 4 * EHASH_BUCKETS_MAX as u64;
/// Number of chains that a scan begins whatever its budget is, and of sockets in each that it
/// follows. The kernel's own chains are shorter.
const CHAINS_MIN: usize = 1024;
const ROUNDS_MIN: u32 = 64;
/// Bytes of a bucket array that are read at once.
const SLICE_BYTES: u32 = 1 << 16;
const _: () = {
    assert!(ROUNDS_MIN <= CHAIN_MAX, "a small budget follows no longer chains than a large one");
    assert!(SLICE_BYTES.is_multiple_of(EHASH_BUCKET_BYTES), "a slice has whole buckets");
};

/// An array of buckets: `stride` is the size of a bucket and `offset` that of its pointer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Buckets {
    /// `struct inet_hashinfo *`
    pub(super) table: KernelVa,
    pub(super) array: KernelVa,
    pub(super) count: u32,
    pub(super) stride: u32,
    pub(super) offset: u32,
    /// Whether the array has more buckets.
    pub(super) is_cut: bool,
}

impl Buckets {
    /// Whether buckets have their pointers, and fit into a slice.
    pub(super) fn is_plausible(&self) -> bool {
        let is_whole = u64::from(self.offset) + 8 <= u64::from(self.stride);
        !self.array.is_null() && is_whole && self.stride <= SLICE_BYTES
    }

    /// Bytes of the slice that begins with a bucket.
    fn slice_bytes(&self, from: u32) -> u32 {
        (self.count - from).min(SLICE_BYTES / self.stride) * self.stride
    }
}

impl Walker {
    /// Fills `connections`.
    pub(super) fn read_connections(&mut self, memory: &mut ScannedMemory<'_>) {
        self.snapshot.connections_version += 1;
        self.find_sockets(memory);
        self.read_sockets(memory);
        self.read_more_nets(memory);
        self.snapshot.sort_connections(&mut self.scratch.connection_order);
        self.adopt();
        self.link_files();
        self.snapshot.join_sockets(&mut self.visited);
        self.snapshot.join_terminals();
    }

    /// Adds a row for each socket of all tables.
    fn find_sockets(&mut self, memory: &mut ScannedMemory<'_>) {
        self.list_heads(memory);
        self.scratch.kept_sockets.begin(&self.scratch.addresses);
        let mark = memory.meter.mark(self.snapshot.count_rows(), 0, (3, 4));
        self.choose_chains(memory, &mark);
        self.follow_chains(memory, &mark);
        self.scratch.kept_sockets.end(self.visited.len(), &self.snapshot);
    }

    /// Lists the first socket of every chain of all tables.
    pub(super) fn list_heads(&mut self, memory: &mut ScannedMemory<'_>) {
        self.read_tables(memory);
        self.share_buckets();
        self.read_buckets(memory);
    }

    /// Lists the arrays of buckets of all tables, that of the initial namespace first.
    fn read_tables(&mut self, memory: &mut ScannedMemory<'_>) {
        let layouts = &memory.kernel.layouts;
        let layout = &layouts.inet_hashinfo;
        let WalkScratch { addresses: tables, buckets: list, .. } = &mut self.scratch;
        let (nets, losses) = (&self.snapshot.nets, &mut self.snapshot.losses);
        self.visited.clear();
        tables.clear();
        // Namespaces share one table, except those configured with their own.
        let all = nets.iter().map(|net| net.hashinfo).filter(|hashinfo| !hashinfo.is_null());
        tables.extend(all.filter(|at| self.visited.insert(at.0, 0) == Insertion::New));
        list.clear();
        fetch(&mut self.reader, memory, &layout.packing, tables, |index, bytes| {
            let Some(view) = bytes.map(View::new) else {
                losses.miss(WalkedStructure::SocketTable, tables[index]);
                return;
            };
            let mut count_of = |mask: u64, max: u32| {
                let is_cut = mask >= u64::from(max);
                if is_cut {
                    losses.cut(WalkedStructure::SocketTable, max as usize);
                }
                (mask.min(u64::from(max) - 1) as u32 + 1, is_cut)
            };
            let table = tables[index];
            let (count, is_cut) = count_of(view.unsigned(layout.ehash_mask), EHASH_BUCKETS_MAX);
            let array = view.pointer(layout.ehash);
            let ehash =
                Buckets { table, array, count, stride: EHASH_BUCKET_BYTES, offset: 0, is_cut };
            let listen = &layouts.inet_listen_hashbucket;
            let (stride, offset) = (listen.size, listen.first.offset);
            let (array, (count, is_cut)) = match (layout.listening_hash, layout.lhash2) {
                (Some(inside), _) => {
                    (table.plus(inside.offset.into()), (inside.size / stride.max(1), false))
                }
                (None, Some(lhash2)) => {
                    let mask = view.optional(layout.lhash2_mask).unwrap_or(0);
                    (view.pointer(lhash2), count_of(mask, LHASH2_BUCKETS_MAX))
                }
                (None, None) => (KernelVa::NULL, (0, false)),
            };
            for buckets in [ehash, Buckets { table, array, count, stride, offset, is_cut }] {
                let is_plausible = buckets.is_plausible();
                if is_plausible && list.len() < list.capacity() {
                    list.push(buckets);
                } else if is_plausible {
                    losses.cut(WalkedStructure::SocketBuckets, list.capacity());
                } else if buckets.count > 0 {
                    losses.miss(WalkedStructure::SocketBuckets, table);
                }
            }
        });
    }

    /// Cuts the largest tables if there are more buckets than a scan reads. The initial namespace's
    /// table, which is the first, is never cut.
    fn share_buckets(&mut self) {
        let Some((first, others)) = self.scratch.buckets.split_first_mut() else { return };
        let left = BUCKETS_MAX - u64::from(first.count).min(BUCKETS_MAX);
        let share = fair_share(left, || others.iter().map(|buckets| u64::from(buckets.count)));
        for buckets in others.iter_mut().filter(|buckets| u64::from(buckets.count) > share) {
            buckets.count = share as u32;
            buckets.is_cut = true;
            self.snapshot.losses.cut(WalkedStructure::SocketTable, share as usize);
        }
        self.mark_cut_nets();
    }

    /// Marks the namespaces whose tables are read in part. Nobody else's connections are affected.
    fn mark_cut_nets(&mut self) {
        self.visited.clear();
        for buckets in self.scratch.buckets.iter().filter(|buckets| buckets.is_cut) {
            self.visited.insert(buckets.table.0, 0);
        }
        if self.visited.is_empty() {
            return;
        }
        for net in self.snapshot.nets.iter_mut() {
            net.connections_cut = self.visited.get(net.hashinfo.0).is_some();
        }
    }

    /// Collects the first socket of every bucket, and the bucket's number over all tables.
    pub(super) fn read_buckets(&mut self, memory: &mut ScannedMemory<'_>) {
        let Self { reader, scratch, snapshot, .. } = self;
        let WalkScratch { addresses: socks, numbers, buckets: list, .. } = scratch;
        numbers.clear();
        let mut number = 0_u32;
        let link = u64::from(memory.kernel.layouts.sock_common.skc_node.offset);
        socks.clear();
        let after = |(at, bucket): (usize, u32)| match list.get(at) {
            Some(all) if bucket + all.slice_bytes(bucket) / all.stride < all.count => {
                (at, bucket + all.slice_bytes(bucket) / all.stride)
            }
            _ => (at + 1, 0),
        };
        let mut next = (0, 0);
        while next.0 < list.len() {
            let mut at = next;
            reader.clear();
            while let Some(all) = list.get(next.0) {
                let array = all.array.plus(u64::from(next.1) * u64::from(all.stride));
                let bytes = all.slice_bytes(next.1);
                if reader.push_bytes(&memory.kernel.space, array, bytes).is_none() {
                    break;
                }
                next = after(next);
            }
            if reader.is_empty() {
                // A slice always fits an empty batch.
                return;
            }
            memory.run(reader);
            if memory.is_stopped() {
                return;
            }
            for object in 0..reader.len() {
                let Some(all) = list.get(at.0) else { return };
                let slice = number;
                let array = all.array.plus(u64::from(at.1) * u64::from(all.stride));
                number = number.saturating_add(all.slice_bytes(at.1) / all.stride);
                at = after(at);
                let Some(bytes) = reader.object(object) else {
                    snapshot.losses.miss(WalkedStructure::SocketTable, array);
                    continue;
                };
                let buckets = bytes.chunks_exact(all.stride as usize);
                for (bucket_number, bucket) in (slice..).zip(buckets) {
                    let first = u64_at(bucket, all.offset as usize);
                    // The lowest bit marks the end of a list (`is_a_nulls`).
                    if first & 1 != 0 || first == 0 {
                        continue;
                    }
                    if socks.len() < socks.capacity() {
                        numbers.push(bucket_number);
                        socks.push(KernelVa(first).minus(link));
                    } else {
                        snapshot.losses.cut(WalkedStructure::SocketChain, socks.capacity());
                        snapshot.connections_cut += 1;
                    }
                }
            }
        }
    }

    /// Leaves the chains for which the budget does not suffice to the next scan, which begins with
    /// them.
    fn choose_chains(&mut self, memory: &ScannedMemory<'_>, mark: &BudgetMark) {
        let WalkScratch { addresses: socks, numbers, .. } = &mut self.scratch;
        let snapshot = &mut self.snapshot;
        let resume = &mut self.hints.resume;
        snapshot.chains_round = resume.chains_round;
        let room = memory.meter.room(mark, snapshot.count_rows(), 0, SOCKET_BYTES).max(CHAINS_MIN);
        if socks.len() <= room {
            resume.bucket = 0;
            resume.chains_round = resume.chains_round.wrapping_add(1);
            return;
        }
        let begin = numbers.partition_point(|&number| number < resume.bucket);
        let is_round = begin + room >= socks.len();
        resume.chains_round = resume.chains_round.wrapping_add(u32::from(is_round));
        socks.rotate_left(begin);
        numbers.rotate_left(begin);
        resume.bucket = numbers.get(room).copied().unwrap_or_default();
        snapshot.left.chains += (socks.len() - room) as u32;
        snapshot.chains_in_turn = true;
        socks.truncate(room);
    }

    /// Reads sockets and, round after round, the next one in each chain.
    fn follow_chains(&mut self, memory: &mut ScannedMemory<'_>, mark: &BudgetMark) {
        let layout = &memory.kernel.layouts.sock_common;
        let link = u64::from(layout.skc_node.offset);
        let WalkScratch { addresses: socks, more: next, .. } = &mut self.scratch;
        self.visited.clear();
        let mut unbounded = None;
        let mut others = self.snapshot.connections.capacity();
        for round in 1..=CHAIN_MAX {
            if socks.is_empty() {
                break;
            }
            next.clear();
            let (rows, sockets) =
                (self.snapshot.count_rows(), self.snapshot.connections.len() as u64);
            let is_spent = round >= ROUNDS_MIN && memory.meter.is_beyond(mark, rows, sockets);
            let (snapshot, visited) = (&mut self.snapshot, &mut self.visited);
            fetch(&mut self.reader, memory, &layout.packing, socks, |index, bytes| {
                let address = socks[index];
                let Some(bytes) = bytes else {
                    snapshot.losses.miss(WalkedStructure::Socket, address);
                    return;
                };
                let full = WalkedStructure::VisitedSockets;
                let visit = visit_socket(visited, (&mut snapshot.losses, full), address);
                if visit != Insertion::New {
                    return;
                }
                let endpoints = Endpoints::decode(layout, bytes);
                let net = row_at(&mut snapshot.nets, endpoints.net);
                if endpoints.next & 1 == 0 && endpoints.next != 0 {
                    if round < CHAIN_MAX && next.len() < next.capacity() && !is_spent {
                        next.push(KernelVa(endpoints.next).minus(link));
                    } else {
                        snapshot.left.chains += u32::from(is_spent);
                        if !is_spent {
                            // Chains of this length, or as many of them as have room.
                            let room = next.capacity() as u32;
                            unbounded = Some(if round < CHAIN_MAX { room } else { CHAIN_MAX });
                        }
                        match snapshot.nets.at_mut(net) {
                            Some(net) => net.connections_cut = true,
                            None => snapshot.connections_cut += 1,
                        }
                    }
                }
                if is_connection(&endpoints) {
                    let row = ConnectionRow {
                        address,
                        endpoints,
                        counters: None,
                        file: KernelVa::NULL,
                        inode: 0,
                        route_device: 0,
                        net,
                    };
                    push_connection(&mut snapshot.connections, row, &mut others);
                }
            });
            mem::swap(socks, next);
        }
        if let Some(limit) = unbounded {
            let stop = EarlyStop::TooLong { limit };
            self.snapshot.losses.stop(WalkedStructure::SocketChain, stop);
        }
    }

    /// Reads the namespaces without processes, which only sockets lead to, and sets the namespace
    /// of every socket that a descriptor leads to.
    fn read_more_nets(&mut self, memory: &mut ScannedMemory<'_>) {
        let unread = self.snapshot.nets.iter().position(|net| net.inum == 0);
        if let Some(unread) = unread {
            self.read_nets(memory, unread);
        }
        let snapshot = &mut self.snapshot;
        for row in snapshot.sockets.iter_mut() {
            row.net = row.endpoints.and_then(|endpoints| snapshot.nets.find(endpoints.net.0));
        }
    }

    /// Gives each socket without its own file the file of the socket with the same inode number.
    fn adopt(&mut self) {
        let snapshot = &mut self.snapshot;
        if !snapshot.connections.iter().any(|row| row.inode != 0) {
            return;
        }
        let by_number = &mut self.visited;
        by_number.clear();
        for (index, file) in snapshot.files.indexed() {
            let Some(inode) = snapshot.inodes.at(file.inode) else { continue };
            if is_sockfs(snapshot, inode) {
                by_number.insert(inode.attributes.ino, index.number());
            }
        }
        for row in snapshot.connections.iter_mut().filter(|row| row.inode != 0) {
            let file = by_number.get(row.inode).and_then(Index::from_number);
            let file = snapshot.files.at(file);
            row.file = file.map_or(KernelVa::NULL, |file| file.address);
        }
    }

    /// Sets `connection` in every open file of a connection's socket, except those that were left.
    fn link_files(&mut self) {
        let snapshot = &mut self.snapshot;
        let has_all = snapshot.left.files == 0;
        for (index, row) in snapshot.connections.indexed() {
            if row.file.is_null() {
                continue;
            }
            let file = snapshot.files.find(row.file.0);
            let file = snapshot.files.at_mut(file);
            if let Some(file) = file.filter(|file| has_all || !file.open.inode.is_null()) {
                file.connection = Some(index);
            }
        }
    }
}

impl Snapshot {
    /// Sorts connections by 4-tuple, by network namespace and by address. `order` has room for all.
    pub fn sort_connections(&mut self, order: &mut Vec<SortKey>) {
        let Self { connections, nets, .. } = self;
        let rows = connections.as_mut_slice();
        let rest = |row: &ConnectionRow| {
            let net = nets.at(row.net).map_or(0, |net| net.inum);
            (net, row.address)
        };
        order.clear();
        order.extend((0..).zip(&*rows).map(|(at, row)| (start_of_tuple(row), at)));
        order.sort_unstable_by(|one, next| {
            one.0.cmp(&next.0).then_with(|| {
                // Few connections have the same 4-tuple.
                let (one, next) = (&rows[one.1 as usize], &rows[next.1 as usize]);
                one.tuple().cmp(&next.tuple()).then_with(|| rest(one).cmp(&rest(next)))
            })
        });
        // Moves the rows, which are large, to their places along the cycles of the permutation.
        for first in 0..rows.len() {
            let mut place = first;
            loop {
                let from = mem::replace(&mut order[place].1, place as u32) as usize;
                if from == first || from == place {
                    break;
                }
                rows.swap(place, from);
                place = from;
            }
        }
    }
}

/// The first bits of a connection's 4-tuple, and the position of its row.
pub(super) type SortKey = (u128, u32);

/// The first 128 bits of a 4-tuple, which sort as 4-tuples do: all of one with IPv4 addresses.
fn start_of_tuple(row: &ConnectionRow) -> u128 {
    let (source, source_port, destination, destination_port) = row.tuple();
    let end = |address: &IpAddr, port: u16| match address {
        IpAddr::V4(address) => u64::from(address.to_bits()) << 16 | u64::from(port),
        IpAddr::V6(address) => 1 << 48 | (address.to_bits() >> 80) as u64,
    };
    match source {
        IpAddr::V4(_) => {
            let destination = end(destination, destination_port);
            u128::from(end(source, source_port)) << 49 | u128::from(destination)
        }
        IpAddr::V6(address) => 1 << 127 | address.to_bits() >> 1,
    }
}

/// Whether an inode is on the filesystem of sockets.
pub(super) fn is_sockfs(snapshot: &Snapshot, inode: &InodeRow) -> bool {
    let filesystem = snapshot.super_blocks.at(inode.super_block);
    filesystem.is_some_and(|row| row.filesystem.magic == magic::SOCKFS)
}

/// Marks a socket of a chain as visited. Notes the reason if it was visited before, or, as one of
/// the structure `full`, if there is no room.
pub(super) fn visit_socket(
    visited: &mut AddressMap,
    (losses, full): (&mut Losses, WalkedStructure),
    address: KernelVa,
) -> Insertion {
    let visit = visited.insert(address.0, 0);
    match visit {
        Insertion::New => {}
        Insertion::Old(_) => {
            losses.stop(WalkedStructure::SocketRepetition, EarlyStop::Loop { address });
        }
        Insertion::Full => losses.cut(full, visited.len()),
    }
    visit
}

/// Whether a socket of a chain is a TCP connection, or listens. One that is closed or has no port
/// is in no table: it left the table during this scan. The kernel takes its port before it notes
/// that it is closed (`tcp_set_state`, net/ipv4/tcp.c).
fn is_connection(endpoints: &Endpoints) -> bool {
    matches!(endpoints.family, AF_INET | AF_INET6)
        && endpoints.source_port != 0
        && !matches!(TcpState::from_number(endpoints.state), None | Some(TcpState::Closed))
}

/// Adds a connection. If there is no room, it takes that of one that waits (TIME_WAIT), or that is
/// not established yet (SYN_RECEIVED), whose holders nobody can be: floods of these leave room for
/// others. Those after row `others` have been replaced.
fn push_connection(connections: &mut Rows<ConnectionRow>, new: ConnectionRow, others: &mut usize) {
    let makes_room = |row: &ConnectionRow| {
        let state = TcpState::from_number(row.endpoints.state);
        matches!(state, Some(TcpState::TimeWait | TcpState::SynReceived))
    };
    if connections.len() < connections.capacity() || makes_room(&new) {
        connections.push(new);
        return;
    }
    let rows = &mut connections.as_mut_slice()[..*others];
    let place = rows.iter().rposition(makes_room);
    *others = place.unwrap_or(0);
    if let Some(place) = place {
        rows[place] = new;
    }
    connections.dropped = connections.dropped.saturating_add(1);
}

#[cfg(test)]
mod tests;
