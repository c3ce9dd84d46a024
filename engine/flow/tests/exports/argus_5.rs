//! Records of argus 5, against its client `ra` 5.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use panoptes_bounded as bounded;
use panoptes_records::flow::{Cause, Extra, FlowKey, FlowRecord, FlowSide, header};
use panoptes_rig::boxes;
use panoptes_sinks::flow::argus::{
    ArgusOptions, Interim, Management, RECORD_BYTES_MAX, SourceId, Version,
};
use panoptes_traffic::{Capture, FIELDS, kinds};

use super::audit;

/// Columns of [`FIELDS`] that are not compared: not both versions have them alike.
const UNEQUAL_FIELDS: [&str; 13] = [
    "cause",
    "sretrans",
    "dretrans",
    "sgap",
    "dgap",
    "svlan",
    "dvlan",
    "sintpkt",
    "dintpkt",
    "sjit",
    "djit",
    "suser:256",
    "duser:256",
];

/// Columns that both versions of a record have alike.
fn columns() -> impl Iterator<Item = &'static str> {
    let more = ["srcid", "seq", "dur", "svid", "dvid", "suser:64", "duser:64"];
    FIELDS.iter().copied().filter(|field| !UNEQUAL_FIELDS.contains(field)).chain(more)
}

const OPTIONS: ArgusOptions = ArgusOptions {
    source_id: SourceId::Address(0x0a01_0001),
    application_bytes: true,
    hardware: true,
    packet_sizes: true,
    interface: [0; 4],
};

/// The lines that `ra` 5 prints of a capture's records in a version.
fn lines(ra: &Path, capture: &Capture, version: Version, digits: &str) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a folder");
    let management = Management { source_id: OPTIONS.source_id, ..Management::default() };
    let mut bytes = match version {
        Version::Three => management.first(1_700_000_000_000_000_000).to_vec(),
        Version::Five => management.five(Cause::Start, &Interim::default()).to_vec(),
    };
    let mut out = vec![0; RECORD_BYTES_MAX];
    audit(capture, &mut |record, extra| {
        let length = version.write(&mut out, &OPTIONS, record, extra).expect("there is room");
        bytes.extend_from_slice(&out[..length]);
    });
    bytes.extend(match version {
        Version::Three => management.last(&Interim::default()),
        Version::Five => management.five(Cause::Stop, &Interim::default()),
    });
    let file = folder.path().join("records");
    std::fs::write(&file, bytes).expect("there is room");
    let output = bounded::output(
        Command::new(ra)
            .args(["-X", "-n", "-u", "-c", "|", "-p", digits, "-r"])
            .arg(&file)
            .arg("-s")
            .args(columns())
            .args(["-", "not", "man"])
            .env("HOME", "/nonexistent"),
    )
    .unwrap_or_else(|error| panic!("{}: {error}", ra.display()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().skip(1).map(str::to_owned).collect()
}

/// Where argus 5 has no place, `ra` prints nothing.
#[test]
fn ra_5_prints_the_numbers_of_vxlan() {
    let folder = boxes::argus_5().unwrap_or_else(|error| panic!("{error}"));
    let Some(folder) = folder else {
        panoptes_needs::skip::test("argus 5");
        return;
    };
    let ra = folder.join("ra");
    let side = FlowSide {
        packets: 1,
        bytes: 60,
        first_ns: 1_700_000_000_000_000_000,
        last_ns: 1_700_000_000_000_000_000,
        ..FlowSide::default()
    };
    let printed = |encapsulation: u32, vnis: [Option<u32>; 2]| {
        let side = FlowSide { encapsulation, ..side };
        let key = FlowKey { protocol: 17, ..FlowKey::default() };
        let record =
            FlowRecord { key, source: side, destination: side, vnis, ..FlowRecord::default() };
        let mut out = vec![0; RECORD_BYTES_MAX];
        let length = Version::Five.write(&mut out, &OPTIONS, &record, &Extra::default());
        let begin = Management::default().five(Cause::Start, &Interim::default());
        let bytes = [&begin[..], &out[..length.expect("there is room")]].concat();
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(&file, bytes).expect("there is room");
        let output = bounded::output(
            Command::new(&ra)
                .args(["-X", "-n", "-c", "|", "-r"])
                .arg(file.path())
                .args(["-s", "svnid", "dvnid", "spkts", "dpkts", "-", "not", "man"])
                .env("HOME", "/nonexistent"),
        )
        .expect("ra runs");
        let text = String::from_utf8_lossy(&output.stdout);
        text.lines().last().unwrap_or_default().trim().to_owned()
    };
    let ethernet = 0x2;
    assert_eq!(printed(header::VXLAN | ethernet, [Some(42), Some(0xff_ffff)]), "42|16777215|1|1");
    assert_eq!(printed(header::VXLAN | ethernet, [Some(42), None]), "42||1|1");
    assert_eq!(printed(header::GENEVE | ethernet, [Some(42), Some(42)]), "||1|1");
}

#[test]
fn ra_5_reads_both_versions_alike() {
    let folder = boxes::argus_5().unwrap_or_else(|error| panic!("{error}"));
    let Some(folder) = folder else {
        panoptes_needs::skip::test("argus 5");
        return;
    };
    let ra = folder.join("ra");
    let mut found = BTreeMap::new();
    for (name, capture) in kinds() {
        let three = lines(&ra, &capture, Version::Three, "6");
        let five = lines(&ra, &capture, Version::Five, "6");
        assert!(!three.is_empty(), "{name}");
        if three != five {
            found.insert(name, (three, five));
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}
