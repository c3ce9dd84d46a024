//! Processes and threads: created once and terminated once, whatever scans show.

use super::watch::{NOTHING, Watch, limits};
use super::world::{FakeFile, FakeProcess, FakeThread, World, two_processes as world};
use crate::limits::Limits;
use crate::state::{Change, Limit, ScanContext, StateSettings, Thresholds};
use crate::walk::TaskFate;

#[test]
fn baseline_processes_are_not_reported_as_created() {
    let mut watch = Watch::after(&world());
    assert_eq!(watch.scan(&world()), NOTHING);
    let mut world = world();
    world.remove(100);
    assert_eq!(watch.scan(&world), ["-process 100 task100"], "its end is reported");
}

#[test]
fn baseline_processes_are_reported_on_request() {
    let settings = StateSettings { report_existing: true, ..StateSettings::default() };
    let mut watch = Watch::new(&limits(), settings);
    let changes = watch.scan(&world().with(FakeProcess::new(300).with_thread(301)));
    assert_eq!(
        changes,
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
fn an_incomplete_first_scan_does_not_end_the_baseline() {
    let mut watch = Watch::quiet();
    let mut torn = world();
    torn.idr_complete = false;
    torn.remove(200);
    assert_eq!(watch.scan(&torn), NOTHING);
    assert_eq!(watch.scan(&world()), NOTHING, "200 existed all the time");
    assert_eq!(watch.scan(&world().with(FakeProcess::new(300))), ["+process 300 task300"]);
}

/// Regression: a load started as soon as the machine was reported as watched. Its processes were in
/// the first scan, so only their ends were reported.
#[test]
fn a_process_started_between_arrival_and_the_first_scan_is_reported() {
    let mut watch = Watch::quiet();
    world().show(&mut watch.snapshot);
    watch.state.note_baseline(&watch.snapshot);
    let mut torn = world().with(FakeProcess::new(300));
    torn.idr_complete = false;
    torn.remove(100);
    assert_eq!(watch.scan(&torn), ["+process 300 task300"]);
    let all = world().with(FakeProcess::new(300)).with(FakeProcess::new(400).with_thread(401));
    assert_eq!(watch.scan(&all), ["+process 400 task400", "+thread 400/401"], "100 is baseline");
    let mut world = all;
    world.remove(300);
    assert_eq!(watch.scan(&world), ["-process 300 task300"]);
    // Another boot has other start times.
    watch.state.forget();
    assert_eq!(watch.scan(&world), NOTHING);
}

/// What began while contact was lost must not count as existing once contact is back.
#[test]
fn what_began_while_contact_was_lost_is_new() {
    let mut watch = Watch::quiet();
    assert_eq!(watch.scan(&world()), NOTHING);
    let newest = watch.state.newest_start();
    assert_eq!(newest, world().processes.iter().map(|process| process.start).max());
    // Another watch begins, with the same machine.
    let mut watch = Watch::quiet();
    watch.state.go_on_after(newest.unwrap());
    let mut more = world().with(FakeProcess::new(300));
    more.show(&mut watch.snapshot);
    watch.state.note_baseline(&watch.snapshot);
    assert_eq!(watch.scan(&more), ["+process 300 task300"]);
    more.remove(300);
    assert_eq!(watch.scan(&more), ["-process 300 task300"]);
}

#[test]
fn what_starts_in_a_restored_machine_is_new_from_its_first_scan_on() {
    let mut watch = Watch::quiet();
    // A later process was seen before an earlier state of the machine was restored.
    watch.state.go_on_after(u64::MAX);
    world().show(&mut watch.snapshot);
    watch.state.note_baseline(&watch.snapshot);
    let more = world().with(FakeProcess::new(300));
    assert_eq!(watch.scan(&more), ["+process 300 task300"]);
}

#[test]
fn an_incomplete_scan_sets_no_arrival() {
    let mut watch = Watch::quiet();
    let mut torn = world();
    torn.task_list_closed = false;
    torn.remove(200);
    torn.show(&mut watch.snapshot);
    watch.state.note_baseline(&watch.snapshot);
    assert_eq!(watch.scan(&world().with(FakeProcess::new(300))), NOTHING);
    assert_eq!(watch.scan(&world().with(FakeProcess::new(300))), NOTHING);
}

#[test]
fn a_baseline_without_a_complete_scan_ends_too() {
    let mut watch = Watch::quiet();
    let mut torn = world();
    torn.idr_complete = false;
    for _ in 0..15 {
        assert_eq!(watch.scan(&torn), NOTHING);
    }
    torn.processes.push(FakeProcess::new(300));
    assert_eq!(watch.scan(&torn), NOTHING, "still the baseline");
    torn.processes.push(FakeProcess::new(400));
    assert_eq!(watch.scan(&torn), ["+process 400 task400"]);
    watch.state.forget();
    assert_eq!(watch.scan(&torn), NOTHING, "a new baseline");
    for _ in 0..14 {
        assert_eq!(watch.scan(&torn), NOTHING);
    }
    torn.processes.push(FakeProcess::new(500));
    assert_eq!(watch.scan(&torn), NOTHING);
}

#[test]
fn baseline_processes_that_found_no_room_are_not_reported_as_created() {
    let mut watch = Watch::quiet();
    let mut less = world();
    less.remove(100);
    for scan in 0..20 {
        less.show(&mut watch.snapshot);
        watch.snapshot.threads.dropped = 1;
        let changes = watch.update_from();
        assert_eq!(changes, ["limit Threads 64 1"][..usize::from(scan == 0)]);
    }
    world().show(&mut watch.snapshot);
    assert_eq!(
        watch.update_from(),
        ["cleared Threads 64"],
        "100 is older than 200, so it is baseline"
    );
}

#[test]
fn an_end_is_reported_in_time_if_views_are_never_complete() {
    for idr in [true, false] {
        let mut watch = Watch::after(&world());
        let mut torn = world();
        torn.remove(100);
        (torn.idr_complete, torn.task_list_closed) = (idr, !idr);
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
fn an_interrupted_absence_or_a_living_thread_ends_nothing() {
    let with = world().with(FakeProcess::new(300).with_thread(301));
    let mut watch = Watch::after(&with);
    let mut torn = with.clone();
    torn.idr_complete = false;
    torn.remove(300);
    let mut seen = with.clone();
    seen.idr_complete = false;
    for _ in 0..3 {
        for _ in 0..7 {
            assert_eq!(watch.scan(&torn), NOTHING);
        }
        assert_eq!(watch.scan(&seen), NOTHING);
    }
    // A thread of the process keeps it, too.
    for scan in 0..30 {
        let shown = if scan % 8 == 7 { &with } else { &torn };
        shown.show(&mut watch.snapshot);
        watch.snapshot.idr_complete = false;
        if scan % 8 == 7 {
            for row in watch.snapshot.threads.iter_mut().filter(|row| row.task.pid == 300) {
                row.task.pid = 302;
            }
            let last = watch.snapshot.processes.len() - 1;
            watch.snapshot.processes.truncate(last);
            watch.snapshot.by_pid.truncate(last);
        }
        assert_eq!(watch.update_from(), NOTHING);
    }
    // Scans that show no process at all prove nothing.
    for _ in 0..20 {
        watch.snapshot.processes.clear();
        watch.snapshot.threads.truncate(1);
        watch.snapshot.by_pid.clear();
        watch.snapshot.by_tid.clear();
        assert_eq!(watch.update_from(), NOTHING);
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
    // Like its parent, until it calls exec.
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
fn a_process_inside_exec_is_reported_with_its_arguments() {
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
    assert_eq!(watch.scan(&world().with(child)), NOTHING, "it was reported already");
}

#[test]
fn a_process_that_stays_inside_exec_is_reported_in_the_end() {
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
fn a_fork_without_exec_is_reported_after_its_grace() {
    let mut watch = Watch::after(&world());
    let mut child = FakeProcess::new(300);
    child.parent = 100;
    let with = world().with(child);
    assert_eq!(watch.scan(&with), NOTHING);
    assert_eq!(watch.scan(&with), ["+process 300 task300"]);
}

#[test]
fn a_fork_that_ends_within_its_grace_is_reported() {
    let mut watch = Watch::after(&world());
    let mut child = FakeProcess::new(300);
    child.parent = 100;
    assert_eq!(watch.scan(&world().with(child)), NOTHING);
    assert_eq!(watch.scan(&world()), ["+process 300 task300", "-process 300 task300"]);
}

#[test]
fn a_process_that_is_never_stable_is_reported_in_the_end() {
    let mut watch = Watch::after(&world());
    let mut restless = FakeProcess::new(300);
    restless.stable = false;
    let with = world().with(restless);
    let changes: Vec<_> = (0..10).flat_map(|_| watch.scan(&with)).collect();
    assert_eq!(changes, ["+process 300 task300"]);
}

/// A process may swap its descriptor table all the time: it must still be compared.
#[test]
fn a_process_that_swaps_its_descriptor_table_is_compared_and_counted() {
    let mut watch = Watch::quiet();
    watch.scan(&world());
    let mut swapping = world();
    let process = swapping.process(100);
    *process = process.clone().with_thread(101).with_file(9, FakeFile::pipe(1 << 40, 8));
    process.files_stable = false;
    assert_eq!(watch.scan(&swapping), ["+thread 100/101"], "its table may be another process's");
    assert_eq!(watch.state.unstable().missed(), 0);
    for _ in 0..100 {
        assert_eq!(watch.scan(&swapping), NOTHING);
    }
    let unstable = watch.state.unstable();
    assert_eq!((unstable.missed(), unstable.process_id()), (1, Some(100)), "one process");
    swapping.process(100).files_stable = true;
    assert_eq!(watch.scan(&swapping), ["+fd 100/9 pipe:[8]"]);
    assert_eq!(watch.state.unstable().standing(), 0);
}

#[test]
fn an_unstable_process_keeps_its_names() {
    let named = |watch: &Watch| {
        let (_, process) = watch.state.processes().find(|(_, it)| it.process_id() == 300).unwrap();
        let facts = process.facts(&watch.state.names.strings);
        [facts.executable, facts.command_line]
            .map(|text| String::from_utf8_lossy(text.unwrap_or_default()).into_owned())
    };
    let mut watch = Watch::after(&world().with(FakeProcess::new(300)));
    assert_eq!(named(&watch), ["/bash", "bash\0-i\0"]);
    // Its memory belongs to another process meanwhile.
    let mut torn = FakeProcess::new(300);
    torn.stable = false;
    torn.executable = Some(FakeFile::regular(0xffff_8881_0000_9000, 99, "other"));
    torn.arguments = b"other\0".to_vec();
    watch.scan(&world().with(torn.clone()));
    assert_eq!(named(&watch), ["/bash", "bash\0-i\0"]);
    // After an exec, the names of the last program count no more.
    torn.exec_id += 1;
    watch.scan(&world().with(torn.clone()));
    assert_eq!(named(&watch), ["", ""]);
    // Even doubtful names of a process that never holds still count in the end.
    let (mut scans, mut ended) = (0, torn.clone());
    while named(&watch) == ["", ""] {
        watch.scan(&world().with(torn.clone()));
        scans += 1;
    }
    assert_eq!((named(&watch), scans), (["/other", "other\0"].map(str::to_owned), 2));
    // The memory of its executable may be another file's by the end of the scan.
    (torn.exec_id, torn.fate) = (torn.exec_id + 1, TaskFate::ProgramChanged);
    for _ in 0..10 {
        watch.scan(&world().with(torn.clone()));
        assert_eq!(named(&watch), ["", ""]);
    }
    torn.fate = TaskFate::Lives;
    watch.scan(&world().with(torn.clone()));
    assert_eq!(named(&watch), ["/other", "other\0"]);
    // So do those of one that has ended: no later scan shows them.
    ended.exec_id += 1;
    (ended.fate, ended.executable) = (TaskFate::Ended, torn.executable);
    watch.scan(&world().with(ended));
    assert_eq!(named(&watch), ["/other", "other\0"]);
}

#[test]
fn what_was_read_of_another_task_s_memory_is_not_used() {
    let mut watch = Watch::after(&world().with(FakeProcess::new(300)));
    let mut replaced = FakeProcess::new(300);
    (replaced.stable, replaced.fate) = (false, TaskFate::Replaced);
    (replaced.name, replaced.exec_id) = ("other".into(), 9);
    watch.scan(&world().with(replaced.clone()));
    let (_, known) = watch.state.processes().find(|(_, it)| it.process_id() == 300).unwrap();
    assert_eq!(known.name(), b"task300");
    // Nobody is new who was not there at the end.
    for fate in [TaskFate::Replaced, TaskFate::Unfinished] {
        let mut stranger = FakeProcess::new(301);
        stranger.fate = fate;
        let world = world().with(FakeProcess::new(300)).with(stranger);
        assert_eq!(watch.scan(&world), NOTHING, "{fate:?}");
    }
}

#[test]
fn descriptors_that_exec_closes_belong_to_the_previous_program() {
    let closed_by = |watch: &Watch, on_exec| {
        let (_, process) = watch.state.processes().find(|(_, it)| it.process_id() == 300).unwrap();
        let described = process.described_at_close(on_exec);
        let facts = described.facts(&watch.state.names.strings);
        let executable = String::from_utf8_lossy(facts.executable.unwrap_or_default()).into_owned();
        (executable, facts.self_exec_id.unwrap())
    };
    let (bash, other) = (("/bash".to_owned(), 2), ("/other".to_owned(), 3));
    let mut watch = Watch::after(&world().with(FakeProcess::new(300)));
    let mut next = FakeProcess::new(300);
    next.executable = Some(FakeFile::regular(0xffff_8881_0000_9000, 99, "other"));
    next.in_exec = true;
    // Its memory is the next program's, everything else the last one's.
    watch.scan(&world().with(next.clone()));
    assert_eq!(closed_by(&watch, false), bash);
    // It is not compared with its old state until it is stable.
    (next.in_exec, next.stable, next.exec_id) = (false, false, 3);
    watch.scan(&world().with(next.clone()));
    next.stable = true;
    watch.scan(&world().with(next.clone()));
    assert_eq!((closed_by(&watch, true), closed_by(&watch, false)), (bash, other.clone()));
    // Descriptors that close from now on belong to the new program.
    watch.scan(&world().with(next));
    assert_eq!((closed_by(&watch, true), closed_by(&watch, false)), (other.clone(), other));
}

#[test]
fn a_reused_process_id_is_another_process() {
    let mut watch = Watch::after(&world());
    let mut other = world();
    other.process(100).start += 7;
    other.process(100).name = "other".into();
    assert_eq!(watch.scan(&other), ["-process 100 task100", "+process 100 other"]);
    let mut torn = other.clone();
    torn.process(100).start += 7;
    torn.idr_complete = false;
    let changes = watch.scan(&torn);
    assert_eq!(changes, ["-process 100 other", "+process 100 other"], "any scan shows that");
}

#[test]
fn absence_from_an_incomplete_scan_proves_nothing() {
    let mut watch = Watch::after(&world());
    let mut torn = world();
    torn.remove(100);
    for _ in 0..3 {
        torn.task_list_closed = false;
        torn.idr_complete = true;
        assert_eq!(watch.scan(&torn), NOTHING);
        torn.task_list_closed = true;
        torn.idr_complete = false;
        assert_eq!(watch.scan(&torn), NOTHING);
    }
    assert_eq!(watch.scan(&world()), NOTHING);
    torn.idr_complete = true;
    assert_eq!(watch.scan(&torn), ["-process 100 task100"]);
}

#[test]
fn absence_from_a_scan_with_unreadable_parts_must_be_confirmed() {
    let mut watch = Watch::after(&world());
    let mut torn = world();
    torn.remove(100);
    torn.unreadable = 1;
    assert_eq!(watch.scan(&torn), NOTHING);
    assert_eq!(watch.scan(&world()), NOTHING, "it continues");
    assert_eq!(watch.scan(&torn), NOTHING);
    assert_eq!(watch.scan(&torn), ["-process 100 task100"]);
}

#[test]
fn a_process_whose_threads_are_seen_goes_on() {
    let with = world().with(FakeProcess::new(300).with_thread(301));
    let mut watch = Watch::after(&with);
    // A thread takes its leader's place: for a moment no scan finds a leader.
    with.show(&mut watch.snapshot);
    for row in watch.snapshot.threads.iter_mut().filter(|row| row.task.pid == 300) {
        row.task.pid = 302;
    }
    let last = watch.snapshot.processes.len() - 1;
    watch.snapshot.processes.truncate(last);
    let by_pid = watch.snapshot.by_pid.len() - 1;
    watch.snapshot.by_pid.truncate(by_pid);
    assert_eq!(watch.update_from(), NOTHING);
    // Another task_struct with the same process id and start.
    let mut taken_over = with.clone();
    taken_over.process(300).address += 0x4000;
    taken_over.process(300).exec_id += 1;
    taken_over.process(300).threads.clear();
    assert_eq!(watch.scan(&taken_over), ["-thread 300/301"]);
}

#[test]
fn a_zombie_is_reported_once_after_its_time() {
    let mut watch = Watch::after(&world());
    watch.state.set_thresholds(Thresholds { zombie_after_ns: 30_000_000, ..Thresholds::default() });
    let mut dead = world();
    dead.process(100).become_zombie();
    // From the first scan that shows it, 10 ms apart.
    for _ in 0..3 {
        assert_eq!(watch.scan(&dead), NOTHING);
    }
    assert_eq!(watch.scan(&dead), ["zombie 100"]);
    assert_eq!(watch.scan(&dead), NOTHING);
    dead.remove(100);
    assert_eq!(watch.scan(&dead), ["-process 100 task100"]);
}

#[test]
fn a_zombie_is_reported_after_ten_seconds_by_default() {
    let mut watch = Watch::after(&world());
    watch.state.set_thresholds(Thresholds::default());
    let mut dead = world();
    dead.process(100).become_zombie();
    for _ in 0..1000 {
        assert_eq!(watch.scan(&dead), NOTHING);
    }
    assert_eq!(watch.scan(&dead), ["zombie 100"]);
}

#[test]
fn a_zombie_that_is_reported_at_once_was_seen_twice() {
    let mut watch = Watch::after(&world());
    watch.state.set_thresholds(Thresholds { zombie_after_ns: 0, ..Thresholds::default() });
    let mut dead = world();
    dead.process(100).become_zombie();
    assert_eq!(watch.scan(&dead), NOTHING);
    assert_eq!(watch.scan(&dead), ["zombie 100"]);
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
fn a_leader_that_ends_before_its_threads_is_no_zombie() {
    let with = world().with(FakeProcess::new(300).with_thread(301));
    let mut watch = Watch::after(&with);
    let mut headless = with.clone();
    headless.process(300).exit_state = 0x20;
    for _ in 0..3 {
        assert_eq!(watch.scan(&headless), NOTHING);
    }
    headless.process(300).become_zombie();
    assert_eq!(watch.scan(&headless), NOTHING);
    assert_eq!(watch.scan(&headless), ["zombie 300"]);
}

#[test]
fn a_process_first_seen_as_a_zombie_is_created_too() {
    let mut watch = Watch::after(&world());
    let mut dead = FakeProcess::new(300);
    dead.become_zombie();
    let with = world().with(dead);
    assert_eq!(watch.scan(&with), ["+process 300 task300"]);
    assert_eq!(watch.scan(&with), ["zombie 300"]);
    assert_eq!(watch.scan(&world()), ["-process 300 task300"]);
}

#[test]
fn a_task_that_only_waits_to_be_freed_has_ended() {
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
fn threads_start_and_end() {
    let with = world().with(FakeProcess::new(300).with_thread(301));
    let mut watch = Watch::after(&with);
    let mut more = with.clone();
    more.process(300).threads.push(FakeThread::new(303));
    more.process(300).threads.push(FakeThread::new(305));
    assert_eq!(watch.scan(&more), ["+thread 300/303", "+thread 300/305"]);
    more.process(300).threads[1].start = 9;
    more.process(300).threads.remove(0);
    let changes = watch.scan(&more);
    assert_eq!(changes, ["-thread 300/301", "-thread 300/303", "+thread 300/303"]);
    let mut torn = more.clone();
    torn.idr_complete = false;
    torn.process(300).threads.clear();
    assert_eq!(watch.scan(&torn), NOTHING);
    assert_eq!(watch.scan(&more), NOTHING);
    assert_eq!(watch.scan(&world()), ["-process 300 task300"], "the end of the process implies it");
}

#[test]
fn the_threads_of_a_new_process_are_reported_but_not_its_leader() {
    let mut watch = Watch::after(&world());
    let with = world().with(FakeProcess::new(300).with_thread(301));
    assert_eq!(watch.scan(&with), ["+process 300 task300", "+thread 300/301"]);
}

#[test]
fn a_full_table_of_processes_is_reported_once_and_keeps_the_oldest() {
    let small = Limits { processes: 4, ..limits() };
    let mut watch = Watch::new(&small, StateSettings::default());
    assert_eq!(watch.scan(&world()), NOTHING);
    let mut crowd = world();
    for pid in 301..=304 {
        crowd.processes.push(FakeProcess::new(pid).with_thread(pid + 1000));
    }
    let changes = watch.scan(&crowd);
    assert_eq!(changes, ["+process 301 task301", "+thread 301/1301", "limit Processes 4 3"]);
    assert_eq!(watch.scan(&crowd), NOTHING);
    assert_eq!(watch.state.usage(Limit::Processes).untracked, 3);
    crowd.remove(301);
    let changes = watch.scan(&crowd);
    assert_eq!(changes, ["-process 301 task301", "+process 302 task302", "+thread 302/1302"]);
    crowd.remove(303);
    crowd.remove(304);
    assert_eq!(watch.scan(&crowd), NOTHING, "not enough room to clear the limit");
    crowd.remove(302);
    assert_eq!(watch.scan(&crowd), ["-process 302 task302", "cleared Processes 4"]);
}

#[test]
fn baseline_processes_that_find_room_later_are_not_reported_as_created() {
    let small = Limits { processes: 2, ..limits() };
    let mut watch = Watch::new(&small, StateSettings::default());
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
    let changes: Vec<String> = (0..300).flat_map(|_| watch.scan(&world)).collect();
    assert_eq!(changes, ["missed 98 of 100"]);
    // The rest is reported at the end.
    world.forks = Some(1102);
    assert_eq!(watch.scan(&world), NOTHING);
    let mut changes = Vec::new();
    let now = watch.now;
    for _ in 0..2 {
        watch.state.finish(
            &watch.snapshot,
            now,
            &mut |_: &ScanContext<'_>, change: &Change<'_>| {
                changes.push(format!("{change:?}"));
            },
        );
    }
    assert_eq!(changes, ["BirthsMissed(Births { born: 2, seen: 0 })"]);
}

#[test]
fn after_forgetting_the_next_scan_is_a_new_baseline() {
    let mut watch = Watch::after(&world());
    watch.state.forget();
    let mut other = World::default().with(FakeProcess::new(77));
    assert_eq!(watch.scan(&other), NOTHING);
    other.remove(77);
    assert_eq!(watch.scan(&other), ["-process 77 task77"]);
}
