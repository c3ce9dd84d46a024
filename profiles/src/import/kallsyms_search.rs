//! Finds kallsyms' tables in a kernel's image where nothing names them.
//!
//! For: images that are not running (`vmlinuz`), whose VMCOREINFO is not filled in yet, and which are at hand
//! whole. In memory `kallsyms::search` does with fewer reads, but knows fewer orders: in v6.2 and v6.3, and in
//! v6.1's later stable releases, the order of names (`kallsyms_seqs_of_names`) lies before the tokens, where
//! VMCOREINFO names everything. The table of tokens
//! has all ten digits in a row, as names use each; the index behind it proves it. From there the names are
//! found backwards, by their count that stands before them, and the addresses on either side: before the
//! names up to v6.3, behind the index since Linux commit 404bad70fcf7 ("scripts/kallsyms: change the output
//! order") (in v6.4).

use memchr::memmem;
use panoptes_decoders::address::KernelVa;
use panoptes_decoders::layout::{u32_at, u64_at};

use crate::kallsyms::{Kallsyms, NAME_BYTES_MAX, SYMBOLS_MAX, Scheme, TOKEN_INDEX_BYTES};
use crate::symbols::Symbols;

/// The digits' tokens, numbers 48 to 57.
const DIGITS: &[u8] = b"0\x001\x002\x003\x004\x005\x006\x007\x008\x009\0";

/// Fewest symbols of a kernel that is believed.
const SYMBOLS_MIN: u32 = 1000;

/// Most places that look like the digits and are looked into.
const PLACES_MAX: usize = 1 << 10;

/// Most counts that fit and are tried by reading the names behind them.
const COUNTS_MAX: usize = 1 << 12;

/// How the tables are aligned (`ALGN`, scripts/kallsyms.c, for 64 bits).
const ALIGNMENT: usize = 8;

/// The image begins at a multiple of this, and `_text` and `_stext` are less apart.
const IMAGE_ALIGNMENT: u64 = 2 << 20;

/// Largest image.
const IMAGE_BYTES_MAX: u64 = 1 << 30;

/// Looks for the tables in `piece`, which lies at `start` in the kernel. `None` if they are not there, or do
/// not hold together.
pub(crate) fn search(piece: &[u8], start: u64) -> Option<Symbols> {
    memmem::find_iter(piece, DIGITS)
        .take(PLACES_MAX)
        .filter_map(|digits| Tokens::around(piece, digits))
        .find_map(|tokens| tokens.symbols(piece, start))
}

/// Where the tokens and their index lie.
struct Tokens {
    table: usize,
    index: usize,
}

impl Tokens {
    /// The tables that the digits at an offset belong to.
    fn around(piece: &[u8], digits: usize) -> Option<Self> {
        // Back over the 48 tokens before them; what stands before the first one is unknown.
        let mut ends = memchr::memrchr_iter(0, piece.get(..digits)?);
        let first_end = ends.nth(47)?;
        let lowest = ends.next().map_or(0, |end| end + 1).max(first_end.saturating_sub(32));
        let mut table = lowest.next_multiple_of(ALIGNMENT);
        while table <= first_end {
            if let Some(index) = index_of(piece, table) {
                return Some(Self { table, index });
            }
            table += ALIGNMENT;
        }
        None
    }

    fn symbols(&self, piece: &[u8], start: u64) -> Option<Symbols> {
        let token_table = piece.get(self.table..self.index)?;
        let token_index: &[u8; TOKEN_INDEX_BYTES] =
            piece.get(self.index..)?.first_chunk::<TOKEN_INDEX_BYTES>()?;
        let mut tries = 0;
        let mut names_at = self.table & !(ALIGNMENT - 1);
        while let Some(at) = names_at.checked_sub(ALIGNMENT) {
            names_at = at;
            let room = self.table - names_at;
            if room > SYMBOLS_MAX as usize * 64 {
                return None;
            }
            let count_at = names_at.checked_sub(ALIGNMENT)?;
            let count = u32_at(piece, count_at);
            // Each name takes two bytes and more, and the count is followed by padding.
            if !(SYMBOLS_MIN..=SYMBOLS_MAX).contains(&count)
                || count as usize > room / 2
                || u32_at(piece, count_at + 4) != 0
            {
                continue;
            }
            tries += 1;
            if tries > COUNTS_MAX {
                return None;
            }
            let names = piece.get(names_at..self.table)?;
            let table = Kallsyms::new(count, names, token_table, token_index).ok()?;
            let Ok(indexes) = table.find(Symbols::NAMES) else { continue };
            let addresses = Addresses { piece, start, count, count_at, behind: self.index };
            if let Some(symbols) = addresses.of(&indexes) {
                return Some(symbols);
            }
        }
        None
    }
}

/// Where the index of the tokens at `table` lies, if there are 256 tokens and it fits them.
fn index_of(piece: &[u8], table: usize) -> Option<usize> {
    let mut offsets = Vec::with_capacity(256);
    let mut at = table;
    for _ in 0..256 {
        offsets.push(u16::try_from(at - table).ok()?);
        let rest = piece.get(at..)?;
        let rest = rest.get(..NAME_BYTES_MAX.min(rest.len()))?;
        at += memchr::memchr(0, rest)? + 1;
    }
    let index = at.next_multiple_of(ALIGNMENT);
    let found = piece.get(index..index.checked_add(TOKEN_INDEX_BYTES)?)?;
    let fits = found
        .as_chunks::<2>()
        .0
        .iter()
        .zip(&offsets)
        .all(|(found, offset)| u16::from_le_bytes(*found) == *offset);
    fits.then_some(index)
}

/// What is needed to find the addresses.
struct Addresses<'a> {
    piece: &'a [u8],
    start: u64,
    count: u32,
    /// Offset of the count of symbols.
    count_at: usize,
    /// Offset of the tokens' index.
    behind: usize,
}

impl Addresses<'_> {
    /// All wanted symbols' addresses, kept in the first way that makes sense.
    fn of(&self, indexes: &[Option<u32>]) -> Option<Symbols> {
        let bytes = (self.count as usize).checked_mul(4)?;
        let padded = bytes.next_multiple_of(ALIGNMENT);
        let before_base = self.count_at.checked_sub(ALIGNMENT);
        let before = before_base.and_then(|base| Some((base.checked_sub(padded)?, base)));
        let behind = (self.behind + TOKEN_INDEX_BYTES).next_multiple_of(ALIGNMENT);
        let without_base = self.count_at.checked_sub(padded);
        let places = [
            before,
            Some((behind, behind.checked_add(padded)?)),
            // Without a base the other tables stand where it would.
            without_base.map(|at| (at, at)),
        ];
        places.into_iter().flatten().find_map(|(at, base_at)| {
            let offsets = self.piece.get(at..at.checked_add(bytes)?)?;
            let base = u64_at(self.piece, base_at);
            let place = KernelVa(self.start.wrapping_add(at as u64));
            [Scheme::AbsolutePerCpu, Scheme::Relative, Scheme::SelfRelative]
                .into_iter()
                .find_map(|scheme| self.by(scheme, offsets, place, base, indexes))
        })
    }

    fn by(
        &self,
        scheme: Scheme,
        offsets: &[u8],
        place: KernelVa,
        base: u64,
        indexes: &[Option<u32>],
    ) -> Option<Symbols> {
        let mut symbols = Symbols::default();
        for (name, index) in Symbols::NAMES.iter().zip(indexes) {
            let address = index.and_then(|index| scheme.address(offsets, place, base, index));
            if let Some(field) = symbols.field_mut(name) {
                *field = address;
            }
        }
        let stext = symbols.stext?.0;
        let text = symbols.text.map_or(stext & !(IMAGE_ALIGNMENT - 1), |at| at.0);
        // Without `CONFIG_KALLSYMS_ALL` there are only functions.
        let etext = symbols.etext.map_or(stext + 1, |at| at.0);
        let end = symbols.end.map_or(etext + 1, |at| at.0);
        let holds = text <= stext
            && stext - text < IMAGE_ALIGNMENT
            && stext < etext
            && etext < end
            && end - text < IMAGE_BYTES_MAX
            // The image is as large as what was given of it, or larger: it ends in what is zero.
            && (symbols.end.is_none() || end - text >= self.count_at as u64);
        if !holds {
            return None;
        }
        // An image that is relocated when it starts may not say where it was linked: what counts is how
        // far symbols are from its beginning.
        let image_start = self.start & !(IMAGE_ALIGNMENT - 1);
        let moved = image_start.wrapping_sub(text & !(IMAGE_ALIGNMENT - 1));
        for name in Symbols::NAMES {
            if let Some(Some(address)) = symbols.field_mut(name) {
                *address = KernelVa(address.0.wrapping_add(moved));
            }
        }
        Some(symbols)
    }
}
