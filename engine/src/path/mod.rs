//! Names of files: from a mount and a dentry to a path.
//!
//! [`write_path`] does what the kernel's `d_path` does (fs/d_path.c) with the rows of a snapshot.
//! It goes up the directories, across mounts, to the root of the mount namespace (a chroot does not
//! shorten it), and appends ` (deleted)` to unlinked files. Files in no directory (pipes, sockets,
//! memfds) have the names that their filesystems give them.

use panoptes_decoders::kernel::super_block::magic;
use panoptes_tables::room;

use crate::walk::{
    DentryRow, FileRow, Index, InodeRow, MountRow, NameRow, PathRef, Snapshot, Span,
};

/// Longest path that the kernel returns, in bytes: with its NUL it has `PATH_MAX` bytes
/// (include/uapi/linux/limits.h). For a longer one /proc returns only an error.
pub const PATH_BYTES_MAX: usize = 4095;

/// Suffix of the path of an unlinked file, such as a program that an upgrade has removed (`d_path`,
/// fs/d_path.c).
pub const DELETED: &[u8] = b" (deleted)";

/// Largest number of names in a path: every other byte is a slash.
const NAMES_MAX: usize = PATH_BYTES_MAX / 2;

/// Text of bounded size, written from its end to its beginning, as in the kernel. If there is no
/// room, the last names, which matter most, are kept.
#[derive(Debug)]
pub struct PathBuffer {
    bytes: Box<[u8; PATH_BYTES_MAX]>,
    start: usize,
    whole: bool,
}

impl Default for PathBuffer {
    fn default() -> Self {
        Self { bytes: room::boxed([0; PATH_BYTES_MAX]), start: PATH_BYTES_MAX, whole: true }
    }
}

impl PathBuffer {
    fn clear(&mut self) {
        self.start = PATH_BYTES_MAX;
        self.whole = true;
    }

    fn prepend(&mut self, text: &[u8]) {
        if text.len() > self.start {
            self.whole = false;
            return;
        }
        self.start -= text.len();
        self.bytes[self.start..self.start + text.len()].copy_from_slice(text);
    }

    fn prepend_number(&mut self, mut number: u64) {
        loop {
            self.prepend(&[b'0' + (number % 10) as u8]);
            number /= 10;
            if number == 0 {
                return;
            }
        }
    }

    pub fn text(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

/// Properties of a name that was written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PathProperties {
    /// Whether the name ends in ` (deleted)`.
    pub deleted: bool,
}

/// Writes the path of a mount and dentry; `None` if a part of it could not be read.
pub fn write_path(
    snapshot: &Snapshot,
    path: PathRef,
    out: &mut PathBuffer,
) -> Option<PathProperties> {
    out.clear();
    let dentry = snapshot.dentries.at(path.dentry)?;
    let deleted = dentry.name.unlinked;
    if deleted {
        out.prepend(DELETED);
    }
    let end = out.start;
    let mut at = path;
    for _ in 0..NAMES_MAX {
        match step_up(snapshot, &mut at) {
            PathStep::Name(name) => {
                out.prepend(name);
                out.prepend(b"/");
            }
            PathStep::Root => {
                if out.start == end {
                    out.prepend(b"/");
                }
                return out.whole.then_some(PathProperties { deleted });
            }
            PathStep::Unreadable => return None,
        }
    }
    None
}

/// Whether a path is missing only because it is too long. The kernel then returns none either.
pub fn is_too_long(snapshot: &Snapshot, path: PathRef) -> bool {
    let (mut at, mut length) = (path, 0);
    while length <= PATH_BYTES_MAX {
        match step_up(snapshot, &mut at) {
            PathStep::Name(name) => length += name.len() + 1,
            PathStep::Root | PathStep::Unreadable => return false,
        }
    }
    true
}

/// Whether the paths of two places are equal, name by name; `None` if a part of them could not be
/// read.
pub fn is_same_path(snapshot: &Snapshot, one: PathRef, other: PathRef) -> Option<bool> {
    let (mut one, mut other) = (one, other);
    for _ in 0..NAMES_MAX {
        if one == other {
            return Some(true);
        }
        match (step_up(snapshot, &mut one), step_up(snapshot, &mut other)) {
            (PathStep::Root, PathStep::Root) => return Some(true),
            (PathStep::Name(name), PathStep::Name(same)) if name == same => {}
            (PathStep::Unreadable, _) | (_, PathStep::Unreadable) => return None,
            _ => return Some(false),
        }
    }
    None
}

/// The mount at which a path begins: the root of its mount namespace. `None` if a part of the path
/// could not be read.
pub fn top_mount(snapshot: &Snapshot, path: PathRef) -> Option<Index<MountRow>> {
    let mut at = path.mount;
    for _ in 0..NAMES_MAX {
        let parent = snapshot.mounts.at(at)?.parent;
        if parent == at {
            return at;
        }
        at = parent;
    }
    None
}

/// Result of one step up a path.
enum PathStep<'a> {
    /// A name; the place is now its directory.
    Name(&'a [u8]),
    /// The place is the root.
    Root,
    /// A part could not be read.
    Unreadable,
}

fn step_up<'a>(snapshot: &'a Snapshot, at: &mut PathRef) -> PathStep<'a> {
    for _ in 0..NAMES_MAX {
        let rows = (snapshot.mounts.at(at.mount), snapshot.dentries.at(at.dentry));
        let (Some(mount), Some(row)) = rows else { return PathStep::Unreadable };
        if !mount.was_read {
            return PathStep::Unreadable;
        }
        if at.dentry != mount.root && row.parent != at.dentry {
            at.dentry = row.parent;
            return dentry_text(snapshot, row).map_or(PathStep::Unreadable, PathStep::Name);
        }
        if mount.parent == at.mount || at.dentry != mount.root {
            // The root of the top mount, or a name that is no longer below its mount.
            return PathStep::Root;
        }
        *at = PathRef { mount: mount.parent, dentry: mount.mountpoint };
    }
    PathStep::Unreadable
}

/// Writes the name of an open file as `readlink /proc/PID/fd/N` shows it; `None` if a part of it
/// could not be read.
pub fn write_file_name(
    snapshot: &Snapshot,
    file: &FileRow,
    out: &mut PathBuffer,
) -> Option<PathProperties> {
    let dentry = snapshot.dentries.at(file.path.dentry)?;
    let mount = snapshot.mounts.at(file.path.mount).filter(|mount| mount.was_read)?;
    let is_root = dentry.parent == file.path.dentry;
    // `d_path` asks the filesystem for a name if a dentry has no directory and is not the root of
    // its mount.
    if !is_root || mount.root == file.path.dentry {
        return write_path(snapshot, file.path, out);
    }
    out.clear();
    let inode = snapshot.inodes.at(file.inode)?;
    let number = inode.attributes.ino;
    let super_block = snapshot.super_blocks.at(inode.super_block);
    let filesystem = super_block.filter(|super_block| super_block.was_read)?.filesystem;
    let bracketed = |out: &mut PathBuffer, kind: &[u8]| {
        out.prepend(b"]");
        out.prepend_number(number);
        out.prepend(b":[");
        out.prepend(kind);
    };
    let mut deleted = false;
    match filesystem.magic {
        // pipefs_dname (fs/pipe.c), sockfs_dname (net/socket.c), ns_dname (fs/nsfs.c)
        magic::PIPEFS => bracketed(out, b"pipe"),
        magic::SOCKFS => bracketed(out, b"socket"),
        magic::NSFS => bracketed(out, read_name(snapshot, inode)?.text()),
        // anon_inodefs_dname (fs/anon_inodes.c)
        magic::ANON_INODE => {
            out.prepend(dentry_text(snapshot, dentry)?);
            out.prepend(b"anon_inode:");
        }
        // pidfs_dname (fs/pidfs.c, v6.9)
        magic::PID_FS => out.prepend(b"anon_inode:[pidfd]"),
        // dmabuffs_dname (drivers/dma-buf/dma-buf.c)
        magic::DMA_BUF => {
            out.prepend(read_name(snapshot, inode)?.text());
            out.prepend(b":");
            out.prepend(dentry_text(snapshot, dentry)?);
            out.prepend(b"/");
        }
        // simple_dname (fs/d_path.c)
        _ => {
            out.prepend(DELETED);
            out.prepend(dentry_text(snapshot, dentry)?);
            out.prepend(b"/");
            deleted = true;
        }
    }
    Some(PathProperties { deleted })
}

/// The name of an inode beside its dentry; `None` if it could not be read.
fn read_name<'a>(snapshot: &'a Snapshot, inode: &InodeRow) -> Option<&'a NameRow> {
    snapshot.names.at(inode.own_name).filter(|name| name.was_read)
}

/// The last name of a place's path; `None` if it could not be read, or if the place is the root of
/// its mount, so that its path ends with the name of its mountpoint.
pub fn own_name(snapshot: &Snapshot, path: PathRef) -> Option<&[u8]> {
    let mount = snapshot.mounts.at(path.mount)?;
    let row = snapshot.dentries.at(path.dentry)?;
    if mount.root == path.dentry {
        return None;
    }
    dentry_text(snapshot, row)
}

/// The name of a dentry; `None` if it could not be read.
fn dentry_text<'a>(snapshot: &'a Snapshot, row: &'a DentryRow) -> Option<&'a [u8]> {
    if !row.readable {
        return None;
    }
    let length = row.name.length as usize;
    // A long name without room is cut to fit the row.
    let Some(start) = row.long else { return row.text.get(..length) };
    Some(snapshot.text(Span::of(start, row.name.length))).filter(|text| text.len() == length)
}
