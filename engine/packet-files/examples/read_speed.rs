//! Prints what reading a packet costs, from files in the page cache.
//!
//! ```text
//! cargo run --release -p panoptes-packet-files --example read_speed [PACKETS [CAPTURE]…]
//! ```
//!
//! Without captures it writes a pcap and a pcapng file of a million packets of 96 bytes.
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use panoptes_packet_files::{CaptureFile, CaptureOptions};

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
    let mut packets = 0_u32;
    let best = fastest(|| {
        packets = 0;
        let mut file = CaptureFile::open(path, &CaptureOptions::default())?;
        let mut sum = 0;
        while let Some(frame) = file.next()? {
            packets += 1;
            sum ^= frame.time_ns ^ i64::from(frame.bytes.first().copied().unwrap_or_default());
        }
        std::hint::black_box(sum);
        Ok(())
    })?;
    // What the system needs to copy the file alone.
    let mut copy = vec![0; 256 << 10];
    let floor = fastest(|| {
        let mut file = fs::File::open(path)?;
        while file.read(&mut copy)? > 0 {}
        Ok(())
    })?;
    let each = |time: Duration| time.as_nanos() as f64 / f64::from(packets.max(1));
    let (best, floor) = (each(best), each(floor));
    let name = path.display();
    println!("{name}: {packets} packets: {best:.1} ns each, of which {floor:.1} ns for read(2)");
    Ok(())
}

/// The shortest time of some turns.
fn fastest(mut turn: impl FnMut() -> Result<(), Anything>) -> Result<Duration, Anything> {
    let mut best = Duration::MAX;
    for _ in 0..TURNS {
        let began = Instant::now();
        turn()?;
        best = best.min(began.elapsed());
    }
    Ok(best)
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
