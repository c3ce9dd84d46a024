//! Regular files that one process writes and another reads: of a disk, in memory (memfd), without
//! a name any more, and POSIX message queues, whose inodes are regular files of `mqueue`
//! (ipc/mqueue.c).

use panoptes_decoders::kernel::file::{FMODE_READ, FMODE_WRITE};
use panoptes_decoders::kernel::inode::mode;
use panoptes_decoders::kernel::super_block::FilesKind;
use panoptes_tables::room;

use super::lists::RowLists;
use super::{ChannelEnd, Graph, object_of};
use crate::walk::{DescriptorRow, FileRow, Index, InodeRow, Snapshot};

/// A process that has more of these files open for both reading and writing than this serves many
/// others, as a database does: bytes of one do not go to another.
pub(super) const BOTH_WAYS_MAX: usize = 4;
/// Bit of an inode that several tables have open. The bits of its modes are those of the kernel.
const SEVERAL: u8 = 4;
const MODES: u8 = (FMODE_READ | FMODE_WRITE) as u8;
const RELAY: u8 = MODES | SEVERAL;
const _: () = assert!(MODES == 3);

/// What a search follows.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Edges {
    /// What holds bytes until they are read.
    #[default]
    Usual,
    /// Regular files, and memory that several processes map, too.
    WithFiles,
}

/// The regular files that descriptors lead to, in one scan.
#[derive(Debug, Default)]
pub(super) struct Relays {
    /// The modes in which each inode is open, and [`SEVERAL`].
    bits: Vec<u8>,
}

impl Relays {
    pub(super) fn new(inodes: usize) -> Self {
        Self { bits: room::list(inodes) }
    }

    pub(super) fn reset(&mut self, inodes: usize) {
        self.bits.clear();
        self.bits.resize(inodes.min(self.bits.capacity()), 0);
    }

    /// Adds an open file that is no pipe. Returns whether a list of its inode's files needs it.
    #[inline]
    pub(super) fn add(
        &mut self,
        snapshot: &Snapshot,
        file: Index<FileRow>,
        descriptors: &RowLists<DescriptorRow>,
    ) -> bool {
        let Some(row) = snapshot.files.at(file) else { return false };
        let mut holders = descriptors.of(file.position()).take(2);
        if holders.next().is_none() || !is_kept(snapshot, row.inode) {
            return false;
        }
        let place = row.inode.and_then(|inode| self.bits.get_mut(inode.position()));
        let Some(bits) = place else { return false };
        // Each table is in the list once.
        let are_several = *bits != 0 || holders.next().is_some();
        *bits |= row.open.mode as u8 & MODES | if are_several { SEVERAL } else { 0 };
        true
    }

    fn has(&self, inode: Index<InodeRow>) -> bool {
        self.bits.get(inode.position()) == Some(&RELAY)
    }
}

/// Whether an inode keeps what is written to it, for others to read.
pub(super) fn is_kept(snapshot: &Snapshot, inode: Option<Index<InodeRow>>) -> bool {
    let Some(row) = snapshot.inodes.at(inode) else { return false };
    let filesystem = snapshot.super_blocks.at(row.super_block);
    let files = filesystem.map_or(FilesKind::Usual, |row| row.filesystem.files);
    row.attributes.kind() == mode::S_IFREG
        && matches!(files, FilesKind::Usual | FilesKind::Tmpfs | FilesKind::HugePages)
}

impl Graph {
    /// The object of an open file, as far as a search of this kind follows it.
    pub(in super::super) fn object_of(
        &self,
        snapshot: &Snapshot,
        file: Option<Index<FileRow>>,
        edges: Edges,
    ) -> Option<ChannelEnd> {
        object_of(snapshot, file).or_else(|| {
            let row = snapshot.files.at(file).filter(|_| edges == Edges::WithFiles)?;
            let is_open = row.open.mode & (FMODE_READ | FMODE_WRITE) != 0;
            let is_relay = is_open && row.inode.is_some_and(|inode| self.relays.has(inode));
            file.filter(|_| is_relay).map(ChannelEnd::File)
        })
    }

    /// Passes each other open file of the same inode to `take`. Those who share an open file share
    /// the position in it, so that the reader gets nothing that the writer wrote: a lock, a log or
    /// a temporary file that a process inherited is no link.
    pub(super) fn each_other_file(
        &self,
        snapshot: &Snapshot,
        file: Index<FileRow>,
        take: &mut dyn FnMut(Index<FileRow>),
    ) {
        let Some(inode) = snapshot.files.at(file).and_then(|row| row.inode) else { return };
        for other in self.files.of(inode.position()) {
            self.spend(1);
            if self.is_exhausted() {
                return;
            }
            if other != file {
                take(other);
            }
        }
    }
}
