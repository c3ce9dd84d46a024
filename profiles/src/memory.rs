//! Reads a kernel's memory by virtual addresses, for cold paths: every read walks the page tables.
//!
//! Not for scanning: the engine translates in batches. Walks are bounded by the number of levels,
//! and rely on the page tables only: the linear ranges that later simplify translation are derived
//! from here.

use std::ops::Range;

use panoptes_decoders::address::{KernelVa, PhysicalAddress};
use panoptes_decoders::paging::{PageTableEntry, PageTableLevels};
use panoptes_decoders::source::{MemorySource, PAGE_BYTES};

/// `__START_KERNEL_map` (arch/x86/include/asm/page_64_types.h): the lowest address of the image.
pub(crate) const START_KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;

/// Why an address could not be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum MemoryFault {
    /// The address is invalid with this number of levels.
    #[error("{address} is no address")]
    NotCanonical { address: KernelVa },
    #[error("{address} is not mapped (level {level} of the page tables)")]
    NotMapped {
        address: KernelVa,
        /// Level of the empty entry; 1 is the lowest.
        level: u32,
    },
    #[error("{address}: physical {physical} could not be read")]
    NotRead {
        address: KernelVa,
        /// Physical address of the memory or of a page table on the way to it.
        physical: PhysicalAddress,
    },
    /// The memory lacks a page table, such as a dump with a page of zeros in its place.
    #[error("{address}: the page table at {physical} holds only zeros")]
    LostTable {
        address: KernelVa,
        /// Physical address of the empty entry.
        physical: PhysicalAddress,
    },
}

impl MemoryFault {
    /// Whether the memory lacks what the page tables lead to; otherwise the address is wrong.
    pub const fn is_missing(self) -> bool {
        matches!(self, Self::NotRead { .. } | Self::LostTable { .. })
    }
}

/// Addresses whose distance from their physical addresses is known.
#[derive(Clone, Debug)]
struct Linear {
    range: Range<u64>,
    physical: PhysicalAddress,
}

/// The result of translating an address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Translation {
    /// The physical address.
    pub physical: PhysicalAddress,
    /// First address of its page, of whatever size.
    pub page: KernelVa,
    /// Size of the page in bytes.
    pub page_bytes: u64,
}

/// The memory of a source, addressed by a kernel's page tables.
#[allow(missing_debug_implementations, reason = "a source need not have it")]
pub struct KernelMemory<'s> {
    source: &'s mut dyn MemorySource,
    root: PhysicalAddress,
    levels: PageTableLevels,
    /// The last translated page: consecutive reads are usually close together.
    last: Option<(KernelVa, u64, PhysicalAddress)>,
    /// The image, then the direct map. They replace page tables that the memory lacks.
    linear: Vec<Linear>,
}

impl<'s> KernelMemory<'s> {
    /// The memory that the page tables at `root` map.
    pub const fn new(
        source: &'s mut dyn MemorySource,
        root: PhysicalAddress,
        levels: PageTableLevels,
    ) -> Self {
        Self { source, root, levels, last: None, linear: Vec::new() }
    }

    /// Adds addresses that translate by their distance where the memory lacks their page tables.
    pub(crate) fn assume(&mut self, range: Range<u64>, physical: PhysicalAddress) {
        self.linear.push(Linear { range, physical });
    }

    /// The source of the memory.
    pub const fn source(&mut self) -> &mut dyn MemorySource {
        self.source
    }

    pub const fn levels(&self) -> PageTableLevels {
        self.levels
    }

    /// Translates an address by walking the page tables.
    pub fn translate(&mut self, address: KernelVa) -> Result<Translation, MemoryFault> {
        if !self.levels.is_canonical(address.0) {
            return Err(MemoryFault::NotCanonical { address });
        }
        if let Some((page, page_bytes, physical)) = self.last
            && let Some(offset) = address.0.checked_sub(page.0)
            && offset < page_bytes
        {
            return Ok(Translation { physical: physical.plus(offset), page, page_bytes });
        }
        let mut table = self.root;
        for level in (1..=self.levels.top()).rev() {
            let at = self.levels.entry_address(table, address.0, level);
            let mut entry = [0; 8];
            if !self.source.read_exact(at, &mut entry) {
                let fault = MemoryFault::NotRead { address, physical: at };
                // A table that no memory can have is no lost one: the tables are others.
                let is_memory = self.source.regions().iter().any(|part| part.contains(&at.0));
                return if is_memory { self.by_distance(address, fault) } else { Err(fault) };
            }
            match self.levels.step(u64::from_le_bytes(entry), address.0, level) {
                PageTableEntry::Table(next) => table = next,
                PageTableEntry::NotPresent if self.is_lost(at) => {
                    return self
                        .by_distance(address, MemoryFault::LostTable { address, physical: at });
                }
                PageTableEntry::NotPresent => {
                    return Err(MemoryFault::NotMapped { address, level });
                }
                PageTableEntry::Page(physical) => {
                    let page_bytes = self.levels.bytes(level);
                    let offset = address.0 & (page_bytes - 1);
                    let page = address.minus(offset);
                    self.last = Some((page, page_bytes, physical.minus(offset)));
                    return Ok(Translation { physical, page, page_bytes });
                }
            }
        }
        // The lowest level has only pages and holes.
        Err(MemoryFault::NotMapped { address, level: 1 })
    }

    /// Translates an address whose page tables the memory lacks.
    fn by_distance(
        &self,
        address: KernelVa,
        fault: MemoryFault,
    ) -> Result<Translation, MemoryFault> {
        let linear = self.linear.iter().find(|linear| linear.range.contains(&address.0));
        let linear = linear.ok_or(fault)?;
        let physical = linear.physical.plus(address.0 - linear.range.start);
        let page = address.minus(address.0 % PAGE_BYTES);
        Ok(Translation { physical, page, page_bytes: PAGE_BYTES })
    }

    /// Whether the table with an entry has nothing but zeros: the walk led to it, so it had more.
    fn is_lost(&mut self, entry: PhysicalAddress) -> bool {
        let bytes = self.levels.page_bytes();
        let mut table = vec![0; bytes as usize];
        let start = PhysicalAddress(entry.0 - entry.0 % bytes);
        self.source.read_exact(start, &mut table) && table.iter().all(|&byte| byte == 0)
    }

    /// Fills `bytes` from `address` on, page by page.
    pub fn read(&mut self, address: KernelVa, bytes: &mut [u8]) -> Result<(), MemoryFault> {
        let (done, fault) = self.read_up_to(address, bytes);
        match fault {
            Some(fault) if done < bytes.len() => Err(fault),
            _ => Ok(()),
        }
    }

    /// Reads `length` bytes.
    pub fn read_vec(&mut self, address: KernelVa, length: usize) -> Result<Vec<u8>, MemoryFault> {
        let mut bytes = vec![0; length];
        self.read(address, &mut bytes)?;
        Ok(bytes)
    }

    /// Reads up to `length` bytes, for tables whose length only their content shows; an error if
    /// none can be read.
    pub fn read_prefix(
        &mut self,
        address: KernelVa,
        length: usize,
    ) -> Result<Vec<u8>, MemoryFault> {
        let mut bytes = vec![0; length];
        let (done, fault) = self.read_up_to(address, &mut bytes);
        bytes.truncate(done);
        match fault {
            Some(fault) if done == 0 => Err(fault),
            _ => Ok(bytes),
        }
    }

    /// Reads a little-endian 64-bit number.
    pub fn read_u64(&mut self, address: KernelVa) -> Result<u64, MemoryFault> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Reads a pointer.
    pub fn read_pointer(&mut self, address: KernelVa) -> Result<KernelVa, MemoryFault> {
        self.read_u64(address).map(KernelVa)
    }

    /// Reads a little-endian 32-bit number.
    pub fn read_u32(&mut self, address: KernelVa) -> Result<u32, MemoryFault> {
        let mut bytes = [0; 4];
        self.read(address, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Reads until `bytes` is full or a page cannot be read: the number of bytes read, and the
    /// fault.
    fn read_up_to(&mut self, address: KernelVa, bytes: &mut [u8]) -> (usize, Option<MemoryFault>) {
        let mut done = 0;
        while done < bytes.len() {
            let at = address.plus(done as u64);
            let found = match self.translate(at) {
                Ok(found) => found,
                Err(fault) => return (done, Some(fault)),
            };
            let left = found.page_bytes - (at.0 - found.page.0);
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len() - done);
            let target = &mut bytes[done..done + length];
            if !self.source.read_exact(found.physical, target) {
                // One of several pages may be missing: the pages before it still count.
                let small = length.min((PAGE_BYTES - at.0 % PAGE_BYTES) as usize);
                if small == length || !self.source.read_exact(found.physical, &mut target[..small])
                {
                    let fault = MemoryFault::NotRead { address: at, physical: found.physical };
                    return (done, Some(fault));
                }
                done += small;
                continue;
            }
            done += length;
        }
        (done, None)
    }
}

/// Whether the memory lacks an address that the kernel has.
pub(crate) fn is_lost(memory: &mut KernelMemory<'_>, at: KernelVa) -> bool {
    let read = memory.read(at, &mut [0]);
    read.map_or_else(MemoryFault::is_missing, |()| is_page_of_zeros(memory, at))
}

/// Whether the page with an address has nothing but zeros, as tools write for pages that they could
/// not read.
pub(crate) fn is_page_of_zeros(memory: &mut KernelMemory<'_>, at: KernelVa) -> bool {
    let page = at.minus(at.0 % PAGE_BYTES);
    let read = memory.read_vec(page, PAGE_BYTES as usize);
    read.is_ok_and(|page| page.iter().all(|&byte| byte == 0))
}
