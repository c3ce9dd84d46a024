//! A kernel's ELF file: `vmlinux`, with all sections or stripped as in `vmlinuz`.
//!
//! Types come from `.BTF`, symbols from `.symtab`, or from kallsyms if that was stripped. The build
//! id is in `.notes`, the release in the text of `linux_banner`.

use std::borrow::Cow;

use object::elf::{FileHeader64, SHN_ABS, SHN_UNDEF};
use object::read::elf::{
    ElfFile, FileHeader as _, ProgramHeader as _, SectionHeader as _, Sym as _,
};
use object::{
    LittleEndian, Object as _, ObjectSection as _, ObjectSymbol as _, ReadRef, SymbolFlags,
    SymbolKind,
};

use panoptes_decoders::address::KernelVa;

use super::dwarf::{self, Dwarf};
use super::{Architecture, ImportError, KernelFacts, TypePreference, hex, kallsyms_search};
use crate::btf::{BTF_BYTES_MAX, Btf};
use crate::profile_file::ProfileFile;
use crate::symbols::Symbols;
use crate::vmcoreinfo::find_release;

pub(super) type KernelElf<'d, R> = ElfFile<'d, FileHeader64<LittleEndian>, R>;

/// Maximum size of all loaded segments in bytes.
const LOADED_BYTES_MAX: u64 = 512 << 20;

/// Maximum size of the unpacked DWARF in bytes: a generic kernel's `.debug_info` has about 300 MB.
const DWARF_BYTES_MAX: u64 = 4 << 30;

/// Maximum ratio of the claimed size of a section to its packed size, and allowance in KiB.
/// Kernels' sections are packed to a fifth. The unpacker allocates the claimed size.
const DWARF_RATIO_MAX: u64 = 64;

/// Maximum number of loaded segments: kernels have one to five.
const SEGMENTS_MAX: usize = 64;

/// Maximum size of notes in bytes: a kernel's have some hundred.
const NOTES_BYTES_MAX: u64 = 16 << 20;

/// Generates a profile from an ELF file.
pub(super) fn profile<'d, R: ReadRef<'d>>(
    data: R,
    wanted: TypePreference,
) -> Result<ProfileFile, ImportError> {
    let file = KernelElf::parse(data).map_err(refused)?;
    let machine = file.elf_header().e_machine(LittleEndian);
    let architecture = Architecture::of(machine)
        .ok_or_else(|| ImportError::Architecture(format!("{:?}", file.architecture())))?;
    check_notes(&file)?;
    let build_id = file.build_id().map_err(refused)?.map(hex).unwrap_or_default();
    let pieces = pieces(&file, data)?;
    let release =
        pieces.iter().find_map(|(_, piece)| find_release(piece)).ok_or(ImportError::NoRelease)?;
    let symbols = match named(&file) {
        Some(symbols) => symbols,
        None => pieces
            .iter()
            .find_map(|(start, piece)| kallsyms_search::search(piece, *start))
            .ok_or(ImportError::NoSymbols)?,
    };
    let facts = |members| KernelFacts {
        build_id,
        release: release.to_owned(),
        symbols,
        members,
        architecture,
    };
    let section = file.section_by_name(".BTF").filter(|_| !wanted.dwarf);
    let Some(section) = section else {
        let unpacked = dwarf_sections(&file)?;
        let sections = unpacked.iter().map(|(name, data)| (*name, data.as_ref())).collect();
        return facts(&Dwarf::parse(&sections)?).into_file();
    };
    if section.size() > BTF_BYTES_MAX as u64 {
        return Err(ImportError::TooLarge { what: "its BTF", bytes_max: BTF_BYTES_MAX as u64 });
    }
    let bytes = section.data().map_err(refused)?;
    let btf = Btf::parse(bytes).map_err(ImportError::Btf)?;
    facts(&btf).into_file()
}

/// Sections by name.
type Sections<'d> = Vec<(&'static str, Cow<'d, [u8]>)>;

/// The unpacked sections with DWARF.
pub(super) fn dwarf_sections<'d, R: ReadRef<'d>>(
    file: &KernelElf<'d, R>,
) -> Result<Sections<'d>, ImportError> {
    let mut unpacked = Vec::new();
    let mut room = DWARF_BYTES_MAX;
    for name in dwarf::SECTIONS {
        let Some(section) = file.section_by_name(name) else { continue };
        let data = section.compressed_data().map_err(refused)?;
        let packed = data.data.len() as u64;
        let believed = packed.saturating_mul(DWARF_RATIO_MAX) + (DWARF_RATIO_MAX << 10);
        if data.uncompressed_size > believed {
            let claimed = data.uncompressed_size;
            let what =
                format!("section {name} has {packed} bytes and claims {claimed} unpacked ones");
            return Err(ImportError::Elf(what));
        }
        room = room
            .checked_sub(data.uncompressed_size)
            .ok_or(ImportError::TooLarge { what: "its DWARF", bytes_max: DWARF_BYTES_MAX })?;
        unpacked.push((name, data.decompress().map_err(refused)?));
    }
    Ok(unpacked)
}

/// Bounds what the search for the build id reads: notes may overlap in the file, so that each can
/// be as long as the file.
fn check_notes<'d, R: ReadRef<'d>>(file: &KernelElf<'d, R>) -> Result<(), ImportError> {
    let sections = file.elf_section_table().iter();
    let sections = sections
        .filter(|section| section.sh_type(LittleEndian) == object::elf::SHT_NOTE)
        .map(|section| section.sh_size(LittleEndian));
    let segments = file.elf_program_headers().iter();
    let segments = segments
        .filter(|segment| segment.p_type(LittleEndian) == object::elf::PT_NOTE)
        .map(|segment| segment.p_filesz(LittleEndian));
    let bytes = sections.chain(segments).fold(0, u64::saturating_add);
    if bytes > NOTES_BYTES_MAX {
        return Err(ImportError::TooLarge { what: "all its notes", bytes_max: NOTES_BYTES_MAX });
    }
    Ok(())
}

pub(super) fn refused(error: object::Error) -> ImportError {
    ImportError::Elf(error.to_string())
}

/// The loaded segments, with their link addresses.
fn pieces<'d, R: ReadRef<'d>>(
    file: &KernelElf<'d, R>,
    data: R,
) -> Result<Vec<(u64, &'d [u8])>, ImportError> {
    let mut pieces = Vec::new();
    let mut room = LOADED_BYTES_MAX;
    for segment in file.elf_program_headers() {
        if segment.p_type(LittleEndian) != object::elf::PT_LOAD {
            continue;
        }
        // Segments may overlap in the file, so the file's size alone bounds nothing.
        room = room
            .checked_sub(segment.p_filesz(LittleEndian))
            .filter(|_| pieces.len() < SEGMENTS_MAX)
            .ok_or(ImportError::TooLarge {
                what: "what is loaded of it",
                bytes_max: LOADED_BYTES_MAX,
            })?;
        let bytes = segment
            .data(LittleEndian, data)
            .map_err(|()| ImportError::Elf("a segment does not lie in it".to_owned()))?;
        pieces.push((segment.p_vaddr(LittleEndian), bytes));
    }
    Ok(pieces)
}

/// Symbols from `.symtab`, if it has the kernel's `_stext`.
fn named<'d, R: ReadRef<'d>>(file: &KernelElf<'d, R>) -> Option<Symbols> {
    let mut symbols = Symbols::default();
    for symbol in file.symbols() {
        let section = match symbol.flags() {
            SymbolFlags::Elf { .. } => symbol.elf_symbol().st_shndx(LittleEndian),
            _ => continue,
        };
        if section == SHN_UNDEF
            || matches!(symbol.kind(), SymbolKind::Section | SymbolKind::File | SymbolKind::Tls)
        {
            continue;
        }
        let name = symbol.name().ok();
        let Some(field) = name.and_then(|name| symbols.field_mut(name)) else { continue };
        // kallsyms is in the order of addresses, and its first match counts.
        let lowest = field.is_none_or(|other| symbol.address() < other.0);
        if lowest && (section != SHN_ABS || symbol.address() != 0) {
            *field = Some(KernelVa(symbol.address()));
        }
    }
    symbols.stext.and(Some(symbols))
}
