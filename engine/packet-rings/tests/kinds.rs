//! Interfaces of other kinds than Ethernet, and what happens when an interface changes.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use common::until;
use panoptes_bounded as bounded;

use std::net::UdpSocket;
use std::os::fd::AsFd as _;
use std::time::Duration;

use caps::{CapSet, Capability};
use common::{
    LEFT, RIGHT, Sender, all, enter_namespace, frame, ip, options, started, tagged, wait,
};
use panoptes_packet_rings::{
    Interface, InterfaceError, InterfaceOptions, all as devices, default_name,
};

#[test]
fn a_packet_on_the_loopback_comes_once() {
    if !enter_namespace() {
        return;
    }
    let mut loopback = started(&options("lo"));
    let mut any = started(&options("any"));
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for length in 0..10 {
        socket.send_to(&[7; 10][..length], "127.0.0.1:9").unwrap();
    }
    // Each datagram is answered by "port unreachable", which quotes it (RFC 792).
    let lengths: Vec<usize> = (0..10).flat_map(|length| [28 + length, 28 + 28 + length]).collect();
    for (interface, link, header) in [(&mut loopback, 1, 14), (&mut any, 113, 16)] {
        assert_eq!(interface.link(), link);
        let seen = all(interface);
        let packets: Vec<_> = seen.iter().map(|(bytes, _)| bytes.len() - header).collect();
        // The kernel limits the errors that it sends.
        let datagrams = packets.iter().zip(&seen).filter(|(_, (bytes, _))| bytes[header + 9] == 17);
        let datagrams: Vec<_> = datagrams.map(|(length, _)| *length).collect();
        assert_eq!(datagrams, (28..38).collect::<Vec<_>>());
        assert!(packets.iter().all(|length| lengths.contains(length)), "{packets:?}");
        assert!(seen.iter().all(|(bytes, wire_length)| bytes.len() == *wire_length as usize));
        assert!(seen.iter().all(|(bytes, _)| bytes[header] == 0x45));
    }
}

#[test]
fn the_longest_packets_fit_into_the_smallest_ring() {
    const BYTES: usize = 65_507; // of IPv4 and UDP: 65,535 in all
    if !enter_namespace() {
        return;
    }
    let mut interface =
        started(&InterfaceOptions { ring_bytes: 0, hardware_time: true, ..options("lo") });
    assert!(!interface.has_hardware_time(), "the loopback has no clock");
    let to = UdpSocket::bind("127.0.0.1:0").unwrap();
    let data: Vec<u8> = (0..BYTES).map(|at| (at * at / 256) as u8).collect();
    for _ in 0..10 {
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.send_to(&data, to.local_addr().unwrap()).unwrap();
        let mut seen = all(&mut interface);
        let (bytes, wire_length) = seen.pop().unwrap();
        assert_eq!((seen.len(), bytes.len(), wire_length as usize), (0, 14 + 65_535, 14 + 65_535));
        assert!(bytes[42..] == data);
    }
}

#[test]
fn all_interfaces_at_once_have_cooked_headers() {
    if !enter_namespace() {
        return;
    }
    let mut any = started(&options("any"));
    assert_eq!(any.link(), 113);
    let sent = frame(5, 80);
    let sender = Sender::new(LEFT);
    sender.send(&sent);
    sender.send(&tagged(0x88a8, 0x2064, &sent));
    let mut indexes = Vec::new();
    let mut seen = Vec::new();
    common::receive(&mut any, |frame| {
        indexes.push(frame.interface);
        seen.push((frame.bytes.to_vec(), frame.wire_length));
        true
    });
    // LINKTYPE_LINUX_SLL: type, hardware 1, 6 bytes of address, protocol. Sent (4), and received by
    // all (1).
    let header = |kind| [0, kind, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0];
    let plain = |kind| [&header(kind)[..], &sent[12..]].concat();
    let with_tag = |kind| [&header(kind)[..], &[0x88, 0xa8, 0x20, 0x64], &sent[12..]].concat();
    let expected = [plain(4), plain(1), with_tag(4), with_tag(1)];
    let bytes: Vec<_> = seen.iter().map(|(bytes, _)| bytes.clone()).collect();
    assert_eq!(bytes, expected);
    assert!(seen.iter().all(|(bytes, wire_length)| bytes.len() == *wire_length as usize));
    let index =
        |name| devices().unwrap().into_iter().find(|device| device.name == name).unwrap().index;
    assert_eq!(indexes, [LEFT, RIGHT, LEFT, RIGHT].map(index));
}

#[test]
fn only_packets_from_after_the_start_come() {
    if !enter_namespace() {
        return;
    }
    let sender = Sender::new(LEFT);
    let mut interface = Interface::open(&options(RIGHT)).unwrap();
    sender.send(&frame(1, 60));
    assert!(!wait(&interface, Duration::from_millis(100)));
    assert_eq!(interface.next(), None);
    interface.start(&[]).unwrap();
    sender.send(&frame(2, 60));
    let seen = all(&mut interface);
    assert_eq!(seen, [(frame(2, 60), 60)]);
    assert_eq!(interface.losses().received, 1);
}

#[test]
fn an_interface_that_goes_down_is_reported_once() {
    if !enter_namespace() {
        return;
    }
    let mut interface = started(&options(RIGHT));
    let sender = Sender::new(LEFT);
    sender.send(&frame(1, 60));
    // A busy kernel delivers later, and an interface that is down receives nothing.
    assert!(wait(&interface, Duration::from_secs(5)));
    ip(&format!("link set {RIGHT} down"));
    // What came before can still be read.
    let mut downs = 0;
    let mut seen = Vec::new();
    while wait(&interface, Duration::from_millis(300)) {
        while let Some(frame) = interface.next() {
            seen.push(frame.bytes.to_vec());
        }
        match interface.check() {
            Ok(()) => {}
            Err(InterfaceError::Down { name }) => {
                assert_eq!(name, RIGHT);
                downs += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((downs, seen), (1, vec![frame(1, 60)]));

    ip(&format!("link set {RIGHT} up"));
    sender.send(&frame(2, 60));
    assert_eq!(all(&mut interface), [(frame(2, 60), 60)]);
    assert!(interface.check().is_ok());

    ip(&format!("link del {RIGHT}"));
    assert!(wait(&interface, Duration::from_secs(5)));
    let error = interface.check().unwrap_err();
    assert_eq!(error.to_string(), format!("network interface {RIGHT} was removed"));
    // No error is left that would end a wait at once.
    assert!(!wait(&interface, Duration::from_millis(100)));
    assert!(interface.check().is_ok() && interface.next().is_none());

    ip(&format!("link add {LEFT} type veth peer name {RIGHT}"));
    let mut again = Interface::open(&options(RIGHT)).unwrap();
    let error = again.start(&[]).unwrap_err().to_string();
    assert!(error.starts_with("network interface right0 is down"), "{error}");
    ip(&format!("link set {LEFT} up"));
    ip(&format!("link set {RIGHT} up"));
    let sender = Sender::new(LEFT);
    // The carrier comes a little later.
    until(|| {
        sender.send(&frame(3, 60));
        again.next().is_some_and(|seen| seen.bytes == frame(3, 60))
    });
}

#[test]
fn errors_say_what_is_missing() {
    let error = Interface::open(&options("no such one")).unwrap_err().to_string();
    assert!(error.starts_with("there is no network interface no such one:"), "{error}");
    if !enter_namespace() {
        return;
    }
    // This thread alone loses it.
    caps::drop(None, CapSet::Effective, Capability::CAP_NET_RAW).unwrap();
    let error = Interface::open(&options("lo")).unwrap_err().to_string();
    assert_eq!(error, "no permission to capture on lo: run as root, or with CAP_NET_RAW");
}

#[test]
fn interfaces_are_listed_and_the_first_that_runs_is_the_default() {
    if !enter_namespace() {
        return;
    }
    ip(&format!("address add 10.9.9.1/24 dev {LEFT} label {LEFT}:1"));
    let devices = devices().unwrap();
    let names: Vec<_> = devices.iter().map(|device| device.name.as_str()).collect();
    assert_eq!(names, ["lo", RIGHT, LEFT]);
    assert_eq!(devices.iter().map(|device| device.hardware).collect::<Vec<_>>(), [772, 1, 1]);
    assert!(devices.iter().all(|device| device.is_up && device.is_running));
    assert_eq!(default_name().unwrap().as_deref(), Some(RIGHT));
    // The other end has no carrier then.
    ip(&format!("link set {RIGHT} down"));
    until(|| default_name().unwrap().is_none());
}

#[test]
fn a_promiscuous_interface_is_so_while_it_is_open() {
    if !enter_namespace() {
        return;
    }
    let promiscuity = || {
        let show = ["-d", "link", "show", RIGHT];
        let output = bounded::output(std::process::Command::new("ip").args(show)).unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_once("promiscuity ").unwrap().1.chars().next().unwrap()
    };
    let interface = started(&options(RIGHT));
    assert_eq!(promiscuity(), '1');
    drop(interface);
    assert_eq!(promiscuity(), '0');
    let interface = started(&InterfaceOptions { promiscuous: false, ..options(RIGHT) });
    assert_eq!(promiscuity(), '0');
    assert!(interface.as_fd().try_clone_to_owned().is_ok());
}
