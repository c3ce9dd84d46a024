//! TCP sockets: from the hash tables, bucket by bucket, all chains at once.
//!
//! Network namespaces share hash tables. What is behind each socket is read in
//! [`super::tcp_socks`].

use core::mem;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::inet_hashinfo::{
    EHASH_BUCKET_BYTES, EHASH_BUCKETS_MAX, LHASH2_BUCKETS_MAX,
};
use panoptes_decoders::kernel::sock::{AF_INET, AF_INET6, Endpoints, TcpState};
use panoptes_decoders::kernel::super_block::magic;
use panoptes_decoders::layout::u64_at;

use super::snapshot::{ConnectionRow, Index, InodeRow, NetRow, row_at};
use super::tables::Snapshot;
use super::{Memory, Scratch, Walker, fetch};
use panoptes_tables::Insertion;

/// Maximum number of entries followed in a bucket's chain. The kernel's tables keep chains at a
/// few; an attacker who floods one bucket makes its chain longer.
const CHAIN_MAX: u32 = 4096;
/// Maximum number of buckets in all tables together: four times the largest table. A namespace can
/// have its own table, and a guest can present one piece of memory as the tables of many
/// namespaces.
const BUCKETS_MAX: u32 = 4 * EHASH_BUCKETS_MAX;
/// Bytes of a bucket array that are read at once.
const SLICE_BYTES: u32 = 1 << 16;

impl Walker {
    /// Fills `connections`.
    pub(super) fn read_connections(&mut self, memory: &mut Memory<'_>) {
        self.visited.clear();
        let mut buckets_left = BUCKETS_MAX;
        for index in 0..self.snapshot.nets.len() {
            let (before, rest) = self.snapshot.nets.split_at(index);
            let Some(&NetRow { hashinfo, .. }) = rest.first() else { break };
            // Namespaces share one table, except those configured with their own.
            let shared = before.iter().any(|net| net.hashinfo == hashinfo);
            if !shared && !hashinfo.is_null() {
                self.read_table(memory, hashinfo, &mut buckets_left);
            }
        }
        self.read_sockets(memory);
        self.read_more_nets(memory);
        self.snapshot.connections.sort_unstable_by_key(|row| {
            let ends = &row.endpoints;
            (ends.source, ends.source_port, ends.destination, ends.destination_port, row.address)
        });
        self.adopt();
        self.link_files();
        self.snapshot.join_sockets(&mut self.visited);
        self.snapshot.join_terminals();
    }

    /// Reads all sockets of one table.
    fn read_table(&mut self, memory: &mut Memory<'_>, hashinfo: KernelVa, buckets_left: &mut u32) {
        let layouts = &memory.kernel.layouts;
        let layout = &layouts.inet_hashinfo;
        let Some(view) = memory.read_one(&mut self.reader, hashinfo, &layout.packing) else {
            self.snapshot.losses.unreadable += 1;
            return;
        };
        let buckets = |mask: u64, max: u32| (mask as u32).min(max - 1) + 1;
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
        self.scratch.addresses.clear();
        self.read_buckets(memory, (ehash, ehash_count), (EHASH_BUCKET_BYTES, 0));
        let bucket = (listen.size, listen.first.offset);
        self.read_buckets(memory, (listeners, listeners_count), bucket);
        self.follow_chains(memory);
    }

    /// Collects the first socket of every bucket. `(array, count)` is the array of buckets;
    /// `stride` is the size of a bucket and `offset` that of its pointer.
    fn read_buckets(
        &mut self,
        memory: &mut Memory<'_>,
        (array, count): (KernelVa, u32),
        (stride, offset): (u32, u32),
    ) {
        if array.is_null() || u64::from(offset) + 8 > u64::from(stride) || stride > SLICE_BYTES {
            return;
        }
        let socks = &mut self.scratch.addresses;
        let link = u64::from(memory.kernel.layouts.sock_common.skc_node.offset);
        let bytes = u64::from(count) * u64::from(stride);
        let slice = u64::from(SLICE_BYTES / stride * stride);
        let mut at = 0;
        while at < bytes {
            self.reader.clear();
            while at < bytes {
                let length = slice.min(bytes - at) as u32;
                if self.reader.push_bytes(&memory.kernel.space, array.plus(at), length).is_none() {
                    break;
                }
                at += u64::from(length);
            }
            if self.reader.is_empty() {
                return;
            }
            memory.run(&mut self.reader);
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
    fn follow_chains(&mut self, memory: &mut Memory<'_>) {
        let layout = &memory.kernel.layouts.sock_common;
        let link = u64::from(layout.skc_node.offset);
        let Scratch { addresses: socks, more: next, .. } = &mut self.scratch;
        for _ in 0..CHAIN_MAX {
            if socks.is_empty() {
                return;
            }
            next.clear();
            let (snapshot, visited) = (&mut self.snapshot, &mut self.visited);
            fetch(&mut self.reader, memory, &layout.packing, socks, |index, bytes| {
                let address = socks[index];
                let Some(bytes) = bytes else {
                    snapshot.losses.unreadable += 1;
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
                    snapshot.connections.push(ConnectionRow {
                        address,
                        endpoints,
                        counters: None,
                        file: KernelVa::NULL,
                        inode: 0,
                        route_device: 0,
                        net: row_at(&mut snapshot.nets, endpoints.net),
                    });
                }
            });
            mem::swap(socks, next);
        }
        self.snapshot.losses.unbounded += 1;
    }

    /// Reads the namespaces without processes, which only sockets lead to, and sets the namespace
    /// of every socket that a descriptor leads to.
    fn read_more_nets(&mut self, memory: &mut Memory<'_>) {
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

    /// Sets `connection` in every open file of a connection's socket.
    fn link_files(&mut self) {
        let snapshot = &mut self.snapshot;
        for (index, row) in snapshot.connections.indexed() {
            if row.file.is_null() {
                continue;
            }
            let file = snapshot.files.find(row.file.0);
            if let Some(file) = snapshot.files.at_mut(file) {
                file.connection = Some(index);
            }
        }
    }
}

/// Whether an inode is on the filesystem of sockets.
pub(super) fn is_sockfs(snapshot: &Snapshot, inode: &InodeRow) -> bool {
    let filesystem = snapshot.super_blocks.at(inode.super_block);
    filesystem.is_some_and(|row| row.filesystem.magic == magic::SOCKFS)
}
