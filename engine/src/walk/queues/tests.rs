//! Message queues made by hand: which of them a scan has.

#![allow(clippy::unwrap_used, reason = "a test may")]

use proptest::prelude::*;

use super::*;
use crate::walk::tests::memory::{Sparse, add_process, kernel, small, va, walker};
use crate::walk::{Kernel, ScanPart};

struct Scene {
    memory: Sparse,
    walker: Walker,
    kernel: Kernel,
    /// Address of each process's `struct pid`.
    pids: Vec<u64>,
}

impl Scene {
    /// A machine with so many processes.
    fn new(processes: usize) -> Self {
        let (mut memory, mut walker) = (Sparse::default(), walker(&small()));
        let mut pids = Vec::new();
        for _ in 0..processes {
            let process = add_process(&mut walker, &mut memory, 0);
            let pid = memory.structure();
            let leader = walker.snapshot.processes[process].leader;
            let task = &mut walker.snapshot.threads[leader].task;
            task.thread_pid = va(pid);
            let numbers = Sparse::field(pid, "pid", "numbers");
            memory.set(numbers, "upid", "nr", task.tgid.into());
            pids.push(pid);
        }
        Self { memory, walker, kernel: kernel(), pids }
    }

    /// A queue that these `struct pid`s used last.
    fn queue(&mut self, id: u64, sender: u64, receiver: u64) -> u64 {
        let queue = self.memory.structure();
        for (field, value) in [
            ("q_perm.id", id),
            ("q_stime", 1_795_000_000),
            ("q_rtime", 1_795_000_001),
            ("q_lspid", sender),
            ("q_lrpid", receiver),
        ] {
            self.memory.set(queue, "msg_queue", field, value);
        }
        queue
    }

    /// A node with these pointers.
    fn node(&mut self, slots: &[u64]) -> u64 {
        let node = self.memory.structure();
        let at = Sparse::field(node, "xa_node", "slots");
        for (slot, &pointer) in (0..).zip(slots) {
            self.memory.put(at + 8 * slot, pointer);
        }
        node | 2
    }

    /// A namespace whose tree of queues has this pointer at its top.
    fn namespace(&mut self, head: u64) -> u64 {
        let namespace = self.memory.room(4096);
        let layouts = &self.kernel.layouts;
        let (layout, ids) = layouts.ipc_namespace.zip(layouts.ipc_ids).unwrap();
        let queues = layout.queues_of(va(namespace), &ids).0;
        self.memory.set(queues, "ipc_ids", "in_use", 1);
        self.memory.set(queues, "ipc_ids", "ipcs_idr.idr_rt.xa_head", head);
        self.walker.scratch.ipc_namespaces.add(va(namespace));
        namespace
    }

    /// The numbers of the queues that a scan has, with the process ids of their users.
    fn scan(&mut self) -> Vec<(u32, u32, u32)> {
        self.walker.snapshot.queues.clear();
        self.walker.scans += 1;
        self.memory.walk(&mut self.walker, &self.kernel, Walker::read_queues);
        let snapshot = &self.walker.snapshot;
        let id = |at: Option<Index<ProcessRow>>| {
            let leader = snapshot.processes.at(at).and_then(|row| snapshot.leader(row));
            leader.map_or(0, |leader| leader.task.tgid)
        };
        let rows = snapshot.queues.iter();
        rows.map(|row| (row.queue.id, id(row.sender), id(row.receiver))).collect()
    }
}

#[test]
fn a_queue_has_the_processes_that_used_it_last() {
    let mut scene = Scene::new(3);
    let [one, two, three] = scene.pids[..].try_into().unwrap();
    let ended = scene.memory.structure();
    scene.memory.set(Sparse::field(ended, "pid", "numbers"), "upid", "nr", 2);
    let queues = [(7, one, two), (8, three, ended), (9, ended, ended), (10, two, two)];
    let queues = queues.map(|(id, sender, receiver)| scene.queue(id, sender, receiver));
    let leaf = scene.node(&[queues[0], 0, queues[1], queues[2]]);
    let top = scene.node(&[leaf, queues[3]]);
    scene.namespace(top);
    let mut found = scene.scan();
    found.sort_unstable();
    assert_eq!(found, [(7, 1, 2), (8, 3, 0), (10, 2, 2)], "another process has that number");
    assert_eq!(scene.walker.snapshot.losses.unreadable, 0);
}

/// An IDR whose only index is 0 has no node.
#[test]
fn a_namespace_with_one_queue_has_no_node() {
    let mut scene = Scene::new(2);
    let queue = scene.queue(0, scene.pids[0], scene.pids[1]);
    scene.namespace(queue);
    // Its `in_use` is 0.
    let unused = scene.namespace(queue);
    let layouts = &scene.kernel.layouts;
    let (layout, ids) = layouts.ipc_namespace.zip(layouts.ipc_ids).unwrap();
    scene.memory.set(layout.queues_of(va(unused), &ids).0, "ipc_ids", "in_use", 0);
    assert_eq!(scene.scan(), [(0, 1, 2)]);
}

#[test]
fn queues_without_messages_and_those_being_removed_are_left_out() {
    let mut scene = Scene::new(2);
    let (one, two) = (scene.pids[0], scene.pids[1]);
    let all: Vec<u64> = (0..4).map(|id| scene.queue(id, one, two)).collect();
    scene.memory.set(all[0], "msg_queue", "q_stime", 0);
    scene.memory.set(all[1], "msg_queue", "q_rtime", 0);
    scene.memory.set(all[2], "msg_queue", "q_perm.deleted", 1);
    let top = scene.node(&all);
    scene.namespace(top);
    assert_eq!(scene.scan(), [(3, 1, 2)]);
}

#[test]
fn a_kernel_whose_queues_are_unknown_has_none() {
    for layout in 0..3 {
        let mut scene = Scene::new(2);
        let queue = scene.queue(1, scene.pids[0], scene.pids[1]);
        scene.namespace(queue);
        assert_eq!(scene.scan(), [(1, 1, 2)]);
        let layouts = &mut scene.kernel.layouts;
        match layout {
            0 => layouts.ipc_namespace = None,
            1 => layouts.ipc_ids = None,
            _ => layouts.msg_queue = None,
        }
        assert_eq!(scene.scan(), []);
    }
}

#[test]
fn unreadable_parts_are_counted() {
    let mut scene = Scene::new(2);
    let queue = scene.queue(1, scene.pids[0], scene.pids[1]);
    let leaf = scene.node(&[queue]);
    scene.namespace(leaf);
    scene.memory.missing.push(leaf - 2..leaf + 1024);
    assert_eq!(scene.scan(), []);
    let losses = &scene.walker.snapshot.losses;
    assert_eq!(losses.of(ScanPart::Namespaces), (1, 0));
    let stops = losses.frequent_stops();
    let text = format!("tree of message queues: unreadable at {:#x}", leaf - 2);
    assert_eq!(stops.iter().map(ToString::to_string).collect::<Vec<_>>(), [text]);
}

#[test]
fn a_forged_tree_is_bounded() {
    let mut scene = Scene::new(2);
    let queue = scene.queue(1, scene.pids[0], scene.pids[1]);
    // Each slot leads to the node itself.
    let node = scene.node(&[]);
    let at = Sparse::field(node - 2, "xa_node", "slots");
    for slot in 0..63 {
        scene.memory.put(at + 8 * slot, node);
    }
    scene.memory.put(at + 8 * 63, queue);
    scene.namespace(node);
    let before = scene.memory.requests;
    assert!(!scene.scan().is_empty());
    let reads = (scene.memory.requests - before) as usize;
    let most = NAMESPACES_MAX + QUEUE_TREE_DEPTH_MAX as usize * NODES_MAX + 3 * READS_MAX;
    assert!(reads <= most, "{reads} reads");
    let stops = scene.walker.snapshot.losses.frequent_stops();
    let text = format!("levels of a tree of message queues: longer than {QUEUE_TREE_DEPTH_MAX}");
    assert_eq!(stops.iter().map(ToString::to_string).collect::<Vec<_>>(), [text]);
}

/// `unshare --ipc`, again and again, and as many queues as the kernel allows.
#[test]
fn a_hog_of_queues_leaves_those_of_others_their_turns() {
    let mut scene = Scene::new(3);
    let [one, two, hog] = scene.pids[..].try_into().unwrap();
    let queue = scene.queue(1, one, two);
    let first = scene.node(&[queue]);
    scene.namespace(first);
    let hogs: Vec<u64> = (0..64).map(|_| scene.queue(2, hog, hog)).collect();
    let leaf = scene.node(&hogs);
    let top = scene.node(&[leaf; 64]);
    for _ in 0..1000 {
        scene.namespace(top);
    }
    let seen = (0..400).filter(|_| scene.scan().contains(&(1, 1, 2))).count();
    assert!(seen >= 4, "seen in {seen} of 400 scans");
}

/// A user runs processes that send and receive a message each, and end.
#[test]
fn queues_whose_users_have_ended_take_no_room() {
    let mut scene = Scene::new(2);
    let (one, two) = (scene.pids[0], scene.pids[1]);
    let ended = scene.memory.structure();
    scene.memory.set(Sparse::field(ended, "pid", "numbers"), "upid", "nr", 9);
    let queue = scene.queue(1, one, two);
    let mut nodes: Vec<u64> = (0..31)
        .map(|_| {
            let left: Vec<u64> = (0..64).map(|_| scene.queue(2, ended, ended)).collect();
            scene.node(&left)
        })
        .collect();
    let relay = scene.node(&[queue]);
    nodes.push(relay);
    let top = scene.node(&nodes);
    scene.namespace(top);
    for scan in 0..20 {
        assert_eq!(scene.scan(), [(1, 1, 2)], "{scan}");
    }
}

#[test]
fn living_and_ended_users_need_few_batches() {
    let mut scene = Scene::new(2);
    let one = scene.pids[0];
    let ended = scene.memory.structure();
    let mut next = 0;
    let nodes: Vec<u64> = (0..32)
        .map(|_| {
            let queues: Vec<u64> = (0..64)
                .map(|_| {
                    next += 1;
                    let user = if next % 8 == 0 { one } else { ended };
                    scene.queue(next, user, user)
                })
                .collect();
            scene.node(&queues)
        })
        .collect();
    let top = scene.node(&nodes);
    scene.namespace(top);
    let found = scene.scan().len();
    let batches = scene.memory.batches;
    assert!(batches <= 4 * (READS_MAX / ROOM_MIN) as u64, "{batches} batches");
    assert!((QUEUES_MAX - ROOM_MIN..=QUEUES_MAX).contains(&found), "{found}");
}

proptest! {
    /// Whatever the memory has, a scan ends within its bounds.
    #[test]
    fn any_memory_is_bounded(pointers in proptest::collection::vec(any::<u64>(), 64), head: u64) {
        let mut scene = Scene::new(1);
        let node = scene.node(&pointers);
        let leaf = scene.node(&pointers.iter().map(|at| node + (at & 1024)).collect::<Vec<_>>());
        for head in [head, node, leaf] {
            scene.namespace(head);
        }
        prop_assert!(scene.scan().len() <= QUEUES_MAX);
    }
}
