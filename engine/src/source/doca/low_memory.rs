//! Where an x86-64 Linux machine has memory, found from its first mebibyte: `memory_regions_path: auto`.
//!
//! A DMA engine must not read at random: beyond memory lie devices, which reading can disturb. But the first 640 KiB of a
//! PC are memory on every one of them, and Linux keeps there what its processors start with (arch/x86/realmode): a
//! page-table root, `trampoline_pgd`, whose last entry is that of `init_top_pgt` (init.c, `setup_real_mode`). It
//! leads into the kernel's image, next to `init_top_pgt` itself (arch/x86/kernel/head_64.S), and that to the tables of the
//! direct map. Those map what the firmware says is memory, each address once and in order (arch/x86/mm/init.c,
//! `init_mem_mapping`): all of it, and nothing else but the legacy hole below 1 MiB and, not cached, memory of
//! devices. So every address that is read is one that a table of the kernel says is memory, or holds a table.
//!
//! What a table says is a guest's word. A machine that lies in its own tables about where its memory is can make us read
//! its devices: whoever does not trust the kernel that far gives a file.
//!
//! Not for arm64, whose first mebibyte is anything: there a file is needed.

use std::ops::Range;
use std::time::{Duration, Instant};

use panoptes_decoders::source::PAGE_BYTES;

use super::DocaError;

const PAGE: usize = PAGE_BYTES as usize;
const ENTRIES: usize = PAGE / 8;
/// What is memory on every PC (the end of conventional memory), but for its first page.
pub(super) const CONVENTIONAL: Range<u64> = PAGE_BYTES..0xa_0000;
/// Video memory and option ROMs, which the direct map covers as well (`ISA_END_ADDRESS`).
const LEGACY_HOLE: Range<u64> = 0xa_0000..0x10_0000;
/// How far from the table that its last entry leads to `init_top_pgt` is looked for; the linker puts one after
/// the other.
const ROOT_WITHIN: u64 = 16 * PAGE_BYTES;
/// Tables of a level that are read at a time.
const TABLES_MAX: usize = 512;
/// Pages of low memory that are taken for the root: there is one, and little else looks like it.
const CANDIDATES_MAX: usize = 4;
/// How long tables are read, of all candidates together.
const TIME_MAX: Duration = Duration::from_secs(20);
/// Tables of all candidates together: enough for 128 GiB in 4 KiB pages, and any machine in larger ones.
const TABLES_TOTAL_MAX: usize = 1 << 16;
/// Stretches of the direct map, before those that touch are joined.
const LEAVES_MAX: usize = 1 << 18;
/// The kernel unmaps single pages of memory (KFENCE's guards, for one). A gap is no gap where it does not reach beyond
/// such a block: there is no device so small in the middle of memory.
const BLOCK_BYTES: u64 = 2 << 20;

/// Bits of an entry (arch/x86/include/asm/pgtable_types.h).
const PRESENT: u64 = 1;
const CACHE_MODE: u64 = 1 << 3 | 1 << 4;
const LARGE: u64 = 1 << 7;
const LARGE_CACHE_MODE: u64 = 1 << 12;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// `_PAGE_TABLE` and `_KERNPG_TABLE`: what the entries of static tables carry besides an address.
const TABLE_FLAGS: [u64; 2] = [0x067, 0x063];

/// Memory that can be read once it is said where.
pub(super) trait Probe {
    /// Reads the pages at these addresses, which hold memory, one after the other into `bytes`; `false` unless all of
    /// them could be read.
    fn read(&mut self, at: &[u64], bytes: &mut [u8]) -> Result<bool, DocaError>;
}

/// What was spent on all candidates together.
struct Spent {
    tables: usize,
    begin: Instant,
}

impl Spent {
    /// Whether so many tables more are too many.
    fn is_too_much(&self, more: usize) -> bool {
        self.tables.saturating_add(more) > TABLES_TOTAL_MAX || self.begin.elapsed() > TIME_MAX
    }
}

/// The regions of memory, ascending.
pub(super) fn find(probe: &mut impl Probe) -> Result<Vec<Range<u64>>, DocaError> {
    let mut low = vec![0; (CONVENTIONAL.end - CONVENTIONAL.start) as usize];
    let pages: Vec<u64> = CONVENTIONAL.step_by(PAGE).collect();
    if !probe.read(&pages, &mut low)? {
        return Err(DocaError::Regions);
    }
    let mut spent = Spent { tables: 0, begin: Instant::now() };
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
    TABLE_FLAGS.contains(&(entry & !ADDRESS)) && entry & ADDRESS != 0
}

/// The last entry of a page if it can be `trampoline_pgd`: the first maps low memory, those of the rest of user space
/// are empty, and the last leads to a static table.
fn trampoline_entry(page: &[u8]) -> Option<u64> {
    let last = entry(page, ENTRIES - 1);
    let is_root = entry(page, 0) & PRESENT != 0
        && (1..ENTRIES / 2).all(|index| entry(page, index) == 0)
        && is_static_table(last);
    is_root.then_some(last)
}

/// Whether a table has but its last two entries: those for the kernel's image and for its fixed addresses.
fn is_level3_kernel_pgt(page: &[u8]) -> bool {
    (0..ENTRIES - 2).all(|index| entry(page, index) == 0)
        && is_static_table(entry(page, ENTRIES - 2))
        && is_static_table(entry(page, ENTRIES - 1))
}

/// Levels of the tables and the root of them all.
struct Root {
    levels: u32,
    table: Vec<u8>,
}

/// `init_top_pgt`, by its last entry.
fn find_root(probe: &mut impl Probe, last: u64) -> Result<Option<Root>, DocaError> {
    let mut page = vec![0; PAGE];
    let at = last & ADDRESS;
    if !probe.read(&[at], &mut page)? {
        return Ok(None);
    }
    let mut levels = 4;
    if !is_level3_kernel_pgt(&page) {
        // With five levels that is level4_kernel_pgt, whose last entry leads to its neighbour. Of the others any may be
        // used: the processors' entry areas have their place there, and vmemmap, which lies anywhere below them
        // (arch/x86/mm/kaslr.c, `kernel_randomize_memory`), in about one boot of a hundred.
        let below = entry(&page, ENTRIES - 1);
        let is_near = (below & ADDRESS).abs_diff(at) <= ROOT_WITHIN;
        if !is_static_table(below) || !is_near {
            return Ok(None);
        }
        if !probe.read(&[below & ADDRESS], &mut page)? || !is_level3_kernel_pgt(&page) {
            return Ok(None);
        }
        levels = 5;
    }
    let from = at.saturating_sub(ROOT_WITHIN).max(LEGACY_HOLE.end);
    for candidate in (from..at.saturating_add(ROOT_WITHIN)).step_by(PAGE) {
        // One by one: it lies in the image, which goes on at least as far as from the one to the other.
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
struct Table {
    at: u64,
    address: u64,
}

/// The regions that the direct map maps: the lowest of what the kernel's half maps, where each address is that of
/// memory plus the same number.
fn direct_map(
    probe: &mut impl Probe,
    root: &Root,
    spent: &mut Spent,
) -> Result<Option<Vec<Range<u64>>>, DocaError> {
    let mut leaves: Vec<(u64, Range<u64>)> = Vec::new();
    let mut tables = Vec::new();
    let top = 12 + 9 * (root.levels - 1);
    for index in ENTRIES / 2..ENTRIES - 1 {
        let entry = entry(&root.table, index);
        if entry & PRESENT != 0 {
            let high = if root.levels == 5 { 0xfe_u64 << 56 } else { 0xfffe_u64 << 48 };
            let address = (index as u64) << top | high;
            tables.push(Table { at: entry & ADDRESS, address });
        }
    }
    // It is found entry by entry of the root: which of them are its shows only at the leaves.
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
    // Of a direct map, the first gibibyte begins at address 0.
    if leaves.first().is_none_or(|(_, range)| range.start >= LEGACY_HOLE.end) {
        return Ok(None);
    }
    Ok(Some(regions_of(leaves)))
}

/// Collects the cached leaves below tables of a level; `false` if a table can't be read or there are too many.
fn walk(
    probe: &mut impl Probe,
    mut tables: Vec<Table>,
    level: u32,
    spent: &mut Spent,
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
                        // Those that would not be read any more need not be kept.
                        if below.len() >= TABLES_TOTAL_MAX {
                            return Ok(false);
                        }
                        below.push(Table { at: entry & ADDRESS, address });
                        continue;
                    }
                    let bytes = 1_u64 << shift;
                    let mode = if level > 1 { LARGE_CACHE_MODE } else { LARGE };
                    let start = entry & ADDRESS & !(bytes - 1);
                    // Large pages above 1 GiB do not exist.
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

/// Leaves in ascending order as regions, the legacy hole left out, gaps within a block closed.
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

    /// Pages of a machine's memory, by their addresses; any other is a device that nobody may touch.
    #[derive(Default)]
    struct Machine(HashMap<u64, Vec<u64>>);

    /// A machine whose tables may say anything; what is no page of it cannot be read.
    struct Hostile(Machine);

    impl Probe for Hostile {
        fn read(&mut self, at: &[u64], bytes: &mut [u8]) -> Result<bool, DocaError> {
            let is_there = at.iter().all(|page| self.0.0.contains_key(page));
            if is_there { self.0.read(at, bytes) } else { Ok(false) }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn tables_may_say_anything(
            levels in 4..6_u32,
            changes in prop::collection::vec((any::<prop::sample::Index>(), 0..ENTRIES, any::<u64>(), 0..4_usize), 1..12),
        ) {
            let mut machine = Machine::new(levels);
            let mut tables: Vec<u64> = machine.0.keys().copied().filter(|at| *at > 0x9_0000).collect();
            tables.sort_unstable();
            for (table, index, value, kind) in changes {
                let at = *table.get(&tables);
                let other = tables[value as usize % tables.len()];
                let entry = [value, other | 0x67, other | 0x1e3, value & ADDRESS | 0x163][kind];
                machine.set(at, index, entry);
            }
            if let Ok(regions) = find(&mut Hostile(machine)) {
                prop_assert!(!regions.is_empty() && regions.iter().all(|region| region.start < region.end));
            }
        }
    }

    impl Probe for Machine {
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
            // The direct map begins at the third entry of a level-3 table: the kernel puts it anywhere.
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
            // The last block ends in 16 KiB that are the firmware's.
            machine.set(0x301_0000, 255, 0x301_2063);
            for page in 0..ENTRIES as u64 - 4 {
                machine.set(0x301_2000, page as usize, (255 << 21 | page << 12) | 0x163);
            }
            // What comes next is not memory after memory: vmalloc.
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
    fn vmemmap_may_lie_next_to_the_kernel_where_there_are_five_levels() {
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
        // Not cached, so memory of a device; and a whole block that is not there.
        machine.set(0x301_0000, 100, 100 << 21 | 0x1e3 | 1 << 4);
        machine.set(0x301_0000, 200, 0);
        let regions =
            [0..0xa_0000, 0x10_0000..100 << 21, 101 << 21..200 << 21, 201 << 21..0x1fff_c000];
        assert_eq!(machine.regions(), regions);
    }

    #[test]
    fn without_the_tables_nothing_else_is_read() {
        let mut machine = Machine::new(4);
        machine.set(0x9_8000, ENTRIES - 1, 0);
        assert_eq!(find(&mut machine), Err(DocaError::Regions));
        // A page that looks like the root, but leads to none.
        machine.set(0x9_8000, ENTRIES - 1, 0x200_5067);
        assert_eq!(find(&mut machine), Err(DocaError::Regions));
    }

    #[test]
    fn tables_that_lead_to_themselves_come_to_an_end() {
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
        impl Probe for Counted {
            fn read(&mut self, at: &[u64], bytes: &mut [u8]) -> Result<bool, DocaError> {
                self.1 += at.len();
                self.0.read(at, bytes)
            }
        }
        // Each of the pages leads to tables that lead to themselves.
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
