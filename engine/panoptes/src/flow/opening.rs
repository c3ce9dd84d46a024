//! Opening one capture.

use std::io;
use std::path::Path;

use panoptes_capture::{CaptureError, CaptureFile, Options};

use crate::exit::{Exit, Failure};

/// Opens a capture; `-` is standard input.
pub(super) fn open(path: &Path, options: &Options) -> Result<CaptureFile, Failure> {
    let opened = if path.as_os_str() == "-" {
        CaptureFile::from_reader(io::stdin(), "standard input", options)
    } else {
        CaptureFile::open(path, options)
    };
    opened.map_err(|error| failure(&error))
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
