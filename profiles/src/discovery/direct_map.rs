//! Finds the direct map: by the variable of the kernel, else by the majority of slab objects.

use std::cmp::Reverse;
use std::collections::HashMap;

use panoptes_decoders::address::{KernelVa, PhysicalAddress};
use panoptes_decoders::kernel::Layouts;
use panoptes_decoders::kernel::task_struct::Task;
use panoptes_decoders::kernel::xarray::{self, XaSlot};
use panoptes_decoders::paging::PageTableLevels;

use crate::discovery::arm64;
use crate::discovery::candidate::KernelCandidate;
use crate::discovery::vmemmap::REGION_ALIGNMENT;
use crate::memory::KernelMemory;
use crate::object::read_object;

/// Maximum number of slab objects that are asked: one node of the tree of pids has 64.
const OBJECTS_MAX: usize = 80;

/// Addresses of slab objects to which the first task and the tree of pids lead. A dump may lack
/// either.
pub(super) fn slab_objects(
    memory: &mut KernelMemory<'_>,
    candidate: &KernelCandidate,
    layouts: &Layouts,
    init_task: &Task,
) -> Vec<KernelVa> {
    let links = [init_task.tasks_next, init_task.tasks_prev];
    let tasks = links.map(|link| link.minus(u64::from(layouts.task_struct.tasks.offset)));
    let mut objects = tasks.to_vec();
    objects.extend([init_task.first_child, init_task.thread_pid, init_task.nsproxy]);
    let head = candidate
        .symbols
        .init_pid_ns
        .and_then(|ns| memory.read_u64(ns.plus(layouts.pid_idr_root())).ok());
    let mut slot = xarray::slot(head.unwrap_or(0));
    for _ in 0..xarray::XARRAY_DEPTH_MAX {
        let XaSlot::Node(node) = slot else { break };
        objects.push(node);
        let Ok(bytes) = read_object(memory, &layouts.xa_node, node) else { break };
        slot = XaSlot::Empty;
        xarray::for_each_slot(&layouts.xa_node, &bytes, |_, found| {
            match found {
                XaSlot::Entry(object) => objects.push(object),
                // The lowest numbers are those of the oldest tasks.
                XaSlot::Node(_) if slot == XaSlot::Empty => slot = found,
                XaSlot::Node(node) => objects.push(node),
                XaSlot::Empty => {}
            }
        });
    }
    objects.retain(|object| object.is_plausible() && !candidate.image.contains(&object.0));
    objects.truncate(OBJECTS_MAX);
    objects
}

/// Distance of an address in the direct map from its physical address (wrapping): the one that the
/// kernel names if that maps the top page table, else that of most slab objects. No page table may
/// contradict it.
pub(super) fn base(
    memory: &mut KernelMemory<'_>,
    candidate: &KernelCandidate,
    objects: &[KernelVa],
) -> Option<u64> {
    let root = candidate.root;
    let named = named(memory, candidate).filter(|&base| is_aligned(memory.levels(), base));
    if let Some(base) = named
        && top_table(memory, root, base) == TopTable::Mapped
    {
        return named;
    }
    let mut votes = HashMap::<u64, usize>::new();
    for &object in objects {
        let Ok(found) = memory.translate(object) else { continue };
        let base = object.0.wrapping_sub(found.physical.0);
        if is_aligned(memory.levels(), base) {
            *votes.entry(base).or_default() += 1;
        }
    }
    let mut bases: Vec<(u64, usize)> = votes.into_iter().collect();
    bases.sort_unstable_by_key(|&(base, count)| (Reverse(count), base));
    let voted = bases
        .into_iter()
        .map(|(base, _)| base)
        .find(|&base| top_table(memory, root, base) != TopTable::Elsewhere);
    // Without a voter, only the name is left.
    voted.or_else(|| named.filter(|&base| top_table(memory, root, base) == TopTable::Unread))
}

/// The distance that the kernel names: in the variable `page_offset_base`, or on arm64 by numbers
/// of VMCOREINFO.
fn named(memory: &mut KernelMemory<'_>, candidate: &KernelCandidate) -> Option<u64> {
    match candidate.levels {
        PageTableLevels::X86_64(_) => memory.read_u64(candidate.symbols.page_offset_base?).ok(),
        PageTableLevels::Aarch64(_) => arm64::direct_map_distance(candidate.vmcoreinfo.as_ref()?),
    }
}

/// Where a direct map has the top page table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum TopTable {
    Mapped,
    NotMapped,
    Elsewhere,
    /// The memory lacks a table on the way.
    Unread,
}

fn top_table(memory: &mut KernelMemory<'_>, root: PhysicalAddress, base: u64) -> TopTable {
    match memory.translate(KernelVa(base.wrapping_add(root.0))) {
        Ok(found) if found.physical == root => TopTable::Mapped,
        Ok(_) => TopTable::Elsewhere,
        Err(fault) if fault.is_missing() => TopTable::Unread,
        Err(_) => TopTable::NotMapped,
    }
}

fn is_aligned(levels: PageTableLevels, base: u64) -> bool {
    match levels {
        PageTableLevels::X86_64(_) => base >> 63 == 1 && base.is_multiple_of(REGION_ALIGNMENT),
        PageTableLevels::Aarch64(_) => base.is_multiple_of(levels.page_bytes()),
    }
}
