//! Texts are in plain English: a sentence names who does what, and a comment begins with a noun or
//! a verb.

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
    // It continues, runs, or works.
    "goes on",
    "go on",
    "went on",
    "gone on",
    // Without end.
    "for ever",
    // Successive.
    "in a row",
];
/// Texts of records, which must stay equal byte for byte: receivers have rules for them. Tests and
/// scenarios quote them.
const RECORD_TEXTS: &[&str] = &[
    "panicked, and goes on",
    "flows go on",
    "the other outputs go on",
    "clock went on",
    "scans in a row",
    "times in a row",
];
/// First words of a comment that stand for a noun: the noun is to be written.
const OPENINGS: &[&str] = &["By", "Of", "Whose", "Who", "What is"];
/// Two programs have this name: pages write DOCA Argus, or argus(8).
const AMBIGUOUS: &str = "argus";
/// This file has the phrases themselves.
const OWN_FILE: &str = "tests/xtask/src/tidy/language.rs";

#[test]
fn texts_are_in_plain_english() {
    let texts = files(&["rs", "md", "yaml", "c", "h", "sh"]);
    let mut found = Vec::new();
    for (name, text) in texts.iter().filter(|(name, _)| name != OWN_FILE) {
        for (number, line) in text.lines().enumerate() {
            let phrase = refused_phrase(line);
            found.extend(phrase.map(|phrase| format!("{name}:{}: {phrase}", number + 1)));
        }
    }
    assert!(found.is_empty(), "name who does what, as CONTRIBUTING has it: {found:#?}");
}

/// The first of [`PHRASES`] in a line, apart from [`RECORD_TEXTS`].
fn refused_phrase(line: &str) -> Option<&'static str> {
    let remove = |line: String, text: &&str| line.replace(text, "");
    let line = RECORD_TEXTS.iter().fold(line.to_lowercase(), remove);
    PHRASES.iter().copied().find(|phrase| has_phrase(&line, phrase))
}

#[test]
fn comments_begin_with_a_noun_or_a_verb() {
    let mut found = Vec::new();
    for (name, text) in sources() {
        for number in openings(&text) {
            found.push(format!("{name}:{number}"));
        }
    }
    assert!(found.is_empty(), "comments that begin with one of {OPENINGS:?}: {found:#?}");
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

/// The numbers of the lines on which a comment begins with one of [`OPENINGS`]. Successive lines
/// with the same mark are one comment.
fn openings(text: &str) -> Vec<usize> {
    let (mut found, mut mark_before) = (Vec::new(), None);
    for (index, line) in text.lines().enumerate() {
        let comment = comment_line(line);
        let mark = comment.map(|(mark, _)| mark);
        if let Some((_, words)) = comment.filter(|_| mark != mark_before)
            && OPENINGS.iter().any(|opening| {
                words.strip_prefix(opening).is_some_and(|rest| rest.starts_with([' ', ',']))
            })
        {
            found.push(index + 1);
        }
        mark_before = mark;
    }
    found
}

/// The mark and the words of a line that is a comment and nothing else.
fn comment_line(line: &str) -> Option<(&'static str, &str)> {
    let line = line.trim_start();
    let of = |mark: &'static str| Some((mark, line.strip_prefix(mark)?.trim_start()));
    ["///", "//!", "//"].into_iter().find_map(of)
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
fn texts_of_records_are_exempt() {
    assert_eq!(refused_phrase("A scan goes on."), Some("goes on"));
    assert_eq!(refused_phrase("a scanner panicked, and goes on: it"), None);
    assert_eq!(refused_phrase("\"3 times in a row\", and four in a row"), Some("in a row"));
}

#[test]
fn first_words_of_comments_are_found() {
    let text = ["/// By name.", "fn a() {}", "    /// Names,", "    /// By number.", "x: u8,"];
    let more = ["//! Who reads.", "", "/// Bytes.", "/// What it is.", "/// Of two, one."];
    let text = [text, more].concat().join("\n");
    assert_eq!(openings(&text), [1, 6]);
    let text = ["// Of two, one.", "a();", "// One of two,", "// By name.", "b(); // By name."];
    let more = ["/// Names.", "// By name."];
    assert_eq!(openings(&[&text[..], &more].concat().join("\n")), [1, 7]);
}
