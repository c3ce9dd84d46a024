//! `struct dentry` (include/linux/dcache.h): a name in a directory.

use crate::address::KernelVa;
use crate::layout::View;

crate::layout! {
    /// `struct dentry` (include/linux/dcache.h).
    pub struct Dentry("dentry") {
        /// `DCACHE_*`
        d_flags: ["d_flags"],
        /// `seqcount_spinlock_t`: odd while somebody changes it, renames it above all (`__d_move`, fs/dcache.c).
        d_seq?: ["d_seq"],
        /// Where it hangs in the hash table of names; null when it was unlinked.
        d_hash_pprev: ["d_hash.pprev"],
        /// The directory; itself at a root.
        d_parent: ["d_parent"],
        /// Where the name lies: inside the dentry when it is short.
        d_name_name: ["d_name.name"],
        /// The name's length in bytes.
        d_name_len: ["d_name.len"],
        /// `struct inode *`; null for a name that does not exist.
        d_inode: ["d_inode"],
        /// Short names. Since v6.14 a union `d_shortname`.
        d_iname: ["d_iname", "d_shortname.string", "d_shortname"],
        /// `const struct dentry_operations *`
        d_op: ["d_op"],
        /// `struct super_block *`
        d_sb: ["d_sb"],
    }
}

/// Longest name of a directory entry in bytes (`NAME_MAX`, include/uapi/linux/limits.h).
pub const NAME_BYTES_MAX: usize = 255;

/// What a `struct dentry` says, but for its name.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Name {
    /// Where it lies.
    pub address: KernelVa,
    /// `struct dentry *` of the directory.
    pub parent: KernelVa,
    /// `struct inode *`
    pub inode: KernelVa,
    /// `struct super_block *`
    pub super_block: KernelVa,
    /// `const struct dentry_operations *`
    pub op: KernelVa,
    /// Whether nothing can find it by name any more (`d_unlinked`: unhashed and no root).
    pub unlinked: bool,
    /// Where the name lies, when it is too long to lie in the dentry.
    pub long_name: KernelVa,
    /// The name's length in bytes.
    pub length: u32,
    /// Whether it was being changed, so that its name and its directory may not belong together.
    pub changing: bool,
}

impl Name {
    /// Decodes the packed copy of the dentry at `address`, and its name if it lies inside.
    pub fn decode<'a>(layout: &Dentry, address: KernelVa, bytes: &'a [u8]) -> (Self, &'a [u8]) {
        let view = View::new(bytes);
        let parent = view.pointer(layout.d_parent);
        let name = view.pointer(layout.d_name_name);
        let length = view.unsigned(layout.d_name_len) as u32;
        let inside = name == address.plus(u64::from(layout.d_iname.offset));
        let text = if inside { view.bytes(layout.d_iname) } else { &[] };
        let decoded = Self {
            address,
            parent,
            inode: view.pointer(layout.d_inode),
            super_block: view.pointer(layout.d_sb),
            op: view.pointer(layout.d_op),
            unlinked: view.pointer(layout.d_hash_pprev).is_null() && parent != address,
            long_name: if inside { KernelVa::NULL } else { name },
            length: length.min(NAME_BYTES_MAX as u32),
            changing: view.optional(layout.d_seq).is_some_and(|sequence| sequence & 1 == 1),
        };
        let text = text.get(..decoded.length as usize).unwrap_or(text);
        (decoded, text)
    }
}
