//! JSON lines, against the columns that argus's client `ra` prints of the same records.

use panoptes_records::json::time::Timestamp;
use panoptes_sinks::flow::argus::{self, ArgusOptions, Management, RECORD_BYTES_MAX};
use panoptes_sinks::flow::json::{JsonLineFormat, PLAIN_LINE_BYTES_MAX};
use panoptes_traffic::{Argus, Capture, FIELDS, Row, kinds};
use serde_json::Value;

use super::audit;

const OPTIONS: ArgusOptions = ArgusOptions {
    source_id: argus::SourceId::None,
    application_bytes: true,
    hardware: true,
    packet_sizes: true,
    interface: [0; 4],
};

/// The lines of a capture, and what `ra` reads in the argus records of the same flows.
fn pairs(argus: &Argus, capture: &Capture) -> Vec<(Value, Row)> {
    let folder = tempfile::tempdir().expect("a folder");
    let mut records = Management::default().first(0).to_vec();
    let mut lines = Vec::new();
    let mut out = vec![0; RECORD_BYTES_MAX];
    let writer = JsonLineFormat { options: OPTIONS, community_id_seed: Some(0) };
    audit(capture, &mut |record, extra| {
        let length = argus::write(&mut out, &OPTIONS, record, extra).expect("there is room");
        records.extend_from_slice(&out[..length]);
        let room = PLAIN_LINE_BYTES_MAX + 4 * 64;
        let length = writer.write(&mut out[..room], record, extra).expect("there is room");
        lines.push(serde_json::from_slice(&out[..length]).expect("JSON"));
    });
    let file = folder.path().join("records");
    std::fs::write(&file, records).expect("there is room");
    let more = ["svid", "dvid", "dur", "smeansz", "dmeansz", "sintpktact", "dintpktact"];
    let fields: Vec<&str> = FIELDS.iter().copied().chain(more).collect();
    let rows = argus.ra_fields(&file, &fields).expect("ra reads the records");
    assert_eq!(rows.len(), lines.len());
    lines.into_iter().zip(rows).collect()
}

/// A key of the JSON object for each column whose text is the same.
const SAME: &[(&str, &str)] = &[
    ("saddr", "source_address"),
    ("daddr", "destination_address"),
    ("dir", "direction"),
    ("state", "state"),
    ("spkts", "source_packets"),
    ("dpkts", "destination_packets"),
    ("sbytes", "source_bytes"),
    ("dbytes", "destination_bytes"),
    ("sappbytes", "source_application_bytes"),
    ("dappbytes", "destination_application_bytes"),
    ("sloss", "source_retransmissions"),
    ("dloss", "destination_retransmissions"),
    ("sttl", "source_ttl"),
    ("dttl", "destination_ttl"),
    ("stos", "source_tos"),
    ("dtos", "destination_tos"),
    ("sipid", "source_ip_id"),
    ("dipid", "destination_ip_id"),
    ("smac", "source_hardware_address"),
    ("dmac", "destination_hardware_address"),
    ("svid", "source_vlan"),
    ("dvid", "destination_vlan"),
    ("smpls", "source_mpls_label"),
    ("dmpls", "destination_mpls_label"),
    ("swin", "source_window"),
    ("dwin", "destination_window"),
    ("stcpb", "source_tcp_sequence_base"),
    ("dtcpb", "destination_tcp_sequence_base"),
    ("sminsz", "source_packet_size_min"),
    ("dminsz", "destination_packet_size_min"),
    ("smaxsz", "source_packet_size_max"),
    ("dmaxsz", "destination_packet_size_max"),
];

/// A value as `ra` prints it.
fn text(value: Option<&Value>, column: &str) -> String {
    match (value, column) {
        (Some(Value::String(text)), "smac" | "dmac") if text == "ff:ff:ff:ff:ff:ff" => {
            "Broadcast".to_owned()
        }
        (Some(Value::String(text)), _) => text.clone(),
        (Some(value), "sipid" | "dipid") => format!("{:#06x}", value.as_u64().unwrap_or(0)),
        (Some(value), _) => value.to_string(),
        // The line has no such value.
        (None, "sloss" | "dloss") => "0".to_owned(),
        (None, _) => String::new(),
    }
}

/// The same column of the other end.
fn other_end(column: &str) -> String {
    match column.split_at(1) {
        ("s", rest) if column != "state" => format!("d{rest}"),
        ("d", rest) if column != "dir" => format!("s{rest}"),
        _ => column.to_owned(),
    }
}

/// Where a line differs from what `ra` prints.
fn differences(line: &Value, row: &Row) -> Vec<String> {
    // `ra` exchanges the ends of a connection that its destination opened.
    let is_reversed = line["direction"] == "<-" && line["protocol"] == "tcp";
    let is_v6 = row.text("saddr").contains(':');
    let mut found = Vec::new();
    for (column, key) in SAME {
        let other = other_end(column);
        let expected = row.text(if is_reversed { &other } else { column });
        let is = match *column {
            "dir" if is_reversed => "->".to_owned(),
            "sloss" if line["protocol"] == "esp" => text(line.get("esp_lost"), column),
            "sloss" if line["application"] == "rtp" => {
                text(line.get("source_lost_packets"), column)
            }
            "dloss" if line["application"] == "rtp" => {
                text(line.get("destination_lost_packets"), column)
            }
            _ => text(line.get(*key), column),
        };
        // IPv6 has no such field, and argus writes 0.
        if is != expected && !(is_v6 && ["sipid", "dipid"].contains(column)) {
            found.push(format!("{column}: {is:?} instead of {expected:?}"));
        }
    }
    found.extend(numbers(line, row).into_iter().filter(|_| !is_reversed));
    found
}

/// The same for numbers that `ra` rounds or has in another unit.
fn numbers(line: &Value, row: &Row) -> Vec<String> {
    let mut found = Vec::new();
    for (column, key, scale) in [
        ("dur", "duration_us", 1e6),
        ("synack", "syn_ack_us", 1e6),
        ("ackdat", "ack_data_us", 1e6),
        ("tcprtt", "round_trip_us", 1e6),
        ("smeansz", "source_packet_size_mean", 1.0),
        ("dmeansz", "destination_packet_size_mean", 1.0),
    ] {
        let is = line.get(key).and_then(Value::as_f64).unwrap_or(0.0);
        let expected = row.text(column).parse().unwrap_or(0.0) * scale;
        // A half of a round trip is none, except for `ra`.
        let is_half = column == "tcprtt" && is == 0.0;
        if (is - expected).abs() > 1.0 && !is_half {
            found.push(format!("{column}: {is} instead of {expected}"));
        }
    }
    for (column, key) in [("stime", "first_time"), ("ltime", "last_time")] {
        let text = line[key].as_str().unwrap_or_default().as_bytes();
        let time = text.try_into().ok().and_then(Timestamp::parse);
        let (seconds, ns) = time.map(Timestamp::parts).unwrap_or_default();
        let is = format!("{seconds}.{:06}", ns / 1000);
        if is != row.text(column) {
            found.push(format!("{column}: {is} instead of {}", row.text(column)));
        }
    }
    for (column, end) in [("sintpktact", "source"), ("dintpktact", "destination")] {
        let active = &line[format!("{end}_jitter_active")];
        let is = active["mean_us"].as_f64().unwrap_or(0.0);
        // In milliseconds.
        let expected = row.text(column).parse().unwrap_or(0.0) * 1000.0;
        if (is - expected).abs() > 1.0 {
            found.push(format!("{column}: {is} instead of {expected}"));
        }
    }
    found
}

#[test]
fn lines_have_what_ra_prints() {
    let argus = Argus::find().unwrap_or_else(|error| panic!("{error}"));
    let mut found = Vec::new();
    for (name, capture) in kinds() {
        for (line, row) in pairs(&argus, &capture) {
            let all = differences(&line, &row).into_iter();
            found.extend(all.map(|difference| format!("{name}: {difference}")));
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}
