//! One batch of objects: addresses in, packed bytes out.
//!
//! A round of the walk pushes objects, runs the batch, and decodes the results. Addresses in the
//! kernel's linear ranges become requests at once. All others (vmalloc, user memory) are first
//! translated with the page tables, level by level; each level is one batch for the whole round.

use panoptes_decoders::address::{KernelVa, PhysicalAddress, UserVa};
use panoptes_decoders::layout::{PackedLayout, PackedSpan, u64_at};
use panoptes_decoders::paging::{KernelSpace, PageTableEntry, PageTableLevels};
use panoptes_decoders::source::{MemorySource, PAGE_BYTES, ReadOutcome, ReadRequest};
use panoptes_tables::room;

use super::blank::Blanks;
use super::tlb::Tlb;

/// Capacity of a batch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ReaderSizes {
    pub objects: usize,
    /// Bytes of all objects together.
    pub arena_bytes: usize,
    /// Number of pieces of objects that need a page-table walk.
    pub walks: usize,
}

impl Default for ReaderSizes {
    fn default() -> Self {
        Self { objects: 32_768, arena_bytes: 8 << 20, walks: 16_384 }
    }
}

/// What reading a batch cost.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ReadCost {
    /// Batches that the source was asked for.
    pub batches: u64,
    /// Bytes of all objects, and of page-table entries.
    pub bytes: u64,
    /// Requests that the source could not answer.
    pub failed: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct BatchObject {
    target: u32,
    length: u32,
    whole: bool,
    /// Whether it is a structure, or a text of a program, which is in no page of zeros.
    is_filled: bool,
}

/// A piece of an object, within one page, whose address needs a page-table walk.
#[derive(Clone, Copy, Debug, Default)]
struct Walk {
    root: u64,
    address: u64,
    /// Address of the table being read; at the end the translated address.
    physical: u64,
    object: u32,
    length: u32,
    target: u32,
    state: WalkState,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum WalkState {
    #[default]
    Walking,
    Found,
    Lost,
}

/// One batch of objects. All its memory is allocated by [`MemoryReader::new`]; the default one has
/// none and accepts no object.
#[derive(Debug, Default)]
pub struct MemoryReader {
    /// One page larger than needed, so that the arena can begin at a page: transports want aligned
    /// buffers.
    arena: Box<[u8]>,
    arena_start: usize,
    arena_bytes: usize,
    used: usize,
    objects: Vec<BatchObject>,
    requests: Vec<ReadRequest>,
    walks: Vec<Walk>,
    walk_requests: Vec<ReadRequest>,
    walk_owners: Vec<u32>,
    walk_arena: Box<[u8]>,
    tlb: Tlb,
    blanks: Blanks,
}

impl MemoryReader {
    /// Allocates a batch of these sizes.
    pub fn new(sizes: ReaderSizes) -> Self {
        let arena = room::copies(0_u8, sizes.arena_bytes + PAGE_BYTES as usize);
        let arena_start = arena.as_ptr().align_offset(PAGE_BYTES as usize).min(PAGE_BYTES as usize);
        Self {
            arena,
            arena_start,
            arena_bytes: sizes.arena_bytes,
            used: 0,
            objects: room::list(sizes.objects),
            // A packed object has a few spans, and each piece with a page-table walk is a request.
            requests: room::list(sizes.objects * 3 + sizes.walks),
            walks: room::list(sizes.walks),
            walk_requests: room::list(sizes.walks),
            walk_owners: room::list(sizes.walks),
            walk_arena: room::copies(0, sizes.walks * 8),
            tlb: Tlb::new(sizes.walks),
            blanks: Blanks::new(),
        }
    }

    /// Sets whether structures and texts of programs in pages of zeros fail: memory is a copy, and
    /// the tool that made it could not read these pages.
    pub const fn set_blanks_fail(&mut self, they_fail: bool) {
        self.blanks.is_on = they_fail;
    }

    /// Forgets all translations. Call it at the start of each scan.
    pub fn forget_translations(&mut self) {
        self.tlb.clear();
        self.blanks.forget();
    }

    /// Empties the batch.
    pub fn clear(&mut self) {
        self.used = 0;
        self.objects.clear();
        self.requests.clear();
        self.walks.clear();
    }

    /// Number of pushed objects.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// Reserves room for an object of `length` bytes in at most `pieces` requests; `None` if the
    /// batch is full.
    fn allot(&mut self, length: u32, pieces: usize) -> Option<(u32, u32)> {
        let end = self.used.checked_add((length as usize).next_multiple_of(8))?;
        if end > self.arena_bytes
            || self.objects.len() == self.objects.capacity()
            || self.requests.len() + self.walks.len() + pieces > self.requests.capacity()
            || self.walks.len() + pieces > self.walks.capacity()
        {
            return None;
        }
        let target = self.used as u32;
        let object = self.objects.len() as u32;
        self.objects.push(BatchObject { target, length, whole: true, is_filled: false });
        self.used = end;
        Some((object, target))
    }

    /// Adds the packed structure at `address` and returns its index, the number of objects before
    /// it. `None` means that the batch is full and must run first. An implausible address is
    /// accepted; its object fails.
    #[inline]
    pub fn push(
        &mut self,
        space: &KernelSpace,
        address: KernelVa,
        packing: &PackedLayout,
    ) -> Option<u32> {
        // A span that is not linear is one piece for each page that it touches.
        let pieces = packing.spans().len() * (packing.bytes() as usize / PAGE_BYTES as usize + 2);
        let (object, target) = self.allot(packing.bytes(), pieces)?;
        self.objects[object as usize].is_filled = true;
        if !address.is_plausible() {
            self.fail(object);
            return Some(object);
        }
        if let Some(first) = space.linear_all(address, packing.end()) {
            self.requests.extend(packing.spans().iter().map(|span| {
                let at = PhysicalAddress(first.0.wrapping_add(span.offset.into()));
                ReadRequest::new(at, span.length, target + span.packed)
            }));
        } else {
            self.request_spans(space, object, address, target, packing.spans());
        }
        Some(object)
    }

    /// Requests the spans of a structure that is not in one linear range.
    #[cold]
    #[inline(never)]
    fn request_spans(
        &mut self,
        space: &KernelSpace,
        object: u32,
        address: KernelVa,
        target: u32,
        spans: &[PackedSpan],
    ) {
        for span in spans {
            let va = address.plus(u64::from(span.offset));
            self.request_kernel(space, object, va, span.length, target + span.packed);
        }
    }

    /// Adds `length` bytes at a kernel address, as [`MemoryReader::push`] does.
    pub fn push_bytes(
        &mut self,
        space: &KernelSpace,
        address: KernelVa,
        length: u32,
    ) -> Option<u32> {
        let pieces = (u64::from(length) / PAGE_BYTES) as usize + 2;
        let (object, target) = self.allot(length, pieces)?;
        if !address.is_plausible() {
            self.fail(object);
            return Some(object);
        }
        self.request_kernel(space, object, address, length, target);
        Some(object)
    }

    /// Adds `length` bytes at a kernel address that are in no page of zeros.
    pub fn push_filled(
        &mut self,
        space: &KernelSpace,
        address: KernelVa,
        length: u32,
    ) -> Option<u32> {
        let object = self.push_bytes(space, address, length)?;
        self.objects[object as usize].is_filled = true;
        Some(object)
    }

    /// Adds `length` bytes at a user address under the page tables at `root`, as
    /// [`MemoryReader::push`] does.
    pub fn push_user(
        &mut self,
        levels: PageTableLevels,
        root: PhysicalAddress,
        address: UserVa,
        length: u32,
    ) -> Option<u32> {
        let pieces = (u64::from(length) / PAGE_BYTES) as usize + 2;
        let (object, target) = self.allot(length, pieces)?;
        self.objects[object as usize].is_filled = true;
        let last = address.0.checked_add(u64::from(length));
        if last.is_none_or(|last| last >> 63 != 0 || !levels.is_canonical(last)) {
            self.fail(object);
            return Some(object);
        }
        self.request_walked(root, object, address.0, length, target);
        Some(object)
    }

    /// Adds the user page at an address, of which only the page tables are read: its object has no
    /// bytes, and fails if the page is not present.
    pub fn push_user_page(
        &mut self,
        levels: PageTableLevels,
        root: PhysicalAddress,
        address: UserVa,
    ) -> Option<u32> {
        let (object, target) = self.allot(0, 1)?;
        if address.0 >> 63 != 0 || !levels.is_canonical(address.0) {
            self.fail(object);
            return Some(object);
        }
        self.add_walk(root, object, address.0, 0, target);
        Some(object)
    }

    /// Adds `length` bytes of physical memory, as [`MemoryReader::push`] does.
    pub fn push_physical(&mut self, address: PhysicalAddress, length: u32) -> Option<u32> {
        self.push_pieces(&[(address, length)])
    }

    /// Adds pieces of physical memory as one object, as [`MemoryReader::push`] does.
    pub fn push_pieces(&mut self, pieces: &[(PhysicalAddress, u32)]) -> Option<u32> {
        let length = pieces.iter().try_fold(0_u32, |sum, &(_, length)| sum.checked_add(length))?;
        let (object, mut target) = self.allot(length, pieces.len())?;
        for &(address, length) in pieces {
            if address.0.checked_add(u64::from(length)).is_some() {
                self.request(address, length, target);
            } else {
                self.fail(object);
            }
            target += length;
        }
        Some(object)
    }

    /// Removes all objects from index `length` on, because the caller could push only some of them.
    pub fn truncate(&mut self, length: usize) {
        let Some(&first) = self.objects.get(length) else { return };
        self.used = first.target as usize;
        self.objects.truncate(length);
        let kept = self.requests.partition_point(|request| request.target < first.target);
        self.requests.truncate(kept);
        let kept = self.walks.partition_point(|walk| (walk.object as usize) < length);
        self.walks.truncate(kept);
    }

    /// Answers as if none of the pushed objects could be read.
    pub fn fail_all(&mut self) {
        for object in &mut self.objects {
            object.whole = false;
        }
    }

    fn fail(&mut self, object: u32) {
        if let Some(object) = self.objects.get_mut(object as usize) {
            object.whole = false;
        }
    }

    #[inline]
    fn request_kernel(
        &mut self,
        space: &KernelSpace,
        object: u32,
        address: KernelVa,
        length: u32,
        target: u32,
    ) {
        let last = address.plus(u64::from(length.max(1) - 1));
        if let Some(first) = space.linear_all(address, length) {
            self.request(first, length, target);
        } else if space.levels.is_canonical(address.0) && last.0 >= address.0 {
            self.request_walked(space.root, object, address.0, length, target);
        } else {
            self.fail(object);
        }
    }

    /// Adds a request. One without bytes has no object ([`fail_owner`]), and nothing to answer.
    #[inline]
    fn request(&mut self, address: PhysicalAddress, length: u32, target: u32) {
        if length > 0 {
            self.requests.push(ReadRequest::new(address, length, target));
        }
    }

    fn request_walked(
        &mut self,
        root: PhysicalAddress,
        object: u32,
        mut address: u64,
        length: u32,
        mut target: u32,
    ) {
        let mut left = length;
        while left > 0 {
            let in_page = (PAGE_BYTES - address % PAGE_BYTES) as u32;
            let piece = left.min(in_page);
            self.add_walk(root, object, address, piece, target);
            left -= piece;
            target += piece;
            address = address.wrapping_add(u64::from(piece));
        }
    }

    /// Adds a piece within one page.
    fn add_walk(
        &mut self,
        root: PhysicalAddress,
        object: u32,
        address: u64,
        length: u32,
        target: u32,
    ) {
        let (root, state) = (root.0, WalkState::Walking);
        let mut walk = Walk { root, address, physical: root, object, length, target, state };
        if let Some(frame) = self.tlb.get(root, address / PAGE_BYTES) {
            walk.physical = frame + address % PAGE_BYTES;
            walk.state = WalkState::Found;
        }
        self.walks.push(walk);
    }

    /// Reads all pushed objects. Returns what that cost.
    pub fn run<S: MemorySource + ?Sized>(
        &mut self,
        source: &mut S,
        levels: PageTableLevels,
    ) -> ReadCost {
        let mut work = ReadCost::default();
        if !self.walks.is_empty() {
            work = self.walk_tables(source, levels);
        }
        if self.requests.is_empty() {
            return work;
        }
        work.batches += 1;
        work.bytes += self.used as u64;
        let arena = &mut self.arena[self.arena_start..self.arena_start + self.arena_bytes];
        source.read_batch(&mut self.requests, arena);
        for request in &self.requests {
            if request.outcome != ReadOutcome::Read {
                fail_owner(&mut self.objects, request);
                work.failed += 1;
            }
        }
        if self.blanks.is_on {
            self.fail_blank_objects(source, &mut work);
        }
        work
    }

    /// Fails the structures and texts that touch a page of zeros.
    #[cold]
    fn fail_blank_objects<S: MemorySource + ?Sized>(
        &mut self,
        source: &mut S,
        work: &mut ReadCost,
    ) {
        let arena = &self.arena[self.arena_start..self.arena_start + self.arena_bytes];
        for request in &self.requests {
            let Some(target) = request.target_range(arena.len()) else { continue };
            let Some(owner) = owner(&mut self.objects, request) else { continue };
            if owner.is_filled && owner.whole && self.blanks.touch(source, request, &arena[target])
            {
                owner.whole = false;
                work.failed += 1;
            }
        }
    }

    /// Translates all walks, one batch a level, and turns the results into requests.
    fn walk_tables<S: MemorySource + ?Sized>(
        &mut self,
        source: &mut S,
        levels: PageTableLevels,
    ) -> ReadCost {
        let mut work = ReadCost::default();
        for level in (1..=levels.top()).rev() {
            self.walk_requests.clear();
            self.walk_owners.clear();
            for (index, walk) in self.walks.iter().enumerate() {
                if walk.state == WalkState::Walking {
                    let table = PhysicalAddress(walk.physical);
                    let entry = levels.entry_address(table, walk.address, level);
                    let target = (self.walk_requests.len() * 8) as u32;
                    self.walk_requests.push(ReadRequest::new(entry, 8, target));
                    self.walk_owners.push(index as u32);
                }
            }
            if self.walk_requests.is_empty() {
                break;
            }
            work.batches += 1;
            work.bytes += self.walk_requests.len() as u64 * 8;
            source.read_batch(&mut self.walk_requests, &mut self.walk_arena);
            for (request, &owner) in self.walk_requests.iter().zip(&self.walk_owners) {
                let walk = &mut self.walks[owner as usize];
                let entry = if request.outcome == ReadOutcome::Read {
                    u64_at(&self.walk_arena, request.target as usize)
                } else {
                    work.failed += 1;
                    0
                };
                match levels.step(entry, walk.address, level) {
                    PageTableEntry::Table(table) => walk.physical = table.0,
                    PageTableEntry::Page(physical) => {
                        walk.physical = physical.0;
                        walk.state = WalkState::Found;
                        let frame = physical.0 & !(PAGE_BYTES - 1);
                        self.tlb.put(walk.root, walk.address / PAGE_BYTES, frame);
                    }
                    PageTableEntry::NotPresent => walk.state = WalkState::Lost,
                }
            }
        }
        for walk in &self.walks {
            if walk.state != WalkState::Found {
                self.objects[walk.object as usize].whole = false;
            } else if walk.length > 0 {
                let physical = PhysicalAddress(walk.physical);
                self.requests.push(ReadRequest::new(physical, walk.length, walk.target));
            }
        }
        work
    }

    /// The bytes of object `index`, or `None` if not all of them could be read.
    #[inline]
    pub fn object(&self, index: usize) -> Option<&[u8]> {
        let object = self.objects.get(index).filter(|object| object.whole)?;
        let start = self.arena_start + object.target as usize;
        self.arena.get(start..start + object.length as usize)
    }

    /// Physical address of object `index`, if its address was translated by page tables.
    pub fn physical(&self, index: usize) -> Option<PhysicalAddress> {
        let walks = self.walks.iter().filter(|walk| walk.object as usize == index);
        let mut found = walks.filter(|walk| walk.state == WalkState::Found);
        found.next().map(|walk| PhysicalAddress(walk.physical))
    }
}

/// Marks the object of a request that has no answer.
#[cold]
fn fail_owner(objects: &mut [BatchObject], request: &ReadRequest) {
    if let Some(owner) = owner(objects, request) {
        owner.whole = false;
    }
}

/// The object of a request. Objects are in the order of their places in the arena, and one with a
/// request has bytes there.
fn owner<'o>(objects: &'o mut [BatchObject], request: &ReadRequest) -> Option<&'o mut BatchObject> {
    let after = objects.partition_point(|object| object.target <= request.target);
    after.checked_sub(1).and_then(|owner| objects.get_mut(owner))
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;

    /// Memory in a vector; a batch counter.
    struct Flat(Vec<u8>, u32);

    impl MemorySource for Flat {
        fn read_batch(&mut self, requests: &mut [ReadRequest], arena: &mut [u8]) {
            self.1 += 1;
            for request in requests {
                let start = request.address.0 as usize;
                let Some(target) = request.target_range(arena.len()) else { continue };
                request.outcome = match self.0.get(start..start + request.length as usize) {
                    Some(bytes) => {
                        arena[target].copy_from_slice(bytes);
                        ReadOutcome::Read
                    }
                    None => ReadOutcome::NotBacked,
                };
            }
        }

        fn regions(&self) -> &[Range<u64>] {
            &[]
        }
    }

    fn space() -> KernelSpace {
        KernelSpace {
            levels: PageTableLevels::default(),
            root: PhysicalAddress(0x1000),
            direct_map: 0xffff_8880_0000_0000..0xffff_8880_0001_0000,
            ..KernelSpace::default()
        }
    }

    fn memory() -> Flat {
        let mut bytes = vec![0_u8; 0x10000];
        let mut put =
            |at: usize, value: u64| bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        // 0xffff_c900_0000_0000: tables at 0x1000, 0x2000, 0x3000, 0x4000; two pages, not adjacent.
        put(0x1000 + 0x192 * 8, 0x2003);
        put(0x2000, 0x3003);
        put(0x3000, 0x4003);
        put(0x4000, 0x8003);
        put(0x4008, 0x6003);
        bytes[0x8ffc..0x9000].copy_from_slice(&[1, 2, 3, 4]);
        bytes[0x6000..0x6004].copy_from_slice(&[5, 6, 7, 8]);
        Flat(bytes, 0)
    }

    #[test]
    fn linear_and_walked_objects_are_read_in_one_round() {
        let mut reader =
            MemoryReader::new(ReaderSizes { objects: 8, arena_bytes: 4096, walks: 32 });
        let mut memory = memory();
        let space = space();
        assert_eq!(reader.push_bytes(&space, KernelVa(0xffff_8880_0000_8ffc), 4), Some(0));
        assert_eq!(reader.push_bytes(&space, KernelVa(0xffff_c900_0000_0ffc), 8), Some(1));
        assert_eq!(reader.push_bytes(&space, KernelVa(0xffff_c900_0000_2000), 8), Some(2));
        assert_eq!(reader.push_bytes(&space, KernelVa(0x1000), 8), Some(3));
        let work = reader.run(&mut memory, space.levels);
        assert_eq!(work.batches, u64::from(memory.1));
        assert_eq!(reader.object(0), Some(&[1, 2, 3, 4][..]));
        assert_eq!(reader.object(1), Some(&[1, 2, 3, 4, 5, 6, 7, 8][..]));
        assert_eq!(reader.object(2), None);
        assert_eq!(reader.object(3), None);
        // One batch for each of four levels and one for the objects, however many there are.
        assert_eq!(memory.1, 5);
    }

    #[test]
    fn whether_a_page_is_present_is_known_without_reading_it() {
        let mut reader =
            MemoryReader::new(ReaderSizes { objects: 8, arena_bytes: 4096, walks: 32 });
        let mut memory = memory();
        // A user address with the same entries in its page tables.
        memory.0.copy_within(0x1000 + 0x192 * 8..0x1000 + 0x193 * 8, 0x1000);
        let (levels, root) = (PageTableLevels::default(), PhysicalAddress(0x1000));
        for address in [0, 0x1fff, 0x2000, 1 << 63] {
            assert!(reader.push_user_page(levels, root, UserVa(address)).is_some());
        }
        assert_eq!(reader.run(&mut memory, levels).batches, 4);
        let present: Vec<bool> = (0..4).map(|page| reader.object(page).is_some()).collect();
        assert_eq!(present, [true, true, false, false]);
    }

    #[test]
    fn requests_without_an_answer_are_counted() {
        let mut reader =
            MemoryReader::new(ReaderSizes { objects: 8, arena_bytes: 4096, walks: 32 });
        let (mut memory, space) = (Flat(vec![0; 0x4000], 0), space());
        for at in [0x2000, 0x8000, 0x3ffe] {
            reader.push_bytes(&space, KernelVa(0xffff_8880_0000_0000 + at), 4);
        }
        // Its tables can be read, and have no entry.
        reader.push_bytes(&space, KernelVa(0xffff_c900_0000_0000), 4);
        assert_eq!(reader.run(&mut memory, space.levels).failed, 2);
        assert!(reader.object(0).is_some() && reader.object(1).is_none());
    }

    #[test]
    fn a_full_batch_refuses_objects_and_runs_again() {
        let mut reader = MemoryReader::new(ReaderSizes { objects: 2, arena_bytes: 64, walks: 8 });
        let space = space();
        let address = KernelVa(0xffff_8880_0000_8000);
        assert_eq!(reader.push_bytes(&space, address, 60), Some(0));
        assert_eq!(reader.push_bytes(&space, address, 8), None);
        reader.clear();
        assert_eq!(reader.push_bytes(&space, address, 8), Some(0));
        assert_eq!(reader.push_bytes(&space, address, 8), Some(1));
        assert_eq!(reader.push_bytes(&space, address, 8), None);
        reader.run(&mut memory(), space.levels);
        assert!(reader.object(1).is_some());
    }
}
