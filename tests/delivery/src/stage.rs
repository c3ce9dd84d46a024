//! Where a fault happens: the machine, the program, and its receivers.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::machine::Live;
use crate::receivers::{self, Programs, Receiver};
use crate::records::id;
use crate::service::Service;

/// How long each step may take without progress.
const PATIENCE: Duration = Duration::from_mins(2);
const LOOK: Duration = Duration::from_millis(20);

/// How much is sent, and how long faults last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    pub(crate) records: u64,
    pub(crate) restarts: u32,
    pub(crate) freeze: Duration,
}

#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) scale: Scale,
    pub(crate) service: Service,
    pub(crate) receivers: Vec<Receiver>,
    live: Live,
}

impl Stage {
    /// Prepares everything in an empty folder; nothing runs but the machine.
    pub(crate) fn build(
        program: &Path,
        programs: &Programs,
        folder: &Path,
        scale: Scale,
        rotate_size: u64,
    ) -> io::Result<Self> {
        let receivers = receivers::all(programs, folder)?;
        let entries: Vec<_> = receivers.iter().map(Receiver::entry).collect();
        let service = Service::new(program, folder, &entries, rotate_size)?;
        let live = Live::boot(&service.machine())?;
        Ok(Self { scale, service, receivers, live })
    }

    pub(crate) fn start_receivers(&mut self) -> io::Result<()> {
        self.receivers.iter_mut().try_for_each(Receiver::start)
    }

    /// Waits until so many more records were sent.
    pub(crate) fn flow(&mut self, more: u64) -> io::Result<()> {
        let until = self.service.count()? + more;
        self.flow_to(until)
    }

    /// Waits until so many records were sent.
    fn flow_to(&mut self, until: u64) -> io::Result<()> {
        let (mut begin, mut before) = (Instant::now(), 0);
        loop {
            let count = self.service.count()?;
            if count >= until {
                return Ok(());
            }
            if count > before {
                (begin, before) = (Instant::now(), count);
            }
            if begin.elapsed() > PATIENCE {
                let messages = self.service.messages();
                return Err(io::Error::other(format!("no more records come\n{messages}")));
            }
            sleep(LOOK);
        }
    }

    /// Waits until this holds; `why` says what is wrong if it never does.
    pub(crate) fn wait_for(
        &self,
        why: &str,
        holds: impl Fn(&Service) -> io::Result<bool>,
    ) -> io::Result<()> {
        let begin = Instant::now();
        while !holds(&self.service)? {
            if begin.elapsed() > PATIENCE {
                return Err(io::Error::other(format!("{why}\n{}", self.service.messages())));
            }
            sleep(10 * LOOK);
        }
        Ok(())
    }

    /// Sends what is left, lets all that waits arrive, and ends everything.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        self.flow_to(self.scale.records)?;
        self.live.calm();
        let mut before = 0;
        loop {
            // The scans that are under way, and what the writer has.
            sleep(Duration::from_secs(1));
            let count = self.service.count()?;
            if count == before {
                break;
            }
            before = count;
        }
        self.arrive(PATIENCE)?;
        self.service.stop()?;
        self.service.count()?;
        self.arrive(Duration::from_secs(10))?;
        self.receivers.iter_mut().try_for_each(Receiver::stop)
    }

    /// Waits until the last record has arrived everywhere, or nothing has arrived anywhere for that
    /// time: receivers write beside each other, so they share it.
    fn arrive(&mut self, patience: Duration) -> io::Result<()> {
        let Some(last) = self.service.last().and_then(id) else { return Ok(()) };
        let mut begin = Instant::now();
        for receiver in &mut self.receivers {
            let (mut before, _) = look_at(&receiver.files()?, last)?;
            loop {
                receiver.check()?;
                let (size, is_there) = look_at(&receiver.files()?, last)?;
                if is_there || begin.elapsed() > patience {
                    break;
                }
                if size > before {
                    (begin, before) = (Instant::now(), size);
                }
                sleep(LOOK);
            }
        }
        Ok(())
    }

    /// The files of the event log, the oldest first.
    pub(crate) fn log(&self) -> io::Result<Vec<PathBuf>> {
        let number = |path: &PathBuf| {
            let name = path.file_name()?.to_str()?;
            let rest = name.strip_prefix("events.jsonl")?;
            if rest.is_empty() { Some(0) } else { rest.strip_prefix('.')?.parse::<u32>().ok() }
        };
        let mut files = Vec::new();
        for entry in fs::read_dir(self.service.logs())? {
            let path = entry?.path();
            files.extend(number(&path).map(|number| (number, path)));
        }
        files.sort();
        Ok(files.into_iter().rev().map(|(_, path)| path).collect())
    }
}

/// The size of these files, and whether one of the last two has the record of this id near its end:
/// a system may report something after it.
fn look_at(paths: &[PathBuf], last: u128) -> io::Result<(u64, bool)> {
    let (mut size, mut is_there) = (0, false);
    for (number, path) in paths.iter().rev().enumerate() {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        size += length;
        if number < 2 {
            let mut end = Vec::new();
            file.seek(SeekFrom::Start(length.saturating_sub(64 << 10)))?;
            file.read_to_end(&mut end)?;
            is_there |= end.split(|byte| *byte == b'\n').any(|line| id(line) == Some(last));
        }
    }
    Ok((size, is_there))
}
