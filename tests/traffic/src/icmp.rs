//! ICMP and ICMPv6.

use std::net::{IpAddr, Ipv6Addr};

use crate::between::{Between, Host};
use crate::capture::{Capture, Conversation};
use crate::headers;
use crate::truth::{Flow, Side};
use crate::udp::send_error;
use crate::wire::Wire;

/// Echo requests and replies. For IPv4, each request and its reply is a flow; for IPv6, all are
/// one.
#[derive(Clone, Debug)]
pub struct Echo {
    pub between: Between,
    pub start_ns: u64,
    pub id: u16,
    pub count: u16,
    pub interval_ns: u64,
    pub reply_after_ns: u64,
    /// The numbers of the requests without a reply, from 0 on.
    pub lost: Vec<u16>,
    /// Bytes of data in each message.
    pub bytes: usize,
}

impl Echo {
    /// Requests, one second apart, whose replies take 20 ms.
    pub const fn new(between: Between, start_ns: u64, id: u16, count: u16) -> Self {
        Self {
            between,
            start_ns,
            id,
            count,
            interval_ns: 1_000_000_000,
            reply_after_ns: 20_000_000,
            lost: Vec::new(),
            bytes: 56,
        }
    }
}

impl Conversation for Echo {
    fn write(&self, capture: &mut Capture) {
        let is_v6 = self.between.is_v6();
        let (protocol, kinds) =
            if is_v6 { (headers::ICMPV6, [128, 129]) } else { (headers::ICMP, [8, 0]) };
        let empty = || Flow {
            source_port: if is_v6 { "128" } else { "0x0008" }.to_owned(),
            destination_port: if is_v6 { "0".to_owned() } else { format!("0x{:04x}", self.id) },
            ..self.between.portless_flow(if is_v6 { "ipv6-icmp" } else { "icmp" })
        };
        let mut wire = Wire::new(capture, &self.between);
        let mut flows = vec![];
        for number in 0..self.count {
            if !is_v6 || number == 0 {
                flows.push(empty());
            }
            let Some(flow) = flows.last_mut() else { break };
            let at_ns = self.start_ns + u64::from(number) * self.interval_ns;
            for (side, kind) in [Side::Source, Side::Destination].into_iter().zip(kinds) {
                if side == Side::Destination && self.lost.contains(&number) {
                    continue;
                }
                let [id, sequence] = [self.id.to_be_bytes(), (number + 1).to_be_bytes()];
                let word = [id[0], id[1], sequence[0], sequence[1]];
                let network = wire.network(side, protocol);
                let data = headers::text(self.bytes);
                let message = headers::icmp(&network, [kind, 0], word, &data);
                let at_ns = at_ns + side.index() as u64 * self.reply_after_ns;
                wire.send((flow, side, at_ns), &network, &message, message.len());
            }
        }
        for mut flow in flows {
            flow.direction = flow.direction_by_counts();
            "ECO".clone_into(&mut flow.state);
            wire.capture.push_flow(flow);
        }
        wire.finish();
    }
}

/// A timestamp request and its reply.
#[derive(Clone, Debug)]
pub struct Timestamp {
    pub between: Between,
    pub start_ns: u64,
    pub id: u16,
}

impl Conversation for Timestamp {
    fn write(&self, capture: &mut Capture) {
        let mut wire = Wire::new(capture, &self.between);
        let mut flow = Flow {
            source_port: "0x000d".to_owned(),
            destination_port: format!("0x{:04x}", self.id),
            state: "TST".to_owned(),
            direction: "<->".to_owned(),
            ..self.between.portless_flow("icmp")
        };
        for (side, kind) in [(Side::Source, 13), (Side::Destination, 14)] {
            let [high, low] = self.id.to_be_bytes();
            let network = wire.network(side, headers::ICMP);
            let message = headers::icmp(&network, [kind, 0], [high, low, 0, 1], &[0; 12]);
            let at_ns = self.start_ns + side.index() as u64 * 7_000_000;
            wire.send((&mut flow, side, at_ns), &network, &message, message.len());
        }
        wire.capture.push_flow(flow);
        wire.finish();
    }
}

/// A UDP packet that lives too short a time, and the error that a router sends.
#[derive(Clone, Debug)]
pub struct TimeExceeded {
    pub between: Between,
    pub start_ns: u64,
    pub router: IpAddr,
}

impl Conversation for TimeExceeded {
    fn write(&self, capture: &mut Capture) {
        let mut wire = Wire::new(capture, &self.between);
        let mut flow = self.between.flow("udp");
        let mut network = wire.network(Side::Source, headers::UDP);
        network.ttl = 1;
        let transport = headers::udp(&network, self.between.ports, &headers::text(32));
        wire.send((&mut flow, Side::Source, self.start_ns), &network, &transport, 32);
        let mut packet = Vec::new();
        network.write(&transport, &mut packet);
        flow.direction = flow.direction_by_counts();
        flow.state = flow.state_by_counts();
        wire.capture.push_flow(flow);
        let kind = if self.between.is_v6() { [3, 0] } else { [11, 0] };
        let error = (self.start_ns + 3_000_000, kind);
        send_error(&mut wire, &self.between, self.router, error, &packet);
        wire.finish();
    }
}

/// A router redirects the source of a packet to another gateway.
#[derive(Clone, Debug)]
pub struct Redirect {
    pub between: Between,
    pub start_ns: u64,
    pub gateway: [u8; 4],
}

impl Conversation for Redirect {
    fn write(&self, capture: &mut Capture) {
        let mut wire = Wire::new(capture, &self.between);
        let mut packet = Vec::new();
        let mut quoted = wire.network(Side::Destination, headers::UDP);
        quoted.destination = IpAddr::from([192, 0, 2, 99]);
        quoted.write(&headers::udp(&quoted, [5000, 6000], &[]), &mut packet);
        let network = wire.network(Side::Source, headers::ICMP);
        let message = headers::icmp(&network, [5, 1], self.gateway, &packet);
        let mut flow = Flow {
            source_port: "0x0105".to_owned(),
            // The first octets of the address that was not the right way.
            destination_port: "0xc000".to_owned(),
            state: "RED".to_owned(),
            direction: "->".to_owned(),
            ..self.between.portless_flow("icmp")
        };
        let place = (&mut flow, Side::Source, self.start_ns);
        wire.send(place, &network, &message, message.len());
        wire.capture.push_flow(flow);
        wire.finish();
    }
}

/// What IPv6 hosts and routers say to find each other.
#[derive(Clone, Copy, Debug)]
pub enum Neighbour {
    /// A solicitation and its advertisement.
    Found,
    /// Solicitations, a second apart.
    Missing(u32),
    /// Advertisements of a router to all nodes, three seconds apart.
    Router(u32),
}

/// Neighbour discovery.
#[derive(Clone, Debug)]
pub struct Discovery {
    pub asker: Host,
    pub target: Host,
    pub start_ns: u64,
    pub what: Neighbour,
}

impl Conversation for Discovery {
    fn write(&self, capture: &mut Capture) {
        let (kind, count, group) = match self.what {
            Neighbour::Found => (135, 1, solicited_node(self.target.address)),
            Neighbour::Missing(count) => (135, count, solicited_node(self.target.address)),
            Neighbour::Router(count) => (134, count, IpAddr::from([0xff02, 0, 0, 0, 0, 0, 0, 1])),
        };
        let listener = self.target.with_address(group).with_mac([0x33, 0x33, 0, 0, 0, 1]);
        let between = Between::new([self.asker, listener], [0, 0]);
        let mut wire = Wire::new(capture, &between);
        let mut flow = Flow {
            source_port: kind.to_string(),
            destination_port: "0".to_owned(),
            state: state_of(kind).to_owned(),
            direction: "->".to_owned(),
            ..between.portless_flow("ipv6-icmp")
        };
        for number in 0..count {
            let interval_ns = if kind == 134 { 3_000_000_000 } else { 1_000_000_000 };
            let at_ns = self.start_ns + u64::from(number) * interval_ns;
            let mut network = wire.network(Side::Source, headers::ICMPV6);
            network.ttl = 255;
            let body = match kind {
                134 => router_body(self.asker),
                _ => [address_of(self.target), option(1, self.asker)].concat(),
            };
            let word = if kind == 134 { [64, 0, 7, 8] } else { [0; 4] };
            let message = headers::icmp(&network, [kind, 0], word, &body);
            wire.send((&mut flow, Side::Source, at_ns), &network, &message, message.len());
        }
        wire.capture.push_flow(flow);
        wire.finish();
        if matches!(self.what, Neighbour::Found) {
            self.answer(capture);
        }
    }
}

impl Discovery {
    fn answer(&self, capture: &mut Capture) {
        let between = Between::new([self.target, self.asker], [0, 0]);
        let mut wire = Wire::new(capture, &between);
        let mut flow = Flow {
            source_port: "136".to_owned(),
            destination_port: "0".to_owned(),
            state: state_of(136).to_owned(),
            direction: "->".to_owned(),
            ..between.portless_flow("ipv6-icmp")
        };
        let mut network = wire.network(Side::Source, headers::ICMPV6);
        network.ttl = 255;
        let body = [address_of(self.target), option(2, self.target)].concat();
        let message = headers::icmp(&network, [136, 0], [0x60, 0, 0, 0], &body);
        let place = (&mut flow, Side::Source, self.start_ns + 400_000);
        wire.send(place, &network, &message, message.len());
        wire.capture.push_flow(flow);
        wire.finish();
    }
}

const fn state_of(kind: u8) -> &'static str {
    match kind {
        134 => "NRA",
        135 => "NNS",
        _ => "NNA",
    }
}

fn solicited_node(address: IpAddr) -> IpAddr {
    let IpAddr::V6(address) = address else { return address };
    let [.., a, b, c] = address.octets();
    let low = u16::from_be_bytes([b, c]);
    IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), low))
}

fn address_of(host: Host) -> Vec<u8> {
    match host.address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The option that gives a hardware address.
fn option(kind: u8, host: Host) -> Vec<u8> {
    [&[kind, 1], &host.mac[..]].concat()
}

fn router_body(router: Host) -> Vec<u8> {
    let mut body = vec![0, 0, 0x75, 0x30, 0, 0, 3, 0xe8];
    body.extend(option(1, router));
    body
}
