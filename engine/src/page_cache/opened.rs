//! Opens a file before its pages are read: which inode has them, and whether the file is being
//! changed.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::early_stop::EarlyStop;
use panoptes_decoders::kernel::address_space::PageCacheMapping;
use panoptes_decoders::kernel::super_block::{FS_REQUIRES_DEV, Filesystem, magic};
use panoptes_decoders::layout::View;

use super::memory::KernelMemory;
use super::overlay;

/// Several changes within this time, by the machine's own clock, may have the same timestamp: the
/// clock advances in ticks.
const RECENT_SECONDS: i64 = 2;

/// An inode, with its mapping and filesystem.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenInode {
    pub(super) inode: overlay::Inode,
    pub(super) mapping: PageCacheMapping,
    pub(super) filesystem: Filesystem,
}

impl OpenInode {
    pub(super) fn read(
        memory: &mut KernelMemory<'_>,
        inode: overlay::Inode,
    ) -> Result<Self, EarlyStop> {
        let KernelMemory { reader, kernel, .. } = memory;
        let layouts = &kernel.layouts;
        reader.clear();
        reader.push(&kernel.space, inode.1.mapping, &layouts.address_space.packing);
        reader.push(&kernel.space, inode.1.super_block, &layouts.super_block.packing);
        memory.run();
        let unreadable = |address| EarlyStop::Unreadable { address };
        let mapping = memory.reader.object(0).ok_or(unreadable(inode.1.mapping))?;
        let filesystem = memory.reader.object(1).ok_or(unreadable(inode.1.super_block))?;
        Ok(Self {
            inode,
            mapping: PageCacheMapping::decode(&layouts.address_space, mapping),
            filesystem: Filesystem::decode(&layouts.super_block, filesystem),
        })
    }

    /// The inode that has the pages: the inode itself, unless it is on an overlay; `None` if
    /// unknown.
    pub(super) fn real(self, memory: &mut KernelMemory<'_>) -> Result<Option<Self>, EarlyStop> {
        let mut opened = self;
        for _ in 0..overlay::STACK_DEPTH_MAX {
            if opened.filesystem.magic != magic::OVERLAYFS {
                break;
            }
            match overlay::real(memory, &opened.inode) {
                Some(inode) => opened = Self::read(memory, inode)?,
                None => return Ok(None),
            }
        }
        Ok((opened.filesystem.magic != magic::OVERLAYFS).then_some(opened))
    }
}

/// Whether a write to a file is in progress: the file's time was set when the write began.
pub(super) fn is_being_written(
    memory: &mut KernelMemory<'_>,
    inode: KernelVa,
) -> Result<bool, EarlyStop> {
    let layout = &memory.kernel.layouts.inode_lock;
    let unreadable = EarlyStop::Unreadable { address: inode };
    Ok(layout.is_written(memory.object(inode, &layout.packing).ok_or(unreadable)?))
}

/// Whether something changed in the last seconds of the machine's clock, in nanoseconds since 1970.
/// Also true if the clock cannot be read.
pub(super) fn is_recent(memory: &mut KernelMemory<'_>, changed_ns: i64) -> bool {
    let layout = &memory.kernel.layouts.timekeeper;
    memory.object(memory.kernel.roots.timekeeper, &layout.packing).is_none_or(|bytes| {
        let now = View::new(bytes).signed(layout.xtime_sec);
        now.saturating_sub(changed_ns.div_euclid(1_000_000_000)).unsigned_abs()
            <= RECENT_SECONDS.unsigned_abs()
    })
}

/// Whether a kind of filesystem needs a disk.
pub(super) fn is_on_a_disk(
    memory: &mut KernelMemory<'_>,
    kind: KernelVa,
) -> Result<bool, EarlyStop> {
    let layout = &memory.kernel.layouts.file_system_type;
    let unreadable = EarlyStop::Unreadable { address: kind };
    let view = View::new(memory.object(kind, &layout.packing).ok_or(unreadable)?);
    Ok(view.unsigned(layout.fs_flags) & FS_REQUIRES_DEV != 0)
}
