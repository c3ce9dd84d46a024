//! What servers of DNS tell: each answer is reported, even if there are too many.

use crate::recorded::data;
use crate::wire::Wire;

/// The recorded answer for another address.
fn answer(mut answer: Vec<u8>, number: u32) -> Vec<u8> {
    let end = answer.len();
    answer[end - 4..].copy_from_slice(&number.to_be_bytes());
    answer
}

#[test]
fn equal_answers_are_one_until_they_are_reported() {
    let mut wire = Wire::new(4);
    let recorded = data("a");
    for number in [1, 2, 1, 1] {
        wire.dns(&answer(recorded.clone(), number));
    }
    let expected = [("0.0.0.1", 3), ("0.0.0.2", 1)].map(|(text, count)| (text.to_owned(), count));
    assert_eq!(wire.resolutions(), expected);
    wire.dns(&answer(recorded, 1));
    assert_eq!(wire.resolutions(), [("0.0.0.1".to_owned(), 1)]);
    assert_eq!(wire.resolutions(), []);
}

#[test]
fn a_full_table_is_reported_early() {
    let mut wire = Wire::new(4);
    let recorded = data("a");
    for number in 0..(1 << 16) + 10 {
        wire.dns(&answer(recorded.clone(), number));
    }
    assert_eq!(wire.counts().resolutions_overflowed, 1);
    let all = wire.resolutions();
    assert_eq!(all.len(), (1 << 16) + 10);
    assert!(all.iter().all(|(_, count)| *count == 1));
}
