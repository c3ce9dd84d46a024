//! Looks up the symbols that an ELF file defines, in the file's own symbol table.
//!
//! All addresses are the object's own, as its program headers give them.

use panoptes_decoders::source::PAGE_BYTES;
use panoptes_decoders::user::elf_dynamic::{
    DYNAMIC_BYTES_MAX, Dynamic, GnuHash, HEADER_BYTES, PROGRAM_HEADER_BYTES, SYMBOL_BYTES,
    Segments, Symbol, SysvHash, candidates, gnu_hash, program_headers, sysv_hash,
};

use super::bytes::{FileBytes, MissingPage};

/// Maximum number of symbols of one bucket of a GNU hash table, and number of bytes of its chain
/// that are read at a time.
const CHAIN_MAX: u32 = 64;
const CHUNK_BYTES: u64 = 64;
/// Maximum number of symbols of one bucket of a `DT_HASH` table.
const SYSV_CHAIN_MAX: u32 = 64;
/// Maximum length of a symbol name that is looked up.
const SYMBOL_NAME_BYTES_MAX: usize = 32;

/// A hash table of symbols.
#[derive(Clone, Copy, Debug)]
enum SymbolHashTable {
    Gnu(GnuHash),
    Sysv(SysvHash),
}

/// The headers of an ELF file. Valid for the file that the [`FileReader`](super::bytes::FileReader)
/// has begun.
#[derive(Clone, Copy, Debug)]
pub struct Symbols {
    /// The loaded segments.
    pub segments: Segments,
    dynamic: Option<(Dynamic, SymbolHashTable)>,
}

impl Symbols {
    /// Reads the headers of a file; `None` if it is not a supported ELF file.
    ///
    /// # Errors
    ///
    /// If not all of them are in memory.
    pub fn read(file: &mut FileBytes<'_, '_>) -> Result<Option<Self>, MissingPage> {
        let header = file.read(0, HEADER_BYTES)?;
        let Some((offset, count)) = program_headers(header) else { return Ok(None) };
        let headers = file.read(offset, count * PROGRAM_HEADER_BYTES)?;
        let Some(segments) = Segments::parse(headers) else { return Ok(None) };
        let mut found = Self { segments, dynamic: None };
        let Some((address, length)) = segments.dynamic else { return Ok(Some(found)) };
        let Some((offset, there)) = segments.in_file(address) else { return Ok(Some(found)) };
        let section = file.read(offset, length.min(there).min(DYNAMIC_BYTES_MAX))?;
        let Some(dynamic) = Dynamic::parse(section) else { return Ok(Some(found)) };
        let table = match (dynamic.gnu_hash, dynamic.hash) {
            (Some(place), _) => {
                let header = found.bytes(file, place, GnuHash::BYTES)?;
                header.and_then(|header| GnuHash::parse(header, place)).map(SymbolHashTable::Gnu)
            }
            (None, Some(place)) => {
                let header = found.bytes(file, place, SysvHash::BYTES)?;
                header.and_then(|header| SysvHash::parse(header, place)).map(SymbolHashTable::Sysv)
            }
            (None, None) => None,
        };
        found.dynamic = table.map(|table| (dynamic, table));
        Ok(Some(found))
    }

    /// The address of a symbol that the file defines.
    ///
    /// # Errors
    ///
    /// If not all of the tables that decide are in memory.
    pub fn find(
        &self,
        file: &mut FileBytes<'_, '_>,
        name: &str,
    ) -> Result<Option<u64>, MissingPage> {
        let Some((dynamic, table)) = &self.dynamic else { return Ok(None) };
        match table {
            SymbolHashTable::Gnu(table) => self.find_in_gnu(file, dynamic, table, name.as_bytes()),
            SymbolHashTable::Sysv(table) => {
                self.find_in_sysv(file, dynamic, table, name.as_bytes())
            }
        }
    }

    /// The bytes that are loaded to an address; `None` if there are none.
    ///
    /// # Errors
    ///
    /// If they are not in memory.
    pub fn bytes<'f>(
        &self,
        file: &'f mut FileBytes<'_, '_>,
        address: u64,
        length: u64,
    ) -> Result<Option<&'f [u8]>, MissingPage> {
        let place = self.segments.in_file(address).filter(|&(_, there)| length <= there);
        let Some((offset, _)) = place else { return Ok(None) };
        file.read(offset, length).map(Some)
    }

    fn half(&self, file: &mut FileBytes<'_, '_>, address: u64) -> Result<Option<u32>, MissingPage> {
        let bytes = self.bytes(file, address, 4)?;
        Ok(bytes.and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes))
    }

    fn find_in_gnu(
        &self,
        file: &mut FileBytes<'_, '_>,
        dynamic: &Dynamic,
        table: &GnuHash,
        name: &[u8],
    ) -> Result<Option<u64>, MissingPage> {
        let hash = gnu_hash(name);
        let Some(mut symbol) = self.half(file, table.bucket(hash))? else { return Ok(None) };
        let mut left = CHAIN_MAX;
        while left > 0 {
            let Some(chain) = table.chain(symbol) else { return Ok(None) };
            let Some((offset, there)) = self.segments.in_file(chain) else { return Ok(None) };
            // Only up to the end of its page: the next page may not be in memory.
            let in_page = PAGE_BYTES - offset % PAGE_BYTES;
            let length = there.min(in_page).min(CHUNK_BYTES) as usize / 4 * 4;
            if length == 0 {
                return Ok(None);
            }
            let mut words = [0; CHUNK_BYTES as usize];
            let words = &mut words[..length];
            words.copy_from_slice(file.read(offset, length as u64)?);
            for at in candidates(words, hash) {
                let found = self.defined(file, dynamic, symbol.saturating_add(at), name)?;
                if found.is_some() {
                    return Ok(found);
                }
            }
            if words.chunks_exact(4).any(|word| word[0] & 1 != 0) {
                break;
            }
            symbol = symbol.saturating_add(length as u32 / 4);
            left = left.saturating_sub(length as u32 / 4);
        }
        Ok(None)
    }

    fn find_in_sysv(
        &self,
        file: &mut FileBytes<'_, '_>,
        dynamic: &Dynamic,
        table: &SysvHash,
        name: &[u8],
    ) -> Result<Option<u64>, MissingPage> {
        let Some(mut symbol) = self.half(file, table.bucket(sysv_hash(name)))? else {
            return Ok(None);
        };
        for _ in 0..SYSV_CHAIN_MAX {
            let Some(next) = table.next(symbol).filter(|_| symbol != 0) else { break };
            let found = self.defined(file, dynamic, symbol, name)?;
            if found.is_some() {
                return Ok(found);
            }
            let Some(then) = self.half(file, next)? else { break };
            symbol = then;
        }
        Ok(None)
    }

    /// The value of a symbol, if it has this name and is defined in this file.
    fn defined(
        &self,
        file: &mut FileBytes<'_, '_>,
        dynamic: &Dynamic,
        index: u32,
        name: &[u8],
    ) -> Result<Option<u64>, MissingPage> {
        let symbol = self.bytes(file, dynamic.symbol(index), SYMBOL_BYTES)?;
        let Some(symbol) = symbol.and_then(Symbol::parse) else { return Ok(None) };
        let place = dynamic.strings.wrapping_add(symbol.name.into());
        debug_assert!(name.len() < SYMBOL_NAME_BYTES_MAX);
        let Some(text) = self.bytes(file, place, name.len() as u64 + 1)? else { return Ok(None) };
        let is_it = text.strip_suffix(&[0]) == Some(name) && symbol.is_defined;
        Ok(is_it.then_some(symbol.value))
    }
}
