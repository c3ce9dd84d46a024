//! Where records go: files and streams, by io_uring or by plain writes.
//!
//! An output never waits for its disk or its reader. It takes what its buffers hold and leaves the
//! rest in the queue. The writer (`crate::writer`) drops and counts records that an output cannot
//! accept in time.
//!
//! Layers: `file.rs` and `stream.rs` decide what is written where and when (rotation, sync, flush);
//! `transport.rs` writes buffers to a descriptor, with `ring.rs` and `plain.rs` as its two ways;
//! `folder.rs` keeps other programs out, and `links.rs` other users' links; `lines.rs` brings
//! records into an output's form; `form/` has the forms for receivers of messages; `backlog/` has
//! what waits for a receiver; `socket/` connects to receivers, and `remote/` sends records to them;
//! `isolated.rs` gives an output a thread; `buffers.rs` tracks how much of each buffer is written.

pub mod backlog;
mod buffers;
pub mod file;
pub mod folder;
pub mod form;
mod isolated;
pub mod lines;
pub mod links;
mod plain;
pub mod remote;
mod ring;
pub mod socket;
pub mod stream;
mod syncer;
pub mod transport;

use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use panoptes_records::filter::Filter;
use panoptes_records::json::time;
use panoptes_records::queue::RecordBlock;
use panoptes_records::record::RECORD_BYTES_MAX;

pub use self::isolated::IsolatedOutput;

use self::backlog::Backlog;
use self::buffers::OutputBuffers;
use self::plain::PlainWriter;
use self::ring::RingWriter;
use self::transport::{OutputTransport, Target, TransportSettings};

/// How an output writes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OutputKind {
    /// io_uring, from registered buffers.
    IoUring,
    /// `write` and `pwrite`.
    Plain,
}

macro_rules! counters {
    ($($(#[$docs:meta])* $name:ident;)*) => {
        /// Counters of an output; any thread may read them at any time.
        #[derive(Debug, Default)]
        pub struct OutputCounters {
            $($name: AtomicU64,)*
            last_error: AtomicI32,
            failure: Mutex<String>,
            answer: Mutex<String>,
            panic: Mutex<Option<String>>,
            is_released: AtomicBool,
            is_stalled: AtomicBool,
        }

        impl OutputCounters {
            $($(#[$docs])*
            pub fn $name(&self) -> u64 {
                self.$name.load(Ordering::Relaxed)
            })*
        }
    };
}

counters! {
    /// Records that reached the kernel, and all records before them too.
    records;
    /// Bytes that reached the kernel.
    bytes;
    /// Records that this output could not accept in time.
    dropped;
    /// Those of them that it never took.
    skipped;
    /// Records that a receiver refused, and that were dropped for it: `dropped` counts them, too.
    refused;
    /// Writes completed by io_uring.
    ring_writes;
    /// Writes completed by `write` and `pwrite`.
    plain_writes;
    /// Completed syncs.
    syncs;
    rotations;
    /// Connections that were made to a receiver.
    connections;
    /// Connections over which a receiver has taken a record: one that refuses every record, or
    /// that ends each connection at once, is not there for this purpose.
    accepting;
    /// How often the file was not where it belongs, and a file was made there.
    remade;
    /// Broken lines that were removed from the end of the file when it was opened.
    mended;
    /// Failed syncs.
    failed_syncs;
    /// Records that had reached the kernel since the last good sync when one failed: they may be
    /// lost. The kernel does not write them again.
    unsynced;
    /// Other failed operations, retries included.
    errors;
    /// Records that wait for a receiver now: it has not confirmed them.
    waiting;
    /// Their bytes.
    waiting_bytes;
}

impl OutputCounters {
    /// The `errno` of the last failed operation; 0 before the first failure.
    pub fn last_error(&self) -> i32 {
        self.last_error.load(Ordering::Relaxed)
    }

    /// What the last failure of a receiver was; empty before the first one, and for other outputs.
    pub fn failure(&self) -> String {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_failure(&self, failure: impl fmt::Display) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure.to_string();
    }

    /// The words with which a receiver took the first records over its last connection; empty where
    /// it has none for that.
    pub fn answer(&self) -> String {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_answer(&self, answer: &str) {
        answer.clone_into(&mut self.answer.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Why the output was dropped, if it has panicked since the last call. The writer waits for
    /// another one ([`crate::writer::OutputChange::Replace`]).
    pub fn take_panic(&self) -> Option<String> {
        self.panic.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether the output has ended and waits for another one in its place
    /// ([`crate::writer::OutputChange::Release`]).
    pub fn is_released(&self) -> bool {
        self.is_released.load(Ordering::Acquire)
    }

    /// Whether an operation of the output has not ended for seconds: its disk does not answer.
    pub fn is_stalled(&self) -> bool {
        self.is_stalled.load(Ordering::Relaxed)
    }

    pub(crate) fn set_stalled(&self, is_stalled: bool) {
        self.is_stalled.store(is_stalled, Ordering::Relaxed);
    }

    pub(crate) fn set_released(&self) {
        self.is_released.store(true, Ordering::Release);
    }

    pub(crate) fn set_panic(&self, text: String) {
        *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    }

    pub(crate) fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(crate) fn set_waiting(&self, records: usize, bytes: usize) {
        self.waiting.store(records as u64, Ordering::Relaxed);
        self.waiting_bytes.store(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn add_dropped(&self, records: usize) {
        Self::add(&self.dropped, records);
    }

    /// Counts records that the writer did not offer any more.
    pub(crate) fn add_skipped(&self, records: usize) {
        Self::add(&self.skipped, records);
        Self::add(&self.dropped, records);
    }

    pub(crate) fn add_error(&self, error: &std::io::Error) {
        Self::add(&self.errors, 1);
        self.set_error(error);
    }

    pub(crate) fn add_failed_sync(&self, error: &std::io::Error) {
        Self::add(&self.failed_syncs, 1);
        self.set_error(error);
    }

    fn set_error(&self, error: &std::io::Error) {
        let is_taken = error.kind() == std::io::ErrorKind::ResourceBusy;
        let otherwise = if is_taken { libc::EBUSY } else { libc::EIO };
        self.last_error.store(error.raw_os_error().unwrap_or(otherwise), Ordering::Relaxed);
    }
}

/// Opens the requested transport, or plain writes if io_uring is refused.
pub(crate) fn open_transport(
    mut file: File,
    target: Target,
    settings: TransportSettings,
    counters: &Arc<OutputCounters>,
) -> Box<dyn OutputTransport> {
    let most = match target {
        Target::File => settings.buffers,
        Target::Stream => 1,
    };
    let bytes = settings.buffer_bytes.max(RECORD_BYTES_MAX);
    let mut buffers = OutputBuffers::new(settings.buffers.max(2), bytes, most);
    if settings.kind == OutputKind::IoUring {
        match RingWriter::new(file, target, buffers, Arc::clone(counters)) {
            Ok(writer) => return Box::new(writer),
            Err(refused) => (file, buffers) = refused,
        }
    }
    Box::new(PlainWriter::new(file, target, buffers, Arc::clone(counters)))
}

/// The state of an output after a step.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OutputStatus {
    /// All records that it took have reached the kernel, or the receiver.
    Idle,
    /// A write or sync is under way, or records wait for their flush time.
    Busy,
    /// The last operation failed and is retried.
    Failing,
    /// Records wait for a receiver that is gone, or does not read: looking now and then is enough.
    Away,
    /// The reader is gone, which is no error. Later records are discarded and not counted.
    Closed,
}

/// A file that rotates ([`file::FileOutput`]), standard output, a pipe, a terminal
/// ([`stream::StreamOutput`]), or a receiver ([`remote::RemoteOutput`]).
pub trait Output: std::fmt::Debug + Send {
    fn kind(&self) -> OutputKind;

    fn counters(&self) -> &Arc<OutputCounters>;

    /// Takes records of `range`, as many as there is room for, and returns their number.
    fn append(&mut self, block: &RecordBlock, range: Range<usize>, now_ns: u64) -> usize;

    /// Which records it takes.
    fn filter(&self) -> Filter {
        Filter::ALL
    }

    /// Does the work that is due and collects completions. Waits up to `wait` for one when a write
    /// or sync is under way.
    fn advance(&mut self, now_ns: u64, wait: Duration) -> OutputStatus;

    /// Opens its file again, if it has one, when what was taken until now is written.
    fn reopen(&mut self) {}

    /// Whether what waits for its receiver survives it: it is on disk, or
    /// [`Self::hand_over`] returns it.
    fn keeps_waiting(&self) -> bool {
        false
    }

    /// Returns what waits for its receiver in memory: another output takes its place. Nothing but
    /// [`Self::finish`] may follow.
    fn hand_over(&mut self) -> Option<Backlog> {
        None
    }

    /// Takes what waited for the output that was in its place before.
    fn take_over(&mut self, waiting: Backlog) {
        self.counters().add_dropped(waiting.waiting().entries);
    }

    /// Begins to end. Returns whether [`Self::hand_over`], if another output takes its place, and
    /// [`Self::finish`] need no further wait for its thread.
    fn prepare_end(&mut self, _hands_over: bool) -> bool {
        true
    }

    /// Ends the output: records that could not be written are dropped and counted.
    fn finish(&mut self);

    /// A number that grows while it gets rid of records.
    fn progress(&self) -> u64 {
        self.counters().bytes()
    }

    /// Maximum time without progress at the end, as long as something is left to write.
    fn patience_ns(&self) -> u64 {
        PATIENCE_NS
    }
}

/// Maximum time without progress at the end. A disk that other programs keep busy with syncs can
/// stall for seconds; a disk that fails, or a reader that does not read, gets only a short time.
pub(crate) const DISK_PATIENCE_NS: u64 = 20_000_000_000;
pub(crate) const PATIENCE_NS: u64 = 1_000_000_000;
/// Maximum sleep of a thread that writes while work is left, and while none is.
pub(crate) const SHORT_WAIT: Duration = Duration::from_millis(2);
pub(crate) const LONG_WAIT: Duration = Duration::from_millis(500);
/// How long, and how often, the end of an output waits for the kernel before it leaks memory, or
/// for the peer of an encrypted connection.
pub(crate) const LAST_WAIT: Duration = Duration::from_millis(20);
pub(crate) const LAST_WAITS: usize = 10;
/// Nanoseconds of a second.
pub(crate) const SECOND_NS: u64 = time::SECOND_NS as u64;

const _: () = {
    assert!(PATIENCE_NS < DISK_PATIENCE_NS, "a disk that is busy gets more time than a reader");
    assert!(SHORT_WAIT.as_nanos() < LONG_WAIT.as_nanos(), "work that is left is done sooner");
    let last_ns = LAST_WAITS as u128 * LAST_WAIT.as_nanos();
    assert!(last_ns < PATIENCE_NS as u128, "memory is leaked before an output counts as stuck");
};
