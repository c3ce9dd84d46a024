//! The program that commands run: `panoptes` as users have it.

use std::path::PathBuf;

use panoptes_rig::product;

use crate::cargo;

/// The program that [`product::VARIABLE`] names, else the one built for release.
pub(crate) fn obtain() -> Result<PathBuf, String> {
    std::env::var_os(product::VARIABLE).map_or_else(build, |path| Ok(path.into()))
}

/// Builds the program for release.
pub(crate) fn build() -> Result<PathBuf, String> {
    eprintln!("xtask: building panoptes …");
    let mut command = cargo::command();
    command.args(["build", "--release", "--package", "panoptes"]);
    cargo::program(command, "bin", "panoptes")
}
