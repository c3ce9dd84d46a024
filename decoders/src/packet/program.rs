//! Classic BPF programs, which libpcap makes of filter expressions: McCanne and Jacobson, "The BSD
//! Packet Filter" (USENIX 1993), and `Documentation/networking/filter.rst` of Linux.
//!
//! A program only jumps forwards, so a run takes at most as many steps as the program has.

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

/// Parts of [`Instruction::code`].
mod code {
    pub(super) const LD: u16 = 0;
    pub(super) const LDX: u16 = 1;
    pub(super) const ST: u16 = 2;
    pub(super) const STX: u16 = 3;
    pub(super) const ALU: u16 = 4;
    pub(super) const JMP: u16 = 5;
    pub(super) const RET: u16 = 6;
    /// The operand of arithmetic and of conditions is X, and not the constant.
    pub(super) const X: u16 = 8;
    pub(super) const TAX: u16 = 0;
    /// A result in A, and not the constant.
    pub(super) const A: u16 = 0x10;
}

/// Number of words of scratch memory (`BPF_MEMWORDS`).
const WORDS: usize = 16;

/// Runs a program over a packet and gives the number of bytes to keep: 0 rejects the packet.
///
/// A load behind the end of the capture, a division by zero and an instruction that does not exist
/// reject it, as in the kernel.
#[inline]
pub fn run(program: &[Instruction], packet: &[u8], wire_length: u32) -> u32 {
    execute(program, packet, wire_length).unwrap_or(0)
}

fn execute(program: &[Instruction], packet: &[u8], wire_length: u32) -> Option<u32> {
    let mut machine = Machine { a: 0, x: 0, memory: [0; WORDS], packet, wire_length };
    let mut at = 0;
    // Each turn goes forwards.
    loop {
        let instruction = program.get(at)?;
        at += 1;
        let (code, constant) = (instruction.code, instruction.constant);
        let operand = if code & code::X == 0 { constant } else { machine.x };
        match code & 7 {
            code::LD => machine.a = machine.load(code, constant)?,
            code::LDX => machine.x = machine.load_index(code, constant)?,
            code::ST => *machine.memory.get_mut(constant as usize)? = machine.a,
            code::STX => *machine.memory.get_mut(constant as usize)? = machine.x,
            code::ALU => machine.a = machine.calculate(code, operand)?,
            code::JMP if code & 0xf0 == 0 => at = at.checked_add(constant as usize)?,
            code::JMP => {
                let holds = machine.compare(code, operand)?;
                let jump = if holds { instruction.jump_true } else { instruction.jump_false };
                at += usize::from(jump);
            }
            code::RET => {
                return Some(match code & 0x18 {
                    code::A => machine.a,
                    code::X => machine.x,
                    _ => constant,
                });
            }
            _ if code & 0xf8 == code::TAX => machine.x = machine.a,
            _ => machine.a = machine.x,
        }
    }
}

struct Machine<'a> {
    a: u32,
    x: u32,
    memory: [u32; WORDS],
    packet: &'a [u8],
    wire_length: u32,
}

impl Machine<'_> {
    /// A load into A: its mode is in the upper bits, its width in two others.
    fn load(&self, code: u16, constant: u32) -> Option<u32> {
        let at = match code & 0xe0 {
            0x00 => return Some(constant),
            0x20 => constant,
            0x40 => constant.checked_add(self.x)?,
            0x60 => return self.memory.get(constant as usize).copied(),
            0x80 => return Some(self.wire_length),
            _ => return None,
        };
        let bytes = self.packet.get(at as usize..)?;
        Some(match code & 0x18 {
            0x00 => u32::from_be_bytes(*bytes.first_chunk()?),
            0x08 => u32::from(u16::from_be_bytes(*bytes.first_chunk()?)),
            0x10 => u32::from(*bytes.first()?),
            _ => return None,
        })
    }

    /// A load into X. One mode computes the length of an IPv4 header.
    fn load_index(&self, code: u16, constant: u32) -> Option<u32> {
        match code & 0xe0 {
            0x00 => Some(constant),
            0x60 => self.memory.get(constant as usize).copied(),
            0x80 => Some(self.wire_length),
            0xa0 => Some(u32::from(self.packet.get(constant as usize)? & 15) * 4),
            _ => None,
        }
    }

    fn calculate(&self, code: u16, operand: u32) -> Option<u32> {
        let a = self.a;
        Some(match code & 0xf0 {
            0x00 => a.wrapping_add(operand),
            0x10 => a.wrapping_sub(operand),
            0x20 => a.wrapping_mul(operand),
            0x30 => a.checked_div(operand)?,
            0x40 => a | operand,
            0x50 => a & operand,
            0x60 => a.checked_shl(operand).unwrap_or(0),
            0x70 => a.checked_shr(operand).unwrap_or(0),
            0x80 => a.wrapping_neg(),
            0x90 => a.checked_rem(operand)?,
            0xa0 => a ^ operand,
            _ => return None,
        })
    }

    fn compare(&self, code: u16, operand: u32) -> Option<bool> {
        Some(match code & 0xf0 {
            0x10 => self.a == operand,
            0x20 => self.a > operand,
            0x30 => self.a >= operand,
            0x40 => self.a & operand != 0,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn instruction(code: u16, jumps: (u8, u8), constant: u32) -> Instruction {
        Instruction { code, jump_true: jumps.0, jump_false: jumps.1, constant }
    }

    /// `tcpdump -dd -y EN10MB 'tcp dst port 80'` for IPv4, without the branch of IPv6.
    const PORT_80: [Instruction; 10] = [
        instruction(0x28, (0, 0), 12),
        instruction(0x15, (0, 7), 0x800),
        instruction(0x30, (0, 0), 23),
        instruction(0x15, (0, 5), 6),
        instruction(0x28, (0, 0), 20),
        instruction(0x45, (3, 0), 0x1fff),
        instruction(0xb1, (0, 0), 14),
        instruction(0x48, (0, 0), 16),
        instruction(0x15, (1, 0), 80),
        instruction(0x06, (0, 0), 0),
    ];

    #[test]
    fn a_filter_of_libpcap_keeps_what_it_describes() {
        let mut program = PORT_80.to_vec();
        program.push(instruction(0x06, (0, 0), 262_144));
        let mut packet = [0_u8; 60];
        packet[12] = 8;
        packet[14] = 0x45;
        packet[23] = 6;
        packet[37] = 80;
        assert_eq!(run(&program, &packet, 60), 262_144);
        packet[37] = 81;
        assert_eq!(run(&program, &packet, 60), 0);
        packet[37] = 80;
        packet[14] = 0x46;
        assert_eq!(run(&program, &packet, 60), 0, "the port is behind the options");
        packet[41] = 80;
        assert_eq!(run(&program, &packet, 60), 262_144);
        assert_eq!(run(&program, &packet[..41], 60), 0, "the port was not captured");
    }

    #[test]
    fn arithmetic_is_that_of_the_kernel() {
        for (code, operand, expected) in [
            (0x04, 3, 13),
            (0x14, 11, u32::MAX),
            (0x24, 3, 30),
            (0x34, 3, 3),
            (0x34, 0, 0),
            (0x44, 5, 15),
            (0x54, 6, 2),
            (0x64, 1, 20),
            (0x64, 32, 0),
            (0x74, 1, 5),
            (0x84, 0, 10_u32.wrapping_neg()),
            (0x94, 4, 2),
            (0xa4, 3, 9),
        ] {
            let program = [
                instruction(0x00, (0, 0), 10),
                instruction(code, (0, 0), operand),
                instruction(0x16, (0, 0), 0),
            ];
            assert_eq!(run(&program, &[], 0), expected, "{code:#x} {operand}");
        }
    }

    #[test]
    fn broken_programs_reject_and_end() {
        for program in [
            &[][..],
            &[instruction(0x05, (0, 0), u32::MAX)],
            &[instruction(0x60, (0, 0), 16), instruction(0x16, (0, 0), 0)],
            &[instruction(0x15, (255, 255), 0)],
            &[instruction(0xff, (0, 0), 0)],
        ] {
            assert_eq!(run(program, &[1, 2, 3], 3), 0);
        }
    }
}
