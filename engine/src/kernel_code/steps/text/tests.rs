//! A kernel's code with one place of each kind that is patched.

use panoptes_decoders::kernel::code::OptimizedKprobe;
use panoptes_decoders::layout::{Layout, Member, Members};
use proptest::prelude::*;

use super::super::testing::{Outcome, Scene, va};
use super::*;
use crate::kernel_code::owners::Owner;

/// Bytes of the code, unless a test says otherwise.
const CODE_BYTES: u64 = 16 << 10;
/// Offsets in the code.
const LONG_LABEL: u64 = 0x100;
const SHORT_LABEL: u64 = 0x140;
const LABEL_TARGET: u64 = 0x170;
const STATIC_CALL: u64 = 0x200;
const CONDITIONAL_CALL: u64 = 0x280;
const TRAMPOLINE: u64 = 0x300;
/// In two blocks.
const TRACED: u64 = 0x3fe;
const TRACE_CALL: u64 = 0x500;
const LOCKED: u64 = 0x600;
const PROBED: u64 = 0x700;
/// In two blocks.
const PROBED_LATE: u64 = 0xbfe;
const DISPATCHER: u64 = 0x1000;
/// Where a probe has the bytes that its jump replaces.
const COPIED: u32 = 512;

const NOP5: &[u8] = &[0x0f, 0x1f, 0x44, 0x00, 0x00];
const OLD_NOP5: &[u8] = &[0x66, 0x66, 0x66, 0x66, 0x90];
const NOP2: &[u8] = &[0x66, 0x90];
/// push %rbp; mov %rsp,%rbp; push %rbx
const PROLOGUE: [u8; 5] = [0x55, 0x48, 0x89, 0xe5, 0x53];

struct Machine {
    scene: Scene,
    code: u64,
    /// Code of the owners that may be called, and of nobody.
    slot: u64,
    bpf: u64,
    stray: u64,
    /// Head of the list of code without lock prefixes, and its element.
    locks: u64,
    unlocked: u64,
}

/// Puts a field behind those of the structure that it is in.
struct Behind;

impl Members for Behind {
    fn member(&self, _: &str, _: &str) -> Option<Member> {
        Some(Member { offset: COPIED, size: 4 })
    }

    fn size_of(&self, _: &str) -> Option<u32> {
        Some(2 * COPIED)
    }
}

impl Machine {
    fn new() -> Self {
        let mut scene = Scene::new();
        let code = scene.function(1 << 21);
        scene.kernel.symbols.etext = va(code + CODE_BYTES);
        for at in (code..code + CODE_BYTES).step_by(64) {
            scene.put(at, at.wrapping_mul(0x9e37_79b9_7f4a_7c15) & !0x8080_8080_8080_8080);
        }
        let [slot, bpf] = [Owner::Trampoline, Owner::Bpf].map(|owner| scene.code_of(owner));
        let stray = scene.stray_code();
        let (locks, unlocked) = (scene.variable(16), scene.structure());
        scene.kernel.layouts.optimized_kprobe = OptimizedKprobe::bind(&Behind).ok();
        let mut machine = Self { scene, code, slot, bpf, stray, locks, unlocked };
        machine.put_tables();
        machine.put_probes(&[]);
        for (place, bytes) in [
            (LONG_LABEL, NOP5),
            (SHORT_LABEL, NOP2),
            (TRACED, NOP5),
            (LOCKED, &[0x3e, 0x0f, 0xb1]),
            (PROBED, &PROLOGUE),
            (PROBED_LATE, &PROLOGUE),
        ] {
            machine.patch(place, bytes);
        }
        let function = code + 0x2000;
        machine.branch(STATIC_CALL, &[0xe8], function);
        machine.branch(CONDITIONAL_CALL, &[0x0f, 0x84], function);
        machine.branch(TRAMPOLINE, &[0xe9], function);
        machine.branch(TRACE_CALL, &[0xe8], function);
        machine
    }

    fn put_tables(&mut self) {
        let (scene, code) = (&mut self.scene, self.code);
        let jumps = scene.variable(32);
        for (entry, place) in [(jumps, LONG_LABEL), (jumps + 16, SHORT_LABEL)] {
            put_relative(scene, entry, code + place);
            put_relative(scene, entry + 4, code + LABEL_TARGET);
        }
        let calls = scene.variable(16);
        for (entry, place) in [(calls, STATIC_CALL), (calls + 8, CONDITIONAL_CALL)] {
            put_relative(scene, entry, code + place);
        }
        let lock = scene.variable(4);
        put_relative(scene, lock, code + LOCKED);
        let (pages, page, record) = (scene.variable(8), scene.structure(), scene.structure());
        scene.put(pages, page);
        scene.set(page, "ftrace_page", "records", record);
        scene.set(page, "ftrace_page", "index", 1);
        scene.set(record, "dyn_ftrace", "ip", code + TRACED);
        scene.set(self.unlocked, "smp_alt_module", "locks", lock);
        scene.set(self.unlocked, "smp_alt_module", "locks_end", lock + 4);
        scene.list(self.locks, &[]);
        let symbols = &mut scene.kernel.symbols;
        (symbols.start_jump_table, symbols.stop_jump_table) = (va(jumps), va(jumps + 32));
        symbols.start_static_call_sites = va(calls);
        symbols.stop_static_call_sites = va(calls + 16);
        symbols.static_call_text_start = va(code + TRAMPOLINE);
        symbols.static_call_text_end = va(code + TRAMPOLINE + 8);
        symbols.ftrace_pages_start = va(pages);
        symbols.ftrace_call = va(code + TRACE_CALL);
        symbols.smp_alt_modules = va(self.locks);
        symbols.x64_sys_call = va(code + DISPATCHER);
    }

    /// Sets what probes there are.
    fn put_probes(&mut self, places: &[u64]) {
        let table = match self.scene.kernel.symbols.kprobe_table {
            Some(table) => table.0,
            None => self.scene.variable(64 * 8),
        };
        self.scene.kernel.symbols.kprobe_table = va(table);
        for bucket in 0..64 {
            self.scene.hlist(table + 8 * bucket, &[]);
        }
        for (bucket, &place) in places.iter().enumerate() {
            let probe = self.scene.structure();
            self.scene.set(probe, "kprobe", "addr", self.code + place);
            self.scene.set(probe, "kprobe", "opcode", PROLOGUE[0].into());
            self.scene.put_bytes(probe + u64::from(COPIED), &PROLOGUE[1..]);
            let link = self.scene.field(probe, "kprobe", "hlist");
            self.scene.hlist(table + 8 * bucket as u64, &[link]);
        }
    }

    fn patch(&mut self, place: u64, bytes: &[u8]) {
        self.scene.put_bytes(self.code + place, bytes);
    }

    /// Puts a branch to an address.
    fn branch(&mut self, place: u64, opcode: &[u8], target: u64) {
        let end = self.code + place + opcode.len() as u64 + 4;
        let offset = target.wrapping_sub(end) as u32;
        self.patch(place, &[opcode, &offset.to_le_bytes()].concat());
    }

    /// Puts a short jump.
    fn short_jump(&mut self, place: u64, target: u64) {
        let offset = (self.code + target).wrapping_sub(self.code + place + 2) as u8;
        self.patch(place, &[0xeb, offset]);
    }

    fn run(&mut self) -> Outcome {
        self.scene.run(step)
    }

    /// The baseline of the machine as it is.
    fn look_first(&mut self) {
        let outcome = self.run();
        assert_eq!(outcome.hooks(Check::KernelText), []);
        let facts = outcome.facts(Check::KernelText);
        assert_eq!((facts.places, facts.not_checked), (CODE_BYTES / 1024, Some(NO_BASELINE)));
    }

    fn assert_holds(&mut self, what: &str) {
        let outcome = self.run();
        assert!(outcome.holds(Check::KernelText), "{what}: {:?}", outcome.violations);
    }

    /// Two rounds that see one violation.
    fn assert_violates(&mut self, place: u64, target: u64) {
        for _ in 0..2 {
            let outcome = self.run();
            assert_eq!(outcome.hooks(Check::KernelText), [(self.code + place, target)]);
            assert_eq!(outcome.facts(Check::KernelText).violations, 1);
        }
    }

    /// The places, each with the number of legal patches.
    const PATCHES: &[(u64, usize)] = &[
        (LONG_LABEL, 4),
        (SHORT_LABEL, 2),
        (STATIC_CALL, 8),
        (CONDITIONAL_CALL, 2),
        (TRAMPOLINE, 3),
        (TRACED, 5),
        (TRACE_CALL, 2),
    ];

    /// Puts one of the legal patches at a place.
    #[allow(clippy::match_same_arms, reason = "one row for each place and patch")]
    fn patch_legally(&mut self, place: u64, number: usize) {
        let (function, bpf, slot) = (self.code + 0x2400, self.bpf, self.slot);
        match (place, number) {
            (LONG_LABEL | TRACED | STATIC_CALL, 0) => self.patch(place, NOP5),
            (LONG_LABEL | TRACED, 1) => self.patch(place, OLD_NOP5),
            (LONG_LABEL, 2) => self.branch(place, &[0xe9], self.code + LABEL_TARGET),
            (SHORT_LABEL, 0) => self.patch(place, NOP2),
            (SHORT_LABEL, 1) => self.short_jump(place, LABEL_TARGET),
            (STATIC_CALL, 1) => self.branch(place, &[0xe8], bpf),
            (STATIC_CALL, 2) => self.branch(place, &[0xe9], function),
            (STATIC_CALL, 3) => self.patch(place, &[0xc3, 0xcc, 0xcc, 0xcc, 0xcc]),
            (STATIC_CALL, 4) => self.patch(place, &[0x66, 0x66, 0x48, 0x31, 0xc0]),
            (STATIC_CALL, 5) => self.patch(place, &[0x2e, 0x2e, 0x2e, 0x31, 0xc0]),
            (STATIC_CALL, 6) => self.patch(place, &[0x67, 0x48, 0x0f, 0xb9, 0x3a]),
            (CONDITIONAL_CALL, 0) => self.branch(place, &[0x0f, 0x84], function),
            (CONDITIONAL_CALL, 1) => self.branch(place, &[0x0f, 0x84], bpf),
            (TRAMPOLINE, 0) => self.branch(place, &[0xe9], function),
            (TRAMPOLINE, 1) => self.branch(place, &[0xe9], bpf),
            (TRAMPOLINE, 2) => self.patch(place, &[0xc3, 0xcc, 0xcc, 0xcc, 0xcc]),
            (TRACED | TRACE_CALL, 2 | 0) => self.branch(place, &[0xe8], slot),
            (TRACED, 3) => self.branch(place, &[0xe9], bpf),
            (TRACE_CALL, 1) => self.branch(place, &[0xe8], function),
            // While it is being patched.
            _ => self.patch(place, &[0xcc]),
        }
    }
}

/// Puts the distance to an address, in 32 bits.
fn put_relative(scene: &mut Scene, at: u64, target: u64) {
    scene.put_bytes(at, &(target.wrapping_sub(at) as u32).to_le_bytes());
}

#[test]
fn legal_patches_are_silent() {
    let mut machine = Machine::new();
    machine.look_first();
    machine.assert_holds("as it was");
    for &(place, patches) in Machine::PATCHES {
        for number in 0..patches {
            machine.patch_legally(place, number);
            machine.assert_holds(&format!("patch {number} at {place:#x}"));
        }
    }
}

#[test]
fn illegal_patches_are_violations_until_they_are_gone() {
    type Put = fn(&mut Machine) -> u64;
    let cases: [(u64, Put); 10] = [
        (LONG_LABEL, |it| it.branches(LONG_LABEL, &[0xe9], it.code + LABEL_TARGET + 1)),
        (LONG_LABEL, |it| it.branches(LONG_LABEL, &[0xe8], it.code + LABEL_TARGET)),
        (SHORT_LABEL, |it| {
            it.short_jump(SHORT_LABEL, LABEL_TARGET - 1);
            it.code + LABEL_TARGET - 1
        }),
        (STATIC_CALL, |it| it.branches(STATIC_CALL, &[0xe8], it.stray)),
        (STATIC_CALL, |it| {
            it.patch(STATIC_CALL, &[0x90; 5]);
            0
        }),
        (CONDITIONAL_CALL, |it| it.branches(CONDITIONAL_CALL, &[0x0f, 0x84], it.stray)),
        (TRAMPOLINE, |it| it.branches(TRAMPOLINE, &[0xe9], it.stray)),
        (TRACED, |it| it.branches(TRACED, &[0xe8], it.stray)),
        (TRACED, |it| it.branches(TRACED, &[0x0f, 0x84], it.code)),
        (TRACE_CALL, |it| it.branches(TRACE_CALL, &[0xe8], it.stray)),
    ];
    for (index, (place, put)) in cases.into_iter().enumerate() {
        let mut machine = Machine::new();
        machine.look_first();
        let target = put(&mut machine);
        for _ in 0..3 {
            let hooks = machine.run().hooks(Check::KernelText);
            let expected = (machine.code + place, target);
            assert!(hooks.contains(&expected), "case {index}: {hooks:x?}");
        }
        machine.patch_legally(place, 0);
        if index != 8 {
            machine.assert_holds("legal again");
        }
    }
}

impl Machine {
    /// Puts a branch, and returns where it leads.
    fn branches(&mut self, place: u64, opcode: &[u8], target: u64) -> u64 {
        self.branch(place, opcode, target);
        target
    }
}

#[test]
fn what_was_illegal_at_the_first_look_is_a_violation() {
    let mut machine = Machine::new();
    machine.branch(TRACED, &[0xe8], machine.stray);
    machine.assert_violates(TRACED, machine.stray);
    machine.patch(TRACED, NOP5);
    machine.assert_holds("legal again");
}

#[test]
fn a_violation_shows_what_stands_at_the_place() {
    let mut machine = Machine::new();
    machine.look_first();
    machine.branch(STATIC_CALL, &[0xe8], machine.stray);
    let outcome = machine.run();
    assert_eq!(outcome.violations[0].after[0], 0xe8);
    assert_eq!(outcome.violations[0].after.len(), 6);
}

#[test]
fn a_place_whose_owner_is_gone_is_a_violation() {
    let mut machine = Machine::new();
    machine.look_first();
    machine.branch(TRACED, &[0xe8], machine.bpf);
    machine.assert_holds("while it is owned");
    machine.scene.disown_all();
    machine.assert_violates(TRACED, machine.bpf);
}

#[test]
fn a_changed_byte_is_a_violation_of_its_block() {
    // Beside the places, at the ends of a block, and at the ends of the code.
    let last = CODE_BYTES - 1;
    for place in [LONG_LABEL - 1, LONG_LABEL + 5, SHORT_LABEL + 2, TRACED + 5, 0x800, 0, last] {
        let mut machine = Machine::new();
        machine.look_first();
        machine.patch(place, &[0xf4]);
        machine.assert_violates(place & !15, 0);
        assert_eq!(machine.run().violations[0].label.as_str(), "in 16 bytes from there");
    }
}

#[test]
fn the_bytes_of_functions_that_matter_are_known() {
    let mut machine = Machine::new();
    machine.patch(DISPATCHER + 0x123, &[0xe8, 1, 2, 3, 4]);
    machine.look_first();
    machine.patch(DISPATCHER + 0x124, &[7, 8]);
    machine.assert_violates(DISPATCHER + 0x124, 0);
    let violation = machine.run().violations.remove(0);
    assert_eq!(violation.before[..4], [1, 2, 3, 4]);
    assert_eq!(violation.after[..4], [7, 8, 3, 4]);
    assert_eq!(violation.label.as_str(), "");
}

#[test]
fn probes_are_silent() {
    let places = [PROBED, PROBED_LATE];
    let mut machine = Machine::new();
    machine.look_first();
    machine.put_probes(&places);
    for place in places {
        machine.patch(place, &[0xcc]);
    }
    machine.assert_holds("traps");
    machine.put_probes(&[PROBED_LATE]);
    machine.assert_violates(PROBED & !15, 0);
}

#[test]
fn jumps_of_probes_lead_to_slots() {
    let mut machine = Machine::new();
    machine.look_first();
    for place in [PROBED, PROBED_LATE] {
        machine.put_probes(&[place]);
        machine.branch(place, &[0xe9], machine.slot);
        machine.assert_holds("a jump to a slot");
        machine.patch(place, &PROLOGUE);
    }
    machine.put_probes(&[PROBED]);
    machine.branch(PROBED, &[0xe9], machine.bpf);
    machine.assert_violates(PROBED & !15, 0);
}

#[test]
fn probes_may_be_older_than_the_first_look() {
    let mut machine = Machine::new();
    machine.put_probes(&[PROBED]);
    machine.patch(PROBED, &[0xcc]);
    machine.look_first();
    machine.assert_holds("with the probe");
    machine.put_probes(&[]);
    machine.patch(PROBED, &PROLOGUE);
    machine.assert_holds("without the probe");
    machine.patch(PROBED, &[0xcc]);
    machine.assert_violates(PROBED & !15, 0);
}

#[test]
fn a_window_has_the_places_that_reach_into_it() {
    let border = CODE_WINDOW_BYTES as u64;
    let mut machine = Machine::new();
    machine.scene.kernel.symbols.etext = va(machine.code + border + CODE_BYTES);
    machine.patch(border - 3, &PROLOGUE);
    let outcome = machine.run();
    assert_eq!(outcome.facts(Check::KernelText).places, (border + CODE_BYTES) / 1024);
    machine.put_probes(&[border - 3]);
    machine.branch(border - 3, &[0xe9], machine.slot);
    machine.assert_holds("a jump of a probe");
    machine.patch(border + 3, &[1]);
    machine.assert_violates(border, 0);
}

#[test]
fn lock_prefixes_may_come_with_a_second_processor() {
    let mut machine = Machine::new();
    machine.look_first();
    // The kernel keeps their table if the list has an element.
    machine.patch(LOCKED, &[0xf0]);
    machine.assert_violates(LOCKED & !15, 0);
    machine.patch(LOCKED, &[0x3e]);
    let mut machine = Machine::new();
    let link = machine.scene.field(machine.unlocked, "smp_alt_module", "next");
    machine.scene.list(machine.locks, &[link]);
    machine.look_first();
    machine.patch(LOCKED, &[0xf0]);
    machine.assert_holds("with a lock");
    machine.patch(LOCKED, &[0x90]);
    machine.assert_violates(LOCKED & !15, 0);
}

#[test]
fn no_baseline_comes_from_tables_that_cannot_be_read() {
    let tables: [fn(&Machine) -> u64; 3] = [
        |it| it.scene.kernel.symbols.start_jump_table.unwrap().0,
        |it| it.scene.kernel.symbols.ftrace_pages_start.unwrap().0,
        |it| it.locks,
    ];
    for table in tables {
        let mut machine = Machine::new();
        let lost = table(&machine);
        machine.scene.lose(lost);
        for _ in 0..2 {
            let facts = machine.run().facts(Check::KernelText);
            assert_eq!((facts.unread, facts.not_checked), (1, Some(NO_BASELINE)));
        }
        assert!(machine.scene.baseline.code.is_empty());
    }
}

#[test]
fn hostile_tables_end() {
    let mut machine = Machine::new();
    let page = machine.scene.structure();
    machine.scene.set(page, "ftrace_page", "next", page);
    machine.scene.set(page, "ftrace_page", "index", 8000);
    let first = machine.scene.kernel.symbols.ftrace_pages_start.unwrap();
    machine.scene.put(first.0, page);
    assert_eq!(machine.run().facts(Check::KernelText).unread, 1);
    // Records without a size, or larger than a read, are no records.
    for size in [0, READ_BYTES_MAX + 1, u32::MAX] {
        machine.scene.kernel.layouts.dyn_ftrace.as_mut().unwrap().size = size;
        assert_eq!(machine.run().facts(Check::KernelText).unread, 1);
    }
    let symbols = &mut machine.scene.kernel.symbols;
    symbols.etext = symbols.stext.map(|start| start.plus(1 << 40));
    assert_eq!(machine.run().facts(Check::KernelText).not_checked, Some(sites::UNKNOWN));
}

#[test]
fn code_without_known_places_is_not_checked() {
    let mut machine = Machine::new();
    machine.scene.kernel.symbols.start_jump_table = None;
    let facts = machine.run().facts(Check::KernelText);
    assert_eq!((facts.places, facts.not_checked), (0, Some(sites::UNKNOWN)));
}

#[test]
fn code_that_changes_during_the_first_look_is_looked_at_again() {
    fn step(cx: &mut CheckContext<'_>, _: &mut Cursor) -> Progress {
        let range = cx.kernel().text();
        let window = Window { code: range.clone(), range, block: 1024, first: 0, has_turn: true };
        assert!(read_window(cx, &window));
        // What was there when the window was read is not there any more.
        let at = window.index_of(window.range.start + PROBED);
        cx.window.set(at, &[0xcc]);
        assert!(!look_first(cx, &window));
        Progress::Done
    }
    Machine::new().scene.run(step);
}

#[test]
fn read_only_data_stays_what_it_was() {
    let mut machine = Machine::new();
    let data = machine.scene.variable(10_000);
    machine.scene.kernel.symbols.start_rodata = va(data);
    machine.scene.kernel.symbols.end_rodata = va(data + 10_000);
    let facts = machine.run().facts(Check::ReadOnlyData);
    assert_eq!((facts.places, facts.not_checked), (10, Some(NO_BASELINE)));
    assert!(machine.run().holds(Check::ReadOnlyData));
    for at in [data, data + 9999] {
        machine.scene.put_bytes(at, &[9]);
        let block = data + (at - data) / 16 * 16;
        assert_eq!(machine.run().hooks(Check::ReadOnlyData), [(block, 0)]);
        machine.scene.put_bytes(at, &[0]);
    }
    assert!(machine.run().holds(Check::ReadOnlyData));
}

/// Whether a byte belongs to a place that is patched.
fn is_patched(offset: u64) -> bool {
    let is_short = (SHORT_LABEL..SHORT_LABEL + 2).contains(&offset);
    let is_long = (CONDITIONAL_CALL..CONDITIONAL_CALL + 6).contains(&offset);
    let places = [LONG_LABEL, STATIC_CALL, TRAMPOLINE, TRACED, TRACE_CALL];
    is_short || is_long || places.iter().any(|&place| (place..place + 5).contains(&offset))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn random_legal_patches_never_violate(
        rounds in prop::collection::vec(
            prop::collection::vec((0..Machine::PATCHES.len(), any::<prop::sample::Index>()), 1..8),
            1..6,
        ),
        elsewhere in (0..CODE_BYTES).prop_filter("patched", |&offset| !is_patched(offset)),
    ) {
        let mut machine = Machine::new();
        machine.look_first();
        for patches in rounds {
            for (place, number) in patches {
                let (place, count) = Machine::PATCHES[place];
                machine.patch_legally(place, number.index(count));
            }
            machine.assert_holds("random patches");
        }
        // A byte that no code here has.
        machine.patch(elsewhere, &[0xf4]);
        let hooks = machine.run().hooks(Check::KernelText);
        prop_assert_eq!(hooks.len(), 1);
        prop_assert_eq!(hooks[0].0 & !1023, (machine.code + elsewhere) & !1023);
    }
}
