//! Records of execs.

use panoptes_decoders::kernel::task_struct::PF_FORKNOEXEC;

use super::*;

/// A process that has called exec, and has mapped this many libraries.
fn program(libraries: u64) -> FakeProcess {
    let mut process = FakeProcess::new(300);
    process.exec_id += 1;
    process.flags = 0;
    process.areas = (0..libraries)
        .map(|at| {
            let file = FakeFile::regular(0xffff_8881_0002_0000 + at * 0x1000, at, "lib.so");
            FakeArea::of_file(0x50_0000 + at * 0x2000, 0x50_1000 + at * 0x2000, R | X, &file)
        })
        .collect();
    process
}

/// The records of a fork that becomes such a program.
fn executed(libraries: u64) -> Vec<Value> {
    let mut config = PolicyConfig::default();
    config.set_enabled(Activity::NewFileMapped, false);
    let limits = Limits { vmas: 512, ..limits() };
    let mut reader = Reader::with(&limits, config);
    reader.scan(&World::default());
    let mut fork = FakeProcess::new(300);
    fork.flags = PF_FORKNOEXEC;
    let fork = World::default().with(fork);
    assert_eq!(names(&reader.scan(&fork)), ["process_created"]);
    let world = World::default().with(program(libraries));
    (0..4).flat_map(|_| reader.scan(&world)).collect()
}

#[test]
fn an_exec_is_an_event_with_both_programs_and_what_was_mapped() {
    let records = executed(2);
    assert_eq!(names(&records), ["process_executed"]);
    assert_eq!(
        (&records[0]["message_type"], &records[0]["severity"]),
        (&"EVENT".into(), &"INFO".into())
    );
    let process = details(&records[0], "process_details");
    assert_eq!(
        (&process["process_id"], &process["process_self_exec_id"]),
        (&300.into(), &3.into())
    );
    let executed = details(&records[0], "process_executed_details");
    let file = json!({ "file_path": "/lib.so", "memory_permissions": "r-xp" });
    let expected = json!({
        "process_previous_executable_path": "/bash",
        "process_mapped_files": [file, file],
        "process_mapped_files_count": 2,
    });
    assert_eq!(*executed, expected);
}

#[test]
fn a_list_of_mapped_files_is_cut_and_counted() {
    let records = executed(65);
    let executed = details(&records[0], "process_executed_details");
    assert_eq!(executed["process_mapped_files"].as_array().unwrap().len(), 64);
    assert_eq!(executed["process_mapped_files_count"], 65);
    assert_eq!(executed["truncated"], true);
}
