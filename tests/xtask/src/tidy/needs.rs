//! Everything that is used of a machine has a row in the table of needs, and each row has a user.

use std::collections::BTreeSet;

use panoptes_needs::table::{NEEDS, digest, seen_by_tests};
use panoptes_needs::{Kind, Need, Without};

use super::code::code_of;
use super::{files, sources};

/// Files that name rows and use nothing.
const TABLE: &str = "tests/xtask/needs/src/table.rs";
/// Calls whose first argument is a program.
const CALLS: [&str; 4] = ["Command::new(\"", "tied(\"", "on_path(\"", "check::program(\""];
/// Calls whose arguments name rows.
const NAMED: [&str; 6] = [
    "skip::has(\"",
    "skip::test(\"",
    "test_for(\"",
    "Need::named(\"",
    "require(&[\"",
    "ensure_named(&[\"",
];

/// The text in quotes behind each of these calls, and behind commas in their lists.
fn arguments<'a>(text: &'a str, calls: &[&str]) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    for call in calls {
        for (at, _) in text.match_indices(call) {
            let rest = &text[at + call.len()..];
            let is_list = call.ends_with("[\"");
            let end = rest.find(if is_list { ']' } else { '"' }).unwrap_or(rest.len());
            if is_list {
                found.extend(rest[..end].split('"').step_by(2));
            } else {
                found.insert(&rest[..end]);
            }
        }
    }
    found
}

/// Every program that Rust code calls by its name.
fn programs(text: &str) -> impl Iterator<Item = &str> {
    let called = arguments(text, &CALLS).into_iter();
    called.map(|path| path.rsplit('/').next().unwrap_or(path))
}

#[test]
fn every_program_that_is_called_has_a_row() {
    let mut count = 0;
    for (path, text) in sources().iter().filter(|(path, _)| path != "tests/xtask/src/tidy/needs.rs")
    {
        for name in programs(text) {
            let need = Need::of(name);
            let is_program = need.is_some_and(|need| need.kind == Kind::Program);
            assert!(is_program, "{path} calls {name}, which has no row in {TABLE}");
            count += 1;
        }
    }
    assert!(count > 50, "too few calls were found: {count}");
}

#[test]
fn every_name_of_a_need_has_a_row() {
    let mut count = 0;
    for (path, text) in sources().iter().filter(|(path, _)| path != "tests/xtask/src/tidy/needs.rs")
    {
        for name in arguments(text, &NAMED).into_iter().filter(|name| !name.contains('{')) {
            assert!(Need::of(name).is_some(), "{path} names {name}, which has no row in {TABLE}");
            count += 1;
        }
    }
    assert!(count > 30, "too few names were found: {count}");
}

#[test]
fn rows_are_whole_and_unlike() {
    let mut names = BTreeSet::new();
    for need in NEEDS {
        assert!(names.insert(need.name), "{} has two rows", need.name);
        assert!(!need.purpose.is_empty() && need.purpose.len() < 80, "{}", need.name);
        let is_path = matches!(need.kind, Kind::File | Kind::Device);
        assert_eq!(need.name.starts_with('/'), is_path, "{}", need.name);
        if let Without::Install(package) | Without::Unpack(package) = need.without {
            let is_name = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
            assert!(package.chars().all(is_name) && !package.is_empty(), "{}", need.name);
        }
    }
}

#[test]
fn every_row_has_a_user() {
    let texts = files(&["rs", "sh", "py", "c", "h"]);
    let texts: Vec<_> = texts
        .iter()
        .filter(|(path, _)| path != TABLE && path != "tests/xtask/src/tidy/needs.rs")
        .map(|(_, text)| text)
        .collect();
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let has = |text: &str, name: &str| {
        text.match_indices(name).any(|(at, _)| {
            !is_part(text[..at].chars().next_back())
                && !is_part(text[at + name.len()..].chars().next())
        })
    };
    let unused: Vec<_> = NEEDS
        .iter()
        .filter(|need| !BY_OTHERS.iter().any(|(name, _)| *name == need.name))
        .filter(|need| !texts.iter().any(|text| has(text, need.name)))
        .map(|need| need.name)
        .collect();
    assert!(unused.is_empty(), "rows of {TABLE} that nothing names: {unused:?}");
}

/// Rows that are used by what is called, and by what.
const BY_OTHERS: [(&str, &str); 7] = [
    ("/etc/alternatives", "cc"),
    ("/etc/mke2fs.conf", "mkfs.ext4"),
    ("/etc/nsswitch.conf", "the C library"),
    ("/etc/protocols", "the C library"),
    ("/etc/ssl", "apt-get and cargo"),
    ("/usr/include/readline/readline.h", "bash's own build"),
    ("c++", "the crate libfuzzer-sys"),
];

/// The files of `cargo xtask release`, the only command whose rows tests do not see.
fn is_of_release(path: &str) -> bool {
    path == "tests/xtask/src/release.rs" || path.starts_with("tests/xtask/src/release/")
}

/// A change of a row that tests do not see asks for no new machine. So nothing else may use it: no
/// test, and no other command, of which two run on new machines.
#[test]
fn only_a_release_uses_what_tests_do_not_see() {
    let hidden: BTreeSet<&str> = NEEDS
        .iter()
        .filter(|need| !need.user.is_seen_by_tests())
        // Tests see all of /usr, and what the kernel has.
        .inspect(|need| assert_eq!(need.kind, Kind::Program, "{} cannot be hidden", need.name))
        .map(|need| need.name)
        .collect();
    assert_eq!(seen_by_tests().count() + hidden.len(), NEEDS.len());
    assert!(!hidden.is_empty());
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    for (path, text) in sources().iter().filter(|(path, _)| !is_of_release(path)) {
        let names = programs(text).chain(arguments(text, &NAMED));
        let used: Vec<&str> = names.filter(|name| hidden.contains(name)).collect();
        assert!(used.is_empty(), "{path} uses {used:?}, which tests and new machines do not see");
        let is_xtask = path.starts_with("tests/xtask/src/") && path != "tests/xtask/src/main.rs";
        let code = code_of(text);
        let mut calls = code.match_indices("release::").map(|(at, _)| &code[..at]);
        let has_call = calls.any(|before| !before.ends_with(is_part));
        assert!(!(is_xtask && has_call), "{path} calls the command of release pages");
    }
}

/// Rows that have changed may lack something: CONTRIBUTING.md tells how new machines did with those
/// that tests see. So none of them can be removed without that.
#[test]
fn the_table_is_the_one_of_the_last_new_machines() {
    let pages = files(&["md"]);
    let (_, page) = pages.iter().find(|(path, _)| path == "CONTRIBUTING.md").expect("it exists");
    for release in ["bookworm", "trixie"] {
        let line = page.lines().find(|line| line.starts_with(&format!("| {release} | root |")));
        let is_current = |line: &str| line.contains(&format!("| {} |", digest()));
        assert!(
            line.is_some_and(is_current),
            "what tests see has changed: run `cargo xtask fresh {release}`, and write its outcome \
             and the table's digest {} into CONTRIBUTING.md (its line: {line:?})",
            digest()
        );
    }
}

#[test]
fn calls_are_found() {
    let text = r#"Command::new("ip").arg("x"); tied("/bin/true"); skip::has("xz");
        require(&["gcc", "/a"])"#;
    assert_eq!(programs(text).collect::<Vec<_>>(), ["true", "ip"]);
    assert_eq!(arguments(text, &NAMED).into_iter().collect::<Vec<_>>(), ["/a", "gcc", "xz"]);
}
