//! Databases made here: no distribution's rpm that tests run with writes them.

use std::io::Write as _;

use super::*;

/// A database of these blobs, whose numbers and places are those of a database in use: a slot that
/// is free, a blob that moved behind a gap, and slots in two pages.
pub(in super::super) fn database(blobs: &[&[u8]]) -> Vec<u8> {
    const PAGES: usize = 2;
    let mut slots =
        vec![[0; 3]; PAGES * NDB_PAGE_BYTES / SLOT_BYTES - NDB_HEADER_BYTES / SLOT_BYTES];
    let mut data = Vec::new();
    for (index, blob) in blobs.iter().enumerate() {
        data.resize(data.len() + 3 * BLOCK_BYTES as usize, 0);
        let place = (PAGES * NDB_PAGE_BYTES + data.len()) as u64 / BLOCK_BYTES;
        let number = 10 + index as u32;
        let mut bytes = BLOB_MAGIC.to_vec();
        bytes.extend([number, 0x6500_0000, blob.len() as u32].map(u32::to_le_bytes).concat());
        bytes.extend(*blob);
        let size = (bytes.len() + BLOB_END_BYTES).next_multiple_of(BLOCK_BYTES as usize);
        bytes.resize(size - BLOB_END_BYTES, 0);
        bytes.extend(adler32_slice(&bytes).to_le_bytes());
        bytes.extend((blob.len() as u32).to_le_bytes());
        bytes.extend(END_MAGIC);
        slots[1 + 253 * index] = [number, place as u32, (size as u64 / BLOCK_BYTES) as u32];
        data.extend(bytes);
    }
    let mut file = MAGIC.to_vec();
    file.extend(
        [VERSION, 7, PAGES as u32, 10 + blobs.len() as u32, 0, 0, 0].map(u32::to_le_bytes).concat(),
    );
    for slot in slots {
        file.extend(SLOT_MAGIC);
        file.extend(slot.map(u32::to_le_bytes).concat());
    }
    assert_eq!(file.len(), PAGES * NDB_PAGE_BYTES);
    file.extend(data);
    file
}

/// The blobs of a database.
fn read(database: &[u8]) -> Result<Vec<Vec<u8>>, SbomError> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(database).unwrap();
    let mut found = Vec::new();
    blobs(&file, &mut |blob| {
        found.push(blob.to_vec());
        Ok(())
    })?;
    Ok(found)
}

#[test]
fn every_blob_is_read() {
    // The example of RFC 1950's text, as zlib's documentation has it.
    assert_eq!(adler32_slice(b"Wikipedia"), 0x11e6_0398);
    let long = vec![0xff; 20_000];
    let all: [&[u8]; 3] = [b"one", &long, b""];
    assert_eq!(read(&database(&all)).unwrap(), all);
    assert_eq!(read(&database(&[])).unwrap(), [[0_u8; 0]; 0]);
}

#[test]
fn what_is_cut_is_an_error() {
    let whole = database(&[b"one", &[1; 300]]);
    for length in (0..whole.len()).step_by(7) {
        assert!(read(&whole[..length]).is_err(), "{length}");
    }
}

#[test]
fn every_flipped_bit_of_a_blob_is_noticed() {
    let whole = database(&[b"one"]);
    let begin = whole.windows(4).position(|window| window == BLOB_MAGIC).unwrap();
    for at in begin..whole.len() {
        let mut other = whole.clone();
        other[at] ^= 0x10;
        assert!(read(&other).is_err(), "{at}");
    }
}

/// Replaces a number of the slot with an index.
fn with_slot(database: &[u8], slot: usize, index: usize, number: u32) -> Vec<u8> {
    let at = NDB_HEADER_BYTES + slot * SLOT_BYTES + index * 4;
    let mut other = database.to_vec();
    other[at..at + 4].copy_from_slice(&number.to_le_bytes());
    other
}

#[test]
fn slots_that_lead_astray_are_errors() {
    let whole = database(&[b"one", b"two"]);
    let message = |database: &[u8]| read(database).unwrap_err().message;
    // Among the slots, behind the end, far behind it, and into a block that is no blob.
    for first in [1, whole.len() as u32 / 16, u32::MAX, 2 * 256] {
        assert!(read(&with_slot(&whole, 1, 2, first)).is_err(), "{first}");
    }
    for blocks in [0, 1, 3, u32::MAX] {
        assert!(read(&with_slot(&whole, 1, 3, blocks)).is_err(), "{blocks}");
    }
    assert!(message(&with_slot(&whole, 1, 1, 0)).contains("blocks outside the file"));
    assert!(message(&with_slot(&whole, 1, 1, 99)).contains("not that of its slot"));
    assert!(message(&with_slot(&whole, 1, 1, 11)).contains("not that of its slot"));
    // The same blob twice, and one number twice.
    let first = |index| number(&whole[NDB_HEADER_BYTES + SLOT_BYTES..], index);
    let mut twice = with_slot(&whole, 2, 1, 10);
    twice = with_slot(&twice, 2, 2, first(2));
    twice = with_slot(&twice, 2, 3, first(3));
    assert!(message(&twice).contains("two slots have one number"));
    assert!(message(&with_slot(&whole, 0, 0, 0)).contains("a slot has another magic"));
    for (at, number) in [(4, 1), (12, 0), (12, 3), (12, u32::MAX)] {
        let mut other = whole.clone();
        other[at..at + 4].copy_from_slice(&u32::to_le_bytes(number));
        assert!(read(&other).is_err(), "{at} {number}");
    }
}

#[test]
fn no_blob_is_larger_than_any_of_rpms() {
    let mut file = tempfile::tempfile().unwrap();
    let blocks = (BLOB_BYTES_MAX / BLOCK_BYTES) as u32 + 1;
    file.write_all(&with_slot(&database(&[b"one"]), 1, 3, blocks)).unwrap();
    // A file of zeros takes no room.
    file.set_len(2 * BLOB_BYTES_MAX).unwrap();
    let error = blobs(&file, &mut |_| Ok(())).unwrap_err();
    assert!(error.message.contains("larger than any of rpm's"), "{error}");
}
