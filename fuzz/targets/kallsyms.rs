//! kallsyms: the tokens, the names, and the addresses in each of the four ways.
//!
//! The input is: count of symbols (32 bits), size of the token table (16 bits), the index of tokens (512
//! bytes), the token table, the names.
#![no_main]

use libfuzzer_sys::fuzz_target;
use panoptes_decoders::address::KernelVa;
use panoptes_profiles::Symbols;
use panoptes_profiles::kallsyms::{Kallsyms, Scheme, TOKEN_INDEX_BYTES};

fuzz_target!(|data: &[u8]| {
    let Some((count, rest)) = data.split_first_chunk::<4>() else { return };
    let Some((length, rest)) = rest.split_first_chunk::<2>() else { return };
    let Some((index, rest)) = rest.split_first_chunk::<TOKEN_INDEX_BYTES>() else { return };
    let length = usize::from(u16::from_le_bytes(*length));
    let Some((table, names)) = rest.split_at_checked(length) else { return };
    let count = u32::from_le_bytes(*count);
    let Ok(symbols) = Kallsyms::new(count, names, table, index) else { return };
    let Ok(found) = symbols.find(Symbols::NAMES) else { return };
    for index in found.into_iter().flatten() {
        assert!(index < count);
        for scheme in Scheme::ALL {
            let _ = scheme.address(names, KernelVa(u64::MAX - 7), 0xffff_ffff_8100_0000, index);
        }
    }
});
