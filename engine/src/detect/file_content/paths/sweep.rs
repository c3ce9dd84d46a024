//! Reads the names that the kernel keeps in memory, a few in each scan, folder by folder.
//!
//! A sweep begins with the mounts that process 1 sees, and then follows the lists of names from its
//! root on. A name that is in no list, because nothing has used it for long, is not seen. The lists
//! change while they are read: one that breaks off is left, and the next sweep reads it again.
//!
//! Bounds: the guest may link anything with anything. A scan reads [`NAMES_PER_SCAN`] names, a list
//! has [`LIST_STEPS_MAX`], a sweep [`SWEEP_STEPS_MAX`], and a path [`PATH_BYTES_MAX`] bytes. The
//! homes of users come last, for [`HOME_SCANS_MAX`] scans: nobody delays the system's folders.
//!
//! The kernel also keeps names that were looked up and do not exist. Any user makes them, the
//! newest come first, and only their number is of interest. They have bounds of their own: a scan
//! passes [`ABSENT_PER_SCAN`], a sweep [`ABSENT_MAX`]. While they delay a sweep, [`super::direct`]
//! reads the names that are known.

use arrayvec::ArrayVec;
use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::dentry::{DENTRY_NAME_BYTES_MAX, ListedName};
use panoptes_decoders::kernel::inode::{Attributes, mode};
use panoptes_decoders::kernel::mount::ListedMount;
use panoptes_decoders::layout::View;
use panoptes_tables::room;

use super::super::important::is_history;
use super::folders::{Matter, is_in_homes, is_of_system, matter};
use super::known::DentryPlace;
use super::mounts::Mounts;
use crate::address::MemoryReader;
use crate::container_config::Glob;
use crate::page_cache::MachineMemory;

/// Number of names that a scan reads.
const NAMES_PER_SCAN: usize = 64;
/// Maximum number of steps in which it reads them. A list continues with the name that was read
/// last, so one step reads one name of each list.
const STEPS_PER_SCAN: usize = 12;
/// Maximum number of lists of names that one step continues.
const LISTS_AT_ONCE: usize = 16;
/// Maximum number of names in one list.
const LIST_STEPS_MAX: u32 = 32_768;
/// Maximum number of names in one sweep.
const SWEEP_STEPS_MAX: u32 = 1 << 20;
/// Number of names without a file that a scan passes beside those that it reads.
const ABSENT_PER_SCAN: usize = 256;
/// Maximum number of them in one sweep. More take some hundred MiB of the machine's memory.
const ABSENT_MAX: u32 = 1 << 21;
/// Number of scans of one sweep that read the homes of users. The newest names of a folder come
/// first.
pub(super) const HOME_SCANS_MAX: u32 = 256;
/// A sweep that has passed so many of them is delayed.
const ABSENT_DELAY: u32 = 1024;
/// Maximum length of a folder's path.
pub(super) const PATH_BYTES_MAX: usize = 200;
/// Maximum number of folders whose lists are being read. With fewer than `FOLDERS_RESERVED` left,
/// lists are read one after the other.
const FOLDERS_MAX: usize = 128;
const FOLDERS_RESERVED: usize = 40;
const _: () = {
    assert!(NAMES_PER_SCAN <= STEPS_PER_SCAN * LISTS_AT_ONCE, "the steps read all names");
    assert!(LISTS_AT_ONCE <= FOLDERS_MAX && FOLDERS_RESERVED < FOLDERS_MAX);
    assert!(LIST_STEPS_MAX < SWEEP_STEPS_MAX, "one list is no sweep");
    assert!(ABSENT_DELAY < ABSENT_MAX, "a sweep is delayed before it ends");
};

/// A path of a folder, with a slash at its end.
pub(super) type Path = ArrayVec<u8, PATH_BYTES_MAX>;

/// A name that a sweep has come to.
#[derive(Clone, Copy, Debug)]
pub(super) struct SweptName<'a> {
    pub path: &'a [u8],
    pub place: DentryPlace,
    /// `struct dentry *` of the folder; null if it is not known.
    pub parent: KernelVa,
    /// `struct inode *`; null for the name of a shell's history that has no file.
    pub inode: KernelVa,
    pub attributes: &'a Attributes,
    /// The folder in whose list it is; none if the name was read by its address.
    pub folder: Option<&'a Folder>,
}

impl SweptName<'_> {
    /// Whether it is what is mounted on a name.
    pub(super) fn is_mounted(&self) -> bool {
        self.folder.is_some_and(|folder| folder.dentry == self.place.dentry)
    }
}

/// A folder whose list of names is being read.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    /// `struct dentry *`
    dentry: KernelVa,
    /// `struct mount *`
    mount: KernelVa,
    /// `struct dentry *` of the next name; null if `dentry` itself is not read yet, since it is the
    /// root of a mount.
    next: KernelVa,
    steps: u32,
    /// Number of names without a file so far.
    absent: u32,
    pub matter: Matter,
    /// When its names were changed last, as it was when its list was begun.
    pub modify_time_ns: i64,
    /// When its list was begun, by the machine's clock.
    pub begun_ns: i64,
    path: Path,
}

/// What a step has read of one list.
#[derive(Clone, Debug)]
struct FolderRead {
    folder: usize,
    dentry: KernelVa,
    listed: Option<ListedName>,
    name: ArrayVec<u8, DENTRY_NAME_BYTES_MAX>,
    /// The places of inode and long name in the second batch.
    inode: Option<u32>,
    long_name: Option<u32>,
    attributes: Option<Attributes>,
}

/// A sweep that continues from scan to scan.
#[derive(Debug)]
pub(super) struct Sweep {
    /// `struct fs_struct *` of process 1.
    fs: KernelVa,
    /// `struct mount *` and `struct dentry *` of its root.
    root: (KernelVa, KernelVa),
    mounts: Mounts,
    folders: Vec<Folder>,
    reads: Vec<FolderRead>,
    steps: u32,
    /// Names without a file, in this sweep.
    absent: u32,
    /// Whether the last scan passed as many of them as it may.
    is_held_up: bool,
    /// The folder with most of them, in this sweep.
    fullest: (u32, Path),
    /// Number of lists of this sweep that were not read to their end, or not at all.
    cut: u32,
    home_scans: u32,
    /// The time by the machine's clock.
    now_ns: i64,
}

/// What a scan's part of a sweep came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum SweepProgress {
    /// Nothing can be read: the root of process 1 is not known.
    Nothing,
    /// The root is another one than before.
    OtherRoot,
    GoesOn,
    Complete,
}

impl Sweep {
    pub(super) fn new() -> Self {
        Self {
            fs: KernelVa::NULL,
            root: (KernelVa::NULL, KernelVa::NULL),
            mounts: Mounts::new(),
            folders: room::list(FOLDERS_MAX),
            reads: room::list(LISTS_AT_ONCE),
            steps: 0,
            absent: 0,
            is_held_up: false,
            fullest: (0, Path::new()),
            cut: 0,
            home_scans: 0,
            now_ns: 0,
        }
    }

    /// Whether names without a file delay the running sweep.
    pub(super) fn is_delayed(&self) -> bool {
        self.is_going_on() && self.absent >= ABSENT_DELAY
    }

    /// Whether the last scan passed as many names without a file as it may.
    pub(super) const fn is_held_up(&self) -> bool {
        self.is_held_up
    }

    /// Number of names without a file that this sweep has passed.
    pub(super) const fn absent(&self) -> u32 {
        self.absent
    }

    /// Number of lists that are not read to their end.
    pub(super) fn unread(&self) -> usize {
        self.folders.len()
    }

    /// Number of lists that the sweep did not read to their end, or not at all, by its bounds.
    pub(super) fn cut(&self) -> u32 {
        self.cut.saturating_add(u32::from(self.mounts.are_cut()))
    }

    /// The folder with most names without a file, in this sweep.
    pub(super) fn fullest(&self) -> &Path {
        &self.fullest.1
    }

    /// Ends the sweep. The next one begins with what is new.
    pub(super) fn end(&mut self) {
        self.folders.clear();
    }

    /// The place of the root of process 1.
    pub(super) const fn root(&self) -> DentryPlace {
        DentryPlace { mount: self.root.0, dentry: self.root.1 }
    }

    /// The mounts that process 1 sees.
    pub(super) const fn mounts(&self) -> &Mounts {
        &self.mounts
    }

    /// Whether a sweep is running; if not, [`Self::go_on`] begins one.
    pub(super) fn is_going_on(&self) -> bool {
        !self.folders.is_empty()
    }

    /// Continues the sweep, or begins one: `fs` is the `struct fs_struct` of process 1, `now_ns`
    /// the time by the machine's clock. Calls `found` for each file and symbolic link in a folder
    /// where files may matter, and for each folder of the system.
    pub(super) fn go_on(
        &mut self,
        (reader, memory): (&mut MemoryReader, &mut MachineMemory<'_>),
        (fs, now_ns): (KernelVa, i64),
        include: &[Glob],
        found: &mut dyn FnMut(&SweptName<'_>),
    ) -> SweepProgress {
        self.now_ns = now_ns;
        if self.folders.is_empty() || self.fs != fs {
            let before = self.root;
            self.fs = fs;
            if !self.begin(reader, memory) {
                self.folders.clear();
                return SweepProgress::Nothing;
            }
            if self.root != before && !before.0.is_null() {
                return SweepProgress::OtherRoot;
            }
        }
        if self.mounts.are_complete() && self.folders.iter().all(is_home) {
            self.home_scans += 1;
            if self.home_scans > HOME_SCANS_MAX {
                self.break_off();
                return SweepProgress::Complete;
            }
        }
        let (mut names, mut steps, mut absent) = (0, 0, 0);
        self.is_held_up = false;
        while steps < STEPS_PER_SCAN && absent < ABSENT_PER_SCAN {
            if self.mounts.are_complete() {
                let read = self.read_names(reader, memory);
                let without_file = self.take_names(include, found);
                absent += without_file;
                names += read - without_file;
                steps += usize::from(read > without_file || read == 0);
            } else {
                steps += 1;
                names += self.mounts.read(reader, memory);
            }
            if self.folders.is_empty() {
                return SweepProgress::Complete;
            }
            if names >= NAMES_PER_SCAN {
                break;
            }
        }
        self.is_held_up = absent >= ABSENT_PER_SCAN;
        self.note_fullest();
        SweepProgress::GoesOn
    }

    /// Notes which folder has most names without a file.
    fn note_fullest(&mut self) {
        if let Some(folder) = self.folders.iter().max_by_key(|folder| folder.absent)
            && folder.absent > self.fullest.0
        {
            self.fullest = (folder.absent, folder.path.clone());
        }
    }

    /// Ends the sweep before its end.
    fn break_off(&mut self) {
        self.note_fullest();
        self.cut = self.cut.saturating_add(self.folders.len() as u32);
        self.folders.clear();
    }

    /// Reads the root of process 1; `false` if it cannot be read.
    fn begin(&mut self, reader: &mut MemoryReader, memory: &mut MachineMemory<'_>) -> bool {
        (self.steps, self.home_scans) = (0, 0);
        (self.absent, self.cut, self.is_held_up) = (0, 0, false);
        self.fullest = (0, Path::new());
        self.folders.clear();
        let MachineMemory { source, kernel } = memory;
        let layouts = &kernel.layouts;
        reader.clear();
        reader.push(&kernel.space, self.fs, &layouts.fs_struct.packing);
        reader.run(source, kernel.space.levels);
        let Some(view) = reader.object(0).map(View::new) else { return false };
        let mount = view.pointer(layouts.fs_struct.root_mnt);
        let dentry = view.pointer(layouts.fs_struct.root_dentry);
        if !mount.is_plausible() || !dentry.is_plausible() {
            return false;
        }
        let mount = mount.minus(u64::from(layouts.mount.mnt.offset));
        self.root = (mount, dentry);
        reader.clear();
        reader.push(&kernel.space, mount, &layouts.mount_tree.packing);
        reader.run(source, kernel.space.levels);
        let Some(bytes) = reader.object(0) else { return false };
        let listed = ListedMount::decode(&layouts.mount_tree, mount, bytes);
        self.mounts.begin(mount, listed.first);
        let path = b"/".iter().copied().collect();
        self.push_mounted(mount, dentry, Matter::ByName, path);
        true
    }

    /// Adds what is mounted somewhere: the root of a mount.
    fn push_mounted(&mut self, mount: KernelVa, root: KernelVa, matter: Matter, path: Path) {
        self.push(Folder {
            dentry: root,
            mount,
            next: KernelVa::NULL,
            steps: 0,
            absent: 0,
            matter,
            modify_time_ns: 0,
            begun_ns: self.now_ns,
            path,
        });
    }

    /// Adds a folder, if there is room.
    fn push(&mut self, folder: Folder) {
        if self.folders.len() < FOLDERS_MAX {
            self.folders.push(folder);
        } else {
            self.cut = self.cut.saturating_add(1);
        }
    }

    /// Returns the folders whose lists the next step continues, those in homes only if there are no
    /// others. At most half of them are from the beginning: long lists are there, while the last
    /// ones are those of the newest folders, which leave soon.
    fn choose(&self) -> ArrayVec<usize, LISTS_AT_ONCE> {
        let only_homes = self.folders.iter().all(is_home);
        let all = self.folders.iter().enumerate();
        let chosen = all.filter(|(_, folder)| is_home(folder) == only_homes);
        let chosen: ArrayVec<usize, FOLDERS_MAX> = chosen.map(|(at, _)| at).collect();
        let count = chosen.len();
        if FOLDERS_MAX - self.folders.len() < FOLDERS_RESERVED {
            return chosen.last().copied().into_iter().collect();
        }
        let first = (LISTS_AT_ONCE / 2).min(count);
        let last = count.saturating_sub(LISTS_AT_ONCE / 2).max(first);
        chosen[..first].iter().chain(&chosen[last..]).copied().collect()
    }

    /// Reads the next name of some lists, with its inode; returns how many were read.
    fn read_names(&mut self, reader: &mut MemoryReader, memory: &mut MachineMemory<'_>) -> usize {
        let MachineMemory { source, kernel } = memory;
        let layouts = &kernel.layouts;
        self.reads.clear();
        reader.clear();
        for folder in self.choose() {
            let from = &self.folders[folder];
            let dentry = if from.next.is_null() { from.dentry } else { from.next };
            if reader.push(&kernel.space, dentry, &layouts.dentry_tree.packing).is_none() {
                break;
            }
            self.reads.push(FolderRead {
                folder,
                dentry,
                listed: None,
                name: ArrayVec::new(),
                inode: None,
                long_name: None,
                attributes: None,
            });
        }
        reader.run(source, kernel.space.levels);
        for (object, read) in self.reads.iter_mut().enumerate() {
            let Some(bytes) = reader.object(object) else { continue };
            let (listed, name) = ListedName::decode(&layouts.dentry_tree, read.dentry, bytes);
            read.listed = Some(listed);
            read.name.extend(name.iter().copied().take(DENTRY_NAME_BYTES_MAX));
        }
        reader.clear();
        for read in &mut self.reads {
            let Some(listed) = read.listed.filter(|it| !it.unlinked && !it.inode.is_null()) else {
                continue;
            };
            read.inode = reader.push(&kernel.space, listed.inode, &layouts.inode.packing);
            if !listed.long_name.is_null() {
                read.long_name = reader.push_bytes(&kernel.space, listed.long_name, listed.length);
            }
        }
        if !reader.is_empty() {
            reader.run(source, kernel.space.levels);
        }
        for read in &mut self.reads {
            let object = |pushed: Option<u32>| reader.object(pushed? as usize);
            let decode = |bytes| Attributes::decode(&layouts.inode, bytes);
            read.attributes = object(read.inode).map(decode);
            if let Some(bytes) = object(read.long_name) {
                read.name = bytes.iter().copied().take(DENTRY_NAME_BYTES_MAX).collect();
            }
        }
        self.reads.len()
    }

    /// Follows what was read: continues lists, adds folders and passes files on. Returns the number
    /// of names without a file.
    fn take_names(&mut self, include: &[Glob], found: &mut dyn FnMut(&SweptName<'_>)) -> usize {
        let before = self.absent;
        let mut reads = core::mem::take(&mut self.reads);
        // From the last one on: a folder that is removed is replaced by the last one.
        let mut over: ArrayVec<usize, LISTS_AT_ONCE> = ArrayVec::new();
        for read in &reads {
            if is_absent(read) {
                self.absent = self.absent.saturating_add(1);
            } else {
                self.steps = self.steps.saturating_add(1);
            }
            if !self.advance(read) {
                over.push(read.folder);
            }
            self.take_name(read, include, found);
        }
        over.sort_unstable();
        for folder in over.into_iter().rev() {
            self.folders.swap_remove(folder);
        }
        if self.steps >= SWEEP_STEPS_MAX || self.absent >= ABSENT_MAX {
            self.break_off();
        }
        reads.clear();
        self.reads = reads;
        (self.absent - before) as usize
    }

    /// Advances to the next name of a list; `false` at its end, or where it breaks off.
    fn advance(&mut self, read: &FolderRead) -> bool {
        let folder = &mut self.folders[read.folder];
        let Some(listed) = &read.listed else { return false };
        if is_absent(read) {
            folder.absent += 1;
        } else {
            folder.steps += 1;
        }
        if folder.next.is_null() {
            // The root of a mount: its own list begins.
            folder.modify_time_ns = read.attributes.map_or(0, |it| it.mtime_ns);
            folder.begun_ns = self.now_ns;
            folder.next = listed.first.unwrap_or_default();
            return listed.first.is_some() && read.attributes.is_some_and(|it| is_folder(&it));
        }
        if listed.parent != folder.dentry {
            return false;
        }
        if folder.steps > LIST_STEPS_MAX {
            self.cut = self.cut.saturating_add(1);
            return false;
        }
        folder.next = listed.next.unwrap_or_default();
        listed.next.is_some_and(KernelVa::is_plausible)
    }

    /// Passes on the name of a shell's history that has no file.
    fn take_history(&self, read: &FolderRead, found: &mut dyn FnMut(&SweptName<'_>)) {
        let folder = &self.folders[read.folder];
        let Some(listed) = read.listed.filter(|it| it.inode.is_null() && !it.unlinked) else {
            return;
        };
        let mut path: ArrayVec<u8, { PATH_BYTES_MAX + DENTRY_NAME_BYTES_MAX }> = ArrayVec::new();
        path.extend(folder.path.iter().chain(&read.name).copied());
        if listed.parent == folder.dentry && is_history(&path) {
            let place = DentryPlace { mount: folder.mount, dentry: read.dentry };
            let (parent, attributes) = (listed.parent, &Attributes::default());
            let (path, inode, folder) = (&path[..], KernelVa::NULL, Some(folder));
            found(&SweptName { path, place, parent, inode, attributes, folder });
        }
    }

    /// Adds a folder, or passes a file on.
    fn take_name(
        &mut self,
        read: &FolderRead,
        include: &[Glob],
        found: &mut dyn FnMut(&SweptName<'_>),
    ) {
        let (Some(listed), Some(attributes)) = (read.listed, &read.attributes) else {
            return self.take_history(read, found);
        };
        let folder = &self.folders[read.folder];
        let place = DentryPlace { mount: folder.mount, dentry: read.dentry };
        let (inode, parent) = (listed.inode, listed.parent);
        let folder_of = Some(folder);
        if read.dentry == folder.dentry {
            // A mount on a file.
            let path = folder.path.strip_suffix(b"/").unwrap_or_default();
            if is_folder(attributes) && is_of_system(&folder.path) {
                let path = if path.is_empty() { b"/" } else { path };
                found(&SweptName { path, place, parent, inode, attributes, folder: folder_of });
            } else if !path.is_empty() && (is_file(attributes) || is_history(path)) {
                found(&SweptName { path, place, parent, inode, attributes, folder: folder_of });
            }
            return;
        }
        if listed.parent != folder.dentry || read.name.is_empty() {
            return;
        }
        let mut path: ArrayVec<u8, { PATH_BYTES_MAX + DENTRY_NAME_BYTES_MAX }> = ArrayVec::new();
        path.extend(folder.path.iter().chain(&read.name).copied());
        let mounted = self.mounts.on(place);
        if mounted.is_none() && (is_file(attributes) || is_history(&path)) {
            found(&SweptName { path: &path, place, parent, inode, attributes, folder: folder_of });
            return;
        }
        if path.len() >= PATH_BYTES_MAX {
            return;
        }
        path.push(b'/');
        let below = matter(&path, include);
        if mounted.is_none() && below.is_some() && is_folder(attributes) && is_of_system(&path) {
            let path = path.strip_suffix(b"/").unwrap_or_default();
            found(&SweptName { path, place, parent, inode, attributes, folder: folder_of });
        }
        let path = path.iter().copied().collect();
        if let Some(mounted) = mounted {
            // A mount on a file matters as that file does.
            let matter = if is_file(attributes) { Some(folder.matter) } else { below };
            if let Some(matter) = matter {
                self.push_mounted(mounted.address, mounted.root, matter, path);
            }
        } else if is_folder(attributes)
            && let (Some(matter), Some(first)) = (below, listed.first)
        {
            self.push(Folder {
                dentry: read.dentry,
                mount: place.mount,
                next: first,
                steps: 0,
                absent: 0,
                matter,
                modify_time_ns: attributes.mtime_ns,
                begun_ns: self.now_ns,
                path,
            });
        }
    }
}

/// Whether the kernel only keeps that there is no file of this name, or does not keep the name any
/// more.
fn is_absent(read: &FolderRead) -> bool {
    read.listed.is_some_and(|listed| listed.inode.is_null())
}

fn is_home(folder: &Folder) -> bool {
    is_in_homes(&folder.path)
}

fn is_folder(attributes: &Attributes) -> bool {
    attributes.kind() == mode::S_IFDIR
}

/// Whether it is a regular file or a symbolic link.
fn is_file(attributes: &Attributes) -> bool {
    [mode::S_IFREG, mode::S_IFLNK].contains(&attributes.kind())
}
