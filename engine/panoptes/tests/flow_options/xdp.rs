//! `-i xdp:NAME`: the flows are those of `-i NAME`, and the machine has its packets back then.

use std::time::Duration;

use nix::sys::signal::Signal;
use panoptes_bounded as bounded;
use panoptes_packet_rings::{InterfaceError, InterfaceOptions, XdpInterface};
use panoptes_traffic::{Capture, Flow};

use crate::live::{Live, connection, facts, truth};
use crate::network::{LEFT, RIGHT, Sender, enter, ip};
use crate::programs::{Folder, Sensor, run};
use crate::stream::group;

/// What the interfaces may take at once: veth has XDP in its driver, or it has not.
const MTUS: [u32; 2] = [1500, 9000];
/// Frames that veth has room for; so many are sent without a pause.
const FRAMES_AT_ONCE: usize = 200;

/// Enters a network with pairs of this MTU; `false` where XDP cannot be tested.
#[must_use]
fn enter_for_xdp(pairs: usize, mtu: u32) -> bool {
    if !enter(pairs) {
        return false;
    }
    for name in LEFT.iter().take(pairs).chain(RIGHT.iter().take(pairs)) {
        ip(&format!("link set {name} mtu {mtu}"));
    }
    let options = InterfaceOptions { name: RIGHT[0].to_owned(), ..InterfaceOptions::default() };
    if let Err(InterfaceError::Unsupported { .. }) = XdpInterface::open(&options) {
        panoptes_needs::skip::test("AF_XDP sockets");
        return false;
    }
    true
}

/// Sends a capture, with pauses that let veth take it all.
fn send_all(interface: &str, capture: &Capture) {
    let sender = Sender::new(interface);
    for frames in capture.frames().chunks(FRAMES_AT_ONCE) {
        for frame in frames {
            sender.send(frame);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn has_xdp(interface: &str) -> bool {
    ip(&format!("link show {interface}")).contains(" xdp")
}

#[test]
fn option_i_takes_packets_by_xdp() {
    for mtu in MTUS {
        if !enter_for_xdp(1, mtu) {
            return;
        }
        let capture = group(0);
        let both = ["right0/7", "xdp:right0/7"].map(|name| {
            let folder = Folder::new();
            let live =
                Live::start(Sensor::Panoptes, &folder, &["-S", "60", "-i", name], &[RIGHT[0]]);
            assert_eq!(has_xdp(RIGHT[0]), name.starts_with("xdp:"));
            send_all(LEFT[0], &capture);
            (facts(&live.end()), has_xdp(RIGHT[0]))
        });
        let expected = truth(capture.flows(), "7");
        assert_eq!(both, [(expected.clone(), false), (expected, false)], "{mtu}");
    }
}

#[test]
fn a_filter_of_xdp_is_that_of_captures() {
    if !enter_for_xdp(1, 1500) {
        return;
    }
    let folder = Folder::new();
    let records = folder.path("records");
    let mut command = Sensor::Panoptes.with(&["-S", "60", "-i", "xdp:right0", "-w"]);
    command.arg(&records).args(["-", "udp", "port", "53"]);
    let running = crate::live::listen(Sensor::Panoptes, &mut command, &[RIGHT[0]]);
    let capture = group(0);
    send_all(LEFT[0], &capture);
    running.settle();
    running.end(Signal::SIGTERM).succeeded();
    let is_wanted = |flow: &&Flow| flow.destination_port == "53";
    let wanted: Vec<_> = capture.flows().iter().filter(is_wanted).cloned().collect();
    assert_eq!(facts(&records), truth(&wanted, "0.0.0.0"));
}

/// Each direction of a connection comes at another interface, one of them by XDP.
#[test]
fn xdp_is_a_part_of_a_link() {
    if !enter_for_xdp(2, 1500) {
        return;
    }
    let folder = Folder::new();
    let options = ["-S", "60", "-i", "dup:xdp:right0,right1/3"];
    let live = Live::start(Sensor::Panoptes, &folder, &options, &RIGHT[..2]);
    assert_eq!(RIGHT[..2].iter().map(|name| has_xdp(name)).collect::<Vec<_>>(), [true, false]);
    let capture = connection(1);
    let [from, to] = [LEFT[0], LEFT[1]].map(Sender::new);
    for frame in capture.frames() {
        // The last byte of the source's address decides.
        let sender = if frame[29] == 1 { &from } else { &to };
        sender.send(&frame);
        live.running.settle();
    }
    assert_eq!(facts(&live.end()), truth(capture.flows(), "3"));
}

#[test]
fn an_interface_of_xdp_goes_away_and_comes_back() {
    if !enter_for_xdp(1, 1500) {
        return;
    }
    let folder = Folder::new();
    let options = ["-S", "60", "-i", "xdp:right0"];
    let live = Live::start(Sensor::Panoptes, &folder, &options, &[RIGHT[0]]);
    send_all(LEFT[0], &connection(1));
    live.running.settle();
    live.interface_comes_back();
    assert!(has_xdp(RIGHT[0]));
    send_all(LEFT[0], &connection(2));
    let flows = [connection(1).flows(), connection(2).flows()].concat();
    assert_eq!(facts(&live.end()), truth(&flows, "0.0.0.0"));
}

#[test]
fn lost_packets_of_xdp_are_counted() {
    const PACKETS: usize = 2000;
    if !enter_for_xdp(1, 9000) {
        return;
    }
    let folder = Folder::new();
    let configuration = folder.write("argus.conf", b"ARGUS_PCAP_BUF_SIZE=1K\n");
    let options = ["-F", &configuration, "-S", "60", "-i", "xdp:right0"];
    let live = Live::start(Sensor::Panoptes, &folder, &options, &[RIGHT[0]]);
    let (packets, dropped) = live.overflow(PACKETS, send_all);
    // 64 chunks of 4096 bytes are the fewest.
    assert!((1..=64).contains(&packets), "{packets} packets, {dropped} lost");
}

#[test]
fn a_sensor_that_is_killed_gives_packets_back() {
    if !enter_for_xdp(1, 1500) {
        return;
    }
    let folder = Folder::new();
    let live = Live::start(Sensor::Panoptes, &folder, &["-i", "xdp:right0"], &[RIGHT[0]]);
    assert!(has_xdp(RIGHT[0]));
    live.running.end(Signal::SIGKILL);
    assert!(!has_xdp(RIGHT[0]));
}

#[test]
fn each_mistake_with_xdp_has_one_line() {
    for (name, code, part) in [
        ("xdp:all", 2, "-i: xdp: needs the name of one interface"),
        ("xdp:no-such-one", 66, "there is no network interface no-such-one"),
    ] {
        let mut command = Sensor::Panoptes.with(&["-i", name, "-w", "/dev/null"]);
        let output = bounded::output(&mut command).expect("the program");
        let messages = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{name}: {messages}");
        assert!(messages.contains(part) && messages.lines().count() == 1, "{name}: {messages}");
    }
    assert!(run(&mut Sensor::Panoptes.with(&["-h"])).contains("xdp:NAME"));
}
