//! Initramfs images of every kind, made here and packed by real programs.

use std::io::Write as _;

use super::*;

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

fn built(bytes: &[u8]) -> Result<Built, Error> {
    build(bytes, &Options::default(), &())
}

fn paths(built: &Built) -> Vec<String> {
    let path = |file: &crate::model::File| shown(file.path.as_deref().unwrap_or_default());
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
const PACKERS: [&str; 4] =
    ["zstd -q -9 -T0 -c", "zstd -q -19 -c", "xz --check=crc32 -c", "xz --check=crc32 -T2 -c"];

#[test]
fn what_real_programs_pack_is_the_same_as_unpacked() {
    if !["zstd", "xz"].into_iter().all(panoptes_needs::skip::has) {
        return;
    }
    let plain = large();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("initrd.img");
    let build_file = |content: &[u8]| {
        std::fs::write(&file, content).unwrap();
        super::super::build(&file, &Options::default(), &())
    };
    let expected = build_file(&plain).unwrap().sbom;
    assert_eq!(expected.files.len(), 3);
    for line in PACKERS {
        let packed = packed_by(line, &plain);
        assert!(packed.len() > 300 << 10, "{line}: its first block is large");
        assert_eq!(build_file(&packed).map(|built| built.sbom), Ok(expected.clone()), "{line}");
        let error = build_file(&packed[..packed.len() - 100]).unwrap_err();
        assert_eq!(error.kind, crate::Kind::Content, "{line}: {error}");
        let other = packed_by(line, b"no archive");
        let error = build_file(&other).unwrap_err();
        assert!(error.message.contains("unpack it first"), "{line}: {error}");
    }
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
