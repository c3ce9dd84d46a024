//! Panics while the service runs.

use std::ops::Range;

use panoptes_records::queue::RecordBlock;
use panoptes_sinks::output::file::FileOptions;
use panoptes_sinks::output::folder::FolderLock;
use panoptes_sinks::output::{Output, OutputCounters, OutputKind, OutputStatus};

use super::*;
use crate::watch::outputs::{Recipe, WatchedOutput};

/// An output that panics whenever there is a record.
#[derive(Debug, Default)]
struct Fragile(Arc<OutputCounters>);

impl Output for Fragile {
    fn kind(&self) -> OutputKind {
        OutputKind::Plain
    }

    fn counters(&self) -> &Arc<OutputCounters> {
        &self.0
    }

    fn append(&mut self, _: &RecordBlock, _: Range<usize>, _: u64) -> usize {
        panic!("it is a test")
    }

    fn advance(&mut self, _: u64, _: Duration) -> OutputStatus {
        OutputStatus::Idle
    }

    fn finish(&mut self) {}
}

#[test]
fn an_output_that_panics_is_reported_and_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("other");
    let path = other.join("events.jsonl");
    let file = configure(folder.path(), "systems: {a: {system: /absent}}");
    let add = |control: &mut ControlThread, _: &Signals| {
        let lock = FolderLock::take(&other).unwrap();
        let recipe =
            Recipe::File { path: path.clone(), options: FileOptions::default(), lock: Some(lock) };
        let fragile = Fragile::default();
        let counters = Arc::clone(&fragile.0);
        let watched = WatchedOutput { name: "fragile".to_owned(), counters, recipe };
        control.outputs.add(Box::new(fragile), watched);
    };
    let (exit, kept, _) = run_changed(&folder, &file, REAL, add, |driver| {
        driver.wait_for("record", || driver.log().contains("\"service_runtime_failure\""));
        driver.wait_for("records of the new output", || {
            fs::read_to_string(&path).unwrap_or_default().contains("\"service_runtime_failure\"")
        });
    });
    let failure = exit.unwrap_err();
    assert_eq!(failure.exit, Exit::Output, "{}", kept.text());
    assert!(failure.message.starts_with("fragile: ") && failure.message.contains(" were lost: "));
    let all = lines(&folder.path().join("log/events.jsonl"));
    let is_it = |line: &&(String, String)| line.1.contains("\"service_runtime_failure\"");
    let records: Vec<_> = all.iter().filter(is_it).collect();
    let [(_, record)] = records[..] else { panic!("{records:?}") };
    let record: Value = serde_json::from_str(record).unwrap();
    let details = &record["activity_data"]["system_activity_details"];
    assert_eq!((&record["severity"], &details["output"]), (&"ERROR".into(), &"fragile".into()));
    let reason = details["reason"].as_str().unwrap();
    assert!(reason.starts_with("the output panicked, and was opened again: it is a test ("));
    assert!(reason.contains("tests/panics.rs:"), "{reason}");
    assert_eq!(kept.count(reason), 1, "{}", kept.text());
    // The first records are lost, and counted; the last ones are there.
    assert!(all.iter().any(|(_, line)| line.contains("\"records_dropped\"")));
    let after = lines(&path);
    assert!(after.last().unwrap().1.contains("service_gracefully_shutdown"));
}
