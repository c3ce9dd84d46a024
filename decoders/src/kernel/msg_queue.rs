//! `struct msg_queue` (ipc/msg.c) and what leads to it: `struct ipc_namespace`
//! (include/linux/ipc_namespace.h) and `struct ipc_ids` (ipc/util.h).
//!
//! A namespace has an array of `struct ipc_ids`, one for each kind of object. Each has an IDR with
//! a `struct kern_ipc_perm *` an object. Of a message queue, that is the first member
//! (`q_perm`, include/linux/msg.h before v4.16, ipc/msg.c since).

use crate::address::KernelVa;
use crate::layout::View;

crate::layout! {
    /// `struct ipc_namespace`.
    pub struct IpcNamespace("ipc_namespace") {
        /// `struct ipc_ids` of semaphores, message queues and shared memory.
        ids: ["ids"],
    }
}

crate::layout! {
    /// `struct ipc_ids`.
    pub struct IpcIds("ipc_ids") {
        /// Number of its objects.
        in_use: ["in_use"],
        /// The tree's root pointer. Its indexes are below 2^24 (`IPCMNI_EXTEND_SHIFT`).
        xa_head: ["ipcs_idr.idr_rt.xa_head"],
    }
}

crate::layout! {
    /// `struct msg_queue`.
    pub struct MsgQueue("msg_queue") {
        /// The number that users have, which no other queue gets soon: it includes a sequence
        /// number.
        id: ["q_perm.id"],
        /// Whether the queue is being removed.
        deleted: ["q_perm.deleted"],
        /// When a message was last sent, in seconds; 0 if none was.
        q_stime: ["q_stime"],
        /// When one was last received.
        q_rtime: ["q_rtime"],
        /// `struct pid *` of the process that sent last. Before Linux commit 39a4940eaa18 ("ipc:
        /// pass pid *structs* through ipc system calls") (in v4.17), it was a number.
        q_lspid: ["q_lspid"],
        /// The same of that which received last.
        q_lrpid: ["q_lrpid"],
    }
}

/// Place of message queues among the `struct ipc_ids` of a namespace (`IPC_MSG_IDS`, ipc/util.h).
const MSG_IDS: u64 = 1;

/// Maximum depth of the tree of queues: 24 bits, 6 bits a level.
pub const QUEUE_TREE_DEPTH_MAX: u32 = 4;

impl IpcNamespace {
    /// The `struct ipc_ids` of message queues of the namespace at an address.
    pub fn queues_of(&self, namespace: KernelVa, ids: &IpcIds) -> KernelVa {
        namespace.plus(u64::from(self.ids.offset) + MSG_IDS * u64::from(ids.size))
    }
}

/// A message queue, and who used it last.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct IpcMessageQueue {
    pub id: u32,
    /// `struct pid *` of the process that sent last; null if none has.
    pub sender: KernelVa,
    pub receiver: KernelVa,
    /// When a message was last sent, in seconds; its lowest 32 bits.
    pub sent: u32,
    pub received: u32,
}

impl IpcMessageQueue {
    /// Decodes a packed copy; `None` for a queue that is being removed, or that only one process
    /// at most has used.
    pub fn decode(layout: &MsgQueue, bytes: &[u8]) -> Option<Self> {
        let view = View::new(bytes);
        let (sent, received) = (view.unsigned(layout.q_stime), view.unsigned(layout.q_rtime));
        let queue = Self {
            id: view.unsigned(layout.id) as u32,
            sender: view.pointer(layout.q_lspid),
            receiver: view.pointer(layout.q_lrpid),
            sent: sent as u32,
            received: received as u32,
        };
        let is_used = sent != 0 && received != 0;
        let has_users = queue.sender.is_plausible() && queue.receiver.is_plausible();
        (is_used && has_users && view.unsigned(layout.deleted) == 0).then_some(queue)
    }
}
