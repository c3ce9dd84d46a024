//! Interns the names of files from a scan; each name is made at most once in a scan.

use super::facts::is_floating;
use crate::limits::Limits;
use crate::path::{PathBuffer, write_file_name};
use crate::walk::Snapshot;
use panoptes_tables::{StringId, Strings};

/// A file's name.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FileName {
    /// The interned name, counted for the caller; `None` if it could not be read or found no room.
    pub(super) id: Option<StringId>,
    /// Whether it ends in ` (deleted)`.
    pub(super) deleted: bool,
    /// Whether it found no room, so that it is only in [`Namer::buffer`], until the next name is
    /// made.
    pub(super) in_buffer: bool,
}

#[derive(Debug)]
pub(super) struct Namer {
    pub(super) buffer: PathBuffer,
    /// Names by the file's index in the snapshot. Every name in it counts as used until the scan
    /// ends, so that no id is freed and reused meanwhile.
    memo: Box<[Option<FileName>]>,
    touched: Vec<u32>,
}

impl Namer {
    pub(super) fn new(limits: &Limits) -> Self {
        let files = limits.files_seen_max();
        Self {
            buffer: PathBuffer::default(),
            memo: vec![None; files].into_boxed_slice(),
            touched: Vec::with_capacity(files),
        }
    }

    /// The name of a file of this scan.
    pub(super) fn name(
        &mut self,
        snapshot: &Snapshot,
        file: u32,
        strings: &mut Strings,
    ) -> FileName {
        if let Some(Some(known)) = self.memo.get(file as usize) {
            if let Some(id) = known.id {
                strings.retain(id);
            }
            return *known;
        }
        let Some(row) = snapshot.files.at(file) else { return FileName::default() };
        let Some(named) = write_file_name(snapshot, row, &mut self.buffer) else {
            return FileName::default();
        };
        let id = strings.intern(self.buffer.text());
        let name = FileName { id, deleted: named.deleted, in_buffer: id.is_none() };
        if let (Some(id), Some(place)) = (id, self.memo.get_mut(file as usize)) {
            strings.retain(id);
            *place = Some(name);
            self.touched.push(file);
        }
        name
    }

    /// Forgets the names of this scan's files.
    pub(super) fn end_scan(&mut self, strings: &mut Strings) {
        for file in self.touched.drain(..) {
            if let Some(name) = self.memo[file as usize].take()
                && let Some(id) = name.id
            {
                strings.release(id);
            }
        }
    }
}

/// Whether a file's name is its inode's number in brackets, which needs no room in the arena.
pub(super) fn is_numbered(snapshot: &Snapshot, file: u32, magic: u32) -> bool {
    super::facts::numbered_kind(magic).is_some()
        && snapshot.files.at(file).is_some_and(|row| is_floating(snapshot, row))
}
