//! What is wrong with a configuration, and where.
//!
//! Every mistake becomes one [`Problem`]: a place, what it is about, and how to mend it. Reading
//! goes on after a mistake, so that one run shows all of them.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::exit::Exit;

/// Where a value was given.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Place {
    /// In the file; both count from one, columns in characters.
    File {
        /// The line.
        line: usize,
        /// The column.
        column: usize,
    },
    /// On the command line: the option as typed, `--set KEY=VALUE`.
    Option(Arc<str>),
}

/// How bad a problem is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Weight {
    /// The configuration is refused.
    Error,
    /// It is taken, but somebody should know.
    Warning,
}

/// One mistake in a configuration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// Where it stands; `None` for what concerns the whole (a file that can't be read, a value
    /// nobody gave).
    pub place: Option<Place>,
    /// Refused, or only worth knowing.
    pub weight: Weight,
    /// What is wrong and how to mend it, in one line.
    pub message: String,
}

impl Problem {
    /// A mistake for which the configuration is refused.
    pub fn error(place: Option<Place>, message: impl Into<String>) -> Self {
        Self { place, weight: Weight::Error, message: one_line(&message.into()) }
    }

    /// Something worth knowing.
    pub fn warning(place: Option<Place>, message: impl Into<String>) -> Self {
        Self { place, weight: Weight::Warning, message: one_line(&message.into()) }
    }
}

/// The problems of one configuration, with the file they are in.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Report {
    /// The file, as the user named it.
    pub file: Option<PathBuf>,
    /// What is wrong with it, in the order of the file, the command line after it.
    pub problems: Vec<Problem>,
    /// Set where the file could not even be read for want of a permission.
    pub denied: bool,
}

impl Report {
    /// Whether the configuration is refused.
    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(|problem| problem.weight == Weight::Error)
    }

    /// The exit code these problems call for: a mistake that stands on the command line alone is
    /// a usage error.
    pub fn exit(&self) -> Exit {
        let mut errors =
            self.problems.iter().filter(|problem| problem.weight == Weight::Error).peekable();
        if self.denied {
            Exit::Permission
        } else if errors.peek().is_none() {
            Exit::Done
        } else if errors.all(|error| matches!(error.place, Some(Place::Option(_)))) {
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
            (Some(Place::Option(option)), _) => format!("{}: {message}", printable(option)),
            (Some(Place::File { line, column }), Some(file)) => {
                format!("{file}:{line}:{column}: {message}")
            }
            (Some(Place::File { line, column }), None) => format!("{line}:{column}: {message}"),
            (None, Some(file)) => format!("{file}: {message}"),
            (None, None) => message.to_owned(),
        }
    }
}

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

/// Text from outside as it may stand in a message: in one line, without control characters, and of
/// bounded length.
pub fn printable(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARACTERS_MAX) {
        Some((end, _)) => one_line(&text[..end]) + "…",
        None => one_line(text),
    }
}

/// Text in one line, without control characters: a terminal obeys them.
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
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}')
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{2066}'..='\u{2069}')
}

/// Enough for every path that a person still reads.
const SHOWN_CHARACTERS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn in_file() -> Problem {
        Problem::error(Some(Place::File { line: 3, column: 7 }), "is wrong")
    }

    fn in_option() -> Problem {
        Problem::error(Some(Place::Option("--set a=b".into())), "is wrong")
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
    fn text_from_outside_cannot_steer_the_terminal() {
        assert_eq!(printable("a\u{1b}[31m\nb"), "a\\u{1b}[31m\\u{a}b");
        assert_eq!(printable("a\u{202e}b"), "a\\u{202e}b");
        assert_eq!(printable(&"x".repeat(1000)).chars().count(), SHOWN_CHARACTERS_MAX + 1);
    }
}
