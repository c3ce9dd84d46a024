//! Prints what reading a packet from the ring costs.
//!
//! ```text
//! cargo run --release -p panoptes-packet-rings --example live_speed [BYTES]    # as root
//! ```
//!
//! It makes a network namespace with a pair of interfaces, and fills the ring with packets of 96 or
//! `BYTES` bytes. It measures how long it takes to read their first bytes, and to read each line of
//! the CPU's cache. Then it sends and reads at the same time. Last, it measures the same of XDP.
#![allow(clippy::unwrap_used, reason = "an example may")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use common::{LEFT, RIGHT, Sender, enter_namespace, frame, options, receive, started, wait};
use panoptes_packet_rings::{Interface, InterfaceOptions, XdpInterface};

/// Packets in the ring while only reading is measured.
const PACKETS: u32 = 100_000;
/// The same of XDP, whose packets have a chunk each.
const XDP_PACKETS: u32 = 8000;
/// Times that they are read; the fastest counts.
const TURNS: usize = 15;
/// Packets that are sent while they are read.
const LIVE_PACKETS: u32 = 1_000_000;

fn main() {
    let bytes = std::env::args().nth(1).map_or(96, |bytes| bytes.parse().unwrap());
    if !enter_namespace() {
        return;
    }
    let mut interface = started(&InterfaceOptions { ring_bytes: 64 << 20, ..options(RIGHT) });
    let first = |bytes: &[u8]| bytes.first().copied().map_or(0, u64::from);
    let reading = ring(&mut interface, bytes, first);
    let sum = |bytes: &[u8]| bytes.iter().step_by(64).map(|byte| u64::from(*byte)).sum();
    let touching = ring(&mut interface, bytes, sum);
    println!("{bytes} bytes: {reading:.1} ns to read a packet of the ring");
    println!("{touching:.1} ns with each line of its bytes");
    live(&mut interface, bytes);
    drop(interface);
    println!("{:.1} ns with each line of its bytes, by XDP", xdp(bytes, sum));
}

/// Nanoseconds to read a packet, while nothing is sent. `pause` lets the last of `count` packets
/// come; `read` returns what it has seen of the next one.
fn fastest(
    bytes: usize,
    (count, pause): (u32, Duration),
    mut read: impl FnMut() -> Option<u64>,
) -> f64 {
    let sender = Sender::new(LEFT);
    let mut best = f64::INFINITY;
    for _ in 0..TURNS {
        for number in 0..count {
            sender.send(&frame(number, bytes));
        }
        thread::sleep(pause);
        let (mut packets, mut sum) = (0, 0_u64);
        let begin = Instant::now();
        while let Some(seen) = read() {
            packets += 1;
            sum = sum.wrapping_add(seen);
        }
        best = best.min(begin.elapsed().as_nanos() as f64 / f64::from(packets.max(1)));
        black_box(sum);
        assert!(packets > count / 10, "{packets} packets are too few");
    }
    best
}

/// A packet of the ring, of which `see` reads the bytes. The last block ends by its time.
fn ring(interface: &mut Interface, bytes: usize, see: impl Fn(&[u8]) -> u64) -> f64 {
    fastest(bytes, (PACKETS, Duration::from_millis(100)), || {
        let frame = interface.next()?;
        Some(see(frame.bytes).wrapping_add(frame.time_ns as u64))
    })
}

/// A packet that XDP has taken.
fn xdp(bytes: usize, see: impl Fn(&[u8]) -> u64) -> f64 {
    let mut interface = XdpInterface::open(&options(RIGHT)).unwrap();
    interface.start(&[]).unwrap();
    fastest(bytes, (XDP_PACKETS, Duration::from_millis(10)), || {
        let frame = interface.next()?;
        Some(see(frame.bytes).wrapping_add(frame.time_ns as u64))
    })
}

/// Prints the rate of one sender, and what was lost.
fn live(interface: &mut Interface, bytes: usize) {
    let before = interface.losses();
    let begin = Instant::now();
    let sending = thread::spawn(move || {
        let (sender, sent) = (Sender::new(LEFT), frame(0, bytes));
        for _ in 0..LIVE_PACKETS {
            sender.send(&sent);
        }
        begin.elapsed()
    });
    let mut packets = 0_u32;
    receive(interface, |_| {
        packets += 1;
        packets < LIVE_PACKETS
    });
    let time = sending.join().unwrap();
    while wait(interface, Duration::from_millis(100)) && interface.next().is_some() {}
    let dropped = interface.losses().dropped - before.dropped;
    let rate = f64::from(LIVE_PACKETS) / time.as_secs_f64() / 1e6;
    println!("live: {rate:.2} million packets a second sent, {packets} read, {dropped} dropped");
}
