//! Rounds over the kernel's code, as one watched machine has them.

use panoptes_decoders::source::MemorySource;
use panoptes_records::activities::Activity;
use panoptes_tables::HashKey;

use crate::detect::Acceptance;
use crate::kernel_code::{CodeBuffers, CodeNames, KernelCode, RoundFacts, symbol_at};
use crate::page_cache::MachineMemory;
use crate::policy::{PolicyConfig, Reporter};
use crate::state::ScanContext;
use crate::time::Monotonic;
use crate::walk::{Kernel, Snapshot};

/// What reports violations.
const ACTIVITIES: [Activity; 3] =
    [Activity::KernelHookDetected, Activity::KernelCodeWithoutOwner, Activity::KernelTextModified];

/// The rounds of a machine, if a violation would be reported.
#[derive(Debug)]
pub(super) struct CodeRounds {
    code: KernelCode,
    is_wanted: bool,
    /// Whether the last slice of work was one of a round.
    had_turn: bool,
}

impl CodeRounds {
    pub(super) fn new(policy: &PolicyConfig, key: HashKey) -> Self {
        Self { code: KernelCode::new(key), is_wanted: is_wanted(policy), had_turn: false }
    }

    /// Checks the kernel's code from now on if a violation would be reported.
    pub(super) fn set_policy(&mut self, policy: &PolicyConfig) {
        self.is_wanted = is_wanted(policy);
    }

    /// Notes a scan that was compared. The kernel patches its code until it runs a program.
    pub(super) fn note_scan(&mut self, snapshot: &Snapshot, kernel: &Kernel, now: Monotonic) {
        if self.is_wanted && super::first_of(snapshot).is_some_and(|first| first.runs_a_program) {
            self.code.note_scan(snapshot, kernel, now);
        }
    }

    /// Passes what is confirmed to the reporter.
    pub(super) fn report(
        &mut self,
        memory: &mut MachineMemory<'_>,
        cx: &ScanContext<'_>,
        reporter: &mut Reporter<'_>,
    ) {
        let modules = &cx.snapshot.modules;
        let mut symbol = |at| symbol_at(memory.source, memory.kernel, at);
        self.code.report(&mut |violation| {
            let names = CodeNames::of(&violation.violation, modules, &mut symbol);
            reporter.kernel_code(cx, violation, &names) == Acceptance::Yes
        });
    }

    /// What the last round has shown; `None` if there are no rounds.
    pub(super) fn last_round(&self) -> Option<&RoundFacts> {
        self.is_wanted.then(|| self.code.last_round())
    }

    pub(super) const fn has_work(&self) -> bool {
        self.is_wanted && self.code.has_work()
    }

    /// Whether the next slice of work is one of a round: files have every other one.
    pub(super) const fn has_turn(&mut self, have_files_work: bool) -> bool {
        self.had_turn = self.has_work() && !(have_files_work && self.had_turn);
        self.had_turn
    }

    pub(super) fn work(
        &mut self,
        buffers: &mut CodeBuffers,
        source: &mut dyn MemorySource,
        kernel: &Kernel,
        bytes: usize,
    ) {
        self.code.work(buffers, source, kernel, bytes);
    }
}

/// Whether a violation would be reported.
fn is_wanted(policy: &PolicyConfig) -> bool {
    ACTIVITIES.iter().any(|&activity| policy.is_enabled(activity))
}
