//! Numbers of tasks: `struct pid`, its lists of tasks, and the trees that find it (kernel/pid.c).

use panoptes_decoders::address::KernelVa;

use crate::idr::Tree;
use crate::machine::Machine;

/// `RESERVED_PIDS` (kernel/pid.c): where numbers begin anew.
const RESERVED_PIDS: u32 = 300;

/// `enum pid_type` (include/linux/pid_types.h).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum PidType {
    Pid = 0,
    Tgid = 1,
    Pgid = 2,
    Sid = 3,
}

/// A `struct pid`.
#[derive(Clone, Debug)]
pub(crate) struct PidObject {
    pub(crate) address: KernelVa,
    bytes: u32,
    /// Number of tasks in its lists; it ends with the last one.
    uses: u32,
    /// Its number in each namespace, with the namespace's position, outermost first.
    numbers: Vec<(usize, u32)>,
}

impl Machine {
    /// Sets the number below which all process ids are (`kernel.pid_max`). The numbers of tasks
    /// that have ended are used again after it.
    ///
    /// Panics if that leaves less than 100 numbers.
    pub fn set_pid_max(&mut self, pid_max: u32) {
        assert!(pid_max >= RESERVED_PIDS + 100, "{pid_max} leaves too few process ids");
        self.pid_max = pid_max;
    }

    /// Sets the number of the next process (`kernel.ns_last_pid`). If that is in use, it gets the
    /// next one that is not.
    pub fn set_next_pid(&mut self, number: u32) {
        let space = &mut self.namespaces.pids[0];
        (space.next, space.is_wrapped) = (number.max(1), true);
    }

    /// `idr_alloc_cyclic`: the next number that is not in use.
    fn free_number(&mut self, namespace: usize) -> u32 {
        let ids = (self.pid_max - RESERVED_PIDS) as usize;
        assert!(self.pids.len() < ids, "all {ids} process ids are in use");
        let space = &self.namespaces.pids[namespace];
        let (mut number, mut is_wrapped) = (space.next, space.is_wrapped);
        loop {
            if number >= self.pid_max {
                (number, is_wrapped) = (RESERVED_PIDS, true);
            }
            let is_used =
                || self.pids.values().any(|pid| pid.numbers.contains(&(namespace, number)));
            if !is_wrapped || !is_used() {
                break;
            }
            number += 1;
        }
        let space = &mut self.namespaces.pids[namespace];
        (space.next, space.is_wrapped) = (number + 1, is_wrapped);
        number
    }

    /// The tree of a namespace's numbers; a `struct idr` begins with the tree (`idr_rt`).
    fn pid_tree(&self, namespace: usize) -> Tree {
        let layouts = &self.kernel.layouts;
        let namespace = self.namespaces.pids[namespace].address;
        Tree {
            array: namespace.plus(layouts.pid_namespace.idr.offset.into()),
            head: namespace.plus(layouts.pid_idr_root()),
        }
    }

    /// `alloc_pid` (kernel/pid.c): the number is in the trees before the task is in any list.
    pub(crate) fn alloc_pid(&mut self, namespace: usize) -> (u32, u32) {
        let layouts = self.layouts();
        let levels: &[usize] = if namespace == 0 { &[0] } else { &[0, namespace] };
        let upid_bytes = layouts.upid.size * levels.len() as u32;
        let bytes = layouts.pid.numbers.offset + upid_bytes;
        let address = self.memory.allocate(bytes.max(layouts.pid.size));
        let bytes = bytes.max(layouts.pid.size);
        self.memory.put(address, layouts.pid.level, levels.len() as u64 - 1);
        let mut numbers = Vec::new();
        for (level, &namespace) in levels.iter().enumerate() {
            let number = self.free_number(namespace);
            let ns = self.namespaces.pids[namespace].address;
            let upid =
                u64::from(layouts.pid.numbers.offset) + level as u64 * u64::from(layouts.upid.size);
            self.memory.put(address.plus(upid), layouts.upid.nr, number.into());
            self.memory.point(address.plus(upid), layouts.upid.ns, ns);
            numbers.push((namespace, number));
        }
        for &(namespace, number) in &numbers {
            let tree = self.pid_tree(namespace);
            self.memory.tree_store(&layouts, tree, number.into(), address.0);
            self.memory.put(tree.array, layouts.idr.idr_next, u64::from(number) + 1);
        }
        let (outer, inner) = (numbers[0].1, numbers[numbers.len() - 1].1);
        self.pids.insert(outer, PidObject { address, bytes, uses: 0, numbers });
        (outer, inner)
    }

    pub(crate) fn attach_pid(&mut self, task: KernelVa, kind: PidType, number: u32) {
        let layouts = self.layouts();
        let pid = self.pids.get_mut(&number).expect("the number is in use");
        pid.uses += 1;
        let head = pid.address.plus(u64::from(layouts.pid.tasks.offset) + kind as u64 * 8);
        let node = task.plus(u64::from(layouts.task_struct.pid_links.offset) + kind as u64 * 16);
        self.memory.hlist_add_head(node, head);
    }

    pub(crate) fn detach_pid(&mut self, task: KernelVa, kind: PidType, number: u32) {
        let layouts = self.layouts();
        let links = u64::from(layouts.task_struct.pid_links.offset);
        self.memory.hlist_del(task.plus(links + kind as u64 * 16));
        if kind == PidType::Pid {
            self.memory.put(task, layouts.task_struct.thread_pid, 0);
        }
        let pid = self.pids.get_mut(&number).expect("the number is in use");
        pid.uses -= 1;
        let (is_last, address, bytes) = (pid.uses == 0, pid.address, pid.bytes);
        self.memory.touch(address, bytes);
        if !is_last {
            return;
        }
        let Some(pid) = self.pids.remove(&number) else { return };
        for &(namespace, number) in &pid.numbers {
            let tree = self.pid_tree(namespace);
            self.memory.tree_erase(&layouts, tree, number.into());
        }
        self.memory.release(pid.address, pid.bytes);
    }
}
