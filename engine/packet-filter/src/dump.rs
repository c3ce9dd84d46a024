//! Programs as text: what `bpf_image` of libpcap gives, which `tcpdump -d` and `argus -b` print.

use std::fmt::Write as _;

use panoptes_decoders::packet::program::{Instruction, code};

/// One line for each instruction.
pub(crate) fn text(program: &[Instruction]) -> String {
    let mut out = String::new();
    for (number, &instruction) in program.iter().enumerate() {
        let operation = operation(instruction.code);
        let operand = operand(instruction, number);
        // Writing to a string never fails.
        let _ = match targets(instruction, number) {
            Some([if_true, if_false]) => writeln!(
                out,
                "({number:03}) {operation:8} {operand:16} jt {if_true}\tjf {if_false}"
            ),
            None => writeln!(out, "({number:03}) {operation:8} {operand}"),
        };
    }
    out
}

/// Where a condition leads to.
fn targets(instruction: Instruction, number: usize) -> Option<[usize; 2]> {
    match instruction.code {
        code::JEQ_K
        | code::JEQ_X
        | code::JGT_K
        | code::JGT_X
        | code::JGE_K
        | code::JGE_X
        | code::JSET_K
        | code::JSET_X => {
            let jumps = [instruction.jump_true, instruction.jump_false];
            Some(jumps.map(|jump| number + 1 + usize::from(jump)))
        }
        _ => None,
    }
}

fn operation(code: u16) -> &'static str {
    match code {
        code::LD_IMM | code::LD_W_ABS | code::LD_W_IND | code::LD_MEM | code::LD_LEN => "ld",
        code::LD_H_ABS | code::LD_H_IND => "ldh",
        code::LD_B_ABS | code::LD_B_IND => "ldb",
        code::LDX_IMM | code::LDX_MEM | code::LDX_LEN => "ldx",
        code::LDX_MSH => "ldxb",
        code::ST => "st",
        code::STX => "stx",
        code::ADD_K | code::ADD_X => "add",
        code::SUB_K | code::SUB_X => "sub",
        code::MUL_K | code::MUL_X => "mul",
        code::DIV_K | code::DIV_X => "div",
        code::MOD_K | code::MOD_X => "mod",
        code::OR_K | code::OR_X => "or",
        code::AND_K | code::AND_X => "and",
        code::XOR_K | code::XOR_X => "xor",
        code::LSH_K | code::LSH_X => "lsh",
        code::RSH_K | code::RSH_X => "rsh",
        code::NEG => "neg",
        code::JA => "ja",
        code::JEQ_K | code::JEQ_X => "jeq",
        code::JGT_K | code::JGT_X => "jgt",
        code::JGE_K | code::JGE_X => "jge",
        code::JSET_K | code::JSET_X => "jset",
        code::RET_K | code::RET_A => "ret",
        code::TAX => "tax",
        code::TXA => "txa",
        _ => "unimp",
    }
}

fn operand(instruction: Instruction, number: usize) -> String {
    let constant = instruction.constant;
    // libpcap prints decimal numbers with a sign.
    let signed = constant.cast_signed();
    match instruction.code {
        code::LD_W_ABS | code::LD_H_ABS | code::LD_B_ABS => match ancillary(constant) {
            Some(name) => format!("[{name}]"),
            None => format!("[{signed}]"),
        },
        code::LD_W_IND | code::LD_H_IND | code::LD_B_IND => format!("[x + {signed}]"),
        code::LD_LEN | code::LDX_LEN => "#pktlen".to_owned(),
        code::LDX_MSH => format!("4*([{signed}]&0xf)"),
        code::LD_MEM | code::LDX_MEM | code::ST | code::STX => format!("M[{signed}]"),
        code::LD_IMM
        | code::LDX_IMM
        | code::OR_K
        | code::AND_K
        | code::XOR_K
        | code::JEQ_K
        | code::JGT_K
        | code::JGE_K
        | code::JSET_K => format!("#{constant:#x}"),
        code::RET_K
        | code::ADD_K
        | code::SUB_K
        | code::MUL_K
        | code::DIV_K
        | code::MOD_K
        | code::LSH_K
        | code::RSH_K => format!("#{signed}"),
        code::JA => (number as i32).wrapping_add(1).wrapping_add(signed).to_string(),
        code::RET_A | code::NEG | code::TAX | code::TXA => String::new(),
        other if has_index(other) => "x".to_owned(),
        other => format!("{other:#x}"),
    }
}

/// Whether the operand of arithmetic (class 4) or of a condition (class 5) is X.
const fn has_index(code: u16) -> bool {
    matches!(code & 0xf, 0xc | 0xd)
}

/// What the kernel knows of a packet, at `SKF_AD_OFF` (`linux/filter.h`), in its order there.
const ANCILLARY: [&str; 16] = [
    "proto",
    "type",
    "ifidx",
    "nla",
    "nlan",
    "mark",
    "queue",
    "hatype",
    "rxhash",
    "cpu",
    "xor_x",
    "vlan_tci",
    "vlanp",
    "poff",
    "random",
    "vlan_tpid",
];
const ANCILLARY_OFFSET: i32 = -0x1000;

/// The name of what such an offset gives. Each has four bytes.
fn ancillary(constant: u32) -> Option<&'static str> {
    let at = usize::try_from(constant.cast_signed().wrapping_sub(ANCILLARY_OFFSET)).ok()?;
    if at.is_multiple_of(4) { ANCILLARY.get(at / 4).copied() } else { None }
}
