//! Containers: when they begin and end, as their processes come and go.

use super::watch::{Watch, limits};
use super::world::{FakeProcess, World};
use crate::limits::Limits;
use crate::state::{Limit, Settings};

const NOTHING: [&str; 0] = [];

fn inside(pid: u32, id: &str) -> FakeProcess {
    FakeProcess::new(pid).in_container(id)
}

/// The lines about containers.
fn about(lines: Vec<String>) -> Vec<String> {
    lines.into_iter().filter(|line| line.contains("container")).collect()
}

/// A process of a runtime: it is in the group, and in the machine's namespaces.
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
    // Its first process may go before others: it is the same container.
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
fn what_was_there_when_we_came_is_told_of_when_it_ends() {
    let mut watch = Watch::after(&World::default().with(inside(50, "a")));
    let world = World::default().with(inside(50, "a")).with(inside(60, "b"));
    watch.scan(&world);
    assert_eq!(about(watch.scan(&world)), ["+container b of 60"]);
    watch.scan(&World::default());
    assert_eq!(about(watch.scan(&World::default())), ["-container a of 50", "-container b of 60"]);
    let settings = Settings { report_existing: true, ..Settings::default() };
    let mut watch = Watch::new(&limits(), settings);
    watch.scan(&World::default().with(inside(50, "a")));
    let told = watch.scan(&World::default().with(inside(50, "a")));
    assert_eq!(about(told), ["+container a of 50"]);
}

#[test]
fn one_that_starts_again_between_two_scans_is_another() {
    let mut watch = Watch::after(&World::default().with(inside(50, "a")));
    let again = World::default().with(inside(90, "a"));
    assert_eq!(about(watch.scan(&again)), ["-container a of 50"]);
    assert_eq!(about(watch.scan(&again)), ["+container a of 90"]);
    // One that an older process has come into, or of which an older one is left, goes on.
    let more = World::default().with(inside(90, "a")).with(inside(70, "a"));
    assert_eq!(about(watch.scan(&more)), NOTHING);
    assert_eq!(about(watch.scan(&World::default().with(inside(70, "a")))), NOTHING);
}

#[test]
fn a_runtime_prepares_a_container_with_processes_of_its_own() {
    let mut watch = Watch::after(&World::default());
    // runc: one after the other, each in the group, then the container's own first process.
    for pid in [50, 51] {
        let world = World::default().with(runtime(pid, "a"));
        assert_eq!(about(watch.scan(&world)), NOTHING);
    }
    let world = World::default().with(runtime(51, "a")).with(inside(52, "a"));
    assert_eq!(about(watch.scan(&world)), ["+container a of 52"]);
    assert_eq!(about(watch.scan(&World::default().with(inside(52, "a")))), NOTHING);
    // Somebody who only ever was in the group is a container's in the end.
    let mut watch = Watch::after(&World::default());
    let world = World::default().with(runtime(50, "a"));
    let told: Vec<String> = (0..40).flat_map(|_| about(watch.scan(&world))).collect();
    assert_eq!(told, ["+container a of 50"]);
    // On a busy machine a runtime takes its time.
    let mut watch = Watch::after(&World::default());
    let mut slow = world.clone();
    slow.process(50).state = 0;
    let told: Vec<String> = (0..200).flat_map(|_| about(watch.scan(&slow))).collect();
    assert_eq!(told, NOTHING);
    let inside = World::default().with(runtime(50, "a")).with(inside(52, "a"));
    assert_eq!(about(watch.scan(&inside)), ["+container a of 52"]);
    // But not for ever.
    let mut watch = Watch::after(&World::default());
    let told: Vec<String> = (0..600).flat_map(|_| about(watch.scan(&slow))).collect();
    assert_eq!(told, ["+container a of 50"]);
    // And a runtime that gave up has made none.
    let mut watch = Watch::after(&World::default());
    watch.scan(&world);
    watch.scan(&world);
    for _ in 0..4 {
        assert_eq!(about(watch.scan(&World::default())), NOTHING);
    }
}

#[test]
fn a_short_life_is_told_and_a_misreading_is_not() {
    let mut watch = Watch::after(&World::default());
    watch.scan(&World::default().with(inside(50, "a")));
    watch.scan(&World::default());
    let told = about(watch.scan(&World::default()));
    assert_eq!(told, ["+container a of 0", "-container a of 50"]);
    // So is that of one with the machine's processes and mounts of its own, but not of what passes by.
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
    // A process that goes on elsewhere was never in one.
    let outside = World::default().with(FakeProcess::new(60));
    let mut watch = Watch::after(&outside);
    watch.scan(&World::default().with(inside(60, "b")));
    for _ in 0..4 {
        assert_eq!(watch.scan(&outside), NOTHING);
    }
    // Nor does one end that could not be read once, or read wrongly once.
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
fn a_full_table_says_so_and_processes_go_on() {
    let small = Limits { containers: 2, ..limits() };
    let mut watch = Watch::new(&small, Settings::default());
    let two = World::default().with(inside(50, "a")).with(inside(51, "b"));
    watch.scan(&two);
    let three = two.clone().with(inside(52, "c"));
    assert_eq!(watch.scan(&three), ["+process 52 task52", "limit Containers 2 1"]);
    watch.scan(&World::default().with(inside(52, "c")));
    let told = watch.scan(&World::default().with(inside(52, "c")));
    assert_eq!(told, ["-container a of 50", "-container b of 51", "cleared Containers 2"]);
    let told = watch.scan(&World::default().with(inside(52, "c")));
    assert_eq!(told, ["+container c of 52"]);
}

#[test]
fn names_are_given_back() {
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
