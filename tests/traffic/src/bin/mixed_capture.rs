//! Writes a random mix of conversations, or one kind of conversation, to a file.
//!
//! `mixed_capture --packets 1000000 --seed 1 --snap 96 FILE`, or
//! `mixed_capture --kind "tcp reset" FILE`, or `mixed_capture --flows 1000000 FILE` for as many
//! flows of one packet each. With `--nanoseconds`, the times are that fine.

use std::process::ExitCode;

use panoptes_traffic::{Capture, Clock, kinds};

fn main() -> ExitCode {
    match run(std::env::args().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mixed_capture: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut arguments: impl Iterator<Item = String>) -> Result<(), String> {
    let (mut packets, mut seed, mut snap) = (100_000, 1, None);
    let (mut kind, mut file, mut clock) = (None, None, Clock::Microseconds);
    let mut flows = None;
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--packets" => packets = number(&value()?)? as usize,
            "--seed" => seed = number(&value()?)?,
            "--snap" => snap = Some(number(&value()?)? as usize),
            "--flows" => flows = Some(number(&value()?)? as u32),
            "--kind" => kind = Some(value()?),
            "--nanoseconds" => clock = Clock::Nanoseconds,
            name if !name.starts_with('-') => file = Some(argument),
            _ => return Err(format!("{argument} is unknown")),
        }
    }
    let file = file.ok_or("give the file to be written")?;
    let capture = match kind {
        None if flows.is_some() => Capture::short_flows(flows.unwrap_or_default()),
        None => Capture::mix_of_packets(seed, packets, snap),
        Some(kind) => {
            let found = kinds().into_iter().find(|(name, _)| *name == kind);
            found.map(|(_, capture)| capture).ok_or_else(|| {
                let names: Vec<_> = kinds().iter().map(|(name, _)| *name).collect();
                format!("no kind {kind:?}; there are: {}", names.join(", "))
            })?
        }
    };
    std::fs::write(&file, capture.pcap(clock)).map_err(|e| format!("cannot write {file}: {e}"))?;
    println!("{file}: {} packets, {} flows", capture.packets(), capture.flows().len());
    Ok(())
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text:?} is no number"))
}
