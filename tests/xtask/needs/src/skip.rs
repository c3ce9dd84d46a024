//! What a test prints where it cannot run: `skipped: TEST needs NEED (what it is for)`.
//!
//! `cargo xtask test` counts these lines and prints them at its end.

use std::fmt::Display;
use std::io::Write as _;
use std::process::Command;

use crate::{Kind, Need, check};

/// How such a line begins.
pub const MARK: &str = "skipped: ";

/// The row of what a test needs.
///
/// # Panics
///
/// The table has no such row, or tests do not see what it has.
#[track_caller]
fn row(name: &str) -> &'static Need {
    let need = Need::named(name);
    assert!(need.user.is_seen_by_tests(), "{name} is hidden from tests: {:?}", need.user);
    need
}

/// Whether this machine has something; if not, prints that this test is skipped.
///
/// # Panics
///
/// The table has no such row for tests, or the row is of a feature, which the test itself has to
/// try.
#[track_caller]
pub fn has(name: &str) -> bool {
    let need = row(name);
    assert_ne!(need.kind, Kind::Feature, "{name}: try it, and call `skip::test`");
    let is_met = match need.kind {
        // A test calls it by its name.
        Kind::Program => check::on_path(name).is_some(),
        _ => need.is_met(),
    };
    if !is_met {
        test(name);
    }
    is_met
}

/// Whether this process may make a network namespace; if not, prints that this test is skipped.
#[track_caller]
pub fn can_make_networks() -> bool {
    can_unshare("--net", "network namespaces")
}

/// The same for a mount namespace, in which it may mount.
#[track_caller]
pub fn can_mount() -> bool {
    can_unshare("--mount", "mount namespaces")
}

#[track_caller]
fn can_unshare(option: &str, name: &str) -> bool {
    let tried = Command::new("unshare").args([option, "true"]).output();
    let reason = match tried {
        Ok(tried) if tried.status.success() => return true,
        Ok(tried) => String::from_utf8_lossy(&tried.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    test_for(name, reason);
    false
}

/// Prints that this test is skipped, for it lacks something.
///
/// # Panics
///
/// The table has no such row.
#[track_caller]
pub fn test(name: &str) {
    test_for(name, "");
}

/// The same, with what went wrong, such as the error of a system call.
#[track_caller]
pub fn test_for(name: &str, reason: impl Display) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    print(test, name, reason);
}

/// The same for a test of another name than that of its thread.
#[track_caller]
pub fn print(test: &str, name: &str, reason: impl Display) {
    let need = row(name);
    let reason = reason.to_string();
    let reason = if reason.is_empty() { reason } else { format!(": {reason}") };
    let line = format!("{MARK}{test} needs {name} ({}){reason}\n", need.purpose);
    // Not `eprint!`, whose text libtest captures. One write, so that no other line is in between.
    let _ = std::io::stderr().write_all(line.as_bytes());
}
