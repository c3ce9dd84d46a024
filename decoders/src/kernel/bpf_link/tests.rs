//! Links in the layouts of an old kernel and of a new one.

use std::vec;
use std::vec::Vec;

use super::*;
use crate::layout::{Layout, Member, Members};

/// The fields of Debian's kernels: 6.1, or 7.2.
struct Fields {
    is_new: bool,
}

impl Members for Fields {
    fn member(&self, structure: &str, path: &str) -> Option<Member> {
        let is_old = !self.is_new;
        let (old, new, size) = match (structure, path) {
            ("bpf_link", "refcnt.counter") => (0, 0, 8),
            ("bpf_link", "id") => (8, 8, 4),
            ("bpf_link", "type") => (12, 12, 4),
            ("bpf_link", "prog") => (24, 24, 8),
            ("bpf_link", "attach_type") if self.is_new => (36, 36, 4),
            ("bpf_tracing_link", "attach_type") if is_old => (88, 88, 4),
            ("bpf_tracing_link", "trampoline") => (96, 144, 8),
            ("bpf_kprobe_multi_link", "addrs") if self.is_new => (128, 128, 8),
            ("bpf_kprobe_multi_link", "cnt") if self.is_new => (144, 144, 4),
            _ => return None,
        };
        Some(Member { offset: if self.is_new { new } else { old }, size })
    }

    fn size_of(&self, structure: &str) -> Option<u32> {
        let sizes = match structure {
            "bpf_link" => [64, 80],
            "bpf_tracing_link" => [112, 160],
            "bpf_kprobe_multi_link" if self.is_new => [160, 160],
            _ => return None,
        };
        Some(sizes[usize::from(self.is_new)])
    }
}

fn layouts(is_new: bool) -> Layouts {
    let fields = Fields { is_new };
    Layouts {
        bpf_link: BpfLinkStructure::bind(&fields).ok(),
        bpf_tracing_link: BpfTracingLink::bind(&fields).ok(),
        bpf_kprobe_multi_link: BpfKprobeMultiLink::bind(&fields).ok(),
        ..Layouts::default()
    }
}

fn packed(packing: &PackedLayout, fields: &[(usize, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; 256];
    for (at, field) in fields {
        bytes[*at..at + field.len()].copy_from_slice(field);
    }
    let span = |at: u32, length: u32| &bytes[at as usize..(at + length) as usize];
    packing.spans().iter().flat_map(|it| span(it.offset, it.length)).copied().collect()
}

const PROGRAM: u64 = 0xffff_c900_0001_0000;
const PLACE: u64 = 0xffff_8880_0200_0000;

#[test]
fn a_link_is_decoded_and_another_structure_is_none() {
    let layout = layouts(true).bpf_link.unwrap();
    let decode = |kind: u32, program: u64| {
        let fields = [
            (0, &1_u64.to_le_bytes()[..]),
            (8, &4_u32.to_le_bytes()),
            (12, &kind.to_le_bytes()),
            (24, &program.to_le_bytes()),
            (36, &46_u32.to_le_bytes()),
        ];
        BpfLink::decode(&layout, &packed(&layout.packing, &fields))
    };
    let expected = BpfLink {
        references: 1,
        id: 4,
        kind: link_kind::TCX,
        program: KernelVa(PROGRAM),
        attach_kind: Some(46),
    };
    assert_eq!(decode(link_kind::TCX, PROGRAM), Some(expected));
    // A link of `struct_ops`.
    assert_eq!(decode(9, 0), Some(BpfLink { kind: 9, program: KernelVa::NULL, ..expected }));
    assert_eq!(decode(400, PROGRAM), None);
    assert_eq!(decode(2, 0x4141_4141), None);
}

#[test]
fn each_type_of_link_has_its_own_place() {
    let old = BpfLinkKind::of(&layouts(false), link_kind::TRACING).unwrap();
    let place = PLACE.to_le_bytes();
    let bytes = packed(&old.packing, &[(88, &24_u32.to_le_bytes()), (96, &place)]);
    let expected = BpfLinkPlace { place: KernelVa(PLACE), attach_kind: Some(24), count: None };
    assert_eq!(old.decode(&bytes), expected);

    let new = BpfLinkKind::of(&layouts(true), link_kind::TRACING).unwrap();
    let bytes = packed(&new.packing, &[(144, &place)]);
    assert_eq!(new.decode(&bytes), BpfLinkPlace { attach_kind: None, ..expected });

    let many = BpfLinkKind::of(&layouts(true), link_kind::KPROBE_MULTI).unwrap();
    let bytes = packed(&many.packing, &[(128, &place), (144, &90_u32.to_le_bytes())]);
    let expected = BpfLinkPlace { place: KernelVa(PLACE), attach_kind: None, count: Some(90) };
    assert_eq!(many.decode(&bytes), expected);
}

#[test]
fn a_type_that_the_kernel_lacks_has_no_place() {
    assert!(BpfLinkKind::of(&layouts(false), link_kind::KPROBE_MULTI).is_none());
    assert!(BpfLinkKind::of(&layouts(true), link_kind::CGROUP).is_none());
    assert!(BpfLinkKind::of(&layouts(true), 9).is_none());
}
