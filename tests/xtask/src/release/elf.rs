//! The header of a program (elf(5)): whether the kernel starts it without a loader.

use std::fs;
use std::path::Path;

use panoptes_rig::Architecture;

/// The first bytes of a little-endian ELF file of 64 bits.
const MAGIC: &[u8] = b"\x7fELF\x02\x01";
/// Places in the header, in bytes: `e_machine`, `e_phoff`, `e_phentsize`, `e_phnum`.
const MACHINE: usize = 18;
const SEGMENTS: usize = 32;
const SEGMENT_BYTES: usize = 54;
const SEGMENT_COUNT: usize = 56;
/// `PT_INTERP`: a segment that names the loader of a dynamic program.
const LOADER: u32 = 3;

/// Checks that a program is one of this architecture, and that it needs no loader.
pub(super) fn check_static(program: &Path, architecture: Architecture) -> Result<(), String> {
    let bytes = fs::read(program).map_err(|e| format!("{}: {e}", program.display()))?;
    match segments(&bytes, machine(architecture)) {
        None => Err(format!("{} is no program of {}", program.display(), architecture.debian())),
        Some(segments) if segments.contains(&LOADER) => {
            Err(format!("{} needs a loader and libraries", program.display()))
        }
        Some(_) => Ok(()),
    }
}

/// The number of an architecture (`EM_X86_64`, `EM_AARCH64`).
const fn machine(architecture: Architecture) -> u16 {
    match architecture {
        Architecture::Amd64 => 62,
        Architecture::Arm64 => 183,
    }
}

/// The kinds of the segments of a program for this machine; `None` if it is no such program.
fn segments(bytes: &[u8], machine: u16) -> Option<Vec<u32>> {
    let number = |at| Some(u16::from_le_bytes(field(bytes, at)?));
    if !bytes.starts_with(MAGIC) || number(MACHINE)? != machine {
        return None;
    }
    let first = usize::try_from(u64::from_le_bytes(field(bytes, SEGMENTS)?)).ok()?;
    let (length, count) = (number(SEGMENT_BYTES)?, number(SEGMENT_COUNT)?);
    let kind = |index: u16| {
        let at = first.checked_add(usize::from(index) * usize::from(length))?;
        Some(u32::from_le_bytes(field(bytes, at)?))
    };
    // A program without segments cannot start.
    (0..count).map(kind).collect::<Option<Vec<u32>>>().filter(|kinds| !kinds.is_empty())
}

/// The bytes of a number.
fn field<const BYTES: usize>(bytes: &[u8], at: usize) -> Option<[u8; BYTES]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program for amd64 with segments of these kinds.
    fn program(kinds: &[u32]) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[..MAGIC.len()].copy_from_slice(MAGIC);
        bytes[MACHINE] = 62;
        bytes[SEGMENTS] = 64;
        bytes[SEGMENT_BYTES] = 56;
        bytes[SEGMENT_COUNT] = kinds.len() as u8;
        for kind in kinds {
            bytes.extend(kind.to_le_bytes());
            bytes.extend([0; 52]);
        }
        bytes
    }

    #[test]
    fn segments_of_a_program_are_found() {
        assert_eq!(segments(&program(&[6, 3, 1]), 62), Some(vec![6, 3, 1]));
        assert_eq!(segments(&program(&[1]), 183), None);
        assert_eq!(segments(&program(&[]), 62), None);
        assert_eq!(segments(b"#!/bin/sh\n", 62), None);
    }

    #[test]
    fn a_cut_program_is_none() {
        let whole = program(&[1, 2]);
        for length in 0..whole.len() - 52 {
            assert_eq!(segments(&whole[..length], 62), None, "{length} bytes");
        }
        let mut far = whole;
        far[SEGMENTS..SEGMENTS + 8].fill(0xff);
        assert_eq!(segments(&far, 62), None);
    }

    #[test]
    fn a_program_with_a_loader_is_refused() {
        // A test of cargo's is dynamic, unless all is built for musl.
        let own = std::env::current_exe().expect("a test has a path");
        let refused = check_static(&own, Architecture::Amd64);
        if cfg!(all(target_arch = "x86_64", target_env = "gnu")) {
            assert!(refused.unwrap_err().ends_with("needs a loader and libraries"));
        }
    }
}
