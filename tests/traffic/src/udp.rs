//! UDP conversations: plain ones, DNS, DHCP, fragments.

use std::net::IpAddr;

use crate::between::{Between, Host};
use crate::capture::{Capture, Conversation};
use crate::headers::{self, Network};
use crate::truth::{Flow, Side};
use crate::wire::Wire;

/// One datagram of a conversation.
#[derive(Clone, Copy, Debug)]
pub struct Datagram {
    /// The pause before it.
    pub pause_ns: u64,
    pub side: Side,
    pub bytes: usize,
}

/// Datagrams between two ports.
#[derive(Clone, Debug)]
pub struct Udp {
    pub between: Between,
    pub start_ns: u64,
    pub datagrams: Vec<Datagram>,
    /// The destination answers the last datagram with the ICMP error that its port is unreachable,
    /// after this time.
    pub unreachable_after_ns: Option<u64>,
}

impl Udp {
    /// Datagrams of these sizes from alternate sides, a millisecond apart.
    pub fn alternating(between: Between, start_ns: u64, sizes: &[usize]) -> Self {
        let sides = [Side::Source, Side::Destination].into_iter().cycle();
        let datagrams = sizes
            .iter()
            .zip(sides)
            .map(|(&bytes, side)| Datagram { pause_ns: 1_000_000, side, bytes })
            .collect();
        Self { between, start_ns, datagrams, unreachable_after_ns: None }
    }

    /// Datagrams of these sizes from the source, a millisecond apart.
    pub fn one_way(between: Between, start_ns: u64, sizes: &[usize]) -> Self {
        let side = Side::Source;
        let datagrams =
            sizes.iter().map(|&bytes| Datagram { pause_ns: 1_000_000, side, bytes }).collect();
        Self { between, start_ns, datagrams, unreachable_after_ns: None }
    }
}

impl Conversation for Udp {
    fn write(&self, capture: &mut Capture) {
        let mut wire = Wire::new(capture, &self.between);
        let mut flow = self.between.flow("udp");
        let mut at_ns = self.start_ns;
        let mut last = Vec::new();
        for datagram in &self.datagrams {
            at_ns += datagram.pause_ns;
            let network = wire.network(datagram.side, headers::UDP);
            let data = headers::text(datagram.bytes);
            let transport = headers::udp(&network, ports(&self.between, datagram.side), &data);
            if self.unreachable_after_ns.is_some() {
                last.clear();
                network.write(&transport, &mut last);
            }
            wire.send((&mut flow, datagram.side, at_ns), &network, &transport, data.len());
        }
        flow.direction = flow.direction_by_counts();
        flow.state = flow.state_by_counts();
        wire.capture.push_flow(flow);
        if let Some(after_ns) = self.unreachable_after_ns {
            let kind = if self.between.is_v6() { [1, 4] } else { [3, 3] };
            let sender = self.between.host(Side::Destination).address;
            send_error(&mut wire, &self.between, sender, (at_ns + after_ns, kind), &last);
        }
        wire.finish();
    }
}

/// The source and the destination port of a packet.
pub(crate) const fn ports(between: &Between, side: Side) -> [u16; 2] {
    let [source, destination] = between.ports;
    match side {
        Side::Source => [source, destination],
        Side::Destination => [destination, source],
    }
}

/// Sends an ICMP error about a packet of the source to it, and adds its flow.
pub(crate) fn send_error(
    wire: &mut Wire,
    between: &Between,
    sender: IpAddr,
    (at_ns, kind): (u64, [u8; 2]),
    quoted: &[u8],
) {
    let is_v6 = between.is_v6();
    let protocol = if is_v6 { headers::ICMPV6 } else { headers::ICMP };
    let mut network = wire.network(Side::Destination, protocol);
    network.source = sender;
    network.options = &[];
    let quoted = &quoted[..quoted.len().min(if is_v6 { 1232 } else { 28 })];
    let transport = headers::icmp(&network, kind, [0; 4], quoted);
    let ports = match (is_v6, kind) {
        (true, _) => kind.map(|number| number.to_string()),
        // The quoted packet's port.
        (false, [3, 3]) => ["0x0303".to_owned(), format!("0x{:04x}", between.ports[1])],
        (false, _) => [format!("0x{:02x}{:02x}", kind[1], kind[0]), "0x0000".to_owned()],
    };
    let mut flow = Flow {
        protocol: if is_v6 { "ipv6-icmp" } else { "icmp" }.to_owned(),
        source: sender.to_string(),
        destination: between.host(Side::Source).address.to_string(),
        source_port: ports[0].clone(),
        destination_port: ports[1].clone(),
        state: match (is_v6, kind) {
            (false, [3, 3]) | (true, [1, 4]) => "URP",
            (false, [11, _]) => "TXD",
            (true, [3, _]) => "TXT",
            _ => "INT",
        }
        .to_owned(),
        direction: "->".to_owned(),
        ..Flow::default()
    };
    // The frame goes the way of the destination's packets, but the flow is its own.
    wire.send((&mut flow, Side::Destination, at_ns), &network, &transport, transport.len());
    flow.packets.reverse();
    flow.bytes.reverse();
    flow.application_bytes.reverse();
    wire.capture.push_flow(flow);
}

/// Queries and answers between the same two ports, told apart by their ids.
#[derive(Clone, Debug)]
pub struct Dns {
    pub between: Between,
    pub start_ns: u64,
    pub ids: Vec<u16>,
    /// From one query to the next.
    pub interval_ns: u64,
    /// From a query to its answer; `None` is no answer.
    pub answer_after_ns: Option<u64>,
}

impl Conversation for Dns {
    fn write(&self, capture: &mut Capture) {
        let mut wire = Wire::new(capture, &self.between);
        for (number, id) in self.ids.iter().enumerate() {
            let mut flow = self.between.flow("udp");
            let at_ns = self.start_ns + number as u64 * self.interval_ns;
            let answer = self.answer_after_ns.map(|after| (Side::Destination, at_ns + after));
            for (side, at_ns) in [Some((Side::Source, at_ns)), answer].into_iter().flatten() {
                let data = dns_message(*id, side);
                let network = wire.network(side, headers::UDP);
                let transport = headers::udp(&network, ports(&self.between, side), &data);
                wire.send((&mut flow, side, at_ns), &network, &transport, data.len());
            }
            flow.direction = flow.direction_by_counts();
            flow.state = flow.state_by_counts();
            wire.capture.push_flow(flow);
        }
        wire.finish();
    }
}

/// A query for the address of www.example.com, or its answer.
fn dns_message(id: u16, side: Side) -> Vec<u8> {
    let is_answer = side == Side::Destination;
    let mut data = id.to_be_bytes().to_vec();
    data.extend(if is_answer { [0x81, 0x80] } else { [0x01, 0x00] });
    data.extend([0, 1, 0, u8::from(is_answer), 0, 0, 0, 0]);
    data.extend(b"\x03www\x07example\x03com\0\0\x01\0\x01");
    if is_answer {
        data.extend(b"\xc0\x0c\0\x01\0\x01\0\0\x0e\x10\0\x04");
        data.extend([192, 0, 2, 80]);
    }
    data
}

/// Sound over RTP, a packet each 20 ms, in one direction.
#[derive(Clone, Debug)]
pub struct Rtp {
    pub between: Between,
    pub start_ns: u64,
    /// Sequence numbers; a gap is a loss.
    pub sequences: Vec<u16>,
}

impl Conversation for Rtp {
    fn write(&self, capture: &mut Capture) {
        let mut wire = Wire::new(capture, &self.between);
        let mut flow = self.between.flow("rtp");
        for (number, sequence) in self.sequences.iter().enumerate() {
            let mut data = vec![0x80, 0];
            data.extend(sequence.to_be_bytes());
            data.extend((u32::from(*sequence) * 160).to_be_bytes());
            data.extend([0x12, 0x34, 0x56, 0x78]);
            data.extend(headers::text(160));
            let network = wire.network(Side::Source, headers::UDP);
            let transport = headers::udp(&network, self.between.ports, &data);
            let at_ns = self.start_ns + number as u64 * 20_000_000;
            wire.send((&mut flow, Side::Source, at_ns), &network, &transport, data.len());
        }
        for pair in self.sequences.windows(2) {
            flow.retransmissions[0] += u64::from(pair[1].wrapping_sub(pair[0]).saturating_sub(1));
        }
        flow.direction = flow.direction_by_counts();
        flow.state = flow.state_by_counts();
        wire.capture.push_flow(flow);
        wire.finish();
    }
}

/// A request for an address, to everyone.
#[derive(Clone, Debug)]
pub struct Dhcp {
    pub client: Host,
    pub start_ns: u64,
    /// Requests, two seconds apart.
    pub requests: u32,
}

impl Conversation for Dhcp {
    fn write(&self, capture: &mut Capture) {
        let client = self.client.with_address([0, 0, 0, 0].into());
        let everyone = self.client.with_address([255; 4].into()).with_mac([0xff; 6]);
        let between = Between::new([client, everyone], [68, 67]);
        let mut wire = Wire::new(capture, &between);
        let mut flow = between.flow("udp");
        for number in 0..self.requests {
            let at_ns = self.start_ns + u64::from(number) * 2_000_000_000;
            let network = wire.network(Side::Source, headers::UDP);
            let mut data = vec![1, 1, 6, 0, 0x12, 0x34, 0x56, 0x78];
            data.resize(28, 0);
            data.extend(self.client.mac);
            data.resize(236, 0);
            data.extend([99, 130, 83, 99, 53, 1, 1, 255]);
            data.resize(300, 0);
            let transport = headers::udp(&network, between.ports, &data);
            wire.send((&mut flow, Side::Source, at_ns), &network, &transport, data.len());
        }
        flow.direction = flow.direction_by_counts();
        flow.state = flow.state_by_counts();
        wire.capture.push_flow(flow);
        wire.finish();
    }
}

/// In which order fragments arrive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Order {
    Sent,
    Reversed,
    /// The first one, with the ports, never arrives.
    FirstMissing,
}

/// Datagrams that were sent in fragments.
#[derive(Clone, Debug)]
pub struct Fragments {
    pub between: Between,
    pub start_ns: u64,
    pub datagrams: u32,
    /// The payload of a datagram.
    pub bytes: usize,
    pub order: Order,
}

impl Conversation for Fragments {
    fn write(&self, capture: &mut Capture) {
        const PIECE: usize = 1480;
        let mut wire = Wire::new(capture, &self.between);
        let side = Side::Source;
        let mut flow = self.between.flow("udp");
        if self.order == Order::FirstMissing {
            "0".clone_into(&mut flow.source_port);
            "0".clone_into(&mut flow.destination_port);
        }
        let mut at_ns = self.start_ns;
        for _ in 0..self.datagrams {
            let mut network: Network = wire.network(side, headers::UDP);
            let transport = headers::udp(&network, self.between.ports, &headers::text(self.bytes));
            let pieces = transport.chunks(PIECE).count();
            let mut order: Vec<usize> = (0..pieces).collect();
            match self.order {
                Order::Sent => {}
                Order::Reversed => order.reverse(),
                Order::FirstMissing => drop(order.remove(0)),
            }
            for number in order {
                let piece = &transport[number * PIECE..transport.len().min((number + 1) * PIECE)];
                network.fragment = Some(((number * PIECE) as u16, number + 1 < pieces));
                let header = if number == 0 { 8 } else { 0 };
                let place = (&mut flow, side, at_ns);
                wire.send(place, &network, piece, piece.len() - header);
                at_ns += 100_000;
            }
            at_ns += 1_000_000;
        }
        flow.direction = flow.direction_by_counts();
        flow.state = flow.state_by_counts();
        wire.capture.push_flow(flow);
        wire.finish();
    }
}
