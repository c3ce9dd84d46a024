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

/// Largest number of mounts on each other that a path crosses.
const STACKED_MOUNTS_MAX: usize = 2048;
const _: () = assert!(
    STACKED_MOUNTS_MAX != NAMES_MAX && STACKED_MOUNTS_MAX != PATH_BYTES_MAX,
    "the number tells the reasons apart"
);

/// The reason at a path that is longer than the kernel's.
const TOO_LONG: EarlyStop = EarlyStop::TooLong { limit: PATH_BYTES_MAX as u32 };
/// The reason at a path with more names than any.
const TOO_MANY_NAMES: EarlyStop = EarlyStop::TooLong { limit: NAMES_MAX as u32 };
/// The reason at a path with more mounts on each other than are followed.
const TOO_MANY_MOUNTS: EarlyStop = EarlyStop::TooLong { limit: STACKED_MOUNTS_MAX as u32 };

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
    // The root comes after the last name.
    for names in 0..=NAMES_MAX {
        match step_up(snapshot, &mut at)? {
            PathStep::Name(_) if names == NAMES_MAX => break,
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

/// Whether a file has no name for a reason that the kernel has, too: the path is too long for it.
pub fn is_beyond_paths(stop: EarlyStop) -> bool {
    stop == TOO_LONG || stop == TOO_MANY_NAMES
}

/// Whether the paths of two places are equal, name by name.
///
/// # Errors
///
/// The reason if a part of them could not be read.
pub fn is_same_path(snapshot: &Snapshot, one: PathRef, other: PathRef) -> Result<bool, EarlyStop> {
    let (mut one, mut other) = (one, other);
    for _ in 0..=NAMES_MAX {
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
/// The reason if a mount on the way could not be read, or if the mounts do not end.
pub fn top_mount(snapshot: &Snapshot, path: PathRef) -> Result<Index<MountRow>, EarlyStop> {
    let mut at = path.mount;
    for _ in 0..STACKED_MOUNTS_MAX {
        let mount = snapshot.mounts.at(at).ok_or(no_row(&snapshot.mounts))?;
        if let Some(top) = at.filter(|_| mount.parent == at) {
            return Ok(top);
        }
        if !mount.was_read {
            return Err(EarlyStop::Unreadable { address: mount.address });
        }
        at = mount.parent;
    }
    Err(stop_of_mounts(snapshot, at))
}

/// The reason at a mount behind as many as are followed. A forged circle leads back to it.
#[cold]
fn stop_of_mounts(snapshot: &Snapshot, start: Option<Index<MountRow>>) -> EarlyStop {
    let Some(first) = snapshot.mounts.at(start) else { return TOO_MANY_MOUNTS };
    let mut at = first.parent;
    // The top mount refers to itself.
    if at == start {
        return TOO_MANY_MOUNTS;
    }
    for _ in 0..STACKED_MOUNTS_MAX {
        if at == start {
            return EarlyStop::Loop { address: first.address };
        }
        let Some(mount) = snapshot.mounts.at(at) else { break };
        at = mount.parent;
    }
    TOO_MANY_MOUNTS
}

/// Result of one step up a path.
enum PathStep<'a> {
    /// A name; the place is now its directory.
    Name(&'a [u8]),
    /// The place is the root.
    Root,
}

fn step_up<'a>(snapshot: &'a Snapshot, at: &mut PathRef) -> Result<PathStep<'a>, EarlyStop> {
    for _ in 0..STACKED_MOUNTS_MAX {
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
    Err(stop_of_mounts(snapshot, at.mount))
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
            let snapshot = Snapshot::empty(&Limits { processes: 64, ..Limits::default() });
            let mut tree = Self { snapshot, mount: None, dentries: Vec::new() };
            tree.add_name(b"/");
            tree.mount = tree.add_mount(0x10);
            let top = tree.mount.expect("it has a row");
            tree.snapshot.mounts[top].parent = tree.mount;
            for name in names {
                tree.add_name(name);
            }
            tree
        }

        /// Adds a name below the last one.
        fn add_name(&mut self, name: &[u8]) {
            let dentries = &mut self.snapshot.dentries;
            let mut row = DentryRow::from(KernelVa(0x1000 * (dentries.len() as u64 + 1)));
            row.name.length = name.len() as u32;
            row.text[..name.len()].copy_from_slice(name);
            row.readable = true;
            let at = dentries.row_of(row.name.address.0, || row).expect("room");
            dentries[at].parent = self.dentries.last().copied().or(Some(at));
            self.dentries.push(at);
        }

        /// Adds a mount of the root, on the root of the mount before it.
        fn add_mount(&mut self, address: u64) -> Option<Index<MountRow>> {
            let (root, parent) = (self.dentries.first().copied(), self.mount);
            let row = || MountRow {
                address: KernelVa(address),
                was_read: true,
                root,
                parent,
                mountpoint: root,
                ..MountRow::default()
            };
            self.snapshot.mounts.row_of(address, row)
        }

        /// The place of the last one.
        fn place(&self) -> PathRef {
            PathRef { mount: self.mount, dentry: self.dentries.last().copied() }
        }

        /// The path of the last one.
        fn path(&self) -> Result<String, EarlyStop> {
            let mut out = PathBuffer::default();
            write_path(&self.snapshot, self.place(), &mut out)?;
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
        assert!(is_beyond_paths(TOO_LONG) && is_beyond_paths(TOO_MANY_NAMES));
    }

    #[test]
    fn a_path_has_as_many_names_as_fit_its_bytes() {
        let names = vec![&b"x"[..]; NAMES_MAX + 1];
        let mut tree = PathTree::new(&names[1..]);
        assert_eq!(tree.path().map(|path| path.len()), Ok(2 * NAMES_MAX));
        assert_eq!(PathTree::new(&names).path(), Err(TOO_MANY_NAMES));

        for (names, expected) in [(&names[1..], Ok(true)), (&names[..], Err(TOO_MANY_NAMES))] {
            let [one, other] = [0; 2].map(|_| {
                tree.dentries.truncate(1);
                for name in names {
                    tree.add_name(name);
                }
                tree.place()
            });
            assert_eq!(is_same_path(&tree.snapshot, one, other), expected);
        }
    }

    #[test]
    fn a_forged_circle_of_mounts_is_a_loop() {
        for count in [2, 3, 1000] {
            let mut tree = PathTree::new(&[b"usr"]);
            let (top, first) = (tree.mount, 0x100);
            for number in 0..count {
                tree.mount = tree.add_mount(first + number);
            }
            // Below so many mounts, the path is the same.
            assert_eq!(tree.path(), Ok("/usr".to_owned()));
            assert_eq!(top_mount(&tree.snapshot, tree.place()).ok(), top);
            let second = tree.snapshot.mounts.find(first).expect("it has a row");
            tree.snapshot.mounts[second].parent = tree.mount;
            let circle = first..first + count;
            let stops = [
                top_mount(&tree.snapshot, tree.place()).expect_err("it is forged"),
                tree.path().expect_err("it is forged"),
            ];
            for stop in stops {
                let EarlyStop::Loop { address } = stop else { panic!("{stop}") };
                assert!(circle.contains(&address.0) && !is_beyond_paths(stop), "{stop}");
            }
        }
    }

    #[test]
    fn more_mounts_on_each_other_than_are_followed_are_no_path_that_is_too_long() {
        let mut tree = PathTree::new(&[b"usr"]);
        for number in 1..STACKED_MOUNTS_MAX as u64 {
            tree.mount = tree.add_mount(0x100 + number);
        }
        assert_eq!(tree.path(), Ok("/usr".to_owned()));
        tree.mount = tree.add_mount(0x10_0000);
        assert_eq!(tree.path(), Err(TOO_MANY_MOUNTS));
        assert!(!is_beyond_paths(TOO_MANY_MOUNTS));
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
