//! The user's cache folder, in which the rig keeps what it downloads and builds.
//!
//! Not for files that must survive: `setup` can make every file here again.

use std::ops::Deref;
use std::path::{Path, PathBuf};

use panoptes_needs::check;

use crate::error::{Error, Result};

/// The rig's own folder: `$XDG_CACHE_HOME/panoptes`, or `~/.cache/panoptes`.
pub fn root() -> Result<PathBuf> {
    check::cache_folder().ok_or_else(|| {
        Error::new("no cache folder: neither XDG_CACHE_HOME nor HOME is set; set one of them")
    })
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

/// The paths in a folder, in the order of their names.
pub fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |e| Error::io("list the folder", folder, &e);
    let entries = std::fs::read_dir(folder).map_err(failed)?;
    let paths: std::io::Result<Vec<_>> = entries.map(|entry| Ok(entry?.path())).collect();
    let mut paths = paths.map_err(failed)?;
    paths.sort();
    Ok(paths)
}

/// Whether a path ends with `.` and this extension.
pub fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}

/// Removes a folder, if it exists.
pub fn remove(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", folder, &e)),
        _ => Ok(()),
    }
}

pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    std::fs::rename(from, to).map_err(|e| Error::io("rename into place", to, &e))
}

/// Copies a file; the folder of the copy is created if it is missing.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    create(to.parent().unwrap_or(to))?;
    std::fs::copy(from, to).map(drop).map_err(|e| Error::io("copy", from, &e))
}

pub(crate) fn symlink(target: &str, path: &Path) -> Result<()> {
    std::os::unix::fs::symlink(target, path).map_err(|e| Error::io("make the link", path, &e))
}

pub fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| Error::io("read", path, &e))
}

/// Writes a whole file atomically: a reader sees all of it or nothing.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let partial = path.with_extension(format!("partial-{}", std::process::id()));
    std::fs::write(&partial, bytes).map_err(|e| Error::io("write", &partial, &e))?;
    rename(&partial, path)
}

/// An empty folder, removed on drop.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(path: PathBuf) -> Result<Self> {
        remove(&path)?;
        create(&path)?;
        Ok(Self(path))
    }

    /// A folder for this process in the folder `name` of the cache.
    pub(crate) fn of_process(name: &str) -> Result<Self> {
        let all = folder(name)?;
        remove_left_behind(&all)?;
        Self::new(all.join(std::process::id().to_string()))
    }
}

impl Deref for Scratch {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Removes the folders of processes that were killed before they could do so. Their names begin
/// with the process's id.
pub(crate) fn remove_left_behind(all: &Path) -> Result<()> {
    for path in list(all)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let owner = name.split('-').next().unwrap_or_default();
        if owner.parse::<u32>().is_ok() && !Path::new("/proc").join(owner).exists() {
            let _ = std::fs::remove_dir_all(&path);
        }
    }
    Ok(())
}
