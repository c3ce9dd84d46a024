//! The helpers that programs call, by their instructions.
//!
//! Only those helpers matter that change what others see or do; and, of a program of LSM, whether
//! it denies. A program's instructions never
//! change, so each program is read once.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::bpf::{
    BPF_INSTRUCTION_BYTES, for_each_helper, has_error_result, is_lsm,
};
use panoptes_decoders::source::PAGE_BYTES;

use super::bpf_rows::{BpfHelpers, BpfProgramRow};
use super::bpf_walk::{BpfWalk, CodeChunk, KnownProgram};
use super::kernel::BpfRoots;
use super::losses::WalkedStructure;
use super::snapshot::Index;
use super::{ScannedMemory, Walker, fetch_each};
use crate::address::MemoryReader;

/// Number of pieces of a program that are read: 32,768 instructions. The largest programs of
/// networks have about 10,000.
const PROGRAM_CHUNKS_MAX: usize = 64;
const CHUNK_BYTES: u32 = PAGE_BYTES as u32;

impl BpfRoots {
    /// What a call of the function at an address is.
    fn helper(&self, function: KernelVa) -> BpfHelpers {
        let is = |helper: KernelVa| !helper.is_null() && helper == function;
        if is(self.probe_write_user) {
            BpfHelpers::PROBE_WRITE_USER
        } else if is(self.override_return) {
            BpfHelpers::OVERRIDE_RETURN
        } else if self.send_signal.into_iter().any(is) {
            BpfHelpers::SEND_SIGNAL
        } else {
            BpfHelpers::default()
        }
    }
}

impl Walker {
    /// Finds the helpers of each program, by the last read or by its instructions.
    pub(super) fn read_helpers(&mut self, memory: &mut ScannedMemory<'_>) {
        let kernel = memory.kernel;
        let roots = &kernel.roots.bpf;
        let Some(layout) = &kernel.layouts.bpf_prog else { return };
        if roots.call_base.is_null() || roots.probe_write_user.is_null() {
            return;
        }
        let programs = &mut self.snapshot.bpf.programs;
        let losses = &mut self.snapshot.losses;
        let BpfWalk { known, chunks, .. } = &mut self.bpf;
        known.programs.sort_unstable_by_key(|known| known.address);
        chunks.clear();
        for index in programs.indexes() {
            let row = &mut programs[index];
            let at = known.programs.binary_search_by_key(&row.address, |known| known.address);
            let same = at.ok().and_then(|at| known.programs.get(at));
            if let Some(same) = same.filter(|same| same.id == row.id) {
                row.helpers = same.helpers;
            } else {
                list_chunks(chunks, (index, row), layout.size);
            }
        }
        let push = |reader: &mut MemoryReader, space: &_, chunk: &CodeChunk| {
            reader.push_bytes(space, chunk.at, chunk.bytes)
        };
        fetch_each(&mut self.reader, memory, chunks, push, |index, bytes| {
            let chunk = chunks[index];
            let Some(row) = programs.at_mut(chunk.program) else { return };
            let Some(bytes) = bytes else {
                losses.miss(WalkedStructure::BpfCode, chunk.at);
                row.helpers = None;
                return;
            };
            if chunk.is_first {
                row.helpers = Some(BpfHelpers::default());
            }
            let denies = is_lsm(row.kind, row.attach_kind) && has_error_result(bytes);
            if let Some(helpers) = &mut row.helpers {
                *helpers = helpers.with(if denies { BpfHelpers::DENIES } else { *helpers });
                for_each_helper(bytes, roots.call_base, |function| {
                    *helpers = helpers.with(roots.helper(function));
                });
            }
        });
        // Nothing of a program that is too large is known, unless it calls one of them.
        for row in programs.as_mut_slice() {
            let is_cut = row.instructions > PROGRAM_CHUNKS_MAX as u32 * CHUNK_BYTES / 8;
            row.helpers = row.helpers.filter(|helpers| !is_cut || !helpers.is_empty());
        }
        known.programs.clear();
        let with_helpers = programs.iter().filter(|row| row.helpers.is_some());
        known.programs.extend(with_helpers.map(|row| KnownProgram {
            address: row.address,
            id: row.id,
            helpers: row.helpers,
        }));
    }
}

/// Lists the pieces of a program's instructions, if there is room for all of them.
fn list_chunks(
    chunks: &mut Vec<CodeChunk>,
    (program, row): (Index<BpfProgramRow>, &BpfProgramRow),
    header_bytes: u32,
) {
    let bytes = row.instructions.saturating_mul(BPF_INSTRUCTION_BYTES);
    let count = (bytes.div_ceil(CHUNK_BYTES) as usize).min(PROGRAM_CHUNKS_MAX);
    if chunks.len() + count > chunks.capacity() {
        return;
    }
    for at in 0..count as u32 {
        let start = at * CHUNK_BYTES;
        chunks.push(CodeChunk {
            program,
            at: row.address.plus(u64::from(header_bytes) + u64::from(start)),
            bytes: (bytes - start).min(CHUNK_BYTES),
            is_first: at == 0,
        });
    }
}
