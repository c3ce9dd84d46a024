//! A capture that a thread of its own reads, because its next packet may take long: a pipe, or a
//! file that grows. Meanwhile clients are served and records are written.
//!
//! The thread fills one batch while the auditor reads the other one. Nothing is allocated for a
//! packet once both have grown to what fits into them.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use panoptes_capture::{CaptureFile, Frame, Options, Skipped};

use super::opening::{failure, open};
use crate::exit::{Exit, Failure};

/// Bytes that a batch has at least before the thread waits.
const BATCH_BYTES: usize = 1 << 20;

/// Packets that were read.
#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    frames: Vec<Packet>,
}

/// A packet of a batch.
#[derive(Clone, Copy, Debug)]
struct Packet {
    link: u16,
    time_ns: i64,
    wire_length: u32,
    interface: u32,
    length: usize,
}

/// What both threads have.
#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Something has changed.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    batch: Batch,
    skipped: Skipped,
    /// How the capture has ended.
    end: Option<Result<(), Failure>>,
    /// Nobody needs more.
    is_closed: bool,
}

/// The auditor's end.
#[derive(Debug)]
pub(super) struct Feed {
    shared: Arc<Shared>,
    batch: Batch,
    /// The next packet of the batch, and where its bytes begin.
    next: usize,
    begin: usize,
    skipped: Skipped,
}

/// What comes next.
pub(super) enum Next<'a> {
    Frame(Frame<'a>),
    /// Not yet anything.
    Nothing,
    End(Result<(), Failure>),
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Feed {
    /// Starts to read.
    pub(super) fn start(path: PathBuf, options: Options) -> Self {
        let shared = Arc::new(Shared::default());
        let its = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("capture".to_owned());
        let started = thread.spawn(move || {
            let end = open(&path, &options).and_then(|file| read(&its, file));
            its.lock().end = Some(end);
            its.changed.notify_all();
        });
        if let Err(error) = started {
            let failure = Failure::io(&error, Exit::Failed, "cannot start a thread");
            shared.lock().end = Some(Err(failure));
        }
        Self { shared, batch: Batch::default(), next: 0, begin: 0, skipped: Skipped::default() }
    }

    /// What the capture has had that was not returned.
    pub(super) const fn skipped(&self) -> Skipped {
        self.skipped
    }

    /// The next packet; waits for up to `wait`.
    pub(super) fn next(&mut self, wait: Duration) -> Next<'_> {
        if self.next == self.batch.frames.len() {
            self.batch.bytes.clear();
            self.batch.frames.clear();
            (self.next, self.begin) = (0, 0);
            let mut state = self.shared.lock();
            if state.batch.frames.is_empty() && state.end.is_none() {
                let waited = self.shared.changed.wait_timeout(state, wait);
                (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
            }
            std::mem::swap(&mut self.batch, &mut state.batch);
            self.skipped = state.skipped;
            if self.batch.frames.is_empty() {
                return state.end.take().map_or(Next::Nothing, Next::End);
            }
            drop(state);
            self.shared.changed.notify_all();
        }
        let packet = self.batch.frames[self.next];
        let bytes = &self.batch.bytes[self.begin..self.begin + packet.length];
        self.next += 1;
        self.begin += packet.length;
        let Packet { link, time_ns, wire_length, interface, .. } = packet;
        Next::Frame(Frame { time_ns, link, wire_length, bytes, interface })
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        // The thread ends with its next packet, or with the process.
        self.shared.lock().is_closed = true;
        self.shared.changed.notify_all();
    }
}

/// Reads a capture to its end, or until nobody needs more.
fn read(shared: &Shared, mut file: CaptureFile) -> Result<(), Failure> {
    loop {
        let frame = file.next();
        let mut state = shared.lock();
        let Some(frame) = frame.map_err(|error| failure(&error))? else {
            state.skipped = file.skipped();
            return Ok(());
        };
        while state.batch.bytes.len() >= BATCH_BYTES && !state.is_closed {
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.is_closed {
            return Ok(());
        }
        let was_empty = state.batch.frames.is_empty();
        let Frame { time_ns, link, wire_length, bytes, interface } = frame;
        let packet = Packet { link, time_ns, wire_length, interface, length: bytes.len() };
        state.batch.bytes.extend_from_slice(bytes);
        state.batch.frames.push(packet);
        drop(state);
        if was_empty {
            shared.changed.notify_all();
        }
    }
}
