//! TCP connections.

use crate::between::Between;
use crate::capture::{Capture, Conversation};
use crate::headers::{self, TcpHeader};
use crate::truth::{Flow, Side};
use crate::wire::Wire;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const URG: u8 = 0x20;
const ECE: u8 = 0x40;
const CWR: u8 = 0x80;

/// How a connection begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Opening {
    /// SYN, SYN and ACK, ACK.
    Handshake,
    /// SYNs without an answer, the later ones after 1, 2, 4 and more seconds.
    Unanswered { retries: u32 },
    /// The SYN is answered by RST and ACK.
    Refused,
    /// The last ACK never comes.
    HalfOpen,
    /// The source resets at the SYN and ACK, as a scanner does. The reset is lost behind the
    /// sensor, so both come again after a second.
    ResetTwice,
    /// The capture began with the SYN and ACK.
    SynUnseen,
    /// The capture began later.
    Unseen,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Closing {
    /// FINs of both sides, the source's first.
    Fin,
    /// The destination resets.
    Reset,
    /// The capture ends before.
    Unseen,
}

/// A request and a response.
#[derive(Clone, Copy, Debug)]
pub struct Exchange {
    /// The pause before it.
    pub pause_ns: u64,
    pub bytes: [usize; 2],
}

/// A TCP connection.
#[derive(Clone, Debug)]
pub struct Tcp {
    pub between: Between,
    pub start_ns: u64,
    pub opening: Opening,
    pub closing: Closing,
    pub exchanges: Vec<Exchange>,
    /// From the SYN to the SYN and ACK.
    pub syn_ack_us: u64,
    /// From the SYN and ACK to the ACK.
    pub ack_data_us: u64,
    /// First sequence numbers.
    pub sequences: [u32; 2],
    /// The largest payload of a segment.
    pub segment: usize,
    /// So many data segments of each side are sent again, 200 ms later, before their ACK.
    pub retransmitted: [u32; 2],
    /// So many data segments of each side are sent again after their ACK.
    pub retransmitted_in_vain: [u32; 2],
    /// So many pairs of data segments of each side arrive in the wrong order.
    pub swapped: [u32; 2],
    /// So many data segments of each side are acknowledged, and the sensor does not see them.
    pub unseen: [u32; 2],
    /// So many data segments of each side are lost before the sensor, and sent again later.
    pub lost_before: [u32; 2],
    /// Both sides support ECN; one response segment has met congestion.
    pub ecn: bool,
    /// The first request segment has urgent data.
    pub urgent: bool,
    /// The destination closes its window for half a second after the first request.
    pub zero_window: bool,
    /// Keep-alive probes by the source, each ten seconds, after the last exchange.
    pub keep_alive: u32,
}

impl Tcp {
    /// A connection with one small request, and a response of several segments.
    pub fn new(between: Between, start_ns: u64) -> Self {
        Self {
            between,
            start_ns,
            opening: Opening::Handshake,
            closing: Closing::Fin,
            exchanges: vec![Exchange { pause_ns: 100_000, bytes: [300, 5000] }],
            syn_ack_us: 5544,
            ack_data_us: 1658,
            sequences: [1000, 2_000_000],
            segment: 1400,
            retransmitted: [0, 0],
            retransmitted_in_vain: [0, 0],
            swapped: [0, 0],
            unseen: [0, 0],
            lost_before: [0, 0],
            ecn: false,
            urgent: false,
            zero_window: false,
            keep_alive: 0,
        }
    }
}

impl Conversation for Tcp {
    fn write(&self, capture: &mut Capture) {
        let has_handshake =
            matches!(self.opening, Opening::Handshake | Opening::HalfOpen | Opening::ResetTwice);
        let mut flow = self.between.flow("tcp");
        let direction = if self.opening == Opening::Unseen { "<?>" } else { "->" };
        direction.clone_into(&mut flow.direction);
        if has_handshake {
            flow.syn_ack_us = self.syn_ack_us;
        }
        if matches!(self.opening, Opening::Handshake | Opening::SynUnseen) {
            flow.ack_data_us = self.ack_data_us;
        }
        let state = match (self.opening, self.closing) {
            (Opening::Unanswered { .. }, _) => "REQ",
            (Opening::Refused | Opening::ResetTwice, _) | (_, Closing::Reset) => "RST",
            (Opening::HalfOpen, _) => "ACC",
            (_, Closing::Fin) => "FIN",
            (_, Closing::Unseen) => "CON",
        };
        state.clone_into(&mut flow.state);
        let mut run = Run {
            tcp: self,
            wire: Wire::new(capture, &self.between),
            flow,
            at_ns: self.start_ns,
            next: self.sequences,
            left: Left {
                retransmitted: self.retransmitted,
                retransmitted_in_vain: self.retransmitted_in_vain,
                swapped: self.swapped,
                unseen: self.unseen,
                lost_before: self.lost_before,
            },
        };
        if run.open() {
            for (number, exchange) in self.exchanges.iter().enumerate() {
                run.at_ns += exchange.pause_ns;
                run.exchange(*exchange, number == 0);
            }
            run.keep_alive();
            run.close();
        }
        let Run { wire, flow, .. } = run;
        wire.capture.push_flow(flow);
        wire.finish();
    }
}

/// What must still happen to data segments.
#[derive(Debug)]
struct Left {
    retransmitted: [u32; 2],
    retransmitted_in_vain: [u32; 2],
    swapped: [u32; 2],
    unseen: [u32; 2],
    lost_before: [u32; 2],
}

/// A connection on its way.
#[derive(Debug)]
struct Run<'t, 'c> {
    tcp: &'t Tcp,
    wire: Wire<'c, 't>,
    flow: Flow,
    at_ns: u64,
    /// The next sequence number of each side.
    next: [u32; 2],
    left: Left,
}

/// A segment to be sent.
#[derive(Clone, Copy, Debug, Default)]
struct Segment {
    sequence: u32,
    length: usize,
    flags: u8,
    /// The bits for ECN.
    ecn: u8,
    /// Instead of the next one of the side.
    id: Option<u16>,
    /// Instead of what the peer sent up to now.
    acknowledgement: Option<u32>,
    closes_window: bool,
}

/// A quarter of a round trip after the handshake.
const HOP_NS: u64 = 250_000;

impl Run<'_, '_> {
    /// Opens the connection. Returns whether data follow.
    fn open(&mut self) -> bool {
        let ecn = if self.tcp.ecn { ECE | CWR } else { 0 };
        match self.tcp.opening {
            Opening::Unseen => return true,
            Opening::SynUnseen => self.next[0] = self.next[0].wrapping_add(1),
            Opening::Unanswered { retries } => {
                let mut pause_ns = 1_000_000_000;
                for number in 0..=retries {
                    if number > 0 {
                        self.at_ns += pause_ns;
                        pause_ns *= 2;
                        self.flow.retransmissions[0] += 1;
                    }
                    self.next[0] = self.tcp.sequences[0];
                    self.control(Side::Source, SYN | ecn);
                }
                return false;
            }
            _ => self.control(Side::Source, SYN | ecn),
        }
        self.at_ns += self.tcp.syn_ack_us * 1000;
        if self.tcp.opening == Opening::Refused {
            self.control(Side::Destination, RST | ACK);
            return false;
        }
        if self.tcp.opening == Opening::ResetTwice {
            self.reset_twice();
            return false;
        }
        self.control(Side::Destination, SYN | ACK | ecn & ECE);
        if self.tcp.opening == Opening::HalfOpen {
            return false;
        }
        self.at_ns += self.tcp.ack_data_us * 1000;
        self.control(Side::Source, ACK);
        true
    }

    /// The SYN and ACK, the source's reset, and the same again.
    fn reset_twice(&mut self) {
        for number in 0..2 {
            if number > 0 {
                self.at_ns += 1_000_000_000;
                self.flow.retransmissions[1] += 1;
            }
            self.next[1] = self.tcp.sequences[1];
            self.control(Side::Destination, SYN | ACK);
            self.at_ns += 20_000;
            self.control(Side::Source, RST);
        }
    }

    /// Sends a segment without data, now.
    fn control(&mut self, side: Side, flags: u8) {
        let sequence = self.next[side.index()];
        self.send(side, Segment { sequence, flags, ..Segment::default() });
        let takes_a_number = flags & (SYN | FIN) != 0;
        self.next[side.index()] = sequence.wrapping_add(u32::from(takes_a_number));
    }

    fn send(&mut self, side: Side, segment: Segment) {
        let mut options = vec![1, 1, 8, 10];
        let stamp = (self.at_ns / 1_000_000) as u32;
        if segment.flags & SYN != 0 {
            options = vec![2, 4];
            options.extend((self.tcp.segment as u16 + 12).to_be_bytes());
            options.extend([4, 2, 8, 10]);
        }
        options.extend(stamp.to_be_bytes());
        let is_answer = segment.flags & ACK != 0;
        options.extend(if is_answer { stamp - 1 } else { 0 }.to_be_bytes());
        if segment.flags & SYN != 0 {
            options.extend([1, 3, 3, 7]);
        }
        if segment.flags & RST != 0 {
            options.clear();
        }
        let mut window = [502, 260][side.index()];
        if segment.flags & SYN != 0 {
            window = [64240, 65160][side.index()];
        } else if segment.flags & RST != 0 || segment.closes_window {
            window = 0;
        }
        let received = segment.acknowledgement.unwrap_or(self.next[side.other().index()]);
        let header = TcpHeader {
            sequence: segment.sequence,
            acknowledgement: if is_answer { received } else { 0 },
            flags: segment.flags,
            window,
            urgent: if segment.flags & URG == 0 { 0 } else { 5 },
            options: &options,
        };
        let id = segment.id.unwrap_or_else(|| self.wire.next_id(side));
        let mut network = self.wire.network_with_id(side, headers::TCP, id);
        network.tos |= segment.ecn;
        let mut ports = self.tcp.between.ports;
        if side == Side::Destination {
            ports.reverse();
        }
        let bytes = headers::tcp(&network, ports, header, &headers::text(segment.length));
        let place = (&mut self.flow, side, self.at_ns);
        self.wire.send(place, &network, &bytes, segment.length);
    }

    fn exchange(&mut self, exchange: Exchange, is_first: bool) {
        let urgent = if self.tcp.urgent && is_first { URG } else { 0 };
        self.data(Side::Source, exchange.bytes[0], urgent);
        if self.tcp.zero_window && is_first {
            self.at_ns += HOP_NS;
            let closes_window = true;
            let sequence = self.next[1];
            let segment = Segment { sequence, flags: ACK, closes_window, ..Segment::default() };
            self.send(Side::Destination, segment);
            self.at_ns += 500_000_000;
            self.control(Side::Destination, ACK);
        }
        self.at_ns += HOP_NS;
        let met_congestion = self.tcp.ecn && is_first;
        self.data(Side::Destination, exchange.bytes[1], if met_congestion { ECE } else { 0 });
        if met_congestion {
            self.at_ns += HOP_NS;
            self.control(Side::Source, ACK | ECE);
            self.at_ns += HOP_NS;
            self.control(Side::Destination, ACK | CWR);
        }
    }

    /// Sends data in segments, and the peer's ACKs: one for two segments, and one for the last.
    fn data(&mut self, side: Side, bytes: usize, first_flags: u8) {
        let ecn = if self.tcp.ecn { 2 } else { 0 };
        let mut segments: Vec<Segment> = (0..bytes.div_ceil(self.tcp.segment))
            .map(|number| {
                let start = number * self.tcp.segment;
                let length = (bytes - start).min(self.tcp.segment);
                let sequence = self.next[side.index()].wrapping_add(start as u32);
                Segment { sequence, length, flags: ACK, ecn, ..Segment::default() }
            })
            .collect();
        if let Some(first) = segments.first_mut() {
            first.flags |= first_flags & URG;
            first.ecn |= if first_flags & ECE == 0 { 0 } else { 3 };
        }
        if let Some(last) = segments.last_mut() {
            last.flags |= PSH;
        }
        for pair in segments.chunks(2) {
            self.at_ns += 12_000;
            match *pair {
                [first, second] if take(&mut self.left.swapped, side) => {
                    let id = self.wire.next_id(side);
                    self.send(side, second);
                    self.at_ns += 12_000;
                    self.send(side, Segment { id: Some(id), ..first });
                }
                [first, second] if take(&mut self.left.lost_before, side) => {
                    self.wire.next_id(side);
                    self.send(side, second);
                    self.at_ns += HOP_NS;
                    self.acknowledge(side.other(), first.sequence);
                    self.at_ns += HOP_NS;
                    self.send(side, first);
                    self.flow.retransmissions[side.index()] += 1;
                }
                _ => {
                    for segment in pair {
                        self.one(side, *segment);
                        self.at_ns += 12_000;
                    }
                }
            }
            let last = pair[pair.len() - 1];
            self.next[side.index()] = last.sequence.wrapping_add(last.length as u32);
            self.at_ns += HOP_NS;
            self.control(side.other(), ACK);
            self.at_ns += HOP_NS;
            if take(&mut self.left.retransmitted_in_vain, side) {
                self.send(side, last);
                self.flow.retransmissions[side.index()] += 1;
                self.at_ns += HOP_NS;
                self.control(side.other(), ACK);
                self.at_ns += HOP_NS;
            }
        }
    }

    /// Acknowledges less than what was sent.
    fn acknowledge(&mut self, side: Side, acknowledgement: u32) {
        let sequence = self.next[side.index()];
        let acknowledgement = Some(acknowledgement);
        self.send(side, Segment { sequence, acknowledgement, flags: ACK, ..Segment::default() });
    }

    /// Sends one data segment, perhaps not at all, or twice.
    fn one(&mut self, side: Side, segment: Segment) {
        if take(&mut self.left.unseen, side) {
            return;
        }
        self.send(side, segment);
        if take(&mut self.left.retransmitted, side) {
            self.at_ns += 200_000_000;
            self.send(side, segment);
            self.flow.retransmissions[side.index()] += 1;
        }
    }

    fn keep_alive(&mut self) {
        for _ in 0..self.tcp.keep_alive {
            self.at_ns += 10_000_000_000;
            let sequence = self.next[0].wrapping_sub(1);
            self.send(Side::Source, Segment { sequence, flags: ACK, ..Segment::default() });
            self.at_ns += HOP_NS;
            self.control(Side::Destination, ACK);
        }
    }

    fn close(&mut self) {
        self.at_ns += HOP_NS;
        match self.tcp.closing {
            Closing::Fin => {
                self.control(Side::Source, FIN | ACK);
                self.at_ns += HOP_NS;
                self.control(Side::Destination, FIN | ACK);
                self.at_ns += HOP_NS;
                self.control(Side::Source, ACK);
            }
            Closing::Reset => self.control(Side::Destination, RST | ACK),
            Closing::Unseen => {}
        }
    }
}

/// Takes one of a side, if there is one.
fn take(left: &mut [u32; 2], side: Side) -> bool {
    let left = &mut left[side.index()];
    let has_one = *left > 0;
    *left -= u32::from(has_one);
    has_one
}
