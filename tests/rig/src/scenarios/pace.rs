//! Synchronises scripts with the watcher, however slow either is.
//!
//! A script inside asks, by a line that it prints, and continues when the answer has come: `seen`
//! asks for records, `scanned` for a whole scan that began after the question. The answers go in by
//! a port of their own, since the agent accepts no command while a script runs.
//!
//! Nothing outside shows when a scan begins or ends. So a helper inside starts markers, processes
//! that do nothing: a scan that finds a marker ends after the marker began, and the next scan
//! begins after that. Such a scan may be an early or a light one. Whole ones follow soon.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use panoptes_bounded as bounded;

use super::outcome::{Facts, Tally, fits};
use super::run::{escaped, quoted};
use super::watcher::Watcher;
use super::{Expected, PROCESS_CREATED, Scenario};
use crate::error::{Error, Result};
use crate::guest::Guest;

/// Maximum time until a required record comes: longer than anything takes on a busy host.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);
/// Time in which scans read what early and light ones have left: some intervals.
const LEFT: Duration = Duration::from_millis(50);
/// The port's name, inside.
const PORT: &str = "panoptes.pace";
/// The functions by which scripts ask.
///
/// `seen` asks for all expected records, `seen N` for the first N of them, and `seen ACTIVITY
/// FIELD=VALUE…` for any such record. `come` tests whether all expected records are there, without
/// waiting, and `lacks ACTIVITY FIELD=VALUE…` that there is no such record yet. `stay` never ends
/// by itself and starts no process. `runs PID NAME` waits until a process has become a program, and
/// `begins PID WORD` tests whether its command line begins with a word. `kept PID…` keeps
/// processes, whose output goes elsewhere, alive until the scenario is over; `over PID…` ends them.
pub(super) const PRELUDE: &str = include_str!("../../../scenarios/lib/pace.sh");
/// The same for python: `import pace`.
const MODULE: &str = include_str!("../../../scenarios/lib/pace.py");
/// The helper inside; `PORT` is replaced.
const HELPER: &str = include_str!("../../../scenarios/lib/pace_helper.sh");

/// The connection to the helper in one guest.
#[derive(Debug)]
pub(super) struct Pace {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
    /// Number of markers so far.
    marks: u64,
}

impl Pace {
    /// The arguments of QEMU for the port.
    pub(super) fn arguments(folder: &Path) -> Vec<String> {
        let socket = socket(folder);
        let socket = format!("socket,id=pace,path={},server=on,wait=off", socket.display());
        let device = format!("virtserialport,chardev=pace,name={PORT}");
        ["-chardev", &socket, "-device", &device].map(str::to_owned).to_vec()
    }

    /// Starts the helper in a guest booted with those arguments.
    pub(super) fn start(guest: &mut Guest, folder: &Path) -> Result<Self> {
        let socket = socket(folder);
        let failed = |e| Error::io("connect to", &socket, &e);
        let writer = bounded::connect_unix(&socket).map_err(failed)?;
        writer.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        let reader = BufReader::new(writer.try_clone().map_err(failed)?);
        let port = guest.agent(&format!(
            "run cd /sys/class/virtio-ports; basename $(dirname $(grep -lx {PORT} */name))"
        ))?;
        let helper = HELPER.replace("PORT", &port.concat());
        for (file, text) in [("helper", helper.as_str()), ("pace.py", MODULE)] {
            let text = escaped(text);
            guest.agent(&format!("run mkdir -p /run/pace; printf %b {text} > /run/pace/{file}"))?;
        }
        guest.agent(
            "run cd /run/pace; mkfifo never; \
             setsid bash /run/pace/helper < /dev/null > /dev/null 2>&1 &",
        )?;
        Ok(Self { reader, writer, marks: 0 })
    }

    fn say(&mut self, line: &str) -> Result<()> {
        let failed = |e| Error::new(format!("cannot reach the helper inside: {e}"));
        self.writer.write_all(format!("{line}\n").as_bytes()).map_err(failed)
    }

    /// Waits until the watcher has completed this many whole scans that began after this call.
    pub(super) fn scanned(&mut self, watcher: &Watcher, scans: usize) -> Result<()> {
        // The scan that finds the first marker may have begun before the call.
        for _ in 0..=scans {
            let from = watcher.count();
            let marker = self.mark()?;
            let fields = [("process.process_id", marker.as_str())];
            let is_there = watcher.wait_for(from, Instant::now() + PATIENCE, |arrival| {
                fits(&arrival.record, PROCESS_CREATED, fields, &Facts::new())
            });
            self.say(&format!("end {marker}"))?;
            if !is_there {
                return Err(Error::new("the watcher does not see a new process"));
            }
        }
        std::thread::sleep(LEFT);
        Ok(())
    }

    /// Makes the helper start a marker, and returns its process id.
    fn mark(&mut self) -> Result<String> {
        self.marks += 1;
        self.say(&format!("mark {}", self.marks))?;
        loop {
            let mut line = String::new();
            let failed = |e| Error::new(format!("the helper inside does not answer: {e}"));
            if self.reader.read_line(&mut line).map_err(failed)? == 0 {
                return Err(Error::new("the helper inside has ended"));
            }
            let Some((number, marker)) = line.trim().split_once(' ') else { continue };
            if number.parse() == Ok(self.marks) {
                return Ok(marker.to_owned());
            }
            // The answer to a question whose asker has gone.
            self.say(&format!("end {marker}"))?;
        }
    }
}

/// Whether a line of a script is a question.
pub(super) fn is_question(line: &str) -> bool {
    ["@scanned ", "@seen ", "@come ", "@lacks "].iter().any(|question| line.starts_with(question))
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("pace")
}

/// Answers the scripts of one scenario.
pub(super) struct Answers<'a> {
    pub(super) pace: &'a mut Pace,
    pub(super) watcher: &'a Watcher,
    pub(super) scenario: &'static Scenario,
    /// The index of the first record that counts.
    pub(super) from: usize,
}

impl Answers<'_> {
    /// Waits for what a line asks for, and answers.
    fn to(&mut self, line: &str, facts: &Facts) -> Result<()> {
        let (question, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (asker, words) = rest.split_once('\t').unwrap_or((rest, ""));
        let words: Vec<&str> = words.split('\t').filter(|word| !word.is_empty()).collect();
        let now = Instant::now();
        let (done, is_so) = match question {
            "@scanned" => {
                let scanned = self.pace.scanned(self.watcher, 1);
                let is_so = scanned.is_ok();
                (scanned, is_so)
            }
            "@seen" if !self.is_seen(&words, now + PATIENCE, facts) => {
                (Err(Error::new(format!("never came: {}", words.join(" ")))), false)
            }
            "@seen" => (Ok(()), true),
            "@come" => (Ok(()), self.is_seen(&words, now, facts)),
            _ => (Ok(()), !self.is_seen(&words, now, facts)),
        };
        let sent = self.pace.say(&format!("go {asker} {}", if is_so { "yes" } else { "no" }));
        done.and(sent)
    }

    /// Answers questions, one after the other, until the channel is closed; returns the errors.
    pub(super) fn serve(&mut self, questions: &Receiver<(String, Facts)>) -> Vec<String> {
        let answers = questions.iter().map(|(line, facts)| self.to(&line, &facts));
        answers.filter_map(|answer| answer.err().map(|error| error.to_string())).collect()
    }

    fn is_seen(&self, words: &[&str], deadline: Instant, facts: &Facts) -> bool {
        let expect = self.scenario.expect;
        let Some((first, fields)) = words.split_first() else {
            return self.all_come(expect, deadline, facts);
        };
        if let Ok(count) = first.parse() {
            return self.all_come(&expect[..expect.len().min(count)], deadline, facts);
        }
        let fields: Vec<(&str, &str)> =
            fields.iter().filter_map(|field| field.split_once('=')).collect();
        self.watcher.wait_for(self.from, deadline, |arrival| {
            fits(&arrival.record, first, fields.iter().copied(), facts)
        })
    }

    /// Waits until every expectation has enough records.
    pub(super) fn all_come(&self, wanted: &[Expected], deadline: Instant, facts: &Facts) -> bool {
        let mut tally = Tally::new(wanted);
        tally.is_enough()
            || self.watcher.wait_for(self.from, deadline, |arrival| {
                tally.count(&arrival.record, facts);
                tally.is_enough()
            })
    }
}

/// Lets bash run a script, with its facts defined.
pub(super) fn with_facts(script: &str, facts: &Facts) -> String {
    let facts = facts.iter().map(|(name, value)| format!("{name}={}\n", quoted(value)));
    format!("{}{script}", facts.collect::<String>())
}
