//! Kernel files: compressed in every way, ELF, types as BTF and as DWARF, plain images.
//!
//! The input is the file after its first byte: if that is odd, DWARF is requested even if there is
//! BTF.
#![cfg_attr(fuzzing, no_main)]

use std::io::Cursor;

use panoptes_fuzz::fuzz_target;
use panoptes_profiles::import::{Wanted, from_kernel};

fuzz_target!(|data: &[u8]| {
    let Some((wanted, file)) = data.split_first() else { return };
    let _ = from_kernel(&mut Cursor::new(file), Wanted { dwarf: wanted % 2 == 1 });
});
