//! Functions are short enough for one screen.

use super::code::{find_word, function_end, is_test, product_code_of, word_at};
use super::{assert_list, sources};

const LINES_MAX: usize = 70;

/// Longer functions, with their lines. The list may only shrink: who shortens one of them, or adds
/// lines, changes its entry.
const EXCEPTIONS: &[(&str, usize)] = &[];

#[test]
fn functions_are_short() {
    let mut found = Vec::new();
    for (path, text) in sources().iter().filter(|(path, _)| !is_test(path)) {
        for (name, body) in functions(&product_code_of(text)) {
            let lines = body.lines().count();
            if lines > LINES_MAX {
                found.push((format!("{path}::{name}"), lines));
            }
        }
    }
    found.sort();
    assert!(sources().len() > 100, "too few files");
    let listed: Vec<_> =
        EXCEPTIONS.iter().map(|(name, lines)| format!("({name:?}, {lines})")).collect();
    let found: Vec<_> = found.iter().map(|(name, lines)| format!("({name:?}, {lines})")).collect();
    assert_list("functions of more than 70 lines", &found, &listed);
}

/// The functions with a body: name, and text with the signature. Inner ones are listed again.
pub(super) fn functions(code: &str) -> Vec<(&str, &str)> {
    let mut all = Vec::new();
    let mut from = 0;
    while let Some(start) = find_word(code, "fn", from) {
        from = start + 2;
        // `fn(u32)` is a type.
        let name = code[from..].strip_prefix(' ').map_or("", |rest| word_at(rest, 0));
        if let Some(end) = function_end(code.as_bytes(), from).filter(|_| !name.is_empty()) {
            all.push((name, &code[start..end]));
        }
    }
    all
}

#[test]
fn lines_of_functions_are_counted() {
    let code = "impl X {\n    fn a(x: [u8; 2]) -> fn(u32)\n    where\n        Y: Z,\n\
                    {\n        { b }\n    }\nfn declared(&self);\n}\nfn c() {}\n";
    let lines: Vec<_> =
        functions(code).iter().map(|(name, body)| (*name, body.lines().count())).collect();
    assert_eq!(lines, [("a", 6), ("c", 1)]);
}
