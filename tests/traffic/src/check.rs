//! Compares the records of a sensor with the truth, field by field.

use crate::row::Row;
use crate::truth::Flow;

/// A wrong field of a record: its name in `ra`, and the values.
pub type FieldFault = (&'static str, String);

/// The fields in which a record is not what the truth has.
fn wrong_fields(flow: &Flow, row: &Row) -> Vec<FieldFault> {
    let mut wrong = Vec::new();
    let key = flow.key().join(" ");
    let mut check = |field, is_right: bool, truth: &str| {
        if !is_right {
            wrong.push((field, format!("{key}: {} instead of {truth}", row.text(field))));
        }
    };
    for side in [0, 1] {
        for (fields, truth) in [
            (["spkts", "dpkts"], flow.packets),
            (["sbytes", "dbytes"], flow.bytes),
            (["sappbytes", "dappbytes"], flow.application_bytes),
            (["sloss", "dloss"], flow.retransmissions),
        ] {
            let (field, truth) = (fields[side], truth[side]);
            check(field, row.number(field) == truth, &truth.to_string());
        }
    }
    for (field, truth) in [
        ("saddr", &flow.source),
        ("sport", &flow.source_port),
        ("daddr", &flow.destination),
        ("dport", &flow.destination_port),
        ("state", &flow.state),
        ("dir", &flow.direction),
    ] {
        check(field, row.text(field) == truth, truth);
    }
    for (field, truth_ns, most_ns) in [
        ("stime", flow.start_ns, 1000),
        ("ltime", flow.last_ns, 1000),
        ("synack", flow.syn_ack_us * 1000, 1500),
        ("ackdat", flow.ack_data_us * 1000, 1500),
        ("tcprtt", (flow.syn_ack_us + flow.ack_data_us) * 1000, 2000),
    ] {
        let is_right = row.nanoseconds(field).abs_diff(truth_ns) <= most_ns;
        check(field, is_right, &format!("{truth_ns} ns"));
    }
    wrong
}

/// What distinguishes a sensor's records from the truth.
pub fn wrong(flows: &[Flow], rows: &[Row]) -> Vec<FieldFault> {
    let mut flows: Vec<&Flow> = flows.iter().collect();
    flows.sort_by_key(|flow| flow.start_ns);
    let mut left: Vec<&Row> = rows.iter().collect();
    left.sort_by_key(|row| row.nanoseconds("stime"));
    let mut wrong = Vec::new();
    // Records with the same key, first. For others the protocol decides.
    flows.retain(|flow| {
        let Some(at) = left.iter().position(|row| row.key() == flow.key()) else { return true };
        wrong.extend(wrong_fields(flow, left.remove(at)));
        false
    });
    flows.retain(|flow| {
        let is_same = |row: &&Row| row.text("proto") == flow.protocol;
        let Some(at) = left.iter().position(is_same) else { return true };
        wrong.extend(wrong_fields(flow, left.remove(at)));
        false
    });
    wrong.extend(flows.iter().map(|flow| ("missing", flow.key().join(" "))));
    wrong.extend(left.iter().map(|row| ("extra", row.key().join(" "))));
    wrong
}
