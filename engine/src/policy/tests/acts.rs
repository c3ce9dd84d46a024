//! Acts that change many files: their alerts are in full, or in a sum with the paths.

use std::cell::Cell;
use std::rc::Rc;

use panoptes_decoders::kernel::inode::Attributes;
use panoptes_decoders::maybe::MaybeU32;
use serde_json::{Value, json};

use super::causes::{MINUTE_NS, SECOND_NS, SUM, path_change, process_facts, reader};
use super::{Reader, details, names};
use crate::detect::file_content::ContentChange;
use crate::detect::file_content::paths::PathChange;
use crate::detect::{Finding, Findings as _};
use crate::state::FileAtOpen;
use crate::state::facts::{DescriptorFacts, FileName, InodeFacts, ProcessFacts, ProcessNumbers};
use crate::state::tests::world::World;
use crate::time::RealTime;

/// A change of this file by this program; or by an unknown one.
fn changed(reader: &mut Reader, program: Option<&'static [u8]>, path: &str) -> Vec<String> {
    let cx = reader.state.scan_context(&reader.snapshot, reader.now);
    let mut reporter = reader.policy.reporter(&mut reader.producer);
    let inode = InodeFacts { size: 20, modify_time_ns: 5, ..InodeFacts::default() };
    let name = Some(FileName::Text(path.as_bytes()));
    let change = ContentChange {
        process: ProcessFacts { executable: program, ..process_facts(700) },
        descriptor: DescriptorFacts { name, inode: Some(inode), ..DescriptorFacts::default() },
        previous: None,
        opened: FileAtOpen { size: 10, ..FileAtOpen::default() },
        hashes: None,
        partial: None,
        since_ns: cx.now.real,
        matters: true,
        severity: None,
    };
    let path_change = PathChange { path: path.as_bytes(), ..path_change(0, false) };
    let finding = match program {
        Some(_) => Finding::FileContent(&change),
        None => Finding::PathChange(&path_change),
    };
    reporter.found(&cx, &finding);
    reader.producer.flush();
    let records = reader.records();
    let path_of = |record: &Value| match program {
        Some(_) => details(record, "file_descriptor_details")["file_descriptor_name"].clone(),
        None => details(record, "file_details")["file_path"].clone(),
    };
    records.iter().map(|record| path_of(record).as_str().unwrap().to_owned()).collect()
}

const GIT: Option<&[u8]> = Some(b"/usr/bin/git");

/// `git checkout` in `/etc` gave an alert for each of hundreds of files.
#[test]
fn an_act_that_changes_many_files_is_in_full_eight_times_and_then_has_their_paths() {
    for program in [GIT, None] {
        let mut reader = reader(&Rc::new(Cell::new(9)));
        let paths: Vec<String> = (0..40).map(|number| format!("/etc/app/{number}")).collect();
        let written: Vec<String> =
            paths.iter().flat_map(|path| changed(&mut reader, program, path)).collect();
        assert_eq!(written, paths[..8]);
        // What has another rule is not hidden behind it.
        for other in ["/etc/ld.so.preload", "/etc/pam.d/sshd", "/usr/bin/tail", "/srv/x"] {
            assert_eq!(changed(&mut reader, program, other), [other]);
        }
        reader.now = reader.now.after(MINUTE_NS);
        let sums = reader.scan(&World::default());
        assert_eq!(names(&sums), [SUM]);
        let sum = details(&sums[0], "system_activity_details");
        assert_eq!((&sum["count"], &sum["paths"]), (&json!(32), &json!(paths[8..])));
        let absent = ["path", "paths_truncated", "last_file_size_bytes"];
        assert!(absent.iter().all(|key| sum[key].is_null()), "{sum}");
    }
}

#[test]
fn an_act_of_more_files_than_a_sum_lists_says_so() {
    let mut reader = reader(&Rc::new(Cell::new(9)));
    let paths = (0..100).map(|number| format!("/etc/app/{number}"));
    assert_eq!(paths.flat_map(|path| changed(&mut reader, GIT, &path)).count(), 8);
    reader.now = reader.now.after(MINUTE_NS);
    let sums = reader.scan(&World::default());
    let sum = details(&sums[0], "system_activity_details");
    assert_eq!((&sum["count"], &sum["paths_truncated"]), (&json!(92), &json!(true)));
    assert_eq!(sum["paths"].as_array().unwrap().len(), 64);
}

#[test]
fn another_act_is_in_full() {
    let mut reader = reader(&Rc::new(Cell::new(9)));
    let reporter = reader.policy.reporter(&mut reader.producer);
    let of = |seconds: i64| {
        let attributes = Attributes { ctime_ns: seconds * SECOND_NS, ..Attributes::default() };
        let change = PathChange { attributes, ..path_change(0, false) };
        reporter.cause().of_paths(&change).unwrap().hash()
    };
    assert_eq!(of(41), of(49));
    assert_ne!(of(41), of(51));
    let parent = |parent: u32| {
        let parent_process_id = MaybeU32::new(Some(parent));
        let numbers = ProcessNumbers { parent_process_id, ..ProcessNumbers::default() };
        let change = ContentChange {
            process: ProcessFacts { numbers, ..process_facts(700) },
            descriptor: DescriptorFacts {
                name: Some(FileName::Text(b"/etc/x")),
                ..DescriptorFacts::default()
            },
            previous: None,
            opened: FileAtOpen::default(),
            hashes: None,
            partial: None,
            since_ns: RealTime::default(),
            matters: true,
            severity: None,
        };
        reporter.cause().of_contents(&change).unwrap().hash()
    };
    assert_eq!(parent(9), parent(9));
    assert_ne!(parent(9), parent(10));
}

/// A file that is written all the time fills no act: others are in full.
#[test]
fn a_file_that_is_written_again_and_again_is_one_of_an_act() {
    let mut reader = reader(&Rc::new(Cell::new(9)));
    let again: Vec<_> = (0..20).flat_map(|_| changed(&mut reader, GIT, "/etc/state")).collect();
    assert_eq!(again.len(), 8);
    for number in 0..7 {
        let path = format!("/etc/app/{number}");
        assert_eq!(changed(&mut reader, GIT, &path), [path]);
    }
    assert_eq!(changed(&mut reader, GIT, "/etc/app/7"), [""; 0]);
    assert_eq!(changed(&mut reader, Some(b"/usr/bin/rsync"), "/etc/x"), ["/etc/x"]);
}
