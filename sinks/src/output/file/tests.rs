//! A simulated disk that writes in pieces, late, out of order or not at all: the log must stay
//! correct.

use std::sync::atomic::{AtomicBool, Ordering};

use panoptes_records::queue::{QueueSize, RecordClass, Waker, queue};
use proptest::prelude::*;

use super::chain::numbered;
use super::*;
use crate::output::buffers::{OutputBuffers, PendingWrite};
use std::fs;
use std::os::unix::fs::FileExt;

/// Completes writes in any order and any lengths, from a fixed random sequence.
#[derive(Debug)]
struct FaultyWriter {
    file: File,
    buffers: OutputBuffers,
    under_way: Vec<PendingWrite>,
    counters: Arc<OutputCounters>,
    dice: u64,
    is_full: Arc<AtomicBool>,
    syncs_left: u32,
    has_bad_syncs: Arc<AtomicBool>,
}

impl FaultyWriter {
    /// A number below `bound` (xorshift).
    fn roll(&mut self, bound: usize) -> usize {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        (self.dice % bound as u64) as usize
    }
}

impl OutputTransport for FaultyWriter {
    fn kind(&self) -> OutputKind {
        OutputKind::Plain
    }

    fn buffers(&mut self) -> &mut OutputBuffers {
        &mut self.buffers
    }

    fn advance(&mut self, _wait: Duration) -> io::Result<()> {
        while let Some(piece) = self.buffers.begin() {
            self.under_way.push(piece);
        }
        self.syncs_left = self.syncs_left.saturating_sub(1);
        if self.syncs_left == 1 && self.has_bad_syncs.load(Ordering::Relaxed) {
            self.counters.add_failed_sync(&io::Error::from_raw_os_error(libc::EIO));
        }
        let mut result = Ok(());
        for _ in 0..self.roll(3) {
            if self.under_way.is_empty() {
                break;
            }
            let index = self.roll(self.under_way.len());
            let piece = self.under_way.swap_remove(index);
            if self.is_full.load(Ordering::Relaxed) || self.roll(10) == 0 {
                self.buffers.failed(piece.slot);
                result = Err(io::Error::from_raw_os_error(libc::ENOSPC));
                continue;
            }
            let length = 1 + self.roll(piece.end - piece.start);
            let bytes = &self.buffers.bytes(piece)[..length];
            self.file.write_all_at(bytes, piece.offset).unwrap();
            OutputCounters::add(&self.counters.bytes, length);
            let records = self.buffers.wrote(piece.slot, length);
            OutputCounters::add(&self.counters.records, records);
        }
        result
    }

    fn begin_sync(&mut self) {
        self.syncs_left = 3;
    }

    fn is_syncing(&self) -> bool {
        self.syncs_left > 0
    }

    fn file(&self) -> &File {
        &self.file
    }

    fn set_file(&mut self, file: File) -> io::Result<()> {
        assert!(self.under_way.is_empty() && self.buffers.under_way() == 0);
        self.file = file;
        Ok(())
    }
}

struct Rig {
    folder: tempfile::TempDir,
    output: FileOutput,
    is_full: Arc<AtomicBool>,
    has_bad_syncs: Arc<AtomicBool>,
    now_ns: u64,
}

fn rig(dice: u64, options: FileOptions) -> Rig {
    let folder = tempfile::tempdir().unwrap();
    let is_full = Arc::new(AtomicBool::new(false));
    let has_bad_syncs = Arc::new(AtomicBool::new(false));
    let output =
        FileOutput::open_with(&folder.path().join("events.jsonl"), options, |file, counters| {
            let writer = FaultyWriter {
                file,
                buffers: OutputBuffers::new(3, 256, 3),
                under_way: Vec::new(),
                counters: Arc::clone(counters),
                dice: dice | 1,
                is_full: Arc::clone(&is_full),
                syncs_left: 0,
                has_bad_syncs: Arc::clone(&has_bad_syncs),
            };
            Box::new(writer)
        })
        .unwrap();
    Rig { folder, output, is_full, has_bad_syncs, now_ns: 0 }
}

impl Rig {
    fn advance(&mut self) -> OutputStatus {
        self.now_ns += 1_000_000;
        self.output.advance(self.now_ns, Duration::ZERO)
    }

    /// All files, oldest first.
    fn files(&self) -> Vec<String> {
        let base = self.folder.path().join("events.jsonl");
        (0..1000)
            .rev()
            .filter_map(|number| fs::read_to_string(numbered(&base, number)).ok())
            .collect()
    }
}

/// A block of records of these lengths, each beginning with its number.
fn block(lengths: &[usize]) -> RecordBlock {
    let size = QueueSize { blocks: 4, block_bytes: 1 << 20 };
    let (mut producer, mut consumer) = queue(size, &Waker::default());
    for (number, &length) in lengths.iter().enumerate() {
        producer
            .try_push(
                RecordClass::default(),
                format!("{number:06}{}", "x".repeat(length)).as_bytes(),
            )
            .unwrap();
    }
    producer.flush();
    consumer.pop().unwrap()
}

fn small(rotate_size: u64, sync_ns: Option<u64>) -> FileOptions {
    FileOptions { rotate_size, max_files: 1000, sync_ns, ..FileOptions::default() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_record_is_written_once_and_whole_whatever_the_disk_does(
        lengths in proptest::collection::vec(0_usize..200, 1..200),
        rotate_size in 1_u64..2000,
        dice in any::<u64>(),
        sync_ns in prop_oneof![Just(None), Just(Some(0)), Just(Some(2_000_000))],
        full_from in 0_usize..300,
    ) {
        let mut rig = rig(dice, small(rotate_size, sync_ns));
        let block = block(&lengths);
        let mut taken = 0;
        let mut steps = 0;
        loop {
            let is_full = (full_from..full_from + 50).contains(&steps);
            rig.is_full.store(is_full, Ordering::Relaxed);
            taken += rig.output.append(&block, taken..block.records(), rig.now_ns);
            let standing = rig.advance();
            steps += 1;
            prop_assert!(steps < 200_000, "{:?}", rig.output);
            if taken == block.records() && standing == OutputStatus::Idle {
                break;
            }
        }
        rig.output.finish();
        let files = rig.files();
        let all = files.concat();
        prop_assert_eq!(all.as_bytes(), block.slice(0, block.records()));
        for file in &files[..files.len() - 1] {
            prop_assert!(file.ends_with('\n'));
            let is_one_long = file.len() as u64 > rotate_size && file.lines().count() == 1;
            prop_assert!(file.len() as u64 <= rotate_size || is_one_long);
        }
        prop_assert_eq!(rig.output.counters().records(), lengths.len() as u64);
        prop_assert_eq!(rig.output.counters().dropped(), 0);
    }

    #[test]
    fn a_disk_that_stays_full_leaves_whole_lines_and_a_true_count(
        lengths in proptest::collection::vec(0_usize..200, 1..100),
        dice in any::<u64>(),
        full_from in 0_usize..100,
    ) {
        let mut rig = rig(dice, small(1 << 20, None));
        let block = block(&lengths);
        let mut taken = 0;
        for step in 0..300 {
            rig.is_full.store(step >= full_from, Ordering::Relaxed);
            taken += rig.output.append(&block, taken..block.records(), rig.now_ns);
            rig.advance();
        }
        rig.output.finish();
        let text = rig.files().concat();
        prop_assert!(text.is_empty() || text.ends_with('\n'));
        prop_assert_eq!(text.as_bytes(), block.slice(0, text.lines().count()));
        let counters = rig.output.counters();
        prop_assert!(text.lines().count() as u64 + counters.dropped() >= taken as u64);
        if counters.dropped() > 0 {
            prop_assert_eq!(counters.last_error(), libc::ENOSPC);
        }
    }
}

#[test]
fn somebody_else_may_move_cut_or_remove_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    let mut output = FileOutput::open(&path, FileOptions::default()).unwrap();
    let block = block(&[10, 10, 10, 10]);
    let mut now_ns = 0;
    let mut write = |index: usize| {
        now_ns += 2 * SECOND_NS;
        output.advance(now_ns, Duration::ZERO);
        let count = index + 1;
        while output.append(&block, index..block.records(), now_ns) == 0 {}
        while output.advance(now_ns, Duration::from_millis(10)) != OutputStatus::Idle {}
        fs::read_to_string(&path).unwrap().lines().count() >= count.min(1)
    };
    assert!(write(0));
    let moved = folder.path().join("moved");
    fs::rename(&path, &moved).unwrap();
    assert!(write(1));
    assert_eq!(fs::read_to_string(&moved).unwrap().lines().count(), 4);
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 3);
    File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    assert!(write(2));
    assert!(fs::read_to_string(&path).unwrap().starts_with("000002"));
    fs::remove_file(&path).unwrap();
    assert!(write(3));
    // Nobody could read by its name what was written since the file was last seen there.
    assert_eq!(numbers(&path), [2, 3, 3]);
}

/// The numbers of the records in this file.
fn numbers(path: &Path) -> Vec<usize> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| line[..6].parse().unwrap()).collect()
}

#[test]
fn a_folder_that_goes_away_while_a_write_is_always_under_way_is_made_anew() {
    for (is_removed, rotate_size) in [(true, 1 << 20), (false, 1 << 20), (true, 500)] {
        let options = FileOptions { rotate_size, ..FileOptions::default() };
        let mut rig = rig(7, options);
        let folder = rig.folder.path().join("log");
        let path = folder.join("events.jsonl");
        fs::create_dir(&folder).unwrap();
        rig.output.chain = LogFiles::new(&path, 1000);
        let file = rig.output.chain.open().unwrap();
        rig.output.begin(file, 0).unwrap();
        let block = block(&[20; 2000]);
        let mut at = 0;
        // A step is a millisecond; the folder goes away when 1.5 s have passed.
        let mut write = |rig: &mut Rig, steps| {
            for _ in 0..steps {
                at += rig.output.append(&block, at..(at + 2).min(block.records()), rig.now_ns);
                rig.advance();
            }
            at
        };
        write(&mut rig, 1500);
        let before = rig.output.counters().records() as usize;
        let moved = rig.folder.path().join("moved");
        fs::rename(&folder, &moved).unwrap();
        if is_removed {
            fs::remove_dir_all(&moved).unwrap();
        }
        let count = write(&mut rig, 1100);
        assert_eq!(rig.output.counters().remade(), 1);
        while rig.advance() != OutputStatus::Idle {}
        rig.output.finish();
        let base = numbered(&path, 0);
        let mut all: Vec<_> = (0..1000).rev().flat_map(|n| numbers(&numbered(&base, n))).collect();
        if !is_removed {
            let old = numbers(&moved.join("events.jsonl"));
            all.splice(0..0, old);
            assert_eq!(all[0], 0);
        }
        let first = all[0];
        assert!(first <= before, "{first} {before}");
        assert_eq!(all, (first..count).collect::<Vec<_>>());
        assert_eq!(rig.output.counters().dropped(), 0);
    }
}

#[test]
fn a_folder_that_another_program_has_taken_meanwhile_is_not_written_until_it_is_free() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("log");
    let path = folder.join("events.jsonl");
    let lock = FolderLock::take(&folder).unwrap();
    let mut output = FileOutput::open(&path, FileOptions::default()).unwrap().with_lock(&lock);
    drop(lock);
    let block = block(&[10; 100]);
    let mut now_ns = 0;
    let mut write = |range: Range<usize>| {
        for index in range {
            now_ns += SECOND_NS / 5;
            assert_eq!(output.append(&block, index..index + 1, now_ns), 1);
            while output.advance(now_ns, Duration::from_millis(10)) != OutputStatus::Idle {}
        }
        (output.counters().remade(), output.counters().errors())
    };
    assert_eq!(write(0..10), (0, 0));
    fs::remove_dir_all(&folder).unwrap();
    let other = FolderLock::take(&folder).unwrap();
    assert!(write(10..30).1 > 0);
    assert!(!path.exists());
    drop(other);
    assert_eq!(write(30..60).0, 1);
    // All that was written since the file was last seen in its place.
    let numbers = numbers(&path);
    assert!(numbers[0] < 10, "{numbers:?}");
    assert_eq!(numbers, (numbers[0]..60).collect::<Vec<_>>());
    let error = FolderLock::take(&folder).unwrap_err();
    let owner = format!("another panoptes (process {}) writes its logs there", std::process::id());
    assert_eq!(error.to_string(), owner);
}

#[test]
fn a_failed_sync_counts_what_was_written_since_the_last_good_one() {
    let mut rig = rig(3, small(1 << 20, Some(0)));
    let block = block(&[10; 100]);
    let write = |rig: &mut Rig, range: Range<usize>| {
        let mut at = range.start;
        loop {
            at += rig.output.append(&block, at..range.end, rig.now_ns);
            rig.advance();
            if at == range.end && rig.output.counters().records() == at as u64 {
                break;
            }
        }
        // The last sync ends, too.
        for _ in 0..20 {
            rig.advance();
        }
        let counters = rig.output.counters();
        (counters.failed_syncs(), counters.unsynced())
    };
    assert_eq!(write(&mut rig, 0..50), (0, 0));
    rig.has_bad_syncs.store(true, Ordering::Relaxed);
    assert_eq!(write(&mut rig, 50..70).1, 20);
    rig.has_bad_syncs.store(false, Ordering::Relaxed);
    assert_eq!(write(&mut rig, 70..100).1, 20);
    assert!(rig.output.counters().failed_syncs() > 0);
}

#[test]
fn what_a_removed_file_has_is_in_a_new_one_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log/events.jsonl");
    let mut output = FileOutput::open(&path, FileOptions::default()).unwrap();
    assert_eq!(output.append(&block(&[10; 10]), 0..10, 0), 10);
    while output.advance(0, Duration::from_millis(10)) != OutputStatus::Idle {}
    fs::remove_dir_all(path.parent().unwrap()).unwrap();
    output.finish();
    assert_eq!(numbers(&path), (0..10).collect::<Vec<_>>());
    assert_eq!(output.counters().dropped(), 0);
}
