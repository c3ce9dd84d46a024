//! Data structures of user programs: independent of the kernel.

pub mod bash;
pub mod bash_patterns;
pub mod elf;
pub mod elf_dynamic;
pub mod program_headers;
pub mod zsh;

/// The little-endian 32-bit number at an offset.
fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

/// The little-endian 64-bit number at an offset.
fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}
