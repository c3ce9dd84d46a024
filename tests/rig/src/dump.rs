//! Writers of dumps from a paused guest's memory file: the formats that QEMU does not write.

use std::fs::File;
use std::io::{BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::iter;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::error::{Error, Result};
use crate::flavor::Architecture;
use crate::guest::Guest;

const PAGE: usize = 4096;
/// Maximum time for one dump by QEMU.
const DUMP_TIMEOUT: Duration = Duration::from_mins(4);

/// A guest's memory, which has no hole.
#[derive(Clone, Copy, Debug)]
pub struct Ram<'a> {
    pub file: &'a Path,
    pub architecture: Architecture,
}

/// A range of the file with what the kernel considers RAM, and its physical address.
struct Part {
    file: Range<u64>,
    address: u64,
}

impl Ram<'_> {
    /// Physical address at which the memory begins (QEMU, hw/arm/virt.c).
    const fn base(self) -> u64 {
        match self.architecture {
            Architecture::Amd64 => 0,
            Architecture::Arm64 => 1 << 30,
        }
    }

    /// What the kernel considers RAM. On a PC, that is neither the first page nor the BIOS's
    /// megabyte.
    fn parts(self, bytes: u64) -> Vec<Part> {
        let (low, begin) = match self.architecture {
            Architecture::Amd64 => (Some(0x1000..0x9_f000), 0x10_0000),
            Architecture::Arm64 => (None, 0),
        };
        let part = |file: Range<u64>| Part { address: self.base() + file.start, file };
        low.into_iter().chain(iter::once(begin..bytes)).map(part).collect()
    }

    /// Opens the file; returns its size, too.
    fn open(self) -> Result<(File, u64)> {
        let failed = |error| Error::io("read the memory of", self.file, &error);
        let file = File::open(self.file).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        Ok((file, bytes))
    }
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> Error + '_ {
    move |error| Error::io("write a dump to", path, &error)
}

/// Makes QEMU write a dump; `format` is one of its names, `None` for an ELF core.
pub fn by_qemu(guest: &mut Guest, path: &Path, format: Option<&str>, paging: bool) -> Result<()> {
    let mut arguments = json!({
        "protocol": format!("file:{}", path.display()),
        "paging": paging,
        "detach": true,
    });
    if let Some(format) = format {
        arguments["format"] = format.into();
    }
    guest.qmp("dump-guest-memory", Some(&arguments))?;
    let deadline = Instant::now() + DUMP_TIMEOUT;
    loop {
        let state = guest.qmp("query-dump", None)?;
        match state["status"].as_str() {
            Some("completed") => return Ok(()),
            Some("active") if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(100));
            }
            _ => return Err(Error::new(format!("QEMU did not finish its dump: {state}"))),
        }
    }
}

/// Makes QEMU write a migration stream, as libvirt's `save` does. The guest cannot continue.
pub fn stream(guest: &mut Guest, path: &Path) -> Result<()> {
    let uri = json!({ "uri": format!("exec:cat > {}", path.display()) });
    guest.qmp("migrate", Some(&uri))?;
    let deadline = Instant::now() + DUMP_TIMEOUT;
    loop {
        let state = guest.qmp("query-migrate", None)?;
        match state["status"].as_str() {
            Some("completed") => return Ok(()),
            Some("failed" | "cancelled") => {
                return Err(Error::new(format!("QEMU did not write its stream: {state}")));
            }
            _ if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(100)),
            _ => return Err(Error::new(format!("QEMU did not finish its stream: {state}"))),
        }
    }
}

/// Writes the ranges of memory one after another, as LiME's `format=raw` does.
pub fn joined(ram: Ram<'_>, path: &Path) -> Result<()> {
    let failed = failed(path);
    let (mut memory, bytes) = ram.open()?;
    let mut out = File::create(path).map_err(&failed)?;
    for Part { file, .. } in ram.parts(bytes) {
        append(&mut memory, file, &mut out).map_err(&failed)?;
    }
    Ok(())
}

fn append(
    memory: &mut File,
    range: Range<u64>,
    out: &mut impl std::io::Write,
) -> std::io::Result<()> {
    memory.seek(SeekFrom::Start(range.start))?;
    std::io::copy(&mut memory.take(range.end - range.start), out).map(|_| ())
}

/// Bytes of an ELF64 header, and of one program header.
const ELF_HEADER: usize = 64;
const ELF_SEGMENT: usize = 56;

/// Writes an ELF core with a segment for each range, as `/proc/vmcore` is copied.
pub fn elf(ram: Ram<'_>, path: &Path) -> Result<()> {
    let failed = failed(path);
    let (mut memory, bytes) = ram.open()?;
    let parts = ram.parts(bytes);
    let machine: u16 = match ram.architecture {
        Architecture::Amd64 => 62,
        Architecture::Arm64 => 183,
    };
    // 64 bits, little-endian, version 1; a core (ELF-64 Object File Format, 1.5).
    let mut head = b"\x7fELF\x02\x01\x01".to_vec();
    head.resize(16, 0);
    for half in [4, machine] {
        head.extend(half.to_le_bytes());
    }
    head.extend(1_u32.to_le_bytes());
    // The entry, the program headers, the section headers.
    for word in [0, ELF_HEADER as u64, 0] {
        head.extend(word.to_le_bytes());
    }
    head.extend(0_u32.to_le_bytes());
    for half in [ELF_HEADER, ELF_SEGMENT, parts.len(), 0, 0, 0] {
        head.extend((half as u16).to_le_bytes());
    }
    let mut at = PAGE as u64;
    for Part { file, address } in &parts {
        let length = file.end - file.start;
        // PT_LOAD, readable, writable, and executable.
        head.extend(1_u32.to_le_bytes());
        head.extend(7_u32.to_le_bytes());
        for word in [at, 0, *address, length, length, PAGE as u64] {
            head.extend(word.to_le_bytes());
        }
        at += length;
    }
    head.resize(PAGE, 0);
    let mut out = File::create(path).map_err(&failed)?;
    out.write_all(&head).map_err(&failed)?;
    for Part { file, .. } in parts {
        append(&mut memory, file, &mut out).map_err(&failed)?;
    }
    Ok(())
}

/// Writes a LiME dump (`version` 1), or AVML's with its compression (`version` 2).
pub fn lime(ram: Ram<'_>, path: &Path, version: u32) -> Result<()> {
    let failed = failed(path);
    let (mut memory, bytes) = ram.open()?;
    let mut out = BufWriter::new(File::create(path).map_err(&failed)?);
    for Part { file, address } in ram.parts(bytes) {
        let mut header = if version == 1 { b"EMiL".to_vec() } else { b"AVML".to_vec() };
        header.extend(version.to_le_bytes());
        header.extend(address.to_le_bytes());
        header.extend((address + (file.end - file.start) - 1).to_le_bytes());
        header.extend([0; 8]);
        out.write_all(&header).map_err(&failed)?;
        if version == 1 {
            append(&mut memory, file, &mut out).map_err(&failed)?;
            continue;
        }
        let begin = out.stream_position().map_err(&failed)?;
        let mut packer = snap::write::FrameEncoder::new(&mut out);
        append(&mut memory, file, &mut packer).map_err(&failed)?;
        packer.flush().map_err(&failed)?;
        drop(packer);
        let length = out.stream_position().map_err(&failed)? - begin;
        out.write_all(&length.to_le_bytes()).map_err(&failed)?;
    }
    out.flush().map_err(&failed)
}

/// The compression of a kdump-compressed dump. Debian's QEMU writes zlib alone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Packing {
    /// As by makedumpfile's `-c`.
    Zlib,
    /// As by makedumpfile's `-l`.
    Lzo,
    /// As by makedumpfile's `-p`.
    Snappy,
    /// As by makedumpfile's `-z`, from 1.7.1 on.
    Zstd,
}

impl Packing {
    /// DUMP_DH_COMPRESSED_… of makedumpfile's diskdump_mod.h.
    const fn flag(self) -> u32 {
        match self {
            Self::Zlib => 1,
            Self::Lzo => 2,
            Self::Snappy => 4,
            Self::Zstd => 0x20,
        }
    }

    fn pack(self, page: &[u8]) -> Result<Vec<u8>> {
        match self {
            Self::Zlib => Ok(miniz_oxide::deflate::compress_to_vec_zlib(page, 1)),
            Self::Lzo => lzokay::compress::compress(page)
                .map_err(|error| Error::new(format!("cannot pack a page with LZO: {error:?}"))),
            Self::Snappy => snap::raw::Encoder::new()
                .compress_vec(page)
                .map_err(|error| Error::new(format!("cannot pack a page with snappy: {error}"))),
            Self::Zstd => Ok(ruzstd::encoding::compress_to_vec(
                page,
                ruzstd::encoding::CompressionLevel::Fastest,
            )),
        }
    }
}

/// Writes a kdump-compressed dump.
pub fn kdump(ram: Ram<'_>, path: &Path, packing: Packing) -> Result<()> {
    let failed = failed(path);
    let (memory, bytes) = ram.open()?;
    let base = ram.base() as usize / PAGE;
    let pages = base + bytes as usize / PAGE;
    let ranges = ram.parts(bytes).into_iter().map(|part| part.file);
    let present: Vec<usize> =
        ranges.flat_map(|r| base + r.start as usize / PAGE..base + r.end as usize / PAGE).collect();
    let machine: &[u8] = match ram.architecture {
        Architecture::Amd64 => b"x86_64",
        Architecture::Arm64 => b"aarch64",
    };
    let bitmap_blocks = pages.div_ceil(8).div_ceil(PAGE);
    let mut head = vec![0; (2 + 2 * bitmap_blocks) * PAGE];
    let mut put = |at: usize, bytes: &[u8]| head[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"KDUMP   \x06\0\0\0");
    put(12 + 4 * 65, machine);
    // Status (the compression), block size, blocks of the sub-header and of the bitmaps, pages.
    let fields = [packing.flag(), PAGE as u32, 1, 2 * bitmap_blocks as u32, pages as u32];
    for (index, field) in fields.iter().enumerate() {
        put(424 + 4 * index, &field.to_le_bytes());
    }
    put(PAGE + 96, &(pages as u64).to_le_bytes());
    for page in &present {
        head[2 * PAGE + page / 8] |= 1 << (page % 8);
        head[(2 + bitmap_blocks) * PAGE + page / 8] |= 1 << (page % 8);
    }
    let out = File::create(path).map_err(&failed)?;
    out.write_all_at(&head, 0).map_err(&failed)?;
    let zeros_at = (head.len() + present.len() * 24) as u64;
    out.write_all_at(&[0; PAGE], zeros_at).map_err(&failed)?;
    let mut descriptors = Vec::with_capacity(present.len() * 24);
    let mut data = BufWriter::with_capacity(1 << 20, &out);
    let mut at = zeros_at + PAGE as u64;
    data.seek(SeekFrom::Start(at)).map_err(&failed)?;
    let mut page = [0; PAGE];
    for number in present {
        memory.read_exact_at(&mut page, ((number - base) * PAGE) as u64).map_err(&failed)?;
        let (offset, size, flags) = if page.iter().all(|byte| *byte == 0) {
            (zeros_at, PAGE, 0_u32)
        } else {
            let packed = packing.pack(&page)?;
            // A page that does not get smaller is stored as it is.
            let (bytes, flags) =
                if packed.len() < PAGE { (&packed[..], packing.flag()) } else { (&page[..], 0) };
            data.write_all(bytes).map_err(&failed)?;
            at += bytes.len() as u64;
            (at - bytes.len() as u64, bytes.len(), flags)
        };
        descriptors.extend(offset.to_le_bytes());
        descriptors.extend((size as u32).to_le_bytes());
        descriptors.extend(flags.to_le_bytes());
        descriptors.extend([0; 8]);
    }
    data.flush().map_err(&failed)?;
    drop(data);
    out.write_all_at(&descriptors, head.len() as u64).map_err(&failed)
}

/// Rearranges a flattened dump, as `makedumpfile -R` does.
pub fn unflatten(flat: &Path, path: &Path) -> Result<()> {
    let failed = failed(path);
    let mut file = File::open(flat).map_err(&failed)?;
    let out = File::create(path).map_err(&failed)?;
    file.seek(SeekFrom::Start(PAGE as u64)).map_err(&failed)?;
    let mut file = std::io::BufReader::with_capacity(1 << 20, file);
    loop {
        let mut head = [0; 16];
        file.read_exact(&mut head).map_err(&failed)?;
        let number = |at: usize| head[at..at + 8].try_into().map_or(0, i64::from_be_bytes);
        let (Ok(offset), Ok(size)) = (u64::try_from(number(0)), usize::try_from(number(8))) else {
            return Ok(());
        };
        let mut bytes = vec![0; size];
        file.read_exact(&mut bytes).map_err(&failed)?;
        out.write_all_at(&bytes, offset).map_err(&failed)?;
    }
}
