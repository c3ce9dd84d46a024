//! Filters of packets: for the kernel, made of one for the packets as they are lent, and run here.
//!
//! The program of the kernel also cuts packets: what it returns is the number of bytes to copy.

use std::io;

use panoptes_decoders::packet::link_type::COOKED;
use panoptes_decoders::packet::program::{BpfProgram, Instruction};

use crate::link::COOKED_BYTES;

/// Classes and modes of [`Instruction::code`] (`include/uapi/linux/bpf_common.h`).
const CLASS: u16 = 7;
const LD: u16 = 0;
const LDX: u16 = 1;
const RETURN_CONSTANT: u16 = 6;
const MODE: u16 = 0xe0;
const ABSOLUTE: u16 = 0x20;
const INDIRECT: u16 = 0x40;
const LENGTH: u16 = 0x80;
/// Four times the lower half of a byte.
const HEADER_LENGTH: u16 = 0xa0;

/// Loads from here on give what the kernel knows of a packet (`include/uapi/linux/filter.h`).
pub(crate) const SKF_AD_OFF: u32 = 0xffff_f000;
pub(crate) const SKF_AD_PROTOCOL: u32 = 0;
pub(crate) const SKF_AD_PKTTYPE: u32 = 4;
const SKF_AD_HATYPE: u32 = 28;

/// A program of this alone rejects all packets.
pub(crate) const REJECT: Instruction =
    Instruction { code: RETURN_CONSTANT, jump_true: 0, jump_false: 0, constant: 0 };

/// A filter that is run here.
pub(crate) type Filter = BpfProgram<Box<[Instruction]>>;

/// A filter that is run here. An empty one is none.
pub(crate) fn own(filter: &[Instruction]) -> io::Result<Option<Filter>> {
    let filter = (!filter.is_empty()).then(|| BpfProgram::new(filter.into())).transpose();
    filter.map_err(|refusal| io::Error::new(io::ErrorKind::InvalidInput, refusal.to_string()))
}

/// The program for the kernel. `None` if the kernel cannot compute the same.
///
/// An empty program accepts all packets. Cooked headers do not exist yet when the kernel runs the
/// program: their fields are loaded from where the kernel has them, as libpcap does it.
pub(crate) fn for_kernel(
    program: &[Instruction],
    link: u16,
    snap_length: u32,
) -> Option<Vec<Instruction>> {
    let is_cooked = link == COOKED;
    let header = if is_cooked { COOKED_BYTES as u32 } else { 0 };
    // 0 would reject the packet.
    let kept = |bytes: u32| bytes.min(snap_length).saturating_sub(header).max(1);
    if program.is_empty() {
        let constant = kept(u32::MAX);
        return Some(vec![Instruction {
            code: RETURN_CONSTANT,
            constant,
            ..Instruction::default()
        }]);
    }
    let change = |instruction: &Instruction| {
        let mut changed = *instruction;
        match (instruction.code & CLASS, instruction.code & MODE) {
            _ if instruction.code == RETURN_CONSTANT && instruction.constant > 0 => {
                changed.constant = kept(instruction.constant);
            }
            (LD, ABSOLUTE) if is_cooked => changed.constant = absolute(instruction.constant)?,
            (LD, INDIRECT) | (LDX, HEADER_LENGTH) if is_cooked => {
                changed.constant = instruction.constant.checked_sub(header)?;
            }
            (LD | LDX, LENGTH) if is_cooked => return None,
            _ => {}
        }
        Some(changed)
    };
    program.iter().map(change).collect()
}

/// Where the kernel has what a packet with a cooked header has here.
fn absolute(at: u32) -> Option<u32> {
    match at {
        SKF_AD_OFF.. => Some(at),
        0 => Some(SKF_AD_OFF + SKF_AD_PKTTYPE),
        2 => Some(SKF_AD_OFF + SKF_AD_HATYPE),
        14 => Some(SKF_AD_OFF + SKF_AD_PROTOCOL),
        at => at.checked_sub(COOKED_BYTES as u32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instruction(code: u16, constant: u32) -> Instruction {
        Instruction { code, constant, ..Instruction::default() }
    }

    fn changed(code: u16, constant: u32, link: u16) -> Option<u32> {
        let program = for_kernel(&[instruction(code, constant)], link, 96)?;
        assert_eq!((program.len(), program[0].code), (1, code));
        Some(program[0].constant)
    }

    #[test]
    fn a_program_keeps_no_more_than_the_snap_length() {
        assert_eq!(for_kernel(&[], 1, 96), Some(vec![instruction(6, 96)]));
        assert_eq!(for_kernel(&[], COOKED, 96), Some(vec![instruction(6, 80)]));
        // Nothing is left of a packet that is shorter than its header, but it is counted.
        assert_eq!(for_kernel(&[], COOKED, 4), Some(vec![instruction(6, 1)]));
        let cases = [(0, 0), (1, 1), (95, 95), (97, 96), (u32::MAX, 96)];
        for (bytes, kept) in cases {
            assert_eq!(changed(6, bytes, 1), Some(kept));
        }
    }

    #[test]
    fn loads_from_a_cooked_header_are_loads_of_what_the_kernel_knows() {
        // The codes of ldh [], ldb [], ldh [x +], ldxb 4*([]&15), ld #pktlen, ld #.
        let cases = [
            (0x28, 14, Some(0xffff_f000)),
            (0x28, 0, Some(0xffff_f004)),
            (0x28, 2, Some(0xffff_f01c)),
            (0x28, 6, None),
            (0x30, 25, Some(9)),
            (0x28, 0xffff_f000, Some(0xffff_f000)),
            (0x48, 18, Some(2)),
            (0x48, 14, None),
            (0xb1, 16, Some(0)),
            (0x80, 0, None),
            (0x00, 5, Some(5)),
        ];
        for (code, constant, expected) in cases {
            assert_eq!(changed(code, constant, COOKED), expected, "{code:#x} {constant}");
            assert_eq!(changed(code, constant, 1), Some(constant));
        }
    }
}
