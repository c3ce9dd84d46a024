//! Reads all values of a hash database of Berkeley DB, `Packages` (up to RHEL 8), without a lock
//! and without changes.
//!
//! Format (dbinc/db_page.h of Berkeley DB 5.3): pages of one size. The first one describes the
//! database; pages of hashed pairs have keys and values in turn, and a long value is in a chain of
//! overflow pages. A file has the byte order of the machine that made it. All pages with pairs are
//! read, in the order of the file. Every overflow page is read at most once, so no circle of pages
//! ends in a loop, and the work is bounded by the size of the file.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

use super::{BLOB_BYTES_MAX, reading};
use crate::error::SbomError;

/// The magic of a hash database (`DB_HASHMAGIC`).
const MAGIC: u32 = 0x0006_1561;
/// Bytes of the first page that are read.
const META_BYTES: usize = 72;
/// Size of a page's header (`SIZEOF_PAGE`), behind which its index begins.
const HEADER_BYTES: usize = 26;
/// Types of pages: pairs, in an order by their keys or not, and parts of long values.
const HASH_UNSORTED: u8 = 2;
const OVERFLOW: u8 = 7;
const HASH: u8 = 13;
/// Types of items: bytes that follow, and a long value (`H_KEYDATA`, `H_OFFPAGE`).
const BYTES: u8 = 1;
const LONG: u8 = 3;

/// The key of the value that has the highest number of a package.
const HIGHEST: [u8; 4] = [0; 4];

fn damaged(what: &str) -> SbomError {
    SbomError::content(format!("is a damaged BerkeleyDB database: {what}"))
}

/// Numbers in a file's byte order.
#[derive(Clone, Copy)]
struct Order {
    is_big: bool,
}

impl Order {
    fn u16(self, bytes: &[u8], at: usize) -> Option<usize> {
        let bytes = *bytes.get(at..)?.first_chunk()?;
        let number =
            if self.is_big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) };
        Some(usize::from(number))
    }

    fn u32(self, bytes: &[u8], at: usize) -> Option<u32> {
        let bytes = *bytes.get(at..)?.first_chunk()?;
        Some(if self.is_big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }
}

struct BerkeleyDatabase<'f> {
    file: &'f File,
    order: Order,
    page_bytes: usize,
    pages: u32,
    /// Overflow pages that were read.
    seen: HashSet<u32>,
}

/// Calls `blob` with the value of each package, until that fails.
pub(super) fn blobs(
    file: &File,
    blob: &mut dyn FnMut(&[u8]) -> Result<(), SbomError>,
) -> Result<(), SbomError> {
    let mut database = BerkeleyDatabase::open(file)?;
    let mut page = vec![0; database.page_bytes];
    for number in 1..database.pages {
        database.read(number, &mut page)?;
        if matches!(page.get(25), Some(&HASH | &HASH_UNSORTED)) {
            database.pairs(&page, blob)?;
        }
    }
    Ok(())
}

impl<'f> BerkeleyDatabase<'f> {
    fn open(file: &'f File) -> Result<Self, SbomError> {
        let mut meta = [0; META_BYTES];
        file.read_exact_at(&mut meta, 0).map_err(|_| damaged("it has no header"))?;
        let orders = [Order { is_big: false }, Order { is_big: true }];
        let order = orders.into_iter().find(|order| order.u32(&meta, 12) == Some(MAGIC));
        let order = order.ok_or_else(|| damaged("it is no hash database"))?;
        if meta[24] != 0 {
            return Err(SbomError::content("is encrypted"));
        }
        let page_bytes = order.u32(&meta, 20).unwrap_or(0);
        if !page_bytes.is_power_of_two() || !(512..=1 << 16).contains(&page_bytes) {
            return Err(damaged("its pages have a bad size"));
        }
        let in_file = file.metadata().map_err(reading)?.len() / u64::from(page_bytes);
        let last = order.u32(&meta, 32).unwrap_or(0);
        if u64::from(last) >= in_file {
            return Err(damaged("it has fewer pages than its header says"));
        }
        let (page_bytes, pages) = (page_bytes as usize, last.saturating_add(1));
        Ok(Self { file, order, page_bytes, pages, seen: HashSet::new() })
    }

    fn read(&self, number: u32, page: &mut [u8]) -> Result<(), SbomError> {
        let at = u64::from(number) * self.page_bytes as u64;
        self.file.read_exact_at(page, at).map_err(reading)
    }

    /// Reads the pairs of a page.
    fn pairs(
        &mut self,
        page: &[u8],
        blob: &mut dyn FnMut(&[u8]) -> Result<(), SbomError>,
    ) -> Result<(), SbomError> {
        let count = self.order.u16(page, 20).unwrap_or(0);
        if !count.is_multiple_of(2) {
            return Err(damaged("a key has no value"));
        }
        let mut bytes_left = page.len() - HEADER_BYTES;
        for index in (0..count).step_by(2) {
            let (key, value) = (self.item(page, index)?, self.item(page, index + 1)?);
            let left = bytes_left.checked_sub(key.len() + value.len());
            bytes_left = left.ok_or_else(|| damaged("items overlap"))?;
            if key.split_first() == Some((&BYTES, &HIGHEST)) {
                continue;
            }
            match value.split_first() {
                Some((&BYTES, bytes)) => blob(bytes)?,
                Some((&LONG, _)) => blob(&self.long(value)?)?,
                _ => return Err(damaged("a value is of a kind that rpm does not use")),
            }
        }
        Ok(())
    }

    /// An item of a page: from its place to that of the one before, which is behind it.
    fn item<'p>(&self, page: &'p [u8], index: usize) -> Result<&'p [u8], SbomError> {
        let place = |index: usize| self.order.u16(page, HEADER_BYTES + 2 * index);
        let end = index.checked_sub(1).map_or(Some(page.len()), place);
        let item = place(index).zip(end).and_then(|(begin, end)| page.get(begin..end));
        item.filter(|item| !item.is_empty())
            .ok_or_else(|| damaged("an item is empty or outside its page"))
    }

    /// A value in overflow pages: its type, three unused bytes, the first page, and the length.
    fn long(&mut self, item: &[u8]) -> Result<Vec<u8>, SbomError> {
        let cut = || damaged("a long value has no place");
        let mut next = self.order.u32(item, 4).ok_or_else(cut)?;
        let length = self.order.u32(item, 8).ok_or_else(cut)? as usize;
        if length as u64 > BLOB_BYTES_MAX {
            return Err(damaged("a value is larger than any of rpm's"));
        }
        let mut value = Vec::new();
        let mut page = vec![0; self.page_bytes];
        while value.len() < length {
            if next == 0 || next >= self.pages || !self.seen.insert(next) {
                return Err(damaged("a long value does not end"));
            }
            self.read(next, &mut page)?;
            let used = self.order.u16(&page, 22).unwrap_or(0);
            let part = page.get(HEADER_BYTES..HEADER_BYTES + used);
            let part = part.filter(|part| page[25] == OVERFLOW && !part.is_empty());
            value.extend_from_slice(part.ok_or_else(|| damaged("a part of a value is missing"))?);
            next = self.order.u32(&page, 16).unwrap_or(0);
        }
        if value.len() == length && next == 0 {
            return Ok(value);
        }
        Err(damaged("a long value does not have its length"))
    }
}

#[cfg(test)]
mod tests;
