//! The views that hide a kernel module, and when that is certain.

use panoptes_decoders::kernel::module::ModuleStage;

use crate::state::module_facts::ModuleFacts;
use crate::time::{RealTime, SECOND_NS};
use crate::walk::{ModuleScan, ModuleViews, Snapshot};

/// Number of quiet reads that must lack a module.
const QUIET_READS: u8 = 2;
/// Number of any reads that must lack it, and the time from the first to the last of them. While
/// modules come and go, one read in a few may fall into the moment between two views.
const READS: u8 = 8;
const READS_NS: i64 = SECOND_NS;
/// Number of reads that must show it in all views before it can be reported again.
const WHOLE_READS: u8 = 2;

/// What a read of modules proves.
#[derive(Clone, Copy, Debug)]
pub(super) struct ModuleRead {
    /// Views that were followed to their ends.
    pub(super) complete: ModuleViews,
    /// Whether nothing changed meanwhile.
    is_quiet: bool,
    /// Whether somebody held the lock of the list and the tree at its beginning.
    is_locked: bool,
    /// How often the scan counts: 1, or 0.
    counts: u8,
    is_copied: bool,
    /// Nanoseconds since boot, by the machine's clock.
    pub(super) boot_ns: Option<i64>,
    now: RealTime,
}

impl ModuleRead {
    pub(super) fn of(snapshot: &Snapshot, now: RealTime) -> Self {
        let ModuleScan { complete, quiet, busy_scans, .. } = snapshot.modules;
        Self {
            complete,
            is_quiet: quiet,
            is_locked: busy_scans > 0,
            counts: snapshot.counts(),
            is_copied: snapshot.copied.is_copy(),
            boot_ns: snapshot.machine.boot_ns(),
            now,
        }
    }
}

/// The views that hide a module.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HiddenModule {
    /// Those that lacked it in each of the last reads.
    from: ModuleViews,
    /// Those that were reported.
    pub(super) reported: ModuleViews,
    /// Number of these reads, and of the quiet ones among them, saturating.
    pub(super) reads: u8,
    quiet_reads: u8,
    /// Number of consecutive reads in which no view lacked it, saturating.
    whole_reads: u8,
    /// When the first of these reads was, and by the machine's clock.
    pub(super) since: RealTime,
    since_boot_ns: Option<i64>,
}

impl HiddenModule {
    /// Counts a read that shows the module so. Returns the views that hide it, if that is certain
    /// and was not reported.
    pub(super) fn note(&mut self, facts: &ModuleFacts, at: &ModuleRead) -> Option<ModuleViews> {
        let missing = facts.missing;
        // Its load or unload may be between the list and the tree, for as long as the machine lets
        // it stand there. A module that lives is in both.
        let is_between = at.is_locked && facts.stage != ModuleStage::Live;
        let counts = if is_between { 0 } else { at.counts };
        let still = self.from.and(missing);
        if !still.is_empty() {
            self.from = still;
        } else if !self.from.without(at.complete).is_empty() {
            // The view that hid it was not followed to its end.
            return None;
        } else if missing.is_empty() {
            let is_whole = self.reported.without(at.complete).is_empty();
            let whole_reads = self.whole_reads.saturating_add(at.counts * u8::from(is_whole));
            let is_over = whole_reads >= WHOLE_READS;
            let reported = if is_over { ModuleViews::NONE } else { self.reported };
            *self = Self { reported, whole_reads, ..Self::default() };
            return None;
        } else {
            let (since, since_boot_ns) = (at.now, at.boot_ns);
            let reported = self.reported;
            *self = Self { from: missing, reported, since, since_boot_ns, ..Self::default() };
        }
        self.whole_reads = 0;
        self.reads = self.reads.saturating_add(counts);
        self.quiet_reads = self.quiet_reads.saturating_add(counts * u8::from(at.is_quiet));
        (self.has_news() && self.is_certain(at)).then_some(self.from)
    }

    /// Whether another read would confirm at once what is suspected.
    pub(super) fn waits(&self) -> bool {
        self.has_news() && (1..READS).contains(&self.reads)
    }

    /// Whether a view hides the module that was not reported.
    fn has_news(&self) -> bool {
        !self.from.without(self.reported).is_empty()
    }

    fn is_certain(&self, at: &ModuleRead) -> bool {
        if at.is_copied {
            // A copy never changes, so its first read shows as much as all others together.
            return at.is_quiet;
        }
        let clocks = self.since_boot_ns.zip(at.boot_ns);
        let elapsed_ns = clocks.map_or(0, |(since, now)| now.saturating_sub(since));
        self.quiet_reads >= QUIET_READS || self.reads >= READS && elapsed_ns >= READS_NS
    }
}
