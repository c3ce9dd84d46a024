//! What encoders here and real programs make, alone and one after the other.

use std::io::Write as _;

use super::*;

fn all_of(packed: &[u8]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    all(packed)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The first stream, and what follows it.
fn first_of(packed: &[u8]) -> io::Result<(Vec<u8>, &[u8])> {
    let (mut bytes, mut rest) = (Vec::new(), packed);
    let way = Compression::of(packed).expect("it is recognised");
    let mut reader = way.reader(&mut rest)?;
    reader.read_to_end(&mut bytes)?;
    assert_eq!(reader.read(&mut [0])?, 0, "the end stays the end");
    drop(reader);
    Ok((bytes, rest))
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(text).unwrap();
    out.finish().unwrap()
}

fn zstd(text: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(text, ruzstd::encoding::CompressionLevel::Fastest)
}

/// As `lz4 -l` writes it.
fn lz4(text: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x02, 0x21, 0x4c, 0x18];
    for block in text.chunks(8 << 20).map(lz4_flex::block::compress) {
        bytes.extend((block.len() as u32).to_le_bytes());
        bytes.extend(block);
    }
    bytes
}

/// Data that becomes neither much smaller nor has blocks that are stored.
fn text() -> Vec<u8> {
    let number = |index: u32| index.wrapping_mul(2_654_435_761) >> (index % 7 + 20);
    (0..300_000).map(|index| number(index) as u8).collect()
}

/// What a program that packs its file makes of `plain`.
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

#[test]
fn every_member_and_frame_is_read() {
    let text = text();
    assert_eq!(all_of(&text).unwrap(), text);
    let (one, two) = text.split_at(100_000);
    assert_eq!(all_of(&[gzip(one), gzip(two)].concat()).unwrap(), text);
    // A skippable frame, in which zstd:chunked writes its table of contents.
    let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"toc"].concat();
    let frames = [zstd(one), skipped.clone(), zstd(b""), zstd(two), skipped].concat();
    assert_eq!(all_of(&frames).unwrap(), text);
    assert_eq!(all_of(b"").unwrap(), b"");
    // A tar archive of a file named `]` is not packed.
    let archive = [&b"]\0\0\0"[..], &[0; 508]].concat();
    assert_eq!(all_of(&archive).unwrap(), archive);
}

#[test]
fn a_stream_ends_where_the_next_part_begins() {
    let text = text();
    for packed in [gzip(&text), zstd(&text)] {
        let (bytes, rest) = (text.clone(), &b"07070"[..]);
        assert_eq!(first_of(&[&packed, rest].concat()).unwrap(), (bytes, rest));
        let twice = packed.repeat(2);
        assert_eq!(first_of(&twice).unwrap(), (text.clone(), &packed[..]));
    }
    // The number after the last block is read, whether it is zero or a size.
    for number in [[0; 4], (text.len() as u32).to_le_bytes()] {
        let packed = [&lz4(&text)[..], &number].concat();
        assert_eq!(first_of(&packed).unwrap(), (text.clone(), &b""[..]));
    }
    let twice = [lz4(&text), lz4(b"end")].concat();
    assert_eq!(first_of(&twice).unwrap().0, [&text[..], b"end"].concat());
}

#[test]
fn streams_of_real_programs_end_there_too() {
    if !["zstd", "xz"].into_iter().all(panoptes_needs::skip::has) {
        return;
    }
    let text = text().repeat(10);
    for (line, way) in [
        ("zstd -q -3 -c", Compression::Zstd),
        ("zstd -q -19 --no-check -c", Compression::Zstd),
        ("xz --check=crc32 -0 -c", Compression::Xz),
        ("xz --check=sha256 --block-size=100000 -0 -c", Compression::Xz),
        ("xz --check=none --x86 --lzma2=preset=0 -c", Compression::Xz),
        ("xz --format=lzma -0 -c", Compression::Lzma),
        ("xz --format=lzma -6 -c", Compression::Lzma),
        ("xz --format=lzma -9 -c", Compression::Lzma),
    ] {
        for text in [&text[..], b"", b"x"] {
            let packed = packed_by(line, text);
            assert_eq!(Compression::of(&packed), Some(way), "{line}");
            for rest in [&b""[..], b"\0\0\0\0", b"070701"] {
                let whole = [&packed, rest].concat();
                let (bytes, found) = first_of(&whole).unwrap();
                assert!(bytes == text, "{line}: {} bytes", bytes.len());
                assert_eq!(found, rest, "{line}");
            }
        }
    }
}

#[test]
fn what_is_cut_short_is_an_error() {
    for packed in [gzip(&[7; 5000]), zstd(&[7; 5000]), lz4(&[7; 5000])] {
        for length in 4..packed.len() - 8 {
            for cut in [all_of(&packed[..length]), first_of(&packed[..length]).map(|(cut, _)| cut)]
            {
                assert!(cut.is_err() || cut.is_ok_and(|bytes| bytes.len() <= 5000));
            }
        }
        assert!(first_of(&packed[..packed.len() / 2]).is_err());
    }
}

#[test]
fn what_is_not_unpacked_has_its_name() {
    assert_eq!(unsupported(b"BZh91AY"), Some("bzip2"));
    assert_eq!(unsupported(b"\x89LZO\0\r\n\x1a\n"), Some("lzo"));
    assert_eq!(unsupported(b"\x04\x22\x4d\x18\x64"), Some("lz4 in its new form"));
    assert_eq!(unsupported(&gzip(b"")), None);
}
