//! One tracked memory area.

use panoptes_decoders::kernel::vm_area_struct::VM_EXEC;
use panoptes_decoders::source::PAGE_BYTES;
use panoptes_tables::{StringId, Strings, Tag};

use super::facts::{AreaFacts, is_main_executable};
use super::file_names::NamedRow;
use crate::walk::{MmRow, Snapshot, VmaRow};

/// An area, or a part of one, as it was in the last scan.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct AreaBefore {
    /// Start of the part that has changed.
    pub start: u64,
    /// End of the part that has changed.
    pub end: u64,
    /// `VM_*` before the change.
    pub flags: u64,
    /// `struct anon_vma *` before the change; none where the area had no pages of its own.
    pub anon_vma: Tag<4>,
    /// Whether any of it was executable at some time.
    pub was_executable: bool,
    /// Whether all of the present area was mapped before, in one piece or more.
    pub was_all_there: bool,
    /// Whether another part of a file was mapped there.
    pub had_other_part: bool,
}

/// One tracked area.
///
/// There can be very many. Where an address is only compared, its [`Tag`] stands for it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Area {
    start: UserPageNumber,
    end: UserPageNumber,
    file: Tag<4>,
    /// Its `anon_vma`, as of the last scan.
    anon_vma: Tag<4>,
    inode: Tag<3>,
    marks: u8,
    /// The low half of `VM_*`, which has all that /proc shows.
    pub(super) flags: u32,
    /// The low half of its offset in its file, in pages.
    pub(super) page_offset: u32,
    /// Its file's path or, without a file, its own name.
    pub(super) name: Option<StringId>,
}

const _: () = assert!(size_of::<Area>() == 36);

/// Yes or no, of an area; and a count.
mod mark {
    /// Whether it is a special mapping of the kernel, such as the vDSO.
    pub(super) const SPECIAL: u8 = 1 << 0;
    pub(super) const MAIN_EXECUTABLE: u8 = 1 << 1;
    /// Whether any of it was executable at some time.
    pub(super) const WAS_EXECUTABLE: u8 = 1 << 2;
    /// One in the number of consecutive scans that showed only other areas.
    pub(super) const UNSEEN_SCAN: u8 = 1 << 3;
    pub(super) const UNSEEN_SCANS: u8 = !(UNSEEN_SCAN - 1);
}

/// The number of a page of user memory, which has 45 bits at most (five levels of page tables).
/// Higher ones are forged.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct UserPageNumber {
    low: [u8; 4],
    high: [u8; 2],
}

impl UserPageNumber {
    #[inline]
    fn of(address: u64) -> Self {
        let number = (address / PAGE_BYTES).min((1 << 48) - 1);
        let high = (number >> 32) as u16;
        Self { low: (number as u32).to_le_bytes(), high: high.to_le_bytes() }
    }

    /// Whether it is that of an address. Forged addresses may be inside a page.
    #[inline]
    fn holds(self, address: u64) -> bool {
        self.address() == address || self == Self::of(address)
    }

    #[inline]
    const fn address(self) -> u64 {
        let (low, high) = (u32::from_le_bytes(self.low), u16::from_le_bytes(self.high));
        ((high as u64) << 32 | low as u64) * PAGE_BYTES
    }
}

impl Area {
    pub(super) fn new(snapshot: &Snapshot, mm: &MmRow, row: &VmaRow) -> Self {
        let vma = &row.vma;
        Self {
            start: UserPageNumber::of(vma.start),
            end: UserPageNumber::of(vma.end),
            flags: vma.flags as u32,
            file: Tag::of(vma.file.0),
            inode: inode(snapshot, row),
            anon_vma: Tag::of(vma.anon_vma.0),
            page_offset: vma.page_offset as u32,
            marks: mark_if(mark::WAS_EXECUTABLE, vma.flags & VM_EXEC != 0)
                | mark_if(mark::SPECIAL, vma.file.is_null() && row.has_ops)
                | mark_if(mark::MAIN_EXECUTABLE, is_main_executable(snapshot, mm, row)),
            name: None,
        }
    }

    /// First address.
    #[inline]
    pub(super) const fn start(&self) -> u64 {
        self.start.address()
    }

    /// First address after it.
    #[inline]
    pub(super) const fn end(&self) -> u64 {
        self.end.address()
    }

    /// Whether both are at the same place.
    pub(super) fn is_at(&self, other: &Self) -> bool {
        (self.start, self.end) == (other.start, other.end)
    }

    pub(super) fn has_file(&self) -> bool {
        !self.file.is_none()
    }

    /// Whether both map the same file, opened at once or not.
    pub(super) fn maps_file_of(&self, other: &Self) -> bool {
        self.file == other.file || !self.inode.is_none() && self.inode == other.inode
    }

    const fn is_marked(&self, mark: u8) -> bool {
        self.marks & mark != 0
    }

    /// Notes that any of it was executable at some time, if it was.
    pub(super) const fn note_executable(&mut self, was_executable: bool) {
        self.marks |= mark_if(mark::WAS_EXECUTABLE, was_executable);
    }

    /// Number of consecutive scans that showed only other areas, saturating.
    pub(super) const fn unseen_scans(&self) -> u8 {
        self.marks / mark::UNSEEN_SCAN
    }

    /// Notes one more of them.
    pub(super) const fn add_unseen_scan(&mut self) {
        let has_room = self.marks & mark::UNSEEN_SCANS != mark::UNSEEN_SCANS;
        self.marks += mark_if(mark::UNSEEN_SCAN, has_room);
    }

    /// Whether the scan shows it unchanged.
    #[inline]
    pub(super) fn is(&self, snapshot: &Snapshot, row: &VmaRow) -> bool {
        let vma = &row.vma;
        self.start.holds(vma.start)
            && self.end.holds(vma.end)
            && self.flags == vma.flags as u32
            && self.file == Tag::of(vma.file.0)
            && is_same_inode(self.inode, inode(snapshot, row))
    }

    /// Whether its row has all that the scan shows of the unchanged area.
    #[inline]
    pub(super) fn is_noted(&self, row: &VmaRow) -> bool {
        self.anon_vma == Tag::of(row.vma.anon_vma.0)
            && self.unseen_scans() == 0
            && (!self.inode.is_none() || !self.has_file())
            && !self.lacks_name()
    }

    /// Notes what the scan shows of the unchanged area.
    pub(super) fn note(&mut self, snapshot: &Snapshot, row: &VmaRow) {
        self.anon_vma = Tag::of(row.vma.anon_vma.0);
        self.marks &= !mark::UNSEEN_SCANS;
        if self.inode.is_none() {
            self.inode = inode(snapshot, row);
        }
    }

    /// Whether both map the same object.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.file == other.file
            && is_same_inode(self.inode, other.inode)
            && (self.marks ^ other.marks) & mark::SPECIAL == 0
    }

    /// Continues an old area, whose inode it has if the scan could not read its file.
    pub(super) fn continue_from(&mut self, old: &Self) {
        self.note_executable(old.is_marked(mark::WAS_EXECUTABLE));
        self.name = old.name;
        if self.inode.is_none() {
            self.inode = old.inode;
        }
    }

    pub(super) fn facts<'a>(&self, process_id: u32, strings: &'a Strings) -> AreaFacts<'a> {
        let name = self.name.map(|id| strings.get(id));
        let has_file = self.has_file();
        AreaFacts {
            process_id,
            start: self.start(),
            end: self.end(),
            flags: self.flags.into(),
            is_main_executable: self.is_marked(mark::MAIN_EXECUTABLE),
            executable_unknown: false,
            file: name.filter(|_| has_file),
            file_stop: None,
            name: name.filter(|_| !has_file),
            has_file,
            special: self.is_marked(mark::SPECIAL),
            anon_vma: self.anon_vma,
        }
    }

    /// The part of it that `new` replaces, as it was.
    ///
    /// `was_all_there` needs all old areas, so callers set it.
    pub(super) fn before(&self, new: &Self) -> AreaBefore {
        AreaBefore {
            start: self.start().max(new.start()),
            end: self.end().min(new.end()),
            flags: self.flags.into(),
            anon_vma: self.anon_vma,
            was_executable: self.is_marked(mark::WAS_EXECUTABLE),
            was_all_there: false,
            had_other_part: self.has_file()
                && new.has_file()
                && self.first_page() != new.first_page(),
        }
    }

    /// The part of it from `start` to `end`.
    pub(super) fn part(&self, start: u64, end: u64) -> Self {
        let skipped = ((start - self.start()) / PAGE_BYTES) as u32;
        let page_offset = self.page_offset.wrapping_add(skipped);
        Self {
            start: UserPageNumber::of(start),
            end: UserPageNumber::of(end),
            page_offset,
            ..*self
        }
    }

    /// The low half of the page at which the first byte of its file would be.
    fn first_page(&self) -> u32 {
        ((self.start() / PAGE_BYTES) as u32).wrapping_sub(self.page_offset)
    }

    pub(super) fn release(&self, strings: &mut Strings) {
        if let Some(id) = self.name {
            strings.release(id);
        }
    }
}

/// Whether inodes under the same address of a file are the same. An unknown one may be.
fn is_same_inode(one: Tag<3>, other: Tag<3>) -> bool {
    one == other || one.is_none() || other.is_none()
}

/// An area's inode; none without a file, and if the scan could not read the file.
#[inline]
fn inode(snapshot: &Snapshot, row: &VmaRow) -> Tag<3> {
    if row.vma.file.is_null() {
        return Tag::NONE;
    }
    Tag::of(snapshot.files.at(row.file).map_or(0, |file| file.open.inode.0))
}

/// A mark if it applies.
const fn mark_if(mark: u8, applies: bool) -> u8 {
    if applies { mark } else { 0 }
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

impl NamedRow for Area {
    fn name(&mut self) -> &mut Option<StringId> {
        &mut self.name
    }

    fn lacks_name(&self) -> bool {
        self.has_file() && self.name.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_area_has_its_place_whatever_the_tables_of_pages() {
        for address in [0, PAGE_BYTES, 0x7fff_ffff_f000, (1 << 57) - PAGE_BYTES] {
            assert_eq!(UserPageNumber::of(address).address(), address);
            assert_eq!(UserPageNumber::of(address + PAGE_BYTES - 1), UserPageNumber::of(address));
        }
        // Forged addresses keep their order.
        assert_eq!(UserPageNumber::of(u64::MAX), UserPageNumber::of(1 << 60));
        assert!(UserPageNumber::of(u64::MAX).address() > 1 << 57);
    }

    #[test]
    fn scans_that_do_not_show_an_area_are_counted_beside_its_marks() {
        let mut area = Area { marks: mark::SPECIAL | mark::WAS_EXECUTABLE, ..Area::default() };
        for count in (0..=31).chain([31, 31]) {
            assert_eq!(area.unseen_scans(), count);
            area.add_unseen_scan();
        }
        assert!(area.is_marked(mark::SPECIAL) && !area.is_marked(mark::MAIN_EXECUTABLE));
    }
}
