//! Public items have a user outside of their file.

use std::collections::{BTreeMap, BTreeSet};

use super::code::{find_word, is_test, is_word, product_code_of, word_at};
use super::{assert_list, sources};

/// Folders whose public items need a user.
const FOLDERS: &[&str] = &[
    "decoders/src/",
    "engine/flow/src/",
    "engine/packet-files/src/",
    "engine/packet-filter/src/",
    "engine/packet-rings/src/",
    "engine/records/src/",
    "engine/sbom/src/",
    "engine/sources/src/",
    "engine/src/",
    "engine/tables/src/",
    "engine/unpack/src/",
    "profiles/src/",
    "sinks/src/",
];

/// Public items without a user. The list may only shrink.
const UNUSED: &[&str] = &[];

/// What needs a user. A method counts like a function. A type may be public because a function
/// returns it.
const KINDS: &[&str] = &["fn", "trait", "const", "static"];

#[test]
fn public_items_have_a_user_in_another_file() {
    let sources = sources();
    // In which files each word occurs, up to two of them. A comment may refer to an item.
    let mut files: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for (number, (path, text)) in sources.iter().enumerate() {
        if path.ends_with("/tidy/public.rs") {
            continue; // It has the list.
        }
        for word in text.split(|c: char| !c.is_ascii() || !is_word(c as u8)) {
            match files.get_mut(word) {
                Some(numbers) if numbers.len() > 1 => {}
                Some(numbers) => _ = numbers.insert(number),
                None => _ = files.insert(word.to_owned(), [number].into()),
            }
        }
    }
    let mut found = Vec::new();
    for (path, text) in &sources {
        if is_test(path)
            || path.ends_with("/bindings.rs")
            || !FOLDERS.iter().any(|folder| path.starts_with(folder))
        {
            continue;
        }
        let code = product_code_of(text);
        for name in public_items(&code) {
            // Where a macro is used, its items must be public.
            let in_macro =
                |line: &str| line.contains("$crate::") && find_word(line, name, 0).is_some();
            if !code.lines().any(in_macro) && files.get(name).is_none_or(|files| files.len() < 2) {
                found.push(format!("{path}: {name}"));
            }
        }
    }
    found.sort();
    assert_list("public items that only their own file uses", &found, UNUSED);
}

/// The names of public items.
fn public_items(code: &str) -> Vec<&str> {
    let mut all = Vec::new();
    let mut from = 0;
    while let Some(start) = find_word(code, "pub", from) {
        from = start + 3;
        let mut words = code[from..].split_whitespace();
        let mut is_item = false;
        for word in words.by_ref().take(4) {
            if is_item {
                all.push(word_at(word, 0));
                break;
            }
            // `pub const fn name`
            match word {
                "const" if find_word(code[from..].trim_start(), "fn", 0) == Some(6) => {}
                "unsafe" | "async" | "extern" => {}
                word if KINDS.contains(&word) => is_item = true,
                _ => break,
            }
        }
    }
    all
}

#[test]
fn public_items_are_found() {
    let code = "pub fn a() {} pub const fn b() {} pub struct C<'a>; pub const D: u8 = 1; \
                pub e: u8, pub(crate) fn f() {} fn g() {} pub mod h {}";
    assert_eq!(public_items(code), ["a", "b", "D"]);
}
