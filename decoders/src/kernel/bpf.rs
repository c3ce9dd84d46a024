//! Programs and maps of eBPF (include/linux/bpf.h), and the symbols of their code.
//!
//! Not here: links, which attach programs ([`super::bpf_link`]), and the names of types
//! ([`super::bpf_names`]).

use crate::address::KernelVa;
use crate::layout::{View, c_string, u32_at};

crate::layout! {
    /// `struct bpf_prog` (include/linux/bpf.h; include/linux/filter.h up to v5.15). Its
    /// instructions follow it.
    pub struct BpfProgStructure("bpf_prog") {
        /// `enum bpf_prog_type`
        kind: ["type"],
        /// `enum bpf_attach_type` that it was loaded for.
        expected_attach_type: ["expected_attach_type"],
        /// Number of instructions.
        len: ["len"],
        /// Bytes of its machine code; zero without one. Up to v5.12 also zero if it has functions
        /// of its own.
        jited_len: ["jited_len"],
        /// First bytes of the SHA-1 of its instructions.
        tag: ["tag"],
        /// `struct bpf_prog_aux *`
        aux: ["aux"],
        /// Its machine code, or the interpreter.
        bpf_func: ["bpf_func"],
    }
}

crate::layout! {
    /// `struct bpf_prog_aux` (include/linux/bpf.h).
    pub struct BpfProgAux("bpf_prog_aux") {
        /// Number of references; zero for a function of a program.
        refcnt: ["refcnt.counter"],
        /// Number of maps that it uses.
        used_map_cnt: ["used_map_cnt"],
        /// Its number in `prog_idr`; zero if it has none.
        id: ["id"],
        /// `struct bpf_prog *`
        prog: ["prog"],
        /// `struct user_struct *` of the user who loaded it.
        user: ["user"],
        /// Nanoseconds since boot.
        load_time: ["load_time"],
        /// Name, 16 bytes with its NUL; empty if it has none.
        name: ["name"],
        /// `struct bpf_ksym`, a part of it. Since Linux commit bfea9a8574f3 ("bpf: Add name to
        /// struct bpf_ksym") (in v5.7), as the next three.
        ksym_start?: ["ksym.start"],
        ksym_end?: ["ksym.end"],
        /// Link in the list `bpf_kallsyms`.
        ksym_lnode?: ["ksym.lnode", "ksym_lnode"],
        /// The C string of the name of the function that it is loaded for. Since v5.5.
        attach_func_name?: ["attach_func_name"],
    }
}

crate::layout! {
    /// `struct bpf_ksym` (include/linux/bpf.h), since v5.7: code that has a symbol. A program, a
    /// function of one, a trampoline or a dispatcher.
    pub struct BpfKsym("bpf_ksym") {
        start: ["start"],
        end: ["end"],
        /// Link in the list `bpf_kallsyms`.
        lnode: ["lnode"],
        /// Whether it is part of a `struct bpf_prog_aux`.
        prog: ["prog"],
    }
}

crate::layout! {
    /// `struct bpf_map` (include/linux/bpf.h).
    pub struct BpfMapStructure("bpf_map") {
        /// `enum bpf_map_type`
        map_type: ["map_type"],
        /// Bytes of a key and of a value.
        key_size: ["key_size"],
        value_size: ["value_size"],
        max_entries: ["max_entries"],
        /// `BPF_F_*` (include/uapi/linux/bpf.h).
        map_flags: ["map_flags"],
        /// Its number in `map_idr`.
        id: ["id"],
        /// Name, 16 bytes with its NUL; empty if it has none.
        name: ["name"],
    }
}

crate::layout! {
    /// `struct user_struct` (include/linux/sched/user.h).
    pub struct UserStruct("user_struct") {
        /// In the initial user namespace.
        uid: ["uid.val", "uid"],
    }
}

/// `BPF_OBJ_NAME_LEN` (include/uapi/linux/bpf.h): bytes of a name with its NUL.
pub const BPF_NAME_BYTES: usize = 16;
/// `BPF_TAG_SIZE` (include/uapi/linux/bpf.h): bytes of a tag.
pub const BPF_TAG_BYTES: usize = 8;
/// Bytes of an instruction (`struct bpf_insn`, include/uapi/linux/bpf.h).
pub const BPF_INSTRUCTION_BYTES: u32 = 8;
/// The kernel loads no larger programs (`BPF_COMPLEXITY_LIMIT_INSNS`, include/linux/bpf.h).
const BPF_INSTRUCTIONS_MAX: u32 = 1 << 20;
/// Types beyond this number are none (`__MAX_BPF_PROG_TYPE` and its like are below 64).
const BPF_KINDS_MAX: u32 = 256;

/// The decoded fields of a `struct bpf_prog`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct BpfProgram {
    /// `enum bpf_prog_type`
    pub kind: u32,
    /// `enum bpf_attach_type`
    pub attach_kind: u32,
    /// Number of instructions.
    pub instructions: u32,
    /// Bytes of machine code.
    pub image_bytes: u32,
    pub tag: [u8; BPF_TAG_BYTES],
    /// `struct bpf_prog_aux *`
    pub aux: KernelVa,
    /// Its machine code, or the interpreter.
    pub function: KernelVa,
}

impl BpfProgram {
    /// Decodes the packed copy of a `struct bpf_prog`. `None` if it is none.
    pub fn decode(layout: &BpfProgStructure, bytes: &[u8]) -> Option<Self> {
        let view = View::new(bytes);
        let program = Self {
            kind: view.unsigned(layout.kind) as u32,
            attach_kind: view.unsigned(layout.expected_attach_type) as u32,
            instructions: view.unsigned(layout.len) as u32,
            image_bytes: view.unsigned(layout.jited_len) as u32,
            tag: view.bytes(layout.tag).first_chunk().copied()?,
            aux: view.pointer(layout.aux),
            function: view.pointer(layout.bpf_func),
        };
        let is_program = program.kind < BPF_KINDS_MAX
            && (1..=BPF_INSTRUCTIONS_MAX).contains(&program.instructions)
            && program.aux.is_plausible();
        is_program.then_some(program)
    }
}

/// The decoded fields of a `struct bpf_prog_aux`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct BpfProgramAux {
    pub references: u64,
    /// Number of maps.
    pub maps: u32,
    /// Number in the IDR, or zero.
    pub id: u32,
    /// `struct bpf_prog *`
    pub program: KernelVa,
    /// `struct user_struct *`
    pub user: KernelVa,
    /// Nanoseconds since boot.
    pub loaded_ns: u64,
    /// Name, padded with NULs.
    pub name: [u8; BPF_NAME_BYTES],
    /// First address of its code with a symbol, and the one behind it. Null if it has none.
    pub symbol: [KernelVa; 2],
    /// The link behind it in the list `bpf_kallsyms`.
    pub next_symbol: KernelVa,
    /// A C string, or null.
    pub attach_function: KernelVa,
}

impl BpfProgramAux {
    /// Decodes the packed copy of a `struct bpf_prog_aux`. `None` if it is none: it leads to no
    /// program.
    pub fn decode(layout: &BpfProgAux, bytes: &[u8]) -> Option<Self> {
        let view = View::new(bytes);
        let pointer = |field| KernelVa(view.optional(field).unwrap_or(0));
        let aux = Self {
            references: view.unsigned(layout.refcnt),
            maps: view.unsigned(layout.used_map_cnt) as u32,
            id: view.unsigned(layout.id) as u32,
            program: view.pointer(layout.prog),
            user: view.pointer(layout.user),
            loaded_ns: view.unsigned(layout.load_time),
            name: name_of(view.bytes(layout.name)),
            symbol: [pointer(layout.ksym_start), pointer(layout.ksym_end)],
            next_symbol: layout.ksym_lnode.map_or(KernelVa::NULL, |field| view.pointer(field)),
            attach_function: pointer(layout.attach_func_name),
        };
        aux.program.is_plausible().then_some(aux)
    }

    /// The name without its NULs.
    pub fn name(&self) -> &[u8] {
        c_string(&self.name)
    }
}

/// The decoded fields of a `struct bpf_ksym`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct BpfSymbol {
    /// First address of the code, and the one behind it.
    pub start: KernelVa,
    pub end: KernelVa,
    /// The link behind it in the list `bpf_kallsyms`.
    pub next: KernelVa,
    /// Whether it is part of a `struct bpf_prog_aux`.
    pub is_of_program: bool,
}

impl BpfSymbol {
    /// Decodes the packed copy of a `struct bpf_ksym`. `None` if it is none: its code has no bytes.
    pub fn decode(layout: &BpfKsym, bytes: &[u8]) -> Option<Self> {
        let view = View::new(bytes);
        let symbol = Self {
            start: KernelVa(view.unsigned(layout.start)),
            end: KernelVa(view.unsigned(layout.end)),
            next: view.pointer(layout.lnode),
            is_of_program: view.unsigned(layout.prog) != 0,
        };
        (symbol.start.is_plausible() && symbol.start < symbol.end).then_some(symbol)
    }
}

/// The decoded fields of a `struct bpf_map`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct BpfMap {
    /// `enum bpf_map_type`
    pub kind: u32,
    pub key_bytes: u32,
    pub value_bytes: u32,
    pub entries_max: u32,
    /// `BPF_F_*`
    pub flags: u32,
    pub id: u32,
    /// Name, padded with NULs.
    pub name: [u8; BPF_NAME_BYTES],
}

impl BpfMap {
    /// Decodes the packed copy of a `struct bpf_map`. `None` if it is none.
    pub fn decode(layout: &BpfMapStructure, bytes: &[u8]) -> Option<Self> {
        let view = View::new(bytes);
        let number = |field| view.unsigned(field) as u32;
        let map = Self {
            kind: number(layout.map_type),
            key_bytes: number(layout.key_size),
            value_bytes: number(layout.value_size),
            entries_max: number(layout.max_entries),
            flags: number(layout.map_flags),
            id: number(layout.id),
            name: name_of(view.bytes(layout.name)),
        };
        (map.kind < BPF_KINDS_MAX).then_some(map)
    }

    /// The name without its NULs.
    pub fn name(&self) -> &[u8] {
        c_string(&self.name)
    }
}

/// A name as the kernel admits it: letters, digits, `_` and `.` (`bpf_obj_name_cpy`,
/// kernel/bpf/syscall.c). It ends before anything else.
fn name_of(bytes: &[u8]) -> [u8; BPF_NAME_BYTES] {
    let is_admitted = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.');
    let admitted = bytes.iter().take(BPF_NAME_BYTES - 1).take_while(|byte| is_admitted(byte));
    let mut name = [0; BPF_NAME_BYTES];
    name.iter_mut().zip(admitted).for_each(|(to, from)| *to = *from);
    name
}

/// Calls `each` with the address of each helper that the instructions call. The kernel replaces the
/// number of a helper by the distance of its function from `__bpf_call_base`
/// (`do_misc_fixups`, kernel/bpf/verifier.c), and machine code is made from a copy.
pub fn for_each_helper(code: &[u8], call_base: KernelVa, mut each: impl FnMut(KernelVa)) {
    /// `BPF_JMP | BPF_CALL` (include/uapi/linux/bpf.h).
    const CALL: u8 = 0x85;
    for instruction in code.chunks_exact(BPF_INSTRUCTION_BYTES as usize) {
        // The upper half of the second byte is the source: zero for a helper, `BPF_PSEUDO_CALL` or
        // `BPF_PSEUDO_KFUNC_CALL` for others.
        if let [CALL, registers, ..] = *instruction
            && registers >> 4 == 0
        {
            let distance = i64::from(u32_at(instruction, 4) as i32);
            each(KernelVa(call_base.0.wrapping_add_signed(distance)));
        }
    }
}

/// Whether a program is one of LSM whose result decides (`BPF_PROG_TYPE_LSM` for `BPF_LSM_MAC`,
/// include/uapi/linux/bpf.h).
pub const fn is_lsm(kind: u32, attach_kind: u32) -> bool {
    kind == 29 && attach_kind == 27
}

/// Whether one of the instructions sets the result to the number of an error, as `return -EPERM`
/// does.
pub fn has_error_result(code: &[u8]) -> bool {
    /// `BPF_ALU | BPF_MOV | BPF_K` and the same of `BPF_ALU64` (include/uapi/linux/bpf.h).
    const MOVES: [u8; 2] = [0xb4, 0xb7];
    /// `MAX_ERRNO` (include/linux/err.h).
    const ERROR_MAX: i32 = 4095;
    code.chunks_exact(BPF_INSTRUCTION_BYTES as usize).any(|instruction| {
        // The lower half of the second byte is the target: register 0 has the result.
        matches!(*instruction, [move_constant, registers, ..]
            if MOVES.contains(&move_constant) && registers & 0xf == 0)
            && (-ERROR_MAX..0).contains(&(u32_at(instruction, 4) as i32))
    })
}

#[cfg(test)]
mod tests;
