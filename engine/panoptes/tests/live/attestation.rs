//! Alerts about programs, libraries and scripts that differ from the SBOM, with and without files,
//! and no other alerts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use panoptes_rig::{Flavor, Guest, Kernel, initramfs};
use serde_json::Value;

use crate::record::{HASHES_NS, Record, list};
use crate::watcher::{Watch, Watcher, panoptes};
use crate::{barrier, inside, laws};

const ACTIVITIES: [&str; 5] = [
    "foreign_binary_executed",
    "foreign_binary_executed_file_size_mismatch",
    "binary_executed_not_as_intended",
    "foreign_library_loaded",
    "foreign_library_loaded_file_size_mismatch",
];
/// A FIFO to which no process writes.
const IDLE: &str = "/tmp/idle";
/// The file that a program opens that ends soon.
const OPENED: &str = "/etc/passwd";
/// A byte of an ELF header that is not used when the file is executed (`e_shstrndx`).
const UNUSED_BYTE: u32 = 62;
/// The port at which the guest connects to itself.
const PORT: u64 = 7001;
/// Copies of busybox that are in the SBOM too.
const SHIPPED_COPIES: [&str; 5] =
    ["busybox-hard", "busybox-longer", "busybox-modified", "busybox-replaced", "busybox-later"];

/// Unpacks the files of an archive in the kernel's format (`newc`,
/// Documentation/driver-api/early-userspace).
fn unpack(archive: &[u8], folder: &Path) {
    let number = |at: usize| {
        let digits = std::str::from_utf8(&archive[at..at + 8]).unwrap();
        usize::from_str_radix(digits, 16).unwrap()
    };
    let mut at = 0;
    loop {
        let (mode, size, name_size) = (number(at + 14), number(at + 54), number(at + 94));
        let name = std::str::from_utf8(&archive[at + 110..at + 109 + name_size]).unwrap();
        let data = (at + 110 + name_size).next_multiple_of(4);
        if name == "TRAILER!!!" {
            return;
        }
        let path = folder.join(name.trim_start_matches('/'));
        match mode & 0o170_000 {
            0o040_000 => std::fs::create_dir_all(path).unwrap(),
            0o100_000 => {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, &archive[data..data + size]).unwrap();
            }
            _ => {}
        }
        at = (data + size).next_multiple_of(4);
    }
}

/// Makes an SBOM of the guest's root, with more copies of busybox in `/opt`, and a configuration
/// that refers to it.
fn configure(guest: &Guest, kernel: &Kernel, folder: &Path) -> PathBuf {
    let copies = SHIPPED_COPIES.map(|name| ("bin/busybox", format!("opt/{name}")));
    let sbom = sbom(kernel, folder, &copies);
    let configuration = folder.join("panoptes.yaml");
    let text = format!(
        "auto_scan: false\nsystems:\n  guest:\n    system: file:{}\n    sbom: [{}]\n",
        guest.ram_path().display(),
        sbom.display()
    );
    std::fs::write(&configuration, text).unwrap();
    configuration
}

/// Makes an SBOM, `guest.json`, of a guest's root with copies of its files.
pub(crate) fn sbom(kernel: &Kernel, folder: &Path, copies: &[(&str, String)]) -> PathBuf {
    let root = folder.join("root");
    unpack(&std::fs::read(initramfs::build(kernel).unwrap()).unwrap(), &root);
    for (from, to) in copies {
        let to = root.join(to);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(root.join(from), to).unwrap();
    }
    let sbom = folder.join("guest.json");
    let arguments = ["sbom", "build", root.to_str().unwrap(), "-o", sbom.to_str().unwrap()];
    let built = panoptes(&arguments);
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    sbom
}

/// Makes a copy of a file that differs in one byte without function.
pub(crate) fn flipped(guest: &mut Guest, from: &str, to: &str) {
    inside::run(guest, &format!("cp {from} {to}"));
    flip(guest, to);
}

fn flip(guest: &mut Guest, path: &str) {
    let dd = format!("dd of={path} bs=1 seek={UNUSED_BYTE} conv=notrunc 2>/dev/null");
    inside::run(guest, &format!("printf x | {dd}"));
}

fn alerts(records: &[Record]) -> Vec<Record> {
    let is_one = |record: &&Record| ACTIVITIES.iter().any(|name| record.is(name));
    records.iter().filter(is_one).cloned().collect()
}

/// Waits for an alert about a file.
#[track_caller]
fn wait_for(watcher: &Watcher, name: &str, path: &str) -> Record {
    watcher.wait_for(&format!("{name} of {path}"), |record| {
        record.is(name) && record.details("elf_file")["elf_file_path"] == path
    })
}

/// The attributes of a file, from the guest itself.
fn truth(guest: &mut Guest, path: &str) -> BTreeMap<&'static str, Value> {
    let mut first = |command: &str| {
        let output = inside::run(guest, &format!("busybox {command} {path}"));
        output[0].split_whitespace().next().unwrap().to_owned()
    };
    let number = |text: String| Value::from(text.parse::<u64>().unwrap());
    BTreeMap::from([
        ("elf_file_hash_sha256", first("sha256sum").into()),
        ("elf_file_hash_sha1", first("sha1sum").into()),
        ("elf_file_hash_md5", first("md5sum").into()),
        ("elf_file_size_bytes", number(first("stat -c %s"))),
        ("elf_file_inode_number", number(first("stat -c %i"))),
        ("elf_file_path", path.into()),
        ("elf_file_name", path.rsplit('/').next().unwrap().into()),
    ])
}

/// Checks every attribute in §11.6 of the guide of DOCA Argus, for a file whose size is in no SBOM.
///
/// The size is enough for an alert, so a slow watcher may report the file before it knows the
/// content.
#[track_caller]
fn is_true_by_size(record: &Record, truth: &BTreeMap<&'static str, Value>, kind: &str) {
    let details = record.details("elf_file");
    let waited = record.nanoseconds_after(&record.0["detection"]["first_seen"]);
    let content = |key: &str| key.contains("hash") || key == "elf_file_type";
    let mut truth = truth.clone();
    truth.insert("elf_file_type", kind.into());
    if waited >= HASHES_NS && details["elf_file_hash_sha256"].is_null() {
        truth.retain(|key, _| !content(key) || !details[key].is_null());
    }
    agrees(record, &truth);
}

/// Checks every attribute in §11.6 of the guide, and the process's hashes if the file is its
/// executable.
#[track_caller]
fn is_true(record: &Record, truth: &BTreeMap<&'static str, Value>, kind: &str) {
    let mut truth = truth.clone();
    truth.insert("elf_file_type", kind.into());
    agrees(record, &truth);
}

#[track_caller]
fn agrees(record: &Record, truth: &BTreeMap<&'static str, Value>) {
    let details = record.details("elf_file");
    assert!(record.0["detection"]["reason"].is_string(), "{record}");
    for (key, value) in truth {
        assert_eq!(details[key], *value, "{key}: {record}");
    }
    if details["is_main_process_executable"] == true {
        for kind in ["sha256", "sha1", "md5"] {
            let own = &details[format!("elf_file_hash_{kind}")];
            assert_eq!(record.process()[format!("process_hash_{kind}")], *own, "{record}");
        }
        assert_eq!(record.process()["process_executable_path"], details["elf_file_path"]);
    }
}

/// Starts a copy of busybox, and waits until it runs.
fn runs(guest: &mut Guest, path: &str) {
    let process_id = inside::start(guest, &format!("{path} sleep 1000"));
    inside::until(guest, &format!("ls -l /proc/{process_id}/exe | grep -q {path}"));
}

/// Starts programs before Panoptes starts: a foreign one whose file is deleted, and one whose file
/// is replaced by another copy from the SBOM.
fn before(guest: &mut Guest) -> BTreeMap<&'static str, Value> {
    inside::run(guest, &format!("busybox mkfifo {IDLE}; mkdir /opt"));
    flipped(guest, "/bin/busybox", "/tmp/busybox-gone");
    let mut gone = truth(guest, "/tmp/busybox-gone");
    runs(guest, "/tmp/busybox-gone");
    inside::run(guest, "cp /bin/busybox /opt/busybox-replaced; cp /bin/busybox /opt/new");
    runs(guest, "/opt/busybox-replaced");
    inside::run(guest, "rm /tmp/busybox-gone; mv /opt/new /opt/busybox-replaced");
    gone.insert("elf_file_path", "/tmp/busybox-gone (deleted)".into());
    gone.insert("elf_file_name", "busybox-gone (deleted)".into());
    gone
}

/// Runs a program, waits for an alert about it, and ends the program.
#[track_caller]
fn reported(guest: &mut Guest, watcher: &Watcher, name: &str, command: &str, path: &str) -> Record {
    let life = barrier::started(guest, watcher, command);
    let record = wait_for(watcher, name, path);
    barrier::end(guest, watcher, &life);
    record
}

/// Runs a program and ends it as soon as a scan has read its file, then waits for the alert.
///
/// The program opens a file after exec, so the scan that reads this also reads the program. The
/// process may end before the watcher knows the content.
#[track_caller]
fn reported_after_its_end(
    guest: &mut Guest,
    watcher: &Watcher,
    name: &str,
    command: &str,
    path: &str,
) -> Record {
    let life = barrier::started(guest, watcher, command);
    let is_its = |record: &Record| record.life().as_ref() == Some(&life);
    watcher.wait_for(&format!("{path} is mapped"), |record| {
        let memory = record.details("process_memory");
        record.is("new_file_mapped")
            && is_its(record)
            && memory["is_main_process_executable"] == true
            && memory["file_path"] == path
    });
    watcher.wait_for(&format!("{OPENED} is opened"), |record| {
        record.is("file_descriptor_open")
            && is_its(record)
            && record.details("file_descriptor")["file_descriptor_name"] == OPENED
    });
    barrier::end(guest, watcher, &life);
    wait_for(watcher, name, path)
}

/// Programs that must not be reported: applets, links, scripts, copies at paths of the SBOM, copies
/// of libraries. They run until later alerts are reported, so scans have checked them by then.
fn twins(guest: &mut Guest, watcher: &Watcher) {
    inside::run(guest, "ls / >/dev/null; busybox true; sh -c 'echo x | cat | wc -l'");
    inside::run(
        guest,
        "ln -s /bin/busybox /tmp/busybox-link; ln /bin/busybox /opt/busybox-hard; \
         cp /bin/busybox /opt/busybox-later; printf '#!/bin/sh\\nsleep 1000\\n' >/tmp/x.sh; \
         chmod +x /tmp/x.sh; cp /lib/x86_64-linux-gnu/libtinfo.so.6 /tmp/copy.so",
    );
    for command in [
        "/tmp/busybox-link sleep 1000",
        "/opt/busybox-hard sleep 1000",
        "/opt/busybox-later sleep 1000",
        "/tmp/x.sh",
        &format!("LD_PRELOAD=/tmp/copy.so bash -c 'read x <>{IDLE}'"),
    ] {
        barrier::started(guest, watcher, command);
    }
    inside::run(guest, "ls -R /proc/self >/dev/null 2>&1");
}

/// Opens a connection of the guest to itself, whose server has [`PORT`].
fn connects(guest: &mut Guest) {
    inside::run(guest, &format!("nc -l -p {PORT} <>{IDLE} >/dev/null 2>&1 &"));
    inside::until(guest, &format!("netstat -ltn | grep -q :{PORT}"));
    inside::run(guest, &format!("nc 10.0.2.15 {PORT} <>{IDLE} >/dev/null 2>&1 &"));
}

/// Makes the watcher read the SBOMs again. If they are unchanged, nothing is reported twice. Then
/// two of the three foreign files in use are approved, and only the third is reported once more.
fn checked_again(guest: &mut Guest, watcher: &Watcher, configuration: &Path) {
    watcher.reload();
    let approved = ["/tmp/x.so", "/tmp/bash-foreign"]
        .map(|path| truth(guest, path)["elf_file_hash_sha256"].as_str().unwrap().to_owned());
    let text = std::fs::read_to_string(configuration).unwrap();
    // Thresholds of connections are read again too.
    let events = "\n    events: { tcp_long_lasting_connection: { duration: 1s } }";
    let more = format!("guest.json, {}]{events}", approved.join(", "));
    std::fs::write(configuration, text.replace("guest.json]", &more)).unwrap();
    watcher.reload();
    let again = |line: &String| line.contains("guest: all running programs are checked again");
    watcher.wait("programs are checked again", |all| all.said.iter().any(again).then_some(()));
    let is_gone = |record: &&Record| {
        record.is(ACTIVITIES[0])
            && record.details("elf_file")["elf_file_path"] == "/tmp/busybox-gone (deleted)"
    };
    watcher.wait("it is reported once more", |all| {
        (all.records.iter().filter(is_gone).count() == 2).then_some(())
    });
    let lasts = |record: &&Record| record.is("tcp_long_lasting_connection");
    watcher.wait("both ends of the connection last", |all| {
        (all.records.iter().filter(lasts).count() == 2).then_some(())
    });
    // Reading the same configuration once more changes nothing.
    watcher.reload();
    barrier::passed(guest, watcher);
    assert_eq!(watcher.records().iter().filter(lasts).count(), 2);
}

/// Files that are loaded by another program: they stay in use until they are checked again.
fn libraries(guest: &mut Guest, watcher: &Watcher) {
    let (foreign, library) = (ACTIVITIES[0], ACTIVITIES[3]);
    // F08: a library, loaded by force.
    flipped(guest, "/lib/x86_64-linux-gnu/libtinfo.so.6", "/tmp/x.so");
    let expected = truth(guest, "/tmp/x.so");
    inside::start(guest, &format!("LD_PRELOAD=/tmp/x.so bash -c 'read x <>{IDLE}'"));
    is_true(&wait_for(watcher, library, "/tmp/x.so"), &expected, "SHARED_OBJECT");

    // A program that is started with the dynamic loader.
    flipped(guest, "/usr/bin/bash", "/tmp/bash-foreign");
    let expected = truth(guest, "/tmp/bash-foreign");
    let loader = "/lib64/ld-linux-x86-64.so.2 /tmp/bash-foreign";
    inside::start(guest, &format!("{loader} -c 'read x <>{IDLE}'"));
    is_true(&wait_for(watcher, foreign, "/tmp/bash-foreign"), &expected, "SHARED_OBJECT");
}

#[test]
#[ignore = "boots a guest"]
fn only_what_differs_from_the_sbom_is_reported_in_6_1() {
    only_what_differs_from_the_sbom_is_reported(Flavor::V6_1);
}

#[test]
#[ignore = "boots a guest"]
fn only_what_differs_from_the_sbom_is_reported_in_6_12() {
    only_what_differs_from_the_sbom_is_reported(Flavor::V6_12);
}

fn only_what_differs_from_the_sbom_is_reported(flavor: Flavor) {
    let mut guest = inside::boot(flavor);
    let kernel = Kernel::obtain(flavor).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let configuration = configure(&guest, &kernel, folder.path());
    let gone = before(&mut guest);
    let watcher = Watch::configured(&configuration, 1).attached();

    let foreign = ACTIVITIES[0];
    let record = wait_for(&watcher, foreign, "/tmp/busybox-gone (deleted)");
    is_true(&record, &gone, "EXECUTABLE");
    twins(&mut guest, &watcher);
    connects(&mut guest);

    // F04: a program that is in no SBOM, and that ends soon.
    let path = "/tmp/busybox-foreign";
    flipped(&mut guest, "/bin/busybox", path);
    let expected = truth(&mut guest, path);
    let command = format!("{path} tail -f {OPENED}");
    let record = reported_after_its_end(&mut guest, &watcher, foreign, &command, path);
    is_true(&record, &expected, "EXECUTABLE");

    // F06: a program of the SBOM, with one byte changed.
    let path = "/opt/busybox-modified";
    flipped(&mut guest, "/bin/busybox", path);
    let expected = truth(&mut guest, path);
    let command = "/opt/busybox-modified sleep 1000";
    let record = reported(&mut guest, &watcher, foreign, command, path);
    is_true(&record, &expected, "EXECUTABLE");
    assert_eq!(record.0["detection"]["mitre_attack"][0], "T1554", "{record}");

    // F05: a program of the SBOM, with bytes appended.
    let path = "/opt/busybox-longer";
    inside::run(&mut guest, &format!("cp /bin/busybox {path}; echo more >>{path}"));
    let expected = truth(&mut guest, path);
    let command = "/opt/busybox-longer sleep 1000";
    let record = reported(&mut guest, &watcher, foreign, command, path);
    is_true_by_size(&record, &expected, "EXECUTABLE");
    is_true_by_size(&wait_for(&watcher, ACTIVITIES[1], path), &expected, "EXECUTABLE");

    // A copy elsewhere.
    let path = "/tmp/busybox-copy";
    inside::run(&mut guest, &format!("cp /bin/busybox {path}"));
    let expected = truth(&mut guest, path);
    let command = "/tmp/busybox-copy sleep 1000";
    let record = reported(&mut guest, &watcher, ACTIVITIES[2], command, path);
    is_true(&record, &expected, "EXECUTABLE");

    // F01: programs without a file: a foreign one, and a copy of one in the SBOM. Their content is
    // lost when they end.
    let (evil, copy) = ("/memfd:evil (deleted)", "/memfd:copy (deleted)");
    let command = "/init memfd evil /tmp/busybox-foreign sleep 1000";
    let record = reported(&mut guest, &watcher, foreign, command, evil);
    assert_eq!(record.0["detection"]["mitre_attack"][1], "T1620", "{record}");
    let command = "/init memfd copy /bin/busybox sleep 1000";
    reported(&mut guest, &watcher, ACTIVITIES[2], command, copy);

    libraries(&mut guest, &watcher);

    let found = alerts(&watcher.records());
    assert_eq!(found.len(), 10, "nothing else, and nothing twice:{}", list(&found));
    assert_eq!(crate::record::count(&watcher.records(), "tcp_long_lasting_connection"), 0);
    checked_again(&mut guest, &watcher, &configuration);
    let records = watcher.stop().records;
    laws::hold(&records);
    let found = alerts(&records);
    assert_eq!(found.len(), 11, "nothing else, and nothing twice:{}", list(&found));
}
