//! Management records: 128 bytes, at the beginning, at intervals and at the end of a stream.

use super::words::Words;
use super::{SourceId, VERSION};

/// Length in bytes of a management record.
const BYTES: usize = 128;
const KIND: u8 = 0x80;
/// What readers know a stream by (`ARGUS_COOKIE`).
const COOKIE: u32 = 0xe571_2dcb;

/// What all management records of a stream have in common.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Management {
    pub source_id: SourceId,
    /// When the sensor began, in nanoseconds since 1970.
    pub begin_ns: i64,
    /// The LINKTYPE of the interface, or 0.
    pub link: u8,
    /// Seconds between the records of a flow, and between management records.
    pub flow_interval_s: u16,
    pub interval_s: u16,
    /// Bytes of user data that are kept of each end.
    pub user_bytes: u16,
}

/// What has happened since the last management record.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Interim {
    /// When the last one was written, and when this one is, in nanoseconds since 1970.
    pub since_ns: i64,
    pub now_ns: i64,
    /// The last sequence number of a flow record.
    pub sequence: u32,
    pub packets: u64,
    pub bytes: u64,
    /// Flow records written.
    pub records: u32,
    /// Flows begun.
    pub flows: u32,
    /// Packets lost.
    pub dropped: u32,
    /// Flows that are tracked.
    pub tracked: u32,
    pub clients: u32,
}

impl Management {
    /// The record that begins a stream. `now_ns` is the time in nanoseconds since 1970.
    pub fn first(&self, now_ns: i64) -> [u8; BYTES] {
        let interim = Interim { since_ns: self.begin_ns, now_ns, ..Interim::default() };
        self.write(0x10, COOKIE, &interim)
    }

    /// A record at an interval.
    pub fn interim(&self, interim: &Interim) -> [u8; BYTES] {
        self.write(0x20, u32::from_be_bytes(self.source_id.code().1), interim)
    }

    /// The record at the end.
    pub fn last(&self, interim: &Interim) -> [u8; BYTES] {
        self.write(0x30, u32::from_be_bytes(self.source_id.code().1), interim)
    }

    fn write(&self, cause: u8, id: u32, interim: &Interim) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        let mut words = Words::new(&mut bytes);
        words.bytes(&[KIND | VERSION, cause, 0, 0]);
        words.number(match self.source_id {
            SourceId::None | SourceId::Address(_) => 0x0080_0000,
            SourceId::Number(_) => 0x0040_0000,
            SourceId::Text(_) => 0x0020_0000,
        });
        words.number(id);
        words.long(0); // The network and the mask of the interface.
        words.number(interim.sequence);
        words.time(interim.since_ns);
        words.time(interim.now_ns);
        words.bytes(&[VERSION, 0, self.link, 0]);
        words.short(self.flow_interval_s);
        words.short(self.interval_s);
        words.long(interim.packets);
        words.long(interim.bytes);
        words.long(0); // The drift of the clock.
        for number in [interim.records, interim.flows, interim.dropped, interim.tracked, 0] {
            words.number(number);
        }
        words.number(interim.clients);
        words.long(0); // Buffers, and bytes of memory.
        words.short(self.user_bytes);
        words.short(self.user_bytes);
        words.bytes(&[0; 12]);
        words.bytes(&if cause == 0x10 { self.source_id.code().1 } else { [0; 4] });
        words.number(u32::MAX); // No record follows within this one.
        let length = words.finish();
        debug_assert_eq!(length, Some(BYTES), "the parts add up to a record");
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_record_is_that_of_argus() {
        // What argus 3.0.8.2 wrote, but for its times, and what its clients were seen to read.
        let management = Management {
            begin_ns: 0x6553_f100 * 1_000_000_000,
            flow_interval_s: 5,
            interval_s: 60,
            ..Management::default()
        };
        let mut expected = Vec::new();
        for word in [
            0x8310_0020_u32,
            0x0080_0000,
            0xe571_2dcb,
            0,
            0,
            0,
            0x6553_f100,
            0,
            0x6553_f100,
            0,
            0x0300_0000,
            0x0005_003c,
        ] {
            expected.extend(word.to_be_bytes());
        }
        expected.extend([0; 72]);
        expected.extend([0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(management.first(0x6553_f100 * 1_000_000_000), *expected);
    }
}
