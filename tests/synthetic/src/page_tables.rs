//! Page tables of x86-64 with four levels: the kernel's own, and those of processes.

use std::ops::Range;

use panoptes_decoders::address::{KernelVa, PhysicalAddress};
use panoptes_decoders::source::PAGE_BYTES;

use crate::memory::{DIRECT_MAP, IMAGE_PHYSICAL, Memory};

/// `__VMEMMAP_BASE_L4` (arch/x86/include/asm/pgtable_64_types.h).
pub(crate) const VMEMMAP: u64 = 0xffff_ea00_0000_0000;

/// Bytes of a large page.
const LARGE_BYTES: u64 = 2 << 20;
/// Present, writable, accessed, dirty: a table, or a page of the kernel.
const KERNEL: u64 = 0x63;
const USER: u64 = 0x67;
const LARGE: u64 = 1 << 7;

/// The size of the pages that map all memory.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum DirectMapPages {
    #[default]
    TwoMib,
    FourKib,
}

impl Memory {
    /// Writes the kernel's tables into `root`: the image, the direct map and the array of pages.
    pub(crate) fn map_kernel(
        &mut self,
        root: KernelVa,
        image: &Range<u64>,
        pages: DirectMapPages,
        page_structs: PhysicalAddress,
    ) {
        let image_bytes = image.end - image.start;
        for at in (0..image_bytes).step_by(LARGE_BYTES as usize) {
            self.map(root, image.start + at, IMAGE_PHYSICAL + at, LARGE_BYTES, KERNEL);
        }
        let step = match pages {
            DirectMapPages::TwoMib => LARGE_BYTES,
            DirectMapPages::FourKib => PAGE_BYTES,
        };
        for at in (0..self.size()).step_by(step as usize) {
            self.map(root, DIRECT_MAP + at, at, step, KERNEL);
        }
        for at in (0..self.size() / 64).step_by(LARGE_BYTES as usize) {
            self.map(root, VMEMMAP + at, page_structs.0 + at, LARGE_BYTES, KERNEL);
        }
    }

    /// Maps a page of 4 KiB or 2 MiB, and adds the tables that it needs.
    fn map(&mut self, root: KernelVa, va: u64, physical: u64, bytes: u64, flags: u64) {
        let last = if bytes == LARGE_BYTES { 2 } else { 1 };
        let mut table = root;
        for level in (last + 1..=4).rev() {
            let entry = entry(table, va, level);
            let old = self.word(entry);
            table = if old & 1 == 0 {
                let next = self.allocate(PAGE_BYTES as u32);
                let next_physical = self.physical(next).0;
                self.put_word(entry, next_physical | flags);
                next
            } else {
                KernelVa(DIRECT_MAP + (old & 0x000f_ffff_ffff_f000))
            };
        }
        let large = if last == 2 { LARGE } else { 0 };
        self.put_word(entry(table, va, last), physical | flags | large);
    }

    /// Maps a user page of 4 KiB under a process's top table and returns where the kernel reaches
    /// its bytes.
    pub(crate) fn map_user(&mut self, root: KernelVa, va: u64) -> KernelVa {
        let page = self.allocate(PAGE_BYTES as u32);
        let physical = self.physical(page).0;
        self.map(root, va, physical, PAGE_BYTES, USER);
        page
    }

    /// Where the kernel reaches the bytes of a page that a process's tables map; `None` if they do
    /// not map it.
    pub(crate) fn user_page(&self, root: KernelVa, va: u64) -> Option<KernelVa> {
        (0..4).rev().try_fold(root, |table, level| {
            let entry = self.word(table.plus((va >> (12 + 9 * level) & 511) * 8));
            (entry & 1 != 0).then_some(KernelVa(DIRECT_MAP + (entry & 0x000f_ffff_ffff_f000)))
        })
    }

    /// The physical addresses of the pages that a process's tables map.
    pub(crate) fn user_pages(&self, root: KernelVa) -> Vec<u64> {
        let mut tables = vec![root];
        let mut pages = Vec::new();
        for level in (1..=4).rev() {
            let entries = if level == 4 { 256 } else { 512 };
            let all = tables.iter().flat_map(|table| (0..entries).map(|at| table.plus(at * 8)));
            let present = all.map(|entry| self.word(entry)).filter(|entry| entry & 1 != 0);
            pages = present.map(|entry| entry & 0x000f_ffff_ffff_f000).collect();
            tables = pages.iter().map(|page| KernelVa(DIRECT_MAP + page)).collect();
        }
        pages
    }

    /// Maps pages at a kernel address that is neither in the image nor in the direct map.
    pub(crate) fn map_area(&mut self, root: KernelVa, va: u64, pages: KernelVa, bytes: u64) {
        let physical = self.physical(pages);
        self.set_area(va, bytes, physical);
        for at in (0..bytes).step_by(PAGE_BYTES as usize) {
            self.map(root, va + at, physical.0 + at, PAGE_BYTES, KERNEL);
        }
    }

    /// Takes back what [`Self::map_area`] did. The tables stay, as in the kernel.
    pub(crate) fn unmap_area(&mut self, root: KernelVa, va: u64, bytes: u64) {
        for page in (va..va + bytes).step_by(PAGE_BYTES as usize) {
            let table = (2..=4).rev().try_fold(root, |table, level| {
                let entry = self.word(entry(table, page, level));
                (entry & 1 != 0).then_some(KernelVa(DIRECT_MAP + (entry & 0x000f_ffff_ffff_f000)))
            });
            if let Some(table) = table {
                self.put_word(entry(table, page, 1), 0);
            }
        }
        self.set_area(va, 0, PhysicalAddress(0));
    }

    /// A new top table for a process, with the kernel's half of `kernel_root`.
    pub(crate) fn new_user_root(&mut self, kernel_root: KernelVa) -> KernelVa {
        let root = self.allocate(PAGE_BYTES as u32);
        let half = self.read(kernel_root.plus(PAGE_BYTES / 2), PAGE_BYTES as usize / 2).to_vec();
        self.write(root.plus(PAGE_BYTES / 2), &half);
        root
    }

    /// Frees a process's page tables and the pages that they map (`exit_mmap`, mm/mmap.c).
    pub(crate) fn free_user_pages(&mut self, root: KernelVa) {
        self.free_table(root, 4);
    }

    fn free_table(&mut self, table: KernelVa, level: u32) {
        let entries = if level == 4 { 256 } else { 512 };
        for index in 0..entries {
            let entry = self.word(table.plus(index * 8));
            if entry & 1 == 0 {
                continue;
            }
            let below = KernelVa(DIRECT_MAP + (entry & 0x000f_ffff_ffff_f000));
            if level > 1 {
                self.free_table(below, level - 1);
            } else {
                self.release(below, PAGE_BYTES as u32);
            }
        }
        self.release(table, PAGE_BYTES as u32);
    }
}

fn entry(table: KernelVa, va: u64, level: u32) -> KernelVa {
    table.plus(((va >> (12 + 9 * (level - 1))) & 511) * 8)
}
