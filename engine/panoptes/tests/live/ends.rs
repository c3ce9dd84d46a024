//! How watching ends: when asked, when nobody reads, when the machine goes away.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use panoptes_rig::{Flavor, enabled};

use crate::record::{Record, count, list};
use crate::watcher::{Ended, Watch};
use crate::{inside, laws};

/// What is not to be said gets so long to be said.
const SILENCE: Duration = Duration::from_secs(1);

/// The records of one system with their lines, in order: what two outputs agree on.
fn of_system(records: &[Record], system: &str) -> Vec<String> {
    let its = records.iter().filter(|record| record.system() == system);
    its.map(|record| record.0.to_string()).collect()
}

#[track_caller]
fn assert_graceful(ended: &Ended) {
    assert_eq!(ended.code, Some(0), "{:?}", ended.said);
    let last = ended.records.last().expect("it said something");
    assert_eq!(last.name(), "service_gracefully_shutdown", "{last}");
    assert_eq!(count(&ended.records, "service_gracefully_shutdown"), 1);
    laws::hold(&ended.records);
}

#[test]
fn watching_ends_when_it_should() {
    if !enabled("watching_ends_when_it_should") {
        return;
    }
    let mut guest = inside::boot(Flavor::V6_1);
    guest.agent("churn seconds=100000").unwrap();
    stopped_gracefully(&guest);
    logs_rotate(&guest);
    nobody_reads(&guest);
    memory_is_told_of_when_asked(&guest);
    said_twice_it_ends_at_once(&guest);
}

/// SIGTERM: all that was seen is written, to both outputs alike, and the last word is said.
fn stopped_gracefully(guest: &panoptes_rig::Guest) {
    let watcher = Watch::of(guest).with_log().set("service.log_level=debug").attached();
    std::thread::sleep(SILENCE);
    let ended = watcher.stop();
    assert_graceful(&ended);
    let names: Vec<&str> = ended.records.iter().map(Record::name).collect();
    assert_eq!(names[0], "service_initialization_started");
    for name in [
        "host_initialization_started",
        "os_identifier_found",
        "loading_profile_candidate",
        "profile_verification_successful",
        "host_initialization_successful",
        "service_initialization_successful",
    ] {
        assert_eq!(names.iter().filter(|one| **one == name).count(), 1, "{name}");
    }
    let logged: Vec<Record> = ended.log.concat().lines().map(Record::parse).collect();
    assert_eq!(logged.len(), ended.records.len());
    for system in ["", "ram"] {
        assert!(of_system(&logged, system) == of_system(&ended.records, system), "{system}");
    }
    // Which way each output was written is said; here either may run, both are tested in their own crate.
    for output in ["standard output: ", "events.jsonl: "] {
        let ways = [format!("{output}written by io_uring"), format!("{output}io_uring is refused")];
        let said = ended.said.iter().filter(|line| ways.iter().any(|way| line.contains(way)));
        let said: Vec<&String> = said.collect();
        assert_eq!(said.len(), 1, "{:?}", ended.said);
        println!("{}", said[0]);
    }
}

/// The log is put aside at its size; no record is lost or split.
fn logs_rotate(guest: &panoptes_rig::Guest) {
    let watcher = Watch::of(guest)
        .with_log()
        .set("output.rotate_size=64KiB")
        .set("output.max_files=3")
        .attached();
    watcher.wait("enough for several files", |all| (all.records.len() > 300).then_some(()));
    let ended = watcher.stop();
    assert_graceful(&ended);
    let sizes: Vec<usize> = ended.log.iter().map(String::len).collect();
    println!("log files of {sizes:?} bytes");
    assert_eq!(sizes.len(), 3);
    assert!(sizes.iter().all(|&size| size <= 64 << 10), "{sizes:?}");
    assert!(ended.log.iter().all(|text| text.ends_with('\n')));
    let logged: Vec<Record> = ended.log.concat().lines().map(Record::parse).collect();
    let (logged, all) = (of_system(&logged, "ram"), of_system(&ended.records, "ram"));
    assert!(all.ends_with(&logged), "what is kept is the end of what was said");
    assert!(logged.len() < all.len(), "the oldest were let go");
}

/// A reader that goes away is no error.
fn nobody_reads(guest: &panoptes_rig::Guest) {
    let ended = Watch::of(guest).closing_after(20).start().ended();
    assert_eq!(ended.code, Some(0), "{:?}", ended.said);
    let complaints = ended.said.iter().filter(|line| line.contains("error"));
    assert_eq!(complaints.count(), 0, "{:?}", ended.said);
}

/// Memory areas are off unless asked for.
fn memory_is_told_of_when_asked(guest: &panoptes_rig::Guest) {
    let watcher = Watch::of(guest)
        .set("default.events.process_memory_created.enabled=true")
        .set("default.events.new_file_mapped=false")
        .attached();
    watcher.wait_for("an area without a file", |record| {
        record.is("process_memory_created")
            && record.details("process_memory")["file_path"].is_null()
    });
    watcher.wait_for("one with a file", |record| {
        record.is("process_memory_created")
            && record.details("process_memory")["file_path"].is_string()
    });
    let ended = watcher.stop();
    assert_graceful(&ended);
    assert_eq!(count(&ended.records, "process_memory_terminated"), 0);
    assert_eq!(count(&ended.records, "new_file_mapped"), 0);
}

/// Who is in a hurry is not made to wait.
fn said_twice_it_ends_at_once(guest: &panoptes_rig::Guest) {
    let watcher = Watch::of(guest).attached();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        // It may have ended by the first.
        let _ = kill(watcher.pid(), signal);
    }
    assert_eq!(watcher.ended().code, Some(0));
}

/// A machine that is gone is no machine where everything ends at once.
#[test]
fn a_machine_that_goes_away_is_told_of_and_nothing_else() {
    if !enabled("a_machine_that_goes_away_is_told_of_and_nothing_else") {
        return;
    }
    let guest = inside::boot(Flavor::V6_12);
    let watcher = Watch::of(&guest).attached();
    std::thread::sleep(SILENCE);
    let before = count(&watcher.records(), "process_terminated");
    guest.quit().unwrap();
    let lost = watcher.wait_for("it is told of", |record| record.is("details_gathering_failed"));
    println!("{lost}");
    std::thread::sleep(SILENCE);
    let ended = watcher.stop();
    assert_graceful(&ended);
    let terminated: Vec<&Record> =
        ended.records.iter().filter(|record| record.is("process_terminated")).collect();
    assert!(terminated.len() <= before + 2, "{}", list(terminated));
    // Said once, however often it is tried again.
    for name in ["details_gathering_failed", "host_initialization_failed"] {
        assert_eq!(count(&ended.records, name), 1, "{name}");
    }
}

/// The boot's own part of what [`Record::boot`] says.
fn boot_uuid(boot: &str) -> &str {
    boot.rsplit(' ').next().unwrap_or("").trim_matches('"')
}

/// A machine that begins anew is another: what ran there before did not end one by one.
fn a_reset_is_noticed(arguments: &[&str]) {
    let mut guest = inside::boot_with(Flavor::V6_1, |spec| {
        spec.kernel_arguments = arguments.iter().map(|&word| word.to_owned()).collect();
    });
    let watcher = Watch::of(&guest).attached();
    let is_birth = |record: &Record, process_id| {
        record.is("process_created") && record.process_id() == process_id
    };
    let process_id = inside::start(&mut guest, "sleep 7000");
    let before = watcher.wait_for("a process", |record| is_birth(record, process_id)).boot();
    let seen = watcher.records().len();
    guest.system_reset().unwrap();
    let begin = Instant::now();
    // As soon as the new boot is watched, what happens there is told of.
    let after = loop {
        let process_id = inside::start(&mut guest, "sleep 7001");
        std::thread::sleep(SILENCE);
        let records = watcher.records();
        let is_new = |record: &&Record| is_birth(record, process_id) && record.boot() != before;
        if let Some(record) = records[seen..].iter().find(is_new) {
            break record.boot();
        }
        let last = &records[records.len().saturating_sub(10)..];
        assert!(begin.elapsed() < Duration::from_mins(3), "never found again:{}", list(last));
    };
    let ended = watcher.stop();
    for line in &ended.said {
        println!("{line}");
    }
    assert_graceful(&ended);
    // Ours for each boot, in every record of it; the kernel's own id need not have been asked for in there.
    let boots: Vec<&str> = [&before, &after].map(|boot| boot_uuid(boot)).to_vec();
    println!("{arguments:?}: {boots:?}");
    for boot in &boots {
        let digits = boot.chars().filter(char::is_ascii_hexdigit).count();
        assert_eq!((boot.len(), digits), (36, 32), "{boot}");
    }
    assert_ne!(boots[0], boots[1]);
    let mut told: Vec<&str> = ended
        .records
        .iter()
        .filter_map(|record| record.0["workload_information"]["boot_uuid"].as_str())
        .collect();
    told.dedup();
    assert_eq!(told, boots, "one boot after the other, and no third");
    assert!(count(&ended.records, "details_gathering_failed") > 0);
    // The old boot's memory is overwritten bit by bit before it is noticed: some of that looks like ends, but
    // nothing of the new boot is taken for the old one's.
    let is_end = |record: &&Record| record.is("process_terminated") && record.boot() == before;
    let gone = ended.records[seen..].iter().filter(is_end).count();
    let hidden = count(&ended.records, "process_hidden");
    println!(
        "{arguments:?}: {gone} of the old boot were said to have ended, {hidden} to be hidden"
    );
    let of_old = |record: &&Record| {
        record.boot() == before
            && record.process()["process_command_line_argument_list"][1] == "7001"
    };
    let mixed: Vec<&Record> = ended.records.iter().filter(of_old).collect();
    assert!(mixed.is_empty(), "{}", list(mixed));
}

#[test]
fn a_machine_that_is_reset_is_found_again() {
    if enabled("a_machine_that_is_reset_is_found_again") {
        a_reset_is_noticed(&[]);
    }
}

#[test]
fn a_machine_that_is_reset_to_the_same_addresses_is_found_again() {
    if enabled("a_machine_that_is_reset_to_the_same_addresses_is_found_again") {
        a_reset_is_noticed(&["nokaslr"]);
    }
}
