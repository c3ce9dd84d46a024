//! ELF cores of machines: `/proc/vmcore`, QEMU's `dump-guest-memory`, makedumpfile's `-E`.
//!
//! Each `PT_LOAD` is a piece of memory with its physical address (elf(5); fs/proc/vmcore.c; QEMU's
//! dump/dump.c). The notes (registers, VMCOREINFO) are not read: the kernel is found in memory, as
//! with all sources. With more than 65,534 headers, their number is the first section's `sh_info`
//! (elf(5), PN_XNUM).

use panoptes_decoders::layout::{u32_at, u64_at};
use panoptes_decoders::user::elf::PT_LOAD;

use super::bytes::DumpBytes;
use super::{DumpProblem, DumpedRange, SEGMENTS_MAX, Segments, xen};

/// EM_386, which a 64-bit guest's core has if QEMU wrote it in 32-bit form, EM_X86_64, EM_AARCH64.
const MACHINES: [u16; 4] = [0, 3, 62, 183];
const PN_XNUM: u16 = 0xffff;
/// Physical address of segments that have none (fs/proc/kcore.c).
const NO_ADDRESS: u64 = u64::MAX;

/// Number of program headers that are read at once.
const BATCH: usize = 1024;

/// Position and number of the program headers, from the ELF header.
#[derive(Clone, Copy, Debug)]
struct ProgramHeaderTable {
    wide: bool,
    offset: u64,
    count: u64,
    entry_bytes: usize,
}

/// The `PT_LOAD`s of a core.
fn loads(file: &DumpBytes, table: ProgramHeaderTable) -> Result<Vec<DumpedRange>, DumpProblem> {
    let bytes = table.count.checked_mul(table.entry_bytes as u64);
    let end = bytes.and_then(|bytes| table.offset.checked_add(bytes));
    if end.is_none_or(|end| end > file.len()) {
        return Err(DumpProblem::Headers);
    }
    let mut loads = Vec::new();
    let mut entries = vec![0; BATCH * table.entry_bytes];
    let mut done = 0;
    while done < table.count {
        let count = (table.count - done).min(BATCH as u64);
        let part = &mut entries[..count as usize * table.entry_bytes];
        if !file.read(table.offset + done * table.entry_bytes as u64, part) {
            return Err(DumpProblem::Headers);
        }
        loads.extend(
            part.chunks_exact(table.entry_bytes).filter_map(|entry| load(entry, table.wide)),
        );
        if loads.len() > SEGMENTS_MAX {
            return Err(DumpProblem::TooLarge("pieces of memory"));
        }
        done += count;
    }
    Ok(loads)
}

/// Reads which memory is where in the file.
pub(crate) fn read(file: &DumpBytes) -> Result<Segments, DumpProblem> {
    let table = table(file)?;
    // `xl dump-core` writes sections only.
    if table.count == 0 && table.wide {
        return xen::read_core(file);
    }
    let mut pieces = loads(file, table)?;
    pieces.retain(|piece| piece.bytes > 0 && piece.start != NO_ADDRESS);
    if pieces.is_empty() {
        return Err(DumpProblem::NoMemory);
    }
    // The core of a process has virtual addresses only.
    if pieces.len() > 1 && pieces.iter().all(|piece| piece.start == 0) {
        return Err(DumpProblem::Unsupported(
            "it has no physical addresses: it is the core of a process; give that of a machine",
        ));
    }
    let (segments, regions, lacks) = super::segments(pieces, file.len());
    if segments.is_empty() {
        return Err(DumpProblem::NoMemory);
    }
    Ok((segments, regions, lacks))
}

fn table(file: &DumpBytes) -> Result<ProgramHeaderTable, DumpProblem> {
    // The two classes of header are 52 and 64 bytes; a file is at least a page long or no dump.
    let mut header = [0; 64];
    if !file.read(0, &mut header) {
        return Err(DumpProblem::Headers);
    }
    let wide = match header[4] {
        1 => false,
        2 => true,
        _ => return Err(DumpProblem::Header("its ELF header has no class")),
    };
    if header[5] != 1 {
        return Err(DumpProblem::Unsupported("big-endian machines are not supported"));
    }
    let half = |at| u32_at(&header, at) as u16;
    let word = |at| u64::from(u32_at(&header, at));
    let long = |at| u64_at(&header, at);
    let (offset, sections, entry_bytes, count) = if wide {
        (long(32), long(40), half(54), half(56))
    } else {
        (word(28), word(32), half(42), half(44))
    };
    let machine = half(18);
    if !MACHINES.contains(&machine) {
        return Err(DumpProblem::Unsupported(
            "it is of a machine that is neither x86-64 nor arm64; no other is supported",
        ));
    }
    if count != 0 && entry_bytes != if wide { 56 } else { 32 } {
        return Err(DumpProblem::Header("its program headers have an invalid size"));
    }
    let count =
        if count == PN_XNUM { count_in_section(file, sections, wide)? } else { count.into() };
    Ok(ProgramHeaderTable { wide, offset, count, entry_bytes: entry_bytes.into() })
}

/// The number of program headers, if it is too large for the ELF header.
fn count_in_section(file: &DumpBytes, sections: u64, wide: bool) -> Result<u64, DumpProblem> {
    let info_at = if wide { 44 } else { 28 };
    let mut number = [0; 4];
    let at = sections.checked_add(info_at).filter(|_| sections != 0);
    if !at.is_some_and(|at| file.read(at, &mut number)) {
        return Err(DumpProblem::Headers);
    }
    Ok(u32::from_le_bytes(number).into())
}

fn load(entry: &[u8], wide: bool) -> Option<DumpedRange> {
    if u32_at(entry, 0) != PT_LOAD {
        return None;
    }
    let [offset, start, filed, bytes] = if wide {
        [8, 24, 32, 40].map(|at| u64_at(entry, at))
    } else {
        [4, 12, 16, 20].map(|at| u32_at(entry, at).into())
    };
    Some(DumpedRange { start, bytes, offset, filed: filed.min(bytes) })
}
