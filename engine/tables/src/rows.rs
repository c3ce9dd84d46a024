//! Lists of rows allocated at start; rows that do not fit are counted.

use core::ops::{self, Deref, DerefMut};

use crate::{Index, Span, room};

/// Rows of one kind, in memory allocated at start.
#[derive(Debug)]
pub struct Rows<T> {
    list: Vec<T>,
    capacity: usize,
    /// Number of rows that did not fit.
    pub dropped: u32,
}

impl<T> Rows<T> {
    /// Allocates for `capacity` rows.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { list: room::list(capacity), capacity, dropped: 0 }
    }

    /// Adds a row and returns its index. If there is no room, counts the row and returns `None`.
    #[inline]
    pub fn push(&mut self, row: T) -> Option<Index<T>> {
        if self.list.len() >= self.capacity {
            self.dropped = self.dropped.saturating_add(1);
            return None;
        }
        self.list.push(row);
        Index::new(self.list.len() - 1)
    }

    /// Adds all of `rows`. If they do not fit, adds none and counts that once.
    pub fn extend(&mut self, rows: &[T]) -> Option<Span<T>>
    where
        T: Copy,
    {
        let start = self.list.len();
        if rows.len() > self.capacity.saturating_sub(start) {
            self.dropped = self.dropped.saturating_add(1);
            return None;
        }
        self.list.extend_from_slice(rows);
        Some(self.span_from(start))
    }

    /// Number of rows that may still be added.
    pub fn room(&self) -> usize {
        self.capacity.saturating_sub(self.list.len())
    }

    /// Sets how many rows may be added from now on, at most as many as there is room for.
    pub fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity.min(self.list.capacity());
    }

    pub fn clear(&mut self) {
        self.list.clear();
        self.dropped = 0;
    }

    /// Removes all rows from `length` on.
    pub fn truncate(&mut self, length: usize) {
        self.list.truncate(length);
    }

    /// Removes the rows that are not kept. The others stay in their order, at other indexes.
    pub fn retain(&mut self, is_kept: impl FnMut(&T) -> bool) {
        self.list.retain(is_kept);
    }

    /// The row at an index; `None` without an index, and for one out of range.
    #[inline]
    pub fn at(&self, index: impl Into<Option<Index<T>>>) -> Option<&T> {
        self.list.get(Index::position_or_none(index.into()))
    }

    /// The row at an index; `None` without an index, and for one out of range.
    #[inline]
    pub fn at_mut(&mut self, index: impl Into<Option<Index<T>>>) -> Option<&mut T> {
        self.list.get_mut(Index::position_or_none(index.into()))
    }

    /// The rows of a span; empty if any of them is missing.
    #[inline]
    pub fn range(&self, span: Span<T>) -> &[T] {
        self.list.get(span.positions()).unwrap_or(&[])
    }

    /// The rows of a span; empty if any of them is missing.
    #[inline]
    pub fn range_mut(&mut self, span: Span<T>) -> &mut [T] {
        self.list.get_mut(span.positions()).unwrap_or(&mut [])
    }

    pub fn as_slice(&self) -> &[T] {
        &self.list
    }

    pub fn as_mut_slice(&mut self) -> &mut [T] {
        &mut self.list
    }

    /// The rows from a position on.
    pub fn span_from(&self, start: usize) -> Span<T> {
        Span::new(start as u32, self.list.len() as u32)
    }

    /// The indexes of all rows.
    #[inline]
    pub fn indexes(&self) -> impl DoubleEndedIterator<Item = Index<T>> + use<T> {
        self.span_from(0).indexes()
    }

    /// All rows with their indexes.
    #[inline]
    pub fn indexed(&self) -> impl Iterator<Item = (Index<T>, &T)> {
        self.indexes().zip(&self.list)
    }

    pub fn capacity(&self) -> usize {
        self.capacity
    }
}

/// Panics for an index from a scan whose rows have been cleared since.
impl<T> ops::Index<Index<T>> for Rows<T> {
    type Output = T;

    #[inline]
    fn index(&self, index: Index<T>) -> &T {
        &self.list[index.position()]
    }
}

impl<T> ops::IndexMut<Index<T>> for Rows<T> {
    #[inline]
    fn index_mut(&mut self, index: Index<T>) -> &mut T {
        &mut self.list[index.position()]
    }
}

impl<T> Deref for Rows<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.list
    }
}

impl<T> DerefMut for Rows<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.list
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
        rows.retain(|row| *row != "a");
        assert_eq!((rows.at(first), rows.at(second)), (Some(&"b"), None));
        rows.truncate(0);
        assert_eq!(rows.at(first), None);
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
