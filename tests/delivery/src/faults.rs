//! The faults: each has a row in [`FAULTS`] and a function, which runs while records flow.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use memchr::memchr_iter;
use nix::sys::signal::Signal;
use panoptes_bounded as bounded;

use crate::service::CANNOT_WRITE;
use crate::stage::Stage;

/// A fault, and what may be lost by it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    /// The options of a file system for the logs, if they need one; `{bytes}` is its size.
    pub(crate) mount: Option<&'static str>,
    effects: &'static [Effect],
    pub(crate) run: fn(&mut Stage) -> io::Result<()>,
}

/// What else is to be known of a fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Effect {
    /// Files of the log reach 1 MiB, or less with few records.
    Rotates,
    /// It starts the receivers itself.
    StartsReceivers,
    /// Receivers answer late, perhaps too late: what is not acknowledged may come again.
    FreezesReceivers,
    /// Receivers die: what they have not read is lost, unless they acknowledge.
    KillsReceivers,
    /// The program dies: records that it had only in memory are lost.
    KillsProgram,
    /// The log may have a record twice: in a removed file and in the one made anew.
    DoublesLog,
    /// The log may lack records, all of which are counted.
    DropsInLog,
}

impl Fault {
    pub(crate) fn has(&self, effect: Effect) -> bool {
        self.effects.contains(&effect)
    }

    const fn with(self, effects: &'static [Effect]) -> Self {
        Self { effects, ..self }
    }

    const fn on(self, mount: &'static str) -> Self {
        Self { mount: Some(mount), ..self }
    }
}

const fn fault(
    name: &'static str,
    what: &'static str,
    run: fn(&mut Stage) -> io::Result<()>,
) -> Fault {
    Fault { name, what, mount: None, effects: &[], run }
}

use Effect::{
    DoublesLog, DropsInLog, FreezesReceivers, KillsProgram, KillsReceivers, Rotates,
    StartsReceivers,
};

/// All faults.
pub(crate) const FAULTS: &[Fault] = &[
    fault("none", "no fault", |_| Ok(())),
    fault("restarts", "the receivers are restarted", restarts).with(&[KillsReceivers]),
    fault("frozen", "the receivers stand still (SIGSTOP)", frozen).with(&[FreezesReceivers]),
    fault("refused", "the receivers start later than Panoptes", refused).with(&[StartsReceivers]),
    fault("disk-full", "the log's file system has no room, 3 times for 1 s", disk_full)
        .on("size={bytes}"),
    fault("disk-full-long", "the log's file system has no room for 20 s", disk_full_long)
        .on("size={bytes}")
        .with(&[DropsInLog]),
    fault("inodes", "the log's file system has no inodes", inodes)
        .on("size={bytes},nr_inodes=4000")
        .with(&[Rotates]),
    fault("removed", "the folder of the logs is removed", removed).with(&[DoublesLog]),
    fault("rotation", "the log rotates all the time", |_| Ok(())).with(&[Rotates]),
    fault("two", "a second Panoptes with the same folder", two),
    fault("killed", "Panoptes is killed (SIGKILL)", killed).with(&[KillsProgram]),
];

/// How long a full disk lasts: meanwhile, records wait in half of the queue to the writer.
const FULL: Duration = Duration::from_secs(1);
const FULL_TIMES: u64 = 3;
/// The queue does not hold so much.
const FULL_LONG: Duration = Duration::from_secs(20);

/// The faults of these names; all without names.
pub(crate) fn chosen(names: &[String]) -> Result<Vec<Fault>, String> {
    let is = |fault: &Fault, name: &String| fault.name == name;
    if let Some(unknown) = names.iter().find(|name| FAULTS.iter().all(|fault| !is(fault, name))) {
        let known: Vec<_> = FAULTS.iter().map(|fault| fault.name).collect();
        return Err(format!("no fault is called {unknown}; there are {}", known.join(", ")));
    }
    let is_chosen = |fault: &&Fault| names.is_empty() || names.iter().any(|name| is(fault, name));
    Ok(FAULTS.iter().filter(is_chosen).copied().collect())
}

fn restarts(stage: &mut Stage) -> io::Result<()> {
    for _ in 0..stage.scale.restarts {
        stage.flow(stage.scale.records / u64::from(stage.scale.restarts + 2))?;
        for receiver in &mut stage.receivers {
            receiver.stop()?;
            receiver.start()?;
        }
    }
    Ok(())
}

fn frozen(stage: &mut Stage) -> io::Result<()> {
    stage.flow(stage.scale.records / 4)?;
    stage.receivers.iter().try_for_each(|receiver| receiver.signal(Signal::SIGSTOP))?;
    sleep(stage.scale.freeze);
    stage.receivers.iter().try_for_each(|receiver| receiver.signal(Signal::SIGCONT))
}

fn refused(stage: &mut Stage) -> io::Result<()> {
    stage.flow(stage.scale.records / 4)?;
    sleep(Duration::from_secs(1));
    stage.start_receivers()
}

fn disk_full(stage: &mut Stage) -> io::Result<()> {
    for _ in 0..FULL_TIMES {
        stage.flow(stage.scale.records / (FULL_TIMES + 1))?;
        let filler = fill(&stage.service.logs())?;
        sleep(FULL);
        fs::remove_file(&filler)?;
    }
    Ok(())
}

/// The log drops records, counts and reports them, and resumes by itself; nothing else is late.
fn disk_full_long(stage: &mut Stage) -> io::Result<()> {
    let log = stage.service.event_log();
    let more = stage.scale.records / 4;
    stage.flow(more)?;
    let filler = fill(&stage.service.logs())?;
    sleep(FULL_LONG);
    stage.wait_for("nothing is dropped", |service| Ok(service.metrics()?.dropped(&log)? > 0))?;
    let written = stage.service.metrics()?.written(&log)?;
    fs::remove_file(&filler)?;
    stage.wait_for("the log does not continue", |service| {
        Ok(service.metrics()?.written(&log)? as u64 > written as u64 + more)
    })?;
    stage.wait_for("what is counted as dropped is not reported", |service| {
        Ok(service.reported(&log)? == service.metrics()?.dropped(&log)?)
    })?;
    check(stage.service.metrics()?.refused()? == 0, "the log has delayed other outputs")
}

/// Leaves no room in the file system of this folder; returns the file that takes it.
fn fill(folder: &Path) -> io::Result<PathBuf> {
    let filler = folder.join("filler");
    let mut file = File::create(&filler)?;
    let bytes = vec![b'x'; 1 << 20];
    let mut part = bytes.len();
    while part > 0 {
        if file.write_all(&bytes[..part]).is_err() {
            part /= 2;
        }
    }
    Ok(filler)
}

fn inodes(stage: &mut Stage) -> io::Result<()> {
    stage.flow(stage.scale.records / 4)?;
    let folder = stage.service.logs().join("others");
    fs::create_dir(&folder)?;
    let mut number = 0;
    while File::create(folder.join(number.to_string())).is_ok() {
        number += 1;
    }
    stage.flow(stage.scale.records / 4)?;
    fs::remove_dir_all(folder)
}

/// What was in the removed files counts as received: who removed them has had it.
fn removed(stage: &mut Stage) -> io::Result<()> {
    stage.flow(stage.scale.records / 3)?;
    let folder = stage.service.logs();
    let opened: io::Result<Vec<_>> = stage.log()?.iter().map(File::open).collect();
    fs::remove_dir_all(&folder)?;
    for (number, mut file) in opened?.into_iter().enumerate() {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        fs::write(removed_file(&stage.service.folder, number), bytes)?;
    }
    stage.flow(stage.scale.records / 3)
}

fn removed_file(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("removed-{number}"))
}

/// What was in the files that a fault has removed.
pub(crate) fn removed_files(folder: &Path) -> Vec<PathBuf> {
    let files = (0..).map(|number| removed_file(folder, number));
    files.take_while(|path| path.exists()).collect()
}

fn two(stage: &mut Stage) -> io::Result<()> {
    stage.flow(stage.scale.records / 3)?;
    let status = stage.service.run_another()?;
    stage.flow(stage.scale.records / 3)?;
    check(status.code() == Some(CANNOT_WRITE), &format!("the second one ended with {status}"))?;
    check(stage.service.has_said("another panoptes"), "the second one gave no reason")
}

/// The kernel rarely tears a write when it kills a process, so half a record is added.
fn killed(stage: &mut Stage) -> io::Result<()> {
    const TORN: &[u8] = b"{\"vendor_name\":\"torn";
    stage.flow(stage.scale.records / 2)?;
    let path = stage.service.event_log();
    let written = stage.service.kill()?.written(&path)?;
    let before = fs::read(&path)?;
    check(written > 0, "nothing was reported as written")?;
    let is_there = memchr_iter(b'\n', &before).count() >= written;
    check(is_there, "the log lacks what was reported as written")?;
    let whole = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    File::options().append(true).open(&path)?.write_all(TORN)?;
    stage.service.start()?;
    stage.flow(stage.scale.records / 4)?;
    let after = fs::read(&path)?;
    check(after.starts_with(&before[..whole]), "the log lacks what it had")?;
    check(!after.windows(TORN.len()).any(|part| part == TORN), "the torn line is still there")?;
    let reason = "broken lines at the end of the file were removed";
    check(stage.service.has_said(reason), "the torn line was not reported")
}

fn check(holds: bool, what: &str) -> io::Result<()> {
    if holds { Ok(()) } else { Err(io::Error::other(what.to_owned())) }
}

/// A file system in memory that is mounted while this lives.
#[derive(Debug)]
pub(crate) struct Mount(PathBuf);

impl Mount {
    pub(crate) fn new(folder: &Path, options: &str) -> io::Result<Self> {
        fs::create_dir(folder)?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(folder);
        check(bounded::status(&mut mount)?.success(), "no file system can be mounted")?;
        Ok(Self(folder.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = bounded::status(Command::new("umount").arg("--lazy").arg(&self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_chosen_by_name() {
        let names = |wanted: &[&str]| -> Vec<&str> {
            let wanted: Vec<_> = wanted.iter().map(|&name| name.to_owned()).collect();
            chosen(&wanted).expect("all exist").iter().map(|fault| fault.name).collect()
        };
        assert_eq!(names(&["killed", "frozen"]), ["frozen", "killed"]);
        assert_eq!(names(&[]).len(), FAULTS.len());
        assert!(chosen(&["flood".to_owned()]).is_err());
    }
}
