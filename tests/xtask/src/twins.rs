//! `cargo xtask twins`: runs harmless twins of detected activity for a while; no alert may occur.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use panoptes_rig::Flavor;
use panoptes_rig::scenarios::twins::{self, TwinChoice};

use crate::program;

/// Runs everyday work in a guest, over and over, while Panoptes watches it every 10 ms
///
/// The work is logins, compilers, web servers, databases, containers, language runtimes, upgrades …
/// Prints how often each ran, the number of records, and every alert: there must be none.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// List the twins instead
    #[arg(long)]
    list: bool,
    /// How long the twins run
    #[arg(long, value_name = "N", default_value_t = 60)]
    minutes: u64,
    /// Kernel of the guest
    #[arg(long, value_name = "NAME", default_value = "6.1", value_parser = Flavor::from_name)]
    kernel: Flavor,
    /// Write all records to this folder
    #[arg(long, value_name = "DIR")]
    log_folder: Option<PathBuf>,
    /// Names of twins; all by default
    names: Vec<String>,
}

pub(crate) fn run(options: Options) -> Result<(), String> {
    if options.list {
        for twin in twins::all()? {
            println!("{:<13} {}", twin.name, twin.about);
        }
        return Ok(());
    }
    let choice = TwinChoice {
        flavor: options.kernel,
        names: options.names,
        time: Duration::from_mins(options.minutes),
        log_folder: options.log_folder,
        sbom: false,
        attacks: &[],
    };
    let report = twins::run(&choice, &program::obtain()?, |line| eprintln!("twins: {line}"))?;
    println!("{}", report.table());
    if report.is_good() {
        Ok(())
    } else {
        Err("there were alerts, or a twin never ran; see above".into())
    }
}
