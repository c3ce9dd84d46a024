//! How long a filter takes for a packet, in nanoseconds: `filter_speed 'ip and not icmp'`.
//!
//! The packets are a mix of conversations, which fits into the processor's caches.

use std::hint::black_box;
use std::io::Cursor;
use std::process::ExitCode;
use std::time::Instant;

use panoptes_packet_files::{CaptureFile, CaptureOptions};
use panoptes_packet_filter::PacketFilter;
use panoptes_traffic::{Capture, Clock};

const PACKETS: usize = 2000;
const ROUNDS: u32 = 2000;
const ETHERNET: u16 = 1;

fn main() -> ExitCode {
    let expressions: Vec<_> = std::env::args().skip(1).collect();
    for expression in &expressions {
        match PacketFilter::compile(
            expression,
            &panoptes_packet_filter::FilterOptions::new(ETHERNET),
        ) {
            Ok(filter) => measure(expression, &filter),
            Err(error) => {
                eprintln!("filter_speed: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn measure(expression: &str, filter: &PacketFilter) {
    let pcap = Capture::mix_of_packets(1, PACKETS, Some(96)).pcap(Clock::Microseconds);
    let mut file = CaptureFile::from_reader(Cursor::new(pcap), "mix", &CaptureOptions::default())
        .expect("the capture is a pcap file");
    let mut packets = Vec::new();
    while let Some(frame) = file.next().expect("the capture is whole") {
        packets.push((frame.bytes.to_vec(), frame.wire_length));
    }
    let mut kept = 0_u64;
    let begin = Instant::now();
    for _ in 0..ROUNDS {
        for (bytes, wire_length) in black_box(&packets) {
            kept += u64::from(filter.matches(bytes, *wire_length));
        }
    }
    let runs = u64::from(ROUNDS) * packets.len() as u64;
    let ns = begin.elapsed().as_nanos() as f64 / runs as f64;
    let part = kept as f64 / runs as f64 * 100.0;
    println!("{expression}: {ns:.1} ns a packet, {part:.0} % kept");
}
