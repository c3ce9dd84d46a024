//! `cargo xtask captures`: anybody's captures, read by Panoptes and by others.

use std::path::PathBuf;
use std::process::Command;

use crate::{cargo, program};

/// Reads every capture below a folder with `panoptes flow` and, where they are installed, with
/// argus and tshark, and prints the differences by kind
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The folder
    folder: PathBuf,
    /// Print all examples of each kind of difference, and not three
    #[arg(long)]
    all: bool,
}

pub(crate) fn run(options: &Options) -> Result<(), String> {
    if !options.folder.is_dir() {
        return Err(format!("{} is no folder", options.folder.display()));
    }
    let panoptes = program::obtain()?;
    eprintln!("xtask: building the comparison …");
    let mut command = cargo::command();
    command.args(["build", "--package", "panoptes-traffic", "--bin", "compare_captures"]);
    let compare = cargo::program(command, "bin", "compare_captures")?;
    let mut command = Command::new(compare);
    command.arg(panoptes).arg(&options.folder).args(options.all.then_some("--all"));
    if cargo::succeeds(&mut command)? { Ok(()) } else { Err(String::new()) }
}
