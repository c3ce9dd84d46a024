//! Lines fit into a window.

use super::files;

const COLUMNS_MAX: usize = 100;

/// Made by a program.
const GENERATED: &[&str] = &["engine/sources/src/doca/bindings.rs"];

#[test]
fn lines_are_short() {
    let mut found = Vec::new();
    let files = files(&["rs", "sh", "py", "c", "h"]);
    for (path, text) in files.iter().filter(|(path, _)| !GENERATED.contains(&path.as_str())) {
        let long = text.lines().enumerate().filter(|(_, line)| is_long(line));
        found.extend(long.map(|(number, _)| format!("{path}:{}", number + 1)));
    }
    assert!(files.len() > 300, "too few files");
    assert!(found.is_empty(), "lines of more than {COLUMNS_MAX} columns: {found:#?}");
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
