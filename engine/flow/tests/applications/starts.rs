//! Which SYN begins a stream, and hellos of TLS that come later.

use panoptes_decoders::packet::transport::flag;
use panoptes_records::flow::application::Application;

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

/// A header of HAProxy's PROXY protocol of version 2, of IPv4.
fn proxy_2() -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend([10, 0, 0, 1, 10, 0, 0, 2, 0x9c, 0x40, 1, 0xbb]);
    header
}

/// What proxies and clients put before a hello or a request, in the same segment or in one of its
/// own, cut anywhere.
#[test]
fn headers_before_a_beginning_are_passed() {
    let hello = data("curl");
    let (proxy_2, socks_name) = (proxy_2(), b"\x05\x01\0\x03\x01a\0\x50");
    let headers: [&[u8]; 10] = [
        b"PROXY TCP4 10.0.0.1 10.0.0.2 40000 443\r\n",
        b"PROXY TCP6 2001:db8::1 2001:db8::2 40000 443\r\n",
        b"PROXY UNKNOWN\r\n",
        &proxy_2,
        b"\r\n",
        b"\r\n\r\n",
        b"\n",
        b"\x05\x01\0\x05\x01\0\x01\x0a\0\0\x01\0\x50",
        b"\x04\x01\0\x50\0\0\0\x01me\0a.example\0",
        socks_name,
    ];
    for header in headers {
        for real in [&hello[..], REQUEST] {
            let all = [header, real].concat();
            let mut cuts: Vec<_> = [1, 2, 3, 5].iter().map(|more| header.len() + more).collect();
            cuts.extend([all.len(), header.len()]);
            if matches!(header[0], b'P' | b'\r' | b'\n') {
                cuts.extend(1..header.len());
            }
            for cut in cuts {
                let mut wire = Wire::new(4);
                wire.segment(1, true, (CLIENT, 0), flag::SYN, b"");
                for (at, data) in [(0, &all[..cut]), (cut, &all[cut..])] {
                    wire.segment(1, true, (CLIENT + 1 + at as u32, 0), flag::ACK, data);
                }
                let what = format!("{} cut at {cut}", header.escape_ascii());
                match wire.only() {
                    Application::Tls(tls) => {
                        let client = tls.client.expect(&what);
                        assert_eq!(client.server_name.bytes(), b"www.flow.example", "{what}");
                        assert!(client.ja4.is_some(), "{what}");
                    }
                    Application::Http(http) => {
                        assert_eq!(http.target.bytes(), b"/secret", "{what}");
                        assert_eq!(http.host.expect(&what).bytes(), b"www.example.org", "{what}");
                    }
                    found => panic!("{what}: {found:?}"),
                }
            }
        }
    }
}

/// Clients may send the hello without waiting for an answer: with the request of MySQL, in a packet
/// of TDS, with `CONNECT`.
#[test]
fn a_hello_is_in_the_segment_of_what_is_before_it() {
    let hello = data("curl");
    let mut mysql = b" \0\0\x01\x85\xae\xff\x19".to_vec();
    mysql.resize(36, 0);
    let length = (hello.len() as u16 + 8).to_be_bytes();
    let tds = [&[0x12, 1][..], &length, &[0, 0, 1, 0]].concat();
    let connect = b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n".to_vec();
    let postgres = b"\0\0\0\x08\x04\xd2\x16\x2f".to_vec();
    let smtp = b"EHLO a\r\nSTARTTLS\r\n".to_vec();
    for header in [mysql, tds, connect, postgres, smtp] {
        let mut wire = Wire::new(4);
        let all = [&header[..], &hello].concat();
        wire.segment(1, true, (CLIENT + 1, 0), flag::ACK, &all);
        let found = wire.finish_with_later();
        let has_hello = found.iter().any(|(first, later)| {
            [first, later].into_iter().any(|one| match one {
                Application::Tls(tls) => tls.client.is_some_and(|client| client.ja4.is_some()),
                _ => false,
            })
        });
        assert!(has_hello, "{}: {found:?}", header.escape_ascii());
    }
}

/// What comes behind the answers of a proxy, and a first byte of it that comes alone.
#[test]
fn requests_and_banners_behind_a_proxy_are_read() {
    let hello = data("curl");
    let socks: [&[u8]; 2] = [&[5, 1, 0], b"\x05\x01\0\x01\x0a\0\0\x01\0\x50"];
    let real: [&[u8]; 3] = [&hello, REQUEST, b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"];
    for real in real {
        for cut in [1, 2, real.len()] {
            if real[0] == b'S' && cut < real.len() {
                continue;
            }
            let mut wire = Wire::new(4);
            let mut number = CLIENT + 1;
            for text in socks.into_iter().chain([&real[..cut], &real[cut..]]) {
                wire.segment(1, true, (number, 0), flag::ACK, text);
                number += text.len() as u32;
            }
            let found = wire.only();
            let is_right = match found {
                Application::Tls(tls) => tls.client.is_some_and(|client| client.ja4.is_some()),
                Application::Http(http) => http.host.is_some(),
                Application::Ssh(ssh) => ssh.client.bytes().starts_with(b"SSH-2.0-OpenSSH"),
                _ => false,
            };
            assert!(is_right, "{}, cut at {cut}: {found:?}", real[..4].escape_ascii());
        }
    }
}

/// Text that somebody sends may have such lines.
#[test]
fn a_request_in_a_text_is_none() {
    for text in ["An example:\r\n", "220 a\r\n250 b\r\n"] {
        let mut wire = Wire::new(4);
        let all = [text.as_bytes(), REQUEST].concat();
        wire.segment(1, true, (CLIENT + 1, 0), flag::ACK, &all);
        assert_eq!(wire.only(), Application::Unknown);
    }
}

/// Anybody may use the ports of DNS for something else.
#[test]
fn the_ports_of_dns_hide_nothing() {
    let hello = data("curl");
    for port in [53, 5353, 5355] {
        for real in [&hello[..], REQUEST, b"SSH-2.0-OpenSSH_9.2p1\r\n"] {
            for cut in [1, 2, 10, real.len()] {
                let mut wire = Wire::new(4);
                wire.segment_to(port, CLIENT, &real[..cut]);
                wire.segment_to(port, CLIENT + cut as u32, &real[cut..]);
                let found = wire.only();
                assert_ne!(found, Application::Unknown, "port {port}, cut at {cut}");
            }
        }
    }
}

/// The second byte of a record's version has no meaning (RFC 8446 §5.1).
#[test]
fn versions_of_records_hide_nothing() {
    let hello = data("curl");
    for minor in [0, 5, 0xff] {
        let mut other = hello.clone();
        other[2] = minor;
        let mut wire = Wire::new(4);
        wire.segment(1, true, (CLIENT + 1, 0), flag::ACK, &other);
        assert!(wire.tls().client.is_some_and(|client| client.ja4.is_some()), "{minor}");
    }
}

/// OpenSSL accepts records of any length.
#[test]
fn a_hello_in_records_of_a_byte_is_put_together() {
    let hello = data("curl");
    let name = b"www.flow.example";
    let end = hello.windows(name.len()).position(|bytes| bytes == name).expect("its name") + 16;
    let records: Vec<u8> =
        hello[5..].iter().flat_map(|byte| [22, 3, 1, 0, 1, *byte]).take(end * 6 + 60).collect();
    let mut wire = Wire::new(4);
    for (number, part) in records.chunks(1400).enumerate() {
        let at = CLIENT + 1 + 1400 * number as u32;
        wire.segment(1, true, (at, 0), flag::ACK, part);
    }
    let client = wire.tls().client.expect("a hello");
    assert_eq!(client.server_name.bytes(), name);
}
