//! Debian's clients of argus over our records and over argus's records of the same capture.
//!
//! What they print is compared. `rasqlinsert` needs a database (`database.rs`); `rahosts` and
//! `radecode` of 3.0.8.2 need a function that Perl has no more (`POSIX::tmpnam`).

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;

use nix::pty::{Winsize, openpty};
use panoptes_bounded::{self as bounded, Bounded};
use panoptes_traffic::Row;

use crate::programs::{Folder, client, run};
use crate::stream::{plain, rows, same};

/// Records of one capture, by argus and by Panoptes.
struct Records {
    _folder: Folder,
    files: [PathBuf; 2],
}

fn records() -> &'static Records {
    static RECORDS: OnceLock<Records> = OnceLock::new();
    RECORDS.get_or_init(|| {
        let folder = Folder::new();
        let capture = folder.capture("a.pcap", &plain());
        let files = folder.both(&["-A", "-J", "-m", "-Z", "-U", "32", "-r", &capture], &[]);
        same(&files);
        Records { _folder: folder, files }
    })
}

/// A client prints the same for both; what it prints.
#[track_caller]
fn prints_the_same(name: &str, arguments: &[&str], filter: &[&str]) -> String {
    let [theirs, own] = [0, 1].map(|at| {
        let mut command = client(name, &["-n", "-r"]);
        run(command.arg(&records().files[at]).args(arguments).args(filter))
    });
    assert_eq!(theirs, own, "{name}: argus, then Panoptes");
    own
}

/// A client writes the same records for both; how many there are.
#[track_caller]
fn writes_the_same(name: &str, arguments: &[&str]) -> usize {
    let folder = Folder::new();
    let files = [0, 1].map(|at| {
        let file = folder.path(&format!("{at}"));
        let mut command = client(name, &["-n", "-r"]);
        run(command.arg(&records().files[at]).args(arguments).arg("-w").arg(&file));
        file
    });
    same(&files).len()
}

const FIELDS: [&str; 14] = [
    "-s", "stime", "ltime", "proto", "saddr", "sport", "dir", "daddr", "dport", "spkts", "dpkts",
    "sbytes", "dbytes", "state",
];

#[test]
fn racluster_merges_records() {
    let by_protocol = prints_the_same("racluster", &["-m", "proto"], &["-", "not", "man"]);
    assert_eq!(by_protocol.lines().count(), 3, "{by_protocol}");
    assert!(writes_the_same("racluster", &["-m", "saddr", "daddr"]) > 4);
}

#[test]
fn rasort_sorts_records() {
    let sorted =
        prints_the_same("rasort", &["-m", "sbytes", "stime", "dport"], &["-", "not", "man"]);
    assert_eq!(sorted.lines().count(), 1 + plain().flows().len(), "{sorted}");
}

#[test]
fn rabins_makes_intervals() {
    let arguments = ["-M", "time", "1s", "-m", "proto", "-s", "stime", "proto", "pkts", "bytes"];
    let bins = prints_the_same("rabins", &arguments, &["-", "not", "man"]);
    assert!(bins.lines().count() > 3, "{bins}");
}

#[test]
fn racount_counts_records() {
    let counts = prints_the_same("racount", &[], &[]);
    assert!(counts.contains("sum"), "{counts}");
}

#[test]
fn ranonymize_hides_addresses() {
    // Its addresses are random; all else stays as it is.
    let folder = Folder::new();
    for at in [0, 1] {
        let file = folder.path(&format!("{at}"));
        run(client("ranonymize", &["-r"]).arg(&records().files[at]).arg("-w").arg(&file));
        let (before, after) = (rows(&records().files[at]), rows(&file));
        let counts = |rows: &[Row]| {
            let fields = ["spkts", "dpkts", "sbytes", "dbytes", "state"];
            let mut all: Vec<_> =
                rows.iter().map(|row| fields.map(|field| row.text(field).to_owned())).collect();
            all.sort();
            all
        };
        assert_eq!(counts(&before), counts(&after));
        let address = |row: &Row| row.text("saddr").to_owned();
        assert!(before.iter().zip(&after).any(|(before, after)| address(before) != address(after)));
    }
}

#[test]
fn ralabel_adds_labels() {
    let folder = Folder::new();
    let configuration = folder.write("ralabel.conf", b"RALABEL_IANA_ADDRESS=no\n");
    let text = prints_the_same(
        "ralabel",
        &[&["-f", &configuration][..], &FIELDS].concat(),
        &["-", "not", "man"],
    );
    assert_eq!(text.lines().count(), 1 + plain().flows().len());
}

#[test]
fn other_clients_print_the_same() {
    for (name, arguments) in [
        ("ra", &FIELDS[..]),
        ("radump", &[]),
        ("rastrip", &["-M", "-net"]),
        ("ratimerange", &[]),
        ("rarpwatch", &[]),
        ("rauserdata", &[]),
        ("ratemplate", &[]),
        ("raservices", &[]),
    ] {
        prints_the_same(name, arguments, &["-", "not", "man"]);
    }
}

/// What `ratop` shows: a terminal of its own, without the control sequences.
fn shown_by_ratop(records: &Path, has_all: impl Fn(&str) -> bool) -> String {
    let size = Winsize { ws_row: 60, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 };
    let terminal = openpty(&size, None).expect("a terminal");
    let slave = || Stdio::from(terminal.slave.try_clone().expect("it can be opened"));
    let mut command = client("ratop", &["-n", "-r"]);
    command.arg(records).env("TERM", "vt100").stdin(slave()).stdout(slave()).stderr(slave());
    let mut child = command.spawn().expect("ratop");
    let mut master = Bounded::new(File::from(terminal.master));
    let (mut text, mut bytes) = (String::new(), [0; 4096]);
    while !has_all(&text) {
        let count = master.read(&mut bytes).expect("ratop shows something");
        text.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    child.kill().expect("a child");
    bounded::wait(&mut child).expect("a child");
    text
}

#[test]
fn ratop_shows_records() {
    for records in &records().files {
        // Each flow is a row; the bytes are those of `ra`.
        let bytes = |row: &Row| (row.number("sbytes") + row.number("dbytes")).to_string();
        let all: Vec<_> = rows(records).iter().map(bytes).collect();
        shown_by_ratop(records, |text| all.iter().all(|bytes| text.contains(bytes)));
    }
}

#[test]
fn rahisto_makes_a_histogram() {
    let text = prints_the_same("rahisto", &["-H", "dbytes", "10:0-10000"], &["-", "tcp"]);
    assert!(text.lines().count() > 5, "{text}");
}
