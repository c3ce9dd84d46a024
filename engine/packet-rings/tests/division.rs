//! Packets that several sockets divide, at an interface and at a port.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::net::UdpSocket;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{
    LEFT, PATIENCE, RIGHT, Sender, all, enter_namespace, ip, options, started, tagged, until,
};
use panoptes_bounded as bounded;
use panoptes_decoders::packet::mirror::Mirror;
use panoptes_decoders::packet::program::Instruction;
use panoptes_packet_rings::{
    Division, Group, Interface, InterfaceError, InterfaceOptions, MirrorOptions, MirrorSocket,
};

const PARTS: usize = 3;

/// A frame with the header of IP between two hosts with these numbers, and a number.
fn frame(number: u16, source: u8, destination: u8, is_v6: bool) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8];
    if is_v6 {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, 17, 64]);
        for host in [source, destination] {
            frame.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, host]);
        }
    } else {
        frame.extend([8, 0, 0x45, 0, 0, 28, 0, 1, 0, 0, 64, 17, 0, 0]);
        for host in [source, destination] {
            frame.extend([10, 1, 0, host]);
        }
    }
    frame.extend([0, 9, 0, 9, 0, 8]);
    frame.extend(number.to_be_bytes());
    frame
}

/// The part to which such a frame belongs.
fn part_of(division: &Division, source: u8, destination: u8, is_v6: bool) -> usize {
    let network = if is_v6 { 0x2001_0db8_u128 << 96 | 0x100 } else { 0x0a01_0000 };
    let [source, destination] = [source, destination].map(|host| network | u128::from(host));
    division.part_of(source, destination)
}

/// Frames between many hosts, in both directions, with up to two tags, and the part of each.
fn frames(division: &Division) -> Vec<(Vec<u8>, usize)> {
    let mut frames = Vec::new();
    for host in 1..=60 {
        for (is_v6, (source, destination)) in
            [false, true].into_iter().flat_map(|is_v6| [(is_v6, (host, 200)), (is_v6, (200, host))])
        {
            let part = part_of(division, source, destination, is_v6);
            let plain = frame(frames.len() as u16, source, destination, is_v6);
            let frame = match host % 3 {
                0 => plain,
                1 => tagged(0x8100, 7, &plain),
                _ => tagged(0x88a8, 8, &tagged(0x8100, 7, &plain)),
            };
            frames.push((frame, part));
        }
    }
    frames
}

/// The parts of an interface from the first one to this.
fn joined(
    options: &InterfaceOptions,
    division: &Division,
    group: &Group,
    count: usize,
) -> Vec<Interface> {
    let join = |part| {
        let mut interface = Interface::open(options).unwrap();
        interface.start_part(&[], (division, part), group).unwrap();
        interface
    };
    (0..count).map(join).collect()
}

/// Each interface has the frames of its part, in their order.
#[track_caller]
fn assert_divided(parts: &mut [Interface], frames: &[(Vec<u8>, usize)]) {
    for (number, interface) in parts.iter_mut().enumerate() {
        let seen: Vec<_> = all(interface).into_iter().map(|(bytes, _)| bytes).collect();
        let its = frames.iter().filter(|(_, part)| *part == number);
        let expected: Vec<_> = its.map(|(frame, _)| frame.clone()).collect();
        assert!(!expected.is_empty());
        assert!(seen == expected, "{number}: {} {}", seen.len(), expected.len());
        assert_eq!(interface.losses().dropped, 0);
    }
}

/// Whether both ends of the pair have a carrier: without it, the kernel drops what is sent.
fn is_up() -> bool {
    [LEFT, RIGHT].iter().all(|name| {
        let output = bounded::output(Command::new("ip").args(["link", "show", name])).unwrap();
        String::from_utf8_lossy(&output.stdout).contains("state UP")
    })
}

#[test]
fn each_packet_comes_to_its_part_alone() {
    if !enter_namespace() {
        return;
    }
    let division = Division::new(PARTS, 0x1234_5678_9abc_def1);
    let groups = [Group::default(), Group::default(), Group::default()];
    // Where they are received, where they are sent, and both at once.
    let mut right = joined(&options(RIGHT), &division, &groups[0], PARTS);
    let mut left = joined(&options(LEFT), &division, &groups[1], PARTS);
    let mut any = joined(&options("any"), &division, &groups[2], PARTS);
    // Another one at the same interface has all of them.
    let mut whole = started(&options(RIGHT));
    let (sender, frames) = (Sender::new(LEFT), frames(&division));
    for (frame, _) in &frames {
        sender.send(frame);
    }
    assert_divided(&mut right, &frames);
    assert_divided(&mut left, &frames);
    assert_eq!(all(&mut whole).len(), frames.len());
    let of_any: usize = any.iter_mut().map(|interface| all(interface).len()).sum();
    assert_eq!(of_any, 2 * frames.len());
}

#[test]
fn packets_come_to_those_that_have_joined() {
    if !enter_namespace() {
        return;
    }
    let (division, group) = (Division::new(PARTS, 7), Group::default());
    let sender = Sender::new(LEFT);
    for count in 1..=PARTS {
        let mut parts = joined(&options(RIGHT), &division, &group, count);
        let frames = frames(&division);
        for (frame, _) in &frames {
            sender.send(frame);
        }
        let seen: usize = parts.iter_mut().map(|interface| all(interface).len()).sum();
        assert_eq!(seen, frames.len(), "{count}");
    }
}

#[test]
fn each_part_has_the_filter() {
    if !enter_namespace() {
        return;
    }
    let (division, group) = (Division::new(2, 9), Group::default());
    // ldh [12]; jeq #0x86dd, accept; reject. One that the kernel refuses is run here: it ends with
    // what the kernel takes for a jump back.
    let of = |code, constant| Instruction { code, constant, ..Instruction::default() };
    let [load, accept, reject] = [of(0x28, 12), of(6, 0x4_0000), of(6, 0)];
    let jump = Instruction { jump_false: 1, ..of(0x15, 0x86dd) };
    let back = of(0x05, (-1_i32).cast_unsigned());
    let (sender, frames) = (Sender::new(LEFT), frames(&division));
    let untagged = |(frame, _): &&(Vec<u8>, usize)| frame[12..14] == [0x86, 0xdd];
    for program in [&[load, jump, accept, reject][..], &[load, jump, accept, reject, back, reject]]
    {
        let mut seen = 0;
        let mut parts = Vec::new();
        for part in 0..2 {
            let mut interface = Interface::open(&options(RIGHT)).unwrap();
            interface.start_part(program, (&division, part), &group).unwrap();
            parts.push(interface);
        }
        for (frame, _) in &frames {
            sender.send(frame);
        }
        for interface in &mut parts {
            seen +=
                all(interface).iter().filter(|(frame, _)| frame[12..14] == [0x86, 0xdd]).count();
        }
        assert_eq!(seen, frames.iter().filter(untagged).count(), "{}", program.len());
    }
}

#[test]
fn parts_join_again_when_the_interface_is_back() {
    if !enter_namespace() {
        return;
    }
    let (division, group) = (Division::new(2, 5), Group::default());
    let mut old = joined(&options(RIGHT), &division, &group, 2);
    assert_eq!(group.generation(), 1);
    ip(&format!("link del {RIGHT}"));
    for interface in &mut old {
        until(|| matches!(interface.check(), Err(InterfaceError::Removed { .. })));
    }
    ip(&format!("link add {LEFT} type veth peer name {RIGHT}"));
    // It is down.
    let mut early = Interface::open(&options(RIGHT)).unwrap();
    let started = early.start_part(&[], (&division, 0), &group);
    assert!(matches!(started, Err(InterfaceError::Down { .. })), "{started:?}");
    assert_eq!(group.generation(), 1);
    for name in [LEFT, RIGHT] {
        ip(&format!("link set {name} up"));
    }
    until(is_up);
    let mut parts = joined(&options(RIGHT), &division, &group, 2);
    assert_eq!(group.generation(), 2);
    let (sender, frames) = (Sender::new(LEFT), frames(&division));
    for (frame, _) in &frames {
        sender.send(frame);
    }
    assert_divided(&mut parts, &frames);
    // The order of the parts outlives a pause.
    ip(&format!("link set {RIGHT} down"));
    for interface in &mut parts {
        until(|| matches!(interface.check(), Err(InterfaceError::Down { .. })));
    }
    ip(&format!("link set {RIGHT} up"));
    until(is_up);
    for (frame, _) in &frames {
        sender.send(frame);
    }
    assert_divided(&mut parts, &frames);
}

#[test]
fn each_datagram_comes_to_its_part_alone() {
    let division = Division::new(PARTS, 0x0fed_cba9_8765_4321);
    let options = MirrorOptions {
        name: "udp".to_owned(),
        mirror: Mirror::Vxlan,
        address: ([127, 0, 0, 1], 0).into(),
        snap_length: 256,
        buffer_bytes: 1 << 20,
    };
    let mut parts = MirrorSocket::open_parts(&options, &division).unwrap();
    let address = parts[0].address().unwrap();
    for part in &mut parts {
        assert_eq!(part.address().unwrap(), address);
        part.start(|_| Some(&[])).unwrap();
    }
    // Two senders, as of both directions.
    let senders = [0, 1].map(|_| UdpSocket::bind("127.0.0.1:0").unwrap());
    let frames = frames(&division);
    for (number, (frame, _)) in frames.iter().enumerate() {
        let datagram = [&[8, 0, 0, 0, 0, 0, 7, 0][..], frame].concat();
        senders[number % 2].send_to(&datagram, address).unwrap();
    }
    for (number, socket) in parts.iter_mut().enumerate() {
        let expected: Vec<_> = frames.iter().filter(|(_, part)| *part == number).collect();
        let (begin, mut seen) = (Instant::now(), Vec::new());
        while seen.len() < expected.len() && begin.elapsed() < PATIENCE {
            match socket.next() {
                Some((_, mirrored)) => seen.push(mirrored.bytes.to_vec()),
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        assert!(seen.iter().eq(expected.iter().map(|(frame, _)| frame)), "{number}");
        assert!(socket.next().is_none());
    }
    // Not even one that would share it has a port that is taken.
    let taken = MirrorOptions { address, ..options };
    assert!(MirrorSocket::open_parts(&taken, &division).is_err());
}
