//! Tears: disagreements of views in a copy of memory that was made while the machine ran.
//!
//! LiME, AVML and other tools copy page after page, in ascending order of physical addresses. So
//! what lies lower was copied earlier. All places that show a process that ended during the copy
//! lie below all that lack it. For a process that began during the copy it is the reverse. In any
//! other order, something took the process out of a list.
//!
//! A place lacks a process only if it proves that: a link that skips the process and leads back, or
//! the process's own link that leads nowhere. A link into memory that another task has by then
//! proves nothing.

mod clock;
mod evidence;
mod lists;
mod numbers;
mod pages;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::task_struct::{PIDTYPE_PGID, PIDTYPE_SID, Task};
use panoptes_decoders::layout::PackedField;
use panoptes_decoders::source::PAGE_BYTES;

use clock::CopyClock;
use evidence::TearEvidence;
use lists::ProcessList;
use pages::Spaces;

use super::copied::MemoryCopyMode;
use super::snapshot::{ProcessRow, ThreadRow, view};
use super::{Kernel, ScannedMemory, Snapshot, Views, Walker};
use crate::address::MemoryReader;
use panoptes_tables::AddressedRows;

/// Comparisons of processes with threads, in all.
const STEPS_MAX: u64 = 1 << 28;
/// Comparisons of a process with each address space: in some of its areas, of some ancestors.
const MM_STEPS: usize = 128;
/// Nanoseconds of a fork, at most: between the moments when a process enters the IDR, gets its
/// start, and enters the lists (`copy_process`, kernel/fork.c). Meanwhile others may run.
const FORK_MAX_NS: u64 = 1_000_000_000;
/// Bytes of a link.
const LINK_BYTES: u64 = 8;

/// Looks for the places that show a process or lack it.
struct TearProbe<'a, 'm> {
    reader: &'a mut MemoryReader,
    memory: &'a mut ScannedMemory<'m>,
    threads: &'a AddressedRows<ThreadRow>,
    clock: CopyClock,
    task: Task,
    evidence: TearEvidence,
}

impl Walker {
    /// Sets whether the memory is a copy.
    pub const fn set_copied(&mut self, copied: MemoryCopyMode) {
        self.snapshot.copied = copied;
        self.reader.set_blanks_fail(copied.is_copy());
    }

    /// In a copy, leaves of the views that lack a process only those that prove that somebody took
    /// it out of a list.
    pub(super) fn ignore_tears(&mut self, memory: &mut ScannedMemory<'_>) {
        if self.snapshot.copied != MemoryCopyMode::PageByPage {
            return;
        }
        let mut clock = None;
        let mut steps = STEPS_MAX;
        for index in self.snapshot.processes.indexes() {
            let process = self.snapshot.processes[index];
            let unseen = Views(process.missing.0 | process.unknown.0);
            if unseen.is_empty() {
                continue;
            }
            // Each process is compared with all threads, and its ancestors with all processes.
            let (threads, mms) = (self.snapshot.threads.len(), self.snapshot.mms.len());
            steps = steps.saturating_sub((threads + mms * MM_STEPS) as u64);
            let proven = if steps > 0 {
                let Self { reader, snapshot, .. } = &mut *self;
                let clock = *clock.get_or_insert_with(|| CopyClock::of(reader, memory, snapshot));
                self.proven_views(memory, clock, &ProcessRow { missing: unseen, ..process })
            } else {
                Views::NONE
            };
            let snapshot = &mut self.snapshot;
            snapshot.torn += u32::from(proven.is_empty() && !process.missing.is_empty());
            let row = &mut snapshot.processes[index];
            row.unknown.0 = unseen.0 & !proven.0;
            row.missing = proven;
        }
    }

    /// The views whose lack of a process only a change by somebody else explains.
    fn proven_views(
        &mut self,
        memory: &mut ScannedMemory<'_>,
        clock: CopyClock,
        process: &ProcessRow,
    ) -> Views {
        let task = self.snapshot.threads[process.leader].task;
        let has_name = has_name_of_program(&self.snapshot, process, &task);
        let Snapshot { threads, processes, css_sets, mms, vmas, .. } = &self.snapshot;
        // A thread that calls exec takes the number of the first thread, and its place in all lists
        // (`de_thread`, fs/exec.c).
        let is_heir =
            |row: &ThreadRow| row.task.pid == task.pid && row.task.address != task.address;
        if threads.iter().any(is_heir) {
            return Views::NONE;
        }
        let heads = css_sets.at(process.css_set).map(|set| set.address);
        let evidence = TearEvidence::default();
        let reader = &mut self.reader;
        let mut probe = TearProbe { reader, memory, threads, clock, task, evidence };
        probe.look_at_task();
        let mut proven = 0;
        for list in ProcessList::ALL {
            let is_missing = process.missing.has(list.view());
            if probe.look_at_list(list, heads, is_missing) {
                proven |= list.view();
            }
        }
        let numbers = [
            (view::IDR, probe.look_at_idr(process.missing.has(view::IDR))),
            (view::PID_LIST, probe.look_at_pid(process)),
        ];
        for (bit, is_lacking) in numbers {
            proven |= if is_lacking { process.missing.0 & bit } else { 0 };
        }
        // A young process may have ended, and the next one that its parent forked have its pages.
        if proven != 0 && !probe.is_young() {
            probe.look_at_pages(Spaces { processes, mms, vmas }, process, has_name);
        }
        let proven = Views(proven);
        if proven.is_empty() || probe.is_torn(proven) { Views::NONE } else { proven }
    }
}

impl TearProbe<'_, '_> {
    /// Whether something that the kernel does explains that these views lack the process.
    fn is_torn(&self, lacking: Views) -> bool {
        let layout = &self.memory.kernel.layouts.task_struct;
        if self.evidence.is_contradicted {
            return false;
        }
        let has_links = !self.is_young();
        let is_begin = self.evidence.is_begin(has_links) && self.began_during_copy();
        if is_begin || self.evidence.is_end() || self.lived_during_copy() {
            return true;
        }
        let own = |field: Option<PackedField>| {
            let at = self.task.address.plus(field?.offset.into());
            self.page(at)
        };
        match lacking.0 {
            // It moves from one control group to another.
            view::CONTROL_GROUP => own(layout.cgroups)
                .is_none_or(|page| self.evidence.has_entered(page) || self.evidence.has_left(page)),
            // Its parent ended, and it has another one (`reparent_leader`, kernel/exit.c).
            view::CHILDREN => own(layout.sibling).is_none_or(|page| {
                self.evidence.has_entered(page) && self.may_be_adopted()
                    || self.evidence.has_left(page) && self.is_parent_ending()
            }),
            _ => false,
        }
    }

    /// Whether the process began after everything that lacks it was copied, as far as the copy
    /// shows.
    fn began_during_copy(&self) -> bool {
        let Some((_, last)) = self.evidence.lacks.0 else { return false };
        self.task.start_boottime >= self.time_of(last)
    }

    /// Whether the process may have begun and ended during the copy: some of what lacks it was
    /// copied before it began, and before all that shows it.
    fn lived_during_copy(&self) -> bool {
        let Some((first, _)) = self.evidence.lacks.0 else { return false };
        let shows = self.evidence.shows.and(self.evidence.state).0;
        shows.is_some_and(|(shown, _)| first < shown)
            && self.is_young()
            && self.task.start_boottime >= self.time_of(first)
    }

    /// Nanoseconds since boot: processes that began before then were in all lists when a page was
    /// copied.
    fn time_of(&self, page: u64) -> u64 {
        let lacked_after = self.evidence.lacked_after.filter(|&(lacking, _)| lacking <= page);
        let time = self.clock.time_of(self.memory.kernel, self.threads, page);
        let time = time.saturating_sub(FORK_MAX_NS);
        lacked_after.map_or(time, |(_, after)| time.max(after))
    }

    /// Whether the process began so late that it may well have ended during the copy, and another
    /// one have its address since: the kernel reuses the newest memory first.
    fn is_young(&self) -> bool {
        self.clock.is_young(&self.task)
    }

    /// Whether the process may have another parent since the copy began: its first one has ended.
    fn may_be_adopted(&self) -> bool {
        let is_elder = |row: &&ThreadRow| {
            row.task.is_leader() && row.task.start_boottime <= self.task.start_boottime
        };
        let elders = self.threads.iter().skip(1).filter(is_elder);
        self.is_young() || elders.map(|row| &row.task).any(|it| !it.is_settled() || it.is_exiting())
    }

    fn is_parent_ending(&self) -> bool {
        let parent = self.threads.find(self.task.real_parent.0).map(|at| self.threads[at].task);
        parent.is_none_or(|parent| !parent.is_settled() || parent.is_exiting())
    }

    /// Number of the page, in the order of the copy, that has an address.
    fn page(&self, at: KernelVa) -> Option<u64> {
        page_of(self.memory.kernel, at)
    }

    /// Whether the page of one address was copied before that of another.
    fn precedes(&self, first: KernelVa, then: KernelVa) -> bool {
        self.page(first).zip(self.page(then)).is_some_and(|(first, then)| first < then)
    }

    fn word(&mut self, at: KernelVa) -> Option<u64> {
        let bytes = self.memory.read_bytes(self.reader, at, LINK_BYTES as u32)?;
        Some(u64::from_le_bytes(*bytes.first_chunk()?))
    }

    fn show(&mut self, at: KernelVa) {
        self.page(at).into_iter().for_each(|page| self.evidence.shows.add(page));
    }

    fn show_link(&mut self, at: KernelVa) {
        if let Some(page) = self.page(at) {
            self.evidence.links.add(page);
        }
    }

    fn lack(&mut self, at: KernelVa) -> bool {
        let page = self.page(at);
        if let Some(page) = page {
            self.evidence.lacks.add(page);
        }
        page.is_some()
    }

    /// Notes the task itself, its other threads, its children, and its neighbours in its process
    /// group and its session.
    fn look_at_task(&mut self) {
        let layout = &self.memory.kernel.layouts.task_struct;
        let task = self.task;
        let state = self.page(task.address.plus(layout.exit_state.offset.into()));
        if let Some(page) = state {
            self.evidence.state.add(page);
        }
        for row in self.threads.iter().skip(1) {
            let other = row.task;
            if other.address == task.address || !other.is_settled() {
                continue;
            }
            if other.real_parent == task.address {
                let place = other.address.plus(layout.real_parent.offset.into());
                // A child that began before the copy is no other task's at this address.
                if self.clock.is_young(&other) { self.show_link(place) } else { self.show(place) }
            }
            if other.group_leader == task.address && other.tgid == task.tgid {
                self.show(other.address.plus(layout.group_leader.offset.into()));
            }
        }
        for kind in [PIDTYPE_PGID, PIDTYPE_SID] {
            // The next one, and the place of the link to this one.
            let node = self.link_of_pid(kind);
            let Some(place) = self.word(node.plus(LINK_BYTES)) else { continue };
            if self.word(KernelVa(place)) == Some(node.0) {
                self.show_link(KernelVa(place));
            }
        }
    }
}

/// Whether a process has the name of the program in its address space: `execve` gives it
/// (`begin_new_exec`, fs/exec.c).
fn has_name_of_program(snapshot: &Snapshot, process: &ProcessRow, task: &Task) -> bool {
    let mm = snapshot.mms.at(process.mm);
    let file = mm.and_then(|mm| snapshot.files.at(mm.exe_file));
    let program = file.and_then(|file| snapshot.dentries.at(file.path.dentry));
    let name = task.name();
    // The row has the beginning of each name, which is longer than the name of a task can be.
    program.is_some_and(|it| it.readable && !name.is_empty() && it.text.starts_with(name))
}

/// Number of the page, in the order of a copy, that has an address.
fn page_of(kernel: &Kernel, at: KernelVa) -> Option<u64> {
    kernel.space.linear(at).map(|at| at.0 / PAGE_BYTES)
}
