//! Management records: 128 bytes, at the beginning, at intervals and at the end of a stream.

use panoptes_records::flow::Cause;

use super::words::ArgusWordWriter;
use super::{SourceId, Version};

/// Length in bytes of a management record.
const BYTES: usize = 128;
const KIND: u8 = 0x80;
/// What readers know a stream by (`ARGUS_COOKIE`).
const COOKIE: u32 = 0xe571_2dcb;
/// The same of version 5.
const COOKIE_5: u32 = 0xe571_50cb;

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
    /// Idle connections that are remembered.
    pub fallow: u32,
    /// Interfaces that are open.
    pub interfaces: u32,
    pub clients: u32,
}

impl Management {
    /// The record that begins a stream. `now_ns` is the time in nanoseconds since 1970.
    pub fn first(&self, now_ns: i64) -> [u8; BYTES] {
        let interim = Interim { since_ns: self.begin_ns, now_ns, ..Interim::default() };
        self.write(0x10, COOKIE, &interim)
    }

    /// A record of version 5. `cause` is its place in the stream: at the beginning, at an interval,
    /// at the end.
    pub fn five(&self, cause: Cause, interim: &Interim) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        // The times of version 3 are microseconds.
        let mut words = ArgusWordWriter::new(&mut bytes, Version::Three);
        words.bytes(&[KIND | Version::Five as u8, cause as u8, 0, 0]);
        let kind = match self.source_id {
            SourceId::Address6(_) => 0x0060_0000,
            SourceId::Uuid(_) => 0x00a0_0000,
            _ => self.kind(),
        };
        Self::write_head(&mut words, kind, COOKIE_5, interim);
        words.bytes(&[Version::Five as u8, 0, self.link, 0]);
        // Since 5.0.3; before, and in clients, the drift of the clock.
        self.write_counts(&mut words, interim, [interim.interfaces, interim.fallow]);
        words.bytes(&self.source_id.code_5().1);
        words.number(u32::MAX); // No record follows within this one.
        let length = words.finish();
        debug_assert_eq!(length, Some(BYTES), "the parts add up to a record");
        bytes
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
        let mut words = ArgusWordWriter::new(&mut bytes, Version::Three);
        words.bytes(&[KIND | Version::Three as u8, cause, 0, 0]);
        Self::write_head(&mut words, self.kind(), id, interim);
        words.bytes(&[Version::Three as u8, 0, self.link, 0]);
        self.write_counts(&mut words, interim, [0; 2]); // The drift of the clock.
        words.bytes(&[0; 12]);
        words.bytes(&if cause == 0x10 { self.source_id.code().1 } else { [0; 4] });
        words.number(u32::MAX); // No record follows within this one.
        let length = words.finish();
        debug_assert_eq!(length, Some(BYTES), "the parts add up to a record");
        bytes
    }

    /// The bit for the kind of the id (`ARGUS_IDIS_*`).
    const fn kind(&self) -> u32 {
        match self.source_id {
            SourceId::None | SourceId::Address(_) => 0x0080_0000,
            // Four of the 16 bytes are left.
            SourceId::Number(_) | SourceId::Address6(_) | SourceId::Uuid(_) => 0x0040_0000,
            SourceId::Text(_) => 0x0020_0000,
        }
    }

    /// What comes before the version.
    fn write_head(words: &mut ArgusWordWriter<'_>, kind: u32, id: u32, interim: &Interim) {
        words.number(kind);
        words.number(id);
        words.long(0); // The network and the mask of the interface.
        words.number(interim.sequence);
        words.time(interim.since_ns);
        words.time(interim.now_ns);
    }

    /// What comes behind it. `other` is what the versions have between the counters.
    fn write_counts(&self, words: &mut ArgusWordWriter<'_>, interim: &Interim, other: [u32; 2]) {
        words.short(self.flow_interval_s);
        words.short(self.interval_s);
        words.long(interim.packets);
        words.long(interim.bytes);
        for number in other {
            words.number(number);
        }
        for number in [interim.records, interim.flows, interim.dropped, interim.tracked, 0] {
            words.number(number);
        }
        words.number(interim.clients);
        words.long(0); // Buffers, and bytes of memory.
        words.short(self.user_bytes);
        words.short(self.user_bytes);
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

    #[test]
    fn version_5_is_that_of_argus_5() {
        // What argus 5.0.2 wrote with `-X -e 10.1.0.1`, but for its times and its sequence number.
        let management = Management {
            source_id: SourceId::Address(0x0a01_0001),
            begin_ns: 0x6b07_fa57 * 1_000_000_000,
            flow_interval_s: 5,
            interval_s: 60,
            ..Management::default()
        };
        let mut expected = [0; BYTES];
        for (at, word) in [
            (0, 0x8510_0020_u32),
            (4, 0x0080_0000),
            (8, 0xe571_50cb),
            (20, 1),
            (24, 0x6b07_fa57),
            (32, 0x6b07_fa57),
            (40, 0x0500_0000),
            (44, 0x0005_003c),
            (108, 0x0a01_0001),
            (124, u32::MAX),
        ] {
            expected[at..at + 4].copy_from_slice(&word.to_be_bytes());
        }
        let now_ns = management.begin_ns;
        let interim = Interim { since_ns: now_ns, now_ns, sequence: 1, ..Interim::default() };
        assert_eq!(management.five(Cause::Start, &interim), expected);
        let ids =
            [(SourceId::Uuid([7; 16]), 0x00a0_0000), (SourceId::Address6([7; 16]), 0x0060_0000)];
        for (source_id, kind) in ids {
            let mut expected = expected;
            expected[4..8].copy_from_slice(&u32::to_be_bytes(kind));
            expected[108..124].fill(7);
            let management = Management { source_id, ..management };
            assert_eq!(management.five(Cause::Start, &interim), expected);
        }
        // What argus 5.0.3 counts, by the places of `struct ArgusMarStruct` (include/argus_out.h).
        let interim = Interim { interfaces: 2, fallow: 0x0102_0304, tracked: 7, ..interim };
        expected[1] = 0x20;
        for (at, number) in [(64, 2_u32), (68, 0x0102_0304), (84, 7)] {
            expected[at..at + 4].copy_from_slice(&number.to_be_bytes());
        }
        assert_eq!(management.five(Cause::Status, &interim), expected);
        // Argus 3 has the drift of the clock there, which is not measured.
        assert_eq!(management.interim(&interim)[64..72], [0; 8]);
    }
}
