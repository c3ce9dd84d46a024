//! Real argus against the truth.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::Mutex;
use std::thread;

use panoptes_traffic::{Argus, Capture, Clock, Flow, Row, kinds};

/// Argus sleeps for a second in each run, so many run at a time.
const THREADS: usize = 24;

/// Whether times that both sensors round to microseconds are equal.
fn is_close(left_ns: u64, right_ns: u64, most_ns: u64) -> bool {
    left_ns.abs_diff(right_ns) <= most_ns
}

/// The fields in which a record of argus is not what the truth has, with the values of both.
fn wrong_fields(flow: &Flow, row: &Row) -> Vec<(&'static str, String)> {
    let mut wrong = Vec::new();
    let mut check = |field, is_equal: bool, truth: String, argus: &str| {
        if !is_equal {
            wrong.push((field, format!("{argus} instead of {truth}")));
        }
    };
    let mut number = |field, truth: u64| {
        let argus = row.text(field);
        check(field, row.number(field) == truth, truth.to_string(), argus);
    };
    for side in [0, 1] {
        number(["spkts", "dpkts"][side], flow.packets[side]);
        number(["sbytes", "dbytes"][side], flow.bytes[side]);
        number(["sappbytes", "dappbytes"][side], flow.application_bytes[side]);
        number(["sloss", "dloss"][side], flow.retransmissions[side]);
    }
    for (field, truth) in [
        ("saddr", &flow.source),
        ("sport", &flow.source_port),
        ("daddr", &flow.destination),
        ("dport", &flow.destination_port),
        ("state", &flow.state),
        ("dir", &flow.direction),
    ] {
        check(field, row.text(field) == truth, truth.clone(), row.text(field));
    }
    for (field, truth_ns, most_ns) in [
        ("stime", flow.start_ns, 1000),
        ("ltime", flow.last_ns, 1000),
        ("synack", flow.syn_ack_us * 1000, 1500),
        ("ackdat", flow.ack_data_us * 1000, 1500),
        ("tcprtt", (flow.syn_ack_us + flow.ack_data_us) * 1000, 2000),
    ] {
        let is_equal = is_close(row.nanoseconds(field), truth_ns, most_ns);
        check(field, is_equal, format!("{truth_ns} ns"), row.text(field));
    }
    wrong
}

/// What distinguishes argus's records from the truth: for each, the field and both values.
fn wrong(flows: &[Flow], rows: &[Row]) -> Vec<(&'static str, String)> {
    let mut flows: Vec<&Flow> = flows.iter().collect();
    flows.sort_by_key(|flow| flow.start_ns);
    let mut left: Vec<&Row> = rows.iter().collect();
    left.sort_by_key(|row| row.nanoseconds("stime"));
    let mut wrong = Vec::new();
    let mut compare = |flow: &Flow, row: &Row| {
        let key = flow.key().join(" ");
        let fields = wrong_fields(flow, row).into_iter();
        wrong.extend(fields.map(|(field, text)| (field, format!("{key}: {text}"))));
    };
    // Records with the same key, first. For others the protocol decides.
    flows.retain(|flow| {
        let Some(at) = left.iter().position(|row| row.key() == flow.key()) else { return true };
        compare(flow, left.remove(at));
        false
    });
    flows.retain(|flow| {
        let same = |row: &&Row| row.text("proto") == flow.protocol;
        let Some(at) = left.iter().position(same) else { return true };
        compare(flow, left.remove(at));
        false
    });
    wrong.extend(flows.iter().map(|flow| ("missing", flow.key().join(" "))));
    wrong.extend(left.iter().map(|row| ("extra", row.key().join(" "))));
    wrong
}

/// The records that argus makes of a capture.
fn records(
    argus: &Argus,
    folder: &Path,
    name: &str,
    capture: &Capture,
    options: &[&str],
) -> Vec<Row> {
    let name = name.replace(' ', "-");
    let pcap = folder.join(format!("{name}.pcap"));
    let file = folder.join(format!("{name}.argus"));
    std::fs::write(&pcap, capture.pcap(Clock::Microseconds)).expect("the capture can be written");
    argus.argus(&pcap, options, &file).expect("argus reads the capture");
    argus.ra(&file).expect("ra reads the records")
}

#[test]
fn argus_agrees_with_the_truth_of_each_kind() {
    let argus = Argus::find().expect("argus is installed");
    let folder = tempfile::tempdir().expect("a folder");
    let kinds = Mutex::new(kinds().into_iter());
    let report = Mutex::new(String::new());
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let next = kinds.lock().expect("no panic").next();
                    let Some((name, capture)) = next else { break };
                    let options = ["-A", "-S", "3600"];
                    let rows = records(&argus, folder.path(), name, &capture, &options);
                    let mut report = report.lock().expect("no panic");
                    for (field, text) in wrong(capture.flows(), &rows) {
                        writeln!(report, "{name} | {field} | {text}").expect("a text");
                    }
                }
            });
        }
    });
    let report = report.into_inner().expect("no panic");
    assert!(report.is_empty(), "\n{report}");
}
