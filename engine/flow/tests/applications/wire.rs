//! Packets between two hosts, and the applications of their records.

use panoptes_decoders::packet::transport::{flag, protocol};
use panoptes_decoders::packet::{Fragment, Ip, Network, Packet};
use panoptes_flow::{
    ApplicationSettings, FlowTableCounts, FlowTableSettings, Flows, Protocols, Reports, Timeouts,
};
use panoptes_records::flow::application::{Application, Quic, TlsHellos};
use panoptes_records::flow::{Extra, FlowRecord, NameResolution};
use panoptes_tables::HashKey;

/// Keeps the applications of each record (how it began, what it became), and the answers of DNS
/// with their number.
#[derive(Debug, Default)]
struct Kept(Vec<(Application, Application)>, Vec<(String, u64)>);

impl Reports for Kept {
    fn report(&mut self, _: &FlowRecord, extra: &Extra<'_>) {
        let [first, later] = [extra.application, extra.later_application];
        self.0.push((first.copied().unwrap_or_default(), later.copied().unwrap_or_default()));
    }

    fn resolved(&mut self, resolution: &NameResolution<'_>) {
        let answer = String::from_utf8_lossy(resolution.answer).into_owned();
        self.1.push((answer, resolution.count));
    }
}

/// The port of the client, where it does not matter.
const PORT: u16 = 40_000;

/// Flows, and a clock.
#[derive(Debug)]
pub(crate) struct Wire {
    flows: Flows,
    kept: Kept,
    now_ns: i64,
}

impl Wire {
    pub(crate) fn new(capacity: usize) -> Self {
        let (protocols, has_passive_dns) = (Protocols::ALL, true);
        let application =
            ApplicationSettings { protocols, has_passive_dns, ..ApplicationSettings::default() };
        let settings = FlowTableSettings {
            capacity,
            status_interval_ns: 5_000_000_000,
            timeouts: Timeouts::default(),
            has_jitter: false,
            user_bytes: 0,
            application,
            ..FlowTableSettings::default()
        };
        let flows = Flows::new(&settings, HashKey::new(7));
        Self { flows, kept: Kept::default(), now_ns: 1_700_000_000_000_000_000 }
    }

    fn send(&mut self, protocol: u8, is_client: bool, payload: &[u8]) {
        self.send_with_ttl(protocol, is_client, 0, payload);
    }

    fn send_with_ttl(&mut self, protocol: u8, is_client: bool, ttl: u8, payload: &[u8]) {
        self.now_ns += 1_000_000;
        let [source, destination] = if is_client { [1, 2] } else { [2, 1] };
        let payload_length = payload.len() as u32;
        let whole = Ip { source, destination, protocol, ..Ip::default() };
        let ip = Ip { ttl, payload, payload_length, ..whole };
        let packet = Packet { network: Network::Ip(ip), ..Packet::default() };
        self.flows.packet(&packet, self.now_ns, 34 + payload_length, &mut self.kept);
    }

    /// Sends a segment of the flow with the client's port.
    pub(crate) fn tcp(
        &mut self,
        port: u16,
        is_client: bool,
        sequence: u32,
        flags: u8,
        data: &[u8],
    ) {
        self.segment(port, is_client, (sequence, 0), flags, data);
    }

    /// The same with the number that it acknowledges.
    pub(crate) fn segment(
        &mut self,
        port: u16,
        is_client: bool,
        (sequence, acknowledged): (u32, u32),
        flags: u8,
        data: &[u8],
    ) {
        let ports = if is_client { [port, 443] } else { [443, port] };
        let bytes = segment(ports, (sequence, acknowledged), flags, data);
        self.send(protocol::TCP, is_client, &bytes);
    }

    /// The same between a client and the server of another port.
    pub(crate) fn segment_to(&mut self, port: u16, sequence: u32, data: &[u8]) {
        let bytes = segment([PORT, port], (sequence, 0), flag::ACK, data);
        self.send(protocol::TCP, true, &bytes);
    }

    /// Sends a segment with a checksum that is right, or that is not, and with a time to live.
    pub(crate) fn sent(
        &mut self,
        is_client: bool,
        (sequence, acknowledged): (u32, u32),
        (flags, ttl, is_right): (u8, u8, bool),
        data: &[u8],
    ) {
        let ports = if is_client { [PORT, 443] } else { [443, PORT] };
        let mut bytes = segment(ports, (sequence, acknowledged), flags, data);
        // The pseudo header has the addresses 1 and 2, the protocol and the length.
        let header = 1 + 2 + u32::from(protocol::TCP) + bytes.len() as u32;
        let words = bytes.chunks(2).map(|word| {
            u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or_default())
        });
        let sum = (header + words.sum::<u32>()) % 0xffff;
        let checksum = if is_right { 0xffff - sum } else { 0x1234 };
        bytes[16..18].copy_from_slice(&(checksum as u16).to_be_bytes());
        self.send_with_ttl(protocol::TCP, is_client, ttl, &bytes);
    }

    /// Sends the segment of the client in fragments of so many bytes.
    pub(crate) fn in_fragments(&mut self, sequence: u32, data: &[u8], bytes: usize) {
        let whole = segment([PORT, 443], (sequence, 0), flag::ACK, data);
        self.fragments(protocol::TCP, &whole, bytes);
    }

    /// Sends a datagram of the client in fragments of so many bytes.
    pub(crate) fn datagram_in_fragments(&mut self, data: &[u8], bytes: usize) {
        let words = [PORT, 443, 8 + data.len() as u16, 0];
        let header: Vec<u8> = words.into_iter().flat_map(u16::to_be_bytes).collect();
        self.fragments(protocol::UDP, &[&header[..], data].concat(), bytes);
    }

    fn fragments(&mut self, protocol: u8, whole: &[u8], bytes: usize) {
        for (number, payload) in whole.chunks(bytes).enumerate() {
            self.now_ns += 1_000_000;
            let offset = number * bytes;
            let more = offset + payload.len() < whole.len();
            let fragment = Some(Fragment { offset: offset as u16, more, id: 7 });
            let payload_length = payload.len() as u32;
            let (source, destination) = (1, 2);
            let ip = Ip { source, destination, protocol, fragment, ..Ip::default() };
            let network = Network::Ip(Ip { payload, payload_length, ..ip });
            let packet = Packet { network, ..Packet::default() };
            self.flows.packet(&packet, self.now_ns, 34 + payload_length, &mut self.kept);
        }
    }

    /// Sends a datagram between two ports.
    pub(crate) fn datagram(&mut self, ports: [u16; 2], data: &[u8]) {
        let words = [ports[0], ports[1], 8 + data.len() as u16, 0];
        let header: Vec<u8> = words.into_iter().flat_map(u16::to_be_bytes).collect();
        self.send(protocol::UDP, true, &[&header[..], data].concat());
    }

    pub(crate) fn udp(&mut self, is_client: bool, data: &[u8]) {
        let ports = if is_client { [50_000, 443] } else { [443, 50_000] };
        let words = [ports[0], ports[1], 8 + data.len() as u16, 0];
        let header: Vec<u8> = words.into_iter().flat_map(u16::to_be_bytes).collect();
        self.send(protocol::UDP, is_client, &[&header[..], data].concat());
    }

    /// Sends a message of multicast DNS.
    pub(crate) fn multicast_dns(&mut self, data: &[u8]) {
        let words = [5353, 5353, 8 + data.len() as u16, 0];
        let header: Vec<u8> = words.into_iter().flat_map(u16::to_be_bytes).collect();
        self.send(protocol::UDP, true, &[&header[..], data].concat());
    }

    /// Sends a message from the port of DNS.
    pub(crate) fn dns(&mut self, data: &[u8]) {
        let words = [53, 50_000, 8 + data.len() as u16, 0];
        let header: Vec<u8> = words.into_iter().flat_map(u16::to_be_bytes).collect();
        self.send(protocol::UDP, false, &[&header[..], data].concat());
    }

    /// The answers that were reported since the last call.
    pub(crate) fn resolutions(&mut self) -> Vec<(String, u64)> {
        self.flows.report_resolutions(&mut self.kept);
        std::mem::take(&mut self.kept.1)
    }

    pub(crate) fn counts(&self) -> FlowTableCounts {
        self.flows.counts()
    }

    /// The applications of all records.
    pub(crate) fn finish(self) -> Vec<Application> {
        self.finish_with_later().into_iter().map(|(first, _)| first).collect()
    }

    /// The same, and what they became later.
    pub(crate) fn finish_with_later(mut self) -> Vec<(Application, Application)> {
        self.flows.finish(&mut self.kept);
        self.kept.0
    }

    /// That of the only record.
    #[track_caller]
    pub(crate) fn only(self) -> Application {
        let applications = self.finish();
        let [application] = &applications[..] else { panic!("one record: {applications:?}") };
        *application
    }

    #[track_caller]
    pub(crate) fn tls(self) -> TlsHellos {
        let application = self.only();
        let Application::Tls(tls) = application else { panic!("no TLS: {application:?}") };
        tls
    }

    #[track_caller]
    pub(crate) fn quic(self) -> Quic {
        let application = self.only();
        let Application::Quic(quic) = application else { panic!("no QUIC: {application:?}") };
        quic
    }
}

/// A segment without a checksum.
fn segment(ports: [u16; 2], numbers: (u32, u32), flags: u8, data: &[u8]) -> Vec<u8> {
    let mut bytes: Vec<u8> = ports.into_iter().flat_map(u16::to_be_bytes).collect();
    bytes.extend(numbers.0.to_be_bytes());
    bytes.extend(numbers.1.to_be_bytes());
    bytes.extend([0x50, flags, 0xff, 0, 0, 0, 0, 0]);
    bytes.extend(data);
    bytes
}
