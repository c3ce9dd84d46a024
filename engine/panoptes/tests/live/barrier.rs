//! Facts that tests wait for, instead of a fixed time.
//!
//! When such a fact is reported, all earlier facts have been reported, whatever the speed of the
//! watcher and of the guest.

use std::time::Instant;

use panoptes_rig::Guest;
use serde_json::Value;

use crate::inside;
use crate::record::{Life, Record};
use crate::watcher::{ASK, PATIENCE, PATIENCE_TO_FIND, Watcher};

/// How often a test checks for the record of a process before it starts another one.
const ASKED_PER_START: u32 = 10;

/// Starts a command in the background, and waits until its process is reported.
#[track_caller]
pub(crate) fn started(guest: &mut Guest, watcher: &Watcher, command: &str) -> Life {
    let seen = watcher.seen();
    let process_id = inside::start(guest, command);
    let created = watcher.wait_for_since(seen, &format!("the start of {command}"), |record| {
        record.is("process_created") && record.process_id() == process_id
    });
    created.life().unwrap()
}

/// Waits until the end of a process is reported.
#[track_caller]
pub(crate) fn wait_for_end(watcher: &Watcher, life: &Life) {
    watcher.wait_for(&format!("the end of {}", life.process_id), |record| {
        record.is("process_terminated") && record.life().as_ref() == Some(life)
    });
}

/// Ends a process, and waits until its end is reported.
#[track_caller]
pub(crate) fn end(guest: &mut Guest, watcher: &Watcher, life: &Life) {
    inside::run(guest, &format!("kill {}", life.process_id));
    wait_for_end(watcher, life);
}

/// Waits until the watcher has scanned everything that is true inside now.
///
/// A process that starts now is reported by a scan that ends later. The scan that reports its end
/// begins after that one, so it reads everything that was true before.
#[track_caller]
pub(crate) fn passed(guest: &mut Guest, watcher: &Watcher) {
    let life = started(guest, watcher, "sleep 7777");
    end(guest, watcher, &life);
}

/// Waits until a process listens at a port, and the watcher has scanned it. The watcher needs this
/// to know which end began a connection.
#[track_caller]
pub(crate) fn wait_for_listener(guest: &mut Guest, watcher: &Watcher, port: u64) {
    inside::until(guest, &format!("netstat -ltn | grep -q :{port}"));
    passed(guest, watcher);
}

/// Scans the guest's memory until `found` returns a value for the lines.
#[track_caller]
pub(crate) fn wait_for_scan<T>(
    guest: &Guest,
    kinds: &str,
    what: &str,
    found: impl Fn(&[Value]) -> Option<T>,
) -> T {
    let begin = Instant::now();
    loop {
        let lines = inside::scan(guest, kinds);
        if let Some(found) = found(&lines) {
            return found;
        }
        assert!(begin.elapsed() < PATIENCE, "no scan shows {what}: {lines:#?}");
    }
}

/// Waits until the watcher has scanned a paused guest for 5 s.
///
/// The watcher then logs once, at level `debug`, that the guest's clock stands still.
#[track_caller]
pub(crate) fn stood_still(watcher: &Watcher) {
    watcher.wait("the paused guest's clock stands still", |all| {
        all.said.iter().any(|line| line.contains("its clock stands still")).then_some(())
    });
}

/// Starts processes until a matching record of one of them is reported: the moment at which the
/// watcher finds the machine is unknown.
///
/// The processes are identified by number, not by arguments: a scan may read one before exec.
#[track_caller]
pub(crate) fn found_again(
    guest: &mut Guest,
    watcher: &Watcher,
    command: &str,
    is_it: impl Fn(&Record) -> bool,
) -> Record {
    let (begin, seen) = (Instant::now(), watcher.seen());
    let mut ids = Vec::new();
    loop {
        ids.push(inside::start(guest, command));
        let is_one = |record: &&Record| {
            record.is("process_created") && ids.contains(&record.process_id()) && is_it(record)
        };
        for _ in 0..ASKED_PER_START {
            let found = watcher.look(|all| all.records[seen..].iter().find(is_one).cloned());
            if let Some(record) = found {
                return record;
            }
            std::thread::sleep(ASK);
        }
        let is_late = begin.elapsed() > PATIENCE_TO_FIND;
        assert!(!is_late, "it is never found again; {}", watcher.last());
    }
}
