//! The dynamic symbol table of an ELF object (include/uapi/linux/elf.h; the gABI, chapter 5), for
//! little-endian 64-bit objects.
//!
//! Each function returns the address of the next bytes to read: headers, the dynamic section, the
//! hash table, one of its chains, a symbol, its name. The caller reads them from the file or from
//! its mapping. All input is untrusted: a returned address need not be mapped.

use super::elf::{PT_DYNAMIC, PT_LOAD};
use super::{elf, u32_at, u64_at};

/// `ELFCLASS64` and `ELFDATA2LSB`, at `EI_CLASS`.
const CLASS_AND_ORDER: [u8; 2] = [2, 1];
/// `sizeof(Elf64_Phdr)`
pub const PROGRAM_HEADER_BYTES: u64 = 56;
/// Maximum number of program headers; usual are 9 to 13.
const PROGRAM_HEADERS_MAX: u64 = 32;
/// Maximum number of loaded segments of an object; usual are 2 to 5.
const LOADS_MAX: usize = 16;
const _: () = assert!(LOADS_MAX as u64 <= PROGRAM_HEADERS_MAX, "each segment has a header");
const PT_INTERP: u32 = 3;
/// `PF_W`: the segment is writable.
const PF_W: u32 = 2;

/// Size of the file header in bytes.
pub const HEADER_BYTES: u64 = 64;
/// Maximum number of bytes of the dynamic section that are read.
pub const DYNAMIC_BYTES_MAX: u64 = 4096;
/// `sizeof(Elf64_Sym)`
pub const SYMBOL_BYTES: u64 = 24;

const DT_HASH: u64 = 4;
const DT_STRTAB: u64 = 5;
const DT_SYMTAB: u64 = 6;
const DT_GNU_HASH: u64 = 0x6fff_fef5;

/// File offset and number of the program headers; `None` if `bytes` do not begin an object of this
/// kind.
pub fn program_headers(bytes: &[u8]) -> Option<(u64, u64)> {
    header_table(bytes, PROGRAM_HEADERS_MAX)
}

/// File offset and number of the program headers, if there are at most `most`.
pub(super) fn header_table(bytes: &[u8], most: u64) -> Option<(u64, u64)> {
    let is_ours = bytes.starts_with(&elf::MAGIC) && bytes.get(4..6)? == CLASS_AND_ORDER;
    let size = u64::from(u32_at(bytes, 54)? & 0xffff);
    let count = u64::from(u32_at(bytes, 56)? & 0xffff);
    let is_sound = size == PROGRAM_HEADER_BYTES && (1..=most).contains(&count);
    (is_ours && is_sound).then_some((u64_at(bytes, 32)?, count))
}

/// The result of the program headers, in the object's own addresses.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Segments {
    /// Address of the first loaded byte, page-aligned.
    pub first: u64,
    /// Address after the last loaded byte.
    pub end: u64,
    /// Address and size in bytes of the dynamic section.
    pub dynamic: Option<(u64, u64)>,
    /// Address and size in memory, in bytes, of the writable segment; the last one if there are
    /// several.
    pub data: Option<(u64, u64)>,
    /// Whether a loader loads its libraries: statically linked objects name none.
    pub has_interpreter: bool,
    /// Loaded segments: address, bytes in the file, and file offset.
    loads: [(u64, u64, u64); LOADS_MAX],
}

impl Segments {
    /// Parses the program headers; `None` if no segment is loaded or there are too many.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut found = Self { first: u64::MAX, ..Self::default() };
        let mut loads = 0;
        for header in bytes.chunks_exact(PROGRAM_HEADER_BYTES as usize) {
            let kind = u32_at(header, 0)?;
            let (address, length) = (u64_at(header, 16)?, u64_at(header, 40)?);
            match kind {
                PT_LOAD => {
                    found.first = found.first.min(address & !0xfff);
                    found.end = found.end.max(address.checked_add(length)?);
                    *found.loads.get_mut(loads)? =
                        (address, u64_at(header, 32)?, u64_at(header, 8)?);
                    loads += 1;
                    if u32_at(header, 4)? & PF_W != 0 {
                        found.data = Some((address, length));
                    }
                }
                PT_DYNAMIC => found.dynamic = Some((address, length)),
                PT_INTERP => found.has_interpreter = true,
                _ => {}
            }
        }
        (found.first < found.end).then_some(found)
    }

    /// File offset of the byte that is loaded at `address`, and the number of bytes from there to
    /// the end of the segment's part in the file.
    pub fn in_file(&self, address: u64) -> Option<(u64, u64)> {
        self.loads.iter().find_map(|&(start, bytes, offset)| {
            let behind = address.checked_sub(start).filter(|&behind| behind < bytes)?;
            Some((offset.checked_add(behind)?, bytes - behind))
        })
    }
}

/// The result of the dynamic section, in the object's own addresses.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Dynamic {
    /// `DT_SYMTAB`
    pub symbols: u64,
    /// `DT_STRTAB`
    pub strings: u64,
    /// `DT_GNU_HASH`
    pub gnu_hash: Option<u64>,
    /// `DT_HASH`
    pub hash: Option<u64>,
}

impl Dynamic {
    /// Parses the dynamic section as it is in the file: some loaders overwrite it in memory with a
    /// process's addresses.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut found = Self::default();
        for entry in bytes.chunks_exact(16) {
            let (tag, value) = (u64_at(entry, 0)?, u64_at(entry, 8)?);
            match tag {
                0 => break,
                DT_HASH => found.hash = Some(value),
                DT_STRTAB => found.strings = value,
                DT_SYMTAB => found.symbols = value,
                DT_GNU_HASH => found.gnu_hash = Some(value),
                _ => {}
            }
        }
        (found.symbols != 0 && found.strings != 0).then_some(found)
    }

    /// Address of a symbol.
    pub const fn symbol(&self, index: u32) -> u64 {
        self.symbols.wrapping_add(index as u64 * SYMBOL_BYTES)
    }
}

/// A GNU hash table: its address and its header.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct GnuHash {
    address: u64,
    buckets: u32,
    first: u32,
    bloom: u32,
}

impl GnuHash {
    /// Size of the header in bytes.
    pub const BYTES: u64 = 16;

    /// Parses the header of the table at `address`.
    pub fn parse(bytes: &[u8], address: u64) -> Option<Self> {
        let table = Self {
            address,
            buckets: u32_at(bytes, 0)?,
            first: u32_at(bytes, 4)?,
            bloom: u32_at(bytes, 8)?,
        };
        (table.buckets != 0).then_some(table)
    }

    /// Address of the bucket for a hash: four bytes, the index of the first symbol of the chain, or
    /// 0 for none.
    pub fn bucket(&self, hash: u32) -> u64 {
        self.buckets_at().wrapping_add(u64::from(hash.checked_rem(self.buckets).unwrap_or(0)) * 4)
    }

    /// Address of a symbol's word in its chain; the words of the next symbols follow.
    pub fn chain(&self, symbol: u32) -> Option<u64> {
        let place = u64::from(symbol.checked_sub(self.first)?);
        Some(self.buckets_at().wrapping_add(u64::from(self.buckets) * 4).wrapping_add(place * 4))
    }

    fn buckets_at(&self) -> u64 {
        self.address.wrapping_add(Self::BYTES).wrapping_add(u64::from(self.bloom) * 8)
    }
}

/// A `DT_HASH` table (System V's): its address and its header.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SysvHash {
    address: u64,
    buckets: u32,
    symbols: u32,
}

impl SysvHash {
    /// Size of the header in bytes.
    pub const BYTES: u64 = 8;

    /// Parses the header of the table at `address`.
    pub fn parse(bytes: &[u8], address: u64) -> Option<Self> {
        let table = Self { address, buckets: u32_at(bytes, 0)?, symbols: u32_at(bytes, 4)? };
        (table.buckets != 0).then_some(table)
    }

    /// Address of the bucket for a hash: four bytes, the index of a symbol, or 0 for none.
    pub fn bucket(&self, hash: u32) -> u64 {
        let bucket = hash.checked_rem(self.buckets).unwrap_or(0);
        self.address.wrapping_add(Self::BYTES).wrapping_add(u64::from(bucket) * 4)
    }

    /// Address of the index of the next symbol in a symbol's chain.
    pub fn next(&self, symbol: u32) -> Option<u64> {
        let chains = self.bucket(0).wrapping_add(u64::from(self.buckets) * 4);
        (symbol < self.symbols).then(|| chains.wrapping_add(u64::from(symbol) * 4))
    }
}

/// The hash of a name in a GNU hash table.
pub fn gnu_hash(name: &[u8]) -> u32 {
    name.iter().fold(5381, |hash: u32, &byte| hash.wrapping_mul(33).wrapping_add(byte.into()))
}

/// The hash of a name in a `DT_HASH` table.
pub fn sysv_hash(name: &[u8]) -> u32 {
    name.iter().fold(0, |hash: u32, &byte| {
        let hash = (hash << 4).wrapping_add(byte.into());
        let high = hash & 0xf000_0000;
        (hash ^ (high >> 24)) & !high
    })
}

/// The symbols of a chain that may have this hash, as offsets from the first symbol of the chain.
/// `bytes` begins with the chain's words. A chain ends with a word whose lowest bit is set.
pub fn candidates(bytes: &[u8], hash: u32) -> impl Iterator<Item = u32> + '_ {
    let mut is_over = false;
    bytes.chunks_exact(4).zip(0..).filter_map(move |(word, at)| {
        let word = u32_at(word, 0)?;
        let is_it = !is_over && word | 1 == hash | 1;
        is_over |= word & 1 != 0;
        is_it.then_some(at)
    })
}

/// One entry of the symbol table.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Symbol {
    /// Offset of its name in the strings.
    pub name: u32,
    /// Its address, relative to the object.
    pub value: u64,
    /// Whether the object defines it, rather than only uses it.
    pub is_defined: bool,
}

impl Symbol {
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let section = u32_at(bytes, 4)? >> 16;
        Some(Self {
            name: u32_at(bytes, 0)?,
            value: u64_at(bytes, 8)?,
            // `SHN_UNDEF`
            is_defined: section != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    #[test]
    fn hashes_are_those_of_the_tables() {
        // binutils' own examples, and two whose places `readelf --histogram` shows.
        assert_eq!(gnu_hash(b""), 0x1505);
        assert_eq!(gnu_hash(b"printf"), 0x156b_2bb8);
        assert_eq!(gnu_hash(b"exit"), 0x7c96_7e3f);
        assert_eq!(sysv_hash(b"printf"), 0x0779_05a6);
        assert_eq!(sysv_hash(b"exit"), 0x0006_cf04);
    }

    #[test]
    fn headers_lead_to_the_dynamic_section() {
        let mut header = [0_u8; 64];
        header[..6].copy_from_slice(b"\x7fELF\x02\x01");
        header[32] = 64;
        header[54] = 56;
        header[56] = 2;
        assert_eq!(program_headers(&header), Some((64, 2)));
        header[56] = 200;
        assert_eq!(program_headers(&header), None);
        header[4] = 1;
        assert_eq!(program_headers(&header), None);
        assert_eq!(program_headers(b"\x7fELF\x02\x01"), None);

        let mut headers = Vec::new();
        for (kind, flags, address, length) in
            [(1_u32, 5_u32, 0x1000_u64, 0x800_u64), (1, 6, 0x3010, 0x100), (2, 6, 0x3020, 0x80)]
        {
            headers.extend(kind.to_le_bytes());
            headers.extend(flags.to_le_bytes());
            headers.extend((address - 0x800).to_le_bytes());
            headers.extend(address.to_le_bytes());
            headers.extend([0; 8]);
            // Half of the segment is in the file.
            headers.extend((length / 2).to_le_bytes());
            headers.extend(length.to_le_bytes());
            headers.extend([0; 8]);
        }
        let segments = Segments::parse(&headers).unwrap();
        assert_eq!(segments.first, 0x1000);
        assert_eq!(segments.end, 0x3110);
        assert_eq!(segments.dynamic, Some((0x3020, 0x80)));
        assert_eq!(segments.data, Some((0x3010, 0x100)));
        assert_eq!(segments.in_file(0x1010), Some((0x810, 0x3f0)));
        assert_eq!(segments.in_file(0x3050), Some((0x2850, 0x40)));
        assert_eq!(segments.in_file(0x3090), None, "zeros");
        assert_eq!(segments.in_file(0xfff), None);
        assert_eq!(Segments::parse(&[]), None);
        let many: Vec<u8> = headers[..56].repeat(LOADS_MAX + 1);
        assert_eq!(Segments::parse(&many), None);
    }

    #[test]
    fn the_dynamic_section_leads_to_its_tables() {
        let section: Vec<u8> = [(5, 0x400), (6, 0x200), (0x6fff_fef5, 0x300), (0, 0), (4, 1)]
            .iter()
            .flat_map(|&(tag, value): &(u64, u64)| {
                [tag.to_le_bytes(), value.to_le_bytes()].concat()
            })
            .collect();
        let found = Dynamic { symbols: 0x200, strings: 0x400, gnu_hash: Some(0x300), hash: None };
        assert_eq!(Dynamic::parse(&section), Some(found));
        assert_eq!(Dynamic::parse(&[]), None);
    }

    #[test]
    fn a_chain_ends_at_its_last_word() {
        let words = [0x10_u32, 0x20, 0x31, 0x30];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(candidates(&bytes, 0x21).collect::<Vec<_>>(), [1]);
        assert_eq!(candidates(&bytes, 0x30).collect::<Vec<_>>(), [2]);
        let table =
            GnuHash::parse(&[3, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 6, 0, 0, 0], 0x100).unwrap();
        assert_eq!(table.bucket(4), 0x100 + 16 + 8 + 4);
        assert_eq!(table.chain(7), Some(0x100 + 16 + 8 + 12 + 8));
        assert_eq!(table.chain(4), None);
        assert_eq!(GnuHash::parse(&[0; 16], 0), None);
    }

    #[test]
    fn addresses_in_the_older_table_are_right() {
        let table = SysvHash::parse(&[3, 0, 0, 0, 7, 0, 0, 0], 0x100).unwrap();
        assert_eq!(table.bucket(5), 0x100 + 8 + 8);
        assert_eq!(table.next(6), Some(0x100 + 8 + 12 + 24));
        assert_eq!(table.next(7), None);
        assert_eq!(SysvHash::parse(&[0; 8], 0), None);
        assert_eq!(SysvHash::parse(&[1; 7], 0), None);
    }
}
