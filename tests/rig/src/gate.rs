//! Decides whether live tests run that take too long for `cargo xtask test`.

/// The variable that enables them.
pub const VARIABLE: &str = "PANOPTES_LONG";

/// Whether long tests run. If not, prints which test is skipped and what it does.
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
        // `cargo xtask test` searches for this word.
        println!("skipped: {test} {what}; set {variable}=1");
    }
    is_set
}
