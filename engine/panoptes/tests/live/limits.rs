//! Tables that are too small for a machine: each crossing of a limit is reported once, and tracked
//! objects stay tracked.

use std::collections::BTreeSet;

use nix::sys::signal::{Signal, kill};
use panoptes_rig::{Flavor, Guest};

use crate::record::{Life, Record, count, list, only};
use crate::watcher::{Watch, Watcher};
use crate::{barrier, inside, laws};

/// The load, and how many objects of each kind it has.
const LOAD: &str = "load processes=30 threads=4 fds=20 areas=20 connections=3";
const PROCESSES: usize = 30;
/// A load whose processes do not all fit, and their number.
const MANY: &str = "load processes=60 threads=1 fds=5 areas=2 connections=0";
const MANY_PROCESSES: usize = 60;
/// How many of them fit. The kernel starts and ends fewer processes of its own meanwhile.
const ROOM: usize = 25;
/// The activity, the limit's key and the capacity: all less than the load needs.
const LIMITS: [(&str, &str, u64); 4] = [
    ("threads_limit_reached", "threads", 40),
    ("file_handles_limit_reached", "file_descriptors", 200),
    ("process_memory_limit_reached", "vmas", 500),
    ("network_connections_limit_reached", "connections", 20),
];
/// The records of one limit.
fn of_limit<'a>(records: &'a [Record], name: &str, limit: &str) -> Vec<&'a Record> {
    let its =
        |record: &&Record| record.is(name) && record.details("system_activity")["limit"] == limit;
    records.iter().filter(its).collect()
}

fn wait_for_limit(watcher: &Watcher, name: &str, limit: &str, count: usize) {
    watcher.wait(&format!("{name} of {limit}, {count} in all"), |all| {
        (of_limit(&all.records, name, limit).len() >= count).then_some(())
    });
}

#[track_caller]
fn assert_reached(record: &Record, capacity: u64) {
    let details = record.details("system_activity");
    assert_eq!(details["capacity"], capacity, "{record}");
    assert!(details["untracked"].as_u64() > Some(0), "{record}");
    assert_eq!(
        (&record.0["message_type"], &record.0["severity"]),
        (&"SYSTEM_ACTIVITY".into(), &"MEDIUM".into())
    );
}

fn lives(records: &[Record], name: &str) -> Vec<Life> {
    records.iter().filter(|record| record.is(name)).filter_map(Record::life).collect()
}

/// Runs a command of the agent while the watcher is stopped, so that it scans only the result.
///
/// Tables then cross their limits once. In a slow guest they could cross them several times on the
/// way: listeners close when they have their connection, and processes end one after the other.
fn unseen(guest: &mut Guest, watcher: &Watcher, command: &str) {
    kill(watcher.pid(), Signal::SIGSTOP).unwrap();
    guest.agent(command).unwrap();
    kill(watcher.pid(), Signal::SIGCONT).unwrap();
}

/// Waits until the end of every process of the load is reported.
fn wait_for_ends(watcher: &Watcher) {
    watcher.wait("all that was created has ended", |all| {
        let ended: BTreeSet<Life> = lives(&all.records, "process_terminated").into_iter().collect();
        let left = all.records.iter().any(|record| {
            record.is("process_created")
                && record.process_name().starts_with("load")
                && !ended.contains(&record.life().unwrap())
        });
        (!left).then_some(())
    });
}

/// The number of processes that were reported as created, and not as terminated.
fn tracked(records: &[Record]) -> usize {
    let ended: BTreeSet<Life> = lives(records, "process_terminated").into_iter().collect();
    lives(records, "process_created").iter().filter(|life| !ended.contains(life)).count()
}

#[test]
#[ignore = "boots a guest"]
fn a_full_table_of_processes_is_reported_once_a_crossing() {
    let mut guest = inside::boot(Flavor::V6_1);
    let capacity = (inside::processes(&guest).len() + ROOM) as u64;
    let watcher = Watch::of(&guest).with(&format!("--limits=processes={capacity}")).attached();
    let (reached, cleared) = ("process_limit_reached", "limit_cleared");
    barrier::passed(&mut guest, &watcher);
    assert_eq!(count(&watcher.records(), reached), 0);
    for crossing in 1..=2 {
        guest.agent(MANY).unwrap();
        wait_for_limit(&watcher, reached, "processes", crossing);
        watcher.wait("those for whom there is room", |all| {
            (tracked(&all.records) >= ROOM / 2).then_some(())
        });
        // They end unseen, so that no other process of the load takes a free place meanwhile.
        unseen(&mut guest, &watcher, "kill-all");
        wait_for_ends(&watcher);
        wait_for_limit(&watcher, cleared, "processes", crossing);
        barrier::passed(&mut guest, &watcher);
    }
    let records = watcher.stop().records;
    laws::hold(&records);
    for name in [reached, cleared] {
        let all = of_limit(&records, name, "processes");
        assert_eq!(all.len(), 2, "{}", list(all));
    }
    for record in of_limit(&records, reached, "processes") {
        println!("{record}");
        assert_reached(record, capacity);
    }
    // There was never room for all of a load.
    let is_of_load = |record: &&Record| record.process_name().starts_with("load");
    let created = records.iter().filter(|record| record.is("process_created"));
    let of_load: BTreeSet<Life> = created.filter(is_of_load).filter_map(Record::life).collect();
    assert!(of_load.len() < 2 * MANY_PROCESSES, "{} processes of the loads", of_load.len());
    assert_eq!(count(&records, "process_hidden"), 0);
}

#[test]
#[ignore = "boots a guest"]
fn other_full_tables_are_reported_once_and_processes_are_still_tracked() {
    let mut guest = inside::boot(Flavor::V6_12);
    // Closed connections do not stay in the full table for a minute (TIME_WAIT).
    inside::run(&mut guest, "echo 0 >/proc/sys/net/ipv4/tcp_max_tw_buckets");
    let limits: Vec<String> =
        LIMITS.iter().map(|(_, limit, capacity)| format!("{limit}={capacity}")).collect();
    let watcher = Watch::of(&guest).with(&format!("--limits={}", limits.join(","))).attached();
    barrier::passed(&mut guest, &watcher);
    unseen(&mut guest, &watcher, LOAD);
    for (name, limit, _) in LIMITS {
        wait_for_limit(&watcher, name, limit, 1);
    }
    let is_of_load = |record: &Record| record.process_name().starts_with("load-");
    watcher.wait("all processes of the load, and of what else there is room for", |all| {
        let created = all.records.iter().filter(|r| r.is("process_created") && is_of_load(r));
        let is_full = count(&all.records, "thread_created") > 0
            && count(&all.records, "network_connection_created") > 0;
        (created.count() == PROCESSES && is_full).then_some(())
    });
    barrier::passed(&mut guest, &watcher);
    // As many were reported as there was room for, and no more.
    let full = watcher.records();
    let (threads, connections) =
        (count(&full, "thread_created"), count(&full, "network_connection_created"));
    assert!((1..=40).contains(&threads), "{threads} threads");
    assert!((1..=20).contains(&connections), "{connections} connections");
    unseen(&mut guest, &watcher, "kill-all");
    wait_for_ends(&watcher);
    for (_, limit, _) in LIMITS {
        wait_for_limit(&watcher, "limit_cleared", limit, 1);
    }
    barrier::passed(&mut guest, &watcher);
    let records = watcher.stop().records;
    laws::hold(&records);
    for (name, limit, capacity) in LIMITS {
        let record = only(&records, name, |record| record.is(name));
        println!("{record}");
        assert_eq!(record.details("system_activity")["limit"], limit);
        assert_reached(record, capacity);
        let cleared = of_limit(&records, "limit_cleared", limit);
        assert_eq!(cleared.len(), 1, "{}", list(cleared));
    }
    // The table of processes is not affected: every process of the load was created and ended.
    let born: BTreeSet<Life> = records
        .iter()
        .filter(|record| record.is("process_terminated") && is_of_load(record))
        .filter_map(Record::life)
        .collect();
    assert_eq!(born.len(), PROCESSES);
    let created: BTreeSet<Life> = lives(&records, "process_created").into_iter().collect();
    let unborn: Vec<&Life> = born.difference(&created).collect();
    assert!(unborn.is_empty(), "{unborn:?}");
    assert_eq!(count(&records, "process_hidden"), 0);
}
