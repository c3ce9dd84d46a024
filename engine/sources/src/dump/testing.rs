//! Builders of dumps for tests.

use std::ops::Range;

use panoptes_decoders::source::PAGE_BYTES;

use super::codec::BlockCompression;

/// Packs one block as writers of dumps do.
pub(super) fn pack(how: BlockCompression, block: &[u8]) -> Vec<u8> {
    match how {
        BlockCompression::None => block.to_vec(),
        BlockCompression::Zlib => miniz_oxide::deflate::compress_to_vec_zlib(block, 1),
        BlockCompression::Lzo => lzokay::compress::compress(block).unwrap(),
        BlockCompression::Snappy => snap::raw::Encoder::new().compress_vec(block).unwrap(),
        BlockCompression::Zstd => {
            ruzstd::encoding::compress_to_vec(block, ruzstd::encoding::CompressionLevel::Fastest)
        }
    }
}

/// A page whose content differs from that of its neighbours.
pub(crate) fn page(number: u64) -> Vec<u8> {
    let pattern = |at: u64| (number * 37 + at / 16) as u8;
    (0..PAGE_BYTES).map(pattern).collect()
}

/// A core; `loads` are the physical address, the bytes, and the number of them that are in the
/// file.
pub(crate) fn core(loads: &[(u64, Vec<u8>, u64)], many: bool) -> Vec<u8> {
    let mut header = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let half = |header: &mut Vec<u8>, value: u16| header.extend(value.to_le_bytes());
    half(&mut header, 4);
    half(&mut header, 62);
    header.extend(1_u32.to_le_bytes());
    header.extend([0; 8]);
    header.extend(if many { 128_u64 } else { 64 }.to_le_bytes());
    header.extend(if many { 64_u64 } else { 0 }.to_le_bytes());
    header.extend([0; 4]);
    half(&mut header, 64);
    half(&mut header, 56);
    half(&mut header, if many { 0xffff } else { loads.len() as u16 });
    for value in [64, u16::from(many), 0] {
        half(&mut header, value);
    }
    if many {
        header.extend([0; 44]);
        header.extend((loads.len() as u32).to_le_bytes());
        header.extend([0; 16]);
    }
    let mut at = (header.len() + loads.len() * 56) as u64;
    let mut bytes: Vec<u8> = Vec::new();
    for (physical, memory, filed) in loads {
        header.extend(1_u32.to_le_bytes());
        header.extend(7_u32.to_le_bytes());
        let virtual_address = 0xffff_8880_0000_0000_u64.wrapping_add(*physical);
        for value in [at, virtual_address, *physical, *filed, memory.len() as u64, 0] {
            header.extend(value.to_le_bytes());
        }
        bytes.extend(&memory[..*filed as usize]);
        at += filed;
    }
    header.extend(bytes);
    header
}

pub(crate) fn pages(range: Range<u64>) -> Vec<u8> {
    range.flat_map(page).collect()
}

/// A writer of QEMU's migration streams.
pub(crate) mod stream {
    /// A record of the section of memory: pages by their number.
    #[derive(Clone, Copy)]
    pub(crate) enum RamRecord<'a> {
        End,
        Plain(&'a str, u64, &'a [u8]),
        /// In the block of the record before: a page, or one of zeros.
        Same(u64, Option<&'a [u8]>),
        Filled(u64, u8),
        Packed(&'a str, u64, &'a [u8]),
        Changed(u64, &'a [u8]),
    }

    /// The bytes, and whether sections have footers.
    pub(crate) struct MigrationWriter(pub(crate) Vec<u8>, pub(crate) bool);

    fn name(bytes: &mut Vec<u8>, name: &str) {
        bytes.push(name.len() as u8);
        bytes.extend(name.as_bytes());
    }

    impl MigrationWriter {
        pub(crate) fn new(machine: Option<&str>) -> Self {
            let mut writer = Self(b"QEVM\0\0\0\x03".to_vec(), true);
            if let Some(machine) = machine {
                writer.configuration(machine, &[]);
            }
            writer
        }

        pub(crate) fn configuration(&mut self, machine: &str, capabilities: &[&str]) {
            self.0.push(7);
            self.0.extend((machine.len() as u32).to_be_bytes());
            self.0.extend(machine.as_bytes());
            if !capabilities.is_empty() {
                self.0.push(5);
                name(&mut self.0, "configuration/capabilities");
                self.0.extend(1_u32.to_be_bytes());
                self.0.extend((capabilities.len() as u32).to_be_bytes());
                for one in capabilities {
                    name(&mut self.0, one);
                }
            }
        }

        pub(crate) fn start(
            &mut self,
            id: u32,
            called: &str,
            version: u32,
            data: impl FnOnce(&mut Self),
        ) {
            self.0.push(1);
            self.0.extend(id.to_be_bytes());
            name(&mut self.0, called);
            self.0.extend(0_u32.to_be_bytes());
            self.0.extend(version.to_be_bytes());
            data(self);
            self.footer(id);
        }

        pub(crate) fn part(&mut self, id: u32, is_last: bool, data: impl FnOnce(&mut Self)) {
            self.0.push(if is_last { 3 } else { 2 });
            self.0.extend(id.to_be_bytes());
            data(self);
            self.footer(id);
        }

        fn footer(&mut self, id: u32) {
            if self.1 {
                self.0.push(0x7e);
                self.0.extend(id.to_be_bytes());
            }
        }

        /// The list of blocks; `more` adds what stands behind each.
        pub(crate) fn list(
            &mut self,
            blocks: &[(&str, u64)],
            mut more: impl FnMut(&mut Self, (&str, u64)),
        ) {
            let sum: u64 = blocks.iter().map(|block| block.1).sum();
            self.0.extend((sum | 4).to_be_bytes());
            for &(called, bytes) in blocks {
                name(&mut self.0, called);
                self.0.extend(bytes.to_be_bytes());
                more(self, (called, bytes));
            }
        }

        pub(crate) fn record(&mut self, record: RamRecord<'_>) {
            let word = |number: u64, flags: u64| (number << 12 | flags).to_be_bytes();
            match record {
                RamRecord::End => self.0.extend(0x10_u64.to_be_bytes()),
                RamRecord::Plain(block, number, bytes) => {
                    self.0.extend(word(number, 8));
                    name(&mut self.0, block);
                    self.0.extend(bytes);
                }
                RamRecord::Same(number, Some(bytes)) => {
                    self.0.extend(word(number, 0x28));
                    self.0.extend(bytes);
                }
                RamRecord::Same(number, None) => {
                    self.0.extend(word(number, 0x22));
                    self.0.push(0);
                }
                RamRecord::Filled(number, byte) => {
                    self.0.extend(word(number, 0x22));
                    self.0.push(byte);
                }
                RamRecord::Packed(block, number, bytes) => {
                    self.0.extend(word(number, 0x100));
                    name(&mut self.0, block);
                    self.0.extend((bytes.len() as u32).to_be_bytes());
                    self.0.extend(bytes);
                }
                RamRecord::Changed(number, bytes) => {
                    self.0.extend(word(number, 0x60));
                    self.0.push(1);
                    self.0.extend((bytes.len() as u16).to_be_bytes());
                    self.0.extend(bytes);
                }
            }
        }
    }
}

/// A VMware state with regions (page in the image, physical page, pages), and possibly with the
/// memory in it.
pub(crate) fn vmware_state(regions: &[[u32; 3]], inside: Option<&[u8]>) -> Vec<u8> {
    let mut tags = Vec::new();
    let mut number = |name: &str, index: Option<u32>, value: u32| {
        tags.push(4 | if index.is_some() { 0x40 } else { 0 });
        tags.push(name.len() as u8);
        tags.extend(name.as_bytes());
        tags.extend(index.into_iter().flat_map(u32::to_le_bytes));
        tags.extend(value.to_le_bytes());
    };
    number("regionsCount", None, regions.len() as u32);
    for (index, [in_image, physical, count]) in regions.iter().enumerate() {
        number("regionPageNum", Some(index as u32), *in_image);
        number("regionPPN", Some(index as u32), *physical);
        number("regionSize", Some(index as u32), *count);
    }
    number("align_mask", Some(0), 0xffff);
    if let Some(memory) = inside {
        tags.extend([63 | 0x80, 6]);
        tags.extend(b"Memory");
        tags.extend([0; 8]);
        tags.extend((memory.len() as u64).to_le_bytes());
        tags.extend((memory.len() as u64).to_le_bytes());
        tags.extend(3_u16.to_le_bytes());
        tags.extend([0; 3]);
        tags.extend(memory);
    }
    tags.extend([0, 0]);
    let mut state = b"\xd2\xbe\xd2\xbe\x08\0\0\0\x02\0\0\0".to_vec();
    for (name, at, bytes) in [("cpu", 172, 0), ("memory", 172, tags.len() as u64)] {
        let begin = state.len();
        state.extend(name.as_bytes());
        state.resize(begin + 64, 0);
        state.extend(u64::to_le_bytes(at));
        state.extend(bytes.to_le_bytes());
    }
    state.extend(tags);
    state
}
