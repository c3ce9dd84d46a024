//! Data of any bytes, and recorded data that was changed: nothing panics, and each result is a part
//! of the data.

use panoptes_decoders::application::dns::{DnsMessage, NAME_TEXT_MAX};
use proptest::prelude::*;

use super::properties::{READERS, unescaped};
use super::{quic, recorded};

/// Uses each decoder, and reads all that it gives. Returns how many of them knew the data.
fn read_all(data: &[u8]) -> usize {
    READERS.iter().map(|(_, read)| read(data)).sum()
}

#[test]
fn each_protocol_knows_a_sample() {
    let mut samples: Vec<_> = recorded::all().into_iter().map(|(_, data)| data).collect();
    samples.push(quic::client_initial());
    for (name, read) in READERS {
        assert!(samples.iter().any(|data| read(data) > 0), "{name}");
    }
}

#[test]
fn each_recorded_part_is_known() {
    for (name, data) in recorded::all() {
        assert!(read_all(&data) > 0, "{name}");
        for length in 0..data.len() {
            read_all(&data[..length]);
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read(data in prop::collection::vec(any::<u8>(), 0..600)) {
        read_all(&data);
    }

    /// Small numbers make lengths that fit.
    #[test]
    fn small_bytes_are_read(data in prop::collection::vec(0_u8..8, 0..200)) {
        read_all(&data);
    }

    #[test]
    fn changed_data_is_read(
        number in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        length in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let all = recorded::all();
        let mut data = all[number.index(all.len())].1.clone();
        for (place, byte) in changes {
            let at = place.index(data.len());
            data[at] = byte;
        }
        if is_cut {
            data.truncate(length.index(data.len()));
        }
        read_all(&data);
    }

    #[test]
    fn names_of_any_labels_are_written(
        labels in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
    ) {
        let mut message = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in &labels {
            message.push(label.len() as u8);
            message.extend(label);
        }
        message.extend([0, 0, 1, 0, 1]);
        let message = DnsMessage::decode(&message).expect("a message");
        let name = message.question().expect("a question").name;
        let mut buffer = [0; NAME_TEXT_MAX];
        prop_assert_eq!(unescaped(name.write(&mut buffer).expect("a name")), labels);
    }
}
