//! Contents of files: pages in the page cache (mm/filemap.c).

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::source::PAGE_BYTES;

use crate::idr::Tree;
use crate::machine::Machine;
use crate::page_tables::VMEMMAP;

/// `PG_uptodate` where the profile has no numbers (include/linux/page-flags.h).
const UPTODATE: u64 = 1 << 2;
/// `PAGE_MAPPING_ANON` (include/linux/page-flags.h): `mapping` leads to a `struct anon_vma`.
const ANONYMOUS: u64 = 1;

impl Machine {
    /// Gives a file this content, all of which is then in memory; makes the file if there is none.
    /// As after a write, its size and times change.
    pub fn write_file(&mut self, path: &str, content: &[u8]) {
        let node = self.file_at(path);
        let layouts = self.layouts();
        let inode = self.tree.nodes[node].inode;
        let mapping = KernelVa(self.memory.get(inode, layouts.inode.i_mapping));
        let old = self.tree.nodes[node].pages.clone();
        let count = content.len().div_ceil(PAGE_BYTES as usize);
        let head = mapping.plus(layouts.address_space.xa_head.offset.into());
        // Nobody reads the field of a node that has the address of this tree.
        let tree = Tree { array: head, head };
        for (index, bytes) in content.chunks(PAGE_BYTES as usize).enumerate() {
            if let Some(&page) = old.get(index) {
                let mut whole = [0; PAGE_BYTES as usize];
                whole[..bytes.len()].copy_from_slice(bytes);
                self.memory.write(page, &whole);
                continue;
            }
            let page = self.memory.allocate(PAGE_BYTES as u32);
            self.memory.write(page, bytes);
            let descriptor = self.fill_page(page, mapping, index as u64);
            self.memory.tree_store(&layouts, tree, index as u64, descriptor.0);
            self.tree.nodes[node].pages.push(page);
        }
        for (index, &page) in old.iter().enumerate().skip(count) {
            self.memory.tree_erase(&layouts, tree, index as u64);
            self.memory.release(page, PAGE_BYTES as u32);
        }
        self.tree.nodes[node].pages.truncate(count);
        self.memory.put(mapping, layouts.address_space.nrpages, count as u64);
        self.set_size(path, content.len() as u64);
    }

    /// Sets the size of a file (`truncate`) and its times, and makes it if there is none. What was
    /// not written is not in memory.
    pub fn set_size(&mut self, path: &str, size: u64) {
        let node = self.file_at(path);
        let layout = self.layouts().inode;
        let inode = self.tree.nodes[node].inode;
        self.tree.nodes[node].is_written = true;
        self.memory.put(inode, layout.i_size, size);
        let now = self.calendar_ns();
        for (seconds, nanoseconds) in
            [(layout.mtime_sec, layout.mtime_nsec), (layout.ctime_sec, layout.ctime_nsec)]
        {
            self.memory.put(inode, seconds, now / 1_000_000_000);
            self.memory.put(inode, nanoseconds, now % 1_000_000_000);
        }
    }

    /// Fills the `struct page` of a page of a file; returns its address in the array of pages.
    fn fill_page(&mut self, page: KernelVa, mapping: KernelVa, index: u64) -> KernelVa {
        let layouts = self.layouts();
        let layout = &layouts.page;
        let number = self.memory.physical(page).0 / PAGE_BYTES;
        let distance = number * u64::from(layout.size);
        let at = self.page_structs.plus(distance);
        let uptodate = layouts.page_flags.and_then(|flags| flags.uptodate_bit());
        self.memory.put(at, layout.flags, uptodate.unwrap_or(UPTODATE));
        self.memory.put(at, layout.compound_head, 0);
        self.memory.point(at, layout.mapping, mapping);
        self.memory.put(at, layout.index, index);
        KernelVa(VMEMMAP + distance)
    }

    /// Fills the `struct page` of a page that belongs to no file.
    pub(crate) fn fill_anonymous_page(&mut self, page: KernelVa, anon_vma: KernelVa, index: u64) {
        self.fill_page(page, anon_vma.plus(ANONYMOUS), index);
    }

    /// Clears the `mapping` of a page that is freed (`free_pages_prepare`, mm/page_alloc.c).
    pub(crate) fn clear_page(&mut self, page: KernelVa) {
        let layout = self.layouts().page;
        let number = self.memory.physical(page).0 / PAGE_BYTES;
        let at = self.page_structs.plus(number * u64::from(layout.size));
        self.memory.put(at, layout.mapping, 0);
    }
}
