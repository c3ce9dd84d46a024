//! Lists of tasks made by hand.

use super::*;
use crate::walk::CssSetRow;
use crate::walk::tests::memory::{kernel, small, va, walker};

/// The reasons to stop early.
fn stops(losses: &Losses) -> Vec<String> {
    losses.frequent_stops().iter().map(ToString::to_string).collect()
}

#[test]
fn candidates_without_room_are_named_and_are_no_loss() {
    let Walker { visited, snapshot, .. } = &mut walker(&small());
    let mut found = Vec::with_capacity(2);
    let rows = found.capacity();
    let losses = &mut snapshot.losses;
    let mut candidates = Candidates { visited, found: &mut found, losses };
    for number in 0..=rows as u64 {
        candidates.add(va(0xffff_8880_0000_1000 + number * 64));
    }
    assert!(snapshot.losses.is_whole());
    let stop = format!("list of ways to tasks: no room among {rows}");
    assert_eq!((found.len(), stops(&snapshot.losses)), (rows, vec![stop]));
}

#[test]
fn lists_of_children_that_lead_back_or_to_other_lists_are_named() {
    const PARENT: u64 = 0xffff_8880_0000_1000;
    const CHILD: u64 = 0xffff_8880_0000_2000;
    let (children, sibling) = (0x100, 0x200);
    for (next, reason) in [
        (PARENT + children, None),
        (CHILD + sibling, Some(format!("loop at {CHILD:#x}"))),
        (CHILD + children, Some(format!("changed at {PARENT:#x}"))),
    ] {
        let Walker { visited, snapshot, .. } = &mut walker(&small());
        let (threads, losses) = (&mut snapshot.threads, &mut snapshot.losses);
        let parent =
            Task { address: va(PARENT), first_child: va(CHILD + sibling), ..Task::default() };
        let child = Task { address: va(CHILD), sibling_next: va(next), ..Task::default() };
        let [parent, _] = [parent, child].map(|task| {
            threads.row_of(task.address.0, || ThreadRow::new(task)).expect("there is room")
        });
        let mut found = Vec::with_capacity(2);
        let mut candidates = Candidates { visited, found: &mut found, losses };
        follow_children(threads, parent, (children, sibling), &mut candidates);
        let expected: Vec<_> =
            reason.iter().map(|reason| format!("list of children: {reason}")).collect();
        assert_eq!(stops(&snapshot.losses), expected);
    }
}

#[test]
fn a_thread_list_that_cannot_be_followed_has_its_reason() {
    let (kernel, mut walker) = (kernel(), walker(&small()));
    let node = u64::from(kernel.layouts.task_struct.thread_node.offset);
    let [leader, thread, unknown, signal] = [1, 2, 3, 4].map(|at| va(at << 12));
    let thread_next = unknown.plus(node);
    let threads = &mut walker.snapshot.threads;
    let task = Task { address: thread, thread_next, ..Task::default() };
    threads.row_of(thread.0, || ThreadRow::new(task));
    let leader = Task { address: leader, signal, ..Task::default() };
    let shows = |link: KernelVa, mut steps: usize| {
        group_shows(threads, (&leader, link), &kernel, &mut steps)
    };
    assert_eq!(shows(leader.address.plus(node), 0), Ok(true));
    assert_eq!(shows(signal, 0), Ok(false));
    let stop = EarlyStop::Changed { address: unknown };
    assert_eq!(shows(thread.plus(node), 2), Err(stop));
    assert_eq!(shows(thread.plus(node), 0), Err(EarlyStop::TooLong { limit: 1 }));
}

/// Such a task began or ended meanwhile, unless nothing can be there.
#[test]
fn a_control_group_that_leads_to_a_task_without_a_row_has_changed() {
    const SET: u64 = 0xffff_8880_0000_1000;
    const TASK: u64 = 0xffff_8880_0000_2000;
    for (task, reason) in
        [(TASK, format!("changed at {TASK:#x}")), (0x2000, "unreadable at 0x2000".to_owned())]
    {
        let (mut kernel, mut walker) = (kernel(), walker(&small()));
        let link = PackedField { offset: 0x100, size: 16, packed: 0 };
        kernel.layouts.task_struct.cg_list = Some(link);
        let first_task = va(task + 0x100);
        let set = || CssSetRow { address: va(SET), first_task, ..CssSetRow::default() };
        let set = walker.snapshot.css_sets.row_of(SET, set).expect("there is room");
        walker.follow_control_groups(&kernel);
        let snapshot = &walker.snapshot;
        assert_eq!(stops(&snapshot.losses), [format!("tasks of a control group: {reason}")]);
        assert!(snapshot.losses.is_whole() && !snapshot.css_sets[set].closed);
    }
}
