//! Records of memory that became executable, and no longer is.

use serde_json::json;

use super::{Reader, details, names};
use crate::state::tests::watch::limits;
use crate::state::tests::world::{FakeArea, FakeProcess, R, W, World, X};

const PAGES: u64 = 0xffff_8889_0000_0000;

fn with(flags: u64) -> World {
    let mut process = FakeProcess::new(714);
    process.areas =
        vec![FakeArea::anonymous(0x7f1c_3000_0000, 0x7f1c_3000_1000, flags).written(PAGES)];
    World::default().with(process)
}

#[test]
fn an_alert_has_all_its_evidence() {
    let mut reader = Reader::new(&limits());
    reader.scan(&with(R | W));
    let records = reader.scan(&with(R | X));
    assert_eq!(names(&records), ["executable_permissions_added"]);
    let alert = &records[0];
    assert_eq!(alert["severity"], "MEDIUM");
    let memory = json!({
        "process_id": 714,
        "virtual_memory_area_start_address": "0x7f1c30000000",
        "virtual_memory_area_end_address": "0x7f1c30001000",
        "memory_permissions": "r-xp",
        "is_main_process_executable": false,
    });
    assert_eq!(*details(alert, "process_memory_details"), memory);
    assert_eq!(details(alert, "process_details")["process_id"], 714);
    let detection = &alert["detection"];
    assert_eq!(
        detection["reason"],
        "task714 (process 714): 4096 bytes of memory without a file at 0x7f1c30000000 were \
         written and can be executed now; they are no part of a runtime's reserved code cache: \
         rw-p before, r-xp now"
    );
    assert_eq!(detection["mitre_attack"], json!(["T1055", "T1620"]));
    assert_eq!(detection["attack_version"], "19");
    assert_eq!(detection["sensor"], "PANOPTES");
    assert_eq!(detection["confidence"], "medium");
    assert_eq!(detection["scans_confirmed"], 1);
    let records = reader.scan(&with(R | W));
    assert_eq!(names(&records), ["executable_permissions_removed"]);
    assert_eq!(records[0]["detection"]["confidence"], "low");
    // It is no longer new.
    let records = reader.scan(&with(R | X));
    assert_eq!(names(&records), ["executable_permissions_added"]);
    let reason = records[0]["detection"]["reason"].as_str().unwrap();
    assert!(reason.ends_with("r-xp now, executable at an earlier time"), "{reason}");
}
