//! Searches for the folder of a history file, by the names that the kernel keeps in memory.
//!
//! bash itself looks at the path only at its end. A search goes from the root that the shell sees,
//! or from its working directory, name by name of the path ([`FolderSearch::go_on`]), as far as one
//! scan may read.
//!
//! A name that is in no list may exist on a disk. It is absent only if the kernel has it as one
//! that does not exist, or if the list has as many folders as the folder has subfolders by its
//! number of links (`inc_nlink` of a new folder's parent; filesystems that do not count so have a
//! number that does not fit). A symbolic link ends a search without a result.

use arrayvec::ArrayVec;
use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::dentry::{DENTRY_NAME_BYTES_MAX, ListedName};
use panoptes_decoders::kernel::inode::{Attributes, mode};
use panoptes_decoders::kernel::mount::ListedMount;
use panoptes_decoders::layout::View;

use super::history_path::HistoryFilePlace;
use super::variables::ShortText;
use crate::address::MemoryReader;
use crate::page_cache::MachineMemory;

/// Maximum number of structures that one scan reads: names of a folder and mounts on its mount. A
/// folder with more has no result.
pub(super) const READS_A_SCAN: u32 = 1024;
/// Maximum number of names in a path.
const STEPS_MAX: u32 = 128;

/// A search that continues from scan to scan.
#[derive(Clone, Copy, Debug)]
pub(super) struct FolderSearch {
    /// `struct fs_struct *` of the shell.
    fs: KernelVa,
    path: ShortText,
    /// Where the next name begins in the path.
    at: usize,
    /// `struct mount *` and `struct dentry *` of the folder; null before the first step.
    mount: KernelVa,
    dentry: KernelVa,
    names: u32,
}

/// Why a step has no folder for the next one.
enum FolderSearchEnd {
    Place(HistoryFilePlace),
    /// Nothing is known.
    Unclear,
}

/// Reads the kernel's structures one by one.
struct Steps<'a, 'b> {
    reader: &'a mut MemoryReader,
    memory: &'a mut MachineMemory<'b>,
    left: u32,
}

impl FolderSearch {
    /// A search for the file `path` of a shell.
    pub(super) const fn new(fs: KernelVa, path: ShortText) -> Self {
        Self { fs, path, at: 0, mount: KernelVa::NULL, dentry: KernelVa::NULL, names: 0 }
    }

    /// Whether it is for this path.
    pub(super) fn is_for(&self, path: &[u8]) -> bool {
        self.path.bytes() == path
    }

    /// Goes through the next name. Returns the result when there is one. `left` counts the
    /// structures that this scan may still read: a name for which these are too few is read again.
    pub(super) fn go_on(
        &mut self,
        reader: &mut MemoryReader,
        memory: &mut MachineMemory<'_>,
        left: &mut u32,
    ) -> Option<HistoryFilePlace> {
        let (before, had_all) = (*self, *left >= READS_A_SCAN);
        let mut steps = Steps { reader, memory, left: *left };
        let ended = self.step(&mut steps).err();
        *left = steps.left;
        match ended? {
            FolderSearchEnd::Place(place) => Some(place),
            FolderSearchEnd::Unclear if *left == 0 && !had_all => {
                *self = before;
                None
            }
            FolderSearchEnd::Unclear => Some(HistoryFilePlace::File),
        }
    }

    fn step(&mut self, steps: &mut Steps<'_, '_>) -> Result<(), FolderSearchEnd> {
        if self.dentry.is_null() {
            (self.mount, self.dentry) =
                steps.begin(self.fs, self.path.bytes().starts_with(b"/"))?;
        }
        let rest = self.path.bytes().get(self.at..).unwrap_or(&[]);
        let begin = rest
            .iter()
            .position(|&byte| byte != b'/')
            .ok_or(FolderSearchEnd::Place(HistoryFilePlace::NoFile))?;
        let rest = &rest[begin..];
        let length = rest.iter().position(|&byte| byte == b'/').unwrap_or(rest.len());
        let (name, behind) = rest.split_at(length);
        let is_last = behind.is_empty();
        self.at += begin + length;
        self.names += 1;
        if name == b"." && !is_last {
            return Ok(());
        }
        if name == b".." || self.names > STEPS_MAX {
            return Err(FolderSearchEnd::Unclear);
        }
        (self.mount, self.dentry) = steps.top(self.mount, self.dentry)?;
        let dentry = steps.find(self.dentry, name, is_last)?;
        (self.mount, self.dentry) = steps.top(self.mount, dentry)?;
        let (listed, _) = steps.name(self.dentry)?;
        let file = steps.attributes(listed.inode)?;
        match (file.mode & mode::S_IFMT, is_last) {
            (mode::S_IFDIR, false) => Ok(()),
            (mode::S_IFREG, true) | (mode::S_IFLNK, _) => Err(FolderSearchEnd::Unclear),
            (_, true) => Err(FolderSearchEnd::Place(HistoryFilePlace::NoFile)),
            (_, false) => Err(FolderSearchEnd::Place(HistoryFilePlace::NoFolder)),
        }
    }
}

impl Steps<'_, '_> {
    /// Counts a read.
    fn take(&mut self) -> Result<(), FolderSearchEnd> {
        self.left = self.left.checked_sub(1).ok_or(FolderSearchEnd::Unclear)?;
        self.reader.clear();
        Ok(())
    }

    /// The mount and the name at which an absolute or a relative path begins.
    fn begin(
        &mut self,
        fs: KernelVa,
        is_absolute: bool,
    ) -> Result<(KernelVa, KernelVa), FolderSearchEnd> {
        self.take()?;
        let MachineMemory { source, kernel } = &mut *self.memory;
        let layouts = &kernel.layouts;
        self.reader.push(&kernel.space, fs, &layouts.fs_struct.packing);
        self.reader.run(source, kernel.space.levels);
        let view = self.reader.object(0).map(View::new).ok_or(FolderSearchEnd::Unclear)?;
        let fields = &layouts.fs_struct;
        let (mount, dentry) = if is_absolute {
            (fields.root_mnt, fields.root_dentry)
        } else {
            (fields.pwd_mnt, fields.pwd_dentry)
        };
        let (mount, dentry) = (view.pointer(mount), view.pointer(dentry));
        if !mount.is_plausible() || !dentry.is_plausible() {
            return Err(FolderSearchEnd::Unclear);
        }
        Ok((mount.minus(u64::from(layouts.mount.mnt.offset)), dentry))
    }

    /// The root of what is mounted over a name, or the name itself.
    fn top(
        &mut self,
        mut mount: KernelVa,
        mut dentry: KernelVa,
    ) -> Result<(KernelVa, KernelVa), FolderSearchEnd> {
        let mut next = self.mount(mount)?.first;
        while let Some(address) = next {
            let listed = self.mount(address)?;
            if listed.parent != mount {
                return Err(FolderSearchEnd::Unclear);
            }
            next = listed.next;
            if listed.mountpoint == dentry {
                (mount, dentry, next) = (address, listed.root, listed.first);
            }
        }
        Ok((mount, dentry))
    }

    fn mount(&mut self, address: KernelVa) -> Result<ListedMount, FolderSearchEnd> {
        self.take()?;
        let MachineMemory { source, kernel } = &mut *self.memory;
        let layout = &kernel.layouts.mount_tree;
        self.reader.push(&kernel.space, address, &layout.packing);
        self.reader.run(source, kernel.space.levels);
        let bytes = self.reader.object(0).ok_or(FolderSearchEnd::Unclear)?;
        Ok(ListedMount::decode(layout, address, bytes))
    }

    /// Searches a folder for a name. The last one of a path may be missing: bash makes the file.
    fn find(
        &mut self,
        folder: KernelVa,
        name: &[u8],
        is_last: bool,
    ) -> Result<KernelVa, FolderSearchEnd> {
        let (own, _) = self.name(folder)?;
        let of_folder = self.attributes(own.inode)?;
        let mut folders = 0_u32;
        let mut next = own.first;
        while let Some(address) = next {
            let (listed, text) = self.name(address)?;
            // The list has changed, or is not one.
            if listed.parent != folder {
                return Err(FolderSearchEnd::Unclear);
            }
            next = listed.next;
            if listed.unlinked {
                continue;
            }
            if text.as_slice() == name {
                let exists = listed.inode.is_plausible();
                let missing = if is_last {
                    FolderSearchEnd::Unclear
                } else {
                    FolderSearchEnd::Place(HistoryFilePlace::NoFolder)
                };
                return if exists { Ok(address) } else { Err(missing) };
            }
            let is_folder = |file: Attributes| file.mode & mode::S_IFMT == mode::S_IFDIR;
            if !is_last && listed.inode.is_plausible() {
                folders += u32::from(is_folder(self.attributes(listed.inode)?));
            }
        }
        let has_all = of_folder.nlink >= 2 && of_folder.nlink == folders + 2;
        Err(match (is_last, has_all) {
            (true, _) => FolderSearchEnd::Unclear,
            (false, true) => FolderSearchEnd::Place(HistoryFilePlace::NoFolder),
            (false, false) => FolderSearchEnd::Place(HistoryFilePlace::Unnamed),
        })
    }

    /// A dentry, and its name.
    fn name(
        &mut self,
        address: KernelVa,
    ) -> Result<(ListedName, ArrayVec<u8, DENTRY_NAME_BYTES_MAX>), FolderSearchEnd> {
        self.take()?;
        let MachineMemory { source, kernel } = &mut *self.memory;
        let layout = &kernel.layouts.dentry_tree;
        self.reader.push(&kernel.space, address, &layout.packing);
        self.reader.run(source, kernel.space.levels);
        let bytes = self.reader.object(0).ok_or(FolderSearchEnd::Unclear)?;
        let (listed, short) = ListedName::decode(layout, address, bytes);
        let mut name = ArrayVec::new();
        if listed.long_name.is_null() {
            let _ = name.try_extend_from_slice(short);
            return Ok((listed, name));
        }
        self.reader.clear();
        self.reader.push_bytes(&kernel.space, listed.long_name, listed.length);
        self.reader.run(source, kernel.space.levels);
        let _ = name.try_extend_from_slice(self.reader.object(0).ok_or(FolderSearchEnd::Unclear)?);
        Ok((listed, name))
    }

    fn attributes(&mut self, inode: KernelVa) -> Result<Attributes, FolderSearchEnd> {
        self.take()?;
        let MachineMemory { source, kernel } = &mut *self.memory;
        let layout = &kernel.layouts.inode;
        self.reader.push(&kernel.space, inode, &layout.packing);
        self.reader.run(source, kernel.space.levels);
        let bytes = self.reader.object(0).ok_or(FolderSearchEnd::Unclear)?;
        Ok(Attributes::decode(layout, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::ReaderSizes;
    use crate::walk::Kernel;
    use crate::walk::tests::memory::{Sparse, kernel};

    /// A machine with a tree of names.
    struct Machine {
        memory: Sparse,
        kernel: Kernel,
        fs: u64,
        mount: u64,
        root: u64,
    }

    impl Machine {
        /// A root with the folders `home`, which has `u`, and `media`; the kernel does not have the
        /// name of `media`.
        fn new() -> (Self, u64) {
            let mut memory = Sparse::default();
            let (fs, mount) = (memory.structure(), memory.structure());
            let mut machine = Self { memory, kernel: kernel(), fs, mount, root: 0 };
            machine.root = machine.name(0, "", mode::S_IFDIR, 4);
            let root = machine.root;
            machine.mount_at(mount, mount, 0, root);
            machine.memory.set(fs, "fs_struct", "root.mnt", mount);
            machine.memory.set(fs, "fs_struct", "root.dentry", root);
            let home = machine.name(root, "home", mode::S_IFDIR, 3);
            let user = machine.name(home, "u", mode::S_IFDIR, 2);
            (machine, user)
        }

        fn mount_at(&mut self, mount: u64, parent: u64, mountpoint: u64, root: u64) {
            for (field, value) in [
                ("mnt.mnt_root", root),
                ("mnt_parent", parent),
                ("mnt_mountpoint", mountpoint),
                ("mnt_mounts.next", Sparse::field(mount, "mount", "mnt_mounts.next")),
            ] {
                self.memory.set(mount, "mount", field, value);
            }
        }

        /// A name of a file of some kind with so many links; of none if `kind` is 0.
        fn name(&mut self, folder: u64, name: &str, kind: u16, links: u64) -> u64 {
            let dentry = self.memory.structure();
            if kind != 0 {
                let inode = self.memory.structure();
                self.memory.set(inode, "inode", "i_mode", u64::from(kind | 0o755));
                self.memory.set(inode, "inode", "i_nlink", links);
                self.memory.set(dentry, "dentry", "d_inode", inode);
            }
            self.memory.set(dentry, "dentry", "d_hash.pprev", dentry);
            let text = Sparse::field(dentry, "dentry", "d_iname");
            for (at, bytes) in (0..).step_by(8).zip(name.as_bytes().chunks(8)) {
                let mut word = [0; 8];
                word[..bytes.len()].copy_from_slice(bytes);
                self.memory.put(text + at, u64::from_le_bytes(word));
            }
            self.memory.set(dentry, "dentry", "d_name.name", text);
            self.memory.set(dentry, "dentry", "d_name.len", name.len() as u64);
            let parent = if folder == 0 { dentry } else { folder };
            self.memory.set(dentry, "dentry", "d_parent", parent);
            if folder != 0 {
                let first = Sparse::field(folder, "dentry", "d_children.first");
                let first = self.memory.get(first);
                self.memory.set(dentry, "dentry", "d_sib.next", first);
                let link = Sparse::field(dentry, "dentry", "d_sib.next");
                self.memory.set(folder, "dentry", "d_children.first", link);
            }
            dentry
        }

        fn search(&mut self, path: &str) -> HistoryFilePlace {
            let mut reader =
                MemoryReader::new(ReaderSizes { objects: 16, arena_bytes: 1 << 16, walks: 64 });
            let path = ShortText::new(path.as_bytes()).unwrap();
            let mut search = FolderSearch::new(KernelVa(self.fs), path);
            for scan in 0..300 {
                let memory = &mut MachineMemory { source: &mut self.memory, kernel: &self.kernel };
                // A scan may begin with few reads left.
                let mut left = if scan % 2 == 0 { 3 } else { READS_A_SCAN };
                if let Some(place) = search.go_on(&mut reader, memory, &mut left) {
                    return place;
                }
            }
            panic!("it does not end");
        }
    }

    #[test]
    fn a_file_in_a_folder_that_exists_is_one() {
        let (mut machine, user) = Machine::new();
        assert_eq!(machine.search("/home/u/.bash_history"), HistoryFilePlace::File);
        machine.name(user, "old", mode::S_IFREG, 1);
        machine.name(user, "gone", 0, 0);
        for path in ["/home/u/old", "//home/./u/gone", "/new", "/home"] {
            let expected =
                if path == "/home" { HistoryFilePlace::NoFile } else { HistoryFilePlace::File };
            assert_eq!(machine.search(path), expected, "{path}");
        }
    }

    #[test]
    fn only_what_is_known_to_be_absent_is() {
        let (mut machine, user) = Machine::new();
        // The folder has more folders than the kernel has names.
        assert_eq!(machine.search("/nonexistent/x"), HistoryFilePlace::Unnamed);
        assert_eq!(machine.search("/media/x"), HistoryFilePlace::Unnamed);
        // A home with all its folders.
        assert_eq!(machine.search("/home/v/x"), HistoryFilePlace::NoFolder);
        assert_eq!(machine.search("/home/u/.history/x"), HistoryFilePlace::NoFolder);
        // A name that was looked up.
        machine.name(machine.root, "looked", 0, 0);
        assert_eq!(machine.search("/looked/x"), HistoryFilePlace::NoFolder);
        // A folder that has another folder by now.
        machine.name(user, ".history", mode::S_IFDIR, 2);
        assert_eq!(machine.search("/home/u/.history/x"), HistoryFilePlace::File);
    }

    #[test]
    fn what_is_no_folder_or_no_file_is_known() {
        let (mut machine, user) = Machine::new();
        machine.name(user, "file", mode::S_IFREG, 1);
        machine.name(user, "link", mode::S_IFLNK, 1);
        machine.name(user, "fifo", mode::S_IFIFO, 1);
        assert_eq!(machine.search("/home/u/file/x"), HistoryFilePlace::NoFolder);
        assert_eq!(machine.search("/home/u/fifo"), HistoryFilePlace::NoFile);
        assert_eq!(machine.search("/home/u/link/x"), HistoryFilePlace::File);
        assert_eq!(machine.search("/home/u/link"), HistoryFilePlace::File);
        assert_eq!(machine.search("/home/../x/y"), HistoryFilePlace::File);
    }

    #[test]
    fn a_mount_covers_what_it_is_on() {
        let (mut machine, user) = Machine::new();
        let root = machine.name(0, "", mode::S_IFDIR, 3);
        machine.name(root, "kept", mode::S_IFDIR, 2);
        let (below, above) = (machine.mount, machine.memory.structure());
        machine.mount_at(above, below, user, root);
        let list = Sparse::field(below, "mount", "mnt_mounts.next");
        machine.memory.set(above, "mount", "mnt_child.next", list);
        let link = Sparse::field(above, "mount", "mnt_child.next");
        machine.memory.set(below, "mount", "mnt_mounts.next", link);
        assert_eq!(machine.search("/home/u/kept/x"), HistoryFilePlace::File);
        assert_eq!(machine.search("/home/u/other/x"), HistoryFilePlace::NoFolder);
    }

    #[test]
    fn what_cannot_be_read_is_nothing_against_a_file() {
        let (mut machine, user) = Machine::new();
        for at in 0..2000 {
            machine.name(user, &format!("n{at}"), mode::S_IFREG, 1);
        }
        assert_eq!(machine.search("/home/u/x/y"), HistoryFilePlace::File);
        // A list that leads to itself.
        let name = machine.name(machine.root, "loop", mode::S_IFREG, 1);
        let link = Sparse::field(name, "dentry", "d_sib.next");
        machine.memory.set(name, "dentry", "d_sib.next", link);
        assert_eq!(machine.search("/none/x"), HistoryFilePlace::File);
        machine.fs = 0;
        assert_eq!(machine.search("/home/u/x"), HistoryFilePlace::File);
    }
}
