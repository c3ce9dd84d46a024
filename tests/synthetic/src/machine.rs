//! [`Machine`]: memory, and the model of what was laid out in it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use panoptes_decoders::address::{KernelVa, PhysicalAddress};
use panoptes_decoders::kernel::Layouts;
use panoptes_decoders::layout::PackedField;
use panoptes_decoders::source::PAGE_BYTES;
use panoptes_profiles::{DiscoveryOptions, Profile, ProfileFile, discover};

use crate::areas::Mm;
use crate::build::Builder;
use crate::descriptors::{DescriptorTable, OpenFile};
use crate::kernel::Kernel;
use crate::memory::{DIRECT_MAP, Memory};
use crate::modules::Modules;
use crate::namespaces::{Container, Namespaces};
use crate::page_tables::{DirectMapPages, VMEMMAP};
use crate::paths::FileTree;
use crate::pids::PidObject;
use crate::processes::{Process, Thread};
use crate::random::Random;
use crate::sockets::{Network, Socket};
use crate::source::Source;

/// A machine: its memory, and what a scan of it must find.
///
/// Operations (`fork`, `open`, `connect` …) change both. They store in the order in which the
/// kernel does, and [`Machine::slowly`] plays an operation store by store.
#[derive(Debug)]
pub struct Machine {
    pub(crate) memory: Memory,
    pub(crate) kernel: Kernel,
    pub(crate) random: Random,
    pub(crate) namespaces: Namespaces,
    pub(crate) containers: Vec<Container>,
    pub(crate) threads: BTreeMap<u32, Thread>,
    pub(crate) processes: BTreeMap<u32, Process>,
    /// Every `struct pid`, by its number in the initial namespace.
    pub(crate) pids: HashMap<u32, PidObject>,
    pub(crate) tables: HashMap<KernelVa, DescriptorTable>,
    pub(crate) files: HashMap<KernelVa, OpenFile>,
    pub(crate) mms: HashMap<KernelVa, Mm>,
    pub(crate) tree: FileTree,
    pub(crate) network: Network,
    pub(crate) sockets: HashMap<KernelVa, Socket>,
    pub(crate) modules: Modules,
    /// `struct cfs_rq` of each processor.
    pub(crate) run_queues: Vec<KernelVa>,
    /// Nanoseconds since boot.
    pub(crate) now_ns: u64,
    /// Nanoseconds by which the calendar time was set since the boot.
    pub(crate) step_ns: i64,
    pub(crate) forks: u64,
    /// All process ids are below it.
    pub(crate) pid_max: u32,
    pub(crate) init_task: KernelVa,
    /// The only user namespace.
    pub(crate) user_ns: KernelVa,
    /// `init_files`, which no profile has.
    pub(crate) init_files: KernelVa,
    /// Where the array of `struct page` begins in the direct map.
    pub(crate) page_structs: KernelVa,
    /// Whether the first page of each heap is in memory.
    pub(crate) has_heap_pages: bool,
    /// `struct vm_special_mapping` of the vDSO, once a program has one.
    pub(crate) vdso_mapping: KernelVa,
}

impl Machine {
    /// Begins a machine with the kernel of a profile; see [`crate::profile`].
    pub fn builder(profile: &ProfileFile) -> Builder {
        Builder::new(profile)
    }

    /// A booted machine with only `init_task`.
    pub(crate) fn boot(
        kernel: Kernel,
        memory_bytes: u64,
        pages: DirectMapPages,
        seed: u64,
        processors: u32,
        has_heap_pages: bool,
    ) -> Self {
        let memory = Memory::new(memory_bytes, kernel.image.clone());
        let mut machine = Self {
            init_task: kernel.symbol("init_task"),
            user_ns: KernelVa::NULL,
            init_files: KernelVa::NULL,
            memory,
            kernel,
            random: Random::new(seed),
            namespaces: Namespaces::default(),
            containers: Vec::new(),
            threads: BTreeMap::new(),
            processes: BTreeMap::new(),
            pids: HashMap::new(),
            tables: HashMap::new(),
            files: HashMap::new(),
            mms: HashMap::new(),
            tree: FileTree::default(),
            network: Network::default(),
            sockets: HashMap::new(),
            modules: Modules::default(),
            run_queues: Vec::new(),
            page_structs: KernelVa::NULL,
            has_heap_pages,
            vdso_mapping: KernelVa::NULL,
            now_ns: 1_000_000_000,
            step_ns: 0,
            forks: 0,
            pid_max: u32::MAX,
        };
        machine.boot_memory(pages);
        machine.boot_clock();
        machine.boot_namespaces();
        machine.boot_files();
        machine.boot_network();
        machine.boot_run_queues(processors);
        machine.boot_tasks();
        machine
    }

    fn boot_memory(&mut self, pages: DirectMapPages) {
        let root = self.kernel.symbol("init_top_pgt");
        let page_structs = self.allocate_page_structs();
        self.page_structs = KernelVa(DIRECT_MAP + page_structs.0);
        let image = self.kernel.image.clone();
        self.memory.map_kernel(root, &image, pages, page_structs);
        for (name, base) in [("page_offset_base", 0xffff_8880_0000_0000), ("vmemmap_base", VMEMMAP)]
        {
            if let Some(at) = self.kernel.find(name) {
                self.memory.put_word(at, base);
            }
        }
        let (at, banner) = (self.kernel.symbol("linux_banner"), self.banner());
        self.memory.write(at, banner.as_bytes());
        self.write_vmcoreinfo();
    }

    /// The kernel's banner, with the NUL at its end.
    pub(crate) fn banner(&self) -> String {
        format!("Linux version {} (debian-kernel@lists.debian.org) #1 SMP\n\0", self.release())
    }

    /// The array of `struct page`, aligned to a large page. A kernel has it at the top of memory.
    fn allocate_page_structs(&mut self) -> PhysicalAddress {
        let bytes = (self.memory.size() / 64).next_multiple_of(2 << 20) + (2 << 20);
        if self.has_heap_pages {
            return PhysicalAddress(self.memory.size() - bytes);
        }
        let at = self.memory.allocate(u32::try_from(bytes).expect("less than 256 GiB of memory"));
        PhysicalAddress(self.memory.physical(at).0.next_multiple_of(2 << 20))
    }

    /// The text that the kernel leaves for crash dumps, in a page of its own after the header of an
    /// ELF note (kernel/crash_core.c).
    fn write_vmcoreinfo(&mut self) {
        let kernel = &self.kernel;
        let text = format!(
            "OSRELEASE={}\nBUILD-ID={}\nPAGESIZE=4096\nSYMBOL(init_uts_ns)={:x}\n\
             OFFSET(uts_namespace.name)={}\nSYMBOL(swapper_pg_dir)={:x}\nSYMBOL(_stext)={:x}\n\
             NUMBER(phys_base)={}\nSYMBOL(init_top_pgt)={:x}\nNUMBER(pgtable_l5_enabled)=0\n\
             KERNELOFFSET={:x}\nNUMBER(KERNEL_IMAGE_SIZE)=1073741824\nNUMBER(sme_mask)=0\n",
            kernel.profile.release,
            kernel.profile.build_id,
            kernel.symbol("init_uts_ns").0,
            // The release is the third of the texts of 65 bytes in `name`.
            kernel.layouts.uts_namespace.release.offset - 130,
            kernel.symbol("init_top_pgt").0,
            kernel.symbol("_stext").0,
            (kernel.offset as i64).wrapping_neg(),
            kernel.symbol("init_top_pgt").0,
            kernel.offset,
        );
        let page = self.memory.allocate(PAGE_BYTES as u32);
        let mut note = Vec::new();
        for word in [11, text.len() as u32, 0] {
            note.extend(word.to_le_bytes());
        }
        note.extend(b"VMCOREINFO\0\0");
        note.extend(text.as_bytes());
        self.memory.write(page, &note);
    }

    /// The offsets of the kernel's structures.
    pub fn layouts(&self) -> Arc<Layouts> {
        Arc::clone(&self.kernel.layouts)
    }

    /// The machine's memory, to read it or to change it as an attacker would.
    pub fn memory(&mut self) -> &mut Memory {
        &mut self.memory
    }

    /// The kernel's release.
    pub fn release(&self) -> &str {
        &self.kernel.profile.release
    }

    /// Address of a symbol of the kernel, if the profile has it.
    pub fn symbol(&self, name: &str) -> Option<KernelVa> {
        self.kernel.find(name)
    }

    /// Finds the kernel in the machine's memory, as Panoptes does with any machine.
    ///
    /// Panics if that fails: the memory is then not that of a kernel.
    pub fn discover(&mut self) -> Profile {
        let files = [self.kernel.profile.clone()];
        let options = DiscoveryOptions {
            files: &files,
            generate: false,
            look_for_newer: false,
            everywhere: false,
            ..DiscoveryOptions::default()
        };
        let mut source = Source::new(self);
        discover(&mut source, &options, &mut ()).unwrap_or_else(|why| panic!("{why}"))
    }

    /// Runs an operation in the model, but leaves memory as it was. [`Machine::step`] then plays
    /// the operation's stores one by one. The next operation first plays the rest.
    pub fn slowly<T>(&mut self, operation: impl FnOnce(&mut Self) -> T) -> T {
        self.memory.record();
        let result = operation(self);
        self.memory.rewind();
        result
    }

    /// The same while the stores of another operation wait: both continue at the same time. `None`
    /// if there is no such operation, or there are two already.
    ///
    /// The operation must not be about a process that the other one is about, or has made.
    pub fn at_the_same_time<T>(&mut self, operation: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if !self.memory.has_one_operation() {
            return None;
        }
        self.memory.record_second();
        let result = operation(self);
        self.memory.rewind_both();
        Some(result)
    }

    /// Runs an operation as an interrupt does: no task runs for it.
    pub fn interrupt<T>(&mut self, operation: impl FnOnce(&mut Self) -> T) -> T {
        self.memory.set_interrupt(true);
        let result = operation(self);
        self.memory.set_interrupt(false);
        result
    }

    /// Plays up to `stores` stores of an operation; returns how many are left.
    pub fn step(&mut self, stores: usize) -> usize {
        for _ in 0..stores {
            if !self.memory.step() {
                break;
            }
        }
        self.memory.pending()
    }

    /// The processes, by id. Those that have ended but were not reaped are among them.
    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        self.processes.values()
    }

    /// A process by its id.
    pub fn process(&self, pid: u32) -> &Process {
        self.processes.get(&pid).unwrap_or_else(|| panic!("there is no process {pid}"))
    }

    pub(crate) fn process_mut(&mut self, pid: u32) -> &mut Process {
        self.processes.get_mut(&pid).unwrap_or_else(|| panic!("there is no process {pid}"))
    }

    /// The threads, by id; the first thread of each process is among them.
    pub fn threads(&self) -> impl Iterator<Item = &Thread> {
        self.threads.values()
    }

    /// A thread by its id.
    pub fn thread(&self, tid: u32) -> &Thread {
        self.threads.get(&tid).unwrap_or_else(|| panic!("there is no thread {tid}"))
    }

    /// The control groups with their namespaces; the first is the machine's own.
    pub fn containers(&self) -> &[Container] {
        &self.containers
    }

    /// Writes a NUL-terminated text into a field.
    pub(crate) fn put_text(&mut self, object: KernelVa, field: PackedField, text: &str) {
        let mut bytes = vec![0; field.size as usize];
        let length = text.len().min(bytes.len() - 1);
        bytes[..length].copy_from_slice(&text.as_bytes()[..length]);
        self.memory.write(object.plus(field.offset.into()), &bytes);
    }
}
