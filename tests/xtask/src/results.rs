//! The results of checks and of tests.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use panoptes_needs::skip;

use crate::cargo::Executable;
use crate::silence::{self, End, SILENCE_MAX};
use crate::skips;

/// Number of checks that passed, failed, and could not run.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Count {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Count {
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    pub(crate) const fn of_one(held: bool) -> Self {
        Self { passed: held as u64, failed: !held as u64, skipped: 0 }
    }
}

/// Runs programs of tests, and prints what failed again at its end.
pub(crate) fn tests(command: Command) -> Result<Count, String> {
    let mut results = Results::default();
    let name = command.get_program().display().to_string();
    let end = silence::run(command, SILENCE_MAX, |line| results.take(line));
    match end.map_err(|error| format!("cannot run {name}: {error}"))? {
        End::Status(status) => Ok(results.end(status.success(), &status.to_string())),
        End::Silent => Ok(results.end(false, &format!("{name} {}", silent(&[])))),
    }
}

/// The message about tests that print nothing.
pub(crate) fn silent(running: &[String]) -> String {
    let minutes = SILENCE_MAX.as_secs() / 60;
    let ended = format!("printed nothing for {minutes} minutes and was ended");
    if running.is_empty() {
        return ended;
    }
    format!("{ended}; the tests that ran: {}", running.join(", "))
}

/// The tests that run in a program that was started so long ago that it prints nothing any more:
/// libtest starts them in the order of its list, and as many at once as there are processors.
pub(crate) fn running(listed: &[String], finished: &BTreeSet<String>) -> Vec<String> {
    let at_once = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    listed.iter().filter(|name| !finished.contains(*name)).take(at_once).cloned().collect()
}

/// The tests of a program, in libtest's order. `--ignored` among the options lists ignored ones.
pub(crate) fn listed(program: &Executable, options: &[&str]) -> Result<Vec<String>, String> {
    let mut command = Command::new(&program.path);
    command.args(["--list", "--format", "terse"]).args(options).current_dir(&program.folder);
    let text = panoptes_rig::output(&mut command)?;
    let names = text.lines().filter_map(|line| line.strip_suffix(": test"));
    Ok(names.map(str::to_owned).collect())
}

/// The tests of a program that are not ignored.
pub(crate) fn listed_to_run(program: &Executable) -> Result<Vec<String>, String> {
    let ignored = listed(program, &["--ignored"])?;
    Ok(listed(program, &[])?.into_iter().filter(|name| !ignored.contains(name)).collect())
}

/// What libtest prints, as it comes.
#[derive(Debug, Default)]
pub(crate) struct Results {
    count: Count,
    failures: Failures,
    /// The program whose lines come.
    program: String,
    /// Its tests that have ended.
    finished: BTreeSet<String>,
    /// The reasons of each skipped test, by program and test.
    skips: BTreeMap<String, Vec<String>>,
}

impl Results {
    /// Prints a line, and takes the results in it.
    pub(crate) fn take(&mut self, line: &str) {
        println!("{line}");
        self.count.add(result_line(line).unwrap_or_default());
        self.failures.take(line);
        self.finished.extend(finished(line));
        if let Some(skip) = skipped(line) {
            let (test, reason) = skip.split_once(' ').unwrap_or((&skip, ""));
            let test = format!("{}{test}", self.program);
            self.skips.entry(test).or_default().push(reason.to_owned());
        }
    }

    /// The next lines are those of another program.
    pub(crate) fn begin(&mut self, program: &str) {
        self.program = format!("{program}: ");
        self.finished.clear();
    }

    /// The tests of the program that have ended.
    pub(crate) const fn finished(&self) -> &BTreeSet<String> {
        &self.finished
    }

    /// Prints what failed again. `succeeded` and `status` are of the program that printed.
    pub(crate) fn end(mut self, succeeded: bool, status: &str) -> Count {
        if !succeeded && self.count.failed == 0 {
            // A test that does not compile, or a harness that was killed, prints no result.
            println!("== FAILED without a result ({status})");
            self.count.failed += 1;
        }
        if !self.failures.lines.is_empty() {
            println!("== the failures again");
            for line in &self.failures.lines {
                println!("{line}");
            }
        }
        // A test that was skipped has passed for libtest. One may print several reasons.
        let skipped = self.skips.len() as u64;
        for (test, reasons) in &self.skips {
            for reason in reasons {
                skips::note(&format!("{test} {reason}"));
            }
        }
        Count { passed: self.count.passed.saturating_sub(skipped), skipped, ..self.count }
    }
}

/// What a line prints of a skipped test, behind `skipped: `. Where tests run one by one, libtest
/// prints the test's name before it.
pub(crate) fn skipped(line: &str) -> Option<String> {
    let rest = line.strip_prefix(skip::MARK);
    let rest = rest.or_else(|| Some(line.split_once(&format!("... {}", skip::MARK))?.1))?;
    Some(rest.to_owned())
}

/// The test's name in libtest's `test NAME ... ok`.
fn finished(line: &str) -> Option<String> {
    Some(line.strip_prefix("test ")?.split_once(" ... ")?.0.to_owned())
}

/// The output of failing tests, printed again at the end: the first time it is hidden among
/// thousands of lines.
#[derive(Debug, Default)]
struct Failures {
    lines: Vec<String>,
    /// Number of lines kept of the present test.
    of_this: Option<usize>,
}

impl Failures {
    /// Maximum number of lines kept of each test, and of characters of each line.
    const LINES_MAX: usize = 60;
    const LINE_CHARACTERS_MAX: usize = 2000;

    /// Processes a line of libtest: `---- NAME stdout ----` begins a test's output, `failures:`
    /// ends it.
    fn take(&mut self, line: &str) {
        if line.starts_with("---- ") && line.ends_with(" stdout ----") {
            self.of_this = Some(0);
        } else if line == "failures:" {
            self.of_this = None;
        }
        if let Some(kept) = self.of_this.as_mut().filter(|kept| **kept < Self::LINES_MAX) {
            *kept += 1;
            self.lines.push(line.chars().take(Self::LINE_CHARACTERS_MAX).collect());
        }
    }
}

/// The numbers in libtest's `test result: ok. 3 passed; 0 failed; …`.
fn result_line(line: &str) -> Option<Count> {
    let (_, rest) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let number = |name: &str| {
        rest.split("; ").find_map(|part| part.trim().strip_suffix(name)?.trim().parse().ok())
    };
    Some(Count { passed: number("passed")?, failed: number("failed")?, skipped: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_summed() {
        let line = "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out";
        assert_eq!(result_line(line), Some(Count { passed: 12, ..Count::default() }));
        let line = "test result: FAILED. 1 passed; 2 failed; 0 ignored; finished in 0.00s";
        assert_eq!(result_line(line), Some(Count { passed: 1, failed: 2, skipped: 0 }));
        assert_eq!(result_line("test some::name ... ok"), None);
    }

    #[test]
    fn skipped_tests_are_counted_once_and_have_not_passed() {
        let mut results = Results::default();
        for line in [
            "skipped: a::b needs ip (it makes interfaces)",
            "skipped: a::b needs AF_XDP (kernel)",
            "test a::c ... skipped: a::c needs xz (it unpacks)",
            "test a::b ... ok",
            "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out",
        ] {
            results.take(line);
        }
        assert_eq!(results.finished().len(), 2);
        let expected = Count { passed: 1, failed: 0, skipped: 2 };
        assert_eq!(results.end(true, ""), expected);
    }

    #[test]
    fn the_first_tests_without_a_result_run() {
        let all: Vec<String> = ["a", "b", "c"].iter().map(|name| (*name).to_owned()).collect();
        let finished = BTreeSet::from(["a".to_owned()]);
        assert_eq!(running(&all, &finished)[0], "b");
        assert!(silent(&running(&all, &finished)).contains("5 minutes"));
    }

    #[test]
    fn what_failed_is_printed_again_and_no_more() {
        let mut failures = Failures::default();
        let output = "test one ... FAILED\n\nfailures:\n\n\
                      ---- one stdout ----\nleft: 1\n\nfailures:\n    one\n";
        output.lines().for_each(|line| failures.take(line));
        assert_eq!(failures.lines, ["---- one stdout ----", "left: 1", ""]);
        (0..100).for_each(|_| failures.take("---- two stdout ----"));
        assert_eq!(failures.lines.len(), 3 + 100);
        (0..100).for_each(|_| failures.take("a"));
        assert_eq!(failures.lines.len(), 3 + 100 + Failures::LINES_MAX - 1);
    }
}
