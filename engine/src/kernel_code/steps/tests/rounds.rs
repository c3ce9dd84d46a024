//! Whole rounds over a small machine, in slices.

use std::ops::Range;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::module::Module;
use panoptes_decoders::source::{MemorySource, ReadRequest};
use panoptes_tables::HashKey;

use super::testing::{Scene, va};
use crate::kernel_code::check::Check;
use crate::kernel_code::owners::Owner;
use crate::kernel_code::round::{CodeBuffers, KernelCode};
use crate::limits::Limits;
use crate::time::Monotonic;
use crate::walk::{ModuleMarks, ModuleRow, ModuleViews, Snapshot, module_view};

const MS: i64 = 1_000_000;
const SECOND: i64 = 1000 * MS;
/// Bytes that rounds may read in a second (ARCHITECTURE.md).
const BYTES_A_SECOND: u64 = 4 << 20;

/// How long a change of owners leaves doubt (docs/detectors/kernel_code.md).
const LINGER: i64 = 4 * SECOND;
const MARKS: ModuleMarks = ModuleMarks { list: Some([1; 2]), seq: Some(1), mutex: None };

/// Memory that counts the bytes that are read.
struct Counted<'a> {
    memory: &'a mut dyn MemorySource,
    bytes: &'a mut u64,
}

impl MemorySource for Counted<'_> {
    fn read_batch(&mut self, requests: &mut [ReadRequest], arena: &mut [u8]) {
        *self.bytes += requests.iter().map(|request| u64::from(request.length)).sum::<u64>();
        self.memory.read_batch(requests, arena);
    }

    fn regions(&self) -> &[Range<u64>] {
        self.memory.regions()
    }
}

/// A machine with its rounds.
struct Rounds {
    scene: Scene,
    code: KernelCode,
    buffers: CodeBuffers,
    snapshot: Snapshot,
    now: i64,
    bytes: u64,
}

impl Rounds {
    fn new(scene: Scene) -> Self {
        let limits = Limits { processes: 1, ..Limits::default() };
        let mut snapshot = Snapshot::empty(&limits);
        snapshot.modules.is_fresh = true;
        Self {
            scene,
            code: KernelCode::new(HashKey::new(0x5eed)),
            buffers: CodeBuffers::new(),
            snapshot,
            now: 0,
            bytes: 0,
        }
    }

    /// Notes a scan after so many nanoseconds.
    fn scan(&mut self, ns: i64) {
        self.now += ns;
        let (_, kernel) = self.scene.parts();
        self.code.note_scan(&self.snapshot, kernel, Monotonic::from_ns(self.now));
    }

    /// Works in slices of so many bytes while there is time.
    fn work(&mut self, slice: usize) {
        let (memory, kernel) = self.scene.parts();
        let mut source = Counted { memory, bytes: &mut self.bytes };
        while self.code.has_work() {
            self.code.work(&mut self.buffers, &mut source, kernel, slice);
        }
    }

    /// Ends the present round.
    fn end_round(&mut self) {
        let before = self.code.last_round().rounds;
        for _ in 0..100_000 {
            self.scan(10 * MS);
            self.work(4096);
            if self.code.last_round().rounds != before {
                return;
            }
        }
        panic!("the round has no end");
    }

    /// The places of the violations that are reported now.
    fn report(&mut self, has_room: bool) -> Vec<u64> {
        let mut places = Vec::new();
        self.code.report(&mut |row| {
            places.push(row.violation.place.0);
            has_room
        });
        places
    }
}

/// A machine with a hook of each of several kinds. Returns their places.
fn hooked() -> (Scene, Vec<u64>) {
    let mut scene = Scene::new();
    let list = scene.variable(8);
    scene.kernel.symbols.ftrace_ops_list = va(list);
    let (table, call, stray) = (scene.variable(16 << 10), scene.function(64), scene.stray_code());
    scene.kernel.symbols.sys_call_table = va(table);
    (0..400).for_each(|number| scene.put(table + 8 * number, call));
    scene.put(table + 8 * 62, stray);
    let (variable, block) = (scene.variable(64), scene.structure());
    scene.kernel.symbols.ftrace_trace_function = va(variable);
    scene.put(variable, stray);
    let chain = scene.variable(1024);
    scene.kernel.symbols.die_chain = va(chain);
    let head = scene.field(chain, "atomic_notifier_head", "head");
    scene.put(head, block);
    scene.set(block, "notifier_block", "notifier_call", stray);
    // The page is writable, too.
    (scene, vec![table + 8 * 62, variable, block, stray, stray])
}

/// A machine whose page tables take minutes.
fn large() -> Scene {
    let mut scene = Scene::new();
    let at = scene.module_data();
    for level in 2..=4 {
        let shared = scene.entry(at, level);
        let bytes = scene.kernel.space.levels.bytes(level);
        (0..512).for_each(|index| scene.set_entry(at ^ (bytes * index), level, shared));
    }
    scene
}

#[test]
fn a_round_begins_after_a_scan_that_has_read_the_modules() {
    let mut rounds = Rounds::new(hooked().0);
    rounds.snapshot.modules.is_fresh = false;
    rounds.scan(SECOND);
    assert!(!rounds.code.has_work());
    rounds.snapshot.modules.is_fresh = true;
    rounds.scan(0);
    assert!(rounds.code.has_work());
    // What has begun needs no modules any more.
    rounds.snapshot.modules.is_fresh = false;
    rounds.end_round();
    assert_eq!(rounds.code.last_round().rounds, 1);
}

#[test]
fn a_round_begins_a_second_after_the_one_before() {
    let mut rounds = Rounds::new(hooked().0);
    rounds.scan(SECOND);
    let begun = rounds.now;
    rounds.work(1 << 20);
    assert_eq!(rounds.code.last_round().rounds, 1);
    rounds.scan(SECOND - 1);
    assert!(!rounds.code.has_work());
    rounds.scan(1);
    assert!(rounds.code.has_work() && rounds.now == begun + SECOND);
}

#[test]
fn slices_show_what_a_round_shows_at_once() {
    let (scene, hooks) = hooked();
    let mut slices = Rounds::new(scene);
    slices.end_round();
    let mut whole = Rounds::new(hooked().0);
    let now = Monotonic::from_ns(SECOND);
    let (memory, kernel) = whole.scene.parts();
    whole.code.check_at_once(&mut whole.buffers, memory, (&whole.snapshot, kernel), now);
    for rounds in [&slices, &whole] {
        let places = rounds.code.confirmed(1).map(|row| row.violation.place.0);
        assert_eq!(places.collect::<Vec<_>>(), hooks);
    }
    for &check in Check::ALL {
        let facts = slices.code.last_round().of(check);
        assert_eq!(facts, whole.code.last_round().of(check), "{check:?}");
    }
    assert_eq!(slices.code.last_round().of(Check::NotifierChains).violations, 1);
}

#[test]
fn rounds_read_as_much_in_a_second_as_they_may() {
    let mut rounds = Rounds::new(large());
    for _ in 0..500 {
        rounds.scan(10 * MS);
        rounds.work(64 << 10);
    }
    // Small reads count as more than they have.
    let may = 5 * BYTES_A_SECOND;
    assert!((may / 4..may + (64 << 10)).contains(&rounds.bytes), "{}", rounds.bytes);
    // A pause saves those of a second.
    let before = rounds.bytes;
    rounds.scan(3600 * SECOND);
    rounds.work(64 << 10);
    let read = rounds.bytes - before;
    assert!((BYTES_A_SECOND / 4..BYTES_A_SECOND + (64 << 10)).contains(&read), "{read}");
    assert_eq!(rounds.code.last_round().rounds, 0);
}

#[test]
fn what_two_rounds_have_seen_is_reported_once() {
    let (scene, hooks) = hooked();
    let mut rounds = Rounds::new(scene);
    rounds.end_round();
    assert!(rounds.report(true).is_empty());
    rounds.end_round();
    // Without room for a record, the violation waits.
    assert_eq!(rounds.report(false), hooks[..1]);
    assert_eq!(rounds.report(true), hooks);
    rounds.end_round();
    assert!(rounds.report(true).is_empty());
    assert_eq!(rounds.code.confirmed(3).count(), hooks.len());
    assert_eq!(rounds.code.untracked(), 0);
}

/// After a change, memory without an owner may be what a list has just left.
fn assert_waits_after(change: fn(&mut Rounds)) {
    let (scene, hooks) = hooked();
    let mut rounds = Rounds::new(scene);
    rounds.snapshot.machine.module_marks = MARKS;
    rounds.end_round();
    change(&mut rounds);
    let begin = rounds.now;
    while rounds.now < begin + LINGER {
        assert!(rounds.report(true).is_empty());
        rounds.end_round();
    }
    rounds.end_round();
    assert_eq!(rounds.report(true), hooks);
}

#[test]
fn a_change_of_owners_asks_for_later_rounds() {
    assert_waits_after(|rounds| rounds.snapshot.machine.module_marks.seq = Some(7));
    assert_waits_after(|rounds| rounds.snapshot.machine.module_marks.list = Some([7; 2]));
    // No scan shows this one.
    assert_waits_after(|rounds| {
        let list = rounds.scene.kernel.symbols.ftrace_ops_list.unwrap();
        let ops = rounds.scene.structure();
        rounds.scene.put(list.0, ops);
    });
}

#[test]
fn owners_that_change_all_the_time_delay_a_report() {
    let (scene, hooks) = hooked();
    let mut rounds = Rounds::new(scene);
    rounds.snapshot.machine.module_marks = MARKS;
    for round in 1..16 {
        rounds.end_round();
        rounds.snapshot.machine.module_marks.seq = Some(MARKS.seq.unwrap() + round);
        assert!(rounds.report(true).is_empty());
    }
    rounds.end_round();
    assert_eq!(rounds.report(true), hooks);
}

#[test]
fn a_round_has_the_modules_of_the_latest_scan() {
    let (scene, hooks) = hooked();
    let mut rounds = Rounds::new(scene);
    rounds.snapshot.machine.module_marks = MARKS;
    rounds.scan(SECOND);
    // The round has begun, and has the owners of its beginning.
    let (memory, kernel) = rounds.scene.parts();
    rounds.code.work(&mut rounds.buffers, memory, kernel, 1);
    let mut module = Module::default();
    (module.parts[0].base, module.parts[0].size) = (KernelVa(hooks[3]), 4096);
    let views = ModuleViews(module_view::LIST);
    let row = ModuleRow { address: KernelVa(8), module, views, ..ModuleRow::default() };
    rounds.snapshot.modules.rows.push(row);
    rounds.snapshot.machine.module_marks.seq = Some(7);
    rounds.end_round();
    let owners = rounds.code.confirmed(0).map(|row| row.violation.owner);
    assert!(owners.into_iter().all(|owner| owner == Owner::Module(KernelVa(8))));
    assert_eq!(rounds.code.last_round().of(Check::ExecutablePages).violations, 0);
}

#[test]
fn the_lock_of_modules_changes_without_them() {
    let (scene, hooks) = hooked();
    let mut rounds = Rounds::new(scene);
    rounds.end_round();
    rounds.snapshot.machine.module_marks.mutex = Some(7);
    rounds.end_round();
    assert_eq!(rounds.report(true), hooks);
}
