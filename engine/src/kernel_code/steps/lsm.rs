//! Functions of security modules.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::layout::u64_at;

use super::lists::follow_hlist;
use crate::kernel_code::check::Check;
use crate::kernel_code::context::{CheckContext, Cursor, Progress};
use crate::kernel_code::owners::Owner;
use crate::kernel_code::violations::Violation;

/// Maximum number of heads of lists.
const HEADS_MAX: usize = 512;
/// Maximum number of static calls.
const CALLS_MAX: u64 = 8192;

/// Checks the lists of functions, or, since v6.12, the static calls.
pub(super) fn step(cx: &mut CheckContext<'_>, cursor: &mut Cursor) -> Progress {
    let (symbols, layouts) = (&cx.kernel().symbols, &cx.kernel().layouts);
    let lists = symbols.security_hook_heads.zip(layouts.security_hook_heads.as_ref());
    let calls = symbols.static_calls_table.zip(layouts.lsm_static_call.as_ref());
    if let Some((heads, layout)) = lists {
        check_lists(cx, heads, layout.size);
    } else if let Some((table, _)) = calls {
        return check_calls(cx, cursor, table);
    } else {
        cx.not_checked(Check::LsmHooks, "the functions of security modules are unknown");
    }
    Progress::Done
}

fn check_lists(cx: &mut CheckContext<'_>, heads: KernelVa, bytes: u32) {
    let check = Check::LsmHooks;
    let layouts = &cx.kernel().layouts;
    let Some(layout) = &layouts.security_hook_list else { return };
    let Some(list) = layout.list else { return };
    let mut firsts = [0; HEADS_MAX];
    let Some(words) = cx.read(heads, bytes.min(8 * HEADS_MAX as u32)) else {
        cx.unread(check);
        return;
    };
    for (first, word) in firsts.iter_mut().zip(words.chunks_exact(8)) {
        *first = u64_at(word, 0);
    }
    for (index, _) in firsts.iter().enumerate().filter(|(_, first)| **first != 0) {
        let is_whole = follow_hlist(cx, heads.plus(8 * index as u64), &mut |cx, link| {
            check_function(cx, link.minus(list.offset.into()));
        });
        if !is_whole {
            cx.unread(check);
        }
    }
}

/// Checks the static calls of all functions, one after the other. Data without a trampoline follows
/// the last one.
fn check_calls(cx: &mut CheckContext<'_>, cursor: &mut Cursor, table: KernelVa) -> Progress {
    let check = Check::LsmHooks;
    let Some(call) = &cx.kernel().layouts.lsm_static_call else { return Progress::Done };
    while cursor.count < CALLS_MAX {
        if !cx.has_budget() {
            return Progress::More;
        }
        let at = table.plus(cursor.count * u64::from(call.size));
        let Some(view) = cx.structure(at, &call.packing) else {
            cx.unread(check);
            return Progress::Done;
        };
        let (trampoline, function) = (view.pointer(call.trampoline), view.pointer(call.hl));
        if cx.owner_of(trampoline) != Owner::Kernel {
            return Progress::Done;
        }
        if function.is_null() {
            cx.checked(check, 1);
        } else {
            check_function(cx, function);
        }
        cursor.count += 1;
    }
    Progress::Done
}

/// Security modules are part of the kernel's image: their functions are in its text.
fn check_function(cx: &mut CheckContext<'_>, at: KernelVa) {
    let check = Check::LsmHooks;
    let Some(layout) = &cx.kernel().layouts.security_hook_list else { return };
    let Some(hook) = cx.structure(at, &layout.packing).map(|view| view.pointer(layout.hook)) else {
        cx.unread(check);
        return;
    };
    cx.checked(check, 1);
    let owner = cx.owner_of(hook);
    if owner != Owner::Kernel && !hook.is_null() {
        cx.violation(Violation { owner, ..Violation::new(check, at, hook) });
    }
}
