//! The agent's tour of ordinary and hostile acts: each is reported once, as what it was.

use std::collections::BTreeSet;
use std::time::Duration;

use panoptes_rig::{Flavor, enabled};

use crate::record::{Life, Record, count, list, only};
use crate::watcher::Watch;
use crate::{inside, laws, shells};

/// What a record says of one end of a connection, its own first.
fn ends(record: &Record) -> [String; 4] {
    ["source_ip_address", "source_port", "destination_ip_address", "destination_port"]
        .map(|key| record.details("network_connection")[key].to_string())
}

fn about(life: &Life) -> impl Fn(&Record, &str) -> bool {
    move |record, name| record.is(name) && record.life().as_ref() == Some(life)
}

/// A thread that begins and ends.
fn check_thread(records: &[Record], life: &Life) {
    let its = about(life);
    let created = only(records, "the thread", |record| its(record, "thread_created"));
    let terminated = only(records, "its end", |record| its(record, "thread_terminated"));
    let id = |record: &Record| record.details("thread")["thread_id"].as_u64();
    assert_eq!(id(created), id(terminated));
    assert_ne!(id(created), Some(life.process_id));
}

/// A file that is opened, mapped, unmapped and closed.
fn check_file(records: &[Record], life: &Life) {
    let its = about(life);
    let descriptor = |record: &Record, key: &str| record.details("file_descriptor")[key].clone();
    let of_file = |name: &'static str| {
        only(records, name, |record| {
            its(record, name) && descriptor(record, "file_descriptor_name") == "/tmp/tour-file"
        })
    };
    let (opened, closed) = (of_file("file_descriptor_open"), of_file("file_descriptor_close"));
    for key in ["file_descriptor_index", "file_descriptor_inode_number"] {
        assert_eq!(descriptor(opened, key), descriptor(closed, key));
    }
    assert_eq!(descriptor(opened, "file_descriptor_file_type"), "REGULAR");
    let mode = descriptor(opened, "file_descriptor_file_mode");
    assert!(mode.as_str().unwrap().starts_with("READ_WRITE"), "{mode}");

    let memory = |record: &Record, key: &str| record.details("process_memory")[key].clone();
    let of_map = |name: &'static str| {
        only(records, name, |record| {
            its(record, name) && memory(record, "file_path") == "/tmp/tour-file"
        })
    };
    let (mapped, unmapped) = (of_map("new_file_mapped"), of_map("file_unmapped"));
    assert_eq!(memory(mapped, "memory_permissions"), "r--p");
    for key in ["virtual_memory_area_start_address", "virtual_memory_area_end_address"] {
        assert_eq!(memory(mapped, key), memory(unmapped, key));
    }
}

/// Memory that is written and then run. That of the vDSO, which every process has, is none.
fn check_executable_memory(records: &[Record], life: &Life) {
    let name = "new_executable_anonymous_memory_mapped";
    // A child of the process has what it had.
    let is_of_child =
        |record: &Record| record.process()["process_parent_process_id"] == life.process_id;
    let all: Vec<&Record> =
        records.iter().filter(|record| record.is(name) && !is_of_child(record)).collect();
    assert_eq!(all.len(), 1, "{}", list(all));
    assert_eq!(all[0].life().as_ref(), Some(life));
    let memory = all[0].details("process_memory");
    assert_eq!(memory["memory_permissions"], "rwxp");
    assert_eq!(memory["process_id"], life.process_id);
    assert!(memory["file_path"].is_null());

    let start = memory["virtual_memory_area_start_address"].as_str().unwrap();
    for (name, permissions, why, confidence) in [
        (
            "executable_permissions_removed",
            "r--p",
            "could be executed and cannot any more, while what is in them stays: rwxp before, r--p now",
            "low",
        ),
        (
            "executable_permissions_added",
            "r-xp",
            "were written and can be executed now; they are no part of a runtime's reserved code cache: r--p before, \
             r-xp now, executable at an earlier time",
            "medium",
        ),
    ] {
        let all: Vec<&Record> = records.iter().filter(|record| record.is(name)).collect();
        assert_eq!(all.len(), 1, "{}", list(all));
        let alert = all[0];
        assert_eq!(alert.life().as_ref(), Some(life));
        assert_eq!(
            (&alert.0["message_type"], &alert.0["severity"]),
            (&"ALERT".into(), &"MEDIUM".into())
        );
        let expected = serde_json::json!({
            "process_id": life.process_id,
            "virtual_memory_area_start_address": start,
            "virtual_memory_area_end_address": memory["virtual_memory_area_end_address"],
            "memory_permissions": permissions,
            "is_main_process_executable": false,
        });
        assert_eq!(*alert.details("process_memory"), expected);
        let detection = &alert.0["detection"];
        let reason = format!("16384 bytes of memory without a file at {start} {why}");
        assert_eq!(detection["reason"], reason.as_str());
        assert_eq!(detection["mitre_attack"], serde_json::json!(["T1055", "T1620"]));
        assert_eq!(detection["confidence"], confidence);
    }
}

/// A connection of the process to itself is two: one an end.
fn check_connection(records: &[Record], life: &Life) {
    let created: Vec<&Record> = records
        .iter()
        .filter(|record| record.is("network_connection_created"))
        .filter(|record| ends(record)[0] == "\"127.0.0.1\"")
        .collect();
    assert_eq!(created.len(), 2, "{}", list(created.iter().copied()));
    let (one, other) = (ends(created[0]), ends(created[1]));
    assert_eq!([&one[2], &one[3], &one[0], &one[1]], [&other[0], &other[1], &other[2], &other[3]]);
    for record in created {
        // A slow guest may take its time to accept its end.
        if record.life().as_ref() == Some(life) {
            let descriptor = &record.details("network_connection")["file_descriptor_id"];
            assert_eq!(*descriptor, record.details("file_descriptor")["file_descriptor_index"]);
        } else {
            assert!(record.process().is_null(), "{record}");
        }
    }
    // Whoever closes first waits; the other has gone.
    let of = |end: &[String; 4], name: &str| -> Vec<&Record> {
        records.iter().filter(|record| record.is(name) && ends(record) == *end).collect()
    };
    let state = |record: &Record| record.details("network_connection")["connection_state"].clone();
    let changes = |end| of(end, "tcp_network_connection_state_change");
    let waits = |end| changes(end).iter().any(|record| state(record) == "TIME_WAIT");
    let (waits, gone) = if waits(&one) { (&one, &other) } else { (&other, &one) };
    assert_eq!(changes(waits).last().map(|record| state(record)), Some("TIME_WAIT".into()));
    let gone = of(gone, "network_connection_terminated");
    assert_eq!(gone.len(), 1, "{}", list(gone));
    for record in [gone[0], changes(waits)[0]] {
        assert_eq!(record.life().as_ref(), Some(life), "{record}");
    }
}

/// A child that ends and is not asked for, until it is.
fn check_zombie(records: &[Record], life: &Life) {
    let zombie = only(records, "the zombie", |record| {
        record.is("process_zombie")
            && record.process()["process_parent_process_id"] == life.process_id
    });
    let details = zombie.process();
    assert_eq!(details["process_name"], "tour-zombie");
    assert_eq!(details["process_state"], "Z (zombie)");
    assert_eq!(zombie.0["severity"], "WARNING");
    let zombie = zombie.life().unwrap();
    let its = about(&zombie);
    only(records, "the zombie's birth", |record| its(record, "process_created"));
    only(records, "the zombie's end", |record| its(record, "process_terminated"));
}

/// A program that the agent runs: a fork and an exec are one new process.
fn check_program(records: &[Record]) {
    let arguments =
        |record: &Record| record.process()["process_command_line_argument_list"].clone();
    let ended = only(records, "the end of bash -c", |record| {
        record.is("process_terminated")
            && arguments(record)[1] == "-c"
            && arguments(record)[2].as_str().is_some_and(|text| text.starts_with("sleep 2;"))
    });
    assert_eq!(ended.process()["process_executable_path"], "/usr/bin/bash");
    let life = ended.life().unwrap();
    only(records, "its birth", |record| about(&life)(record, "process_created"));
}

fn a_tour_is_reported(flavor: Flavor) {
    let mut guest = inside::boot(flavor);
    let watcher = Watch::of(&guest).attached();
    let before = watcher.records().len();
    guest.agent_lines("tour", |act| println!("{act}")).unwrap();
    let visitor = watcher.wait_for("the tour's file is opened", |record| {
        record.is("file_descriptor_open")
            && record.details("file_descriptor")["file_descriptor_name"] == "/tmp/tour-file"
    });
    let life = visitor.life().unwrap();
    watcher
        .wait_for("the tour's process ends", |record| about(&life)(record, "process_terminated"));
    if flavor == Flavor::V6_1 {
        shells::are_reported(&mut guest, &watcher);
    }
    std::thread::sleep(Duration::from_millis(500));

    let records = watcher.stop().records;
    let names: BTreeSet<&str> = records[before..].iter().map(Record::name).collect();
    for name in names {
        println!("{:6} {name}", count(&records, name));
    }
    laws::hold(&records);
    only(&records, "its birth", |record| about(&life)(record, "process_created"));
    check_thread(&records, &life);
    check_file(&records, &life);
    check_executable_memory(&records, &life);
    check_connection(&records, &life);
    check_zombie(&records, &life);
    check_program(&records);
    let shell = only(&records, "the reverse shell's connection", |record| {
        record.is("network_connection_created") && ends(record)[3] == "4444"
    });
    assert_eq!(shell.process_name(), "bash");
    // Off unless asked for.
    for name in ["process_memory_created", "process_memory_terminated"] {
        assert_eq!(count(&records, name), 0, "{name}");
    }
    assert_eq!(count(&records, "process_hidden"), 0);
}

#[test]
fn a_tour_of_6_1_is_reported_act_by_act() {
    if enabled("a_tour_of_6_1_is_reported_act_by_act") {
        a_tour_is_reported(Flavor::V6_1);
    }
}

#[test]
fn a_tour_of_6_12_is_reported_act_by_act() {
    if enabled("a_tour_of_6_12_is_reported_act_by_act") {
        a_tour_is_reported(Flavor::V6_12);
    }
}
