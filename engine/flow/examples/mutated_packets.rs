//! Sends mutated packets through decoders, flows, filters and records:
//! `mutated_packets --packets 100000000 --seed 1`. `cargo xtask fuzz --packets N` runs it.

#[path = "../tests/mutated/campaign.rs"]
mod campaign;
#[path = "../tests/mutated/mutation.rs"]
mod mutation;

use std::process::ExitCode;
use std::time::Instant;

/// Packets between two lines of progress.
const PACKETS_PER_LINE: u64 = 5_000_000;

fn main() -> ExitCode {
    let (mut packets, mut seed) = (1_000_000, 1);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().and_then(|value| value.parse().ok());
        match (argument.as_str(), value) {
            ("--packets", Some(value)) => packets = value,
            ("--seed", Some(value)) => seed = value,
            _ => {
                eprintln!("mutated_packets: only --packets N and --seed N");
                return ExitCode::from(2);
            }
        }
    }
    let begin = Instant::now();
    let rate = |count: u64| count as f64 / begin.elapsed().as_secs_f64() / 1e6;
    let outcome = campaign::run(packets, seed, |count| {
        if count.is_multiple_of(PACKETS_PER_LINE) {
            println!("{count} packets, {:.2} million a second", rate(count));
        }
    });
    println!("{outcome:?}, {:.0} s", begin.elapsed().as_secs_f64());
    ExitCode::SUCCESS
}
