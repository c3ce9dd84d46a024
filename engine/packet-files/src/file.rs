//! [`CaptureFile`]: the packets of a capture of any format.

use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::buffer::Buffer;
use crate::error::{CaptureError, CaptureFault};
use crate::follow::{CaptureEndCheck, FollowReader};
use crate::frame::{BufferedPacket, Frame, SkippedCounts};
use crate::header;
use crate::pcap::Pcap;
use crate::pcapng::PcapNg;
use crate::snoop::Snoop;
use crate::unpack::{UnpackError, unpack};
use crate::{erf, tsh};

/// What a file was found to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CaptureFormat {
    /// Classic pcap (draft-ietf-opsawg-pcap).
    Pcap,
    /// draft-ietf-opsawg-pcapng.
    PcapNg,
    /// RFC 1761.
    Snoop,
    /// Endace's Extensible Record Format.
    Erf,
    /// NLANR's Time Sequenced Headers.
    Tsh,
}

/// How a capture is read.
#[derive(Clone, Debug, Default)]
pub struct CaptureOptions {
    /// The capture is TSH, which has no mark of its own. It may be compressed.
    pub as_tsh: bool,
    /// At the end of a regular file or FIFO, wait for more. Opening waits, too, until the format
    /// can be detected.
    pub follow: bool,
    /// Ends the wait when it is set, within 100 ms. Without it, a followed capture never ends.
    pub stop: Option<Arc<AtomicBool>>,
}

impl CaptureOptions {
    /// What ends the wait.
    fn over(&self) -> CaptureEndCheck {
        let stop = self.stop.clone();
        Box::new(move || stop.as_ref().is_some_and(|stop| stop.load(Ordering::Relaxed)))
    }
}

/// A capture, read packet by packet.
///
/// Reading ends after the first error, and where the file ends, even within a record. Where the
/// header of a further pcap or pcapng follows a record, its packets follow.
pub struct CaptureFile {
    name: String,
    buffer: Buffer,
    packets: Packets,
    /// A further writer has begun a capture behind the end.
    has_next: Arc<AtomicBool>,
    skipped: SkippedCounts,
    has_failed: bool,
}

/// The reader of each format.
enum Packets {
    Pcap(Pcap),
    PcapNg(PcapNg),
    Snoop(Snoop),
    Erf,
    Tsh,
}

impl CaptureFile {
    /// Opens a file. Its content decides what format it has, and whether it is compressed.
    pub fn open(path: &Path, options: &CaptureOptions) -> Result<Self, CaptureError> {
        let name = path.display().to_string();
        let wrong = |error| CaptureError::Open { name: name.clone(), error };
        if options.follow {
            let reader = FollowReader::open(path, options.over()).map_err(wrong)?;
            return Self::start_following(reader, name, options);
        }
        Self::start(Box::new(File::open(path).map_err(wrong)?), name, options)
    }

    /// Reads a capture from any reader; errors have its name.
    pub fn from_reader(
        reader: impl Read + Send + 'static,
        name: &str,
        options: &CaptureOptions,
    ) -> Result<Self, CaptureError> {
        let reader: Box<dyn Read + Send> = if options.follow {
            Box::new(FollowReader::new(reader, options.over()))
        } else {
            Box::new(reader)
        };
        Self::start(reader, name.to_owned(), options)
    }

    /// Reads an open file while it grows. Errors have `name`. At the end it waits for more until
    /// `over` returns `true`, which is asked every 100 ms: then it reads what has been written by
    /// then, and ends. A regular file that has become shorter than what was read ends, too.
    ///
    /// A FIFO should be open without blocking (`O_NONBLOCK`).
    pub fn follow(
        file: File,
        name: &str,
        options: &CaptureOptions,
        over: impl FnMut() -> bool + Send + 'static,
    ) -> Result<Self, CaptureError> {
        let reader = FollowReader::of_file(file, Box::new(over));
        Self::start_following(reader, name.to_owned(), options)
    }

    fn start_following(
        reader: FollowReader<File>,
        name: String,
        options: &CaptureOptions,
    ) -> Result<Self, CaptureError> {
        let has_next = reader.has_next();
        let file = Self::start(Box::new(reader), name, options)?;
        Ok(Self { has_next, ..file })
    }

    fn start(
        reader: Box<dyn Read + Send>,
        mut name: String,
        options: &CaptureOptions,
    ) -> Result<Self, CaptureError> {
        let unpacked = match unpack(reader) {
            Ok(unpacked) => unpacked,
            Err(UnpackError::Read(error)) => {
                return Err(CaptureError::Read { name, offset: 0, error });
            }
            Err(UnpackError::Compression(compression)) => {
                return Err(CaptureError::Compression { name, compression });
            }
        };
        if unpacked.was_compressed {
            name.push_str(" (unpacked)");
        }
        let mut buffer = Buffer::new(unpacked.reader);
        match detect(&mut buffer, options) {
            Ok(packets) => {
                let (skipped, has_next) = (SkippedCounts::default(), Arc::default());
                Ok(Self { name, buffer, packets, has_next, skipped, has_failed: false })
            }
            Err(fault) => Err(fault.of(&name, buffer.offset())),
        }
    }

    /// The format that the content was found to have.
    pub fn format(&self) -> CaptureFormat {
        match self.packets {
            Packets::Pcap(_) => CaptureFormat::Pcap,
            Packets::PcapNg(_) => CaptureFormat::PcapNg,
            Packets::Snoop(_) => CaptureFormat::Snoop,
            Packets::Erf => CaptureFormat::Erf,
            Packets::Tsh => CaptureFormat::Tsh,
        }
    }

    /// The next packet; `None` at the end and after an error.
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot lend its items")]
    #[expect(clippy::inline_always, reason = "what was found stays in registers")]
    #[inline(always)]
    pub fn next(&mut self) -> Result<Option<Frame<'_>>, CaptureError> {
        if self.has_failed {
            return Ok(None);
        }
        let (buffer, skipped) = (&mut self.buffer, &mut self.skipped);
        // Each format lends by itself: a result that all share would go through memory.
        match &mut self.packets {
            Packets::Pcap(pcap) => {
                let found = pcap.next(buffer, skipped);
                self.lend(found)
            }
            Packets::PcapNg(pcapng) => {
                let found = pcapng.next(buffer, skipped);
                self.lend(found)
            }
            Packets::Snoop(snoop) => {
                let found = snoop.next(buffer, skipped);
                self.lend(found)
            }
            Packets::Erf => {
                let found = erf::next(buffer, skipped);
                self.lend(found)
            }
            Packets::Tsh => {
                let found = tsh::next(buffer, skipped);
                self.lend(found)
            }
        }
    }

    #[expect(clippy::inline_always, reason = "what was found stays in registers")]
    #[inline(always)]
    fn lend(
        &mut self,
        found: Result<Option<BufferedPacket>, CaptureFault>,
    ) -> Result<Option<Frame<'_>>, CaptureError> {
        match found {
            Ok(Some(found)) => Ok(Some(self.frame(found))),
            Ok(None) => self.next_behind(),
            Err(fault) => Err(self.fail(fault)),
        }
    }

    #[expect(clippy::inline_always, reason = "part of `next`")]
    #[inline(always)]
    fn frame(&self, found: BufferedPacket) -> Frame<'_> {
        Frame {
            time_ns: found.time_ns,
            link: found.link,
            wire_length: found.wire_length,
            bytes: self.buffer.consumed(found.start, found.length),
            interface: found.interface,
        }
    }

    /// The first packet behind the end of a capture, if a further one begins there.
    #[cold]
    #[inline(never)]
    fn next_behind(&mut self) -> Result<Option<Frame<'_>>, CaptureError> {
        match self.find_behind() {
            Ok(found) => Ok(found.map(|found| self.frame(found))),
            Err(fault) => Err(self.fail(fault)),
        }
    }

    /// Each turn consumes a header.
    fn find_behind(&mut self) -> Result<Option<BufferedPacket>, CaptureFault> {
        loop {
            let (buffer, skipped) = (&mut self.buffer, &mut self.skipped);
            if self.has_next.swap(false, Ordering::Relaxed) {
                buffer.go_on();
            }
            buffer.has(header::MARK_BYTES)?;
            let Some(length) = header::length(buffer.window()) else { return Ok(None) };
            if !buffer.has(length)? {
                buffer.cut(skipped);
                return Ok(None);
            }
            let Some(packets) = pcap_or_pcapng(buffer)? else { return Ok(None) };
            self.packets = packets;
            let found = match &mut self.packets {
                Packets::Pcap(pcap) => pcap.next(buffer, skipped)?,
                Packets::PcapNg(pcapng) => pcapng.next(buffer, skipped)?,
                Packets::Snoop(_) | Packets::Erf | Packets::Tsh => None,
            };
            if found.is_some() {
                return Ok(found);
            }
        }
    }

    /// What was not returned so far.
    pub fn skipped(&self) -> SkippedCounts {
        SkippedCounts { is_compression_cut: self.buffer.is_cut(), ..self.skipped }
    }

    #[cold]
    fn fail(&mut self, fault: CaptureFault) -> CaptureError {
        self.has_failed = true;
        fault.of(&self.name, self.buffer.offset())
    }
}

impl fmt::Debug for CaptureFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("CaptureFile");
        shown.field("name", &self.name).field("format", &self.format()).finish_non_exhaustive()
    }
}

/// Detects the format, and reads the file's header.
fn detect(buffer: &mut Buffer, options: &CaptureOptions) -> Result<Packets, CaptureFault> {
    if !buffer.has(1)? {
        let end = || CaptureFault::Read(ErrorKind::UnexpectedEof.into());
        return Err(if buffer.is_cut() { end() } else { CaptureFault::Empty });
    }
    if options.as_tsh {
        tsh::check(buffer)?;
        return Ok(Packets::Tsh);
    }
    if let Some(packets) = pcap_or_pcapng(buffer)? {
        return Ok(packets);
    }
    if let Some(snoop) = Snoop::open(buffer)? {
        return Ok(Packets::Snoop(snoop));
    }
    if erf::detect(buffer)? { Ok(Packets::Erf) } else { Err(CaptureFault::UnknownFormat) }
}

/// The two formats whose headers may come again within a stream.
fn pcap_or_pcapng(buffer: &mut Buffer) -> Result<Option<Packets>, CaptureFault> {
    if let Some(pcap) = Pcap::open(buffer)? {
        return Ok(Some(Packets::Pcap(pcap)));
    }
    Ok(PcapNg::open(buffer)?.map(Packets::PcapNg))
}
