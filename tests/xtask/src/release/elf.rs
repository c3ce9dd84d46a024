//! Programs as files (elf(5)): whether the kernel starts one without a loader, and the libraries
//! that one needs.

use std::path::Path;

use object::LittleEndian;
use object::elf::{DT_NEEDED, EM_AARCH64, EM_X86_64, FileHeader64, Machine, PT_INTERP};
use object::read::elf::{ElfFile, FileHeader as _, ProgramHeader as _};
use panoptes_rig::{Architecture, cache};

type ProgramElf<'d> = ElfFile<'d, FileHeader64<LittleEndian>, &'d [u8]>;

/// Checks that a program is one of this architecture, and that it needs no loader.
pub(super) fn check_static(program: &Path, architecture: Architecture) -> Result<(), String> {
    let bytes = cache::read(program)?;
    let named = |error: String| format!("{}: {error}", program.display());
    if has_loader(&parse(&bytes, architecture).map_err(named)?) {
        return Err(format!("{} needs a loader and libraries", program.display()));
    }
    Ok(())
}

/// The libraries that the loader opens for a program of this architecture, by their sonames.
pub(super) fn libraries(program: &Path, architecture: Architecture) -> Result<Vec<String>, String> {
    let bytes = cache::read(program)?;
    let named = |error: String| format!("{}: {error}", program.display());
    let elf = parse(&bytes, architecture).map_err(named)?;
    let wrong = |error: object::Error| named(error.to_string());
    let table = elf.elf_dynamic_table().map_err(wrong)?;
    let entries = table.iter().filter(|entry| entry.tag == DT_NEEDED);
    let names = entries.map(|entry| table.string(entry).map_err(wrong));
    names.map(|name| Ok(String::from_utf8_lossy(name?).into_owned())).collect()
}

/// Parses a little-endian ELF file of 64 bits; an error if it is no program of this architecture.
fn parse(bytes: &[u8], architecture: Architecture) -> Result<ProgramElf<'_>, String> {
    let elf = ProgramElf::parse(bytes).map_err(|error| error.to_string())?;
    let is_for_it = elf.elf_header().e_machine(LittleEndian) == machine(architecture);
    // A program without segments cannot start.
    if !is_for_it || elf.elf_program_headers().is_empty() {
        return Err(format!("this is no program of {}", architecture.debian()));
    }
    Ok(elf)
}

const fn machine(architecture: Architecture) -> Machine {
    match architecture {
        Architecture::Amd64 => EM_X86_64,
        Architecture::Arm64 => EM_AARCH64,
    }
}

/// Whether a segment names the loader of a dynamic program.
fn has_loader(elf: &ProgramElf<'_>) -> bool {
    elf.elf_program_headers().iter().any(|segment| segment.p_type(LittleEndian) == PT_INTERP)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program for amd64 with segments of these kinds: `e_machine`, `e_phoff`, `e_phentsize` and
    /// `e_phnum` are in its header.
    fn program(kinds: &[u32]) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        bytes[18] = 62;
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = kinds.len() as u8;
        for kind in kinds {
            bytes.extend(kind.to_le_bytes());
            bytes.extend([0; 52]);
        }
        bytes
    }

    #[test]
    fn a_loader_is_found_among_segments() {
        let has_loader =
            |bytes: &[u8]| parse(bytes, Architecture::Amd64).map(|elf| has_loader(&elf));
        assert_eq!(has_loader(&program(&[6, 3, 1])), Ok(true));
        assert_eq!(has_loader(&program(&[6, 1])), Ok(false));
        assert!(has_loader(&program(&[])).is_err());
        assert!(has_loader(b"#!/bin/sh\n").is_err());
        assert!(parse(&program(&[1]), Architecture::Arm64).is_err());
    }

    #[test]
    fn a_cut_program_is_none() {
        let whole = program(&[1, 2]);
        for length in 0..whole.len() {
            assert!(parse(&whole[..length], Architecture::Amd64).is_err(), "{length} bytes");
        }
        let mut far = whole;
        far[32..40].fill(0xff);
        assert!(parse(&far, Architecture::Amd64).is_err());
    }

    #[test]
    fn a_program_with_a_loader_is_refused() {
        // A test of cargo's is dynamic, unless all is built for musl.
        let own = std::env::current_exe().expect("a test has a path");
        if cfg!(all(target_arch = "x86_64", target_env = "gnu")) {
            let refused = check_static(&own, Architecture::Amd64).unwrap_err();
            assert!(refused.ends_with("needs a loader and libraries"), "{refused}");
            let libraries = libraries(&own, Architecture::Amd64).expect("it is a program");
            assert!(libraries.contains(&"libc.so.6".to_owned()), "{libraries:?}");
        }
    }
}
