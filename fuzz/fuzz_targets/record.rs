//! Records as Panoptes writes them: read as serde_json reads them, shortened, and written as events
//! of other schemas.
#![cfg_attr(fuzzing, no_main)]

use panoptes_fuzz::fuzz_target;
use panoptes_records::activities::{Activity, Severity};
use panoptes_records::json::read::{JsonReader, MalformedRecord, Token};
use panoptes_records::json::shorten::shorten;
use panoptes_sinks::output::form::Schema;
use panoptes_sinks::output::form::syslog::{MessageSubject, RecordKind};
use serde_json::Value;

use value::read;

#[path = "../../engine/records/tests/common/value.rs"]
mod value;

fuzz_target!(|data: &[u8]| {
    let Ok(value) = read(data) else { return };
    assert_eq!(serde_json::from_slice::<Value>(data).expect("what is read is JSON"), value);
    events(data);
    let mut out = vec![0; data.len()];
    for part in 1..8 {
        let room = data.len() * part / 8;
        let Ok(length) = shorten(data, &mut out[..room]) else { continue };
        let short = read(&out[..length]).expect("a shortened record can be read");
        let same = serde_json::from_slice::<Value>(&out[..length]).expect("it is JSON");
        assert_eq!(short, same);
    }
});

/// Whatever a record has, its events are JSON. What is no record of an activity has none.
fn events(data: &[u8]) {
    let time = b"2026-11-20T07:31:46.905224659+00:00";
    for &activity in Activity::ALL {
        let about =
            MessageSubject { kind: RecordKind::Activity(activity), severity: Severity::High, time };
        for schema in [Schema::Ocsf, Schema::Ecs] {
            let mut out = Vec::new();
            if schema.append(&about, data, &mut out).is_some() {
                serde_json::from_slice::<Value>(&out).expect("an event is JSON");
            } else {
                assert!(out.is_empty());
            }
        }
    }
}
