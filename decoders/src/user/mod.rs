//! What programs lay out, not the kernel: the same on every kernel.

pub mod bash;
pub mod elf;
pub mod elf_dynamic;
pub mod program_headers;

/// The little-endian number of four bytes at an offset.
fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

/// The little-endian number of eight bytes at an offset.
fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}
