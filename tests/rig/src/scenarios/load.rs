//! Reads scenarios from their files, `tests/scenarios/ID.sh`.
//!
//! A file begins with a header of comments, then come the scripts, each under a line of its own:
//!
//! ```text
//! # R01: bash on a connection of its own
//! # stage: behaviour
//! # expect: reverse_shell_detected
//! #   detection.reason: ~outbound
//! # allow: file_descriptor_file_content_change
//!
//! #: prepare
//! . lib/peers.sh
//! peer 4401
//! #: act
//! act
//! ```
//!
//! - `stage`: one of [`Stage`]'s, in lower case; `shipped` where there is none.
//! - `host`, `undo`: what is done to the machine from outside; may stand several times.
//! - `expect`: an activity and how often (`x2`, `at least 50`; once without), then `distinct
//!   FIELD`. The indented lines below have its fields. A value with blanks at its ends is in double
//!   quotes, as in JSON.
//! - `within`: the maximum time from the last fact that the first record names to that record, in
//!   milliseconds; from the act if the guest's kernel has not noted that fact.
//! - `allow`: the same for records that may come besides; `*` is any activity.
//! - Everything else in the header is for people, below an empty comment.
//!
//! The runner replaces `. lib/NAME.sh` by that file.

use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use super::twins::Twin;
use super::{Count, Expected, Scenario, Stage};
use crate::cache;
use crate::error::{Error, Result};

/// Where the scenarios are.
pub(super) const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios");
/// A library may include another one, and that one a third.
const INCLUDES_MAX: usize = 3;

/// All scenarios, in the order of their ids. They are read once.
pub fn all() -> Result<&'static [Scenario]> {
    static ALL: OnceLock<Result<Vec<Scenario>>> = OnceLock::new();
    let all = ALL.get_or_init(|| read("", &["prepare", "act", "clean"], Parts::scenario));
    all.as_deref().map_err(Clone::clone)
}

/// All twins, in the order of their names: `tests/scenarios/twins/NAME.sh`. They are read once.
pub(super) fn twins() -> Result<&'static [Twin]> {
    static ALL: OnceLock<Result<Vec<Twin>>> = OnceLock::new();
    let all = ALL.get_or_init(|| read("twins", &["prepare", "turn", "visit"], Parts::twin));
    all.as_deref().map_err(Clone::clone)
}

fn read<T>(below: &str, sections: &[&str], make: fn(Parts) -> T) -> Result<Vec<T>> {
    cache::list(&Path::new(FOLDER).join(below))?
        .iter()
        .filter(|path| cache::has_extension(path, "sh"))
        .map(|path| parse(path, &text_of(path)?, sections).map(make))
        .collect()
}

pub(super) fn text_of(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|e| Error::io("read", path, &e))
}

/// What a file holds, as far as it was read.
#[derive(Default)]
struct Parts {
    id: String,
    title: String,
    stage: Option<Stage>,
    host: Vec<&'static str>,
    undo: Vec<&'static str>,
    expect: Vec<Wanted>,
    within: Option<Duration>,
    allow: Vec<Wanted>,
    /// Whether fields belong to the last of `allow`.
    is_allowed: bool,
    /// The sections, by name.
    scripts: Vec<(String, String)>,
}

/// One of the header's records.
struct Wanted {
    expected: Expected,
    fields: Vec<(&'static str, &'static str)>,
}

impl Wanted {
    /// `ACTIVITY [xN | at least N] [distinct FIELD]`
    fn parse(words: &str) -> std::result::Result<Self, String> {
        let mut words = words.split_whitespace();
        let activity = words.next().ok_or("an activity is missing")?;
        let mut expected = Expected {
            activity: if activity == "*" { "" } else { leak(activity) },
            fields: &[],
            count: Count::Exactly(1),
            distinct: None,
        };
        let number = |word: Option<&str>| {
            word.and_then(|word| word.parse().ok()).ok_or("a number is missing")
        };
        while let Some(word) = words.next() {
            match word {
                "at" if words.next() == Some("least") => {
                    expected.count = Count::AtLeast(number(words.next())?);
                }
                "distinct" => {
                    let field = words.next().ok_or("`distinct` needs a field")?;
                    expected.distinct = Some(leak(field));
                }
                word => expected.count = Count::Exactly(number(word.strip_prefix('x'))?),
            }
        }
        Ok(Self { expected, fields: Vec::new() })
    }

    fn done(self) -> Expected {
        Expected { fields: self.fields.leak(), ..self.expected }
    }
}

/// Reads one file. Its name is the scenario's id.
fn parse(path: &Path, text: &str, sections: &[&str]) -> Result<Parts> {
    let id = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let mut parts = Parts { id: id.to_owned(), ..Parts::default() };
    let mut is_header = true;
    for (number, line) in text.lines().enumerate() {
        let failed = |why: String| Error::new(format!("{}:{}: {why}", path.display(), number + 1));
        if let Some(section) = line.strip_prefix("#: ") {
            if !sections.contains(&section) {
                return Err(failed(format!("there is no section {section:?}")));
            }
            parts.scripts.push((section.to_owned(), String::new()));
            is_header = false;
        } else if let Some((_, script)) = parts.scripts.last_mut() {
            include(script, line, INCLUDES_MAX).map_err(failed)?;
        } else if let Some(line) = line.strip_prefix('#').filter(|_| is_header) {
            is_header = !line.is_empty();
            if is_header {
                parts.header(line).map_err(failed)?;
            }
        }
    }
    if parts.title.is_empty() {
        return Err(Error::new(format!("{}:1: `# {id}: NAME` is missing", path.display())));
    }
    Ok(parts)
}

/// Adds a line of a script, or the file that it includes.
pub(super) fn include(
    script: &mut String,
    line: &str,
    depth: usize,
) -> std::result::Result<(), String> {
    let Some(library) = line.strip_prefix(". lib/") else {
        script.push_str(line);
        script.push('\n');
        return Ok(());
    };
    let left = depth.checked_sub(1).ok_or("libraries include each other")?;
    let library = Path::new(FOLDER).join("lib").join(library);
    let text = text_of(&library).map_err(|e| e.to_string())?;
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .try_for_each(|line| include(script, line, left))
}

impl Parts {
    /// A line of the header, without its `#`.
    fn header(&mut self, line: &str) -> std::result::Result<(), String> {
        let is_field = line.starts_with("   ");
        let Some((key, value)) = line.split_once(": ") else {
            return Err(format!("{:?} is not `KEY: VALUE`", line.trim()));
        };
        let key = key.trim();
        if is_field {
            let value = match value.strip_prefix('"') {
                Some(_) => serde_json::from_str(value).map_err(|e| e.to_string())?,
                None => value.to_owned(),
            };
            let list = if self.is_allowed { &mut self.allow } else { &mut self.expect };
            let last = list.last_mut().ok_or("a field stands before its record")?;
            last.fields.push((leak(key), leak(&value)));
            return Ok(());
        }
        match key {
            "stage" => self.stage = Some(Stage::from_name(value)?),
            "host" => self.host.push(leak(value)),
            "undo" => self.undo.push(leak(value)),
            "expect" | "allow" => {
                self.is_allowed = key == "allow";
                let list = if self.is_allowed { &mut self.allow } else { &mut self.expect };
                list.push(Wanted::parse(value)?);
            }
            "within" => {
                let milliseconds = value.strip_suffix(" ms").and_then(|number| number.parse().ok());
                let milliseconds = milliseconds.ok_or("`within` needs a time: `1000 ms`")?;
                self.within = Some(Duration::from_millis(milliseconds));
            }
            key if key == self.id => value.clone_into(&mut self.title),
            key => return Err(format!("there is no key {key:?}")),
        }
        Ok(())
    }

    fn script(&self, name: &str) -> &'static str {
        let found = self.scripts.iter().find(|(section, _)| section == name);
        found.map_or("", |(_, script)| leak(script))
    }

    fn twin(self) -> Twin {
        Twin {
            name: leak(&self.id),
            about: leak(&self.title),
            prepare: self.script("prepare"),
            turn: self.script("turn"),
            visit: self.script("visit"),
        }
    }

    fn scenario(self) -> Scenario {
        let of = |wanted: Vec<Wanted>| -> &'static [Expected] {
            wanted.into_iter().map(Wanted::done).collect::<Vec<_>>().leak()
        };
        let (prepare, act, clean) =
            (self.script("prepare"), self.script("act"), self.script("clean"));
        Scenario {
            stage: self.stage.unwrap_or(Stage::Shipped),
            host: self.host.leak(),
            undo: self.undo.leak(),
            prepare,
            act,
            clean,
            expect: of(self.expect),
            within: self.within,
            besides: of(self.allow),
            ..Scenario::new(leak(&self.id), leak(&self.title))
        }
    }
}

/// Scenarios stay as long as the program.
pub(super) fn leak(text: &str) -> &'static str {
    text.to_owned().leak()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> std::result::Result<Scenario, String> {
        let parts = parse(Path::new("T01.sh"), text, &["prepare", "act", "clean"]);
        parts.map(Parts::scenario).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_is_read_as_it_is_written() {
        let scenario = parsed(
            "# T01: a test\n# stage: equipped\n# host: pause 10\n# undo: show $pid\n\
             # expect: process_created x2 distinct process.process_id\n\
             #   process.process_name: ~ ba\n#   process.process_command_line: \" x\"\n\
             # expect: process_terminated at least 5\n# allow: *\n#\n# For people: this.\n\n\
             #: prepare\none\n#: act\nact\n\n  two # three\n#: clean\nfour\n",
        )
        .unwrap();
        assert_eq!(
            (scenario.id, scenario.name, scenario.stage),
            ("T01", "a test", Stage::Equipped)
        );
        assert_eq!((scenario.host, scenario.undo), (&["pause 10"][..], &["show $pid"][..]));
        assert_eq!(scenario.prepare, "one\n");
        assert_eq!(scenario.act, "act\n\n  two # three\n");
        assert_eq!(scenario.clean, "four\n");
        let [created, ended] = scenario.expect else { panic!("{:?}", scenario.expect) };
        assert_eq!((created.activity, created.count), ("process_created", Count::Exactly(2)));
        assert_eq!(created.distinct, Some("process.process_id"));
        assert_eq!(
            created.fields,
            [("process.process_name", "~ ba"), ("process.process_command_line", " x")]
        );
        assert_eq!((ended.count, ended.fields), (Count::AtLeast(5), &[][..]));
        assert_eq!(scenario.besides[0].activity, "");
    }

    #[test]
    fn a_mistake_is_reported_with_its_line() {
        let cases = [
            ("# T02: other\n", "T01.sh:1: there is no key \"T02\""),
            ("", "T01.sh:1: `# T01: NAME` is missing"),
            ("# T01: a\n# stage: some\n", "T01.sh:2: there is no stage \"some\""),
            ("# T01: a\n#   x: y\n", "T01.sh:2: a field stands before its record"),
            ("# T01: a\n# words\n", "T01.sh:2: \"words\" is not `KEY: VALUE`"),
            ("# T01: a\n# expect: a xb\n", "T01.sh:2: a number is missing"),
            ("# T01: a\n#: other\n", "T01.sh:2: there is no section \"other\""),
        ];
        for (text, expected) in cases {
            assert_eq!(parsed(text).map(|_| ()).unwrap_err(), expected);
        }
    }
}
