//! arm64's plain image: the kernel as in memory, without names for its parts.

use memchr::memmem;
use panoptes_decoders::layout::{u32_at, u64_at};

use super::{Architecture, ImportError, KernelFacts, hex, kallsyms_search};
use crate::btf::{self, BTF_TRIES_MAX, Btf, BtfHeader, KERNEL_BTF_BYTES_MIN};
use crate::profile_file::ProfileFile;
use crate::vmcoreinfo::find_release;

/// Maximum number of places that are checked for each search.
const FILE_PLACES_MAX: usize = 1 << 14;

/// A note of type 3 (`NT_GNU_BUILD_ID`) with 20 bytes, by the name "GNU".
const BUILD_ID_NOTE: &[u8] = b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0";

/// Size of the build id in the note, in bytes.
const BUILD_ID_BYTES: usize = 20;

/// Maximum size of a program inside the image: vDSOs have some KB.
const INNER_BYTES_MAX: usize = 1 << 20;

/// Generates a profile from an image that begins at `_text`.
pub(super) fn profile(image: &[u8]) -> Result<ProfileFile, ImportError> {
    let release = find_release(image).ok_or(ImportError::NoRelease)?.to_owned();
    let symbols = kallsyms_search::search(image, 0).ok_or(ImportError::NoSymbols)?;
    let build_id = build_id(image).unwrap_or_default();
    let btf = types(image)?;
    KernelFacts { build_id, release, symbols, members: &btf, architecture: Architecture::Aarch64 }
        .into_file()
}

/// The first BTF that is large enough and parses.
fn types(image: &[u8]) -> Result<Btf<'_>, ImportError> {
    let mut refusal = ImportError::NoTypes;
    let mut tries = 0;
    for at in memmem::find_iter(image, &btf::MAGIC).take(FILE_PLACES_MAX) {
        let rest = image.get(at..).unwrap_or(&[]);
        let Ok(header) = BtfHeader::parse(rest) else { continue };
        if header.total_bytes() < KERNEL_BTF_BYTES_MIN {
            continue;
        }
        tries += 1;
        if tries > BTF_TRIES_MAX {
            break;
        }
        match Btf::parse(rest) {
            Ok(btf) => return Ok(btf),
            Err(error) => refusal = ImportError::Btf(error),
        }
    }
    Err(refusal)
}

/// The kernel's own build id: the image also contains vDSOs, which are ELF files with their own
/// build ids.
fn build_id(image: &[u8]) -> Option<String> {
    let inner: Vec<_> = memmem::find_iter(image, b"\x7fELF")
        .take(FILE_PLACES_MAX)
        .filter_map(|at| Some(at..at + elf_bytes(image.get(at..)?)?))
        .collect();
    memmem::find_iter(image, BUILD_ID_NOTE)
        .take(FILE_PLACES_MAX)
        .find(|at| !inner.iter().any(|inner| inner.contains(at)))
        .and_then(|at| image.get(at + BUILD_ID_NOTE.len()..)?.get(..BUILD_ID_BYTES))
        .map(hex)
}

/// The length of an ELF file, up to the end of its section headers, which linkers put last. One of
/// the vDSOs has 32 bits (`CONFIG_COMPAT_VDSO`).
fn elf_bytes(elf: &[u8]) -> Option<usize> {
    // `e_shoff`, then `e_shentsize` and `e_shnum`; both classes little-endian, version 1.
    let (headers, sizes) = match elf.get(4..7)? {
        [2, 1, 1] => (u64_at(elf, 0x28), u32_at(elf, 0x3a)),
        [1, 1, 1] => (u64::from(u32_at(elf, 0x20)), u32_at(elf, 0x2e)),
        _ => return None,
    };
    let bytes = usize::try_from(headers).ok()?;
    let bytes = bytes.checked_add((sizes & 0xffff) as usize * (sizes >> 16) as usize)?;
    (bytes <= INNER_BYTES_MAX && bytes <= elf.len()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_build_id_of_a_program_inside_is_not_the_kernels() {
        let mut image = vec![0; 64];
        // Programs of 0x140 bytes, one of each class: their only section header, of 64 bytes, is at
        // 0x100.
        for (class, headers, sizes) in [(2, 0x28, 0x3a), (1, 0x20, 0x2e)] {
            let mut inner = [b"\x7fELF", &[class, 1, 1][..]].concat();
            inner.resize(0x140, 0);
            inner[headers + 1] = 1;
            inner[sizes] = 64;
            inner[sizes + 2] = 1;
            inner[0x80..0x80 + BUILD_ID_NOTE.len()].copy_from_slice(BUILD_ID_NOTE);
            image.extend(inner);
        }
        assert_eq!(build_id(&image), None);
        image.extend(BUILD_ID_NOTE);
        image.extend([0xab; 20]);
        assert_eq!(build_id(&image), Some("ab".repeat(20)));
        image.truncate(image.len() - 1);
        assert_eq!(build_id(&image), None);
    }
}
