//! The tests without guests. Each program of tests runs by itself; while it only waits and the host
//! is idle, the next one starts beside it.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use panoptes_rig::boxes;

use crate::cargo::{self, Executable, WORKSPACE};
use crate::machine::Machine;
use crate::queue::Queue;
use crate::results::{self, Count, Results, silent, tests};
use crate::silence::{self, End, SILENCE_MAX};
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
pub(crate) fn run(executables: &[Executable], machine: &Machine) -> Result<Count, String> {
    let programs: Vec<_> = executables.iter().filter(|one| one.is_test).collect();
    // Where it is known, no test is skipped because it is missing.
    let ra_5 = boxes::ARGUS_5.obtain()?.join("ra");
    let printed = Mutex::new(Printed::default());
    Queue::run(programs, PROGRAMS_MAX, IDLE_FOR, |program| {
        let begin = Instant::now();
        let mut command = machine.command(&program.path);
        command.current_dir(&program.folder).env(boxes::RA_5_VARIABLE, &ra_5);
        let mut lines = Vec::new();
        let end = silence::run(command, SILENCE_MAX, |line| lines.push(line.to_owned()));
        let mut printed = printed.lock().unwrap_or_else(PoisonError::into_inner);
        printed.take(program, &lines, end, begin.elapsed());
    });
    let printed = printed.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("the slowest programs of tests:\n{}", printed.slowest.slowest().trim_end());
    let status = printed.failure.as_deref();
    let mut count = printed.results.end(status.is_none(), status.unwrap_or_default());
    let mut of_documents = cargo::command();
    of_documents.args(["test", "--doc"]).args(WORKSPACE).arg("--no-fail-fast");
    count.add(tests(of_documents)?);
    Ok(count)
}

impl Printed {
    /// Prints what a program printed, under a heading.
    fn take(
        &mut self,
        program: &Executable,
        lines: &[String],
        end: io::Result<End>,
        took: Duration,
    ) {
        let package = program.folder.file_name().unwrap_or_default().display();
        let title = format!("{package}::{} ({})", program.name, program.kind);
        println!("     Running {title}, {:.1} s", took.as_secs_f64());
        self.slowest.note(&title, took);
        self.results.begin(&title);
        for line in lines {
            self.results.take(line);
        }
        let failure = match end {
            Ok(End::Status(status)) if status.success() => return,
            Ok(End::Status(status)) => status.to_string(),
            Ok(End::Silent) => {
                let listed = results::listed_to_run(program).unwrap_or_default();
                let failure = silent(&results::running(&listed, self.results.finished()));
                println!("== FAILED: {title} {failure}");
                failure
            }
            Err(error) => {
                println!("{}: {error}", program.path.display());
                error.to_string()
            }
        };
        self.failure.get_or_insert(format!("{title}: {failure}"));
    }
}
