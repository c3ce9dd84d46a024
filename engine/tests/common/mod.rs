//! Shared parts of tests on recorded images: a machine to scan, random numbers, memory to damage.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod damage;
pub(crate) mod recorded;
pub(crate) mod setup;

use std::path::Path;
use std::sync::Arc;

use panoptes_engine::limits::Limits;
use panoptes_engine::policy::lines::{LineCounts, LineWriter};
use panoptes_engine::system::kernel_of;
use panoptes_engine::time::Now;
use panoptes_engine::walk::{Kernel, ScanError, Scope, Snapshot, Walker};
use panoptes_engine::watch::{Setup, WatchedMachine, Workspace};
use panoptes_profiles::{DiscoveryOptions, Profile, discover};
use panoptes_records::queue::{Consumer, Producer, QueueSize, Waker, queue};
use panoptes_sources::{MemorySource, Replay};

use recorded::Seen;
pub(crate) use setup::{KEY, everything, one_hash, setup};

/// A recorded machine; its kernel is discovered from the image only.
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
        Self::from_bytes(name, bytes, &DiscoveryOptions::default())
    }

    /// The machine among the sources, whose kernel a built-in table describes.
    pub(crate) fn in_repository() -> Self {
        let (name, bytes) = recorded::in_repository();
        Self::from_bytes(
            name,
            bytes,
            &DiscoveryOptions { use_builtin: true, ..DiscoveryOptions::default() },
        )
    }

    fn from_bytes(name: String, bytes: Vec<u8>, options: &DiscoveryOptions) -> Self {
        let mut memory = Replay::from_bytes(bytes).unwrap_or_else(|problem| {
            panic!("{name}: {problem}; make it with: {}", recorded::MAKE)
        });
        let profile = discover(&mut memory, options, &mut ())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
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

    /// Resets the walker, scans, and writes the lines.
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

/// Watches a machine for changes, with a queue for its records.
pub(crate) struct Watcher {
    workspace: Workspace,
    pub(crate) watched: WatchedMachine,
    producer: Producer,
    consumer: Consumer,
    now: Now,
}

impl Watcher {
    /// Reports all activities, including objects that exist at the start.
    pub(crate) fn new(limits: &Limits, profile: &Profile) -> Self {
        Self::with_clock(limits, profile, false)
    }

    /// Like [`Self::new`]; with `waits_for_clock`, reports only once the machine's clock runs.
    pub(crate) fn with_clock(limits: &Limits, profile: &Profile, waits_for_clock: bool) -> Self {
        let shipped = Arc::new(one_hash());
        let setup = setup(limits, profile, everything(), shipped);
        let watched = WatchedMachine::new(Setup { waits_for_clock, ..setup });
        let size = QueueSize { blocks: 8, block_bytes: 1 << 20 };
        let (producer, consumer) = queue(size, &Waker::default());
        let workspace = Workspace::new(limits, KEY);
        Self { workspace, watched, producer, consumer, now: Now::at(1_795_000_000_000_000_000) }
    }

    /// Scans once and removes the records; returns their size in bytes.
    pub(crate) fn scan<S: MemorySource>(&mut self, source: &mut S) -> Result<u64, ScanError> {
        self.now = self.now.after(10_000_000);
        let scanned = self.watched.scan(&mut self.workspace, source, self.now, &mut self.producer);
        self.producer.flush();
        let mut bytes = 0;
        while let Some(block) = self.consumer.pop() {
            bytes += block.iter().map(|record| record.len() as u64).sum::<u64>();
            self.consumer.give_back(block);
        }
        scanned.map(|()| bytes)
    }

    /// Scans once at this time; returns the records.
    pub(crate) fn records<S: MemorySource>(&mut self, source: &mut S, now: Now) -> Vec<String> {
        self.watched
            .scan(&mut self.workspace, source, now, &mut self.producer)
            .expect("it can be scanned");
        self.producer.flush();
        let mut records = Vec::new();
        while let Some(block) = self.consumer.pop() {
            records.extend(block.iter().map(|record| String::from_utf8_lossy(record).into_owned()));
            self.consumer.give_back(block);
        }
        records
    }

    pub(crate) fn snapshot(&self) -> &Snapshot {
        self.workspace.snapshot()
    }
}

/// Number of user-visible objects in a snapshot.
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
