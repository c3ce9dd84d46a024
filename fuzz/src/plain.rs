//! A driver for targets without libFuzzer: it executes seeds, and then seeds changed at random.
//!
//! It does not measure coverage, so it is for a thousand executions, not for a million. It needs
//! neither a C++ compiler nor instrumented dependencies, and generates the same inputs on every
//! host.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use panoptes_rig::Random;

/// Maximum length of an input in bytes.
const INPUT_BYTES_MAX: usize = 8192;
/// Maximum number of changes to a seed in one input.
const CHANGES_MAX: usize = 8;
/// Maximum length of the bytes that one change adds, copies or removes.
const PIECE_BYTES_MAX: usize = 64;
/// Numbers close to usual bounds and sizes.
const EDGES: [u64; 10] =
    [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, u64::MAX];

const USAGE: &str = "usage: TARGET INPUT, or TARGET EXECUTIONS SEEDS INPUT";

/// Runs a target as requested on the command line.
///
/// With the path of an input it executes only that. With a number, a folder of seeds and a path it
/// executes that many inputs. Each input is written to the path first, and stays there if it fails.
pub fn main(target: impl Fn(&[u8])) -> ExitCode {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let result = match arguments.as_slice() {
        [input] => one(&target, input),
        [executions, seeds, input] => match executions.to_str().map(str::parse) {
            Some(Ok(executions)) => many(&target, executions, seeds, input),
            _ => Err(USAGE.to_owned()),
        },
        _ => Err(USAGE.to_owned()),
    };
    match result {
        Ok(executed) => {
            println!("executed {executed}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn one(target: &impl Fn(&[u8]), input: &Path) -> Result<u64, String> {
    target(&std::fs::read(input).map_err(|e| wrong(input, &e))?);
    Ok(1)
}

fn many(
    target: &impl Fn(&[u8]),
    executions: u64,
    seeds: &Path,
    input: &Path,
) -> Result<u64, String> {
    for (number, data) in (1..=executions).zip(Inputs::new(read_seeds(seeds)?)) {
        // Written first: a target that overflows its stack kills this program, too.
        std::fs::write(input, &data).map_err(|e| wrong(input, &e))?;
        if catch_unwind(AssertUnwindSafe(|| target(&data))).is_err() {
            return Err(format!("the target panicked in execution {number}"));
        }
    }
    std::fs::remove_file(input).map_err(|e| wrong(input, &e))?;
    Ok(executions)
}

fn wrong(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}

/// The seeds in the order of their names, so that a run is reproducible.
fn read_seeds(folder: &Path) -> Result<Vec<Vec<u8>>, String> {
    let entries = std::fs::read_dir(folder).map_err(|e| wrong(folder, &e))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).map_err(|e| wrong(path, &e))).collect()
}

/// The inputs of a run: the empty one, the seeds, then changed seeds, without end.
#[derive(Debug)]
pub struct Inputs {
    seeds: Vec<Vec<u8>>,
    random: Random,
    given: usize,
}

impl Inputs {
    /// Starts from the beginning: the same seeds give the same inputs.
    pub fn new(seeds: Vec<Vec<u8>>) -> Self {
        Self { seeds, random: Random(1), given: 0 }
    }

    fn changed(&mut self) -> Vec<u8> {
        let mut data = if self.seeds.is_empty() {
            let length = self.random.below(PIECE_BYTES_MAX * 8);
            self.random.bytes(length)
        } else {
            self.seeds[self.random.below(self.seeds.len())].clone()
        };
        for _ in 0..=self.random.below(CHANGES_MAX) {
            self.change(&mut data);
        }
        data.truncate(INPUT_BYTES_MAX);
        data
    }

    fn change(&mut self, data: &mut Vec<u8>) {
        let random = &mut self.random;
        if data.is_empty() {
            *data = random.bytes(8);
        }
        let at = random.below(data.len());
        let length = 1 + random.below(PIECE_BYTES_MAX.min(data.len() - at));
        match random.below(8) {
            0 => data[at] ^= 1 << random.below(8),
            1 => data[at] = random.next() as u8,
            2 => {
                // One of the edges or a number near it, in 1, 2, 4 or 8 bytes of either order.
                let edge = EDGES[random.below(EDGES.len())];
                let mut bytes = edge.wrapping_add(random.next() % 3).wrapping_sub(1).to_le_bytes();
                let width = 1 << random.below(4);
                if random.below(2) == 0 {
                    bytes[..width].reverse();
                }
                overwrite(data, at, &bytes[..width]);
            }
            3 => drop(data.drain(at..at + length)),
            4 => {
                let piece = random.bytes(length);
                data.splice(at..at, piece);
            }
            5 => {
                // Repeats a piece, or copies it to another place.
                let piece = data[at..at + length].to_vec();
                let to = random.below(data.len());
                let end = if random.below(2) == 0 { to } else { data.len().min(to + length) };
                data.splice(to..end, piece);
            }
            6 if !self.seeds.is_empty() => {
                // The end of another seed.
                let other = &self.seeds[random.below(self.seeds.len())];
                let from = random.below(other.len() + 1);
                data.truncate(at);
                data.extend_from_slice(&other[from..]);
            }
            _ => {
                // A few bits in one word: slightly larger or smaller numbers.
                let change = (random.next() % 32) as u8;
                data[at] = data[at].wrapping_add(change).wrapping_sub(16);
            }
        }
    }
}

impl Iterator for Inputs {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let number = self.given;
        self.given += 1;
        Some(match number.checked_sub(1) {
            None => Vec::new(),
            Some(seed) => self.seeds.get(seed).cloned().unwrap_or_else(|| self.changed()),
        })
    }
}

fn overwrite(data: &mut [u8], at: usize, bytes: &[u8]) {
    for (old, new) in data[at..].iter_mut().zip(bytes) {
        *old = *new;
    }
}
