//! Execs: each program that a scan shows is reported once, with what it replaced and mapped.

use panoptes_decoders::kernel::task_struct::PF_FORKNOEXEC;

use super::watch::{NOTHING, Watch};
use super::world::{FakeArea, FakeFile, FakeProcess, R, W, World, X, two_processes as world};

/// Shows execs, after a first scan.
fn watch(world: &World) -> Watch {
    let mut watch = Watch::after(world);
    watch.shows_execs = true;
    watch
}

/// A child of process 100 that has not called exec.
fn fork() -> FakeProcess {
    let mut child = FakeProcess::new(300);
    (child.parent, child.flags) = (100, PF_FORKNOEXEC);
    child.name = "task100".into();
    child
}

/// Lets it run another program, with the areas of a loader that has not begun.
fn exec(process: &mut FakeProcess, name: &str) {
    let file = FakeFile::regular(0xffff_8881_0001_0000 + u64::from(process.exec_id), 70, name);
    (process.name, process.flags) = (name.into(), 0);
    process.exec_id += 1;
    process.mm += 0x800;
    process.areas = vec![FakeArea::of_file(0x40_0000, 0x40_8000, R | X, &file)];
    process.executable = Some(file);
}

#[test]
fn a_program_that_replaces_a_known_one_is_reported_once_it_is_loaded() {
    let mut watch = watch(&world());
    let mut with = world().with(fork());
    assert_eq!(watch.scan(&with), NOTHING);
    assert_eq!(watch.scan(&with), ["+process 300 task100"]);
    exec(with.process(300), "cat");
    assert_eq!(watch.scan(&with), ["+area 300 400000-408000 /cat"]);
    let libc = FakeFile::regular(0xffff_8881_0002_0000, 71, "libc.so.6");
    let loaded = &mut with.process(300).areas;
    loaded.push(FakeArea::of_file(0x50_0000, 0x50_8000, R, &libc));
    loaded.push(FakeArea::of_file(0x50_8000, 0x51_0000, R | X, &libc));
    loaded.push(FakeArea::of_file(0x51_0000, 0x51_1000, R | W, &libc));
    let mapped = watch.scan(&with);
    assert!(mapped.len() == 3 && mapped.iter().all(|line| line.starts_with("+area")), "{mapped:?}");
    assert_eq!(watch.scan(&with), NOTHING, "10 ms without another file");
    assert_eq!(watch.scan(&with), ["exec 300 cat after /bash /cat:rx /libc.so.6:rwx"]);
    for _ in 0..20 {
        assert_eq!(watch.scan(&with), NOTHING);
    }
}

#[test]
fn a_program_whose_files_change_all_the_time_is_reported_after_a_while() {
    let mut watch = watch(&world());
    let mut with = world().with(fork());
    watch.scan(&with);
    watch.scan(&with);
    exec(with.process(300), "python3");
    let mut at = 0;
    let lines = loop {
        let start = 0x50_0000 + at * 0x1000;
        with.process(300).areas.push(FakeArea::anonymous(start, start + 0x1000, at % 2));
        let lines = watch.scan(&with);
        if lines.iter().any(|line| line.starts_with("exec")) {
            break lines;
        }
        at += 1;
    };
    assert_eq!(at, 10, "100 ms after the scan that showed it first");
    assert_eq!(lines.last().unwrap(), "exec 300 python3 after /bash /python3:rx");
}

#[test]
fn a_process_that_has_called_exec_before_it_is_seen_is_reported_too() {
    let mut watch = watch(&world());
    let mut child = fork();
    exec(&mut child, "date");
    let with = world().with(child);
    let lines = watch.scan(&with);
    assert_eq!(lines, ["+process 300 date", "+area 300 400000-408000 /date"]);
    assert_eq!(watch.scan(&with), NOTHING);
    assert_eq!(watch.scan(&with), ["exec 300 date /date:rx"], "its parent may have changed");
}

#[test]
fn programs_that_follow_each_other_fast_are_reported_one_by_one() {
    let mut watch = watch(&world());
    let mut with = world().with(fork());
    watch.scan(&with);
    watch.scan(&with);
    exec(with.process(300), "env");
    assert_eq!(watch.scan(&with), ["+area 300 400000-408000 /env"]);
    exec(with.process(300), "nice");
    let lines = watch.scan(&with);
    assert_eq!(lines, ["exec 300 env after /bash /env:rx", "+area 300 400000-408000 /nice"]);
    let ended = watch.scan(&world());
    assert_eq!(ended, ["exec 300 nice after /env /nice:rx", "-process 300 nice"]);
}

#[test]
fn a_zombie_is_reported_as_the_program_that_it_was() {
    let mut watch = watch(&world());
    let mut with = world().with(fork());
    watch.scan(&with);
    watch.scan(&with);
    exec(with.process(300), "true");
    assert_eq!(watch.scan(&with), ["+area 300 400000-408000 /true"]);
    with.process(300).become_zombie();
    assert_eq!(watch.scan(&with), ["exec 300 true after /bash /true:rx"]);
}

#[test]
fn forks_and_what_runs_already_have_executed_nothing() {
    let mut watch = watch(&world());
    let with = world().with(fork());
    let mut lines = Vec::new();
    for _ in 0..20 {
        lines.extend(watch.scan(&with));
    }
    lines.extend(watch.scan(&world()));
    assert_eq!(lines, ["+process 300 task100", "-process 300 task100"]);
}

#[test]
fn a_program_inside_exec_is_not_reported() {
    let mut watch = watch(&world());
    let mut with = world().with(fork());
    watch.scan(&with);
    watch.scan(&with);
    // Its memory is the next program's, its number still that of the last.
    let before = with.process(300).exec_id;
    exec(with.process(300), "id");
    (with.process(300).in_exec, with.process(300).exec_id) = (true, before);
    let execs = |lines: Vec<String>| lines.into_iter().filter(|line| line.starts_with("exec"));
    for _ in 0..20 {
        assert_eq!(execs(watch.scan(&with)).count(), 0);
    }
    (with.process(300).in_exec, with.process(300).exec_id) = (false, before + 1);
    let lines: Vec<_> = (0..3).flat_map(|_| execs(watch.scan(&with))).collect();
    assert_eq!(lines, ["exec 300 id after /bash /id:rx"]);
}
