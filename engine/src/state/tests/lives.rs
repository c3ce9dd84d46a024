//! Processes and threads: born once, ended once, whatever the scans make of it.

use super::watch::{Watch, limits};
use super::world::{FakeFile, FakeProcess, FakeThread, World};
use crate::limits::Limits;
use crate::state::{Change, Limit, Scene, Settings};

fn world() -> World {
    World::default().with(FakeProcess::new(100)).with(FakeProcess::new(200))
}

const NOTHING: [&str; 0] = [];

#[test]
fn what_is_there_when_we_come_is_no_news() {
    let mut watch = Watch::after(&world());
    assert_eq!(watch.scan(&world()), NOTHING);
    let mut world = world();
    world.remove(100);
    assert_eq!(watch.scan(&world), ["-process 100 task100"], "its end is");
}

#[test]
fn what_is_there_when_we_come_is_told_of_on_request() {
    let settings = Settings { report_existing: true, ..Settings::default() };
    let mut watch = Watch::new(&limits(), settings);
    let told = watch.scan(&world().with(FakeProcess::new(300).with_thread(301)));
    assert_eq!(
        told,
        [
            "+process 1 task1",
            "+process 100 task100",
            "+process 200 task200",
            "+process 300 task300",
            "+thread 300/301"
        ]
    );
}

#[test]
fn a_first_scan_that_is_not_whole_does_not_end_the_beginning() {
    let mut watch = Watch::quiet();
    let mut torn = world();
    torn.idr_whole = false;
    torn.remove(200);
    assert_eq!(watch.scan(&torn), NOTHING);
    assert_eq!(watch.scan(&world()), NOTHING, "200 was there all the time");
    assert_eq!(watch.scan(&world().with(FakeProcess::new(300))), ["+process 300 task300"]);
}

/// Found by a load that was started as soon as a machine was said to be watched: its processes were in the first
/// scan that was taken in, so that only their ends were told of.
#[test]
fn what_begins_before_the_first_scan_and_after_we_came_is_news() {
    let mut watch = Watch::quiet();
    world().show(&mut watch.snapshot);
    watch.state.arrive(&watch.snapshot);
    let mut torn = world().with(FakeProcess::new(300));
    torn.idr_whole = false;
    torn.remove(100);
    assert_eq!(watch.scan(&torn), ["+process 300 task300"]);
    let all = world().with(FakeProcess::new(300)).with(FakeProcess::new(400).with_thread(401));
    assert_eq!(watch.scan(&all), ["+process 400 task400", "+thread 400/401"], "100 was there");
    let mut world = all;
    world.remove(300);
    assert_eq!(watch.scan(&world), ["-process 300 task300"]);
    // Another boot has other times.
    watch.state.forget();
    assert_eq!(watch.scan(&world), NOTHING);
}

#[test]
fn who_came_when_cannot_be_said_by_a_scan_that_is_not_whole() {
    let mut watch = Watch::quiet();
    let mut torn = world();
    torn.task_list_closed = false;
    torn.remove(200);
    torn.show(&mut watch.snapshot);
    watch.state.arrive(&watch.snapshot);
    assert_eq!(watch.scan(&world().with(FakeProcess::new(300))), NOTHING);
    assert_eq!(watch.scan(&world().with(FakeProcess::new(300))), NOTHING);
}

#[test]
fn a_beginning_that_is_never_whole_ends_all_the_same() {
    let mut watch = Watch::quiet();
    let mut torn = world();
    torn.idr_whole = false;
    for _ in 0..15 {
        assert_eq!(watch.scan(&torn), NOTHING);
    }
    torn.processes.push(FakeProcess::new(300));
    assert_eq!(watch.scan(&torn), NOTHING, "still the beginning");
    torn.processes.push(FakeProcess::new(400));
    assert_eq!(watch.scan(&torn), ["+process 400 task400"]);
    watch.state.forget();
    assert_eq!(watch.scan(&torn), NOTHING, "it begins again");
    for _ in 0..14 {
        assert_eq!(watch.scan(&torn), NOTHING);
    }
    torn.processes.push(FakeProcess::new(500));
    assert_eq!(watch.scan(&torn), NOTHING);
}

#[test]
fn what_was_pushed_out_of_a_beginning_that_is_never_whole_is_no_news() {
    let mut watch = Watch::quiet();
    let mut less = world();
    less.remove(100);
    for scan in 0..20 {
        less.show(&mut watch.snapshot);
        watch.snapshot.threads.dropped = 1;
        let told = watch.take_in();
        assert_eq!(told, ["limit Threads 64 1"][..usize::from(scan == 0)]);
    }
    world().show(&mut watch.snapshot);
    assert_eq!(watch.take_in(), ["cleared Threads 64"], "100 was there before 200");
}

#[test]
fn an_end_is_concluded_in_time_where_views_are_never_whole() {
    for idr in [true, false] {
        let mut watch = Watch::after(&world());
        let mut torn = world();
        torn.remove(100);
        (torn.idr_whole, torn.task_list_closed) = (idr, !idr);
        for _ in 0..7 {
            assert_eq!(watch.scan(&torn), NOTHING);
        }
        assert_eq!(watch.scan(&torn), ["-process 100 task100"]);
        for _ in 0..20 {
            assert_eq!(watch.scan(&torn), NOTHING);
        }
    }
}

#[test]
fn an_absence_that_is_interrupted_or_has_threads_ends_nothing() {
    let with = world().with(FakeProcess::new(300).with_thread(301));
    let mut watch = Watch::after(&with);
    let mut torn = with.clone();
    torn.idr_whole = false;
    torn.remove(300);
    let mut seen = with.clone();
    seen.idr_whole = false;
    for _ in 0..3 {
        for _ in 0..7 {
            assert_eq!(watch.scan(&torn), NOTHING);
        }
        assert_eq!(watch.scan(&seen), NOTHING);
    }
    // A thread of it is one, too.
    for scan in 0..30 {
        let shown = if scan % 8 == 7 { &with } else { &torn };
        shown.show(&mut watch.snapshot);
        watch.snapshot.idr_whole = false;
        if scan % 8 == 7 {
            for row in watch.snapshot.threads.iter_mut().filter(|row| row.task.pid == 300) {
                row.task.pid = 302;
            }
            let last = watch.snapshot.processes.len() - 1;
            watch.snapshot.processes.truncate(last);
            watch.snapshot.by_pid.truncate(last);
        }
        assert_eq!(watch.take_in(), NOTHING);
    }
    // And what a view loses with nothing to see in it at all says nothing.
    for _ in 0..20 {
        watch.snapshot.processes.clear();
        watch.snapshot.threads.truncate(1);
        watch.snapshot.by_pid.clear();
        watch.snapshot.by_tid.clear();
        assert_eq!(watch.take_in(), NOTHING);
    }
}

#[test]
fn a_process_is_created_once_and_terminated_once() {
    let mut watch = Watch::after(&world());
    let with = world().with(FakeProcess::new(300));
    assert_eq!(watch.scan(&with), ["+process 300 task300"]);
    assert_eq!(watch.scan(&with), NOTHING);
    assert_eq!(watch.scan(&world()), ["-process 300 task300"]);
    assert_eq!(watch.scan(&world()), NOTHING);
}

#[test]
fn fork_and_exec_between_scans_are_one_creation_with_what_was_executed() {
    let mut watch = Watch::after(&world());
    // As its parent is, until it calls exec.
    let mut child = FakeProcess::new(300);
    child.parent = 100;
    child.name = "task100".into();
    assert_eq!(watch.scan(&world().with(child.clone())), NOTHING);
    child.name = "sleep".into();
    child.exec_id += 1;
    assert_eq!(watch.scan(&world().with(child.clone())), ["+process 300 sleep"]);
    child.exec_id += 1;
    child.name = "true".into();
    assert_eq!(watch.scan(&world().with(child)), NOTHING, "an exec is no birth");
    assert_eq!(watch.scan(&world()), ["-process 300 true"]);
}

#[test]
fn a_process_inside_exec_is_told_of_with_its_arguments() {
    let mut watch = Watch::after(&world());
    let mut child = FakeProcess::new(300);
    child.parent = 100;
    child.exec_id += 1;
    child.in_exec = true;
    assert_eq!(watch.scan(&world().with(child.clone())), NOTHING);
    assert_eq!(watch.scan(&world().with(child.clone())), NOTHING);
    child.in_exec = false;
    assert_eq!(watch.scan(&world().with(child.clone())), ["+process 300 task300"]);
    child.in_exec = true;
    assert_eq!(watch.scan(&world().with(child)), NOTHING, "it is known");
}

#[test]
fn a_process_that_stays_inside_exec_is_told_of_in_the_end() {
    let mut watch = Watch::after(&world());
    let mut child = FakeProcess::new(300);
    child.in_exec = true;
    let with = world().with(child.clone());
    for _ in 0..3 {
        assert_eq!(watch.scan(&with), NOTHING);
    }
    assert_eq!(watch.scan(&with), ["+process 300 task300"]);
    child.pid = 400;
    child.start += 1;
    assert_eq!(watch.scan(&with.clone().with(child)), NOTHING);
    assert_eq!(watch.scan(&with), ["+process 400 task300", "-process 400 task300"]);
}

#[test]
fn a_fork_without_exec_is_told_of_after_its_grace() {
    let mut watch = Watch::after(&world());
    let mut child = FakeProcess::new(300);
    child.parent = 100;
    let with = world().with(child);
    assert_eq!(watch.scan(&with), NOTHING);
    assert_eq!(watch.scan(&with), ["+process 300 task300"]);
}

#[test]
fn a_fork_that_is_gone_within_its_grace_is_told_of_all_the_same() {
    let mut watch = Watch::after(&world());
    let mut child = FakeProcess::new(300);
    child.parent = 100;
    assert_eq!(watch.scan(&world().with(child)), NOTHING);
    assert_eq!(watch.scan(&world()), ["+process 300 task300", "-process 300 task300"]);
}

#[test]
fn a_process_that_never_holds_still_is_told_of_in_the_end() {
    let mut watch = Watch::after(&world());
    let mut restless = FakeProcess::new(300);
    restless.stable = false;
    let with = world().with(restless);
    let told: Vec<_> = (0..10).flat_map(|_| watch.scan(&with)).collect();
    assert_eq!(told, ["+process 300 task300"]);
}

#[test]
fn what_is_read_of_a_process_that_did_not_hold_still_names_nothing_anew() {
    let named = |watch: &Watch| {
        let (_, process) = watch.state.processes().find(|(_, it)| it.process_id() == 300).unwrap();
        let facts = process.facts(&watch.state.strings);
        [facts.executable, facts.command_line]
            .map(|text| String::from_utf8_lossy(text.unwrap_or_default()).into_owned())
    };
    let mut watch = Watch::after(&world().with(FakeProcess::new(300)));
    assert_eq!(named(&watch), ["/bash", "bash\0-i\0"]);
    // Its memory has gone to another one meanwhile.
    let mut torn = FakeProcess::new(300);
    torn.stable = false;
    torn.executable = Some(FakeFile::regular(0xffff_8881_0000_9000, 99, "other"));
    torn.arguments = b"other\0".to_vec();
    watch.scan(&world().with(torn.clone()));
    assert_eq!(named(&watch), ["/bash", "bash\0-i\0"]);
    // Another program's names are better than none, and those of the last one.
    torn.exec_id += 1;
    watch.scan(&world().with(torn));
    assert_eq!(named(&watch), ["/other", "other\0"]);
}

#[test]
fn what_exec_closes_was_the_last_programs() {
    let closed_by = |watch: &Watch, on_exec| {
        let (_, process) = watch.state.processes().find(|(_, it)| it.process_id() == 300).unwrap();
        let facts = process.facts_at_close(on_exec, &watch.state.strings);
        let executable = String::from_utf8_lossy(facts.executable.unwrap_or_default()).into_owned();
        (executable, facts.self_exec_id.unwrap())
    };
    let (bash, other) = (("/bash".to_owned(), 2), ("/other".to_owned(), 3));
    let mut watch = Watch::after(&world().with(FakeProcess::new(300)));
    let mut next = FakeProcess::new(300);
    next.executable = Some(FakeFile::regular(0xffff_8881_0000_9000, 99, "other"));
    next.in_exec = true;
    // Its memory is the next program's, and the rest the last one's.
    watch.scan(&world().with(next.clone()));
    assert_eq!(closed_by(&watch, false), bash);
    // It is not compared with what it had before until it holds still.
    (next.in_exec, next.stable, next.exec_id) = (false, false, 3);
    watch.scan(&world().with(next.clone()));
    next.stable = true;
    watch.scan(&world().with(next.clone()));
    assert_eq!((closed_by(&watch, true), closed_by(&watch, false)), (bash, other.clone()));
    // What closes from then on was its own.
    watch.scan(&world().with(next));
    assert_eq!((closed_by(&watch, true), closed_by(&watch, false)), (other.clone(), other));
}

#[test]
fn a_number_that_is_given_out_again_is_another_process() {
    let mut watch = Watch::after(&world());
    let mut other = world();
    other.process(100).start += 7;
    other.process(100).name = "other".into();
    assert_eq!(watch.scan(&other), ["-process 100 task100", "+process 100 other"]);
    let mut torn = other.clone();
    torn.process(100).start += 7;
    torn.idr_whole = false;
    let told = watch.scan(&torn);
    assert_eq!(told, ["-process 100 other", "+process 100 other"], "that is seen in any scan");
}

#[test]
fn absence_from_a_scan_that_is_not_whole_means_nothing() {
    let mut watch = Watch::after(&world());
    let mut torn = world();
    torn.remove(100);
    for _ in 0..3 {
        torn.task_list_closed = false;
        torn.idr_whole = true;
        assert_eq!(watch.scan(&torn), NOTHING);
        torn.task_list_closed = true;
        torn.idr_whole = false;
        assert_eq!(watch.scan(&torn), NOTHING);
    }
    assert_eq!(watch.scan(&world()), NOTHING);
    torn.idr_whole = true;
    assert_eq!(watch.scan(&torn), ["-process 100 task100"]);
}

#[test]
fn absence_from_a_scan_with_unreadable_parts_must_stand_in_the_next() {
    let mut watch = Watch::after(&world());
    let mut torn = world();
    torn.remove(100);
    torn.unreadable = 1;
    assert_eq!(watch.scan(&torn), NOTHING);
    assert_eq!(watch.scan(&world()), NOTHING, "it was there");
    assert_eq!(watch.scan(&torn), NOTHING);
    assert_eq!(watch.scan(&torn), ["-process 100 task100"]);
}

#[test]
fn a_process_whose_threads_are_seen_goes_on() {
    let with = world().with(FakeProcess::new(300).with_thread(301));
    let mut watch = Watch::after(&with);
    // A thread takes its leader's place: for a moment no scan finds a first thread.
    with.show(&mut watch.snapshot);
    for row in watch.snapshot.threads.iter_mut().filter(|row| row.task.pid == 300) {
        row.task.pid = 302;
    }
    let last = watch.snapshot.processes.len() - 1;
    watch.snapshot.processes.truncate(last);
    let by_pid = watch.snapshot.by_pid.len() - 1;
    watch.snapshot.by_pid.truncate(by_pid);
    assert_eq!(watch.take_in(), NOTHING);
    // Another task_struct, the same number and beginning.
    let mut taken_over = with.clone();
    taken_over.process(300).address += 0x4000;
    taken_over.process(300).exec_id += 1;
    taken_over.process(300).threads.clear();
    assert_eq!(watch.scan(&taken_over), ["-thread 300/301"]);
}

#[test]
fn a_zombie_is_reported_once_after_its_grace() {
    let mut watch = Watch::after(&world());
    let mut dead = world();
    dead.process(100).become_zombie();
    assert_eq!(watch.scan(&dead), NOTHING);
    assert_eq!(watch.scan(&dead), ["zombie 100 2"]);
    assert_eq!(watch.scan(&dead), NOTHING);
    dead.remove(100);
    assert_eq!(watch.scan(&dead), ["-process 100 task100"]);
}

#[test]
fn a_zombie_that_is_reaped_within_a_scan_is_none() {
    let mut watch = Watch::after(&world());
    let mut dead = world();
    dead.process(100).become_zombie();
    assert_eq!(watch.scan(&dead), NOTHING);
    dead.remove(100);
    assert_eq!(watch.scan(&dead), ["-process 100 task100"]);
}

#[test]
fn a_zombie_that_still_runs_is_on_its_way_out() {
    let mut watch = Watch::after(&world());
    let mut dying = world();
    dying.process(100).become_zombie();
    dying.process(100).on_cpu = true;
    for _ in 0..5 {
        assert_eq!(watch.scan(&dying), NOTHING);
    }
    dying.process(100).exit_state = 0x10;
    assert_eq!(watch.scan(&dying), ["-process 100 task100"]);
}

#[test]
fn a_first_thread_that_has_ended_before_the_others_is_no_zombie() {
    let with = world().with(FakeProcess::new(300).with_thread(301));
    let mut watch = Watch::after(&with);
    let mut headless = with.clone();
    headless.process(300).exit_state = 0x20;
    for _ in 0..3 {
        assert_eq!(watch.scan(&headless), NOTHING);
    }
    headless.process(300).become_zombie();
    assert_eq!(watch.scan(&headless), NOTHING);
    assert_eq!(watch.scan(&headless), ["zombie 300 2"]);
}

#[test]
fn a_process_first_seen_as_a_zombie_is_created_too() {
    let mut watch = Watch::after(&world());
    let mut dead = FakeProcess::new(300);
    dead.become_zombie();
    let with = world().with(dead);
    assert_eq!(watch.scan(&with), ["+process 300 task300"]);
    assert_eq!(watch.scan(&with), ["zombie 300 2"]);
    assert_eq!(watch.scan(&world()), ["-process 300 task300"]);
}

#[test]
fn a_task_that_only_waits_for_its_memory_to_go_has_ended() {
    let mut watch = Watch::after(&world());
    let mut dead = world();
    dead.process(100).exit_state = 0x10;
    assert_eq!(watch.scan(&dead), ["-process 100 task100"]);
    assert_eq!(watch.scan(&dead), NOTHING);
    dead.remove(100);
    assert_eq!(watch.scan(&dead), NOTHING);
    let mut late = FakeProcess::new(300);
    late.exit_state = 0x10;
    assert_eq!(watch.scan(&world().with(late)), ["+process 100 task100"], "300 was never alive");
}

#[test]
fn threads_come_and_go() {
    let with = world().with(FakeProcess::new(300).with_thread(301));
    let mut watch = Watch::after(&with);
    let mut more = with.clone();
    more.process(300).threads.push(FakeThread::new(303));
    more.process(300).threads.push(FakeThread::new(305));
    assert_eq!(watch.scan(&more), ["+thread 300/303", "+thread 300/305"]);
    more.process(300).threads[1].start = 9;
    more.process(300).threads.remove(0);
    let told = watch.scan(&more);
    assert_eq!(told, ["-thread 300/301", "-thread 300/303", "+thread 300/303"]);
    let mut torn = more.clone();
    torn.idr_whole = false;
    torn.process(300).threads.clear();
    assert_eq!(watch.scan(&torn), NOTHING);
    assert_eq!(watch.scan(&more), NOTHING);
    assert_eq!(watch.scan(&world()), ["-process 300 task300"], "that says it all");
}

#[test]
fn a_new_process_has_its_threads_told_of_but_not_its_first() {
    let mut watch = Watch::after(&world());
    let with = world().with(FakeProcess::new(300).with_thread(301));
    assert_eq!(watch.scan(&with), ["+process 300 task300", "+thread 300/301"]);
}

#[test]
fn a_full_table_of_processes_says_so_once_and_keeps_the_oldest() {
    let small = Limits { processes: 4, ..limits() };
    let mut watch = Watch::new(&small, Settings::default());
    assert_eq!(watch.scan(&world()), NOTHING);
    let mut crowd = world();
    for pid in 301..=304 {
        crowd.processes.push(FakeProcess::new(pid).with_thread(pid + 1000));
    }
    let told = watch.scan(&crowd);
    assert_eq!(told, ["+process 301 task301", "+thread 301/1301", "limit Processes 4 3"]);
    assert_eq!(watch.scan(&crowd), NOTHING);
    assert_eq!(watch.state.usage(Limit::Processes).untracked, 3);
    crowd.remove(301);
    let told = watch.scan(&crowd);
    assert_eq!(told, ["-process 301 task301", "+process 302 task302", "+thread 302/1302"]);
    crowd.remove(303);
    crowd.remove(304);
    assert_eq!(watch.scan(&crowd), NOTHING, "there is no room to spare yet");
    crowd.remove(302);
    assert_eq!(watch.scan(&crowd), ["-process 302 task302", "cleared Processes 4"]);
}

#[test]
fn what_found_no_room_when_we_came_is_no_news_when_it_does() {
    let small = Limits { processes: 2, ..limits() };
    let mut watch = Watch::new(&small, Settings::default());
    assert_eq!(watch.scan(&world()), ["limit Processes 2 1"]);
    let mut less = world();
    less.remove(100);
    assert_eq!(watch.scan(&less), ["-process 100 task100"]);
    less.remove(200);
    assert_eq!(watch.scan(&less), ["-process 200 task200", "cleared Processes 2"]);
}

#[test]
fn births_are_counted_against_the_kernels_count() {
    let mut watch = Watch::quiet();
    let mut world = world();
    world.forks = Some(1000);
    watch.scan(&world);
    world.forks = Some(1100);
    world.processes.push(FakeProcess::new(300).with_thread(301));
    watch.scan(&world);
    watch.scan(&world);
    let told: Vec<String> = (0..300).flat_map(|_| watch.scan(&world)).collect();
    assert_eq!(told, ["missed 98 of 100"]);
    // What is left is told at the end.
    world.forks = Some(1102);
    assert_eq!(watch.scan(&world), NOTHING);
    let mut told = Vec::new();
    let now_ns = watch.now_ns;
    for _ in 0..2 {
        watch.state.finish(&watch.snapshot, now_ns, &mut |_: &Scene<'_>, change: &Change<'_>| {
            told.push(format!("{change:?}"));
        });
    }
    assert_eq!(told, ["BirthsMissed(Births { born: 2, seen: 0 })"]);
}

#[test]
fn after_forgetting_everything_is_as_at_first() {
    let mut watch = Watch::after(&world());
    watch.state.forget();
    let mut other = World::default().with(FakeProcess::new(77));
    assert_eq!(watch.scan(&other), NOTHING);
    other.remove(77);
    assert_eq!(watch.scan(&other), ["-process 77 task77"]);
}
