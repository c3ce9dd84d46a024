//! A small QMP client: enough to stop, continue, reset and query a guest.
//!
//! Protocol: docs/interop/qmp-spec.txt in the QEMU tree. Events are read and dropped.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use panoptes_bounded as bounded;
use serde_json::{Value, json};

use crate::error::{Error, Result};

/// Maximum time for an answer of QEMU: generous, since a loaded host is slow.
const ANSWER_SECONDS_MAX: u64 = 300;
/// Maximum time to write or read a machine's state.
const MIGRATION_MAX: Duration = Duration::from_mins(1);
/// Events may precede an answer, but not without end.
const EVENTS_BEFORE_ANSWER_MAX: usize = 10_000;

/// A connection to QEMU's monitor.
#[derive(Debug)]
pub struct Qmp {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

impl Qmp {
    /// Connects and completes the capabilities negotiation.
    pub fn connect(socket: &Path) -> Result<Self> {
        let writer =
            bounded::connect_unix(socket).map_err(|e| Error::io("connect to", socket, &e))?;
        writer
            .set_read_timeout(Some(Duration::from_secs(ANSWER_SECONDS_MAX)))
            .map_err(|e| Error::io("set a timeout on", socket, &e))?;
        let copy = writer.try_clone().map_err(|e| Error::io("clone", socket, &e))?;
        let mut qmp = Self { reader: BufReader::new(copy), writer };
        let greeting = qmp.read()?;
        if greeting.get("QMP").is_none() {
            return Err(Error::new(format!("QEMU's monitor greeted with {greeting}")));
        }
        qmp.execute("qmp_capabilities", None)?;
        Ok(qmp)
    }

    /// Runs one command and returns its result.
    pub fn execute(&mut self, command: &str, arguments: Option<&Value>) -> Result<Value> {
        let request = match arguments {
            Some(arguments) => json!({"execute": command, "arguments": arguments}),
            None => json!({"execute": command}),
        };
        let mut line = request.to_string();
        line.push('\n');
        self.writer
            .write_all(line.as_bytes())
            .map_err(|e| Error::new(format!("cannot send {command} to QEMU: {e}")))?;
        for _ in 0..EVENTS_BEFORE_ANSWER_MAX {
            let mut message = self.read()?;
            if let Some(value) = message.get_mut("return") {
                return Ok(value.take());
            }
            if let Some(error) = message.get("error") {
                return Err(Error::new(format!("QEMU refused {command}: {error}")));
            }
        }
        Err(Error::new(format!("QEMU sent events but no answer to {command}")))
    }

    /// Sets whether a migration omits memory in a shared file, which other programs can read.
    pub(crate) fn leave_shared_memory_out(&mut self, state: bool) -> Result<()> {
        let capability = json!([{ "capability": "x-ignore-shared", "state": state }]);
        let arguments = json!({ "capabilities": capability });
        self.execute("migrate-set-capabilities", Some(&arguments)).map(drop)
    }

    /// Waits until the machine's state has been written or read.
    pub(crate) fn wait_for_migration(&mut self) -> Result<()> {
        let deadline = Instant::now() + MIGRATION_MAX;
        loop {
            let migration = self.execute("query-migrate", None)?;
            match migration["status"].as_str() {
                Some("completed") => return Ok(()),
                Some("failed" | "cancelled") => {
                    return Err(Error::new(format!("QEMU cannot migrate: {migration}")));
                }
                _ if Instant::now() > deadline => {
                    return Err(Error::new(format!("QEMU migrates for too long: {migration}")));
                }
                _ => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => Err(Error::new("QEMU closed its monitor")),
            Ok(_) => serde_json::from_str(&line)
                .map_err(|e| Error::new(format!("QEMU's monitor sent {line:?}: {e}"))),
            Err(e) => Err(Error::new(format!("QEMU's monitor does not answer: {e}"))),
        }
    }
}
