//! Each of the five records in full: it is valid by the schema, and has what its reader needs.

#![allow(clippy::unwrap_used, reason = "a test may")]

use panoptes_records::json::Limits as TextLimits;
use panoptes_records::queue::{Consumer, Producer, QueueSize, Waker, queue};
use panoptes_records::record::header::RecordHeader;
use panoptes_records::record::interface::BluefieldSystem;
use serde_json::{Value, json};

use super::*;
use crate::detect::binary_attestation::verdict::Deviation;
use crate::detect::binary_attestation::{
    FileFacts, ShippedBuilder, ShippedFile, ShippedFiles, ShippedSubject,
};
use crate::detect::{Finding, Findings as _};
use crate::page_cache::{BestMatch, Hashes, Partial};
use crate::policy::tests::records_of;
use crate::policy::{Policy, PolicyConfig};
use crate::shipped::ProcessSubjects;
use crate::state::container::Containers;
use crate::state::facts::ProcessFacts;
use crate::state::tests::watch::limits;
use crate::time::{Now, RealTime};
use crate::walk::Snapshot;
use panoptes_tables::{HashKey, StringRoom, Strings};

const HASHES: Hashes = Hashes { sha256: [0xab; 32], sha1: [0xcd; 20], md5: [0xef; 16] };

/// `/usr/bin/ls` of the system, `/bin/serve` of the image `web:1`.
fn shipped() -> ShippedFiles {
    let mut builder = ShippedBuilder::new();
    let system = builder.subject(&ShippedSubject::System).unwrap();
    let ls = ShippedFile { path: Some(b"/usr/bin/ls"), size: Some(100), ..ShippedFile::default() };
    builder.add(system, &ls).unwrap();
    let entrypoint = [b"/bin/serve".to_vec(), b"--now".to_vec()];
    let web = ShippedSubject::Image {
        name: Some("web:1"),
        digest: None,
        containers: &[],
        entrypoint: &entrypoint,
    };
    builder.subject(&web).unwrap();
    builder.build()
}

fn alert<'a>(
    shipped: &'a ShippedFiles,
    applied: &'a ProcessSubjects,
    wrong: FileFault,
    basis: Basis,
) -> Alert<'a> {
    Alert {
        shipped,
        applied,
        finding: Deviation { wrong, basis },
        role: Role::Program,
        process: ProcessFacts {
            name: b"evil",
            process_id: 714,
            self_exec_id: Some(3),
            executable: Some(b"/tmp/evil"),
            command_line: Some(b"/tmp/evil\0-x\0"),
            ..ProcessFacts::default()
        },
        process_hashes: Some(HASHES),
        file: FileFacts {
            path: Some(b"/tmp/evil"),
            device: 8 << 20 | 1,
            number: 71,
            change_time_ns: 1_795_159_900_000_000_000,
            size: 101,
            format: ContentFormat::Elf(ElfKind::Executable),
            hashes: Some(HASHES),
            is_main_executable: true,
            is_memfd: false,
            is_deleted: false,
        },
        since_ns: RealTime::from_ns(1_795_159_906_905_224_659),
    }
}

/// A policy and its queue.
fn policy_with(config: PolicyConfig) -> (Policy, Producer, Consumer) {
    let limits = limits();
    let text = TextLimits::new(limits.string_length as usize);
    let header = RecordHeader::new(&"NONE".into(), &BluefieldSystem::default(), text);
    let policy = Policy::new(&limits, config, header, 1, HashKey::new(7));
    let size = QueueSize { blocks: 2, block_bytes: 1 << 20 };
    let (producer, consumer) = queue(size, &Waker::default());
    (policy, producer, consumer)
}

/// Reports an alert this often, and returns the last answer.
fn report(policy: &mut Policy, out: &mut Producer, alert: &Alert<'_>, times: u32) -> Acceptance {
    let limits = limits();
    let snapshot = Snapshot::empty(&limits);
    let strings = Strings::new(StringRoom::default(), HashKey::new(1));
    let now = Now::at(1_795_159_907_905_224_659);
    let containers = Containers::new(&limits, HashKey::new(1));
    let cx = ScanContext { snapshot: &snapshot, containers: &containers, strings: &strings, now };
    let mut reporter = policy.reporter(out);
    // Each of another process and file, so that they are not summed up.
    (0..times).fold(Acceptance::Yes, |_, time| {
        let process_id = alert.process.process_id + time;
        let process = ProcessFacts { process_id, ..alert.process };
        let file = FileFacts { number: alert.file.number + u64::from(time), ..alert.file };
        reporter.found(&cx, &Finding::BinaryAttestation(&Alert { process, file, ..*alert }))
    })
}

/// The records of one alert.
fn records(alert: &Alert<'_>) -> Vec<Value> {
    let (mut policy, mut producer, mut consumer) = policy_with(PolicyConfig::default());
    assert_eq!(report(&mut policy, &mut producer, alert, 1), Acceptance::Yes);
    producer.flush();
    records_of(&mut consumer)
}

fn names(records: &[Value]) -> Vec<&str> {
    records.iter().map(|record| record["activity_data"]["name"].as_str().unwrap()).collect()
}

fn reason(record: &Value) -> &str {
    record["detection"]["reason"].as_str().unwrap()
}

const FOREIGN: FileFault = FileFault::Foreign { instead: None, other_size: None };

#[test]
fn a_foreign_binary_is_reported_with_all_known_attributes() {
    let shipped = shipped();
    let applied = shipped.of_system();
    let all = records(&alert(&shipped, &applied, FOREIGN, Basis::Content));
    let [record] = &all[..] else { panic!("{all:?}") };
    assert_eq!(record["message_type"], "ALERT");
    assert_eq!(record["severity"], "HIGH");
    let (sha256, sha1, md5) = ("ab".repeat(32), "cd".repeat(20), "ef".repeat(16));
    assert_eq!(
        record["activity_data"],
        json!({
            "name": "foreign_binary_executed",
            "elf_file_details": {
                "elf_file_inode_number": 71,
                "elf_file_name": "evil",
                "elf_file_type": "EXECUTABLE",
                "elf_file_path": "/tmp/evil",
                "elf_file_hash_sha256": sha256,
                "elf_file_hash_sha1": sha1,
                "elf_file_hash_md5": md5,
                "elf_file_size_bytes": 101,
                "is_main_process_executable": true,
            },
            "process_details": {
                "process_name": "evil",
                "process_id": 714,
                "process_self_exec_id": 3,
                "process_hash_sha256": sha256,
                "process_hash_sha1": sha1,
                "process_hash_md5": md5,
                "process_executable_path": "/tmp/evil",
                "process_command_line_arguments": "/tmp/evil -x",
                "process_command_line_argument_list": ["/tmp/evil", "-x"],
            },
        })
    );
    assert_eq!(
        record["detection"],
        json!({
            "reason": format!(
                "the content of /tmp/evil (SHA-256 {sha256}) is nothing that the system's SBOM has"
            ),
            "mitre_attack": ["T1105"],
            "attack_version": "19",
            "sensor": "PANOPTES",
            "confidence": "high",
            "first_seen": "2026-11-20T07:31:46.905224659+00:00",
            "scans_confirmed": 1,
            "incident_id": record["message_id"],
        })
    );
}

#[test]
fn a_size_mismatch_is_reported_before_the_foreign_content() {
    let shipped = shipped();
    let applied = shipped.of_system();
    let instead = shipped.of_size(100).next().map(|file| file.id());
    let wrong = FileFault::Foreign { instead, other_size: Some(100) };
    let mut program = alert(&shipped, &applied, wrong, Basis::Content);
    program.file.path = Some(b"/usr/bin/ls");
    let all = records(&program);
    assert_eq!(
        names(&all),
        ["foreign_binary_executed_file_size_mismatch", "foreign_binary_executed"]
    );
    assert_eq!(
        reason(&all[0]),
        "/usr/bin/ls has 101 bytes, what the system's SBOM has there has 100"
    );
    assert!(reason(&all[1]).ends_with("is not what the system's SBOM has there"), "{all:?}");
    assert_eq!(all[1]["detection"]["mitre_attack"], json!(["T1554"]));
    let library = Alert { role: Role::Library, ..program };
    let all = records(&library);
    assert_eq!(
        names(&all),
        ["foreign_library_loaded_file_size_mismatch", "foreign_library_loaded"]
    );
    assert_eq!(all[0]["detection"]["mitre_attack"], json!(["T1574.006", "T1129"]));
    let mut unhashed = Alert { process_hashes: None, ..library };
    unhashed.finding.basis = Basis::Size;
    unhashed.file.hashes = None;
    let all = records(&unhashed);
    assert_eq!(
        reason(&all[1]),
        "the content of /usr/bin/ls, by its size of 101 bytes, is not what the system's SBOM \
         has there"
    );
    assert!(all[1]["activity_data"]["elf_file_details"].get("elf_file_hash_sha256").is_none());
}

#[test]
fn a_partial_match_states_the_number_of_pages() {
    let shipped = shipped();
    let applied = shipped.of_system();
    let instead = shipped.of_size(100).next().map(|file| file.id());
    let parts = |differing, others| {
        let best_match = Some(BestMatch { shipped: 0, compared: 212, differing });
        Basis::Parts { partial: Partial { pages: 240, resident: 212, best_match }, others }
    };
    let modified = FileFault::Foreign { instead, other_size: None };
    let all = records(&alert(&shipped, &applied, modified, parts(1, false)));
    assert_eq!(
        reason(&all[0]),
        "partial match: 212 of 240 pages, 1 of 212 differ from the best match: \
         the content of /tmp/evil is not what the system's SBOM has there"
    );
    assert_eq!(all[0]["detection"]["confidence"], "high");
    let all = records(&alert(&shipped, &applied, modified, parts(1, true)));
    assert!(reason(&all[0]).ends_with(", unless it was approved by a hash alone"), "{all:?}");
    assert_eq!(all[0]["detection"]["confidence"], "medium");
    let elsewhere = FileFault::Elsewhere { shipped: instead.unwrap() };
    let all = records(&alert(&shipped, &applied, elsewhere, parts(0, false)));
    assert_eq!(
        reason(&all[0]),
        "partial match: 212 of 240 pages, 0 differ: \
         the system's SBOM has what /tmp/evil holds as /usr/bin/ls"
    );
}

#[test]
fn an_unintended_binary_is_reported_with_the_intended_path() {
    let shipped = shipped();
    let applied = shipped.of_system();
    let ls = shipped.of_size(100).next().unwrap().id();
    let wrong = FileFault::Elsewhere { shipped: ls };
    let mut memfd = alert(&shipped, &applied, wrong, Basis::Content);
    let all = records(&memfd);
    assert_eq!(names(&all), ["binary_executed_not_as_intended"]);
    assert!(reason(&all[0]).ends_with(" as /usr/bin/ls"), "{all:?}");
    assert_eq!(all[0]["detection"]["mitre_attack"], json!(["T1036.005"]));
    memfd.file.is_memfd = true;
    memfd.file.path = Some(b"/memfd:x (deleted)");
    let all = records(&memfd);
    assert!(reason(&all[0]).ends_with("; it was run without a file (memfd)"), "{all:?}");
    assert_eq!(all[0]["activity_data"]["elf_file_details"]["elf_file_path"], "/memfd:x (deleted)");
    let web = shipped.of_container(b"0123", None, Some("web:1"));
    let wrong = FileFault::Arguments { entrypoint: true };
    let mut other = alert(&shipped, &web, wrong, Basis::CommandLine);
    other.process.container = Some(b"0123");
    let all = records(&other);
    assert_eq!(
        reason(&all[0]),
        "the arguments of /tmp/evil are not the entrypoint of the image web:1: /bin/serve --now"
    );
    let context = &all[0]["workload_information"]["container_context"];
    assert_eq!(context["container_id"], "0123");
}

#[test]
fn long_and_strange_names_do_no_harm() {
    let shipped = shipped();
    let applied = shipped.of_system();
    let long = [b"/".to_vec(), vec![0xff; 4000]].concat();
    let mut alert = alert(&shipped, &applied, FOREIGN, Basis::Content);
    alert.file.path = Some(&long);
    alert.file.is_deleted = true;
    let all = records(&alert);
    assert_eq!(names(&all), ["foreign_binary_executed"]);
    assert!(reason(&all[0]).starts_with("the content of …"), "{all:?}");
    alert.file.path = None;
    let all = records(&alert);
    let reason = reason(&all[0]);
    assert!(reason.starts_with("the content of a file of unknown path"), "{reason}");
    assert!(reason.contains("; in ") && reason.contains("(process "), "{reason}");
}

#[test]
fn a_finding_without_room_for_its_record_is_refused() {
    let shipped = shipped();
    let applied = shipped.of_system();
    let alert = alert(&shipped, &applied, FOREIGN, Basis::Content);
    let (mut policy, mut producer, _consumer) = policy_with(PolicyConfig::default());
    assert_eq!(report(&mut policy, &mut producer, &alert, 100), Acceptance::Yes);
    assert_eq!(producer.refused(), 0);
    assert_eq!(report(&mut policy, &mut producer, &alert, 4000), Acceptance::No);
    assert!(producer.refused() > 0);
    // An alert that is not wanted needs no room.
    let mut config = PolicyConfig::default();
    config.set_enabled(Activity::ForeignBinaryExecuted, false);
    let (mut policy, ..) = policy_with(config);
    assert_eq!(report(&mut policy, &mut producer, &alert, 1), Acceptance::Yes);
}
