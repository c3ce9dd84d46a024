//! The tests without guests. Each program of tests runs by itself; while it only waits and the host
//! is idle, the next one starts beside it.

use std::io::{self, BufRead as _, BufReader};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use panoptes_rig::boxes;

use crate::cargo::{self, Executable, WORKSPACE};
use crate::queue::Queue;
use crate::results::{Count, Results, tests};
use crate::stages::Stages;

/// Maximum number of programs at once.
const PROGRAMS_MAX: usize = 3;
/// The host must be idle for this long before another program starts.
const IDLE_FOR: Duration = Duration::from_millis(300);

/// What all programs have printed.
#[derive(Default)]
struct Printed {
    results: Results,
    slowest: Stages,
    /// The first program that failed, and how.
    failure: Option<String>,
}

/// Runs all tests of the workspace but the live ones, which are ignored there.
pub(crate) fn run(executables: &[Executable]) -> Result<Count, String> {
    let programs: Vec<_> = executables.iter().filter(|one| one.is_test).collect();
    // Where it is known, no test is skipped because it is missing.
    let ra_5 = boxes::ARGUS_5.obtain()?.join("ra");
    let printed = Mutex::new(Printed::default());
    Queue::run(programs, PROGRAMS_MAX, IDLE_FOR, |program| {
        let begin = Instant::now();
        let mut command = Command::new(&program.path);
        command.current_dir(&program.folder).env(boxes::RA_5_VARIABLE, &ra_5);
        let outcome = output(command);
        let mut printed = printed.lock().unwrap_or_else(PoisonError::into_inner);
        printed.take(program, outcome, begin.elapsed());
    });
    let printed = printed.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("the slowest programs of tests:\n{}", printed.slowest.slowest().trim_end());
    let status = printed.failure.as_deref();
    let mut count = printed.results.end(status.is_none(), status.unwrap_or_default());
    let mut of_documents = cargo::command();
    of_documents.args(["test", "--doc"]).args(WORKSPACE).arg("--no-fail-fast");
    count.add(tests(&mut of_documents)?);
    Ok(count)
}

/// Runs a program; returns the lines that it printed.
fn output(mut command: Command) -> io::Result<(Vec<String>, ExitStatus)> {
    let (reader, writer) = io::pipe()?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn()?;
    // It has the ends to write to, and the output has no end while others are open.
    drop(command);
    let lines = BufReader::new(reader).split(b'\n');
    let lines = lines.map(|line| line.map(|line| String::from_utf8_lossy(&line).into_owned()));
    let lines = lines.collect::<io::Result<_>>()?;
    Ok((lines, child.wait()?))
}

impl Printed {
    /// Prints what a program printed, under a heading.
    fn take(
        &mut self,
        program: &Executable,
        outcome: io::Result<(Vec<String>, ExitStatus)>,
        took: Duration,
    ) {
        let package = program.folder.file_name().unwrap_or_default().display();
        let title = format!("{package}::{} ({})", program.name, program.kind);
        println!("     Running {title}, {:.1} s", took.as_secs_f64());
        self.slowest.note(&title, took);
        match outcome {
            Ok((lines, status)) => {
                for line in &lines {
                    self.results.take(line);
                }
                if !status.success() {
                    self.failure.get_or_insert(format!("{title}: {status}"));
                }
            }
            Err(error) => {
                println!("{}: {error}", program.path.display());
                self.failure.get_or_insert(format!("{title}: {error}"));
            }
        }
    }
}
