//! One direction of a flow: where the reading of its stream is, and pieces of the stream.

use panoptes_decoders::packet::Ip;
use panoptes_decoders::packet::transport::{self, flag};
use panoptes_records::flow::application::ApplicationProtocol;

use super::start::Start;

/// The most segments of a direction in which the beginning of a protocol is searched.
pub(super) const SEARCHED_SEGMENTS: u8 = 32;
/// How much the time to live of a segment may differ from that of its sender's first one: feints
/// that must not reach the receiver have a small one.
const TTL_DIFFERENCE_MAX: u8 = 8;

/// Where the reading of one direction is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum DirectionStage {
    #[default]
    New,
    /// The number of the first byte is known.
    Begun,
    /// Pieces are in this buffer.
    Collecting(u16),
    Done,
}

/// One direction of a flow.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct DirectionProgress {
    /// The sequence number of the first byte of all.
    pub(super) first: u32,
    /// That of the first byte of what is read: more than `first` behind something else.
    pub(super) base: u32,
    /// The last number that the other end has acknowledged.
    pub(super) acknowledged: u32,
    /// Length in bytes of the data that came with the SYN (RFC 7413).
    pub(super) syn_bytes: u16,
    /// Whether the other end has answered the SYN with this number.
    pub(super) is_answered: bool,
    /// Segments in which the beginning of a protocol was searched.
    pub(super) searched: u8,
    /// The time to live of the first packet of all; 0 if this end has sent none.
    pub(super) ttl: u8,
    pub(super) stage: DirectionStage,
    /// What was read from `base`.
    pub(super) known: Option<ApplicationProtocol>,
    /// Whether the receiver may have taken something else from there.
    pub(super) is_doubtful: bool,
    /// The identification of the last packet in fragments, and where the data behind the header of
    /// IP lie. That is a number of the stream, or an offset in a message of DTLS.
    pub(super) parts: Option<(u32, u32)>,
}

impl DirectionProgress {
    pub(super) fn begun(base: u32) -> Self {
        Self { first: base, base, stage: DirectionStage::Begun, ..Self::default() }
    }

    pub(super) const fn has_sent(&self) -> bool {
        self.ttl > 0
    }

    /// Whether another SYN may begin another stream.
    pub(super) fn may_begin_again(&self) -> bool {
        let is_unread = matches!(self.stage, DirectionStage::New | DirectionStage::Begun);
        !self.is_answered && (is_unread || self.syn_bytes > 0)
    }

    /// Whether no segment with data can change what is known.
    pub(super) fn is_over(&self) -> bool {
        self.stage == DirectionStage::Done && self.searched > SEARCHED_SEGMENTS
    }
}

/// A piece of a stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct StreamPiece<'a> {
    pub(super) number: u32,
    pub(super) data: &'a [u8],
    pub(super) ip: &'a Ip<'a>,
    /// The time to live of its sender's first packet.
    pub(super) ttl: u8,
}

impl StreamPiece<'_> {
    /// The number of the byte where a protocol begins.
    pub(super) const fn place(&self, start: Start) -> u32 {
        self.number.wrapping_add(start.at as u32)
    }

    /// Whether the receiver takes it, as far as that can be seen. A feint in front of a sensor has
    /// a wrong checksum, lacks its flag, or does not live long enough.
    pub(super) fn is_sure(&self) -> bool {
        transport::tcp_flags(self.ip.payload) & (flag::ACK | flag::SYN) != 0
            && self.ttl.abs_diff(self.ip.ttl) <= TTL_DIFFERENCE_MAX
            && transport::has_right_checksum(self.ip)
    }
}
