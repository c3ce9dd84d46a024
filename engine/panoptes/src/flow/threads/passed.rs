//! Packets that one thread has received, and another one counts: the kernel could not open their
//! tunnels, or they are error messages about a flow of the other one.

use panoptes_decoders::packet::mirror::{MirrorPacket, Outer, decode_mirrored};
use panoptes_decoders::packet::{Packet, Tunnels, decode};

use super::batches::ThreadBatch;

/// Bytes of a batch.
pub(super) const PACKET_BATCH_BYTES: usize = 32 << 10;

/// A packet without its bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct PassedPacket {
    pub(super) stream: usize,
    /// Nanoseconds since 1970.
    pub(super) time_ns: i64,
    pub(super) link: u16,
    /// Its length in bytes on the wire.
    pub(super) length: u32,
    /// What was before it, if it was mirrored in a datagram.
    pub(super) outer: Option<Outer>,
    /// Another thread has counted it: it is an error message about a flow.
    pub(super) is_counted: bool,
}

impl PassedPacket {
    /// Decodes the packet.
    pub(super) fn decode<'a>(&self, bytes: &'a [u8], tunnels: Tunnels) -> Packet<'a> {
        let Self { link, length, .. } = *self;
        match self.outer {
            None => decode(link, bytes, length, tunnels),
            Some(outer) => decode_mirrored(&MirrorPacket { link, bytes, length, outer }, tunnels),
        }
    }
}

/// A batch of packets.
#[derive(Debug, Default)]
pub(super) struct PassedBatch {
    bytes: Vec<u8>,
    /// Each with the end of its bytes.
    packets: Vec<(PassedPacket, usize)>,
}

impl ThreadBatch for PassedBatch {
    /// Its lists double when they grow. Packets as they come are far shorter than a batch.
    const BYTES: usize = 2 * PACKET_BATCH_BYTES;

    fn is_full(&self) -> bool {
        self.bytes.len() + self.packets.len() * size_of::<PassedPacket>() >= PACKET_BATCH_BYTES
    }

    fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.packets.clear();
    }
}

impl PassedBatch {
    pub(super) fn push(&mut self, facts: PassedPacket, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.packets.push((facts, self.bytes.len()));
    }

    /// Adds one that others can do without, unless there are many.
    pub(super) fn push_if_room(&mut self, facts: PassedPacket, bytes: &[u8]) {
        if !self.is_full() {
            self.push(facts, bytes);
        }
    }

    /// The packets with their bytes, in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (PassedPacket, &[u8])> {
        let mut begin = 0;
        self.packets.iter().map(move |(facts, end)| {
            let bytes = &self.bytes[begin..*end];
            begin = *end;
            (*facts, bytes)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_keep_their_bytes() {
        let facts = |length: usize| PassedPacket {
            stream: 0,
            time_ns: length as i64,
            link: 1,
            length: length as u32,
            outer: None,
            is_counted: false,
        };
        let mut passed = PassedBatch::default();
        for _ in 0..2 {
            for length in [3, 0, 5] {
                passed.push(facts(length), &vec![length as u8; length]);
            }
            let lengths: Vec<_> = passed.iter().map(|(facts, _)| facts.length).collect();
            assert_eq!(lengths, [3, 0, 5]);
            for (facts, bytes) in passed.iter() {
                assert_eq!(bytes, vec![facts.length as u8; facts.length as usize]);
            }
            assert!(!passed.is_empty() && !passed.is_full());
            passed.clear();
            assert!(passed.is_empty());
        }
        // Packets without bytes fill it, too.
        while !passed.is_full() {
            passed.push(facts(0), &[]);
        }
        assert!(passed.packets.len() <= PACKET_BATCH_BYTES);
    }
}
