//! Connections: one for each 4-tuple and life, under all sockets that stand for it.

use super::watch::{NOTHING, Watch, at_once, limits};
use super::world::{
    ESTABLISHED, FIN_WAIT_1, FIN_WAIT_2, FakeFile, FakeProcess, FakeSocket, MACHINE_NET,
    NEW_SYN_RECV, SYN_SENT, TIME_WAIT, World, net,
};
use crate::limits::{Limit, Limits};
use crate::state::StateSettings;

const SOCK: u64 = 0xffff_8887_0000_0000;

/// A shell whose standard input may be a socket.
fn world(sockets: &[FakeSocket], held: Option<u64>) -> World {
    let mut shell = FakeProcess::new(714);
    shell.name = "bash".into();
    if let Some(sock) = held {
        shell = shell.with_file(0, FakeFile::socket(0xffff_8885_0000_1200, 13_731, sock));
    }
    let mut world = World::default().with(shell);
    world.sockets = sockets.to_vec();
    world
}

#[test]
fn a_connection_lives_and_ends_with_all_its_sockets() {
    let mut watch = Watch::after(&world(&[], None));
    let at = |state| FakeSocket::new(SOCK, 58848, state);
    assert_eq!(
        watch.scan(&world(&[at(SYN_SENT)], Some(SOCK))),
        ["+fd 714/0 socket:[13731]", "+connection 58848 SYN_SENT 714/0 bash socket:[13731]"]
    );
    assert_eq!(
        watch.scan(&world(&[at(ESTABLISHED)], Some(SOCK))),
        ["~connection 58848 ESTABLISHED 714/0 bash socket:[13731]"]
    );
    assert_eq!(watch.scan(&world(&[at(ESTABLISHED)], Some(SOCK))), NOTHING);
    assert_eq!(
        watch.scan(&world(&[at(4)], None)),
        ["-fd 714/0 socket:[13731]", "~connection 58848 FIN_WAIT_1 714/0 bash"]
    );
    let waiting = FakeSocket::new(SOCK + 0x5000, 58848, TIME_WAIT);
    assert_eq!(watch.scan(&world(&[waiting], None)), ["~connection 58848 TIME_WAIT 714/0 bash"]);
    assert_eq!(watch.scan(&world(&[], None)), NOTHING, "absent once");
    assert_eq!(watch.scan(&world(&[], None)), ["-connection 58848 TIME_WAIT 714/0 bash"]);
    assert_eq!(watch.scan(&world(&[], None)), NOTHING);
}

/// A walk that keeps its rows tells the same sockets from others by a version. They are compared
/// again only as long as something is not settled.
#[test]
fn the_same_sockets_are_compared_until_they_are_settled() {
    let at = |state| FakeSocket::new(SOCK, 58848, state);
    let mut watch = Watch::after(&world(&[at(ESTABLISHED)], None));
    watch.snapshot.is_kept = true;
    watch.scan(&world(&[at(ESTABLISHED)], None));
    // The version denies this change, so nothing is compared.
    assert_eq!(watch.scan(&world(&[at(4)], None)), NOTHING);
    watch.snapshot.connections_version += 1;
    assert_eq!(watch.scan(&world(&[at(4)], None)), ["~connection 58848 FIN_WAIT_1"]);
    watch.snapshot.connections_version += 1;
    assert_eq!(watch.scan(&world(&[], None)), NOTHING, "absent once");
    assert_eq!(watch.scan(&world(&[], None)), ["-connection 58848 FIN_WAIT_1"]);
    // Other rows may be those of another scan.
    watch.scan(&world(&[at(ESTABLISHED)], None));
    watch.snapshot.is_kept = false;
    assert_eq!(watch.scan(&world(&[at(4)], None)), ["~connection 58848 FIN_WAIT_1"]);
}

#[test]
fn a_half_closed_connection_goes_on_in_a_small_socket() {
    let half = FakeSocket::new(SOCK, 58848, FIN_WAIT_2);
    let mut watch = Watch::after(&world(&[half], None));
    let small = FakeSocket { address: SOCK + 0x5000, bytes_in: None, ..half };
    assert_eq!(watch.scan(&world(&[small], None)), NOTHING);
    let waiting = FakeSocket { state: TIME_WAIT, ..small };
    assert_eq!(watch.scan(&world(&[waiting], None)), ["~connection 58848 TIME_WAIT"]);
    let again = FakeSocket { address: SOCK + 0x9000, ..half };
    assert_eq!(
        watch.scan(&world(&[again], None)),
        ["-connection 58848 TIME_WAIT", "+connection 58848 FIN_WAIT_2"]
    );
}

#[test]
fn any_connection_goes_on_as_a_small_socket_in_fin_wait_2() {
    // The small socket is before the full one in memory, or behind it.
    for (state, address) in [(ESTABLISHED, SOCK + 0x5000), (FIN_WAIT_1, SOCK - 0x5000)] {
        let full = FakeSocket { bytes_in: Some(5000), ..FakeSocket::new(SOCK, 58848, state) };
        let small = FakeSocket { bytes_in: None, ..FakeSocket::new(address, 58848, FIN_WAIT_2) };
        let mut watch = Watch::after(&world(&[full], None));
        if state == FIN_WAIT_1 {
            assert_eq!(watch.scan(&world(&[], None)), NOTHING, "one scan may see neither");
        }
        assert_eq!(watch.scan(&world(&[small], None)), ["~connection 58848 FIN_WAIT_2"]);
        assert_eq!(watch.scan(&world(&[small], None)), NOTHING);
        let waiting = FakeSocket { state: TIME_WAIT, ..small };
        assert_eq!(watch.scan(&world(&[waiting], None)), ["~connection 58848 TIME_WAIT"]);
        assert_eq!(watch.scan(&world(&[], None)), NOTHING, "absent once");
        assert_eq!(watch.scan(&world(&[], None)), ["-connection 58848 TIME_WAIT"]);
        assert_eq!(watch.scan(&world(&[], None)), NOTHING);
    }
}

#[test]
fn a_socket_and_its_small_one_in_one_scan_are_one_connection() {
    let full = FakeSocket::new(SOCK, 58848, ESTABLISHED);
    for (state, name) in
        [(TIME_WAIT, "TIME_WAIT"), (FIN_WAIT_2, "FIN_WAIT_2"), (NEW_SYN_RECV, "SYN_RECEIVED")]
    {
        for address in [SOCK - 0x5000, SOCK + 0x5000] {
            let small = FakeSocket { bytes_in: None, ..FakeSocket::new(address, 58848, state) };
            let mut watch = Watch::after(&world(&[full], None));
            assert_eq!(watch.scan(&world(&[full, small], None)), NOTHING);
            assert_eq!(watch.scan(&world(&[full, small], None)), NOTHING);
            if state == NEW_SYN_RECV {
                // The request came before; the scan read it late.
                assert_eq!(watch.scan(&world(&[full], None)), NOTHING);
                continue;
            }
            let changed = format!("~connection 58848 {name}");
            assert_eq!(watch.scan(&world(&[small], None)), [changed]);
            assert_eq!(watch.scan(&world(&[], None)), NOTHING, "absent once");
            assert_eq!(watch.scan(&world(&[], None)), [format!("-connection 58848 {name}")]);
        }
    }
}

#[test]
fn a_new_connection_whose_small_socket_is_seen_too_is_created_once() {
    let full = FakeSocket::new(SOCK, 58848, ESTABLISHED);
    for address in [SOCK - 0x5000, SOCK + 0x5000] {
        let mut watch = Watch::after(&world(&[], None));
        let waiting = FakeSocket::new(address, 58848, TIME_WAIT);
        assert_eq!(
            watch.scan(&world(&[full, waiting], None)),
            ["+connection 58848 ESTABLISHED"],
            "{address:x}"
        );
        assert_eq!(watch.scan(&world(&[waiting], None)), ["~connection 58848 TIME_WAIT"]);
    }
}

#[test]
fn a_small_socket_of_another_namespace_is_a_separate_connection() {
    let full = FakeSocket::new(SOCK, 58848, ESTABLISHED);
    let waiting = FakeSocket::new(SOCK + 0x5000, 58848, TIME_WAIT);
    let mut watch = Watch::after(&world(&[full], None));
    world(&[full, waiting], None).show(&mut watch.snapshot);
    let other = net(&mut watch.snapshot, MACHINE_NET + 1);
    watch.snapshot.connections.get_mut(1).unwrap().net = other;
    assert_eq!(watch.update_from(), ["+connection 58848 TIME_WAIT"]);
}

/// Scans sockets of one 4-tuple, each in a network namespace of its own (0: the machine's).
fn scan_in(watch: &mut Watch, sockets: &[(FakeSocket, u32)]) -> Vec<String> {
    let all: Vec<_> = sockets.iter().map(|(socket, _)| *socket).collect();
    world(&all, None).show(&mut watch.snapshot);
    for (socket, number) in sockets {
        let own = net(&mut watch.snapshot, MACHINE_NET + number);
        let mut rows = watch.snapshot.connections.iter_mut();
        rows.find(|row| row.address.0 == socket.address).unwrap().net = own;
    }
    watch.snapshot.sort_connections(&mut Vec::new());
    watch.update_from()
}

#[test]
fn connections_with_one_four_tuple_in_two_namespaces_go_on_side_by_side() {
    let at = |address, state| FakeSocket::new(address, 58848, state);
    let [first, second] = [0x1000, 0x3000].map(|place| at(SOCK + place, ESTABLISHED));
    for swapped in [false, true] {
        let mut watch = Watch::after(&world(&[], None));
        let both = [(first, 0), (second, 1)];
        assert_eq!(scan_in(&mut watch, &both), ["+connection 58848 ESTABLISHED"; 2]);
        // One scan misses the first, and a third begins.
        let third = at(SOCK + 0x2000, ESTABLISHED);
        let news = scan_in(&mut watch, &[(second, 1), (third, 2)]);
        assert_eq!(news, ["+connection 58848 ESTABLISHED"]);
        assert_eq!(scan_in(&mut watch, &[(first, 0), (second, 1), (third, 2)]), NOTHING);
        // Their small sockets are in any order in memory.
        let [low, high] = [0x5000, 0x7000].map(|place| at(SOCK + place, TIME_WAIT));
        let small = if swapped { [(high, 0), (low, 1)] } else { [(low, 0), (high, 1)] };
        let all = [small[0], small[1], (third, 2)];
        assert_eq!(scan_in(&mut watch, &all), ["~connection 58848 TIME_WAIT"; 2], "{swapped}");
        assert_eq!(scan_in(&mut watch, &all), NOTHING, "{swapped}");
        assert_eq!(scan_in(&mut watch, &[(third, 2)]), NOTHING, "absent once");
        assert_eq!(scan_in(&mut watch, &[(third, 2)]), ["-connection 58848 TIME_WAIT"; 2]);
    }
}

#[test]
fn a_connection_begins_beside_the_one_that_waits() {
    let waiting = FakeSocket::new(SOCK, 58848, TIME_WAIT);
    let mut watch = Watch::after(&world(&[waiting], None));
    let again = FakeSocket::new(SOCK + 0x5000, 58848, SYN_SENT);
    assert_eq!(watch.scan(&world(&[waiting, again], None)), ["+connection 58848 SYN_SENT"]);
}

#[test]
fn a_socket_that_one_scan_misses_goes_on() {
    let socket = FakeSocket::new(SOCK, 58848, ESTABLISHED);
    let mut watch = Watch::after(&world(&[socket], None));
    for _ in 0..3 {
        assert_eq!(watch.scan(&world(&[], None)), NOTHING);
        assert_eq!(watch.scan(&world(&[socket], None)), NOTHING);
    }
    assert_eq!(watch.scan(&world(&[], None)), NOTHING);
    let waiting = FakeSocket::new(SOCK + 0x5000, 58848, TIME_WAIT);
    assert_eq!(watch.scan(&world(&[waiting], None)), ["~connection 58848 TIME_WAIT"]);
}

#[test]
fn a_request_becomes_a_connection() {
    let listener = FakeSocket::listener(SOCK, 22);
    let mut watch = Watch::after(&world(&[listener], None));
    let request = FakeSocket::new(SOCK + 0x1000, 22, NEW_SYN_RECV);
    assert_eq!(watch.scan(&world(&[listener, request], None)), ["+connection 22 SYN_RECEIVED"]);
    let full = FakeSocket::new(SOCK + 0x2000, 22, ESTABLISHED);
    assert_eq!(watch.scan(&world(&[listener, full], None)), ["~connection 22 ESTABLISHED"]);
}

#[test]
fn listeners_are_no_connections() {
    let mut watch = Watch::after(&world(&[], None));
    // Several may share address and port (SO_REUSEPORT).
    let listeners: Vec<_> =
        (0..5).map(|number| FakeSocket::listener(SOCK + number * 0x1000, 80)).collect();
    assert_eq!(watch.scan(&world(&listeners, None)), NOTHING);
    assert_eq!(watch.scan(&world(&listeners[1..4], None)), NOTHING);
    for _ in 0..3 {
        assert_eq!(watch.scan(&world(&[], None)), NOTHING);
    }
}

#[test]
fn the_same_four_tuple_can_be_another_connection() {
    let waiting = FakeSocket::new(SOCK, 58848, TIME_WAIT);
    let mut watch = Watch::after(&world(&[waiting], None));
    let again = FakeSocket::new(SOCK + 0x1000, 58848, SYN_SENT);
    assert_eq!(
        watch.scan(&world(&[again], None)),
        ["-connection 58848 TIME_WAIT", "+connection 58848 SYN_SENT"]
    );
    // At the same address too: the slab gives the same socket out again.
    let established = FakeSocket { state: ESTABLISHED, bytes_in: Some(5000), ..again };
    watch.scan(&world(&[established], None));
    let third = FakeSocket { bytes_in: Some(10), ..established };
    assert_eq!(
        watch.scan(&world(&[third], None)),
        ["-connection 58848 ESTABLISHED", "+connection 58848 ESTABLISHED"]
    );
}

#[test]
fn the_owner_is_the_lowest_holder() {
    let socket = FakeSocket::new(SOCK, 58848, ESTABLISHED);
    let file = FakeFile::socket(0xffff_8885_0000_1200, 13_731, SOCK);
    let mut watch = Watch::after(&world(&[], None));
    let mut shared = world(&[socket], None);
    shared.processes.push(FakeProcess::new(900).with_file(5, file.clone()));
    shared.process(714).files = vec![(3, file.clone()), (7, file)];
    let changes = watch.scan(&shared);
    assert!(
        changes.contains(&"+connection 58848 ESTABLISHED 714/3 bash socket:[13731]".to_owned()),
        "{changes:?}"
    );
}

#[test]
fn connections_outlive_their_process() {
    let socket = FakeSocket::new(SOCK, 58848, ESTABLISHED);
    let mut watch = Watch::after(&world(&[socket], Some(SOCK)));
    let mut gone = world(&[FakeSocket { state: 4, ..socket }], None);
    gone.remove(714);
    assert_eq!(watch.scan(&gone), ["-process 714 bash", "~connection 58848 FIN_WAIT_1 714/0 bash"]);
    gone.sockets.clear();
    watch.scan(&gone);
    assert_eq!(watch.scan(&gone), ["-connection 58848 FIN_WAIT_1 714/0 bash"]);
}

#[test]
fn names_of_an_ended_owner_go_with_its_last_connection() {
    let socket = FakeSocket::new(SOCK, 58848, ESTABLISHED);
    let mut watch = Watch::after(&world(&[], None));
    watch.scan(&World::default());
    let names = |watch: &Watch| watch.state.usage(Limit::Strings).used;
    let before = names(&watch);
    let mut with_owner = world(&[socket], Some(SOCK));
    let program = FakeFile::regular(0xffff_8885_0000_7000, 71, "a program of its own");
    with_owner.process(714).executable = Some(program);
    watch.scan(&with_owner);
    let mut gone = World::default();
    gone.sockets.push(FakeSocket::new(SOCK + 0x5000, 58848, TIME_WAIT));
    for _ in 0..10 {
        watch.scan(&gone);
        assert!(names(&watch) > before, "the connection is still there");
    }
    for _ in 0..2 {
        watch.scan(&World::default());
    }
    assert_eq!(names(&watch), before);
}

#[test]
fn a_connection_is_reported_with_the_process_that_accepts_it() {
    let socket = FakeSocket::new(SOCK, 58848, ESTABLISHED);
    let created = "+connection 58848 ESTABLISHED 714/0 bash socket:[13731]";
    let mut watch = Watch::new(&limits(), StateSettings::default());
    watch.scan(&world(&[], None));
    assert_eq!(watch.scan(&world(&[socket], None)), NOTHING, "not accepted yet");
    assert_eq!(watch.scan(&world(&[socket], Some(SOCK))), ["+fd 714/0 socket:[13731]", created]);
    assert_eq!(watch.scan(&world(&[socket], Some(SOCK))), NOTHING);
}

#[test]
fn a_connection_that_no_process_accepts_is_reported() {
    let socket = FakeSocket::new(SOCK, 58848, ESTABLISHED);
    let half = FakeSocket { state: 4, ..socket };
    let mut watch = Watch::new(&limits(), StateSettings::default());
    watch.scan(&world(&[], None));
    assert_eq!(watch.scan(&world(&[socket], None)), NOTHING);
    assert_eq!(watch.scan(&world(&[half], None)), ["+connection 58848 FIN_WAIT_1"]);
    assert_eq!(watch.scan(&world(&[socket], None)), ["~connection 58848 ESTABLISHED"]);
    // A connection that ends before that is reported too.
    let mut watch = Watch::new(&limits(), StateSettings::default());
    watch.scan(&world(&[], None));
    assert_eq!(watch.scan(&world(&[socket], None)), NOTHING);
    assert_eq!(watch.scan(&world(&[], None)), NOTHING, "absent once");
    assert_eq!(
        watch.scan(&world(&[], None)),
        ["+connection 58848 ESTABLISHED", "-connection 58848 ESTABLISHED"]
    );
}

#[test]
fn the_holder_of_a_connection_is_reported_first() {
    let socket = FakeSocket::new(SOCK, 58848, ESTABLISHED);
    let file = FakeFile::socket(0xffff_8885_0000_1200, 13_731, SOCK);
    let mut watch = Watch::new(&limits(), StateSettings::default());
    watch.scan(&world(&[], None));
    let mut forked = world(&[socket], None);
    let mut child = FakeProcess::new(900).with_file(5, file);
    // Like its parent: it may be about to exec.
    child.parent = 714;
    forked.processes.push(child);
    assert_eq!(watch.scan(&forked), NOTHING);
    let changes = watch.scan(&forked);
    let place = |start: &str| changes.iter().position(|line| line.starts_with(start));
    let (process, connection) = (place("+process 900"), place("+connection 58848"));
    assert!(process.is_some() && process < connection, "{changes:?}");
    assert!(changes[connection.unwrap()].contains(" 900/5 "), "{changes:?}");
}

/// A process that is like its parent, so it may be about to exec, and holds a socket.
fn child(pid: u32, sock: u64) -> FakeProcess {
    let file = FakeFile::socket(0xffff_8885_0000_1200, 13_731, sock);
    let mut child = FakeProcess::new(pid).with_file(5, file);
    child.parent = 714;
    child
}

#[test]
fn a_process_that_finds_room_later_is_reported_before_its_connection_names_it() {
    let socket = FakeSocket::new(SOCK, 58848, ESTABLISHED);
    let crowded = Limits { processes: 3, ..limits() };
    let mut watch = Watch::new(&crowded, StateSettings::default());
    let mut both = world(&[], None);
    both.processes.push(FakeProcess::new(800));
    watch.scan(&both);
    both.sockets = vec![socket];
    both.processes.push(child(900, SOCK));
    assert_eq!(watch.scan(&both), ["limit Processes 3 1"]);
    assert_eq!(watch.scan(&both), ["+connection 58848 ESTABLISHED"], "there is no room for it");
    // There is room once another process ends; the connection changes its state in the same scan.
    both.remove(800);
    both.sockets = vec![FakeSocket { state: FIN_WAIT_1, ..socket }];
    let changes = watch.scan(&both);
    assert!(changes.contains(&"~connection 58848 FIN_WAIT_1".to_owned()), "{changes:?}");
    assert!(!changes.iter().any(|line| line.starts_with("+process 900")), "{changes:?}");
    let changes = watch.scan(&both);
    assert!(changes.iter().any(|line| line.starts_with("+process 900")), "{changes:?}");
    both.sockets = vec![FakeSocket { state: FIN_WAIT_2, ..socket }];
    let changes = watch.scan(&both);
    assert!(
        changes.contains(&"~connection 58848 FIN_WAIT_2 900/5 task900 socket:[13731]".into()),
        "{changes:?}"
    );
}

#[test]
fn a_connection_that_ends_before_its_process_is_reported_waits() {
    let socket = FakeSocket::new(SOCK, 58848, ESTABLISHED);
    let patient = StateSettings { fork_grace_scans: 4, ..StateSettings::default() };
    let mut watch = Watch::new(&limits(), patient);
    watch.scan(&world(&[], None));
    let mut forked = world(&[socket], None);
    forked.processes.push(child(900, SOCK));
    assert_eq!(watch.scan(&forked), NOTHING);
    forked.sockets.clear();
    forked.process(900).files.clear();
    let mut changes = Vec::new();
    for _ in 0..6 {
        changes.extend(watch.scan(&forked));
    }
    let expected = [
        "+process 900 task900",
        "+connection 58848 ESTABLISHED 900/5 task900",
        "-connection 58848 ESTABLISHED 900/5 task900",
    ];
    assert_eq!(changes, expected);
    // If another connection takes its 4-tuple, it cannot wait, and names no process.
    let mut watch = Watch::new(&limits(), patient);
    watch.scan(&world(&[], None));
    forked.sockets = vec![socket];
    forked.processes.pop();
    forked.processes.push(child(900, SOCK));
    assert_eq!(watch.scan(&forked), NOTHING);
    forked.sockets = vec![FakeSocket::new(SOCK + 0x1000, 58848, SYN_SENT)];
    assert_eq!(
        watch.scan(&forked),
        ["+connection 58848 ESTABLISHED", "-connection 58848 ESTABLISHED"]
    );
}

#[test]
fn a_full_table_of_connections_is_reported_once() {
    let small = Limits { connections: 2, ..limits() };
    let mut watch = Watch::new(&small, at_once());
    assert_eq!(watch.scan(&world(&[], None)), NOTHING);
    let sockets: Vec<_> = (0..5)
        .map(|number| FakeSocket::new(SOCK + number * 0x1000, 1000 + number as u16, ESTABLISHED))
        .collect();
    assert_eq!(
        watch.scan(&world(&sockets, None)),
        ["+connection 1000 ESTABLISHED", "+connection 1001 ESTABLISHED", "limit Connections 2 3"]
    );
    assert_eq!(watch.scan(&world(&sockets, None)), NOTHING);
    watch.scan(&world(&[], None));
    assert_eq!(
        watch.scan(&world(&[], None)),
        ["-connection 1000 ESTABLISHED", "-connection 1001 ESTABLISHED", "cleared Connections 2"]
    );
}

#[test]
fn a_crowd_with_one_four_tuple_is_compared_in_time() {
    let many = Limits { connections: 20_000, ..limits() };
    let mut watch = Watch::new(&many, at_once());
    watch.scan(&world(&[], None));
    let crowd: Vec<_> = (0..20_000)
        .map(|number| FakeSocket::new(SOCK + number * 0x1000, 1000, ESTABLISHED))
        .collect();
    assert_eq!(watch.scan(&world(&crowd, None)).len(), 20_000);
    let moved: Vec<_> = (0..20_000)
        .map(|number| FakeSocket::new(SOCK + 0x800 + number * 0x1000, 1000, ESTABLISHED))
        .collect();
    assert_eq!(watch.scan(&world(&moved, None)).len(), 20_000 * 2);
}

#[test]
fn a_crowd_of_small_sockets_with_one_four_tuple_is_compared_in_time() {
    let many = Limits { connections: 20_000, ..limits() };
    let mut watch = Watch::new(&many, at_once());
    watch.scan(&world(&[], None));
    let crowd: Vec<_> = (0..20_000)
        .map(|number| FakeSocket::new(SOCK + number * 0x1000, 1000, TIME_WAIT))
        .collect();
    world(&crowd, None).show(&mut watch.snapshot);
    // Each is one of ten in its network namespace.
    let nets = (0..2000).map(|number| net(&mut watch.snapshot, MACHINE_NET + number));
    let nets: Vec<_> = nets.collect();
    for (number, row) in watch.snapshot.connections.iter_mut().enumerate() {
        row.net = nets[number % nets.len()];
    }
    watch.snapshot.sort_connections(&mut Vec::new());
    assert_eq!(watch.update_from().len(), 2000);
}
