//! Frames of zstd (RFC 8878).

use std::io::{self, BufRead, Read};

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// The frames of a zstd stream; skippable frames are skipped (RFC 8878, 3.1.2).
#[expect(missing_debug_implementations, reason = "the decoder has none")]
pub struct ZstdFrames<R> {
    input: R,
    decoder: FrameDecoder,
    is_open: bool,
    /// Whether the first frame alone is read.
    is_one: bool,
    /// Whether a frame was begun.
    is_begun: bool,
}

impl<R: BufRead> ZstdFrames<R> {
    /// The first frame alone.
    pub(crate) fn one(input: R) -> Self {
        Self { is_one: true, ..Self::all(input) }
    }

    /// All frames.
    pub fn all(input: R) -> Self {
        let decoder = FrameDecoder::new();
        Self { input, decoder, is_open: false, is_one: false, is_begun: false }
    }

    /// Refuses frames with a larger window than this, in bytes.
    #[must_use]
    pub fn with_window_max(mut self, bytes: u64) -> Self {
        self.decoder.set_max_window_size(bytes);
        self
    }

    /// Begins the next frame with data, if there is one.
    fn open(&mut self) -> io::Result<bool> {
        loop {
            if self.is_one && self.is_begun || self.input.fill_buf()?.is_empty() {
                return Ok(false);
            }
            self.is_begun = true;
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
    }
}

impl<R: BufRead> Read for ZstdFrames<R> {
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
