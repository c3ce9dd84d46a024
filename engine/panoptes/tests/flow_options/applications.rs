//! `--application` and `--sequence`: what the data of flows tell. Argus has neither.
//!
//! The data were sent by real programs (`decoders/tests/application/captured`), and the truth is
//! what these programs were asked to do.

use std::path::Path;

use serde_json::{Value, json};

use crate::programs::{Folder, Sensor, bytes, run};

#[path = "../../../../decoders/tests/application/recorded.rs"]
mod recorded;

use recorded::data;

const CLIENT: [u8; 4] = [10, 1, 0, 1];
const SERVER: [u8; 4] = [192, 0, 2, 53];
const TCP: u8 = 6;
const UDP: u8 = 17;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// A capture in the making, with a packet each millisecond.
struct Packets {
    file: Vec<u8>,
    now_us: u32,
}

impl Packets {
    fn new() -> Self {
        let magic_and_version = [0xa1b2_c3d4_u32, 0x0004_0002];
        let rest = [0, 0, 0x4_0000, 1];
        let words = magic_and_version.into_iter().chain(rest);
        Self { file: words.flat_map(u32::to_le_bytes).collect(), now_us: 0 }
    }

    fn ip(&mut self, is_client: bool, protocol: u8, transport: &[u8]) {
        let [source, target] = if is_client { [CLIENT, SERVER] } else { [SERVER, CLIENT] };
        let length = (20 + transport.len()) as u16;
        let mut frame = [&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0][..]].concat();
        frame.extend(length.to_be_bytes());
        frame.extend([0, 0, 0, 0, 64, protocol, 0, 0]);
        frame.extend([source, target].concat());
        frame.extend(transport);
        self.now_us += 1000;
        let length = frame.len() as u32;
        for word in [1_700_000_000, self.now_us, length, length] {
            self.file.extend(word.to_le_bytes());
        }
        self.file.extend(frame);
    }

    fn udp(&mut self, is_client: bool, ports: [u16; 2], data: &[u8]) {
        let [source, target] = if is_client { ports } else { [ports[1], ports[0]] };
        let words = [source, target, 8 + data.len() as u16, 0];
        let header: Vec<u8> = words.into_iter().flat_map(u16::to_be_bytes).collect();
        self.ip(is_client, UDP, &[&header[..], data].concat());
    }

    fn tcp(&mut self, is_client: bool, ports: [u16; 2], sequence: u32, flags: u8, data: &[u8]) {
        let [source, target] = if is_client { ports } else { [ports[1], ports[0]] };
        let mut header: Vec<u8> = [source, target].into_iter().flat_map(u16::to_be_bytes).collect();
        header.extend(sequence.to_be_bytes());
        // The number of the other end's first byte, which a SYN+ACK has to have.
        let acknowledged: u32 = match flags & ACK {
            0 => 0,
            _ if is_client => 5000,
            _ => 1000,
        };
        header.extend(acknowledged.to_be_bytes());
        header.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        self.ip(is_client, TCP, &[&header[..], data].concat());
    }

    /// A connection in which each end sends this.
    fn connection(mut self, ports: [u16; 2], client: &[&[u8]], server: &[u8]) -> Self {
        self.tcp(true, ports, 999, SYN, b"");
        self.tcp(false, ports, 4999, SYN | ACK, b"");
        let mut sequence = 1000;
        for data in client {
            self.tcp(true, ports, sequence, ACK, data);
            sequence += data.len() as u32;
        }
        self.tcp(false, ports, 5000, ACK, server);
        self
    }
}

/// The lines about flows.
fn flows(packets: &Packets, options: &[&str]) -> Vec<Value> {
    let folder = Folder::new();
    let capture = folder.write("a.pcap", &packets.file);
    let input = ["-r", &capture, "-w", "json:-"];
    let lines = run(&mut Sensor::Panoptes.with(&[&input, options].concat()));
    let lines = lines.lines().filter(|line| line.starts_with('{'));
    let lines = lines.map(|line| serde_json::from_str(line).expect("JSON"));
    lines.filter(|line: &Value| line["kind"] == "flow").collect()
}

/// The only flow.
#[track_caller]
fn flow(packets: &Packets, options: &[&str]) -> Value {
    let mut flows = flows(packets, options);
    assert_eq!(flows.len(), 1, "{flows:?}");
    flows.remove(0)
}

fn tls() -> Packets {
    Packets::new().connection([40_000, 443], &[&data("curl")], &data("server-1.3"))
}

#[test]
fn option_application_reads_hellos_of_tls() {
    let flow = flow(&tls(), &["--application", "tls"]);
    let expected = json!({
        "version": "1.3", "cipher": "1302", "offered_version": "1.3",
        "server_name": "www.flow.example", "offered_protocols": ["h2", "http/1.1"],
        "ja4": "t13d3112h2_e8f1e7e78f70_b26ce05bbdd6",
    });
    assert_eq!(flow["tls"], expected);
    let old = Packets::new().connection([1, 8443], &[&data("s_client")], &data("server-1.2"));
    let flow = self::flow(&old, &["--application", "ssh,tls"]);
    assert_eq!(flow["tls"]["ja4"], "t12i280600_d943125447b4_e7e480e5a997");
    assert_eq!(flow["tls"]["version"], "1.2");
    assert_eq!(flow["tls"].get("server_name"), None);
}

#[test]
fn option_application_reads_dns() {
    let mut packets = Packets::new();
    packets.udp(true, [50_000, 53], &data("query-a"));
    packets.udp(false, [50_000, 53], &data("a"));
    let flow = flow(&packets, &["--application", "dns"]);
    let expected = json!({
        "name": "www.flow.example", "type": "A", "response_code": "NOERROR",
        "is_authoritative": true, "queries": 1, "responses": 1,
        "answers": [{"type": "A", "ttl_s": 600, "data": "192.0.2.7"}],
    });
    assert_eq!(flow["dns"], expected);
    let tcp = Packets::new().connection([50_000, 53], &[&data("tcp-query")], &data("tcp-a"));
    let flow = self::flow(&tcp, &["--application", "all"]);
    assert_eq!(flow["dns"], expected);
}

#[test]
fn option_application_reads_http() {
    let packets = Packets::new().connection([1, 8081], &[&data("get")], &data("get-answer"));
    let flow = flow(&packets, &["--application", "http"]);
    let expected = json!({
        "method": "GET", "host": "www.flow.example", "target": "/index.html?a=b",
        "user_agent": "curl/7.88.1", "status": 200,
    });
    assert_eq!(flow["http"], expected);
}

#[test]
fn option_application_reads_ssh() {
    let banner = data("client");
    let packets = Packets::new().connection([1, 2222], &[b"SSH-2.0-test\r\n"], &banner);
    let flow = flow(&packets, &["--application", "ssh"]);
    let expected = json!({
        "client_banner": "SSH-2.0-test",
        "server_banner": "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u6",
    });
    assert_eq!(flow["ssh"], expected);
}

#[test]
fn option_application_reads_only_what_it_names() {
    for (packets, other) in [(tls(), "dns,http,quic,ssh"), (tls(), "ssh")] {
        let flow = flow(&packets, &["--application", other]);
        for name in ["dns", "http", "quic", "ssh", "tls"] {
            assert_eq!(flow.get(name), None, "{other}");
        }
    }
}

#[test]
fn option_application_puts_pieces_together() {
    let hello = data("curl");
    let whole = flow(&tls(), &["--application", "tls"]);
    for size in [1, 7, 100] {
        let pieces: Vec<&[u8]> = hello.chunks(size).collect();
        let packets = Packets::new().connection([1, 443], &pieces, &data("server-1.3"));
        let flow = flow(&packets, &["--application", "tls"]);
        assert_eq!(flow["tls"], whole["tls"], "{size}");
    }
}

/// Two queries for the same, and one for a name that does not exist.
fn dns() -> Packets {
    let mut packets = Packets::new();
    for (port, answer) in [(50_000, "a"), (50_001, "case"), (50_002, "missing")] {
        // The query has the identifier of its answer.
        let (query, answer) = (data("query-a"), data(answer));
        packets.udp(true, [port, 53], &[&answer[..2], &query[2..]].concat());
        packets.udp(false, [port, 53], &answer);
    }
    packets
}

#[test]
fn option_passive_dns_writes_answers() {
    let folder = Folder::new();
    let capture = folder.write("a.pcap", &dns().file);
    let to = folder.text("dns.json");
    run(&mut Sensor::Panoptes.with(&["-r", &capture, "-e", "7", "--passive-dns", &to]));
    let lines = String::from_utf8(bytes(Path::new(&to))).expect("text");
    let lines: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let (at, of) = (|ms| format!("2023-11-14T22:13:20.00{ms}000000+00:00"), "passive_dns");
    let expected = [
        // Names differ in their case only.
        json!({
            "kind": of, "source_id": 7, "server_address": "192.0.2.53",
            "client_address": "10.1.0.1", "name": "www.flow.example", "type": "A",
            "response_code": "NOERROR", "answer": "192.0.2.7", "count": 2,
            "first_time": at(2), "last_time": at(4),
        }),
        json!({
            "kind": of, "source_id": 7, "server_address": "192.0.2.53",
            "client_address": "10.1.0.1", "name": "none.flow.example", "type": "A",
            "response_code": "NXDOMAIN", "count": 1, "first_time": at(6), "last_time": at(6),
        }),
    ];
    assert_eq!(lines, expected);
    // It also goes with records, and adds to the file.
    let flows = flows(&dns(), &["--passive-dns", &to]);
    assert_eq!(flows.len(), 3);
    assert_eq!(flows[2]["dns"]["response_code"], "NXDOMAIN");
    assert_eq!(bytes(Path::new(&to)).split(|byte| *byte == b'\n').count(), 5);
}

#[test]
fn option_dns_servers_marks_other_servers() {
    for (servers, is_known) in
        [("192.0.2.53", true), ("192.0.2.54,2001:db8::53", false), ("::1,192.0.2.53", true)]
    {
        let folder = Folder::new();
        let to = folder.text("dns.json");
        let options = ["--dns-servers", servers, "--passive-dns", &to];
        for flow in flows(&dns(), &options) {
            assert_eq!(flow["dns"]["is_known_server"], is_known, "{servers}");
        }
        let lines = String::from_utf8(bytes(Path::new(&to))).expect("text");
        let mark = format!("\"is_known_server\":{is_known}");
        assert!(lines.lines().count() == 2 && lines.lines().all(|line| line.contains(&mark)));
    }
    // Each host answers multicast DNS.
    let mut multicast = Packets::new();
    multicast.udp(false, [5353, 5353], &data("a"));
    let flow = flow(&multicast, &["--dns-servers", "192.0.2.54"]);
    assert_eq!(flow["dns"]["responses"], 1);
    assert_eq!(flow["dns"].get("is_known_server"), None);
    // A client that asks is nobody's server.
    let mut query = Packets::new();
    query.udp(true, [50_000, 53], &data("query-a"));
    let flow = self::flow(&query, &["--dns-servers", "192.0.2.54"]);
    assert_eq!(flow["dns"].get("is_known_server"), None);
}

#[test]
fn option_sequence_adds_sizes_and_times() {
    let flow = flow(&tls(), &["--sequence", "2"]);
    let (client, server) = (data("curl").len() as i64, data("server-1.3").len() as i64);
    assert_eq!(flow["packet_sequence"], json!([[client, 0], [-server, 1000]]));
    let first = self::flow(&tls(), &["--sequence", "1"]);
    assert_eq!(first["packet_sequence"], json!([[client, 0]]));
}

/// Records of argus have no place for it, and JSON has it behind all else.
#[test]
fn without_options_nothing_changes() {
    let folder = Folder::new();
    let capture = folder.write("a.pcap", &tls().file);
    let all = ["--application", "all", "--sequence", "30"];
    let written = |name: &str, options: &[&str]| {
        let to = folder.text(name);
        run(&mut Sensor::Panoptes.with(&[&["-r", &capture, "-w", &to], options].concat()));
        let records = bytes(Path::new(&to));
        // The first and the last record have the time of the sensor.
        records[128..records.len() - 128].to_vec()
    };
    assert_eq!(written("with", &all), written("without", &[]));
    let mut with = flow(&tls(), &all);
    let object = with.as_object_mut().expect("an object");
    assert!(object.remove("tls").is_some() && object.remove("packet_sequence").is_some());
    assert_eq!(with, flow(&tls(), &[]));
}
