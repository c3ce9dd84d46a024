//! The line to the agent inside a guest: commands in, lines out, over a virtio-serial port, or over
//! a serial port where the guest lacks the driver of the former.
//!
//! A command is one line. The answer is lines that start with `|`, then one that starts with `=`:
//! `=ok`, or `=error` and what went wrong.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use panoptes_bounded as bounded;

use crate::error::{Error, Result};

/// A connection to the agent.
#[derive(Debug)]
pub(crate) struct Channel {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

/// Why a command got no good answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The agent answered with an error.
    Refused(String),
    /// No answer came in time, or the connection broke: the console may show why.
    Silent(String),
}

impl Channel {
    pub(crate) fn connect(socket: &Path) -> Result<Self> {
        let writer =
            bounded::connect_unix(socket).map_err(|e| Error::io("connect to", socket, &e))?;
        let copy = writer.try_clone().map_err(|e| Error::io("clone", socket, &e))?;
        Ok(Self { reader: BufReader::with_capacity(1 << 16, copy), writer })
    }

    /// Sends a command and passes on each line of its answer; `timeout` is for each line.
    pub(crate) fn ask(
        &mut self,
        command: &str,
        timeout: Duration,
        on_line: impl FnMut(&str),
    ) -> std::result::Result<(), Failure> {
        self.writer
            .write_all(format!("{command}\n").as_bytes())
            .map_err(|e| Failure::Silent(e.to_string()))?;
        self.answer(timeout, on_line)
    }

    /// Waits for an answer, and passes on each of its lines.
    pub(crate) fn answer(
        &mut self,
        timeout: Duration,
        mut on_line: impl FnMut(&str),
    ) -> std::result::Result<(), Failure> {
        let silent = |e: std::io::Error| Failure::Silent(e.to_string());
        self.writer.set_read_timeout(Some(timeout)).map_err(silent)?;
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = self.reader.read_until(b'\n', &mut line).map_err(silent)?;
            if read == 0 {
                return Err(Failure::Silent("the line was closed".to_owned()));
            }
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end_matches('\n');
            if let Some(content) = text.strip_prefix('|') {
                on_line(content);
            } else if text == "=ok" {
                return Ok(());
            } else if let Some(reason) = text.strip_prefix("=error") {
                return Err(Failure::Refused(reason.trim().to_owned()));
            }
            // Other lines were in the port before the guest's last reset.
        }
    }
}
