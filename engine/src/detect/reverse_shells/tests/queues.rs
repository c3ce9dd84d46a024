//! Relays by System V message queues, and daemons that use queues for jobs.

use panoptes_decoders::kernel::msg_queue::IpcMessageQueue;

use super::mappings::{apart, assert_silent};
use super::*;
use crate::walk::QueueRow;

/// The last message of a System V message queue.
#[derive(Clone, Copy)]
pub(super) struct Message {
    queue: u32,
    sender: u32,
    receiver: u32,
    /// When it was sent and received, in seconds.
    time: u32,
    /// When one was last received, if that was another time.
    received: Option<u32>,
}

/// Adds the queues of messages to a scan.
pub(super) fn put_queues(snapshot: &mut Snapshot, messages: &[Message]) {
    for message in messages {
        let index = |pid| {
            snapshot.processes.indexes().find(|&at| {
                let leader = snapshot.leader(&snapshot.processes[at]);
                leader.is_some_and(|leader| leader.task.tgid == pid)
            })
        };
        let row = QueueRow {
            address: KernelVa(0xffff_8896_0000_0000 + u64::from(message.queue) * 0x100),
            queue: IpcMessageQueue {
                id: message.queue,
                sent: message.time,
                received: message.received.unwrap_or(message.time),
                ..IpcMessageQueue::default()
            },
            sender: index(message.sender),
            receiver: index(message.receiver),
        };
        snapshot.queues.push(row);
    }
}

const fn message(queue: u32, sender: u32, receiver: u32) -> Message {
    Message { queue, sender, receiver, time: 1, received: None }
}

/// Two programs apart, with a queue for each direction.
fn queued() -> Machine {
    Machine { messages: vec![message(1, 20, 21), message(2, 21, 20)], ..apart() }
}

const QUEUED: &str = "Outbound 40000: 20,21,22 in 20>21>22 out 22>21>20";

#[test]
fn a_shell_behind_two_queues_is_reported() {
    let mut watch = Watch::new();
    assert_eq!(watch.settle(&queued()), [QUEUED]);
    assert_eq!(watch.settle(&queued()), [""; 0], "once");
    assert_silent(&apart(), "they use no queue");
}

#[test]
fn each_direction_needs_a_sender_and_a_receiver() {
    for messages in [
        vec![message(1, 20, 21)],
        vec![message(2, 21, 20)],
        vec![message(1, 20, 21), message(2, 20, 21)],
        vec![message(1, 20, 20), message(2, 21, 21)],
        vec![message(1, 20, 30), message(2, 30, 20)],
    ] {
        assert_silent(&Machine { messages, ..apart() }, "nothing goes one of the ways");
    }
}

/// One queue has messages of two types; each scan shows the last one.
#[test]
fn the_users_of_one_queue_are_remembered() {
    let mut watch = Watch::new();
    let mut machine = apart();
    let mut findings = Vec::new();
    for time in 1..20 {
        let message = if time % 2 == 0 { message(1, 20, 21) } else { message(1, 21, 20) };
        machine.messages = vec![Message { time, ..message }];
        let found = watch.scan(&machine);
        assert!(found.is_empty() || time > 2, "one message goes one way");
        findings.extend(found);
    }
    assert_eq!(findings, [QUEUED]);
}

/// A light scan shows no queue, and removes none.
#[test]
fn light_scans_forget_no_queue() {
    let mut watch = Watch::new();
    let mut machine = apart();
    let mut findings = Vec::new();
    for time in 1..60 {
        // What waits for a scan that shows all gets two consecutive ones.
        let is_light = time % 5 > 1;
        watch.snapshot.is_light = is_light;
        let message = if time % 5 == 0 { message(1, 20, 21) } else { message(1, 21, 20) };
        machine.messages = if is_light { vec![] } else { vec![Message { time, ..message }] };
        findings.extend(watch.scan(&machine));
    }
    assert_eq!(findings, [QUEUED]);
}

#[test]
fn a_queue_that_is_gone_carries_nothing() {
    let mut watch = Watch::new();
    let mut machine = apart();
    machine.messages = vec![message(1, 20, 21)];
    assert_eq!(watch.settle(&machine), [""; 0]);
    machine.messages.clear();
    for _ in 0..100 {
        assert_eq!(watch.scan(&machine), [""; 0]);
    }
    machine.messages = vec![message(2, 21, 20)];
    assert_eq!(watch.settle(&machine), [""; 0]);
}

#[test]
fn a_peer_that_sent_nothing_or_was_accepted_commands_nobody_over_queues() {
    assert_silent(&Machine { received: 0, ..queued() }, "the peer has sent nothing");
    let mut machine = queued();
    machine.listener(40000);
    assert_silent(&machine, "it was accepted");
}

/// A worker of a job queue, whose daemon has a connection to its server.
#[test]
fn a_shell_that_runs_a_job_from_a_queue_raises_no_alert() {
    let mut machine = queued();
    for line in ["sh\0-c\0backup\0", "sh\0/srv/backup.sh\0"] {
        machine.world.process(22).arguments = line.as_bytes().to_vec();
        assert_silent(&machine, line);
    }
}

#[test]
fn a_daemon_that_listens_raises_no_alert() {
    for pid in [20, 21] {
        let mut machine = queued();
        machine.listen(pid, 9000);
        assert_silent(&machine, "it listens");
    }
}

/// Clients of a daemon have one queue for what they ask.
#[test]
fn queues_of_many_processes_raise_no_alert() {
    let with = |others: u32| {
        let mut watch = Watch::new();
        let mut machine = queued();
        for pid in 30..30 + others {
            machine.run(pid, "client", "./client", &[]);
        }
        let mut findings = Vec::new();
        for time in 1..12 {
            // The clients come first: each queue has its users only after some scans.
            let sender = if time <= others { 29 + time } else { 20 };
            let first = Message { time, ..message(1, sender, 21) };
            machine.messages = vec![first, Message { time, ..message(2, 21, 20) }];
            findings.extend(watch.scan(&machine));
        }
        findings
    };
    assert_eq!(with(2), [QUEUED], "four are few");
    assert_eq!(with(3), [""; 0], "five use it");
}

#[test]
fn processes_that_use_many_queues_serve_others() {
    let with = |queues: u32| {
        let mut machine = queued();
        machine.messages.extend((3..3 + queues).map(|queue| message(queue, 21, 21)));
        Watch::new().settle(&machine)
    };
    assert_eq!(with(2), [QUEUED]);
    assert_eq!(with(3), [""; 0]);
}

/// A path leads over queues and memory once.
#[test]
fn a_queue_behind_memory_carries_nothing() {
    let mut machine = queued();
    machine.run(23, "middle", "./middle", &[]);
    let files = mappings::memory(&mut machine, 4096);
    mappings::map(&mut machine, 20, &files[0], mappings::SHARED);
    mappings::map(&mut machine, 23, &files[1], mappings::SHARED);
    machine.messages = vec![message(1, 23, 21), message(2, 21, 23)];
    assert_silent(&machine, "two successive links");
}

/// A user who fills the memory of queues leaves room for those of others.
#[test]
fn many_queues_of_one_user_are_counted_and_hide_no_relay() {
    let mut machine = queued();
    for pid in 100..200 {
        machine.run(pid, "hog", "./hog", &[]);
        machine.world.process(pid).uid = 1000;
        machine.messages.insert(0, message(pid, pid, pid));
    }
    let mut watch = Watch::new();
    assert_eq!(watch.settle(&machine), [QUEUED]);
    assert!(watch.shells.unchecked().missed() > 0, "what was left is counted");
}

/// A watch that has seen a message from 20 to 21, and what follows.
struct Followed {
    watch: Watch,
    machine: Machine,
}

impl Followed {
    fn new() -> Self {
        let (mut watch, machine) = (Watch::new(), queued());
        assert_eq!(watch.settle(&machine), [QUEUED]);
        Self { watch, machine }
    }

    /// A scan that shows the last message of the queue, sent and received then; returns whether it
    /// is sure that messages of 20 come to 21.
    fn is_sure(&mut self, sender: u32, receiver: u32, [sent, received]: [u32; 2]) -> bool {
        self.machine.messages[0] =
            Message { time: sent, received: Some(received), ..message(1, sender, receiver) };
        self.watch.scan(&self.machine);
        let table = |pid| self.watch.snapshot.process_by_pid(pid).unwrap().files.unwrap();
        let queue = graph::QueueEnd { slot: 0, id: 1 };
        self.watch.shells.graph.is_queue_sure(queue, table(20), table(21))
    }
}

/// The first scan shows a message of any age, and one more may be chance.
#[test]
fn two_scans_with_new_messages_make_a_queue_sure() {
    let mut followed = Followed::new();
    assert!(!followed.is_sure(20, 21, [1, 1]));
    assert!(!followed.is_sure(20, 21, [2, 2]));
    assert!(!followed.is_sure(20, 21, [2, 2]), "the same one");
    assert!(followed.is_sure(20, 21, [3, 3]));
}

/// Each end counts by its own time: what one sends may be for others.
#[test]
fn a_queue_is_sure_only_if_messages_were_sent_and_received() {
    let mut followed = Followed::new();
    for time in 2..9 {
        assert!(!followed.is_sure(20, 21, [time, 1]), "21 has received none");
    }
    let mut followed = Followed::new();
    for time in 2..9 {
        assert!(!followed.is_sure(20, 21, [1, time]), "20 has sent none");
    }
    // The last message waits: what was received is older.
    let mut followed = Followed::new();
    for time in 2..9 {
        assert!(!followed.is_sure(20, 21, [2 * time, 2 * time - 1]), "none of 20 came to it");
    }
    // A message waits in one scan and has come in the next.
    let mut followed = Followed::new();
    let times = [[4, 1], [4, 5], [6, 5], [6, 7]];
    let are_sure = times.map(|times| followed.is_sure(20, 21, times));
    assert_eq!(are_sure, [false, false, false, true]);
    // One message was sent, and further ones of before come.
    let mut followed = Followed::new();
    assert!((2..9).all(|time| !followed.is_sure(20, 21, [2, time])));
}

/// Two pairs of processes have one queue.
#[test]
fn messages_between_others_do_not_make_a_queue_sure() {
    let mut followed = Followed::new();
    for pid in [30, 31] {
        followed.machine.run(pid, "other", "./other", &[]);
    }
    for time in 1..9 {
        assert!(!followed.is_sure(20, 30, [4 * time, 4 * time]));
        assert!(!followed.is_sure(31, 21, [4 * time + 2, 4 * time + 2]));
    }
}

/// The places of users change when one ends.
#[test]
fn a_user_that_ends_takes_only_its_own_messages_along() {
    let mut followed = Followed::new();
    followed.machine.run(30, "other", "./other", &[]);
    followed.machine.run(31, "other", "./other", &[]);
    assert!(!followed.is_sure(30, 21, [2, 2]));
    assert!(!followed.is_sure(31, 21, [3, 3]));
    assert!(!followed.is_sure(31, 21, [4, 4]));
    assert!(!followed.is_sure(20, 21, [5, 5]));
    assert!(followed.is_sure(20, 21, [6, 6]));
    followed.machine.world.processes.retain(|it| it.pid != 30);
    assert!(followed.is_sure(20, 21, [6, 6]));
}

/// One queue has messages of both directions; each scan shows the last one.
#[test]
fn a_queue_for_both_directions_is_sure_after_two_new_messages_of_one() {
    let mut followed = Followed::new();
    assert!(!followed.is_sure(21, 20, [2, 2]));
    assert!(!followed.is_sure(20, 21, [3, 3]));
    assert!(followed.is_sure(21, 20, [4, 4]));
}
