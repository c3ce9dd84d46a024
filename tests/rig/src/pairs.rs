//! Checks that whatever records report as new of a process also ends.
//!
//! The rule (docs/records.md): a descriptor, a mapping or a thread ends by a separate record while
//! its process exists, and otherwise with the process. Mappings also end with an exec. So nothing
//! is reported as new of a process that has ended, and nothing twice without an end in between.
//!
//! This is a second opinion, made from nothing but the records in their order. What they leave out
//! is not judged: processes with events that are only summed up, and all processes once a table is
//! full or records are dropped.

use std::collections::BTreeMap;

use serde_json::Value;

/// What a process has: the kind, a number or an address, and what tells it from others there.
type Thing = (Kind, String, String);

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Kind {
    Descriptor,
    Mapping,
    Thread,
}

/// Whether a record begins or ends something.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Act {
    Begins,
    Ends,
}

/// A process as the records show it.
#[derive(Clone, Debug, Default)]
struct Process {
    has_ended: bool,
    /// Its `process_self_exec_id`.
    program: u64,
    /// Whether some of its records were left out.
    is_partial: bool,
    /// With what a mapping has: its permissions and its file.
    things: BTreeMap<Thing, String>,
    errors: Vec<String>,
}

/// What became of all that was reported as new.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    pub begun: usize,
    /// Ended by records of their own.
    pub ended: usize,
    /// Ended with their processes.
    pub with_process: usize,
    /// Ended with the program that an exec replaced.
    pub with_program: usize,
    /// Those of processes that still ran.
    pub left: usize,
    /// New mappings of files, and how many of them do not name the program, or have no hash of it.
    pub mapped: usize,
    pub without_path: usize,
    pub without_hash: usize,
}

impl Counts {
    pub fn add(&mut self, other: Self) {
        self.begun += other.begun;
        self.ended += other.ended;
        self.with_process += other.with_process;
        self.with_program += other.with_program;
        self.left += other.left;
        self.mapped += other.mapped;
        self.without_path += other.without_path;
        self.without_hash += other.without_hash;
    }

    /// For people, in two lines.
    pub fn lines(&self) -> String {
        let Self { begun, ended, with_process, with_program, left, .. } = self;
        let Self { mapped, without_path, without_hash, .. } = self;
        format!(
            "{begun} descriptors, mappings and threads began: {ended} have a record of their end, \
             {with_process} ended with their process, {with_program} with an exec, {left} remain\n\
             {mapped} files mapped: {without_path} without the program's path, {without_hash} \
             without its hash\n"
        )
    }
}

/// The processes by id and time of creation, and what they have.
#[derive(Debug, Default)]
pub struct Pairs {
    processes: BTreeMap<(u64, String), Process>,
    /// Whether records of any process may have been left out.
    is_partial: bool,
    counts: Counts,
}

impl Pairs {
    /// Reads the next record; returns what is wrong with it, or with all of a process that it ends.
    pub fn read(&mut self, record: &Value) -> Vec<String> {
        let data = &record["activity_data"];
        let name = data["name"].as_str().unwrap_or("");
        self.is_partial |= name.ends_with("_limit_reached") || name == "records_dropped";
        if name == "host_initialization_started" {
            // Another machine, or another look at this one.
            self.processes.clear();
        }
        let details = &data["process_details"];
        let created = details["process_creation_time_iso_8601_ns"].as_str();
        let Some((id, created)) = details["process_id"].as_u64().zip(created) else {
            return Vec::new();
        };
        let process = self.processes.entry((id, created.to_owned())).or_default();
        if name == "events_summed_up" {
            process.is_partial = true;
        } else if name == "process_terminated" {
            process.has_ended = true;
            self.counts.with_process += process.things.len();
            process.things.clear();
            let errors = std::mem::take(&mut process.errors);
            return if process.is_partial || self.is_partial { Vec::new() } else { errors };
        } else if let Some((act, thing)) = thing(name, data) {
            let is_late = process.has_ended;
            process.read(act, thing, data, &mut self.counts);
            if name == "new_file_mapped" {
                self.counts.mapped += 1;
                self.counts.without_path +=
                    usize::from(details["process_executable_path"].is_null());
                self.counts.without_hash += usize::from(details["process_hash_sha256"].is_null());
            }
            if is_late && act == Act::Begins {
                return vec![format!("{name} of process {id}, which has ended")];
            }
        }
        Vec::new()
    }

    /// Returns the errors of the processes that have not ended, and all counts.
    pub fn end(self) -> (Vec<String>, Counts) {
        let Self { processes, is_partial, mut counts } = self;
        counts.left += processes.values().map(|process| process.things.len()).sum::<usize>();
        let whole = processes.into_values().filter(|process| !process.is_partial && !is_partial);
        (whole.flat_map(|process| process.errors).collect(), counts)
    }
}

impl Process {
    fn read(&mut self, act: Act, thing: Thing, data: &Value, counts: &mut Counts) {
        let details = &data["process_details"];
        let program = details["process_self_exec_id"].as_u64().unwrap_or(0);
        if program > self.program {
            self.program = program;
            let before = self.things.len();
            self.things.retain(|(kind, ..), _| *kind != Kind::Mapping);
            counts.with_program += before - self.things.len();
        }
        let id = &details["process_id"];
        match act {
            Act::Begins => {
                counts.begun += 1;
                let area = &data["process_memory_details"];
                let text = format!("{} {}", area["memory_permissions"], area["file_path"]);
                let twice = format!("process {id}: new twice without an end: {thing:?}");
                match self.things.insert(thing, text.clone()) {
                    Some(before) if before == text => self.errors.push(twice),
                    // Another mapping in its place (`MAP_FIXED`) ends a mapping.
                    Some(_) => counts.ended += 1,
                    None => {}
                }
            }
            Act::Ends => {
                let before = self.things.len();
                self.things.retain(|other, _| !is_ended(other, &thing));
                counts.ended += before - self.things.len();
            }
        }
    }
}

/// What a record begins or ends.
fn thing(name: &str, data: &Value) -> Option<(Act, Thing)> {
    let act = match name {
        "file_descriptor_open" | "new_file_mapped" | "thread_created" => Act::Begins,
        "file_descriptor_close" | "file_unmapped" | "thread_terminated" => Act::Ends,
        _ => return None,
    };
    let (descriptor, area) = (&data["file_descriptor_details"], &data["process_memory_details"]);
    let thing = if name.starts_with("file_descriptor") {
        let table = table(descriptor, &data["process_details"]["process_id"]);
        (Kind::Descriptor, descriptor["file_descriptor_index"].to_string(), table)
    } else if name.starts_with("thread") {
        (Kind::Thread, data["thread_details"]["thread_id"].to_string(), String::new())
    } else {
        let bound = |which: &str| {
            let bound = area[format!("virtual_memory_area_{which}_address")].as_str();
            let digits = bound.unwrap_or("").trim_start_matches("0x").to_owned();
            format!("{digits:0>16}")
        };
        (Kind::Mapping, bound("start"), bound("end"))
    };
    Some((act, thing))
}

/// A thread of a descriptor's table: the leader where it has the table, or where nothing is known.
fn table(descriptor: &Value, leader: &Value) -> String {
    let threads = descriptor["file_descriptor_thread_id_array"].as_array();
    let first = threads.and_then(|all| all.first());
    let has_leader = threads.is_some_and(|all| all.contains(leader));
    first.filter(|_| !has_leader).unwrap_or(leader).to_string()
}

/// Whether the end of `thing` is that of `other`. Areas may have grown, shrunk or merged meanwhile.
fn is_ended(other: &Thing, thing: &Thing) -> bool {
    if thing.0 == Kind::Mapping && other.0 == Kind::Mapping {
        return other.1 < thing.2 && thing.1 < other.2;
    }
    other == thing
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(name: &str, program: u64) -> Value {
        json!({ "activity_data": { "name": name, "process_details": {
            "process_id": 10,
            "process_creation_time_iso_8601_ns": "then",
            "process_self_exec_id": program,
            "process_executable_path": "/usr/bin/ls",
        }}})
    }

    fn descriptor(name: &str, index: u64, threads: &[u64]) -> Value {
        let mut record = record(name, 1);
        record["activity_data"]["file_descriptor_details"] =
            json!({ "file_descriptor_index": index, "file_descriptor_thread_id_array": threads });
        record
    }

    fn mapping(name: &str, program: u64, start: &str, end: &str) -> Value {
        let mut record = record(name, program);
        record["activity_data"]["process_memory_details"] = json!({
            "virtual_memory_area_start_address": start,
            "virtual_memory_area_end_address": end,
        });
        record
    }

    fn judge(records: &[Value]) -> (usize, Counts) {
        let mut pairs = Pairs::default();
        let errors: usize = records.iter().map(|record| pairs.read(record).len()).sum();
        let (more, counts) = pairs.end();
        (errors + more.len(), counts)
    }

    #[test]
    fn what_ends_with_its_process_or_an_exec_needs_no_record() {
        let (open, close) = ("file_descriptor_open", "file_descriptor_close");
        let (map, unmap) = ("new_file_mapped", "file_unmapped");
        let (errors, counts) = judge(&[
            descriptor(open, 3, &[10, 11]),
            descriptor(close, 3, &[10, 11]),
            descriptor(open, 3, &[10]),
            descriptor(open, 3, &[11]),
            mapping(map, 1, "0x1000", "0x5000"),
            mapping(map, 1, "0x6000", "0x7000"),
            mapping(unmap, 1, "0x2000", "0x3000"),
            mapping(map, 1, "0x1000", "0x5000"),
            mapping(map, 2, "0x6000", "0x7000"),
            record("process_terminated", 2),
        ]);
        assert_eq!(errors, 0);
        let expected = Counts {
            begun: 7,
            ended: 2,
            with_process: 3,
            with_program: 2,
            left: 0,
            mapped: 4,
            without_path: 0,
            without_hash: 4,
        };
        assert_eq!(counts, expected);
    }

    #[test]
    fn another_mapping_in_its_place_ends_a_mapping() {
        let map = |permissions: &str| {
            let mut map = mapping("new_file_mapped", 1, "0x1000", "0x5000");
            map["activity_data"]["process_memory_details"]["memory_permissions"] =
                permissions.into();
            map
        };
        let (errors, counts) = judge(&[map("r--p"), map("r-xp")]);
        assert_eq!((errors, counts.begun, counts.ended, counts.left), (0, 2, 1, 1));
        assert_eq!(judge(&[map("r--p"), map("r--p")]).0, 1);
    }

    #[test]
    fn what_is_new_twice_or_too_late_has_no_end() {
        let open = descriptor("file_descriptor_open", 3, &[10]);
        let map = mapping("new_file_mapped", 1, "0x1000", "0x5000");
        for (records, wrong) in [
            (vec![open.clone(), open.clone()], 1),
            (vec![map.clone(), map], 1),
            (vec![record("process_terminated", 1), open.clone()], 1),
            (vec![open.clone(), open.clone(), record("process_terminated", 1)], 1),
            (vec![open.clone(), open.clone(), record("events_summed_up", 1)], 0),
            (vec![open.clone(), open.clone(), record("records_dropped", 1)], 0),
            (vec![open.clone(), record("host_initialization_started", 1), open], 0),
        ] {
            assert_eq!(judge(&records).0, wrong, "{records:?}");
        }
    }
}
