//! The time at which a record's facts happened, by the guest's own clock.
//!
//! A script announces its act, but on an emulated machine a fork, an exec and a connection take as
//! long as a few scans. So the guest's kernel notes (tracefs) when processes were forked, became
//! programs and made memory executable, and when connections were established. The last noted event
//! that a record names, before the record came, is the moment from which the record could be
//! emitted.
//!
//! Lines that scripts print, when they act and when they end, relate the guest's clock to the
//! host's. Their way out takes a while. The shortest way counts, less the shortest round trip, so
//! that on an idle host the times from a fact to its record come out too long rather than too
//! short.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::watcher::Arrival;
use crate::error::Result;
use crate::guest::Guest;

/// Makes the kernel note events; once per boot.
const BEGIN: &str = "run mount -t tracefs tracefs /sys/kernel/tracing 2> /dev/null; \
    cd /sys/kernel/tracing && echo boot > trace_clock && echo 256 > buffer_size_kb && \
    for event in sched/sched_process_fork sched/sched_process_exec sock/inet_sock_set_state \
    syscalls/sys_exit_mprotect; do echo 1 > events/$event/enable; done; true";
/// The beginning of a script with an act: deletes earlier notes, and announces the act.
pub(super) const PRELUDE: &str = include_str!("../../../scenarios/lib/moments.sh");
/// Reads the last notes.
const READ: &str = "run tail -n 3000 /sys/kernel/tracing/trace 2> /dev/null; true";
/// How often the round trip is measured.
const ROUNDS: usize = 30;

/// How one guest's clock can be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// The shortest round trip of a command to the agent.
    round: Duration,
}

/// A number that a script printed, and when it came out.
pub(super) type Sync = (u32, Instant);

/// An event that the kernel noted: seconds since boot, and what.
struct Note<'a> {
    at: f64,
    name: &'a str,
    words: &'a str,
}

impl Clock {
    /// Makes a guest's kernel note events.
    pub(super) fn start(guest: &mut Guest) -> Result<Self> {
        guest.agent(BEGIN)?;
        let mut round = Duration::MAX;
        for _ in 0..ROUNDS {
            let asked = Instant::now();
            guest.agent("hello")?;
            round = round.min(asked.elapsed());
        }
        Ok(Self { round })
    }

    /// The time from the last fact that a record names until the record.
    pub(super) fn latency(
        self,
        guest: &mut Guest,
        arrival: &Arrival,
        syncs: &[Sync],
    ) -> Option<Duration> {
        let named = Named::of(&arrival.record);
        if named.facts.is_empty() {
            return None;
        }
        let lines = guest.agent(READ).ok()?;
        let notes: Vec<Note<'_>> = lines.iter().filter_map(|line| Note::of(line)).collect();
        let zero = syncs.first()?.1;
        // Added to the guest's time, this gives the host's, since `zero`.
        let offset = syncs
            .iter()
            .filter_map(|(number, at)| {
                let words = format!("sync {number}");
                let note = notes
                    .iter()
                    .find(|note| note.name == "tracing_mark_write" && note.words == words)?;
                Some(at.duration_since(zero).as_secs_f64() - note.at)
            })
            .min_by(f64::total_cmp)?
            - self.round.as_secs_f64();
        let arrived = arrival.at.checked_duration_since(zero)?.as_secs_f64();
        notes
            .iter()
            .filter(|note| named.is_in(note))
            .map(|note| arrived - (note.at + offset))
            .filter(|late| *late >= 0.0)
            .min_by(f64::total_cmp)
            .map(Duration::from_secs_f64)
    }
}

impl<'a> Note<'a> {
    /// `  bash-12  [001] d..2.  8.123456: sched_process_exec: filename=/bin/sh pid=12 old_pid=12`
    fn of(line: &'a str) -> Option<Self> {
        let (head, rest) = line.split_once("] ")?;
        let rest = if head.trim_start().starts_with('#') { return None } else { rest };
        let (head, rest) = rest.split_once(": ")?;
        let at = head.split_whitespace().last()?.parse().ok()?;
        match rest.split_once(": ") {
            Some((name, words)) => Some(Self { at, name, words }),
            // `sys_mprotect -> 0x0`, by the process before the bracket.
            None => Some(Self { at, name: rest.split(' ').next()?, words: line }),
        }
    }

    fn value(&self, key: &str) -> Option<&'a str> {
        self.words.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }
}

/// The events before a record of an activity, among those that the kernel notes.
fn facts_of(activity: &str) -> &'static [&'static str] {
    match activity {
        "reverse_shell_detected" => &[FORK, EXEC, STATE],
        "process_created" => &[FORK],
        "network_connection_created" => &[STATE],
        "executable_permissions_added" | "executable_permissions_removed" => &[MPROTECT],
        _ if activity.starts_with("foreign_binary") || activity.starts_with("binary_executed") => {
            &[FORK, EXEC]
        }
        _ => &[],
    }
}

const FORK: &str = "sched_process_fork";
const EXEC: &str = "sched_process_exec";
const STATE: &str = "inet_sock_set_state";
const MPROTECT: &str = "sys_mprotect";

/// The processes and connections that a record names.
#[derive(Default)]
struct Named {
    facts: &'static [&'static str],
    processes: Vec<String>,
    ports: Vec<(String, String)>,
}

impl Named {
    fn of(record: &Value) -> Self {
        let activity = record["activity_data"]["name"].as_str().unwrap_or_default();
        let mut named = Self { facts: facts_of(activity), ..Self::default() };
        named.add(&record["activity_data"]);
        named
    }

    fn add(&mut self, value: &Value) {
        match value {
            Value::Object(map) => {
                if let Some(process) = map.get("process_id") {
                    self.processes.push(process.to_string());
                }
                if let (Some(source), Some(destination)) =
                    (map.get("source_port"), map.get("destination_port"))
                {
                    self.ports.push((source.to_string(), destination.to_string()));
                }
                map.values().for_each(|value| self.add(value));
            }
            Value::Array(all) => all.iter().for_each(|value| self.add(value)),
            _ => {}
        }
    }

    /// Whether an event is about these.
    fn is_in(&self, note: &Note<'_>) -> bool {
        let process = |key: &str| {
            note.value(key).is_some_and(|process| self.processes.iter().any(|p| p == process))
        };
        if !self.facts.contains(&note.name) {
            return false;
        }
        match note.name {
            FORK => process("child_pid"),
            EXEC => process("pid"),
            MPROTECT => self.processes.iter().any(|process| {
                let task = note.words.split('[').next().unwrap_or_default().trim_end();
                task.rsplit('-').next() == Some(process)
            }),
            STATE => {
                let is = |(source, destination): &(String, String)| {
                    note.value("sport") == Some(source) && note.value("dport") == Some(destination)
                };
                note.value("newstate") == Some("TCP_ESTABLISHED") && self.ports.iter().any(is)
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_record_names_is_found_among_what_was_noted() {
        let record = |name: &str| {
            json!({ "activity_data": { "name": name, "reverse_shell_details": { "process_list": [
                { "process_id": 12, "network_connection_list": [
                    { "source_port": 7, "destination_port": 8 },
                ] },
            ] } } })
        };
        let shell = Named::of(&record("reverse_shell_detected"));
        let permissions = Named::of(&record("executable_permissions_added"));
        let cases = [
            (
                "  bash-9  [001] d..2.  8.5: sched_process_exec: \
                 filename=/bin/a b pid=12 old_pid=12",
                true,
            ),
            (
                "  bash-12  [001] d..2.  8.5: sched_process_exec: \
                 filename=/bin/a pid=13 old_pid=13",
                false,
            ),
            (
                "  my task-9  [000] .....  8.5: sched_process_fork: \
                 comm=a b pid=9 child_comm=a b child_pid=12",
                true,
            ),
            ("  a-12  [000] .....  8.5: sys_mprotect -> 0x0", true),
            ("  a-b-9  [000] .....  8.5: sys_mprotect -> 0x0", false),
            (
                "  <idle>-0  [001] ..s3.  8.5: inet_sock_set_state: family=AF_INET \
                 protocol=IPPROTO_TCP sport=7 dport=8 saddr=127.0.0.1 daddr=127.0.0.1 saddrv6=::1 \
                 daddrv6=::1 oldstate=TCP_SYN_SENT newstate=TCP_ESTABLISHED",
                true,
            ),
            ("# tracer: nop", false),
            ("#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION", false),
        ];
        for (line, is) in cases {
            let note = Note::of(line);
            let named = if line.contains(MPROTECT) { &permissions } else { &shell };
            let other = if line.contains(MPROTECT) { &shell } else { &permissions };
            assert_eq!(note.as_ref().is_some_and(|note| named.is_in(note)), is, "{line}");
            assert!(!note.as_ref().is_some_and(|note| other.is_in(note)), "{line}");
            assert!(note.is_none_or(|note| (note.at - 8.5).abs() < 1e-9), "{line}");
        }
    }
}
