//! The duration of each part of a long command.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// Number of slowest parts named at the end.
const SHOWN: usize = 5;

/// Parts of a command, in the order of their ends.
#[derive(Debug, Default)]
pub(crate) struct Stages(Vec<(String, Duration)>);

impl Stages {
    /// Runs one part, under a heading, and notes its duration.
    pub(crate) fn run<T>(&mut self, name: &str, part: impl FnOnce() -> T) -> T {
        println!("== {name}");
        let begin = Instant::now();
        let outcome = part();
        self.note(name, begin.elapsed());
        outcome
    }

    pub(crate) fn note(&mut self, name: &str, took: Duration) {
        self.0.push((name.to_owned(), took));
    }

    /// All parts, one per line.
    pub(crate) fn table(&self) -> String {
        lines(self.0.iter())
    }

    /// The slowest parts, one per line.
    pub(crate) fn slowest(&self) -> String {
        let mut parts: Vec<_> = self.0.iter().collect();
        parts.sort_by_key(|(_, took)| std::cmp::Reverse(*took));
        lines(parts.into_iter().take(SHOWN))
    }
}

fn lines<'a>(parts: impl Iterator<Item = &'a (String, Duration)>) -> String {
    parts.fold(String::new(), |mut text, (name, took)| {
        let _ = writeln!(text, "{:8.1} s  {name}", took.as_secs_f64());
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_come_first_and_few_are_shown() {
        let mut stages = Stages::default();
        for (name, seconds) in [("a", 1), ("b", 7), ("c", 3), ("d", 2), ("e", 6), ("f", 5)] {
            stages.note(name, Duration::from_secs(seconds));
        }
        let slowest = "     7.0 s  b\n     6.0 s  e\n     5.0 s  f\n     3.0 s  c\n     2.0 s  d\n";
        assert_eq!(stages.slowest(), slowest);
        assert_eq!(stages.table().lines().next(), Some("     1.0 s  a"));
    }
}
