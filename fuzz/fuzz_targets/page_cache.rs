//! A file in the page cache of a synthetic machine with words of its memory changed: trees with
//! wild pointers or cycles, pages of other files, sizes beyond all memory.
//!
//! The input is the kind of machine (one byte), then a list of changes, eight bytes each: where (24
//! bits: 16 bits choose a word outside the content), what (8 bits), and 32 bits for it. Hashing
//! must end, and must not report a file as complete that was not completely read; reading a few
//! bytes of it must end, too.
#![cfg_attr(fuzzing, no_main)]

use std::cell::RefCell;

use panoptes_decoders::address::KernelVa;
use panoptes_engine::limits::Limits;
use panoptes_engine::page_cache::{Contents, FileReader, HashOutcome, MachineMemory};
use panoptes_engine::walk::{FileRow, InodeRow, Snapshot};
use panoptes_fuzz::fuzz_target;
use panoptes_tables::HashKey;

#[path = "../../engine/tests/common/cached.rs"]
mod cached;

use cached::{Cached, DIRECT_MAP, EXT4, HUGETLBFS, MAPPING, PAGE, TMPFS};

/// Slices of 64 KiB within which a file of this machine must be finished: four attempts at the
/// largest, with a wide margin.
const SLICES_MAX: u32 = 4_000_000;

/// Number of pages that are read.
const READ_PAGES: u64 = 80;

thread_local! {
    static READER: RefCell<(Snapshot, FileReader)> = RefCell::new(reader());
    static MACHINES: RefCell<(Vec<Cached>, Contents)> = RefCell::new((machines(), contents()));
}

fn contents() -> Contents {
    Contents::new(&Limits { processes: 1, ..Limits::default() }, HashKey::new(1))
}

fn machines() -> Vec<Cached> {
    let content: Vec<u8> = (0..66 * PAGE + 5).map(|at| (at / 7) as u8).collect();
    let mut folios = Cached::new(80 * PAGE as u64, TMPFS);
    folios.add(0, 2, &content[..4 * PAGE]);
    folios.add(8, 3, &content[..8 * PAGE]);
    folios.add(64, 4, &content[..16 * PAGE]);
    folios.plant();
    let mut huge = Cached::new(6 << 20, HUGETLBFS);
    huge.add(512, 9, &content);
    huge.plant();
    vec![Cached::whole(&content, EXT4), Cached::whole(&content[..5 * PAGE], EXT4), folios, huge]
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, changes)) = data.split_first() else { return };
    MACHINES.with_borrow_mut(|(machines, contents)| {
        let count = machines.len();
        let machine = &mut machines[usize::from(*kind) % count];
        let mut undo = Vec::new();
        for change in changes.as_chunks::<8>().0.iter().take(64) {
            undo.push(apply(machine, *change));
        }
        hash(machine, contents);
        read(machine);
        for (at, word) in undo.into_iter().rev() {
            machine.memory[at..at + 8].copy_from_slice(&word);
        }
    });
});

fn apply(machine: &mut Cached, change: [u8; 8]) -> (usize, [u8; 8]) {
    let [low, high, region, kind, value @ ..] = change;
    let value = u64::from(u32::from_le_bytes(value));
    let word = usize::from(u16::from_le_bytes([low, high]));
    // The inode and similar structures, the nodes, or the `struct page`s of used frames.
    let at = match region % 3 {
        0 => 0x1_0000 + word % 0x600 * 8,
        1 => 0x2_0000 + word % 0x400 * 8,
        _ => 0x10_8000 + word % 0x4000 * 8,
    };
    let place = &mut machine.memory[at..at + 8];
    let old: [u8; 8] = place.try_into().expect("eight bytes");
    let was = u64::from_le_bytes(old);
    let new = match kind % 8 {
        0 => value,
        1 => u64::MAX - value,
        2 => was ^ 1 << (value % 64),
        3 => was.wrapping_add(value).wrapping_sub(0x8000),
        4 => DIRECT_MAP + value,
        5 => DIRECT_MAP + 0x2_0000 + value % 64 * 1024 + 2,
        6 => DIRECT_MAP + 0x10_0000 + value % 4096 * 64,
        _ => value << 32,
    };
    place.copy_from_slice(&new.to_le_bytes());
    (at, old)
}

fn reader() -> (Snapshot, FileReader) {
    let mut snapshot = Snapshot::empty(&Limits { processes: 1, ..Limits::default() });
    let mut inode = InodeRow::default();
    inode.attributes.mapping = KernelVa(DIRECT_MAP + MAPPING);
    let inode = snapshot.inodes.push(inode);
    snapshot.files.push(FileRow { inode, ..FileRow::default() }).expect("there is room");
    (snapshot, FileReader::new())
}

fn read(machine: &mut Cached) {
    READER.with_borrow_mut(|(snapshot, files)| {
        let kernel = machine.kernel.clone();
        let memory = &mut MachineMemory { source: machine, kernel: &kernel };
        if !files.begin(memory, snapshot, snapshot.files.indexes().next()) {
            return;
        }
        for page in 1..=READ_PAGES {
            let read = files.read(memory, page * PAGE as u64 - 8, 64);
            assert!(read.is_none_or(|bytes| bytes.len() == 64), "as much as was asked for");
        }
        assert!(files.holds(memory), "nothing has changed meanwhile");
    });
}

fn hash(machine: &mut Cached, contents: &mut Contents) {
    let kernel = machine.kernel.clone();
    // The file as its inode describes it, so that a change there does not end every run.
    let mut file = machine.file;
    let word = |at: usize| u64::from_le_bytes(machine.memory[at..at + 8].try_into().expect("8"));
    file.size = word(0x1_0000 + 80);
    file.number = word(0x1_0000 + 64);
    // Hundreds of megabytes of zeros, hashed in a second or two, show nothing.
    let has_holes = word(0x1_2000 + 96) != EXT4;
    if has_holes && (8 << 20..1 << 32).contains(&file.size) {
        return;
    }
    contents.forget();
    contents.ask(&file);
    let mut slices = 0;
    while contents.has_work() {
        contents.work(machine, &kernel, 64 << 10, &());
        slices += 1;
        assert!(slices < SLICES_MAX, "it does not end");
    }
    let known = contents.get(&file).expect("something is known");
    if let HashOutcome::Partial(partial) = known.outcome {
        assert!(partial.resident <= partial.pages);
    }
}
