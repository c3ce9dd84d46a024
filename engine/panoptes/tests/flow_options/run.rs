//! `flows` of `panoptes run`: the sensor inside the service, compared with what was sent.

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use panoptes_traffic::{BEGIN_NS, Between, Capture, Flow, Udp};
use serde_json::Value;

use crate::network::{LEFT, RIGHT, enter, send_all};
use crate::ports::own_address;
use crate::programs::{Folder, Running, until};
use crate::stream::group;

/// The service with this text as its configuration.
fn service(folder: &Folder, text: &str) -> std::process::Command {
    let file = folder.write("panoptes.yaml", text.as_bytes());
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_panoptes"));
    command.args(["run", "--config", &file]);
    command
}

/// A configuration that has flows and nothing else.
fn text(flows: &str) -> String {
    format!(
        "auto_scan: false\nservice: {{state_dir: state}}\noutput: {{log_folder: log}}\n\
         flows:\n{flows}"
    )
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

/// What a record of a flow and the truth about it have in common.
type Fact = ([String; 5], [u64; 2], [u64; 2]);

/// The records of flows in a file.
fn facts(path: &Path) -> Vec<Fact> {
    let fact = |record: &Value| {
        let text = |key: &str| match &record[key] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let number = |key: &str| record[key].as_u64().expect(key);
        let key = [
            text("protocol"),
            text("source_address"),
            text("source_port"),
            text("destination_address"),
            text("destination_port"),
        ];
        let packets = ["source_packets", "destination_packets"].map(number);
        (key, packets, ["source_bytes", "destination_bytes"].map(number))
    };
    let records = lines(path);
    let flows = records.iter().filter(|record| record["kind"] == "flow");
    let mut facts: Vec<Fact> = flows.map(fact).collect();
    facts.sort();
    facts
}

/// The truth in the same form.
fn truth<'a>(flows: impl IntoIterator<Item = &'a Flow>) -> Vec<Fact> {
    let fact = |flow: &Flow| {
        let key = [
            flow.protocol.clone(),
            flow.source.clone(),
            flow.source_port.clone(),
            flow.destination.clone(),
            flow.destination_port.clone(),
        ];
        (key, flow.packets, flow.bytes)
    };
    let mut facts: Vec<Fact> = flows.into_iter().map(fact).collect();
    facts.sort();
    facts
}

/// TCP and UDP: their records have ports.
fn with_ports(capture: &Capture) -> Vec<&Flow> {
    let flows = capture.flows().iter();
    flows.filter(|flow| matches!(flow.protocol.as_str(), "tcp" | "udp")).collect()
}

#[test]
fn the_service_records_what_was_sent() {
    if !enter(1) {
        return;
    }
    let folder = Folder::new();
    let flows =
        format!("  interfaces: [{}]\n  status_interval: 1m\n  filter: tcp or udp\n", RIGHT[0]);
    let running = Running::collect(&mut service(&folder, &text(&flows)));
    running.wait_for(&format!("{}: auditing", RIGHT[0]));
    let first = group(0);
    send_all(LEFT[0], &first);
    running.settle();
    // Another configuration: these flows end, and those that follow are others.
    let other = text(&flows).replace("tcp or udp", "udp");
    folder.write("panoptes.yaml", other.as_bytes());
    running.signal(Signal::SIGHUP);
    running.wait_for("the configuration was read again: 1 key has changed");
    let second = group(1);
    send_all(LEFT[0], &second);
    running.settle();
    // One with a mistake changes nothing.
    folder.write("panoptes.yaml", other.replace("status_interval", "status_intervall").as_bytes());
    running.signal(Signal::SIGHUP);
    running.wait_for("the configuration is refused and not changed: ");
    let third = group(2);
    send_all(LEFT[0], &third);
    running.settle();
    let messages = running.end(Signal::SIGTERM).succeeded();
    let place = "panoptes.yaml:6:3: unknown key `status_intervall` in `flows`; did you mean \
                 `status_interval`?";
    assert!(messages.contains(place), "{messages}");
    let second = [with_ports(&second), with_ports(&third)].concat();
    let is_udp = |flow: &&&Flow| flow.protocol == "udp";
    let expected = [with_ports(&first), second.iter().filter(is_udp).copied().collect()].concat();
    assert_eq!(facts(&folder.path("log/flows.jsonl")), truth(expected));
    let events = lines(&folder.path("log/events.jsonl"));
    let names: Vec<_> = events.iter().map(|one| &one["activity_data"]["name"]).collect();
    assert_eq!(
        names,
        [
            "service_initialization_started",
            "service_initialization_successful",
            "configuration_reloaded",
            "configuration_refused",
            "service_gracefully_shutdown",
        ],
        "{messages}"
    );
    let keys = &events[2]["activity_data"]["system_activity_details"]["keys"];
    assert_eq!(keys, &serde_json::json!(["flows.filter"]));
}

/// CAP_NET_RAW and no other capability, and a filter of system calls (`proc_pid_status(5)`).
#[test]
fn the_thread_of_the_sensor_keeps_what_opening_an_interface_takes() {
    if !enter(1) {
        return;
    }
    let folder = Folder::new();
    let text = text(&format!("  interfaces: [{}]\n", RIGHT[0]));
    let running = Running::collect(&mut service(&folder, &text));
    running.wait_for(&format!("{}: auditing", RIGHT[0]));
    let tasks = format!("/proc/{}/task", running.id());
    let status = || {
        let tasks = fs::read_dir(&tasks).expect("it runs").flatten();
        let mut all = tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
        all.find(|status| status.starts_with("Name:\tpanoptes-flows\n")).unwrap_or_default()
    };
    let has = |line: &str| status().lines().any(|one| one == line);
    until(|| format!("no filter: {}", status()), || has("Seccomp:\t2"));
    for set in ["CapInh:\t0000000000000000", "CapPrm:\t0000000000002000"] {
        assert!(has(set), "{}", status());
    }
    running.end(Signal::SIGTERM).succeeded();
}

#[test]
fn a_mistake_in_flows_ends_the_start_with_its_line() {
    let folder = Folder::new();
    let flows = "  interfaces: [lo]\n  filter: tcp prot 80\n";
    let ended = Running::collect(&mut service(&folder, &text(flows))).ended();
    assert_eq!(ended.status.code(), Some(78), "{}", ended.messages);
    let place = "panoptes.yaml:6:11: `flows.filter`: `tcp prot 80` is no filter of packets: ";
    assert!(ended.messages.contains(place), "{}", ended.messages);
    assert!(!folder.path("log").exists());
}

#[test]
fn an_interface_that_is_not_there_ends_the_start() {
    if !enter(0) {
        return;
    }
    let folder = Folder::new();
    let text = text("  interfaces: [nothing0]\n");
    let ended = Running::collect(&mut service(&folder, &text)).ended();
    assert_eq!(ended.status.code(), Some(66), "{}", ended.messages);
    assert!(ended.messages.contains("flows: "), "{}", ended.messages);
    assert!(ended.messages.contains("nothing0"), "{}", ended.messages);
}

/// An interface that goes away and comes back costs no restart, and what was missed is reported.
#[test]
fn an_interface_of_the_service_may_come_back() {
    if !enter(2) {
        return;
    }
    let folder = Folder::new();
    let flows = format!("  interfaces: [{}, {}]\n  filter: tcp or udp\n", RIGHT[0], RIGHT[1]);
    let text = text(&flows);
    let running = Running::collect(&mut service(&folder, &text));
    running.wait_for(&format!("{}: auditing", RIGHT[1]));
    crate::network::ip(&format!("link del {}", LEFT[1]));
    let log = folder.path("log/events.jsonl");
    let has = |name: &str| {
        let is_it = |one: &Value| one["activity_data"]["name"] == name;
        lines(&log).iter().any(is_it)
    };
    until(|| "no coverage_degraded".to_owned(), || has("coverage_degraded"));
    crate::network::add(1);
    running.wait_for(&format!("{}: auditing again", RIGHT[1]));
    let capture = group(3);
    send_all(LEFT[1], &capture);
    running.settle();
    running.end(Signal::SIGTERM).succeeded();
    assert!(has("details_gathering_failed"));
    let found = facts(&folder.path("log/flows.jsonl"));
    assert_eq!(found, truth(with_ports(&capture)));
}

/// The port stays open: what comes while one sensor ends and the next one starts waits there.
#[test]
fn a_reload_misses_nothing_at_a_port() {
    const PACKETS: usize = 3000;
    let (folder, address) = (Folder::new(), own_address(5));
    let flows = format!("  interfaces: ['udp:{address}:4789']\n  status_interval: 1m\n");
    let running = Running::collect(&mut service(&folder, &text(&flows)));
    running.wait_for(&format!("udp:{address}:4789: auditing"));
    let sender = std::thread::spawn(move || {
        let udp = Udp::one_way(Between::v4(1, [5000, 9]), BEGIN_NS, &vec![18; PACKETS]);
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        for frame in Capture::of(&udp).frames() {
            let datagram = [&[8, 0, 0, 0, 0, 0, 7, 0][..], &frame].concat();
            socket.send_to(&datagram, (address, 4789)).expect("loopback");
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    let events = folder.path("log/events.jsonl");
    for minutes in 2..5 {
        let other = flows.replace("1m", &format!("{minutes}m"));
        folder.write("panoptes.yaml", text(&other).as_bytes());
        running.signal(Signal::SIGHUP);
        let is_reload = |one: &&Value| one["activity_data"]["name"] == "configuration_reloaded";
        let reloads = || lines(&events).iter().filter(is_reload).count();
        until(|| format!("{} reloads", reloads()), || reloads() == minutes - 1);
    }
    panoptes_bounded::join(sender).expect("it sends");
    running.settle();
    let messages = running.end(Signal::SIGTERM).succeeded();
    let found = facts(&folder.path("log/flows.jsonl"));
    let packets: u64 = found.iter().map(|(_, packets, _)| packets[0]).sum();
    assert_eq!(packets, PACKETS as u64, "{messages}");
    assert!(found.len() >= 3, "each sensor has had some: {found:?}");
}
