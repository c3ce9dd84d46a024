//! The program headers of a little-endian 64-bit ELF file (include/uapi/linux/elf.h; the gABI,
//! chapter 5): which parts of the file are to be read, written or executed, and whether the stack
//! is to be executable.

use super::elf::{PT_DYNAMIC, PT_LOAD};
use super::elf_dynamic::{PROGRAM_HEADER_BYTES, header_table};
use super::{u32_at, u64_at};

/// Maximum number of entries; usual are 9 to 14.
const ENTRIES_MAX: u64 = 64;

const PT_GNU_STACK: u32 = 0x6474_e551;
const PF_X: u32 = 1;

const DT_NULL: u64 = 0;
const DT_TEXTREL: u64 = 22;
const DT_FLAGS: u64 = 30;
const DF_TEXTREL: u64 = 4;

/// The program headers of one file.
#[derive(Clone, Copy, Debug)]
pub struct ProgramHeaders<'a> {
    table: &'a [u8],
}

/// The fields of a program header that are used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct ProgramHeader {
    kind: u32,
    flags: u32,
    offset: u64,
    file_bytes: u64,
}

impl<'a> ProgramHeaders<'a> {
    /// Finds the program headers in the first bytes of a file; `None` if it is not such a file, or
    /// if they are further on.
    pub fn find(file: &'a [u8]) -> Option<Self> {
        let (start, count) = header_table(file, ENTRIES_MAX)?;
        let start = usize::try_from(start).ok()?;
        let end = start.checked_add((count * PROGRAM_HEADER_BYTES) as usize)?;
        Some(Self { table: file.get(start..end)? })
    }

    fn entries(&self) -> impl Iterator<Item = ProgramHeader> + '_ {
        self.table.chunks_exact(PROGRAM_HEADER_BYTES as usize).filter_map(|bytes| {
            Some(ProgramHeader {
                kind: u32_at(bytes, 0)?,
                flags: u32_at(bytes, 4)?,
                offset: u64_at(bytes, 8)?,
                file_bytes: u64_at(bytes, 32)?,
            })
        })
    }

    /// Whether the page at this file offset, in bytes, is loaded as executable by a kernel with
    /// pages of `page_bytes`: the kernel loads whole pages.
    pub fn executes(&self, offset: u64, page_bytes: u64) -> bool {
        self.entries().any(|entry| {
            let start = entry.offset - entry.offset.checked_rem(page_bytes).unwrap_or(0);
            let end = entry.offset.saturating_add(entry.file_bytes);
            entry.kind == PT_LOAD && entry.flags & PF_X != 0 && (start..end).contains(&offset)
        })
    }

    /// Whether the file requests an executable stack or has no `PT_GNU_STACK`, which glibc's loader
    /// treats the same (`DEFAULT_STACK_PERMS`, sysdeps/generic/stackinfo.h and elf/dl-load.c).
    pub fn wants_executable_stack(&self) -> bool {
        self.entries()
            .find(|entry| entry.kind == PT_GNU_STACK)
            .is_none_or(|entry| entry.flags & PF_X != 0)
    }

    /// File offset and size in bytes of the dynamic section.
    pub fn dynamic(&self) -> Option<(u64, u64)> {
        let entry = self.entries().find(|entry| entry.kind == PT_DYNAMIC)?;
        Some((entry.offset, entry.file_bytes))
    }
}

/// Whether a dynamic section requires the loader to write to read-only segments: the loader makes
/// text writable, relocates it, and restores its permissions (`_dl_relocate_object`, glibc's
/// elf/dl-reloc.c).
pub fn has_text_relocations(section: &[u8]) -> bool {
    section
        .chunks_exact(16)
        .map_while(|entry| Some((u64_at(entry, 0)?, u64_at(entry, 8)?)))
        .take_while(|&(tag, _)| tag != DT_NULL)
        .any(|(tag, value)| tag == DT_TEXTREL || tag == DT_FLAGS && value & DF_TEXTREL != 0)
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use super::*;

    /// A file with these entries: kind, flags, offset, bytes.
    fn file(entries: &[(u32, u32, u64, u64)]) -> Vec<u8> {
        let mut file = vec![0; 64];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[32] = 64;
        file[54] = 56;
        file[56] = entries.len() as u8;
        for &(kind, flags, offset, bytes) in entries {
            file.extend(kind.to_le_bytes());
            file.extend(flags.to_le_bytes());
            file.extend(offset.to_le_bytes());
            file.extend([0; 16]);
            file.extend(bytes.to_le_bytes());
            file.extend([0; 16]);
        }
        file
    }

    #[test]
    fn pages_are_executable_by_their_segment() {
        let file = file(&[
            (PT_LOAD, 4, 0, 0x800),
            (PT_LOAD, 5, 0x1000, 0x1800),
            (PT_LOAD, 6, 0x2800, 0x900),
            (PT_DYNAMIC, 6, 0x2900, 0x1f0),
            (PT_GNU_STACK, 6, 0, 0),
        ]);
        let headers = ProgramHeaders::find(&file).unwrap();
        let executes: Vec<bool> =
            (0..5).map(|page| headers.executes(page * 0x1000, 0x1000)).collect();
        assert_eq!(executes, [false, true, true, false, false]);
        assert!(headers.executes(0, 0x4000), "larger pages begin before");
        assert_eq!(headers.dynamic(), Some((0x2900, 0x1f0)));
        assert!(!headers.wants_executable_stack());
    }

    #[test]
    fn the_stack_is_executable_without_a_header_for_it() {
        let wants =
            |entries: &[_]| ProgramHeaders::find(&file(entries)).unwrap().wants_executable_stack();
        assert!(wants(&[(PT_GNU_STACK, 7, 0, 0)]));
        assert!(wants(&[(PT_LOAD, 5, 0, 0x1000)]));
        assert!(!wants(&[(PT_GNU_STACK, 6, 0, 0)]));
    }

    #[test]
    fn other_files_have_no_program_headers() {
        let good = file(&[(PT_LOAD, 5, 0, 0x1000)]);
        assert!(ProgramHeaders::find(&good).is_some());
        for end in 0..good.len() {
            assert!(ProgramHeaders::find(&good[..end]).is_none(), "cut at {end}");
        }
        for (at, value) in [(0, 0), (4, 1), (5, 2), (39, 0xff), (54, 32), (56, 0), (56, 65)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert!(ProgramHeaders::find(&bad).is_none(), "{value} at {at}");
        }
    }

    #[test]
    fn text_relocations_are_found_in_both_forms() {
        let section = |entries: &[(u64, u64)]| -> Vec<u8> {
            let pair = |&(tag, value): &(u64, u64)| [tag.to_le_bytes(), value.to_le_bytes()];
            entries.iter().flat_map(pair).flatten().collect()
        };
        assert!(has_text_relocations(&section(&[(1, 5), (DT_TEXTREL, 0)])));
        assert!(has_text_relocations(&section(&[(DT_FLAGS, 12)])));
        assert!(!has_text_relocations(&section(&[(DT_FLAGS, 8), (DT_NULL, 0), (DT_TEXTREL, 0)])));
        assert!(!has_text_relocations(&[]));
    }
}
