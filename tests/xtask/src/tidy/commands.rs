//! Commands of the documents can be pasted whole: what explains them is behind `#`.

use super::files;

/// Programs whose commands are checked.
const PROGRAMS: [&str; 4] = ["cargo", "panoptes", "sudo", "systemctl"];

/// A command with words behind it that a shell would take for arguments.
fn has_bare_words(line: &str) -> bool {
    let line = line.trim();
    if !PROGRAMS.contains(&line.split(' ').next().unwrap_or_default()) {
        return false;
    }
    let command = line.split(" #").next().unwrap_or_default().trim_end();
    command.contains("  ")
}

#[test]
fn commands_can_be_pasted_whole() {
    let (mut count, mut found) = (0, Vec::new());
    for (path, text) in files(&["md"]) {
        for (number, line) in text.lines().enumerate().filter(|(_, line)| line.starts_with("    "))
        {
            count += usize::from(line.contains(" # "));
            if has_bare_words(line) {
                found.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert!(count > 40, "too few explained commands: {count}");
    assert!(found.is_empty(), "put what explains a command behind #: {found:#?}");
}

#[test]
fn words_behind_a_command_are_found() {
    assert!(has_bare_words("    cargo xtask demo      boot a guest"));
    assert!(!has_bare_words("    cargo xtask demo      # boot a guest"));
    assert!(!has_bare_words("    panoptes scan memory.lime"));
    assert!(!has_bare_words("    what is  not a command"));
}
