//! Instructions of x86-64: how long each is, and where direct branches lead.
//!
//! For code that compilers and assemblers write, not for code that wants to mislead: it decodes
//! lengths, and checks no operands (Intel SDM, volume 2, chapter 2 and appendix A).

use crate::address::KernelVa;

/// Maximum length of an instruction in bytes.
pub const INSTRUCTION_BYTES_MAX: usize = 15;

/// Where an instruction leads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Flow {
    /// To the next instruction, as far as its bytes show.
    Next,
    /// A call of a fixed address.
    Call(KernelVa),
    /// A jump to a fixed address.
    Jump(KernelVa),
    /// A jump to a fixed address, or to the next instruction.
    Conditional(KernelVa),
    /// A call or jump to the address that is at this address.
    Through(KernelVa),
    /// An address in a register, where an indirect branch may lead.
    Address(KernelVa),
    /// A return, or a jump to an unknown address.
    End,
}

/// One instruction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Instruction {
    /// In bytes.
    pub length: usize,
    pub flow: Flow,
}

/// Prefixes that change lengths.
#[derive(Clone, Copy, Debug, Default)]
struct Prefixes {
    /// Operands of 16 bits (66).
    is_short: bool,
    /// Addresses of 32 bits (67).
    is_near: bool,
    /// Operands of 64 bits (REX.W).
    is_wide: bool,
}

impl Prefixes {
    /// Bytes of an immediate operand of the instruction's operand size, of at most 4 bytes.
    const fn immediate(self) -> usize {
        if self.is_short { 2 } else { 4 }
    }
}

/// What follows the bytes of an opcode.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Operands {
    has_modrm: bool,
    /// Bytes of an immediate operand.
    immediate: usize,
}

#[expect(clippy::unnecessary_wraps, reason = "it stands beside what may be none")]
const fn plain(immediate: usize) -> Option<Operands> {
    Some(Operands { has_modrm: false, immediate })
}

#[expect(clippy::unnecessary_wraps, reason = "it stands beside what may be none")]
const fn modrm(immediate: usize) -> Option<Operands> {
    Some(Operands { has_modrm: true, immediate })
}

/// Decodes the instruction at the start of `code`, which is at the address `at`. `None` if the
/// bytes are no instruction of 64-bit mode, or if they end before it does.
pub fn decode(code: &[u8], at: KernelVa) -> Option<Instruction> {
    let (prefixes, start) = prefixes(code)?;
    let opcode = *code.get(start)?;
    let (operands, end) = match opcode {
        0x0f => two_bytes(code, start + 1)?,
        0xc4 | 0xc5 | 0x62 => vector(code, start)?,
        _ => (one_byte(opcode, prefixes, code.get(start + 1).copied())?, start + 1),
    };
    let address_bytes = if operands.has_modrm { modrm_bytes(code.get(end..)?)? } else { 0 };
    let length = end + address_bytes + operands.immediate;
    let bytes = code.get(..length)?;
    let flow = flow(bytes, start, at)?;
    (length <= INSTRUCTION_BYTES_MAX).then_some(Instruction { length, flow })
}

/// The prefixes, and the place of the opcode behind them.
fn prefixes(code: &[u8]) -> Option<(Prefixes, usize)> {
    let mut prefixes = Prefixes::default();
    for (index, &byte) in code.iter().take(INSTRUCTION_BYTES_MAX).enumerate() {
        match byte {
            0x66 => prefixes.is_short = true,
            0x67 => prefixes.is_near = true,
            0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65 | 0xf0 | 0xf2 | 0xf3 => (),
            // It is the last prefix.
            0x40..=0x4f => {
                prefixes.is_wide = byte & 8 != 0;
                return Some((prefixes, index + 1));
            }
            _ => return Some((prefixes, index)),
        }
    }
    None
}

fn one_byte(opcode: u8, prefixes: Prefixes, next: Option<u8>) -> Option<Operands> {
    let immediate = prefixes.immediate();
    match opcode {
        0x00..=0x3f => match opcode & 7 {
            0..=3 => modrm(0),
            4 => plain(1),
            5 => plain(immediate),
            _ => None,
        },
        0x60..=0x62 | 0x82 | 0x9a | 0xce | 0xd4..=0xd6 | 0xea => None,
        0x63 | 0x84..=0x8f | 0xd0..=0xd3 | 0xd8..=0xdf | 0xfe | 0xff => modrm(0),
        0x68 | 0xa9 => plain(immediate),
        0x6a | 0x70..=0x7f | 0xa8 | 0xb0..=0xb7 | 0xcd | 0xe0..=0xe7 | 0xeb => plain(1),
        0x69 | 0x81 | 0xc7 => modrm(immediate),
        0x6b | 0x80 | 0x83 | 0xc0 | 0xc1 | 0xc6 => modrm(1),
        0xa0..=0xa3 => plain(if prefixes.is_near { 4 } else { 8 }),
        0xb8..=0xbf => plain(if prefixes.is_wide { 8 } else { immediate }),
        0xc2 | 0xca => plain(2),
        0xc8 => plain(3),
        0xe8 | 0xe9 => plain(4),
        // Only the first two of these groups have an immediate operand.
        0xf6 | 0xf7 => {
            let is_test = next? & 0b11_0000 == 0;
            let bytes = if opcode == 0xf6 { 1 } else { immediate };
            modrm(if is_test { bytes } else { 0 })
        }
        _ => plain(0),
    }
}

/// An opcode behind 0F, and the place behind it.
fn two_bytes(code: &[u8], start: usize) -> Option<(Operands, usize)> {
    let opcode = *code.get(start)?;
    let end = start + 1;
    let operands = match opcode {
        0x38 => return Some((modrm(0)?, end + 1)),
        0x3a => return Some((modrm(1)?, end + 1)),
        0x04 | 0x0a | 0x0c | 0x24..=0x27 | 0x36 | 0x39 | 0x3b..=0x3f => None,
        0x05..=0x09
        | 0x0b
        | 0x0e
        | 0x30..=0x37
        | 0x77
        | 0xa0..=0xa2
        | 0xa8..=0xaa
        | 0xc8..=0xcf => plain(0),
        0x80..=0x8f => plain(4),
        0x0f | 0x70..=0x73 | 0xa4 | 0xac | 0xba | 0xc2 | 0xc4..=0xc6 => modrm(1),
        _ => modrm(0),
    };
    Some((operands?, end))
}

/// An opcode behind a VEX or EVEX prefix, and the place behind it.
fn vector(code: &[u8], start: usize) -> Option<(Operands, usize)> {
    let second = *code.get(start + 1)?;
    let (map, place) = match code.get(start)? {
        0xc5 => (1, start + 2),
        0xc4 => (second & 0x1f, start + 3),
        _ => (second & 7, start + 4),
    };
    let opcode = *code.get(place)?;
    let operands = match (map, opcode) {
        (1, 0x77) => plain(0),
        (1, 0x70..=0x73 | 0xc2 | 0xc4..=0xc6) | (3, _) => modrm(1),
        _ => modrm(0),
    };
    Some((operands?, place + 1))
}

/// Bytes of a ModR/M byte with what follows it: the SIB byte and a displacement.
fn modrm_bytes(code: &[u8]) -> Option<usize> {
    let byte = *code.first()?;
    let (mode, register) = (byte >> 6, byte & 7);
    if mode == 3 {
        return Some(1);
    }
    let sib = if register == 4 { Some(*code.get(1)?) } else { None };
    let displacement = match mode {
        1 => 1,
        2 => 4,
        _ if register == 5 || sib.is_some_and(|sib| sib & 7 == 5) => 4,
        _ => 0,
    };
    Some(1 + usize::from(sib.is_some()) + displacement)
}

/// Where a whole instruction leads, whose opcode is at `start`.
fn flow(bytes: &[u8], start: usize, at: KernelVa) -> Option<Flow> {
    let next = at.plus(bytes.len() as u64);
    // Relative to the next instruction, in the last bytes of this one.
    let near = || bytes.last().map(|&offset| next.plus(sign_extended(offset.cast_signed().into())));
    let far = || {
        let offset = i32::from_le_bytes(*bytes.last_chunk()?);
        Some(next.plus(sign_extended(offset.into())))
    };
    Some(match bytes.get(start..)? {
        [0xe8, ..] => Flow::Call(far()?),
        [0xe9, ..] => Flow::Jump(far()?),
        [0xeb, ..] => Flow::Jump(near()?),
        [0x70..=0x7f | 0xe0..=0xe3, ..] => Flow::Conditional(near()?),
        [0x0f, 0x80..=0x8f, ..] => Flow::Conditional(far()?),
        [0xff, 0x15 | 0x25, ..] => Flow::Through(far()?),
        [0xb8..=0xbf, address @ ..] if address.len() == 8 => {
            Flow::Address(KernelVa(u64::from_le_bytes(*address.first_chunk()?)))
        }
        // A jump through a register or through memory.
        [0xff, operand, ..] if operand >> 3 & 6 == 4 => Flow::End,
        [0xc2 | 0xc3 | 0xca | 0xcb | 0xcf, ..] | [0x0f, 0x07 | 0x35, ..] => Flow::End,
        _ => Flow::Next,
    })
}

const fn sign_extended(offset: i64) -> u64 {
    offset.cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: KernelVa = KernelVa(0xffff_ffff_8100_0000);

    fn length(code: &[u8]) -> Option<usize> {
        // What follows it is of no interest.
        let mut bytes = std::vec::Vec::from(code);
        bytes.extend_from_slice(&[0x90; 16]);
        decode(&bytes, AT).map(|it| it.length)
    }

    #[test]
    fn instructions_have_their_lengths() {
        let whole: &[&[u8]] = &[
            &[0x90],
            &[0x55],
            &[0xf3, 0x0f, 0x1e, 0xfa],
            &[0x0f, 0x1f, 0x44, 0x00, 0x00],
            &[0x66, 0x0f, 0x1f, 0x84, 0x00, 0, 0, 0, 0],
            &[0x66, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0x00, 0, 0, 0, 0],
            &[0x48, 0x89, 0xe5],
            &[0x48, 0x8b, 0x04, 0xc5, 1, 2, 3, 4],
            &[0x48, 0x8b, 0x44, 0x24, 8],
            &[0x48, 0x8b, 0x05, 1, 2, 3, 4],
            &[0x65, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0],
            &[0x48, 0x81, 0xec, 1, 2, 3, 4],
            &[0x66, 0x81, 0xfb, 1, 2],
            &[0x83, 0xf8, 1],
            &[0xf6, 0x47, 8, 1],
            &[0xf6, 0x57, 8],
            &[0xf7, 0xc7, 1, 2, 3, 4],
            &[0xf7, 0xdf],
            &[0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8],
            &[0xb8, 1, 2, 3, 4],
            &[0x66, 0xb8, 1, 2],
            &[0x48, 0xa1, 1, 2, 3, 4, 5, 6, 7, 8],
            &[0x0f, 0xba, 0xe0, 3],
            &[0x0f, 0xb9, 0xcc],
            &[0x66, 0x0f, 0x38, 0xf6, 0xc1],
            &[0x66, 0x0f, 0x3a, 0x0f, 0xc1, 8],
            &[0xc5, 0xf8, 0x77],
            &[0xc4, 0xe3, 0x7d, 0x39, 0xc1, 1],
            &[0x62, 0xf1, 0x7c, 0x48, 0x28, 0xc1],
            &[0x0f, 0x01, 0xf8],
            &[0x0f, 0x07],
            &[0x6b, 0xc0, 9],
            &[0x69, 0xc0, 1, 2, 3, 4],
            &[0xc8, 1, 2, 3],
        ];
        for &code in whole {
            assert_eq!(length(code), Some(code.len()), "{code:02x?}");
            assert_eq!(decode(&code[..code.len() - 1], AT), None, "{code:02x?}");
        }
    }

    #[test]
    fn what_is_no_instruction_has_no_length() {
        for code in [&[0x06][..], &[0x1f], &[0x9a], &[0x0f, 0x0a], &[0x66; 15]] {
            assert_eq!(length(code), None, "{code:02x?}");
        }
        assert_eq!(decode(&[], AT), None);
    }

    #[test]
    fn branches_lead_where_their_offsets_say() {
        let to = |offset: i64| KernelVa(AT.0.wrapping_add_signed(offset));
        let cases: &[(&[u8], Flow)] = &[
            (&[0xe8, 0xfb, 0xff, 0xff, 0xff], Flow::Call(to(0))),
            (&[0xe9, 0, 1, 0, 0], Flow::Jump(to(0x105))),
            (&[0xeb, 0xfe], Flow::Jump(to(0))),
            (&[0x74, 0x10], Flow::Conditional(to(0x12))),
            (&[0x2e, 0x74, 0x10], Flow::Conditional(to(0x13))),
            (&[0x0f, 0x85, 0, 0, 0, 0x80], Flow::Conditional(to(6 - 0x8000_0000))),
            (&[0xff, 0x25, 2, 0, 0, 0], Flow::Through(to(8))),
            (&[0x2e, 0xff, 0x15, 2, 0, 0, 0], Flow::Through(to(9))),
            (&[0x49, 0xbb, 1, 0, 0, 0, 0, 0, 0, 0xff], Flow::Address(KernelVa(0xff << 56 | 1))),
            (&[0xff, 0xe0], Flow::End),
            (&[0xff, 0xd0], Flow::Next),
            (&[0xff, 0x77, 8], Flow::Next),
            (&[0xc3], Flow::End),
            (&[0x48, 0xcf], Flow::End),
            (&[0x48, 0x0f, 0x07], Flow::End),
            (&[0xb8, 1, 0, 0, 0], Flow::Next),
            // A probe, or a warning: the function continues.
            (&[0xcc], Flow::Next),
            (&[0x0f, 0x0b], Flow::Next),
        ];
        for &(code, flow) in cases {
            assert_eq!(decode(code, AT), Some(Instruction { length: code.len(), flow }));
        }
    }
}
