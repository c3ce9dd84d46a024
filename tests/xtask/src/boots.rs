//! `cargo xtask boots`: whole systems start, on a slow machine, while Panoptes watches. Whatever
//! they do, nothing of it is an attack.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use clap::{Args, value_parser};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use panoptes_bounded as bounded;
use panoptes_rig::boots::{Image, Machine, System};
use panoptes_rig::{cache, death, setup};
use serde_json::Value;

use crate::{folders, human, program};

/// Starts whole systems on a slow machine, and watches them from their first instruction on
///
/// A line for each: when each stage of its start began, how many records, alerts and errors there
/// were. Every alert is false. Takes about ten minutes a system, and root for Debian's images.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Systems to start; all by default
    #[arg(value_name = "NAME", value_parser = System::from_name)]
    systems: Vec<System>,
    /// How many times slower than this machine's emulator the systems run
    #[arg(long, value_name = "N", default_value_t = 5)]
    #[arg(value_parser = value_parser!(u32).range(1..=50))]
    slower: u32,
    /// How long a system is watched after its login prompt came
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    after: u64,
}

/// The emulator runs for this long, and then stands still for a multiple of it: as on a host whose
/// other guests have taken the processors.
const RUN: Duration = Duration::from_millis(10);
/// A start that takes longer has failed.
const START_MAX: Duration = Duration::from_mins(40);
const INTERVAL: Duration = Duration::from_millis(200);
/// How many of the last lines of a console are shown of a system that did not start.
const CONSOLE_LINES: usize = 30;

/// What was seen of a system's start.
#[derive(Debug, Default)]
struct Boot {
    /// When the console showed each stage, from the start on; without those that did not begin.
    stages: Vec<(&'static str, Duration)>,
    records: usize,
    /// Each alert: its severity, name, and reason.
    alerts: Vec<String>,
    /// The same of other records of severity ERROR.
    errors: Vec<String>,
    /// Whether the system was watched at all.
    is_watched: bool,
}

pub(crate) fn run(options: &Options) -> Result<(), String> {
    setup::ensure()?;
    let program = program::obtain()?;
    let systems = if options.systems.is_empty() { &System::ALL[..] } else { &options.systems[..] };
    let (mut alerts, mut failed) = (0, Vec::new());
    for system in systems {
        let image = Image::obtain(*system)?;
        let boot = death::survive(|| boot(*system, &image, &program, options))?;
        println!("{}", boot.line(*system));
        for alert in &boot.alerts {
            println!("  false alert: {alert}");
        }
        for error in &boot.errors {
            println!("  error: {error}");
        }
        alerts += boot.alerts.len();
        if !boot.is_good(*system) {
            failed.push(system.name());
        }
    }
    println!("{}: {}", human::counted(systems.len(), "start"), human::counted(alerts, "alert"));
    if failed.is_empty() { Ok(()) } else { Err(format!("not good: {}", failed.join(", "))) }
}

impl Boot {
    fn is_good(&self, system: System) -> bool {
        self.alerts.is_empty()
            && self.errors.is_empty()
            && self.is_watched
            && self.has_started(system)
    }

    fn has_started(&self, system: System) -> bool {
        self.stages.len() == system.stages().len()
    }

    fn line(&self, system: System) -> String {
        let mut line = format!("{:<17}", system.name());
        for (name, at) in &self.stages {
            let _ = write!(line, " {name} {:.0} s,", at.as_secs_f64());
        }
        if !self.has_started(system) {
            line.push_str(" then nothing more,");
        }
        if !self.is_watched {
            line.push_str(" never watched,");
        }
        let counts =
            [(self.records, "record"), (self.alerts.len(), "alert"), (self.errors.len(), "error")];
        let counts = counts.map(|(count, noun)| human::counted(count, noun));
        let _ = write!(line, " {}", counts.join(", "));
        line
    }

    /// Takes the records of an event log.
    fn read(&mut self, log: impl BufRead) -> Result<(), String> {
        for line in log.lines() {
            let line = line.map_err(|e| format!("cannot read the records: {e}"))?;
            let record: Value = serde_json::from_str(&line).map_err(|e| format!("{line}: {e}"))?;
            let name = &record["activity_data"]["name"];
            self.records += 1;
            self.is_watched |= *name == "host_initialization_successful";
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let begin = format!("{} {}", text(&record["severity"]), text(name));
            if record["message_type"] == "ALERT" {
                self.alerts.push(format!("{begin}: {}", text(&record["detection"]["reason"])));
            } else if record["severity"] == "ERROR" {
                let details = &record["activity_data"]["system_activity_details"];
                self.errors.push(format!("{begin}: {}", text(&details["reason"])));
            }
        }
        Ok(())
    }
}

/// Starts a system, and watches it.
fn boot(system: System, image: &Image, program: &Path, options: &Options) -> Result<Boot, String> {
    let folder = folders::numbered("boots")?;
    let name = format!("boots-{}-{}", system.name(), std::process::id());
    eprintln!("boots: {} starts; its records go to {}", system.name(), folder.display());
    let mut service = Service::start(program, &name, &folder)?;
    let machine = Machine::start(image, &name)?;
    let slow = PacedProcess::new(machine.process_id(), options.slower);
    let (begin, mut boot) = (Instant::now(), Boot::default());
    while begin.elapsed() < START_MAX && !boot.has_started(system) && !machine.wait(INTERVAL) {
        let console = machine.console();
        while let Some((stage, text)) = system.stages().get(boot.stages.len())
            && console.contains(text)
        {
            boot.stages.push((stage, begin.elapsed()));
        }
    }
    if boot.has_started(system) {
        let end = Instant::now() + Duration::from_secs(options.after);
        while Instant::now() < end && !machine.wait(INTERVAL) {}
    } else {
        show_end_of(&machine.console());
    }
    machine.keep_console(&folder.join("console"))?;
    service.stop()?;
    drop((slow, machine));
    let log = folder.join("events.jsonl");
    let log = File::open(&log).map_err(|e| format!("{}: {e}", log.display()))?;
    boot.read(BufReader::new(log))?;
    Ok(boot)
}

fn show_end_of(console: &str) {
    let lines: Vec<_> = console.lines().collect();
    for line in &lines[lines.len().saturating_sub(CONSOLE_LINES)..] {
        eprintln!("    {}", line.trim_end().escape_debug());
    }
}

/// `panoptes run`, for one guest that has not started yet.
struct Service(Child);

impl Service {
    fn start(program: &Path, guest: &str, folder: &Path) -> Result<Self, String> {
        let configuration = folder.join("panoptes.yaml");
        let state = folder.join("state");
        let state = state.display();
        // All records in one file.
        let text = format!(
            "auto_scan: {{include: [{guest}]}}\nservice: {{state_dir: {state}}}\n\
             output: {{rotate_size: 16GiB}}\n"
        );
        cache::write(&configuration, text.as_bytes())?;
        let log = folder.join("panoptes.log");
        let log = File::create(&log).map_err(|e| format!("{}: {e}", log.display()))?;
        let mut command = panoptes_rig::tied(program);
        command.arg("run").arg("--config").arg(configuration).arg("--log-folder").arg(folder);
        command.stdin(Stdio::null()).stderr(log.try_clone().map_err(|e| e.to_string())?);
        command.stdout(log);
        let child = command.spawn().map_err(|e| format!("cannot start panoptes: {e}"))?;
        Ok(Self(child))
    }

    /// Ends it after its last record.
    fn stop(&mut self) -> Result<(), String> {
        let _ = kill(pid(self.0.id()), Signal::SIGTERM);
        let status = bounded::wait(&mut self.0).map_err(|e| e.to_string())?;
        if status.success() { Ok(()) } else { Err(format!("panoptes ended with {status}")) }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = bounded::wait(&mut self.0);
    }
}

/// Stops a process again and again, until this is dropped: then the process continues.
struct PacedProcess {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl PacedProcess {
    fn new(process: u32, slower: u32) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            while slower > 1 && !over.load(Ordering::Relaxed) {
                sleep(RUN);
                let _ = kill(pid(process), Signal::SIGSTOP);
                sleep(RUN * (slower - 1));
                let _ = kill(pid(process), Signal::SIGCONT);
            }
        });
        Self { is_over, thread: Some(thread) }
    }
}

impl Drop for PacedProcess {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn pid(process: u32) -> Pid {
    Pid::from_raw(process.cast_signed())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const ALERT: &str = "{\"message_type\":\"ALERT\",\"severity\":\"HIGH\",\"activity_data\":\
                         {\"name\":\"process_hidden\"},\"detection\":{\"reason\":\"it is\"}}";
    const WATCHED: &str = "{\"message_type\":\"SYSTEM_ACTIVITY\",\"severity\":\"INFO\",\
                           \"activity_data\":{\"name\":\"host_initialization_successful\"}}";

    #[test]
    fn a_start_is_good_if_it_was_watched_without_an_alert() {
        let all = System::Alpine.stages().iter().map(|(name, _)| (*name, Duration::ZERO));
        let mut boot = Boot { stages: all.collect(), ..Boot::default() };
        assert!(!boot.is_good(System::Alpine), "it was not watched");
        boot.read(WATCHED.as_bytes()).unwrap();
        assert!(boot.is_good(System::Alpine));
        boot.read(ALERT.as_bytes()).unwrap();
        assert!(!boot.is_good(System::Alpine));
        assert_eq!(boot.alerts, ["HIGH process_hidden: it is"]);
        let unfinished = Boot { is_watched: true, ..Boot::default() };
        assert!(!unfinished.is_good(System::Alpine));
    }

    #[test]
    fn the_line_has_stages_records_and_alerts() {
        let stages =
            vec![("kernel", Duration::from_secs(2)), ("initramfs", Duration::from_mins(1))];
        let mut boot = Boot { stages, ..Boot::default() };
        boot.read(format!("{WATCHED}\n{ALERT}\n").as_bytes()).unwrap();
        let line = boot.line(System::Busybox);
        assert_eq!(
            line,
            "busybox           kernel 2 s, initramfs 60 s, then nothing more, 2 records, 1 alert, \
             0 errors"
        );
    }

    #[test]
    fn a_process_goes_on_after_it_was_slowed_down() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        drop(PacedProcess::new(child.id(), 3));
        let state = || std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        assert!(!state().contains(") T "), "{}", state());
        let _ = child.kill();
        bounded::wait(&mut child).unwrap();
    }
}
