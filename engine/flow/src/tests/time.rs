//! The time by which flows wait.

use super::*;

impl Wire {
    /// A sensor of live packets, which wait by the time that is passed to them.
    fn live() -> Self {
        let mut wire = Self::new(8);
        let settings = FlowTableSettings {
            capacity: 8,
            status_interval_ns: 5 * SECOND_NS,
            waits_by_clock: true,
            ..FlowTableSettings::default()
        };
        wire.flows = Flows::new(&settings, HashKey::new(7));
        wire
    }

    /// A packet of the only flow with a time, in seconds.
    fn packet_at(&mut self, second: i64) {
        self.now_ns = BEGIN_NS + second * SECOND_NS - 1_000_000;
        self.send(ip(0, 99, &[0; 30]));
    }

    fn pass_to(&mut self, second: i64) {
        self.flows.pass_time_to(second * SECOND_NS, &mut self.kept);
    }
}

/// Packets and the first and the last second of each record.
fn times(records: &[FlowRecord]) -> Vec<(u64, i64, i64)> {
    let second = |time_ns: i64| (time_ns - BEGIN_NS).div_euclid(SECOND_NS);
    let one = |record: &FlowRecord| {
        let (first, last) = record.times();
        (record.source.packets, second(first), second(last))
    };
    records.iter().map(one).collect()
}

#[test]
fn a_packet_that_passes_no_time_changes_no_record() {
    let mut wire = Wire::new(8);
    for second in 0..20 {
        wire.packet_at(second);
        if second == 10 {
            wire.flows.let_time_pass(false);
            wire.packet_at(1_000_000);
            wire.flows.let_time_pass(true);
        }
    }
    let records = wire.finish();
    assert_eq!(records.len(), 4, "{:?}", times(&records));
    assert_eq!(records.iter().map(|record| record.source.packets).sum::<u64>(), 21);
}

#[test]
fn live_flows_wait_by_the_clock_and_not_by_packets() {
    let mut wire = Wire::live();
    // The stamps are an hour ahead, stand still, go back.
    for second in 0..12 {
        wire.pass_to(second);
        wire.packet_at([3600, 3600, 7, -80, 5, 5, 5, 5, 5, 5, 5, 5][second as usize]);
    }
    assert_eq!(wire.kept.0.len(), 2, "at 5 and at 10 seconds");
    // Without packets, it is idle and then removed.
    wire.pass_to(16);
    assert_eq!((wire.kept.0.len(), wire.flows.counts().tracked), (3, 1));
    wire.pass_to(10_000);
    assert_eq!((wire.kept.0.len(), wire.flows.counts().tracked), (3, 0));
}

/// No record has packets from before and after a step.
#[test]
fn records_end_where_the_clock_is_set() {
    for step in [-3600, 3600] {
        let mut wire = Wire::new(8);
        for second in 0..3 {
            wire.packet_at(second);
        }
        wire.flows.set_clock(step * SECOND_NS);
        for second in 3..20 {
            wire.packet_at(second + step);
        }
        let records = wire.finish();
        let all = times(&records);
        assert_eq!(all[0], (3, 0, 2), "{step}");
        assert_eq!(all.iter().map(|(packets, ..)| packets).sum::<u64>(), 20);
        // The flow then has a record each five seconds.
        assert_eq!(all.len(), 5, "{all:?}");
        assert!(all[1..].iter().all(|(_, first, last)| last - first <= 5), "{all:?}");
    }
}

#[test]
fn two_steps_end_records_twice() {
    let mut wire = Wire::new(8);
    wire.packet_at(0);
    wire.flows.set_clock(-100 * SECOND_NS);
    wire.packet_at(-99);
    wire.flows.set_clock(100 * SECOND_NS);
    wire.packet_at(2);
    let packets: Vec<_> = times(&wire.finish());
    assert_eq!(packets, [(1, 0, 0), (1, -99, -99), (1, 2, 2)]);
}
