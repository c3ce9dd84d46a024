//! Programs of eBPF that are attached to control groups without a link, in the hierarchy of the
//! second version. The others have no programs.
//!
//! Not here: how their rows are made ([`super`]).

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::early_stop::EarlyStop;
use panoptes_decoders::kernel::bpf_attach::{BpfCgroup, PROGRAMS_OF_PLACE_MAX, attachment_kind};
use panoptes_decoders::layout::{View, u64_at};
use panoptes_tables::{AddressMap, HashKey, room};

use super::{Attachment, add_attachment, lone_reads};
use crate::address::MemoryReader;
use crate::walk::bpf_rows::BpfTarget;
use crate::walk::losses::WalkedStructure;
use crate::walk::memory::visit;
use crate::walk::{ScannedMemory, Walker, fetch, fetch_each};

/// Maximum number of control groups whose programs are looked for. systemd makes some 200, and a
/// runtime of containers two for each of them.
const CONTROL_GROUPS_MAX: usize = 4096;
/// Maximum number of lists of programs that are followed at a time.
const LISTS_MAX: usize = 4096;

/// A control group.
#[derive(Clone, Copy, Debug)]
struct AttachedGroup {
    address: KernelVa,
    /// The next link in the list of the group above.
    next: KernelVa,
    /// The first link in the list of the groups below.
    child: KernelVa,
    /// Bits of the lists of programs that are not empty.
    lists: u64,
}

/// An entry of a list of programs that is read next.
#[derive(Clone, Copy, Debug)]
struct GroupList {
    group: KernelVa,
    /// Position of its list in the group.
    list: u32,
    at: KernelVa,
}

/// What reads of control groups use, and the groups that the last one has seen.
#[derive(Debug)]
pub(in crate::walk) struct GroupWalk {
    known: Vec<KernelVa>,
    groups: Vec<AttachedGroup>,
    /// Positions in `groups`, by their links.
    by_link: AddressMap,
    /// Positions of the groups in the tree, those above first.
    listed: Vec<u32>,
    lists: Vec<GroupList>,
    more: Vec<GroupList>,
    is_read: bool,
}

impl GroupWalk {
    pub(in crate::walk) fn new(key: HashKey) -> Self {
        Self {
            known: room::list(CONTROL_GROUPS_MAX),
            groups: room::list(2 * CONTROL_GROUPS_MAX),
            by_link: AddressMap::new(
                2 * CONTROL_GROUPS_MAX,
                key.derive("walk: groups of programs"),
            ),
            listed: room::list(CONTROL_GROUPS_MAX),
            lists: room::list(LISTS_MAX),
            more: room::list(LISTS_MAX),
            is_read: false,
        }
    }

    pub(in crate::walk) fn forget(&mut self) {
        self.known.clear();
        self.is_read = false;
    }

    fn add(&mut self, layout: &BpfCgroup, address: KernelVa, bytes: &[u8]) -> u32 {
        let view = View::new(bytes);
        let position = self.groups.len() as u32;
        let heads = Heads::of(layout, address);
        self.by_link.insert(address.plus(layout.sibling.offset.into()).0, position);
        self.groups.push(AttachedGroup {
            address,
            next: KernelVa(view.u64_at(layout.sibling, 0)),
            child: KernelVa(view.u64_at(layout.children, 0)),
            lists: heads.used(layout, view),
        });
        position
    }
}

/// The heads of a group's lists of programs.
#[derive(Clone, Copy, Debug)]
struct Heads {
    first: KernelVa,
    /// Words of a head: two of a `struct list_head`, one of a `struct hlist_head`.
    words: usize,
    count: usize,
}

impl Heads {
    fn of(layout: &BpfCgroup, group: KernelVa) -> Self {
        let is_ring = layout.progs.size > layout.effective.size;
        Self {
            first: group.plus(layout.progs.offset.into()),
            words: if is_ring { 2 } else { 1 },
            count: (layout.effective.size as usize / 8).min(64),
        }
    }

    fn head(self, list: usize) -> KernelVa {
        self.first.plus((8 * self.words * list) as u64)
    }

    /// Whether a list ends with what follows an entry.
    fn is_end(self, list: usize, next: KernelVa) -> bool {
        next.is_null() || self.words == 2 && next == self.head(list)
    }

    /// The first entry of a list, in the copy of its group; `None` if it is empty.
    fn entry(self, layout: &BpfCgroup, view: View<'_>, list: usize) -> Option<KernelVa> {
        let first = KernelVa(view.u64_at(layout.progs, self.words * list));
        (!self.is_end(list, first)).then_some(first)
    }

    fn used(self, layout: &BpfCgroup, view: View<'_>) -> u64 {
        let is_used = |list: &usize| self.entry(layout, view, *list).is_some();
        (0..self.count).filter(is_used).fold(0, |bits, list| bits | 1 << list)
    }
}

impl Walker {
    /// Adds rows of the programs of control groups. Returns whether all groups were read; also if
    /// the kernel has no such programs, or where they are is unknown.
    pub(in crate::walk) fn read_groups(&mut self, memory: &mut ScannedMemory<'_>) -> bool {
        let (layouts, symbols) = (&memory.kernel.layouts, &memory.kernel.symbols);
        let all = layouts.bpf_cgroup.zip(layouts.bpf_cgroup_root.zip(symbols.cgrp_dfl_root));
        let Some((layout, (root, symbol))) = all else { return true };
        let children = symbol.plus(root.children.offset.into());
        let first = children.minus(layout.children.offset.into());
        let walk = &mut self.bpf.attach.groups;
        walk.groups.clear();
        walk.by_link.clear();
        walk.listed.clear();
        let known = core::mem::take(&mut walk.known);
        fetch(&mut self.reader, memory, &layout.packing, &known, |index, bytes| {
            if let Some((&address, bytes)) = known.get(index).zip(bytes) {
                walk.add(&layout, address, bytes);
            }
        });
        walk.known = known;
        self.visited.clear();
        let end = self.follow_groups(memory, &layout, first);
        if let Err(stop @ (EarlyStop::Unreadable { .. } | EarlyStop::Loop { .. })) = end {
            self.snapshot.losses.stop(WalkedStructure::BpfPlace, stop);
        }
        let walk = &mut self.bpf.attach.groups;
        walk.is_read = true;
        walk.known.clear();
        let listed = walk.listed.iter().filter_map(|&at| walk.groups.get(at as usize));
        walk.known.extend(listed.map(|group| group.address));
        self.read_programs_of_groups(memory, &layout) && end.is_ok()
    }

    /// Follows the tree from its first group on.
    fn follow_groups(
        &mut self,
        memory: &mut ScannedMemory<'_>,
        layout: &BpfCgroup,
        first: KernelVa,
    ) -> Result<(), EarlyStop> {
        let mut left = lone_reads(self.bpf.attach.groups.is_read, CONTROL_GROUPS_MAX);
        self.follow_group(memory, layout, first, &mut left)?;
        let mut turn = 0;
        while let Some(&position) = self.bpf.attach.groups.listed.get(turn) {
            turn += 1;
            let above = self.bpf.attach.groups.groups.get(position as usize).copied();
            let Some(above) = above else { continue };
            let end = above.address.plus(layout.children.offset.into());
            let mut link = above.child;
            while link != end && !link.is_null() {
                let address = link.minus(layout.sibling.offset.into());
                link = self.follow_group(memory, layout, address, &mut left)?;
            }
        }
        Ok(())
    }

    /// Notes a group, which is read unless it is known. Returns the next link in its list.
    fn follow_group(
        &mut self,
        memory: &mut ScannedMemory<'_>,
        layout: &BpfCgroup,
        address: KernelVa,
        left: &mut usize,
    ) -> Result<KernelVa, EarlyStop> {
        visit(&mut self.visited, address)?;
        let walk = &mut self.bpf.attach.groups;
        let limit = EarlyStop::TooLong { limit: CONTROL_GROUPS_MAX as u32 };
        let link = address.plus(layout.sibling.offset.into());
        let position = if let Some(position) = walk.by_link.get(link.0) {
            position
        } else {
            *left = left.checked_sub(1).ok_or(limit)?;
            self.reader.clear();
            self.reader.push(&memory.kernel.space, address, &layout.packing);
            memory.run(&mut self.reader);
            let bytes = self.reader.object(0).ok_or(EarlyStop::Unreadable { address })?;
            walk.add(layout, address, bytes)
        };
        if walk.listed.len() == walk.listed.capacity() {
            return Err(limit);
        }
        walk.listed.push(position);
        let group = walk.groups.get(position as usize);
        Ok(group.map_or(KernelVa::NULL, |group| group.next))
    }

    /// Follows the lists of programs of the groups in the tree, all of them at a time. Returns
    /// whether they were read to their ends.
    fn read_programs_of_groups(
        &mut self,
        memory: &mut ScannedMemory<'_>,
        layout: &BpfCgroup,
    ) -> bool {
        let Some(entry) = memory.kernel.layouts.bpf_prog_list else { return true };
        let (scan, bpf) = (&mut self.snapshot.bpf, &mut self.bpf);
        let GroupWalk { groups, listed, lists, more, .. } = &mut bpf.attach.groups;
        let mut is_whole = true;
        lists.clear();
        for group in listed.iter().filter_map(|&at| groups.get(at as usize)) {
            let heads = Heads::of(layout, group.address);
            for list in (0..heads.count).filter(|list| group.lists >> list & 1 != 0) {
                is_whole &= lists.len() < lists.capacity();
                if lists.len() < lists.capacity() {
                    let (group, at) = (group.address, heads.head(list));
                    lists.push(GroupList { group, list: list as u32, at });
                }
            }
        }
        // The heads are read again, together with the first entries' addresses.
        for round in 0..=PROGRAMS_OF_PLACE_MAX {
            more.clear();
            let push = |reader: &mut MemoryReader, space: &_, list: &GroupList| match round {
                0 => reader.push_bytes(space, list.at, 8),
                _ => reader.push(space, list.at.minus(entry.node.offset.into()), &entry.packing),
            };
            fetch_each(&mut self.reader, memory, lists, push, |index, bytes| {
                let Some((list, bytes)) = lists.get(index).zip(bytes) else {
                    is_whole = false;
                    return;
                };
                let view = View::new(bytes);
                let mut next = KernelVa(u64_at(bytes, 0));
                if round > 0 {
                    next = KernelVa(view.u64_at(entry.node, 0));
                    if view.pointer(entry.link).is_null() {
                        let attachment = Attachment {
                            kind: attachment_kind::CGROUP,
                            place: list.group,
                            program: view.pointer(entry.prog),
                            // Until its program is known, the position of its list.
                            attach_kind: Some(list.list),
                            target: BpfTarget::Unknown,
                        };
                        add_attachment(scan, &mut bpf.links, &attachment);
                    }
                }
                let heads = Heads::of(layout, list.group);
                if !heads.is_end(list.list as usize, next) {
                    more.push(GroupList { at: next, ..*list });
                }
            });
            core::mem::swap(lists, more);
            if lists.is_empty() {
                return is_whole;
            }
        }
        false
    }
}
