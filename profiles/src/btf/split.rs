//! A module's BTF continues the kernel's: its first type has the id after the kernel's last, and
//! its first name the offset after the kernel's last byte of names (`btf_parse_module`,
//! kernel/bpf/btf.c, v5.11).

use super::{BTF_BYTES_MAX, BtfError, BtfHeader, HEADER_BYTES, MAGIC};

/// Merges the types of a kernel and of a module into one BTF, with the ids and offsets of the
/// module unchanged. The result can be parsed like any other.
pub fn merged(base: &[u8], module: &[u8]) -> Result<Vec<u8>, BtfError> {
    let (base_types, base_names) = parts(base)?;
    let (module_types, module_names) = parts(module)?;
    let types = base_types.len() + module_types.len();
    let names = base_names.len() + module_names.len();
    let bytes = HEADER_BYTES + types + names;
    if bytes > BTF_BYTES_MAX {
        return Err(BtfError::Header);
    }
    let mut merged = Vec::with_capacity(bytes);
    merged.extend(MAGIC);
    for word in [HEADER_BYTES, 0, types, types, names] {
        merged.extend((word as u32).to_le_bytes());
    }
    for part in [base_types, module_types, base_names, module_names] {
        merged.extend(part);
    }
    Ok(merged)
}

fn parts(bytes: &[u8]) -> Result<(&[u8], &[u8]), BtfError> {
    let header = BtfHeader::parse(bytes)?;
    let part = |offset: u32, length: u32| {
        let start = header.own_bytes as usize + offset as usize;
        bytes.get(start..start + length as usize).ok_or(BtfError::Truncated { at: bytes.len() })
    };
    Ok((
        part(header.type_offset, header.type_bytes)?,
        part(header.string_offset, header.string_bytes)?,
    ))
}
