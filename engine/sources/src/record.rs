//! [`Recorder`]: remembers which pages were read and writes an image of them for [`super::Replay`].

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use panoptes_decoders::address::PhysicalAddress;
use panoptes_decoders::source::{MemorySource, PAGE_BYTES, ReadOutcome, ReadRequest};

use super::SourceError;
use super::image::{self, PAGE};
use super::pages::UnitSet;

/// Counts of [`Recorder::write_image`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RecordedPages {
    /// Pages written.
    pub pages: u64,
    /// Pages that were read before, but could not be read when the image was written.
    pub lost: u64,
}

/// Creates a file for a machine's memory, which has its secrets: nobody but its owner may read it.
/// An existing file is removed first, because others may have opened it.
pub fn create_recording(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(RECORDING_MODE).open(path)
}

const RECORDING_MODE: u32 = 0o600;

/// A source that remembers the pages read through it.
#[derive(Debug)]
pub struct Recorder<S> {
    source: S,
    touched: UnitSet,
}

impl<S: MemorySource> Recorder<S> {
    /// Wraps a source. This allocates a bit for each page; nothing is allocated later.
    pub fn new(source: S) -> Result<Self, SourceError> {
        let touched = UnitSet::new(source.regions(), PAGE_BYTES.trailing_zeros())?;
        Ok(Self { source, touched })
    }

    /// Writes the recorded pages, which are read again for it. Pause the machine before the first
    /// read; otherwise the image mixes several moments.
    pub fn write_image(&mut self, out: &mut impl Write) -> Result<RecordedPages, SourceError> {
        let touched: Vec<u64> = self.touched.iter().collect();
        let mut page = [0; PAGE];
        // The header has the number of pages, so find out first which cannot be read.
        let mut frames = Vec::with_capacity(touched.len());
        for &frame in &touched {
            if self.source.read_exact(PhysicalAddress(frame * PAGE_BYTES), &mut page) {
                frames.push(frame);
            }
        }
        let source = &mut self.source;
        image::write(out, source.regions().to_vec().as_slice(), &frames, |frame, page| {
            let read = source.read_exact(PhysicalAddress(frame * PAGE_BYTES), page);
            read.then_some(()).ok_or_else(|| {
                io::Error::other("memory went away while it was recorded: pause the machine")
            })
        })
        .map_err(SourceError::Write)?;
        Ok(RecordedPages {
            pages: frames.len() as u64,
            lost: (touched.len() - frames.len()) as u64,
        })
    }
}

impl<S: MemorySource> MemorySource for Recorder<S> {
    fn read_batch(&mut self, requests: &mut [ReadRequest], arena: &mut [u8]) {
        self.source.read_batch(requests, arena);
        for request in requests.iter().filter(|request| request.outcome == ReadOutcome::Read) {
            self.touched.insert(request.address.0, u64::from(request.length));
        }
    }

    fn regions(&self) -> &[Range<u64>] {
        self.source.regions()
    }

    fn next_data(&mut self, from: PhysicalAddress) -> Option<Range<u64>> {
        self.source.next_data(from)
    }

    fn move_by(&mut self, bytes: u64) -> bool {
        let moved = self.source.move_by(bytes);
        if moved {
            self.touched.move_by(bytes);
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::{Detail, MappedMemory, Replay, SourceMeter};

    fn memory() -> Replay {
        let frames = vec![0, 1, 2, 7, 0x10_0000, 0x10_0003];
        let pages = (0..frames.len() * PAGE).map(|at| (at / 7 + at / PAGE) as u8).collect();
        let regions = vec![0..0x1_0000, 0x1_0000_0000..0x1_0001_0000];
        Replay::from_pages(regions, frames, pages).unwrap()
    }

    #[test]
    fn nobody_else_may_read_a_recording_even_in_place_of_a_file_that_all_may_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory.image");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        let mut reader = File::open(&path).unwrap();
        for _ in 0..2 {
            create_recording(&path).unwrap().write_all(b"new").unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        }
        let mut text = String::new();
        io::Read::read_to_string(&mut reader, &mut text).unwrap();
        assert_eq!(text, "old");
        assert!(create_recording(folder.path()).is_err());
    }

    #[test]
    fn moving_memory_moves_the_recorded_pages() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(0x8000).unwrap();
        std::os::unix::fs::FileExt::write_all_at(file.as_file(), &[1; 0x3000], 0).unwrap();
        let memory =
            SourceMeter::new(MappedMemory::open(file.path()).unwrap(), Detail::Lines).unwrap();
        let mut recorder = Recorder::new(memory).unwrap();
        assert!(recorder.read_exact(PhysicalAddress(0x1ff0), &mut [0; 8]));
        assert!(!recorder.move_by(12), "not by a part of a page");
        assert!(recorder.move_by(0x4000_0000));
        assert!(recorder.read_exact(PhysicalAddress(0x4000_2000), &mut [0; 8]));
        let expected = [0x4000_1000, 0x4000_2000];
        let touched: Vec<u64> = recorder.touched.iter().map(|page| page * PAGE_BYTES).collect();
        assert_eq!(touched, expected);
        let meter = &recorder.source;
        assert_eq!(meter.pages().collect::<Vec<_>>(), expected.map(PhysicalAddress));
        assert_eq!(meter.counts().lines, 2);
        assert!(recorder.move_by(0x4000_0000_u64.wrapping_neg()));
        let mut image = Vec::new();
        recorder.write_image(&mut image).unwrap();
        let mut replay = Replay::from_bytes(image).unwrap();
        assert!(replay.read_exact(PhysicalAddress(0x1000), &mut [0; 0x2000]));
        // A source that cannot move its memory leaves it in place.
        assert!(!Recorder::new(replay).unwrap().move_by(0x1000));
    }

    #[test]
    fn an_image_holds_exactly_the_pages_that_were_read() {
        let mut recorder = Recorder::new(memory()).unwrap();
        let mut arena = [0; 0x4000];
        let mut requests = [
            ReadRequest::new(PhysicalAddress(0xfff), 2, 0),
            ReadRequest::new(PhysicalAddress(0x1_0000_3000), 1, 8),
            ReadRequest::new(PhysicalAddress(0x5000), 0x1000, 0), // not backed
            ReadRequest::new(PhysicalAddress(0x2000), 0, 0),      // empty
        ];
        recorder.read_batch(&mut requests, &mut arena);
        assert_eq!(recorder.touched.count(), 3);

        let mut image = Vec::new();
        assert_eq!(recorder.write_image(&mut image).unwrap(), RecordedPages { pages: 3, lost: 0 });
        let mut replay = Replay::from_bytes(image).unwrap();
        assert_eq!(replay.regions(), memory().regions());
        let found: Vec<u64> = replay.page_addresses().map(|address| address.0).collect();
        assert_eq!(found, [0, 0x1000, 0x1_0000_3000]);
        for address in found {
            let (mut left, mut right) = ([0; PAGE], [1; PAGE]);
            assert!(replay.read_exact(PhysicalAddress(address), &mut left));
            assert!(memory().read_exact(PhysicalAddress(address), &mut right));
            assert_eq!(left, right);
        }
    }

    #[test]
    fn recorded_pages_that_are_not_backed_any_more_are_counted_as_lost() {
        let mut recorder = Recorder::new(memory()).unwrap();
        recorder.touched.insert(0x1000, 0x2000);
        recorder.touched.insert(0x4000, 1);
        let mut image = Vec::new();
        assert_eq!(recorder.write_image(&mut image).unwrap(), RecordedPages { pages: 2, lost: 1 });
        recorder.touched.clear();
        image.clear();
        assert_eq!(recorder.write_image(&mut image).unwrap(), RecordedPages { pages: 0, lost: 0 });
        assert_eq!(Replay::from_bytes(image).unwrap().page_count(), 0);
    }
}
