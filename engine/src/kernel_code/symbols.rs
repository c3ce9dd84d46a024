//! Names of the kernel's addresses, from its own table of symbols (kernel/kallsyms.c).
//!
//! The table is read when a violation is reported, which is rare: nothing of it is kept. Modules
//! have tables of their own, which are not read.
//!
//! All of it is in the machine's memory: a forged table gives wrong names, or none.

use core::fmt::Write as _;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::source::{MemorySource, ReadOutcome, ReadRequest};
use panoptes_profiles::kallsyms::search::{KallsymsAddresses, Tables};
use panoptes_profiles::kallsyms::{SYMBOLS_MAX, Scheme};

use super::names::SymbolText;
use crate::walk::Kernel;

/// Bytes that are read at once.
const PART_BYTES: usize = 8192;
/// Bytes of a token, at most.
const TOKEN_BYTES: u32 = 64;
/// Maximum number of symbols at one address.
const ALIASES_MAX: u32 = 64;

/// The name of the symbol at an address or before it, with the distance; `None` if the address is
/// none of the image, or if the table cannot be read.
pub fn symbol_at(
    source: &mut dyn MemorySource,
    kernel: &Kernel,
    address: KernelVa,
) -> Option<SymbolText> {
    let tables = kernel.names.as_ref()?;
    let count = tables.symbols.min(SYMBOLS_MAX);
    if !kernel.space.image.contains(&address.0) || count == 0 {
        return None;
    }
    let mut table = SymbolTable { source, kernel, tables, part: [0; PART_BYTES], count };
    let (place, scheme) = table.encoding()?;
    let index = table.index_of(place, scheme, address)?;
    let start = table.address(place, scheme, index)?;
    let mut text = table.name(index)?;
    let offset = address.0.wrapping_sub(start.0);
    if offset != 0 {
        write!(text, "+{offset:#x}").ok()?;
    }
    Some(text)
}

struct SymbolTable<'a> {
    source: &'a mut dyn MemorySource,
    kernel: &'a Kernel,
    tables: &'a Tables,
    part: [u8; PART_BYTES],
    count: u32,
}

impl SymbolTable<'_> {
    /// Reads bytes of the image.
    fn read(&mut self, at: KernelVa, length: u32) -> Option<&[u8]> {
        let physical = self.kernel.space.linear_all(at, length)?;
        let mut request = [ReadRequest::new(physical, length, 0)];
        self.source.read_batch(&mut request, &mut self.part);
        let is_read = request[0].outcome == ReadOutcome::Read;
        self.part.get(..length as usize).filter(|_| is_read)
    }

    /// The address of a symbol.
    fn address(
        &mut self,
        place: KallsymsAddresses,
        scheme: Scheme,
        index: u32,
    ) -> Option<KernelVa> {
        let at = place.at.plus(u64::from(index) * u64::from(place.width));
        let bytes = self.read(at, place.width)?;
        // A symbol's own place is the base of one encoding.
        scheme.address(bytes, at, place.base, 0)
    }

    /// The place and encoding of the addresses in which a known symbol has its own.
    fn encoding(&mut self) -> Option<(KallsymsAddresses, Scheme)> {
        let known = self.kernel.symbols.stext?;
        self.tables.addresses.into_iter().find_map(|place| {
            let fits = |scheme: &Scheme| (*scheme == Scheme::Absolute) == (place.width == 8);
            Scheme::ALL.into_iter().filter(fits).find_map(|scheme| {
                let index = self.index_of(place, scheme, known)?;
                let is_it = self.address(place, scheme, index) == Some(known);
                is_it.then_some((place, scheme))
            })
        })
    }

    /// The index of the first symbol at an address, or else of the last one before it.
    fn index_of(
        &mut self,
        place: KallsymsAddresses,
        scheme: Scheme,
        address: KernelVa,
    ) -> Option<u32> {
        // The address of `low` is not behind, that of `high` is.
        let (mut low, mut high) = (0, self.count);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.address(place, scheme, middle)? <= address {
                low = middle;
            } else {
                high = middle;
            }
        }
        let start = self.address(place, scheme, low)?;
        for _ in 0..ALIASES_MAX {
            let Some(before) = low.checked_sub(1) else { break };
            if self.address(place, scheme, before)? != start {
                break;
            }
            low = before;
        }
        (start <= address).then_some(low)
    }

    /// The name of a symbol, without its type. The names before it are passed over.
    fn name(&mut self, index: u32) -> Option<SymbolText> {
        let mut at = self.tables.names;
        let mut left = index;
        loop {
            let bytes = self.read(at, PART_BYTES as u32)?;
            let mut offset = 0;
            while let Some((header, length)) = encoded_length(bytes.get(offset..)?) {
                let end = offset + header + length;
                if left == 0 {
                    let mut tokens = [0; 255];
                    let length = length.min(tokens.len());
                    let encoded = bytes.get(offset + header..offset + header + length);
                    let Some(encoded) = encoded else { break };
                    tokens.get_mut(..length)?.copy_from_slice(encoded);
                    return self.expand(tokens.get(..length)?);
                }
                if end > bytes.len() {
                    break;
                }
                (offset, left) = (end, left - 1);
            }
            // A name is shorter than a part, so each part has one at least.
            if offset == 0 {
                return None;
            }
            at = at.plus(offset as u64);
        }
    }

    /// Expands a name from its tokens.
    fn expand(&mut self, tokens: &[u8]) -> Option<SymbolText> {
        let mut text = SymbolText::new();
        let mut is_first = true;
        for &token in tokens {
            let at = self.tables.token_index.plus(2 * u64::from(token));
            let offset = self.read(at, 2)?;
            let offset = u16::from_le_bytes(offset.first_chunk().copied()?);
            let at = self.tables.token_table.plus(offset.into());
            for &letter in self.read(at, TOKEN_BYTES)?.iter().take_while(|&&letter| letter != 0) {
                if !letter.is_ascii_graphic() {
                    return None;
                }
                // The first letter is the type. Long names are cut, so that a distance has room.
                if !is_first && text.remaining_capacity() > 19 {
                    text.push(char::from(letter));
                }
                is_first = false;
            }
        }
        (!text.is_empty()).then_some(text)
    }
}

/// Bytes of the length of a name, and of the name; `None` if not all of the length is there.
fn encoded_length(bytes: &[u8]) -> Option<(usize, usize)> {
    let (&low, rest) = bytes.split_first()?;
    if low & 0x80 == 0 {
        return (low != 0).then_some((1, usize::from(low)));
    }
    let high = rest.first()?;
    Some((2, usize::from(low & 0x7f) | usize::from(*high) << 7))
}
