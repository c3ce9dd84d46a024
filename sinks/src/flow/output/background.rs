//! An output on a thread of its own: a disk or a reader that does not answer stops nothing else.
//!
//! The sensor adds records to a queue and never waits. What finds no room there is lost and
//! counted. The thread may wait as long as its output does.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::panics::caught;

/// Bytes that wait for the thread, at most.
pub const QUEUE_BYTES: usize = 4 << 20;
/// Bytes that are passed on at once.
const BATCH_BYTES: usize = 64 << 10;
/// Records that are passed on at once.
const BATCH_RECORDS: usize = 1024;
/// Batches that wait, at most: a sensor with few packets passes on small ones.
const BATCHES_MAX: usize = 4096;
/// How long the thread sleeps at most while something is being written.
const TICK: Duration = Duration::from_millis(10);
/// How long the last records wait for room in the queue of an output that accepts none.
const STALL: Duration = Duration::from_secs(2);
/// How often a file is looked at, and one that fails is tried again.
const FILE_INTERVAL: Duration = Duration::from_secs(1);

/// An output that may wait for its disk or its reader.
pub trait BlockingOutput: Send + 'static {
    /// Adds whole records, and where each ends. After an error none of them is added.
    fn write(&mut self, records: &[u8], ends: &[u32]) -> io::Result<()>;

    /// Begins to write what was added, and writes again what has failed.
    fn flush(&mut self) -> io::Result<()>;

    /// Whether all that was added is written.
    fn is_idle(&mut self) -> bool;

    /// Looks whether somebody has moved the file, and makes it again then.
    fn look(&mut self) -> io::Result<()>;

    /// Records that it has lost without an error.
    fn lost(&self) -> u64 {
        0
    }

    /// Writes everything.
    fn finish(&mut self) -> io::Result<()>;

    /// Whether nobody reads any more.
    fn has_ended(&self) -> bool {
        false
    }
}

/// Each of some records, by their ends.
pub fn each_record<'a>(records: &'a [u8], ends: &'a [u32]) -> impl Iterator<Item = &'a [u8]> {
    let mut begin = 0;
    ends.iter().map(move |end| {
        let record = &records[begin..*end as usize];
        begin = *end as usize;
        record
    })
}

/// The sensor's end.
#[derive(Debug)]
pub struct Background {
    shared: Arc<SharedBackground>,
    batch: Vec<u8>,
    /// Where each record of the batch ends.
    ends: Vec<u32>,
    /// Whether to wait for room; `None`: records that find none are lost.
    goes_on: Option<WaitCondition>,
}

/// Asked while an output waits: whether to keep waiting.
pub(super) struct WaitCondition(pub(super) Box<dyn FnMut() -> bool + Send>);

impl std::fmt::Debug for WaitCondition {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("WaitCondition")
    }
}

/// What has become of an output.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Health {
    /// Records that were not written.
    pub lost: u64,
    /// How many of them the output itself has lost.
    lost_by_output: u64,
    /// Why the last write has failed. `None` if it has not.
    pub failure: Option<Arc<str>>,
    /// How often writes have begun to fail.
    pub failures: u64,
    /// Whether nobody reads any more.
    pub has_ended: bool,
}

#[derive(Debug, Default)]
struct SharedBackground {
    state: Mutex<BackgroundState>,
    changed: Condvar,
}

/// Whole records, in batches.
#[derive(Debug, Default)]
struct BackgroundQueue {
    /// Bytes that may wait.
    most: usize,
    bytes: Vec<u8>,
    /// Where each record ends in its batch.
    ends: Vec<u32>,
    /// The ends of each batch in `bytes` and in `ends`.
    batches: Vec<(usize, usize)>,
}

#[derive(Debug, Default)]
struct BackgroundState {
    queue: BackgroundQueue,
    /// Records that the thread has taken, and that are not yet known to be written.
    unwritten: usize,
    health: Health,
    is_closed: bool,
    is_done: bool,
}

impl Background {
    /// Starts the thread. `enter` runs on it first. Up to `queue_bytes` wait for it.
    ///
    /// # Errors
    ///
    /// The thread cannot be started.
    pub fn start(
        output: impl BlockingOutput,
        queue_bytes: usize,
        enter: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(SharedBackground::default());
        shared.lock().queue.reserve(queue_bytes);
        let its = Arc::clone(&shared);
        let run = move || {
            enter();
            if let Err(panic) = caught(|| run(&its, output, queue_bytes)) {
                its.end_by(&panic);
            }
        };
        thread::Builder::new().name("output".to_owned()).spawn(run)?;
        let ends = Vec::with_capacity(BATCH_RECORDS);
        Ok(Self { shared, batch: Vec::with_capacity(BATCH_BYTES), ends, goes_on: None })
    }

    /// Lets the records to come, which are the last ones, wait for room while `goes_on` allows it.
    /// An output that accepts none for 2 s is not waited for any more.
    pub fn wait_for_room(&mut self, goes_on: Box<dyn FnMut() -> bool + Send>) {
        self.goes_on = Some(WaitCondition(goes_on));
    }

    /// Adds a record.
    #[inline]
    pub fn push(&mut self, record: &[u8]) {
        if self.batch.len() + record.len() > BATCH_BYTES || self.ends.len() >= BATCH_RECORDS {
            self.pass_on();
        }
        self.batch.extend_from_slice(record);
        self.ends.push(self.batch.len() as u32);
    }

    /// Passes on what was added.
    pub fn pass_on(&mut self) {
        if self.ends.is_empty() {
            return;
        }
        let mut state = self.shared.with_room(self.batch.len(), &mut self.goes_on);
        if !state.is_done && state.queue.has_room(self.batch.len()) {
            state.queue.add(&self.batch, &self.ends);
        } else if !state.health.has_ended {
            state.health.lost += self.ends.len() as u64;
        }
        drop(state);
        self.shared.changed.notify_all();
        self.batch.clear();
        self.ends.clear();
    }

    /// What has become of it so far.
    pub fn health(&self) -> Health {
        self.shared.lock().health.clone()
    }

    /// Has everything written, without waiting for that.
    pub fn close(&mut self) {
        self.pass_on();
        self.shared.lock().is_closed = true;
        self.shared.changed.notify_all();
    }

    /// Has everything written, and waits for that, while `goes_on` allows it. What is not written
    /// then counts as lost.
    pub fn finish(&mut self, mut goes_on: impl FnMut() -> bool) -> Health {
        self.close();
        let mut state = self.shared.lock();
        while !state.is_done {
            let waited = self.shared.changed.wait_timeout(state, TICK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if !state.is_done && !goes_on() {
                let left = state.queue.records() + state.unwritten;
                state.health.lost += left as u64;
                break;
            }
        }
        state.health.clone()
    }
}

impl SharedBackground {
    fn lock(&self) -> MutexGuard<'_, BackgroundState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until so many bytes have room, while `goes_on` allows it. It is `None` afterwards if
    /// that was in vain.
    fn with_room(
        &self,
        length: usize,
        goes_on: &mut Option<WaitCondition>,
    ) -> MutexGuard<'_, BackgroundState> {
        let mut state = self.lock();
        let begin = Instant::now();
        while !state.is_done && !state.queue.has_room(length) {
            let Some(WaitCondition(asked)) = goes_on else { break };
            if begin.elapsed() >= STALL || !asked() {
                *goes_on = None;
                break;
            }
            let waited = self.changed.wait_timeout(state, TICK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state
    }

    /// Nothing more is written: the output has panicked.
    fn end_by(&self, panic: &str) {
        let mut state = self.lock();
        let left = state.unwritten + state.queue.records();
        state.queue.clear();
        state.unwritten = 0;
        state.health.lost += left as u64;
        state.health.failures += 1;
        state.health.failure = Some(panic.into());
        state.is_done = true;
        drop(state);
        self.changed.notify_all();
    }

    /// Takes what waits. Waits for up to `most`. Whether nothing more comes.
    fn take(&self, queue: &mut BackgroundQueue, most: Duration) -> bool {
        queue.clear();
        let mut state = self.lock();
        if state.queue.batches.is_empty() && !state.is_closed {
            let waited = self.changed.wait_timeout(state, most);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        std::mem::swap(&mut state.queue, queue);
        state.unwritten += queue.records();
        let is_closed = state.is_closed;
        drop(state);
        self.changed.notify_all();
        is_closed
    }
}

impl BackgroundQueue {
    fn reserve(&mut self, queue_bytes: usize) {
        self.most = queue_bytes;
        self.bytes.reserve_exact(queue_bytes);
        self.batches.reserve_exact(BATCHES_MAX);
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.batches.clear();
    }

    const fn has_room(&self, length: usize) -> bool {
        self.bytes.len() + length <= self.most && self.batches.len() < BATCHES_MAX
    }

    fn add(&mut self, batch: &[u8], ends: &[u32]) {
        self.bytes.extend_from_slice(batch);
        self.ends.extend_from_slice(ends);
        self.batches.push((self.bytes.len(), self.ends.len()));
    }

    const fn records(&self) -> usize {
        self.ends.len()
    }

    /// Writes all batches; returns the number of records that were not added.
    fn write(&self, output: &mut impl BlockingOutput) -> (io::Result<()>, usize) {
        let mut begin = (0, 0);
        for &end in &self.batches {
            let (records, ends) = (&self.bytes[begin.0..end.0], &self.ends[begin.1..end.1]);
            if let Err(error) = output.write(records, ends) {
                return (Err(error), self.records() - begin.1);
            }
            begin = end;
        }
        (Ok(()), 0)
    }
}

/// Writes what comes until nothing more does.
fn run(shared: &SharedBackground, mut output: impl BlockingOutput, queue_bytes: usize) {
    let mut queue = BackgroundQueue::default();
    queue.reserve(queue_bytes);
    let (mut last_look, mut is_failing) = (Instant::now(), false);
    // A file that cannot be made again: what is open is written meanwhile.
    let mut looked = Ok(());
    loop {
        let wait = if output.is_idle() && !is_failing { FILE_INTERVAL } else { TICK };
        let is_closed = shared.take(&mut queue, wait);
        let count = queue.records();
        let looks = last_look.elapsed() >= FILE_INTERVAL;
        if looks {
            last_look = Instant::now();
        }
        let (mut result, mut lost) = (Ok(()), count);
        if !is_failing {
            (result, lost) = queue.write(&mut output);
            if looks && result.is_ok() {
                looked = output.look();
            }
            result = result.and_then(|()| output.flush());
        } else if looks {
            result = output.finish();
        }
        let is_over = output.has_ended() || is_closed && count == 0;
        let mut state = shared.lock();
        state.health.lost += lost as u64;
        let lost = lost + state.health.add_lost_by(&output);
        state.unwritten -= lost.min(state.unwritten);
        if !is_failing || looks {
            let was_failing = state.health.failure.is_some();
            state.note(if result.is_err() { &result } else { &looked }, was_failing);
            is_failing = result.is_err();
        }
        if !is_failing && output.is_idle() {
            state.unwritten = 0;
        }
        state.health.has_ended = output.has_ended();
        if is_over {
            break;
        }
    }
    let result = output.finish();
    let mut state = shared.lock();
    state.note(&result, is_failing);
    let lost = state.health.add_lost_by(&output);
    state.unwritten -= lost.min(state.unwritten);
    if result.is_err() {
        state.health.lost += state.unwritten as u64;
    }
    (state.unwritten, state.is_done) = (0, true);
    shared.changed.notify_all();
}

impl Health {
    /// Adds what the output has lost since the last call; returns that.
    fn add_lost_by(&mut self, output: &impl BlockingOutput) -> usize {
        let new = output.lost() - self.lost_by_output;
        self.lost += new;
        self.lost_by_output += new;
        new as usize
    }
}

impl BackgroundState {
    fn note(&mut self, result: &io::Result<()>, was_failing: bool) {
        self.health.failures += u64::from(result.is_err() && !was_failing);
        self.health.failure = result.as_ref().err().map(|error| error.to_string().into());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// An output that waits for a word before each write.
    struct SlowOutput {
        words: Receiver<io::Result<()>>,
        written: Sender<Vec<u8>>,
    }

    impl BlockingOutput for SlowOutput {
        fn write(&mut self, records: &[u8], _: &[u32]) -> io::Result<()> {
            panoptes_bounded::recv(&self.words).unwrap_or(Ok(()))?;
            let _ = self.written.send(records.to_vec());
            Ok(())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }

        fn is_idle(&mut self) -> bool {
            true
        }

        fn look(&mut self) -> io::Result<()> {
            Ok(())
        }

        fn finish(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn slow() -> (Background, Sender<io::Result<()>>, Receiver<Vec<u8>>) {
        let ((word, words), (written, all)) = (channel(), channel());
        (
            Background::start(SlowOutput { words, written }, QUEUE_BYTES, || ()).expect("a thread"),
            word,
            all,
        )
    }

    const RECORD: [u8; 1000] = [b'a'; 1000];

    #[test]
    fn records_arrive_in_order() {
        let (mut output, word, all) = slow();
        drop(word);
        let mut expected = Vec::new();
        for number in 0..100_000_u32 {
            output.push(&number.to_be_bytes());
            expected.extend(number.to_be_bytes());
        }
        assert_eq!(output.finish(|| true), Health::default());
        assert_eq!(all.try_iter().flatten().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn an_output_that_does_not_answer_loses_what_finds_no_room() {
        let (mut output, word, all) = slow();
        let begin = Instant::now();
        for _ in 0..20_000 {
            output.push(&RECORD);
        }
        output.pass_on();
        let lost = output.health().lost;
        assert!((10_000..17_000).contains(&lost), "{lost}");
        drop(word);
        let health = output.finish(|| true);
        let written: usize = all.try_iter().map(|bytes| bytes.len() / RECORD.len()).sum();
        assert_eq!(health.lost + written as u64, 20_000);
        assert!(begin.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn the_last_records_wait_for_room() {
        let (mut output, word, all) = slow();
        output.wait_for_room(Box::new(|| true));
        let reader = thread::spawn(move || {
            thread::sleep(Duration::from_millis(300));
            drop(word);
        });
        for _ in 0..20_000 {
            output.push(&RECORD);
        }
        assert_eq!(output.finish(|| true).lost, 0);
        assert_eq!(all.try_iter().map(|bytes| bytes.len() / RECORD.len()).sum::<usize>(), 20_000);
        reader.join().expect("no panic");
    }

    #[test]
    fn the_last_records_wait_for_no_output_that_hangs() {
        let (mut output, _word, _all) = slow();
        output.wait_for_room(Box::new(|| true));
        let begin = Instant::now();
        for _ in 0..20_000 {
            output.push(&RECORD);
        }
        let took = begin.elapsed();
        assert!(output.health().lost > 10_000);
        assert!((STALL..STALL * 2).contains(&took), "once, and not for each record: {took:?}");
    }

    #[test]
    fn an_end_waits_for_no_output_longer_than_it_may() {
        let (mut output, _word, _all) = slow();
        output.push(&RECORD);
        output.push(&RECORD);
        let mut looks = 0;
        let health = output.finish(|| {
            looks += 1;
            looks < 3
        });
        assert_eq!(health.lost, 2);
    }

    #[test]
    fn a_failure_is_known_until_a_write_succeeds() {
        let (mut output, word, all) = slow();
        word.send(Err(io::ErrorKind::StorageFull.into())).expect("it runs");
        output.push(&RECORD);
        output.pass_on();
        let wait = |is_there: &dyn Fn(&Health) -> bool, output: &Background| {
            let begin = Instant::now();
            while !is_there(&output.health()) {
                assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", output.health());
                thread::sleep(Duration::from_millis(1));
            }
        };
        wait(&|health| health.failure.is_some() && health.lost == 1, &output);
        wait(&|health| health.failure.is_none(), &output);
        drop(word);
        output.push(&RECORD);
        let health = output.finish(|| true);
        assert_eq!((health.lost, health.failures, health.failure), (1, 1, None));
        assert_eq!(all.try_iter().flatten().count(), RECORD.len());
    }

    #[test]
    fn a_panic_ends_the_wait() {
        struct Panics;
        impl BlockingOutput for Panics {
            fn write(&mut self, _: &[u8], _: &[u32]) -> io::Result<()> {
                panic!("a test's panic")
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
            fn is_idle(&mut self) -> bool {
                true
            }
            fn look(&mut self) -> io::Result<()> {
                Ok(())
            }
            fn finish(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut output = Background::start(Panics, QUEUE_BYTES, || ()).expect("a thread");
        output.push(&RECORD);
        output.push(&RECORD);
        let begin = Instant::now();
        let health = output.finish(|| begin.elapsed() < Duration::from_secs(30));
        assert!(begin.elapsed() < Duration::from_secs(30));
        assert_eq!((health.lost, health.failures), (2, 1));
        assert!(health.failure.is_some_and(|text| text.contains("a test's panic")));
    }

    /// A file that cannot be made again after a move: the moved one has the records.
    #[test]
    fn a_look_that_fails_stops_no_record() {
        struct MovedOutput(Arc<Mutex<usize>>);
        impl BlockingOutput for MovedOutput {
            fn write(&mut self, _: &[u8], ends: &[u32]) -> io::Result<()> {
                *self.0.lock().expect("a lock") += ends.len();
                Ok(())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
            fn is_idle(&mut self) -> bool {
                true
            }
            fn look(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::PermissionDenied.into())
            }
            fn finish(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let written = Arc::new(Mutex::new(0));
        let mut output = Background::start(MovedOutput(Arc::clone(&written)), QUEUE_BYTES, || ())
            .expect("a thread");
        let begin = Instant::now();
        let mut count = 0;
        while begin.elapsed() < FILE_INTERVAL * 3 {
            output.push(&RECORD);
            output.pass_on();
            count += 1;
            thread::sleep(Duration::from_millis(5));
        }
        let failures = output.health().failures;
        let health = output.finish(|| true);
        assert_eq!((health.lost, *written.lock().expect("a lock")), (0, count));
        assert_eq!(failures, 1, "it is one failure as long as it lasts");
    }
}
