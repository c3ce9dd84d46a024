//! The compressions that dumps use, each unpacked into a buffer of known size.
//!
//! zlib, LZO1X and snappy allocate nothing (engine/tests/no_alloc.rs). The decoder of zstd
//! allocates for every block, although its state is kept: this is the only place where a scan
//! allocates after the start.

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};

/// How a block is compressed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum BlockCompression {
    None,
    Zlib,
    Lzo,
    Snappy,
    Zstd,
}

/// Largest window of a zstd frame: a block is at most 64 KiB, and writers ask for at most four
/// times the block's size.
const ZSTD_WINDOW_BYTES_MAX: u64 = 1 << 20;

/// Decompresses blocks.
pub(super) struct Codec {
    zlib: Box<DecompressorOxide>,
    snappy: snap::raw::Decoder,
    zstd: Box<ruzstd::decoding::FrameDecoder>,
}

impl Codec {
    pub(super) fn new() -> Self {
        let mut zstd = Box::new(ruzstd::decoding::FrameDecoder::new());
        zstd.set_max_window_size(ZSTD_WINDOW_BYTES_MAX);
        Self { zlib: Box::default(), snappy: snap::raw::Decoder::new(), zstd }
    }

    /// Unpacks `source` to `target`; `false` unless it fills `target` exactly.
    pub(super) fn unpack(
        &mut self,
        how: BlockCompression,
        source: &[u8],
        target: &mut [u8],
    ) -> bool {
        let written = match how {
            BlockCompression::None if source.len() == target.len() => {
                target.copy_from_slice(source);
                Some(target.len())
            }
            BlockCompression::None => None,
            BlockCompression::Zlib => {
                self.zlib.init();
                let flags = inflate_flags::TINFL_FLAG_PARSE_ZLIB_HEADER
                    | inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
                let (status, _, written) = decompress(&mut self.zlib, source, target, 0, flags);
                (status == TINFLStatus::Done).then_some(written)
            }
            BlockCompression::Lzo => lzokay::decompress::decompress(source, target).ok(),
            BlockCompression::Snappy => self.snappy.decompress(source, target).ok(),
            BlockCompression::Zstd => self.zstd.decode_all(source, target).ok(),
        };
        written == Some(target.len())
    }
}

impl std::fmt::Debug for Codec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Codec")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Vec<u8> {
        (0..4096_u32).map(|at| (at / 3 % 50) as u8).collect()
    }

    fn packed(how: BlockCompression, page: &[u8]) -> Vec<u8> {
        super::super::testing::pack(how, page)
    }

    #[test]
    fn what_was_packed_is_unpacked() {
        let mut codec = Codec::new();
        let page = page();
        for how in [
            BlockCompression::None,
            BlockCompression::Zlib,
            BlockCompression::Lzo,
            BlockCompression::Snappy,
            BlockCompression::Zstd,
        ] {
            let packed = packed(how, &page);
            for _ in 0..2 {
                let mut target = vec![0; 4096];
                assert!(codec.unpack(how, &packed, &mut target), "{how:?}");
                assert_eq!(target, page, "{how:?}");
            }
            assert!(!codec.unpack(how, &packed, &mut vec![0; 4095]), "{how:?}");
            assert!(!codec.unpack(how, &packed, &mut vec![0; 4097]), "{how:?}");
            assert!(!codec.unpack(how, &packed[..packed.len() - 1], &mut vec![0; 4096]), "{how:?}");
            assert!(!codec.unpack(how, &[], &mut vec![0; 4096]), "{how:?}");
        }
    }
}
