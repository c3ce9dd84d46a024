//! `cargo xtask panics`: what survives panics, in an optimised program as users have it. It differs
//! by the feature that provokes them, and lacks optimisation at link time, which takes minutes.
//!
//! `cargo xtask test` runs the same tests with the program of the tests. What can differ in an
//! optimised one is its profile, which the test `release_builds_unwind_and_have_no_failpoints`
//! checks. Not for every day: it builds for minutes.

use panoptes_rig::product;

use crate::cargo::{self, WORKSPACE};
use crate::{cost, results};

/// The tests whose program panics.
const TESTS: &str = "runtime_failures";

pub(crate) fn run() -> Result<(), String> {
    let program = cost::build_with_failpoints()?;
    let mut command = cargo::command();
    command.args(["test", "--test", TESTS]).args(WORKSPACE).env(product::VARIABLE, program);
    let count = results::tests(command)?;
    if count.failed == 0 && count.passed > 0 { Ok(()) } else { Err(format!("{TESTS} failed")) }
}
