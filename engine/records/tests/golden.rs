//! Writes the examples of the contract again, byte for byte, and checks them against the schema.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use common::{
    CONTAINER_ID, NOW_NS, STRING_LENGTH, bash, connection, libc_text, limit_reached, pod,
    service_header_in, shell_detection, stdin_socket, web_1_header, web_1_header_in,
};
use panoptes_records::activities::Activity;
use panoptes_records::dialect::Dialect;
use panoptes_records::json::text::Text;
use panoptes_records::json::time::Timestamp;
use panoptes_records::record::detection::{Ancestor, Confidence, Detection};
use panoptes_records::record::file::FileDetails;
use panoptes_records::record::file_descriptor::FileType;
use panoptes_records::record::header::RecordHeader;
use panoptes_records::record::kernel_code::{
    IntegrityCheckDetails, IntegrityVerdict, KernelCodeDetails, KernelCodeOwner, KernelListing,
};
use panoptes_records::record::process::ProcessDetails;
use panoptes_records::record::reverse_shell::{ReverseShellDetails, ShellProcess};
use panoptes_records::record::scan::{ScanLine, ScanObject};
use panoptes_records::record::shell_history::{ShellCommand, ShellHistoryDetails};
use panoptes_records::record::system_activity::SystemActivityDetails;
use panoptes_records::record::thread::ThreadDetails;
use panoptes_records::record::value::{
    DeviceNumber, Flat, Hex, MemoryAddress, Objects, Permissions, Uuid, WrappedObjects,
};
use panoptes_records::record::{Details, RECORD_BYTES_MAX, Record, RecordWriter};
use panoptes_records::schema::{record_schema, scan_schema};

const RECORDS: &str = include_str!("golden/records.jsonl");
/// The same records as consumers of DOCA Argus read them.
const FOREIGN_RECORDS: &str = include_str!("golden/doca_argus.jsonl");
const SCAN: &str = include_str!("golden/scan.jsonl");

/// The `message_id` of the golden alert, which begins an incident, and of two records before it.
const INCIDENT: u128 = 0x01a2_f3c4_0000_7000_8000_0000_0000_0006;
const EARLIER: [u128; 2] = [INCIDENT - 4, INCIDENT - 2];

/// The ids of the examples are invented: they count from 1. Everything else must be equal.
fn with_example_id(record: &str, number: usize) -> String {
    let key = "\"message_id\":\"";
    let at = record.find(key).unwrap() + key.len();
    format!("{}01a2f3c4-0000-7000-8000-{number:012x}{}", &record[..at], &record[at + 36..])
}

/// Checks a record in each dialect.
fn check(number: usize, header: fn(Dialect) -> RecordHeader, record: &Record<'_>) {
    for dialect in [Dialect::Panoptes, Dialect::DocaArgus] {
        check_in(dialect, number, &header(dialect), record);
    }
}

fn check_in(dialect: Dialect, number: usize, header: &RecordHeader, record: &Record<'_>) {
    let records = match dialect {
        Dialect::Panoptes => RECORDS,
        Dialect::DocaArgus => FOREIGN_RECORDS,
    };
    let expected = records.lines().nth(number - 1).unwrap();
    let mut out = vec![0; RECORD_BYTES_MAX];
    let mut writer = RecordWriter::new(7, STRING_LENGTH);
    let length = writer.write(&mut out, header, record, NOW_NS).unwrap();
    let written = std::str::from_utf8(&out[..length]).unwrap();
    assert_eq!(with_example_id(written, number), expected);
}

#[test]
fn a_system_activity_about_no_machine() {
    let details = SystemActivityDetails {
        reason: "started with 2 systems, 41 MiB reserved".into(),
        ..SystemActivityDetails::default()
    };
    let record =
        Record::new(Activity::ServiceInitializationStarted, Details::SystemActivity(&details));
    check(1, service_header_in, &record);
}

#[test]
fn process_created() {
    let process = bash();
    let record = Record::new(Activity::ProcessCreated, Details::Process(&process));
    check(2, web_1_header_in, &record);
}

#[test]
fn file_descriptor_open() {
    let (descriptor, process) = (stdin_socket(), bash());
    let parents = [Details::Process(&process)];
    let record = Record::new(Activity::FileDescriptorOpen, Details::FileDescriptor(&descriptor))
        .with_parents(&parents);
    check(3, web_1_header_in, &record);
}

#[test]
fn network_connection_created() {
    let (connection, descriptor, process) = (connection(), stdin_socket(), bash());
    let parents = [Details::FileDescriptor(&descriptor), Details::Process(&process)];
    let own = Details::NetworkConnection(&connection);
    let record = Record::new(Activity::NetworkConnectionCreated, own).with_parents(&parents);
    check(4, web_1_header_in, &record);
}

#[test]
fn new_file_mapped_in_a_container() {
    let process = ProcessDetails { process_container_id: Some(CONTAINER_ID.into()), ..bash() };
    let (memory, container) = (libc_text(), pod());
    let parents = [Details::Process(&process)];
    let record = Record {
        container: Some(&container),
        ..Record::new(Activity::NewFileMapped, Details::ProcessMemory(&memory))
            .with_parents(&parents)
    };
    check(5, web_1_header_in, &record);
}

#[test]
fn reverse_shell_detected() {
    let (descriptors, connections) = ([stdin_socket()], [connection()]);
    let processes = [ShellProcess {
        process: Flat(bash()),
        file_descriptor_list: WrappedObjects::new(&descriptors),
        network_connection_list: WrappedObjects::new(&connections),
    }];
    let shell = ReverseShellDetails { process_list: WrappedObjects::new(&processes) };
    let earlier = EARLIER.map(|id| Uuid(id.to_be_bytes()));
    let ancestors = [
        Ancestor {
            process_id: 702,
            process_name: "sh".into(),
            process_executable_path: Some("/usr/bin/dash".into()),
            process_real_user_id: Some(33),
        },
        Ancestor { process_id: 411, process_name: "nginx".into(), ..Ancestor::default() },
    ];
    let detection = shell_detection().with_past(&earlier, &ancestors, false);
    let record = Record {
        detection: Some(&detection),
        incident: Some(Uuid(INCIDENT.to_be_bytes())),
        ..Record::new(Activity::ReverseShellDetected, Details::ReverseShell(&shell))
    };
    check_in(Dialect::Panoptes, 6, &web_1_header(), &record);
    // The shell and its peer once more, where other records have them.
    let (shell, peer) = (bash(), connection());
    let apart = [Details::Process(&shell), Details::NetworkConnection(&peer)];
    let record = record.with_parents(&apart);
    check_in(Dialect::DocaArgus, 6, &web_1_header_in(Dialect::DocaArgus), &record);
}

#[test]
fn a_command_typed_in_a_reverse_shell() {
    let commands = [ShellCommand { command_line: "id".into(), ..ShellCommand::default() }];
    let details = ShellHistoryDetails { shell_command_execution_history: Objects::new(&commands) };
    let process = bash();
    let parents = [Details::Process(&process)];
    let record = Record {
        incident: Some(Uuid(INCIDENT.to_be_bytes())),
        ..Record::new(Activity::ShellCommandExecuted, Details::ShellHistory(&details))
            .with_parents(&parents)
    };
    check(9, web_1_header_in, &record);
}

#[test]
fn process_limit_reached() {
    let details = limit_reached();
    let record = Record::new(Activity::ProcessLimitReached, Details::SystemActivity(&details));
    check(7, web_1_header_in, &record);
}

#[test]
fn clock_tampered() {
    let reason = "the kernel's clock has stood still for 5.140 s; meanwhile 3 processes ran for \
                  0.207 s, and 2 processes and threads were started";
    let details =
        SystemActivityDetails { reason: reason.into(), ..SystemActivityDetails::default() };
    let first_seen = Timestamp::from_ns(1_795_159_906_811_203_117);
    let detection = Detection::new(reason.into(), &["T1014"], Confidence::Medium, first_seen, 504);
    let record = Record {
        detection: Some(&detection),
        ..Record::new(Activity::ClockTampered, Details::SystemActivity(&details))
    };
    check(8, web_1_header_in, &record);
}

#[test]
fn configuration_reloaded() {
    let keys = ["service.scan_interval", "systems.web.containers.exclude"].map(Text::from);
    let needs_restart = ["service.cores"].map(Text::from);
    let reason = "the configuration was read again: 2 keys have changed, and 1 key needs a restart";
    let details = SystemActivityDetails {
        reason: reason.into(),
        keys: Some(&keys),
        needs_restart: Some(&needs_restart),
        ..SystemActivityDetails::default()
    };
    let own = Details::SystemActivity(&details);
    check(10, service_header_in, &Record::new(Activity::ConfigurationReloaded, own));
}

#[test]
fn configuration_refused() {
    let reason = "the configuration is refused and not changed: /etc/panoptes/panoptes.yaml:3:8: \
                  `output.sync`: `often` is not one of never, always, or a duration such as 1s";
    let details = SystemActivityDetails {
        reason: reason.into(),
        path: Some("/etc/panoptes/panoptes.yaml".into()),
        ..SystemActivityDetails::default()
    };
    let own = Details::SystemActivity(&details);
    check(11, service_header_in, &Record::new(Activity::ConfigurationRefused, own));
}

#[test]
fn file_permissions_changed() {
    let reason = "/usr/local/bin/x became set-uid: every user who starts it gets the rights of \
                  user 0; permissions 4755, user 0, group 0; before, 0755, user 0, group 0";
    let changed = Timestamp::from_ns(1_795_159_906_811_203_117);
    let written = Timestamp::from_ns(1_795_159_900_000_000_000);
    let details = FileDetails {
        file_path: "/usr/local/bin/x".into(),
        file_type: Some(FileType::Regular),
        file_inode_number: Some(1187),
        file_inode_device_identifier: Some(DeviceNumber { major: 8, minor: 1 }),
        file_inode_permissions: Some(Permissions(0o4755)),
        file_inode_uid: Some(0),
        file_inode_gid: Some(0),
        file_inode_size_bytes: Some(1_265_648),
        file_inode_change_time_iso_8601_ns: Some(changed),
        file_inode_modify_time_iso_8601_ns: Some(written),
        file_inode_access_time_iso_8601_ns: Some(written),
        file_previous_inode_number: Some(1187),
        file_previous_inode_permissions: Some(Permissions(0o755)),
        file_previous_inode_uid: Some(0),
        file_previous_inode_gid: Some(0),
        ..FileDetails::default()
    };
    let detection = Detection::new(reason.into(), &["T1548.001"], Confidence::High, changed, 1);
    let record = Record {
        detection: Some(&detection),
        ..Record::new(Activity::FilePermissionsChanged, Details::File(&details))
    };
    check(12, web_1_header_in, &record);
}

/// A hook that everything is known of.
fn hook() -> KernelCodeDetails<'static> {
    KernelCodeDetails {
        kernel_code_check: "ftrace_handlers",
        kernel_code_address: MemoryAddress(0xffff_8880_1234_5018),
        kernel_code_symbol: Some("hook_ops+0x18".into()),
        kernel_code_label: Some("a filter".into()),
        kernel_code_function: Some("filldir64".into()),
        kernel_code_function_address: Some(MemoryAddress(0xffff_ffff_8123_4560)),
        kernel_code_listing: Some(KernelListing::Files),
        kernel_code_target: Some(MemoryAddress(0xffff_ffff_c0a1_b000)),
        kernel_code_target_symbol: Some("hook_filldir64".into()),
        kernel_code_owner: Some(KernelCodeOwner::Module),
        kernel_module_name: Some("watcher".into()),
        kernel_code_bytes_before: Some(Hex(&[0x0f, 0x1f, 0x44, 0, 0])),
        kernel_code_bytes_after: Some(Hex(&[0xe8, 0xfb, 0x4f, 0xed, 0x1e])),
        kernel_code_first_seen: None,
        kernel_code_advice: Some("Find out who loaded it."),
    }
}

#[test]
fn kernel_hook_detected() {
    let first_seen = Timestamp::from_ns(1_795_159_906_811_203_117);
    let details = KernelCodeDetails { kernel_code_first_seen: Some(first_seen), ..hook() };
    let (reason, techniques) =
        ("the function filldir64 is hooked by the module watcher", &["T1014", "T1547.006"]);
    let detection = Detection::new(reason.into(), techniques, Confidence::Medium, first_seen, 2);
    let record = Record {
        detection: Some(&detection),
        ..Record::new(Activity::KernelHookDetected, Details::KernelCode(&details))
    };
    check(13, web_1_header_in, &record);
}

fn line<T: ScanObject>(line: &ScanLine<'_, T>) -> String {
    let mut out = vec![0; 4096];
    let length = line.write(&mut out, STRING_LENGTH).unwrap();
    out.truncate(length);
    String::from_utf8(out).unwrap()
}

#[test]
fn scan_lines() {
    let thread =
        ThreadDetails { thread_id: 714, thread_self_exec_id: Some(2), thread_exit_state: Some(0) };
    let (process, descriptor, memory, connection) =
        (bash(), stdin_socket(), libc_text(), connection());
    let integrity = IntegrityCheckDetails {
        check: "kprobes",
        verdict: IntegrityVerdict::NotChecked,
        places: 4,
        violations: 0,
        unread: 1,
        reason: Some("places could not be read"),
    };
    let written = [
        line(&ScanLine::new(&process)),
        line(&ScanLine::of_process(714, &thread)),
        line(&ScanLine::of_process(714, &descriptor)),
        line(&ScanLine::new(&memory)),
        line(&ScanLine::of_process(714, &connection)),
        line(&ScanLine::new(&integrity)),
        line(&ScanLine::new(&hook())),
    ];
    assert_eq!(written.concat(), SCAN);
}

#[test]
fn every_example_is_valid_and_a_stranger_is_not() {
    for (lines, schema) in [
        (RECORDS, record_schema(Dialect::Panoptes)),
        (FOREIGN_RECORDS, record_schema(Dialect::DocaArgus)),
        (SCAN, scan_schema()),
    ] {
        let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
        jsonschema::meta::validate(&schema).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        for line in lines.lines() {
            let mut value: serde_json::Value = serde_json::from_str(line).unwrap();
            let errors: Vec<_> = validator.iter_errors(&value).map(|e| e.to_string()).collect();
            assert!(errors.is_empty(), "{errors:?} in {line}");
            value["a_key_that_no_table_names"] = true.into();
            assert!(!validator.is_valid(&value));
        }
    }
}
