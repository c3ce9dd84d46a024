//! Debian 12's Python 3.11 with readline 8.2.

use panoptes_decoders::source::PAGE_BYTES;
use panoptes_synthetic::{Area, Machine};

use crate::{
    CODE, DATA, EXECUTE, Heap, READ, START_S, TERMINAL, WRITE, World, object, reads_from,
    remembered, words,
};

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
        reads_from(machine, pid, TERMINAL);
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
fn a_single_scan_shows_all_lines() {
    let mut world = World::new();
    let mut python = Python::start(&mut world.machine, true);
    python.reads_file(&mut world.machine, &["an", "old", "file"]);
    python.add(&mut world.machine, &["import os"]);
    assert_eq!(remembered(&mut world.machine), ["an", "old", "file", "import os"]);
}

#[test]
fn other_programs_with_readline_are_not_watched() {
    let mut world = World::new();
    let mut program = Python::start(&mut world.machine, false);
    program.prompts(&mut world.machine, "(gdb) ");
    program.add(&mut world.machine, &["break main"]);
    assert_eq!(world.scan(), [""; 0]);
}

#[test]
fn lists_that_programs_fill_without_a_terminal_were_not_typed() {
    for path in ["/dev/null", "/srv/lines"] {
        let mut world = World::new();
        let mut python = Python::start(&mut world.machine, true);
        reads_from(&mut world.machine, python.pid, path);
        python.prompts(&mut world.machine, ">>> ");
        python.add(&mut world.machine, &["import os"]);
        assert_eq!(world.scan(), [""; 0], "{path}");
    }
}
