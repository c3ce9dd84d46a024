//! Compressed streams, recognised by their first bytes: one of them ([`Compression`]), as in
//! kernels and initramfs images, or all that follow each other ([`all`]), as in packages and
//! layers.
//!
//! The data is hostile: decoders have a limit of memory. How much is unpacked, the caller bounds by
//! reading no more.
//!
//! Captures need readers that other threads may own, larger zstd windows and lz4's new form. So
//! `packet-files` chooses among the same readers: [`gzip_members`], [`xz_streams`], [`ZstdFrames`]
//! and [`Lz4Frames`].
//!
//! Not here: compressed dumps, whose formats have their own readers.
//!
//! Start reading at [`Compression`].

#![forbid(unsafe_code)]

mod blocks;
mod lz4;
mod lz4_frames;
mod lzo;
mod zstd;

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::{GzDecoder, MultiGzDecoder};
use lzma_rust2::{LzmaReader, XzReader};

pub use lz4_frames::{LZ4_FRAME_MAGIC, Lz4Frames};
pub use zstd::ZstdFrames;

use blocks::BlockReader;
use lz4::Legacy;
use lzo::Lzop;

/// Maximum memory of an xz or lzma decoder, in KiB. The decoder allocates what the data requests:
/// `xz -9e` needs 64 MiB, and newer kernels are packed with dictionaries of 128 MiB
/// (scripts/xz_wrap.sh).
const LZMA_KIB_MAX: u32 = 160 << 10;
/// How many packed bytes are read at once.
pub const PACKED_READ_BYTES: usize = 128 << 10;

/// First bytes of an `ar` archive, the format of Debian's packages (deb(5)), whose members are
/// compressed.
pub const AR: &[u8] = b"!<arch>\n";

/// How data is compressed: in a way that a kernel can unpack, too (lib/decompress.c).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Compression {
    Gzip,
    Xz,
    Lzma,
    Zstd,
    /// The old form of lz4, which `lz4 -l` writes.
    Lz4Legacy,
    /// A file of lzop.
    Lzo,
}

impl Compression {
    /// The compression of data with this beginning, if it is compressed.
    pub fn of(beginning: &[u8]) -> Option<Self> {
        let known: [(&[u8], Self); 6] = [
            (&[0x1f, 0x8b, 8], Self::Gzip),                 // RFC 1952, 2.3.1
            (&[0xfd, b'7', b'z', b'X', b'Z', 0], Self::Xz), // The .xz File Format, 2.1.1.1
            // The usual properties, and a dictionary of a multiple of 64 KiB.
            (&[0x5d, 0, 0], Self::Lzma),
            (&[0x28, 0xb5, 0x2f, 0xfd], Self::Zstd), // RFC 8878, 3.1.1
            (&[0x02, 0x21, 0x4c, 0x18], Self::Lz4Legacy),
            // A part is recognised by fewer bytes than the magic has.
            (&lzo::MAGIC[..8], Self::Lzo),
        ];
        known.into_iter().find(|(magic, _)| beginning.starts_with(magic)).map(|(_, way)| way)
    }

    /// Its name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Lzma => "lzma",
            Self::Zstd => "zstd",
            Self::Lz4Legacy => "lz4",
            Self::Lzo => "lzo",
        }
    }

    /// A reader of the unpacked data of one stream. At its end, `input` is behind the stream.
    pub fn reader<'r>(self, input: impl BufRead + 'r) -> io::Result<Box<dyn Read + 'r>> {
        Ok(match self {
            Self::Gzip => Box::new(GzDecoder::new(input)),
            Self::Xz => Box::new(XzReader::new_mem_limit(input, false, LZMA_KIB_MAX)),
            Self::Lzma => Box::new(LzmaReader::new_mem_limit(Bytes(input), LZMA_KIB_MAX, None)?),
            Self::Zstd => Box::new(ZstdFrames::one(input)),
            Self::Lz4Legacy => Box::new(BlockReader::new(Legacy::new(input))),
            Self::Lzo => Box::new(BlockReader::new(Lzop::new(input))),
        })
    }
}

/// The name of a compression that is recognised and not unpacked.
pub fn unsupported(beginning: &[u8]) -> Option<&'static str> {
    let known: [(&[u8], _); 2] = [
        (b"BZh", "bzip2"), // no decoder in Rust has a usable licence
        // No kernel unpacks it; `lz4 -l` writes the form that they do.
        (&LZ4_FRAME_MAGIC, "lz4 in its new form"),
    ];
    known.into_iter().find(|(magic, _)| beginning.starts_with(magic)).map(|(_, name)| name)
}

/// The content of `input`, unpacked if gzip, xz or zstd packed it, with all members, streams or
/// frames one after the other.
pub fn all<'r>(input: impl Read + 'r) -> io::Result<Box<dyn Read + 'r>> {
    let mut input = BufReader::with_capacity(PACKED_READ_BYTES, input);
    // The first read of a file or a pipe returns this much, unless there is less.
    Ok(match Compression::of(input.fill_buf()?) {
        Some(Compression::Gzip) => Box::new(gzip_members(input)),
        Some(Compression::Xz) => Box::new(xz_streams(input)),
        Some(Compression::Zstd) => Box::new(ZstdFrames::all(input)),
        // No archive is packed in these ways, and few bytes show two of them.
        Some(Compression::Lzma | Compression::Lz4Legacy | Compression::Lzo) | None => {
            Box::new(input)
        }
    })
}

/// The content of all members of a gzip file.
pub fn gzip_members<R: BufRead>(input: R) -> impl Read {
    MultiGzDecoder::new(input)
}

/// The content of all streams of an xz file.
pub fn xz_streams<R: BufRead>(input: R) -> impl Read {
    XzReader::new_mem_limit(input, true, LZMA_KIB_MAX)
}

/// Gives one byte at a time. The decoder of lzma buffers what it is given; this way it takes
/// nothing of what follows its stream.
struct Bytes<R>(R);

impl<R: Read> Read for Bytes<R> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let length = target.len().min(1);
        self.0.read(&mut target[..length])
    }
}

#[cfg(test)]
mod tests;
