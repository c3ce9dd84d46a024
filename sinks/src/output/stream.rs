//! Standard output, a pipe, a terminal: one write under way, and an end that is no error.

use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use panoptes_records::filter::Filter;
use panoptes_records::queue::RecordBlock;

use super::lines::{LineForm, LineFormatter};
use super::transport::{OutputTransport, Target, TransportSettings};
use super::{Output, OutputCounters, OutputKind, OutputStatus, open_transport};

#[derive(Debug)]
pub struct StreamOutput {
    transport: Box<dyn OutputTransport>,
    lines: LineFormatter,
    filter: Filter,
    counters: Arc<OutputCounters>,
    is_terminal: bool,
    is_closed: bool,
    retry_at: Option<u64>,
}

const WRITE_RETRY_NS: u64 = 100_000_000;

impl StreamOutput {
    /// Writes all records, as they are, to `file` at its current position. For standard output,
    /// pass a duplicate of its descriptor.
    pub fn new(file: File, settings: TransportSettings) -> Self {
        let counters = Arc::new(OutputCounters::default());
        let is_terminal = file.is_terminal();
        let transport = open_transport(file, Target::Stream, settings, &counters);
        let (lines, filter) = (LineFormatter::new(LineForm::default()), Filter::ALL);
        Self { transport, lines, filter, counters, is_terminal, is_closed: false, retry_at: None }
    }

    /// Writes records in this form.
    #[must_use]
    pub fn with_form(self, form: LineForm) -> Self {
        Self { lines: LineFormatter::new(form), ..self }
    }

    /// Writes these records only.
    #[must_use]
    pub fn with_filter(self, filter: Filter) -> Self {
        Self { filter, ..self }
    }

    /// Whether the reader has gone for good. The kernel answers EIO for a terminal whose window or
    /// session has ended (`hung_up_tty_write`, drivers/tty/tty_io.c).
    fn is_gone(&self, error: &io::Error) -> bool {
        matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
            || self.is_terminal && error.raw_os_error() == Some(libc::EIO)
    }

    fn take_in(&mut self, error: &io::Error, now_ns: u64) {
        match error.kind() {
            _ if self.is_gone(error) => {
                self.is_closed = true;
                self.transport.buffers().abandon();
            }
            // Another user of the descriptor made it non-blocking.
            io::ErrorKind::WouldBlock => self.retry_at = Some(now_ns),
            _ => {
                self.counters.add_error(error);
                self.retry_at = Some(now_ns + WRITE_RETRY_NS);
            }
        }
    }

    fn standing(&mut self) -> OutputStatus {
        let buffers = self.transport.buffers();
        if self.is_closed {
            OutputStatus::Closed
        } else if self.retry_at.is_some() {
            OutputStatus::Failing
        } else if buffers.is_idle() && buffers.filled() == 0 {
            OutputStatus::Idle
        } else {
            OutputStatus::Busy
        }
    }
}

impl Output for StreamOutput {
    fn kind(&self) -> OutputKind {
        self.transport.kind()
    }

    fn counters(&self) -> &Arc<OutputCounters> {
        &self.counters
    }

    fn filter(&self) -> Filter {
        self.filter
    }

    /// Takes records of `range`, as many as there is room for; all of them after the reader is
    /// gone.
    fn append(&mut self, block: &RecordBlock, range: Range<usize>, _now_ns: u64) -> usize {
        if self.is_closed {
            return range.len();
        }
        let buffers = self.transport.buffers();
        let mut at = range.start;
        while at < range.end {
            let count = self.lines.fitting(block, at..range.end, buffers.room());
            if count > 0 {
                self.lines.append(block, at, count, buffers);
                at += count;
            } else if buffers.filled() > 0 {
                buffers.seal(0);
            } else {
                break;
            }
        }
        at - range.start
    }

    fn advance(&mut self, now_ns: u64, wait: Duration) -> OutputStatus {
        if self.is_closed {
            return OutputStatus::Closed;
        }
        let buffers = self.transport.buffers();
        if buffers.is_idle() {
            buffers.seal(0);
        }
        if self.retry_at.is_some_and(|at| at <= now_ns) {
            self.retry_at = None;
            buffers.retry();
        }
        if let Err(error) = self.transport.advance(wait) {
            self.take_in(&error, now_ns);
        }
        self.standing()
    }

    fn finish(&mut self) {
        let lost = self.transport.buffers().abandon();
        self.counters.add_dropped(lost);
    }
}
