//! No bytes make a parser panic or run without end: small dumps of each format with random changes,
//! opened and read.

use std::io::Write as _;

use panoptes_decoders::address::PhysicalAddress;
use panoptes_decoders::source::{MachineSource as _, MemorySource as _};

use super::testing::stream::{MigrationWriter, RamRecord};
use super::testing::{core, page, pages, vmware_state};
use crate::{FileFormat, FileSource, SourceError};

/// xorshift64*: the same numbers in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound.max(1)
    }
}

/// A stream with a record of each kind, or, with capabilities, with pages at places of their own.
fn qemu(capabilities: &[&str]) -> Vec<u8> {
    let other = if capabilities.is_empty() { ("memdimm0", 8 << 20) } else { ("vga.vram", 1 << 12) };
    let mut writer = MigrationWriter::new(None);
    writer.configuration("pc-q35-9.2", capabilities);
    writer.start(1, "ram", 4, |data| {
        data.list(&[("pc.ram", 16 << 12), other], |data, (_, bytes)| {
            if !capabilities.is_empty() {
                let bitmap_at = data.0.len() as u64 + 28;
                data.0.extend(1_u32.to_be_bytes());
                data.0.extend(4096_u64.to_be_bytes());
                data.0.extend(bitmap_at.to_be_bytes());
                data.0.extend((bitmap_at + 4096).to_be_bytes());
                data.0.extend([0xff; 4096]);
                data.0.resize(data.0.len() + bytes as usize, 3);
            }
        });
        data.record(RamRecord::End);
    });
    writer.start(2, "dirty-bitmap", 1, |data| data.0.extend([1]));
    writer.part(1, true, |data| {
        if capabilities.is_empty() {
            data.record(RamRecord::Plain("pc.ram", 1, &page(1)));
            data.record(RamRecord::Changed(1, &[100, 2, 1, 1]));
            data.record(RamRecord::Packed("pc.ram", 2, &[0x78, 1, 3, 4]));
            data.record(RamRecord::Filled(3, 0));
        }
        data.record(RamRecord::End);
    });
    writer.0
}

fn samples() -> Vec<Vec<u8>> {
    let mut lime = Vec::new();
    for start in [0x1000_u64, 0x10_0000] {
        lime.extend(b"EMiL\x01\0\0\0");
        lime.extend(start.to_le_bytes());
        lime.extend((start + 0x27ff).to_le_bytes());
        lime.extend([0; 8]);
        lime.extend([7; 0x2800]);
    }
    let xml = b"<memory model='dimm'><address type='dimm' slot='0' base='0x180000000'/></memory>";
    let mut saved = b"LibvirtQemudSave\x02\0\0\0".to_vec();
    saved.extend((xml.len() as u32).to_le_bytes());
    saved.resize(92, 0);
    saved.extend(xml);
    saved.extend(qemu(&[]));
    vec![
        lime,
        core(&[(0, pages(0..2), 8192), (0x8000, pages(8..9), 4096)], false),
        vmware_state(&[[0, 0, 6], [6, 16, 4]], Some(&pages(0..10))),
        qemu(&[]),
        qemu(&["mapped-ram"]),
        saved,
        super::xen::testing::core(false),
        super::xen::testing::core(true),
        super::xen::testing::save(2),
    ]
}

fn read(source: &mut FileSource) {
    let _ = source.lacks().to_string();
    for layout in 0..source.layouts().min(4) {
        source.choose_layout(layout);
        let mut from = 0;
        for _ in 0..50 {
            let Some(range) = source.next_data(PhysicalAddress(from)) else { break };
            assert!(range.start >= from && range.end > range.start, "{range:?} from {from:#x}");
            let mut bytes = vec![0; (range.end - range.start).min(9000) as usize];
            let _ = source.read_exact(PhysicalAddress(range.start), &mut bytes);
            let _ = source.read_exact(PhysicalAddress(range.end.wrapping_sub(20)), &mut bytes);
            from = range.end;
        }
    }
}

/// Opens a dump in the format of its header.
fn open(bytes: &[u8]) -> Result<FileSource, SourceError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    FileSource::open_as(&file.into_temp_path(), FileFormat::Dump)
}

#[test]
fn each_sample_without_changes_is_finished() {
    for (index, sample) in samples().into_iter().enumerate() {
        let mut source = match open(&sample) {
            Ok(source) => source,
            // This core is refused behind its headers.
            Err(error) if error.to_string().contains("a paravirtual guest") => continue,
            Err(error) => panic!("{index}: {error}"),
        };
        assert!(source.lacks().is_finished(), "{index}: {}", source.lacks());
        read(&mut source);
    }
}

#[test]
fn no_bytes_make_a_parser_panic() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for sample in samples() {
        for _ in 0..150 {
            let mut bytes = sample.clone();
            for _ in 0..=random.below(6) {
                // Headers are at the beginning, or at the end.
                let span = if random.below(2) == 0 { bytes.len().min(400) } else { bytes.len() };
                let at = random.below(span);
                let count = [1, 2, 4, 8][random.below(4)].min(bytes.len() - at);
                let value = [0, 1, 0x10, 0x7f, 0x80, 0xff, random.below(256)][random.below(7)];
                bytes[at..at + count].fill(value as u8);
            }
            if random.below(4) == 0 {
                bytes.truncate(random.below(bytes.len()));
            }
            if let Ok(mut source) = open(&bytes) {
                read(&mut source);
            }
        }
    }
}
