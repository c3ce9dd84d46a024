//! Where a file holds data: `SEEK_DATA` and `SEEK_HOLE`, in whole pages.
//!
//! What has never been written to a sparse file is a hole. Asking where they are touches nothing: no page
//! comes to be, not even in the page cache.

use std::fs::File;
use std::io;
use std::ops::Range;

use panoptes_decoders::source::PAGE_BYTES;

use super::mapping::{seek_data, seek_hole};

/// What is at a page of a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Place {
    /// Bytes.
    Data,
    /// Nothing was ever written there.
    Hole,
    /// The file has ended before.
    PastEnd,
}

/// What is at a page that begins at `offset`.
pub(super) fn place(file: &File, offset: u64) -> io::Result<Place> {
    match seek_data(file, offset)? {
        Some(data) if data < offset.saturating_add(PAGE_BYTES) => Ok(Place::Data),
        Some(_) => Ok(Place::Hole),
        // Both a hole that reaches to the end and what lies behind the end are answered so.
        None if offset < file.metadata()?.len() => Ok(Place::Hole),
        None => Ok(Place::PastEnd),
    }
}

/// The first range of whole pages at or after `from` that holds data, cut at `end`.
///
/// A file system with smaller blocks than a page may have data and holes in one page, which counts as data.
pub(super) fn next_extent(file: &File, from: u64, end: u64) -> io::Result<Option<Range<u64>>> {
    let Some(data) = seek_data(file, from)?.filter(|data| *data < end) else { return Ok(None) };
    let start = data / PAGE_BYTES * PAGE_BYTES;
    let mut stop = seek_hole(file, data)?.unwrap_or(end);
    // A guest may touch or give back pages between the two questions: take at least one.
    stop = stop.max(data + 1).checked_next_multiple_of(PAGE_BYTES).unwrap_or(end);
    Ok(Some(start.max(from)..stop.min(end)))
}
