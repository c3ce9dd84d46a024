//! Hashes of functions that ftrace calls others for.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::layout::u64_at;

use super::lists::{OBJECTS_MAX, follow_hlist};
use crate::kernel_code::check::Check;
use crate::kernel_code::context::CheckContext;
use crate::kernel_code::owners::Owner;

/// Maximum number of functions that are named of one `struct ftrace_ops`.
pub(super) const FUNCTIONS_MAX: usize = 64;
/// Greatest number of buckets of a hash, as a power of two (`FTRACE_HASH_MAX_BITS`).
const HASH_BITS_MAX: u64 = 12;
/// Number of heads of buckets that are read at once.
const HEADS: usize = 512;
/// Why not all of a list or hash was checked.
pub(super) const TOO_MANY: &str = "a list of ftrace is too long, or changed while it was read";

/// Checks a function that a `struct ftrace_ops_hash` leads to, and names what it is called for if
/// it is not the kernel's.
pub(super) fn check_functions(
    cx: &mut CheckContext<'_>,
    (object, label): (KernelVa, &str),
    hash: Option<KernelVa>,
    func: KernelVa,
) {
    let check = Check::FtraceHandlers;
    if func.is_null() || !matches!(cx.owner_of(func), Owner::Nobody | Owner::Module(_)) {
        cx.checked(check, 1);
        return;
    }
    let mut named = 0;
    if let Some(filter) = hash.and_then(|hash| filter_of(cx, hash)) {
        let is_whole = follow_hash(cx, filter, &mut |cx, ip, _| {
            if named < FUNCTIONS_MAX {
                cx.hook(check, (ip, label), ip, func);
            }
            named += 1;
        });
        if !is_whole {
            cx.unread(check);
        }
    }
    // Without a filter it is called for every function.
    if named == 0 {
        cx.hook(check, (object, label), KernelVa::NULL, func);
    }
}

/// The filter of a `struct ftrace_ops_hash`; `None` if there is none.
fn filter_of(cx: &mut CheckContext<'_>, hash: KernelVa) -> Option<KernelVa> {
    let layout = cx.kernel().layouts.ftrace_ops_hash.as_ref()?;
    let view = cx.structure(hash, &layout.packing)?;
    let filter = view.pointer(layout.filter_hash);
    (!filter.is_null()).then_some(filter)
}

/// Calls `visit` with each patched place of a `struct ftrace_hash`, and where that leads directly.
/// Returns whether all could be read.
pub(super) fn follow_hash(
    cx: &mut CheckContext<'_>,
    hash: KernelVa,
    visit: &mut dyn FnMut(&mut CheckContext<'_>, KernelVa, KernelVa),
) -> bool {
    let layouts = &cx.kernel().layouts;
    let (Some(layout), Some(entry)) = (&layouts.ftrace_hash, &layouts.ftrace_func_entry) else {
        return false;
    };
    let Some(view) = cx.structure(hash, &layout.packing) else { return false };
    let (bits, buckets) = (view.unsigned(layout.size_bits), view.pointer(layout.buckets));
    if view.unsigned(layout.count) == 0 {
        return true;
    }
    if bits > HASH_BITS_MAX {
        return false;
    }
    let (count, mut visited) = (1_u64 << bits, 0);
    let mut firsts = [0; HEADS];
    for bucket in 0..count {
        let head = buckets.plus(8 * bucket);
        let index = bucket as usize % HEADS;
        if index == 0 {
            let heads = (count - bucket).min(HEADS as u64) as u32;
            let Some(bytes) = cx.read(head, 8 * heads) else { return false };
            let words = firsts.iter_mut().zip(bytes.chunks_exact(8));
            words.for_each(|(first, word)| *first = u64_at(word, 0));
        }
        if firsts.get(index).is_none_or(|&first| first == 0) {
            continue;
        }
        let mut is_read = true;
        let is_whole = follow_hlist(cx, head, &mut |cx, link| {
            visited += 1;
            let at = link.minus(entry.hlist.offset.into());
            match cx.structure(at, &entry.packing) {
                Some(view) => {
                    let direct = entry.direct.map(|field| view.pointer(field));
                    let ip = view.pointer(entry.ip);
                    visit(cx, ip, direct.unwrap_or_default());
                }
                None => is_read = false,
            }
        });
        if !is_whole || !is_read || visited > OBJECTS_MAX {
            return false;
        }
    }
    true
}
