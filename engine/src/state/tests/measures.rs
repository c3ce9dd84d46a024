//! Crossed thresholds of connections: reported once, under all sockets that stand for them.

use super::watch::{NOTHING, Watch, at_once};
use super::world::{ESTABLISHED, FIN_WAIT_2, FakeSocket, NEW_SYN_RECV, SYN_SENT, TIME_WAIT, World};
use crate::state::{StateSettings, Thresholds};
use crate::time::RealTime;

const SOCK: u64 = 0xffff_8887_0000_0000;
const PORT: u16 = 58848;
/// Scans are 10 ms apart.
const THRESHOLDS: Thresholds = Thresholds {
    bytes_in: 1000,
    bytes_out: u64::MAX,
    duration_ns: u64::MAX,
    status_period_ns: None,
    zombie_after_ns: 0,
};

fn world(sockets: &[FakeSocket]) -> World {
    World { sockets: sockets.to_vec(), ..World::default() }
}

fn counted(state: u8, bytes_in: u64) -> FakeSocket {
    FakeSocket { bytes_in: Some(bytes_in), ..FakeSocket::new(SOCK, PORT, state) }
}

/// A watch after a first scan, of that world.
fn watch(first: &World, thresholds: Thresholds) -> (Watch, Vec<String>) {
    let mut watch = Watch::new(&super::watch::limits(), at_once());
    watch.state.set_thresholds(thresholds);
    let changes = watch.scan(first);
    (watch, changes)
}

const MUCH: &str = "!connection 58848 ESTABLISHED BytesIn { bytes: 1001, threshold: 1000 }";

#[test]
fn a_crossing_is_reported_once_in_a_connections_life() {
    let (mut watch, _) = watch(&world(&[]), THRESHOLDS);
    let request = FakeSocket::new(SOCK - 0x1000, PORT, NEW_SYN_RECV);
    assert_eq!(watch.scan(&world(&[request])), ["+connection 58848 SYN_RECEIVED"]);
    let changes = watch.scan(&world(&[counted(ESTABLISHED, 1000)]));
    assert_eq!(changes, ["~connection 58848 ESTABLISHED"], "the threshold itself is not exceeded");
    assert_eq!(watch.scan(&world(&[counted(ESTABLISHED, 1001)])), [MUCH]);
    assert_eq!(watch.scan(&world(&[counted(ESTABLISHED, 5000)])), NOTHING);
    // A timewait socket has no counters; a scan may miss it.
    let waiting = FakeSocket::new(SOCK + 0x5000, PORT, TIME_WAIT);
    assert_eq!(watch.scan(&world(&[])), NOTHING);
    assert_eq!(watch.scan(&world(&[waiting])), ["~connection 58848 TIME_WAIT"]);
    // The next socket of the same 4-tuple is another connection, even at the same address.
    let changes = watch.scan(&world(&[counted(SYN_SENT, 0)]));
    assert_eq!(changes, ["-connection 58848 TIME_WAIT", "+connection 58848 SYN_SENT"]);
    let changes = watch.scan(&world(&[counted(ESTABLISHED, 1001)]));
    assert_eq!(changes, ["~connection 58848 ESTABLISHED", MUCH]);
}

#[test]
fn bytes_from_before_watching_count() {
    let (mut watch, changes) = watch(&world(&[counted(ESTABLISHED, 1001)]), THRESHOLDS);
    assert_eq!(changes, [MUCH]);
    assert_eq!(watch.scan(&world(&[counted(ESTABLISHED, 1002)])), NOTHING);
}

#[test]
fn a_new_connection_is_reported_before_its_crossings() {
    let (mut watch, _) = watch(&world(&[]), THRESHOLDS);
    let changes = watch.scan(&world(&[counted(ESTABLISHED, 1001)]));
    assert_eq!(changes, ["+connection 58848 ESTABLISHED", MUCH]);
    // A connection that waits to be accepted, and one that has ended by then.
    for is_gone in [false, true] {
        let mut watch = Watch::new(&super::watch::limits(), StateSettings::default());
        watch.state.set_thresholds(THRESHOLDS);
        watch.scan(&world(&[]));
        assert_eq!(watch.scan(&world(&[counted(ESTABLISHED, 1001)])), NOTHING);
        let next = if is_gone { world(&[]) } else { world(&[counted(ESTABLISHED, 1001)]) };
        let mut changes = watch.scan(&next);
        if is_gone {
            changes.extend(watch.scan(&next));
            assert_eq!(changes.pop().unwrap(), "-connection 58848 ESTABLISHED");
        }
        assert_eq!(changes, ["+connection 58848 ESTABLISHED", MUCH]);
    }
}

#[test]
fn a_connection_lasts_from_its_first_sight_while_it_is_open() {
    let thresholds = Thresholds { duration_ns: 25_000_000, ..THRESHOLDS };
    let long =
        "!connection 58848 ESTABLISHED Duration { lasted_ns: 30000000, threshold_ns: 25000000 }";
    for preexisting in [true, false] {
        let open = world(&[counted(ESTABLISHED, 0)]);
        let first = if preexisting { open.clone() } else { world(&[]) };
        let (mut watch, _) = watch(&first, thresholds);
        if !preexisting {
            assert_eq!(watch.scan(&open), ["+connection 58848 ESTABLISHED"]);
        }
        assert_eq!(watch.scan(&open), NOTHING);
        assert_eq!(watch.scan(&open), NOTHING);
        assert_eq!(watch.scan(&open), [long]);
        for _ in 0..10 {
            assert_eq!(watch.scan(&open), NOTHING);
        }
    }
    // Sockets that only wait for their end have no duration, and listeners have none.
    let waits = [
        FakeSocket::new(SOCK, PORT, TIME_WAIT),
        FakeSocket { bytes_in: None, ..FakeSocket::new(SOCK + 0x1000, PORT + 1, FIN_WAIT_2) },
        FakeSocket { bytes_in: Some(5000), ..FakeSocket::listener(SOCK + 0x2000, 22) },
        FakeSocket::new(SOCK + 0x3000, PORT + 2, SYN_SENT),
    ];
    let (mut watch, changes) = watch(&world(&waits), thresholds);
    assert_eq!(changes, NOTHING);
    for _ in 0..10 {
        assert_eq!(watch.scan(&world(&waits)), NOTHING);
    }
}

#[test]
fn setting_a_clock_makes_no_connection_long_or_short() {
    let thresholds = Thresholds { duration_ns: 25_000_000, ..THRESHOLDS };
    let open = world(&[counted(ESTABLISHED, 0)]);
    let mut watch = Watch::new(&super::watch::limits(), at_once());
    watch.state.set_thresholds(thresholds);
    let mut scan = |step_ns: i64, boot_ns: i64| {
        open.show(&mut watch.snapshot);
        watch.snapshot.machine.boot_to_real_ns = Some(500);
        watch.snapshot.machine.calendar_ns = Some(500 + boot_ns);
        watch.now.real = RealTime::from_ns(watch.now.real.ns() + step_ns);
        watch.update_from()
    };
    let years = 50 * 365 * 86_400 * 1_000_000_000;
    assert_eq!(scan(0, 0), NOTHING);
    assert_eq!(scan(years, 10_000_000), NOTHING);
    assert_eq!(scan(-years, years), NOTHING, "the machine set its own clock");
    assert_eq!(scan(0, -years).len(), 1);
}

#[test]
fn other_thresholds_report_nothing_again() {
    let (mut watch, changes) = watch(&world(&[counted(ESTABLISHED, 1001)]), THRESHOLDS);
    assert_eq!(changes, [MUCH]);
    for bytes_in in [5000, 10] {
        watch.state.set_thresholds(Thresholds { bytes_in, ..THRESHOLDS });
        assert_eq!(watch.scan(&world(&[counted(ESTABLISHED, 6000)])), NOTHING);
    }
    watch.state.set_thresholds(Thresholds { duration_ns: 1, ..THRESHOLDS });
    assert_eq!(watch.scan(&world(&[counted(ESTABLISHED, 6000)])).len(), 1, "another threshold");
}

#[test]
fn the_status_of_open_connections_is_reported_every_period() {
    let thresholds = Thresholds { status_period_ns: Some(30_000_000), ..THRESHOLDS };
    let listener = FakeSocket::listener(SOCK + 0x2000, 22);
    let waiting = FakeSocket::new(SOCK + 0x3000, PORT + 2, TIME_WAIT);
    let open = world(&[counted(ESTABLISHED, 0), listener, waiting]);
    let (mut watch, changes) = watch(&open, thresholds);
    assert_eq!(changes, NOTHING);
    let changes: Vec<usize> = (0..9).map(|_| watch.scan(&open).len()).collect();
    assert_eq!(changes, [0, 0, 1, 0, 0, 1, 0, 0, 1]);
    watch.state.set_thresholds(THRESHOLDS);
    let changes: Vec<String> = (0..9).flat_map(|_| watch.scan(&open)).collect();
    assert_eq!(changes, NOTHING);
}

#[test]
fn a_crowd_that_is_due_at_once_is_spread() {
    let many = crate::limits::Limits { connections: 1000, ..super::watch::limits() };
    let mut watch = Watch::new(&many, at_once());
    let period = Some(100_000_000);
    watch.state.set_thresholds(Thresholds { status_period_ns: period, ..THRESHOLDS });
    let crowd: Vec<_> = (0..1000)
        .map(|number| FakeSocket::new(SOCK + number * 0x1000, 1000 + number as u16, ESTABLISHED))
        .collect();
    let crowd = world(&crowd);
    let changes: Vec<usize> = (0..31).map(|_| watch.scan(&crowd).len()).collect();
    // The first scan shows all of them; ten scans are a period.
    for (scan, count) in changes.into_iter().enumerate() {
        let expected = match scan {
            10.. => [256, 256, 256, 232].get(scan % 10).copied().unwrap_or(0),
            _ => 0,
        };
        assert_eq!(count, expected, "in scan {scan}");
    }
}

#[test]
fn each_of_a_crowd_that_is_always_due_has_its_turn() {
    let many = crate::limits::Limits { connections: 1000, ..super::watch::limits() };
    let mut watch = Watch::new(&many, at_once());
    watch.state.set_thresholds(Thresholds { status_period_ns: Some(1), ..THRESHOLDS });
    let crowd: Vec<_> = (0..1000)
        .map(|number| FakeSocket::new(SOCK + number * 0x1000, 1000 + number as u16, ESTABLISHED))
        .collect();
    let crowd = world(&crowd);
    assert_eq!(watch.scan(&crowd), NOTHING);
    for _ in 0..3 {
        let changes: std::collections::BTreeSet<String> =
            (0..4).flat_map(|_| watch.scan(&crowd)).collect();
        assert_eq!(changes.len(), 1000);
    }
}
