//! Lines fit into a window.

use super::{assert_list, files};

const COLUMNS_MAX: usize = 100;

/// Made by a program.
const GENERATED: &[&str] = &["engine/sources/src/doca/bindings.rs"];

/// Scripts with longer lines, and their number: texts in quotes and programs in other languages.
/// The list may only shrink.
const EXCEPTIONS: &[(&str, usize)] = &[
    ("tests/scenarios/H12.sh", 1),
    ("tests/scenarios/M05.sh", 1),
    ("tests/scenarios/M05g.sh", 1),
    ("tests/scenarios/M05h.sh", 1),
    ("tests/scenarios/M11.sh", 1),
    ("tests/scenarios/N14.sh", 2),
    ("tests/scenarios/R02.sh", 1),
    ("tests/scenarios/R02d.sh", 1),
    ("tests/scenarios/R04.sh", 1),
    ("tests/scenarios/R11.sh", 1),
    ("tests/scenarios/R12.sh", 1),
    ("tests/scenarios/R12b.sh", 1),
    ("tests/scenarios/R12c.sh", 1),
    ("tests/scenarios/R12d.sh", 1),
    ("tests/scenarios/R12e.sh", 2),
    ("tests/scenarios/R16.sh", 1),
    ("tests/scenarios/R24.sh", 1),
    ("tests/scenarios/T03.sh", 4),
    ("tests/scenarios/T06.sh", 1),
    ("tests/scenarios/T06b.sh", 1),
    ("tests/scenarios/T06c.sh", 1),
    ("tests/scenarios/T08b.sh", 1),
    ("tests/scenarios/T11.sh", 1),
    ("tests/scenarios/T15.sh", 1),
    ("tests/scenarios/T15b.sh", 1),
    ("tests/scenarios/T15d.sh", 1),
    ("tests/scenarios/T15e.sh", 1),
    ("tests/scenarios/lib/containers.sh", 2),
    ("tests/scenarios/lib/logins.sh", 1),
    ("tests/scenarios/lib/twin_servers.sh", 3),
    ("tests/scenarios/twins/agents.sh", 2),
    ("tests/scenarios/twins/apt.sh", 1),
    ("tests/scenarios/twins/compile.sh", 1),
    ("tests/scenarios/twins/containers.sh", 2),
    ("tests/scenarios/twins/cron.sh", 1),
    ("tests/scenarios/twins/interpreters.sh", 1),
    ("tests/scenarios/twins/logs.sh", 1),
    ("tests/scenarios/twins/node.sh", 3),
    ("tests/scenarios/twins/pipes.sh", 1),
];

#[test]
fn lines_are_short() {
    let mut found = Vec::new();
    let files = files(&["rs", "sh"]);
    for (path, text) in files.iter().filter(|(path, _)| !GENERATED.contains(&path.as_str())) {
        let count = text.lines().filter(|line| is_long(line)).count();
        if count > 0 {
            found.push(format!("({path:?}, {count})"));
        }
    }
    let listed: Vec<_> = EXCEPTIONS.iter().map(|entry| format!("{entry:?}")).collect();
    assert_list("lines of more than 100 columns", &found, &listed);
}

fn is_long(line: &str) -> bool {
    // A row of a table in Markdown and a field in a scenario's header cannot be wrapped.
    let is_row = line.trim_start().trim_start_matches(['/', '!']).starts_with(" | ");
    line.chars().count() > COLUMNS_MAX && !is_row && !line.starts_with("#   ")
}

#[test]
fn rows_of_tables_may_be_long() {
    let text = "x".repeat(COLUMNS_MAX);
    assert!(!is_long(&text) && is_long(&format!("{text}y")));
    assert!(!is_long(&format!("//! | {text} |")) && is_long(&format!("//! {text}")));
}
