//! A turn: processes that do what most activities report.

use std::net::SocketAddr;

use panoptes_decoders::kernel::vm_area_struct::{VM_EXEC, VM_READ, VM_WRITE};
use panoptes_decoders::text::Hex;
use panoptes_synthetic::{Area, ForkOptions, HideModule, Machine, ModuleChange};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::super::load::*;
use super::super::*;

const PAGE: u64 = 4096;
/// Where areas of a turn are: below those of programs.
const FILE: u64 = 0x1000_0000_0000;
const WRITTEN: u64 = 0x1100_0000_0000;
const CODE: u64 = 0x1200_0000_0000;
/// Bytes of each shipped file.
const SHIPPED: usize = 12_288;
/// `CLOSE_WAIT`
const CLOSE_WAIT: u64 = 8;
/// Scans in which an act is seen for certain.
pub(super) const SCANS: u64 = 3;

/// Scans after which an activity would have been reported: what looks like a reverse shell is
/// watched for up to 64.
pub(super) fn absent_scans(activity: &str) -> u64 {
    if activity == "reverse_shell_detected" { 70 } else { 20 }
}

/// The id of the container of a turn.
fn container_id(number: u16) -> String {
    format!("{number:064x}")
}

/// The name of the kernel module of a turn.
fn module_name(number: u16) -> String {
    format!("turn_{number}")
}

/// The activities that a turn causes, with the settings of [`base`].
pub(super) const CAUSED: &[&str] = &[
    "process_created",
    "process_terminated",
    "process_executed",
    "process_zombie",
    "process_hidden",
    "network_connection_created",
    "network_connection_terminated",
    "tcp_connection_excessive_data",
    "tcp_long_lasting_connection",
    "tcp_network_connection_state_change",
    "tcp_network_connection_status",
    "reverse_shell_detected",
    "foreign_binary_executed",
    "binary_executed_not_as_intended",
    "foreign_binary_executed_file_size_mismatch",
    "foreign_library_loaded",
    "foreign_library_loaded_file_size_mismatch",
    "process_memory_created",
    "process_memory_terminated",
    "new_executable_anonymous_memory_mapped",
    "executable_permissions_added",
    "executable_permissions_removed",
    "new_file_mapped",
    "file_unmapped",
    "file_descriptor_open",
    "file_descriptor_close",
    "file_descriptor_file_content_change",
    "thread_created",
    "thread_terminated",
    "container_started",
    "container_terminated",
    "package_files_changed",
    "kernel_module_loaded",
    "kernel_module_unloaded",
    "kernel_module_changed",
    "kernel_module_hidden",
];

/// Settings with which a turn causes them.
pub(super) fn base() -> Vec<(&'static str, Value)> {
    vec![
        ("default.sbom", json!(["sbom.json"])),
        ("default.events.process_zombie.after", json!("1ms")),
        ("default.events.tcp_connection_excessive_data.bytes_in", json!(1000)),
        ("default.events.tcp_long_lasting_connection.duration", json!("1ms")),
        ("default.events.tcp_network_connection_status.enabled", json!(true)),
        ("default.events.tcp_network_connection_status.period", json!("20ms")),
        ("default.events.process_memory_created.enabled", json!(true)),
        ("default.events.process_memory_terminated.enabled", json!(true)),
    ]
}

fn content(path: &str, bytes: usize) -> Vec<u8> {
    let mut content = b"\x7fELF".to_vec();
    content.extend(path.bytes().cycle().take(bytes - 4));
    content
}

/// Writes the SBOM of [`base`].
pub(in crate::watch::control::tests) fn write_sbom(folder: &Path) {
    let paths = ["/usr/bin/shipped", "/usr/bin/dpkg", "/usr/bin/resized", "/usr/lib/resized.so"];
    let file = |path: &str| {
        let digest = Sha256::digest(content(path, SHIPPED));
        let hash = Hex(&digest).to_string();
        json!({"path": path, "size": SHIPPED, "sha256": hash})
    };
    let files: Vec<_> = paths.iter().map(|path| file(path)).collect();
    let subject = json!({"kind": "root"});
    let sbom = json!({"format": "panoptes-sbom", "version": 1, "subject": subject, "files": files});
    fs::write(folder.join("sbom.json"), sbom.to_string()).unwrap();
}

/// The processes of a turn.
#[derive(Clone, Copy, Debug)]
struct Cast {
    main: u32,
    resized: u32,
    moved: u32,
    inside: u32,
    shell: u32,
    hidden: u32,
    package: u32,
    connection: u32,
    written: u32,
    packed: u32,
    thread: u32,
}

impl Cast {
    const fn pids(&self) -> [u32; 7] {
        let Self { main, resized, moved, inside, shell, hidden, package, .. } = *self;
        [main, resized, moved, inside, shell, hidden, package]
    }
}

/// Has the processes of one more turn do their acts; returns the records about them. `absent` are
/// the activities that are not to be awaited.
pub(super) fn turn(service: &Service<'_>, number: u16, absent: &[&str]) -> Vec<Value> {
    let from = service.count();
    let cast = service.live.act(move |machine| begin(machine, number));
    service.scan(SCANS);
    let cast = service.live.act(move |machine| middle(machine, cast, number));
    service.scan(SCANS);
    service.live.act(move |machine| end(machine, cast, number));
    let pids = cast.pids();
    let (id, module) = (container_id(number), module_name(number));
    // The end of a container is about no process.
    let is_end =
        |record: &Value| name(record) == "container_terminated" && record.to_string().contains(&id);
    let is_module = |record: &Value| {
        record["activity_data"]["kernel_module_details"]["kernel_module_name"] == module
    };
    let is_it = |record: &Value| {
        pids.iter().any(|pid| is_of(record, *pid)) || is_end(record) || is_module(record)
    };
    let wait = |names: &[&str]| {
        for one in names.iter().filter(|one| !absent.contains(one)) {
            service.record(one, from, |record| name(record) == *one && is_it(record));
        }
        if let Some(scans) =
            names.iter().filter(|one| absent.contains(one)).map(|one| absent_scans(one)).max()
        {
            service.scan(scans);
        }
    };
    wait(WHILE_ALIVE);
    service.live.act(move |machine| {
        machine.protect(cast.main, WRITTEN, VM_READ | VM_WRITE);
    });
    wait(&["executable_permissions_removed"]);
    service.live.act(move |machine| machine.exit(cast.main));
    wait(&["process_zombie"]);
    service.live.act(move |machine| {
        machine.reap(cast.main);
        for pid in &cast.pids()[1..] {
            machine.kill(*pid);
        }
        // The kernel unloads what is in all of its lists.
        let module = module_name(number);
        machine.show_module(&module, HideModule::List);
        machine.unload_module(&module);
    });
    wait(CAUSED);
    service.records(from, is_it)
}

/// Those that are reported while the processes run.
const WHILE_ALIVE: &[&str] = &[
    "process_hidden",
    "tcp_connection_excessive_data",
    "tcp_long_lasting_connection",
    "tcp_network_connection_state_change",
    "tcp_network_connection_status",
    "reverse_shell_detected",
    "foreign_binary_executed",
    "binary_executed_not_as_intended",
    "foreign_binary_executed_file_size_mismatch",
    "foreign_library_loaded",
    "foreign_library_loaded_file_size_mismatch",
    "executable_permissions_added",
    "file_descriptor_file_content_change",
    "kernel_module_hidden",
];

fn begin(machine: &mut Machine, number: u16) -> Cast {
    let root = ForkOptions { container: 0, uid: 1000, new_session: true };
    let id = container_id(number);
    let container = machine.add_container(&format!("/system.slice/docker-{id}.scope"), "turn");
    let main = machine.fork_with(1, root);
    let [resized, moved, shell, hidden] = [(); 4].map(|()| machine.fork_with(1, root));
    let package = machine.fork_with(1, ForkOptions { uid: 0, ..root });
    let inside = machine.fork_with(1, ForkOptions { container, ..root });
    machine.exec(inside, "/usr/bin/inside", &["inside"]);
    machine.exec(hidden, "/usr/bin/hidden", &["hidden"]);
    machine.write_file("/usr/bin/dpkg", &content("/usr/bin/dpkg", SHIPPED));
    machine.exec(package, "/usr/bin/dpkg", &["dpkg", "-i"]);
    let packed = machine.open(package, &format!("/etc/cron.d/packed{number}"));
    machine.load_module(&module_name(number), 16_384);
    let cast = Cast {
        main,
        resized,
        moved,
        inside,
        shell,
        hidden,
        package,
        packed,
        connection: 0,
        written: 0,
        thread: 0,
    };
    // A fork is reported as it was before its exec.
    machine.memory().flush();
    cast
}

fn middle(machine: &mut Machine, cast: Cast, number: u16) -> Cast {
    let Cast { main, resized, moved, shell, hidden, .. } = cast;
    let stranger = format!("/home/user/stranger{number}");
    let library = format!("/home/user/stranger{number}.so");
    for (path, bytes) in [
        (stranger.as_str(), 5000),
        (library.as_str(), 5000),
        ("/usr/bin/resized", 6000),
        ("/usr/lib/resized.so", 6000),
    ] {
        machine.write_file(path, &content(path, bytes));
    }
    let copy = format!("/tmp/moved{number}");
    machine.write_file(&copy, &content("/usr/bin/shipped", SHIPPED));
    let written = format!("/etc/cron.d/turn{number}");
    machine.write_file(&written, b"before\n");
    machine.exec(main, &stranger, &["stranger", "--password", "hunter2"]);
    machine.exec(resized, "/usr/bin/resized", &["resized"]);
    machine.exec(moved, &copy, &["moved"]);
    let (own, peer) = ends(40_000 + number);
    let connection = machine.connect(main, own, peer);
    let written = machine.open(main, &written);
    let thread = machine.start_thread(main);
    let library_at = |path: &str| Area {
        start: FILE,
        end: FILE + PAGE,
        flags: VM_READ | VM_EXEC,
        path: Some(path.to_owned()),
        page_offset: 0,
    };
    machine.map(resized, &[library_at("/usr/lib/resized.so")]);
    let area = |start, flags| Area { start, end: start + 4 * PAGE, flags, ..Area::default() };
    machine.map(
        main,
        &[library_at(&library), area(WRITTEN, VM_READ | VM_WRITE), area(CODE, VM_READ | VM_EXEC)],
    );
    machine.write_to_area(main, WRITTEN);
    let (own, _) = ends(50_000 + number);
    let stranger = SocketAddr::from(([203, 0, 113, 9], 4444));
    let socket = machine.connect(shell, own, stranger);
    for standard in 0..3 {
        machine.dup2(shell, socket, standard);
    }
    machine.exec(shell, "/usr/bin/bash", &["bash", "-i"]);
    machine.hide(hidden);
    machine.change_module(&module_name(number), ModuleChange::Taints(1 << 12));
    Cast { connection, written, thread, ..cast }
}

fn end(machine: &mut Machine, cast: Cast, number: u16) {
    let Cast { main, package, .. } = cast;
    machine.hide_module(&module_name(number), HideModule::List);
    machine.transfer(main, cast.connection, 2000, 0);
    machine.write_file(&format!("/etc/cron.d/turn{number}"), b"what else\n");
    machine.write_file(&format!("/etc/cron.d/packed{number}"), b"shipped\n");
    machine.close(main, cast.written);
    machine.close(package, cast.packed);
    machine.protect(main, WRITTEN, VM_READ | VM_EXEC);
    machine.unmap(main, FILE);
    machine.unmap(main, CODE);
    machine.exit_thread(cast.thread);
    let (own, _) = ends(40_000 + number);
    let sock = machine.sockets().find(|(_, socket)| socket.source == Some(own)).unwrap().1.sock;
    let state = machine.layouts().sock_common.skc_state;
    machine.memory().put(sock, state, CLOSE_WAIT);
}
