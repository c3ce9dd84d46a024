//! One configuration with twenty different mistakes: the program names each of them once, with its
//! place and with what to write instead.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use panoptes_bounded as bounded;

const CONFIGURATION: &str = "\
service:
  scan_intervall: 5ms
  scan_interval: 10
  log_level: loud
  cores: 3-1
default:
  os_type: Windows
  limits: {processes: 0, threads: many}
  events:
    process_create: false
systems:
  web: {system: 'qmeu:12'}
  db: {system: /dev/shm/db, dma_device: mlx5_0}
  web: {system: /dev/shm/web}
  mail: qemu:4711
output:
  rotate_size: 1KiB
  log_per_system: maybe
  telemetry:
  - {address: 10.0.0.7}
  - {address: 'logs:6514', transport: tls, tls: {certificate: own.pem}}
  - {address: 'logs:24224', transport: udp, format: forward}
exceptions:
- {activity: executable_permissions_added, process_executable_path: /usr/bin/node}
- {activity: reverse_shell_detected, user_id: 990, reason: backups, until: 2027-02-30}
- {activity: process_created, user_id: 990, reason: backups}
";

/// Message about each mistake, in the order of the file.
const MISTAKES: [&str; 20] = [
    "2:3: unknown key `scan_intervall` in `service`; did you mean `scan_interval`?",
    "3:18: `service.scan_interval`: `10` has no unit; write 10ms, 10s or 10m",
    "4:14: `service.log_level`: `loud` is not a log level; write 10 (DISABLE), 20 (CRITICAL), \
     30 (ERROR), 40 (WARNING), 50 (INFO), 60 (DEBUG) or 70 (TRACE)",
    "5:10: `service.cores`: `3-1` has the range 3-1; write 1-3",
    "7:12: `default.os_type`: `Windows` is not supported: only Linux can be watched; write Linux",
    "8:23: `default.limits.processes` is 0; it must be from 1 to 4194304",
    "8:35: `default.limits.threads`: `many` is not a whole number; write digits alone, such as \
     4096",
    "10:5: unknown key `process_create` in `default.events`; did you mean `process_created`?",
    "12:17: `systems.web.system`: `qmeu:12` starts with `qmeu:`; did you mean `qemu:`?",
    "13:41: `systems.db.dma_device` conflicts with `system`; write either \
     `system: doca:DEVICE/VUID`, or `representor_id` and `dma_device`",
    "14:3: `web` is given twice (first on line 12); keep one of them",
    "15:9: `systems.mail` must be a mapping of keys to values, not a single value; write \
     `mail: {system: qemu:4711}`",
    "17:16: `output.rotate_size` is 1KiB; it must be at least 64KiB",
    "18:19: `output.log_per_system`: `maybe` is not true or false",
    "20:15: `output.telemetry[0].address`: `10.0.0.7` is not host:port; write for example \
     127.0.0.1:24224, [::1]:24224 or collector.example.com:24224",
    "21:63: `output.telemetry[1].tls.certificate` needs `output.telemetry[1].tls.key`, too",
    "22:53: `format: forward` needs a stream; use `transport: tcp`, tls or unix",
    "24:3: `exceptions[0].reason` is missing; write why these alerts need no attention",
    "25:76: `exceptions[1].until`: `2027-02-30` is not a date; write one such as 2027-03-31 (to \
     the end of that day) or 2027-03-31T18:00:00Z",
    "26:14: `exceptions[2].activity`: `process_created` is not an alert, and exceptions silence \
     only alerts; to have no such events, write `default: {events: {process_created: false}}`",
];

struct Answer {
    code: Option<i32>,
    out: String,
    err: String,
}

fn check(folder: &Path, file: &str) -> Answer {
    let output = bounded::output(
        Command::new(env!("CARGO_BIN_EXE_panoptes"))
            .args(["check", file])
            .current_dir(folder)
            .stdin(Stdio::null()),
    )
    .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Answer { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

#[test]
fn twenty_different_mistakes_give_twenty_clear_messages() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("p.yaml"), CONFIGURATION).unwrap();
    let answer = check(folder.path(), "p.yaml");
    let expected: Vec<String> = MISTAKES.iter().map(|line| format!("p.yaml:{line}")).collect();
    assert_eq!(answer.err.lines().collect::<Vec<_>>(), expected);
    // EX_CONFIG of sysexits.h.
    assert_eq!((answer.code, answer.out.as_str()), (Some(78), ""));
}
