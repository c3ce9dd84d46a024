//! Functions that ftrace calls at the start of others.
//!
//! The kernel's own functions serve kprobes, BPF and the tracers; livepatch has one for all
//! patches. So another one belongs to a module, or to nobody.

use panoptes_decoders::address::KernelVa;

use super::lists::{OBJECTS_MAX, follow_hlist};
use crate::kernel_code::check::Check;
use crate::kernel_code::context::{CheckContext, Cursor, Progress};
use crate::kernel_code::owners::Owner;

/// Maximum number of functions that are named of one `struct ftrace_ops`.
const FUNCTIONS_MAX: usize = 64;
/// Greatest number of buckets of a hash, as a power of two (`FTRACE_HASH_MAX_BITS`).
const HASH_BITS_MAX: u64 = 12;

/// Checks the function of each `struct ftrace_ops`.
pub(super) fn step(cx: &mut CheckContext<'_>, _: &mut Cursor) -> Progress {
    let check = Check::FtraceHandlers;
    let kernel = cx.kernel();
    let (Some(list), Some(layout)) = (kernel.symbols.ftrace_ops_list, &kernel.layouts.ftrace_ops)
    else {
        cx.not_checked(check, "the kernel has no list of ftrace, or its address is unknown");
        return Progress::Done;
    };
    let end = kernel.symbols.ftrace_list_end.unwrap_or_default();
    let Some(first) = cx.word(list) else {
        cx.unread(check);
        return Progress::Done;
    };
    // An empty list is checked, too.
    cx.checked(check, 1);
    let mut ops = KernelVa(first);
    for _ in 0..OBJECTS_MAX {
        if ops == end || ops.is_null() {
            return Progress::Done;
        }
        let Some(view) = cx.structure(ops, &layout.packing) else { break };
        let (func, next) = (view.pointer(layout.func), view.pointer(layout.next));
        let hash = layout.func_hash.map(|field| view.pointer(field));
        check_ops(cx, ops, func, hash);
        ops = next;
    }
    if ops != end {
        cx.unread(check);
    }
    Progress::Done
}

/// Checks one function, and names what it is called for if it is not the kernel's.
fn check_ops(cx: &mut CheckContext<'_>, ops: KernelVa, func: KernelVa, hash: Option<KernelVa>) {
    let check = Check::FtraceHandlers;
    if !matches!(cx.owner_of(func), Owner::Nobody | Owner::Module(_)) {
        cx.checked(check, 1);
        return;
    }
    let mut named = 0;
    if let Some(hash) = hash {
        let is_whole = follow_hash(cx, hash, &mut |cx, ip| {
            if named < FUNCTIONS_MAX {
                cx.hook(check, (ip, "ftrace"), ip, func);
            }
            named += 1;
        });
        if is_whole.is_none() {
            cx.unread(check);
        }
    }
    // Without a filter it is called for every function.
    if named == 0 {
        cx.hook(check, (ops, "ftrace, all functions"), KernelVa::NULL, func);
    }
}

/// Calls `visit` with each patched place in the filter of a `struct ftrace_ops_hash`.
fn follow_hash(
    cx: &mut CheckContext<'_>,
    hash: KernelVa,
    visit: &mut dyn FnMut(&mut CheckContext<'_>, KernelVa),
) -> Option<()> {
    let layouts = &cx.kernel().layouts;
    let (of_ops, of_hash) = (layouts.ftrace_ops_hash.as_ref()?, layouts.ftrace_hash.as_ref()?);
    let entry = layouts.ftrace_func_entry.as_ref()?;
    let filter = cx.structure(hash, &of_ops.packing)?.pointer(of_ops.filter_hash);
    if filter.is_null() {
        return Some(());
    }
    let view = cx.structure(filter, &of_hash.packing)?;
    let (bits, buckets) = (view.unsigned(of_hash.size_bits), view.pointer(of_hash.buckets));
    let count = view.unsigned(of_hash.count);
    if count == 0 {
        return Some(());
    }
    for bucket in 0..1_u64 << bits.min(HASH_BITS_MAX) {
        let head = buckets.plus(8 * bucket);
        let is_whole = follow_hlist(cx, head, &mut |cx, link| {
            let at = link.minus(entry.hlist.offset.into());
            if let Some(view) = cx.structure(at, &entry.packing) {
                let ip = view.pointer(entry.ip);
                visit(cx, ip);
            }
        });
        if !is_whole {
            return None;
        }
    }
    Some(())
}
