//! What a scan has cost, in numbers: for metrics.

use crate::address::ReadCost;
use crate::walk::Budget;

/// A stage of a scan. Records of changes are written in the stage that finds the change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ScanStage {
    /// The machine's memory is read.
    Walk,
    /// What was read is compared with the state.
    Compare,
    /// Detectors check the scan.
    Detect,
    /// Files are hashed, and detectors judge the results.
    Hash,
    /// Sums and gaps are reported.
    Write,
}

impl ScanStage {
    /// All stages, in their order.
    pub const ALL: [Self; 5] = [Self::Walk, Self::Compare, Self::Detect, Self::Hash, Self::Write];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Walk => "walk",
            Self::Compare => "compare",
            Self::Detect => "detect",
            Self::Hash => "hash",
            Self::Write => "write",
        }
    }
}

/// What the last scan has cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct ScanFigures {
    /// Nanoseconds by stage, in the order of [`ScanStage::ALL`]. It is 0 for a stage that the scan
    /// did not reach, and without a clock ([`Budget::timed_by`]).
    pub stages_ns: [u64; ScanStage::ALL.len()],
    /// What was read; nothing if the scan gave no snapshot.
    pub work: ReadCost,
    /// Whether the scan has kept the rows of the one before, whether it is a light one, and whether
    /// it came before the interval was over.
    pub has_kept: bool,
    pub is_light: bool,
    pub is_early: bool,
    /// When the last stage ended.
    since_ns: u64,
}

impl ScanFigures {
    /// Those of a scan that begins.
    pub(super) fn begin(budget: &Budget<'_>) -> Self {
        Self { since_ns: budget.now_ns(), ..Self::default() }
    }

    /// Notes that a stage ends, and the next one begins.
    pub(super) fn end(&mut self, stage: ScanStage, budget: &Budget<'_>) {
        let before = std::mem::replace(&mut self.since_ns, budget.now_ns());
        self.stages_ns[stage as usize] += self.since_ns.saturating_sub(before);
    }
}
