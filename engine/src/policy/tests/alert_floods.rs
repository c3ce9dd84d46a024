//! Floods of alerts: each is reported in the end, and no other process waits for that.

use std::cell::Cell;
use std::rc::Rc;

use panoptes_records::activities::Activity;
use serde_json::Value;

use super::{Reader, attest, details};
use crate::detect::binary_attestation::{ShippedBuilder, ShippedFile, ShippedSubject};
use crate::limits::Limits;
use crate::page_cache::{
    Asker, ContentFacts, ContentFormat, ContentSource, ElfKind, FileIdentity, HashOutcome, Hashes,
    Traits,
};
use crate::policy::PolicyConfig;
use crate::state::tests::watch::limits;
use crate::state::tests::world::{FakeArea, FakeFile, FakeProcess, R, W, World, X};

const SECOND_NS: i64 = 1_000_000_000;
/// The first inode number of libraries that were not shipped.
const FOREIGN: u64 = 1000;

/// The content of every file that was not shipped.
struct Foreign;

impl ContentSource for Foreign {
    fn ask(&mut self, file: &FileIdentity, _: Asker) -> Option<ContentFacts> {
        let hashes = Hashes { sha256: [9; 32], sha1: [9; 20], md5: [9; 16] };
        let format = ContentFormat::Elf(ElfKind::SharedObject);
        let outcome = HashOutcome::Whole { hashes };
        let known = ContentFacts { outcome, format, traits: Traits::default() };
        (file.number >= FOREIGN).then_some(known)
    }
}

/// Counts the questions.
struct Counted(Rc<Cell<u32>>);

impl ContentSource for Counted {
    fn ask(&mut self, file: &FileIdentity, asker: Asker) -> Option<ContentFacts> {
        self.0.set(self.0.get() + 1);
        Foreign.ask(file, asker)
    }
}

fn reader() -> Reader {
    let limits = Limits { vmas: 16_384, ..limits() };
    let mut config = PolicyConfig::default();
    for activity in [Activity::FileUnmapped, Activity::NewFileMapped] {
        config.set_enabled(activity, false);
    }
    let mut builder = ShippedBuilder::new();
    let system = builder.subject(&ShippedSubject::System).unwrap();
    let sha256 = Some([1; 32]);
    let file = ShippedFile { path: Some(b"/lib/libc.so"), sha256, ..ShippedFile::default() };
    builder.add(system, &file).unwrap();
    let reader = Reader::with(&limits, config);
    Reader { attest: attest(&limits, builder.build()), files: Box::new(Foreign), ..reader }
}

/// A process with so many foreign libraries, from a number on.
fn with_libraries(process_id: u32, numbers: core::ops::Range<u64>) -> FakeProcess {
    numbers.fold(FakeProcess::new(process_id), |process, number| {
        let (ino, start) = (FOREIGN + number, 0x10_0000 + number * 0x1000);
        let name = format!("tmp/{number}.so");
        let file = FakeFile::regular(0xffff_8885_0000_0000 + ino * 0x100, ino, &name);
        process.with_area(FakeArea::of_file(start, start + 0x1000, R | X, &file))
    })
}

/// The paths in the alerts about libraries of a process.
fn libraries(records: &[Value], process_id: u32) -> Vec<String> {
    let is_it = |record: &&Value| {
        record["activity_data"]["name"] == "foreign_library_loaded"
            && details(record, "process_details")["process_id"] == process_id
    };
    let path = |record: &Value| details(record, "elf_file_details")["elf_file_path"].clone();
    let paths = records.iter().filter(is_it).map(path);
    paths.map(|path| path.as_str().unwrap().to_owned()).collect()
}

fn paths(numbers: core::ops::Range<u64>) -> Vec<String> {
    numbers.map(|number| format!("/tmp/{number}.so")).collect()
}

/// Files that nobody needs hid the one after them: only the first 64 of a minute were reported.
#[test]
fn the_library_behind_two_hundred_others_is_reported() {
    let mut reader = reader();
    reader.scan(&World::default());
    let world = World::default().with(with_libraries(714, 0..201));
    let mut found = libraries(&reader.scan(&world), 714);
    assert_eq!(found, paths(0..64), "so many at once, in their order");
    for _ in 0..30 {
        reader.now = reader.now.after(SECOND_NS);
        let more = libraries(&reader.scan(&world), 714);
        assert!(more.len() <= 8, "{}", more.len());
        found.extend(more);
    }
    assert_eq!(found, paths(0..201));
    assert_eq!(reader.policy.gap_counts().iter().sum::<u64>(), 0, "nothing was lost");
}

/// The alerts that wait, and those of others, while a process has too many.
#[test]
fn who_has_too_many_alerts_delays_nobody_and_is_reported_after_its_end() {
    let mut reader = reader();
    reader.scan(&World::default());
    let flooding = with_libraries(714, 0..300);
    let mut world = World::default().with(flooding.clone());
    assert_eq!(libraries(&reader.scan(&world), 714).len(), 64);
    // Another kind of alert about the same process, and another process with the same kind.
    let memory = FakeArea::anonymous(0x7f1c_3000_0000, 0x7f1c_3000_1000, R | W).written(1 << 40);
    *world.process(714) = flooding.clone().with_area(memory.clone());
    reader.scan(&world);
    let memory = FakeArea { flags: R | X, ..memory };
    *world.process(714) = flooding.with_area(memory);
    let world = world.with(with_libraries(800, 900..902));
    let records = reader.scan(&world);
    assert_eq!(libraries(&records, 800), paths(900..902));
    let is_other = |record: &&Value| {
        record["activity_data"]["name"] == "executable_permissions_added"
            && details(record, "process_details")["process_id"] == 714
    };
    assert_eq!(records.iter().filter(is_other).count(), 1);
    // Its end saves it nothing.
    let mut found = 64;
    for _ in 0..40 {
        reader.now = reader.now.after(SECOND_NS);
        found += libraries(&reader.scan(&World::default()), 714).len();
    }
    assert_eq!(found, 300);
}

#[test]
fn alerts_that_wait_are_reported_at_the_stop() {
    let mut reader = reader();
    reader.scan(&World::default());
    let world = World::default().with(with_libraries(714, 0..300));
    let mut found = libraries(&reader.scan(&world), 714);
    assert_eq!(reader.finish(), 0);
    found.extend(libraries(&reader.records(), 714));
    assert_eq!(found, paths(0..300));
}

#[test]
fn alerts_that_find_no_room_at_the_stop_are_counted_once() {
    let mut reader = reader();
    reader.scan(&World::default());
    let world = World::default().with(with_libraries(714, 0..1000));
    assert_eq!(libraries(&reader.scan(&world), 714).len(), 64);
    reader.fill();
    assert_eq!(reader.finish(), 1000 - 64);
}

/// A scan with very many alerts that wait looks at a part of them.
#[test]
fn alerts_that_wait_cost_a_scan_little() {
    let mut reader = reader();
    reader.scan(&World::default());
    let world = World::default().with(with_libraries(714, 0..2000));
    reader.scan(&world);
    let asked = Rc::new(Cell::new(0));
    reader.files = Box::new(Counted(asked.clone()));
    for _ in 0..64 {
        reader.scan(&world);
    }
    // Each file's content is asked for once in 64 scans, and that of the next alert in each scan.
    assert!(asked.get() < 2 * 2000, "{}", asked.get());
}
