//! The old frame of lz4, which kernels use (lib/decompress_unlz4.c).

use std::io::{self, Read};

use crate::blocks::Unpack;

/// First bytes of a frame; another frame may follow (`ARCHIVE_MAGICNUMBER`).
const MAGIC: u32 = 0x184c_2102;
/// Unpacked size of a block (`LZ4_DEFAULT_UNCOMPRESSED_CHUNK_SIZE`).
const BLOCK_BYTES: usize = 8 << 20;

/// Reads the old lz4 frame: a magic number, then blocks of four bytes of length and that much data.
pub(crate) struct Legacy<R> {
    input: R,
}

impl<R: Read> Legacy<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input }
    }

    /// The length of the next block, or the magic number of another frame, if there is one.
    fn number(&mut self) -> io::Result<Option<u32>> {
        let mut number = [0; 4];
        let mut read = 0;
        while read < number.len() {
            match self.input.read(&mut number[read..])? {
                0 => return Ok(None),
                count => read += count,
            }
        }
        Ok(Some(u32::from_le_bytes(number)))
    }
}

impl<R: Read> Unpack for Legacy<R> {
    fn next_block(&mut self, block: &mut Vec<u8>) -> io::Result<bool> {
        let mut number = self.number()?;
        while number == Some(MAGIC) {
            number = self.number()?;
        }
        let bound = lz4_flex::block::get_maximum_output_size(BLOCK_BYTES);
        let length = number.map(|length| length as usize);
        let Some(length) = length.filter(|length| (1..=bound).contains(length)) else {
            // Data after the last block (the kernel's build appends its size).
            return Ok(false);
        };
        let mut packed = Vec::new();
        let read = (&mut self.input).take(length as u64).read_to_end(&mut packed)?;
        if read < length {
            // The appended size looks like a length without data after it.
            return if read == 0 { Ok(false) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        block.resize(BLOCK_BYTES, 0);
        let unpacked =
            lz4_flex::block::decompress_into(&packed, block).map_err(io::Error::other)?;
        block.truncate(unpacked);
        Ok(unpacked > 0)
    }
}
