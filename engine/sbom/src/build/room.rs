//! What the archives of one source may hold together: a small one can claim, or unpack to, very
//! much.

use std::fmt::Display;
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{SbomError, shown};

/// Maximum number of entries: eighty times those of a large distribution.
pub(super) const ENTRIES_MAX: u64 = 8 << 20;
/// Maximum number of bytes in their names and in the names that links lead to: a hundred times
/// those of a large distribution.
const ALL_NAMES_BYTES_MAX: u64 = 1 << 30;
/// Maximum number of page digests: enough for 128 GiB.
pub(super) const PAGES_MAX: usize = 32 << 20;
/// Maximum number of unpacked bytes: several times those of the largest images.
const UNPACKED_BYTES_MAX: u64 = 1 << 40;

/// How much of each there may still be. Archives are read at the same time.
pub(super) struct Room {
    entries: AtomicU64,
    name_bytes: AtomicU64,
    pages: AtomicU64,
    unpacked_bytes: AtomicU64,
    unpacked_max: u64,
}

impl Room {
    /// Room for an image, or for the files of a package.
    pub(super) const fn new() -> Self {
        Self::for_unpacked(UNPACKED_BYTES_MAX)
    }

    /// Room for this number of unpacked bytes.
    pub(super) const fn for_unpacked(unpacked_max: u64) -> Self {
        Self {
            entries: AtomicU64::new(ENTRIES_MAX),
            name_bytes: AtomicU64::new(ALL_NAMES_BYTES_MAX),
            pages: AtomicU64::new(PAGES_MAX as u64),
            unpacked_bytes: AtomicU64::new(unpacked_max),
            unpacked_max,
        }
    }

    /// Takes the room of an entry at `path`, which has so many pages. `target` is the number of
    /// bytes in the name that it leads to.
    pub(super) fn add(&self, path: &[u8], target: usize, pages: usize) -> Result<(), SbomError> {
        let name_bytes = path.len().saturating_add(target) as u64;
        for (left, count, max, what) in [
            (&self.entries, 1, ENTRIES_MAX, "entries"),
            (&self.name_bytes, name_bytes, ALL_NAMES_BYTES_MAX, "bytes of names"),
            (&self.pages, pages as u64, PAGES_MAX as u64, "pages of executable files"),
        ] {
            if !take(left, count) {
                return Err(too_many(max, what, path));
            }
        }
        Ok(())
    }

    /// Reads unpacked data as long as there is room for it.
    pub(super) const fn reader<R: Read>(&self, input: R) -> RoomReader<'_, R> {
        RoomReader { room: self, input }
    }
}

/// The error for more than `max` of something, which are exceeded at a path.
pub(super) fn too_many(max: impl Display, what: &str, path: &[u8]) -> SbomError {
    SbomError::content(format!("holds more than {max} {what}, at {}", shown(path)))
}

fn take(left: &AtomicU64, count: u64) -> bool {
    let less = |left: u64| left.checked_sub(count);
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
}

/// Unpacked data.
pub(super) struct RoomReader<'r, R> {
    room: &'r Room,
    input: R,
}

impl<R: Read> Read for RoomReader<'_, R> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(target)?;
        if take(&self.room.unpacked_bytes, count as u64) {
            return Ok(count);
        }
        let max = self.room.unpacked_max;
        Err(io::Error::other(format!("there are more than {max} bytes in it")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_archives_together_have_no_more_than_the_room() {
        let room = Room::for_unpacked(100);
        let read = || {
            let mut bytes = Vec::new();
            room.reader(&[0; 50][..]).read_to_end(&mut bytes).map_err(|error| error.to_string())
        };
        assert_eq!((read(), read()), (Ok(50), Ok(50)));
        assert_eq!(read(), Err("there are more than 100 bytes in it".to_owned()));
        room.entries.store(2, Ordering::Relaxed);
        room.name_bytes.store(5, Ordering::Relaxed);
        assert!(room.add(b"ab", 0, 0).is_ok());
        let message = room.add(b"c", 3, 0).unwrap_err().message;
        assert_eq!(message, "holds more than 1073741824 bytes of names, at c");
        room.entries.store(0, Ordering::Relaxed);
        let message = room.add(b"d", 0, 0).unwrap_err().message;
        assert_eq!(message, "holds more than 8388608 entries, at d");
        room.entries.store(1, Ordering::Relaxed);
        let message = room.add(b"e", 0, PAGES_MAX + 1).unwrap_err().message;
        assert_eq!(message, "holds more than 33554432 pages of executable files, at e");
    }
}
