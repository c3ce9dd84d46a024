//! A file of raw physical memory, read with pread: the file offset is the physical address.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use panoptes_decoders::source::{MemorySource, ReadOutcome, ReadRequest};

pub(crate) struct RawFile {
    file: File,
    pub(crate) region: Range<u64>,
}

impl RawFile {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let end = file.metadata()?.len();
        Ok(Self { file, region: 0..end })
    }
}

impl MemorySource for RawFile {
    fn read_batch(&mut self, requests: &mut [ReadRequest], arena: &mut [u8]) {
        for request in requests {
            let Some(range) = request.target_range(arena.len()) else {
                request.outcome = ReadOutcome::Failed;
                continue;
            };
            let read = self.file.read_exact_at(&mut arena[range], request.address.0);
            request.outcome = if read.is_ok() { ReadOutcome::Read } else { ReadOutcome::NotBacked };
        }
    }

    fn regions(&self) -> &[Range<u64>] {
        std::slice::from_ref(&self.region)
    }
}
