//! Promises of each decoder of an application protocol about any data: nothing panics, names and
//! iterations have an end, and each result is a part of the data.
//!
//! A protocol's function has its name, and returns how many decoders knew the data. The tests here
//! and the fuzz target `application` call each of them.

use panoptes_decoders::application::dns::{Data, DnsMessage, DomainName, NAME_TEXT_MAX};
use panoptes_decoders::application::http::{Request, Response};
use panoptes_decoders::application::quic::LongHeader;
use panoptes_decoders::application::ssh::Banner;
use panoptes_decoders::application::tls::{ClientHello, Ja4, Ja4Transport, ServerHello};

/// The name of a protocol, and its function.
type ProtocolReader = (&'static str, fn(&[u8]) -> usize);

/// The protocols, by their names.
pub(super) const READERS: [ProtocolReader; 5] =
    [("dns", dns), ("http", http), ("quic", quic), ("ssh", ssh), ("tls", tls)];

/// Messages in datagrams and streams.
pub(super) fn dns(data: &[u8]) -> usize {
    let over_tcp = DnsMessage::decode_tcp(data).map(|(message, _)| message);
    let messages = [DnsMessage::decode(data), over_tcp];
    messages.iter().flatten().map(|message| read_message(message, data.len())).sum()
}

/// Requests and responses.
pub(super) fn http(data: &[u8]) -> usize {
    let (request, response) = (Request::decode(data), Response::decode(data));
    if let Some(request) = &request {
        let headers = request.headers.clone().map(|(name, value)| name.len() + value.len());
        assert!(headers.sum::<usize>() < data.len());
        assert!(request.headers.clone().count() <= data.len() / 2);
        assert!(request.host().is_none_or(|host| !host.contains(&b'\n')));
    }
    if let Some(response) = &response {
        assert!((100..1000).contains(&response.status));
        assert!(response.server().is_none_or(|server| !server.contains(&b'\n')));
    }
    usize::from(request.is_some()) + usize::from(response.is_some())
}

/// The headers of all packets in a datagram. Each takes seven bytes at least.
pub(super) fn quic(data: &[u8]) -> usize {
    let (mut rest, mut packets) = (data, 0);
    while let Some(header) = LongHeader::decode(rest) {
        packets += 1;
        assert!(header.header_length + header.payload.len() + header.rest.len() <= rest.len());
        rest = header.rest;
    }
    assert!(packets <= data.len() / 7);
    packets
}

/// A banner.
pub(super) fn ssh(data: &[u8]) -> usize {
    let Some(banner) = Banner::decode(data) else { return 0 };
    assert!(banner.text.len() <= 254 && !banner.text.contains(&b'\n'));
    assert!(banner.protocol.len() + banner.software.len() + 5 <= banner.text.len());
    1
}

/// Hellos of clients, with and without the headers of records, and of servers.
pub(super) fn tls(data: &[u8]) -> usize {
    let mut known = 0;
    for hello in [ClientHello::decode(data), ClientHello::from_message(data)].iter().flatten() {
        known += 1;
        let extensions = hello.extensions.clone().map(|(_, data)| data.len() + 4).sum::<usize>();
        assert!(extensions + 2 * hello.ciphers.clone().count() <= data.len());
        let read = hello.protocols().count()
            + hello.versions().count()
            + hello.groups().count()
            + hello.signature_algorithms().count();
        assert!(read <= 4 * data.len());
        assert!(hello.server_name().is_none_or(|name| name.len() < data.len()));
        assert!(hello.protocols().map(<[u8]>::len).sum::<usize>() <= data.len());
        for (transport, letter) in [(Ja4Transport::Tcp, 't'), (Ja4Transport::Quic, 'q')] {
            if let Some(ja4) = Ja4::of(hello, transport) {
                let text = ja4.as_str();
                assert!(text.starts_with(letter) && text.len() == 36 && hello.missing == 0);
            }
        }
    }
    if let Some(hello) = ServerHello::decode(data) {
        known += 1;
        assert!(hello.protocol().is_none_or(|name| name.len() < data.len()));
        assert!(hello.version() == hello.legacy_version || hello.extensions.count() > 0);
    }
    known
}

fn read_message(message: &DnsMessage<'_>, length: usize) -> usize {
    let question = message.question();
    question.inspect(|question| read_name(question.name));
    let mut answers = 0;
    for answer in message.answers() {
        answers += 1;
        read_name(answer.name);
        match answer.data {
            Data::Cname(name)
            | Data::Ns(name)
            | Data::Ptr(name)
            | Data::Mx { exchange: name, .. }
            | Data::Srv { target: name, .. } => read_name(name),
            Data::Https { target, parameters, .. } => {
                read_name(target);
                assert!(parameters.count() <= length / 4);
            }
            Data::Txt(strings) => assert!(strings.count() <= length),
            Data::A(_) | Data::Aaaa(_) | Data::Other(_) => {}
        }
    }
    // An answer takes 11 bytes at least.
    assert!(answers <= length / 11);
    usize::from(question.is_some())
}

/// A name is at most 255 bytes, and its text says the same as its labels.
fn read_name(name: DomainName<'_>) {
    let labels: Vec<_> = name.labels().collect();
    assert!(labels.iter().map(|label| label.len() + 1).sum::<usize>() < 255);
    let mut buffer = [0; NAME_TEXT_MAX];
    let Some(text) = name.write(&mut buffer) else { return };
    assert!(text.bytes().all(|byte| byte.is_ascii_graphic()));
    assert_eq!(unescaped(text), labels.iter().map(|label| label.to_vec()).collect::<Vec<_>>());
}

/// The labels in a text.
pub(super) fn unescaped(text: &str) -> Vec<Vec<u8>> {
    if text == "." {
        return Vec::new();
    }
    let (mut labels, mut rest) = (vec![Vec::new()], text.as_bytes());
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let label = labels.last_mut().expect("a label");
        match (byte, after) {
            (b'.', _) => labels.push(Vec::new()),
            (b'\\', [a @ b'0'..=b'9', b, c, after @ ..]) => {
                let digits = [a, b, c].map(|digit| u32::from(digit - b'0'));
                label.push((digits[0] * 100 + digits[1] * 10 + digits[2]) as u8);
                rest = after;
            }
            (b'\\', [byte, after @ ..]) => {
                label.push(*byte);
                rest = after;
            }
            _ => label.push(byte),
        }
    }
    labels
}
