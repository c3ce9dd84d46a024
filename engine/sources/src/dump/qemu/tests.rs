//! Migration streams, written here as QEMU's documents describe them, each opened as a user would.

use std::io::Write as _;

use panoptes_decoders::address::PhysicalAddress;
use panoptes_decoders::source::{MachineSource as _, MemorySource as _};

use crate::dump::testing::{page, pages, stream};
use crate::{DetectedFormat, FileSource, Lacks, SourceError};

use stream::{MigrationWriter, RamRecord};

fn open(bytes: &[u8]) -> Result<FileSource, SourceError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    FileSource::open(&file.into_temp_path())
}

fn opened(bytes: &[u8], format: DetectedFormat, lacks: Lacks) -> FileSource {
    let source = open(bytes).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((source.format(), source.lacks()), (format, lacks));
    source
}

#[track_caller]
fn check(source: &mut FileSource, address: u64, expected: &[u8]) {
    let mut bytes = vec![1; expected.len()];
    assert!(source.read_exact(PhysicalAddress(address), &mut bytes), "{address:#x}");
    assert!(bytes == expected, "{address:#x}");
}

#[track_caller]
fn check_absent(source: &mut FileSource, address: u64) {
    assert!(!source.read_exact(PhysicalAddress(address), &mut [0; 8]), "{address:#x}");
}

#[track_caller]
fn check_refused(bytes: &[u8], words: &str) {
    let error = open(bytes).map(drop).unwrap_err().to_string();
    assert!(error.contains(words), "{error}");
}

/// A machine with 64 pages of memory.
fn blocks() -> [(&'static str, u64); 3] {
    [("vga.vram", 16 << 12), ("pc.ram", 64 << 12), ("/rom@etc/acpi/tables", 2 << 12)]
}

/// A stream of two rounds: pages 0 to 7 (some of them zeros), then page 3 again.
fn two_rounds() -> MigrationWriter {
    let mut writer = MigrationWriter::new(Some("pc-q35-9.2"));
    writer.start(2, "ram", 4, |data| {
        data.list(&blocks(), |_, _| {});
        data.record(RamRecord::End);
    });
    writer.part(2, false, |data| {
        data.record(RamRecord::Plain("vga.vram", 0, &page(99)));
        data.record(RamRecord::Plain("pc.ram", 0, &page(40)));
        for number in 1..8 {
            match number {
                5 | 6 => data.record(RamRecord::Same(number, None)),
                _ => data.record(RamRecord::Same(number, Some(&page(40 + number)))),
            }
        }
        data.record(RamRecord::End);
    });
    writer.part(2, false, |data| {
        data.record(RamRecord::Same(3, Some(&page(77))));
        data.record(RamRecord::End);
    });
    writer
}

fn finished(mut writer: MigrationWriter) -> Vec<u8> {
    writer.part(2, true, |data| data.record(RamRecord::End));
    writer.0.extend(b"\x04\0\0\0\x07\x03cpu, and what follows memory");
    writer.0
}

const PAGE: u64 = 4096;

#[test]
fn a_stream_is_read_and_the_last_record_of_a_page_counts() {
    let lacks = Lacks { left_out: 56 * PAGE, ..Lacks::default() };
    let mut source = opened(&finished(two_rounds()), DetectedFormat::Qemu, lacks);
    assert_eq!(source.regions(), std::slice::from_ref(&(0..64 * PAGE)));
    check(&mut source, 0, &pages(40..43));
    check(&mut source, 3 * PAGE, &page(77));
    check(&mut source, 4 * PAGE, &page(44));
    check(&mut source, 5 * PAGE, &[0; 8192]);
    check(&mut source, 7 * PAGE + 5, &page(47)[5..99]);
    check_absent(&mut source, 8 * PAGE);
    check_absent(&mut source, 64 * PAGE);
    assert_eq!(source.next_data(PhysicalAddress(0)), Some(0..5 * PAGE));
    assert_eq!(source.next_data(PhysicalAddress(5 * PAGE)), Some(7 * PAGE..8 * PAGE));
    assert_eq!(source.next_data(PhysicalAddress(8 * PAGE)), None);
    // q35, pc and a machine without a hole have the same memory.
    assert_eq!(source.layouts(), 1);
}

#[test]
fn an_unfinished_stream_has_the_pages_before_its_end() {
    let whole = two_rounds().0;
    let first = whole.len() - 2 * (8 + 4096);
    for cut in [whole.len(), whole.len() - 1, first, first - 4000] {
        let mut source = open(&whole[..cut]).unwrap();
        let lacks = source.lacks();
        assert!(lacks.unfinished && lacks.cut_short >= 56 * PAGE, "{lacks:?}");
        check(&mut source, 0, &pages(40..43));
        check_absent(&mut source, 8 * PAGE);
    }
    // A volume that was larger than the stream.
    let mut padded = whole.clone();
    padded.resize(padded.len() + 9000, 0);
    assert!(open(&padded).unwrap().lacks().unfinished);
    check_refused(&whole[..60], "ends before its headers");
    check_refused(&whole[..8], "ends before its headers");
}

#[test]
fn every_cut_gives_memory_or_a_reason() {
    let whole = finished(two_rounds());
    for cut in (0..700).chain((700..whole.len()).step_by(997)) {
        if let Ok(mut source) = open(&whole[..cut]) {
            let mut bytes = [0; 4096];
            if source.read_exact(PhysicalAddress(PAGE), &mut bytes) {
                assert!(bytes == *page(41), "{cut}");
            }
        }
    }
}

#[test]
fn old_streams_without_configuration_and_footers_are_read() {
    let mut writer = MigrationWriter::new(None);
    writer.1 = false;
    writer.start(2, "ram", 4, |data| {
        data.list(&[("pc.ram", 64 << 12)], |_, _| {});
        data.record(RamRecord::End);
    });
    writer.part(2, true, |data| {
        data.record(RamRecord::Plain("pc.ram", 2, &page(5)));
        data.record(RamRecord::Filled(4, 0x5a));
        data.record(RamRecord::End);
    });
    let mut source = open(&writer.0).unwrap();
    check(&mut source, 2 * PAGE, &page(5));
    check(&mut source, 4 * PAGE, &[0x5a; 4096]);
}

// As Proxmox writes it: with other sections, with differences, on a volume with old bytes.
#[test]
fn differences_are_applied_and_other_sections_passed_by() {
    let mut writer = MigrationWriter::new(Some("pc-i440fx-9.2+pve1"));
    writer.start(1, "ram", 4, |data| {
        data.list(&blocks(), |_, _| {});
        data.record(RamRecord::End);
    });
    writer.start(2, "dirty-bitmap", 1, |data| data.0.extend([1]));
    writer.start(3, "pbs-state", 1, |data| {
        data.0.extend(5_u64.to_be_bytes());
        data.0.extend(b"state");
    });
    writer.part(1, false, |data| {
        data.record(RamRecord::Plain("pc.ram", 1, &page(1)));
        data.record(RamRecord::Same(2, None));
        data.record(RamRecord::End);
    });
    writer.part(2, true, |data| {
        // The start of a bitmap, its bits, then its end: names, granularity, flags.
        data.0.extend(b"\x1c\x05drive\x03map\0\0\x10\0\0");
        data.0.extend(b"\x40\0\0\0\0\0\0\0\0\0\0\0\x08\0\0\0\0\0\0\0\x02ab");
        data.0.extend(b"\x42\0\0\0\0\0\0\0\0\0\0\0\x08\x20\x01");
    });
    writer.part(1, true, |data| {
        // Skip 100 bytes, change 2; on a page of zeros, skip none and change 1; twice on page 1.
        data.record(RamRecord::Changed(1, &[100, 2, 0xaa, 0xbb]));
        data.record(RamRecord::Changed(2, &[0, 1, 0xcc]));
        data.record(RamRecord::Changed(1, &[101, 1, 0xdd]));
        data.record(RamRecord::End);
    });
    writer.0.extend([0x5a; 5000]);
    let lacks = Lacks { left_out: 62 * PAGE, ..Lacks::default() };
    let mut source = opened(&writer.0, DetectedFormat::Qemu, lacks);
    let mut expected = page(1);
    expected[100..102].copy_from_slice(&[0xaa, 0xdd]);
    check(&mut source, PAGE, &expected);
    let mut expected = vec![0; 4096];
    expected[0] = 0xcc;
    check(&mut source, 2 * PAGE, &expected);
}

#[test]
fn compressed_pages_are_read() {
    let mut writer = MigrationWriter::new(Some("pc-i440fx-7.2"));
    writer.start(1, "ram", 4, |data| {
        data.list(&[("pc.ram", 64 << 12)], |_, _| {});
        data.record(RamRecord::End);
    });
    let packed = miniz_oxide::deflate::compress_to_vec_zlib(&page(9), 1);
    writer.part(1, true, |data| {
        data.record(RamRecord::Packed("pc.ram", 7, &packed));
        data.record(RamRecord::End);
    });
    check(&mut open(&writer.0).unwrap(), 7 * PAGE, &page(9));
}

/// A stream of mapped-ram at an offset of its file; pages 1 and 3 of memory are in it.
fn mapped(at: u64) -> Vec<u8> {
    let mut writer = MigrationWriter::new(None);
    writer.configuration("pc-q35-9.2", &["mapped-ram"]);
    let blocks = [("pc.ram", 64_u64 << 12), ("vga.vram", 16 << 12)];
    writer.start(1, "ram", 4, |data| {
        data.list(&blocks, |data, (name, bytes)| {
            // Pages begin at a whole 64 KiB of the file here.
            let bitmap_at = at + data.0.len() as u64 + 28;
            let pages_at = (bitmap_at + 8).next_multiple_of(1 << 16);
            data.0.extend(1_u32.to_be_bytes());
            data.0.extend(PAGE.to_be_bytes());
            data.0.extend(bitmap_at.to_be_bytes());
            data.0.extend(pages_at.to_be_bytes());
            data.0.extend(if name == "pc.ram" { 0b1010_u64 } else { 1 }.to_le_bytes());
            data.0.resize((pages_at - at) as usize, 0xee);
            for number in 0..bytes / PAGE {
                // What has no bit is stale.
                data.0.extend(page(number + 30));
            }
        });
        data.record(RamRecord::End);
    });
    writer.part(1, true, |data| data.record(RamRecord::End));
    writer.0
}

#[test]
fn mapped_ram_is_read_by_its_bitmap() {
    let mut source = opened(&mapped(0), DetectedFormat::Qemu, Lacks::default());
    check(&mut source, PAGE, &page(31));
    check(&mut source, 3 * PAGE, &page(33));
    check(&mut source, 0, &[0; 4096]);
    check(&mut source, 2 * PAGE, &[0; 4096]);
    check(&mut source, 63 * PAGE, &[0; 4096]);
    check_absent(&mut source, 64 * PAGE);
    let cut = mapped(0)[..80_000].to_vec();
    let lacks = open(&cut).unwrap().lacks();
    assert!(lacks.unfinished, "{lacks:?}");
}

fn saved(format: u32, xml: &str, stream: &[u8], big: bool) -> Vec<u8> {
    let mut file = b"LibvirtQemudSave".to_vec();
    let mut words = vec![2, xml.len() as u32 + 100, 1, format, 0];
    words.resize(19, 0);
    for word in words {
        file.extend(if big { u32::to_be_bytes(word) } else { u32::to_le_bytes(word) });
    }
    file.extend(xml.as_bytes());
    file.resize(file.len() + 100, 0);
    file.extend(stream);
    file
}

#[test]
fn save_images_of_libvirt_are_read() {
    let stream = finished(two_rounds());
    for big in [false, true] {
        let lacks = Lacks { left_out: 56 * PAGE, ..Lacks::default() };
        let mut source =
            opened(&saved(0, "<domain/>", &stream, big), DetectedFormat::Libvirt, lacks);
        check(&mut source, 3 * PAGE, &page(77));
    }
    let sparse = saved(6, "<domain/>", &mapped(92 + 9 + 100), false);
    check(&mut opened(&sparse, DetectedFormat::Libvirt, Lacks::default()), PAGE, &page(31));
}

#[test]
fn save_images_that_are_no_stream_are_refused_with_the_way_to_unpack_them() {
    let stream = [7; 500];
    let file = saved(5, "<domain/>", &stream, false);
    check_refused(&file, "is compressed; unpack it: tail -c +202 /");
    check_refused(&file, " | zstd -dc > memory.qevm");
    check_refused(&saved(3, "", &stream, false), " | xz -dc > ");
    check_refused(&saved(9, "", &stream, false), "unknown way");
    check_refused(&saved(0, "", &stream, false), "no migration stream");
    check_refused(&file[..50], "ends before its headers");
    check_refused(b"LibvirtQemudPart\x02\0\0\0", "an unfinished save image of libvirt");
}

#[test]
fn streams_that_cannot_be_read_are_refused_by_their_reason() {
    let with = |name: &str, version| {
        let mut writer = MigrationWriter::new(Some("pc-q35-9.2"));
        writer.start(1, name, version, |data| data.record(RamRecord::End));
        writer.0
    };
    check_refused(&with("ram", 3), "another QEMU");
    check_refused(&with("block", 1), "disks too");
    check_refused(&with("spapr/htab", 1), "section of a device");
    check_refused(&with("ram", 4), "ends before its headers");
    let mut writer = MigrationWriter::new(Some("pc-q35-9.2"));
    writer.start(1, "ram", 4, |data| {
        data.list(&[("vga.vram", 64 << 12)], |_, _| {});
        data.record(RamRecord::Plain("vga.vram", 0, &page(0)));
        data.record(RamRecord::End);
    });
    writer.part(1, true, |data| data.record(RamRecord::End));
    check_refused(&writer.0, "it holds no memory");
    check_refused(b"QEVM\0\0\0\x03\x99", "no known kind");
    check_refused(b"QEVM\0\0\0\x03\0", "no memory");
}

#[test]
fn memory_in_slots_is_placed_and_the_guess_is_said() {
    let mut writer = MigrationWriter::new(Some("pc-q35-9.2"));
    writer.start(1, "ram", 4, |data| {
        data.list(&[("memdimm0", 16 << 20), ("pc.ram", 64 << 12)], |_, _| {});
        data.record(RamRecord::Plain("memdimm0", 0, &page(3)));
        data.record(RamRecord::End);
    });
    writer.part(1, true, |data| data.record(RamRecord::End));
    let mut source = open(&writer.0).unwrap();
    check(&mut source, 1 << 32, &page(3));
    assert!(source.lacks().to_string().contains("where QEMU puts it by default"));
    let xml = "<memory model='dimm'><address type='dimm' slot='0' base='0x180000000'/></memory>";
    let mut source = open(&saved(0, xml, &writer.0, false)).unwrap();
    check(&mut source, 0x1_8000_0000, &page(3));
    assert_eq!(source.lacks().assumption, None);
}

// virtio-mem stands before memory, and has no length.
#[test]
fn memory_behind_early_devices_is_found() {
    let mut writer = MigrationWriter::new(Some("pc-q35-9.2"));
    writer.0.extend(b"\x04\0\0\0\x09\x17virtio-mem-device-early\0\0\0\0\0\0\0\x01");
    writer.0.extend([7; 300]);
    writer.0.extend(b"\x7e\0\0\0\x09");
    writer.start(1, "ram", 4, |data| {
        data.list(&[("pc.ram", 64 << 12)], |_, _| {});
        data.record(RamRecord::Plain("pc.ram", 1, &page(3)));
        data.record(RamRecord::End);
    });
    writer.part(1, true, |data| data.record(RamRecord::End));
    check(&mut open(&writer.0).unwrap(), PAGE, &page(3));
}
