//! Laws for the records of every run, whatever happened meanwhile.
//!
//! Most laws are about the order of records: no process is created twice, none acts before its
//! creation or after its end, no open descriptor is opened again. Records that break a law are
//! wrong.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use serde_json::Value;

use crate::record::{Life, Record};
use crate::watcher::panoptes;

/// How many breaches are shown.
const SHOWN: usize = 20;

/// Fails if records break a law, and shows the breaches.
#[track_caller]
pub(crate) fn hold(records: &[Record]) {
    let mut book = Book::default();
    for record in records {
        book.read(record);
    }
    let (count, all) = (book.breaches.len(), records.len());
    book.breaches.truncate(SHOWN);
    let shown = book.breaches.join(
        "
    ",
    );
    assert_eq!(
        count, 0,
        "{count} of {all} records break a law:
    {shown}"
    );
}

/// The schema that the program itself prints.
static SCHEMA: LazyLock<jsonschema::Validator> = LazyLock::new(|| {
    let schema = panoptes(&["schema"]).stdout;
    jsonschema::validator_for(&serde_json::from_slice(&schema).unwrap()).unwrap()
});

/// A process of one boot of a system.
type Who = (String, Life);
/// A 4-tuple of one system, as text.
type Ends = (String, String);

/// The state of a process after its records so far.
#[derive(Debug, Default)]
struct Known {
    /// The name of its first record.
    first: String,
    zombie: bool,
    terminated: bool,
    execs: u64,
}

/// The state after all records so far.
#[derive(Debug, Default)]
struct Book {
    ids: HashSet<String>,
    times: HashMap<String, String>,
    lives: HashMap<Who, Known>,
    /// The last known process of each number.
    numbers: HashMap<(String, u64), Life>,
    /// Whether a thread exists.
    threads: HashMap<(Who, u64), bool>,
    /// The file of a descriptor; `None` after it was closed.
    descriptors: HashMap<(Who, u64), Option<(Value, Value)>>,
    /// The state of a connection; `None` after it was terminated.
    connections: HashMap<Ends, Option<Value>>,
    breaches: Vec<String>,
}

impl Book {
    fn read(&mut self, record: &Record) {
        let mut broken = Vec::new();
        self.form(record, &mut broken);
        self.time(record, &mut broken);
        self.life(record, &mut broken);
        self.thread(record, &mut broken);
        self.descriptor(record, &mut broken);
        self.connection(record, &mut broken);
        self.breaches.extend(broken.iter().map(|law| format!("{law}: {record}")));
    }

    fn form(&mut self, record: &Record, broken: &mut Vec<String>) {
        if let Some(error) = SCHEMA.iter_errors(&record.0).next() {
            broken.push(format!("it is not valid ({error})"));
        }
        let id = record.0["message_id"].as_str().unwrap_or("").to_owned();
        if !self.ids.insert(id) {
            broken.push("another record has the same message_id".to_owned());
        }
    }

    fn time(&mut self, record: &Record, broken: &mut Vec<String>) {
        let last = self.times.entry(record.system().to_owned()).or_default();
        // All times have the same form, so they can be compared as text.
        if record.time() < last.as_str() {
            broken.push(format!("an earlier record has the time {last}"));
        }
        record.time().clone_into(last);
    }

    fn life(&mut self, record: &Record, broken: &mut Vec<String>) {
        if record.process().is_null() {
            return;
        }
        let is_connection = !record.details("network_connection").is_null();
        let Some(life) = record.life() else {
            // Only the number and the name are kept of a process that ended before its connection.
            if !is_connection {
                broken.push("the time of the process's creation is not known".to_owned());
            }
            return;
        };
        let system = record.boot();
        let number = (system.clone(), life.process_id);
        let before = self.numbers.insert(number, life.clone()).filter(|before| *before != life);
        let who = (system, life);
        if record.is("process_created") {
            if let Some(known) = self.lives.get(&who) {
                broken.push(format!("its process was already known from {}", known.first));
            }
            let living = before.map(|before| (who.0.clone(), before));
            if living.is_some_and(|other| self.lives.get(&other).is_some_and(|it| !it.terminated)) {
                broken.push("its number is that of a process that has not ended".to_owned());
            }
        }
        let first = || Known { first: record.name().to_owned(), ..Known::default() };
        let known = self.lives.entry(who).or_insert_with(first);
        // A connection can outlive its process, and records about files wait for hashes.
        let waits = record.is("file_descriptor_file_content_change")
            || !record.details("elf_file").is_null();
        if known.terminated && !is_connection && !waits {
            broken.push("its process has ended before".to_owned());
        }
        let execs = record.process()["process_self_exec_id"].as_u64().unwrap_or(0);
        if execs < known.execs {
            broken.push(format!("its process had called exec {} times before", known.execs));
        }
        known.execs = execs;
        if record.is("process_zombie") && std::mem::replace(&mut known.zombie, true) {
            broken.push("its process was already reported as a zombie".to_owned());
        }
        known.terminated |= record.is("process_terminated");
    }

    fn thread(&mut self, record: &Record, broken: &mut Vec<String>) {
        let created = match record.name() {
            "thread_created" => true,
            "thread_terminated" => false,
            _ => return,
        };
        let Some(life) = record.life() else { return };
        let thread = record.details("thread")["thread_id"].as_u64().unwrap_or(0);
        if thread == life.process_id {
            broken.push("it is about a process's first thread".to_owned());
        }
        let who = (record.boot(), life);
        if self.threads.insert((who, thread), created) == Some(created) {
            broken.push("it was already reported".to_owned());
        }
    }

    fn descriptor(&mut self, record: &Record, broken: &mut Vec<String>) {
        let open = match record.name() {
            "file_descriptor_open" => true,
            "file_descriptor_close" => false,
            _ => return,
        };
        let Some(life) = record.life() else { return };
        let details = record.details("file_descriptor");
        let index = details["file_descriptor_index"].as_u64().unwrap_or(u64::MAX);
        let name = details["file_descriptor_name"].clone();
        let file = (details["file_descriptor_inode_number"].clone(), name);
        let key = ((record.boot(), life), index);
        let now = open.then(|| file.clone());
        match self.descriptors.insert(key, now) {
            Some(Some(other)) if open => broken.push(format!("it was open, with {other:?}")),
            Some(Some(other)) if other != file => {
                broken.push(format!("the opened file was {other:?}"));
            }
            Some(None) if !open => broken.push("it was closed before".to_owned()),
            _ => {}
        }
    }

    fn connection(&mut self, record: &Record, broken: &mut Vec<String>) {
        let details = record.details("network_connection");
        if details.is_null() {
            return;
        }
        let ends =
            ["source_ip_address", "source_port", "destination_ip_address", "destination_port"];
        let ends = ends.map(|end| details[end].to_string()).join(" ");
        let terminated = record.is("network_connection_terminated");
        let state = details["connection_state"].clone();
        let now = (!terminated).then(|| state.clone());
        let before = self.connections.insert((record.boot(), ends), now);
        match (record.name(), before) {
            ("network_connection_created", Some(Some(_))) => {
                broken.push("it was already reported".to_owned());
            }
            ("tcp_network_connection_state_change", Some(Some(last))) if last == state => {
                broken.push("it was in that state before".to_owned());
            }
            (
                "tcp_network_connection_state_change" | "network_connection_terminated",
                Some(None),
            ) => {
                broken.push("it was terminated before".to_owned());
            }
            _ => {}
        }
    }
}
