//! kallsyms (scripts/kallsyms.c, kernel/kallsyms.c): the kernel's own compressed symbol table.
//!
//! For: the addresses of a few symbols known by name. Not for: listing all symbols. VMCOREINFO has
//! the addresses of the tables since Linux commit 5fd8fea935a1 ("vmcoreinfo: include kallsyms
//! symbols") (in v6.0); otherwise [`search`] finds them. Start reading at [`Kallsyms::new`], then
//! [`Kallsyms::find`].
//!
//! A name is a length (one byte, or two in ULEB128 since commit 73bbb94466fd ("kallsyms: support
//! \"big\" kernel symbols") (in v6.1)) and that many token numbers; a token is a piece of text. The
//! first character is the symbol's type. Addresses have one of four encodings ([`Scheme`]). Nothing
//! in memory shows which, so the caller tries them with symbols whose addresses are known from
//! elsewhere.

pub mod search;

use panoptes_decoders::address::KernelVa;

/// Maximum number of symbols: generic kernels have 95,000 to 250,000.
pub const SYMBOLS_MAX: u32 = 1 << 20;

/// Longest name with its type (`KSYM_NAME_LEN`, include/linux/kallsyms.h, since v6.1).
pub const KALLSYMS_NAME_BYTES_MAX: usize = 512;

/// Maximum size of the token table that is read: 256 short texts make about 1 KB.
pub const TOKEN_TABLE_BYTES_MAX: usize = 64 << 10;

/// Size of the token index: 256 numbers of 16 bits.
pub const TOKEN_INDEX_BYTES: usize = 512;

/// The encoding of addresses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scheme {
    /// 64-bit addresses: without `CONFIG_KALLSYMS_BASE_RELATIVE`, which was optional until Linux
    /// commit 64e166099b69 ("kallsyms: get rid of code for absolute kallsyms").
    Absolute,
    /// 32-bit offsets: non-negative ones are values (of per-CPU symbols), the others count down
    /// from the base minus one. x86-64 with SMP until Linux commit 01157ddc58dc ("kallsyms: Remove
    /// KALLSYMS_ABSOLUTE_PERCPU") (in v6.15).
    AbsolutePerCpu,
    /// Unsigned 32-bit offsets from the base (arm64; x86-64 since v6.15).
    Relative,
    /// Signed 32-bit offsets, each from its own address (v7.x).
    SelfRelative,
}

impl Scheme {
    /// All encodings, in the order in which they are tried: the likeliest first.
    pub const ALL: [Self; 4] =
        [Self::AbsolutePerCpu, Self::Relative, Self::SelfRelative, Self::Absolute];

    /// The address of the symbol at `index`; `offsets` are at `at` in the kernel.
    pub fn address(self, offsets: &[u8], at: KernelVa, base: u64, index: u32) -> Option<KernelVa> {
        let position = (index as usize).checked_mul(4)?;
        if self == Self::Absolute {
            let position = (index as usize).checked_mul(8)?;
            let bytes = offsets.get(position..position.checked_add(8)?)?;
            return Some(KernelVa(u64::from_le_bytes(bytes.try_into().ok()?)));
        }
        let bytes = offsets.get(position..position.checked_add(4)?)?;
        let offset = i32::from_le_bytes(bytes.try_into().ok()?);
        Some(KernelVa(match self {
            Self::AbsolutePerCpu if offset >= 0 => offset as u64,
            Self::AbsolutePerCpu => base.wrapping_sub(1).wrapping_sub(i64::from(offset) as u64),
            Self::Relative => base.wrapping_add(u64::from(offset as u32)),
            _ => at.0.wrapping_add(position as u64).wrapping_add(i64::from(offset) as u64),
        }))
    }
}

/// Why bytes are not a table of names.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KallsymsError {
    /// No symbols, or more than possible.
    #[error("kallsyms: the table claims {symbols} symbols, which no kernel has")]
    Count { symbols: u32 },
    /// A token is outside the table or not text.
    #[error("kallsyms: token {token} is outside the table or no text")]
    Token { token: u32 },
    /// The names end before the claimed number of symbols.
    #[error("kallsyms: the names end after {symbols} symbols")]
    Truncated { symbols: u32 },
    /// A name of length zero, or longer than the kernel allows.
    #[error("kallsyms: symbol {symbol} has a name that is empty or too long")]
    Name { symbol: u32 },
}

/// The names, over borrowed bytes.
#[derive(Clone, Copy, Debug)]
pub struct Kallsyms<'a> {
    names: &'a [u8],
    symbols: u32,
    tokens: [&'a [u8]; 256],
}

impl<'a> Kallsyms<'a> {
    /// Checks the tokens; [`Self::find`] checks the names. `names` may continue after the last
    /// name.
    pub fn new(
        symbols: u32,
        names: &'a [u8],
        token_table: &'a [u8],
        token_index: &[u8; TOKEN_INDEX_BYTES],
    ) -> Result<Self, KallsymsError> {
        if symbols == 0 || symbols > SYMBOLS_MAX {
            return Err(KallsymsError::Count { symbols });
        }
        let mut tokens: [&[u8]; 256] = [&[]; 256];
        for ((token, text), index) in tokens.iter_mut().enumerate().zip(token_index.as_chunks().0) {
            let error = KallsymsError::Token { token: token as u32 };
            let start = usize::from(u16::from_le_bytes(*index));
            let rest = token_table.get(start..).ok_or(error)?;
            let length = memchr::memchr(0, rest).ok_or(error)?;
            *text = rest.get(..length).ok_or(error)?;
            // A token that no name uses is an empty text or a single character of any kind.
            if length > 1 && !text.iter().all(u8::is_ascii_graphic) {
                return Err(error);
            }
        }
        Ok(Self { names, symbols, tokens })
    }

    /// The index of the first symbol of each wanted name, found in one pass over all names.
    ///
    /// # Errors
    ///
    /// The table is damaged, so nothing found in it can be trusted.
    pub fn find(&self, wanted: &[&str]) -> Result<Vec<Option<u32>>, KallsymsError> {
        let mut found = vec![None; wanted.len()];
        // Length and first character exclude most names; only the others are compared.
        let mut filter = [0_u64; 256];
        for name in wanted {
            if let Some(&first) = name.as_bytes().first() {
                filter[usize::from(first)] |= 1 << (name.len() % 64);
            }
        }
        let mut rest = self.names;
        for symbol in 0..self.symbols {
            let (encoded, after) =
                encoded_name(rest).ok_or(KallsymsError::Truncated { symbols: symbol })?;
            rest = after;
            let mut length = 0;
            for &token in encoded {
                length += self.tokens[usize::from(token)].len();
            }
            if !(2..=KALLSYMS_NAME_BYTES_MAX).contains(&length) {
                return Err(KallsymsError::Name { symbol });
            }
            let first = self.character(encoded, 1);
            if filter[usize::from(first)] & 1 << ((length - 1) % 64) == 0 {
                continue;
            }
            for (name, found) in wanted.iter().zip(&mut found) {
                if found.is_none() && name.len() == length - 1 && self.is(encoded, name) {
                    *found = Some(symbol);
                }
            }
        }
        Ok(found)
    }

    /// The character at a position of an expanded name; the type is at position 0.
    fn character(&self, encoded: &[u8], position: usize) -> u8 {
        let mut before = 0;
        for &token in encoded {
            let text = self.tokens[usize::from(token)];
            if let Some(&character) = text.get(position - before) {
                return character;
            }
            before += text.len();
        }
        0
    }

    /// Whether an encoded name without its type is `name`; the caller checks that the lengths are
    /// equal.
    fn is(&self, encoded: &[u8], name: &str) -> bool {
        let expanded = encoded.iter().flat_map(|&token| self.tokens[usize::from(token)]).skip(1);
        expanded.eq(name.as_bytes())
    }
}

/// Splits off the first encoded name.
fn encoded_name(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&low, rest) = bytes.split_first()?;
    if low & 0x80 == 0 {
        return rest.split_at_checked(usize::from(low));
    }
    let (&high, rest) = rest.split_first()?;
    rest.split_at_checked(usize::from(low & 0x7f) | usize::from(high) << 7)
}

#[cfg(test)]
#[path = "../tests/common/kallsyms_writer.rs"]
mod kallsyms_writer;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    use super::kallsyms_writer::compress;

    #[test]
    fn wanted_names_are_found_in_one_pass() {
        let big = format!("t{}", "x".repeat(300));
        let tables = compress(&["T_stext", &big, "Dinit_task", "dinit_net", "Dinit_task"]);
        let table =
            Kallsyms::new(5, &tables.names, &tables.token_table, &tables.token_index).unwrap();
        let found = table.find(&["init_task", "_stext", "stext", "init_net", &big[1..]]).unwrap();
        assert_eq!(found, [Some(2), Some(0), None, Some(3), Some(1)]);
    }

    #[test]
    fn damaged_tables_have_different_errors() {
        let tables = compress(&["T_stext"]);
        let new =
            |count, names| Kallsyms::new(count, names, &tables.token_table, &tables.token_index);
        assert_eq!(new(0, &tables.names).unwrap_err(), KallsymsError::Count { symbols: 0 });
        let table = new(2, &tables.names).unwrap();
        assert_eq!(table.find(&["_stext"]), Err(KallsymsError::Truncated { symbols: 1 }));
        assert_eq!(new(1, &[0]).unwrap().find(&[]), Err(KallsymsError::Name { symbol: 0 }));
        let mut index = tables.token_index;
        index[20..22].fill(0xff);
        let damaged = Kallsyms::new(1, &tables.names, &tables.token_table, &index);
        assert_eq!(damaged.unwrap_err(), KallsymsError::Token { token: 10 });
    }

    #[test]
    fn addresses_have_four_encodings() {
        let at = KernelVa(0xffff_ffff_8200_0000);
        let base = 0xffff_ffff_8100_0000;
        let address = |scheme: Scheme, word: i32| {
            let mut offsets = vec![0; 4];
            offsets.extend(word.to_le_bytes());
            scheme.address(&offsets, at, base, 1).unwrap().0
        };
        assert_eq!(address(Scheme::AbsolutePerCpu, 0x20), 0x20);
        assert_eq!(address(Scheme::AbsolutePerCpu, -1), base);
        assert_eq!(address(Scheme::AbsolutePerCpu, -0x101), base + 0x100);
        assert_eq!(address(Scheme::Relative, 0x100), base + 0x100);
        assert_eq!(address(Scheme::SelfRelative, -4), at.0);
        let absolute = 0x1234_u64.to_le_bytes();
        assert_eq!(Scheme::Absolute.address(&absolute, at, base, 0), Some(KernelVa(0x1234)));
        assert_eq!(Scheme::Absolute.address(&absolute, at, base, 1), None);
        assert_eq!(Scheme::Relative.address(&absolute, at, base, u32::MAX), None);
    }

    proptest! {
        #[test]
        fn mutated_tables_never_panic(
            at in 0_usize..200,
            value: u8,
            symbols in 0_u32..20,
            token in 0_usize..512,
            names: Vec<u8>,
        ) {
            let mut tables = compress(&["T_stext", "Dinit_task", "dkallsyms_names"]);
            if let Some(byte) = tables.names.get_mut(at) {
                *byte = value;
            }
            tables.token_index[token] = value;
            for names in [&tables.names, &names] {
                let table =
                    Kallsyms::new(symbols, names, &tables.token_table, &tables.token_index);
                if let Ok(table) = table {
                    let _ = table.find(&["init_task", "_stext"]);
                }
            }
        }
    }
}
