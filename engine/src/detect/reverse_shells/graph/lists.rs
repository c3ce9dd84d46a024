//! Lists of rows by owner, in tables whose room is allocated once.

use panoptes_tables::room;

use crate::walk::Index;

/// Lists of rows, by the position of their owner. A row is in one list, once.
#[derive(Debug)]
pub(super) struct RowLists<Row> {
    /// The first row of each owner.
    first: Vec<Option<Index<Row>>>,
    /// The next row of the same owner, for each row.
    next: Vec<Option<Index<Row>>>,
}

impl<Row> Default for RowLists<Row> {
    fn default() -> Self {
        Self { first: Vec::default(), next: Vec::default() }
    }
}

impl<Row> RowLists<Row> {
    pub(super) fn new(owners: usize, rows: usize) -> Self {
        Self { first: room::list(owners), next: room::list(rows) }
    }

    pub(super) fn reset(&mut self, owners: usize, rows: usize) {
        reset(&mut self.first, owners);
        reset(&mut self.next, rows);
    }

    /// Inserts `index` at the front of the list of `owner`.
    pub(super) fn insert(&mut self, owner: usize, index: Index<Row>) {
        let first = self.first.get_mut(owner);
        if let (Some(first), Some(next)) = (first, self.next.get_mut(index.position())) {
            *next = first.replace(index);
        }
    }

    /// Puts `index` in the place of `before`, the first of the list of `owner`.
    pub(super) fn replace_first(&mut self, owner: usize, before: Index<Row>, index: Index<Row>) {
        let rest = linked(&self.next, before);
        let first = self.first.get_mut(owner);
        if let (Some(first), Some(next)) = (first, self.next.get_mut(index.position())) {
            (*first, *next) = (Some(index), rest);
        }
    }

    /// Removes all rows of `owner` but one.
    pub(super) fn keep_only(&mut self, owner: usize, index: Index<Row>) {
        if let (Some(first), Some(next)) =
            (self.first.get_mut(owner), self.next.get_mut(index.position()))
        {
            (*first, *next) = (Some(index), None);
        }
    }

    pub(super) fn first_of(&self, owner: Index<impl Sized>) -> Option<Index<Row>> {
        linked(&self.first, owner)
    }

    pub(super) fn of(&self, owner: usize) -> impl Iterator<Item = Index<Row>> + use<'_, Row> {
        let mut at = self.first.get(owner).copied().flatten();
        (0..=self.next.len()).map_while(move |_| {
            let this = at?;
            at = linked(&self.next, this);
            Some(this)
        })
    }
}

pub(super) fn reset<Row>(list: &mut Vec<Option<Index<Row>>>, length: usize) {
    list.clear();
    list.resize(length.min(list.capacity()), None);
}

/// What a list has for an index.
pub(super) fn linked<At, Row>(list: &[Option<Index<Row>>], at: Index<At>) -> Option<Index<Row>> {
    list.get(at.position()).copied().flatten()
}
