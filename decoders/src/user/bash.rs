//! The data structures in which bash keeps its command history and its variables (bash 5.0 to 5.3:
//! lib/readline/history.h, hashlib.h, variables.h), on little-endian 64-bit machines.
//!
//! The history is an array of pointers to [`BashHistoryEntry`], and the variable `the_history`
//! points to it. That variable is static, so it has no dynamic symbol. The function `history_list`
//! only returns it, so the function's first instruction shows its address ([`operand_of`]). Shell
//! variables are in a hash table by name ([`BashHashTable`], [`Bucket`], [`Variable`]).

use super::{u32_at, u64_at};

/// Size of a [`BashHistoryEntry`] in bytes.
pub const ENTRY_BYTES: u64 = 24;
/// Bytes of a timestamp that are read: `#`, up to 20 digits, and the NUL.
pub const TIMESTAMP_BYTES: u64 = 24;
/// Bytes of code that [`operand_of`] needs.
pub const CODE_BYTES: u64 = 24;

/// `HIST_ENTRY`: one command of the history.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct BashHistoryEntry {
    /// `char *line`
    pub line: u64,
    /// `char *timestamp`, for [`timestamp`].
    pub timestamp: u64,
}

impl BashHistoryEntry {
    /// Parses an entry; `None` if it cannot be one.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let entry = Self { line: u64_at(bytes, 0)?, timestamp: u64_at(bytes, 8)? };
        (is_plausible(entry.line) && (entry.timestamp == 0 || is_plausible(entry.timestamp)))
            .then_some(entry)
    }
}

/// Whether `address` can be in a process's memory.
pub const fn is_plausible(address: u64) -> bool {
    address >= 0x1000 && address >> 56 == 0
}

/// Parses a timestamp, `#` and digits up to the NUL, as seconds since 1970.
pub fn timestamp(bytes: &[u8]) -> Option<i64> {
    seconds(bytes.strip_prefix(b"#")?)
}

/// Parses the digits of a timestamp up to the NUL, as seconds since 1970. Before them is
/// `history_comment_char` (`hist_inittime`, lib/readline/history.c): `#` in bash, and a NUL in
/// programs that do not set that variable.
pub fn seconds(bytes: &[u8]) -> Option<i64> {
    let end = bytes.iter().position(|&byte| byte == 0)?;
    let digits = bytes.get(..end)?;
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_i64, |sum, digit| {
        let digit = digit.is_ascii_digit().then(|| i64::from(digit - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// Address of the variable that a function returns, if it does nothing else: `mov variable(%rip),
/// %rax; ret`, or on arm64 `adrp` and `ldr` into `x0`. A landing pad for indirect branches may come
/// first. `address` is the address of the code.
pub fn operand_of(code: &[u8], address: u64) -> Option<u64> {
    operand_x86_64(code, address).or_else(|| operand_aarch64(code, address))
}

fn operand_x86_64(code: &[u8], address: u64) -> Option<u64> {
    const ENDBR64: &[u8] = &[0xf3, 0x0f, 0x1e, 0xfa];
    let (code, skipped) = code.strip_prefix(ENDBR64).map_or((code, 0), |rest| (rest, 4));
    let rest = code.strip_prefix(&[0x48, 0x8b, 0x05])?;
    let displacement = u32_at(rest, 0)? as i32;
    (*rest.get(4)? == 0xc3)
        .then(|| address.wrapping_add(skipped + 7).wrapping_add_signed(displacement.into()))
}

fn operand_aarch64(code: &[u8], address: u64) -> Option<u64> {
    // `bti c`, `paciasp`
    const PADS: [u32; 2] = [0xd503_245f, 0xd503_233f];
    let first = u32_at(code, 0)?;
    let at = if PADS.contains(&first) { 4 } else { 0 };
    let (adrp, ldr) = (u32_at(code, at)?, u32_at(code, at + 4)?);
    // ADRP Xd: 1 immlo 10000 immhi Rd; LDR Xt, [Xn, #imm]: 11 111 0 01 01 imm12 Rn Rt.
    let is_it = adrp & 0x9f00_0000 == 0x9000_0000
        && ldr & 0xffc0_0000 == 0xf940_0000
        && (ldr >> 5) & 0x1f == adrp & 0x1f
        && ldr & 0x1f == 0;
    let pages = ((adrp >> 5 & 0x7_ffff) << 2) | (adrp >> 29 & 3);
    // 21 bits, signed.
    let pages = i64::from((pages << 11) as i32 >> 11);
    let page = address.wrapping_add(at as u64) & !0xfff;
    is_it.then(|| {
        page.wrapping_add_signed(pages << 12).wrapping_add(u64::from(ldr >> 10 & 0xfff) * 8)
    })
}

/// Offset of `table` in a `VAR_CONTEXT`.
pub const CONTEXT_TABLE: u64 = 32;

/// `HASH_TABLE`
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct BashHashTable {
    /// `BUCKET_CONTENTS **bucket_array`
    pub buckets: u64,
    /// `int nbuckets`
    pub count: u32,
}

impl BashHashTable {
    /// Size in bytes.
    pub const BYTES: u64 = 16;

    /// Parses a table; `None` if it cannot be one: bash always uses a power of two of buckets.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let table = Self { buckets: u64_at(bytes, 0)?, count: u32_at(bytes, 8)? };
        let entries = u32_at(bytes, 12)?;
        let is_sound = table.count.is_power_of_two()
            && (64..=1 << 24).contains(&table.count)
            && entries <= 1 << 26
            && is_plausible(table.buckets);
        is_sound.then_some(table)
    }

    /// Address of the pointer to the first bucket of a name.
    pub fn slot(&self, name: &[u8]) -> u64 {
        let mask = self.count.wrapping_sub(1);
        self.buckets.wrapping_add(u64::from(hash(name) & mask) * 8)
    }
}

/// Hash of a name (`hash_string`, hashlib.c): FNV-1, 32 bits.
pub fn hash(name: &[u8]) -> u32 {
    name.iter().fold(2_166_136_261, |hash: u32, &byte| {
        // The characters are signed in bash.
        hash.wrapping_mul(16_777_619) ^ i32::from(byte as i8) as u32
    })
}

/// `BUCKET_CONTENTS`
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Bucket {
    /// `struct bucket_contents *next`, or 0.
    pub next: u64,
    /// `SHELL_VAR *`
    pub data: u64,
    /// Hash of the key.
    pub hash: u32,
}

impl Bucket {
    /// Size in bytes.
    pub const BYTES: u64 = 32;

    /// Parses a bucket; `None` if it cannot be one.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bucket =
            Self { next: u64_at(bytes, 0)?, data: u64_at(bytes, 16)?, hash: u32_at(bytes, 24)? };
        let is_sound = (bucket.next == 0 || is_plausible(bucket.next)) && is_plausible(bucket.data);
        is_sound.then_some(bucket)
    }
}

/// `SHELL_VAR`
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Variable {
    /// `char *name`
    pub name: u64,
    /// `char *value`; 0 without a value.
    pub value: u64,
    /// Whether it is declared only, as after `declare NAME`.
    pub is_invisible: bool,
    /// Whether its value is not text: an array or a function.
    pub is_no_text: bool,
}

impl Variable {
    /// Size in bytes.
    pub const BYTES: u64 = 48;

    /// Parses a variable; `None` if it cannot be one.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        // `att_invisible`; `att_array`, `att_function`, `att_assoc`.
        const INVISIBLE: u32 = 0x1000;
        const NO_TEXT: u32 = 0x4 | 0x8 | 0x40;
        let attributes = u32_at(bytes, 40)?;
        let variable = Self {
            name: u64_at(bytes, 0)?,
            value: u64_at(bytes, 8)?,
            is_invisible: attributes & INVISIBLE != 0,
            is_no_text: attributes & NO_TEXT != 0,
        };
        let is_sound =
            is_plausible(variable.name) && (variable.value == 0 || is_plausible(variable.value));
        is_sound.then_some(variable)
    }
}

/// Whether a list of options in the format of SHELLOPTS contains `option`.
pub fn has_option(options: &[u8], option: &[u8]) -> bool {
    options.split(|&byte| byte == b':').any(|own| own == option)
}

/// Guesses from the text of a command whether more lines must follow: it ends inside quotes, with
/// an operator that needs an operand or with a backslash, or has a construction without its end.
/// Here-documents are not recognized. Only needed if the shell's own state does not show it.
pub fn wants_more(line: &[u8]) -> bool {
    let mut quote = None;
    let mut is_escaped = false;
    // Open constructions, parentheses and `${`.
    let (mut depth, mut parentheses, mut expansions) = (0_i32, 0_u32, 0_u32);
    let mut word_start = 0;
    // Whether a command may begin here, so that a keyword counts as one.
    let mut is_command = true;
    let mut comment = None;
    for (at, &byte) in line.iter().enumerate() {
        if comment.is_some() {
            if byte == b'\n' {
                comment = None;
                (word_start, is_command) = (at + 1, true);
            }
            continue;
        }
        if is_escaped {
            is_escaped = false;
            continue;
        }
        let before = at.checked_sub(1).and_then(|before| line.get(before)).copied();
        match (quote, byte) {
            (Some(open), _) if byte == open => quote = None,
            (None | Some(b'"' | b'`'), b'\\') => is_escaped = true,
            (None, b'\'' | b'"' | b'`') => quote = Some(byte),
            (None, b'{') if before == Some(b'$') => expansions += 1,
            (None, b'}') => expansions = expansions.saturating_sub(1),
            (None, b'#') if at == word_start => comment = Some(at),
            _ => {}
        }
        let is_blank = matches!(byte, b' ' | b'\t');
        let is_end = is_blank || matches!(byte, b'\n' | b';' | b'&' | b'|' | b'(' | b')');
        if quote.is_some() || !is_end {
            continue;
        }
        let word = line.get(word_start..at).unwrap_or(&[]);
        word_start = at + 1;
        if !word.is_empty() && is_command {
            depth += construction(word);
            is_command = is_keyword(word);
        }
        match byte {
            b'(' => {
                parentheses += 1;
                is_command = true;
            }
            // After `f()`, or after a pattern of `case`.
            b')' => {
                is_command = before == Some(b'(') || parentheses == 0;
                parentheses = parentheses.saturating_sub(1);
            }
            _ => is_command |= !is_blank,
        }
    }
    if is_command && comment.is_none() && quote.is_none() {
        depth += construction(line.get(word_start..).unwrap_or(&[]));
    }
    let end = line.get(..comment.unwrap_or(line.len())).unwrap_or(line).trim_ascii_end();
    let wants_operand = end.ends_with(b"|") || end.ends_with(b"&&");
    let is_open = depth > 0 || parentheses > 0 || expansions > 0;
    quote.is_some() || is_escaped || is_open || wants_operand
}

/// How a word, where a command may begin, changes the depth of constructions.
fn construction(word: &[u8]) -> i32 {
    match word {
        b"if" | b"case" | b"for" | b"while" | b"until" | b"select" | b"{" => 1,
        b"fi" | b"esac" | b"done" | b"}" => -1,
        _ => 0,
    }
}

/// Whether the word is a keyword after which a command may begin.
fn is_keyword(word: &[u8]) -> bool {
    const BEFORE_COMMANDS: [&[u8]; 14] = [
        b"if", b"then", b"elif", b"else", b"while", b"until", b"do", b"time", b"!", b"{", b"}",
        b"fi", b"done", b"esac",
    ];
    BEFORE_COMMANDS.contains(&word)
}

/// Whether this value of HISTCONTROL keeps lines that begin with a space out of the history.
pub fn ignores_spaces(control: &[u8]) -> bool {
    has_option(control, b"ignorespace") || has_option(control, b"ignoreboth")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_a_hash_sign_and_digits() {
        assert_eq!(timestamp(b"#1795156574\0garbage"), Some(1_795_156_574));
        assert_eq!(timestamp(b"#0\0"), Some(0));
        for wrong in
            [&b"#\0"[..], b"1795156574\0", b"#17951x\0", b"#12", b"", b"#99999999999999999999\0"]
        {
            assert_eq!(timestamp(wrong), None);
        }
        assert_eq!(seconds(b"1795947439\0#"), Some(1_795_947_439));
        for wrong in [&b""[..], b"\0", b"#1\0", b"17", b"1 7\0"] {
            assert_eq!(seconds(wrong), None);
        }
    }

    #[test]
    fn the_first_instruction_shows_the_variable() {
        // Debian 12's bash: e8ce0: mov 0x56a61(%rip),%rax; ret. objdump shows the address 13f748.
        let code = [0x48, 0x8b, 0x05, 0x61, 0x6a, 0x05, 0x00, 0xc3];
        assert_eq!(operand_of(&code, 0xe8ce0), Some(0x13_f748));
        let landing = [&[0xf3, 0x0f, 0x1e, 0xfa], &code[..]].concat();
        assert_eq!(operand_of(&landing, 0xe8cdc), Some(0x13_f748));
        assert_eq!(operand_of(&code[..7], 0xe8ce0), None);
        let other = [0x48, 0x8b, 0x05, 0x61, 0x6a, 0x05, 0x00, 0x90];
        assert_eq!(operand_of(&other, 0xe8ce0), None);
        // adrp x0, +0x5d pages; ldr x0, [x0, #1872]; ret
        let (adrp, ldr) = (0xb000_02e0_u32, 0xf943_a800_u32);
        let code = [adrp.to_le_bytes(), ldr.to_le_bytes()].concat();
        assert_eq!(operand_of(&code, 0xc_3f08), Some(0xc_3000 + 0x5d_000 + 1872));
        let pad = [&0xd503_245f_u32.to_le_bytes()[..], &code].concat();
        assert_eq!(operand_of(&pad, 0xc_3f08), Some(0xc_3000 + 0x5d_000 + 1872));
        // adrp x0, -1 page
        let code = [0xf0ff_ffe0_u32.to_le_bytes(), ldr.to_le_bytes()].concat();
        assert_eq!(operand_of(&code, 0xc_3f08), Some(0xc_2000 + 1872));
    }

    #[test]
    fn names_hash_as_in_bash() {
        assert_eq!(hash(b""), 2_166_136_261);
        // FNV-1 of one letter, by its definition.
        assert_eq!(hash(b"a"), 2_166_136_261_u32.wrapping_mul(16_777_619) ^ 0x61);
    }

    #[test]
    fn unfinished_commands_are_recognized_by_their_text() {
        for unfinished in [
            &b"for i in 1 2; do"[..],
            b"echo 'one",
            b"echo \\",
            b"f() {",
            b"true &&",
            b"ls |",
            b"if true",
            b"if true; then ls",
            b"{ ls",
            b"(cd /",
            b"echo ${x",
            b"echo $(date",
            b"case $x in a) ls",
            b"ls && # the rest",
            b"true; while read x",
            b"f() { # begins",
        ] {
            assert!(wants_more(unfinished), "{unfinished:?}");
        }
        for whole in [
            &b"for i in 1 2; do echo $i; done"[..],
            b"echo 'one' \"two\"",
            b"f() { true; }",
            b"sleep 1 &",
            b"",
            b"(cd /; ls)",
            b"ls # don't",
            b"ls # a |",
            b"grep for file",
            b"man select",
            b"echo $(date) for all",
            b"echo ${#x} $# a#b'c'",
            b"echo {",
            b"cp x{,.old}",
            b"echo 2>&1 if",
            b"case $x in a) if true; then ls; fi;; esac",
            b"if true; then { ls; } fi",
            b"for ((i=0; i<3; i++)); do ls; done",
            b"# if",
            b"echo '#' \\# \"#\"",
        ] {
            assert!(!wants_more(whole), "{whole:?}");
        }
    }
}
