//! The files of bpffs: a program, a map or a link that has one is *pinned*. It stays when no
//! process holds it any more.
//!
//! A name is found through the one before it, which costs a round. So the names of the last read
//! are read in one batch, and the lists are followed over these copies.
//!
//! Not here: where a bpffs is mounted. Paths begin at its root.

use arrayvec::{ArrayString, ArrayVec};
use panoptes_decoders::address::KernelVa;
use panoptes_decoders::early_stop::EarlyStop;
use panoptes_decoders::kernel::dentry::ListedName;
use panoptes_decoders::layout::View;
use panoptes_tables::{AddressMap, HashKey, room};

use super::bpf_attach::lone_reads;
use super::bpf_rows::{BPF_PINS_MAX, BpfPinRow, bpf_view};
use super::losses::WalkedStructure;
use super::memory::visit;
use super::module_details::text_of;
use super::{ScannedMemory, Walker, fetch, fetch_each};
use crate::address::MemoryReader;

/// Maximum number of names in all bpffs.
const PIN_NAMES_MAX: usize = 2 * BPF_PINS_MAX;
/// Maximum number of bpffs. systemd mounts one; containers may have their own.
const BPFFS_MAX: usize = 64;
/// Maximum depth of a name.
const DEPTH_MAX: usize = 16;
/// Bytes of a name that are read.
const NAME_BYTES: usize = 64;

/// A name in a bpffs.
#[derive(Clone, Copy, Debug)]
struct PinName {
    address: KernelVa,
    listed: ListedName,
    name: ArrayString<NAME_BYTES>,
}

/// What reads of pins use, and the names that the last one has seen.
#[derive(Debug)]
pub(super) struct PinWalk {
    known: Vec<KernelVa>,
    names: Vec<PinName>,
    /// Positions in `names`, by their addresses.
    by_address: AddressMap,
    /// Positions of the names in the trees, directories first.
    listed: Vec<u32>,
    /// Positions of those whose names or inodes are read.
    due: Vec<u32>,
    /// Addresses and lengths of long names.
    texts: Vec<(KernelVa, u32)>,
    is_read: bool,
}

impl PinWalk {
    pub(super) fn new(key: HashKey) -> Self {
        Self {
            known: room::list(PIN_NAMES_MAX),
            names: room::list(2 * PIN_NAMES_MAX),
            by_address: AddressMap::new(2 * PIN_NAMES_MAX, key.derive("walk: names of bpffs")),
            listed: room::list(PIN_NAMES_MAX),
            due: room::list(PIN_NAMES_MAX),
            texts: room::list(PIN_NAMES_MAX),
            is_read: false,
        }
    }

    pub(super) fn forget(&mut self) {
        self.known.clear();
        self.is_read = false;
    }

    fn add(&mut self, address: KernelVa, (listed, name): (ListedName, &[u8])) -> u32 {
        let position = self.names.len() as u32;
        self.by_address.insert(address.0, position);
        self.names.push(PinName { address, listed, name: text_of(name) });
        position
    }

    fn at(&self, position: u32) -> Option<&PinName> {
        self.names.get(position as usize)
    }

    /// The path of a name from the root of its filesystem on. A longer one is cut.
    fn path<const BYTES: usize>(&self, position: u32) -> ArrayString<BYTES> {
        let mut parts = ArrayVec::<u32, DEPTH_MAX>::new();
        let mut at = Some(position);
        while let Some(position) = at {
            let Some(name) = self.at(position) else { break };
            // A root is its own parent.
            if name.listed.parent == name.address || parts.try_push(position).is_err() {
                break;
            }
            at = self.by_address.get(name.listed.parent.0);
        }
        let mut path = ArrayString::new();
        for part in parts.into_iter().rev().filter_map(|part| self.at(part)) {
            for letter in core::iter::once('/').chain(part.name.chars()) {
                let _ = path.try_push(letter);
            }
        }
        path
    }
}

impl Walker {
    /// Fills the rows of pins. Returns whether all were read, or `None` if where they are is
    /// unknown.
    pub(super) fn read_pins(&mut self, memory: &mut ScannedMemory<'_>) -> Option<bool> {
        let layouts = &memory.kernel.layouts;
        let of_type = layouts.file_system_mounts?;
        let super_block = layouts.super_block_of_type?;
        let layout = layouts.dentry_tree;
        let filesystem = memory.kernel.symbols.bpf_fs_type?;
        let walk = &mut self.bpf.pins;
        walk.names.clear();
        walk.by_address.clear();
        walk.listed.clear();
        let known = core::mem::take(&mut walk.known);
        fetch(&mut self.reader, memory, &layout.packing, &known, |index, bytes| {
            if let Some((&address, bytes)) = known.get(index).zip(bytes) {
                walk.add(address, ListedName::decode(&layout, address, bytes));
            }
        });
        walk.known = known;
        self.visited.clear();
        let mut left = lone_reads(walk.is_read, PIN_NAMES_MAX);
        let head = memory.read_one(&mut self.reader, filesystem, &of_type.packing);
        let mut link = head.map(|view| KernelVa(view.u64_at(of_type.fs_supers, 0)));
        let mut end = link.ok_or(EarlyStop::Unreadable { address: filesystem }).map(|_| ());
        for _ in 0..BPFFS_MAX {
            let Some(at) = link.filter(|link| !link.is_null() && end.is_ok()) else { break };
            let address = at.minus(super_block.s_instances.offset.into());
            let view = memory.read_one(&mut self.reader, address, &super_block.packing);
            let next = view.map(|view| {
                (view.u64_at(super_block.s_instances, 0), view.pointer(super_block.s_root))
            });
            let Some((next, root)) = next else {
                end = Err(EarlyStop::Unreadable { address });
                break;
            };
            link = Some(KernelVa(next));
            // One that is being mounted has no root yet.
            if !root.is_null() {
                end = self.follow_names(memory, root, &mut left);
            }
        }
        // A list that changes is read again.
        if let Err(stop @ EarlyStop::Unreadable { .. }) = end {
            self.snapshot.losses.stop(WalkedStructure::BpfPlace, stop);
        }
        let is_whole = self.read_pinned(memory) && end.is_ok();
        let walk = &mut self.bpf.pins;
        walk.is_read = true;
        walk.known.clear();
        let listed = walk.listed.iter().filter_map(|&at| walk.names.get(at as usize));
        walk.known.extend(listed.map(|name| name.address));
        Some(is_whole)
    }

    /// Follows the names below a root.
    fn follow_names(
        &mut self,
        memory: &mut ScannedMemory<'_>,
        root: KernelVa,
        left: &mut usize,
    ) -> Result<(), EarlyStop> {
        let mut turn = self.bpf.pins.listed.len();
        self.follow_name(memory, root, left)?;
        while let Some(&position) = self.bpf.pins.listed.get(turn) {
            turn += 1;
            let first = self.bpf.pins.at(position).and_then(|name| name.listed.first);
            let mut next = first;
            while let Some(address) = next {
                next = self.follow_name(memory, address, left)?.next;
            }
        }
        Ok(())
    }

    /// Notes a name, which is read unless it is known.
    fn follow_name(
        &mut self,
        memory: &mut ScannedMemory<'_>,
        address: KernelVa,
        left: &mut usize,
    ) -> Result<ListedName, EarlyStop> {
        visit(&mut self.visited, address)?;
        let layout = &memory.kernel.layouts.dentry_tree;
        let walk = &mut self.bpf.pins;
        let limit = EarlyStop::TooLong { limit: PIN_NAMES_MAX as u32 };
        let position = if let Some(position) = walk.by_address.get(address.0) {
            position
        } else {
            *left = left.checked_sub(1).ok_or(limit)?;
            self.reader.clear();
            self.reader.push(&memory.kernel.space, address, &layout.packing);
            memory.run(&mut self.reader);
            let bytes = self.reader.object(0).ok_or(EarlyStop::Unreadable { address })?;
            walk.add(address, ListedName::decode(layout, address, bytes))
        };
        if walk.listed.len() == walk.listed.capacity() {
            return Err(limit);
        }
        walk.listed.push(position);
        Ok(walk.at(position).map(|name| name.listed).unwrap_or_default())
    }

    /// Reads what the names lead to, and makes their rows. Returns whether there was room for all.
    fn read_pinned(&mut self, memory: &mut ScannedMemory<'_>) -> bool {
        let layout = &memory.kernel.layouts.inode_private;
        let walk = &mut self.bpf.pins;
        let PinWalk { names, listed, due, texts, .. } = walk;
        due.clear();
        let is_long =
            |at: &u32| names.get(*at as usize).is_some_and(|name| !name.listed.long_name.is_null());
        due.extend(listed.iter().copied().filter(is_long));
        texts.clear();
        texts.extend(due.iter().map(|at| {
            let listed = names.get(*at as usize).map(|name| name.listed).unwrap_or_default();
            (listed.long_name, listed.length.min(NAME_BYTES as u32))
        }));
        let push = |reader: &mut MemoryReader, space: &_, (at, length): &(KernelVa, u32)| {
            reader.push_bytes(space, *at, *length)
        };
        fetch_each(&mut self.reader, memory, texts, push, |index, bytes| {
            let name = due.get(index).and_then(|at| names.get_mut(*at as usize));
            if let Some((name, bytes)) = name.zip(bytes) {
                name.name = text_of(bytes);
            }
        });
        due.clear();
        let has_inode =
            |at: &u32| names.get(*at as usize).is_some_and(|name| !name.listed.inode.is_null());
        due.extend(listed.iter().copied().filter(has_inode));
        let walk = &self.bpf.pins;
        let push = |reader: &mut MemoryReader, space: &_, at: &u32| {
            let inode = walk.at(*at).map_or(KernelVa::NULL, |name| name.listed.inode);
            reader.push(space, inode, &layout.packing)
        };
        let pins = &mut self.snapshot.bpf.pins;
        let mut is_whole = true;
        fetch_each(&mut self.reader, memory, &walk.due, push, |index, bytes| {
            let object = bytes.map(|bytes| View::new(bytes).pointer(layout.i_private));
            is_whole &= object.is_some();
            // Directories lead to none.
            let object = object.filter(|object| object.is_plausible());
            if let Some((&at, object)) = walk.due.get(index).zip(object) {
                is_whole &= pins.push(BpfPinRow { object, path: walk.path(at) }).is_some();
            }
        });
        is_whole
    }

    /// Notes pins as a view of programs, and lists those that have no row.
    pub(super) fn want_pinned_programs(&mut self) {
        let (scan, walk) = (&mut self.snapshot.bpf, &mut self.bpf);
        for at in 0..scan.pins.len() {
            let object = scan.pins.as_slice().get(at).map_or(KernelVa::NULL, |pin| pin.object);
            let is_other = walk.maps.get(object.0).or(walk.links.get(object.0)).is_some();
            if !is_other {
                walk.want_program(scan, object, bpf_view::PIN);
            }
        }
    }
}
