//! A small software TLB: the pages that were translated in this scan.

use panoptes_tables::room;

#[derive(Clone, Copy, Debug, Default)]
struct TlbEntry {
    root: u64,
    page: u64,
    frame: u64,
    generation: u32,
}

/// A direct-mapped cache, cleared at every scan: the guest changes its tables meanwhile.
#[derive(Debug, Default)]
pub(super) struct Tlb {
    entries: Box<[TlbEntry]>,
    generation: u32,
}

impl Tlb {
    pub(super) fn new(entries: usize) -> Self {
        Self {
            entries: room::copies(TlbEntry::default(), entries.next_power_of_two()),
            generation: 1,
        }
    }

    pub(super) fn clear(&mut self) {
        self.generation = self.generation.wrapping_add(1);
        if self.generation == 0 {
            self.entries.fill(TlbEntry::default());
            self.generation = 1;
        }
    }

    fn index(&self, root: u64, page: u64) -> usize {
        let mixed = (page ^ root.rotate_left(17)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 32) as usize & (self.entries.len() - 1)
    }

    /// The physical address of the page with number `page` under the tables at `root`.
    pub(super) fn get(&self, root: u64, page: u64) -> Option<u64> {
        let entry = &self.entries[self.index(root, page)];
        (entry.generation == self.generation && entry.root == root && entry.page == page)
            .then_some(entry.frame)
    }

    pub(super) fn put(&mut self, root: u64, page: u64, frame: u64) {
        let index = self.index(root, page);
        self.entries[index] = TlbEntry { root, page, frame, generation: self.generation };
    }
}
