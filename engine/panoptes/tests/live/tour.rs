//! The agent's tour of ordinary and hostile acts: each is reported once, as the correct activity.

use std::collections::BTreeSet;

use panoptes_rig::{Flavor, Guest};
use serde_json::Value;

use crate::record::{Life, Record, count, list, only};
use crate::watcher::{Watch, Watcher};
use crate::{barrier, inside, laws, shells};

const FILE: &str = "/tmp/tour-file";
/// The process of the tour. Its thread has another name, which is in no record.
const VISITOR: &str = "tour";
/// The port at which the reverse shell's attacker listens.
const PORT: u64 = 4444;

/// Takes the tour act by act. The next act begins after the watcher has reported the last one.
struct Tour<'a> {
    guest: &'a mut Guest,
    watcher: &'a Watcher,
    /// How many records there were before the last act.
    seen: usize,
}

impl Tour<'_> {
    fn goes_on(&mut self, act: &str) {
        self.seen = self.watcher.seen();
        self.guest.agent_lines(&format!("tour {act}"), |act| println!("{act}")).unwrap();
    }

    /// Waits for the record of an act.
    #[track_caller]
    fn sees(&self, name: &str, matches: impl Fn(&Record) -> bool) -> Record {
        let is_it = |record: &Record| record.is(name) && matches(record);
        self.watcher.wait_for_since(self.seen, name, is_it)
    }

    #[track_caller]
    fn sees_of(&self, name: &str, life: &Life) -> Record {
        self.sees(name, |record| record.life().as_ref() == Some(life))
    }

    fn thread_and_file(&mut self) -> Life {
        self.goes_on("begin");
        self.goes_on("thread");
        let is_visitor = |record: &Record| record.process_name() == VISITOR;
        let life = self.sees("thread_created", is_visitor).life().unwrap();
        self.goes_on("thread-ends");
        self.sees_of("thread_terminated", &life);

        let is_open =
            |record: &Record| record.details("file_descriptor")["file_descriptor_name"] == FILE;
        let is_mapped = |record: &Record| record.details("process_memory")["file_path"] == FILE;
        self.goes_on("open");
        self.sees("file_descriptor_open", is_open);
        self.goes_on("map");
        self.sees("new_file_mapped", is_mapped);
        self.goes_on("unmap");
        self.sees("file_unmapped", is_mapped);
        self.sees("file_descriptor_close", is_open);
        life
    }

    fn memory(&mut self, life: &Life) {
        for (act, name) in [
            ("make-executable", "new_executable_anonymous_memory_mapped"),
            ("make-readable", "executable_permissions_removed"),
            ("executable-again", "executable_permissions_added"),
        ] {
            self.goes_on(act);
            self.sees_of(name, life);
            // The record may be of a scan before the act's last step. The next act's record needs a
            // scan of what this one has left: written memory.
            barrier::passed(self.guest, self.watcher);
        }
    }

    fn connection(&mut self, life: &Life) {
        self.goes_on("connect");
        let is_local = |record: &&Record| ends(record)[0] == "\"127.0.0.1\"";
        self.watcher.wait("both ends of the connection", |all| {
            let created = all.records.iter().filter(|r| r.is("network_connection_created"));
            (created.filter(is_local).count() == 2).then_some(())
        });
        // A slow guest may accept its end late, and no record reports that.
        barrier::wait_for_scan(self.guest, "connections", "both ends as the tour's", |lines| {
            let is_its = |line: &&Value| {
                line["source_ip_address"] == "127.0.0.1" && line["process_id"] == life.process_id
            };
            (lines.iter().filter(is_its).count() == 2).then_some(())
        });
        barrier::passed(self.guest, self.watcher);
        self.goes_on("disconnect");
        let state = "connection_state";
        self.sees("tcp_network_connection_state_change", |record| {
            is_local(&record) && record.details("network_connection")[state] == "TIME_WAIT"
        });
        self.sees("network_connection_terminated", |record| is_local(&record));
    }

    fn children(&mut self, life: &Life) {
        self.goes_on("zombie");
        let zombie = self.sees("process_zombie", |record| {
            record.process()["process_parent_process_id"] == life.process_id
        });
        let zombie = zombie.life().unwrap();
        self.goes_on("reap");
        self.sees_of("process_terminated", &zombie);

        // A child shows that exec is done: later scans read the program's own arguments.
        self.goes_on("program");
        let runs = self.sees("new_file_mapped", |record| {
            record.details("process_memory")["is_main_process_executable"] == true
                && record.process_name() == "bash"
        });
        let program = runs.life().unwrap();
        self.sees("process_created", |record| {
            record.process()["process_parent_process_id"] == program.process_id
        });
        barrier::passed(self.guest, self.watcher);
        self.goes_on("program-ends");
        self.sees_of("process_terminated", &program);
        assert_ne!(program, *life);
    }

    fn reverse_shell(&mut self) {
        self.goes_on("listen");
        barrier::passed(self.guest, self.watcher);
        self.goes_on("reverse-shell");
        let is_it = |record: &Record| ends(record)[3] == PORT.to_string();
        let shell = self.sees("network_connection_created", is_it).life().unwrap();
        self.sees("reverse_shell_detected", |_| true);
        self.goes_on("look");
        let typed = "cat /etc/passwd > /dev/null";
        self.sees("shell_command_executed", |record| {
            let history = &record.details("shell_history")["shell_command_execution_history"];
            let commands = history.as_array().unwrap();
            commands.iter().any(|command| command["command_line"] == typed)
        });
        self.goes_on("clear");
        self.sees("shell_history_cleared", |_| true);
        self.goes_on("leave");
        self.sees_of("process_terminated", &shell);
    }
}

/// The two ends of a connection in a record, the process's own end first.
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
            its(record, name) && descriptor(record, "file_descriptor_name") == FILE
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
        only(records, name, |record| its(record, name) && memory(record, "file_path") == FILE)
    };
    let (mapped, unmapped) = (of_map("new_file_mapped"), of_map("file_unmapped"));
    assert_eq!(memory(mapped, "memory_permissions"), "r--p");
    for key in ["virtual_memory_area_start_address", "virtual_memory_area_end_address"] {
        assert_eq!(memory(mapped, key), memory(unmapped, key));
    }
}

/// Memory that is written and then executed. The vDSO of every process must not be reported.
fn check_executable_memory(records: &[Record], life: &Life) {
    let name = "new_executable_anonymous_memory_mapped";
    // A child inherits the memory of the process.
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
            "could be executed and cannot any more, while what is in them stays: \
             rwxp before, r--p now",
            "low",
        ),
        (
            "executable_permissions_added",
            "r-xp",
            "were written and can be executed now; they are no part of a runtime's reserved code \
             cache: r--p before, r-xp now, executable at an earlier time",
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
        let owner = format!("tour (process {})", life.process_id);
        let reason = format!("{owner}: 16384 bytes of memory without a file at {start} {why}");
        assert_eq!(detection["reason"], reason.as_str());
        assert_eq!(detection["mitre_attack"], serde_json::json!(["T1055", "T1620"]));
        assert_eq!(detection["confidence"], confidence);
    }
}

/// A connection of the process to itself is two connections: one for each end.
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
        // An end that is not accepted yet belongs to no process.
        if record.life().as_ref() == Some(life) {
            let descriptor = &record.details("network_connection")["file_descriptor_id"];
            assert_eq!(*descriptor, record.details("file_descriptor")["file_descriptor_index"]);
        } else {
            assert!(record.process().is_null(), "{record}");
        }
    }
    // The end that closes first enters TIME_WAIT; the other ends.
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

/// A child that ends, and whose parent waits for it only later.
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
            && arguments(record)[2].as_str().is_some_and(|text| text.starts_with("cat; "))
    });
    assert_eq!(ended.process()["process_executable_path"], "/usr/bin/bash");
    let life = ended.life().unwrap();
    only(records, "its birth", |record| about(&life)(record, "process_created"));
}

fn a_tour_is_reported(flavor: Flavor) {
    let mut guest = inside::boot(flavor);
    let soon = "default.events.process_zombie.after=100ms";
    let watcher = Watch::of(&guest).set(soon).attached();
    let before = watcher.seen();
    let mut tour = Tour { guest: &mut guest, watcher: &watcher, seen: before };
    let life = tour.thread_and_file();
    tour.memory(&life);
    tour.connection(&life);
    tour.children(&life);
    tour.reverse_shell();
    tour.goes_on("end");
    tour.sees_of("process_terminated", &life);
    if flavor == Flavor::V6_1 {
        shells::are_reported(&mut guest, &watcher);
    }

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
        record.is("network_connection_created") && ends(record)[3] == PORT.to_string()
    });
    assert_eq!(shell.process_name(), "bash");
    // These activities are off by default.
    for name in ["process_memory_created", "process_memory_terminated"] {
        assert_eq!(count(&records, name), 0, "{name}");
    }
    assert_eq!(count(&records, "process_hidden"), 0);
}

#[test]
#[ignore = "boots a guest"]
fn a_tour_of_6_1_is_reported_act_by_act() {
    a_tour_is_reported(Flavor::V6_1);
}

#[test]
#[ignore = "boots a guest"]
fn a_tour_of_6_12_is_reported_act_by_act() {
    a_tour_is_reported(Flavor::V6_12);
}
