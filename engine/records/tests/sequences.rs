//! Sizes and times of a flow's first packets.

use panoptes_records::flow::FlowDirection::{self, FromDestination, FromSource};
use panoptes_records::flow::{SEQUENCE_PACKETS_MAX, Sequence};
use proptest::prelude::*;

const START_NS: i64 = 1_700_000_000_000_000_000;

fn packets(sequence: &Sequence) -> Vec<(u16, FlowDirection, u32)> {
    sequence.packets().map(|packet| (packet.size, packet.direction, packet.gap_us)).collect()
}

#[test]
fn sizes_directions_and_times_are_kept() {
    let mut sequence = Sequence::default();
    assert_eq!(packets(&sequence), []);
    sequence.push(517, FromSource, START_NS);
    sequence.push(1400, FromDestination, START_NS + 20_000_999);
    sequence.push(0, FromDestination, START_NS + 20_001_999);
    sequence.push(70_000, FromSource, START_NS + 7_200_000_000_000);
    sequence.push(1, FromSource, START_NS);
    let expected = [
        (517, FromSource, 0),
        (1400, FromDestination, 20_000),
        (0, FromDestination, 1),
        (65_535, FromSource, u32::MAX),
        (1, FromSource, 0),
    ];
    assert_eq!(packets(&sequence), expected);
    assert!(size_of::<Sequence>() <= 200, "a part of each flow: {}", size_of::<Sequence>());
}

proptest! {
    #[test]
    fn the_first_packets_are_kept(
        sent in prop::collection::vec((any::<u16>(), any::<bool>(), any::<i64>()), 0..60),
    ) {
        let mut sequence = Sequence::default();
        for &(size, is_answer, time_ns) in &sent {
            let direction = if is_answer { FromDestination } else { FromSource };
            sequence.push(size.into(), direction, time_ns);
        }
        let kept = packets(&sequence);
        prop_assert_eq!(kept.len(), sent.len().min(SEQUENCE_PACKETS_MAX));
        for (packet, &(size, is_answer, _)) in kept.iter().zip(&sent) {
            let direction = if is_answer { FromDestination } else { FromSource };
            prop_assert_eq!((packet.0, packet.1), (size, direction));
        }
        for (packet, times) in kept.iter().skip(1).zip(sent.windows(2)) {
            let gap_us = (i128::from(times[1].2) - i128::from(times[0].2)).max(0) / 1000;
            prop_assert_eq!(i128::from(packet.2), gap_us.min(u32::MAX.into()));
        }
    }
}
