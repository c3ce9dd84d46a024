//! A sensor that runs for months: outputs that stand still, rotation, privileges, and what it
//! reports of itself.

use std::fs::{self, read_to_string};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use panoptes_traffic::{BEGIN_NS, Between, Capture, Clock, Udp};
use serde_json::Value;

use crate::live::{Live, connection, facts, listen, truth};
use crate::network::{LEFT, RIGHT, Sender, add, enter, ip, send_all};
use crate::programs::{Folder, Running, Sensor, until};
use crate::stream::group;

/// The JSON lines of a file.
pub(crate) fn lines(path: &Path) -> Vec<Value> {
    let text = read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

/// The system activities in JSON lines: their names and details.
pub(crate) fn activities(path: &Path) -> Vec<(String, Value)> {
    let all = lines(path).into_iter().filter_map(|line| {
        let activity = line.get("activity_data")?;
        let name = activity["name"].as_str()?.to_owned();
        Some((name, activity["system_activity_details"].clone()))
    });
    all.collect()
}

/// A sensor whose standard output nobody reads.
fn with_stalled_reader(folder: &Folder) -> (Running, std::io::PipeReader) {
    let file = format!("json:{}", folder.text("lines"));
    let options = ["-S", "0.1", "-i", RIGHT[0], "-w", "json:-", "-w", &file];
    let mut command = Sensor::Panoptes.with(&options);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let running = Running::spawn(command.stdin(Stdio::null()).stdout(writer));
    drop(command);
    running.wait_for(&Sensor::Panoptes.has_begun(RIGHT[0]));
    (running, reader)
}

#[test]
fn an_output_that_nobody_reads_costs_no_other() {
    if !enter(1) {
        return;
    }
    let folder = Folder::new();
    let (running, reader) = with_stalled_reader(&folder);
    let sender = Sender::new(LEFT[0]);
    // Each datagram is a flow: about 15 MiB of lines, where 4 MiB and a pipe have room.
    let mut sent = 0;
    for port in 1..15_000 {
        let udp = Udp::one_way(Between::v4(1, [port, 6000]), BEGIN_NS, &[100]);
        for frame in Capture::of(&udp).frames() {
            sender.send(&frame);
            sent += 1;
        }
        if port % 1000 == 0 {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    let path = folder.path("lines");
    let packets = || -> u64 {
        let all = lines_so_far(&path);
        all.iter().filter_map(|line| line.get("source_packets")?.as_u64()).sum()
    };
    until(|| format!("{} of {sent} packets", packets()), || packets() == sent);
    let is_reported = || {
        let all = lines_so_far(&path);
        all.iter().any(|line| line["activity_data"]["name"] == "records_dropped")
    };
    until(|| "no record of the loss".to_owned(), is_reported);
    let begin = Instant::now();
    running.signal(Signal::SIGTERM);
    // Signals that come at the same time are one.
    std::thread::sleep(Duration::from_millis(200));
    running.signal(Signal::SIGTERM);
    let ended = running.ended();
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
    assert_eq!(ended.status.code(), Some(74), "{}", ended.messages);
    assert!(ended.messages.contains("could not be written to standard output"));
    drop(reader);
    let dropped = activities(&path).into_iter().find(|(name, _)| name == "records_dropped");
    let (_, details) = dropped.expect("a record");
    assert_eq!(details["output"], "standard output");
    assert!(details["dropped"].as_u64() > Some(0), "{details}");
}

/// The whole lines of a file that grows.
fn lines_so_far(path: &Path) -> Vec<Value> {
    let text = read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

/// As logrotate does by `create` (Debian's default), by a plain rename, and by `copytruncate`.
#[test]
fn files_are_rotated_ten_times() {
    if !enter(1) {
        return;
    }
    let folder = Folder::new();
    let (path, alerts) = (folder.path("lines"), folder.path("old"));
    let file = format!("json:{}", path.display());
    let options = ["-S", "0.1", "-i", RIGHT[0], "-w", &file];
    let running = listen(Sensor::Panoptes, &mut Sensor::Panoptes.with(&options), &[RIGHT[0]]);
    let mut all = Vec::new();
    for turn in 0..10_u16 {
        send_all(LEFT[0], &connection(turn));
        let wanted = format!("\"source_address\":\"{}\"", connection(turn).flows()[0].source);
        let has_flow = || read_to_string(&path).is_ok_and(|text| text.contains(&wanted));
        until(|| format!("turn {turn}: not in the file"), has_flow);
        match turn % 3 {
            0 => {
                fs::rename(&path, &alerts).expect("moved");
                fs::write(&path, b"").expect("made");
            }
            1 => fs::rename(&path, &alerts).expect("moved"),
            _ => {
                fs::copy(&path, &alerts).expect("copied");
                fs::File::options().write(true).truncate(true).open(&path).expect("emptied");
            }
        }
        // It looks each second.
        std::thread::sleep(Duration::from_millis(1200));
        all.extend(lines(&alerts));
    }
    running.end(Signal::SIGTERM).succeeded();
    all.extend(lines(&path));
    let flows = all.iter().filter(|line| line.get("source_packets").is_some());
    let packets: u64 = flows
        .map(|line| {
            ["source_packets", "destination_packets"]
                .iter()
                .filter_map(|key| line.get(*key)?.as_u64())
                .sum::<u64>()
        })
        .sum();
    let sent: usize = (0..10).map(|turn| connection(turn).packets()).sum();
    assert_eq!(packets, sent as u64);
}

/// A line of the status of each thread of a process, by the thread's name.
fn of_threads(process: u32, key: &str) -> Vec<(String, String)> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("it runs").flatten();
    let of = |task: fs::DirEntry| {
        let text = read_to_string(task.path().join("status")).ok()?;
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key))?;
            Some(line.trim_start_matches(':').trim().to_owned())
        };
        Some((value("Name")?, value(key)?))
    };
    tasks.filter_map(of).collect()
}

/// Bits of capability sets (include/uapi/linux/capability.h).
const NET_RAW: u64 = 1 << 13;
const OF_FILES: u64 = 1 << 1 | 1 << 3;

#[test]
fn threads_have_what_they_need_and_a_filter() {
    if !enter(1) {
        return;
    }
    let folder = Folder::new();
    let options = ["-S", "60", "-i", RIGHT[0], "-P", "5612"];
    let live = Live::start(Sensor::Panoptes, &folder, &options, &[RIGHT[0]]);
    let id = live.running.id();
    for (name, text) in of_threads(id, "CapPrm") {
        let found = u64::from_str_radix(&text, 16).expect("a mask");
        let allowed = match &name[..] {
            "output" => OF_FILES,
            // The kernel's own threads for the writes of that one.
            name if name.starts_with("iou-wrk-") => OF_FILES,
            "clients" => 0,
            _ => NET_RAW,
        };
        assert_eq!(found & !allowed, 0, "{name}: {text}");
    }
    for key in ["Seccomp", "NoNewPrivs"] {
        let all = of_threads(id, key);
        let expected = if key == "Seccomp" { "2" } else { "1" };
        assert!(all.len() >= 3, "{all:?}");
        assert!(all.iter().all(|(_, value)| value == expected), "{key}: {all:?}");
    }
    send_all(LEFT[0], &connection(1));
    assert_eq!(facts(&live.end()), truth(connection(1).flows(), "0.0.0.0"));
}

#[test]
fn another_user_opens_an_interface_again() {
    if !enter(1) {
        return;
    }
    let folder = Folder::new();
    folder.open_to_all();
    let options = ["-S", "60", "-i", RIGHT[0], "-u", "nobody"];
    let live = Live::start(Sensor::Panoptes, &folder, &options, &[RIGHT[0]]);
    let all = of_threads(live.running.id(), "CapPrm");
    for (name, text) in &all {
        let found = u64::from_str_radix(text, 16).expect("a mask");
        assert_eq!(found & !NET_RAW, 0, "{name}: {text}");
    }
    for turn in 1..=3 {
        ip(&format!("link del {}", RIGHT[0]));
        let count = |text: &str| live.running.messages().matches(text).count();
        until(|| "it is not missed".to_owned(), || count("right0 was removed") == turn);
        add(0);
        until(|| live.running.messages(), || count("right0: auditing again") == turn);
    }
    send_all(LEFT[0], &connection(2));
    assert_eq!(facts(&live.end()), truth(connection(2).flows(), "0.0.0.0"));
}

#[test]
fn an_interface_that_is_away_is_reported() {
    if !enter(1) {
        return;
    }
    let folder = Folder::new();
    let file = format!("json:{}", folder.text("lines"));
    let options = ["-S", "60", "-i", RIGHT[0], "-w", &file];
    let running = listen(Sensor::Panoptes, &mut Sensor::Panoptes.with(&options), &[RIGHT[0]]);
    ip(&format!("link del {}", RIGHT[0]));
    let path = folder.path("lines");
    let has = |wanted: &str| {
        let all = lines_so_far(&path);
        all.iter().any(|line| line["activity_data"]["name"] == wanted)
    };
    until(|| "no record of the removal".to_owned(), || has("details_gathering_failed"));
    until(|| "no record of the gap".to_owned(), || has("coverage_degraded"));
    add(0);
    running.wait_for("right0: auditing again");
    until(|| "no record of the end".to_owned(), || has("coverage_restored"));
    running.end(Signal::SIGTERM).succeeded();
    let gap = activities(&path).into_iter().find(|(name, _)| name == "coverage_degraded");
    assert_eq!(gap.expect("a record").1["gap"], "interfaces");
}

#[test]
fn files_are_readable_by_the_owner_and_the_group() {
    let folder = Folder::new();
    let capture = folder.capture("a.pcap", &group(0));
    let names = ["records", "lines", "columns", "dns"];
    let [records, lines, columns, dns] = names.map(|name| folder.text(name));
    let (json, parquet) = (format!("json:{lines}"), format!("parquet:{columns}"));
    let options =
        ["-r", &capture, "-w", &records, "-w", &json, "-w", &parquet, "--passive-dns", &dns];
    Running::start(&mut Sensor::Panoptes.with(&options)).ended().succeeded();
    for name in names {
        let mode = fs::metadata(folder.path(name)).expect(name).permissions().mode();
        assert_eq!(mode & 0o007, 0, "{name}: {mode:o}");
    }
}

#[test]
fn links_of_others_are_not_followed() {
    let folder = Folder::new();
    folder.open_to_all();
    let capture = folder.capture("a.pcap", &group(0));
    let victim = folder.write("victim", b"a tail");
    let link = folder.text("link");
    std::os::unix::fs::symlink(&victim, &link).expect("a link");
    let mut command = Sensor::Panoptes.with(&["-r", &capture, "-w", &link]);
    let ended = Running::start(&mut command).ended();
    assert_eq!(ended.status.code(), Some(77), "{}", ended.messages);
    assert!(ended.messages.contains("symbolic link"), "{}", ended.messages);
    assert_eq!(fs::read(&victim).expect("the file"), b"a tail");
}

/// A capture whose header has another link type.
fn with_link_type(folder: &Folder, link: u32) -> String {
    let mut pcap = connection(1).pcap(Clock::Microseconds);
    pcap[20..24].copy_from_slice(&link.to_le_bytes());
    folder.write(&format!("{link}.pcap"), &pcap)
}

#[test]
fn a_capture_of_which_nothing_can_be_read_is_an_error() {
    let folder = Folder::new();
    let (unread, records) = (with_link_type(&folder, 147), folder.text("records"));
    let mut command = Sensor::Panoptes.with(&["-r", &unread, "-w", &records]);
    let ended = Running::start(&mut command).ended();
    assert_eq!(ended.status.code(), Some(65), "{}", ended.messages);
    let count = connection(1).packets();
    let wanted = format!("none of {count} packets could be read: link type 147 (USER0)");
    assert!(ended.messages.contains(&wanted), "{}", ended.messages);
    // Beside another one, it is a warning.
    let other = folder.capture("other.pcap", &connection(2));
    let mut command = Sensor::Panoptes.with(&["-r", &unread, &other, "-w", &records]);
    let messages = Running::start(&mut command).ended().succeeded();
    assert!(messages.contains("packets have link type 147 (USER0), which is not read"));
}

#[test]
fn records_that_are_lost_are_an_error() {
    let folder = Folder::new();
    let capture = folder.capture("a.pcap", &connection(1));
    let mut command = Sensor::Panoptes.with(&["-r", &capture, "-w", "ipfix://127.0.0.1:1"]);
    let ended = Running::start(&mut command).ended();
    assert_eq!(ended.status.code(), Some(74), "{}", ended.messages);
}
