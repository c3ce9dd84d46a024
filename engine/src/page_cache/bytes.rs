//! Reads a few bytes at any offset of a file, out of the pages that the kernel has cached.
//!
//! ELF files are read from the page cache, not from the processes that map them. A page is in a
//! process's page tables only once it was touched, after a fork not even then (mm/memory.c,
//! `vma_needs_copy`). In a private mapping the process may have overwritten it. What holds for all
//! processes that run a file must come from the file itself.
//!
//! Not for files without such pages: files on memory that is mapped directly (DAX), and files in
//! huge pages of hugetlbfs.

use arrayvec::ArrayVec;
use panoptes_decoders::address::PhysicalAddress;
use panoptes_decoders::kernel::super_block::magic;
use panoptes_tables::room;

use super::memory::MachineMemory;
use super::pages::{FileAddressSpace, FilePageLocation, Finder};
use crate::address::{MemoryReader, ReaderSizes};
use crate::walk::{FileRow, Index, Snapshot};

/// Maximum number of bytes of one read.
pub(super) const READ_BYTES_MAX: u64 = 4096;
/// Maximum number of a file's pages that are read. Names lead to few pages of a symbol table and
/// its strings.
const PAGES_MAX: usize = 256;

/// Something is not in memory, but may be later.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MissingPage;

/// Reads files, one after the other, in memory allocated at start.
#[derive(Debug)]
pub struct FileReader {
    /// For the kernel's page descriptors.
    reader: MemoryReader,
    /// For the pages' content.
    bytes: MemoryReader,
    finder: Box<Finder>,
    file: FileAddressSpace,
    /// The places of the file's pages, by index, ascending.
    pages: Vec<(u64, PhysicalAddress)>,
    reads: u32,
}

impl FileReader {
    #[expect(clippy::new_without_default, reason = "it allocates")]
    pub fn new() -> Self {
        let sizes = |arena_bytes| ReaderSizes { objects: 4, arena_bytes, walks: 64 };
        Self {
            reader: MemoryReader::new(sizes(4096)),
            bytes: MemoryReader::new(sizes(READ_BYTES_MAX as usize + 64)),
            finder: room::boxed(Finder::new()),
            file: FileAddressSpace::default(),
            pages: room::list(PAGES_MAX),
            reads: 0,
        }
    }

    /// Starts reading a file of the scan, by its index. Returns `false` if its pages cannot be
    /// found.
    pub fn begin(
        &mut self,
        memory: &mut MachineMemory<'_>,
        snapshot: &Snapshot,
        file: Option<Index<FileRow>>,
    ) -> bool {
        self.pages.clear();
        self.reader.forget_translations();
        let inode = snapshot.files.at(file).and_then(|file| snapshot.inodes.at(file.inode));
        let Some(inode) = inode else { return false };
        let kind = snapshot.super_blocks.at(inode.super_block).map(|row| row.filesystem.magic);
        if kind == Some(magic::HUGETLBFS) {
            return false;
        }
        let mapping = inode.attributes.mapping;
        self.file = FileAddressSpace { mapping, has_holes: false, huge_order: 0 };
        self.reads += 1;
        self.finder.begin(&mut memory.with(&mut self.reader), &self.file).is_ok()
    }

    /// Reads `length` bytes at an offset; `None` if not all of them are in memory.
    pub fn read(
        &mut self,
        memory: &mut MachineMemory<'_>,
        offset: u64,
        length: u64,
    ) -> Option<&[u8]> {
        let end = offset.checked_add(length).filter(|_| length <= READ_BYTES_MAX)?;
        let page_bytes = memory.kernel.space.levels.page_bytes();
        let mut pieces = ArrayVec::<(PhysicalAddress, u32), 2>::new();
        let mut at = offset;
        while at < end {
            let page = self.page(memory, at / page_bytes)?;
            let next = (at / page_bytes + 1).checked_mul(page_bytes)?.min(end);
            pieces
                .try_push((PhysicalAddress(page.0 + at % page_bytes), (next - at) as u32))
                .ok()?;
            at = next;
        }
        self.reads += 1;
        self.bytes.clear();
        self.bytes.push_pieces(&pieces)?;
        self.bytes.run(&mut memory.source, memory.kernel.space.levels);
        self.bytes.object(0)
    }

    /// Whether all pages that were read are still the file's: the kernel may have reused a page
    /// before it was read.
    pub fn holds(&mut self, memory: &mut MachineMemory<'_>) -> bool {
        let Self { reader, finder, file, pages, .. } = self;
        self.reads += 1 + pages.len() as u32;
        reader.forget_translations();
        let memory = &mut memory.with(reader);
        finder.begin(memory, file).is_ok()
            && pages.iter().all(|&(index, page)| {
                let mut places = [FilePageLocation::Missing];
                let found = finder.find(memory, index, &mut places);
                found.is_ok() && places == [FilePageLocation::At(page)]
            })
    }

    /// Approximate number of memory reads since the last call.
    pub fn take_reads(&mut self) -> u32 {
        core::mem::take(&mut self.reads)
    }

    /// The physical address of the page at an index.
    fn page(&mut self, memory: &mut MachineMemory<'_>, index: u64) -> Option<PhysicalAddress> {
        let Self { reader, finder, pages, .. } = self;
        let place = match pages.binary_search_by_key(&index, |&(index, _)| index) {
            Ok(known) => return pages.get(known).map(|&(_, page)| page),
            Err(place) => place,
        };
        if pages.len() == PAGES_MAX {
            return None;
        }
        self.reads += 1;
        let mut places = [FilePageLocation::Missing];
        finder.find(&mut memory.with(reader), index, &mut places).ok()?;
        let [FilePageLocation::At(page)] = places else { return None };
        pages.insert(place, (index, page));
        Some(page)
    }
}

/// An open file.
#[expect(missing_debug_implementations, reason = "a source need not have one")]
pub struct FileBytes<'a, 'm> {
    files: &'a mut FileReader,
    memory: &'a mut MachineMemory<'m>,
}

impl<'a, 'm> FileBytes<'a, 'm> {
    /// Reads a file of the scan, by its index, with `read`.
    ///
    /// # Errors
    ///
    /// If a part that `read` needs is not in memory, or a page was reused meanwhile.
    pub fn read_with<T>(
        files: &'a mut FileReader,
        memory: &'a mut MachineMemory<'m>,
        (snapshot, file): (&Snapshot, Option<Index<FileRow>>),
        read: impl FnOnce(&mut Self) -> Result<T, MissingPage>,
    ) -> Result<T, MissingPage> {
        if !files.begin(memory, snapshot, file) {
            return Err(MissingPage);
        }
        let mut open = Self { files, memory };
        let found = read(&mut open)?;
        if open.files.holds(open.memory) { Ok(found) } else { Err(MissingPage) }
    }

    /// Reads `length` bytes at an offset.
    ///
    /// # Errors
    ///
    /// If not all of them are in memory.
    pub fn read(&mut self, offset: u64, length: u64) -> Result<&[u8], MissingPage> {
        self.files.read(self.memory, offset, length).ok_or(MissingPage)
    }
}

#[cfg(test)]
mod tests {
    use panoptes_decoders::address::KernelVa;

    use super::super::cached::{Cached as Machine, DIRECT_MAP, EXT4, HUGETLBFS, MAPPING, PAGE};
    use super::*;
    use crate::limits::Limits;
    use crate::walk::{FileRow, InodeRow, SuperBlockRow};

    struct World {
        machine: Machine,
        snapshot: Snapshot,
        files: FileReader,
    }

    impl World {
        fn new(machine: Machine, magic: u64) -> Self {
            let limits = Limits { processes: 16, ..Limits::default() };
            let mut snapshot = Snapshot::empty(&limits);
            let mut kind = SuperBlockRow { was_read: true, ..SuperBlockRow::default() };
            kind.filesystem.magic = magic;
            let super_block = snapshot.super_blocks.push(kind);
            let mut inode = InodeRow { super_block, ..InodeRow::default() };
            inode.attributes.mapping = KernelVa(DIRECT_MAP + MAPPING);
            let inode = snapshot.inodes.push(inode);
            snapshot.files.push(FileRow { inode, ..FileRow::default() }).unwrap();
            Self { machine, snapshot, files: FileReader::new() }
        }

        fn begin(&mut self) -> bool {
            let kernel = self.machine.kernel.clone();
            let memory = &mut MachineMemory { source: &mut self.machine, kernel: &kernel };
            self.files.begin(memory, &self.snapshot, Index::new(0))
        }

        fn read(&mut self, offset: u64, length: u64) -> Option<Vec<u8>> {
            let kernel = self.machine.kernel.clone();
            let memory = &mut MachineMemory { source: &mut self.machine, kernel: &kernel };
            let read = self.files.read(memory, offset, length);
            read.map(<[u8]>::to_vec)
        }

        fn holds(&mut self) -> bool {
            let kernel = self.machine.kernel.clone();
            self.files.holds(&mut MachineMemory { source: &mut self.machine, kernel: &kernel })
        }
    }

    fn content(pages: usize) -> Vec<u8> {
        (0..pages * PAGE).map(|at| (at / 7 + (at >> 12) * 31) as u8).collect()
    }

    #[test]
    fn bytes_are_those_of_the_file() {
        let content = content(80);
        let mut world = World::new(Machine::whole(&content, EXT4), EXT4);
        assert!(world.begin());
        for (offset, length) in [(0, 64), (4090, 13), (70 * PAGE - 1, 2), (79 * PAGE, PAGE)] {
            let read = world.read(offset as u64, length as u64);
            assert_eq!(read.unwrap(), content[offset..offset + length], "{offset}");
        }
        assert_eq!(world.read(80 * PAGE as u64 - 1, 2), None, "beyond its end");
        assert_eq!(world.read(0, READ_BYTES_MAX + 1), None, "too much at once");
        assert_eq!(world.read(u64::MAX - 1, 8), None);
        assert!(world.holds());
    }

    #[test]
    fn pages_that_are_not_cached_cannot_be_read() {
        let mut machine = Machine::whole(&content(4), EXT4);
        machine.remove(2);
        machine.plant();
        let mut world = World::new(machine, EXT4);
        assert!(world.begin());
        assert!(world.read(PAGE as u64, 8).is_some());
        assert_eq!(world.read(2 * PAGE as u64, 1), None);
        assert_eq!(world.read(2 * PAGE as u64 - 4, 8), None);
        assert!(world.read(3 * PAGE as u64, 8).is_some());
    }

    #[test]
    fn a_reused_page_is_noticed() {
        let mut world = World::new(Machine::whole(&content(4), EXT4), EXT4);
        assert!(world.begin() && world.read(0, 8).is_some() && world.read(5000, 8).is_some());
        assert!(world.holds());
        world.machine.remove(1);
        world.machine.plant();
        assert!(!world.holds());
    }

    #[test]
    fn files_in_huge_pages_are_not_read() {
        assert!(!World::new(Machine::whole(&content(4), HUGETLBFS), HUGETLBFS).begin());
    }
}
