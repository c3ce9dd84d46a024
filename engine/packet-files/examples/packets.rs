//! Prints the packets of a capture, one a line: for comparison with other programs.
//!
//! ```text
//! cargo run -p panoptes-packet-files --example packets CAPTURE >ours
//! tshark -r CAPTURE -T fields -e frame.time_epoch -e frame.len -e frame.cap_len >theirs
//! ```
use std::io::Write as _;

use panoptes_packet_files::{CaptureFile, CaptureOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: packets CAPTURE")?;
    let mut file = CaptureFile::open(path.as_ref(), &CaptureOptions::default())?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    while let Some(frame) = file.next()? {
        let seconds = frame.time_ns.div_euclid(1_000_000_000);
        let rest = frame.time_ns.rem_euclid(1_000_000_000);
        let (wire_length, captured) = (frame.wire_length, frame.bytes.len());
        writeln!(out, "{seconds}.{rest:09}\t{wire_length}\t{captured}")?;
    }
    out.flush()?;
    eprintln!("{:?}: {:?}", file.format(), file.skipped());
    Ok(())
}
