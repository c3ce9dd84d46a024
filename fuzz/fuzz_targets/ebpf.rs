//! eBPF's structures of any bytes, and instructions: those of eBPF, and those of x86.
//!
//! The first byte of the input is the type of a link. The rest is each structure in turn, and code.
#![cfg_attr(fuzzing, no_main)]

use std::cell::RefCell;
use std::collections::HashMap;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::Layouts;
use panoptes_decoders::kernel::bpf::{
    BPF_INSTRUCTION_BYTES, BPF_NAME_BYTES, BpfMap, BpfProgram, BpfProgramAux, BpfSymbol,
    for_each_helper,
};
use panoptes_decoders::kernel::bpf_link::{BpfLink, BpfLinkKind};
use panoptes_decoders::kernel::bpf_names::{
    attach_kind_name, link_kind_name, map_kind_name, program_kind_name,
};
use panoptes_decoders::layout::{Member, Members};
use panoptes_decoders::x86_code::{self, INSTRUCTION_BYTES_MAX};
use panoptes_fuzz::fuzz_target;

/// Code begins at the end of all addresses, so that what it leads to may be beyond.
const CODE: KernelVa = KernelVa(u64::MAX - 64);

/// Fields of 16 bytes, in the order in which they are asked for.
#[derive(Default)]
struct Fields {
    places: RefCell<HashMap<String, Vec<String>>>,
}

impl Members for Fields {
    fn member(&self, structure: &str, path: &str) -> Option<Member> {
        let mut places = self.places.borrow_mut();
        let fields = places.entry(structure.to_owned()).or_default();
        let known = fields.iter().position(|field| field == path);
        let index = known.unwrap_or_else(|| {
            fields.push(path.to_owned());
            fields.len() - 1
        });
        let size = if path == "name" { BPF_NAME_BYTES as u32 } else { 8 };
        Some(Member { offset: index as u32 * 16, size })
    }

    fn size_of(&self, _: &str) -> Option<u32> {
        Some(1024)
    }
}

thread_local! {
    static LAYOUTS: Layouts =
        Layouts::bind(&Fields::default()).expect("every field has a place");
}

fuzz_target!(|data: &[u8]| {
    let Some((&kind, bytes)) = data.split_first() else { return };
    LAYOUTS.with(|layouts| structures(layouts, kind.into(), bytes));
    let mut helpers = 0;
    for_each_helper(bytes, CODE, |_| helpers += 1);
    assert!(helpers <= bytes.len() / BPF_INSTRUCTION_BYTES as usize);
    instructions(bytes);
});

fn structures(layouts: &Layouts, kind: u32, bytes: &[u8]) {
    let program = layouts.bpf_prog.expect("it is bound");
    if let Some(program) = BpfProgram::decode(&program, bytes) {
        assert!(program.instructions > 0 && program.aux.is_plausible());
        let _ = (program_kind_name(program.kind), attach_kind_name(program.attach_kind));
    }
    let aux = layouts.bpf_prog_aux.expect("it is bound");
    if let Some(aux) = BpfProgramAux::decode(&aux, bytes) {
        assert!(aux.program.is_plausible());
        check_name(aux.name());
    }
    if let Some(symbol) = BpfSymbol::decode(&layouts.bpf_ksym.expect("it is bound"), bytes) {
        assert!(symbol.start < symbol.end);
    }
    if let Some(map) = BpfMap::decode(&layouts.bpf_map.expect("it is bound"), bytes) {
        check_name(map.name());
        let _ = map_kind_name(map.kind);
    }
    if let Some(link) = BpfLink::decode(&layouts.bpf_link.expect("it is bound"), bytes) {
        assert!(link.program.is_null() || link.program.is_plausible());
        let _ = link_kind_name(link.kind);
    }
    if let Some(kind) = BpfLinkKind::of(layouts, kind) {
        let _ = kind.decode(bytes);
    }
}

fn check_name(name: &[u8]) {
    assert!(name.len() < BPF_NAME_BYTES, "a name ends");
    assert!(name.iter().all(u8::is_ascii_graphic));
}

/// Decodes from each byte on. An instruction is the same in the bytes that it has alone, and none
/// in fewer.
fn instructions(code: &[u8]) {
    for start in 0..code.len() {
        let (rest, at) = (&code[start..], KernelVa(CODE.0.wrapping_add(start as u64)));
        if let Some(instruction) = x86_code::decode(rest, at) {
            let length = instruction.length;
            assert!((1..=INSTRUCTION_BYTES_MAX.min(rest.len())).contains(&length));
            assert_eq!(x86_code::decode(&rest[..length], at), Some(instruction));
            assert_eq!(x86_code::decode(&rest[..length - 1], at), None);
        }
    }
}
