//! The name of a type says what it is of.

use std::collections::BTreeMap;

use super::code::{is_product, product_code_of};
use super::{assert_list, sources};

/// Type names that a crate has three times or more. The list may only shrink.
const SHARED: &[&str] = &[];
/// Type names that are a bare participle or a question word. The list may only shrink.
const PARTICIPLES: &[&str] = &[];

/// Nouns that end like participles.
const NOUNS: &[&str] = &[
    "Binding",
    "Crossing",
    "Cred",
    "Encoding",
    "Feed",
    "Finding",
    "Heading",
    "Listing",
    "Mapping",
    "Need",
    "Padding",
    "Ping",
    "Recording",
    "Ring",
    "Seed",
    "Setting",
    "Speed",
    "String",
    "Thing",
    "Thread",
    "Timing",
    "Warning",
];
/// Participles that do not end in `ed` or `ing`, and words that point at something unnamed.
const IRREGULAR: &str = "About Above After Ahead Before Begun Behind Beside Beyond Bound Built \
    Caught Chosen Cut Done Drawn Driven Early Elsewhere Fallen Fed Forgotten Found Given Gone \
    Grown Held Hidden Instead Kept Known Laid Latest Least Led Left Lent Likely Look Lost Made \
    Meant Meanwhile Met Most Next Often Once Other Others Out Over Own Paid Put Read Rest Run Said \
    Same Seen Sent Set Shown Shut Spent Split Spread Stolen Struck Taken Thrown Told Torn \
    Understood Unknown Unread Unseen Unsent Until Unwritten Woken Worn Written";
const QUESTIONS: &str = "How What When Where Whether Which Who Whom Whose Why";

fn is_bare(name: &str) -> bool {
    // `OfTable` says what it is of, but not what it is.
    if name.strip_prefix("Of").is_some_and(|of| of.starts_with(char::is_uppercase)) {
        return true;
    }
    // A second word says what it is of.
    if name.chars().skip(1).any(char::is_uppercase) || NOUNS.contains(&name) {
        return false;
    }
    let is_listed = |list: &str| list.split_ascii_whitespace().any(|word| word == name);
    name.ends_with("ed") || name.ends_with("ing") || is_listed(IRREGULAR) || is_listed(QUESTIONS)
}

/// The types that a line of code declares at the left of its file or in a block, but no associated
/// type.
fn declared(line: &str) -> Option<&str> {
    let is_inner = line.starts_with(char::is_whitespace);
    let line = line.trim_start();
    let line = match line.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(')')?.1.trim_start(),
        Some(rest) if rest.starts_with(' ') => rest.trim_start(),
        _ => line,
    };
    let (kind, rest) = line.split_once(' ')?;
    let is_kind = matches!(kind, "struct" | "enum" | "trait" | "union");
    if !is_kind && (kind != "type" || is_inner) {
        return None;
    }
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
    Some(&rest[..end]).filter(|name| name.starts_with(|c: char| c.is_ascii_uppercase()))
}

/// The folder of a file's crate.
fn crate_of(path: &str) -> &str {
    path.split_once("/src/").map_or(path, |(folder, _)| folder)
}

/// The types of the product, with their files.
fn types() -> Vec<(String, String)> {
    let sources = sources();
    let files = sources.iter().filter(|(path, _)| is_product(path));
    files
        .flat_map(|(path, text)| {
            let code = product_code_of(text);
            let names = code.lines().filter_map(declared).map(str::to_owned).collect::<Vec<_>>();
            names.into_iter().map(|name| (path.clone(), name)).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn a_crate_has_no_type_name_three_times() {
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    for (path, name) in types() {
        *counts.entry((crate_of(&path).to_owned(), name)).or_default() += 1;
    }
    assert!(counts.len() > 1500, "few types were found: {}", counts.len());
    let shared = counts.iter().filter(|(_, count)| **count >= 3);
    let shared: Vec<_> =
        shared.map(|((folder, name), count)| format!("{folder}: {name} {count} times")).collect();
    assert_list("shared type names", &shared, SHARED);
}

#[test]
fn types_are_named_by_nouns() {
    let mut bare: Vec<_> = types().into_iter().filter(|(_, name)| is_bare(name)).collect();
    bare.sort();
    let bare: Vec<_> = bare.into_iter().map(|(path, name)| format!("{path}: {name}")).collect();
    assert_list("types that are a bare participle or a question word", &bare, PARTICIPLES);
}

#[test]
fn bare_participles_are_found() {
    for name in ["Kept", "Watched", "Waiting", "What", "Found", "Whose", "Beside", "OfTable"] {
        assert!(is_bare(name), "{name}");
    }
    for name in ["KeptFile", "Thread", "Process", "Finding", "Page", "OffsetReader"] {
        assert!(!is_bare(name), "{name}");
    }
    assert_eq!(declared("pub(crate) struct Kept<'a> {"), Some("Kept"));
    assert_eq!(declared("    enum Kind {"), Some("Kind"));
    assert_eq!(declared("pub type Rows = Vec<u8>;"), Some("Rows"));
    assert_eq!(declared("    type Key = u64;"), None);
    assert_eq!(declared("    struct_of(it)"), None);
}
