//! Rows that are also found by an address of the guest.

use core::ops::{Deref, DerefMut};

use crate::{AddressMap, HashKey, Index, Insertion, Rows};

/// [`Rows`] of objects with an address each. Several references to one object lead to one row.
#[derive(Debug)]
pub struct AddressedRows<Row> {
    rows: Rows<Row>,
    by_address: AddressMap,
}

impl<Row> AddressedRows<Row> {
    /// Allocates for `capacity` rows, whose addresses are hashed with `key`.
    pub fn new(capacity: usize, key: HashKey) -> Self {
        Self { rows: Rows::with_capacity(capacity), by_address: AddressMap::new(capacity, key) }
    }

    /// The row of an address, if there is one.
    #[inline]
    pub fn find(&self, address: u64) -> Option<Index<Row>> {
        self.by_address.get(address).and_then(Index::from_number)
    }

    /// Loads what the search for an address begins with ([`AddressMap::touch`]).
    #[inline]
    pub fn touch(&self, address: u64) -> u32 {
        self.by_address.touch(address)
    }

    /// The row of an address; adds it if there is none. There is none at address 0, and none is
    /// added, but counted, if there is no room.
    #[inline]
    pub fn row_of(&mut self, address: u64, row: impl FnOnce() -> Row) -> Option<Index<Row>> {
        if address == 0 {
            return None;
        }
        match self.by_address.insert(address, self.rows.len() as u32) {
            Insertion::Old(number) => Index::from_number(number),
            Insertion::New => self.rows.push(row()),
            Insertion::Full => {
                self.rows.dropped = self.rows.dropped.saturating_add(1);
                None
            }
        }
    }

    /// Sets how many rows may be added from now on, at most as many as there is room for.
    pub fn set_capacity(&mut self, capacity: usize) {
        self.rows.set_capacity(capacity);
        self.by_address.set_capacity(self.rows.capacity());
    }

    /// Removes all rows and addresses.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.by_address.clear();
    }
}

impl<Row> Deref for AddressedRows<Row> {
    type Target = Rows<Row>;

    fn deref(&self) -> &Rows<Row> {
        &self.rows
    }
}

impl<Row> DerefMut for AddressedRows<Row> {
    fn deref_mut(&mut self) -> &mut Rows<Row> {
        &mut self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_one_row() {
        let mut rows = AddressedRows::new(8, HashKey::new(1));
        assert_eq!(rows.row_of(0, || "null"), None);
        let [first, second] = [0x10, 0x20].map(|address| rows.row_of(address, || "new").unwrap());
        assert_eq!((rows.row_of(0x10, || "again"), rows[first]), (Some(first), "new"));
        assert_eq!((rows.find(0x20), rows.find(0x30)), (Some(second), None));
        rows.clear();
        assert_eq!((rows.find(0x20), rows.len()), (None, 0));
    }

    #[test]
    fn an_address_has_a_row_or_none_whatever_the_capacity() {
        for capacity in 0..=8 {
            let mut rows = AddressedRows::new(8, HashKey::new(1));
            let mut small = AddressedRows::new(capacity, HashKey::new(1));
            rows.set_capacity(capacity);
            for rows in [&mut rows, &mut small] {
                for address in (1..=10).chain(1..=10) {
                    let found = rows.row_of(address, || address);
                    let expected = (address <= capacity as u64).then_some(&address);
                    assert_eq!((rows.at(found), found.is_some()), (expected, expected.is_some()));
                    assert_eq!(rows.find(address), found);
                }
                assert_eq!((rows.len(), rows.dropped), (capacity, 20 - 2 * capacity as u32));
            }
        }
    }

    #[test]
    fn fewer_rows_than_there_are_admit_no_more() {
        let mut rows = AddressedRows::new(8, HashKey::new(1));
        (1..=6).for_each(|address| _ = rows.row_of(address, || address));
        rows.set_capacity(3);
        assert_eq!((rows.row_of(7, || 7), rows.find(7), rows.len()), (None, None, 6));
        assert_eq!(rows.extend(&[8]), None);
        assert!(rows.find(6).is_some());
    }

    #[test]
    fn addresses_that_do_not_fit_are_counted() {
        let mut rows = AddressedRows::new(8, HashKey::new(1));
        for address in 1..=10 {
            rows.row_of(address, || address);
        }
        assert_eq!((rows.len(), rows.dropped, rows.find(9)), (8, 2, None));
    }
}
