//! Live interfaces: all forms of -i, -p, -s, -M, and what happens to an interface.

use std::time::Duration;

use nix::sys::signal::Signal;
use panoptes_traffic::{BEGIN_NS, Between, Capture, Flow, Row, Udp};

use crate::live::{Live, connection, facts, listen, truth};
use crate::network::{LEFT, RIGHT, Sender, enter, ip, send_all, send_in_parts};
use crate::programs::{BOTH, Folder, Sensor, until};
use crate::stream::{START, STATUS, STOP, group, management, rows};

/// What management records have without an id.
const NO_ID: (u32, [u8; 4]) = (0x0080_0000, [0; 4]);

/// Both sensors listen at an interface with these options, while a capture is sent to it. Their
/// records agree with the truth.
#[track_caller]
fn both_have(options: &[&str], id: &str, raw: (u32, [u8; 4])) {
    if !enter(1) {
        return;
    }
    let folder = Folder::new();
    let capture = group(0);
    let live = BOTH.map(|sensor| Live::start(sensor, &folder, options, &[RIGHT[0]]));
    send_all(LEFT[0], &capture);
    let [theirs, own] = live.map(Live::end);
    let expected = truth(capture.flows(), id);
    assert_eq!(facts(&own), expected);
    assert_eq!(facts(&theirs), expected, "argus");
    // Management records of argus have the id of -e only.
    let ids: Vec<_> = management(&own).iter().map(|record| record.id).collect();
    assert_eq!(ids, [raw, raw]);
}

#[test]
fn option_i_names_an_interface() {
    both_have(&["-S", "60", "-i", RIGHT[0]], "0.0.0.0", NO_ID);
}

#[test]
fn option_i_gives_records_an_id() {
    both_have(&["-S", "60", "-i", "right0/7"], "7", (0x0040_0000, [0, 0, 0, 7]));
}

#[test]
fn option_i_gives_records_an_address() {
    let options = ["-S", "60", "-e", "8", "-i", "right0/10.1.2.3"];
    both_have(&options, "10.1.2.3", (0x0080_0000, [10, 1, 2, 3]));
}

#[test]
fn without_option_i_the_first_interface_is_audited() {
    both_have(&["-S", "60"], "0.0.0.0", NO_ID);
}

#[test]
fn a_filter_is_for_interfaces_too() {
    if !enter(1) {
        return;
    }
    let folder = Folder::new();
    let files = BOTH.map(|sensor| folder.path(&format!("{sensor:?}")));
    let running = [0, 1].map(|at| {
        let mut command = BOTH[at].with(&["-S", "60", "-i", RIGHT[0], "-w"]);
        listen(BOTH[at], command.arg(&files[at]).args(["-", "udp", "port", "53"]), &[RIGHT[0]])
    });
    let capture = group(0);
    send_all(LEFT[0], &capture);
    for sensor in running {
        sensor.settle();
        sensor.end(Signal::SIGTERM).succeeded();
    }
    let is_wanted = |flow: &&Flow| flow.destination_port == "53";
    let wanted: Vec<_> = capture.flows().iter().filter(is_wanted).cloned().collect();
    for file in files {
        assert_eq!(facts(&file), truth(&wanted, "0.0.0.0"));
    }
}

/// Panoptes listens at several interfaces. A connection is sent to each of the first three. So many
/// records have each id.
#[track_caller]
fn several(options: &[&str], interfaces: &[&str], ids: [&str; 3]) {
    if !enter(3) {
        return;
    }
    let folder = Folder::new();
    let options = [&["-S", "60"], options].concat();
    let live = Live::start(Sensor::Panoptes, &folder, &options, interfaces);
    let mut expected = Vec::new();
    for ((number, left), id) in (1..).zip(LEFT).zip(ids) {
        let capture = connection(number);
        send_all(left, &capture);
        if !id.is_empty() {
            expected.extend(truth(capture.flows(), id));
        }
    }
    expected.sort();
    assert_eq!(facts(&live.end()), expected);
}

#[test]
fn option_i_may_be_repeated() {
    several(&["-i", "right0/1", "-i", "right1/2"], &RIGHT[..2], ["1", "2", ""]);
}

#[test]
fn option_i_audits_interfaces_one_by_one() {
    several(&["-i", "ind:right0/1,right1/\"two\",right2/3"], &RIGHT, ["1", "two", "3"]);
}

#[test]
fn option_i_joins_two_directions() {
    joined(&["-i", "dup:right0,right1/\"ap01\""], "ap01");
}

#[test]
fn option_i_joins_parts_of_a_link() {
    joined(&["-i", "bond:right0,right1/"], "0.0.0.0");
}

#[test]
fn option_i_joins_several_names() {
    joined(&["-i", RIGHT[0], RIGHT[1]], "0.0.0.0");
}

#[test]
fn option_i_joins_groups() {
    several(&["-i", "dup:[bond:right0,right1],right2/3"], &RIGHT, ["3", "3", "3"]);
    joined(&["-i", "dup:[bond:right0,right1],right2/3"], "3");
}

/// Each direction of a connection comes at another interface; it is one flow all the same.
#[track_caller]
fn joined(options: &[&str], id: &str) {
    if !enter(3) {
        return;
    }
    let folder = Folder::new();
    let options = [&["-S", "60"], options].concat();
    let live = Live::start(Sensor::Panoptes, &folder, &options, &RIGHT[..2]);
    let capture = connection(1);
    let [from, to] = [LEFT[0], LEFT[1]].map(Sender::new);
    for frame in capture.frames() {
        // The last byte of the source's address decides.
        let sender = if frame[29] == 1 { &from } else { &to };
        sender.send(&frame);
        // A packet is read from one interface before its answer is read from the other.
        live.running.settle();
    }
    assert_eq!(facts(&live.end()), truth(capture.flows(), id));
}

#[test]
fn option_i_audits_all_interfaces_one_by_one() {
    if !enter(2) {
        return;
    }
    let folder = Folder::new();
    let names = [LEFT[0], RIGHT[0], LEFT[1], RIGHT[1]];
    let live = Live::start(Sensor::Panoptes, &folder, &["-S", "60", "-i", "all/3"], &names);
    let capture = connection(1);
    send_all(LEFT[0], &capture);
    // Seen where it is sent, and where it is received.
    let expected = [truth(capture.flows(), "3"), truth(capture.flows(), "3")].concat();
    assert_eq!(facts(&live.end()), expected);
}

#[test]
fn option_i_audits_any_interface() {
    if !enter(2) {
        return;
    }
    let folder = Folder::new();
    let live = Live::start(Sensor::Panoptes, &folder, &["-S", "60", "-i", "any"], &["any"]);
    for (number, left) in [(1, LEFT[0]), (2, LEFT[1])] {
        let udp = Udp::one_way(Between::v4(number, [5000, 6000]), BEGIN_NS, &[100, 100]);
        send_all(left, &Capture::of(&udp));
    }
    let counts: Vec<_> = facts(&live.end()).iter().map(|fact| fact[6].clone()).collect();
    // Seen where they are sent, and where they are received.
    assert_eq!(counts, ["4", "4"]);
}

/// All interfaces of a machine, more flows than there is room for, and no configuration. Half of
/// the memory is for the pages of the program.
#[test]
fn option_endpoint_audits_this_machine_in_16_mib() {
    if !enter(3) {
        return;
    }
    let folder = Folder::new();
    let names: Vec<&str> = LEFT.into_iter().chain(RIGHT).collect();
    let live = Live::start(Sensor::Panoptes, &folder, &["-S", "60", "--endpoint"], &names);
    let capture = Capture::mix(7, 3000);
    for left in LEFT {
        // Its small buffers lose packets where the machine gives it no time.
        send_in_parts(left, &capture, || live.settle());
    }
    let most = live.most_memory();
    assert!(most <= 8 << 20, "{most} bytes");
    assert!(facts(&live.end()).len() > 3000);
}

#[test]
fn option_p_leaves_an_interface_as_it_is() {
    if !enter(1) {
        return;
    }
    let folder = Folder::new();
    let promiscuity = || {
        let text = ip(&format!("-d link show {}", RIGHT[0]));
        let (_, number) = text.split_once("promiscuity ").expect("iproute2 prints it");
        number.split(' ').next().unwrap_or_default().to_owned()
    };
    for (option, expected) in [("-A", "1"), ("-p", "0")] {
        for sensor in BOTH {
            let live = Live::start(sensor, &folder, &["-i", RIGHT[0], option], &[RIGHT[0]]);
            assert_eq!(promiscuity(), expected, "{sensor:?} {option}");
            live.end();
        }
    }
}

#[test]
fn option_s_cuts_packets() {
    if !enter(1) {
        return;
    }
    // Ethernet, IPv4, UDP, and 18 bytes of data of 100.
    let folder = Folder::new();
    let options = ["-s", "60", "-S", "60", "-U", "64", "-i", RIGHT[0], "-s", "60"];
    let live = BOTH.map(|sensor| Live::start(sensor, &folder, &options, &[RIGHT[0]]));
    let udp = Udp::one_way(Between::v4(1, [5000, 6000]), BEGIN_NS, &[100]);
    send_all(LEFT[0], &Capture::of(&udp));
    let [theirs, own] = live.map(Live::end).map(|records| rows(&records));
    let data = |rows: &[Row]| rows[0].text("suser").to_owned();
    assert_eq!((own.len(), own[0].number("sbytes")), (1, 142));
    assert_eq!(data(&own), data(&theirs));
    assert!(data(&own).starts_with("s[18]="), "{}", data(&own));
}

#[test]
fn option_m_upper_reports_the_state_at_intervals() {
    if !enter(1) {
        return;
    }
    let folder = Folder::new();
    let options = ["-M", "1", "-S", "60", "-i", RIGHT[0]];
    let live = BOTH.map(|sensor| Live::start(sensor, &folder, &options, &[RIGHT[0]]));
    let capture = group(0);
    send_all(LEFT[0], &capture);
    let status = |live: &Live| {
        let all = if live.records.exists() { management(&live.records) } else { Vec::new() };
        all.iter().filter(|record| record.cause == STATUS).count()
    };
    for sensor in &live {
        until(|| format!("no records: {:?}", sensor.running.messages()), || status(sensor) >= 2);
    }
    let [theirs, own] = live.map(Live::end).map(|records| management(&records));
    for (name, all) in [("argus", theirs), ("Panoptes", own)] {
        let causes: Vec<_> = all.iter().map(|record| record.cause).collect();
        let (first, rest) = causes.split_first().expect(name);
        let (last, middle) = rest.split_last().expect(name);
        assert_eq!((*first, *last), (START, STOP), "{name}");
        assert!(middle.iter().all(|cause| *cause == STATUS), "{name}: {causes:?}");
        let packets: u64 = all.iter().map(|record| record.packets).sum();
        assert_eq!(packets, capture.packets() as u64, "{name}");
        assert_eq!(all[0].intervals_s, (60, 1), "{name}");
    }
}

#[test]
fn an_interface_goes_away_and_comes_back() {
    if !enter(1) {
        return;
    }
    let folder = Folder::new();
    let live = Live::start(Sensor::Panoptes, &folder, &["-S", "60", "-i", RIGHT[0]], &[RIGHT[0]]);
    send_all(LEFT[0], &connection(1));
    live.running.settle();
    live.interface_comes_back();
    send_all(LEFT[0], &connection(2));
    let flows = [connection(1).flows(), connection(2).flows()].concat();
    assert_eq!(facts(&live.end()), truth(&flows, "0.0.0.0"));
}

#[test]
fn lost_packets_are_counted() {
    const PACKETS: usize = 4000;
    if !enter(1) {
        return;
    }
    let folder = Folder::new();
    let configuration = folder.write("argus.conf", b"ARGUS_PCAP_BUF_SIZE=1K\n");
    let options = ["-F", &configuration, "-S", "60", "-s", "0", "-i", RIGHT[0]];
    let live = Live::start(Sensor::Panoptes, &folder, &options, &[RIGHT[0]]);
    let records = live.records.clone();
    let (packets, dropped) = live.overflow(PACKETS, send_all);
    assert!(dropped > 0 && packets > 0, "{packets} packets, {dropped} lost");
    let [row] = &rows(&records)[..] else { panic!("one flow") };
    assert_eq!(row.number("spkts"), packets);
}

#[test]
fn what_comes_right_before_the_end_is_in_the_records() {
    if !enter(1) {
        return;
    }
    let folder = Folder::new();
    for number in 1..=5 {
        let options = ["-S", "60", "-i", RIGHT[0]];
        let live = Live::start(Sensor::Panoptes, &folder, &options, &[RIGHT[0]]);
        std::thread::sleep(Duration::from_millis(number));
        send_all(LEFT[0], &connection(1));
        live.running.end(Signal::SIGTERM).succeeded();
        assert_eq!(facts(&live.records), truth(connection(1).flows(), "0.0.0.0"));
        std::fs::remove_file(&live.records).expect("the file");
    }
}
