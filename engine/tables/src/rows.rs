//! Lists of rows allocated at start; rows that do not fit are counted.

use core::ops::{Deref, DerefMut, Range};

/// Rows of one kind, in memory allocated at start.
#[derive(Debug)]
pub struct Rows<T> {
    rows: Vec<T>,
    /// Number of rows that did not fit.
    pub dropped: u32,
}

impl<T> Rows<T> {
    /// Allocates for `capacity` rows.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { rows: Vec::with_capacity(capacity), dropped: 0 }
    }

    /// Adds a row and returns its index. If there is no room, counts the row and returns `None`.
    #[inline]
    pub fn push(&mut self, row: T) -> Option<u32> {
        if self.rows.len() == self.rows.capacity() {
            self.dropped = self.dropped.saturating_add(1);
            return None;
        }
        self.rows.push(row);
        Some(self.rows.len() as u32 - 1)
    }

    /// Adds all of `rows`. If they do not fit, adds none and counts that once.
    pub fn extend(&mut self, rows: &[T]) -> Option<Range<u32>>
    where
        T: Copy,
    {
        let start = self.rows.len();
        if rows.len() > self.rows.capacity() - start {
            self.dropped = self.dropped.saturating_add(1);
            return None;
        }
        self.rows.extend_from_slice(rows);
        Some(start as u32..self.rows.len() as u32)
    }

    pub fn clear(&mut self) {
        self.rows.clear();
        self.dropped = 0;
    }

    /// Removes all rows from `length` on.
    pub fn truncate(&mut self, length: usize) {
        self.rows.truncate(length);
    }

    /// The row at an index; `None` for an index out of range.
    #[inline]
    pub fn at(&self, index: u32) -> Option<&T> {
        self.rows.get(index as usize)
    }

    /// The rows of a range of indexes; empty if any of the range is missing.
    pub fn range(&self, range: &Range<u32>) -> &[T] {
        self.rows.get(range.start as usize..range.end as usize).unwrap_or(&[])
    }

    pub fn capacity(&self) -> usize {
        self.rows.capacity()
    }
}

impl<T> Deref for Rows<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.rows
    }
}

impl<T> DerefMut for Rows<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.rows
    }
}
