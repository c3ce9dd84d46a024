//! The headers of a kdump-compressed dump.
//!
//! Sources: makedumpfile's diskdump_mod.h and its IMPLEMENTATION, and QEMU's include/sysemu/dump.h.
//! A header of one block, a sub-header, two bitmaps of one bit a page (the page exists; it was
//! written), and a descriptor for each written page. The header of a 32-bit kernel is the same with
//! shorter words.

use panoptes_decoders::layout::{u32_at, u64_at};

use super::DumpProblem;
use super::bytes::DumpBytes;

/// Number of bytes at the beginning that hold all fields of the header.
const HEADER_BYTES: usize = 464;
const SUB_HEADER_BYTES: usize = 104;

/// `max_mapnr_64` exists from this version on.
const WIDE_COUNT_VERSION: u32 = 6;

/// The writer was interrupted (DUMP_DH_COMPRESSED_INCOMPLETE).
const STATUS_INCOMPLETE: u32 = 8;

/// Pages of zeros were left out (makedumpfile.h: DL_EXCLUDE_ZERO).
const LEVEL_ZERO_PAGES: u32 = 1;

/// Largest machine: 16 TiB in pages of 4 KiB, with a bitmap of 512 MiB.
const PAGES_MAX: u64 = 1 << 32;

/// The parsed headers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct KdumpHeader {
    pub(super) block_bytes: u64,
    /// Offset of the first bitmap.
    pub(super) bitmaps_at: u64,
    /// Size in bytes of each bitmap.
    pub(super) bitmap_bytes: u64,
    /// Number of pages that the bitmaps cover.
    pub(super) pages: u64,
    /// Offset of the first descriptor.
    pub(super) descriptors_at: u64,
    /// Whether exactly the pages of zeros were left out, so that missing pages are zeros.
    pub(super) left_out_is_zeros: bool,
    pub(super) incomplete: bool,
}

impl KdumpHeader {
    pub(super) fn read(file: &DumpBytes) -> Result<Self, DumpProblem> {
        let mut header = [0; HEADER_BYTES];
        if !file.read(0, &mut header) {
            return Err(DumpProblem::Headers);
        }
        if header.starts_with(b"DISKDUMP") {
            return Err(DumpProblem::Unsupported(
                "diskdump is of kernels before 2.6.13, which are not supported",
            ));
        }
        if header.starts_with(b"\x7fELF") {
            return Err(DumpProblem::Unsupported(
                "it holds a flattened ELF core; rearrange it with makedumpfile -R",
            ));
        }
        if !header.starts_with(b"KDUMP   ") {
            return Err(DumpProblem::Header("it does not begin with the kdump signature"));
        }
        let word = |at| u32_at(&header, at);
        let wide = is_wide(&header);
        // The fields follow the time stamp, whose two numbers are words of the kernel's size.
        let fields = if wide { 424 } else { 412 };
        let [status, block_bytes, sub_blocks, bitmap_blocks, pages] =
            [0, 4, 8, 12, 16].map(|at| word(fields + at));
        let block_bytes = u64::from(block_bytes);
        if !(block_bytes.is_power_of_two() && (4096..=65536).contains(&block_bytes)) {
            return Err(DumpProblem::Header("its block size is not 4, 8, 16, 32 or 64 KiB"));
        }
        let (sub_blocks, bitmap_blocks) = (u64::from(sub_blocks), u64::from(bitmap_blocks));
        // Each is below 2⁴⁸: no sum of them wraps.
        let bitmaps_at = (1 + sub_blocks) * block_bytes;
        let descriptors_at = bitmaps_at + bitmap_blocks * block_bytes;
        if descriptors_at > file.len() {
            return Err(DumpProblem::Headers);
        }
        let mut header = Self {
            block_bytes,
            bitmaps_at,
            bitmap_bytes: bitmap_blocks / 2 * block_bytes,
            pages: pages.into(),
            descriptors_at,
            left_out_is_zeros: false,
            incomplete: status & STATUS_INCOMPLETE != 0 || !file.is_ended(),
        };
        header.read_sub_header(file, wide, word(8))?;
        header.pages = header.pages.min(header.bitmap_bytes * 8);
        if header.pages == 0 {
            return Err(DumpProblem::NoMemory);
        }
        if header.pages > PAGES_MAX {
            return Err(DumpProblem::TooLarge("pages"));
        }
        Ok(header)
    }

    fn read_sub_header(
        &mut self,
        file: &DumpBytes,
        wide: bool,
        version: u32,
    ) -> Result<(), DumpProblem> {
        let mut sub = [0; SUB_HEADER_BYTES];
        if self.bitmaps_at <= self.block_bytes || !file.read(self.block_bytes, &mut sub) {
            return if version == 0 { Ok(()) } else { Err(DumpProblem::Headers) };
        }
        let word = |at| u32_at(&sub, at);
        let (level, split, pages) =
            if wide { (8, 12, u64_at(&sub, 96)) } else { (4, 8, u64_at(&sub, 72)) };
        self.left_out_is_zeros = version >= 1 && word(level) == LEVEL_ZERO_PAGES;
        if version >= 2 && word(split) != 0 {
            return Err(DumpProblem::Unsupported(
                "it is one part of a dump that was split; put them together with \
                 makedumpfile --reassemble",
            ));
        }
        if version >= WIDE_COUNT_VERSION {
            self.pages = pages;
        }
        Ok(())
    }
}

/// Whether the kernel's words have 64 bits. The machine's name decides, or else where the block
/// size is plausible.
fn is_wide(header: &[u8]) -> bool {
    /// Offset of `utsname.machine`, the fifth text of 65 bytes.
    const MACHINE_AT: usize = 12 + 4 * 65;
    let machine = &header[MACHINE_AT..MACHINE_AT + 65];
    if [&b"x86_64\0"[..], b"aarch64\0"].iter().any(|name| machine.starts_with(name)) {
        return true;
    }
    if [&b"i686\0"[..], b"i586\0", b"i386\0"].iter().any(|name| machine.starts_with(name)) {
        return false;
    }
    let plausible = |at| {
        let size = u32_at(header, at);
        size.is_power_of_two() && (4096..=65536).contains(&size)
    };
    plausible(428) || !plausible(416)
}
