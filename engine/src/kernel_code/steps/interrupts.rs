//! Interrupts: each gate of the table of interrupt descriptors leads into the kernel's text.
//!
//! The register that holds the table's address is not in memory: another table is not noticed.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::layout::{u32_at, u64_at};

use crate::kernel_code::check::Check;
use crate::kernel_code::context::{CheckContext, Cursor, Progress};
use crate::kernel_code::owners::Owner;
use crate::kernel_code::violations::Violation;

/// Number of gates, and bytes of each (`struct gate_struct`, arch/x86/include/asm/desc_defs.h).
const GATES: usize = 256;
const GATE_BYTES: usize = 16;
/// The bit of a gate that is present.
const PRESENT: u64 = 1 << 47;

/// Checks all gates.
pub(super) fn step(cx: &mut CheckContext<'_>, _: &mut Cursor) -> Progress {
    let check = Check::InterruptDescriptors;
    let Some(table) = cx.kernel().symbols.idt_table else {
        cx.not_checked(check, "the table's address is unknown");
        return Progress::Done;
    };
    let mut targets = [None; GATES];
    let Some(bytes) = cx.read(table, (GATES * GATE_BYTES) as u32) else {
        cx.unread(check);
        return Progress::Done;
    };
    for (target, gate) in targets.iter_mut().zip(bytes.chunks_exact(GATE_BYTES)) {
        *target = target_of(gate);
    }
    for (vector, target) in targets.into_iter().enumerate() {
        let Some(target) = target else { continue };
        cx.checked(check, 1);
        let owner = cx.owner_of(target);
        if owner != Owner::Kernel && !is_left(cx, target) {
            let place = table.plus((vector * GATE_BYTES) as u64);
            let mut violation = Violation { owner, ..Violation::new(check, place, target) };
            violation.set_label(format_args!("vector {vector}"));
            cx.violation(violation);
        }
    }
    Progress::Done
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
    use super::*;

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
