//! The data of a segment or datagram, read by each decoder of an application protocol: nothing
//! panics, names and iterations have an end.
#![cfg_attr(fuzzing, no_main)]

use panoptes_decoders::application::dns::{Data, DnsMessage, DomainName, NAME_TEXT_MAX};
use panoptes_decoders::application::http::{Request, Response};
use panoptes_decoders::application::quic::LongHeader;
use panoptes_decoders::application::ssh::Banner;
use panoptes_decoders::application::tls::{ClientHello, Ja4, Ja4Transport, ServerHello};
use panoptes_fuzz::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for hello in [ClientHello::decode(data), ClientHello::from_message(data)].iter().flatten() {
        let read = hello.protocols().count()
            + hello.versions().count()
            + hello.groups().count()
            + hello.signature_algorithms().count();
        assert!(read <= 4 * data.len());
        assert!(hello.server_name().is_none_or(|name| name.len() < data.len()));
        if let Some(ja4) = Ja4::of(hello, Ja4Transport::Quic) {
            assert!(ja4.as_str().starts_with('q') && hello.missing == 0);
        }
    }
    if let Some(hello) = ServerHello::decode(data) {
        assert!(hello.protocol().is_none_or(|name| name.len() < data.len()));
        assert!(hello.version() == hello.legacy_version || hello.extensions.count() > 0);
    }
    if let Some(request) = Request::decode(data) {
        assert!(request.headers.clone().count() <= data.len() / 2);
        assert!(request.host().is_none_or(|host| !host.contains(&b'\n')));
    }
    if let Some(response) = Response::decode(data) {
        assert!((100..1000).contains(&response.status));
        assert!(response.server().is_none_or(|server| !server.contains(&b'\n')));
    }
    if let Some(banner) = Banner::decode(data) {
        assert!(banner.protocol.len() + banner.software.len() + 5 <= banner.text.len());
    }
    // Each packet takes seven bytes at least.
    let (mut rest, mut packets) = (data, 0);
    while let Some(header) = LongHeader::decode(rest) {
        packets += 1;
        assert!(header.rest.len() + header.payload.len() + header.header_length <= rest.len());
        rest = header.rest;
    }
    assert!(packets <= data.len() / 7);
    let over_tcp = DnsMessage::decode_tcp(data).map(|(message, _)| message);
    [DnsMessage::decode(data), over_tcp].into_iter().flatten().for_each(read);
});

/// Reads all of a message.
fn read(message: DnsMessage<'_>) {
    message.question().inspect(|question| write(question.name));
    for answer in message.answers() {
        write(answer.name);
        match answer.data {
            Data::Https { target, parameters, .. } => {
                write(target);
                assert!(parameters.count() <= 1 << 14);
            }
            Data::Cname(name)
            | Data::Ns(name)
            | Data::Ptr(name)
            | Data::Mx { exchange: name, .. }
            | Data::Srv { target: name, .. } => write(name),
            Data::Txt(strings) => assert!(strings.count() <= 1 << 16),
            Data::A(_) | Data::Aaaa(_) | Data::Other(_) => {}
        }
    }
}

/// A name that has a text is short, and the text fits.
fn write(name: DomainName<'_>) {
    let text = name.write(&mut [0; NAME_TEXT_MAX]).map(str::len);
    let length: usize = name.labels().map(|label| label.len() + 1).sum();
    assert!(length <= 254);
    assert!(text.is_none_or(|text| length <= text + 1 && text <= NAME_TEXT_MAX));
}
