//! Lists of rows, all from one pool of fixed size.
//!
//! The children of a process (threads, descriptors, areas) are compared with the new scan side by
//! side, in the scan's order. They are kept in lists for that: unchanged rows cost no hashing and
//! no search, their memory is mostly in the same order, and a process's rows are freed at once when
//! it ends.

use crate::room;

/// The end of a list.
const END: u32 = u32::MAX;

/// A list, which its owner keeps: its first row and its length.
#[derive(Clone, Copy, Debug)]
pub struct PoolList {
    first: u32,
    length: u32,
}

impl Default for PoolList {
    fn default() -> Self {
        Self { first: END, length: 0 }
    }
}

impl PoolList {
    /// Number of rows in it.
    pub fn len(&self) -> usize {
        self.length as usize
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
}

/// A position in a list: between a row and the one before it.
#[derive(Clone, Copy, Debug)]
pub struct PoolCursor {
    before: u32,
    at: u32,
}

/// Rows in lists.
#[derive(Debug)]
pub struct ListPool<T> {
    rows: Box<[T]>,
    next: Box<[u32]>,
    /// Which rows are free, for assertions only.
    #[cfg(debug_assertions)]
    is_free: Box<[u64]>,
    free: u32,
    used: u32,
    refused: u32,
}

impl<T: Clone + Default> ListPool<T> {
    /// Allocates for `capacity` rows in all lists together.
    pub fn new(capacity: usize) -> Self {
        let mut lists = Self {
            rows: room::copies(T::default(), capacity),
            next: room::copies(END, capacity),
            #[cfg(debug_assertions)]
            is_free: room::copies(u64::MAX, capacity.div_ceil(64)),
            free: END,
            used: 0,
            refused: 0,
        };
        lists.clear();
        lists
    }

    /// The start of a list.
    pub fn start(list: PoolList) -> PoolCursor {
        PoolCursor { before: END, at: list.first }
    }

    /// The row at a position.
    #[inline]
    pub fn row(&self, cursor: PoolCursor) -> Option<&T> {
        self.rows.get(cursor.at as usize)
    }

    /// The row at a position.
    #[inline]
    pub fn row_mut(&mut self, cursor: PoolCursor) -> Option<&mut T> {
        self.rows.get_mut(cursor.at as usize)
    }

    /// Moves on to the next row.
    #[inline]
    pub fn advance(&self, cursor: &mut PoolCursor) {
        if cursor.at != END {
            *cursor = PoolCursor { before: cursor.at, at: self.next[cursor.at as usize] };
        }
    }

    /// Inserts a row and moves on behind it. If there is no room, counts the row and returns
    /// `false`.
    pub fn insert(&mut self, list: &mut PoolList, cursor: &mut PoolCursor, row: T) -> bool {
        let number = self.free;
        if number == END {
            self.refused = self.refused.saturating_add(1);
            return false;
        }
        self.mark(number, false);
        self.free = self.next[number as usize];
        self.used += 1;
        self.rows[number as usize] = row;
        self.attach(list, cursor, number);
        true
    }

    /// Removes the row at a position; the position is then that of the next row.
    pub fn remove(&mut self, list: &mut PoolList, cursor: &mut PoolCursor) -> Option<T> {
        let number = cursor.at;
        let row = self.rows.get_mut(number as usize).map(core::mem::take)?;
        let next = self.next[number as usize];
        *self.link(list, cursor.before) = next;
        list.length -= 1;
        cursor.at = next;
        self.give_back(number);
        Some(row)
    }

    /// Whether another row fits. Counts a row that does not fit, so that callers need not prepare
    /// one.
    pub fn has_room(&mut self) -> bool {
        let has_room = self.free != END;
        self.refused = self.refused.saturating_add(u32::from(!has_room));
        has_room
    }

    /// The number of the row at a position, for [`ListPool::attach`].
    pub fn number(cursor: PoolCursor) -> u32 {
        cursor.at
    }

    /// The row with a number.
    pub fn at(&self, number: u32) -> &T {
        &self.rows[number as usize]
    }

    /// The row with a number.
    pub fn at_mut(&mut self, number: u32) -> &mut T {
        &mut self.rows[number as usize]
    }

    /// Inserts a row that is in no list and moves on behind it.
    pub fn attach(&mut self, list: &mut PoolList, cursor: &mut PoolCursor, number: u32) {
        #[cfg(debug_assertions)]
        assert!(!self.is_free(number), "a free row is in no list");
        debug_assert_ne!(cursor.at, number, "a row is in one list, once");
        self.next[number as usize] = cursor.at;
        *self.link(list, cursor.before) = number;
        list.length += 1;
        cursor.before = number;
    }

    /// Frees a row that is in no list.
    pub fn give_back(&mut self, number: u32) {
        self.mark(number, true);
        self.rows[number as usize] = T::default();
        self.next[number as usize] = self.free;
        self.free = number;
        self.used -= 1;
    }

    /// Checks, in builds with assertions, that a row is freed once for each time it is used.
    #[cfg(debug_assertions)]
    fn mark(&mut self, number: u32, is_free: bool) {
        assert_ne!(self.is_free(number), is_free, "row {number} is freed and used in turn");
        self.is_free[number as usize / 64] ^= 1 << (number % 64);
    }

    #[cfg(debug_assertions)]
    fn is_free(&self, number: u32) -> bool {
        self.is_free[number as usize / 64] >> (number % 64) & 1 != 0
    }

    #[cfg(not(debug_assertions))]
    #[allow(clippy::unused_self, reason = "it is an assertion")]
    fn mark(&mut self, _number: u32, _is_free: bool) {}

    fn link<'a>(&'a mut self, list: &'a mut PoolList, before: u32) -> &'a mut u32 {
        if before == END { &mut list.first } else { &mut self.next[before as usize] }
    }

    /// Number of rows in all lists.
    pub fn used(&self) -> usize {
        self.used as usize
    }

    /// Number of rows that fit.
    pub fn capacity(&self) -> usize {
        self.rows.len()
    }

    /// Counts rows that the caller does not even try to insert.
    pub fn refuse(&mut self, count: u32) {
        self.refused = self.refused.saturating_add(count);
    }

    /// Number of rows that found no room since the last call.
    pub fn take_refused(&mut self) -> u32 {
        core::mem::take(&mut self.refused)
    }

    /// Empties all lists; their owners must forget them too.
    pub fn clear(&mut self) {
        let last = self.next.len().wrapping_sub(1);
        for (number, next) in self.next.iter_mut().enumerate() {
            *next = if number == last { END } else { number as u32 + 1 };
        }
        #[cfg(debug_assertions)]
        self.is_free.fill(u64::MAX);
        self.free = if self.next.is_empty() { END } else { 0 };
        self.used = 0;
        self.refused = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(usize, usize, u32),
        Remove(usize, usize),
    }

    fn place(lists: &ListPool<u32>, list: PoolList, at: usize) -> PoolCursor {
        let mut cursor = ListPool::<u32>::start(list);
        for _ in 0..at {
            lists.advance(&mut cursor);
        }
        cursor
    }

    proptest! {
        #[test]
        fn lists_agree_with_vectors(
            steps in proptest::collection::vec(
                prop_oneof![
                    3 => (0..3_usize, any::<usize>(), any::<u32>())
                        .prop_map(|(list, at, value)| Step::Insert(list, at, value)),
                    2 => (0..3_usize, any::<usize>()).prop_map(|(list, at)| Step::Remove(list, at)),
                ],
                0..200,
            ),
            capacity in 0_usize..30,
        ) {
            let mut lists = ListPool::<u32>::new(capacity);
            let mut heads = [PoolList::default(); 3];
            let mut model: [Vec<u32>; 3] = Default::default();
            let mut refused = 0;
            for step in steps {
                let used: usize = model.iter().map(Vec::len).sum();
                match step {
                    Step::Insert(list, at, value) => {
                        let at = at % (model[list].len() + 1);
                        let mut cursor = place(&lists, heads[list], at);
                        if lists.insert(&mut heads[list], &mut cursor, value) {
                            prop_assert!(used < capacity);
                            model[list].insert(at, value);
                            prop_assert_eq!(lists.row(cursor), model[list].get(at + 1));
                        } else {
                            prop_assert_eq!(used, capacity);
                            refused += 1;
                        }
                    }
                    Step::Remove(list, at) => {
                        let at = at % (model[list].len() + 1);
                        let mut cursor = place(&lists, heads[list], at);
                        let removed = lists.remove(&mut heads[list], &mut cursor);
                        let expected = (at < model[list].len()).then(|| model[list].remove(at));
                        prop_assert_eq!(removed, expected);
                        prop_assert_eq!(lists.row(cursor), model[list].get(at));
                    }
                }
                for (head, list) in heads.iter().zip(&model) {
                    prop_assert_eq!((head.len(), head.is_empty()), (list.len(), list.is_empty()));
                    let mut cursor = ListPool::<u32>::start(*head);
                    for value in list {
                        prop_assert_eq!(lists.row(cursor), Some(value));
                        lists.advance(&mut cursor);
                    }
                    prop_assert_eq!(lists.row(cursor), None);
                }
            }
            prop_assert_eq!(lists.take_refused(), refused);
            prop_assert_eq!(lists.used(), model.iter().map(Vec::len).sum::<usize>());
        }
    }
}
