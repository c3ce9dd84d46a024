//! What tests do inside a guest.

use std::time::Instant;

use panoptes_rig::{Flavor, Guest, GuestSpec, Kernel, setup};
use serde_json::Value;

use crate::record::Life;
use crate::watcher::{PATIENCE, Watcher, panoptes};

/// Boots a guest as the rig has them.
pub(crate) fn boot(flavor: Flavor) -> Guest {
    boot_with(flavor, |_| ())
}

/// Boots a guest that is changed a little.
pub(crate) fn boot_with(flavor: Flavor, change: impl FnOnce(&mut GuestSpec)) -> Guest {
    setup::ensure().unwrap();
    let mut spec = GuestSpec::new(Kernel::obtain(flavor).unwrap());
    change(&mut spec);
    Guest::boot(&spec).unwrap()
}

/// Runs a shell command inside and gives what it printed.
pub(crate) fn run(guest: &mut Guest, command: &str) -> Vec<String> {
    guest.agent(&format!("run {command}")).unwrap()
}

/// Lets a simple shell command go on inside and gives its pid; it must not want any input.
pub(crate) fn start(guest: &mut Guest, command: &str) -> u64 {
    let said = run(guest, &format!("{command} </dev/null >/dev/null 2>&1 & echo $!"));
    said[0].parse().unwrap()
}

/// Starts a command as [`start`] does, and waits until its process is reported.
#[track_caller]
pub(crate) fn started(guest: &mut Guest, watcher: &Watcher, command: &str) -> Life {
    let seen = watcher.seen();
    let process_id = start(guest, command);
    let created = watcher.wait_for_since(seen, &format!("the start of {command}"), |record| {
        record.is("process_created") && record.process_id() == process_id
    });
    created.life().unwrap()
}

/// Ends a process, and waits until its end is reported.
#[track_caller]
pub(crate) fn end(guest: &mut Guest, watcher: &Watcher, life: &Life) {
    run(guest, &format!("kill {}", life.process_id));
    watcher.wait_for(&format!("the end of {}", life.process_id), |record| {
        record.is("process_terminated") && record.life().as_ref() == Some(life)
    });
}

/// Waits until the watcher has looked at all that is true inside by now.
///
/// A process that starts now is reported by a scan that ends later. Its end is reported by a scan
/// that begins later. So what was true before, and still is, was in at least one whole scan.
#[track_caller]
pub(crate) fn barrier(guest: &mut Guest, watcher: &Watcher) {
    let life = started(guest, watcher, "sleep 1000");
    end(guest, watcher, &life);
}

/// Waits until something listens at a port, and the watcher has seen that. Which end began a
/// connection follows from it.
#[track_caller]
pub(crate) fn wait_for_listener(guest: &mut Guest, watcher: &Watcher, port: u64) {
    run(guest, &format!("until netstat -ltn | grep -q :{port}; do sleep 0.1; done"));
    barrier(guest, watcher);
}

/// Scans the guest's memory until the lines show what is looked for.
#[track_caller]
pub(crate) fn wait_for_scan<T>(
    guest: &Guest,
    kinds: &str,
    what: &str,
    found: impl Fn(&[Value]) -> Option<T>,
) -> T {
    let begin = Instant::now();
    loop {
        let lines = scan(guest, kinds);
        if let Some(found) = found(&lines) {
            return found;
        }
        assert!(begin.elapsed() < PATIENCE, "no scan shows {what}: {lines:#?}");
    }
}

/// The lines of a scan of the guest's memory that shows these kinds.
pub(crate) fn scan(guest: &Guest, kinds: &str) -> Vec<Value> {
    let ram = guest.ram_path().display().to_string();
    let output = panoptes(&["scan", &ram, "--only", kinds]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Every process that a scan of the guest's memory sees, by pid.
pub(crate) fn processes(guest: &Guest) -> Vec<(Life, String)> {
    scan(guest, "processes")
        .iter()
        .map(|line| {
            let life = Life::of(line).expect("the time of its creation is known");
            (life, line["process_name"].as_str().unwrap_or("").to_owned())
        })
        .collect()
}
