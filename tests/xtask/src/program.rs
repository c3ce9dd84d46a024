//! The `panoptes` program as installed: built for release.

use std::path::PathBuf;

use crate::cargo;

/// Builds the program for release.
pub(crate) fn build() -> Result<PathBuf, String> {
    eprintln!("xtask: building panoptes …");
    let mut command = cargo::command();
    cargo::program(command.args(["build", "--release", "--package", "panoptes"]), "bin", "panoptes")
}
