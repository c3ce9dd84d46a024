//! Run queues (kernel/sched): what runs on each processor, and what waits for it.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::task_struct::PF_KTHREAD;

use crate::machine::Machine;

impl Machine {
    /// The run queues: on each processor an idle task runs.
    pub(crate) fn boot_run_queues(&mut self, processors: u32) {
        let layouts = self.layouts();
        for processor in 0..processors.max(1) {
            let queue = self.memory.allocate(layouts.cfs_rq.map_or(8, |layout| layout.size));
            self.run_queues.push(queue);
            let (Some(layout), Some(cfs)) = (layouts.rq, layouts.cfs_rq) else { continue };
            let rq = self.memory.allocate(layout.size);
            self.memory.put_optional(queue, cfs.rq, rq.0);
            let idle = if processor == 0 {
                self.init_task
            } else {
                let idle = self.memory.allocate_in_slab(layouts.task_struct.size);
                let name = format!("swapper/{processor}");
                self.put_text(idle, layouts.task_struct.comm, &name);
                self.memory.put(idle, layouts.task_struct.flags, PF_KTHREAD.into());
                idle
            };
            self.memory.put_optional(rq, layout.curr, idle.0);
            self.memory.put_optional(rq, layout.idle, idle.0);
            if let Some(field) = layout.nr_switches.filter(|_| processor == 0) {
                self.memory.count_switches_at(rq.plus(field.offset.into()));
            }
            if let Some(head) = layout.cfs_tasks {
                self.memory.list_init(rq.plus(head.offset.into()));
            }
        }
    }

    /// The `struct rq` of a processor, if the profile has it.
    fn run_queue(&self, processor: usize) -> Option<KernelVa> {
        let field = self.kernel.layouts.cfs_rq?.rq?;
        Some(KernelVa(self.memory.get(self.run_queues[processor], field)))
    }

    /// Lets a thread run on a processor, which must be idle: the thread is queued there, then it
    /// is the current one.
    pub fn run(&mut self, tid: u32, processor: usize) {
        let layouts = self.layouts();
        let layout = &layouts.task_struct;
        let task = self.thread(tid).task;
        let queue = self.run_queues[processor];
        self.memory.put(task, layout.state, 0);
        self.memory.put_optional(task, layout.cfs_rq, queue.0);
        let (Some(rq), Some(rq_layout)) = (self.run_queue(processor), layouts.rq) else { return };
        if let (Some(node), Some(head)) = (layout.group_node, rq_layout.cfs_tasks) {
            let node = task.plus(node.offset.into());
            self.memory.list_add_tail(node, rq.plus(head.offset.into()));
        }
        self.memory.put_optional(rq, rq_layout.curr, task.0);
        self.memory.put_optional(task, layout.on_cpu, 1);
    }

    /// The next operation is that of the first thread of a process, whose run time grows with each
    /// store. Other operations are those of no task.
    pub fn act_as(&mut self, pid: u32) {
        let at = self.layouts().task_struct.sum_exec_runtime.offset;
        self.memory.run_as(self.thread(pid).task.plus(at.into()));
    }

    /// Lets a thread that runs on a processor sleep after `nanoseconds`. The processor is then
    /// idle.
    pub fn sleep(&mut self, tid: u32, processor: usize, nanoseconds: u64) {
        let layouts = self.layouts();
        let layout = &layouts.task_struct;
        let task = self.thread(tid).task;
        let before = self.memory.get(task, layout.sum_exec_runtime);
        self.memory.put(task, layout.sum_exec_runtime, before + nanoseconds);
        self.memory.put(task, layout.state, 1);
        let (Some(rq), Some(rq_layout)) = (self.run_queue(processor), layouts.rq) else { return };
        if let Some(node) = layout.group_node {
            self.memory.list_del_init(task.plus(node.offset.into()));
        }
        let idle = rq_layout.idle.map_or(0, |field| self.memory.get(rq, field));
        self.memory.put_optional(rq, rq_layout.curr, idle);
        self.memory.put_optional(task, layout.on_cpu, 0);
    }
}
