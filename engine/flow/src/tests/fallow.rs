//! Idle connections of TCP that are remembered.

use super::*;

const MINUTE_NS: i64 = 60 * SECOND_NS;

impl Wire {
    /// A sensor that remembers idle connections for 7,200 s.
    fn remembering(capacity: usize) -> Self {
        let timeouts = Timeouts { tcp_fallow_ns: 7200 * SECOND_NS, ..Timeouts::default() };
        let settings = FlowTableSettings {
            capacity,
            status_interval_ns: 5 * SECOND_NS,
            timeouts,
            ..FlowTableSettings::default()
        };
        let mut wire = Self::new(capacity);
        wire.flows = Flows::new(&settings, HashKey::new(7));
        wire
    }

    /// Nothing is sent for so long.
    fn pause(&mut self, time_ns: i64) {
        // The queues are looked at while time passes, as a sensor does.
        let end_ns = self.now_ns + time_ns;
        while self.now_ns < end_ns {
            self.now_ns = end_ns.min(self.now_ns + SECOND_NS);
            self.flows.pass_time_to(self.now_ns, &mut self.kept);
        }
    }
}

/// The port of the source of each record, its packets and those of the destination, the cause, and
/// the number of the flow.
fn summaries(records: &[FlowRecord]) -> Vec<(u16, [u64; 2], Cause, u32)> {
    let one = |record: &FlowRecord| {
        let packets = [record.source.packets, record.destination.packets];
        (record.key.source_port, packets, record.cause, record.sequence)
    };
    records.iter().map(one).collect()
}

const CLIENT: u16 = 40_000;
const SERVER: u16 = 80;

/// A connection, a pause, and data of the server.
fn resumed(wire: &mut Wire, pause_ns: i64) {
    let (client, server) = handshake(wire);
    wire.pause(pause_ns);
    wire.segment(1, (server, client), flag::ACK | flag::PSH, b"news");
    wire.segment(0, (client, server + 4), flag::ACK, b"");
}

#[test]
fn the_direction_of_a_connection_survives_a_pause() {
    let mut wire = Wire::remembering(8);
    resumed(&mut wire, 10 * MINUTE_NS);
    let records = wire.finish();
    let expected = [(CLIENT, [2, 1], Cause::Start, 1), (CLIENT, [1, 1], Cause::Status, 1)];
    assert_eq!(summaries(&records), expected);
    let late = tcp(&records[1]);
    assert_ne!(late.status & tcp_status::SAW_SYN, 0, "readers know who began");
    assert_eq!(late.syn_ack_us, 1000);
    let both = [&late.source, &late.destination];
    assert_eq!(both.map(|side| side.retransmitted), [0, 0]);
    assert_eq!(late.destination.bytes, 4);
}

#[test]
fn no_direction_survives_the_fallow_timeout() {
    // It begins when the record's interval and the idle timeout are over: 7,265 s.
    let with_pause = |seconds: i64| {
        let mut wire = Wire::remembering(8);
        resumed(&mut wire, seconds * SECOND_NS);
        summaries(&wire.finish())[1]
    };
    assert_eq!(with_pause(7260), (CLIENT, [1, 1], Cause::Status, 1));
    assert_eq!(with_pause(7270), (SERVER, [1, 1], Cause::Start, 2));
    // Argus 3, and argus 5 unless it is asked to, forget it after 65 s.
    let mut wire = Wire::new(8);
    resumed(&mut wire, 10 * MINUTE_NS);
    assert_eq!(summaries(&wire.finish())[1], (SERVER, [1, 1], Cause::Start, 2));
}

#[test]
fn a_connection_goes_on_after_each_of_many_pauses() {
    let mut wire = Wire::remembering(8);
    let (client, mut server) = handshake(&mut wire);
    for _ in 0..5 {
        wire.pause(100 * MINUTE_NS);
        wire.segment(1, (server, client), flag::ACK, b"news");
        server += 4;
    }
    let records = wire.finish();
    assert_eq!(records.len(), 6);
    assert!(records.iter().all(|record| record.key.source_port == CLIENT));
    assert!(records.iter().all(|record| tcp(record).destination.retransmitted == 0));
}

/// RFC 9293 §3.5: one end has forgotten the connection, and begins another one.
#[test]
fn a_syn_after_a_pause_begins_another_connection() {
    for end in [0, 1] {
        let mut wire = Wire::remembering(8);
        handshake(&mut wire);
        wire.pause(10 * MINUTE_NS);
        wire.segment(end, (77_000, 0), flag::SYN, b"");
        wire.segment(1 - end, (88_000, 77_001), flag::SYN | flag::ACK, b"");
        wire.segment(end, (77_001, 88_001), flag::ACK, b"");
        let records = wire.finish();
        let source = [CLIENT, SERVER][end as usize];
        let expected = [(CLIENT, [2, 1], Cause::Start, 1), (source, [2, 1], Cause::Start, 2)];
        assert_eq!(summaries(&records), expected);
        let tcp = tcp(&records[1]);
        assert_eq!((tcp.syn_ack_us, tcp.ack_data_us), (1000, 1000));
        assert_eq!(tcp.source.retransmitted, 0);
    }
}

/// Only the half of an asymmetric path is seen.
#[test]
fn a_syn_ack_after_a_pause_begins_another_connection() {
    let mut wire = Wire::remembering(8);
    handshake(&mut wire);
    wire.pause(10 * MINUTE_NS);
    wire.segment(1, (88_000, 77_001), flag::SYN | flag::ACK, b"");
    let records = wire.finish();
    assert_eq!(summaries(&records)[1], (SERVER, [1, 0], Cause::Start, 2));
    assert_eq!(tcp(&records[1]).status, tcp_status::SAW_SYN_ACK);
}

#[test]
fn what_has_ended_or_never_begun_is_not_remembered() {
    let count = |segments: &[(u32, u8)]| {
        let mut wire = Wire::remembering(8);
        for (end, flags) in segments {
            wire.segment(*end, (100, 100), *flags, b"");
        }
        wire.pause(10 * MINUTE_NS);
        let counts = wire.flows.counts();
        assert_eq!(counts.tracked, 0);
        counts.fallow
    };
    let (syn, ack, fin) = (flag::SYN, flag::ACK, flag::FIN | flag::ACK);
    assert_eq!(count(&[(0, syn)]), 0, "nobody has answered");
    assert_eq!(count(&[(0, syn), (1, flag::RST | ack)]), 0, "refused");
    assert_eq!(count(&[(0, ack), (1, ack), (0, fin), (1, fin), (0, ack)]), 0, "closed");
    assert_eq!(count(&[(0, ack), (1, flag::RST)]), 0, "reset");
    assert_eq!(count(&[(0, ack), (1, ack), (0, fin), (1, ack)]), 1, "half closed");
    assert_eq!(count(&[(1, syn | ack)]), 1, "the SYN came another way");
    assert_eq!(count(&[(0, ack)]), 1, "it was there before");
}

#[test]
fn other_protocols_are_not_remembered() {
    let mut wire = Wire::remembering(8);
    wire.send(ip(0, protocol::UDP, &[0, 9, 0, 10, 0, 8, 0, 0]));
    wire.pause(10 * MINUTE_NS);
    let counts = wire.flows.counts();
    assert_eq!((counts.tracked, counts.fallow), (0, 0));
}

/// Connections that are remembered have room that nobody else needs.
#[test]
fn remembered_connections_are_the_first_to_go() {
    let mut wire = Wire::remembering(4);
    let send = |wire: &mut Wire, port: u8| {
        let mut bytes = segment(0, (100, 100), flag::ACK, b"");
        bytes[1] = port;
        wire.send(ip(0, protocol::TCP, &bytes));
    };
    for port in 0..4 {
        send(&mut wire, port);
        wire.pause(SECOND_NS);
    }
    wire.pause(10 * MINUTE_NS);
    assert_eq!((wire.flows.counts().tracked, wire.flows.counts().fallow), (0, 4));
    // The oldest one makes room, and the second continues.
    send(&mut wire, 9);
    send(&mut wire, 1);
    let counts = wire.flows.counts();
    assert_eq!((counts.tracked, counts.fallow), (2, 2));
    assert_eq!((counts.forgotten, counts.evicted), (1, 0));
    for port in 10..100 {
        send(&mut wire, port);
    }
    let counts = wire.flows.counts();
    assert_eq!((counts.tracked, counts.fallow, counts.forgotten), (4, 0, 3));
    assert_eq!(counts.evicted, 88);
    let records = wire.finish();
    let packets = records.iter().map(|record| record.source.packets).sum::<u64>();
    assert_eq!(packets, 4 + 2 + 90, "each packet has a record");
}
