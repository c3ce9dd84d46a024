//! A process that a rootkit hides is reported, once; it ends like any other.
//!
//! Nothing in the guest hides it: the test does, in the paused guest's memory (`kernel`).

use std::time::Duration;

use panoptes_rig::{Flavor, Guest, enabled};

use crate::kernel::GuestKernel;
use crate::record::{Life, Record, count, list, only};
use crate::watcher::{Watch, Watcher};
use crate::{inside, laws};

/// What is not to be said gets so long to be said.
const SILENCE: Duration = Duration::from_secs(1);

/// Starts a process that sleeps and gives it as its record says it is.
fn sleeper(guest: &mut Guest, watcher: &Watcher) -> Life {
    let process_id = inside::start(guest, "sleep 7000");
    let is_it = |record: &Record| record.is("process_created") && record.process_id() == process_id;
    watcher.wait_for("the process is created", is_it).life().unwrap()
}

/// Changes memory while the guest stands still.
fn while_paused(guest: &mut Guest, change: impl FnOnce()) {
    guest.pause().unwrap();
    change();
    guest.resume().unwrap();
}

fn hidden(records: &[Record]) -> Vec<&Record> {
    records.iter().filter(|record| record.is("process_hidden")).collect()
}

#[track_caller]
fn assert_alert(alert: &Record, life: &Life, view: &str) {
    assert_eq!(alert.life().as_ref(), Some(life));
    assert_eq!((&alert.0["message_type"], &alert.0["severity"]), (&"ALERT".into(), &"HIGH".into()));
    let detection = &alert.0["detection"];
    assert_eq!(detection["mitre_attack"], serde_json::json!(["T1014"]));
    assert!(detection["scans_confirmed"].as_u64() >= Some(2), "{alert}");
    assert!(detection["first_seen"].is_string(), "{alert}");
    let reason = detection["reason"].as_str().unwrap();
    assert!(reason.contains(&format!("process {} ", life.process_id)), "{reason}");
    assert!(reason.contains(&format!("is not in {view}")), "{reason}");
}

fn hiding_is_reported_once(flavor: Flavor) {
    let mut guest = inside::boot(flavor);
    let mut kernel = GuestKernel::of(&guest);
    let watcher = Watch::of(&guest).attached();
    // The last in the list is not hidden: its neighbour would be the head.
    let (listed, unlisted) = (sleeper(&mut guest, &watcher), sleeper(&mut guest, &watcher));
    let numberless = sleeper(&mut guest, &watcher);
    let last = sleeper(&mut guest, &watcher);
    let pid = |life: &Life| u32::try_from(life.process_id).unwrap();

    // One is taken out of the task list, another out of the tree of pids.
    let mut first = 0;
    while_paused(&mut guest, || {
        let task = kernel.task(pid(&unlisted));
        kernel.unlink(&task);
        let task = kernel.task(pid(&numberless));
        first = kernel.lead_pid_to(&task, 0);
    });
    for life in [&unlisted, &numberless] {
        watcher.wait_for("the hidden process is reported", |record| {
            record.is("process_hidden") && record.life().as_ref() == Some(life)
        });
    }
    std::thread::sleep(SILENCE);
    let records = watcher.records();
    assert_eq!(hidden(&records).len(), 2, "{}", list(hidden(&records)));
    for (life, view) in [(&unlisted, "the task list"), (&numberless, "the pid IDR")] {
        let is_it =
            |record: &Record| record.is("process_hidden") && record.life().as_ref() == Some(life);
        let alert = only(&records, "hiding", is_it);
        println!("{alert}");
        assert_alert(alert, life, view);
    }

    // Back in place, nothing more is said.
    while_paused(&mut guest, || {
        let (task, other) = (kernel.task(pid(&unlisted)), kernel.task(pid(&listed)));
        kernel.link_behind(&task, &other);
        let task = kernel.task(pid(&numberless));
        kernel.lead_pid_to(&task, first);
    });
    std::thread::sleep(SILENCE);
    let said = watcher.records();
    let about: Vec<&Record> = said[records.len()..]
        .iter()
        .filter(|record| record.life().is_some_and(|life| life == unlisted || life == numberless))
        .collect();
    assert!(about.is_empty(), "{}", list(about));

    // They end as what they began.
    let all = [&listed, &unlisted, &numberless, &last];
    for life in all {
        inside::run(&mut guest, &format!("kill {}", life.process_id));
    }
    for life in all {
        watcher.wait_for("it ends", |record| {
            record.is("process_terminated") && record.life().as_ref() == Some(life)
        });
    }
    let records = watcher.stop().records;
    laws::hold(&records);
    assert_eq!(count(&records, "process_hidden"), 2);
}

#[test]
fn a_hidden_process_of_6_1_is_reported_once() {
    if enabled("a_hidden_process_of_6_1_is_reported_once") {
        hiding_is_reported_once(Flavor::V6_1);
    }
}

#[test]
fn a_hidden_process_of_6_12_is_reported_once() {
    if enabled("a_hidden_process_of_6_12_is_reported_once") {
        hiding_is_reported_once(Flavor::V6_12);
    }
}
