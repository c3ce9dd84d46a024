//! The event log on a file system of its own that has too few inodes or bytes.

#![allow(clippy::unwrap_used, reason = "a test may")]
#![allow(clippy::print_stderr, reason = "it prints what it leaves out")]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use panoptes_bounded as bounded;
use panoptes_records::queue::{Producer, QueueSize, RecordClass, Waker, queue};
use panoptes_sinks::output::file::{FileOptions, FileOutput};
use panoptes_sinks::output::{Output, OutputCounters};
use panoptes_sinks::writer::{WorkLeft, Writer};

/// In the inner run, the folder of the file system.
const FOLDER: &str = "PANOPTES_SMALL_DISK";

/// Runs the test of this name again, in namespaces of its own where it may mount a file system.
/// Returns its folder in that inner run only.
fn small_disk(test: &str, mount_options: &str) -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return Some(folder.into());
    }
    let folder = tempfile::tempdir().unwrap();
    let unshare = |way: &[&str], script: &str| {
        let mut command = Command::new("unshare");
        command.args(way).args(["--mount", "sh", "-c", script, test]);
        command.arg(mount_options).arg(folder.path()).arg(std::env::current_exe().unwrap());
        command.env(FOLDER, folder.path());
        command
    };
    let mount = "mount -t tmpfs -o \"$1\" tmpfs \"$2\"";
    // As root, else as root of a namespace of users.
    let ways: [&[&str]; 2] = [&[], &["--user", "--map-root-user"]];
    let works = |way: &&&[&str]| {
        bounded::status(&mut unshare(way, mount)).is_ok_and(|status| status.success())
    };
    let Some(way) = ways.iter().find(works) else {
        panoptes_needs::skip::print(test, "user namespaces", "no file system can be mounted");
        return None;
    };
    let script = format!("{mount} && exec \"$3\" --exact \"$0\" --nocapture");
    let whole = bounded::status_within(&mut unshare(way, &script), bounded::LONG);
    assert!(whole.unwrap().success());
    None
}

/// A log and its writer, with a clock that each step moves.
struct Log {
    producer: Producer,
    writer: Writer,
    counters: Arc<OutputCounters>,
    now_ns: u64,
    /// Number of records so far.
    count: usize,
}

fn record(number: usize) -> String {
    format!("{number:06} {}", "x".repeat(92))
}

impl Log {
    fn open(folder: &Path, max_files: u32) -> Self {
        let options = FileOptions { rotate_size: 1000, max_files, ..FileOptions::default() };
        let output = FileOutput::open(&folder.join("events.jsonl"), options).unwrap();
        let counters = Arc::clone(output.counters());
        let (producer, consumer) = queue(QueueSize::default(), &Waker::default());
        let writer = Writer::new(vec![consumer], vec![Box::new(output)]);
        Self { producer, writer, counters, now_ns: 0, count: 0 }
    }

    /// Writes one record each 200 ms.
    fn write(&mut self, count: usize) {
        for _ in 0..count {
            self.producer.try_push(RecordClass::default(), record(self.count).as_bytes()).unwrap();
            self.producer.flush();
            self.count += 1;
            self.now_ns += 200_000_000;
            while self.writer.step(self.now_ns, Duration::from_millis(1)) != WorkLeft::Nothing {
                self.now_ns += 1_000_000;
            }
        }
    }

    /// Writes records for three seconds, even if the disk accepts nothing.
    fn write_some(&mut self, count: usize) {
        for _ in 0..count {
            self.producer.try_push(RecordClass::default(), record(self.count).as_bytes()).unwrap();
            self.count += 1;
        }
        self.producer.flush();
        for _ in 0..300 {
            self.now_ns += 10_000_000;
            self.writer.step(self.now_ns, Duration::from_millis(1));
        }
    }
}

/// The numbers of the records in this file.
fn numbers(folder: &Path, name: &str) -> Vec<usize> {
    let text = fs::read_to_string(folder.join(name)).unwrap_or_default();
    text.lines().map(|line| line[..6].parse().unwrap()).collect()
}

/// The same of the file with this number.
fn numbered(folder: &Path, number: usize) -> Vec<usize> {
    let suffix = if number == 0 { String::new() } else { format!(".{number}") };
    numbers(folder, &format!("events.jsonl{suffix}"))
}

/// Creates files until none can be created.
fn use_up_inodes(folder: &Path) -> Vec<PathBuf> {
    let others = (0..1000).map(|number| folder.join(format!("other-{number}")));
    let others: Vec<_> = others.take_while(|path| File::create(path).is_ok()).collect();
    assert!(others.len() < 1000);
    others
}

#[test]
fn inodes_that_are_used_up_cost_no_old_file() {
    let name = "inodes_that_are_used_up_cost_no_old_file";
    let Some(disk) = small_disk(name, "size=1m,nr_inodes=40") else { return };
    for max_files in [0, 3] {
        let folder = disk.join(max_files.to_string());
        fs::create_dir(&folder).unwrap();
        let mut log = Log::open(&folder, max_files);
        log.write(45);
        let old = ["events.jsonl.3", "events.jsonl.2", "events.jsonl.1"];
        let before = old.map(|name| numbers(&folder, name));
        let others = use_up_inodes(&folder);
        log.write(45);
        assert_eq!(old.map(|name| numbers(&folder, name)), before);
        assert_eq!(numbers(&folder, "events.jsonl"), (40..90).collect::<Vec<_>>());
        assert!(log.counters.errors() > 0);
        for other in others {
            fs::remove_file(other).unwrap();
        }
        log.write(10);
        assert_eq!(numbers(&folder, "events.jsonl").last(), Some(&99));
        if max_files > 0 {
            assert_eq!(numbers(&folder, "events.jsonl.1").first(), Some(&40));
            assert_eq!(numbers(&folder, "events.jsonl.2"), before[2]);
        }
        assert_eq!((log.counters.records(), log.counters.dropped()), (100, 0));
    }
}

#[test]
fn a_file_that_is_removed_from_a_full_disk_makes_room_and_is_made_anew() {
    let name = "a_file_that_is_removed_from_a_full_disk_makes_room_and_is_made_anew";
    let Some(disk) = small_disk(name, "size=1m") else { return };
    let mut log = Log::open(&disk, 1000);
    let mut filler = File::create(disk.join("filler")).unwrap();
    log.write(205);
    while filler.write(&[b'x'; 4096]).is_ok() {}
    log.write_some(100);
    assert!(log.counters.errors() > 0);
    for entry in fs::read_dir(&disk).unwrap() {
        let path = entry.unwrap().path();
        if path != disk.join("filler") {
            fs::remove_file(path).unwrap();
        }
    }
    log.write(10);
    let counters = &log.counters;
    assert_eq!(numbers(&disk, "events.jsonl").last(), Some(&314));
    let all: Vec<_> = (0..30).rev().flat_map(|number| numbered(&disk, number)).collect();
    let first = all[0];
    assert_eq!(all, (first..315).collect::<Vec<_>>());
    assert_eq!(counters.remade(), 1);
}
