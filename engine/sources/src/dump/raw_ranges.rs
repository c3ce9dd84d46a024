//! Raw memory whose ranges are joined, without the gaps between them: LiME's `format=raw`.
//!
//! Nothing in such a file gives the addresses. The user may know them ([`by_regions`]). Otherwise
//! the kernel's own list of them is searched in the memory ([`find`]): x86 makes one array of
//! `struct resource` from the firmware's map (arch/x86/kernel/e820.c, `e820__reserve_resources`),
//! arm64 one of its memory (arch/arm64/kernel/setup.c, `request_standard_resources`). LiME writes
//! those entries that are System RAM, in order.
//!
//! An entry points to its neighbour in the array, so the array's virtual address is known. Its
//! distance to the physical address is a multiple of 1 GiB on x86, and of 512 MiB on arm64
//! (arch/arm64/include/asm/kernel-pgtable.h, `ARM64_MEMSTART_ALIGN` with pages of 64 KiB). This
//! gives the difference between physical address and file offset where the array is, which the list
//! must agree with.
//!
//! The list is guest memory, and so is only a proposal: the kernel's page tables decide.

use std::fs::File;
use std::ops::Range;

use panoptes_decoders::layout::u64_at;
use panoptes_decoders::source::ADDRESS_END;

use super::{DumpedRange, Lacks, Segments};
use crate::pieces::read_at_most;

/// `IORESOURCE_MEM | IORESOURCE_SYSRAM | IORESOURCE_BUSY` (include/linux/ioport.h).
const SYSTEM_RAM: u64 = 0x8100_0200;

/// Size of `struct resource` with 64-bit words since 4.6 (include/linux/ioport.h): start, end,
/// name, flags, desc, parent, sibling, child.
const RESOURCE_BYTES: usize = 64;
const NAME_AT: usize = 16;
const FLAGS_AT: usize = 24;
const PARENT_AT: usize = 40;
const SIBLING_AT: usize = 48;

/// The lowest kernel address: of x86-64 with five levels of page tables.
const KERNEL: u64 = 0xff00_0000_0000_0000;

/// Largest distance between two entries of one array in bytes: those between are not RAM.
const DISTANCE_MAX: u64 = 128 * RESOURCE_BYTES as u64;

/// Maximum number of entries that are considered. A guest may write any number of them.
const ENTRIES_MAX: usize = 1 << 16;

/// Alignment of the distance between virtual and physical addresses of the direct map.
const DIRECT_MAP_ALIGNMENT: u64 = 1 << 29;

/// Largest difference between the place of a range by the list and by the array's address.
const CORRECTION_MAX: u64 = 1 << 20;

const CHUNK_BYTES: usize = 4 << 20;

/// The note on addresses that came from the kernel's list.
pub(crate) const FROM_KERNEL: &str = "its ranges of memory stand one after another, as LiME's \
    format=raw writes them; their addresses come from the kernel's own list";

/// The note on addresses that came from the user's list.
const FROM_FILE: &str = "its ranges of memory stand one after another; their addresses come from \
    memory_regions_path";

/// An entry of the kernel's list of resources.
#[derive(Clone, Copy, Debug)]
struct ResourceEntry {
    /// Offset in the file.
    at: u64,
    start: u64,
    end: u64,
    parent: u64,
    sibling: u64,
}

/// The position of a range that is not as the kernel's list has it, and its size in bytes.
type Correction = (usize, u64);

/// The memory of a file of `bytes` bytes that has these regions one after another; `None` if their
/// sizes do not add up to the file's.
pub(crate) fn by_regions(regions: &[Range<u64>], bytes: u64) -> Option<Segments> {
    let sizes = regions.iter().map(|region| region.end.saturating_sub(region.start));
    if sizes.fold(0, u64::saturating_add) != bytes || regions.len() < 2 {
        return None;
    }
    Some(placement(regions, None, bytes, FROM_FILE))
}

/// Searches the kernel's list of its memory in a file; `None` if there is none that fits.
pub(crate) fn find(file: &File, bytes: u64) -> Option<Segments> {
    let entries = entries(file, bytes);
    let mut best: Option<(u64, Vec<Range<u64>>, Option<Correction>)> = None;
    for array in entries.chunk_by(belong_together) {
        let ranges: Vec<Range<u64>> = array.iter().map(|entry| entry.start..entry.end).collect();
        if ranges.len() < 2 {
            continue;
        }
        let sum: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        let missing = sum.abs_diff(bytes);
        // Firmware's tables behind the last range, or a copy that was cut short.
        if missing > bytes / 2 {
            continue;
        }
        let Some(correction) = correction(array, &ranges, bytes) else { continue };
        if best.as_ref().is_none_or(|(least, ..)| missing < *least) {
            best = Some((missing, ranges, correction));
        }
    }
    let (_, ranges, correction) = best?;
    Some(placement(&ranges, correction, bytes, FROM_KERNEL))
}

/// Whether two entries are in one array of ascending ranges.
fn belong_together(one: &ResourceEntry, next: &ResourceEntry) -> bool {
    let distance = next.at - one.at;
    distance <= DISTANCE_MAX
        && distance.is_multiple_of(RESOURCE_BYTES as u64)
        && one.parent == next.parent
        && one.end <= next.start
}

/// All entries in the file that can be System RAM.
fn entries(file: &File, bytes: u64) -> Vec<ResourceEntry> {
    let mut found = Vec::new();
    let mut chunk = vec![0; CHUNK_BYTES + RESOURCE_BYTES];
    let mut at = 0;
    while at < bytes && found.len() < ENTRIES_MAX {
        let Ok(length @ RESOURCE_BYTES..) = read_at_most(file, at, &mut chunk) else { break };
        let words = chunk[..length].as_chunks::<8>().0;
        let flags = SYSTEM_RAM.to_le_bytes();
        for (index, _) in words.iter().enumerate().filter(|(_, word)| **word == flags) {
            let entry = (index * 8).checked_sub(FLAGS_AT).and_then(|from| {
                // The next chunk begins with the entries that do not fit here.
                let bytes = chunk[..length].get(from..from + RESOURCE_BYTES)?;
                entry(at + from as u64, bytes).filter(|_| from < CHUNK_BYTES)
            });
            found.extend(entry);
        }
        at += CHUNK_BYTES as u64;
    }
    found.truncate(ENTRIES_MAX);
    found
}

fn entry(at: u64, bytes: &[u8]) -> Option<ResourceEntry> {
    let word = |offset| u64_at(bytes, offset);
    let end = word(8).checked_add(1)?;
    let entry = ResourceEntry {
        at,
        start: word(0),
        end,
        parent: word(PARENT_AT),
        sibling: word(SIBLING_AT),
    };
    let is_one = entry.start < end && end <= ADDRESS_END;
    (is_one && word(NAME_AT) >= KERNEL && entry.parent >= KERNEL).then_some(entry)
}

/// Where the list is wrong: the range that has the array, and its file offset. The inner `None` if
/// the list is right; the outer one if the array's address agrees with no place nearby.
#[expect(clippy::option_option, reason = "explained above")]
fn correction(
    array: &[ResourceEntry],
    ranges: &[Range<u64>],
    bytes: u64,
) -> Option<Option<Correction>> {
    // Virtual address minus file offset, by each entry whose neighbour in the array follows it.
    let differences = array.iter().filter(|entry| entry.sibling >= KERNEL).map(|entry| {
        entry.sibling.wrapping_sub(entry.at + RESOURCE_BYTES as u64) % DIRECT_MAP_ALIGNMENT
    });
    let mut differences: Vec<u64> = differences.collect();
    differences.sort_unstable();
    let shift = *differences.chunk_by(u64::eq).max_by_key(|same| same.len())?.first()?;
    let at = array.first()?.at;
    let mut offset = 0;
    for (index, range) in ranges.iter().enumerate() {
        let length = range.end - range.start;
        let is_last = index + 1 == ranges.len();
        // The file offset at which the array's address puts this range.
        let wanted = range.start.wrapping_sub(shift) % DIRECT_MAP_ALIGNMENT;
        let off = wanted.wrapping_sub(offset) % DIRECT_MAP_ALIGNMENT;
        let is_near = off <= CORRECTION_MAX || off >= DIRECT_MAP_ALIGNMENT - CORRECTION_MAX;
        let place = if off <= CORRECTION_MAX {
            offset + off
        } else {
            offset.saturating_sub(DIRECT_MAP_ALIGNMENT - off)
        };
        let reach = place.saturating_add(length).max(if is_last { bytes } else { 0 });
        if is_near && (place..reach).contains(&at) {
            return Some((off != 0).then_some((index, place)));
        }
        offset = offset.saturating_add(length);
    }
    None
}

/// Puts ranges one after another. `correction` moves one of them, and all behind it, to an offset.
fn placement(
    ranges: &[Range<u64>],
    correction: Option<Correction>,
    bytes: u64,
    assumption: &'static str,
) -> Segments {
    let mut pieces: Vec<DumpedRange> = Vec::with_capacity(ranges.len());
    let mut offset = 0_u64;
    for (index, range) in ranges.iter().enumerate() {
        if let Some((_, place)) = correction.filter(|(moved, _)| *moved == index) {
            for before in &mut pieces {
                before.bytes = before.bytes.min(place.saturating_sub(before.offset));
                before.filed = before.bytes;
            }
            offset = place;
        }
        let length = range.end - range.start;
        pieces.push(DumpedRange { start: range.start, bytes: length, offset, filed: length });
        offset = offset.saturating_add(length);
    }
    pieces.retain(|piece| piece.bytes > 0);
    let (segments, regions, lacks) = super::segments(pieces, bytes);
    // Firmware's tables behind the last range are no memory of the kernel.
    (segments, regions, Lacks { assumption: Some(assumption), ..lacks })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::Segment;

    // The direct map of a kernel 6.1 with five levels of page tables.
    const DIRECT_MAP: u64 = 0xff30_7c81_4000_0000;

    /// Memory with the list of its ranges at `list_at`, as a kernel makes it: with an entry between
    /// each two that is not RAM.
    fn memory(ranges: &[Range<u64>], list_at: u64) -> Vec<u8> {
        let mut memory = vec![0; ranges.last().unwrap().end as usize];
        let mut at = list_at;
        let mut put = |at: u64, start: u64, end: u64, flags: u64, last: bool| {
            let sibling = if last { 0 } else { DIRECT_MAP + at + 64 };
            let name = 0xffff_ffff_8234_5678_u64;
            let parent = 0xffff_ffff_8280_0040_u64;
            for (index, word) in
                [start, end - 1, name, flags, 0, parent, sibling, 0].into_iter().enumerate()
            {
                let here = at as usize + index * 8;
                memory[here..here + 8].copy_from_slice(&word.to_le_bytes());
            }
        };
        for (index, range) in ranges.iter().enumerate() {
            let last = index + 1 == ranges.len();
            put(at, range.start, range.end, 0x8100_0200, last);
            at += 64;
            if !last {
                put(at, range.end, ranges[index + 1].start, 0x8000_0200, false);
                at += 64;
            }
        }
        memory
    }

    #[test]
    fn a_list_of_very_many_entries_is_checked_in_one_pass() {
        let entry =
            |at| ResourceEntry { at, start: 0, end: 1, parent: KERNEL, sibling: KERNEL + at * at };
        let array: Vec<ResourceEntry> = (0..ENTRIES_MAX as u64).map(|at| entry(at * 64)).collect();
        // The neighbours of no two entries agree.
        assert_eq!(correction(&array, &[0..1, 2..3], 2), None);
    }

    fn joined(memory: &[u8], ranges: &[Range<u64>]) -> Vec<u8> {
        let parts = ranges.iter().map(|range| &memory[range.start as usize..range.end as usize]);
        parts.collect::<Vec<_>>().concat()
    }

    fn found(bytes: &[u8]) -> Option<Segments> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        find(&file, bytes.len() as u64)
    }

    fn ranges() -> Vec<Range<u64>> {
        vec![0x1000..0x9_fc00, 0x10_0000..0x70_0000, 0x80_0000..0xa0_0000]
    }

    #[test]
    fn the_gaps_are_found_in_the_kernels_list() {
        for list_at in [0x8_0040, 0x50_0340, 0x8f_f000] {
            let file = joined(&memory(&ranges(), list_at), &ranges());
            let (segments, regions, lacks) = found(&file).unwrap();
            let segment = |physical, offset| Segment { physical, offset };
            let expected = [
                segment(0x1000..0x9_fc00, 0),
                segment(0x10_0000..0x70_0000, 0x9_ec00),
                segment(0x80_0000..0xa0_0000, 0x69_ec00),
            ];
            assert_eq!(segments, expected, "{list_at:#x}");
            assert_eq!(regions.len(), 3);
            assert_eq!(lacks, Lacks { assumption: Some(FROM_KERNEL), ..Lacks::default() });
        }
    }

    // Tools that write whole pages only, and those that write firmware's tables behind the memory.
    #[test]
    fn the_address_of_the_list_corrects_it() {
        let whole = [0x1000..0x9_f000, 0x10_0000..0x70_0000];
        let listed = [0x1000..0x9_fc00, 0x10_0000..0x6e_0000];
        let mut memory = memory(&listed, 0x50_0340);
        memory.resize(0x70_0000, 7);
        let (segments, ..) = found(&joined(&memory, &whole)).unwrap();
        assert_eq!(segments[1], Segment { physical: 0x10_0000..0x6e_0000, offset: 0x9_e000 });
        assert_eq!(segments[0], Segment { physical: 0x1000..0x9_f000, offset: 0 });
    }

    #[test]
    fn a_copy_that_was_cut_short_has_the_rest() {
        let file = joined(&memory(&ranges(), 0x50_0340), &ranges());
        let (_, _, lacks) = found(&file[..file.len() - 0x10_0000]).unwrap();
        assert_eq!(lacks.cut_short, 0x10_0000);
    }

    #[test]
    fn a_list_that_contradicts_its_own_address_is_ignored() {
        let mut memory = memory(&ranges(), 0x50_0340);
        memory[0x50_0340 + 50] ^= 0x20; // the neighbour's address
        memory[0x50_0340 + 2 * 64 + 50] ^= 0x20;
        assert!(found(&joined(&memory, &ranges())).is_none());
        assert!(found(&vec![0; 0x9000]).is_none());
        assert!(found(&[1]).is_none());
    }

    #[test]
    fn regions_must_add_up_to_the_file() {
        let bytes = 0x9_ec00 + 0x60_0000 + 0x20_0000;
        let (segments, _, lacks) = by_regions(&ranges(), bytes).unwrap();
        assert_eq!(segments[2].offset, 0x69_ec00);
        assert_eq!(lacks.assumption, Some(FROM_FILE));
        assert!(by_regions(&ranges(), bytes + 1).is_none());
        assert!(by_regions(&[], 0).is_none());
    }
}
