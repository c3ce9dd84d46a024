//! Hash tables have keys of their own.

use std::collections::BTreeMap;

use super::code::{code_of, is_test};
use super::sources;

/// The call that makes a key.
const CALL: &str = ".derive(";
/// The purpose in a macro that makes one table for each field: fields have different names.
const FIELD: &str = "stringify!(";

#[test]
fn each_purpose_of_a_hash_key_occurs_once() {
    let mut purposes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let is_code = |path: &str| !is_test(path) && !path.ends_with("/hash_key.rs");
    for (path, text) in sources().iter().filter(|(path, _)| is_code(path)) {
        for (at, _) in code_of(text).match_indices(CALL) {
            let argument = text[at + CALL.len()..].trim_start();
            if argument.starts_with(FIELD) {
                continue;
            }
            let purpose = argument.strip_prefix('"');
            let purpose = purpose.and_then(|rest| rest.split('"').next());
            let purpose = purpose.unwrap_or_else(|| panic!("{path}: a purpose is a literal"));
            purposes.entry(purpose.to_owned()).or_default().push(path.clone());
        }
    }
    assert!(purposes.len() > 10, "the search for keys found too few");
    purposes.retain(|_, paths| paths.len() > 1);
    assert!(purposes.is_empty(), "several tables have the same key: {purposes:?}");
}
