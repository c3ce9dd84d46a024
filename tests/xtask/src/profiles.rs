//! `cargo xtask profiles`: regenerates the built-in profiles from the kernels' own packages.
//!
//! No guest is booted: a kernel's `vmlinuz` contains everything needed. Run it when a decoder needs
//! a field that the tables lack. Until then, the offsets found in memory replace such a table.

use std::path::{Path, PathBuf};
use std::process::Command;

use panoptes_rig::{Flavor, Kernel};

use crate::program;

pub(crate) const USAGE: &str = "\
  profiles [KERNEL]…
        regenerates the built-in profiles in profiles/tables for all kernels that the rig knows,
        or adds those named (6.1, 6.12-cloud)
";

pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let text = |e: panoptes_rig::Error| e.to_string();
    let wanted = if arguments.is_empty() {
        Flavor::ALL.to_vec()
    } else {
        let found = arguments.iter().map(|name| Flavor::from_name(name)).collect::<Result<_, _>>();
        found.map_err(text)?
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = root.join("profiles/tables");
    let program = program::build()?;
    let before = tables(&folder)?;
    let (mut made, mut failed) = (Vec::new(), Vec::new());
    for flavor in wanted {
        match build(&program, flavor, &folder) {
            Ok(path) => made.push(path),
            Err(why) => {
                println!("{}: {why}", flavor.name());
                failed.push(flavor.name());
            }
        }
    }
    if arguments.is_empty() && failed.is_empty() {
        // Kernels that their distribution has replaced: their tables cannot be made again.
        for old in before.iter().filter(|path| !made.contains(path)) {
            println!("removing {}", old.display());
            std::fs::remove_file(old).map_err(|e| format!("{}: {e}", old.display()))?;
        }
    }
    println!("profiles: {} made", made.len());
    if failed.is_empty() { Ok(()) } else { Err(format!("no profile for {}", failed.join(", "))) }
}

fn build(program: &Path, flavor: Flavor, folder: &Path) -> Result<PathBuf, String> {
    let kernel = Kernel::obtain(flavor).map_err(|e| e.to_string())?;
    let table = folder.join(format!("{}.json", kernel.release()));
    let output = Command::new(program)
        .args(["profile", "build"])
        .arg(kernel.image())
        .arg("-o")
        .arg(&table)
        .output()
        .map_err(|e| format!("cannot start {}: {e}", program.display()))?;
    if output.status.success() {
        println!("{}: {}", flavor.name(), table.display());
        Ok(table)
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

fn tables(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    Ok(paths.filter(|path| path.extension().is_some_and(|end| end == "json")).collect())
}
