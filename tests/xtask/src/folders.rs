//! Folders of the repository, and temporary ones.

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

/// A new folder for temporary files, which is removed at the end.
pub(crate) struct Temporary(pub(crate) PathBuf);

impl Temporary {
    /// Its name has that of what it is for, and the process's id.
    pub(crate) fn new(name: &str) -> Result<Self, String> {
        let path = std::env::temp_dir().join(format!("panoptes-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
