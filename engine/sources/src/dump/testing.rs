//! Builders of dumps for tests.

use std::ops::Range;

use panoptes_decoders::source::PAGE_BYTES;

use super::codec::Compression;

/// Packs one block as writers of dumps do.
pub(super) fn pack(how: Compression, block: &[u8]) -> Vec<u8> {
    match how {
        Compression::None => block.to_vec(),
        Compression::Zlib => miniz_oxide::deflate::compress_to_vec_zlib(block, 1),
        Compression::Lzo => lzokay::compress::compress(block).unwrap(),
        Compression::Snappy => snap::raw::Encoder::new().compress_vec(block).unwrap(),
        Compression::Zstd => {
            ruzstd::encoding::compress_to_vec(block, ruzstd::encoding::CompressionLevel::Fastest)
        }
    }
}

/// A page whose content differs from that of its neighbours.
pub(crate) fn page(number: u64) -> Vec<u8> {
    let pattern = |at: u64| (number * 37 + at / 16) as u8;
    (0..PAGE_BYTES).map(pattern).collect()
}

/// A core; `loads` are the physical address, the bytes, and the number of them that are in the
/// file.
pub(crate) fn core(loads: &[(u64, Vec<u8>, u64)], many: bool) -> Vec<u8> {
    let mut header = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let half = |header: &mut Vec<u8>, value: u16| header.extend(value.to_le_bytes());
    half(&mut header, 4);
    half(&mut header, 62);
    header.extend(1_u32.to_le_bytes());
    header.extend([0; 8]);
    header.extend(if many { 128_u64 } else { 64 }.to_le_bytes());
    header.extend(if many { 64_u64 } else { 0 }.to_le_bytes());
    header.extend([0; 4]);
    half(&mut header, 64);
    half(&mut header, 56);
    half(&mut header, if many { 0xffff } else { loads.len() as u16 });
    for value in [64, u16::from(many), 0] {
        half(&mut header, value);
    }
    if many {
        header.extend([0; 44]);
        header.extend((loads.len() as u32).to_le_bytes());
        header.extend([0; 16]);
    }
    let mut at = (header.len() + loads.len() * 56) as u64;
    let mut bytes: Vec<u8> = Vec::new();
    for (physical, memory, filed) in loads {
        header.extend(1_u32.to_le_bytes());
        header.extend(7_u32.to_le_bytes());
        let virtual_address = 0xffff_8880_0000_0000_u64.wrapping_add(*physical);
        for value in [at, virtual_address, *physical, *filed, memory.len() as u64, 0] {
            header.extend(value.to_le_bytes());
        }
        bytes.extend(&memory[..*filed as usize]);
        at += filed;
    }
    header.extend(bytes);
    header
}

pub(crate) fn pages(range: Range<u64>) -> Vec<u8> {
    range.flat_map(page).collect()
}
