//! Packets that a network mirrors to a port: -i udp:, vxlan:, geneve:, gre:, tzsp:. Nothing here
//! needs root.

use std::net::{Ipv4Addr, UdpSocket};

use nix::sys::signal::Signal;
use panoptes_traffic::{Capture, Flow};
use serde_json::Value;

use crate::live::{Live, facts, truth};
use crate::programs::{Folder, Sensor};
use crate::stream::group;

/// An address of the loopback that no other test has, nor any other process.
pub(crate) fn own_address(number: u8) -> Ipv4Addr {
    let [_, a, b, c] = (std::process::id() << 3).to_be_bytes();
    Ipv4Addr::new(127, a, b, c | number & 7)
}

/// Sends a header and a packet in each datagram.
fn send_all(address: Ipv4Addr, port: u16, header: &[u8], capture: &Capture) {
    let sender = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    for frame in capture.frames() {
        let datagram = [header, &frame].concat();
        sender.send_to(&datagram, (address, port)).expect("loopback");
    }
}

/// The capabilities of the thread that reads packets.
fn capabilities(process: u32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("CapPrm:")).expect("CapPrm");
    line.trim().to_owned()
}

#[test]
fn option_i_takes_mirrored_packets_from_a_port() {
    let erspan = [&[0x10, 0, 0x88, 0xbe][..], &[0; 12]].concat();
    let kinds: [(&str, &str, u16, &[u8]); 5] = [
        ("udp", ":4789", 4789, &[8, 0, 0, 0, 0, 0, 7, 0]),
        ("vxlan", ":9000", 9000, &[8, 0, 0, 0, 0, 0, 7, 0]),
        ("geneve", "", 6081, &[1, 0, 0x65, 0x58, 0, 0, 7, 0, 1, 2, 3, 4]),
        ("gre", "", 4754, &erspan),
        ("tzsp", "", 37008, &[1, 0, 0, 1, 10, 1, 0xc0, 1]),
    ];
    let (capture, address) = (group(0), own_address(0));
    for (kind, port, number, header) in kinds {
        let (folder, name) = (Folder::new(), format!("{kind}:{address}{port}"));
        let with_id = format!("{name}/7");
        let live = Live::start(Sensor::Panoptes, &folder, &["-S", "60", "-i", &with_id], &[&name]);
        assert_eq!(capabilities(live.running.id()), "0000000000000000", "{kind}");
        send_all(address, number, header, &capture);
        assert_eq!(facts(&live.end()), truth(capture.flows(), "7"), "{kind}");
    }
}

#[test]
fn a_filter_is_one_of_mirrored_packets() {
    let (folder, capture, address) = (Folder::new(), group(0), own_address(1));
    let (name, records) = (format!("udp:{address}:4789"), folder.path("records"));
    let mut command = Sensor::Panoptes.with(&["-S", "60", "-i", &name, "-w"]);
    command.arg(&records).args(["-", "udp", "port", "53"]);
    let running = crate::live::listen(Sensor::Panoptes, &mut command, &[&name]);
    send_all(address, 4789, &[8, 0, 0, 0, 0, 0, 7, 0], &capture);
    running.settle();
    running.end(Signal::SIGTERM).succeeded();
    let is_wanted = |flow: &&Flow| flow.destination_port == "53";
    let wanted: Vec<_> = capture.flows().iter().filter(is_wanted).cloned().collect();
    assert_eq!(facts(&records), truth(&wanted, "0.0.0.0"));
}

#[test]
fn what_strangers_send_to_a_port_is_counted_and_costs_nothing() {
    let (folder, capture, address) = (Folder::new(), group(0), own_address(2));
    let (name, lines) = (format!("udp:{address}:4789"), folder.text("lines"));
    let to = format!("json:{lines}");
    let options = ["-S", "60", "-i", &name, "-w", &to];
    let live = Live::start(Sensor::Panoptes, &folder, &options, &[&name]);
    let sender = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    for length in 0..100 {
        // Neither the flag of a number nor, in the last one, any packet.
        let junk = vec![if length == 99 { 8 } else { 0xf7 }; if length == 99 { 8 } else { length }];
        sender.send_to(&junk, (address, 4789)).expect("loopback");
    }
    send_all(address, 4789, &[8, 0, 0, 0, 0, 0, 7, 0], &capture);
    live.running.settle();
    let messages = live.running.end(Signal::SIGTERM).succeeded();
    assert!(messages.contains("100 datagrams held no mirrored packet"), "{messages}");
    assert_eq!(facts(&live.records), truth(capture.flows(), "0.0.0.0"));
    let text = std::fs::read_to_string(lines).expect("lines");
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect(line));
    let details = lines.filter_map(|mut line| {
        let details = line["activity_data"]["system_activity_details"].take();
        (details["gap"] == "mirrors").then_some(details)
    });
    assert_eq!(details.filter_map(|one| one["missed"].as_u64()).sum::<u64>(), 100);
}

#[test]
fn a_port_that_is_taken_is_one_line() {
    let address = own_address(3);
    let _taken = UdpSocket::bind((address, 4789)).expect("loopback");
    let name = format!("udp:{address}:4789");
    let folder = Folder::new();
    let records = folder.text("records");
    let mut command = Sensor::Panoptes.with(&["-i", &name, "-w", &records]);
    let ended = crate::programs::Running::start(&mut command).ended();
    assert_eq!(ended.status.code(), Some(66), "{}", ended.messages);
    let line = format!("cannot receive datagrams at {name}: ");
    assert!(ended.messages.contains(&line) && ended.messages.lines().count() == 1);
}
