//! Files of lzop, which kernels unpack (`parse_header` and `unlzo`, lib/decompress_unlzo.c): a
//! header, then blocks. All numbers are big-endian.
//!
//! Checksums are not checked: kernels do not check them either.

use std::io::{self, Read};

use crate::blocks::Unpack;

/// First bytes of a file.
pub(crate) const MAGIC: [u8; 9] = [0x89, b'L', b'Z', b'O', 0, b'\r', b'\n', 0x1a, b'\n'];
/// The first version whose header has a level and the high half of a time.
const VERSION_WITH_LEVEL: u16 = 0x940;
/// Flags of the header: a filter, an extra field; and which checksums the blocks have.
const FILTER: u32 = 0x800;
const EXTRA_FIELD: u32 = 0x40;
const CHECKSUMS_UNPACKED: [u32; 2] = [0x1, 0x100];
const CHECKSUMS_PACKED: [u32; 2] = [0x2, 0x200];
/// Maximum size of an unpacked block (`LZO_BLOCK_SIZE`).
const LZO_BLOCK_BYTES_MAX: usize = 256 << 10;

/// Reads the blocks of one file.
pub(crate) struct Lzop<R> {
    input: R,
    /// The flags, once the header was read.
    flags: Option<u32>,
    packed: Vec<u8>,
}

impl<R: Read> Lzop<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input, flags: None, packed: Vec::new() }
    }

    fn skip(&mut self, count: u64) -> io::Result<()> {
        let skipped = io::copy(&mut (&mut self.input).take(count), &mut io::sink())?;
        if skipped == count { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn bytes<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn number(&mut self) -> io::Result<u32> {
        self.bytes().map(u32::from_be_bytes)
    }

    /// Reads the header; returns its flags.
    fn header(&mut self) -> io::Result<u32> {
        if self.bytes()? != MAGIC {
            return Err(damaged("it has another magic"));
        }
        let version = self.bytes().map(u16::from_be_bytes)?;
        let has_level = version >= VERSION_WITH_LEVEL;
        // The version of the library; then the version that is needed, the method and the level.
        self.skip(if has_level { 2 + 4 } else { 2 + 1 })?;
        let flags = self.number()?;
        if flags & FILTER != 0 {
            return Err(damaged("it has a filter"));
        }
        // The mode and the time.
        self.skip(if has_level { 12 } else { 8 })?;
        let [name_bytes] = self.bytes()?;
        // The name, and the header's checksum.
        self.skip(u64::from(name_bytes) + 4)?;
        if flags & EXTRA_FIELD != 0 {
            let length = self.number()?;
            self.skip(u64::from(length) + 4)?;
        }
        Ok(flags)
    }
}

impl<R: Read> Unpack for Lzop<R> {
    fn next_block(&mut self, block: &mut Vec<u8>) -> io::Result<bool> {
        let flags = match self.flags {
            Some(flags) => flags,
            None => self.header()?,
        };
        self.flags = Some(flags);
        let count = |known: [u32; 2], flags: u32| {
            known.into_iter().filter(|flag| flags & flag != 0).count() as u64
        };
        let unpacked = self.number()? as usize;
        if unpacked == 0 {
            return Ok(false);
        }
        let packed = self.number()? as usize;
        if unpacked > LZO_BLOCK_BYTES_MAX || packed > unpacked || packed == 0 {
            return Err(damaged("a block has a bad size"));
        }
        // A block that did not become smaller is stored.
        let is_stored = packed == unpacked;
        let of_packed = if is_stored { 0 } else { count(CHECKSUMS_PACKED, flags) };
        self.skip(4 * (count(CHECKSUMS_UNPACKED, flags) + of_packed))?;
        self.packed.resize(packed, 0);
        self.input.read_exact(&mut self.packed)?;
        block.resize(unpacked, 0);
        if is_stored {
            block.copy_from_slice(&self.packed);
        } else if !lzokay::decompress::decompress(&self.packed, block)
            .is_ok_and(|count| count == unpacked)
        {
            return Err(damaged("a block cannot be unpacked"));
        }
        Ok(true)
    }
}

fn damaged(what: &str) -> io::Error {
    io::Error::other(format!("the file of lzop is damaged: {what}"))
}
