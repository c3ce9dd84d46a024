//! Processes and threads, and how they begin (kernel/fork.c).
//!
//! Not here: exec, which replaces an address space (`exec`), and how they end (`exit`).

use std::collections::BTreeSet;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::task_struct::{PF_FORKNOEXEC, PF_KTHREAD};

use crate::machine::Machine;
use crate::pids::PidType;

/// `TASK_NEW`, `TASK_INTERRUPTIBLE` (include/linux/sched.h).
const TASK_NEW: u64 = 0x800;
const TASK_INTERRUPTIBLE: u64 = 1;
/// A thread.
#[derive(Clone, Debug)]
pub struct Thread {
    pub tid: u32,
    /// Id of its process.
    pub pid: u32,
    /// `struct task_struct *`
    pub task: KernelVa,
    /// Its name (`comm`).
    pub name: String,
    pub(crate) files: Option<KernelVa>,
}

/// A process.
#[derive(Clone, Debug)]
pub struct Process {
    pub pid: u32,
    /// Id of its parent; 0 for `init_task`.
    pub parent: u32,
    /// `struct task_struct *` of its first thread.
    pub task: KernelVa,
    /// Its threads, the first one first.
    pub threads: Vec<u32>,
    pub uid: u32,
    /// Whether it is a thread of the kernel.
    pub is_kernel: bool,
    /// Whether it has ended but was not reaped.
    pub is_zombie: bool,
    /// Whether an attacker took it out of the task list.
    pub is_hidden: bool,
    /// Arguments, as the program got them; empty for kernel threads.
    pub arguments: Vec<String>,
    /// Nanoseconds from boot to its creation.
    pub start_ns: u64,
    /// Index in [`Machine::containers`].
    pub container: usize,
    /// Id of its process group, and of its session.
    pub group: u32,
    pub session: u32,
    /// Its number in its own pid namespace.
    pub inner_pid: u32,
    pub(crate) children: BTreeSet<u32>,
    pub(crate) signal: KernelVa,
    pub(crate) fs: KernelVa,
    pub(crate) cred: KernelVa,
    pub(crate) mm: Option<KernelVa>,
}

/// What a new task shares with its parent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Process,
    Thread,
    KernelThread,
}

/// How a process differs from its parent.
#[derive(Clone, Copy, Debug)]
pub struct ForkOptions {
    /// Index in [`Machine::containers`].
    pub container: usize,
    pub uid: u32,
    /// Whether it leads a new session.
    pub new_session: bool,
}

impl Machine {
    /// `init_task`, and the credentials, files and signals that its children start with.
    pub(crate) fn boot_tasks(&mut self) {
        let task = self.init_task;
        let layouts = self.layouts();
        let layout = &layouts.task_struct;
        let signal = self.memory.allocate(layouts.signal_struct.size);
        self.user_ns = self.memory.allocate(layouts.user_namespace.size);
        let cred = self.new_cred(0);
        let fs = self.new_fs();
        let files = self.boot_files_struct();
        let pid_layout = layouts.pid;
        let bytes = pid_layout.numbers.offset + layouts.upid.size;
        let pid = self.kernel.spare(bytes.into());
        let upid = pid.plus(pid_layout.numbers.offset.into());
        self.memory.point(upid, layouts.upid.ns, self.kernel.symbol("init_pid_ns"));
        self.put_text(task, layout.comm, "swapper/0");
        for (field, value) in [
            (layout.flags, PF_KTHREAD.into()),
            (layout.signal, signal.0),
            (layout.fs, fs.0),
            (layout.files, files.0),
            (layout.nsproxy, self.containers[0].nsproxy.0),
            (layout.thread_pid, pid.0),
            (layout.group_leader, task.0),
        ] {
            self.memory.put(task, field, value);
        }
        self.memory.point_pair(task, layout.real_cred, cred);
        self.memory.point_pair(task, layout.real_parent, task);
        let init_mm = self.kernel.symbol("init_mm");
        self.memory.put_word(task.plus(u64::from(layout.mm.offset) + 8), init_mm.0);
        self.memory.put_optional(task, layout.cgroups, self.containers[0].css_set.0);
        self.memory.put_optional(task, layout.on_cpu, 1);
        // The clock counts nanoseconds, not ticks.
        self.memory.put(task, layout.sum_exec_runtime, 1_234_567);
        self.memory.put_optional(task, layout.loginuid, u32::MAX.into());
        self.memory.put_optional(task, layout.sessionid, u32::MAX.into());
        self.memory.put_optional(task, layout.cfs_rq, self.run_queues[0].0);
        let heads = [Some(layout.tasks), layout.children, layout.sibling, layout.cg_list];
        for head in heads.into_iter().flatten() {
            self.memory.list_init(task.plus(head.offset.into()));
        }
        let head = signal.plus(layouts.signal_struct.thread_head.offset.into());
        self.memory.list_init(head);
        self.memory.list_add_tail(task.plus(layout.thread_node.offset.into()), head);
        self.threads.insert(
            0,
            Thread { tid: 0, pid: 0, task, name: "swapper/0".to_owned(), files: Some(files) },
        );
        self.processes.insert(
            0,
            Process {
                pid: 0,
                parent: 0,
                task,
                threads: vec![0],
                uid: 0,
                is_kernel: true,
                is_zombie: false,
                is_hidden: false,
                arguments: Vec::new(),
                start_ns: 0,
                container: 0,
                group: 0,
                session: 0,
                inner_pid: 0,
                children: BTreeSet::new(),
                signal,
                fs,
                cred,
                mm: None,
            },
        );
    }

    /// Forks a process without differences; returns the child's id.
    pub fn fork(&mut self, parent: u32) -> u32 {
        let Process { container, uid, .. } = *self.process(parent);
        self.fork_with(parent, ForkOptions { container, uid, new_session: false })
    }

    /// Forks a process; returns the child's id.
    pub fn fork_with(&mut self, parent: u32, options: ForkOptions) -> u32 {
        self.copy_process(parent, Kind::Process, options)
    }

    /// Starts a thread of the kernel, a child of `parent` (process 2, or `init_task` for process 2
    /// itself).
    pub fn kernel_thread(&mut self, parent: u32, name: &str) -> u32 {
        let options = ForkOptions { container: 0, uid: 0, new_session: false };
        let pid = self.copy_process(parent, Kind::KernelThread, options);
        self.set_name(pid, name);
        pid
    }

    /// Starts a thread of a process; returns its id.
    pub fn start_thread(&mut self, process: u32) -> u32 {
        let Process { container, uid, .. } = *self.process(process);
        let options = ForkOptions { container, uid, new_session: false };
        self.copy_process(process, Kind::Thread, options)
    }

    /// `copy_process` (kernel/fork.c), in its order.
    fn copy_process(&mut self, parent: u32, kind: Kind, options: ForkOptions) -> u32 {
        self.now_ns += 1_000_000;
        let layouts = self.layouts();
        let layout = &layouts.task_struct;
        // Without its children: to copy those of process 1 at each fork would take the square of
        // their number.
        let children = std::mem::take(&mut self.process_mut(parent).children);
        let before = self.process(parent).clone();
        self.process_mut(parent).children = children;
        let task = self.memory.allocate_in_slab(layout.size);
        self.dup_task(before.task, task, kind);
        let container = self.containers[options.container].clone();
        let files = self.thread(parent).files.expect("the parent has not ended");
        let child = if kind == Kind::Thread {
            self.share_files(files);
            None
        } else {
            Some(self.copy_resources(&before, task, kind, options))
        };
        let files = if kind == Kind::Process { self.dup_files(files) } else { files };
        if kind == Kind::KernelThread {
            self.share_files(files);
        }
        self.memory.point(task, layout.files, files);
        let (pid, inner_pid) = self.alloc_pid(container.pids);
        let tgid = if kind == Kind::Thread { parent } else { pid };
        self.memory.put(task, layout.pid, pid.into());
        self.memory.put(task, layout.tgid, tgid.into());
        let leader = if kind == Kind::Thread { before.task } else { task };
        self.memory.point(task, layout.group_leader, leader);
        let real_parent = if kind == Kind::Thread {
            KernelVa(self.memory.get(before.task, layout.real_parent))
        } else {
            before.task
        };
        self.memory.point_pair(task, layout.real_parent, real_parent);
        let name = self.thread(parent).name.clone();
        self.threads.insert(pid, Thread { tid: pid, pid: tgid, task, name, files: Some(files) });
        match child {
            None => self.process_mut(parent).threads.push(pid),
            Some(child) => {
                let child = Process { pid, inner_pid, threads: vec![pid], ..child };
                self.processes.insert(pid, child);
                self.process_mut(parent).children.insert(pid);
            }
        }
        self.link_task(pid, options.new_session);
        self.count_fork();
        self.post_fork(task, container.css_set);
        pid
    }

    /// `dup_task_struct`, and what `copy_process` sets before it copies anything else.
    fn dup_task(&mut self, from: KernelVa, to: KernelVa, kind: Kind) {
        let layouts = self.layouts();
        let layout = &layouts.task_struct;
        let bytes = self.memory.read(from, layout.size as usize).to_vec();
        self.memory.write(to, &bytes);
        let kernel = if kind == Kind::KernelThread { PF_KTHREAD } else { 0 };
        self.memory.put(to, layout.flags, (PF_FORKNOEXEC | kernel).into());
        self.memory.put(to, layout.state, TASK_NEW);
        self.memory.put_optional(to, layout.on_cpu, 0);
        let heads = [layout.children, layout.sibling, layout.cg_list, layout.group_node];
        for head in heads.into_iter().flatten() {
            self.memory.list_init(to.plus(head.offset.into()));
        }
        self.memory.write(to.plus(layout.pid_links.offset.into()), &[0; 64]);
        self.memory.put_optional(to, layout.cgroups, self.containers[0].css_set.0);
        self.memory.put(to, layout.sum_exec_runtime, 0);
        self.memory.put(to, layout.start_boottime, self.now_ns);
        let processor = self.random.below(self.run_queues.len() as u64) as usize;
        let queue = self.run_queues[processor];
        self.memory.put_optional(to, layout.cfs_rq, queue.0);
    }

    /// What a new process does not share: credentials, directories, signals, address space,
    /// namespaces.
    fn copy_resources(
        &mut self,
        parent: &Process,
        task: KernelVa,
        kind: Kind,
        options: ForkOptions,
    ) -> Process {
        let layouts = self.layouts();
        let layout = &layouts.task_struct;
        let cred = self.new_cred(options.uid);
        self.memory.point_pair(task, layout.real_cred, cred);
        let fs = self.new_fs();
        self.memory.point(task, layout.fs, fs);
        let signal = self.memory.allocate(layouts.signal_struct.size);
        self.memory.put(signal, layouts.signal_struct.nr_threads, 1);
        let head = signal.plus(layouts.signal_struct.thread_head.offset.into());
        let node = task.plus(layout.thread_node.offset.into());
        self.memory.list_init(head);
        self.memory.list_add_tail(node, head);
        self.memory.point(task, layout.signal, signal);
        let mm = match (kind, parent.mm) {
            (Kind::Process, Some(mm)) => Some(self.dup_mm(mm)),
            _ => None,
        };
        self.memory.point_pair(task, layout.mm, mm.unwrap_or_default());
        let nsproxy = self.containers[options.container].nsproxy;
        self.memory.point(task, layout.nsproxy, nsproxy);
        Process {
            parent: parent.pid,
            task,
            uid: options.uid,
            is_kernel: kind == Kind::KernelThread,
            start_ns: self.now_ns,
            container: options.container,
            is_hidden: false,
            children: BTreeSet::new(),
            signal,
            fs,
            cred,
            mm,
            ..parent.clone()
        }
    }

    fn new_cred(&mut self, uid: u32) -> KernelVa {
        let layout = self.layouts().cred;
        let cred = self.memory.allocate(layout.size);
        for field in [layout.uid, layout.gid, layout.euid, layout.egid] {
            self.memory.put(cred, field, uid.into());
        }
        self.memory.point(cred, layout.user_ns, self.user_ns);
        cred
    }

    /// Puts a new task into all lists, in the order of `copy_process`.
    fn link_task(&mut self, tid: u32, new_session: bool) {
        let layouts = self.layouts();
        let layout = &layouts.task_struct;
        let Thread { pid: tgid, task, .. } = *self.thread(tid);
        let own = self.pids[&tid].address;
        self.memory.point(task, layout.thread_pid, own);
        if tid == tgid {
            let Process { parent, group, session, .. } = *self.process(tid);
            // `init_task` is in no process group, and process 1 leads the first one.
            let alone = new_session || group == 0;
            let (group, session) = if alone { (tid, tid) } else { (group, session) };
            let process = self.process_mut(tid);
            (process.group, process.session) = (group, session);
            if let (Some(sibling), Some(children)) = (layout.sibling, layout.children) {
                let head = self.process(parent).task.plus(children.offset.into());
                self.memory.list_add_tail(task.plus(sibling.offset.into()), head);
            }
            let tasks = u64::from(layout.tasks.offset);
            self.memory.list_add_tail(task.plus(tasks), self.init_task.plus(tasks));
            self.attach_pid(task, PidType::Tgid, tid);
            self.attach_pid(task, PidType::Pgid, group);
            self.attach_pid(task, PidType::Sid, session);
        } else {
            let signal = self.process(tgid).signal;
            let count = self.process(tgid).threads.len() as u64;
            self.memory.put(signal, layouts.signal_struct.nr_threads, count);
            let head = signal.plus(layouts.signal_struct.thread_head.offset.into());
            self.memory.list_add_tail(task.plus(layout.thread_node.offset.into()), head);
        }
        self.attach_pid(task, PidType::Pid, tid);
    }

    fn count_fork(&mut self) {
        self.forks += 1;
        let at = self.kernel.symbol("total_forks");
        self.memory.put_word(at, self.forks);
    }

    /// `cgroup_post_fork` and `wake_up_new_task`.
    fn post_fork(&mut self, task: KernelVa, css_set: KernelVa) {
        let layouts = self.layouts();
        let layout = &layouts.task_struct;
        self.memory.put_optional(task, layout.cgroups, css_set.0);
        if let (Some(node), Some(head)) =
            (layout.cg_list, layouts.css_set.and_then(|layout| layout.tasks))
        {
            let head = css_set.plus(head.offset.into());
            self.memory.list_add_tail(task.plus(node.offset.into()), head);
        }
        self.memory.put(task, layout.state, TASK_INTERRUPTIBLE);
    }

    /// Takes a process out of the task list, as a rootkit does. It runs on.
    pub fn hide(&mut self, pid: u32) {
        let tasks = u64::from(self.layouts().task_struct.tasks.offset);
        let task = self.process(pid).task;
        self.memory.list_del_init(task.plus(tasks));
        self.process_mut(pid).is_hidden = true;
    }

    /// Changes the name of a thread (`prctl(PR_SET_NAME)`).
    pub fn set_name(&mut self, tid: u32, name: &str) {
        let layout = self.layouts().task_struct;
        let task = self.thread(tid).task;
        self.put_text(task, layout.comm, name);
        let thread = self.threads.get_mut(&tid).expect("the thread exists");
        thread.name = name.chars().take(15).collect();
    }
}
