//! Below IP: ARP, RARP, LLC, and other ethertypes.

use std::net::IpAddr;

use crate::between::{Between, Host};
use crate::capture::{Capture, Conversation};
use crate::headers;
use crate::truth::{Flow, Side};
use crate::wire::Wire;

/// A question for the hardware address of an IPv4 address.
#[derive(Clone, Debug)]
pub struct Arp {
    pub asker: Host,
    pub target: Host,
    pub start_ns: u64,
    /// Requests, a second apart.
    pub requests: u32,
    /// The target answers the last request after this time.
    pub answer_after_ns: Option<u64>,
    /// The asker asks for itself, to announce its address.
    pub gratuitous: bool,
}

impl Arp {
    /// A request and its answer 150 µs later.
    pub const fn new(asker: Host, target: Host, start_ns: u64) -> Self {
        let answer_after_ns = Some(150_000);
        Self { asker, target, start_ns, requests: 1, answer_after_ns, gratuitous: false }
    }
}

const EVERYONE: [u8; 6] = [0xff; 6];

fn octets(host: &Host) -> [u8; 4] {
    match host.address {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(_) => [0; 4],
    }
}

/// The body of ARP and of RARP, padded to the smallest frame.
fn body(operation: u8, from: (&[u8], [u8; 4]), to: (&[u8], [u8; 4])) -> Vec<u8> {
    let mut body = vec![0, 1, 8, 0, 6, 4, 0, operation];
    body.extend(from.0);
    body.extend(from.1);
    body.extend(to.0);
    body.extend(to.1);
    body.resize(46, 0);
    body
}

impl Conversation for Arp {
    fn write(&self, capture: &mut Capture) {
        let target = if self.gratuitous { self.asker } else { self.target };
        let asking = Between::new([self.asker, target.with_mac(EVERYONE)], [0, 0]);
        let answering = Between::new([self.asker, target], [0, 0]);
        let mut flow = Flow { direction: "who".to_owned(), ..asking.portless_flow("arp") };
        let mut at_ns = self.start_ns;
        for number in 0..self.requests {
            at_ns = self.start_ns + u64::from(number) * 1_000_000_000;
            let mut wire = Wire::new(capture, &asking);
            let request =
                body(1, (&self.asker.mac, octets(&self.asker)), (&[0; 6], octets(&target)));
            wire.send_frame((&mut flow, Side::Source, at_ns), headers::ARP, &request, 0);
            wire.finish();
        }
        if let Some(after_ns) = self.answer_after_ns {
            let mut wire = Wire::new(capture, &answering);
            let from = (&target.mac[..], octets(&target));
            let answer = body(2, from, (&self.asker.mac, octets(&self.asker)));
            let place = (&mut flow, Side::Destination, at_ns + after_ns);
            wire.send_frame(place, headers::ARP, &answer, 0);
            wire.finish();
        }
        flow.state = flow.state_by_counts();
        capture.push_flow(flow);
    }
}

/// A host asks for its IPv4 address, and a server answers.
#[derive(Clone, Debug)]
pub struct Rarp {
    pub asker: Host,
    pub server: Host,
    pub start_ns: u64,
}

impl Conversation for Rarp {
    fn write(&self, capture: &mut Capture) {
        let asking = Between::new([self.asker, self.server.with_mac(EVERYONE)], [0, 0]);
        let answering = Between::new([self.asker, self.server], [0, 0]);
        let mut flow = Flow {
            protocol: "rarp".to_owned(),
            source: mac_text(self.asker.mac),
            destination: mac_text(self.asker.mac),
            direction: "who".to_owned(),
            ..Flow::default()
        };
        let question = body(3, (&self.asker.mac, [0; 4]), (&self.asker.mac, [0; 4]));
        let mut wire = Wire::new(capture, &asking);
        let place = (&mut flow, Side::Source, self.start_ns);
        wire.send_frame(place, headers::RARP, &question, 0);
        wire.finish();
        let from = (&self.server.mac[..], octets(&self.server));
        let answer = body(4, from, (&self.asker.mac, octets(&self.asker)));
        let mut wire = Wire::new(capture, &answering);
        let place = (&mut flow, Side::Destination, self.start_ns + 200_000);
        wire.send_frame(place, headers::RARP, &answer, 0);
        wire.finish();
        flow.state = flow.state_by_counts();
        capture.push_flow(flow);
    }
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

const LLDP: u16 = 0x88cc;
/// The service access point of the spanning tree protocol.
const STP: u8 = 0x42;

/// Frames without IP.
#[derive(Clone, Debug)]
pub struct Frames {
    pub from: [u8; 6],
    pub to: [u8; 6],
    pub start_ns: u64,
    pub count: u32,
    pub content: Content,
}

/// What such frames have.
#[derive(Clone, Copy, Debug)]
pub enum Content {
    /// The spanning tree protocol, over LLC.
    SpanningTree,
    /// An ethertype and 46 bytes.
    Ethertype(u16),
}

impl Conversation for Frames {
    fn write(&self, capture: &mut Capture) {
        let host = Host::v4(0);
        let between = Between::new([host.with_mac(self.from), host.with_mac(self.to)], [0, 0]);
        let mut wire = Wire::new(capture, &between);
        let port = match self.content {
            Content::SpanningTree => STP,
            Content::Ethertype(_) => 0,
        };
        let mut flow = Flow {
            source_port: port.to_string(),
            destination_port: port.to_string(),
            source: mac_text(self.from),
            destination: mac_text(self.to),
            direction: "->".to_owned(),
            state: "INT".to_owned(),
            ..Flow::default()
        };
        // Where a frame has a length instead of an ethertype, the padding does not count.
        let (ethertype, packet) = match self.content {
            Content::SpanningTree => {
                "llc".clone_into(&mut flow.protocol);
                let mut packet = vec![STP, STP, 3, 0, 0, 0, 0, 0];
                packet.resize(38, 1);
                packet.resize(46, 0);
                (38, packet)
            }
            Content::Ethertype(ethertype) => {
                flow.protocol =
                    if ethertype == LLDP { "lldp".to_owned() } else { ethertype.to_string() };
                (ethertype, headers::text(46))
            }
        };
        for number in 0..self.count {
            let at_ns = self.start_ns + u64::from(number) * 2_000_000_000;
            wire.send_frame((&mut flow, Side::Source, at_ns), ethertype, &packet, 0);
        }
        wire.capture.push_flow(flow);
        wire.finish();
    }
}
