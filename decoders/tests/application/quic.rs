//! The packets of RFC 9001 appendix A, and the hellos in them.

use panoptes_decoders::application::quic::{LongHeader, LongPacketKind, VERSION_1, VERSION_2};
use panoptes_decoders::application::tls::{ClientHello, Ja4, Ja4Transport, ServerHello};

use super::recorded::bytes;

/// §A.2: the client's Initial, up to the end of the sample for header protection. The rest of the
/// packet's 1200 bytes is encrypted, and zero here.
pub(super) fn client_initial() -> Vec<u8> {
    let mut packet =
        bytes("c000000001088394c8f03e5157080000449e7b9aec34d1b1c98dd7689fb8ec11d242b123dc9b");
    packet.resize(1200, 0);
    packet
}

/// §A.3: the server's Initial.
fn server_initial() -> Vec<u8> {
    bytes(
        "cf000000010008f067a5502a4262b5004075c0d95a482cd0991cd25b0aac406a5816b6394100f37a1c69
         797554780bb38cc5a99f5ede4cf73c3ec2493a1839b3dbcba3f6ea46c5b7684df3548e7ddeb9c3bf9c73
         cc3f3bded74b562bfb19fb84022f8ef4cdd93795d77d06edbb7aaf2f58891850abbdca3d20398c276456
         cbc42158407dd074ee",
    )
}

/// §A.2: the CRYPTO frame in the client's packet.
const CLIENT_FRAME: &str =
    "060040f1010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e86804fe3a47f06a2b69484c000004
     13011302010000c000000010000e00000b6578616d706c652e636f6dff01000100000a00080006001d00170018
     00100007000504616c706e000500050100000000003300260024001d00209370b2c9caa47fbabaf4559fedba75
     3de171fa71f50f1ce15d43e994ec74d748002b0003020304000d0010000e040305030603020308040805080600
     2d00020101001c00024001003900320408ffffffffffffffff05048000ffff07048000ffff0801100104800075
     300901100f088394c8f03e51570806048000ffff";

/// §A.3: the ACK frame (5 bytes) and the CRYPTO frame in the server's packet.
const SERVER_FRAMES: &str =
    "02000000000600405a020000560303eefce7f7b37ba1d1632e96677825ddf73988cfc79825df566dc5430b9a04
     5a1200130100002e00330024001d00209d3c940d89690b84d08a60993c144eca684d1081287c834d5311bcf32b
     b9da1a002b00020304";

#[test]
fn the_initial_packets_are_read() {
    let packet = client_initial();
    let header = LongHeader::decode(&packet).expect("a header");
    assert_eq!((header.version, header.kind), (VERSION_1, LongPacketKind::Initial { token: &[] }));
    assert_eq!(header.destination_id, bytes("8394c8f03e515708"));
    assert_eq!(header.source_id, b"");
    // "packet number offset 18", and the length 1182 with the tag.
    assert_eq!((header.header_length, header.payload.len(), header.missing), (18, 1182, 0));
    assert_eq!(header.payload[..4], bytes("7b9aec34"));
    assert_eq!(header.rest, b"");

    let packet = server_initial();
    let header = LongHeader::decode(&packet).expect("a header");
    assert_eq!(header.source_id, bytes("f067a5502a4262b5"));
    assert_eq!((header.header_length, header.payload.len(), header.missing), (18, 117, 0));
}

/// §A.4: the token is "token".
#[test]
fn the_retry_packet_is_read() {
    let packet = bytes("ff000000010008f067a5502a4262b5746f6b656e04a265ba2eff4d829058fb3f0f2496ba");
    let header = LongHeader::decode(&packet).expect("a header");
    assert_eq!(header.kind, LongPacketKind::Retry { token: b"token" });
    assert_eq!((header.source_id, header.payload), (&bytes("f067a5502a4262b5")[..], &[][..]));
    assert_eq!(LongHeader::decode(&packet[..30]), None, "no room for the tag");
}

/// RFC 9369 §3.2: 1 is Initial, 2 0-RTT, 3 Handshake, 0 Retry. §A.2 begins with these bytes.
#[test]
fn version_2_has_other_types() {
    let mut packet = bytes("d36b3343cf088394c8f03e5157080000449e00000002");
    packet.resize(1200, 0);
    let header = LongHeader::decode(&packet).expect("a header");
    assert_eq!((header.version, header.kind), (VERSION_2, LongPacketKind::Initial { token: &[] }));
    assert_eq!(header.payload.len(), 1182);
    for (first, expected) in [(0xe0, LongPacketKind::EarlyData), (0xf0, LongPacketKind::Handshake)]
    {
        packet[0] = first;
        // The token's length is now that of the payload.
        let header = LongHeader::decode(&packet).expect("a header");
        assert_eq!((header.kind, header.payload), (expected, &[][..]));
    }
    packet[0] = 0xc0;
    let header = LongHeader::decode(&packet).expect("a header");
    assert!(
        matches!(header.kind, LongPacketKind::Retry { token } if token.len() == 1200 - 15 - 16)
    );
}

#[test]
fn packets_of_a_datagram_follow_each_other() {
    let handshake = [&[0xe0, 0, 0, 0, 1, 1, 7, 2, 8, 9, 3][..], b"abc", b"\x40short"].concat();
    let datagram = [server_initial(), handshake].concat();
    let first = LongHeader::decode(&datagram).expect("a header");
    let second = LongHeader::decode(first.rest).expect("a header");
    assert_eq!((second.kind, second.payload), (LongPacketKind::Handshake, &b"abc"[..]));
    assert_eq!((second.destination_id, second.source_id), (&[7][..], &[8, 9][..]));
    assert_eq!((second.rest, LongHeader::decode(second.rest)), (&b"\x40short"[..], None));
}

#[test]
fn other_versions_are_read_as_far_as_all_are_alike() {
    // RFC 8999 §6.
    let header = LongHeader::decode(b"\x80\0\0\0\0\x01a\x02bc\0\0\0\x01\x1a\x2a\x3a\x4a");
    let header = header.expect("a header");
    let versions = &b"\0\0\0\x01\x1a\x2a\x3a\x4a"[..];
    assert_eq!((header.version, header.kind), (0, LongPacketKind::VersionNegotiation { versions }));
    assert_eq!((header.destination_id, header.source_id), (&b"a"[..], &b"bc"[..]));
    let header = LongHeader::decode(b"\x80\x1a\x2a\x3a\x4a\x01a\0rest").expect("a header");
    assert_eq!((header.version, header.kind), (0x1a2a_3a4a, LongPacketKind::Unknown));
    // Version 1: the fixed bit, and ids of more than 20 bytes.
    let with_id = |first: u8, length: u8| {
        [&[first, 0, 0, 0, 1, length][..], &vec![1; length as usize], &[0, 0, 0]].concat()
    };
    assert!(LongHeader::decode(&with_id(0xc0, 20)).is_some());
    assert_eq!(LongHeader::decode(&with_id(0xc0, 21)), None);
    assert_eq!(LongHeader::decode(&with_id(0x80, 20)), None);
}

#[test]
fn a_packet_that_is_cut_counts_what_is_missing() {
    let packet = client_initial();
    let header = LongHeader::decode(&packet[..96]).expect("a header");
    assert_eq!((header.payload.len(), header.missing), (78, 1104));
    assert_eq!(LongHeader::decode(&packet[..17]), None);
}

#[test]
fn the_hellos_in_the_packets_are_read() {
    let frame = bytes(CLIENT_FRAME);
    let hello = ClientHello::from_message(&frame[4..]).expect("a hello");
    assert_eq!(hello.server_name(), Some(&b"example.com"[..]));
    assert_eq!(hello.protocols().collect::<Vec<_>>(), [b"alpn"]);
    assert_eq!(hello.ciphers.clone().collect::<Vec<_>>(), [0x1301, 0x1302]);
    assert_eq!((hello.version(), hello.missing), (0x0304, 0));
    let ja4 = Ja4::of(&hello, Ja4Transport::Quic).expect("a fingerprint");
    assert_eq!(ja4.to_string()[..11], *"q13d0211an_");

    let frames = bytes(SERVER_FRAMES);
    let hello = ServerHello::from_message(&frames[9..]).expect("a hello");
    assert_eq!((hello.version(), hello.cipher, hello.missing), (0x0304, 0x1301, 0));
}
