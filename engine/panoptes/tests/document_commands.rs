//! The commands of the documents, as a reader pastes them: each must have arguments that the
//! program takes.
//!
//! Not for: what the commands do.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser as _;
use panoptes::cli::Arguments;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
/// What ends a command in a shell.
const ENDS: [&str; 7] = ["|", ">", ">>", "<", "&", "&&", ";"];

/// All documents of the repository, without the build folder.
fn documents(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the folder can be read") {
        let path = entry.expect("the folder can be read").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            documents(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
}

/// Returns the lines of fenced and of indented blocks, each with the number of its last line. A
/// backslash at the end of a line joins the next one to it.
fn code(text: &str) -> Vec<(usize, String)> {
    let (mut is_fenced, mut code, mut begun) = (false, Vec::new(), String::new());
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            is_fenced = !is_fenced;
            continue;
        }
        if !is_fenced && !line.starts_with("    ") {
            continue;
        }
        match line.trim().strip_suffix('\\') {
            Some(part) => begun.push_str(part),
            None => code.push((number + 1, std::mem::take(&mut begun) + line.trim())),
        }
    }
    code
}

/// The words of a line, as a shell finds them: up to a comment or another command.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(end), _) if c == end => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            (None, '#') if word.is_none() => break,
            (_, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    let end = words.iter().position(|word| ENDS.contains(&word.as_str()));
    words.truncate(end.unwrap_or(words.len()));
    words
}

/// The arguments of Panoptes in a line that calls it, with the program's name.
fn arguments(line: &str) -> Option<Vec<String>> {
    let mut words = words(line.trim_start_matches("$ "));
    if words.first().is_some_and(|word| word == "sudo") {
        let has_user = words.get(1).is_some_and(|word| word == "-u");
        words.drain(..if has_user { words.len().min(3) } else { 1 });
    }
    (words.first()? == "panoptes").then_some(words)
}

#[test]
fn every_command_of_the_documents_has_arguments_that_the_program_takes() {
    let mut paths = Vec::new();
    documents(Path::new(ROOT), &mut paths);
    let mut commands = 0;
    for path in paths {
        let text = fs::read_to_string(&path).expect("the document is text");
        for (number, line) in code(&text) {
            let Some(arguments) = arguments(&line) else { continue };
            commands += 1;
            if let Err(error) = Arguments::try_parse_from(&arguments) {
                let path = path.display();
                assert!(!error.use_stderr(), "{path}:{number}: {line}\n{error}");
            }
        }
    }
    assert!(commands > 30, "too few commands: {commands}");
}

#[test]
fn commands_are_found_in_blocks_and_read_as_a_shell_reads_them() {
    let text =
        "panoptes a\n\n    panoptes b  # c\n\n```sh\nsudo -u x panoptes c \\\n  'd e' | f\n```\n";
    let commands: Vec<_> = code(text).iter().filter_map(|(_, line)| arguments(line)).collect();
    assert_eq!(commands, [vec!["panoptes", "b"], vec!["panoptes", "c", "d e"]]);
    assert_eq!(arguments("sudo panoptes doctor").unwrap_or_default(), ["panoptes", "doctor"]);
    assert_eq!(arguments("cargo build"), None);
}
