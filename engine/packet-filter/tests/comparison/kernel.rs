//! Programs run here as in the kernel: a socket with the program receives what it keeps.
//!
//! A program decides about datagrams of a Unix socket, too, and the kernel cuts each to the length
//! that the program returns (`sk_filter_trim_cap` in `net/core/filter.c`).
#![allow(unsafe_code, reason = "SO_ATTACH_FILTER")]

use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixDatagram;

use panoptes_decoders::packet::program::{BpfProgram, Instruction, code};
use panoptes_packet_filter::{FilterOptions, PacketFilter};

use crate::captures::{ETHERNET, RAW, ethernet, on};
use crate::expressions::EXPRESSIONS;

/// A pair of sockets; the second one has a program.
struct Kernel {
    sender: UnixDatagram,
    receiver: UnixDatagram,
}

impl Kernel {
    fn new() -> Self {
        let (sender, receiver) = UnixDatagram::pair().expect("a pair of sockets");
        receiver.set_nonblocking(true).expect("a socket can be made non-blocking");
        Self { sender, receiver }
    }

    /// Replaces the program.
    fn attach(&self, program: &[Instruction]) -> io::Result<()> {
        let copy = |one: &Instruction| libc::sock_filter {
            code: one.code,
            jt: one.jump_true,
            jf: one.jump_false,
            k: one.constant,
        };
        let mut filters: Vec<_> = program.iter().map(copy).collect();
        let length = filters.len() as u16;
        let program = libc::sock_fprog { len: length, filter: filters.as_mut_ptr() };
        // SAFETY: the socket is open, and the option's value is a program with a pointer to as many
        // instructions as it states. The kernel copies them.
        let status = unsafe {
            libc::setsockopt(
                self.receiver.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                (&raw const program).cast(),
                size_of_val(&program) as libc::socklen_t,
            )
        };
        if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// How many bytes of a packet the kernel keeps; `None` if it drops the packet.
    fn kept(&self, packet: &[u8]) -> Option<usize> {
        self.sender.send(packet).expect("a datagram can be sent");
        let mut received = [0; 4096];
        match self.receiver.recv(&mut received) {
            Ok(length) => Some(length),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => panic!("cannot receive: {error}"),
        }
    }
}

/// What a return value means for a packet.
fn cut(returned: u32, packet: &[u8]) -> Option<usize> {
    (returned > 0).then(|| packet.len().min(returned as usize))
}

/// What the kernel does in another way than libpcap: it shifts by the last five bits of X only, and
/// the sum of X and the constant of a load wraps.
const OTHERWISE: &[&str] = &[
    "1 << ip[8] = 0",
    "ip[2:2] >> (ip[8] - 48) = 0",
    "ip[0 - (ip[0] & 4)] = 0",
    "ip[0 - (ip[0] & 4):2] != 0",
    "ip[0 - (ip[0] & 4):4] != 0",
];

#[test]
fn filters_run_as_in_the_kernel() {
    let (kernel, frames) = (Kernel::new(), ethernet());
    let (mut refused, mut compared) = (Vec::new(), 0);
    for link in [ETHERNET, RAW] {
        let mut packets: Vec<_> = on(link, &frames).into_iter().step_by(7).collect();
        packets.retain(|packet| !packet.bytes.is_empty());
        for expression in EXPRESSIONS {
            // A snap length that cuts.
            let options = FilterOptions { snap_length: 33, ..FilterOptions::new(link) };
            let Ok(filter) = PacketFilter::compile(expression, &options) else { continue };
            if let Err(error) = kernel.attach(filter.instructions()) {
                assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{expression:?}");
                refused.push(*expression);
                continue;
            }
            let program = BpfProgram::new(filter.instructions()).expect("it is valid");
            if OTHERWISE.contains(expression) {
                continue;
            }
            for packet in &packets {
                let length = packet.bytes.len() as u32;
                let here = cut(program.run(&packet.bytes, length), &packet.bytes);
                assert_eq!(here, kernel.kept(&packet.bytes), "{expression:?}: {packet:?}");
                assert_eq!(here.is_some(), filter.matches(&packet.bytes, length));
                compared += 1;
            }
        }
    }
    assert!(compared > 50_000, "{compared} comparisons");
    // It refuses what jumps back, as the documentation of `instructions` says.
    refused.retain(|expression| !expression.contains("protochain"));
    // This offset means nothing to it.
    assert_eq!(refused, ["ether[4294967295] = 1"; 2]);
}

/// An xorshift generator.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// A number near something that matters.
    fn constant(&mut self) -> u32 {
        let base = [0, 1, 20, 33, 64, 256, 1 << 16, 1 << 31, u32::MAX][self.below(9)];
        base.wrapping_add(self.below(9) as u32).wrapping_sub(4)
    }
}

/// The codes with the same result here and there, but for those below. (A shift by X takes the last
/// five bits in the kernel.)
const CODES: &[u16] = &[
    code::LD_IMM,
    code::LD_W_ABS,
    code::LD_H_ABS,
    code::LD_B_ABS,
    code::LD_MEM,
    code::LD_LEN,
    code::LDX_IMM,
    code::LDX_LEN,
    code::LDX_MSH,
    code::ST,
    code::STX,
    code::ADD_K,
    code::ADD_X,
    code::SUB_K,
    code::SUB_X,
    code::MUL_K,
    code::MUL_X,
    code::DIV_K,
    code::DIV_X,
    code::OR_K,
    code::OR_X,
    code::AND_K,
    code::AND_X,
    code::LSH_K,
    code::RSH_K,
    code::NEG,
    code::MOD_K,
    code::MOD_X,
    code::XOR_K,
    code::XOR_X,
    code::JA,
    code::JEQ_K,
    code::JEQ_X,
    code::JGT_K,
    code::JGT_X,
    code::JGE_K,
    code::JGE_X,
    code::JSET_K,
    code::JSET_X,
    code::TXA,
    code::RET_K,
    code::RET_A,
];
/// Loads at X, only where X is small. (The kernel adds the constant with wrap-around.)
const WITH_SMALL_INDEX: &[u16] = &[code::LD_W_IND, code::LD_H_IND, code::LD_B_IND];
/// What makes X large.
const WITH_LARGE_INDEX: &[u16] = &[code::TAX, code::LDX_MEM];

/// A program that the kernel takes: all scratch memory is written first, and no load has an offset
/// that is special there (`SKF_LL_OFF`, the lowest one, and above).
fn program(random: &mut Random, is_index_small: bool) -> Vec<Instruction> {
    let of = |code, constant| Instruction { code, constant, ..Instruction::default() };
    let more = if is_index_small { WITH_SMALL_INDEX } else { WITH_LARGE_INDEX };
    let mut all: Vec<_> = (0..16).map(|at| of(code::ST, at)).collect();
    let body = 2 + random.below(30);
    for left in (1..=body).rev() {
        let number = random.below(CODES.len() + more.len());
        let code = CODES.get(number).copied().unwrap_or_else(|| more[number - CODES.len()]);
        let constant = match code {
            code::LD_MEM | code::LDX_MEM | code::ST | code::STX => random.below(16) as u32,
            code::LSH_K | code::RSH_K => random.below(32) as u32,
            code::DIV_K | code::MOD_K => random.constant().max(1),
            code::JA => random.below(left) as u32,
            code::LD_W_ABS | code::LD_H_ABS | code::LD_B_ABS | code::LDX_MSH => {
                random.below(70) as u32
            }
            code::LD_W_IND | code::LD_H_IND | code::LD_B_IND => random.below(40) as u32,
            code::LDX_IMM if is_index_small => random.below(60) as u32,
            _ => random.constant(),
        };
        let [jump_true, jump_false] = [0; 2].map(|_: u8| random.below(left) as u8);
        all.push(Instruction { code, jump_true, jump_false, constant });
    }
    all.push(of(code::RET_A, 0));
    all
}

#[test]
fn random_programs_run_as_in_the_kernel() {
    let (kernel, mut random) = (Kernel::new(), Random(0x9e37_79b9_7f4a_7c15));
    let (mut kept, mut dropped) = (0, 0);
    for number in 0..4000_u32 {
        let instructions = program(&mut random, number % 2 == 0);
        let program = BpfProgram::new(&instructions[..]).expect("the program is valid");
        kernel.attach(&instructions).expect("the kernel takes it");
        for _ in 0..5 {
            let length = 1 + random.below(80);
            let packet: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
            let here = cut(program.run(&packet, length as u32), &packet);
            let there = kernel.kept(&packet);
            assert_eq!(here, there, "{number}: {packet:?}: {instructions:#?}");
            if here.is_some() { kept += 1 } else { dropped += 1 }
        }
    }
    assert!(kept > 2000 && dropped > 2000, "{kept} kept, {dropped} dropped");
}
