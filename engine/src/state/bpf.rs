//! Programs of eBPF and their links: which ones were loaded, unloaded, attached and detached, which
//! one the kernel's IDR lacks, and which one is dangerous.
//!
//! A program and a link are their addresses, numbers and times of load. Only a scan that has read
//! eBPF says something about them ([`crate::walk::BpfScan::is_fresh`]). The rules:
//!
//! * A program is *loaded* once, when the IDR has it. Those that the first read shows are the
//!   baseline. It is *unloaded* when no view has it any more, and the IDR was read to its end. If
//!   others were loaded during that read, two successive reads must lack it. One that the IDR has
//!   lacked may only be shown by a descriptor, so scans must have looked at all of them.
//! * Another number or time of load in the same place is an unload and a load.
//! * A link with a program is *attached* once, when the IDR of links has it under a number: the
//!   kernel adds it without one before it is whole (`bpf_link_prime`, kernel/bpf/syscall.c). It is
//!   *detached* when it is gone as a program is, when it gets another program, or when two reads in
//!   a row show that it has lost its place: its control group or interface has ended. A program
//!   in a place without a link is *attached* as a link is, and *detached* when two reads of all
//!   such places lack it.
//! * A program is *hidden* if a complete IDR lacks it, although it has references ([`hidden`]).
//! * A program is *dangerous* if it has one of [`BpfHelpers`]. It is reported once, also for
//!   programs of the baseline. That a program of LSM denies is reported when all descriptors were
//!   looked at.
//!
//! Not here: how they are read (`walk::bpf`), and which records follow (`policy`).

mod hidden;

use core::cell::Cell;

use arrayvec::ArrayVec;
use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::bpf_attach::attachment_kind;
use panoptes_tables::{HashKey, Index, Key, Row, RowId, ScanNumber, Table};

use super::MachineState;
pub use super::bpf_facts::{
    BPF_NAME_BYTES, BPF_PLACE_BYTES, BpfLinkFacts, BpfPlace, BpfProgramFacts,
};
use super::change::Change;
use super::emit::Update;
use super::process::Process;
use crate::loss::Loss;
use crate::time::{Monotonic, SECOND_NS};
use crate::walk::{
    BpfHelpers, BpfLinkRow, BpfProgramRow, BpfScan, BpfTarget, ProcessRow, Snapshot, bpf_view,
};
use hidden::{BpfRead, SuspectedProgram};

/// Maximum number of programs that are tracked. systemd loads some 30, a runtime of containers one
/// for each of them, Cilium 300.
pub(super) const BPF_PROGRAMS_TRACKED_MAX: usize = 768;
/// Maximum number of links that are tracked.
pub(super) const BPF_LINKS_TRACKED_MAX: usize = 480;
/// Maximum number of programs that are suspected at a time. Those that are reported make room.
const SUSPECTS_MAX: usize = 8;
/// Number of reads that must lack an object, or the place of a link, if others change meanwhile.
const ABSENT_READS: u8 = 2;
/// Number of reads after which the baseline is complete although no IDR was.
const BPF_BEGINNING_READS_MAX: u32 = 16;
/// How long an IDR may be incomplete before that is a gap.
const BLOCKED_NS: i64 = 10 * SECOND_NS;

/// The key of a program or a link: the address of its structure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BpfKey(u64);

impl Key for BpfKey {
    fn hash(&self, key: HashKey) -> u64 {
        key.hash_numbers([self.0])
    }
}

/// One program.
#[derive(Clone, Copy, Debug)]
pub struct TrackedBpfProgram {
    /// As it was last read.
    pub facts: BpfProgramFacts,
    /// Number of consecutive reads without it.
    absent_reads: u8,
    /// Number of consecutive reads of a complete IDR that has it.
    whole_reads: u8,
    /// Whether its load was reported, or belongs to the baseline.
    is_announced: bool,
    is_hidden_reported: bool,
    is_danger_reported: bool,
}

const _: () = assert!(size_of::<Option<TrackedBpfProgram>>() <= 80);

impl Row for TrackedBpfProgram {
    type Key = BpfKey;

    fn key(&self) -> BpfKey {
        BpfKey(self.facts.address.0)
    }
}

/// One link.
#[derive(Clone, Copy, Debug)]
pub struct TrackedBpfLink {
    /// As it was last read; its place as it was last known.
    pub facts: BpfLinkFacts,
    /// Number of consecutive reads without it.
    absent_reads: u8,
    /// Number of consecutive reads without its place.
    placeless_reads: u8,
    /// Whether the IDR of links had it in the last read.
    is_listed: bool,
    /// Whether its end was reported: it is still there, but attaches nothing.
    is_detached: bool,
}

const _: () = assert!(size_of::<Option<TrackedBpfLink>>() <= 88);

impl Row for TrackedBpfLink {
    type Key = BpfKey;

    fn key(&self) -> BpfKey {
        BpfKey(self.facts.address.0)
    }
}

/// Counts a read of a complete view without an object; returns whether it is gone.
fn is_gone(absent_reads: &mut u8, is_quiet: bool) -> bool {
    *absent_reads = absent_reads.saturating_add(1);
    is_quiet || *absent_reads >= ABSENT_READS
}

/// The programs of eBPF of one machine, and their links.
#[derive(Debug)]
pub(super) struct Bpf {
    programs: Table<TrackedBpfProgram>,
    links: Table<TrackedBpfLink>,
    suspects: ArrayVec<SuspectedProgram, SUSPECTS_MAX>,
    /// The objects and views that were not compared. No process is to blame.
    pub(super) lost: Loss,
    /// Number of objects that found no room in the last read.
    untracked: u32,
    /// Since when reads do not follow a view to its end.
    blocked_since: Option<Monotonic>,
    /// Whether that is a gap.
    is_blocked: bool,
    /// Number of reads until the baseline was complete.
    beginning_reads: u32,
    has_baseline: bool,
    /// Whether another read would confirm at once what is suspected.
    pub(super) waits: bool,
}

impl Bpf {
    pub(super) fn new(key: HashKey) -> Self {
        let links = key.derive("state: links of eBPF");
        Self {
            programs: Table::new(BPF_PROGRAMS_TRACKED_MAX, key.derive("state: programs of eBPF")),
            links: Table::new(BPF_LINKS_TRACKED_MAX, links),
            suspects: ArrayVec::new(),
            lost: Loss::default(),
            untracked: 0,
            blocked_since: None,
            is_blocked: false,
            beginning_reads: 0,
            has_baseline: false,
            waits: false,
        }
    }

    pub(super) fn clear(&mut self) {
        self.programs.clear();
        self.links.clear();
        self.suspects.clear();
        self.untracked = 0;
        self.blocked_since = None;
        (self.is_blocked, self.waits) = (false, false);
        (self.beginning_reads, self.has_baseline) = (0, false);
    }

    /// Notes which of the tracked objects a read shows.
    fn match_rows(&mut self, bpf: &BpfScan, scan: ScanNumber) {
        self.untracked = bpf.programs.dropped.saturating_add(bpf.links.dropped);
        for row in bpf.programs.as_slice() {
            if let Some(id) = self.programs.find(&BpfKey(row.address.0)) {
                self.programs.see(id, scan);
            }
        }
        for row in bpf.links.as_slice() {
            if let Some(id) = self.links.find(&BpfKey(row.address.0)) {
                self.links.see(id, scan);
            }
        }
        for suspect in &mut self.suspects {
            suspect.is_current = false;
        }
    }

    /// The next link that a read proves to be gone, from a row on. It is removed.
    fn next_link_gone(
        &mut self,
        from: u32,
        at: &BpfRead,
        scan: ScanNumber,
    ) -> Option<(RowId, TrackedBpfLink)> {
        for number in from..self.links.end() {
            let id = RowId(number);
            if self.links.last_seen(id) == Some(scan) {
                continue;
            }
            let program = self.links.get(id).map(|row| BpfKey(row.facts.program.0));
            let program = program.and_then(|program| self.programs.find(&program));
            let has_program = program.and_then(|id| self.programs.last_seen(id)) == Some(scan);
            let Some(row) = self.links.get_mut(id) else { continue };
            let (is_looked_for, is_quiet) = if !row.facts.is_attachment() {
                (at.has_links && (row.is_listed || at.has_descriptors), at.is_quiet)
            } else if at.is_complete && !has_program {
                // The kernel frees no program that a place has.
                (true, at.is_quiet)
            } else {
                // Attachments change while nothing is loaded. Descriptors show some of them.
                let is_held = u32::from(row.facts.kind) == attachment_kind::PERF_EVENT;
                (at.has_attachments && (at.has_descriptors || !is_held), false)
            };
            if is_looked_for && is_gone(&mut row.absent_reads, is_quiet) {
                return Some((id, self.links.remove(id)?));
            }
        }
        None
    }

    /// The next program that a read proves to be gone, from a row on. It is removed.
    fn next_program_gone(
        &mut self,
        from: u32,
        at: &BpfRead,
        scan: ScanNumber,
    ) -> Option<(RowId, TrackedBpfProgram)> {
        for number in from..self.programs.end() {
            let id = RowId(number);
            if self.programs.last_seen(id) == Some(scan) || !at.is_complete {
                continue;
            }
            let Some(row) = self.programs.get_mut(id) else { continue };
            let is_looked_for = row.facts.is_listed() || at.has_descriptors;
            if is_looked_for && is_gone(&mut row.absent_reads, at.is_quiet) {
                return Some((id, self.programs.remove(id)?));
            }
        }
        None
    }

    /// The row of a program, which is added if it is new, listed or suspected, and if there is
    /// room.
    fn program_row(&mut self, facts: &BpfProgramFacts, scan: ScanNumber) -> Option<RowId> {
        if let Some(id) = self.programs.find(&BpfKey(facts.address.0)) {
            return Some(id);
        }
        let id = self.programs.insert(
            TrackedBpfProgram {
                facts: *facts,
                absent_reads: 0,
                whole_reads: 0,
                is_announced: false,
                is_hidden_reported: false,
                is_danger_reported: false,
            },
            scan,
        );
        self.untracked = self.untracked.saturating_add(self.programs.take_newcomers());
        id
    }

    /// Counts a read in which the complete IDR lacks a program. Returns since when and in how many
    /// reads it does, if that is certain.
    fn suspect(&mut self, address: KernelVa, at: &BpfRead) -> Option<SuspectedProgram> {
        let known = self.suspects.iter().position(|suspect| suspect.address == address);
        let place = known.or_else(|| {
            self.suspects.try_push(SuspectedProgram::new(address, at)).ok()?;
            self.suspects.len().checked_sub(1)
        })?;
        let suspect = self.suspects.get_mut(place)?;
        suspect.note(at).then_some(*suspect)
    }

    /// Forgets that a program is suspected.
    fn forget_suspect(&mut self, address: KernelVa) {
        self.suspects.retain(|suspect| suspect.address != address);
    }

    /// Notes the end of a read: whether the baseline is complete, and what is in the way.
    fn end_read(&mut self, snapshot: &Snapshot, at: &BpfRead, now: Monotonic) {
        self.beginning_reads = self.beginning_reads.saturating_add(1);
        let of_links = bpf_view::LINK_IDR | bpf_view::ATTACHMENT;
        let has_all = at.is_complete && snapshot.bpf.stopped & of_links == 0;
        self.has_baseline |= has_all || self.beginning_reads >= BPF_BEGINNING_READS_MAX;
        // What may have shown it was not looked at, or the IDR was not followed to its end.
        let is_partial = !at.is_complete || !at.has_descriptors;
        self.suspects.retain(|suspect| suspect.is_current || is_partial);
        // Another read of a copy shows nothing more.
        self.waits = !self.suspects.is_empty() && !snapshot.copied.is_copy();
        let is_blocked = snapshot.bpf.stopped != 0;
        let since = self.blocked_since.filter(|_| is_blocked);
        self.blocked_since = is_blocked.then_some(since.unwrap_or(now));
        self.is_blocked = since.is_some_and(|since| now.since(since) >= BLOCKED_NS);
    }

    /// Counts what is not compared, as of the last read.
    fn count_losses(&mut self) {
        self.lost.begin_scan();
        self.lost.stand(u64::from(self.untracked) + u64::from(self.is_blocked), None);
    }
}

impl MachineState {
    /// The tracked programs of eBPF.
    pub fn bpf_programs(&self) -> impl Iterator<Item = &TrackedBpfProgram> {
        self.bpf.programs.ids().filter_map(|id| self.bpf.programs.get(id))
    }

    /// Compares the programs and links of a scan, if it has read them. What is detached comes
    /// before what is unloaded, and what is loaded before what is attached.
    pub(super) fn update_bpf(&mut self, update: &mut Update<'_>) {
        let snapshot = update.snapshot;
        let bpf = &snapshot.bpf;
        if bpf.is_fresh {
            let is_quiet = !self.bpf.has_baseline && !self.settings.report_existing;
            let at = BpfRead::of(snapshot, update.now.real);
            self.bpf.match_rows(bpf, self.scan);
            self.remove_bpf(&at, update);
            for row in bpf.programs.as_slice() {
                if update.must_stop() {
                    return;
                }
                self.update_bpf_program(row, &at, is_quiet, update);
            }
            for row in bpf.links.as_slice() {
                if update.must_stop() {
                    return;
                }
                self.update_bpf_link(row, is_quiet, update);
            }
            self.bpf.end_read(snapshot, &at, update.now.monotonic);
        }
        self.bpf.count_losses();
    }

    /// Reports and removes what a read proves to be gone, or that another one is in its place.
    fn remove_bpf(&mut self, at: &BpfRead, update: &mut Update<'_>) {
        let mut from = 0;
        while let Some((id, gone)) = self.bpf.next_link_gone(from, at, self.scan) {
            from = id.0 + 1;
            self.report_detached(&gone, update);
        }
        for row in update.snapshot.bpf.links.as_slice() {
            let known = self.bpf.links.find(&BpfKey(row.address.0));
            let facts = BpfLinkFacts::read(row, None);
            let other = known.filter(|&id| {
                self.bpf.links.get(id).is_some_and(|known| known.facts.is_another(&facts))
            });
            if let Some(gone) = other.and_then(|id| self.bpf.links.remove(id)) {
                self.report_detached(&gone, update);
            }
        }
        let mut from = 0;
        while let Some((id, gone)) = self.bpf.next_program_gone(from, at, self.scan) {
            from = id.0 + 1;
            self.report_unloaded_program(&gone, update);
        }
        for row in update.snapshot.bpf.programs.as_slice() {
            let known = self.bpf.programs.find(&BpfKey(row.address.0));
            let facts = BpfProgramFacts::read(row);
            let other = known.filter(|&id| {
                self.bpf.programs.get(id).is_some_and(|known| known.facts.is_another(&facts))
            });
            if let Some(gone) = other.and_then(|id| self.bpf.programs.remove(id)) {
                self.report_unloaded_program(&gone, update);
            }
        }
    }

    fn update_bpf_program(
        &mut self,
        row: &BpfProgramRow,
        at: &BpfRead,
        is_quiet: bool,
        update: &mut Update<'_>,
    ) {
        let is_listed = row.views & bpf_view::PROGRAM_IDR != 0;
        let is_missing = !is_listed && at.is_complete && row.references > 0;
        let is_known = self.bpf.programs.find(&BpfKey(row.address.0)).is_some();
        if !is_listed && !is_missing && !is_known {
            return;
        }
        let mut facts = BpfProgramFacts::read(row);
        let Some(id) = self.bpf.program_row(&facts, self.scan) else { return };
        let Some(tracked) = self.bpf.programs.get_mut(id) else { return };
        facts.keep_known(&tracked.facts);
        tracked.facts = facts;
        tracked.absent_reads = 0;
        let begins = is_listed && !tracked.is_announced;
        tracked.is_announced |= is_listed;
        // Its holder decides whether it is to be reported that it denies.
        let is_known = facts.helpers != BpfHelpers::DENIES || at.has_descriptors;
        let is_dangerous = !facts.helpers.is_empty() && is_known && !tracked.is_danger_reported;
        if is_listed {
            let whole_reads = tracked.whole_reads.saturating_add(u8::from(at.is_complete));
            tracked.whole_reads = whole_reads;
            tracked.is_hidden_reported &= whole_reads < ABSENT_READS;
        } else if is_missing {
            tracked.whole_reads = 0;
        }
        let is_news = is_missing && !tracked.is_hidden_reported;
        if !is_missing && at.is_complete {
            self.bpf.forget_suspect(row.address);
        }
        let program = &facts;
        let holder = row.holder;
        if begins && !is_quiet {
            self.emit_bpf(holder, update, |process| Change::BpfProgramLoaded { program, process });
        }
        if is_dangerous {
            let is_accepted = &Cell::new(true);
            let change = |process| Change::BpfProgramDangerous { program, process, is_accepted };
            self.emit_bpf(holder, update, change);
            if let Some(tracked) = self.bpf.programs.get_mut(id) {
                tracked.is_danger_reported = is_accepted.get();
            }
        }
        if is_news && let Some(suspect) = self.bpf.suspect(row.address, at) {
            let is_accepted = &Cell::new(true);
            let (scans, since_ns) = (u32::from(suspect.reads.max(1)), suspect.since);
            self.emit_bpf(holder, update, |process| Change::BpfProgramHidden {
                program,
                process,
                scans,
                since_ns,
                is_accepted,
            });
            if is_accepted.get() {
                self.bpf.forget_suspect(row.address);
                if let Some(tracked) = self.bpf.programs.get_mut(id) {
                    tracked.is_hidden_reported = true;
                }
            }
        }
    }

    fn update_bpf_link(&mut self, row: &BpfLinkRow, is_quiet: bool, update: &mut Update<'_>) {
        let snapshot = update.snapshot;
        let program = snapshot.bpf.programs.at(row.program);
        let mut facts = BpfLinkFacts::read(row, program);
        let is_whole = row.is_attachment() || row.id != 0 && !row.program_address.is_null();
        let is_listed = row.views & (bpf_view::PROGRAM_IDR | bpf_view::ATTACHMENT) != 0;
        let is_placeless = row.target == BpfTarget::Unknown;
        let Some(id) = self.bpf.links.find(&BpfKey(row.address.0)) else {
            if is_whole && is_listed {
                self.attach(&facts, (row, program), is_quiet, update);
            }
            return;
        };
        let Some(tracked) = self.bpf.links.get_mut(id) else { return };
        tracked.absent_reads = 0;
        tracked.is_listed = is_listed;
        let had_place = tracked.facts.place != BpfPlace::Unknown;
        let reads = tracked.placeless_reads.saturating_add(1);
        tracked.placeless_reads = if is_placeless && had_place { reads } else { 0 };
        facts.keep_known(&tracked.facts);
        tracked.facts = facts;
        if tracked.placeless_reads >= ABSENT_READS && !tracked.is_detached {
            let detached = *tracked;
            tracked.is_detached = true;
            self.report_detached(&detached, update);
        }
    }

    /// Adds a link that is new, and reports it.
    fn attach(
        &mut self,
        facts: &BpfLinkFacts,
        (row, program): (&BpfLinkRow, Option<&BpfProgramRow>),
        is_quiet: bool,
        update: &mut Update<'_>,
    ) {
        let new = TrackedBpfLink {
            facts: *facts,
            absent_reads: 0,
            placeless_reads: 0,
            is_listed: true,
            is_detached: false,
        };
        let is_tracked = self.bpf.links.insert(new, self.scan).is_some();
        self.bpf.untracked = self.bpf.untracked.saturating_add(self.bpf.links.take_newcomers());
        if !is_tracked || is_quiet {
            return;
        }
        let program = program.map(BpfProgramFacts::read);
        let holder = row.holder.or(row.program.and_then(|program| {
            update.snapshot.bpf.programs.at(program).and_then(|program| program.holder)
        }));
        let (link, program) = (facts, program.as_ref());
        self.emit_bpf(holder, update, |process| Change::BpfProgramAttached {
            link,
            program,
            process,
        });
    }

    /// Reports that a link attaches its program no more.
    fn report_detached(&mut self, gone: &TrackedBpfLink, update: &mut Update<'_>) {
        if gone.is_detached {
            return;
        }
        let link = &gone.facts;
        let program = self.bpf.programs.find(&BpfKey(link.program.0));
        let program = program.and_then(|id| self.bpf.programs.get(id)).map(|row| row.facts);
        // Another program may be in the place of its own.
        let program = program.filter(|facts| link.program_id == 0 || facts.id == link.program_id);
        let program = program.as_ref();
        self.emit_bpf(None, update, |_| Change::BpfProgramDetached { link, program });
    }

    /// Reports that a program is gone, unless its load was not reported either.
    fn report_unloaded_program(&mut self, gone: &TrackedBpfProgram, update: &mut Update<'_>) {
        self.bpf.forget_suspect(gone.facts.address);
        if gone.is_announced {
            let program = &gone.facts;
            self.emit_bpf(None, update, |_| Change::BpfProgramUnloaded { program });
        }
    }

    /// Emits a change, with the process that a row names if it is tracked.
    fn emit_bpf<'a>(
        &'a mut self,
        holder: Option<Index<ProcessRow>>,
        update: &mut Update<'_>,
        change: impl FnOnce(Option<&'a Process>) -> Change<'a>,
    ) {
        let id = holder.and_then(|holder| self.rows.get(holder.position()).copied().flatten());
        let process = id.and_then(|id| self.processes.get(id));
        let process = process.filter(|process| process.life.is_announced());
        let mut emitter = update.emitter(&self.containers, &mut self.names);
        emitter.emit(&change(process));
    }
}
