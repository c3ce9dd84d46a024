//! Records for consumers of DOCA Argus (`service.compatibility: doca_argus`): each field that a
//! known consumer reads is in the records of every activity that has such a thing, as a string, and
//! nothing else differs from Panoptes' own records.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;
#[path = "common/consumers.rs"]
mod consumers;
#[path = "common/every.rs"]
mod every;

use common::{
    CONTAINER_ID, NOW_NS, STRING_LENGTH, service_header_in, stdin_socket, web_1_header,
    web_1_header_in,
};
use consumers::{Consumer, THINGS, scalars_are_strings};
use every::{Filling, each_activity};
use panoptes_records::activities::Activity;
use panoptes_records::dialect::Dialect;
use panoptes_records::json::shorten::shorten;
use panoptes_records::json::time::Timestamp;
use panoptes_records::record::file_descriptor::FileDescriptorDetails;
use panoptes_records::record::header::RecordHeader;
use panoptes_records::record::workload::ContainerContext;
use panoptes_records::record::{Details, DetailsKind, RECORD_BYTES_MAX, Record, RecordWriter};
use serde_json::{Map, Value, json};

/// A process, a file and numbers with known values.
fn filling() -> Filling {
    Filling {
        bytes: b"bash".to_vec(),
        more: b"/usr/bin/bash".to_vec(),
        number: NOW_NS as u64,
        ids: vec![714, 715],
    }
}

fn whole_container() -> ContainerContext<'static> {
    ContainerContext {
        container_id: Some(CONTAINER_ID.into()),
        container_name: Some("web".into()),
        container_image_name: Some("registry.example/web:1".into()),
        container_image_digest: Some("sha256:0a7c52e9".into()),
        pod_uid: Some("0d1e2f30-1111-2222-3333-444455556666".into()),
        pod_name: Some("web-7f9c".into()),
        pod_ip_address: Some([10, 42, 0, 17].into()),
        node_name: Some("node-4".into()),
    }
}

fn text(header: &RecordHeader, record: &Record<'_>, now_ns: i64) -> Vec<u8> {
    let mut out = vec![0; RECORD_BYTES_MAX];
    let mut writer = RecordWriter::new(1, STRING_LENGTH);
    let length = writer.write(&mut out, header, record, now_ns).unwrap();
    out.truncate(length);
    out
}

fn written(header: &RecordHeader, record: &Record<'_>, now_ns: i64) -> Value {
    serde_json::from_slice(&text(header, record, now_ns)).unwrap()
}

/// Calls `check` with a record of every activity as consumers read them.
fn each_record(mut check: impl FnMut(&Record<'_>, &Value)) {
    let (header, container) = (web_1_header_in(Dialect::DocaArgus), whole_container());
    each_activity(&filling(), Dialect::DocaArgus, |record| {
        let record = Record { container: Some(&container), ..*record };
        check(&record, &written(&header, &record, NOW_NS));
    });
}

fn has(record: &Record<'_>, kind: DetailsKind) -> bool {
    record.own.kind() == kind || record.parents.iter().any(|parent| parent.kind() == kind)
}

#[test]
fn every_field_that_a_consumer_reads_is_in_the_records_of_every_activity_that_has_it() {
    let mut seen = [0; 4];
    each_record(|record, value| {
        let things = THINGS.map(|kind| has(record, kind));
        for (count, is_there) in seen.iter_mut().zip(things) {
            *count += usize::from(is_there);
        }
        for consumer in Consumer::ALL {
            for field in consumer.fields(things) {
                let found = value.pointer(&field);
                let (name, activity) = (consumer.name, record.activity.name());
                let is_text = found.is_some_and(Value::is_string);
                assert!(is_text, "{name} reads {field} of {activity}: {found:?}");
            }
        }
    });
    // A shell has its process and its connection.
    assert!(seen[0] > 35 && seen[1] == 9 && seen[2] >= 9 && seen[3] == 1, "{seen:?}");
}

/// The second names of a connection's ends.
const NEWER_NAMES: [(&str, &str); 4] = [
    ("source_ip_address", "local_address"),
    ("source_port", "local_port"),
    ("destination_ip_address", "peer_address"),
    ("destination_port", "peer_port"),
];

/// Whether the dialect has the value: no time of this day is known.
fn is_known(value: &Value) -> bool {
    value.as_str().is_none_or(|text| !text.starts_with("1970-01-01"))
}

/// A record of Panoptes as the dialect has it.
fn translated(value: &Value) -> Value {
    match value {
        Value::Bool(_) | Value::Number(_) => value.to_string().into(),
        Value::Array(all) => all.iter().map(translated).collect(),
        Value::Object(all) => {
            let mut map = Map::new();
            for (key, value) in all.iter().filter(|(_, value)| is_known(value)) {
                map.insert(key.clone(), translated(value));
                if let Some((_, newer)) = NEWER_NAMES.iter().find(|(older, _)| older == key) {
                    map.insert((*newer).to_owned(), translated(value));
                }
            }
            map.into()
        }
        other => other.clone(),
    }
}

#[test]
fn the_dialect_has_all_that_the_records_of_panoptes_have_and_only_strings() {
    each_record(|record, foreign| {
        assert!(scalars_are_strings(foreign), "{foreign}");
        let is_shell = record.activity == Activity::ReverseShellDetected;
        let parents = if is_shell { &[] } else { record.parents };
        let own = written(&web_1_header(), &Record { parents, ..*record }, NOW_NS);
        let mut expected = translated(&own);
        expected["vendor_name"] = "NVIDIA".into();
        expected["product_name"] = "DOCA_ARGUS".into();
        if is_shell {
            let data = &mut expected["activity_data"];
            let mut list = data["reverse_shell_details"]["process_list"].clone();
            let mut shell = list[3]["process_details"].clone();
            // A chain that is too long twice is cut, and most in the details.
            let (kept, details) = (&foreign["activity_data"], "reverse_shell_details");
            let lengths = [&kept["process_list"], &kept[details]["process_list"]];
            let lengths = lengths.map(|list| list.as_array().unwrap().len());
            assert!(2 <= lengths[0] && lengths[1] <= lengths[0], "{lengths:?}");
            assert_eq!(kept[details]["truncated"], "true");
            list.as_array_mut().unwrap().truncate(lengths[0]);
            data[details] = kept[details].clone();
            let lists = shell.as_object_mut().unwrap();
            lists.remove("file_descriptor_list");
            let connections = lists.remove("network_connection_list").unwrap();
            data["network_connection_details"] =
                connections[0]["network_connection_details"].clone();
            (data["process_details"], data["process_list"]) = (shell, list);
        }
        assert_eq!(*foreign, expected, "{}", record.activity.name());
    });
}

#[test]
fn a_kernel_module_has_the_names_that_a_siem_pack_reads() {
    let mut names = Vec::new();
    each_record(|record, value| {
        if has(record, DetailsKind::KernelModule) {
            let details = &value["activity_data"]["kernel_module_details"];
            for name in ["kernel_module_name", "kernel_module_size"] {
                assert!(details[name].is_string(), "{name} of {value}");
            }
            names.push(record.activity.name());
        }
    });
    let expected = ["loaded", "unloaded", "changed", "hidden"];
    assert_eq!(names, expected.map(|what| format!("kernel_module_{what}")));
}

#[test]
fn a_time_that_is_not_known_is_not_written() {
    let times = |seconds| FileDescriptorDetails {
        file_descriptor_inode_change_time_iso_8601_ns: Timestamp::new(seconds, 5),
        file_descriptor_inode_modify_time_iso_8601_ns: Timestamp::new(NOW_NS / 1_000_000_000, 0),
        ..stdin_socket()
    };
    let written = |dialect, seconds: i64, now_ns| {
        let descriptor = times(seconds);
        let own = Details::FileDescriptor(&descriptor);
        written(&web_1_header_in(dialect), &Record::new(Activity::FileDescriptorOpen, own), now_ns)
    };
    let change_time = "/activity_data/file_descriptor_details\
                       /file_descriptor_inode_change_time_iso_8601_ns";
    let modify_time = "/activity_data/file_descriptor_details\
                       /file_descriptor_inode_modify_time_iso_8601_ns";
    let own = written(Dialect::Panoptes, 0, 0);
    assert_eq!(own.pointer(change_time), Some(&json!("1970-01-01T00:00:00.000000005+00:00")));
    for (seconds, is_known) in [(-1, true), (0, false), (86_399, false), (86_400, true)] {
        let value = written(Dialect::DocaArgus, seconds, NOW_NS);
        assert_eq!(value.pointer(change_time).is_some(), is_known, "{value}");
        assert_eq!(value.pointer(modify_time), Some(&json!("2026-11-20T07:31:46.000000000+00:00")));
    }
    // Nor that of a clock that was never set.
    let value = written(Dialect::DocaArgus, 0, 7_000_000_000);
    assert!(!value.to_string().contains("1970"), "{value}");
    assert_eq!(value["message_timezone"], "UTC");
    assert_eq!(value["message_id"].as_str().unwrap().len(), 36);
}

#[test]
fn a_record_that_is_shortened_keeps_its_dialect() {
    let header = service_header_in(Dialect::DocaArgus);
    let filling = Filling { bytes: vec![b'x'; 1000], ids: (0..500).collect(), ..filling() };
    let mut cut = 0;
    each_activity(&filling, Dialect::DocaArgus, |record| {
        let whole = text(&header, record, NOW_NS);
        let mut out = vec![0; 6000];
        let length = shorten(&whole, &mut out).unwrap();
        let short: Value = serde_json::from_slice(&out[..length]).unwrap();
        assert!(scalars_are_strings(&short), "{short}");
        cut += usize::from(short.to_string().contains("\"truncated\":\"true\""));
    });
    assert!(cut > 20, "{cut}");
}
