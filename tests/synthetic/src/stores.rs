//! Stores that wait to be played: those of one operation, or of two at the same time.
//!
//! The second operation was made after the first one, and then both continue together. Stores that
//! touch the same bytes keep their order, and so do a release of memory and the stores of who gets
//! it next. From its first such store on, the second operation waits until the first one has made
//! its last, as if one lock covered all that they share. So what they leave is right, and no state
//! between is one that the locks of a kernel would prevent.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use panoptes_decoders::source::PAGE_BYTES;

use crate::random::Random;

/// One store, or the release of an object or of a reference to it.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    at: usize,
    pub(crate) old: Box<[u8]>,
    pub(crate) new: Box<[u8]>,
    /// Number of bytes that another operation must not have before.
    covers: usize,
    /// Number of the last store of the first operation that has to come before this one of the
    /// second operation, counted from 1; 0 if there is none.
    after: usize,
}

impl Store {
    pub(crate) fn new(at: usize, old: &[u8], new: &[u8]) -> Self {
        Self { at, old: old.into(), new: new.into(), covers: new.len(), after: 0 }
    }

    /// The release of an object, or of a reference to it, which stores nothing.
    pub(crate) fn touch(at: usize, bytes: usize) -> Self {
        Self { at, old: Box::default(), new: Box::default(), covers: bytes, after: 0 }
    }

    /// The bytes that it changes.
    pub(crate) fn range(&self) -> Range<usize> {
        self.at..self.at + self.new.len()
    }

    fn pages(&self) -> Range<usize> {
        let page = PAGE_BYTES as usize;
        self.at / page..(self.at + self.covers).div_ceil(page)
    }

    fn shares_bytes(&self, other: &Self) -> bool {
        self.at < other.at + other.covers && other.at < self.at + self.covers
    }
}

/// The queues of both operations.
#[derive(Debug)]
pub(crate) struct Stores {
    first: VecDeque<Store>,
    second: VecDeque<Store>,
    /// Number of stores of the first operation that were played since the second one was added.
    played: usize,
    random: Random,
}

impl Default for Stores {
    fn default() -> Self {
        Self::of(Vec::new())
    }
}

impl Stores {
    /// Those of one operation.
    pub(crate) fn of(journal: Vec<Store>) -> Self {
        let random = Random::new(journal.len() as u64);
        Self { first: journal.into(), second: VecDeque::new(), played: 0, random }
    }

    pub(crate) fn len(&self) -> usize {
        self.first.len() + self.second.len()
    }

    pub(crate) fn is_of_one(&self) -> bool {
        !self.first.is_empty() && self.second.is_empty()
    }

    pub(crate) fn of_first(&self) -> impl DoubleEndedIterator<Item = &Store> {
        self.first.iter()
    }

    /// Adds an operation that was made after the first one.
    pub(crate) fn add_second(&mut self, mut journal: Vec<Store>) {
        let mut by_page: HashMap<usize, Vec<usize>> = HashMap::new();
        for (index, store) in self.first.iter().enumerate() {
            for page in store.pages() {
                by_page.entry(page).or_default().push(index);
            }
        }
        let last_shared = |store: &Store| {
            let near = store.pages().filter_map(|page| by_page.get(&page)).flatten();
            let shared = near.filter(|&&index| self.first[index].shares_bytes(store));
            shared.max().map_or(0, |&index| index + 1)
        };
        let shared: Vec<usize> = journal.iter().map(last_shared).collect();
        let last = shared.iter().max().copied().unwrap_or_default();
        let begin = shared.iter().position(|&after| after > 0).unwrap_or(journal.len());
        for store in &mut journal[begin..] {
            store.after = last;
        }
        self.played = 0;
        self.second = journal.into();
    }

    /// The next store of either operation.
    pub(crate) fn next(&mut self) -> Option<Store> {
        let may_be_second = self.second.front().is_some_and(|store| store.after <= self.played);
        if may_be_second && (self.first.is_empty() || self.random.below(2) == 0) {
            return self.second.pop_front();
        }
        self.played += 1;
        let next = self.first.pop_front();
        if self.first.is_empty() {
            self.first = std::mem::take(&mut self.second);
            self.first.iter_mut().for_each(|store| store.after = 0);
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stores(places: &[usize]) -> Vec<Store> {
        places.iter().map(|&at| Store::new(at, &[0; 8], &[at as u8; 8])).collect()
    }

    /// The places of all stores in the order in which they are played.
    fn order(first: &[usize], second: &[usize]) -> Vec<usize> {
        let mut all = Stores::of(stores(first));
        all.add_second(stores(second));
        std::iter::from_fn(|| Some(all.next()?.at)).collect()
    }

    #[test]
    fn operations_without_common_bytes_mix() {
        let [first, second] =
            [0, 10_000].map(|from| (0..32).map(|index| from + index * 64).collect::<Vec<_>>());
        let order = order(&first, &second);
        assert_eq!(order.len(), 64);
        assert!(!order.is_sorted() && order[0..32] != second);
        let is_of = |of: &[usize]| order.iter().filter(|at| of.contains(at)).is_sorted();
        assert!(is_of(&first) && is_of(&second));
    }

    #[test]
    fn what_both_change_is_changed_by_the_first_before() {
        for first in [[8, 512, 64, 1024], [512, 8, 1024, 64]] {
            let order = order(&first, &[4096, 12, 2048, 68, 3000]);
            let place = |at| order.iter().position(|&it| it == at).unwrap();
            assert!(place(8).max(place(64)) < place(12), "{order:?}");
            assert!(place(12) < place(2048) && place(68) < place(3000));
        }
    }

    #[test]
    fn memory_is_used_again_only_after_its_release() {
        for _ in 0..8 {
            let mut first = stores(&[8, 16, 24]);
            first.insert(2, Store::touch(4000, 512));
            let mut all = Stores::of(first);
            all.add_second(stores(&[4200]));
            let order: Vec<usize> = std::iter::from_fn(|| Some(all.next()?.at)).collect();
            let place = |at| order.iter().position(|&it| it == at).unwrap();
            assert!(place(16) < place(4200));
        }
    }
}
