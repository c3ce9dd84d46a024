//! Interrupts: each gate of the table of interrupt descriptors leads into the kernel's text.
//!
//! Processors read the table where the kernel maps it read only for them: what is mapped there is
//! checked, too. The register that holds that address is not in memory: another table is not
//! noticed.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::layout::{u32_at, u64_at};
use panoptes_decoders::paging::PageTableLevels;

use crate::kernel_code::check::Check;
use crate::kernel_code::context::{CheckContext, Cursor, Progress};
use crate::kernel_code::owners::Owner;
use crate::kernel_code::violations::Violation;

/// Number of gates, and bytes of each (`struct gate_struct`, arch/x86/include/asm/desc_defs.h).
const GATES: usize = 256;
const GATE_BYTES: usize = 16;
/// The bit of a gate that is present.
const PRESENT: u64 = 1 << 47;

/// Where all processors have the table (`CPU_ENTRY_AREA_RO_IDT`, arch/x86/include/asm).
const MAPPED: KernelVa = KernelVa(0xffff_fe00_0000_0000);

/// Where the gates lead that are present.
type Targets = [Option<KernelVa>; GATES];

/// Checks all gates.
pub(super) fn step(cx: &mut CheckContext<'_>, _: &mut Cursor) -> Progress {
    let check = Check::InterruptDescriptors;
    if !matches!(cx.kernel().space.levels, PageTableLevels::X86_64(_)) {
        cx.not_checked(check, "the machine is no x86-64");
        return Progress::Done;
    }
    let Some(table) = cx.kernel().symbols.idt_table else {
        cx.not_checked(check, "the table's address is unknown");
        return Progress::Done;
    };
    let targets = check_table(cx, table, None);
    check_table(cx, MAPPED, targets.as_ref());
    Progress::Done
}

/// Checks the gates of a table that lead elsewhere than those of another one. Returns where all
/// lead.
fn check_table(
    cx: &mut CheckContext<'_>,
    table: KernelVa,
    checked: Option<&Targets>,
) -> Option<Targets> {
    let check = Check::InterruptDescriptors;
    let mut targets = [None; GATES];
    let Some(bytes) = cx.read(table, (GATES * GATE_BYTES) as u32) else {
        cx.unread(check);
        return None;
    };
    for (target, gate) in targets.iter_mut().zip(bytes.chunks_exact(GATE_BYTES)) {
        *target = target_of(gate);
    }
    for (vector, target) in targets.into_iter().enumerate() {
        let Some(target) = target else { continue };
        cx.checked(check, 1);
        if checked.and_then(|checked| checked.get(vector)) == Some(&Some(target)) {
            continue;
        }
        let owner = cx.owner_of(target);
        if owner != Owner::Kernel && !is_left(cx, target) {
            let place = table.plus((vector * GATE_BYTES) as u64);
            let mut violation = Violation { owner, ..Violation::new(check, place, target) };
            violation.set_label(format_args!("vector {vector}"));
            cx.violation(violation);
        }
    }
    Some(targets)
}

/// Whether a gate leads where code was when the kernel started, which it frees then: vectors that
/// nothing uses keep their early handlers (`idt_setup_early_handler`, arch/x86/kernel/idt.c).
fn is_left(cx: &mut CheckContext<'_>, target: KernelVa) -> bool {
    cx.kernel().space.image.contains(&target.0) && !cx.is_executable(target)
}

/// Where a gate leads; `None` if it is not present.
fn target_of(gate: &[u8]) -> Option<KernelVa> {
    let low = u64_at(gate, 0);
    let high = u64::from(u32_at(gate, 8));
    let target = low & 0xffff | (low >> 48) << 16 | high << 32;
    (low & PRESENT != 0).then_some(KernelVa(target))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Scene, va};
    use super::*;

    const CHECK: Check = Check::InterruptDescriptors;

    /// A gate that leads to an address.
    fn gate(target: u64) -> [u8; GATE_BYTES] {
        let mut gate = [0; GATE_BYTES];
        gate[..2].copy_from_slice(&target.to_le_bytes()[..2]);
        gate[5] = 0x8e;
        gate[6..12].copy_from_slice(&target.to_le_bytes()[2..]);
        gate
    }

    /// A kernel whose table has the same gate for all vectors, twice.
    fn scene() -> (Scene, [u64; 2]) {
        let mut scene = Scene::new();
        let (table, entry) = (scene.variable(4096), scene.function(64));
        scene.kernel.symbols.idt_table = va(table);
        scene.map(MAPPED.0, false);
        for at in [table, MAPPED.0] {
            scene.put_bytes(at, &gate(entry).repeat(GATES));
        }
        (scene, [table, MAPPED.0])
    }

    #[test]
    fn each_gate_leads_into_the_kernels_text() {
        let (mut scene, tables) = scene();
        let outcome = scene.run(step);
        assert!(outcome.holds(CHECK));
        assert_eq!(outcome.facts(CHECK).places, 2 * 256);
        let targets = [
            scene.stray_code(),
            scene.module_data(),
            scene.code_of(Owner::Module(KernelVa(7))),
            scene.code_of(Owner::Bpf),
        ];
        for table in tables {
            for (vector, target) in [0, 14, 128, 255].into_iter().zip(targets) {
                let place = table + 16 * vector;
                let before = [scene.word(place), scene.word(place + 8)];
                scene.put_bytes(place, &gate(target));
                let outcome = scene.run(step);
                assert_eq!(outcome.hooks(CHECK), [(place, target)]);
                assert_eq!(outcome.violations[0].label.as_str(), format!("vector {vector}"));
                // A gate that is not present leads nowhere.
                scene.put_bytes(place + 5, &[0x0e]);
                assert!(scene.run(step).holds(CHECK));
                scene.put(place, before[0]);
                scene.put(place + 8, before[1]);
            }
        }
    }

    #[test]
    fn one_gate_that_both_views_show_is_one_violation() {
        let (mut scene, tables) = scene();
        let stray = scene.stray_code();
        for table in tables {
            scene.put_bytes(table + 16 * 3, &gate(stray));
        }
        assert_eq!(scene.run(step).hooks(CHECK), [(tables[0] + 16 * 3, stray)]);
    }

    #[test]
    fn early_handlers_that_were_freed_are_left() {
        let (mut scene, [table, _]) = scene();
        let freed = scene.variable(4096);
        scene.put_bytes(table, &gate(freed));
        assert!(scene.run(step).holds(CHECK));
        scene.map(freed, true);
        assert_eq!(scene.run(step).hooks(CHECK), [(table, freed)]);
    }

    #[test]
    fn without_a_table_nothing_holds() {
        assert!(Scene::new().run(step).facts(CHECK).not_checked.is_some());
        for index in 0..2 {
            let (mut scene, tables) = scene();
            scene.lose(tables[index]);
            assert_eq!(scene.run(step).facts(CHECK).unread, 1);
        }
    }

    #[test]
    fn the_parts_of_a_gate_make_an_address() {
        let mut gate = [0; GATE_BYTES];
        gate[..2].copy_from_slice(&[0x78, 0x56]);
        gate[2] = 0x10;
        gate[5] = 0x8e;
        gate[6..12].copy_from_slice(&[0x34, 0x82, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(target_of(&gate), Some(KernelVa(0xffff_ffff_8234_5678)));
        gate[5] = 0x0e;
        assert_eq!(target_of(&gate), None);
    }
}
