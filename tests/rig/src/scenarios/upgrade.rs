//! Packages that are upgraded while programs use their files.
//!
//! `dpkg -i`, the last step of `apt-get upgrade`, of Debian's own packages made newer: the same
//! files with one byte more.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cache::{self, Scratch};
use crate::command;
use crate::error::{Error, Result};

/// The packages with newer versions, by the beginning of their paths in guests.
const PACKAGES: &[&str] = &["zlib1g", "libc6"];

/// The packages as they were shipped, and newer ones; by the paths that guests know them by.
pub(super) fn packages(shipped: &Path) -> Result<Vec<(String, PathBuf)>> {
    let folder = cache::folder("userland")?.join("newer");
    cache::create(&folder)?;
    let mut all = Vec::new();
    for name in PACKAGES {
        let older = package(shipped, name)?;
        let file = older.file_name().unwrap_or_default();
        let newer = folder.join(file);
        if !newer.exists() {
            make_newer(&older, &newer)?;
        }
        all.push((format!("opt/{name}-older.deb"), stripped(&older, &folder)?));
        all.push((format!("opt/{name}-newer.deb"), newer));
    }
    Ok(all)
}

/// Only the newer ones.
pub(super) fn newer(shipped: &Path) -> Result<Vec<PathBuf>> {
    let all = packages(shipped)?.into_iter();
    Ok(all.filter(|(name, _)| name.contains("-newer")).map(|(_, path)| path).collect())
}

/// The file of a package among those that the root was made of.
fn package(folder: &Path, name: &str) -> Result<PathBuf> {
    let prefix = format!("{name}_");
    cache::list(folder)?
        .into_iter()
        .find(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&prefix)))
        .ok_or_else(|| Error::new(format!("no package {name} in {}", folder.display())))
}

/// A package without its scripts, which are not needed here.
fn stripped(older: &Path, folder: &Path) -> Result<PathBuf> {
    let target = folder.join("older").join(older.file_name().unwrap_or_default());
    if !target.exists() {
        repack(older, &target, "", |_| Ok(()))?;
    }
    Ok(target)
}

fn make_newer(older: &Path, newer: &Path) -> Result<()> {
    repack(older, newer, "+panoptes1", |root| {
        let mut libraries = Vec::new();
        find_libraries(root, &mut libraries)?;
        for path in libraries {
            let mut bytes = cache::read(&path)?;
            bytes.push(b'x');
            std::fs::write(&path, bytes).map_err(|e| Error::io("write", &path, &e))?;
        }
        Ok(())
    })
}

/// Builds a package again, with a longer version, and other files.
fn repack(
    source: &Path,
    target: &Path,
    version: &str,
    change: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let unpacked = format!("unpacked-{}", std::process::id());
    let scratch = Scratch::new(target.with_extension(unpacked))?;
    command::output(Command::new("dpkg-deb").arg("-R").arg(source).arg(&*scratch))?;
    for script in ["preinst", "postinst", "prerm", "postrm", "triggers", "md5sums", "templates"] {
        let _ = std::fs::remove_file(scratch.join("DEBIAN").join(script));
    }
    let control = scratch.join("DEBIAN/control");
    let text = String::from_utf8_lossy(&cache::read(&control)?).into_owned();
    let lines = text.lines().map(|line| {
        let version = if line.starts_with("Version:") { version } else { "" };
        format!("{line}{version}\n")
    });
    cache::write(&control, lines.collect::<Vec<_>>().concat().as_bytes())?;
    change(&scratch)?;
    let mut build = Command::new("dpkg-deb");
    build.args(["--root-owner-group", "-Zgzip", "-z1", "--build"]).arg(&*scratch).arg(target);
    command::output(&mut build).map(drop)
}

/// The shared libraries below a folder, except the loader and links.
fn find_libraries(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for path in cache::list(folder)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            find_libraries(&path, found)?;
        } else if name.starts_with("lib") && name.contains(".so") {
            found.push(path);
        }
    }
    Ok(())
}
