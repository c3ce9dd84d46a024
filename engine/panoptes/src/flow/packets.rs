//! The packets of all captures, in the order of argus(8).

use std::io;
use std::path::PathBuf;

use panoptes_capture::{CaptureError, CaptureFile, Frame};

use super::options::Request;
use crate::exit::{Exit, Failure};

/// The packets of all captures, one capture after the other.
#[derive(Debug)]
pub(super) struct Packets {
    /// The captures to come, the last one first.
    paths: Vec<PathBuf>,
    current: Option<CaptureFile>,
    /// Numbers of the first and of the last packet to be read, from 1 on.
    first: u64,
    last: u64,
    read: u64,
    cut_bytes: u64,
}

impl Packets {
    pub(super) fn open(request: &Request) -> Result<Self, Failure> {
        let mut paths = request.captures.clone();
        for folder in &request.folders {
            collect(folder, &mut paths)?;
        }
        paths.reverse();
        let (first, last) = request.packets;
        let mut packets = Self { paths, current: None, first, last, read: 0, cut_bytes: 0 };
        packets.go_on()?;
        Ok(packets)
    }

    /// The link layer of the first capture.
    pub(super) fn link(&self) -> Option<u16> {
        self.current.as_ref().map(CaptureFile::link)
    }

    /// Bytes at the ends of captures that are no whole packets.
    pub(super) const fn cut_bytes(&self) -> u64 {
        self.cut_bytes
    }

    /// Opens the next capture; `false` if there is none.
    fn go_on(&mut self) -> Result<bool, Failure> {
        self.current = match self.paths.pop() {
            None => None,
            Some(path) if path.as_os_str() == "-" => {
                let input = io::stdin();
                Some(
                    CaptureFile::from_reader(input, "standard input")
                        .map_err(|error| failure(&error))?,
                )
            }
            Some(path) => Some(CaptureFile::open(&path).map_err(|error| failure(&error))?),
        };
        Ok(self.current.is_some())
    }

    /// The next packet; `None` at the end of the last capture.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<Frame<'_>>, Failure> {
        loop {
            if self.read >= self.last {
                return Ok(None);
            }
            let Some(capture) = &mut self.current else { return Ok(None) };
            let is_wanted = self.read + 1 >= self.first;
            // Asked twice, because a packet that is returned borrows the capture to the end.
            if !capture.has_next().map_err(|error| failure(&error))? {
                self.cut_bytes += capture.cut_bytes();
                self.go_on()?;
                continue;
            }
            self.read += 1;
            if is_wanted {
                break;
            }
            capture.next().map_err(|error| failure(&error))?;
        }
        match &mut self.current {
            Some(capture) => capture.next().map_err(|error| failure(&error)),
            None => Ok(None),
        }
    }
}

fn failure(error: &CaptureError) -> Failure {
    let exit = match error {
        CaptureError::Io { error, .. } => Exit::from_io(error, Exit::Source),
        _ => Exit::NoKernel,
    };
    Failure::new(exit, error.to_string())
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
