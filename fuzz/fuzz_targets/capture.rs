//! Capture files of every format: read to their end, and no packet lies about itself.
//!
//! The first byte of the input is how the rest is read: its lowest bit asks for TSH, the others are
//! how many bytes a read returns at most.
#![cfg_attr(fuzzing, no_main)]

use std::io::{Cursor, Read};

use panoptes_fuzz::fuzz_target;
use panoptes_packet_files::{CaptureFile, CaptureFormat, CaptureOptions};

/// Unpacked bytes of one input: a compressed one may have a thousand times its size.
const CAPTURE_BYTES_MAX: u64 = 64 << 20;

struct SlowReader {
    capture: Cursor<Vec<u8>>,
    bytes_max: usize,
}

impl Read for SlowReader {
    fn read(&mut self, target: &mut [u8]) -> std::io::Result<usize> {
        let count = target.len().min(self.bytes_max);
        self.capture.read(&mut target[..count])
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((how, capture)) = data.split_first() else { return };
    let bytes_max = match how >> 1 {
        0 => usize::MAX,
        bytes => usize::from(bytes),
    };
    let reader = SlowReader { capture: Cursor::new(capture.to_vec()), bytes_max };
    let options = CaptureOptions { as_tsh: how & 1 != 0, ..CaptureOptions::default() };
    let Ok(mut file) = CaptureFile::from_reader(reader, "input", &options) else { return };
    assert_eq!(file.format() == CaptureFormat::Tsh, options.as_tsh);
    let mut read = 0;
    while read < CAPTURE_BYTES_MAX
        && let Ok(Some(frame)) = file.next()
    {
        assert!(frame.bytes.len() <= 256 << 10);
        // Each record has a header: the loop ends.
        read += 12 + frame.bytes.len() as u64;
    }
    let _ = file.skipped();
});
