//! Programs and maps in the layouts of an old kernel and of a new one.

use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::layout::{Layout, Member, Members, PackedLayout};

/// The fields of Debian's kernels: 5.10, or 7.2.
struct Fields {
    is_new: bool,
}

impl Members for Fields {
    fn member(&self, structure: &str, path: &str) -> Option<Member> {
        let (old, new, size) = match (structure, path) {
            ("bpf_prog", "type") => (4, 8, 4),
            ("bpf_prog", "expected_attach_type") => (8, 12, 4),
            ("bpf_prog", "len") => (12, 16, 4),
            ("bpf_prog", "jited_len") => (16, 20, 4),
            ("bpf_prog", "tag") => (20, 24, 8),
            ("bpf_prog", "aux") => (32, 80, 8),
            ("bpf_prog", "bpf_func") => (48, 72, 8),
            ("bpf_prog_aux", "refcnt.counter") | ("bpf_ksym", "start") => (0, 0, 8),
            ("bpf_prog_aux", "used_map_cnt") => (8, 8, 4),
            ("bpf_prog_aux", "id") => (28, 32, 4),
            ("bpf_prog_aux", "prog") => (456, 960, 8),
            ("bpf_prog_aux", "user") => (464, 968, 8),
            ("bpf_prog_aux", "load_time") => (472, 976, 8),
            ("bpf_prog_aux", "name") => (496, 1008, 16),
            ("bpf_prog_aux", "ksym.start") => (192, 296, 8),
            ("bpf_prog_aux", "ksym.end") => (200, 304, 8),
            ("bpf_prog_aux", "ksym.lnode") => (336, 824, 16),
            ("bpf_prog_aux", "attach_func_name") => (152, 232, 8),
            ("bpf_ksym", "end") => (8, 8, 8),
            ("bpf_ksym", "lnode") => (144, 528, 16),
            ("bpf_ksym", "prog") => (208, 592, 1),
            ("bpf_map", "map_type") => (24, 64, 4),
            ("bpf_map", "key_size") => (28, 68, 4),
            ("bpf_map", "value_size") => (32, 72, 4),
            ("bpf_map", "max_entries") => (36, 76, 4),
            ("bpf_map", "map_flags") => (40, 88, 4),
            ("bpf_map", "id") => (48, 92, 4),
            ("bpf_map", "name") => (88, 136, 16),
            _ => return None,
        };
        Some(Member { offset: if self.is_new { new } else { old }, size })
    }

    fn size_of(&self, structure: &str) -> Option<u32> {
        let sizes = match structure {
            "bpf_prog" => [56, 96],
            "bpf_prog_aux" => [632, 1320],
            "bpf_ksym" => [216, 608],
            "bpf_map" => [256, 288],
            _ => return None,
        };
        Some(sizes[usize::from(self.is_new)])
    }
}

/// A structure as the kernel has it.
struct Structure(Vec<u8>);

impl Structure {
    fn new(bytes: u32) -> Self {
        Self(vec![0; bytes as usize])
    }

    fn put(mut self, at: usize, bytes: &[u8]) -> Self {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    fn u32(self, at: usize, number: u32) -> Self {
        self.put(at, &number.to_le_bytes())
    }

    fn u64(self, at: usize, number: u64) -> Self {
        self.put(at, &number.to_le_bytes())
    }

    fn packed(&self, packing: &PackedLayout) -> Vec<u8> {
        let span = |at: u32, length: u32| &self.0[at as usize..(at + length) as usize];
        packing.spans().iter().flat_map(|it| span(it.offset, it.length)).copied().collect()
    }
}

const AUX: u64 = 0xffff_8880_0100_0000;
const PROGRAM: u64 = 0xffff_c900_0001_0000;
const IMAGE: u64 = 0xffff_ffff_c010_0000;
const TAG: [u8; 8] = [0xa0, 0x4f, 0x5e, 0xef, 0x06, 0xa7, 0xf5, 0x55];

#[test]
fn a_program_of_an_old_kernel_is_decoded() {
    let layout = BpfProgStructure::bind(&Fields { is_new: false }).unwrap();
    let program = Structure::new(56).u32(4, 8).u32(8, 1).u32(12, 2).u32(16, 60).put(20, &TAG);
    let program = program.u64(32, AUX).u64(48, IMAGE);
    let expected = BpfProgram {
        kind: 8,
        attach_kind: 1,
        instructions: 2,
        image_bytes: 60,
        tag: TAG,
        aux: KernelVa(AUX),
        function: KernelVa(IMAGE),
    };
    assert_eq!(BpfProgram::decode(&layout, &program.packed(&layout.packing)), Some(expected));
}

#[test]
fn what_is_no_program_is_none() {
    let layout = BpfProgStructure::bind(&Fields { is_new: true }).unwrap();
    let decode = |kind, instructions, aux| {
        let program = Structure::new(96).u32(8, kind).u32(16, instructions).u64(80, aux);
        BpfProgram::decode(&layout, &program.packed(&layout.packing))
    };
    assert!(decode(1, 1, AUX).is_some());
    assert_eq!(decode(300, 1, AUX), None);
    assert_eq!(decode(1, 0, AUX), None);
    assert_eq!(decode(1, (1 << 20) + 1, AUX), None);
    assert_eq!(decode(1, 1, 0x1000), None);
}

#[test]
fn the_rest_of_a_program_is_decoded_in_both_layouts() {
    for is_new in [false, true] {
        let fields = Fields { is_new };
        let layout = BpfProgAux::bind(&fields).unwrap();
        let at = |path| fields.member("bpf_prog_aux", path).unwrap().offset as usize;
        let aux = Structure::new(layout.size)
            .u64(0, 3)
            .u32(8, 2)
            .u32(at("id"), 17)
            .u64(at("prog"), PROGRAM)
            .u64(at("user"), 0xffff_8880_0000_0100)
            .u64(at("load_time"), 12_345_678_901)
            .put(at("name"), b"sd_fw_egress\0\0\0\0")
            .u64(at("ksym.start"), IMAGE)
            .u64(at("ksym.end"), IMAGE + 60)
            .u64(at("ksym.lnode"), AUX + 0x10_0000)
            .u64(at("attach_func_name"), 0xffff_8880_0000_0200);
        let decoded = BpfProgramAux::decode(&layout, &aux.packed(&layout.packing)).unwrap();
        assert_eq!((decoded.references, decoded.maps, decoded.id), (3, 2, 17));
        assert_eq!((decoded.program.0, decoded.user.0), (PROGRAM, 0xffff_8880_0000_0100));
        assert_eq!((decoded.loaded_ns, decoded.name()), (12_345_678_901, &b"sd_fw_egress"[..]));
        assert_eq!(decoded.symbol, [KernelVa(IMAGE), KernelVa(IMAGE + 60)]);
        assert_eq!(decoded.next_symbol.0, AUX + 0x10_0000);
        assert_eq!(decoded.attach_function.0, 0xffff_8880_0000_0200);
        let nowhere = aux.u64(at("prog"), 0);
        assert_eq!(BpfProgramAux::decode(&layout, &nowhere.packed(&layout.packing)), None);
    }
}

#[test]
fn a_symbol_without_code_is_none() {
    let layout = BpfKsym::bind(&Fields { is_new: true }).unwrap();
    let symbol = Structure::new(608).u64(0, IMAGE).u64(8, IMAGE + 8).u64(528, AUX).put(592, &[1]);
    let expected = BpfSymbol {
        start: KernelVa(IMAGE),
        end: KernelVa(IMAGE + 8),
        next: KernelVa(AUX),
        is_of_program: true,
    };
    assert_eq!(BpfSymbol::decode(&layout, &symbol.packed(&layout.packing)), Some(expected));
    let empty = symbol.u64(8, IMAGE);
    assert_eq!(BpfSymbol::decode(&layout, &empty.packed(&layout.packing)), None);
}

#[test]
fn a_map_is_decoded_and_its_name_ends_at_what_no_name_has() {
    let layout = BpfMapStructure::bind(&Fields { is_new: true }).unwrap();
    let map = Structure::new(288).u32(64, 2).u32(68, 4).u32(72, 8).u32(76, 16).u32(88, 0x80);
    let map = map.u32(92, 5).put(136, b"my.map_1\x1b[31mABC");
    let decoded = BpfMap::decode(&layout, &map.packed(&layout.packing)).unwrap();
    assert_eq!((decoded.kind, decoded.id, decoded.flags), (2, 5, 0x80));
    assert_eq!((decoded.key_bytes, decoded.value_bytes, decoded.entries_max), (4, 8, 16));
    assert_eq!(decoded.name(), b"my.map_1");
    let other = map.u32(64, u32::MAX);
    assert_eq!(BpfMap::decode(&layout, &other.packed(&layout.packing)), None);
}

#[test]
fn only_calls_of_helpers_are_helpers() {
    const BASE: KernelVa = KernelVa(0xffff_ffff_8120_0000);
    let instruction = |code: u8, registers: u8, constant: i32| {
        let [a, b, c, d] = constant.to_le_bytes();
        [code, registers, 0, 0, a, b, c, d]
    };
    let code = [
        instruction(0xb7, 0, 5),        // r0 = 5
        instruction(0x85, 0, 0x4_5670), // a helper behind the base
        instruction(0x85, 0x10, 3),     // a function of the program
        instruction(0x85, 0x20, 77),    // a function of the kernel
        instruction(0x85, 0, -0x1230),  // a helper before the base
        instruction(0x95, 0, 0),        // exit
    ];
    let mut code = code.concat();
    code.extend([0x85, 0, 0]);
    let mut helpers = Vec::new();
    for_each_helper(&code, BASE, |helper| helpers.push(helper.0));
    assert_eq!(helpers, [BASE.0 + 0x4_5670, BASE.0 - 0x1230]);
}

#[test]
fn an_error_is_a_negative_constant_in_the_first_register() {
    let sets = |operation: u8, register: u8, constant: i32| {
        let mut code = vec![0xbf, 0x10, 0, 0, 0xff, 0xff, 0xff, 0xff];
        code.extend([operation, register, 0, 0]);
        code.extend(constant.to_le_bytes());
        code.extend([0x95, 0, 0, 0, 0, 0, 0, 0]);
        has_error_result(&code)
    };
    // `r0 = -1` and `w0 = -4095`.
    assert!(sets(0xb7, 0, -1) && sets(0xb4, 0, -4095));
    assert!(!sets(0xb7, 0, 0) && !sets(0xb7, 0, 1) && !sets(0xb7, 0, -4096));
    // `w3 = -1`, as of BPF_F_CURRENT_CPU, and `r0 += -1`.
    assert!(!sets(0xb4, 3, -1) && !sets(0x07, 0, -1));
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..1400)) {
        for is_new in [false, true] {
            let fields = Fields { is_new };
            let _ = BpfProgram::decode(&BpfProgStructure::bind(&fields).unwrap(), &bytes);
            let aux = BpfProgramAux::decode(&BpfProgAux::bind(&fields).unwrap(), &bytes);
            if let Some(aux) = aux {
                prop_assert!(aux.name().len() < BPF_NAME_BYTES);
            }
            let _ = BpfSymbol::decode(&BpfKsym::bind(&fields).unwrap(), &bytes);
            let _ = BpfMap::decode(&BpfMapStructure::bind(&fields).unwrap(), &bytes);
            for_each_helper(&bytes, KernelVa(u64::MAX), |_| {});
            let _ = has_error_result(&bytes);
        }
    }
}
