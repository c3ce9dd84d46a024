//! The agent's truth is reliable: it repeats itself, and it covers every kind of object.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first thing that fails")]

use std::time::{Duration, Instant};

use panoptes_rig::compare::{self, tally};
use panoptes_rig::{Flavor, Guest, GuestSpec, Kernel, Report, Truth, setup};
use serde_json::Value;

/// Descriptor types of the records that both kernels can have.
const FILE_TYPES: &[&str] = &[
    "REGULAR",
    "DIRECTORY",
    "SYMLINK",
    "CHARACTER_DEVICE",
    "BLOCK_DEVICE",
    "TTY",
    "PIPE",
    "FIFO",
    "SOCKET",
    "EVENTFD",
    "EPOLL",
    "TIMERFD",
    "SIGNALFD",
    "INOTIFY",
    "FANOTIFY",
    "MEMFD",
    "IO_URING",
    "PIDFD",
    "BPF",
    "PERF_EVENT",
    "USERFAULTFD",
    "NAMESPACE",
    "ANON_INODE",
];
const FILE_FLAGS: &[&str] = &[
    "READ_ONLY",
    "WRITE_ONLY",
    "READ_WRITE",
    "PATH",
    "APPEND",
    "NONBLOCK",
    "ASYNC",
    "DIRECT",
    "SYNC",
    "DSYNC",
    "NOATIME",
    "DIRECTORY",
    "NOFOLLOW",
    "TMPFILE",
    "LARGE_FILE",
    "CLOSE_ON_EXEC",
];
const CONNECTION_STATES: &[&str] = &[
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECEIVED",
    "FIN_WAIT_1",
    "FIN_WAIT_2",
    "TIME_WAIT",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
];
const PROCESS_STATES: &[&str] =
    &["S (sleeping)", "D (disk sleep)", "T (stopped)", "t (tracing stop)", "Z (zombie)"];

fn boot(flavor: Flavor) -> Guest {
    setup::ensure().unwrap();
    let kernel = Kernel::obtain(flavor).unwrap();
    Guest::boot(&GuestSpec { memory_mib: 512, ..GuestSpec::new(kernel) }).unwrap()
}

/// The truth as the lines that a perfect scan would print.
fn perfect_scan(guest: &mut Guest) -> (Truth, Vec<String>) {
    let lines = guest.agent("truth").unwrap();
    let truth = Truth::parse(&lines).unwrap();
    let offset: i64 = lines
        .iter()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find_map(|value| value["_boot_to_real_ns"].as_i64())
        .unwrap();
    let scan = lines.iter().map(|line| with_creation_time(line, offset)).collect();
    (truth, scan)
}

fn with_creation_time(line: &str, boot_to_real_ns: i64) -> String {
    let mut value: Value = serde_json::from_str(line).unwrap();
    if let Some(ticks) = value["_start_ticks"].as_i64() {
        let ns = ticks * 10_000_000 + boot_to_real_ns;
        let time = utc(ns / 1_000_000_000, ns % 1_000_000_000);
        value["process_creation_time_iso_8601_ns"] = time.into();
    }
    value.to_string()
}

/// A time of day on the right date; correct for the years 1970 to 2099.
fn utc(seconds: i64, nanoseconds: i64) -> String {
    let (mut days, rest) = (seconds / 86_400, seconds % 86_400);
    let mut year = 1970;
    let leap = |year: i64| year % 4 == 0;
    while days >= 365 + i64::from(leap(year)) {
        days -= 365 + i64::from(leap(year));
        year += 1;
    }
    let february = 28 + i64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!(
        "{year}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}.{nanoseconds:09}+00:00",
        days + 1
    )
}

/// How often objects may begin or end during a truth.
const ATTEMPTS: u32 = 5;

/// Takes the truth twice and compares the first, as a scan, with both; repeats while objects begin
/// or end, because processes need long to start on a busy host.
fn repeat(guest: &mut Guest) -> (Truth, Report) {
    for attempt in 0..ATTEMPTS {
        let (truth, report) = repeat_once(guest);
        if report.kinds.iter().all(|(_, counts)| counts.unsettled == 0) {
            return (truth, report);
        }
        std::thread::sleep(Duration::from_millis(500) * 2_u32.pow(attempt));
    }
    repeat_once(guest)
}

fn repeat_once(guest: &mut Guest) -> (Truth, Report) {
    let started = Instant::now();
    let (before, scan) = perfect_scan(guest);
    println!("truth of {} lines in {:.2} s", scan.len(), started.elapsed().as_secs_f64());
    let after = Truth::of(guest, "").unwrap();
    let report = compare::compare(&before, &after, &scan).unwrap();
    println!("{report}");
    (before, report)
}

fn assert_at_rest(report: &Report) {
    assert!(report.is_exact(), "{report}");
    for (kind, counts) in &report.kinds {
        assert_eq!(counts.unsettled, 0, "{kind} came or went at rest\n{report}");
    }
}

fn assert_all(found: impl Fn(&str) -> bool, wanted: &[&str], what: &str) {
    let absent: Vec<_> = wanted.iter().filter(|name| !found(name)).collect();
    assert!(absent.is_empty(), "the zoo has no {what} {absent:?}");
}

fn zoo_has_everything(flavor: Flavor) {
    let mut guest = boot(flavor);
    for note in guest.agent("zoo").unwrap() {
        println!("{note}");
    }
    let (truth, report) = repeat(&mut guest);
    assert_at_rest(&report);
    let types = tally(truth.of_kind("file_descriptor"), "file_descriptor_file_type");
    assert_all(|name| types.contains_key(name), FILE_TYPES, "descriptor type");
    assert!(!types.contains_key("UNKNOWN"), "{types:?}");
    let modes = tally(truth.of_kind("file_descriptor"), "file_descriptor_file_mode");
    let has_flag = |name: &str| modes.keys().any(|mode| mode.split('|').any(|flag| flag == name));
    assert_all(has_flag, FILE_FLAGS, "flag");
    let states = tally(truth.of_kind("connection"), "connection_state");
    assert_all(|name| states.contains_key(name), CONNECTION_STATES, "connection state");
    let states = tally(truth.of_kind("process"), "process_state");
    assert_all(|name| states.contains_key(name), PROCESS_STATES, "process state");
    assert_areas(&truth);
    assert_oddities(&truth);
    // Creating the zoo again changes nothing.
    assert!(guest.agent("zoo").unwrap().is_empty());
    let (again, report) = repeat(&mut guest);
    assert_at_rest(&report);
    assert_eq!(settled(&again), settled(&truth));
}

/// Number of processes without kworkers, which the kernel starts and ends at any time.
fn settled(truth: &Truth) -> usize {
    let is_kworker = |process: &&Value| {
        process["process_name"].as_str().is_some_and(|name| name.starts_with("kworker"))
    };
    truth.of_kind("process").filter(|process| !is_kworker(process)).count()
}

fn assert_areas(truth: &Truth) {
    let permissions = tally(truth.of_kind("memory"), "memory_permissions");
    let wanted = ["r--p", "rw-p", "r-xp", "rwxp", "---p", "--xp", "r--s", "rw-s"];
    assert_all(|name| permissions.contains_key(name), &wanted, "area with permissions");
    let names = tally(truth.of_kind("memory"), "memory_name");
    assert_all(|name| names.contains_key(name), &["[heap]", "[stack]", "[vdso]"], "area named");
    let paths = tally(truth.of_kind("memory"), "file_path");
    let wanted = [
        "/tmp/zoo/memory/file",
        "/tmp/zoo/memory/gone (deleted)",
        "/tmp/zoo/memory/line\nbreak",
        "/tmp/zoo/memory/octal-\\012-text",
        "/memfd:mapped (deleted)",
        "/dev/zero (deleted)",
        "/anon_hugepage (deleted)",
        "anon_inode:[perf_event]",
        "anon_inode:[io_uring]",
    ];
    assert_all(|name| paths.contains_key(name), &wanted, "area of file");
    assert!(paths.keys().any(|path| path.starts_with("/SYSV")), "{paths:?}");
    let own = truth.of_kind("memory").filter(|area| area["is_main_process_executable"] == true);
    assert!(own.count() > 20);
}

fn assert_oddities(truth: &Truth) {
    let names = tally(truth.of_kind("file_descriptor"), "file_descriptor_name");
    let longest = names.keys().map(String::len).max().unwrap_or_default();
    assert!((3000..4096).contains(&longest), "the longest path has {longest} bytes");
    for name in [
        "/tmp/zoo/files/latin1-\u{fffd}-\u{fffd}",
        "/tmp/zoo/files/surrogate-\u{fffd}\u{fffd}\u{fffd}",
    ] {
        assert!(names.contains_key(name), "no descriptor of {name}");
    }
    let namespaces = |name: &str| tally(truth.of_kind("process"), name).len();
    assert!(namespaces("process_pid_namespace") >= 2);
    assert!(namespaces("process_mount_points_namespace") >= 3);
    assert!(namespaces("process_network_namespace") >= 2);
    let logins = truth.of_kind("process").filter(|it| it["process_login_user_id"] == 1001);
    assert_eq!(logins.count(), 2);
    let containers = tally(truth.of_kind("process"), "process_container_id");
    assert!(containers.len() >= 8, "{containers:?}");
    // A socket of two processes, a socket without a holder, a table that two processes share.
    assert!(truth.of_kind("connection").any(|c| c.get("process_id").is_none()));
    let shared = truth.of_kind("file_descriptor").filter(|fd| {
        let threads = fd["file_descriptor_thread_id_array"].as_array();
        threads.is_some_and(|t| t.len() == 2) && fd["file_descriptor_name"] == "/dev/zero"
    });
    assert_eq!(shared.count(), 2, "the table that two processes share is seen in both");
}

#[test]
#[ignore = "boots a guest"]
fn zoo_of_the_oldest_kernel_has_everything() {
    zoo_has_everything(Flavor::V5_10);
}

#[test]
#[ignore = "boots a guest"]
fn zoo_of_the_newest_kernel_has_everything() {
    zoo_has_everything(Flavor::V7);
}
