//! Histories of shells other than bash, in whole machines: what is typed, and lists that are
//! cleared, in the memory that these programs have.

#[path = "../common/mod.rs"]
mod common;
mod python;
mod zsh;

use std::sync::Arc;

use panoptes_decoders::source::PAGE_BYTES;
use panoptes_engine::detect::shell_history::{self, HistoryCommand};
use panoptes_engine::limits::Limits;
use panoptes_engine::policy::PolicyConfig;
use panoptes_engine::time::Now;
use panoptes_engine::walk::{Scope, Walker};
use panoptes_engine::watch::{WatchedMachine, Workspace};
use panoptes_records::queue::{Consumer, Producer, QueueSize, Waker, queue};
use panoptes_synthetic::{Area, Machine, Size, Source, profile};
use serde_json::Value;

use common::setup::{KEY, setup};
use common::take_records;

const INTERVAL_NS: u64 = 10_000_000;
/// More scans than it takes to find a program that was started.
const SCANS: usize = 40;
const PAGE: usize = PAGE_BYTES as usize;
const START_S: u64 = 1_795_000_000;

const READ: u64 = 1;
const WRITE: u64 = 2;
const EXECUTE: u64 = 4;

/// Where the data of each object is loaded: as the areas of a program are.
const DATA: u64 = 0x1_4000;

/// Where its code is.
const CODE: u64 = 0xc00;

/// A dynamically linked object that exports these symbols and has code at [`CODE`].
fn object(symbols: &[(&str, u64)], code: &[u8]) -> Vec<u8> {
    const DYNAMIC: usize = 0x200;
    const HASH: usize = 0x300;
    const SYMBOLS: usize = 0x400;
    const STRINGS: usize = 0x800;
    let mut file = vec![0; PAGE];
    let put = |file: &mut Vec<u8>, at: usize, bytes: &[u8]| {
        file[at..at + bytes.len()].copy_from_slice(bytes);
    };
    put(&mut file, 0, b"\x7fELF\x02\x01");
    let headers =
        [(1_u32, 5_u32, 0, DATA), (1, 6, DATA, 0x4000), (2, 4, DYNAMIC as u64, 64), (3, 4, 0, 1)];
    (file[32], file[54], file[56]) = (64, 56, headers.len() as u8);
    for (at, (kind, flags, address, bytes)) in headers.into_iter().enumerate() {
        let mut header = [kind.to_le_bytes(), flags.to_le_bytes()].concat();
        for word in [address, address, address, bytes, bytes, PAGE_BYTES] {
            header.extend(word.to_le_bytes());
        }
        put(&mut file, 64 + at * 56, &header);
    }
    // `DT_HASH`, `DT_STRTAB`, `DT_SYMTAB`
    for (at, (tag, value)) in [(4_u64, HASH), (5, STRINGS), (6, SYMBOLS)].into_iter().enumerate() {
        put(&mut file, DYNAMIC + at * 16, &tag.to_le_bytes());
        put(&mut file, DYNAMIC + at * 16 + 8, &(value as u64).to_le_bytes());
    }
    // One bucket, whose chain has all symbols.
    let count = symbols.len() as u32 + 1;
    for (at, word) in [1, count, 1, 0].into_iter().chain(2..count).enumerate() {
        put(&mut file, HASH + at * 4, &word.to_le_bytes());
    }
    let mut strings = STRINGS + 1;
    for (at, &(name, address)) in symbols.iter().enumerate() {
        let symbol = SYMBOLS + (at + 1) * 24;
        put(&mut file, symbol, &((strings - STRINGS) as u32).to_le_bytes());
        put(&mut file, symbol + 6, &[1]);
        put(&mut file, symbol + 8, &address.to_le_bytes());
        put(&mut file, strings, name.as_bytes());
        strings += name.len() + 1;
    }
    put(&mut file, CODE as usize, code);
    file
}

const TERMINAL: &str = "/dev/tty1";

/// Gives a process a file or a terminal as its standard input.
fn reads_from(machine: &mut Machine, pid: u32, path: &str) {
    machine.make_terminal(TERMINAL);
    let descriptor = machine.open(pid, path);
    if descriptor != 0 {
        machine.dup2(pid, descriptor, 0);
        machine.close(pid, descriptor);
    }
}

/// A machine that is watched.
struct World {
    machine: Machine,
    watched: WatchedMachine,
    workspace: Workspace,
    queue: (Producer, Consumer),
    now: Now,
}

impl World {
    fn new() -> Self {
        let size = Size { processes: 12, threads: 1, descriptors: 4, areas: 4, ..Size::default() };
        let mut machine = Machine::builder(&profile("6.12.117+deb13-amd64")).size(size).build();
        let limits = Limits::default();
        let mut policy = PolicyConfig::default();
        for activity in shell_history::ACTIVITIES {
            policy.set_enabled(activity, true);
        }
        let mut watched =
            WatchedMachine::new(setup(&limits, &machine.discover(), policy, Arc::default()));
        let mut walker = Walker::new(&limits, KEY);
        let mut source = Source::new(&mut machine);
        assert!(watched.first_process(&mut walker, &mut source).is_some());
        drop(source);
        let size = QueueSize { blocks: 64, block_bytes: 1 << 20 };
        let queue = queue(size, &Waker::default());
        let now = Now::at(START_S as i64 * 1_000_000_000);
        let mut world =
            Self { machine, watched, workspace: Workspace::new(&limits, KEY), queue, now };
        world.scan();
        world
    }

    /// Scans the machine for a while. Returns what was reported of histories: the activity, the
    /// command line, and the reason.
    fn scan(&mut self) -> Vec<String> {
        let mut records = Vec::new();
        for _ in 0..SCANS {
            self.machine.tick(INTERVAL_NS);
            self.now = self.now.after(INTERVAL_NS as i64);
            let mut source = Source::new(&mut self.machine);
            let (producer, consumer) = &mut self.queue;
            let scan = self.watched.scan(&mut self.workspace, &mut source, self.now, producer);
            scan.expect("it can be scanned");
            records.extend(take_records(producer, consumer));
        }
        records.iter().filter_map(of_history).collect()
    }
}

fn of_history(record: &Value) -> Option<String> {
    let data = &record["activity_data"];
    let name = data["name"].as_str().filter(|name| name.starts_with("shell_"))?;
    let command = &data["shell_history_details"]["shell_command_execution_history"][0];
    let line = command["command_line"].as_str().unwrap_or("");
    let time = command["command_execution_time_iso_8601_ns"].as_str().unwrap_or("");
    let reason = record["detection"]["reason"].as_str().unwrap_or("");
    let name = name.strip_prefix("shell_")?;
    if name == "command_executed" {
        return Some(format!("{line} at {}", time.get(11..19)?));
    }
    let confidence = record["detection"]["confidence"].as_str().unwrap_or("");
    Some(format!("{name}, {confidence}: {}", without_process(reason)))
}

/// The commands that one scan of a machine shows.
fn remembered(machine: &mut Machine) -> Vec<String> {
    let kernel = common::kernel(machine);
    let mut walker = common::walker(&Limits::default());
    let mut source = Source::new(machine);
    let snapshot = walker.scan(&mut source, &kernel, Scope::ALL).expect("it can be scanned");
    let (commands, unread) = shell_history::remembered(&mut source, &kernel, snapshot, 100);
    assert_eq!(unread, 0);
    let line = |command: HistoryCommand| String::from_utf8(command.line).expect("it is UTF-8");
    commands.into_iter().map(line).collect()
}

fn without_process(reason: &str) -> String {
    let Some((before, rest)) = reason.split_once(" (process ") else { return reason.to_owned() };
    format!("{before}{}", rest.split_once(')').map_or("", |(_, after)| after))
}

/// The memory of a process that a test writes: whole objects at addresses of its heap.
struct Heap {
    pid: u32,
    next: u64,
    end: u64,
}

impl Heap {
    fn of(machine: &Machine, pid: u32) -> Self {
        let areas = machine.areas(pid);
        let is_heap = |area: &&Area| area.path.is_none() && area.end - area.start > 16 * PAGE_BYTES;
        let heap = areas.iter().find(is_heap).expect("it has a heap");
        Self { pid, next: heap.start, end: heap.end }
    }

    /// Puts bytes at a new place, within one page.
    fn put(&mut self, machine: &mut Machine, bytes: &[u8]) -> u64 {
        let length = (bytes.len() as u64).next_multiple_of(16);
        if self.next / PAGE_BYTES != (self.next + length) / PAGE_BYTES {
            self.next = self.next.next_multiple_of(PAGE_BYTES);
        }
        let at = self.next;
        self.next += length;
        assert!(self.next <= self.end, "there is room");
        machine.write_user(self.pid, at, bytes);
        at
    }

    fn text(&mut self, machine: &mut Machine, text: &[u8]) -> u64 {
        self.put(machine, &[text, b"\0"].concat())
    }
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}
