//! Beginnings of TCP streams.

use panoptes_decoders::packet::transport::flag;
use panoptes_records::flow::application::{Application, TlsHellos};
use proptest::prelude::*;

use crate::recorded::data;
use crate::wire::Wire;

/// The first sequence number; those behind it begin anew within the hello.
const BEGIN: u32 = u32::MAX - 100;

/// Sends a SYN and then pieces of the client's data, each with its offset.
fn pieces<'a>(wire: &mut Wire, port: u16, pieces: impl IntoIterator<Item = (usize, &'a [u8])>) {
    wire.tcp(port, true, BEGIN.wrapping_sub(1), flag::SYN, b"");
    for (offset, piece) in pieces {
        wire.tcp(port, true, BEGIN.wrapping_add(offset as u32), flag::ACK, piece);
    }
}

fn whole(hello: &[u8]) -> TlsHellos {
    let mut wire = Wire::new(4);
    pieces(&mut wire, 1, [(0, hello)]);
    wire.tls()
}

/// The hello of a browser with a post-quantum key share: longer than a segment. It is the recorded
/// one with an extension of 1216 bytes more (a share of X25519MLKEM768), which no list has.
fn long_hello() -> Vec<u8> {
    let mut hello = data("curl");
    hello.extend([0x12, 0x34, 0x04, 0xc0]);
    hello.extend((0..1216_u32).map(|number| (number * 7) as u8));
    let more = 1220;
    // The lengths of the record, of the message and of the extensions.
    let extensions = {
        let session = 43 + usize::from(hello[43]) + 1;
        let ciphers =
            session + 2 + usize::from(u16::from_be_bytes([hello[session], hello[session + 1]]));
        ciphers + 1 + usize::from(hello[ciphers])
    };
    for at in [3, 7, extensions] {
        let length = u16::from_be_bytes([hello[at], hello[at + 1]]) + more;
        hello[at..at + 2].copy_from_slice(&length.to_be_bytes());
    }
    hello
}

#[test]
fn a_long_hello_is_put_together() {
    let hello = long_hello();
    let expected = whole(&hello);
    let client = expected.client.expect("a hello");
    assert_eq!(client.server_name.bytes(), b"www.flow.example");
    // One extension more than in the recorded one.
    assert_eq!(&client.ja4.expect("a fingerprint")[..10], b"t13d3113h2");
    let mut wire = Wire::new(4);
    pieces(&mut wire, 1, [(1400, &hello[1400..]), (0, &hello[..1400])]);
    assert_eq!(wire.tls(), expected);
    // A hello that lacks its end has a name and no fingerprint.
    let mut wire = Wire::new(4);
    pieces(&mut wire, 1, [(0, &hello[..1400])]);
    let cut = wire.tls().client.expect("a hello");
    assert_eq!((cut.server_name, cut.ja4), (client.server_name, None));
}

#[test]
fn a_hello_in_several_records_is_put_together() {
    let hello = data("curl");
    let mut records = Vec::new();
    for part in hello[5..].chunks(50) {
        records.extend([22, 3, 1, 0, part.len() as u8]);
        records.extend(part);
    }
    assert_eq!(whole(&records), whole(&hello));
    assert!(whole(&hello).client.is_some_and(|client| client.ja4.is_some()));
}

#[test]
fn what_came_first_stays() {
    let hello = data("curl");
    let mut other = hello.clone();
    other[20..200].fill(0xff);
    let mut wire = Wire::new(4);
    // As data sent again with other contents, before the rest comes.
    pieces(&mut wire, 1, [(0, &hello[..200]), (0, &other[..200]), (200, &hello[200..])]);
    assert_eq!(wire.tls(), whole(&hello));
}

#[test]
fn a_stream_whose_syn_was_not_seen_begins_with_its_first_data() {
    let hello = data("curl");
    let mut wire = Wire::new(4);
    wire.tcp(1, true, 77, flag::ACK, &hello[..100]);
    // A byte that keeps the connection alive is before its beginning.
    wire.tcp(1, true, 76, flag::ACK, b"\0");
    wire.tcp(1, true, 177, flag::ACK, &hello[100..]);
    assert_eq!(wire.tls(), whole(&hello));
}

/// Their order is that of the packet, as senders have it.
#[test]
fn fragments_behind_the_first_one_are_read() {
    let hello = long_hello();
    for bytes in [24, 64, 1400] {
        let mut wire = Wire::new(8);
        wire.in_fragments(BEGIN, &hello[..1000], bytes);
        wire.in_fragments(BEGIN.wrapping_add(1000), &hello[1000..], bytes);
        let found = wire.finish();
        assert!(found.contains(&Application::Tls(whole(&hello))), "{bytes}: {found:?}");
    }
}

#[test]
fn a_new_connection_with_the_same_ports_begins_anew() {
    let hello = data("curl");
    let mut wire = Wire::new(4);
    pieces(&mut wire, 1, [(0, &hello[..])]);
    wire.tcp(1, true, 1, flag::RST, b"");
    wire.tcp(1, true, 99_999, flag::SYN, b"");
    wire.tcp(1, true, 100_000, flag::ACK, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let applications = wire.finish();
    let [Application::Tls(_), Application::Http(http)] = &applications[..] else {
        panic!("two connections: {applications:?}")
    };
    assert_eq!(http.host.expect("a host").bytes(), b"a");
}

#[test]
fn all_later_records_have_the_application() {
    let hello = data("curl");
    let mut wire = Wire::new(4);
    pieces(&mut wire, 1, [(0, &hello[..])]);
    for number in 0..11_000 {
        wire.tcp(1, true, number, flag::ACK, b"");
    }
    let applications = wire.finish();
    assert!(applications.len() >= 3, "{}", applications.len());
    assert!(applications.iter().all(|one| *one == Application::Tls(whole(&hello))));
}

#[test]
fn beginnings_that_are_given_up_are_counted() {
    let hello = data("curl");
    let mut wire = Wire::new(4000);
    for port in 1000..3000 {
        pieces(&mut wire, port, [(0, &hello[..100])]);
    }
    // All are of one source, and nobody answers.
    assert_eq!(wire.counts().given_up, 2000 - 64);
    // The oldest ones are given up. The others are still put together.
    for port in [1000, 2999] {
        wire.tcp(port, true, BEGIN.wrapping_add(100), flag::ACK, &hello[100..]);
    }
    let found = wire.finish();
    let expected = Application::Tls(whole(&hello));
    assert_eq!(found.iter().filter(|one| **one == expected).count(), 1);
}

#[test]
fn heads_and_banners_are_put_together() {
    let whole = |data: &[u8]| {
        let mut wire = Wire::new(4);
        pieces(&mut wire, 1, [(0, data)]);
        wire.only()
    };
    for name in ["get", "post", "get-answer", "client"] {
        let data = data(name);
        assert_ne!(whole(&data), Application::Unknown, "{name}");
        let mut wire = Wire::new(4);
        let all = data.iter().enumerate();
        pieces(&mut wire, 1, all.map(|(at, byte)| (at, std::slice::from_ref(byte))));
        assert_eq!(wire.only(), whole(&data), "{name}");
    }
}

/// A method is a token (RFC 9110 §5.6.2 and §9.1).
#[test]
fn methods_are_tokens() {
    for method in ["GET", "CCM_POST", "RPC_IN_DATA", "M-SEARCH", "VERSION-CONTROL", "get", "X.1~a"]
    {
        let mut wire = Wire::new(4);
        pieces(&mut wire, 1, [(0, format!("{method} /a HTTP/1.1\r\n\r\n").as_bytes())]);
        let application = wire.only();
        let Application::Http(http) = application else { panic!("{method}: {application:?}") };
        assert_eq!(http.method.bytes(), method.as_bytes());
    }
}

#[test]
fn other_protocols_are_none() {
    for data in [
        &b"220 mail ESMTP\r\n"[..],
        b"\0\0\0",
        b"EHLO a\r\n",
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGH",
    ] {
        let mut wire = Wire::new(4);
        pieces(&mut wire, 1, [(0, data)]);
        assert_eq!(wire.only(), Application::Unknown, "{}", data.escape_ascii());
    }
}

proptest! {
    /// Any pieces in any order, some of them twice, tell the same as the whole.
    #[test]
    fn the_order_of_pieces_does_not_matter(
        cuts in proptest::collection::btree_set(1..1800_usize, 0..40),
        again in proptest::collection::vec((0..1800_usize, 1..1400_usize), 0..4),
        order in any::<u64>(),
    ) {
        let hello = long_hello();
        let mut ends: Vec<usize> = cuts.into_iter().filter(|cut| *cut < hello.len()).collect();
        ends.push(hello.len());
        let mut all = Vec::new();
        let mut begin = 0;
        for end in ends {
            all.push((begin, &hello[begin..end]));
            begin = end;
        }
        for (begin, length) in again.into_iter().filter(|(begin, _)| *begin < hello.len()) {
            all.push((begin, &hello[begin..hello.len().min(begin + length)]));
        }
        let hash = |at: usize| (at as u64 ^ order).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 7;
        let mut numbered: Vec<_> = all.into_iter().enumerate().collect();
        numbered.sort_by_key(|(number, _)| hash(*number));
        let mut wire = Wire::new(4);
        pieces(&mut wire, 1, numbered.into_iter().map(|(_, piece)| piece));
        prop_assert_eq!(wire.tls(), whole(&hello));
    }
}
