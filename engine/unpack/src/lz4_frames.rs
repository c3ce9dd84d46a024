//! The frames of lz4 files (LZ4 Frame Format), in which captures are packed. No kernel unpacks
//! them.

use std::io::{self, BufRead, Read};

use lz4_flex::frame::FrameDecoder;

/// First bytes of a frame (LZ4 Frame Format, "Magic Number").
pub const LZ4_FRAME_MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];

/// The content of all frames of an lz4 file.
///
/// Each frame has a decoder of its own: one that has read a frame with larger blocks asserts, in
/// debug builds, that the blocks of the next frame are as large.
#[derive(Debug)]
pub struct Lz4Frames<R: Read>(Option<FrameDecoder<R>>);

impl<R: BufRead> Lz4Frames<R> {
    /// All frames.
    pub fn all(input: R) -> Self {
        Self(Some(FrameDecoder::new(input)))
    }
}

impl<R: BufRead> Read for Lz4Frames<R> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        while let Some(decoder) = &mut self.0 {
            // The decoder returns zero at the end of each frame.
            let count = decoder.read(target)?;
            if count > 0 || target.is_empty() || decoder.get_mut().fill_buf()?.is_empty() {
                return Ok(count);
            }
            self.0 = self.0.take().map(|decoder| FrameDecoder::new(decoder.into_inner()));
        }
        Ok(0)
    }
}
