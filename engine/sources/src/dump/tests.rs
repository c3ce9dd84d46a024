//! Small handmade dumps, each opened as a user would open it.

use std::io::Write as _;

use panoptes_decoders::address::PhysicalAddress;
use panoptes_decoders::source::MemorySource as _;

use super::codec::BlockCompression;
use super::testing::{core, pack, page, pages};
use super::*;
use crate::{DetectedFormat, ErrorClass, FileSource, SourceError};

/// A file that is no longer open for writing; otherwise it would count as a guest's memory.
fn file_of(bytes: &[u8]) -> tempfile::TempPath {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file.into_temp_path()
}

fn open(bytes: &[u8]) -> Result<FileSource, SourceError> {
    FileSource::open(&file_of(bytes))
}

fn opened(bytes: &[u8], format: DetectedFormat, lacks: Lacks) -> FileSource {
    let source = open(bytes).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(source.format(), format);
    assert_eq!(source.lacks(), lacks);
    source
}

#[track_caller]
fn check_refused(bytes: &[u8], words: &str) {
    let error = open(bytes).map(drop).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Unreadable, "{error}");
    assert!(error.to_string().contains(words), "{error}");
}

#[track_caller]
fn check_page(source: &mut FileSource, address: u64, expected: &[u8]) {
    let mut bytes = vec![0; expected.len()];
    assert!(source.read_exact(PhysicalAddress(address), &mut bytes), "{address:#x}");
    assert!(bytes == expected, "{address:#x}");
    // Once more in small pieces, some of which cross into the next page.
    for at in (0..expected.len() - 100).step_by(1000) {
        assert!(source.read_exact(PhysicalAddress(address + at as u64), &mut bytes[..100]));
        assert!(bytes[..100] == expected[at..at + 100], "{address:#x} + {at}");
    }
}

#[track_caller]
fn check_absent(source: &mut FileSource, address: u64) {
    let mut requests = [super::super::ReadRequest::new(PhysicalAddress(address), 8, 0)];
    let mut arena = [7; 8];
    source.read_batch(&mut requests, &mut arena);
    assert_eq!(requests[0].outcome, super::super::ReadOutcome::NotBacked, "{address:#x}");
    assert_eq!(arena, [0; 8]);
}

/// All data that a sweep finds.
fn swept(source: &mut FileSource) -> Vec<Range<u64>> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    let mut from = 0;
    while let Some(range) = source.next_data(PhysicalAddress(from)) {
        assert!(range.start >= from && range.end > range.start, "{range:?} from {from:#x}");
        from = range.end;
        join(&mut ranges, range, usize::MAX);
    }
    ranges
}

fn lime(magic: [u8; 4], version: u32, ranges: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let mut dump = Vec::new();
    for (start, bytes) in ranges {
        dump.extend(magic);
        dump.extend(version.to_le_bytes());
        dump.extend(start.to_le_bytes());
        dump.extend((start + bytes.len() as u64 - 1).to_le_bytes());
        dump.extend([0; 8]);
        if version == 1 {
            dump.extend(bytes);
            continue;
        }
        let begin = dump.len();
        let mut stream = snap::write::FrameEncoder::new(&mut dump);
        stream.write_all(bytes).unwrap();
        drop(stream);
        let length = (dump.len() - begin) as u64;
        dump.extend(length.to_le_bytes());
    }
    dump
}

fn two_ranges() -> [(u64, Vec<u8>); 2] {
    let low: Vec<u8> = (0..20).flat_map(page).collect();
    let mut high: Vec<u8> = (100..103).flat_map(page).collect();
    high.truncate(2 * 4096 + 1000);
    [(0x1000, low), (0x10_0000, high)]
}

fn check_two_ranges(source: &mut FileSource) {
    let [low, high] = two_ranges();
    check_page(source, 0x1000, &low.1);
    check_page(source, 0x10_0000, &high.1);
    check_page(source, 0x3000, &page(2));
    check_absent(source, 0);
    check_absent(source, 0x1000 + 20 * 4096 - 4);
    check_absent(source, 0x10_0000 + 2 * 4096 + 996);
    check_absent(source, u64::MAX - 3);
}

#[test]
fn lime_is_read() {
    let dump = lime(*b"EMiL", 1, &two_ranges());
    let mut source = opened(&dump, DetectedFormat::Lime, Lacks::default());
    assert_eq!(source.regions(), [0x1000..0x1_5000, 0x10_0000..0x10_3000]);
    check_two_ranges(&mut source);
    let end = 0x10_0000 + 2 * 4096 + 1000;
    assert_eq!(swept(&mut source), [0x1000..0x1_5000, 0x10_0000..end]);
}

#[test]
fn avml_is_read() {
    let dump = lime(*b"AVML", 2, &two_ranges());
    let mut source = opened(&dump, DetectedFormat::Avml, Lacks::default());
    check_two_ranges(&mut source);
    assert_eq!(swept(&mut source), source.regions());
}

#[test]
fn dumps_that_were_cut_within_a_header_are_unfinished() {
    let unfinished = Lacks { unfinished: true, ..Lacks::default() };
    let [low, _] = two_ranges();
    for (magic, version, format) in
        [(*b"EMiL", 1, DetectedFormat::Lime), (*b"AVML", 2, DetectedFormat::Avml)]
    {
        let whole = lime(magic, version, &two_ranges());
        let first = lime(magic, version, std::slice::from_ref(&low)).len();
        for more in [1, 31] {
            let mut source = opened(&whole[..first + more], format, unfinished);
            check_page(&mut source, 0x1000, &low.1);
        }
    }
    assert!(unfinished.is_damage());
    let avml = lime(*b"AVML", 2, &two_ranges());
    opened(&avml[..avml.len() - 3], DetectedFormat::Avml, unfinished);
}

#[test]
fn lime_that_was_cut_short_reports_what_is_missing() {
    let dump = lime(*b"EMiL", 1, &two_ranges());
    let cut = 32 + 5 * 4096;
    let lacks = Lacks { cut_short: 15 * 4096, ..Lacks::default() };
    let mut source = opened(&dump[..cut], DetectedFormat::Lime, lacks);
    check_page(&mut source, 0x5000, &page(4));
    check_absent(&mut source, 0x6000);
    assert!(lacks.to_string().starts_with("60 KiB of memory are missing"), "{lacks}");
    check_refused(&dump[..32], "no memory");
    check_refused(&dump[..20], "no memory");
    let mut damaged = dump.clone();
    damaged[16..24].fill(0);
    check_refused(&damaged, "ends before it begins");
    let mut damaged = dump;
    damaged[32 + 20 * 4096] = 0;
    let trailing = 32 + 2 * 4096 + 1000;
    let lacks = Lacks { trailing, ..Lacks::default() };
    let mut source = opened(&damaged, DetectedFormat::Lime, lacks);
    check_page(&mut source, 0x5000, &page(4));
    check_absent(&mut source, 0x10_0000);
    assert!(lacks.is_damage());
}

#[test]
fn bytes_behind_a_dump_are_ignored() {
    let digest = [b'a'; 64];
    let noted = Lacks { trailing: 64, ..Lacks::default() };
    assert!(!noted.is_damage());
    assert_eq!(noted.to_string(), "the last 64 bytes of the file are no part of it (ignored)");
    for (magic, version, format) in
        [(*b"EMiL", 1, DetectedFormat::Lime), (*b"AVML", 2, DetectedFormat::Avml)]
    {
        let dump = lime(magic, version, &two_ranges());
        check_two_ranges(&mut opened(&[&dump[..], &digest].concat(), format, noted));
        let mut padded = dump;
        padded.resize(padded.len().next_multiple_of(1 << 20), 0);
        check_two_ranges(&mut opened(&padded, format, Lacks::default()));
    }
    let loads = [(0x10_0000, pages(50..60), 10 * 4096)];
    let core = [&core(&loads, false)[..], &digest].concat();
    check_page(
        &mut opened(&core, DetectedFormat::ElfCore, Lacks::default()),
        0x10_0000,
        &loads[0].1,
    );
}

#[test]
fn a_header_that_comes_too_early_is_found() {
    let ranges = two_ranges();
    let whole = lime(*b"EMiL", 1, &ranges);
    // Writing failed in the sixth page of the first range: its rest is missing.
    let mut dump = whole[..32 + 5 * 4096 + 500].to_vec();
    let second = lime(*b"EMiL", 1, &ranges[1..]);
    dump.extend(&second);
    let skipped = 15 * 4096 - 500;
    let lacks = Lacks { skipped, ..Lacks::default() };
    let mut source = opened(&dump, DetectedFormat::Lime, lacks);
    assert!(lacks.is_damage());
    check_page(&mut source, 0x1000, &pages(0..5));
    check_page(&mut source, 0x10_0000, &ranges[1].1);
    check_absent(&mut source, 0x1000 + 5 * 4096 + 500);
    // A header in the guest's memory changes nothing while the next one is in its place.
    let mut forged = whole;
    let header = lime(*b"EMiL", 1, &[(0x20_0000, vec![1])]);
    forged[5000..5032].copy_from_slice(&header[..32]);
    let mut source = opened(&forged, DetectedFormat::Lime, Lacks::default());
    check_page(&mut source, 0x10_0000, &ranges[1].1);
    check_absent(&mut source, 0x20_0000);
}

/// A header of LiME with the first and last address of its range.
fn lime_header(start: u64, last: u64) -> Vec<u8> {
    let mut header = b"EMiL\x01\0\0\0".to_vec();
    header.extend([start, last, 0].into_iter().flat_map(u64::to_le_bytes));
    header
}

#[test]
fn a_header_in_the_memory_of_a_guest_does_not_win_over_bytes_behind_the_dump() {
    let forged = |last| {
        let mut dump = lime(*b"EMiL", 1, &two_ranges());
        let at = dump.len() - 3000;
        dump[at..at + 32].copy_from_slice(&lime_header(1 << 40, last));
        dump
    };
    // Ranges that end far behind the file, where the next header is due, or with the digest.
    for last in [1 << 50, (1 << 40) + 3000 - 32 - 1, (1 << 40) + 3000 - 32 + 63] {
        for behind in [&[b'a'; 64][..], &[b'a'; 500], &[0; 5000]] {
            let dump = [&forged(last)[..], behind].concat();
            let trailing = if behind[0] == 0 { 0 } else { behind.len() as u64 };
            let lacks = Lacks { trailing, ..Lacks::default() };
            let mut source = opened(&dump, DetectedFormat::Lime, lacks);
            check_absent(&mut source, 1 << 40);
            check_page(&mut source, 0x10_0000, &two_ranges()[1].1[..6000]);
        }
    }
}

#[test]
fn a_range_whose_header_is_damaged_is_counted() {
    let [low, high] = two_ranges();
    let ranges = [low, high.clone(), (0x20_0000, high.1)];
    let mut dump = lime(*b"EMiL", 1, &ranges);
    let second = 32 + 20 * 4096;
    dump[second..second + 32].fill(0);
    let lost = 32 + 2 * 4096 + 1000;
    let lacks = Lacks { lost, ..Lacks::default() };
    let mut source = opened(&dump, DetectedFormat::Lime, lacks);
    assert!(lacks.is_damage());
    assert_eq!(lacks.to_string(), "10 KiB of the file belong to no range: a header is damaged");
    check_page(&mut source, 0x1000, &ranges[0].1);
    check_page(&mut source, 0x20_0000, &ranges[2].1);
    check_absent(&mut source, 0x10_0000);
}

#[test]
fn a_dump_full_of_headers_is_opened_in_one_pass() {
    let mut dump = lime_header(0, u64::from(u32::MAX));
    for start in 0..100_000 {
        dump.extend(lime_header((1 << 40) + start, (1 << 40) + start));
        dump.push(0);
    }
    dump.push(0);
    let cut_short = (1 << 32) - (dump.len() as u64 - 32);
    opened(&dump, DetectedFormat::Lime, Lacks { cut_short, ..Lacks::default() });
}

#[test]
fn a_dump_of_another_version_is_refused_by_its_version() {
    for (magic, version) in [(*b"EMiL", 1_u32), (*b"AVML", 2)] {
        let mut dump = lime(magic, version, &two_ranges());
        dump[4..8].copy_from_slice(&(version + 1).to_le_bytes());
        let words = format!("its version is {}; version {version} is read", version + 1);
        check_refused(&dump, &words);
    }
}

#[test]
fn avml_that_was_cut_short_reports_what_is_missing() {
    let dump = lime(*b"AVML", 2, &two_ranges());
    let source = open(&dump[..dump.len() - 20]).unwrap();
    assert!(source.lacks().cut_short > 0);
    check_refused(&dump[..40], "no memory");
}

#[test]
fn cores_are_read() {
    for many in [false, true] {
        // Out of order, and the same memory twice.
        let loads = [
            (0x10_0000, pages(50..60), 10 * 4096),
            (0x10_2000, pages(52..54), 2 * 4096),
            (0, pages(0..3), 3 * 4096),
            (0x20_0000, pages(70..74), 4096),
        ];
        let lacks = Lacks { left_out: 3 * 4096, ..Lacks::default() };
        let mut source = opened(&core(&loads, many), DetectedFormat::ElfCore, lacks);
        assert_eq!(source.regions(), [0..0x3000, 0x10_0000..0x10_a000, 0x20_0000..0x20_4000]);
        check_page(&mut source, 0, &loads[2].1);
        check_page(&mut source, 0x10_0000, &loads[0].1);
        check_page(&mut source, 0x20_0000, &page(70));
        check_absent(&mut source, 0x20_1000);
        check_absent(&mut source, 0x3000);
    }
}

#[test]
fn a_core_with_more_headers_than_fit_is_read() {
    let loads: Vec<_> = (0..70_000_u64).map(|at| (at * 32, vec![at as u8; 16], 16)).collect();
    let mut source = opened(&core(&loads, true), DetectedFormat::ElfCore, Lacks::default());
    let mut bytes = [0; 16];
    assert!(source.read_exact(PhysicalAddress(69_999 * 32), &mut bytes));
    assert_eq!(bytes, [69_999_u64 as u8; 16]);
    assert!(!source.read_exact(PhysicalAddress(69_999 * 32 - 16), &mut bytes));
}

#[test]
fn invalid_cores_are_refused() {
    let good = core(&[(0, pages(0..2), 8192), (0x8000, pages(8..9), 4096)], false);
    check_refused(&good[..100], "ends before its headers");
    check_refused(&good[..64 + 2 * 56], "no memory");
    let cut = opened(
        &good[..good.len() - 96],
        DetectedFormat::ElfCore,
        Lacks { cut_short: 96, ..Lacks::default() },
    );
    drop(cut);
    let mut process = good.clone();
    process[64 + 56 + 24..64 + 56 + 32].fill(0);
    check_refused(&process, "core of a process");
    let mut big = good.clone();
    big[5] = 2;
    big.swap(16, 17);
    check_refused(&big, "big-endian");
    let mut odd = good;
    odd[54] = 57;
    check_refused(&odd, "invalid size");
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Page {
    None,
    LeftOut,
    Written(Vec<u8>),
}

/// A builder of kdumps.
#[derive(Clone)]
struct Kdump {
    how: BlockCompression,
    block_bytes: usize,
    wide: bool,
    level: u32,
    pages: Vec<Page>,
}

impl Kdump {
    fn flag(&self) -> u32 {
        match self.how {
            BlockCompression::None => 0,
            BlockCompression::Zlib => 1,
            BlockCompression::Lzo => 2,
            BlockCompression::Snappy => 4,
            BlockCompression::Zstd => 0x20,
        }
    }

    fn dump(&self) -> Vec<u8> {
        let block = self.block_bytes;
        let mut header = vec![0; 2 * block];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"KDUMP   \x06\0\0\0");
        put(12 + 4 * 65, if self.wide { b"x86_64" } else { b"i686\0\0" });
        let fields = if self.wide { 424 } else { 412 };
        let bitmap_blocks = self.pages.len().div_ceil(8).div_ceil(block) * 2;
        let values = [1, block as u32, 1, bitmap_blocks as u32, self.pages.len() as u32];
        for (index, value) in values.iter().enumerate() {
            put(fields + index * 4, &value.to_le_bytes());
        }
        put(block + if self.wide { 8 } else { 4 }, &self.level.to_le_bytes());
        let count = (self.pages.len() as u64).to_le_bytes();
        put(block + if self.wide { 96 } else { 72 }, &count);
        let mut bitmaps = vec![0; bitmap_blocks * block];
        let half = bitmaps.len() / 2;
        for (index, page) in self.pages.iter().enumerate() {
            let bit = 1 << (index % 8);
            bitmaps[index / 8] |= if *page == Page::None { 0 } else { bit };
            bitmaps[half + index / 8] |= if matches!(page, Page::Written(_)) { bit } else { 0 };
        }
        let written: Vec<&Vec<u8>> = self
            .pages
            .iter()
            .filter_map(|page| if let Page::Written(bytes) = page { Some(bytes) } else { None })
            .collect();
        let data_at = header.len() + bitmaps.len() + written.len() * 24;
        let (mut descriptors, mut data) = (Vec::new(), vec![0; block]);
        for page in written {
            let zeros = page.iter().all(|byte| *byte == 0);
            let packed = pack(self.how, page);
            let (offset, bytes, flags) = if zeros {
                (data_at, block, 0)
            } else {
                (data_at + data.len(), packed.len(), self.flag())
            };
            descriptors.extend((offset as u64).to_le_bytes());
            descriptors.extend((bytes as u32).to_le_bytes());
            descriptors.extend(flags.to_le_bytes());
            descriptors.extend([0; 8]);
            if !zeros {
                data.extend(packed);
            }
        }
        [header, bitmaps, descriptors, data].concat()
    }
}

fn block(number: u64, bytes: usize) -> Vec<u8> {
    pages(number * 16..number * 16 + 16)[..bytes].to_vec()
}

fn kdump(how: BlockCompression, block_bytes: usize, wide: bool) -> Kdump {
    let mut pages = vec![Page::None; 1000];
    for number in [3, 4, 5, 63, 64, 127, 511, 512, 999] {
        pages[number as usize] = Page::Written(block(number, block_bytes));
    }
    pages[100..300].fill(Page::Written(vec![0; block_bytes]));
    pages[6] = Page::LeftOut;
    Kdump { how, block_bytes, wide, level: 31, pages }
}

fn check_kdump(source: &mut FileSource, block_bytes: usize) {
    let at = |number: u64| number * block_bytes as u64;
    for number in [3, 4, 5, 63, 64, 127, 511, 512, 999] {
        let expected =
            if number == 127 { vec![0; block_bytes] } else { block(number, block_bytes) };
        check_page(source, at(number), &expected[..block_bytes - 100]);
        check_page(source, at(number), &expected);
    }
    let both = [block(3, block_bytes), block(4, block_bytes), block(5, block_bytes)].concat();
    check_page(source, at(3), &both);
    check_page(source, at(150), &vec![0; block_bytes]);
    check_absent(source, at(6));
    check_absent(source, at(2));
    check_absent(source, at(6) - 4);
    check_absent(source, at(1000));
    check_absent(source, u64::MAX - 100);
    let found = swept(source);
    assert_eq!(found, [at(3)..at(6), at(63)..at(65), at(511)..at(513), at(999)..at(1000)]);
    let expected = [3..7, 63..65, 100..300, 511..513, 999..1000];
    let expected: Vec<_> = expected.iter().map(|r| at(r.start)..at(r.end)).collect();
    assert_eq!(source.regions(), expected);
}

const ALL: [BlockCompression; 5] = [
    BlockCompression::None,
    BlockCompression::Zlib,
    BlockCompression::Lzo,
    BlockCompression::Snappy,
    BlockCompression::Zstd,
];

fn one_left_out(block_bytes: usize) -> Lacks {
    Lacks { left_out: block_bytes as u64, ..Lacks::default() }
}

#[test]
fn kdumps_of_every_compression_and_size_are_read() {
    for how in ALL {
        for (block_bytes, wide) in [(4096, true), (4096, false), (16_384, true), (65_536, true)] {
            let dump = kdump(how, block_bytes, wide).dump();
            let mut source = opened(&dump, DetectedFormat::Kdump, one_left_out(block_bytes));
            check_kdump(&mut source, block_bytes);
        }
    }
}

/// The format that makedumpfile writes to a pipe: here in pieces from last to first, with one part
/// written twice.
fn flattened(dump: &[u8]) -> Vec<u8> {
    let mut flat = b"makedumpfile\0\0\0\0".to_vec();
    flat.resize(4096, 0);
    let mut piece = |offset: usize, bytes: &[u8]| {
        flat.extend((offset as i64).to_be_bytes());
        flat.extend((bytes.len() as i64).to_be_bytes());
        flat.extend(bytes);
    };
    piece(40, &[9; 700]);
    for (index, bytes) in dump.chunks(5000).enumerate().skip(1).rev() {
        piece(index * 5000, bytes);
    }
    piece(0, &dump[..3000]);
    piece(100, &dump[100..200]);
    piece(2900, &dump[2900..5000]);
    flat.extend([0xff; 16]);
    flat
}

#[test]
fn flattened_kdumps_are_read() {
    let dump = kdump(BlockCompression::Zlib, 4096, true).dump();
    let flat = flattened(&dump);
    let mut source = opened(&flat, DetectedFormat::Kdump, one_left_out(4096));
    check_kdump(&mut source, 4096);
    let unfinished = Lacks { unfinished: true, ..one_left_out(4096) };
    let mut source = opened(&flat[..flat.len() - 16], DetectedFormat::Kdump, unfinished);
    check_kdump(&mut source, 4096);
    check_refused(&flat[..4096], "ends before its headers");
    check_refused(&flattened(&core(&[(0, pages(0..2), 8192)], false)), "makedumpfile -R");
}

#[test]
fn zeros_that_were_left_out_are_read_as_zeros() {
    let mut dump = kdump(BlockCompression::Lzo, 4096, true);
    dump.level = 1;
    let mut source = opened(&dump.dump(), DetectedFormat::Kdump, Lacks::default());
    check_page(&mut source, 6 * 4096, &[0; 4096]);
    check_page(&mut source, 5 * 4096, &[block(5, 4096), vec![0; 4096]].concat());
    check_absent(&mut source, 7 * 4096);
    check_absent(&mut source, 2 * 4096);
}

#[test]
fn a_kdump_that_was_cut_short_reports_what_is_missing() {
    let whole = kdump(BlockCompression::Snappy, 4096, true);
    let dump = whole.dump();
    let last = pack(BlockCompression::Snappy, &block(999, 4096)).len();
    let lacks = Lacks { cut_short: 4096, ..one_left_out(4096) };
    for cut in [1, last] {
        let mut source = opened(&dump[..dump.len() - cut], DetectedFormat::Kdump, lacks);
        check_page(&mut source, 512 * 4096, &block(512, 4096));
        check_absent(&mut source, 999 * 4096);
    }
    // The file ends behind the bitmaps.
    check_refused(&dump[..4 * 4096], "no memory");
    check_refused(&dump[..4 * 4096 - 1], "ends before its headers");
    check_refused(&dump[..100], "ends before its headers");
}

#[test]
fn pages_that_makedumpfile_did_not_reach_are_missing() {
    let mut dump = kdump(BlockCompression::Snappy, 4096, true).dump();
    // The descriptors of pages 512 and 999 are the last two; the bytes of both exist.
    let bitmaps_end = 4 * 4096;
    let count = 9 + 200 - 1; // page 127 is among those of zeros
    let last = bitmaps_end + (count - 2) * 24;
    dump[last..last + 48].fill(0);
    let lacks = Lacks { cut_short: 2 * 4096, ..one_left_out(4096) };
    let mut source = opened(&dump, DetectedFormat::Kdump, lacks);
    check_page(&mut source, 511 * 4096, &block(511, 4096));
    check_absent(&mut source, 512 * 4096);
    check_absent(&mut source, 999 * 4096);
}

#[test]
fn invalid_kdumps_are_refused() {
    let good = kdump(BlockCompression::Zlib, 4096, true).dump();
    let changed = |at: usize, bytes: &[u8]| {
        let mut dump = good.clone();
        dump[at..at + bytes.len()].copy_from_slice(bytes);
        dump
    };
    check_refused(&changed(0, b"DISKDUMP"), "diskdump");
    check_refused(&changed(428, &5000_u32.to_le_bytes()), "block size");
    check_refused(&changed(432, &[0xff; 4]), "ends before its headers");
    check_refused(&changed(436, &[0xff; 4]), "ends before its headers");
    check_refused(&changed(4096 + 12, &[1]), "one part");
    check_refused(&changed(4096 + 96, &[0; 8]), "no memory");
    // More pages than the bitmaps have bits.
    let mut source =
        opened(&changed(4096 + 96, &[0xff; 8]), DetectedFormat::Kdump, one_left_out(4096));
    check_kdump(&mut source, 4096);
}

#[test]
fn a_damaged_page_fails_and_no_other() {
    let kdump = kdump(BlockCompression::Zlib, 4096, true);
    let mut dump = kdump.dump();
    let length = dump.len();
    dump[length - 30..].fill(0x55);
    let mut source = opened(&dump, DetectedFormat::Kdump, one_left_out(4096));
    let mut requests = [3, 999].map(|page| {
        super::super::ReadRequest::new(PhysicalAddress(page * 4096 + 8), 8, page as u32)
    });
    source.read_batch(&mut requests, &mut [0; 2000]);
    assert_eq!(requests[0].outcome, super::super::ReadOutcome::Read);
    assert_eq!(requests[1].outcome, super::super::ReadOutcome::Failed);
}

#[test]
fn segments_are_cut_at_the_end_and_joined() {
    let piece = |start, bytes, offset, filed| DumpedRange { start, bytes, offset, filed };
    let pieces = vec![
        piece(0x1000, 0x1000, 0x100, 0x1000),
        piece(0x2000, 0x1000, 0x1100, 0x1000),
        piece(0x1800, 0x800, 0x9999, 0x800),
        piece(u64::MAX - 5, 0x1000, 0, 0x1000),
        piece(0x8000, 0x1000, u64::MAX - 5, 0x1000),
        piece(0x9000, 0x3000, 0x2100, 0x2000),
    ];
    let (segments, regions, lacks) = segments(pieces, 0x2900);
    let expected = [
        Segment { physical: 0x1000..0x3000, offset: 0x100 },
        Segment { physical: 0x9000..0x9800, offset: 0x2100 },
    ];
    assert_eq!(segments, expected);
    assert_eq!(regions, [0x1000..0x3000, 0x9000..0xc000]);
    let expected = Lacks { cut_short: 0x1800, left_out: 0x1000, ..Lacks::default() };
    assert_eq!(lacks, expected);
}
