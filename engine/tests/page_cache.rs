//! Files in the page cache of a handmade machine: whole, partial, damaged, and changing while they
//! are read.
#![allow(clippy::unwrap_used, reason = "a test may")]

#[path = "common/cached.rs"]
mod cached;

use std::cell::RefCell;
use std::ops::Range;

use cached::{Cached, DIRECT_MAP, EXT4, HUGETLBFS, INODE, MAPPING, OverlayFields, PAGE, TMPFS};
use panoptes_decoders::kernel::ovl_inode::OvlInode;
use panoptes_decoders::layout::Layout as _;
use panoptes_decoders::source::{MemorySource, ReadRequest};
use panoptes_engine::limits::Limits;
use panoptes_engine::page_cache::{
    Asker, BestMatch, ContentFacts, ContentFormat, Contents, ElfKind, HashOutcome, PageDigest,
    PageMatcher, Partial,
};
use panoptes_engine::time::Monotonic;
use panoptes_tables::HashKey;
use sha2::{Digest as _, Sha256};

/// Number of slices that is enough for any file here.
const SLICES_MAX: u32 = 20_000;

fn content(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at / 7 + (at >> 12) * 31) as u8).collect()
}

fn limits() -> Limits {
    Limits { processes: 16, ..Limits::default() }
}

fn work(contents: &mut Contents, machine: &mut Cached, judge: &dyn PageMatcher) {
    let kernel = machine.kernel.clone();
    for _ in 0..SLICES_MAX {
        if !contents.has_work() {
            return;
        }
        contents.work(machine, &kernel, 64 << 10, judge);
    }
    panic!("the work does not end");
}

fn known_by(machine: &mut Cached, judge: &dyn PageMatcher) -> ContentFacts {
    let mut contents = Contents::new(&limits(), HashKey::new(5));
    assert_eq!(contents.ask(&machine.file), None);
    work(&mut contents, machine, judge);
    *contents.get(&machine.file).unwrap()
}

fn known(machine: &mut Cached) -> ContentFacts {
    known_by(machine, &())
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn assert_whole(machine: &mut Cached, expected: &[u8]) {
    let hashes = known(machine).hashes();
    assert_eq!(hashes.map(|hashes| hashes.sha256), Some(sha256(expected)));
}

fn assert_partial(machine: &mut Cached, resident: u32, pages: u32) {
    let partial = Partial { pages, resident, best_match: None };
    assert_eq!(known(machine).outcome, HashOutcome::Partial(partial));
}

#[test]
fn files_of_all_sizes_are_hashed() {
    for bytes in [1, 15, 4095, 4096, 4097, 8192, 262_144, 262_145, 64 * PAGE + 5, 300 * PAGE + 77] {
        let content = content(bytes);
        assert_whole(&mut Cached::whole(&content, EXT4), &content);
    }
    // More pages than a node holds, so the tree has two levels.
    let content = content(4 << 20 | 5);
    assert_whole(&mut Cached::whole(&content, TMPFS), &content);
}

/// Without the types of the module, an inode of a layer is trusted only if it has the same times.
#[test]
fn a_file_of_an_overlay_with_attributes_of_its_own_needs_the_types_of_the_module() {
    let content = content(5000);
    let mut same = Cached::whole(&content, EXT4);
    same.lay_over(1_600_000_000);
    assert_whole(&mut same, &content);
    let mut other = Cached::whole(&content, EXT4);
    other.lay_over(1_650_000_000);
    assert_eq!(known(&mut other).hashes(), None);
    for machine in [&mut same, &mut other] {
        machine.kernel.layouts.ovl_inode = Some(OvlInode::bind(&OverlayFields).unwrap());
        assert_whole(machine, &content);
    }
}

/// `PROC_SUPER_MAGIC`
const PROC: u64 = 0x9fa0;

#[test]
fn an_empty_file_has_the_hash_of_nothing_unless_its_content_is_made_up() {
    let empty = known(&mut Cached::new(0, EXT4));
    assert_eq!(empty.hashes().map(|hashes| hashes.sha256), Some(sha256(b"")));
    assert_eq!(empty.format, ContentFormat::Other);
    assert_eq!(known(&mut Cached::new(0, PROC)).outcome, HashOutcome::Nothing);
}

#[test]
fn large_pages_are_found_at_each_of_their_indices() {
    // 4 + 1 + 64 + 8 pages, in one level and in two.
    let bytes = content(77 * PAGE - 9);
    for shift in [0, 4096] {
        let mut machine = Cached::new(((shift + 77) * PAGE - 9) as u64, TMPFS);
        let part =
            |range: Range<usize>| &bytes[range.start * PAGE..bytes.len().min(range.end * PAGE)];
        let shift = shift as u64;
        machine.add(shift, 2, part(0..4));
        machine.add(shift + 4, 2, part(4..8));
        machine.add(shift + 8, 3, part(8..16));
        machine.add(shift + 16, 4, part(16..32));
        machine.add(shift + 32, 5, part(32..64));
        machine.add(shift + 64, 3, part(64..72));
        machine.add(shift + 72, 3, part(72..77));
        machine.plant();
        let mut expected = vec![0; shift as usize * PAGE];
        expected.extend(&bytes);
        assert_whole(&mut machine, &expected);
    }
}

#[test]
fn huge_pages_count_in_pages_or_in_huge_pages() {
    let bytes = content(2 << 20);
    for in_pages in [true, false] {
        let mut machine = Cached::new(6 << 20, HUGETLBFS);
        for (number, fill) in [(0_u64, 1_u8), (2, 3)] {
            let bytes: Vec<u8> = bytes.iter().map(|byte| byte.wrapping_mul(fill)).collect();
            let index = if in_pages { number * 512 } else { number };
            if in_pages {
                machine.add(index, 9, &bytes);
            } else {
                let head = machine.add(number * 512, 9, &bytes);
                machine.remove(number * 512);
                machine.set(head, "page", "index", index);
                machine.add_entry(index, DIRECT_MAP + head);
            }
        }
        machine.plant();
        let mut expected = bytes.clone();
        expected.extend(vec![0; 2 << 20]);
        expected.extend(bytes.iter().map(|byte| byte.wrapping_mul(3)));
        assert_whole(&mut machine, &expected);
    }
}

#[test]
fn the_type_of_an_elf_file_is_detected() {
    let mut content = content(5000);
    content[..20].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\x3e\0");
    let kind = known(&mut Cached::whole(&content, EXT4)).format;
    assert_eq!(kind, ContentFormat::Elf(ElfKind::SharedObject));
    content[16] = 2;
    let mut machine = Cached::whole(&content, EXT4);
    assert_eq!(known(&mut machine).format, ContentFormat::Elf(ElfKind::Executable));
    machine.remove(0);
    machine.plant();
    assert_eq!(known(&mut machine).format, ContentFormat::Unknown);
}

/// Records its input.
#[derive(Default)]
struct Note(RefCell<Vec<(u32, PageDigest)>>);

impl PageMatcher for Note {
    fn best_match(&self, size: u64, pages: &[(u32, PageDigest)]) -> Option<BestMatch> {
        assert_eq!(size, 10 * PAGE as u64 - 3);
        *self.0.borrow_mut() = pages.to_vec();
        Some(BestMatch { shipped: 7, compared: pages.len() as u32, differing: 1 })
    }
}

#[test]
fn a_partial_file_is_compared_page_by_page() {
    let content = content(10 * PAGE - 3);
    let mut machine = Cached::whole(&content, EXT4);
    for index in [0, 4, 5] {
        machine.remove(index);
    }
    machine.plant();
    let note = Note::default();
    let known = known_by(&mut machine, &note);
    let best_match = Some(BestMatch { shipped: 7, compared: 7, differing: 1 });
    assert_eq!(known.outcome, HashOutcome::Partial(Partial { pages: 10, resident: 7, best_match }));
    let expected: Vec<(u32, PageDigest)> = (0..)
        .zip(content.chunks(PAGE))
        .filter(|(index, _)| ![0, 4, 5].contains(index))
        .map(|(index, page)| (index, sha256(page)[..16].try_into().unwrap()))
        .collect();
    assert_eq!(*note.0.borrow(), expected);
}

#[test]
fn pages_that_do_not_count_are_missing() {
    let bytes = content(3 * PAGE);
    let damaged = |damage: &dyn Fn(&mut Cached, u64)| {
        let mut machine = Cached::new(bytes.len() as u64, EXT4);
        for (index, page) in (0..3).zip(bytes.chunks(PAGE)) {
            let head = machine.add(index, 0, page);
            if index == 1 {
                damage(&mut machine, head);
            }
        }
        machine.plant();
        machine
    };
    assert_whole(&mut damaged(&|_, _| ()), &bytes);
    // Not up to date; of another file; at another index; a tail of another page.
    for (field, value) in [
        ("flags", 0),
        ("mapping", DIRECT_MAP + INODE),
        ("index", 2),
        ("compound_head", (DIRECT_MAP + 0x10_0000) | 1),
    ] {
        let mut machine = damaged(&|machine, head| machine.set(head, "page", field, value));
        assert_partial(&mut machine, 2, 3);
    }
    // Evicted, in swap, being changed, and entries that are not pages.
    for entry in [0x1234_5671, 256 << 2 | 2, DIRECT_MAP + 0x10_0020, DIRECT_MAP - 64, 1 << 40] {
        let mut machine = damaged(&|machine, _| machine.add_entry(1, entry));
        machine.plant();
        assert_partial(&mut machine, 2, 3);
    }
    // On a filesystem in memory, pages that were never written are zeros, and pages in swap are
    // missing.
    let mut machine = Cached::whole(&bytes, TMPFS);
    machine.remove(1);
    machine.plant();
    let expected = [&bytes[..PAGE], &[0; PAGE], &bytes[2 * PAGE..]].concat();
    assert_whole(&mut machine, &expected);
    machine.add_entry(1, 0x1234_5671);
    machine.plant();
    assert_partial(&mut machine, 2, 3);
}

#[test]
fn false_claims_cost_nothing() {
    // A size larger than any memory, with some pages and with none.
    for size in [1 << 60, u64::MAX, (64 << 30) + 1] {
        let mut machine = Cached::new(size, TMPFS);
        machine.add(0, 0, &[1; PAGE]);
        machine.plant();
        assert_eq!(known(&mut machine).outcome, HashOutcome::Nothing);
    }
    // A large file with few pages in memory: empty parts of the tree are skipped.
    let mut machine = Cached::new(64 << 30, EXT4);
    machine.add(3, 0, &[1; PAGE]);
    machine.add((32 << 30) / PAGE as u64, 0, &[2; PAGE]);
    machine.plant();
    assert_partial(&mut machine, 2, 16 << 20);
    assert!(machine.batches < 200, "{} batches", machine.batches);
    // The largest possible number of pages.
    let bytes = content(2 * PAGE);
    let mut machine = Cached::whole(&bytes, EXT4);
    machine.set(MAPPING, "address_space", "nrpages", u64::MAX);
    assert_whole(&mut machine, &bytes);
    // A node that is its own child, and nodes with an impossible shift.
    for shift in [6, 12, 60, 63, 255] {
        let mut machine = Cached::whole(&content(100 * PAGE), EXT4);
        machine.set(0x2_0000, "xa_node", "shift", shift);
        for slot in 0..64 {
            let at = 0x2_0000 + 40 + slot * 8;
            machine.memory[at..at + 8].copy_from_slice(&(DIRECT_MAP + 0x2_0002).to_le_bytes());
        }
        assert_eq!(known(&mut machine).outcome, HashOutcome::Nothing);
    }
}

#[test]
fn a_file_with_another_identity_has_no_hash() {
    let bytes = content(5 * PAGE);
    for (field, value) in
        [("i_size", 5), ("i_ino", 5), ("i_mtime_nsec", 9), ("i_ctime_sec", 9), ("i_mode", 0o40_755)]
    {
        let mut machine = Cached::whole(&bytes, EXT4);
        machine.set(INODE, "inode", field, value);
        assert_eq!(known(&mut machine).outcome, HashOutcome::Nothing, "{field}");
    }
}

/// A machine that changes after `after` batches.
struct Changing<F> {
    machine: Cached,
    after: u64,
    change: F,
}

impl<F: FnMut(&mut Cached)> MemorySource for Changing<F> {
    fn read_batch(&mut self, requests: &mut [ReadRequest], arena: &mut [u8]) {
        if self.machine.batches >= self.after {
            (self.change)(&mut self.machine);
        }
        self.machine.read_batch(requests, arena);
    }

    fn regions(&self) -> &[Range<u64>] {
        &[]
    }
}

/// If a file changes while it is read, its hash is that of the old content or missing.
#[test]
fn no_hash_is_of_a_content_that_never_existed() {
    let bytes = content(70 * PAGE);
    let mut other = bytes.clone();
    other[66 * PAGE..67 * PAGE].fill(9);
    let mut outcomes = [0; 3];
    for after in 0..80 {
        let machine = Cached::whole(&bytes, EXT4);
        let (kernel, file) = (machine.kernel.clone(), machine.file);
        // Page 66 is replaced by another with other content, and the inode's time changes.
        let change = |machine: &mut Cached| {
            machine.add(66, 0, &[9; PAGE]);
            machine.plant();
            machine.set(INODE, "inode", "i_mtime_nsec", 6);
        };
        let mut change = Some(change);
        let mut source = Changing {
            machine,
            after,
            change: |machine: &mut Cached| {
                if let Some(change) = change.take() {
                    change(machine);
                }
            },
        };
        let mut contents = Contents::new(&limits(), HashKey::new(5));
        contents.ask(&file);
        while contents.has_work() {
            contents.work(&mut source, &kernel, 1 << 20, &());
        }
        let hashes = contents.get(&file).unwrap().hashes().map(|hashes| hashes.sha256);
        let outcome = match hashes {
            None => 0,
            Some(hash) if hash == sha256(&bytes) => 1,
            Some(_) => 2,
        };
        outcomes[outcome] += 1;
    }
    assert!(outcomes[0] > 10 && outcomes[1] > 10 && outcomes[2] == 0, "{outcomes:?}");
}

#[test]
fn partial_files_are_retried_with_back_off() {
    let bytes = content(3 * PAGE);
    let mut machine = Cached::whole(&bytes, EXT4);
    machine.remove(1);
    machine.plant();
    let mut contents = Contents::new(&limits(), HashKey::new(5));
    let mut tries = Vec::new();
    for scan in 0..2000_u32 {
        contents.begin_scan(Monotonic::from_ns(i64::from(scan) * 10_000_000));
        contents.ask(&machine.file);
        if contents.has_work() {
            tries.push(scan);
            work(&mut contents, &mut machine, &());
        }
        if scan == 1500 {
            machine.add(1, 0, &bytes[PAGE..2 * PAGE]);
            machine.plant();
        }
    }
    assert_eq!(tries, [0, 16, 80, 336, 1360]);
    for scan in 2000..7000 {
        contents.begin_scan(Monotonic::from_ns(scan * 10_000_000));
        contents.ask(&machine.file);
        work(&mut contents, &mut machine, &());
    }
    assert!(contents.get(&machine.file).unwrap().hashes().is_some());
}

/// The back-off counted scans, so a service with few scans waited for hours.
#[test]
fn partial_files_are_retried_as_soon_with_few_scans() {
    let mut machine = Cached::whole(&content(3 * PAGE), EXT4);
    machine.remove(1);
    machine.plant();
    let mut contents = Contents::new(&limits(), HashKey::new(5));
    let mut tries = Vec::new();
    for second in 0..100 {
        contents.begin_scan(Monotonic::from_ns(second * 1_000_000_000));
        contents.ask(&machine.file);
        if contents.has_work() {
            tries.push(second);
            work(&mut contents, &mut machine, &());
        }
    }
    assert_eq!(tries, [0, 1, 2, 5, 16, 57]);
}

/// Two contents may have the same times.
#[test]
fn a_doubted_content_is_read_again() {
    let mut machine = Cached::whole(&content(PAGE), EXT4);
    let mut contents = Contents::new(&limits(), HashKey::new(5));
    let file = machine.file;
    contents.begin_scan(Monotonic::default());
    contents.ask(&file);
    work(&mut contents, &mut machine, &());
    let known = contents.ask(&file).copied();
    assert!(known.is_some());
    let mut scan = |is_set: bool| {
        contents.begin_scan(Monotonic::default());
        if is_set {
            contents.doubt();
        }
        let answer = contents.ask(&file).copied();
        assert!(answer.is_none() || answer == known);
        assert_eq!(
            (contents.get(&file), contents.get_last(&file)),
            (answer.as_ref(), known.as_ref())
        );
        assert_eq!(contents.has_work(), answer.is_none());
        work(&mut contents, &mut machine, &());
        assert_eq!(contents.ask(&file).copied(), known, "it was read since");
        answer.is_some()
    };
    assert_eq!([false, true, false, false].map(&mut scan), [true, false, true, true]);
    // A clock that is set without end.
    assert_eq!([true; 12].map(&mut scan).map(u8::from), [0, 0, 0, 1, 1, 1, 0, 1, 1, 1, 0, 1]);
    assert_eq!([false, false, false, true, false].map(scan), [true, true, false, false, true]);
}

#[test]
fn a_content_that_is_doubted_while_it_is_read_is_read_again() {
    let mut machine = Cached::whole(&content(300 * PAGE), EXT4);
    let mut contents = Contents::new(&limits(), HashKey::new(5));
    let file = machine.file;
    contents.begin_scan(Monotonic::default());
    contents.ask(&file);
    let kernel = machine.kernel.clone();
    contents.work(&mut machine, &kernel, 64 << 10, &());
    contents.begin_scan(Monotonic::default());
    contents.doubt();
    assert_eq!(contents.ask(&file), None);
    work(&mut contents, &mut machine, &());
    assert_eq!(contents.finished(), 1);
    assert_eq!(contents.ask(&file), None, "reading began before");
    work(&mut contents, &mut machine, &());
    assert!(contents.ask(&file).is_some());
}

/// The files of one process must not take the places of all others'.
#[test]
fn a_process_that_asks_for_very_many_files_leaves_room_for_others() {
    let machine = Cached::whole(&content(PAGE), EXT4);
    let mut contents = Contents::new(&limits(), HashKey::new(5));
    let capacity = limits().contents_max() as u64;
    let file = |number| {
        let mut file = machine.file;
        file.number += number;
        file
    };
    contents.begin_scan(Monotonic::default());
    for number in 0..2 * capacity {
        contents.ask_for(&file(number), Asker { process_id: 7, group: 1000 });
    }
    let refused = |contents: &mut Contents| {
        let lost = contents.refused();
        (lost.missed(), lost.process_id())
    };
    let expected = (capacity + capacity / 8, Some(7));
    assert_eq!(refused(&mut contents), expected);
    // Others find room in the same scan.
    for number in 0..capacity / 8 {
        let asker = Asker { process_id: 100 + number as u32, group: number % 2 };
        contents.ask_for(&file(2 * capacity + number), asker);
    }
    assert_eq!(refused(&mut contents), expected);
}

/// One user's processes, each with few files, took the places of all other users'.
#[test]
fn files_of_the_processes_of_one_user_leave_room_for_those_of_others() {
    let machine = Cached::whole(&content(PAGE), EXT4);
    let mut contents = Contents::new(&limits(), HashKey::new(5));
    let capacity = limits().contents_max() as u64;
    let file = |number| {
        let mut file = machine.file;
        file.number += number;
        file
    };
    contents.begin_scan(Monotonic::default());
    for number in 0..2 * capacity {
        contents.ask_for(&file(number), Asker { process_id: 100 + number as u32, group: 1000 });
    }
    let refused = contents.refused().missed();
    assert_eq!(refused, capacity + capacity / 8);
    for number in 0..capacity / 8 {
        let asker = Asker { process_id: 7 + number as u32 % 2, group: number % 2 };
        contents.ask_for(&file(2 * capacity + number), asker);
    }
    assert_eq!(contents.refused().missed(), refused);
}

#[test]
fn files_that_are_not_requested_are_evicted() {
    let bytes = content(PAGE);
    let mut machine = Cached::whole(&bytes, EXT4);
    let mut contents = Contents::new(&limits(), HashKey::new(5));
    let capacity = limits().contents_max() as u64;
    let mut files: Vec<_> = (0..capacity + 10)
        .map(|number| {
            let mut file = machine.file;
            file.number += number;
            file
        })
        .collect();
    contents.begin_scan(Monotonic::default());
    for file in &files {
        contents.ask(file);
    }
    // Files requested later in the same scan evict no file.
    assert_eq!(contents.refused().missed(), 10);
    work(&mut contents, &mut machine, &());
    assert!(contents.get(&files[0]).unwrap().hashes().is_some());
    for _ in 0..5 {
        contents.begin_scan(Monotonic::default());
        contents.ask(&files[0]);
    }
    for file in files.split_off(capacity as usize) {
        assert_eq!(contents.ask(&file), None);
    }
    assert_eq!(contents.refused().standing(), 0);
    assert!(contents.get(&files[0]).unwrap().hashes().is_some(), "it was requested");
    assert_eq!(contents.get(&files[1]), None, "it was not requested");
    work(&mut contents, &mut machine, &());
    contents.forget();
    assert_eq!(contents.get(&files[0]), None);
    assert!(!contents.has_work());
}

/// The reasons why the machine's file is not known whole: the most frequent ones, and its own.
fn stops(machine: &mut Cached) -> (Vec<String>, Option<String>) {
    let mut contents = Contents::new(&limits(), HashKey::new(5));
    assert_eq!(contents.ask(&machine.file), None);
    work(&mut contents, machine, &());
    let all = contents.frequent_stops();
    assert!(all.iter().all(|stop| stop.count == 1));
    let own = contents.stop(&machine.file).map(|stop| stop.to_string());
    (all.iter().map(ToString::to_string).collect(), own)
}

#[test]
fn a_file_that_is_given_up_has_its_reason() {
    let content = content(80 * PAGE);
    let whole = Cached::whole(&content, EXT4);
    assert_eq!(stops(&mut whole.clone()), (vec![], None));
    let expected =
        |reason: &str| (vec![format!("content of a file: {reason}")], Some(reason.to_owned()));

    let mut partial = whole.clone();
    partial.remove(2);
    partial.plant();
    assert_eq!(stops(&mut partial), (vec![], None), "nothing of that page is in memory");

    let mut changed = whole.clone();
    changed.file.change_time_ns += 1;
    let inode = DIRECT_MAP + INODE;
    assert_eq!(stops(&mut changed), expected(&format!("changed at {inode:#x}")));

    let mut torn = whole.clone();
    torn.set(MAPPING, "address_space", "i_pages.xa_head", 0xffff_9000_0000_0002);
    assert_eq!(stops(&mut torn), expected("unreadable at 0xffff900000000000"));

    let mut holes = Cached::new((1 << 30) + PAGE as u64, TMPFS);
    assert_eq!(stops(&mut holes), expected("longer than 262144"));
}
