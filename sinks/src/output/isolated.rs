//! An output on a thread of its own: a disk that does not answer costs no other output, and does
//! not stop the writer.
//!
//! The writer copies records into blocks that were made at the start, as far as there are free
//! ones; then the output counts as slow. Its thread may wait in the kernel for as long as it takes.
//! A panic there is raised again on the writer's thread, which drops the output and counts what it
//! had. The writer waits for the thread at the end of the program, and for a moment when it drops
//! an output.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{io, thread};

use panoptes_records::filter::Filter;
use panoptes_records::queue::{QueueSize, RecordBlock};
use panoptes_records::record::RECORD_BYTES_MAX;

use super::backlog::Backlog;
use super::{
    DISK_PATIENCE_NS, LONG_WAIT, Output, OutputCounters, OutputKind, OutputStatus, SHORT_WAIT,
};
use crate::panics::caught;

/// Blocks between the writer and the thread, and the bytes of each.
const BLOCKS: usize = 4;
const QUEUE_BLOCK_BYTES: usize = 64 << 10;
/// An operation that takes longer is reported: the disk does not answer.
const STALL: Duration = Duration::from_secs(3);
/// How long the writer waits for the thread at the end: for one that works, and for one whose disk
/// does not answer.
const END: Duration = Duration::from_secs(8);
const END_STALLED: Duration = Duration::from_secs(1);
const _: () = {
    assert!(QUEUE_BLOCK_BYTES >= RECORD_BYTES_MAX, "a block holds the longest record");
    assert!(END_STALLED.as_nanos() < END.as_nanos(), "a thread that works has more time");
    assert!(STALL.as_nanos() < DISK_PATIENCE_NS as u128, "a disk is reported, then given up");
};

/// The writer's end.
#[derive(Debug)]
pub struct IsolatedOutput {
    shared: Arc<SharedOutputThread>,
    counters: Arc<OutputCounters>,
    kind: OutputKind,
    filter: Filter,
    keeps_waiting: bool,
    /// How many records it took.
    taken: u64,
    /// The records that were counted as written, and as dropped by the output itself, before.
    before: (u64, u64),
}

#[derive(Debug)]
struct SharedOutputThread {
    state: Mutex<OutputThreadState>,
    changed: Condvar,
}

#[derive(Debug)]
struct OutputThreadState {
    full: VecDeque<RecordBlock>,
    free: Vec<RecordBlock>,
    /// The writer's clock, and when it was that.
    clock: (u64, Instant),
    /// Whether the thread has records that it has not passed on to the output.
    has_block: bool,
    /// Since when the thread is in an operation.
    working_since: Option<Instant>,
    standing: OutputStatus,
    progress: u64,
    /// When it made progress last, or had nothing to write.
    progress_at: Instant,
    patience_ns: u64,
    reopens: bool,
    takes_over: Option<Backlog>,
    hand_over: OutputThreadRequest<Option<Backlog>>,
    end: OutputThreadRequest<()>,
    /// When the end was asked for.
    end_at: Option<Instant>,
    /// Whether the writer waits no longer: what is left was counted as lost.
    is_abandoned: bool,
    panic: Option<String>,
}

/// Something that the writer asks of the thread.
#[derive(Debug, Default)]
enum OutputThreadRequest<T> {
    #[default]
    No,
    Wanted,
    Done(T),
}

impl IsolatedOutput {
    /// Bytes of memory that each takes.
    pub const BYTES: usize = QueueSize { blocks: BLOCKS, block_bytes: QUEUE_BLOCK_BYTES }.bytes();

    /// Gives an output a thread. `enter` runs on it first.
    ///
    /// # Errors
    ///
    /// The thread cannot be started.
    pub fn start(
        output: Box<dyn Output>,
        enter: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        let counters = Arc::clone(output.counters());
        let now = Instant::now();
        let state = OutputThreadState {
            full: VecDeque::with_capacity(BLOCKS),
            free: (0..BLOCKS).map(|_| RecordBlock::new(QUEUE_BLOCK_BYTES)).collect(),
            clock: (0, now),
            has_block: false,
            working_since: None,
            standing: OutputStatus::Idle,
            progress: output.progress(),
            progress_at: now,
            patience_ns: output.patience_ns(),
            reopens: false,
            takes_over: None,
            hand_over: OutputThreadRequest::No,
            end: OutputThreadRequest::No,
            end_at: None,
            is_abandoned: false,
            panic: None,
        };
        let shared =
            Arc::new(SharedOutputThread { state: Mutex::new(state), changed: Condvar::new() });
        let (kind, filter) = (output.kind(), output.filter());
        let keeps_waiting = output.keeps_waiting();
        let before = (counters.records(), own_drops(&counters));
        let its = Arc::clone(&shared);
        let serve = move || {
            enter();
            its.serve(output);
        };
        thread::Builder::new().name("panoptes-output".to_owned()).spawn(serve)?;
        Ok(Self { shared, counters, kind, filter, keeps_waiting, taken: 0, before })
    }

    /// Raises a panic of the thread on this one.
    fn raise(&self, mut state: MutexGuard<'_, OutputThreadState>) {
        if let Some(panic) = state.panic.take() {
            state.is_abandoned = true;
            drop(state);
            self.counters.set_stalled(false);
            std::panic::resume_unwind(Box::new(panic));
        }
    }

    /// Counts the records that the thread still has: its disk does not answer.
    fn give_up(&self) {
        let (written, dropped) = (self.counters.records(), own_drops(&self.counters));
        let done = (written - self.before.0) + (dropped - self.before.1);
        self.counters.add_dropped(self.taken.saturating_sub(done) as usize);
        self.counters.set_stalled(true);
    }
}

/// The records that an output took and dropped.
fn own_drops(counters: &OutputCounters) -> u64 {
    counters.dropped().saturating_sub(counters.skipped())
}

impl Output for IsolatedOutput {
    fn kind(&self) -> OutputKind {
        self.kind
    }

    fn counters(&self) -> &Arc<OutputCounters> {
        &self.counters
    }

    fn append(&mut self, block: &RecordBlock, range: Range<usize>, now_ns: u64) -> usize {
        let mut state = self.shared.lock();
        state.clock = (now_ns, Instant::now());
        if !matches!(state.end, OutputThreadRequest::No) {
            // The thread may have ended.
            return 0;
        }
        let mut count = 0;
        while count < range.len() {
            let rest = range.start + count..range.end;
            let added = state.full.back_mut().map_or(0, |last| last.append_from(block, rest));
            count += added;
            if added == 0 {
                let Some(free) = state.free.pop() else { break };
                state.full.push_back(free);
            }
        }
        // One that was made for a record that found no room there either.
        if let Some(empty) = state.full.pop_back_if(|last| last.records() == 0) {
            state.free.push(empty);
        }
        drop(state);
        self.taken += count as u64;
        if count > 0 {
            self.shared.changed.notify_all();
        }
        count
    }

    fn filter(&self) -> Filter {
        self.filter
    }

    fn advance(&mut self, now_ns: u64, wait: Duration) -> OutputStatus {
        let mut state = self.shared.lock();
        state.clock = (now_ns, Instant::now());
        if state.standing() == OutputStatus::Busy && !wait.is_zero() {
            let waited = self.shared.changed.wait_timeout(state, wait);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        self.counters.set_stalled(state.is_stalled(Instant::now()));
        let standing = state.standing();
        self.raise(state);
        standing
    }

    fn reopen(&mut self) {
        self.shared.lock().reopens = true;
        self.shared.changed.notify_all();
    }

    fn keeps_waiting(&self) -> bool {
        self.keeps_waiting
    }

    fn prepare_end(&mut self, hands_over: bool) -> bool {
        let mut state = self.shared.lock();
        if hands_over && matches!(state.hand_over, OutputThreadRequest::No) {
            state.hand_over = OutputThreadRequest::Wanted;
        }
        if matches!(state.end, OutputThreadRequest::No) {
            (state.end, state.end_at) = (OutputThreadRequest::Wanted, Some(Instant::now()));
            self.shared.changed.notify_all();
        }
        matches!(state.end, OutputThreadRequest::Done(())) || state.panic.is_some()
    }

    fn hand_over(&mut self) -> Option<Backlog> {
        match std::mem::take(&mut self.shared.lock().hand_over) {
            OutputThreadRequest::Done(waiting) => waiting,
            OutputThreadRequest::No | OutputThreadRequest::Wanted => None,
        }
    }

    fn take_over(&mut self, waiting: Backlog) {
        self.taken += waiting.waiting().entries as u64;
        self.shared.lock().takes_over = Some(waiting);
        self.shared.changed.notify_all();
    }

    /// Waits for the thread to end the output, for [`END`] since that was asked for.
    fn finish(&mut self) {
        self.prepare_end(false);
        let mut state = self.shared.lock();
        let now = Instant::now();
        let most = if state.is_stalled(now) { END_STALLED } else { END };
        let asked = state.end_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        state = self.shared.wait_for_end(state, most.saturating_sub(asked));
        if state.is_awaited() {
            state.is_abandoned = true;
            self.give_up();
        }
        self.raise(state);
    }

    fn progress(&self) -> u64 {
        self.shared.lock().progress
    }

    fn patience_ns(&self) -> u64 {
        self.shared.lock().patience_ns
    }
}

impl Drop for IsolatedOutput {
    /// Ends the thread, and waits for it for a moment: then another output may have its file.
    fn drop(&mut self) {
        self.prepare_end(false);
        let state = self.shared.lock();
        self.shared.wait_for_end(state, END_STALLED).is_abandoned = true;
    }
}

impl OutputThreadState {
    /// Whether the output has not taken all records yet.
    fn is_busy(&self) -> bool {
        self.has_block || !self.full.is_empty() || self.takes_over.is_some()
    }

    /// The output's standing, with what it has not taken yet.
    fn standing(&self) -> OutputStatus {
        match self.standing {
            OutputStatus::Idle if self.is_busy() => OutputStatus::Busy,
            standing => standing,
        }
    }

    /// Whether the thread is in one operation for too long, or writes that are under way make no
    /// progress. A receiver that is slow is none of that.
    fn is_stalled(&self, now: Instant) -> bool {
        let is_long = |since: Instant| now.saturating_duration_since(since) >= STALL;
        let is_disk = self.patience_ns >= DISK_PATIENCE_NS;
        self.working_since.is_some_and(is_long)
            || is_disk && self.standing == OutputStatus::Busy && is_long(self.progress_at)
    }

    /// Whether the end of the thread is still waited for.
    const fn is_awaited(&self) -> bool {
        !matches!(self.end, OutputThreadRequest::Done(()))
            && self.panic.is_none()
            && !self.is_abandoned
    }

    fn now_ns(&self) -> u64 {
        let (now_ns, since) = self.clock;
        now_ns.saturating_add(u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// Whether the thread has nothing to do but to look now and then.
    fn is_at_rest(&self) -> bool {
        self.full.is_empty()
            && !self.reopens
            && self.takes_over.is_none()
            && !matches!(self.hand_over, OutputThreadRequest::Wanted)
            && !matches!(self.end, OutputThreadRequest::Wanted)
    }

    /// Notes what the output says after an operation.
    fn note(&mut self, output: &dyn Output, standing: OutputStatus) {
        let (progress, now) = (output.progress(), Instant::now());
        if progress != self.progress || standing != OutputStatus::Busy {
            self.progress_at = now;
        }
        (self.standing, self.progress) = (standing, progress);
        self.patience_ns = output.patience_ns();
    }
}

/// What the thread is to do in one turn.
struct OutputThreadTurn {
    block: Option<RecordBlock>,
    reopens: bool,
    takes_over: Option<Backlog>,
    hands_over: bool,
    ends: bool,
    now_ns: u64,
}

impl SharedOutputThread {
    fn lock(&self) -> MutexGuard<'_, OutputThreadState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the end of the thread, for so long at most.
    fn wait_for_end<'a>(
        &'a self,
        state: MutexGuard<'a, OutputThreadState>,
        most: Duration,
    ) -> MutexGuard<'a, OutputThreadState> {
        let waited = self.changed.wait_timeout_while(state, most, |state| state.is_awaited());
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Does what the writer asks until the end, or until the output panics.
    fn serve(&self, mut output: Box<dyn Output>) {
        let ended = caught(|| while self.turn(&mut *output) {});
        // Another output may follow as soon as the writer knows, so its file is closed before.
        // After a panic its buffers may be half changed, and this may panic, too.
        let _ = caught(move || drop(output));
        let mut state = self.lock();
        state.working_since = None;
        match ended {
            Ok(()) => state.end = OutputThreadRequest::Done(()),
            Err(panic) => state.panic = Some(panic),
        }
        drop(state);
        self.changed.notify_all();
    }

    fn next_turn(&self) -> OutputThreadTurn {
        let mut state = self.lock();
        let wait = match state.standing {
            OutputStatus::Busy | OutputStatus::Failing => SHORT_WAIT,
            OutputStatus::Idle | OutputStatus::Away | OutputStatus::Closed => LONG_WAIT,
        };
        let rests = |state: &mut OutputThreadState| state.is_at_rest();
        let waited = self.changed.wait_timeout_while(state, wait, rests);
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
        let block = state.full.pop_front();
        state.has_block = block.is_some();
        state.working_since = Some(Instant::now());
        OutputThreadTurn {
            reopens: std::mem::take(&mut state.reopens),
            takes_over: state.takes_over.take(),
            hands_over: matches!(state.hand_over, OutputThreadRequest::Wanted) && block.is_none(),
            ends: matches!(state.end, OutputThreadRequest::Wanted) && block.is_none(),
            now_ns: state.now_ns(),
            block,
        }
    }

    /// One turn; whether others follow.
    fn turn(&self, output: &mut dyn Output) -> bool {
        let turn = self.next_turn();
        if let Some(waiting) = turn.takes_over {
            output.take_over(waiting);
        }
        if turn.reopens {
            output.reopen();
        }
        let mut standing = output.advance(turn.now_ns, Duration::ZERO);
        if let Some(block) = &turn.block {
            standing = self.pass_on(output, block);
        }
        let waiting = turn.hands_over.then(|| output.hand_over());
        if turn.ends {
            output.finish();
        }
        let mut state = self.lock();
        if let Some(mut block) = turn.block {
            block.clear();
            state.free.push(block);
        }
        (state.has_block, state.working_since) = (false, None);
        state.note(output, standing);
        if let Some(waiting) = waiting {
            state.hand_over = OutputThreadRequest::Done(waiting);
        }
        let is_over = turn.ends || state.is_abandoned;
        drop(state);
        self.changed.notify_all();
        !is_over
    }

    /// Gives all records of a block to the output, as fast as it takes them. At the end, what one
    /// that fails does not take is dropped.
    fn pass_on(&self, output: &mut dyn Output, block: &RecordBlock) -> OutputStatus {
        let (mut at, mut wait) = (0, Duration::ZERO);
        loop {
            let now_ns = self.lock().now_ns();
            let count = output.append(block, at..block.records(), now_ns);
            at += count;
            let standing = output.advance(now_ns, wait);
            if at == block.records() {
                return standing;
            }
            if self.is_ending(standing) {
                output.counters().add_dropped(block.records() - at);
                return standing;
            }
            wait = if count == 0 { SHORT_WAIT } else { Duration::ZERO };
            if count == 0 && standing != OutputStatus::Busy {
                thread::sleep(SHORT_WAIT);
            }
            let mut state = self.lock();
            state.note(output, standing);
            state.working_since = Some(Instant::now());
            if state.is_abandoned {
                // The writer has counted the rest.
                return standing;
            }
            if std::mem::take(&mut state.reopens) {
                drop(state);
                output.reopen();
            }
        }
    }

    /// Whether the writer ends, and the output takes nothing now: it loses the rest.
    fn is_ending(&self, standing: OutputStatus) -> bool {
        let takes_nothing = matches!(standing, OutputStatus::Failing | OutputStatus::Away);
        takes_nothing && matches!(self.lock().end, OutputThreadRequest::Wanted)
    }
}

#[cfg(test)]
mod tests;
