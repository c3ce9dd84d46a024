//! Texts are in plain English: a sentence names who does what, and a doc begins with a noun or a
//! verb.

use super::{files, sources};

/// Words that say too little about who does what. CONTRIBUTING has the verbs to use instead.
const PHRASES: &[&str] = &[
    "told of",
    "is told",
    "are told",
    "was told",
    "of which it is",
    "says so",
    "is said",
    "let go",
    "taken in",
    "takes in",
    "is quiet",
    "are quiet",
    "nobody knows",
    "whoever",
    "what it is is",
    "that is there",
    "that are there",
];
/// Phrases that comments and documents avoid; messages and scripts may have them.
const COMMENT_PHRASES: &[&str] = &["goes on", "for ever"];
/// First words of a doc that stand for a noun: the noun is to be written.
const OPENINGS: &[&str] = &["By", "Of", "Whose", "Who", "What is"];
/// Two programs have this name: pages write DOCA Argus, or argus(8).
const AMBIGUOUS: &str = "argus";
/// This file has the phrases themselves.
const OWN_FILE: &str = "tests/xtask/src/tidy/language.rs";

#[test]
fn texts_are_in_plain_english() {
    let texts = files(&["rs", "md", "yaml"]);
    for (name, text) in texts.iter().filter(|(name, _)| name != OWN_FILE) {
        for (number, line) in text.lines().enumerate() {
            let lower = line.to_lowercase();
            let phrase = PHRASES.iter().find(|phrase| has_phrase(&lower, phrase));
            assert_eq!(phrase, None, "{name}:{}: name who does what", number + 1);
        }
    }
}

#[test]
fn comments_have_verbs_of_their_own() {
    let mut found = Vec::new();
    for (kind, is_page) in [("rs", false), ("md", true)] {
        for (name, text) in files(&[kind]).iter().filter(|(name, _)| name != OWN_FILE) {
            let lines = text.lines().enumerate();
            for (number, line) in lines.filter(|(_, line)| is_page || is_comment(line)) {
                let lower = line.to_lowercase();
                let phrase = COMMENT_PHRASES.iter().find(|phrase| has_phrase(&lower, phrase));
                found.extend(phrase.map(|phrase| format!("{name}:{}: {phrase}", number + 1)));
            }
        }
    }
    assert!(found.is_empty(), "write `continues`, `without end` or the like: {found:#?}");
}

#[test]
fn docs_begin_with_a_noun_or_a_verb() {
    let mut found = Vec::new();
    for (name, text) in sources() {
        for number in openings(&text) {
            found.push(format!("{name}:{number}"));
        }
    }
    assert!(found.is_empty(), "docs that begin with one of {OPENINGS:?}: {found:#?}");
}

#[test]
fn pages_name_the_program_that_they_mean() {
    let mut found = Vec::new();
    for (name, text) in files(&["md"]) {
        let numbers = ambiguous_lines(&text);
        found.extend(numbers.into_iter().map(|number| format!("{name}:{number}")));
    }
    assert!(found.is_empty(), "write `DOCA Argus` or `argus(8)`: {found:#?}");
}

/// The numbers of the lines of a page that have [`AMBIGUOUS`] as a name in prose. Code, options,
/// paths and names of files and packages may have it.
fn ambiguous_lines(page: &str) -> Vec<usize> {
    let (mut found, mut before, mut is_code) = (Vec::new(), String::new(), false);
    for (index, line) in page.lines().enumerate() {
        is_code ^= line.starts_with("```");
        if is_code || line.starts_with("    ") {
            continue;
        }
        // The parts between backticks are code.
        let prose: Vec<&str> = line.split('`').step_by(2).collect();
        let prose = prose.join("`").to_lowercase();
        if is_ambiguous(&before, &prose) {
            found.push(index + 1);
        }
        before = prose;
    }
    found
}

/// Whether a line in small letters has [`AMBIGUOUS`] as a bare name. `before` is the line above it.
fn is_ambiguous(before: &str, line: &str) -> bool {
    line.match_indices(AMBIGUOUS).any(|(at, name)| {
        let (left, right) = (&line[..at], &line[at + name.len()..]);
        let is_joined = |c: char| c.is_alphanumeric() || "_-".contains(c);
        let is_part = left.ends_with(|c: char| is_joined(c) || "./#".contains(c))
            || right.starts_with(is_joined)
            // An extension, but no end of a sentence.
            || right.strip_prefix('.').is_some_and(|rest| rest.starts_with(is_joined));
        let left = if left.trim().is_empty() { before } else { left };
        !is_part && !right.starts_with("(8)") && !left.trim_end().ends_with("doca")
    })
}

/// The numbers of the lines on which a doc comment begins with one of [`OPENINGS`].
fn openings(text: &str) -> Vec<usize> {
    let (mut found, mut is_inside) = (Vec::new(), false);
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_start();
        let doc = line.strip_prefix("/// ").or_else(|| line.strip_prefix("//! "));
        if let Some(doc) = doc.filter(|_| !is_inside)
            && OPENINGS.iter().any(|opening| {
                doc.strip_prefix(opening).is_some_and(|rest| rest.starts_with([' ', ',']))
            })
        {
            found.push(index + 1);
        }
        is_inside = doc.is_some() || matches!(line, "///" | "//!");
    }
    found
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

/// Whether a line has a phrase, as whole words.
fn has_phrase(line: &str, phrase: &str) -> bool {
    line.match_indices(phrase).any(|(at, _)| {
        let is_letter = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !is_letter(line[..at].chars().next_back())
            && !is_letter(line[at + phrase.len()..].chars().next())
    })
}

#[test]
fn phrases_are_found_as_whole_words() {
    assert!(has_phrase("it is told of.", "told of"));
    assert!(!has_phrase("an outlet gone", "let go"));
    assert!(!has_phrase("is_told of", "told of"));
    assert!(!has_phrase("for every one", "for ever"));
}

#[test]
fn bare_names_of_programs_are_found() {
    let clear = [
        "DOCA Argus, and NVIDIA's DOCA",
        "Argus, which `argus -r` is not, nor argus(8) 3.0.8,",
        "argus.conf, flows.argus, [argus-server](compatibility.md#argus) and doca-argus;",
        "    argus -r",
        "```",
        "argus -r",
        "```",
    ];
    assert_eq!(ambiguous_lines(&clear.join("\n")), [0_usize; 0]);
    assert_eq!(ambiguous_lines("of argus 3.0.8\nReal argus.\n\nof `x`\nArgus"), [1, 2, 5]);
}

#[test]
fn first_words_of_docs_are_found() {
    let text = ["/// By name.", "fn a() {}", "    /// Names,", "    /// By number.", "x: u8,"];
    let more = ["//! Who reads.", "", "/// Bytes.", "/// What it is.", "/// Of two, one."];
    let text = [text, more].concat().join("\n");
    assert_eq!(openings(&text), [1, 6]);
}
