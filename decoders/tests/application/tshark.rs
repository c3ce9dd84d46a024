//! What tshark shows of the recorded data is what the decoders read.

use std::process::Command;

use panoptes_bounded as bounded;
use panoptes_decoders::application::dns::{DnsMessage, NAME_TEXT_MAX};
use panoptes_decoders::application::http::{Request, Response};
use panoptes_decoders::application::tls::{ClientHello, Ja4, Ja4Transport, ServerHello};

use super::recorded;

/// Returns the fields that tshark shows of frames with this data, one line a frame. `None` if
/// tshark is not installed.
fn tshark(protocol: &str, is_udp: bool, data: &[Vec<u8>], fields: &[&str]) -> Option<Vec<String>> {
    let path = std::env::temp_dir().join(format!("panoptes-{}-{protocol}", std::process::id()));
    std::fs::write(&path, capture(is_udp, data)).expect("a file can be written");
    let port = if is_udp { "udp" } else { "tcp" };
    let mut command = Command::new("tshark");
    command.arg("-r").arg(&path).args(["-d", &format!("{port}.port==4000-4999,{protocol}")]);
    // The bodies are not there.
    command.args(["-o", "http.desegment_body:FALSE", "-T", "fields"]);
    command.args(fields.iter().flat_map(|field| ["-e", field]));
    let output = bounded::output(&mut command);
    std::fs::remove_file(&path).expect("a file can be removed");
    let Ok(output) = output else {
        panoptes_needs::skip::test("tshark");
        return None;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    Some(text.lines().map(str::to_owned).collect())
}

/// A capture file of raw IP packets, each of a connection of its own.
fn capture(is_udp: bool, data: &[Vec<u8>]) -> Vec<u8> {
    // LINKTYPE_RAW
    let header = [0xa1b2_c3d4_u32, 2 << 16 | 4, 0, 0, 65_535, 101];
    let mut file: Vec<u8> = header.iter().flat_map(|word| word.to_be_bytes()).collect();
    for (number, data) in data.iter().enumerate() {
        let ports = [4000 + number as u16, 4999].map(u16::to_be_bytes).concat();
        let head = if is_udp {
            [&ports[..], &(8 + data.len() as u16).to_be_bytes(), &[0, 0]].concat()
        } else {
            [&ports[..], &[0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x18, 4, 0, 0, 0, 0, 0]].concat()
        };
        let length = (20 + head.len() + data.len()) as u16;
        let protocol = if is_udp { 17 } else { 6 };
        let mut packet = vec![0x45, 0];
        packet.extend(length.to_be_bytes());
        packet.extend([0, 1, 0x40, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        packet.extend(head);
        packet.extend(data);
        let record = [number as u32, 0, packet.len() as u32, packet.len() as u32];
        file.extend(record.iter().flat_map(|word| word.to_be_bytes()));
        file.extend(packet);
    }
    file
}

fn text(bytes: Option<&[u8]>) -> String {
    String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
}

fn hexadecimal(numbers: impl Iterator<Item = u16>) -> String {
    numbers.map(|number| format!("0x{number:04x}")).collect::<Vec<_>>().join(",")
}

fn datas(text: &str) -> Vec<Vec<u8>> {
    recorded::parts(text).into_iter().map(|(_, data)| data).collect()
}

#[test]
fn hellos_are_as_tshark_shows_them() {
    let data = datas(recorded::TLS);
    let fields = [
        "tls.handshake.extensions_server_name",
        "tls.handshake.ciphersuite",
        "tls.handshake.extensions_alpn_str",
        "tls.handshake.extensions.supported_version",
    ];
    let Some(shown) = tshark("tls", false, &data, &fields) else { return };
    let read = data.iter().map(|data| {
        if let Some(hello) = ClientHello::decode(data) {
            let protocols: Vec<_> = hello.protocols().map(|name| text(Some(name))).collect();
            let name = text(hello.server_name());
            let versions = hexadecimal(hello.versions());
            let ciphers = hexadecimal(hello.ciphers);
            return [name, ciphers, protocols.join(","), versions].join("\t");
        }
        let hello = ServerHello::decode(data).expect("a hello");
        let version = if hello.version() == 0x0304 { "0x0304" } else { "" };
        let cipher = hexadecimal([hello.cipher].into_iter());
        [String::new(), cipher, text(hello.protocol()), version.to_owned()].join("\t")
    });
    assert_eq!(read.collect::<Vec<_>>(), shown);
}

/// tshark has the fingerprint since 4.2.
#[test]
fn fingerprints_are_as_tshark_shows_them() {
    let Ok(known) = bounded::output(Command::new("tshark").args(["-G", "fields"])) else {
        panoptes_needs::skip::test("tshark");
        return;
    };
    if !String::from_utf8_lossy(&known.stdout).contains("tls.handshake.ja4") {
        panoptes_needs::skip::test_for("tshark", "4.2 or newer");
        return;
    }
    let data: Vec<_> = datas(recorded::TLS)
        .into_iter()
        .filter(|data| ClientHello::decode(data).is_some())
        .collect();
    let shown = tshark("tls", false, &data, &["tls.handshake.ja4"]).expect("tshark is installed");
    let read = data.iter().map(|data| {
        let hello = ClientHello::decode(data).expect("a hello");
        Ja4::of(&hello, Ja4Transport::Tcp).expect("a fingerprint").to_string()
    });
    assert_eq!(read.collect::<Vec<_>>(), shown);
}

#[test]
fn messages_are_as_tshark_shows_them() {
    let fields = ["dns.id", "dns.qry.name", "dns.qry.type", "dns.flags.rcode", "dns.resp.ttl"];
    let all = recorded::parts(recorded::DNS);
    for is_tcp in [false, true] {
        let parts = all.iter().filter(|(name, _)| name.starts_with("tcp-") == is_tcp);
        let data: Vec<_> = parts.map(|(_, data)| data.clone()).collect();
        let Some(shown) = tshark("dns", !is_tcp, &data, &fields) else { return };
        let read = data.iter().map(|data| {
            let message = if is_tcp {
                DnsMessage::decode_tcp(data).map(|(message, _)| message)
            } else {
                DnsMessage::decode(data)
            };
            let message = message.expect("a message");
            let question = message.question().expect("a question");
            let mut buffer = [0; NAME_TEXT_MAX];
            let name = question.name.write(&mut buffer).expect("a name");
            let code = message.response_code().to_string();
            let code = if message.is_response() { code } else { String::new() };
            let ttls: Vec<_> = message.answers().map(|answer| answer.ttl.to_string()).collect();
            format!("0x{:04x}\t{name}\t{}\t{code}\t{}", message.id, question.kind, ttls.join(","))
        });
        assert_eq!(read.collect::<Vec<_>>(), shown);
    }
}

#[test]
fn heads_are_as_tshark_shows_them() {
    let data = datas(recorded::HTTP);
    let fields = [
        "http.request.method",
        "http.request.uri",
        "http.host",
        "http.user_agent",
        "http.response.code",
        "http.server",
        "http.content_type",
    ];
    let Some(shown) = tshark("http", false, &data, &fields) else { return };
    let read = data.iter().map(|data| {
        if let Some(request) = Request::decode(data) {
            let kind = text(request.headers.find("content-type"));
            let (method, target) = (text(Some(request.method)), text(Some(request.target)));
            let (host, program) = (text(request.host()), text(request.user_agent()));
            return [method, target, host, program, String::new(), String::new(), kind].join("\t");
        }
        let response = Response::decode(data).expect("a response");
        let (server, kind) = (text(response.server()), text(response.content_type()));
        format!("\t\t\t\t{}\t{server}\t{kind}", response.status)
    });
    assert_eq!(read.collect::<Vec<_>>(), shown);
}
