//! House rules that no compiler checks, enforced by `cargo test`.

mod allocations;
mod benches;
mod code;
mod columns;
mod commands;
mod constants;
mod dependencies;
mod documents;
mod functions;
mod keys;
mod language;
mod modules;
mod names;
mod needs;
mod ports;
mod promises;
mod public;
mod resources;
mod waits;

use std::path::{Path, PathBuf};

/// The only files that may contain the keyword `unsafe`; each gives its reasons.
const UNSAFE_FILES: &[&str] = &[
    "engine/flow/src/prefetch.rs",
    "engine/packet-filter/src/library.rs", // dlopen, and calls into libpcap
    "engine/packet-filter/tests/comparison/kernel.rs", // SO_ATTACH_FILTER
    "engine/packet-rings/src/ring.rs",     // memory that the kernel fills
    "engine/packet-rings/src/socket.rs",   // setsockopt, ioctl
    "engine/packet-rings/src/xdp/bpf.rs",  // bpf
    "engine/packet-rings/src/xdp/rings.rs", // memory that is shared with the kernel
    "engine/packet-rings/tests/tun.rs",
    "engine/sources/src/doca/bindings.rs", // types of C functions, made by bindgen
    "engine/sources/src/doca/buffers.rs",  // memory that a device writes to
    "engine/sources/src/doca/devices.rs",  // calls into the DOCA library
    "engine/sources/src/doca/handle.rs",
    "engine/sources/src/doca/library.rs", // dlopen, dlsym
    "engine/sources/src/doca/transfer.rs",
    "engine/sources/src/doca/window.rs",
    "engine/sources/src/guest/private.rs",
    "engine/sources/src/lock.rs", // mlock2
    "engine/sources/src/mapping.rs",
    "engine/sources/src/sigbus.rs",
    "engine/sources/tests/process.rs",
    "sinks/src/output/ring.rs",
    "sinks/src/output/socket/ring.rs",
    "sinks/src/output/socket/unsent.rs", // SIOCOUTQ
    "sinks/tests/refused.rs",
    "tests/allocations/src/lib.rs",
];

/// A longer file should be split.
const LINES_MAX: usize = 700;
/// The last line on which a module's doc may begin: attributes may come first.
const DOC_LINE_MAX: usize = 5;

/// Every Rust file of the project, as [`files`] returns it.
fn sources() -> Vec<(String, String)> {
    files(&["rs"])
}

/// Every file of the project with one of these extensions, and its content, by path from the root.
fn files(extensions: &[&str]) -> Vec<(String, String)> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let root = root.canonicalize().expect("the workspace exists");
    let mut paths = Vec::new();
    collect(&root, extensions, &mut paths);
    let mut sources: Vec<_> = paths
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).expect("a file can be read");
            let name = path.strip_prefix(&root).expect("the path is below the root");
            (name.to_string_lossy().into_owned(), text)
        })
        .collect();
    sources.sort();
    assert!(sources.len() > 10, "the walk over the tree found too few files");
    sources
}

fn collect(folder: &Path, extensions: &[&str], paths: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder can be listed").flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                collect(&path, extensions, paths);
            }
        } else if path.extension().is_some_and(|e| extensions.iter().any(|wanted| e == *wanted)) {
            paths.push(path);
        }
    }
}

/// Whether a line of code uses a word, comments and strings excluded.
fn uses_word(line: &str, word: &str) -> bool {
    let unquoted: Vec<&str> = line.split('"').step_by(2).collect();
    let unquoted = unquoted.join("\"\"");
    let code = unquoted.split("//").next().unwrap_or_default();
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

/// Compares what a rule found with its list of exceptions. The message has the list as it should
/// be, ready to be pasted.
fn assert_list(what: &str, found: &[String], listed: &[impl AsRef<str>]) {
    let listed: Vec<_> = listed.iter().map(AsRef::as_ref).collect();
    let show = |entry: &str| {
        if entry.starts_with('(') { format!("    {entry},\n") } else { format!("    {entry:?},\n") }
    };
    let lines: String = found.iter().map(|entry| show(entry)).collect();
    let new = found.iter().find(|entry| !listed.contains(&entry.as_str()));
    let gone = listed.iter().find(|entry| !found.iter().any(|other| other == *entry));
    assert!(
        found == listed,
        "{what}: new: {new:?}; to be removed from the list: {gone:?}. All that exist:\n{lines}"
    );
}

#[test]
fn unsafe_code_is_only_in_listed_files() {
    let found: Vec<_> = sources()
        .into_iter()
        .filter(|(_, text)| text.lines().any(|line| uses_word(line, "unsafe")))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(found, UNSAFE_FILES, "(left: the tree, right: the list in tests/xtask/src/tidy.rs)");
}

#[test]
fn files_are_short() {
    let long: Vec<_> = sources()
        .into_iter()
        .map(|(name, text)| (text.lines().count(), name))
        .filter(|(lines, _)| *lines >= LINES_MAX)
        .collect();
    assert!(long.is_empty(), "files of {LINES_MAX} lines or more: {long:?}");
}

#[test]
fn files_have_module_docs() {
    let undocumented: Vec<_> = sources()
        .into_iter()
        .filter(|(_, text)| !text.lines().take(DOC_LINE_MAX).any(|line| line.starts_with("//!")))
        .map(|(name, _)| name)
        .collect();
    assert!(undocumented.is_empty(), "files without a module doc: {undocumented:?}");
}

#[test]
fn each_detector_has_a_page_and_uses_no_other() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let folders: Vec<_> = std::fs::read_dir(root.join("engine/src/detect"))
        .expect("the folder can be listed")
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    assert!(folders.len() >= 5, "too few detectors were found: {folders:?}");
    for folder in &folders {
        let page = format!("docs/detectors/{folder}.md");
        assert!(root.join(&page).is_file(), "{page} is missing");
        let words = format!("engine/src/policy/{folder}.rs");
        assert!(root.join(&words).is_file(), "{words} is missing");
    }
    for (name, text) in sources() {
        let Some(rest) = name.strip_prefix("engine/src/detect/") else { continue };
        let Some((own, _)) = rest.split_once('/') else { continue };
        let others = folders.iter().filter(|folder| *folder != own);
        let used: Vec<_> =
            others.filter(|other| text.contains(&format!("detect::{other}"))).collect();
        assert!(used.is_empty(), "{name} uses {used:?}");
    }
}

#[test]
fn words_are_found_as_words() {
    assert!(uses_word("    unsafe { x() }", "unsafe"));
    assert!(uses_word("unsafe impl Send for X {}", "unsafe"));
    assert!(!uses_word("#![deny(unsafe_code)]", "unsafe"));
    assert!(!uses_word("// unsafe is a word here", "unsafe"));
    assert!(!uses_word(&format!("let list = {:?};", "unsafe"), "unsafe"));
}
