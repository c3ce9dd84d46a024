//! Flows that packets export: `-r cisco:FILE`.

use std::collections::BTreeSet;
use std::path::Path;

use crate::programs::Folder;
use crate::stream::rows;

/// A capture with one datagram of NetFlow version 5 (Cisco's "NetFlow Export Datagram Formats",
/// tables 1-3 and 1-4): two UDP flows of 10.1.0.1 and 10.1.0.2.
fn capture() -> Vec<u8> {
    let mut export = vec![0, 5, 0, 2];
    // The exporter has run for 100 s; the time of the export; no flow before these.
    for word in [100_000_u32, 1_700_000_000, 0, 0, 0] {
        export.extend(word.to_be_bytes());
    }
    for (host, packets, bytes, port) in [(1_u32, 7_u32, 700_u32, 5000_u32), (2, 9, 900, 6000)] {
        let uptimes = [90_000, 95_000];
        for word in [0x0a01_0000 + host, 0xc0a8_0009, 0, 0x0001_0002, packets, bytes] {
            export.extend(word.to_be_bytes());
        }
        // Ports 4000 and `port`; no flags, UDP, no type of service.
        for word in uptimes.into_iter().chain([4000 << 16 | port, 17 << 8, 0, 0]) {
            export.extend(word.to_be_bytes());
        }
    }
    let short = |number: usize| (number as u16).to_be_bytes();
    let mut packet = [&[2; 12][..], &[8, 0], &[0x45, 0]].concat();
    packet.extend(short(28 + export.len()));
    packet.extend([0, 1, 0, 0, 64, 17, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2]);
    packet.extend([0x9c, 0x40, 0x08, 0x07]); // From port 40000 to 2055.
    packet.extend(short(8 + export.len()));
    packet.extend([0, 0]);
    packet.extend(export);
    let mut capture = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 0xffff, 1, 1_700_000_000, 0] {
        capture.extend(word.to_le_bytes());
    }
    for _ in 0..2 {
        capture.extend((packet.len() as u32).to_le_bytes());
    }
    capture.extend(packet);
    capture
}

/// Returns the flows: protocol, source, destination, and packets and bytes of the source.
fn flows(records: &Path) -> BTreeSet<String> {
    let fields = ["proto", "saddr", "sport", "daddr", "dport", "spkts", "sbytes"];
    rows(records)
        .iter()
        .map(|row| fields.map(|field| row.text(field).to_owned()).join(" "))
        .collect()
}

#[test]
fn option_r_reads_exported_flows() {
    let folder = Folder::new();
    let file = format!("cisco:{}", folder.write("netflow.pcap", &capture()));
    let [theirs, own] = folder.both(&["-r", &file], &[]);
    let expected = [
        "udp 10.1.0.1 4000 192.168.0.9 5000 7 700",
        "udp 10.1.0.2 4000 192.168.0.9 6000 9 900",
        // The export itself.
        "udp 10.9.0.1 40000 10.9.0.2 2055 1 162",
    ];
    assert_eq!(flows(&own), expected.map(str::to_owned).into());
    assert_eq!(flows(&theirs), flows(&own));
}
