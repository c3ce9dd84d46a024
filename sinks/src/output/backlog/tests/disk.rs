//! What waits is on disk when memory is full, and there after the next start.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::*;

/// Memory of 10 blocks, and 20 blocks on disk.
const DISK_BYTES: usize = 20 * BLOCK_BYTES;

fn open(folder: &Path) -> Backlog {
    Backlog::open(0, folder, DISK_BYTES).unwrap()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all
}

/// Ends, and starts again.
fn restart(mut backlog: Backlog, folder: &Path) -> Backlog {
    assert_eq!(backlog.finish(), 0);
    drop(backlog);
    open(folder)
}

#[test]
fn a_disk_takes_what_memory_cannot_and_gives_it_back_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let mut backlog = open(folder.path());
    let pushed: Vec<u64> =
        (0..72).map(|number| push(&mut backlog, number % 8 == 0, QUARTER)).collect();
    // Alerts in three blocks and others in 16; ten of them are in memory.
    assert_eq!(files(folder.path()).len(), 9);
    assert_eq!(backlog.waiting(), BacklogSize { entries: 72, bytes: 72 * QUARTER });
    assert_eq!(drain(&mut backlog), pushed);
    assert_eq!((dropped(&backlog), files(folder.path()).len()), (0, 0));
}

#[test]
fn a_full_disk_drops_other_entries_first() {
    let folder = tempfile::tempdir().unwrap();
    let mut backlog = open(folder.path());
    push(&mut backlog, true, WHOLE);
    for _ in 0..100 {
        push(&mut backlog, false, WHOLE);
    }
    assert_eq!(dropped(&backlog), 81);
    let kept: Vec<u64> = std::iter::once(0).chain(82..=100).collect();
    let mut backlog = restart(backlog, folder.path());
    assert_eq!(files(folder.path()).len(), 20);
    assert_eq!(drain(&mut backlog), kept);
}

#[test]
fn what_waits_at_the_end_is_there_after_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let mut backlog = open(folder.path());
    for number in 0..10 {
        push(&mut backlog, number % 2 == 0, 100);
    }
    for _ in 0..5 {
        send(&mut backlog);
    }
    backlog.confirm(2);
    let waiting = BacklogSize { entries: 7, bytes: 700 };
    let mut backlog = restart(backlog, folder.path());
    assert_eq!((backlog.waiting(), files(folder.path()).len()), (waiting, 2));
    // What came in before is sent before what comes now.
    assert_eq!(push(&mut backlog, true, 100), 10);
    send(&mut backlog);
    backlog.confirm(3);
    let mut backlog = restart(backlog, folder.path());
    assert_eq!(drain(&mut backlog), [4, 5, 6, 7, 8, 9, 10]);
    assert_eq!(files(folder.path()), Vec::<PathBuf>::new());
}

#[test]
fn a_crash_loses_only_what_was_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let mut backlog = open(folder.path());
    for _ in 0..15 {
        push(&mut backlog, false, WHOLE);
    }
    assert_eq!(files(folder.path()).len(), 5);
    drop(backlog);
    let mut backlog = open(folder.path());
    // The first block was to be sent next, and the following ones were the oldest.
    assert_eq!(drain(&mut backlog), [1, 2, 3, 4, 5]);
    assert_eq!(dropped(&backlog), 0);
}

#[test]
fn a_torn_file_has_its_first_entries_and_the_rest_is_counted() {
    let check = |tear: &dyn Fn(&mut Vec<u8>), expected: &[u64]| {
        let folder = tempfile::tempdir().unwrap();
        let mut backlog = open(folder.path());
        for is_alert in [false, false, false, true] {
            push(&mut backlog, is_alert, 100);
        }
        assert_eq!(backlog.finish(), 0);
        drop(backlog);
        let path = files(folder.path()).remove(0);
        let mut bytes = fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 3 * (HEAD_BYTES + 100));
        tear(&mut bytes);
        fs::write(&path, bytes).unwrap();
        let mut backlog = open(folder.path());
        let next = push(&mut backlog, false, 100);
        assert_eq!(next, 4);
        assert_eq!(drain(&mut backlog), [expected, &[3, 4]].concat());
        let damaged = 3 - expected.len() as u64;
        assert_eq!(backlog.dropped(), BacklogDrops { damaged, ..BacklogDrops::default() });
    };
    let second = HEAD_BYTES + 100;
    check(&|_| {}, &[0, 1, 2]);
    check(&|bytes| bytes.truncate(bytes.len() - 1), &[0, 1]);
    check(&|bytes| bytes.truncate(second + 3), &[0]);
    check(&|bytes| bytes.truncate(0), &[]);
    check(&|bytes| bytes[second..].fill(0), &[0]);
    check(&|bytes| bytes.fill(0), &[]);
    for place in [0, 8, 16, 20, HEAD_BYTES, HEAD_BYTES + 99] {
        check(&|bytes| bytes[second + place] ^= 1, &[0]);
    }
    // What follows an entry twice is no entry.
    check(&|bytes| bytes.copy_within(..second, second), &[0]);
    check(&|bytes| bytes.extend_from_within(second..), &[0, 1, 2]);
    check(&|bytes| bytes.resize(10 * BLOCK_BYTES, 0), &[0, 1, 2]);
}

#[test]
fn a_disk_that_fails_costs_what_memory_cannot_hold() {
    let folder = tempfile::tempdir().unwrap();
    let below = folder.path().join("backlog");
    let mut backlog = open(&below);
    for _ in 0..12 {
        push(&mut backlog, false, WHOLE);
    }
    assert_eq!((files(&below).len(), backlog.take_error().is_some()), (2, false));
    // Two blocks are lost with the folder, and new ones have no place there.
    fs::remove_dir_all(&below).unwrap();
    for _ in 12..20 {
        push(&mut backlog, true, WHOLE);
    }
    assert!(backlog.take_error().is_some() && backlog.take_error().is_none());
    assert_eq!(dropped(&backlog), 8);
    let mut kept = drain(&mut backlog);
    assert_eq!(kept.len(), 10);
    assert_eq!(backlog.dropped(), BacklogDrops { full: 8, damaged: 2, too_long: 0 });
    assert_eq!(kept.split_off(2), [12, 13, 14, 15, 16, 17, 18, 19]);
}

#[test]
fn a_folder_has_one_user_and_is_read_by_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let below = folder.path().join("state/backlog");
    let mut backlog = open(&below);
    push(&mut backlog, true, 100);
    let error = Backlog::open(0, &below, DISK_BYTES).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    assert_eq!(backlog.finish(), 0);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(&below), mode(&files(&below)[0])), (0o700, 0o600));
}

#[test]
fn other_files_in_the_folder_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes");
    fs::write(&path, "mine").unwrap();
    let mut backlog = open(folder.path());
    push(&mut backlog, false, 100);
    let mut backlog = restart(backlog, folder.path());
    assert_eq!(drain(&mut backlog), [0]);
    assert_eq!(files(folder.path()), [path]);
}

#[test]
fn a_block_on_disk_is_shortened_without_room_for_another() {
    let folder = tempfile::tempdir().unwrap();
    let mut backlog = open(folder.path());
    for _ in 0..4 {
        push(&mut backlog, false, 100);
    }
    let mut backlog = restart(backlog, folder.path());
    for _ in 0..3 {
        send(&mut backlog);
    }
    backlog.confirm(1);
    backlog.disk.as_mut().unwrap().is_full = true;
    let mut backlog = restart(backlog, folder.path());
    assert_eq!(backlog.waiting(), BacklogSize { entries: 2, bytes: 200 });
    send(&mut backlog);
    backlog.confirm(2);
    assert_eq!(drain(&mut restart(backlog, folder.path())), [3]);
}

#[test]
fn a_smaller_disk_keeps_the_newest() {
    let folder = tempfile::tempdir().unwrap();
    let mut backlog = open(folder.path());
    push(&mut backlog, true, WHOLE);
    for _ in 1..20 {
        push(&mut backlog, false, WHOLE);
    }
    assert_eq!(backlog.finish(), 0);
    drop(backlog);
    let mut backlog = Backlog::open(0, folder.path(), 12 * BLOCK_BYTES).unwrap();
    assert_eq!((dropped(&backlog), files(folder.path()).len()), (8, 12));
    let kept: Vec<u64> = std::iter::once(0).chain(9..20).collect();
    assert_eq!(drain(&mut backlog), kept);
}

/// As where no descriptor is left, or where rights of the folder have changed.
#[test]
fn what_cannot_be_read_for_a_while_is_sent_later() {
    let folder = tempfile::tempdir().unwrap();
    let mut backlog = open(folder.path());
    let pushed: Vec<u64> = (0..15).map(|_| push(&mut backlog, false, WHOLE)).collect();
    let mut backlog = restart(backlog, folder.path());
    let all = files(folder.path());
    let aside = tempfile::tempdir().unwrap();
    let place = |path: &PathBuf| aside.path().join(path.file_name().unwrap());
    // A folder in the place of a file can't be read as one.
    for path in &all {
        fs::rename(path, place(path)).unwrap();
        fs::create_dir(path).unwrap();
    }
    // The first blocks may have been read.
    assert!(send_all(&mut backlog).len() < pushed.len());
    for _ in 0..3 {
        assert_eq!(send(&mut backlog), None);
    }
    assert!(backlog.take_error().is_some() && backlog.take_error().is_none());
    assert_eq!(backlog.waiting().entries, 15);
    for path in &all {
        fs::remove_dir(path).unwrap();
        fs::rename(place(path), path).unwrap();
    }
    assert_eq!(drain(&mut backlog), pushed);
    assert_eq!(dropped(&backlog), 0);
}
