//! `cargo xtask metrics`: the dashboard and the alert rules in a real Prometheus.
//!
//! The test itself is engine/panoptes/tests/prometheus.rs. Here is only Prometheus, from Debian's
//! package in the cache.

use panoptes_rig::package;

use crate::cargo;

/// The folder of Prometheus' programs, for the test.
const PROMETHEUS: &str = "PANOPTES_PROMETHEUS";
const PROGRAMS: &str = "usr/bin";

pub(crate) fn run() -> Result<(), String> {
    let root = package("prometheus", "usr/bin/prometheus")?;
    let mut test = cargo::command();
    test.args(["test", "--package", "panoptes", "--test", "prometheus", "--", "--nocapture"]);
    let holds = cargo::succeeds(test.env(PROMETHEUS, root.join(PROGRAMS)))?;
    holds.then_some(()).ok_or_else(|| "a query or a rule is wrong; see above".to_owned())
}
