//! Decides whether live tests run that take too long for every day.

/// The variable that lets them run.
pub const VARIABLE: &str = "PANOPTES_LONG";

/// Whether tests run that take long. Prints which test is skipped otherwise, and what it does.
pub fn is_long_allowed(test: &str, what: &str) -> bool {
    is_set(VARIABLE, test, what)
}

/// The same for tests that emulate arm64, with a variable of their own.
pub fn is_arm64_allowed(test: &str) -> bool {
    is_set("PANOPTES_RIG_ARM64", test, "takes a minute")
}

fn is_set(variable: &str, test: &str, what: &str) -> bool {
    let is_set = std::env::var_os(variable).is_some_and(|value| value == "1");
    if !is_set {
        // `cargo xtask test` looks for this word.
        println!("skipped: {test} {what}; set {variable}=1");
    }
    is_set
}
