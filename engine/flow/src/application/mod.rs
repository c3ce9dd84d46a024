//! What the data of flows say about their applications, and the sizes of their first packets.
//!
//! Only the beginnings of both directions of a flow are read. A beginning that is in one segment is
//! read where it is; otherwise a [`stream::Buffer`] puts it together. What was found belongs to the
//! flow and goes into each of its records.
//!
//! Memory is reserved for all flows at the start, and used for those that have something.

mod buffers;
mod dns;
mod end;
mod http;
mod passive_dns;
mod pool;
mod quic;
mod reader;
pub(crate) mod settings;
mod ssh;
mod start;
mod stream;
mod tls;

use panoptes_decoders::application::dtls;
use panoptes_decoders::application::quic::{LongHeader, LongPacketKind};
use panoptes_decoders::packet::Ip;
use panoptes_decoders::packet::transport::{self, Tcp as Segment, UDP_BYTES, flag, protocol};
use panoptes_records::flow::application::ApplicationProtocol;
use panoptes_records::flow::{Extra, FlowDirection, Sequence};
use panoptes_tables::{HashKey, room};

use self::buffers::StreamBuffers;
use self::end::{DirectionProgress, DirectionStage, SEARCHED_SEGMENTS, StreamPiece};
use self::reader::{ApplicationReader, PacketContext};
use self::settings::ApplicationSettings;
use self::start::Start;
use self::stream::{STREAM_BYTES_MAX, StreamDemand, StreamReader};
use crate::reports::Reports;
use crate::tcp::is_before;

/// The protocols whose first message stands at the beginning of a TCP stream, in the order in which
/// they are tried. HTTP is the last one: each word may be its method.
const STREAM_READERS: &[StreamReader] = &[ssh::READER, http::READER];
/// The protocols that the code here and in [`reader`] recognises otherwise: by a port, in a
/// datagram, or behind other data of a stream.
const OTHER_PROTOCOLS: &[ApplicationProtocol] =
    &[ApplicationProtocol::Dns, ApplicationProtocol::Quic, ApplicationProtocol::Tls];

const _: () = assert!(
    STREAM_READERS.len() + OTHER_PROTOCOLS.len() == ApplicationProtocol::ALL.len(),
    "each protocol of the table is in one of the two lists"
);

/// How far behind the beginning of a stream a segment may be before the beginning is given up.
const LATE_BYTES_MAX: u32 = 1 << 16;
/// The most Initial packets of QUIC that are looked at in a flow.
const QUIC_PACKETS_MAX: u8 = 16;
/// The most packets of QUIC, or fragments of a hello, in a datagram.
const COALESCED_MAX: usize = 4;

/// Where the reading of a flow is.
#[derive(Clone, Copy, Debug, Default)]
struct ApplicationProgress {
    ends: [DirectionProgress; 2],
    /// Initial packets of QUIC that were looked at.
    packets: u8,
}

/// The applications of all flows.
#[derive(Debug)]
pub(crate) struct Applications {
    sequence_packets: usize,
    has_protocols: bool,
    flows: Vec<ApplicationProgress>,
    reader: ApplicationReader,
    buffers: StreamBuffers,
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
            reader: ApplicationReader::new(settings, capacity, key),
            buffers: StreamBuffers::new(key),
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
            self.flows.push(ApplicationProgress::default());
            if self.sequence_packets > 0 {
                self.sequences.push(Sequence::default());
            }
        }
        let old = std::mem::take(&mut self.flows[flow as usize]);
        for end in old.ends {
            if let DirectionStage::Collecting(buffer) = end.stage {
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

    /// Returns the applications of a flow, and its sequence of packets.
    pub(crate) fn of(&self, flow: u32) -> Extra<'_> {
        let (application, later_application) = self.reader.get(flow);
        let sequence = self.sequences.get(flow as usize);
        Extra { application, later_application, sequence, ..Extra::default() }
    }

    /// Takes a packet of a flow, and the length of its data on the wire.
    pub(crate) fn packet(
        &mut self,
        flow: u32,
        direction: FlowDirection,
        ip: &Ip<'_>,
        data_length: u32,
        now_ns: i64,
        reports: &mut impl Reports,
    ) {
        if !ip.is_first_fragment() {
            return self.later_fragment(flow, direction, ip, now_ns, reports);
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
        let way = PacketContext::new(flow, direction, ip, now_ns);
        let end = &mut self.flows[flow as usize].ends[way.end];
        if end.ttl == 0 {
            end.ttl = ip.ttl.max(1);
        }
        match ip.protocol {
            protocol::TCP => self.segment(way, ip, reports),
            protocol::UDP => self.datagram(way, ip, reports),
            _ => {}
        }
    }

    /// Takes what lies behind the first fragment of a packet, if that came first.
    fn later_fragment(
        &mut self,
        flow: u32,
        direction: FlowDirection,
        ip: &Ip<'_>,
        now_ns: i64,
        reports: &mut impl Reports,
    ) {
        let Some(fragment) = ip.fragment.filter(|_| self.has_protocols) else { return };
        let way = PacketContext::new(flow, direction, ip, now_ns);
        let end = *self.end(way);
        let Some((_, base)) = end.parts.filter(|(id, _)| *id == fragment.id) else { return };
        let number = base.wrapping_add(u32::from(fragment.offset));
        match (ip.protocol, end.stage) {
            (protocol::TCP, _) => {
                let piece = StreamPiece { number, data: ip.payload, ip, ttl: end.ttl };
                self.piece(way, &piece, reports);
            }
            (protocol::UDP, DirectionStage::Collecting(buffer)) => {
                self.buffers.get(buffer).write(number as usize, ip.payload, true);
                self.read_datagrams(way, buffer);
            }
            _ => {}
        }
    }

    fn end(&mut self, way: PacketContext) -> &mut DirectionProgress {
        &mut self.flows[way.flow as usize].ends[way.end]
    }

    fn segment(&mut self, way: PacketContext, ip: &Ip<'_>, reports: &mut impl Reports) {
        if self.end(way).is_over() && transport::tcp_flags(ip.payload) & flag::SYN == 0 {
            return;
        }
        let Some(segment) = Segment::decode(ip.payload, ip.payload_length) else { return };
        let mut number = segment.sequence;
        if segment.flags & flag::SYN != 0 {
            number = number.wrapping_add(1);
            self.synchronise(way, &segment, ip.ttl);
        }
        if segment.flags & flag::ACK != 0 {
            let other = &mut self.flows[way.flow as usize].ends[1 - way.end];
            other.acknowledged = segment.acknowledgement;
        }
        if segment.data.is_empty() {
            return;
        }
        let end = self.end(way);
        if end.stage == DirectionStage::New {
            *end = DirectionProgress { ttl: end.ttl, ..DirectionProgress::begun(number) };
        }
        if let Some(fragment) = ip.fragment {
            let header = ip.payload_length.saturating_sub(segment.data_length);
            end.parts = Some((fragment.id, number.wrapping_sub(header)));
        }
        let piece = StreamPiece { number, data: segment.data, ip, ttl: end.ttl };
        self.piece(way, &piece, reports);
    }

    /// Takes a piece of a stream.
    fn piece(&mut self, way: PacketContext, piece: &StreamPiece<'_>, reports: &mut impl Reports) {
        let end = self.end(way);
        // Before the beginning are only bytes that keep a connection alive, and feints.
        if is_before(piece.number, end.first) {
            return;
        }
        end.searched = end.searched.saturating_add(1);
        // Most segments are behind the hello of TLS, and begin no other one.
        let is_behind =
            end.known == Some(ApplicationProtocol::Tls) && is_before(end.base, piece.number);
        if is_behind && !tls::may_begin_hello(piece.data) {
            return;
        }
        self.read(way, piece, reports);
        self.search(way, piece, reports);
    }

    /// Adds a piece to the stream that is read.
    fn read(&mut self, way: PacketContext, piece: &StreamPiece<'_>, reports: &mut impl Reports) {
        let end = *self.end(way);
        let offset = piece.number.wrapping_sub(end.base);
        // What lies far ahead is no reason to give the beginning up: it may be a feint, too.
        if end.stage == DirectionStage::Done || offset > LATE_BYTES_MAX {
            if end.searched > SEARCHED_SEGMENTS {
                self.stop(way);
            }
            return;
        }
        let replaces = offset == 0 && self.replaces(end.stage, piece);
        if replaces {
            self.stop(way);
            self.reader.clear(way.flow);
            self.end(way).stage = DirectionStage::Begun;
        }
        if !replaces && (end.stage != DirectionStage::Begun || offset > 0) {
            return self.collect(way, offset as usize, piece, 1, reports);
        }
        match self.reader.read(&way, piece.data, reports) {
            StreamDemand::Done => {
                let known = start::find(piece.data, self.reader.protocols());
                self.conclude(way, known, !piece.is_sure());
            }
            StreamDemand::Wait(need) => self.collect(way, 0, piece, need, reports),
        }
    }

    /// Whether the first piece of a stream is of another protocol than a feint that was collected.
    fn replaces(&self, stage: DirectionStage, piece: &StreamPiece<'_>) -> bool {
        let DirectionStage::Collecting(buffer) = stage else { return false };
        let collected = self.buffers.peek(buffer);
        let protocol = |data| start::find(data, self.reader.protocols()).map(|one| one.protocol);
        collected.has_doubtful_start()
            && protocol(collected.bytes()) != protocol(piece.data)
            && piece.is_sure()
    }

    /// Keeps what the beginning of a direction was.
    fn conclude(&mut self, way: PacketContext, start: Option<Start>, is_doubtful: bool) {
        self.stop(way);
        // What only begins as a hello does is none.
        let has_tls = self.reader.has_tls(way.flow);
        let start = start.filter(|start| start.protocol != ApplicationProtocol::Tls || has_tls);
        let end = self.end(way);
        (end.known, end.is_doubtful) = (start.map(|start| start.protocol), is_doubtful);
        end.base = end.base.wrapping_add(start.map_or(0, |start| start.at as u32));
    }

    /// Begins anew with a piece if a protocol begins there: a hello behind something else, or what
    /// the receiver takes instead of a feint.
    fn search(&mut self, way: PacketContext, piece: &StreamPiece<'_>, reports: &mut impl Reports) {
        let end = *self.end(way);
        if end.searched > SEARCHED_SEGMENTS {
            return;
        }
        // A hello may be in the same segment as what is before it.
        let wanted =
            [self.reader.protocols(), self.reader.protocols().only(ApplicationProtocol::Tls)];
        let count = 1 + usize::from(end.known.is_some());
        let found = wanted.into_iter().take(count).find_map(|wanted| {
            start::find(piece.data, wanted).filter(|start| self.is_new(way, piece, *start))
        });
        let Some(start) = found else { return };
        let place = piece.place(start);
        self.stop(way);
        let end = self.end(way);
        if end.known.is_some_and(|known| known != start.protocol) && end.base == place {
            self.reader.clear(way.flow);
        }
        let end = self.end(way);
        (end.base, end.stage, end.known) = (place, DirectionStage::Begun, None);
        let piece = StreamPiece { number: place, data: &piece.data[start.at..], ..*piece };
        self.read(way, &piece, reports);
    }

    /// Whether a stream begins anew with a protocol in a piece.
    fn is_new(&self, way: PacketContext, piece: &StreamPiece<'_>, start: Start) -> bool {
        let end = self.flows[way.flow as usize].ends[way.end];
        let place = piece.place(start);
        match (end.stage, end.known) {
            (DirectionStage::New | DirectionStage::Begun, _) => false,
            (DirectionStage::Collecting(buffer), _) => {
                let collected = self.buffers.peek(buffer).bytes();
                let is_hello = collected.is_empty() || tls::may_begin_hello(collected);
                start.protocol == ApplicationProtocol::Tls && !is_hello
            }
            (DirectionStage::Done, None) => true,
            (DirectionStage::Done, Some(_)) if place == end.base => {
                end.is_doubtful && piece.is_sure()
            }
            (DirectionStage::Done, Some(known)) if is_before(place, end.base) => {
                known == start.protocol && (end.is_doubtful || piece.is_sure())
            }
            // A server that did not understand the first hello has asked for what came then.
            (DirectionStage::Done, Some(ApplicationProtocol::Tls)) => {
                start.protocol == ApplicationProtocol::Tls
                    && piece.number == end.acknowledged
                    && piece.is_sure()
            }
            (DirectionStage::Done, Some(_)) => start.protocol == ApplicationProtocol::Tls,
        }
    }

    /// Takes the numbers of a SYN or a SYN+ACK. Of several SYNs, the one that is answered begins
    /// the stream (RFC 9293 §3.10.7.4): others are of other connections, or feints.
    fn synchronise(&mut self, way: PacketContext, segment: &Segment<'_>, ttl: u8) {
        let base = segment.sequence.wrapping_add(1);
        let end = self.flows[way.flow as usize].ends[way.end];
        if end.stage == DirectionStage::New || end.base != base && end.may_begin_again() {
            let syn_bytes = u16::try_from(segment.data_length).unwrap_or(u16::MAX);
            self.begin_again(
                way.flow,
                way.end,
                DirectionProgress { syn_bytes, ttl, ..DirectionProgress::begun(base) },
            );
        }
        if segment.flags & flag::ACK == 0 {
            return;
        }
        let (other, base) = (1 - way.end, segment.acknowledgement);
        let end = &mut self.flows[way.flow as usize].ends[other];
        let length = base.wrapping_sub(end.base);
        if end.stage != DirectionStage::New && length <= u32::from(end.syn_bytes) {
            end.is_answered = true;
        } else if end.stage == DirectionStage::Begun || end.may_begin_again() {
            let answered =
                DirectionProgress { is_answered: true, ..DirectionProgress::begun(base) };
            self.begin_again(way.flow, other, answered);
        }
    }

    /// Begins another stream in place of one whose SYN was not answered.
    fn begin_again(&mut self, flow: u32, end: usize, begun: DirectionProgress) {
        let known = &mut self.flows[flow as usize].ends[end];
        let old = *known;
        *known =
            DirectionProgress { ttl: if begun.ttl > 0 { begun.ttl } else { old.ttl }, ..begun };
        if let DirectionStage::Collecting(buffer) = old.stage {
            self.buffers.give_back(buffer);
        }
        if matches!(old.stage, DirectionStage::Collecting(_) | DirectionStage::Done) {
            self.reader.clear(flow);
        }
    }

    /// Adds a piece at an offset of a stream, and reads the stream if there is enough. `need`
    /// counts for the first piece.
    fn collect(
        &mut self,
        way: PacketContext,
        offset: usize,
        piece: &StreamPiece<'_>,
        need: usize,
        reports: &mut impl Reports,
    ) {
        let number = self.buffer(way, need);
        let buffer = self.buffers.get(number);
        buffer.write(offset, piece.data, piece.is_sure());
        if buffer.bytes().len() < usize::from(buffer.need) {
            return;
        }
        match self.reader.read(&way, buffer.bytes(), reports) {
            StreamDemand::Wait(need) if !buffer.is_full() => {
                buffer.need = need.min(STREAM_BYTES_MAX) as u16;
            }
            _ => {
                let known = start::find(buffer.bytes(), self.reader.protocols());
                let is_doubtful = buffer.is_doubtful();
                self.conclude(way, known, is_doubtful);
            }
        }
    }

    fn datagram(&mut self, way: PacketContext, ip: &Ip<'_>, reports: &mut impl Reports) {
        let data = ip.payload.get(UDP_BYTES..).unwrap_or_default();
        if way.is_dns() && !is_hello(data) {
            return self.reader.message(&way, data, reports);
        }
        if self.reader.has(ApplicationProtocol::Tls) && dtls::is_handshake(data) {
            return self.fragments(way, ip, data);
        }
        if !self.reader.has(ApplicationProtocol::Quic) {
            return;
        }
        let mut rest = data;
        for _ in 0..COALESCED_MAX {
            let progress = &mut self.flows[way.flow as usize];
            let Some(header) = LongHeader::decode(rest) else { break };
            if matches!(header.kind, LongPacketKind::Initial { .. }) {
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
    fn fragments(&mut self, way: PacketContext, ip: &Ip<'_>, data: &[u8]) {
        for fragment in dtls::fragments(data).filter(tls::is_of_hello).take(COALESCED_MAX) {
            if self.flows[way.flow as usize].ends[way.end].stage == DirectionStage::Done {
                return;
            }
            let number = self.buffer(way, 1);
            let buffer = self.buffers.get(number);
            // The first hello that is seen; another one has another number.
            let sequence = fragment.sequence.to_be_bytes();
            if buffer.id().is_empty() {
                buffer.set_id(&sequence);
                buffer.write(0, &tls::header_of(&fragment), true);
            }
            if buffer.id() == sequence {
                let offset = tls::MESSAGE_HEADER + fragment.offset as usize;
                buffer.write(offset, fragment.data, true);
                // The last one is cut where the first fragment of IP ends.
                if let Some(part) = ip.fragment {
                    let end = (offset + fragment.data.len()) as u32;
                    let base = end.wrapping_sub(ip.payload.len() as u32);
                    self.end(way).parts = Some((part.id, base));
                }
            }
            self.read_datagrams(way, number);
        }
    }

    /// Reads the message of DTLS in a buffer.
    fn read_datagrams(&mut self, way: PacketContext, number: u16) {
        let buffer = self.buffers.get(number);
        let step = self.reader.datagrams(&way, buffer.bytes());
        if step == StreamDemand::Done || buffer.is_full() {
            self.stop(way);
        }
    }

    /// Takes an Initial packet of QUIC, if it is the client's.
    fn initial(&mut self, way: PacketContext, header: &LongHeader<'_>, packet: &[u8]) {
        let end = self.flows[way.flow as usize].ends[way.end];
        let mut room = [0; quic::PACKET_BYTES_MAX];
        // The first packet's id counts until the server asks for another one.
        let frames = match end.stage {
            DirectionStage::Done => return,
            DirectionStage::Collecting(buffer) => {
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
        quic::pieces(frames, |offset, data| buffer.write(offset, data, true));
        if self.reader.hello(&way, buffer.bytes(), header.version) || buffer.is_full() {
            self.flows[way.flow as usize].packets = QUIC_PACKETS_MAX;
            self.stop(way);
        }
    }

    /// The buffer of a direction.
    fn buffer(&mut self, way: PacketContext, need: usize) -> u16 {
        let end = &self.flows[way.flow as usize].ends[way.end];
        if let DirectionStage::Collecting(buffer) = end.stage {
            return buffer;
        }
        let stream = way.flow * 2 + way.end as u32;
        let flows = &self.flows;
        let is_silent =
            |stream: u32| !flows[stream as usize / 2].ends[1 - stream as usize % 2].has_sent();
        let (number, lost) = self.buffers.take(stream, way.source(), is_silent);
        self.flows[way.flow as usize].ends[way.end].stage = DirectionStage::Collecting(number);
        if let Some(lost) = lost {
            self.flows[lost as usize / 2].ends[lost as usize % 2].stage = DirectionStage::Done;
        }
        self.buffers.get(number).need = need.min(STREAM_BYTES_MAX) as u16;
        number
    }

    /// Nothing more of a direction is read.
    fn stop(&mut self, way: PacketContext) {
        let end = &mut self.flows[way.flow as usize].ends[way.end];
        let before = std::mem::replace(&mut end.stage, DirectionStage::Done);
        if let DirectionStage::Collecting(buffer) = before {
            self.buffers.give_back(buffer);
        }
    }
}

/// Whether a datagram is no message of DNS, whatever its port: a hello of DTLS or of QUIC.
fn is_hello(data: &[u8]) -> bool {
    let is_initial = |header: LongHeader<'_>| matches!(header.kind, LongPacketKind::Initial { .. });
    dtls::is_handshake(data) || LongHeader::decode(data).is_some_and(is_initial)
}
