//! Where packets come from, and which of them count: -r, -R, -t, -f, -T, -N, -b, -O, filters.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use panoptes_traffic::{BEGIN_NS, Between, Capture, Clock, Echo, Layer, Row, Udp};
use serde_json::Value;

use crate::programs::{BOTH, Folder, Running, Sensor, run, until};
use crate::stream::{agree, group, plain, rows, same, same_but};

/// Bytes of the header of a capture, and of each packet.
const FILE_HEADER: usize = 24;
const PACKET_HEADER: usize = 16;

/// The packets of a capture file, each with its header.
fn packets(pcap: &[u8]) -> Vec<&[u8]> {
    let mut rest = &pcap[FILE_HEADER..];
    let mut packets = Vec::new();
    while let Some(length) = rest.get(8..12) {
        let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
        let (packet, after) = rest.split_at(PACKET_HEADER + length);
        packets.push(packet);
        rest = after;
    }
    packets
}

/// Writes the packets of a capture to several files.
fn in_parts(folder: &Folder, names: &[&str]) -> Vec<String> {
    let pcap = plain().pcap(Clock::Microseconds);
    let packets = packets(&pcap);
    let parts = packets.chunks(packets.len().div_ceil(names.len()));
    let parts = parts.map(|part| [&pcap[..FILE_HEADER], &part.concat()].concat());
    names.iter().zip(parts).map(|(name, part)| folder.write(name, &part)).collect()
}

/// The records of the whole capture, by Panoptes.
fn of_the_whole(folder: &Folder, filter: &[&str]) -> Vec<Row> {
    let (capture, records) = (folder.capture("whole.pcap", &plain()), folder.text("whole"));
    let options = ["-S", "3600", "-r", &capture, "-w", &records];
    run(Sensor::Panoptes.with(&options).args(filter));
    rows(&PathBuf::from(records))
}

#[test]
fn option_r_reads_many_captures_in_the_order_of_their_names() {
    let folder = Folder::new();
    let file = |number| folder.capture(&format!("{number}.pcap"), &group(number));
    let [a, b, c, d] = [0, 1, 2, 3].map(file);
    let own = same(&folder.both(&["-S", "3600", "-r", &b, &d, "-r", &c, &a], &[]));
    agree(&of_the_whole(&folder, &[]), &own, &[]);
}

#[test]
fn option_r_keeps_the_records_before_a_capture_that_is_none() {
    let folder = Folder::new();
    let capture = folder.capture("a.pcap", &plain());
    let wrong = folder.write("b.pcap", b"no capture at all");
    let records = folder.path("own");
    let options = ["-S", "3600", "-r", &capture, &wrong, "-w"];
    let ended = Running::start(Sensor::Panoptes.with(&options).arg(&records)).ended();
    assert_eq!(ended.status.code(), Some(65), "{}", ended.messages);
    assert_eq!(rows(&records), of_the_whole(&folder, &[]));
}

#[test]
fn option_r_keeps_flows_over_the_ends_of_captures() {
    let folder = Folder::new();
    let files = in_parts(&folder, &["a.pcap", "b.pcap", "c.pcap"]);
    let [first, second, third] = [&files[0][..], &files[1], &files[2]];
    let records = folder.text("own");
    let options = ["-S", "3600", "-r", second, third, first, "-w", &records];
    run(&mut Sensor::Panoptes.with(&options));
    // Argus begins with new flows in each capture.
    assert_eq!(rows(&PathBuf::from(records)), of_the_whole(&folder, &[]));
}

#[test]
fn option_r_reads_standard_input() {
    let folder = Folder::new();
    let capture = folder.capture("a.pcap", &plain());
    let files = BOTH.map(|sensor| {
        let records = folder.path(&format!("{sensor:?}"));
        let mut command = sensor.with(&["-S", "3600", "-r", "-", "-w"]);
        let input = File::open(&capture).expect("a capture");
        let running = Running::spawn(command.arg(&records).stdin(input).stdout(Stdio::null()));
        running.ended().succeeded();
        records
    });
    assert_eq!(same(&files), of_the_whole(&folder, &[]));
}

#[test]
fn option_r_upper_reads_the_captures_of_a_folder() {
    let folder = Folder::new();
    std::fs::create_dir_all(folder.path("captures/b")).expect("folders");
    let files = in_parts(&folder, &["captures/a.pcap", "captures/b/a.pcap", "captures/c.pcap"]);
    assert_eq!(files.len(), 3);
    let records = folder.text("own");
    let captures = folder.text("captures");
    run(&mut Sensor::Panoptes.with(&["-S", "3600", "-R", &captures, "-w", &records]));
    // Argus takes no folder; by the manual's own example it should.
    assert_eq!(rows(&PathBuf::from(records)), of_the_whole(&folder, &[]));
}

/// A capture as TSH: times, the IP header and 16 bytes of the next one; 44 bytes a packet.
fn tsh(pcap: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for packet in packets(pcap) {
        let word = |at: usize| [packet[at], packet[at + 1], packet[at + 2], packet[at + 3]];
        let frame = &packet[PACKET_HEADER..];
        // IPv4 without options.
        if frame[12..15] != [8, 0, 0x45] {
            continue;
        }
        let micros = u32::from_le_bytes(word(4)) | 1 << 24;
        out.extend(u32::from_le_bytes(word(0)).to_be_bytes());
        out.extend(micros.to_be_bytes());
        let headers = frame.get(14..50).unwrap_or(&frame[14..]);
        out.extend(headers);
        out.resize(out.len().next_multiple_of(44), 0);
    }
    out
}

#[test]
fn option_t_reads_tsh() {
    let folder = Folder::new();
    let capture = folder.write("a.tsh", &tsh(&plain().pcap(Clock::Microseconds)));
    let [theirs, own] = folder.both(&["-S", "3600", "-t", "-r", &capture], &[]);
    // Argus 3.0.8.2 accepts the option and reads nothing: a record at the start, one at the end.
    assert_eq!(std::fs::metadata(theirs).expect("a file").len(), 256);
    let keys = |rows: &[Row]| -> Vec<_> {
        let fields = ["stime", "saddr", "sport", "daddr", "dport", "spkts", "dpkts"];
        rows.iter().map(|row| fields.map(|field| row.text(field).to_owned())).collect()
    };
    assert_eq!(keys(&rows(&own)), keys(&of_the_whole(&folder, &["-", "ip"])));
}

#[test]
fn option_f_waits_for_more() {
    let folder = Folder::new();
    let pcap = plain().pcap(Clock::Microseconds);
    let half = FILE_HEADER + packets(&pcap)[..40].concat().len();
    let capture = folder.write("growing.pcap", &pcap[..half]);
    let files = BOTH.map(|sensor| folder.path(&format!("{sensor:?}")));
    let running = BOTH.map(|sensor| {
        let mut command = sensor.with(&["-S", "3600", "-f", "-r", &capture, "-w"]);
        Running::start(command.arg(folder.path(&format!("{sensor:?}"))))
    });
    for file in &files {
        until(|| format!("no {}", file.display()), || file.exists());
    }
    let mut growing = File::options().append(true).open(&capture).expect("the capture");
    // In the middle of a packet, too.
    for part in pcap[half..].chunks(1000) {
        growing.write_all(part).expect("there is room");
    }
    for program in running {
        program.settle();
        program.end(Signal::SIGTERM).succeeded();
    }
    let [_, own] = &files;
    assert_eq!(rows(own), of_the_whole(&folder, &[]));
    same(&files);
}

#[test]
fn option_t_upper_plays_in_real_time() {
    let folder = Folder::new();
    // Four requests, one second apart.
    let echo = Capture::of(&Echo::new(Between::v4(1, [0, 0]), BEGIN_NS, 0x1212, 4));
    let capture = folder.capture("a.pcap", &echo);
    let begin = Instant::now();
    let own = same(&folder.both(&["-T", "4", "-r", &capture], &[]));
    assert_eq!(own.len(), 4);
    let file = folder.text("own");
    let begin_own = Instant::now();
    run(&mut Sensor::Panoptes.with(&["-T", "6", "-r", &capture, "-w", &file]));
    assert!(begin_own.elapsed() >= Duration::from_millis(500), "{:?}", begin_own.elapsed());
    assert!(begin.elapsed() >= Duration::from_millis(1250), "{:?}", begin.elapsed());
}

#[test]
fn option_n_upper_takes_the_first_packets() {
    let folder = Folder::new();
    let capture = folder.capture("a.pcap", &plain());
    let own = same(&folder.both(&["-N", "27", "-r", &capture], &[]));
    assert_eq!(sum(&own), 27);
}

#[test]
fn option_n_upper_takes_a_range() {
    let folder = Folder::new();
    let capture = folder.capture("a.pcap", &plain());
    // Argus leaves out the first one of a range, against its manual.
    let [theirs, _] = folder.both(&["-N", "4-20", "-r", &capture], &[]);
    let [_, own] = folder.both(&["-N", "5-20", "-r", &capture], &[]);
    // Argus writes no window of an end that sent one packet.
    assert_eq!(sum(&same_but([&theirs, &own], &["swin"])), 16);
}

fn sum(rows: &[Row]) -> u64 {
    rows.iter().map(|row| row.number("spkts") + row.number("dpkts")).sum()
}

#[test]
fn option_flows_limits_how_many_are_tracked() {
    let folder = Folder::new();
    let (capture, records) = (folder.capture("a.pcap", &plain()), folder.text("records"));
    let options = ["-S", "3600", "--flows", "4", "-r", &capture, "-w", &records];
    let messages = run(&mut Sensor::Panoptes.with(&options));
    let rows = rows(&PathBuf::from(records));
    assert_eq!(sum(&rows), plain().packets() as u64, "no packet is lost");
    assert!(rows.len() > plain().flows().len(), "some are reported early");
    assert!(
        messages.contains(" flows were reported early because the table was full"),
        "{messages}"
    );
}

/// Two tenants whose machines have the same addresses.
#[test]
fn option_vni_in_key_tells_tenants_apart() {
    let folder = Folder::new();
    let of_tenant = |vni: u32| {
        let between = Between::v4(1, [40_000, 443]).inside(Layer::Vxlan(vni));
        folder.capture(&format!("{vni}.pcap"), &Capture::of(&Udp::one_way(between, BEGIN_NS, &[9])))
    };
    let [first, second] = [42, 43].map(of_tenant);
    let lines = |options: &[&str], filter: &str| -> Vec<Value> {
        let options = [options, &["-r", &first, &second, "-w", "json:-", filter]].concat();
        let text = run(&mut Sensor::Panoptes.with(&options));
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        lines.filter(|line| line["kind"] == "flow").collect()
    };
    let vnis =
        |lines: &[Value]| lines.iter().map(|line| line["source_vni"].as_u64()).collect::<Vec<_>>();
    let apart = lines(&["--vni-in-key"], "ip");
    assert_eq!(vnis(&apart), [Some(42), Some(43)]);
    assert_eq!(apart[0]["source_encapsulation"], serde_json::json!(["ethernet", "vxlan"]));
    assert_ne!(apart[0]["sequence"], apart[1]["sequence"]);
    assert_eq!(vnis(&lines(&["--vni-in-key"], "src vni 43 and encaps vxlan")), [Some(43)]);
    assert_eq!(vnis(&lines(&[], "ip")), [Some(43)], "one flow, and the last number");
}

/// The record is among JSON lines, in the form of `panoptes watch`, unless a filter leaves out what
/// is no flow.
#[test]
fn a_full_table_of_flows_is_a_record() {
    let folder = Folder::new();
    let (capture, all, some) =
        (folder.capture("a.pcap", &plain()), folder.text("all"), folder.text("some"));
    let [to_all, to_some] = [&all, &some].map(|path| format!("json:{path}"));
    let options = ["-S", "3600", "--flows", "4", "-r", &capture, "-w", &to_all, "-w", &to_some];
    let messages = run(Sensor::Panoptes.with(&options).arg("tcp"));
    let lines = |path: &str| -> Vec<Value> {
        let text = std::fs::read_to_string(path).expect("lines");
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        lines.filter(|line| line.get("kind").is_none()).collect()
    };
    let records = lines(&all);
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!(records[0]["activity_data"]["name"], "flows_limit_reached");
    assert_eq!(records[0]["message_type"], "SYSTEM_ACTIVITY");
    let details = &records[0]["activity_data"]["system_activity_details"];
    assert_eq!((&details["limit"], &details["capacity"]), (&"flows".into(), &4.into()));
    let all = format!("{} flows were reported early", details["untracked"]);
    assert!(messages.contains(&all), "{all}: {messages}");
    assert_eq!(lines(&some), Vec::<Value>::new());
}

/// What both sensors print.
fn printed(options: &[&str], filter: &[&str]) -> [String; 2] {
    BOTH.map(|sensor| run(sensor.with(options).args(filter)))
}

#[test]
fn option_b_prints_the_program_of_the_filter() {
    let folder = Folder::new();
    let capture = folder.capture("a.pcap", &plain());
    let filter = ["-", "tcp", "port", "80", "or", "icmp"];
    let [theirs, own] = printed(&["-b", "-r", &capture], &filter);
    assert_eq!(theirs, own);
    assert!(own.contains("(000) ldh      [12]"), "{own}");
}

#[test]
fn option_o_upper_leaves_the_program_unoptimised() {
    let folder = Folder::new();
    let capture = folder.capture("a.pcap", &plain());
    let filter = ["-", "tcp", "port", "80", "or", "icmp"];
    let [theirs, own] = printed(&["-bO", "-r", &capture], &filter);
    assert_eq!(theirs, own);
    let [_, optimised] = printed(&["-b", "-r", &capture], &filter);
    assert!(own.lines().count() > optimised.lines().count(), "{own}");
    // It does not change what matches.
    same(&folder.both(&["-O", "-r", &capture], &filter));
}

#[test]
fn a_filter_follows_a_dash() {
    filtered(&["-", "tcp", "and", "port", "(80 or 22)"], 8);
}

#[test]
fn a_filter_follows_two_dashes() {
    filtered(&["--", "udp or ip6"], 16);
}

#[test]
fn a_filter_follows_without_a_dash() {
    let folder = Folder::new();
    let capture = folder.capture("a.pcap", &plain());
    // Behind -w, its first word would be a filter of records.
    let files = BOTH.map(|sensor| {
        let records = folder.path(&format!("{sensor:?}"));
        let mut command = sensor.with(&["-w"]);
        command.arg(&records).args(["-r", &capture, "-S", "3600", "udp", "port", "53"]);
        Running::start(&mut command).ended().succeeded();
        records
    });
    assert_eq!(same(&files).len(), 4);
}

/// Both sensors with a filter have so many flows, fewer than without.
#[track_caller]
fn filtered(filter: &[&str], flows: usize) {
    let folder = Folder::new();
    let capture = folder.capture("a.pcap", &plain());
    let own = same(&folder.both(&["-S", "3600", "-r", &capture], filter));
    assert_eq!(own.len(), flows);
    assert!(of_the_whole(&folder, &[]).len() > flows);
}
