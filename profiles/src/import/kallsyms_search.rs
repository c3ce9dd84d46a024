//! Finds symbols in the image of a kernel that is not running, where nothing names the tables of
//! kallsyms.
//!
//! For: complete images (`vmlinuz`), whose VMCOREINFO is not filled in yet.
//! [`search`](mod@crate::kallsyms::search) finds the tables, as in memory. Several places and
//! encodings of the addresses are possible: the right ones yield the image's own bounds.

use std::ops::Range;

use memchr::memmem;
use panoptes_decoders::address::KernelVa;
use panoptes_decoders::source::PAGE_BYTES;

use crate::kallsyms::search::{self, DIGITS, TABLES_MAX, TOKEN_PLACES_MAX, Tables};
use crate::kallsyms::{Kallsyms, TOKEN_INDEX_BYTES};
use crate::symbols::Symbols;

/// Alignment of the image's start; `_text` and `_stext` are closer together than this.
const IMAGE_ALIGNMENT: u64 = 2 << 20;

/// Largest size of an image in bytes.
const IMAGE_BYTES_MAX: u64 = 1 << 30;

/// Searches for the tables in `bytes`, which begin at address `start` of the kernel. `None` if the
/// tables are missing or inconsistent.
pub(crate) fn search(bytes: &[u8], start: u64) -> Option<Symbols> {
    let piece = KernelPart { bytes, range: start..start.checked_add(bytes.len() as u64)? };
    memmem::find_iter(bytes, DIGITS)
        .take(TOKEN_PLACES_MAX as usize)
        .filter_map(|digits| {
            let read = &mut |at, length| piece.prefix(at, length).to_vec();
            search::at_digits(KernelVa(start + digits as u64), &piece.range, read)
        })
        .take(TABLES_MAX as usize)
        .find_map(|tables| piece.symbols(&tables))
}

/// A part of a kernel.
struct KernelPart<'a> {
    bytes: &'a [u8],
    /// Its addresses.
    range: Range<u64>,
}

impl KernelPart<'_> {
    /// Up to `length` bytes from an address on.
    fn prefix(&self, at: KernelVa, length: usize) -> &[u8] {
        let start =
            at.0.checked_sub(self.range.start).and_then(|start| usize::try_from(start).ok());
        let rest = start.and_then(|start| self.bytes.get(start..)).unwrap_or(&[]);
        &rest[..length.min(rest.len())]
    }

    /// The addresses of all required symbols, in the first plausible encoding.
    fn symbols(&self, tables: &Tables) -> Option<Symbols> {
        let names = self.prefix(tables.names, self.bytes.len());
        let token_table = self.prefix(tables.token_table, self.bytes.len());
        let token_index = self.prefix(tables.token_index, TOKEN_INDEX_BYTES).first_chunk()?;
        let table = Kallsyms::new(tables.symbols, names, token_table, token_index).ok()?;
        let indexes = table.find(Symbols::NAMES).ok()?;
        let read = |at, length| {
            let bytes = self.prefix(at, length);
            (bytes.len() == length).then(|| bytes.to_vec())
        };
        tables.find_symbols(&indexes, read, |symbols| self.holding(&symbols, tables))
    }

    /// The symbols that one encoding of addresses yields, if the image's bounds are plausible.
    fn holding(&self, symbols: &Symbols, tables: &Tables) -> Option<Symbols> {
        let stext = symbols.stext?.0;
        let text = symbols.text.map_or(stext & !(IMAGE_ALIGNMENT - 1), |at| at.0);
        // Without `CONFIG_KALLSYMS_ALL` there are only functions.
        let etext = symbols.etext.map_or(stext.saturating_add(1), |at| at.0);
        let end = symbols.end.map_or(etext.saturating_add(1), |at| at.0);
        // Both are at the start of sections, so they are page-aligned. Without this check, other
        // tables of ascending numbers pass for the addresses (on Debian's arm64 6.12 and 7.2).
        let begins_page = |at: KernelVa| at.0.is_multiple_of(PAGE_BYTES);
        let holds = begins_page(KernelVa(stext))
            && symbols.text.is_none_or(begins_page)
            && text <= stext
            && stext - text < IMAGE_ALIGNMENT
            && stext < etext
            && etext < end
            && end - text < IMAGE_BYTES_MAX
            // The image is at least as large as the part given: its end is zeros.
            && (symbols.end.is_none() || end - text >= tables.names.0 - self.range.start);
        if !holds {
            return None;
        }
        // The link address of an image that is relocated when it starts may be absent. Only the
        // distances of symbols from its beginning count.
        let image_start = self.range.start & !(IMAGE_ALIGNMENT - 1);
        let moved = image_start.wrapping_sub(text & !(IMAGE_ALIGNMENT - 1));
        Some(symbols.iter().map(|(_, address)| address.map(|at| at.plus(moved))).collect())
    }
}
