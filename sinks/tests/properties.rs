//! Whatever names a watched machine uses, records stay valid JSON, valid by the schema, and short
//! enough.

#![allow(clippy::unwrap_used, reason = "a test may")]

#[path = "../../engine/records/tests/common/mod.rs"]
mod common;
#[path = "../../engine/records/tests/common/every.rs"]
mod every;

use std::sync::LazyLock;

use common::{
    NOW_NS, STRING_LENGTH, bash, connection, eth0, service_header, set_web_1, shell_detection,
    stdin_socket, web_1_header, web_1_header_in,
};
use every::{Filling, each_activity};
use panoptes_records::activities::{Activity, Severity};
use panoptes_records::dialect::Dialect;
use panoptes_records::json::command_line::CommandLine;
use panoptes_records::json::text::Text;
use panoptes_records::json::{Full, Limits};
use panoptes_records::record::file_descriptor::FileDescriptorDetails;
use panoptes_records::record::header::RecordHeader;
use panoptes_records::record::interface::BluefieldSystem;
use panoptes_records::record::process::ProcessDetails;
use panoptes_records::record::reverse_shell::{ReverseShellDetails, ShellProcess};
use panoptes_records::record::scan::{SCAN_LINE_BYTES, ScanLine};
use panoptes_records::record::value::{Flat, IndexedObjects, WrappedObjects};
use panoptes_records::record::workload::{ContainerContext, Workload};
use panoptes_records::record::{Details, RECORD_BYTES_MAX, Record, RecordWriter};
use panoptes_records::schema::{HEADER_KEYS, record_schema, scan_schema};
use panoptes_sinks::output::form::syslog::{
    FRAME_BYTES_MAX, MESSAGE_BYTES_MAX, MessageFraming, MessageSubject, RecordKind, Syslog,
};
use proptest::prelude::*;
use serde_json::Value;

const DIALECTS: [Dialect; 2] = [Dialect::Panoptes, Dialect::DocaArgus];

static RECORDS: LazyLock<jsonschema::Validator> =
    LazyLock::new(|| validator(&record_schema(Dialect::Panoptes)));
static FOREIGN_RECORDS: LazyLock<jsonschema::Validator> =
    LazyLock::new(|| validator(&record_schema(Dialect::DocaArgus)));
static SCAN: LazyLock<jsonschema::Validator> = LazyLock::new(|| validator(&scan_schema()));

fn validator(schema: &str) -> jsonschema::Validator {
    jsonschema::validator_for(&serde_json::from_str(schema).unwrap()).unwrap()
}

/// The schema of records with this header.
fn schema_of(header: &RecordHeader) -> &'static jsonschema::Validator {
    match header.dialect() {
        Dialect::Panoptes => &RECORDS,
        Dialect::DocaArgus => &FOREIGN_RECORDS,
    }
}

/// Writes, parses and validates.
fn written(header: &RecordHeader, record: &Record<'_>) -> Value {
    let mut out = vec![0; RECORD_BYTES_MAX];
    let mut writer = RecordWriter::new(1, STRING_LENGTH);
    let length = writer.write(&mut out, header, record, NOW_NS).unwrap();
    assert!(length < RECORD_BYTES_MAX);
    assert!(!out[..length].contains(&b'\n'));
    let value: Value = serde_json::from_slice(&out[..length]).unwrap();
    let schema = schema_of(header);
    let errors: Vec<_> = schema.iter_errors(&value).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?} in {value}");
    value
}

fn filling() -> impl Strategy<Value = Filling> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..3000);
    let ids = proptest::collection::vec(any::<u32>(), 0..6000);
    (bytes(), bytes(), any::<u64>(), ids).prop_map(|(bytes, more, number, ids)| Filling {
        bytes,
        more,
        number,
        ids,
    })
}

/// Checks the record's syslog message: it is complete, or shortened, valid and still clear.
fn check_message(header: &RecordHeader, record: &Record<'_>) {
    let whole = written(header, record);
    let mut text = vec![0; RECORD_BYTES_MAX];
    let length = RecordWriter::new(1, STRING_LENGTH).write(&mut text, header, record, NOW_NS);
    let text = &text[..length.unwrap()];
    let time = whole["occurred_message_time_iso_8601_ns"].as_str().unwrap().as_bytes();
    let severity = Severity::from_word(whole["severity"].as_str().unwrap()).unwrap();
    let about = MessageSubject {
        kind: RecordKind::Activity(record.activity),
        severity,
        time: time.try_into().unwrap(),
    };
    let mut out = [0; FRAME_BYTES_MAX];
    let syslog = Syslog::new(MessageFraming::OctetCounting, 16, &"h".repeat(300), u32::MAX);
    let frame = std::str::from_utf8(syslog.write(&about, text, &mut out).unwrap()).unwrap();

    let (length, message) = frame.split_once(' ').unwrap();
    assert_eq!(length, message.len().to_string());
    assert!(message.len() <= MESSAGE_BYTES_MAX);
    // Priority and version, time, hostname, program, process, message id, no data.
    let fields: Vec<_> = message.splitn(8, ' ').collect();
    assert_eq!(fields[6], "-");
    let short: Value = serde_json::from_str(fields[7]).unwrap();
    let errors = schema_of(header).validate(&short).err();
    assert!(errors.is_none(), "{errors:?} in {short}");
    let least = text.len().min(MESSAGE_BYTES_MAX / 2);
    assert!(message.len() > least, "{} of {} bytes", message.len(), text.len());
    // The other dialect also has the shell beside the lists, and keeps it.
    let shell = match header.dialect() {
        Dialect::Panoptes => "/activity_data/reverse_shell_details/process_list/0",
        Dialect::DocaArgus => "/activity_data/process_details/process_id",
    };
    assert_eq!(short.pointer(shell).is_some(), whole.pointer(shell).is_some());
    let places: Vec<_> =
        HEADER_KEYS.iter().map(|key| fields[7].find(&format!("\"{key}\":"))).collect();
    assert!(places.is_sorted() && places[0].is_some());
    for key in &HEADER_KEYS[..9] {
        assert_eq!(short[*key], whole[*key]);
    }
    assert_eq!(short["activity_data"]["name"], whole["activity_data"]["name"]);
    let reason = |value: &Value| value["detection"]["reason"].as_str().unwrap().to_owned();
    assert!(reason(&whole).starts_with(&reason(&short)));
}

#[test]
fn every_activity_fits_a_syslog_message_if_all_names_are_escaped() {
    // Each byte takes six in the record.
    let [bytes, more] = [vec![1; 3000], vec![0x1b; 3000]];
    let filling = Filling { bytes, more, number: u64::MAX, ids: (0..6000).collect() };
    let user_data = "\x01".repeat(1000);
    let interfaces = vec![eth0(); 400];
    for dialect in DIALECTS {
        let mut header = RecordHeader::in_dialect(
            dialect,
            &user_data.as_str().into(),
            &BluefieldSystem::default(),
            Limits::new(STRING_LENGTH),
        );
        header.set_workload(&Workload {
            unique_identifier: Some(Text::new(&filling.bytes)),
            hostname: Some(Text::new(&filling.bytes)),
            workload_networking_interfaces: Some(IndexedObjects(&interfaces)),
            ..Workload::default()
        });
        each_activity(&filling, dialect, |record| check_message(&header, record));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn every_activity_fits_a_syslog_message_whatever_the_names(filling in filling()) {
        for dialect in DIALECTS {
            let header = web_1_header_in(dialect);
            each_activity(&filling, dialect, |record| check_message(&header, record));
        }
    }

    #[test]
    fn every_activity_gives_a_valid_record_whatever_the_names(filling in filling()) {
        for dialect in DIALECTS {
            let header = web_1_header_in(dialect);
            each_activity(&filling, dialect, |record| {
                let value = written(&header, record);
                assert_eq!(value["activity_data"]["name"], record.activity.name());
            });
        }
    }

    #[test]
    fn every_scan_line_is_valid_and_complete_whatever_the_names(filling in filling()) {
        let mut out = vec![0; SCAN_LINE_BYTES];
        let descriptor = filling.descriptor();
        let line = ScanLine::of_process(1, &descriptor);
        let length = line.write(&mut out, STRING_LENGTH).unwrap();
        prop_assert_eq!(out[length - 1], b'\n');
        let value: Value = serde_json::from_slice(&out[..length]).unwrap();
        prop_assert!(SCAN.is_valid(&value), "{}", value);
        let threads = value["file_descriptor_thread_id_array"].as_array().unwrap();
        prop_assert_eq!(threads.len(), filling.ids.len());
    }

    #[test]
    fn a_short_slice_gets_all_or_nothing(room in 0_usize..2500) {
        let (header, process) = (web_1_header(), bash());
        let record = Record::new(Activity::ProcessCreated, Details::Process(&process));
        let mut out = vec![0; room];
        let mut writer = RecordWriter::new(1, STRING_LENGTH);
        match writer.write(&mut out, &header, &record, NOW_NS) {
            Ok(length) => prop_assert!(serde_json::from_slice::<Value>(&out[..length]).is_ok()),
            Err(Full) => prop_assert!(room < 2085),
        }
    }
}

#[test]
fn the_keys_of_the_header_are_in_the_contracts_order() {
    let mut out = vec![0; RECORD_BYTES_MAX];
    let process = bash();
    let record = Record::new(Activity::ProcessCreated, Details::Process(&process));
    let mut writer = RecordWriter::new(1, STRING_LENGTH);
    let length = writer.write(&mut out, &web_1_header(), &record, NOW_NS).unwrap();
    let text = std::str::from_utf8(&out[..length]).unwrap();
    let places: Vec<_> =
        HEADER_KEYS.iter().map(|key| text.find(&format!("\"{key}\":")).unwrap()).collect();
    assert!(places.is_sorted());
}

#[test]
fn a_list_that_is_too_long_is_cut_and_marked_while_the_rest_stays_whole() {
    let threads: Vec<u32> = (0..32_768).collect();
    let descriptor =
        FileDescriptorDetails { file_descriptor_thread_id_array: Some(&threads), ..stdin_socket() };
    let process = bash();
    let parents = [Details::Process(&process)];
    let record = Record::new(Activity::FileDescriptorOpen, Details::FileDescriptor(&descriptor))
        .with_parents(&parents);
    let value = written(&web_1_header(), &record);
    let details = &value["activity_data"]["file_descriptor_details"];
    assert_eq!(details["truncated"], true);
    let kept = details["file_descriptor_thread_id_array"].as_array().unwrap();
    assert!(kept.len() > 2000, "{}", kept.len());
    assert!(kept.iter().enumerate().all(|(index, id)| *id == index));
    assert_eq!(value["activity_data"]["process_details"].get("truncated"), None);
    assert_eq!(value["activity_data"]["process_details"]["process_name"], "bash");
}

#[test]
fn names_that_need_escapes_push_no_process_out_of_a_reverse_shell() {
    let name = [1; STRING_LENGTH];
    let process = ProcessDetails {
        process_executable_path: Some(Text::new(&name)),
        process_current_working_directory: Some(Text::new(&name)),
        process_command_line_arguments: Some(CommandLine::new(&name)),
        ..bash()
    };
    let descriptors =
        [FileDescriptorDetails { file_descriptor_name: Some(Text::new(&name)), ..stdin_socket() };
            2];
    let connections = [connection()];
    let chain = [ShellProcess {
        process: Flat(process),
        file_descriptor_list: WrappedObjects::new(&descriptors),
        network_connection_list: WrappedObjects::new(&connections),
    }; 2];
    let shell = ReverseShellDetails { process_list: WrappedObjects::new(&chain) };
    let detection = shell_detection();
    let record = Record {
        detection: Some(&detection),
        ..Record::new(Activity::ReverseShellDetected, Details::ReverseShell(&shell))
    };
    check_message(&web_1_header(), &record);
    let value = written(&web_1_header(), &record);
    let list = &value["activity_data"]["reverse_shell_details"]["process_list"];
    assert_eq!(list.as_array().unwrap().len(), chain.len());
    for process in list.as_array().unwrap().iter().map(|process| &process["process_details"]) {
        assert_eq!(process["truncated"], true);
        assert!(process["process_executable_path"].as_str().unwrap().len() >= 100);
        assert_eq!(process["file_descriptor_list"].as_array().unwrap().len(), 2);
        assert_eq!(process["network_connection_list"].as_array().unwrap().len(), 1);
    }
}

#[test]
fn an_incomplete_chain_is_marked_where_it_was_cut() {
    let descriptors = [stdin_socket()];
    let process = |is_cut| ShellProcess {
        process: Flat(bash()),
        file_descriptor_list: WrappedObjects::cut_if(&descriptors, is_cut),
        network_connection_list: WrappedObjects::default(),
    };
    let detection = shell_detection();
    let truncated = |chain: &[ShellProcess<'_>], is_cut| {
        let shell = ReverseShellDetails { process_list: WrappedObjects::cut_if(chain, is_cut) };
        let record = Record {
            detection: Some(&detection),
            ..Record::new(Activity::ReverseShellDetected, Details::ReverseShell(&shell))
        };
        let value = written(&web_1_header(), &record);
        let details = &value["activity_data"]["reverse_shell_details"];
        let list = details["process_list"].as_array().unwrap();
        let of_processes: Vec<_> =
            list.iter().map(|process| process["process_details"]["truncated"] == true).collect();
        (details["truncated"] == true, of_processes)
    };
    assert_eq!(truncated(&[process(false), process(true)], false), (false, vec![false, true]));
    assert_eq!(truncated(&[process(false)], true), (true, vec![false]));
}

#[test]
fn a_machine_with_hundreds_of_interfaces_keeps_the_first_of_them() {
    let interfaces = vec![eth0(); 400];
    let mut header = service_header();
    header.set_workload(&Workload {
        hostname: Some("web-1".into()),
        workload_networking_interfaces: Some(IndexedObjects(&interfaces)),
        ..Workload::default()
    });
    let process = bash();
    let record = Record::new(Activity::ProcessCreated, Details::Process(&process));
    let value = written(&header, &record);
    let workload = &value["workload_information"];
    assert_eq!(workload["truncated"], true);
    assert!(workload["workload_networking_interfaces"].as_object().unwrap().len() > 5);
    // And back to `web-1`, in the same space.
    set_web_1(&mut header);
    let value = written(&header, &record);
    assert_eq!(value["workload_information"].get("truncated"), None);
}

#[test]
fn a_configuration_may_give_another_severity() {
    let mut header = web_1_header();
    header.set_severity(Activity::ProcessCreated, Severity::Critical);
    let process = bash();
    let record = Record::new(Activity::ProcessCreated, Details::Process(&process));
    assert_eq!(written(&header, &record)["severity"], "CRITICAL");
    let record = Record::new(Activity::ProcessZombie, Details::Process(&process));
    assert_eq!(written(&header, &record)["severity"], "WARNING");
}

#[test]
fn a_container_may_be_known_where_the_machine_is_not() {
    let process = bash();
    let pod = ContainerContext { pod_name: Some("web".into()), ..ContainerContext::default() };
    let record = Record {
        container: Some(&pod),
        ..Record::new(Activity::ProcessCreated, Details::Process(&process))
    };
    let value = written(&service_header(), &record);
    assert_eq!(value["workload_information"]["container_context"]["pod_name"], "web");
}
