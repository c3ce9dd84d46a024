//! A profile of the running kernel, from the information that it exports.
//!
//! For: `/sys/kernel/btf/vmlinux`, `/proc/kallsyms` and `/sys/kernel/notes`, whose contents the
//! caller passes.

use std::io::{BufRead, BufReader, Read};

use object::LittleEndian;
use object::elf::{ELF_NOTE_GNU, FileHeader64, NT_GNU_BUILD_ID};
use object::read::elf::NoteIterator;
use panoptes_decoders::address::KernelVa;

use super::{Architecture, ImportError, KernelFacts, hex};
use crate::btf::Btf;
use crate::profile_file::ProfileFile;
use crate::symbols::Symbols;

/// Maximum length of a line of `/proc/kallsyms` that is read: an address, a type, a name, a module.
const SYMBOL_LINE_BYTES_MAX: u64 = 1024;

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
) -> Result<ProfileFile, ImportError> {
    let build_id = build_id(notes).unwrap_or_default();
    let symbols = symbols(kallsyms)?;
    let btf = Btf::parse(btf).map_err(ImportError::Btf)?;
    KernelFacts { build_id, release, symbols, members: &btf, architecture: Architecture::own() }
        .into_file()
}

/// The build id in a list of notes.
fn build_id(notes: &[u8]) -> Option<String> {
    let mut notes = NoteIterator::<FileHeader64<LittleEndian>>::new(LittleEndian, 4, notes).ok()?;
    while let Some(note) = notes.next().ok()? {
        if note.name() == ELF_NOTE_GNU && note.n_type(LittleEndian) == NT_GNU_BUILD_ID {
            return Some(hex(note.desc()));
        }
    }
    None
}

/// The symbols in a list in the form of `/proc/kallsyms`.
pub(super) fn symbols(kallsyms: impl Read) -> Result<Symbols, ImportError> {
    const HIDDEN: &str = "/proc/kallsyms shows no addresses: run as root, or lower \
                          /proc/sys/kernel/kptr_restrict";
    let mut symbols = Symbols::default();
    let mut reader = BufReader::with_capacity(64 << 10, kallsyms);
    let mut line = Vec::new();
    let mut addresses = 0_u64;
    loop {
        line.clear();
        if (&mut reader).take(SYMBOL_LINE_BYTES_MAX).read_until(b'\n', &mut line)? == 0 {
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
        if let Some(field) = str::from_utf8(name).ok().and_then(|name| symbols.field_mut(name)) {
            field.get_or_insert(KernelVa(address));
        }
    }
    if addresses == 0 {
        return Err(ImportError::Hidden(HIDDEN));
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
        assert!(matches!(symbols(&hidden[..]), Err(ImportError::Hidden(_))));
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
