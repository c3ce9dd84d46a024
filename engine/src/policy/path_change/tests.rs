//! What the record of a changed path says.

use panoptes_decoders::kernel::inode::{Attributes, mode};
use panoptes_records::activities::Severity;
use panoptes_records::json::Limits as TextLimits;
use panoptes_records::queue::{QueueSize, Waker, queue};
use panoptes_records::record::header::RecordHeader;
use panoptes_records::record::interface::BluefieldSystem;
use panoptes_tables::{HashKey, StringRoom, Strings};
use serde_json::Value;

use super::*;
use crate::detect::file_content::paths::{NewNames, PreviousTarget};
use crate::detect::{Finding, Findings as _};
use crate::page_cache::Hashes;
use crate::policy::tests::records_of;
use crate::policy::{Policy, PolicyConfig};
use crate::state::container::Containers;
use crate::state::tests::watch::limits;
use crate::time::{Now, RealTime};
use crate::walk::Snapshot;

fn record(before: Option<PreviousTarget>, severity: Option<Severity>) -> Value {
    record_of(before, severity, (None, 0o755))
}

fn record_of(
    before: Option<PreviousTarget>,
    severity: Option<Severity>,
    (history, permissions): (Option<HistoryLoss>, u16),
) -> Value {
    let limits = limits();
    let text = TextLimits::new(limits.string_length as usize);
    let header = RecordHeader::new(&"NONE".into(), &BluefieldSystem::default(), text);
    let mut policy = Policy::new(&limits, PolicyConfig::default(), header, 1, HashKey::new(7));
    let size = QueueSize { blocks: 4, block_bytes: 1 << 20 };
    let (mut out, mut consumer) = queue(size, &Waker::default());
    let change = PathChange {
        path: b"/usr/bin/tail",
        previous: before.is_none().then_some(&b"/usr/bin/tail.new"[..]),
        attributes: Attributes {
            mode: mode::S_IFREG | permissions,
            ino: 12,
            size: 20,
            mtime_ns: 1_795_159_905_000_000_000,
            ..Attributes::default()
        },
        device: 8 << 20 | 1,
        before,
        hashes: history.is_none().then_some(Hashes {
            sha256: [1; 32],
            sha1: [2; 20],
            md5: [3; 16],
        }),
        partial: None,
        since_ns: RealTime::from_ns(1_795_159_906_905_224_659),
        severity,
        others: NewNames::default(),
        history,
    };
    let snapshot = Snapshot::empty(&limits);
    let strings = Strings::new(StringRoom::default(), HashKey::new(1));
    let containers = Containers::new(&limits, HashKey::new(1));
    let now = Now::at(1_795_159_907_905_224_659);
    let cx = ScanContext { snapshot: &snapshot, containers: &containers, strings: &strings, now };
    let accepted = policy.reporter(&mut out).found(&cx, &Finding::PathChange(&change));
    assert_eq!(accepted, Acceptance::Yes);
    out.flush();
    records_of(&mut consumer).remove(0)
}

#[test]
fn a_record_has_the_file_as_it_is_and_as_it_was() {
    let hashes = Some(Hashes { sha256: [4; 32], sha1: [5; 20], md5: [6; 16] });
    let was =
        PreviousTarget { number: 12, size: 19, modify_time_ns: 7, is_same_file: true, hashes };
    let record = record(Some(was), None);
    assert_eq!(record["message_type"], "ALERT");
    assert_eq!(record["severity"], "MEDIUM");
    let data = &record["activity_data"];
    assert_eq!(data["name"], "file_content_change");
    let file = &data["file_details"];
    assert_eq!(file["file_path"], "/usr/bin/tail");
    assert!(file.get("file_previous_path").is_none());
    assert_eq!(file["file_type"], "REGULAR");
    assert_eq!(file["file_inode_device_identifier"], "8:1");
    assert_eq!(file["file_inode_permissions"], "0755");
    assert_eq!(file["file_inode_size_bytes"], 20);
    assert_eq!(file["file_inode_hash_sha256"], "01".repeat(32));
    assert_eq!(file["file_previous_inode_number"], 12);
    assert_eq!(file["file_previous_inode_size_bytes"], 19);
    assert_eq!(file["file_previous_inode_hash_sha256"], "04".repeat(32));
    assert_eq!(record["detection"]["confidence"], "high");
    let reason = record["detection"]["reason"].as_str().unwrap();
    assert!(reason.starts_with("/usr/bin/tail has 20 bytes, modified at 2026-11-20T"), "{reason}");
}

#[test]
fn a_record_says_what_is_not_known() {
    let new = record(None, Some(Severity::High));
    assert_eq!(new["severity"], "HIGH");
    let file = new["activity_data"]["file_details"].as_object().unwrap();
    assert!(file.keys().all(|key| !key.starts_with("file_previous_inode")), "{file:?}");
    assert_eq!(file["file_previous_path"], "/usr/bin/tail.new");
    let reason = new["detection"]["reason"].as_str().unwrap();
    assert!(reason.starts_with("/usr/bin/tail, a file of 20 bytes, modified at "), "{reason}");
    assert!(reason.ends_with("; it was /usr/bin/tail.new until it was renamed"), "{reason}");
    let other = PreviousTarget {
        number: 11,
        size: 20,
        modify_time_ns: 7,
        is_same_file: false,
        hashes: None,
    };
    let other = record(Some(other), None);
    let reason = other["detection"]["reason"].as_str().unwrap();
    let begin = "/usr/bin/tail names another file: inode 12 of 20 bytes";
    assert!(reason.starts_with(begin), "{reason}");
    assert_eq!(other["detection"]["confidence"], "medium");
}

#[test]
fn a_record_says_that_the_file_is_set_uid_or_set_gid() {
    for (permissions, text) in [
        (0o4755, Some("; it is set-uid and runs with the rights of user 0")),
        (0o2755, Some("; it is set-gid and runs with the rights of group 0")),
        // With mandatory locks.
        (0o2644, None),
        (0o755, None),
    ] {
        let record = record_of(None, None, (None, permissions));
        let reason = record["detection"]["reason"].as_str().unwrap();
        assert_eq!(text.is_some_and(|text| reason.contains(text)), text.is_some(), "{reason}");
        assert_eq!(reason.contains("it is set-"), text.is_some(), "{reason}");
        let techniques = record["detection"]["mitre_attack"].as_array().unwrap();
        assert_eq!(techniques.contains(&"T1548.001".into()), text.is_some(), "{permissions:o}");
    }
}

#[test]
fn a_history_that_was_removed_has_only_what_it_was() {
    let was = PreviousTarget {
        number: 12,
        size: 400,
        modify_time_ns: 7,
        is_same_file: false,
        hashes: None,
    };
    let removed = record_of(Some(was), None, (Some(HistoryLoss::Removed), 0o755));
    let data = &removed["activity_data"];
    assert_eq!(data["name"], "file_content_change");
    assert_eq!(removed["detection"]["mitre_attack"], serde_json::json!(["T1070.003"]));
    let file = data["file_details"].as_object().unwrap();
    assert!(file.keys().all(|key| !key.starts_with("file_inode")), "{file:?}");
    assert!(file.get("file_type").is_none());
    assert_eq!(file["file_previous_inode_size_bytes"], 400);
    let reason = removed["detection"]["reason"].as_str().unwrap();
    let begin = "/usr/bin/tail, a history of a shell, was removed: before, inode 12 of 400 bytes";
    assert!(reason.starts_with(begin), "{reason}");
    let linked = record_of(Some(was), None, (Some(HistoryLoss::Linked), 0o755));
    assert_eq!(linked["activity_data"]["file_details"]["file_inode_number"], 12);
}

/// No descriptor has to write a history that is emptied by `truncate`.
#[test]
fn the_reason_of_a_lost_history_states_how_it_was_lost() {
    for (loss, is_same_file, what) in [
        (HistoryLoss::Emptied, true, "is empty"),
        (HistoryLoss::Emptied, false, "is empty"),
        (HistoryLoss::Linked, false, "is a symbolic link"),
        (HistoryLoss::Replaced, false, "is no file any more"),
        (HistoryLoss::Removed, false, "was removed"),
    ] {
        let was =
            PreviousTarget { number: 12, size: 400, modify_time_ns: 7, is_same_file, hashes: None };
        let record = record_of(Some(was), None, (Some(loss), 0o755));
        let reason = record["detection"]["reason"].as_str().unwrap();
        let expected = format!(
            "/usr/bin/tail, a history of a shell, {what}: before, inode 12 of 400 bytes, modified \
             at 1970-01-01T00:00:00.000000007+00:00"
        );
        assert_eq!(reason, expected);
    }
}
