//! Blocks of entries in files below a folder, which outlive the program.
//!
//! A file's name has the first and the last sequence that wait in it, the number of entries, and
//! their kind. So a start reads only the folder. Files are not synced: a crash of the program loses
//! nothing that was written, and what a crash of the machine tears is found by the entries' checks.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::memory::{BLOCK_BYTES, HEAD_BYTES};

/// A folder with blocks, which no other program uses.
#[derive(Debug)]
pub(super) struct Disk {
    folder: PathBuf,
    /// The folder, which is locked until this is closed.
    _lock: File,
    /// For tests: it has no room for further files.
    #[cfg(test)]
    pub(super) is_full: bool,
}

/// A block on disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Segment {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) entries: usize,
    pub(super) is_alert: bool,
}

/// Records contain command lines and paths.
pub const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

impl Disk {
    /// Opens a folder, which is created if it is missing.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)?;
        let lock = File::open(folder)?;
        lock.try_lock()?;
        Ok(Self {
            folder: folder.to_owned(),
            _lock: lock,
            #[cfg(test)]
            is_full: false,
        })
    }

    /// The blocks in the folder and their lengths, oldest first.
    pub(super) fn segments(&self) -> io::Result<Vec<(Segment, usize)>> {
        segments(&self.folder)
    }

    pub(super) fn write(&self, segment: Segment, bytes: &[u8]) -> io::Result<()> {
        #[cfg(test)]
        if self.is_full {
            return Err(ErrorKind::StorageFull.into());
        }
        let path = self.path(segment);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(FILE_MODE);
        options.custom_flags(libc::O_NOFOLLOW);
        let written = options.open(&path).and_then(|mut file| file.write_all(bytes));
        if written.is_err() {
            let _ = fs::remove_file(&path);
        }
        written
    }

    /// Reads a block; returns its length.
    pub(super) fn read(&self, segment: Segment, bytes: &mut [u8]) -> io::Result<usize> {
        let mut file = File::open(self.path(segment))?;
        let mut length = 0;
        loop {
            match file.read(&mut bytes[length..]) {
                Ok(0) => return Ok(length),
                Ok(count) => length += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Leaves the last entries of a block, which needs no room: those before are not read again.
    pub(super) fn shorten(&self, segment: Segment, rest: Segment) -> io::Result<()> {
        fs::rename(self.path(segment), self.path(rest))
    }

    /// Removes a block. One that stays is sent again after the next start.
    pub(super) fn remove(&self, segment: Segment) {
        let _ = fs::remove_file(self.path(segment));
    }

    fn path(&self, segment: Segment) -> PathBuf {
        self.folder.join(segment.name())
    }
}

/// The blocks in a folder and their lengths, oldest first. Other files are left alone.
fn segments(folder: &Path) -> io::Result<Vec<(Segment, usize)>> {
    let mut all = Vec::new();
    for file in fs::read_dir(folder)? {
        let file = file?;
        if let Some(segment) = file.file_name().to_str().and_then(Segment::named) {
            all.push((segment, file.metadata()?.len() as usize));
        }
    }
    all.sort_unstable_by_key(|(segment, _)| segment.first);
    Ok(all)
}

/// The number of entries in the folder of a backlog, which may be in use.
pub fn entries_on_disk(folder: &Path) -> io::Result<usize> {
    Ok(segments(folder)?.iter().map(|(segment, _)| segment.entries).sum())
}

/// More have no room in a block.
const ENTRIES_MAX: usize = BLOCK_BYTES / HEAD_BYTES;

const ALERTS: &str = "alerts";
const OTHERS: &str = "others";

impl Segment {
    fn name(self) -> String {
        let kind = if self.is_alert { ALERTS } else { OTHERS };
        format!("{:016x}-{:016x}-{}-{kind}", self.first, self.last, self.entries)
    }

    fn named(name: &str) -> Option<Self> {
        let mut parts = name.split('-');
        let mut sequence = || u64::from_str_radix(parts.next()?, 16).ok();
        let (first, last) = (sequence()?, sequence()?);
        let entries = parts.next()?.parse().ok()?;
        let segment = Self { first, last, entries, is_alert: parts.next()? == ALERTS };
        // Only as it would be written: each file has one name.
        let is_possible =
            (1..=ENTRIES_MAX).contains(&entries) && last.checked_sub(first)? >= entries as u64 - 1;
        (is_possible && last < u64::MAX && segment.name() == name).then_some(segment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_form() {
        let segment = Segment { first: 10, last: 0x1ff, entries: 12, is_alert: true };
        let name = "000000000000000a-00000000000001ff-12-alerts";
        assert_eq!((segment.name().as_str(), Segment::named(name)), (name, Some(segment)));
        for wrong in [
            "",
            ".lock",
            "000000000000000a-00000000000001ff-12",
            "000000000000000a-00000000000001ff-12-errors",
            "000000000000000a-00000000000001ff-012-alerts",
            "000000000000000A-00000000000001ff-12-alerts",
            "000000000000000a-00000000000001ff-12-alerts-2",
            "000000000000000a-000000000000000b-3-alerts",
            "000000000000000b-000000000000000a-1-alerts",
            "000000000000000a-000000000000000b-0-alerts",
            "000000000000000a-ffffffffffffffff-1-alerts",
        ] {
            assert_eq!(Segment::named(wrong), None, "{wrong}");
        }
    }
}
