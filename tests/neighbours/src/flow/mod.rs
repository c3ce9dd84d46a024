//! What strangers, clients, storage and operators cost a sensor of flows (`--flow`).
//!
//! The real program audits a network of its own. A neighbour that behaves sends conversations whose
//! flows are known: at first alone, then beside everything hostile at once. The second run must
//! lose nothing that the first one keeps, and the records must have each loss.
//!
//! Not here: [`ELSEWHERE`].

mod clients;
mod exports;
mod judge;
mod network;
mod operator;
mod quiet;
mod records;
mod run;
mod senders;
mod sensor;

use std::path::Path;
use std::time::Duration;

use run::Run;

/// What cannot be made in a network of its own, and what shows it.
pub(crate) const ELSEWHERE: &[(&str, &str)] = &[
    (
        "steps of the clock, which all programs of a machine share",
        "tests of engine/panoptes/src/flow/clocks.rs and of engine/flow/src/clock.rs",
    ),
    ("a disk whose system calls never return", "tests of sinks/src/flow/output/background.rs"),
];

/// The program to measure, the length of the runs, and the hostile load.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) program: &'a Path,
    pub(crate) folder: &'a Path,
    /// Length of each of both runs.
    pub(crate) time: Duration,
    /// Packets of all hostile senders a second.
    pub(crate) rate: u32,
}

/// Runs both; returns whether all bounds hold.
pub(crate) fn measure(plan: &Plan<'_>) -> Result<bool, String> {
    network::enter()?;
    let senders: Vec<_> = senders::KINDS.iter().map(|kind| kind.name).collect();
    println!("senders: {}; mirrored datagrams", senders.join(", "));
    let mut bounds = Vec::new();
    for (name, is_hostile) in [("alone", false), ("beside", true)] {
        eprintln!("neighbours: {name}, for {} s …", plan.time.as_secs());
        let run = Run::perform(plan, name, is_hostile)?;
        println!("{name}: {}", run.summary());
        bounds.extend(judge::bounds(name, &run, plan)?);
    }
    for bound in &bounds {
        let state = if bound.holds { "holds " } else { "MISSED" };
        println!("{state} {}: {}", bound.name, bound.figures);
    }
    for (what, shown) in ELSEWHERE {
        println!("not here: {what}; but {shown}");
    }
    Ok(bounds.iter().all(|bound| bound.holds))
}
