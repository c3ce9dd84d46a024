//! Finds the kernel's types and its first task in the image. `symbols` finds the symbols.

use memchr::memmem;
use panoptes_decoders::address::{KernelVa, PhysicalAddress};
use panoptes_decoders::kernel::Layouts;

use crate::btf::{self, BTF_TRIES_MAX, Btf, BtfHeader, KERNEL_BTF_BYTES_MIN};
use crate::discovery::candidate::{KernelCandidate, LARGE_PAGE_BYTES};
use crate::memory::KernelMemory;
use crate::report::CandidateRefusal;
use crate::verify::is_init_task;

/// Maximum number of places in an image that are checked for a header or for the first task. There
/// are few, but a forged image may consist of nothing else.
const PLACES_MAX: u32 = 1 << 14;

/// Beginning of `init_task.comm` (`INIT_TASK_COMM`, include/linux/init_task.h); with SMP,
/// `init_idle` (kernel/sched/core.c) appends the processor's number.
const INIT_TASK_COMM: &[u8] = b"swapper";

/// Reads the kernel's BTF at the address of its symbols.
pub(crate) fn named_btf(
    memory: &mut KernelMemory<'_>,
    candidate: &KernelCandidate,
) -> Option<(PhysicalAddress, Vec<u8>)> {
    let (start, stop) = (candidate.symbols.start_btf?, candidate.symbols.stop_btf?);
    let length = stop.0.checked_sub(start.0)?;
    if !(KERNEL_BTF_BYTES_MIN..=btf::BTF_BYTES_MAX as u64).contains(&length) {
        return None;
    }
    let bytes = memory.read_vec(start, length as usize).ok()?;
    BtfHeader::parse(&bytes).ok()?;
    Some((memory.translate(start).ok()?.physical, bytes))
}

/// Reads the first BTF in the image that has the size of a kernel's and parses; `refusal` if the
/// image has none of that size.
pub(crate) fn search_btf(
    memory: &mut KernelMemory<'_>,
    candidate: &KernelCandidate,
    mut refusal: CandidateRefusal,
) -> Result<(PhysicalAddress, Vec<u8>), CandidateRefusal> {
    let mut tries = 0;
    let found = find_place(memory, candidate, &btf::MAGIC, PLACES_MAX, |memory, at| {
        let mut header = [0; btf::HEADER_BYTES];
        memory.read(at, &mut header).ok()?;
        let length = BtfHeader::parse(&header).ok()?.total_bytes();
        if length < KERNEL_BTF_BYTES_MIN || tries == BTF_TRIES_MAX {
            return None;
        }
        tries += 1;
        let bytes = memory.read_vec(at, length as usize).ok()?;
        match Btf::parse(&bytes) {
            Ok(_) => Some((memory.translate(at).ok()?.physical, bytes)),
            Err(error) => {
                refusal = CandidateRefusal::Btf(error);
                None
            }
        }
    });
    found.ok_or(refusal)
}

/// Finds `init_task` by its name, its number, and because it is its own leader and parent.
pub(crate) fn find_init_task(
    memory: &mut KernelMemory<'_>,
    candidate: &KernelCandidate,
    layouts: &Layouts,
) -> Option<KernelVa> {
    find_place(memory, candidate, INIT_TASK_COMM, PLACES_MAX, |memory, comm| {
        let at = comm.minus(u64::from(layouts.task_struct.comm.offset));
        is_init_task(memory, layouts, at).then_some(at)
    })
}

/// The first result of `examine` for a place in the image that has `needle`, of at most `places`.
pub(super) fn find_place<T>(
    memory: &mut KernelMemory<'_>,
    candidate: &KernelCandidate,
    needle: &[u8],
    mut places: u32,
    mut examine: impl FnMut(&mut KernelMemory<'_>, KernelVa) -> Option<T>,
) -> Option<T> {
    let mut image = ImagePieces::new(candidate);
    while let Some((address, piece)) = image.next(memory) {
        for offset in memmem::find_iter(&piece, needle) {
            places = places.checked_sub(1)?;
            let found = examine(memory, address.plus(offset as u64));
            if found.is_some() {
                return found;
            }
        }
    }
    None
}

/// Iterates over the image in large pages, each with the first bytes of the next so that no match
/// is cut.
pub(super) struct ImagePieces {
    at: u64,
    end: u64,
}

impl ImagePieces {
    pub(super) const fn new(candidate: &KernelCandidate) -> Self {
        Self { at: candidate.image.start, end: candidate.image.end }
    }

    pub(super) fn next(&mut self, memory: &mut KernelMemory<'_>) -> Option<(KernelVa, Vec<u8>)> {
        while self.at < self.end {
            let address = KernelVa(self.at);
            let length = LARGE_PAGE_BYTES.min(self.end - self.at);
            self.at += length;
            let wanted = length as usize + 16;
            if let Ok(mut piece) = memory.read_prefix(address, wanted) {
                if piece.len() < length as usize {
                    // A hole: continue after its page.
                    self.at = (address.0 + piece.len() as u64 + 1).next_multiple_of(4096);
                }
                piece.truncate(wanted);
                return Some((address, piece));
            }
            self.at = address.0 + 4096;
        }
        None
    }
}
