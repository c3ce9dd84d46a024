//! What a client may send so that a sensor does not see how its connection begins.
//!
//! The hello and the requests are right: their checksums, and their time to live. Feints have
//! something that makes the server, or the network before it, ignore them.

use panoptes_decoders::packet::transport::flag;
use panoptes_records::flow::application::Application;

use crate::recorded::data;
use crate::wire::Wire;

/// The numbers before the first bytes of both ends.
const CLIENT: u32 = 5000;
const SERVER: u32 = 90_000;
const TTL: u8 = 64;

const REQUEST: &[u8] = b"GET /secret HTTP/1.1\r\nHost: www.example.org\r\n\r\n";
const INNOCENT: &[u8] = b"GET /innocent HTTP/1.1\r\nHost: www.innocent.example\r\n\r\n";
const NAME: &[u8] = b"www.flow.example";

/// The recorded hello, with a name of the same length.
fn innocent() -> Vec<u8> {
    let mut hello = data("curl");
    let at = hello.windows(NAME.len()).position(|bytes| bytes == NAME).expect("its name");
    hello[at..at + NAME.len()].copy_from_slice(b"www.good.example");
    hello
}

/// A segment of the client: where its data begin in the stream, what else it has, and the data.
struct Sent<'a>(i32, (u8, u8, bool), &'a [u8]);

const RIGHT: (u8, u8, bool) = (flag::ACK, TTL, true);
/// Each of them is ignored.
const FEINTS: [(u8, u8, bool); 3] = [(flag::ACK, TTL, false), (flag::ACK, 3, true), (0, TTL, true)];

/// A connection with such segments.
fn connection(segments: &[Sent<'_>]) -> Wire {
    let mut wire = Wire::new(4);
    wire.sent(true, (CLIENT, 0), (flag::SYN, TTL, true), b"");
    wire.sent(false, (SERVER, CLIENT + 1), (flag::SYN | flag::ACK, TTL, true), b"");
    for Sent(at, kind, data) in segments {
        let number = (CLIENT + 1).wrapping_add_signed(*at);
        wire.sent(true, (number, SERVER + 1), *kind, data);
    }
    wire
}

#[track_caller]
fn assert_has_hello(wire: Wire, what: &str) {
    let found = wire.finish_with_later();
    let of_tls = found.iter().flat_map(|(first, later)| [first, later]).find_map(|one| match one {
        Application::Tls(tls) => tls.client,
        _ => None,
    });
    let client = of_tls.unwrap_or_else(|| panic!("{what}: no hello in {found:?}"));
    assert_eq!(client.server_name.bytes(), NAME, "{what}");
    assert!(client.ja4.is_some(), "{what}");
}

#[track_caller]
fn assert_has_request(wire: Wire, what: &str) {
    let found = wire.only();
    let Application::Http(http) = found else { panic!("{what}: {found:?}") };
    assert_eq!(http.target.bytes(), b"/secret", "{what}");
}

/// What feints begin with: other protocols, and their own with another name.
fn feints() -> Vec<Vec<u8>> {
    [b"x", &b"\x16"[..], b"\x16\x03\x01\0\x05\x01\0\0\x01\x03", b"SSH-2.0-x\r\n", b"EHLO x\r\n"]
        .into_iter()
        .chain([
            b"GET /inn",
            INNOCENT,
            b"HTTP/1.1 200 OK\r\n\r\n",
            &innocent()[..],
            &innocent()[..99],
        ])
        .map(<[u8]>::to_vec)
        .collect()
}

#[test]
fn what_is_ignored_at_the_beginning_hides_nothing() {
    let hello = data("curl");
    for feint in feints() {
        for kind in FEINTS {
            let what = format!("{kind:?} {}", feint[..feint.len().min(20)].escape_ascii());
            let before = Sent(0, kind, &feint);
            let wire = connection(&[before, Sent(0, RIGHT, &hello)]);
            assert_has_hello(wire, &what);
            // The hello in two pieces.
            let before = Sent(0, kind, &feint);
            let [first, second] = [&hello[..3], &hello[3..]];
            let wire = connection(&[before, Sent(0, RIGHT, first), Sent(3, RIGHT, second)]);
            assert_has_hello(wire, &what);
            let before = Sent(0, kind, &feint);
            let wire = connection(&[before, Sent(0, RIGHT, REQUEST)]);
            assert_has_request(wire, &what);
        }
    }
}

#[test]
fn what_is_outside_of_the_window_hides_nothing() {
    let hello = data("curl");
    for feint in feints() {
        for at in [-10_000, -1, 70_000, 1_000_000, 1 << 30] {
            let what = format!("{at} {}", feint[..feint.len().min(20)].escape_ascii());
            // Old data overlap what comes then.
            if at == -1 && feint.len() > 1 {
                continue;
            }
            for order in [[0, 1], [1, 0]] {
                let both = |real: &[u8]| {
                    let all = [(at, &feint[..]), (0, real)];
                    let sent = order.map(|number: usize| all[number]);
                    connection(&sent.map(|(at, data)| Sent(at, RIGHT, data)))
                };
                assert_has_hello(both(&hello), &what);
                assert_has_request(both(REQUEST), &what);
            }
        }
    }
}

/// A receiver has the first bytes already.
#[test]
fn what_comes_twice_with_other_contents_hides_nothing() {
    let hello = data("curl");
    for feint in feints() {
        let what = feint[..feint.len().min(20)].escape_ascii().to_string();
        let after = Sent(0, RIGHT, &feint[..feint.len().min(100)]);
        let [first, second] = [&hello[..100], &hello[100..]];
        let wire = connection(&[Sent(0, RIGHT, first), after, Sent(100, RIGHT, second)]);
        assert_has_hello(wire, &what);
    }
}

/// Bytes that keep a connection alive are none of those in which a beginning is searched.
#[test]
fn many_old_segments_hide_nothing() {
    let hello = data("curl");
    let mut sent: Vec<_> = (0..100).map(|_| Sent(-1, RIGHT, b"x")).collect();
    sent.push(Sent(0, RIGHT, &hello));
    assert_has_hello(connection(&sent), "old segments");
}

/// A hello behind `CONNECT`, with another one that lies ahead of it or has a wrong checksum.
#[test]
fn feints_behind_connect_hide_nothing() {
    let (hello, other) = (data("curl"), innocent());
    let request: &[u8] = b"CONNECT a:443 HTTP/1.1\r\n\r\n";
    let end = request.len() as i32;
    for feint in [Sent(end, FEINTS[0], &other), Sent(end + 9000, RIGHT, &other)] {
        let what = format!("{} {:?}", feint.0, feint.1);
        let all = [Sent(0, RIGHT, request), feint, Sent(end, RIGHT, &hello)];
        assert_has_hello(connection(&all), &what);
    }
    // And behind the hello, where it can change nothing.
    let after = end + hello.len() as i32;
    for feint in [Sent(after, FEINTS[0], &other), Sent(after + 9000, RIGHT, &other)] {
        let what = format!("{} {:?}", feint.0, feint.1);
        let all = [Sent(0, RIGHT, request), Sent(end, RIGHT, &hello), feint];
        assert_has_hello(connection(&all), &what);
    }
}

/// A server of mail does not understand the first hello, and keeps the connection.
#[test]
fn a_hello_that_the_server_refused_hides_nothing() {
    let (hello, other) = (data("curl"), innocent());
    let mut wire = connection(&[Sent(0, RIGHT, &other)]);
    let mut numbers = [CLIENT + 1 + other.len() as u32, SERVER + 1];
    for (is_client, text) in [
        (false, &b"500 what?\r\n"[..]),
        (true, b"STARTTLS\r\n"),
        (false, b"220 go ahead\r\n"),
        (true, &hello),
    ] {
        let end = usize::from(!is_client);
        wire.sent(is_client, (numbers[end], numbers[1 - end]), RIGHT, text);
        numbers[end] += text.len() as u32;
    }
    assert_has_hello(wire, "a second hello");
}

/// The name that a client wants a sensor to see comes first in the stream.
#[test]
fn the_hello_that_a_server_takes_first_counts() {
    let (hello, other) = (data("curl"), innocent());
    let end = hello.len() as i32;
    // Neither was acknowledged: the second one is no hello for the server.
    let wire = connection(&[Sent(0, RIGHT, &hello), Sent(end, RIGHT, &other)]);
    assert_has_hello(wire, "two hellos");
}
