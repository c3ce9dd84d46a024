//! Rust source without comments, texts and tests, so that rules see only code.

use std::ops::Range;

/// The text with comments and the content of texts and characters replaced by spaces. Lines keep
/// their numbers.
pub(super) fn code_of(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => line_end(bytes, at),
            b'/' if bytes[at..].starts_with(b"/*") => comment_end(bytes, at),
            b'"' => text_end(bytes, at),
            b'r' | b'b' | b'c' if !follows_word(bytes, at) => match raw_text_end(bytes, at) {
                Some(end) => end,
                None => at,
            },
            b'\'' => character_end(bytes, at),
            _ => at,
        };
        for byte in &mut code[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8(code).expect("only whole characters were replaced")
}

/// Code without the modules and items that only tests have.
pub(super) fn product_code_of(text: &str) -> String {
    let code = code_of(text);
    let tests = test_items(&code);
    blanked(code, &tests)
}

/// The code of the modules and items that only tests have.
pub(super) fn test_code_of(text: &str) -> String {
    let code = code_of(text);
    let (mut others, mut from) = (Vec::new(), 0);
    for item in test_items(&code) {
        others.push(from..item.start);
        from = item.end;
    }
    others.push(from..code.len());
    blanked(code, &others)
}

/// The code of tests in a source file: all of it, or only the modules and items that only tests
/// have.
pub(super) fn code_of_tests(path: &str, text: &str) -> String {
    let is_whole = is_test(path) || path.starts_with("tests/");
    if is_whole { code_of(text) } else { test_code_of(text) }
}

/// Where the modules and items are that only tests have.
fn test_items(code: &str) -> Vec<Range<usize>> {
    const MARK: &str = "#[cfg(test)]";
    let (mut items, mut from) = (Vec::new(), 0);
    while let Some(start) = code[from..].find(MARK).map(|at| from + at) {
        from = item_end(code.as_bytes(), start + MARK.len());
        items.push(start..from);
    }
    items
}

/// Code with spaces in place of these parts. Lines keep their numbers.
fn blanked(code: String, parts: &[Range<usize>]) -> String {
    let mut code = code.into_bytes();
    for byte in parts.iter().cloned().flatten() {
        if code[byte] != b'\n' {
            code[byte] = b' ';
        }
    }
    String::from_utf8(code).expect("only whole characters were replaced")
}

/// Whether a file has only tests, or what tests need.
pub(super) fn is_test(path: &str) -> bool {
    let in_tools = path.starts_with("tests/rig/src/") || path.starts_with("tests/xtask/src/");
    path.ends_with("/tests.rs")
        || path.contains("/tests/")
        || path.starts_with("tests/") && !in_tools
}

/// Whether a file is part of what is delivered.
pub(super) fn is_product(path: &str) -> bool {
    let apart = ["benches/", "fuzz/", "tests/"];
    !is_test(path)
        && !path.ends_with("_tests.rs")
        && !path.ends_with("/bindings.rs")
        && !path.contains("/examples/")
        && !apart.iter().any(|it| path.starts_with(it))
}

/// The end of an item: behind its semicolon or its block.
fn item_end(code: &[u8], start: usize) -> usize {
    let mut depth = 0_u32;
    for (at, byte) in code.iter().enumerate().skip(start) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.saturating_sub(1),
            b';' | b',' if depth == 0 => return at + 1,
            b'{' if depth == 0 => return block_end(code, at),
            _ => {}
        }
    }
    code.len()
}

/// The end of the block that a function has; `None` for a declaration and for the type `fn()`.
pub(super) fn function_end(code: &[u8], start: usize) -> Option<usize> {
    let mut depth = 0_u32;
    for (at, byte) in code.iter().enumerate().skip(start) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' | b';' | b'=' if depth == 0 => return None,
            b')' | b']' => depth -= 1,
            b'{' if depth == 0 => return Some(block_end(code, at)),
            _ => {}
        }
    }
    None
}

/// The end of the block that opens at `start`.
fn block_end(code: &[u8], start: usize) -> usize {
    let mut depth = 0_u32;
    for (at, byte) in code.iter().enumerate().skip(start) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => return at + 1,
            b'}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Where a word begins in the code, as a whole word, from `from` on.
pub(super) fn find_word(code: &str, word: &str, from: usize) -> Option<usize> {
    let bytes = code.as_bytes();
    code.get(from..)?.match_indices(word).map(|(at, _)| from + at).find(|&at| {
        let after = bytes.get(at + word.len());
        !follows_word(bytes, at) && !after.is_some_and(|&byte| is_word(byte))
    })
}

/// The word at a place.
pub(super) fn word_at(code: &str, at: usize) -> &str {
    let rest = code.get(at..).unwrap_or("");
    let end = rest.bytes().position(|byte| !is_word(byte)).unwrap_or(rest.len());
    &rest[..end]
}

fn follows_word(bytes: &[u8], at: usize) -> bool {
    at > 0 && is_word(bytes[at - 1])
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |end| at + end)
}

fn comment_end(bytes: &[u8], start: usize) -> usize {
    let (mut depth, mut at) = (0, start);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if bytes[at..].starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

fn text_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The end of a text with a prefix (`r#"…"#`, `b"…"`, `c"…"`, `b'…'`), if one begins here.
fn raw_text_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start + usize::from(matches!(bytes[start], b'b' | b'c'));
    let is_raw = bytes.get(at) == Some(&b'r');
    at += usize::from(is_raw);
    let hashes = bytes[at..].iter().take_while(|&&byte| is_raw && byte == b'#').count();
    at += hashes;
    match bytes.get(at)? {
        b'"' if is_raw => {
            let mut end = vec![b'"'];
            end.resize(hashes + 1, b'#');
            Some(
                find(&bytes[at + 1..], &end)
                    .map_or(bytes.len(), |found| at + 1 + found + end.len()),
            )
        }
        b'"' => Some(text_end(bytes, at)),
        b'\'' if bytes[start] == b'b' && !is_raw => Some(character_end(bytes, at)),
        _ => None,
    }
}

/// The end of a character; the place itself if a lifetime begins here.
fn character_end(bytes: &[u8], at: usize) -> usize {
    if bytes.get(at + 1) == Some(&b'\\') {
        let end = bytes[at + 3..].iter().position(|&byte| byte == b'\'');
        return end.map_or(bytes.len(), |end| at + 3 + end + 1);
    }
    // One character has one to four bytes.
    let end = bytes.iter().skip(at + 2).take(4).position(|&byte| byte == b'\'');
    match end {
        Some(0) => at + 3,
        Some(end) if bytes[at + 1] >= 0x80 => at + 2 + end + 1,
        _ => at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_texts_are_no_code() {
        let text =
            "let a = \"fn \\\" {\"; // }\nlet b = r#\"}\"{\"#; /* { /* */ } */ c(b'{', '\\'', '}')";
        let code = code_of(text);
        assert_eq!(code.lines().count(), 2);
        assert!(!code.contains(['{', '}', '"']), "{code}");
        assert!(code.contains("let a =") && code.contains("let b =") && code.contains(" c("));
        assert_eq!(
            code_of("fn f<'a>(x: &'a str) -> &'static str {}"),
            "fn f<'a>(x: &'a str) -> &'static str {}"
        );
        assert_eq!(code_of("('é', 'x')"), "(    ,    )");
        assert_eq!(code_of("for r in b {}"), "for r in b {}");
    }

    #[test]
    fn tests_are_left_out() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n fn b() { c() }\n}\n\
                    #[cfg(test)]\nuse x;\nfn d() {}";
        let code = product_code_of(text);
        assert!(code.contains("fn a()") && code.contains("fn d()"), "{code}");
        assert!(!code.contains("fn b()") && !code.contains("use x"), "{code}");
        assert_eq!(code.lines().count(), text.lines().count());
        let code = test_code_of(text);
        assert!(code.contains("fn b() { c() }") && code.contains("use x"), "{code}");
        assert!(!code.contains("fn a()") && !code.contains("fn d()"), "{code}");
        assert_eq!(code.lines().count(), text.lines().count());
    }

    #[test]
    fn words_are_found_whole() {
        assert_eq!(find_word("unfn fn fnx", "fn", 0), Some(5));
        assert_eq!(word_at("fn name(", 3), "name");
    }
}
