//! Finds the tables of kallsyms by their structure, if nothing names them: VMCOREINFO lacks them
//! before v6.0.
//!
//! The tokens are recognizable: characters of names stand for themselves, so the texts of tokens 48
//! to 57 are the digits. After the tokens is their index, which must match them. Before the tokens
//! are the markers (the offset of every 256th name) and the names, which must match each other.
//! Before or after all these, depending on the kernel's version, are the addresses.
//!
//! Between markers and tokens there can be the order of names (`kallsyms_seqs_of_names`), from
//! Linux commit 60443c88f3a8 ("kallsyms: Improve the performance of kallsyms_lookup_name()") (in
//! v6.2 and later stable releases of v6.1) until commit 404bad70fcf7 ("scripts/kallsyms: change the
//! output order") (in v6.4), which moved it and the addresses to the end. The layout is from
//! `write_src` (scripts/kallsyms.c), and was checked on Debian's 5.10, 6.1, 6.12 and 7.2, of which
//! 6.1 has that order. Each table is aligned to eight bytes (`ALGN`), in 7.2 to four.

use std::ops::{Range, RangeInclusive};

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::layout::{u32_at, u64_at};

use super::{KALLSYMS_NAME_BYTES_MAX, SYMBOLS_MAX, Scheme, TOKEN_INDEX_BYTES, encoded_name};
use crate::symbols::Symbols;

/// Texts of the tokens for the first eight digits.
pub const DIGITS: &[u8; 16] = b"0\x001\x002\x003\x004\x005\x006\x007\x00";

/// The token for `0`.
const ZERO: usize = b'0' as usize;

/// Maximum size of the token table that is accepted: 256 short texts make about 1 KB.
const TOKENS_BYTES_MAX: u64 = 8 << 10;

/// Number of symbols per marker.
const SYMBOLS_A_MARKER: u32 = 256;

/// Maximum number of markers.
const MARKERS_MAX: u64 = (SYMBOLS_MAX / SYMBOLS_A_MARKER) as u64;

/// Maximum size of the names between two markers: each name follows a length of at most two bytes.
const MARKED_BYTES_MAX: u32 = SYMBOLS_A_MARKER * (KALLSYMS_NAME_BYTES_MAX as u32 + 2);

/// Maximum number of values that are tried as the number of symbols: the first possible one is
/// right, except by coincidence.
const COUNTS_MAX: u32 = 8;

/// Alignment of tables: v7.x aligns to the size of their numbers, earlier kernels to twice that.
const TABLE_ALIGNMENT: u64 = 4;

/// Maximum number of places in an image that are checked for tokens. There is one, but a forged
/// image may consist of nothing else, and each costs three MB of reading.
pub(crate) const TOKEN_PLACES_MAX: u32 = 64;

/// Maximum number of tables in an image that are tried: each can cost a pass over a million names.
pub(crate) const TABLES_MAX: u32 = 4;

/// Reads up to so many bytes from an address on.
pub type KernelReadFn<'r> = dyn FnMut(KernelVa, usize) -> Vec<u8> + 'r;

/// The addresses of the tables.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tables {
    /// Number of symbols.
    pub symbols: u32,
    /// `kallsyms_names`
    pub names: KernelVa,
    /// `kallsyms_token_table`
    pub token_table: KernelVa,
    /// `kallsyms_token_index`
    pub token_index: KernelVa,
    /// Possible places of the addresses: only the addresses themselves show which one is right.
    pub addresses: [KallsymsAddresses; 4],
}

/// A possible place of the addresses.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct KallsymsAddresses {
    /// The first address.
    pub at: KernelVa,
    /// Size of each in bytes: 4 for an offset, 8 for an address.
    pub width: u32,
    /// `kallsyms_relative_base`, the base of the offsets; zero without one.
    pub base: u64,
}

impl Tables {
    /// The first symbols that `accept` returns, in the possible places and encodings of the
    /// addresses. `indexes` are those of the required names; `read` returns a whole range.
    pub fn find_symbols(
        &self,
        indexes: &[Option<u32>],
        mut read: impl FnMut(KernelVa, usize) -> Option<Vec<u8>>,
        accept: impl Fn(Symbols) -> Option<Symbols>,
    ) -> Option<Symbols> {
        let mut tried = Vec::new();
        for place in self.addresses {
            if tried.contains(&place) {
                continue;
            }
            tried.push(place);
            let length = self.symbols as usize * place.width as usize;
            let Some(bytes) = read(place.at, length) else { continue };
            let fits = |scheme: &Scheme| (*scheme == Scheme::Absolute) == (place.width == 8);
            let found = Scheme::ALL.into_iter().filter(fits).find_map(|scheme| {
                let address = |index| scheme.address(&bytes, place.at, place.base, index);
                accept(indexes.iter().map(|index| index.and_then(address)).collect())
            });
            if found.is_some() {
                return found;
            }
        }
        None
    }
}

/// Tries a place in the image that contains [`DIGITS`].
pub fn at_digits(
    digits: KernelVa,
    image: &Range<u64>,
    read: &mut KernelReadFn<'_>,
) -> Option<Tables> {
    let (token_table, token_index) = tokens(digits, image, read)?;
    let (symbols, names) = names(token_table, image, read)?;
    let mut tables = Tables { symbols, names, token_table, token_index, ..Tables::default() };
    let align = |bytes: u64| bytes.next_multiple_of(8);
    let (offsets, words) = (align(u64::from(symbols) * 4), u64::from(symbols) * 8);
    let mut number = |at: KernelVa| u64_at(&read(at, 8), 0);
    let count = names.minus(8);
    let behind = token_index.plus(TOKEN_INDEX_BYTES as u64);
    tables.addresses = [
        // Until v6.3 before the number of symbols: offsets and their base, or addresses.
        KallsymsAddresses { at: count.minus(8 + offsets), width: 4, base: number(count.minus(8)) },
        KallsymsAddresses { at: count.minus(words), width: 8, base: 0 },
        // Since v6.4 after the tokens.
        KallsymsAddresses { at: behind, width: 4, base: number(behind.plus(offsets)) },
        KallsymsAddresses { at: behind, width: 8, base: 0 },
    ];
    Some(tables)
}

/// The token table around `digits`, and the token index after it.
fn tokens(
    digits: KernelVa,
    image: &Range<u64>,
    read: &mut KernelReadFn<'_>,
) -> Option<(KernelVa, KernelVa)> {
    let first = digits.0.saturating_sub(TOKENS_BYTES_MAX).max(image.start);
    let before = digits.0.checked_sub(first)? as usize;
    let bytes = read(KernelVa(first), before + TOKENS_BYTES_MAX as usize + TOKEN_INDEX_BYTES);
    let mut at =
        digits.0.checked_add(DIGITS.len() as u64)?.checked_next_multiple_of(TABLE_ALIGNMENT)?;
    loop {
        let start = (at - first) as usize;
        let index = bytes.get(start..start + TOKEN_INDEX_BYTES)?;
        let number = |token: usize| {
            index
                .get(token * 2..)
                .and_then(<[u8]>::first_chunk)
                .map_or(0, |b| u16::from_le_bytes(*b))
        };
        let table = before.checked_sub(usize::from(number(ZERO)));
        let found = number(0) == 0
            && table.is_some_and(|table| {
                // Every token but the first begins after the NUL of the previous one. The last one
                // ends where the index begins, except for padding.
                let ends = (1..256).all(|token| {
                    let offset = usize::from(number(token));
                    offset > usize::from(number(token - 1))
                        && bytes.get(table + offset - 1) == Some(&0)
                });
                let last = table + usize::from(number(255));
                let rest = bytes.get(last..start).unwrap_or(&[]);
                let length = memchr::memchr(0, rest);
                ends && length.is_some_and(|length| rest.len() - length <= 8)
            });
        if let Some(table) = table.filter(|_| found) {
            let table = first + table as u64;
            let aligned = table.is_multiple_of(TABLE_ALIGNMENT);
            return aligned.then_some((KernelVa(table), KernelVa(at)));
        }
        at = at.checked_add(TABLE_ALIGNMENT)?;
    }
}

/// The markers: the offset of every 256th name.
struct Markers {
    /// Their address.
    at: u64,
    /// The marker after the first, which is zero.
    second: u32,
    last: u32,
    /// The possible numbers of symbols, by the number of markers and the data after them.
    symbols: RangeInclusive<u32>,
}

/// The number of symbols and the address of their names, by the markers before the tokens.
fn names(
    token_table: KernelVa,
    image: &Range<u64>,
    read: &mut KernelReadFn<'_>,
) -> Option<(u32, KernelVa)> {
    let room = token_table.0.checked_sub(image.start)?.min(MARKERS_MAX * 4 + 8);
    let bytes = read(token_table.minus(room), room as usize);
    if bytes.len() as u64 != room {
        return None;
    }
    if let Some(found) = markers_at_end(&bytes, token_table)
        && let Some(found) = names_before(&found, image, read)
    {
        return Some(found);
    }
    // The order of names has a number of three bytes for every symbol.
    let room = token_table.0.checked_sub(image.start)?;
    let room = room.min(order_bytes(SYMBOLS_MAX) + MARKERS_MAX * 4 + 8) & !7;
    let bytes = read(token_table.minus(room), room as usize);
    if bytes.len() as u64 != room {
        return None;
    }
    let mut tries = 0;
    for gap in (8..room).step_by(8) {
        let Some(found) = markers_before_order(&bytes, token_table, gap) else { continue };
        if let Some(found) = names_before(&found, image, read) {
            return Some(found);
        }
        tries += 1;
        if tries == COUNTS_MAX {
            break;
        }
    }
    None
}

/// Size in bytes of the order of names (`kallsyms_seqs_of_names`), with padding.
const fn order_bytes(symbols: u32) -> u64 {
    (symbols as u64 * 3).next_multiple_of(8)
}

/// The markers at the end of `bytes`, which the tokens follow.
fn markers_at_end(bytes: &[u8], token_table: KernelVa) -> Option<Markers> {
    let marker = |index: usize| u32_at(bytes, index * 4);
    // Backwards from the last one, after which there may be padding, to the first, which is zero.
    let mut last = (bytes.len() / 4).checked_sub(1)?;
    if marker(last) == 0 {
        last = last.checked_sub(1)?;
    }
    let mut first = last;
    while marker(first) != 0 {
        first = first.checked_sub(1)?;
        if !follows(marker(first), marker(first + 1)) {
            return None;
        }
    }
    let count = (last - first + 1) as u32;
    let at = token_table.0 - bytes.len() as u64 + first as u64 * 4;
    // A kernel has more symbols than one marker covers.
    if count < 2 || !at.is_multiple_of(TABLE_ALIGNMENT) {
        return None;
    }
    let least = (count - 1).checked_mul(SYMBOLS_A_MARKER)?;
    let symbols = least + 1..=least + SYMBOLS_A_MARKER;
    Some(Markers { at, second: marker(first + 1), last: marker(last), symbols })
}

/// The markers that are followed by `gap` bytes of the order of names, and then by the tokens at
/// the end of `bytes`.
fn markers_before_order(bytes: &[u8], token_table: KernelVa, gap: u64) -> Option<Markers> {
    let most = u32::try_from(gap / 3).ok()?;
    let least = u32::try_from((gap - 8) / 3 + 1).ok()?;
    // At a multiple of 256 symbols, two numbers of markers are possible: this is the higher one.
    let count = most.div_ceil(SYMBOLS_A_MARKER);
    let least = least.max((count - 1) * SYMBOLS_A_MARKER + 1);
    if count < 2 {
        return None;
    }
    let before = gap + (u64::from(count) * 4).next_multiple_of(8);
    let start = (bytes.len() as u64).checked_sub(before)? as usize;
    let marker = |index: u32| u32_at(bytes, start + index as usize * 4);
    let ascend =
        marker(0) == 0 && (1..count).all(|index| follows(marker(index - 1), marker(index)));
    ascend.then(|| Markers {
        at: token_table.0 - before,
        second: marker(1),
        last: marker(count - 1),
        symbols: least..=most,
    })
}

/// Whether 256 names fit between two markers.
fn follows(before: u32, marker: u32) -> bool {
    let between = marker.checked_sub(before);
    between.is_some_and(|bytes| (2 * SYMBOLS_A_MARKER..=MARKED_BYTES_MAX).contains(&bytes))
}

/// The number of symbols and the address of their names, which end before the markers.
fn names_before(
    markers: &Markers,
    image: &Range<u64>,
    read: &mut KernelReadFn<'_>,
) -> Option<(u32, KernelVa)> {
    let end = markers.at.checked_sub(u64::from(markers.last))?;
    // The names of the last marker fill the space between, so the names begin that much earlier.
    // The number of symbols, padded to eight bytes or not, is before the names.
    let end = end & !(TABLE_ALIGNMENT - 1);
    let slack =
        u64::from(MARKED_BYTES_MAX).min(end.checked_sub(image.start)?) & !(TABLE_ALIGNMENT - 1);
    let window_at = end - slack;
    let window = read(KernelVa(window_at), slack as usize);
    let mut tries = 0;
    for back in (0..=slack).step_by(TABLE_ALIGNMENT as usize) {
        let Some(before) = window.get(..(slack - back) as usize) else { continue };
        let number = |bytes: Option<&[u8; 4]>| bytes.map(|bytes| u32::from_le_bytes(*bytes));
        let (near, far) = match before.last_chunk::<8>() {
            Some(both) => (number(both.last_chunk()), number(both.first_chunk())),
            None => (number(before.last_chunk()), None),
        };
        let count = if near == Some(0) { far } else { near };
        let Some(count) = count.filter(|count| markers.symbols.contains(count)) else { continue };
        tries += 1;
        let at = KernelVa(end - back);
        if agree(at, count, markers, read) {
            return Some((count, at));
        }
        if tries == COUNTS_MAX {
            break;
        }
    }
    None
}

/// Whether `symbols` names begin at `names`: the first 256 end at the second marker, and the last
/// ones at the markers, except for padding.
fn agree(names: KernelVa, symbols: u32, markers: &Markers, read: &mut KernelReadFn<'_>) -> bool {
    let first = read(names, markers.second as usize);
    if skip(&first, SYMBOLS_A_MARKER) != Some(markers.second as usize) {
        return false;
    }
    let last = u64::from(markers.last);
    let Some(room) = (markers.at - names.0).checked_sub(last) else { return false };
    let rest = read(names.plus(last), room as usize);
    let left = (symbols - 1) % SYMBOLS_A_MARKER + 1;
    // The rest after the last name is padding.
    skip(&rest, left).is_some_and(|length| rest.len() as u64 == room && rest.len() - length < 8)
}

/// Size in bytes of so many names.
fn skip(bytes: &[u8], names: u32) -> Option<usize> {
    let mut rest = bytes;
    for _ in 0..names {
        let (name, after) = encoded_name(rest)?;
        if name.is_empty() {
            return None;
        }
        rest = after;
    }
    Some(bytes.len() - rest.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Kallsyms;
    use super::super::kallsyms_writer::compress;
    use super::*;

    const BASE: u64 = 0xffff_ffff_8200_0000;

    /// The order of the tables.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    enum Order {
        /// Until v6.1.
        AddressesFirst,
        /// v6.2 and v6.3: the order of names is before the tokens.
        NamesOrdered,
        /// Since v6.4.
        AddressesLast,
        /// v7.x: the same, aligned to four bytes and without a base.
        Narrow,
    }

    impl Order {
        const ALL: [Self; 4] =
            [Self::AddressesFirst, Self::NamesOrdered, Self::AddressesLast, Self::Narrow];

        fn addresses_last(self) -> bool {
            matches!(self, Self::AddressesLast | Self::Narrow)
        }
    }

    struct Image {
        bytes: Vec<u8>,
        expected: Tables,
    }

    impl Image {
        /// An image with the tables of so many symbols, some of them long.
        fn new(symbols: u32, order: Order) -> Self {
            let names: Vec<String> = (0..symbols)
                .map(|at| format!("Tinit_task{}{at}", "x".repeat(at as usize * 7 % 150)))
                .collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let tables = compress(&names);
            let alignment = if order == Order::Narrow { 4 } else { 8 };
            let mut bytes = vec![0xa5; if order == Order::Narrow { 4092 } else { 4096 }];
            let mut put = |part: &[u8]| {
                while !bytes.len().is_multiple_of(alignment) {
                    bytes.push(0);
                }
                let at = KernelVa(BASE + bytes.len() as u64);
                bytes.extend(part);
                at
            };
            let offsets: Vec<u8> = (0..symbols).flat_map(|at| (at * 16).to_le_bytes()).collect();
            let base = 0xffff_ffff_8100_0000_u64;
            let mut addresses = None;
            if !order.addresses_last() {
                addresses = Some(put(&offsets));
                put(&base.to_le_bytes());
            }
            put(&symbols.to_le_bytes());
            let names_at = put(&tables.names);
            let (mut markers, mut rest) = (Vec::new(), &tables.names[..]);
            for symbol in 0..symbols {
                if symbol % SYMBOLS_A_MARKER == 0 {
                    let offset = (tables.names.len() - rest.len()) as u32;
                    markers.extend(offset.to_le_bytes());
                }
                rest = encoded_name(rest).unwrap().1;
            }
            put(&markers);
            if order == Order::NamesOrdered {
                // Big-endian numbers, as written by `write_src`.
                let numbers =
                    (0..symbols).rev().flat_map(|at| at.to_be_bytes().into_iter().skip(1));
                put(&numbers.collect::<Vec<u8>>());
            }
            let token_table = put(&tables.token_table);
            let token_index = put(&tables.token_index);
            if order.addresses_last() {
                addresses = Some(put(&offsets));
                if order != Order::Narrow {
                    put(&base.to_le_bytes());
                }
            }
            put(&[0x5a; 16]);
            let width = 4;
            let right = KallsymsAddresses { at: addresses.unwrap(), width, base };
            let expected = Tables {
                symbols,
                names: names_at,
                token_table,
                token_index,
                addresses: [right; 4],
            };
            Self { bytes, expected }
        }

        fn search(&self) -> Option<Tables> {
            let digits = memchr::memmem::find(&self.bytes, DIGITS)?;
            let mut read = |at: KernelVa, length: usize| {
                let start = at.0.wrapping_sub(BASE).min(self.bytes.len() as u64) as usize;
                let end = start.saturating_add(length).min(self.bytes.len());
                self.bytes[start..end].to_vec()
            };
            let image = BASE..BASE + self.bytes.len() as u64;
            at_digits(KernelVa(BASE + digits as u64), &image, &mut read)
        }
    }

    #[test]
    fn tables_are_found_in_every_order() {
        for symbols in [257, 258, 259, 511, 512, 513, 1025, 3000] {
            for order in Order::ALL {
                let image = Image::new(symbols, order);
                let found = image.search().unwrap_or_else(|| panic!("{symbols} {order:?}"));
                let expected = image.expected;
                assert_eq!(found.symbols, symbols, "{order:?}");
                assert_eq!(found.names, expected.names);
                assert_eq!(found.token_table, expected.token_table);
                assert_eq!(found.token_index, expected.token_index);
                let right = expected.addresses[0];
                let holds = |place: &KallsymsAddresses| {
                    // Self-relative offsets have no base.
                    let same_base = order == Order::Narrow || place.base == right.base;
                    (place.at, place.width) == (right.at, right.width) && same_base
                };
                assert!(found.addresses.iter().any(holds), "{order:?}");
                let at = |at: KernelVa| (at.0 - BASE) as usize;
                let index = image.bytes[at(found.token_index)..].first_chunk().unwrap();
                let table = &image.bytes[at(found.token_table)..];
                let names = &image.bytes[at(found.names)..];
                let kallsyms = Kallsyms::new(found.symbols, names, table, index).unwrap();
                assert_eq!(kallsyms.find(&["init_task0"]), Ok(vec![Some(0)]));
            }
        }
    }

    #[test]
    fn inconsistent_tables_are_refused() {
        let whole = Image::new(600, Order::AddressesFirst);
        let at = |address: KernelVa| (address.0 - BASE) as usize;
        let expected = whole.expected;
        let places = [
            ("the index", at(expected.token_index) + 256),
            ("a token's end", at(expected.token_table) + 47),
            ("a name's length", at(expected.names)),
            ("a marker", at(expected.token_table) - 8),
            ("the count", at(expected.names) - 8),
        ];
        for (what, place) in places {
            let mut image = Image::new(600, Order::AddressesFirst);
            image.bytes[place] ^= 0x41;
            assert_eq!(image.search(), None, "{what}");
        }
        assert_eq!(Image::new(200, Order::AddressesLast).search(), None, "one marker's worth");
    }

    proptest! {
        #[test]
        fn mutated_images_never_panic(
            changes in proptest::collection::vec((0_usize..1 << 20, any::<u8>()), 0..8),
            cut in 0_usize..1 << 20,
            order in proptest::sample::select(&Order::ALL[..]),
        ) {
            let mut image = Image::new(700, order);
            let length = image.bytes.len();
            for (at, value) in changes {
                image.bytes[at % length] = value;
            }
            let _ = image.search();
            image.bytes.truncate(cut % length);
            let _ = image.search();
        }
    }
}
