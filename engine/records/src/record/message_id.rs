//! `message_id`: UUIDs of version 7 (RFC 9562 §5.7), made without coordination.
//!
//! Version 7 was chosen over 8 because its ids sort by time and every store supports them. The 74
//! bits after the time are a 32-bit counter, which grows by one per record and keeps the order
//! within a millisecond (§6.2, method 1, without its reset), and 42 bits drawn once for each
//! writer. Two ids are equal only if two writers drew the same 42 bits and had the same count in
//! the same millisecond. One writer repeats an id only after 2³² records in a millisecond, even if
//! its clock is set back.

use super::value::Uuid;

/// Number of bytes after which all ids of one writer are equal: its random bits follow.
pub const OWN_BYTES: usize = 11;

/// Makes the ids of one writer.
#[derive(Clone, Debug)]
pub struct MessageIds {
    /// Only the lowest 42 bits are used.
    random: u64,
    counter: u32,
}

const NS_PER_MS: i64 = 1_000_000;

impl MessageIds {
    /// `random` must be drawn anew for every writer.
    pub const fn new(random: u64) -> Self {
        Self { random, counter: 0 }
    }

    #[inline]
    pub fn next(&mut self, now_ns: i64) -> Uuid {
        self.counter = self.counter.wrapping_add(1);
        let counter = u64::from(self.counter);
        let milliseconds = (now_ns.max(0) / NS_PER_MS) as u64;
        let high = milliseconds << 16 | 0x7000 | counter >> 20;
        let low = 0b10 << 62 | (counter & 0xf_ffff) << 42 | self.random & ((1 << 42) - 1);
        Uuid((u128::from(high) << 64 | u128::from(low)).to_be_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(uuid: Uuid) -> String {
        let mut text = [0; Uuid::TEXT_LENGTH];
        uuid.write_to(&mut text);
        String::from_utf8(text.to_vec()).unwrap()
    }

    #[test]
    fn ids_are_version_7_unique_and_ordered() {
        let mut ids = MessageIds::new(u64::MAX);
        let now = 1_761_118_306_905_224_659;
        let first = text(ids.next(now));
        assert_eq!(first, "019a0ad4-c259-7000-8000-07ffffffffff");
        let mut last = first;
        for _ in 0..100_000 {
            let next = text(ids.next(now));
            assert!(next > last, "{next} after {last}");
            assert_eq!(&next[14..15], "7");
            last = next;
        }
        assert!(text(ids.next(now + NS_PER_MS)) > last);
    }

    #[test]
    fn ids_of_one_writer_differ_in_their_own_bytes_alone() {
        let mut ids = MessageIds::new(0x2a5_5aa5_5aa5);
        let first = ids.next(0).0;
        for now in (0..10_000).map(|number| number * 7_777_777) {
            let next = ids.next(now).0;
            assert_eq!(next[OWN_BYTES..], first[OWN_BYTES..]);
            assert_ne!(next[..OWN_BYTES], first[..OWN_BYTES]);
        }
    }
}
