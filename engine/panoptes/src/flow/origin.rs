//! Where captures come from whose next packet may take long, and what follows at their ends: a
//! pipe, a file that grows, a folder to which captures are added, or a server of pcap-over-IP.
//!
//! A thread of its own reads them: see `feed`. All of it comes from strangers.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use panoptes_packet_files::{CaptureError, CaptureFile, CaptureOptions};

use super::feed::{CaptureEnd, FeedProducer};
use super::opening::failure;
use super::rotation::Rotation;
use super::values::{addresses, mistake};
use crate::exit::{Exit, Failure};

/// The port that programs use for pcap-over-IP.
const PORT: u16 = 57_012;
/// The time between two tries to connect: the first one, and the longest one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The time between two looks at a folder, and for a file that is missing.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Seconds until an idle connection is tested, between the tests, and their number.
const KEEP_ALIVE: (u32, u32, u32) = (30, 10, 3);

/// A server that sends a capture to each client that connects.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Server {
    /// Its name in messages.
    name: String,
    addresses: Vec<SocketAddr>,
}

impl Server {
    /// `HOST[:PORT]`, whose name is resolved now.
    pub(super) fn parse(option: &str, text: &str) -> Result<Self, Failure> {
        if text.is_empty() {
            return Err(mistake(format!(
                "{option}: tcp: needs a host, as in `tcp:10.0.0.1:{PORT}`"
            )));
        }
        let addresses = addresses(option, text, PORT)?;
        Ok(Self { name: format!("tcp:{text}"), addresses })
    }
}

/// Where captures come from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum CaptureOrigin {
    StandardInput,
    /// A regular file, or a FIFO.
    File(PathBuf),
    Folder(PathBuf),
    Server(Server),
}

impl CaptureOrigin {
    /// Reads all captures, until nobody needs more. Unless they are followed, that is once.
    pub(super) fn read(self, options: &CaptureOptions, link: &FeedProducer) -> Result<(), Failure> {
        match self {
            Self::StandardInput => {
                link.enter(false);
                let opened = CaptureFile::from_reader(io::stdin(), "standard input", options);
                link.read(opened.map_err(|error| failure(&error))?).map(drop)
            }
            Self::File(path) if options.follow => follow_file(&path, options, link),
            Self::File(path) => {
                let file = open(&path, 0)?;
                link.enter(false);
                let opened = CaptureFile::from_reader(file, &named(&path), options);
                link.read(opened.map_err(|error| failure(&error))?).map(drop)
            }
            Self::Folder(folder) => {
                link.enter(true);
                read_folder(&folder, options, link)
            }
            Self::Server(server) => {
                link.enter(false);
                read_server(&server, options, link)
            }
        }
    }
}

fn named(path: &Path) -> String {
    path.display().to_string()
}

/// Opens a file. With `O_NONBLOCK`, a FIFO without a writer delays nothing.
fn open(path: &Path, flags: i32) -> Result<File, Failure> {
    let opened = File::options().read(true).custom_flags(flags).open(path);
    opened.map_err(|error| not_opened(path, error))
}

fn not_opened(path: &Path, error: io::Error) -> Failure {
    failure(&CaptureError::Open { name: named(path), error })
}

/// Reads a file while it grows, and what takes its place when it is moved or emptied.
fn follow_file(path: &Path, options: &CaptureOptions, link: &FeedProducer) -> Result<(), Failure> {
    let mut file = open(path, libc::O_NONBLOCK)?;
    link.enter(true);
    loop {
        let over = {
            let (link, path) = (link.clone(), path.to_owned());
            let own = file.metadata().map(|own| (own.dev(), own.ino())).ok();
            move || {
                let there = std::fs::metadata(&path).map(|there| (there.dev(), there.ino())).ok();
                link.is_closed() || there.is_some() && there != own
            }
        };
        let ended = match CaptureFile::follow(file, &named(path), options, over) {
            Ok(capture) => link.read(capture)?,
            // It was replaced before anything was written to it.
            Err(CaptureError::Empty { .. }) => CaptureEnd::default(),
            Err(error) => return Err(failure(&error)),
        };
        // The next one may be there in a moment.
        file = loop {
            if ended.is_closed || link.is_closed() {
                return Ok(());
            }
            match open(path, libc::O_NONBLOCK) {
                Ok(file) => break file,
                Err(_) if !path.exists() => _ = link.pause(POLL_INTERVAL),
                Err(error) => return Err(error),
            }
        };
    }
}

/// Reads the captures of a folder; if they are followed, each until the next one has begun.
fn read_folder(
    folder: &Path,
    options: &CaptureOptions,
    link: &FeedProducer,
) -> Result<(), Failure> {
    let rotation = Arc::new(Mutex::new(Rotation::new(folder.to_owned(), link.messages())));
    loop {
        let next = rotation.lock().unwrap_or_else(PoisonError::into_inner).next();
        let cannot = |error: &io::Error| {
            Failure::io(error, Exit::Source, format_args!("cannot read {}", folder.display()))
        };
        let Some((path, file)) = next.map_err(|error| cannot(&error))? else {
            if options.follow && !link.pause(POLL_INTERVAL) {
                continue;
            }
            let lock = rotation.lock().unwrap_or_else(PoisonError::into_inner);
            return if options.follow || lock.has_captures() {
                Ok(())
            } else {
                Err(none_in(folder))
            };
        };
        let read = file.map_err(|error| not_opened(&path, error)).and_then(|file| {
            let (rotation, its) = (Arc::clone(&rotation), link.clone());
            let mut looked: Option<Instant> = None;
            let over = move || {
                if !its.follows() || its.is_closed() {
                    return true;
                }
                let is_due = looked.is_none_or(|looked| looked.elapsed() >= POLL_INTERVAL);
                if is_due {
                    looked = Some(Instant::now());
                }
                is_due && rotation.lock().unwrap_or_else(PoisonError::into_inner).has_next()
            };
            let opened = CaptureFile::follow(file, &named(&path), options, over);
            link.read(opened.map_err(|error| failure(&error))?)
        });
        match read {
            Ok(ended) if ended.is_closed => return Ok(()),
            Ok(_) => {}
            // The others have packets all the same.
            Err(failure) if options.follow => link.report(failure.message),
            Err(failure) => return Err(failure),
        }
    }
}

/// The failure for a folder without a capture.
pub(super) fn none_in(folder: &Path) -> Failure {
    Failure::new(Exit::NoKernel, format!("{} has no capture", folder.display()))
}

/// Reads what a server sends; if it is followed, it connects again at the end.
fn read_server(
    server: &Server,
    options: &CaptureOptions,
    link: &FeedProducer,
) -> Result<(), Failure> {
    let (mut pause, mut reported) = (FIRST_PAUSE, String::new());
    // The stream of each connection has an end.
    let options = CaptureOptions { follow: false, ..options.clone() };
    loop {
        let mut packets = 0;
        let ended = connect(server).and_then(|stream| {
            link.messages().info(format_args!("{}: connected", server.name));
            let opened = CaptureFile::from_reader(stream, &server.name, &options);
            link.count(opened.map_err(|error| failure(&error))?, &mut packets)
        });
        let message = match ended {
            Ok(ended) if ended.is_closed => return Ok(()),
            Ok(_) | Err(_) if !link.follows() => return ended.map(drop),
            Ok(_) => format!("{}: the server has ended the stream", server.name),
            Err(failure) => failure.message,
        };
        if packets > 0 {
            (pause, reported) = (FIRST_PAUSE, String::new());
        }
        // It is tried again and again, and reported once.
        if message != reported {
            link.report(format!("{message}; it is tried again"));
            reported = message;
        }
        if link.pause(pause) {
            return Ok(());
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Connects to the first address of a server that answers.
fn connect(server: &Server) -> Result<TcpStream, Failure> {
    let stream = TcpStream::connect(&server.addresses[..]).map_err(|error| {
        Failure::io(&error, Exit::Source, format_args!("cannot connect to {}", server.name))
    })?;
    // A server that is gone without a word is noticed. Where it is refused, it is not.
    let (idle, interval, count) = KEEP_ALIVE;
    let _ = setsockopt(&stream, sockopt::KeepAlive, &true);
    let _ = setsockopt(&stream, sockopt::TcpKeepIdle, &idle);
    let _ = setsockopt(&stream, sockopt::TcpKeepInterval, &interval);
    let _ = setsockopt(&stream, sockopt::TcpKeepCount, &count);
    Ok(stream)
}
