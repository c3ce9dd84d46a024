//! System V message queues that processes use, over scans.
//!
//! A queue shows who sent to it last and who received from it last. One queue may carry both
//! directions, by types of messages; then both change with each message. So its users are
//! remembered.
//!
//! The kernel notes when a message was last sent and when one was last received, in seconds
//! (`q_stime` and `q_rtime`, ipc/msg.c). If both times are others than before, a message has come
//! from the last sender to the last receiver. The second time must not be before the first. What
//! the first scan shows may be of any age, and counts as a use alone.

use arrayvec::ArrayVec;
use panoptes_decoders::address::KernelVa;
use panoptes_tables::room;

use super::graph::{HISTORIES_MAX, QueueEnd, QueueUse, Senders, USERS_MAX};
use crate::state::process::ProcessKey;
use crate::walk::{Index, ProcessRow, QueueRow, Snapshot};

/// Number of scans with other queues after which a queue counts as removed.
const UNSEEN_MAX: u8 = 64;

/// The users of one queue.
#[derive(Clone, Debug)]
struct QueueHistory {
    /// `struct msg_queue *`
    address: KernelVa,
    id: u32,
    /// The owner of the process that was its first user ([`Snapshot::group_of`]).
    group: u64,
    /// When a message was last sent and received, in seconds.
    times: [u32; 2],
    /// Whether a message was sent since one was last seen to come.
    has_sent: bool,
    /// Number of scans since it was seen.
    unseen: u8,
    /// Whether there were more users than fit: it serves many.
    are_more: bool,
    users: ArrayVec<User, USERS_MAX>,
}

/// A process that uses a queue.
#[derive(Clone, Copy, Debug, Default)]
struct User {
    process: ProcessKey,
    /// Whether a scan has shown it as the last sender, and as the last receiver.
    sends: bool,
    receives: bool,
    senders: Senders,
}

/// The queues of one machine.
#[derive(Debug)]
pub(super) struct Queues(Vec<QueueHistory>);

impl Queues {
    pub(super) fn new() -> Self {
        Self(room::list(HISTORIES_MAX))
    }

    /// Adds what a scan shows. Returns a process whose queue is not remembered, if any.
    pub(super) fn update(&mut self, snapshot: &Snapshot) -> Option<u32> {
        // Light scans show no queues, and kept rows nothing new.
        if snapshot.is_light || snapshot.is_kept {
            return None;
        }
        for history in &mut self.0 {
            history.unseen = history.unseen.saturating_add(1);
            history.forget_ended(snapshot);
        }
        self.0.retain(|history| history.unseen <= UNSEEN_MAX && !history.users.is_empty());
        let mut refused = None;
        for row in snapshot.queues.iter() {
            if !self.add(snapshot, row) {
                let user = snapshot.processes.at(row.sender.or(row.receiver));
                let leader = user.and_then(|user| snapshot.leader(user));
                refused = refused.or(leader.map(|leader| leader.task.tgid));
            }
        }
        refused
    }

    /// Adds the users of a queue. Returns whether there was room.
    fn add(&mut self, snapshot: &Snapshot, row: &QueueRow) -> bool {
        let is_it = |it: &QueueHistory| (it.address, it.id) == (row.address, row.queue.id);
        let known = self.0.iter().position(is_it);
        let Some(at) = known.or_else(|| self.add_history(snapshot, row)) else { return false };
        let Some(history) = self.0.get_mut(at) else { return false };
        history.unseen = 0;
        history.add(snapshot, row, known.is_none());
        true
    }

    /// Adds a queue without users. If there is no room, one of the owner who has the most makes
    /// room, unless that is the queue's own.
    fn add_history(&mut self, snapshot: &Snapshot, row: &QueueRow) -> Option<usize> {
        let user = snapshot.processes.at(row.sender.or(row.receiver))?;
        let history = QueueHistory {
            address: row.address,
            id: row.queue.id,
            group: snapshot.group_of(user),
            times: [0; 2],
            has_sent: false,
            unseen: 0,
            are_more: false,
            users: ArrayVec::new(),
        };
        if self.0.len() < self.0.capacity() {
            self.0.push(history);
            return Some(self.0.len() - 1);
        }
        let count = |group: u64| self.0.iter().filter(|it| it.group == group).count();
        let most = self.0.iter().map(|it| it.group).max_by_key(|&group| count(group))?;
        if count(most) <= count(history.group) + 1 {
            return None;
        }
        let its = self.0.iter().enumerate().filter(|(_, it)| it.group == most);
        let (at, _) = its.max_by_key(|(_, it)| it.unseen)?;
        self.0[at] = history;
        Some(at)
    }

    /// The uses of queues by processes that serve few others, as ends in this scan's graph.
    pub(super) fn uses<'a>(
        &'a self,
        snapshot: &'a Snapshot,
    ) -> impl Iterator<Item = QueueUse> + 'a {
        let few = (0..).zip(&self.0).filter(|(_, history)| !history.are_more);
        few.flat_map(move |(slot, history)| {
            let queue = QueueEnd { slot, id: history.id };
            (0..).zip(&history.users).filter_map(move |(at, user)| {
                let process = snapshot.process_by_pid(user.process.process_id)?;
                let User { sends, receives, senders, .. } = *user;
                Some(QueueUse { queue, table: process.files?, user: at, sends, receives, senders })
            })
        })
    }
}

impl QueueHistory {
    /// Adds what a scan shows of it. `is_new`: it is the first one that does.
    fn add(&mut self, snapshot: &Snapshot, row: &QueueRow, is_new: bool) {
        let [sent, received] = [row.queue.sent, row.queue.received];
        let before = core::mem::replace(&mut self.times, [sent, received]);
        self.has_sent |= !is_new && before[0] != sent;
        let sender = self.user(snapshot, row.sender);
        let receiver = self.user(snapshot, row.receiver);
        let mut note = |at: Option<usize>, note: fn(&mut User)| {
            at.and_then(|at| self.users.get_mut(at)).map(note);
        };
        note(sender, |user| user.sends = true);
        note(receiver, |user| user.receives = true);
        let has_come = !is_new && self.has_sent && before[1] != received && received >= sent;
        // What a process sent after its own receipt is still to come to another one.
        if let (Some(sender), Some(receiver), true) =
            (sender, receiver, has_come && sender != receiver)
        {
            self.has_sent = false;
            self.users[receiver].senders.add(sender as u8);
        }
    }

    /// The place of a user of the queue, which is added if it is new.
    fn user(&mut self, snapshot: &Snapshot, process: Option<Index<ProcessRow>>) -> Option<usize> {
        let leader = snapshot.leader(snapshot.processes.at(process)?)?;
        let process = ProcessKey::of(&leader.task);
        let known = self.users.iter().position(|user| user.process == process);
        if known.is_none() && self.users.try_push(User { process, ..User::default() }).is_err() {
            self.are_more = true;
            return None;
        }
        known.or(Some(self.users.len() - 1))
    }

    /// Forgets the users that have ended.
    fn forget_ended(&mut self, snapshot: &Snapshot) {
        for at in (0..self.users.len()).rev() {
            if !has_process(snapshot, self.users[at].process) {
                self.users.remove(at);
                self.users.iter_mut().for_each(|user| user.senders.remove(at as u8));
            }
        }
    }
}

/// Whether a process lives.
fn has_process(snapshot: &Snapshot, key: ProcessKey) -> bool {
    let process = snapshot.process_by_pid(key.process_id);
    let leader = process.and_then(|process| snapshot.leader(process));
    leader.is_some_and(|leader| ProcessKey::of(&leader.task) == key)
}
