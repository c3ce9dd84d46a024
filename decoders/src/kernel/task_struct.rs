//! `struct task_struct` (include/linux/sched.h): one thread.

use crate::address::KernelVa;
use crate::layout::{PackedField, View, c_string};
use crate::maybe::MaybeU32;

crate::layout! {
    /// `struct task_struct` (include/linux/sched.h).
    pub struct TaskStruct("task_struct") {
        /// Link in the list of all thread group leaders, whose head is `init_task`.
        tasks: ["tasks"],
        pid: ["pid"],
        /// Thread group id: the process id of user space.
        tgid: ["tgid"],
        /// Name, 16 bytes with its NUL.
        comm: ["comm"],
        /// `PF_*`.
        flags: ["flags"],
        /// Since Linux commit 2f064a59a11f ("sched: Change task_struct::state") (in v5.14)
        /// `__state`, 32 bits; before that `state`, 64 bits.
        state: ["__state", "state"],
        /// `EXIT_*`.
        exit_state: ["exit_state"],
        /// Nonzero while it runs on a processor.
        on_cpu?: ["on_cpu"],
        /// `struct mm_struct *`; null for kernel threads and after exit.
        mm: ["mm"],
        /// `struct files_struct *`; null after exit.
        files: ["files"],
        /// `struct fs_struct *`; null after exit.
        fs: ["fs"],
        /// `struct signal_struct *`: the shared state of the process's threads.
        signal: ["signal"],
        /// `struct nsproxy *`: its namespaces; null after exit.
        nsproxy: ["nsproxy"],
        /// `struct css_set *`: its control groups.
        cgroups?: ["cgroups"],
        /// Link in the list of tasks of its `css_set`.
        cg_list?: ["cg_list"],
        /// `const struct cred *`: its objective credentials, which others see.
        real_cred: ["real_cred"],
        /// `struct task_struct *` that is notified of its end.
        real_parent: ["real_parent"],
        /// Head of the list of its children, linked by their `sibling`.
        children?: ["children"],
        /// Link in its `real_parent`'s list of children. Only the first thread of a process is in
        /// one.
        sibling?: ["sibling"],
        /// `struct task_struct *` of the first thread of its process.
        group_leader: ["group_leader"],
        /// `struct pid *`; null after it was unhashed.
        thread_pid: ["thread_pid"],
        /// Links in `struct pid`'s lists, by `enum pid_type`.
        pid_links: ["pid_links"],
        /// Link in `signal->thread_head`.
        thread_node: ["thread_node"],
        /// Nanoseconds from boot to its creation, including suspend. Named so since Linux commit
        /// cf25e24db61c ("time: Rename tsk->real_start_time to ->start_boottime") (in v5.5).
        start_boottime: ["start_boottime", "real_start_time"],
        /// Inherited at fork, incremented at each exec.
        self_exec_id: ["self_exec_id"],
        /// Run time in nanoseconds.
        sum_exec_runtime: ["se.sum_exec_runtime"],
        /// Link in its run queue's list of fair tasks while it is queued there.
        group_node?: ["se.group_node"],
        /// `struct cfs_rq *`: the queue of its control group on its processor, whether the task is
        /// queued or not (`set_task_rq`, kernel/sched/sched.h). Only with
        /// `CONFIG_FAIR_GROUP_SCHED`.
        cfs_rq?: ["se.cfs_rq"],
        /// User id of the login, in the initial user namespace (`audit_set_loginuid`,
        /// kernel/audit.c). It is inherited at fork and survives changes of user. Only with
        /// `CONFIG_AUDIT`.
        loginuid?: ["loginuid.val", "loginuid"],
        /// Number of that login since boot. Only with `CONFIG_AUDIT`.
        sessionid?: ["sessionid"],
    }
}

crate::layout! {
    /// The field that leads to a thread's kernel stack.
    pub struct TaskStack("task_struct") {
        /// First byte of the stack.
        stack?: ["stack"],
    }
}

/// `PF_FORKNOEXEC` (include/linux/sched.h): forked, without an exec since.
pub const PF_FORKNOEXEC: u32 = 0x40;
/// `PF_KTHREAD` (include/linux/sched.h): a thread of the kernel itself.
pub const PF_KTHREAD: u32 = 0x0020_0000;
/// `PF_EXITING` (include/linux/sched.h): exiting (`exit_signals`, kernel/signal.c).
const PF_EXITING: u32 = 0x4;
/// `TASK_NEW` (include/linux/sched.h): under construction, but already in some lists (`sched_fork`,
/// kernel/sched/core.c).
const TASK_NEW: u32 = 0x800;
/// `TASK_DEAD` (include/linux/sched.h): it has ended, and does not run any more.
const TASK_DEAD: u32 = 0x80;
/// `TASK_COMM_LEN` (include/linux/sched.h): bytes of a name with its NUL.
pub const TASK_COMM_LEN: usize = 16;
/// `PID_MAX_LIMIT` (include/linux/threads.h): ids are lower.
pub const PID_MAX_LIMIT: u32 = 4 << 20;
/// `PIDTYPE_PID` (include/linux/pid_types.h): the list of the task that has the number.
pub const PIDTYPE_PID: usize = 0;
/// `PIDTYPE_TGID` (include/linux/pid_types.h): the list with the process itself.
pub const PIDTYPE_TGID: usize = 1;
/// `PIDTYPE_PGID` (include/linux/pid_types.h): the list of a process group's processes.
pub const PIDTYPE_PGID: usize = 2;
/// `PIDTYPE_SID` (include/linux/pid_types.h): the list of a session's processes.
pub const PIDTYPE_SID: usize = 3;
/// `EXIT_DEAD` (include/linux/sched.h).
pub const EXIT_DEAD: u32 = 0x10;
/// `EXIT_ZOMBIE` (include/linux/sched.h).
pub const EXIT_ZOMBIE: u32 = 0x20;

/// The decoded fields of a `struct task_struct`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Task {
    pub address: KernelVa,
    /// Thread id in the initial pid namespace.
    pub pid: u32,
    /// Thread group id in the initial pid namespace.
    pub tgid: u32,
    /// Name, padded with NULs.
    pub comm: [u8; TASK_COMM_LEN],
    /// `PF_*`.
    pub flags: u32,
    /// `TASK_*`.
    pub state: u32,
    /// `EXIT_*`.
    pub exit_state: u32,
    pub on_cpu: bool,
    /// Next in the task list: the address of that task's `tasks`.
    pub tasks_next: KernelVa,
    /// Previous in the task list: the address of that task's `tasks`.
    pub tasks_prev: KernelVa,
    /// Next in the thread group: the address of that task's `thread_node`, or of
    /// `signal->thread_head`.
    pub thread_next: KernelVa,
    /// `struct mm_struct *`
    pub mm: KernelVa,
    /// `struct files_struct *`
    pub files: KernelVa,
    /// `struct fs_struct *`
    pub fs: KernelVa,
    /// `struct signal_struct *`
    pub signal: KernelVa,
    /// `struct nsproxy *`
    pub nsproxy: KernelVa,
    /// `struct css_set *`; null without control groups.
    pub cgroups: KernelVa,
    /// `const struct cred *`
    pub real_cred: KernelVa,
    /// `struct task_struct *`
    pub real_parent: KernelVa,
    /// First child: the address of its `sibling`, or of this task's `children` if there is none.
    pub first_child: KernelVa,
    /// Next child of the same parent: the address of its `sibling`, or of the parent's `children`.
    pub sibling_next: KernelVa,
    /// Next task of the same `css_set`: the address of its `cg_list`.
    pub cg_next: KernelVa,
    /// Next in its process group: the address of its `pid_links[PIDTYPE_PGID]`; null at the end.
    pub process_group_next: KernelVa,
    /// Next in its session: the address of its `pid_links[PIDTYPE_SID]`; null at the end.
    pub session_next: KernelVa,
    /// Next on its run queue: the address of its `se.group_node`.
    pub run_queue_next: KernelVa,
    /// `struct cfs_rq *`
    pub cfs_rq: KernelVa,
    /// `struct task_struct *`
    pub group_leader: KernelVa,
    /// `struct pid *`
    pub thread_pid: KernelVa,
    /// Nanoseconds from boot to creation.
    pub start_boottime: u64,
    /// Number of execs along its line of ancestors.
    pub self_exec_id: u32,
    /// Run time in nanoseconds.
    pub sum_exec_runtime: u64,
    /// User id of the login that it belongs to; none for `AUDIT_UID_UNSET`
    /// (include/uapi/linux/audit.h).
    pub loginuid: MaybeU32,
    /// Number of that login since boot; none for `AUDIT_SID_UNSET`.
    pub sessionid: MaybeU32,
}

impl Task {
    /// Decodes the packed copy of the task at `address`.
    pub fn decode(layout: &TaskStruct, address: KernelVa, bytes: &[u8]) -> Self {
        let view = View::new(bytes);
        let link = |field: Option<PackedField>, word| {
            KernelVa(field.map_or(0, |field| view.u64_at(field, word)))
        };
        let login = |field| MaybeU32::new(view.optional(field).map(|id| id as u32));
        Self {
            address,
            pid: view.unsigned(layout.pid) as u32,
            tgid: view.unsigned(layout.tgid) as u32,
            comm: view.bytes(layout.comm).first_chunk().copied().unwrap_or_default(),
            flags: view.unsigned(layout.flags) as u32,
            state: view.unsigned(layout.state) as u32,
            exit_state: view.unsigned(layout.exit_state) as u32,
            on_cpu: view.optional(layout.on_cpu).is_some_and(|on| on != 0),
            tasks_next: KernelVa(view.u64_at(layout.tasks, 0)),
            tasks_prev: KernelVa(view.u64_at(layout.tasks, 1)),
            thread_next: KernelVa(view.u64_at(layout.thread_node, 0)),
            mm: view.pointer(layout.mm),
            files: view.pointer(layout.files),
            fs: view.pointer(layout.fs),
            signal: view.pointer(layout.signal),
            nsproxy: view.pointer(layout.nsproxy),
            cgroups: KernelVa(view.optional(layout.cgroups).unwrap_or(0)),
            real_cred: view.pointer(layout.real_cred),
            real_parent: view.pointer(layout.real_parent),
            first_child: link(layout.children, 0),
            sibling_next: link(layout.sibling, 0),
            cg_next: link(layout.cg_list, 0),
            // Each link is a `struct hlist_node` of two pointers.
            process_group_next: link(Some(layout.pid_links), 2 * PIDTYPE_PGID),
            session_next: link(Some(layout.pid_links), 2 * PIDTYPE_SID),
            run_queue_next: link(layout.group_node, 0),
            cfs_rq: link(layout.cfs_rq, 0),
            group_leader: view.pointer(layout.group_leader),
            thread_pid: view.pointer(layout.thread_pid),
            start_boottime: view.unsigned(layout.start_boottime),
            self_exec_id: view.unsigned(layout.self_exec_id) as u32,
            sum_exec_runtime: view.unsigned(layout.sum_exec_runtime),
            loginuid: login(layout.loginuid),
            sessionid: login(layout.sessionid),
        }
    }

    /// Whether the task is complete and has not ended, and so is in all its lists of processes. It
    /// leaves them only after its exit state is set (`release_task`, kernel/exit.c).
    pub const fn is_settled(&self) -> bool {
        self.exit_state == 0 && !self.is_unfinished()
    }

    /// Whether the kernel still makes it. Up to `alloc_pid` it has its parent's id
    /// (`copy_process`, kernel/fork.c).
    pub const fn is_unfinished(&self) -> bool {
        self.state & TASK_NEW != 0
    }

    /// Whether it has ended, its parent has waited for it, and it runs no more: only its memory is
    /// left (`wait_task_zombie` and `do_task_dead`, kernel/exit.c and kernel/sched/core.c). The
    /// kernel gives up a task that it could not finish with another exit state (`copy_process`).
    pub const fn was_released(&self) -> bool {
        self.exit_state == EXIT_DEAD && self.state == TASK_DEAD && !self.on_cpu
    }

    /// Whether it is exiting: from then on it may leave its control groups.
    pub const fn is_exiting(&self) -> bool {
        self.flags & PF_EXITING != 0
    }

    /// The name up to the NUL.
    pub fn name(&self) -> &[u8] {
        c_string(&self.comm)
    }

    /// Whether it is a kernel thread.
    pub const fn is_kernel_thread(&self) -> bool {
        self.flags & PF_KTHREAD != 0
    }

    /// Whether it was forked and has not called exec since.
    pub const fn is_fork(&self) -> bool {
        self.flags & PF_FORKNOEXEC != 0
    }

    /// Whether it is the first thread of its process.
    pub const fn is_leader(&self) -> bool {
        self.pid == self.tgid
    }

    /// Whether `other` is a copy of the same thread: neither the pid nor the address alone proves
    /// it.
    pub const fn is_same_thread(&self, other: &Self) -> bool {
        self.pid == other.pid
            && self.start_boottime == other.start_boottime
            && self.address.0 == other.address.0
    }

    /// Whether it runs, can run, or waits for something that arrives soon without anyone's action
    /// (a page from a disk), rather than for an event.
    pub const fn is_at_work(&self) -> bool {
        self.exit_state == 0 && (self.state & TASK_REPORT == 0 || self.is_uninterruptible())
    }

    /// Whether it waits for something that arrives without anyone's action, such as a page from a
    /// disk, or for a lock.
    pub const fn is_uninterruptible(&self) -> bool {
        self.state & (TASK_INTERRUPTIBLE | TASK_UNINTERRUPTIBLE) == TASK_UNINTERRUPTIBLE
    }
}

/// `TASK_INTERRUPTIBLE`, `TASK_UNINTERRUPTIBLE` and `TASK_REPORT` (include/linux/sched.h).
const TASK_INTERRUPTIBLE: u32 = 0x1;
const TASK_UNINTERRUPTIBLE: u32 = 0x2;
const TASK_REPORT: u32 = 0x7f;

/// The state of a task, as `get_task_state` (fs/proc/array.c) names it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TaskState {
    Running,
    Sleeping,
    DiskSleep,
    Stopped,
    TracingStop,
    Dead,
    Zombie,
    Parked,
    Idle,
}

impl TaskState {
    /// The state by `TASK_*` and `EXIT_*` (`task_state_index`, include/linux/sched.h).
    pub const fn of(state: u32, exit_state: u32) -> Self {
        const TASK_NOLOAD: u32 = 0x400;
        const TASK_IDLE: u32 = TASK_UNINTERRUPTIBLE | TASK_NOLOAD;
        const TASK_RTLOCK_WAIT: u32 = 0x1000;
        const TASK_FROZEN: u32 = 0x8000;
        const TASK_REPORT_IDLE: u32 = 0x80;
        let mut reported = (state | exit_state) & TASK_REPORT;
        if state & TASK_IDLE == TASK_IDLE {
            reported = TASK_REPORT_IDLE;
        }
        // Frozen tasks count since Linux commit f718faf3940e ("freezer, sched: Report frozen tasks
        // as 'D' instead of 'R'") (in v6.13, and in stable kernels).
        if state & (TASK_RTLOCK_WAIT | TASK_FROZEN) != 0 {
            reported = TASK_UNINTERRUPTIBLE;
        }
        match 32 - reported.leading_zeros() {
            1 => Self::Sleeping,
            2 => Self::DiskSleep,
            3 => Self::Stopped,
            4 => Self::TracingStop,
            5 => Self::Dead,
            6 => Self::Zombie,
            7 => Self::Parked,
            8 => Self::Idle,
            _ => Self::Running,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{Layout as _, Member, Members};

    /// A kernel with or without `CONFIG_AUDIT`; all fields but those of audit are at one place.
    struct Audit(bool);

    impl Members for Audit {
        fn member(&self, _: &str, path: &str) -> Option<Member> {
            match path {
                "loginuid.val" => self.0.then_some(Member { offset: 16, size: 4 }),
                "sessionid" => self.0.then_some(Member { offset: 20, size: 4 }),
                "loginuid" => None,
                _ => Some(Member { offset: 0, size: 8 }),
            }
        }

        fn size_of(&self, _: &str) -> Option<u32> {
            Some(64)
        }
    }

    fn login(audit: bool, loginuid: u32, sessionid: u32) -> (Option<u32>, Option<u32>) {
        let layout = TaskStruct::bind(&Audit(audit)).unwrap();
        let mut bytes = [0; 64];
        for (field, id) in [(layout.loginuid, loginuid), (layout.sessionid, sessionid)] {
            if let Some(field) = field {
                bytes[field.packed as usize..][..4].copy_from_slice(&id.to_le_bytes());
            }
        }
        let task = Task::decode(&layout, KernelVa(0xffff_8880_0000_0000), &bytes);
        (task.loginuid.get(), task.sessionid.get())
    }

    #[test]
    fn a_login_is_decoded_where_there_is_one() {
        assert_eq!(login(true, 1000, 3), (Some(1000), Some(3)));
        assert_eq!(login(true, 0, 1), (Some(0), Some(1)));
        assert_eq!(login(true, u32::MAX, u32::MAX), (None, None));
        assert_eq!(login(false, 1000, 3), (None, None));
    }

    #[test]
    fn a_task_at_work_waits_for_no_event() {
        let at_work =
            |state, exit_state| Task { state, exit_state, ..Task::default() }.is_at_work();
        // At work: running, new, waiting for a disk. Not: sleeping, stopped, traced, dead.
        assert_eq!([0, 0x800, 2].map(|state| at_work(state, 0)), [true; 3]);
        assert_eq!([1, 4, 8, 0x101].map(|state| at_work(state, 0)), [false; 4]);
        assert!(!at_work(0, 0x20));
    }

    #[test]
    fn states_read_as_in_proc() {
        assert_eq!(TaskState::of(0, 0), TaskState::Running);
        assert_eq!(TaskState::of(1, 0), TaskState::Sleeping);
        assert_eq!(TaskState::of(2, 0), TaskState::DiskSleep);
        assert_eq!(TaskState::of(0x402, 0), TaskState::Idle);
        assert_eq!(TaskState::of(0x80, EXIT_ZOMBIE), TaskState::Zombie);
        assert_eq!(TaskState::of(0x80, EXIT_DEAD | EXIT_ZOMBIE), TaskState::Zombie);
        assert_eq!(TaskState::of(4, 0), TaskState::Stopped);
        assert_eq!(TaskState::of(0x40, 0), TaskState::Parked);
    }
}
