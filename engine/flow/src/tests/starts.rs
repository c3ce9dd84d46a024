//! Which SYN begins a connection, and which data was sent again.

use super::*;

/// The numbers of the connection.
const CLIENT: u32 = 5000;
const SERVER: u32 = 90_000;
/// That of another one.
const OTHER: u32 = 0x7000_0000;

/// The answer, the end of the handshake, data of both ends.
fn go_on(wire: &mut Wire) {
    wire.segment(1, (SERVER, CLIENT + 1), flag::SYN | flag::ACK, b"");
    wire.segment(0, (CLIENT + 1, SERVER + 1), flag::ACK, b"");
    wire.segment(0, (CLIENT + 1, SERVER + 1), flag::ACK, b"request");
    wire.segment(1, (SERVER + 1, CLIENT + 8), flag::ACK, b"answer");
    wire.segment(0, (CLIENT + 8, SERVER + 7), flag::ACK, b"");
}

#[track_caller]
fn assert_is_whole(record: &FlowRecord) {
    let tcp = tcp(record);
    assert_eq!((tcp.syn_ack_us, tcp.ack_data_us), (1000, 1000));
    for side in [&tcp.source, &tcp.destination] {
        assert_eq!((side.retransmitted, side.in_flight), (0, 0), "{tcp:?}");
    }
    assert_eq!(tcp.source.sequence_base, CLIENT);
    assert_eq!(tcp.state, TcpState::Established);
}

/// RFC 9293 §3.5: a SYN with another number is of another connection.
#[test]
fn a_syn_that_nobody_answers_is_no_part_of_the_connection() {
    let mut wire = Wire::new(8);
    wire.segment(0, (OTHER, 0), flag::SYN, b"");
    wire.segment(0, (CLIENT, 0), flag::SYN, b"");
    go_on(&mut wire);
    let records = wire.finish();
    let [record] = &records[..] else { panic!("one flow: {records:?}") };
    assert_eq!(record.source.packets, 5);
    assert_is_whole(record);
}

#[test]
fn a_second_syn_that_is_answered_begins_anew() {
    let mut wire = Wire::new(8);
    wire.segment(0, (OTHER, 0), flag::SYN, b"");
    wire.segment(1, (77, OTHER + 1), flag::SYN | flag::ACK, b"");
    wire.segment(0, (CLIENT, 0), flag::SYN, b"");
    go_on(&mut wire);
    assert_is_whole(&wire.finish()[0]);
}

#[test]
fn a_syn_with_the_same_number_is_sent_again() {
    let mut wire = Wire::new(8);
    for _ in 0..3 {
        wire.segment(0, (CLIENT, 0), flag::SYN, b"");
    }
    go_on(&mut wire);
    assert_eq!(tcp(&wire.finish()[0]).source.retransmitted, 2);
}

#[test]
fn a_connection_behind_a_refusal_is_another_one() {
    let mut wire = Wire::new(8);
    wire.segment(0, (OTHER, 0), flag::SYN, b"");
    wire.segment(1, (0, OTHER + 1), flag::ACK | flag::RST, b"");
    wire.segment(0, (CLIENT, 0), flag::SYN, b"");
    go_on(&mut wire);
    let records = wire.finish();
    let [refused, connection] = &records[..] else { panic!("two flows: {records:?}") };
    assert_eq!((refused.source.packets, refused.destination.packets), (1, 1));
    assert_ne!(tcp(refused).status & tcp_status::RESET, 0);
    assert_eq!((connection.source.packets, connection.destination.packets), (4, 2));
    assert_is_whole(connection);
    // A second try with the same number is of the same flow.
    let mut wire = Wire::new(8);
    for _ in 0..3 {
        wire.segment(0, (CLIENT, 0), flag::SYN, b"");
        wire.segment(1, (0, CLIENT + 1), flag::ACK | flag::RST, b"");
    }
    assert_eq!(wire.finish().len(), 1);
}

/// Sends data by their offsets, each some milliseconds after the last one, with identifications.
fn retransmitted(segments: impl IntoIterator<Item = (u32, i64, u16)>) -> u32 {
    let mut wire = Wire::new(8);
    let (client, server) = handshake(&mut wire);
    for (offset, milliseconds, id) in segments {
        wire.now_ns += milliseconds * 1_000_000;
        let numbers = (client.wrapping_add(offset), server);
        let bytes = segment(0, numbers, flag::ACK, &[0; 10]);
        wire.send(Ip { id, ..ip(0, protocol::TCP, &bytes) });
    }
    let records = wire.finish();
    records.iter().map(|record| tcp(record).source.retransmitted).sum()
}

/// While a host says nothing here, its counter of packets goes round.
#[test]
fn identifications_tell_nothing_after_a_pause() {
    let repeated = [(10, 400, 0xd7da), (10, 1200, 0xd855), (10, 2800, 0xd8c6)];
    let with = |first: u16| {
        let begin = [(0, 0, first), (10, 3000, 0xd7a7)];
        retransmitted(begin.into_iter().chain(repeated))
    };
    assert_eq!(with(0xe651), 3, "behind the counter");
    assert_eq!(with(0xd700), 3, "before it");
}

#[test]
fn identifications_of_hosts_that_do_not_count_tell_nothing() {
    // A generator of which nothing is asked but that it does not count.
    let mut id = 1_u32;
    let mut next = move || {
        id = id.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        (id >> 16) as u16 | 1
    };
    let mut all = Vec::new();
    for number in 0..200 {
        all.push((number * 10, 5, next()));
        all.push((number * 10, 60, next()));
    }
    let count = retransmitted(all);
    assert!((198..=200).contains(&count), "{count}");
}

#[test]
fn times_in_any_order_give_the_first_and_the_last() {
    let mut wire = Wire::new(8);
    for milliseconds in [10_000, 5_000, 7_000] {
        wire.now_ns = BEGIN_NS + milliseconds * 1_000_000;
        wire.send(ip(0, protocol::UDP, &[0, 9, 0, 10, 0, 8, 0, 0]));
    }
    let (first, last) = wire.finish()[0].times();
    assert_eq!([first, last].map(|time| (time - BEGIN_NS) / 1_000_000), [5001, 10_001]);
}

#[test]
fn a_handshake_whose_times_go_back_has_no_duration() {
    let mut wire = Wire::new(8);
    let mut send = |milliseconds: i64, end: u32, numbers: (u32, u32), flags: u8| {
        wire.now_ns = BEGIN_NS + milliseconds * 1_000_000;
        wire.segment(end, numbers, flags, b"");
    };
    send(10_000, 0, (CLIENT, 0), flag::SYN);
    send(9990, 1, (SERVER, CLIENT + 1), flag::SYN | flag::ACK);
    send(9980, 0, (CLIENT + 1, SERVER + 1), flag::ACK);
    let record = wire.finish()[0];
    assert_eq!((tcp(&record).syn_ack_us, tcp(&record).ack_data_us), (0, 0));
    assert_eq!(record.times().0, BEGIN_NS + 9981 * 1_000_000);
}
