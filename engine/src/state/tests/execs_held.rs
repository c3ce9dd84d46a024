//! What a scan shows in the middle of an exec is reported with the program that the exec begins.

use core::cell::Cell;

use panoptes_decoders::kernel::task_struct::PF_FORKNOEXEC;

use super::watch::{NOTHING, Watch, at_once, limits};
use super::world::{FakeArea, FakeFile, FakeProcess, R, W, World, X, two_processes as world};
use crate::limits::Limits;

const LOG: &str = "/log";

/// A child of process 100 that has not called exec, and runs the parent's program.
fn fork() -> FakeProcess {
    let mut child = FakeProcess::new(300);
    (child.parent, child.flags) = (100, PF_FORKNOEXEC);
    child
}

/// After a first scan; such a child has been reported.
fn watch() -> (Watch, World) {
    watch_within(&limits())
}

fn watch_within(limits: &Limits) -> (Watch, World) {
    let mut watch = Watch::new(limits, at_once());
    watch.shows_programs = true;
    assert_eq!(watch.scan(&world()), NOTHING);
    let with = world().with(fork());
    assert_eq!(watch.scan(&with), NOTHING);
    assert_eq!(watch.scan(&with), ["+process 300 task300"]);
    (watch, with)
}

/// Begins an exec: the process has the memory of the next program, and no arguments.
fn begin_exec(process: &mut FakeProcess, name: &str) {
    let number = process.mm % 0x1_0000;
    let file = FakeFile::regular(0xffff_8881_0001_0000 + number, 100 + number, name);
    (process.in_exec, process.flags) = (true, 0);
    process.mm += 0x800;
    process.areas = vec![FakeArea::of_file(0x40_0000, 0x40_8000, R | X, &file)];
    process.executable = Some(file);
    process.arguments = format!("{name}\0-x\0").into_bytes();
}

/// The exec ends: the process counts as running the next program.
fn count_exec(process: &mut FakeProcess, name: &str) {
    process.exec_id += 1;
    process.name = name.into();
}

#[test]
fn what_is_mapped_inside_exec_is_reported_with_the_program_once_that_has_arguments() {
    let (mut watch, mut with) = watch();
    begin_exec(with.process(300), "ls");
    assert_eq!(watch.scan(&with), NOTHING, "it counts as the shell that it was");
    count_exec(with.process(300), "ls");
    assert_eq!(watch.scan(&with), NOTHING, "it has no arguments yet");
    with.process(300).in_exec = false;
    assert_eq!(watch.scan(&with), ["+area 300 400000-408000 /ls by /ls: ls -x"]);
    assert_eq!(watch.scan(&with), NOTHING, "each area is reported once");
}

#[test]
fn an_area_that_exec_moves_is_reported_where_it_stays() {
    let (mut watch, mut with) = watch();
    begin_exec(with.process(300), "ls");
    count_exec(with.process(300), "ls");
    with.process(300).areas.push(FakeArea::anonymous(0x7f_0000, 0x7f_1000, R | W));
    assert_eq!(watch.scan(&with), NOTHING);
    with.process(300).areas[1] = FakeArea::anonymous(0x7a_0000, 0x7a_1000, R | W);
    assert_eq!(watch.scan(&with), NOTHING);
    with.process(300).in_exec = false;
    assert_eq!(
        watch.scan(&with),
        ["+area 300 400000-408000 /ls by /ls: ls -x", "+area 300 7a0000-7a1000 - by /ls: ls -x"]
    );
}

#[test]
fn a_process_that_ends_inside_exec_has_its_records_with_the_program_before_its_end() {
    for is_zombie in [false, true] {
        let (mut watch, mut with) = watch();
        begin_exec(with.process(300), "ls");
        count_exec(with.process(300), "ls");
        let log = FakeFile::regular(0xffff_8881_0002_0000, 40, "log");
        with.process(300).files.push((3, log));
        assert_eq!(watch.scan(&with), NOTHING);
        if is_zombie {
            with.process(300).become_zombie();
        } else {
            with.remove(300);
        }
        let held = ["+fd 300/3 /log by /ls: ?", "+area 300 400000-408000 /ls by /ls: ?"];
        let lines = watch.scan(&with);
        assert_eq!(lines[..2], held);
        let end: &[&str] = if is_zombie { &[] } else { &["-process 300 ls"] };
        assert_eq!(lines[2..], *end);
    }
}

#[test]
fn descriptors_wait_for_the_program_and_keep_their_order() {
    let (mut watch, mut with) = watch();
    begin_exec(with.process(300), "ls");
    count_exec(with.process(300), "ls");
    let log = FakeFile::regular(0xffff_8881_0002_0000, 40, "log");
    let socket = FakeFile::regular(0xffff_8881_0003_0000, 41, "closes-on-exec");
    with.process(300).files = vec![(3, log), (4, socket)];
    assert_eq!(watch.scan(&with), NOTHING);
    with.process(300).files.pop();
    assert_eq!(
        watch.scan(&with),
        ["+fd 300/4 /closes-on-exec by /ls: ?", "-fd 300/4 /closes-on-exec by /ls: ?"],
        "a close never comes before its opening"
    );
    with.process(300).in_exec = false;
    assert_eq!(
        watch.scan(&with),
        [
            format!("+fd 300/3 {LOG} by /ls: ls -x").as_str(),
            "+area 300 400000-408000 /ls by /ls: ls -x"
        ]
    );
    with.process(300).files.clear();
    assert_eq!(watch.scan(&with), [format!("-fd 300/3 {LOG} by /ls: ls -x")]);
}

#[test]
fn an_exec_that_takes_long_is_reported_in_the_middle() {
    let (mut watch, mut with) = watch();
    begin_exec(with.process(300), "ls");
    count_exec(with.process(300), "ls");
    for scan in 0..50 {
        assert_eq!(watch.scan(&with), NOTHING, "scan {scan}");
    }
    assert_eq!(watch.scan(&with), ["+area 300 400000-408000 /ls by /ls: ?"], "after 500 ms");
    with.process(300).areas.push(FakeArea::anonymous(0x50_0000, 0x50_1000, R | W));
    assert_eq!(watch.scan(&with), ["+area 300 500000-501000 - by /ls: ?"]);
    with.process(300).in_exec = false;
    assert_eq!(watch.scan(&with), NOTHING);
}

#[test]
fn what_waits_is_not_lost_if_the_next_scans_show_less() {
    type Hide = fn(&mut FakeProcess);
    let hides: [(&str, Hide); 3] = [
        ("areas", |process| (process.mm_complete, process.areas) = (false, Vec::new())),
        ("address space", |process| process.mm = 0),
        ("a process at rest", |process| process.stable = false),
    ];
    for (what, hide) in hides {
        let (mut watch, mut with) = watch();
        begin_exec(with.process(300), "ls");
        count_exec(with.process(300), "ls");
        assert_eq!(watch.scan(&with), NOTHING);
        with.process(300).in_exec = false;
        hide(with.process(300));
        let lines = watch.scan(&with);
        assert_eq!(lines.len(), 1, "without {what}: {lines:?}");
        assert!(lines[0].starts_with("+area 300 400000-408000 /ls by /ls: "), "{lines:?}");
    }
}

#[test]
fn what_waits_is_reported_before_another_program_follows() {
    let (mut watch, mut with) = watch();
    begin_exec(with.process(300), "env");
    count_exec(with.process(300), "env");
    assert_eq!(watch.scan(&with), NOTHING);
    begin_exec(with.process(300), "ls");
    count_exec(with.process(300), "ls");
    assert_eq!(watch.scan(&with), ["+area 300 400000-408000 /env by /env: ?"]);
    with.process(300).in_exec = false;
    assert_eq!(watch.scan(&with), ["+area 300 400000-408000 /ls by /ls: ls -x"]);
}

#[test]
fn what_waits_is_reported_at_the_end_of_the_watch() {
    let (mut watch, mut with) = watch();
    begin_exec(with.process(300), "ls");
    count_exec(with.process(300), "ls");
    assert_eq!(watch.scan(&with), NOTHING);
    assert_eq!(watch.finish(), ["+area 300 400000-408000 /ls by /ls: ?"]);
}

#[test]
fn an_exec_that_waits_for_its_loader_is_reported_at_the_end_of_the_watch() {
    let (mut watch, mut with) = watch();
    watch.shows_execs = true;
    begin_exec(with.process(300), "ls");
    count_exec(with.process(300), "ls");
    assert_eq!(watch.scan(&with), NOTHING);
    with.process(300).in_exec = false;
    assert_eq!(watch.scan(&with), ["+area 300 400000-408000 /ls by /ls: ls -x"]);
    let lines = watch.finish();
    assert!(lines.len() == 1 && lines[0].starts_with("exec 300 ls "), "{lines:?}");
    assert!(lines[0].ends_with(" /ls:rx"), "{lines:?}");
    assert_eq!(watch.finish(), NOTHING);
}

#[test]
fn a_new_process_inside_exec_waits_too() {
    let mut watch = Watch::after(&world());
    watch.shows_programs = true;
    let mut with = world().with(fork());
    begin_exec(with.process(300), "ls");
    count_exec(with.process(300), "ls");
    for _ in 0..3 {
        assert_eq!(watch.scan(&with), NOTHING);
    }
    assert_eq!(watch.scan(&with), ["+process 300 ls"], "after its additional scans");
    assert_eq!(watch.scan(&with), NOTHING);
    with.process(300).in_exec = false;
    assert_eq!(watch.scan(&with), ["+area 300 400000-408000 /ls by /ls: ls -x"]);
}

#[test]
fn what_a_baseline_process_inside_exec_has_is_not_new() {
    let mut with = world();
    begin_exec(with.process(100), "ls");
    count_exec(with.process(100), "ls");
    let mut watch = Watch::after(&with);
    watch.shows_programs = true;
    assert_eq!(watch.scan(&with), NOTHING);
    with.process(100).in_exec = false;
    assert_eq!(watch.scan(&with), NOTHING);
    with.process(100).areas.push(FakeArea::anonymous(0x50_0000, 0x50_1000, R | W));
    assert_eq!(watch.scan(&with), ["+area 100 500000-501000 - by /ls: ls -x"]);
}

/// Number of areas, and of descriptors, that wait: more than are reported without a question.
const MANY: u32 = 1000;

/// A watch in whose last scan a process inside exec has many areas and descriptors that wait.
fn watch_with_many() -> (Watch, World) {
    let limits = Limits { file_descriptors: 4 * MANY, vmas: 4 * MANY, ..limits() };
    let (mut watch, mut with) = watch_within(&limits);
    let child = with.process(300);
    begin_exec(child, "ls");
    count_exec(child, "ls");
    let area = |at: u64| FakeArea::anonymous((at + 16) << 20, ((at + 16) << 20) + 4096, R | W);
    child.areas.extend((1..MANY.into()).map(area));
    let file = |at: u32| FakeFile::pipe(0xffff_8882_0000_0000 + u64::from(at) * 256, at.into());
    child.files = (0..MANY).map(|at| (at + 3, file(at))).collect();
    assert_eq!(watch.scan(&with), NOTHING);
    (watch, with)
}

#[test]
fn a_stop_in_the_middle_of_a_report_leaves_the_rest_for_the_end_of_the_watch() {
    type Next = fn(&mut World);
    let nexts: [(&str, Next); 4] = [
        ("its exec is over", |with| with.process(300).in_exec = false),
        ("it ends", |with| with.remove(300)),
        ("it becomes a zombie", |with| with.process(300).become_zombie()),
        ("another exec follows", |with| begin_exec(with.process(300), "id")),
    ];
    for (name, next) in nexts {
        let mut partial = 0;
        for last in 1..40 {
            let (mut watch, mut with) = watch_with_many();
            next(&mut with);
            let asked = Cell::new(0);
            let must_stop = || {
                asked.set(asked.get() + 1);
                asked.get() >= last
            };
            let mut lines = watch.scan_unless(&must_stop, &with);
            let is_partial = (1..2 * MANY as usize).contains(&lines.len());
            partial += u32::from(is_partial && asked.get() >= last);
            lines.extend(watch.finish());
            for kind in ["+fd 300/", "+area 300 "] {
                // An area of the program after that may wait, too.
                let is_its = |line: &&String| line.starts_with(kind) && !line.contains("/id");
                let mut of_kind: Vec<_> = lines.iter().filter(is_its).collect();
                assert_eq!(of_kind.len(), MANY as usize, "{name}, question {last}: {kind}");
                of_kind.sort();
                of_kind.dedup();
                assert_eq!(of_kind.len(), MANY as usize, "{name}, question {last}: {kind} twice");
            }
        }
        assert!(partial > 3, "{name}: {partial} stops were in the middle of the report");
    }
}

#[test]
fn what_is_removed_above_the_share_of_a_process_is_reported_before() {
    let (mut watch, mut with) = watch_within(&Limits { file_descriptors: 16, ..limits() });
    let file = |at: u32| FakeFile::pipe(0xffff_8882_0000_0000 + u64::from(at) * 256, at.into());
    let child = with.process(300);
    begin_exec(child, "ls");
    count_exec(child, "ls");
    child.files = (0..12).map(|at| (at + 3, file(at))).collect();
    assert_eq!(watch.scan(&with), NOTHING);
    // Another process needs room, and so the highest descriptors lose theirs.
    with.process(100).files.extend((0..12).map(|at| (at + 50, file(at + 50))));
    let lines = watch.scan(&with);
    let of_child = lines.iter().filter(|line| line.starts_with("+fd 300/")).count();
    assert_eq!(of_child, 12, "{lines:?}");
}

/// The lines of one kind, each of which must be there once.
fn each_once<'l>(lines: &'l [String], kind: &str, what: &str) -> Vec<&'l String> {
    let mut of_kind: Vec<_> = lines.iter().filter(|line| line.starts_with(kind)).collect();
    of_kind.sort();
    let count = of_kind.len();
    of_kind.dedup();
    assert_eq!(of_kind.len(), count, "{what}: {kind} twice");
    of_kind
}

/// Answers with yes from the question with this number on.
fn stop_at(last: u32) -> impl Fn() -> bool {
    let asked = Cell::new(0);
    move || {
        asked.set(asked.get() + 1);
        asked.get() >= last
    }
}

#[test]
fn a_stop_in_the_report_of_one_process_reports_nothing_of_another_twice() {
    for last in 1..40 {
        let (mut watch, mut with) = watch_with_many();
        // A process that is tracked before the first one waits, too.
        begin_exec(with.process(200), "id");
        count_exec(with.process(200), "id");
        assert_eq!(watch.scan(&with), NOTHING);
        with.remove(300);
        let mut lines = watch.scan_unless(&stop_at(last), &with);
        lines.extend(watch.finish());
        let what = format!("question {last}");
        assert_eq!(each_once(&lines, "+area 300 ", &what).len(), MANY as usize, "{what}");
        assert_eq!(each_once(&lines, "+area 200 ", &what).len(), 1, "{what}");
    }
}

#[test]
fn a_stop_in_the_report_of_what_is_removed_above_a_share_reports_nothing_twice() {
    let file = |at: u32| FakeFile::pipe(0xffff_8882_0000_0000 + u64::from(at) * 256, at.into());
    let files = |range: core::ops::Range<u32>| range.map(|at| (at, file(at))).collect::<Vec<_>>();
    let mut partial = 0;
    for last in 1..60 {
        let limits = Limits { file_descriptors: 4 * MANY, ..limits() };
        let (mut watch, mut with) = watch_within(&limits);
        begin_exec(with.process(300), "ls");
        count_exec(with.process(300), "ls");
        with.process(300).files = files(2 * MANY..3 * MANY + MANY / 2);
        assert_eq!(watch.scan(&with), NOTHING);
        // It opens lower ones, and another process wants as many.
        with.process(300).files = files(3..3 + MANY + MANY / 2);
        with.process(300).files.extend(files(2 * MANY..3 * MANY + MANY / 2));
        let mut other = FakeProcess::new(400);
        other.files = files(4 * MANY..7 * MANY);
        with = with.with(other);
        let mut lines = watch.scan_unless(&stop_at(last), &with);
        partial += u32::from((1..MANY as usize).contains(&lines.len()));
        lines.extend(watch.finish());
        let what = format!("question {last}");
        let of_child = each_once(&lines, "+fd 300/", &what);
        let waited = |line: &&&String| {
            line["+fd 300/".len()..]
                .split(' ')
                .next()
                .is_some_and(|number| number.parse().is_ok_and(|number: u32| number >= 2 * MANY))
        };
        assert_eq!(of_child.iter().filter(waited).count() as u32, MANY + MANY / 2, "{what}");
    }
    assert!(partial > 2, "{partial} stops were in the middle of the report");
}
