//! Messages of DNS: what dnsmasq was configured to answer (`captured/dns.txt`).

use panoptes_records::flow::application::{ANSWERS_MAX, Application, Dns};

use crate::recorded::data;
use crate::wire::Wire;

#[track_caller]
fn of(messages: &[Vec<u8>]) -> Dns {
    let mut wire = Wire::new(4);
    for message in messages {
        wire.dns(message);
    }
    let application = wire.only();
    let Application::Dns(dns) = application else { panic!("no DNS: {application:?}") };
    dns
}

fn answers(dns: &Dns) -> Vec<(u16, String)> {
    let text = |data: &[u8]| String::from_utf8(data.to_vec()).expect("text");
    dns.answers.iter().map(|answer| (answer.kind, text(answer.data))).collect()
}

#[test]
fn answers_are_as_in_zone_files() {
    for (name, expected) in [
        ("a", &[(1, "192.0.2.7")][..]),
        ("aaaa", &[(5, "www.flow.example"), (28, "2001:db8::7")]),
        ("mx", &[(15, "10 mail.flow.example")]),
        ("txt", &[(16, r#""v=spf1 -all" "second ; string""#)]),
        ("srv", &[(33, "5 20 5222 chat.flow.example")]),
        ("ptr", &[(12, "www.flow.example")]),
        ("https", &[(65, "1 .")]),
        ("ns", &[(2, "ns.flow.example")]),
        ("missing", &[]),
    ] {
        let dns = of(&[data(name)]);
        let expected: Vec<_> =
            expected.iter().map(|(kind, text)| (*kind, (*text).into())).collect();
        assert_eq!(answers(&dns), expected, "{name}");
        assert_eq!(dns.response_code, Some(if name == "missing" { 3 } else { 0 }), "{name}");
    }
}

#[test]
fn more_answers_than_there_is_room_for_are_counted() {
    let mut message = data("a");
    // The answer is the last 16 bytes; its name is a pointer.
    let answer = message[message.len() - 16..].to_vec();
    for _ in 1..100 {
        message.extend(&answer);
    }
    message[7] = 100;
    let dns = of(&[message]);
    assert_eq!(answers(&dns).len(), ANSWERS_MAX);
    assert_eq!(usize::from(dns.answers.left_out), 100 - ANSWERS_MAX);
}

#[test]
fn the_last_message_of_a_flow_counts() {
    let ids = |message: Vec<u8>| [&[1, 2], &message[2..]].concat();
    let dns = of(&["a", "query-a", "mx"].map(|name| ids(data(name))));
    assert_eq!((dns.queries, dns.responses), (1, 2));
    assert_eq!((dns.name.bytes(), dns.kind), (&b"flow.example"[..], 15));
    assert_eq!(answers(&dns), [(15, "10 mail.flow.example".to_owned())]);
}

#[test]
fn other_data_on_the_port_is_none() {
    // No message, an update, a message with two questions.
    for (at, value) in [(0, 0), (2, 0x28), (5, 2)] {
        let mut message = data("query-a");
        message[at] = value;
        let message = if at == 0 { message[..11].to_vec() } else { message };
        let mut wire = Wire::new(4);
        wire.dns(&message);
        assert_eq!(wire.only(), Application::Unknown, "{at}");
    }
}

/// RFC 6762 §5.3; in DNS itself, there is one question at most (RFC 9619).
#[test]
fn queries_of_multicast_dns_have_several_questions() {
    let mut query = vec![0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0];
    query.extend(b"\x07_airply\x04_tcp\x05local\0\0\x0c\0\x01");
    query.extend(b"\x05_raop\xc0\x14\0\x0c\0\x01");
    let mut wire = Wire::new(4);
    wire.multicast_dns(&query);
    let application = wire.only();
    let Application::Dns(dns) = application else { panic!("no DNS: {application:?}") };
    assert_eq!((dns.name.bytes(), dns.kind, dns.queries), (&b"_airply._tcp.local"[..], 12, 1));
    let mut wire = Wire::new(4);
    wire.dns(&query);
    assert_eq!(wire.only(), Application::Unknown);
}
