//! The list of the symbols of eBPF (`bpf_kallsyms`, kernel/bpf/core.c): programs, the functions of
//! programs, trampolines and dispatchers.
//!
//! A program that is not in the IDR is still in this list while it is compiled. The others have no
//! rows; their links are remembered, so that the next read has them in one batch.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::early_stop::EarlyStop;
use panoptes_decoders::kernel::bpf::{BpfKsym, BpfProgAux, BpfProgramAux, BpfSymbol};

use super::bpf_rows::{BPF_PROGRAMS_MAX, BpfProgramRow, bpf_view};
use super::bpf_walk::{BpfWalk, OTHERS_MAX};
use super::losses::WalkedStructure;
use super::memory::visit;
use super::snapshot::Index;
use super::{ScannedMemory, Walker, fetch, fetch_each};
use crate::address::MemoryReader;

/// Number of symbols that a read may read alone. Each costs some rounds. The next read knows them.
const LONE_READS_MAX: u32 = 128;
/// The same of the first read, which knows none.
const FIRST_LONE_READS_MAX: u32 = (OTHERS_MAX + BPF_PROGRAMS_MAX) as u32;

impl BpfWalk {
    /// The row of the program with this link in the list.
    fn program_with(&self, link: KernelVa) -> Option<Index<BpfProgramRow>> {
        self.by_symbol.get(link.0).and_then(Index::from_number)
    }

    /// The link behind that of a known symbol that is of no program.
    fn link_behind(&self, link: KernelVa) -> Option<KernelVa> {
        let position = self.others.get(link.0)?;
        self.other_links.get(position as usize).copied().filter(|next| !next.is_null())
    }

    /// Notes a symbol that is of no program, for the next read.
    fn show_other(&mut self, link: KernelVa) {
        if self.shown_others.len() < self.shown_others.capacity() {
            self.shown_others.push(link);
        }
    }
}

impl Walker {
    /// Follows the list of symbols. Returns whether it was followed to its end.
    pub(super) fn read_bpf_symbols(
        &mut self,
        memory: &mut ScannedMemory<'_>,
        head: Option<[u64; 2]>,
    ) -> bool {
        let layouts = &memory.kernel.layouts;
        let layouts = layouts.bpf_ksym.as_ref().zip(layouts.bpf_prog_aux.as_ref());
        let Some((layouts, [first, _])) = layouts.zip(head) else { return false };
        let is_first = !self.bpf.known.is_read();
        self.bpf.lone_reads_left = if is_first { FIRST_LONE_READS_MAX } else { LONE_READS_MAX };
        self.read_known_symbols(memory, layouts);
        let end = self.follow_bpf_symbols(memory, layouts, KernelVa(first));
        let BpfWalk { known, shown_others, .. } = &mut self.bpf;
        // After an early end, those that were read alone are known to the next scan.
        if end.is_ok() || shown_others.len() > known.others.len() {
            known.others.clear();
            known.others.extend_from_slice(shown_others);
        }
        if let Err(stop) = end {
            // What changed while it was followed ends early without a loss: the next scan reads it.
            let marks = self.snapshot.machine.bpf_marks.symbols;
            if marks == head && !matches!(stop, EarlyStop::Changed { .. }) {
                self.snapshot.losses.stop(WalkedStructure::BpfSymbols, stop);
            }
        }
        end.is_ok()
    }

    /// Reads the symbols that the last read knew and that are of no program. One in whose place a
    /// program is now is read anew.
    fn read_known_symbols(
        &mut self,
        memory: &mut ScannedMemory<'_>,
        (layout, rest): (&BpfKsym, &BpfProgAux),
    ) {
        let BpfWalk { known, others, other_links, shown_others, addresses, .. } = &mut self.bpf;
        others.clear();
        other_links.clear();
        shown_others.clear();
        addresses.clear();
        let push = |reader: &mut MemoryReader, space: &_, link: &KernelVa| {
            reader.push(space, link.minus(layout.lnode.offset.into()), &layout.packing)
        };
        let known = &known.others;
        fetch_each(&mut self.reader, memory, known, push, |index, bytes| {
            let link = known[index];
            let symbol = bytes.and_then(|bytes| BpfSymbol::decode(layout, bytes));
            let is_of_program = symbol.is_some_and(|symbol| symbol.is_of_program);
            let at = rest.ksym_lnode.filter(|_| is_of_program);
            addresses.push(at.map_or(KernelVa::NULL, |at| link.minus(at.offset.into())));
            others.insert(link.0, other_links.len() as u32);
            other_links.push(symbol.map_or(KernelVa::NULL, |symbol| symbol.next));
        });
        fetch(&mut self.reader, memory, &rest.packing, addresses, |index, bytes| {
            let Some(next) = other_links.get_mut(index) else { return };
            let is_function = bytes
                .and_then(|bytes| BpfProgramAux::decode(rest, bytes))
                .is_some_and(|aux| aux.references == 0);
            if !addresses[index].is_null() && !is_function {
                *next = KernelVa::NULL;
            }
        });
    }

    fn follow_bpf_symbols(
        &mut self,
        memory: &mut ScannedMemory<'_>,
        layouts: (&BpfKsym, &BpfProgAux),
        first: KernelVa,
    ) -> Result<(), EarlyStop> {
        let head = memory.kernel.roots.bpf.symbols;
        self.visited.clear();
        let mut link = first;
        while link != head {
            visit(&mut self.visited, link)?;
            if let Some(row) = self.bpf.program_with(link) {
                self.snapshot.bpf.programs[row].views |= bpf_view::SYMBOLS;
                let parts = self.bpf.parts.get(row.position());
                link = parts.map_or(KernelVa::NULL, |parts| parts.next_symbol);
            } else if let Some(next) = self.bpf.link_behind(link) {
                self.bpf.show_other(link);
                link = next;
            } else {
                link = self.read_symbol(memory, layouts, link)?;
            }
        }
        Ok(())
    }

    /// Reads one symbol, and its program if it is of one. Returns the link behind it.
    fn read_symbol(
        &mut self,
        memory: &mut ScannedMemory<'_>,
        (layout, rest): (&BpfKsym, &BpfProgAux),
        link: KernelVa,
    ) -> Result<KernelVa, EarlyStop> {
        let left = self.bpf.lone_reads_left.checked_sub(1);
        self.bpf.lone_reads_left = left.ok_or(EarlyStop::TooLong { limit: LONE_READS_MAX })?;
        let unreadable = EarlyStop::Unreadable { address: link };
        self.reader.clear();
        let at = link.minus(layout.lnode.offset.into());
        self.reader.push(&memory.kernel.space, at, &layout.packing);
        if let Some(field) = rest.ksym_lnode {
            let aux = link.minus(field.offset.into());
            self.reader.push(&memory.kernel.space, aux, &rest.packing);
        }
        memory.run(&mut self.reader);
        let symbol = self.reader.object(0).and_then(|bytes| BpfSymbol::decode(layout, bytes));
        let symbol = symbol.ok_or(unreadable)?;
        if !symbol.is_of_program {
            self.bpf.show_other(link);
            return Ok(symbol.next);
        }
        let aux = self.reader.object(1).and_then(|bytes| BpfProgramAux::decode(rest, bytes));
        let aux = aux.ok_or(unreadable)?;
        // A function of a program has no references of its own, nor has one that is being freed.
        if aux.references == 0 {
            self.bpf.show_other(link);
            return Ok(symbol.next);
        }
        let BpfWalk { wanted, .. } = &mut self.bpf;
        wanted.clear();
        wanted.push(aux.program);
        self.read_wanted_programs(memory, bpf_view::SYMBOLS);
        if self.bpf.program_with(link).is_none() {
            return Err(EarlyStop::Changed { address: link });
        }
        Ok(symbol.next)
    }
}
