//! Exceptions, and what else is left out of records, or put into them.

use panoptes_synthetic::ForkOptions;
use serde_json::json;

use super::super::load::*;
use super::super::*;
use super::turn::*;
use super::{Row, row};

const SILENCED: &str = "each_key_of_an_exception_applies_to_what_follows_a_reload";
const MODULE: &str = "a_module_that_hooks_is_named";
const CONTAINERS: &str = "patterns_of_containers_apply_to_what_follows_a_reload";
const CONTENT: &str = "what_records_contain_applies_to_what_follows_a_reload";

const ROWS: &[Row] = &[
    row("exceptions[0].activity", "\"tcp_long_lasting_connection\"", SILENCED),
    row("exceptions[0].process_executable_path", "\"/usr/bin/other\"", SILENCED),
    row("exceptions[0].process_name", "\"other\"", SILENCED),
    row("exceptions[0].user_id", "7", SILENCED),
    row("exceptions[0].container", "\"other\"", SILENCED),
    row("exceptions[0].image", "\"other\"", SILENCED),
    row("exceptions[0].address", "\"10.0.0.7\"", SILENCED),
    row("exceptions[0].command_line", "\"other\"", SILENCED),
    row("exceptions[0].kernel_module_name", "", MODULE),
    row("exceptions[0].until", "\"2020-01-01\"", SILENCED),
    row("exceptions[0].reason", "\"another reason\"", SILENCED),
    row("exceptions", "[]", SILENCED),
    row("default.containers.include", "[\"other\"]", CONTAINERS),
    row("default.containers.exclude", "[\"0000*\"]", CONTAINERS),
    row("default.containers.images", "{\"0000*\": \"nginx:1\"}", CONTAINERS),
    row("output.redact", "[\"hunter2\"]", CONTENT),
    row("default.user_memory.command_lines", "false", CONTENT),
    row("default.sbom", "[\"sbom.json\"]", CONTENT),
];

/// The rows of the table of keys.
pub(super) fn rows() -> impl Iterator<Item = Row> {
    ROWS.iter().copied()
}

fn of(test: &str) -> impl Iterator<Item = &'static Row> {
    ROWS.iter().filter(move |row| row.test == test)
}

/// An exception for all that [`known`] does.
fn exception() -> Value {
    json!([{
        "activity": "tcp_connection_excessive_data",
        "process_executable_path": "/usr/bin/known",
        "process_name": "known",
        "user_id": 1000,
        "container": "0000*",
        "image": "nginx*",
        "address": "10.9.9.9",
        "command_line": "known --now",
        "reason": "it is known",
        "until": "2999-01-01",
    }])
}

/// A program in a new container whose connection is used much.
fn known(service: &Service<'_>, number: u16) -> u32 {
    let (pid, descriptor) = service.live.act(move |machine| {
        let path = format!("/system.slice/docker-{number:064x}.scope");
        let container = machine.add_container(&path, "known");
        let options = ForkOptions { container, uid: 1000, new_session: true };
        let pid = machine.fork_with(1, options);
        machine.exec(pid, "/usr/bin/known", &["known", "--now"]);
        let (own, peer) = ends(40_000 + number);
        (pid, machine.connect(pid, own, peer))
    });
    service.scan(SCANS);
    service.live.act(move |machine| machine.transfer(pid, descriptor, 5000, 0));
    pid
}

#[test]
fn each_key_of_an_exception_applies_to_what_follows_a_reload() {
    let more = [
        ("default.events.tcp_connection_excessive_data.bytes_in", json!("1KiB")),
        ("default.containers.images", json!({"0000*": "nginx:1"})),
    ];
    let (_, kept) = under_load(&more, REAL, |service| {
        let number = std::cell::Cell::new(0);
        let check = |what: &str, is_expected| {
            number.set(number.get() + 1);
            let from = service.count();
            let pid = known(service, number.get());
            service.check(what, is_expected, (from, 2 * SCANS), |record| {
                name(record) == "tcp_connection_excessive_data" && is_of(record, pid)
            });
            service.live.act(move |machine| machine.kill(pid));
        };
        check("without an exception", true);
        service.set_and_scan(&[("exceptions", exception())]);
        check("with the exception", false);
        for row in of(SILENCED) {
            service.set_and_scan(&[(row.key, row.value())]);
            check(row.key, row.key != "exceptions[0].reason");
            service.set_and_scan(&[("exceptions", exception())]);
        }
        check("with the exception again", false);
        service.set_and_scan(&[("exceptions[0].reason", json!("another reason"))]);
        check("with another reason", false);
    });
    let message = "alerts tcp_connection_excessive_data were silenced by an exception: another";
    assert_eq!(kept.count(message), 1, "{}", kept.text());
}

#[test]
fn patterns_of_containers_apply_to_what_follows_a_reload() {
    let (folder, exit, kept) = watch(&[], REAL, |service| {
        for (row, number) in of(CONTAINERS).zip((0..).step_by(2)) {
            let check = |number, is_changed: bool| {
                let from = service.count();
                let pid = known(service, number);
                let is_expected = !is_changed || row.key.ends_with("images");
                service.check(row.key, is_expected, (from, 2 * SCANS), |record| {
                    let has_image = record.to_string().contains("nginx:1");
                    let is_started = name(record) == "container_started" && is_of(record, pid);
                    is_started && has_image == (is_changed && is_expected)
                });
                service.live.act(move |machine| machine.kill(pid));
            };
            check(number, false);
            service.set_and_scan(&[(row.key, row.value())]);
            check(number + 1, true);
            service.set_and_scan(&[(row.key, Value::Null)]);
        }
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    assert_eq!(kept.count("records were lost"), 0, "{}", kept.text());
    // Records that are left out have numbers, too.
    check_order(&logged(&folder.path().join("log")));
}

#[test]
fn what_records_contain_applies_to_what_follows_a_reload() {
    const LINES: &str = "default.user_memory.command_lines";
    under_load(&[], REAL, |service| {
        let arguments = || {
            let from = service.count();
            let pid = service.live.act(|machine| {
                let pid = machine.fork(1);
                machine.exec(pid, "/usr/bin/secret", &["secret", "hunter2"]);
                pid
            });
            let record = service.record("record", from, |record| is_of(record, pid));
            service.live.act(move |machine| machine.kill(pid));
            let text = &record["activity_data"]["process_details"];
            text["process_command_line_arguments"].as_str().map(str::to_owned)
        };
        let value = |key: &str| of(CONTENT).find(|row| row.key == key).unwrap().value();
        assert_eq!(arguments().as_deref(), Some("secret hunter2"));
        service.set_and_scan(&[("output.redact", value("output.redact"))]);
        assert_eq!(arguments().as_deref(), Some("secret ***"));
        service.set_and_attach(&[(LINES, value(LINES))]);
        assert_eq!(arguments(), None);
        service.set_and_attach(&[(LINES, json!(true)), ("output.redact", json!([]))]);
        assert_eq!(arguments().as_deref(), Some("secret hunter2"));
        let from = service.count();
        let checked = "live: all running programs are checked again";
        service.set(&[("default.sbom", value("default.sbom"))]);
        service.driver.wait(checked, 1);
        let pid = service.live.act(|machine| {
            let pid = machine.fork(1);
            machine.write_file("/tmp/stranger", &[7; 5000]);
            machine.exec(pid, "/tmp/stranger", &["stranger"]);
            pid
        });
        service.record("alert", from, |record| {
            name(record) == "foreign_binary_executed" && is_of(record, pid)
        });
    });
}
