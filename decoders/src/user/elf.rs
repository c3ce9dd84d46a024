//! ELF files (include/uapi/linux/elf.h): the file type, from the first bytes; types of segments.

/// `ELFMAG`
pub const MAGIC: [u8; 4] = *b"\x7fELF";
/// `ET_REL`
pub const ET_REL: u16 = 1;
/// `ET_EXEC`
pub const ET_EXEC: u16 = 2;
/// `ET_DYN`: libraries, and executables that run at any address.
pub const ET_DYN: u16 = 3;
/// `ET_CORE`
pub const ET_CORE: u16 = 4;
/// `PT_LOAD`: the type of a segment that is loaded.
pub const PT_LOAD: u32 = 1;
/// `PT_DYNAMIC`
pub const PT_DYNAMIC: u32 = 2;

/// `ELFDATA2MSB`, at `EI_DATA`: big-endian.
const ELFDATA2MSB: u8 = 2;
const EI_DATA: usize = 5;
/// Offset of `e_type` in the headers of both classes.
const E_TYPE: usize = 16;

/// `e_type` of a file that begins with `bytes`; `None` if it is not an ELF file.
pub fn kind(bytes: &[u8]) -> Option<u16> {
    if !bytes.starts_with(&MAGIC) {
        return None;
    }
    let value: [u8; 2] = bytes.get(E_TYPE..E_TYPE + 2)?.try_into().ok()?;
    Some(if bytes[EI_DATA] == ELFDATA2MSB {
        u16::from_be_bytes(value)
    } else {
        u16::from_le_bytes(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_is_read_in_either_byte_order() {
        let mut header = [0; 64];
        header[..4].copy_from_slice(&MAGIC);
        header[4..7].copy_from_slice(&[2, 1, 1]);
        header[16] = 3;
        assert_eq!(kind(&header), Some(ET_DYN));
        header[5] = ELFDATA2MSB;
        header[16..18].copy_from_slice(&[0, 2]);
        assert_eq!(kind(&header), Some(ET_EXEC));
        assert_eq!(kind(&header[..17]), None);
        assert_eq!(kind(b"#!/bin/sh\n"), None);
        assert_eq!(kind(b""), None);
    }
}
