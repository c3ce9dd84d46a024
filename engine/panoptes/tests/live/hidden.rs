//! A process that a rootkit hides is reported once, with the views that show it, and ends like any
//! other.
//!
//! The tests hide a process from outside, in the paused guest's memory (`kernel`). One test uses a
//! kernel module, like a real rootkit (`module`).

use std::ops::Range;
use std::time::{Duration, Instant};

use panoptes_decoders::source::{MemorySource, ReadRequest};
use panoptes_engine::limits::Limits;
use panoptes_engine::state::{Change, MachineState, ScanContext, StateSettings};
use panoptes_engine::system::kernel_of;
use panoptes_engine::time::Now;
use panoptes_engine::walk::{Scope, Walker, view};
use panoptes_profiles::{DiscoveryOptions, discover};
use panoptes_rig::{Flavor, Guest, gate};
use panoptes_sources::{FileSource, MachineSource as _};
use panoptes_tables::HashKey;

use crate::kernel::{From, GuestKernel, Hidden};
use crate::record::{Life, Record, count, list, only};
use crate::watcher::{PATIENCE, Watch, Watcher};
use crate::{barrier, inside, laws, module};

/// The 12th scan that shows a difference reports it. A barrier takes two scans or more. The first
/// of them may have begun before the change, so six barriers may be one scan too few.
const BARRIERS: u32 = 7;

/// Each view that a process is hidden from, and its name in the record.
const EACH: [(From, &str); 6] = [
    (From::TaskList, "the task list"),
    (From::Idr, "the pid IDR"),
    (From::Pids(0), "the list of its struct pid"),
    (From::ThreadGroup, "its thread group"),
    (From::Children, "its parent's children"),
    (From::ControlGroup, "its control group's tasks"),
];

/// All lists that `/proc`, the scheduler's interfaces and signals use.
const ALL: [From; 8] = [
    From::TaskList,
    From::Idr,
    From::Pids(0),
    From::Pids(1),
    From::Pids(2),
    From::Pids(3),
    From::Children,
    From::ControlGroup,
];

/// A process of the test, and the views that it is hidden from.
struct Case {
    life: Life,
    from: Vec<From>,
    missing: String,
    shown: Vec<&'static str>,
    hidden: Vec<Hidden>,
}

fn is_hidden(record: &Record) -> bool {
    record.is("process_hidden")
}

/// Waits until the watcher has scanned all processes several times.
fn wait_for_scans(guest: &mut Guest, watcher: &Watcher) {
    for _ in 0..BARRIERS {
        barrier::passed(guest, watcher);
    }
}

/// Changes memory while the guest is paused.
pub(crate) fn while_paused(guest: &mut Guest, change: impl FnOnce()) {
    guest.pause().unwrap();
    guest.memory_is_patched();
    change();
    guest.resume().unwrap();
}

#[track_caller]
fn assert_alert(alert: &Record, case: &Case, is_exact: bool) {
    let life = &case.life;
    assert_eq!(alert.life().as_ref(), Some(life));
    assert_eq!((&alert.0["message_type"], &alert.0["severity"]), (&"ALERT".into(), &"HIGH".into()));
    let detection = &alert.0["detection"];
    assert_eq!(detection["mitre_attack"], serde_json::json!(["T1014"]));
    assert!(detection["scans_confirmed"].as_u64() >= Some(2), "{alert}");
    assert!(detection["first_seen"].is_string(), "{alert}");
    let reason = detection["reason"].as_str().unwrap();
    println!("{}: {reason}", alert.time());
    assert!(reason.contains(&format!("(process {})", life.process_id)), "{reason}");
    let (missing, shown) =
        reason.split_once(" is not in ").unwrap().1.split_once(", but in ").unwrap();
    // The first of the scans may have run during the hiding, when only a part of it was done.
    let is_part = missing.split(", ").flat_map(|views| views.split(" or ")).all(|view| {
        case.missing.split(", ").flat_map(|views| views.split(" or ")).any(|hidden| hidden == view)
    });
    assert!(missing == case.missing || is_part && !is_exact, "{reason}");
    let shown = shown.split(", in ").next().unwrap();
    for view in &case.shown {
        assert!(shown.contains(view), "{view} is not in {reason}");
    }
}

/// Waits for the alert of each case, and checks that there is no other; `is_exact` if nothing
/// changes meanwhile.
fn expect(guest: &mut Guest, watcher: &Watcher, cases: &[Case], is_exact: bool) {
    for case in cases {
        let is_it =
            |record: &Record| is_hidden(record) && record.life().as_ref() == Some(&case.life);
        watcher.wait_for("the hidden process is reported", is_it);
    }
    wait_for_scans(guest, watcher);
    let records = watcher.records();
    let alerts = records.iter().filter(|record| is_hidden(record));
    assert_eq!(count(&records, "process_hidden"), cases.len(), "{}", list(alerts));
    for case in cases {
        let is_it =
            |record: &Record| is_hidden(record) && record.life().as_ref() == Some(&case.life);
        assert_alert(only(&records, "hiding", is_it), case, is_exact);
    }
}

/// Pauses a guest at a moment when every view shows every process.
pub(crate) fn pause_at_rest(guest: &mut Guest, kernel: &mut GuestKernel) {
    let begin = Instant::now();
    loop {
        guest.pause().unwrap();
        let Err(unrest) = is_at_rest(kernel) else { return };
        // The guest was paused while its kernel changed its lists.
        assert!(begin.elapsed() < PATIENCE, "{unrest}");
        guest.resume().unwrap();
    }
}

/// Checks that every view of a paused guest shows every process; the error names a view that does
/// not.
fn is_at_rest(kernel: &mut GuestKernel) -> Result<(), String> {
    // The first scan finds the run queues.
    kernel.scan();
    let snapshot = kernel.scan();
    let (mut groups, mut running) = (0, 0);
    for process in snapshot.processes.iter() {
        let leader = snapshot.leader(process).ok_or("a process has no first thread")?;
        let (task, views) = (&leader.task, leader.views);
        let of = format!("{} {}: {views:#x}", task.pid, task.name().escape_ascii());
        if !process.missing.is_empty() {
            return Err(format!("{of} is missing from {:#x}", process.missing.0));
        }
        if !process.unknown.is_empty() {
            return Err(format!("{of} is not sure for {:#x}", process.unknown.0));
        }
        groups += u32::from(views & (view::PROCESS_GROUP | view::SESSION) != 0);
        running += u32::from(views & view::RUN_QUEUE != 0);
    }
    let count = snapshot.processes.len();
    let counts = format!("{count} processes, {groups} in a group or session, {running} running");
    let is_whole = snapshot.task_list_closed && snapshot.losses.unreadable == 0;
    if groups == 0 || running == 0 || !is_whole {
        return Err(format!("{counts}, {:?}", snapshot.losses));
    }
    println!("{counts}");
    Ok(())
}

/// Starts the processes to hide: one for each view, then three for all views.
fn start_cases(guest: &mut Guest, watcher: &Watcher) -> Vec<Case> {
    let mut cases: Vec<Case> = EACH
        .iter()
        .map(|&(from, name)| Case {
            life: barrier::started(guest, watcher, "sleep 7000"),
            from: vec![from],
            missing: name.to_owned(),
            shown: EACH.iter().map(|&(_, name)| name).filter(|&other| other != name).collect(),
            hidden: Vec::new(),
        })
        .collect();
    let names: Vec<&str> =
        EACH.iter().map(|&(_, name)| name).filter(|name| !name.contains("thread")).collect();
    let (last_name, other_names) = names.split_last().unwrap();
    let from_all = format!("{} or {last_name}", other_names.join(", "));
    let busy = "sh -c 'while :; do :; done'";
    for (command, shown) in [
        ("sleep 7000", vec!["its thread group", "where it was before"]),
        (busy, vec!["its thread group", "the run queues"]),
        // Its child has it as parent.
        ("sh -c 'sleep 7000; :'", vec!["its thread group", "name as parent"]),
    ] {
        let life = barrier::started(guest, watcher, command);
        cases.push(Case {
            life,
            from: ALL.to_vec(),
            missing: from_all.clone(),
            shown,
            hidden: vec![],
        });
    }
    let parent = cases.last().unwrap().life.process_id;
    watcher.wait_for("the child of the last", |record| {
        record.is("process_created") && record.process()["process_parent_process_id"] == parent
    });
    cases
}

fn hiding_is_reported_once(flavor: Flavor) {
    let mut guest = inside::boot(flavor);
    let mut kernel = GuestKernel::of(&guest);
    let watcher = Watch::of(&guest).attached();
    // Processes at the ends of lists are not hidden: their neighbours would be the list heads.
    let first = barrier::started(&mut guest, &watcher, "setsid sleep 7000");
    let mut cases = start_cases(&mut guest, &watcher);
    let last = barrier::started(&mut guest, &watcher, "sleep 7000");

    pause_at_rest(&mut guest, &mut kernel);
    let tasks: Vec<_> = cases
        .iter()
        .map(|case| kernel.task(u32::try_from(case.life.process_id).unwrap()))
        .collect();
    guest.memory_is_patched();
    for (case, task) in cases.iter_mut().zip(&tasks) {
        case.hidden = case.from.iter().map(|&from| kernel.hide(task, from)).collect();
    }
    guest.resume().unwrap();
    expect(&mut guest, &watcher, &cases, false);

    // A watcher that starts only now reports them too, except the sleeper, to which nothing leads.
    let sleeper = cases.remove(EACH.len());
    for case in &mut cases {
        case.shown.retain(|&view| view != "where it was before");
    }
    let late = Watch::of(&guest).attached();
    expect(&mut guest, &late, &cases, true);
    laws::hold(&late.stop().records);
    cases.insert(EACH.len(), sleeper);

    // After the processes are put back, nothing more is reported.
    let before = watcher.records().len();
    while_paused(&mut guest, || {
        for hidden in cases.iter().rev().flat_map(|case| case.hidden.iter().rev()) {
            kernel.show(hidden);
        }
    });
    wait_for_scans(&mut guest, &watcher);
    let is_its = |record: &&Record| {
        record.life().is_some_and(|life| cases.iter().any(|case| case.life == life))
    };
    let records = watcher.records();
    let about: Vec<&Record> = records[before..].iter().filter(is_its).collect();
    assert!(about.is_empty(), "{}", list(about));
    pause_at_rest(&mut guest, &mut kernel);
    guest.resume().unwrap();

    // Their ends are reported under the same identity as their starts.
    let all: Vec<&Life> = cases.iter().map(|case| &case.life).chain([&first, &last]).collect();
    for life in &all {
        inside::run(&mut guest, &format!("kill {}", life.process_id));
    }
    for life in all {
        barrier::wait_for_end(&watcher, life);
    }
    let records = watcher.stop().records;
    laws::hold(&records);
    assert_eq!(count(&records, "process_hidden"), cases.len());
}

#[test]
#[ignore = "boots a guest"]
fn a_hidden_process_of_6_1_is_reported_once() {
    hiding_is_reported_once(Flavor::V6_1);
}

#[test]
#[ignore = "boots a guest"]
fn a_hidden_process_of_6_12_is_reported_once() {
    hiding_is_reported_once(Flavor::V6_12);
}

#[test]
#[ignore = "boots a guest"]
fn a_hidden_process_of_any_kernel_is_reported_once() {
    let name = "a_hidden_process_of_any_kernel_is_reported_once";
    if !gate::is_long_allowed(name, "boots 5.10 and 7") {
        return;
    }
    hiding_is_reported_once(Flavor::V5_10);
    hiding_is_reported_once(Flavor::V7);
}

/// A kernel module of the tests, built with the headers of Debian's kernel, removes a process from
/// the task list and from the list of its number. The watcher reports it while the machine runs.
#[test]
#[ignore = "boots a guest"]
fn a_process_that_a_module_hides_is_reported() {
    let name = "a_process_that_a_module_hides_is_reported";
    if !gate::is_long_allowed(name, "makes a kernel module") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let module = module::make(Flavor::V6_1, folder.path(), module::HIDE);
    let mut guest = inside::boot_with(Flavor::V6_1, |spec| {
        spec.files.push(("hide.ko".to_owned(), module));
    });
    let watcher = Watch::of(&guest).attached();
    let life = barrier::started(&mut guest, &watcher, "sleep 7000");
    let pid = life.process_id;
    let case = Case {
        life,
        from: Vec::new(),
        missing: "the task list or the list of its struct pid".to_owned(),
        shown: vec!["the pid IDR", "its thread group", "its parent's children"],
        hidden: Vec::new(),
    };
    // The module changes the kernel's lists like the other tests here.
    guest.memory_is_patched();
    inside::run(&mut guest, &format!("insmod /hide.ko pid={pid}"));
    let cases = [case];
    expect(&mut guest, &watcher, &cases, false);
    // The guest's own `/proc` does not show the process any more.
    let listed = inside::run(&mut guest, &format!("ls /proc 2>/dev/null | grep -cx {pid}; true"));
    assert_eq!(listed, ["0"]);
    inside::run(&mut guest, "rmmod hide");
    inside::run(&mut guest, &format!("kill {pid}"));
    barrier::wait_for_end(&watcher, &cases[0].life);
    let records = watcher.stop().records;
    laws::hold(&records);
    assert_eq!(count(&records, "process_hidden"), 1);
}

/// Memory from which every read takes some time, as over a bus.
struct SlowSource {
    source: FileSource,
    read: Duration,
}

/// How many reads are in flight at once.
const UNDER_WAY: usize = 256;

impl MemorySource for SlowSource {
    fn read_batch(&mut self, requests: &mut [ReadRequest], arena: &mut [u8]) {
        for requests in requests.chunks_mut(UNDER_WAY) {
            self.source.read_batch(requests, arena);
            std::thread::sleep(self.read * u32::try_from(requests.len()).unwrap());
        }
    }

    fn regions(&self) -> &[Range<u64>] {
        self.source.regions()
    }
}

/// Views that are read at very different times differ by all changes in between.
#[test]
#[ignore = "boots a guest"]
fn a_slow_scan_of_a_storm_reports_no_hidden_process() {
    let name = "a_slow_scan_of_a_storm_reports_no_hidden_process";
    if !gate::is_long_allowed(name, "reads slowly for a minute") {
        return;
    }
    let mut guest = inside::boot(Flavor::V6_12);
    let source = FileSource::open(guest.ram_path()).unwrap();
    let mut slow = SlowSource { source, read: Duration::ZERO };
    let profile = discover(&mut slow.source, &DiscoveryOptions::default(), &mut ()).unwrap();
    let (kernel, limits) = (kernel_of(&profile), Limits::default());
    guest.agent("storm rate=400 seconds=60").unwrap();
    for read in [200, 1000, 3000].map(Duration::from_nanos) {
        slow.read = read;
        let (mut walker, mut state) = (
            Walker::new(&limits, HashKey::new(1)),
            MachineState::new(&limits, StateSettings::default(), HashKey::new(1)),
        );
        let (mut scans, mut differences) = (0, 0);
        let mut reported = Vec::new();
        let end = Instant::now() + Duration::from_secs(15);
        while Instant::now() < end {
            slow.source.refresh();
            let snapshot = walker.scan(&mut slow, &kernel, Scope::ALL).unwrap();
            scans += 1;
            differences += snapshot.processes.iter().filter(|row| !row.missing.is_empty()).count();
            state.update(
                snapshot,
                Now::at(scans * 10_000_000),
                &mut |_: &ScanContext<'_>, change: &Change<'_>| {
                    if let Change::ProcessHidden { process, missing, shown, .. } = change {
                        reported.push(format!("{} {missing:?} {shown:?}", process.process_id()));
                    }
                },
            );
        }
        println!("{read:?} a read: {scans} scans, {differences} differences between views");
        assert!(reported.is_empty(), "{reported:?}");
    }
}
