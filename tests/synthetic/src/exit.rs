//! How processes and threads end (kernel/exit.c).

use panoptes_decoders::kernel::task_struct::{EXIT_DEAD, EXIT_ZOMBIE};

use crate::machine::Machine;
use crate::pids::PidType;
use crate::processes::{Process, Thread};

/// `PF_EXITING` (include/linux/sched.h).
const PF_EXITING: u64 = 0x4;
/// `TASK_DEAD` (include/linux/sched.h).
const TASK_DEAD: u64 = 0x80;

impl Machine {
    /// Ends a process: all its threads leave, and it stays a zombie until [`Self::reap`].
    pub fn exit(&mut self, pid: u32) {
        assert!(pid > 1, "process 1 does not end");
        for tid in self.process(pid).threads.clone().into_iter().skip(1) {
            self.exit_thread(tid);
        }
        self.leave(pid);
        self.reparent_children(pid);
        let layout = self.layouts().task_struct;
        let task = self.process(pid).task;
        self.memory.put(task, layout.exit_state, EXIT_ZOMBIE.into());
        self.memory.put(task, layout.state, TASK_DEAD);
        self.process_mut(pid).is_zombie = true;
    }

    /// Ends a thread that is not the first of its process.
    pub fn exit_thread(&mut self, tid: u32) {
        let Thread { pid, task, .. } = *self.thread(tid);
        assert_ne!(pid, tid, "the first thread ends with its process");
        self.leave(tid);
        let layouts = self.layouts();
        let layout = &layouts.task_struct;
        self.memory.put(task, layout.exit_state, EXIT_DEAD.into());
        self.detach_pid(task, PidType::Pid, tid);
        self.memory.list_del(task.plus(layout.thread_node.offset.into()));
        self.process_mut(pid).threads.retain(|&other| other != tid);
        let Process { signal, ref threads, .. } = *self.process(pid);
        let count = threads.len() as u64;
        self.memory.put(signal, layouts.signal_struct.nr_threads, count);
        self.memory.put(task, layout.signal, 0);
        self.threads.remove(&tid);
        self.memory.release(task, layout.size);
    }

    /// `do_exit` (kernel/exit.c) up to `exit_notify`: what a thread drops, in order.
    fn leave(&mut self, tid: u32) {
        let layouts = self.layouts();
        let layout = &layouts.task_struct;
        let Thread { pid, task, files, .. } = *self.thread(tid);
        let is_last = tid == pid;
        let flags = self.memory.get(task, layout.flags);
        self.memory.put(task, layout.flags, flags | PF_EXITING);
        self.memory.put(task, layout.mm, 0);
        if is_last && let Some(mm) = self.process_mut(pid).mm.take() {
            self.drop_mm(mm);
        }
        self.memory.put(task, layout.files, 0);
        if let Some(files) = files {
            self.drop_files(files);
        }
        self.threads.get_mut(&tid).expect("the thread exists").files = None;
        self.memory.put(task, layout.fs, 0);
        self.memory.put(task, layout.nsproxy, 0);
        if let Some(node) = layout.cg_list {
            self.memory.list_del_init(task.plus(node.offset.into()));
        }
    }

    /// `forget_original_parent` (kernel/exit.c): process 1 becomes the parent.
    fn reparent_children(&mut self, pid: u32) {
        let layout = self.layouts().task_struct;
        let children = std::mem::take(&mut self.process_mut(pid).children);
        let reaper = self.process(1).task;
        for &child in &children {
            for tid in self.process(child).threads.clone() {
                let task = self.thread(tid).task;
                self.memory.point_pair(task, layout.real_parent, reaper);
            }
            self.process_mut(child).parent = 1;
        }
        self.process_mut(1).children.extend(children);
        if let Some(children) = layout.children {
            let offset = u64::from(children.offset);
            let task = self.process(pid).task;
            self.memory.list_splice_tail(task.plus(offset), reaper.plus(offset));
        }
    }

    /// Removes a zombie (`release_task`, kernel/exit.c): its parent has waited for it.
    pub fn reap(&mut self, pid: u32) {
        let layouts = self.layouts();
        let layout = &layouts.task_struct;
        let process = self.process(pid).clone();
        assert!(process.is_zombie, "process {pid} still runs");
        let task = process.task;
        self.memory.put(task, layout.exit_state, EXIT_DEAD.into());
        self.detach_pid(task, PidType::Pid, pid);
        self.detach_pid(task, PidType::Tgid, pid);
        self.detach_pid(task, PidType::Pgid, process.group);
        self.detach_pid(task, PidType::Sid, process.session);
        if !process.is_hidden {
            self.memory.list_del(task.plus(layout.tasks.offset.into()));
        }
        if let Some(sibling) = layout.sibling {
            self.memory.list_del_init(task.plus(sibling.offset.into()));
        }
        self.memory.list_del(task.plus(layout.thread_node.offset.into()));
        self.memory.put(task, layout.signal, 0);
        self.process_mut(process.parent).children.remove(&pid);
        self.processes.remove(&pid);
        self.threads.remove(&pid);
        self.memory.release(process.signal, layouts.signal_struct.size);
        self.memory.release(process.cred, layouts.cred.size);
        self.memory.release(process.fs, layouts.fs_struct.size);
        self.memory.release(task, layout.size);
    }

    /// Removes a process as if its fork had failed after the kernel counted it: what is left of it
    /// never ran (`bad_fork_free`, kernel/fork.c).
    pub fn give_up_fork(&mut self, pid: u32) {
        let task = self.process(pid).task;
        self.kill(pid);
        let layout = self.layouts().task_struct;
        self.memory.put(task, layout.exit_state, 0);
    }

    /// Ends a process and removes it.
    pub fn kill(&mut self, pid: u32) {
        self.exit(pid);
        self.reap(pid);
    }
}
