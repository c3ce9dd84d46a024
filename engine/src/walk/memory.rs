//! Memory areas: reads the trees of all address spaces at once, maple trees or red-black trees.
//!
//! If the scan's budget does not suffice, address spaces with more areas than a fair share take
//! turns.

use core::mem;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::early_stop::EarlyStop;
use panoptes_decoders::kernel::maple_tree::{self, Enode, MapleEntry, MapleNode};
use panoptes_decoders::kernel::vm_area_struct::{Vma, VmaLinks};
use panoptes_decoders::layout::View;
use panoptes_decoders::source::PAGE_BYTES;

use super::budget::{AREA_BYTES, BudgetMark, ResumePoint, RowRotation};
use super::fair_share::{TableShares, divide};
use super::losses::WalkedStructure;
use super::snapshot::{FileRow, Index, MmRow, NameKind, NameRow, Span, VmaRow};
use super::tables::Snapshot;
use super::{
    Kernel, Losses, Reads, ScannedMemory, WalkScratch, Walker, fetch, fetch_ahead, fetch_each,
};
use crate::address::MemoryReader;
use panoptes_tables::{AddressMap, AddressedRows, Insertion, fair_share};

/// Maximum depth of a red-black tree: twice the logarithm of the number of areas that a process may
/// have (`vm.max_map_count`, an int).
const RED_BLACK_DEPTH_MAX: u32 = 64;
const _: () = assert!(RED_BLACK_DEPTH_MAX >= 2 * (i32::BITS - 1));

/// Number of areas that a scan reads whatever its budget is, or else one address space.
const AREAS_MIN: u64 = 4096;
/// Approximate number of areas that are read before the budget is looked at again. One batch has
/// about as many.
const GROUP_AREAS: u64 = 32_768;
/// Number of areas and nodes, beside twice the kernel's count of areas, after which a tree is
/// forged, or changed while it was read.
const LISTED_MORE: u32 = 64;

/// A node of a maple tree to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct PendingMapleNode {
    mm: Index<MmRow>,
    enode: Enode,
    max: u64,
}

impl Walker {
    /// Fills `vmas`, and each address space's range of them.
    pub(super) fn read_areas(&mut self, memory: &mut ScannedMemory<'_>) {
        self.share_areas();
        let files = self.snapshot.files.len() as u64;
        let mark = memory.meter.mark(self.snapshot.count_rows(), files, (2, 3));
        let begin = self.hints.resume.address_space.find(&self.snapshot.mms).unwrap_or(0);
        let turn = RowRotation::new(begin, self.snapshot.mms.len());
        self.scratch.space_turn = turn;
        let mut spaces = mem::take(&mut self.scratch.spaces);
        self.choose_spaces(memory, &mark, turn, &mut spaces);
        let mut done = 0;
        while done < spaces.len() {
            let (rows, files) = (self.snapshot.count_rows(), self.snapshot.files.len() as u64);
            if done > 0 && memory.meter.is_beyond(&mark, rows, files) {
                break;
            }
            let group = self.group_of(&spaces[done..]);
            // Address spaces share no nodes, and those of some must not fill the set for others.
            self.visited.clear();
            match &memory.kernel.layouts.maple_node {
                Some(layout) => self.read_maple_trees(memory, layout, group),
                None => self.read_red_black_trees(memory, group),
            }
            done += group.len();
        }
        if memory.kernel.layouts.maple_node.is_none() {
            self.sort_areas();
        }
        self.leave_spaces(turn, &spaces[done..]);
        self.scratch.spaces = spaces;
        for mm in self.snapshot.mms.iter_mut() {
            // The counts differ if the tree changed while it was read, or was forged.
            mm.complete &= mm.vmas.len() == mm.map_count as usize;
        }
    }

    /// Divides the rows of areas among users, and then among the address spaces of each, by the
    /// kernel's own counts. An address space that wants more than its share gets its lowest areas,
    /// and nobody else loses any.
    fn share_areas(&mut self) {
        let mut total = 0_u64;
        for mm in self.snapshot.mms.iter_mut() {
            mm.vmas = Span::default();
            mm.areas_left = u32::MAX;
            total = total.saturating_add(mm.map_count.into());
        }
        let room = self.snapshot.vmas.capacity() as u64;
        if total <= room {
            return;
        }
        let owned = &mut self.scratch.owned_spaces;
        self.snapshot.list_spaces(owned);
        let mms = &mut self.snapshot.mms;
        for it in owned.iter_mut() {
            it.wanted = mms[it.row].map_count.into();
        }
        divide(room, owned, |mm, most| {
            mms[mm].areas_left = u32::try_from(most).unwrap_or(u32::MAX);
        });
    }

    /// Lists the address spaces to read, in turn, as many as the budget allows: all that have no
    /// more than a fair share, and of the others at least one. The others are marked as left.
    fn choose_spaces(
        &mut self,
        memory: &ScannedMemory<'_>,
        mark: &BudgetMark,
        turn: RowRotation,
        spaces: &mut Vec<Index<MmRow>>,
    ) {
        let most = self.snapshot.vmas.capacity() as u64;
        let count = |mm: &MmRow| if mm.rests { 0 } else { u64::from(mm.map_count).min(most) };
        let (rows, files) = (self.snapshot.count_rows(), self.snapshot.files.len() as u64);
        let room = memory.meter.room(mark, rows, files, AREA_BYTES) as u64;
        let room = room.max(AREAS_MIN);
        let mms = &mut self.snapshot.mms;
        spaces.clear();
        let share = fair_share(room, || mms.iter().map(count));
        let small = mms.iter().map(count).filter(|&count| count <= share);
        let mut room = room.saturating_sub(small.sum());
        let mut has_large = false;
        for index in turn.all().filter_map(Index::new) {
            let Some(mm) = mms.at_mut(index) else { break };
            let count = count(mm);
            mm.left = mm.rests || count > share && has_large && count > room;
            if count > share && !mm.left {
                has_large = true;
                room = room.saturating_sub(count);
            }
            if !mm.left {
                spaces.push(index);
            }
        }
    }

    /// The first of these address spaces, with about as many areas as fit a batch.
    fn group_of<'a>(&self, spaces: &'a [Index<MmRow>]) -> &'a [Index<MmRow>] {
        let mut areas = 0_u64;
        let fits = |index: &&Index<MmRow>| {
            let count = self.snapshot.mms.at(**index).map_or(0, |mm| mm.map_count);
            areas = areas.saturating_add(count.into());
            areas <= GROUP_AREAS
        };
        let count = spaces.iter().take_while(fits).count();
        &spaces[..count.max(1).min(spaces.len())]
    }

    /// Marks the address spaces that were left, and these, too. The next scan begins with the first
    /// of all.
    fn leave_spaces(&mut self, turn: RowRotation, unread: &[Index<MmRow>]) {
        let Snapshot { mms, left, .. } = &mut self.snapshot;
        for &index in unread {
            mms[index].left = true;
        }
        let mut first = None;
        for position in turn.all() {
            let Some(mm) = mms.get_mut(position).filter(|mm| mm.left) else { continue };
            mm.complete = false;
            left.address_spaces += 1;
            if mm.rests {
                left.of_resting += 1;
            } else {
                first = first.or(Some(ResumePoint { address: mm.address, position }));
            }
        }
        self.hints.resume.address_space = first.unwrap_or_default();
    }

    fn read_maple_trees(
        &mut self,
        memory: &mut ScannedMemory<'_>,
        layout: &MapleNode,
        spaces: &[Index<MmRow>],
    ) {
        let (nodes, areas) = (&mut self.scratch.nodes, &mut self.scratch.areas);
        nodes.clear();
        areas.clear();
        for &index in spaces {
            let mm = &mut self.snapshot.mms[index];
            match maple_tree::root(mm.ma_root) {
                MapleEntry::Empty => {}
                MapleEntry::Value(vma) => areas.push(index, vma),
                MapleEntry::Node(node) if nodes.len() < nodes.capacity() => {
                    nodes.push(PendingMapleNode { mm: index, enode: node, max: u64::MAX });
                }
                MapleEntry::Node(_) => {
                    mm.complete = false;
                    self.snapshot.losses.cut(WalkedStructure::AreaTree, nodes.capacity());
                }
            }
        }
        for _ in 0..maple_tree::MAPLE_DEPTH_MAX {
            self.read_vmas(memory);
            self.scratch.areas.clear();
            if self.scratch.nodes.is_empty() {
                break;
            }
            self.read_nodes(memory, layout);
        }
        let WalkScratch { nodes, areas, .. } = &self.scratch;
        let owners = nodes.iter().map(|node| node.mm).chain(areas.rows.iter().copied());
        self.snapshot.note_depth(owners, maple_tree::MAPLE_DEPTH_MAX);
    }

    /// Reads the trees whose nodes are the areas themselves, one level of all trees in each round.
    fn read_red_black_trees(&mut self, memory: &mut ScannedMemory<'_>, spaces: &[Index<MmRow>]) {
        let kernel = memory.kernel;
        let layout = &kernel.layouts.vm_area_struct;
        let WalkScratch { areas, more_areas: below, shares, .. } = &mut self.scratch;
        let snapshot = &mut self.snapshot;
        let (vmas, files, names) = (&mut snapshot.vmas, &mut snapshot.files, &mut snapshot.names);
        let (mms, losses) = (&mut snapshot.mms, &mut snapshot.losses);
        areas.clear();
        for &index in spaces.iter().filter(|&&index| !mms[index].mm_rb.is_null()) {
            areas.push(index, mms[index].mm_rb);
        }
        for _ in 0..RED_BLACK_DEPTH_MAX {
            if areas.rows.is_empty() {
                break;
            }
            below.clear();
            let Reads { rows: owners, addresses } = &*areas;
            fetch(&mut self.reader, memory, &layout.packing, addresses, |index, bytes| {
                let owner = owners[index];
                let (mm, address) = (&mut mms[owner], addresses[index]);
                let Some((vma, links)) = take_area(kernel, mm, losses, (address, bytes)) else {
                    return;
                };
                if mm.areas_left == 0 {
                    vmas.dropped = vmas.dropped.saturating_add(1);
                    mm.complete = false;
                    return;
                }
                mm.areas_left -= 1;
                if let Err(stop) = visit(&mut self.visited, address) {
                    losses.stop(WalkedStructure::AreaTree, stop);
                    mm.complete = false;
                    return;
                }
                if vmas.push(row(files, names, (shares, mm, owner), vma, &links)).is_none() {
                    mm.complete = false;
                    return;
                }
                for child in links.children.into_iter().filter(|child| !child.is_null()) {
                    if !mm.lists_more() {
                        mm.note_length(losses);
                    } else if below.has_room() {
                        below.push(owner, child);
                    } else {
                        mm.complete = false;
                        losses.cut(WalkedStructure::MemoryArea, below.rows.capacity());
                    }
                }
            });
            mem::swap(areas, below);
        }
        snapshot.note_depth(areas.rows.iter().copied(), RED_BLACK_DEPTH_MAX);
    }

    /// Groups the areas of red-black trees by address space.
    fn sort_areas(&mut self) {
        let Snapshot { vmas, mms, .. } = &mut self.snapshot;
        vmas.sort_unstable_by_key(|row| (row.mm, row.vma.start));
        let mut start = 0;
        for group in vmas.chunk_by(|one, next| one.mm == next.mm) {
            let end = start + group.len() as u32;
            if let Some(mm) = group.first().and_then(|first| mms.at_mut(first.mm)) {
                mm.vmas = Span::new(start, end);
            }
            start = end;
        }
    }

    /// Reads one level of all trees, and lists the next one, and areas with their owners.
    fn read_nodes(&mut self, memory: &mut ScannedMemory<'_>, layout: &MapleNode) {
        let WalkScratch { areas, nodes, more_nodes: children, .. } = &mut self.scratch;
        let visited = &mut self.visited;
        let mms = &mut self.snapshot.mms;
        let (losses, vmas) = (&mut self.snapshot.losses, &mut self.snapshot.vmas);
        children.clear();
        let push = |reader: &mut MemoryReader, space: &_, node: &PendingMapleNode| {
            reader.push(space, node.enode.address(), &layout.packing)
        };
        fetch_each(&mut self.reader, memory, nodes, push, |index, bytes| {
            let PendingMapleNode { mm, enode: node, max } = nodes[index];
            let owner = &mut mms[mm];
            let Some(bytes) = bytes else {
                losses.miss(WalkedStructure::AreaNode, node.address());
                owner.complete = false;
                return;
            };
            if let Err(stop) = visit_node(visited, layout, node, bytes) {
                losses.stop(WalkedStructure::AreaTree, stop);
                owner.complete = false;
                return;
            }
            let entries =
                maple_tree::for_each_entry(layout, node, bytes, max, |entry, end| match entry {
                    MapleEntry::Empty => {}
                    _ if !owner.lists_more() => owner.note_length(losses),
                    MapleEntry::Value(vma) if areas.has_room() && owner.areas_left > 0 => {
                        owner.areas_left -= 1;
                        areas.push(mm, vma);
                    }
                    MapleEntry::Value(_) if owner.areas_left == 0 => {
                        owner.complete = false;
                        vmas.dropped = vmas.dropped.saturating_add(1);
                    }
                    MapleEntry::Node(child) if children.len() < children.capacity() => {
                        children.push(PendingMapleNode { mm, enode: child, max: end });
                    }
                    MapleEntry::Value(_) => {
                        owner.complete = false;
                        losses.cut(WalkedStructure::MemoryArea, areas.rows.capacity());
                    }
                    MapleEntry::Node(_) => {
                        owner.complete = false;
                        losses.cut(WalkedStructure::AreaNode, children.capacity());
                    }
                });
            if let Err(stop) = entries {
                losses.stop(WalkedStructure::AreaTree, stop);
                owner.complete = false;
            }
        });
        mem::swap(nodes, children);
    }

    /// Reads the listed areas.
    fn read_vmas(&mut self, memory: &mut ScannedMemory<'_>) {
        let kernel = memory.kernel;
        let layout = &kernel.layouts.vm_area_struct;
        let snapshot = &mut self.snapshot;
        let (vmas, files, names) = (&mut snapshot.vmas, &mut snapshot.files, &mut snapshot.names);
        let (mms, losses) = (&mut snapshot.mms, &mut snapshot.losses);
        let WalkScratch { areas, shares, .. } = &mut self.scratch;
        let Reads { rows: owners, addresses } = &*areas;
        let mut files = files;
        let (reader, packing) = (&mut self.reader, &layout.packing);
        let touch = |files: &&mut AddressedRows<FileRow>, bytes: &[u8]| {
            files.touch(View::new(bytes).pointer(layout.vm_file).0)
        };
        fetch_ahead(
            reader,
            memory,
            packing,
            addresses,
            &mut files,
            touch,
            |files, index, bytes| {
                let owner = owners[index];
                let (mm, area) = (&mut mms[owner], (addresses[index], bytes));
                let Some((vma, links)) = take_area(kernel, mm, losses, area) else { return };
                let row = row(files, names, (shares, mm, owner), vma, &links);
                let end = vmas.span_from(vmas.len());
                if mm.vmas.is_empty() {
                    mm.vmas = end;
                }
                // All areas of an address space are at the same depth, so its rows are contiguous.
                // In a forged tree they may not be.
                let is_beside = mm.vmas.end() == end.start();
                if !is_beside {
                    losses.miss(WalkedStructure::AreaTree, addresses[index]);
                }
                if !is_beside || vmas.push(row).is_none() {
                    mm.complete = false;
                    return;
                }
                mm.vmas.extend();
            },
        );
    }
}

impl Snapshot {
    /// Marks the address spaces whose trees have more levels than this number, and notes that.
    fn note_depth(&mut self, owners: impl Iterator<Item = Index<MmRow>>, limit: u32) {
        let mut is_deep = false;
        for owner in owners {
            self.mms[owner].complete = false;
            is_deep = true;
        }
        if is_deep {
            self.losses.stop(WalkedStructure::AreaTree, EarlyStop::TooLong { limit });
        }
    }
}

impl MmRow {
    /// Counts one more area or node that is listed; `false` if no tree of so many areas has it.
    fn lists_more(&mut self) -> bool {
        self.listed = self.listed.saturating_add(1);
        self.listed <= self.listed_max()
    }

    /// Number of areas and nodes that a tree of so many areas may have.
    const fn listed_max(&self) -> u32 {
        self.map_count.saturating_mul(2).saturating_add(LISTED_MORE)
    }

    /// Marks the address space as incomplete, and notes the length of its tree once.
    #[cold]
    fn note_length(&mut self, losses: &mut Losses) {
        self.complete = false;
        let limit = self.listed_max();
        if self.listed - 1 == limit {
            losses.stop(WalkedStructure::AreaTree, EarlyStop::TooLong { limit });
        }
    }
}

/// Marks a node of a tree, or an entry of a list, as visited. Returns the reason not to follow it.
pub(super) fn visit(visited: &mut AddressMap, address: KernelVa) -> Result<(), EarlyStop> {
    match visited.insert(address.0, 0) {
        Insertion::New => Ok(()),
        Insertion::Old(_) => Err(EarlyStop::Loop { address }),
        Insertion::Full => Err(EarlyStop::NoRoom { rows: visited.len() as u32 }),
    }
}

/// The same of a node of a maple tree.
fn visit_node(
    visited: &mut AddressMap,
    layout: &MapleNode,
    node: Enode,
    bytes: &[u8],
) -> Result<(), EarlyStop> {
    let address = node.address();
    // A node that was replaced points to itself (`ma_dead_node`, lib/maple_tree.c). A node visited
    // twice would be multiplied by ten on every level.
    if View::new(bytes).unsigned(layout.parent) & !0xff == address.0 {
        return Err(EarlyStop::Unreadable { address });
    }
    visit(visited, address)
}

/// The area in these bytes, which were read at this address, if it can belong to that address
/// space. Otherwise the latter is not complete.
fn take_area(
    kernel: &Kernel,
    mm: &mut MmRow,
    losses: &mut Losses,
    (address, bytes): (KernelVa, Option<&[u8]>),
) -> Option<(Vma, VmaLinks)> {
    let layout = &kernel.layouts.vm_area_struct;
    let area = bytes.map(|bytes| (Vma::decode(layout, bytes), VmaLinks::decode(layout, bytes)));
    let area = area.filter(|(vma, links)| links.mm == mm.address && vma.start < vma.end);
    let Some((mut vma, links)) = area else {
        losses.miss(WalkedStructure::MemoryArea, address);
        mm.complete = false;
        return None;
    };
    let page_bytes = kernel.space.levels.page_bytes();
    vma.page_offset = vma.page_offset.wrapping_mul(page_bytes / PAGE_BYTES);
    Some((vma, links))
}

/// Makes an area's row, and rows for its file and its name.
#[expect(clippy::inline_always, reason = "the call is 2 % of a walk, and has two callers")]
#[inline(always)]
fn row(
    files: &mut AddressedRows<FileRow>,
    names: &mut AddressedRows<NameRow>,
    (shares, mm, owner): (&mut TableShares, &MmRow, Index<MmRow>),
    vma: Vma,
    links: &VmaLinks,
) -> VmaRow {
    let file = shares.row_at(files, mm.process, vma.file);
    if let Some(file) = files.at_mut(file) {
        file.mapped = true;
    }
    let has_ops = !links.ops.is_null();
    // An area without a file but with operations is one of the kernel's special mappings.
    let (name, kind) = if vma.file.is_null() && has_ops {
        (links.private_data, NameKind::SpecialMapping)
    } else {
        (links.anon_name, NameKind::AnonVma)
    };
    // A process can name each of its areas.
    let name = shares.row_of(names, mm.process, name.0, || NameRow::new(name, kind));
    VmaRow { vma, file, name, mm: Some(owner), has_ops }
}

#[cfg(test)]
mod tests;
