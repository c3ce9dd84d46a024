//! Histories of shells other than bash, in whole machines: what is typed, and lists that are
//! cleared, in the memory that these programs have.

mod common;

use std::sync::Arc;

use panoptes_decoders::source::PAGE_BYTES;
use panoptes_engine::detect::shell_history;
use panoptes_engine::limits::Limits;
use panoptes_engine::policy::PolicyConfig;
use panoptes_engine::time::Now;
use panoptes_engine::walk::Walker;
use panoptes_engine::watch::{Watched, Workspace};
use panoptes_sinks::queue::{Consumer, Producer, QueueSize, Waker, queue};
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

const CODE: u64 = 0xc00;

/// A machine that is watched.
struct World {
    machine: Machine,
    watched: Watched,
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
        let mut watched = Watched::new(setup(&limits, &machine.discover(), policy, Arc::default()));
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

mod python {
    //! Debian 12's Python 3.11 with readline 8.2.

    use super::*;

    const LIST: u64 = DATA;
    const LENGTH: u64 = DATA + 8;
    const BASE: u64 = DATA + 12;
    const MOST: u64 = DATA + 16;
    const LINES_READ: u64 = DATA + 20;
    const PROMPT: u64 = DATA + 24;

    const MODULE: &str = "/usr/lib/python3/lib-dynload/readline.cpython-311-x86_64-linux-gnu.so";
    const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/libreadline.so.8.2";
    const BASE_ADDRESS: u64 = 0x7fff_e000_0000;

    /// A Python, and what its readline remembers.
    struct Python {
        pid: u32,
        heap: Heap,
        array: u64,
        entries: Vec<u64>,
        time_s: u64,
    }

    fn library() -> Vec<u8> {
        // mov the_history(%rip), %rax; ret
        let distance = LIST - CODE - 7;
        let code = [&[0x48, 0x8b, 0x05][..], &(distance as u32).to_le_bytes(), &[0xc3]].concat();
        let symbols = [
            ("history_list", CODE),
            ("history_length", LENGTH),
            ("history_base", BASE),
            ("history_max_entries", MOST),
            ("history_lines_read_from_file", LINES_READ),
            ("rl_prompt", PROMPT),
        ];
        object(&symbols, &code)
    }

    impl Python {
        /// Starts a program that has loaded the library, and the module if it is a Python.
        fn start(machine: &mut Machine, has_module: bool) -> Self {
            machine.write_file("/usr/bin/python3.11", &object(&[("Py_Main", CODE)], &[0xc3]));
            machine.write_file(LIBRARY, &library());
            machine.write_file(MODULE, &object(&[("PyInit_readline", CODE)], &[0xc3]));
            let pid = machine.fork(1);
            machine.exec(pid, "/usr/bin/python3.11", &["python3"]);
            let area = |start: u64, pages: u64, flags, path: &str, page_offset| Area {
                start,
                end: start + pages * PAGE_BYTES,
                flags,
                path: Some(path.to_owned()),
                page_offset,
            };
            let mut areas = vec![
                area(BASE_ADDRESS, 20, READ | EXECUTE, LIBRARY, 0),
                area(BASE_ADDRESS + DATA, 4, READ | WRITE, LIBRARY, 20),
            ];
            if has_module {
                areas.push(area(BASE_ADDRESS + 0x10_0000, 4, READ | EXECUTE, MODULE, 0));
            }
            machine.map(pid, &areas);
            let heap = Heap::of(machine, pid);
            let mut python = Self { pid, heap, array: 0, entries: Vec::new(), time_s: START_S };
            python.array = python.heap.put(machine, &[0; 4000]);
            machine.write_user(pid, BASE_ADDRESS + DATA, &[0; 64]);
            python.set(machine, LIST, &python.array.to_le_bytes());
            python.set(machine, BASE, &1_u32.to_le_bytes());
            python
        }

        fn set(&self, machine: &mut Machine, address: u64, bytes: &[u8]) {
            machine.write_user(self.pid, BASE_ADDRESS + address, bytes);
        }

        fn store(&self, machine: &mut Machine) {
            let array = words(&[&self.entries[..], &[0]].concat());
            machine.write_user(self.pid, self.array, &array);
            self.set(machine, LENGTH, &(self.entries.len() as u32).to_le_bytes());
        }

        /// Adds lines without a prompt, as a file that is read does.
        fn add(&mut self, machine: &mut Machine, lines: &[&str]) {
            for line in lines {
                self.time_s += 1;
                // `history_comment_char` is a NUL.
                let time = format!("\0{}", self.time_s);
                let time = self.heap.text(machine, time.as_bytes());
                let line = self.heap.text(machine, line.as_bytes());
                self.entries.push(self.heap.put(machine, &words(&[line, time, 0])));
            }
            self.store(machine);
        }

        fn reads_file(&mut self, machine: &mut Machine, lines: &[&str]) {
            self.add(machine, lines);
            self.set(machine, LINES_READ, &(lines.len() as u32).to_le_bytes());
        }

        fn prompts(&mut self, machine: &mut Machine, prompt: &str) {
            let prompt = self.heap.text(machine, prompt.as_bytes());
            self.set(machine, PROMPT, &prompt.to_le_bytes());
        }

        fn clear(&mut self, machine: &mut Machine) {
            self.entries.clear();
            self.store(machine);
        }
    }

    #[test]
    fn lines_are_reported_once_with_their_times() {
        let mut world = World::new();
        let mut python = Python::start(&mut world.machine, true);
        python.reads_file(&mut world.machine, &["an", "old", "file"]);
        // Before the first prompt.
        assert_eq!(world.scan(), [""; 0]);
        python.prompts(&mut world.machine, ">>> ");
        python.add(&mut world.machine, &["import os"]);
        assert_eq!(world.scan(), ["import os at 11:06:44"]);
        assert_eq!(world.scan(), [""; 0]);
        python.add(&mut world.machine, &["for i in range(2):", "  print(i)"]);
        python.prompts(&mut world.machine, "... ");
        let reported = world.scan();
        assert_eq!(reported, ["for i in range(2): at 11:06:45", "  print(i) at 11:06:46"]);
        // A file, after the command that reads it.
        python.add(&mut world.machine, &["readline.read_history_file()"]);
        python.reads_file(&mut world.machine, &["four", "lines", "are", "read"]);
        assert_eq!(world.scan(), ["readline.read_history_file() at 11:06:47"]);
    }

    #[test]
    fn many_lines_at_once_may_be_typed() {
        let mut world = World::new();
        let mut python = Python::start(&mut world.machine, true);
        python.prompts(&mut world.machine, ">>> ");
        python.add(&mut world.machine, &["one"]);
        assert_eq!(world.scan().len(), 1);
        python.add(&mut world.machine, &["x = 1"; 20]);
        assert_eq!(world.scan().len(), 20);
    }

    #[test]
    fn a_list_that_was_cleared_is_reported() {
        let mut world = World::new();
        let mut python = Python::start(&mut world.machine, true);
        python.prompts(&mut world.machine, ">>> ");
        python.add(&mut world.machine, &["one", "two", "three"]);
        assert_eq!(world.scan().len(), 3);
        python.clear(&mut world.machine);
        let expected = "history_cleared, medium: all 3 commands that Python remembered are gone \
                        (readline.clear_history)";
        assert_eq!(world.scan(), [expected]);
        assert_eq!(world.scan(), [""; 0]);
    }

    #[test]
    fn lists_that_programs_change_are_not_cleared() {
        let mut world = World::new();
        let mut python = Python::start(&mut world.machine, true);
        python.prompts(&mut world.machine, "(Cmd) ");
        python.add(&mut world.machine, &["one", "two", "three", "four"]);
        assert_eq!(world.scan().len(), 4);
        // Answers are taken out.
        python.entries.drain(1..3);
        python.store(&mut world.machine);
        assert_eq!(world.scan(), [""; 0]);
        // Another prompt of the program has a list of its own.
        python.clear(&mut world.machine);
        python.prompts(&mut world.machine, ">>> ");
        assert_eq!(world.scan(), [""; 0]);
    }

    #[test]
    fn other_programs_with_readline_are_not_watched() {
        let mut world = World::new();
        let mut program = Python::start(&mut world.machine, false);
        program.prompts(&mut world.machine, "(gdb) ");
        program.add(&mut world.machine, &["break main"]);
        assert_eq!(world.scan(), [""; 0]);
    }
}
