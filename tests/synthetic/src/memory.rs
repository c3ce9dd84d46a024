//! Physical memory, its allocator, and the stores of the kernel.
//!
//! Memory is one block of zeros. The system backs its pages only once something is stored in them,
//! so a large machine costs what it uses. Every store goes through [`Memory::write`], which can
//! keep a journal: a change of many stores is then played store by store ([`Memory::step`]), or two
//! changes are at the same time (`stores`). A [`Mirror`] repeats the stores in a file.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::ops::Range;

use panoptes_decoders::address::{KernelVa, PhysicalAddress};
use panoptes_decoders::layout::PackedField;
use panoptes_decoders::source::PAGE_BYTES;

use crate::mirror::Mirror;
use crate::stores::{Store, Stores};

/// Physical address of the kernel's image (`CONFIG_PHYSICAL_START`).
pub(crate) const IMAGE_PHYSICAL: u64 = 16 << 20;

/// `__PAGE_OFFSET_BASE_L4` (arch/x86/include/asm/page_64_types.h): the direct map without KASLR.
pub(crate) const DIRECT_MAP: u64 = 0xffff_8880_0000_0000;

/// Number of objects that wait for a grace period.
const GRACE_OBJECTS: usize = 2;

/// The memory of one machine.
#[derive(Debug)]
pub struct Memory {
    bytes: Vec<u8>,
    /// Virtual addresses of the kernel's image.
    image: Range<u64>,
    /// Areas of kernel modules, by address: their sizes, and where they are.
    areas: BTreeMap<u64, (u64, PhysicalAddress)>,
    /// First byte that was never allocated.
    next: u64,
    /// Freed objects, by size; the last one freed is used first.
    free: HashMap<u64, Vec<KernelVa>>,
    /// Objects that are freed after a grace period of RCU, the oldest first.
    deferred: VecDeque<(KernelVa, u32)>,
    journal: Option<Vec<Store>>,
    pending: Stores,
    /// What waited when a second operation began, until that is made.
    paused: Stores,
    mirror: Option<Mirror>,
    /// Where the switches of a processor are counted, once there is one.
    switches: Option<usize>,
    /// Where the run times are of the tasks with unfinished operations: of the first one, and of
    /// one at the same time.
    runners: [Option<usize>; 2],
    /// Whether what stores now is no task.
    is_interrupt: bool,
    /// Whether stores leave those that wait where they are.
    is_amid: bool,
}

impl Memory {
    /// Memory of `size` bytes in which the image's virtual addresses are `image`.
    pub(crate) fn new(size: u64, image: Range<u64>) -> Self {
        let end = IMAGE_PHYSICAL + (image.end - image.start);
        let size = size.next_multiple_of(2 << 20);
        Self {
            bytes: vec![0; usize::try_from(size).expect("memory has an address")],
            image,
            areas: BTreeMap::new(),
            next: end.next_multiple_of(2 << 20),
            free: HashMap::new(),
            deferred: VecDeque::new(),
            journal: None,
            pending: Stores::default(),
            paused: Stores::default(),
            mirror: None,
            switches: None,
            runners: [None; 2],
            is_interrupt: false,
            is_amid: false,
        }
    }

    /// From now on, tasks that store are counted at a kernel address.
    pub(crate) fn count_switches_at(&mut self, address: KernelVa) {
        self.switches = Some(self.physical(address).0 as usize);
    }

    /// Stores that an interrupt makes, without a task.
    pub(crate) fn set_interrupt(&mut self, is_interrupt: bool) {
        self.is_interrupt = is_interrupt;
    }

    /// Whether the next stores come in the middle of an operation, whose other stores wait.
    pub(crate) fn set_amid(&mut self, is_amid: bool) {
        self.is_amid = is_amid;
    }

    /// The next operation is that of the task whose run time is at a kernel address.
    pub(crate) fn run_as(&mut self, run_time: KernelVa) {
        let at = Some(self.physical(run_time).0 as usize);
        if self.paused.len() > 0 {
            self.runners[1] = at;
            return;
        }
        while self.step() {}
        self.runners = [at, None];
    }

    /// Counts one more switch to a task: it has stored something, or is about to.
    fn count_switch(&mut self) {
        if self.is_interrupt {
            return;
        }
        for at in self.switches.into_iter().chain(self.runners.into_iter().flatten()) {
            if let Some(count) = self.bytes[at..].first_chunk_mut::<8>() {
                *count = u64::from_le_bytes(*count).wrapping_add(1).to_le_bytes();
                self.repeat(at, 8);
            }
        }
    }

    /// Notes that somebody reads. A task with stores that wait is running.
    pub(crate) fn note_read(&mut self) {
        if self.pending() > 0 {
            self.count_switch();
        }
    }

    /// Writes the memory to an empty file, and repeats all further stores there. Pages of zeros
    /// stay holes. Fails if the file cannot be written.
    pub fn mirror_to(&mut self, file: File) -> io::Result<()> {
        self.mirror = Some(Mirror::new(file, &self.bytes, self.used() as usize)?);
        Ok(())
    }

    /// Writes the last stores to the file of [`Self::mirror_to`], which may lag behind by those to
    /// one page.
    ///
    /// Panics if the file cannot be written: a reader would see a machine that never was.
    pub fn flush(&mut self) {
        if let Some(mirror) = &mut self.mirror {
            mirror.flush(&self.bytes);
        }
    }

    /// Repeats a store that was just made in the file.
    fn repeat(&mut self, at: usize, length: usize) {
        if let Some(mirror) = &mut self.mirror {
            mirror.store(&self.bytes, at..at + length);
        }
    }

    /// Size of the machine's memory in bytes.
    pub fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Bytes from 0 to the end of what was ever allocated.
    pub fn used(&self) -> u64 {
        self.next.next_multiple_of(PAGE_BYTES)
    }

    /// The physical bytes from 0 on.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Physical address of a kernel address in the image, in the direct map or in an area of a
    /// module.
    ///
    /// Panics for other addresses: the machine never stores elsewhere.
    pub fn physical(&self, address: KernelVa) -> PhysicalAddress {
        if self.image.contains(&address.0) {
            return PhysicalAddress(address.0 - self.image.start + IMAGE_PHYSICAL);
        }
        let physical = address.0.wrapping_sub(DIRECT_MAP);
        if physical < self.size() {
            return PhysicalAddress(physical);
        }
        let area = self.areas.range(..=address.0).next_back();
        let inside = area.and_then(|(start, &(bytes, physical))| {
            let offset = address.0 - start;
            (offset < bytes).then_some(PhysicalAddress(physical.0 + offset))
        });
        inside.unwrap_or_else(|| panic!("no kernel memory at {address}"))
    }

    /// Notes where an area of a module is; 0 bytes end it.
    pub(crate) fn set_area(&mut self, start: u64, bytes: u64, physical: PhysicalAddress) {
        if bytes == 0 {
            self.areas.remove(&start);
        } else {
            self.areas.insert(start, (bytes, physical));
        }
    }

    /// The bytes at a kernel address.
    pub fn read(&self, address: KernelVa, length: usize) -> &[u8] {
        let at = self.physical(address).0 as usize;
        &self.bytes[at..at + length]
    }

    /// Stores bytes at a kernel address. First plays what [`Self::step`] has not played yet.
    pub fn write(&mut self, address: KernelVa, bytes: &[u8]) {
        let at = self.physical(address);
        self.write_physical(at, bytes);
    }

    /// Stores bytes at a physical address, as [`Self::write`] does.
    pub(crate) fn write_physical(&mut self, address: PhysicalAddress, bytes: &[u8]) {
        while !self.is_amid && self.step() {}
        let at = address.0 as usize;
        let place = &mut self.bytes[at..at + bytes.len()];
        if let Some(journal) = &mut self.journal {
            journal.push(Store::new(at, place, bytes));
        }
        place.copy_from_slice(bytes);
        self.repeat(at, bytes.len());
        self.count_switch();
    }

    /// Begins to record stores.
    pub(crate) fn record(&mut self) {
        while self.step() {}
        self.journal = Some(Vec::new());
    }

    /// Begins to record stores that are made at the same time as those that wait to be played:
    /// plays the latter for now. [`Self::rewind_both`] undoes them.
    pub(crate) fn record_second(&mut self) {
        self.paused = std::mem::take(&mut self.pending);
        for store in self.paused.of_first() {
            self.bytes[store.range()].copy_from_slice(&store.new);
        }
        self.journal = Some(Vec::new());
    }

    /// Undoes the recorded stores in memory and queues them for [`Self::step`].
    pub(crate) fn rewind(&mut self) {
        let journal = self.journal.take().unwrap_or_default();
        self.undo(journal.iter());
        self.pending = Stores::of(journal);
    }

    /// Undoes the recorded stores, and those that were played for them.
    pub(crate) fn rewind_both(&mut self) {
        let journal = self.journal.take().unwrap_or_default();
        self.undo(journal.iter());
        let mut pending = std::mem::take(&mut self.paused);
        self.undo(pending.of_first());
        pending.add_second(journal);
        self.pending = pending;
    }

    fn undo<'s>(&mut self, stores: impl DoubleEndedIterator<Item = &'s Store>) {
        for store in stores.rev() {
            self.bytes[store.range()].copy_from_slice(&store.old);
            self.repeat(store.range().start, store.range().len());
        }
    }

    /// Plays the next queued store; `false` if there was none.
    pub fn step(&mut self) -> bool {
        let Some(store) = self.pending.next() else { return false };
        self.bytes[store.range()].copy_from_slice(&store.new);
        self.repeat(store.range().start, store.range().len());
        self.count_switch();
        true
    }

    /// Number of queued stores.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Whether the queued stores are those of one operation, which may continue during another.
    pub(crate) fn has_one_operation(&self) -> bool {
        self.pending.is_of_one()
    }

    /// Stores a field of the object at `object`, little-endian, with the field's size.
    pub fn put(&mut self, object: KernelVa, field: PackedField, value: u64) {
        let size = field.size.min(8) as usize;
        self.write(object.plus(field.offset.into()), &value.to_le_bytes()[..size]);
    }

    /// Stores a field that some kernels lack.
    pub(crate) fn put_optional(
        &mut self,
        object: KernelVa,
        field: Option<PackedField>,
        value: u64,
    ) {
        if let Some(field) = field {
            self.put(object, field, value);
        }
    }

    /// Stores a pointer field.
    pub(crate) fn point(&mut self, object: KernelVa, field: PackedField, to: KernelVa) {
        self.put(object, field, to.0);
    }

    /// Stores a pointer field and the field after it. The kernel has such pairs in `task_struct`:
    /// `mm` and `active_mm`, `real_parent` and `parent`, `real_cred` and `cred`.
    pub(crate) fn point_pair(&mut self, object: KernelVa, field: PackedField, to: KernelVa) {
        self.point(object, field, to);
        self.put_word(object.plus(u64::from(field.offset) + 8), to.0);
    }

    /// Loads a field of at most eight bytes.
    pub fn get(&self, object: KernelVa, field: PackedField) -> u64 {
        let bytes = self.read(object.plus(field.offset.into()), field.size.min(8) as usize);
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        u64::from_le_bytes(word)
    }

    /// Stores a 64-bit number.
    pub fn put_word(&mut self, address: KernelVa, value: u64) {
        self.write(address, &value.to_le_bytes());
    }

    /// Loads a 64-bit number.
    pub fn word(&self, address: KernelVa) -> u64 {
        let bytes = self.read(address, 8).first_chunk().copied().unwrap_or_default();
        u64::from_le_bytes(bytes)
    }

    /// Allocates a zeroed object in the direct map, as a slab does: the object of that size that
    /// was freed last is used again. Objects of a power of two bytes are aligned to their size.
    ///
    /// Panics if the memory is full.
    pub fn allocate(&mut self, bytes: u32) -> KernelVa {
        let size = slab_size(bytes);
        if let Some(at) = self.free.get_mut(&size).and_then(Vec::pop) {
            self.write(at, &vec![0; size as usize]);
            return at;
        }
        let alignment = if size.is_power_of_two() { size.min(PAGE_BYTES) } else { 64 };
        let at = self.next.next_multiple_of(alignment);
        self.next = at + size;
        assert!(self.next <= self.size(), "the machine's memory is full: {} bytes", self.size());
        KernelVa(DIRECT_MAP + at)
    }

    /// Allocates a zeroed object as [`Self::allocate`] does, in a slab with others of its size
    /// (`calculate_order`, mm/slub.c): of eight pages, or of as many as one object needs.
    pub(crate) fn allocate_in_slab(&mut self, bytes: u32) -> KernelVa {
        let size = slab_size(bytes);
        if self.free.get(&size).is_none_or(Vec::is_empty) {
            let slab_bytes = (8 * PAGE_BYTES).max(size.next_power_of_two());
            let slab = self.next.next_multiple_of(slab_bytes);
            self.next = slab + slab_bytes;
            let objects =
                (0..slab_bytes / size).rev().map(|at| KernelVa(DIRECT_MAP + slab + at * size));
            self.free.entry(size).or_default().extend(objects);
        }
        self.allocate(bytes)
    }

    /// Frees an object of [`Self::allocate`]. Its bytes stay until it is used again.
    pub(crate) fn release(&mut self, at: KernelVa, bytes: u32) {
        self.touch(at, bytes);
        self.free.entry(slab_size(bytes)).or_default().push(at);
    }

    /// Frees an object after a grace period of RCU: when some others have been freed so.
    pub(crate) fn release_later(&mut self, at: KernelVa, bytes: u32) {
        self.deferred.push_back((at, bytes));
        if self.deferred.len() > GRACE_OBJECTS
            && let Some((at, bytes)) = self.deferred.pop_front()
        {
            self.release(at, bytes);
        }
    }

    /// Notes that the kernel changes the references to an object here, of which there is no store:
    /// who releases it does so later.
    pub(crate) fn touch(&mut self, at: KernelVa, bytes: u32) {
        let address = self.physical(at).0 as usize;
        if let Some(journal) = &mut self.journal {
            journal.push(Store::touch(address, slab_size(bytes) as usize));
        }
    }

    /// Allocates a NUL-terminated text.
    pub(crate) fn text(&mut self, text: &str) -> KernelVa {
        let at = self.allocate(text.len() as u32 + 1);
        self.write(at, text.as_bytes());
        at
    }
}

fn slab_size(bytes: u32) -> u64 {
    u64::from(bytes.max(8)).next_multiple_of(8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> Memory {
        Memory::new(64 << 20, 0xffff_ffff_8100_0000..0xffff_ffff_8200_0000)
    }

    #[test]
    fn freed_objects_are_used_again_and_hold_zeros() {
        let mut memory = memory();
        let first = memory.allocate(24);
        memory.put_word(first, 7);
        memory.release(first, 24);
        assert_eq!(memory.word(first), 7);
        assert_eq!(memory.allocate(24), first);
        assert_eq!(memory.word(first), 0);
        assert_ne!(memory.allocate(24), first);
        assert_eq!(memory.allocate(256).0 % 256, 0);
    }

    #[test]
    fn recorded_stores_are_played_in_their_order() {
        let mut memory = memory();
        let at = memory.allocate(16);
        memory.put_word(at, 1);
        memory.record();
        memory.put_word(at, 2);
        memory.put_word(at.plus(8), 3);
        memory.put_word(at, 4);
        memory.rewind();
        let mut seen = Vec::new();
        loop {
            seen.push((memory.word(at), memory.word(at.plus(8))));
            if !memory.step() {
                break;
            }
        }
        assert_eq!(seen, [(1, 0), (2, 0), (2, 3), (4, 3)]);
    }
}
