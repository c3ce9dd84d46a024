//! Opening files to write to, in folders that other users may own.
//!
//! Such a user could put a symbolic link in the place of a log, and let a privileged program write
//! to another file. A link is followed only if nobody but root or the present user can have put it
//! there.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// Bits of a mode: others than the owner may write; only owners of files may move them.
const OTHERS_WRITE: u32 = 0o022;
const STICKY_FOLDER: u32 = 0o1000;

/// Opens a file with these options.
///
/// # Errors
///
/// Those of open(2), and [`io::ErrorKind::PermissionDenied`] for a link that another user may have
/// made.
pub fn open(options: &OpenOptions, path: &Path) -> io::Result<File> {
    let mut strict = options.clone();
    match strict.custom_flags(libc::O_NOFOLLOW).open(path) {
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            if !is_trusted(path)? {
                return Err(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    "it is a symbolic link that another user may have made; name the file itself",
                ));
            }
            options.open(path)
        }
        opened => opened,
    }
}

/// Whether only root and the present user can have made a link, and can move it.
fn is_trusted(path: &Path) -> io::Result<bool> {
    let own = rustix::process::geteuid().as_raw();
    let is_ours = |found: &Metadata| matches!(found.uid(), 0) || found.uid() == own;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new(".")).metadata()?;
    let mode = folder.permissions().mode();
    let is_closed = mode & OTHERS_WRITE == 0 || mode & STICKY_FOLDER != 0;
    Ok(is_closed && is_ours(&folder) && is_ours(&path.symlink_metadata()?))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    fn append() -> OpenOptions {
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        options
    }

    #[test]
    fn own_links_in_own_folders_are_followed() {
        let folder = tempfile::tempdir().unwrap();
        let [target, link] = ["target", "link"].map(|name| folder.path().join(name));
        symlink(&target, &link).unwrap();
        assert!(open(&append(), &link).is_ok());
        assert!(target.exists());
        assert!(open(&append(), Path::new("/dev/stdout")).is_ok() || !cfg!(target_os = "linux"));
    }

    #[test]
    fn links_that_others_may_have_made_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let [target, link] = ["target", "link"].map(|name| folder.path().join(name));
        symlink(&target, &link).unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        let refused = |link: &Path| {
            let error = open(&append(), link).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
            assert!(!target.exists());
        };
        refused(&link);
        // As in /tmp, where others cannot replace what is there.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o1777)).unwrap();
        assert!(is_trusted(&link).unwrap());
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::lchown(&link, Some(65_534), None).unwrap();
            refused(&link);
            std::os::unix::fs::lchown(&link, Some(0), None).unwrap();
            chown(folder.path(), Some(65_534), None).unwrap();
            refused(&link);
        }
        let file = folder.path().join("file");
        assert!(open(&append(), &file).is_ok(), "no link");
    }
}
