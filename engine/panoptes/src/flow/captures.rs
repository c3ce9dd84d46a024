//! The captures to be read, one after the other, in the order of argus(8).

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use panoptes_flow::{CaptureClock, ClockJump, UNCLEAR_MAX};
use panoptes_packet_files::{CaptureFile, CaptureOptions, Frame, SkippedCounts};

use super::audit::{Audit as _, PacketSourceLosses};
use super::auditor::Auditor;
use super::feed::{self, Feed, FeedBatch, FeedItem};
use super::filter::PacketFilters;
use super::opening::{failure, open};
use super::origin::{CaptureOrigin, none_in};
use super::request::FlowRequest;
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
    origins: Vec<(CaptureOrigin, bool)>,
    options: CaptureOptions,
    messages: Messages,
    /// What the captures have had that was not returned.
    skipped: SkippedCounts,
    pace: Option<Pace>,
    times: CaptureTimes,
}

/// The times of packets.
#[derive(Debug)]
struct CaptureTimes {
    clock: CaptureClock,
    /// Packets whose times are far from those before them, until it is known why.
    unclear: FeedBatch,
}

/// An open capture, and whether it has exports of flows.
pub(super) struct OpenCapture {
    pub(super) reader: OpenCaptureReader,
    has_exports: bool,
}

/// What reads a capture.
pub(super) enum OpenCaptureReader {
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
struct PacketIntake<'a> {
    pace: Option<&'a mut Pace>,
    times: &'a mut CaptureTimes,
    has_exports: bool,
    auditor: &'a mut Auditor,
    filters: &'a mut PacketFilters,
    signals: &'a Signals,
}

impl PacketIntake<'_> {
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
                FeedItem::Frame(frame) if self.packet_apart(&frame)? => {}
                FeedItem::Frame(_) => return Ok(false),
                FeedItem::Report(reason) => self.auditor.report_failure(&reason),
                FeedItem::Nothing => return Ok(true),
                FeedItem::End(result) => return result.map(|()| false),
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
        if !self.filters.matches(frame)? {
            return Ok(true);
        }
        if !self.times.clock.accept(frame.time_ns) || self.times.unclear.count() > 0 {
            return Ok(self.packet_of_other_time(frame));
        }
        Ok(self.count(frame))
    }

    /// Counts a packet whose time is far from those before it, or that follows such packets.
    #[cold]
    fn packet_of_other_time(&mut self, frame: &Frame<'_>) -> bool {
        let time_ns = frame.time_ns;
        if self.times.clock.accept(time_ns) {
            return self.count_unclear(false) && self.count(frame);
        }
        if !self.times.clock.is_with_others(time_ns) && !self.count_unclear(false) {
            return false;
        }
        match self.times.clock.take_other(time_ns) {
            ClockJump::Unclear => {
                self.times.unclear.push(frame);
                return true;
            }
            ClockJump::Pause => {}
            ClockJump::Set(by_ns) => self.auditor.set_clock(by_ns),
        }
        self.count_unclear(true) && self.count(frame)
    }

    /// Counts the packets whose times were unclear. Whether more should follow.
    fn count_unclear(&mut self, are_right: bool) -> bool {
        let mut unclear = std::mem::take(&mut self.times.unclear);
        self.times.clock.forget_others();
        // Nobody waits until a time that is wrong.
        let pace = if are_right { None } else { self.pace.take() };
        if !are_right {
            self.auditor.add_wrong_times(unclear.count() as u64);
        }
        self.auditor.let_time_pass(are_right);
        let goes_on = unclear.frames().all(|frame| self.count_apart(&frame));
        self.auditor.let_time_pass(true);
        unclear.clear();
        self.times.unclear = unclear;
        if pace.is_some() {
            self.pace = pace;
        }
        goes_on
    }

    /// Counts the packets whose times are unclear at the end of a capture, as none shows why. One
    /// that is alone is wrong, unless a pause explains it. `is_only`: the capture has no other, so
    /// that there is nothing from which it differs.
    fn count_last(&mut self, is_only: bool) {
        let CaptureTimes { clock, unclear } = &self.times;
        let are_right = unclear.count() != 1 || is_only || clock.is_behind_pause();
        self.count_unclear(are_right);
    }

    #[inline(never)]
    fn count_apart(&mut self, frame: &Frame<'_>) -> bool {
        self.count(frame)
    }

    /// Counts a packet. Whether more should follow.
    #[expect(clippy::inline_always, reason = "part of `packet`")]
    #[inline(always)]
    fn count(&mut self, frame: &Frame<'_>) -> bool {
        if let Some(pace) = &mut self.pace
            && !pace.wait(frame, self.auditor, self.signals)
        {
            return false;
        }
        if self.has_exports {
            self.auditor.exports(frame);
        } else {
            self.auditor.packet(0, frame);
        }
        !self.auditor.has_all_packets()
    }
}

impl Captures {
    pub(super) fn new(request: &FlowRequest, messages: &Messages) -> Result<Self, Failure> {
        let mut paths = request.input.captures.clone();
        for folder in &request.input.folders {
            let before = paths.len();
            collect(folder, &mut paths)?;
            if paths.len() == before {
                return Err(none_in(folder));
            }
        }
        let exports = request.input.cisco.iter().map(|path| (path.clone(), true));
        let files = paths.into_iter().map(|path| (path, false)).chain(exports);
        let files = files.map(|(path, has_exports)| (origin(path), has_exports));
        let servers = request.input.servers.iter().cloned();
        let servers = servers.map(|server| (CaptureOrigin::Server(server), false));
        let mut origins: Vec<_> = files.chain(servers).collect();
        origins.reverse();
        let options = CaptureOptions {
            as_tsh: request.input.as_tsh,
            follow: request.input.follows,
            ..CaptureOptions::default()
        };
        let pace = request.input.time_scale.map(|scale| Pace { scale, start: None });
        Ok(Self {
            origins,
            options,
            messages: messages.clone(),
            skipped: SkippedCounts::default(),
            pace,
            times: CaptureTimes {
                clock: CaptureClock::default(),
                unclear: FeedBatch::of_packets(UNCLEAR_MAX),
            },
        })
    }

    /// Opens the next capture.
    pub(super) fn open(&mut self) -> Result<Option<OpenCapture>, Failure> {
        let Some((origin, has_exports)) = self.origins.pop() else { return Ok(None) };
        let reader = match origin {
            // Packets of a pipe come when they like, and those of a followed file, too.
            CaptureOrigin::File(path)
                if !path.exists() || !self.options.follow && path.is_file() =>
            {
                OpenCaptureReader::File(Box::new(open(&path, &self.options)?))
            }
            origin => {
                let options = self.options.clone();
                let read = move |link: &feed::FeedProducer| origin.read(&options, link);
                OpenCaptureReader::Feed(Feed::start(self.options.follow, &self.messages, read))
            }
        };
        Ok(Some(OpenCapture { reader, has_exports }))
    }

    /// Reads a capture to its end, or until no more packets are needed. Whether there may be a next
    /// one.
    pub(super) fn read(
        &mut self,
        source: OpenCapture,
        auditor: &mut Auditor,
        filters: &mut PacketFilters,
        signals: &Signals,
    ) -> Result<bool, Failure> {
        let OpenCapture { mut reader, has_exports } = source;
        let (pace, times) = (self.pace.as_mut(), &mut self.times);
        let before = auditor.number();
        let mut take = PacketIntake { pace, times, has_exports, auditor, filters, signals };
        let result = loop {
            if take.auditor.has_ended() || take.signals.have_ended() {
                break Ok(());
            }
            let goes_on = match &mut reader {
                OpenCaptureReader::File(file) => take.read_file(file),
                OpenCaptureReader::Feed(feed) => take.read_feed(feed),
            };
            match goes_on {
                Ok(true) => take.auditor.step(|| PacketSourceLosses::NOTHING),
                result => break result.map(|_| ()),
            }
        };
        let is_only = take.auditor.number() == before;
        take.count_last(is_only);
        self.close(&reader);
        result?;
        Ok(!auditor.has_ended() && !signals.have_ended())
    }

    /// Adds what a capture has had that was not returned.
    fn close(&mut self, reader: &OpenCaptureReader) {
        let skipped = match reader {
            OpenCaptureReader::File(file) => file.skipped(),
            OpenCaptureReader::Feed(feed) => feed.skipped(),
        };
        feed::add(&mut self.skipped, skipped);
    }

    /// What all captures have had that was not returned.
    pub(super) const fn skipped(&self) -> SkippedCounts {
        self.skipped
    }
}

impl Pace {
    /// Waits until a packet's time has come. `false` if a signal ends the program.
    fn wait(&mut self, frame: &Frame<'_>, auditor: &mut Auditor, signals: &Signals) -> bool {
        let (start, first_ns) = *self.start.get_or_insert((Instant::now(), frame.time_ns));
        let passed_s = frame.time_ns.saturating_sub(first_ns) as f64 / 1e9;
        let due = Duration::try_from_secs_f64(passed_s / self.scale).unwrap_or_default();
        while let Some(left) = due.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
            auditor.step(|| PacketSourceLosses::NOTHING);
            if signals.have_ended() {
                return false;
            }
            std::thread::sleep(left.min(WAIT));
        }
        true
    }
}

/// What a name of the command line stands for.
fn origin(path: PathBuf) -> CaptureOrigin {
    if path.as_os_str() == "-" {
        CaptureOrigin::StandardInput
    } else if path.is_dir() {
        CaptureOrigin::Folder(path)
    } else {
        CaptureOrigin::File(path)
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
