//! The type and severity of a change, by the file that has changed.

use panoptes_records::json::Limits as TextLimits;
use panoptes_records::queue::{QueueSize, Waker, queue};
use panoptes_records::record::header::RecordHeader;
use panoptes_records::record::interface::BluefieldSystem;
use panoptes_tables::{HashKey, StringRoom, Strings};
use serde_json::Value;

use super::*;
use crate::detect::{Finding, Findings as _};
use crate::policy::tests::records_of;
use crate::policy::{Policy, PolicyConfig};
use crate::state::FileAtOpen;
use crate::state::container::Containers;
use crate::state::facts::{DescriptorFacts, FileName, InodeFacts, ProcessFacts};
use crate::state::tests::watch::limits;
use crate::time::{Now, RealTime};
use crate::walk::Snapshot;

/// The record of a change, of an activity with this severity.
fn record(configured: Severity, matters: bool, severity: Option<Severity>) -> Value {
    record_of(configured, (matters, severity), None)
}

/// The same of a file that had another name before.
fn record_of(
    configured: Severity,
    (matters, severity): (bool, Option<Severity>),
    previous: Option<&[u8]>,
) -> Value {
    let limits = limits();
    let text = TextLimits::new(limits.string_length as usize);
    let mut header = RecordHeader::new(&"NONE".into(), &BluefieldSystem::default(), text);
    header.set_severity(Activity::FileDescriptorFileContentChange, configured);
    let mut policy = Policy::new(&limits, PolicyConfig::default(), header, 1, HashKey::new(7));
    let size = QueueSize { blocks: 4, block_bytes: 1 << 20 };
    let (mut out, mut consumer) = queue(size, &Waker::default());
    let change = ContentChange {
        process: ProcessFacts { name: b"sh", process_id: 714, ..ProcessFacts::default() },
        descriptor: DescriptorFacts {
            index: 3,
            name: Some(FileName::Text(b"/etc/passwd")),
            inode: Some(InodeFacts { number: 12, size: 20, ..InodeFacts::default() }),
            ..DescriptorFacts::default()
        },
        previous,
        opened: FileAtOpen { size: 10, ..FileAtOpen::default() },
        hashes: None,
        partial: None,
        since_ns: RealTime::from_ns(1_795_159_906_905_224_659),
        matters,
        severity,
    };
    let snapshot = Snapshot::empty(&limits);
    let strings = Strings::new(StringRoom::default(), HashKey::new(1));
    let containers = Containers::new(&limits, HashKey::new(1));
    let now = Now::at(1_795_159_907_905_224_659);
    let cx = ScanContext { snapshot: &snapshot, containers: &containers, strings: &strings, now };
    let accepted = policy.reporter(&mut out).found(&cx, &Finding::FileContent(&change));
    assert_eq!(accepted, Acceptance::Yes);
    out.flush();
    records_of(&mut consumer).remove(0)
}

#[test]
fn a_change_is_an_alert_if_the_file_matters_and_else_an_event() {
    use Severity::{High, Info, Low, Medium};
    for (configured, matters, severity, expected) in [
        (Medium, true, None, ("ALERT", "MEDIUM")),
        (High, true, None, ("ALERT", "HIGH")),
        (Medium, true, Some(Low), ("ALERT", "LOW")),
        (Medium, false, None, ("EVENT", "INFO")),
        (High, false, None, ("EVENT", "INFO")),
        (Medium, false, Some(Low), ("EVENT", "LOW")),
        (Info, true, None, ("ALERT", "INFO")),
    ] {
        let record = record(configured, matters, severity);
        let text = |key: &str| record[key].as_str().unwrap().to_owned();
        let found = (text("message_type"), text("severity"));
        assert_eq!((&*found.0, &*found.1), expected, "{configured:?} {matters} {severity:?}");
        assert_eq!(record["activity_data"]["name"], "file_descriptor_file_content_change");
        let reason = record["detection"]["reason"].as_str().unwrap();
        let begin = "/etc/passwd was closed by sh (process 714) after it was modified: 20 bytes";
        assert!(reason.starts_with(begin), "{reason}");
    }
}

#[test]
fn a_record_names_a_file_as_it_is_named_now_and_before() {
    for previous in [None, Some(&b"/etc/passwd+"[..])] {
        let record = record_of(Severity::Medium, (true, None), previous);
        let descriptor = &record["activity_data"]["file_descriptor_details"];
        assert_eq!(descriptor["file_descriptor_name"], "/etc/passwd");
        let before = descriptor.get("file_descriptor_previous_name").and_then(Value::as_str);
        assert_eq!(before.map(str::as_bytes), previous);
        let reason = record["detection"]["reason"].as_str().unwrap();
        assert!(reason.starts_with("/etc/passwd was closed by sh"), "{reason}");
        let names_it = reason.contains("; it was /etc/passwd+ until it was renamed");
        assert_eq!(names_it, previous.is_some(), "{reason}");
    }
}

#[test]
fn an_event_takes_no_room_of_alerts() {
    let text = TextLimits::new(1024);
    let header = RecordHeader::new(&"NONE".into(), &BluefieldSystem::default(), text);
    let details = FileDescriptorDetails::default();
    let activity = Activity::FileDescriptorFileContentChange;
    let record = Record::new(activity, Details::FileDescriptor(&details));
    let class = header.class_of(&record);
    assert_eq!((class.is_urgent, class.is_alert), (true, true));
    let weight = Weight { message_type: MessageType::Event, severity: Severity::Info };
    let class = header.class_of(&Record { weight: Some(weight), ..record });
    assert_eq!((class.is_urgent, class.is_alert), (false, false));
}
