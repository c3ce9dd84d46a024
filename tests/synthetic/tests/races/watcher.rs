//! A machine that is watched while it changes.

use std::sync::Arc;

use panoptes_decoders::source::MemorySource;
use panoptes_engine::limits::Limits;
use panoptes_engine::time::Now;
use panoptes_engine::watch::{WatchedMachine, Workspace};
use panoptes_profiles::Profile;
use panoptes_records::queue::{Consumer, Producer, QueueSize, Waker, queue};
use serde_json::Value;

use crate::common::setup::{KEY, everything, setup};
use crate::common::take_records;

/// Time between two scans, and between a scan and an early one.
pub(crate) const INTERVAL_NS: u32 = 10_000_000;
pub(crate) const EARLY_NS: u32 = 1_000_000;

/// What watches a machine.
pub(crate) struct Watcher {
    workspace: Workspace,
    watched: WatchedMachine,
    producer: Producer,
    consumer: Consumer,
    now: Now,
}

fn limits() -> Limits {
    Limits {
        processes: 256,
        threads: 512,
        file_descriptors: 4096,
        vmas: 8192,
        connections: 256,
        containers: 16,
        ..Limits::default()
    }
}

impl Watcher {
    pub(crate) fn new(profile: &Profile) -> Self {
        let limits = limits();
        let mut watched =
            WatchedMachine::new(setup(&limits, profile, everything(), Arc::default()));
        watched.set_shortcuts(true);
        watched.set_scan_interval(INTERVAL_NS.into());
        let size = QueueSize { blocks: 8, block_bytes: 1 << 20 };
        let (producer, consumer) = queue(size, &Waker::default());
        let now = Now::at(1_795_000_000_000_000_000);
        Self { workspace: Workspace::new(&limits, KEY), watched, producer, consumer, now }
    }

    /// Scans once, `after_ns` after the last time; returns the records.
    pub(crate) fn scan<S: MemorySource>(
        &mut self,
        source: &mut S,
        after_ns: u32,
    ) -> Result<Vec<Value>, String> {
        self.now = self.now.after(after_ns.into());
        self.watched.set_early(after_ns < INTERVAL_NS);
        let Self { watched, workspace, producer, consumer, .. } = self;
        let scanned = watched.scan(workspace, source, self.now, producer);
        let records = take_records(producer, consumer);
        scanned.map(|()| records).map_err(|why| format!("{why:?}"))
    }
}
