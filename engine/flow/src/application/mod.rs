//! What the data of flows say about their applications, and the sizes of their first packets.
//!
//! Only the beginnings of both directions of a flow are read. A beginning that is in one segment is
//! read where it is; otherwise a [`stream::Buffer`] puts it together. What was found belongs to the
//! flow and goes into each of its records.
//!
//! Memory is reserved for all flows at the start, and used for those that have something.

mod dns;
mod http;
mod passive_dns;
mod pool;
mod quic;
mod reader;
pub(crate) mod settings;
mod ssh;
mod stream;
mod tls;

use panoptes_decoders::application::dtls;
use panoptes_decoders::application::quic::{Kind, LongHeader};
use panoptes_decoders::packet::Ip;
use panoptes_decoders::packet::transport::{self, Tcp as Segment, flag, protocol};
use panoptes_sinks::flow::argus::Extra;
use panoptes_sinks::flow::{Direction, Sequence};
use panoptes_tables::{HashKey, room};

use self::reader::{Reader, Way};
use self::settings::{ApplicationSettings, Protocol};
use self::stream::{Buffers, STREAM_BYTES_MAX, Step};
use crate::reports::Reports;

/// How far behind the beginning of a stream a segment may be before the beginning is given up.
const LATE_BYTES_MAX: u32 = 1 << 16;
/// The most Initial packets of QUIC that are looked at in a flow.
const QUIC_PACKETS_MAX: u8 = 16;
/// The most segments of a direction, behind its beginning, in which a hello of TLS is searched.
const LATER_SEGMENTS: u8 = 32;
/// The most packets of QUIC, or fragments of a hello, in a datagram.
const COALESCED_MAX: usize = 4;
/// Length in bytes of the header of UDP.
const UDP_BYTES: usize = 8;

/// Where the reading of one direction is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Stage {
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
struct End {
    /// The sequence number of the first byte.
    base: u32,
    /// Length in bytes of the data that came with the SYN (RFC 7413).
    syn_bytes: u16,
    /// Whether the other end has answered the SYN with this number.
    is_answered: bool,
    /// Segments that were searched for a hello behind something else.
    searched: u8,
    /// Whether this end has sent a packet.
    has_sent: bool,
    stage: Stage,
}

impl End {
    const fn begun(base: u32) -> Self {
        let stage = Stage::Begun;
        Self { base, syn_bytes: 0, is_answered: false, searched: 0, has_sent: true, stage }
    }

    /// Whether another SYN may begin another stream.
    fn may_begin_again(&self) -> bool {
        let is_unread = matches!(self.stage, Stage::New | Stage::Begun);
        !self.is_answered && (is_unread || self.syn_bytes > 0)
    }
}

/// Where the reading of a flow is.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    ends: [End; 2],
    /// Initial packets of QUIC that were looked at.
    packets: u8,
}

/// The applications of all flows.
#[derive(Debug)]
pub(crate) struct Applications {
    sequence_packets: usize,
    has_protocols: bool,
    flows: Vec<Progress>,
    reader: Reader,
    buffers: Buffers,
    sequences: Vec<Sequence>,
}

impl Applications {
    /// Allocates for so many flows.
    pub(crate) fn new(settings: &ApplicationSettings, capacity: usize, key: HashKey) -> Self {
        let has_sequences = settings.sequence_packets > 0;
        Self {
            sequence_packets: settings.sequence_packets,
            has_protocols: !settings.protocols.is_empty(),
            flows: room::list(capacity),
            reader: Reader::new(settings, capacity, key),
            buffers: Buffers::new(),
            sequences: room::list(if has_sequences { capacity } else { 0 }),
        }
    }

    /// Streams whose beginning was given up because too many others were put together, and how
    /// often there were too many answers of DNS.
    pub(crate) fn overflows(&self) -> (u64, u64) {
        (self.buffers.reclaimed, self.reader.overflows())
    }

    /// Reports the answers of DNS.
    pub(crate) fn report_resolutions(&mut self, reports: &mut impl Reports) {
        self.reader.report_resolutions(reports);
    }

    /// Begins a flow in a slot.
    pub(crate) fn begin(&mut self, flow: u32) {
        while self.flows.len() <= flow as usize {
            self.flows.push(Progress::default());
            if self.sequence_packets > 0 {
                self.sequences.push(Sequence::default());
            }
        }
        let old = std::mem::take(&mut self.flows[flow as usize]);
        for end in old.ends {
            if let Stage::Collecting(buffer) = end.stage {
                self.buffers.give_back(buffer);
            }
        }
        self.reader.clear(flow);
        if let Some(sequence) = self.sequences.get_mut(flow as usize) {
            *sequence = Sequence::default();
        }
    }

    /// Makes the destination of a flow its source. No end has sent data.
    pub(crate) fn turn_round(&mut self, flow: u32) {
        self.flows[flow as usize].ends.reverse();
    }

    /// What is known of a flow.
    pub(crate) fn of(&self, flow: u32) -> Extra<'_> {
        let (application, later_application) = self.reader.get(flow);
        let sequence = self.sequences.get(flow as usize);
        Extra { application, later_application, sequence, ..Extra::default() }
    }

    /// Takes a packet of a flow, and the length of its data on the wire.
    pub(crate) fn packet(
        &mut self,
        flow: u32,
        direction: Direction,
        ip: &Ip<'_>,
        data_length: u32,
        now_ns: i64,
        reports: &mut impl Reports,
    ) {
        if !ip.is_first_fragment() {
            return;
        }
        if let Some(sequence) = self.sequences.get_mut(flow as usize)
            && data_length > 0
            && sequence.packets().len() < self.sequence_packets
        {
            sequence.push(data_length, direction, now_ns);
        }
        if !self.has_protocols {
            return;
        }
        let way = Way::new(flow, direction, ip, now_ns);
        self.flows[flow as usize].ends[way.end].has_sent = true;
        match ip.protocol {
            protocol::TCP => self.segment(way, ip, reports),
            protocol::UDP => {
                self.datagram(way, ip.payload.get(UDP_BYTES..).unwrap_or_default(), reports);
            }
            _ => {}
        }
    }

    fn segment(&mut self, way: Way, ip: &Ip<'_>, reports: &mut impl Reports) {
        let end = &self.flows[way.flow as usize].ends[way.end];
        let is_over = end.stage == Stage::Done && end.searched > LATER_SEGMENTS;
        if is_over && transport::tcp_flags(ip.payload) & flag::SYN == 0 {
            return;
        }
        let Some(segment) = Segment::decode(ip.payload, ip.payload_length) else { return };
        let mut number = segment.sequence;
        if segment.flags & flag::SYN != 0 {
            number = number.wrapping_add(1);
            self.synchronise(way, &segment);
        }
        let end = &mut self.flows[way.flow as usize].ends[way.end];
        if segment.data.is_empty() {
            return;
        }
        end.searched = end.searched.saturating_add(1);
        if end.searched <= LATER_SEGMENTS && self.begins_later_hello(way, segment.data) {
            self.stop(way);
            let end = &mut self.flows[way.flow as usize].ends[way.end];
            (end.base, end.stage) = (number, Stage::Begun);
        }
        let end = &mut self.flows[way.flow as usize].ends[way.end];
        if end.stage == Stage::Done {
            return;
        }
        if end.stage == Stage::New {
            *end = End::begun(number);
        }
        // Before the beginning are only bytes that keep a connection alive.
        let offset = number.wrapping_sub(end.base);
        if offset > LATE_BYTES_MAX {
            if offset < 1 << 31 {
                self.stop(way);
            }
            return;
        }
        if end.stage == Stage::Begun && offset == 0 {
            // The hello at the beginning of a connection is the only one.
            if tls::begins_hello(segment.data) {
                end.searched = LATER_SEGMENTS + 1;
            }
            match self.reader.read(&way, segment.data, reports) {
                Step::Done => self.stop(way),
                Step::Wait(need) => self.collect(way, (0, segment.data), need, reports),
            }
        } else {
            self.collect(way, (offset as usize, segment.data), 1, reports);
        }
    }

    /// Whether a segment begins a hello of TLS behind something else.
    fn begins_later_hello(&mut self, way: Way, data: &[u8]) -> bool {
        if !self.reader.has(Protocol::Tls) || !tls::begins_hello(data) {
            return false;
        }
        match self.flows[way.flow as usize].ends[way.end].stage {
            Stage::Done => true,
            Stage::Collecting(buffer) => {
                let collected = self.buffers.get(buffer).bytes();
                !collected.is_empty() && !tls::is_record(collected)
            }
            Stage::New | Stage::Begun => false,
        }
    }

    /// Takes the numbers of a SYN or a SYN+ACK. Of several SYNs, the one that is answered begins
    /// the stream (RFC 9293 §3.10.7.4): others are of other connections, or feints.
    fn synchronise(&mut self, way: Way, segment: &Segment<'_>) {
        let base = segment.sequence.wrapping_add(1);
        let end = self.flows[way.flow as usize].ends[way.end];
        if end.stage == Stage::New || end.base != base && end.may_begin_again() {
            let syn_bytes = u16::try_from(segment.data_length).unwrap_or(u16::MAX);
            self.begin_again(way.flow, way.end, End { syn_bytes, ..End::begun(base) });
        }
        if segment.flags & flag::ACK == 0 {
            return;
        }
        let (other, base) = (1 - way.end, segment.acknowledgement);
        let end = &mut self.flows[way.flow as usize].ends[other];
        let length = base.wrapping_sub(end.base);
        if end.stage != Stage::New && length <= u32::from(end.syn_bytes) {
            end.is_answered = true;
        } else if end.stage == Stage::Begun || end.may_begin_again() {
            let answered = End { is_answered: true, ..End::begun(base) };
            self.begin_again(way.flow, other, answered);
        }
    }

    /// Begins another stream in place of one whose SYN was not answered.
    fn begin_again(&mut self, flow: u32, end: usize, begun: End) {
        let known = &mut self.flows[flow as usize].ends[end];
        let old = *known;
        *known = End { has_sent: old.has_sent, ..begun };
        if let Stage::Collecting(buffer) = old.stage {
            self.buffers.give_back(buffer);
        }
        if matches!(old.stage, Stage::Collecting(_) | Stage::Done) {
            self.reader.clear(flow);
        }
    }

    /// Adds a piece of a stream and its offset, and reads the stream if there is enough. `need`
    /// counts for the first piece.
    fn collect(
        &mut self,
        way: Way,
        (offset, data): (usize, &[u8]),
        need: usize,
        reports: &mut impl Reports,
    ) {
        let number = self.buffer(way, need);
        let buffer = self.buffers.get(number);
        buffer.write(offset, data);
        if buffer.bytes().len() < usize::from(buffer.need) {
            return;
        }
        match self.reader.read(&way, buffer.bytes(), reports) {
            Step::Wait(need) if !buffer.is_full() => {
                buffer.need = need.min(STREAM_BYTES_MAX) as u16;
            }
            _ => self.stop(way),
        }
    }

    fn datagram(&mut self, way: Way, data: &[u8], reports: &mut impl Reports) {
        if way.is_dns() {
            return self.reader.message(&way, data, reports);
        }
        if self.reader.has(Protocol::Tls) && dtls::is_handshake(data) {
            return self.fragments(way, data);
        }
        if !self.reader.has(Protocol::Quic) {
            return;
        }
        let mut rest = data;
        for _ in 0..COALESCED_MAX {
            let progress = &mut self.flows[way.flow as usize];
            let Some(header) = LongHeader::decode(rest) else { break };
            if matches!(header.kind, Kind::Initial { .. }) {
                if progress.packets >= QUIC_PACKETS_MAX {
                    break;
                }
                progress.packets += 1;
                self.initial(way, &header, rest);
            }
            rest = header.rest;
        }
    }

    /// Takes the fragments of a hello of DTLS.
    fn fragments(&mut self, way: Way, data: &[u8]) {
        for fragment in dtls::fragments(data).filter(tls::is_of_hello).take(COALESCED_MAX) {
            if self.flows[way.flow as usize].ends[way.end].stage == Stage::Done {
                return;
            }
            let number = self.buffer(way, 1);
            let buffer = self.buffers.get(number);
            // The first hello that is seen; another one has another number.
            let sequence = fragment.sequence.to_be_bytes();
            if buffer.id().is_empty() {
                buffer.set_id(&sequence);
                buffer.write(0, &tls::header_of(&fragment));
            }
            if buffer.id() == sequence {
                buffer.write(tls::MESSAGE_HEADER + fragment.offset as usize, fragment.data);
            }
            let step = self.reader.datagrams(&way, buffer.bytes());
            if step == Step::Done || buffer.is_full() {
                self.stop(way);
            }
        }
    }

    /// Takes an Initial packet of QUIC, if it is the client's.
    fn initial(&mut self, way: Way, header: &LongHeader<'_>, packet: &[u8]) {
        let end = self.flows[way.flow as usize].ends[way.end];
        let mut room = [0; quic::PACKET_BYTES_MAX];
        // The first packet's id counts until the server asks for another one.
        let frames = match end.stage {
            Stage::Done => return,
            Stage::Collecting(buffer) => {
                let id = self.buffers.get(buffer).id();
                quic::open(header, packet, id, &mut room)
            }
            _ => None,
        };
        let is_same = frames.is_some();
        let mut other = [0; quic::PACKET_BYTES_MAX];
        let Some(frames) =
            frames.or_else(|| quic::open(header, packet, header.destination_id, &mut other))
        else {
            return;
        };
        let number = self.buffer(way, 1);
        let buffer = self.buffers.get(number);
        if !is_same {
            buffer.set_id(header.destination_id);
        }
        quic::pieces(frames, |offset, data| buffer.write(offset, data));
        if self.reader.hello(&way, buffer.bytes(), header.version) || buffer.is_full() {
            self.flows[way.flow as usize].packets = QUIC_PACKETS_MAX;
            self.stop(way);
        }
    }

    /// The buffer of a direction.
    fn buffer(&mut self, way: Way, need: usize) -> u16 {
        let end = &self.flows[way.flow as usize].ends[way.end];
        if let Stage::Collecting(buffer) = end.stage {
            return buffer;
        }
        let stream = way.flow * 2 + way.end as u32;
        let flows = &self.flows;
        let is_silent =
            |stream: u32| !flows[stream as usize / 2].ends[1 - stream as usize % 2].has_sent;
        let (number, lost) = self.buffers.take(stream, way.source(), is_silent);
        self.flows[way.flow as usize].ends[way.end].stage = Stage::Collecting(number);
        if let Some(lost) = lost {
            self.flows[lost as usize / 2].ends[lost as usize % 2].stage = Stage::Done;
        }
        self.buffers.get(number).need = need.min(STREAM_BYTES_MAX) as u16;
        number
    }

    /// Nothing more of a direction is read.
    fn stop(&mut self, way: Way) {
        let end = &mut self.flows[way.flow as usize].ends[way.end];
        let before = std::mem::replace(&mut end.stage, Stage::Done);
        if let Stage::Collecting(buffer) = before {
            self.buffers.give_back(buffer);
        }
    }
}
