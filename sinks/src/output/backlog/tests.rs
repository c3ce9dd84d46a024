//! A backlog in memory behaves as a simple model of it does.

mod disk;
mod stream;

use proptest::prelude::*;

use super::*;

/// Entries of this length fill a quarter of a block.
const QUARTER: usize = BLOCK_BYTES / 4 - HEAD_BYTES;
const WHOLE: usize = BLOCK_BYTES - HEAD_BYTES;

/// What tells entries apart: their number, their length and bytes that follow from these.
fn content(number: u64, length: usize) -> Vec<u8> {
    let head = [number.to_le_bytes(), (length as u64).to_le_bytes()].concat();
    let mut content = head.repeat(length / head.len() + 1);
    content.truncate(length);
    content
}

fn push(backlog: &mut Backlog, is_alert: bool, length: usize) -> u64 {
    let number = backlog.next_sequence;
    let content = content(number, length);
    let (first, second) = content.split_at(length / 3);
    backlog.push(is_alert, 7 * number, &[first, second]);
    number
}

/// Sends the next entry, which must be whole.
fn send(backlog: &mut Backlog) -> Option<u64> {
    let BacklogEntry { sequence, stamp, bytes } = backlog.peek()?;
    assert_eq!(bytes, content(sequence, bytes.len()));
    assert_eq!(stamp, 7 * sequence);
    let length = bytes.len();
    backlog.send(length);
    Some(sequence)
}

fn send_all(backlog: &mut Backlog) -> Vec<u64> {
    std::iter::from_fn(|| send(backlog)).collect()
}

/// Takes everything out, as a receiver that confirms each entry.
fn drain(backlog: &mut Backlog) -> Vec<u64> {
    backlog.rewind();
    let mut all = Vec::new();
    while let Some(sequence) = send(backlog) {
        backlog.confirm(sequence);
        all.push(sequence);
    }
    assert_eq!(backlog.waiting(), BacklogSize::default());
    all
}

/// How many were dropped, without room for them alone.
fn dropped(backlog: &Backlog) -> u64 {
    let dropped = backlog.dropped();
    assert_eq!(dropped, BacklogDrops { full: dropped.full, ..BacklogDrops::default() });
    dropped.full
}

fn all(BacklogDrops { full, too_long, damaged }: BacklogDrops) -> u64 {
    full + too_long + damaged
}

#[test]
fn another_backlog_goes_on_with_what_waits() {
    let mut first = Backlog::new(1 << 20);
    for number in 0..40 {
        push(&mut first, number % 3 == 0, QUARTER);
    }
    // One has arrived, and a part of the next one is on its way.
    assert_eq!(send(&mut first), Some(0));
    first.confirm(0);
    first.send(10);
    let (waiting, mut larger) = (first.waiting(), Backlog::new(2 << 20));
    larger.take_over(first);
    assert_eq!((larger.waiting(), all(larger.dropped())), (waiting, 0));
    let mut numbers = Vec::new();
    while let Some(BacklogEntry { sequence, stamp, bytes }) = larger.peek() {
        assert_eq!(bytes, content(stamp / 7, QUARTER));
        numbers.push(stamp / 7);
        let length = bytes.len();
        larger.send(length);
        larger.confirm(sequence);
    }
    assert!(numbers.into_iter().eq(1..40));
}

#[test]
fn entries_leave_in_the_order_in_which_they_came() {
    let mut backlog = Backlog::new(0);
    for is_alert in [true, false, false, true, true, false] {
        push(&mut backlog, is_alert, 100);
    }
    assert_eq!(send_all(&mut backlog), [0, 1, 2, 3, 4, 5]);
    assert_eq!(backlog.waiting(), BacklogSize { entries: 6, bytes: 600 });
    backlog.confirm(2);
    assert_eq!(backlog.waiting(), BacklogSize { entries: 3, bytes: 300 });
    backlog.rewind();
    assert_eq!(send_all(&mut backlog), [3, 4, 5]);
    backlog.confirm(5);
    backlog.rewind();
    assert_eq!((backlog.peek(), backlog.waiting()), (None, BacklogSize::default()));
    assert_eq!(dropped(&backlog), 0);
}

#[test]
fn nothing_is_confirmed_that_was_not_sent() {
    let mut backlog = Backlog::new(0);
    push(&mut backlog, false, 100);
    push(&mut backlog, true, 100);
    push(&mut backlog, true, 100);
    send(&mut backlog);
    backlog.send(99);
    backlog.confirm(u64::MAX);
    assert_eq!(drain(&mut backlog), [1, 2]);
}

#[test]
fn bytes_confirm_an_entry_when_all_of_it_has_arrived() {
    let mut backlog = Backlog::new(0);
    for is_alert in [true, false, true] {
        push(&mut backlog, is_alert, 100);
    }
    let entries = |backlog: &Backlog| backlog.waiting().entries;
    backlog.send(60);
    backlog.confirm_bytes(60);
    assert_eq!(entries(&backlog), 3);
    let rest = backlog.peek().unwrap();
    assert_eq!((rest.sequence, rest.bytes), (0, &content(0, 100)[60..]));
    backlog.send(40);
    backlog.confirm_bytes(39);
    assert_eq!(entries(&backlog), 3);
    backlog.confirm_bytes(1);
    assert_eq!(entries(&backlog), 2);
    assert_eq!(send_all(&mut backlog), [1, 2]);
    backlog.confirm_bytes(199);
    assert_eq!(entries(&backlog), 1);
    // 99 bytes of the last one arrived, over a connection that is gone now.
    backlog.rewind();
    assert_eq!(send_all(&mut backlog), [2]);
    backlog.confirm_bytes(1);
    assert_eq!(entries(&backlog), 1);
    backlog.confirm_bytes(99);
    assert_eq!(entries(&backlog), 0);
}

#[test]
fn a_flood_of_other_entries_drops_the_oldest_of_them_and_no_alert() {
    let mut backlog = Backlog::new(4 * BLOCK_BYTES);
    push(&mut backlog, true, QUARTER);
    for _ in 0..100 {
        push(&mut backlog, false, QUARTER);
    }
    // Three blocks of four entries each, the last ones of 100.
    assert_eq!(dropped(&backlog), 88);
    assert_eq!(backlog.waiting(), BacklogSize { entries: 13, bytes: 13 * QUARTER });
    let kept: Vec<u64> = std::iter::once(0).chain(89..=100).collect();
    assert_eq!(drain(&mut backlog), kept);
}

#[test]
fn a_flood_of_alerts_drops_other_entries_first_and_then_the_oldest_alerts() {
    let mut backlog = Backlog::new(4 * BLOCK_BYTES);
    push(&mut backlog, false, QUARTER);
    for _ in 0..16 {
        push(&mut backlog, true, QUARTER);
    }
    assert_eq!(dropped(&backlog), 1);
    // Another entry drops no alert.
    push(&mut backlog, false, 1);
    assert_eq!(dropped(&backlog), 2);
    push(&mut backlog, true, QUARTER);
    assert_eq!(dropped(&backlog), 6);
    assert_eq!(drain(&mut backlog), (5..=16).chain([18]).collect::<Vec<_>>());
}

#[test]
fn what_is_in_flight_stays_in_half_of_the_blocks() {
    let mut backlog = Backlog::new(4 * BLOCK_BYTES);
    for _ in 0..16 {
        push(&mut backlog, false, QUARTER);
    }
    // One entry as a whole, and the first byte of the next one.
    send(&mut backlog);
    backlog.send(1);
    push(&mut backlog, false, QUARTER);
    // The block after the one in flight was dropped. A stream has the rest of the entry next.
    assert_eq!(dropped(&backlog), 4);
    assert_eq!(backlog.peek().unwrap().bytes, &content(1, QUARTER)[1..]);
    backlog.send(QUARTER - 1);
    assert_eq!(send_all(&mut backlog), [2, 3, 8, 9, 10, 11]);
    // However stuck the receiver is, an alert has room.
    for _ in 0..100 {
        push(&mut backlog, true, WHOLE);
    }
    backlog.confirm(0);
    assert_eq!(drain(&mut backlog), [1, 2, 3, 8, 9, 10, 11, 115, 116]);
}

#[test]
fn an_entry_behind_what_was_sent_is_sent_after_the_blocks_between_were_dropped() {
    let mut backlog = Backlog::new(4 * BLOCK_BYTES);
    push(&mut backlog, false, 3 * QUARTER);
    send(&mut backlog);
    for _ in 0..3 {
        push(&mut backlog, false, WHOLE);
    }
    // Three alerts take the other blocks.
    for _ in 0..3 {
        push(&mut backlog, true, WHOLE);
    }
    assert_eq!(dropped(&backlog), 3);
    let last = push(&mut backlog, false, 10);
    assert_eq!(drain(&mut backlog), [0, 4, 5, 6, last]);
}

#[test]
fn an_entry_that_fits_no_block_is_dropped_alone() {
    let mut backlog = Backlog::new(0);
    push(&mut backlog, false, WHOLE);
    push(&mut backlog, true, WHOLE + 1);
    assert_eq!(backlog.dropped(), BacklogDrops { too_long: 1, ..BacklogDrops::default() });
    assert_eq!(drain(&mut backlog), [0]);
}

/// What an entry is, and what has become of it.
#[derive(Clone, Copy, Debug)]
struct Known {
    sequence: u64,
    length: usize,
    is_sent: bool,
    is_confirmed: bool,
}

/// Entries in blocks, marked one by one, where a backlog has places.
#[derive(Debug)]
struct Model {
    /// The blocks of alerts, and those of other entries.
    chains: [Vec<Vec<Known>>; 2],
    blocks: usize,
    pushed: u64,
    dropped: BacklogDrops,
    confirmed: u64,
}

impl Model {
    fn new(blocks: usize) -> Self {
        let dropped = BacklogDrops::default();
        Self { chains: [vec![], vec![]], blocks, pushed: 0, dropped, confirmed: 0 }
    }

    fn push(&mut self, is_alert: bool, length: usize) {
        let (sequence, bytes) = (self.pushed, length + HEAD_BYTES);
        self.pushed += 1;
        if bytes > BLOCK_BYTES {
            self.dropped.too_long += 1;
            return;
        }
        let filled = |block: &Vec<Known>| -> usize {
            block.iter().map(|entry| entry.length + HEAD_BYTES).sum()
        };
        let chain = usize::from(!is_alert);
        if self.chains[chain].last().is_none_or(|last| filled(last) + bytes > BLOCK_BYTES) {
            if self.chains.iter().map(Vec::len).sum::<usize>() == self.blocks {
                self.drop_one(is_alert);
            }
            if self.chains.iter().map(Vec::len).sum::<usize>() == self.blocks {
                self.dropped.full += 1;
                return;
            }
            self.chains[chain].push(vec![]);
        }
        let entry = Known { sequence, length, is_sent: false, is_confirmed: false };
        self.chains[chain].last_mut().unwrap().push(entry);
    }

    fn drop_one(&mut self, is_alert: bool) {
        let others_first = if is_alert { &[1, 0][..] } else { &[1] };
        for &chain in others_first {
            let chain = &mut self.chains[chain];
            let free =
                |block: &Vec<Known>| block.iter().all(|one| !one.is_sent || one.is_confirmed);
            if let Some(oldest) = chain.iter().position(free) {
                let lost = chain.remove(oldest);
                let lost = lost.iter().filter(|entry| !entry.is_confirmed);
                self.dropped.full += lost.count() as u64;
                return;
            }
        }
    }

    fn in_flight(block: &[Known]) -> bool {
        block.iter().any(|entry| entry.is_sent && !entry.is_confirmed)
    }

    fn blocks(&mut self) -> impl Iterator<Item = &mut Vec<Known>> {
        self.chains.iter_mut().flatten()
    }

    /// The next entry to send.
    fn next(&mut self) -> Option<&mut Known> {
        let in_flight = self.blocks().filter(|block| Self::in_flight(block)).count();
        let most = self.blocks / 2;
        let first = |block: &Vec<Known>| -> Option<u64> {
            block.iter().find(|entry| !entry.is_sent).map(|entry| entry.sequence)
        };
        let block =
            self.blocks().filter(|block| first(block).is_some()).min_by_key(|b| first(b))?;
        let may_send = Self::in_flight(block) || in_flight < most;
        block.iter_mut().find(|entry| !entry.is_sent).filter(|_| may_send)
    }

    /// The entries in flight, oldest first.
    fn sent(&mut self) -> Vec<u64> {
        let sent = |entry: &&mut Known| entry.is_sent && !entry.is_confirmed;
        let mut all: Vec<u64> = self
            .blocks()
            .flat_map(|block| block.iter_mut().filter(sent).map(|entry| entry.sequence))
            .collect();
        all.sort_unstable();
        all
    }

    fn confirm(&mut self, last: u64) {
        let mut confirmed = 0;
        for entry in self.blocks().flatten() {
            if entry.is_sent && !entry.is_confirmed && entry.sequence <= last {
                entry.is_confirmed = true;
                confirmed += 1;
            }
        }
        self.confirmed += confirmed;
        for chain in &mut self.chains {
            chain.retain(|block| !block.iter().all(|entry| entry.is_confirmed));
        }
    }

    fn rewind(&mut self) {
        self.blocks().flatten().for_each(|entry| entry.is_sent = entry.is_confirmed);
    }

    fn waiting(&mut self) -> BacklogSize {
        let waiting = self.blocks().flatten().filter(|entry| !entry.is_confirmed);
        waiting.fold(BacklogSize::default(), |sum, entry| BacklogSize {
            entries: sum.entries + 1,
            bytes: sum.bytes + entry.length,
        })
    }

    fn step(&mut self, backlog: &mut Backlog, step: Step) {
        match step {
            Step::Push { is_alert, length } => {
                push(backlog, is_alert, length);
                self.push(is_alert, length);
            }
            Step::Send(count) => {
                for _ in 0..count {
                    let next = self.next();
                    assert_eq!(send(backlog), next.as_ref().map(|entry| entry.sequence));
                    if let Some(entry) = next {
                        entry.is_sent = true;
                    }
                }
            }
            Step::Confirm(part) => {
                let sent = self.sent();
                if let Some(last) = sent.get((sent.len() as f64 * part) as usize) {
                    backlog.confirm(*last);
                    self.confirm(*last);
                }
            }
            Step::Rewind => {
                backlog.rewind();
                self.rewind();
            }
        }
        let waiting = self.waiting();
        assert_eq!((backlog.waiting(), backlog.dropped()), (waiting, self.dropped));
        let gone = self.confirmed + all(self.dropped);
        assert_eq!(gone + waiting.entries as u64, self.pushed);
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Push {
        is_alert: bool,
        length: usize,
    },
    Send(usize),
    /// This part of what is in flight.
    Confirm(f64),
    Rewind,
}

fn length() -> impl Strategy<Value = usize> {
    prop_oneof![0_usize..200, 10_000_usize..30_000, 60_000_usize..66_000]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (any::<bool>(), length())
            .prop_map(|(is_alert, length)| Step::Push { is_alert, length }),
        2 => (0_usize..8).prop_map(Step::Send),
        2 => (0.0..=1.0).prop_map(Step::Confirm),
        1 => Just(Step::Rewind),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_backlog_behaves_as_its_model(
        blocks in 4_usize..8,
        steps in proptest::collection::vec(step(), 1..200),
    ) {
        let (mut backlog, mut model) = (Backlog::new(blocks * BLOCK_BYTES), Model::new(blocks));
        for step in steps {
            model.step(&mut backlog, step);
        }
        model.rewind();
        let left = model.blocks().flatten().filter(|entry| !entry.is_confirmed);
        let mut left: Vec<u64> = left.map(|entry| entry.sequence).collect();
        left.sort_unstable();
        prop_assert_eq!(drain(&mut backlog), left);
    }
}

/// The number of pages of this process that the kernel had to find (field 10 of proc(5)'s stat).
fn faults() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    let fields = stat.rsplit_once(')').unwrap().1;
    fields.split_whitespace().nth(7).unwrap().parse().unwrap()
}

#[test]
fn what_waits_needs_no_new_pages() {
    let mut backlog = Backlog::new(16 << 20);
    let content = content(0, QUARTER);
    let before = faults();
    for _ in 0..900 {
        backlog.push(false, 0, &[&content]);
    }
    // A few are those of the test itself.
    let new = faults() - before;
    assert!(new < 100, "{new}");
    assert!(backlog.waiting().entries >= 900, "{:?}", backlog.waiting());
}
