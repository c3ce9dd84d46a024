//! Which SYN begins a stream, and hellos of TLS that come later.

use panoptes_decoders::packet::transport::flag;
use panoptes_sinks::flow::application::Application;

use crate::recorded::data;
use crate::wire::Wire;

const REQUEST: &[u8] = b"GET /secret HTTP/1.1\r\nHost: www.example.org\r\n\r\n";
/// The numbers of the connection, and that of another one.
const CLIENT: u32 = 5000;
const SERVER: u32 = 90_000;
const OTHER: u32 = 0x7000_0000;

const SYN_ACK: u8 = flag::SYN | flag::ACK;

/// The answer, the end of the handshake, and the request.
fn go_on(wire: &mut Wire) {
    wire.segment(1, false, (SERVER, CLIENT + 1), SYN_ACK, b"");
    wire.segment(1, true, (CLIENT + 1, SERVER + 1), flag::ACK, b"");
    wire.segment(1, true, (CLIENT + 1, SERVER + 1), flag::ACK, REQUEST);
}

#[track_caller]
fn assert_has_request(wire: Wire) {
    let application = wire.only();
    let Application::Http(http) = application else { panic!("no HTTP: {application:?}") };
    assert_eq!(http.target.bytes(), b"/secret");
}

#[test]
fn the_syn_that_is_answered_begins_the_stream() {
    // Before it, and after it.
    for order in [[OTHER, CLIENT], [CLIENT, OTHER], [CLIENT, CLIENT]] {
        let mut wire = Wire::new(4);
        for number in order {
            wire.segment(1, true, (number, 0), flag::SYN, b"");
        }
        go_on(&mut wire);
        assert_has_request(wire);
    }
}

#[test]
fn a_syn_behind_the_answer_is_a_feint() {
    let mut wire = Wire::new(4);
    wire.segment(1, true, (CLIENT, 0), flag::SYN, b"");
    wire.segment(1, false, (SERVER, CLIENT + 1), SYN_ACK, b"");
    wire.segment(1, true, (OTHER, 0), flag::SYN, b"");
    wire.segment(1, true, (CLIENT + 1, SERVER + 1), flag::ACK, REQUEST);
    assert_has_request(wire);
}

#[test]
fn each_of_two_syns_is_answered() {
    let mut wire = Wire::new(4);
    wire.segment(1, true, (OTHER, 0), flag::SYN, b"");
    wire.segment(1, false, (77, OTHER + 1), SYN_ACK, b"");
    wire.segment(1, true, (CLIENT, 0), flag::SYN, b"");
    go_on(&mut wire);
    assert_has_request(wire);
}

/// Data of a SYN that nobody answers (RFC 7413) are of another connection, however near its number.
#[test]
fn data_of_a_syn_that_is_not_answered_do_not_count() {
    for other in [OTHER, CLIENT - 7, CLIENT + 7] {
        let mut wire = Wire::new(4);
        wire.segment(1, true, (other, 0), flag::SYN, b"GET /innocent HTTP/1.1\r\n\r\n");
        wire.segment(1, true, (CLIENT, 0), flag::SYN, b"");
        go_on(&mut wire);
        assert_has_request(wire);
    }
}

#[test]
fn data_of_a_syn_count_if_it_is_answered() {
    let acknowledged = [CLIENT + 1, CLIENT + 1 + REQUEST.len() as u32];
    for acknowledged in acknowledged {
        let mut wire = Wire::new(4);
        wire.segment(1, true, (CLIENT, 0), flag::SYN, REQUEST);
        wire.segment(1, false, (SERVER, acknowledged), SYN_ACK, b"");
        assert_has_request(wire);
    }
}

/// Each segment's data, with whether the client sends it.
type Segments<'a> = &'a [(bool, &'a [u8])];

/// The client's hello directly, and behind what connections begin with: each with its answers.
#[test]
fn a_hello_behind_other_text_is_read() {
    let hello = data("curl");
    let mut directly = Wire::new(4);
    directly.segment(1, true, (CLIENT + 1, 0), flag::ACK, &hello);
    let expected = directly.tls().client;
    assert!(expected.is_some_and(|client| client.ja4.is_some()));
    let cases: [(&str, Segments<'_>); 10] = [
        (
            "SMTP",
            &[
                (false, b"220 a ESMTP\r\n"),
                (true, b"EHLO b\r\n"),
                (false, b"250 STARTTLS\r\n"),
                (true, b"STARTTLS\r\n"),
                (false, b"220 go ahead\r\n"),
            ],
        ),
        (
            "IMAP",
            &[(false, b"* OK ready\r\n"), (true, b"a001 STARTTLS\r\n"), (false, b"a001 OK\r\n")],
        ),
        ("POP3", &[(false, b"+OK\r\n"), (true, b"STLS\r\n"), (false, b"+OK\r\n")]),
        ("FTP", &[(false, b"220 ftp\r\n"), (true, b"AUTH TLS\r\n"), (false, b"234 ok\r\n")]),
        (
            "SOCKS5",
            &[
                (true, &[5, 1, 0]),
                (false, &[5, 0]),
                (true, b"\x05\x01\0\x01\x0a\0\0\x01\x01\xbb"),
                (false, b"\x05\0\0\x01\x0a\0\0\x01\x01\xbb"),
            ],
        ),
        ("SOCKS4", &[(true, b"\x04\x01\x01\xbb\x0a\0\0\x01\0"), (false, b"\0\x5a\0\0\0\0\0\0")]),
        ("PostgreSQL", &[(true, b"\0\0\0\x08\x04\xd2\x16\x2f"), (false, b"S")]),
        (
            "RDP",
            &[
                (true, b"\x03\0\0\x13\x0e\xe0\0\0\0\0\0\x01\0\x08\0\x03\0\0\0"),
                (false, b"\x03\0\0\x13\x0e\xd0\0\0\x12\x34\0\x02\0\x08\0\x02\0\0\0"),
            ],
        ),
        (
            "LDAP",
            &[
                (true, b"0\x1d\x02\x01\x01w\x18\x80\x161.3.6.1.4.1.1466.20037"),
                (false, b"0\x0c\x02\x01\x01x\x07\x0a\x01\0\x04\0\x04\0"),
            ],
        ),
        (
            "MySQL",
            &[(false, b"J\0\0\0\x0a8.0.36\0"), (true, b" \0\0\x01\x85\xae\xff\x19\0\0\0\x01")],
        ),
    ];
    for (name, begun) in cases {
        let mut wire = Wire::new(4);
        let mut numbers = [CLIENT + 1, SERVER + 1];
        for (is_client, text) in begun.iter().copied().chain([(true, &hello[..])]) {
            let end = usize::from(!is_client);
            wire.segment(1, is_client, (numbers[end], numbers[1 - end]), flag::ACK, text);
            numbers[end] += text.len() as u32;
        }
        assert_eq!(wire.tls().client, expected, "{name}");
    }
}

#[test]
fn a_hello_behind_connect_is_beside_the_request() {
    let hello = data("curl");
    let request = b"CONNECT www.example.org:443 HTTP/1.1\r\nHost: www.example.org:443\r\n\r\n";
    let answer = b"HTTP/1.1 200 Connection established\r\n\r\n";
    let mut wire = Wire::new(4);
    let mut client = CLIENT + 1;
    let server = SERVER + 1 + answer.len() as u32;
    wire.segment(1, true, (client, SERVER + 1), flag::ACK, request);
    client += request.len() as u32;
    wire.segment(1, false, (SERVER + 1, client), flag::ACK, answer);
    // In two pieces, as a long one is.
    wire.segment(1, true, (client, server), flag::ACK, &hello[..100]);
    wire.segment(1, true, (client + 100, server), flag::ACK, &hello[100..]);
    let both = wire.finish_with_later();
    let [(Application::Http(http), Application::Tls(tls))] = &both[..] else {
        panic!("both: {both:?}")
    };
    assert_eq!(http.method.bytes(), b"CONNECT");
    assert_eq!(http.status, 200);
    let client = tls.client.expect("a hello");
    assert_eq!(client.server_name.bytes(), b"www.flow.example");
}

/// A file with such bytes, in the middle of a long transfer, is no connection.
#[test]
fn a_hello_far_behind_the_beginning_is_not_searched() {
    let hello = data("curl");
    let mut wire = Wire::new(4);
    let mut number = CLIENT + 1;
    for _ in 0..40 {
        wire.segment(1, true, (number, 0), flag::ACK, &[0; 100]);
        number += 100;
    }
    wire.segment(1, true, (number, 0), flag::ACK, &hello);
    assert_eq!(wire.only(), Application::Unknown);
}
