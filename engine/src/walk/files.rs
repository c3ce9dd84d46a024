//! Open files, inodes, names, mounts and filesystems that the earlier rounds found.

use core::mem;

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

use super::cgroups::{self, Groups};
use super::processes::path_of;
use super::snapshot::{
    DentryRow, FileRow, InodeRow, MountRow, NAME_INLINE_BYTES, NameKind, PathRef, Rows,
    SuperBlockRow,
};
use super::{Kernel, Maps, NONE, NameRow, Walker, fetch, fetch_groups, row_of};

/// Maximum number of directory levels followed. A path has at most 4096 bytes (`PATH_MAX`), so 2048
/// levels, but a tree can be deeper than a path is long.
const DEPTH_MAX: u32 = 4096;

/// Maximum number of mapped files of layered filesystems in one scan; further files keep their
/// paths on the layers.
pub(super) const USER_PATHS_MAX: usize = 65_536;

/// Maximum number of rereads of changing names. A change takes less than a microsecond, unless its
/// processor is stopped during the change.
const ATTEMPTS_MAX: u32 = 8;

impl FileRow {
    pub(super) fn new(address: KernelVa) -> Self {
        Self {
            address,
            inode: NONE,
            connection: NONE,
            socket: NONE,
            terminal: NONE,
            ..Self::default()
        }
    }
}

impl DentryRow {
    pub(super) fn new(address: KernelVa) -> Self {
        Self { name: Name { address, ..Name::default() }, ..Self::default() }
    }
}

impl MountRow {
    pub(super) fn new(address: KernelVa) -> Self {
        Self { address, mounted: Mounted::default(), root: NONE, parent: NONE, mountpoint: NONE }
    }
}

impl Walker {
    /// Reads every file that has a row, then everything that it leads to.
    pub(super) fn read_files<S: MemorySource>(&mut self, source: &mut S, kernel: &Kernel) {
        self.read_open_files(source, kernel);
        self.read_user_paths(source, kernel);
        let (mut dentries, mut mounts, mut inodes, mut super_blocks) = (0, 0, 0, 0);
        let mut groups = [0; cgroups::KINDS];
        self.scratch.torn.clear();
        let mut attempts = 0;
        for _ in 0..DEPTH_MAX {
            let snapshot = &self.snapshot;
            let done = dentries == snapshot.dentries.len()
                && mounts == snapshot.mounts.len()
                && inodes == snapshot.inodes.len()
                && super_blocks == snapshot.super_blocks.len()
                && groups == cgroups::counts(snapshot);
            if done && self.scratch.torn.is_empty() {
                break;
            }
            if done {
                // Read the changing names again, and then what they lead to.
                self.read_torn_names(source, kernel);
                attempts += 1;
                if attempts == ATTEMPTS_MAX {
                    self.scratch.torn.clear();
                }
                continue;
            }
            let from = [dentries, mounts, inodes, super_blocks];
            dentries = snapshot.dentries.len();
            mounts = snapshot.mounts.len();
            inodes = snapshot.inodes.len();
            super_blocks = snapshot.super_blocks.len();
            let groups_from = core::mem::replace(&mut groups, cgroups::counts(snapshot));
            self.read_places(source, kernel, from, groups_from);
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
        let (files, inodes, mounts, dentries) = (
            &mut snapshot.files,
            &mut snapshot.inodes,
            &mut snapshot.mounts,
            &mut snapshot.dentries,
        );
        let (maps, losses) = (&mut self.maps, &mut snapshot.losses);
        let packing = &layouts.file.packing;
        let (backed, backed_rows) = (&mut self.scratch.more, &mut self.scratch.owners);
        backed.clear();
        backed_rows.clear();
        let room = if layouts.backing_file.is_some() { USER_PATHS_MAX } else { 0 };
        fetch(&mut self.reader, source, kernel, packing, addresses, |index, bytes| {
            let Some(bytes) = bytes else {
                losses.unreadable += 1;
                return;
            };
            let file = &mut files[index];
            file.open = OpenFile::decode(&layouts.file, bytes);
            if matches!(kernel.space.levels, Levels::Aarch64(_)) {
                file.open = file.open.of_arm64();
            }
            let inode = file.open.inode;
            file.inode = row_of(&mut maps.inodes, inodes, inode, || InodeRow {
                address: inode,
                super_block: NONE,
                own_name: NONE,
                ..InodeRow::default()
            });
            if file.mapped && file.open.mode & FMODE_BACKING_MAYBE != 0 && backed.len() < room {
                backed.push(file.address);
                backed_rows.push(index as u32);
            }
            file.path = if file.open.dentry.is_null() {
                PathRef::default()
            } else {
                path_of(
                    &mut maps.mounts,
                    mounts,
                    &mut maps.dentries,
                    dentries,
                    file.open.mnt.minus(mnt),
                    file.open.dentry,
                )
            };
        });
    }

    /// Reads the paths that users know for files mapped through a layered filesystem.
    /// [`Self::take_user_paths`] later decides which of these really are paths.
    fn read_user_paths<S: MemorySource>(&mut self, source: &mut S, kernel: &Kernel) {
        self.scratch.user_paths.clear();
        let Some(layout) = &kernel.layouts.backing_file else { return };
        let (Some(dentry), Some(mount)) = (layout.user_path_dentry, layout.user_path_mnt) else {
            return;
        };
        let mnt = u64::from(kernel.layouts.mount.mnt.offset);
        let (backed, rows) = (&self.scratch.more, &self.scratch.owners);
        let user_paths = &mut self.scratch.user_paths;
        let (snapshot, maps) = (&mut self.snapshot, &mut self.maps);
        let (mounts, dentries) = (&mut snapshot.mounts, &mut snapshot.dentries);
        fetch(&mut self.reader, source, kernel, &layout.packing, backed, |index, bytes| {
            let Some(view) = bytes.map(View::new) else { return };
            let (dentry, mount) = (view.pointer(dentry), view.pointer(mount));
            if dentry.is_plausible() && mount.is_plausible() {
                let mount = mount.minus(mnt);
                let maps = (&mut maps.mounts, &mut maps.dentries);
                let path = path_of(maps.0, mounts, maps.1, dentries, mount, dentry);
                user_paths.push((rows[index], path));
            }
        });
    }

    /// Accepts a user path if its name is on the filesystem of its mount.
    fn take_user_paths(&mut self) {
        let snapshot = &mut self.snapshot;
        for &(file, path) in &self.scratch.user_paths {
            let filesystem = |dentry| snapshot.dentries.at(dentry).map(|row| row.name.super_block);
            let root = snapshot.mounts.at(path.mount).and_then(|mount| filesystem(mount.root));
            let is_path =
                root.is_some_and(|root| !root.is_null()) && root == filesystem(path.dentry);
            if let Some(file) = snapshot.files.get_mut(file as usize).filter(|_| is_path) {
                file.path = path;
            }
        }
    }

    /// Reads the dentries, mounts, inodes and filesystems added since `from`, and the control-group
    /// structures added since `groups_from`.
    fn read_places<S: MemorySource>(
        &mut self,
        source: &mut S,
        kernel: &Kernel,
        from: [usize; 4],
        groups_from: [usize; cgroups::KINDS],
    ) {
        let layouts = &kernel.layouts;
        let snapshot = &mut self.snapshot;
        let scratch = &mut self.scratch;
        let group_packings = cgroups::packings(layouts);
        cgroups::list_new(snapshot, groups_from, &mut scratch.groups);
        let group_lists = &scratch.groups;
        let torn = &mut scratch.torn;
        let lists =
            [&mut scratch.addresses, &mut scratch.more, &mut scratch.extra, &mut scratch.results];
        let [names, mount_list, inode_list, super_list] = lists;
        names.clear();
        names.extend(snapshot.dentries[from[0]..].iter().map(|row| row.name.address));
        mount_list.clear();
        mount_list.extend(snapshot.mounts[from[1]..].iter().map(|row| row.address));
        inode_list.clear();
        inode_list.extend(snapshot.inodes[from[2]..].iter().map(|row| row.address));
        super_list.clear();
        super_list.extend(snapshot.super_blocks[from[3]..].iter().map(|row| row.address));

        let (dentries, mounts, inodes, super_blocks) = (
            &mut snapshot.dentries,
            &mut snapshot.mounts,
            &mut snapshot.inodes,
            &mut snapshot.super_blocks,
        );
        let mut groups = Groups {
            sets: &mut snapshot.css_sets,
            states: &mut snapshot.css_states,
            all: &mut snapshot.cgroups,
            nodes: &mut snapshot.kernfs_nodes,
        };
        let (maps, losses) = (&mut self.maps, &mut snapshot.losses);
        fetch_groups(
            &mut self.reader,
            source,
            kernel,
            [
                (&layouts.dentry.packing, names),
                (&layouts.mount.packing, mount_list),
                (&layouts.inode.packing, inode_list),
                (&layouts.super_block.packing, super_list),
                (&group_packings[0], &group_lists[0]),
                (&group_packings[1], &group_lists[1]),
                (&group_packings[2], &group_lists[2]),
                (&group_packings[3], &group_lists[3]),
            ],
            |group, index, bytes| {
                let Some(bytes) = bytes else {
                    losses.unreadable += 1;
                    return;
                };
                if let Some(kind) = group.checked_sub(from.len()) {
                    groups.update_from(layouts, maps, kind, groups_from[kind] + index, bytes);
                    return;
                }
                let row = from[group] + index;
                match group {
                    0 => {
                        let taken = take_dentry(layouts, maps, dentries, row, names[index], bytes);
                        if !taken && torn.len() < torn.capacity() {
                            torn.push(row as u32);
                        }
                    }
                    1 => {
                        let mounted = Mounted::decode(&layouts.mount, bytes);
                        let mut dentry = |address: KernelVa| {
                            row_of(&mut maps.dentries, dentries, address, || {
                                DentryRow::new(address)
                            })
                        };
                        let root = dentry(mounted.root);
                        let mountpoint = dentry(mounted.mountpoint);
                        let parent = row_of(&mut maps.mounts, mounts, mounted.parent, || {
                            MountRow::new(mounted.parent)
                        });
                        let address = mount_list[index];
                        mounts[row] = MountRow { address, mounted, root, parent, mountpoint };
                    }
                    2 => {
                        let attributes = Attributes::decode(&layouts.inode, bytes);
                        let address = attributes.super_block;
                        let super_block =
                            row_of(&mut maps.super_blocks, super_blocks, address, || {
                                SuperBlockRow { address, ..SuperBlockRow::default() }
                            });
                        let inode = &mut inodes[row];
                        inode.attributes = attributes;
                        inode.super_block = super_block;
                    }
                    _ => {
                        super_blocks[row].filesystem =
                            Filesystem::decode(&layouts.super_block, bytes);
                    }
                }
            },
        );
    }

    /// Reads again the names that were changing; those that still change stay listed.
    fn read_torn_names<S: MemorySource>(&mut self, source: &mut S, kernel: &Kernel) {
        let layouts = &kernel.layouts;
        let rows = &mut self.scratch.owners;
        rows.clear();
        rows.append(&mut self.scratch.torn);
        let addresses = &mut self.scratch.addresses;
        addresses.clear();
        let dentries = &mut self.snapshot.dentries;
        addresses.extend(rows.iter().map(|&row| dentries[row as usize].name.address));
        let (maps, torn, losses) =
            (&mut self.maps, &mut self.scratch.torn, &mut self.snapshot.losses);
        let packing = &layouts.dentry.packing;
        fetch(&mut self.reader, source, kernel, packing, addresses, |index, bytes| {
            let Some(bytes) = bytes else {
                losses.unreadable += 1;
                return;
            };
            let row = rows[index] as usize;
            if !take_dentry(layouts, maps, dentries, row, addresses[index], bytes) {
                torn.push(rows[index]);
            }
        });
    }

    /// Reads the names that are stored outside of their dentries.
    fn read_long_names<S: MemorySource>(&mut self, source: &mut S, kernel: &Kernel) {
        let mut todo = mem::take(&mut self.scratch.owners);
        todo.clear();
        let dentries = &mut self.snapshot.dentries;
        let long = dentries.iter().enumerate().filter(|(_, row)| !row.name.long_name.is_null());
        todo.extend(long.map(|(index, _)| index as u32).take(todo.capacity()));
        let mut done = 0;
        while done < todo.len() {
            self.reader.clear();
            for &index in &todo[done..] {
                let name = &dentries[index as usize].name;
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
                let row = &mut dentries[todo[done + object] as usize];
                match self.reader.object(object) {
                    Some(bytes) => {
                        if let Some(range) = self.snapshot.bytes.extend(bytes) {
                            row.long = range.start;
                            row.readable = true;
                        }
                    }
                    None => self.snapshot.losses.unreadable += 1,
                }
            }
            done += count;
        }
        self.scratch.owners = todo;
    }

    /// Adds name rows for the inodes of buffers shared between devices.
    fn name_buffers(&mut self, kernel: &Kernel) {
        if kernel.layouts.dma_buf.is_none() {
            return;
        }
        let snapshot = &mut self.snapshot;
        let (inodes, super_blocks) = (&mut snapshot.inodes, &snapshot.super_blocks);
        for file in snapshot.files.iter() {
            let Some(inode) = inodes.get_mut(file.inode as usize) else { continue };
            let magic = super_blocks.at(inode.super_block).map(|row| row.filesystem.magic);
            if magic == Some(magic::DMA_BUF) {
                let buffer = file.open.private_data;
                let row = || NameRow::new(buffer, NameKind::DmaBuf);
                inode.own_name = row_of(&mut self.maps.names, &mut snapshot.names, buffer, row);
            }
        }
    }

    /// Adds name rows for the inodes of namespace files: the name of the namespace's kind.
    fn name_namespace_files<S: MemorySource>(&mut self, source: &mut S, kernel: &Kernel) {
        let snapshot = &mut self.snapshot;
        let (todo, addresses) = (&mut self.scratch.owners, &mut self.scratch.addresses);
        todo.clear();
        addresses.clear();
        for (index, inode) in snapshot.inodes.iter().enumerate() {
            let is_nsfs = snapshot
                .super_blocks
                .at(inode.super_block)
                .is_some_and(|row| row.filesystem.magic == magic::NSFS);
            if is_nsfs {
                todo.push(index as u32);
                addresses.push(inode.address);
            }
        }
        let layout = &kernel.layouts.inode_private;
        let (inodes, names) = (&mut snapshot.inodes, &mut snapshot.names);
        let (map, losses) = (&mut self.maps.names, &mut snapshot.losses);
        fetch(&mut self.reader, source, kernel, &layout.packing, addresses, |index, bytes| {
            let Some(view) = bytes.map(View::new) else {
                losses.unreadable += 1;
                return;
            };
            let ns = view.pointer(layout.i_private);
            inodes[todo[index] as usize].own_name =
                row_of(map, names, ns, || NameRow::new(ns, NameKind::Namespace));
        });
    }
}

/// Decodes a packed dentry into its row. Returns `false`, and changes nothing, if the name was
/// changing.
fn take_dentry(
    layouts: &Layouts,
    maps: &mut Maps,
    dentries: &mut Rows<DentryRow>,
    row: usize,
    address: KernelVa,
    bytes: &[u8],
) -> bool {
    let (name, text) = Name::decode(&layouts.dentry, address, bytes);
    if name.changing {
        return false;
    }
    let parent = row_of(&mut maps.dentries, dentries, name.parent, || DentryRow::new(name.parent));
    let dentry = &mut dentries[row];
    dentry.name = name;
    dentry.parent = parent;
    let length = text.len().min(NAME_INLINE_BYTES);
    dentry.text[..length].copy_from_slice(&text[..length]);
    dentry.readable = name.long_name.is_null();
    true
}
