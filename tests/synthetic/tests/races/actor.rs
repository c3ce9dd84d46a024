//! What happens in the machine: operations that follow from a seed.

use std::net::{Ipv4Addr, SocketAddr};

use panoptes_synthetic::{ForkOptions, Machine, Process, Random};

/// Without more processes, the next operation is a fork; with more, one ends.
const PROCESSES: std::ops::Range<usize> = 3..10;
/// A process with more descriptors or threads opens or starts no others.
const DESCRIPTORS_MAX: usize = 12;
const THREADS_MAX: usize = 5;
const AREAS_MAX: usize = 24;
const CONTAINERS_MAX: usize = 8;
const WAITING_MAX: usize = 6;
const MODULES_MAX: usize = 10;
/// `VM_READ`, and `VM_READ | VM_WRITE`.
const PERMISSIONS: [u64; 2] = [1, 3];

/// Chooses operations. No two executions, files or connections have the same names.
#[derive(Debug)]
pub(crate) struct Actor {
    random: Random,
    /// Number of names given.
    names: u32,
    /// Files that exist, to rename and to remove.
    files: Vec<String>,
    /// The processes that unfinished operations are about, and those they made.
    busy: Vec<u32>,
}

impl Actor {
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), names: 0, files: Vec::new(), busy: Vec::new() }
    }

    /// Whether something with a chance of one in `of` happens.
    pub(crate) fn chance(&mut self, of: u64) -> bool {
        self.random.below(of) == 0
    }

    /// A number from 1 to `most`; small ones are as frequent as large ones together.
    pub(crate) fn some(&mut self, most: u64) -> usize {
        let limit = 1 + self.random.below(most);
        1 + self.random.below(limit) as usize
    }

    fn name(&mut self, of: &str) -> String {
        self.names += 1;
        // Every fifth name has no room in its dentry.
        let rest = if self.names.is_multiple_of(5) {
            "-with-a-name-that-is-long-enough-for-two"
        } else {
            ""
        };
        format!("{of}{}{rest}", self.names)
    }

    /// Changes the machine once; returns what was done.
    pub(crate) fn act(&mut self, machine: &mut Machine) -> String {
        self.busy.clear();
        self.act_too(machine)
    }

    /// The same while other operations are unfinished: about another process.
    pub(crate) fn act_too(&mut self, machine: &mut Machine) -> String {
        let before: Vec<u32> = machine.processes().map(|process| process.pid).collect();
        let done = self.choose(machine);
        let new = machine.processes().map(|process| process.pid);
        self.busy.extend(new.filter(|pid| !before.contains(pid)));
        done
    }

    fn choose(&mut self, machine: &mut Machine) -> String {
        let is_free = |pid: &u32| !self.busy.contains(pid);
        let alive: Vec<u32> = users(machine).map(|process| process.pid).filter(is_free).collect();
        let zombies = machine.processes().filter(|it| it.is_zombie).map(|it| it.pid);
        let zombies: Vec<u32> = zombies.filter(is_free).collect();
        if let Some(&pid) = self.random.one_of(&zombies)
            && (zombies.len() > 3 || self.chance(10))
        {
            self.busy.push(pid);
            machine.reap(pid);
            return format!("reap {pid}");
        }
        let Some(&pid) = self.random.one_of(&alive).filter(|_| alive.len() >= PROCESSES.start)
        else {
            if self.busy.contains(&1) {
                return "nothing".to_owned();
            }
            self.busy.push(1);
            machine.act_as(1);
            return self.fork(machine, 1);
        };
        self.busy.push(pid);
        machine.act_as(pid);
        match self.random.below(100) {
            0..14 if alive.len() < PROCESSES.end => self.fork(machine, pid),
            0..24 => self.end(machine, pid),
            24..34 => self.exec(machine, pid),
            34..42 => self.thread(machine, pid),
            42..68 => self.descriptor(machine, pid),
            68..82 => self.area(machine, pid),
            82..91 => self.connection(machine, pid),
            91..94 => self.module(machine, pid),
            _ => self.file(machine, pid),
        }
    }

    fn fork(&mut self, machine: &mut Machine, parent: u32) -> String {
        let uid = 1000 + self.random.below(3) as u32;
        let count = machine.containers().len();
        let container = if parent == 1 && count < CONTAINERS_MAX && self.chance(6) {
            let path = format!("/system.slice/docker-{count:064x}.scope");
            machine.add_container(&path, &format!("host{count}"))
        } else {
            self.random.below(count as u64) as usize
        };
        let inside = machine.process(parent).container;
        let options = ForkOptions {
            container: if parent == 1 { container } else { inside },
            uid,
            new_session: self.chance(2),
        };
        let pid = machine.fork_with(parent, options);
        let container = &machine.containers()[machine.process(pid).container].path;
        format!("fork {parent} into {pid} in {container}")
    }

    fn end(&mut self, machine: &mut Machine, pid: u32) -> String {
        if self.chance(3) {
            machine.exit(pid);
            return format!("exit {pid}");
        }
        machine.kill(pid);
        format!("kill {pid}")
    }

    fn exec(&mut self, machine: &mut Machine, pid: u32) -> String {
        let path = self.name("/opt/programs/p");
        let argument = self.name("argument");
        machine.exec(pid, &path, &[&path, &argument]);
        format!("exec {path} in {pid}")
    }

    fn thread(&mut self, machine: &mut Machine, pid: u32) -> String {
        let threads = machine.process(pid).threads[1..].to_vec();
        match self.random.one_of(&threads) {
            Some(&tid) if threads.len() >= THREADS_MAX || self.chance(2) => {
                machine.exit_thread(tid);
                format!("end thread {tid} of {pid}")
            }
            _ => {
                let tid = machine.start_thread(pid);
                format!("start thread {tid} of {pid}")
            }
        }
    }

    fn descriptor(&mut self, machine: &mut Machine, pid: u32) -> String {
        let open = machine.descriptor_inodes(pid);
        match self.random.one_of(&open) {
            Some(&(descriptor, _)) if open.len() >= DESCRIPTORS_MAX || self.chance(2) => {
                machine.close(pid, descriptor);
                format!("close {descriptor} of {pid}")
            }
            Some(&(from, _)) if self.chance(4) => {
                // Now and then the table has to grow.
                let most = if self.chance(4) { 150 } else { 20 };
                let to = self.random.below(most) as u32;
                if to != from {
                    machine.dup2(pid, from, to);
                }
                format!("dup2 {from} to {to} in {pid}")
            }
            Some(&(descriptor, _)) if self.chance(6) => {
                machine.set_close_on_exec(pid, descriptor, true);
                format!("set close-on-exec of {descriptor} of {pid}")
            }
            _ if self.chance(4) => format!("open {:?} in {pid}", machine.pipe(pid)),
            Some(&(descriptor, _)) if self.chance(4) => self.write(machine, pid, descriptor),
            _ => {
                // Changes of files in /etc are alerts.
                let folder = if self.chance(2) { "/etc/settings/s" } else { "/srv/files/f" };
                let path = self.name(folder);
                let descriptor = machine.open(pid, &path);
                let opened = format!("open {path} as {descriptor} in {pid}");
                self.files.push(path);
                opened
            }
        }
    }

    /// Writes through a descriptor, if it leads to a file that `open` made and that has a name.
    fn write(&mut self, machine: &mut Machine, pid: u32, descriptor: u32) -> String {
        let names = machine.descriptors(pid);
        let name = names.into_iter().find(|(index, _)| *index == descriptor);
        let Some((_, path)) = name.filter(|(_, path)| self.files.contains(path)) else {
            return "nothing".to_owned();
        };
        let size = self.some(1 << 16) as u64;
        machine.set_size(&path, size);
        format!("write {size} to {path}, {descriptor} of {pid}")
    }

    fn area(&mut self, machine: &mut Machine, pid: u32) -> String {
        let areas = machine.areas(pid);
        let own: Vec<_> = areas.iter().filter(|area| area.path.is_none()).collect();
        let is_mapped = |start: u64| start < 0x7fff_0000_0000 && start > 0x6000_0000_0000;
        match self.random.one_of(&own) {
            Some(area) if self.chance(3) => {
                let flags = PERMISSIONS[self.random.below(2) as usize];
                machine.protect(pid, area.start, flags);
                format!("protect {:x} of {pid}: {flags}", area.start)
            }
            Some(area) if areas.len() >= AREAS_MAX || self.chance(2) => {
                if is_mapped(area.start) || self.chance(20) {
                    machine.unmap(pid, area.start);
                }
                format!("unmap {:x} of {pid}", area.start)
            }
            _ => {
                let (count, pages) = (self.some(3) as u32, self.some(4) as u64);
                let lowest = machine.map_anonymous(pid, count, pages);
                format!("map {count} at {lowest:x} in {pid}")
            }
        }
    }

    fn connection(&mut self, machine: &mut Machine, pid: u32) -> String {
        let waiting = machine.waiting().len() as u64;
        if waiting > 0 && (waiting > WAITING_MAX as u64 || self.chance(6)) {
            let position = self.random.below(waiting) as usize;
            let ended = machine.waiting()[position];
            machine.end_time_wait(position);
            return format!("end the wait of {}", ended.source);
        }
        if machine.descriptor_inodes(pid).len() >= DESCRIPTORS_MAX {
            return "nothing".to_owned();
        }
        self.names += 1;
        let [_, b, c, d] = self.names.to_be_bytes();
        let near =
            SocketAddr::from((Ipv4Addr::new(10, 0, 2, 15), 2000 + (self.names % 60_000) as u16));
        let far = SocketAddr::from((Ipv4Addr::new(10, b, c, d), 443));
        let descriptor = match self.random.below(8) {
            0..3 => machine.connect(pid, near, far),
            3..6 => machine.accept(pid, near, far),
            6 => {
                let descriptor = machine.listen(pid, near);
                return format!("listen {descriptor} of {pid} on {near}");
            }
            _ => machine.socket_pair(pid)[0],
        };
        let waits = self.chance(2);
        if waits {
            machine.linger(pid, descriptor);
        }
        format!("connect {descriptor} of {pid} from {near} to {far}, waits: {waits}")
    }

    fn module(&mut self, machine: &mut Machine, pid: u32) -> String {
        let (all, unused): (Vec<_>, Vec<_>) = machine
            .modules()
            .map(|module| (module.name.clone(), module.holders.is_empty()))
            .unzip();
        let unused: Vec<&String> = all
            .iter()
            .zip(&unused)
            .filter(|(_, is_unused)| **is_unused)
            .map(|(it, _)| it)
            .collect();
        match self.random.one_of(&unused) {
            Some(name) if all.len() >= MODULES_MAX || self.chance(2) => {
                machine.unload_module_as(pid, name);
                format!("unload {name} by {pid}")
            }
            _ => {
                let (name, pages) = (self.name("module"), self.some(12) as u32);
                let address = machine.load_module_as(pid, &name, pages * 4096);
                let used = self.random.one_of(&all).filter(|_| pages > 8);
                if let Some(used) = used {
                    machine.use_module(used, &name);
                }
                format!("load {name} at {address} by {pid}, which uses {used:?}")
            }
        }
    }

    fn file(&mut self, machine: &mut Machine, pid: u32) -> String {
        let Some(index) =
            (!self.files.is_empty()).then(|| self.random.below(self.files.len() as u64))
        else {
            machine.set_name(pid, &self.name("n"));
            return format!("rename thread {pid}");
        };
        let from = self.files.swap_remove(index as usize);
        if self.chance(3) {
            machine.unlink(&from);
            return format!("unlink {from}");
        }
        let to = self.name("/srv/others/r");
        machine.rename(&from, &to);
        let renamed = format!("rename {from} to {to}");
        self.files.push(to);
        renamed
    }
}

/// The processes of users that run.
fn users(machine: &Machine) -> impl Iterator<Item = &Process> {
    machine.processes().filter(|it| it.pid > 1 && !it.is_kernel && !it.is_zombie)
}
