//! Figures of a sensor of flows, for metrics. Its threads set them once a second; any thread may
//! read them at any time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use panoptes_flow::FlowTableCounts;

use super::gaps::KINDS;

/// Stands for an interface in the losses between threads.
const BETWEEN_THREADS: &str = "threads";

/// The figures since the sensor was started.
#[derive(Debug)]
pub(crate) struct SensorFigures {
    /// When it was started.
    start: Instant,
    /// When its thread has made its last step, in nanoseconds since then. If several divide the
    /// packets, these follow.
    steps_ns: Vec<AtomicU64>,
    pub(crate) packets: AtomicU64,
    /// Their bytes on the wire.
    pub(crate) bytes: AtomicU64,
    /// Flows that are tracked now, and how many can be.
    pub(crate) flows: AtomicU64,
    pub(crate) flows_limit: AtomicU64,
    /// Flows that were reported early because a table was full.
    pub(crate) evictions: AtomicU64,
    pub(crate) records: AtomicU64,
    /// Packets that had no room, by interface; those on their way between threads are the last.
    pub(crate) lost: Vec<(String, AtomicU64)>,
    /// Name and figures of each output.
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
            steps_ns: vec![AtomicU64::default()],
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

    /// Those of a sensor with these interfaces and outputs, which has counted nothing yet, and so
    /// many threads beside the one that writes.
    pub(super) fn of(interfaces: &[String], outputs: &[&'static str], threads: usize) -> Self {
        let between = (threads > 0).then(|| BETWEEN_THREADS.to_owned());
        let names = interfaces.iter().cloned().chain(between);
        Self {
            steps_ns: (0..=threads).map(|_| AtomicU64::default()).collect(),
            lost: names.map(|name| (name, AtomicU64::default())).collect(),
            outputs: outputs.iter().map(|name| (*name, OutputFigures::default())).collect(),
            ..Self::default()
        }
    }

    /// Sets what was counted. `limit` is the number of flows that can be tracked.
    pub(super) fn set(&self, counts: &FlowTableCounts, limit: u64, gaps: [u64; KINDS]) {
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

    /// Notes a step of the sensor's thread. It makes some steps a second, whether packets come or
    /// not.
    pub(super) fn note_step(&self) {
        let now_ns = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.set_step(0, now_ns);
    }

    /// The same for one of the threads that divide the packets.
    pub(super) fn note_step_of(&self, part: usize) {
        let now_ns = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.set_step(part + 1, now_ns);
    }

    /// This one ends, and makes no more steps.
    pub(super) fn note_end_of(&self, part: usize) {
        self.set_step(part + 1, u64::MAX);
    }

    fn set_step(&self, thread: usize, step_ns: u64) {
        if let Some(place) = self.steps_ns.get(thread) {
            place.store(step_ns, Ordering::Relaxed);
        }
    }

    /// Whether all threads have made a step within this time.
    pub(crate) fn goes_on_within(&self, most: Duration) -> bool {
        let now = self.start.elapsed();
        self.steps_ns.iter().all(|step_ns| {
            let step = Duration::from_nanos(step_ns.load(Ordering::Relaxed));
            now.saturating_sub(step) <= most
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thread_has_to_go_on() {
        let start = Instant::now().checked_sub(Duration::from_mins(1)).expect("an earlier time");
        let figures = SensorFigures { start, ..SensorFigures::of(&[], &[], 2) };
        figures.add_lost(0, 7);
        let lost = figures.lost.iter().map(|(name, lost)| (&**name, lost.load(Ordering::Relaxed)));
        assert_eq!(lost.collect::<Vec<_>>(), [("threads", 7)]);
        let goes_on = || figures.goes_on_within(Duration::from_secs(10));
        figures.note_step();
        figures.note_step_of(0);
        assert!(!goes_on(), "the second one has made no step");
        figures.note_step_of(1);
        assert!(goes_on());
        figures.set_step(2, 0);
        assert!(!goes_on());
        figures.note_end_of(1);
        assert!(goes_on(), "one that has ended makes no steps");
    }
}
