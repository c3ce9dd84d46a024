//! VMware's state of a suspended machine (`.vmss`) or of a snapshot (`.vmsn`): which memory is
//! where, in it or in the `.vmem` beside it.
//!
//! Sources: crash's vmware_vmss.c, written by VMware, and Volatility's vmware.py. A header of 12
//! bytes, groups of 80 bytes each with the place of its tags, and tags: sizes, a name, up to three
//! indices, a value. Little endian. The group `memory` has three numbers for each region of memory:
//! its first page in the image, its first physical page, its pages. Memory without regions is one
//! piece from address 0.

use panoptes_decoders::layout::{u32_at, u64_at};
use panoptes_decoders::source::PAGE_BYTES;

use super::bytes::DumpBytes;
use super::{DumpProblem, DumpedRange, Segments};

const HEADER_BYTES: u64 = 12;
const GROUP_BYTES: usize = 80;
const GROUP_NAME_BYTES: usize = 64;
/// Maximum number of groups; machines have about 60.
const VMWARE_GROUPS_MAX: u32 = 4096;
/// Maximum number of regions; machines have two or three.
const VMWARE_REGIONS_MAX: usize = 1024;
/// Maximum number of tags in the group `memory`.
const TAGS_MAX: usize = 1 << 16;

/// Sizes of values that stand for blocks with their own sizes (vmware_vmss.h: TAG_VALSIZE_MASK).
const COMPRESSED: u8 = 62;
const BLOCK: u8 = 63;

const DAMAGED: DumpProblem = DumpProblem::Header("its group of memory has a broken tag");

/// A region of memory, in pages.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Region {
    in_image: u64,
    physical: u64,
    pages: u64,
}

/// What a state file knows of the memory.
#[derive(Debug)]
pub(crate) struct VmwareState {
    regions: Vec<Region>,
    /// Offset and bytes of the memory in this file; `None` if it is in the `.vmem`.
    own_memory: Option<(u64, u64)>,
}

impl VmwareState {
    /// Reads a state file.
    pub(crate) fn read(file: &DumpBytes) -> Result<Self, DumpProblem> {
        let mut header = [0; HEADER_BYTES as usize];
        if !file.read(0, &mut header) {
            return Err(DumpProblem::Headers);
        }
        // The magic number of old files, whose blocks have 32-bit sizes, ends with 0.
        let is_wide = header[0] & 0xf != 0;
        let count = u32_at(&header, 8);
        if count > VMWARE_GROUPS_MAX {
            return Err(DumpProblem::TooLarge("groups"));
        }
        for index in 0..count {
            let mut group = [0; GROUP_BYTES];
            if !file.read(HEADER_BYTES + u64::from(index) * GROUP_BYTES as u64, &mut group) {
                return Err(DumpProblem::Headers);
            }
            if group[..GROUP_NAME_BYTES].starts_with(b"memory\0") {
                return Self::read_tags(file, u64_at(&group, GROUP_NAME_BYTES), is_wide);
            }
        }
        Err(DumpProblem::Header("it has no group of memory"))
    }

    fn read_tags(file: &DumpBytes, mut at: u64, is_wide: bool) -> Result<Self, DumpProblem> {
        let mut state = Self { regions: Vec::new(), own_memory: None };
        let mut count = 0;
        for _ in 0..TAGS_MAX {
            // A file that was cut within its memory has no tags behind it.
            let is_cut = state.own_memory.is_some() && at >= file.len();
            let tag = if is_cut { None } else { Tag::read(file, at, is_wide)? };
            let Some(tag) = tag else {
                state.regions.truncate(count);
                state.regions.retain(|region| region.pages > 0);
                return Ok(state);
            };
            at = tag.end;
            let index = tag.indices[0] as usize;
            match (tag.name(), tag.value) {
                (b"regionsCount", VmwareTagValue::Number(number)) => {
                    count = number as usize;
                    if count > VMWARE_REGIONS_MAX {
                        return Err(DumpProblem::TooLarge("regions of memory"));
                    }
                }
                (b"Memory", VmwareTagValue::Block { at, bytes }) if state.own_memory.is_none() => {
                    state.own_memory = Some((at, bytes));
                }
                (b"Memory", VmwareTagValue::Compressed) => {
                    return Err(DumpProblem::Unsupported(
                        "its memory is compressed; suspend the machine with \
                         `mainMem.useNamedFile = \"TRUE\"` and give the .vmem file",
                    ));
                }
                (name, VmwareTagValue::Number(number)) if index < VMWARE_REGIONS_MAX => {
                    state.set(name, index, number.into());
                }
                _ => {}
            }
        }
        Err(DumpProblem::TooLarge("tags"))
    }

    fn set(&mut self, name: &[u8], index: usize, number: u64) {
        if !matches!(name, b"regionPageNum" | b"regionPPN" | b"regionSize") {
            return;
        }
        if self.regions.len() <= index {
            self.regions.resize(index + 1, Region::default());
        }
        let region = &mut self.regions[index];
        match name {
            b"regionPageNum" => region.in_image = number,
            b"regionPPN" => region.physical = number,
            _ => region.pages = number,
        }
    }

    /// Whether the memory is in the state file itself.
    pub(crate) fn has_memory(&self) -> bool {
        self.own_memory.is_some()
    }

    /// Size in bytes of the `.vmem` that belongs to this state; `None` if it does not tell.
    pub(crate) fn image_bytes(&self) -> Option<u64> {
        let ends = self.regions.iter().map(|region| (region.in_image + region.pages) * PAGE_BYTES);
        ends.max()
    }

    /// Which memory is where in a file of `file_bytes` bytes: the state file itself if the memory
    /// is in it, or else the `.vmem`.
    pub(crate) fn segments(&self, file_bytes: u64) -> Result<Segments, DumpProblem> {
        let (base, bytes) = self.own_memory.unwrap_or((0, file_bytes));
        let mut pieces: Vec<DumpedRange> = Vec::new();
        for region in &self.regions {
            // Numbers of 32 bits: no product wraps.
            let [offset, start, length] =
                [region.in_image, region.physical, region.pages].map(|pages| pages * PAGE_BYTES);
            // No region has what stands behind the memory in the state.
            let filed = match self.own_memory {
                Some(_) => length.min(bytes.saturating_sub(offset)),
                None => length,
            };
            let offset = base.checked_add(offset).ok_or(DAMAGED)?;
            pieces.push(DumpedRange { start, bytes: length, offset, filed });
        }
        if pieces.is_empty() {
            pieces.push(DumpedRange { start: 0, bytes, offset: base, filed: bytes });
        }
        pieces.sort_by_key(|piece| piece.start);
        if pieces.windows(2).any(|pair| pair[0].start + pair[0].bytes > pair[1].start) {
            return Err(DumpProblem::Header("two of its regions of memory overlap"));
        }
        let (segments, regions, lacks) = super::segments(pieces, file_bytes);
        if segments.is_empty() {
            return Err(DumpProblem::NoMemory);
        }
        Ok((segments, regions, lacks))
    }
}

#[derive(Clone, Copy, Debug)]
enum VmwareTagValue {
    /// A value of four bytes.
    Number(u32),
    Block {
        at: u64,
        bytes: u64,
    },
    Compressed,
    Other,
}

#[derive(Debug)]
struct Tag {
    name: [u8; 255],
    name_bytes: usize,
    indices: [u32; 3],
    value: VmwareTagValue,
    /// Offset of the next tag.
    end: u64,
}

impl Tag {
    fn name(&self) -> &[u8] {
        &self.name[..self.name_bytes]
    }

    /// Reads the tag at an offset; `None` behind the last one.
    fn read(file: &DumpBytes, at: u64, is_wide: bool) -> Result<Option<Self>, DumpProblem> {
        let mut cursor = VmwareCursor { file, at };
        let [sizes, name_bytes] = cursor.bytes::<2>()?;
        if sizes == 0 && name_bytes == 0 {
            return Ok(None);
        }
        let mut tag = Self {
            name: [0; 255],
            name_bytes: name_bytes.into(),
            indices: [0; 3],
            value: VmwareTagValue::Other,
            end: 0,
        };
        cursor.fill(&mut tag.name[..usize::from(name_bytes)])?;
        for index in &mut tag.indices[..usize::from(sizes >> 6)] {
            *index = u32::from_le_bytes(cursor.bytes::<4>()?);
        }
        tag.value = match sizes & 0x3f {
            4 => VmwareTagValue::Number(u32::from_le_bytes(cursor.bytes::<4>()?)),
            size @ (BLOCK | COMPRESSED) => {
                let bytes = if is_wide {
                    let sizes = cursor.bytes::<16>()?;
                    u64_at(&sizes, 0)
                } else {
                    let sizes = cursor.bytes::<8>()?;
                    u32_at(&sizes, 0).into()
                };
                let padding = u16::from_le_bytes(cursor.bytes::<2>()?);
                cursor.skip(padding.into())?;
                let at = cursor.at;
                cursor.skip(bytes)?;
                if size == BLOCK {
                    VmwareTagValue::Block { at, bytes }
                } else {
                    VmwareTagValue::Compressed
                }
            }
            size => {
                cursor.skip(size.into())?;
                VmwareTagValue::Other
            }
        };
        tag.end = cursor.at;
        Ok(Some(tag))
    }
}

/// A place in the file.
struct VmwareCursor<'f> {
    file: &'f DumpBytes,
    at: u64,
}

impl VmwareCursor<'_> {
    fn fill(&mut self, target: &mut [u8]) -> Result<(), DumpProblem> {
        if !self.file.read(self.at, target) {
            return Err(DAMAGED);
        }
        self.skip(target.len() as u64)
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], DumpProblem> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn skip(&mut self, bytes: u64) -> Result<(), DumpProblem> {
        self.at = self.at.checked_add(bytes).ok_or(DAMAGED)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use panoptes_decoders::address::PhysicalAddress;
    use panoptes_decoders::source::{MachineSource as _, MemorySource as _};

    use super::super::testing::{page, pages, vmware_state};
    use crate::{DetectedFormat, FileSource, Lacks};

    fn write(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    #[track_caller]
    fn check(source: &mut FileSource, address: u64, number: u64) {
        let mut bytes = [0; 4096];
        assert!(source.read_exact(PhysicalAddress(address), &mut bytes), "{address:#x}");
        assert!(bytes == *page(number), "{address:#x}");
    }

    /// Six pages at 0 and four at 64 KiB.
    const REGIONS: [[u32; 3]; 2] = [[0, 0, 6], [6, 16, 4]];

    #[test]
    fn a_vmem_has_the_addresses_of_its_partner() {
        for ending in ["vmss", "vmsn"] {
            let folder = tempfile::tempdir().unwrap();
            let memory = write(folder.path(), "web-1.vmem", &pages(0..10));
            let state =
                write(folder.path(), &format!("web-1.{ending}"), &vmware_state(&REGIONS, None));
            for path in [memory, state] {
                let mut source = FileSource::open(&path).unwrap();
                assert_eq!(source.format(), DetectedFormat::Vmware);
                assert_eq!(source.lacks(), Lacks::default());
                assert_eq!(source.regions(), [0..0x6000, 0x1_0000..0x1_4000]);
                check(&mut source, 0x5000, 5);
                check(&mut source, 0x1_0000, 6);
                check(&mut source, 0x1_3000, 9);
            }
        }
    }

    #[test]
    fn memory_inside_the_state_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let state = vmware_state(&REGIONS, Some(&pages(0..10)));
        let path = write(folder.path(), "web-1.vmss", &state);
        let mut source = FileSource::open(&path).unwrap();
        check(&mut source, 0x1_2000, 8);
        let flat = vmware_state(&[], Some(&pages(0..3)));
        let path = write(folder.path(), "flat.vmsn", &flat);
        let mut source = FileSource::open(&path).unwrap();
        assert_eq!(source.regions(), std::slice::from_ref(&(0..0x3000)));
        check(&mut source, 0x2000, 2);
        let path = write(folder.path(), "cut.vmss", &state[..state.len() - 2 - 8192]);
        assert_eq!(FileSource::open(&path).unwrap().lacks().cut_short, 8192);
    }

    #[test]
    fn a_region_has_no_bytes_behind_the_memory_in_the_state() {
        let folder = tempfile::tempdir().unwrap();
        let mut state = vmware_state(&[[0, 0, 6], [6, 16, 9]], Some(&pages(0..10)));
        state.resize(state.len() + 10 * 4096, 7);
        let path = write(folder.path(), "web-1.vmss", &state);
        let mut source = FileSource::open(&path).unwrap();
        check(&mut source, 0x1_3000, 9);
        assert!(!source.read_exact(PhysicalAddress(0x1_4000), &mut [0; 8]));
        assert_eq!(source.lacks(), Lacks { left_out: 5 * 4096, ..Lacks::default() });
    }

    #[test]
    fn a_vmem_alone_is_raw_and_the_guess_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path(), "web-1.vmem", &pages(0..10));
        let source = FileSource::open(&path).unwrap();
        assert_eq!((source.format(), source.layouts()), (DetectedFormat::Raw, 1));
        assert!(source.lacks().to_string().contains("no .vmss or .vmsn beside it"));
        // The state of another snapshot.
        write(folder.path(), "web-1.vmss", &vmware_state(&[[0, 0, 3]], None));
        let source = FileSource::open(&path).unwrap();
        assert!(source.lacks().to_string().contains("of another size"), "{}", source.lacks());
    }

    #[test]
    fn a_state_without_memory_is_refused_by_its_reason() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |name, bytes: &[u8]| {
            FileSource::open(&write(folder.path(), name, bytes)).unwrap_err().to_string()
        };
        let state = vmware_state(&REGIONS, None);
        assert!(refused("a.vmss", &state).contains("its memory is in a .vmem file"));
        assert!(refused("b.vmss", &state[..50]).contains("ends before its headers"));
        assert!(refused("c.vmss", &state[..200]).contains("broken tag"));
        let overlap = vmware_state(&[[0, 0, 6], [6, 3, 4]], Some(&pages(0..10)));
        assert!(refused("d.vmss", &overlap).contains("overlap"));
        let mut packed = vmware_state(&REGIONS, Some(&pages(0..10)));
        // The value size of the tag `Memory`.
        let tag = packed.windows(6).position(|bytes| bytes == b"Memory").unwrap() - 2;
        packed[tag] -= 1;
        assert!(refused("e.vmss", &packed).contains("is compressed"));
    }
}
