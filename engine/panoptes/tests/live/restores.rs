//! Machines that are saved and restored: the boot continues, from the time at which it was saved.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use panoptes_rig::{Flavor, Guest};
use serde_json::json;

use crate::record::{Record, assert_no_end, count};
use crate::watcher::Watch;
use crate::{barrier, inside, laws};

/// How long saving may take.
const PATIENCE: Duration = Duration::from_mins(2);

/// A guest whose memory is a file that outlives it; with `saved`, restored from that file.
fn guest(folder: &Path, saved: Option<&Path>) -> Guest {
    inside::boot_with(Flavor::V6_1, |spec| {
        spec.ram_file = Some(folder.join("ram"));
        if let Some(saved) = saved {
            let from = format!("exec:cat {}", saved.display());
            spec.qemu_arguments = vec!["-incoming".to_owned(), from];
        }
    })
}

/// Saves the machine, which is paused from then on.
fn save(guest: &mut Guest, saved: &Path) {
    let to = json!({"uri": format!("exec:cat >{}", saved.display())});
    let without_limit = json!({"max-bandwidth": 1_u64 << 40});
    guest.qmp("migrate-set-parameters", Some(&without_limit)).unwrap();
    guest.qmp("migrate", Some(&to)).unwrap();
    let begin = Instant::now();
    loop {
        let state = guest.qmp("query-migrate", None).unwrap();
        match state["status"].as_str() {
            Some("completed") => return,
            Some("failed" | "cancelled") => panic!("{state}"),
            _ => assert!(begin.elapsed() < PATIENCE, "{state}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Watches the file of memory while the machine in it is saved, ends, and is restored by another
/// QEMU; with `goes_on`, the machine runs for a while after it was saved.
fn watch_a_restored_machine(goes_on: bool) {
    let folder = tempfile::tempdir().unwrap();
    let saved = folder.path().join("saved");
    let mut before = guest(folder.path(), None);
    let watcher = Watch::of(&before).attached();
    let kept = barrier::started(&mut before, &watcher, "sleep 7000");
    let is_kept = |record: &Record| record.life().as_ref() == Some(&kept);
    let boot = watcher.wait_for("a process", is_kept).boot();
    // The restored machine has never had these processes.
    let mut undone = BTreeSet::new();
    save(&mut before, &saved);
    if goes_on {
        before.resume().unwrap();
        for _ in 0..10 {
            undone.insert(barrier::started(&mut before, &watcher, "sleep 7001"));
        }
    }
    before.quit().unwrap();

    let mut after = guest(folder.path(), Some(&saved));
    let found = barrier::found_again(&mut after, &watcher, "sleep 7002", |_| true);
    assert_eq!(found.boot(), boot, "it is the same boot");
    // The process that existed when the machine was saved ends only now.
    barrier::end(&mut after, &watcher, &kept);
    let ended = watcher.stop();
    for line in &ended.said {
        println!("{line}");
    }
    assert_eq!(ended.code, Some(0));
    assert_no_end(&ended.records, &undone);
    assert_eq!(count(&ended.records, "process_hidden"), 0);
    let losses = count(&ended.records, "details_gathering_failed");
    assert_eq!(losses, usize::from(goes_on), "{:?}", ended.said);
    if !goes_on {
        laws::hold(&ended.records);
    }
}

#[test]
#[ignore = "boots a guest"]
fn a_machine_that_is_saved_and_restored_goes_on() {
    watch_a_restored_machine(false);
}

#[test]
#[ignore = "boots a guest"]
fn a_machine_that_is_put_back_to_an_earlier_time_is_found_again() {
    watch_a_restored_machine(true);
}
