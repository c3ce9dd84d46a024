//! The captures to be read, one after the other, in the order of argus(8).

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use panoptes_capture::{CaptureFile, Frame, Options, Skipped};

use super::auditor::Auditor;
use super::feed::{Feed, Next};
use super::filter::PacketFilters;
use super::opening::{failure, open};
use super::request::Request;
use super::signals::Signals;
use crate::exit::{Exit, Failure};
use crate::message::Messages;

/// Packets between two looks at outputs and signals.
const PACKETS_BETWEEN: u32 = 4096;
/// The longest wait without such a look.
const WAIT: Duration = Duration::from_millis(20);

/// The captures to be read.
#[derive(Debug)]
pub(super) struct Captures {
    /// The captures to come, the last one first, and whether they have exports of flows.
    paths: Vec<(PathBuf, bool)>,
    options: Options,
    /// What the captures have had that was not returned.
    skipped: Skipped,
    pace: Option<Pace>,
}

/// An open capture, and whether it has exports of flows.
pub(super) struct Source {
    pub(super) reader: Reader,
    has_exports: bool,
}

/// What reads a capture.
pub(super) enum Reader {
    File(Box<CaptureFile>),
    /// One whose next packet may take long: it is read by a thread of its own.
    Feed(Feed),
}

/// The speed at which captures are read.
#[derive(Debug)]
struct Pace {
    /// Seconds of the captures in one second.
    scale: f64,
    /// When the first packet was read, and its own time.
    start: Option<(Instant, i64)>,
}

/// What takes a packet.
struct Taking<'a> {
    pace: Option<&'a mut Pace>,
    has_exports: bool,
    auditor: &'a mut Auditor,
    filters: &'a mut PacketFilters,
    signals: &'a mut Signals,
    messages: &'a Messages,
}

impl Taking<'_> {
    /// Reads packets until the outputs should be looked at. Whether more should follow.
    fn read_file(&mut self, file: &mut CaptureFile) -> Result<bool, Failure> {
        for _ in 0..PACKETS_BETWEEN {
            match file.next() {
                Ok(Some(frame)) if self.packet(&frame)? => {}
                Ok(_) => return Ok(false),
                Err(error) => return Err(failure(&error)),
            }
        }
        Ok(true)
    }

    /// The same, of packets that may take long.
    fn read_feed(&mut self, feed: &mut Feed) -> Result<bool, Failure> {
        for _ in 0..PACKETS_BETWEEN {
            match feed.next(WAIT) {
                Next::Frame(frame) if self.packet_apart(&frame)? => {}
                Next::Frame(_) => return Ok(false),
                Next::Nothing => return Ok(true),
                Next::End(result) => return result.map(|()| false),
            }
        }
        Ok(true)
    }

    /// The same as [`packet`](Self::packet), as a function of its own.
    #[inline(never)]
    fn packet_apart(&mut self, frame: &Frame<'_>) -> Result<bool, Failure> {
        self.packet(frame)
    }

    /// Counts a packet that matches the filter. Whether more should follow.
    #[expect(clippy::inline_always, reason = "what was found and decoded stays in registers")]
    #[inline(always)]
    fn packet(&mut self, frame: &Frame<'_>) -> Result<bool, Failure> {
        if let Some(pace) = &mut self.pace
            && !pace.wait(frame, self.auditor, self.signals, self.messages)
        {
            return Ok(false);
        }
        if self.filters.matches(frame)? {
            if self.has_exports {
                self.auditor.exports(frame);
            } else {
                self.auditor.packet(0, frame);
            }
        }
        Ok(!self.auditor.has_all_packets())
    }
}

impl Captures {
    pub(super) fn new(request: &Request) -> Result<Self, Failure> {
        let mut paths = request.captures.clone();
        for folder in &request.folders {
            collect(folder, &mut paths)?;
        }
        let exports = request.cisco.iter().map(|path| (path.clone(), true));
        let mut paths: Vec<_> =
            paths.into_iter().map(|path| (path, false)).chain(exports).collect();
        paths.reverse();
        let options =
            Options { as_tsh: request.as_tsh, follow: request.follows, ..Options::default() };
        let pace = request.time_scale.map(|scale| Pace { scale, start: None });
        Ok(Self { paths, options, skipped: Skipped::default(), pace })
    }

    /// Opens the next capture.
    pub(super) fn open(&mut self) -> Result<Option<Source>, Failure> {
        let Some((path, has_exports)) = self.paths.pop() else { return Ok(None) };
        let is_standard_input = path.as_os_str() == "-";
        // Packets of a pipe come when they like, and those of a followed file, too.
        let may_wait = self.options.follow || is_standard_input || !path.is_file();
        let reader = if may_wait && (is_standard_input || path.exists()) {
            Reader::Feed(Feed::start(path, self.options.clone()))
        } else {
            Reader::File(Box::new(open(&path, &self.options)?))
        };
        Ok(Some(Source { reader, has_exports }))
    }

    /// Reads a capture to its end, or until no more packets are needed. Whether there may be a next
    /// one.
    pub(super) fn read(
        &mut self,
        source: Source,
        auditor: &mut Auditor,
        filters: &mut PacketFilters,
        signals: &mut Signals,
        messages: &Messages,
    ) -> Result<bool, Failure> {
        let Source { mut reader, has_exports } = source;
        loop {
            if auditor.has_ended() || signals.have_ended(messages) {
                break;
            }
            let pace = self.pace.as_mut();
            let mut take = Taking { pace, has_exports, auditor, filters, signals, messages };
            let goes_on = match &mut reader {
                Reader::File(file) => take.read_file(file)?,
                Reader::Feed(feed) => take.read_feed(feed)?,
            };
            if !goes_on {
                break;
            }
            auditor.step(|| 0);
        }
        self.close(&reader);
        Ok(!auditor.has_ended() && !signals.have_ended(messages))
    }

    /// Adds what a capture has had that was not returned.
    fn close(&mut self, reader: &Reader) {
        let skipped = match reader {
            Reader::File(file) => file.skipped(),
            Reader::Feed(feed) => feed.skipped(),
        };
        let all = &mut self.skipped;
        all.unknown_records += skipped.unknown_records;
        all.oversized_packets += skipped.oversized_packets;
        all.damaged_packets += skipped.damaged_packets;
        all.cut_bytes += skipped.cut_bytes;
        all.is_compression_cut |= skipped.is_compression_cut;
    }

    /// What all captures have had that was not returned.
    pub(super) const fn skipped(&self) -> Skipped {
        self.skipped
    }
}

impl Pace {
    /// Waits until a packet's time has come. `false` if a signal ends the program.
    fn wait(
        &mut self,
        frame: &Frame<'_>,
        auditor: &mut Auditor,
        signals: &mut Signals,
        messages: &Messages,
    ) -> bool {
        let (start, first_ns) = *self.start.get_or_insert((Instant::now(), frame.time_ns));
        let passed_s = frame.time_ns.saturating_sub(first_ns) as f64 / 1e9;
        let due = Duration::try_from_secs_f64(passed_s / self.scale).unwrap_or_default();
        while let Some(left) = due.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
            auditor.step(|| 0);
            if signals.have_ended(messages) {
                return false;
            }
            std::thread::sleep(left.min(WAIT));
        }
        true
    }
}

/// The files below a folder, by name.
fn collect(folder: &PathBuf, paths: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let failed = |error: &io::Error| {
        Failure::io(error, Exit::Source, format_args!("cannot read {}", folder.display()))
    };
    let entries = std::fs::read_dir(folder).map_err(|error| failed(&error))?;
    let mut found = Vec::new();
    for entry in entries {
        found.push(entry.map_err(|error| failed(&error))?.path());
    }
    found.sort();
    for path in found {
        if path.is_dir() && !path.is_symlink() {
            collect(&path, paths)?;
        } else if path.is_file() {
            paths.push(path);
        }
    }
    Ok(())
}
