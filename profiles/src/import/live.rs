//! A profile of the running kernel, from the information that it exports.
//!
//! For: `/sys/kernel/btf/vmlinux`, `/proc/kallsyms` and `/sys/kernel/notes`, whose contents the
//! caller passes.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::layout::u32_at;

use super::{Architecture, Error, Facts, hex};
use crate::btf::Btf;
use crate::profile_file::ProfileFile;
use crate::symbols::Symbols;

/// Maximum length of a line of `/proc/kallsyms` that is read: an address, a type, a name, a module.
const LINE_BYTES_MAX: u64 = 1024;

/// `NT_GNU_BUILD_ID` (elf.h).
const BUILD_ID: u32 = 3;

/// Generates a profile of the running kernel; `release` is that of `uname`.
///
/// # Errors
///
/// A part is missing or damaged, or `/proc/kallsyms` hides the addresses.
pub fn from_running(
    btf: &[u8],
    kallsyms: impl Read,
    notes: &[u8],
    release: String,
) -> Result<ProfileFile, Error> {
    let build_id = build_id(notes).ok_or(Error::NoBuildId)?;
    let symbols = symbols(kallsyms)?;
    let btf = Btf::parse(btf).map_err(Error::Btf)?;
    Facts { build_id, release, symbols, members: &btf, architecture: Architecture::own() }
        .into_file()
}

/// The build id in a list of notes: three numbers (lengths of name and content, type), name,
/// content, each padded to four bytes (elf.h, `Elf64_Nhdr`).
fn build_id(notes: &[u8]) -> Option<String> {
    let mut rest = notes;
    while rest.len() >= 12 {
        let padded = |at| (u32_at(rest, at) as usize).checked_next_multiple_of(4);
        let (name, content, kind) = (padded(0)?, padded(4)?, u32_at(rest, 8));
        let content_at = name.checked_add(12)?;
        if kind == BUILD_ID && rest.get(12..16) == Some(b"GNU\0") {
            let bytes = rest.get(content_at..)?.get(..u32_at(rest, 4) as usize)?;
            return Some(hex(bytes));
        }
        rest = rest.get(content_at.checked_add(content)?..)?;
    }
    None
}

fn symbols(kallsyms: impl Read) -> Result<Symbols, Error> {
    const HIDDEN: &str = "/proc/kallsyms shows no addresses: run as root, or lower \
                          /proc/sys/kernel/kptr_restrict";
    let mut symbols = Symbols::default();
    let mut wanted: HashMap<&[u8], &str> =
        Symbols::NAMES.iter().map(|&name| (name.as_bytes(), name)).collect();
    let mut reader = BufReader::with_capacity(64 << 10, kallsyms);
    let mut line = Vec::new();
    let mut addresses = 0_u64;
    loop {
        line.clear();
        if (&mut reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let mut words = line.trim_ascii_end().split(u8::is_ascii_whitespace);
        let (Some(address), Some(_), Some(name)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        // A fourth word is the module of the symbol.
        if words.next().is_some() {
            continue;
        }
        let address =
            str::from_utf8(address).ok().and_then(|digits| u64::from_str_radix(digits, 16).ok());
        let Some(address) = address else { continue };
        addresses |= address;
        if let Some(name) = wanted.remove(name)
            && let Some(field) = symbols.field_mut(name)
        {
            *field = Some(KernelVa(address));
        }
    }
    if addresses == 0 {
        return Err(Error::Hidden(HIDDEN));
    }
    Ok(symbols)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_are_read_and_hidden_ones_are_an_error() {
        let text = b"0000000000000000 A fixed_percpu_data\nffffffff81000000 T _stext\n\
            ffffffff82000000 D init_task\nffffffff82000100 d init_task\n\
            ffffffffc0000000 t _etext\t[module]\n";
        let found = symbols(&text[..]).unwrap();
        assert_eq!(found.stext, Some(KernelVa(0xffff_ffff_8100_0000)));
        assert_eq!(found.init_task, Some(KernelVa(0xffff_ffff_8200_0000)));
        assert_eq!(found.etext, None);
        let hidden = b"0000000000000000 T _stext\n0000000000000000 D init_task\n";
        assert!(matches!(symbols(&hidden[..]), Err(Error::Hidden(_))));
    }

    #[test]
    fn the_build_id_is_found_among_notes() {
        let mut notes = Vec::new();
        for (kind, content) in [(1_u32, &[1; 5][..]), (3, &[0xcd; 20])] {
            notes.extend(4_u32.to_le_bytes());
            notes.extend((content.len() as u32).to_le_bytes());
            notes.extend(kind.to_le_bytes());
            notes.extend(b"GNU\0");
            notes.extend(content);
            notes.resize(notes.len().next_multiple_of(4), 0);
        }
        assert_eq!(build_id(&notes), Some("cd".repeat(20)));
        assert_eq!(build_id(&notes[..notes.len() - 1]), None);
        assert_eq!(build_id(&[0xff; 40]), None);
    }
}
