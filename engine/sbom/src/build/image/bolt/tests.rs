//! Databases made here, and the one that containerd made (see the tests of `containerd`).

use super::*;

const PAGE_BYTES: usize = 4096;

/// An item of a bucket that is made here.
pub(in super::super) enum Item<'i> {
    Bytes(&'i [u8], &'i [u8]),
    /// A bucket inside its value.
    Small(&'i [u8], Vec<Item<'i>>),
    /// A bucket at a page.
    At(&'i [u8], u64),
}

/// A leaf with these items.
pub(in super::super) fn leaf(number: u64, items: &[Item<'_>]) -> Vec<u8> {
    let values: Vec<(&[u8], u32, Vec<u8>)> = items
        .iter()
        .map(|item| match item {
            Item::Bytes(key, value) => (*key, 0, value.to_vec()),
            Item::Small(key, items) => {
                (*key, IS_BUCKET, [&[0; BUCKET_BYTES][..], &leaf(0, items)].concat())
            }
            Item::At(key, page) => (*key, IS_BUCKET, [page.to_le_bytes(), [0; 8]].concat()),
        })
        .collect();
    let mut page = header(number, LEAF, items.len());
    let mut data = Vec::new();
    for (index, (key, marks, value)) in values.iter().enumerate() {
        let distance = (values.len() - index) * ITEM_BYTES + data.len();
        let numbers = [*marks, distance as u32, key.len() as u32, value.len() as u32];
        page.extend(numbers.map(u32::to_le_bytes).concat());
        data.extend_from_slice(key);
        data.extend_from_slice(value);
    }
    page.extend(data);
    page
}

fn header(number: u64, kind: u16, count: usize) -> Vec<u8> {
    let mut page = number.to_le_bytes().to_vec();
    page.extend([kind, count as u16].map(u16::to_le_bytes).concat());
    page.extend([0; 4]);
    page
}

fn branch(number: u64, children: &[u64]) -> Vec<u8> {
    let mut page = header(number, BRANCH, children.len());
    for child in children {
        page.extend([0; 8]);
        page.extend(child.to_le_bytes());
    }
    page
}

/// A first page: of the root at a page, after a change with a number.
fn meta(number: u64, root: u64, change: u64) -> Vec<u8> {
    let mut page = header(number, 4, 0);
    let mut meta = [MAGIC, BOLT_VERSION, PAGE_BYTES as u32, 0].map(u32::to_le_bytes).concat();
    meta.extend([root, 0, 0, 0, change].map(u64::to_le_bytes).concat());
    assert_eq!(meta.len(), META_BYTES);
    meta.extend(checksum(&meta).to_le_bytes());
    page.extend(meta);
    page
}

/// A database whose root is at page 3.
pub(in super::super) fn database(pages: &[Vec<u8>]) -> Vec<u8> {
    let mut file = Vec::new();
    for page in [meta(0, 3, 6), meta(1, 9, 5), Vec::new()].iter().chain(pages) {
        let end = file.len() + PAGE_BYTES;
        file.extend(page);
        assert!(file.len() <= end);
        file.resize(end, 0);
    }
    file
}

/// The keys and values of all buckets.
fn all(bytes: &[u8]) -> Result<Vec<String>, SbomError> {
    let database = BoltDatabase::open(bytes)?;
    let mut lines = Vec::new();
    let mut waiting = vec![(String::new(), database.root())];
    while let Some((path, bucket)) = waiting.pop() {
        for (key, value) in database.items(bucket)? {
            let path = format!("{path}/{}", String::from_utf8_lossy(key));
            match value {
                BoltValue::Bytes(value) => {
                    lines.push(format!("{path}={}", String::from_utf8_lossy(value)));
                }
                BoltValue::Bucket(bucket) => waiting.push((path, bucket)),
            }
        }
    }
    lines.sort();
    Ok(lines)
}

fn example() -> Vec<Vec<u8>> {
    vec![
        branch(3, &[4, 5]),
        leaf(4, &[Item::Bytes(b"a", b"1"), Item::At(b"b", 6)]),
        leaf(5, &[Item::Small(b"c", vec![Item::Bytes(b"x", b""), Item::Small(b"y", Vec::new())])]),
        leaf(6, &[Item::Bytes(b"z", b"2")]),
    ]
}

#[test]
fn the_checksum_is_that_of_the_draft() {
    // draft-eastlake-fnv, appendix C.
    assert_eq!(checksum(b""), 0xcbf2_9ce4_8422_2325);
    assert_eq!(checksum(b"foobar"), 0x8594_4171_f739_67e8);
}

#[test]
fn all_buckets_are_read() {
    assert_eq!(all(&database(&example())).unwrap(), ["/a=1", "/b/z=2", "/c/x="]);
    // The second of the first pages is newer, or the only one that is whole.
    for (first, second) in [(4, 5), (6, 5)] {
        let mut file = database(&example());
        file[..PAGE_BYTES].fill(0);
        let page = if first < second { meta(0, 9, first) } else { vec![0; 80] };
        file[..page.len()].copy_from_slice(&page);
        let page = meta(1, 3, second);
        file[PAGE_BYTES..PAGE_BYTES + page.len()].copy_from_slice(&page);
        assert_eq!(all(&file).unwrap(), ["/a=1", "/b/z=2", "/c/x="], "{first} {second}");
    }
}

#[test]
fn what_leads_astray_is_an_error() {
    let message = |pages: &[Vec<u8>]| all(&database(pages)).unwrap_err().message;
    let with = |index: usize, page: Vec<u8>| {
        let mut pages = example();
        pages[index] = page;
        pages
    };
    assert!(message(&with(0, branch(3, &[4, 3]))).contains("two places name one page"));
    assert!(message(&with(0, branch(3, &[4, 4]))).contains("two places name one page"));
    assert!(message(&with(1, leaf(4, &[Item::At(b"b", 3)]))).contains("two places"));
    for page in [7, u64::MAX, u64::MAX / PAGE_BYTES as u64 + 1] {
        assert!(message(&with(1, leaf(4, &[Item::At(b"b", page)]))).contains("that it has not"));
    }
    assert!(message(&with(0, header(3, 16, 0))).contains("of no bucket"));
    assert!(message(&with(0, branch(3, &[9; 200]))).contains("more pages than it has"));
    let mut long = leaf(4, &[Item::Bytes(b"a", b"1")]);
    long[12..16].copy_from_slice(&100_u32.to_le_bytes());
    assert!(message(&with(1, long)).contains("that it has not"));
    for (field, number) in [(1, u32::MAX), (2, 5000), (3, u32::MAX)] {
        let mut bad = leaf(4, &[Item::Bytes(b"a", b"1")]);
        let at = PAGE_HEADER_BYTES + 4 * field;
        bad[at..at + 4].copy_from_slice(&u32::to_le_bytes(number));
        assert!(message(&with(1, bad)).contains("a leaf is cut"), "{field}");
    }
    let mut many = header(4, LEAF, 0);
    many[10..12].copy_from_slice(&u16::MAX.to_le_bytes());
    assert!(message(&with(1, many)).contains("a leaf is cut"));
}

/// A small file cannot make its reader hold the same bytes again and again.
#[test]
fn items_and_pages_that_overlap_are_an_error() {
    let mut page = leaf(4, &[Item::Bytes(b"a", b"1"), Item::Bytes(b"b", &[7; 3000])]);
    let first = PAGE_HEADER_BYTES;
    // The key of the first item is the value of the second one.
    page[first + 8..first + 12].copy_from_slice(&3000_u32.to_le_bytes());
    let mut pages = example();
    pages[1] = page;
    assert!(all(&database(&pages)).unwrap_err().message.contains("items overlap"));
    // A page continues in another one, which is named, too.
    let mut pages = example();
    pages[1][12..16].copy_from_slice(&1_u32.to_le_bytes());
    assert!(all(&database(&pages)).unwrap_err().message.contains("two places name one page"));
}

#[test]
fn first_pages_that_do_not_fit_are_an_error() {
    let good = database(&example());
    for at in [16, 20, 24, 32, 64, 72] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        // The second one has an older root.
        assert!(all(&bad).is_err(), "{at}");
    }
    assert!(all(&[]).is_err() && all(&good[..50]).is_err());
}

#[test]
fn every_change_ends_in_one_way_or_the_other() {
    let good = database(&example());
    for seed in 0..3000_u32 {
        let mut other = good.clone();
        for step in 0..3 {
            let random = (seed * 3 + step).wrapping_mul(2_654_435_761);
            // Behind the first pages, which have a checksum.
            let at = 3 * PAGE_BYTES + (random as usize >> 4) % (4 * PAGE_BYTES);
            let near = at - at % PAGE_BYTES + (at % 96);
            other[near] ^= (random >> 24) as u8;
        }
        if let Ok(lines) = all(&other) {
            assert!(lines.len() < 100_000);
        }
    }
}
