//! Opening one capture.

use std::path::Path;

use panoptes_packet_files::{CaptureError, CaptureFile, CaptureOptions};

use crate::exit::{Exit, Failure};

/// Opens a file.
pub(super) fn open(path: &Path, options: &CaptureOptions) -> Result<CaptureFile, Failure> {
    CaptureFile::open(path, options).map_err(|error| failure(&error))
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
