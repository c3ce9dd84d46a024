//! `cargo xtask shells`: tests the records of shell history with every common bash.

use std::path::PathBuf;

use clap::Args;
use panoptes_rig::Flavor;
use panoptes_rig::scenarios::shells;

use crate::scenarios;

/// Runs the scenarios of shell history (H01 …) in a guest with bashes of Debian's releases, dynamic
/// and static, one built with musl, and one with the system's readline
///
/// Compares Panoptes' records with bash's own history. Other roots in the cache folder
/// (shells/NAME/bin/bash) are tested as well.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Kernel of the guest
    #[arg(long, value_name = "NAME", default_value = "6.1", value_parser = Flavor::from_name)]
    kernel: Flavor,
    /// Write all records to this folder
    #[arg(long, value_name = "DIR")]
    log_folder: Option<PathBuf>,
    /// A folder with bash's source (any release), built in each of these ways, too; may be repeated
    #[arg(long = "source", value_name = "DIR")]
    sources: Vec<PathBuf>,
    /// The beginning of a row's id (H03) or of a build's name (debian-5.3)
    names: Vec<String>,
}

pub(crate) fn run(options: Options) -> Result<(), String> {
    let mut choice = shells::choice(options.kernel, &options.names, &options.sources)?;
    choice.log_folder = options.log_folder;
    scenarios::play(choice, &[options.kernel], false)
}
