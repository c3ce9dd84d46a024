//! A guest's kernel from its memory file, to change what is in it: what a rootkit does, from outside.
//!
//! Only while the guest is paused, and only fields of which the test knows what they mean.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::task_struct::Task;
use panoptes_engine::limits::Limits;
use panoptes_engine::source::FileSource;
use panoptes_engine::system::kernel_of;
use panoptes_engine::walk::{Kernel, Scope, Walker};
use panoptes_profiles::{Options, discover};
use panoptes_rig::Guest;

/// The kernel of one guest.
pub(crate) struct GuestKernel {
    memory: File,
    source: FileSource,
    kernel: Kernel,
    walker: Walker,
}

impl GuestKernel {
    pub(crate) fn of(guest: &Guest) -> Self {
        let mut source = FileSource::open(guest.ram_path()).unwrap();
        let profile = discover(&mut source, &Options::default(), &mut ()).unwrap();
        let memory = File::options().read(true).write(true).open(guest.ram_path()).unwrap();
        let walker = Walker::new(&Limits::default(), 1);
        Self { memory, source, kernel: kernel_of(&profile), walker }
    }

    /// A process's first thread. The guest must be paused, and its task list whole.
    pub(crate) fn task(&mut self, process_id: u32) -> Task {
        let scope = Scope { files: false, memory: false, connections: false, interfaces: false };
        self.source.refresh().unwrap();
        let snapshot = self.walker.scan(&mut self.source, &self.kernel, scope).unwrap();
        assert!(snapshot.task_list_closed, "the guest was paused while it changed its task list");
        let row = snapshot.threads.iter().find(|row| row.task.pid == process_id);
        row.unwrap_or_else(|| panic!("there is no process {process_id}")).task
    }

    /// Takes a process out of the task list. Its own links then point at itself, as `list_del_init` leaves
    /// them: the kernel itself takes it out once more when it ends.
    pub(crate) fn unlink(&self, task: &Task) {
        let link = self.link_of(task);
        self.write(task.tasks_prev, task.tasks_next.0);
        self.write(task.tasks_next.plus(8), task.tasks_prev.0);
        self.write(link, link.0);
        self.write(link.plus(8), link.0);
    }

    /// Puts it back, behind another.
    pub(crate) fn link_behind(&self, task: &Task, other: &Task) {
        let (link, before, after) = (self.link_of(task), self.link_of(other), other.tasks_next);
        self.write(link, after.0);
        self.write(link.plus(8), before.0);
        self.write(before, link.0);
        self.write(after.plus(8), link.0);
    }

    /// Makes the `struct pid` of a thread lead to `first`, which is 0 or what this gave before.
    pub(crate) fn lead_pid_to(&self, task: &Task, first: u64) -> u64 {
        let head = task.thread_pid.plus(u64::from(self.kernel.layouts.pid.tasks.offset));
        let before = self.read(head);
        self.write(head, first);
        before
    }

    /// Where a task's link in the task list lies.
    fn link_of(&self, task: &Task) -> KernelVa {
        task.address.plus(u64::from(self.kernel.layouts.task_struct.tasks.offset))
    }

    fn offset(&self, address: KernelVa) -> u64 {
        // A memory file of up to 2 GiB begins at physical address 0 and has no hole.
        self.kernel.space.linear(address).expect("it lies in the direct map or the image").0
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
