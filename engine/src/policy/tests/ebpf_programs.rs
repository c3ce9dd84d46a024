//! Records of programs of eBPF.

use core::cell::Cell;

use arrayvec::ArrayString;

use super::*;
use crate::policy::PolicyConfig;
use crate::policy::exceptions::{Exception, Exceptions};
use crate::state::bpf::{BpfLinkFacts, BpfProgramFacts};
use crate::state::process::Process;
use crate::time::RealTime;
use crate::walk::{BpfHelpers, BpfLinkRow, BpfProgramRow, BpfTarget, bpf_view};

/// `BPF_PROG_TYPE_LSM` for `BPF_LSM_MAC` (include/uapi/linux/bpf.h).
fn row() -> BpfProgramRow {
    BpfProgramRow {
        address: KernelVa(0xffff_c900_0000_1000),
        id: 17,
        kind: 29,
        attach_kind: 27,
        name: ArrayString::from("file_open").unwrap(),
        tag: [0xa5; 8],
        instructions: 42,
        image: KernelVa(0xffff_ffff_c000_0000),
        loaded_ns: 5_000_000_001,
        user_id: Some(1000),
        helpers: Some(BpfHelpers::default()),
        views: bpf_view::PROGRAM_IDR | bpf_view::SYMBOLS,
        references: 1,
        function: ArrayString::from("bpf_lsm_file_open").unwrap(),
        ..BpfProgramRow::default()
    }
}

/// `BPF_LINK_TYPE_TRACING`
fn link() -> BpfLinkFacts {
    let target = BpfTarget::Function(KernelVa(0xffff_ffff_8100_0000));
    let row = BpfLinkRow {
        id: 7,
        kind: 2,
        attach_kind: Some(27),
        program_address: row().address,
        target,
        ..BpfLinkRow::default()
    };
    BpfLinkFacts::read(&row, Some(&self::row()))
}

/// A machine with the process 714, which started at 1970-01-01.
fn reader() -> Reader {
    let mut reader = Reader::new(&limits());
    reader.scan(&World::default().with(FakeProcess::new(714)));
    reader.snapshot.machine.boot_to_real_ns = Some(1_000_000_000);
    reader
}

/// The records of a change that is made for the process 714.
fn records<'a>(
    reader: &'a mut Reader,
    make: impl FnOnce(Option<&'a Process>) -> Change<'a>,
) -> Vec<Value> {
    let Reader { state, snapshot, policy, producer, consumer, now, .. } = reader;
    let mut processes = state.processes().map(|(_, process)| process);
    let process = processes.find(|process| process.process_id() == 714);
    assert!(process.is_some());
    let cx = state.scan_context(snapshot, *now);
    policy.reporter(producer).change(&cx, &make(process));
    producer.flush();
    let mut records = records_of(consumer);
    records.retain(|record| details(record, "ebpf_program_details").is_object());
    records
}

fn program_details() -> Value {
    json!({
        "ebpf_program_id": 17,
        "ebpf_program_type": "lsm",
        "ebpf_program_name": "file_open",
        "ebpf_program_tag": "a5".repeat(8),
        "ebpf_program_size": 42,
        "ebpf_program_image_address": "0xffffffffc0000000",
        "ebpf_program_loaded_time_iso_8601_ns": "1970-01-01T00:00:06.000000001+00:00",
        "ebpf_program_user_id": 1000,
        "ebpf_program_attach_type": "lsm_mac",
    })
}

#[test]
fn a_program_that_is_loaded_has_its_process() {
    let (mut reader, program) = (reader(), BpfProgramFacts::read(&row()));
    let program = &program;
    let mut found = records(&mut reader, |process| Change::BpfProgramLoaded { program, process });
    found.extend(records(&mut reader, |_| Change::BpfProgramUnloaded { program }));
    assert_eq!(names(&found), ["ebpf_program_loaded", "ebpf_program_unloaded"]);
    for record in &found {
        assert_eq!(*details(record, "ebpf_program_details"), program_details());
        assert_eq!(
            (&record["message_type"], &record["severity"]),
            (&json!("EVENT"), &json!("INFO"))
        );
    }
    assert_eq!(details(&found[0], "process_details")["process_id"], 714);
    assert!(details(&found[1], "process_details").is_null());
}

#[test]
fn a_link_has_its_place_and_its_program() {
    let (mut reader, program) = (reader(), BpfProgramFacts::read(&row()));
    let (link, known) = (&link(), Some(&program));
    let mut found = records(&mut reader, |process| Change::BpfProgramAttached {
        link,
        program: known,
        process,
    });
    found.extend(records(&mut reader, |_| Change::BpfProgramDetached { link, program: known }));
    assert_eq!(names(&found), ["ebpf_program_attached", "ebpf_program_detached"]);
    let mut expected = program_details();
    expected["ebpf_program_link_id"] = 7.into();
    expected["ebpf_program_attach_target"] = "bpf_lsm_file_open".into();
    for record in &found {
        assert_eq!(*details(record, "ebpf_program_details"), expected);
    }
    // Its program was not tracked.
    let found = records(&mut reader, |_| Change::BpfProgramDetached { link, program: None });
    let expected = json!({
        "ebpf_program_id": 17,
        "ebpf_program_attach_type": "lsm_mac",
        "ebpf_program_attach_target": "bpf_lsm_file_open",
        "ebpf_program_link_id": 7,
    });
    assert_eq!(*details(&found[0], "ebpf_program_details"), expected);
}

/// The alert of a hidden program of a type (`enum bpf_prog_type`).
fn hidden(kind: u32) -> Value {
    let mut reader = reader();
    let views = bpf_view::SYMBOLS | bpf_view::REFERENCE;
    let program = BpfProgramFacts::read(&BpfProgramRow { kind, views, ..row() });
    let (program, is_accepted) = (&program, Cell::new(false));
    let mut found = records(&mut reader, |process| Change::BpfProgramHidden {
        program,
        process,
        scans: 2,
        since_ns: RealTime::default(),
        is_accepted: &is_accepted,
    });
    assert!(is_accepted.get());
    assert_eq!(names(&found), ["ebpf_program_hidden"]);
    found.remove(0)
}

#[test]
fn a_hidden_program_raises_an_alert_with_the_views_that_show_it() {
    let record = hidden(29);
    assert_eq!((&record["message_type"], &record["severity"]), (&json!("ALERT"), &json!("HIGH")));
    let (detection, about) = (&record["detection"], details(&record, "ebpf_program_details"));
    assert_eq!(detection["mitre_attack"], json!(["T1014"]));
    assert_eq!(detection["confidence"], "high");
    assert_eq!(detection["scans_confirmed"], 2);
    assert_eq!(about["ebpf_program_views"], json!(["symbols", "reference"]));
    assert_eq!(
        detection["reason"],
        "the program of eBPF file_open (number 17, type lsm, tag a5a5a5a5a5a5a5a5) is not in the \
         kernel's IDR of programs, but in the list of symbols of eBPF and what a link or a \
         descriptor leads to, in 2 scans in a row"
    );
    assert_eq!(details(&record, "process_details")["process_id"], 714);
    assert_eq!(detection["incident_id"], record["message_id"], "it begins an incident");
}

/// `socket_filter`, `sched_cls` and `xdp` see what a knock at a closed port brings.
#[test]
fn a_hidden_program_that_sees_packets_may_wait_for_a_signal() {
    for kind in [1, 3, 6] {
        assert_eq!(hidden(kind)["detection"]["mitre_attack"], json!(["T1014", "T1205"]), "{kind}");
    }
}

#[test]
fn a_dangerous_program_raises_an_alert_with_what_its_helpers_do() {
    let mut reader = reader();
    let helpers = Some(BpfHelpers::PROBE_WRITE_USER.with(BpfHelpers::SEND_SIGNAL));
    let program = BpfProgramFacts::read(&BpfProgramRow { helpers, ..row() });
    let (program, is_accepted) = (&program, Cell::new(false));
    let found = records(&mut reader, |process| Change::BpfProgramDangerous {
        program,
        process,
        is_accepted: &is_accepted,
    });
    assert!(is_accepted.get());
    assert_eq!(names(&found), ["ebpf_program_dangerous"]);
    let record = &found[0];
    assert_eq!((&record["message_type"], &record["severity"]), (&json!("ALERT"), &json!("MEDIUM")));
    let (detection, about) = (&record["detection"], details(record, "ebpf_program_details"));
    assert_eq!(detection["mitre_attack"], json!(["T1014"]));
    assert_eq!(detection["confidence"], "medium");
    let called = json!(["bpf_probe_write_user", "bpf_send_signal"]);
    assert_eq!(about["ebpf_program_helpers"], called);
    assert_eq!(
        detection["reason"],
        "the program of eBPF file_open (number 17, type lsm, tag a5a5a5a5a5a5a5a5) calls \
         bpf_probe_write_user (it writes to the memory of processes) and bpf_send_signal (it sends \
         signals to processes)"
    );
    assert_eq!(details(record, "process_details")["process_id"], 714);
}

/// The alerts about a dangerous program, with these exceptions and allowed tags. `is_held` is
/// whether the process 714 has a descriptor of it.
fn dangers(exceptions: Vec<Exception>, allowed_tags: &[[u8; 8]], is_held: bool) -> usize {
    let mut config = PolicyConfig::default();
    config.allowed_tags = allowed_tags.into();
    let mut reader = Reader::with(&limits(), config);
    reader.policy.set_exceptions(Arc::new(Exceptions::new(exceptions)));
    reader.scan(&World::default().with(FakeProcess::new(714)));
    let helpers = Some(BpfHelpers::SEND_SIGNAL);
    let program = BpfProgramFacts::read(&BpfProgramRow { helpers, ..row() });
    let (program, is_accepted) = (&program, Cell::new(false));
    let found = records(&mut reader, |process| Change::BpfProgramDangerous {
        program,
        process: process.filter(|_| is_held),
        is_accepted: &is_accepted,
    });
    assert!(is_accepted.get());
    found.len()
}

#[test]
fn a_program_with_an_allowed_tag_raises_no_alert() {
    assert_eq!(dangers(Vec::new(), &[[0; 8], [0xa5; 8]], true), 0);
    assert_eq!(dangers(Vec::new(), &[[0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0]], true), 1);
}

/// The kernel remembers no loader, so only its tag names a program that no process holds.
#[test]
fn an_exception_covers_a_program_only_while_a_process_holds_it() {
    let exception = || Exception {
        activity: Activity::EbpfProgramDangerous,
        process_executable_path: None,
        process_name: None,
        user_id: Some(0),
        container: None,
        image: None,
        address: None,
        command_line: None,
        kernel_module_name: None,
        reason: "it is known".into(),
        until: None,
    };
    assert_eq!(dangers(vec![exception()], &[], true), 0);
    assert_eq!(dangers(vec![exception()], &[], false), 1);
    assert_eq!(dangers(Vec::new(), &[[0xa5; 8]], false), 0);
}

/// The alerts about a program that a process holds.
fn denials(process_id: u32, helpers: BpfHelpers) -> Vec<Value> {
    let mut reader = Reader::new(&limits());
    reader.scan(&World::default().with(FakeProcess::new(process_id)));
    let program = BpfProgramFacts::read(&BpfProgramRow { helpers: Some(helpers), ..row() });
    let Reader { state, snapshot, policy, producer, consumer, now, .. } = &mut reader;
    let mut processes = state.processes().map(|(_, process)| process);
    let process = processes.find(|process| process.process_id() == process_id);
    assert!(process.is_some());
    let (program, is_accepted) = (&program, Cell::new(false));
    let change = Change::BpfProgramDangerous { program, process, is_accepted: &is_accepted };
    policy.reporter(producer).change(&state.scan_context(snapshot, *now), &change);
    producer.flush();
    assert!(is_accepted.get());
    let mut records = records_of(consumer);
    records.retain(|record| record["activity_data"]["name"] == "ebpf_program_dangerous");
    records
}

#[test]
fn a_program_that_denies_is_reported_unless_process_1_holds_it() {
    let found = denials(714, BpfHelpers::DENIES);
    assert_eq!(
        found[0]["detection"]["reason"],
        "the program of eBPF file_open (number 17, type lsm, tag a5a5a5a5a5a5a5a5) denies what \
         processes do (it returns an error to LSM)"
    );
    assert_eq!(denials(1, BpfHelpers::DENIES), [] as [Value; 0]);
    let both = BpfHelpers::DENIES.with(BpfHelpers::SEND_SIGNAL);
    assert_eq!(denials(1, both).len(), 1);
}

/// What a loader loads again is the same; another program is not.
#[test]
fn a_cause_has_the_name_the_type_the_tag_and_the_helpers() {
    let mut reader = reader();
    let reporter = reader.policy.reporter(&mut reader.producer);
    let of = |row: BpfProgramRow, is_dangerous| {
        let program = BpfProgramFacts::read(&row);
        reporter.cause().of_ebpf_program(&program, is_dangerous).hash()
    };
    let first = of(row(), true);
    assert_eq!(first, of(BpfProgramRow { id: 18, loaded_ns: 6, ..row() }, true));
    assert_ne!(first, of(BpfProgramRow { tag: [0; 8], ..row() }, true));
    assert_ne!(first, of(BpfProgramRow { kind: 2, ..row() }, true));
    let name = ArrayString::from("another").unwrap();
    assert_ne!(first, of(BpfProgramRow { name, ..row() }, true));
    let helpers = Some(BpfHelpers::SEND_SIGNAL);
    assert_ne!(first, of(BpfProgramRow { helpers, ..row() }, true));
    assert_eq!(of(row(), false), of(BpfProgramRow { helpers, ..row() }, false));
}

#[test]
fn a_flood_of_programs_is_summed_up() {
    let mut reader = Reader::new(&Limits { events_per_second: 2, ..limits() });
    reader.scan(&World::default().with(FakeProcess::new(714)));
    let program = &BpfProgramFacts::read(&row());
    let mut found = Vec::new();
    for _ in 0..5 {
        found.extend(records(&mut reader, |_| Change::BpfProgramUnloaded { program }));
    }
    assert_eq!(names(&found), ["ebpf_program_unloaded"; 2]);
    assert_eq!(reader.finish(), 0);
    let sums = reader.records();
    assert_eq!(names(&sums), ["events_summed_up"]);
    let more = json!({
        "reason": "3 more events ebpf_program_unloaded were not written",
        "activity": "ebpf_program_unloaded",
        "count": 3,
    });
    assert_eq!(*details(&sums[0], "system_activity_details"), more);
}
