//! The engine allocates where it is made, and nowhere else.
//!
//! Tests that count allocations hold the same on the paths that they run (`no_alloc.rs`). This rule
//! also holds it where no test goes.

use super::code::{find_word, is_test, product_code_of};
use super::functions::functions;
use super::{assert_list, sources};

/// Folders of which all of a scan's code is part.
const FOLDERS: &[&str] = &["engine/flow/src/", "engine/src/", "engine/tables/src/"];

/// What allocates. `push` and `collect` have no place here: fixed-capacity collections have them
/// too.
const WORDS: &[&str] = &[
    "Arc::from",
    "Arc::new",
    "BTreeMap::new",
    "Box::from",
    "Box::new",
    "HashMap::new",
    "Rc::new",
    "String::from",
    "String::new",
    "String::with_capacity",
    "Vec::new",
    "Vec::with_capacity",
    "Vec<_>",
    "format!",
    "into_boxed_slice",
    "into_owned",
    "to_owned",
    "to_string",
    "room::boxed",
    "room::copies",
    "room::filled",
    "room::list",
    "to_vec",
    "vec!",
];

/// What makes a value of its type. It runs at the start, when a system is attached, or when the
/// configuration is loaded.
const CONSTRUCTORS: &[&str] = &[
    "new",
    "with_capacity",
    "without_buffers",
    "without_graph",
    "without_reader",
    "without_scratch",
];

/// Other functions that allocate. The list may only shrink.
const EXCEPTIONS: &[&str] = &[
    "engine/src/detect/shell_history/list.rs::remembered", // for `panoptes scan`, once
    "engine/src/path/mod.rs::default",                     // a constructor
    "engine/src/shipped/build.rs::build",                  // an index of SBOMs
    "engine/src/shipped/build.rs::joined",
    "engine/src/shipped/build.rs::subject",
    "engine/tables/src/room.rs::boxed", // what constructors call
    "engine/tables/src/room.rs::copies",
    "engine/tables/src/room.rs::filled",
    "engine/tables/src/room.rs::list",
    "engine/tables/src/room.rs::parts", // for a test that prints them
];

#[test]
fn only_constructors_of_the_engine_allocate() {
    let mut found = Vec::new();
    let mut constructors = 0;
    for (path, text) in sources() {
        if is_test(&path) || !FOLDERS.iter().any(|folder| path.starts_with(folder)) {
            continue;
        }
        for name in allocating(&product_code_of(&text)) {
            if CONSTRUCTORS.contains(&name) {
                constructors += 1;
            } else {
                found.push(format!("{path}::{name}"));
            }
        }
    }
    found.sort();
    assert!(constructors > 20, "too few constructors: {constructors}");
    assert_list("functions that allocate", &found, EXCEPTIONS);
}

/// The functions that use one of [`WORDS`].
fn allocating(code: &str) -> Vec<&str> {
    let allocates = |body: &str| WORDS.iter().any(|word| find_word(body, word, 0).is_some());
    functions(code).into_iter().filter(|(_, body)| allocates(body)).map(|(name, _)| name).collect()
}

#[test]
fn allocations_are_found() {
    let code = "fn a() -> Vec<u8> { Vec::new() }\nfn b() { ArrayVec::new() }\n\
                fn c(x: &str) { x.to_string() }\nfn d() { vec![1] }\nfn e(v: &mut Vec<u8>) {}\n";
    assert_eq!(allocating(code), ["a", "c", "d"]);
}
