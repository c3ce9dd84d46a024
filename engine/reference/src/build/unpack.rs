//! Compressed streams, recognised by their first bytes: gzip, zstd and xz, with all their members
//! or frames one after the other, or uncompressed.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// Maximum memory of one xz decoder in KiB; the data chooses its size.
const XZ_KIB_MAX: u32 = 160 << 10;

const GZIP: &[u8] = &[0x1f, 0x8b, 8];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const XZ: &[u8] = &[0xfd, b'7', b'z', b'X', b'Z', 0];

/// The compression of data with this beginning, for people.
pub(super) fn compression(beginning: &[u8]) -> Option<&'static str> {
    let known = [(GZIP, "gzip"), (ZSTD, "zstd"), (XZ, "xz")];
    known.into_iter().find(|(magic, _)| beginning.starts_with(magic)).map(|(_, name)| name)
}

/// The unpacked content of `input`.
pub(super) fn unpack<'r>(input: impl Read + 'r) -> io::Result<Box<dyn Read + 'r>> {
    let mut input = BufReader::with_capacity(1 << 17, input);
    // The first read of a file or a pipe returns this much, unless there is less.
    let beginning = input.fill_buf()?;
    Ok(match compression(beginning) {
        Some("gzip") => Box::new(MultiGzDecoder::new(input)),
        Some("zstd") => Box::new(Frames { input, decoder: FrameDecoder::new(), is_open: false }),
        Some("xz") => Box::new(lzma_rust2::XzReader::new_mem_limit(input, true, XZ_KIB_MAX)),
        _ => Box::new(input),
    })
}

/// The frames of a zstd stream; skippable frames are skipped (RFC 8878, 3.1.2).
struct Frames<R> {
    input: BufReader<R>,
    decoder: FrameDecoder,
    is_open: bool,
}

impl<R: Read> Frames<R> {
    /// Begins the next frame with data, if there is one.
    fn open(&mut self) -> io::Result<bool> {
        while !self.input.fill_buf()?.is_empty() {
            match self.decoder.reset(&mut self.input) {
                Ok(()) => {
                    self.is_open = true;
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let mut skipped = (&mut self.input).take(u64::from(length));
                    io::copy(&mut skipped, &mut io::sink())?;
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(false)
    }
}

impl<R: Read> Read for Frames<R> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        if target.is_empty() {
            return Ok(0);
        }
        loop {
            if self.is_open {
                while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                    self.decoder
                        .decode_blocks(&mut self.input, BlockDecodingStrategy::UptoBlocks(1))
                        .map_err(io::Error::other)?;
                }
                let count = self.decoder.read(target)?;
                if count > 0 {
                    return Ok(count);
                }
                self.is_open = false;
            }
            if !self.open()? {
                return Ok(0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn all(packed: &[u8]) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        unpack(packed)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(text).unwrap();
        out.finish().unwrap()
    }

    fn zstd(text: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(text, ruzstd::encoding::CompressionLevel::Fastest)
    }

    #[test]
    fn every_member_and_frame_is_read() {
        let text: Vec<u8> = (0..300_000_u32).map(|index| (index / 7) as u8).collect();
        assert_eq!(all(&text).unwrap(), text);
        let (one, two) = text.split_at(100_000);
        assert_eq!(all(&[gzip(one), gzip(two)].concat()).unwrap(), text);
        // A skippable frame, in which zstd:chunked writes its table of contents.
        let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"toc"].concat();
        let frames = [zstd(one), skipped.clone(), zstd(b""), zstd(two), skipped].concat();
        assert_eq!(all(&frames).unwrap(), text);
        assert_eq!(all(b"").unwrap(), b"");
    }

    #[test]
    fn what_is_cut_short_is_an_error() {
        for packed in [gzip(&[7; 5000]), zstd(&[7; 5000])] {
            for length in 4..packed.len() - 8 {
                let cut = all(&packed[..length]);
                assert!(cut.is_err() || cut.is_ok_and(|bytes| bytes.len() <= 5000));
            }
            assert!(all(&packed[..packed.len() / 2]).is_err());
        }
    }
}
