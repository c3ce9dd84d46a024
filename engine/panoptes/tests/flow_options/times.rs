//! Captures in which times are wrong, or the clock was set.

use std::fs;

use panoptes_traffic::{BEGIN_NS, Between, Capture, Clock, Udp};

use crate::programs::{Folder, Running, Sensor};
use crate::service::{activities, lines};

/// The times of a capture, each in whole seconds from its beginning.
fn at_seconds(folder: &Folder, name: &str, seconds: &[u32]) -> String {
    let udp = Udp::one_way(Between::v4(1, [5000, 6000]), BEGIN_NS, &vec![50; seconds.len()]);
    let mut pcap = Capture::of(&udp).pcap(Clock::Microseconds);
    let mut at = 24;
    for second in seconds {
        let length = u32::from_le_bytes(pcap[at + 8..at + 12].try_into().expect("four"));
        pcap[at..at + 4].copy_from_slice(&second.to_le_bytes());
        at += 16 + length as usize;
    }
    folder.write(name, &pcap)
}

/// Reads captures; what it has printed. The records are the lines of a file.
fn audit(folder: &Folder, captures: &[&str]) -> String {
    let path = folder.path("lines");
    let _ = fs::remove_file(&path);
    let file = format!("json:{}", path.display());
    let mut command = Sensor::Panoptes.with(&["-S", "5", "-w", &file, "-r"]);
    Running::start(command.args(captures)).ended().succeeded()
}

/// The numbers of packets in the records of a capture.
fn counts(folder: &Folder, capture: &str) -> Vec<u64> {
    audit(folder, &[capture]);
    let lines = lines(&folder.path("lines"));
    lines.iter().filter_map(|line| line.get("source_packets")?.as_u64()).collect()
}

#[test]
fn a_wrong_time_in_a_capture_costs_no_record() {
    let folder = Folder::new();
    let plain: Vec<u32> = (0..1000).map(|second| 1_700_000_000 + second).collect();
    let expected = counts(&folder, &at_seconds(&folder, "plain.pcap", &plain));
    assert_eq!(expected.len(), 200);
    let mut wrong = plain.clone();
    wrong.insert(10, u32::MAX);
    let found = counts(&folder, &at_seconds(&folder, "wrong.pcap", &wrong));
    assert_eq!(found.len(), 200);
    assert_eq!(found.iter().sum::<u64>(), 1001);
}

#[test]
fn a_clock_that_is_set_while_a_capture_is_made_costs_no_record() {
    let folder = Folder::new();
    for step in [-3600_i64, 3600, -86_400] {
        let at = |second: i64| 1_700_000_000 + second + if second >= 500 { step } else { 0 };
        let seconds: Vec<u32> = (0..1000).map(|second| at(second) as u32).collect();
        let found = counts(&folder, &at_seconds(&folder, "step.pcap", &seconds));
        assert!((199..=202).contains(&found.len()), "{step}: {}", found.len());
        assert_eq!(found.iter().sum::<u64>(), 1000, "{step}");
    }
}

/// Part of the message about a packet with a wrong time.
const WRONG: &str = "1 packets have impossible times";

#[test]
fn a_wrong_time_at_the_end_of_a_capture_is_reported() {
    let folder = Folder::new();
    // The last record has room for more: it is not due yet.
    let plain: Vec<u32> = (0..998).map(|second| 1_700_000_000 + second).collect();
    let mut expected = counts(&folder, &at_seconds(&folder, "plain.pcap", &plain));
    *expected.last_mut().expect("records") += 1;
    for wrong in [u32::MAX, 1_700_000_997 + 90_000, 1_700_000_997 - 61, 0] {
        let seconds = [&plain[..], &[wrong]].concat();
        let capture = at_seconds(&folder, "wrong.pcap", &seconds);
        let messages = audit(&folder, &[&capture]);
        assert!(messages.contains(WRONG), "{wrong}: {messages}");
        let path = folder.path("lines");
        let gaps: Vec<_> = activities(&path).into_iter().map(|(_, details)| details).collect();
        assert_eq!(gaps.len(), 1, "{wrong}: {gaps:?}");
        assert_eq!(gaps[0]["gap"], "packet_times", "{wrong}");
        assert_eq!(counts(&folder, &capture), expected, "{wrong}");
    }
}

/// A capture continues in the next one, whose packets belong to the same records.
#[test]
fn a_wrong_time_at_the_end_of_a_capture_ends_no_flow() {
    let folder = Folder::new();
    let first = at_seconds(&folder, "a.pcap", &[1_700_000_000, 1_700_000_001, u32::MAX]);
    let second = at_seconds(&folder, "b.pcap", &[1_700_000_002, 1_700_000_003]);
    let messages = audit(&folder, &[&first, &second]);
    assert!(messages.contains(WRONG), "{messages}");
    let lines = lines(&folder.path("lines"));
    let packets = lines.iter().filter_map(|line| line.get("source_packets")?.as_u64());
    assert_eq!(packets.collect::<Vec<_>>(), [5]);
}

#[test]
fn a_pause_before_the_last_packet_is_no_wrong_time() {
    let folder = Folder::new();
    for seconds in [&[0, 1, 600][..], &[0, 1, 80_000], &[0, 120, 240, 360], &[0, 9000], &[0]] {
        let at: Vec<_> = seconds.iter().map(|second| 1_700_000_000 + second).collect();
        let capture = at_seconds(&folder, "pause.pcap", &at);
        let messages = audit(&folder, &[&capture]);
        assert!(!messages.contains("impossible times"), "{seconds:?}: {messages}");
        // Each side of a pause has its records.
        let pauses = seconds.windows(2).filter(|pair| pair[1] - pair[0] > 60).count();
        assert_eq!(counts(&folder, &capture).len(), 1 + pauses, "{seconds:?}");
    }
}

/// The samples of a collection have nothing to do with each other.
#[test]
fn the_only_packets_of_captures_have_no_wrong_times() {
    let folder = Folder::new();
    let seconds = [1_700_000_000, 1_000_000_000, 1_900_000_000];
    let file = |second: u32| at_seconds(&folder, &format!("{second}.pcap"), &[second]);
    let [one, two, three] = seconds.map(file);
    let messages = audit(&folder, &[&one, &two, &three]);
    assert!(!messages.contains("impossible times"), "{messages}");
}
