//! Facts that tests wait for, instead of for some time.
//!
//! When such a fact is reported, all that came before it is, however slow the watcher and the
//! guest are.

use std::time::{Duration, Instant};

use panoptes_rig::Guest;

use crate::inside;
use crate::record::{Life, Record};
use crate::watcher::{All, Watcher};

/// How long a fact may take that does not come by a record.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
/// The same where a kernel has to be found anew: the watcher rests for up to 10 s between two
/// tries.
const PATIENCE_TO_FIND: Duration = Duration::from_mins(3);
/// How often it is asked whether a fact has come.
const ASK: Duration = Duration::from_millis(100);
/// So often it is asked whether a process is reported before another one is started.
const ASKED_PER_START: u32 = 10;

/// Something of what was heard until now, without waiting.
pub(crate) fn now<T>(watcher: &Watcher, take: impl Fn(&All) -> T) -> T {
    watcher.wait("nothing", |all| Some(take(all)))
}

/// Starts a command that goes on, and waits until its process is reported.
#[track_caller]
pub(crate) fn started(guest: &mut Guest, watcher: &Watcher, command: &str) -> Life {
    let before = now(watcher, |all| all.records.len());
    let process_id = inside::start(guest, command);
    let is_it =
        |record: &&Record| record.is("process_created") && record.process_id() == process_id;
    let created = watcher.wait(&format!("the start of {command}"), |all| {
        all.records[before..].iter().find(is_it).cloned()
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

/// Waits until the watcher has seen all that is true inside by now.
///
/// A scan that ends later reports a process that starts now. The scan that reports its end begins
/// after that one, so it sees all that was true before.
#[track_caller]
pub(crate) fn passed(guest: &mut Guest, watcher: &Watcher) {
    let life = started(guest, watcher, "sleep 7777");
    inside::run(guest, &format!("kill {}", life.process_id));
    wait_for_end(watcher, &life);
}

/// Waits until the watcher has scanned a paused guest for 5 s.
///
/// It logs then that the clock in there stands still: once, at the level `debug`.
#[track_caller]
pub(crate) fn stood_still(watcher: &Watcher) {
    watcher.wait("the paused guest's clock stands still", |all| {
        all.said.iter().any(|line| line.contains("its clock stands still")).then_some(())
    });
}

/// Starts processes until one is reported that fits: nobody inside knows when the machine is found.
#[track_caller]
pub(crate) fn found_again(
    guest: &mut Guest,
    watcher: &Watcher,
    command: &str,
    is_it: impl Fn(&Record) -> bool,
) -> Record {
    let begin = Instant::now();
    let is_it = |record: &&Record| record.is("process_created") && is_it(record);
    loop {
        inside::start(guest, command);
        for _ in 0..ASKED_PER_START {
            let found = now(watcher, |all| all.records.iter().rev().find(is_it).cloned());
            if let Some(record) = found {
                return record;
            }
            std::thread::sleep(ASK);
        }
        if begin.elapsed() > PATIENCE_TO_FIND {
            return watcher.wait_for("it is found again", |record| is_it(&record));
        }
    }
}
