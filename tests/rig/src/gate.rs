//! Decides whether tests that boot guests run.
//!
//! Booting takes an emulator, packages and time, so a plain `cargo test` does without;
//! `cargo xtask test` sets `PANOPTES_RIG=1`.

use std::io::Write as _;

/// The variable that lets tests boot guests.
pub const VARIABLE: &str = "PANOPTES_RIG";

/// Whether guests may be booted. Says on stderr which test is skipped otherwise.
pub fn enabled(test: &str) -> bool {
    if std::env::var_os(VARIABLE).is_some_and(|value| value == "1") {
        return true;
    }
    // Written past the test harness, which would swallow the words of a test that passes.
    let _ = writeln!(
        std::io::stderr(),
        "skipped: {test} boots a guest; set {VARIABLE}=1, or run `cargo xtask test`"
    );
    false
}
