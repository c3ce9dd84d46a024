//! Writers of dumps from a paused guest's memory file: the formats that QEMU does not write.

use std::fs::File;
use std::io::{BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::error::{Error, Result};
use crate::guest::Guest;

const PAGE: usize = 4096;
/// Maximum time for one dump by QEMU.
const DUMP_TIMEOUT: Duration = Duration::from_mins(4);

/// What the kernel considers RAM on a machine without a hole: neither the first page nor the BIOS's
/// megabyte.
fn ranges(bytes: u64) -> [Range<u64>; 2] {
    [0x1000..0x9_f000, 0x10_0000..bytes]
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

/// Makes QEMU write a migration stream, as libvirt's `save` does. The guest cannot go on.
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
pub fn joined(ram: &Path, path: &Path) -> Result<()> {
    let failed = failed(path);
    let mut memory = File::open(ram).map_err(&failed)?;
    let bytes = memory.metadata().map_err(&failed)?.len();
    let mut out = File::create(path).map_err(&failed)?;
    for range in ranges(bytes) {
        memory.seek(SeekFrom::Start(range.start)).map_err(&failed)?;
        std::io::copy(&mut (&memory).take(range.end - range.start), &mut out).map_err(&failed)?;
    }
    Ok(())
}

/// Writes a LiME dump (`version` 1), or AVML's with its compression (`version` 2).
pub fn lime(ram: &Path, path: &Path, version: u32) -> Result<()> {
    let failed = failed(path);
    let mut memory = File::open(ram).map_err(&failed)?;
    let bytes = memory.metadata().map_err(&failed)?.len();
    let mut out = BufWriter::new(File::create(path).map_err(&failed)?);
    for range in ranges(bytes) {
        let mut header = if version == 1 { b"EMiL".to_vec() } else { b"AVML".to_vec() };
        header.extend(version.to_le_bytes());
        header.extend(range.start.to_le_bytes());
        header.extend((range.end - 1).to_le_bytes());
        header.extend([0; 8]);
        out.write_all(&header).map_err(&failed)?;
        memory.seek(SeekFrom::Start(range.start)).map_err(&failed)?;
        let mut part = (&memory).take(range.end - range.start);
        if version == 1 {
            std::io::copy(&mut part, &mut out).map_err(&failed)?;
            continue;
        }
        let begin = out.stream_position().map_err(&failed)?;
        let mut packer = snap::write::FrameEncoder::new(&mut out);
        std::io::copy(&mut part, &mut packer).map_err(&failed)?;
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
pub fn kdump(ram: &Path, path: &Path, packing: Packing) -> Result<()> {
    let failed = failed(path);
    let memory = File::open(ram).map_err(&failed)?;
    let bytes = memory.metadata().map_err(&failed)?.len();
    let pages = bytes as usize / PAGE;
    let present: Vec<usize> = ranges(bytes)
        .into_iter()
        .flat_map(|r| r.start as usize / PAGE..r.end as usize / PAGE)
        .collect();
    let bitmap_blocks = pages.div_ceil(8).div_ceil(PAGE);
    let mut head = vec![0; (2 + 2 * bitmap_blocks) * PAGE];
    let mut put = |at: usize, bytes: &[u8]| head[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"KDUMP   \x06\0\0\0");
    put(12 + 4 * 65, b"x86_64");
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
        memory.read_exact_at(&mut page, (number * PAGE) as u64).map_err(&failed)?;
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
