//! Programs that commands run: `panoptes` as installed, and others for a limited time.

use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

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
    cargo::program(command.args(["build", "--release", "--package", "panoptes"]), "bin", "panoptes")
}

/// Waits until a program has ended; `None` if it still runs after `limit`.
pub(crate) fn wait(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let begin = Instant::now();
    loop {
        let status = child.try_wait()?;
        if status.is_some() || begin.elapsed() > limit {
            return Ok(status);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
