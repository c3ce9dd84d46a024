//! Finds the layer's file that has the content of an overlay's file: an overlay's own inode has no
//! pages.
//!
//! Overlayfs is mostly a module, whose types are in the module's own BTF. That BTF may be
//! unavailable: in a kernel before v5.11 or without symbols of data, or for a module that was
//! loaded after its kernel was found. Then the surroundings of the inode are assumed to be as in
//! all kernels since v4.19, and a candidate is accepted only if it has the file's size and
//! modification time and is on another filesystem.
//!
//! An area that was mapped before its file was copied up shows the lower file, as it does inside.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::inode::{Attributes, mode};
use panoptes_decoders::kernel::ovl_inode::{LAYERS_MAX, OVL_UPPERDATA, OvlInode, Real};
use panoptes_decoders::layout::{View, u64_at};

use super::memory::KernelMemory;

/// Maximum depth of stacked overlays (`FILESYSTEM_MAX_STACK_DEPTH`, include/linux/fs.h).
pub(super) const STACK_DEPTH_MAX: u32 = 2;

/// Bytes of a `struct ovl_inode` before and behind its inode, in kernels from v4.19 to v7.2.
const BEFORE_BYTES: u32 = 32;
const BEHIND_BYTES: u32 = 24;

/// Address and attributes of an inode.
pub(super) type Inode = (KernelVa, Attributes);

/// Finds the inode that has the content of a regular file of an overlay; `None` if unknown.
pub(super) fn real(memory: &mut KernelMemory<'_>, file: &Inode) -> Option<Inode> {
    match &memory.kernel.layouts.ovl_inode {
        Some(layout) => memory.by_types(layout, file),
        None => memory.by_shape(file),
    }
}

impl KernelMemory<'_> {
    fn by_types(&mut self, layout: &OvlInode, file: &Inode) -> Option<Inode> {
        let at = layout.around(file.0, self.kernel.layouts.inode.i_sb.offset);
        let inode = match Real::decode(layout, self.object(at, &layout.packing)?) {
            Real::Unknown => return None,
            Real::Inode(inode) => inode,
            Real::Dentry(dentry) => self.inode_of(dentry)?,
            Real::Entry(entry) => {
                let layouts = &self.kernel.layouts;
                let (layout, path) = (layouts.ovl_entry.as_ref()?, layouts.ovl_path.as_ref()?);
                let bytes = self.object(entry, &layout.packing)?;
                let at = layout.data(path, entry, bytes)?;
                let dentry = View::new(self.object(at, &path.packing)?).pointer(path.dentry);
                self.inode_of(dentry)?
            }
        };
        self.read(inode).filter(|real| is_below(file, real))
    }

    fn by_shape(&mut self, file: &Inode) -> Option<Inode> {
        let before = self.words(file.0.minus(u64::from(BEFORE_BYTES)), BEFORE_BYTES)?;
        let behind = file.0.plus(u64::from(self.kernel.layouts.inode.size));
        let behind = self.words(behind, BEHIND_BYTES)?;
        let (lowerdata, flags) = (KernelVa(before[0]), before[3]);
        let [upper, lower, path_dentry, _] = behind.map(KernelVa);
        if !upper.is_null() && flags & OVL_UPPERDATA != 0 {
            let inode = self.inode_of(upper)?;
            return self.read(inode).filter(|real| is_same_file(file, real));
        }
        // The layer's inode at the places where kernels have had it, the oldest first.
        for inode in [lowerdata, lower] {
            if let Some(found) = self.read(inode).filter(|real| is_same_file(file, real)) {
                return Some(found);
            }
        }
        for dentry in [Some(path_dentry), self.last_of(lower)].into_iter().flatten() {
            let found = self.inode_of(dentry).and_then(|inode| self.read(inode));
            if let Some(found) = found.filter(|real| is_same_file(file, real)) {
                return Some(found);
            }
        }
        None
    }

    /// The dentry of the last layer of a possible `struct ovl_entry`: a count, then a layer and a
    /// dentry each.
    fn last_of(&mut self, entry: KernelVa) -> Option<KernelVa> {
        let count = self.words(entry, 8)?[0] & u64::from(u32::MAX);
        let last = count.checked_sub(1).filter(|&last| last < LAYERS_MAX)?;
        self.words(entry.plus(8 + last * 16 + 8), 8).map(|words| KernelVa(words[0]))
    }

    fn inode_of(&mut self, dentry: KernelVa) -> Option<KernelVa> {
        let layout = &self.kernel.layouts.dentry;
        let inode = View::new(self.object(dentry, &layout.packing)?).pointer(layout.d_inode);
        inode.is_plausible().then_some(inode)
    }

    fn read(&mut self, inode: KernelVa) -> Option<Inode> {
        let layout = &self.kernel.layouts.inode;
        Some((inode, Attributes::decode(layout, self.object(inode, &layout.packing)?)))
    }

    /// Up to four 64-bit numbers.
    fn words(&mut self, address: KernelVa, bytes: u32) -> Option<[u64; 4]> {
        self.reader.clear();
        self.reader.push_bytes(&self.kernel.space, address, bytes)?;
        self.run();
        let object = self.reader.object(0)?;
        Some([0, 8, 16, 24].map(|at| u64_at(object, at)))
    }
}

/// Whether an inode may be that of a layer for a file of an overlay.
fn is_below(file: &Inode, real: &Inode) -> bool {
    real.1.kind() == mode::S_IFREG
        && real.1.size == file.1.size
        && real.1.super_block != file.1.super_block
        && real.1.super_block.is_plausible()
}

/// The same, with stricter checks for when no type information shows that it is one.
fn is_same_file(file: &Inode, real: &Inode) -> bool {
    is_below(file, real) && real.1.mtime_ns == file.1.mtime_ns
}
