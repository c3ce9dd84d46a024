//! Compiles the agent, whose sources are in `tests/agent`, for use as a guest's init.

use std::path::PathBuf;
use std::process::Command;

use crate::cache;
use crate::command;
use crate::error::{Error, Result};
use crate::flavor::Architecture;

/// The agent's sources; a file that is not listed here is not part of it.
const AGENT_SOURCES: &[(&str, &str)] = &[
    ("agent.c", include_str!("../../agent/agent.c")),
    ("agent.h", include_str!("../../agent/agent.h")),
    ("background.c", include_str!("../../agent/background.c")),
    ("boot.c", include_str!("../../agent/boot.c")),
    ("files.c", include_str!("../../agent/files.c")),
    ("load.c", include_str!("../../agent/load.c")),
    ("netlink.c", include_str!("../../agent/netlink.c")),
    ("netlink.h", include_str!("../../agent/netlink.h")),
    ("out.c", include_str!("../../agent/out.c")),
    ("proc.c", include_str!("../../agent/proc.c")),
    ("proc.h", include_str!("../../agent/proc.h")),
    ("shell.c", include_str!("../../agent/shell.c")),
    ("tour.c", include_str!("../../agent/tour.c")),
    ("truth.c", include_str!("../../agent/truth.c")),
    ("truth.h", include_str!("../../agent/truth.h")),
    ("truth_containers.c", include_str!("../../agent/truth_containers.c")),
    ("truth_files.c", include_str!("../../agent/truth_files.c")),
    ("truth_memory.c", include_str!("../../agent/truth_memory.c")),
    ("truth_modules.c", include_str!("../../agent/truth_modules.c")),
    ("truth_network.c", include_str!("../../agent/truth_network.c")),
    ("truth_process.c", include_str!("../../agent/truth_process.c")),
    ("workload.c", include_str!("../../agent/workload.c")),
    ("workload.h", include_str!("../../agent/workload.h")),
    ("zoo.c", include_str!("../../agent/zoo.c")),
    ("zoo_containers.c", include_str!("../../agent/zoo_containers.c")),
    ("zoo_files.c", include_str!("../../agent/zoo_files.c")),
    ("zoo_kinds.c", include_str!("../../agent/zoo_kinds.c")),
    ("zoo_memory.c", include_str!("../../agent/zoo_memory.c")),
    ("zoo_overlay.c", include_str!("../../agent/zoo_overlay.c")),
    ("zoo_phantoms.c", include_str!("../../agent/zoo_phantoms.c")),
    ("zoo_processes.c", include_str!("../../agent/zoo_processes.c")),
    ("zoo_sockets.c", include_str!("../../agent/zoo_sockets.c")),
];

/// Compiles the agent, once for each version of its sources, and returns the program's path.
pub(crate) fn build(architecture: Architecture) -> Result<PathBuf> {
    let folder = cache::folder("agent")?.join(architecture.debian());
    cache::create(&folder)?;
    let target = folder.join("agent");
    let stamp = folder.join("sources");
    let all: Vec<&str> = AGENT_SOURCES.iter().flat_map(|(name, text)| [*name, *text]).collect();
    let all = all.join("\n");
    if target.exists() && std::fs::read_to_string(&stamp).is_ok_and(|old| old == all) {
        return Ok(target);
    }
    let scratch = folder.join(format!("build-{}", std::process::id()));
    cache::create(&scratch)?;
    for (name, text) in AGENT_SOURCES {
        cache::write(&scratch.join(name), text.as_bytes())?;
    }
    let units = AGENT_SOURCES.iter().map(|(name, _)| *name).filter(|name| !is_header(name));
    command::output(
        Command::new(architecture.compiler())
            .args(["-static", "-O2", "-std=gnu11", "-Wall", "-Wextra", "-Werror"])
            // Names are cut on purpose; a workload's own failures are reported where they matter.
            .args(["-Wno-format-truncation", "-Wno-unused-result", "-o", "agent"])
            .args(units)
            .current_dir(&scratch),
    )?;
    let made = scratch.join("agent");
    std::fs::rename(&made, &target).map_err(|e| Error::io("rename into place", &target, &e))?;
    cache::write(&stamp, all.as_bytes())?;
    std::fs::remove_dir_all(&scratch).map_err(|e| Error::io("remove", &scratch, &e))?;
    Ok(target)
}

/// Whether a source is included by others and not compiled.
fn is_header(name: &str) -> bool {
    std::path::Path::new(name).extension().is_some_and(|extension| extension == "h")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_of_the_agent_is_named() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../agent");
        let mut found: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .filter(|name| is_header(name) || name.strip_suffix(".c").is_some())
            .collect();
        found.sort();
        let named: Vec<&str> = AGENT_SOURCES.iter().map(|(name, _)| *name).collect();
        assert_eq!(named, found);
    }
}
