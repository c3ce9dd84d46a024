//! Hashes of contents: of the whole, and of each page as in a page cache.

use std::io::{self, Read};

use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// The page size of digests, whatever a kernel's own page size is.
pub const DIGEST_PAGE_BYTES: usize = 4096;

/// The first half of the SHA-256 of one page: enough that no second page with it can be found.
pub type PageDigest = [u8; 16];

/// How many bytes are read at once: whole pages, and few enough to stay in a processor's cache.
pub const BLOCK_BYTES: usize = 256 << 10;
const _: () = assert!(BLOCK_BYTES.is_multiple_of(DIGEST_PAGE_BYTES));

/// Size and hashes of a content.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ContentDigests {
    /// In bytes.
    pub size: u64,
    pub sha256: [u8; 32],
    pub sha1: [u8; 20],
    pub md5: [u8; 16],
    /// Digest of each page, if requested.
    pub pages: Vec<PageDigest>,
}

/// The files whose pages are hashed, too.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum PageHashes {
    /// ELF files, scripts, libraries by their name, and executable files.
    #[default]
    Executables,
    All,
    None,
}

impl PageHashes {
    /// Whether a file's pages are hashed.
    fn wants(self, name: &[u8], mode: u16, beginning: &[u8]) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::Executables => {
                mode & 0o111 != 0
                    || beginning.starts_with(b"\x7fELF")
                    || beginning.starts_with(b"#!")
                    || is_library(name)
            }
        }
    }
}

/// `libc.so`, `libc.so.6`, but not `ld.so.conf`.
fn is_library(path: &[u8]) -> bool {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
    name.windows(3).enumerate().any(|(at, window)| {
        window == b".so" && name[at + 3..].iter().all(|byte| byte.is_ascii_digit() || *byte == b'.')
    })
}

/// Reads `input` to its end and hashes it. `block` is a buffer of [`BLOCK_BYTES`]; `name` and
/// `mode` are the file's.
pub fn digest(
    input: &mut dyn Read,
    block: &mut [u8],
    pages: PageHashes,
    name: &[u8],
    mode: u16,
    progress: &mut dyn FnMut(u64),
) -> io::Result<ContentDigests> {
    debug_assert!(
        block.len() >= DIGEST_PAGE_BYTES && block.len().is_multiple_of(DIGEST_PAGE_BYTES)
    );
    let (mut sha256, mut sha1, mut md5) = (Sha256::new(), Sha1::new(), Md5::new());
    let mut digests = Vec::new();
    let mut size = 0;
    let mut wants_pages = false;
    loop {
        let length = fill(input, block)?;
        let read = &block[..length];
        if size == 0 {
            wants_pages = pages.wants(name, mode, read);
        }
        sha256.update(read);
        sha1.update(read);
        md5.update(read);
        if wants_pages {
            digests.extend(read.chunks(DIGEST_PAGE_BYTES).map(page_digest));
        }
        size += length as u64;
        progress(length as u64);
        if length < block.len() {
            break;
        }
    }
    Ok(ContentDigests {
        size,
        sha256: sha256.finalize().into(),
        sha1: sha1.finalize().into(),
        md5: md5.finalize().into(),
        pages: digests,
    })
}

/// The digest of one page, or of the rest in the last one.
fn page_digest(page: &[u8]) -> PageDigest {
    let whole: [u8; 32] = Sha256::digest(page).into();
    let mut half = [0; 16];
    half.copy_from_slice(&whole[..16]);
    half
}

/// Reads until `block` is full or the input ends.
fn fill(input: &mut dyn Read, block: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < block.len() {
        match input.read(&mut block[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

/// Reads exactly `N` bytes of hexadecimal, upper or lower case.
pub fn from_hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != N * 2 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = (digit(0)? * 16 + digit(1)?) as u8;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(content: &[u8], pages: PageHashes, name: &str, mode: u16) -> ContentDigests {
        let mut block = vec![0; 2 * DIGEST_PAGE_BYTES];
        digest(&mut &*content, &mut block, pages, name.as_bytes(), mode, &mut |_| {}).unwrap()
    }

    #[test]
    fn known_hashes_come_out() {
        // The test vectors of FIPS 180 and RFC 1321.
        let content = of(b"abc", PageHashes::All, "", 0);
        assert_eq!(
            hex(&content.sha256),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(hex(&content.sha1), "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(hex(&content.md5), "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(hex(&content.pages[0]), "ba7816bf8f01cfea414140de5dae2223");
        assert_eq!((content.size, content.pages.len()), (3, 1));
    }

    #[test]
    fn pages_end_where_the_file_ends() {
        let content: Vec<u8> =
            (0..5 * DIGEST_PAGE_BYTES + 7).map(|index| (index / 31) as u8).collect();
        for length in
            [0, 1, DIGEST_PAGE_BYTES, DIGEST_PAGE_BYTES + 1, 2 * DIGEST_PAGE_BYTES, content.len()]
        {
            let found = of(&content[..length], PageHashes::All, "", 0);
            let expected: Vec<PageDigest> =
                content[..length].chunks(DIGEST_PAGE_BYTES).map(page_digest).collect();
            assert_eq!(found.pages, expected, "{length}");
            assert_eq!(found.size, length as u64);
            let whole: [u8; 32] = Sha256::digest(&content[..length]).into();
            assert_eq!(found.sha256, whole, "{length}");
        }
    }

    #[test]
    fn pages_are_of_what_may_be_executed() {
        let has = |content: &[u8], name, mode| {
            !of(content, PageHashes::Executables, name, mode).pages.is_empty()
        };
        assert!(has(b"text", "/bin/x", 0o755));
        assert!(has(b"\x7fELF", "/a.bin", 0o644));
        assert!(has(b"#!/bin/sh\n", "/a.sh", 0o644));
        assert!(has(b"text", "/lib/libc.so.6", 0o644));
        assert!(has(b"text", "/lib/libc.so", 0o644));
        assert!(!has(b"text", "/etc/ld.so.conf", 0o644));
        assert!(!has(b"text", "/lib.so/readme", 0o644));
        assert!(of(b"\x7fELF", PageHashes::None, "/x.so", 0o755).pages.is_empty());
    }

    #[test]
    fn hexadecimal_goes_both_ways() {
        assert_eq!(hex(&[0, 0xab, 0xff]), "00abff");
        assert_eq!(from_hex(b"00aBfF"), Some([0, 0xab, 0xff]));
        assert_eq!(from_hex::<3>(b"00abf"), None);
        assert_eq!(from_hex::<3>(b"00abfg"), None);
    }
}
