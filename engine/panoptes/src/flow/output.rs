//! Argus records to files and to standard output.
//!
//! A file is appended to, as argus does: only an empty one begins with a management record.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::PathBuf;

use panoptes_flow::Reports;
use panoptes_sinks::flow::FlowRecord;
use panoptes_sinks::flow::argus::{self, Extra, Interim, Management, Options, RECORD_BYTES_MAX};

use super::options::Request;
use crate::exit::{Exit, Failure, printed};

/// Bytes that are gathered before they are written.
const BUFFER_BYTES: usize = 1 << 20;

/// All outputs: each receives all records.
pub(super) struct Outputs {
    all: Vec<Output>,
    options: Options,
    management: Management,
    /// Records that are not written yet.
    bytes: Box<[u8]>,
    length: usize,
    failure: Option<Failure>,
}

/// Where records go.
struct Output {
    /// Standard output if there is none.
    path: Option<PathBuf>,
    to: Box<dyn Write>,
    has_ended: bool,
}

impl Outputs {
    pub(super) fn open(request: &Request, management: Management) -> Result<Self, Failure> {
        let mut outputs = Vec::new();
        for path in &request.outputs {
            let first = management.first(super::now_ns());
            let output = if path.as_os_str() == "-" {
                let to = Box::new(io::stdout());
                let mut output = Output { path: None, to, has_ended: false };
                output.write(&first)?;
                output
            } else {
                open(path, &first)?
            };
            outputs.push(output);
        }
        // Room for the largest record behind what is gathered.
        let bytes = vec![0; BUFFER_BYTES + RECORD_BYTES_MAX].into_boxed_slice();
        let options = request.records;
        Ok(Self { all: outputs, options, management, bytes, length: 0, failure: None })
    }

    /// Whether no output needs more: all have failed, or their readers have gone.
    pub(super) fn has_ended(&self) -> bool {
        self.failure.is_some() || self.all.iter().all(|output| output.has_ended)
    }

    fn flush(&mut self) {
        for output in &mut self.all {
            if let Err(failure) = output.write(&self.bytes[..self.length]) {
                self.failure.get_or_insert(failure);
            }
        }
        self.length = 0;
    }

    /// Writes the last management record and everything that is gathered.
    pub(super) fn finish(mut self, interim: &Interim) -> Result<Exit, Failure> {
        let last = self.management.last(interim);
        self.bytes[self.length..self.length + last.len()].copy_from_slice(&last);
        self.length += last.len();
        self.flush();
        match self.failure {
            None => Ok(Exit::Done),
            Some(failure) => Err(failure),
        }
    }
}

impl Reports for Outputs {
    fn report(&mut self, record: &FlowRecord, extra: &Extra<'_>) {
        let room = &mut self.bytes[self.length..];
        if let Some(length) = argus::write(room, &self.options, record, extra) {
            self.length += length;
        }
        if self.length >= BUFFER_BYTES {
            self.flush();
        }
    }
}

fn open(path: &PathBuf, first: &[u8]) -> Result<Output, Failure> {
    let failed = |error: io::Error| Failure::not_written(path, &error);
    let file = OpenOptions::new().create(true).append(true).open(path).map_err(failed)?;
    let is_empty = file.metadata().map_err(failed)?.len() == 0;
    let mut output = Output { path: Some(path.clone()), to: Box::new(file), has_ended: false };
    if is_empty {
        output.write(first)?;
    }
    Ok(output)
}

impl Output {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if self.has_ended {
            return Ok(());
        }
        let written = self.to.write_all(bytes).and_then(|()| self.to.flush());
        match &self.path {
            Some(path) => written.map_err(|error| Failure::not_written(path, &error))?,
            None => self.has_ended = printed(written)?.is_none(),
        }
        Ok(())
    }
}
