//! Thresholds, and the other keys of some activities.

use panoptes_synthetic::ForkOptions;
use serde_json::json;

use super::super::load::*;
use super::super::*;
use super::turn::*;
use super::{Row, row};

/// A key of an activity, and what is reported with the other value and not before, or before and
/// not with the other value.
struct Case {
    row: Row,
    before: &'static str,
    act: fn(&Service<'_>, u16) -> u32,
    reports: &'static str,
    is_reported: bool,
}

const fn case(
    (key, before, to): (&'static str, &'static str, &'static str),
    act: fn(&Service<'_>, u16) -> u32,
    (reports, is_reported): (&'static str, bool),
) -> Case {
    Case { row: row(key, to, TEST), before, act, reports, is_reported }
}

const TEST: &str = "each_key_of_a_detector_applies_to_what_follows_a_reload";

const CASES: &[Case] = &[
    case(
        ("default.events.process_zombie.after", "\"1h\"", "\"1ms\""),
        zombie,
        ("process_zombie", true),
    ),
    case(
        ("default.events.tcp_connection_excessive_data.bytes_in", "\"1GiB\"", "\"1KiB\""),
        |service, number| transfer(service, number, (5000, 0)),
        ("tcp_connection_excessive_data", true),
    ),
    case(
        ("default.events.tcp_connection_excessive_data.bytes_out", "\"1GiB\"", "\"1KiB\""),
        |service, number| transfer(service, number, (0, 5000)),
        ("tcp_connection_excessive_data", true),
    ),
    case(
        ("default.events.tcp_long_lasting_connection.duration", "\"1h\"", "\"1ms\""),
        |service, number| transfer(service, number, (0, 0)),
        ("tcp_long_lasting_connection", true),
    ),
    case(
        ("default.events.tcp_network_connection_status.period", "\"1h\"", "\"10ms\""),
        |service, number| transfer(service, number, (0, 0)),
        ("tcp_network_connection_status", true),
    ),
    case(
        ("default.events.reverse_shell_detected.login_servers", "[]", "[\"/usr/sbin/teleport\"]"),
        session,
        ("reverse_shell_detected", false),
    ),
    case(
        ("default.events.file_descriptor_file_content_change.include", "[]", "[\"/srv/*\"]"),
        |service, number| write(service, format!("/srv/{number}")),
        ("file_descriptor_file_content_change", true),
    ),
    case(
        ("default.events.file_descriptor_file_content_change.exclude", "[]", "[\"/etc/cron.d/*\"]"),
        |service, number| write(service, format!("/etc/cron.d/{number}")),
        ("file_descriptor_file_content_change", false),
    ),
    case(
        ("default.events.file_descriptor_file_content_change.others", "false", "true"),
        |service, number| write(service, format!("/srv/{number}")),
        ("file_descriptor_file_content_change", true),
    ),
];

/// The rows of the table of keys.
pub(super) fn rows() -> impl Iterator<Item = Row> {
    CASES.iter().map(|case| case.row)
}

/// A process that ends, and that nobody collects.
fn zombie(service: &Service<'_>, _: u16) -> u32 {
    let pid = service.live.act(|machine| machine.fork(1));
    service.scan(SCANS);
    service.live.act(move |machine| machine.exit(pid));
    pid
}

/// A connection with so much traffic in and out.
fn transfer(service: &Service<'_>, number: u16, (bytes_in, bytes_out): (u64, u64)) -> u32 {
    let (pid, descriptor) = service.live.act(move |machine| {
        let pid = machine.fork(1);
        let (own, peer) = ends(40_000 + number);
        (pid, machine.connect(pid, own, peer))
    });
    service.scan(SCANS);
    service.live.act(move |machine| machine.transfer(pid, descriptor, bytes_in, bytes_out));
    pid
}

/// A shell behind a server of root.
fn session(service: &Service<'_>, number: u16) -> u32 {
    service.live.act(move |machine| {
        let options = ForkOptions { container: 0, uid: 0, new_session: true };
        let server = machine.fork_with(1, options);
        machine.exec(server, "/usr/sbin/teleport", &["teleport"]);
        let (own, _) = ends(50_000 + number);
        let peer = std::net::SocketAddr::from(([203, 0, 113, 9], 4444));
        let socket = machine.connect(server, own, peer);
        let (to, from) = (machine.pipe(server), machine.pipe(server));
        let shell = machine.fork_with(server, options);
        for (end, standard) in [(to.read, 0), (from.write, 1), (from.write, 2)] {
            machine.dup2(shell, end, standard);
        }
        for descriptor in [socket, to.read, to.write, from.read, from.write] {
            if descriptor > 2 {
                machine.close(shell, descriptor);
            }
        }
        machine.close(server, to.read);
        machine.close(server, from.write);
        machine.exec(shell, "/usr/bin/bash", &["bash", "-i"]);
        shell
    })
}

/// A process that changes a file.
fn write(service: &Service<'_>, path: String) -> u32 {
    let opened = path.clone();
    let (pid, descriptor) = service.live.act(move |machine| {
        let pid = machine.fork(1);
        machine.write_file(&opened, b"before\n");
        (pid, machine.open(pid, &opened))
    });
    service.scan(SCANS);
    service.live.act(move |machine| {
        machine.write_file(&path, b"what else\n");
        machine.close(pid, descriptor);
    });
    pid
}

#[test]
fn each_key_of_a_detector_applies_to_what_follows_a_reload() {
    let value = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let mut more: Vec<_> = CASES.iter().map(|case| (case.row.key, value(case.before))).collect();
    more.push(("default.events.tcp_network_connection_status.enabled", json!(true)));
    under_load(&more, REAL, |service| {
        for (case, number) in CASES.iter().zip((0..).step_by(2)) {
            let check = |number: u16, is_expected: bool| {
                let from = service.count();
                let pid = (case.act)(service, number);
                service.check(
                    case.row.key,
                    is_expected,
                    (from, absent_scans(case.reports)),
                    |record| name(record) == case.reports && is_of(record, pid),
                );
                service.live.act(move |machine| {
                    if machine.process(pid).is_zombie {
                        machine.reap(pid);
                    } else {
                        machine.kill(pid);
                    }
                });
            };
            check(number, !case.is_reported);
            service.set_and_scan(&[(case.row.key, case.row.value())]);
            check(number + 1, case.is_reported);
            service.set_and_scan(&[(case.row.key, value(case.before))]);
        }
    });
}

/// A severity may depend on the path.
#[test]
fn severities_of_changed_files_apply_to_what_follows_a_reload() {
    const KEY: &str = "default.events.file_descriptor_file_content_change.severity";
    under_load(&[], REAL, |service| {
        service.set_and_scan(&[(KEY, json!({"/etc/cron.d/*": "LOW", "/etc/passwd": "HIGH"}))]);
        for (path, severity) in [("/etc/cron.d/a", "LOW"), ("/etc/passwd", "HIGH")] {
            let from = service.count();
            let pid = write(service, path.to_owned());
            let record = service.record(path, from, |record| {
                name(record) == "file_descriptor_file_content_change" && is_of(record, pid)
            });
            assert_eq!(record["severity"], severity, "{path}");
        }
    });
}
