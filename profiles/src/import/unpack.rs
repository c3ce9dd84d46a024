//! Unpacks compressed data, recognized by its beginning: gzip, xz, lzma, zstd, lz4 (the old frame
//! that kernels use).
//!
//! The caller bounds all output by reading no more than required. Data after the compressed data is
//! ignored.

use std::io::{self, Read};

use super::Error;

/// Maximum memory of an xz or lzma decoder, in KiB. The decoder allocates what the data requests:
/// `xz -9e` needs 64 MiB, and newer kernels are packed with dictionaries of 128 MiB
/// (scripts/xz_wrap.sh).
const LZMA_KIB_MAX: u32 = 160 << 10;

/// Unpacked size of a block of the old lz4 frame (`LZ4_DEFAULT_UNCOMPRESSED_CHUNK_SIZE`,
/// lib/decompress_unlz4.c).
const LZ4_BLOCK_BYTES: usize = 8 << 20;

/// A compression format.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Compression {
    Gzip,
    Xz,
    Lzma,
    Zstd,
    Lz4Legacy,
}

impl Compression {
    /// The format of data with this beginning, if it is compressed.
    pub(crate) fn of(beginning: &[u8]) -> Option<Self> {
        let known: [(&[u8], Self); 6] = [
            (&[0x1f, 0x8b, 8], Self::Gzip),
            (&[0xfd, b'7', b'z', b'X', b'Z', 0], Self::Xz),
            (&[0x5d, 0, 0, 0], Self::Lzma),
            (&[0x5d, 0, 0, 0x80], Self::Lzma),
            (&[0x28, 0xb5, 0x2f, 0xfd], Self::Zstd),
            (&[0x02, 0x21, 0x4c, 0x18], Self::Lz4Legacy),
        ];
        known.into_iter().find(|(magic, _)| beginning.starts_with(magic)).map(|(_, way)| way)
    }

    /// A reader of the unpacked data of `input`.
    pub(crate) fn reader<'r>(self, input: impl Read + 'r) -> Result<Box<dyn Read + 'r>, Error> {
        let refused = |error: &dyn std::fmt::Display| Error::Compressed(error.to_string());
        Ok(match self {
            Self::Gzip => Box::new(flate2::read::GzDecoder::new(input)),
            Self::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(input, false, LZMA_KIB_MAX)),
            Self::Lzma => Box::new(
                lzma_rust2::LzmaReader::new_mem_limit(input, LZMA_KIB_MAX, None)
                    .map_err(|error| refused(&error))?,
            ),
            Self::Zstd => Box::new(
                ruzstd::decoding::StreamingDecoder::new(input).map_err(|error| refused(&error))?,
            ),
            Self::Lz4Legacy => Box::new(Lz4Legacy::new(input)),
        })
    }
}

/// Unpacks all of `bytes` to at most `bytes_max`; `None` if their format is unknown.
pub(crate) fn unpack(bytes: &[u8], bytes_max: u64) -> Result<Option<Vec<u8>>, Error> {
    let Some(way) = Compression::of(bytes) else { return Ok(None) };
    let mut unpacked = Vec::new();
    let read = way
        .reader(bytes)?
        .take(bytes_max + 1)
        .read_to_end(&mut unpacked)
        .map_err(|error| Error::Compressed(error.to_string()))?;
    if read as u64 > bytes_max {
        return Err(Error::TooLarge { what: "the compressed image", bytes_max });
    }
    Ok(Some(unpacked))
}

/// Reads the old lz4 frame: a magic number, then blocks of four bytes of length and that much data.
struct Lz4Legacy<R> {
    input: R,
    started: bool,
    block: Vec<u8>,
    at: usize,
}

impl<R: Read> Lz4Legacy<R> {
    fn new(input: R) -> Self {
        Self { input, started: false, block: Vec::new(), at: 0 }
    }

    /// The length of the next block, if there is one.
    fn length(&mut self) -> io::Result<Option<usize>> {
        let mut length = [0; 4];
        let mut read = 0;
        while read < length.len() {
            match self.input.read(&mut length[read..])? {
                0 => return Ok(None),
                count => read += count,
            }
        }
        Ok(Some(u32::from_le_bytes(length) as usize))
    }

    fn next_block(&mut self) -> io::Result<bool> {
        if !self.started {
            self.started = true;
            // The magic number, already checked.
            let _ = self.length()?;
        }
        let bound = lz4_flex::block::get_maximum_output_size(LZ4_BLOCK_BYTES);
        let Some(length) = self.length()?.filter(|length| (1..=bound).contains(length)) else {
            // Data after the last block (the kernel's build appends its size).
            return Ok(false);
        };
        let mut packed = Vec::new();
        let read = (&mut self.input).take(length as u64).read_to_end(&mut packed)?;
        if read < length {
            // The appended size looks like a length without data after it.
            return if read == 0 { Ok(false) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        self.block.resize(LZ4_BLOCK_BYTES, 0);
        let unpacked =
            lz4_flex::block::decompress_into(&packed, &mut self.block).map_err(io::Error::other)?;
        self.block.truncate(unpacked);
        self.at = 0;
        Ok(unpacked > 0)
    }
}

impl<R: Read> Read for Lz4Legacy<R> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        if self.at == self.block.len() && !self.next_block()? {
            return Ok(0);
        }
        let rest = self.block.get(self.at..).unwrap_or(&[]);
        let count = rest.len().min(target.len());
        target[..count].copy_from_slice(&rest[..count]);
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const TEXT: &[u8] = b"a kernel, a kernel, my kingdom for a kernel";

    fn unpacked(mut packed: Vec<u8>) -> Vec<u8> {
        // The kernel's build appends the size.
        packed.extend((TEXT.len() as u32).to_le_bytes());
        unpack(&packed, 1000).unwrap().expect("the format is known")
    }

    #[test]
    fn each_format_is_unpacked_and_data_after_it_ignored() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(TEXT).unwrap();
        assert_eq!(unpacked(gzip.finish().unwrap()), TEXT);
        let zstd =
            ruzstd::encoding::compress_to_vec(TEXT, ruzstd::encoding::CompressionLevel::Fastest);
        assert_eq!(unpacked(zstd), TEXT);
        let block = lz4_flex::block::compress(TEXT);
        let mut lz4 = vec![0x02, 0x21, 0x4c, 0x18];
        lz4.extend((block.len() as u32).to_le_bytes());
        lz4.extend(block);
        assert_eq!(unpacked(lz4), TEXT);
    }

    #[test]
    fn too_much_and_damage_are_errors() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(&[0; 5000]).unwrap();
        let packed = gzip.finish().unwrap();
        assert!(matches!(unpack(&packed, 4999), Err(Error::TooLarge { .. })));
        assert!(unpack(&packed, 5000).is_ok());
        assert!(matches!(unpack(&packed[..20], 5000), Err(Error::Compressed(_))));
        assert!(unpack(b"plain text", 100).unwrap().is_none());
    }
}
