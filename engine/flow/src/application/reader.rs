//! Reads beginnings of streams and datagrams, and keeps what they tell.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use panoptes_decoders::application::dns::DnsMessage;
use panoptes_decoders::packet::Ip;
use panoptes_decoders::packet::transport::ports;
use panoptes_records::flow::FlowDirection;
use panoptes_records::flow::application::{Application, ApplicationProtocol};
use panoptes_tables::HashKey;

use super::passive_dns::{Exchange, PassiveDns};
use super::pool::Pool;
use super::settings::{ApplicationSettings, Protocols};
use super::stream::{STREAM_BYTES_MAX, StreamDemand};
use super::{STREAM_READERS, dns, quic, start, tls};
use crate::identity::DNS;
use crate::reports::Reports;

/// The port of SSH: its owner is the server, even if the beginning of a connection was not seen.
const SSH: u16 = 22;
/// The port of multicast DNS.
const MULTICAST_DNS: u16 = 5353;

/// A packet of a flow: who sends it to whom, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct PacketContext {
    pub(super) flow: u32,
    /// 0 from the source of the flow, 1 from its destination.
    pub(super) end: usize,
    is_client: bool,
    /// The ports of the sender and of the receiver, and their addresses.
    ports: [u16; 2],
    addresses: [u128; 2],
    is_v6: bool,
    time_ns: i64,
}

impl PacketContext {
    pub(super) fn new(flow: u32, direction: FlowDirection, ip: &Ip<'_>, time_ns: i64) -> Self {
        let header = if ip.is_first_fragment() { ip.payload } else { &[] };
        let (source, destination) = ports(header).unwrap_or_default();
        let is_from_source = direction == FlowDirection::FromSource;
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
            addresses: [ip.source, ip.destination],
            is_v6: ip.is_v6,
            time_ns,
        }
    }

    pub(super) fn is_dns(&self) -> bool {
        self.ports.iter().any(|port| dns::PORTS.contains(port))
    }

    /// The sender, as a hash: of IPv6 its network, in which it has all addresses.
    pub(super) const fn source(&self) -> u32 {
        let address = self.addresses[0];
        if self.is_v6 { (address >> 64 ^ address >> 96) as u32 } else { address as u32 }
    }

    fn is_multicast_dns(&self) -> bool {
        self.ports.contains(&MULTICAST_DNS)
    }

    /// The sender and the receiver.
    fn addresses(&self) -> [IpAddr; 2] {
        self.addresses.map(|address| {
            if self.is_v6 {
                Ipv6Addr::from_bits(address).into()
            } else {
                Ipv4Addr::from_bits(address as u32).into()
            }
        })
    }
}

/// The applications of all flows, as far as they are known.
#[derive(Debug)]
pub(super) struct ApplicationReader {
    settings: ApplicationSettings,
    pool: Pool,
    /// What connections became that had begun as something else.
    later: Pool,
    passive_dns: Option<Box<PassiveDns>>,
}

impl ApplicationReader {
    pub(super) fn new(settings: &ApplicationSettings, flows: usize, key: HashKey) -> Self {
        let has_passive_dns =
            settings.has_passive_dns && settings.protocols.has(ApplicationProtocol::Dns);
        let has_tls = settings.protocols.has(ApplicationProtocol::Tls);
        Self {
            settings: *settings,
            pool: Pool::new(if settings.protocols.is_empty() { 0 } else { flows }),
            later: Pool::new(if has_tls { flows } else { 0 }),
            passive_dns: has_passive_dns.then(|| Box::new(PassiveDns::new(key))),
        }
    }

    pub(super) const fn protocols(&self) -> Protocols {
        self.settings.protocols
    }

    pub(super) const fn has(&self, protocol: ApplicationProtocol) -> bool {
        self.settings.protocols.has(protocol)
    }

    /// The applications of a flow: that of its beginning, and that of later data.
    pub(super) fn get(&self, flow: u32) -> (Option<&Application>, Option<&Application>) {
        (self.pool.get(flow), self.later.get(flow))
    }

    /// Whether a hello of TLS is known.
    pub(super) fn has_tls(&self, flow: u32) -> bool {
        let all = [self.pool.get(flow), self.later.get(flow)];
        all.into_iter().flatten().any(|one| matches!(one, Application::Tls(_)))
    }

    /// Forgets a flow.
    pub(super) fn clear(&mut self, flow: u32) {
        self.pool.clear(flow);
        self.later.clear(flow);
    }

    /// How often there were too many answers of DNS.
    pub(super) fn overflows(&self) -> u64 {
        self.passive_dns.as_ref().map_or(0, |answers| answers.overflows)
    }

    pub(super) fn report_resolutions(&mut self, reports: &mut impl Reports) {
        if let Some(answers) = &mut self.passive_dns {
            answers.report(reports);
        }
    }

    /// Reads the beginning of a TCP stream, or what comes behind the header of a proxy there.
    pub(super) fn read(
        &mut self,
        way: &PacketContext,
        stream: &[u8],
        reports: &mut impl Reports,
    ) -> StreamDemand {
        if let Some(need) = start::missing(stream) {
            return StreamDemand::Wait(need);
        }
        let at = start::find(stream, self.settings.protocols).map_or(0, |start| start.at);
        match self.read_at_once(way, &stream[at..], reports) {
            StreamDemand::Wait(need) => StreamDemand::Wait(at + need),
            StreamDemand::Done => StreamDemand::Done,
        }
    }

    fn read_at_once(
        &mut self,
        way: &PacketContext,
        stream: &[u8],
        reports: &mut impl Reports,
    ) -> StreamDemand {
        if way.is_dns() && self.has(ApplicationProtocol::Dns) {
            match dns::of_stream(stream) {
                Ok(message) => {
                    self.take(way, &message, reports);
                    return StreamDemand::Done;
                }
                // No message is so long, and each other protocol begins so.
                Err(StreamDemand::Wait(need)) if need > STREAM_BYTES_MAX => {}
                Err(step) => return step,
            }
        }
        let protocols = self.settings.protocols;
        if protocols.has(ApplicationProtocol::Tls) && tls::is_record(stream) {
            let begun = self.pool.get(way.flow);
            let is_later = begun.is_some_and(|begun| !matches!(begun, Application::Tls(_)));
            let pool = if is_later { &mut self.later } else { &mut self.pool };
            return pool.change(way.flow, |known| tls::read(stream, known));
        }
        let mut readers = STREAM_READERS.iter();
        let reader = readers.find(|one| protocols.has(one.protocol) && (one.may_begin)(stream));
        let Some(reader) = reader else { return StreamDemand::Done };
        self.pool.change(way.flow, |known| (reader.read)(stream, way.is_client, known))
    }

    /// Reads the beginning of a hello of DTLS.
    pub(super) fn datagrams(&mut self, way: &PacketContext, message: &[u8]) -> StreamDemand {
        self.pool.change(way.flow, |known| tls::read_datagrams(message, known))
    }

    /// Reads a datagram of DNS.
    pub(super) fn message(&mut self, way: &PacketContext, data: &[u8], reports: &mut impl Reports) {
        if let Some(message) = DnsMessage::decode(data)
            .filter(|message| dns::is_plausible(message, way.is_multicast_dns()))
        {
            self.take(way, &message, reports);
        }
    }

    fn take(&mut self, way: &PacketContext, message: &DnsMessage<'_>, reports: &mut impl Reports) {
        if !self.has(ApplicationProtocol::Dns) {
            return;
        }
        let [server, client] = way.addresses();
        // Each host answers multicast DNS.
        let is_answer = message.is_response() && way.ports[0] == DNS;
        let servers = Some(&self.settings.dns_servers).filter(|_| is_answer);
        let is_known_server = servers.and_then(|servers| servers.has(server));
        self.pool.change(way.flow, |known| dns::take(message, is_known_server, known));
        if let Some(answers) = self.passive_dns.as_mut().filter(|_| is_answer) {
            let exchange = Exchange { server, client, is_known_server, time_ns: way.time_ns };
            answers.add(message, &exchange, reports);
        }
    }

    /// Reads the beginning of the client's stream in QUIC. Whether its hello is whole.
    pub(super) fn hello(&mut self, way: &PacketContext, stream: &[u8], version: u32) -> bool {
        self.pool.change(way.flow, |known| quic::read(stream, version, known))
    }
}
