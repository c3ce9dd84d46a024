//! Figures of a sensor of flows, for metrics. Its thread sets them once a second; any thread may
//! read them at any time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use panoptes_flow::Counts;

use super::gaps::KINDS;

/// The figures since the sensor was started.
#[derive(Debug)]
pub(crate) struct SensorFigures {
    /// When it was started, and when its thread has made its last step, in nanoseconds since then.
    start: Instant,
    step_ns: AtomicU64,
    pub(crate) packets: AtomicU64,
    /// Their bytes on the wire.
    pub(crate) bytes: AtomicU64,
    /// Flows that are tracked now, and how many can be.
    pub(crate) flows: AtomicU64,
    pub(crate) flows_limit: AtomicU64,
    /// Flows that were reported early because a table was full.
    pub(crate) evictions: AtomicU64,
    pub(crate) records: AtomicU64,
    /// Packets that had no room, by interface.
    pub(crate) lost: Vec<(String, AtomicU64)>,
    /// By output.
    pub(crate) outputs: Vec<(&'static str, OutputFigures)>,
    /// What was missed since each gap began; 0 without a gap.
    pub(crate) gaps: [AtomicU64; KINDS],
}

/// The records that an output has accepted, and those for which it had no room.
#[derive(Debug, Default)]
pub(crate) struct OutputFigures {
    pub(crate) records: AtomicU64,
    pub(crate) dropped: AtomicU64,
}

impl Default for SensorFigures {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            step_ns: AtomicU64::default(),
            packets: AtomicU64::default(),
            bytes: AtomicU64::default(),
            flows: AtomicU64::default(),
            flows_limit: AtomicU64::default(),
            evictions: AtomicU64::default(),
            records: AtomicU64::default(),
            lost: Vec::new(),
            outputs: Vec::new(),
            gaps: [const { AtomicU64::new(0) }; KINDS],
        }
    }
}

impl SensorFigures {
    /// Those of a sensor that was started at this time, and has made no step.
    #[cfg(test)]
    pub(crate) fn begun(start: Instant) -> Self {
        Self { start, ..Self::default() }
    }

    /// Those of a sensor with these interfaces and outputs, which has counted nothing yet.
    pub(super) fn of(interfaces: &[String], outputs: &[&'static str]) -> Self {
        Self {
            lost: interfaces.iter().map(|name| (name.clone(), AtomicU64::default())).collect(),
            outputs: outputs.iter().map(|name| (*name, OutputFigures::default())).collect(),
            ..Self::default()
        }
    }

    /// Sets what was counted. `limit` is the number of flows that can be tracked.
    pub(super) fn set(&self, counts: &Counts, limit: u64, gaps: [u64; KINDS]) {
        for (place, count) in [
            (&self.packets, counts.packets),
            (&self.bytes, counts.bytes),
            (&self.flows, counts.tracked),
            (&self.flows_limit, limit),
            (&self.evictions, counts.evicted),
            (&self.records, counts.records),
        ] {
            place.store(count, Ordering::Relaxed);
        }
        for (place, missed) in self.gaps.iter().zip(gaps) {
            place.store(missed, Ordering::Relaxed);
        }
    }

    /// The thread of the sensor: it goes on. It makes some steps a second, whether packets come or
    /// not.
    pub(super) fn note_step(&self) {
        let now_ns = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.step_ns.store(now_ns, Ordering::Relaxed);
    }

    /// Whether the thread has made a step within this time.
    pub(crate) fn goes_on_within(&self, most: Duration) -> bool {
        let step = Duration::from_nanos(self.step_ns.load(Ordering::Relaxed));
        self.start.elapsed().saturating_sub(step) <= most
    }

    /// Records for which outputs had no room.
    pub(crate) fn refused(&self) -> u64 {
        let dropped = |(_, output): &(_, OutputFigures)| output.dropped.load(Ordering::Relaxed);
        self.outputs.iter().map(dropped).sum()
    }

    /// Adds packets that an interface has lost.
    pub(super) fn add_lost(&self, interface: usize, packets: u64) {
        if let Some((_, place)) = self.lost.get(interface) {
            place.fetch_add(packets, Ordering::Relaxed);
        }
    }
}
