//! The key by which a file's content is recognised from one scan to the next.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::inode::mode;

use crate::walk::{FileRow, Index, InodeRow, Snapshot};

/// Identity of a file's content: files with the same identity have the same content, as far as the
/// kernel shows.
///
/// `i_generation` is left out. It is far from the other fields of an inode, so that every scan
/// would pay for it, and a reused inode has another change time. A guest that sets its clock back
/// can give two contents the same times: then [`super::Contents::doubt`]. Nothing shows a clock
/// that is set and put back to the nanosecond between two scans.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct FileIdentity {
    /// `struct inode *`
    pub inode: KernelVa,
    /// Device of the filesystem, as the kernel encodes it (`s_dev`).
    pub device: u32,
    /// Number of the inode (`i_ino`).
    pub number: u64,
    /// Change time (`st_ctim`) in nanoseconds since 1970.
    pub change_time_ns: i64,
    /// Modification time (`st_mtim`) in nanoseconds since 1970.
    pub modify_time_ns: i64,
    /// Size in bytes (`i_size`).
    pub size: u64,
}

impl FileIdentity {
    /// The identity of an open or mapped file; `None` if it is not a regular file or could not be
    /// read.
    ///
    /// For an area this is the mapped file ([`crate::walk::VmaRow::file`]), which on an overlay is
    /// the file of the layer that has the pages. For a descriptor on an overlay it is the overlay's
    /// own inode, which has none.
    pub fn of_file(snapshot: &Snapshot, file: &FileRow) -> Option<Self> {
        Self::of_inode(snapshot, snapshot.inodes.at(file.inode)?)
    }

    /// The same as [`Self::of_file`], by the file's index in [`Snapshot::files`].
    pub fn of(snapshot: &Snapshot, file: Option<Index<FileRow>>) -> Option<Self> {
        Self::of_file(snapshot, snapshot.files.at(file)?)
    }

    /// The identity of an inode; `None` if it is not a regular file or could not be read.
    fn of_inode(snapshot: &Snapshot, inode: &InodeRow) -> Option<Self> {
        let attributes = &inode.attributes;
        let super_block = snapshot.super_blocks.at(inode.super_block);
        let super_block = super_block.filter(|super_block| super_block.was_read)?;
        (attributes.kind() == mode::S_IFREG && inode.address.is_plausible()).then_some(Self {
            inode: inode.address,
            device: super_block.filesystem.dev,
            number: attributes.ino,
            change_time_ns: attributes.ctime_ns,
            modify_time_ns: attributes.mtime_ns,
            size: attributes.size,
        })
    }
}
