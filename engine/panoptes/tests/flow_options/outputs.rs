//! Files, standard output, and their filters: -w.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use panoptes_bounded as bounded;
use panoptes_traffic::{BEGIN_NS, Between, Capture, Udp};
use serde_json::Value;

use crate::live::{Live, connection};
use crate::network::{LEFT, RIGHT, enter, send_all};
use crate::programs::{BOTH, Folder, Running, Sensor, argus, client, run, until};
use crate::stream::{START, STOP, management, plain, rows, same};

/// The causes of a file's management records.
fn causes(path: &Path) -> Vec<u8> {
    management(path).iter().map(|record| record.cause).collect()
}

#[test]
fn option_w_appends_to_a_file() {
    let folder = Folder::new();
    let capture = folder.capture("a.pcap", &plain());
    let files = BOTH.map(|sensor| {
        let records = folder.path(&format!("{sensor:?}"));
        for _ in 0..2 {
            let mut command = sensor.with(&["-S", "3600", "-r", &capture, "-w"]);
            Running::start(command.arg(&records)).ended().succeeded();
        }
        records
    });
    let own = same(&files);
    assert_eq!(own.len(), 2 * plain().flows().len());
    // Only an empty file gets a first record; argus writes one each time.
    assert_eq!(causes(&files[1]), [START, STOP, STOP]);
}

#[test]
fn option_w_may_be_repeated_with_filters() {
    let folder = Folder::new();
    let capture = folder.capture("a.pcap", &plain());
    let [theirs, own] = BOTH.map(|sensor| {
        let files = ["udp", "dns", "all"].map(|name| folder.path(&format!("{sensor:?}.{name}")));
        let [udp, dns, all] = &files;
        let mut command = sensor.with(&["-S", "3600", "-r", &capture, "-w"]);
        command.arg(udp).arg("udp and dst port 6000").arg("-w").arg(dns).arg("udp and port 53");
        Running::start(command.arg("-w").arg(all)).ended().succeeded();
        files
    });
    let mut counts = Vec::new();
    for (theirs, own) in theirs.into_iter().zip(own) {
        counts.push(same(&[&theirs, &own]).len());
        assert_eq!(causes(&own).first(), Some(&START));
    }
    assert_eq!(counts, [8, 4, plain().flows().len()]);
}

#[test]
fn filters_of_outputs_match_ipv6() {
    let folder = Folder::new();
    let capture = folder.capture("a.pcap", &plain());
    let records = folder.path("records");
    let mut command = Sensor::Panoptes.with(&["-S", "3600", "-r", &capture, "-w"]);
    run(command.arg(&records).arg("tcp and dst port 443"));
    // Argus leaves out those over IPv6, although their protocol is TCP.
    assert_eq!(rows(&records).len(), 8);
}

#[test]
fn option_w_writes_to_standard_output() {
    let folder = Folder::new();
    let capture = folder.capture("a.pcap", &plain());
    let [theirs, own] = BOTH.map(|sensor| {
        let records = folder.path(&format!("{sensor:?}"));
        let file = std::fs::File::create(&records).expect("a file");
        let mut command = sensor.with(&["-S", "3600", "-r", &capture, "-w", "-"]);
        Running::spawn(command.stdin(Stdio::null()).stdout(file)).ended().succeeded();
        records
    });
    same(&[&theirs, &own]);
    assert_eq!(causes(&own), [START, STOP]);
}

#[test]
fn option_w_feeds_ra_through_a_pipe() {
    let folder = Folder::new();
    let capture = folder.capture("a.pcap", &plain());
    let printed = BOTH.map(|sensor| {
        let mut command = sensor.with(&["-S", "3600", "-r", &capture, "-w", "-"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("a sensor");
        let mut ra = client("ra", &["-n", "-r", "-"]);
        ra.stdin(child.stdout.take().expect("a pipe")).stdout(Stdio::piped());
        let printed = Running::spawn(&mut ra).ended().succeeded();
        assert!(bounded::wait(&mut child).expect("a child").success());
        printed
    });
    assert_eq!(printed[0], printed[1]);
    assert_eq!(printed[1].lines().count(), 1 + plain().flows().len());
}

#[test]
fn option_w_ends_with_the_reader_of_standard_output() {
    let folder = Folder::new();
    let capture = folder.capture("a.pcap", &plain());
    let mut command = Sensor::Panoptes.with(&["-r", &capture, "-w", "-"]);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.as_mut().expect("it starts");
    drop(child.stdout.take());
    let mut messages = String::new();
    let mut pipe = bounded::reader(child.stderr.take().expect("a pipe"));
    pipe.read_to_string(&mut messages).expect("text");
    assert!(bounded::wait(child).expect("a child").success());
    assert_eq!(messages, "");
}

#[test]
fn a_live_sensor_ends_with_the_reader_of_standard_output() {
    if !enter(1) {
        return;
    }
    let mut command = Sensor::Panoptes.with(&["-S", "0.2", "-i", RIGHT[0], "-w", "-"]);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let running = Running::spawn(command.stdin(Stdio::null()).stdout(writer));
    // The writer's last copy.
    drop(command);
    running.wait_for("right0: auditing");
    drop(reader);
    send_all(LEFT[0], &connection(1));
    running.ended().succeeded();
}

#[test]
fn option_w_makes_a_moved_file_again() {
    if !enter(1) {
        return;
    }
    let folder = Folder::new();
    let options = ["-S", "0.2", "-i", RIGHT[0]];
    let live = BOTH.map(|sensor| Live::start(sensor, &folder, &options, &[RIGHT[0]]));
    send_all(LEFT[0], &connection(1));
    // Each record is counted; argus may write a connection in two.
    let packets = |path: &PathBuf| -> u64 {
        let rows = argus().ra(path).unwrap_or_default();
        rows.iter().map(|row| row.number("spkts") + row.number("dpkts")).sum()
    };
    let sent = connection(1).packets() as u64;
    for sensor in &live {
        until(|| "no records".to_owned(), || packets(&sensor.records) == sent);
        std::fs::rename(&sensor.records, sensor.records.with_extension("old")).expect("moved");
    }
    // Argus makes a file when it has a record for it.
    until(|| "no new file".to_owned(), || live[1].records.exists());
    send_all(LEFT[0], &connection(2));
    let [theirs, own] = live.map(Live::end);
    let old = |records: &PathBuf| packets(&records.with_extension("old"));
    assert_eq!(packets(&theirs) + old(&theirs), 2 * sent);
    assert_eq!((packets(&own), old(&own)), (sent, sent));
    assert_eq!(causes(&own), [START, STOP]);
    assert!(rows(&own).iter().all(|row| row.text("saddr") == "10.1.0.2"));
}

#[test]
fn option_w_reports_a_file_that_cannot_be_written() {
    let folder = Folder::new();
    let capture = folder.capture("a.pcap", &plain());
    let mut command = Sensor::Panoptes.with(&["-r", &capture, "-w", "/dev/full"]);
    let ended = Running::start(&mut command).ended();
    assert_eq!(ended.status.code(), Some(74), "{}", ended.messages);
    assert_eq!(ended.messages.lines().count(), 1, "{}", ended.messages);
    let missing = folder.text("none/records");
    let mut command = Sensor::Panoptes.with(&["-r", &capture, "-w", &missing]);
    let ended = Running::start(&mut command).ended();
    assert_eq!(ended.status.code(), Some(74), "{}", ended.messages);
}

/// Flows of one packet each.
fn single_packets(numbers: std::ops::Range<u16>) -> Capture {
    let udp = |number| Udp::one_way(Between::v4(1 + number, [5000, 6000]), BEGIN_NS, &[100]);
    numbers.fold(Capture::new(1), |capture, number| capture.with(&udp(number)))
}

/// The sum of what `records_dropped` has of standard output.
fn dropped_in_records(path: &Path) -> u64 {
    let text = std::fs::read_to_string(path).expect("records");
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let details = lines.map(|line| line["activity_data"]["system_activity_details"].clone());
    let own = details.filter(|details| details["output"] == "standard output");
    own.filter_map(|details| details["dropped"].as_u64()).sum()
}

#[test]
fn all_that_an_output_has_lost_is_in_records_at_the_end() {
    if !enter(1) {
        return;
    }
    let folder = Folder::new();
    let records = folder.path("records");
    // Most flows are reported early: there is room for a hundred.
    let mut command = Sensor::Panoptes.with(&["--flows", "100", "-i", RIGHT[0], "-w"]);
    command.arg(format!("json:{}", records.display())).args(["man", "-w", "json:-"]);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let running = Running::spawn(command.stdin(Stdio::null()).stdout(writer));
    drop(command);
    running.wait_for("right0: auditing");
    let lost = "records were lost: the output could not accept records in time";
    let mut sent = 0;
    while !running.messages().contains(lost) {
        send_all(LEFT[0], &single_packets(sent..sent + 1000));
        sent += 1000;
        running.settle();
    }
    // These are lost in the minute after the first report.
    send_all(LEFT[0], &single_packets(sent..sent + 1000));
    running.settle();
    let reading = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        bounded::reader(reader).read_to_end(&mut bytes).map(|_| bytes.split(|b| *b == 10).count())
    });
    running.settle();
    let ended = running.end(Signal::SIGTERM);
    assert_eq!(ended.status.code(), Some(74), "{}", ended.messages);
    let total = ended.messages.lines().find_map(|line| {
        let (before, _) = line.split_once(" records could not be written to standard output")?;
        before.rsplit(' ').next()?.parse().ok()
    });
    assert_eq!(Some(dropped_in_records(&records)), total, "{}", ended.messages);
    assert!(bounded::join(reading).expect("a reader").expect("read") > 1000);
}

/// All flows end at once, and their records are several times what fits into an output's queue.
#[test]
fn the_last_records_wait_for_a_reader_that_is_late() {
    const FLOWS: u16 = 30_000;
    if !enter(1) {
        return;
    }
    let folder = Folder::new();
    let path = folder.path("fifo");
    nix::unistd::mkfifo(&path, Mode::S_IRWXU).expect("a FIFO");
    let open = File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&path);
    let fifo = open.expect("a FIFO");
    let output = format!("json:{}", path.display());
    let options = ["-S", "60", "-i", RIGHT[0], "-w", &output];
    let live = Live::start(Sensor::Panoptes, &folder, &options, &[RIGHT[0]]);
    send_all(LEFT[0], &single_packets(0..FLOWS));
    live.running.settle();
    // From here on the test's reads wait, until nobody has the other end.
    fcntl(&fifo, FcntlArg::F_SETFL(OFlag::empty())).expect("a FIFO");
    let reader = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(500));
        let lines = BufReader::new(fifo).lines().map(|line| line.expect("text"));
        lines.filter(|line| line.contains(r#""kind":"flow","#)).count()
    });
    live.running.end(Signal::SIGTERM).succeeded();
    assert_eq!(bounded::join(reader).expect("its end"), usize::from(FLOWS));
    assert_eq!(rows(&live.records).len(), usize::from(FLOWS));
}
