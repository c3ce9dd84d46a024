//! Prints what reading a packet costs, from files in the page cache.
//!
//! ```text
//! cargo run --release -p panoptes-capture --example read_speed [PACKETS [CAPTURE]…]
//! ```
//!
//! Without captures it writes a pcap and a pcapng file of a million packets of 96 bytes.
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use panoptes_capture::{CaptureFile, Options};

const PACKETS: u32 = 1_000_000;
/// Captured bytes of each packet.
const SNAP_BYTES: usize = 96;
/// Times that each file is read; the fastest counts.
const TURNS: usize = 9;

type Anything = Box<dyn std::error::Error>;

fn main() -> Result<(), Anything> {
    let mut arguments = std::env::args_os().skip(1);
    let packets = match arguments.next() {
        Some(number) => number.to_string_lossy().parse()?,
        None => PACKETS,
    };
    let given: Vec<PathBuf> = arguments.map(PathBuf::from).collect();
    if !given.is_empty() {
        return given.iter().try_for_each(|path| measure(path));
    }
    let folder = tempfile::tempdir()?;
    for (name, bytes) in [("pcap", pcap(packets)), ("pcapng", pcapng(packets))] {
        let path = folder.path().join(name);
        fs::write(&path, bytes)?;
        measure(&path)?;
    }
    Ok(())
}

fn measure(path: &Path) -> Result<(), Anything> {
    let (mut best, mut packets, mut bytes) = (Duration::MAX, 0_u64, 0_u64);
    for _ in 0..TURNS {
        let began = Instant::now();
        let mut file = CaptureFile::open(path, &Options::default())?;
        (packets, bytes) = (0, 0);
        let mut sum = 0;
        while let Some(frame) = file.next()? {
            packets += 1;
            bytes += frame.bytes.len() as u64;
            sum ^= frame.time_ns ^ i64::from(frame.bytes.first().copied().unwrap_or_default());
        }
        std::hint::black_box(sum);
        best = best.min(began.elapsed());
    }
    let each = best.as_nanos() as f64 / packets.max(1) as f64;
    // What the system needs to copy the file alone.
    let began = Instant::now();
    let mut copy = vec![0; 256 << 10];
    let mut file = fs::File::open(path)?;
    while std::io::Read::read(&mut file, &mut copy)? > 0 {}
    let floor = began.elapsed().as_nanos() as f64 / packets.max(1) as f64;
    println!(
        "{}: {packets} packets, {bytes} bytes: {each:.1} ns a packet, of which {floor:.1} ns for \
         read(2)",
        path.display()
    );
    Ok(())
}

fn pcap(packets: u32) -> Vec<u8> {
    let mut out = Vec::new();
    for number in [0xa1b2_c3d4_u32, 2 | 4 << 16, 0, 0, SNAP_BYTES as u32, 1] {
        out.extend(number.to_le_bytes());
    }
    for index in 0..packets {
        for number in [1_700_000_000 + index / 1000, index % 1000 * 1000, SNAP_BYTES as u32, 1500] {
            out.extend(number.to_le_bytes());
        }
        out.extend([index as u8; SNAP_BYTES]);
    }
    out
}

fn pcapng(packets: u32) -> Vec<u8> {
    let mut out = Vec::new();
    for number in [0x0a0d_0d0a_u32, 28, 0x1a2b_3c4d, 1, u32::MAX, u32::MAX, 28] {
        out.extend(number.to_le_bytes());
    }
    for number in [1, 20, 1, SNAP_BYTES as u32, 20] {
        out.extend(number.to_le_bytes());
    }
    let length = SNAP_BYTES as u32 + 32;
    for index in 0..packets {
        for number in [6, length, 0, 0x0006_0000, index, SNAP_BYTES as u32, 1500] {
            out.extend(number.to_le_bytes());
        }
        out.extend([index as u8; SNAP_BYTES]);
        out.extend(length.to_le_bytes());
    }
    out
}
