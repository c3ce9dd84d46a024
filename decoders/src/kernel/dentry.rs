//! `struct dentry` (include/linux/dcache.h): a name in a directory.

use crate::address::KernelVa;
use crate::layout::View;

crate::layout! {
    /// `struct dentry` (include/linux/dcache.h).
    pub struct Dentry("dentry") {
        /// `DCACHE_*`
        d_flags: ["d_flags"],
        /// `seqcount_spinlock_t`: odd during a change, above all a rename (`__d_move`,
        /// fs/dcache.c).
        d_seq?: ["d_seq"],
        /// Link in the hash table of names; null after an unlink.
        d_hash_pprev: ["d_hash.pprev"],
        /// `struct dentry *` of the directory; the dentry itself at a root.
        d_parent: ["d_parent"],
        /// Address of the name: inside the dentry if the name is short.
        d_name_name: ["d_name.name"],
        /// The name's length in bytes.
        d_name_len: ["d_name.len"],
        /// `struct inode *`; null for a name that does not exist.
        d_inode: ["d_inode"],
        /// Buffer of short names. Since v6.14 a union `d_shortname`.
        d_iname: ["d_iname", "d_shortname.string", "d_shortname"],
        /// `const struct dentry_operations *`
        d_op: ["d_op"],
        /// `struct super_block *`
        d_sb: ["d_sb"],
    }
}

/// Longest name of a directory entry in bytes (`NAME_MAX`, include/uapi/linux/limits.h).
pub const DENTRY_NAME_BYTES_MAX: usize = 255;

/// The decoded fields of a `struct dentry`, except its name.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct DirectoryEntry {
    pub address: KernelVa,
    /// `struct dentry *` of the directory.
    pub parent: KernelVa,
    /// `struct inode *`
    pub inode: KernelVa,
    /// `struct super_block *`
    pub super_block: KernelVa,
    /// `const struct dentry_operations *`
    pub op: KernelVa,
    /// Whether no lookup can find it any more (`d_unlinked`: unhashed and not a root).
    pub unlinked: bool,
    /// Address of the name if it is too long for the dentry, else null.
    pub long_name: KernelVa,
    /// The name's length in bytes.
    pub length: u32,
    /// Whether a change was in progress: name and directory may not belong together.
    pub changing: bool,
}

impl DirectoryEntry {
    /// Decodes the packed copy of the dentry at `address`, and its name if the dentry holds it.
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
            length: length.min(DENTRY_NAME_BYTES_MAX as u32),
            changing: view.optional(layout.d_seq).is_some_and(|sequence| sequence & 1 == 1),
        };
        let text = text.get(..decoded.length as usize).unwrap_or(text);
        (decoded, text)
    }
}

crate::layout! {
    /// A name as one of its directory's list of names in memory. A new one, and one that was
    /// renamed, is the first of the list (`d_alloc`, `__d_move`, fs/dcache.c).
    pub struct DentryTree("dentry") {
        /// Link in the hash table of names; null after an unlink.
        d_hash_pprev: ["d_hash.pprev"],
        /// `struct dentry *` of the directory; the dentry itself at a root.
        d_parent: ["d_parent"],
        /// Address of the name: inside the dentry if the name is short.
        d_name_name: ["d_name.name"],
        /// The name's length in bytes.
        d_name_len: ["d_name.len"],
        /// `struct inode *`; null for a name that does not exist.
        d_inode: ["d_inode"],
        /// Buffer of short names. Since v6.14 a union `d_shortname`.
        d_iname: ["d_iname", "d_shortname.string", "d_shortname"],
        /// The next name of the same directory. Since Linux commit da549bdd15c2 ("dentry: switch
        /// the lists of children to hlist") (in v6.8) null at the end; before that the directory's
        /// own list.
        next: ["d_sib.next", "d_child.next"],
        /// A directory's list of names.
        first: ["d_children.first", "d_subdirs.next"],
    }
}

crate::layout! {
    /// A name as one of its inode's list of names ([`super::inode::InodeNames`]).
    pub struct DentryAlias("dentry") {
        /// Link in the next name of the same inode; null at the end. In a union `d_u` in
        /// most kernels.
        next: ["d_u.d_alias.next", "d_alias.next"],
    }
}

/// The decoded fields of a dentry in its directory's list, except its name.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ListedName {
    /// `struct dentry *` of the directory.
    pub parent: KernelVa,
    /// `struct inode *`; null for a name that does not exist.
    pub inode: KernelVa,
    /// Whether no lookup can find it any more.
    pub unlinked: bool,
    /// `struct dentry *` of the next name in the directory's list; none at its end.
    pub next: Option<KernelVa>,
    /// `struct dentry *` of the first name in its own list.
    pub first: Option<KernelVa>,
    /// Address of the name if it is too long for the dentry, else null.
    pub long_name: KernelVa,
    /// The name's length in bytes.
    pub length: u32,
}

impl ListedName {
    /// Decodes the packed copy of the dentry at `address`, and its name if the dentry holds it.
    pub fn decode<'a>(layout: &DentryTree, address: KernelVa, bytes: &'a [u8]) -> (Self, &'a [u8]) {
        let view = View::new(bytes);
        let parent = view.pointer(layout.d_parent);
        let name = view.pointer(layout.d_name_name);
        let length = view.unsigned(layout.d_name_len).min(DENTRY_NAME_BYTES_MAX as u64) as u32;
        let inside = name == address.plus(u64::from(layout.d_iname.offset));
        let text = if inside { view.bytes(layout.d_iname) } else { &[] };
        // Both kinds of lists lead to the links in the names.
        let listed = |link: KernelVa, list_of: KernelVa| {
            let is_end = link.is_null() || link == list_of.plus(u64::from(layout.first.offset));
            (!is_end).then(|| link.minus(u64::from(layout.next.offset)))
        };
        let decoded = Self {
            parent,
            inode: view.pointer(layout.d_inode),
            unlinked: view.pointer(layout.d_hash_pprev).is_null() && parent != address,
            next: listed(view.pointer(layout.next), parent),
            first: listed(view.pointer(layout.first), address),
            long_name: if inside { KernelVa::NULL } else { name },
            length,
        };
        (decoded, text.get(..length as usize).unwrap_or(text))
    }
}
