//! Files of kernels: packed in every way, ELF, types as BTF and as DWARF, plain images.
//!
//! The input is the file, but for its first byte: odd asks for DWARF also where there is BTF.
#![cfg_attr(fuzzing, no_main)]

use std::io::Cursor;

use panoptes_fuzz::fuzz_target;
use panoptes_profiles::import::{Wanted, from_kernel};

fuzz_target!(|data: &[u8]| {
    let Some((wanted, file)) = data.split_first() else { return };
    let _ = from_kernel(&mut Cursor::new(file), Wanted { dwarf: wanted % 2 == 1 });
});
