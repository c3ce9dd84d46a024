//! Rounds: all steps, one after the other, in slices.

use panoptes_decoders::source::MemorySource;
use panoptes_tables::HashKey;

use super::baseline::{Baseline, CodeWindow};
use super::check::{CHECKS, Check, CheckFacts};
use super::context::{CheckContext, Cursor, Progress, READ_BYTES_MAX};
use super::marks::OwnerMarks;
use super::owners::Owners;
use super::steps::{OWNERS, STEPS};
use super::violations::{ConfirmedViolation, Violations};
use crate::address::{MemoryReader, ReaderSizes};
use crate::time::Monotonic;
use crate::walk::{Kernel, Snapshot};

/// Bytes that rounds may read in a second.
const BYTES_A_SECOND: u64 = 4 << 20;
/// Bytes that may accumulate while there is no time.
const BYTES_SAVED_MAX: i64 = BYTES_A_SECOND.cast_signed();
/// Least time from the start of a round to the start of the next, in nanoseconds.
const ROUND_NS: i64 = 1_000_000_000;
/// Bytes that a round of a copy reads without asking for time.
const BYTES_AT_ONCE: usize = 1 << 20;

/// What rounds use only while they work. All systems of a thread share it.
#[derive(Debug)]
pub struct CodeBuffers {
    reader: MemoryReader,
    window: CodeWindow,
}

impl CodeBuffers {
    /// Allocates the batch for reads.
    pub fn new() -> Self {
        let arena_bytes = 2 * READ_BYTES_MAX as usize;
        let sizes = ReaderSizes { objects: 1024, arena_bytes, walks: 1024 };
        Self { reader: MemoryReader::new(sizes), window: CodeWindow::new() }
    }
}

impl Default for CodeBuffers {
    fn default() -> Self {
        Self::new()
    }
}

/// Where a round is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Stage {
    /// It waits for a scan that has read the modules.
    #[default]
    Waits,
    /// The number of the step, and where that continues.
    Works(usize, Cursor),
}

/// The integrity of one machine's kernel.
#[derive(Debug)]
pub struct KernelCode {
    stage: Stage,
    owners: Owners,
    violations: Violations,
    baseline: Baseline,
    /// What the present round has shown so far.
    facts: [CheckFacts; CHECKS],
    last: RoundFacts,
    marks: OwnerMarks,
    /// Whether the owners beside modules are to be searched before the next step.
    must_find_owners: bool,
    now: Monotonic,
    begun: Monotonic,
    /// Bytes that may be read now. Negative after a step that could not stop before.
    bytes_left: i64,
}

/// The number of rounds, and what the last one has shown.
#[derive(Clone, Copy, Debug, Default)]
pub struct RoundFacts {
    /// Number of rounds that have ended.
    pub rounds: u32,
    facts: [CheckFacts; CHECKS],
}

impl RoundFacts {
    /// One round that has shown these facts.
    #[cfg(test)]
    pub(crate) fn with(shown: &[(Check, CheckFacts)]) -> Self {
        let mut round = Self { rounds: 1, ..Self::default() };
        for (check, facts) in shown {
            round.facts[*check as usize] = *facts;
        }
        round
    }

    /// What the last round has shown of a check.
    pub fn of(&self, check: Check) -> CheckFacts {
        self.facts.get(check as usize).copied().unwrap_or_default()
    }
}

impl KernelCode {
    /// Allocates for one machine. No guest must know `key`.
    pub fn new(key: HashKey) -> Self {
        Self {
            stage: Stage::Waits,
            owners: Owners::new(),
            violations: Violations::new(),
            baseline: Baseline::new(key.derive("kernel code")),
            facts: [CheckFacts::default(); CHECKS],
            last: RoundFacts::default(),
            marks: OwnerMarks::default(),
            must_find_owners: false,
            now: Monotonic::default(),
            begun: Monotonic::default(),
            bytes_left: 0,
        }
    }

    /// Notes a scan: its modules, and the time that has passed. A round begins after a scan that
    /// has read the modules. A round that works gets those of a later scan if they are others.
    pub fn note_scan(&mut self, snapshot: &Snapshot, kernel: &Kernel, now: Monotonic) {
        let elapsed = now.since(self.now).clamp(0, 1_000_000_000) as u64;
        let bytes = elapsed * (BYTES_A_SECOND / 1_000_000) / 1000;
        self.bytes_left = self.bytes_left.saturating_add_unsigned(bytes).min(BYTES_SAVED_MAX);
        self.now = now;
        let is_due = self.last.rounds == 0 || now.since(self.begun) >= ROUND_NS;
        if !snapshot.modules.is_fresh {
            return;
        }
        if self.stage != Stage::Waits {
            if self.marks.lacks(&snapshot.machine.module_marks) {
                self.set_modules(snapshot, kernel);
            }
        } else if is_due {
            self.begin(snapshot, kernel);
        }
    }

    /// Makes the modules of a scan the owners of their memory.
    fn set_modules(&mut self, snapshot: &Snapshot, kernel: &Kernel) {
        self.marks.set_modules(snapshot.machine.module_marks, self.now);
        self.owners.begin(kernel.text(), &snapshot.modules);
        self.must_find_owners = true;
    }

    /// Begins a round.
    fn begin(&mut self, snapshot: &Snapshot, kernel: &Kernel) {
        self.begun = self.now;
        self.facts = [CheckFacts::default(); CHECKS];
        self.set_modules(snapshot, kernel);
        self.violations.begin_round();
        self.stage = Stage::Works(0, Cursor::default());
    }

    /// Whether [`Self::work`] has anything to do now.
    pub const fn has_work(&self) -> bool {
        matches!(self.stage, Stage::Works(..)) && self.bytes_left > 0
    }

    /// Does a slice of the round that reads about `bytes` bytes. Allocates nothing.
    pub fn work(
        &mut self,
        buffers: &mut CodeBuffers,
        source: &mut dyn MemorySource,
        kernel: &Kernel,
        bytes: usize,
    ) {
        let Stage::Works(mut step, mut cursor) = self.stage else { return };
        let bytes = usize::try_from(self.bytes_left).unwrap_or(0).min(bytes);
        buffers.reader.forget_translations();
        let mut context = CheckContext {
            source,
            kernel,
            reader: &mut buffers.reader,
            owners: &mut self.owners,
            facts: &mut self.facts,
            violations: &mut self.violations,
            baseline: &mut self.baseline,
            window: &mut buffers.window,
            now: self.now,
            bytes_left: bytes,
            bytes_read: 0,
        };
        let is_changed = self.marks.update(&mut context);
        // The first step finds them anyway.
        if (is_changed || self.must_find_owners) && step > 0 {
            context.owners.forget_all_but_modules();
            OWNERS(&mut context, &mut Cursor::default());
        }
        self.must_find_owners = false;
        while context.has_budget() {
            let Some(run) = STEPS.get(step) else { break };
            if run(&mut context, &mut cursor) == Progress::Done {
                (step, cursor) = (step + 1, Cursor::default());
            }
        }
        let are_owners_certain =
            !context.violations.has_new() || self.marks.is_certain(&mut context);
        context.violations.settle(are_owners_certain);
        self.bytes_left = self.bytes_left.saturating_sub_unsigned(context.bytes_read as u64);
        if step < STEPS.len() {
            self.stage = Stage::Works(step, cursor);
        } else {
            self.end();
        }
    }

    fn end(&mut self) {
        self.violations.end_round();
        let rounds = self.last.rounds.saturating_add(1);
        self.last = RoundFacts { rounds, facts: self.facts };
        self.stage = Stage::Waits;
    }

    /// Does a whole round at once, after a scan: for a command that checks once.
    pub fn check_at_once(
        &mut self,
        buffers: &mut CodeBuffers,
        source: &mut dyn MemorySource,
        (snapshot, kernel): (&Snapshot, &Kernel),
        now: Monotonic,
    ) {
        self.note_scan(snapshot, kernel, now);
        if self.stage == Stage::Waits {
            self.begin(snapshot, kernel);
        }
        while self.stage != Stage::Waits {
            self.bytes_left = BYTES_AT_ONCE as i64;
            self.work(buffers, source, kernel, BYTES_AT_ONCE);
        }
    }

    /// What the last round has shown.
    pub const fn last_round(&self) -> &RoundFacts {
        &self.last
    }

    /// The violations that at least so many successive rounds have seen.
    pub fn confirmed(&self, rounds: u32) -> impl Iterator<Item = &ConfirmedViolation> {
        self.violations.confirmed(rounds)
    }

    /// Passes each violation that is confirmed and not reported yet to `report`, until that
    /// returns `false`: there is no room for its record now.
    pub fn report(&mut self, report: &mut dyn FnMut(&ConfirmedViolation) -> bool) {
        while let Some(violation) = self.violations.next_unreported() {
            if !report(violation) {
                break;
            }
            violation.set_reported();
        }
    }

    /// Number of violations that found no room.
    pub const fn untracked(&self) -> u64 {
        self.violations.untracked
    }
}
