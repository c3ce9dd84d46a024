//! A machine that makes hundreds of processes a second: all that is said of them is true.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use panoptes_rig::{Flavor, Guest, enabled};

use crate::record::{Life, Record, count, list};
use crate::watcher::Watch;
use crate::{inside, laws};

/// Set to 1, the storm lasts its full minute.
const LONG: &str = "PANOPTES_LONG";
const FORKS_PER_SECOND: u64 = 200;

/// What is there once all is quiet gets so long to be reported.
const QUIET: Duration = Duration::from_secs(1);

#[test]
fn a_storm_of_processes_is_reported_without_a_mistake() {
    if !enabled("a_storm_of_processes_is_reported_without_a_mistake") {
        return;
    }
    let is_long = std::env::var_os(LONG).is_some_and(|value| value == "1");
    let seconds: u64 = if is_long { 60 } else { 20 };
    println!("{seconds} s of {FORKS_PER_SECOND} forks a second ({LONG}=1: a minute)");
    let mut guest = inside::boot(Flavor::V6_1);

    let forks_before = forks_inside(&mut guest);
    // What there is when the watcher comes is known exactly: nothing moves meanwhile.
    guest.pause().unwrap();
    let first: BTreeSet<Life> =
        inside::processes(&guest).into_iter().map(|(life, _)| life).collect();
    let watcher = Watch::of(&guest).log_only().set("output.rotate_size=1GiB").attached();
    std::thread::sleep(QUIET);
    guest.resume().unwrap();

    let begin = Instant::now();
    guest.agent(&format!("storm rate={FORKS_PER_SECOND} seconds={seconds}")).unwrap();
    let forks = FORKS_PER_SECOND * seconds;
    loop {
        let forked: u64 = guest.agent("storm-status").unwrap()[0].parse().unwrap();
        if forked == forks {
            break;
        }
        assert!(begin.elapsed() < Duration::from_secs(seconds * 10), "{forked} of {forks} forks");
        std::thread::sleep(Duration::from_secs(1));
    }
    let took = begin.elapsed();
    std::thread::sleep(QUIET);
    let forks_inside = forks_inside(&mut guest) - forks_before;
    guest.pause().unwrap();
    std::thread::sleep(QUIET);
    let ended = watcher.stop();
    let last: BTreeSet<Life> =
        inside::processes(&guest).into_iter().map(|(life, _)| life).collect();

    let records = &ended.records;
    let lives = |name: &str| -> BTreeSet<Life> {
        records.iter().filter(|record| record.is(name)).filter_map(Record::life).collect()
    };
    let (created, terminated) = (lives("process_created"), lives("process_terminated"));
    let drops = records.iter().filter(|r| r.is("process_created") && r.process_name() == "drop");
    println!(
        "{} records; {} processes created, {} terminated; of {forks} forks in {:.1} s {} were seen",
        records.len(),
        count(records, "process_created"),
        count(records, "process_terminated"),
        took.as_secs_f64(),
        drops.count(),
    );
    println!("{}", ended.said.join("\n"));
    assert_eq!(ended.code, Some(0));
    laws::hold(records);
    let hidden = records.iter().filter(|record| record.is("process_hidden"));
    assert_eq!(count(records, "process_hidden"), 0, "{}", list(hidden));
    assert_eq!(count(records, "records_dropped"), 0);
    // All who were there or came, and have not gone, are there, and nobody else is.
    let born: BTreeSet<Life> = first.union(&created).cloned().collect();
    assert!(terminated.is_subset(&born), "{:?}", terminated.difference(&born).collect::<Vec<_>>());
    let left: BTreeSet<Life> = born.difference(&terminated).cloned().collect();
    let (extra, missing): (Vec<_>, Vec<_>) =
        (left.difference(&last).collect(), last.difference(&left).collect());
    assert!(extra.is_empty() && missing.is_empty(), "gone: {extra:?}, not created: {missing:?}");
    // What no scan saw is counted, by the kernel's own count; what nobody asked for may have been born as the watcher came.
    let reported = |key: &str| -> u64 {
        let reports = records.iter().filter(|record| record.is("coverage_report"));
        reports.map(|record| record.details("system_activity")[key].as_u64().unwrap()).sum()
    };
    let told = (created.len() + count(records, "thread_created")) as u64;
    let unseen = reported("processes_unseen");
    println!(
        "{forks_inside} forks by the kernel's count, {told} told of, {unseen} reported as missed"
    );
    assert!(
        (forks_inside - told).abs_diff(unseen) <= 2,
        "{forks_inside} forks, {told} told of, {unseen} missed"
    );
    assert_eq!(reported("processes_born"), reported("processes_seen") + unseen);
    // How many live from one scan to the next depends on what else this machine does.
    assert!(created.len() as u64 > forks / 10, "hardly any of them was seen");
}

/// How many processes and threads the guest's kernel has made, this question's own among them.
fn forks_inside(guest: &mut Guest) -> u64 {
    let said = inside::run(guest, "grep ^processes /proc/stat");
    said[0].split_whitespace().nth(1).unwrap().parse().unwrap()
}
