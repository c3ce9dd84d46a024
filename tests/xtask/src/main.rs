//! Developers' commands: `cargo xtask COMMAND`.
//!
//! Each command has a file of its own and a variant of [`Command`]. Not for users of Panoptes:
//! nothing here is installed.

use std::process::ExitCode;

use clap::Parser;

mod arm64;
mod before_after;
mod bench;
mod bindings;
mod boots;
mod busy;
mod captures;
mod cargo;
mod chart;
mod churn;
mod compiled_tool;
mod copies;
mod cost;
mod delivery;
mod demo;
mod docs;
mod flame;
mod flow_live;
mod flow_speed;
mod flow_threads;
mod folders;
mod fresh;
mod fuzz;
mod glibc;
mod guest;
mod hashes;
mod hidden;
mod human;
mod image;
mod install;
mod integrity;
mod kernels;
mod limits;
mod live;
mod machine;
mod metrics;
mod neighbours;
mod package;
#[cfg(test)]
mod packaging;
mod panics;
mod peers;
mod picture;
mod platform;
mod plots;
mod processes;
mod profiles;
mod program;
mod queue;
mod races;
mod recorded;
mod release;
mod results;
mod scenarios;
mod scripts;
mod setup;
mod shells;
mod silence;
mod skips;
mod stages;
mod tables;
#[cfg(feature = "tamper")]
mod tamper;
#[cfg(not(feature = "tamper"))]
#[path = "untampered.rs"]
mod tamper;
mod test;
mod test_programs;
#[cfg(test)]
mod tidy;
mod twins;

/// Developers' commands
#[derive(Debug, Parser)]
#[command(name = "xtask", bin_name = "cargo xtask", max_term_width = 100)]
enum Command {
    Demo(demo::Options),
    Test(test::Options),
    Kernels(kernels::Options),
    Hashes(hashes::Options),
    Scenarios(scenarios::Options),
    Shells(shells::Options),
    /// Runs sixty ways to a shell in guests: each must be reported once, a second after its first
    /// command at the latest
    Ways(tables::Options),
    /// Runs fifty acts of administration in guests: each path that changes must be reported once
    Acts(tables::Options),
    Twins(twins::Options),
    Churn(churn::Options),
    Copies(copies::Options),
    Boots(boots::Options),
    Races(races::Options),
    Neighbours(neighbours::Options),
    Delivery(delivery::Options),
    /// Runs the dashboard's queries and the alert rules in a real Prometheus over our metrics
    Metrics,
    Bench(bench::Options),
    Captures(captures::Options),
    Cost(cost::Options),
    /// Makes docs/records.md, docs/configuration.md and docs/flow-options.md anew, from the tables
    /// of the code, docs/limits.md from docs/limits.txt, and the images as `plots` does
    Docs,
    Fresh(fresh::Options),
    Fuzz(fuzz::Options),
    Guest(guest::Options),
    /// Builds the Debian package, and checks it by lintian where that is installed
    Package,
    Install(install::Options),
    Integrity(integrity::Options),
    /// Tests what survives panics, in an optimised program that panics on purpose
    Panics,
    /// Builds the container image by its recipe with podman, and runs it
    Image,
    Arm64(arm64::Options),
    /// Draws docs/images again, from the tables of docs/performance and the stacks beside the flame
    /// graph; measures nothing
    Plots,
    Release(release::Options),
    Profiles(profiles::Options),
    /// Records the images that plain `cargo test`, the benches and the fuzz targets use
    Record,
    /// Regenerates engine/sources/src/doca/bindings.rs from engine/sources/doca (needs bindgen 0.72
    /// and libclang)
    Bindings,
    /// Installs what guests need and fetches every kernel; later runs need no network
    Setup,
    #[command(hide = true)]
    Inside(machine::Inside),
}

fn main() -> ExitCode {
    // An empty error was already printed.
    let done = match Command::parse() {
        Command::Demo(options) => demo::run(options),
        Command::Test(options) => test::run(&options),
        Command::Kernels(options) => kernels::run(&options),
        Command::Hashes(options) => hashes::run(&options),
        Command::Scenarios(options) => scenarios::run(options),
        Command::Shells(options) => shells::run(options),
        Command::Ways(options) => tables::ways(options),
        Command::Acts(options) => tables::acts(options),
        Command::Twins(options) => twins::run(options),
        Command::Churn(options) => churn::run(&options),
        Command::Copies(options) => copies::run(&options),
        Command::Boots(options) => boots::run(&options),
        Command::Races(options) => races::run(&options),
        Command::Neighbours(options) => neighbours::run(&options),
        Command::Delivery(options) => delivery::run(&options),
        Command::Metrics => metrics::run(),
        Command::Bench(options) => bench::run(&options),
        Command::Captures(options) => captures::run(&options),
        Command::Cost(options) => cost::run(&options),
        Command::Docs => docs::run(),
        Command::Fresh(options) => fresh::run(&options),
        Command::Fuzz(options) => fuzz::run(options),
        Command::Guest(options) => guest::run(options),
        Command::Package => package::run(),
        Command::Install(options) => install::run(&options),
        Command::Integrity(options) => integrity::run(&options),
        Command::Panics => panics::run(),
        Command::Image => image::run(),
        Command::Arm64(options) => arm64::run(&options),
        Command::Plots => plots::run(),
        Command::Release(options) => release::run(&options),
        Command::Profiles(options) => profiles::run(options),
        Command::Record => recorded::run(),
        Command::Bindings => bindings::run(),
        Command::Setup => setup::run(),
        Command::Inside(options) => machine::inside(&options),
    };
    for death in panoptes_rig::death::deaths() {
        eprintln!("died: a guest with {death}");
    }
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            if !message.is_empty() {
                eprintln!("xtask: {message}");
            }
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn every_command_is_sound() {
        super::Command::command().debug_assert();
    }
}
