//! Memory areas: reads the trees of all address spaces at once, maple trees or red-black trees.

use core::mem;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::maple_tree::{self, Enode, Entry, MapleNode};
use panoptes_decoders::kernel::vm_area_struct::Vma;
use panoptes_decoders::layout::View;
use panoptes_decoders::source::{MemorySource, PAGE_BYTES};

use super::snapshot::{FileRow, MmRow, NameKind, Rows, VmaRow};
use super::{Kernel, Maps, NONE, NameRow, Walker, fetch, row_of};
use panoptes_tables::Insertion;

/// Maximum depth of a red-black tree: twice the logarithm of the number of areas that a process may
/// have (`vm.max_map_count`, an int).
const RED_BLACK_DEPTH_MAX: u32 = 64;

/// A node of a maple tree to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    mm: u32,
    enode: Enode,
    max: u64,
}

impl Walker {
    /// Fills `vmas`, and each address space's range of them.
    pub(super) fn read_areas<S: MemorySource>(&mut self, source: &mut S, kernel: &Kernel) {
        for mm in self.snapshot.mms.iter_mut() {
            mm.vmas = 0..0;
        }
        self.maps.visited.clear();
        match &kernel.layouts.maple_node {
            Some(layout) => self.read_maple_trees(source, kernel, layout),
            None => self.read_red_black_trees(source, kernel),
        }
        for mm in self.snapshot.mms.iter_mut() {
            // The counts differ if the tree changed while it was read, or was forged.
            mm.complete &= mm.vmas.len() == mm.map_count as usize;
        }
    }

    fn read_maple_trees<S: MemorySource>(
        &mut self,
        source: &mut S,
        kernel: &Kernel,
        layout: &MapleNode,
    ) {
        let mut nodes = mem::take(&mut self.scratch.nodes);
        let mut values = mem::take(&mut self.scratch.addresses);
        let mut owners = mem::take(&mut self.scratch.owners);
        nodes.clear();
        values.clear();
        owners.clear();
        for (index, mm) in self.snapshot.mms.iter_mut().enumerate() {
            match maple_tree::root(mm.ma_root) {
                Entry::Empty => {}
                Entry::Value(vma) => {
                    values.push(vma);
                    owners.push(index as u32);
                }
                Entry::Node(node) if nodes.len() < nodes.capacity() => {
                    nodes.push(Node { mm: index as u32, enode: node, max: u64::MAX });
                }
                Entry::Node(_) => mm.complete = false,
            }
        }
        for _ in 0..maple_tree::DEPTH_MAX {
            self.read_vmas(source, kernel, &values, &owners);
            values.clear();
            owners.clear();
            if nodes.is_empty() {
                break;
            }
            self.read_nodes(source, kernel, layout, &mut nodes, &mut values, &mut owners);
        }
        self.scratch.nodes = nodes;
        self.scratch.addresses = values;
        self.scratch.owners = owners;
    }

    /// Reads the trees whose nodes are the areas themselves, one level of all trees in each round.
    fn read_red_black_trees<S: MemorySource>(&mut self, source: &mut S, kernel: &Kernel) {
        let layout = &kernel.layouts.vm_area_struct;
        let scratch = &mut self.scratch;
        let (areas, owners) = (&mut scratch.addresses, &mut scratch.owners);
        let (below, below_owners) = (&mut scratch.more, &mut scratch.more_owners);
        let snapshot = &mut self.snapshot;
        let (vmas, files, names) = (&mut snapshot.vmas, &mut snapshot.files, &mut snapshot.names);
        let (mms, losses) = (&mut snapshot.mms, &mut snapshot.losses);
        let maps = &mut self.maps;
        areas.clear();
        owners.clear();
        for (index, mm) in mms.iter().enumerate().filter(|(_, mm)| !mm.mm_rb.is_null()) {
            areas.push(mm.mm_rb);
            owners.push(index as u32);
        }
        for _ in 0..RED_BLACK_DEPTH_MAX {
            if areas.is_empty() {
                break;
            }
            below.clear();
            below_owners.clear();
            fetch(&mut self.reader, source, kernel, &layout.packing, areas, |index, bytes| {
                let owner = owners[index];
                let mm = &mut mms[owner as usize];
                let Some(vma) = bytes.and_then(|bytes| area_of(kernel, mm, bytes)) else {
                    losses.unreadable += 1;
                    mm.complete = false;
                    return;
                };
                if maps.visited.insert(areas[index].0, 0) != Insertion::New
                    || vmas.push(row(maps, files, names, vma)).is_none()
                {
                    mm.complete = false;
                    return;
                }
                for child in vma.children.into_iter().filter(|child| !child.is_null()) {
                    if below.len() < below.capacity() {
                        below.push(child);
                        below_owners.push(owner);
                    } else {
                        mm.complete = false;
                        losses.dropped += 1;
                    }
                }
            });
            mem::swap(areas, below);
            mem::swap(owners, below_owners);
        }
        vmas.sort_unstable_by_key(|row| (row.vma.mm, row.vma.start));
        let mut start = 0;
        for group in vmas.chunk_by(|one, next| one.vma.mm == next.vma.mm) {
            let end = start + group.len() as u32;
            let mm = group.first().and_then(|first| maps.mms.get(first.vma.mm.0));
            if let Some(mm) = mm.and_then(|index| mms.get_mut(index as usize)) {
                mm.vmas = start..end;
            }
            start = end;
        }
    }

    /// Reads one level of all trees. `nodes` becomes the next level; areas go to `values` with
    /// their owners.
    fn read_nodes<S: MemorySource>(
        &mut self,
        source: &mut S,
        kernel: &Kernel,
        layout: &MapleNode,
        nodes: &mut Vec<Node>,
        values: &mut Vec<KernelVa>,
        owners: &mut Vec<u32>,
    ) {
        let addresses = &mut self.scratch.more;
        let children = &mut self.scratch.more_nodes;
        let visited = &mut self.maps.visited;
        let mms = &mut self.snapshot.mms;
        let losses = &mut self.snapshot.losses;
        children.clear();
        let mut done = 0;
        while done < nodes.len() {
            addresses.clear();
            let batch = addresses.capacity().min(nodes.len() - done);
            addresses.extend(nodes[done..done + batch].iter().map(|node| node.enode.address()));
            let part = &nodes[done..done + batch];
            fetch(&mut self.reader, source, kernel, &layout.packing, addresses, |index, bytes| {
                let Node { mm, enode: node, max } = part[index];
                let complete = &mut mms[mm as usize].complete;
                let Some(bytes) = bytes else {
                    losses.unreadable += 1;
                    *complete = false;
                    return;
                };
                // A node that was replaced points to itself (`ma_dead_node`, lib/maple_tree.c). A
                // node visited twice would be multiplied by ten on every level.
                let parent = View::new(bytes).unsigned(layout.parent);
                let is_dead = parent & !0xff == node.address().0;
                if is_dead || visited.insert(node.address().0, 0) != Insertion::New {
                    *complete = false;
                    return;
                }
                maple_tree::for_each_entry(layout, node, bytes, max, |entry, end| match entry {
                    Entry::Value(vma) if values.len() < values.capacity() => {
                        values.push(vma);
                        owners.push(mm);
                    }
                    Entry::Node(child) if children.len() < children.capacity() => {
                        children.push(Node { mm, enode: child, max: end });
                    }
                    Entry::Empty => {}
                    Entry::Value(_) | Entry::Node(_) => {
                        *complete = false;
                        losses.dropped += 1;
                    }
                });
            });
            done += batch;
        }
        mem::swap(nodes, children);
    }

    fn read_vmas<S: MemorySource>(
        &mut self,
        source: &mut S,
        kernel: &Kernel,
        values: &[KernelVa],
        owners: &[u32],
    ) {
        let layout = &kernel.layouts.vm_area_struct;
        let snapshot = &mut self.snapshot;
        let (vmas, files, names) = (&mut snapshot.vmas, &mut snapshot.files, &mut snapshot.names);
        let (mms, losses) = (&mut snapshot.mms, &mut snapshot.losses);
        let maps = &mut self.maps;
        fetch(&mut self.reader, source, kernel, &layout.packing, values, |index, bytes| {
            let mm = &mut mms[owners[index] as usize];
            let Some(vma) = bytes.and_then(|bytes| area_of(kernel, mm, bytes)) else {
                losses.unreadable += 1;
                mm.complete = false;
                return;
            };
            let row = row(maps, files, names, vma);
            let start = vmas.len() as u32;
            if mm.vmas.is_empty() {
                mm.vmas = start..start;
            }
            // All areas of an address space are at the same depth, so its rows are contiguous. In a
            // forged tree they may not be.
            if mm.vmas.end != start || vmas.push(row).is_none() {
                mm.complete = false;
                return;
            }
            mm.vmas.end += 1;
        });
    }
}

/// The area in `bytes`, if it can belong to that address space.
fn area_of(kernel: &Kernel, mm: &MmRow, bytes: &[u8]) -> Option<Vma> {
    let mut vma = Vma::decode(&kernel.layouts.vm_area_struct, bytes);
    let page_bytes = kernel.space.levels.page_bytes();
    vma.page_offset = vma.page_offset.wrapping_mul(page_bytes / PAGE_BYTES);
    (vma.mm == mm.address && vma.start < vma.end).then_some(vma)
}

/// Makes an area's row, and rows for its file and its name.
fn row(maps: &mut Maps, files: &mut Rows<FileRow>, names: &mut Rows<NameRow>, vma: Vma) -> VmaRow {
    let file = row_of(&mut maps.files, files, vma.file, || FileRow::new(vma.file));
    if let Some(file) = files.get_mut(file as usize) {
        file.mapped = true;
    }
    // An area without a file but with operations is one of the kernel's special mappings.
    let (name, kind) = if vma.file.is_null() && !vma.ops.is_null() {
        (vma.private_data, NameKind::SpecialMapping)
    } else {
        (vma.anon_name, NameKind::AnonVma)
    };
    let name = row_of(&mut maps.names, names, name, || NameRow::new(name, kind));
    VmaRow { vma, file, name }
}

impl VmaRow {
    /// Whether the area has its own name.
    pub fn has_name(&self) -> bool {
        self.name != NONE
    }
}
