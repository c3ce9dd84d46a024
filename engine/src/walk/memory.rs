//! Memory areas: reads the trees of all address spaces at once, maple trees or red-black trees.

use core::mem;

use panoptes_decoders::kernel::maple_tree::{self, Enode, Entry, MapleNode};
use panoptes_decoders::kernel::vm_area_struct::Vma;
use panoptes_decoders::layout::View;
use panoptes_decoders::source::PAGE_BYTES;

use super::snapshot::{FileRow, Index, MmRow, NameKind, NameRow, Span, VmaRow, row_at};
use super::{Kernel, Memory, Reads, Scratch, Walker, fetch, fetch_each};
use crate::address::Reader;
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
    pub(super) fn read_areas(&mut self, memory: &mut Memory<'_>) {
        for mm in self.snapshot.mms.iter_mut() {
            mm.vmas = Span::default();
        }
        self.visited.clear();
        match &memory.kernel.layouts.maple_node {
            Some(layout) => self.read_maple_trees(memory, layout),
            None => self.read_red_black_trees(memory),
        }
        for mm in self.snapshot.mms.iter_mut() {
            // The counts differ if the tree changed while it was read, or was forged.
            mm.complete &= mm.vmas.len() == mm.map_count as usize;
        }
    }

    fn read_maple_trees(&mut self, memory: &mut Memory<'_>, layout: &MapleNode) {
        let (nodes, areas) = (&mut self.scratch.nodes, &mut self.scratch.areas);
        nodes.clear();
        areas.clear();
        for index in self.snapshot.mms.indexes() {
            let mm = &mut self.snapshot.mms[index];
            match maple_tree::root(mm.ma_root) {
                Entry::Empty => {}
                Entry::Value(vma) => areas.push(index, vma),
                Entry::Node(node) if nodes.len() < nodes.capacity() => {
                    nodes.push(Node { mm: index, enode: node, max: u64::MAX });
                }
                Entry::Node(_) => mm.complete = false,
            }
        }
        for _ in 0..maple_tree::DEPTH_MAX {
            self.read_vmas(memory);
            self.scratch.areas.clear();
            if self.scratch.nodes.is_empty() {
                break;
            }
            self.read_nodes(memory, layout);
        }
    }

    /// Reads the trees whose nodes are the areas themselves, one level of all trees in each round.
    fn read_red_black_trees(&mut self, memory: &mut Memory<'_>) {
        let kernel = memory.kernel;
        let layout = &kernel.layouts.vm_area_struct;
        let (areas, below) = (&mut self.scratch.areas, &mut self.scratch.more_areas);
        let snapshot = &mut self.snapshot;
        let (vmas, files, names) = (&mut snapshot.vmas, &mut snapshot.files, &mut snapshot.names);
        let (mms, losses) = (&mut snapshot.mms, &mut snapshot.losses);
        areas.clear();
        for (index, mm) in mms.indexed().filter(|(_, mm)| !mm.mm_rb.is_null()) {
            areas.push(index, mm.mm_rb);
        }
        for _ in 0..RED_BLACK_DEPTH_MAX {
            if areas.rows.is_empty() {
                break;
            }
            below.clear();
            let Reads { rows: owners, addresses } = &*areas;
            fetch(&mut self.reader, memory, &layout.packing, addresses, |index, bytes| {
                let owner = owners[index];
                let mm = &mut mms[owner];
                let Some(vma) = bytes.and_then(|bytes| area_of(kernel, mm, bytes)) else {
                    losses.unreadable += 1;
                    mm.complete = false;
                    return;
                };
                if self.visited.insert(addresses[index].0, 0) != Insertion::New
                    || vmas.push(row(files, names, vma)).is_none()
                {
                    mm.complete = false;
                    return;
                }
                for child in vma.children.into_iter().filter(|child| !child.is_null()) {
                    if below.has_room() {
                        below.push(owner, child);
                    } else {
                        mm.complete = false;
                        losses.dropped += 1;
                    }
                }
            });
            mem::swap(areas, below);
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

    /// Reads one level of all trees, and lists the next one, and areas with their owners.
    fn read_nodes(&mut self, memory: &mut Memory<'_>, layout: &MapleNode) {
        let Scratch { areas, nodes, more_nodes: children, .. } = &mut self.scratch;
        let visited = &mut self.visited;
        let mms = &mut self.snapshot.mms;
        let losses = &mut self.snapshot.losses;
        children.clear();
        let push = |reader: &mut Reader, space: &_, node: &Node| {
            reader.push(space, node.enode.address(), &layout.packing)
        };
        fetch_each(&mut self.reader, memory, nodes, push, |index, bytes| {
            let Node { mm, enode: node, max } = nodes[index];
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
                Entry::Value(vma) if areas.has_room() => areas.push(mm, vma),
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
        mem::swap(nodes, children);
    }

    /// Reads the listed areas.
    fn read_vmas(&mut self, memory: &mut Memory<'_>) {
        let kernel = memory.kernel;
        let layout = &kernel.layouts.vm_area_struct;
        let snapshot = &mut self.snapshot;
        let (vmas, files, names) = (&mut snapshot.vmas, &mut snapshot.files, &mut snapshot.names);
        let (mms, losses) = (&mut snapshot.mms, &mut snapshot.losses);
        let Reads { rows: owners, addresses } = &self.scratch.areas;
        fetch(&mut self.reader, memory, &layout.packing, addresses, |index, bytes| {
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
    let file = row_at(files, vma.file);
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
