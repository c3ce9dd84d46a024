//! Debian 12's zsh 5.9.

use panoptes_synthetic::{Area, Machine};

use crate::{
    DATA, EXECUTE, Heap, READ, START_S, TERMINAL, World, object, reads_from, remembered, words,
};

const RING: u64 = DATA;
const COUNT: u64 = DATA + 8;
const CURRENT: u64 = DATA + 16;
const SIZE: u64 = DATA + 24;
const SAVED: u64 = DATA + 32;
const LEVEL: u64 = DATA + 40;
const TABLE: u64 = DATA + 48;
const EDITED: u64 = DATA + 56;

const READ_FROM_FILE: u64 = 6;
const FILE: (&str, &str) = ("HISTFILE", "/root/.zsh_history");
/// `hsize` and `ct`.
const SIZES: u64 = 1 | 2 << 32;

#[derive(Clone)]
struct Command {
    address: u64,
    line: u64,
    flags: u64,
    time_s: u64,
    number: u64,
}

/// A list of commands and what belongs to it.
#[derive(Clone, Default)]
struct List {
    commands: Vec<Command>,
    current: u64,
}

struct Zsh {
    pid: u32,
    base: u64,
    heap: Heap,
    list: List,
    time_s: u64,
}

impl Zsh {
    fn file() -> Vec<u8> {
        let symbols = [
            ("hist_ring", RING),
            ("histlinect", COUNT),
            ("curhist", CURRENT),
            ("histsiz", SIZE),
            ("savehistsiz", SAVED),
            ("locallevel", LEVEL),
            ("curline", EDITED),
            ("realparamtab", TABLE),
        ];
        object(&symbols, &[0xc3])
    }

    /// Starts a shell with these parameters, which has read two commands of a file.
    fn start(machine: &mut Machine, parameters: &[(&str, &str)]) -> Self {
        machine.write_file("/usr/bin/zsh", &Self::file());
        Self::start_from(machine, "/usr/bin/zsh", parameters)
    }

    /// The same from an existing file.
    fn start_from(machine: &mut Machine, path: &str, parameters: &[(&str, &str)]) -> Self {
        machine.write_file(FILE.1, b"an old command");
        let pid = machine.fork(1);
        machine.exec(pid, path, &["zsh"]);
        let base = machine.areas(pid)[0].start;
        let heap = Heap::of(machine, pid);
        let mut zsh = Self { pid, base, heap, list: List::default(), time_s: START_S };
        machine.write_user(pid, base + DATA, &[0; 256]);
        zsh.set(machine, SIZE, 1000);
        zsh.set(machine, SAVED, 1000);
        zsh.set_parameters(machine, parameters);
        zsh.adds(machine, b"an old command", READ_FROM_FILE);
        zsh.adds(machine, b"another", READ_FROM_FILE);
        zsh
    }

    fn set(&self, machine: &mut Machine, address: u64, value: u64) {
        machine.write_user(self.pid, self.base + address, &value.to_le_bytes());
    }

    /// Puts parameters into a table with one slot.
    fn set_parameters(&mut self, machine: &mut Machine, parameters: &[(&str, &str)]) {
        let mut next = 0;
        for (name, value) in [("PS1", "% ")].iter().chain(parameters) {
            let name = self.heap.text(machine, name.as_bytes());
            let value = self.heap.text(machine, value.as_bytes());
            next = self.heap.put(machine, &words(&[next, name, 0, value]));
        }
        let slot = self.heap.put(machine, &words(&[next]));
        let table = self.heap.put(machine, &words(&[SIZES, slot]));
        self.set(machine, TABLE, table);
    }

    fn adds(&mut self, machine: &mut Machine, line: &[u8], flags: u64) {
        self.time_s += 1;
        self.list.current += 1;
        let address = self.heap.put(machine, &[0; 88]);
        let line = self.heap.text(machine, line);
        let (time_s, number) = (self.time_s, self.list.current);
        self.list.commands.push(Command { address, line, flags, time_s, number });
        self.store(machine);
    }

    fn types(&mut self, machine: &mut Machine, line: &str) {
        self.adds(machine, line.as_bytes(), 0);
    }

    /// Stores the ring as it is at the prompt: with the line that is being edited.
    fn store(&self, machine: &mut Machine) {
        let number = self.list.current + 1;
        let (address, time_s) = (self.base + EDITED, 0);
        let edited = Command { address, line: 0, flags: 0, time_s, number };
        let mut ring = self.list.commands.clone();
        ring.push(edited);
        for (at, command) in ring.iter().enumerate() {
            let &Command { address, line, flags, time_s, number } = command;
            let up = ring[(at + ring.len() - 1) % ring.len()].address;
            let down = ring[(at + 1) % ring.len()].address;
            let all = [0, line, flags, up, down, 0, time_s, time_s, 0, 0, number];
            machine.write_user(self.pid, address, &words(&all));
        }
        self.set(machine, RING, address);
        self.set(machine, COUNT, self.list.commands.len() as u64);
        self.set(machine, CURRENT, number);
    }

    /// `fc -p`: returns the list that is put aside.
    fn puts_aside(&mut self, machine: &mut Machine) -> List {
        let list = std::mem::take(&mut self.list);
        self.set_parameters(machine, &[]);
        self.set(machine, SIZE, 30);
        self.set(machine, SAVED, 0);
        self.store(machine);
        list
    }

    /// `fc -P`
    fn takes_back(&mut self, machine: &mut Machine, list: List) {
        self.list = list;
        self.set_parameters(machine, &[FILE]);
        self.set(machine, SIZE, 1000);
        self.set(machine, SAVED, 1000);
        self.store(machine);
    }
}

#[test]
fn commands_are_reported_once_with_their_times() {
    let mut world = World::new();
    let mut zsh = Zsh::start(&mut world.machine, &[FILE]);
    assert_eq!(world.scan(), [""; 0]);
    zsh.types(&mut world.machine, "echo one");
    assert_eq!(world.scan(), ["echo one at 11:06:43"]);
    zsh.types(&mut world.machine, "for i in 1\ndo echo $i\ndone");
    zsh.types(&mut world.machine, "echo two");
    let expected = ["for i in 1\ndo echo $i\ndone at 11:06:44", "echo two at 11:06:45"];
    assert_eq!(world.scan(), expected);
    // Another shell's command, which the history file has brought.
    zsh.adds(&mut world.machine, b"ls", 0x16);
    assert_eq!(world.scan(), [""; 0]);
    // The same again, in the place of the one before (`HIST_IGNORE_DUPS`).
    zsh.types(&mut world.machine, "id");
    assert_eq!(world.scan(), ["id at 11:06:47"]);
    zsh.time_s += 1;
    zsh.list.commands.last_mut().unwrap().time_s = zsh.time_s;
    zsh.store(&mut world.machine);
    // Another word shows that there is something new.
    zsh.set(&mut world.machine, LEVEL, 1);
    assert_eq!(world.scan(), ["id at 11:06:48"]);
    zsh.set(&mut world.machine, LEVEL, 0);
    assert_eq!(world.scan(), [""; 0]);
}

/// One cache answered for a file in both uses, so a copy of a shell that a program had mapped under
/// a library's name was no shell any more.
#[test]
fn a_shell_whose_file_a_program_maps_as_a_library_is_watched() {
    const LIBRARY: &str = "/usr/bin/libreadline.so.8";
    const MODULE: &str = "/tmp/readline.cpython-311.so";
    let mut world = World::new();
    let machine = &mut world.machine;
    machine.write_file(LIBRARY, &Zsh::file());
    machine.write_file(MODULE, &object(&[("PyInit_readline", 0xc00)], &[0xc3]));
    machine.write_file("/usr/bin/python3", &object(&[("Py_Main", 0xc00)], &[0xc3]));
    let python = machine.fork(1);
    machine.exec(python, "/usr/bin/python3", &["python3"]);
    reads_from(machine, python, TERMINAL);
    let area = |start: u64, path: &str| Area {
        start,
        end: start + 0x4000,
        flags: READ | EXECUTE,
        path: Some(path.to_owned()),
        page_offset: 0,
    };
    machine.map(python, &[area(0x7fff_e000_0000, LIBRARY), area(0x7fff_e001_0000, MODULE)]);
    assert_eq!(world.scan(), [""; 0]);
    let mut zsh = Zsh::start_from(&mut world.machine, LIBRARY, &[FILE]);
    assert_eq!(world.scan(), [""; 0]);
    zsh.types(&mut world.machine, "echo one");
    assert_eq!(world.scan(), ["echo one at 11:06:43"]);
}

#[test]
fn a_list_that_is_put_aside_is_reported() {
    let mut world = World::new();
    let mut zsh = Zsh::start(&mut world.machine, &[FILE]);
    zsh.types(&mut world.machine, "echo one");
    assert_eq!(world.scan().len(), 1);
    let list = zsh.puts_aside(&mut world.machine);
    let mut reported = world.scan();
    reported.sort();
    let expected = [
        "history_cleared, medium: all 3 commands that zsh remembered are gone (fc -p)",
        "history_disabled, high: zsh will not save its history from now on: HISTFILE is unset \
         or empty",
    ];
    assert_eq!(reported, expected);
    zsh.types(&mut world.machine, "echo hidden");
    assert_eq!(world.scan(), ["echo hidden at 11:06:44"]);
    zsh.takes_back(&mut world.machine, list);
    assert_eq!(world.scan(), [""; 0]);
    zsh.types(&mut world.machine, "echo end");
    assert_eq!(world.scan(), ["echo end at 11:06:45"]);
}

#[test]
fn a_function_may_have_a_list_of_its_own() {
    let mut world = World::new();
    let mut zsh = Zsh::start(&mut world.machine, &[FILE]);
    zsh.types(&mut world.machine, "zcalc");
    assert_eq!(world.scan().len(), 1);
    zsh.set(&mut world.machine, LEVEL, 1);
    let list = zsh.puts_aside(&mut world.machine);
    zsh.types(&mut world.machine, "1 + 1");
    assert_eq!(world.scan(), [""; 0]);
    zsh.takes_back(&mut world.machine, list);
    zsh.set(&mut world.machine, LEVEL, 0);
    assert_eq!(world.scan(), [""; 0]);
}

#[test]
fn a_history_that_is_disabled_is_reported() {
    let mut world = World::new();
    let mut zsh = Zsh::start(&mut world.machine, &[FILE]);
    zsh.types(&mut world.machine, "echo one");
    assert_eq!(world.scan().len(), 1);
    let not_saved = "history_disabled, high: zsh will not save its history from now on";
    zsh.set_parameters(&mut world.machine, &[("HISTFILE", "/dev/null")]);
    zsh.types(&mut world.machine, "HISTFILE=/dev/null");
    let expected =
        format!("{not_saved}: the file is a device that keeps nothing: HISTFILE=/dev/null");
    assert_eq!(world.scan()[1..], [expected]);
    zsh.set_parameters(&mut world.machine, &[FILE]);
    zsh.set(&mut world.machine, SAVED, 0);
    zsh.types(&mut world.machine, "SAVEHIST=0");
    assert_eq!(world.scan()[1..], [format!("{not_saved}: SAVEHIST=0")]);
    zsh.set(&mut world.machine, SIZE, 1);
    zsh.list.commands.clear();
    zsh.types(&mut world.machine, "HISTSIZE=0");
    let expected = "history_disabled, high: zsh remembers no commands from now on: HISTSIZE is \
                    1 or less";
    assert_eq!(world.scan(), ["HISTSIZE=0 at 11:06:46", expected]);
    zsh.set(&mut world.machine, SIZE, 30);
    zsh.set_parameters(&mut world.machine, &[FILE, ("HISTORY_IGNORE", "(*)")]);
    zsh.types(&mut world.machine, "HISTORY_IGNORE='(*)'");
    let expected = "history_disabled, medium: zsh will not save its history from now on: \
                    HISTORY_IGNORE fits nearly all commands";
    assert_eq!(world.scan()[1..], [expected]);
}

#[test]
fn a_shell_without_configuration_is_not_disabled() {
    let mut world = World::new();
    let mut zsh = Zsh::start(&mut world.machine, &[]);
    zsh.set(&mut world.machine, SIZE, 30);
    zsh.set(&mut world.machine, SAVED, 0);
    zsh.types(&mut world.machine, "echo one");
    assert_eq!(world.scan(), ["echo one at 11:06:43"]);
    // Patterns for some commands.
    zsh.set_parameters(&mut world.machine, &[FILE, ("HISTORY_IGNORE", "(ls|cd *|exit)")]);
    zsh.set(&mut world.machine, SAVED, 1000);
    zsh.types(&mut world.machine, "echo two");
    assert_eq!(world.scan(), ["echo two at 11:06:44"]);
}

#[test]
fn a_single_scan_shows_all_commands() {
    let mut world = World::new();
    let mut zsh = Zsh::start(&mut world.machine, &[FILE]);
    // A text with a byte that zsh encodes.
    zsh.adds(&mut world.machine, b"echo \xe2\x80\x83\xb9", 0);
    assert_eq!(remembered(&mut world.machine), ["an old command", "another", "echo ’"]);
}

#[test]
fn a_ring_without_an_end_is_left() {
    let mut world = World::new();
    let mut zsh = Zsh::start(&mut world.machine, &[FILE]);
    zsh.types(&mut world.machine, "echo one");
    assert_eq!(world.scan().len(), 1);
    // The second entry leads to itself.
    let [first, second] = [0; 2].map(|_| zsh.heap.put(&mut world.machine, &[0; 88]));
    for (address, down, number) in [(first, second, 900), (second, first, 899)] {
        let all = [0, address, 0, second, down, 0, START_S, 0, 0, 0, number];
        world.machine.write_user(zsh.pid, address, &words(&all));
    }
    zsh.set(&mut world.machine, RING, first);
    assert_eq!(world.scan(), [""; 0]);
}
