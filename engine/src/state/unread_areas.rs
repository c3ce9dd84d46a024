//! Areas of an address space of which a scan shows only some.
//!
//! A process can change its tree of areas all the time, so that no scan reads the whole tree. What
//! a scan did read is compared all the same. A part of an old area is gone only if another area is
//! at its place; any other part that the scan does not show is kept as it was. If far more are kept
//! than the process has areas, those that no scan has shown for a while are not tracked any more.

use panoptes_tables::{ListPool, PoolCursor, PoolList};

use super::area::{Area, Old};
use super::change::Change;
use super::emit::Emitter;

use super::process::Process;

/// How far the old areas of a process were kept or removed, in the order of their addresses.
#[derive(Debug, Default)]
pub(super) struct UnreadAreas {
    /// The next old area.
    at: usize,
    /// The address up to which the list is built.
    from: u64,
    /// Whether a part of that area was kept.
    is_kept: bool,
    /// The row of the last area that was added, if it is an old one.
    reused: Option<u32>,
    /// Whether there are so many old areas that most of them must have ended.
    has_too_many: bool,
}

/// Number of areas that are kept beyond twice those that a process has.
const KEPT_MORE: usize = 64;
/// Number of consecutive scans without an area after which it is not tracked any more, if there are
/// too many areas. A scan right after a large unmap may show few of those that are left.
const UNSEEN_AREA_SCANS_MAX: u8 = 8;

impl UnreadAreas {
    /// For a process that has `present` areas now and had `old` ones.
    pub(super) fn new(present: usize, old: usize) -> Self {
        let has_too_many = old > present.saturating_mul(2).saturating_add(KEPT_MORE);
        Self { has_too_many, ..Self::default() }
    }

    /// Records that an area that ends at `end` was added, in the old row `reused`, if any.
    pub(super) fn pass(&mut self, end: u64, reused: Option<u32>) {
        self.from = end;
        self.reused = reused;
    }

    /// Adds the parts of the `old` areas that lie before `until` and that no area of the scan
    /// covers. Removes the old areas that such areas cover entirely.
    pub(super) fn keep(
        &mut self,
        until: u64,
        (rows, old): (&mut ListPool<Area>, &[Old]),
        (list, cursor): (&mut PoolList, &mut PoolCursor),
        process: &Process,
        emitter: &mut Emitter<'_>,
    ) {
        while let Some(&old) = old.get(self.at)
            && emitter.goes_on()
        {
            let area = *rows.at(old.number);
            let (start, end) = (area.start().max(self.from), area.end().min(until));
            let is_last = area.end() <= until;
            let is_stale = self.has_too_many && area.unseen_scans() >= UNSEEN_AREA_SCANS_MAX;
            let is_kept = start < end && !is_stale;
            if is_kept {
                let mut part = area.part(start, end);
                part.add_unseen_scan();
                if is_last {
                    *rows.at_mut(old.number) = part;
                    rows.attach(list, cursor, old.number);
                } else if rows.insert(list, cursor, part)
                    && let Some(name) = part.name
                {
                    emitter.names.strings.retain(name);
                }
                self.is_kept = true;
                self.from = end;
            }
            if !is_last {
                return;
            }
            if !is_kept && self.reused != Some(old.number) {
                if start >= end && !old.touched && !self.is_kept {
                    emitter.emit_named(|names| {
                        let area = area.facts(process.process_id(), &names.strings);
                        Change::AreaUnmapped { process, area }
                    });
                }
                area.release(&mut emitter.names.strings);
                rows.give_back(old.number);
            }
            self.at += 1;
            self.is_kept = false;
        }
    }
}
