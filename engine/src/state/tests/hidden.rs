//! Hidden processes: a view that must show a process does not.

use super::watch::{NOTHING, Watch, next_scan};
use super::world::{ALL_VIEWS, FakeProcess, two_processes as world};
use crate::state::{Change, ScanContext};
use crate::walk::view;

#[test]
fn hidden_task_is_reported_once() {
    let mut watch = Watch::after(&world());
    let mut hidden = world();
    hidden.process(100).views = ALL_VIEWS & !view::TASK_LIST;
    assert_eq!(watch.scan(&hidden), NOTHING);
    assert_eq!(watch.scan(&hidden), ["hidden 100 0x2 2"]);
    for _ in 0..3 {
        assert_eq!(watch.scan(&hidden), NOTHING);
    }
    for _ in 0..3 {
        assert_eq!(watch.scan(&world()), NOTHING, "linked back");
    }
    assert_eq!(watch.scan(&hidden), NOTHING);
    assert_eq!(watch.scan(&hidden), NOTHING, "it is the same process");
    hidden.remove(100);
    assert_eq!(watch.scan(&hidden), ["-process 100 task100"]);
}

#[test]
fn a_hidden_task_is_reported_with_the_real_time_of_the_first_scan_without_it() {
    let mut watch = Watch::after(&world());
    let mut hidden = world();
    hidden.process(100).views = ALL_VIEWS & !view::TASK_LIST;
    assert_eq!(watch.scan(&hidden), NOTHING);
    let first = watch.now.real;
    let mut reported = Vec::new();
    watch.state.update(
        &watch.snapshot,
        next_scan(watch.now),
        &mut |_: &ScanContext<'_>, change: &Change<'_>| {
            if let Change::ProcessHidden { since_ns, .. } = change {
                reported.push(*since_ns);
            }
        },
    );
    assert_eq!(reported, [first]);
}

#[test]
fn a_hidden_task_whose_report_is_not_accepted_is_reported_again() {
    let mut watch = Watch::after(&world());
    let mut hidden = world();
    hidden.process(100).views = ALL_VIEWS & !view::TASK_LIST;
    assert_eq!(watch.scan(&hidden), NOTHING);
    let mut reported = 0;
    for scan in 0..4 {
        hidden.show(&mut watch.snapshot);
        watch.now = next_scan(watch.now);
        watch.state.update(
            &watch.snapshot,
            watch.now,
            &mut |_: &ScanContext<'_>, change: &Change<'_>| {
                if let Change::ProcessHidden { is_accepted, .. } = change {
                    reported += 1;
                    is_accepted.set(scan == 2);
                }
            },
        );
    }
    assert_eq!(reported, 3);
}

#[test]
fn a_task_hidden_from_the_idr_is_reported_too() {
    let mut watch = Watch::after(&world());
    let mut hidden = world();
    hidden.process(100).views = ALL_VIEWS & !view::IDR;
    hidden.unreadable = 1;
    assert_eq!(watch.scan(&hidden), NOTHING);
    assert_eq!(watch.scan(&hidden), NOTHING, "its struct pid may be the unreadable one");
    hidden.unreadable = 0;
    assert_eq!(watch.scan(&hidden), NOTHING);
    hidden.unreadable = 1;
    assert_eq!(watch.scan(&hidden), NOTHING, "this scan proves nothing");
    hidden.unreadable = 0;
    assert_eq!(watch.scan(&hidden), ["hidden 100 0x1 2"]);
}

#[test]
fn tasks_that_are_being_made_or_are_ending_are_not_hidden() {
    let mut watch = Watch::after(&world());
    let mut hidden = world();
    hidden.process(100).views = view::TASK_LIST;
    hidden.process(100).state = 0x800;
    hidden.process(200).views = view::IDR;
    hidden.process(200).become_zombie();
    for _ in 0..5 {
        let changes = watch.scan(&hidden);
        assert!(changes.iter().all(|line| !line.starts_with("hidden")), "{changes:?}");
    }
}

#[test]
fn an_incomplete_view_hides_nothing() {
    let mut watch = Watch::after(&world());
    let mut torn = world();
    torn.task_list_closed = false;
    torn.process(100).views = ALL_VIEWS & !view::TASK_LIST;
    for _ in 0..5 {
        assert_eq!(watch.scan(&torn), NOTHING);
    }
}

#[test]
fn a_task_that_one_view_misses_now_and_then_is_not_hidden() {
    let mut watch = Watch::after(&world());
    let mut skewed = world();
    skewed.process(100).views = ALL_VIEWS & !view::TASK_LIST;
    for _ in 0..5 {
        assert_eq!(watch.scan(&skewed), NOTHING);
        assert_eq!(watch.scan(&world()), NOTHING);
    }
}

#[test]
fn a_task_that_different_views_miss_in_turn_is_not_hidden() {
    let mut watch = Watch::after(&world());
    let mut skewed = world();
    for _ in 0..5 {
        skewed.process(100).views = ALL_VIEWS & !view::TASK_LIST;
        assert_eq!(watch.scan(&skewed), NOTHING);
        skewed.process(100).views = ALL_VIEWS & !view::CHILDREN;
        assert_eq!(watch.scan(&skewed), NOTHING);
    }
}

#[test]
fn each_view_hides_by_itself_and_all_of_them_do() {
    let each = [view::IDR, view::TASK_LIST, view::THREAD_GROUP, view::PID_LIST, view::CHILDREN];
    for missing in each.into_iter().chain([view::CERTAIN, ALL_VIEWS]) {
        let mut watch = Watch::after(&world());
        let mut hidden = world();
        hidden.process(100).views = ALL_VIEWS & !missing;
        assert_eq!(watch.scan(&hidden), NOTHING);
        assert_eq!(watch.scan(&hidden), [format!("hidden 100 {missing:#x} 2")]);
    }
}

#[test]
fn a_task_hidden_before_watching_started_is_reported() {
    let mut hidden = world();
    hidden.process(100).views = 0;
    let mut watch = Watch::after(&hidden);
    assert_eq!(watch.scan(&hidden), [format!("hidden 100 {ALL_VIEWS:#x} 2")]);
    assert_eq!(watch.scan(&hidden), NOTHING);
}

/// Its parent may be read before it begins, and end in the next scan.
#[test]
fn the_first_scan_of_a_process_does_not_count() {
    let mut watch = Watch::after(&world());
    let mut new = world().with(FakeProcess::new(300));
    new.process(300).views = ALL_VIEWS & !view::CHILDREN;
    assert_eq!(watch.scan(&new), ["+process 300 task300"]);
    assert_eq!(watch.scan(&new), NOTHING);
    assert_eq!(watch.scan(&new), [format!("hidden 300 {:#x} 2", view::CHILDREN)]);
}

#[test]
fn a_task_between_control_groups_is_not_hidden() {
    let mut watch = Watch::after(&world());
    let mut moving = world();
    moving.process(100).views = view::CERTAIN;
    for _ in 0..11 {
        assert_eq!(watch.scan(&moving), NOTHING, "its processor stands still meanwhile");
    }
    assert_eq!(watch.scan(&moving), ["hidden 100 0x20 12"]);
}

#[test]
fn another_task_in_its_place_does_not_inherit_the_count() {
    let mut watch = Watch::after(&world());
    let mut hidden = world();
    hidden.process(100).views = ALL_VIEWS & !view::TASK_LIST;
    for _ in 0..5 {
        assert_eq!(watch.scan(&hidden), NOTHING);
        hidden.process(100).address += 0x4000;
    }
}
