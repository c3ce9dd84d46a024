//! Where alerts go: a file, or standard output.
//!
//! Neither the scanner nor the auditor waits for it. An alert that cannot be written ends nothing.
//! A message and a record report the failure, later alerts are tried again, and the program's exit
//! code is that of the failure.

use panoptes_records::queue::Consumer;
use panoptes_sinks::flow::output::{QUEUE_BYTES, RecordFile};

use super::live_output::{LiveOutput, Loss};
use super::patience::Patience;
use super::request::Alerts;
use crate::exit::Failure;
use crate::message::Messages;

/// An open output of alerts.
#[derive(Debug)]
pub(super) struct AlertOutput {
    output: LiveOutput,
    messages: Messages,
}

impl AlertOutput {
    pub(super) fn open(alerts: &Alerts, messages: &Messages) -> Result<Self, Failure> {
        let (opened, name) = match alerts {
            Alerts::StandardOutput => {
                (RecordFile::standard_output(b""), "standard output".to_owned())
            }
            Alerts::File(path) => (RecordFile::open(path, b""), path.display().to_string()),
        };
        let output =
            opened.and_then(|file| LiveOutput::start(file, &name, (messages, QUEUE_BYTES)));
        let output = output.map_err(|error| Failure::not_written(name.as_ref(), &error))?;
        Ok(Self { output, messages: messages.clone() })
    }

    /// Writes all records that wait.
    pub(super) fn write(&mut self, consumer: &mut Consumer) {
        while let Some(block) = consumer.pop() {
            for number in 0..block.records() {
                self.output.push(block.slice(number, 1));
            }
            consumer.give_back(block);
        }
        self.output.pass_on();
    }

    /// Writes one line.
    pub(super) fn write_line(&mut self, line: &[u8]) {
        self.output.push(line);
        self.output.pass_on();
    }

    /// Returns what is to be reported. `now_ns` never goes back.
    pub(super) fn look(&mut self, now_ns: Option<u64>) -> Option<Loss> {
        self.output.look(now_ns, &self.messages)
    }

    /// Writes everything, as far as that is possible in time. Whether all alerts were written.
    pub(super) fn finish(&mut self, patience: &Patience) -> Result<(), Failure> {
        self.output.finish(patience, &self.messages).map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io};

    use panoptes_records::queue::{QueueSize, RecordClass, Waker, queue};

    use super::super::signals::Signals;
    use super::*;
    use crate::config::LogLevel;
    use crate::exit::Exit;

    fn messages() -> Messages {
        Messages::new(Box::new(io::sink()), false, LogLevel::Info)
    }

    /// Writes lines, one after another.
    fn write(output: &mut AlertOutput, lines: &[&str]) {
        let (mut producer, mut consumer) = queue(QueueSize::default(), &Waker::default());
        for line in lines {
            producer.try_push(RecordClass::default(), line.as_bytes()).expect("room");
        }
        producer.flush();
        output.write(&mut consumer);
    }

    fn finish(mut output: AlertOutput) -> Result<(), Failure> {
        let signals = Signals::take(0, &messages()).expect("signals");
        output.finish(&Patience::begin(&signals))
    }

    #[test]
    fn alerts_are_lines_of_a_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("alerts");
        let mut output =
            AlertOutput::open(&Alerts::File(path.clone()), &messages()).expect("opens");
        write(&mut output, &["{1}", "{2}"]);
        output.write_line(b"{3}\n");
        assert_eq!(finish(output), Ok(()));
        assert_eq!(fs::read(path).expect("the file"), b"{1}\n{2}\n{3}\n");
    }

    #[test]
    fn alerts_that_cannot_be_written_are_a_failure() {
        let full = Alerts::File("/dev/full".into());
        let mut output = AlertOutput::open(&full, &messages()).expect("opens");
        write(&mut output, &["{1}", "{2}"]);
        let failure = finish(output).expect_err("there is no room");
        assert_eq!(failure.exit, Exit::Output);
        assert!(failure.message.starts_with("cannot write to /dev/full: "), "{failure}");
    }
}
