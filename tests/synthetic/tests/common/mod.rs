//! What a machine has and what a scan of it found, as lines to be compared.
#![allow(dead_code, reason = "each test binary uses a part of it")]

#[path = "../../../../engine/tests/common/setup.rs"]
pub(crate) mod setup;

use std::collections::BTreeSet;

use panoptes_decoders::kernel::sock::TcpState;
use panoptes_engine::limits::Limits;
use panoptes_engine::path::{PathBuffer, write_file_name};
use panoptes_engine::system::kernel_of;
use panoptes_engine::walk::{FileRow, Kernel, ProcessRow, Scope, Snapshot, Walker};
use panoptes_records::queue::{Consumer, Producer};
use panoptes_synthetic::{Machine, Source, permissions};
use serde_json::Value;

use setup::KEY;

/// One kernel of each generation of the structures, and one with other options.
pub(crate) const RELEASES: [&str; 5] = [
    "5.10.0-32-amd64",
    "6.1.0-50-amd64",
    "6.12.117+deb13-amd64",
    "6.12.117+deb13-rt-amd64",
    "7.2.13+deb14-amd64",
];

pub(crate) fn walker(limits: &Limits) -> Walker {
    Walker::new(limits, KEY)
}

/// Takes the records that were written so far.
pub(crate) fn take_records(producer: &mut Producer, consumer: &mut Consumer) -> Vec<Value> {
    producer.flush();
    let mut records = Vec::new();
    while let Some(block) = consumer.pop() {
        let read = |record| serde_json::from_slice(record).expect("it is JSON");
        records.extend(block.iter().map(read));
        consumer.give_back(block);
    }
    records
}

/// An activity's name, and its values of these keys, each with the object that it is in.
pub(crate) fn line(data: &Value, keys: &[(&str, &str)]) -> String {
    let mut line = data["name"].as_str().unwrap_or_default().to_owned();
    for value in keys.iter().map(|(of, key)| &data[of][key]).filter(|it| !it.is_null()) {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        line.push(' ');
        line.push_str(text.strip_prefix("2026-09-21T").unwrap_or(&text));
    }
    line
}

/// The kernel of a machine, found in its memory.
pub(crate) fn kernel(machine: &mut Machine) -> Kernel {
    kernel_of(&machine.discover())
}

/// Scans a machine that does not change and compares what it has with what was found, both ways.
pub(crate) fn assert_same(machine: &mut Machine, kernel: &Kernel, walker: &mut Walker) {
    let expected = expected(machine);
    let mut source = Source::new(&mut *machine);
    let snapshot = walker.scan(&mut source, kernel, Scope::ALL).expect("processes are found");
    assert_eq!(snapshot.losses.unreadable, 0, "{:?}", snapshot.losses);
    assert_eq!(snapshot.losses.unbounded, 0, "{:?}", snapshot.losses);
    assert_eq!(snapshot.losses.dropped, 0, "{:?}", snapshot.losses);
    let found = found(snapshot);
    let missing: Vec<_> = expected.difference(&found).take(10).collect();
    let extra: Vec<_> = found.difference(&expected).take(10).collect();
    assert!(missing.is_empty() && extra.is_empty(), "missing: {missing:#?}\nextra: {extra:#?}");
    for process in snapshot.processes.iter() {
        let pid = snapshot.leader(process).map_or(0, |leader| leader.task.pid);
        assert!(process.stable, "process {pid} is stable");
        assert!(process.missing.is_empty(), "process {pid}: {:#x} are missing", process.missing.0);
        assert!(process.unknown.is_empty(), "process {pid}: {:#x} are unknown", process.unknown.0);
    }
}

/// What a machine has.
pub(crate) fn expected(machine: &Machine) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for process in machine.processes().filter(|process| process.pid != 0) {
        let pid = process.pid;
        let container = &machine.containers()[process.container];
        let mut arguments = String::new();
        for argument in process.arguments.iter().filter(|_| !process.is_zombie) {
            arguments.push_str(argument);
            arguments.push('\0');
        }
        let (pid_namespace, mount_namespace) = if process.is_zombie {
            (container.pid_namespace, 0)
        } else {
            (container.pid_namespace, container.mount_namespace)
        };
        lines.insert(format!(
            "process {pid} of {} {:?} user {} since {} in {pid_namespace} {mount_namespace} {:?} \
             {arguments:?} zombie {}",
            process.parent,
            machine.thread(pid).name,
            process.uid,
            process.start_ns,
            group_name(&container.path),
            process.is_zombie,
        ));
        for (descriptor, name) in machine.descriptors(pid) {
            lines.insert(format!("descriptor {descriptor} of {pid}: {name}"));
        }
        for area in machine.areas(pid) {
            lines.insert(format!(
                "area {:x}-{:x} of {pid}: {} {:x} {}",
                area.start,
                area.end,
                permissions(area.flags),
                area.page_offset,
                area.path.unwrap_or_default(),
            ));
        }
    }
    for thread in machine.threads().filter(|thread| thread.tid != 0) {
        lines.insert(format!("thread {} of {} {:?}", thread.tid, thread.pid, thread.name));
    }
    for (file, socket) in machine.sockets() {
        if let Some(source) = socket.source {
            let destination = socket.destination.map(|it| it.to_string()).unwrap_or_default();
            lines.insert(format!("socket {source} {destination} {:?} {file}", socket.state));
        }
    }
    lines
}

/// The identifier in the name of a container's control group.
fn group_name(path: &str) -> Option<&str> {
    path.rsplit('/').next()?.strip_prefix("docker-")?.strip_suffix(".scope")
}

/// What a scan found.
pub(crate) fn found(snapshot: &Snapshot) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for process in snapshot.processes.iter() {
        add_process(snapshot, process, &mut lines);
    }
    for row in snapshot.threads.iter().skip(1) {
        let name = String::from_utf8_lossy(row.task.name()).into_owned();
        lines.insert(format!("thread {} of {} {name:?}", row.task.pid, row.task.tgid));
    }
    for row in snapshot.connections.iter() {
        let ends = &row.endpoints;
        let state = TcpState::from_number(ends.state).unwrap_or_default();
        let destination = if state == TcpState::Listen {
            String::new()
        } else {
            std::net::SocketAddr::new(ends.destination, ends.destination_port).to_string()
        };
        let source = std::net::SocketAddr::new(ends.source, ends.source_port);
        lines.insert(format!("socket {source} {destination} {state:?} {}", row.file));
    }
    lines
}

fn add_process(snapshot: &Snapshot, process: &ProcessRow, lines: &mut BTreeSet<String>) {
    let mut path = PathBuffer::default();
    let task = &snapshot.threads[process.leader].task;
    let pid = task.pid;
    let mm = snapshot.mms.at(process.mm);
    let arguments = mm.map_or(&[][..], |mm| snapshot.text(mm.command_line));
    let container = snapshot.container_of(process).map(String::from_utf8_lossy);
    lines.insert(format!(
        "process {pid} of {} {:?} user {} since {} in {} {} {container:?} {:?} zombie {}",
        process.parent_pid,
        String::from_utf8_lossy(task.name()),
        process.ids.map_or(u32::MAX, |ids| ids.euid),
        task.start_boottime,
        process.pid_namespace,
        process.mount_namespace,
        String::from_utf8_lossy(arguments),
        task.exit_state != 0,
    ));
    let mut name = |file: Option<&FileRow>| {
        let Some(file) = file else { return String::new() };
        match write_file_name(snapshot, file, &mut path) {
            Ok(_) => String::from_utf8_lossy(path.text()).into_owned(),
            Err(_) => "unreadable".to_owned(),
        }
    };
    if let Some(files) = snapshot.files_structs.at(process.files) {
        if !files.complete {
            lines.insert(format!("descriptors incomplete of {pid}"));
        }
        for row in snapshot.descriptors.range(files.descriptors) {
            let file = snapshot.files.at(row.file);
            lines.insert(format!("descriptor {} of {pid}: {}", row.index, name(file)));
        }
    }
    let Some(mm) = mm else { return };
    if !mm.complete {
        lines.insert(format!("areas incomplete of {pid}"));
    }
    for row in snapshot.vmas.range(mm.vmas) {
        let vma = &row.vma;
        lines.insert(format!(
            "area {:x}-{:x} of {pid}: {} {:x} {}",
            vma.start,
            vma.end,
            vma.permissions(),
            vma.page_offset,
            name(snapshot.files.at(row.file)),
        ));
    }
}
