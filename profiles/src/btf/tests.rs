//! Parses small BTF data and reads it back.

use panoptes_decoders::layout::{Member, Members};
use proptest::prelude::*;

use super::*;

#[allow(dead_code, reason = "shared with the tests of the whole crate")]
#[path = "../../tests/common/btf_writer.rs"]
mod btf_writer;

use btf_writer::Writer;

/// The BTF that the tests read: one of every construct of C.
fn sample() -> Vec<u8> {
    let mut w = Writer::new();
    let int = w.int("int", 4);
    let long = w.int("long", 8);
    let pointer = w.pointer(int);
    let constant = w.modifier(kind::CONST, "", long);
    let volatile = w.modifier(kind::VOLATILE, "", constant);
    let typedef = w.modifier(kind::TYPEDEF, "long_t", volatile);
    let tag = w.modifier(kind::TYPE_TAG, "rcu", int);
    let array = w.array(typedef, 3);
    let inner = w.structure(
        kind::STRUCT,
        false,
        "inner",
        16,
        &[("first", int, 0), ("second", typedef, 64)],
    );
    let anonymous_struct =
        w.structure(kind::STRUCT, false, "", 8, &[("low", tag, 0), ("high", int, 32)]);
    let anonymous_union =
        w.structure(kind::UNION, false, "", 8, &[("whole", long, 0), ("", anonymous_struct, 0)]);
    let outer = w.structure(
        kind::STRUCT,
        true,
        "outer",
        80,
        &[
            ("inner", inner, 0),
            ("", anonymous_union, 128),
            ("bits", int, 3 << 24 | 0xc0),
            ("flag", int, 1 << 24 | 0xc3),
            ("pointer", pointer, 256),
            ("array", array, 320),
            ("none", ABSENT_TYPE, 512),
        ],
    );
    w.modifier(kind::TYPEDEF, "outer_t", outer);
    let narrow = w.add("narrow", kind::INT << 24, 4, &[3]);
    w.structure(kind::STRUCT, false, "old", 4, &[("bits", narrow, 0), ("int", int, 0)]);
    let name = w.name("B");
    w.add("letters", kind::ENUM << 24 | 1, 4, &[name, 7]);
    let name = w.name("MINUS");
    w.add("signs", 1 << 31 | kind::ENUM << 24 | 1, 4, &[name, u32::MAX]);
    let name = w.name("HUGE");
    w.add("huge", kind::ENUM64 << 24 | 1, 8, &[name, 1, 2]);
    w.finish()
}

/// An id without a type.
const ABSENT_TYPE: u32 = 9999;

fn check(structure: &str, path: &str, expected: Option<(u32, u32)>) {
    let bytes = sample();
    let btf = Btf::parse(&bytes).unwrap();
    let expected = expected.map(|(offset, size)| Member { offset, size });
    assert_eq!(btf.member(structure, path), expected, "{structure}.{path}");
}

#[test]
fn paths_lead_through_embedded_and_anonymous_structures() {
    check("outer", "inner", Some((0, 16)));
    check("outer", "inner.second", Some((8, 8)));
    check("outer", "whole", Some((16, 8)));
    check("outer", "low", Some((16, 4)));
    check("outer", "high", Some((20, 4)));
    check("outer", "pointer", Some((32, 8)));
    check("outer", "array", Some((40, 24)));
    check("outer_t", "array", Some((40, 24)));
}

#[test]
fn bit_fields_and_missing_members_are_not_offered() {
    check("outer", "bits", None);
    check("outer", "flag", None);
    check("old", "bits", None);
    check("old", "int", Some((0, 4)));
    check("outer", "absent", None);
    check("outer", "none", None);
    check("outer", "inner.absent", None);
    check("outer", "pointer.first", None);
    check("outer", "array.first", None);
    check("outer", "", None);
    check("outer", "inner.", None);
    check("absent", "inner", None);
    check("int", "inner", None);
    check("long_t", "inner", None);
}

#[test]
fn sizes_and_enumerators_are_known() {
    let bytes = sample();
    let btf = Btf::parse(&bytes).unwrap();
    assert_eq!(btf.size_of("outer"), Some(80));
    assert_eq!(btf.size_of("outer_t"), Some(80));
    assert_eq!(btf.size_of("long_t"), None);
    assert_eq!(btf.enumerator("letters", "B"), Some(7));
    assert_eq!(btf.enumerator("signs", "MINUS"), Some(-1));
    assert_eq!(btf.enumerator("huge", "HUGE"), Some(0x2_0000_0001));
    assert_eq!(btf.enumerator("letters", "C"), None);
    // As members: a negative or too large value has no offset.
    assert_eq!(btf.member("letters", "B"), Some(Member { offset: 7, size: 0 }));
    assert_eq!(btf.size_of("letters"), Some(4));
    for (enumeration, name) in
        [("signs", "MINUS"), ("huge", "HUGE"), ("letters", "C"), ("none", "B")]
    {
        assert_eq!(btf.member(enumeration, name), None, "{enumeration}.{name}");
    }
}

#[test]
fn endless_types_end() {
    let mut w = Writer::new();
    w.modifier(kind::TYPEDEF, "self", 1);
    w.structure(kind::STRUCT, false, "nested", 4, &[("", 2, 0)]);
    w.structure(kind::STRUCT, false, "array", 4, &[("a", 4, 0)]);
    w.array(4, u32::MAX);
    let bytes = w.finish();
    let btf = Btf::parse(&bytes).unwrap();
    assert_eq!(btf.size_of("self"), None);
    assert_eq!(btf.member("nested", "x"), None);
    assert_eq!(btf.member("array", "a"), None);
}

#[test]
fn structures_that_hold_each_other_anonymously_end() {
    let mut w = Writer::new();
    let int = w.int("int", 4);
    // Each level contains the one below it 300 times: 300 to the 20th members in total.
    let mut inner = int;
    for _ in 0..20 {
        inner = w.structure(kind::STRUCT, false, "s", 4, &[("", inner, 0); 300]);
    }
    w.modifier(kind::TYPEDEF, "top", inner);
    let bytes = w.finish();
    assert_eq!(Btf::parse(&bytes).unwrap().member("top", "absent"), None);
}

#[test]
fn a_header_followed_by_something_else_is_refused() {
    let whole = sample();
    let mut copy = whole.clone();
    copy[24..].fill(0);
    assert_eq!(Btf::parse(&copy).unwrap_err(), BtfError::Kind { id: 1, kind: 0 });
    copy[24..].fill(1);
    assert_eq!(Btf::parse(&copy).unwrap_err(), BtfError::Names);
    assert_eq!(
        Btf::parse(&whole[..whole.len() - 1]).unwrap_err(),
        BtfError::Truncated { at: whole.len() - 1 }
    );
    assert_eq!(Btf::parse(&[]).unwrap_err(), BtfError::Truncated { at: 0 });
}

proptest! {
    #[test]
    fn mutated_bytes_never_panic(at in 0_usize..900, value: u32, length in 0_usize..2000) {
        let mut bytes = sample();
        if let Some(word) = bytes.get_mut(at..at + 4) {
            word.copy_from_slice(&value.to_le_bytes());
        }
        bytes.truncate(length);
        if let Ok(btf) = Btf::parse(&bytes) {
            for path in ["inner.second", "low", "array", "none", "bits"] {
                let _ = btf.member("outer", path);
            }
            let _ = btf.size_of("outer_t");
            let _ = btf.enumerator("letters", "B");
        }
    }
}

/// The types of a kernel, of a module on top of it, and of both.
fn kernel_and_module() -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let kernel = |w: &mut Writer| {
        let long = w.int("long", 8);
        (long, w.structure(kind::STRUCT, false, "inode", 16, &[("i_sb", long, 64)]))
    };
    let (mut alone, mut both) = (Writer::new(), Writer::new());
    kernel(&mut alone);
    let (long, inode) = kernel(&mut both);
    let members = [("flags", long, 0), ("vfs_inode", inode, 64), ("upper", long, 192)];
    both.structure(kind::STRUCT, false, "ovl_inode", 32, &members);
    let (alone, both) = (alone.finish(), both.finish());
    let (own, whole) = (BtfHeader::parse(&alone).unwrap(), BtfHeader::parse(&both).unwrap());
    let (types, names) = (own.type_bytes as usize, own.string_bytes as usize);
    let end = HEADER_BYTES + whole.type_bytes as usize;
    let mut module = MAGIC.to_vec();
    let (module_types, module_names) = (&both[HEADER_BYTES + types..end], &both[end + names..]);
    let length = module_types.len() as u32;
    for word in [HEADER_BYTES as u32, 0, length, length, module_names.len() as u32] {
        module.extend(word.to_le_bytes());
    }
    module.extend(module_types);
    module.extend(module_names);
    (alone, module, both)
}

#[test]
fn a_modules_types_continue_the_kernels() {
    let (kernel, module, both) = kernel_and_module();
    let merged = merged(&kernel, &module).unwrap();
    assert_eq!(merged, both);
    let btf = Btf::parse(&merged).unwrap();
    assert_eq!(btf.member("ovl_inode", "vfs_inode.i_sb"), Some(Member { offset: 16, size: 8 }));
    assert_eq!(btf.member("ovl_inode", "upper"), Some(Member { offset: 24, size: 8 }));
    // Alone it cannot be parsed: the kernel's names and types are missing.
    assert!(Btf::parse(&module).is_err());
}

#[test]
fn a_module_that_claims_more_than_it_has_is_refused() {
    let (kernel, module, _) = kernel_and_module();
    for length in 0..module.len() {
        assert!(merged(&kernel, &module[..length]).is_err(), "{length} bytes");
    }
    assert!(merged(&kernel[..kernel.len() - 1], &module).is_err());
    let mut huge = module;
    huge[20..24].copy_from_slice(&(BTF_BYTES_MAX as u32).to_le_bytes());
    assert_eq!(merged(&kernel, &huge), Err(BtfError::Header));
}
