//! [`Division`]: which of several threads counts a packet, and programs by which the kernel
//! chooses the same one.
//!
//! All packets between two addresses are of one part: both directions, fragments without ports,
//! and what an end answers by ICMP. The addresses are those of the innermost IP header. A program
//! cannot open all that the decoders open, and then its packets come to another part: a receiver
//! compares [`Division::part_of`], and passes on what is not its own.

use std::sync::atomic::{AtomicU64, Ordering};

use panoptes_decoders::packet::ethertype;
use panoptes_decoders::packet::mirror::Mirror;
use panoptes_decoders::packet::program::{Instruction, code};

use crate::filter::{SKF_AD_OFF, SKF_AD_PKTTYPE, SKF_AD_PROTOCOL};

/// The most parts.
pub const PARTS_MAX: usize = 64;

/// Loads from here on give the network header of a packet, and its link layer
/// (`include/uapi/linux/filter.h`).
const SKF_NET_OFF: u32 = 0xfff0_0000;
const SKF_LL_OFF: u32 = 0xffe0_0000;

/// The types of tags.
const TAGS: [u16; 2] = [ethertype::VLAN, ethertype::QINQ];

/// Length of the header of Ethernet, and where its type is.
const ETHERNET_BYTES: u32 = 14;
const TYPE_AT: u32 = 12;
/// Where the addresses are in the headers of IP.
const ADDRESSES_V4: [u32; 2] = [12, 16];
const ADDRESSES_V6: [u32; 2] = [8, 24];

/// Words of a program's memory: those of a calculation, both ends, and where the packet begins.
const SCRATCH: u32 = 0;
const ENDS: [u32; 2] = [1, 2];
const BASE: u32 = 3;

/// How packets are divided.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Division {
    parts: u32,
    /// Odd numbers.
    factors: [u32; 3],
}

impl Division {
    /// Into so many parts, 1 to [`PARTS_MAX`]. `key` must be secret: senders choose addresses.
    #[must_use]
    pub fn new(parts: usize, key: u64) -> Self {
        let parts = parts.clamp(1, PARTS_MAX) as u32;
        // Any key gives parts that differ.
        let mixed = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let factors = [key >> 32, mixed, mixed >> 32].map(|factor| factor as u32 | 1);
        Self { parts, factors }
    }

    /// Number of parts.
    #[must_use]
    pub const fn parts(&self) -> usize {
        self.parts as usize
    }

    /// The part of packets between two addresses, the same in both directions. An IPv4 address has
    /// its 32 bits in the lowest ones.
    #[inline]
    #[must_use]
    pub const fn part_of(&self, source: u128, destination: u128) -> usize {
        let sum = self.mixed(source).wrapping_add(self.mixed(destination));
        ((sum ^ sum >> 16) % self.parts) as usize
    }

    #[inline]
    const fn mixed(&self, address: u128) -> u32 {
        let [first, second, third] = self.factors;
        let mut word = (address >> 96) as u32;
        word = word.wrapping_mul(first) ^ (address >> 64) as u32;
        word = word.wrapping_mul(first) ^ (address >> 32) as u32;
        word = word.wrapping_mul(first) ^ address as u32;
        word = word.wrapping_mul(second);
        word = (word ^ word >> 15).wrapping_mul(third);
        word ^ word >> 13
    }

    /// The program for the sockets of an interface (`PACKET_FANOUT_CBPF`): it opens tags.
    pub(crate) fn of_interface(&self) -> Vec<Instruction> {
        let mut program = Assembly::default();
        program.add(code::LD_W_ABS, SKF_AD_OFF + SKF_AD_PKTTYPE);
        program.jump_if(code::JEQ_K, u32::from(libc::PACKET_OUTGOING), (0, 7));
        // Packets that are sent begin with their link layer (`dev_queue_xmit_nit`,
        // `net/core/dev.c`), and their network header is behind tags that they contain
        // (`packet_parse_headers`, `net/packet/af_packet.c`).
        program.add(code::LD_W_ABS, SKF_AD_OFF + SKF_AD_PROTOCOL);
        program.jump_if(code::JEQ_K, u32::from(TAGS[0]), (1, 0));
        program.jump_if(code::JEQ_K, u32::from(TAGS[1]), (0, 2));
        program.add(code::LDX_IMM, SKF_LL_OFF + ETHERNET_BYTES);
        program.add(code::JA, 3);
        program.add(code::LDX_IMM, SKF_NET_OFF);
        program.add(code::JA, 1);
        program.add(code::LDX_IMM, 0);
        program.add(code::LD_W_ABS, SKF_AD_OFF + SKF_AD_PROTOCOL);
        self.finish(program)
    }

    /// The program for the sockets of a port (`SO_ATTACH_REUSEPORT_CBPF`), to which packets are
    /// mirrored: it begins behind the header of UDP.
    pub(crate) fn of_port(&self, mirror: Mirror) -> Vec<Instruction> {
        let mut program = Assembly::default();
        match mirror {
            Mirror::Vxlan => program.open_ethernet_at(8),
            Mirror::Geneve => {
                program.add(code::LD_B_ABS, 0);
                program.add(code::AND_K, 0x3f);
                program.add(code::LSH_K, 2);
                program.add(code::ADD_K, 8);
                program.add(code::TAX, 0);
                program.open_type_at(2);
            }
            Mirror::Gre => {
                program.add(code::LDX_IMM, 4);
                // A checksum, a key, a number: four bytes for each.
                for bit in [0x80, 0x20, 0x10] {
                    program.add(code::LD_B_ABS, 0);
                    program.jump_if(code::JSET_K, bit, (0, 3));
                    program.move_by(4);
                }
                program.open_type_at(2);
            }
            Mirror::Tzsp => {
                // Only without tags, as routers of MikroTik send it.
                program.add(code::LD_B_ABS, 4);
                program.return_unless(1);
                program.add(code::LD_H_ABS, 2);
                program.return_unless(1);
                program.open_ethernet_at(5);
            }
        }
        self.finish(program)
    }

    /// Opens tags and IP at X, whose type is in A, and returns the part.
    fn finish(&self, mut program: Assembly) -> Vec<Instruction> {
        for _ in 0..2 {
            program.jump_if(code::JEQ_K, u32::from(TAGS[0]), (1, 0));
            program.jump_if(code::JEQ_K, u32::from(TAGS[1]), (0, 6));
            program.add(code::LD_H_IND, 2);
            program.add(code::ST, SCRATCH);
            program.move_by(4);
            program.add(code::LD_MEM, SCRATCH);
        }
        program.add(code::STX, BASE);
        for (kind, addresses, words) in
            [(ethertype::IPV4, ADDRESSES_V4, 1), (ethertype::IPV6, ADDRESSES_V6, 4)]
        {
            let mut of_kind = Assembly::default();
            for (at, end) in addresses.into_iter().zip(ENDS) {
                self.mix(&mut of_kind, at, words);
                of_kind.add(code::ST, end);
            }
            self.divide(&mut of_kind);
            let length = of_kind.0.len() as u8;
            program.jump_if(code::JEQ_K, u32::from(kind), (0, length));
            program.0.extend(of_kind.0);
        }
        program.add(code::RET_K, 0);
        program.0
    }

    /// Calculates [`Self::mixed`] of an address of so many words.
    fn mix(&self, program: &mut Assembly, at: u32, words: u32) {
        let [first, second, third] = self.factors;
        program.add(code::LDX_MEM, BASE);
        program.add(code::LD_W_IND, at);
        for word in 1..words {
            program.add(code::MUL_K, first);
            program.add(code::ST, SCRATCH);
            program.add(code::LD_W_IND, at + 4 * word);
            program.add(code::LDX_MEM, SCRATCH);
            program.add(code::XOR_X, 0);
            program.add(code::LDX_MEM, BASE);
        }
        program.add(code::MUL_K, second);
        program.xor_shifted(15);
        program.add(code::MUL_K, third);
        program.xor_shifted(13);
    }

    /// Returns the part by what was calculated of both ends.
    fn divide(&self, program: &mut Assembly) {
        program.add(code::LD_MEM, ENDS[0]);
        program.add(code::LDX_MEM, ENDS[1]);
        program.add(code::ADD_X, 0);
        program.xor_shifted(16);
        program.add(code::MOD_K, self.parts);
        program.add(code::RET_A, 0);
    }
}

/// A program that is being written.
#[derive(Default)]
struct Assembly(Vec<Instruction>);

impl Assembly {
    fn add(&mut self, code: u16, constant: u32) {
        self.0.push(Instruction { code, constant, ..Instruction::default() });
    }

    fn jump_if(&mut self, code: u16, constant: u32, (jump_true, jump_false): (u8, u8)) {
        self.0.push(Instruction { code, jump_true, jump_false, constant });
    }

    /// Returns the first part unless A is this.
    fn return_unless(&mut self, constant: u32) {
        self.jump_if(code::JEQ_K, constant, (1, 0));
        self.add(code::RET_K, 0);
    }

    /// Adds to X by way of A: three instructions.
    fn move_by(&mut self, bytes: u32) {
        self.add(code::TXA, 0);
        self.add(code::ADD_K, bytes);
        self.add(code::TAX, 0);
    }

    /// `A ^= A >> bits`, by way of X.
    fn xor_shifted(&mut self, bits: u32) {
        self.add(code::ST, SCRATCH);
        self.add(code::RSH_K, bits);
        self.add(code::LDX_MEM, SCRATCH);
        self.add(code::XOR_X, 0);
    }

    /// Goes behind the header of Ethernet at this place; its type is in A then.
    fn open_ethernet_at(&mut self, at: u32) {
        self.add(code::LDX_IMM, at + ETHERNET_BYTES);
        self.add(code::LD_H_ABS, at + TYPE_AT);
    }

    /// Opens what is at X, whose Ethernet type is at this place; its own type is in A then.
    fn open_type_at(&mut self, at: u32) {
        self.add(code::LD_H_ABS, at);
        // The header of ERSPAN, and none without a number (draft-foschiano-erspan-03 §4.1).
        self.jump_if(code::JEQ_K, u32::from(ethertype::ERSPAN), (0, 6));
        self.add(code::LD_B_ABS, 0);
        self.jump_if(code::JSET_K, 0x10, (0, 3));
        self.move_by(8);
        self.add(code::JA, 1);
        self.jump_if(code::JEQ_K, u32::from(ethertype::BRIDGE), (0, 6));
        self.add(code::LD_H_IND, TYPE_AT);
        self.add(code::ST, SCRATCH);
        self.move_by(ETHERNET_BYTES);
        self.add(code::LD_MEM, SCRATCH);
    }
}

/// The sockets that share the packets of an interface: one for each part, in their order. Each time
/// that the interface comes back, they are a new group.
#[derive(Debug, Default)]
pub struct Group(AtomicU64);

/// The state of a group, in one number.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct GroupState {
    /// Number of the group.
    generation: u32,
    /// Its number in the kernel.
    id: u16,
    members: u16,
}

impl GroupState {
    const fn of(word: u64) -> Self {
        Self { generation: (word >> 32) as u32, id: (word >> 16) as u16, members: word as u16 }
    }

    const fn word(self) -> u64 {
        (self.generation as u64) << 32 | (self.id as u64) << 16 | self.members as u64
    }
}

impl Group {
    /// The number of the present group; 0 is none.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.state().generation
    }

    /// Whether this part is the next one that joins. The first one begins a new group.
    #[must_use]
    pub fn has_place_for(&self, part: usize) -> bool {
        part == 0 || usize::from(self.state().members) == part
    }

    fn state(&self) -> GroupState {
        GroupState::of(self.0.load(Ordering::Acquire))
    }

    /// The kernel's number of the group that a part joins; `None` for the first part.
    pub(crate) fn id_for(&self, part: usize) -> Option<u16> {
        (part > 0).then(|| self.state().id)
    }

    /// A part has joined the group with this number in the kernel. Only the next one does, so
    /// nobody else writes meanwhile.
    pub(crate) fn add(&self, part: usize, id: u16) {
        let GroupState { generation, members, .. } = self.state();
        let state = if part == 0 {
            GroupState { generation: generation.wrapping_add(1).max(1), id, members: 1 }
        } else {
            GroupState { generation, id, members: members + 1 }
        };
        self.0.store(state.word(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use panoptes_decoders::packet::mirror::{MirrorContent, decode_mirrored, open};
    use panoptes_decoders::packet::program::BpfProgram;
    use panoptes_decoders::packet::{Network, Tunnels};
    use proptest::prelude::*;

    use super::*;

    /// A frame with tags and the header of IP.
    fn frame(source: u128, destination: u128, is_v6: bool, tags: &[u16]) -> Vec<u8> {
        let mut frame = vec![2; 12];
        for tag in tags {
            frame.extend(tag.to_be_bytes());
            frame.extend([0, 7]);
        }
        if is_v6 {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, 17, 64]);
            frame.extend(source.to_be_bytes());
            frame.extend(destination.to_be_bytes());
        } else {
            frame.extend([8, 0, 0x45, 0, 0, 28, 0, 1, 0, 0, 64, 17, 0, 0]);
            frame.extend((source as u32).to_be_bytes());
            frame.extend((destination as u32).to_be_bytes());
        }
        frame.extend([0, 9, 0, 9, 0, 8, 0, 0]);
        frame
    }

    /// Headers before a frame, in datagrams that all programs open.
    const HEADERS: &[(Mirror, &[u8])] = &[
        (Mirror::Vxlan, &[8, 0, 0, 0, 0, 0, 7, 0]),
        (Mirror::Geneve, &[0, 0, 0x65, 0x58, 0, 0, 7, 0]),
        (Mirror::Geneve, &[2, 0, 0x65, 0x58, 0, 0, 7, 0, 1, 2, 3, 1, 0, 0, 0, 0]),
        (Mirror::Gre, &[0, 0, 0x65, 0x58]),
        (Mirror::Gre, &[0x20, 0, 0x65, 0x58, 0, 0, 0, 7]),
        (Mirror::Gre, &[0, 0, 0x88, 0xbe]),
        (Mirror::Gre, &[0x10, 0, 0x88, 0xbe, 0, 0, 0, 1, 0x10, 0, 0, 0, 0, 0, 0, 0]),
        (Mirror::Tzsp, &[1, 0, 0, 1, 1]),
    ];

    /// The part that a program chooses for a datagram.
    fn chosen(division: &Division, mirror: Mirror, payload: &[u8]) -> usize {
        let program = BpfProgram::new(division.of_port(mirror)).expect("a valid program");
        program.run(payload, payload.len() as u32) as usize
    }

    /// The part of the packet in a datagram, by the decoders.
    fn of_packet(division: &Division, mirror: Mirror, payload: &[u8]) -> usize {
        let MirrorContent::Packet(mirrored) = open(mirror, payload, payload.len() as u32) else {
            panic!("a packet")
        };
        let packet = decode_mirrored(&mirrored, Tunnels::Discover);
        let Network::Ip(ip) = packet.network else { panic!("IP") };
        division.part_of(ip.source, ip.destination)
    }

    proptest! {
        #[test]
        fn programs_choose_what_the_decoders_find(
            parts in 1..=PARTS_MAX,
            key: u64,
            ends: (u128, u128),
            is_v6: bool,
            tags in prop::collection::vec(prop::sample::select(&TAGS), 0..3),
        ) {
            let division = Division::new(parts, key);
            // Neither end may be an address that means IPv4 in the other form.
            let frame = frame(ends.0, ends.1, is_v6, &tags);
            for (mirror, header) in HEADERS {
                let payload = [header, &frame[..]].concat();
                let expected = of_packet(&division, *mirror, &payload);
                prop_assert_eq!(chosen(&division, *mirror, &payload), expected, "{:?}", mirror);
            }
        }

        #[test]
        fn both_directions_have_the_same_part(
            parts in 1..=PARTS_MAX,
            key: u64,
            ends: (u128, u128),
        ) {
            let division = Division::new(parts, key);
            let part = division.part_of(ends.0, ends.1);
            prop_assert!(part < parts);
            prop_assert_eq!(division.part_of(ends.1, ends.0), part);
        }

        /// Whatever strangers send, a program gives a part.
        #[test]
        fn each_datagram_has_a_part(
            parts in 1..=PARTS_MAX,
            payload in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let division = Division::new(parts, 7);
            for mirror in Mirror::ALL {
                prop_assert!(chosen(&division, mirror, &payload) < parts);
            }
        }
    }

    #[test]
    fn neighbouring_addresses_have_all_parts_alike() {
        for key in 0..16_u64 {
            let division = Division::new(4, key.wrapping_mul(0x5851_f42d_4c95_7f2d));
            let mut counts = [0; 4];
            for (client, server) in (0..64).flat_map(|client| (0..64).map(move |s| (client, s))) {
                counts[division.part_of(0x0a00_0000 + client, 0x0a01_0000 + server)] += 1;
            }
            // Each part has a quarter of 4096 pairs but for chance.
            assert!(counts.iter().all(|count| (800..1250).contains(count)), "{key} {counts:?}");
        }
    }

    #[test]
    fn parts_join_in_their_order() {
        let group = Group::default();
        assert!(group.has_place_for(0) && !group.has_place_for(1));
        group.add(0, 77);
        assert_eq!((group.generation(), group.id_for(0), group.id_for(1)), (1, None, Some(77)));
        assert!(group.has_place_for(1) && !group.has_place_for(2));
        group.add(1, 77);
        assert!(group.has_place_for(2) && !group.has_place_for(1));
        // The interface has come back.
        group.add(0, 78);
        assert_eq!((group.generation(), group.id_for(1)), (2, Some(78)));
        assert!(group.has_place_for(1) && !group.has_place_for(2));
    }
}
