//! Reads tables of short scenarios: one script and one expectation a row.
//!
//! A row begins with `ID WORD NAME`: its id, a word whose meaning the table has, and words for
//! people. The indented lines below it are bash. `#` begins a comment.
//!
//! - `tests/scenarios/ways.txt`: ways to a shell. The word is the kind of the peer, a function
//!   `command_WORD` in `tests/scenarios/lib/ways.sh`; `$P` is the peer's port. A peer sends its
//!   first command half a second after the connection. Each way must give exactly one alert, one
//!   second after that command at the latest.
//! - `tests/scenarios/acts.txt`: acts of administration. The word has the paths that change, with
//!   commas, or is `-`. Each path must give exactly one alert.

use std::path::Path;
use std::time::Duration;

use super::load::{FOLDER, include, leak, text_of};
use super::{Count, Expected, PROCESS_TERMINATED, Scenario, Stage};
use crate::error::{Error, Result};

/// The port of the first way's peer. Others follow, two for each.
const FIRST_PORT: usize = 7000;
/// Half a second until the first command, and a second from there.
const WITHIN: Duration = Duration::from_millis(1500);
const REPORTED: &[Expected] = &[Expected {
    activity: "reverse_shell_detected",
    fields: &[],
    count: Count::Exactly(1),
    distinct: None,
}];
/// The end of a row's script: the process of an act, or of what was started for it.
const ENDED: &[Expected] = &[Expected {
    activity: PROCESS_TERMINATED,
    fields: &[("process.process_id", "$row")],
    count: Count::Exactly(1),
    distinct: None,
}];

/// All ways to a shell, in the order of their table.
pub fn ways() -> Result<Vec<Scenario>> {
    table("ways.txt", way)
}

/// All acts of administration, in the order of their table.
pub fn acts() -> Result<Vec<Scenario>> {
    table("acts.txt", act)
}

/// A row of a table.
#[derive(Debug, Default)]
struct Row {
    id: String,
    word: String,
    name: String,
    script: String,
    /// Its position in the table.
    index: usize,
}

type Made<T> = std::result::Result<T, String>;

fn table(file: &str, make: fn(&Row) -> Made<Scenario>) -> Result<Vec<Scenario>> {
    let path = Path::new(FOLDER).join(file);
    let rows = rows(&text_of(&path)?).and_then(|rows| rows.iter().map(make).collect());
    rows.map_err(|error| Error::new(format!("{}: {error}", path.display())))
}

fn rows(text: &str) -> Made<Vec<Row>> {
    let mut rows: Vec<Row> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let failed = |why: &str| format!("line {}: {why}", number + 1);
        if let Some(script) = line.strip_prefix("  ") {
            let row = rows.last_mut().ok_or_else(|| failed("a script stands before its row"))?;
            row.script.push_str(script);
            row.script.push('\n');
        } else if !line.is_empty() && !line.starts_with('#') {
            let words: Vec<&str> = line.splitn(3, ' ').collect();
            let [id, word, name] = words[..] else {
                return Err(failed("this is not `ID WORD NAME`"));
            };
            let [id, word, name] = [id, word, name].map(str::to_owned);
            rows.push(Row { id, word, name, index: rows.len(), ..Row::default() });
        }
    }
    match rows.iter().find(|row| row.script.is_empty()) {
        Some(row) => Err(format!("{} has no script", row.id)),
        None => Ok(rows),
    }
}

/// Lines of bash, with what they include.
fn lines(lines: &[&str]) -> Made<&'static str> {
    let mut script = String::new();
    lines.iter().try_for_each(|line| include(&mut script, line, 3))?;
    Ok(leak(&script))
}

const LIBRARY: &str = ". lib/ways.sh";

/// The script of a row in a process of its own.
fn in_background(row: &Row) -> String {
    let body = row.script.trim_end();
    let id = &row.id;
    format!("export way={id}; (set +ef\n{body}\nsleep 0.5) < /dev/null > /dev/null 2>&1 &")
}

/// Ends what a row has started, and removes its files.
fn end(row: &Row) -> Made<&'static str> {
    let files = format!("set +f; rm -rf /tmp/{}*; set -f", row.id.to_lowercase());
    lines(&[LIBRARY, &format!("end_way {}", row.id), &files])
}

fn way(row: &Row) -> Made<Scenario> {
    let port = FIRST_PORT + 2 * row.index;
    Ok(Scenario {
        stage: Stage::Equipped,
        prepare: lines(&[LIBRARY, &format!("command_{} {port}", row.word)])?,
        act: lines(&[LIBRARY, "act", &format!("P={port}"), &in_background(row)])?,
        clean: end(row)?,
        expect: REPORTED,
        within: Some(WITHIN),
        ..Scenario::new(leak(&row.id), leak(&row.name))
    })
}

fn act(row: &Row) -> Made<Scenario> {
    let paths = row.word.split(',').filter(|path| *path != "-");
    let expected = paths.map(|path| Expected {
        activity: "",
        fields: vec![("record.message_type", "ALERT"), ("changed.path", leak(path))].leak(),
        count: Count::Exactly(1),
        distinct: None,
    });
    let expected: Vec<Expected> = expected.chain(ENDED.iter().copied()).collect();
    Ok(Scenario {
        stage: Stage::Administered,
        act: lines(&[LIBRARY, "act", &in_background(row), "fact row $!", "wait $row || true"])?,
        clean: end(row)?,
        expect: expected.leak(),
        ..Scenario::new(leak(&row.id), leak(&row.name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_have_enough_rows_with_different_ids() {
        for (scenarios, least) in [(ways().unwrap(), 60), (acts().unwrap(), 50)] {
            let mut ids: Vec<&str> = scenarios.iter().map(|scenario| scenario.id).collect();
            assert!(ids.len() >= least, "{}", ids.len());
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(ids.len(), scenarios.len());
        }
    }

    #[test]
    fn a_way_has_a_peer_with_a_port_of_its_own() {
        let rows = rows("# a comment\n\nW01 tcp a name\n  one $P\n    two\nW02 udp b\n  x\n");
        let ways: Vec<Scenario> = rows.unwrap().iter().map(|row| way(row).unwrap()).collect();
        let [first, second] = &ways[..] else { panic!("{ways:?}") };
        assert_eq!((first.id, first.name, first.stage), ("W01", "a name", Stage::Equipped));
        assert!(first.prepare.ends_with("command_tcp 7000\n"), "{}", first.prepare);
        assert!(first.act.contains("P=7000\nexport way=W01; (set +ef\none $P\n  two\nsleep 0.5)"));
        assert!(second.prepare.ends_with("command_udp 7002\n"), "{}", second.prepare);
    }

    #[test]
    fn an_act_expects_one_alert_a_path() {
        let rows = rows("B01 /etc/a,/etc/b both\n  x\nB02 - none\n  y\n").unwrap();
        let acts: Vec<Scenario> = rows.iter().map(|row| act(row).unwrap()).collect();
        let paths = |act: &Scenario| -> Vec<&str> {
            let fields = act.expect.iter().flat_map(|expected| expected.fields);
            fields.filter(|(key, _)| *key == "changed.path").map(|(_, path)| *path).collect()
        };
        assert_eq!(paths(&acts[0]), ["/etc/a", "/etc/b"]);
        assert_eq!((paths(&acts[1]).len(), acts[1].expect.len()), (0, 1));
    }

    #[test]
    fn a_mistake_is_reported_with_its_line() {
        assert_eq!(rows("  x\n").unwrap_err(), "line 1: a script stands before its row");
        assert_eq!(rows("\nW01 tcp\n").unwrap_err(), "line 2: this is not `ID WORD NAME`");
        assert_eq!(rows("W01 tcp a\n").unwrap_err(), "W01 has no script");
    }
}
