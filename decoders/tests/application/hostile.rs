//! Data of any bytes, and recorded data that was changed: nothing panics, and each result is a part
//! of the data.

use panoptes_decoders::application::dns::{Data, DnsMessage, DomainName, NAME_TEXT_MAX};
use panoptes_decoders::application::http::{Request, Response};
use panoptes_decoders::application::quic::LongHeader;
use panoptes_decoders::application::ssh::Banner;
use panoptes_decoders::application::tls::{ClientHello, Ja4, Ja4Transport, ServerHello};
use proptest::prelude::*;

use super::recorded;

/// Uses each decoder, and reads all that it gives. Returns how many of them knew the data.
fn read_all(data: &[u8]) -> usize {
    let mut known = 0;
    for hello in [ClientHello::decode(data), ClientHello::from_message(data)].iter().flatten() {
        known += 1;
        let extensions = hello.extensions.clone().map(|(_, data)| data.len() + 4).sum::<usize>();
        assert!(extensions + 2 * hello.ciphers.clone().count() <= data.len());
        assert!(hello.server_name().is_none_or(|name| name.len() < data.len()));
        assert!(hello.protocols().map(<[u8]>::len).sum::<usize>() <= data.len());
        let ja4 = Ja4::of(hello, Ja4Transport::Tcp);
        assert!(ja4.is_none_or(|ja4| ja4.as_str().len() == 36 && hello.missing == 0));
    }
    if let Some(hello) = ServerHello::decode(data) {
        known += 1;
        assert!(hello.protocol().is_none_or(|name| name.len() < data.len()));
    }
    if let Some(request) = Request::decode(data) {
        known += 1;
        assert!(
            request.headers.map(|(name, value)| name.len() + value.len()).sum::<usize>()
                < data.len()
        );
    }
    if let Some(response) = Response::decode(data) {
        known += 1;
        assert!((100..1000).contains(&response.status));
    }
    if let Some(banner) = Banner::decode(data) {
        known += 1;
        assert!(banner.text.len() <= 254 && !banner.text.contains(&b'\n'));
    }
    if let Some(header) = LongHeader::decode(data) {
        known += 1;
        assert!(header.header_length + header.payload.len() + header.rest.len() <= data.len());
    }
    for message in
        [DnsMessage::decode(data), DnsMessage::decode_tcp(data).map(|(message, _)| message)]
    {
        known += message.map_or(0, |message| read_message(&message, data.len()));
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
    let mut buffer = [0; NAME_TEXT_MAX];
    let Some(text) = name.write(&mut buffer) else { return };
    let labels: Vec<_> = name.labels().collect();
    assert!(labels.iter().map(|label| label.len() + 1).sum::<usize>() < 255);
    assert!(text.bytes().all(|byte| byte.is_ascii_graphic()));
    assert_eq!(unescaped(text), labels.iter().map(|label| label.to_vec()).collect::<Vec<_>>());
}

/// The labels in a text.
fn unescaped(text: &str) -> Vec<Vec<u8>> {
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

#[test]
fn each_recorded_part_is_known() {
    for (name, data) in recorded::all() {
        assert!(read_all(&data) > 0, "{name}");
        for length in 0..data.len() {
            read_all(&data[..length]);
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read(data in prop::collection::vec(any::<u8>(), 0..600)) {
        read_all(&data);
    }

    /// Small numbers make lengths that fit.
    #[test]
    fn small_bytes_are_read(data in prop::collection::vec(0_u8..8, 0..200)) {
        read_all(&data);
    }

    #[test]
    fn changed_data_is_read(
        number in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        length in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let all = recorded::all();
        let mut data = all[number.index(all.len())].1.clone();
        for (place, byte) in changes {
            let at = place.index(data.len());
            data[at] = byte;
        }
        if is_cut {
            data.truncate(length.index(data.len()));
        }
        read_all(&data);
    }

    #[test]
    fn names_of_any_labels_are_written(
        labels in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
    ) {
        let mut message = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in &labels {
            message.push(label.len() as u8);
            message.extend(label);
        }
        message.extend([0, 0, 1, 0, 1]);
        let message = DnsMessage::decode(&message).expect("a message");
        let name = message.question().expect("a question").name;
        let mut buffer = [0; NAME_TEXT_MAX];
        prop_assert_eq!(unescaped(name.write(&mut buffer).expect("a name")), labels);
    }
}
