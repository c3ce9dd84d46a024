//! Kernel files: compressed in every way, ELF, types as BTF and as DWARF, plain images. The same
//! bytes as what comes with a kernel's headers: the compiled probe, the configuration, the release,
//! a list of symbols.
//!
//! The input is the file after its first byte: if that is odd, DWARF is requested even if there is
//! BTF.
#![cfg_attr(fuzzing, no_main)]

use std::io::Cursor;

use panoptes_fuzz::fuzz_target;
use panoptes_profiles::import::{TypePreference, from_kernel, headers};

fuzz_target!(|data: &[u8]| {
    let Some((wanted, file)) = data.split_first() else { return };
    let _ = from_kernel(&mut Cursor::new(file), TypePreference { dwarf: wanted % 2 == 1 });
    let symbols = headers::symbols(file).ok();
    let _ = headers::profile(file, String::new(), symbols);
    if let Ok(text) = str::from_utf8(file) {
        let _ = headers::KernelConfig::parse(text);
        let _ = headers::release(text);
    }
});
