//! How watching ends: on request, when the reader closes the output, when the machine ends.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use panoptes_rig::{Flavor, Guest};
use serde_json::Value;

use crate::record::{Life, Record, assert_no_end, count, list};
use crate::watcher::{Ended, Watch, panoptes};
use crate::{barrier, inside, laws};

/// Makes some hundreds of records: the load stays until the watcher has reported all of it. The
/// churn never ends, so the agent does not wait for the guest to be at rest.
const LOAD: &str = "load processes=20 threads=2 fds=20 areas=5 connections=1 rest=0";
/// Time for several attempts of the watcher to attach to a machine that has ended. Attempts are not
/// logged, so the test can't wait for them. Its assertions hold for any number of attempts.
const RETRIES: Duration = Duration::from_secs(1);

/// The records of one system as text, in order, which must be equal in all outputs.
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
#[ignore = "boots a guest"]
fn watching_ends_when_it_should() {
    let mut guest = inside::boot(Flavor::V6_1);
    guest.agent("churn seconds=100000").unwrap();
    stopped_gracefully(&mut guest);
    logs_rotate(&mut guest);
    nobody_reads(&mut guest);
    memory_is_reported_if_enabled(&mut guest);
    a_second_signal_ends_it_at_once(&guest);
}

/// SIGTERM: all records are written to both outputs, with the service's shutdown as the last one.
fn stopped_gracefully(guest: &mut Guest) {
    let watcher = Watch::of(guest).with_log().set("service.log_level=debug").attached();
    barrier::passed(guest, &watcher);
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
    // A message names the method of each output. Either is valid here; the sinks test both.
    for output in ["standard output: ", "events.jsonl: "] {
        let ways = [format!("{output}uses io_uring"), format!("{output}io_uring is not available")];
        let said = ended.said.iter().filter(|line| ways.iter().any(|way| line.contains(way)));
        let said: Vec<&String> = said.collect();
        assert_eq!(said.len(), 1, "{:?}", ended.said);
        println!("{}", said[0]);
    }
}

/// The log is rotated by size; no record is lost or split.
fn logs_rotate(guest: &mut Guest) {
    let watcher = Watch::of(guest)
        .with_log()
        .set("output.rotate_size=64KiB")
        .set("output.max_files=3")
        .attached();
    guest.agent(LOAD).unwrap();
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
    assert!(all.ends_with(&logged), "the log keeps the last records");
    assert!(logged.len() < all.len(), "the oldest are gone");
}

/// A reader that closes the pipe is no error.
fn nobody_reads(guest: &mut Guest) {
    let watcher = Watch::of(guest).closing_after(20).attached();
    guest.agent(LOAD).unwrap();
    let ended = watcher.ended();
    assert_eq!(ended.code, Some(0), "{:?}", ended.said);
    let complaints = ended.said.iter().filter(|line| line.contains("error: "));
    assert_eq!(complaints.count(), 0, "{:?}", ended.said);
}

/// Records of memory areas are off by default.
fn memory_is_reported_if_enabled(guest: &mut Guest) {
    let watcher = Watch::of(guest)
        .set("default.events.process_memory_created.enabled=true")
        .set("default.events.new_file_mapped=false")
        .attached();
    let life = barrier::started(guest, &watcher, "sleep 7000");
    let is_its = |record: &Record| {
        record.is("process_memory_created") && record.life().as_ref() == Some(&life)
    };
    watcher.wait_for("an area without a file", |record| {
        is_its(record) && record.details("process_memory")["file_path"].is_null()
    });
    watcher.wait_for("one with a file", |record| {
        is_its(record) && record.details("process_memory")["file_path"].is_string()
    });
    // Meanwhile others unmap files and other memory.
    barrier::passed(guest, &watcher);
    let ended = watcher.stop();
    assert_graceful(&ended);
    assert_eq!(count(&ended.records, "process_memory_terminated"), 0);
    assert_eq!(count(&ended.records, "new_file_mapped"), 0);
}

/// A second signal ends the program without waiting.
fn a_second_signal_ends_it_at_once(guest: &Guest) {
    let watcher = Watch::of(guest).attached();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        // The first signal may have ended it already.
        let _ = kill(watcher.pid(), signal);
    }
    assert_eq!(watcher.ended().code, Some(0));
}

/// The processes in memory whose file is deleted but still open.
fn processes_of(memory: &File) -> BTreeSet<Life> {
    let path = format!("/proc/{}/fd/{}", std::process::id(), memory.as_raw_fd());
    let output = panoptes(&["scan", &path, "--only", "processes"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter_map(|line| Life::of(&line)).collect()
}

/// When a machine ends, no ends of its processes are reported.
#[test]
#[ignore = "boots a guest"]
fn a_machine_that_ends_is_reported_and_nothing_else() {
    let mut guest = inside::boot(Flavor::V6_12);
    let watcher = Watch::of(&guest).attached();
    barrier::passed(&mut guest, &watcher);
    let memory = File::open(guest.ram_path()).unwrap();
    guest.quit().unwrap();
    let there = processes_of(&memory);
    let lost = watcher.wait_for("its loss", |record| record.is("details_gathering_failed"));
    println!("{lost}");
    watcher.wait_for("it is looked for", |record| record.is("host_initialization_failed"));
    std::thread::sleep(RETRIES);
    let ended = watcher.stop();
    assert_graceful(&ended);
    // The processes that still ran have no end. Earlier ends may have been reported late.
    assert!(there.len() > 10, "{there:?}");
    assert_no_end(&ended.records, &there);
    // Each is reported once, whatever the number of retries.
    for name in ["details_gathering_failed", "host_initialization_failed"] {
        assert_eq!(count(&ended.records, name), 1, "{name}");
    }
}

/// The boot's UUID in the text of [`Record::boot`].
fn boot_uuid(boot: &str) -> &str {
    boot.rsplit(' ').next().unwrap_or("").trim_matches('"')
}

/// After a reset the machine is a new boot: the old processes did not end one by one.
fn a_reset_is_noticed(arguments: &[&str]) {
    let mut guest = inside::boot_with(Flavor::V6_1, |spec| {
        spec.kernel_arguments = arguments.iter().map(|&word| word.to_owned()).collect();
    });
    let watcher = Watch::of(&guest).attached();
    let process_id = barrier::started(&mut guest, &watcher, "sleep 7000").process_id;
    let is_it = |record: &Record| record.process_id() == process_id;
    let before = watcher.wait_for("a process", is_it).boot();
    let seen = watcher.records().len();
    guest.system_reset().unwrap();
    // As soon as the new boot is watched, its activities are reported.
    let is_new = |record: &Record| record.boot() != before;
    let found = barrier::found_again(&mut guest, &watcher, "sleep 7001", is_new);
    let after = found.boot();
    let there: BTreeSet<Life> =
        inside::processes(&guest).into_iter().map(|(life, _)| life).collect();
    assert!(there.contains(&found.life().unwrap()), "{found}");
    let ended = watcher.stop();
    for line in &ended.said {
        println!("{line}");
    }
    assert_graceful(&ended);
    // Every record has Panoptes' own id of its boot. The kernel creates its own id only on demand.
    let boots: Vec<&str> = [&before, &after].map(|boot| boot_uuid(boot)).to_vec();
    println!("{arguments:?}: {boots:?}");
    for boot in &boots {
        let digits = boot.chars().filter(char::is_ascii_hexdigit).count();
        assert_eq!((boot.len(), digits), (36, 32), "{boot}");
    }
    assert_ne!(boots[0], boots[1]);
    let mut reported: Vec<&str> = ended
        .records
        .iter()
        .filter_map(|record| record.0["workload_information"]["boot_uuid"].as_str())
        .collect();
    reported.dedup();
    assert_eq!(reported, boots, "one boot after the other, and no third");
    assert!(count(&ended.records, "details_gathering_failed") > 0);
    // The old boot's memory is overwritten gradually before the reset is detected: some of that
    // looks like ends, but nothing of the new boot is attributed to the old one.
    let is_end = |record: &&Record| record.is("process_terminated") && record.boot() == before;
    let gone = ended.records[seen..].iter().filter(is_end).count();
    let hidden = count(&ended.records, "process_hidden");
    println!(
        "{arguments:?}: {gone} processes of the old boot reported as ended, {hidden} as hidden"
    );
    let of_old = |record: &&Record| {
        let is_new = record.life().is_some_and(|life| there.contains(&life))
            || record.process()["process_command_line_argument_list"][1] == "7001";
        record.boot() == before && is_new
    };
    let mixed: Vec<&Record> = ended.records.iter().filter(of_old).collect();
    assert!(mixed.is_empty(), "{}", list(mixed));
}

#[test]
#[ignore = "boots a guest"]
fn a_machine_that_is_reset_is_found_again() {
    a_reset_is_noticed(&[]);
}

#[test]
#[ignore = "boots a guest"]
fn a_machine_that_is_reset_to_the_same_addresses_is_found_again() {
    a_reset_is_noticed(&["nokaslr"]);
}
