//! Disks for guests: filesystem images made on the host that a guest sees as `/dev/vda` and so on.
//!
//! An image is created empty, for the guest to fill, or from a folder. Nothing is mounted here, and
//! only the installation of the tools needs root.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use panoptes_needs::check;

use crate::command;
use crate::error::{Error, Result};
use crate::setup;

/// A disk of a guest: the first is `/dev/vda`, the second `/dev/vdb`, in the order of the
/// specification. The kernel may need modules for the disk and its filesystem: see
/// `GuestSpec::modules`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Disk {
    /// The file with the disk's content, byte by byte.
    pub image: PathBuf,
    /// Whether the guest may not write to it; several guests can then share it.
    pub read_only: bool,
}

/// A filesystem that images can have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    Ext4,
    /// Only empty.
    Xfs,
    Btrfs,
    /// Only from a folder.
    Squashfs,
}

impl Format {
    pub const ALL: [Self; 4] = [Self::Ext4, Self::Xfs, Self::Btrfs, Self::Squashfs];

    /// Its name for `mount -t`, the module and /proc/filesystems.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::Squashfs => "squashfs",
        }
    }

    /// The program that creates it.
    pub(crate) const fn maker(self) -> &'static str {
        match self {
            Self::Ext4 => "mkfs.ext4",
            Self::Xfs => "mkfs.xfs",
            Self::Btrfs => "mkfs.btrfs",
            Self::Squashfs => "mksquashfs",
        }
    }

    /// The smallest image that its program accepts, in MiB.
    const fn least_mib(self) -> u64 {
        match self {
            Self::Xfs => 300,
            Self::Btrfs => 128,
            Self::Ext4 | Self::Squashfs => 8,
        }
    }
}

/// Creates an image of at least `mib` MiB (sparse; a SquashFS has the size that it needs), empty or
/// from a folder, with more options for the program. An existing image is replaced.
pub fn make(
    format: Format,
    image: &Path,
    mib: u64,
    tree: Option<&Path>,
    options: &[&str],
) -> Result<()> {
    setup::ensure_for_format(format)?;
    // Users often do not search the folders of programs for administrators.
    let program = check::program(format.maker());
    let mut command = Command::new(program.unwrap_or_else(|| format.maker().into()));
    match std::fs::remove_file(image) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::io("remove", image, &error));
        }
        _ => {}
    }
    if format != Format::Squashfs {
        let file = File::create(image).map_err(|e| Error::io("create", image, &e))?;
        file.set_len(mib.max(format.least_mib()) << 20)
            .map_err(|e| Error::io("grow", image, &e))?;
    }
    match (format, tree) {
        (Format::Xfs, Some(_)) | (Format::Squashfs, None) => {
            let what = if tree.is_some() { "from a folder" } else { "empty" };
            let why = format!("an image of {} cannot be made {what}", format.name());
            return Err(Error::new(why));
        }
        (Format::Squashfs, Some(tree)) => {
            command.arg(tree).arg(image).args(["-quiet", "-no-progress", "-processors", "1"]);
            command.args(options);
        }
        (_, tree) => {
            command.args(["-q", if format == Format::Ext4 { "-F" } else { "-f" }]).args(options);
            if let Some(tree) = tree {
                command.arg(if format == Format::Ext4 { "-d" } else { "--rootdir" }).arg(tree);
            }
            command.arg(image);
        }
    }
    command::output(&mut command).map(drop)
}

#[cfg(test)]
mod tests {
    use panoptes_needs::Need;

    use super::*;

    #[test]
    fn each_format_has_a_program_of_the_table() {
        for format in Format::ALL {
            assert!(Need::of(format.maker()).is_some(), "{format:?}");
        }
    }
}
