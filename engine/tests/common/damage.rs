//! A recorded machine's memory, damaged on purpose and healed again.

use panoptes_decoders::address::{KernelVa, PhysicalAddress};
use panoptes_decoders::layout::PackedField;
use panoptes_decoders::source::{MemorySource, PAGE_BYTES};
use panoptes_engine::limits::Limits;
use panoptes_engine::walk::{Kernel, Scope, Walker};
use panoptes_profiles::memory::KernelMemory;
use panoptes_rig::Random;
use panoptes_sources::{Detail, Replay, SourceMeter};

use super::{KEY, Machine};

const PAGE: usize = PAGE_BYTES as usize;

/// The bytes before a change.
struct Undo {
    at: PhysicalAddress,
    bytes: Vec<u8>,
}

/// A memory whose changes can be undone.
pub(crate) struct Damaged<'m> {
    pub(crate) memory: Replay,
    kernel: &'m Kernel,
    undo: Vec<Undo>,
}

impl<'m> Damaged<'m> {
    pub(crate) fn new(machine: &'m Machine) -> Self {
        Self { memory: machine.memory.clone(), kernel: &machine.kernel, undo: Vec::new() }
    }

    /// The machine's memory with `pages` more pages of zeros where the image has none, for handmade
    /// structures. Also returns their address.
    pub(crate) fn with_room(machine: &'m Machine, pages: u64) -> (Self, KernelVa) {
        let regions = machine.memory.regions().to_vec();
        let mut source = machine.memory.clone();
        let mut frames: Vec<u64> =
            source.page_addresses().map(|page| page.0 / PAGE_BYTES).collect();
        let end = regions.last().expect("there is memory").end / PAGE_BYTES;
        let gap = |pair: &[u64]| pair[1] - pair[0] > pages;
        let at = frames.windows(2).position(gap).map_or(frames.len(), |at| at + 1);
        let first = frames[at - 1] + 1;
        assert!(first + pages <= end, "no room for {pages} pages");
        frames.splice(at..at, first..first + pages);
        let mut bytes = Vec::with_capacity(frames.len() * PAGE);
        for (index, (_, page)) in source.pages_mut().enumerate() {
            if index == at {
                bytes.resize(bytes.len() + pages as usize * PAGE, 0);
            }
            bytes.extend_from_slice(page);
        }
        let memory = Replay::from_pages(regions, frames, bytes).expect("the frames are in order");
        let room = KernelVa(machine.kernel.space.direct_map.start + first * PAGE_BYTES);
        (Self { memory, kernel: &machine.kernel, undo: Vec::new() }, room)
    }

    /// Writes words from an address in the direct map on; [`Self::heal`] does not undo this.
    pub(crate) fn fill(&mut self, at: KernelVa, words: impl Iterator<Item = u64>) {
        let mut physical = self.physical(at);
        for word in words {
            assert!(self.memory.write(physical, &word.to_le_bytes()), "{physical} is in the image");
            physical = physical.plus(8);
        }
    }

    /// Changes bytes; panics if they are not in the image.
    pub(crate) fn write(&mut self, at: PhysicalAddress, bytes: &[u8]) {
        let mut old = vec![0; bytes.len()];
        assert!(self.memory.read_exact(at, &mut old), "{at} is in the image");
        assert!(self.memory.write(at, bytes), "{at} is in the image");
        self.undo.push(Undo { at, bytes: old });
    }

    /// Undoes all changes.
    pub(crate) fn heal(&mut self) {
        for Undo { at, bytes } in self.undo.drain(..).rev() {
            assert!(self.memory.write(at, &bytes), "it was there");
        }
    }

    fn physical(&mut self, at: KernelVa) -> PhysicalAddress {
        let space = &self.kernel.space;
        if let Some(physical) = space.linear(at) {
            // The image lacks the tables of the direct map: a scan does not walk them.
            return physical;
        }
        let mut memory = KernelMemory::new(&mut self.memory, space.root, space.levels);
        memory.translate(at).expect("it is mapped").physical
    }

    /// Changes bytes at a kernel address; they must not cross a page.
    pub(crate) fn put(&mut self, at: KernelVa, bytes: &[u8]) {
        let physical = self.physical(at);
        self.write(physical, bytes);
    }

    /// Changes a 64-bit number at a kernel address.
    pub(crate) fn put_u64(&mut self, at: KernelVa, value: u64) {
        self.put(at, &value.to_le_bytes());
    }

    /// Changes a field of the object at a kernel address: at most its first eight bytes.
    pub(crate) fn set(&mut self, object: KernelVa, field: PackedField, value: u64) {
        let bytes = value.to_le_bytes();
        self.put(
            object.plus(u64::from(field.offset)),
            &bytes[..bytes.len().min(field.size as usize)],
        );
    }

    /// The 64-bit number at a kernel address.
    pub(crate) fn word(&mut self, at: KernelVa) -> u64 {
        let physical = self.physical(at);
        let mut bytes = [0; 8];
        assert!(self.memory.read_exact(physical, &mut bytes), "{at} is in the image");
        u64::from_le_bytes(bytes)
    }

    /// The first eight bytes of a field.
    pub(crate) fn get(&mut self, object: KernelVa, field: PackedField) -> u64 {
        self.word(object.plus(u64::from(field.offset)))
    }

    /// Makes one change at random in one of `pages`.
    pub(crate) fn strike(&mut self, pages: &[PhysicalAddress], random: &mut Random) {
        let page = pages[random.below(pages.len())];
        let word = page.plus((random.below(PAGE / 8) * 8) as u64);
        match random.below(16) {
            0 => self.write(page, &[0; PAGE]),
            1 => {
                // Random bytes in a part of the page, or in all of it.
                let start = random.below(PAGE);
                let length = 1 + random.below(PAGE - start);
                let bytes: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
                self.write(page.plus(start as u64), &bytes);
            }
            2 => {
                // The content of another page: well formed, but of the wrong kind.
                let mut other = [0; PAGE];
                assert!(self.memory.read_exact(pages[random.below(pages.len())], &mut other));
                self.write(page, &other);
            }
            3..6 => self.change_word(word, |old| old ^ 1 << random.below(64)),
            _ => {
                // Most words of a page have no meaning: find one that may be a pointer.
                let word = self.pointer_near(word).unwrap_or(word);
                let other =
                    pages[random.below(pages.len())].plus((random.below(PAGE / 8) * 8) as u64);
                let other = self.pointer_near(other).unwrap_or(other);
                let mut bytes = [0; 8];
                assert!(self.memory.read_exact(other, &mut bytes));
                let direct_map = self.kernel.space.direct_map.start;
                let kind = random.below(8);
                self.change_word(word, |old| match kind {
                    0 => 0,
                    1 => u64::MAX,
                    2 => random.next(),
                    3 => random.next() & 0xffff,
                    4 => old.wrapping_add((random.next() & 0xffff).wrapping_sub(0x8000)),
                    5 => direct_map + word.0, // itself
                    6 => direct_map + other.0,
                    _ => u64::from_le_bytes(bytes), // what another points to
                });
            }
        }
    }

    fn change_word(&mut self, at: PhysicalAddress, change: impl FnOnce(u64) -> u64) {
        let mut bytes = [0; 8];
        assert!(self.memory.read_exact(at, &mut bytes), "{at} is in the image");
        self.write(at, &change(u64::from_le_bytes(bytes)).to_le_bytes());
    }

    /// The first word from `at` on, in the same page, that may be a pointer.
    fn pointer_near(&mut self, at: PhysicalAddress) -> Option<PhysicalAddress> {
        let mut at = at;
        let mut bytes = [0; 8];
        loop {
            assert!(self.memory.read_exact(at, &mut bytes), "{at} is in the image");
            let word = KernelVa(u64::from_le_bytes(bytes));
            if word.is_plausible() {
                return Some(at);
            }
            at = at.plus(8);
            if at.0.is_multiple_of(PAGE_BYTES) {
                return None;
            }
        }
    }
}

/// The pages that a scan of the machine reads; damage elsewhere has no effect.
pub(crate) fn touched_pages(machine: &Machine) -> Vec<PhysicalAddress> {
    let mut meter = SourceMeter::new(machine.memory.clone(), Detail::Lines).expect("it fits");
    let mut walker = Walker::new(&Limits::default(), KEY);
    walker.scan(&mut meter, &machine.kernel, Scope::ALL).expect("processes are found");
    meter.pages().collect()
}
