//! Reads the kernel's symbols from the table in its own image.

use panoptes_decoders::address::KernelVa;

use crate::discovery::candidate::KernelCandidate;
use crate::discovery::image::find_place;
use crate::kallsyms::search::{
    self, DIGITS, KallsymsAddresses, TABLES_MAX, TOKEN_PLACES_MAX, Tables,
};
use crate::kallsyms::{self, Kallsyms, SYMBOLS_MAX, TOKEN_INDEX_BYTES, TOKEN_TABLE_BYTES_MAX};
use crate::memory::KernelMemory;
use crate::symbols::Symbols;

/// Generous estimate of the average bytes per name: 10 to 13 in v5.10 to v7.2.
const NAME_BYTES_GUESS: usize = 16;

/// Sets every symbol that kallsyms has. Symbols remain unknown if they cannot be read or contradict
/// addresses known from elsewhere; discovery then derives them in other ways.
pub(crate) fn read_kallsyms(memory: &mut KernelMemory<'_>, candidate: &mut KernelCandidate) {
    let named = named_tables(memory, candidate);
    let found = named.and_then(|tables| symbols(memory, candidate, &tables));
    if let Some(found) = found.or_else(|| searched_symbols(memory, candidate)) {
        candidate.symbols = found;
        candidate.all_symbols = true;
    }
}

/// The tables of the kernel's symbols, for naming addresses later: those that VMCOREINFO names, or
/// the first in the image that look like them.
pub(crate) fn find_tables(
    memory: &mut KernelMemory<'_>,
    candidate: &KernelCandidate,
) -> Option<Tables> {
    let info = candidate.vmcoreinfo.as_ref();
    if info.is_some_and(|info| info.symbol("kallsyms_names").is_some()) {
        // A copy that lacks them has no others.
        return named_tables(memory, candidate);
    }
    find_place(memory, candidate, DIGITS, TOKEN_PLACES_MAX, |memory, digits| {
        let read = &mut |at, length| memory.read_prefix(at, length).unwrap_or_default();
        search::at_digits(digits, &candidate.image, read)
    })
}

/// The tables that VMCOREINFO names.
fn named_tables(memory: &mut KernelMemory<'_>, candidate: &KernelCandidate) -> Option<Tables> {
    let info = candidate.vmcoreinfo.as_ref()?;
    let table = |name: &str| info.symbol(name).map(KernelVa);
    let base = match table("kallsyms_relative_base") {
        Some(at) => memory.read_u64(at).ok()?,
        None => 0,
    };
    let (at, width) = match table("kallsyms_offsets") {
        Some(at) => (at, 4),
        None => (table("kallsyms_addresses")?, 8),
    };
    let addresses = KallsymsAddresses { at, width, base };
    Some(Tables {
        symbols: memory.read_u32(table("kallsyms_num_syms")?).ok()?,
        names: table("kallsyms_names")?,
        token_table: table("kallsyms_token_table")?,
        token_index: table("kallsyms_token_index")?,
        addresses: [addresses; 4],
    })
}

/// The symbols of the first valid tables in the image.
fn searched_symbols(memory: &mut KernelMemory<'_>, candidate: &KernelCandidate) -> Option<Symbols> {
    let mut candidate = candidate.clone();
    candidate.refine_image(memory);
    let mut tries = 0;
    find_place(memory, &candidate, DIGITS, TOKEN_PLACES_MAX, |memory, digits| {
        let read = &mut |at, length| memory.read_prefix(at, length).unwrap_or_default();
        let tables = search::at_digits(digits, &candidate.image, read)?;
        tries += 1;
        (tries <= TABLES_MAX).then(|| symbols(memory, &candidate, &tables))?
    })
}

/// The required symbols from the tables; `None` if they contradict known addresses.
fn symbols(
    memory: &mut KernelMemory<'_>,
    candidate: &KernelCandidate,
    tables: &Tables,
) -> Option<Symbols> {
    let count = tables.symbols;
    if count == 0 || count > SYMBOLS_MAX {
        return None;
    }
    let token_table = memory.read_prefix(tables.token_table, TOKEN_TABLE_BYTES_MAX).ok()?;
    let mut token_index = [0; TOKEN_INDEX_BYTES];
    memory.read(tables.token_index, &mut token_index).ok()?;
    let indexes = indexes(memory, tables.names, count, &token_table, &token_index)?;
    let read = |at, length| memory.read_vec(at, length).ok();
    tables.find_symbols(&indexes, read, |symbols| agreeing(&candidate.symbols, symbols))
}

/// The symbols that one encoding of addresses yields. The encodings differ by kernel: only the
/// right one agrees with known addresses.
fn agreeing(known: &Symbols, mut symbols: Symbols) -> Option<Symbols> {
    let agrees = symbols.stext == known.stext
        && (symbols.init_uts_ns.is_none()
            || known.init_uts_ns.is_none()
            || symbols.init_uts_ns == known.init_uts_ns);
    symbols.init_uts_ns = known.init_uts_ns.or(symbols.init_uts_ns);
    symbols.init_top_pgt = known.init_top_pgt.or(symbols.init_top_pgt);
    agrees.then_some(symbols)
}

/// Looks up the required names. Reading the names is the only way to learn their total length.
fn indexes(
    memory: &mut KernelMemory<'_>,
    names_at: KernelVa,
    count: u32,
    token_table: &[u8],
    token_index: &[u8; TOKEN_INDEX_BYTES],
) -> Option<Vec<Option<u32>>> {
    let mut length = count as usize * NAME_BYTES_GUESS;
    loop {
        let names = memory.read_prefix(names_at, length).ok()?;
        let table = Kallsyms::new(count, &names, token_table, token_index).ok()?;
        match table.find(Symbols::NAMES) {
            Ok(indexes) => return Some(indexes),
            Err(kallsyms::KallsymsError::Truncated { .. })
                if names.len() == length && length < count as usize * 64 =>
            {
                length *= 2;
            }
            Err(_) => return None,
        }
    }
}
