//! The table of shared resources in SECURITY.md agrees with the code.

use std::collections::BTreeSet;

use super::{files, sources};

/// The columns of the table.
const HEADING: &str =
    "| resource | who can fill it | what is lost then | what is reported | shown by |";
/// The folders of the engine whose constants `*_MAX` may limit something that is shared.
const FOLDERS: [&str; 6] = ["detect", "page_cache", "policy", "shipped", "state", "walk"];
/// Words in the names of constants that bound one object, or tries, time and work for it: nobody
/// can fill that for others.
const OF_ONE_OBJECT: &str = "ABSENT ARGUMENTS ATTEMPTS BEGINNING BITS BYTES CANDIDATES CHAIN DEPTH \
    ENTRIES GENERATIONS LENGTH NESTED NS PAGES PASSES RETRIES ROUNDS SCANS STATUSES STEPS TRIES \
    UNREAD WORD WORDS";
/// Further constants without a row, and why.
const WITHOUT_ROW: [(&str, &str); 7] = [
    ("what the user wrote", "build::FILES_MAX build::SUBJECTS_MAX shipped::APPLIED_MAX"),
    ("the kinds of gaps", "gaps::GAPS_MAX"),
    (
        "one process, file or chain",
        "any_peers::ENDS_MAX changes::KEPT_MAX clock::HOLES_MAX connections::BUCKETS_MAX \
         connections::TWINS_MAX \
         contents::DOUBTS_MAX descriptors::TABLE_MAX \
         job::HOLES_MAX list::COUNTED_MAX list::POINTERS_MAX list::REMEMBERED_MAX \
         locate::LIBRARIES_MAX mappings::FOUND_MAX mappings::MAPPED_MAX \
         mappings::MAPPERS_MAX mappings::SHARED_MAX \
         memory_permissions::FINDINGS_MAX pages::ALIKE_MAX \
         pages::ANCESTORS_MAX pages::AREAS_MAX pages::SKIPS_MAX \
         reserved_space::NEIGHBOURS_MAX resting::ANCESTORS_MAX search::HOPS_MAX \
         objects::MIRRORS_MAX python::AREAS_MAX relays::BOTH_WAYS_MAX \
         queues::QUEUES_OF_ONE_MAX queues::USERS_MAX \
         queues::UNSEEN_MAX ring::REMEMBERED_MAX ring::RING_MAX ring_plan::MISSED_MAX \
         two_peers::INPUTS_MAX \
         shell_history::TYPED_MAX structure::CONTEXTS_MAX structure::LISTS_MAX tree::SLOTS_MAX \
         udp_ports::SLOTS_MAX",
    ),
    (
        "one record, which says that it is cut",
        "ancestors::ANCESTORS_MAX connections::HOLDERS_MAX incidents::EARLIER_MAX \
         finding::CONNECTIONS_MAX finding::DESCRIPTORS_MAX \
         finding::MEMBERS_MAX finding::OBJECTS_MAX last_contents::PATHS_MAX packages::FILES_MAX \
         pending::NAMES_MAX \
         repetitions::NAMES_MAX \
         reverse_shells::CONNECTIONS_MAX reverse_shells::DESCRIPTORS_MAX \
         reverse_shells::PROCESSES_MAX",
    ),
    (
        "the work of one step, which goes on after it",
        "connections::CUT_MAX descriptors::SLICES_MAX known::PASSED_MAX shared_tables::PASSED_MAX \
         shared_tables::SEARCHES_MAX",
    ),
    (
        "one of several ways to find something",
        "kept::HINTS_MAX kept::RUN_QUEUES_MAX views::CFS_RUN_QUEUES_MAX shell_history::FILES_MAX",
    ),
    (
        "detail: a path on a layer, a name of the next scan, a change that is reported twice, a \
         descriptor that is shown as it was read",
        "files::BLANK_MAX files::TORN_MAX files::USER_PATHS_MAX file_content::REPORTED_MAX \
         packages::PAST_MAX",
    ),
];
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

/// The constants `*_MAX` of the engine's folders that may limit something shared, each behind the
/// name of its file, or of its folder for a `mod.rs`.
fn constants<'a>(sources: &'a [(String, String)]) -> BTreeSet<String> {
    let in_folders = sources.iter().filter_map(|(path, text)| {
        let folder = path.strip_prefix("engine/src/")?.split('/').next()?;
        let is_test = path.contains("/tests/") || path.ends_with("/tests.rs");
        (FOLDERS.contains(&folder) && !is_test).then_some((path, text))
    });
    let of_file = |(path, text): (&'a String, &'a String)| {
        let mut parts = path.trim_end_matches(".rs").trim_end_matches("/mod").rsplit('/');
        let file = parts.next().unwrap_or_default();
        let names = text.lines().filter_map(constant).filter(|name| !is_of_one_object(name));
        names.map(move |name| format!("{file}::{name}"))
    };
    in_folders.flat_map(of_file).collect()
}

/// The name of a constant `*_MAX` that a line declares.
fn constant(line: &str) -> Option<&str> {
    let (visibility, rest) = line.trim_start().split_once("const ")?;
    let (name, _) = rest.split_once(':')?;
    (visibility.is_empty() || visibility.starts_with("pub")).then_some(())?;
    name.ends_with("_MAX").then_some(name)
}

fn is_of_one_object(name: &str) -> bool {
    name.split('_').any(|word| OF_ONE_OBJECT.split_whitespace().any(|one| one == word))
}

#[test]
fn every_constant_that_limits_something_shared_has_a_row() {
    let (sources, pages) = (sources(), files(&["md"]));
    let is_page = |(path, _): &&(String, String)| path == "SECURITY.md";
    let (_, page) = pages.iter().find(is_page).expect("SECURITY.md exists");
    let constants = constants(&sources);
    assert!(constants.len() > 40, "too few constants: {constants:?}");
    let without = WITHOUT_ROW.iter().flat_map(|(_, names)| names.split_whitespace());
    let rows = rows(page);
    let with = rows.iter().flat_map(|row| quoted(row[0])).filter(|key| key.contains("::"));
    let mut known = BTreeSet::new();
    for name in with.chain(without) {
        assert!(constants.contains(name), "there is no constant {name}");
        assert!(known.insert(name.to_owned()), "{name} is named twice");
    }
    let missing: Vec<_> = constants.difference(&known).collect();
    assert!(missing.is_empty(), "SECURITY.md has no row of {missing:?}, nor is there a reason");
}

#[test]
fn constants_are_found() {
    let name = |line| constant(line).filter(|name| !is_of_one_object(name));
    assert_eq!(name("pub(super) const SHELLS_MAX: usize = 256;"), Some("SHELLS_MAX"));
    assert_eq!(name("    const OPEN_MAX: u32 = 1;"), Some("OPEN_MAX"));
    for line in ["const PATH_BYTES_MAX: usize = 9;", "const SHELLS: u32 = 1;", "// const A_MAX: x"]
    {
        assert_eq!(name(line), None, "{line}");
    }
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
    let (of_scans, of_flows) =
        (gaps(text("engine/src/policy/gaps.rs")), gaps(text("engine/panoptes/src/flow/gaps.rs")));
    assert!(limits.len() >= 9 && of_scans.len() >= 12, "too few keys: {limits:?} {of_scans:?}");
    assert!(of_flows.len() >= 12, "too few keys: {of_flows:?}");
    let gaps: BTreeSet<&str> = of_scans.union(&of_flows).copied().collect();
    assert_eq!(gaps.len(), of_scans.len() + of_flows.len(), "two gaps have the same key");
    let both: Vec<_> = limits.intersection(&gaps).collect();
    assert!(both.is_empty(), "a limit and a gap have the same key: {both:?}");
    let rows = rows(text("SECURITY.md"));
    assert!(rows.len() > limits.len() + gaps.len(), "the table was not found");
    let mut missing: BTreeSet<&str> = limits.union(&gaps).copied().collect();
    for row in &rows {
        assert_eq!(row.len(), 5, "{row:?}");
        for key in quoted(row[0]).filter(|key| !key.contains("::")) {
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
fn the_tests_of_the_guides_promises_exist() {
    let (sources, pages) = (sources(), files(&["md"]));
    let is_page = |(path, _): &&(String, String)| path == "tests/README.md";
    let (_, page) = pages.iter().find(is_page).expect("tests/README.md exists");
    let rows = page.lines().filter(|line| line.starts_with('|') && line.contains('`'));
    let rows: Vec<_> = rows.filter_map(|row| row.trim_matches('|').rsplit('|').next()).collect();
    assert!(rows.len() > 30, "the tables were not found");
    for test in rows.into_iter().flat_map(quoted) {
        let function = format!("fn {test}(");
        let is_test = sources.iter().any(|(_, text)| text.contains(&function));
        assert!(is_test, "tests/README.md: there is no test {test}");
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
