//! Captures that a thread of its own reads, because their next packet may take long: a pipe, a file
//! that grows, a server. Meanwhile clients are served and records are written.
//!
//! The thread fills one batch while the auditor reads the other one. Nothing is allocated for a
//! packet once both have grown to what fits into them.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use panoptes_packet_files::{CaptureFile, Frame, PACKET_BYTES_MAX, SkippedCounts};

use super::opening::failure;
use crate::exit::{Exit, Failure};
use crate::message::Messages;
use crate::sandbox::Role;

/// Bytes that a batch has at least before the thread waits.
const BATCH_BYTES: usize = 1 << 20;
/// Failures that wait to be reported. There are more only if nobody reads them.
const REPORTS_MAX: usize = 16;

/// Copies of packets, in memory that is used again.
#[derive(Debug, Default)]
pub(super) struct FeedBatch {
    bytes: Vec<u8>,
    frames: Vec<FeedPacket>,
}

impl FeedBatch {
    /// Room for so many packets of any length, so that none of them allocates.
    pub(super) fn of_packets(count: usize) -> Self {
        let bytes = Vec::with_capacity(count * PACKET_BYTES_MAX);
        Self { bytes, frames: Vec::with_capacity(count) }
    }

    pub(super) const fn count(&self) -> usize {
        self.frames.len()
    }

    pub(super) fn push(&mut self, frame: &Frame<'_>) {
        let Frame { time_ns, link, wire_length, bytes, interface } = *frame;
        self.frames.push(FeedPacket { link, time_ns, wire_length, interface, length: bytes.len() });
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.frames.clear();
    }

    /// All packets, in the order in which they came.
    pub(super) fn frames(&self) -> impl Iterator<Item = Frame<'_>> {
        let mut begin = 0;
        self.frames.iter().map(move |packet| {
            let frame = self.frame(packet, begin);
            begin += packet.length;
            frame
        })
    }

    /// A packet whose bytes begin there.
    fn frame(&self, packet: &FeedPacket, begin: usize) -> Frame<'_> {
        let FeedPacket { link, time_ns, wire_length, interface, length } = *packet;
        let bytes = &self.bytes[begin..begin + length];
        Frame { time_ns, link, wire_length, bytes, interface }
    }

    /// Whether the reader waits until the auditor has taken it. Packets may be empty, so they count
    /// by their places as well.
    const fn is_full(&self) -> bool {
        self.bytes.len() + self.frames.len() * size_of::<FeedPacket>() >= BATCH_BYTES
    }
}

/// A packet of a batch.
#[derive(Clone, Copy, Debug)]
struct FeedPacket {
    link: u16,
    time_ns: i64,
    wire_length: u32,
    interface: u32,
    length: usize,
}

/// What both threads have.
#[derive(Debug, Default)]
struct FeedChannel {
    state: Mutex<FeedState>,
    /// Something has changed.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct FeedState {
    batch: FeedBatch,
    /// What went wrong and did not end the thread.
    reports: Vec<String>,
    skipped: SkippedCounts,
    /// How the captures have ended.
    end: Option<Result<(), Failure>>,
    /// Nobody needs more.
    is_closed: bool,
}

/// The auditor's end.
#[derive(Debug)]
pub(super) struct Feed {
    shared: Arc<FeedChannel>,
    batch: FeedBatch,
    /// The next packet of the batch, and where its bytes begin.
    next: usize,
    begin: usize,
    skipped: SkippedCounts,
}

/// What comes next.
pub(super) enum FeedItem<'a> {
    Frame(Frame<'a>),
    /// Something went wrong, and reading continues.
    Report(String),
    /// Not yet anything.
    Nothing,
    End(Result<(), Failure>),
}

impl FeedChannel {
    fn lock(&self) -> MutexGuard<'_, FeedState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The reading thread's end.
#[derive(Clone, Debug)]
pub(super) struct FeedProducer {
    shared: Arc<FeedChannel>,
    follows: bool,
    messages: Messages,
}

/// How one capture has ended.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CaptureEnd {
    /// Nobody needs more.
    pub(super) is_closed: bool,
}

impl FeedProducer {
    /// Restricts the thread: what follows interprets what strangers wrote. `from_files`: it opens
    /// files, too.
    pub(super) fn enter(&self, from_files: bool) {
        Role::Captures { from_files }.enter(&self.messages);
    }

    pub(super) const fn messages(&self) -> &Messages {
        &self.messages
    }

    /// Whether other captures may follow at the end of one.
    pub(super) const fn follows(&self) -> bool {
        self.follows
    }

    /// Whether nobody needs more.
    pub(super) fn is_closed(&self) -> bool {
        self.shared.lock().is_closed
    }

    /// Waits, unless nobody needs more. Whether that is so.
    pub(super) fn pause(&self, time: Duration) -> bool {
        let begin = Instant::now();
        let mut state = self.shared.lock();
        while let Some(left) = time.checked_sub(begin.elapsed()).filter(|left| !left.is_zero()) {
            if state.is_closed {
                break;
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        state.is_closed
    }

    /// Reports what went wrong and does not end the thread.
    pub(super) fn report(&self, text: String) {
        let mut state = self.shared.lock();
        if state.reports.len() < REPORTS_MAX {
            state.reports.push(text);
        }
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Reads a capture to its end, or until nobody needs more.
    pub(super) fn read(&self, file: CaptureFile) -> Result<CaptureEnd, Failure> {
        self.count(file, &mut 0)
    }

    /// The same, and counts its packets, whatever the result.
    pub(super) fn count(
        &self,
        mut file: CaptureFile,
        packets: &mut u64,
    ) -> Result<CaptureEnd, Failure> {
        let before = self.shared.lock().skipped;
        let result = read(&self.shared, &mut file, packets, before);
        self.shared.lock().skipped = sum(before, file.skipped());
        result
    }
}

/// The same, of two captures.
const fn sum(mut one: SkippedCounts, other: SkippedCounts) -> SkippedCounts {
    add(&mut one, other);
    one
}

/// Adds what a capture has had that was not returned.
pub(super) const fn add(all: &mut SkippedCounts, one: SkippedCounts) {
    all.unknown_records += one.unknown_records;
    all.oversized_packets += one.oversized_packets;
    all.damaged_packets += one.damaged_packets;
    all.cut_bytes += one.cut_bytes;
    all.is_compression_cut |= one.is_compression_cut;
}

impl Feed {
    /// Starts a thread that calls `read`, which reads captures by its link.
    pub(super) fn start(
        follows: bool,
        messages: &Messages,
        read: impl FnOnce(&FeedProducer) -> Result<(), Failure> + Send + 'static,
    ) -> Self {
        let shared = Arc::new(FeedChannel::default());
        let (its, messages) = (Arc::clone(&shared), messages.clone());
        let link = FeedProducer { shared: its, follows, messages };
        let thread = std::thread::Builder::new().name("capture".to_owned());
        let started = thread.spawn(move || {
            let end = read(&link);
            link.shared.lock().end = Some(end);
            link.shared.changed.notify_all();
        });
        if let Err(error) = started {
            let failure = Failure::io(&error, Exit::Failed, "cannot start a thread");
            shared.lock().end = Some(Err(failure));
        }
        Self {
            shared,
            batch: FeedBatch::default(),
            next: 0,
            begin: 0,
            skipped: SkippedCounts::default(),
        }
    }

    /// What the capture has had that was not returned.
    pub(super) const fn skipped(&self) -> SkippedCounts {
        self.skipped
    }

    /// The next packet; waits for up to `wait`.
    pub(super) fn next(&mut self, wait: Duration) -> FeedItem<'_> {
        if self.next == self.batch.frames.len() {
            self.batch.clear();
            (self.next, self.begin) = (0, 0);
            let mut state = self.shared.lock();
            if state.batch.frames.is_empty() && state.reports.is_empty() && state.end.is_none() {
                let waited = self.shared.changed.wait_timeout(state, wait);
                (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
            }
            std::mem::swap(&mut self.batch, &mut state.batch);
            self.skipped = state.skipped;
            if self.batch.frames.is_empty() {
                if !state.reports.is_empty() {
                    return FeedItem::Report(state.reports.remove(0));
                }
                return state.end.take().map_or(FeedItem::Nothing, FeedItem::End);
            }
            drop(state);
            self.shared.changed.notify_all();
        }
        let packet = self.batch.frames[self.next];
        let begin = self.begin;
        self.next += 1;
        self.begin += packet.length;
        FeedItem::Frame(self.batch.frame(&packet, begin))
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        // The thread ends with its next packet, or with the process.
        self.shared.lock().is_closed = true;
        self.shared.changed.notify_all();
    }
}

/// Reads a capture to its end, or until nobody needs more. `before`: what other captures have had
/// that was not returned.
fn read(
    shared: &FeedChannel,
    file: &mut CaptureFile,
    packets: &mut u64,
    before: SkippedCounts,
) -> Result<CaptureEnd, Failure> {
    loop {
        let frame = file.next().map_err(|error| failure(&error))?;
        let mut state = shared.lock();
        while state.batch.is_full() && frame.is_some() && !state.is_closed {
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let is_closed = state.is_closed;
        let Some(frame) = frame.filter(|_| !is_closed) else { return Ok(CaptureEnd { is_closed }) };
        *packets += 1;
        let was_empty = state.batch.frames.is_empty();
        state.batch.push(&frame);
        // A signal may end the program while the file is followed.
        state.skipped = sum(before, file.skipped());
        drop(state);
        if was_empty {
            shared.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use panoptes_flow::UNCLEAR_MAX;

    use super::*;

    #[test]
    fn packets_that_are_unclear_have_room_from_the_start() {
        let mut batch = FeedBatch::of_packets(UNCLEAR_MAX);
        let bytes = vec![7; PACKET_BYTES_MAX];
        let place = batch.bytes.as_ptr();
        for turn in 0..3 {
            let frame = |number: usize| Frame {
                time_ns: number as i64,
                link: 1,
                wire_length: 9,
                bytes: &bytes[number..],
                interface: 0,
            };
            (0..UNCLEAR_MAX).for_each(|number| batch.push(&frame(number)));
            assert!(batch.frames().eq((0..UNCLEAR_MAX).map(frame)), "{turn}");
            assert_eq!((batch.count(), batch.bytes.as_ptr()), (UNCLEAR_MAX, place));
            batch.clear();
        }
    }
}
