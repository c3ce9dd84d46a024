//! Ways of system calls: the tables of their functions, and the functions that dispatch them.
//!
//! Since the repairs of branch history injection (v6.9, and stable releases of then), the kernel of
//! x86-64 does not read its table: a function calls each system call. So the calls in its code are
//! checked, too.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::layout::u64_at;

use super::module_space::{is_in_module_space, is_present};
use crate::kernel_code::check::Check;
use crate::kernel_code::context::{CheckContext, Cursor, Progress, set_text};
use crate::kernel_code::owners::Owner;
use crate::kernel_code::violations::Violation;

/// Least and greatest number of entries of a table (arch/x86/entry/syscalls/syscall_64.tbl has 335
/// in 5.10, with those of x32 547).
const CALLS_MIN: usize = 300;
const CALLS_MAX: usize = 1024;
/// Bytes of code that are searched for calls, of each function: `x64_sys_call` has 16 KiB.
const FUNCTION_BYTES: u32 = 32 << 10;
/// Bytes of the other functions.
const SMALL_FUNCTION_BYTES: u32 = 256;

/// Checks the tables, then the functions.
pub(super) fn step(cx: &mut CheckContext<'_>, _: &mut Cursor) -> Progress {
    let symbols = &cx.kernel().symbols;
    let tables = [
        ("sys_call_table", symbols.sys_call_table),
        ("ia32_sys_call_table", symbols.ia32_sys_call_table),
        ("x32_sys_call_table", symbols.x32_sys_call_table),
    ];
    for (name, table) in tables {
        if let Some(table) = table {
            check_table(cx, table, name);
        }
    }
    let functions = [
        ("x64_sys_call", symbols.x64_sys_call, FUNCTION_BYTES),
        ("x32_sys_call", symbols.x32_sys_call, FUNCTION_BYTES),
        ("ia32_sys_call", symbols.ia32_sys_call, FUNCTION_BYTES),
        ("do_syscall_64", symbols.do_syscall_64, SMALL_FUNCTION_BYTES),
        ("entry_SYSCALL_64", symbols.entry_syscall_64, SMALL_FUNCTION_BYTES),
    ];
    for (name, function, bytes) in functions {
        if let Some(function) = function {
            check_calls(cx, function, (name, bytes));
        }
    }
    Progress::Done
}

/// Each entry leads into the kernel's own text. The first word that is no address of the kernel's
/// image or of a module ends the table.
fn check_table(cx: &mut CheckContext<'_>, table: KernelVa, name: &str) {
    let mut calls = [0; CALLS_MAX];
    let Some(bytes) = cx.read(table, 8 * CALLS_MAX as u32) else {
        cx.unread(Check::SystemCallTables);
        return;
    };
    calls.iter_mut().enumerate().for_each(|(index, call)| *call = u64_at(bytes, 8 * index));
    for (number, &call) in calls.iter().enumerate() {
        let target = KernelVa(call);
        let owner = cx.owner_of(target);
        if owner == Owner::Kernel {
            cx.checked(Check::SystemCallTables, 1);
            continue;
        }
        // Data may follow the last entry.
        if number >= CALLS_MIN || !is_in_module_space(cx.kernel(), call) {
            if number < CALLS_MIN && call != 0 {
                report(cx, Check::SystemCallTables, (table, number), (target, name));
                continue;
            }
            break;
        }
        report(cx, Check::SystemCallTables, (table, number), (target, name));
    }
}

/// Notes an entry of a table that leads elsewhere.
fn report(
    cx: &mut CheckContext<'_>,
    check: Check,
    (table, number): (KernelVa, usize),
    (target, name): (KernelVa, &str),
) {
    cx.checked(check, 1);
    let owner = cx.owner_of(target);
    let place = table.plus(8 * number as u64);
    let mut violation = Violation { owner, ..Violation::new(check, place, target) };
    set_text(&mut violation.label, name);
    cx.violation(violation);
}

/// No call or jump of a function leads into the space of modules. A pattern of bytes that is no
/// instruction leads there only by chance, and then hardly to a page that exists.
fn check_calls(cx: &mut CheckContext<'_>, function: KernelVa, (name, length): (&str, u32)) {
    let text_end = cx.kernel().text().end;
    let length = text_end.saturating_sub(function.0).min(length.into()) as u32;
    let mut at = 0;
    // Parts overlap by an instruction.
    const PART: u32 = 4096;
    let mut part = [0; PART as usize + 4];
    while at < length {
        let bytes = (length - at).min(PART + 4);
        let Some(code) = cx.read(function.plus(at.into()), bytes) else {
            cx.unread(Check::SystemCallDispatch);
            return;
        };
        let code_length = code.len().min(part.len());
        let Some(copy) = part.get_mut(..code_length) else { return };
        copy.copy_from_slice(&code[..code_length]);
        let code = &part[..code_length];
        for (index, window) in code.windows(5).enumerate() {
            let place = function.plus(u64::from(at) + index as u64);
            if let Some(target) = branch_target(place, window) {
                check_branch(cx, (place, name), target);
            }
        }
        at += PART;
    }
}

/// The target of a call or jump with an offset of 32 bits.
fn branch_target(place: KernelVa, code: &[u8]) -> Option<KernelVa> {
    let (&opcode, offset) = code.split_first()?;
    let offset = i32::from_le_bytes(offset.first_chunk().copied()?);
    matches!(opcode, 0xe8 | 0xe9).then(|| place.plus(5).plus(i64::from(offset) as u64))
}

fn check_branch(cx: &mut CheckContext<'_>, (place, name): (KernelVa, &str), target: KernelVa) {
    let owner = cx.owner_of(target);
    if owner == Owner::Kernel {
        cx.checked(Check::SystemCallDispatch, 1);
        return;
    }
    if !is_in_module_space(cx.kernel(), target.0) || !is_present(cx, target) {
        return;
    }
    // Tracing calls trampolines from the start of a function.
    if matches!(owner, Owner::Trampoline | Owner::Bpf) {
        cx.checked(Check::SystemCallDispatch, 1);
        return;
    }
    cx.checked(Check::SystemCallDispatch, 1);
    let check = Check::SystemCallDispatch;
    let mut violation = Violation { owner, ..Violation::new(check, place, target) };
    set_text(&mut violation.label, name);
    cx.violation(violation);
}
