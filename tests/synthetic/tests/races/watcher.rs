//! A machine that is watched while it changes.

use std::sync::Arc;

use panoptes_decoders::source::MemorySource;
use panoptes_engine::detect::binary_attestation::ShippedBuilder;
use panoptes_engine::limits::Limits;
use panoptes_engine::policy::PolicyConfig;
use panoptes_engine::time::Now;
use panoptes_engine::watch::{Identity, Setup, Watched, Workspace};
use panoptes_profiles::Profile;
use panoptes_sinks::activities::Activity;
use panoptes_sinks::json::Limits as TextLimits;
use panoptes_sinks::queue::{Consumer, Producer, QueueSize, Waker, queue};
use panoptes_sinks::record::header::Header;
use panoptes_sinks::record::interface::BluefieldSystem;
use panoptes_tables::HashKey;
use serde_json::Value;

/// Any key does: it only spreads the entries of tables.
const KEY: HashKey = HashKey::new(0x5eed_5eed_5eed_5eed);
/// Time between two scans.
pub(crate) const INTERVAL_NS: u32 = 10_000_000;

/// What watches a machine.
pub(crate) struct Watcher {
    workspace: Workspace,
    watched: Watched,
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
        let mut policy = PolicyConfig::default();
        for &activity in Activity::ALL {
            policy.set_enabled(activity, true);
        }
        let text = TextLimits::new(limits.string_length as usize);
        let watched = Watched::new(Setup {
            limits,
            key: KEY,
            message_ids: 1,
            policy,
            login_servers: <_>::default(),
            content_rules: Arc::default(),
            containers: Arc::default(),
            exceptions: Arc::default(),
            report_existing: true,
            waits_for_clock: false,
            header: Header::new(&"NONE".into(), &BluefieldSystem::default(), text),
            identity: Identity::default(),
            profile,
            shipped: Arc::new(ShippedBuilder::new().build()),
        });
        let size = QueueSize { blocks: 8, block_bytes: 1 << 20 };
        let (producer, consumer) = queue(size, &Waker::default());
        let now = Now::at(1_795_000_000_000_000_000);
        Self { workspace: Workspace::new(&limits, KEY), watched, producer, consumer, now }
    }

    /// Scans once; returns the records.
    pub(crate) fn scan<S: MemorySource>(&mut self, source: &mut S) -> Result<Vec<Value>, String> {
        self.now = self.now.after(INTERVAL_NS.into());
        let Self { watched, workspace, producer, .. } = self;
        let scanned = watched.scan(workspace, source, self.now, producer);
        producer.flush();
        let mut records = Vec::new();
        while let Some(block) = self.consumer.pop() {
            let read = |record| serde_json::from_slice(record).expect("it is JSON");
            records.extend(block.iter().map(read));
            self.consumer.give_back(block);
        }
        scanned.map(|()| records).map_err(|why| format!("{why:?}"))
    }
}
