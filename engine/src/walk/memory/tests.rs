//! Trees of memory areas made by hand.

use panoptes_decoders::layout::PackedField;
use panoptes_tables::HashKey;

use super::*;
use crate::walk::tests::memory::{Sparse, add_process, kernel, small, walker};

#[test]
fn nodes_that_are_dead_or_were_visited_are_named() {
    let parent = PackedField { offset: 0, size: 8, packed: 0 };
    let layout = MapleNode { parent, ..MapleNode::default() };
    let mut visited = AddressMap::new(16, HashKey::new(7));
    let address = KernelVa(0xffff_8880_0000_1000);
    let mut read = |bytes: &[u8]| visit_node(&mut visited, &layout, Enode(address.0), bytes);
    assert_eq!(read(&[0; 8]), Ok(()));
    assert_eq!(read(&[0; 8]), Err(EarlyStop::Loop { address }));
    assert_eq!(read(&address.0.to_le_bytes()), Err(EarlyStop::Unreadable { address }));
}

#[test]
fn a_node_for_which_a_full_set_has_no_room_is_named() {
    let mut visited = AddressMap::new(16, HashKey::new(7));
    let mut pages = (1..1000).map(|page| visit(&mut visited, KernelVa(page << 12)));
    let stop = pages.find_map(Result::err);
    assert_eq!(stop, Some(EarlyStop::NoRoom { rows: visited.len() as u32 }));
}

/// Reads the tree of one address space with so many areas. Returns whether it is complete, and
/// the reasons to stop.
fn read_tree(
    memory: &mut Sparse,
    kernel: &Kernel,
    space: MmRow,
    map_count: u32,
) -> (bool, Vec<String>) {
    let mut walker = walker(&small());
    walker.scratch.shares.begin(1);
    let row = MmRow { map_count, complete: true, ..space };
    let owner = walker.snapshot.mms.row_of(row.address.0, || row).expect("there is room");
    memory.walk(&mut walker, kernel, Walker::read_areas);
    let stops = walker.snapshot.losses.frequent_stops();
    let stops = stops.iter().map(ToString::to_string).collect();
    (walker.snapshot.mms[owner].complete, stops)
}

/// A forged count hides what is missing.
#[test]
fn an_address_space_whose_tree_is_too_deep_is_incomplete() {
    let deep = |limit: u32| vec![format!("tree of memory areas: longer than {limit}")];
    for (levels, expected) in [(31, (true, vec![])), (32, (false, deep(31)))] {
        let mut memory = Sparse::default();
        let nodes: Vec<u64> = (0..levels).map(|_| memory.structure() | 0x12).collect();
        for pair in nodes.windows(2) {
            memory.set(pair[0] & !0xff, "maple_node", "mr64.slot", pair[1]);
        }
        let address = KernelVa(memory.structure());
        let space = MmRow { address, ma_root: nodes[0], ..MmRow::default() };
        assert_eq!(read_tree(&mut memory, &kernel(), space, 0), expected);
    }
    let mut of_red_black_trees = kernel();
    of_red_black_trees.layouts.maple_node = None;
    for (levels, expected) in [(64, (true, vec![])), (65, (false, deep(64)))] {
        let mut memory = Sparse::default();
        let address = KernelVa(memory.structure());
        let areas: Vec<u64> = (0..levels).map(|_| memory.structure()).collect();
        for (at, &area) in areas.iter().enumerate() {
            memory.set(area, "vm_area_struct", "vm_end", 0x2000);
            memory.set(area, "vm_area_struct", "vm_mm", address.0);
            let below = areas.get(at + 1).copied().unwrap_or(0);
            memory.set(area, "vm_area_struct", "vm_rb.rb_left", below);
        }
        let space = MmRow { address, mm_rb: KernelVa(areas[0]), ..MmRow::default() };
        assert_eq!(read_tree(&mut memory, &of_red_black_trees, space, 64), expected);
    }
}

#[test]
fn an_address_space_with_areas_below_the_last_level_is_incomplete() {
    let mut memory = Sparse::default();
    let mut nodes: Vec<u64> = (0..30).map(|_| memory.structure() | 0x12).collect();
    // A leaf.
    nodes.push(memory.structure() | 0xa);
    let address = memory.structure();
    nodes.push(memory.structure());
    for pair in nodes.windows(2) {
        memory.set(pair[0] & !0xff, "maple_node", "mr64.slot", pair[1]);
    }
    let space = MmRow { address: KernelVa(address), ma_root: nodes[0], ..MmRow::default() };
    let stop = "tree of memory areas: longer than 31".to_owned();
    assert_eq!(read_tree(&mut memory, &kernel(), space, 0), (false, vec![stop]));
}

#[test]
fn an_address_space_with_a_node_of_another_kind_is_incomplete() {
    let mut memory = Sparse::default();
    let (address, node) = (KernelVa(memory.structure()), memory.structure());
    let space = MmRow { address, ma_root: node | 4 << 3 | 2, ..MmRow::default() };
    let stop = format!("tree of memory areas: unreadable at {node:#x}");
    assert_eq!(read_tree(&mut memory, &kernel(), space, 0), (false, vec![stop]));
}

#[test]
fn a_tree_with_more_areas_than_its_address_space_is_named_once() {
    let mut mm = MmRow { map_count: 3, complete: true, ..MmRow::default() };
    let mut losses = Losses::default();
    for _ in 0..100 {
        if !mm.lists_more() {
            mm.note_length(&mut losses);
        }
    }
    let stops = losses.frequent_stops();
    let stops: Vec<_> = stops.iter().map(|stop| (stop.count, stop.to_string())).collect();
    assert_eq!(stops, [(1, "tree of memory areas: longer than 70".to_owned())]);
    assert!(!mm.complete);
}

#[test]
fn an_area_at_another_depth_than_those_before_it_is_named() {
    let (mut memory, mut walker) = (Sparse::default(), walker(&small()));
    walker.scratch.shares.begin(1);
    let spaces = [0; 2].map(|_| memory.structure());
    let owners = spaces.map(|at| {
        let row = || MmRow { address: KernelVa(at), complete: true, ..MmRow::default() };
        walker.snapshot.mms.row_of(at, row).expect("there is room")
    });
    let areas = [0, 1, 0].map(|space: usize| {
        let at = memory.structure();
        memory.set(at, "vm_area_struct", "vm_end", 0x2000);
        memory.set(at, "vm_area_struct", "vm_mm", spaces[space]);
        walker.scratch.areas.push(owners[space], KernelVa(at));
        at
    });
    memory.walk(&mut walker, &kernel(), Walker::read_vmas);
    let snapshot = &walker.snapshot;
    let stops = snapshot.losses.frequent_stops();
    let stops: Vec<_> = stops.iter().map(ToString::to_string).collect();
    assert_eq!(stops, [format!("tree of memory areas: unreadable at {:#x}", areas[2])]);
    assert_eq!(owners.map(|owner| snapshot.mms[owner].complete), [false, true]);
    assert_eq!(snapshot.vmas.len(), 2);
}

/// Any process can name its areas (`PR_SET_VMA_ANON_NAME`).
#[test]
fn names_of_areas_of_one_user_leave_room_for_those_of_others() {
    const NAMES: u64 = 16;
    let (mut memory, mut walker) = (Sparse::default(), walker(&small()));
    walker.snapshot.names.set_capacity(200);
    let crowd: Vec<_> = (0..100).map(|_| add_process(&mut walker, &mut memory, 1000)).collect();
    let other = add_process(&mut walker, &mut memory, 0);
    walker.scratch.shares.begin(101);
    walker.scratch.shares.set_owners(&mut walker.snapshot, &[]);
    let Walker { snapshot, scratch, .. } = &mut walker;
    let mut named = |process, first: u64| {
        let mm = MmRow { process: Some(process), ..MmRow::default() };
        let owner = Index::new(0).unwrap();
        let area = |number| {
            let links = VmaLinks { anon_name: KernelVa(first + number), ..VmaLinks::default() };
            let (files, names) = (&mut snapshot.files, &mut snapshot.names);
            row(files, names, (&mut scratch.shares, &mm, owner), Vma::default(), &links)
        };
        (0..NAMES).map(area).filter(|area| area.name.is_some()).count()
    };
    let of_crowd: usize = (1..).zip(&crowd).map(|(at, &process)| named(process, at << 16)).sum();
    assert_eq!(of_crowd, 100 + 50, "half of all, and the part of users");
    assert_eq!(named(other, 1 << 40), NAMES as usize);
    assert!(scratch.shares.refused.is_some_and(|process| process != other));
}
