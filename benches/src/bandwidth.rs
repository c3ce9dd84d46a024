//! What the memory gives to several cores at once, and what a line costs that two cores share.
//!
//! Rates are by processor time, so a core that another program uses meanwhile does not lower them.

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::model::LINE_BYTES;
use crate::one_core::pin;
use crate::times::timed;

/// What each core reads: far more than any last-level cache.
const BYTES: usize = 256 << 20;
const WORDS: usize = BYTES / size_of::<u64>();
const LINES: usize = BYTES / LINE_BYTES as usize;
/// Words of a line.
const STEP: usize = WORDS / LINES;
/// The best of so many attempts counts.
const ATTEMPTS: usize = 7;
/// Additions of each core.
const ADDITIONS: u64 = 10_000_000;

/// How memory is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reads {
    /// One line after the other.
    Stream,
    /// Single lines in a random order; no address depends on what was read.
    Lines,
}

/// The lines in a second that all these cores read together.
pub fn lines_per_second(cores: &[usize], reads: Reads) -> f64 {
    let barrier = &Barrier::new(cores.len());
    let attempts: Vec<Vec<Duration>> = each(cores, |_| {
        let words = vec![1_u64; WORDS];
        let attempt = |_| {
            barrier.wait();
            timed(|| black_box(read(&words, reads))).0
        };
        (0..ATTEMPTS).map(attempt).collect()
    });
    let rate = |attempt: usize| -> f64 {
        attempts.iter().map(|times| LINES as f64 / times[attempt].as_secs_f64()).sum()
    };
    (0..ATTEMPTS).map(rate).fold(0.0, f64::max)
}

fn read(words: &[u64], reads: Reads) -> u64 {
    match reads {
        Reads::Stream => words.iter().fold(0, |sum: u64, &word| sum.wrapping_add(word)),
        Reads::Lines => {
            let mut state = 1_u64;
            (0..LINES).fold(0, |sum: u64, _| {
                // Knuth's generator; its upper bits are the good ones.
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let line = (state >> 33) as usize % LINES;
                sum.wrapping_add(words[line * STEP])
            })
        }
    }
}

/// Counters that are neighbours in memory.
#[derive(Debug)]
#[repr(align(128))]
struct OutputCounters([AtomicU64; 32]);

/// Nanoseconds of an addition to a counter of a core's own, if its neighbour in the same line (or
/// one two lines away, if `is_apart`) is the counter of the other core.
pub fn addition_ns(cores: [usize; 2], is_apart: bool) -> f64 {
    let counters = OutputCounters(std::array::from_fn(|_| AtomicU64::new(0)));
    let (counters, barrier) = (&counters.0, &Barrier::new(2));
    let times = each(&cores, |lane| {
        let counter = &counters[if is_apart { lane * 16 } else { lane }];
        barrier.wait();
        let add = || (0..ADDITIONS).for_each(|_| _ = counter.fetch_add(1, Ordering::Relaxed));
        timed(add).0
    });
    times.into_iter().max().unwrap_or_default().as_secs_f64() * 1e9 / ADDITIONS as f64
}

/// Runs `work` on each core at the same time, with the number of the core's lane.
fn each<T: Send>(cores: &[usize], work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let work = &work;
    std::thread::scope(|scope| {
        let start = |(lane, &core): (usize, &usize)| {
            scope.spawn(move || {
                pin(Some(core)).expect("the core is allowed");
                work(lane)
            })
        };
        let lanes: Vec<_> = cores.iter().enumerate().map(start).collect();
        lanes.into_iter().map(|lane| lane.join().expect("it does not panic")).collect()
    })
}
