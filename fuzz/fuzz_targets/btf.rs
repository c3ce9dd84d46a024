//! BTF: the parser, and every look-up that the layouts make.
//!
//! The first byte chooses: if even, the rest is BTF as it is. If odd, a 16-bit number follows, then
//! that many bytes of types, then the names; the header is made here, so that its checks do not
//! reject every input. With the second bit set, these are a module's types, which continue those of
//! a small kernel; without a header made here, the second half of the bytes are the module's.
#![cfg_attr(fuzzing, no_main)]

use panoptes_decoders::kernel::Layouts;
use panoptes_decoders::layout::Members;
use panoptes_fuzz::fuzz_target;
use panoptes_profiles::btf::{Btf, merged};

/// A kernel's types: an integer and a structure of one.
const KERNEL: &[u8] = b"\
    \x9f\xeb\x01\x00\x18\x00\x00\x00\x00\x00\x00\x00\
    \x28\x00\x00\x00\x28\x00\x00\x00\x11\x00\x00\x00\
    \x01\x00\x00\x00\x00\x00\x00\x01\x08\x00\x00\x00\x40\x00\x00\x00\
    \x06\x00\x00\x00\x01\x00\x00\x04\x08\x00\x00\x00\
    \x0c\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\
    \0long\0inode\0i_sb\0";

fuzz_target!(|data: &[u8]| {
    let Some((&first, rest)) = data.split_first() else { return };
    let made = if first % 2 == 0 { None } else { with_header(rest) };
    let both = match (&made, first & 2 != 0) {
        (_, false) => None,
        (Some(module), true) => merged(KERNEL, module).ok(),
        (None, true) => {
            let (kernel, module) = rest.split_at(rest.len() / 2);
            merged(kernel, module).ok()
        }
    };
    let bytes = both.as_deref().or(made.as_deref()).unwrap_or(rest);
    let Ok(btf) = Btf::parse(bytes) else { return };
    let _ = Layouts::bind(&btf);
    // Paths that exist in seeds cut from real kernels, and one of each kind of step.
    for (structure, path) in [
        ("list_head", "next"),
        ("task_struct", "tasks.next"),
        ("task_struct", "comm"),
        ("page", "compound_head"),
        ("ovl_inode", "vfs_inode.i_sb"),
        ("ovl_entry", "__lowerstack"),
        ("s", "a.b.c"),
        ("s", ""),
    ] {
        if let Some(member) = btf.member(structure, path) {
            assert!(member.offset < 1 << 29, "offsets are bits of 32 bits");
        }
        let _ = btf.size_of(structure);
    }
    let _ = btf.enumerator("pid_type", "PIDTYPE_TGID");
});

fn with_header(data: &[u8]) -> Option<Vec<u8>> {
    let (length, rest) = data.split_first_chunk::<2>()?;
    let (types, names) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
    let mut bytes = vec![0x9f, 0xeb, 1, 0];
    let types_bytes = types.len() as u32;
    for word in [24, 0, types_bytes, types_bytes, names.len() as u32 + 2] {
        bytes.extend(u32::to_le_bytes(word));
    }
    bytes.extend(types);
    bytes.push(0);
    bytes.extend(names);
    bytes.push(0);
    Some(bytes)
}
