//! Hashes of what was read, and the format of a file by its first bytes.

use md5::Md5;
use panoptes_decoders::user::elf;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use super::{ContentFormat, ElfKind, Hashes, PageDigest};

/// The three hashes of a file whose content arrives piece by piece.
#[derive(Clone, Debug, Default)]
pub(super) struct Hashers {
    sha256: Sha256,
    sha1: Sha1,
    md5: Md5,
}

impl Hashers {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.sha1.update(bytes);
        self.md5.update(bytes);
    }

    /// Returns the hashes of all pieces and resets the state.
    pub(super) fn finish(&mut self) -> Hashes {
        Hashes {
            sha256: self.sha256.finalize_reset().into(),
            sha1: self.sha1.finalize_reset().into(),
            md5: self.md5.finalize_reset().into(),
        }
    }
}

pub(super) fn of_page(bytes: &[u8]) -> PageDigest {
    let whole: [u8; 32] = Sha256::digest(bytes).into();
    core::array::from_fn(|at| whole[at])
}

/// The format of a file that begins with these bytes.
pub(super) fn format_of(bytes: &[u8]) -> ContentFormat {
    match elf::kind(bytes) {
        None => ContentFormat::Other,
        Some(elf::ET_REL) => ContentFormat::Elf(ElfKind::Relocatable),
        Some(elf::ET_EXEC) => ContentFormat::Elf(ElfKind::Executable),
        Some(elf::ET_DYN) => ContentFormat::Elf(ElfKind::SharedObject),
        Some(elf::ET_CORE) => ContentFormat::Elf(ElfKind::Core),
        Some(other) => ContentFormat::Elf(ElfKind::Other(other)),
    }
}

#[cfg(test)]
mod tests {
    use panoptes_decoders::text::Hex;

    use super::*;

    /// The vectors of FIPS 180-2 (appendices A.1, B.1) and RFC 1321 (A.5), in pieces.
    #[test]
    fn the_standards_examples_match() {
        let mut hashers = Hashers::default();
        for _ in 0..2 {
            hashers.update(b"a");
            hashers.update(b"bc");
            let hashes = hashers.finish();
            assert_eq!(
                Hex(&hashes.sha256).to_string(),
                "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
            );
            assert_eq!(Hex(&hashes.sha1).to_string(), "a9993e364706816aba3e25717850c26c9cd0d89d");
            assert_eq!(Hex(&hashes.md5).to_string(), "900150983cd24fb0d6963f7d28e17f72");
        }
        assert_eq!(Hex(&of_page(b"abc")).to_string(), "ba7816bf8f01cfea414140de5dae2223");
    }
}
