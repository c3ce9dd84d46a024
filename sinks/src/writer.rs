//! The writer takes records from their queues to the outputs, on a thread of its own.
//!
//! Each output has its own position in each queue, so a slow output delays no other: blocks are
//! kept until the last output has taken them. When a queue is about to run out of blocks, or half
//! of them wait for one slow output, the outputs that are still at its oldest block lose the rest
//! of it. Each output counts what it lost. Nothing is allocated after [`Writer::new`], but for
//! outputs and queues that are added later.
//!
//! Blocks of all queues are written in the order in which the scanners passed them on, so a record
//! never precedes one that it follows from: what a scanner reports about a machine comes after the
//! record that watching it began.

mod absent;
mod output_change;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use panoptes_records::filter::Filter;
use panoptes_records::queue::{Consumer, RecordBlock, Waker};
use panoptes_records::record_counts::RecordCounts;

use self::absent::Absent;
pub use self::output_change::OutputChange;
use crate::failpoints;
use crate::output::backlog::Backlog;
use crate::output::{
    DISK_PATIENCE_NS, LONG_WAIT, Output, OutputCounters, OutputStatus, PATIENCE_NS, SHORT_WAIT,
};
use crate::panics::{self, caught};

#[derive(Debug)]
pub struct Writer {
    lanes: Vec<Lane>,
    outputs: Vec<WriterOutput>,
    changes: Receiver<OutputChange>,
    waker: Waker,
    counts: Arc<RecordCounts>,
    /// When the last step began, by the clock of [`Self::run`].
    step_ns: Arc<AtomicU64>,
}

/// A queue, and its blocks that some output has not yet taken.
#[derive(Debug)]
struct Lane {
    consumer: Consumer,
    held: VecDeque<RecordBlock>,
    /// The number of the first block held, counted from the start.
    first: u64,
    /// Whether it goes when its producer is gone.
    is_added: bool,
}

/// An output and its position in each lane.
#[derive(Debug)]
struct WriterOutput {
    output: Box<dyn Output>,
    places: Vec<LanePosition>,
    standing: OutputStatus,
    /// The number of the first block that it needs.
    from: u64,
    /// The number of the first block that it does not need, if it is to be ended.
    until: Option<u64>,
    /// What follows then.
    sequel: Sequel,
    /// When it ends in any case, if it is to end soon.
    ends_ns: u64,
    /// If the place waits for the next output: the number of the first block that this output does
    /// not need, because it is to be ended.
    next_until: Option<u64>,
    /// Whether the place is empty: the output has panicked, or was released.
    is_absent: bool,
    /// How many records it took, and how many of its counter's dropped ones it did not.
    taken: u64,
    skipped: u64,
    /// The lane from which it takes records now.
    taking: Option<usize>,
    /// While finishing: the output's progress at the last look, and when it made some.
    progress: u64,
    progress_ns: u64,
}

/// What follows when an output has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Sequel {
    /// Nothing, and its records may wait for long: a disk may be full.
    Nothing,
    /// Nothing, and soon.
    NothingSoon,
    /// Another output with this filter, in its place.
    Output(Filter),
}

/// The next record to take.
#[derive(Clone, Copy, Debug, Default)]
struct LanePosition {
    block: u64,
    record: usize,
}

/// The work left after a step.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WorkLeft {
    /// Nothing until a scanner passes a block on.
    Nothing,
    /// A write is under way or waits for its time.
    Something,
    Backlog,
    /// Every output's reader is gone.
    NoReader,
}

/// Why [`Writer::run`] returned.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WriterEnd {
    Finished,
    /// `stop` was set.
    Stopped,
    /// Every output's reader is gone, which is no error.
    NoReader,
}

/// The blocks that a queue's producer needs to keep working: one to fill and one to change to.
const BLOCKS_SPARE: usize = 2;
/// How long the rest may take when the writer was stopped: who stops it waits half a second.
pub const STOPPED_NS: u64 = 300_000_000;
/// How long an output that is removed, or makes room for another one, may take although it makes
/// progress.
const END_NS: u64 = 30_000_000_000;
const _: () = assert!(END_NS > DISK_PATIENCE_NS, "progress has more time than a disk without any");

impl Writer {
    /// A writer that writes every queue to every output. All queues must share one waker.
    pub fn new(queues: Vec<Consumer>, outputs: Vec<Box<dyn Output>>) -> Self {
        Self::with_changes(queues, outputs, channel().1)
    }

    /// The same, for outputs that change later.
    pub fn with_changes(
        queues: Vec<Consumer>,
        outputs: Vec<Box<dyn Output>>,
        changes: Receiver<OutputChange>,
    ) -> Self {
        panics::note();
        let waker = queues.first().map(|queue| queue.waker().clone()).unwrap_or_default();
        let lanes: Vec<_> = queues.into_iter().map(|queue| Lane::new(queue, false)).collect();
        let outputs = outputs.into_iter().map(|output| WriterOutput::new(output, &lanes)).collect();
        let (counts, step_ns) = (Arc::default(), Arc::default());
        Self { lanes, outputs, changes, waker, counts, step_ns }
    }

    /// Sequence counter for the blocks of its queues.
    pub const fn waker(&self) -> &Waker {
        &self.waker
    }

    /// How many records it has received.
    pub const fn record_counts(&self) -> &Arc<RecordCounts> {
        &self.counts
    }

    /// When its last step began, in nanoseconds by the clock of [`Self::run`]. A writer that has
    /// nothing to do makes two steps a second.
    pub const fn last_step(&self) -> &Arc<AtomicU64> {
        &self.step_ns
    }

    /// Changes outputs as requested.
    fn change_outputs(&mut self, now_ns: u64) {
        while let Ok(change) = self.changes.try_recv() {
            let next = self.waker.next();
            let is_of = |counters: &Arc<OutputCounters>| {
                let counters = Arc::clone(counters);
                move |it: &&mut WriterOutput| Arc::ptr_eq(it.output.counters(), &counters)
            };
            match change {
                OutputChange::Add(output, from) => {
                    self.outputs
                        .push(WriterOutput { from, ..WriterOutput::new(output, &self.lanes) });
                }
                OutputChange::Reopen => {
                    for reader in &mut self.outputs {
                        reader.guarded(&self.lanes, WriterOutput::reopen);
                    }
                }
                OutputChange::Replace(counters, output) => {
                    if let Some(reader) = self.outputs.iter_mut().find(is_of(&counters)) {
                        reader.guarded(&self.lanes, |reader| reader.replace(output));
                    }
                }
                OutputChange::AddQueue(queue) => {
                    self.lanes.push(Lane::new(queue, true));
                    for reader in &mut self.outputs {
                        reader.places.push(LanePosition::default());
                    }
                }
                OutputChange::End(system) => {
                    let own =
                        |reader: &&mut WriterOutput| reader.output.filter().system == Some(system);
                    for reader in self.outputs.iter_mut().filter(own) {
                        if reader.is_absent || reader.has_successor() {
                            reader.next_until = Some(next);
                        } else {
                            reader.end(next, Sequel::Nothing, now_ns);
                        }
                    }
                }
                OutputChange::Remove(counters, until) => {
                    if let Some(reader) = self.outputs.iter_mut().find(is_of(&counters)) {
                        reader.end(until, Sequel::NothingSoon, now_ns);
                    }
                }
                OutputChange::Release(counters, until, filter) => {
                    if let Some(reader) = self.outputs.iter_mut().find(is_of(&counters)) {
                        if reader.is_absent {
                            let waiting = reader.output.hand_over();
                            reader.release(filter, waiting);
                        } else {
                            reader.end(until, Sequel::Output(filter), now_ns);
                        }
                    }
                }
            }
        }
    }

    /// Ends the outputs that are to be ended and have written all their records.
    fn end_outputs(&mut self, now_ns: u64) {
        let lanes = &self.lanes;
        let mut has_ended = false;
        self.outputs.retain_mut(|reader| {
            // An end may take long, so the others follow in the next steps.
            if has_ended || !reader.is_over(lanes, now_ns) {
                return true;
            }
            // Its thread may wait for a disk. Until then, no other output writes to its place.
            let hands_over = reader.has_successor();
            if !reader.output.prepare_end(hands_over) {
                return true;
            }
            has_ended = true;
            let waiting = reader.guarded(lanes, WriterOutput::hand_over).flatten();
            reader.guarded(lanes, WriterOutput::finish);
            if let Sequel::Output(filter) = reader.sequel {
                // The next output continues where this one was.
                reader.release(filter, waiting);
                return true;
            }
            for (index, lane) in lanes.iter().enumerate() {
                while reader.skip_block(index, lane) {}
            }
            false
        });
    }

    /// Forgets the queues that were added and have ended.
    fn end_queues(&mut self) {
        let has_ended =
            |lane: &Lane| lane.is_added && lane.held.is_empty() && lane.consumer.is_finished();
        while let Some(index) = self.lanes.iter().position(has_ended) {
            self.lanes.remove(index);
            for reader in &mut self.outputs {
                reader.places.remove(index);
            }
        }
    }

    /// Whether all scanners are gone and all their blocks were taken.
    pub fn is_finished(&self) -> bool {
        self.lanes.iter().all(|lane| lane.held.is_empty() && lane.consumer.is_finished())
    }

    /// One step: takes the blocks passed on, gives them to the outputs, and lets the outputs do the
    /// work that is due.
    ///
    /// Waits up to `wait` for a write to complete when one is under way.
    pub fn step(&mut self, now_ns: u64, wait: Duration) -> WorkLeft {
        self.step_ns.store(now_ns, Ordering::Relaxed);
        failpoints::reach("writer");
        // While blocks are being passed on, one lane may show a block and another not yet the one
        // before it. A new output takes all blocks that are not pulled yet.
        let until = self.waker.next();
        self.change_outputs(now_ns);
        for lane in &mut self.lanes {
            lane.pull(&self.counts);
        }
        let mut wait = wait;
        let mut is_moved = true;
        while is_moved {
            is_moved = false;
            for reader in &mut self.outputs {
                let lanes = &self.lanes;
                let step = |reader: &mut WriterOutput| reader.step(lanes, until, now_ns, &mut wait);
                is_moved |= reader.guarded(lanes, step).unwrap_or(false);
            }
        }
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            lane.release(&mut self.outputs, index);
        }
        self.end_queues();
        self.end_outputs(now_ns);
        self.left()
    }

    fn left(&self) -> WorkLeft {
        let all = |standing| self.outputs.iter().all(|reader| reader.standing == standing);
        if !self.outputs.is_empty() && all(OutputStatus::Closed) {
            WorkLeft::NoReader
        } else if self.lanes.iter().any(|lane| !lane.held.is_empty()) {
            WorkLeft::Backlog
        } else if self.outputs.iter().all(WriterOutput::has_nothing_to_do) {
            WorkLeft::Nothing
        } else {
            WorkLeft::Something
        }
    }

    /// Runs until all scanners are gone, `stop` is set, or no reader is left; then writes what is
    /// left.
    ///
    /// `stop` is checked after [`Waker::wake`], and otherwise now and then. `clock` returns
    /// nanoseconds that never go back. Scanners wake the thread that calls this.
    pub fn run(&mut self, clock: &impl Fn() -> u64, stop: &AtomicBool) -> WriterEnd {
        self.waker.set_to_this_thread();
        let mut wait = Duration::ZERO;
        let mut end = WriterEnd::Finished;
        while !self.lanes.iter().all(|lane| lane.consumer.is_finished()) {
            if stop.load(Ordering::Relaxed) {
                end = WriterEnd::Stopped;
                break;
            }
            match self.step(clock(), wait) {
                WorkLeft::NoReader => {
                    end = WriterEnd::NoReader;
                    break;
                }
                WorkLeft::Nothing => {
                    wait = Duration::ZERO;
                    std::thread::park_timeout(LONG_WAIT);
                }
                WorkLeft::Something | WorkLeft::Backlog => {
                    self.sleep_unless_under_way(wait);
                    wait = SHORT_WAIT;
                }
            }
        }
        self.finish_unless(clock, stop);
        end
    }

    /// If a write is under way, the step itself waits; else this thread sleeps.
    fn sleep_unless_under_way(&self, wait: Duration) {
        if !wait.is_zero()
            && !self.outputs.iter().any(|reader| reader.standing == OutputStatus::Busy)
        {
            std::thread::park_timeout(wait);
        }
    }

    /// Writes what is left: takes all blocks passed on, and gives up on outputs that make no
    /// progress.
    pub fn finish(&mut self, clock: &impl Fn() -> u64) {
        self.finish_unless(clock, &AtomicBool::new(false));
    }

    /// The same; once `stop` is set, it ends soon although outputs make progress.
    fn finish_unless(&mut self, clock: &impl Fn() -> u64, stop: &AtomicBool) {
        let mut until_ns = u64::MAX;
        let start_ns = clock();
        for reader in &mut self.outputs {
            (reader.progress, reader.progress_ns) = (reader.output.progress(), start_ns);
        }
        loop {
            let now_ns = clock();
            let left = self.step(now_ns, SHORT_WAIT);
            let is_away = self.outputs.iter().any(|reader| reader.standing == OutputStatus::Away);
            match left {
                WorkLeft::NoReader => break,
                WorkLeft::Nothing if !is_away => break,
                _ => self.sleep_unless_under_way(SHORT_WAIT),
            }
            let mut is_hopeful = false;
            for reader in &mut self.outputs {
                is_hopeful |= reader.is_hopeful(now_ns);
            }
            if stop.load(Ordering::Relaxed) {
                until_ns = until_ns.min(now_ns.saturating_add(STOPPED_NS));
            }
            if !is_hopeful || now_ns >= until_ns {
                break;
            }
        }
        // All at once: several disks may not answer.
        for reader in &mut self.outputs {
            reader.output.prepare_end(false);
        }
        for reader in &mut self.outputs {
            reader.guarded(&self.lanes, WriterOutput::finish);
        }
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            for reader in &mut self.outputs {
                while reader.skip_block(index, lane) {}
            }
            lane.release(&mut self.outputs, index);
        }
    }
}

impl Lane {
    fn new(consumer: Consumer, is_added: bool) -> Self {
        Self { held: VecDeque::with_capacity(consumer.blocks()), consumer, first: 0, is_added }
    }

    /// Takes all blocks that were passed on, and counts their records.
    fn pull(&mut self, counts: &RecordCounts) {
        while let Some(block) = self.consumer.pop() {
            counts.add(&block);
            self.held.push_back(block);
        }
    }

    /// Gives back the blocks that every output has taken and, when the producer is about to run
    /// out, the oldest one.
    fn release(&mut self, outputs: &mut [WriterOutput], index: usize) {
        loop {
            let slowest = outputs.iter().map(|reader| reader.places[index].block).min();
            while !self.held.is_empty() && slowest.is_none_or(|slowest| self.first < slowest) {
                if let Some(block) = self.held.pop_front() {
                    self.consumer.give_back(block);
                    self.first += 1;
                }
            }
            // A slow output may hold half of the blocks: a reader that never reads must not cost
            // the other outputs their room for bursts.
            let open = outputs.iter().filter(|reader| reader.standing != OutputStatus::Closed);
            let is_lagging = open.map(|reader| reader.places[index].block).max() > slowest;
            let blocks = self.consumer.blocks();
            let most = if is_lagging { blocks / 2 } else { blocks - BLOCKS_SPARE };
            if self.held.len() <= most {
                return;
            }
            for reader in outputs.iter_mut() {
                if reader.places[index].block == self.first {
                    reader.skip_block(index, self);
                }
            }
        }
    }
}

impl WriterOutput {
    /// An output that takes the records that `lanes` still hold and all later ones.
    fn new(output: Box<dyn Output>, lanes: &[Lane]) -> Self {
        let place = |lane: &Lane| LanePosition { block: lane.first, record: 0 };
        Self {
            output,
            places: lanes.iter().map(place).collect(),
            standing: OutputStatus::Idle,
            from: 0,
            until: None,
            sequel: Sequel::Nothing,
            ends_ns: u64::MAX,
            next_until: None,
            is_absent: false,
            taken: 0,
            skipped: 0,
            taking: None,
            progress: 0,
            progress_ns: 0,
        }
    }

    /// Lets the output do something. If it panics, it is dropped, and [`Absent`] has its place
    /// until another output has.
    fn guarded<T>(&mut self, lanes: &[Lane], run: impl FnOnce(&mut Self) -> T) -> Option<T> {
        match caught(|| run(self)) {
            Ok(result) => Some(result),
            Err(panic) => {
                self.lose_output(lanes, panic);
                None
            }
        }
    }

    /// Drops the output, and leaves its place empty. The next output has this filter, and takes
    /// over what waited.
    fn vacate(&mut self, filter: Filter, waiting: Option<Backlog>) {
        let counters = Arc::clone(self.output.counters());
        let absent = Absent { kind: self.output.kind(), filter, counters, waiting };
        let output = std::mem::replace(&mut self.output, Box::new(absent));
        // Its buffers may be half changed, so this may panic; nothing of it is used again.
        let _ = caught(move || drop(output));
        self.standing = OutputStatus::Failing;
        self.is_absent = true;
    }

    /// Leaves the place of an output that has ended to the next one.
    fn release(&mut self, filter: Filter, waiting: Option<Backlog>) {
        self.vacate(filter, waiting);
        (self.until, self.sequel, self.ends_ns) = (None, Sequel::Nothing, u64::MAX);
        self.output.counters().set_released();
    }

    /// No more records than those before block `until` follow for it.
    fn end(&mut self, until: u64, sequel: Sequel, now_ns: u64) {
        self.until.get_or_insert(until);
        let is_soon = sequel != Sequel::Nothing;
        (self.sequel, self.ends_ns) = (sequel, if is_soon { now_ns + END_NS } else { u64::MAX });
        (self.progress, self.progress_ns) = (self.output.progress(), now_ns);
    }

    /// Drops an output that has panicked; counts the records that it had not written.
    fn lose_output(&mut self, lanes: &[Lane], panic: String) {
        self.vacate(self.output.filter(), None);
        let counters = Arc::clone(self.output.counters());
        let own = counters.dropped().saturating_sub(self.skipped);
        let unwritten = self.taken.saturating_sub(counters.records()).saturating_sub(own);
        counters.add_dropped(unwritten as usize);
        // A record that makes one output panic does so with the next one.
        if let Some(index) = self.taking.take() {
            self.skip_block(index, &lanes[index]);
        }
        counters.set_panic(panic);
    }

    /// Continues with another output.
    fn replace(&mut self, output: Box<dyn Output>) {
        let waiting = self.output.hand_over();
        self.output = output;
        self.standing = OutputStatus::Idle;
        self.is_absent = false;
        (self.taken, self.skipped) = (0, 0);
        self.progress = self.output.progress();
        self.until = self.next_until.take();
        if let Some(waiting) = waiting {
            self.taken = waiting.waiting().entries as u64;
            self.output.take_over(waiting);
        }
    }

    fn reopen(&mut self) {
        self.output.reopen();
    }

    /// Whether another output follows in its place.
    const fn has_successor(&self) -> bool {
        matches!(self.sequel, Sequel::Output(_))
    }

    /// What waits for the next output, if one follows.
    fn hand_over(&mut self) -> Option<Backlog> {
        if self.has_successor() { self.output.hand_over() } else { None }
    }

    fn finish(&mut self) {
        self.output.finish();
    }

    /// Takes blocks and does the work that is due; returns whether there is room for more. Only one
    /// output may use up `wait`, and only one with a write under way and nothing new to begin.
    fn step(&mut self, lanes: &[Lane], until: u64, now_ns: u64, wait: &mut Duration) -> bool {
        failpoints::reach("output");
        let taken = self.take(lanes, until, now_ns);
        let may_wait = taken == 0 && self.standing == OutputStatus::Busy;
        let wait = if may_wait { std::mem::take(wait) } else { Duration::ZERO };
        let standing = self.output.advance(now_ns, wait);
        // A rotation has ended, or the last buffer is free again: there is room.
        let has_room = self.standing == OutputStatus::Busy && standing == OutputStatus::Idle;
        self.standing = standing;
        taken > 0 || has_room
    }

    /// Whether it is to be ended and has written all its records, or is not going to.
    fn is_over(&mut self, lanes: &[Lane], now_ns: u64) -> bool {
        let Some(until) = self.until else { return false };
        if self.is_absent {
            return true;
        }
        let places = lanes.iter().zip(&self.places);
        let mut next =
            places.filter_map(|(lane, place)| lane.held.get((place.block - lane.first) as usize));
        let has_more = next.any(|block| block.number() < until);
        match self.standing {
            OutputStatus::Idle if !has_more => true,
            _ if now_ns >= self.ends_ns => true,
            OutputStatus::Closed => true,
            // The next output takes over what waits, and its receiver may have come back by then.
            OutputStatus::Failing | OutputStatus::Away
                if !has_more && self.has_successor() && self.output.keeps_waiting() =>
            {
                true
            }
            OutputStatus::Failing if self.sequel == Sequel::Nothing => false,
            _ if has_more && self.sequel == Sequel::Nothing => false,
            _ => !self.is_hopeful(now_ns),
        }
    }

    /// Takes blocks before number `until`, in their order, as far as there is room; returns the
    /// number of records.
    fn take(&mut self, lanes: &[Lane], until: u64, now_ns: u64) -> usize {
        let mut taken = 0;
        let until = self.until.map_or(until, |own| own.min(until));
        loop {
            let places = lanes.iter().zip(&mut self.places).enumerate();
            let next = places.filter_map(|(index, (lane, place))| {
                let block = lane.held.get((place.block - lane.first) as usize)?;
                (block.number() < until).then_some((index, block, place))
            });
            let Some((index, block, place)) = next.min_by_key(|(_, block, _)| block.number())
            else {
                return taken;
            };
            if block.number() < self.from {
                *place = LanePosition { block: place.block + 1, record: 0 };
                continue;
            }
            let run = block.next_wanted(&self.output.filter(), place.record);
            self.taking = Some(index);
            let count = self.output.append(block, run.clone(), now_ns);
            self.taking = None;
            taken += count;
            self.taken += count as u64;
            place.record = run.start + count;
            if place.record < run.end {
                return taken;
            }
            if place.record == block.records() {
                *place = LanePosition { block: place.block + 1, record: 0 };
            }
        }
    }

    /// Whether no step is of use until a block arrives.
    fn has_nothing_to_do(&self) -> bool {
        let is_busy = matches!(self.standing, OutputStatus::Busy | OutputStatus::Failing);
        !is_busy && self.until.is_none()
    }

    /// Whether it is worth waiting for this output to write the rest.
    fn is_hopeful(&mut self, now_ns: u64) -> bool {
        let progress = self.output.progress();
        if progress > self.progress {
            (self.progress, self.progress_ns) = (progress, now_ns);
        }
        let patience_ns = match self.standing {
            OutputStatus::Closed => return false,
            OutputStatus::Idle => PATIENCE_NS,
            OutputStatus::Busy | OutputStatus::Failing | OutputStatus::Away => {
                self.output.patience_ns()
            }
        };
        now_ns < self.progress_ns + patience_ns
    }

    /// Skips the rest of the block at the current position; false if there is none.
    fn skip_block(&mut self, index: usize, lane: &Lane) -> bool {
        let place = &mut self.places[index];
        let Some(block) = lane.held.get((place.block - lane.first) as usize) else {
            return false;
        };
        let is_before_end = self.until.is_none_or(|until| block.number() < until);
        let filter = match self.sequel {
            _ if block.number() < self.from => None,
            _ if is_before_end => Some(self.output.filter()),
            // What comes after its end is for the next one.
            Sequel::Output(filter) => Some(filter),
            Sequel::Nothing | Sequel::NothingSoon => None,
        };
        if let Some(filter) = filter {
            let lost = block.wanted_from(&filter, place.record);
            self.output.counters().add_skipped(lost);
            self.skipped += lost as u64;
        }
        *place = LanePosition { block: place.block + 1, record: 0 };
        true
    }
}

#[cfg(test)]
mod tests;
