//! Puts packets into frames, frames into the capture, and counts them.

use std::net::IpAddr;

use crate::between::{Between, Layer, TUNNEL_ENDS};
use crate::capture::Capture;
use crate::headers::{self, Network};
use crate::truth::{Flow, Side};

const ETHERTYPE_BRIDGED: u16 = 0x6558;

/// What the packets of one conversation go through.
#[derive(Debug)]
pub(crate) struct Wire<'c, 'b> {
    pub(crate) capture: &'c mut Capture,
    between: &'b Between,
    /// The next IP id of each side.
    ids: [u16; 2],
    ah_sequence: [u32; 2],
    outer: Option<Flow>,
}

impl<'c, 'b> Wire<'c, 'b> {
    pub(crate) fn new(capture: &'c mut Capture, between: &'b Between) -> Self {
        let first = capture.seed().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
        let outer = between.layers.iter().find_map(Layer::outer).map(|(protocol, ports)| Flow {
            protocol: protocol.to_owned(),
            source: TUNNEL_ENDS[0].to_string(),
            destination: TUNNEL_ENDS[1].to_string(),
            source_port: ports[0].to_owned(),
            destination_port: ports[1].to_owned(),
            ..Flow::default()
        });
        let ids = [first as u16 | 1, first as u16 ^ 0x5555];
        Self { capture, between, ids, ah_sequence: [0, 0], outer }
    }

    /// Ends the conversation.
    pub(crate) fn finish(self) {
        if let Some(mut outer) = self.outer {
            outer.direction = outer.direction_by_counts();
            outer.state = outer.state_by_counts();
            self.capture.push_outer_flow(outer);
        }
    }

    /// The next IP id of a side.
    pub(crate) const fn next_id(&mut self, side: Side) -> u16 {
        let id = self.ids[side.index()];
        self.ids[side.index()] = id.wrapping_add(1);
        id
    }

    /// A new header for a packet from one side, with the side's next IP id.
    pub(crate) fn network(&mut self, side: Side, protocol: u8) -> Network<'b> {
        let id = self.next_id(side);
        self.network_with_id(side, protocol, id)
    }

    /// A new header for a packet from one side.
    pub(crate) fn network_with_id(&self, side: Side, protocol: u8, id: u16) -> Network<'b> {
        let (from, to) = (self.between.host(side), self.between.host(side.other()));
        Network {
            source: from.address,
            destination: to.address,
            protocol,
            ttl: from.ttl,
            tos: from.tos,
            id,
            fragment: None,
            options: &self.between.options,
        }
    }

    /// Sends a packet, and counts it in the flow. [`Flow`] has which bytes are the application's.
    pub(crate) fn send(
        &mut self,
        (flow, side, at_ns): (&mut Flow, Side, u64),
        network: &Network,
        transport: &[u8],
        application_bytes: usize,
    ) {
        let mut packet = Vec::with_capacity(60 + transport.len());
        match self.between.layers.last() {
            Some(Layer::Ah(spi)) => {
                let sequence = &mut self.ah_sequence[side.index()];
                *sequence += 1;
                let mut secured = vec![network.protocol, 4, 0, 0];
                secured.extend(spi.to_be_bytes());
                secured.extend(sequence.to_be_bytes());
                secured.extend([0xa5; 12]);
                secured.extend(transport);
                Network { protocol: headers::AH, ..network.clone() }.write(&secured, &mut packet);
            }
            _ => network.write(transport, &mut packet),
        }
        self.send_frame((flow, side, at_ns), network.ethertype(), &packet, application_bytes);
    }

    /// Sends what is behind an Ethernet header.
    pub(crate) fn send_frame(
        &mut self,
        (flow, side, at_ns): (&mut Flow, Side, u64),
        ethertype: u16,
        packet: &[u8],
        application_bytes: usize,
    ) {
        let (frame, outer_application_bytes) = self.frame(side, ethertype, packet);
        flow.count(side, at_ns, frame.len(), application_bytes);
        if let Some(outer) = &mut self.outer {
            outer.count(side, at_ns, frame.len(), outer_application_bytes);
        }
        self.capture.push(at_ns, &frame);
    }

    /// The frame, and the bytes inside of its tunnel.
    fn frame(&mut self, side: Side, ethertype: u16, packet: &[u8]) -> (Vec<u8>, usize) {
        let (from, to) = (self.between.host(side).mac, self.between.host(side.other()).mac);
        let ethernet = |ethertype: u16, packet: &[u8]| {
            let mut frame = Vec::with_capacity(14 + packet.len());
            frame.extend(to);
            frame.extend(from);
            frame.extend(ethertype.to_be_bytes());
            frame.extend(packet);
            frame
        };
        let between = self.between;
        if between.layers.is_empty() {
            return (ethernet(ethertype, packet), 0);
        }
        let mut inner = (ethertype, packet.to_vec());
        let mut outer_application_bytes = 0;
        for layer in between.layers.iter().rev() {
            let (ethertype, packet) = &inner;
            inner = match layer {
                Layer::Ah(_) => continue,
                Layer::Vxlan(_) | Layer::Geneve(_) => {
                    let bridged = ethernet(*ethertype, packet);
                    self.tunnelled(side, layer, &bridged, &mut outer_application_bytes)
                }
                Layer::Gre => {
                    let mut payload = vec![0, 0];
                    payload.extend(ethertype.to_be_bytes());
                    payload.extend(packet);
                    self.tunnelled(side, layer, &payload, &mut outer_application_bytes)
                }
                Layer::Ipip | Layer::SixInFour | Layer::Teredo => {
                    self.tunnelled(side, layer, packet, &mut outer_application_bytes)
                }
                Layer::Vlan(_) | Layer::Provider(_) | Layer::Mpls(_) | Layer::Pppoe(_) => {
                    tagged(layer, *ethertype, packet)
                }
            };
        }
        (ethernet(inner.0, &inner.1), outer_application_bytes)
    }

    /// The ethertype and the packet that carry a payload through a tunnel.
    fn tunnelled(
        &mut self,
        side: Side,
        layer: &Layer,
        payload: &[u8],
        application_bytes: &mut usize,
    ) -> (u16, Vec<u8>) {
        let mut network = self.network(side, headers::UDP);
        network.options = &[];
        network.source = IpAddr::V4(TUNNEL_ENDS[side.index()]);
        network.destination = IpAddr::V4(TUNNEL_ENDS[side.other().index()]);
        let udp = |port: u16, header: &[u8]| {
            let ports = match side {
                Side::Source => [50000, port],
                Side::Destination => [port, 50000],
            };
            headers::udp(&network, ports, &[header, payload].concat())
        };
        let (protocol, transport, header) = match layer {
            Layer::Vxlan(number) => {
                let [_, a, b, c] = number.to_be_bytes();
                (headers::UDP, udp(4789, &[8, 0, 0, 0, a, b, c, 0]), 8)
            }
            Layer::Geneve(number) => {
                let [_, a, b, c] = number.to_be_bytes();
                let [high, low] = ETHERTYPE_BRIDGED.to_be_bytes();
                (headers::UDP, udp(6081, &[0, 0, high, low, a, b, c, 0]), 8)
            }
            Layer::Teredo => (headers::UDP, udp(3544, &[]), 8),
            Layer::Gre => (headers::GRE, payload.to_vec(), 0),
            Layer::SixInFour => (headers::IPV6_IN, payload.to_vec(), 0),
            _ => (headers::IPIP, payload.to_vec(), 0),
        };
        network.protocol = protocol;
        *application_bytes = transport.len() - header;
        let mut packet = Vec::with_capacity(20 + transport.len());
        network.write(&transport, &mut packet);
        (headers::IPV4, packet)
    }
}

/// The ethertype and the bytes with a tag, labels or a session header before a packet.
fn tagged(layer: &Layer, ethertype: u16, packet: &[u8]) -> (u16, Vec<u8>) {
    let mut bytes = Vec::with_capacity(12 + packet.len());
    let outer_type = match layer {
        Layer::Vlan(tag) | Layer::Provider(tag) => {
            bytes.extend(tag.to_be_bytes());
            bytes.extend(ethertype.to_be_bytes());
            if matches!(layer, Layer::Vlan(_)) { 0x8100 } else { 0x88a8 }
        }
        Layer::Mpls(labels) => {
            for (number, label) in labels.iter().enumerate() {
                let is_bottom = u32::from(number + 1 == labels.len());
                bytes.extend((label << 12 | is_bottom << 8 | 64).to_be_bytes());
            }
            0x8847
        }
        Layer::Pppoe(session) => {
            bytes.extend([0x11, 0]);
            bytes.extend(session.to_be_bytes());
            bytes.extend(((packet.len() + 2) as u16).to_be_bytes());
            bytes.extend(if ethertype == headers::IPV6 { [0, 0x57] } else { [0, 0x21] });
            0x8864
        }
        _ => ethertype,
    };
    bytes.extend(packet);
    (outer_type, bytes)
}
