//! Initramfs images of every kind, made here and packed by real programs.

use std::io::Write as _;

use super::*;

const S_IFREG: u32 = FileType::RegularFile.as_raw_mode();
const S_IFDIR: u32 = FileType::Directory.as_raw_mode();
const S_IFLNK: u32 = FileType::Symlink.as_raw_mode();

/// An archive: path, mode, inode, number of names and content of each entry.
fn archive(entries: &[(&str, u32, u32, u32, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let last = ("TRAILER!!!", 0, 0, 1, &b""[..]);
    for (path, mode, inode, names, content) in entries.iter().chain([&last]) {
        let size = content.len() as u32;
        let length = path.len() as u32 + 1;
        let fields = [*inode, *mode, 0, 0, *names, 0, size, 0, 0, 0, 0, length, 0];
        bytes.extend(b"070701");
        for field in fields {
            bytes.extend(format!("{field:08x}").bytes());
        }
        bytes.extend(path.bytes());
        bytes.push(0);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend(*content);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn main() -> Vec<u8> {
    archive(&[
        (".", S_IFDIR | 0o755, 1, 2, b""),
        ("bin", S_IFDIR | 0o755, 2, 2, b""),
        ("bin/ash", S_IFREG | 0o755, 3, 2, b""),
        ("bin/busybox", S_IFREG | 0o755, 3, 2, b"program"),
        ("init", S_IFREG | 0o755, 4, 1, b"#!/bin/ash\n"),
        ("lib", S_IFLNK | 0o777, 5, 1, b"usr/lib"),
        ("usr/lib", S_IFDIR | 0o755, 6, 2, b""),
        ("dev/console", 0o020_600, 7, 1, b""),
        ("etc/empty", S_IFREG | 0o644, 8, 2, b""),
    ])
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn built(bytes: &[u8]) -> Result<BuildResult, SbomError> {
    build(bytes, &BuildOptions::default(), &())
}

fn paths(built: &BuildResult) -> Vec<String> {
    let path = |file: &crate::model::SbomFile| shown(file.path.as_deref().unwrap_or_default());
    built.sbom.files.iter().map(path).collect()
}

#[test]
fn the_files_of_all_archives_are_read() {
    let microcode = archive(&[("kernel/x86.bin", S_IFREG | 0o644, 1, 1, b"microcode")]);
    for main in [main(), gzip(&main())] {
        let built = built(&[microcode.clone(), main].concat()).unwrap();
        let expected = ["/bin/ash", "/bin/busybox", "/etc/empty", "/init", "/kernel/x86.bin"];
        assert_eq!(paths(&built), expected);
        assert_eq!((built.special, built.source), (1, "an initramfs"));
        let [ash, busybox, ..] = &built.sbom.files[..] else { panic!() };
        assert_eq!((ash.size, ash.mode), (Some(7), Some(0o755)), "a name of the same file");
        assert_eq!(ash.sha256, busybox.sha256);
    }
}

/// The sizes of the files by their paths.
fn sizes(image: &[u8]) -> Vec<(String, u64)> {
    let built = built(image).unwrap();
    let files = built.sbom.files.iter();
    paths(&built).into_iter().zip(files.map(|file| file.size.unwrap())).collect()
}

#[test]
fn the_data_of_a_file_with_several_names_may_be_at_any_of_them() {
    const X: u32 = S_IFREG | 0o755;
    for data_at in 0..3 {
        let entries: Vec<_> = (0..3)
            .map(|at| {
                (["a", "b", "c"][at], X, 5, 3, if at == data_at { &b"data"[..] } else { b"" })
            })
            .collect();
        let expected = ["/a", "/b", "/c"].map(|path| (path.to_owned(), 4));
        assert_eq!(sizes(&archive(&entries)), expected, "at {data_at}");
    }
}

#[test]
fn names_belong_together_within_one_archive() {
    const X: u32 = S_IFREG | 0o755;
    // The next archive has another file with the same inode number.
    let image = [
        archive(&[("a", X, 5, 2, b""), ("b", X, 5, 2, b"one")]),
        archive(&[("c", X, 5, 2, b""), ("d", X, 5, 2, b"three")]),
    ];
    let expected = [("/a", 3), ("/b", 3), ("/c", 5), ("/d", 5)];
    assert_eq!(sizes(&image.concat()), expected.map(|(path, size)| (path.to_owned(), size)));
    let image = [archive(&[("a", X, 5, 2, b"")]), archive(&[("b", X, 5, 2, b"three")])];
    assert_eq!(sizes(&image.concat()), [("/a".to_owned(), 0), ("/b".to_owned(), 5)]);
}

#[test]
fn a_later_archive_writes_over_the_file_under_all_its_names() {
    const X: u32 = S_IFREG | 0o755;
    let first = archive(&[("ash", X, 5, 2, b""), ("busybox", X, 5, 2, b"old")]);
    let image = [&first[..], &archive(&[("busybox", X, 1, 1, b"newer")])].concat();
    let expected = [("/ash", 5), ("/busybox", 5)];
    assert_eq!(sizes(&image), expected.map(|(path, size)| (path.to_owned(), size)));
    // A link in its place is another file.
    let link = archive(&[("busybox", S_IFLNK | 0o777, 1, 1, b"ash")]);
    assert_eq!(sizes(&[first, link].concat()), [("/ash".to_owned(), 3)]);
}

#[test]
fn more_pages_than_are_hashed_are_an_error_and_not_left_out() {
    const X: u32 = S_IFREG | 0o755;
    // A thousand names of a file with a thousand and fifty pages, the last of all entries.
    let data = vec![7; 1050 << 12];
    let mut names: Vec<String> = (0..1000).map(|at| format!("bin/{at}")).collect();
    names.push("bin/last".to_owned());
    let entries: Vec<_> = names
        .iter()
        .map(|name| (&**name, X, 5, 1001, if name == "bin/last" { &data[..] } else { b"" }))
        .collect();
    let image = archive(&entries);
    let error = built(&image).unwrap_err();
    assert_eq!(error.kind, crate::SbomErrorKind::Request);
    assert!(error.message.contains("more than 1048576 pages"), "{error}");
    assert!(error.message.contains("with all names of each, at /bin/"), "{error}");
    assert!(error.message.contains("--page-hashes none"), "{error}");
    let options =
        BuildOptions { page_hashes: crate::digest::PageHashes::None, ..BuildOptions::default() };
    let built = build(&image[..], &options, &()).unwrap();
    assert_eq!(built.sbom.files.len(), 1001);
    assert!(built.sbom.files.iter().all(|file| file.size == Some(1050 << 12)));
}

#[test]
fn it_is_detected_packed_or_not() {
    for (file, expected) in [
        (main(), true),
        (gzip(&main()), true),
        (gzip(b"something else"), false),
        (b"0707".to_vec(), false),
    ] {
        assert_eq!(is_one(&*file), Ok(expected));
    }
    assert!(is_one(&gzip(&main())[..20]).is_err());
}

/// An archive whose first entries hardly become smaller: a packer's first block is a whole one.
fn large() -> Vec<u8> {
    let mut state = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    })
    .take(300 << 10)
    .collect();
    let text = b"text ".repeat(100_000);
    archive(&[
        ("a.bin", S_IFREG | 0o755, 1, 1, &noise),
        ("b.txt", S_IFREG | 0o644, 2, 1, &text),
        ("init", S_IFREG | 0o755, 3, 1, b"#!/bin/ash\n"),
    ])
}

/// The output of a program that packs the file at the end of its line.
fn packed_by(line: &str, plain: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plain");
    std::fs::write(&file, plain).unwrap();
    let mut words = line.split(' ');
    let mut command = std::process::Command::new(words.next().unwrap());
    command.args(words).arg(&file);
    let output = panoptes_bounded::output_within(&mut command, panoptes_bounded::LONG).unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// As `mkinitramfs` of Debian 12 and `dracut` call them.
const PACKERS: [&str; 6] = [
    "zstd -q -9 -T0 -c",
    "zstd -q -19 -c",
    "xz --check=crc32 -c",
    "xz --check=crc32 -T2 -c",
    "xz --format=lzma -9 -c",
    "xz --format=lzma -1 -c",
];

fn has_packers() -> bool {
    ["zstd", "xz"].into_iter().all(panoptes_needs::skip::has)
}

/// As `lz4 -l` writes it.
fn lz4(plain: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x02, 0x21, 0x4c, 0x18];
    for block in plain.chunks(8 << 20).map(lz4_flex::block::compress) {
        bytes.extend((block.len() as u32).to_le_bytes());
        bytes.extend(block);
    }
    bytes
}

/// As `lzop` writes it, without checksums.
fn lzo(plain: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x89LZO\0\r\n\x1a\n\x10\x40\x20\xa0\x09\x40\x01\x05".to_vec();
    bytes.extend([0; 16]);
    bytes.extend([0; 5]);
    for block in plain.chunks(256 << 10) {
        // Stored.
        bytes.extend((block.len() as u32).to_be_bytes().repeat(2));
        bytes.extend(block);
    }
    bytes.extend([0; 4]);
    bytes
}

/// Builds from a file with this content.
fn built_from_file(content: &[u8]) -> Result<crate::model::Sbom, SbomError> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("initrd.img");
    std::fs::write(&file, content).unwrap();
    super::super::build(&file, &BuildOptions::default(), &()).map(|built| built.sbom)
}

#[test]
fn what_real_programs_pack_is_the_same_as_unpacked() {
    if !has_packers() {
        return;
    }
    let plain = large();
    let expected = built_from_file(&plain).unwrap();
    assert_eq!(expected.files.len(), 3);
    for line in PACKERS {
        let packed = packed_by(line, &plain);
        assert!(packed.len() > 300 << 10, "{line}: its first block is large");
        assert_eq!(built_from_file(&packed), Ok(expected.clone()), "{line}");
        let error = built_from_file(&packed[..packed.len() - 100]).unwrap_err();
        assert_eq!(error.kind, crate::SbomErrorKind::Content, "{line}: {error}");
        let error = built_from_file(&packed_by(line, b"no archive")).unwrap_err();
        assert!(error.message.contains("unpack it first"), "{line}: {error}");
    }
    assert_eq!(built_from_file(&lz4(&plain)), Ok(expected.clone()));
    assert_eq!(built_from_file(&lzo(&plain)), Ok(expected));
}

#[test]
fn parts_of_every_kind_follow_each_other() {
    if !has_packers() {
        return;
    }
    let part = |name: &str| archive(&[(name, S_IFREG | 0o755, 1, 1, name.as_bytes())]);
    let early = archive(&[("kernel/x86.bin", S_IFREG | 0o644, 1, 1, b"microcode")]);
    let mut image = early;
    let mut expected = vec!["/kernel/x86.bin".to_owned()];
    // A stream ends anywhere, so what follows it begins anywhere.
    for round in 0..20_usize {
        let mut add = |image: &mut Vec<u8>, name: &str, packed: Vec<u8>| {
            image.extend(packed);
            image.resize(image.len() + round % 5, 0);
            expected.push(format!("/{name}"));
        };
        for (index, line) in PACKERS.iter().enumerate() {
            let name = format!("{round}-{index}");
            add(&mut image, &name, packed_by(line, &part(&name)));
        }
        let name = format!("{round}-gzip");
        add(&mut image, &name, gzip(&[part(&name), vec![0; round]].concat()));
        let name = format!("{round}-plain");
        add(&mut image, &name, part(&name));
        let name = format!("{round}-lzo");
        add(&mut image, &name, lzo(&part(&name)));
        let name = format!("{round}-lz4");
        add(&mut image, &name, lz4(&part(&name)));
        // The kernel ends lz4 at four zeros.
        image.resize(image.len() + 4, 0);
    }
    expected.sort();
    assert_eq!(paths(&built(&image).unwrap()), expected);
}

#[test]
fn a_part_that_no_kernel_unpacks_is_an_error() {
    let error = |bytes: &[u8]| built(bytes).unwrap_err().message;
    let twice = gzip(&gzip(&main()));
    assert!(error(&twice).contains("packed with gzip"), "{}", error(&twice));
    let new_lz4 = b"\x04\x22\x4d\x18\x64\x40\xa7\0";
    for (magic, name) in [(&b"BZh91AY&SY"[..], "bzip2"), (new_lz4, "lz4 in its new form")] {
        let message = error(&[&main(), magic].concat());
        assert!(message.contains(&format!("packed with {name}")), "{message}");
        let message = built_from_file(magic).unwrap_err().message;
        assert!(message.contains(&format!("is packed with {name}; unpack it first")), "{message}");
    }
    assert!(error(&[main(), b"junk".to_vec()].concat()).contains("no cpio archive"));
    assert!(error(&gzip(&[main(), b"junk".to_vec()].concat())).contains("something else"));
}

#[test]
fn all_packed_parts_have_one_bound() {
    let options = BuildOptions::default();
    let left = |bytes_left: u64, image: &[u8]| {
        let (entries, links) = (Vec::new(), HashMap::new());
        let (names_left, pages_left) = (NAMES_BYTES_MAX, PAGES_MAX);
        let options = &options;
        let mut reader =
            Archives { options, entries, links, count: 0, names_left, pages_left, bytes_left };
        reader.read(image).map(|()| reader.bytes_left)
    };
    let zeros = 1_u64 << 20;
    let bomb = gzip(&vec![0; zeros as usize]);
    assert_eq!(left(zeros + 1, &bomb), Ok(1));
    for (bytes_left, image) in [(zeros, bomb.clone()), (2 * zeros - 1, bomb.repeat(2))] {
        let error = left(bytes_left, &image).unwrap_err();
        assert!(error.message.contains("more than 68719476736 unpacked bytes, at"), "{error}");
    }
}

/// Names that are alike pack to a thousandth.
#[test]
fn more_bytes_of_names_than_any_has_are_an_error() {
    let name = |at: u32| format!("{at:08}{}", "x".repeat(4000));
    let few = [(&*name(1), S_IFREG | 0o755, 1, 1, &b""[..])];
    assert!(built(&gzip(&archive(&few))).is_ok());
    let names: Vec<String> = (0..17_000).map(name).collect();
    let target = name(0);
    let to = target.as_bytes();
    let with = |mode: u32, links: u32, content| {
        let (names, short) = (names.iter(), |at: usize| at.is_multiple_of(2));
        let one = |(at, name): (usize, &String)| {
            (name[..8 + 4000 * usize::from(short(at))].to_owned(), content)
        };
        let entries: Vec<(String, &[u8])> = names.enumerate().map(one).collect();
        let entries: Vec<_> =
            entries.iter().map(|(name, content)| (&**name, mode, 7, links, *content)).collect();
        gzip(&archive(&entries))
    };
    // Links to long names, and names of one file whose first one is long.
    for image in [with(S_IFLNK | 0o777, 1, to), with(S_IFREG | 0o755, 2, b"")] {
        assert!(image.len() < 2 << 20, "{}", image.len());
        let message = built(&image).unwrap_err().message;
        assert!(message.contains("holds more than 67108864 bytes of names, at 000"), "{message}");
    }
}

#[test]
fn more_entries_than_any_has_are_an_error_that_names_the_place() {
    let options = &BuildOptions::default();
    let (entries, links, count) = (Vec::new(), HashMap::new(), ENTRIES_MAX - 1);
    let (names_left, pages_left, bytes_left) = (100, 100, 100);
    let mut reader =
        Archives { options, entries, links, count, names_left, pages_left, bytes_left };
    let message = reader.read(&*main()).unwrap_err().message;
    assert_eq!(message, "holds more than 1048576 entries, at bin");
}

#[test]
fn cut_short_it_is_an_error() {
    let whole = main();
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap();
    for length in 0..end {
        assert!(built(&whole[..length]).is_err(), "{length}");
    }
    assert!(built(b"").is_err());
    assert!(built(&gzip(b"no archive")).is_err());
}
