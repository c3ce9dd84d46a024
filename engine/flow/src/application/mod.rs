//! What the data of flows say about their applications, and the sizes of their first packets.
//!
//! Only the beginnings of both directions of a flow are read. A beginning that is in one segment is
//! read where it is; otherwise a [`stream::Buffer`] puts it together. What was found belongs to the
//! flow and goes into each of its records.
//!
//! Memory is reserved for all flows at the start, and used for those that have something.

mod dns;
mod http;
mod pool;
mod quic;
pub(crate) mod settings;
mod ssh;
mod stream;
mod tls;

use panoptes_decoders::application::dns::Message;
use panoptes_decoders::application::quic::{Kind, LongHeader};
use panoptes_decoders::packet::Ip;
use panoptes_decoders::packet::transport::{Tcp as Segment, flag, ports, protocol};
use panoptes_sinks::flow::application::Application;
use panoptes_sinks::flow::{Direction, Sequence};
use panoptes_tables::room;

use self::pool::Pool;
use self::settings::{ApplicationSettings, Protocol};
use self::stream::{Buffers, STREAM_BYTES_MAX, Step};

/// How far behind the beginning of a stream a segment may be before the beginning is given up.
const LATE_BYTES_MAX: u32 = 1 << 16;
/// The most Initial packets of QUIC that are looked at in a flow.
const QUIC_PACKETS_MAX: u8 = 16;
/// The most packets in a datagram of QUIC.
const COALESCED_MAX: usize = 4;
/// Length in bytes of the header of UDP.
const UDP_BYTES: usize = 8;
/// The port of SSH: its owner is the server, even if the beginning of a connection was not seen.
const SSH: u16 = 22;

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
    stage: Stage,
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
    settings: ApplicationSettings,
    flows: Vec<Progress>,
    pool: Pool,
    buffers: Buffers,
    sequences: Vec<Sequence>,
}

/// Who sends a packet, and to whom.
#[derive(Clone, Copy, Debug)]
struct Way {
    flow: u32,
    end: usize,
    is_client: bool,
    /// The ports of the sender and of the receiver.
    ports: [u16; 2],
    sender: u128,
}

impl Way {
    fn new(flow: u32, direction: Direction, ip: &Ip<'_>) -> Self {
        let (source, destination) = ports(ip.payload).unwrap_or_default();
        let is_from_source = direction == Direction::FromSource;
        let is_client = match (source == SSH, destination == SSH) {
            (true, false) => false,
            (false, true) => true,
            _ => is_from_source,
        };
        Self {
            flow,
            end: usize::from(!is_from_source),
            is_client,
            ports: [source, destination],
            sender: ip.source,
        }
    }

    fn is_dns(&self) -> bool {
        self.ports.iter().any(|port| dns::PORTS.contains(port))
    }
}

impl Applications {
    /// Allocates for so many flows.
    pub(crate) fn new(settings: &ApplicationSettings, capacity: usize) -> Self {
        let has_protocols = !settings.protocols.is_empty();
        let has_sequences = settings.sequence_packets > 0;
        Self {
            settings: *settings,
            flows: room::list(capacity),
            pool: Pool::new(if has_protocols { capacity } else { 0 }),
            buffers: Buffers::new(),
            sequences: room::list(if has_sequences { capacity } else { 0 }),
        }
    }

    /// Streams whose beginning was given up because too many others were put together.
    pub(crate) const fn reclaimed(&self) -> u64 {
        self.buffers.reclaimed
    }

    /// Begins a flow in a slot.
    pub(crate) fn begin(&mut self, flow: u32) {
        while self.flows.len() <= flow as usize {
            self.flows.push(Progress::default());
            if self.settings.sequence_packets > 0 {
                self.sequences.push(Sequence::default());
            }
        }
        let old = std::mem::take(&mut self.flows[flow as usize]);
        for end in old.ends {
            if let Stage::Collecting(buffer) = end.stage {
                self.buffers.give_back(buffer);
            }
        }
        self.pool.clear(flow);
        if let Some(sequence) = self.sequences.get_mut(flow as usize) {
            *sequence = Sequence::default();
        }
    }

    /// What is known of a flow.
    pub(crate) fn of(&self, flow: u32) -> (Option<&Application>, Option<&Sequence>) {
        (self.pool.get(flow), self.sequences.get(flow as usize))
    }

    /// Takes a packet of a flow, and the length of its data on the wire.
    pub(crate) fn packet(
        &mut self,
        flow: u32,
        direction: Direction,
        ip: &Ip<'_>,
        data_length: u32,
        now_ns: i64,
    ) {
        if !ip.is_first_fragment() {
            return;
        }
        if let Some(sequence) = self.sequences.get_mut(flow as usize)
            && data_length > 0
            && sequence.packets().len() < self.settings.sequence_packets
        {
            sequence.push(data_length, direction, now_ns);
        }
        if self.settings.protocols.is_empty() {
            return;
        }
        let way = Way::new(flow, direction, ip);
        match ip.protocol {
            protocol::TCP => self.segment(way, ip),
            protocol::UDP => self.datagram(way, ip.payload.get(UDP_BYTES..).unwrap_or_default()),
            _ => {}
        }
    }

    fn segment(&mut self, way: Way, ip: &Ip<'_>) {
        let end = &mut self.flows[way.flow as usize].ends[way.end];
        if end.stage == Stage::Done {
            return;
        }
        let Some(segment) = Segment::decode(ip.payload, ip.payload_length) else { return };
        let mut number = segment.sequence;
        if segment.flags & flag::SYN != 0 {
            number = number.wrapping_add(1);
            if end.stage == Stage::New {
                *end = End { base: number, stage: Stage::Begun };
            }
        }
        if segment.data.is_empty() {
            return;
        }
        if end.stage == Stage::New {
            *end = End { base: number, stage: Stage::Begun };
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
            let (settings, pool) = (&self.settings, &mut self.pool);
            match pool.change(way.flow, |known| read(settings, way, segment.data, known)) {
                Step::Done => self.stop(way),
                Step::Wait(need) => self.collect(way, 0, segment.data, need),
            }
        } else {
            self.collect(way, offset as usize, segment.data, 1);
        }
    }

    /// Adds a piece of a stream, and reads it if there are enough. `need` counts for the first one.
    fn collect(&mut self, way: Way, offset: usize, data: &[u8], need: usize) {
        let number = self.buffer(way, need);
        let buffer = self.buffers.get(number);
        buffer.write(offset, data);
        let stream = buffer.bytes();
        if stream.len() < usize::from(buffer.need) {
            return;
        }
        let (settings, pool) = (&self.settings, &mut self.pool);
        let step = pool.change(way.flow, |known| read(settings, way, stream, known));
        let buffer = self.buffers.get(number);
        match step {
            Step::Wait(need) if !buffer.is_full() => {
                buffer.need = need.min(STREAM_BYTES_MAX) as u16;
            }
            _ => self.stop(way),
        }
    }

    fn datagram(&mut self, way: Way, data: &[u8]) {
        let protocols = self.settings.protocols;
        if way.is_dns() {
            let message = Message::decode(data).filter(dns::is_plausible);
            if let Some(message) = message.filter(|_| protocols.has(Protocol::Dns)) {
                let is_known = self.settings.dns_servers.has(way.sender);
                self.pool.change(way.flow, |known| dns::take(&message, is_known, known));
            }
            return;
        }
        if !protocols.has(Protocol::Quic) {
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
        let (stream, is_full) = (buffer.bytes(), buffer.is_full());
        let version = header.version;
        let is_whole = self.pool.change(way.flow, |known| quic::read(stream, version, known));
        if is_whole || is_full {
            self.flows[way.flow as usize].packets = QUIC_PACKETS_MAX;
            self.stop(way);
        }
    }

    /// The buffer of a direction.
    fn buffer(&mut self, way: Way, need: usize) -> u16 {
        let end = &mut self.flows[way.flow as usize].ends[way.end];
        if let Stage::Collecting(buffer) = end.stage {
            return buffer;
        }
        let owner = way.flow * 2 + way.end as u32;
        let (number, lost) = self.buffers.take(owner);
        end.stage = Stage::Collecting(number);
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

/// Reads the beginning of a TCP stream.
fn read(
    settings: &ApplicationSettings,
    way: Way,
    stream: &[u8],
    application: &mut Application,
) -> Step {
    let protocols = settings.protocols;
    if way.is_dns() {
        if !protocols.has(Protocol::Dns) {
            return Step::Done;
        }
        return match dns::of_stream(stream) {
            Ok(message) => {
                dns::take(&message, settings.dns_servers.has(way.sender), application);
                Step::Done
            }
            Err(step) => step,
        };
    }
    if protocols.has(Protocol::Tls) && tls::is_record(stream) {
        return tls::read(stream, application);
    }
    // Each has another first byte, but SSH could be a method.
    if protocols.has(Protocol::Ssh) && ssh::may_be(stream) {
        return ssh::read(stream, way.is_client, application);
    }
    if protocols.has(Protocol::Http) && http::may_be(stream) {
        return http::read(stream, application);
    }
    Step::Done
}
