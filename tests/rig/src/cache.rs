//! The user's cache folder, in which the rig keeps what it downloads and builds.
//!
//! Not for files that must survive: `setup` can make every file here again.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The rig's own folder: `$XDG_CACHE_HOME/panoptes`, or `~/.cache/panoptes`.
pub fn root() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME") {
        Some(dir) if !dir.is_empty() => PathBuf::from(dir),
        _ => match std::env::var_os("HOME") {
            Some(home) if !home.is_empty() => PathBuf::from(home).join(".cache"),
            _ => {
                return Err(Error::new(
                    "no cache folder: neither XDG_CACHE_HOME nor HOME is set; set one of them",
                ));
            }
        },
    };
    Ok(base.join("panoptes"))
}

/// A folder below the root, created if it is missing.
pub fn folder(name: &str) -> Result<PathBuf> {
    let path = root()?.join(name);
    create(&path)?;
    Ok(path)
}

/// Creates `path` and its parents.
pub fn create(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(|e| Error::io("create the folder", path, &e))
}

pub fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| Error::io("read", path, &e))
}

/// Writes a whole file atomically: a reader sees all of it or nothing.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let partial = path.with_extension(format!("partial-{}", std::process::id()));
    std::fs::write(&partial, bytes).map_err(|e| Error::io("write", &partial, &e))?;
    std::fs::rename(&partial, path).map_err(|e| Error::io("rename into place", path, &e))
}
