//! `cargo xtask profiles`: regenerates the built-in profiles from the kernels' own packages.
//!
//! No guest is booted: a kernel's `vmlinuz` contains everything needed. Run it when a decoder needs
//! a field that the tables lack. Until then, the offsets found in memory replace such a table.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use panoptes_rig::{Flavor, Kernel, cache, output};

use crate::folders::ROOT;
use crate::program;

/// Regenerates the built-in profiles in profiles/tables
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Kernels whose profiles are added (6.1, 6.12-cloud); by default all profiles are regenerated
    #[arg(value_parser = Flavor::from_name)]
    kernels: Vec<Flavor>,
}

pub(crate) fn run(options: Options) -> Result<(), String> {
    let is_all = options.kernels.is_empty();
    let wanted = if is_all { Flavor::ALL.to_vec() } else { options.kernels };
    let folder = Path::new(ROOT).join("profiles/tables");
    let program = program::build()?;
    let mut before = cache::list(&folder)?;
    before.retain(|path| cache::has_extension(path, "json"));
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
    if is_all && failed.is_empty() {
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
    let kernel = Kernel::obtain(flavor)?;
    let table = folder.join(format!("{}.json", kernel.release()));
    let mut build = Command::new(program);
    output(build.args(["profile", "build"]).arg(kernel.image()).arg("-o").arg(&table))?;
    println!("{}: {}", flavor.name(), table.display());
    Ok(table)
}
