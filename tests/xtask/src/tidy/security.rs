//! The table of shared resources in SECURITY.md agrees with the code.

use std::collections::BTreeSet;

use super::{files, sources};

/// The columns of the table.
const HEADING: &str =
    "| resource | who can fill it | what is lost then | what is reported | shown by |";
/// Measures that are commands and no tests.
const MEASURES: &[&str] = &["cargo xtask neighbours"];

/// The words between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The rows of the table, as their cells.
fn rows(page: &str) -> Vec<Vec<&str>> {
    let table = page.lines().skip_while(|line| *line != HEADING).skip(2);
    let rows = table.take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// The lines between the macro's call `name! {` and its end.
fn body<'a>(text: &'a str, name: &str) -> &'a str {
    let (_, rest) = text.split_once(&format!("\n{name}! {{\n")).expect("the macro is called");
    rest.split_once("\n}\n").expect("the call has an end").0
}

/// The keys in `limits!`: those of the settings, and the words of derived limits.
fn limits(text: &str) -> BTreeSet<&str> {
    let (settings, derived) = body(text, "limits").split_once("derived {").expect("two parts");
    let setting = settings.lines().filter_map(|line| {
        let (key, rest) = line.trim().split_once(" = ")?;
        rest.starts_with(|first: char| first.is_ascii_digit()).then_some(key)
    });
    let derived = derived.lines().filter(|line| !line.trim_start().starts_with("//"));
    setting.chain(derived.filter_map(|line| line.split('"').nth(1))).collect()
}

/// The keys in `gaps!`.
fn gaps(text: &str) -> BTreeSet<&str> {
    let lines = body(text, "gaps").lines();
    // A line that goes on has only the words.
    let lines = lines.filter(|line| !line.trim_start().starts_with(['"', '/']));
    lines.filter_map(|line| line.split('"').nth(1)).collect()
}

#[test]
fn every_limit_and_every_gap_has_one_row() {
    let (sources, pages) = (sources(), files(&["md"]));
    let text = |wanted: &str| {
        let all = sources.iter().chain(&pages);
        let mut found = all.filter(|(path, _)| path == wanted).map(|(_, text)| text.as_str());
        found.next().unwrap_or_else(|| panic!("{wanted} exists"))
    };
    let limits = limits(text("engine/src/limits.rs"));
    let gaps = gaps(text("engine/src/policy/gaps.rs"));
    assert!(limits.len() >= 9 && gaps.len() >= 12, "too few keys: {limits:?} {gaps:?}");
    let both: Vec<_> = limits.intersection(&gaps).collect();
    assert!(both.is_empty(), "a limit and a gap have the same key: {both:?}");
    let rows = rows(text("SECURITY.md"));
    assert!(rows.len() > limits.len() + gaps.len(), "the table was not found");
    let mut missing: BTreeSet<&str> = limits.union(&gaps).copied().collect();
    for row in &rows {
        assert_eq!(row.len(), 5, "{row:?}");
        for key in quoted(row[0]) {
            assert!(missing.remove(key), "SECURITY.md: `{key}` is unknown, or has two rows");
        }
    }
    assert!(missing.is_empty(), "SECURITY.md has no row of {missing:?}");
}

#[test]
fn the_tests_of_the_rows_exist() {
    let (sources, pages) = (sources(), files(&["md"]));
    let is_page = |(path, _): &&(String, String)| path == "SECURITY.md";
    let (_, page) = pages.iter().find(is_page).expect("SECURITY.md exists");
    for row in rows(page) {
        let tests: Vec<_> = row.last().into_iter().flat_map(|cell| quoted(cell)).collect();
        assert!(!tests.is_empty(), "SECURITY.md: nothing shows {:?}", row[0]);
        for test in tests.iter().filter(|test| !MEASURES.contains(test)) {
            let function = format!("fn {test}(");
            let is_test = sources.iter().any(|(_, text)| text.contains(&function));
            assert!(is_test, "SECURITY.md: there is no test {test}");
        }
    }
}

#[test]
fn keys_are_found() {
    let text = r#"
limits! {
    settings {
        // Why.
        a = 1 in 1..=2, "A"
            => A "as" X;
        b_c = 20_000 in 1..=2, "B";
    }
    derived {
        // Bytes of "no" kind.
        D "d" "ds" X;
    }
}
"#;
    assert_eq!(limits(text), BTreeSet::from(["a", "b_c", "d"]));
    let text = r#"
gaps! {
    A "a" Often "some words";
    B "b" AtOnce
        "more";
}
"#;
    assert_eq!(gaps(text), BTreeSet::from(["a", "b"]));
    let page = format!("# x\n{HEADING}\n|---|\n| a (`k`) | b | c | | `t` |\n\nend\n| no |");
    assert_eq!(rows(&page), [["a (`k`)", "b", "c", "", "`t`"]]);
}
