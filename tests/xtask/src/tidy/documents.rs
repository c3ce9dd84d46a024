//! What documents list about the tree is what the tree has.

use std::collections::BTreeSet;
use std::path::Path;

use panoptes_records::activities::{Activity, MessageType};

use super::dependencies::names;
use super::files;

/// Documents that list every alert in a table whose first column has its name.
const ALERT_LISTS: &[&str] = &["README.md", "docs/detectors/index.md"];
/// The document that lists the crates of the workspace, and the crates that they use.
const MAP: &str = "ARCHITECTURE.md";
/// Pages that a reader reads whole, and the lines that they may have.
const SHORT_PAGES: &[(&str, usize)] =
    &[("ARCHITECTURE.md", 350), ("PERFORMANCE.md", 150), ("README.md", 150), ("SECURITY.md", 120)];
/// The document whose list of alerts names the page of each. Its numbers are digits, not words.
const ALERTS_PAGE: &str = "docs/detectors/index.md";
/// Pages in that list that are about no detector.
const OTHER_PAGES: [&str; 2] = ["[clocks]", "[incidents]"];

/// A file of the tree.
fn content(wanted: &str) -> String {
    let extension = wanted.rsplit('.').next().expect("a path has an extension");
    let all = files(&[extension]);
    let file = all.into_iter().find(|(path, _)| path == wanted);
    file.map_or_else(|| panic!("{wanted} is missing"), |(_, text)| text)
}

/// The rows of the table below this heading.
fn rows<'a>(page: &'a str, heading: &str) -> impl Iterator<Item = &'a str> {
    let lines = page.lines().skip_while(move |line| !line.starts_with(heading)).skip(2);
    lines.take_while(|line| line.starts_with('|'))
}

/// Their first cells.
fn first_cells<'a>(page: &'a str, heading: &str) -> Vec<&'a str> {
    rows(page, heading).filter_map(|row| Some(row.split('|').nth(1)?.trim())).collect()
}

/// Their last cells.
fn last_cells<'a>(page: &'a str, heading: &str) -> Vec<&'a str> {
    rows(page, heading).filter_map(|row| Some(row.rsplit('|').nth(1)?.trim())).collect()
}

/// Whether a page has a phrase, wherever its lines end.
fn has_phrase(page: &str, phrase: &str) -> bool {
    let words: Vec<&str> = page.split_whitespace().collect();
    words.join(" ").contains(phrase)
}

/// The names in backticks of a cell.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// The names of alerts about machines. A user asks for `test_alert`, which is about none.
fn alerts() -> Vec<&'static str> {
    let infos = Activity::ALL.iter().filter(|it| **it != Activity::TestAlert);
    let infos = infos.map(|activity| activity.info());
    infos.filter(|info| info.message_type == MessageType::Alert).map(|info| info.name).collect()
}

fn sorted<T: Ord>(mut list: Vec<T>) -> Vec<T> {
    list.sort();
    list
}

#[test]
fn pages_are_short() {
    for &(path, lines_max) in SHORT_PAGES {
        let lines = content(path).lines().count();
        assert!(lines <= lines_max, "{path} has {lines} lines, more than {lines_max}");
    }
}

#[test]
fn documents_list_every_alert() {
    for path in ALERT_LISTS {
        let page = content(path);
        let listed = first_cells(&page, "| alert |").into_iter().flat_map(quoted).collect();
        assert_eq!(sorted(listed), sorted(alerts()), "{path} (left), the table of activities");
    }
}

#[test]
fn documents_count_alerts_and_detectors() {
    let (page, count) = (content(ALERTS_PAGE), alerts().len());
    let mut pages = last_cells(&page, "| alert |");
    pages.retain(|cell| !OTHER_PAGES.contains(cell));
    let of_detectors = pages.len();
    let detectors = pages.into_iter().collect::<BTreeSet<_>>().len();
    for (path, phrase) in [
        ("README.md", format!("[{count} kinds of alert]")),
        (
            ALERTS_PAGE,
            format!(
                "Panoptes has {count} alerts: {of_detectors} on the pages of {detectors} detectors"
            ),
        ),
    ] {
        assert!(has_phrase(&content(path), &phrase), "{path} lacks: {phrase}");
    }
}

#[test]
fn the_map_lists_every_crate() {
    let map = content(MAP);
    let rows = first_cells(&map, "| folder | crate |");
    let listed: Vec<&str> = rows.into_iter().flat_map(quoted).collect();
    let manifests = files(&["toml"]);
    for (path, text) in &manifests {
        let Some(folder) = path.strip_suffix("Cargo.toml").filter(|it| !it.is_empty()) else {
            continue;
        };
        let is_member = text.lines().any(|line| line == "[package]");
        assert!(!is_member || listed.contains(&folder), "{MAP} lacks {folder} in its table");
        let name = text.lines().find_map(|line| line.strip_prefix("name = \""));
        let name = name.and_then(|rest| rest.split('"').next()).unwrap_or_default();
        assert!(!is_member || map.contains(&format!("`{name}`")), "{MAP} lacks {name}");
    }
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    for folder in listed {
        assert!(root.join(folder).is_dir(), "{MAP} lists {folder}, which is no folder");
    }
}

#[test]
fn the_map_lists_every_dependency() {
    let map = content(MAP);
    let rows = first_cells(&map, "| crate | used in |");
    let listed: Vec<&str> = rows.iter().flat_map(|row| row.split(", ")).collect();
    let workspace = content("Cargo.toml");
    let declared = names(&workspace, "[workspace.dependencies]");
    let foreign: Vec<&str> =
        declared.into_iter().filter(|name| !name.starts_with("panoptes-")).collect();
    assert!(foreign.len() > 30, "too few dependencies: {foreign:?}");
    assert_eq!(sorted(listed), sorted(foreign), "{MAP} (left), Cargo.toml");
}

#[test]
fn cells_of_a_table_are_found() {
    let page = "| a | b |\n|---|---|\n| `x` | 1 |\n| [`y`](z.md) | 2 |\n\n| c | d |\n";
    let cells = first_cells(page, "| a |");
    assert_eq!(cells, ["`x`", "[`y`](z.md)"]);
    assert_eq!(cells.into_iter().flat_map(quoted).collect::<Vec<_>>(), ["x", "y"]);
    assert_eq!(last_cells(page, "| a |"), ["1", "2"]);
}

#[test]
fn phrases_are_found_across_lines() {
    assert!(has_phrase("raises [20\n  kinds of alert](#alerts)", "[20 kinds of alert]"));
    assert!(!has_phrase("20 kinds", "[20 kinds of alert]"));
}
