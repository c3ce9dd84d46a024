//! Lists of rows allocated at start; rows that do not fit are counted.

use core::ops::{self, Deref, DerefMut};

use crate::{Index, Span};

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
    pub fn push(&mut self, row: T) -> Option<Index<T>> {
        if self.rows.len() == self.rows.capacity() {
            self.dropped = self.dropped.saturating_add(1);
            return None;
        }
        self.rows.push(row);
        Index::new(self.rows.len() - 1)
    }

    /// Adds all of `rows`. If they do not fit, adds none and counts that once.
    pub fn extend(&mut self, rows: &[T]) -> Option<Span<T>>
    where
        T: Copy,
    {
        let start = self.rows.len();
        if rows.len() > self.rows.capacity() - start {
            self.dropped = self.dropped.saturating_add(1);
            return None;
        }
        self.rows.extend_from_slice(rows);
        Some(self.span_from(start))
    }

    pub fn clear(&mut self) {
        self.rows.clear();
        self.dropped = 0;
    }

    /// Removes all rows from `length` on.
    pub fn truncate(&mut self, length: usize) {
        self.rows.truncate(length);
    }

    /// The row at an index; `None` without an index, and for one out of range.
    #[inline]
    pub fn at(&self, index: impl Into<Option<Index<T>>>) -> Option<&T> {
        self.rows.get(Index::position_or_none(index.into()))
    }

    /// The row at an index; `None` without an index, and for one out of range.
    #[inline]
    pub fn at_mut(&mut self, index: impl Into<Option<Index<T>>>) -> Option<&mut T> {
        self.rows.get_mut(Index::position_or_none(index.into()))
    }

    /// The rows of a span; empty if any of them is missing.
    #[inline]
    pub fn range(&self, span: Span<T>) -> &[T] {
        self.rows.get(span.positions()).unwrap_or(&[])
    }

    /// The rows of a span; empty if any of them is missing.
    #[inline]
    pub fn range_mut(&mut self, span: Span<T>) -> &mut [T] {
        self.rows.get_mut(span.positions()).unwrap_or(&mut [])
    }

    pub fn as_slice(&self) -> &[T] {
        &self.rows
    }

    pub fn as_mut_slice(&mut self) -> &mut [T] {
        &mut self.rows
    }

    /// The rows from a position on.
    pub fn span_from(&self, start: usize) -> Span<T> {
        Span::new(start as u32, self.rows.len() as u32)
    }

    /// The indexes of all rows.
    #[inline]
    pub fn indexes(&self) -> impl DoubleEndedIterator<Item = Index<T>> + use<T> {
        self.span_from(0).indexes()
    }

    /// All rows with their indexes.
    #[inline]
    pub fn indexed(&self) -> impl Iterator<Item = (Index<T>, &T)> {
        self.indexes().zip(&self.rows)
    }

    pub fn capacity(&self) -> usize {
        self.rows.capacity()
    }
}

/// Panics for an index from a scan whose rows have been cleared since.
impl<T> ops::Index<Index<T>> for Rows<T> {
    type Output = T;

    #[inline]
    fn index(&self, index: Index<T>) -> &T {
        &self.rows[index.position()]
    }
}

impl<T> ops::IndexMut<Index<T>> for Rows<T> {
    #[inline]
    fn index_mut(&mut self, index: Index<T>) -> &mut T {
        &mut self.rows[index.position()]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_by_their_indexes() {
        let mut rows = Rows::with_capacity(2);
        let [first, second] = ["a", "b"].map(|row| rows.push(row).unwrap());
        assert_eq!((rows[first], rows.at(second)), ("a", Some(&"b")));
        assert_eq!(rows.indexed().collect::<Vec<_>>(), [(first, &"a"), (second, &"b")]);
        assert_eq!(rows.at(None), None);
        rows.truncate(1);
        assert_eq!(rows.at(second), None);
    }

    #[test]
    fn rows_that_do_not_fit_are_counted() {
        let mut rows = Rows::with_capacity(3);
        let span = rows.extend(b"ab").unwrap();
        assert_eq!(rows.extend(b"cd"), None);
        assert_eq!((rows.range(span), rows.len(), rows.dropped), (&b"ab"[..], 2, 1));
        rows.push(b'c').unwrap();
        assert_eq!(rows.push(b'd'), None);
        assert_eq!((rows.range(rows.span_from(1)), rows.dropped), (&b"bc"[..], 2));
        assert_eq!(rows.range(Span::new(2, 4)), []);
    }
}
