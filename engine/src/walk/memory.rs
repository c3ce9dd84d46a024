//! Memory areas: reads the trees of all address spaces at once, maple trees or red-black trees.

use core::mem;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::maple_tree::{self, Enode, Entry, MapleNode};
use panoptes_decoders::kernel::vm_area_struct::Vma;
use panoptes_decoders::layout::View;
use panoptes_decoders::source::{MemorySource, PAGE_BYTES};

use super::snapshot::{FileRow, Index, MmRow, NameKind, NameRow, Span, VmaRow};
use super::{Kernel, Walker, fetch};
use panoptes_tables::{Insertion, Keyed};

/// Maximum depth of a red-black tree: twice the logarithm of the number of areas that a process may
/// have (`vm.max_map_count`, an int).
const RED_BLACK_DEPTH_MAX: u32 = 64;

/// A node of a maple tree to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    mm: Index<MmRow>,
    enode: Enode,
    max: u64,
}

impl Walker {
    /// Fills `vmas`, and each address space's range of them.
    pub(super) fn read_areas<S: MemorySource>(&mut self, source: &mut S, kernel: &Kernel) {
        for mm in self.snapshot.mms.iter_mut() {
            mm.vmas = Span::default();
        }
        self.visited.clear();
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
        let mut owners = mem::take(&mut self.scratch.mms);
        nodes.clear();
        values.clear();
        owners.clear();
        for index in self.snapshot.mms.indexes() {
            let mm = &mut self.snapshot.mms[index];
            match maple_tree::root(mm.ma_root) {
                Entry::Empty => {}
                Entry::Value(vma) => {
                    values.push(vma);
                    owners.push(index);
                }
                Entry::Node(node) if nodes.len() < nodes.capacity() => {
                    nodes.push(Node { mm: index, enode: node, max: u64::MAX });
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
        self.scratch.mms = owners;
    }

    /// Reads the trees whose nodes are the areas themselves, one level of all trees in each round.
    fn read_red_black_trees<S: MemorySource>(&mut self, source: &mut S, kernel: &Kernel) {
        let layout = &kernel.layouts.vm_area_struct;
        let scratch = &mut self.scratch;
        let (areas, owners) = (&mut scratch.addresses, &mut scratch.mms);
        let (below, below_owners) = (&mut scratch.more, &mut scratch.more_mms);
        let snapshot = &mut self.snapshot;
        let (vmas, files, names) = (&mut snapshot.vmas, &mut snapshot.files, &mut snapshot.names);
        let (mms, losses) = (&mut snapshot.mms, &mut snapshot.losses);
        areas.clear();
        owners.clear();
        for (index, mm) in mms.indexed().filter(|(_, mm)| !mm.mm_rb.is_null()) {
            areas.push(mm.mm_rb);
            owners.push(index);
        }
        for _ in 0..RED_BLACK_DEPTH_MAX {
            if areas.is_empty() {
                break;
            }
            below.clear();
            below_owners.clear();
            fetch(&mut self.reader, source, kernel, &layout.packing, areas, |index, bytes| {
                let owner = owners[index];
                let mm = &mut mms[owner];
                let Some(vma) = bytes.and_then(|bytes| area_of(kernel, mm, bytes)) else {
                    losses.unreadable += 1;
                    mm.complete = false;
                    return;
                };
                if self.visited.insert(areas[index].0, 0) != Insertion::New
                    || vmas.push(row(files, names, vma)).is_none()
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
            let mm = group.first().and_then(|first| mms.find(first.vma.mm.0));
            if let Some(mm) = mms.at_mut(mm) {
                mm.vmas = Span::new(start, end);
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
        owners: &mut Vec<Index<MmRow>>,
    ) {
        let addresses = &mut self.scratch.more;
        let children = &mut self.scratch.more_nodes;
        let visited = &mut self.visited;
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
                let complete = &mut mms[mm].complete;
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
        owners: &[Index<MmRow>],
    ) {
        let layout = &kernel.layouts.vm_area_struct;
        let snapshot = &mut self.snapshot;
        let (vmas, files, names) = (&mut snapshot.vmas, &mut snapshot.files, &mut snapshot.names);
        let (mms, losses) = (&mut snapshot.mms, &mut snapshot.losses);
        fetch(&mut self.reader, source, kernel, &layout.packing, values, |index, bytes| {
            let mm = &mut mms[owners[index]];
            let Some(vma) = bytes.and_then(|bytes| area_of(kernel, mm, bytes)) else {
                losses.unreadable += 1;
                mm.complete = false;
                return;
            };
            let row = row(files, names, vma);
            let end = vmas.span_from(vmas.len());
            if mm.vmas.is_empty() {
                mm.vmas = end;
            }
            // All areas of an address space are at the same depth, so its rows are contiguous. In a
            // forged tree they may not be.
            if mm.vmas.end() != end.start() || vmas.push(row).is_none() {
                mm.complete = false;
                return;
            }
            mm.vmas.extend();
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
fn row(files: &mut Keyed<FileRow>, names: &mut Keyed<NameRow>, vma: Vma) -> VmaRow {
    let file = files.row_of(vma.file.0, || FileRow::new(vma.file));
    if let Some(file) = files.at_mut(file) {
        file.mapped = true;
    }
    // An area without a file but with operations is one of the kernel's special mappings.
    let (name, kind) = if vma.file.is_null() && !vma.ops.is_null() {
        (vma.private_data, NameKind::SpecialMapping)
    } else {
        (vma.anon_name, NameKind::AnonVma)
    };
    let name = names.row_of(name.0, || NameRow::new(name, kind));
    VmaRow { vma, file, name }
}
