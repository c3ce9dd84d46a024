//! What the tests on recorded images share: a machine to scan, numbers at random, memory to damage.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod damage;
pub(crate) mod recorded;

use std::path::Path;

use panoptes_engine::limits::Limits;
use panoptes_engine::policy::lines::{LineCounts, LineWriter};
use panoptes_engine::source::{MemorySource, Replay};
use panoptes_engine::system::kernel_of;
use panoptes_engine::walk::{Kernel, Scope, Snapshot, Walker};
use panoptes_profiles::{Options, Profile, discover};

use recorded::Seen;

/// Any key does: it only spreads what is in tables.
pub(crate) const KEY: u64 = 0x5eed_5eed_5eed_5eed;

/// A recorded machine whose kernel was found in the image alone.
pub(crate) struct Machine {
    pub(crate) name: String,
    pub(crate) memory: Replay,
    pub(crate) profile: Profile,
    pub(crate) kernel: Kernel,
}

impl Machine {
    pub(crate) fn open(image: &Path) -> Self {
        let name = image.file_stem().map_or_else(String::new, |stem| stem.display().to_string());
        let bytes = std::fs::read(image).expect("the image can be read");
        let mut memory = Replay::from_bytes(bytes).unwrap_or_else(|problem| {
            panic!("{}: {problem}; make it with: {}", image.display(), recorded::MAKE)
        });
        let profile = discover(&mut memory, &Options::default(), &mut ())
            .unwrap_or_else(|error| panic!("{}: {error}", image.display()));
        let kernel = kernel_of(&profile);
        Self { name, memory, profile, kernel }
    }
}

/// A walker and a writer of lines, with all their memory.
pub(crate) struct Scanner {
    pub(crate) walker: Walker,
    pub(crate) lines: LineWriter,
}

impl Scanner {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self { walker: Walker::new(limits, KEY), lines: LineWriter::new(limits) }
    }

    /// Scans as if for the first time and writes the lines.
    pub(crate) fn see<S: MemorySource>(
        &mut self,
        source: &mut S,
        kernel: &Kernel,
    ) -> (&Snapshot, Seen, LineCounts) {
        self.walker.forget();
        let snapshot = self.walker.scan(source, kernel, Scope::ALL).expect("processes are found");
        let (seen, counts) = Seen::of(snapshot, kernel, &mut self.lines);
        (snapshot, seen, counts)
    }
}

/// How many objects of a snapshot a person would count.
pub(crate) fn entities(snapshot: &Snapshot) -> u64 {
    let counts = [
        snapshot.processes.len(),
        snapshot.threads.len(),
        snapshot.descriptors.len(),
        snapshot.vmas.len(),
        snapshot.connections.len(),
        snapshot.interfaces.len(),
    ];
    counts.iter().map(|&count| count as u64).sum()
}

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}
