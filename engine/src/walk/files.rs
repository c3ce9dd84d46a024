//! Open files, inodes, names, mounts and filesystems that the earlier rounds found.

use core::mem;
use core::ops::Range;

use panoptes_decoders::early_stop::EarlyStop;
use panoptes_decoders::kernel::Layouts;
use panoptes_decoders::kernel::dentry::DirectoryEntry;
use panoptes_decoders::kernel::file::{FMODE_BACKING_MAYBE, OpenFile};
use panoptes_decoders::kernel::inode::{Attributes, mode};
use panoptes_decoders::kernel::mount::MountLinks;
use panoptes_decoders::kernel::super_block::{Filesystem, magic};
use panoptes_decoders::layout::View;
use panoptes_decoders::paging::PageTableLevels;

use super::budget::{BudgetMark, FILE_BYTES, ResumePoint};
use super::fair_share::{Leads, TableShares};
use super::losses::WalkedStructure;
use super::places::{PlaceCounts, SnapshotRow, list_places};
use super::processes::path_of;
use super::rings::note_ring;
use super::snapshot::{
    DentryRow, FileRow, Index, InodeRow, MountRow, NAME_INLINE_BYTES, NameKind, NameRow, row_at,
};
use super::tables::Snapshot;
use super::{Kernel, Reads, ScannedMemory, WalkScratch, Walker, fetch, fetch_ahead, fetch_each};
use crate::address::MemoryReader;
use panoptes_tables::AddressedRows;

/// Maximum number of rounds: one for each directory level. A path has at most 4096 bytes
/// (`PATH_MAX`), so 2048 names, and lies on some mounts. A tree can be deeper, but nothing shows
/// the path of a file there: not the kernel, and not [`crate::path`].
const PATH_DEPTH_MAX: u32 = 2048 + 64;

/// Maximum number of mapped files of layered filesystems in one scan; further files keep their
/// paths on the layers.
pub(super) const USER_PATHS_MAX: usize = 65_536;

/// Maximum number of names that one scan reads again because they were changing.
pub(super) const TORN_MAX: usize = 4096;

/// Maximum number of rereads of changing names. A change takes less than a microsecond, unless its
/// processor is stopped during the change.
const NAME_ATTEMPTS_MAX: u32 = 8;

/// Maximum number of inodes that one scan finds while the kernel makes them, and of files whose
/// sockets have other files by then.
pub(super) const BLANK_MAX: usize = 64;

/// Number of open files that a scan reads whatever its budget is, beside the executables and those
/// in the first slots of tables.
const FILES_MIN: usize = 1024;
/// Number of open files that are read before the budget is looked at again: those of one batch.
const CHUNK: usize = 32_768;
/// Number of directory levels that a scan reads whatever its budget is. Few paths are deeper.
const LEVELS_MIN: u32 = 64;

/// The order in which open files are read: first those that every scan reads, then those of
/// descriptors, then those of areas, or the other way round.
#[derive(Clone, Copy, Debug)]
struct FileOrder {
    /// Number of those that every scan reads.
    first: usize,
    /// Number of the next ones, which are the rows from `begin` on.
    next: usize,
    begin: usize,
}

impl FileOrder {
    fn new(walker: &Walker) -> Self {
        let count = walker.snapshot.files.len();
        let first = walker.scratch.first_files.min(count);
        let middle = walker.scratch.descriptor_files.clamp(first, count);
        if walker.hints.resume.areas_first {
            return Self { first, next: count - middle, begin: middle };
        }
        Self { first, next: middle - first, begin: first }
    }

    /// The row that is read in a turn.
    fn row_of(&self, turn: usize) -> Option<Index<FileRow>> {
        let Self { first, next, begin } = *self;
        Index::new(match turn.checked_sub(first) {
            Some(at) if at < next => begin + at,
            // Those that come before or after the others.
            Some(_) if begin > first => turn - next,
            _ => turn,
        })
    }

    /// The turn of a row.
    fn turn_of(&self, row: Index<FileRow>) -> usize {
        let Self { first, next, begin } = *self;
        let row = row.position();
        if row < first || begin == first {
            row
        } else if row < begin {
            row + next
        } else {
            first + row - begin
        }
    }
}

impl Walker {
    /// Reads every file that has a row, then everything that it leads to.
    pub(super) fn read_files(&mut self, memory: &mut ScannedMemory<'_>) {
        let rows = self.snapshot.count_rows();
        let mark = memory.meter.mark(rows, 0, (3, 4));
        let order = FileOrder::new(self);
        let done = self.read_open_files(memory, order, &mark);
        self.leave_files(order, done);
        self.read_user_paths(memory);
        self.scratch.blank_inodes.clear();
        self.scratch.torn_files.clear();
        self.follow_places(memory, &mark, PlaceCounts::default());
        self.take_user_paths();
        self.read_long_names(memory, 0);
        self.find_containers(memory);
        self.name_namespace_files(memory);
        self.find_named_files(memory.kernel);
        self.read_names(memory);
    }

    /// Reads the files behind row `before`, which a ring holds, and everything that they lead to.
    /// `known` has how many rows of each table were read.
    pub(super) fn read_more_files(
        &mut self,
        memory: &mut ScannedMemory<'_>,
        before: usize,
        known: PlaceCounts,
    ) {
        let mark = memory.meter.mark(self.snapshot.count_rows(), 0, (3, 4));
        let in_order = FileOrder { first: 0, next: 0, begin: 0 };
        self.read_some_files(memory, in_order, before..self.snapshot.files.len());
        self.follow_places(memory, &mark, known);
        self.read_long_names(memory, known[0]);
    }

    /// Reads the rows that are not `listed` yet, by table, and everything that they lead to.
    fn follow_places(
        &mut self,
        memory: &mut ScannedMemory<'_>,
        mark: &BudgetMark,
        mut listed: PlaceCounts,
    ) {
        let mut attempts = 0;
        self.scratch.torn.clear();
        let mut rounds_left = PATH_DEPTH_MAX;
        loop {
            let (places, torn) = (&mut self.scratch.places, &mut self.scratch.torn);
            let dentries = &self.snapshot.dentries;
            list_places(&self.snapshot, &mut listed, places);
            if places.is_empty() {
                // Read the changing names again, and then what they lead to.
                let again = |row| (SnapshotRow::Dentry(row), dentries[row].name.address);
                places.extend(torn.drain(..).map(again));
                attempts += 1;
            }
            if places.is_empty() {
                break;
            }
            let is_deep = rounds_left + LEVELS_MIN <= PATH_DEPTH_MAX;
            if is_deep && memory.meter.is_beyond(mark, self.snapshot.count_rows(), 0) {
                // The names of the files below stay unknown.
                self.snapshot.left.files += 1;
                break;
            }
            let Some(left) = rounds_left.checked_sub(1) else {
                let stop = EarlyStop::TooLong { limit: PATH_DEPTH_MAX };
                self.snapshot.losses.stop(WalkedStructure::Path, stop);
                break;
            };
            rounds_left = left;
            self.read_places(memory);
            if attempts >= NAME_ATTEMPTS_MAX {
                for row in self.scratch.torn.drain(..) {
                    let address = self.snapshot.dentries[row].name.address;
                    let stop = EarlyStop::Changed { address };
                    self.snapshot.losses.stop(WalkedStructure::ChangingName, stop);
                }
            }
        }
    }

    /// Reads open files in order, as many as the budget allows; returns their number.
    fn read_open_files(
        &mut self,
        memory: &mut ScannedMemory<'_>,
        order: FileOrder,
        mark: &BudgetMark,
    ) -> usize {
        self.scratch.backed.clear();
        self.scratch.inode_processes.clear();
        let count = self.snapshot.files.len();
        let mut done = 0;
        while done < count {
            let rows = self.snapshot.count_rows();
            let room = memory.meter.room(mark, rows, 0, FILE_BYTES).min(CHUNK);
            if done > 0 && room == 0 {
                break;
            }
            let least = if done == 0 { order.first + FILES_MIN } else { 1 };
            let end = count.min(done + room.max(least));
            self.read_some_files(memory, order, done..end);
            done = end;
        }
        done
    }

    /// Counts the open files that were left, from `done` on in their order. A table or an address
    /// space with one of them is not complete, and the next scan begins with the first of these.
    fn leave_files(&mut self, order: FileOrder, done: usize) {
        let snapshot = &mut self.snapshot;
        if done >= snapshot.files.len() {
            return;
        }
        let Snapshot { files, files_structs, descriptors, mms, vmas, left, .. } = snapshot;
        left.files += (files.len() - done) as u32;
        let is_left =
            |file: Option<Index<FileRow>>| file.is_some_and(|it| order.turn_of(it) >= done);
        let resume = &mut self.hints.resume;
        let mut is_first = true;
        let turn = self.scratch.table_turn;
        for position in turn.all() {
            let Some(table) = files_structs.get_mut(position) else { break };
            let rows = descriptors.range(table.descriptors);
            let Some(row) = rows.iter().find(|row| is_left(row.file)) else { continue };
            if mem::take(&mut table.complete) {
                // Its slots were read, if not its files.
                table.first_slots = table.max_fds;
            }
            table.more_slots = 0..0;
            if mem::take(&mut is_first) {
                resume.table = ResumePoint { address: table.address, position };
                // The first slots are read again in any case; a table never begins anew for them.
                let began = if position == turn.at(0) { self.scratch.resumed_slot } else { 0 };
                resume.slot = (row.index / 64 * 64).max(began);
            }
        }
        let mut first = None;
        for position in self.scratch.space_turn.all() {
            let Some(mm) = mms.get_mut(position) else { break };
            if vmas.range(mm.vmas).iter().any(|row| is_left(row.file)) {
                (mm.complete, mm.left) = (false, true);
                left.address_spaces += 1;
                first = first.or(Some(ResumePoint { address: mm.address, position }));
            }
        }
        resume.address_space = first.unwrap_or(resume.address_space);
        // Next time the others come first.
        resume.areas_first = !resume.areas_first;
    }

    fn read_some_files(
        &mut self,
        memory: &mut ScannedMemory<'_>,
        order: FileOrder,
        turns: Range<usize>,
    ) {
        let kernel = memory.kernel;
        let layouts = &kernel.layouts;
        let mnt = u64::from(layouts.mount.mnt.offset);
        let mut snapshot = &mut self.snapshot;
        let WalkScratch { addresses, backed, shares, inode_processes, .. } = &mut self.scratch;
        addresses.clear();
        let rows = turns.clone().map(|turn| order.row_of(turn));
        addresses.extend(rows.filter_map(|row| Some(snapshot.files.at(row)?.address)));
        let packing = &layouts.file.packing;
        let room = if layouts.backing_file.is_some() { USER_PATHS_MAX } else { 0 };
        let touch = |snapshot: &&mut Snapshot, bytes: &[u8]| {
            let (view, layout) = (View::new(bytes), &layouts.file);
            let [inode, dentry] = [layout.f_inode, layout.f_path_dentry].map(|it| view.pointer(it));
            snapshot.inodes.touch(inode.0) ^ snapshot.dentries.touch(dentry.0)
        };
        let reader = &mut self.reader;
        fetch_ahead(
            reader,
            memory,
            packing,
            addresses,
            &mut snapshot,
            touch,
            |snapshot, index, bytes| {
                let (Some(bytes), Some(row)) = (bytes, order.row_of(turns.start + index)) else {
                    snapshot.losses.miss(WalkedStructure::File, addresses[index]);
                    return;
                };
                let file = &mut snapshot.files[row];
                file.open = OpenFile::decode(&layouts.file, bytes);
                if matches!(kernel.space.levels, PageTableLevels::Aarch64(_)) {
                    file.open = file.open.of_arm64();
                }
                let before = snapshot.inodes.len();
                file.inode = row_at(&mut snapshot.inodes, file.open.inode);
                if snapshot.inodes.len() > before {
                    inode_processes.push(file.process);
                }
                if file.mapped && file.open.mode & FMODE_BACKING_MAYBE != 0 && backed.len() < room {
                    backed.push(row);
                }
                let dentry = file.open.dentry;
                if !dentry.is_null() {
                    let mount = file.open.mnt.minus(mnt);
                    let (mounts, dentries) = (&mut snapshot.mounts, &mut snapshot.dentries);
                    file.path = path_of(mounts, dentries, (shares, file.process), mount, dentry);
                }
            },
        );
    }

    /// Reads the paths that users know for files mapped through a layered filesystem.
    /// [`Self::take_user_paths`] later decides which of these really are paths.
    fn read_user_paths(&mut self, memory: &mut ScannedMemory<'_>) {
        let WalkScratch { user_paths, shares, backed, addresses, .. } = &mut self.scratch;
        user_paths.clear();
        let layouts = &memory.kernel.layouts;
        let Some(layout) = &layouts.backing_file else { return };
        let (Some(dentry), Some(mount)) = (layout.user_path_dentry, layout.user_path_mnt) else {
            return;
        };
        let mnt = u64::from(layouts.mount.mnt.offset);
        let snapshot = &mut self.snapshot;
        addresses.clear();
        addresses.extend(backed.iter().map(|&file| snapshot.files[file].address));
        fetch(&mut self.reader, memory, &layout.packing, addresses, |index, bytes| {
            let Some(view) = bytes.map(View::new) else { return };
            let (dentry, mount) = (view.pointer(dentry), view.pointer(mount));
            if dentry.is_plausible() && mount.is_plausible() {
                let mount = mount.minus(mnt);
                let (mounts, dentries) = (&mut snapshot.mounts, &mut snapshot.dentries);
                let process = snapshot.files[backed[index]].process;
                let path = path_of(mounts, dentries, (shares, process), mount, dentry);
                user_paths.push((backed[index], path));
            }
        });
    }

    /// Accepts a user path if its name is on the filesystem of its mount. In a copy of memory that
    /// may be unknown: then the file has no path, since its other one is not what users know.
    fn take_user_paths(&mut self) {
        let snapshot = &mut self.snapshot;
        for &(file, path) in &self.scratch.user_paths {
            let mount = snapshot.mounts.at(path.mount);
            let root = mount.and_then(|mount| snapshot.dentries.at(mount.root));
            let rows = [root, snapshot.dentries.at(path.dentry)];
            let [root, name] = rows.map(|row| row.map(|row| row.name.super_block));
            let is_on_mount = root.is_some_and(|root| !root.is_null()) && root == name;
            let is_whole = mount.is_some_and(|mount| mount.was_read)
                && rows.iter().all(|row| row.is_some_and(|row| row.readable));
            if is_on_mount || snapshot.copied.is_copy() && !is_whole {
                snapshot.files[file].path = path;
            }
        }
    }

    /// Reads the listed rows.
    fn read_places(&mut self, memory: &mut ScannedMemory<'_>) {
        let layouts = &memory.kernel.layouts;
        // Empty where the kernel has no control groups.
        let css_set = layouts.css_set.map(|layout| layout.packing).unwrap_or_default();
        let css_state = layouts.cgroup_subsys_state.map(|it| it.packing).unwrap_or_default();
        let cgroup = layouts.cgroup.map(|layout| layout.packing).unwrap_or_default();
        let kernfs_node = layouts.kernfs_node.map(|layout| layout.packing).unwrap_or_default();
        let packing = |place| match place {
            SnapshotRow::Dentry(_) => &layouts.dentry.packing,
            SnapshotRow::Mount(_) => &layouts.mount.packing,
            SnapshotRow::Inode(_) => &layouts.inode.packing,
            SnapshotRow::SuperBlock(_) => &layouts.super_block.packing,
            SnapshotRow::CssSet(_) => &css_set,
            SnapshotRow::CssState(_) => &css_state,
            SnapshotRow::Cgroup(_) => &cgroup,
            SnapshotRow::KernfsNode(_) => &kernfs_node,
        };
        let push = |reader: &mut MemoryReader, space: &_, &(place, address): &_| {
            reader.push(space, address, packing(place))
        };
        let snapshot = &mut self.snapshot;
        let WalkScratch { places, torn, blank_inodes, shares, inode_processes, .. } =
            &mut self.scratch;
        let places = &*places;
        fetch_each(&mut self.reader, memory, places, push, |index, bytes| {
            let (place, address) = places[index];
            let Some(bytes) = bytes else {
                snapshot.losses.miss(place.structure(), address);
                return;
            };
            match place {
                SnapshotRow::Dentry(row) => {
                    let taken = take_dentry(layouts, &mut snapshot.dentries, shares, row, bytes);
                    if taken {
                        return;
                    }
                    if torn.len() < torn.capacity() {
                        torn.push(row);
                    } else {
                        let stop = EarlyStop::NoRoom { rows: TORN_MAX as u32 };
                        snapshot.losses.stop(WalkedStructure::ChangingName, stop);
                    }
                }
                SnapshotRow::Mount(row) => snapshot.place_mount(layouts, shares, row, bytes),
                SnapshotRow::Inode(row) => {
                    let process = inode_processes.get(row.position()).copied().flatten();
                    snapshot.place_inode(layouts, (shares, process), row, bytes);
                    let is_blank = is_blank(&snapshot.inodes[row].attributes);
                    if is_blank && blank_inodes.len() < blank_inodes.capacity() {
                        blank_inodes.push(row);
                    }
                }
                SnapshotRow::SuperBlock(row) => {
                    let filesystem = Filesystem::decode(&layouts.super_block, bytes);
                    snapshot.super_blocks[row].filesystem = filesystem;
                    snapshot.super_blocks[row].was_read = true;
                }
                group => {
                    snapshot.place_group(layouts, shares, group, bytes);
                }
            }
        });
    }

    /// Reads the names that are stored outside of their dentries, from row `first` on.
    fn read_long_names(&mut self, memory: &mut ScannedMemory<'_>, first: usize) {
        let WalkScratch { long_names: names, shares, .. } = &mut self.scratch;
        let snapshot = &mut self.snapshot;
        names.clear();
        let rows = snapshot.dentries.indexed().skip(first);
        let long = rows.filter(|(_, row)| !row.name.long_name.is_null());
        names.extend(long.map(|(index, row)| (index, row.name.long_name, row.name.length)));
        let push = |reader: &mut MemoryReader, space: &_, &(_, address, length): &_| {
            reader.push_filled(space, address, length)
        };
        fetch_each(&mut self.reader, memory, names, push, |index, bytes| {
            let Some(bytes) = bytes else {
                snapshot.losses.miss(WalkedStructure::Dentry, names[index].1);
                return;
            };
            let row = &mut snapshot.dentries[names[index].0];
            row.set_long_name(&mut snapshot.bytes, shares, bytes);
        });
    }

    /// Adds name rows for the inodes of buffers shared between devices, and lists the rings.
    fn find_named_files(&mut self, kernel: &Kernel) {
        let Layouts { dma_buf, io_ring_ctx, .. } = &kernel.layouts;
        let Self { snapshot, scratch: WalkScratch { shares, .. }, bpf, .. } = self;
        let has_bpf = !kernel.roots.bpf.programs.is_null();
        if dma_buf.is_none() && io_ring_ctx.is_none() && !has_bpf {
            return;
        }
        for (index, file) in snapshot.files.indexed() {
            let Some(inode) = snapshot.inodes.at_mut(file.inode) else { continue };
            let filesystem = snapshot.super_blocks.at(inode.super_block);
            match filesystem.map(|row| row.filesystem.magic) {
                Some(magic::DMA_BUF) if dma_buf.is_some() => {
                    let buffer = file.open.private_data;
                    let row = || NameRow::new(buffer, NameKind::DmaBuf);
                    let names = &mut snapshot.names;
                    inode.own_name = shares.row_of(names, file.process, buffer.0, row);
                }
                Some(magic::ANON_INODE) => {
                    let Some(dentry) = snapshot.dentries.at(file.path.dentry) else { continue };
                    if io_ring_ctx.is_some() {
                        note_ring(&mut snapshot.rings, shares, (index, file), dentry);
                    }
                    if has_bpf {
                        bpf.note_file(file, dentry);
                    }
                }
                _ => {}
            }
        }
    }

    /// Adds name rows for the inodes of namespace files: the name of the namespace's kind.
    fn name_namespace_files(&mut self, memory: &mut ScannedMemory<'_>) {
        let snapshot = &mut self.snapshot;
        let WalkScratch { inodes, inode_processes, shares, .. } = &mut self.scratch;
        inodes.clear();
        for (index, inode) in snapshot.inodes.indexed() {
            let filesystem = snapshot.super_blocks.at(inode.super_block);
            if filesystem.is_some_and(|row| row.filesystem.magic == magic::NSFS) {
                inodes.push(index, inode.address);
            }
        }
        let Reads { rows, addresses } = inodes;
        let layout = &memory.kernel.layouts.inode_private;
        fetch(&mut self.reader, memory, &layout.packing, addresses, |index, bytes| {
            let Some(view) = bytes.map(View::new) else {
                snapshot.losses.miss(WalkedStructure::Inode, addresses[index]);
                return;
            };
            let ns = view.pointer(layout.i_private);
            let row = || NameRow::new(ns, NameKind::Namespace);
            let process = inode_processes.get(rows[index].position()).copied().flatten();
            let name = shares.row_of(&mut snapshot.names, process, ns.0, row);
            snapshot.inodes[rows[index]].own_name = name;
        });
    }
}

impl Snapshot {
    fn place_mount(
        &mut self,
        layouts: &Layouts,
        shares: &mut TableShares,
        row: Index<MountRow>,
        bytes: &[u8],
    ) {
        let mounted = MountLinks::decode(&layouts.mount, bytes);
        let MountRow { address, process, .. } = self.mounts[row];
        let root = shares.row_at(&mut self.dentries, process, mounted.root);
        let mountpoint = shares.row_at(&mut self.dentries, process, mounted.mountpoint);
        let parent = shares.row_at(&mut self.mounts, process, mounted.parent);
        let was_read = true;
        self.mounts[row] =
            MountRow { address, was_read, mounted, root, parent, process, mountpoint };
    }

    fn place_inode(
        &mut self,
        layouts: &Layouts,
        (shares, process): (&mut TableShares, Leads),
        row: Index<InodeRow>,
        bytes: &[u8],
    ) {
        let attributes = Attributes::decode(&layouts.inode, bytes);
        let inode = &mut self.inodes[row];
        inode.attributes = attributes;
        let super_blocks = &mut self.super_blocks;
        inode.super_block = shares.row_at(super_blocks, process, attributes.super_block);
    }
}

/// Whether the kernel was about to make an inode there. Sockets have numbers (`sock_alloc`,
/// net/socket.c). Other files have at least permissions; one of FUSE can have number 0.
fn is_blank(attributes: &Attributes) -> bool {
    let is_socket = attributes.kind() == mode::S_IFSOCK;
    attributes.ino == 0 && (attributes.mode == 0 || is_socket)
}

/// Decodes a packed dentry into its row. Returns `false`, and changes nothing, if the name was
/// changing.
fn take_dentry(
    layouts: &Layouts,
    dentries: &mut AddressedRows<DentryRow>,
    shares: &mut TableShares,
    row: Index<DentryRow>,
    bytes: &[u8],
) -> bool {
    let (name, text) = DirectoryEntry::decode(&layouts.dentry, dentries[row].name.address, bytes);
    if name.changing {
        return false;
    }
    // A root, and the name of a socket or pipe, is its own parent.
    let parent = if name.parent == name.address {
        Some(row)
    } else {
        shares.row_at(dentries, dentries[row].process, name.parent)
    };
    let dentry = &mut dentries[row];
    dentry.name = name;
    dentry.parent = parent;
    let length = text.len().min(NAME_INLINE_BYTES);
    dentry.text[..length].copy_from_slice(&text[..length]);
    dentry.readable = name.long_name.is_null();
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::walk::tests::memory::{Sparse, kernel, small, va, walker};

    /// Reads a chain of so many directories; returns how many of them a scan has, the number of
    /// chains that were cut, and the number of batches.
    fn read_chain(levels: usize) -> (usize, u32, u64) {
        let mut memory = Sparse::default();
        let places: Vec<u64> = (0..levels).map(|_| memory.structure()).collect();
        for (&place, parent) in places.iter().zip(places.iter().skip(1).chain(places.last())) {
            memory.set(place, "dentry", "d_parent", *parent);
            memory.set(place, "dentry", "d_name.name", Sparse::field(place, "dentry", "d_iname"));
            memory.set(place, "dentry", "d_name.len", 1);
        }
        let mut walker = walker(&small());
        row_at(&mut walker.snapshot.dentries, va(places[0]));
        memory.walk(&mut walker, &kernel(), Walker::read_files);
        let read = walker.snapshot.dentries.iter().filter(|row| row.readable).count();
        (read, walker.snapshot.losses.unbounded, memory.batches)
    }

    #[test]
    fn directories_cost_a_batch_each_as_far_as_a_path_reaches() {
        let (some, twice) = (read_chain(500), read_chain(1000));
        assert_eq!((some.0, some.1, twice.0, twice.1), (500, 0, 1000, 0));
        assert!(twice.2 <= 2 * some.2 + 10, "{some:?}, {twice:?}");
        let longest = read_chain(2048);
        assert_eq!((longest.0, longest.1), (2048, 0));
    }

    /// A user namespace can have 100,000 mounts (`fs.mount-max`), on each other.
    #[test]
    fn mounts_of_one_process_leave_room_for_those_of_others() {
        const NESTED: usize = 5;
        let mut memory = Sparse::default();
        let mut walker = walker(&small());
        walker.snapshot.mounts.set_capacity(400);
        walker.scratch.shares.begin(10);
        // The first process has most files, and the others one each.
        for process in (0..150).map(|_| 0).chain(1..10) {
            let mut mount = 0;
            for _ in 0..NESTED {
                let below = memory.structure();
                memory.set(below, "mount", "mnt_parent", if mount == 0 { below } else { mount });
                mount = below;
            }
            let [file, dentry] = [memory.structure(), memory.structure()];
            memory.set(dentry, "dentry", "d_parent", dentry);
            memory.set(file, "file", "f_path.mnt", mount);
            memory.set(file, "file", "f_path.dentry", dentry);
            let row = FileRow { process: Index::new(process), ..va(file).into() };
            walker.snapshot.files.row_of(file, || row);
        }
        memory.walk(&mut walker, &kernel(), Walker::read_files);
        let snapshot = &walker.snapshot;
        let nested = |file: &FileRow| {
            let parent = |mount: &Index<MountRow>| {
                snapshot.mounts[*mount].parent.filter(|parent| parent != mount)
            };
            core::iter::successors(file.path.mount, parent).count()
        };
        let (hogs, others): (Vec<_>, Vec<_>) =
            snapshot.files.iter().partition(|file| file.process == Index::new(0));
        assert_eq!(others.into_iter().map(nested).collect::<Vec<_>>(), [NESTED; 9]);
        assert!(hogs.into_iter().map(nested).sum::<usize>() > 180);
        assert!(snapshot.mounts.dropped > 100 && snapshot.mounts.len() <= 220 + 9 * NESTED);
        assert_eq!(walker.scratch.shares.refused, Index::new(0));
    }

    #[test]
    fn every_open_file_has_one_turn() {
        for (first, middle, count) in [(0, 0, 0), (2, 5, 9), (3, 3, 7), (3, 7, 7), (7, 7, 7)] {
            for areas_first in [false, true] {
                let mut walker = walker(&small());
                for number in 1..=count {
                    row_at(&mut walker.snapshot.files, va(number as u64));
                }
                (walker.scratch.first_files, walker.scratch.descriptor_files) = (first, middle);
                walker.hints.resume.areas_first = areas_first;
                let order = FileOrder::new(&walker);
                let rows: Vec<_> = (0..count).filter_map(|turn| order.row_of(turn)).collect();
                for (turn, &row) in rows.iter().enumerate() {
                    assert_eq!(order.turn_of(row), turn, "{order:?}");
                }
                let (begin, end) = if areas_first { (middle, count) } else { (first, middle) };
                let expected: Vec<_> =
                    (0..first).chain(begin..end).map(|row| Index::new(row).unwrap()).collect();
                assert_eq!(rows[..expected.len()], expected, "{order:?}");
            }
        }
    }

    #[test]
    fn a_name_that_changes_whenever_it_is_read_is_named() {
        let mut memory = Sparse::default();
        let place = memory.structure();
        memory.set(place, "dentry", "d_parent", place);
        memory.set(place, "dentry", "d_seq", 1);
        let mut walker = walker(&small());
        row_at(&mut walker.snapshot.dentries, va(place));
        memory.walk(&mut walker, &kernel(), Walker::read_files);
        let losses = &walker.snapshot.losses;
        let stops: Vec<_> = losses.frequent_stops().iter().map(ToString::to_string).collect();
        assert_eq!(stops, [format!("name that changes: changed at {place:#x}")]);
        assert!(losses.is_whole() && !walker.snapshot.dentries.iter().any(|row| row.readable));
    }

    #[test]
    fn directories_deeper_than_any_path_are_cut_and_counted() {
        let (some, twice) = (read_chain(2500), read_chain(5000));
        assert_eq!((some.0, some.1), (PATH_DEPTH_MAX as usize, 1));
        assert_eq!(some, twice);
    }
}
