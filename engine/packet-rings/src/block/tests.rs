//! Blocks laid out by hand, after `include/uapi/linux/if_packet.h`, and blocks of any bytes.

use proptest::prelude::*;

use super::*;

/// Where the packet begins, behind its headers and the room that is reserved.
const MAC: usize = 96;

/// Writes a number of the kernel's byte order.
fn put<const N: usize>(block: &mut [u8], at: usize, bytes: [u8; N]) {
    block[at..at + N].copy_from_slice(&bytes);
}

/// A block with packets of this content, each in 256 bytes.
fn block(packets: &[&[u8]]) -> Vec<u8> {
    let mut block = vec![0xee; 64 + 256 * packets.len()];
    put(&mut block, PACKETS, (packets.len() as u32).to_ne_bytes());
    put(&mut block, FIRST_PACKET, 64_u32.to_ne_bytes());
    for (number, packet) in packets.iter().enumerate() {
        let at = 64 + 256 * number;
        let is_last = number + 1 == packets.len();
        let words = [
            if is_last { 0 } else { 256 },
            1_700_000_000 + number as u32,
            999_999_999,
            packet.len() as u32,
            1000 + packet.len() as u32,
            libc::TP_STATUS_USER,
        ];
        for (index, word) in words.into_iter().enumerate() {
            put(&mut block, at + 4 * index, word.to_ne_bytes());
        }
        put(&mut block, at + START, (MAC as u16).to_ne_bytes());
        put(&mut block, at + TAG, [0; 8]);
        // sockaddr_ll: AF_PACKET, ARP, interface 9, Ethernet, for all, 6 bytes of address.
        let address = [17, 0, 8, 6, 9, 0, 0, 0, 1, 0, 1, 6, 1, 2, 3, 4, 5, 6, 0, 0];
        put(&mut block, at + HEADER_BYTES, address);
        block[at + MAC..][..packet.len()].copy_from_slice(packet);
    }
    block
}

fn read(block: &mut [u8], form: LinkHeaderKind) -> Vec<(BlockPacket, Vec<u8>)> {
    let mut cursor = BlockCursor::begin(block);
    let mut all = Vec::new();
    while let Some(found) = cursor.next(block, form) {
        all.push((found, block[found.start..found.start + found.length].to_vec()));
    }
    assert!(all.len() < 10 || cursor.left() > 0);
    all
}

#[test]
fn packets_of_a_block_are_read_in_order() {
    let mut block = block(&[b"first", b"", b"the third"]);
    let all = read(&mut block, LinkHeaderKind::Other);
    let bytes: Vec<_> = all.iter().map(|(_, bytes)| bytes.as_slice()).collect();
    assert_eq!(bytes, [&b"first"[..], b"", b"the third"]);
    let expected = BlockPacket {
        time_ns: 1_700_000_002_999_999_999,
        wire_length: 1009,
        start: 64 + 512 + MAC,
        length: 9,
        index: 9,
        hardware: 1,
        packet_type: 1,
    };
    assert_eq!(all[2].0, expected);
}

#[test]
fn a_tag_is_inserted_where_it_was() {
    let packet = b"abcdefghijklMNopq";
    for (status, kind) in [(0, [0x81, 0]), (libc::TP_STATUS_VLAN_TPID_VALID, [0x88, 0xa8])] {
        let mut block = block(&[packet]);
        let status = libc::TP_STATUS_USER | libc::TP_STATUS_VLAN_VALID | status;
        put(&mut block, 64 + STATUS, status.to_ne_bytes());
        put(&mut block, 64 + TAG, 0x6123_u32.to_ne_bytes());
        put(&mut block, 64 + TAG_TYPE, 0x88a8_u16.to_ne_bytes());
        let mut cooked = block.clone();
        let (found, bytes) = read(&mut block, LinkHeaderKind::Ethernet).remove(0);
        let tag = [kind[0], kind[1], 0x61, 0x23];
        assert_eq!(bytes, [b"abcdefghijkl", &tag[..], b"MNopq"].concat());
        assert_eq!(found.wire_length, 1017 + 4);

        let (found, bytes) = read(&mut cooked, LinkHeaderKind::Cooked).remove(0);
        let header = [0, 1, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0];
        assert_eq!(bytes, [&header[..], &tag, &[8, 6], packet].concat());
        assert_eq!(found.wire_length, 1017 + 20);
    }
}

#[test]
fn wrong_lengths_end_a_block() {
    let whole = block(&[b"first", b"second"]);
    let change = |at: usize, bytes: [u8; 4]| {
        let mut changed = whole.clone();
        put(&mut changed, at, bytes);
        read(&mut changed, LinkHeaderKind::Ethernet).len()
    };
    assert_eq!(change(64 + CAPTURED, 0_u32.to_ne_bytes()), 2);
    assert_eq!(change(FIRST_PACKET, u32::MAX.to_ne_bytes()), 0);
    assert_eq!(change(64 + CAPTURED, u32::MAX.to_ne_bytes()), 0);
    assert_eq!(change(320 + CAPTURED, (256 - MAC as u32).to_ne_bytes()), 2);
    assert_eq!(change(320 + CAPTURED, (257 - MAC as u32).to_ne_bytes()), 1);
    assert_eq!(change(64, u32::MAX.to_ne_bytes()), 1);
    // The packet would begin within its headers.
    assert_eq!(change(64 + START, [HEADERS_BYTES as u8 - 1, 0, 0, 0]), 0);
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_harm(
        mut bytes in prop::collection::vec(any::<u8>(), 0..600),
        small in prop::collection::vec((0_usize..600, 0_u32..300), 0..40),
        form in prop::sample::select(vec![
            LinkHeaderKind::Ethernet, LinkHeaderKind::Cooked, LinkHeaderKind::Other,
        ]),
    ) {
        for (at, word) in small {
            if let Some(to) = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
                *to = word.to_ne_bytes();
            }
        }
        let mut cursor = BlockCursor::begin(&bytes);
        for _ in 0..1000 {
            let Some(found) = cursor.next(&mut bytes, form) else { break };
            prop_assert!(found.start + found.length <= bytes.len());
        }
    }
}
