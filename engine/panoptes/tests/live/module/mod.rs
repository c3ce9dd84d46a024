//! A kernel module of the tests, built on the host with the headers of a guest's kernel.

use std::path::{Path, PathBuf};

use panoptes_rig::{Flavor, kernel_module};

/// A module that hides a process.
pub(crate) const HIDE: (&str, &str) = ("hide", include_str!("hide.c"));
/// One that answers at a port, without a socket.
pub(crate) const ANSWER: (&str, &str) = ("answer", include_str!("answer.c"));
/// One that hides itself.
pub(crate) const VANISH: (&str, &str) = ("vanish", include_str!("vanish.c"));

/// Builds a module in `folder`, from its name and source.
pub(crate) fn make(flavor: Flavor, folder: &Path, (name, source): (&str, &str)) -> PathBuf {
    let file = format!("{name}.c");
    let modules = kernel_module::build(flavor, folder, &[(file.as_str(), source)]);
    modules.unwrap().join(format!("{name}.ko"))
}
