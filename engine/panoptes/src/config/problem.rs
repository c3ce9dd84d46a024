//! Mistakes in a configuration, and their places.
//!
//! Every mistake becomes one [`Problem`]: its place, what is wrong, and how to fix it. Reading
//! continues after a mistake, so that one run shows all of them.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::exit::Exit;

/// Where a value was given.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum ConfigLocation {
    /// In the file; both count from one, columns in characters.
    File { line: usize, column: usize },
    /// On the command line: the option as typed, `--set KEY=VALUE`.
    Option(Arc<str>),
}

/// How bad a problem is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Weight {
    /// The configuration is refused.
    Error,
    /// The configuration is accepted, with a warning.
    Warning,
}

/// One mistake in a configuration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// `None` for what concerns the whole file (it can't be read, or a value is missing).
    pub place: Option<ConfigLocation>,
    pub weight: Weight,
    /// The mistake and how to fix it, in one line.
    pub message: String,
}

impl Problem {
    /// A mistake for which the configuration is refused.
    pub fn error(place: Option<ConfigLocation>, message: impl Into<String>) -> Self {
        Self { place, weight: Weight::Error, message: one_line(&message.into()) }
    }

    /// A doubtful setting with which the configuration is still accepted.
    pub fn warning(place: Option<ConfigLocation>, message: impl Into<String>) -> Self {
        Self { place, weight: Weight::Warning, message: one_line(&message.into()) }
    }
}

/// The problems of one configuration, and its file.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Report {
    /// The file, as the user named it.
    pub file: Option<PathBuf>,
    /// The problems in the order of the file; those of the command line follow.
    pub problems: Vec<Problem>,
    /// Whether the file could not be read for lack of a permission.
    pub denied: bool,
}

impl Report {
    /// Whether the configuration is refused.
    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(|problem| problem.weight == Weight::Error)
    }

    /// The exit code for the problems. If all errors are on the command line, it is a usage error.
    pub fn exit(&self) -> Exit {
        let mut errors =
            self.problems.iter().filter(|problem| problem.weight == Weight::Error).peekable();
        if self.denied {
            Exit::Permission
        } else if errors.peek().is_none() {
            Exit::Done
        } else if errors.all(|error| matches!(error.place, Some(ConfigLocation::Option(_)))) {
            Exit::Usage
        } else {
            Exit::Configuration
        }
    }

    /// One line a problem: `FILE:LINE:COLUMN: message`, or `OPTION: message`.
    pub fn lines(&self) -> impl Iterator<Item = (Weight, String)> + '_ {
        self.problems.iter().map(|problem| (problem.weight, self.line(problem, &problem.message)))
    }

    fn line(&self, problem: &Problem, message: &str) -> String {
        let file = self.file.as_ref().map(|file| printable(&file.to_string_lossy()));
        match (&problem.place, file) {
            (Some(ConfigLocation::Option(option)), _) => {
                format!("{}: {message}", printable(option))
            }
            (Some(ConfigLocation::File { line, column }), Some(file)) => {
                format!("{file}:{line}:{column}: {message}")
            }
            (Some(ConfigLocation::File { line, column }), None) => {
                format!("{line}:{column}: {message}")
            }
            (None, Some(file)) => format!("{file}: {message}"),
            (None, None) => message.to_owned(),
        }
    }
}

impl std::error::Error for Report {}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            let line = match problem.weight {
                Weight::Error => self.line(problem, &problem.message),
                Weight::Warning => self.line(problem, &format!("warning: {}", problem.message)),
            };
            write!(out, "{separator}{line}")?;
        }
        Ok(())
    }
}

/// Makes text from outside safe for a message: one line, no control characters, bounded length.
pub fn printable(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARACTERS_MAX) {
        Some((end, _)) => one_line(&text[..end]) + "…",
        None => one_line(text),
    }
}

/// Makes text one line and escapes control characters, because a terminal would execute them.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        if is_unprintable(character) {
            line.extend(character.escape_unicode());
        } else {
            line.push(character);
        }
    }
    line
}

/// Control characters, and those that reorder the text around them on a terminal.
pub(crate) fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}')
        || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Long enough for any path that a person would read.
const SHOWN_CHARACTERS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn in_file() -> Problem {
        Problem::error(Some(ConfigLocation::File { line: 3, column: 7 }), "is wrong")
    }

    fn in_option() -> Problem {
        Problem::error(Some(ConfigLocation::Option("--set a=b".into())), "is wrong")
    }

    #[test]
    fn lines_name_the_place() {
        let report = Report {
            file: Some("/etc/p.yaml".into()),
            problems: vec![in_file(), in_option(), Problem::warning(None, "mind this")],
            denied: false,
        };
        assert_eq!(
            report.to_string(),
            "/etc/p.yaml:3:7: is wrong\n--set a=b: is wrong\n/etc/p.yaml: warning: mind this"
        );
    }

    #[test]
    fn a_mistake_on_the_command_line_alone_is_a_usage_error() {
        let exit = |problems| Report { problems, ..Report::default() }.exit();
        assert_eq!(exit(vec![]), Exit::Done);
        assert_eq!(exit(vec![Problem::warning(None, "mind this")]), Exit::Done);
        assert_eq!(exit(vec![in_option()]), Exit::Usage);
        assert_eq!(exit(vec![in_option(), in_file()]), Exit::Configuration);
        let denied = Report { problems: vec![in_file()], denied: true, ..Report::default() };
        assert_eq!(denied.exit(), Exit::Permission);
    }

    #[test]
    fn text_from_outside_cannot_control_the_terminal() {
        assert_eq!(printable("a\u{1b}[31m\nb"), "a\\u{1b}[31m\\u{a}b");
        assert_eq!(printable("a\u{202e}b"), "a\\u{202e}b");
        assert_eq!(printable("a\u{61c}b\u{2029}"), "a\\u{61c}b\\u{2029}");
        assert_eq!(printable(&"x".repeat(1000)).chars().count(), SHOWN_CHARACTERS_MAX + 1);
    }
}
