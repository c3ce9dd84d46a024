//! Typed numbers of rows, and typed ranges of them.
//!
//! The type of the row is part of the index, so an index of one table cannot be used for another.

use core::cmp::Ordering;
use core::fmt;
use core::hash::{Hash, Hasher};
use core::marker::PhantomData;
use core::num::NonZeroU32;
use core::ops::Range;

/// The position of a row in its table. `Option<Index<Row>>` has four bytes, too.
pub struct Index<Row> {
    /// The position plus one.
    number: NonZeroU32,
    row: PhantomData<fn() -> Row>,
}

impl<Row> Index<Row> {
    /// The index of a position; `None` if no table can have that many rows.
    #[inline]
    pub fn new(position: usize) -> Option<Self> {
        let number = NonZeroU32::new(u32::try_from(position).ok()?.wrapping_add(1))?;
        Some(Self { number, row: PhantomData })
    }

    #[inline]
    pub const fn position(self) -> usize {
        self.number.get() as usize - 1
    }

    /// The position for a table that keeps numbers of several types; [`Self::from_number`] undoes
    /// it.
    #[inline]
    pub const fn number(self) -> u32 {
        self.number.get() - 1
    }

    /// The index of a number from [`Self::number`].
    #[inline]
    pub const fn from_number(number: u32) -> Option<Self> {
        match NonZeroU32::new(number.wrapping_add(1)) {
            Some(number) => Some(Self { number, row: PhantomData }),
            None => None,
        }
    }

    /// The position of an index, or for `None` a position that no row has. This lets a table find
    /// out with one comparison that there is no row.
    #[inline]
    pub(crate) fn position_or_none(index: Option<Self>) -> usize {
        index.map_or(0, |index| index.number.get()).wrapping_sub(1) as usize
    }
}

// Derived implementations would ask the same of `Row`.

impl<Row> Clone for Index<Row> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<Row> Copy for Index<Row> {}

impl<Row> PartialEq for Index<Row> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<Row> Eq for Index<Row> {}

impl<Row> PartialOrd for Index<Row> {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<Row> Ord for Index<Row> {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        self.number.cmp(&other.number)
    }
}

impl<Row> Hash for Index<Row> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.number.hash(state);
    }
}

impl<Row> fmt::Debug for Index<Row> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.number())
    }
}

/// Rows that follow each other in their table.
pub struct Span<Row> {
    start: u32,
    end: u32,
    row: PhantomData<fn() -> Row>,
}

impl<Row> Span<Row> {
    /// The rows at positions from `start` to before `end`; empty if there are none.
    #[inline]
    pub const fn new(start: u32, end: u32) -> Self {
        let end = if end < start { start } else { end };
        Self { start, end, row: PhantomData }
    }

    /// `count` rows from one on.
    #[inline]
    pub const fn of(first: Index<Row>, count: u32) -> Self {
        let start = first.number();
        Self::new(start, start.saturating_add(count))
    }

    #[inline]
    pub const fn start(self) -> u32 {
        self.start
    }

    #[inline]
    pub const fn end(self) -> u32 {
        self.end
    }

    #[inline]
    pub const fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    #[inline]
    pub const fn is_empty(self) -> bool {
        self.start == self.end
    }

    #[inline]
    pub const fn positions(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// The index of its first row.
    #[inline]
    pub const fn first(self) -> Option<Index<Row>> {
        if self.is_empty() { None } else { Index::from_number(self.start) }
    }

    /// The index of its row at `position`, counted from its first.
    #[inline]
    pub fn nth(self, position: usize) -> Option<Index<Row>> {
        if position < self.len() { Index::new(self.start as usize + position) } else { None }
    }

    /// The indexes of its rows.
    #[inline]
    pub fn indexes(self) -> impl DoubleEndedIterator<Item = Index<Row>> + Clone {
        (self.start..self.end).filter_map(Index::from_number)
    }

    /// All but the first `count` rows.
    #[must_use]
    pub fn skip(self, count: usize) -> Self {
        Self::new(self.start.saturating_add(count as u32).min(self.end), self.end)
    }

    /// The first `count` rows.
    #[must_use]
    pub fn take(self, count: usize) -> Self {
        Self::new(self.start, self.end.min(self.start.saturating_add(count as u32)))
    }

    /// Appends the row that follows.
    #[inline]
    pub const fn extend(&mut self) {
        self.end = self.end.saturating_add(1);
    }
}

impl<Row> Clone for Span<Row> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<Row> Copy for Span<Row> {}

impl<Row> Default for Span<Row> {
    #[inline]
    fn default() -> Self {
        Self::new(0, 0)
    }
}

impl<Row> PartialEq for Span<Row> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        (self.start, self.end) == (other.start, other.end)
    }
}

impl<Row> Eq for Span<Row> {}

impl<Row> fmt::Debug for Span<Row> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Large {
        _bytes: [u8; 64],
    }

    #[test]
    fn an_index_that_may_be_missing_has_four_bytes() {
        assert_eq!(size_of::<Option<Index<Large>>>(), 4);
        assert_eq!(size_of::<Span<Large>>(), 8);
    }

    #[test]
    fn every_position_but_the_last_has_an_index() {
        for position in [0, 1, 1000, u32::MAX as usize - 1] {
            let index = Index::<Large>::new(position).unwrap();
            assert_eq!(index.position(), position);
            assert_eq!(Index::from_number(index.number()), Some(index));
            assert_eq!(Index::position_or_none(Some(index)), position);
        }
        assert_eq!(Index::<Large>::new(u32::MAX as usize), None);
        assert_eq!(Index::<Large>::new(u32::MAX as usize + 1), None);
        assert_eq!(Index::<Large>::from_number(u32::MAX), None);
        assert_eq!(Index::<Large>::position_or_none(None), u32::MAX as usize);
    }

    #[test]
    fn indexes_are_ordered_as_their_rows() {
        let [first, second] = [0, 1].map(|position| Index::<Large>::new(position).unwrap());
        assert!(first < second);
        assert!(None < Some(first));
        assert_eq!(format!("{second:?}"), "1");
    }

    #[test]
    fn a_span_has_its_rows() {
        let mut span = Span::<Large>::new(3, 5);
        let positions: Vec<_> = span.indexes().map(Index::position).collect();
        assert_eq!(positions, [3, 4]);
        assert_eq!((span.first(), span.nth(1)), (Index::new(3), Index::new(4)));
        assert_eq!(span.nth(2), None);
        span.extend();
        assert_eq!((span.len(), span.positions()), (3, 3..6));
        assert_eq!((span.skip(1).positions(), span.take(1).positions()), (4..6, 3..4));
        assert!(span.skip(4).is_empty() && span.take(4) == span);
        assert_eq!(Span::of(span.first().unwrap(), 3), span);
        // A forged length or order does not make a span of everything.
        assert!(Span::<Large>::new(5, 3).is_empty());
        assert_eq!(Span::of(Index::<Large>::new(7).unwrap(), u32::MAX).end(), u32::MAX);
        assert_eq!(Span::<Large>::default().first(), None);
    }
}
