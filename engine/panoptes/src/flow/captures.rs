//! The captures to be read, one after the other, in the order of argus(8).

use std::io;
use std::path::PathBuf;

use panoptes_capture::{CaptureError, CaptureFile, Options, Skipped};

use super::options::Request;
use crate::exit::{Exit, Failure};

/// The captures to be read.
#[derive(Debug)]
pub(super) struct Captures {
    /// The captures to come, the last one first.
    paths: Vec<PathBuf>,
    options: Options,
    /// What the captures have had that was not returned.
    skipped: Skipped,
}

impl Captures {
    pub(super) fn new(request: &Request) -> Result<Self, Failure> {
        let mut paths = request.captures.clone();
        for folder in &request.folders {
            collect(folder, &mut paths)?;
        }
        paths.reverse();
        let options = Options { as_tsh: request.as_tsh, ..Options::default() };
        Ok(Self { paths, options, skipped: Skipped::default() })
    }

    /// Opens the next capture.
    pub(super) fn open(&mut self) -> Result<Option<CaptureFile>, Failure> {
        let Some(path) = self.paths.pop() else { return Ok(None) };
        let opened = if path.as_os_str() == "-" {
            CaptureFile::from_reader(io::stdin(), "standard input", &self.options)
        } else {
            CaptureFile::open(&path, &self.options)
        };
        opened.map(Some).map_err(|error| failure(&error))
    }

    /// Adds what a capture has had that was not returned.
    pub(super) fn close(&mut self, capture: &CaptureFile) {
        let skipped = capture.skipped();
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

/// The failure for a capture that cannot be read.
pub(super) fn failure(error: &CaptureError) -> Failure {
    let exit = match error {
        CaptureError::Open { error, .. } | CaptureError::Read { error, .. } => {
            Exit::from_io(error, Exit::Source)
        }
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
