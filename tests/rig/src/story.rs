//! Checks the stories of a watcher's records: which of them must share an incident, and what the
//! incident's first alert must list.
//!
//! This is a second opinion, made from nothing but the records in their order. What the records do
//! not show is not judged: a process of which no record came before the alert, and one whose parent
//! ended before.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Number of records that an alert lists of each process: its first one and the last ones.
const LISTED: usize = 4;
/// Maximum number of records that an alert lists.
const LISTED_MAX: usize = 32;

/// A process as the records show it.
#[derive(Clone, Debug, Default)]
struct Process {
    parent: u64,
    has_ended: bool,
    /// Its incident, and whether what it starts belongs to that too.
    incident: Option<(String, bool)>,
    /// The `message_id` of each record that an alert would list.
    listed: Vec<String>,
    /// Whether it may belong to an incident although the records do not show that.
    is_unsure: bool,
}

/// The processes, by id and time of creation, and the incidents so far.
#[derive(Debug, Default)]
pub struct Story {
    processes: BTreeMap<(u64, String), Process>,
    /// The last process with each id.
    latest: BTreeMap<u64, (u64, String)>,
    /// The ends of the connections of reverse shells, by incident.
    connections: BTreeMap<String, BTreeSet<String>>,
    /// The incidents of each activity and program: alerts of one cause belong to one incident.
    causes: BTreeMap<(String, String), BTreeSet<String>>,
    /// Number of incidents, and of records that belonged to one as they must.
    pub incidents: usize,
    /// See [`Self::incidents`].
    pub members: usize,
}

/// A process that a record is about.
struct Named<'a> {
    key: (u64, String),
    details: &'a Value,
    /// Whether what it starts belongs to an alert's incident.
    includes_children: bool,
}

impl Story {
    /// Reads the next record; returns what is wrong with its story.
    pub fn read(&mut self, record: &Value) -> Vec<String> {
        let data = &record["activity_data"];
        let activity = data["name"].as_str().unwrap_or("");
        let named = self.named(data);
        let mut errors = Vec::new();
        for process in &named {
            self.note(process, activity);
        }
        let is_high = record["message_type"] == "ALERT" && record["severity"] == "HIGH";
        if let Some(last) = named.last().filter(|_| is_high) {
            errors.extend(self.alert(record, &named, last));
        } else if let Some(process) = named.last() {
            errors.extend(self.member(record, process));
        }
        let lists = ["process_created", "process_executed", "network_connection_created"];
        if let Some(Named { key, .. }) = named.last()
            && (lists.contains(&activity) || record["message_type"] == "ALERT")
            && let Some(process) = self.processes.get_mut(key)
        {
            process.listed.push(text(&record["message_id"]));
        }
        if activity == "process_terminated"
            && let Some(Named { key, .. }) = named.last()
            && let Some(process) = self.processes.get_mut(key)
        {
            process.has_ended = true;
        }
        errors
    }

    /// The processes of a record; of a reverse shell, the interpreter is the last one.
    fn named<'a>(&self, data: &'a Value) -> Vec<Named<'a>> {
        let list = data["reverse_shell_details"]["process_list"].as_array();
        let Some(list) = list else {
            let own = self.key_of(&data["process_details"]);
            let details = &data["process_details"];
            return own
                .map(|key| Named { key, details, includes_children: true })
                .into_iter()
                .collect();
        };
        let count = list.len();
        let named = list.iter().enumerate().filter_map(|(at, item)| {
            let details = &item["process_details"];
            let connections = details["network_connection_list"].as_array();
            let includes_children =
                at + 1 == count || connections.is_some_and(|all| !all.is_empty());
            Some(Named { key: self.key_of(details)?, details, includes_children })
        });
        named.collect()
    }

    /// Id and time of creation of a process. Records have only the id of an owner that has ended.
    fn key_of(&self, details: &Value) -> Option<(u64, String)> {
        let id = details["process_id"].as_u64()?;
        match details["process_creation_time_iso_8601_ns"].as_str() {
            Some(time) => Some((id, time.to_owned())),
            None => self.latest.get(&id).cloned(),
        }
    }

    /// Notes a process; a new one may belong to its parent's incident.
    fn note(&mut self, named: &Named<'_>, activity: &str) {
        let parent = named.details["process_parent_process_id"].as_u64();
        self.latest.insert(named.key.0, named.key.clone());
        if let Some(known) = self.processes.get_mut(&named.key) {
            known.parent = parent.unwrap_or(known.parent);
            return;
        }
        let parent = parent.unwrap_or(0);
        let known = self.latest.get(&parent).and_then(|key| self.processes.get(key));
        let incident = known.and_then(|parent| parent.incident.clone()).filter(|(_, all)| *all);
        // One that was there before may have had another parent when an incident began.
        let is_unsure = activity != "process_created" || known.is_some_and(|one| one.is_unsure);
        let process = Process { parent, incident, is_unsure, ..Process::default() };
        self.processes.insert(named.key.clone(), process);
    }

    fn alert(&mut self, record: &Value, named: &[Named<'_>], last: &Named<'_>) -> Vec<String> {
        let (id, own) = (text(&record["detection"]["incident_id"]), text(&record["message_id"]));
        let mut errors = Vec::new();
        let what = format!("{} {own}", text(&record["activity_data"]["name"]));
        let before: BTreeSet<String> = named
            .iter()
            .filter_map(|process| {
                Some(self.processes.get(&process.key)?.incident.as_ref()?.0.clone())
            })
            .collect();
        let activity = text(&record["activity_data"]["name"]);
        let cause = (activity, text(&last.details["process_executable_path"]));
        let of_cause = self.causes.entry(cause).or_default();
        let may_share = of_cause.contains(&id);
        of_cause.insert(id.clone());
        let expected = if before.is_empty() && !may_share && !self.has_connection(record, &id) {
            BTreeSet::from([own.clone()])
        } else {
            before
        };
        let is_unsure = named.iter().any(|one| self.processes[&one.key].is_unsure);
        let is_right = expected.is_empty() || expected.contains(&id);
        if !is_right && (!is_unsure || id == "null") {
            errors.push(format!("{what} has the incident {id}, not one of {expected:?}"));
        }
        let earlier: BTreeSet<String> = record["detection"]["earlier_message_ids"]
            .as_array()
            .into_iter()
            .flatten()
            .map(text)
            .collect();
        if id == own {
            self.incidents += 1;
            let of = |one: &Named<'_>| listed(&self.processes[&one.key].listed);
            let all: BTreeSet<String> = named.iter().flat_map(of).collect();
            if all.len() <= LISTED_MAX && all != earlier {
                errors.push(format!("{what} lists {earlier:?}, not {all:?}"));
            }
        } else if !earlier.is_empty() {
            errors.push(format!("{what} is not the first alert and lists {earlier:?}"));
        }
        // Nothing is known any more of a parent that has ended.
        let parent = last.details["process_parent_process_id"].as_u64();
        let parent = parent.and_then(|id| self.processes.get(self.latest.get(&id)?));
        if parent.is_none_or(|parent| !parent.has_ended) {
            errors.extend(ancestors(record, last).map(|error| format!("{what}: {error}")));
        }
        self.join(&id, record, named);
        errors
    }

    /// Adds an alert's processes to its incident, and what they have started.
    fn join(&mut self, id: &str, record: &Value, named: &[Named<'_>]) {
        self.connections.entry(id.to_owned()).or_default().extend(connections(record));
        for one in named.iter().filter(|one| one.key.0 > 2) {
            if let Some(process) = self.processes.get_mut(&one.key) {
                let all = process.incident.as_ref().is_some_and(|(_, all)| *all);
                process.incident = Some((id.to_owned(), all || one.includes_children));
            }
        }
        // Parents have smaller ids, unless those have begun anew.
        for _ in 0..4 {
            let keys: Vec<(u64, String)> = self.latest.values().cloned().collect();
            for key in keys {
                let process = &self.processes[&key];
                let parent = self.latest.get(&process.parent).map(|key| &self.processes[key]);
                let Some(parent) = parent.filter(|_| process.incident.is_none()) else { continue };
                let incident = parent.incident.clone().filter(|(_, all)| *all);
                // Its children had another parent by then.
                let is_unsure = parent.has_ended;
                if let Some(process) = self.processes.get_mut(&key).filter(|_| incident.is_some()) {
                    process.incident = incident;
                    process.is_unsure |= is_unsure;
                }
            }
        }
    }

    /// Checks a record that is no alert of severity HIGH.
    fn member(&mut self, record: &Value, named: &Named<'_>) -> Option<String> {
        let process = self.processes.get(&named.key)?;
        let found = record["detection"]["incident_id"].as_str();
        let expected = process.incident.as_ref().map(|(id, _)| id.as_str());
        if process.is_unsure || found == expected {
            self.members += usize::from(found.is_some());
            return None;
        }
        if found.is_some_and(|id| self.has_connection(record, id)) {
            return None;
        }
        let name = text(&record["activity_data"]["name"]);
        Some(format!(
            "{name} of process {} has the incident {found:?}, not {expected:?}",
            named.key.0
        ))
    }

    /// Whether a record is about a connection of this incident.
    fn has_connection(&self, record: &Value, id: &str) -> bool {
        let own = connections(record);
        self.connections.get(id).is_some_and(|known| own.iter().any(|one| known.contains(one)))
    }
}

/// Those that an alert lists of a process's records.
fn listed(all: &[String]) -> Vec<String> {
    let last = all.len().saturating_sub(LISTED - 1).max(1);
    all.iter().take(1).chain(all.iter().skip(last)).cloned().collect()
}

/// The ends of the connections in a record.
fn connections(record: &Value) -> BTreeSet<String> {
    let data = &record["activity_data"];
    let shell = data["reverse_shell_details"]["process_list"].as_array().into_iter().flatten();
    let lists =
        shell.filter_map(|item| item["process_details"]["network_connection_list"].as_array());
    let all = lists.flatten().map(|item| &item["network_connection_details"]);
    all.chain([&data["network_connection_details"]])
        .filter(|details| details.is_object())
        .map(|details| {
            let keys =
                ["source_ip_address", "source_port", "destination_ip_address", "destination_port"];
            keys.map(|key| text(&details[key])).join(" ")
        })
        .collect()
}

/// Describes what is wrong with the ancestors in an alert.
fn ancestors(record: &Value, last: &Named<'_>) -> Option<String> {
    let listed = record["detection"]["process_ancestors"].as_array();
    let first = listed.and_then(|all| all.first()).map(|one| &one["process_id"]);
    let parent = &last.details["process_parent_process_id"];
    let is_right = match (first, parent.as_u64()) {
        (None, None | Some(0 | 1)) => true,
        (Some(first), _) => first == parent,
        (None, Some(_)) => false,
    };
    (!is_right).then(|| format!("the ancestors begin with {first:?}, not {parent}"))
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(
        number: u64,
        name: &str,
        process_id: u64,
        parent: u64,
        incident: Option<u64>,
    ) -> Value {
        let is_alert = name == "process_hidden";
        let mut record = json!({
            "message_type": if is_alert { "ALERT" } else { "EVENT" },
            "severity": if is_alert { "HIGH" } else { "INFO" },
            "message_id": number.to_string(),
            "activity_data": {"name": name, "process_details": {
                "process_id": process_id,
                "process_parent_process_id": parent,
                "process_creation_time_iso_8601_ns": "then",
            }},
        });
        if let Some(incident) = incident {
            record["detection"]["incident_id"] = incident.to_string().into();
        }
        record
    }

    fn alert(number: u64, process_id: u64, earlier: &[&str]) -> Value {
        let mut alert = record(number, "process_hidden", process_id, 1, Some(number));
        alert["detection"]["earlier_message_ids"] = json!(earlier);
        alert
    }

    #[test]
    fn a_right_story_has_no_errors_and_each_wrong_one_has() {
        let created = "process_created";
        let begin = [record(1, created, 10, 1, None), record(2, created, 11, 10, None)];
        let good: Vec<Value> = begin
            .iter()
            .cloned()
            .chain([
                alert(3, 10, &["1"]),
                record(4, created, 12, 11, Some(3)),
                record(5, created, 13, 1, None),
                record(6, "process_terminated", 12, 11, Some(3)),
            ])
            .collect();
        let errors = |records: &[Value]| -> usize {
            let mut story = Story::default();
            records.iter().map(|record| story.read(record).len()).sum()
        };
        assert_eq!(errors(&good), 0);
        let mut orphan = good.clone();
        orphan.push(record(7, "process_terminated", 11, 10, Some(3)));
        orphan.push(alert(8, 12, &[]));
        orphan[7]["activity_data"]["process_details"]["process_parent_process_id"] = 11.into();
        orphan[7]["detection"]["incident_id"] = "3".into();
        assert_eq!(errors(&orphan), 0, "its parent has ended");
        orphan.remove(6);
        assert_eq!(errors(&orphan), 1, "its parent has not ended");
        let mut again = good.clone();
        again.push(record(8, created, 14, 1, None));
        again.push(record(9, "process_hidden", 14, 1, Some(3)));
        assert_eq!(errors(&again), 0, "one cause has one incident");
        for (at, wrong) in [
            (2, alert(3, 10, &[])),
            (2, alert(3, 10, &["1", "2"])),
            (2, record(3, "process_hidden", 10, 1, None)),
            (2, record(3, "process_hidden", 10, 7, Some(3))),
            (3, record(4, created, 12, 11, None)),
            (3, record(4, created, 12, 11, Some(1))),
            (4, record(5, created, 13, 1, Some(3))),
            (5, record(6, "process_terminated", 12, 11, None)),
        ] {
            let mut records = good.clone();
            records[at] = wrong.clone();
            assert!(errors(&records) > 0, "{wrong}");
        }
    }
}
