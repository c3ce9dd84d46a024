//! A stream carries whole entries only, in their order, and each that was not dropped.

use std::path::Path;

use super::*;

/// A step of a stream's sender.
#[derive(Clone, Copy, Debug)]
enum StreamStep {
    Push {
        is_alert: bool,
        length: usize,
    },
    /// The socket takes so many bytes.
    Send(usize),
    /// The peer has so many of those bytes.
    Arrive(usize),
    Reconnect,
    /// The program ends and starts.
    Restart,
    /// The disk has no more room, or some again.
    Fill(bool),
}

fn stream_step() -> impl Strategy<Value = StreamStep> {
    let push = (any::<bool>(), length());
    prop_oneof![
        6 => push.prop_map(|(is_alert, length)| StreamStep::Push { is_alert, length }),
        4 => (0_usize..100_000).prop_map(StreamStep::Send),
        4 => (0_usize..100_000).prop_map(StreamStep::Arrive),
        1 => prop_oneof![
            Just(StreamStep::Reconnect),
            Just(StreamStep::Restart),
            any::<bool>().prop_map(StreamStep::Fill),
        ],
    ]
}

/// A receiver at the end of a stream.
#[derive(Debug, Default)]
struct Receiver {
    /// What was sent on this connection, and how much of it has arrived.
    stream: Vec<u8>,
    arrived: usize,
    /// Entries that arrived as a whole, over all connections.
    received: Vec<u64>,
    pushed: u64,
    /// The number of entries that backlogs dropped or lost before the last start.
    dropped_before: u64,
}

impl Receiver {
    /// Does a step, with a disk below a folder or without one.
    fn step(&mut self, backlog: &mut Backlog, step: StreamStep, disk: Option<(&Path, usize)>) {
        match step {
            // With room for what tells it apart.
            StreamStep::Push { is_alert, length } => {
                push(backlog, is_alert, length + 16);
                self.pushed += 1;
            }
            StreamStep::Send(bytes) => self.send(backlog, bytes),
            StreamStep::Arrive(bytes) => self.arrive(backlog, bytes),
            StreamStep::Reconnect => {
                self.end();
                backlog.rewind();
            }
            StreamStep::Restart => {
                let Some((folder, bytes)) = disk else { return };
                self.end();
                let lost = backlog.finish();
                self.dropped_before += lost as u64 + all(backlog.dropped());
                let waiting = backlog.waiting();
                *backlog = Backlog::new(0);
                *backlog = Backlog::open(0, folder, bytes).unwrap();
                assert_eq!(backlog.waiting().entries + lost, waiting.entries);
                // Sequences tell entries apart here, and nothing else does that.
                backlog.next_sequence = backlog.next_sequence.max(self.pushed);
            }
            StreamStep::Fill(is_full) => {
                if let Some(disk) = &mut backlog.disk {
                    disk.is_full = is_full;
                }
            }
        }
    }

    /// Takes everything that waits. Each entry has arrived or was dropped, and none twice.
    fn finish(mut self, backlog: &mut Backlog) {
        while backlog.waiting().entries > 0 {
            let arrived = self.arrived;
            self.send(backlog, 100_000);
            self.arrive(backlog, usize::MAX);
            assert!(self.arrived > arrived, "it is stuck");
        }
        assert_eq!(backlog.waiting(), BacklogSize::default());
        self.end();
        self.received.sort_unstable();
        let count = self.received.len();
        self.received.dedup();
        assert_eq!(count, self.received.len());
        let dropped = self.dropped_before + all(backlog.dropped());
        assert_eq!(count as u64 + dropped, self.pushed);
    }

    fn send(&mut self, backlog: &mut Backlog, room: usize) {
        let mut left = room;
        while let Some(entry) = backlog.peek() {
            let taken = left.min(entry.bytes.len());
            self.stream.extend_from_slice(&entry.bytes[..taken]);
            left -= taken;
            backlog.send(taken);
            if left == 0 {
                break;
            }
        }
    }

    fn arrive(&mut self, backlog: &mut Backlog, bytes: usize) {
        let bytes = bytes.min(self.stream.len() - self.arrived);
        self.arrived += bytes;
        backlog.confirm_bytes(bytes);
    }

    /// Splits what has arrived into entries: all are whole but the last one, and in order.
    fn end(&mut self) {
        let mut rest = &self.stream[..self.arrived];
        let mut before = None;
        while let Some((head, _)) = rest.split_first_chunk::<16>() {
            let (number, length) = head.split_at(8);
            let number = u64::from_le_bytes(number.try_into().unwrap());
            let length = u64::from_le_bytes(length.try_into().unwrap()) as usize;
            assert!(before.is_none_or(|before| before < number), "{before:?} {number}");
            before = Some(number);
            let Some((entry, after)) = rest.split_at_checked(length) else { break };
            assert_eq!(entry, content(number, length));
            self.received.push(number);
            rest = after;
        }
        (self.stream, self.arrived) = (Vec::new(), 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_stream_has_whole_entries_in_order_and_each_that_was_not_dropped(
        steps in proptest::collection::vec(stream_step(), 1..200),
    ) {
        let (mut backlog, mut receiver) = (Backlog::new(5 * BLOCK_BYTES), Receiver::default());
        for step in steps {
            receiver.step(&mut backlog, step, None);
        }
        receiver.finish(&mut backlog);
    }

    #[test]
    fn a_stream_has_each_entry_across_restarts_as_long_as_the_disk_has_room(
        steps in proptest::collection::vec(stream_step(), 1..300),
        disk_blocks in prop_oneof![10_usize..20, Just(1000)],
        may_fill in any::<bool>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let disk = (folder.path(), disk_blocks * BLOCK_BYTES);
        let mut backlog = Backlog::open(0, disk.0, disk.1).unwrap();
        let mut receiver = Receiver::default();
        for step in steps {
            if may_fill || !matches!(step, StreamStep::Fill(_)) {
                receiver.step(&mut backlog, step, Some(disk));
            }
            let files = std::fs::read_dir(disk.0).unwrap().count();
            prop_assert!(files <= disk_blocks, "{files} files");
            let BacklogDrops { full, damaged, .. } = backlog.dropped();
            prop_assert_eq!(damaged, 0);
            prop_assert!(full == 0 || may_fill || disk_blocks < 1000);
            prop_assert!(may_fill || backlog.take_error().is_none());
        }
        receiver.finish(&mut backlog);
        prop_assert_eq!(std::fs::read_dir(disk.0).unwrap().count(), 0);
    }
}
