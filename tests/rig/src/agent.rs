//! Compiles the agent, whose sources are in `tests/agent`, for use as a guest's init.

use std::path::{Path, PathBuf};
use std::process::Command;

use panoptes_needs::check;

use crate::cache;
use crate::command;
use crate::error::{Error, Result};
use crate::flavor::Architecture;

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../agent");

/// Compiles the agent, once for each version of its sources, and returns the program's path.
pub(crate) fn build(architecture: Architecture) -> Result<PathBuf> {
    check::require(architecture.agent_needs()).map_err(Error::new)?;
    let folder = cache::folder("agent")?.join(architecture.debian());
    cache::create(&folder)?;
    let target = folder.join("agent");
    let stamp = folder.join("sources");
    let sources: Vec<PathBuf> = cache::list(Path::new(SOURCES))?
        .into_iter()
        .filter(|path| ["c", "h"].iter().any(|extension| cache::has_extension(path, extension)))
        .collect();
    let texts: Vec<_> = sources.iter().map(|path| cache::read(path)).collect::<Result<_>>()?;
    let all = texts.join(&b'\n');
    if target.exists() && cache::read(&stamp).is_ok_and(|old| old == all) {
        return Ok(target);
    }
    let made = folder.join(format!("build-{}", std::process::id()));
    command::output(
        Command::new(architecture.compiler())
            .args(["-static", "-O2", "-std=gnu11", "-Wall", "-Wextra", "-Werror"])
            // Names are cut on purpose; a workload's own failures are reported where they matter.
            .args(["-Wno-format-truncation", "-Wno-unused-result", "-o"])
            .arg(&made)
            .args(sources.iter().filter(|path| cache::has_extension(path, "c"))),
    )?;
    cache::rename(&made, &target)?;
    cache::write(&stamp, &all)?;
    Ok(target)
}
