//! A process's memory, and behind what it has not touched the files that it maps: read as it would read it.
//!
//! A page of a file that a process has mapped is not in its page tables before it is touched, and after a fork not in
//! those of the child: the kernel enters it when the fault comes, out of the page cache (mm/filemap.c, `filemap_fault`;
//! mm/memory.c, `vma_needs_copy`). What an ELF file says of itself is there in any case, and must not depend on who has
//! looked at it.
//!
//! Not for memory with pages of its own (`anon_vma`): what is not there of such an area may be on a disk.

use panoptes_decoders::address::{PhysicalAddress, UserVa};
use panoptes_decoders::source::{MemorySource, PAGE_BYTES};

use super::pages::{Cached, Finder, Place};
use crate::address::{Reader, ReaderSizes};
use crate::walk::{Kernel, MmRow, Snapshot};

/// Most pages of one read that are looked for in files.
const PAGES_MAX: usize = 16;

/// One process's memory in one scan.
#[derive(Clone, Copy, Debug)]
pub struct AddressSpace<'a> {
    /// The kernel that runs it.
    pub kernel: &'a Kernel,
    /// The scan that shows its areas and their files.
    pub snapshot: &'a Snapshot,
    /// It.
    pub mm: &'a MmRow,
}

impl AddressSpace<'_> {
    /// Its top page table.
    pub fn root(&self) -> PhysicalAddress {
        self.kernel.space.linear(self.mm.pgd).unwrap_or_default()
    }

    /// The file behind an address and the offset in it, if what is not there of it is as the file has it.
    fn file_at(&self, address: u64) -> Option<(Cached, u64)> {
        let areas = self.snapshot.vmas.range(&self.mm.vmas);
        let behind = areas.partition_point(|row| row.vma.start <= address);
        let row = areas.get(behind.checked_sub(1)?)?;
        if address >= row.vma.end || !row.vma.anon_vma.is_null() || row.vma.file.is_null() {
            return None;
        }
        let file = self.snapshot.files.at(row.file)?;
        let mapping = self.snapshot.inodes.at(file.inode)?.attributes.mapping;
        let first = row.vma.page_offset.checked_mul(PAGE_BYTES)?;
        let offset = first.checked_add(address - row.vma.start)?;
        Some((Cached { mapping, has_holes: false, huge_order: 0 }, offset))
    }
}

/// Finds pages of mapped files, in memory allocated at start.
#[derive(Debug)]
pub struct MappedFiles {
    reader: Reader,
    finder: Box<Finder>,
}

impl MappedFiles {
    /// Allocates all that it takes.
    #[expect(clippy::new_without_default, reason = "it allocates")]
    pub fn new() -> Self {
        let sizes = ReaderSizes { objects: 4, arena_bytes: 4096, walks: 64 };
        Self { reader: Reader::new(sizes), finder: Box::new(Finder::new()) }
    }

    /// Reads so many bytes of a process's memory with `reader`; `None` where not all of them can be had.
    pub fn read<'r, S: MemorySource>(
        &mut self,
        reader: &'r mut Reader,
        source: &mut S,
        space: &AddressSpace<'_>,
        address: u64,
        bytes: u64,
    ) -> Option<&'r [u8]> {
        let levels = space.kernel.space.levels;
        let length = u32::try_from(bytes).ok()?;
        let run = |reader: &mut Reader, source: &mut S| {
            reader.clear();
            let _ = reader.push_user(levels, space.root(), UserVa(address), length);
            reader.run(source, levels);
        };
        run(reader, source);
        if reader.object(0).is_none() && self.bring(reader, source, space, address, bytes) {
            run(reader, source);
        }
        reader.object(0)
    }

    /// Finds the pages of a range that `reader` has not found, and tells it; whether there were any.
    fn bring<S: MemorySource>(
        &mut self,
        reader: &mut Reader,
        source: &mut S,
        space: &AddressSpace<'_>,
        address: u64,
        bytes: u64,
    ) -> bool {
        self.reader.forget_translations();
        let Some(end) = address.checked_add(bytes) else { return false };
        let first = address & !(PAGE_BYTES - 1);
        let mut any = false;
        for page in (first..end).step_by(PAGE_BYTES as usize).take(PAGES_MAX) {
            if reader.knows(space.root(), UserVa(page)) {
                continue;
            }
            let Some((file, offset)) = space.file_at(page) else { return false };
            let Some(place) = self.place(source, space.kernel, &file, offset) else { return false };
            reader.learn(space.root(), UserVa(page), place);
            any = true;
        }
        any
    }

    /// Where in memory a byte of a file is.
    fn place<S: MemorySource>(
        &mut self,
        source: &mut S,
        kernel: &Kernel,
        file: &Cached,
        offset: u64,
    ) -> Option<PhysicalAddress> {
        let Self { reader, finder } = self;
        finder.begin(reader, source, kernel, file).ok()?;
        let page_bytes = kernel.space.levels.page_bytes();
        let mut places = [Place::Missing];
        finder.find(reader, source, kernel, file, offset / page_bytes, &mut places).ok()?;
        match places {
            [Place::At(page)] => Some(PhysicalAddress(page.0.checked_add(offset % page_bytes)?)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use panoptes_decoders::address::KernelVa;
    use panoptes_decoders::kernel::vm_area_struct::Vma;

    use super::super::cached::{Cached as Machine, DIRECT_MAP, EXT4, MAPPING, PAGE};
    use super::*;
    use crate::limits::Limits;

    use crate::walk::{FileRow, InodeRow, VmaRow};

    /// Where the file's second page and those behind it are mapped.
    const START: u64 = 0x5555_0000_0000;
    /// Four page tables one below the other, in memory that is not used for anything else.
    const TABLES: [u64; 4] = [0x4000, 0x5000, 0x6000, 0x7000];
    /// A page of the process's own.
    const OWN: u64 = 0x8000;

    struct World {
        machine: Machine,
        snapshot: Snapshot,
        mm: MmRow,
        reader: Reader,
        files: MappedFiles,
    }

    impl World {
        /// A process that maps `pages` pages of a file, from its second on, of which it has touched none.
        fn new(machine: Machine, pages: u64) -> Self {
            let limits = Limits { processes: 16, ..Limits::default() };
            let mut snapshot = Snapshot::empty(&limits);
            let mut inode = InodeRow::default();
            inode.attributes.mapping = KernelVa(DIRECT_MAP + MAPPING);
            let inode = snapshot.inodes.push(inode).unwrap();
            let file = snapshot.files.push(FileRow { inode, ..FileRow::default() }).unwrap();
            let vma = Vma {
                start: START,
                end: START + pages * PAGE as u64,
                page_offset: 1,
                file: KernelVa(DIRECT_MAP + 0x9000),
                ..Vma::default()
            };
            let vmas = snapshot.vmas.extend(&[VmaRow { vma, file, ..VmaRow::default() }]).unwrap();
            let pgd = KernelVa(DIRECT_MAP + TABLES[0]);
            let sizes = ReaderSizes { objects: 4, arena_bytes: 64 << 10, walks: 64 };
            Self {
                machine,
                snapshot,
                mm: MmRow { pgd, vmas, ..MmRow::default() },
                reader: Reader::new(sizes),
                files: MappedFiles::new(),
            }
        }

        fn read(&mut self, address: u64, bytes: u64) -> Option<Vec<u8>> {
            let kernel = self.machine.kernel.clone();
            let space = AddressSpace { kernel: &kernel, snapshot: &self.snapshot, mm: &self.mm };
            self.reader.forget_translations();
            let read = self.files.read(&mut self.reader, &mut self.machine, &space, address, bytes);
            read.map(<[u8]>::to_vec)
        }

        /// Gives the process a page of its own at an address.
        fn touch(&mut self, address: u64) {
            for (level, table) in TABLES.into_iter().enumerate() {
                let index = address >> (39 - 9 * level) & 511;
                let next = TABLES.get(level + 1).copied().unwrap_or(OWN) | 7;
                let at = (table + index * 8) as usize;
                self.machine.memory[at..at + 8].copy_from_slice(&next.to_le_bytes());
            }
            self.machine.memory[OWN as usize..][..PAGE].fill(b'o');
        }
    }

    fn content(pages: usize) -> Vec<u8> {
        (0..pages * PAGE).map(|at| (at / 7 + (at >> 12) * 31) as u8).collect()
    }

    #[test]
    fn what_was_not_touched_is_as_the_file_has_it() {
        let content = content(6);
        let mut world = World::new(Machine::whole(&content, EXT4), 5);
        assert_eq!(world.read(START, 64).unwrap(), content[PAGE..PAGE + 64]);
        // Over the bounds of pages, and up to the end of the area.
        let last = 5 * PAGE as u64 - 9000;
        assert_eq!(world.read(START + last, 9000).unwrap(), content[6 * PAGE - 9000..]);
        assert_eq!(world.read(START + last, 9001), None);
        assert_eq!(world.read(START - 1, 2), None);
        assert_eq!(world.read(u64::MAX - 1, 8), None);
    }

    #[test]
    fn what_was_touched_is_as_the_process_has_it() {
        let content = content(3);
        let mut world = World::new(Machine::whole(&content, EXT4), 2);
        world.touch(START + PAGE as u64);
        let read = world.read(START + PAGE as u64 - 4, 8).unwrap();
        assert_eq!(read[..4], content[2 * PAGE - 4..2 * PAGE]);
        assert_eq!(read[4..], *b"oooo");
    }

    #[test]
    fn what_the_kernel_has_not_cached_is_not_there() {
        let content = content(4);
        let mut machine = Machine::whole(&content, EXT4);
        machine.remove(2);
        machine.plant();
        let mut world = World::new(machine, 3);
        assert!(world.read(START, PAGE as u64).is_some());
        assert_eq!(world.read(START + PAGE as u64, 1), None);
        assert_eq!(world.read(START, 2 * PAGE as u64), None);
        assert!(world.read(START + 2 * PAGE as u64, 1).is_some());
    }

    #[test]
    fn pages_of_ones_own_are_not_looked_for_in_files() {
        let mut world = World::new(Machine::whole(&content(4), EXT4), 3);
        let mut row = world.snapshot.vmas[0];
        row.vma.anon_vma = KernelVa(DIRECT_MAP + 0x9100);
        world.snapshot.vmas.clear();
        world.snapshot.vmas.push(row);
        assert_eq!(world.read(START, 8), None);
    }
}
