//! The start of an arm64 machine's memory.
//!
//! A raw memory file has no addresses. The memory of x86-64 begins at 0. That of an arm64 machine
//! begins at an address that the manufacturer chose (QEMU's `virt`: 1 GiB), and all page tables
//! count from there. So discovery moves the source (`MemorySource::move_by`) by likely distances.
//! If none fits, it uses the distance between the place of `init_uts_ns` in the file and its
//! address in VMCOREINFO.

use panoptes_decoders::layout::c_string;
use panoptes_decoders::source::MemorySource;

use crate::discovery::candidate::{UTS_RELEASE_OFFSET, VmcoreinfoClaim};
use crate::sweep::EveryByte;
use crate::vmcoreinfo::Vmcoreinfo;

/// Usual starts of memory: QEMU's `virt` and many boards; others.
const USUAL_BEGINNINGS: [u64; 2] = [0x4000_0000, 0x8000_0000];

/// The beginning of `struct new_utsname` (`UTS_SYSNAME`, include/linux/uts.h).
const SYSNAME: &[u8] = b"Linux\0";

/// Maximum number of places with that name and the right release that are tried.
const MOVED_PLACES_MAX: usize = 64;

/// Distances to move a source that does not know its addresses, the most likely first.
pub(crate) fn usual_moves() -> impl Iterator<Item = u64> {
    USUAL_BEGINNINGS.into_iter()
}

/// Distances to move a source such that a `struct new_utsname` with the release is at the address
/// in VMCOREINFO. Sweeps all of memory.
pub(crate) fn search_moves(
    source: &mut dyn MemorySource,
    info: &Vmcoreinfo,
    claim: &VmcoreinfoClaim,
) -> Vec<u64> {
    let expected = claim.uts_names.map(|names| claim.physical(names).0);
    let page_mask = claim.levels.page_bytes() - 1;
    let mut moves = Vec::new();
    let mut sweep = EveryByte::new(SYSNAME, 0..u64::MAX);
    while let Some(at) = sweep.next(source) {
        let distance = expected
            .map(|expected| expected.wrapping_sub(at.0))
            .into_iter()
            .find(|distance| distance & page_mask == 0 && !moves.contains(distance));
        let Some(distance) = distance else { continue };
        let mut release = [0; 65];
        let agrees = source.read_exact(at.plus(UTS_RELEASE_OFFSET), &mut release)
            && c_string(&release) == info.release().as_bytes();
        if agrees {
            moves.push(distance);
        }
        if moves.len() == MOVED_PLACES_MAX {
            break;
        }
    }
    moves
}
