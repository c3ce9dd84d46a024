//! Ways of system calls: the tables of their functions, and the functions that dispatch them.
//!
//! Since the repairs of branch history injection (v6.9, and stable releases of then), the kernel of
//! x86-64 does not read its table: a function calls each system call. So the calls in its code are
//! checked, too.

use arrayvec::ArrayVec;
use panoptes_decoders::address::KernelVa;
use panoptes_decoders::layout::u64_at;

use super::module_space::is_in_module_space;
use crate::kernel_code::check::Check;
use crate::kernel_code::context::{CheckContext, Cursor, Progress, set_text};
use crate::kernel_code::owners::Owner;
use crate::kernel_code::violations::Violation;

/// Least and greatest number of entries of a table (arch/x86/entry/syscalls/syscall_64.tbl has 335
/// in 5.10, with those of x32 547).
const CALLS_MIN: usize = 300;
const CALLS_MAX: usize = 1024;
/// Bytes of a function that are searched for calls: `x64_sys_call` has 16 KiB.
const FUNCTION_BYTES: u64 = 32 << 10;
/// Bytes of code that are read at once, and those of the longest branch.
const PART_BYTES: usize = 4096;
const BRANCH_BYTES: usize = 6;

/// The functions of a table, sorted, each with whether a call of it was seen.
type Functions = ArrayVec<(u64, bool), CALLS_MAX>;

/// Checks the tables, then the functions that dispatch.
pub(super) fn step(cx: &mut CheckContext<'_>, _: &mut Cursor) -> Progress {
    let symbols = &cx.kernel().symbols;
    let dispatchers = [symbols.x64_sys_call, symbols.ia32_sys_call];
    let tables = [
        ("sys_call_table", symbols.sys_call_table, Some(("x64_sys_call", symbols.x64_sys_call))),
        (
            "ia32_sys_call_table",
            symbols.ia32_sys_call_table,
            Some(("ia32_sys_call", symbols.ia32_sys_call)),
        ),
        ("x32_sys_call_table", symbols.x32_sys_call_table, None),
    ];
    for (name, table, dispatcher) in tables {
        let Some(table) = table else { continue };
        let mut functions = Functions::new();
        check_table(cx, table, name, &mut functions);
        if let Some((name, Some(dispatcher))) = dispatcher {
            check_calls(cx, (dispatcher, name), &mut functions);
        }
    }
    if dispatchers == [None; 2] {
        let why = "this kernel calls what its table has: see system_call_tables";
        cx.not_checked(Check::SystemCallDispatch, why);
    }
    Progress::Done
}

/// Each entry leads into the kernel's own text. The first word that is no address of the kernel's
/// image or of a module ends the table.
fn check_table(cx: &mut CheckContext<'_>, table: KernelVa, name: &str, functions: &mut Functions) {
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
            let _ = functions.try_push((call, false));
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

/// The function that dispatches calls every function of its table. If a call of one is gone, it leads
/// elsewhere. Where it leads is named if that is outside of the kernel.
fn check_calls(
    cx: &mut CheckContext<'_>,
    (dispatcher, name): (KernelVa, &str),
    functions: &mut Functions,
) {
    let check = Check::SystemCallDispatch;
    functions.sort_unstable();
    let end = end_of(cx, dispatcher);
    let mut elsewhere = None;
    let mut at = dispatcher.0;
    while at < end {
        let mut code = [0; PART_BYTES + BRANCH_BYTES];
        let length = (end - at).min(code.len() as u64) as usize;
        let Some((bytes, copy)) = cx.read(KernelVa(at), length as u32).zip(code.get_mut(..length))
        else {
            cx.unread(check);
            return;
        };
        copy.copy_from_slice(bytes);
        for (index, window) in code.windows(BRANCH_BYTES).enumerate().take(length) {
            let place = KernelVa(at + index as u64);
            let Some(target) = branch_target(place, window) else { continue };
            let first = functions.partition_point(|&(function, _)| function < target.0);
            let same = functions.get_mut(first..).unwrap_or(&mut []);
            same.iter_mut().take_while(|it| it.0 == target.0).for_each(|it| it.1 = true);
            if elsewhere.is_none() && is_in_module_space(cx.kernel(), target.0) {
                elsewhere = Some((place, target)).filter(|_| cx.is_executable(target));
            }
        }
        at += PART_BYTES as u64;
    }
    for &(function, is_called) in functions.iter() {
        cx.checked(check, 1);
        if !is_called {
            let (place, target) = elsewhere.unwrap_or((dispatcher, KernelVa::NULL));
            let owner = cx.owner_of(target);
            let function = KernelVa(function);
            let violation = Violation::new(check, place, target);
            let mut violation = Violation { owner, function, ..violation };
            set_text(&mut violation.label, name);
            cx.violation(violation);
        }
    }
}

/// The end of a function, as far as it is known: the next one that dispatches, or its most bytes.
fn end_of(cx: &CheckContext<'_>, function: KernelVa) -> u64 {
    let symbols = &cx.kernel().symbols;
    let others =
        [symbols.x64_sys_call, symbols.x32_sys_call, symbols.ia32_sys_call, symbols.do_syscall_64];
    let behind = others.into_iter().flatten().filter(|other| *other > function);
    let most = cx.kernel().text().end.min(function.0.saturating_add(FUNCTION_BYTES));
    behind.map(|other| other.0).chain([most]).min().unwrap_or(most)
}

/// The target of a call or jump with an offset of 32 bits.
fn branch_target(place: KernelVa, code: &[u8]) -> Option<KernelVa> {
    let (length, offset) = match code {
        [0xe8 | 0xe9, offset @ ..] => (5, offset),
        [0x0f, 0x80..=0x8f, offset @ ..] => (6, offset),
        _ => return None,
    };
    let offset = i32::from_le_bytes(offset.first_chunk().copied()?);
    Some(place.plus(length).plus(i64::from(offset).cast_unsigned()))
}
