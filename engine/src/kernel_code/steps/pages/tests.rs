//! Tests of the executable pages of small machines.

use panoptes_decoders::layout::PackedLayout;
use panoptes_decoders::paging::aarch64::{Aarch64Levels, Granule};
use panoptes_decoders::paging::x86_64::{LARGE, PRESENT};

use super::super::module_space::TRAP;
use super::super::testing::{Outcome, Scene, va};
use super::*;

const CODE: Check = Check::ExecutablePages;
const WRITABLE_CODE: Check = Check::WritableExecutablePages;
const CHECKS: [Check; 3] = [CODE, WRITABLE_CODE, Check::DirectMap];
const MODULE: Owner = Owner::Module(KernelVa(7));
/// Bits of an entry of x86-64 (arch/x86/include/asm/pgtable_types.h).
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const NOT_EXECUTABLE: u64 = 1 << 63;
/// Where nothing is mapped.
const FAR: u64 = 0xffff_ffff_d000_0000;

/// Takes a right from a page, or gives it one.
fn change(scene: &mut Scene, at: u64, level: u32, (set, clear): (u64, u64)) {
    let entry = scene.entry(at, level);
    assert_ne!(entry, 0);
    scene.set_entry(at, level, entry & !clear | set);
}

/// A page of code that nobody owns, and that is not writable.
fn stray(scene: &mut Scene) -> u64 {
    let at = scene.stray_code();
    change(scene, at, 1, (0, WRITABLE));
    at
}

fn map_code(scene: &mut Scene, at: u64) {
    scene.map(at, true);
    change(scene, at, 1, (0, WRITABLE));
}

/// Lets programs execute a page.
fn make_user(scene: &mut Scene, at: u64) {
    (1..=4).for_each(|level| change(scene, at, level, (USER, 0)));
}

/// The places that violate each check.
fn places(outcome: &Outcome) -> [Vec<u64>; 3] {
    CHECKS.map(|check| outcome.hooks(check).into_iter().map(|(place, _)| place).collect())
}

fn strays(scene: &mut Scene) -> Vec<u64> {
    let [code, writable, direct] = places(&scene.run(step));
    assert!(writable.is_empty() && direct.is_empty());
    code
}

#[test]
fn each_run_of_pages_that_nobody_owns_is_a_violation() {
    let mut scene = Scene::new();
    let first = stray(&mut scene);
    map_code(&mut scene, first + PAGE_BYTES);
    // The next page is behind a table's end.
    let last = FAR - PAGE_BYTES;
    map_code(&mut scene, last);
    map_code(&mut scene, FAR);
    let outcome = scene.run(step);
    assert_eq!(places(&outcome), [vec![first, last], vec![], vec![]]);
    let facts = outcome.facts(CODE);
    assert_eq!((facts.places, facts.violations, facts.unread), (4, 2, 0));
}

#[test]
fn pages_with_an_owner_are_none() {
    for owner in [MODULE, Owner::Bpf, Owner::Trampoline, Owner::System] {
        let mut scene = Scene::new();
        let at = scene.code_of(owner);
        change(&mut scene, at, 1, (0, WRITABLE));
        assert!(scene.run(step).holds(CODE), "{owner:?}");
        scene.disown_all();
        assert_eq!(strays(&mut scene), [at]);
        // What begins amid the page makes it executable.
        scene.own(at + PAGE_BYTES - 1, 1, owner);
        assert!(scene.run(step).holds(CODE), "{owner:?}");
        scene.disown_all();
        scene.own(at + PAGE_BYTES, 1, owner);
        assert_eq!(strays(&mut scene), [at]);
    }
}

#[test]
fn without_all_owners_no_page_is_a_violation() {
    fn step_without_owners(cx: &mut CheckContext<'_>, cursor: &mut Cursor) -> Progress {
        cx.not_checked(CODE, "a list could not be read");
        step(cx, cursor)
    }
    let mut scene = Scene::new();
    let at = stray(&mut scene);
    assert_eq!(strays(&mut scene), [at]);
    assert!(scene.run(step_without_owners).violations.is_empty());
    // Such a page needs no owner.
    change(&mut scene, at, 1, (WRITABLE, 0));
    assert_eq!(places(&scene.run(step_without_owners)), [vec![], vec![at], vec![]]);
}

#[test]
fn only_the_code_of_the_image_is_the_kernels() {
    let mut scene = Scene::new();
    let (text, data) = (scene.function(64), scene.variable(64));
    map_code(&mut scene, text);
    assert!(scene.run(step).holds(CODE));
    map_code(&mut scene, data);
    assert_eq!(strays(&mut scene), [data]);
}

#[test]
fn pages_of_traps_are_none() {
    let mut scene = Scene::new();
    let at = stray(&mut scene);
    scene.put_bytes(at, &[TRAP; PAGE_BYTES as usize]);
    assert!(scene.run(step).holds(CODE));
    scene.put_bytes(at + PAGE_BYTES - 1, &[0xc3]);
    assert_eq!(strays(&mut scene), [at]);
}

#[test]
fn large_pieces_are_judged_as_a_whole() {
    let mut scene = Scene::new();
    scene.set_entry(FAR, 2, 1 << 30 | LARGE | PRESENT);
    scene.fill(TRAP);
    assert!(scene.run(step).holds(CODE));
    // Nothing of the kernel fills more than this.
    let larger = 0xffff_ffff_4000_0000;
    scene.set_entry(larger, 3, 1 << 30 | LARGE | PRESENT);
    let outcome = scene.run(step);
    assert_eq!(places(&outcome)[0], [larger]);
    assert!(outcome.slice_bytes < 4 << 20);
}

#[test]
fn what_a_slice_cannot_read_waits_for_the_next_one() {
    let mut scene = Scene::new();
    let pieces = 16;
    for piece in 0..pieces {
        let at = FAR + piece * (2 << 20);
        scene.set_entry(at, 2, 1 << 30 | piece << 21 | LARGE | PRESENT);
    }
    let last = FAR + pieces * (2 << 20);
    map_code(&mut scene, last);
    scene.put(last, 1);
    scene.fill(TRAP);
    let outcome = scene.run(step);
    assert_eq!(places(&outcome)[0], [last]);
    assert_eq!(outcome.facts(CODE).places, pieces + 1);
    assert!(outcome.slices as u64 > pieces && outcome.slice_bytes < 4 << 20);
}

#[test]
fn no_entry_above_a_page_may_forbid_to_execute_it() {
    for level in 1..=4 {
        let mut scene = Scene::new();
        let at = stray(&mut scene);
        assert_eq!(strays(&mut scene), [at]);
        change(&mut scene, at, level, (NOT_EXECUTABLE, 0));
        let outcome = scene.run(step);
        assert!(outcome.violations.is_empty(), "{level}");
        assert_eq!(outcome.facts(CODE).places, 0);
    }
}

#[test]
fn code_that_every_entry_lets_the_kernel_write_is_a_violation() {
    let mut scene = Scene::new();
    let at = scene.code_of(MODULE);
    let outcome = scene.run(step);
    assert_eq!(places(&outcome), [vec![], vec![at], vec![]]);
    assert_eq!(outcome.violations[0].owner, MODULE);
    for level in 1..=4 {
        change(&mut scene, at, level, (0, WRITABLE));
        assert!(scene.run(step).holds(WRITABLE_CODE), "{level}");
        change(&mut scene, at, level, (WRITABLE, 0));
    }
    scene.disown_all();
    assert_eq!(places(&scene.run(step)), [vec![at], vec![at], vec![]]);
}

#[test]
fn the_direct_map_has_no_code_but_that_which_starts_processors() {
    let mut scene = Scene::new();
    let (at, header) = (scene.room(PAGE_BYTES), scene.variable(8));
    scene.set_entry(at, 1, (LOW_BYTES - PAGE_BYTES) | PRESENT);
    let violates = [vec![], vec![], vec![at]];
    assert_eq!(places(&scene.run(step)), violates);
    scene.kernel.symbols.real_mode_header = va(header);
    assert_eq!(places(&scene.run(step)), violates);
    for offset in [0, REAL_MODE_BYTES - PAGE_BYTES] {
        scene.put(header, at - offset);
        assert!(scene.run(step).holds(Check::DirectMap));
    }
    for other in [at + PAGE_BYTES, at - REAL_MODE_BYTES] {
        scene.put(header, other);
        assert_eq!(places(&scene.run(step)), violates);
    }
    scene.put(header, at);
    scene.set_entry(at, 1, LOW_BYTES | PRESENT);
    assert_eq!(places(&scene.run(step)), violates);
}

#[test]
fn a_page_that_programs_execute_has_an_owner_from_its_start() {
    let mut scene = Scene::new();
    let at = stray(&mut scene);
    scene.own(at + 8, 8, Owner::System);
    assert!(scene.run(step).holds(CODE));
    make_user(&mut scene, at);
    assert_eq!(strays(&mut scene), [at]);
    // Every entry must let them.
    change(&mut scene, at, 3, (0, USER));
    assert!(scene.run(step).holds(CODE));
    change(&mut scene, at, 3, (USER, 0));
    scene.own(at, 4096, Owner::System);
    assert!(scene.run(step).holds(CODE));
    let text = scene.function(64);
    map_code(&mut scene, text);
    assert!(scene.run(step).holds(CODE));
    make_user(&mut scene, text);
    assert_eq!(strays(&mut scene), [text]);
}

/// A machine with a page of code in an area, and the place of the area's caller.
fn area() -> (Scene, u64, u64) {
    let mut scene = Scene::new();
    let at = stray(&mut scene);
    let function = scene.function(4096);
    let [root, area, memory] = [0; 3].map(|_| scene.structure());
    scene.kernel.symbols.vmap_area_root = va(root);
    scene.kernel.symbols.bpf_jit_alloc_exec = va(function);
    // A node needs room for three words.
    let layout = scene.kernel.layouts.vmap_area.as_mut().unwrap();
    layout.rb_node.offset = 512;
    layout.packing = PackedLayout::of(&[layout.va_start, layout.va_end, layout.vm]);
    for field in [&mut layout.va_start, &mut layout.va_end, &mut layout.vm] {
        layout.packing.place(field);
    }
    // The area is the right child of one before it.
    let before = scene.structure();
    let nodes = [before + 512, area + 512];
    scene.put(root, nodes[0]);
    scene.set(nodes[0], "rb_node", "rb_right", nodes[1]);
    scene.set(before, "vmap_area", "va_start", at - 2 * PAGE_BYTES);
    scene.set(before, "vmap_area", "va_end", at);
    scene.set(area, "vmap_area", "va_start", at);
    scene.set(area, "vmap_area", "va_end", at + PAGE_BYTES);
    scene.set(area, "vmap_area", "vm", memory);
    let place = scene.field(memory, "vm_struct", "caller");
    scene.put(place, function + 17);
    (scene, at, place)
}

#[test]
fn areas_that_bpf_has_asked_for_are_its_own() {
    let (mut scene, at, caller) = area();
    assert!(scene.run(step).holds(CODE));
    let function = scene.word(caller) - 17;
    for other in [function - 1, function + 1024, 0] {
        scene.put(caller, other);
        assert_eq!(strays(&mut scene), [at]);
    }
    scene.put(caller, function);
    scene.kernel.symbols.bpf_jit_binary_alloc = scene.kernel.symbols.bpf_jit_alloc_exec.take();
    assert!(scene.run(step).holds(CODE));
    // Since there are packs, no image has an area.
    scene.kernel.symbols.pack_list = va(function);
    assert_eq!(strays(&mut scene), [at]);
}

#[test]
fn a_tree_of_areas_without_an_end_has_no_caller() {
    let (mut scene, at, _) = area();
    let node = scene.word(scene.kernel.symbols.vmap_area_root.unwrap().0);
    scene.set(node, "rb_node", "rb_right", node);
    assert_eq!(strays(&mut scene), [at]);
}

#[test]
fn tables_that_cannot_be_read_are_counted_once() {
    let mut scene = Scene::new();
    let at = stray(&mut scene);
    map_code(&mut scene, FAR);
    for (level, others) in [(1, vec![FAR]), (2, vec![])] {
        scene.lose_table(at, level);
        let outcome = scene.run(step);
        assert_eq!(outcome.facts(CODE).unread, 1);
        assert_eq!(places(&outcome)[0], others);
    }
}

#[test]
fn more_runs_than_are_named_are_not_checked() {
    for (count, is_whole) in [(RUNS_MAX, true), (RUNS_MAX + 1, false)] {
        let mut scene = Scene::new();
        (0..count).for_each(|_| _ = stray(&mut scene));
        let outcome = scene.run(step);
        assert_eq!(outcome.violations.len() as u64, RUNS_MAX);
        assert_eq!(outcome.facts(CODE).not_checked.is_none(), is_whole);
    }
}

#[test]
fn tables_in_the_place_of_many_have_an_end() {
    let mut scene = Scene::new();
    map_code(&mut scene, FAR);
    // Each entry leads to the same lower table, up to the lowest one.
    for level in 2..=4 {
        let shared = scene.entry(FAR, level);
        let bytes = scene.kernel.space.levels.bytes(level);
        (0..512).for_each(|index| scene.set_entry(FAR ^ (bytes * index), level, shared));
    }
    let outcome = scene.run(step);
    assert!(outcome.facts(CODE).not_checked.is_some());
    assert!(outcome.slices > 1);
}

/// A machine of arm64 with a page of code, whose lowest entry has these bits more.
fn arm64(bits: u64) -> (Scene, u64) {
    let mut scene = Scene::new();
    let levels = Aarch64Levels::new(Granule::Kib4, 48, 48).unwrap();
    scene.kernel.space.levels = PageTableLevels::Aarch64(levels);
    let at = 0xffff_a000_0000_0000;
    scene.map(at, true);
    let entry = scene.entry(at, 1);
    scene.set_entry(at, 1, entry | bits);
    (scene, at)
}

#[test]
fn pages_of_arm64_are_checked() {
    /// `AP[2]`, `AP[1]` and `PXN` (DDI 0487, D8.4)
    const READ_ONLY: u64 = 1 << 7;
    const USER: u64 = 1 << 6;
    const PXN: u64 = 1 << 53;
    /// `PXNTable` and `APTable[1]`
    const PXN_TABLE: u64 = 1 << 59;
    const READ_ONLY_TABLE: u64 = 1 << 62;
    let (mut scene, at) = arm64(READ_ONLY);
    assert_eq!(strays(&mut scene), [at]);
    for (level, bits) in [(1, PXN), (2, PXN_TABLE)] {
        let entry = scene.entry(at, level);
        scene.set_entry(at, level, entry | bits);
        assert!(scene.run(step).violations.is_empty());
        scene.set_entry(at, level, entry);
    }
    scene.own(at, 4096, MODULE);
    assert!(scene.run(step).holds(CODE));
    let (mut scene, at) = arm64(USER);
    assert_eq!(places(&scene.run(step)), [vec![at], vec![at], vec![]]);
    let entry = scene.entry(at, 2);
    scene.set_entry(at, 2, entry | READ_ONLY_TABLE);
    assert_eq!(strays(&mut scene), [at]);
}

#[test]
fn code_of_the_kernel_of_arm64_may_have_a_second_address() {
    const READ_ONLY: u64 = 1 << 7;
    let (mut scene, at) = arm64(READ_ONLY);
    let space = &scene.kernel.space;
    let text = space.image_physical.0;
    scene.set_entry(at, 1, text | READ_ONLY | 3);
    assert!(scene.run(step).holds(CODE));
    scene.set_entry(at, 1, text | 3);
    assert_eq!(places(&scene.run(step))[0], [at]);
    scene.set_entry(at, 1, (text - PAGE_BYTES) | READ_ONLY | 3);
    assert_eq!(strays(&mut scene), [at]);
}
