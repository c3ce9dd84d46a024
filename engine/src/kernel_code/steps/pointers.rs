//! Pointers to code in the kernel's own data.
//!
//! The tables of functions that the kernel is linked with are read only, and none of them leads
//! out of the kernel's image: tables of files, of protocols, of system calls. In writable data, a
//! listed module may be called, and nobody else.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::layout::u64_at;
use panoptes_decoders::source::PAGE_BYTES;

use super::module_space::{TRAP, is_in_module_space};
use crate::kernel_code::check::Check;
use crate::kernel_code::context::{CheckContext, Cursor, Progress, READ_BYTES_MAX};
use crate::kernel_code::owners::Owner;
use crate::kernel_code::violations::Violation;

/// Maximum number of pointers of one part that are judged.
const POINTERS_MAX: usize = 256;
/// Constants of a kernel that look like addresses: numbers of model specific registers with their
/// signs extended (arch/x86/include/asm/msr-index.h).
const REGISTERS: [core::ops::Range<u64>; 2] =
    [0xffff_ffff_c000_0080..0xffff_ffff_c000_0400, 0xffff_ffff_c001_0000..0xffff_ffff_c001_1100];

/// Checks read-only data, then writable data.
pub(super) fn step(cx: &mut CheckContext<'_>, cursor: &mut Cursor) -> Progress {
    let kernel = cx.kernel();
    let symbols = &kernel.symbols;
    let parts = [
        (Check::ReadOnlyPointers, symbols.start_rodata.zip(symbols.end_rodata)),
        (Check::WritablePointers, symbols.sdata.zip(symbols.edata)),
    ];
    while let Some(&(check, range)) = parts.get(cursor.part as usize) {
        let Some((start, end)) = range.filter(|(start, end)| is_of_image(cx, *start, *end)) else {
            cx.not_checked(check, "the addresses of the data are unknown");
            (cursor.part, cursor.at) = (cursor.part + 1, 0);
            continue;
        };
        let at = start.plus(cursor.at);
        if at.0 >= end.0 {
            (cursor.part, cursor.at) = (cursor.part + 1, 0);
            continue;
        }
        if !cx.has_budget() {
            return Progress::More;
        }
        let length = (end.0 - at.0).min(READ_BYTES_MAX.into()) as u32;
        check_part(cx, check, at, length);
        cursor.at += u64::from(length);
    }
    Progress::Done
}

fn is_of_image(cx: &CheckContext<'_>, start: KernelVa, end: KernelVa) -> bool {
    let image = &cx.kernel().space.image;
    image.start <= start.0 && start.0 < end.0 && end.0 <= image.end
}

/// Checks the words of one part.
fn check_part(cx: &mut CheckContext<'_>, check: Check, start: KernelVa, length: u32) {
    let kernel = cx.kernel();
    let Some(bytes) = cx.read(start, length) else {
        cx.unread(check);
        return;
    };
    let words = u64::from(length / 8);
    let mut pointers = [(0, 0); POINTERS_MAX];
    let mut count = 0;
    for (index, word) in bytes.chunks_exact(8).enumerate() {
        let word = u64_at(word, 0);
        let is_register = REGISTERS.iter().any(|range| range.contains(&word));
        if is_in_module_space(kernel, word)
            && !is_register
            && let Some(pointer) = pointers.get_mut(count)
        {
            *pointer = (8 * index as u64, word);
            count += 1;
        }
    }
    cx.checked(check, words);
    if count == POINTERS_MAX {
        cx.not_checked(check, "there are too many pointers to modules");
    }
    for &(offset, word) in pointers.iter().take(count) {
        let target = KernelVa(word);
        let owner = cx.owner_of(target);
        let is_hook = match owner {
            Owner::Nobody => cx.is_executable(target) && !has_only_traps(cx, target),
            Owner::Module(_) => check == Check::ReadOnlyPointers,
            _ => false,
        };
        if is_hook {
            let place = start.plus(offset);
            cx.violation(Violation { owner, ..Violation::new(check, place, target) });
        }
    }
}

/// Whether the page with an address has nothing but traps: memory that may be filled with code
/// later (`execmem`), to which some variables of the kernel lead.
pub(super) fn has_only_traps(cx: &mut CheckContext<'_>, address: KernelVa) -> bool {
    let page = KernelVa(address.0 & !(PAGE_BYTES - 1));
    let bytes = cx.read(page, PAGE_BYTES as u32);
    bytes.is_some_and(|bytes| bytes.iter().all(|&byte| byte == TRAP))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Scene, va};
    use super::*;

    const MODULE: Owner = Owner::Module(KernelVa(1));
    /// Bytes of each part: not a multiple of what is read at once.
    const BYTES: u64 = READ_BYTES_MAX as u64 + 4096;
    const CHECKS: [Check; 2] = [Check::ReadOnlyPointers, Check::WritablePointers];

    /// A kernel with read-only data and with writable data, and where both begin.
    fn scene() -> (Scene, [u64; 2]) {
        let mut scene = Scene::new();
        let [read_only, writable] = [0; 2].map(|_| scene.variable(BYTES));
        let symbols = &mut scene.kernel.symbols;
        (symbols.start_rodata, symbols.end_rodata) = (va(read_only), va(read_only + BYTES));
        (symbols.sdata, symbols.edata) = (va(writable), va(writable + BYTES));
        (scene, [read_only, writable])
    }

    #[test]
    fn each_word_is_checked() {
        let (mut scene, starts) = scene();
        let (stray, module, data) =
            (scene.stray_code(), scene.code_of(MODULE), scene.module_data());
        let bpf = scene.code_of(Owner::Bpf);
        for (check, start) in CHECKS.into_iter().zip(starts) {
            for place in [start, start + BYTES - 8] {
                for target in [start, data, bpf, u64::MAX, 0] {
                    scene.put(place, target);
                    let outcome = scene.run(step);
                    assert!(CHECKS.iter().all(|&check| outcome.holds(check)));
                    assert_eq!(outcome.facts(check).places, BYTES / 8);
                }
                scene.put(place, stray);
                assert_eq!(scene.run(step).hooks(check), [(place, stray)]);
                // A table that is linked with the kernel does not lead to a module; variables may.
                scene.put(place, module);
                let outcome = scene.run(step);
                let is_read_only = check == Check::ReadOnlyPointers;
                assert_eq!(outcome.hooks(check).len(), usize::from(is_read_only));
                assert!(outcome.violations.iter().all(|violation| violation.owner == MODULE));
                scene.put(place, 0);
            }
        }
    }

    #[test]
    fn numbers_of_registers_and_memory_without_code_are_no_targets() {
        let (mut scene, [read_only, _]) = scene();
        let page = REGISTERS[1].start;
        scene.map(page, true);
        scene.put(read_only, page + 0x15);
        assert!(scene.run(step).holds(Check::ReadOnlyPointers));
        let traps = scene.stray_code();
        scene.put(read_only, traps + 8);
        assert_eq!(scene.run(step).hooks(Check::ReadOnlyPointers), [(read_only, traps + 8)]);
        scene.put_bytes(traps, &[TRAP; PAGE_BYTES as usize]);
        assert!(scene.run(step).holds(Check::ReadOnlyPointers));
    }

    #[test]
    fn data_that_is_not_looked_at_does_not_hold() {
        let (mut scene, [read_only, writable]) = scene();
        scene.lose(read_only + READ_BYTES_MAX as u64);
        let outcome = scene.run(step);
        assert_eq!(outcome.facts(Check::ReadOnlyPointers).unread, 1);
        assert!(outcome.holds(Check::WritablePointers));
        scene.kernel.symbols.end_rodata = None;
        scene.kernel.symbols.edata = va(scene.kernel.space.image.end + 8);
        let outcome = scene.run(step);
        assert!(CHECKS.iter().all(|&check| outcome.facts(check).not_checked.is_some()));
        scene.kernel.symbols.edata = va(writable + BYTES);
        let data = scene.module_data();
        for index in 0..POINTERS_MAX as u64 {
            scene.put(writable + 8 * index, data);
        }
        assert!(scene.run(step).facts(Check::WritablePointers).not_checked.is_some());
    }
}
