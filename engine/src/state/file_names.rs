//! The names that rows refer to. The name of a file is made at most once in a scan if it finds room
//! as a whole; one that is cut or refused is made again for each row that asks for it.

use core::mem;

use panoptes_decoders::kernel::super_block::FilesKind;

use super::described::{CONTAINER_ROOM, PROCESS_ROOM};
use super::ended::ended_room;
use super::facts::is_floating;
use crate::limits::Limits;
use crate::path::{PathBuffer, write_file_name};
use crate::walk::{FileRow, Index, Snapshot};
use panoptes_tables::{
    CUT_BYTES_MIN, CutText, HEADER_BYTES, HashKey, StringId, StringRoom, Strings, room,
};

/// A file's name.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FileName {
    /// The interned name, counted for the caller; `None` if it could not be read or found no room.
    pub(super) id: Option<StringId>,
    /// Whether it ends in ` (deleted)`.
    pub(super) deleted: bool,
    /// Whether it found no room, so that it is only in [`FileNames::buffer`], until the next name
    /// is made.
    pub(super) in_buffer: bool,
}

/// What naming the files of a scan needs only during that scan.
#[derive(Debug)]
pub(super) struct NamesScratch {
    memo: Box<[Option<FileName>]>,
    touched: Vec<Index<FileRow>>,
}

impl NamesScratch {
    pub(super) fn new(limits: &Limits) -> Self {
        let files = limits.files_seen_max();
        Self { memo: room::copies(None, files), touched: room::list(files) }
    }
}

/// A row with a name.
pub(super) trait NamedRow {
    fn name(&mut self) -> &mut Option<StringId>;
    /// Whether it has no name, although its file has one.
    fn lacks_name(&self) -> bool;
}

/// The names that rows refer to, and those of the scan's files.
#[derive(Debug)]
pub(super) struct FileNames {
    pub(super) strings: Strings,
    pub(super) buffer: PathBuffer,
    /// Names by the file's index in the snapshot. Every name in it counts as used until the scan
    /// ends, so that no id is freed and reused meanwhile.
    memo: Box<[Option<FileName>]>,
    touched: Vec<Index<FileRow>>,
    /// Bytes of a name of the process that is compared; longer ones are cut. With 0 it gets no
    /// more names.
    pub(super) longest: usize,
    /// Number of the scan, which may wrap.
    scan: u32,
    /// Number of missing names that this scan still makes out of turn.
    late_left: u32,
}

/// Number of scans after which a name that found no room, or could not be read, is made again, if
/// there are many of them.
const LATE_SCANS: u64 = 64;
/// Number of missing names that each scan makes out of turn. A name that was changing in the scan
/// that first showed its file is then known one scan later.
const LATE_NAMES: u32 = 64;

/// Bytes to which a name is cut if the whole name finds no room.
pub(super) const CUT_BYTES: usize = 64;

impl FileNames {
    pub(super) fn new(limits: &Limits, key: HashKey) -> Self {
        Self {
            strings: Strings::with_capacity(open_room(limits), reserved_room(limits), key),
            buffer: PathBuffer::default(),
            memo: Box::default(),
            touched: Vec::default(),
            longest: usize::MAX,
            scan: 0,
            late_left: LATE_NAMES,
        }
    }

    pub(super) fn exchange(&mut self, scratch: &mut NamesScratch) {
        mem::swap(&mut self.memo, &mut scratch.memo);
        mem::swap(&mut self.touched, &mut scratch.touched);
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
        let Ok(named) = write_file_name(snapshot, row, &mut self.buffer) else {
            return FileName::default();
        };
        if self.longest == 0 {
            self.strings.refuse();
            return FileName { id: None, deleted: named.deleted, in_buffer: true };
        }
        let text = self.buffer.text();
        let whole = if text.len() <= self.longest { self.strings.intern(text) } else { None };
        // The record of now has all of the name, later ones have its beginning. Other processes
        // may have the whole name.
        let id = whole.or_else(|| intern_cut(&mut self.strings, text, self.longest));
        let name = FileName { id, deleted: named.deleted, in_buffer: whole.is_none() };
        if whole.is_none() {
            return name;
        }
        if let (Some(id), Some(place)) = (id, self.memo.get_mut(file.position())) {
            self.strings.retain(id);
            *place = Some(name);
            self.touched.push(file);
        }
        name
    }

    /// Whether the missing name of a row is made in this scan: the first ones are, and the others
    /// take turns by a number of each.
    pub(super) fn is_late_due(&mut self, number: u64) -> bool {
        if self.longest == 0 || !self.strings.has_room(CUT_BYTES) {
            return false;
        }
        if number.wrapping_add(self.scan.into()).is_multiple_of(LATE_SCANS) {
            return true;
        }
        let is_left = self.late_left > 0;
        self.late_left = self.late_left.saturating_sub(1);
        is_left
    }

    /// Forgets the names of this scan's files.
    pub(super) fn end_scan(&mut self) {
        self.scan = self.scan.wrapping_add(1);
        self.late_left = LATE_NAMES;
        for file in self.touched.drain(..) {
            if let Some(name) = self.memo[file.position()].take()
                && let Some(id) = name.id
            {
                self.strings.release(id);
            }
        }
    }
}

/// Adds the beginning of a name, of at most `longest` bytes.
fn intern_cut(strings: &mut Strings, text: &[u8], longest: usize) -> Option<StringId> {
    strings.intern(CutText::new(text, longest.min(CUT_BYTES)).bytes())
}

/// Bytes of the shortest name that is cut, with its header: while names are limited by their bytes,
/// there is no lack of places for them.
const LEAST_BYTES: usize = CUT_BYTES_MIN + HEADER_BYTES;

/// Room for the names of open and mapped files, most of which are shared (sockets and pipes need
/// none), and for long names of processes: almost twice what a loaded machine of 350 processes took
/// (125 KB with 19,000 descriptors and 35,000 areas).
fn open_room(limits: &Limits) -> StringRoom {
    let bytes = limits.file_descriptors as usize * 8 + limits.vmas as usize * 2;
    let bytes = bytes.max(64 * 1024);
    StringRoom { bytes, strings: bytes / LEAST_BYTES }
}

/// Room that is always there for the names of each process, container and ended owner.
fn reserved_room(limits: &Limits) -> StringRoom {
    let (processes, containers) = (limits.processes as usize, limits.containers as usize);
    let ended = ended_room(limits);
    StringRoom {
        bytes: processes * PROCESS_ROOM.bytes + containers * CONTAINER_ROOM.bytes + ended.bytes,
        strings: processes * PROCESS_ROOM.strings
            + containers * CONTAINER_ROOM.strings
            + ended.strings,
    }
}

/// Whether a file's name is its inode's number in brackets, which needs no room in the arena.
pub(super) fn is_numbered(
    snapshot: &Snapshot,
    file: Option<Index<FileRow>>,
    files: FilesKind,
) -> bool {
    super::facts::numbered_kind(files).is_some()
        && snapshot.files.at(file).is_some_and(|row| is_floating(snapshot, row))
}
