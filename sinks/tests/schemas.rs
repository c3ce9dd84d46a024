//! Records as events of published schemas: valid by what these say, and with all that records have.

#![allow(clippy::unwrap_used, reason = "a test may")]

#[path = "../../engine/records/tests/common/mod.rs"]
mod common;
#[path = "../../engine/records/tests/common/every.rs"]
mod every;

use std::collections::BTreeSet;
use std::sync::LazyLock;

use common::{NOW_NS, STRING_LENGTH, service_header_in, web_1_header_in};
use every::{Filling, each_activity};
use panoptes_records::activities::{Activity, MessageType, Severity};
use panoptes_records::dialect::Dialect;
use panoptes_records::record::header::{RecordHeader, Weight};
use panoptes_records::record::value::Uuid;
use panoptes_records::record::workload::Workload;
use panoptes_records::record::{RECORD_BYTES_MAX, Record, RecordWriter};
use panoptes_sinks::output::form::Schema;
use panoptes_sinks::output::form::syslog::{MessageSubject, RecordKind};
use proptest::prelude::*;
use serde_json::Value;

const DIALECTS: [Dialect; 2] = [Dialect::Panoptes, Dialect::DocaArgus];
const SCHEMAS: [Schema; 2] = [Schema::Ocsf, Schema::Ecs];

/// What the published schemas say about the fields that are used, as JSON Schemas.
static OCSF: LazyLock<jsonschema::Validator> =
    LazyLock::new(|| validator(include_str!("schemas/ocsf.json")));
static ECS: LazyLock<jsonschema::Validator> =
    LazyLock::new(|| validator(include_str!("schemas/ecs.json")));

fn validator(schema: &str) -> jsonschema::Validator {
    jsonschema::validator_for(&serde_json::from_str(schema).unwrap()).unwrap()
}

/// The record as an event, if it can be read.
fn event(schema: Schema, record: &str) -> Option<String> {
    let value: Value = serde_json::from_str(record).unwrap();
    let name = value["activity_data"]["name"].as_str().unwrap();
    let severity = Severity::from_word(value["severity"].as_str().unwrap()).unwrap();
    let time = value["occurred_message_time_iso_8601_ns"].as_str().unwrap().as_bytes();
    let activity = Activity::from_name(name).unwrap();
    let about = MessageSubject {
        kind: RecordKind::Activity(activity),
        severity,
        time: time.try_into().unwrap(),
    };
    let mut out = b"before".to_vec();
    schema.append(&about, record.as_bytes(), &mut out)?;
    Some(String::from_utf8(out).unwrap().strip_prefix("before").unwrap().to_owned())
}

/// Checks the events of a record.
fn check(record: &str) {
    for schema in SCHEMAS {
        let event = event(schema, record).expect("an event");
        assert!(!event.contains('\n'));
        let value: Value = serde_json::from_str(&event).unwrap();
        // A key that comes twice is lost in the value. Escapes may have another length.
        if event.is_ascii() && !event.contains('\\') {
            assert_eq!(value.to_string().len(), event.len(), "{event}");
        }
        let validator = match schema {
            Schema::Ocsf => &*OCSF,
            Schema::Ecs => &*ECS,
        };
        let errors: Vec<_> = validator
            .iter_errors(&value)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{errors:#?} in {event}");
        let (mut has, mut needs) = (BTreeSet::new(), BTreeSet::new());
        leaves(&value, &mut has);
        leaves(&serde_json::from_str(record).unwrap(), &mut needs);
        let lost: Vec<_> = needs.difference(&has).collect();
        assert!(lost.is_empty(), "{schema:?} lacks {lost:?}: {event}");
    }
}

/// All values in an event or a record, as small letters: numbers may be texts, and some words are
/// written so. A text of many lines has many values.
fn leaves(value: &Value, to: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => object.values().for_each(|value| leaves(value, to)),
        Value::Array(list) => list.iter().for_each(|value| leaves(value, to)),
        Value::String(text) => drop(to.insert(text.to_ascii_lowercase())),
        other => drop(to.insert(other.to_string())),
    }
}

/// Calls `take` with a record of every activity in each dialect, with all that it can have, and
/// with as little as possible.
fn each_record(filling: &Filling, mut take: impl FnMut(&str)) {
    for dialect in DIALECTS {
        let mut booted = service_header_in(dialect);
        booted.set_workload(&Workload {
            unique_identifier: Some("web-1".into()),
            kernel_boot_id: Some(Uuid([0x5f; 16])),
            ..Workload::default()
        });
        let service = (service_header_in(dialect), false);
        for (header, has_system) in [service, (web_1_header_in(dialect), true), (booted, true)] {
            each_activity(filling, dialect, |record| {
                let container = record.container.filter(|_| has_system);
                take(&written(&header, &Record { container, ..*record }));
                let event = Weight { message_type: MessageType::Event, severity: Severity::Info };
                let info = record.activity.info();
                let is_alert = info.message_type == MessageType::Alert;
                let bare = Record {
                    parents: &[],
                    container: None,
                    detection: record.detection.filter(|_| is_alert),
                    weight: record.activity.is_weighed().then_some(event),
                    ..*record
                };
                take(&written(&header, &bare));
            });
        }
    }
}

fn written(header: &RecordHeader, record: &Record<'_>) -> String {
    let mut out = vec![0; RECORD_BYTES_MAX];
    let mut writer = RecordWriter::new(1, STRING_LENGTH);
    let length = writer.write(&mut out, header, record, NOW_NS).unwrap();
    out.truncate(length);
    String::from_utf8(out).unwrap()
}

fn plain() -> Filling {
    Filling {
        bytes: b"/usr/bin/a b".to_vec(),
        more: b"/usr/bin/bash".to_vec(),
        number: 17,
        ids: vec![1, 2],
    }
}

#[test]
fn the_golden_records_give_valid_events_that_have_everything() {
    let records = [
        include_str!("../../engine/records/tests/golden/records.jsonl"),
        include_str!("../../engine/records/tests/golden/doca_argus.jsonl"),
    ];
    records.iter().flat_map(|records| records.lines()).for_each(check);
}

#[test]
fn every_activity_gives_a_valid_event_that_has_everything() {
    each_record(&plain(), check);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn every_activity_gives_a_valid_event_whatever_the_names(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        more in proptest::collection::vec(any::<u8>(), 0..300),
        number in any::<u64>(),
    ) {
        each_record(&Filling { bytes, more, number, ids: vec![1, 2] }, check);
    }
}

#[test]
fn what_is_no_record_gives_no_event() {
    let golden =
        include_str!("../../engine/records/tests/golden/records.jsonl").lines().next().unwrap();
    for schema in SCHEMAS {
        let about = |time| {
            let (activity, severity) = (Activity::ProcessCreated, Severity::Info);
            MessageSubject { kind: RecordKind::Activity(activity), severity, time }
        };
        let time = b"2026-11-20T07:31:46.905224659+00:00";
        for end in [0, 1, 40, golden.len() - 1] {
            let mut out = b"before".to_vec();
            let record = &golden.as_bytes()[..end];
            assert_eq!(schema.append(&about(time), record, &mut out), None);
            assert_eq!(out, b"before");
        }
    }
}

/// Writes one event of every kind to the folder that `PANOPTES_EVENTS` names, for validation
/// against the whole schemas.
#[test]
fn events_are_written_for_other_validators() {
    let Some(folder) = std::env::var_os("PANOPTES_EVENTS").map(std::path::PathBuf::from) else {
        return;
    };
    for schema in SCHEMAS {
        let mut lines = String::new();
        let mut add = |record: &str| lines += &(event(schema, record).unwrap() + "\n");
        each_record(&plain(), &mut add);
        for records in [
            include_str!("../../engine/records/tests/golden/records.jsonl"),
            include_str!("../../engine/records/tests/golden/doca_argus.jsonl"),
        ] {
            records.lines().for_each(&mut add);
        }
        let name = format!("{schema:?}.jsonl").to_ascii_lowercase();
        std::fs::write(folder.join(name), lines).unwrap();
    }
}
