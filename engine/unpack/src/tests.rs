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

/// As lzop writes it, with these flags.
fn lzo(text: &[u8], flags: u32) -> Vec<u8> {
    let mut bytes = b"\x89LZO\0\r\n\x1a\n\x10\x40\x20\xa0\x09\x40\x01\x05".to_vec();
    bytes.extend(flags.to_be_bytes());
    bytes.extend([0; 12]);
    bytes.extend(b"\x04name\0\0\0\0");
    for plain in text.chunks(256 << 10) {
        let packed = lzokay::compress::compress(plain).unwrap();
        let data = if packed.len() < plain.len() { &packed } else { plain };
        bytes.extend((plain.len() as u32).to_be_bytes());
        bytes.extend((data.len() as u32).to_be_bytes());
        let sums = if data.len() < plain.len() { 0x303 } else { 0x101 };
        bytes.resize(bytes.len() + 4 * (flags & sums).count_ones() as usize, 0);
        bytes.extend(data);
    }
    bytes.extend([0; 4]);
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
    // One and two checksums, of blocks that are packed and stored.
    let noise: Vec<u8> =
        (0..1000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for (text, flags) in [(&text[..], 0x0300_0009), (&text, 3), (&text, 0), (&noise, 3), (b"", 1)] {
        let packed = [&lzo(text, flags)[..], b"070701"].concat();
        assert_eq!(first_of(&packed).unwrap(), (text.to_vec(), &b"070701"[..]), "{flags:x}");
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
    for packed in [gzip(&[7; 5000]), zstd(&[7; 5000]), lz4(&[7; 5000]), lzo(&[7; 5000], 1)] {
        for length in 8..packed.len() - 8 {
            for cut in [all_of(&packed[..length]), first_of(&packed[..length]).map(|(cut, _)| cut)]
            {
                assert!(cut.is_err() || cut.is_ok_and(|bytes| bytes.len() <= 5000));
            }
        }
        assert!(first_of(&packed[..packed.len() / 2]).is_err());
    }
}

#[test]
fn what_lzop_writes_is_unpacked() {
    // `printf 'hello %.0s' 1 2 3 4 5 6 | lzop`, and with `--crc32 -9`: version 1.04 of Debian 12.
    for hex in [
        "894c5a4f000d0a1a0a104020a0094001050300000d000000006b0c3b73000000000027ce0295000000240000\
         0020f88e0d390368656c6c6f202a14000f68656c6c6f2068656c6c6f2068656c6c6f2011000000000000",
        "894c5a4f000d0a1a0a104020a0100103090300110c000000006b0c3b7300000000000df8b1d1000000240000\
         000d1ce669251768656c6c6f203c140011000000000000",
    ] {
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        let packed: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
        assert_eq!(first_of(&packed).unwrap(), (b"hello ".repeat(6), &b""[..]));
    }
}

#[test]
fn a_block_of_lzo_that_lies_is_an_error() {
    let good = lzo(&[7; 5000], 0);
    let sizes = good.len() - 4 - lzokay::compress::compress(&[7; 5000]).unwrap().len() - 8;
    for (at, bytes) in [(0, [0, 4, 0, 1]), (0, [0, 0, 0x13, 0x87]), (4, [0; 4]), (4, [0, 1, 0, 0])]
    {
        let mut bad = good.clone();
        bad[sizes + at..sizes + at + 4].copy_from_slice(&bytes);
        assert!(first_of(&bad).is_err(), "{at} {bytes:?}");
    }
    assert!(first_of(&lzo(b"text", 0x800)).is_err(), "a filter");
    // The first block is read as an extra field.
    assert!(first_of(&lzo(&[7; 5000], 0x40)).is_err(), "an extra field longer than the file");
}

#[test]
fn every_frame_of_lz4_is_read() {
    let pack = |plain: &[u8]| {
        let mut out = lz4_flex::frame::FrameEncoder::new(Vec::new());
        out.write_all(plain).unwrap();
        out.finish().unwrap()
    };
    let text = text();
    let (one, two) = text.split_at(100_000);
    let frames = [pack(one), pack(b""), pack(two)].concat();
    assert!(frames.starts_with(&LZ4_FRAME_MAGIC));
    let mut bytes = Vec::new();
    Lz4Frames::all(&frames[..]).read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, text);
}

#[test]
fn what_is_not_unpacked_has_its_name() {
    assert_eq!(unsupported(b"BZh91AY"), Some("bzip2"));
    assert_eq!(unsupported(b"\x04\x22\x4d\x18\x64"), Some("lz4 in its new form"));
    assert_eq!(unsupported(&gzip(b"")), None);
}
