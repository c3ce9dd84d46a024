//! Mapped files compared with a simple model, and under every change that their owners can make.

use std::io::{BufRead as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use panoptes_bounded as bounded;
use proptest::prelude::*;

use super::super::mapping::testing::{fill, memfd, punch};
use super::*;

const PAGE: usize = PAGE_BYTES as usize;

/// The kind of file that holds a test's memory.
#[derive(Clone, Copy, Debug)]
enum Store {
    Memfd,
    /// As on a host without userfaultfd.
    MemfdUnguarded,
    Tmpfs,
    Disk,
}

const STORES: [Store; 4] = [Store::Memfd, Store::MemfdUnguarded, Store::Tmpfs, Store::Disk];

/// A sparse file in which the given pages are full of their own byte.
fn file_with(store: Store, pages: usize, data: &[usize]) -> File {
    let file = match store {
        Store::Memfd | Store::MemfdUnguarded => memfd(0, 0).unwrap(),
        Store::Tmpfs => tempfile::tempfile_in("/dev/shm").unwrap(),
        Store::Disk => tempfile::tempfile().unwrap(),
    };
    file.set_len((pages * PAGE) as u64).unwrap();
    for &page in data {
        touch(&file, page);
    }
    // Blocks on disk are allocated at write-back; their number must not change from here on.
    file.sync_all().unwrap();
    file
}

/// Allocates a page, as a guest does.
fn touch(file: &File, page: usize) {
    file.write_all_at(&page_bytes(page), (page * PAGE) as u64).unwrap();
}

fn page_bytes(page: usize) -> [u8; PAGE] {
    std::array::from_fn(|at| (page * 31 + at / 8 + 1) as u8)
}

fn open(file: &File, layout: Vec<Segment>) -> MappedMemory {
    MappedMemory::from_file(file.try_clone().unwrap(), Path::new("test"), layout).unwrap()
}

fn open_flat(file: &File) -> MappedMemory {
    open_as(Store::Memfd, file)
}

fn open_as(store: Store, file: &File) -> MappedMemory {
    let bytes = file.metadata().unwrap().len();
    let layout = vec![Segment { physical: 0..bytes, offset: 0 }];
    let guarded = !matches!(store, Store::MemfdUnguarded);
    let file = file.try_clone().unwrap();
    MappedMemory::new(file, Path::new("test"), bytes, layout, guarded).unwrap()
}

fn read(source: &mut MappedMemory, address: u64, bytes: usize) -> (ReadOutcome, Vec<u8>) {
    let mut arena = vec![0xee; bytes];
    let mut requests = [ReadRequest::new(PhysicalAddress(address), bytes as u32, 0)];
    source.read_batch(&mut requests, &mut arena);
    (requests[0].outcome, arena)
}

/// Refreshes until nothing is forgotten, which must be the third time.
fn settle(source: &mut MappedMemory) {
    source.refresh().unwrap();
    source.refresh().unwrap();
    assert!(!source.refresh().unwrap());
}

/// All ranges that `next_data` returns.
fn sweep(source: &mut MappedMemory) -> Vec<Range<u64>> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(range) = source.next_data(PhysicalAddress(from)) {
        assert!(range.start >= from && range.end > range.start, "{range:?} from {from}");
        from = range.end;
        found.push(range);
    }
    found
}

#[test]
fn reading_everything_allocates_no_page() {
    for store in STORES {
        let file = file_with(store, 256, &[0, 3, 4, 100, 255]);
        let before = file.metadata().unwrap().blocks();
        let mut source = open_as(store, &file);
        let expected = [0..0x1000, 0x3000..0x5000, 0x6_4000..0x6_5000, 0xf_f000..0x10_0000];
        assert_eq!(sweep(&mut source), expected, "{store:?}");
        for bytes in [1, 64, 4096, 5000, 65_536, 256 * PAGE] {
            let mut arena = vec![0; bytes];
            for address in (0..256 * PAGE).step_by(bytes.clamp(64, PAGE)) {
                source.read_exact(PhysicalAddress(address as u64), &mut arena);
            }
            let mut all: Vec<ReadRequest> = (0..256 * PAGE)
                .step_by(bytes.clamp(64, PAGE))
                .map(|address| ReadRequest::new(PhysicalAddress(address as u64), bytes as u32, 0))
                .collect();
            source.read_batch(&mut all, &mut arena);
        }
        assert_eq!(source.known.count(), 5, "{store:?}");
        assert_eq!(file.metadata().unwrap().blocks(), before, "{store:?} has grown");
        assert_eq!(source.counts().failed, 0);
        assert!(source.counts().holes > 0 && source.counts().slow >= source.counts().holes);
    }
}

#[test]
fn a_page_touched_later_is_found_with_one_lookup() {
    for store in STORES {
        let file = file_with(store, 16, &[1]);
        let mut source = open_as(store, &file);
        assert_eq!(read(&mut source, 0x5000, 16), (ReadOutcome::Read, vec![0; 16]));
        touch(&file, 5);
        for _ in 0..2 {
            let (outcome, bytes) = read(&mut source, 0x5008, 8);
            assert_eq!((outcome, bytes.as_slice()), (ReadOutcome::Read, &page_bytes(5)[8..16]));
        }
        assert_eq!(source.counts().slow, 2, "{store:?}: once as a hole, once as data");
        assert_eq!(source.counts().holes, 1);
    }
}

#[test]
fn a_hole_reads_as_zeros_and_a_partly_backed_request_is_not_backed() {
    let file = file_with(Store::Memfd, 4, &[0, 1]);
    let mut source = open_flat(&file);
    assert_eq!(read(&mut source, 0xff0, 32).0, ReadOutcome::Read);
    let mut expected = page_bytes(1)[0xff0..].to_vec();
    expected.resize(32, 0);
    assert_eq!(read(&mut source, 0x1ff0, 32), (ReadOutcome::Read, expected));
    assert_eq!(read(&mut source, 0x3ff0, 32), (ReadOutcome::NotBacked, vec![0; 32]));
}

#[test]
fn a_copy_that_stores_no_zeros_reads_like_the_original() {
    let original = file_with(Store::Disk, 8, &[1, 2, 4]);
    fill_zeros(&original, 3);
    let copy = file_with(Store::Disk, 8, &[1, 2, 4]);
    let (mut original, mut copy) = (open_flat(&original), open_flat(&copy));
    let everything = read(&mut original, 0, 8 * PAGE);
    assert_eq!(everything.0, ReadOutcome::Read);
    assert_eq!(read(&mut copy, 0, 8 * PAGE), everything);
}

/// Writes a page of zeros, so that it is data and not a hole.
fn fill_zeros(file: &File, page: u64) {
    use std::os::unix::fs::FileExt as _;
    file.write_all_at(&[0; PAGE], page * PAGE_BYTES).unwrap();
}

#[test]
fn a_page_freed_between_two_scans_stays_free() {
    for store in STORES {
        let file = file_with(store, 16, &[1, 2, 3]);
        let mut source = open_as(store, &file);
        settle(&mut source);
        assert_eq!(read(&mut source, 0x2000, 8).0, ReadOutcome::Read);
        // Change times are as coarse as the kernel's tick.
        std::thread::sleep(std::time::Duration::from_millis(20));
        punch(&file, 0x2000, PAGE_BYTES);
        let before = file.metadata().unwrap().blocks();
        let expected = !source.mapping.is_guarded();
        assert_eq!(source.refresh().unwrap(), expected, "{store:?}");
        assert_eq!(read(&mut source, 0x2000, 8), (ReadOutcome::Read, vec![0; 8]));
        assert_eq!(read(&mut source, 0x1000, 8).0, ReadOutcome::Read);
        assert_eq!(file.metadata().unwrap().blocks(), before, "{store:?} has grown");
        settle(&mut source);
    }
}

#[test]
fn a_page_freed_during_a_scan_stays_free_if_the_mapping_is_guarded() {
    let data: Vec<usize> = (0..1024).collect();
    let file = file_with(Store::Memfd, 1024, &data);
    let mut source = open_flat(&file);
    if !source.mapping.is_guarded() {
        panoptes_needs::skip::test("userfaultfd");
        return;
    }
    for page in 0..1024 {
        assert_eq!(read(&mut source, page * PAGE_BYTES, 64).0, ReadOutcome::Read);
    }
    for page in (0..1024).step_by(3) {
        punch(&file, page * PAGE_BYTES, PAGE_BYTES);
    }
    let before = file.metadata().unwrap().blocks();
    for _ in 0..2 {
        for page in 0..1024 {
            let (outcome, bytes) = read(&mut source, page * PAGE_BYTES, 64);
            if page % 3 == 0 {
                assert_eq!((outcome, bytes), (ReadOutcome::Read, vec![0; 64]));
            } else {
                let expected = &page_bytes(page as usize)[..64];
                assert_eq!((outcome, bytes.as_slice()), (ReadOutcome::Read, expected));
            }
        }
        // One request over many holes, with all pages marked as known to hold data.
        source.known.insert_range(0..1024);
        assert_eq!(read(&mut source, 0, 1024 * PAGE).0, ReadOutcome::Read);
    }
    assert_eq!(file.metadata().unwrap().blocks(), before);
    let counts = source.counts();
    // Each hole raises a signal alone, and in each of the two requests over all holes.
    assert_eq!((counts.signals, counts.failed, source.is_truncated()), (342 * 3, 0, false));
    // A page that the guest uses again is read again.
    touch(&file, 3);
    assert_eq!(read(&mut source, 3 * PAGE_BYTES, PAGE).1, page_bytes(3));
}

#[test]
fn writes_to_allocated_pages_do_not_change_the_stamp() {
    // This makes refresh cheap between two scans of a busy guest. Writing with a system call would
    // set the file's times, so a child maps the file, as QEMU does.
    let file = file_with(Store::Memfd, 16, &[1]);
    let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
    let script = "import mmap,sys
f=open(sys.argv[1],'r+b'); m=mmap.mmap(f.fileno(),65536)
for value in 7,8,9:
  m[20480]=value; m[4096]=value; print(flush=True); input()";
    let child = Command::new("python3")
        .args(["-c", script, &path])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        panoptes_needs::skip::test("python3");
        return;
    };
    let mut guest_in = child.stdin.take().unwrap();
    let mut guest_out = bounded::reader(child.stdout.take().unwrap()).lines();
    let mut source = open_as(Store::MemfdUnguarded, &file);
    for (value, expected) in [(7, true), (8, false), (9, false)] {
        guest_out.next().unwrap().unwrap();
        assert_eq!(source.refresh().unwrap(), expected, "{value}");
        settle(&mut source);
        assert_eq!(read(&mut source, 0x5000, 1), (ReadOutcome::Read, vec![value]));
        assert_eq!(read(&mut source, 0x1000, 1), (ReadOutcome::Read, vec![value]));
        guest_in.write_all(b"\n").unwrap();
    }
    assert!(bounded::wait(&mut child).unwrap().success());
}

#[test]
fn a_file_that_shrinks_while_it_is_read_fails_requests_and_no_more() {
    for store in STORES {
        let pages = 512;
        let file = file_with(store, pages, &(0..pages).collect::<Vec<_>>());
        let mut source = open_as(store, &file);
        let stop = AtomicBool::new(false);
        let rounds = AtomicU64::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while rounds.load(Ordering::Relaxed) < 3 {
                    std::thread::yield_now();
                }
                file.set_len((pages / 2 * PAGE) as u64).unwrap();
                stop.store(true, Ordering::Release);
            });
            let mut arena = vec![0; 3 * PAGE];
            let mut failed = 0;
            loop {
                let last = stop.load(Ordering::Acquire);
                for page in 0..pages - 2 {
                    let address = (page * PAGE + 100) as u64;
                    if source.read_exact(PhysicalAddress(address), &mut arena[..2 * PAGE]) {
                        assert_eq!(arena[0], page_bytes(page)[100], "{store:?}");
                        assert_eq!(arena[PAGE], page_bytes(page + 1)[100], "{store:?}");
                    } else {
                        failed += 1;
                    }
                }
                rounds.fetch_add(1, Ordering::Relaxed);
                if last {
                    break;
                }
            }
            assert!(failed >= pages / 2 - 2, "{store:?}: {failed} requests failed");
        });
        assert!(source.is_truncated());
        // The rest is still read, and missing pages are not read as zeros.
        for page in 0..pages {
            let (outcome, bytes) = read(&mut source, (page * PAGE) as u64, PAGE);
            if page < pages / 2 {
                assert_eq!((outcome, bytes.as_slice()), (ReadOutcome::Read, &page_bytes(page)[..]));
            } else {
                assert_eq!(outcome, ReadOutcome::Failed, "{store:?} {page}");
            }
        }
        assert!(source.counts().by_call >= (pages / 2) as u64);
        assert!(source.next_data(PhysicalAddress((pages / 2 * PAGE) as u64)).is_none());
    }
}

#[test]
fn refresh_notices_a_file_that_has_shrunk() {
    let file = file_with(Store::Memfd, 8, &[0, 1, 2, 3]);
    let mut source = open_flat(&file);
    // Not at the end of a page: its rest would read as zeros through the mapping, without a signal.
    file.set_len(0x1800).unwrap();
    source.refresh().unwrap();
    assert!(source.is_truncated());
    assert_eq!(read(&mut source, 0x17f0, 0x10).0, ReadOutcome::Read);
    assert_eq!(read(&mut source, 0x17f0, 0x11).0, ReadOutcome::Failed);
    assert_eq!(read(&mut source, 0x2000, 1).0, ReadOutcome::Failed);
    assert_eq!(source.regions(), [0..0x8000]);
}

#[test]
fn a_hole_behind_the_new_end_fails() {
    let file = file_with(Store::Memfd, 8, &[0]);
    let mut source = open_flat(&file);
    file.set_len(PAGE_BYTES).unwrap();
    assert_eq!(read(&mut source, 0x4000, 8).0, ReadOutcome::Failed);
    assert!(source.is_truncated());
}

#[test]
fn huge_pages_are_mapped_only_if_all_exist() {
    let huge = 2 << 20;
    let Ok(file) = memfd(2 * huge, libc::MFD_HUGETLB) else {
        panoptes_needs::skip::test("huge pages");
        return;
    };
    let mut source = open_flat(&file);
    assert_eq!(read(&mut source, 0, 64), (ReadOutcome::Read, vec![0; 64]));
    assert_eq!(read(&mut source, huge - 8, 64).0, ReadOutcome::Read);
    assert_eq!(file.metadata().unwrap().blocks(), 0);
    assert_eq!(source.counts().by_call, 3, "page by page");
    if fill(&file, 2 * huge).is_err() {
        panoptes_needs::skip::test("huge pages");
        return;
    }
    let mut source = open_flat(&file);
    assert_eq!(read(&mut source, huge - 8, 64), (ReadOutcome::Read, vec![0; 64]));
    assert_eq!(source.counts().by_call, 0);
    file.set_len(huge).unwrap();
    assert_eq!(read(&mut source, huge + 100, 64).0, ReadOutcome::Failed);
    assert_eq!(read(&mut source, huge - 64, 64).0, ReadOutcome::Read);
    assert_eq!((source.counts().signals, source.is_truncated()), (1, true));
}

#[test]
fn a_layout_is_checked() {
    let file = file_with(Store::Memfd, 4, &[]);
    let segment = |physical, offset| Segment { physical, offset };
    let cases = [
        (vec![], 0, LayoutProblem::Missing),
        (vec![segment(0x1000..0x1000, 0)], 0, LayoutProblem::Empty),
        (vec![segment(0..0x1000, 0), segment(0x2000..0x2fff, 0)], 1, LayoutProblem::Unaligned),
        (vec![segment(0..0x1000, 8)], 0, LayoutProblem::Unaligned),
        (vec![segment(0..0x2000, 0), segment(0x1000..0x3000, 0)], 1, LayoutProblem::Unordered),
        (vec![segment(0..0x4000, 0x1000)], 0, LayoutProblem::PastEnd),
        (vec![segment(0..0x4000, !0xfff)], 0, LayoutProblem::PastEnd),
    ];
    for (layout, at, expected) in cases {
        match MappedMemory::from_file(file.try_clone().unwrap(), Path::new("test"), layout) {
            Err(SourceError::Layout { segment, problem }) => {
                assert_eq!((segment, problem), (at, expected));
            }
            other => panic!("{expected:?}: {other:?}"),
        }
    }
}

#[test]
fn memory_goes_on_behind_a_hole() {
    let low = Segment { physical: 0..0x2000, offset: 0 };
    assert_eq!(Segment::around_hole(0x2000, 0x2000, 1 << 32), std::slice::from_ref(&low));
    let high = Segment { physical: 1 << 32..(1 << 32) + 0x1000, offset: 0x2000 };
    let layout = Segment::around_hole(0x3000, 0x2000, 1 << 32);
    assert_eq!(layout, [low, high]);

    let file = file_with(Store::Memfd, 3, &[0, 2]);
    let mut source = open(&file, layout);
    assert_eq!(source.regions(), [0..0x2000, 1 << 32..(1 << 32) + 0x1000]);
    assert_eq!(sweep(&mut source), [0..0x1000, 1 << 32..(1 << 32) + 0x1000]);
    let (outcome, bytes) = read(&mut source, (1 << 32) + 0xff8, 8);
    assert_eq!((outcome, bytes.as_slice()), (ReadOutcome::Read, &page_bytes(2)[0xff8..]));
    assert_eq!(read(&mut source, (1 << 32) + 0xff8, 9).0, ReadOutcome::NotBacked);
    assert_eq!(read(&mut source, 0x2000, 1).0, ReadOutcome::NotBacked);
}

/// A layout of a file of 64 pages: pieces in any order of the file, with or without gaps.
fn layouts() -> impl Strategy<Value = Vec<Segment>> {
    prop::collection::vec((0_u64..3, 1_u64..8, 0_u64..56), 1..5).prop_map(|pieces| {
        let mut end = 0;
        let mut layout = Vec::new();
        for (gap, pages, offset) in pieces {
            let start = end + gap * PAGE_BYTES;
            end = start + pages * PAGE_BYTES;
            layout.push(Segment { physical: start..end, offset: offset * PAGE_BYTES });
        }
        layout
    })
}

/// Requests in and around 32 pages, sometimes far outside.
fn requests() -> impl Strategy<Value = Vec<(u64, u32, u32)>> {
    let address = prop_oneof![
        8 => 0..40 * PAGE_BYTES,
        4 => (0_u64..40, 0_u64..32)
            .prop_map(|(page, back)| (page * PAGE_BYTES + 16).saturating_sub(back)),
        1 => (0_u64..20).prop_map(|back| u64::MAX - back),
        1 => any::<u64>(),
    ];
    let length = prop_oneof![8 => 0_u32..300, 2 => 0_u32..20_000, 1 => any::<u32>()];
    let target = prop_oneof![8 => 0_u32..0x8000, 1 => any::<u32>()];
    prop::collection::vec((address, length, target), 1..60)
}

proptest! {
    #[test]
    fn a_mapped_file_is_like_a_list_of_pages(
        layout in layouts(),
        data in prop::collection::vec(any::<bool>(), 64),
        later in 0_usize..64,
        requests in requests(),
    ) {
        let mut data: Vec<usize> = (0..64).filter(|page| data[*page]).collect();
        let file = file_with(Store::Memfd, 64, &data);
        let mut source = open(&file, layout.clone());
        touch(&file, later);
        data.push(later);

        let byte_at = |address: u64| {
            let segment = layout.iter().find(|segment| segment.physical.contains(&address))?;
            let at = (segment.offset + address - segment.physical.start) as usize;
            // A hole reads as zeros.
            let there = data.contains(&(at / PAGE));
            Some(if there { page_bytes(at / PAGE)[at % PAGE] } else { 0 })
        };
        let is_data = |address: u64| {
            let segment = layout.iter().find(|segment| segment.physical.contains(&address));
            segment.is_some_and(|segment| {
                let at = (segment.offset + address - segment.physical.start) as usize;
                data.contains(&(at / PAGE))
            })
        };
        let mut expected_arena = vec![0xee; 0xa000];
        let mut expected_outcomes = Vec::new();
        for &(address, length, target) in &requests {
            let (start, end) = (target as usize, target as usize + length as usize);
            if end > expected_arena.len() {
                expected_outcomes.push(ReadOutcome::Failed);
                continue;
            }
            let bytes: Option<Vec<u8>> = (0..u64::from(length))
                .map(|at| byte_at(address.checked_add(at)?))
                .collect();
            expected_outcomes.push(if bytes.is_some() {
                ReadOutcome::Read
            } else {
                ReadOutcome::NotBacked
            });
            let bytes = bytes.unwrap_or_else(|| vec![0; length as usize]);
            expected_arena[start..end].copy_from_slice(&bytes);
        }

        let mut batch: Vec<ReadRequest> = requests
            .iter()
            .map(|&(address, length, target)| {
                ReadRequest::new(PhysicalAddress(address), length, target)
            })
            .collect();
        let mut arena = vec![0xee; expected_arena.len()];
        source.read_batch(&mut batch, &mut arena);
        let outcomes: Vec<ReadOutcome> = batch.iter().map(|request| request.outcome).collect();
        prop_assert_eq!(outcomes, expected_outcomes);
        prop_assert!(arena == expected_arena);
        prop_assert_eq!(source.counts().failed, 0, "only targets were wrong");

        // A sweep finds each existing byte once, and no other.
        let mut swept = 0;
        for range in sweep(&mut source) {
            for address in range.step_by(PAGE) {
                prop_assert!(is_data(address));
                swept += 1;
            }
        }
        let there = (0..64 * PAGE_BYTES).step_by(PAGE).filter(|at| is_data(*at)).count();
        prop_assert_eq!(swept, there);
    }
}

/// Prints the cost of a request:
/// `cargo test --release -p panoptes-engine measure_ -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement, on 1 GiB"]
fn measure_random_requests() {
    const BYTES: u64 = 1 << 30;
    const BATCH: usize = 1 << 15;
    let chunk: Vec<u8> = (0..1 << 20).map(|at| (at * 7) as u8).collect();
    for store in [Store::Memfd, Store::MemfdUnguarded, Store::Disk] {
        let mut file = file_with(store, 0, &[]);
        for _ in 0..BYTES >> 20 {
            file.write_all(&chunk).unwrap();
        }
        let mut source = open_as(store, &file);
        settle(&mut source);
        let start = Instant::now();
        assert!(!source.refresh().unwrap());
        println!("{store:?}: refresh {:?}", start.elapsed());
        for state in ["not mapped yet", "mapped but forgotten", "known"] {
            let start = Instant::now();
            let pages = 1 << 14;
            for page in 0..pages {
                let address = PhysicalAddress(page * 12_345 % (BYTES / PAGE_BYTES) * PAGE_BYTES);
                assert!(source.read_exact(address, &mut [0; 64]));
            }
            println!("{store:?}: a page {state} {:?}", start.elapsed() / pages as u32);
            if state == "not mapped yet" {
                source.known.clear();
            }
        }
        let start = Instant::now();
        sweep(&mut source);
        println!("{store:?}: all extents {:?}", start.elapsed());
        let mut arena = vec![0; BATCH * 256];
        let start = Instant::now();
        for address in (0..BYTES).step_by(arena.len()) {
            assert!(source.read_exact(PhysicalAddress(address), &mut arena));
        }
        let gbs = BYTES as f64 / start.elapsed().as_secs_f64() / 1e9;
        println!("{store:?}: first sweep {gbs:.1} GB/s");
        for bytes in [64_u32, 128, 256, 4096] {
            let costs = [
                measure::<0>(&mut source, bytes, &mut arena),
                measure::<8>(&mut source, bytes, &mut arena),
                measure::<16>(&mut source, bytes, &mut arena),
                measure::<32>(&mut source, bytes, &mut arena),
                measure::<64>(&mut source, bytes, &mut arena),
            ];
            let costs = costs.map(|ns| format!("{ns:.1}")).join(" / ");
            println!("{store:?}: {bytes} bytes, prefetch 0 / 8 / 16 / 32 / 64 ahead: {costs} ns");
        }
    }
}

/// Nanoseconds for each of a million requests at random addresses, the best of five rounds.
fn measure<const AHEAD: usize>(source: &mut MappedMemory, bytes: u32, arena: &mut [u8]) -> f64 {
    let count = (arena.len() / bytes as usize).min(1 << 15);
    let batches = (1 << 20) / count;
    let mut random = 0x1234_5678_9abc_def1_u64;
    let mut best = f64::MAX;
    for _ in 0..5 {
        let mut total = 0.0;
        for _ in 0..batches {
            let mut requests: Vec<ReadRequest> = (0..count as u32)
                .map(|index| {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    let unit = u64::from(bytes.max(64));
                    let address = random % (source.bytes / unit) * unit;
                    ReadRequest::new(PhysicalAddress(address), bytes, index * bytes)
                })
                .collect();
            let start = Instant::now();
            source.read_ahead::<AHEAD>(&mut requests, arena);
            total += start.elapsed().as_secs_f64();
            assert!(requests.iter().all(|request| request.outcome == ReadOutcome::Read));
        }
        best = f64::min(best, total * 1e9 / (batches * count) as f64);
    }
    best
}

#[test]
fn a_file_of_nothing_but_memory_can_be_moved() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&page_bytes(1)).unwrap();
    file.write_all(&page_bytes(2)).unwrap();
    let mut source = MappedMemory::open(file.path()).unwrap();
    assert!(source.move_by(0));
    assert!(source.move_by(0x4000_0000));
    assert_eq!(source.regions(), [0x4000_0000..0x4000_2000]);
    assert_eq!(sweep(&mut source), [0x4000_0000..0x4000_2000]);
    assert_eq!(read(&mut source, 0x4000_1000, PAGE), (ReadOutcome::Read, page_bytes(2).to_vec()));
    assert_eq!(read(&mut source, 0x1000, 8).0, ReadOutcome::NotBacked);
    // Not by parts of pages, nor beyond the end of the address space.
    assert!(!source.move_by(12));
    assert!(!source.move_by(u64::MAX - 0x4000_1fff));
    assert!(source.move_by(0x4000_0000_u64.wrapping_neg()));
    assert_eq!(source.regions(), [0..0x2000]);
    let layout = vec![Segment { physical: 0x1000..0x2000, offset: 0 }];
    let mut source = open(file.as_file(), layout);
    assert!(!source.move_by(0x1000));
}

#[test]
fn layouts_of_large_files_go_around_the_hole_that_machines_have() {
    let lows = |bytes: u64| -> Vec<u64> {
        layouts_of(bytes)
            .map(|layout| {
                let total: u64 = layout.iter().map(|s| s.physical.end - s.physical.start).sum();
                assert_eq!(total, bytes);
                check_layout(&layout, bytes).unwrap();
                assert!(layout.len() == 1 || layout[1].physical.start == 1 << 32);
                layout[0].physical.end
            })
            .collect()
    };
    let (q35, i440fx, flat) = (0x8000_0000, 0xc000_0000, |bytes| bytes);
    assert_eq!(lows(1 << 30), [1 << 30]);
    assert_eq!(lows(0xafff_f000), [0xafff_f000]);
    assert_eq!(lows(0xb000_0000), [q35, 0xb000_0000]);
    assert_eq!(lows(0xc000_0000), [q35, flat(0xc000_0000)]);
    assert_eq!(lows(4 << 30), [q35, i440fx, 0xd000_0000, 0xe000_0000, flat(4 << 30)]);
}

#[test]
fn a_layout_can_be_chosen_for_a_file_without_headers() {
    const BYTES: u64 = 0xb000_0000;
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(BYTES).unwrap();
    file.as_file().write_all_at(&page_bytes(3), 0x8000_0000).unwrap();
    let mut source = MappedMemory::open(file.path()).unwrap();
    assert_eq!(source.layouts(), 2);
    assert_eq!(source.regions(), [0..0x8000_0000, 0x1_0000_0000..0x1_3000_0000]);
    assert_eq!(read(&mut source, 0x1_0000_0000, PAGE), (ReadOutcome::Read, page_bytes(3).to_vec()));
    assert_eq!(read(&mut source, 0x8000_0000, PAGE).0, ReadOutcome::NotBacked);
    source.choose_layout(1);
    assert_eq!(source.regions(), [0..BYTES]);
    assert_eq!(read(&mut source, 0x8000_0000, PAGE), (ReadOutcome::Read, page_bytes(3).to_vec()));
    source.choose_layout(7);
    assert_eq!(source.regions(), [0..BYTES]);
    let layout = vec![Segment { physical: 0x1000..BYTES, offset: 0x1000 }];
    let mut source = open(file.as_file(), layout);
    assert_eq!(source.layouts(), 1);
    source.choose_layout(0);
    assert_eq!(source.regions(), [0x1000..BYTES]);
}
