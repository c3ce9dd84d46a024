//! Everything that ever was in a machine, to judge records by.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use panoptes_synthetic::{Area, Machine, permissions};

/// A process: its id may have been that of others before.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Life {
    pub(crate) pid: u32,
    /// Calendar time of its creation, in nanoseconds since 1970.
    pub(crate) created_ns: u64,
}

/// What a process ever was.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) names: BTreeSet<String>,
    pub(crate) executables: BTreeSet<String>,
    pub(crate) arguments: BTreeSet<String>,
    pub(crate) parents: BTreeSet<u32>,
    pub(crate) users: BTreeSet<u32>,
    /// The path of its control group.
    pub(crate) containers: BTreeSet<String>,
    /// Whether it has ended, or will have when all stores of the last operation are done.
    pub(crate) has_ended: bool,
}

/// An area of a process.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Range {
    pub(crate) life: Life,
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl Range {
    fn of(life: Life, area: &Area) -> Self {
        Self { life, start: area.start, end: area.end }
    }

    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.life == other.life && self.start < other.end && other.start < self.end
    }
}

/// What the machine has now, as records have to show it in the end.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Present {
    pub(crate) processes: BTreeSet<Life>,
    /// Those of them that have ended, with all that they had.
    pub(crate) zombies: BTreeSet<Life>,
    pub(crate) threads: BTreeSet<(Life, u32)>,
    /// The inode number of each descriptor.
    pub(crate) descriptors: BTreeMap<(Life, u32), u64>,
    pub(crate) areas: BTreeSet<Range>,
    pub(crate) connections: BTreeSet<String>,
    pub(crate) modules: BTreeSet<String>,
}

/// The history of a machine.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    pub(crate) lives: HashMap<Life, Facts>,
    /// The processes that run.
    running: BTreeSet<Life>,
    pub(crate) threads: HashSet<(Life, u32)>,
    pub(crate) descriptors: HashSet<(Life, u32, u64)>,
    /// The names of each inode.
    pub(crate) names: HashSet<(u64, String)>,
    /// Areas with their permissions and the paths of their files.
    pub(crate) areas: HashSet<(Range, String, String)>,
    pub(crate) connections: HashSet<String>,
    /// Modules with the addresses of their code.
    pub(crate) modules: HashSet<String>,
    /// The inodes whose content ever changed.
    pub(crate) written: HashSet<u64>,
}

impl Truth {
    /// Notes what the machine has after an operation.
    pub(crate) fn note(&mut self, machine: &Machine) {
        let running = machine.processes().filter(|it| it.pid != 0 && !it.is_zombie);
        let running = running.map(|it| life(machine, it.pid)).collect();
        for ended in std::mem::replace(&mut self.running, running).difference(&self.running) {
            self.lives.entry(*ended).or_default().has_ended = true;
        }
        for process in machine.processes().filter(|it| it.pid != 0) {
            let life = life(machine, process.pid);
            let facts = self.lives.entry(life).or_default();
            add(&mut facts.names, &machine.thread(process.pid).name);
            facts.parents.insert(process.parent);
            facts.users.insert(process.uid);
            add(&mut facts.containers, &machine.containers()[process.container].path);
            if let Some(path) = machine.executable(process.pid) {
                add(&mut facts.executables, &path);
            }
            add(&mut facts.arguments, &process.arguments.join(" "));
            self.threads.extend(process.threads.iter().map(|&tid| (life, tid)));
            let (inodes, names) =
                (machine.descriptor_inodes(process.pid), machine.descriptors(process.pid));
            for ((descriptor, inode), (_, name)) in inodes.into_iter().zip(names) {
                self.descriptors.insert((life, descriptor, inode));
                self.names.insert((inode, name));
            }
            for area in machine.areas(process.pid) {
                let range = Range::of(life, &area);
                let path = area.path.unwrap_or_default();
                self.areas.insert((range, permissions(area.flags), path));
            }
        }
        self.connections.extend(connections(machine));
        self.modules.extend(modules(machine));
        self.written.extend(machine.written_inodes());
        // The last process that has it open may be about to end.
        self.names.extend(machine.last_renamed());
    }

    /// What the machine has now.
    pub(crate) fn present(machine: &Machine) -> Present {
        let mut present = Present::default();
        for process in machine.processes().filter(|it| it.pid != 0) {
            let life = life(machine, process.pid);
            present.processes.insert(life);
            if process.is_zombie {
                present.zombies.insert(life);
            }
            present.threads.extend(process.threads[1..].iter().map(|&tid| (life, tid)));
            let inodes = machine.descriptor_inodes(process.pid).into_iter();
            present.descriptors.extend(inodes.map(|(index, inode)| ((life, index), inode)));
            let areas = machine.areas(process.pid);
            present.areas.extend(areas.iter().map(|area| Range::of(life, area)));
        }
        present.connections.extend(connections(machine));
        present.modules.extend(modules(machine));
        present
    }
}

fn add(texts: &mut BTreeSet<String>, text: &str) {
    if !texts.contains(text) {
        texts.insert(text.to_owned());
    }
}

fn life(machine: &Machine, pid: u32) -> Life {
    let booted_ns = machine.calendar_ns() - machine.uptime_ns();
    Life { pid, created_ns: booted_ns + machine.process(pid).start_ns }
}

/// `name address` of each module.
fn modules(machine: &Machine) -> impl Iterator<Item = String> {
    machine.modules().map(|module| format!("{} {:#x}", module.name, module.text.0))
}

/// `source destination` of each connection. Nothing reports that a socket begins to listen.
fn connections(machine: &Machine) -> impl Iterator<Item = String> {
    let open = machine.sockets();
    let open = open.filter_map(|(_, socket)| Some((socket.source?, socket.destination?)));
    let waiting = machine.waiting().iter().map(|it| (it.source, it.destination));
    open.chain(waiting).map(|(source, destination)| format!("{source} {destination}"))
}
