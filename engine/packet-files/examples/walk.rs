//! Reads a pcap file in blocks and goes from header to header: what reading alone costs.
//! `walk FILE` is the floor of `cargo xtask bench flow`.

use std::fs::File;
use std::io::Read as _;
use std::process::ExitCode;

/// Bytes read at once.
const BLOCK_BYTES: usize = 256 << 10;
const FILE_HEADER_BYTES: usize = 24;
const RECORD_HEADER_BYTES: usize = 16;

fn main() -> ExitCode {
    let Some(path) = std::env::args_os().nth(1) else {
        eprintln!("walk: give a pcap file");
        return ExitCode::from(2);
    };
    match File::open(&path).and_then(walk) {
        Ok((packets, sum)) => {
            println!("{packets} packets, {sum}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("walk: {}: {error}", path.display());
            ExitCode::FAILURE
        }
    }
}

/// The number of packets, and a sum over a byte of each.
fn walk(mut file: File) -> std::io::Result<(u64, u64)> {
    let mut memory = vec![0; 2 * BLOCK_BYTES];
    // Number of bytes before the next header, and number of bytes that the memory holds.
    let (mut at, mut end) = (FILE_HEADER_BYTES, 0);
    let (mut packets, mut sum) = (0, 0);
    loop {
        let read = file.read(&mut memory[end..end + BLOCK_BYTES])?;
        if read == 0 {
            return Ok((packets, sum));
        }
        end += read;
        while let Some(header) = memory[..end].get(at..at + RECORD_HEADER_BYTES) {
            let length = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
            let next = at + RECORD_HEADER_BYTES + length as usize;
            if next > end {
                break;
            }
            // Far enough in to be another line of the cache.
            sum += u64::from(memory[at + RECORD_HEADER_BYTES + length as usize / 2]);
            packets += 1;
            at = next;
        }
        memory.copy_within(at.min(end)..end, 0);
        (at, end) = (at.saturating_sub(end), end - at.min(end));
    }
}
