//! A few scenarios of `cargo xtask scenarios`, every day: foreign activity is reported, its
//! harmless twins are not.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first thing that fails")]

use std::time::Duration;

use panoptes_rig::scenarios::{Choice, run};
use panoptes_rig::{Flavor, product};

/// One of each kind that takes little time.
const SLICE: &[&str] =
    &["F01", "F04", "F06", "F08t", "F10b", "F14", "P06", "P13", "R02", "R15b", "T06b"];

#[test]
#[ignore = "boots a guest"]
fn scenarios_in_6_1_are_reported_and_their_twins_are_not() {
    let names: Vec<String> = SLICE.iter().map(|name| (*name).to_owned()).collect();
    let mut choice = Choice::new(Flavor::V6_1, &names).unwrap();
    choice.scenarios.retain(|scenario| SLICE.contains(&scenario.id));
    assert_eq!(choice.scenarios.len(), SLICE.len());
    choice.quiet = Duration::from_millis(300);
    let report = run(&choice, &product::program().unwrap(), |_| ()).unwrap();
    println!("{}", report.table());
    assert!(report.is_good(), "\n{}", report.table());
}
