//! Compressed captures, recognised by their first bytes and unpacked while they are read: gzip, xz,
//! zstd and lz4, with all their members, streams or frames one after the other.

use std::io::{self, BufRead, BufReader, Cursor, Read};

use flate2::bufread::MultiGzDecoder;
use panoptes_unpack::ZstdFrames;

/// Enough for each of the marks below.
const MARK_BYTES: usize = 6;
/// Bytes of compressed data that are read at once.
const PACKED_READ_BYTES: usize = 128 << 10;
/// Memory of an xz decoder in KiB; the data asks for it. `xz -9` needs 65 MiB.
const XZ_KIB_MAX: u32 = 160 << 10;
/// Window of a zstd frame: the most that `zstd -d` unpacks without being asked.
const ZSTD_WINDOW_BYTES_MAX: u64 = 128 << 20;

/// How a file is compressed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum CaptureCompression {
    Gzip,
    Xz,
    Zstd,
    Lz4,
    /// Not supported, with its name.
    Other(&'static str),
}

const MARKS: [(&[u8], CaptureCompression); 7] = [
    (b"\x1f\x8b\x08", CaptureCompression::Gzip), // RFC 1952 §2.3.1
    (b"\xfd7zXZ\0", CaptureCompression::Xz),     // The .xz File Format §2.1.1.1
    (b"\x28\xb5\x2f\xfd", CaptureCompression::Zstd), // RFC 8878 §3.1.1
    (b"\x04\x22\x4d\x18", CaptureCompression::Lz4), // LZ4 Frame Format, "Magic Number"
    (b"BZh", CaptureCompression::Other("bzip2")), // no decoder in Rust has a usable licence
    (b"\x1f\x9d", CaptureCompression::Other("compress (.Z)")),
    (b"PK\x03\x04", CaptureCompression::Other("zip")),
];

/// A reader of what a file holds.
pub(crate) struct UnpackedReader {
    pub(crate) reader: Box<dyn Read + Send>,
    pub(crate) was_compressed: bool,
}

/// Why a file is not unpacked.
pub(crate) enum UnpackError {
    Read(io::Error),
    /// The name of a compression that is not supported.
    Compression(&'static str),
}

/// Looks at the first bytes of a file and unpacks what follows, if it is compressed.
pub(crate) fn unpack(mut reader: Box<dyn Read + Send>) -> Result<UnpackedReader, UnpackError> {
    let mut mark = Vec::with_capacity(MARK_BYTES);
    (&mut reader).take(MARK_BYTES as u64).read_to_end(&mut mark).map_err(UnpackError::Read)?;
    let found = MARKS.iter().find(|(bytes, _)| mark.starts_with(bytes));
    let whole = Cursor::new(mark).chain(reader);
    let Some((_, compression)) = found else {
        return Ok(UnpackedReader { reader: Box::new(whole), was_compressed: false });
    };
    let input = BufReader::with_capacity(PACKED_READ_BYTES, whole);
    let reader: Box<dyn Read + Send> = match compression {
        CaptureCompression::Gzip => Box::new(MultiGzDecoder::new(input)),
        CaptureCompression::Xz => {
            Box::new(lzma_rust2::XzReader::new_mem_limit(input, true, XZ_KIB_MAX))
        }
        CaptureCompression::Zstd => {
            Box::new(ZstdFrames::all(input).with_window_max(ZSTD_WINDOW_BYTES_MAX))
        }
        CaptureCompression::Lz4 => Box::new(Lz4Frames(lz4_flex::frame::FrameDecoder::new(input))),
        CaptureCompression::Other(name) => return Err(UnpackError::Compression(name)),
    };
    Ok(UnpackedReader { reader, was_compressed: true })
}

/// The frames of an lz4 file.
struct Lz4Frames<R: Read>(lz4_flex::frame::FrameDecoder<R>);

impl<R: BufRead> Read for Lz4Frames<R> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        loop {
            // The decoder returns zero at the end of each frame.
            let count = self.0.read(target)?;
            if count > 0 || target.is_empty() || self.0.get_mut().fill_buf()?.is_empty() {
                return Ok(count);
            }
        }
    }
}
