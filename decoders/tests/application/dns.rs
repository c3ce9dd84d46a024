//! DNS messages of dnsmasq, and names made by hand.

use panoptes_decoders::application::dns::{
    Data, DnsMessage, DomainName, NAME_TEXT_MAX, ResourceRecord, kind,
};

use super::recorded::data;

fn text(name: DomainName<'_>) -> String {
    let mut buffer = [0; NAME_TEXT_MAX];
    name.write(&mut buffer).expect("a name").to_owned()
}

/// The only answer in a recorded response.
fn only<'a>(message: &'a [u8], expected: &str) -> ResourceRecord<'a> {
    let message = DnsMessage::decode(message).expect("a message");
    let question = message.question().expect("a question");
    assert_eq!(text(question.name), expected);
    let answers: Vec<_> = message.answers().collect();
    let [answer] = answers.as_slice() else { panic!("one answer: {answers:?}") };
    assert_eq!((answer.class, answer.ttl, answer.kind), (1, 600, question.kind));
    assert_eq!(text(answer.name), expected);
    answer.clone()
}

#[test]
fn a_query_is_read() {
    let query = data("query-a");
    let message = DnsMessage::decode(&query).expect("a message");
    assert_eq!((message.id, message.opcode(), message.counts), (0x1000, 0, [1, 0, 0, 0]));
    assert!(!message.is_response() && !message.is_truncated() && !message.is_authoritative());
    let question = message.question().expect("a question");
    assert_eq!((question.kind, question.class), (kind::A, 1));
    assert_eq!(text(question.name), "www.flow.example");
    assert_eq!(message.answers().count(), 0);
}

#[test]
fn answers_of_each_type_are_read() {
    let bytes = data("a");
    let message = DnsMessage::decode(&bytes).expect("a message");
    assert!(message.is_response() && message.is_authoritative());
    assert_eq!((message.response_code(), message.counts), (0, [1, 1, 0, 0]));
    assert_eq!(only(&bytes, "www.flow.example").data, Data::A([192, 0, 2, 7]));
    let bytes = data("mx");
    let Data::Mx { preference, exchange } = only(&bytes, "flow.example").data else { panic!() };
    assert_eq!((preference, text(exchange)), (10, "mail.flow.example".to_owned()));
    let bytes = data("txt");
    let Data::Txt(strings) = only(&bytes, "flow.example").data else { panic!() };
    assert_eq!(strings.collect::<Vec<_>>(), [&b"v=spf1 -all"[..], b"second ; string"]);
    let bytes = data("srv");
    let srv = only(&bytes, "_xmpp._tcp.flow.example").data;
    let Data::Srv { priority, weight, port, target } = srv else { panic!() };
    assert_eq!((priority, weight, port), (5, 20, 5222));
    assert_eq!(text(target), "chat.flow.example");
    let bytes = data("ptr");
    let Data::Ptr(name) = only(&bytes, "7.2.0.192.in-addr.arpa").data else { panic!() };
    assert_eq!(text(name), "www.flow.example");
    let bytes = data("ns");
    let Data::Ns(name) = only(&bytes, "ns.flow.example").data else { panic!() };
    assert_eq!(text(name), "ns.flow.example");
    let bytes = data("https");
    let https = only(&bytes, "svc.flow.example").data;
    let Data::Https { priority, target, parameters } = https else { panic!() };
    assert_eq!((priority, text(target)), (1, ".".to_owned()));
    // The key 1 is ALPN (RFC 9460 §14.3.2).
    assert_eq!(parameters.collect::<Vec<_>>(), [(1, &b"\x02h2"[..])]);
    let bytes = data("case");
    assert_eq!(only(&bytes, "WwW.FlOw.ExAmPlE").data, Data::A([192, 0, 2, 7]));
}

#[test]
fn a_chain_of_names_is_read() {
    let bytes = data("aaaa");
    let answers: Vec<_> = DnsMessage::decode(&bytes).expect("a message").answers().collect();
    let [alias, address] = answers.as_slice() else { panic!("two answers: {answers:?}") };
    assert_eq!((text(alias.name), alias.kind), ("alias.flow.example".to_owned(), kind::CNAME));
    let Data::Cname(target) = alias.data else { panic!() };
    assert_eq!((text(target), text(address.name)), (text(address.name), "www.flow.example".into()));
    let expected = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
    assert_eq!(address.data, Data::Aaaa(expected));
}

#[test]
fn a_name_that_does_not_exist_has_no_answer() {
    let bytes = data("missing");
    let message = DnsMessage::decode(&bytes).expect("a message");
    assert_eq!((message.response_code(), message.answers().count()), (3, 0));
    assert_eq!(text(message.question().expect("a question").name), "none.flow.example");
}

#[test]
fn messages_over_tcp_follow_each_other() {
    let both = [data("tcp-query"), data("tcp-a")].concat();
    let (query, rest) = DnsMessage::decode_tcp(&both).expect("a message");
    assert!(!query.is_response());
    let (response, rest) = DnsMessage::decode_tcp(rest).expect("a message");
    assert!(response.is_response() && rest.is_empty());
    let answers: Vec<_> = response.answers().map(|answer| answer.data).collect();
    assert_eq!(answers, [Data::A([192, 0, 2, 7])]);
    // The last answer ends the data.
    let (cut, _) = DnsMessage::decode_tcp(&both[..both.len() - 1]).map_or_else(
        || panic!("a message"),
        |(_, rest)| DnsMessage::decode_tcp(rest).expect("a message"),
    );
    assert_eq!((cut.counts[1], cut.answers().count()), (1, 0));
    assert_eq!(DnsMessage::decode_tcp(&both[..13]), None);
}

/// A response with a question for the root, and answers without a name of their own, with this
/// type and data.
fn response(kind: u16, data: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![0, 7, 0x84, 0, 0, 1, 0, data.len() as u8, 0, 0, 0, 0, 0, 0, 1, 0, 1];
    for data in data {
        bytes.push(0);
        bytes.extend(kind.to_be_bytes());
        bytes.extend([0, 1, 0, 0, 0, 9, 0, data.len() as u8]);
        bytes.extend(*data);
    }
    bytes
}

/// Where the data of the first answer begins.
const FIRST: usize = 28;

fn names(bytes: &[u8]) -> Vec<Option<String>> {
    let answers = DnsMessage::decode(bytes).expect("a message").answers();
    let names = answers.map(|answer| {
        let Data::Cname(name) = answer.data else { panic!("{answer:?}") };
        name.write(&mut [0; NAME_TEXT_MAX]).map(str::to_owned)
    });
    names.collect()
}

fn name(data: &[u8]) -> Option<String> {
    names(&response(kind::CNAME, &[data])).remove(0)
}

/// The names of the example in RFC 1035 §4.1.4.
#[test]
fn pointers_lead_to_earlier_names() {
    let first = b"\x01F\x03ISI\x04ARPA\0";
    let second = [b"\x03FOO\xc0", &[FIRST as u8][..]].concat();
    let third = [0xc0, FIRST as u8 + 6];
    let bytes = response(kind::CNAME, &[first, &second, &third, b"\0"]);
    let expected = ["F.ISI.ARPA", "FOO.F.ISI.ARPA", "ARPA", "."];
    assert_eq!(names(&bytes), expected.map(|name| Some(name.to_owned())));
}

#[test]
fn pointers_that_do_not_lead_back_are_wrong() {
    let at = FIRST as u8;
    assert_eq!(name(&[0xc0, at]), None, "to itself");
    assert_eq!(name(&[1, b'a', 0xc0, at]), None, "a circle");
    assert_eq!(name(&[0xc0, at + 2, 0]), None, "forwards");
    assert_eq!(name(&[0xff, 0xff]), None, "out of the message");
    assert_eq!(name(&[0xc0, 12]), Some(".".to_owned()), "to the question");
    // As many pointers as labels can be, and one more.
    for (count, is_read) in [(126, true), (127, false)] {
        let mut bytes = response(kind::CNAME, &[b"\0"]);
        bytes.extend([0, 0, 16, 0, 1, 0, 0, 0, 9]);
        bytes.extend((count * 2_u16).to_be_bytes());
        let mut to = FIRST as u16;
        for _ in 0..count {
            let next = bytes.len() as u16;
            bytes.extend((0xc000 | to).to_be_bytes());
            to = next;
        }
        bytes[7] = 3;
        bytes.extend([0, 0, 5, 0, 1, 0, 0, 0, 9, 0, 2]);
        bytes.extend((0xc000 | to).to_be_bytes());
        let last = DnsMessage::decode(&bytes).expect("a message").answers().last();
        let Data::Cname(name) = last.expect("an answer").data else { panic!() };
        assert_eq!(name.write(&mut [0; NAME_TEXT_MAX]).is_some(), is_read, "{count}");
    }
}

/// RFC 1035 §5.1 and RFC 4343 §2.1.
#[test]
fn bytes_with_a_meaning_are_escaped() {
    assert_eq!(name(b"\x03a.b\x02\\@\0").as_deref(), Some(r"a\.b.\\\@"));
    assert_eq!(name(b"\x05\0 \x7f\xe4~\0").as_deref(), Some(r"\000\032\127\228~"));
    assert_eq!(name(b"\x06\"$();*\0").as_deref(), Some(r#"\"\$\(\)\;*"#));
}

/// RFC 1035 §2.3.4: labels have 63 bytes, names 255.
#[test]
fn names_have_a_longest_length() {
    let labels = |lengths: &[u8]| {
        let label = |&length: &u8| [&[length][..], &vec![0; length as usize]].concat();
        let mut all: Vec<u8> = lengths.iter().flat_map(label).collect();
        all.push(0);
        all
    };
    assert_eq!(labels(&[63, 63, 63, 61]).len(), 255);
    let longest = response(kind::CNAME, &[&labels(&[63, 63, 63, 61])]);
    let [Some(name)] = &names(&longest)[..] else { panic!() };
    assert_eq!(name.len(), NAME_TEXT_MAX);
    let record = DnsMessage::decode(&longest).expect("a message").answers().next();
    let Data::Cname(name) = record.expect("an answer").data else { panic!() };
    assert_eq!(name.write(&mut [0; NAME_TEXT_MAX - 1]), None, "a short buffer");
    // With a pointer: 63 + 63 + 63 + 62 bytes.
    let last = [&[62][..], &[b'a'; 62], &[0xc0, 0xff]].concat();
    let mut bytes = response(kind::CNAME, &[&labels(&[63, 63, 63]), &last]);
    let at = bytes.len() - 1;
    bytes[at] = FIRST as u8;
    assert!(names(&bytes)[0].is_some() && names(&bytes)[1].is_none());
}

/// Data that is not as its type has it is given as it is.
#[test]
fn wrong_data_is_kept() {
    for (kind, data) in [
        (kind::A, &b"123"[..]),
        (kind::AAAA, b"1234"),
        (kind::CNAME, b"\x05a"),
        (kind::CNAME, b"\x40a\0"),
        (kind::MX, b"\0"),
        (kind::SRV, b"\0\0\0\0\0"),
        (kind::HTTPS, b"\0\x01\x09"),
        (99, b"\0"),
    ] {
        let bytes = response(kind, &[data, b"\0"]);
        let answers: Vec<_> = DnsMessage::decode(&bytes).expect("a message").answers().collect();
        assert_eq!((answers.len(), &answers[0].data), (2, &Data::Other(data)), "{kind}");
    }
}

#[test]
fn counts_may_be_lies() {
    let mut bytes = response(kind::A, &[b"1234"]);
    bytes[6..8].copy_from_slice(&[0xff, 0xff]);
    assert_eq!(DnsMessage::decode(&bytes).expect("a message").answers().count(), 1);
    bytes[4..6].copy_from_slice(&[0xff, 0xff]);
    assert_eq!(DnsMessage::decode(&bytes).expect("a message").answers().count(), 0);
    assert_eq!(DnsMessage::decode(&bytes[..11]), None);
}
