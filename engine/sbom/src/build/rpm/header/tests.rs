//! Headers made here; what rpm itself wrote is read in the tests of `rpm`.

use super::*;

/// A header of these entries: tag, type, count and data.
fn header(entries: &[(u32, u32, u32, &[u8])]) -> Vec<u8> {
    let data_bytes: usize = entries.iter().map(|(.., data)| data.len()).sum();
    let mut bytes = (entries.len() as u32).to_be_bytes().to_vec();
    bytes.extend((data_bytes as u32).to_be_bytes());
    let mut offset = 0;
    for (tag, kind, count, data) in entries {
        for number in [*tag, *kind, offset, *count] {
            bytes.extend(number.to_be_bytes());
        }
        offset += data.len() as u32;
    }
    bytes.extend(entries.iter().flat_map(|(.., data)| data.iter()));
    bytes
}

const MODES: &[u8] = &[0x81, 0xed, 0x81, 0xed, 0x41, 0xed, 0x81, 0xed];
const FLAGS: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

fn entries() -> Vec<(u32, u32, u32, &'static [u8])> {
    vec![
        (NAME, STRING, 1, b"app\0"),
        (FILE_DIGEST_ALGORITHM, INT32, 1, &[0, 0, 0, 8]),
        (BASE_NAMES, STRING_ARRAY, 4, b"a\0b\0c\0d\0"),
        (DIRECTORY_NAMES, STRING_ARRAY, 2, b"/usr/bin/\0/etc/\0"),
        (DIRECTORY_INDEXES, INT32, 4, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
        (FILE_DIGESTS, STRING_ARRAY, 4, b"01\x0002\x00\x0003\0"),
        (FILE_MODES, INT16, 4, MODES),
        (FILE_FLAGS, INT32, 4, FLAGS),
        (FILE_STATES, CHAR, 4, &[0, 4, 0, 0]),
    ]
}

#[test]
fn installed_regular_files_are_read() {
    let whole = header(&entries());
    let package = read(&whole, 100).unwrap();
    // `b` is of another architecture, `c` a folder, `d` a configuration.
    let files = [PackageFile { path: b"/usr/bin/a".to_vec(), digest: b"01" }];
    assert_eq!(package, Package { name: b"app", algorithm: 8, files: files.into() });
    // As before 1999: whole paths, MD5, no states.
    let old = header(&[
        (NAME, STRING, 1, b"app\0"),
        (OLD_FILE_NAMES, STRING_ARRAY, 1, b"/bin/a\0"),
        (FILE_DIGESTS, STRING_ARRAY, 1, b"01\0"),
        (FILE_MODES, INT16, 1, &MODES[..2]),
        (FILE_FLAGS, INT32, 1, &FLAGS[..4]),
    ]);
    let package = read(&old, 100).unwrap();
    assert_eq!((package.algorithm, &*package.files[0].path), (1, &b"/bin/a"[..]));
    let empty = header(&[(NAME, STRING, 1, b"gpg-pubkey\0")]);
    assert_eq!(read(&empty, 100).unwrap().files, []);
}

#[test]
fn what_the_installation_added_replaces_what_the_package_file_had() {
    let mut added = entries();
    // Other states, and other digests.
    added.push((FILE_STATES, CHAR, 4, &[0, 0, 0, 0]));
    added.push((FILE_DIGESTS, STRING_ARRAY, 4, b"11\x0012\x00\x0013\0"));
    let whole = header(&added);
    let package = read(&whole, 100).unwrap();
    let file = |path: &[u8], digest| PackageFile { path: path.to_vec(), digest };
    assert_eq!(package.files, [file(b"/usr/bin/a", b"11"), file(b"/usr/bin/b", b"12")]);
}

#[test]
fn all_names_of_a_file_have_the_digest_of_its_last_name() {
    let modes = &[0x81, 0xed, 0x81, 0xed, 0x81, 0xed, 0xa1, 0xff];
    let with = |devices: &'static [u8], inodes: &'static [u8]| {
        let mut entries = entries();
        entries[5].3 = b"\x00\x0003\0\0";
        entries[6].3 = modes;
        entries[7].3 = &[0; 16];
        entries[8].3 = &[0; 4];
        entries.push((FILE_DEVICES, INT32, devices.len() as u32 / 4, devices));
        entries.push((FILE_INODES, INT32, inodes.len() as u32 / 4, inodes));
        let whole = header(&entries);
        let package = read(&whole, 100).ok()?;
        let text = |file: &PackageFile<'_>| {
            let path = String::from_utf8(file.path.clone()).unwrap();
            format!("{path} {}", String::from_utf8_lossy(file.digest))
        };
        Some(package.files.iter().map(text).collect::<Vec<_>>())
    };
    let devices = &[0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1];
    // `a` and `c` are one file, and the link `d` has the same number by chance.
    let inodes = &[0, 0, 0, 7, 0, 0, 0, 8, 0, 0, 0, 7, 0, 0, 0, 7];
    let expected = ["/usr/bin/a 03", "/usr/bin/c 03"];
    assert_eq!(with(devices, inodes).unwrap(), expected);
    let others = &[0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1];
    assert_eq!(with(others, inodes).unwrap(), ["/usr/bin/c 03"]);
    // Numbers of another number of files are of no use.
    assert_eq!(with(&devices[..12], inodes).unwrap(), ["/usr/bin/c 03"]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let whole = header(&entries());
    for length in 0..whole.len() {
        assert!(read(&whole[..length], 100).is_err(), "{length}");
    }
    // All paths together have 3 × 10 + 6 bytes.
    assert!(read(&whole, 36).is_ok());
    let message = read(&whole, 35).unwrap_err().message;
    assert!(message.starts_with("holds more than 35 bytes of paths, at /"), "{message}");
    for index in 0..entries().len() {
        let mut other = entries();
        // A wrong type, and counts beyond the data.
        other[index].1 = 9;
        assert!(read(&header(&other), 100).is_err(), "{index}");
        for count in [u32::MAX, 1 << 30] {
            let mut other = entries();
            other[index].2 = count;
            let is_one = matches!(other[index].0, FILE_DIGEST_ALGORITHM | NAME);
            assert!(read(&header(&other), 100).is_err() || is_one, "{index}");
        }
    }
    let mut other = entries();
    other[4].3 = &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
    assert!(read(&header(&other), 100).is_err(), "a folder that it has not");
}

/// A string takes one byte in the header, and many more when it is read.
#[test]
fn more_than_headers_have_is_an_error_that_names_it() {
    const MANY: &[u8] = &[0; ITEMS_MAX + 1];
    for tag in [BASE_NAMES, DIRECTORY_NAMES, FILE_DIGESTS] {
        let mut other = entries();
        other.retain(|entry| entry.0 != tag);
        other.push((tag, STRING_ARRAY, MANY.len() as u32, MANY));
        let message = read(&header(&other), 1 << 30).unwrap_err().message;
        let expected = "has 1048577 files or folders of the package app, more than 1048576";
        assert_eq!(message, expected, "{tag}");
    }
    let count = 0x1_0000_u32;
    let mut bytes = [count.to_be_bytes(), [0; 4]].concat();
    bytes.resize(8 + 16 * count as usize, 0);
    let message = read(&bytes, 100).unwrap_err().message;
    assert_eq!(message, "has a header of a package with 65536 entries, more than 65535");
}
