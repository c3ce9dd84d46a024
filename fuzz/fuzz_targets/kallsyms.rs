//! kallsyms: tokens, names, addresses in each of the four ways, and the search for the tables.
//!
//! The input is: count of symbols (32 bits), size of the token table (16 bits), the index of tokens
//! (512 bytes), the token table, the names. With a count of zero, the rest is a piece of a kernel's
//! image, in which the tables are searched.
#![cfg_attr(fuzzing, no_main)]

use panoptes_decoders::address::KernelVa;
use panoptes_fuzz::fuzz_target;
use panoptes_profiles::Symbols;
use panoptes_profiles::kallsyms::search::{DIGITS, at_digits};
use panoptes_profiles::kallsyms::{Kallsyms, Scheme, TOKEN_INDEX_BYTES};

/// The address of the piece of an image.
const IMAGE: u64 = 0xffff_ffff_8200_0000;

/// Searches tables at every possible place, and reads their names.
fn search(image: &[u8]) {
    let mut read = |at: KernelVa, length: usize| {
        let start = usize::try_from(at.0.wrapping_sub(IMAGE)).unwrap_or(usize::MAX);
        let rest = image.get(start..).unwrap_or(&[]);
        rest[..length.min(rest.len())].to_vec()
    };
    let range = IMAGE..IMAGE + image.len() as u64;
    for (place, window) in image.windows(DIGITS.len()).enumerate() {
        if window != DIGITS {
            continue;
        }
        let at = KernelVa(IMAGE + place as u64);
        let Some(tables) = at_digits(at, &range, &mut read) else { continue };
        let names = read(tables.names, image.len());
        let table = read(tables.token_table, image.len());
        let index = read(tables.token_index, TOKEN_INDEX_BYTES);
        let index = index.first_chunk().expect("the index was found in the image");
        if let Ok(symbols) = Kallsyms::new(tables.symbols, &names, &table, index) {
            let _ = symbols.find(Symbols::NAMES);
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((count, rest)) = data.split_first_chunk::<4>() else { return };
    if *count == [0; 4] {
        return search(rest);
    }
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
