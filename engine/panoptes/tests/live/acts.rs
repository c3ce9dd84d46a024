//! Acts that are easily confused: another file with the same number, another program in the same
//! process, another process with the same number.

use std::path::Path;
use std::time::Instant;

use panoptes_rig::{Flavor, Guest};
use serde_json::Value;

use crate::record::{HASHES_NS, Life, Record, count, list, only};
use crate::watcher::{PATIENCE, Watch, Watcher};
use crate::{barrier, inside, laws, measures, reverse_shell};

const PIPE: &str = "/tmp/actor";
/// The actor writes to this FIFO when it has executed all of its lines.
const DONE: &str = "/tmp/actor-done";
/// A FIFO to which no process writes.
const IDLE: &str = "/tmp/idle";
/// The descriptor that the actor uses: bash itself works with lower ones.
const DESCRIPTOR: u64 = 7;
const PORT: u64 = 7000;
const CHANGE: &str = "file_descriptor_file_content_change";
/// The program that computes each hash inside, and the key of the hash in records.
const HASHES: [(&str, &str); 3] = [
    ("sha256sum", "file_descriptor_inode_hash_sha256"),
    ("sha1sum", "file_descriptor_inode_hash_sha1"),
    ("md5sum", "file_descriptor_inode_hash_md5"),
];
/// Maximum number of attempts to start two processes with one number.
const TRIES: u32 = 20;

/// A bash that executes the lines that are written to a pipe.
struct Actor<'a> {
    guest: &'a mut Guest,
    watcher: &'a Watcher,
    life: Life,
    /// How many records there were before its last act.
    seen: usize,
}

impl<'a> Actor<'a> {
    fn start(guest: &'a mut Guest, watcher: &'a Watcher) -> Self {
        inside::run(guest, &format!("busybox mkfifo {PIPE} {DONE}"));
        // Opened for reading and writing, the pipe never reaches its end.
        let command = format!("bash --norc <>{PIPE} >/dev/null 2>&1 & echo $!");
        let process_id: u64 = inside::run(guest, &command)[0].parse().unwrap();
        let is_it =
            |record: &Record| record.is("process_created") && record.process_id() == process_id;
        let life = watcher.wait_for("the actor is created", is_it).life().unwrap();
        Self { guest, watcher, life, seen: 0 }
    }

    /// Writes a line to the actor, which executes it after the previous lines.
    fn does(&mut self, line: &str) {
        self.seen = self.watcher.seen();
        inside::run(self.guest, &format!("echo '{line}' >{PIPE}"));
    }

    /// Waits until the actor has executed its last line, and the watcher has scanned it since.
    fn has_done(&mut self) {
        // Opened for reading and writing, the pipe does not block, so only `read` waits.
        let seconds = PATIENCE.as_secs();
        let read = format!("read -t {seconds} line <>{DONE} || echo late");
        let late = inside::run(self.guest, &format!("echo 'echo >{DONE}' >{PIPE}; {read}"));
        assert!(late.is_empty(), "the actor never comes to the end of its line: {late:?}");
        barrier::passed(self.guest, self.watcher);
    }

    fn is(&self, record: &Record, name: &str) -> bool {
        record.is(name) && record.life().as_ref() == Some(&self.life)
    }

    /// Waits for the record that the last line opens the descriptor on a file, or closes it.
    #[track_caller]
    fn wait_for_descriptor(&self, name: &str, file: &str) {
        self.watcher.wait_for_since(self.seen, &format!("{name} of {file}"), |record| {
            self.is(record, name) && is_of(record, file)
        });
    }

    /// Waits until `count` children of the last line are reported, and have called exec.
    fn children(&mut self, count: usize) -> Vec<Life> {
        let is_child = |record: &&Record| {
            record.is("process_created")
                && record.process()["process_parent_process_id"] == self.life.process_id
        };
        let children = self.watcher.wait("children of the actor", |all| {
            let children = all.records[self.seen..].iter().filter(is_child);
            let children: Vec<Life> = children.filter_map(Record::life).collect();
            (children.len() == count).then_some(children)
        });
        for Life { process_id, .. } in &children {
            inside::until(self.guest, &format!("grep -q ^busybox /proc/{process_id}/cmdline"));
        }
        children
    }
}

/// Whether a record is about [`DESCRIPTOR`], open on that file.
fn is_of(record: &Record, file: &str) -> bool {
    record.details("file_descriptor")["file_descriptor_index"] == DESCRIPTOR && is_in(record, file)
}

/// Whether a record is about any descriptor that is open on that file.
fn is_in(record: &Record, file: &str) -> bool {
    record.details("file_descriptor")["file_descriptor_name"] == file
}

/// One descriptor number, four files: closed and opened again between two scans, and replaced while
/// it is open.
fn files_under_one_number(actor: &mut Actor<'_>) {
    let (open, close) = ("file_descriptor_open", "file_descriptor_close");
    actor.does("exec 7</etc/passwd");
    actor.wait_for_descriptor(open, "/etc/passwd");
    for (line, old, new) in [
        ("exec 7<&-; exec 7</etc/group", "/etc/passwd", "/etc/group"),
        ("exec 7</etc/hostname", "/etc/group", "/etc/hostname"),
        ("exec 7<&-; exec 7<>/tmp/new", "/etc/hostname", "/tmp/new"),
    ] {
        actor.does(line);
        actor.wait_for_descriptor(close, old);
        actor.wait_for_descriptor(open, new);
    }
    actor.does("exec 7<&-");
    actor.wait_for_descriptor(close, "/tmp/new");
    let records = actor.watcher.records();
    for file in ["/etc/passwd", "/etc/group", "/etc/hostname", "/tmp/new"] {
        for name in [open, close] {
            only(&records, file, |record| actor.is(record, name) && is_of(record, file));
        }
    }
}

/// Files that are written while they are open, and others that only could have been written.
fn written_files(actor: &mut Actor<'_>) {
    // A file's change is reported once, for one of the descriptors that are open on it: while bash
    // writes, its standard output is open on the file too.
    let of = |file: &str, record: &Record| record.is(CHANGE) && is_in(record, file);
    let wait_for_change = |actor: &Actor<'_>, file: &str| {
        actor.watcher.wait_for(&format!("{CHANGE} of {file}"), |record| of(file, record));
    };
    let (open, close) = ("file_descriptor_open", "file_descriptor_close");
    let does = |actor: &mut Actor<'_>, line: &str, name: &str, file: &str| {
        actor.does(line);
        actor.wait_for_descriptor(name, file);
    };
    // Written to after the record of its opening.
    does(actor, "exec 7>>/etc/written", open, "/etc/written");
    actor.does("echo one >&7");
    actor.has_done();
    does(actor, "exec 7<&-", close, "/etc/written");
    wait_for_change(actor, "/etc/written");
    // Not written to: for reading, for both, and only its permissions changed.
    does(actor, "exec 7</etc/written; read line <&7", open, "/etc/written");
    does(actor, "exec 7<&-; exec 7<>/etc/only-opened", open, "/etc/only-opened");
    does(actor, "exec 7<&-", close, "/etc/only-opened");
    actor.has_done();
    does(actor, "exec 7<>/etc/written", open, "/etc/written");
    does(actor, "chmod 600 /etc/written; exec 7<&-", close, "/etc/written");
    // Written to before a scan read it as open, and not since, unless the watcher is very fast.
    does(actor, "exec 7>/etc/at-once; echo two >&7", open, "/etc/at-once");
    actor.has_done();
    does(actor, "exec 7<&-", close, "/etc/at-once");
    wait_for_change(actor, "/etc/at-once");
    // A log: programs that run meanwhile inherit the descriptor, and end.
    does(actor, "exec 7>>/etc/log", open, "/etc/log");
    for _ in 0..4 {
        actor.does("echo line >&7; busybox sleep 1000");
        let child = actor.children(1).remove(0);
        barrier::end(actor.guest, actor.watcher, &child);
    }
    actor.has_done();
    let early = actor.watcher.records();
    assert_eq!(early.iter().filter(|record| of("/etc/log", record)).count(), 0);
    does(actor, "exec 7<&-", close, "/etc/log");
    wait_for_change(actor, "/etc/log");
    // A terminal and a pipe.
    does(actor, "exec 7<>/dev/tty0; echo x >&7", open, "/dev/tty0");
    actor.has_done();
    does(actor, "exec 7>&-", close, "/dev/tty0");
    actor.does("{ echo x; exec busybox sleep 1000; } | busybox cat >/dev/null");
    let (children, watcher) = (actor.children(2), actor.watcher);
    for child in &children {
        // The second may end by itself when the first does.
        inside::run(actor.guest, &format!("kill {} || true", child.process_id));
        barrier::wait_for_end(watcher, child);
    }
    actor.has_done();

    let records = actor.watcher.records();
    let changes: Vec<_> = records.iter().filter(|record| record.is(CHANGE)).collect();
    assert_eq!(changes.len(), 3, "{}", list(changes.iter().copied()));
    for file in ["/etc/written", "/etc/at-once", "/etc/log"] {
        let change = only(&records, file, |record| of(file, record));
        content_is_true(actor, change);
    }
}

/// Changed content is reported with its hashes, at least once if the watcher is fast enough.
fn changes_have_hashes(actor: &mut Actor<'_>) {
    let begin = Instant::now();
    let mut tries = 0;
    loop {
        let file = format!("/etc/hashed-{tries}");
        actor.does(&format!("exec 7>>{file}"));
        actor.wait_for_descriptor("file_descriptor_open", &file);
        actor.does("echo one >&7");
        actor.has_done();
        actor.does("exec 7<&-");
        actor.wait_for_descriptor("file_descriptor_close", &file);
        let is_its = |record: &Record| record.is(CHANGE) && is_in(record, &file);
        let change = actor.watcher.wait_for(&format!("{CHANGE} of {file}"), is_its);
        if content_is_true(actor, &change) {
            return;
        }
        tries += 1;
        assert!(begin.elapsed() < PATIENCE, "no record has hashes, of {tries}: {change}");
    }
}

/// Compares the attributes of a file's content in a record with the guest's own; returns whether
/// the record has hashes.
fn content_is_true(actor: &mut Actor<'_>, change: &Record) -> bool {
    assert_eq!(change.life().as_ref(), Some(&actor.life), "{change}");
    let details = change.details("file_descriptor");
    let file = details["file_descriptor_name"].as_str().unwrap();
    let records = actor.watcher.records();
    let closed = records.iter().rev().find(|record| {
        let is_its = actor.is(record, "file_descriptor_close") && is_of(record, file);
        is_its && record.time() <= change.time()
    });
    // A slow watcher may not know the hashes when it has to report the change.
    let waited = change.nanoseconds_after(&closed.expect("its closing").time().into());
    let is_late = waited >= HASHES_NS && HASHES.iter().all(|(_, key)| details[*key].is_null());
    for (program, key) in HASHES {
        let output = inside::run(actor.guest, &format!("{program} {file}")).concat();
        let hash = output.split_whitespace().next().unwrap();
        assert!(is_late || details[key] == hash, "{key} is {hash}: {change}");
    }
    let size = inside::run(actor.guest, &format!("wc -c <{file}")).concat();
    assert_eq!(details["file_descriptor_inode_size_bytes"].to_string(), size.trim(), "{change}");
    !is_late
}

/// The hashes of a process's executable are in records, and in the lines of a scan.
fn an_executable_is_known_by_its_hashes(actor: &mut Actor<'_>) {
    let process_id = actor.life.process_id;
    // Records do not wait for hashes of executables: a slow watcher knows them later.
    let begin = Instant::now();
    let record = loop {
        let (open, close) = ("file_descriptor_open", "file_descriptor_close");
        actor.does("exec 7</etc/group");
        actor.wait_for_descriptor(open, "/etc/group");
        actor.does("exec 7<&-");
        actor.wait_for_descriptor(close, "/etc/group");
        let records = actor.watcher.records();
        let record = records.into_iter().rev().find(|record| actor.is(record, open)).unwrap();
        if record.process()["process_hash_sha256"].is_string() {
            break record;
        }
        assert!(begin.elapsed() < PATIENCE, "its hashes are never known: {record}");
    };
    let lines = inside::scan(actor.guest, "processes");
    let line = lines.into_iter().find(|line| line["process_id"] == process_id).unwrap();
    for (program, key) in [
        ("sha256sum", "process_hash_sha256"),
        ("sha1sum", "process_hash_sha1"),
        ("md5sum", "process_hash_md5"),
    ] {
        let output =
            inside::run(actor.guest, &format!("{program} /proc/{process_id}/exe")).concat();
        let hash = output.split_whitespace().next().unwrap();
        assert_eq!(record.process()[key], hash, "{record}");
        assert_eq!(line[key], hash, "{line}");
    }
}

/// A connection between two processes, from its beginning to its end.
fn a_connection_of_two(actor: &mut Actor<'_>, configuration: &Path) {
    // Closed connections do not stay in TIME_WAIT for a minute.
    inside::run(actor.guest, "echo 0 >/proc/sys/net/ipv4/tcp_max_tw_buckets");
    // The server's own input never ends, so that it closes only after the client has closed.
    let command =
        format!("busybox mkfifo {IDLE}; nc -l -p {PORT} <>{IDLE} >/dev/null 2>&1 & echo $!");
    let server: u64 = inside::run(actor.guest, &command)[0].parse().unwrap();
    barrier::wait_for_listener(actor.guest, actor.watcher, PORT);
    actor.does(&format!("exec 7<>/dev/tcp/10.0.2.15/{PORT}"));

    let details = |record: &Record, key: &str| record.details("network_connection")[key].clone();
    let is_end =
        |record: &Record, name: &str, key: &str| record.is(name) && details(record, key) == PORT;
    let (client_end, server_end) = ("destination_port", "source_port");
    let created = "network_connection_created";
    let mine =
        actor.watcher.wait_for("the client's end", |record| is_end(record, created, client_end));
    actor.watcher.wait_for("the server's end", |record| is_end(record, created, server_end));
    assert_eq!(mine.life().as_ref(), Some(&actor.life));
    assert_eq!(details(&mine, "source_ip_address"), "10.0.2.15");
    // Before accept, the server's end belongs to no process. No record reports the accept.
    barrier::wait_for_scan(actor.guest, "connections", "the server's end as its own", |lines| {
        let is_it = |line: &Value| line[server_end] == PORT && line["process_id"] == server;
        lines.iter().any(is_it).then_some(())
    });
    barrier::passed(actor.guest, actor.watcher);
    actor.does(&format!("busybox head -c {} /dev/zero >&7", measures::SENT));
    measures::are_reported_by_value(actor.guest, actor.watcher, configuration, PORT);
    actor.does("exec 7<&-");
    let ended = "network_connection_terminated";
    actor.watcher.wait_for("the client's end is over", |record| is_end(record, ended, client_end));
    actor.watcher.wait_for("the server's end is over", |record| is_end(record, ended, server_end));

    let records = actor.watcher.records();
    for key in [client_end, server_end] {
        let created = only(&records, "a connection", |record| is_end(record, created, key));
        let ended = only(&records, "its end", |record| is_end(record, ended, key));
        for key in
            ["source_ip_address", "source_port", "destination_ip_address", "destination_port"]
        {
            assert_eq!(details(created, key), details(ended, key));
        }
        let (times, duration) = (
            [
                "tcp_connection_creation_time_iso_8601_ns",
                "tcp_connection_termination_time_iso_8601_ns",
            ],
            "tcp_connection_overall_duration_ns",
        );
        assert_eq!(details(created, times[0]), details(ended, times[0]));
        assert!(
            details(ended, times[1]).is_string() && details(ended, duration).is_u64(),
            "{ended}"
        );
    }
    // The records of the ends have the processes that held them.
    let end = only(&records, "its end", |record| is_end(record, ended, client_end));
    assert_eq!(end.life().as_ref(), Some(&actor.life));
    let end = only(&records, "its end", |record| is_end(record, ended, server_end));
    assert_eq!((end.process_id(), end.process_name()), (server, "nc"), "{end}");
    // A listening socket is no connection.
    let listening = records.iter().filter(|record| details(record, "connection_state") == "LISTEN");
    assert_eq!(listening.clone().count(), 0, "{}", list(listening));
}

/// The process executes another program.
fn another_program(actor: &mut Actor<'_>) {
    // The program opens its file after exec is done: from then on every scan reads its arguments.
    actor.does("exec tail -f /etc/passwd");
    actor.watcher.wait_for("the program is mapped", |record| {
        actor.is(record, "new_file_mapped")
            && record.details("process_memory")["is_main_process_executable"] == true
            && record.details("process_memory")["file_path"] == "/bin/busybox"
            // On a slow host, a scan may read the actor before exec, as the busybox that forked it.
            && record.process_name() == "tail"
    });
    actor.watcher.wait_for("the program's file is opened", |record| {
        actor.is(record, "file_descriptor_open")
            && is_in(record, "/etc/passwd")
            && record.process_name() == "tail"
    });
    inside::run(actor.guest, &format!("kill {}", actor.life.process_id));
    let end =
        actor.watcher.wait_for("the process ends", |record| actor.is(record, "process_terminated"));
    assert_eq!(end.process_name(), "tail");
    assert_eq!(end.process()["process_executable_path"], "/bin/busybox");
    assert_eq!(end.process()["process_command_line_arguments"], "tail -f /etc/passwd");
    let records = actor.watcher.records();
    let created = only(&records, "its birth", |record| actor.is(record, "process_created"));
    let execs = |record: &Record| record.process()["process_self_exec_id"].as_u64().unwrap();
    assert!(execs(created) < execs(&end), "{created}\n{end}");
}

/// Two processes, one after the other, with the same number.
fn one_number_twice(guest: &mut Guest, watcher: &Watcher) {
    for _ in 0..TRIES {
        let first = barrier::started(guest, watcher, "sleep 1000");
        let process_id = first.process_id;
        // The script uses only builtins, so it makes no other process.
        let uptime = "read uptime rest </proc/uptime; uptime=${uptime%.*}";
        let patience = PATIENCE.as_secs();
        let script = format!(
            "kill {process_id}; {uptime}; end=$((uptime + {patience})); \
             while [ -e /proc/{process_id} ]; do \
             {uptime}; [ $uptime -lt $end ] || {{ echo late; exit; }}; done; \
             echo $(({process_id} - 1)) >/proc/sys/kernel/ns_last_pid; \
             sleep 1000 </dev/null >/dev/null 2>&1 & echo $!"
        );
        let output = inside::run(guest, &script).concat();
        assert_ne!(output, "late", "process {process_id} does not end");
        if output == process_id.to_string() {
            return both_with_one_number_are_reported(guest, watcher, &first);
        }
        inside::run(guest, &format!("kill {output}"));
    }
    panic!("no two processes got the same number");
}

/// Checks the records of both processes.
fn both_with_one_number_are_reported(guest: &mut Guest, watcher: &Watcher, first: &Life) {
    let process_id = first.process_id;
    let of = |all: &[Record], name: &str| -> Vec<Life> {
        let its = all.iter().filter(|r| r.is(name) && r.process_id() == process_id);
        its.filter_map(Record::life).collect()
    };
    let second = watcher.wait_for("the second one", |record| {
        let is_created = record.is("process_created") && record.process_id() == process_id;
        is_created && record.life().as_ref() != Some(first)
    });
    barrier::end(guest, watcher, &second.life().unwrap());
    let records = watcher.records();
    let (created, ended) = (of(&records, "process_created"), of(&records, "process_terminated"));
    assert_eq!(created, ended);
    assert_ne!(created[0], created[1]);
}

fn acts_are_not_confused(flavor: Flavor) {
    let mut guest = inside::boot(flavor);
    let folder = tempfile::tempdir().unwrap();
    let configuration = measures::with_thresholds(folder.path());
    let option = format!("--config={}", configuration.display());
    let watcher = Watch::of(&guest).with(&option).attached();
    let mut actor = Actor::start(&mut guest, &watcher);
    files_under_one_number(&mut actor);
    written_files(&mut actor);
    changes_have_hashes(&mut actor);
    an_executable_is_known_by_its_hashes(&mut actor);
    a_connection_of_two(&mut actor, &configuration);
    reverse_shell::is_reported_by_value(actor.guest, &watcher);
    another_program(&mut actor);
    one_number_twice(&mut guest, &watcher);
    let records = watcher.stop().records;
    laws::hold(&records);
    assert_eq!(count(&records, "process_hidden"), 0);
    assert_eq!(count(&records, "new_executable_anonymous_memory_mapped"), 0);
}

#[test]
#[ignore = "boots a guest"]
fn acts_in_6_1_are_not_confused() {
    acts_are_not_confused(Flavor::V6_1);
}

#[test]
#[ignore = "boots a guest"]
fn acts_in_6_12_are_not_confused() {
    acts_are_not_confused(Flavor::V6_12);
}
