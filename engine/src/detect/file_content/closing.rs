//! One closed descriptor: its progress, and the change of its file.

use core::mem::swap;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::inode::{Attributes, mode};
use panoptes_records::activities::Severity;
use panoptes_tables::{StringId, Strings, Tag};

use super::explained::{ContentExplanation, ReportedContent, ReportedName, explanation};
use super::naming::{Moment, NameReads};
use super::{ABSENT_SCANS, ContentChange, HASHES_NS, SETTLED_SCANS, TEMPORARY_NS};
use crate::detect::{Acceptance, Finding, Findings};
use crate::page_cache::{Asker, ContentFacts, FileIdentity, HashOutcome};
use crate::state::described::ProcessDescription;
use crate::state::facts::{DescriptorFacts, FileName, InodeFacts, OpenFlags};
use crate::state::process::ProcessKey;
use crate::state::{FileAtOpen, ScanContext};
use crate::time::Now;

/// The content of an open file that was reported: `struct file`, inode, modification time and size.
pub(super) type ReportedFileVersion = (Tag<2>, KernelVa, i64, u64);

/// The progress of a closing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ClosingStage {
    /// Not checked yet.
    New,
    /// The file is still open elsewhere, or was in one of the last scans.
    Open { absent_scans: u8 },
    /// The file is closed; its inode has to be read.
    Closed,
    /// Unchanged, or reported, or not to be reported.
    Over,
    /// The content may have changed; whether it matters has to be decided.
    Changed,
    /// It does not matter by its name, and may still get one by which it does. `for_long`: some
    /// programs wait for a user before they rename such a file.
    TemporaryName { for_long: bool },
    /// It is to be reported; its hashes are awaited.
    Waiting { matters: bool },
}

impl ClosingStage {
    /// The stage of a file that does not matter, and that is reported only if others are.
    pub(super) const fn of_unimportant(others: bool) -> Self {
        if others { Self::Waiting { matters: false } } else { Self::Over }
    }
}

/// A descriptor that has closed.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts")]
pub(super) struct ClosedDescriptor {
    pub(super) stage: ClosingStage,
    pub(super) process: ProcessDescription,
    pub(super) index: u32,
    /// As it is now; as it was when the descriptor closed until that is known.
    pub(super) name: Option<StringId>,
    /// The name that it was opened by, if it has another one now.
    pub(super) previous: Option<StringId>,
    pub(super) naming: NameReads,
    pub(super) open: Option<OpenFlags>,
    pub(super) close_on_exec: bool,
    pub(super) attributes: InodeFacts,
    pub(super) opened: FileAtOpen,
    pub(super) file: Tag<2>,
    pub(super) inode: KernelVa,
    pub(super) since: Now,
    /// Whether this scan shows its file open.
    pub(super) is_open: bool,
    /// Number of scans since its file was closed.
    pub(super) closed_scans: u8,
    /// Whether a scan showed that a process runs its file.
    pub(super) is_running: bool,
    /// See [`super::rules::ChangedFile::is_nameless_by_chance`].
    pub(super) is_nameless_by_chance: bool,
    /// The package manager that the process descends from.
    pub(super) manager: Option<ProcessKey>,
}

impl ClosedDescriptor {
    /// The inode and the `struct file`.
    pub(super) fn open_file(&self) -> (KernelVa, Tag<2>) {
        (self.inode, self.file)
    }

    /// Whether it waits for its file to close.
    pub(super) fn awaits_close(&self) -> bool {
        matches!(self.stage, ClosingStage::New | ClosingStage::Open { .. })
    }

    /// Returns the sort key of a closing. Closings are sorted by file: those of this scan come
    /// first, then older ones whose files are open.
    pub(super) fn order(&self) -> ((KernelVa, Tag<2>), u8, (bool, i64)) {
        let stage = match self.stage {
            ClosingStage::New => 0,
            ClosingStage::Open { .. } => 1,
            _ => 2,
        };
        (self.open_file(), stage, order(self.opened))
    }

    /// Updates its stage from a scan that has seen its file open, or not, and counts 1 or 0 times.
    pub(super) fn follow(&mut self, is_open: bool, counts: u8, now: Now) {
        self.stage = match self.stage {
            ClosingStage::New | ClosingStage::Open { .. } if is_open => {
                ClosingStage::Open { absent_scans: 0 }
            }
            ClosingStage::Open { absent_scans } if absent_scans + counts < ABSENT_SCANS => {
                ClosingStage::Open { absent_scans: absent_scans + counts }
            }
            ClosingStage::Open { .. } => {
                self.since = now;
                // It was absent for some scans already.
                self.closed_scans = SETTLED_SCANS;
                ClosingStage::Closed
            }
            ClosingStage::New => {
                self.closed_scans = 0;
                ClosingStage::Closed
            }
            ClosingStage::Closed
            | ClosingStage::Changed
            | ClosingStage::TemporaryName { .. }
            | ClosingStage::Waiting { .. }
            | ClosingStage::Over => return,
        };
    }

    /// Decides whether the content may have changed. `now` is what was read at the inode's address.
    pub(super) fn decide(&mut self, now: Option<Attributes>) {
        let now = now.filter(|now| {
            now.ino == self.attributes.number && now.mode & mode::S_IFMT == mode::S_IFREG
        });
        self.naming.was_there = now.is_some();
        if let Some(now) = now {
            if now.nlink == 0 {
                self.stage = ClosingStage::Over;
                return;
            }
            self.attributes = self.attributes.with(&now);
        }
        let (is, was) = (&self.attributes, &self.opened);
        // A file that was just created is as old as its last access; nothing was written to it.
        let stays_empty = is.size == 0 && was.size == 0;
        let is_new = stays_empty && is.access_time_ns == is.modify_time_ns;
        // The times of an empty file say nothing about its content: `touch` sets them right after
        // it has created the file.
        let has_changed = was.written && !is_new
            || is.size != was.size
            || is.modify_time_ns != was.modify_time_ns && !stays_empty;
        self.stage = if has_changed { ClosingStage::Changed } else { ClosingStage::Over };
    }

    /// Exchanges the holder and its descriptor with those of a closing of the same file, if this
    /// one's process is older: a younger one has inherited the file, or shares the table.
    fn give_older_to(&mut self, other: &mut Self) {
        if self.process.start_boottime() < other.process.start_boottime() {
            swap(&mut self.process, &mut other.process);
            swap(&mut self.index, &mut other.index);
            swap(&mut self.name, &mut other.name);
            swap(&mut self.previous, &mut other.previous);
            swap(&mut self.open, &mut other.open);
            swap(&mut self.close_on_exec, &mut other.close_on_exec);
            swap(&mut self.manager, &mut other.manager);
        }
    }

    /// Whether a change is reported now: its hashes are known, and no other closing of the file
    /// came in the last scans, or it has waited long enough.
    pub(super) fn is_due(&self, has_hashes: bool, now: Now) -> bool {
        has_hashes && self.closed_scans >= SETTLED_SCANS || self.has_waited(now)
    }

    pub(super) fn has_waited(&self, now: Now) -> bool {
        now.monotonic.since(self.since.monotonic) >= HASHES_NS
    }

    /// Whether its file's name is to be read.
    pub(super) fn needs_name(&self, moment: Moment, now: Now) -> bool {
        let needs_read = self.naming.needs_read(moment);
        self.manager.is_none()
            && match self.stage {
                ClosingStage::Waiting { matters: true } => needs_read || self.has_waited(now),
                ClosingStage::TemporaryName { .. } => needs_read,
                _ => false,
            }
    }

    /// Whether its file, which does not matter, keeps its name.
    pub(super) fn keeps_name(&self, for_long: bool, now: Now) -> bool {
        let age = now.monotonic.since(self.since.monotonic);
        let is_settled = self.naming.is_settled || age >= HASHES_NS;
        if for_long { age >= TEMPORARY_NS } else { is_settled }
    }

    /// Whether the name of a change that matters is not settled yet.
    pub(super) fn awaits_name(&self, now: Now) -> bool {
        self.manager.is_none() && !self.naming.is_settled && !self.has_waited(now)
    }

    /// On whose behalf the file's content is asked for.
    pub(super) fn asker(&self) -> Asker {
        Asker { process_id: self.process.process_id(), group: self.process.group() }
    }

    pub(super) fn content(&self) -> ReportedFileVersion {
        (self.file, self.inode, self.attributes.modify_time_ns, self.attributes.size)
    }

    pub(super) fn identity(&self) -> FileIdentity {
        FileIdentity {
            inode: self.inode,
            device: self.attributes.device,
            number: self.attributes.number,
            change_time_ns: self.attributes.change_time_ns,
            modify_time_ns: self.attributes.modify_time_ns,
            size: self.attributes.size,
        }
    }

    /// Whether its file was last modified before a scan showed the descriptor: another one may have
    /// written it.
    pub(super) fn is_from_before(&self) -> bool {
        let (is, was) = (&self.attributes, &self.opened);
        (is.size, is.modify_time_ns) == (was.size, was.modify_time_ns)
    }

    /// Whether a report has its content: one of its open file or, if this descriptor has not seen
    /// the change, one of its inode under any name.
    pub(super) fn is_reported(
        &self,
        reported: &[ReportedFileVersion],
        explained: &[ReportedContent],
    ) -> bool {
        reported.contains(&self.content())
            || self.is_from_before()
                && explanation(explained, &self.explanation(None)) == ContentExplanation::Yes
    }

    /// What its record explains; `path` is the hash of its path, if the record names one.
    pub(super) fn explanation(&self, path: Option<u64>) -> ReportedContent {
        let InodeFacts { number, modify_time_ns, size, change_time_ns, .. } = self.attributes;
        // Under a name that is not certain, the file may have had another one before.
        let before = i64::from(!self.naming.is_certain);
        let change_time_ns = change_time_ns.saturating_sub(before);
        let name = path.map(|path| ReportedName { path, change_time_ns, is_replaced: false });
        ReportedContent { inode: self.inode, number, modify_time_ns, size, name }
    }

    pub(super) fn report(
        &self,
        strings: &Strings,
        cx: &ScanContext<'_>,
        out: &mut dyn Findings,
        known: Option<&ContentFacts>,
        (matters, severity): (bool, Option<Severity>),
    ) -> Acceptance {
        let partial = known.and_then(|known| match known.outcome {
            HashOutcome::Partial(partial) => Some(partial),
            HashOutcome::Whole { .. } | HashOutcome::Nothing => None,
        });
        let change = ContentChange {
            process: self.process.facts(strings),
            descriptor: DescriptorFacts {
                index: self.index,
                name: self.name.map(|id| FileName::Text(strings.get(id))),
                close_on_exec: self.close_on_exec,
                open: self.open,
                inode: Some(self.attributes),
                ..DescriptorFacts::default()
            },
            previous: self.previous.map(|id| strings.get(id)),
            opened: self.opened,
            hashes: known.and_then(ContentFacts::hashes),
            partial,
            since_ns: self.since.real,
            matters,
            severity,
        };
        out.found(cx, &Finding::FileContent(&change))
    }
}

/// Merges closings of one file, sorted by [`ClosedDescriptor::order`]. Keeps one that waits for the
/// file to close: a new one if there is one. It takes over the first known state of the file: the
/// state of the descriptor that saw it modified, or else the one with the oldest modification time.
///
/// A scan may not show that another process has the file open, so the change may wait to be
/// reported already. If the file `is_open` no more, that closing stands for the new one, too: the
/// file is read again, and the change waits no longer than it would have.
pub(super) fn merge(same: &mut [ClosedDescriptor], is_open: bool) -> Option<&mut ClosedDescriptor> {
    let first = same.first().filter(|first| first.awaits_close())?;
    let is_new = first.stage == ClosingStage::New && !is_open;
    let is_changed =
        |closing: &ClosedDescriptor| matches!(closing.stage, ClosingStage::Waiting { .. });
    let changed = if is_new { same.iter().position(is_changed) } else { None };
    let kept_at = changed.unwrap_or(0);
    let mut opened = same.get(kept_at)?.opened;
    for (at, closing) in same.iter_mut().enumerate() {
        if at != kept_at && closing.awaits_close() {
            opened = first_of(opened, closing.opened);
            closing.stage = ClosingStage::Over;
        }
    }
    if let Some((new, rest)) = same.split_first_mut()
        && let Some(kept) = kept_at.checked_sub(1).and_then(|at| rest.get_mut(at))
    {
        new.give_older_to(kept);
    }
    let kept = same.get_mut(kept_at)?;
    kept.opened = opened;
    if changed.is_some() {
        (kept.stage, kept.naming) = (ClosingStage::New, NameReads::default());
    }
    Some(kept)
}

/// The order in which states of a file were probably seen.
fn order(opened: FileAtOpen) -> (bool, i64) {
    (!opened.written, opened.modify_time_ns)
}

/// The state that was probably seen first.
fn first_of(one: FileAtOpen, other: FileAtOpen) -> FileAtOpen {
    if order(other) < order(one) { other } else { one }
}
