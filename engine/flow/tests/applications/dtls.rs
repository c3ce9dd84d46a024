//! Hellos of DTLS: the recorded one of TLS in the form of RFC 6347.

use panoptes_records::flow::application::{Application, Hello};

use crate::recorded::data;
use crate::wire::Wire;

/// The body of the hello: with the version of DTLS 1.2, and with an empty cookie.
fn body() -> Vec<u8> {
    let mut body = data("curl")[9..].to_vec();
    body[..2].copy_from_slice(&[0xfe, 0xfd]);
    let cookie = 35 + usize::from(body[34]);
    body.insert(cookie, 0);
    body
}

/// A datagram with a record for each fragment of a message: its number, its offset, its data.
fn datagram(sequence: u16, length: usize, fragments: &[(usize, &[u8])]) -> Vec<u8> {
    let three = |number: usize| (number as u32).to_be_bytes()[1..].to_vec();
    let mut all = Vec::new();
    for (offset, data) in fragments {
        all.extend([22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0]);
        all.extend((12 + data.len() as u16).to_be_bytes());
        all.push(1);
        all.extend(three(length));
        all.extend(sequence.to_be_bytes());
        all.extend(three(*offset));
        all.extend(three(data.len()));
        all.extend(*data);
    }
    all
}

#[track_caller]
fn hello(datagrams: &[Vec<u8>]) -> Option<Hello> {
    let mut wire = Wire::new(4);
    for datagram in datagrams {
        wire.udp(true, datagram);
    }
    match wire.only() {
        Application::Tls(tls) => tls.client,
        Application::Unknown => None,
        application => panic!("no DTLS: {application:?}"),
    }
}

#[test]
fn a_hello_has_its_name_and_its_fingerprint() {
    let mut wire = Wire::new(4);
    wire.tcp(1, true, 1, 0x10, &data("curl"));
    let of_tls = wire.tls().client.expect("a hello");
    let body = body();
    let found = hello(&[datagram(0, body.len(), &[(0, &body)])]).expect("a hello");
    assert_eq!(found.version, 0xfefd);
    assert_eq!(found.server_name, of_tls.server_name);
    let [found, of_tls] = [found, of_tls].map(|hello| hello.ja4.expect("a fingerprint"));
    // JA4.md: d for DTLS, d2 for its version 1.2. All else is the same.
    assert_eq!(&found[..3], b"dd2");
    assert_eq!(found[3..], of_tls[3..]);
}

/// Cisco's AnyConnect has the version of an old OpenSSL in its records and in its hello.
#[test]
fn a_hello_of_an_old_version_has_its_name() {
    let mut body = body();
    body[..2].copy_from_slice(&[1, 0]);
    let whole = |body: &[u8]| {
        let mut datagram = datagram(0, body.len(), &[(0, body)]);
        datagram[1..3].copy_from_slice(&[1, 0]);
        datagram
    };
    let found = hello(&[whole(&body)]).expect("a hello");
    assert_eq!(found.version, 0x0100);
    assert_eq!(found.server_name.bytes(), b"www.flow.example");
    // JA4.md has no letters for this version: 00. The next d is that of a name.
    assert_eq!(&found.ja4.expect("a fingerprint")[..4], b"d00d");
    body[0] = 3;
    assert_eq!(hello(&[whole(&body)]), None, "no such version");
}

#[test]
fn fragments_come_in_any_order() {
    let body = body();
    let whole = hello(&[datagram(0, body.len(), &[(0, &body)])]);
    let parts = [(0, &body[..100]), (100, &body[100..200]), (200, &body[200..])];
    assert_eq!(hello(&[datagram(0, body.len(), &parts)]), whole);
    let apart = parts.map(|part| datagram(0, body.len(), &[part]));
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        assert_eq!(hello(&order.map(|at: usize| apart[at].clone())), whole, "{order:?}");
    }
    // Another message does not complete it.
    let other = datagram(1, body.len(), &[parts[2]]);
    let cut = hello(&[apart[0].clone(), apart[1].clone(), other]);
    assert!(cut.is_none_or(|cut| cut.ja4.is_none()));
}

#[test]
fn encrypted_records_are_none() {
    let body = body();
    let mut encrypted = datagram(0, body.len(), &[(0, &body)]);
    encrypted[4] = 1;
    assert_eq!(hello(&[encrypted]), None);
}

/// Anybody may use the ports of DNS for something else.
#[test]
fn the_ports_of_dns_hide_nothing() {
    let body = body();
    for port in [53, 5353, 5355] {
        let mut wire = Wire::new(4);
        wire.datagram([40_000, port], &datagram(0, body.len(), &[(0, &body)]));
        let found = wire.only();
        assert!(matches!(found, Application::Tls(_)), "port {port}: {found:?}");
    }
}

#[test]
fn fragments_of_ip_are_read() {
    let body = body();
    let whole = datagram(0, body.len(), &[(0, &body)]);
    let expected = hello(std::slice::from_ref(&whole));
    for bytes in [64, 104, 400] {
        let mut wire = Wire::new(4);
        wire.datagram_in_fragments(&whole, bytes);
        let found = wire.finish();
        let client = found.iter().find_map(|one| match one {
            Application::Tls(tls) => tls.client,
            _ => None,
        });
        assert_eq!(client, expected, "{bytes}");
    }
}
