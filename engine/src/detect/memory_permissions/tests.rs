//! Worlds made by hand: the verdict on each change, with the areas around it. The processes' memory
//! is unreadable, so their files declare nothing.

use panoptes_decoders::kernel::task_struct::PF_FORKNOEXEC;
use panoptes_decoders::kernel::vm_area_struct::VM_NORESERVE;
use panoptes_tables::HashKey;

use super::rule::{Exemption, FindingKind, PermissionVerdict};
use super::{FINDINGS_MAX, MemoryPermissions};
use crate::detect::tests::Unreadable;
use crate::detect::{Acceptance, Detector as _, DetectorContext, Finding};
use crate::limits::Limits;
use crate::page_cache::MachineMemory;
use crate::state::tests::watch::{limits, next_scan};
use crate::state::tests::world::{FakeArea, FakeFile, FakeProcess, R, W, World, X};
use crate::state::{Change, MachineState, ScanContext, StateSettings};
use crate::time::Now;
use crate::walk::{Kernel, Snapshot};

struct Watch {
    state: MachineState,
    snapshot: Snapshot,
    permissions: MemoryPermissions,
    accepts: Acceptance,
    /// Inode numbers of files that a user may have written.
    users_files: Vec<u64>,
    /// Whether other processes have used up a scan's steps.
    is_used_up: bool,
    now: Now,
}

impl Watch {
    fn after(world: &World) -> Self {
        Self::with(&limits(), world)
    }

    fn with(limits: &Limits, world: &World) -> Self {
        let mut watch = Self {
            state: MachineState::new(limits, StateSettings::default(), HashKey::new(7)),
            snapshot: Snapshot::empty(limits),
            permissions: MemoryPermissions::new(),
            accepts: Acceptance::Yes,
            users_files: Vec::new(),
            is_used_up: false,
            now: Now::at(1_795_159_906_905_224_659),
        };
        assert_eq!(watch.scan(world), []);
        watch
    }

    /// The verdicts on the scan's changes: process, start and end of the area, verdict.
    fn scan(&mut self, world: &World) -> Vec<(u32, u64, u64, PermissionVerdict)> {
        world.show(&mut self.snapshot);
        for inode in self.snapshot.inodes.iter_mut() {
            let is_users = self.users_files.contains(&inode.attributes.ino);
            inode.attributes.uid = if is_users { 1000 } else { 0 };
        }
        self.now = next_scan(self.now);
        let kernel = Kernel::default();
        let mut found = Vec::new();
        let (permissions, accepts) = (&mut self.permissions, self.accepts);
        permissions.begin_scan();
        if self.is_used_up {
            permissions.steps_left = 0;
        }
        self.state.update(
            &self.snapshot,
            self.now,
            &mut |cx: &ScanContext<'_>, change: &Change<'_>| {
                let memory = MachineMemory { source: &mut Unreadable, kernel: &kernel };
                let out = &mut |_: &ScanContext<'_>, finding: &Finding<'_>| {
                    let Finding::MemoryPermissions(judged) = finding else { panic!("{finding:?}") };
                    let area = judged.area;
                    let (start, end) = judged
                        .before
                        .map_or((area.start, area.end), |before| (before.start, before.end));
                    found.push((judged.process.process_id(), start, end, judged.verdict));
                    accepts
                };
                permissions.observe(&mut DetectorContext { memory, cx, out }, change);
            },
        );
        let cx = self.state.scan_context(&self.snapshot, self.now);
        let memory = MachineMemory { source: &mut Unreadable, kernel: &kernel };
        let out = &mut |_: &ScanContext<'_>, finding: &Finding<'_>| {
            let Finding::MemoryPermissions(judged) = finding else { panic!("{finding:?}") };
            let (area, verdict) = (judged.area, judged.verdict);
            found.push((judged.process.process_id(), area.start, area.end, verdict));
            accepts
        };
        permissions.update(&mut DetectorContext { memory, cx: &cx, out }, &self.state, &mut ());
        found
    }
}

fn with_areas(areas: &[FakeArea]) -> World {
    let mut process = FakeProcess::new(200);
    process.brk = (0x10_0000, 0x11_0000);
    process.areas = areas.to_vec();
    World::default().with(process)
}

fn memory(start: u64, end: u64, flags: u64) -> FakeArea {
    FakeArea::anonymous(start, end, flags)
}

fn library() -> FakeFile {
    FakeFile::regular(0xffff_8885_0000_0200, 71, "libc.so.6")
}

const PAGES: u64 = 0xffff_8889_0000_0000;
const WRITTEN: PermissionVerdict = Ok(FindingKind::Written);

#[test]
fn memory_that_was_written_and_becomes_executable() {
    let buffer = memory(0x20_0000, 0x20_8000, R | W);
    let mut watch = Watch::after(&with_areas(std::slice::from_ref(&buffer)));
    // Writing alone is not a change.
    let written = buffer.clone().written(PAGES);
    assert_eq!(watch.scan(&with_areas(&[written])), []);
    let parts = [
        memory(0x20_0000, 0x20_1000, R | W).written(PAGES),
        memory(0x20_1000, 0x20_2000, R | X).written(PAGES),
        memory(0x20_2000, 0x20_8000, R | W).written(PAGES),
    ];
    assert_eq!(watch.scan(&with_areas(&parts)), [(200, 0x20_1000, 0x20_2000, WRITTEN)]);
    assert_eq!(watch.scan(&with_areas(&parts)), []);
    // And back: the parts become one again.
    let back = buffer.written(PAGES);
    let taken_back: PermissionVerdict = Ok(FindingKind::TakenBack);
    assert_eq!(watch.scan(&with_areas(&[back])), [(200, 0x20_1000, 0x20_2000, taken_back)]);
}

#[test]
fn a_process_with_very_many_changes_costs_a_scan_a_limited_time() {
    const COUNT: u64 = 66_000;
    // Each asks its file, whose memory is unreadable: that is one attempt.
    const JUDGED: usize = super::STEPS_MAX.0 as usize / super::program::STEPS_A_READ;
    let library = library();
    let areas = |flags| {
        let start = |at| 0x1000_0000 + at * 0x2000;
        let area = |at| FakeArea::of_file(start(at), start(at) + 0x1000, flags, &library);
        (0..COUNT).map(area).collect::<Vec<_>>()
    };
    let other = |flags| {
        let mut process = FakeProcess::new(300);
        process.areas = vec![memory(0x20_0000, 0x20_8000, flags).written(PAGES)];
        process
    };
    let limits = Limits { vmas: 2 * COUNT as u32, ..limits() };
    let mut watch = Watch::with(&limits, &with_areas(&areas(R | X)).with(other(R | W)));
    let found = watch.scan(&with_areas(&areas(R | W)).with(other(R | X)));
    let not_judged = found.iter().filter(|found| found.3 == Err(Exemption::Enough)).count();
    assert_eq!((found.len(), not_judged), (COUNT as usize + 1, COUNT as usize - JUDGED));
    let lost = watch.permissions.unchecked();
    assert_eq!((lost.missed(), lost.process_id()), (not_judged as u64, Some(200)));
    // Another process's change is checked nevertheless, and all of them in the next scan.
    assert!(found.contains(&(300, 0x20_0000, 0x20_8000, WRITTEN)));
    let found = watch.scan(&with_areas(&areas(R | W)).with(other(R | W)));
    assert_eq!(found.len(), 1);
}

#[test]
fn memory_written_and_made_executable_between_two_scans() {
    let mut watch = Watch::after(&with_areas(&[]));
    let code = memory(0x20_0000, 0x20_1000, R | X).written(PAGES);
    let data = memory(0x30_0000, 0x30_1000, R | W).written(PAGES);
    let both = memory(0x40_0000, 0x40_1000, R | W | X).written(PAGES);
    let empty = memory(0x50_0000, 0x50_1000, R | X);
    let text = FakeArea::of_file(0x60_0000, 0x60_1000, R | X, &library()).written(PAGES);
    let found = watch.scan(&with_areas(&[code, data, both, empty, text]));
    assert_eq!(found, [(200, 0x20_0000, 0x20_1000, WRITTEN)]);
}

#[test]
fn a_writable_area_with_other_pages_is_other_memory() {
    let buffer = memory(0x20_0000, 0x20_8000, R | W).written(PAGES);
    let mut watch = Watch::after(&with_areas(&[buffer]));
    let code = memory(0x20_0000, 0x20_8000, R | W | X);
    let anew: PermissionVerdict = Err(Exemption::MappedAnew);
    let other = code.clone().written(PAGES + 64);
    assert_eq!(watch.scan(&with_areas(&[other])), [(200, 0x20_0000, 0x20_8000, anew)]);
    // The same `anon_vma`, but it is unknown whether its pages are in memory.
    let mut watch =
        Watch::after(&with_areas(&[memory(0x20_0000, 0x20_8000, R | W).written(PAGES)]));
    let same = code.written(PAGES);
    assert_eq!(watch.scan(&with_areas(&[same])), [(200, 0x20_0000, 0x20_8000, anew)]);
}

#[test]
fn the_heap_and_the_stack_by_their_names() {
    let heap = |flags| memory(0x10_0000, 0x10_4000, flags).written(PAGES);
    let mut stack = memory(0x7e_0000, 0x80_0000, R | W).written(PAGES + 64);
    stack.flags |= 0x100;
    let mut watch = Watch::after(&with_areas(&[heap(R | W), stack.clone()]));
    stack.flags |= X;
    let found = watch.scan(&with_areas(&[heap(R | W | X), stack]));
    let of = |what| -> PermissionVerdict { Ok(what) };
    assert_eq!(
        found,
        [
            (200, 0x10_0000, 0x10_4000, of(FindingKind::Heap)),
            (200, 0x7e_0000, 0x80_0000, of(FindingKind::Stack))
        ]
    );
}

#[test]
fn reserved_space_is_for_code_if_it_is_large_and_no_data_is_adjacent() {
    let free = |start, end, flags| memory(start, end, flags | VM_NORESERVE).written(PAGES);
    // A page of code as V8 lays it out: a header, a gap, code, a gap.
    let page = |code, size: u64| {
        [
            free(0x1000_0000, 0x1000_2000, R | W),
            free(0x1000_2000, 0x1000_3000, 0),
            free(0x1000_3000, 0x1003_f000, code),
            free(0x1003_f000, 0x1003_f000 + size, 0),
        ]
    };
    let found = |before: &[FakeArea], after: &[FakeArea]| {
        let mut watch = Watch::after(&with_areas(before));
        let found = watch.scan(&with_areas(after));
        found.iter().map(|found| found.3).collect::<Vec<_>>()
    };
    let much = 16 << 20;
    let reserved: PermissionVerdict = Err(Exemption::Reserved);
    assert_eq!(found(&page(R | W, much), &page(R | X, much)), [reserved]);
    assert_eq!(found(&page(R | W, 1 << 20), &page(R | X, 1 << 20)), [WRITTEN], "not much");
    // A page in the middle of a thread's heap, which is in such a range, too.
    let heap = |code| {
        [
            free(0x1000_0000, 0x1002_0000, R | W),
            free(0x1002_0000, 0x1002_1000, code),
            free(0x1002_1000, 0x1400_0000, 0),
        ]
    };
    assert_eq!(found(&heap(0), &heap(R | X)), [WRITTEN], "data beside it");
    // Next to such a range, and not in it.
    let beside = |code| {
        [memory(0xfff_f000, 0x1000_0000, code).written(PAGES), free(0x1000_0000, 0x1400_0000, 0)]
    };
    assert_eq!(found(&beside(R | W), &beside(R | X)), [WRITTEN], "beside it");
}

#[test]
fn memory_opened_inside_inaccessible_space_is_for_code() {
    let found = |areas: &dyn Fn(u64) -> Vec<FakeArea>| {
        let mut watch = Watch::after(&with_areas(&areas(R | W)));
        let found = watch.scan(&with_areas(&areas(R | X)));
        found.iter().map(|found| found.3).collect::<Vec<_>>()
    };
    let closed = |start, end| memory(start, end, 0);
    let kept = |start, end| memory(start, end, VM_NORESERVE);
    let data = |start, end| memory(start, end, R | W).written(PAGES + 64);
    let code = |start, end, flags| memory(start, end, flags).written(PAGES);
    let reserved: [PermissionVerdict; 1] = [Err(Exemption::Reserved)];
    // SpiderMonkey's, next to code that is just being written.
    let spider_monkey = |flags| {
        vec![
            kept(0x1000_0000, 0x1001_0000),
            code(0x1001_0000, 0x1002_0000, flags),
            data(0x1002_0000, 0x1003_0000),
            memory(0x1003_0000, 0x1004_0000, R | X),
            kept(0x1004_0000, 0x8fc0_0000),
        ]
    };
    assert_eq!(found(&spider_monkey), reserved);
    // V8's without the flag: a header, a gap, code, a gap, at the end of it all.
    let v8 = |flags| {
        vec![
            data(0x1000_0000, 0x1000_1000),
            closed(0x1000_1000, 0x1000_3000),
            code(0x1000_3000, 0x1003_f000, flags),
            closed(0x1003_f000, 0x1800_0000),
        ]
    };
    assert_eq!(found(&v8), reserved);
    // An area between a thread's heap and the adjacent stack of another thread.
    let between = |flags| {
        vec![
            data(0x1000_0000, 0x1002_0000),
            kept(0x1002_0000, 0x1400_0000),
            code(0x1400_0000, 0x1400_4000, flags),
            closed(0x1400_4000, 0x1400_5000),
            data(0x1400_5000, 0x1480_5000),
            data(0x1480_5000, 0x1482_5000),
            kept(0x1482_5000, 0x1880_5000),
        ]
    };
    assert_eq!(found(&between), [WRITTEN]);
    // An area right below reserved space, among other mappings.
    let below = |flags| {
        vec![
            FakeArea::of_file(0xfff_0000, 0xfff_f000, R, &library()),
            code(0xfff_f000, 0x1000_0000, flags),
            kept(0x1000_0000, 0x5000_0000),
        ]
    };
    assert_eq!(found(&below), [WRITTEN]);
    // A large area that was written and becomes executable, all at once: a packed program.
    assert_eq!(found(&|flags| vec![code(0x1000_0000, 0x1400_0000, flags)]), [WRITTEN]);
    // Within a thread's heap, without the flag.
    let heap = |flags| {
        vec![
            data(0x1000_0000, 0x1002_0000),
            code(0x1002_0000, 0x1002_4000, flags),
            closed(0x1002_4000, 0x1400_0000),
        ]
    };
    assert_eq!(found(&heap), [WRITTEN]);
}

#[test]
fn a_fork_inherits_reported_areas() {
    let code = memory(0x20_0000, 0x20_1000, R | X).written(PAGES);
    let mut watch = Watch::after(&with_areas(std::slice::from_ref(&code)));
    let mut child = FakeProcess::new(300);
    child.parent = 200;
    child.areas =
        vec![code.written(PAGES + 64), memory(0x40_0000, 0x40_1000, R | X).written(PAGES)];
    let world = with_areas(&[memory(0x20_0000, 0x20_1000, R | X).written(PAGES)]).with(child);
    // The process gets one scan in which it may call exec.
    assert_eq!(watch.scan(&world), []);
    let found = watch.scan(&world);
    let inherited: PermissionVerdict = Err(Exemption::Inherited);
    assert_eq!(
        found,
        [(300, 0x20_0000, 0x20_1000, inherited), (300, 0x40_0000, 0x40_1000, WRITTEN)]
    );
}

#[test]
fn a_fork_whose_parent_has_ended_inherits_reported_areas() {
    let code = |start| memory(start, start + 0x1000, R | X).written(start);
    let process = |pid, parent, areas: &[FakeArea]| {
        let mut process = FakeProcess::new(pid);
        process.parent = parent;
        process.flags = PF_FORKNOEXEC;
        process.areas = areas.to_vec();
        process
    };
    let mut watch = Watch::after(&World::default());
    let found = watch.scan(&World::default().with(process(200, 1, &[code(0x20_0000)])));
    assert_eq!(found, [(200, 0x20_0000, 0x20_1000, WRITTEN)]);
    // The process has started a daemon, which has since made more executable memory.
    let daemon = process(300, 1, &[code(0x20_0000), code(0x40_0000)]);
    let inherited: PermissionVerdict = Err(Exemption::Inherited);
    assert_eq!(
        watch.scan(&World::default().with(daemon)),
        [(300, 0x20_0000, 0x20_1000, inherited), (300, 0x40_0000, 0x40_1000, WRITTEN)]
    );
    // A process that existed before the finding has made the memory itself.
    let mut watch =
        Watch::after(&World::default().with(process(200, 1, &[])).with(process(201, 1, &[])));
    let both = World::default().with(process(200, 1, &[code(0x20_0000)]));
    assert_eq!(
        watch.scan(&both.clone().with(process(201, 1, &[]))),
        [(200, 0x20_0000, 0x20_1000, WRITTEN)]
    );
    assert_eq!(
        watch.scan(&both.with(process(201, 1, &[code(0x20_0000)]))),
        [(201, 0x20_0000, 0x20_1000, WRITTEN)]
    );
    // Another run of the same program.
    let mut other = process(400, 1, &[code(0x20_0000)]);
    other.arguments_at += 0x1000;
    let found = watch.scan(&World::default().with(other));
    assert_eq!(found, [(400, 0x20_0000, 0x20_1000, WRITTEN)]);
}

#[test]
fn the_loader_lays_out_a_library() {
    let part = |start, end, flags, page_offset| {
        let area = FakeArea::of_file(start, end, flags, &library());
        FakeArea { page_offset, ..area }
    };
    // One map of the whole file, then each part over that: glibc's way, for either layout of a
    // library.
    for first in [R, R | X] {
        let mut watch = Watch::after(&with_areas(&[]));
        assert_eq!(watch.scan(&with_areas(&[part(0x20_0000, 0x40_0000, first, 0)])), []);
        let parts = [
            part(0x20_0000, 0x20_2000, R, 0),
            part(0x20_2000, 0x20_8000, R | X, 2),
            part(0x20_8000, 0x3f_e000, 0, 8),
            part(0x3f_e000, 0x40_0000, R | W, 8).written(PAGES),
        ];
        let found = watch.scan(&with_areas(&parts));
        assert!(!found.is_empty());
        for (_, start, _, verdict) in found {
            assert!(verdict.is_err(), "{verdict:?}");
            if first & X != 0 && start == 0x3f_e000 {
                assert_eq!(verdict, Err(Exemption::MappedAnew));
            }
        }
    }
}

#[test]
fn findings_of_one_program_are_limited() {
    let area = |flags| memory(0x20_0000, 0x20_1000, flags).written(PAGES);
    let mut watch = Watch::after(&with_areas(&[area(R | W)]));
    let mut found = 0;
    for scan in 0..60_u32 {
        let flags = if scan.is_multiple_of(2) { R | X } else { R | W };
        let verdicts = watch.scan(&with_areas(&[area(flags)]));
        assert_eq!(verdicts.len(), 1);
        found += u32::from(verdicts[0].3.is_ok());
    }
    assert_eq!(found, 2 * u32::from(FINDINGS_MAX));
}

/// An implant with eight findings must still be reported.
#[test]
fn a_program_with_many_findings_is_reported_now_and_then() {
    let area = |flags| memory(0x20_0000, 0x20_1000, flags).written(PAGES);
    let mut watch = Watch::after(&with_areas(&[area(R | W)]));
    let toggle = |watch: &mut Watch, turns: u32| {
        let mut found = 0;
        for turn in 0..turns {
            let flags = if turn.is_multiple_of(2) { R | X } else { R | W };
            let verdicts = watch.scan(&with_areas(&[area(flags)]));
            found += u32::from(flags == R | X && verdicts[0].3.is_ok());
        }
        found
    };
    assert_eq!(toggle(&mut watch, 60), u32::from(FINDINGS_MAX));
    let lost = watch.permissions.unchecked();
    let count = 60 - 2 * u64::from(FINDINGS_MAX);
    assert_eq!((lost.missed(), lost.process_id()), (count, Some(200)));
    // One after a minute, then one after two.
    let minute = super::PAUSES_NS.0;
    for (minutes, expected) in [(1, 1), (1, 0), (1, 1), (3, 0), (1, 1)] {
        watch.now = watch.now.after(minutes * minute);
        assert_eq!(toggle(&mut watch, 20), expected, "{minutes}");
    }
}

#[test]
fn a_finding_whose_report_is_not_accepted_is_reported_again() {
    let area = |flags| memory(0x20_0000, 0x20_1000, flags).written(PAGES);
    let mut watch = Watch::after(&with_areas(&[area(R | W)]));
    watch.accepts = Acceptance::No;
    let found = [(200, 0x20_0000, 0x20_1000, WRITTEN)];
    assert_eq!(watch.scan(&with_areas(&[area(R | X)])).first(), found.first());
    assert_eq!(watch.scan(&with_areas(&[area(R | X)])), found);
    watch.accepts = Acceptance::Yes;
    assert_eq!(watch.scan(&with_areas(&[area(R | X)])), found);
    assert_eq!(watch.scan(&with_areas(&[area(R | X)])), []);
    assert_eq!(watch.permissions.unchecked().missed(), 0);
}

/// One process could fill the list of findings that wait for room in the queue.
#[test]
fn a_process_with_many_findings_takes_no_room_of_others() {
    let process = |pid, count: u64, flags| {
        let area = |at: u64| memory(at << 20, (at << 20) + 0x1000, flags).written(PAGES);
        FakeProcess { areas: (1..=count).map(area).collect(), ..FakeProcess::new(pid) }
    };
    let world = |flags| {
        let hog = World::default().with(process(200, 100, flags));
        (300..303).fold(hog, |world, pid| world.with(process(pid, 1, flags)))
    };
    let limits = Limits { vmas: 1000, ..limits() };
    let mut watch = Watch::with(&limits, &world(R | W));
    watch.accepts = Acceptance::No;
    watch.scan(&world(R | X));
    watch.accepts = Acceptance::Yes;
    let found = watch.scan(&world(R | X));
    let others: Vec<_> = found.iter().map(|(pid, ..)| *pid).filter(|pid| *pid != 200).collect();
    assert_eq!(others, [300, 301, 302]);
    assert_eq!(watch.permissions.unchecked().process_id(), Some(200));
}

/// Any program may reserve eight mebibytes around its code: that alone must not exempt it.
#[test]
fn reserved_space_of_a_users_program_is_reported_once_for_its_file() {
    let free = |start, end, flags| memory(start, end, flags | VM_NORESERVE).written(PAGES);
    let process = |pid, ino, code| {
        let mut process = FakeProcess::new(pid);
        process.executable =
            Some(FakeFile::regular(0xffff_8886_0000_0000 + ino * 0x100, ino, "implant"));
        process.areas = vec![
            free(0x1000_2000, 0x1000_3000, 0),
            free(0x1000_3000, 0x1003_f000, code),
            free(0x1003_f000, 0x2000_0000, 0),
        ];
        process
    };
    let world = |code| {
        World::default()
            .with(process(200, 71, code))
            .with(process(201, 71, code))
            .with(process(202, 72, code))
    };
    let mut watch = Watch::after(&world(R | W));
    watch.users_files.push(71);
    let verdicts: Vec<_> = watch.scan(&world(R | X)).iter().map(|found| found.3).collect();
    let claimed = [Ok(FindingKind::Claimed), Err(Exemption::Claimed), Err(Exemption::Reserved)];
    assert_eq!(verdicts, claimed);
}

#[test]
fn each_process_is_checked_a_little_when_others_have_used_up_a_scan() {
    let areas = |flags| -> Vec<_> {
        let area = |at: u64| memory(0x20_0000 + at * 0x2000, 0x20_1000 + at * 0x2000, flags);
        (0..20).map(|at| area(at).written(PAGES + at * 64)).collect()
    };
    let mut watch = Watch::after(&with_areas(&areas(R | W)));
    watch.is_used_up = true;
    let found = watch.scan(&with_areas(&areas(R | X)));
    let reported = found.iter().filter(|found| found.3.is_ok()).count();
    assert_eq!((found.len(), reported), (20, usize::from(FINDINGS_MAX)));
}
