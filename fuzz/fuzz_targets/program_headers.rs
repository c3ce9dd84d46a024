//! The program headers of an ELF file, and its dynamic section, both anywhere in the input.
//!
//! The first byte chooses: if odd, a header is made here that leads to the rest; if even, the rest
//! is the file as it is.
#![cfg_attr(fuzzing, no_main)]

use panoptes_decoders::user::program_headers::{ProgramHeaders, has_text_relocations};
use panoptes_fuzz::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&first, rest)) = data.split_first() else { return };
    let made = if first & 1 != 0 { with_header(rest) } else { rest.to_vec() };
    let _ = has_text_relocations(rest);
    let Some(headers) = ProgramHeaders::find(&made) else { return };
    for offset in [0, 0x1000, u64::MAX, u64::from(first) << 12] {
        let _ = headers.executes(offset, data.len() as u64);
    }
    let _ = headers.wants_executable_stack();
    if let Some((offset, bytes)) = headers.dynamic() {
        let end = offset.saturating_add(bytes);
        let section = usize::try_from(offset).ok().zip(usize::try_from(end).ok());
        let _ = section.and_then(|(start, end)| made.get(start..end)).map(has_text_relocations);
    }
});

fn with_header(rest: &[u8]) -> Vec<u8> {
    let mut file = vec![0; 64];
    file[..6].copy_from_slice(b"\x7fELF\x02\x01");
    file[32] = 64;
    file[54] = 56;
    file[56] = (rest.len() / 56) as u8;
    file.extend(rest);
    file
}
