//! `panoptes flow`, read by the argus client `ra`: against the truth, and against real argus.

mod real;
mod versions;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use panoptes_bounded as bounded;
use panoptes_traffic::{
    Argus, Capture, Clock, Difference, Row, Tolerance, differences, kinds, wrong,
};
use tempfile::TempDir;

/// Fields in which records differ from the truth, by kinds of conversations, and why.
const EXCEPTIONS: &[(&[&str], &[&str], &str)] = &[
    (
        &[
            "udp unreachable",
            "udp unreachable over ipv6",
            "udp unreachable from the higher address",
            "icmp time exceeded",
            "icmpv6 time exceeded",
        ],
        &["ltime"],
        "as in argus, an error message belongs to the time of its flow",
    ),
    (
        &["dns over ipv6"],
        &["spkts", "sbytes", "sappbytes", "dpkts", "dbytes", "dappbytes", "ltime", "missing"],
        "as in argus, queries are flows of their own over IPv4 only",
    ),
    (
        &[
            "fragments",
            "fragments of three datagrams",
            "fragments reversed",
            "fragments over ipv6",
            "fragments reversed over ipv6",
            "fragments from the higher address",
        ],
        &["sappbytes"],
        "as in argus, only the first fragment counts",
    ),
    (
        &["esp", "esp from the higher address"],
        &["dport"],
        "ra replaces zero bytes of the index by 0x20, which it has for masks",
    ),
    (
        &["icmpv6 neighbour", "icmpv6 router"],
        &["sport", "state"],
        "as in argus, an answer has the type of its question, even if nobody asked",
    ),
    (
        &["igmp report", "igmp query"],
        &["spkts", "sbytes", "sappbytes", "ltime", "extra"],
        "as in argus, each message is a flow",
    ),
    (&["sctp"], &["sport", "dport"], "ra prints no ports of SCTP"),
    (&["tcp reset twice"], &["dloss"], "as in argus, nothing counts as sent again after a reset"),
];

/// Fields that argus 3 writes in the byte order of the machine.
const REVERSED: &[&str] = &["sipid", "dipid"];

/// Whether a difference from argus is known; docs/flow.md has the reasons.
fn is_known(difference: &Difference, lone: &BTreeSet<String>) -> bool {
    let words: Vec<&str> = difference.record.split(' ').collect();
    match (words[1], &difference.field[..]) {
        // Ids of ICMP are reversed; its kinds are compared with the truth. ARP has no data.
        ("icmp", _) | ("arp", "sappbytes" | "dappbytes") => true,
        // Argus writes no window of a lone SYN.
        ("tcp", "swin") => lone.contains(&words[1..].join(" ")),
        // Argus takes parts of the flow label for the traffic class. ICMPv6 refers to flows, too.
        (_, "stos" | "dtos") | ("udp", "ltime" | "flgs" | "dur") => words[2].contains(':'),
        _ => false,
    }
}

struct Sensor {
    argus: Argus,
    /// What precedes the file of Panoptes's records, so that these clients read them.
    form: &'static str,
    folder: TempDir,
}

impl Sensor {
    fn new() -> Self {
        let argus = Argus::find().unwrap_or_else(|error| panic!("{error}"));
        Self { argus, form: "", folder: tempfile::tempdir().expect("a folder") }
    }

    fn file(&self, name: &str, extension: &str) -> PathBuf {
        self.folder.path().join(format!("{}.{extension}", name.replace(' ', "-")))
    }

    /// Writes a capture to a file.
    fn capture(&self, name: &str, capture: &Capture) -> PathBuf {
        let file = self.file(name, "pcap");
        std::fs::write(&file, capture.pcap(Clock::Microseconds)).expect("there is room");
        file
    }

    /// The records that Panoptes makes of a capture, as `ra` reads them.
    fn records(&self, name: &str, capture: &Path, options: &[&str]) -> Vec<Row> {
        let records = self.file(name, "flows");
        let run = bounded::output_within(
            Command::new(env!("CARGO_BIN_EXE_panoptes"))
                .arg("flow")
                .args(options)
                .arg("-r")
                .arg(capture)
                .args(["-w", &format!("{}{}", self.form, records.display())]),
            bounded::LONG,
        )
        .expect("the program starts");
        assert!(run.status.success(), "{name}: {}", String::from_utf8_lossy(&run.stderr));
        assert!(run.stderr.is_empty(), "{name}: {}", String::from_utf8_lossy(&run.stderr));
        self.argus.ra(&records).expect("ra reads the records")
    }

    /// The records that argus and Panoptes make of a capture, with all metrics.
    fn both(&self, name: &str, capture: &Path) -> [Vec<Row>; 2] {
        let options = ["-X", "-A", "-J", "-m", "-Z", "-S", "3600"];
        let own = self.records(name, capture, &options);
        let records = self.file(name, "argus");
        self.argus.argus(capture, &options, &records).expect("argus reads the capture");
        [self.argus.ra(&records).expect("ra reads the records"), own]
    }
}

/// Whether a difference from argus 5 is known.
fn is_known_of_five(difference: &Difference, lone: &BTreeSet<String>) -> bool {
    let words: Vec<&str> = difference.record.split(' ').collect();
    match (words[1], &difference.field[..]) {
        // It writes no addresses of ICMPv6; its kinds are compared with the truth. It subtracts
        // squares in single precision, so little that is left is wrong.
        ("ipv6-icmp", "record") | (_, "sjit" | "djit") => true,
        // It takes the header behind IPv6 for that of IPv6.
        (_, "sttl" | "dttl") => words[2].contains(':'),
        _ => is_known(difference, lone),
    }
}

/// Differences that are not in a list.
#[track_caller]
fn check(
    name: &str,
    [theirs, own]: [&[Row]; 2],
    is_known: impl Fn(&Difference, &BTreeSet<String>) -> bool,
) {
    let found = differences(theirs, own, Tolerance::default(), REVERSED);
    let is_lone = |row: &&Row| row.number("spkts") + row.number("dpkts") == 1;
    let lone = own.iter().filter(is_lone).map(|row| row.key().join(" ")).collect();
    let found = found.iter().filter(|difference| !is_known(difference, &lone));
    let found: Vec<_> = found.map(ToString::to_string).collect();
    assert!(found.is_empty(), "{name}: argus, then Panoptes:\n{}", found.join("\n"));
}

/// Fails if records differ from those of argus 3 in ways that are not known.
#[track_caller]
fn agree(name: &str, theirs: &[Row], own: &[Row]) {
    check(name, [theirs, own], is_known);
}

/// The same for argus 5.
#[track_caller]
fn agree_with_five(name: &str, theirs: &[Row], own: &[Row]) {
    check(name, [theirs, own], is_known_of_five);
}

#[test]
fn records_agree_with_the_truth_of_each_kind() {
    let sensor = Sensor::new();
    let expected: BTreeMap<(&str, &str), &str> = EXCEPTIONS
        .iter()
        .flat_map(|(kinds, fields, reason)| {
            let pairs = move |kind: &'static &'static str| {
                fields.iter().map(move |field| ((*kind, *field), *reason))
            };
            kinds.iter().flat_map(pairs)
        })
        .collect();
    let (mut new, mut seen) = (Vec::new(), BTreeSet::new());
    for (name, capture) in kinds() {
        let file = sensor.capture(name, &capture);
        let rows = sensor.records(name, &file, &["-A", "-S", "3600"]);
        let flows = capture.flows();
        assert!(!flows.is_empty(), "{name}");
        for (field, text) in wrong(flows, &rows) {
            seen.insert((name, field));
            if !expected.contains_key(&(name, field)) {
                new.push(format!("{name} | {field} | {text}"));
            }
        }
    }
    assert!(new.is_empty(), "records are wrong in ways that are not listed:\n{}", new.join("\n"));
    let gone: Vec<_> = expected.keys().filter(|pair| !seen.contains(*pair)).collect();
    assert!(gone.is_empty(), "to be removed from the list of exceptions: {gone:?}");
}

#[test]
fn records_are_those_of_argus() {
    let sensor = Sensor::new();
    for seed in 1..=4 {
        let name = format!("mix {seed}");
        let file = sensor.capture(&name, &Capture::mix(seed, 300));
        let [theirs, own] = sensor.both(&name, &file);
        assert!(own.len() > 250, "{name}: {} records", own.len());
        agree(&name, &theirs, &own);
    }
}
