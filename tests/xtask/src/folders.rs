//! Folders of the repository.

use std::path::{Path, PathBuf};

use panoptes_rig::cache;

/// The root of the repository.
pub(crate) const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Creates the next numbered folder in the folder `name` of the build folder.
pub(crate) fn numbered(name: &str) -> Result<PathBuf, String> {
    let all = Path::new(ROOT).join("target").join(name);
    cache::create(&all)?;
    let all = all.canonicalize().map_err(|e| format!("{}: {e}", all.display()))?;
    (1..10_000)
        .map(|number| all.join(format!("{number:04}")))
        .find(|folder| std::fs::create_dir(folder).is_ok())
        .ok_or_else(|| format!("{} is full of folders", all.display()))
}
