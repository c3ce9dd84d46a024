//! What the record of changed permissions says.

use panoptes_decoders::kernel::inode::mode;
use panoptes_records::json::Limits as TextLimits;
use panoptes_records::queue::{QueueSize, Waker, queue};
use panoptes_records::record::header::RecordHeader;
use panoptes_records::record::interface::BluefieldSystem;
use panoptes_tables::{HashKey, StringRoom, Strings};
use serde_json::Value;

use super::*;
use crate::detect::file_content::paths::{AccessBefore, FileOwner};
use crate::detect::{Finding, Findings as _};
use crate::policy::tests::records_of;
use crate::policy::{Policy, PolicyConfig};
use crate::state::container::Containers;
use crate::state::tests::watch::limits;
use crate::time::{Now, RealTime};
use crate::walk::Snapshot;

/// The records of a change of `/usr/local/bin/x`, or of a folder.
fn records(what: GrantedAccess, mode: u16, is_known: bool, config: PolicyConfig) -> Vec<Value> {
    let limits = limits();
    let text = TextLimits::new(limits.string_length as usize);
    let header = RecordHeader::new(&"NONE".into(), &BluefieldSystem::default(), text);
    let mut policy = Policy::new(&limits, config, header, 1, HashKey::new(7));
    let size = QueueSize { blocks: 4, block_bytes: 1 << 20 };
    let (mut out, mut consumer) = queue(size, &Waker::default());
    let owner = Some(FileOwner { uid: 1000, gid: 50 });
    let change = PermissionChange {
        path: if what == GrantedAccess::OpenFolder { b"/etc" } else { b"/usr/local/bin/x" },
        previous: None,
        attributes: Attributes { mode, uid: 0, gid: 42, ino: 12, ..Attributes::default() },
        device: 8 << 20 | 1,
        before: is_known.then_some(AccessBefore { number: 12, permissions: 0o755, owner }),
        what,
        user: None,
        since_ns: RealTime::from_ns(1_795_159_906_905_224_659),
        severity: Some(Severity::High),
    };
    let snapshot = Snapshot::empty(&limits);
    let strings = Strings::new(StringRoom::default(), HashKey::new(1));
    let containers = Containers::new(&limits, HashKey::new(1));
    let now = Now::at(1_795_159_907_905_224_659);
    let cx = ScanContext { snapshot: &snapshot, containers: &containers, strings: &strings, now };
    let accepted = policy.reporter(&mut out).found(&cx, &Finding::PermissionChange(&change));
    assert_eq!(accepted, Acceptance::Yes);
    out.flush();
    records_of(&mut consumer)
}

fn record(what: GrantedAccess, mode: u16, is_known: bool) -> Value {
    records(what, mode, is_known, PolicyConfig::default()).remove(0)
}

#[test]
fn a_program_that_became_set_uid_is_an_alert_with_both_modes() {
    let record = record(GrantedAccess::SetUid, mode::S_IFREG | 0o4755, true);
    assert_eq!((&record["message_type"], &record["severity"]), (&"ALERT".into(), &"HIGH".into()));
    assert_eq!(record["activity_data"]["name"], "file_permissions_changed");
    let file = &record["activity_data"]["file_details"];
    for (key, value) in [
        ("file_path", "/usr/local/bin/x"),
        ("file_type", "REGULAR"),
        ("file_inode_permissions", "4755"),
        ("file_previous_inode_permissions", "0755"),
    ] {
        assert_eq!(file[key], value, "{key}");
    }
    for (key, value) in [
        ("file_inode_number", 12),
        ("file_inode_uid", 0),
        ("file_inode_gid", 42),
        ("file_previous_inode_number", 12),
        ("file_previous_inode_uid", 1000),
        ("file_previous_inode_gid", 50),
    ] {
        assert_eq!(file[key], value, "{key}");
    }
    assert_eq!(record["detection"]["mitre_attack"], serde_json::json!(["T1548.001"]));
    assert_eq!(
        record["detection"]["reason"],
        "/usr/local/bin/x became set-uid: every user who starts it gets the rights of user 0; \
         permissions 4755, user 0, group 42; before, 0755, user 1000, group 50"
    );
}

#[test]
fn a_set_gid_program_and_an_open_folder_have_reasons_of_their_own() {
    let program = record(GrantedAccess::SetGid, mode::S_IFREG | 0o2755, false);
    let reason = program["detection"]["reason"].as_str().unwrap();
    assert!(
        reason.contains("became set-gid: every user who starts it gets the rights of group 42")
    );
    assert!(reason.ends_with("; before, not known"), "{reason}");
    let file = program["activity_data"]["file_details"].as_object().unwrap();
    assert!(file.keys().all(|key| !key.starts_with("file_previous")), "{file:?}");
    let folder = record(GrantedAccess::OpenFolder, mode::S_IFDIR | 0o777, true);
    assert_eq!(folder["message_type"], "ALERT");
    assert_eq!(folder["activity_data"]["file_details"]["file_type"], "DIRECTORY");
    assert_eq!(folder["detection"]["mitre_attack"], serde_json::json!(["T1222.002"]));
    let reason = folder["detection"]["reason"].as_str().unwrap();
    assert!(reason.starts_with("/etc became writable for all, without the sticky bit: "));
}

#[test]
fn a_program_with_capabilities_has_their_names() {
    let record =
        record(GrantedAccess::Capabilities(1 << 7 | 1 << 40), mode::S_IFREG | 0o755, false);
    assert_eq!((&record["message_type"], &record["severity"]), (&"ALERT".into(), &"HIGH".into()));
    assert_eq!(record["detection"]["mitre_attack"], serde_json::json!(["T1548.001"]));
    let names = serde_json::json!(["cap_setuid", "cap_checkpoint_restore"]);
    assert_eq!(record["activity_data"]["file_details"]["file_capabilities"], names);
    assert_eq!(
        record["detection"]["reason"],
        "/usr/local/bin/x gives capabilities to every user who starts it: cap_setuid, \
         cap_checkpoint_restore; permissions 0755, user 0, group 42"
    );
    // A machine may have bits that no capability has yet.
    let all = self::record(GrantedAccess::Capabilities(u64::MAX), mode::S_IFREG | 0o755, false);
    let file = &all["activity_data"]["file_details"];
    assert_eq!(file["file_capabilities"].as_array().unwrap().len(), 41);
    let reason = all["detection"]["reason"].as_str().unwrap();
    assert!(reason.ends_with("cap_checkpoint_restore; permissions 0755, user 0, group 42"));
}

#[test]
fn what_gives_nobody_rights_is_an_event_if_it_is_wanted() {
    let record = record(GrantedAccess::Other, mode::S_IFREG | 0o700, true);
    assert_eq!((&record["message_type"], &record["severity"]), (&"EVENT".into(), &"INFO".into()));
    assert_eq!(record["detection"]["mitre_attack"], serde_json::json!(["T1222.002"]));
    let mut config = PolicyConfig::default();
    config.set_enabled(Activity::FilePermissionsChanged, false);
    for what in [GrantedAccess::SetUid, GrantedAccess::Other] {
        assert_eq!(records(what, mode::S_IFREG | 0o4755, true, config.clone()), [] as [Value; 0]);
    }
}
