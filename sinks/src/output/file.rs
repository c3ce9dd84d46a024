//! The event log: a file that grows, rotates by size and is synced as configured.
//!
//! Writes go to explicit offsets, so several can be under way and a failed one can be retried in
//! its place: a full disk tears no line. A file ends only between two records. When a file is full,
//! writes under way are finished, a new file is created, the old ones are renamed ([`chain`]) and
//! the new one begins; meanwhile records wait in the queue.
//!
//! Once a second, and before each rotation, the file must have its name. If somebody moved it, the
//! log continues in a new file of that name. If somebody removed it, what was written since it was
//! last seen there is copied, because nobody could read it.

mod chain;
mod mend;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use panoptes_records::filter::Filter;
use panoptes_records::queue::RecordBlock;

pub use self::chain::LogFiles;

use self::mend::mend;
use super::folder::{FolderLock, has_name};
use super::lines::{LineForm, LineFormatter};
use super::transport::{OutputTransport, Target, TransportSettings};
use super::{
    DISK_PATIENCE_NS, LAST_WAIT, Output, OutputCounters, OutputKind, OutputStatus, PATIENCE_NS,
    SECOND_NS, open_transport,
};

/// How a file is kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FileOptions {
    /// Maximum file size in bytes; only a single record that is longer may exceed it.
    pub rotate_size: u64,
    /// Number of old files kept. Those with higher numbers are removed when the file is opened.
    pub max_files: u32,
    /// Data is forced to the disk when this many nanoseconds have passed and data was written,
    /// before a file is rotated, and at the end; `None`: the kernel decides.
    pub sync_ns: Option<u64>,
    /// Which records the file has.
    pub filter: Filter,
    pub form: LineForm,
    pub transport: TransportSettings,
}

impl Default for FileOptions {
    /// 64 MiB per file, eight old files.
    fn default() -> Self {
        Self {
            rotate_size: 64 << 20,
            max_files: 8,
            sync_ns: None,
            filter: Filter::ALL,
            form: LineForm::default(),
            transport: TransportSettings::default(),
        }
    }
}

#[derive(Debug)]
pub struct FileOutput {
    transport: Box<dyn OutputTransport>,
    lines: LineFormatter,
    chain: LogFiles,
    options: FileOptions,
    counters: Arc<OutputCounters>,
    /// Where the file ends, buffered records included.
    size: u64,
    phase: Phase,
    /// When the oldest record in the buffer being filled arrived.
    waiting_since: Option<u64>,
    /// Whether data was written since the last sync.
    is_dirty: bool,
    next_sync: u64,
    next_check: u64,
    /// When to retry after a failure.
    retry_at: Option<u64>,
    /// After a failed change of files, when it is tried again. The file may grow until then, unless
    /// it was removed: nobody could see how large it is.
    change_after: u64,
    /// What was written when the file was last seen under its name.
    seen: WriteProgress,
    is_gone: bool,
    synced: SyncProgress,
    lock: Option<Arc<FolderLock>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct WriteProgress {
    /// Bytes of the file, whole records.
    end: u64,
    /// Records of the output.
    records: u64,
}

/// Which of the output's records have a sync with a known result.
#[derive(Debug, Default)]
struct SyncProgress {
    /// Records before the last sync whose result is known.
    known: u64,
    /// Records before the sync that is under way, and how many had failed then.
    begun: Option<(u64, u64)>,
}

/// Progress of a change to another file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Writing,
    /// Waits until everything is written.
    Draining(Change),
    /// Waits until everything is synced.
    Syncing(Change),
}

/// Why to change to another file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Change {
    Full,
    /// It does not have its name any more.
    Gone,
    /// It was requested, by who has moved the file.
    Asked,
}

/// Maximum time that a record waits for others to share its write.
const FLUSH_NS: u64 = 5_000_000;
const FILE_RETRY_NS: u64 = 100_000_000;
/// How often `finish` waits, for [`LAST_WAIT`] each time.
const FILE_LAST_WAITS: usize = 100;

impl FileOutput {
    /// Opens the file at its end, or creates it, with its folder. Broken lines at its end, which a
    /// crash left, are removed.
    pub fn open(path: &Path, options: FileOptions) -> io::Result<Self> {
        Self::open_with(path, options, |file, counters| {
            open_transport(file, Target::File, options.transport, counters)
        })
    }

    fn open_with(
        path: &Path,
        options: FileOptions,
        open_transport: impl FnOnce(File, &Arc<OutputCounters>) -> Box<dyn OutputTransport>,
    ) -> io::Result<Self> {
        let chain = LogFiles::new(path, options.max_files);
        let counters = Arc::new(OutputCounters::default());
        let (file, size) = open_current(&chain, &counters)?;
        if let Err(error) = chain.remove_surplus() {
            counters.add_error(&error);
        }
        let transport = open_transport(file, &counters);
        Ok(Self {
            transport,
            lines: LineFormatter::new(options.form),
            chain,
            options,
            counters,
            size,
            phase: Phase::Writing,
            waiting_since: None,
            is_dirty: false,
            next_sync: 0,
            next_check: 0,
            retry_at: None,
            change_after: 0,
            seen: WriteProgress { end: size, records: 0 },
            is_gone: false,
            synced: SyncProgress::default(),
            lock: None,
        })
    }

    /// Keeps this lock, and makes no file anew that another program has by then.
    #[must_use]
    pub fn with_lock(self, lock: &Arc<FolderLock>) -> Self {
        Self { lock: Some(Arc::clone(lock)), ..self }
    }

    fn hold_lock(&self) -> io::Result<()> {
        self.lock.as_ref().map_or(Ok(()), |lock| lock.hold())
    }

    fn room_in_file(&self, now_ns: u64) -> usize {
        if now_ns < self.change_after && !self.is_gone {
            return usize::MAX;
        }
        usize::try_from(self.options.rotate_size.saturating_sub(self.size)).unwrap_or(usize::MAX)
    }

    fn seal(&mut self) {
        let buffers = self.transport.buffers();
        let offset = self.size - buffers.filled() as u64;
        buffers.seal(offset);
        self.waiting_since = None;
        self.is_dirty = true;
    }

    fn standing(&mut self) -> OutputStatus {
        let buffers = self.transport.buffers();
        if buffers.has_failed() {
            OutputStatus::Failing
        } else if self.phase == Phase::Writing && buffers.is_idle() && buffers.filled() == 0 {
            OutputStatus::Idle
        } else {
            OutputStatus::Busy
        }
    }

    /// A buffer is written at once if no other is under way; else it waits a little, to be fuller.
    fn is_flush_due(&mut self, now_ns: u64) -> bool {
        let is_due = self.waiting_since.is_none_or(|since| now_ns >= since + FLUSH_NS);
        let is_over = self.phase != Phase::Writing;
        let buffers = self.transport.buffers();
        buffers.filled() > 0 && (is_due || is_over || buffers.is_idle())
    }

    fn advance_change(&mut self, now_ns: u64) {
        let is_syncing = self.transport.is_syncing();
        let buffers = self.transport.buffers();
        let is_idle = buffers.is_idle();
        let is_at_rest = buffers.under_way() == 0 && !is_syncing;
        if let Phase::Draining(change) = self.phase
            // What a full disk does not accept can go into another file.
            && (is_idle || change != Change::Full && buffers.has_failed())
            && is_at_rest
        {
            if self.options.sync_ns.is_some() {
                self.begin_sync();
                self.is_dirty = false;
            }
            self.phase = Phase::Syncing(change);
        }
        if let Phase::Syncing(change) = self.phase
            && !self.transport.is_syncing()
            && self.transport.buffers().under_way() == 0
        {
            self.phase = Phase::Writing;
            let changed = match change {
                Change::Full if self.is_current() => self.rotate(),
                Change::Full | Change::Gone => self.remake(true),
                Change::Asked => self.remake(false),
            };
            if let Err(error) = changed {
                // Better a file too long than records lost: it is tried again a little later.
                self.counters.add_error(&error);
                self.change_after = now_ns + SECOND_NS;
            }
        }
    }

    fn begin_sync(&mut self) {
        self.end_sync();
        if !self.transport.is_syncing() {
            self.synced.begun = Some((self.counters.records(), self.counters.failed_syncs()));
            self.transport.begin_sync();
        }
    }

    /// Counts the records that a sync which has failed may have lost. There is no second try: the
    /// kernel has dropped what it could not write.
    fn end_sync(&mut self) {
        if self.transport.is_syncing() {
            return;
        }
        if let Some((records, failed)) = self.synced.begun.take() {
            let mut known = records;
            if self.counters.failed_syncs() > failed {
                // What was written meanwhile may be lost, too.
                known = self.counters.records();
                OutputCounters::add(&self.counters.unsynced, (known - self.synced.known) as usize);
            }
            self.synced.known = known;
        }
    }

    fn is_current(&self) -> bool {
        self.transport.file().metadata().is_ok_and(|opened| has_name(&opened, self.chain.current()))
    }

    /// Whether the file has no name at all.
    fn is_removed(&self) -> bool {
        self.transport.file().metadata().is_ok_and(|opened| opened.nlink() == 0)
    }

    /// Begins a new file and makes the current one an old one.
    fn rotate(&mut self) -> io::Result<()> {
        let file = self.chain.rotate()?;
        self.begin(file, 0)?;
        OutputCounters::add(&self.counters.rotations, 1);
        Ok(())
    }

    /// Continues in another file, at this place.
    fn begin(&mut self, file: File, end: u64) -> io::Result<()> {
        self.transport.set_file(file)?;
        self.lines.begin();
        let buffers = self.transport.buffers();
        self.size = buffers.move_to(end) + buffers.filled() as u64;
        self.saw_file();
        Ok(())
    }

    fn saw_file(&mut self) {
        self.seen = self.written();
        self.is_gone = false;
    }

    fn written(&mut self) -> WriteProgress {
        let end = self.size - self.transport.buffers().pending();
        WriteProgress { end, records: self.counters.records() }
    }

    /// Opens or creates a file of the log's name, unless the one that is written has it.
    fn remake(&mut self, is_surprise: bool) -> io::Result<()> {
        if self.is_current() {
            self.saw_file();
            return Ok(());
        }
        self.is_gone = true;
        self.hold_lock()?;
        let (file, mut end) = open_current(&self.chain, &self.counters)?;
        let (seen, written) = (self.seen, self.written());
        if self.is_removed() && written.end > seen.end {
            match copy(self.transport.file(), seen.end..written.end, &file, end) {
                Ok(()) => end += written.end - seen.end,
                Err(error) => {
                    // The space is free when the removed file is closed.
                    file.set_len(end)?;
                    self.counters.add_error(&error);
                    self.counters.add_dropped((written.records - seen.records) as usize);
                }
            }
        }
        if !self.is_removed() && !self.transport.buffers().is_idle() {
            // Records that are not wholly written there follow in the new file.
            self.transport.file().set_len(written.end)?;
        }
        self.begin(file, end)?;
        self.is_dirty = true;
        OutputCounters::add(&self.counters.remade, usize::from(is_surprise));
        Ok(())
    }

    /// Checks once a second whether another program has cut, moved or removed the file.
    fn check_file(&mut self, now_ns: u64) {
        if now_ns < self.next_check || matches!(self.phase, Phase::Syncing(_)) {
            return;
        }
        self.next_check = now_ns + SECOND_NS;
        let Ok(opened) = self.transport.file().metadata() else {
            return;
        };
        if !has_name(&opened, self.chain.current()) {
            if self.phase != Phase::Draining(Change::Asked) {
                self.phase = Phase::Draining(Change::Gone);
            }
            return;
        }
        if let Err(error) = self.hold_lock() {
            self.counters.add_error(&error);
        }
        let is_at_rest = self.transport.buffers().pending() == 0 && !self.transport.is_syncing();
        if opened.len() < self.size && is_at_rest {
            self.size = opened.len();
            self.lines.begin();
        }
        self.saw_file();
    }

    /// Writes what is in the buffers, as far as the disk accepts it, and ends a sync.
    fn write_out(&mut self) {
        self.transport.buffers().retry();
        for _ in 0..FILE_LAST_WAITS {
            if let Err(error) = self.transport.advance(LAST_WAIT) {
                self.counters.add_error(&error);
            }
            let is_syncing = self.transport.is_syncing();
            let buffers = self.transport.buffers();
            let is_over = buffers.is_idle() || buffers.has_failed() && buffers.under_way() == 0;
            if is_over && !is_syncing {
                break;
            }
        }
    }
}

/// Opens the current file of a log, and returns where it ends.
fn open_current(chain: &LogFiles, counters: &OutputCounters) -> io::Result<(File, u64)> {
    let file = chain.open()?;
    let mended = mend(&file)?;
    OutputCounters::add(&counters.mended, mended.lines);
    Ok((file, mended.end))
}

/// Copies a part of a file to a place in another one.
fn copy(mut from: &File, part: Range<u64>, mut to: &File, at: u64) -> io::Result<()> {
    from.seek(SeekFrom::Start(part.start))?;
    to.seek(SeekFrom::Start(at))?;
    let length = part.end - part.start;
    let copied = io::copy(&mut from.take(length), &mut to)?;
    if copied == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

impl Output for FileOutput {
    fn patience_ns(&self) -> u64 {
        if self.retry_at.is_some() { PATIENCE_NS } else { DISK_PATIENCE_NS }
    }

    fn kind(&self) -> OutputKind {
        self.transport.kind()
    }

    fn counters(&self) -> &Arc<OutputCounters> {
        &self.counters
    }

    fn filter(&self) -> Filter {
        self.options.filter
    }

    fn append(&mut self, block: &RecordBlock, range: Range<usize>, now_ns: u64) -> usize {
        let mut at = range.start;
        while self.phase == Phase::Writing && at < range.end {
            let in_file = self.room_in_file(now_ns);
            let in_buffer = self.transport.buffers().room();
            let lines = &mut self.lines;
            let mut count = lines.fitting(block, at..range.end, in_buffer.min(in_file));
            if count == 0 {
                let is_first = self.size == 0 && lines.fitting(block, at..range.end, in_buffer) > 0;
                if is_first {
                    count = 1; // longer than the maximum file size: it gets a file of its own
                } else if lines.fitting(block, at..range.end, in_file) == 0 && self.size > 0 {
                    if now_ns >= self.change_after {
                        self.phase = Phase::Draining(Change::Full);
                    }
                    break;
                } else if self.transport.buffers().filled() > 0 {
                    self.seal();
                    continue;
                } else {
                    break;
                }
            }
            let length = self.lines.append(block, at, count, self.transport.buffers());
            self.size += length as u64;
            self.waiting_since.get_or_insert(now_ns);
            at += count;
        }
        at - range.start
    }

    fn advance(&mut self, now_ns: u64, wait: Duration) -> OutputStatus {
        self.check_file(now_ns);
        if self.is_flush_due(now_ns) {
            self.seal();
        }
        if self.retry_at.is_some_and(|at| at <= now_ns) {
            self.retry_at = None;
            self.transport.buffers().retry();
        }
        if let Some(period) = self.options.sync_ns
            && self.phase == Phase::Writing
            && self.is_dirty
            && !self.transport.is_syncing()
            && now_ns >= self.next_sync
        {
            self.next_sync = now_ns + period;
            // This sync may miss writes that are still under way.
            self.is_dirty = !self.transport.buffers().is_idle();
            self.begin_sync();
        }
        if let Err(error) = self.transport.advance(wait) {
            self.counters.add_error(&error);
            self.retry_at = Some(now_ns + FILE_RETRY_NS);
        }
        self.end_sync();
        self.advance_change(now_ns);
        self.standing()
    }

    fn reopen(&mut self) {
        // A rotation that is about to begin a file does the same.
        if !matches!(self.phase, Phase::Syncing(_)) {
            self.phase = Phase::Draining(Change::Asked);
        }
    }

    /// Writes and syncs what is left. Records that the disk does not accept are dropped and
    /// counted, and so are those of a file that was removed and can't be made anew; the file ends
    /// after a whole line.
    fn finish(&mut self) {
        self.seal();
        self.phase = Phase::Writing;
        self.write_out();
        let is_at_rest = self.transport.buffers().under_way() == 0 && !self.transport.is_syncing();
        if self.is_removed() && is_at_rest {
            let lost = self.written().records - self.seen.records;
            if let Err(error) = self.remake(true) {
                self.counters.add_error(&error);
                self.counters.add_dropped(lost as usize);
            }
            self.write_out();
        }
        if let Some(end) = self.transport.buffers().whole_end() {
            let lost = self.transport.buffers().abandon();
            self.counters.add_dropped(lost);
            // A write that is still under way would leave a hole behind the new end.
            if self.transport.buffers().under_way() == 0 {
                if let Err(error) = self.transport.file().set_len(end) {
                    self.counters.add_error(&error);
                }
                self.size = end;
            }
        }
        if self.options.sync_ns.is_some() {
            self.begin_sync();
            for _ in 0..FILE_LAST_WAITS {
                if let Err(error) = self.transport.advance(LAST_WAIT) {
                    self.counters.add_error(&error);
                }
                if !self.transport.is_syncing() {
                    break;
                }
            }
            self.end_sync();
        }
    }
}

#[cfg(test)]
mod tests;
