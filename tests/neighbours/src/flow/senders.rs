//! Hostile senders: frames and datagrams that cost as much as possible.
//!
//! Their addresses are never those of the neighbour. Checksums are 0: the sensor trusts none.

use panoptes_traffic::Random;

const TCP: u8 = 6;
const UDP: u8 = 17;
const SYN: u8 = 2;
const PSH_ACK: u8 = 0x18;
/// The kernel passes on no frame that ends before the two bytes behind a VLAN tag which it
/// announces: it looks there for a length (`skb_vlan_untag` in net/core/skbuff.c).
const SHORTEST: usize = 20;
/// More fragments follow.
const MORE: u16 = 0x2000;

/// A hostile sender: its name, and what makes its next frame.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) frame: fn(&mut Random) -> Vec<u8>,
}

/// All of those that send on an interface.
pub(crate) const KINDS: &[Kind] = &[
    Kind { name: "SYN flood with forged sources", frame: syn },
    Kind { name: "streams that are half open", frame: half_open },
    Kind { name: "fragments", frame: fragment },
    Kind { name: "templates of exporters", frame: template },
    Kind { name: "answers of DNS", frame: answer },
    Kind { name: "malformed frames", frame: malformed },
];

/// An address that the neighbour has not.
fn address(random: &mut Random) -> [u8; 4] {
    let [_, b, c, d] = (random.next() as u32).to_be_bytes();
    [172, b, c, d]
}

fn port(random: &mut Random) -> u16 {
    1024 + random.below(60_000) as u16
}

/// An Ethernet frame with an IPv4 packet. `fragment` is the field with flags and offset.
fn ipv4(random: &mut Random, protocol: u8, fragment: u16, data: &[u8]) -> Vec<u8> {
    let id = random.next() as u16;
    let mut frame = vec![2, 0, 0, 9, 0, 2, 2, 0, 0, 9, 0, 1, 8, 0, 0x45, 0];
    frame.extend(((20 + data.len()) as u16).to_be_bytes());
    frame.extend([id.to_be_bytes(), fragment.to_be_bytes()].concat());
    frame.extend([64, protocol, 0, 0]);
    frame.extend([address(random), [198, 18, 0, 1]].concat());
    frame.extend(data);
    frame
}

fn tcp(random: &mut Random, flags: u8, data: &[u8]) -> Vec<u8> {
    let mut segment = [port(random).to_be_bytes(), 443_u16.to_be_bytes()].concat();
    segment.extend((random.next() as u32).to_be_bytes());
    segment.extend([0, 0, 0, 1, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend(data);
    segment
}

fn udp(ports: [u16; 2], data: &[u8]) -> Vec<u8> {
    let mut datagram = ports.map(u16::to_be_bytes).concat();
    datagram.extend(((8 + data.len()) as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(data);
    datagram
}

fn syn(random: &mut Random) -> Vec<u8> {
    let segment = tcp(random, SYN, &[]);
    ipv4(random, TCP, 0, &segment)
}

/// The first half of a ClientHello, whose rest never comes.
fn half_open(random: &mut Random) -> Vec<u8> {
    let mut hello = vec![22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    hello.extend((0..60).map(|_| random.next() as u8));
    let segment = tcp(random, PSH_ACK, &hello);
    ipv4(random, TCP, 0, &segment)
}

/// First and later fragments of datagrams that are never whole.
fn fragment(random: &mut Random) -> Vec<u8> {
    let offset = random.below(64) as u16;
    let datagram = udp([port(random), 9], &[7; 64]);
    ipv4(random, UDP, MORE | offset, &datagram)
}

/// A datagram of IPFIX with a new template (RFC 7011 §3.4.1).
pub(crate) fn export(random: &mut Random) -> Vec<u8> {
    let fields = 1 + random.below(60);
    let set = 4 + 4 + 4 * fields as u16;
    let mut data = [10, 16 + set].map(u16::to_be_bytes).concat();
    data.extend([0x65, 0x53, 0xf1, 0]);
    data.extend((random.next() as u32).to_be_bytes());
    data.extend((random.below(1000) as u32).to_be_bytes());
    let id = 256 + random.below(60_000) as u16;
    data.extend([2, set, id, fields as u16].map(u16::to_be_bytes).concat());
    for _ in 0..fields {
        data.extend([random.below(500) as u16, 4].map(u16::to_be_bytes).concat());
    }
    data
}

fn template(random: &mut Random) -> Vec<u8> {
    let data = export(random);
    let datagram = udp([port(random), 4739], &data);
    ipv4(random, UDP, 0, &datagram)
}

/// An answer of DNS for a name that nobody has asked for: passive DNS grows by each.
fn answer(random: &mut Random) -> Vec<u8> {
    let mut data = (random.next() as u16).to_be_bytes().to_vec();
    data.extend([0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
    let name = format!("{:016x}", random.next());
    data.push(name.len() as u8);
    data.extend(name.as_bytes());
    // The rest of the name, type and class; then the answer for the same name, for 300 s.
    data.extend(b"\x07example\0\0\x01\0\x01\xc0\x0c\0\x01\0\x01\0\0\x01\x2c\0\x04");
    data.extend(address(random));
    let datagram = udp([53, port(random)], &data);
    ipv4(random, UDP, 0, &datagram)
}

/// Another frame that is cut, or some of whose bytes are changed.
fn malformed(random: &mut Random) -> Vec<u8> {
    let whole = random.below(KINDS.len() as u64 - 1) as usize;
    let mut frame = (KINDS[whole].frame)(random);
    for _ in 0..=random.below(4) {
        // Types, versions, lengths, protocols, and offsets; no address of IPv4.
        let at = random.of(&[12, 13, 14, 15, 16, 17, 20, 21, 23, 34, 46, 47]);
        frame[at] = random.next() as u8;
    }
    if random.below(2) == 0 {
        frame.truncate(SHORTEST + random.below((frame.len() - SHORTEST) as u64) as usize);
    }
    frame
}

/// A datagram for a port of mirrors: a packet in VXLAN, or what is none.
pub(crate) fn mirrored(random: &mut Random) -> Vec<u8> {
    if random.below(2) == 0 {
        let length = random.below(100) as usize;
        return (0..length).map(|_| random.next() as u8).collect();
    }
    let mut data = vec![8, 0, 0, 0, 0, 0, 7, 0];
    data.extend(syn(random));
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_sender_has_an_address_of_the_neighbour() {
        let mut random = Random::new(7);
        let (_, others) = KINDS.split_last().expect("kinds");
        for kind in others {
            for _ in 0..1000 {
                let frame = (kind.frame)(&mut random);
                assert!((54..1500).contains(&frame.len()), "{}", kind.name);
                assert_eq!((frame[26], frame[30]), (172, 198), "{}", kind.name);
            }
        }
    }

    #[test]
    fn malformed_frames_have_an_ethernet_header() {
        let mut random = Random::new(7);
        assert!((0..10_000).all(|_| malformed(&mut random).len() >= SHORTEST));
    }
}
