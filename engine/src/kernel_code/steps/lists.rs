//! Lists of the kernel, followed one link at a time, with a bound.

use panoptes_decoders::address::KernelVa;

use crate::kernel_code::context::CheckContext;

/// Maximum number of objects in a list.
pub(super) const OBJECTS_MAX: usize = 4096;

/// Calls `visit` with each link of a `struct list_head`, without the head. Returns whether the list
/// was followed to its end.
pub(super) fn follow_list(
    cx: &mut CheckContext<'_>,
    head: KernelVa,
    visit: &mut dyn FnMut(&mut CheckContext<'_>, KernelVa),
) -> bool {
    let Some(first) = cx.word(head) else { return false };
    follow(cx, KernelVa(first), head, visit)
}

/// The same for a `struct hlist_head`, whose last link is null.
pub(super) fn follow_hlist(
    cx: &mut CheckContext<'_>,
    head: KernelVa,
    visit: &mut dyn FnMut(&mut CheckContext<'_>, KernelVa),
) -> bool {
    let Some(first) = cx.word(head) else { return false };
    follow(cx, KernelVa(first), KernelVa::NULL, visit)
}

/// Follows links from the first one to the end, which is no link of an object.
fn follow(
    cx: &mut CheckContext<'_>,
    first: KernelVa,
    end: KernelVa,
    visit: &mut dyn FnMut(&mut CheckContext<'_>, KernelVa),
) -> bool {
    let mut link = first;
    for _ in 0..OBJECTS_MAX {
        if link == end {
            return true;
        }
        // The next link is read before the object: a caller reads other places.
        let Some(next) = cx.word(link) else { return false };
        visit(cx, link);
        link = KernelVa(next);
    }
    false
}
