//! Ways of system calls: the tables of their functions, and the functions that dispatch them.
//!
//! Since the repairs of branch history injection (v6.9, and stable releases of then), the kernel of
//! x86-64 does not read its table: a function calls each system call. So the branches in the code
//! of that function, and of those that lead to it, are checked, too.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::layout::u64_at;
use panoptes_decoders::paging::PageTableLevels;
use panoptes_decoders::x86_code::{Flow, INSTRUCTION_BYTES_MAX, decode};

use super::module_space::is_in_module_space;
use crate::kernel_code::check::Check;
use crate::kernel_code::context::{CheckContext, Cursor, Progress, set_text};
use crate::kernel_code::owners::Owner;
use crate::kernel_code::violations::Violation;

/// Least and greatest number of entries of a table (arch/x86/entry/syscalls/syscall_64.tbl has 335
/// in 5.10, with those of x32 547).
const CALLS_MIN: usize = 300;
const CALLS_MAX: usize = 1024;
/// Maximum number of bytes of a function: `x64_sys_call` has 16 KiB.
const FUNCTION_BYTES: u64 = 32 << 10;
/// Bytes of a function that are read at once.
const PART_BYTES: usize = 4096;

/// Checks the tables, then the functions.
pub(super) fn step(cx: &mut CheckContext<'_>, _: &mut Cursor) -> Progress {
    let symbols = &cx.kernel().symbols;
    let tables = [
        ("sys_call_table", symbols.sys_call_table),
        ("ia32_sys_call_table", symbols.ia32_sys_call_table),
        ("x32_sys_call_table", symbols.x32_sys_call_table),
    ];
    if cx.kernel().text().is_empty() || symbols.sys_call_table.is_none() {
        cx.not_checked(Check::SystemCallTables, "the address of the table is unknown");
    } else {
        for (name, table) in tables {
            if let Some(table) = table {
                check_table(cx, table, name);
            }
        }
    }
    check_functions(cx);
    Progress::Done
}

/// Each entry leads into the kernel's own text. Behind the least number of entries, the first word
/// that leads to no code ends the table: data may follow it.
fn check_table(cx: &mut CheckContext<'_>, table: KernelVa, name: &str) {
    let check = Check::SystemCallTables;
    let mut calls = [0; CALLS_MAX];
    let Some(bytes) = cx.read(table, 8 * CALLS_MAX as u32) else {
        cx.unread(check);
        return;
    };
    calls.iter_mut().enumerate().for_each(|(index, call)| *call = u64_at(bytes, 8 * index));
    // On arm64, any large number may be such an address.
    let is_x86 = matches!(cx.kernel().space.levels, PageTableLevels::X86_64(_));
    for (number, &call) in calls.iter().enumerate() {
        let target = KernelVa(call);
        let owner = cx.owner_of(target);
        let is_entry = owner == Owner::Kernel
            || number < CALLS_MIN
            || is_x86 && is_in_module_space(cx.kernel(), call)
            || cx.is_executable(target);
        if !is_entry {
            break;
        }
        cx.checked(check, 1);
        if owner != Owner::Kernel {
            report(cx, check, (table.plus(8 * number as u64), name), target);
        }
    }
}

/// Notes a place that leads elsewhere.
fn report(
    cx: &mut CheckContext<'_>,
    check: Check,
    (place, label): (KernelVa, &str),
    target: KernelVa,
) {
    let owner = cx.owner_of(target);
    let mut violation = Violation { owner, ..Violation::new(check, place, target) };
    set_text(&mut violation.label, label);
    cx.violation(violation);
}

/// Checks the functions that dispatch system calls.
fn check_functions(cx: &mut CheckContext<'_>) {
    let check = Check::SystemCallDispatch;
    let symbols = &cx.kernel().symbols;
    let functions = [
        ("x64_sys_call", symbols.x64_sys_call),
        ("x32_sys_call", symbols.x32_sys_call),
        ("ia32_sys_call", symbols.ia32_sys_call),
        ("do_syscall_64", symbols.do_syscall_64),
        ("do_fast_syscall_32", symbols.do_fast_syscall_32),
        ("do_int80_emulation", symbols.do_int80_emulation),
        ("do_int80_syscall_32", symbols.do_int80_syscall_32),
        ("entry_SYSCALL_64", symbols.entry_syscall_64),
        ("entry_SYSCALL_compat", symbols.entry_syscall_compat),
        ("entry_SYSENTER_compat", symbols.entry_sysenter_compat),
        ("entry_INT80_compat", symbols.entry_int80_compat),
    ];
    if !matches!(cx.kernel().space.levels, PageTableLevels::X86_64(_)) {
        cx.not_checked(check, "code is checked on x86-64 only");
        return;
    }
    if symbols.do_syscall_64.is_none() || symbols.entry_syscall_64.is_none() {
        cx.not_checked(check, "the addresses of the functions are unknown");
    }
    for (name, function) in functions {
        if let Some(function) = function {
            check_function(cx, function, name);
        }
    }
}

/// Checks the branches of a function, from its start to its end: an instruction that never leads to
/// the next one, and that no jump of the function passes over.
fn check_function(cx: &mut CheckContext<'_>, function: KernelVa, name: &str) {
    let text = cx.kernel().text();
    let limit = text.end.min(function.0.saturating_add(FUNCTION_BYTES));
    let mut part = [0; PART_BYTES + INSTRUCTION_BYTES_MAX];
    let (mut at, mut furthest) = (function, function);
    while at.0 < limit {
        let length = (text.end.saturating_sub(at.0)).min(part.len() as u64) as usize;
        let bytes = cx.read(at, length as u32);
        let Some((code, bytes)) = part.get_mut(..length).zip(bytes) else {
            cx.unread(Check::SystemCallDispatch);
            return;
        };
        code.copy_from_slice(bytes);
        let mut index = 0;
        while index < length.min(PART_BYTES) {
            let place = at.plus(index as u64);
            let Some(it) = decode(code.get(index..).unwrap_or(&[]), place) else {
                // The rest of an instruction whose start a probe has replaced.
                index += 1;
                continue;
            };
            index += it.length;
            check_flow(cx, (place, name), it.flow);
            let next = at.plus(index as u64);
            match it.flow {
                Flow::Conditional(to) | Flow::Jump(to) if to.0 >= next.0 && to.0 < limit => {
                    furthest = furthest.max(to);
                }
                Flow::End | Flow::Jump(_) if next > furthest => return,
                _ => (),
            }
        }
        at = at.plus(index as u64);
    }
}

/// A branch leads into the kernel's text, to a trampoline of ftrace or to a slot of a kprobe.
fn check_flow(cx: &mut CheckContext<'_>, (place, name): (KernelVa, &str), flow: Flow) {
    let check = Check::SystemCallDispatch;
    let target = match flow {
        Flow::Call(target) | Flow::Jump(target) | Flow::Conditional(target) => target,
        Flow::Through(slot) => match cx.word(slot) {
            Some(target) => KernelVa(target),
            None => return cx.unread(check),
        },
        // A constant may be any number.
        Flow::Address(number) if cx.is_executable(number) => number,
        Flow::Address(_) | Flow::Next | Flow::End => return,
    };
    cx.checked(check, 1);
    match cx.owner_of(target) {
        Owner::Module(_) => report(cx, check, (place, name), target),
        Owner::Nobody if cx.is_executable(target) => report(cx, check, (place, name), target),
        _ => (),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Scene, va};
    use super::*;

    const MODULE: Owner = Owner::Module(KernelVa(7));

    /// A table with so many entries, and another function of the kernel.
    fn table(count: u64) -> (Scene, u64) {
        let mut scene = Scene::new();
        let (table, call) = (scene.variable(16 << 10), scene.function(64));
        scene.kernel.symbols.sys_call_table = va(table);
        (0..count).for_each(|number| scene.put(table + 8 * number, call));
        (scene, table)
    }

    fn calls(scene: &mut Scene) -> Vec<(u64, u64)> {
        scene.run(step).hooks(Check::SystemCallTables)
    }

    #[test]
    fn each_entry_of_a_table_leads_into_the_kernels_text() {
        let (mut scene, table) = table(400);
        let outcome = scene.run(step);
        assert!(outcome.holds(Check::SystemCallTables));
        assert_eq!(outcome.facts(Check::SystemCallTables).places, 400);
        let (stray, data) = (scene.stray_code(), scene.structure());
        let module = scene.code_of(MODULE);
        for (number, target) in [(0, stray), (62, module), (100, 0), (299, data), (399, stray)] {
            let (place, before) = (table + 8 * number, scene.word(table + 8));
            scene.put(place, target);
            assert_eq!(calls(&mut scene), [(place, target)], "{number}");
            scene.put(place, before);
        }
    }

    #[test]
    fn code_outside_of_the_space_of_modules_is_no_end_of_a_table() {
        let (mut scene, table) = table(400);
        let far = 0xffff_c900_0000_0000;
        scene.map(far, true);
        scene.put(table + 8 * 350, far);
        assert_eq!(calls(&mut scene), [(table + 8 * 350, far)]);
    }

    #[test]
    fn data_behind_a_table_is_no_entry() {
        let (mut scene, table) = table(400);
        let data = scene.structure();
        scene.put(table + 8 * 400, data);
        assert_eq!(scene.run(step).facts(Check::SystemCallTables).places, 400);
    }

    #[test]
    fn tables_of_other_programs_are_checked() {
        for (ia32, x32) in [(true, false), (false, true)] {
            let (mut scene, table) = table(400);
            let symbols = &mut scene.kernel.symbols;
            symbols.ia32_sys_call_table = if ia32 { va(table) } else { None };
            symbols.x32_sys_call_table = if x32 { va(table) } else { None };
            assert_eq!(scene.run(step).facts(Check::SystemCallTables).places, 800);
        }
    }

    #[test]
    fn without_a_table_nothing_holds() {
        let outcome = Scene::new().run(step);
        for check in [Check::SystemCallTables, Check::SystemCallDispatch] {
            assert!(outcome.facts(check).not_checked.is_some());
        }
        let (mut scene, table) = table(400);
        scene.lose(table);
        assert_eq!(scene.run(step).facts(Check::SystemCallTables).unread, 1);
    }

    /// A function with this code, and the rest of its bytes.
    fn function(code: &[u8]) -> (Scene, u64) {
        let mut scene = Scene::new();
        let (function, other) = (scene.function(8192), scene.function(64));
        scene.put_bytes(function, code);
        scene.put_bytes(other, &[0xc3]);
        scene.kernel.symbols.do_syscall_64 = va(other);
        scene.kernel.symbols.entry_syscall_64 = va(other);
        scene.kernel.symbols.x64_sys_call = va(function);
        (scene, function)
    }

    /// A branch with these first bytes, at an address, to another one.
    fn branch(first: &[u8], at: u64, to: u64) -> Vec<u8> {
        let offset = to.wrapping_sub(at + first.len() as u64 + 4) as u32;
        [first, &offset.to_le_bytes()].concat()
    }

    fn branches(scene: &mut Scene) -> Vec<(u64, u64)> {
        scene.run(step).hooks(Check::SystemCallDispatch)
    }

    #[test]
    fn each_branch_leads_into_the_kernels_text() {
        for first in [&[0xe8][..], &[0xe9], &[0x0f, 0x84], &[0x2e, 0xe8]] {
            let (mut scene, at) = function(&[]);
            scene.put_bytes(at, &branch(first, at, at + 100));
            assert!(scene.run(step).holds(Check::SystemCallDispatch), "{first:02x?}");
            for target in [scene.stray_code(), scene.code_of(MODULE)] {
                scene.put_bytes(at, &branch(first, at, target));
                assert_eq!(branches(&mut scene), [(at, target)], "{first:02x?}");
            }
            for owner in [Owner::Trampoline, Owner::Bpf, Owner::System] {
                let target = scene.code_of(owner);
                scene.put_bytes(at, &branch(first, at, target));
                assert!(branches(&mut scene).is_empty());
            }
            let target = scene.module_data();
            scene.put_bytes(at, &branch(first, at, target));
            assert!(branches(&mut scene).is_empty());
        }
    }

    #[test]
    fn branches_by_memory_and_by_constants_are_followed() {
        let (mut scene, at) = function(&[]);
        let (slot, stray) = (scene.variable(8), scene.stray_code());
        scene.put(slot, stray);
        scene.put_bytes(at, &branch(&[0xff, 0x25], at, slot));
        assert_eq!(branches(&mut scene), [(at, stray)]);
        scene.put(slot, at);
        assert!(branches(&mut scene).is_empty());
        let far = 0xffff_c900_0000_0000_u64;
        scene.map(far, true);
        scene.put_bytes(at, &[&[0x48, 0xb8][..], &far.to_le_bytes(), &[0xff, 0xe0]].concat());
        assert_eq!(branches(&mut scene), [(at, far)]);
    }

    #[test]
    fn bytes_within_an_instruction_are_no_branch() {
        let (mut scene, at) = function(&[]);
        let stray = scene.stray_code();
        // movabs, whose constant has the bytes of a call.
        let call = branch(&[0xe8], at + 2, stray);
        scene.put_bytes(at, &[&[0x48, 0xb8][..], &call, &[0, 0, 0, 0xc3]].concat());
        assert!(branches(&mut scene).is_empty());
        scene.put_bytes(at, &[&[0x90, 0x90][..], &call, &[0, 0, 0, 0xc3]].concat());
        assert_eq!(branches(&mut scene), [(at + 2, stray)]);
    }

    #[test]
    fn a_function_ends_where_no_jump_passes_over() {
        let (mut scene, at) = function(&[0xc3]);
        let stray = scene.stray_code();
        // Zeros between are instructions of two bytes.
        let place = at + 5007;
        scene.put_bytes(place, &branch(&[0xe8], place, stray));
        assert!(branches(&mut scene).is_empty());
        let mut code = branch(&[0x0f, 0x84], at, place);
        code.push(0xc3);
        scene.put_bytes(at, &code);
        assert_eq!(branches(&mut scene), [(place, stray)]);
    }

    #[test]
    fn a_probe_at_the_start_of_an_instruction_hides_nothing_behind_it() {
        let (mut scene, at) = function(&[0xcc, 0x1f, 0x44, 0, 0]);
        let stray = scene.stray_code();
        scene.put_bytes(at + 5, &branch(&[0xe8], at + 5, stray));
        assert_eq!(branches(&mut scene), [(at + 5, stray)]);
    }
}
