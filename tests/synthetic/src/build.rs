//! [`Builder`]: a machine of a wanted size.

use std::net::{Ipv4Addr, SocketAddr};

use panoptes_profiles::ProfileFile;

use crate::kernel::Kernel;
use crate::machine::Machine;
use crate::page_tables::DirectMapPages;
use crate::processes::ForkOptions;

/// How much of everything a machine has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Size {
    /// Processes of users, beside process 1 and the kernel's threads.
    pub processes: u32,
    /// Threads of the kernel, beside process 2.
    pub kernel_threads: u32,
    /// Threads of each process beside its first.
    pub threads: u32,
    /// Regular files that each process has open, beside its first three descriptors.
    pub descriptors: u32,
    /// Anonymous areas of each process, beside those of a fresh program.
    pub areas: u32,
    /// Connections of each process.
    pub connections: u32,
    /// Containers, into which every second process goes in turn.
    pub containers: u32,
    pub processors: u32,
    /// Kernel modules.
    pub modules: u32,
}

impl Default for Size {
    fn default() -> Self {
        Self {
            processes: 20,
            kernel_threads: 8,
            threads: 1,
            descriptors: 3,
            areas: 4,
            connections: 1,
            containers: 2,
            processors: 2,
            modules: 4,
        }
    }
}

impl Size {
    /// Generous estimate of the memory that it takes, in bytes.
    fn bytes(&self) -> u64 {
        let [processes, threads, descriptors, areas, connections] =
            [self.processes, self.threads, self.descriptors, self.areas, self.connections]
                .map(u64::from);
        let of_process = (96 << 10)
            + threads * (12 << 10)
            + descriptors * (2 << 10)
            + areas * (1 << 10)
            + connections * (5 << 10);
        let tables = u64::from(self.containers) * (64 << 10)
            + u64::from(self.kernel_threads) * (24 << 10)
            + u64::from(self.modules) * (96 << 10);
        let used = (160 << 20) + processes * of_process + tables;
        // The array of pages takes a 64th.
        used + used / 32
    }
}

/// Describes a machine to be built.
#[derive(Clone, Debug)]
pub struct Builder {
    profile: ProfileFile,
    size: Size,
    seed: u64,
    memory_bytes: Option<u64>,
    kaslr: u64,
    pages: DirectMapPages,
    has_heap_pages: bool,
}

impl Builder {
    pub(crate) fn new(profile: &ProfileFile) -> Self {
        Self {
            profile: profile.clone(),
            size: Size::default(),
            seed: 1,
            memory_bytes: None,
            kaslr: 0,
            pages: DirectMapPages::default(),
            has_heap_pages: false,
        }
    }

    #[must_use]
    pub fn size(self, size: Size) -> Self {
        Self { size, ..self }
    }

    /// The same seed and size make the same machine.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Size of the machine's memory in bytes; by default it has room for twice the processes.
    #[must_use]
    pub fn memory(self, bytes: u64) -> Self {
        Self { memory_bytes: Some(bytes), ..self }
    }

    /// Distance by which KASLR moves the image, in multiples of 2 MiB.
    #[must_use]
    pub fn kaslr(self, offset: u64) -> Self {
        Self { kaslr: offset, ..self }
    }

    #[must_use]
    pub fn direct_map_pages(self, pages: DirectMapPages) -> Self {
        Self { pages, ..self }
    }

    /// Gives each program the first page of its heap, and puts the array of `struct page` at the
    /// top of memory, as kernels do.
    #[must_use]
    pub fn heap_pages(self) -> Self {
        Self { has_heap_pages: true, ..self }
    }

    /// Boots the machine and starts everything in it.
    pub fn build(&self) -> Machine {
        let size = &self.size;
        let kernel = Kernel::new(&self.profile, self.kaslr);
        let bytes = self.memory_bytes.unwrap_or_else(|| size.bytes() * 2);
        let (pages, seed, heaps) = (self.pages, self.seed, self.has_heap_pages);
        let mut machine = Machine::boot(kernel, bytes, pages, seed, size.processors, heaps);
        let options = ForkOptions { container: 0, uid: 0, new_session: true };
        // Process 1 begins as a thread of the kernel (`kernel_init`).
        let init = machine.fork_with(0, options);
        machine.exec(init, "/usr/lib/systemd/systemd", &["/sbin/init"]);
        machine.boot_calls(init);
        open_standard(&mut machine, init);
        let kthreadd = machine.kernel_thread(0, "kthreadd");
        for index in 0..size.kernel_threads {
            machine.kernel_thread(kthreadd, &format!("kworker/{index}:0"));
        }
        let containers: Vec<_> = (0..size.containers)
            .map(|index| {
                let [a, b, c, d] = [(); 4].map(|()| machine.random.next());
                let path = format!("/system.slice/docker-{a:016x}{b:016x}{c:016x}{d:016x}.scope");
                machine.add_container(&path, &format!("host{index}"))
            })
            .collect();
        let service = machine.add_control_group("/system.slice/work.service");
        for index in 0..size.processes {
            let inside = containers.get((index / 2) as usize % containers.len().max(1));
            let container = inside.filter(|_| index % 2 == 1).copied().unwrap_or(service);
            let uid = if index % 3 == 0 { 0 } else { 1000 };
            start_process(
                &mut machine,
                index,
                size,
                ForkOptions { container, uid, new_session: true },
            );
        }
        machine.boot_bpf();
        machine.boot_modules(size.modules);
        machine
    }
}

fn open_standard(machine: &mut Machine, pid: u32) {
    for _ in 0..3 {
        machine.open(pid, "/dev/null");
    }
}

fn start_process(machine: &mut Machine, index: u32, size: &Size, options: ForkOptions) {
    let pid = machine.fork_with(1, options);
    let path = format!("/usr/bin/worker{}", index % 16);
    machine.exec(pid, &path, &[&path, "--number", &index.to_string()]);
    for descriptor in 0..size.descriptors {
        machine.open(pid, &format!("/var/lib/worker/{index}/data{descriptor}"));
    }
    if size.areas > 0 {
        machine.map_anonymous(pid, size.areas, 4);
    }
    for connection in 0..size.connections {
        let number = index * size.connections + connection;
        let port = 1024 + (number % 60_000) as u16;
        let [_, b, c, d] = (number / 60_000 + 1).to_be_bytes();
        let source = SocketAddr::from((Ipv4Addr::new(10, 0, 2, 15), port));
        machine.connect(pid, source, SocketAddr::from((Ipv4Addr::new(10, b, c, d), 443)));
    }
    for _ in 0..size.threads {
        machine.start_thread(pid);
    }
}
