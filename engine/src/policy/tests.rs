//! Records and lines of worlds made by hand: each is valid by the schema, and describes what
//! happened.

mod acts;
mod alert_floods;
mod causes;
mod connections;
mod containers;
mod ebpf_programs;
mod exceptions;
mod execs;
mod floods;
mod kernel_code;
mod modules;
mod permissions;
mod shells;
mod stories;

use std::net::Ipv4Addr;
use std::sync::{Arc, LazyLock};

use jsonschema::Validator;
use panoptes_decoders::address::KernelVa;
use panoptes_records::activities::Activity;
use panoptes_records::dialect::Dialect;
use panoptes_records::json::Limits as TextLimits;
use panoptes_records::queue::{Consumer, Producer, QueueSize, Waker, queue};
use panoptes_records::record::header::RecordHeader;
use panoptes_records::record::interface::BluefieldSystem;
use panoptes_records::schema::{record_schema, scan_schema};
use panoptes_tables::HashKey;
use serde_json::{Value, json};

use super::gaps::LossFixture;
use super::lines::{Kinds, LineWriter, Traits};
use super::{Policy, PolicyConfig};
use crate::container_config::Images;
use crate::detect::binary_attestation::{BinaryAttestation, ShippedFiles};
use crate::detect::memory_permissions::MemoryPermissions;
use crate::detect::tests::Unreadable;
use crate::detect::{Detector as _, DetectorContext};
use crate::limits::Limits;
use crate::page_cache::{Asker, ContentFacts, ContentSource, FileIdentity, MachineMemory};
use crate::state::facts::AreaFacts;
use crate::state::tests::watch::limits;
use crate::state::tests::world::{
    ESTABLISHED, FakeArea, FakeFile, FakeProcess, FakeSocket, R, TIME_WAIT, W, World, X,
};
use crate::state::{Change, Changes as _, MachineState, ScanContext, StateSettings};
use crate::time::Now;
use crate::walk::{InterfaceRow, Kernel, Losses, Snapshot, view};

const SOCK: u64 = 0xffff_8887_0000_0000;

static RECORDS: LazyLock<Validator> =
    LazyLock::new(|| validator(&record_schema(Dialect::Panoptes)));
static FOREIGN_RECORDS: LazyLock<Validator> =
    LazyLock::new(|| validator(&record_schema(Dialect::DocaArgus)));
static LINES: LazyLock<Validator> = LazyLock::new(|| validator(&scan_schema()));

fn validator(schema: &str) -> Validator {
    jsonschema::validator_for(&serde_json::from_str(schema).unwrap()).unwrap()
}

/// The records in a queue, which must be valid.
pub(super) fn records_of(consumer: &mut Consumer) -> Vec<Value> {
    let mut records = Vec::new();
    while let Some(block) = consumer.pop() {
        for record in block.iter() {
            let record: Value = serde_json::from_slice(record).unwrap();
            let is_foreign = record["vendor_name"] == Dialect::DocaArgus.vendor_name();
            let schema = if is_foreign { &*FOREIGN_RECORDS } else { &*RECORDS };
            let errors: Vec<_> = schema.iter_errors(&record).map(|it| it.to_string()).collect();
            assert!(errors.is_empty(), "{errors:?} in {record}");
            records.push(record);
        }
        consumer.give_back(block);
    }
    records
}

/// Watches a [`World`] and reads its records.
struct Reader {
    state: MachineState,
    snapshot: Snapshot,
    policy: Policy,
    permissions: MemoryPermissions,
    lost: LossFixture,
    losses: Losses,
    attest: BinaryAttestation,
    files: Box<dyn ContentSource>,
    producer: Producer,
    consumer: Consumer,
    now: Now,
}

impl Reader {
    fn new(limits: &Limits) -> Self {
        let mut config = PolicyConfig::default();
        config.set_enabled(Activity::ProcessMemoryCreated, true);
        config.set_enabled(Activity::ProcessMemoryTerminated, true);
        // Most tests are about something else than the program that a process runs.
        config.set_enabled(Activity::ProcessExecuted, false);
        Self::with(limits, config)
    }

    fn with(limits: &Limits, config: PolicyConfig) -> Self {
        Self::in_dialect(Dialect::Panoptes, limits, config)
    }

    fn in_dialect(dialect: Dialect, limits: &Limits, config: PolicyConfig) -> Self {
        let text = TextLimits::new(limits.string_length as usize);
        let watcher = BluefieldSystem::default();
        let header = RecordHeader::in_dialect(dialect, &"NONE".into(), &watcher, text);
        let size = QueueSize { blocks: 4, block_bytes: 1 << 20 };
        let (producer, consumer) = queue(size, &Waker::default());
        let mut snapshot = Snapshot::empty(limits);
        snapshot.interfaces.push(eth0());
        Self {
            state: MachineState::new(limits, StateSettings::default(), HashKey::new(7)),
            snapshot,
            policy: Policy::new(limits, config, header, 1, HashKey::new(7)),
            permissions: MemoryPermissions::new(),
            lost: LossFixture::new(),
            losses: Losses::default(),
            attest: attest(limits, ShippedFiles::default()),
            files: Box::new(NoContents),
            producer,
            consumer,
            now: Now::at(1_795_159_906_905_224_659),
        }
    }

    fn scan(&mut self, world: &World) -> Vec<Value> {
        self.show(world);
        self.records()
    }

    fn show(&mut self, world: &World) {
        world.show(&mut self.snapshot);
        self.now = self.now.after(10_000_000);
        self.policy.note_scan(self.now.monotonic);
        self.policy.offer_undelivered(&mut self.producer);
        let mut reporter = self.policy.reporter(&mut self.producer);
        let (permissions, kernel) = (&mut self.permissions, Kernel::default());
        let observe = &mut |cx: &ScanContext<'_>, change: &Change<'_>| {
            reporter.change(cx, change);
            let memory = MachineMemory { source: &mut Unreadable, kernel: &kernel };
            permissions.observe(&mut DetectorContext { memory, cx, out: &mut reporter }, change);
        };
        self.state.update(&self.snapshot, self.now, observe);
        let cx = self.state.scan_context(&self.snapshot, self.now);
        let memory = MachineMemory { source: &mut Unreadable, kernel: &kernel };
        let context = &mut DetectorContext { memory, cx: &cx, out: &mut reporter };
        permissions.update(context, &self.state, &mut *self.files);
        self.attest.update(context, &self.state, &mut *self.files);
        reporter.end_scan(&cx, &self.state);
        reporter.report_gaps(&cx, &mut self.lost.missed(&self.losses));
        self.producer.flush();
    }

    fn records(&mut self) -> Vec<Value> {
        let records = records_of(&mut self.consumer);
        assert_eq!(self.producer.refused(), 0);
        records
    }
}

/// Files of which nothing is known.
struct NoContents;

impl ContentSource for NoContents {
    fn ask(&mut self, _: &FileIdentity, _: Asker) -> Option<ContentFacts> {
        None
    }
}

fn attest(limits: &Limits, shipped: ShippedFiles) -> BinaryAttestation {
    BinaryAttestation::new(limits, shipped.into(), Images::default(), HashKey::new(7))
}

fn eth0() -> InterfaceRow {
    let mut row =
        InterfaceRow { network_namespace: 4_026_531_840, index: 2, ..InterfaceRow::default() };
    row.name[..4].copy_from_slice(b"eth0");
    row.mac = Some([0; 6]);
    row.ipv4.push(Ipv4Addr::new(10, 0, 2, 15));
    row
}

fn names(records: &[Value]) -> Vec<&str> {
    records.iter().map(|record| record["activity_data"]["name"].as_str().unwrap()).collect()
}

fn details<'a>(record: &'a Value, key: &str) -> &'a Value {
    &record["activity_data"][key]
}

fn shell() -> FakeProcess {
    let mut shell = FakeProcess::new(714)
        .with_thread(715)
        .with_file(0, FakeFile::socket(0xffff_8885_0000_1200, 13_731, SOCK))
        .with_area(FakeArea::of_file(
            0x7f1c_2a00_0000,
            0x7f1c_2a1d_5000,
            R | X,
            &FakeFile::regular(0xffff_8885_0000_0200, 71, "libc.so.6"),
        ))
        .with_area(FakeArea::anonymous(0x7f1c_3000_0000, 0x7f1c_3000_1000, R | W | X));
    shell.name = "bash".into();
    shell.login = Some((1000, 3));
    shell
}

fn with_shell() -> World {
    let mut world = World::default().with(shell());
    world.sockets.push(FakeSocket::new(SOCK, 58848, ESTABLISHED));
    world
}

#[test]
fn a_reverse_shell_starts_and_ends() {
    let mut reader = Reader::new(&limits());
    assert_eq!(reader.scan(&World::default()), Vec::<Value>::new());
    let records = reader.scan(&with_shell());
    assert_eq!(
        names(&records),
        [
            "process_created",
            "thread_created",
            "file_descriptor_open",
            "process_memory_created",
            "new_file_mapped",
            "process_memory_created",
            "new_executable_anonymous_memory_mapped",
            "network_connection_created",
        ]
    );
    let process = details(&records[0], "process_details");
    assert_eq!(process["process_name"], "bash");
    assert_eq!(process["process_executable_path"], "/bash");
    assert_eq!(process["process_current_working_directory"], "/");
    assert_eq!(process["process_command_line_arguments"], "bash -i");
    assert_eq!(process["process_state"], "S (sleeping)");
    assert_eq!(process["process_login_user_id"], 1000);
    assert_eq!(process["process_audit_session_id"], 3);
    assert_eq!(process["process_cpu_time_ns"], 1000);
    assert_eq!(process["process_cpu_clock_cycles"], 2000);
    for record in &records[..7] {
        assert_eq!(details(record, "process_details"), process, "all records describe it alike");
    }
    assert_eq!(details(&records[1], "thread_details")["thread_id"], 715);
    let descriptor = details(&records[2], "file_descriptor_details");
    assert_eq!(descriptor["file_descriptor_name"], "socket:[13731]");
    assert_eq!(descriptor["file_descriptor_file_type"], "SOCKET");
    assert_eq!(descriptor["file_descriptor_thread_id_array"], serde_json::json!([714, 715]));
    let area = details(&records[4], "process_memory_details");
    assert_eq!(area["file_path"], "/libc.so.6");
    assert_eq!(area["file_name"], "libc.so.6");
    assert_eq!(area["memory_permissions"], "r-xp");
    let connection = details(&records[7], "network_connection_details");
    assert_eq!(connection["file_descriptor_id"], 0);
    assert_eq!(connection["source_ip_address"], "10.0.2.15");
    assert_eq!(connection["workload_network_interface_name"], "eth0");
    assert_eq!(connection["network_namespace"], "net:[4026531840]");
    assert_eq!(details(&records[7], "file_descriptor_details"), descriptor);

    let mut gone = World::default();
    gone.sockets.push(FakeSocket::new(SOCK + 0x1000, 58848, TIME_WAIT));
    let records = reader.scan(&gone);
    assert_eq!(names(&records), ["process_terminated", "tcp_network_connection_state_change"]);
    let last = details(&records[0], "process_details");
    assert_eq!(last["process_command_line_arguments"], "bash -i", "although its memory is gone");
    assert_eq!(last["process_executable_path"], "/bash");
    let owner = details(&records[1], "process_details");
    assert_eq!(owner, last, "what was known of the owner is kept");
    gone.sockets.clear();
    assert_eq!(reader.scan(&gone), Vec::<Value>::new());
    let records = reader.scan(&gone);
    assert_eq!(names(&records), ["network_connection_terminated"]);
    let connection = details(&records[0], "network_connection_details");
    assert_eq!(connection["connection_state"], "TIME_WAIT");
    assert_eq!(connection["tcp_connection_overall_duration_ns"], 20_000_000);
    assert_eq!(details(&records[0], "process_details"), owner);
}

#[test]
fn a_mapping_of_the_program_names_it_in_the_middle_of_an_exec() {
    let mut reader = Reader::new(&limits());
    let mut process = FakeProcess::new(714);
    process.executable = None;
    reader.scan(&World::default().with(process));
    let mut processes = reader.state.processes().map(|(_, process)| process);
    let process = processes.find(|process| process.process_id() == 714).unwrap();
    let cx = reader.state.scan_context(&reader.snapshot, reader.now);
    let area = |is_main_executable| AreaFacts {
        process_id: 714,
        start: 0x5555_0000_0000,
        end: 0x5555_0010_0000,
        flags: R | X,
        is_main_executable,
        file: Some(b"/bin/busybox"),
        has_file: true,
        ..AreaFacts::default()
    };
    for area in [area(true), area(false)] {
        let change = Change::AreaMapped { process, area };
        reader.policy.reporter(&mut reader.producer).change(&cx, &change);
    }
    reader.producer.flush();
    let records = records_of(&mut reader.consumer);
    let paths: Vec<&Value> = records
        .iter()
        .filter(|record| record["activity_data"]["name"] == "new_file_mapped")
        .map(|record| &details(record, "process_details")["process_executable_path"])
        .collect();
    assert_eq!(paths, [&Value::from("/bin/busybox"), &Value::Null]);
}

#[test]
fn a_hidden_process_raises_an_alert_with_a_reason() {
    let mut reader = Reader::new(&limits());
    reader.scan(&with_shell());
    let mut hidden = with_shell();
    hidden.process(714).views = view::CERTAIN & !view::TASK_LIST & !view::CHILDREN;
    assert_eq!(reader.scan(&hidden), Vec::<Value>::new());
    let records = reader.scan(&hidden);
    assert_eq!(names(&records), ["process_hidden"]);
    let record = &records[0];
    assert_eq!((&record["message_type"], &record["severity"]), (&"ALERT".into(), &"HIGH".into()));
    let detection = &record["detection"];
    assert_eq!(detection["mitre_attack"], serde_json::json!(["T1014"]));
    assert_eq!(detection["scans_confirmed"], 2);
    let reason = detection["reason"].as_str().unwrap();
    let views = " is not in the task list, its parent's children or its control group's tasks, but \
                 in the pid IDR, the list of its struct pid and its thread group, \
                 in 2 scans in a row";
    let process = record["activity_data"]["process_details"]["process_name"].as_str().unwrap();
    let begin = format!("{process} (process 714), with its task_struct at ");
    assert!(reason.starts_with(&begin) && reason.ends_with(views), "{reason}");
    hidden.remove(714);
    let records = reader.scan(&hidden);
    let ends = names(&records).iter().filter(|name| **name == "process_terminated").count();
    assert_eq!(ends, 1);
}

#[test]
fn the_vdso_is_not_a_finding() {
    let mut reader = Reader::new(&limits());
    reader.scan(&World::default());
    let mut vdso = FakeArea::anonymous(0x7fff_0000_0000, 0x7fff_0000_2000, R | X);
    vdso.special = true;
    let records = reader.scan(&World::default().with(FakeProcess::new(50).with_area(vdso)));
    assert_eq!(names(&records), ["process_created", "process_memory_created"]);
}

/// A process whose only file is mapped in these areas.
fn with_library(areas: &[(u64, u64, u64)]) -> World {
    let library = FakeFile::regular(0xffff_8885_0000_0200, 71, "libz.so.1.2.13");
    let area = |&(start, end, flags)| FakeArea::of_file(start, end, flags, &library);
    let process = areas.iter().map(area).fold(FakeProcess::new(200), FakeProcess::with_area);
    World::default().with(process)
}

#[test]
fn code_that_a_loader_maps_over_its_library_is_a_new_mapping() {
    let whole = (0x1000_0000, 0x1001_d000, R);
    let before = (0x1000_0000, 0x1000_3000, R);
    let code = (0x1000_3000, 0x1001_4000, R | X);
    let behind = (0x1001_4000, 0x1001_d000, R);
    let mut reader = Reader::new(&limits());
    reader.scan(&with_library(&[]));
    let records = reader.scan(&with_library(&[whole]));
    assert_eq!(names(&records), ["process_memory_created", "new_file_mapped"]);
    let records = reader.scan(&with_library(&[before, code, behind]));
    assert_eq!(names(&records), ["new_file_mapped"]);
    let area = details(&records[0], "process_memory_details");
    assert_eq!(area["memory_permissions"], "r-xp");
    let data = [(0x1001_4000, 0x1001_c000, R), (0x1001_c000, 0x1001_d000, R | W)];
    let records = reader.scan(&with_library(&[before, code, data[0], data[1]]));
    assert_eq!(records, [Value::Null; 0]);
}

#[test]
fn disabled_activities_are_not_reported() {
    let mut config = PolicyConfig::default();
    config.set_enabled(Activity::FileDescriptorOpen, false);
    config.set_enabled(Activity::NetworkConnectionCreated, false);
    let mut reader = Reader::with(&limits(), config);
    reader.scan(&World::default());
    let records = reader.scan(&with_shell());
    assert_eq!(
        names(&records),
        [
            "process_created",
            "thread_created",
            "new_file_mapped",
            "new_executable_anonymous_memory_mapped"
        ]
    );
}

#[test]
fn every_limit_has_its_message() {
    let tiny = Limits {
        processes: 4,
        threads: 1,
        file_descriptors: 1,
        vmas: 1,
        connections: 1,
        containers: 1,
        ..Limits::DEFAULT
    };
    let mut reader = Reader::new(&tiny);
    reader.scan(&World::default());
    let mut crowd = with_shell();
    let shell = crowd.process(714);
    *shell = shell.clone().with_thread(716).with_file(1, FakeFile::pipe(0xffff_8885_0000_1300, 9));
    crowd.sockets.push(FakeSocket::new(SOCK + 0x1000, 58849, ESTABLISHED));
    crowd.processes.push(FakeProcess::new(900).in_container("a"));
    crowd.processes.push(FakeProcess::new(901).in_container("b"));
    crowd.processes.push(FakeProcess::new(902));
    let records = reader.scan(&crowd);
    let limits: Vec<_> =
        names(&records).into_iter().filter(|name| name.contains("limit")).collect();
    assert_eq!(
        limits,
        [
            "process_limit_reached",
            "threads_limit_reached",
            "file_handles_limit_reached",
            "process_memory_limit_reached",
            "network_connections_limit_reached",
            "containers_limit_reached",
        ]
    );
    let reached =
        records.iter().find(|record| names(std::slice::from_ref(record))[0].contains("limit"));
    let reached = details(reached.unwrap(), "system_activity_details");
    assert_eq!((&reached["capacity"], &reached["untracked"]), (&4.into(), &1.into()));
    reader.scan(&World::default());
    let records = reader.scan(&World::default());
    assert!(names(&records).contains(&"limit_cleared"), "{records:?}");
}

#[test]
fn scan_lines_are_in_order_and_fit_the_schema() {
    let mut snapshot = Snapshot::empty(&limits());
    snapshot.interfaces.push(eth0());
    let mut world = with_shell();
    world.sockets.push(FakeSocket::listener(SOCK + 0x2000, 22));
    world.processes.push(
        FakeProcess::new(900)
            .with_file(4, FakeFile::socket(0xffff_8885_0000_1200, 13_731, SOCK))
            .with_file(5, FakeFile::pipe(0xffff_8885_0000_1300, 9)),
    );
    world.show(&mut snapshot);
    let mut writer = LineWriter::new(&limits());
    let mut seen = Vec::new();
    let counts = writer.write::<()>(&snapshot, Kinds::ALL, &Traits::default(), &mut |line| {
        let line: Value = serde_json::from_slice(line).unwrap();
        assert!(LINES.is_valid(&line), "{line}");
        let text = |key: &str| line[key].to_string();
        let which = match line["kind"].as_str().unwrap() {
            "file_descriptor" => text("file_descriptor_index"),
            "thread" => text("thread_id"),
            "memory" => text("virtual_memory_area_start_address"),
            "connection" => text("source_port") + " " + &text("file_descriptor_id"),
            _ => String::new(),
        };
        seen.push(format!("{} {} {which}", line["kind"].as_str().unwrap(), text("process_id")));
        Ok(())
    });
    assert_eq!(
        seen.iter().map(|line| line.trim_end()).collect::<Vec<_>>(),
        [
            "process 1",
            "process 714",
            "process 900",
            "thread 1 1",
            "thread 714 714",
            "thread 714 715",
            "thread 900 900",
            "file_descriptor 714 0",
            "file_descriptor 900 4",
            "file_descriptor 900 5",
            "memory 714 \"0x7f1c2a000000\"",
            "memory 714 \"0x7f1c30000000\"",
            "connection null 22 null",
            "connection 714 58848 0",
            "connection 900 58848 4",
            "interface null",
        ]
    );
    let counts = counts.unwrap();
    assert_eq!((counts.lines, counts.unnamed, counts.too_long), (16, 0, 0));
}

#[test]
fn lines_stop_at_the_first_error_of_their_sink() {
    let mut snapshot = Snapshot::empty(&limits());
    with_shell().show(&mut snapshot);
    let mut count = 0;
    let stopped =
        LineWriter::new(&limits()).write(&snapshot, Kinds::ALL, &Traits::default(), &mut |_| {
            count += 1;
            if count == 3 { Err("closed") } else { Ok(()) }
        });
    assert_eq!((stopped, count), (Err("closed"), 3));
}

#[test]
fn a_gap_of_folders_names_one_of_them() {
    let mut reader = Reader::new(&limits());
    reader.scan(&World::default());
    reader.lost.of("paths").stand(2, None);
    let records = reader.scan(&World::default());
    let details = details(&records[0], "system_activity_details");
    let facts = (&details["gap"], &details["missed"], &details["path"]);
    assert_eq!(facts, (&json!("paths"), &json!(2), &json!("/usr/bin/")));
}

#[test]
fn a_gap_of_unreadable_objects_names_the_most_frequent_reason() {
    let mut reader = Reader::new(&limits());
    reader.losses = Losses::of_tasks(&[KernelVa(0xffff_8880_03c0_a000)]);
    let records: Vec<_> = (0..100).flat_map(|_| reader.scan(&World::default())).collect();
    let is_gap = |record: &&Value| record["activity_data"]["name"] == "coverage_degraded";
    let gaps: Vec<_> = records.iter().filter(is_gap).collect();
    let [record] = &gaps[..] else { panic!("one gap: {records:?}") };
    let details = details(record, "system_activity_details");
    assert_eq!(details["gap"], "unreadable");
    assert_eq!(details["stop_reason"], "task: unreadable at 0xffff888003c0a000");
}

#[test]
fn a_gap_names_every_process_that_causes_it() {
    let mut reader = Reader::new(&limits());
    reader.scan(&World::default());
    reader.lost.of("content_changes").add(40, Some(7));
    reader.lost.of("content_changes").add(2, Some(42));
    let records = reader.scan(&World::default());
    assert_eq!(names(&records), ["coverage_degraded"]);
    let expected = json!({
        "reason": "42 closed files or set-uid programs were not checked: there were too many",
        "gap": "content_changes",
        "missed": 42,
        "process_id": 42,
        "process_ids": [7, 42],
        "missed_by_process": [40, 2],
        "since_iso_8601_ns": details(&records[0], "system_activity_details")["since_iso_8601_ns"],
    });
    assert_eq!(*details(&records[0], "system_activity_details"), expected);
    // Within a second, nobody who was named makes a record, and another one makes one record.
    let mut records = Vec::new();
    for scan in 0..100 {
        reader.lost.of("content_changes").add(1, Some(7));
        if scan >= 10 {
            (0..60).for_each(|at| reader.lost.of("content_changes").add(1, Some(1000 + at)));
        }
        records.extend(reader.scan(&World::default()));
    }
    assert_eq!(names(&records), ["coverage_degraded"]);
    let details = details(&records[0], "system_activity_details");
    assert_eq!(details["process_ids"].as_array().map(Vec::len), Some(32));
    assert_eq!(details["further_processes"], 28);
}
