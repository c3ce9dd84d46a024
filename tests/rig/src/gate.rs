//! Decides whether live tests run that take too long for `cargo xtask test`.

use panoptes_needs::skip;

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

/// Whether somebody asks for the long tests.
pub(crate) fn is_long_asked() -> bool {
    is_one(VARIABLE)
}

fn is_set(variable: &str, test: &str, what: &str) -> bool {
    let is_set = is_one(variable);
    if !is_set {
        skip::print(test, variable, format_args!("{what}; set {variable}=1"));
    }
    is_set
}

fn is_one(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| value == "1")
}
