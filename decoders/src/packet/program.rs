//! Classic BPF programs, which libpcap makes of filter expressions: McCanne and Jacobson, "The BSD
//! Packet Filter" (USENIX 1993), and `Documentation/networking/filter.rst` of Linux.
//!
//! [`BpfProgram::new`] checks a program once, as `bpf_check_classic` in `net/core/filter.c` of
//! Linux and `bpf_validate` of libpcap do. [`BpfProgram::run`] then does what `bpf_filter` of
//! libpcap does. The kernel gives the same results, with these exceptions:
//!
//! - It refuses more than 4096 instructions.
//! - It refuses jumps back, which libpcap makes for `protochain` only.
//! - It refuses reads of scratch memory that may not be written. Here that is 0.
//! - It takes the last five bits of a shift by X. Here, as in libpcap, 32 bits or more give 0.
//! - In a load at X, the sum of X and the constant wraps. Here, as in libpcap, it must not.
//! - Loads at negative offsets read what it knows of the packet. Here they are behind its end.

/// One instruction, as `struct bpf_insn` has it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Instruction {
    pub code: u16,
    /// How far a condition jumps that holds.
    pub jump_true: u8,
    /// How far a condition jumps that does not hold.
    pub jump_false: u8,
    pub constant: u32,
}

/// Each [`Instruction::code`] that the kernel and libpcap run. `A` is the accumulator, `X` the
/// index. The names are those of libpcap's classes, sizes, modes and operations.
pub mod code {
    pub const LD_IMM: u16 = 0x00;
    pub const LD_W_ABS: u16 = 0x20;
    pub const LD_H_ABS: u16 = 0x28;
    pub const LD_B_ABS: u16 = 0x30;
    pub const LD_W_IND: u16 = 0x40;
    pub const LD_H_IND: u16 = 0x48;
    pub const LD_B_IND: u16 = 0x50;
    pub const LD_MEM: u16 = 0x60;
    pub const LD_LEN: u16 = 0x80;
    pub const LDX_IMM: u16 = 0x01;
    pub const LDX_MEM: u16 = 0x61;
    pub const LDX_LEN: u16 = 0x81;
    /// Four times the lower half of a byte: the length of an IPv4 header.
    pub const LDX_MSH: u16 = 0xb1;
    pub const ST: u16 = 0x02;
    pub const STX: u16 = 0x03;
    pub const ADD_K: u16 = 0x04;
    pub const ADD_X: u16 = 0x0c;
    pub const SUB_K: u16 = 0x14;
    pub const SUB_X: u16 = 0x1c;
    pub const MUL_K: u16 = 0x24;
    pub const MUL_X: u16 = 0x2c;
    pub const DIV_K: u16 = 0x34;
    pub const DIV_X: u16 = 0x3c;
    pub const OR_K: u16 = 0x44;
    pub const OR_X: u16 = 0x4c;
    pub const AND_K: u16 = 0x54;
    pub const AND_X: u16 = 0x5c;
    pub const LSH_K: u16 = 0x64;
    pub const LSH_X: u16 = 0x6c;
    pub const RSH_K: u16 = 0x74;
    pub const RSH_X: u16 = 0x7c;
    pub const NEG: u16 = 0x84;
    pub const MOD_K: u16 = 0x94;
    pub const MOD_X: u16 = 0x9c;
    pub const XOR_K: u16 = 0xa4;
    pub const XOR_X: u16 = 0xac;
    pub const JA: u16 = 0x05;
    pub const JEQ_K: u16 = 0x15;
    pub const JEQ_X: u16 = 0x1d;
    pub const JGT_K: u16 = 0x25;
    pub const JGT_X: u16 = 0x2d;
    pub const JGE_K: u16 = 0x35;
    pub const JGE_X: u16 = 0x3d;
    pub const JSET_K: u16 = 0x45;
    pub const JSET_X: u16 = 0x4d;
    pub const RET_K: u16 = 0x06;
    pub const RET_A: u16 = 0x16;
    pub const TAX: u16 = 0x07;
    pub const TXA: u16 = 0x87;
}

/// Far more than people write. libpcap has no limit; the kernel's is 4096 (`BPF_MAXINSNS`).
const INSTRUCTIONS_MAX: usize = 1 << 20;
/// Number of words of scratch memory (`BPF_MEMWORDS`).
const SCRATCH_WORDS: usize = 16;

/// Why a program is refused. The index is that of the wrong instruction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BpfProgramError {
    /// It has no instruction, or more than a million.
    Length(usize),
    /// The code is not in [`code`].
    Code { index: usize },
    /// It jumps out of the program.
    Jump { index: usize },
    /// Scratch memory behind its end, a division by 0, or a shift by more than 31 bits.
    Constant { index: usize },
    /// The last instruction does not return.
    End,
}

impl core::fmt::Display for BpfProgramError {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Length(count) => {
                write!(out, "it has {count} instructions, not 1 to {INSTRUCTIONS_MAX}")
            }
            Self::Code { index } => write!(out, "instruction {index} has an unknown code"),
            Self::Jump { index } => write!(out, "instruction {index} jumps out of the program"),
            Self::Constant { index } => write!(out, "instruction {index} has a wrong constant"),
            Self::End => write!(out, "the last instruction does not return"),
        }
    }
}

impl core::error::Error for BpfProgramError {}

/// A program that can run: its codes, jumps and constants are valid, and each run ends.
#[derive(Clone, Debug)]
pub struct BpfProgram<I> {
    instructions: I,
}

impl<I: AsRef<[Instruction]>> BpfProgram<I> {
    /// Checks the instructions.
    pub fn new(instructions: I) -> Result<Self, BpfProgramError> {
        let all = instructions.as_ref();
        if all.is_empty() || all.len() > INSTRUCTIONS_MAX {
            return Err(BpfProgramError::Length(all.len()));
        }
        for (index, instruction) in all.iter().enumerate() {
            check(*instruction, index, all.len())?;
        }
        match all.last().map(|last| last.code) {
            Some(code::RET_K | code::RET_A) => Ok(Self { instructions }),
            _ => Err(BpfProgramError::End),
        }
    }

    /// The instructions, as a kernel takes them.
    pub fn instructions(&self) -> &[Instruction] {
        self.instructions.as_ref()
    }

    /// Runs the program over a packet and gives the number of bytes to keep: 0 rejects it.
    /// `wire_length` is the packet's length in bytes before the capture cut it.
    ///
    /// A load behind the end of the capture and a division by zero reject the packet.
    #[inline]
    pub fn run(&self, packet: &[u8], wire_length: u32) -> u32 {
        execute(self.instructions.as_ref(), packet, wire_length).unwrap_or(0)
    }
}

/// Checks one instruction of a program of `length` instructions.
fn check(instruction: Instruction, index: usize, length: usize) -> Result<(), BpfProgramError> {
    let constant = instruction.constant;
    let is_inside = |jump: u8| index + 1 + usize::from(jump) < length;
    let (is_valid, refusal) = match instruction.code {
        code::LD_MEM | code::LDX_MEM | code::ST | code::STX => {
            ((constant as usize) < SCRATCH_WORDS, BpfProgramError::Constant { index })
        }
        code::DIV_K | code::MOD_K => (constant != 0, BpfProgramError::Constant { index }),
        code::LSH_K | code::RSH_K => (constant < 32, BpfProgramError::Constant { index }),
        code::JA => {
            let target = jumped(index + 1, constant);
            (target.is_some_and(|target| target < length), BpfProgramError::Jump { index })
        }
        code::JEQ_K
        | code::JGT_K
        | code::JGE_K
        | code::JSET_K
        | code::JEQ_X
        | code::JGT_X
        | code::JGE_X
        | code::JSET_X => {
            let are_inside = is_inside(instruction.jump_true) && is_inside(instruction.jump_false);
            (are_inside, BpfProgramError::Jump { index })
        }
        other => (ALWAYS_VALID.contains(&other), BpfProgramError::Code { index }),
    };
    if is_valid { Ok(()) } else { Err(refusal) }
}

/// The codes that are valid with any constant.
const ALWAYS_VALID: [u16; 32] = [
    code::LD_IMM,
    code::LD_W_ABS,
    code::LD_H_ABS,
    code::LD_B_ABS,
    code::LD_W_IND,
    code::LD_H_IND,
    code::LD_B_IND,
    code::LD_LEN,
    code::LDX_IMM,
    code::LDX_LEN,
    code::LDX_MSH,
    code::ADD_K,
    code::ADD_X,
    code::SUB_K,
    code::SUB_X,
    code::MUL_K,
    code::MUL_X,
    code::DIV_X,
    code::MOD_X,
    code::OR_K,
    code::OR_X,
    code::AND_K,
    code::AND_X,
    code::XOR_K,
    code::XOR_X,
    code::LSH_X,
    code::RSH_X,
    code::NEG,
    code::TAX,
    code::TXA,
    code::RET_K,
    code::RET_A,
];

/// Where a jump without a condition goes: the constant has a sign, as in libpcap.
#[inline]
fn jumped(next: usize, constant: u32) -> Option<usize> {
    next.checked_add_signed(constant.cast_signed() as isize)
}

fn execute(program: &[Instruction], packet: &[u8], wire_length: u32) -> Option<u32> {
    let (mut a, mut x, mut scratch) = (0_u32, 0_u32, [0_u32; SCRATCH_WORDS]);
    // `protochain` jumps back at most twice for each header, which has at least eight bytes.
    let jumps_back_max = packet.len();
    let (mut at, mut jumps_back) = (0, 0);
    // Each turn goes forwards, but for jumps back, which are counted.
    loop {
        let instruction = program.get(at)?;
        let constant = instruction.constant;
        let jump = |holds: bool| {
            usize::from(if holds { instruction.jump_true } else { instruction.jump_false })
        };
        at += 1;
        match instruction.code {
            code::LD_W_ABS => a = word(packet, constant)?,
            code::LD_H_ABS => a = half(packet, constant)?,
            code::LD_B_ABS => a = byte(packet, constant)?,
            code::LD_W_IND => a = word(packet, constant.checked_add(x)?)?,
            code::LD_H_IND => a = half(packet, constant.checked_add(x)?)?,
            code::LD_B_IND => a = byte(packet, constant.checked_add(x)?)?,
            code::LD_IMM => a = constant,
            code::LD_MEM => a = *scratch.get(constant as usize)?,
            code::LD_LEN => a = wire_length,
            code::LDX_IMM => x = constant,
            code::LDX_MEM => x = *scratch.get(constant as usize)?,
            code::LDX_LEN => x = wire_length,
            code::LDX_MSH => x = (byte(packet, constant)? & 15) * 4,
            code::ST => *scratch.get_mut(constant as usize)? = a,
            code::STX => *scratch.get_mut(constant as usize)? = x,
            code::TAX => x = a,
            code::TXA => a = x,
            code::JEQ_K => at += jump(a == constant),
            code::JGT_K => at += jump(a > constant),
            code::JGE_K => at += jump(a >= constant),
            code::JSET_K => at += jump(a & constant != 0),
            code::JEQ_X => at += jump(a == x),
            code::JGT_X => at += jump(a > x),
            code::JGE_X => at += jump(a >= x),
            code::JSET_X => at += jump(a & x != 0),
            code::RET_K => return Some(constant),
            code::RET_A => return Some(a),
            code::JA => {
                let target = jumped(at, constant)?;
                if target < at {
                    jumps_back += 1;
                    if jumps_back > jumps_back_max {
                        return None;
                    }
                }
                at = target;
            }
            other => a = calculate(other, a, constant, x)?,
        }
    }
}

/// Arithmetic: what A becomes.
#[inline]
fn calculate(code: u16, a: u32, constant: u32, x: u32) -> Option<u32> {
    Some(match code {
        code::ADD_K => a.wrapping_add(constant),
        code::ADD_X => a.wrapping_add(x),
        code::SUB_K => a.wrapping_sub(constant),
        code::SUB_X => a.wrapping_sub(x),
        code::MUL_K => a.wrapping_mul(constant),
        code::MUL_X => a.wrapping_mul(x),
        code::DIV_K => a.checked_div(constant)?,
        code::DIV_X => a.checked_div(x)?,
        code::MOD_K => a.checked_rem(constant)?,
        code::MOD_X => a.checked_rem(x)?,
        code::OR_K => a | constant,
        code::OR_X => a | x,
        code::AND_K => a & constant,
        code::AND_X => a & x,
        code::XOR_K => a ^ constant,
        code::XOR_X => a ^ x,
        code::LSH_K => a.checked_shl(constant)?,
        code::LSH_X => a.checked_shl(x).unwrap_or(0),
        code::RSH_K => a.checked_shr(constant)?,
        code::RSH_X => a.checked_shr(x).unwrap_or(0),
        code::NEG => a.wrapping_neg(),
        _ => return None,
    })
}

#[inline]
fn word(packet: &[u8], at: u32) -> Option<u32> {
    Some(u32::from_be_bytes(*packet.get(at as usize..)?.first_chunk()?))
}

#[inline]
fn half(packet: &[u8], at: u32) -> Option<u32> {
    Some(u32::from(u16::from_be_bytes(*packet.get(at as usize..)?.first_chunk()?)))
}

#[inline]
fn byte(packet: &[u8], at: u32) -> Option<u32> {
    packet.get(at as usize).map(|&byte| u32::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn instruction(code: u16, jumps: (u8, u8), constant: u32) -> Instruction {
        Instruction { code, jump_true: jumps.0, jump_false: jumps.1, constant }
    }

    fn run(program: &[Instruction], packet: &[u8], wire_length: u32) -> u32 {
        BpfProgram::new(program).expect("the program is valid").run(packet, wire_length)
    }

    /// `tcpdump -dd -y EN10MB 'tcp dst port 80'` for IPv4, without the branch of IPv6.
    const PORT_80: [Instruction; 11] = [
        instruction(0x28, (0, 0), 12),
        instruction(0x15, (0, 8), 0x800),
        instruction(0x30, (0, 0), 23),
        instruction(0x15, (0, 6), 6),
        instruction(0x28, (0, 0), 20),
        instruction(0x45, (4, 0), 0x1fff),
        instruction(0xb1, (0, 0), 14),
        instruction(0x48, (0, 0), 16),
        instruction(0x15, (0, 1), 80),
        instruction(0x06, (0, 0), 262_144),
        instruction(0x06, (0, 0), 0),
    ];

    #[test]
    fn a_filter_of_libpcap_keeps_what_it_describes() {
        let mut packet = [0_u8; 60];
        packet[12] = 8;
        packet[14] = 0x45;
        packet[23] = 6;
        packet[37] = 80;
        assert_eq!(run(&PORT_80, &packet, 60), 262_144);
        packet[37] = 81;
        assert_eq!(run(&PORT_80, &packet, 60), 0);
        packet[37] = 80;
        packet[14] = 0x46;
        assert_eq!(run(&PORT_80, &packet, 60), 0, "the port is behind the options");
        packet[41] = 80;
        assert_eq!(run(&PORT_80, &packet, 60), 262_144);
        assert_eq!(run(&PORT_80, &packet[..41], 60), 0, "the port was not captured");
    }

    #[test]
    fn arithmetic_is_that_of_libpcap() {
        for (code, operand, expected) in [
            (0x04, 3, 13),
            (0x14, 11, u32::MAX),
            (0x24, 3, 30),
            (0x34, 3, 3),
            (0x44, 5, 15),
            (0x54, 6, 2),
            (0x64, 1, 20),
            (0x74, 1, 5),
            (0x84, 0, 10_u32.wrapping_neg()),
            (0x94, 4, 2),
            (0xa4, 3, 9),
        ] {
            for is_index in [false, true] {
                let (index, constant) = if is_index { (8, 99) } else { (0, operand) };
                let index = if code == 0x84 { 0 } else { index };
                let program = [
                    instruction(0x01, (0, 0), operand),
                    instruction(0x00, (0, 0), 10),
                    instruction(code | index, (0, 0), constant),
                    instruction(0x16, (0, 0), 0),
                ];
                assert_eq!(run(&program, &[], 0), expected, "{code:#x} {operand} {is_index}");
            }
        }
    }

    #[test]
    fn zero_as_a_divisor_rejects_and_long_shifts_give_zero() {
        for (code, index, expected) in
            [(0x3c, 0, 0), (0x9c, 0, 0), (0x6c, 31, 1 << 31), (0x6c, 32, 0), (0x7c, 32, 0)]
        {
            let program = [
                instruction(0x01, (0, 0), index),
                instruction(0x00, (0, 0), 1),
                instruction(code, (0, 0), 0),
                instruction(0x16, (0, 0), 0),
            ];
            assert_eq!(run(&program, &[], 0), expected, "{code:#x} {index}");
        }
    }

    #[test]
    fn offsets_do_not_wrap() {
        for code in [0x40, 0x48, 0x50] {
            let program = [
                instruction(0x01, (0, 0), 8),
                instruction(code, (0, 0), u32::MAX - 7),
                instruction(0x06, (0, 0), 1),
            ];
            assert_eq!(run(&program, &[1; 60], 60), 0, "{code:#x}");
        }
    }

    #[test]
    fn broken_programs_are_refused() {
        let end = instruction(0x06, (0, 0), 1);
        let long = std::vec![end; INSTRUCTIONS_MAX + 1];
        for (program, refusal) in [
            (&[][..], BpfProgramError::Length(0)),
            (&long, BpfProgramError::Length(1_048_577)),
            (&[instruction(0x05, (0, 0), 1), end], BpfProgramError::Jump { index: 0 }),
            (
                &[end, instruction(0x05, (0, 0), -3_i32 as u32), end],
                BpfProgramError::Jump { index: 1 },
            ),
            (&[instruction(0x15, (0, 1), 0), end], BpfProgramError::Jump { index: 0 }),
            (&[instruction(0x15, (1, 0), 0), end], BpfProgramError::Jump { index: 0 }),
            (&[instruction(0x60, (0, 0), 16), end], BpfProgramError::Constant { index: 0 }),
            (&[instruction(0x34, (0, 0), 0), end], BpfProgramError::Constant { index: 0 }),
            (&[instruction(0x64, (0, 0), 32), end], BpfProgramError::Constant { index: 0 }),
            (&[end, instruction(0xff, (0, 0), 0), end], BpfProgramError::Code { index: 1 }),
            (&[instruction(0x0e, (0, 0), 0)], BpfProgramError::Code { index: 0 }),
            (&[instruction(0x00, (0, 0), 0)], BpfProgramError::End),
        ] {
            let refused = BpfProgram::new(program).expect_err("the program is broken");
            assert_eq!(refused, refusal);
            assert!(!std::format!("{refused}").is_empty());
        }
    }

    #[test]
    fn a_loop_without_end_rejects() {
        let program = [
            instruction(0x00, (0, 0), 1),
            instruction(0x05, (0, 0), -2_i32 as u32),
            instruction(0x06, (0, 0), 1),
        ];
        assert_eq!(run(&program, &[1; 60], 60), 0);
    }
}
