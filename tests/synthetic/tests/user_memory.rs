//! Nothing that `user_memory` switches off is read: no byte of a page that belongs to a process.

mod common;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use panoptes_decoders::source::PAGE_BYTES;
use panoptes_engine::detect::shell_history;
use panoptes_engine::limits::Limits;
use panoptes_engine::policy::PolicyConfig;
use panoptes_engine::time::Now;
use panoptes_engine::walk::Walker;
use panoptes_engine::watch::{WatchedMachine, Workspace};
use panoptes_records::activities::Activity;
use panoptes_records::queue::{QueueSize, Waker, queue};
use panoptes_synthetic::{Machine, Size, Source, When, profile};
use serde_json::Value;

use common::setup::{KEY, setup};
use common::take_records;

const INTERVAL_NS: u32 = 10_000_000;
const SCANS: u32 = 50;
const PAGE: usize = PAGE_BYTES as usize;

/// Where the data of [`shell_file`] is loaded, and its length: as the areas of a program are.
const DATA: u64 = 0x1_4000;
const DATA_BYTES: u64 = 0x4000;

/// Parts of processes' memory that may be read.
#[derive(Clone, Copy, Debug, PartialEq)]
struct UserMemory {
    command_lines: bool,
    shell_history: bool,
}

/// A program that is linked statically and exports nothing, as a small bash may be: only its memory
/// can show what it is.
fn shell_file() -> Vec<u8> {
    let mut file = vec![0; 64];
    file[..6].copy_from_slice(b"\x7fELF\x02\x01");
    file[32] = 64; // e_phoff
    file[54] = 56; // e_phentsize
    file[56] = 2; // e_phnum
    for (flags, address, bytes) in [(5_u32, 0, DATA), (6, DATA, DATA_BYTES)] {
        file.extend(1_u32.to_le_bytes()); // PT_LOAD
        file.extend(flags.to_le_bytes());
        for word in [address, address, address, bytes, bytes, PAGE_BYTES] {
            file.extend(word.to_le_bytes());
        }
    }
    file
}

/// A machine with a few programs and a shell, and where the pages with the shell's data are.
fn machine() -> (Machine, BTreeSet<u64>) {
    let size = Size { processes: 12, threads: 1, descriptors: 4, areas: 4, ..Size::default() };
    let mut machine = Machine::builder(&profile("6.12.117+deb13-amd64")).size(size).build();
    machine.write_file("/bin/bash-static", &shell_file());
    let shell = machine.fork(1);
    machine.exec(shell, "/bin/bash-static", &["bash", "--secret=5"]);
    let before = machine.user_pages();
    let program = machine.areas(shell)[0].start;
    for page in (0..DATA_BYTES).step_by(PAGE) {
        machine.write_user(shell, program + DATA + page, b"a command");
    }
    let data = machine.user_pages().difference(&before).copied().collect();
    (machine, data)
}

/// Which pages of processes a watch reads, and its records.
fn watch(machine: &mut Machine, user_memory: UserMemory) -> (BTreeSet<u64>, Vec<Value>) {
    let mut policy = PolicyConfig::default();
    for &activity in Activity::ALL {
        let is_read = user_memory.shell_history || !shell_history::ACTIVITIES.contains(&activity);
        policy.set_enabled(activity, is_read);
    }
    let limits = Limits::default();
    let mut watched =
        WatchedMachine::new(setup(&limits, &machine.discover(), policy, Arc::default()));
    watched.set_command_lines(user_memory.command_lines);
    let mut workspace = Workspace::new(&limits, KEY);
    let size = QueueSize { blocks: 64, block_bytes: 1 << 20 };
    let (mut producer, mut consumer) = queue(size, &Waker::default());
    let users = machine.user_pages();
    let read = Mutex::new(BTreeSet::new());
    let mut source = Source::with_hook(machine, |_, when, _| {
        let When::Piece(request) = when else { return };
        let first = request.address.0 & !(PAGE_BYTES - 1);
        let pages = (first..request.address.0 + u64::from(request.length)).step_by(PAGE);
        read.lock().expect("nobody panicked").extend(pages.filter(|page| users.contains(page)));
    });
    let mut walker = Walker::new(&limits, KEY);
    assert!(watched.first_process(&mut walker, &mut source).is_some());
    let mut now = Now::at(1_795_000_000_000_000_000);
    let mut records = Vec::new();
    for _ in 0..SCANS {
        source.machine().tick(INTERVAL_NS.into());
        now = now.after(INTERVAL_NS.into());
        watched.scan(&mut workspace, &mut source, now, &mut producer).expect("it can be scanned");
        records.extend(take_records(&mut producer, &mut consumer));
    }
    drop(source);
    (read.into_inner().expect("nobody panicked"), records)
}

/// How many records have this key somewhere.
fn count(records: &[Value], key: &str) -> usize {
    let key = format!("\"{key}\":");
    records.iter().filter(|record| record.to_string().contains(&key)).count()
}

#[test]
fn what_is_switched_off_is_not_read_and_left_out() {
    let (mut machine, data) = machine();
    let all = machine.user_pages();
    let arguments: BTreeSet<u64> = all.difference(&data).copied().collect();
    assert!(arguments.len() > 5 && data.len() == 4, "{arguments:?} {data:?}");
    for (command_lines, shell_history) in
        [(true, true), (true, false), (false, true), (false, false)]
    {
        let user_memory = UserMemory { command_lines, shell_history };
        let (read, records) = watch(&mut machine, user_memory);
        let of_arguments = read.intersection(&arguments).count();
        let of_data = read.intersection(&data).count();
        assert_eq!(
            of_arguments,
            if command_lines { arguments.len() } else { 0 },
            "{user_memory:?}"
        );
        assert_eq!(of_data, if shell_history { data.len() } else { 0 }, "{user_memory:?}");
        assert!(count(&records, "process_executable_path") > 0);
        for key in ["process_command_line_arguments", "process_command_line_argument_list"] {
            assert_eq!(count(&records, key) > 0, command_lines, "{key} {user_memory:?}");
        }
    }
}
