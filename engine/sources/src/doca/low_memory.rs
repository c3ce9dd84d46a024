//! The memory regions of an x86-64 Linux machine, found from its first mebibyte:
//! `memory_regions_path: auto`.
//!
//! A DMA engine must not read arbitrary addresses: reading can disturb devices, which are beyond
//! memory. But the first 640 KiB are memory on every PC. Linux keeps the start-up code of its
//! processors there (arch/x86/realmode) with a page-table root, `trampoline_pgd`, whose last entry
//! is that of `init_top_pgt` (init.c, `setup_real_mode`). It leads into the kernel's image, next to
//! `init_top_pgt` itself (arch/x86/kernel/head_64.S), which leads to the tables of the direct map.
//! The direct map covers all memory that the firmware reports, each address once and in order
//! (arch/x86/mm/init.c, `init_mem_mapping`). Beyond that it has only the legacy hole below 1 MiB
//! and, not cached, memory of devices. So every address that is read is memory according to a table
//! of the kernel, or holds such a table.
//!
//! The tables are under the guest's control. A machine with forged tables can make Panoptes read
//! its devices. Users who do not trust the kernel that far should give a file.
//!
//! Not for arm64, whose first mebibyte may be anything: a file is needed there.

use std::ops::Range;
use std::time::{Duration, Instant};

use panoptes_decoders::paging::x86_64::{ADDRESS_MASK, LARGE, PRESENT};
use panoptes_decoders::source::PAGE_BYTES;

use super::DocaError;
use crate::image::PAGE;

const ENTRIES: usize = PAGE / 8;
/// Conventional memory, which every PC has, without its first page.
pub(super) const CONVENTIONAL: Range<u64> = PAGE_BYTES..0xa_0000;
/// Video memory and option ROMs, which the direct map covers as well (`ISA_END_ADDRESS`).
const LEGACY_HOLE: Range<u64> = 0xa_0000..0x10_0000;
/// Search range for `init_top_pgt` around the table that its last entry leads to; the linker places
/// them next to each other.
const ROOT_WITHIN: u64 = 16 * PAGE_BYTES;
/// Number of tables of a level that are read at a time.
const TABLES_MAX: usize = 512;
/// Largest number of pages of low memory that are tried as the root: there is one, and little else
/// looks like it.
const CANDIDATES_MAX: usize = 4;
/// Longest time for reading the tables of all candidates together.
const TIME_MAX: Duration = Duration::from_secs(20);
/// Largest number of tables of all candidates together: enough for 128 GiB in 4 KiB pages, or for
/// any machine with larger pages.
const TABLES_TOTAL_MAX: usize = 1 << 16;
/// Largest number of ranges of the direct map, before those that touch are joined.
const LEAVES_MAX: usize = 1 << 18;
/// The kernel unmaps single pages of memory (KFENCE's guard pages, for example). A gap inside such
/// a block counts as memory: no device in the middle of memory is so small.
const BLOCK_BYTES: u64 = 2 << 20;

/// Bits of an entry (arch/x86/include/asm/pgtable_types.h), beside those of the decoder.
const CACHE_MODE: u64 = 1 << 3 | 1 << 4;
const LARGE_CACHE_MODE: u64 = 1 << 12;
/// `_PAGE_TABLE` and `_KERNPG_TABLE`: the flags in entries of static tables.
const TABLE_FLAGS: [u64; 2] = [0x067, 0x063];

/// Memory that can be read at given addresses only.
pub(super) trait PageProbe {
    /// Reads the pages at these addresses, which must be memory, in this order into `bytes`.
    /// `false` unless all of them could be read.
    fn read(&mut self, at: &[u64], bytes: &mut [u8]) -> Result<bool, DocaError>;
}

/// The work done for all candidates together.
struct ProbeBudget {
    tables: usize,
    begin: Instant,
}

impl ProbeBudget {
    /// Whether reading `more` tables would exceed a limit.
    fn is_too_much(&self, more: usize) -> bool {
        self.tables.saturating_add(more) > TABLES_TOTAL_MAX || self.begin.elapsed() > TIME_MAX
    }
}

/// The regions of memory, ascending.
pub(super) fn find(probe: &mut impl PageProbe) -> Result<Vec<Range<u64>>, DocaError> {
    let mut low = vec![0; (CONVENTIONAL.end - CONVENTIONAL.start) as usize];
    let pages: Vec<u64> = CONVENTIONAL.step_by(PAGE).collect();
    if !probe.read(&pages, &mut low)? {
        return Err(DocaError::Regions);
    }
    let mut spent = ProbeBudget { tables: 0, begin: Instant::now() };
    for last in low.chunks_exact(PAGE).filter_map(trampoline_entry).take(CANDIDATES_MAX) {
        if let Some(root) = find_root(probe, last)?
            && let Some(regions) = direct_map(probe, &root, &mut spent)?
        {
            return Ok(regions);
        }
    }
    Err(DocaError::Regions)
}

fn entry(table: &[u8], index: usize) -> u64 {
    let bytes = table.get(index * 8..index * 8 + 8).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u64::from_le_bytes)
}

fn is_static_table(entry: u64) -> bool {
    TABLE_FLAGS.contains(&(entry & !ADDRESS_MASK)) && entry & ADDRESS_MASK != 0
}

/// The last entry of a page, if it can be `trampoline_pgd`: the first entry maps low memory, the
/// others of user space are empty, and the last one leads to a static table.
fn trampoline_entry(page: &[u8]) -> Option<u64> {
    let last = entry(page, ENTRIES - 1);
    let is_root = entry(page, 0) & PRESENT != 0
        && (1..ENTRIES / 2).all(|index| entry(page, index) == 0)
        && is_static_table(last);
    is_root.then_some(last)
}

/// Whether a table has only its last two entries: those for the kernel's image and for its fixed
/// addresses.
fn is_level3_kernel_pgt(page: &[u8]) -> bool {
    (0..ENTRIES - 2).all(|index| entry(page, index) == 0)
        && is_static_table(entry(page, ENTRIES - 2))
        && is_static_table(entry(page, ENTRIES - 1))
}

/// The number of levels, and the root table.
struct Root {
    levels: u32,
    table: Vec<u8>,
}

/// Finds `init_top_pgt` from its last entry.
fn find_root(probe: &mut impl PageProbe, last: u64) -> Result<Option<Root>, DocaError> {
    let mut page = vec![0; PAGE];
    let at = last & ADDRESS_MASK;
    if !probe.read(&[at], &mut page)? {
        return Ok(None);
    }
    let mut levels = 4;
    if !is_level3_kernel_pgt(&page) {
        // With five levels this is level4_kernel_pgt, whose last entry leads to its neighbour. Any
        // other entry may be in use: the processors' entry areas are there, and in about one boot
        // of a hundred vmemmap, which may be anywhere below them (arch/x86/mm/kaslr.c,
        // `kernel_randomize_memory`).
        let below = entry(&page, ENTRIES - 1);
        let is_near = (below & ADDRESS_MASK).abs_diff(at) <= ROOT_WITHIN;
        if !is_static_table(below) || !is_near {
            return Ok(None);
        }
        if !probe.read(&[below & ADDRESS_MASK], &mut page)? || !is_level3_kernel_pgt(&page) {
            return Ok(None);
        }
        levels = 5;
    }
    let from = at.saturating_sub(ROOT_WITHIN).max(LEGACY_HOLE.end);
    for candidate in (from..at.saturating_add(ROOT_WITHIN)).step_by(PAGE) {
        // Read page by page until it is found: all pages between the two tables are in the image,
        // but pages beyond may not be.
        if candidate == at || !probe.read(&[candidate], &mut page)? {
            continue;
        }
        let is_user_empty = (0..ENTRIES / 2).all(|index| entry(&page, index) == 0);
        if entry(&page, ENTRIES - 1) == last && is_user_empty {
            return Ok(Some(Root { levels, table: page }));
        }
    }
    Ok(None)
}

/// A table and the virtual address that its first entry maps.
#[derive(Clone, Copy)]
struct PageTable {
    at: u64,
    address: u64,
}

/// The regions that the direct map covers. The direct map is the lowest mapping in the kernel's
/// half, where virtual and physical addresses differ by a constant.
fn direct_map(
    probe: &mut impl PageProbe,
    root: &Root,
    spent: &mut ProbeBudget,
) -> Result<Option<Vec<Range<u64>>>, DocaError> {
    let mut leaves: Vec<(u64, Range<u64>)> = Vec::new();
    let mut tables = Vec::new();
    let top = 12 + 9 * (root.levels - 1);
    for index in ENTRIES / 2..ENTRIES - 1 {
        let entry = entry(&root.table, index);
        if entry & PRESENT != 0 {
            let high = if root.levels == 5 { 0xfe_u64 << 56 } else { 0xfffe_u64 << 48 };
            let address = (index as u64) << top | high;
            tables.push(PageTable { at: entry & ADDRESS_MASK, address });
        }
    }
    // Walk the root entry by entry: only the leaves show which entries belong to the direct map.
    let mut base = None;
    for table in tables {
        let mut found = Vec::new();
        if !walk(probe, vec![table], root.levels - 1, spent, &mut found)? {
            break;
        }
        found.sort_unstable_by_key(|(address, _)| *address);
        let Some((first, range)) = found.first() else { continue };
        let offset = *base.get_or_insert(first.wrapping_sub(range.start));
        let linear =
            |(address, range): &(u64, Range<u64>)| address.wrapping_sub(offset) == range.start;
        let count = found.iter().take_while(|leaf| linear(leaf)).count();
        let is_all = count == found.len();
        leaves.extend(found.into_iter().take(count));
        if !is_all || count == 0 {
            break;
        }
    }
    // A direct map begins at physical address 0.
    if leaves.first().is_none_or(|(_, range)| range.start >= LEGACY_HOLE.end) {
        return Ok(None);
    }
    Ok(Some(regions_of(leaves)))
}

/// Collects the cached leaves below tables of a level; `false` if a table cannot be read or there
/// are too many.
fn walk(
    probe: &mut impl PageProbe,
    mut tables: Vec<PageTable>,
    level: u32,
    spent: &mut ProbeBudget,
    leaves: &mut Vec<(u64, Range<u64>)>,
) -> Result<bool, DocaError> {
    let mut pages = vec![0; TABLES_MAX * PAGE];
    for level in (1..=level).rev() {
        let shift = 12 + 9 * (level - 1);
        let mut below = Vec::new();
        for part in tables.chunks(TABLES_MAX) {
            if spent.is_too_much(part.len()) {
                return Ok(false);
            }
            spent.tables += part.len();
            let at: Vec<u64> = part.iter().map(|table| table.at).collect();
            let pages = &mut pages[..part.len() * PAGE];
            if !probe.read(&at, pages)? {
                return Ok(false);
            }
            for (table, page) in part.iter().zip(pages.chunks_exact(PAGE)) {
                for index in 0..ENTRIES {
                    let entry = entry(page, index);
                    let address = table.address + ((index as u64) << shift);
                    if entry & PRESENT == 0 {
                        continue;
                    }
                    if level > 1 && entry & LARGE == 0 {
                        // Tables beyond the limit would not be read.
                        if below.len() >= TABLES_TOTAL_MAX {
                            return Ok(false);
                        }
                        below.push(PageTable { at: entry & ADDRESS_MASK, address });
                        continue;
                    }
                    let bytes = 1_u64 << shift;
                    let mode = if level > 1 { LARGE_CACHE_MODE } else { LARGE };
                    let start = entry & ADDRESS_MASK & !(bytes - 1);
                    // Pages larger than 1 GiB do not exist.
                    if entry & (CACHE_MODE | mode) != 0 || level > 3 {
                        continue;
                    }
                    let is_full = leaves.len() >= LEAVES_MAX;
                    match leaves.last_mut() {
                        Some((first, range))
                            if range.end == start
                                && first.wrapping_add(range.end - range.start) == address =>
                        {
                            range.end += bytes;
                        }
                        _ if is_full => return Ok(false),
                        _ => leaves.push((address, start..start + bytes)),
                    }
                }
            }
        }
        tables = below;
    }
    Ok(true)
}

/// Converts leaves in ascending order to regions: without the legacy hole, gaps within a block
/// closed.
fn regions_of(leaves: Vec<(u64, Range<u64>)>) -> Vec<Range<u64>> {
    let mut regions: Vec<Range<u64>> = Vec::new();
    let mut add = |range: Range<u64>| match regions.last_mut() {
        _ if range.is_empty() => {}
        Some(last)
            if last.end == range.start
                || last.end >= BLOCK_BYTES
                    && (last.end - 1) / BLOCK_BYTES == range.start / BLOCK_BYTES =>
        {
            last.end = range.end;
        }
        _ => regions.push(range),
    };
    for (_, range) in leaves {
        add(range.start..range.end.min(LEGACY_HOLE.start));
        add(range.start.max(LEGACY_HOLE.end)..range.end);
    }
    regions
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// Pages of a machine's memory by address; any other address is a device that must not be read.
    #[derive(Default)]
    struct Machine(HashMap<u64, Vec<u64>>);

    /// A machine with arbitrary tables; reading other addresses fails.
    struct Hostile(Machine);

    impl PageProbe for Hostile {
        fn read(&mut self, at: &[u64], bytes: &mut [u8]) -> Result<bool, DocaError> {
            let is_there = at.iter().all(|page| self.0.0.contains_key(page));
            if is_there { self.0.read(at, bytes) } else { Ok(false) }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_tables_give_valid_regions_or_an_error(
            levels in 4..6_u32,
            changes in prop::collection::vec(
                (any::<prop::sample::Index>(), 0..ENTRIES, any::<u64>(), 0..4_usize),
                1..12,
            ),
        ) {
            let mut machine = Machine::new(levels);
            let mut tables: Vec<u64> =
                machine.0.keys().copied().filter(|at| *at > 0x9_0000).collect();
            tables.sort_unstable();
            for (table, index, value, kind) in changes {
                let at = *table.get(&tables);
                let other = tables[value as usize % tables.len()];
                let leaf = value & ADDRESS_MASK | 0x163;
                let entry = [value, other | 0x67, other | 0x1e3, leaf][kind];
                machine.set(at, index, entry);
            }
            if let Ok(regions) = find(&mut Hostile(machine)) {
                prop_assert!(
                    !regions.is_empty()
                        && regions.iter().all(|region| region.start < region.end)
                );
            }
        }
    }

    impl PageProbe for Machine {
        fn read(&mut self, at: &[u64], bytes: &mut [u8]) -> Result<bool, DocaError> {
            for (at, bytes) in at.iter().zip(bytes.chunks_exact_mut(PAGE)) {
                let page = self.0.get(at).unwrap_or_else(|| panic!("{at:#x} is a device"));
                for (word, bytes) in page.iter().zip(bytes.chunks_exact_mut(8)) {
                    bytes.copy_from_slice(&word.to_le_bytes());
                }
            }
            Ok(true)
        }
    }

    impl Machine {
        fn set(&mut self, page: u64, index: usize, entry: u64) {
            self.0.entry(page).or_insert_with(|| vec![0; ENTRIES])[index] = entry;
        }

        /// A machine of 512 MiB with tables where a kernel could have them.
        fn new(levels: u32) -> Self {
            let mut machine = Self::default();
            for page in CONVENTIONAL.step_by(PAGE) {
                machine.0.insert(page, vec![0; ENTRIES]);
            }
            let mut static_table = 0x200_4000;
            let root = 0x200_0000;
            for page in (root - ROOT_WITHIN..root + 2 * ROOT_WITHIN).step_by(PAGE) {
                machine.0.insert(page, vec![0; ENTRIES]);
            }
            let last = static_table | 0x67;
            machine.set(0x9_8000, 0, 0x9_9063);
            machine.set(0x9_8000, ENTRIES - 1, last);
            machine.set(root, ENTRIES - 1, last);
            if levels == 5 {
                machine.set(static_table, ENTRIES - 1, static_table + 0x1067);
                machine.set(static_table, 508, 0x302_4067);
                static_table += 0x1000;
            }
            machine.set(static_table, ENTRIES - 2, 0x200_7063);
            machine.set(static_table, ENTRIES - 1, 0x200_8067);
            // The direct map begins at the third entry of a level-3 table: its place is random.
            let mut table = 0x300_0000;
            machine.set(root, 300, table | 0x67);
            if levels == 5 {
                machine.set(table, 7, (table + 0x1000) | 0x67);
                table += 0x1000;
            }
            machine.set(table, 2, 0x301_0063);
            machine.set(0x301_0000, 0, 0x301_1063);
            (0..ENTRIES as u64).for_each(|page| {
                machine.set(0x301_1000, page as usize, page << 12 | 0x163);
            });
            for index in 1..255 {
                machine.set(0x301_0000, index as usize, index << 21 | 0x1e3);
            }
            // The last 16 KiB of the last block belong to the firmware.
            machine.set(0x301_0000, 255, 0x301_2063);
            for page in 0..ENTRIES as u64 - 4 {
                machine.set(0x301_2000, page as usize, (255 << 21 | page << 12) | 0x163);
            }
            // The next mapping is not the direct map: vmalloc.
            machine.set(root, 301, 0x302_0067);
            for page in [0x302_0000, 0x302_1000, 0x302_2000, 0x302_3000] {
                machine.set(page, 5, (page + 0x1000) | 0x63);
            }
            machine
        }

        fn regions(&mut self) -> Vec<Range<u64>> {
            find(self).unwrap()
        }
    }

    const REGIONS: [Range<u64>; 2] = [0..0xa_0000, 0x10_0000..0x1fff_c000];

    #[test]
    fn memory_is_what_the_direct_map_maps() {
        assert_eq!(Machine::new(4).regions(), REGIONS);
        assert_eq!(Machine::new(5).regions(), REGIONS);
    }

    #[test]
    fn vmemmap_may_be_next_to_the_kernel_with_five_levels() {
        let mut machine = Machine::new(5);
        machine.set(0x200_4000, 77, 0x302_4067);
        assert_eq!(machine.regions(), REGIONS);
    }

    #[test]
    fn guard_pages_are_memory_and_devices_are_not() {
        let mut machine = Machine::new(4);
        for page in [3, 4, 9, 300] {
            machine.set(0x301_2000, page, 0);
        }
        assert_eq!(machine.regions(), REGIONS);
        // Memory of a device, which is not cached, and a missing block.
        machine.set(0x301_0000, 100, 100 << 21 | 0x1e3 | 1 << 4);
        machine.set(0x301_0000, 200, 0);
        let regions =
            [0..0xa_0000, 0x10_0000..100 << 21, 101 << 21..200 << 21, 201 << 21..0x1fff_c000];
        assert_eq!(machine.regions(), regions);
    }

    #[test]
    fn without_tables_only_conventional_memory_is_read() {
        let mut machine = Machine::new(4);
        machine.set(0x9_8000, ENTRIES - 1, 0);
        assert_eq!(find(&mut machine), Err(DocaError::Regions));
        // A page that looks like the root, but leads to none.
        machine.set(0x9_8000, ENTRIES - 1, 0x200_5067);
        assert_eq!(find(&mut machine), Err(DocaError::Regions));
    }

    #[test]
    fn tables_with_cycles_terminate() {
        let mut machine = Machine::new(4);
        for index in 0..ENTRIES {
            machine.set(0x301_0000, index, 0x301_0063);
        }
        machine.set(0x300_0000, 3, 0x300_0063);
        let _ = find(&mut machine);
    }

    #[test]
    fn many_roots_cost_no_more_than_one() {
        struct Counted(Machine, usize);
        impl PageProbe for Counted {
            fn read(&mut self, at: &[u64], bytes: &mut [u8]) -> Result<bool, DocaError> {
                self.1 += at.len();
                self.0.read(at, bytes)
            }
        }
        // Each of the pages leads to tables with a cycle.
        let mut machine = Machine::new(4);
        for page in CONVENTIONAL.step_by(PAGE) {
            machine.set(page, 0, 0x9_9063);
            machine.set(page, ENTRIES - 1, 0x200_4067);
        }
        for index in 0..ENTRIES {
            machine.set(0x301_0000, index, 0x301_0063);
        }
        machine.set(0x300_0000, 3, 0x300_0063);
        let mut counted = Counted(machine, 0);
        let _ = find(&mut counted);
        let around = 159 + CANDIDATES_MAX * 40;
        assert!(counted.1 <= TABLES_TOTAL_MAX + around, "{} pages", counted.1);
    }
}
