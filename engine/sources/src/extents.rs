//! Where a file holds data: `SEEK_DATA` and `SEEK_HOLE`, in whole pages.
//!
//! The parts of a sparse file that were never written are holes. Finding holes allocates no page,
//! not even in the page cache.

use std::fs::File;
use std::io;
use std::ops::Range;

use panoptes_decoders::source::PAGE_BYTES;

use super::mapping::{seek_data, seek_hole};

/// What a file has at the offset of a page.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ExtentKind {
    Data,
    Hole,
    PastEnd,
}

/// Whether the page at `offset` holds data, is a hole, or is past the end of the file.
pub(super) fn place(file: &File, offset: u64) -> io::Result<ExtentKind> {
    match seek_data(file, offset)? {
        Some(data) if data < offset.saturating_add(PAGE_BYTES) => Ok(ExtentKind::Data),
        Some(_) => Ok(ExtentKind::Hole),
        // lseek gives the same answer for a hole that reaches to the end and past the end.
        None if offset < file.metadata()?.len() => Ok(ExtentKind::Hole),
        None => Ok(ExtentKind::PastEnd),
    }
}

/// The first range of whole pages at or after `from` that holds data, cut at `end`.
///
/// On a file system with blocks smaller than a page, one page may have data and holes. It counts
/// as data.
pub(super) fn next_extent(file: &File, from: u64, end: u64) -> io::Result<Option<Range<u64>>> {
    let Some(data) = seek_data(file, from)?.filter(|data| *data < end) else { return Ok(None) };
    let start = data / PAGE_BYTES * PAGE_BYTES;
    let mut stop = seek_hole(file, data)?.unwrap_or(end);
    // A guest may touch or free pages between the two calls: return at least one page.
    stop = stop.max(data + 1).checked_next_multiple_of(PAGE_BYTES).unwrap_or(end);
    Ok(Some(start.max(from)..stop.min(end)))
}
