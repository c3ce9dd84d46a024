//! One tracked memory area.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::vm_area_struct::VM_EXEC;
use panoptes_decoders::source::PAGE_BYTES;
use panoptes_tables::{StringId, Strings};

use super::change::AreaBefore;
use super::facts::{AreaFacts, is_main_executable};
use super::file_names::Named;
use crate::walk::{MmRow, Snapshot, VmaRow};

/// One tracked area.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Area {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) file: u64,
    pub(super) inode: u64,
    /// Its `anon_vma`, as of the last scan.
    pub(super) anon_vma: u64,
    /// The low half of `VM_*`, which has all that /proc shows.
    pub(super) flags: u32,
    /// The low half of its offset in its file, in pages.
    pub(super) page_offset: u32,
    /// Its file's path or, without a file, its own name.
    pub(super) name: Option<StringId>,
    /// Whether it is a special mapping of the kernel, such as the vDSO.
    pub(super) special: bool,
    pub(super) is_main_executable: bool,
    /// Whether any of it was executable at some time.
    pub(super) was_executable: bool,
}

impl Area {
    pub(super) fn new(snapshot: &Snapshot, mm: &MmRow, row: &VmaRow) -> Self {
        let vma = &row.vma;
        Self {
            start: vma.start,
            end: vma.end,
            flags: vma.flags as u32,
            file: vma.file.0,
            inode: inode(snapshot, row),
            anon_vma: vma.anon_vma.0,
            page_offset: vma.page_offset as u32,
            was_executable: vma.flags & VM_EXEC != 0,
            name: None,
            special: vma.file.is_null() && !vma.ops.is_null(),
            is_main_executable: is_main_executable(snapshot, mm, row),
        }
    }

    /// Whether the scan shows it unchanged.
    #[inline]
    pub(super) fn is(&self, snapshot: &Snapshot, row: &VmaRow) -> bool {
        let vma = &row.vma;
        self.start == vma.start
            && self.end == vma.end
            && self.flags == vma.flags as u32
            && self.file == vma.file.0
            && self.inode == inode(snapshot, row)
    }

    /// Whether both map the same object.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.file == other.file && self.inode == other.inode && self.special == other.special
    }

    pub(super) fn facts<'a>(&self, process_id: u32, strings: &'a Strings) -> AreaFacts<'a> {
        let name = self.name.map(|id| strings.get(id));
        let has_file = self.file != 0;
        AreaFacts {
            process_id,
            start: self.start,
            end: self.end,
            flags: self.flags.into(),
            is_main_executable: self.is_main_executable,
            file: name.filter(|_| has_file),
            name: name.filter(|_| !has_file),
            has_file,
            special: self.special,
            anon_vma: KernelVa(self.anon_vma),
        }
    }

    /// The part of it that `new` replaces, as it was.
    ///
    /// `was_all_there` needs all old areas, so callers set it.
    pub(super) fn before(&self, new: &Self) -> AreaBefore {
        AreaBefore {
            start: self.start.max(new.start),
            end: self.end.min(new.end),
            flags: self.flags.into(),
            anon_vma: KernelVa(self.anon_vma),
            was_executable: self.was_executable,
            was_all_there: false,
            had_other_part: self.file != 0
                && new.file != 0
                && self.first_page() != new.first_page(),
        }
    }

    /// The part of it from `start` to `end`.
    pub(super) fn part(&self, start: u64, end: u64) -> Self {
        let skipped = ((start - self.start) / PAGE_BYTES) as u32;
        Self { start, end, page_offset: self.page_offset.wrapping_add(skipped), ..*self }
    }

    /// The low half of the page at which the first byte of its file would be.
    fn first_page(&self) -> u32 {
        ((self.start / PAGE_BYTES) as u32).wrapping_sub(self.page_offset)
    }

    pub(super) fn release(&self, strings: &mut Strings) {
        if let Some(id) = self.name {
            strings.release(id);
        }
    }
}

fn inode(snapshot: &Snapshot, row: &VmaRow) -> u64 {
    if row.vma.file.is_null() {
        return 0;
    }
    snapshot.files.at(row.file).map_or(0, |file| file.open.inode.0)
}

/// An area of the last scan, while it is searched in this one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Old {
    /// Its row, which is in no list meanwhile.
    pub(super) number: u32,
    /// Whether a new area continues it.
    pub(super) claimed: bool,
    /// Whether any of it is left.
    pub(super) touched: bool,
}

impl Named for Area {
    fn name(&mut self) -> &mut Option<StringId> {
        &mut self.name
    }
}
