//! The results of checks and of tests.

use std::process::Command;

use crate::cargo;

/// Number of checks that passed and failed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Count {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Count {
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }

    pub(crate) const fn of_one(held: bool) -> Self {
        Self { passed: held as u64, failed: !held as u64 }
    }
}

/// Runs a `cargo test`, and prints what failed again at its end.
pub(crate) fn tests(command: &mut Command) -> Result<Count, String> {
    let mut results = Results::default();
    let status = cargo::each_line(command, |line| results.take(line))?;
    Ok(results.end(status.success(), &status.to_string()))
}

/// What libtest prints, as it comes.
#[derive(Debug, Default)]
pub(crate) struct Results {
    count: Count,
    failures: Failures,
}

impl Results {
    /// Prints a line, and takes the results in it.
    pub(crate) fn take(&mut self, line: &str) {
        println!("{line}");
        self.count.add(result_line(line).unwrap_or_default());
        self.failures.take(line);
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
        self.count
    }
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
    Some(Count { passed: number("passed")?, failed: number("failed")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_summed() {
        let line = "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out";
        assert_eq!(result_line(line), Some(Count { passed: 12, failed: 0 }));
        let line = "test result: FAILED. 1 passed; 2 failed; 0 ignored; finished in 0.00s";
        assert_eq!(result_line(line), Some(Count { passed: 1, failed: 2 }));
        assert_eq!(result_line("test some::name ... ok"), None);
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
