//! Archives whose bytes depend on the names and contents of their files, and on nothing else.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use panoptes_rig::output;

use crate::package;

/// Packs entries of a folder into `archive`, whose name ends with `.tar.gz`. All times in it are
/// `epoch`, in seconds since 1970.
pub(super) fn pack_compressed(
    folder: &Path,
    entries: &[&str],
    epoch: u64,
    archive: &Path,
) -> Result<(), String> {
    let plain = archive.with_extension("");
    pack(folder, entries, epoch, &plain)?;
    package::compress(&[plain])
}

/// The same, not compressed.
pub(super) fn pack(
    folder: &Path,
    entries: &[&str],
    epoch: u64,
    archive: &Path,
) -> Result<(), String> {
    let mut tar = Command::new("tar");
    tar.env("LC_ALL", "C").args(options(epoch)).arg("--file").arg(archive);
    tar.arg("--directory").arg(folder).args(entries);
    output(&mut tar)?;
    Ok(())
}

/// Unpacks an archive, compressed or not, into a folder that exists.
pub(super) fn unpack(archive: &Path, folder: &Path) -> Result<(), String> {
    let mut tar = Command::new("tar");
    tar.arg("--extract").arg("--file").arg(archive).arg("--directory").arg(folder);
    output(&mut tar)?;
    Ok(())
}

/// Unpacks one file of an archive into a folder that exists.
pub(super) fn unpack_one(archive: &Path, folder: &Path, name: &str) -> Result<(), String> {
    let mut tar = Command::new("tar");
    tar.arg("--extract").arg("--file").arg(archive).arg("--directory").arg(folder).arg(name);
    output(&mut tar)?;
    Ok(())
}

/// Packs an archive again, so that its times, owners and order are those of [`pack`]. `scratch` is
/// an empty folder.
pub(super) fn normalise(archive: &Path, epoch: u64, scratch: &Path) -> Result<(), String> {
    unpack(archive, scratch)?;
    let paths = panoptes_rig::cache::list(scratch)?;
    let names: Vec<&str> =
        paths.iter().filter_map(|path| path.file_name().and_then(OsStr::to_str)).collect();
    pack(scratch, &names, epoch, archive)
}

/// The options of GNU tar that leave out what differs from machine to machine.
fn options(epoch: u64) -> [String; 9] {
    [
        "--create".to_owned(),
        // That of POSIX has the times of access.
        "--format=gnu".to_owned(),
        "--sort=name".to_owned(),
        "--owner=0".to_owned(),
        "--group=0".to_owned(),
        "--numeric-owner".to_owned(),
        "--hard-dereference".to_owned(),
        // As if all umasks were 022.
        "--mode=u=rwX,go=rX".to_owned(),
        format!("--mtime=@{epoch}"),
    ]
}

/// The path of an archive's only folder after [`unpack`].
pub(super) fn inner(folder: &Path, archive: &Path) -> PathBuf {
    let name = archive.file_name().and_then(OsStr::to_str).unwrap_or_default();
    folder.join(name.strip_suffix(".tar.gz").unwrap_or(name))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::folders::Temporary;

    /// Makes a folder with two files: in this order, with these modes.
    fn make(folder: &Path, files: [(&str, u32); 2]) {
        fs::create_dir_all(folder.join("in")).expect("there is room");
        for (name, mode) in files {
            let path = folder.join("in").join(name);
            fs::write(&path, name).expect("there is room");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("it exists");
        }
    }

    #[test]
    fn equal_files_make_equal_archives() {
        let folder = Temporary::new("release-archive").expect("there is room");
        let archives = ["one", "other"].map(|name| folder.0.join(name).join("panoptes.tar.gz"));
        make(&folder.0.join("one"), [("a", 0o644), ("b", 0o755)]);
        make(&folder.0.join("other"), [("b", 0o700), ("a", 0o600)]);
        for archive in &archives {
            let parent = archive.parent().expect("a folder");
            pack_compressed(parent, &["in"], 1_700_000_000, archive).expect("tar packs it");
        }
        let [one, other] = archives.each_ref().map(|path| fs::read(path).expect("it was packed"));
        assert!(one == other && one.len() > 64, "{} and {} bytes", one.len(), other.len());
        unpack(&archives[0], &folder.0).expect("tar unpacks it");
        let facts = fs::metadata(folder.0.join("in/b")).expect("it was packed");
        assert_eq!(facts.permissions().mode() & 0o700, 0o700);
    }

    #[test]
    fn another_archive_gets_the_same_times() {
        let folder = Temporary::new("release-normal").expect("there is room");
        make(&folder.0.join("it"), [("a", 0o644), ("b", 0o644)]);
        let [plain, archive] = ["plain.tar", "other.tar"].map(|name| folder.0.join(name));
        pack(&folder.0.join("it"), &["in"], 7, &plain).expect("tar packs it");
        pack(&folder.0.join("it"), &["in"], 1_000_000, &archive).expect("tar packs it");
        let read = |path: &Path| fs::read(path).expect("it was packed");
        assert!(read(&plain) != read(&archive));
        let scratch = folder.0.join("scratch");
        fs::create_dir(&scratch).expect("there is room");
        normalise(&archive, 7, &scratch).expect("tar packs it again");
        assert!(read(&plain) == read(&archive));
    }

    #[test]
    fn the_folder_of_an_archive_is_named_as_it() {
        let path = inner(Path::new("/t"), Path::new("/page/panoptes-1-man.tar.gz"));
        assert_eq!(path, Path::new("/t/panoptes-1-man"));
    }
}
