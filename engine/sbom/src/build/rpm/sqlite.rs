//! Reads all rows of one table of an SQLite database, without a lock and without changes.
//!
//! Format: "Database File Format" of SQLite: §1.3 header, §1.6 b-tree pages, §2.1 records, §4
//! write-ahead log. Every page is read at most once, so no circle of pages ends in a loop, and the
//! work is bounded by the size of the file.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;

use super::{BLOB_BYTES_MAX, reading};
use crate::error::SbomError;

/// First bytes of a database.
const MAGIC: &[u8] = b"SQLite format 3\0";
/// Bytes of its header, in the first page.
const HEADER_BYTES: usize = 100;
/// Kinds of pages of tables.
const INTERIOR: u8 = 5;
const LEAF: u8 = 13;
/// First bytes of a log; the last bit is set if its checksums are of big-endian numbers.
const LOG_MAGIC: u32 = 0x377f_0682;
const LOG_HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;
/// Maximum size of a log: it is held while it is checked.
const LOG_BYTES_MAX: u64 = 1 << 30;
/// Maximum number of columns of a row: of the tables read here, one has five.
const COLUMNS_MAX: usize = 16;

/// A database.
pub(super) struct SqliteDatabase {
    file: File,
    page_bytes: usize,
    /// Bytes of each page that are used: all but those reserved at its end.
    used: usize,
    page_count: u32,
    /// Pages that are newer in the log.
    log: HashMap<u32, Vec<u8>>,
    /// Pages that were read.
    seen: HashSet<u32>,
    /// How many bytes rows may still have: unless cells overlap, no more than the files.
    bytes_left: u64,
}

/// A value of a row, as far as it matters here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum SqliteValue {
    Number(i64),
    /// A text or a blob.
    Bytes(Vec<u8>),
    /// NULL, or a number with a fraction.
    Other,
}

fn damaged(what: &str) -> SbomError {
    SbomError::content(format!("is a damaged SQLite database: {what}"))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<usize> {
    Some(usize::from(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?)))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// A number of one to nine bytes, and how many those are (§1.6, "varint").
fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0;
    for at in 0..8 {
        let byte = *bytes.get(at)?;
        value = value << 7 | u64::from(byte & 0x7f);
        if byte < 0x80 {
            return Some((value, at + 1));
        }
    }
    Some((value << 8 | u64::from(*bytes.get(8)?), 9))
}

impl SqliteDatabase {
    /// `log` is the write-ahead log beside the database, if there is one.
    pub(super) fn open(file: File, log: Option<File>) -> Result<Self, SbomError> {
        let mut header = [0; HEADER_BYTES];
        file.read_exact_at(&mut header, 0).map_err(|_| damaged("it has no header"))?;
        if !header.starts_with(MAGIC) {
            return Err(damaged("it has another magic"));
        }
        let page_bytes = match u16_at(&header, 16) {
            Some(1) => 1 << 16,
            Some(size) if size >= 512 && size.is_power_of_two() => size,
            _ => return Err(damaged("its pages have a bad size")),
        };
        let used = page_bytes - usize::from(header[20]);
        if used < 480 {
            return Err(damaged("its pages have no room"));
        }
        let log = match log {
            Some(log) => pages_of_log(log, page_bytes)?,
            None => HashMap::new(),
        };
        let in_file = file.metadata().map_err(reading)?.len() / page_bytes as u64;
        let last = log.keys().copied().max().unwrap_or(0);
        let page_count = u32::try_from(in_file).unwrap_or(u32::MAX).max(last);
        let bytes_left = (in_file + log.len() as u64) * page_bytes as u64;
        Ok(Self { file, page_bytes, used, page_count, log, seen: HashSet::new(), bytes_left })
    }

    /// Reads a page, which must not have been read before.
    fn page(&mut self, number: u32) -> Result<Vec<u8>, SbomError> {
        if number == 0 || number > self.page_count {
            return Err(damaged("it names a page that it has not"));
        }
        if !self.seen.insert(number) {
            return Err(damaged("two places name one page"));
        }
        if let Some(page) = self.log.get(&number) {
            return Ok(page.clone());
        }
        let mut page = vec![0; self.page_bytes];
        let at = u64::from(number - 1) * self.page_bytes as u64;
        self.file.read_exact_at(&mut page, at).map_err(reading)?;
        Ok(page)
    }

    /// Calls `row` with each row of a table of this name, until that fails. To be called once.
    pub(super) fn rows(
        &mut self,
        name: &str,
        row: &mut dyn FnMut(Vec<SqliteValue>) -> Result<(), SbomError>,
    ) -> Result<(), SbomError> {
        let mut root = None;
        // `CREATE TABLE sqlite_schema(type, name, tbl_name, rootpage, sql)`, §2.6.
        self.walk(1, &mut |columns| {
            if let [kind, own, _, SqliteValue::Number(page), _] = columns.as_slice()
                && *kind == SqliteValue::Bytes(b"table".to_vec())
                && *own == SqliteValue::Bytes(name.as_bytes().to_vec())
            {
                root = u32::try_from(*page).ok();
            }
            Ok(())
        })?;
        let missing = || SbomError::content(format!("has no table {name}; is it rpm's database?"));
        self.walk(root.ok_or_else(missing)?, row)
    }

    fn walk(
        &mut self,
        root: u32,
        row: &mut dyn FnMut(Vec<SqliteValue>) -> Result<(), SbomError>,
    ) -> Result<(), SbomError> {
        let cut = || damaged("a page ends within a cell");
        // The pages still to be read, the next one last.
        let mut waiting = vec![root];
        while let Some(number) = waiting.pop() {
            let page = self.page(number)?;
            let at = if number == 1 { HEADER_BYTES } else { 0 };
            let count = u16_at(&page, at + 3).ok_or_else(cut)?;
            let cell = |cells: usize, index: usize| u16_at(&page, cells + 2 * index);
            match page.get(at) {
                Some(&INTERIOR) => {
                    waiting.push(u32_at(&page, at + 8).ok_or_else(cut)?);
                    for index in (0..count).rev() {
                        let child = cell(at + 12, index).and_then(|cell| u32_at(&page, cell));
                        waiting.push(child.ok_or_else(cut)?);
                    }
                    if waiting.len() > self.page_count as usize {
                        return Err(damaged("it names more pages than it has"));
                    }
                }
                Some(&LEAF) => {
                    for index in 0..count {
                        let cell = cell(at + 8, index).and_then(|cell| page.get(cell..));
                        row(record(&self.payload(cell.ok_or_else(cut)?)?)?)?;
                    }
                }
                _ => return Err(damaged("a page is of no table")),
            }
        }
        Ok(())
    }

    /// The payload of a leaf's cell, from its own page and from overflow pages (§1.6, §1.7).
    fn payload(&mut self, cell: &[u8]) -> Result<Vec<u8>, SbomError> {
        let cut = || damaged("a page ends within a cell");
        let (length, first) = varint(cell).ok_or_else(cut)?;
        let (_, second) = varint(&cell[first..]).ok_or_else(cut)?;
        if length > BLOB_BYTES_MAX {
            return Err(damaged("a row is larger than any of rpm's"));
        }
        let left = self.bytes_left.checked_sub(length.max(1));
        self.bytes_left = left.ok_or_else(|| damaged("its rows are larger than the database"))?;
        let length = length as usize;
        let rest = &cell[first + second..];
        let most = self.used - 35;
        if length <= most {
            return Ok(rest.get(..length).ok_or_else(cut)?.to_vec());
        }
        let least = (self.used - 12) * 32 / 255 - 23;
        let own = least + (length - least) % (self.used - 4);
        let own = if own <= most { own } else { least };
        let mut payload = rest.get(..own).ok_or_else(cut)?.to_vec();
        let mut next = u32_at(rest, own).ok_or_else(cut)?;
        while payload.len() < length {
            let page = self.page(next)?;
            next = u32_at(&page, 0).ok_or_else(cut)?;
            let count = (length - payload.len()).min(self.used - 4);
            payload.extend_from_slice(page.get(4..4 + count).ok_or_else(cut)?);
        }
        Ok(payload)
    }
}

/// The values of a record (§2.1).
fn record(payload: &[u8]) -> Result<Vec<SqliteValue>, SbomError> {
    let bad = || damaged("a row has a bad header");
    let (header_bytes, first) = varint(payload).ok_or_else(bad)?;
    let header_bytes = usize::try_from(header_bytes).map_err(|_| bad())?;
    let mut kinds = payload.get(first..header_bytes).ok_or_else(bad)?;
    let mut data = &payload[header_bytes..];
    let mut values = Vec::new();
    while !kinds.is_empty() {
        let (kind, length) = varint(kinds).ok_or_else(bad)?;
        kinds = &kinds[length..];
        let length = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind as usize,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return Err(bad()),
            _ => usize::try_from((kind - 12) / 2).map_err(|_| bad())?,
        };
        let (bytes, rest) = data.split_at_checked(length).ok_or_else(bad)?;
        data = rest;
        values.push(match kind {
            0 | 7 => SqliteValue::Other,
            8 => SqliteValue::Number(0),
            9 => SqliteValue::Number(1),
            1..=6 => {
                let sign = if bytes[0] >= 0x80 { -1 } else { 0 };
                SqliteValue::Number(
                    bytes.iter().fold(sign, |value, byte| value << 8 | i64::from(*byte)),
                )
            }
            _ => SqliteValue::Bytes(bytes.to_vec()),
        });
        if values.len() > COLUMNS_MAX {
            return Err(damaged("a row has more columns than any that rpm writes"));
        }
    }
    Ok(values)
}

/// The newest committed content of each page in a write-ahead log (§4.1 to §4.3).
fn pages_of_log(log: File, page_bytes: usize) -> Result<HashMap<u32, Vec<u8>>, SbomError> {
    let mut bytes = Vec::new();
    log.take(LOG_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(reading)?;
    if bytes.len() as u64 > LOG_BYTES_MAX {
        return Err(SbomError::content("has a write-ahead log that is larger than any of rpm's"));
    }
    let mut pages = HashMap::new();
    let Some((header, frames)) = bytes.split_at_checked(LOG_HEADER_BYTES) else {
        // Empty, or not begun.
        return Ok(pages);
    };
    let magic = u32_at(header, 0).unwrap_or(0);
    let is_big_endian = magic & 1 != 0;
    let mut sum = checksum((0, 0), &header[..24], is_big_endian);
    let has_own_sum = (u32_at(header, 24), u32_at(header, 28)) == (Some(sum.0), Some(sum.1));
    if magic & !1 != LOG_MAGIC || u32_at(header, 8) != Some(page_bytes as u32) || !has_own_sum {
        // SQLite ignores such a log, too.
        return Ok(pages);
    }
    let salts = &header[16..24];
    let mut uncommitted = Vec::new();
    for frame in frames.chunks_exact(FRAME_HEADER_BYTES + page_bytes) {
        let (header, page) = frame.split_at(FRAME_HEADER_BYTES);
        sum = checksum(checksum(sum, &header[..8], is_big_endian), page, is_big_endian);
        let is_whole = (u32_at(header, 16), u32_at(header, 20)) == (Some(sum.0), Some(sum.1));
        if &header[8..16] != salts || !is_whole {
            // The rest is of an older log, or was not written completely.
            break;
        }
        uncommitted.push((u32_at(header, 0).unwrap_or(0), page));
        if u32_at(header, 4) != Some(0) {
            pages.extend(uncommitted.drain(..).map(|(number, page)| (number, page.to_vec())));
        }
    }
    Ok(pages)
}

/// Continues a checksum of a log over a multiple of eight bytes.
fn checksum((mut first, mut second): (u32, u32), bytes: &[u8], is_big_endian: bool) -> (u32, u32) {
    let number = |bytes: [u8; 4]| {
        if is_big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    };
    let (eights, _) = bytes.as_chunks::<8>();
    for [a, b, c, d, e, f, g, h] in eights {
        first = first.wrapping_add(number([*a, *b, *c, *d])).wrapping_add(second);
        second = second.wrapping_add(number([*e, *f, *g, *h])).wrapping_add(first);
    }
    (first, second)
}

#[cfg(test)]
mod tests;
