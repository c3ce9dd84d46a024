//! Tables that are too small for what a machine has: it is said once, and what is tracked stays so.

use std::collections::BTreeSet;
use std::time::Duration;

use panoptes_rig::{Flavor, Guest, enabled};

use crate::record::{Life, Record, count, list, only};
use crate::watcher::{Watch, Watcher};
use crate::{inside, laws};

/// The load, and how many of each it has.
const LOAD: &str = "load processes=30 threads=4 fds=20 areas=20 connections=3";
const PROCESSES: usize = 30;
/// The message, the limit's key and how many fit: all fewer than the load has.
const LIMITS: [(&str, &str, u64); 4] = [
    ("threads_limit_reached", "threads", 40),
    ("file_handles_limit_reached", "file_descriptors", 200),
    ("process_memory_limit_reached", "vmas", 500),
    ("network_connections_limit_reached", "connections", 20),
];
/// What is not to be said gets so long to be said.
const SILENCE: Duration = Duration::from_secs(1);

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

/// Ends the load and waits until the last of its processes was seen to go.
fn end_load(guest: &mut Guest, watcher: &Watcher) {
    guest.agent("kill-all").unwrap();
    watcher.wait("all that was created has ended", |all| {
        let ended: BTreeSet<Life> = lives(&all.records, "process_terminated").into_iter().collect();
        let names = ["load-", "load"];
        let left = all.records.iter().any(|record| {
            record.is("process_created")
                && names.iter().any(|name| record.process_name().starts_with(name))
                && !ended.contains(&record.life().unwrap())
        });
        (!left).then_some(())
    });
}

#[test]
fn a_full_table_of_processes_is_said_once_a_crossing() {
    if !enabled("a_full_table_of_processes_is_said_once_a_crossing") {
        return;
    }
    let mut guest = inside::boot(Flavor::V6_1);
    let capacity = inside::processes(&guest).len() as u64 + 10;
    let watcher = Watch::of(&guest).with(&format!("--limits=processes={capacity}")).attached();
    let (reached, cleared) = ("process_limit_reached", "limit_cleared");
    assert_eq!(count(&watcher.records(), reached), 0);
    for crossing in 1..=2 {
        guest.agent(LOAD).unwrap();
        wait_for_limit(&watcher, reached, "processes", crossing);
        std::thread::sleep(SILENCE);
        end_load(&mut guest, &watcher);
        wait_for_limit(&watcher, cleared, "processes", crossing);
        std::thread::sleep(SILENCE);
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
    // Those for whom there was room were told of, and so was their end.
    let loads: Vec<Life> = records
        .iter()
        .filter(|record| record.is("process_created"))
        .filter_map(Record::life)
        .collect();
    assert!(loads.len() >= 2 * 5, "some found room");
    assert!(loads.len() < 2 * PROCESSES, "there was no room for all");
    assert_eq!(count(&records, "process_hidden"), 0);
}

#[test]
fn other_full_tables_are_said_once_and_processes_go_on() {
    if !enabled("other_full_tables_are_said_once_and_processes_go_on") {
        return;
    }
    let mut guest = inside::boot(Flavor::V6_12);
    // Connections that were closed do not wait for a minute in the full table.
    inside::run(&mut guest, "echo 0 >/proc/sys/net/ipv4/tcp_max_tw_buckets");
    let limits: Vec<String> =
        LIMITS.iter().map(|(_, limit, capacity)| format!("{limit}={capacity}")).collect();
    let watcher = Watch::of(&guest).with(&format!("--limits={}", limits.join(","))).attached();
    guest.agent(LOAD).unwrap();
    for (name, limit, _) in LIMITS {
        wait_for_limit(&watcher, name, limit, 1);
    }
    std::thread::sleep(SILENCE);
    // As much was told of as there was room for, and no more; what ends makes room for others.
    let full = watcher.records();
    let (threads, connections) =
        (count(&full, "thread_created"), count(&full, "network_connection_created"));
    assert!((1..=40).contains(&threads), "{threads} threads");
    assert!((1..=20).contains(&connections), "{connections} connections");
    end_load(&mut guest, &watcher);
    for (_, limit, _) in LIMITS {
        wait_for_limit(&watcher, "limit_cleared", limit, 1);
    }
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
    // Nothing that has room suffers: every process of the load was born and died.
    let born: BTreeSet<Life> = records
        .iter()
        .filter(|record| {
            record.is("process_terminated") && record.process_name().starts_with("load-")
        })
        .filter_map(Record::life)
        .collect();
    assert_eq!(born.len(), PROCESSES);
    let created: BTreeSet<Life> = lives(&records, "process_created").into_iter().collect();
    let unborn: Vec<&Life> = born.difference(&created).collect();
    assert!(unborn.is_empty(), "{unborn:?}");
    assert_eq!(count(&records, "process_hidden"), 0);
}
