//! A list of the last things: when it is full, a new one takes the place of the oldest.

use core::ops::{Deref, DerefMut};

use crate::room;

/// The last things that were added, in no order.
#[derive(Debug)]
pub struct RecentList<T> {
    list: Vec<T>,
    /// The place of the oldest one, when the list is full.
    oldest: usize,
}

impl<T> RecentList<T> {
    /// Allocates for so many; with no room, nothing is kept.
    pub fn new(capacity: usize) -> Self {
        Self { list: room::list(capacity), oldest: 0 }
    }

    /// Adds one; returns the oldest one if that has made room.
    pub fn push(&mut self, new: T) -> Option<T> {
        if self.list.len() < self.list.capacity() {
            self.list.push(new);
            return None;
        }
        let place = self.list.get_mut(self.oldest)?;
        let oldest = core::mem::replace(place, new);
        self.oldest = (self.oldest + 1) % self.list.len();
        Some(oldest)
    }

    pub fn clear(&mut self) {
        self.list.clear();
        self.oldest = 0;
    }
}

impl<T: PartialEq> RecentList<T> {
    /// Adds one that the list does not have; returns whether that was so.
    pub fn insert(&mut self, new: T) -> bool {
        let is_new = !self.list.contains(&new);
        if is_new {
            self.push(new);
        }
        is_new
    }
}

impl<T> Deref for RecentList<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.list
    }
}

impl<T> DerefMut for RecentList<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_one_takes_the_place_of_the_oldest() {
        let mut latest = RecentList::new(3);
        let mut shown = |number| {
            let is_new = latest.insert(number);
            let mut all = latest.to_vec();
            all.sort_unstable();
            (is_new, all)
        };
        for (number, expected) in [
            (1, (true, vec![1])),
            (2, (true, vec![1, 2])),
            (1, (false, vec![1, 2])),
            (3, (true, vec![1, 2, 3])),
            (4, (true, vec![2, 3, 4])),
            (5, (true, vec![3, 4, 5])),
            (4, (false, vec![3, 4, 5])),
            (6, (true, vec![4, 5, 6])),
            (7, (true, vec![5, 6, 7])),
        ] {
            assert_eq!(shown(number), expected, "{number}");
        }
    }

    #[test]
    fn the_oldest_one_is_returned_and_a_cleared_list_begins_anew() {
        let mut latest = RecentList::new(2);
        let returned = [1, 2, 3, 4].map(|number| latest.push(number));
        assert_eq!(returned, [None, None, Some(1), Some(2)]);
        latest.push(5);
        latest.clear();
        assert_eq!([6, 7, 8].map(|number| latest.push(number)), [None, None, Some(6)]);
    }

    #[test]
    fn without_room_nothing_is_kept() {
        let mut latest = RecentList::new(0);
        assert!(latest.insert(1) && latest.insert(1));
        assert!(latest.is_empty());
    }
}
