//! `struct page` (include/linux/mm_types.h): one page of memory and its use.
//!
//! For consecutive pages that belong together (a compound page, since v5.16 a folio), the kernel
//! keeps the common data in the `struct page` of the first one, the head.

use crate::address::KernelVa;
use crate::layout::View;

crate::layout! {
    /// `struct page` (include/linux/mm_types.h). `struct folio` overlays it, with the same fields.
    pub struct Page("page") {
        /// `PG_*` bits. In a structure of their own since Linux commit 53fbef56e07d ("mm: introduce
        /// memdesc_flags_t") (in v6.18).
        flags: ["flags"],
        /// Whether this is a later page, and of which head. Renamed by Linux commit e0c7a3dd3ba1
        /// ("mm: rename the 'compound_head' field in the 'struct page' to 'compound_info'") (in
        /// v7.1).
        compound_head: ["compound_info", "compound_head"],
        /// `struct address_space *` if the page belongs to a file.
        mapping: ["mapping"],
        /// Position in the file, in pages.
        index: ["__folio_index", "index"],
    }
}

crate::layout! {
    /// `enum pageflags` (include/linux/page-flags.h): bit numbers. A layout shows an enumerator as
    /// a field whose offset is its value.
    pub struct PageFlags("pageflags") {
        /// The page has the file's content: clear while it is being read.
        uptodate?: ["PG_uptodate"],
    }
}

impl PageFlags {
    /// Mask of `PG_uptodate`, if its number is known.
    pub fn uptodate_bit(&self) -> Option<u64> {
        self.uptodate.and_then(|field| 1_u64.checked_shl(field.offset))
    }
}

/// The decoded fields of a `struct page` that belongs to a file.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CachedPage {
    /// `PG_*` bits.
    pub flags: u64,
    /// The raw value, for [`head_of`].
    pub compound_info: u64,
    /// `struct address_space *`
    pub mapping: KernelVa,
    /// Position in the file in pages; until v6.7, hugetlbfs counts huge pages.
    pub index: u64,
}

impl CachedPage {
    /// Decodes the packed copy of a `struct page`.
    pub fn decode(layout: &Page, bytes: &[u8]) -> Self {
        let view = View::new(bytes);
        Self {
            flags: view.u64_at(layout.flags, 0),
            compound_info: view.unsigned(layout.compound_head),
            mapping: view.pointer(layout.mapping),
            index: view.unsigned(layout.index),
        }
    }
}

/// The head of the pages that the one at `page` belongs to: `page` itself if it is alone or the
/// first.
///
/// The lowest bit marks later pages. The rest is the address of the head or, since Linux commit
/// 8c846c879e22 ("mm: rework compound_head() for power-of-2 sizeof(struct page)"), a mask that
/// yields the head's address (`compound_head`, include/linux/page-flags.h).
pub const fn head_of(page: KernelVa, compound_info: u64) -> KernelVa {
    if compound_info & 1 == 0 {
        return page;
    }
    let value = compound_info & !1;
    if value.leading_ones() + value.trailing_zeros() == u64::BITS {
        KernelVa(page.0 & value)
    } else {
        KernelVa(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_found_by_address_and_by_mask() {
        let head = KernelVa(0xffff_ea00_0400_8000);
        let tail = head.plus(5 * 64);
        assert_eq!(head_of(head, 0), head);
        assert_eq!(head_of(tail, head.0 | 1), head);
        // Eight pages of 64 bytes each.
        assert_eq!(head_of(tail, !0x1ff | 1), head);
        assert_eq!(head_of(head.plus(8 * 64), 0xdead_0000), head.plus(8 * 64));
    }
}
