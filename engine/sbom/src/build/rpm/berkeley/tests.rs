//! A database that Berkeley DB 5.3 made (see the tests of `rpm`), changed here.

use std::io::{Read as _, Write as _};

use super::*;

const PAGE_BYTES: usize = 4096;

fn whole() -> Vec<u8> {
    let mut bytes = Vec::new();
    let packed: &[u8] = include_bytes!("../../../../tests/rpm/Packages.xz");
    panoptes_unpack::all(packed).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

/// The lengths of the blobs of a database.
fn lengths(database: &[u8]) -> Result<Vec<usize>, SbomError> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(database).unwrap();
    let mut found = Vec::new();
    blobs(&file, &mut |blob| {
        found.push(blob.len());
        Ok(())
    })?;
    Ok(found)
}

fn message(database: &[u8]) -> String {
    lengths(database).unwrap_err().message
}

/// The database with other bytes in a page.
fn with(page: usize, at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut other = whole();
    other[page * PAGE_BYTES + at..][..bytes.len()].copy_from_slice(bytes);
    other
}

/// A database of one page with these items, in the byte order of another machine.
fn big_endian(items: &[&[u8]]) -> Vec<u8> {
    let mut file = vec![0; 2 * 512];
    for (at, number) in [(12, MAGIC), (20, 512), (32, 1)] {
        file[at..at + 4].copy_from_slice(&number.to_be_bytes());
    }
    let page = &mut file[512..];
    page[20..22].copy_from_slice(&(items.len() as u16).to_be_bytes());
    page[25] = HASH_UNSORTED;
    let mut end = 512;
    for (index, item) in items.iter().enumerate() {
        end -= item.len();
        page[end..end + item.len()].copy_from_slice(item);
        let place = HEADER_BYTES + 2 * index;
        page[place..place + 2].copy_from_slice(&(end as u16).to_be_bytes());
    }
    file
}

#[test]
fn the_values_of_all_packages_are_read() {
    // `SELECT length(blob) FROM Packages` of the database that the headers are from.
    let mut found = lengths(&whole()).unwrap();
    found.sort_unstable();
    assert_eq!(found, [1636, 11068]);
    let items: [&[u8]; 4] = [b"\x01\0\0\0\0", b"\x01\0\0\0\x02", b"\x01\0\0\0\x02", b"\x01header"];
    assert_eq!(lengths(&big_endian(&items)).unwrap(), [6]);
}

#[test]
fn what_leads_astray_is_an_error() {
    // Page 2 has a pair whose value is in page 6, or in pages 3 to 5.
    let page = &whole()[2 * PAGE_BYTES..3 * PAGE_BYTES];
    let order = Order { is_big: false };
    let item = order.u16(page, HEADER_BYTES + 2).unwrap();
    assert_eq!(page[item], LONG);
    for first in [0, 7, u32::MAX, 2] {
        assert!(lengths(&with(2, item + 4, &first.to_le_bytes())).is_err(), "{first}");
    }
    for length in [1, 1_000_000, u32::MAX] {
        assert!(lengths(&with(2, item + 8, &length.to_le_bytes())).is_err(), "{length}");
    }
    // A circle: a page of the chain of page 3 names the first one.
    assert!(message(&with(4, 16, &3_u32.to_le_bytes())).contains("does not end"));
    assert!(message(&with(5, 16, &1_u32.to_le_bytes())).contains("does not have its length"));
    assert!(message(&with(4, 22, &5000_u16.to_le_bytes())).contains("a part of a value"));
    assert!(lengths(&with(4, 25, &[HASH])).is_err());
    assert!(message(&with(2, 20, &3_u16.to_le_bytes())).contains("a key has no value"));
    for place in [0_u16, 4096, 5000] {
        assert!(lengths(&with(2, HEADER_BYTES + 2, &place.to_le_bytes())).is_err(), "{place}");
    }
    assert!(message(&with(2, item, &[4])).contains("of a kind that rpm does not use"));
}

#[test]
fn a_first_page_that_does_not_fit_is_an_error() {
    for (at, bytes, expected) in [
        (12, [0; 4], "is no hash database"),
        (20, 1000_u32.to_le_bytes(), "its pages have a bad size"),
        (20, 256_u32.to_le_bytes(), "its pages have a bad size"),
        (24, [1, 8, 0, 0], "is encrypted"),
        (32, 7_u32.to_le_bytes(), "fewer pages than its header says"),
        (32, [0xff; 4], "fewer pages than its header says"),
    ] {
        let found = message(&with(0, at, &bytes));
        assert!(found.contains(expected), "{at}: {found}");
    }
}

#[test]
fn items_of_a_page_have_no_more_bytes_than_it() {
    // The second key is placed at the page's end, so its value would extend over the first pair.
    let mut file = big_endian(&[b"\x01key1", b"\x01value", b"\x01key2", b"\x01value"]);
    let last = HEADER_BYTES + 6;
    file[512 + HEADER_BYTES + 4..512 + last].copy_from_slice(&512_u16.to_be_bytes());
    assert!(lengths(&file).is_err());
    for seed in 0..2000_u32 {
        let mut other = whole();
        for step in 0..4 {
            let random = (seed * 4 + step).wrapping_mul(2_654_435_761);
            let at = random as usize % other.len();
            other[at] ^= (random >> 24) as u8;
        }
        // It ends, in one way or the other.
        let _ = lengths(&other);
    }
}
