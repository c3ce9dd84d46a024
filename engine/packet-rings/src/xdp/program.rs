//! The XDP program: it stamps each frame, and hands it to the socket of its receive queue.
//!
//! It is written as instructions, so that no compiler and no library is needed. In C it would be:
//!
//! ```text
//! int receive(struct xdp_md *context) {
//!     if (bpf_xdp_adjust_meta(context, -8) == 0) {
//!         __u64 stamp = bpf_ktime_get_ns();
//!         __u64 *before = (void *)(long)context->data_meta;
//!         if (before + 1 <= (void *)(long)context->data)
//!             *before = stamp;
//!     }
//!     return bpf_redirect_map(&sockets, context->rx_queue_index, XDP_PASS);
//! }
//! ```
//!
//! A frame of a queue without a socket passes to the kernel's network stack. A driver that has no
//! room in front of a frame gets no stamp.

/// Bytes in front of a frame that have its stamp: CLOCK_MONOTONIC in nanoseconds.
pub(super) const STAMP_BYTES: usize = 8;
/// What the kernel shows as the program's name.
pub(super) const NAME: &[u8] = b"panoptes_flow";

/// Codes of instructions (RFC 9669 §4, §5).
const MOVE: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const ADD: u8 = 0x07;
const LOAD_WORD: u8 = 0x61;
const STORE_DOUBLE: u8 = 0x7b;
const LOAD_MAP: u8 = 0x18;
const JUMP_NOT_EQUAL: u8 = 0x55;
const JUMP_GREATER_REGISTER: u8 = 0x2d;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
/// The source of [`LOAD_MAP`] that makes its constant the descriptor of a map.
const PSEUDO_MAP: u8 = 1;

/// Functions of the kernel (`enum bpf_func_id`).
const KTIME_GET_NS: i32 = 5;
const REDIRECT_MAP: i32 = 51;
const ADJUST_META: i32 = 54;

/// Fields of `struct xdp_md`.
const DATA: i16 = 0;
const DATA_META: i16 = 8;
const QUEUE: i16 = 16;

/// What becomes of a frame without a socket (`enum xdp_action`).
const PASS: i32 = 2;

/// An instruction, as the kernel reads it.
pub(super) type Instruction = u64;

/// The program, for a map of sockets by queue.
pub(super) fn program(map: i32) -> [Instruction; 17] {
    [
        code(MOVE_REGISTER, 6, 1, 0, 0),
        code(MOVE, 2, 0, 0, -(STAMP_BYTES as i32)),
        code(CALL, 0, 0, 0, ADJUST_META),
        code(JUMP_NOT_EQUAL, 0, 0, 7, 0),
        code(CALL, 0, 0, 0, KTIME_GET_NS),
        code(LOAD_WORD, 1, 6, DATA_META, 0),
        code(LOAD_WORD, 2, 6, DATA, 0),
        code(MOVE_REGISTER, 3, 1, 0, 0),
        code(ADD, 3, 0, 0, STAMP_BYTES as i32),
        code(JUMP_GREATER_REGISTER, 3, 2, 1, 0),
        code(STORE_DOUBLE, 1, 0, 0, 0),
        // Both jumps lead here.
        code(LOAD_WORD, 2, 6, QUEUE, 0),
        code(LOAD_MAP, 1, PSEUDO_MAP, 0, map),
        0,
        code(MOVE, 3, 0, 0, PASS),
        code(CALL, 0, 0, 0, REDIRECT_MAP),
        code(EXIT, 0, 0, 0, 0),
    ]
}

/// An instruction (RFC 9669 §3, `struct bpf_insn`): the two registers share a byte.
fn code(code: u8, to: u8, from: u8, offset: i16, constant: i32) -> Instruction {
    let registers = if cfg!(target_endian = "little") { to | from << 4 } else { to << 4 | from };
    let (offset, constant) = (offset.to_ne_bytes(), constant.to_ne_bytes());
    let [c0, c1, c2, c3] = constant;
    Instruction::from_ne_bytes([code, registers, offset[0], offset[1], c0, c1, c2, c3])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9669 §3 to §5: code, registers (the lower half has the target), offset, constant.
    #[cfg(target_endian = "little")]
    #[test]
    fn instructions_are_those_of_the_kernel() {
        let bytes = |instruction: Instruction| instruction.to_ne_bytes();
        assert_eq!(bytes(code(LOAD_WORD, 2, 1, QUEUE, 0)), [0x61, 0x12, 0x10, 0, 0, 0, 0, 0]);
        assert_eq!(bytes(code(LOAD_MAP, 1, PSEUDO_MAP, 0, 7)), [0x18, 0x11, 0, 0, 7, 0, 0, 0]);
        assert_eq!(bytes(code(MOVE, 2, 0, 0, -8)), [0xb7, 2, 0, 0, 0xf8, 0xff, 0xff, 0xff]);
        assert_eq!(bytes(code(EXIT, 0, 0, 0, 0)), [0x95, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn both_jumps_lead_behind_the_stamp() {
        let program = program(3);
        let target = |at: usize| {
            let [_, _, low, high, ..] = program[at].to_ne_bytes();
            at + 1 + i16::from_ne_bytes([low, high]) as usize
        };
        let behind = code(LOAD_WORD, 2, 6, QUEUE, 0);
        assert_eq!([program[target(3)], program[target(9)]], [behind, behind]);
    }
}
