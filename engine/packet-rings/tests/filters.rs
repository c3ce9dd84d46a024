//! Filters, in the kernel and here. tcpdump compiled the programs (`tcpdump -ddd`, libpcap 1.10.3).
#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use common::{LEFT, RIGHT, Sender, all, enter_namespace, options, tagged};
use panoptes_decoders::packet::program::Instruction;
use panoptes_packet_rings::{Interface, InterfaceOptions};

/// `udp dst port 53 or arp`, for Ethernet and for LINKTYPE_LINUX_SLL: code, jumps, constant.
const ETHERNET: &str = "40 0 0 12,21 0 4 34525,48 0 0 20,21 0 12 17,40 0 0 56,21 9 10 53,\
    21 0 7 2048,48 0 0 23,21 0 7 17,40 0 0 20,69 5 0 8191,177 0 0 14,72 0 0 16,21 1 2 53,\
    21 0 1 2054,6 0 0 262144,6 0 0 0";
const COOKED: &str = "40 0 0 14,21 0 4 34525,48 0 0 22,21 0 12 17,40 0 0 58,21 9 10 53,\
    21 0 7 2048,48 0 0 25,21 0 7 17,40 0 0 22,69 5 0 8191,177 0 0 16,72 0 0 18,21 1 2 53,\
    21 0 1 2054,6 0 0 262144,6 0 0 0";
/// `less 60` (`ld #pktlen, jgt #60, ret`): the kernel has no cooked header to count.
const SHORT: &str = "128 0 0 0,37 0 1 60,6 0 0 0,6 0 0 262144";
fn program(text: &str) -> Vec<Instruction> {
    let instruction = |text: &str| {
        let numbers: Vec<u32> = text.split(' ').map(|number| number.parse().unwrap()).collect();
        let [code, jump_true, jump_false, constant] = *numbers.as_slice() else { panic!("{text}") };
        let (jump_true, jump_false) = (jump_true as u8, jump_false as u8);
        Instruction { code: code as u16, jump_true, jump_false, constant }
    };
    text.split(',').map(instruction).collect()
}

/// A frame with a datagram of IPv4 to a port (RFC 791, RFC 768), or of IPv6 (RFC 8200).
fn datagram(version: u8, port: u16, data: usize) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    let length = 8 + data as u16;
    if version == 4 {
        frame.extend([8, 0, 0x45, 0]);
        frame.extend((20 + length).to_be_bytes());
        frame.extend([0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    } else {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend(length.to_be_bytes());
        frame.extend([17, 64]);
        frame.extend([1; 32]);
    }
    frame.extend([0x30, 0x39]);
    frame.extend(port.to_be_bytes());
    frame.extend(length.to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(vec![0x61; data]);
    frame
}

fn arp() -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend([2, 0, 0, 0, 0, 1, 8, 6]);
    frame.extend([0; 28]);
    frame
}

fn filtered(options: &InterfaceOptions, text: &str) -> Interface {
    let mut interface = Interface::open(options).unwrap();
    interface.start(&program(text)).unwrap();
    interface
}

#[test]
fn the_kernel_runs_filters() {
    if !enter_namespace() {
        return;
    }
    let mut interface = filtered(&InterfaceOptions { snap_length: 50, ..options(RIGHT) }, ETHERNET);
    // A cooked header has no destination, so its packets are compared from the protocol on.
    let mut any = filtered(&options("any"), COOKED);
    let sender = Sender::new(LEFT);
    let wanted = [datagram(4, 53, 30), arp(), datagram(6, 53, 2), datagram(4, 53, 0)];
    let tagged_one = tagged(0x8100, 7, &wanted[0]);
    for frame in &wanted {
        sender.send(frame);
        sender.send(&datagram(4, 54, 30));
        sender.send(&datagram(6, 54, 30));
    }
    sender.send(&tagged_one);
    let mut wanted = wanted.to_vec();
    wanted.push(tagged_one);
    let seen = all(&mut interface);
    assert_eq!(seen.len(), wanted.len());
    for ((bytes, wire_length), wanted) in seen.iter().zip(&wanted) {
        assert_eq!(bytes, &wanted[..wanted.len().min(50)]);
        assert_eq!(*wire_length as usize, wanted.len());
    }
    let losses = interface.losses();
    assert_eq!((losses.received, losses.dropped), (wanted.len() as u64, 0), "filtered outside");
    // Each is seen where it is sent and where it is received. Only where it is received the kernel
    // has removed the tag.
    let seen: Vec<_> = all(&mut any).into_iter().map(|(bytes, _)| bytes[14..].to_vec()).collect();
    let twice = wanted.iter().flat_map(|frame| [frame[12..].to_vec(), frame[12..].to_vec()]);
    let twice: Vec<_> = twice.take(2 * wanted.len() - 1).collect();
    assert_eq!(seen, twice);
    assert_eq!(any.losses().received, twice.len() as u64, "filtered outside of the kernel");
}

#[test]
fn filters_that_the_kernel_cannot_run_are_run_here() {
    if !enter_namespace() {
        return;
    }
    let mut any = filtered(&options("any"), SHORT);
    // Too long for the kernel (BPF_MAXINSNS): loads, and `arp`.
    let long = format!("{}40 0 0 12,21 0 1 2054,6 0 0 262144,6 0 0 0", "0 0 0 1,".repeat(5000));
    let mut long = filtered(&options(RIGHT), &long);
    let sender = Sender::new(LEFT);
    // With a cooked header in place of Ethernet's: 2 bytes more. 28 are IP and UDP.
    let sent = [10, 16, 17, 30].map(|data| datagram(4, 1000, data));
    sender.send_all(&sent);
    sender.send(&arp());
    let seen: Vec<_> = all(&mut any).into_iter().map(|(bytes, _)| bytes.len()).collect();
    assert_eq!(seen, [54, 54, 60, 60, 44, 44]);
    assert_eq!(any.losses().received, 10);
    assert_eq!(all(&mut long), [(arp(), 42)]);
    assert_eq!(long.losses().received, 5);
}
