//! Reads the buckets of a bbolt database, without a lock and without changes.
//!
//! Format (internal/common of etcd-io/bbolt: `page.go`, `meta.go`, `bucket.go`): pages of one size.
//! The first two describe the database, and of those that are whole the newer one counts. A bucket
//! is a tree of branches and leaves. A leaf's items are keys with values or with further buckets; a
//! small bucket is a leaf inside the value. Numbers have the byte order of the machine that made
//! the database: here that is little-endian. Every page is visited at most once, so no circle of
//! pages ends in a loop. No pages and no items overlap, so all items of one nesting have no more
//! bytes than the file.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;

use crate::error::SbomError;

/// The magic and the version of the first pages.
const MAGIC: u32 = 0xed0c_daed;
const BOLT_VERSION: u32 = 2;
/// Where the description begins, behind a page's header, and its size before the checksum.
const PAGE_HEADER_BYTES: usize = 16;
const META_BYTES: usize = 56;
/// Kinds of pages.
const BRANCH: u16 = 1;
const LEAF: u16 = 2;
/// Size of an item's description, and the mark of one that is a bucket.
const ITEM_BYTES: usize = 16;
const IS_BUCKET: u32 = 1;
/// Bytes of a bucket's value before the leaf inside it: the first page, and a counter.
const BUCKET_BYTES: usize = 16;
/// Maximum number of items that are read: an image has about ten.
const BOLT_ITEMS_MAX: usize = 1 << 20;

/// A database, and what was read of it.
pub(super) struct BoltDatabase<'d> {
    bytes: &'d [u8],
    page_bytes: usize,
    root: Bucket<'d>,
    /// Pages that were visited.
    seen: RefCell<HashSet<u64>>,
    items_left: Cell<usize>,
}

/// A set of keys.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket<'d> {
    /// Its first page; 0 if it is inside its value.
    page: u64,
    inside: &'d [u8],
}

/// The content of a key.
#[derive(Clone, Copy, Debug)]
pub(super) enum BoltValue<'d> {
    Bytes(&'d [u8]),
    Bucket(Bucket<'d>),
}

fn damaged(what: &str) -> SbomError {
    SbomError::content(format!("is a damaged bbolt database: {what}"))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The description in a first page, if it is whole: the size of pages, the first page of the root,
/// and the number of the last change.
fn description(bytes: &[u8], page_at: usize) -> Option<(usize, u64, u64)> {
    let meta = bytes.get(page_at.checked_add(PAGE_HEADER_BYTES)?..)?;
    let is_ours = u32_at(meta, 0)? == MAGIC && u32_at(meta, 4)? == BOLT_VERSION;
    let is_whole = u64_at(meta, META_BYTES)? == checksum(meta.get(..META_BYTES)?);
    let page_bytes = u32_at(meta, 8)? as usize;
    let is_size = page_bytes.is_power_of_two() && (1024..=1 << 16).contains(&page_bytes);
    (is_ours && is_whole && is_size).then_some((page_bytes, u64_at(meta, 16)?, u64_at(meta, 48)?))
}

/// FNV-1a with 64 bits (draft-eastlake-fnv, section 5).
fn checksum(bytes: &[u8]) -> u64 {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    bytes.iter().fold(BASIS, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

impl<'d> BoltDatabase<'d> {
    pub(super) fn open(bytes: &'d [u8]) -> Result<Self, SbomError> {
        // If the first page was not written completely, the second one is at one of these places.
        let first = description(bytes, 0);
        let sizes = (10..=16).map(|bits| 1_usize << bits);
        let second = match first {
            Some((page_bytes, ..)) => description(bytes, page_bytes),
            None => sizes
                .map(|size| (size, description(bytes, size)))
                .find_map(|(size, found)| found.filter(|(page_bytes, ..)| *page_bytes == size)),
        };
        let newest = [first, second].into_iter().flatten().max_by_key(|(_, _, change)| *change);
        let (page_bytes, page, _) =
            newest.ok_or_else(|| damaged("neither of its first pages is whole"))?;
        let root = Bucket { page, inside: &[] };
        let (seen, items_left) = (RefCell::default(), Cell::new(BOLT_ITEMS_MAX));
        Ok(Self { bytes, page_bytes, root, seen, items_left })
    }

    /// The bucket with all others.
    pub(super) const fn root(&self) -> Bucket<'d> {
        self.root
    }

    /// The keys of a bucket with their content, in their order. To be called once for each bucket.
    pub(super) fn items(
        &self,
        bucket: Bucket<'d>,
    ) -> Result<Vec<(&'d [u8], BoltValue<'d>)>, SbomError> {
        let mut items = Vec::new();
        if bucket.page == 0 {
            self.leaf(bucket.inside, &mut items)?;
            return Ok(items);
        }
        // The pages still to be visited, the next one last.
        let mut waiting = vec![bucket.page];
        while let Some(number) = waiting.pop() {
            let page = self.page(number)?;
            match u16_at(page, 8) {
                Some(LEAF) => self.leaf(page, &mut items)?,
                Some(BRANCH) => {
                    let count = usize::from(u16_at(page, 10).unwrap_or(0));
                    for index in (0..count).rev() {
                        let at = PAGE_HEADER_BYTES + index * ITEM_BYTES + 8;
                        waiting.push(u64_at(page, at).ok_or_else(|| damaged("a branch is cut"))?);
                    }
                    if waiting.len() > self.bytes.len() / self.page_bytes {
                        return Err(damaged("it names more pages than it has"));
                    }
                }
                _ => return Err(damaged("a page is of no bucket")),
            }
        }
        Ok(items)
    }

    /// A page with the overflow pages behind it. None of them may have been visited before.
    fn page(&self, number: u64) -> Result<&'d [u8], SbomError> {
        let missing = || damaged("it names a page that it has not");
        let at = usize::try_from(number).ok().and_then(|at| at.checked_mul(self.page_bytes));
        let rest = at.and_then(|at| self.bytes.get(at..)).ok_or_else(missing)?;
        let more = u32_at(rest, 12).ok_or_else(missing)?;
        let size = (more as usize + 1).checked_mul(self.page_bytes);
        let page = size.and_then(|size| rest.get(..size)).ok_or_else(missing)?;
        let mut seen = self.seen.borrow_mut();
        if (number..=number + u64::from(more)).all(|number| seen.insert(number)) {
            return Ok(page);
        }
        Err(damaged("two places name one page"))
    }

    /// Adds the items of a leaf: marks, the distance from here to the key, and the sizes of the key
    /// and of the value behind it.
    fn leaf(
        &self,
        page: &'d [u8],
        items: &mut Vec<(&'d [u8], BoltValue<'d>)>,
    ) -> Result<(), SbomError> {
        let cut = || damaged("a leaf is cut");
        let count = usize::from(u16_at(page, 10).ok_or_else(cut)?);
        let left = self.items_left.get().checked_sub(count);
        self.items_left.set(left.ok_or_else(|| damaged("it has more items than are read"))?);
        let mut bytes_left = page.len();
        for index in 0..count {
            let at = PAGE_HEADER_BYTES + index * ITEM_BYTES;
            let number = |field: usize| u32_at(page, at + 4 * field).ok_or_else(cut);
            let [marks, distance, key_bytes, value_bytes] =
                [number(0)?, number(1)?, number(2)?, number(3)?];
            let rest = page.get(at + distance as usize..).ok_or_else(cut)?;
            let (key, rest) = rest.split_at_checked(key_bytes as usize).ok_or_else(cut)?;
            let value = rest.get(..value_bytes as usize).ok_or_else(cut)?;
            let left = bytes_left.checked_sub(ITEM_BYTES + key.len() + value.len());
            bytes_left = left.ok_or_else(|| damaged("items overlap"))?;
            let value = if marks & IS_BUCKET == 0 {
                BoltValue::Bytes(value)
            } else {
                let page = u64_at(value, 0).ok_or_else(cut)?;
                BoltValue::Bucket(Bucket {
                    page,
                    inside: value.get(BUCKET_BYTES..).ok_or_else(cut)?,
                })
            };
            items.push((key, value));
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests;
