//! Compressed captures, recognised by their first bytes and unpacked while they are read: gzip, xz,
//! zstd and lz4, with all their members, streams or frames one after the other.

use std::io::{self, BufReader, Cursor, Read};

use panoptes_unpack::{
    Compression, LZ4_FRAME_MAGIC, Lz4Frames, PACKED_READ_BYTES, ZstdFrames, gzip_members,
    unsupported, xz_streams,
};

/// Enough for the first bytes of each compression.
const MARK_BYTES: usize = 6;
/// Window of a zstd frame: the most that `zstd -d` unpacks without being asked.
const ZSTD_WINDOW_BYTES_MAX: u64 = 128 << 20;

/// First bytes and names of what packs captures, but no packages and kernels. It is not unpacked.
const UNSUPPORTED: [(&[u8], &str); 2] = [(b"\x1f\x9d", "compress (.Z)"), (b"PK\x03\x04", "zip")];

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
    let is_lz4 = mark.starts_with(&LZ4_FRAME_MAGIC);
    if !is_lz4 && let Some(name) = unsupported_name(&mark) {
        return Err(UnpackError::Compression(name));
    }
    let compression = Compression::of(&mark);
    let whole = Cursor::new(mark).chain(reader);
    let packed = |whole| BufReader::with_capacity(PACKED_READ_BYTES, whole);
    let reader: Box<dyn Read + Send> = match compression {
        Some(Compression::Gzip) => Box::new(gzip_members(packed(whole))),
        Some(Compression::Xz) => Box::new(xz_streams(packed(whole))),
        Some(Compression::Zstd) => {
            Box::new(ZstdFrames::all(packed(whole)).with_window_max(ZSTD_WINDOW_BYTES_MAX))
        }
        None if is_lz4 => Box::new(Lz4Frames::all(packed(whole))),
        // No capture is packed in these ways, and few bytes show them.
        Some(Compression::Lzma | Compression::Lz4Legacy | Compression::Lzo) | None => {
            return Ok(UnpackedReader { reader: Box::new(whole), was_compressed: false });
        }
    };
    Ok(UnpackedReader { reader, was_compressed: true })
}

/// The name of a compression that is recognised and not unpacked.
fn unsupported_name(mark: &[u8]) -> Option<&'static str> {
    let other = || UNSUPPORTED.iter().find(|(bytes, _)| mark.starts_with(bytes));
    unsupported(mark).or_else(|| other().map(|&(_, name)| name))
}
