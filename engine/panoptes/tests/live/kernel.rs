//! Changes a guest's kernel through its memory file: what a rootkit does, from outside.
//!
//! Only while the guest is paused, and only fields whose meaning the test knows. `cargo xtask
//! scenarios` includes this file too.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::module::ModuleStructure;
use panoptes_decoders::kernel::task_struct::Task;
use panoptes_decoders::kernel::xarray::{self, XaSlot};
use panoptes_decoders::layout::PackedField;
use panoptes_decoders::source::PAGE_BYTES;
use panoptes_engine::address::{MemoryReader, ReaderSizes};
use panoptes_engine::limits::Limits;
use panoptes_engine::system::kernel_of;
use panoptes_engine::walk::{Kernel, Scope, Snapshot, Walker};
use panoptes_profiles::{DiscoveryOptions, discover};
use panoptes_rig::Guest;
use panoptes_sources::{FileSource, MachineSource as _, MemorySource as _};
use panoptes_tables::HashKey;

/// Bytes of a function that are searched for a call.
const CODE_BYTES: usize = 0x8000;

/// The kernel of one guest.
pub(crate) struct GuestKernel {
    memory: File,
    source: FileSource,
    kernel: Kernel,
    walker: Walker,
    /// Pages of modules, by address, and where they are.
    pages: BTreeMap<u64, u64>,
}

/// The views that a process can be hidden from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum From {
    /// `init_task.tasks`
    TaskList,
    /// `init_pid_ns.idr`
    Idr,
    /// A list of tasks of a `struct pid`, by `enum pid_type`: that of the process, of its process
    /// group, or of its session.
    Pids(u64),
    /// `signal->thread_head`
    ThreadGroup,
    /// `real_parent->children`
    Children,
    /// `css_set->tasks`
    ControlGroup,
}

/// The former place of a hidden link.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Hidden {
    /// In a list, behind another link.
    Link { link: KernelVa, before: KernelVa },
    /// In a slot of an IDR.
    Slot { slot: KernelVa, entry: KernelVa },
    /// In an `hlist`, behind that pointer.
    Node { node: KernelVa, before: KernelVa },
}

impl GuestKernel {
    pub(crate) fn of(guest: &Guest) -> Self {
        let mut source = FileSource::open(guest.ram_path()).unwrap();
        let profile = discover(&mut source, &DiscoveryOptions::default(), &mut ()).unwrap();
        let memory = File::options().read(true).write(true).open(guest.ram_path()).unwrap();
        let walker = Walker::new(&Limits::default(), HashKey::new(1));
        let pages = BTreeMap::new();
        Self { memory, source, kernel: kernel_of(&profile), walker, pages }
    }

    /// Scans processes and threads only.
    pub(crate) fn scan(&mut self) -> &Snapshot {
        let scope = Scope { command_lines: true, ..Scope::LEAST };
        self.source.refresh();
        self.walker.scan(&mut self.source, &self.kernel, scope).unwrap()
    }

    /// A process's first thread. The guest must be paused, and its task list consistent.
    pub(crate) fn task(&mut self, process_id: u32) -> Task {
        let snapshot = self.scan();
        assert!(snapshot.task_list_closed, "the guest was paused while it changed its task list");
        let row = snapshot.threads.iter().find(|row| row.task.pid == process_id);
        row.unwrap_or_else(|| panic!("there is no process {process_id}")).task
    }

    /// Removes a process's first thread from the list of a view, and returns how to put it back.
    pub(crate) fn hide(&self, task: &Task, from: From) -> Hidden {
        let layouts = &self.kernel.layouts;
        let fields = &layouts.task_struct;
        let list = |field: PackedField| self.unlink(task.address.plus(field.offset.into()));
        match from {
            From::TaskList => list(fields.tasks),
            From::ThreadGroup => list(fields.thread_node),
            From::Children => list(fields.sibling.unwrap()),
            From::ControlGroup => list(fields.cg_list.unwrap()),
            From::Idr => self.hide_in_idr(
                self.kernel.roots.init_pid_ns.plus(layouts.pid_idr_root()),
                task.thread_pid,
            ),
            From::Pids(kind) => {
                let node = task.address.plus(u64::from(fields.pid_links.offset) + kind * 16);
                let (next, before) = (self.read(node), KernelVa(self.read(node.plus(8))));
                self.write(before, next);
                if next != 0 {
                    self.write(KernelVa(next).plus(8), before.0);
                }
                // `pprev` of a node in no list is null (`hlist_unhashed`, include/linux/list.h).
                self.write(node, 0);
                self.write(node.plus(8), 0);
                Hidden::Node { node, before }
            }
        }
    }

    /// Puts a process back in its former place.
    pub(crate) fn show(&self, hidden: &Hidden) {
        match *hidden {
            Hidden::Link { link, before } => {
                let after = self.read(before);
                self.write(link, after);
                self.write(link.plus(8), before.0);
                self.write(before, link.0);
                self.write(KernelVa(after).plus(8), link.0);
            }
            Hidden::Slot { slot, entry } => self.write(slot, entry.0),
            Hidden::Node { node, before } => {
                let after = self.read(before);
                self.write(node, after);
                self.write(node.plus(8), before.0);
                self.write(before, node.0);
                if after != 0 {
                    self.write(KernelVa(after).plus(8), node.0);
                }
            }
        }
    }

    /// Flips bits of a task's flags (`PF_*`).
    #[allow(dead_code, reason = "the scenarios do it, the tests here do not")]
    pub(crate) fn flip_flags(&self, task: &Task, bits: u32) {
        let flags = task.address.plus(self.kernel.layouts.task_struct.flags.offset.into());
        // The neighbour in these eight bytes does not change meanwhile: the guest is paused.
        self.write(flags, self.read(flags) ^ u64::from(bits));
    }

    /// Makes a process begin later.
    #[allow(dead_code, reason = "the scenarios do it, the tests here do not")]
    pub(crate) fn postpone(&self, task: &Task, nanoseconds: u64) {
        let start = self.kernel.layouts.task_struct.start_boottime.offset;
        let start = task.address.plus(start.into());
        self.write(start, self.read(start) + nanoseconds);
    }

    /// Removes a module from the list of modules, and returns how to put it back. The guest must be
    /// paused.
    #[allow(dead_code, reason = "the tests do it, the scenarios do not")]
    pub(crate) fn hide_module(&mut self, name: &str) -> Hidden {
        let link = self.module_field(name, |layout| layout.list);
        for neighbour in [0, 8].map(|at| KernelVa(self.read(link.plus(at)))) {
            self.find_page(neighbour);
        }
        self.unlink(link)
    }

    /// Flips bits of a module's taints. The guest must be paused.
    #[allow(dead_code, reason = "the tests do it, the scenarios do not")]
    pub(crate) fn taint_module(&mut self, name: &str, bits: u64) {
        let taints = self.module_field(name, |layout| layout.taints);
        self.write(taints, self.read(taints) ^ bits);
    }

    /// Removes a program of eBPF from the IDR of programs, and returns how to put it back. The
    /// guest must be paused.
    #[allow(dead_code, reason = "the tests do it, the scenarios do not")]
    pub(crate) fn hide_ebpf_program(&mut self, name: &str) -> Hidden {
        let scope = Scope { bpf: true, ..Scope::LEAST };
        self.source.refresh();
        let snapshot = self.walker.scan(&mut self.source, &self.kernel, scope).unwrap();
        let row = snapshot.bpf.programs.iter().find(|row| row.name.as_str() == name);
        let program = row.unwrap_or_else(|| panic!("there is no program {name}")).address;
        let head = self.kernel.layouts.idr.xa_head.offset;
        self.hide_in_idr(self.kernel.roots.bpf.programs.plus(head.into()), program)
    }

    /// The address of a field of a module, which can be read and written then.
    fn module_field(
        &mut self,
        name: &str,
        field: impl Fn(&ModuleStructure) -> PackedField,
    ) -> KernelVa {
        let scope = Scope { modules: true, ..Scope::LEAST };
        self.source.refresh();
        let snapshot = self.walker.scan(&mut self.source, &self.kernel, scope).unwrap();
        let row = snapshot.modules.rows.iter().find(|row| row.module.name() == name.as_bytes());
        let module = row.unwrap_or_else(|| panic!("there is no module {name}")).address;
        let layout = self.kernel.layouts.module.as_ref().expect("the kernel has modules");
        let address = module.plus(field(layout).offset.into());
        self.find_page(address);
        address
    }

    /// Notes where a page is that is neither in the direct map nor in the image.
    fn find_page(&mut self, address: KernelVa) {
        if self.kernel.space.linear(address).is_some() {
            return;
        }
        let sizes = ReaderSizes { objects: 4, arena_bytes: 4096, walks: 16 };
        let (mut reader, space) = (MemoryReader::new(sizes), &self.kernel.space);
        reader.push_bytes(space, address, 8).expect("there is room");
        reader.run(&mut self.source, space.levels);
        let at = reader.physical(0).unwrap_or_else(|| panic!("{address} is not mapped"));
        self.pages.insert(address.0 / PAGE_BYTES, at.0 / PAGE_BYTES);
    }

    /// Sets a variable of four bytes.
    #[allow(dead_code, reason = "the scenarios do it, the tests here do not")]
    pub(crate) fn set(&self, address: KernelVa, value: u32) {
        self.memory.write_all_at(&value.to_le_bytes(), self.offset(address)).unwrap();
    }

    /// Writes bytes to the kernel's image.
    #[allow(dead_code, reason = "the campaign does it, the tests here do not")]
    pub(crate) fn patch(&self, address: KernelVa, bytes: &[u8]) {
        self.memory.write_all_at(bytes, self.offset(address)).unwrap();
    }

    /// Redirects the first call of `callee` in a function. Returns whether there is one.
    #[allow(dead_code, reason = "the campaign does it, the tests here do not")]
    pub(crate) fn redirect(&self, function: KernelVa, callee: u64, target: u64) -> bool {
        let mut code = vec![0; CODE_BYTES];
        self.memory.read_exact_at(&mut code, self.offset(function)).unwrap();
        // CALL and JMP with an offset of 32 bits, from the next instruction on.
        let leads_to = |at: &usize| {
            let bytes = &code[at + 1..at + 5];
            let offset = i32::from_le_bytes(bytes.try_into().unwrap());
            let next = function.0.wrapping_add(*at as u64 + 5);
            [0xe8, 0xe9].contains(&code[*at]) && next.wrapping_add_signed(offset.into()) == callee
        };
        let Some(at) = (0..CODE_BYTES - 5).find(leads_to) else { return false };
        let offset = target.wrapping_sub(function.0 + at as u64 + 5) as u32;
        self.patch(function.plus(at as u64 + 1), &offset.to_le_bytes());
        true
    }

    /// Removes a link from its list. The link then points to itself, as after `list_del_init`,
    /// because the kernel removes it once more when the process ends.
    fn unlink(&self, link: KernelVa) -> Hidden {
        let (after, before) = (KernelVa(self.read(link)), KernelVa(self.read(link.plus(8))));
        assert!(after != link, "it is in no list");
        self.write(before, after.0);
        self.write(after.plus(8), before.0);
        self.write(link, link.0);
        self.write(link.plus(8), link.0);
        Hidden::Link { link, before }
    }

    /// Removes an entry from the IDR whose root pointer is at an address.
    fn hide_in_idr(&self, root: KernelVa, entry: KernelVa) -> Hidden {
        let slot = self.idr_slot(root, entry);
        self.write(slot, 0);
        Hidden::Slot { slot, entry }
    }

    /// The slot of an entry in the IDR whose root pointer is at an address.
    fn idr_slot(&self, root: KernelVa, wanted: KernelVa) -> KernelVa {
        let layouts = &self.kernel.layouts;
        let mut places = vec![root];
        while let Some(place) = places.pop() {
            match xarray::slot(self.read(place)) {
                XaSlot::Entry(entry) if entry == wanted => return place,
                XaSlot::Node(node) => {
                    let slots = layouts.xa_node.slots;
                    let first = node.plus(slots.offset.into());
                    places.extend((0..u64::from(slots.size) / 8).map(|at| first.plus(at * 8)));
                }
                _ => {}
            }
        }
        panic!("{wanted} is not in the IDR");
    }

    fn offset(&self, address: KernelVa) -> u64 {
        // A memory file of up to 2 GiB has no hole.
        let begin = self.source.regions().first().map_or(0, |region| region.start);
        let at = self.kernel.space.linear(address).map(|at| at.0).or_else(|| {
            let page = self.pages.get(&(address.0 / PAGE_BYTES))?;
            Some(page * PAGE_BYTES + address.0 % PAGE_BYTES)
        });
        at.expect("it lies in the direct map, in the image or in a module") - begin
    }

    fn read(&self, address: KernelVa) -> u64 {
        let mut bytes = [0; 8];
        self.memory.read_exact_at(&mut bytes, self.offset(address)).unwrap();
        u64::from_le_bytes(bytes)
    }

    fn write(&self, address: KernelVa, value: u64) {
        self.memory.write_all_at(&value.to_le_bytes(), self.offset(address)).unwrap();
    }
}
