//! The places that have the number of a process.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::task_struct::{
    PIDTYPE_PGID, PIDTYPE_PID, PIDTYPE_SID, PIDTYPE_TGID,
};
use panoptes_decoders::kernel::xarray::{self, XaSlot};

use super::super::snapshot::{ProcessRow, view};
use super::{FORK_MAX_NS, Kernel, LINK_BYTES, TearProbe};

/// Bits of a number that a node decides (`XA_CHUNK_SHIFT`, include/linux/xarray.h).
const NODE_BITS: u64 = 6;
/// Slots of a node.
const NODE_SLOTS: u32 = 1 << NODE_BITS;

/// A node of the tree on the way to a number.
#[derive(Clone, Copy)]
struct PidTreeNode {
    address: KernelVa,
    /// Number of index bits below it.
    shift: u64,
    /// Its slot that leads to the number.
    slot: u64,
    is_root: bool,
    /// Whether it and all nodes above it are in use, and each is at its own place in this tree.
    is_linked: bool,
}

/// A list of a `struct pid`: where its first link is, and the link of the process.
struct ListOfPid {
    head: KernelVa,
    own: KernelVa,
}

impl TearProbe<'_, '_> {
    /// Notes the slot of the process's number in the pid IDR. Returns whether the slot lacks it.
    /// A node proves that only if it was one of the tree when its page was copied: its memory may
    /// be another tree's. A root that the tree has left keeps its place, so it alone is no proof
    /// (`radix_tree_shrink`, lib/radix-tree.c).
    pub(super) fn look_at_idr(&mut self, is_missing: bool) -> bool {
        // The page of the task that has the pointer may be from its end, and another one from
        // before.
        if self.task.thread_pid.is_null() {
            return false;
        }
        let kernel = self.memory.kernel;
        let slots = u64::from(kernel.layouts.xa_node.slots.offset);
        let mut place = kernel.roots.init_pid_ns.plus(kernel.layouts.pid_idr_root());
        let mut above: Option<PidTreeNode> = None;
        for _ in 0..xarray::XARRAY_DEPTH_MAX {
            let Some(word) = self.word(place) else { return false };
            match xarray::slot(word) {
                XaSlot::Entry(pid) if pid == self.task.thread_pid => {
                    if !self.has_group_members(pid)
                        && let Some(page) = self.page(place)
                    {
                        self.evidence.numbers.add(page);
                    }
                    return false;
                }
                XaSlot::Node(address) => {
                    let Some(node) = self.node(address, above) else { return false };
                    place = address.plus(slots + node.slot * LINK_BYTES);
                    above = Some(node);
                }
                XaSlot::Entry(_) | XaSlot::Empty => {
                    let Some(node) = above.filter(|_| is_missing) else { return false };
                    let is_in_tree = node.is_linked && !node.is_root;
                    let is_proof = is_in_tree || self.has_relatives(node.shift);
                    self.evidence.is_reserved = is_in_tree && self.is_reserved(&node);
                    return is_proof && self.lack_number(place, node.shift);
                }
            }
        }
        false
    }

    /// The node at an address, below another one.
    ///
    /// One that has been freed keeps its place, but counts no used slot (`delete_node`,
    /// lib/radix-tree.c).
    fn node(&mut self, address: KernelVa, above: Option<PidTreeNode>) -> Option<PidTreeNode> {
        let Kernel { layouts, roots, .. } = self.memory.kernel;
        let layout = &layouts.xa_node_tree;
        let view = self.memory.read_one(self.reader, address, &layout.packing)?;
        let shift = view.unsigned(layout.shift);
        if shift >= 64 || above.is_some_and(|above| above.shift != shift + NODE_BITS) {
            return None;
        }
        // Its first field is the tree itself (`idr_rt`, include/linux/idr.h).
        let tree = roots.init_pid_ns.plus(layouts.pid_namespace.idr.offset.into());
        let parent = view.optional(layout.parent);
        let is_at_its_place = match above {
            None => parent == Some(0),
            Some(above) => {
                above.is_linked
                    && parent == Some(above.address.0)
                    && view.optional(layout.offset) == Some(above.slot)
            }
        };
        let is_used = view.unsigned(layout.count) > 0;
        let is_linked = is_at_its_place && is_used && view.optional(layout.array) == Some(tree.0);
        let slot = u64::from(self.task.pid) >> shift & u64::from(NODE_SLOTS - 1);
        Some(PidTreeNode { address, shift, slot, is_root: above.is_none(), is_linked })
    }

    /// Whether the number of a leaf's empty slot is in use. `idr_remove` frees it before it clears
    /// the slot (lib/radix-tree.c). A node that is freed has no tags any more, so all of it must be
    /// in one page.
    fn is_reserved(&mut self, node: &PidTreeNode) -> bool {
        let Some(tags) = self.memory.kernel.layouts.xa_node_tree.tags else { return false };
        let place = node.address.plus(tags.offset.into());
        node.shift == 0
            && self.page(place) == self.page(node.address)
            && self.word(place).is_some_and(|tags| !xarray::is_free(tags, node.slot as u32))
    }

    /// Notes a slot that lacks the number. The slots of later processes in the same node show when
    /// that was copied: a process enters the IDR before it gets its start (`copy_process`,
    /// kernel/fork.c).
    fn lack_number(&mut self, place: KernelVa, shift: u64) -> bool {
        if let Some(page) = self.page(place).filter(|_| shift == 0) {
            let number = self.task.pid;
            let first = place.minus(u64::from(number % NODE_SLOTS) * LINK_BYTES);
            let threads = self.threads;
            let near = threads.iter().map(|row| &row.task);
            let near = near.filter(|task| task.pid / NODE_SLOTS == number / NODE_SLOTS);
            for task in near.take(NODE_SLOTS as usize) {
                let word = self.word(first.plus(u64::from(task.pid % NODE_SLOTS) * LINK_BYTES));
                if word.map(xarray::slot) == Some(XaSlot::Entry(task.thread_pid)) {
                    let after = task.start_boottime.saturating_sub(FORK_MAX_NS);
                    let before = self.evidence.lacked_after;
                    self.evidence.lacked_after = before.max(Some((page, after)));
                }
            }
        }
        self.lack(place)
    }

    /// Whether the IDR shows another living process whose number is below the same node.
    fn has_relatives(&self, shift: u64) -> bool {
        let part = |pid: u32| u64::from(pid) >> shift >> NODE_BITS;
        self.threads.iter().any(|row| {
            let is_near = part(row.task.pid) == part(self.task.pid);
            is_near && row.views & view::IDR != 0 && row.task.address != self.task.address
        })
    }

    /// Whether other processes have the number as their process group or session: it stays in the
    /// IDR until the last of them has ended (`__change_pid`, kernel/pid.c).
    fn has_group_members(&mut self, pid: KernelVa) -> bool {
        [PIDTYPE_PGID, PIDTYPE_SID].into_iter().any(|kind| {
            let list = self.list_of_pid(pid, kind);
            match self.word(list.head) {
                Some(0) => false,
                Some(first) if first == list.own.0 => self.word(list.own) != Some(0),
                _ => true,
            }
        })
    }

    /// The list of a `struct pid` with the processes that have its number as this `enum pid_type`.
    fn list_of_pid(&self, pid: KernelVa, kind: usize) -> ListOfPid {
        let heads = pid.plus(self.memory.kernel.layouts.pid.tasks.offset.into());
        ListOfPid { head: heads.plus(kind as u64 * LINK_BYTES), own: self.link_of_pid(kind) }
    }

    /// Where the process's own link (a `struct hlist_node`) in such a list is.
    pub(super) fn link_of_pid(&self, kind: usize) -> KernelVa {
        let links =
            self.task.address.plus(self.memory.kernel.layouts.task_struct.pid_links.offset.into());
        links.plus(kind as u64 * 2 * LINK_BYTES)
    }

    /// Notes the `struct pid`. Returns whether it leads to another task or to none.
    pub(super) fn look_at_pid(&mut self, process: &ProcessRow) -> bool {
        let layouts = &self.memory.kernel.layouts;
        let pid = self.task.thread_pid;
        let list = self.list_of_pid(pid, PIDTYPE_PID);
        let number = pid.plus(layouts.pid.numbers.offset.into());
        let number = number.plus(layouts.upid.nr.offset.into());
        // Its memory may be another's by now, or a page of zeros.
        let is_own = self.word(number).is_some_and(|word| word as u32 == self.task.pid);
        match process.first_of_pid {
            Some(first) if first == list.own => {
                if is_own {
                    self.show(list.head);
                }
                false
            }
            Some(_) if is_own && process.missing.has(view::PID_LIST) => {
                self.evidence.is_contradicted = self.leads_by_another_list(pid);
                self.lack(list.head)
            }
            _ => false,
        }
    }

    /// Whether the lists of a `struct pid` begin with the process, but for the first one. The
    /// kernel changes all of them under one lock (`copy_process`, kernel/fork.c;
    /// `__unhash_process`, kernel/exit.c), and they lie side by side in one page.
    fn leads_by_another_list(&mut self, pid: KernelVa) -> bool {
        [PIDTYPE_TGID, PIDTYPE_PGID, PIDTYPE_SID].into_iter().any(|kind| {
            let list = self.list_of_pid(pid, kind);
            self.word(list.head) == Some(list.own.0)
        })
    }
}
