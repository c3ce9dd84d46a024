//! `struct address_space` (include/linux/fs.h): the cached pages of a file.

use crate::address::KernelVa;
use crate::layout::View;

crate::layout! {
    /// `struct address_space` (include/linux/fs.h).
    pub struct AddressSpace("address_space") {
        /// `struct inode *` of the file.
        host: ["host"],
        /// Root pointer of the xarray of its pages.
        xa_head: ["i_pages.xa_head"],
        /// Number of pages. Until Linux commit a08c7193e4f1 ("mm/filemap: remove hugetlb special
        /// casing in filemap.c") (in v6.7), hugetlbfs counts huge pages.
        nrpages: ["nrpages"],
    }
}

/// The decoded fields of a `struct address_space`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PageCacheMapping {
    /// `struct inode *`
    pub host: KernelVa,
    /// Root pointer of the xarray of its pages.
    pub head: u64,
    pub pages: u64,
}

impl PageCacheMapping {
    /// Decodes the packed copy of a `struct address_space`.
    pub fn decode(layout: &AddressSpace, bytes: &[u8]) -> Self {
        let view = View::new(bytes);
        Self {
            host: view.pointer(layout.host),
            head: view.unsigned(layout.xa_head),
            pages: view.unsigned(layout.nrpages),
        }
    }
}
