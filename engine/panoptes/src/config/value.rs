//! Text to typed values: sizes, levels and others; `duration` has durations.
//!
//! The error for a wrong value completes a sentence that starts with the text itself
//! ("… is not a duration; write …"), so that every message contains the fix.
//!
//! Not for: the place of a value (`section`), or its range (its owner).

use std::fmt;
use std::path::{Path, PathBuf};

use super::problem::is_unprintable;

/// A value that a key can have.
pub(crate) trait Setting: Sized {
    /// What can be written, in a few words for the documentation; unused where `form` makes them.
    const FORM: &'static str = "";

    fn form() -> String {
        Self::FORM.to_owned()
    }

    /// All values, if these are a few words.
    fn words() -> Vec<&'static str> {
        Vec::new()
    }

    /// Reads a value; relative paths start at `base`. The error completes "`text` …".
    fn read(text: &str, base: &Path) -> Result<Self, String>;

    /// The value as a user would write it.
    fn show(&self) -> String;
}

/// A value that is one of a few words.
pub(crate) trait KeywordSetting: Sized + Copy + PartialEq + 'static {
    /// Every value with its word.
    const WORDS: &'static [(&'static str, Self)];
}

impl<T: KeywordSetting> Setting for T {
    fn form() -> String {
        listed(T::words().into_iter())
    }

    fn words() -> Vec<&'static str> {
        T::WORDS.iter().map(|(word, _)| *word).collect()
    }

    fn show(&self) -> String {
        let word = T::WORDS.iter().find(|(_, value)| value == self);
        word.map(|(word, _)| (*word).to_owned()).unwrap_or_default()
    }

    fn read(text: &str, _base: &Path) -> Result<Self, String> {
        T::WORDS
            .iter()
            .find(|(word, _)| word.eq_ignore_ascii_case(text))
            .map(|(_, value)| *value)
            .ok_or_else(|| format!("is not one of {}", Self::form()))
    }
}

/// `a, b or c`.
pub(crate) fn listed<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words: Vec<&str> = words.collect();
    match words.split_last() {
        None => String::new(),
        Some((only, [])) => (*only).to_owned(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// The greatest value of keys that have no greatest one.
    pub(crate) const UNBOUNDED: Self = Self(u64::MAX);

    /// This many times 1024 × 1024 bytes.
    pub const fn mebibytes(count: u64) -> Self {
        Self(count << 20)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, bytes) = SIZE_UNITS
            .iter()
            .rev()
            .filter(|(unit, _)| unit.ends_with("iB"))
            .find(|(_, bytes)| self.0 != 0 && self.0.is_multiple_of(*bytes))
            .unwrap_or(&("B", 1));
        write!(out, "{}{unit}", self.0 / bytes)
    }
}

/// The levels of messages in §7.1 of the guide of DOCA Argus, with their numbers.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum LogLevel {
    /// No messages.
    Disable = 10,
    /// Errors that end the program.
    Critical = 20,
    Error = 30,
    /// Conditions that a person should act on.
    Warning = 40,
    /// Normal operation.
    #[default]
    Info = 50,
    /// Details for developers.
    Debug = 60,
    /// All messages.
    Trace = 70,
}

impl LogLevel {
    /// Every level with its name.
    const NAMES: [(&'static str, Self); 7] = [
        ("DISABLE", Self::Disable),
        ("CRITICAL", Self::Critical),
        ("ERROR", Self::Error),
        ("WARNING", Self::Warning),
        ("INFO", Self::Info),
        ("DEBUG", Self::Debug),
        ("TRACE", Self::Trace),
    ];
}

impl Setting for LogLevel {
    const FORM: &'static str = "level";

    fn show(&self) -> String {
        (*self as u8).to_string()
    }

    fn read(text: &str, _base: &Path) -> Result<Self, String> {
        Self::NAMES
            .iter()
            .find(|(name, level)| {
                name.eq_ignore_ascii_case(text) || text == (*level as u8).to_string()
            })
            .map(|(_, level)| *level)
            .ok_or_else(|| {
                let levels: Vec<String> = Self::NAMES
                    .iter()
                    .map(|(name, level)| format!("{} ({name})", *level as u8))
                    .collect();
                format!("is not a log level; write {}", listed(levels.iter().map(String::as_str)))
            })
    }
}

/// A value that the program can find by itself.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum AutoOr<T> {
    /// The program finds the value.
    #[default]
    Auto,
    Given(T),
}

const AUTO: &str = "auto";

impl<T: Setting> Setting for AutoOr<T> {
    fn form() -> String {
        T::form() + " or auto"
    }

    fn show(&self) -> String {
        match self {
            Self::Auto => AUTO.to_owned(),
            Self::Given(value) => value.show(),
        }
    }

    fn read(text: &str, base: &Path) -> Result<Self, String> {
        if text == AUTO {
            return Ok(Self::Auto);
        }
        T::read(text, base).map(Self::Given).map_err(|why| match T::words() {
            words if words.is_empty() => why,
            words => format!("is not one of {}", listed(words.into_iter().chain([AUTO]))),
        })
    }
}

impl<T: Setting> Setting for Option<T> {
    fn form() -> String {
        T::form()
    }

    fn show(&self) -> String {
        self.as_ref().map_or_else(|| "null".to_owned(), T::show)
    }

    fn read(text: &str, base: &Path) -> Result<Self, String> {
        T::read(text, base).map(Some)
    }
}

impl Setting for bool {
    const FORM: &'static str = "true or false";

    fn show(&self) -> String {
        self.to_string()
    }

    fn read(text: &str, _base: &Path) -> Result<Self, String> {
        match text {
            "true" | "True" | "TRUE" => Ok(true),
            "false" | "False" | "FALSE" => Ok(false),
            _ => Err("is not true or false".to_owned()),
        }
    }
}

impl Setting for u32 {
    const FORM: &'static str = "number";

    fn show(&self) -> String {
        self.to_string()
    }

    fn read(text: &str, _base: &Path) -> Result<Self, String> {
        whole_number(text)?.try_into().map_err(|_| format!("is more than {}", Self::MAX))
    }
}

impl Setting for PathBuf {
    const FORM: &'static str = "path";

    fn show(&self) -> String {
        self.display().to_string()
    }

    fn read(text: &str, base: &Path) -> Result<Self, String> {
        match text {
            "" => Err("is empty; a path is needed".to_owned()),
            _ if text.contains('\0') => Err("contains a NUL character".to_owned()),
            _ => Ok(base.join(text)),
        }
    }
}

/// A folder, or `none`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct FolderOrNone(pub(crate) Option<PathBuf>);

impl Setting for FolderOrNone {
    const FORM: &'static str = "path or none";

    fn show(&self) -> String {
        self.0.as_ref().map_or_else(|| "none".to_owned(), PathBuf::show)
    }

    fn read(text: &str, base: &Path) -> Result<Self, String> {
        if text == "none" { Ok(Self(None)) } else { PathBuf::read(text, base).map(Some).map(Self) }
    }
}

/// Text in one line, such as a name.
impl Setting for String {
    const FORM: &'static str = "text";

    fn show(&self) -> String {
        self.clone()
    }

    fn read(text: &str, _base: &Path) -> Result<Self, String> {
        if text.is_empty() {
            Err("is empty".to_owned())
        } else if text.len() > TEXT_LINE_BYTES_MAX {
            Err(format!("is longer than {TEXT_LINE_BYTES_MAX} bytes"))
        } else if text.chars().any(is_unprintable) {
            Err("contains control characters".to_owned())
        } else {
            Ok(text.to_owned())
        }
    }
}

const TEXT_LINE_BYTES_MAX: usize = 1024;

impl Setting for ByteSize {
    const FORM: &'static str = "size";

    fn show(&self) -> String {
        self.to_string()
    }

    fn read(text: &str, _base: &Path) -> Result<Self, String> {
        const EXAMPLE: &str = "write a whole number and a unit, such as 512KiB, 64MiB or 1GiB";
        let (number, unit) = split_number(text);
        if number.is_empty() {
            return Err(format!("is not a size; {EXAMPLE}"));
        }
        let number = whole_number(number)?;
        let (_, bytes) = SIZE_UNITS
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(unit) || (unit.is_empty() && *name == "B"))
            .ok_or_else(|| format!("has an unknown unit; {EXAMPLE}"))?;
        number.checked_mul(*bytes).map(Self).ok_or_else(|| "is too large".to_owned())
    }
}

/// Splits text into the leading digits and the rest.
fn split_number(text: &str) -> (&str, &str) {
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim_start())
}

pub(super) fn whole_number(text: &str) -> Result<u64, String> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("is not a whole number; write digits alone, such as 4096".to_owned());
    }
    text.parse().map_err(|_| "is too large".to_owned())
}

const SIZE_UNITS: &[(&str, u64)] = &[
    ("B", 1),
    // As logrotate and DOCA Argus have them.
    ("K", 1 << 10),
    ("M", 1 << 20),
    ("G", 1 << 30),
    ("kB", 1_000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
    ("TB", 1_000_000_000_000),
    ("TiB", 1 << 40),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: Setting>(text: &str) -> Result<T, String> {
        T::read(text, Path::new("/base"))
    }

    #[test]
    fn sizes_may_be_plain_bytes() {
        assert_eq!(read("64MiB"), Ok(ByteSize(64 << 20)));
        assert_eq!(read("64 mib"), Ok(ByteSize(64 << 20)));
        assert_eq!(read("10MB"), Ok(ByteSize(10_000_000)));
        assert_eq!(read("4096"), Ok(ByteSize(4096)));
        assert_eq!(read("50M"), Ok(ByteSize(50 << 20)));
        for wrong in ["", "MiB", "1.5MiB", "64Mi", "-1", "99999999999TiB"] {
            assert!(read::<ByteSize>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn levels_have_names_and_numbers() {
        assert_eq!(read("50"), Ok(LogLevel::Info));
        assert_eq!(read("Debug"), Ok(LogLevel::Debug));
        assert_eq!(read("10"), Ok(LogLevel::Disable));
        for wrong in ["", "0", "55", "80", "loud"] {
            assert!(read::<LogLevel>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn relative_paths_start_at_the_base() {
        assert_eq!(read("a/b"), Ok(PathBuf::from("/base/a/b")));
        assert_eq!(read("/a/b"), Ok(PathBuf::from("/a/b")));
        assert!(read::<PathBuf>("").is_err());
        assert_eq!(read("auto"), Ok(AutoOr::<PathBuf>::Auto));
        assert_eq!(read("x"), Ok(AutoOr::Given(PathBuf::from("/base/x"))));
        assert_eq!(read("none"), Ok(FolderOrNone(None)));
    }

    #[test]
    fn what_is_shown_can_be_read_again() {
        for text in ["1B", "3KiB", "64MiB", "5GiB", "1TiB", "1025B"] {
            assert_eq!(read::<ByteSize>(text).unwrap().to_string(), text);
        }
        assert_eq!(ByteSize(0).to_string(), "0B");
    }

    #[test]
    fn truth_and_numbers_are_strict() {
        assert_eq!(read("true"), Ok(true));
        assert!(read::<bool>("yes").is_err());
        assert_eq!(read("4096"), Ok(4096_u32));
        for wrong in ["", "-1", "4_096", "0x10", "4294967296", "1e3"] {
            assert!(read::<u32>(wrong).is_err(), "{wrong}");
        }
    }
}
