//! `struct ovl_inode` (fs/overlayfs/ovl_entry.h): a file of an overlay, and the file with its
//! content.
//!
//! An overlay's own inode has no pages. The content is that of a file on one of the layers: on the
//! upper layer after the data was copied there, else on a lower one (`ovl_inode_realdata`,
//! fs/overlayfs/util.c). Overlayfs is usually a module, so the types are those of a module.

use crate::address::KernelVa;
use crate::layout::View;

crate::layout! {
    /// `struct ovl_inode` (fs/overlayfs/ovl_entry.h).
    pub struct OvlInode("ovl_inode") {
        /// `struct super_block *` of the embedded inode: gives the offset of that inode.
        i_sb: ["vfs_inode.i_sb"],
        /// `OVL_*` bits.
        flags: ["flags"],
        /// `struct dentry *` on the upper layer, or null.
        upperdentry: ["__upperdentry"],
        /// `struct inode *` on the lower layer that has the data, if it is not the first lower one.
        /// Until Linux commit 41665644cdf7 ("ovl: replace lowerdata inode reference with lowerdata
        /// redirect") (in v6.5).
        lowerdata?: ["lowerdata"],
        /// `struct inode *` on a lower layer. Until Linux commit ffa5723c6d25 ("ovl: store lower
        /// path in ovl_inode") (in v6.0).
        lower?: ["lower"],
        /// `struct dentry *` on a lower layer, from that commit until the next.
        lowerpath_dentry?: ["lowerpath.dentry"],
        /// `struct ovl_entry *`: all lower layers. Since Linux commit 0af950f57fef ("ovl: move
        /// ovl_entry into ovl_inode") (in v6.5).
        oe?: ["oe"],
    }
}

crate::layout! {
    /// `struct ovl_entry` (fs/overlayfs/ovl_entry.h).
    pub struct OvlEntry("ovl_entry") {
        /// Number of lower layers that have the file: more than one if some have only its
        /// attributes.
        numlower: ["__numlower", "numlower"],
        /// Array of `numlower` `struct ovl_path`; the last one has the data.
        lowerstack: ["__lowerstack", "lowerstack"],
    }
}

crate::layout! {
    /// `struct ovl_path` (fs/overlayfs/ovl_entry.h).
    pub struct OvlPath("ovl_path") {
        /// `struct dentry *`; null before the first lookup.
        dentry: ["dentry"],
    }
}

/// `OVL_UPPERDATA` (fs/overlayfs/overlayfs.h): the upper layer has the data, not only the
/// attributes. The fourth enumerator since Linux commit 0c2888749363 ("ovl: Add mechanism to create
/// a chain of origin inodes") (in v4.19).
pub const OVL_UPPERDATA: u64 = 1 << 3;

/// Maximum number of lower layers (`OVL_MAX_STACK`, fs/overlayfs/super.c).
pub const LAYERS_MAX: u64 = 500;

/// The next step towards the inode that has the data.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Real {
    #[default]
    Unknown,
    Inode(KernelVa),
    /// The inode of this `struct dentry`.
    Dentry(KernelVa),
    /// An inode that this `struct ovl_entry` leads to.
    Entry(KernelVa),
}

impl Real {
    /// Decodes the packed copy of a `struct ovl_inode` of a regular file.
    pub fn decode(layout: &OvlInode, bytes: &[u8]) -> Self {
        let view = View::new(bytes);
        let pointer = |field: Option<crate::layout::PackedField>| {
            field.map(|field| view.pointer(field)).filter(|pointer| !pointer.is_null())
        };
        let upper = view.pointer(layout.upperdentry);
        if !upper.is_null() && view.unsigned(layout.flags) & OVL_UPPERDATA != 0 {
            return Self::Dentry(upper);
        }
        if let Some(inode) = pointer(layout.lowerdata).or_else(|| pointer(layout.lower)) {
            return Self::Inode(inode);
        }
        if let Some(dentry) = pointer(layout.lowerpath_dentry) {
            return Self::Dentry(dentry);
        }
        pointer(layout.oe).map_or(Self::Unknown, Self::Entry)
    }
}

impl OvlInode {
    /// Address of the `struct ovl_inode` that embeds `inode`; `i_sb` is the offset of that field in
    /// `struct inode`.
    pub const fn around(&self, inode: KernelVa, i_sb: u32) -> KernelVa {
        inode.plus(i_sb as u64).minus(self.i_sb.offset as u64)
    }
}

impl OvlEntry {
    /// Address of the `struct ovl_path` that has the data, by the packed copy of the entry at
    /// `address`.
    pub fn data(&self, path: &OvlPath, address: KernelVa, bytes: &[u8]) -> Option<KernelVa> {
        let count = View::new(bytes).unsigned(self.numlower);
        let last = count.checked_sub(1).filter(|&last| last < LAYERS_MAX)?;
        Some(address.plus(u64::from(self.lowerstack.offset) + last * u64::from(path.size)))
    }
}
