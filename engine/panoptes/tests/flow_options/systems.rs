//! `--system`, with the memory of a recorded machine. What it does with a real one is in
//! `tests/live/wire.rs`.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use nix::sys::signal::Signal;

use crate::live::{connection, facts, listen, truth};
use crate::network::{LEFT, RIGHT, enter, send_all};
use crate::programs::{Folder, Running, Sensor};
use crate::recorded::write_machine;
use crate::stream::plain;

/// The memory is open before the user and the root change.
#[test]
fn a_system_is_attached_to_before_privileges_are_dropped() {
    if !enter(1) {
        return;
    }
    for has_root in [false, true] {
        let folder = Folder::new();
        let memory = folder.path("memory");
        if !write_machine(std::slice::from_ref(&memory)) {
            return;
        }
        std::fs::set_permissions(&memory, Permissions::from_mode(0o600)).expect("its mode is set");
        let memory = folder.text("memory");
        std::fs::create_dir(folder.path("root")).expect("a folder");
        let open = Permissions::from_mode(0o777);
        std::fs::set_permissions(folder.path("root"), open).expect("its mode is set");
        folder.open_to_all();
        let root = folder.text("root");
        // It sleeps between scans, so that the test sees when it has read all packets.
        let configuration = folder.write("panoptes.yaml", b"service: { scan_interval: 1s }\n");
        let (alerts, records) = (folder.text("root/alerts"), folder.text("root/records"));
        let mut options = vec!["-S", "60", "-i", RIGHT[0], "-u", "nobody"];
        options.extend(["--system", &memory, "--config", &configuration]);
        if has_root {
            options.extend(["-c", &root, "--alerts", "/alerts", "-w", "/records"]);
        } else {
            options.extend(["--alerts", &alerts, "-w", &records]);
        }
        let mut command = Sensor::Panoptes.with(&options);
        let running = listen(Sensor::Panoptes, &mut command, &[RIGHT[0]]);
        send_all(LEFT[0], &connection(1));
        running.settle();
        running.end(Signal::SIGTERM).succeeded();
        assert!(folder.path("root/alerts").exists());
        let expected = truth(connection(1).flows(), "0.0.0.0");
        assert_eq!(facts(&folder.path("root/records")), expected, "{has_root}");
    }
}

/// One line counts what a full disk has no room for, and the exit code is 74. All flows are there.
#[test]
fn alerts_that_cannot_be_written_end_no_audit() {
    let folder = Folder::new();
    let memory = folder.path("memory");
    if !write_machine(std::slice::from_ref(&memory)) {
        return;
    }
    let (memory, capture) = (folder.text("memory"), folder.capture("a.pcap", &plain()));
    let records = folder.text("records");
    let options = ["-S", "3600", "--flows", "4", "-r", &capture, "--system", &memory];
    let options = [&options[..], &["--alerts", "/dev/full", "-w"], &[&format!("json:{records}")]];
    let ended = Running::start(&mut Sensor::Panoptes.with(&options.concat())).ended();
    assert_eq!(ended.status.code(), Some(74), "{}", ended.messages);
    let is_failure = |line: &&str| line.contains("cannot write to /dev/full");
    assert_eq!(ended.messages.lines().filter(is_failure).count(), 1, "{}", ended.messages);
    assert!(ended.messages.contains("records could not be written to /dev/full"));
    let text = std::fs::read_to_string(&records).expect("records");
    assert!(text.contains("\"flows_limit_reached\""), "the table was not full");
    let flows = text.lines().filter(|line| line.contains("\"kind\":\"flow\"")).count();
    assert!(flows >= plain().flows().len(), "{flows}");
}
