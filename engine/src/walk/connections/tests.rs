//! Tables of sockets made by hand: what a scan finds in them, and in how many batches.

use proptest::collection::vec;
use proptest::prelude::*;

use panoptes_decoders::kernel::sock::TcpCounters;

use super::*;
use crate::limits::Limits;
use crate::walk::snapshot::NetRow;
use crate::walk::tests::memory::{Sparse, kernel, small, va, walker};
use crate::walk::{MemoryCopyMode, UNREAD_DEVICE};

/// `TCP_ESTABLISHED`
const ESTABLISHED: u64 = 1;
/// `TCP_FIN_WAIT2`
const FIN_WAIT2: u8 = 5;
/// `TCP_CLOSE`
const CLOSED: u8 = 7;
/// The local port of sockets.
const PORT: u16 = 22;

/// One namespace's table: the lengths of its first chains, and the number of its buckets.
#[derive(Clone, Copy, Debug)]
struct Table<'a> {
    chains: &'a [usize],
    buckets: u64,
}

/// Writes tables, with one namespace each, and finds their sockets.
fn find(memory: &mut Sparse, limits: &Limits, tables: &[Table<'_>]) -> Walker {
    let mut walker = walker(limits);
    for table in tables {
        let [net, hashinfo] = [memory.structure(), memory.structure()];
        let ehash = memory.room(8 * table.buckets.min(1 << 20));
        memory.set(hashinfo, "inet_hashinfo", "ehash", ehash);
        memory.set(hashinfo, "inet_hashinfo", "ehash_mask", table.buckets - 1);
        let (address, hashinfo) = (va(net), va(hashinfo));
        let row = || NetRow { address, hashinfo, inum: 1, ..NetRow::default() };
        walker.snapshot.nets.row_of(net, row);
        for (bucket, &length) in (0..).zip(table.chains) {
            let mut place = ehash + bucket * 8;
            for _ in 0..length {
                let sock = memory.room(128);
                memory.put(place, Sparse::field(sock, "sock_common", "skc_nulls_node"));
                for (field, value) in [
                    ("skc_family", AF_INET.into()),
                    ("skc_state", ESTABLISHED),
                    ("skc_num", PORT.into()),
                    ("skc_net.net", net),
                ] {
                    memory.set(sock, "sock_common", field, value);
                }
                place = Sparse::field(sock, "sock_common", "skc_nulls_node");
            }
            // The end of a list is odd.
            memory.put(place, 1);
        }
    }
    (memory.batches, memory.bytes) = (0, 0);
    memory.walk(&mut walker, &kernel(), Walker::find_sockets);
    walker
}

/// Number of namespaces with sockets that were left out.
fn cut(walker: &Walker) -> usize {
    assert_eq!(walker.snapshot.connections_cut, 0, "no loss concerns all namespaces");
    walker.snapshot.nets.iter().filter(|net| net.connections_cut).count()
}

#[test]
fn the_chains_of_all_tables_are_followed_together() {
    let batches_of = |count: usize| {
        let mut memory = Sparse::default();
        let tables = vec![Table { chains: &[20, 3], buckets: 64 }; count];
        let walker = find(&mut memory, &small(), &tables);
        assert_eq!(walker.snapshot.connections.len(), 23 * count);
        assert_eq!((cut(&walker), walker.snapshot.losses.dropped), (0, 0));
        memory.batches
    };
    let (some, twice) = (batches_of(50), batches_of(100));
    assert!(some <= 24, "{some}");
    assert_eq!(some, twice);
}

#[test]
fn long_chains_are_cut_and_counted_together() {
    let batches_of = |count: usize| {
        let mut memory = Sparse::default();
        let long = [CHAIN_MAX as usize + 5];
        let mut tables = vec![Table { chains: &long, buckets: 1 }; count];
        tables.push(Table { chains: &[4], buckets: 4 });
        let limits = Limits { connections: 65_536, ..small() };
        let walker = find(&mut memory, &limits, &tables);
        assert_eq!(walker.snapshot.connections.len(), count * CHAIN_MAX as usize + 4);
        assert_eq!((cut(&walker), walker.snapshot.losses.unbounded), (count, 1));
        memory.batches
    };
    let (some, twice) = (batches_of(3), batches_of(6));
    assert_eq!(some, twice);
    assert!(some <= u64::from(CHAIN_MAX) + 8, "{some}");
}

#[test]
fn large_tables_of_some_leave_the_buckets_of_others() {
    let bytes_of = |count: usize| {
        let mut memory = Sparse::default();
        let large = Table { chains: &[1], buckets: EHASH_BUCKETS_MAX.into() };
        let mut tables = vec![large; count];
        tables.push(Table { chains: &[1; 64], buckets: 64 });
        let walker = find(&mut memory, &small(), &tables);
        assert_eq!(walker.snapshot.connections.len(), count + 64);
        let buckets = &walker.scratch.buckets;
        assert_eq!(buckets[0].count, EHASH_BUCKETS_MAX, "the initial namespace has its table");
        assert_eq!(buckets[count].count, 64);
        // All but the first large one.
        assert_eq!(cut(&walker), count - 1);
        memory.bytes
    };
    let (some, twice) = (bytes_of(8), bytes_of(16));
    assert!(twice <= some + some / 8, "{some}, {twice}");
}

#[test]
fn a_table_with_more_buckets_than_are_read_is_counted() {
    let mut memory = Sparse::default();
    let table = Table { chains: &[2], buckets: 2 * u64::from(EHASH_BUCKETS_MAX) };
    let walker = find(&mut memory, &small(), &[table]);
    assert_eq!(walker.snapshot.connections.len(), 2);
    assert_eq!((cut(&walker), walker.snapshot.losses.dropped), (1, 1));
}

/// The reasons to stop early.
fn stops(walker: &Walker) -> Vec<String> {
    walker.snapshot.losses.frequent_stops().iter().map(ToString::to_string).collect()
}

#[test]
fn a_chain_that_leads_back_is_named_and_is_no_loss() {
    let mut memory = Sparse::default();
    let mut walker = find(&mut memory, &small(), &[Table { chains: &[2], buckets: 4 }]);
    let [first, last] = [0, 1].map(|at| walker.snapshot.connections.as_slice()[at].address.0);
    let link = |sock| Sparse::field(sock, "sock_common", "skc_nulls_node");
    memory.put(link(last), link(first));
    walker.snapshot.connections.clear();
    memory.walk(&mut walker, &kernel(), Walker::find_sockets);
    assert_eq!(walker.snapshot.connections.len(), 2);
    assert!(walker.snapshot.losses.is_whole());
    let stop = format!("chain of sockets that meets another one: loop at {first:#x}");
    assert_eq!(stops(&walker), [stop]);
}

#[test]
fn a_table_without_buckets_is_named_once_and_is_no_loss() {
    let mut memory = Sparse::default();
    let mut walker = find(&mut memory, &small(), &[Table { chains: &[2], buckets: 4 }]);
    assert!(walker.snapshot.losses.is_whole());
    let hashinfo = walker.snapshot.nets.as_slice()[0].hashinfo.0;
    memory.set(hashinfo, "inet_hashinfo", "ehash", 0);
    walker.snapshot.connections.clear();
    memory.walk(&mut walker, &kernel(), Walker::find_sockets);
    assert_eq!(walker.snapshot.connections.len(), 0);
    assert!(walker.snapshot.losses.is_whole());
    let stop = format!("buckets of a table of sockets: unreadable at {hashinfo:#x}");
    assert_eq!(stops(&walker), [stop.as_str()]);
    // Scans that keep their rows read the table again.
    assert!(memory.walk(&mut walker, &kernel(), Walker::refresh_connections));
    let all = walker.snapshot.losses.frequent_stops();
    let all: Vec<_> = all.iter().map(|stop| (stop.count, stop.to_string())).collect();
    assert_eq!(all, [(1, stop)]);
}

#[test]
fn namespaces_that_share_a_table_read_it_once() {
    let mut memory = Sparse::default();
    let mut walker = find(&mut memory, &small(), &[Table { chains: &[2], buckets: 4 }]);
    let bytes = memory.bytes;
    let hashinfo = walker.snapshot.nets.as_slice()[0].hashinfo;
    for net in 1..100 {
        let row = || NetRow { hashinfo, ..NetRow::default() };
        walker.snapshot.nets.row_of(net, row);
    }
    walker.snapshot.connections.clear();
    memory.bytes = 0;
    memory.walk(&mut walker, &kernel(), Walker::find_sockets);
    assert_eq!((walker.snapshot.connections.len(), memory.bytes), (2, bytes));
}

#[test]
fn connections_that_wait_make_room_for_others() {
    /// `TCP_TIME_WAIT`
    const WAITING: u8 = 6;
    let row = |state: u8, source_port: u16| ConnectionRow {
        endpoints: Endpoints { state, source_port, ..endpoints() },
        ..connection()
    };
    let mut rows = Rows::with_capacity(4);
    let mut others = rows.capacity();
    let mut push = |state, port| push_connection(&mut rows, row(state, port), &mut others);
    push(WAITING, 1);
    push(1, 2);
    push(WAITING, 3);
    push(1, 4);
    for (state, port) in [(WAITING, 5), (1, 6), (1, 7), (1, 8), (WAITING, 9)] {
        push(state, port);
    }
    let ports: Vec<_> = rows.iter().map(|row| row.endpoints.source_port).collect();
    assert_eq!((ports, rows.dropped), (vec![7, 2, 6, 4], 5));
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (0..3_u32).prop_map(|last| IpAddr::V4((0xff00_0000 | last).into())),
        (0..2_u128, 0..3_u128).prop_map(|(first, last)| IpAddr::V6((first << 127 | last).into())),
    ]
}

proptest! {
    #[test]
    fn connections_are_in_the_order_of_their_tuples(
        ends in vec((address(), 0..3_u16, address(), 0..3_u16), 0..60),
    ) {
        let mut snapshot = Snapshot::empty(&small());
        for (at, (source, source_port, destination, destination_port)) in (1..).zip(ends) {
            let endpoints =
                Endpoints { source, source_port, destination, destination_port, ..endpoints() };
            let address = KernelVa(at * 0x9e37 % 101);
            snapshot.connections.push(ConnectionRow { address, endpoints, ..connection() });
        }
        let mut expected: Vec<_> = snapshot.connections.iter().copied().collect();
        expected.sort_by_key(|row| {
            let ends = row.endpoints;
            let far = (ends.destination, ends.destination_port);
            (ends.source, ends.source_port, far, row.address)
        });
        snapshot.sort_connections(&mut Vec::new());
        let found = snapshot.connections.iter().map(|row| row.address);
        prop_assert!(found.eq(expected.iter().map(|row| row.address)));
    }
}

fn endpoints() -> Endpoints {
    Endpoints {
        family: AF_INET,
        state: FIN_WAIT2,
        source: [10, 0, 0, 1].into(),
        source_port: PORT,
        destination: [10, 0, 0, 2].into(),
        destination_port: 443,
        bound_device: 0,
        net: KernelVa::NULL,
        prot: KernelVa::NULL,
        next: 1,
    }
}

fn connection() -> ConnectionRow {
    ConnectionRow {
        address: KernelVa::NULL,
        endpoints: endpoints(),
        counters: None,
        file: KernelVa::NULL,
        inode: 0,
        route_device: 0,
        net: None,
    }
}

#[test]
fn a_socket_without_its_port_has_left_the_table() {
    let connection = endpoints();
    assert!(is_connection(&connection));
    assert!(!is_connection(&Endpoints { source_port: 0, ..connection }));
    assert!(!is_connection(&Endpoints { source_port: 0, state: CLOSED, ..connection }));
    assert!(!is_connection(&Endpoints { state: CLOSED, ..connection }));
}

#[test]
fn only_a_copy_has_connections_with_an_unknown_route() {
    for (copied, device) in [
        (MemoryCopyMode::No, 3),
        (MemoryCopyMode::AtOnce, UNREAD_DEVICE),
        (MemoryCopyMode::PageByPage, UNREAD_DEVICE),
    ] {
        let counters = Some(TcpCounters::default());
        let mut row = ConnectionRow { route_device: 3, counters, ..connection() };
        row.lose_sock(copied);
        assert_eq!((row.counters, row.route_device), (None, device), "{copied:?}");
    }
}
