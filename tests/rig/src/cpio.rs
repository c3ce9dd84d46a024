//! Writes a newc cpio archive, the form the kernel takes as initramfs.
//!
//! Layout: Documentation/driver-api/early-userspace/buffer-format.rst in the kernel tree.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::cache;
use crate::error::{Error, Result};

/// An archive under construction. A folder must be added before its entries.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

impl Archive {
    /// Adds a folder.
    pub fn directory(&mut self, path: &str, permissions: u32) {
        self.entry(path, DIRECTORY | permissions, (0, 0), &[]);
    }

    /// Adds a regular file.
    pub fn file(&mut self, path: &str, permissions: u32, content: &[u8]) {
        self.entry(path, REGULAR | permissions, (0, 0), content);
    }

    /// Adds a symbolic link.
    pub fn symlink(&mut self, path: &str, target: &str) {
        self.entry(path, SYMLINK | 0o777, (0, 0), target.as_bytes());
    }

    /// Adds a character device node.
    pub fn character_device(&mut self, path: &str, permissions: u32, major: u32, minor: u32) {
        self.entry(path, CHARACTER_DEVICE | permissions, (major, minor), &[]);
    }

    /// Adds everything below a folder of the host: folders, regular files and symbolic links.
    pub fn tree(&mut self, root: &Path) -> Result<()> {
        self.branch(root, "")
    }

    fn branch(&mut self, folder: &Path, name: &str) -> Result<()> {
        for path in cache::list(folder)? {
            let inside =
                format!("{name}{}", path.file_name().unwrap_or_default().to_string_lossy());
            let metadata = path.symlink_metadata().map_err(|e| Error::io("look at", &path, &e))?;
            let permissions = metadata.permissions().mode() & 0o7777;
            if metadata.is_symlink() {
                let target = path.read_link().map_err(|e| Error::io("read the link", &path, &e))?;
                self.symlink(&inside, &target.to_string_lossy());
            } else if metadata.is_dir() {
                self.directory(&inside, permissions);
                self.branch(&path, &format!("{inside}/"))?;
            } else if metadata.is_file() {
                self.file(&inside, permissions, &cache::read(&path)?);
            }
        }
        Ok(())
    }

    /// The finished archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.entries += 1;
        let name = path.trim_start_matches('/');
        let size = u32::try_from(content.len()).expect("no file of an initramfs reaches 4 GiB");
        let name_size = name.len() as u32 + 1;
        // magic, ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor,
        // rdevmajor, rdevminor, namesize, check
        let numbers =
            [self.entries, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for number in numbers {
            self.bytes.extend_from_slice(format!("{number:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        let padded = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(padded, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_padding_are_as_the_kernel_wants_them() {
        let mut archive = Archive::default();
        archive.file("/a", 0o644, b"hello");
        let bytes = archive.finish();
        assert_eq!(&bytes[..14], b"07070100000001");
        assert_eq!(&bytes[14..22], b"000081a4");
        assert_eq!(&bytes[110..112], b"a\0");
        assert_eq!(&bytes[112..117], b"hello");
        assert_eq!(&bytes[120..126], b"070701");
        assert_eq!(bytes.len() % 4, 0);
    }
}
