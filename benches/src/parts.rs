//! Watching with some of its parts, to compare their costs.

use std::sync::Arc;
use std::time::Duration;

use panoptes_engine::container_config::ContainerConfig;
use panoptes_engine::detect::binary_attestation::{ShippedBuilder, ShippedFile, ShippedSubject};
use panoptes_engine::limits::Limits;
use panoptes_engine::policy::PolicyConfig;
use panoptes_engine::time::Now;
use panoptes_engine::walk::Budget;
use panoptes_engine::watch::{
    MachineIdentity, SLICE_BYTES, ScanFigures, ScanStage, Setup, WatchedMachine, Workspace,
};
use panoptes_profiles::Profile;
use panoptes_records::activities::Activity;
use panoptes_records::json::Limits as TextLimits;
use panoptes_records::queue::{Consumer, Producer, QueueSize, Waker, queue};
use panoptes_records::record::header::RecordHeader;
use panoptes_records::record::interface::BluefieldSystem;
use panoptes_sources::MemorySource;

use crate::times::{Times, processor_time};

/// A part of watching besides walking and comparing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Part {
    ReverseShells,
    ShellHistory,
    /// No file's content is known in a recorded image, so every file stays unverified: the worst
    /// case. The list of shipped content is one hash, so everything that runs is foreign.
    Attestation,
    /// Names in the machine's memory, and what they name.
    ChangedPaths,
    /// Scans keep the rows of the ones before if the machine rests.
    Shortcuts,
}

/// All detectors.
pub const DETECTORS: &[Part] =
    &[Part::ReverseShells, Part::ShellHistory, Part::Attestation, Part::ChangedPaths];

/// All detectors, and shortcuts.
pub const EVERYTHING: &[Part] = &[
    Part::ReverseShells,
    Part::ShellHistory,
    Part::Attestation,
    Part::ChangedPaths,
    Part::Shortcuts,
];

/// Processor times of the stages of repeated scans, by stage.
#[derive(Debug, Default)]
pub struct StageTimes([Times; ScanStage::ALL.len()]);

impl StageTimes {
    /// Adds those of one scan, in nanoseconds.
    pub fn add(&mut self, ns: [u64; ScanStage::ALL.len()]) {
        for (times, ns) in self.0.iter_mut().zip(ns) {
            times.0.push(Duration::from_nanos(ns));
        }
    }

    pub fn medians(&self) -> impl Iterator<Item = (&'static str, Duration)> {
        ScanStage::ALL.iter().zip(&self.0).map(|(stage, times)| (stage.name(), times.median()))
    }
}

/// A watched machine with some parts enabled, and a buffer for its records.
#[derive(Debug)]
pub struct Way {
    workspace: Workspace,
    watched: WatchedMachine,
    producer: Producer,
    consumer: Consumer,
    /// Number of records so far.
    pub records: u64,
}

/// A machine that is watched with some parts enabled. Its number differs from those of others.
pub fn watched(parts: &[Part], profile: &Profile, limits: &Limits, number: u64) -> WatchedMachine {
    let mut policy = PolicyConfig::default();
    // Checks of the kernel's code read at a rate of their own, whatever a scan costs.
    policy.set_enabled(Activity::KernelHookDetected, false);
    policy.set_enabled(Activity::KernelCodeWithoutOwner, false);
    policy.set_enabled(Activity::KernelTextModified, false);
    policy.set_enabled(Activity::ReverseShellDetected, parts.contains(&Part::ReverseShells));
    for activity in [Activity::FileContentChange, Activity::FilePermissionsChanged] {
        policy.set_enabled(activity, parts.contains(&Part::ChangedPaths));
    }
    for activity in [
        Activity::ShellCommandExecuted,
        Activity::ShellHistoryCleared,
        Activity::ShellHistoryDisabled,
    ] {
        policy.set_enabled(activity, parts.contains(&Part::ShellHistory));
    }
    let mut shipped = ShippedBuilder::new();
    if parts.contains(&Part::Attestation) {
        let everywhere = shipped.subject(&ShippedSubject::Everywhere).expect("there is room");
        let one = ShippedFile { sha256: Some([7; 32]), ..ShippedFile::default() };
        shipped.add(everywhere, &one).expect("there is room");
    }
    let text = TextLimits::new(limits.string_length as usize);
    let mut watched = WatchedMachine::new(Setup {
        limits: *limits,
        key: crate::KEY,
        message_ids: number,
        policy,
        report_existing: false,
        waits_for_clock: false,
        header: RecordHeader::new(&"NONE".into(), &BluefieldSystem::default(), text),
        identity: MachineIdentity::default(),
        profile,
        login_servers: <_>::default(),
        content_rules: Arc::default(),
        containers: Arc::new(ContainerConfig::default()),
        exceptions: Arc::default(),
        shipped: Arc::new(shipped.build()),
    });
    watched.set_shortcuts(parts.contains(&Part::Shortcuts));
    watched
}

impl Way {
    pub fn new(parts: &[Part], profile: &Profile) -> Self {
        let limits = Limits::default();
        let watched = watched(parts, profile, &limits, 0);
        let size = QueueSize { blocks: 16, block_bytes: 1 << 20 };
        let (producer, consumer) = queue(size, &Waker::default());
        let workspace = Workspace::new(&limits, crate::KEY);
        Self { workspace, watched, producer, consumer, records: 0 }
    }

    /// Scans once. The records wait until [`Self::drop_records`].
    pub fn scan<S: MemorySource>(&mut self, source: &mut S, now: Now) {
        self.scan_within(source, now, &Budget::default_for(&Limits::default()));
    }

    /// The same, but returns the processor time of each stage.
    pub fn scan_stages<S: MemorySource>(
        &mut self,
        source: &mut S,
        now: Now,
    ) -> [u64; ScanStage::ALL.len()] {
        let used = || u64::try_from(processor_time().as_nanos()).unwrap_or(u64::MAX);
        self.scan_within(source, now, &Budget::default_for(&Limits::default()).timed_by(&used));
        self.figures().stages_ns
    }

    fn scan_within<S: MemorySource>(&mut self, source: &mut S, now: Now, budget: &Budget<'_>) {
        self.watched
            .scan_until(&mut self.workspace, source, now, budget, &mut self.producer)
            .expect("it can be scanned");
    }

    /// What the last scan has cost.
    pub const fn figures(&self) -> &ScanFigures {
        self.watched.figures()
    }

    /// Counts the records of the last scans and drops them.
    pub fn drop_records(&mut self) {
        self.producer.flush();
        while let Some(block) = self.consumer.pop() {
            self.records += block.iter().count() as u64;
            self.consumer.give_back(block);
        }
    }

    /// Hashes all files that scans have asked for.
    pub fn hash_all<S: MemorySource>(&mut self, source: &mut S) {
        while self.watched.has_work() {
            self.watched.work(&mut self.workspace, source, SLICE_BYTES);
        }
    }
}
