//! Names of files: from a mount and a dentry to a path.
//!
//! [`write_path`] does what the kernel's `d_path` does (fs/d_path.c) with the rows of a snapshot.
//! It goes up the directories, across mounts, to the root of the mount namespace (a chroot does not
//! shorten it), and appends ` (deleted)` to unlinked files. Files in no directory (pipes, sockets,
//! memfds) have the names that their filesystems give them.

use panoptes_decoders::early_stop::EarlyStop;
use panoptes_decoders::kernel::super_block::magic;
use panoptes_tables::{AddressedRows, room};

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

/// The reason at a path that is longer than the kernel's.
const TOO_LONG: EarlyStop = EarlyStop::TooLong { limit: PATH_BYTES_MAX as u32 };
/// The reason at a path with more names than any, or with more mounts on each other.
const TOO_MANY_NAMES: EarlyStop = EarlyStop::TooLong { limit: NAMES_MAX as u32 };

/// The reason at a place without a row in a table.
fn no_row<Row>(rows: &AddressedRows<Row>) -> EarlyStop {
    EarlyStop::NoRoom { rows: rows.capacity() as u32 }
}

/// Text of bounded size, written from its end to its beginning, as in the kernel.
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

/// Writes the path of a mount and dentry.
///
/// # Errors
///
/// The reason if a part of it could not be read, or [`EarlyStop::TooLong`] if it is longer than the
/// kernel's.
pub fn write_path(
    snapshot: &Snapshot,
    path: PathRef,
    out: &mut PathBuffer,
) -> Result<PathProperties, EarlyStop> {
    out.clear();
    let dentry = snapshot.dentries.at(path.dentry).ok_or(no_row(&snapshot.dentries))?;
    let deleted = dentry.name.unlinked;
    if deleted {
        out.prepend(DELETED);
    }
    let end = out.start;
    let mut at = path;
    for _ in 0..NAMES_MAX {
        match step_up(snapshot, &mut at)? {
            PathStep::Name(name) => {
                out.prepend(name);
                out.prepend(b"/");
                if !out.whole {
                    return Err(TOO_LONG);
                }
            }
            PathStep::Root => {
                if out.start == end {
                    out.prepend(b"/");
                }
                return Ok(PathProperties { deleted });
            }
        }
    }
    Err(TOO_MANY_NAMES)
}

/// Whether the paths of two places are equal, name by name.
///
/// # Errors
///
/// The reason if a part of them could not be read.
pub fn is_same_path(snapshot: &Snapshot, one: PathRef, other: PathRef) -> Result<bool, EarlyStop> {
    let (mut one, mut other) = (one, other);
    for _ in 0..NAMES_MAX {
        if one == other {
            return Ok(true);
        }
        match (step_up(snapshot, &mut one)?, step_up(snapshot, &mut other)?) {
            (PathStep::Root, PathStep::Root) => return Ok(true),
            (PathStep::Name(name), PathStep::Name(same)) if name == same => {}
            _ => return Ok(false),
        }
    }
    Err(TOO_MANY_NAMES)
}

/// The mount at which a path begins: the root of its mount namespace.
///
/// # Errors
///
/// The reason if a mount on the way could not be read.
pub fn top_mount(snapshot: &Snapshot, path: PathRef) -> Result<Index<MountRow>, EarlyStop> {
    let mut at = path.mount;
    for _ in 0..NAMES_MAX {
        let mount = snapshot.mounts.at(at).ok_or(no_row(&snapshot.mounts))?;
        if let Some(top) = at.filter(|_| mount.parent == at) {
            return Ok(top);
        }
        if !mount.was_read {
            return Err(EarlyStop::Unreadable { address: mount.address });
        }
        at = mount.parent;
    }
    Err(TOO_MANY_NAMES)
}

/// Result of one step up a path.
enum PathStep<'a> {
    /// A name; the place is now its directory.
    Name(&'a [u8]),
    /// The place is the root.
    Root,
}

fn step_up<'a>(snapshot: &'a Snapshot, at: &mut PathRef) -> Result<PathStep<'a>, EarlyStop> {
    for _ in 0..NAMES_MAX {
        let mount = snapshot.mounts.at(at.mount).ok_or(no_row(&snapshot.mounts))?;
        let row = snapshot.dentries.at(at.dentry).ok_or(no_row(&snapshot.dentries))?;
        if !mount.was_read {
            return Err(EarlyStop::Unreadable { address: mount.address });
        }
        if at.dentry != mount.root && row.parent != at.dentry {
            at.dentry = row.parent;
            return dentry_text(snapshot, row).map(PathStep::Name);
        }
        if mount.parent == at.mount || at.dentry != mount.root {
            // The root of the top mount, or a name that is no longer below its mount.
            return Ok(PathStep::Root);
        }
        *at = PathRef { mount: mount.parent, dentry: mount.mountpoint };
    }
    Err(TOO_MANY_NAMES)
}

/// Writes the name of an open file as `readlink /proc/PID/fd/N` shows it.
///
/// # Errors
///
/// The reason if a part of it could not be read, or [`EarlyStop::TooLong`] if it is longer than the
/// kernel's.
pub fn write_file_name(
    snapshot: &Snapshot,
    file: &FileRow,
    out: &mut PathBuffer,
) -> Result<PathProperties, EarlyStop> {
    let unreadable = |address| EarlyStop::Unreadable { address };
    // Nothing leads from a file that was not read.
    let was_read = !file.open.dentry.is_null();
    let no_dentry = if was_read { no_row(&snapshot.dentries) } else { unreadable(file.address) };
    let dentry = snapshot.dentries.at(file.path.dentry).ok_or(no_dentry)?;
    let mount = snapshot.mounts.at(file.path.mount).ok_or(no_row(&snapshot.mounts))?;
    if !mount.was_read {
        return Err(unreadable(mount.address));
    }
    let is_root = dentry.parent == file.path.dentry;
    // `d_path` asks the filesystem for a name if a dentry has no directory and is not the root of
    // its mount.
    if !is_root || mount.root == file.path.dentry {
        return write_path(snapshot, file.path, out);
    }
    out.clear();
    let inode = snapshot.inodes.at(file.inode).ok_or(no_row(&snapshot.inodes))?;
    let number = inode.attributes.ino;
    let super_block = snapshot.super_blocks.at(inode.super_block).filter(|it| it.was_read);
    let filesystem = super_block.ok_or(unreadable(inode.attributes.super_block))?.filesystem;
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
    Ok(PathProperties { deleted })
}

/// The name of an inode beside its dentry.
fn read_name<'a>(snapshot: &'a Snapshot, inode: &InodeRow) -> Result<&'a NameRow, EarlyStop> {
    let name = snapshot.names.at(inode.own_name);
    let address = name.map_or(inode.address, |name| name.address);
    name.filter(|name| name.was_read).ok_or(EarlyStop::Unreadable { address })
}

/// The last name of a place's path; `None` if it could not be read, or if the place is the root of
/// its mount, so that its path ends with the name of its mountpoint.
pub fn own_name(snapshot: &Snapshot, path: PathRef) -> Option<&[u8]> {
    let mount = snapshot.mounts.at(path.mount)?;
    let row = snapshot.dentries.at(path.dentry)?;
    if mount.root == path.dentry {
        return None;
    }
    dentry_text(snapshot, row).ok()
}

/// The name of a dentry.
fn dentry_text<'a>(snapshot: &'a Snapshot, row: &'a DentryRow) -> Result<&'a [u8], EarlyStop> {
    let unreadable = EarlyStop::Unreadable { address: row.name.address };
    if !row.readable {
        return Err(unreadable);
    }
    let length = row.name.length as usize;
    // A long name without room is cut to fit the row.
    let text = match row.long {
        Some(start) => Some(snapshot.text(Span::of(start, row.name.length))),
        None => row.text.get(..length),
    };
    text.filter(|text| text.len() == length).ok_or(unreadable)
}

#[cfg(test)]
mod tests {
    use panoptes_decoders::address::KernelVa;

    use super::*;
    use crate::limits::Limits;

    /// Directories below each other, in one mount.
    struct PathTree {
        snapshot: Snapshot,
        mount: Option<Index<MountRow>>,
        /// The root, and what is below it.
        dentries: Vec<Index<DentryRow>>,
    }

    impl PathTree {
        fn new(names: &[&[u8]]) -> Self {
            let mut snapshot = Snapshot::empty(&Limits { processes: 64, ..Limits::default() });
            let mut dentries = Vec::new();
            for (number, name) in (1..).zip([&b"/"[..]].iter().chain(names)) {
                let mut row = DentryRow::from(KernelVa(0x1000 * number));
                row.name.length = name.len() as u32;
                row.text[..name.len()].copy_from_slice(name);
                row.readable = true;
                let at = snapshot.dentries.row_of(row.name.address.0, || row).expect("room");
                snapshot.dentries[at].parent = dentries.last().copied().or(Some(at));
                dentries.push(at);
            }
            let address = KernelVa(0x10);
            let root = dentries.first().copied();
            let row = || MountRow { address, was_read: true, root, ..MountRow::default() };
            let mount = snapshot.mounts.row_of(address.0, row);
            snapshot.mounts[mount.expect("room")].parent = mount;
            Self { snapshot, mount, dentries }
        }

        /// The path of the last one.
        fn path(&self) -> Result<String, EarlyStop> {
            let path = PathRef { mount: self.mount, dentry: self.dentries.last().copied() };
            let mut out = PathBuffer::default();
            write_path(&self.snapshot, path, &mut out)?;
            Ok(String::from_utf8_lossy(out.text()).into_owned())
        }
    }

    #[test]
    fn a_path_or_the_reason_why_there_is_none() {
        let mut tree = PathTree::new(&[b"usr", b"bin", b"bash"]);
        assert_eq!(tree.path(), Ok("/usr/bin/bash".to_owned()));
        let bin = tree.dentries[2];
        tree.snapshot.dentries[bin].readable = false;
        assert_eq!(tree.path(), Err(EarlyStop::Unreadable { address: KernelVa(0x3000) }));
        let mount = tree.mount.expect("it has a row");
        tree.snapshot.mounts[mount].was_read = false;
        assert_eq!(tree.path(), Err(EarlyStop::Unreadable { address: KernelVa(0x10) }));
        tree.mount = None;
        assert_eq!(tree.path(), Err(no_row(&tree.snapshot.mounts)));
    }

    #[test]
    fn paths_that_the_kernel_would_not_return_are_too_long() {
        let name = [b'x'; 40];
        let tree = PathTree::new(&[&name[..]; 99]);
        assert_eq!(tree.path().map(|path| path.len()), Ok(99 * 41));
        let tree = PathTree::new(&[&name[..]; 100]);
        assert_eq!(tree.path(), Err(EarlyStop::TooLong { limit: 4095 }));
        let mut ring = PathTree::new(&[b"a", b"b"]);
        let (first, last) = (ring.dentries[1], ring.dentries[2]);
        ring.snapshot.dentries[first].parent = Some(last);
        assert_eq!(ring.path(), Err(TOO_MANY_NAMES));
    }

    #[test]
    fn the_top_mount_is_found_unless_a_mount_could_not_be_read() {
        let mut tree = PathTree::new(&[b"usr"]);
        let path = PathRef { mount: tree.mount, dentry: None };
        assert_eq!(top_mount(&tree.snapshot, path).ok(), tree.mount);
        let mount = tree.mount.expect("it has a row");
        let unread = MountRow { address: KernelVa(0x20), ..MountRow::default() };
        let above = tree.snapshot.mounts.row_of(0x20, || unread);
        tree.snapshot.mounts[mount].parent = above;
        let stop = EarlyStop::Unreadable { address: KernelVa(0x20) };
        assert_eq!(top_mount(&tree.snapshot, path), Err(stop));
    }
}
