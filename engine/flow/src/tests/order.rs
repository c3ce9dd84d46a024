//! Handshakes whose segments come in any order: from several points, or on several ways to one.

use super::*;

const CLIENT: u32 = 5000;
const SERVER: u32 = 90_000;

/// A segment of the connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Part {
    Syn,
    SynAck,
    Ack,
    /// Seven bytes of the client, and six of the server.
    Request,
    Answer,
}

use Part::{Ack, Answer, Request, Syn, SynAck};

/// Sends parts. With `stamps`, each has the time in milliseconds at which it was sent: 0, 20, 50,
/// 60 and 90; else a millisecond passes from one to the next.
fn send(wire: &mut Wire, parts: &[Part], stamps: bool) {
    for part in parts {
        let (end, numbers, flags, data, milliseconds) = match part {
            Syn => (0, (CLIENT, 0), flag::SYN, &b""[..], 0),
            SynAck => (1, (SERVER, CLIENT + 1), flag::SYN | flag::ACK, &b""[..], 20),
            Ack => (0, (CLIENT + 1, SERVER + 1), flag::ACK, &b""[..], 50),
            Request => (0, (CLIENT + 1, SERVER + 1), flag::ACK, &b"request"[..], 60),
            Answer => (1, (SERVER + 1, CLIENT + 8), flag::ACK, &b"answer"[..], 90),
        };
        if stamps {
            wire.now_ns = BEGIN_NS + milliseconds * 1_000_000;
        }
        wire.segment(end, numbers, flags, data);
    }
}

fn record_of(parts: &[Part], stamps: bool) -> FlowRecord {
    let mut wire = Wire::new(8);
    send(&mut wire, parts, stamps);
    let records = wire.finish();
    let [record] = records[..] else { panic!("one flow of {parts:?}: {records:?}") };
    record
}

const ORDERS: [[Part; 3]; 6] = [
    [Syn, SynAck, Ack],
    [Syn, Ack, SynAck],
    [SynAck, Syn, Ack],
    [SynAck, Ack, Syn],
    [Ack, Syn, SynAck],
    [Ack, SynAck, Syn],
];

/// RFC 9293 §3.5: who sends the SYN opens the connection.
#[test]
fn a_handshake_in_any_order_has_its_direction_state_and_times() {
    for order in ORDERS {
        for behind in [&[][..], &[Request, Answer]] {
            let parts = [&order[..], behind].concat();
            let record = record_of(&parts, true);
            let tcp = tcp(&record);
            assert_eq!((record.key.source_port, record.key.destination_port), (40_000, 80));
            let packets = [record.source.packets, record.destination.packets];
            let data = behind.len() as u64 / 2;
            assert_eq!(packets, [2 + data, 1 + data], "{parts:?}");
            let seen = tcp_status::SAW_SYN | tcp_status::SAW_SYN_ACK | tcp_status::ESTABLISHED;
            assert_eq!(tcp.status, seen, "{parts:?}");
            assert_eq!(tcp.state, TcpState::Established);
            assert_eq!((tcp.syn_ack_us, tcp.ack_data_us), (20_000, 30_000), "{parts:?}");
            for (side, base) in [(&tcp.source, CLIENT), (&tcp.destination, SERVER)] {
                assert_eq!((side.retransmitted, side.sequence_base), (0, base), "{parts:?}");
            }
        }
    }
}

/// An answer before its question has no duration.
#[test]
fn times_that_go_back_are_no_durations() {
    // A millisecond passes from one to the next.
    let times = |order: [Part; 3]| {
        let record = record_of(&order, false);
        (tcp(&record).syn_ack_us, tcp(&record).ack_data_us)
    };
    let expected = [(1000, 1000), (2000, 0), (0, 2000), (0, 1000), (1000, 0), (0, 0)];
    assert_eq!(ORDERS.map(times), expected);
}

#[test]
fn a_syn_behind_data_tells_who_began() {
    for parts in [
        &[Request, Syn, SynAck, Answer][..],
        &[Request, Answer, SynAck, Syn],
        &[SynAck, Request, Syn],
        &[Ack, Request, Answer, Syn],
    ] {
        let record = record_of(parts, true);
        let bits = tcp(&record).status;
        let source = record.key.source_port;
        // Readers take the destination for who began if only the answer was seen.
        let begins = if bits & tcp_status::SAW_SYN != 0 { source } else { 40_000 + 80 - source };
        assert_eq!(begins, 40_000, "{parts:?}");
        assert_ne!(bits & (tcp_status::SAW_SYN | tcp_status::SAW_SYN_ACK), 0, "{parts:?}");
        let ends = [&tcp(&record).source, &tcp(&record).destination];
        assert_eq!(ends.map(|end| end.retransmitted), [0, 0], "{parts:?}");
    }
}

#[test]
fn a_syn_that_is_sent_again_is_still_counted() {
    for order in ORDERS {
        let parts = [&order[..], &[Syn], &[Request]].concat();
        assert_eq!(tcp(&record_of(&parts, false)).source.retransmitted, 1, "{order:?}");
        let parts = [&order[..], &[SynAck], &[Request]].concat();
        assert_eq!(tcp(&record_of(&parts, false)).destination.retransmitted, 1, "{order:?}");
    }
}

#[test]
fn a_syn_with_another_number_is_of_no_handshake_behind_it() {
    let mut wire = Wire::new(8);
    send(&mut wire, &[Ack, Request], false);
    wire.segment(0, (77_777, 0), flag::SYN, b"");
    let record = wire.finish()[0];
    assert_eq!(tcp(&record).status & tcp_status::SAW_SYN, 0);
}

/// All records of a flow have the same source.
#[test]
fn a_flow_with_a_record_is_not_turned_round() {
    let mut wire = Wire::new(8);
    send(&mut wire, &[SynAck], false);
    wire.now_ns += 6 * SECOND_NS;
    send(&mut wire, &[Syn, Ack], false);
    let records = wire.finish();
    let sources: Vec<_> = records.iter().map(|record| record.key.source_port).collect();
    assert_eq!(sources, [80, 80]);
    // Readers take who gets the answer for who began.
    let bits = tcp(&records[1]).status & (tcp_status::SAW_SYN | tcp_status::SAW_SYN_ACK);
    assert_eq!(bits, tcp_status::SAW_SYN_ACK);
}

#[test]
fn what_is_kept_of_each_end_turns_round_with_it() {
    let mut wire = Wire::new(8);
    send(&mut wire, &[SynAck, Syn, Ack, Request, Answer], true);
    wire.flows.finish(&mut wire.kept);
    assert_eq!(wire.kept.0[0].1, [b"request".to_vec(), b"answer".to_vec()]);
}

/// Answers to SYNs with forged addresses show one end only.
#[test]
fn an_end_that_is_not_seen_has_no_durations() {
    let mut wire = Wire::new(8);
    for number in [SERVER, SERVER + 9000] {
        wire.segment(1, (number, CLIENT + 1), flag::SYN | flag::ACK, b"");
    }
    let records = wire.finish();
    assert!(!records.is_empty());
    for record in &records {
        assert_eq!((tcp(record).syn_ack_us, tcp(record).ack_data_us), (0, 0));
    }
}

/// It is of another connection, or a feint: nothing was sent twice.
#[test]
fn a_syn_with_another_number_is_no_retransmission() {
    let mut wire = Wire::new(8);
    send(&mut wire, &[Syn, SynAck, Ack], false);
    wire.segment(0, (CLIENT + 70_000, 0), flag::SYN, b"");
    send(&mut wire, &[Request, Answer], false);
    let records = wire.finish();
    assert_eq!(records.iter().map(|record| tcp(record).source.retransmitted).sum::<u32>(), 0);
}
