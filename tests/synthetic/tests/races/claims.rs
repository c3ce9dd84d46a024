//! What records claim, and whether it was so.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use panoptes_records::json::time::Timestamp;
use serde_json::Value;

use crate::common::line;
use crate::truth::{Facts, Life, Present, Range, Truth};

/// What a machine has according to its records, and the claims that were never so.
#[derive(Debug, Default)]
pub(crate) struct Book {
    present: Present,
    ended: BTreeSet<Life>,
    /// Number of executions of each process.
    executions: HashMap<Life, Option<u64>>,
    /// The fields of each program that were right in an earlier record.
    known: HashSet<(Life, u64, &'static str)>,
    /// Number of fields that were wrong of processes that ended in the scan that first showed them.
    pub(crate) excused: u64,
    pub(crate) violations: Vec<String>,
    /// Number of records of each activity.
    pub(crate) counts: BTreeMap<String, u64>,
}

/// Activities of which a record may tell what a race made unreadable.
const ABOUT_SCANS: [&str; 3] = ["coverage_report", "coverage_degraded", "coverage_restored"];

/// The only alert that something deserves: a file was written.
const CONTENT: &str = "file_descriptor_file_content_change";

/// Whether the file of a record was ever written.
fn is_written(record: &Value, truth: &Truth) -> bool {
    let details = &record["activity_data"]["file_descriptor_details"];
    let inode = details["file_descriptor_inode_number"].as_u64();
    inode.is_some_and(|inode| truth.written.contains(&inode))
}

impl Book {
    /// Judges a record by everything that ever was.
    pub(crate) fn read(&mut self, record: &Value, truth: &Truth) {
        let name = record["activity_data"]["name"].as_str().unwrap_or_default();
        *self.counts.entry(name.to_owned()).or_default() += 1;
        let mut wrong = Vec::new();
        match record["message_type"].as_str() {
            Some("EVENT") if name != CONTENT => {}
            Some("EVENT" | "ALERT") if name == CONTENT && is_written(record, truth) => {}
            Some("SYSTEM_ACTIVITY") if ABOUT_SCANS.contains(&name) => return,
            _ => wrong.push("nothing that happened deserves it".to_owned()),
        }
        let data = &record["activity_data"];
        let life = life(&data["process_details"]);
        if let Some(life) = life {
            match truth.lives.get(&life) {
                None => wrong.push("there was no such process".to_owned()),
                Some(facts) => {
                    self.mixed(life, &data["process_details"], facts, &mut wrong);
                    let id = &record["workload_information"]["container_context"]["container_id"];
                    let is_in = |id: &str| facts.containers.iter().any(|path| path.contains(id));
                    if id.as_str().is_some_and(|id| !is_in(id)) {
                        wrong.push(format!("the process was never in this container: {id}"));
                    }
                }
            }
            let executions = data["process_details"]["process_self_exec_id"].as_u64();
            // A change of a file is about the program that wrote it.
            if name != CONTENT && self.executions.insert(life, executions) != Some(executions) {
                // An exec replaces all areas.
                self.present.areas.retain(|it| it.life != life);
            }
            self.process(name, life, &mut wrong);
            self.thread(name, (life, &data["thread_details"]), truth, &mut wrong);
            self.descriptor(name, (life, &data["file_descriptor_details"]), truth, &mut wrong);
            self.area(name, (life, &data["process_memory_details"]), truth, &mut wrong);
        } else if !data["process_details"].is_null() && data["network_connection_details"].is_null()
        {
            wrong.push("the time of the process's creation is not known".to_owned());
        }
        self.connection(name, &data["network_connection_details"], truth, &mut wrong);
        self.module(name, &data["kernel_module_details"], truth, &mut wrong);
        self.violations.extend(wrong.into_iter().map(|why| format!("{why}: {}", brief(record))));
    }

    /// Whether the fields of a process are those that it had.
    ///
    /// One case is excused, and counted: a process that ended in the scan that first showed it, or
    /// its program, is described by memory that may have been another's by then.
    fn mixed(&mut self, life: Life, details: &Value, facts: &Facts, wrong: &mut Vec<String>) {
        let executions = details["process_self_exec_id"].as_u64().unwrap_or_default();
        let texts = [
            ("process_name", &facts.names),
            ("process_executable_path", &facts.executables),
            ("process_command_line_arguments", &facts.arguments),
        ];
        let numbers =
            [("process_parent_process_id", &facts.parents), ("process_real_user_id", &facts.users)];
        let texts = texts
            .into_iter()
            .filter_map(|(key, known)| Some((key, known.contains(details[key].as_str()?))));
        let numbers = numbers.into_iter().filter_map(|(key, known)| {
            Some((key, known.contains(&(details[key].as_u64()? as u32))))
        });
        for (key, is_right) in texts.chain(numbers) {
            let field = (life, executions, key);
            if is_right {
                self.known.insert(field);
            } else if facts.has_ended && key != "process_name" && !self.known.contains(&field) {
                self.excused += 1;
            } else {
                wrong.push(format!("the process never had this {key}"));
            }
        }
    }

    fn process(&mut self, name: &str, life: Life, wrong: &mut Vec<String>) {
        let is_wrong = match name {
            "process_created" => !self.present.processes.insert(life) || self.ended.contains(&life),
            "process_terminated" => {
                let was_there = self.present.processes.remove(&life);
                self.ended.insert(life);
                // What it had ended with it.
                self.forget_all_of(life);
                !was_there
            }
            // A connection may outlive its process, and a change is reported when its file is
            // closed everywhere.
            _ => {
                let may_outlive = name.contains("network_connection") || name == CONTENT;
                self.ended.contains(&life) && !may_outlive
            }
        };
        if is_wrong {
            wrong.push("its process was created before, was never, or has ended".to_owned());
        }
    }

    fn forget_all_of(&mut self, life: Life) {
        self.present.threads.retain(|it| it.0 != life);
        self.present.descriptors.retain(|it, _| it.0 != life);
        self.present.areas.retain(|it| it.life != life);
    }

    fn thread(
        &mut self,
        name: &str,
        (life, details): (Life, &Value),
        truth: &Truth,
        wrong: &mut Vec<String>,
    ) {
        let Some(tid) = details["thread_id"].as_u64() else { return };
        let thread = (life, tid as u32);
        if !truth.threads.contains(&thread) {
            wrong.push("the process never had this thread".to_owned());
        }
        let acts = ["thread_created", "thread_terminated"];
        if !follow(&mut self.present.threads, thread, name, acts) {
            wrong.push("the same was reported of this thread before".to_owned());
        }
    }

    fn descriptor(
        &mut self,
        name: &str,
        (life, details): (Life, &Value),
        truth: &Truth,
        wrong: &mut Vec<String>,
    ) {
        let Some(index) = details["file_descriptor_index"].as_u64() else { return };
        let index = index as u32;
        let Some(inode) = details["file_descriptor_inode_number"].as_u64() else {
            wrong.push("its inode is not known".to_owned());
            return;
        };
        if !truth.descriptors.contains(&(life, index, inode)) {
            let were = truth.descriptors.iter().filter(|it| it.2 == inode).collect::<Vec<_>>();
            wrong.push(format!("this descriptor never led to this file, but {were:?}"));
        }
        let path = text(&details["file_descriptor_name"]);
        if path.is_some_and(|path| !truth.names.contains(&(inode, path.clone()))) {
            wrong.push("the file never had this name".to_owned());
        }
        let key = (life, index);
        let is_right = match name {
            "file_descriptor_open" => self.present.descriptors.insert(key, inode).is_none(),
            "file_descriptor_close" => self.present.descriptors.remove(&key) == Some(inode),
            _ => true,
        };
        if !is_right {
            wrong.push("it was open before, or not with this file".to_owned());
        }
    }

    fn area(
        &mut self,
        name: &str,
        (life, details): (Life, &Value),
        truth: &Truth,
        wrong: &mut Vec<String>,
    ) {
        let bound = |which: &str| {
            let value = &details[format!("virtual_memory_area_{which}_address")];
            u64::from_str_radix(value.as_str()?.trim_start_matches("0x"), 16).ok()
        };
        let (Some(start), Some(end)) = (bound("start"), bound("end")) else { return };
        let range = Range { life, start, end };
        let permissions = text(&details["memory_permissions"]).unwrap_or_default();
        let path = text(&details["file_path"]).unwrap_or_default();
        if !truth.areas.contains(&(range.clone(), permissions, path)) {
            wrong.push("the process never had this area".to_owned());
        }
        let acts = ["process_memory_created", "process_memory_terminated"];
        // An area that has grown ends with other bounds than it began with.
        let has_grown = name == acts[1] && !self.present.areas.contains(&range);
        let mut shown = self.present.areas.iter().filter(|it| has_grown && it.overlaps(&range));
        let range = shown.next().cloned().unwrap_or(range);
        if !follow(&mut self.present.areas, range, name, acts) {
            wrong.push("the same was reported of this area before".to_owned());
        }
    }

    fn connection(&mut self, name: &str, details: &Value, truth: &Truth, wrong: &mut Vec<String>) {
        let end = |which: &str| {
            let address = details[format!("{which}_ip_address")].as_str()?;
            Some(format!("{address}:{}", details[format!("{which}_port")].as_u64()?))
        };
        let (Some(source), Some(destination)) = (end("source"), end("destination")) else { return };
        let ends = format!("{source} {destination}");
        if !truth.connections.contains(&ends) {
            wrong.push("there was no such connection".to_owned());
        }
        let acts = ["network_connection_created", "network_connection_terminated"];
        if !follow(&mut self.present.connections, ends, name, acts) {
            wrong.push("the same was reported of this connection before".to_owned());
        }
    }

    fn module(&mut self, name: &str, details: &Value, truth: &Truth, wrong: &mut Vec<String>) {
        let Some(module) = details["kernel_module_name"].as_str() else { return };
        let address = details["kernel_module_address"].as_str().unwrap_or_default();
        let module = format!("{module} {address}");
        if !truth.modules.contains(&module) {
            wrong.push("there was no such module".to_owned());
        }
        if name == "kernel_module_changed" {
            wrong.push("no module ever changes".to_owned());
        }
        let acts = ["kernel_module_loaded", "kernel_module_unloaded"];
        if !follow(&mut self.present.modules, module, name, acts) {
            wrong.push("the same was reported of this module before".to_owned());
        }
    }

    /// Compares what records have shown with what the machine has in the end.
    pub(crate) fn end(&mut self, truth: &Present) {
        for &zombie in &truth.zombies {
            self.forget_all_of(zombie);
        }
        let (shown, found) = (&self.present, &mut self.violations);
        differ("process", &shown.processes, &truth.processes, found);
        differ("thread", &shown.threads, &truth.threads, found);
        let entries = |all: &BTreeMap<(Life, u32), u64>| -> BTreeSet<_> {
            all.iter().map(|(&key, &inode)| (key, inode)).collect()
        };
        differ("descriptor", &entries(&shown.descriptors), &entries(&truth.descriptors), found);
        differ("area", &continued(&shown.areas, &truth.areas), &truth.areas, found);
        differ("connection", &shown.connections, &truth.connections, found);
        differ("module", &shown.modules, &truth.modules, found);
    }
}

/// The areas that records have shown, with their bounds in the end. An area that was unmapped and
/// another one that was mapped over a part of it between two scans are one that has grown: the
/// kernel merges neighbours (`vma_merge`, mm/vma.c), and no scan can tell.
fn continued(shown: &BTreeSet<Range>, truth: &BTreeSet<Range>) -> BTreeSet<Range> {
    let mut areas = shown.clone();
    for area in truth.difference(shown) {
        let grown = areas.difference(truth).find(|it| it.overlaps(area)).cloned();
        if grown.is_some_and(|grown| areas.remove(&grown)) {
            areas.insert(area.clone());
        }
    }
    areas
}

fn differ<T: Ord + std::fmt::Debug>(
    what: &str,
    shown: &BTreeSet<T>,
    truth: &BTreeSet<T>,
    found: &mut Vec<String>,
) {
    found.extend(
        shown.difference(truth).map(|it| format!("{what} is gone but not reported: {it:?}")),
    );
    found.extend(
        truth.difference(shown).map(|it| format!("{what} is there but not reported: {it:?}")),
    );
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn life(details: &Value) -> Option<Life> {
    let pid = details["process_id"].as_u64()? as u32;
    let created = details["process_creation_time_iso_8601_ns"].as_str()?;
    let (seconds, nanoseconds) = Timestamp::parse(created.as_bytes().try_into().ok()?)?.parts();
    let created_ns = u64::try_from(seconds).ok()? * 1_000_000_000 + u64::from(nanoseconds);
    Some(Life { pid, created_ns })
}

/// Notes in what is there that a record of that name begins or ends it; `false` if that was so
/// before. Other records change nothing.
fn follow<T: Ord>(there: &mut BTreeSet<T>, it: T, name: &str, [begins, ends]: [&str; 2]) -> bool {
    if name == begins { there.insert(it) } else { name != ends || there.remove(&it) }
}

/// What a record is about, in a line.
pub(crate) fn brief(record: &Value) -> String {
    line(
        &record["activity_data"],
        &[
            ("process_details", "process_id"),
            ("process_details", "process_creation_time_iso_8601_ns"),
            ("process_details", "process_name"),
            ("process_details", "process_executable_path"),
            ("thread_details", "thread_id"),
            ("file_descriptor_details", "file_descriptor_index"),
            ("file_descriptor_details", "file_descriptor_inode_number"),
            ("file_descriptor_details", "file_descriptor_name"),
            ("process_memory_details", "virtual_memory_area_start_address"),
            ("process_memory_details", "virtual_memory_area_end_address"),
            ("process_memory_details", "memory_permissions"),
            ("process_memory_details", "file_path"),
            ("network_connection_details", "connection_state"),
            ("network_connection_details", "source_port"),
            ("network_connection_details", "file_descriptor_id"),
            ("kernel_module_details", "kernel_module_name"),
            ("kernel_module_details", "kernel_module_address"),
            ("system_activity_details", "reason"),
            ("detection_details", "reason"),
        ],
    )
}
