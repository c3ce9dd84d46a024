//! The control thread with a real machine's memory, and with work that takes far too long.

mod compatibility;
mod details;
mod flows;
#[cfg(feature = "doca")]
mod functions;
mod keys;
mod load;
mod metrics;
mod named_guests;
mod outputs;
mod panics;
mod reload;
mod reload_outputs;
mod reload_systems;
mod stages;

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use clap::Parser as _;
use nix::sys::pthread::{Pthread, pthread_kill, pthread_self};
use nix::sys::signal::Signal;
use panoptes_bounded as bounded;
use panoptes_engine::watch::Workspace;
use panoptes_records::queue::Waker;
use panoptes_sources::{MemorySource as _, Replay};
use serde_json::Value;
use tempfile::TempDir;

use super::candidate::Outside;
use super::scanners::Scanners;
use super::search::{AttachTask, AttachedSystem, FailedSearch, NotAttached, find_again, search};
use super::{ControlThread, FIRST_KERNEL_WAIT, SCANNERS_STALL_MAX, WorkerJobs};
use crate::cli::{Arguments, Command as Subcommand};
use crate::config::{Configuration, Cores, LogLevel, Mode, SystemAddress};
use crate::dma;
use crate::exit::{Exit, Failure};
use crate::guests::Guest;
use crate::message::Messages;
use crate::request::WatchRequest;
use crate::sandbox::GivenUp;
use crate::sbom::{SbomFault, Sboms};
use crate::scanner_cores::ScannerCores;
use crate::watch::signals::Signals;

/// How long the work takes that takes too long.
const AGES: Duration = Duration::from_mins(2);
/// Maximum time to wait for what must happen.
const PATIENCE: Duration = Duration::from_mins(1);
/// Maximum time for what is usually some milliseconds.
const SOON: Duration = Duration::from_secs(5);
/// Maximum time from a signal to its effect, by the fastest of some tries: other programs may have
/// the cores during the others.
const SIGNAL: Duration = Duration::from_millis(100);
const TRIES: usize = 5;

const REAL: WorkerJobs =
    WorkerJobs { search, find_again, find_functions: dma::find, load: Sboms::load };

/// Keeps messages.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Kept {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    fn count(&self, text: &str) -> usize {
        self.text().matches(text).count()
    }
}

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a test sees of a control thread that runs.
struct Driver {
    control: Pthread,
    kept: Kept,
    folder: PathBuf,
}

impl Driver {
    fn signal(&self, signal: Signal) {
        pthread_kill(self.control, signal).unwrap();
    }

    /// Waits until `count` messages have this text.
    #[track_caller]
    fn wait(&self, text: &str, count: usize) {
        self.wait_for(text, || self.kept.count(text) >= count);
    }

    #[track_caller]
    fn wait_for(&self, what: &str, is_true: impl Fn() -> bool) {
        let begin = Instant::now();
        while !is_true() {
            assert!(begin.elapsed() < PATIENCE, "no {what}: {}", self.kept.text());
            sleep(Duration::from_millis(1));
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log/events.jsonl")).unwrap_or_default()
    }
}

/// The memory of the recorded machine as a file; `None` if it can't be unpacked here.
fn machine(folder: &Path) -> Option<PathBuf> {
    let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../benches/images/6.1.image.xz");
    let unpacked = bounded::output(Command::new("xz").arg("-dc").arg(packed)).ok()?;
    let mut replay = Replay::from_bytes(unpacked.stdout).ok()?;
    let path = folder.join("ram");
    let file = fs::File::create(&path).unwrap();
    file.set_len(replay.regions().last()?.end).unwrap();
    let pages: Vec<_> = replay.page_addresses().collect();
    let mut page = [0; 4096];
    for address in pages {
        assert!(replay.read_exact(address, &mut page));
        file.write_all_at(&page, address.0).unwrap();
    }
    Some(path)
}

/// Writes the configuration, with `more` lines.
fn configure(folder: &Path, more: &str) -> PathBuf {
    let file = folder.join("p.yaml");
    let text = format!(
        "auto_scan: false\n\
         service: {{state_dir: state}}\n\
         output: {{stdout: false, log_folder: log}}\n\
         {more}\n"
    );
    fs::write(&file, text).unwrap();
    file
}

fn request(file: &Path) -> WatchRequest {
    let file = file.to_string_lossy();
    let arguments = Arguments::try_parse_from(["panoptes", "run", "--config", &file]).unwrap();
    let Subcommand::Run(settings) = arguments.command else { panic!("{file}") };
    WatchRequest::run(settings, Path::new("/missing")).unwrap()
}

fn control(
    request: &WatchRequest,
    messages: &Arc<Messages>,
    signals: &Signals,
) -> Result<ControlThread, Failure> {
    ControlThread::new(request, messages, signals, (Instant::now(), GivenUp::default()))
}

/// Runs a control thread in this thread, and `script` in another one; returns how it ended, the
/// messages, and how long it took to end after the script.
fn run(
    folder: &TempDir,
    file: &Path,
    work: WorkerJobs,
    script: impl FnOnce(&Driver) + Send,
) -> (Result<Exit, Failure>, Kept, Duration) {
    run_changed(folder, file, work, |_, _| (), script)
}

/// As [`run`], after a change of the control thread.
fn run_changed(
    folder: &TempDir,
    file: &Path,
    work: WorkerJobs,
    change: impl FnOnce(&mut ControlThread, &Signals),
    script: impl FnOnce(&Driver) + Send,
) -> (Result<Exit, Failure>, Kept, Duration) {
    let request = request(file);
    let kept = Kept::default();
    let messages = Arc::new(Messages::new(Box::new(kept.clone()), false, LogLevel::Debug));
    let signals = Signals::take().unwrap();
    let mut control = control(&request, &messages, &signals).unwrap();
    control.cx.work = work;
    change(&mut control, &signals);
    let folder = folder.path().to_owned();
    let driver = Driver { control: pthread_self(), kept: kept.clone(), folder };
    scope(|scope| {
        let script = scope.spawn(move || {
            // After a failed script too, the control thread must end.
            let result = catch_unwind(AssertUnwindSafe(|| script(&driver)));
            driver.signal(Signal::SIGTERM);
            result.map_or_else(|panic| resume_unwind(panic), |()| Instant::now())
        });
        let exit = control.run(&signals);
        let end = Instant::now();
        let signal = script.join().unwrap();
        (exit, kept, end.saturating_duration_since(signal))
    })
}

/// Searches the system `slow` until it is cancelled; attaches to others.
fn slow_search(
    task: AttachTask,
    is_cancelled: &AtomicBool,
) -> Result<Box<AttachedSystem>, NotAttached> {
    if task.system.name != "slow" {
        return search(task, is_cancelled);
    }
    let begin = Instant::now();
    while !is_cancelled.load(Ordering::Relaxed) && begin.elapsed() < AGES {
        sleep(Duration::from_millis(1));
    }
    task.messages.info(format_args!("slow: ended after {:?}", begin.elapsed()));
    Err(Failure::new(Exit::NoKernel, "slow: nothing").into())
}

#[test]
fn a_slow_search_delays_neither_another_system_nor_a_stop() {
    let folder = tempfile::tempdir().unwrap();
    let Some(ram) = machine(folder.path()) else {
        panoptes_needs::skip::test("xz");
        return;
    };
    let systems = format!(
        "systems: {{slow: {{system: /slow}}, quick: {{system: {}, file_format: raw}}}}",
        ram.display()
    );
    let file = configure(folder.path(), &systems);
    let work = WorkerJobs { search: slow_search, ..REAL };
    let (exit, kept, took) = run(&folder, &file, work, |driver| {
        driver.wait("quick: Linux 6.1", 1);
        driver.wait(" is being watched, found in ", 1);
        driver.signal(Signal::SIGHUP);
        driver.wait("the configuration was read again", 1);
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    assert!(took < SOON, "{took:?}: {}", kept.text());
    // The worker ends as well.
    let begin = Instant::now();
    while kept.count("slow: ended") == 0 {
        assert!(begin.elapsed() < SOON, "{}", kept.text());
        sleep(Duration::from_millis(1));
    }
}

/// A guest that was there first, a process with its name while it is off, and both.
#[test]
fn a_process_that_poses_as_a_guest_is_reported_and_so_is_the_guest() {
    let guest = |pid, user: &str, uuid: &str| Guest {
        pid,
        name: Some("web".to_owned()),
        user: user.to_owned(),
        uuid: Some(uuid.to_owned()),
        ..Guest::default()
    };
    let (owner, poser) = (guest(4_200_001, "tenant", "aaaa"), guest(4_200_002, "mallory", "bbbb"));
    let again = Guest { pid: 4_200_003, ..owner.clone() };
    let folder = tempfile::tempdir().unwrap();
    let file = configure(folder.path(), "systems: {a: {system: /a}}");
    let meet = |control: &mut ControlThread, _: &Signals| {
        for guests in [vec![owner], vec![], vec![poser.clone()], vec![poser, again]] {
            control.systems.update_guests(&mut control.cx, &guests);
        }
    };
    let (exit, kept, _) = run_changed(&folder, &file, REAL, meet, |_| ());
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    let log = fs::read_to_string(folder.path().join("log/events.jsonl")).unwrap();
    let mut reported = Vec::new();
    for line in log.lines().filter(|line| line.contains("\"details_gathering_failed\"")) {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        let name = &record["workload_information"]["unique_identifier"];
        let reason = &record["activity_data"]["system_activity_details"]["reason"];
        let reason = reason.as_str().unwrap();
        for who in ["(user mallory, UUID bbbb)", "(user tenant, UUID aaaa)"] {
            assert!(reason.contains(who), "{reason}");
        }
        reported.push(name.as_str().unwrap().to_owned());
    }
    let poser = "web (qemu:4200002, user mallory)";
    assert_eq!(reported, [poser, poser, "web (qemu:4200003, user tenant)"], "{}", kept.text());
    // The guest had its name, and only it.
    assert_eq!(kept.count("web: found as qemu:"), 1, "{}", kept.text());
}

/// The scanner's thread neither ends nor uses a core, as while memory does not answer.
#[test]
fn a_scanner_that_hangs_delays_a_stop_by_a_second() {
    static HANGS: AtomicBool = AtomicBool::new(false);
    fn hang() -> Workspace {
        HANGS.store(true, Ordering::Relaxed);
        sleep(AGES);
        panic!("the test has ended")
    }
    let hang = |control: &mut ControlThread, signals: &Signals| {
        let cores = ScannerCores::of(&Cores::Auto);
        let (shared, messages) = (Arc::clone(&control.cx.shared), Arc::clone(&control.cx.messages));
        let (scanners, _) = Scanners::start(
            (&cores, 1),
            &Waker::default(),
            &shared,
            signals.waker(),
            &messages,
            control.cx.start,
            Arc::new(hang),
        )
        .unwrap();
        control.systems.scanners = scanners;
    };
    let folder = tempfile::tempdir().unwrap();
    let file = configure(folder.path(), "systems: {a: {system: /a}}");
    let (exit, kept, took) = run_changed(&folder, &file, REAL, hang, |driver| {
        driver.wait_for("scanner", || HANGS.load(Ordering::Relaxed));
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    assert_eq!(kept.count("but a scanner did not end"), 1, "{}", kept.text());
    let log = fs::read_to_string(folder.path().join("log/events.jsonl")).unwrap();
    let last = log.lines().last().unwrap_or_default();
    assert!(last.contains("service_gracefully_shutdown"), "{log}");
    assert!(took < SCANNERS_STALL_MAX + SOON, "{took:?}");
}

/// A file system that does not answer keeps the thread that reads from it, and nothing else.
#[test]
fn sboms_that_are_not_read_in_time_delay_no_other_configuration() {
    static MAY_GO_ON: AtomicBool = AtomicBool::new(false);
    #[expect(clippy::unnecessary_wraps, reason = "the type of functions that load SBOMs")]
    fn load(configuration: &Configuration) -> Result<Sboms, Vec<SbomFault>> {
        while !configuration.default.sbom.is_empty() && !MAY_GO_ON.load(Ordering::Relaxed) {
            sleep(Duration::from_millis(1));
        }
        Ok(Sboms::default())
    }
    const DONE: &str = "the configuration was read again";
    const SBOMS: &str = "the SBOMs were read again";
    let folder = tempfile::tempdir().unwrap();
    let systems = "systems: {slow: {system: /slow}}\n";
    let file = configure(folder.path(), systems);
    let work = WorkerJobs { search: slow_search, load, ..REAL };
    let (exit, kept, _) = run(&folder, &file, work, |driver| {
        driver.wait_for("record", || driver.log().contains("host_initialization_started"));
        let hangs = format!("{systems}default: {{sbom: [{}]}}", file.display());
        configure(folder.path(), &hangs);
        let mut took = Vec::new();
        for number in 1..=TRIES {
            let begin = Instant::now();
            driver.signal(Signal::SIGHUP);
            driver.wait(DONE, number);
            took.push(begin.elapsed());
        }
        assert!(took.iter().min() < Some(&SIGNAL), "{took:?}");
        assert_eq!(driver.kept.count(SBOMS), 0, "{}", driver.kept.text());
        MAY_GO_ON.store(true, Ordering::Relaxed);
        // Those of the last configuration alone are used.
        driver.wait(SBOMS, 1);
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    assert_eq!(kept.count(SBOMS), 1, "{}", kept.text());
}

#[test]
fn sboms_that_are_not_read_in_time_delay_no_stop() {
    fn load(_: &Configuration) -> Result<Sboms, Vec<SbomFault>> {
        sleep(AGES);
        Err(Vec::new())
    }
    let took = (0..TRIES).map(|_| {
        let folder = tempfile::tempdir().unwrap();
        let file = configure(folder.path(), "systems: {a: {system: /a}}");
        let (exit, kept, took) = run(&folder, &file, WorkerJobs { load, ..REAL }, |driver| {
            driver.wait_for("record", || driver.log().contains("service_initialization_started"));
        });
        assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
        took
    });
    let took = took.min().unwrap();
    assert!(took < SIGNAL, "{took:?}");
}

#[test]
fn memory_without_a_kernel_is_searched_again_when_it_is_another() {
    fn search(task: AttachTask, _: &AtomicBool) -> Result<Box<AttachedSystem>, NotAttached> {
        let AttachTask { system, users, messages, .. } = task;
        messages.info("the memory was searched");
        let outside = Outside::of(&system.address, &users);
        let failure = Failure::new(Exit::NoKernel, "ram: no kernel");
        let searched = Some(FailedSearch { took: AGES, outside });
        Err(NotAttached { failure, searched, is_early: false, instead: None })
    }
    let folder = tempfile::tempdir().unwrap();
    let ram = folder.path().join("ram");
    fs::write(&ram, "a").unwrap();
    let file = configure(folder.path(), "systems: {ram: {system: ram}}");
    let (exit, kept, _) = run(&folder, &file, WorkerJobs { search, ..REAL }, |driver| {
        driver.wait("the memory was searched", 1);
        driver.wait("ram: no kernel", 1);
        fs::write(&ram, "ab").unwrap();
        driver.wait("the memory was searched", 2);
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    assert_eq!(kept.count("ram: no kernel"), 1, "it is reported once: {}", kept.text());
}

#[test]
fn what_is_given_up_while_a_kernel_may_be_starting_is_reported() {
    fn search(task: AttachTask, _: &AtomicBool) -> Result<Box<AttachedSystem>, NotAttached> {
        let AttachTask { system, .. } = task;
        let failure = Failure::new(Exit::NoKernel, format!("{}: no kernel", system.name));
        Err(NotAttached { is_early: true, ..failure.into() })
    }
    let folder = tempfile::tempdir().unwrap();
    let file = configure(folder.path(), "systems: {one: {system: /one}, other: {system: /other}}");
    // `panoptes watch one other`, which has waited as long as it does.
    let impatient = |control: &mut ControlThread, _: &Signals| {
        control.cx.request.mode = Mode::Watch;
        control.cx.start = control.cx.start.checked_sub(FIRST_KERNEL_WAIT).unwrap();
    };
    let work = WorkerJobs { search, ..REAL };
    let (exit, kept, _) = run_changed(&folder, &file, work, impatient, |driver| {
        driver.wait_for("end", || driver.log().contains("service_initialization_failed"));
    });
    assert_eq!(exit.unwrap_err().exit, Exit::NoKernel, "{}", kept.text());
    let log = fs::read_to_string(folder.path().join("log/events.jsonl")).unwrap();
    for name in ["one", "other"] {
        let is_it = |line: &&str| {
            line.contains("\"host_initialization_failed\"")
                && line.contains(&format!("\"unique_identifier\":\"{name}\""))
                && line.contains("\"reason\":\"no kernel\"")
        };
        assert_eq!(log.lines().filter(is_it).count(), 1, "{name}: {log}");
    }
}

#[test]
fn an_immediate_end_leaves_whole_lines() {
    let folder = tempfile::tempdir().unwrap();
    let text = "systems: {slow: {system: /slow}}";
    let file = configure(folder.path(), text);
    let immediate = "service: {state_dir: state, immediate_shutdown: true}";
    let text = fs::read_to_string(&file).unwrap().replace("service: {state_dir: state}", immediate);
    fs::write(&file, text).unwrap();
    let work = WorkerJobs { search: slow_search, ..REAL };
    let (exit, kept, took) = run(&folder, &file, work, |_| ());
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    assert!(took < SOON, "{took:?}");
    let log = fs::read_to_string(folder.path().join("log/events.jsonl")).unwrap();
    // What had been passed to the writer before is there, although it had not been written.
    assert!(log.contains("service_initialization_started"), "{log}");
    assert!(log.ends_with('\n'), "{log}");
}

#[test]
fn other_images_apply_although_the_sboms_are_refused() {
    const AGAIN: &str = "ram: all running programs are checked again";
    const DONE: &str = "the configuration was read again";
    let folder = tempfile::tempdir().unwrap();
    let Some(ram) = machine(folder.path()) else {
        panoptes_needs::skip::test("xz");
        return;
    };
    let list = folder.path().join("list");
    fs::write(&list, format!("{}\n", "1".repeat(64))).unwrap();
    let systems = |image| {
        let (ram, list) = (ram.display(), list.display());
        format!(
            "systems: {{ram: {{system: {ram}, file_format: raw, sbom: [{list}], \
             containers: {{images: {{web: {image}}}}}}}}}"
        )
    };
    let file = configure(folder.path(), &systems("nginx"));
    let (exit, kept, _) = run(&folder, &file, REAL, |driver| {
        driver.wait(" is being watched, found in ", 1);
        configure(folder.path(), &systems("apache"));
        fs::write(&list, "spoilt").unwrap();
        driver.signal(Signal::SIGHUP);
        driver.wait(DONE, 1);
        driver.wait("the SBOMs are refused and not changed", 1);
        assert_eq!(driver.kept.count(AGAIN), 1, "{}", driver.kept.text());
        // The SBOMs are those of the start, so nothing differs any more.
        fs::write(&list, format!("{}\n", "1".repeat(64))).unwrap();
        driver.signal(Signal::SIGHUP);
        driver.wait("the SBOMs were read again", 1);
        assert_eq!(driver.kept.count(AGAIN), 1, "{}", driver.kept.text());
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    assert_eq!(kept.count("the SBOMs are refused and not changed"), 1, "{}", kept.text());
}

/// The lines of a log, each with the name of the system that it is about; `""`: the service.
fn lines(log: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(log).unwrap();
    assert!(text.ends_with('\n'), "{text}");
    let name = |line: &str| {
        let record: Value = serde_json::from_str(line).unwrap();
        let name = &record["workload_information"]["unique_identifier"];
        (name.as_str().unwrap_or_default().to_owned(), line.to_owned())
    };
    text.lines().map(name).collect()
}

#[test]
fn each_system_has_a_log_of_its_own_beside_the_common_one() {
    let folder = tempfile::tempdir().unwrap();
    let Some(ram) = machine(folder.path()) else {
        panoptes_needs::skip::test("xz");
        return;
    };
    let systems = format!(
        "systems: {{ram: {{system: {}, file_format: raw}}, a/b: {{system: /absent}}}}",
        ram.display()
    );
    let file = configure(folder.path(), &systems);
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("log_folder: log", "log_folder: log, log_per_system: true"))
        .unwrap();
    let (exit, kept, _) = run(&folder, &file, REAL, |driver| {
        driver.wait(" is being watched, found in ", 1);
        driver.wait_for("record", || driver.log().contains("\"a/b\""));
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    let log = folder.path().join("log");
    let all = lines(&log.join("events.jsonl"));
    let of = |name: &str| {
        let lines = all.iter().filter(|(system, _)| system == name).cloned();
        lines.collect::<Vec<_>>()
    };
    for (name, own) in [("ram", "ram"), ("a/b", "a%2Fb")] {
        let own = lines(&log.join("systems").join(own).join("events.jsonl"));
        assert!(!own.is_empty(), "{name}: {}", kept.text());
        assert_eq!(own, of(name));
    }
    assert_eq!(fs::read_dir(log.join("systems")).unwrap().count(), 2);
    assert_eq!(of("ram").len() + of("a/b").len() + of("").len(), all.len());
    assert!(all.last().unwrap().1.contains("service_gracefully_shutdown"));
}

/// Attaches to the recorded machine as if this process were its QEMU.
fn search_recorded(task: AttachTask, _: &AtomicBool) -> Result<Box<AttachedSystem>, NotAttached> {
    let log = task.configuration.output.log_folder.clone().unwrap();
    let mut system = (*task.system).clone();
    system.address = SystemAddress::File(log.with_file_name("ram"));
    // This process has no memory of a guest, for which the search would be cancelled.
    search(AttachTask { system: Arc::new(system), ..task }, &AtomicBool::new(false))
}

#[test]
fn a_machine_that_runs_while_its_clock_stands_still_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    if machine(folder.path()).is_none() {
        panoptes_needs::skip::test("xz");
        return;
    }
    let pid = std::process::id();
    let systems = format!("systems: {{guest: {{system: 'qemu:{pid}', file_format: raw}}}}");
    let file = configure(folder.path(), &systems);
    let is_over = Arc::new(AtomicBool::new(false));
    // A virtual processor that is busy for a tenth of the time.
    let processor = {
        let is_over = Arc::clone(&is_over);
        let run = move || {
            while !is_over.load(Ordering::Relaxed) {
                let begin = Instant::now();
                while begin.elapsed() < Duration::from_millis(5) {}
                sleep(Duration::from_millis(45));
            }
        };
        std::thread::Builder::new().name("CPU 0/KVM".to_owned()).spawn(run).unwrap()
    };
    let work = WorkerJobs { search: search_recorded, ..REAL };
    let (exit, kept, _) = run(&folder, &file, work, |driver| {
        driver.wait(" is being watched, found in ", 1);
        driver.wait_for("record", || driver.log().contains("system_stalled"));
        // Once in a standstill.
        sleep(Duration::from_secs(3));
    });
    is_over.store(true, Ordering::Relaxed);
    processor.join().unwrap();
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    let all = lines(&folder.path().join("log/events.jsonl"));
    let stalled = all.iter().filter(|(_, line)| line.contains("\"system_stalled\""));
    let stalled: Vec<_> = stalled.collect();
    let [(system, line)] = &stalled[..] else { panic!("{}", kept.text()) };
    assert_eq!(system, "guest");
    // What the scans have shown of the machine.
    let record: Value = serde_json::from_str(line).unwrap();
    let workload = &record["workload_information"];
    for key in ["os_version", "boot_uuid", "hostname", "workload_networking_interfaces"] {
        assert!(!workload[key].is_null(), "{key} in {workload}");
    }
}
