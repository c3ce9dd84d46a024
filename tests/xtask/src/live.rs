//! Live tests: tests that boot guests, each in a process of its own.
//!
//! A live test is an ignored one (`#[ignore = "boots a guest"]`). Each runs by itself, one at a
//! time unless the host is idle. If a guest died by itself, the test begins again. A test that
//! fails is run once more in a fresh guest: if it then passes, it is flaky, which is a bug to be
//! fixed.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use panoptes_rig::{death, snapshot, turn};

use crate::cargo::Executable;
use crate::machine::Machine;
use crate::queue::Queue;
use crate::silence::SILENCE_MAX;
use crate::stages::Stages;
use crate::{results, skips};

/// More flaky tests than this fail a run.
const FLAKY_MAX: usize = 2;
/// A test that takes longer hangs: it waits up to a minute for each condition.
const TEST_MAX: Duration = Duration::from_mins(15);
/// Maximum number of guests at once: each takes up to a GiB of memory.
const GUESTS_MAX: usize = 4;
/// The host must be idle for this long before another test starts.
const IDLE_FOR: Duration = Duration::from_secs(1);
/// Number of last lines shown of a failed test.
const LINES_SHOWN: usize = 60;
/// How often the end of a test is checked.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// One live test.
#[derive(Clone, Debug)]
pub(crate) struct Test {
    executable: PathBuf,
    /// The folder of its package, in which it runs.
    folder: PathBuf,
    /// The test's file, and the test's path in it (`name`).
    target: String,
    name: String,
}

impl Test {
    /// The title for people, and for names of files.
    fn title(&self) -> String {
        let package = self.folder.file_name().unwrap_or_default().to_string_lossy();
        format!("{package}.{}::{}", self.target, self.name)
    }
}

/// The live tests among programs. With `names`, only those whose title contains one of them.
pub(crate) fn list(executables: &[Executable], names: &[String]) -> Result<Vec<Test>, String> {
    let mut tests = Vec::new();
    // Ignored tests beside the code are measurements, not live tests.
    let of_files = |executable: &&Executable| executable.is_test && executable.kind == "test";
    for executable in executables.iter().filter(of_files) {
        for name in results::listed(executable, &["--ignored"])? {
            tests.push(Test {
                executable: executable.path.clone(),
                folder: executable.folder.clone(),
                target: executable.name.clone(),
                name,
            });
        }
    }
    let is_called = |test: &Test, name: &String| test.title().contains(name.as_str());
    if let Some(name) = names.iter().find(|name| !tests.iter().any(|test| is_called(test, name))) {
        return Err(format!("no live test has {name:?} in its name"));
    }
    if !names.is_empty() {
        tests.retain(|test| names.iter().any(|name| is_called(test, name)));
    }
    Ok(tests)
}

/// The result of one run of a test.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Once {
    Passed,
    Skipped,
    Failed,
    /// The test failed, and one of its guests had died by itself.
    Died,
}

/// The final result of a test.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Outcome {
    Passed,
    Skipped,
    /// Failed, then passed.
    Flaky,
    Failed,
}

/// Runs a test until its result is final. `run` gets whether the test must boot its guests.
fn run_until_final(mut run: impl FnMut(bool) -> Once) -> Outcome {
    let (mut deaths, mut has_failed) = (0, false);
    loop {
        match run(deaths > 0 || has_failed) {
            Once::Skipped if !has_failed => return Outcome::Skipped,
            Once::Passed if has_failed => return Outcome::Flaky,
            Once::Passed => return Outcome::Passed,
            Once::Died if deaths + 1 < death::ATTEMPTS => deaths += 1,
            Once::Failed if !has_failed => has_failed = true,
            Once::Died | Once::Failed | Once::Skipped => return Outcome::Failed,
        }
    }
}

/// A finished test.
#[derive(Debug)]
struct Done {
    title: String,
    outcome: Outcome,
    took: Duration,
    logs: Vec<PathBuf>,
    /// The test's guests that died.
    deaths: Vec<String>,
}

/// The results of all live tests.
#[derive(Debug, Default)]
pub(crate) struct Report {
    done: Vec<Done>,
}

/// Runs live tests with the guests saved in `saved`; their logs go into `folder`.
pub(crate) fn run(tests: Vec<Test>, machine: &Machine, saved: &Path, folder: &Path) -> Report {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let count = tests.len();
    let report = Mutex::new(Report::default());
    Queue::run(tests, processors.min(GUESTS_MAX), IDLE_FOR, |test| {
        let done = run_one(&test, machine, folder, saved);
        let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
        println!("{:3}/{count} {}", report.done.len() + 1, done.line());
        report.done.push(done);
    });
    report.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Runs one test as often as needed.
fn run_one(test: &Test, machine: &Machine, folder: &Path, saved: &Path) -> Done {
    let begin = Instant::now();
    let (mut logs, mut deaths) = (Vec::new(), Vec::new());
    let outcome = run_until_final(|must_boot| {
        let log = folder.join(format!("{}.{}.log", test.title(), logs.len() + 1));
        let command = machine.tied(&test.executable);
        let once = attempt(test, command, &log, (!must_boot).then_some(saved), &mut deaths);
        logs.push(log);
        once.unwrap_or_else(|error| {
            println!("{}: {error}", test.title());
            Once::Failed
        })
    });
    Done { title: test.title(), outcome, took: begin.elapsed(), logs, deaths }
}

/// Runs one test once; its output goes into a log.
fn attempt(
    test: &Test,
    mut command: Command,
    log: &Path,
    saved: Option<&Path>,
    deaths: &mut Vec<String>,
) -> Result<Once, String> {
    use std::os::unix::process::CommandExt as _;

    let text = |error: std::io::Error| format!("cannot run it: {error}");
    let file = std::fs::File::create(log).map_err(text)?;
    let dead = log.with_extension("deaths");
    command.args(["--exact", &test.name, "--ignored", "--nocapture", "--test-threads=1"]);
    command.current_dir(&test.folder).process_group(0);
    command.stdin(Stdio::null()).stdout(file.try_clone().map_err(text)?).stderr(file);
    command.env(turn::VARIABLE, GUESTS_MAX.to_string()).env(death::VARIABLE, &dead);
    match saved {
        Some(folder) => command.env(snapshot::VARIABLE, folder),
        None => command.env_remove(snapshot::VARIABLE),
    };
    let mut child = command.spawn().map_err(text)?;
    let group = Pid::from_raw(child.id() as i32);
    let status = wait(&mut child, log).map_err(text)?;
    // Ends the processes that the test started and did not end.
    let _ = killpg(group, Signal::SIGKILL);
    let _ = child.wait();
    let output = std::fs::read(log).map_err(text)?;
    let output = String::from_utf8_lossy(&output);
    let (died, open) = death::read(&std::fs::read_to_string(&dead).unwrap_or_default());
    deaths.extend(died);
    Ok(match status {
        Some(status) if status.success() && is_skipped(&test.title(), &output) => Once::Skipped,
        Some(status) if status.success() => Once::Passed,
        _ if open > 0 => Once::Died,
        _ => Once::Failed,
    })
}

/// Waits for a test's end; `None` if it takes too long, or prints nothing for too long.
fn wait(child: &mut Child, log: &Path) -> std::io::Result<Option<ExitStatus>> {
    let (begin, mut last, mut length) = (Instant::now(), Instant::now(), 0);
    loop {
        let status = child.try_wait()?;
        let now = log.metadata().map_or(0, |metadata| metadata.len());
        if now != length {
            (last, length) = (Instant::now(), now);
        }
        let is_silent = last.elapsed() > SILENCE_MAX;
        if is_silent && status.is_none() {
            let minutes = SILENCE_MAX.as_secs() / 60;
            println!("ended, as it printed nothing for {minutes} minutes: {}", log.display());
        }
        if status.is_some() || is_silent || begin.elapsed() > TEST_MAX {
            return Ok(status);
        }
        std::thread::sleep(CHECK_INTERVAL);
    }
}

/// Whether the test was skipped; its reasons are noted.
fn is_skipped(title: &str, output: &str) -> bool {
    let skips: Vec<_> = output.lines().filter_map(results::skipped).collect();
    for skip in &skips {
        let reason = skip.split_once(' ').map_or("", |(_, reason)| reason);
        skips::note(&format!("{title} {reason}"));
    }
    !skips.is_empty()
}

impl Done {
    fn line(&self) -> String {
        let outcome = match self.outcome {
            Outcome::Passed => "ok",
            Outcome::Skipped => "skipped",
            Outcome::Flaky => "FLAKY",
            Outcome::Failed => "FAILED",
        };
        format!("{outcome:<8}{:6.1} s  {}", self.took.as_secs_f64(), self.title)
    }

    fn log_names(&self) -> String {
        let names: Vec<String> = self.logs.iter().map(|log| log.display().to_string()).collect();
        names.join(", ")
    }
}

impl Report {
    fn of(&self, outcome: Outcome) -> impl Iterator<Item = &Done> {
        self.done.iter().filter(move |done| done.outcome == outcome)
    }

    /// Number of tests that passed, flaky ones included.
    pub(crate) fn passed(&self) -> u64 {
        (self.of(Outcome::Passed).count() + self.of(Outcome::Flaky).count()) as u64
    }

    /// Number of tests that failed; too many flaky ones count as one more failure.
    pub(crate) fn failed(&self) -> u64 {
        let flaky = self.of(Outcome::Flaky).count();
        (self.of(Outcome::Failed).count() + usize::from(flaky > FLAKY_MAX)) as u64
    }

    /// Number of tests that cannot run here.
    pub(crate) fn skipped(&self) -> u64 {
        self.of(Outcome::Skipped).count() as u64
    }

    /// Prints a summary for people: the ends of failed tests' logs, the flaky tests, the guests
    /// that died.
    pub(crate) fn print(&self) {
        for done in self.of(Outcome::Failed) {
            println!("---- {}, the end of {}", done.title, done.log_names());
            let last = done.logs.last().and_then(|log| std::fs::read(log).ok()).unwrap_or_default();
            let last = String::from_utf8_lossy(&last).into_owned();
            let lines: Vec<&str> = last.lines().collect();
            for line in &lines[lines.len().saturating_sub(LINES_SHOWN)..] {
                println!("{}", line.chars().take(2000).collect::<String>());
            }
        }
        let mut slowest = Stages::default();
        self.done.iter().for_each(|done| slowest.note(&done.title, done.took));
        println!("the slowest live tests:\n{}", slowest.slowest().trim_end());
        for done in self.of(Outcome::Flaky) {
            println!("flaky: {} ({})", done.title, done.log_names());
        }
        if self.of(Outcome::Flaky).count() > FLAKY_MAX {
            println!("more than {FLAKY_MAX} flaky tests fail a run");
        }
        for done in self.done.iter().filter(|done| !done.deaths.is_empty()) {
            for death in &done.deaths {
                println!("died: a guest in {}, {death}", done.title);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The result of a test with these runs in turn, and how often it may use saved guests.
    fn outcome(ways: &[Once]) -> (Outcome, usize) {
        let mut ways = ways.iter();
        let mut saved = 0;
        let outcome = run_until_final(|must_boot| {
            saved += usize::from(!must_boot);
            *ways.next().expect("the test is over by now")
        });
        assert_eq!(ways.next(), None, "the test was over before");
        (outcome, saved)
    }

    #[test]
    fn a_test_gets_a_second_look_and_a_dead_guest_two_more() {
        use Once::{Died, Failed, Passed, Skipped};
        let cases: &[(&[Once], Outcome)] = &[
            (&[Passed], Outcome::Passed),
            (&[Skipped], Outcome::Skipped),
            (&[Failed, Passed], Outcome::Flaky),
            (&[Failed, Failed], Outcome::Failed),
            (&[Failed, Skipped], Outcome::Failed),
            (&[Died, Passed], Outcome::Passed),
            (&[Died, Died, Passed], Outcome::Passed),
            (&[Died, Died, Died], Outcome::Failed),
            (&[Died, Failed, Passed], Outcome::Flaky),
            (&[Failed, Died, Passed], Outcome::Flaky),
            (&[Died, Failed, Died, Failed], Outcome::Failed),
        ];
        for (ways, expected) in cases {
            // Only the first run may use saved guests: they may be the fault.
            assert_eq!(outcome(ways), (*expected, 1), "{ways:?}");
        }
    }

    #[test]
    fn more_than_two_flaky_tests_fail_a_run() {
        let done = |number: u32, outcome| Done {
            title: number.to_string(),
            outcome,
            took: Duration::ZERO,
            logs: Vec::new(),
            deaths: Vec::new(),
        };
        let mut report = Report::default();
        report.done.push(done(0, Outcome::Passed));
        report.done.push(done(1, Outcome::Skipped));
        report.done.extend((2..4).map(|number| done(number, Outcome::Flaky)));
        assert_eq!((report.passed(), report.failed(), report.skipped()), (3, 0, 1));
        report.done.push(done(4, Outcome::Flaky));
        assert_eq!((report.passed(), report.failed()), (4, 1));
        report.done.push(done(5, Outcome::Failed));
        assert_eq!((report.passed(), report.failed()), (4, 2));
    }
}
