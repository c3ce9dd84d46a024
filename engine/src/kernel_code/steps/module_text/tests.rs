//! A module of two pages of code with one place of each kind that is patched.

use super::super::testing::{Outcome, Scene, va};
use super::*;

/// Offsets in the module's code. The second page begins at 0x1000.
const LABEL: u64 = 0x100;
const LABEL_TARGET: u64 = 0x170;
const STATIC_CALL: u64 = 0x200;
const TRAMPOLINE: u64 = 0x300;
const TRACED: u64 = 0xffe;
const LOCKED: u64 = 0x600;
const PROBED: u64 = 0x700;
const CODE_BYTES: u64 = 0x2000;
const NOP5: &[u8] = &[0x0f, 0x1f, 0x44, 0x00, 0x00];
const END: [u8; 3] = [0x0f, 0xb9, 0xcc];

struct Machine {
    scene: Scene,
    module: u64,
    node: u64,
    code: u64,
    bpf: u64,
    stray: u64,
    probes: u64,
    probe: u64,
}

impl Machine {
    fn new() -> Self {
        let mut scene = Scene::new();
        let (module, node) = (scene.structure(), scene.structure());
        let code = scene.two_pages_of(Owner::Module(KernelVa(module)));
        let (bpf, stray) = (scene.code_of(Owner::Bpf), scene.stray_code());
        let (probes, probe) = (scene.variable(64 * 8), scene.structure());
        let mut machine = Self { scene, module, node, code, bpf, stray, probes, probe };
        machine.put_tables();
        machine.patch(LABEL, NOP5);
        machine.patch(LOCKED, &[0x3e, 0x0f, 0xb1]);
        machine.patch(PROBED, &[0x55, 0x48]);
        machine.branch(STATIC_CALL, 0xe8, bpf);
        machine.branch(TRAMPOLINE, 0xe9, bpf);
        machine.patch(TRAMPOLINE + 5, &END);
        machine.trace(NOP5);
        machine
    }

    fn put_tables(&mut self) {
        let (scene, code, module) = (&mut self.scene, self.code, self.module);
        let (jumps, calls, locks) = (scene.variable(16), scene.variable(8), scene.variable(4));
        let relative = |at: u64, target: u64| (target.wrapping_sub(at) as u32).to_le_bytes();
        scene.put_bytes(jumps, &relative(jumps, code + LABEL));
        scene.put_bytes(jumps + 4, &relative(jumps + 4, code + LABEL_TARGET));
        scene.put_bytes(calls, &relative(calls, code + STATIC_CALL));
        scene.put_bytes(locks, &relative(locks, code + LOCKED));
        scene.set(module, "module", "jump_entries", jumps);
        scene.set(module, "module", "num_jump_entries", 1);
        scene.set(module, "module", "static_call_sites", calls);
        scene.set(module, "module", "num_static_call_sites", 1);
        scene.set(module, "module", "mkobj.kobj.sd", self.node);
        scene.set(self.node, "kernfs_node", "id", 77);
        let (list, unlocked) = (scene.variable(16), scene.structure());
        scene.set(unlocked, "smp_alt_module", "locks", locks);
        scene.set(unlocked, "smp_alt_module", "locks_end", locks + 4);
        let link = scene.field(unlocked, "smp_alt_module", "next");
        scene.list(list, &[link]);
        let (pages, page, record) = (scene.variable(8), scene.structure(), scene.structure());
        scene.put(pages, page);
        scene.set(page, "ftrace_page", "records", record);
        scene.set(page, "ftrace_page", "index", 1);
        scene.set(record, "dyn_ftrace", "ip", code + TRACED);
        scene.set(self.probe, "kprobe", "addr", code + PROBED);
        scene.set(self.probe, "kprobe", "opcode", 0x55);
        let trampoline = scene.function(8);
        scene.put_bytes(trampoline + 5, &END);
        let symbols = &mut scene.kernel.symbols;
        (symbols.start_jump_table, symbols.stop_jump_table) = (va(jumps), va(jumps));
        symbols.static_call_text_start = va(trampoline);
        symbols.ftrace_pages_start = va(pages);
        symbols.smp_alt_modules = va(list);
        symbols.kprobe_table = va(self.probes);
    }

    fn patch(&mut self, place: u64, bytes: &[u8]) {
        for (at, byte) in (self.code + place..).zip(bytes) {
            self.scene.put_bytes(at, &[*byte]);
        }
    }

    fn trace(&mut self, bytes: &[u8]) {
        self.patch(TRACED, bytes);
    }

    fn branch(&mut self, place: u64, opcode: u8, target: u64) {
        let offset = target.wrapping_sub(self.code + place + 5) as u32;
        self.patch(place, &[&[opcode][..], &offset.to_le_bytes()].concat());
    }

    fn run(&mut self) -> Outcome {
        self.scene.run(step)
    }

    fn assert_new(&mut self) {
        let outcome = self.run();
        assert_eq!(outcome.hooks(Check::ModuleText), []);
        assert_eq!(outcome.facts(Check::ModuleText).not_checked, Some(NEW));
    }

    /// The baseline of the machine as it is.
    fn settle(&mut self) {
        self.assert_new();
        self.assert_holds("as it was");
    }

    fn assert_holds(&mut self, what: &str) {
        let outcome = self.run();
        assert!(outcome.holds(Check::ModuleText), "{what}: {:?}", outcome.violations);
    }

    fn assert_violates(&mut self, place: u64, target: u64) {
        for _ in 0..2 {
            let outcome = self.run();
            assert_eq!(outcome.hooks(Check::ModuleText), [(self.code + place, target)]);
            assert_eq!(outcome.facts(Check::ModuleText).violations, 1);
        }
    }
}

#[test]
fn legal_patches_are_silent() {
    let mut machine = Machine::new();
    machine.settle();
    machine.branch(LABEL, 0xe9, machine.code + LABEL_TARGET);
    machine.assert_holds("a jump label");
    machine.patch(STATIC_CALL, NOP5);
    machine.assert_holds("a static call");
    machine.patch(TRAMPOLINE, &[0xc3, 0xcc, 0xcc, 0xcc, 0xcc]);
    machine.assert_holds("a trampoline");
    machine.branch(TRACED, 0xe8, machine.bpf);
    machine.assert_holds("a traced function");
    machine.patch(LOCKED, &[0xf0]);
    machine.assert_holds("a lock prefix");
    let link = machine.scene.field(machine.probe, "kprobe", "hlist");
    machine.scene.hlist(machine.probes, &[link]);
    machine.patch(PROBED, &[0xcc]);
    machine.assert_holds("a probe");
    machine.scene.hlist(machine.probes, &[]);
    machine.patch(PROBED, &[0x55]);
    machine.assert_holds("without the probe");
}

#[test]
fn illegal_patches_are_violations() {
    for (place, opcode) in [(LABEL, 0xe9), (STATIC_CALL, 0xe8), (TRAMPOLINE, 0xe9), (TRACED, 0xe8)]
    {
        let mut machine = Machine::new();
        machine.settle();
        machine.branch(place, opcode, machine.stray);
        machine.assert_violates(place, machine.stray);
    }
}

#[test]
fn a_changed_byte_is_a_violation_of_the_module() {
    for place in [0, LABEL + 5, TRAMPOLINE + 5, PROBED, CODE_BYTES - 1] {
        let mut machine = Machine::new();
        machine.settle();
        machine.patch(place, &[0xf4]);
        machine.assert_violates(0, 0);
        let owner = machine.run().violations[0].owner;
        assert_eq!(owner, Owner::Module(KernelVa(machine.module)));
    }
}

#[test]
fn code_counts_once_two_rounds_have_seen_it() {
    let mut machine = Machine::new();
    machine.assert_new();
    // What was read amid a change.
    machine.patch(0, &[1]);
    machine.assert_new();
    machine.assert_holds("settled");
    machine.patch(0, &[2]);
    machine.assert_violates(0, 0);
}

#[test]
fn a_module_that_was_loaded_again_is_new() {
    let mut machine = Machine::new();
    machine.settle();
    machine.patch(0, &[1]);
    machine.scene.set(machine.node, "kernfs_node", "id", 78);
    machine.settle();
    machine.patch(0, &[2]);
    machine.assert_violates(0, 0);
}

#[test]
fn a_module_that_is_gone_is_forgotten() {
    let mut machine = Machine::new();
    machine.settle();
    machine.scene.disown_all();
    let facts = machine.run().facts(Check::ModuleText);
    assert_eq!((facts.places, facts.not_checked), (0, None));
    assert!(machine.scene.baseline.modules.see(machine.code, None).is_none());
}

#[test]
fn what_is_not_known_is_not_checked() {
    let without: [fn(&mut Machine); 4] = [
        |it| it.scene.kernel.layouts.kernfs_id = None,
        |it| it.scene.kernel.symbols.start_jump_table = None,
        // A kernel whose trampolines have no end.
        |it| it.scene.kernel.symbols.static_call_text_start = va(it.module),
        |it| it.scene.set(it.module, "module", "taints", TAINT_LIVEPATCH),
    ];
    for prepare in without {
        let mut machine = Machine::new();
        prepare(&mut machine);
        let facts = machine.run().facts(Check::ModuleText);
        assert_eq!(facts.places, 0);
        assert!(facts.not_checked.is_some_and(|why| why != NEW));
    }
}

#[test]
fn a_module_that_cannot_be_read_is_unread() {
    let mut machine = Machine::new();
    machine.settle();
    machine.scene.lose(machine.code + 0x1000);
    assert_eq!(machine.run().facts(Check::ModuleText).unread, 1);
    let mut machine = Machine::new();
    machine.scene.lose(machine.module);
    assert_eq!(machine.run().facts(Check::ModuleText).unread, 1);
}

#[test]
fn a_place_whose_owner_is_gone_is_a_violation_before_long() {
    let mut machine = Machine::new();
    machine.settle();
    machine.scene.disown_all();
    let module = Owner::Module(KernelVa(machine.module));
    machine.scene.own(machine.code, CODE_BYTES as u32, module);
    let places = [STATIC_CALL, TRAMPOLINE].map(|place| (machine.code + place, machine.bpf));
    let seen = (0..32).map(|_| machine.run().hooks(Check::ModuleText)).collect::<Vec<_>>();
    let first = seen.iter().position(|hooks| !hooks.is_empty()).unwrap();
    assert!(first < 16);
    assert!(seen[first..].iter().all(|hooks| *hooks == places));
}

#[test]
fn only_some_parts_are_new_in_one_round() {
    let mut machine = Machine::new();
    for _ in 0..NEW_PARTS_MAX {
        let module = machine.scene.structure();
        machine.scene.code_of(Owner::Module(KernelVa(module)));
    }
    let places = |outcome: &Outcome| outcome.facts(Check::ModuleText).places;
    assert_eq!(places(&machine.run()), NEW_PARTS_MAX);
    assert_eq!(places(&machine.run()), NEW_PARTS_MAX + 1);
    machine.assert_holds("all are known");
}
