//! The names that rows refer to. A name of a file is made at most once in a scan.

use super::facts::is_floating;
use crate::limits::Limits;
use crate::path::{PathBuffer, write_file_name};
use crate::walk::{FileRow, Index, Snapshot};
use panoptes_tables::{HashKey, StringId, Strings};

/// A file's name.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FileName {
    /// The interned name, counted for the caller; `None` if it could not be read or found no room.
    pub(super) id: Option<StringId>,
    /// Whether it ends in ` (deleted)`.
    pub(super) deleted: bool,
    /// Whether it found no room, so that it is only in [`Names::buffer`], until the next name is
    /// made.
    pub(super) in_buffer: bool,
}

/// The names that rows refer to, and those of the scan's files.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) strings: Strings,
    pub(super) buffer: PathBuffer,
    /// Names by the file's index in the snapshot. Every name in it counts as used until the scan
    /// ends, so that no id is freed and reused meanwhile.
    memo: Box<[Option<FileName>]>,
    touched: Vec<Index<FileRow>>,
}

impl Names {
    pub(super) fn new(limits: &Limits, key: HashKey) -> Self {
        let files = limits.files_seen_max();
        Self {
            strings: Strings::new(strings_bytes(limits), key),
            buffer: PathBuffer::default(),
            memo: vec![None; files].into_boxed_slice(),
            touched: Vec::with_capacity(files),
        }
    }

    /// The name of a file of this scan.
    pub(super) fn name(&mut self, snapshot: &Snapshot, file: Option<Index<FileRow>>) -> FileName {
        let Some(file) = file else { return FileName::default() };
        if let Some(Some(known)) = self.memo.get(file.position()) {
            if let Some(id) = known.id {
                self.strings.retain(id);
            }
            return *known;
        }
        let Some(row) = snapshot.files.at(file) else { return FileName::default() };
        let Some(named) = write_file_name(snapshot, row, &mut self.buffer) else {
            return FileName::default();
        };
        let id = self.strings.intern(self.buffer.text());
        let name = FileName { id, deleted: named.deleted, in_buffer: id.is_none() };
        if let (Some(id), Some(place)) = (id, self.memo.get_mut(file.position())) {
            self.strings.retain(id);
            *place = Some(name);
            self.touched.push(file);
        }
        name
    }

    /// Forgets the names of this scan's files.
    pub(super) fn end_scan(&mut self) {
        for file in self.touched.drain(..) {
            if let Some(name) = self.memo[file.position()].take()
                && let Some(id) = name.id
            {
                self.strings.release(id);
            }
        }
    }
}

/// Bytes for names: a command line and three paths per process, and the paths of open and mapped
/// files, most of which are shared (sockets and pipes need none). A loaded machine of 350 processes
/// with 19,000 descriptors and 35,000 areas took 125 KB.
fn strings_bytes(limits: &Limits) -> usize {
    let (processes, descriptors) = (limits.processes as usize, limits.file_descriptors as usize);
    (processes * 512 + descriptors * 16 + limits.vmas as usize * 4).max(64 * 1024)
}

/// Whether a file's name is its inode's number in brackets, which needs no room in the arena.
pub(super) fn is_numbered(snapshot: &Snapshot, file: Option<Index<FileRow>>, magic: u32) -> bool {
    super::facts::numbered_kind(magic).is_some()
        && snapshot.files.at(file).is_some_and(|row| is_floating(snapshot, row))
}
