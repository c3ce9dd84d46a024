//! System V message queues: which process sent to each last, and which received from it last.
//!
//! No descriptor and no mapping leads to them. The IPC namespaces of all processes have them, in
//! IDRs. A machine may have more of them than a scan reads. Then each scan reads others, chosen by
//! chance, so that nobody's queues keep those of others unread for long.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::early_stop::EarlyStop;
use panoptes_decoders::kernel::msg_queue::{IpcMessageQueue, QUEUE_TREE_DEPTH_MAX};
use panoptes_decoders::kernel::xarray::{self, XaSlot};
use panoptes_decoders::layout::View;
use panoptes_tables::room;

use super::losses::WalkedStructure;
use super::ring_rows::{QUEUES_MAX, QueueRow};
use super::snapshot::{Index, ProcessRow};
use super::tables::Snapshot;
use super::{Losses, ScannedMemory, WalkScratch, Walker, fetch};

/// Maximum number of IPC namespaces that are remembered within one scan.
const NAMESPACES_SEEN_MAX: usize = 4096;
/// Maximum number of IPC namespaces whose queues one scan reads.
const NAMESPACES_MAX: usize = 256;
/// Maximum number of nodes of one level of their trees that one scan reads.
const NODES_MAX: usize = 32;
/// Maximum number of queues that one scan reads. Most have no row: their last users have ended.
const READS_MAX: usize = 2048;
/// Number of rows for which there must be room: those of fewer queues need too many batches.
const ROOM_MIN: usize = 64;
/// Maximum number of queues that one scan lists: those of all levels, and of namespaces with one.
pub(super) const LISTED_MAX: usize = QUEUE_TREE_DEPTH_MAX as usize * READS_MAX + NAMESPACES_MAX;
/// Number of scans in which about all of them must be read: otherwise it is a gap.
const ALL_QUEUES_SCANS: usize = 64;
const _: () = {
    assert!(NAMESPACES_MAX <= NAMESPACES_SEEN_MAX, "each namespace that is read is known");
    assert!(ROOM_MIN <= QUEUES_MAX && QUEUES_MAX <= READS_MAX, "each row was read");
};

/// Purposes of [`Walker::chance`] beside the levels of trees. Else the turns of one may follow
/// those of another.
const NAMESPACES: u32 = QUEUE_TREE_DEPTH_MAX;
const QUEUES: u32 = QUEUE_TREE_DEPTH_MAX + 1;

/// The IPC namespaces that a scan has met.
#[derive(Debug)]
pub(super) struct IpcNamespaces {
    /// That of the oldest process comes first. Each may be there several times.
    list: Vec<KernelVa>,
    /// Whether there were more than fit.
    are_more: bool,
}

impl IpcNamespaces {
    pub(super) fn new() -> Self {
        Self { list: room::list(NAMESPACES_SEEN_MAX), are_more: false }
    }

    pub(super) fn clear(&mut self) {
        self.list.clear();
        self.are_more = false;
    }

    /// Adds the namespace of a process.
    pub(super) fn add(&mut self, address: KernelVa) {
        if !address.is_plausible() || self.list.last() == Some(&address) {
            return;
        }
        if self.list.len() == self.list.capacity() && !self.are_more {
            self.remove_repetitions();
        }
        if self.list.len() < self.list.capacity() {
            self.list.push(address);
        } else {
            self.are_more = true;
        }
    }

    fn remove_repetitions(&mut self) {
        let Some((&mut first, others)) = self.list.split_first_mut() else { return };
        others.sort_unstable();
        self.list.dedup();
        let mut at = 0;
        self.list.retain(|&address| {
            at += 1;
            at == 1 || address != first
        });
    }
}

impl Walker {
    /// Reads the message queues of all IPC namespaces.
    pub(super) fn read_queues(&mut self, memory: &mut ScannedMemory<'_>) {
        if self.list_ipc_namespaces(memory).is_none() {
            return;
        }
        self.read_queue_roots(memory);
        for level in 0..QUEUE_TREE_DEPTH_MAX {
            self.read_queue_nodes(memory, level);
        }
        if !self.scratch.more.is_empty() {
            let stop = EarlyStop::TooLong { limit: QUEUE_TREE_DEPTH_MAX };
            self.snapshot.losses.stop(WalkedStructure::QueueTree, stop);
        }
        self.read_queue_rows(memory);
    }

    /// A number by chance for each scan and purpose.
    fn chance(&self, purpose: u32) -> u64 {
        self.net_key.hash_numbers([self.scans, purpose.into()])
    }

    /// Lists where each namespace has its queues. `None` if there is none, or if the kernel's
    /// queues are unknown.
    fn list_ipc_namespaces(&mut self, memory: &ScannedMemory<'_>) -> Option<()> {
        let layouts = &memory.kernel.layouts;
        let chance = self.chance(NAMESPACES);
        let WalkScratch { ipc_namespaces, addresses, .. } = &mut self.scratch;
        let (namespace, ids) = layouts.ipc_namespace.zip(layouts.ipc_ids)?;
        ipc_namespaces.remove_repetitions();
        let of_queues = |&address: &KernelVa| namespace.queues_of(address, &ids);
        addresses.clear();
        addresses.extend(ipc_namespaces.list.iter().map(of_queues));
        let (_, others) = addresses.split_first_mut()?;
        let too_many = EarlyStop::TooLong { limit: NAMESPACES_SEEN_MAX as u32 };
        let stop = turn(others, NAMESPACES_MAX - 1, chance);
        let stop = stop.or(ipc_namespaces.are_more.then_some(too_many));
        addresses.truncate(NAMESPACES_MAX);
        self.snapshot.losses.stop_queues(stop);
        Some(())
    }

    /// Lists the roots of the trees of the namespaces that have queues.
    fn read_queue_roots(&mut self, memory: &mut ScannedMemory<'_>) {
        let WalkScratch { addresses, more, queues, .. } = &mut self.scratch;
        more.clear();
        queues.clear();
        let Some(layout) = &memory.kernel.layouts.ipc_ids else { return };
        let losses = &mut self.snapshot.losses;
        fetch(&mut self.reader, memory, &layout.packing, addresses, |at, bytes| {
            let Some(view) = bytes.map(View::new) else {
                losses.miss(WalkedStructure::MessageQueues, addresses[at]);
                return;
            };
            if view.unsigned(layout.in_use) != 0 {
                list_slot(xarray::slot(view.unsigned(layout.xa_head)), more, queues);
            }
        });
    }

    /// Reads the nodes of one level of the trees.
    fn read_queue_nodes(&mut self, memory: &mut ScannedMemory<'_>, level: u32) {
        let chance = self.chance(level);
        let Self { reader, snapshot: Snapshot { losses, .. }, scratch, .. } = self;
        let WalkScratch { addresses, more, queues, .. } = scratch;
        core::mem::swap(addresses, more);
        more.clear();
        if addresses.is_empty() {
            return;
        }
        losses.stop_queues(turn(addresses, NODES_MAX, chance));
        addresses.truncate(NODES_MAX);
        let layout = &memory.kernel.layouts.xa_node;
        fetch(reader, memory, &layout.packing, addresses, |at, bytes| match bytes {
            Some(bytes) => {
                xarray::for_each_slot(layout, bytes, |_, slot| list_slot(slot, more, queues));
            }
            None => losses.miss(WalkedStructure::MessageQueues, addresses[at]),
        });
    }

    /// Adds a row for each queue whose last users live, until little room is left. The others take
    /// none: processes that end at once leave as many of them as they like.
    fn read_queue_rows(&mut self, memory: &mut ScannedMemory<'_>) {
        let chance = self.chance(QUEUES);
        let mut queues = core::mem::take(&mut self.scratch.queues);
        self.snapshot.losses.stop_queues(turn(&mut queues, QUEUES_MAX, chance));
        queues.truncate(READS_MAX);
        let mut left = queues.as_slice();
        while !left.is_empty() {
            let room = self.snapshot.queues.room();
            if room < ROOM_MIN {
                break;
            }
            let (next, rest) = left.split_at(room.min(left.len()));
            self.read_queues_at(memory, next);
            left = rest;
        }
        self.scratch.queues = queues;
    }

    /// Adds a row for each of these queues that was used, and whose last users live.
    fn read_queues_at(&mut self, memory: &mut ScannedMemory<'_>, queues: &[KernelVa]) {
        let Some(layout) = memory.kernel.layouts.msg_queue.as_ref() else { return };
        let Self { reader, snapshot: Snapshot { queues: rows, losses, .. }, .. } = self;
        let first = rows.len();
        fetch(reader, memory, &layout.packing, queues, |at, bytes| {
            let Some(bytes) = bytes else {
                losses.miss(WalkedStructure::MessageQueues, queues[at]);
                return;
            };
            if let Some(queue) = IpcMessageQueue::decode(layout, bytes) {
                rows.push(QueueRow { address: queues[at], queue, ..QueueRow::default() });
            }
        });
        self.find_queue_users(memory, first);
    }

    /// Finds the processes that used the queues from the row `first` on last. Those that have ended
    /// are none.
    fn find_queue_users(&mut self, memory: &mut ScannedMemory<'_>, first: usize) {
        let layouts = &memory.kernel.layouts;
        let Self { reader, snapshot, scratch, .. } = self;
        let WalkScratch { addresses, more: pids, .. } = scratch;
        pids.clear();
        let new = snapshot.queues.iter().skip(first);
        pids.extend(new.flat_map(|row| [row.queue.sender, row.queue.receiver]));
        // The number in the first pid namespace.
        addresses.clear();
        addresses.extend(pids.iter().map(|pid| pid.plus(layouts.pid.numbers.offset.into())));
        let mut number_of = [None; 2];
        fetch(reader, memory, &layouts.upid.packing, addresses, |at, bytes| {
            let number = bytes.map(|bytes| View::new(bytes).unsigned(layouts.upid.nr) as u32);
            number_of[at % 2] = number.and_then(|number| process_of(snapshot, number, pids[at]));
            let row = snapshot.queues.as_mut_slice().get_mut(first + at / 2);
            if let Some(row) = row.filter(|_| at % 2 == 1) {
                [row.sender, row.receiver] = number_of;
            }
        });
        snapshot.queues.retain(|row| row.sender.is_some() || row.receiver.is_some());
    }
}

/// The process with this process id, if this is its `struct pid`.
fn process_of(snapshot: &Snapshot, id: u32, pid: KernelVa) -> Option<Index<ProcessRow>> {
    let process = snapshot.index_by_pid(id)?;
    let leader = snapshot.leader(&snapshot.processes[process])?;
    (leader.task.thread_pid == pid).then_some(process)
}

fn list_slot(slot: XaSlot, nodes: &mut Vec<KernelVa>, queues: &mut Vec<KernelVa>) {
    let (list, address) = match slot {
        XaSlot::Empty => return,
        XaSlot::Node(node) => (nodes, node),
        XaSlot::Entry(entry) => (queues, entry),
    };
    if list.len() < list.capacity() {
        list.push(address);
    }
}

/// Brings others to the begin of a list, of which only the first `most` are read. Returns the
/// reason if too many scans are needed for all of them.
fn turn(list: &mut [KernelVa], most: usize, chance: u64) -> Option<EarlyStop> {
    if list.len() > most {
        list.rotate_left((chance % list.len() as u64) as usize);
    }
    let limit = most.saturating_mul(ALL_QUEUES_SCANS);
    (list.len() > limit).then_some(EarlyStop::TooLong { limit: limit as u32 })
}

impl Losses {
    /// Counts a list of queues, of their nodes or namespaces that is too long.
    fn stop_queues(&mut self, stop: Option<EarlyStop>) {
        if let Some(stop) = stop {
            self.stop(WalkedStructure::MessageQueues, stop);
        }
    }
}

#[cfg(test)]
mod tests;
