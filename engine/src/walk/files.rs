//! Open files, inodes, names, mounts and filesystems that the earlier rounds found.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::Layouts;
use panoptes_decoders::kernel::dentry::Name;
use panoptes_decoders::kernel::file::{FMODE_BACKING_MAYBE, OpenFile};
use panoptes_decoders::kernel::inode::Attributes;
use panoptes_decoders::kernel::mount::Mounted;
use panoptes_decoders::kernel::super_block::{Filesystem, magic};
use panoptes_decoders::layout::View;
use panoptes_decoders::paging::Levels;
use panoptes_decoders::source::MemorySource;

use super::processes::path_of;
use super::snapshot::{
    CgroupRow, CssSetRow, CssStateRow, DentryRow, FileRow, Index, InodeRow, KernfsRow, MountRow,
    NAME_INLINE_BYTES, NameKind, NameRow, Rows, Span, SuperBlockRow,
};
use super::tables::Snapshot;
use super::{Kernel, Walker, cgroups, fetch, fetch_groups};
use panoptes_tables::Keyed;

/// Maximum number of directory levels followed. A path has at most 4096 bytes (`PATH_MAX`), so 2048
/// levels, but a tree can be deeper than a path is long.
const DEPTH_MAX: u32 = 4096;

/// Maximum number of mapped files of layered filesystems in one scan; further files keep their
/// paths on the layers.
pub(super) const USER_PATHS_MAX: usize = 65_536;

/// Maximum number of names that one scan reads again because they were changing.
pub(super) const TORN_MAX: usize = 4096;

/// Maximum number of rereads of changing names. A change takes less than a microsecond, unless its
/// processor is stopped during the change.
const ATTEMPTS_MAX: u32 = 8;

impl FileRow {
    pub(super) fn new(address: KernelVa) -> Self {
        Self { address, ..Self::default() }
    }
}

impl DentryRow {
    pub(super) fn new(address: KernelVa) -> Self {
        Self { name: Name { address, ..Name::default() }, ..Self::default() }
    }
}

impl MountRow {
    pub(super) fn new(address: KernelVa) -> Self {
        Self { address, ..Self::default() }
    }
}

/// New rows of the tables that lead to each other.
#[derive(Clone, Copy, Debug, Default)]
struct Places {
    dentries: Span<DentryRow>,
    mounts: Span<MountRow>,
    inodes: Span<InodeRow>,
    super_blocks: Span<SuperBlockRow>,
    css_sets: Span<CssSetRow>,
    css_states: Span<CssStateRow>,
    cgroups: Span<CgroupRow>,
    kernfs_nodes: Span<KernfsRow>,
}

impl Places {
    /// The rows added since `self`.
    fn next(&self, snapshot: &Snapshot) -> Self {
        Self {
            dentries: snapshot.dentries.span_after(self.dentries),
            mounts: snapshot.mounts.span_after(self.mounts),
            inodes: snapshot.inodes.span_after(self.inodes),
            super_blocks: snapshot.super_blocks.span_after(self.super_blocks),
            css_sets: snapshot.css_sets.span_after(self.css_sets),
            css_states: snapshot.css_states.span_after(self.css_states),
            cgroups: snapshot.cgroups.span_after(self.cgroups),
            kernfs_nodes: snapshot.kernfs_nodes.span_after(self.kernfs_nodes),
        }
    }

    fn is_empty(&self) -> bool {
        self.dentries.is_empty()
            && self.mounts.is_empty()
            && self.inodes.is_empty()
            && self.super_blocks.is_empty()
            && self.css_sets.is_empty()
            && self.css_states.is_empty()
            && self.cgroups.is_empty()
            && self.kernfs_nodes.is_empty()
    }
}

/// The addresses of [`Places`].
#[derive(Debug)]
pub(super) struct Lists {
    dentries: Vec<KernelVa>,
    mounts: Vec<KernelVa>,
    inodes: Vec<KernelVa>,
    super_blocks: Vec<KernelVa>,
    css_sets: Vec<KernelVa>,
    css_states: Vec<KernelVa>,
    cgroups: Vec<KernelVa>,
    kernfs_nodes: Vec<KernelVa>,
}

impl Lists {
    /// Allocates for all rows of a snapshot.
    pub(super) fn new(snapshot: &Snapshot) -> Self {
        Self {
            dentries: Vec::with_capacity(snapshot.dentries.capacity()),
            mounts: Vec::with_capacity(snapshot.mounts.capacity()),
            inodes: Vec::with_capacity(snapshot.inodes.capacity()),
            super_blocks: Vec::with_capacity(snapshot.super_blocks.capacity()),
            css_sets: Vec::with_capacity(snapshot.css_sets.capacity()),
            css_states: Vec::with_capacity(snapshot.css_states.capacity()),
            cgroups: Vec::with_capacity(snapshot.cgroups.capacity()),
            kernfs_nodes: Vec::with_capacity(snapshot.kernfs_nodes.capacity()),
        }
    }

    fn collect(&mut self, snapshot: &Snapshot, new: &Places) {
        list(&mut self.dentries, &snapshot.dentries, new.dentries, |row| row.name.address);
        list(&mut self.mounts, &snapshot.mounts, new.mounts, |row| row.address);
        list(&mut self.inodes, &snapshot.inodes, new.inodes, |row| row.address);
        list(&mut self.super_blocks, &snapshot.super_blocks, new.super_blocks, |row| row.address);
        list(&mut self.css_sets, &snapshot.css_sets, new.css_sets, |row| row.address);
        list(&mut self.css_states, &snapshot.css_states, new.css_states, |row| row.address);
        list(&mut self.cgroups, &snapshot.cgroups, new.cgroups, |row| row.address);
        list(&mut self.kernfs_nodes, &snapshot.kernfs_nodes, new.kernfs_nodes, |row| row.address);
    }
}

fn list<Row>(
    to: &mut Vec<KernelVa>,
    rows: &Rows<Row>,
    new: Span<Row>,
    address: impl Fn(&Row) -> KernelVa,
) {
    to.clear();
    to.extend(rows.range(new).iter().map(address));
}

impl Walker {
    /// Reads every file that has a row, then everything that it leads to.
    pub(super) fn read_files<S: MemorySource>(&mut self, source: &mut S, kernel: &Kernel) {
        self.read_open_files(source, kernel);
        self.read_user_paths(source, kernel);
        let mut new = Places::default();
        let mut attempts = 0;
        self.scratch.torn.clear();
        for _ in 0..DEPTH_MAX {
            new = new.next(&self.snapshot);
            if !new.is_empty() {
                self.read_places(source, kernel, &new);
                continue;
            }
            if self.scratch.torn.is_empty() {
                break;
            }
            // Read the changing names again, and then what they lead to.
            self.read_torn_names(source, kernel);
            attempts += 1;
            if attempts == ATTEMPTS_MAX {
                self.scratch.torn.clear();
            }
        }
        self.take_user_paths();
        self.read_long_names(source, kernel);
        self.find_containers(source, kernel);
        self.name_namespace_files(source, kernel);
        self.name_buffers(kernel);
        self.read_names(source, kernel);
    }

    fn read_open_files<S: MemorySource>(&mut self, source: &mut S, kernel: &Kernel) {
        let layouts = &kernel.layouts;
        let mnt = u64::from(layouts.mount.mnt.offset);
        let snapshot = &mut self.snapshot;
        let addresses = &mut self.scratch.addresses;
        addresses.clear();
        addresses.extend(snapshot.files.iter().map(|file| file.address));
        let all = snapshot.files.span_from(0);
        let packing = &layouts.file.packing;
        let backed = &mut self.scratch.backed;
        backed.clear();
        let room = if layouts.backing_file.is_some() { USER_PATHS_MAX } else { 0 };
        fetch(&mut self.reader, source, kernel, packing, addresses, |index, bytes| {
            let (Some(bytes), Some(row)) = (bytes, all.nth(index)) else {
                snapshot.losses.unreadable += 1;
                return;
            };
            let file = &mut snapshot.files[row];
            file.open = OpenFile::decode(&layouts.file, bytes);
            if matches!(kernel.space.levels, Levels::Aarch64(_)) {
                file.open = file.open.of_arm64();
            }
            let inode = file.open.inode;
            let inode_row = || InodeRow { address: inode, ..InodeRow::default() };
            file.inode = snapshot.inodes.row_of(inode.0, inode_row);
            if file.mapped && file.open.mode & FMODE_BACKING_MAYBE != 0 && backed.len() < room {
                backed.push(row);
            }
            let dentry = file.open.dentry;
            if !dentry.is_null() {
                let mount = file.open.mnt.minus(mnt);
                file.path = path_of(&mut snapshot.mounts, &mut snapshot.dentries, mount, dentry);
            }
        });
    }

    /// Reads the paths that users know for files mapped through a layered filesystem.
    /// [`Self::take_user_paths`] later decides which of these really are paths.
    fn read_user_paths<S: MemorySource>(&mut self, source: &mut S, kernel: &Kernel) {
        let user_paths = &mut self.scratch.user_paths;
        user_paths.clear();
        let Some(layout) = &kernel.layouts.backing_file else { return };
        let (Some(dentry), Some(mount)) = (layout.user_path_dentry, layout.user_path_mnt) else {
            return;
        };
        let mnt = u64::from(kernel.layouts.mount.mnt.offset);
        let snapshot = &mut self.snapshot;
        let (backed, addresses) = (&self.scratch.backed, &mut self.scratch.addresses);
        addresses.clear();
        addresses.extend(backed.iter().map(|&file| snapshot.files[file].address));
        fetch(&mut self.reader, source, kernel, &layout.packing, addresses, |index, bytes| {
            let Some(view) = bytes.map(View::new) else { return };
            let (dentry, mount) = (view.pointer(dentry), view.pointer(mount));
            if dentry.is_plausible() && mount.is_plausible() {
                let mount = mount.minus(mnt);
                let path = path_of(&mut snapshot.mounts, &mut snapshot.dentries, mount, dentry);
                user_paths.push((backed[index], path));
            }
        });
    }

    /// Accepts a user path if its name is on the filesystem of its mount.
    fn take_user_paths(&mut self) {
        let snapshot = &mut self.snapshot;
        for &(file, path) in &self.scratch.user_paths {
            let filesystem =
                |dentry: Option<_>| snapshot.dentries.at(dentry).map(|row| row.name.super_block);
            let root = snapshot.mounts.at(path.mount).and_then(|mount| filesystem(mount.root));
            if root.is_some_and(|root| !root.is_null()) && root == filesystem(path.dentry) {
                snapshot.files[file].path = path;
            }
        }
    }

    /// Reads new rows.
    fn read_places<S: MemorySource>(&mut self, source: &mut S, kernel: &Kernel, new: &Places) {
        #[derive(Clone, Copy)]
        enum Kind {
            Dentry,
            Mount,
            Inode,
            SuperBlock,
            CssSet,
            CssState,
            Cgroup,
            KernfsNode,
        }
        let layouts = &kernel.layouts;
        let groups = cgroups::Packings::of(layouts);
        let snapshot = &mut self.snapshot;
        let (lists, torn) = (&mut self.scratch.places, &mut self.scratch.torn);
        lists.collect(snapshot, new);
        let batch = [
            (Kind::Dentry, &layouts.dentry.packing, lists.dentries.as_slice()),
            (Kind::Mount, &layouts.mount.packing, &lists.mounts),
            (Kind::Inode, &layouts.inode.packing, &lists.inodes),
            (Kind::SuperBlock, &layouts.super_block.packing, &lists.super_blocks),
            (Kind::CssSet, &groups.css_set, &lists.css_sets),
            (Kind::CssState, &groups.css_state, &lists.css_states),
            (Kind::Cgroup, &groups.cgroup, &lists.cgroups),
            (Kind::KernfsNode, &groups.kernfs_node, &lists.kernfs_nodes),
        ];
        // Each kind's rows are in the order of its list, so there is a row for each index.
        let mut place = |kind, index, bytes: &[u8]| -> Option<()> {
            let view = View::new(bytes);
            match kind {
                Kind::Dentry => {
                    let row = new.dentries.nth(index)?;
                    let taken = take_dentry(layouts, &mut snapshot.dentries, row, bytes);
                    if !taken && torn.len() < torn.capacity() {
                        torn.push(row);
                    }
                }
                Kind::Mount => snapshot.place_mount(layouts, new.mounts.nth(index)?, bytes),
                Kind::Inode => snapshot.place_inode(layouts, new.inodes.nth(index)?, bytes),
                Kind::SuperBlock => {
                    let row = &mut snapshot.super_blocks[new.super_blocks.nth(index)?];
                    row.filesystem = Filesystem::decode(&layouts.super_block, bytes);
                }
                Kind::CssSet => {
                    snapshot.place_css_set(layouts, new.css_sets.nth(index)?, view, bytes);
                }
                Kind::CssState => {
                    snapshot.place_css_state(layouts, new.css_states.nth(index)?, view);
                }
                Kind::Cgroup => snapshot.place_cgroup(layouts, new.cgroups.nth(index)?, view),
                Kind::KernfsNode => {
                    snapshot.place_kernfs_node(layouts, new.kernfs_nodes.nth(index)?, view);
                }
            }
            Some(())
        };
        let mut unreadable = 0;
        fetch_groups(&mut self.reader, source, kernel, batch, |kind, index, bytes| {
            if bytes.and_then(|bytes| place(kind, index, bytes)).is_none() {
                unreadable += 1;
            }
        });
        self.snapshot.losses.unreadable += unreadable;
    }

    /// Reads again the names that were changing; those that still change stay listed.
    fn read_torn_names<S: MemorySource>(&mut self, source: &mut S, kernel: &Kernel) {
        let layouts = &kernel.layouts;
        let (rows, torn) = (&mut self.scratch.dentries, &mut self.scratch.torn);
        rows.clear();
        rows.append(torn);
        let (dentries, losses) = (&mut self.snapshot.dentries, &mut self.snapshot.losses);
        let addresses = &mut self.scratch.addresses;
        addresses.clear();
        addresses.extend(rows.iter().map(|&row| dentries[row].name.address));
        let packing = &layouts.dentry.packing;
        fetch(&mut self.reader, source, kernel, packing, addresses, |index, bytes| {
            let Some(bytes) = bytes else {
                losses.unreadable += 1;
                return;
            };
            if !take_dentry(layouts, dentries, rows[index], bytes) {
                torn.push(rows[index]);
            }
        });
    }

    /// Reads the names that are stored outside of their dentries.
    fn read_long_names<S: MemorySource>(&mut self, source: &mut S, kernel: &Kernel) {
        let todo = &mut self.scratch.dentries;
        todo.clear();
        let dentries = &mut self.snapshot.dentries;
        let long = dentries.indexed().filter(|(_, row)| !row.name.long_name.is_null());
        todo.extend(long.map(|(index, _)| index));
        let mut done = 0;
        while done < todo.len() {
            self.reader.clear();
            for &index in &todo[done..] {
                let name = &dentries[index].name;
                if self.reader.push_bytes(&kernel.space, name.long_name, name.length).is_none() {
                    break;
                }
            }
            let count = self.reader.len();
            if count == 0 {
                break;
            }
            self.reader.run(source, kernel.space.levels);
            for object in 0..count {
                let row = &mut dentries[todo[done + object]];
                match self.reader.object(object) {
                    Some(bytes) => {
                        if let Some(text) = self.snapshot.bytes.extend(bytes) {
                            row.long = text.first();
                            row.readable = true;
                        }
                    }
                    None => self.snapshot.losses.unreadable += 1,
                }
            }
            done += count;
        }
    }

    /// Adds name rows for the inodes of buffers shared between devices.
    fn name_buffers(&mut self, kernel: &Kernel) {
        if kernel.layouts.dma_buf.is_none() {
            return;
        }
        let snapshot = &mut self.snapshot;
        for file in snapshot.files.iter() {
            let Some(inode) = snapshot.inodes.at_mut(file.inode) else { continue };
            let filesystem = snapshot.super_blocks.at(inode.super_block);
            if filesystem.is_some_and(|row| row.filesystem.magic == magic::DMA_BUF) {
                let buffer = file.open.private_data;
                let row = || NameRow::new(buffer, NameKind::DmaBuf);
                inode.own_name = snapshot.names.row_of(buffer.0, row);
            }
        }
    }

    /// Adds name rows for the inodes of namespace files: the name of the namespace's kind.
    fn name_namespace_files<S: MemorySource>(&mut self, source: &mut S, kernel: &Kernel) {
        let snapshot = &mut self.snapshot;
        let (todo, addresses) = (&mut self.scratch.inodes, &mut self.scratch.addresses);
        todo.clear();
        addresses.clear();
        for (index, inode) in snapshot.inodes.indexed() {
            let filesystem = snapshot.super_blocks.at(inode.super_block);
            if filesystem.is_some_and(|row| row.filesystem.magic == magic::NSFS) {
                todo.push(index);
                addresses.push(inode.address);
            }
        }
        let layout = &kernel.layouts.inode_private;
        fetch(&mut self.reader, source, kernel, &layout.packing, addresses, |index, bytes| {
            let Some(view) = bytes.map(View::new) else {
                snapshot.losses.unreadable += 1;
                return;
            };
            let ns = view.pointer(layout.i_private);
            let row = || NameRow::new(ns, NameKind::Namespace);
            snapshot.inodes[todo[index]].own_name = snapshot.names.row_of(ns.0, row);
        });
    }
}

impl Snapshot {
    fn place_mount(&mut self, layouts: &Layouts, row: Index<MountRow>, bytes: &[u8]) {
        let mounted = Mounted::decode(&layouts.mount, bytes);
        let mut dentry =
            |address: KernelVa| self.dentries.row_of(address.0, || DentryRow::new(address));
        let root = dentry(mounted.root);
        let mountpoint = dentry(mounted.mountpoint);
        let parent = self.mounts.row_of(mounted.parent.0, || MountRow::new(mounted.parent));
        let mount = &mut self.mounts[row];
        *mount = MountRow { address: mount.address, mounted, root, parent, mountpoint };
    }

    fn place_inode(&mut self, layouts: &Layouts, row: Index<InodeRow>, bytes: &[u8]) {
        let attributes = Attributes::decode(&layouts.inode, bytes);
        let address = attributes.super_block;
        let super_block = self
            .super_blocks
            .row_of(address.0, || SuperBlockRow { address, ..SuperBlockRow::default() });
        let inode = &mut self.inodes[row];
        inode.attributes = attributes;
        inode.super_block = super_block;
    }
}

/// Decodes a packed dentry into its row. Returns `false`, and changes nothing, if the name was
/// changing.
fn take_dentry(
    layouts: &Layouts,
    dentries: &mut Keyed<DentryRow>,
    row: Index<DentryRow>,
    bytes: &[u8],
) -> bool {
    let (name, text) = Name::decode(&layouts.dentry, dentries[row].name.address, bytes);
    if name.changing {
        return false;
    }
    let parent = dentries.row_of(name.parent.0, || DentryRow::new(name.parent));
    let dentry = &mut dentries[row];
    dentry.name = name;
    dentry.parent = parent;
    let length = text.len().min(NAME_INLINE_BYTES);
    dentry.text[..length].copy_from_slice(&text[..length]);
    dentry.readable = name.long_name.is_null();
    true
}
