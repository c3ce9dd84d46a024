//! Dumps of every format: small ones made at the start and changed, or the input itself.
//!
//! The first byte of the input chooses the dump; the next two, how much of its end is cut off; then
//! follow changes, six bytes each: where (24 bits), how, and 16 bits for it. An opened dump is
//! swept and read, also outside its ranges. One of them is raw memory without its gap; that is then
//! searched.
#![cfg_attr(fuzzing, no_main)]
#![allow(clippy::unwrap_used, reason = "what fails there is the machine, not the input")]

use std::cell::RefCell;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use panoptes_decoders::address::PhysicalAddress;
use panoptes_fuzz::fuzz_target;
use panoptes_rig::Architecture;
use panoptes_rig::dump::{self, Packing, Ram};
use panoptes_sources::{
    FileFormat, FileSource, FileSourceOptions, MachineSource as _, MemorySource, PAGE_BYTES,
    ReadRequest,
};

/// A little more than the megabyte that dumps leave out.
const RAM_BYTES: u64 = (1 << 20) + 24 * PAGE_BYTES;
/// A page of bytes 7, compressed by zlib.
const PACKED_PAGE: &[u8] = b"\x78\x9c\xed\xc1\x31\x0d\x00\x00\x00\xc3\xa0\xb3\xfe\
      \x1d\xcf\xc7\x02\x14\x00\x00\x00\xf0\x6e\x7c\x80\x70\x01";
/// The ranges of [`joined`].
const JOINED: [Range<u64>; 2] = [0x1000..0x8c00, 0x1_0000..0x1_2000];
/// Maximum number of ranges of one dump that are swept.
const RANGES_MAX: usize = 1000;

struct Fuzz {
    dumps: Vec<Vec<u8>>,
    file: tempfile::NamedTempFile,
    arena: Vec<u8>,
}

thread_local! {
    static FUZZ: RefCell<Fuzz> = RefCell::new(Fuzz::new());
}

fuzz_target!(|data: &[u8]| {
    FUZZ.with_borrow_mut(|fuzz| fuzz.run(data));
});

impl Fuzz {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let memory = folder.path().join("ram");
        let file = std::fs::File::create(&memory).unwrap();
        let ram = Ram { file: &memory, architecture: Architecture::Amd64 };
        file.set_len(RAM_BYTES).unwrap();
        for page in (0..24_u64).filter(|page| page % 3 != 0) {
            let bytes: Vec<u8> = (0..4096_u64).map(|at| (at / 7 * page) as u8).collect();
            file.write_all_at(&bytes, (1 << 20) + page * PAGE_BYTES).unwrap();
        }
        let path = folder.path().join("dump");
        let mut dumps = vec![Vec::new()]; // the input itself
        for packing in [Packing::Zlib, Packing::Lzo, Packing::Snappy, Packing::Zstd] {
            dump::kdump(ram, &path, packing).unwrap();
            let dump = std::fs::read(&path).unwrap();
            dumps.push(flattened(&dump));
            dumps.push(dump);
        }
        dump::lime(ram, &path, 2).unwrap();
        dumps.push(std::fs::read(&path).unwrap());
        dump::elf(ram, &path).unwrap();
        dumps.push(std::fs::read(&path).unwrap());
        dumps.extend([lime(), core(), vmware(), xen_core(), xen_save()]);
        for is_mapped in [false, true] {
            let stream = qemu(is_mapped);
            dumps.push([&saved(), &stream[..]].concat());
            dumps.push(stream);
        }
        dumps.push(joined());
        let file = tempfile::NamedTempFile::new().unwrap();
        Self { dumps, file, arena: vec![0; 1 << 20] }
    }

    fn run(&mut self, data: &[u8]) {
        let Some(([which, cut @ ..], changes)) = data.split_first_chunk::<3>() else { return };
        let which = usize::from(*which) % self.dumps.len();
        let mut dump = if which == 0 { changes.to_vec() } else { self.dumps[which].clone() };
        if which > 0 {
            change(&mut dump, changes);
        }
        let cut = usize::from(u16::from_le_bytes(*cut));
        dump.truncate(dump.len().saturating_sub(if cut % 2 == 0 { 0 } else { cut }));
        let file = self.file.as_file_mut();
        file.set_len(0).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.write_all(&dump).unwrap();
        let is_raw = which + 1 == self.dumps.len();
        let openings = if is_raw {
            let raw = FileSourceOptions { format: FileFormat::Raw, ..FileSourceOptions::default() };
            vec![raw, FileSourceOptions { regions: Some(&JOINED), ..raw }]
        } else {
            vec![FileSourceOptions { format: FileFormat::Dump, ..FileSourceOptions::default() }]
        };
        for opening in openings {
            if let Ok(mut source) = FileSource::open_with(self.file.path(), opening) {
                self.read(&mut source);
                if source.find_gaps().is_ok_and(|is_found| is_found) {
                    self.read(&mut source);
                }
            }
        }
    }

    fn read(&mut self, source: &mut FileSource) {
        assert!(source.regions().windows(2).all(|pair| pair[0].end <= pair[1].start));
        let _ = source.lacks().to_string();
        for layout in 0..source.layouts() {
            source.choose_layout(layout);
            self.sweep(source);
        }
    }

    fn sweep(&mut self, source: &mut FileSource) {
        let mut from = 0;
        for _ in 0..RANGES_MAX {
            let Some(range) = source.next_data(PhysicalAddress(from)) else { break };
            assert!(range.start >= from && range.end > range.start, "{range:?} from {from:#x}");
            let length = (range.end - range.start).min(self.arena.len() as u64) as u32;
            let at = PhysicalAddress(range.start);
            let mut requests = [
                ReadRequest::new(at, 40.min(length), 0),
                ReadRequest::new(at, length, 0),
                ReadRequest::new(PhysicalAddress(range.end.wrapping_sub(20)), 40, 100),
                ReadRequest::new(PhysicalAddress(range.start.wrapping_sub(20)), 5000, 100),
                ReadRequest::new(at, 4096, 7),
            ];
            source.read_batch(&mut requests, &mut self.arena);
            from = range.end;
        }
    }
}

fn change(dump: &mut [u8], changes: &[u8]) {
    for change in changes.as_chunks::<6>().0.iter().take(64) {
        let at = u32::from_le_bytes([change[0], change[1], change[2], 0]) as usize;
        let value = u16::from_le_bytes([change[4], change[5]]);
        // Headers are mostly at the beginning.
        let within = if change[3] & 0x80 == 0 { dump.len().min(12_000) } else { dump.len() };
        let at = at % within.max(1);
        let Some(bytes) = dump.get_mut(at..at + 8) else { continue };
        match change[3] % 5 {
            0 => bytes[0] = value as u8,
            1 => bytes[..2].copy_from_slice(&value.to_le_bytes()),
            2 => bytes[usize::from(value) / 8 % 8] ^= 1 << (value % 8),
            3 => bytes.copy_from_slice(&(u64::from(value) << (value % 61)).to_le_bytes()),
            _ => bytes.copy_from_slice(&u64::from(value).wrapping_neg().to_be_bytes()),
        }
    }
}

fn flattened(dump: &[u8]) -> Vec<u8> {
    let mut flat = b"makedumpfile\0\0\0\0".to_vec();
    flat.resize(4096, 0);
    for (index, piece) in dump.chunks(4000).enumerate().rev() {
        flat.extend((index as u64 * 4000).to_be_bytes());
        flat.extend((piece.len() as u64).to_be_bytes());
        flat.extend(piece);
    }
    flat.extend([0xff; 16]);
    flat
}

fn lime() -> Vec<u8> {
    let mut dump = Vec::new();
    for start in [0x1000_u64, 0x10_0000] {
        dump.extend(b"EMiL\x01\0\0\0");
        dump.extend(start.to_le_bytes());
        dump.extend((start + 0x27ff).to_le_bytes());
        dump.extend([0; 8]);
        dump.extend([start as u8 | 3; 0x2800]);
    }
    dump
}

fn core() -> Vec<u8> {
    let mut dump = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x04\0\x3e\0\x01\0\0\0".to_vec();
    dump.extend([0; 8]);
    dump.extend(64_u64.to_le_bytes());
    dump.extend([0; 8 + 4]);
    for half in [64_u16, 56, 3, 64, 0, 0] {
        dump.extend(half.to_le_bytes());
    }
    for index in 0..3_u64 {
        dump.extend([1, 0, 0, 0, 7, 0, 0, 0]);
        let numbers = [0x200 + index * 0x1800, index << 40, index * 0x1000, 0x1800, 0x2000, 0];
        for number in numbers {
            dump.extend(number.to_le_bytes());
        }
    }
    dump.resize(0x200 + 3 * 0x1800, 0x5a);
    dump
}

/// A VMware state with two regions of memory in it.
fn vmware() -> Vec<u8> {
    let mut tags = b"\x04\x0cregionsCount\x02\0\0\0".to_vec();
    for (index, region) in [[0_u32, 0, 2], [2, 16, 1]].into_iter().enumerate() {
        for (name, value) in ["regionPageNum", "regionPPN", "regionSize"].into_iter().zip(region) {
            tags.extend([0x44, name.len() as u8]);
            tags.extend(name.as_bytes());
            tags.extend((index as u32).to_le_bytes());
            tags.extend(value.to_le_bytes());
        }
    }
    tags.extend(b"\xbf\x06Memory\0\0\0\0\0\0\0\0");
    for _ in 0..2 {
        tags.extend(0x3000_u64.to_le_bytes());
    }
    tags.extend([2, 0, 0, 0]);
    tags.extend([0x5a; 0x3000]);
    tags.extend([0, 0]);
    let mut state = b"\xd2\xbe\xd2\xbe\x08\0\0\0\x01\0\0\0memory".to_vec();
    state.resize(12 + 64, 0);
    state.extend(92_u64.to_le_bytes());
    state.extend((tags.len() as u64).to_le_bytes());
    state.extend(tags);
    state
}

/// Xen's core of three pages: the sections of names, pages and page numbers.
fn xen_core() -> Vec<u8> {
    let names = b"\0.shstrtab\0.xen_pages\0.xen_pfn\0";
    let mut dump = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x04\0\x3e\0\x01\0\0\0".to_vec();
    dump.extend([0; 16]);
    dump.extend(64_u64.to_le_bytes());
    dump.extend([0; 4]);
    for half in [64_u16, 0, 0, 64, 3, 0] {
        dump.extend(half.to_le_bytes());
    }
    let sections =
        [(1_u32, 0x4018_u64, names.len() as u64), (11, 0x1000, 0x3000), (22, 0x4000, 24)];
    for (name, at, bytes) in sections {
        dump.extend(name.to_le_bytes());
        dump.extend([0; 20]);
        dump.extend(at.to_le_bytes());
        dump.extend(bytes.to_le_bytes());
        dump.extend([0; 24]);
    }
    dump.resize(0x1000, 0);
    dump.resize(0x4000, 0x5a);
    for number in [0_u64, 1, 0x10_0000] {
        dump.extend(number.to_le_bytes());
    }
    dump.extend(names);
    dump
}

/// Xen's save of two pages.
fn xen_save() -> Vec<u8> {
    let mut dump = b"Xen saved domain, xl format\n \0 \r".to_vec();
    dump.resize(32, 0);
    for word in [0x0102_0304_u32, 2, 0, 0] {
        dump.extend(word.to_le_bytes());
    }
    dump.extend(b"LibxlFmt\0\0\0\x02\0\0\0\0\x01\0\0\0\0\0\0\0");
    dump.extend(b"\xff\xff\xff\xff\xff\xff\xff\xffXENF\0\0\0\x03\0\0\0\0\0\0\0\0");
    dump.extend(b"\x02\0\0\0\x0c\0\0\0\x04\0\0\0\x11\0\0\0");
    dump.extend([1_u32, 8 + 2 * 8 + 0x2000, 2, 0].into_iter().flat_map(u32::to_le_bytes));
    dump.extend([3_u64, 0x10_0000].into_iter().flat_map(u64::to_le_bytes));
    dump.resize(dump.len() + 0x2000, 0x5a);
    dump.extend([0; 8]);
    dump
}

/// The header of a save image of libvirt, with the XML of a machine that has memory in slots.
fn saved() -> Vec<u8> {
    let xml = b"<domain type='kvm'><memory unit='KiB'>36</memory><devices>\
        <memory model='dimm'><target><size unit='KiB'>8192</size></target>\
        <address type='dimm' slot='0' base='0x100000000'/></memory>\
        <memory model='virtio-mem'><target><address base='0x140000000'/></target>\
        <alias name='ua-more'/><address type='pci' slot='0x03'/></memory></devices></domain>";
    let mut header = b"LibvirtQemudSave\x02\0\0\0".to_vec();
    header.extend((xml.len() as u32).to_le_bytes());
    header.resize(92, 0);
    header.extend(xml);
    header
}

/// Raw memory without the gap between its two ranges, which are in the kernel's list in it.
fn joined() -> Vec<u8> {
    let mut memory = vec![0x5a; 0xa000 - 0x400];
    for (index, range) in JOINED.iter().enumerate() {
        let sibling = 0xffff_8880_0000_2040 + index as u64 * 64;
        let words = [range.start, range.end - 1, u64::MAX << 20, 0x8100_0200, 0];
        let words = words.into_iter().chain([u64::MAX << 12, sibling, 0]);
        let at = 0x1000 + index * 64;
        let entry: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
        memory[at..at + 64].copy_from_slice(&entry);
    }
    memory
}

/// A migration stream with a record of each kind, or with the pages at places of their own.
fn qemu(is_mapped: bool) -> Vec<u8> {
    let mut stream = b"QEVM\0\0\0\x03\x07\0\0\0\x0apc-q35-9.2".to_vec();
    if is_mapped {
        stream.extend(b"\x05\x1aconfiguration/capabilities\0\0\0\x01\0\0\0\x01\x0amapped-ram");
    }
    stream.extend(b"\x01\0\0\0\x02\x03ram\0\0\0\0\0\0\0\x04");
    let blocks = [("pc.ram", 0x8000_u64), ("vga.vram", 0x1000)];
    stream.extend((0x9000_u64 | 4).to_be_bytes());
    for (name, bytes) in blocks {
        stream.push(name.len() as u8);
        stream.extend(name.as_bytes());
        stream.extend(bytes.to_be_bytes());
        if is_mapped {
            let at = stream.len() as u64 + 28;
            stream.extend(1_u32.to_be_bytes());
            for number in [PAGE_BYTES, at, at + 8] {
                stream.extend(number.to_be_bytes());
            }
            stream.extend(5_u64.to_le_bytes());
            stream.resize(stream.len() + bytes as usize, 0x5a);
        }
    }
    let end = 0x10_u64.to_be_bytes();
    stream.extend(end);
    stream.extend(b"\x7e\0\0\0\x02\x03\0\0\0\x02");
    if !is_mapped {
        stream.extend(0x1008_u64.to_be_bytes());
        stream.extend(b"\x06pc.ram");
        stream.resize(stream.len() + 4096, 0x5a);
        stream.extend(0x1060_u64.to_be_bytes());
        stream.extend(b"\x01\0\x04\x20\x02ab");
        stream.extend(0x2022_u64.to_be_bytes());
        stream.push(0);
        // zlib's form of 4096 bytes 7, from Python's zlib.
        let packed = PACKED_PAGE;
        stream.extend(0x3120_u64.to_be_bytes());
        stream.extend((packed.len() as u32).to_be_bytes());
        stream.extend(packed);
    }
    stream.extend(end);
    stream.extend(b"\x7e\0\0\0\x02");
    stream
}
