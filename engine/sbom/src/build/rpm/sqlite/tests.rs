//! Databases whose pages lead astray. What rpm itself wrote is read in the tests of `rpm`.

use std::io::Write as _;

use super::super::tests::{database, log};
use super::*;

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    file
}

fn rows(bytes: &[u8], log: &[u8], name: &str) -> Result<Vec<Vec<SqliteValue>>, SbomError> {
    let mut rows = Vec::new();
    let mut database = SqliteDatabase::open(file(bytes), Some(file(log)))?;
    database.rows(name, &mut |row| {
        rows.push(row);
        Ok(())
    })?;
    Ok(rows)
}

/// A database with pages of 512 bytes: the header, and the table `t` from page 2 on.
fn made(pages: &[&[u8]]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend([2, 0]);
    bytes.resize(HEADER_BYTES, 0);
    bytes.extend([LEAF, 0, 0, 0, 1, 0, 0, 0, 1, 0]);
    bytes.resize(256, 0);
    // Length, number of the row, and a record: a text, two texts, a number, no text.
    bytes.extend([6 + 5 + 1 + 1 + 1, 1, 6, 13 + 2 * 5, 15, 15, 1, 13]);
    bytes.extend(b"tablett\x02");
    for page in pages {
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes.extend(*page);
    }
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// An interior page with these children, the last one on the right.
fn interior(children: &[u32]) -> Vec<u8> {
    let (right, left) = children.split_last().unwrap();
    let mut page = vec![INTERIOR, 0, 0, 0, left.len() as u8, 0, 0, 0];
    page.extend(right.to_be_bytes());
    let mut cells = Vec::new();
    for child in left {
        page.extend((200 + cells.len() as u16).to_be_bytes());
        cells.extend(child.to_be_bytes());
        cells.push(1);
    }
    page.resize(200, 0);
    page.extend(cells);
    page
}

/// A leaf, all of whose cells are at its byte 100.
fn leaf(count: u8, cell: &[u8]) -> Vec<u8> {
    let mut page = vec![LEAF, 0, 0, 0, count, 0, 0, 0];
    for _ in 0..count {
        page.extend([0, 100]);
    }
    page.resize(100, 0);
    page.extend(cell);
    page
}

/// A row of one text.
const ROW: &[u8] = &[4, 1, 2, 17, b'h', b'i'];

fn message(pages: &[&[u8]]) -> String {
    rows(&made(pages), b"", "t").unwrap_err().message
}

#[test]
fn rows_come_in_order_from_every_page() {
    let expected = [SqliteValue::Bytes(b"hi".to_vec())].to_vec();
    let leaf = leaf(1, ROW);
    let found = rows(&made(&[&interior(&[3, 4]), &leaf, &leaf]), b"", "t").unwrap();
    assert_eq!(found, [expected.clone(), expected]);
    assert!(rows(&made(&[&leaf]), b"", "u").unwrap_err().message.contains("no table u"));
}

#[test]
fn pages_that_lead_astray_are_errors() {
    // In circles: a page below itself, a child twice, the root of all tables.
    for children in [&[2, 3][..], &[3, 3], &[3, 1]] {
        let found = message(&[&interior(children), &leaf(1, ROW)]);
        assert!(found.contains("two places name one page"), "{children:?}: {found}");
    }
    for children in [[3, 0], [3, 4], [3, u32::MAX]] {
        assert!(message(&[&interior(&children), &leaf(1, ROW)]).contains("it has not"));
    }
    assert!(message(&[b"\x0a"]).contains("of no table"));
    let mut page = leaf(1, ROW);
    page[9] = 255;
    page[8] = 255;
    assert!(message(&[&page]).contains("ends within a cell"));
}

#[test]
fn rows_that_claim_too_much_are_errors() {
    // A row of 2 GiB.
    assert!(message(&[&leaf(1, &[0x88, 0x80, 0x80, 0x80, 0, 1])]).contains("larger than"));
    // A row of 1 KiB with 39 bytes in its page. The next ones are in the same page, or in a circle.
    let cell = |next: u32| [&[0x88, 0, 1][..], &[0; 39], &next.to_be_bytes()].concat();
    for next in [2, 3] {
        let found = message(&[&leaf(1, &cell(next)), &3_u32.to_be_bytes()]);
        assert!(found.contains("two places name one page"), "{found}");
    }
    // Many cells of 400 bytes at one place, each a row without columns.
    let cell = [&[0x83, 0x10, 1, 1][..], &[0; 399]].concat();
    assert!(rows(&made(&[&leaf(1, &cell)]), b"", "t").is_ok());
    let found = message(&[&leaf(40, &cell)]);
    assert!(found.contains("larger than the database"), "{found}");
}

#[test]
fn any_cut_and_any_changed_byte_ends_in_time() {
    let (whole, log) = (database(), log());
    let expected = rows(&whole, &log, "Packages").unwrap();
    assert_eq!(expected.len(), 2);
    for length in (0..whole.len()).step_by(997) {
        let _ = rows(&whole[..length], &log, "Packages");
    }
    let mut state = 7_u32;
    for _ in 0..2000 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let mut changed = whole.clone();
        let length = changed.len();
        changed[state as usize % length] = (state >> 24) as u8;
        let _ = rows(&changed, b"", "Packages");
    }
}
