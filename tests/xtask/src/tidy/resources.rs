//! The shared resources of docs/limits.txt agree with the code.

use std::collections::BTreeSet;

use super::{files, sources};
use crate::limits::{Resource, resources};

/// The folders of the engine whose constants `*_MAX` may limit something that is shared.
const FOLDERS: [&str; 6] = ["detect", "page_cache", "policy", "shipped", "state", "walk"];
/// Words in the names of constants that bound one object, or tries, time and work for it: nobody
/// can fill that for others.
const OF_ONE_OBJECT: &str = "ABSENT ARGUMENTS ATTEMPTS BEGINNING BITS BYTES CANDIDATES CHAIN DEPTH \
    ENTRIES GENERATIONS LENGTH NESTED NS PAGES PASSES RETRIES ROUNDS SCANS STATUSES STEPS TRIES \
    UNREAD WORD WORDS";
/// Further constants without a resource, and why.
const WITHOUT_RESOURCE: [(&str, &str); 8] = [
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
         pages::COMPARED_ANCESTORS_MAX pages::AREAS_MAX pages::SKIPS_MAX \
         reserved_space::NEIGHBOURS_MAX unchanged_processes::ANCESTORS_MAX search::HOPS_MAX \
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
         finding::MEMBERS_MAX finding::OBJECTS_MAX last_contents::PATHS_MAX \
         lines::LINE_SECTIONS_MAX packages::FILES_MAX pending::NAMES_MAX \
         repetitions::NAMES_MAX",
    ),
    (
        "the work of one step, which continues after it",
        "connections::CUT_MAX descriptors::SLICES_MAX known::PASSED_MAX shared_tables::PASSED_MAX \
         shared_tables::SEARCHES_MAX",
    ),
    (
        "one of several ways to find something",
        "carry_over::HINTS_MAX carry_over::RUN_QUEUES_MAX views::CFS_RUN_QUEUES_MAX \
         shell_history::FILES_MAX",
    ),
    (
        "detail: a path on a layer, a name of the next scan, a change that is reported twice, a \
         descriptor that is shown as it was read",
        "files::BLANK_MAX files::TORN_MAX files::USER_PATHS_MAX file_content::REPORTED_MAX \
         packages::PAST_MAX",
    ),
    (
        "details of kernel modules, and ways to them, which only root of the machine can fill",
        "module_details::NOTES_MAX module_details::SECTIONS_MAX \
         module_loaders::THREADS_ASKED_MAX module_seeds::ASKED_MAX module_seeds::DEVICES_MAX \
         module_seeds::SEEDS_MAX",
    ),
];
/// Commands that measure resources.
const MEASURES: &[&str] = &["cargo xtask neighbours"];

/// The words between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn all_resources() -> Vec<Resource> {
    resources().expect("docs/limits.txt has its form")
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
    // A line that continues an entry has only the words.
    let lines = lines.filter(|line| !line.trim_start().starts_with(['"', '/']));
    lines.filter_map(|line| line.split('"').nth(1)).collect()
}

/// The keys of the gaps that detectors declare.
fn gaps_of_detectors(sources: &[(String, String)]) -> BTreeSet<&str> {
    let detectors = sources.iter().filter(|(path, _)| path.starts_with("engine/src/detect/"));
    let kinds = detectors.flat_map(|(_, text)| text.split("GapKind::at_once(").skip(1));
    kinds.filter_map(|kind| kind.split('"').nth(1)).filter(|key| !key.is_empty()).collect()
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
fn every_constant_that_limits_something_shared_has_a_resource() {
    let constants = constants(&sources());
    assert!(constants.len() > 40, "too few constants: {constants:?}");
    let resources = all_resources();
    let with = resources.iter().flat_map(|resource| &resource.constants);
    let with = with.map(|(name, _)| name.as_str());
    let without = WITHOUT_RESOURCE.iter().flat_map(|(_, names)| names.split_whitespace());
    let mut known = BTreeSet::new();
    for name in with.chain(without) {
        assert!(constants.contains(name), "there is no constant {name}");
        assert!(known.insert(name.to_owned()), "{name} is named twice");
    }
    let missing: Vec<_> = constants.difference(&known).collect();
    assert!(missing.is_empty(), "docs/limits.txt lacks {missing:?}, nor is there a reason");
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
fn every_limit_and_every_gap_has_one_resource() {
    let sources = sources();
    let text = |wanted: &str| {
        let all = sources.iter();
        let mut found = all.filter(|(path, _)| path == wanted).map(|(_, text)| text.as_str());
        found.next().unwrap_or_else(|| panic!("{wanted} exists"))
    };
    let limits = limits(text("engine/src/limits.rs"));
    let (of_scans, of_flows) =
        (gaps(text("engine/src/policy/gaps.rs")), gaps(text("engine/panoptes/src/flow/gaps.rs")));
    let of_detectors = gaps_of_detectors(&sources);
    assert!(of_detectors.len() >= 7, "too few keys: {of_detectors:?}");
    let of_scans: BTreeSet<&str> = of_scans.union(&of_detectors).copied().collect();
    assert!(limits.len() >= 9 && of_scans.len() >= 12, "too few keys: {limits:?} {of_scans:?}");
    assert!(of_flows.len() >= 12, "too few keys: {of_flows:?}");
    let gaps: BTreeSet<&str> = of_scans.union(&of_flows).copied().collect();
    assert_eq!(gaps.len(), of_scans.len() + of_flows.len(), "two gaps have the same key");
    let both: Vec<_> = limits.intersection(&gaps).collect();
    assert!(both.is_empty(), "a limit and a gap have the same key: {both:?}");
    let resources = all_resources();
    assert!(resources.len() > limits.len() + gaps.len(), "too few resources");
    are_named_once(limits, resources.iter().flat_map(|resource| &resource.limits));
    are_named_once(gaps, resources.iter().flat_map(|resource| &resource.gaps));
}

/// Checks that these keys are those that the resources name.
fn are_named_once<'a>(mut keys: BTreeSet<&str>, named: impl Iterator<Item = &'a String>) {
    for key in named {
        assert!(keys.remove(key.as_str()), "docs/limits.txt: `{key}` is unknown, or named twice");
    }
    assert!(keys.is_empty(), "docs/limits.txt lacks {keys:?}");
}

#[test]
fn the_tests_of_the_resources_exist() {
    let sources = sources();
    for Resource { name, tests, commands, .. } in &all_resources() {
        let is_shown = !tests.is_empty() || !commands.is_empty();
        assert!(is_shown, "docs/limits.txt: nothing shows {name:?}");
        for test in tests {
            let function = format!("fn {test}(");
            let is_test = sources.iter().any(|(_, text)| text.contains(&function));
            assert!(is_test, "docs/limits.txt: there is no test {test}");
        }
        let is_known = |command: &String| MEASURES.contains(&command.as_str());
        assert!(commands.iter().all(is_known), "docs/limits.txt: {commands:?}");
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
}
