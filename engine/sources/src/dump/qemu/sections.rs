//! Sections that stand between those of memory, and have no length: they are parsed to be passed
//! by.

use super::stream::{MigrationStream, Stop, damage};
use crate::dump::DumpProblem;

/// What a section holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum MigrationSection {
    /// The memory.
    Ram,
    /// Bitmaps of disks (migration/block-dirty-bitmap.c).
    DirtyBitmap,
    /// State of Proxmox's backups (migration/pbs-state.c of pve-qemu).
    PbsState,
}

impl MigrationSection {
    pub(super) fn of(name: &[u8], version: u64) -> Result<Self, DumpProblem> {
        match (name, version) {
            (b"ram", 4) => Ok(Self::Ram),
            (b"ram", _) => Err(DumpProblem::Unsupported(
                "its memory is in the form of another QEMU; load it with the QEMU that wrote it, \
                 then, in the monitor: dump-guest-memory memory.elf",
            )),
            (b"dirty-bitmap", 1) => Ok(Self::DirtyBitmap),
            (b"pbs-state", 1) => Ok(Self::PbsState),
            (b"block", _) => Err(DumpProblem::Unsupported(
                "it has the disks too (`migrate -b`); load it with QEMU, then, in the monitor: \
                 dump-guest-memory memory.elf",
            )),
            _ => Err(DumpProblem::Unsupported(
                "a section of a device stands before the end of its memory; load it with QEMU, \
                 then, in the monitor: dump-guest-memory memory.elf",
            )),
        }
    }
}

/// Maximum number of chunks of bitmaps in one section.
const CHUNKS_MAX: u32 = 1 << 24;

/// Passes the data of a section of bitmaps by.
pub(super) fn skip_bitmaps(stream: &mut MigrationStream<'_>) -> Result<(), Stop> {
    // BIT_EXTRA of each byte: another byte of flags follows, then two.
    const END: u64 = 1;
    const ZEROES: u64 = 2;
    const BITMAP_NAME: u64 = 4;
    const NODE_NAME: u64 = 8;
    const START: u64 = 0x10;
    const BITS: u64 = 0x40;
    for _ in 0..CHUNKS_MAX {
        let mut flags = stream.number::<1>()?;
        if flags & 0x80 != 0 {
            flags = flags << 8 | stream.number::<1>()?;
            if flags & 0x80 != 0 {
                flags = flags << 16 | stream.number::<2>()?;
            }
        }
        if flags & END != 0 {
            return Ok(());
        }
        if flags & NODE_NAME != 0 {
            stream.name()?;
        }
        if flags & BITMAP_NAME != 0 {
            stream.name()?;
        }
        if flags & START != 0 {
            stream.skip(4 + 1)?;
        }
        if flags & BITS != 0 {
            stream.skip(8 + 4)?;
            if flags & ZEROES == 0 {
                let bytes = stream.number::<8>()?;
                stream.skip(bytes)?;
            }
        }
    }
    Err(damage("its bitmaps of disks have no end"))
}

/// Passes the data of the state of backups by.
pub(super) fn skip_pbs_state(stream: &mut MigrationStream<'_>) -> Result<(), Stop> {
    let bytes = stream.number::<8>()?;
    stream.skip(bytes)
}
