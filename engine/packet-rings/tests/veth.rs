//! Packets of a pair of virtual Ethernet interfaces, compared with those that were sent.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::time::Duration;

use common::{
    LEFT, RIGHT, Sender, all, enter_namespace, frame, now_ns, number_of, options, receive,
    send_burst, started, tagged,
};
use panoptes_packet_rings::InterfaceOptions;

#[test]
fn frames_of_every_length_arrive_as_they_were_sent() {
    if !enter_namespace() {
        return;
    }
    let mut interface = started(&InterfaceOptions { hardware_time: true, ..options(RIGHT) });
    assert_eq!(interface.link(), 1);
    assert!(!interface.has_hardware_time(), "there is no card");
    let sender = Sender::new(LEFT);
    let sent: Vec<_> = (14..=1514).map(|length| frame(length as u32, length)).collect();
    let begin = now_ns();
    sender.send_all(&sent);
    let end = now_ns();
    let (mut number, mut last) = (0, begin - 1_000_000);
    receive(&mut interface, |frame| {
        assert_eq!(frame.bytes, sent[number], "{number}");
        assert_eq!(frame.wire_length as usize, sent[number].len());
        assert!((last..=end).contains(&frame.time_ns), "{number}: {} {last}", frame.time_ns);
        assert_eq!(frame.link, 1);
        (number, last) = (number + 1, frame.time_ns);
        true
    });
    assert_eq!(number, sent.len());
    let losses = interface.losses();
    assert_eq!((losses.received, losses.dropped), (sent.len() as u64, 0));
}

#[test]
fn tags_are_where_they_were_sent() {
    if !enter_namespace() {
        return;
    }
    let plain = frame(7, 100);
    let mut sent = vec![plain.clone()];
    for kind in [0x8100, 0x88a8] {
        // The lowest tag, one with a priority, the highest; two tags; the shortest and longest.
        sent.extend([0, 0x6005, 0xffff].map(|tag| tagged(kind, tag, &plain)));
        sent.push(tagged(kind, 100, &tagged(0x8100, 200, &plain)));
        // The kernel drops a tagged frame without a byte of content.
        sent.push(tagged(kind, 9, &frame(8, 16)));
        // With a tag of 802.1ad the longest frame has no more bytes.
        let longest = if kind == 0x8100 { 1514 } else { 1510 };
        sent.push(tagged(kind, 9, &frame(8, longest)));
    }
    // Those that are received, and those that are sent.
    let (mut right, mut left) = (started(&options(RIGHT)), started(&options(LEFT)));
    let sender = Sender::new(LEFT);
    sender.send_all(&sent);
    for interface in [&mut right, &mut left] {
        let seen = all(interface);
        assert_eq!(seen.len(), sent.len());
        for ((bytes, wire_length), sent) in seen.iter().zip(&sent) {
            assert_eq!(bytes, sent);
            assert_eq!(*wire_length as usize, sent.len());
        }
    }
}

#[test]
fn packets_are_cut_at_the_snap_length() {
    if !enter_namespace() {
        return;
    }
    for snap in [1_usize, 11, 12, 13, 14, 18, 64] {
        let mut interface =
            started(&InterfaceOptions { snap_length: snap as u32, ..options(RIGHT) });
        let sender = Sender::new(LEFT);
        let sent = [frame(1, 60), frame(2, 1000), tagged(0x8100, 5, &frame(3, 500))];
        sender.send_all(&sent);
        let seen = all(&mut interface);
        assert_eq!(seen.len(), sent.len());
        for ((bytes, wire_length), sent) in seen.iter().zip(&sent) {
            // A packet that is cut before its tag is as the kernel has it, without the tag.
            let is_short = snap < 12;
            assert_eq!(bytes, &sent[..snap.min(sent.len())], "{snap}");
            let missing = if is_short && sent[12] == 0x81 { 4 } else { 0 };
            assert_eq!(*wire_length as usize, sent.len() - missing);
        }
    }
}

#[test]
fn a_burst_arrives_whole_and_in_order() {
    const FRAMES: u32 = 200_000;
    if !enter_namespace() {
        return;
    }
    let mut interface = started(&options(RIGHT));
    let sending = send_burst(FRAMES);
    let (mut next, mut last) = (0, 0);
    let expected = frame(0, 96);
    receive(&mut interface, |frame| {
        let number = number_of(frame.bytes);
        assert_eq!(number, next);
        assert_eq!(frame.bytes[18..], expected[18..]);
        assert!(frame.time_ns >= last);
        (next, last) = (next + 1, frame.time_ns);
        true
    });
    sending.join().unwrap();
    assert_eq!(next, FRAMES);
    let losses = interface.losses();
    assert_eq!((losses.received, losses.dropped), (u64::from(FRAMES), 0));
}

#[test]
fn losses_are_counted_while_the_reader_stalls() {
    const FRAMES: u64 = 20_000;
    if !enter_namespace() {
        return;
    }
    let mut interface = started(&InterfaceOptions { ring_bytes: 1, ..options(RIGHT) });
    let sender = Sender::new(LEFT);
    let mut total = 0;
    for turn in 1..=3 {
        for number in 0..FRAMES {
            sender.send(&frame(number as u32, 200));
        }
        let mut numbers = Vec::new();
        receive(&mut interface, |frame| {
            numbers.push(number_of(frame.bytes));
            true
        });
        // What fitted into the ring came first, and nothing came twice.
        assert!(numbers.is_sorted_by(|a, b| a < b));
        total += numbers.len() as u64;
        let losses = interface.losses();
        // How many fit depends on the pace of the sender: the kernel also retires blocks by time.
        assert!(!numbers.is_empty() && losses.dropped > 0, "{losses:?}");
        assert_eq!(losses.received, turn * FRAMES);
        assert_eq!(total + losses.dropped, turn * FRAMES);
    }
    assert_eq!(interface.losses(), interface.losses());
}

/// The kernel closes a block after some time, with however few packets in it.
#[test]
fn few_packets_do_not_fill_a_ring_that_is_not_read() {
    const FRAMES: u32 = 100;
    if !enter_namespace() {
        return;
    }
    let block_timeout = Duration::from_millis(1);
    let mut interface = started(&InterfaceOptions { block_timeout, ..options(RIGHT) });
    let sender = Sender::new(LEFT);
    for number in 0..FRAMES {
        sender.send(&frame(number, 200));
        // A tick of the slowest kernel clock is 10 ms: each packet has a block of its own.
        std::thread::sleep(Duration::from_millis(12));
    }
    let mut numbers = Vec::new();
    receive(&mut interface, |frame| {
        numbers.push(number_of(frame.bytes));
        true
    });
    assert_eq!(numbers, (0..FRAMES).collect::<Vec<_>>());
    assert_eq!(interface.losses().dropped, 0);
}
