//! A machine that starts hundreds of processes a second: all records about them are true.

use std::collections::{BTreeSet, HashSet};
use std::time::{Duration, Instant};

use panoptes_rig::{Flavor, Guest};

use crate::kernel::GuestKernel;
use crate::record::{Life, Record, count, list};
use crate::watcher::{Ended, PATIENCE, Watch, Watcher};
use crate::{barrier, inside, laws};

/// If set to 1, the storm lasts a full minute.
const LONG: &str = "PANOPTES_LONG";
const FORKS_PER_SECOND: u64 = 200;
/// Time between two checks of the storm's progress.
const ASK: Duration = Duration::from_secs(1);
/// Forks for a marker: its shell and its program.
const FORKS_OF_MARKER: u64 = 2;

/// The kernel's own count of forks. The test reads it from memory, which causes no forks.
struct Forks {
    before: u64,
    /// The watcher must have counted the forks up to this number.
    known: u64,
    after: u64,
}

#[test]
#[ignore = "boots a guest"]
fn a_storm_of_processes_is_reported_without_a_mistake() {
    let is_long = std::env::var_os(LONG).is_some_and(|value| value == "1");
    let seconds: u64 = if is_long { 60 } else { 20 };
    println!("{seconds} s of {FORKS_PER_SECOND} forks a second ({LONG}=1: a minute)");
    let mut guest = inside::boot(Flavor::V6_1);
    let mut kernel = GuestKernel::of(&guest);
    let mut forks = || kernel.scan().machine.total_forks.expect("the kernel counts forks");

    // The processes at the watcher's start are known exactly: the guest is paused until its scan.
    guest.pause().unwrap();
    let first = processes(&guest);
    let before = forks();
    let watcher = Watch::of(&guest).set("service.log_level=debug").attached();
    barrier::stood_still(&watcher);
    guest.resume().unwrap();

    let begin = Instant::now();
    let asked = FORKS_PER_SECOND * seconds;
    guest.agent(&format!("storm rate={FORKS_PER_SECOND} seconds={seconds}")).unwrap();
    wait_for_storm(&mut guest, asked);
    let took = begin.elapsed();
    // The first scan after the one that shows the marker counts all forks until then. The marker's
    // end causes no forks.
    let known = forks() + FORKS_OF_MARKER;
    let marker = barrier::started(&mut guest, &watcher, "sleep 7000");
    guest.agent("kill-all").unwrap();
    barrier::wait_for_end(&watcher, &marker);
    wait_until_same(&guest, &watcher, &first);
    guest.pause().unwrap();
    let forks = Forks { before, known, after: forks() };
    let ended = watcher.stop();

    let drops = |r: &&Record| r.is("process_created") && r.process_name() == "drop";
    println!(
        "{} records; {} processes created, {} terminated; of {asked} forks in {:.1} s {} were seen",
        ended.records.len(),
        count(&ended.records, "process_created"),
        count(&ended.records, "process_terminated"),
        took.as_secs_f64(),
        ended.records.iter().filter(drops).count(),
    );
    println!("{}", ended.said.join("\n"));
    check(&ended, &first, &forks, asked);
}

/// Checks the records, whatever the number of processes that scans saw.
fn check(ended: &Ended, first: &BTreeSet<Life>, forks: &Forks, asked: u64) {
    let records = &ended.records;
    assert_eq!(ended.code, Some(0));
    laws::hold(records);
    let hidden = records.iter().filter(|record| record.is("process_hidden"));
    assert_eq!(count(records, "process_hidden"), 0, "{}", list(hidden));
    assert_eq!(count(records, "records_dropped"), 0);
    let lives = |name: &str| -> BTreeSet<Life> {
        records.iter().filter(|record| record.is(name)).filter_map(Record::life).collect()
    };
    let is_drop = |r: &Record| r.is("process_created") && r.process_name() == "drop";
    assert!(records.iter().any(is_drop), "no process of the storm was reported");
    let (created, terminated) = (lives("process_created"), lives("process_terminated"));
    let born: BTreeSet<Life> = first.union(&created).cloned().collect();
    assert!(terminated.is_subset(&born), "{:?}", terminated.difference(&born).collect::<Vec<_>>());
    // Processes that no scan saw are counted, from the kernel's own count. On a slow machine, some
    // reports are about late scans alone.
    let reported = |key: &str| -> u64 {
        let reports = records.iter().filter(|record| record.is("coverage_report"));
        reports.filter_map(|record| record.details("system_activity")[key].as_u64()).sum()
    };
    let seen = (created.len() + count(records, "thread_created")) as u64;
    let unseen = reported("processes_unseen");
    let Forks { before, known, after } = *forks;
    println!("{} forks by the kernel's count, {seen} reported, {unseen} missed", after - before);
    assert!(known - before > asked, "the storm was none");
    // Both are equal, unless the kernel itself has just started a task.
    let counted = before + seen + unseen;
    assert!(
        (known..=after).contains(&counted),
        "{before} forks, then {seen} reported, {unseen} missed, {known} to {after} in the end"
    );
    assert_eq!(reported("processes_born"), reported("processes_seen") + unseen);
}

/// Waits until the storm is over. Fails if it makes no progress.
fn wait_for_storm(guest: &mut Guest, forks: u64) {
    let (mut last, mut since) = (0, Instant::now());
    loop {
        let forked: u64 = guest.agent("storm-status").unwrap()[0].parse().unwrap();
        if forked == forks {
            return;
        }
        if forked != last {
            (last, since) = (forked, Instant::now());
        }
        assert!(since.elapsed() < PATIENCE, "{forked} of {forks} forks");
        std::thread::sleep(ASK);
    }
}

/// Waits until the processes that are alive by the records are those in memory.
///
/// A process that was missed or invented would permanently be a difference.
fn wait_until_same(guest: &Guest, watcher: &Watcher, first: &BTreeSet<Life>) {
    let begin = Instant::now();
    loop {
        let (left, there) = (left(watcher, first), processes(guest));
        if left == there {
            return;
        }
        let extra: Vec<_> = left.difference(&there).collect();
        let missing: Vec<_> = there.difference(&left).collect();
        let is_late = begin.elapsed() > PATIENCE;
        assert!(!is_late, "gone: {extra:?}, not created: {missing:?}");
    }
}

/// The processes that are alive by the records: in `first` or created, and not terminated.
fn left(watcher: &Watcher, first: &BTreeSet<Life>) -> BTreeSet<Life> {
    watcher.look(|all| {
        let lives = |name: &'static str| {
            all.records.iter().filter(move |record| record.is(name)).filter_map(Record::life)
        };
        let terminated: HashSet<Life> = lives("process_terminated").collect();
        let born = first.iter().cloned().chain(lives("process_created"));
        born.filter(|life| !terminated.contains(life)).collect()
    })
}

fn processes(guest: &Guest) -> BTreeSet<Life> {
    inside::processes(guest).into_iter().map(|(life, _)| life).collect()
}
