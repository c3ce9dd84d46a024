//! Recorded images: the pages of real kernels that a scan reads, for tests, benches and fuzzing.
//!
//! Made on demand from guests of the rig and kept in the user's cache folder; never committed.

use std::path::{Path, PathBuf};

use panoptes_rig::{Flavor, Guest, GuestSpec, Kernel, cache, death, setup};

use crate::cargo::example;

pub(crate) fn run() -> Result<(), String> {
    setup::ensure()?;
    record_all()
}

/// An image, its kernel, and the agent's command that loads the guest.
const IMAGES: &[(&str, Flavor, &str)] = &[
    ("5.10", Flavor::V5_10, "zoo"),
    ("6.1-loaded", Flavor::V6_1, "load processes=100 threads=5 fds=50 areas=50 connections=5"),
    ("7", Flavor::V7, "zoo"),
];

/// The folder where tests find images.
pub(crate) fn folder() -> Result<PathBuf, String> {
    Ok(cache::folder("recorded")?)
}

/// Records all images again: the pages that a scan reads change with the code that scans.
pub(crate) fn record_all() -> Result<(), String> {
    let folder = folder()?;
    remove_others(&folder)?;
    for (name, flavor, work) in IMAGES {
        let image = folder.join(format!("{name}.image"));
        println!("== recording {}", image.display());
        record(*flavor, work, &image)?;
    }
    Ok(())
}

/// Removes images that are no longer made: tests use every image that they find.
fn remove_others(folder: &Path) -> Result<(), String> {
    for path in cache::list(folder)? {
        let is_ours =
            |(name, ..): &(&str, Flavor, &str)| path.file_stem().is_some_and(|stem| stem == *name);
        if !IMAGES.iter().any(is_ours) {
            std::fs::remove_file(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        }
    }
    Ok(())
}

/// Records one image of a guest after the agent has run `work`.
pub(crate) fn record(flavor: Flavor, work: &str, image: &Path) -> Result<(), String> {
    let kernel = Kernel::obtain(flavor)?;
    death::survive(|| {
        let mut guest = Guest::boot(&GuestSpec::new(kernel.clone()))?;
        guest.agent(work)?;
        guest.pause()?;
        example("record", &[guest.ram_path(), image])
    })
}
