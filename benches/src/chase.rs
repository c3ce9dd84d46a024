//! What the memory of this machine can do: the figures that the model's floor is made of.
//!
//! All are measured in a block of memory that is larger than any last-level cache, whose lines are
//! linked to one ring in a random order. A *chase* follows the ring: with one chain each load
//! waits for the one before, with 64 chains as many loads can be under way as the processor allows.

use std::hint::black_box;
use std::time::Duration;

use crate::times::{Times, timed};

/// Number of lines of the block: 256 MiB.
const LINES: usize = 4 << 20;
/// Lines that are copied at once: 1 MiB.
const COPY_LINES: usize = 16_384;

/// One cache line.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Line {
    next: u32,
}

/// The block, and the times for one line so far.
#[derive(Debug)]
pub struct Memory {
    lines: Vec<Line>,
    target: Vec<Line>,
    pub dependent: Times,
    pub by_16: Times,
    pub by_64: Times,
    pub copied: Times,
}

impl Default for Memory {
    fn default() -> Self {
        let mut lines: Vec<Line> = (0..LINES as u32).map(|next| Line { next }).collect();
        // Sattolo's shuffle makes one ring of all.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for index in (1..LINES).rev() {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let other = (state % index as u64) as usize;
            let next = lines[index].next;
            lines[index].next = lines[other].next;
            lines[other].next = next;
        }
        Self {
            lines,
            target: vec![Line { next: 1 }; COPY_LINES],
            dependent: Times::default(),
            by_16: Times::default(),
            by_64: Times::default(),
            copied: Times::default(),
        }
    }
}

impl Memory {
    /// Number of hops of all chains of one measurement together.
    pub const HOPS: usize = 1 << 20;

    /// Measures everything once more.
    pub fn measure(&mut self) {
        let dependent = self.chase::<1>();
        self.dependent.0.push(dependent);
        let by_16 = self.chase::<16>();
        self.by_16.0.push(by_16);
        let by_64 = self.chase::<64>();
        self.by_64.0.push(by_64);
        let (copied, ()) = timed(|| {
            for chunk in self.lines.chunks_exact(COPY_LINES) {
                self.target.copy_from_slice(chunk);
                black_box(&self.target);
            }
        });
        self.copied.0.push(copied);
    }

    /// The time of all hops with so many chains.
    fn chase<const CHAINS: usize>(&self) -> Duration {
        // The block is in a random order, so any places are far apart on the ring.
        let mut at: [u32; CHAINS] = std::array::from_fn(|chain| (chain * LINES / CHAINS) as u32);
        let (time, ()) = timed(|| {
            for _ in 0..Self::HOPS / CHAINS {
                for place in &mut at {
                    *place = self.lines[*place as usize].next;
                }
            }
        });
        black_box(at);
        time
    }

    /// Nanoseconds of a line with one, 16 and 64 chains, and in a copy: medians.
    pub fn line_ns(&self) -> [f64; 4] {
        let line = |times: &Times, lines: usize| times.median().as_secs_f64() * 1e9 / lines as f64;
        [
            line(&self.dependent, Self::HOPS),
            line(&self.by_16, Self::HOPS),
            line(&self.by_64, Self::HOPS),
            line(&self.copied, LINES),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_are_one_ring() {
        let memory = Memory::default();
        let (mut at, mut hops) = (0, 0);
        loop {
            at = memory.lines[at as usize].next;
            hops += 1;
            if at == 0 {
                break;
            }
        }
        assert_eq!(hops, LINES);
    }
}
