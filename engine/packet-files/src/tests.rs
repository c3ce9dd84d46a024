//! Tests of whole captures: each format with bytes made by hand, compression, waiting for more, and
//! captures of any packets, written and read again.

use std::io::{Cursor, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lz4_flex::frame::{BlockSize, FrameEncoder, FrameInfo};
use proptest::prelude::*;

use crate::bytes::Order;
use crate::testing::{
    ByteOrderWriter, OwnedFrame, Trickle, drain, open, packet, pcap, pcapng, read,
};
use crate::{CaptureFile, CaptureFormat, CaptureOptions, SkippedCounts};

const ORDERS: [Order; 2] = [Order::Little, Order::Big];
/// A second that is plausible for captures.
const SECOND: u32 = 1_700_000_000;
const SECOND_NS: i64 = SECOND as i64 * 1_000_000_000;

fn three() -> Vec<OwnedFrame> {
    [60_u32, 9000, 0]
        .iter()
        .zip(0..)
        .map(|(length, index)| packet(SECOND_NS + index, *length, &vec![7; *length as usize / 2]))
        .collect()
}

fn refused(bytes: &[u8]) -> String {
    open(bytes).expect_err("it cannot be opened").to_string()
}

mod formats;
mod further;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let options = lzma_rust2::XzOptions::with_preset(1);
    let mut out = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn lz4(bytes: &[u8]) -> Vec<u8> {
    let blocks = FrameInfo::new().block_size(BlockSize::Max64KB);
    let mut out = FrameEncoder::with_frame_info(blocks, Vec::new());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

type Packer = fn(&[u8]) -> Vec<u8>;

const PACKERS: [Packer; 4] = [gzip, zstd, xz, lz4];

#[test]
fn compressed_captures_are_unpacked() {
    let packets: Vec<OwnedFrame> = three().into_iter().cycle().take(300).collect();
    let whole = pcap(Order::Little, &packets);
    let (one, two) = whole.split_at(whole.len() / 3);
    for pack in PACKERS {
        // Two members, streams or frames.
        for packed in [pack(&whole), [pack(one), pack(two)].concat()] {
            let outcome = read(&packed);
            assert_eq!(outcome.error, None);
            assert_eq!(
                (outcome.packets, outcome.skipped),
                (packets.clone(), SkippedCounts::default())
            );
        }
    }
}

#[test]
fn packets_before_a_cut_in_compressed_data_are_returned() {
    let mut seed = 1_u32;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 24) as u8
    })
    .take(700_000)
    .collect();
    let packets: Vec<OwnedFrame> = noise.chunks(1400).map(|bytes| packet(1, 1400, bytes)).collect();
    let whole = pcap(Order::Little, &packets);
    for pack in PACKERS {
        let packed = pack(&whole);
        let outcome = read(&packed[..packed.len() / 2]);
        assert_eq!(outcome.error, None);
        assert!(outcome.skipped.is_compression_cut || outcome.skipped.cut_bytes > 0);
        assert!(outcome.packets.len() < packets.len());
        assert_eq!(outcome.packets, packets[..outcome.packets.len()]);
    }
}

#[test]
fn compressed_data_that_ends_at_its_start_is_an_error() {
    let message = refused(&xz(&pcap(Order::Little, &three()))[..20]);
    assert_eq!(message, "cannot read test (unpacked) at byte 0: unexpected end of file");
}

#[test]
fn damaged_compressed_data_is_an_error() {
    let whole = pcap(Order::Little, &three());
    let mut packed = gzip(&whole);
    let end = packed.len() - 8;
    packed[end] ^= 1;
    let message = open(&packed)
        .map(drain)
        .map_or_else(|error| Some(error.to_string()), |outcome| outcome.error);
    let message = message.expect("the checksum is wrong");
    assert!(message.starts_with("cannot read test (unpacked) at byte "), "{message}");
}

#[test]
fn other_compressions_are_named() {
    for (beginning, name) in [
        (&b"BZh91AY&SY"[..], "bzip2"),
        (b"\x1f\x9d\x90", "compress (.Z)"),
        (b"PK\x03\x04\x14", "zip"),
    ] {
        assert_eq!(
            refused(beginning),
            format!("test is compressed with {name}, which is not supported: unpack it first")
        );
    }
}

#[test]
fn files_without_packets_are_errors() {
    assert_eq!(refused(b""), "test is empty: no capture was written to it");
    for bytes in
        [&b"a"[..], b"some text, which is longer than any header that is read here", &[0; 90]]
    {
        assert!(refused(bytes).starts_with("test is not a capture in a known format: "));
    }
    let missing = CaptureFile::open("/nonexistent/capture".as_ref(), &CaptureOptions::default());
    let message = missing.expect_err("no such file").to_string();
    assert!(message.starts_with("cannot open /nonexistent/capture: No such file"), "{message}");
}

#[test]
fn a_growing_file_is_followed() {
    let packets = three();
    let whole = pcap(Order::Little, &packets);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&whole[..30]).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let options =
        CaptureOptions { follow: true, stop: Some(stop.clone()), ..CaptureOptions::default() };
    let capture = CaptureFile::open(file.path(), &options).unwrap();
    let reading = std::thread::spawn(move || drain(capture));
    for piece in whole[30..].chunks(2000) {
        std::thread::sleep(Duration::from_millis(20));
        file.write_all(piece).unwrap();
    }
    // At its end nothing shows how far the reader is; it must stop at any time.
    std::thread::sleep(Duration::from_millis(300));
    stop.store(true, Ordering::Relaxed);
    assert_eq!(reading.join().unwrap().packets, packets);
}

/// A writer that writes its last packets, and only then shows that it has ended.
#[test]
fn what_was_written_before_a_capture_was_over_is_read() {
    let packets = three();
    let whole = pcap(Order::Little, &packets);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&whole[..30]).unwrap();
    let (mut writer, rest) = (file.reopen().unwrap(), whole[30..].to_vec());
    let at = std::io::SeekFrom::Start(30);
    std::io::Seek::seek(&mut writer, at).unwrap();
    let over = move || writer.write_all(&rest).is_ok();
    let followed =
        CaptureFile::follow(file.reopen().unwrap(), "a", &CaptureOptions::default(), over).unwrap();
    assert_eq!(drain(followed).packets, packets);
}

#[test]
fn a_followed_file_that_is_emptied_ends() {
    let packets = three();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), pcap(Order::Little, &packets)).unwrap();
    let opened = file.reopen().unwrap();
    let over = move || {
        opened.set_len(0).unwrap();
        false
    };
    let followed =
        CaptureFile::follow(file.reopen().unwrap(), "a", &CaptureOptions::default(), over).unwrap();
    assert_eq!(drain(followed).packets, packets);
}

#[test]
fn following_stops_without_a_writer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fifo");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, mode).unwrap();
    let stop = Some(Arc::new(AtomicBool::new(true)));
    let options = CaptureOptions { follow: true, stop, ..CaptureOptions::default() };
    let message = CaptureFile::open(&path, &options).expect_err("nothing is written").to_string();
    assert!(message.ends_with(" is empty: no capture was written to it"), "{message}");
    let message = CaptureFile::from_reader(&b""[..], "stdin", &options).expect_err("empty");
    assert_eq!(message.to_string(), "stdin is empty: no capture was written to it");
}

#[test]
fn a_fifo_is_followed_from_writer_to_writer() {
    let packets = three();
    let whole = pcap(Order::Big, &packets);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fifo");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, mode).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let options =
        CaptureOptions { follow: true, stop: Some(stop.clone()), ..CaptureOptions::default() };
    let place = path.clone();
    let reading = std::thread::spawn(move || drain(CaptureFile::open(&place, &options).unwrap()));
    for piece in whole.chunks(whole.len() / 2 + 1) {
        // Opening waits for the reader.
        let mut writer = std::fs::File::options().write(true).open(&path).unwrap();
        writer.write_all(piece).unwrap();
    }
    std::thread::sleep(Duration::from_millis(300));
    stop.store(true, Ordering::Relaxed);
    assert_eq!(reading.join().unwrap().packets, packets);
}

/// Any packets; times are those that both formats can express.
fn packets() -> impl Strategy<Value = Vec<OwnedFrame>> {
    let time = 0..i64::from(u32::MAX) * 1_000_000_000;
    let bytes = prop::collection::vec(any::<u8>(), 0..200);
    let any_packet = (time, any::<u32>(), bytes, 0..2_u32).prop_map(|(time, wire, bytes, from)| {
        OwnedFrame { interface: from, ..packet(time, wire, &bytes) }
    });
    prop::collection::vec(any_packet, 0..40)
}

proptest! {
    #[test]
    fn what_was_written_is_read(
        packets in packets(),
        is_big in any::<bool>(),
        steps in prop::collection::vec(1_usize..8, 1..9),
    ) {
        let order = ORDERS[usize::from(is_big)];
        let of_first = |packet: &OwnedFrame| OwnedFrame { interface: 0, ..packet.clone() };
        let first: Vec<_> = packets.iter().map(of_first).collect();
        let cases = [(pcap(order, &packets), first), (pcapng(order, &packets), packets)];
        for (bytes, packets) in cases {
            let whole = read(&bytes);
            prop_assert_eq!(whole.error, None);
            prop_assert_eq!(whole.skipped, SkippedCounts::default());
            prop_assert_eq!(&whole.packets, &packets);
            let trickle = Trickle::new(bytes, &steps);
            let options = CaptureOptions::default();
            let file = CaptureFile::from_reader(trickle, "test", &options).unwrap();
            prop_assert_eq!(&drain(file).packets, &packets);
        }
    }

    #[test]
    fn changed_captures_end_without_a_panic(
        packets in packets(),
        which in 0_usize..16,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..9),
        length in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let plain = match which % 4 {
            0 => pcap(ORDERS[which / 4 % 2], &packets),
            1 => pcapng(ORDERS[which / 4 % 2], &packets),
            2 => formats::snoop(&packets),
            _ => formats::erf(&packets),
        };
        let pack = which.checked_sub(8).and_then(|which| PACKERS.get(which / 2));
        let mut bytes = pack.map_or(plain.clone(), |pack| pack(&plain));
        for (at, value) in changes {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
        }
        if is_cut {
            bytes.truncate(length.index(bytes.len() + 1));
        }
        for as_tsh in [false, true] {
            let options = CaptureOptions { as_tsh, ..CaptureOptions::default() };
            let reader = Cursor::new(bytes.clone());
            if let Ok(file) = CaptureFile::from_reader(reader, "test", &options) {
                let kind = file.format();
                prop_assert!(as_tsh == (kind == CaptureFormat::Tsh));
                drain(file);
            }
        }
    }
}
