//! TCP sockets of the initial network namespace: from its hash tables, bucket by bucket, all chains at
//! once; then each full socket's counters and the open file that holds it.

use core::mem;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::inet_hashinfo::{
    EHASH_BUCKET_BYTES, EHASH_BUCKETS_MAX, LHASH2_BUCKETS_MAX,
};
use panoptes_decoders::kernel::sock::{
    AF_INET, AF_INET6, Counters, Endpoints, IPPROTO_TCP, SOCK_STREAM, TcpState,
};
use panoptes_decoders::layout::{View, u64_at};
use panoptes_decoders::source::MemorySource;

use super::snapshot::ConnectionRow;
use super::{Kernel, Walker, fetch, fetch_groups};
use crate::address::Insertion;

/// Longest chain of a bucket that is followed. The kernel's tables keep chains at a few; an attacker who
/// floods one bucket makes it longer.
const CHAIN_MAX: u32 = 4096;
/// Bytes of a bucket array that are read at once.
const SLICE_BYTES: u32 = 1 << 16;

impl Walker {
    /// Fills `connections` in.
    pub(super) fn read_connections<S: MemorySource>(&mut self, source: &mut S, kernel: &Kernel) {
        let layouts = &kernel.layouts;
        self.reader.clear();
        self.reader.push(&kernel.space, kernel.roots.init_net, &layouts.net.packing);
        self.reader.run(source, kernel.space.levels);
        let Some(view) = self.reader.object(0).map(View::new) else {
            self.snapshot.losses.unreadable += 1;
            return;
        };
        let hashinfo = view.pointer(layouts.net.hashinfo);
        let inum = view.unsigned(layouts.net.inum) as u32;

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
        let lhash2 = layout.lhash2.map(|field| view.pointer(field)).unwrap_or_default();
        let lhash2_mask = view.optional(layout.lhash2_mask).unwrap_or(0);
        let listen = &layouts.inet_listen_hashbucket;
        let lhash2_count = buckets(lhash2_mask, LHASH2_BUCKETS_MAX);

        let mut socks = mem::take(&mut self.scratch.addresses);
        socks.clear();
        self.maps.visited.clear();
        self.read_buckets(
            source,
            kernel,
            (ehash, ehash_count),
            (EHASH_BUCKET_BYTES, 0),
            &mut socks,
        );
        self.read_buckets(
            source,
            kernel,
            (lhash2, lhash2_count),
            (listen.size, listen.first.offset),
            &mut socks,
        );
        self.follow_chains(source, kernel, &mut socks, inum);
        self.scratch.addresses = socks;
        self.read_sockets(source, kernel);
        self.snapshot.connections.sort_unstable_by_key(|row| {
            let ends = &row.endpoints;
            (ends.source, ends.source_port, ends.destination, ends.destination_port, row.address)
        });
        self.link_files();
    }

    /// Collects the first socket of every bucket of the array `(address, count)`, whose buckets have
    /// `(size, offset of the pointer)`.
    fn read_buckets<S: MemorySource>(
        &mut self,
        source: &mut S,
        kernel: &Kernel,
        (array, count): (KernelVa, u32),
        (stride, offset): (u32, u32),
        socks: &mut Vec<KernelVa>,
    ) {
        if array.is_null() || stride == 0 {
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

    /// Reads sockets and, round after round, the next in each chain.
    fn follow_chains<S: MemorySource>(
        &mut self,
        source: &mut S,
        kernel: &Kernel,
        socks: &mut Vec<KernelVa>,
        inum: u32,
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
                let ours = endpoints.net == kernel.roots.init_net
                    && matches!(endpoints.family, AF_INET | AF_INET6)
                    && TcpState::from_number(endpoints.state).is_some();
                if ours {
                    connections.push(ConnectionRow {
                        address,
                        endpoints,
                        counters: None,
                        file: KernelVa::NULL,
                        network_namespace: inum,
                    });
                }
            });
            mem::swap(socks, next);
        }
        self.snapshot.losses.unbounded += 1;
    }

    /// Reads counters and holders of the sockets that are whole `tcp_sock`s.
    fn read_sockets<S: MemorySource>(&mut self, source: &mut S, kernel: &Kernel) {
        /// Not a `tcp_sock` but an `inet_timewait_sock` or a `request_sock`.
        const TCP_TIME_WAIT: u8 = 6;
        const TCP_NEW_SYN_RECV: u8 = 12;
        let layouts = &kernel.layouts;
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
        sockets.clear();
        sockets.resize(full.len(), KernelVa::NULL);
        let losses = &mut self.snapshot.losses;
        fetch_groups(
            &mut self.reader,
            source,
            kernel,
            [(&layouts.sock.packing, full), (&layouts.tcp_sock.packing, full)],
            |group, index, bytes| {
                let Some(bytes) = bytes else {
                    losses.unreadable += 1;
                    return;
                };
                if group == 0 {
                    let view = View::new(bytes);
                    let is_tcp = view.unsigned(layouts.sock.sk_type) as u16 == SOCK_STREAM
                        && view.unsigned(layouts.sock.sk_protocol) as u16 == IPPROTO_TCP;
                    if is_tcp {
                        sockets[index] = view.pointer(layouts.sock.sk_socket);
                    }
                } else {
                    connections[rows[index] as usize].counters =
                        Some(Counters::decode(&layouts.tcp_sock, bytes));
                }
            },
        );
        let packing = &layouts.socket.packing;
        fetch(&mut self.reader, source, kernel, packing, sockets, |index, bytes| {
            if let Some(bytes) = bytes {
                connections[rows[index] as usize].file =
                    View::new(bytes).pointer(layouts.socket.file);
            }
        });
    }

    /// Tells every open file of a socket which connection it holds.
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
