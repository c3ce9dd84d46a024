//! Commands that tests run inside a guest.

use std::time::Instant;

use panoptes_rig::{Flavor, Guest, GuestSpec, Kernel, setup};
use serde_json::Value;

use crate::record::Life;
use crate::watcher::{ASK, PATIENCE, panoptes};

/// Boots a guest with the rig's default settings.
pub(crate) fn boot(flavor: Flavor) -> Guest {
    boot_with(flavor, |_| ())
}

/// Boots a guest with changed settings.
pub(crate) fn boot_with(flavor: Flavor, change: impl FnOnce(&mut GuestSpec)) -> Guest {
    setup::ensure().unwrap();
    let mut spec = GuestSpec::new(Kernel::obtain(flavor).unwrap());
    change(&mut spec);
    Guest::boot(&spec).unwrap()
}

/// Runs a shell command inside and returns its output.
pub(crate) fn run(guest: &mut Guest, command: &str) -> Vec<String> {
    guest.agent(&format!("run {command}")).unwrap()
}

/// Waits until a shell condition holds inside.
#[track_caller]
pub(crate) fn until(guest: &mut Guest, condition: &str) {
    let begin = Instant::now();
    let command = format!("if {condition}; then echo yes; fi");
    // The condition's own output precedes the answer.
    while run(guest, &command).last().is_none_or(|answer| answer != "yes") {
        assert!(begin.elapsed() < PATIENCE, "it never holds inside: {condition}");
        std::thread::sleep(ASK);
    }
}

/// Starts a simple shell command in the background and returns its pid; it must need no input.
pub(crate) fn start(guest: &mut Guest, command: &str) -> u64 {
    let output = run(guest, &format!("{command} </dev/null >/dev/null 2>&1 & echo $!"));
    output[0].parse().unwrap()
}

/// The lines of a scan of the guest's memory, with these kinds.
pub(crate) fn scan(guest: &Guest, kinds: &str) -> Vec<Value> {
    let ram = guest.ram_path().display().to_string();
    let output = panoptes(&["scan", &ram, "--only", kinds]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Every process in a scan of the guest's memory, by pid.
pub(crate) fn processes(guest: &Guest) -> Vec<(Life, String)> {
    scan(guest, "processes")
        .iter()
        .map(|line| {
            let life = Life::of(line).expect("the time of its creation is known");
            (life, line["process_name"].as_str().unwrap_or("").to_owned())
        })
        .collect()
}
