//! Where alerts go: a file, or standard output.
//!
//! An alert that cannot be written ends nothing. A message reports the failure at once, later
//! alerts are tried again, and the program's exit code is that of the failure.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use panoptes_sinks::queue::Consumer;

use super::request::Alerts;
use crate::exit::Failure;
use crate::message::Messages;

/// An open output of alerts.
pub(super) struct AlertOutput {
    to: Box<dyn Write + Send>,
    path: PathBuf,
    messages: Messages,
    /// The first failure.
    failure: Option<Failure>,
    /// Whether the last write has failed, and how many alerts were lost since then.
    is_failing: bool,
    lost: u64,
    /// The last line is not whole.
    is_torn: bool,
}

impl fmt::Debug for AlertOutput {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("AlertOutput").field("path", &self.path).finish_non_exhaustive()
    }
}

impl AlertOutput {
    pub(super) fn open(alerts: &Alerts, messages: &Messages) -> Result<Self, Failure> {
        let (to, path): (Box<dyn Write + Send>, PathBuf) = match alerts {
            Alerts::StandardOutput => (Box::new(io::stdout()), "standard output".into()),
            Alerts::File(path) => {
                let opened = OpenOptions::new().create(true).append(true).open(path);
                let file: File = opened.map_err(|error| Failure::not_written(path, &error))?;
                (Box::new(file), path.clone())
            }
        };
        Ok(Self::new(to, path, messages))
    }

    fn new(to: Box<dyn Write + Send>, path: PathBuf, messages: &Messages) -> Self {
        Self {
            to,
            path,
            messages: messages.clone(),
            failure: None,
            is_failing: false,
            lost: 0,
            is_torn: false,
        }
    }

    /// Writes all records that wait.
    pub(super) fn write(&mut self, consumer: &mut Consumer) {
        while let Some(block) = consumer.pop() {
            let count = block.records();
            let result = self.put(block.slice(0, count));
            self.note(result, count as u64);
            consumer.give_back(block);
        }
    }

    /// Writes one line.
    pub(super) fn write_line(&mut self, line: &[u8]) {
        let result = self.put(line);
        self.note(result, 1);
    }

    /// Writes lines, all of them or some.
    fn put(&mut self, mut lines: &[u8]) -> io::Result<()> {
        if self.is_torn {
            self.to.write_all(b"\n")?;
            self.is_torn = false;
        }
        while !lines.is_empty() {
            match self.to.write(lines) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.is_torn = lines.get(count.saturating_sub(1)) != Some(&b'\n');
                    lines = lines.get(count..).unwrap_or_default();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.to.flush()
    }

    fn note(&mut self, result: io::Result<()>, count: u64) {
        let path = self.path.display();
        match result {
            Ok(()) if self.is_failing => {
                let lost = self.lost;
                self.messages
                    .warning(format_args!("{path} accepts alerts again; up to {lost} were lost"));
                (self.is_failing, self.lost) = (false, 0);
            }
            Ok(()) => {}
            Err(error) => {
                self.lost += count;
                let failure = Failure::not_written(Path::new(&self.path), &error);
                if !self.is_failing {
                    self.messages.error(format_args!("{failure}; alerts are lost"));
                }
                self.is_failing = true;
                self.failure.get_or_insert(failure);
            }
        }
    }

    /// Whether all alerts were written.
    pub(super) fn finish(&mut self) -> Result<(), Failure> {
        if self.lost > 0 {
            let (path, lost) = (self.path.display(), self.lost);
            self.messages
                .warning(format_args!("up to {lost} alerts could not be written to {path}"));
        }
        self.failure.take().map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use panoptes_sinks::queue::{Class, QueueSize, Waker, queue};

    use super::*;
    use crate::config::LogLevel;
    use crate::exit::Exit;

    /// A disk with so much room.
    #[derive(Clone, Default)]
    struct Disk(Arc<Mutex<(Vec<u8>, usize)>>);

    impl Disk {
        fn with(room: usize) -> Self {
            Self(Arc::new(Mutex::new((Vec::new(), room))))
        }

        fn add_room(&self, room: usize) {
            self.0.lock().expect("the disk").1 += room;
        }

        fn text(&self) -> String {
            String::from_utf8(self.0.lock().expect("the disk").0.clone()).expect("a text")
        }
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let (content, room) = &mut *self.0.lock().expect("the disk");
            if *room == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let count = bytes.len().min(*room);
            *room -= count;
            content.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Writes lines, one after another.
    fn write(output: &mut AlertOutput, lines: &[&str]) {
        let (mut producer, mut consumer) = queue(QueueSize::default(), &Waker::default());
        for line in lines {
            producer.try_push(Class::default(), line.as_bytes()).expect("room");
            producer.flush();
            output.write(&mut consumer);
        }
    }

    #[test]
    fn alerts_are_lines_of_a_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("alerts");
        let messages = Messages::new(Box::new(io::sink()), false, LogLevel::Info);
        let mut output = AlertOutput::open(&Alerts::File(path.clone()), &messages).expect("a file");
        write(&mut output, &["{1}", "{2}"]);
        assert_eq!(std::fs::read(path).expect("the file"), b"{1}\n{2}\n");
        assert_eq!(output.finish(), Ok(()));
    }

    #[test]
    fn a_failure_is_reported_at_once_and_later_alerts_are_tried() {
        let (disk, said) = (Disk::with(6), Disk::with(1 << 20));
        let messages = Messages::new(Box::new(said.clone()), false, LogLevel::Info);
        let mut output = AlertOutput::new(Box::new(disk.clone()), "/a".into(), &messages);
        write(&mut output, &["{1}"]);
        assert_eq!(said.text(), "");
        // Half of a line has room.
        write(&mut output, &["{2}", "{3}"]);
        let first = said.text();
        assert!(first.starts_with("panoptes: error: cannot write to /a: "), "{first}");
        assert!(first.ends_with("; alerts are lost\n"), "{first}");
        assert_eq!(first.lines().count(), 1, "{first}");
        disk.add_room(100);
        write(&mut output, &["{4}"]);
        assert_eq!(disk.text(), "{1}\n{2\n{4}\n");
        let again = "panoptes: warning: /a accepts alerts again; up to 2 were lost\n";
        assert_eq!(said.text(), first + again);
        assert_eq!(output.finish().map_err(|failure| failure.exit), Err(Exit::Output));
    }
}
