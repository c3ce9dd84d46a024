//! Lists of the kernel, followed one link at a time, with a bound: at once, or in slices.

use panoptes_decoders::address::KernelVa;

use crate::kernel_code::context::{CheckContext, Cursor};

/// Maximum number of objects in a list that is followed at once.
pub(super) const OBJECTS_MAX: usize = 4096;

/// How far a list was followed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ListProgress {
    /// The rest is for the next slice.
    Partly,
    ToItsEnd,
    /// A link could not be read, or there are more objects than a list may have.
    Broken,
}

/// Follows a `struct list_head` in slices. `cursor.at` is the next link, and `cursor.count` the
/// number of objects so far; both are zeros before the first slice and after the last one.
pub(super) fn follow_in_slices(
    cx: &mut CheckContext<'_>,
    cursor: &mut Cursor,
    (head, objects_max): (KernelVa, u64),
    visit: &mut dyn FnMut(&mut CheckContext<'_>, KernelVa),
) -> ListProgress {
    if cursor.at == 0 {
        cursor.at = cx.word(head).unwrap_or(0);
    }
    let end = loop {
        if cursor.at == head.0 {
            break ListProgress::ToItsEnd;
        }
        if cursor.at == 0 || cursor.count >= objects_max {
            break ListProgress::Broken;
        }
        if !cx.has_budget() {
            return ListProgress::Partly;
        }
        let link = KernelVa(cursor.at);
        let Some(next) = cx.word(link) else { break ListProgress::Broken };
        visit(cx, link);
        (cursor.at, cursor.count) = (next, cursor.count + 1);
    };
    (cursor.at, cursor.count) = (0, 0);
    end
}

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

#[cfg(test)]
mod tests {
    use super::super::testing::{Scene, va};
    use super::*;
    use crate::kernel_code::check::Check;
    use crate::kernel_code::context::Progress;

    const CHECK: Check = Check::Timers;
    const MAX: u64 = 200;

    /// Counts the objects of the list of modules.
    fn step(cx: &mut CheckContext<'_>, cursor: &mut Cursor) -> Progress {
        let head = cx.kernel().symbols.modules.unwrap_or_default();
        let followed = follow_in_slices(cx, cursor, (head, MAX), &mut |cx, _| cx.checked(CHECK, 1));
        match followed {
            ListProgress::Partly => return Progress::More,
            ListProgress::ToItsEnd => {}
            ListProgress::Broken => cx.unread(CHECK),
        }
        assert_eq!(*cursor, Cursor::default(), "the next list begins anew");
        Progress::Done
    }

    #[test]
    fn a_list_is_followed_in_slices_to_its_end() {
        let mut scene = Scene::new();
        let head = scene.variable(16);
        scene.kernel.symbols.modules = va(head);
        for count in [0, 1, MAX] {
            let links = (0..count).map(|_| scene.room(16)).collect::<Vec<_>>();
            scene.list(head, &links);
            let outcome = scene.run(step);
            let facts = outcome.facts(CHECK);
            assert_eq!((facts.places, facts.unread), (count, 0));
            assert_eq!(outcome.slices > 1, count == MAX);
        }
    }

    #[test]
    fn a_list_without_an_end_or_with_a_lost_link_is_broken() {
        let mut scene = Scene::new();
        let (head, link) = (scene.variable(16), scene.room(16));
        scene.kernel.symbols.modules = va(head);
        for (next, count) in [(link, MAX), (0, 1), (8, 1)] {
            scene.list(head, &[link]);
            scene.put(link, next);
            let facts = scene.run(step).facts(CHECK);
            assert_eq!((facts.places, facts.unread), (count, 1));
        }
        scene.put(head, 0);
        assert_eq!(scene.run(step).facts(CHECK).unread, 1);
    }
}
