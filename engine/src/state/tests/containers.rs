//! Containers: start and end, following their processes.

use super::watch::{NOTHING, Watch, limits};
use super::world::{FakeProcess, World};
use crate::limits::Limits;
use crate::state::{Limit, StateSettings};

fn inside(pid: u32, id: &str) -> FakeProcess {
    FakeProcess::new(pid).in_container(id)
}

/// Only the lines about containers.
fn about(lines: Vec<String>) -> Vec<String> {
    lines.into_iter().filter(|line| line.contains("container")).collect()
}

/// A process of a runtime: in the control group, with the machine's namespaces.
fn runtime(pid: u32, id: &str) -> FakeProcess {
    let mut process = inside(pid, id);
    process.own_namespaces = false;
    process
}

#[test]
fn a_container_begins_with_its_first_process_and_ends_after_its_last() {
    let mut watch = Watch::after(&World::default());
    let world = World::default().with(inside(50, "a")).with(inside(51, "a"));
    assert_eq!(about(watch.scan(&world)), NOTHING, "seen once");
    assert_eq!(watch.scan(&world)[0], "+container a of 50");
    assert_eq!(watch.scan(&world), NOTHING);
    // Its first process may end before others: it is the same container.
    let rest = World::default().with(inside(51, "a"));
    assert_eq!(watch.scan(&rest), ["-process 50 task50"]);
    assert_eq!(watch.scan(&rest), NOTHING);
    let none = World::default();
    assert_eq!(watch.scan(&none), ["-process 51 task51"]);
    assert_eq!(watch.scan(&none), ["-container a of 50"]);
    assert_eq!(watch.scan(&none), NOTHING);
    assert_eq!(watch.state.usage(Limit::Containers).used, 0);
    assert_eq!(watch.state.usage(Limit::Strings).untracked, 0);
}

#[test]
fn the_end_of_a_baseline_container_is_reported() {
    let mut watch = Watch::after(&World::default().with(inside(50, "a")));
    let world = World::default().with(inside(50, "a")).with(inside(60, "b"));
    watch.scan(&world);
    assert_eq!(about(watch.scan(&world)), ["+container b of 60"]);
    watch.scan(&World::default());
    assert_eq!(about(watch.scan(&World::default())), ["-container a of 50", "-container b of 60"]);
    let settings = StateSettings { report_existing: true, ..StateSettings::default() };
    let mut watch = Watch::new(&limits(), settings);
    watch.scan(&World::default().with(inside(50, "a")));
    let changes = watch.scan(&World::default().with(inside(50, "a")));
    assert_eq!(about(changes), ["+container a of 50"]);
}

#[test]
fn a_container_that_restarts_between_two_scans_is_another_one() {
    let mut watch = Watch::after(&World::default().with(inside(50, "a")));
    let again = World::default().with(inside(90, "a"));
    assert_eq!(about(watch.scan(&again)), ["-container a of 50"]);
    assert_eq!(about(watch.scan(&again)), ["+container a of 90"]);
    // A container continues if an older process has entered it, or is still in it.
    let more = World::default().with(inside(90, "a")).with(inside(70, "a"));
    assert_eq!(about(watch.scan(&more)), NOTHING);
    assert_eq!(about(watch.scan(&World::default().with(inside(70, "a")))), NOTHING);
}

#[test]
fn a_runtime_prepares_a_container_with_its_own_processes() {
    let mut watch = Watch::after(&World::default());
    // runc: its processes one after the other in the group, then the container's own first process.
    for pid in [50, 51] {
        let world = World::default().with(runtime(pid, "a"));
        assert_eq!(about(watch.scan(&world)), NOTHING);
    }
    let world = World::default().with(runtime(51, "a")).with(inside(52, "a"));
    assert_eq!(about(watch.scan(&world)), ["+container a of 52"]);
    assert_eq!(about(watch.scan(&World::default().with(inside(52, "a")))), NOTHING);
    // A process that stays in the group makes it a container in the end.
    let mut watch = Watch::after(&World::default());
    let world = World::default().with(runtime(50, "a"));
    let changes: Vec<String> = (0..40).flat_map(|_| about(watch.scan(&world))).collect();
    assert_eq!(changes, ["+container a of 50"]);
    // On a busy machine a runtime takes longer.
    let mut watch = Watch::after(&World::default());
    let mut slow = world.clone();
    slow.process(50).state = 0;
    let changes: Vec<String> = (0..200).flat_map(|_| about(watch.scan(&slow))).collect();
    assert_eq!(changes, NOTHING);
    let inside = World::default().with(runtime(50, "a")).with(inside(52, "a"));
    assert_eq!(about(watch.scan(&inside)), ["+container a of 52"]);
    // The wait is bounded.
    let mut watch = Watch::after(&World::default());
    let changes: Vec<String> = (0..600).flat_map(|_| about(watch.scan(&slow))).collect();
    assert_eq!(changes, ["+container a of 50"]);
    // A runtime that gave up has made no container.
    let mut watch = Watch::after(&World::default());
    watch.scan(&world);
    watch.scan(&world);
    for _ in 0..4 {
        assert_eq!(about(watch.scan(&World::default())), NOTHING);
    }
}

#[test]
fn a_short_life_is_reported_and_a_misreading_is_not() {
    let mut watch = Watch::after(&World::default());
    watch.scan(&World::default().with(inside(50, "a")));
    watch.scan(&World::default());
    let changes = about(watch.scan(&World::default()));
    assert_eq!(changes, ["+container a of 0", "-container a of 50"]);
    // The same holds with the machine's pid namespace and own mounts, but not for processes that
    // only pass through.
    let mut own_mounts = runtime(50, "a");
    own_mounts.mount_namespace += 1;
    for (process, expected) in
        [(own_mounts, &["+container a of 0", "-container a of 50"][..]), (runtime(50, "a"), &[])]
    {
        let machine = World::default().with(FakeProcess::new(40));
        let mut watch = Watch::after(&machine);
        let world = machine.clone().with(process);
        for _ in 0..3 {
            assert_eq!(about(watch.scan(&world)), NOTHING);
        }
        watch.scan(&machine);
        assert_eq!(about(watch.scan(&machine)), expected);
    }
    // A process that lives on outside was never in a container.
    let outside = World::default().with(FakeProcess::new(60));
    let mut watch = Watch::after(&outside);
    watch.scan(&World::default().with(inside(60, "b")));
    for _ in 0..4 {
        assert_eq!(watch.scan(&outside), NOTHING);
    }
    // One unreadable or wrong reading ends no container.
    let world = World::default().with(inside(50, "a"));
    let mut watch = Watch::after(&world);
    let mut torn = world.clone();
    torn.process(50).container_known = false;
    assert_eq!(watch.scan(&torn), NOTHING);
    assert_eq!(watch.scan(&world), NOTHING);
    assert_eq!(watch.scan(&World::default().with(FakeProcess::new(50))), NOTHING);
    assert_eq!(watch.scan(&world), NOTHING);
}

#[test]
fn a_zombie_keeps_no_container() {
    let world = World::default().with(inside(50, "a"));
    let mut watch = Watch::after(&world);
    let mut ended = world.clone();
    ended.process(50).become_zombie();
    assert_eq!(about(watch.scan(&ended)), NOTHING);
    assert_eq!(about(watch.scan(&ended)), ["-container a of 50"]);
}

#[test]
fn processes_move_into_containers() {
    let world = World::default().with(FakeProcess::new(50));
    let mut watch = Watch::after(&world);
    let moved = World::default().with(inside(50, "a"));
    assert_eq!(watch.scan(&moved), NOTHING);
    assert_eq!(watch.scan(&moved), ["+container a of 50"]);
    assert_eq!(watch.scan(&world), NOTHING);
    assert_eq!(watch.scan(&world), ["-container a of 50"]);
}

#[test]
fn a_full_table_is_reported_and_processes_go_on() {
    let small = Limits { containers: 2, ..limits() };
    let mut watch = Watch::new(&small, StateSettings::default());
    let two = World::default().with(inside(50, "a")).with(inside(51, "b"));
    watch.scan(&two);
    let three = two.clone().with(inside(52, "c"));
    assert_eq!(watch.scan(&three), ["+process 52 task52", "limit Containers 2 1"]);
    watch.scan(&World::default().with(inside(52, "c")));
    let changes = watch.scan(&World::default().with(inside(52, "c")));
    assert_eq!(changes, ["-container a of 50", "-container b of 51", "cleared Containers 2"]);
    let changes = watch.scan(&World::default().with(inside(52, "c")));
    assert_eq!(changes, ["+container c of 52"]);
}

/// Control groups that one user named like containers took the places of all others'.
#[test]
fn containers_that_a_user_made_leave_room_for_those_of_others() {
    let by_user = |pid: u32, uid: u32| FakeProcess { uid, ..inside(pid, &format!("users-{pid}")) };
    let mut watch = Watch::new(&Limits { containers: 16, ..limits() }, StateSettings::default());
    watch.scan(&World::default());
    let mut world = World::default();
    world.processes.extend((100..130).map(|pid| by_user(pid, 1000)));
    watch.scan(&world);
    watch.scan(&world);
    let usage = |watch: &Watch| {
        let usage = watch.state.usage(Limit::Containers);
        (usage.used, usage.untracked)
    };
    assert_eq!(usage(&watch), (4, 26));
    assert!(watch.state.untracked()[Limit::Containers as usize].process_id().is_some());
    // Another user's, and those of root's runtime.
    world = world.with(by_user(200, 1001));
    world.processes.extend((300..304).map(|pid| inside(pid, &format!("{pid}"))));
    watch.scan(&world);
    let mut found = about(watch.scan(&world));
    found.sort();
    let expected = (300..304).map(|pid| format!("+container {pid} of {pid}"));
    let expected: Vec<_> = expected.chain(["+container users-200 of 200".to_owned()]).collect();
    assert_eq!(found, expected);
    // Users together leave a part for root's.
    world.processes.extend((400..430).map(|pid| by_user(pid, 2000 + pid)));
    watch.scan(&world);
    assert_eq!(usage(&watch).0, 12 + 4);
    // What ends makes room.
    watch.scan(&World::default());
    watch.scan(&World::default());
    assert_eq!(usage(&watch), (0, 0));
    let again = World::default().with(by_user(500, 1000));
    watch.scan(&again);
    assert_eq!(usage(&watch), (1, 0));
}

#[test]
fn names_are_released() {
    let mut watch = Watch::after(&World::default());
    let before = watch.state.usage(Limit::Strings).used;
    for round in 0..50 {
        let world = World::default().with(inside(50 + round, &format!("{round}@web-{round}")));
        watch.scan(&world);
        watch.scan(&world);
        watch.scan(&World::default());
        watch.scan(&World::default());
    }
    assert_eq!(watch.state.usage(Limit::Strings).used, before);
}
