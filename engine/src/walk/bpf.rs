//! eBPF: programs, maps and links, as the IDRs, the list of symbols, links and descriptors show
//! them.
//!
//! Every whole scan reads them. The others do so only if a root or a next number of an IDR, or the
//! head of the list, differs from the last read, or if that found something unsettled. So most
//! scans read a few words.
//!
//! A read begins with the IDR of programs, then follows the list of symbols over these rows
//! ([`super::bpf_symbols`]). Links ([`super::bpf_links`]), places without a link
//! ([`super::bpf_attach`]) and descriptors may lead to further ones.
//! At the end, what the IDR lacked is read again, and the IDR too. The kernel adds a program to the
//! IDR before it has a symbol, and takes it out when the last reference is gone
//! (`bpf_prog_load`, `__bpf_prog_put`, kernel/bpf/syscall.c). So a program with references that
//! the IDR lacks twice is hidden.
//!
//! Not here: what is reported.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::bpf::{BpfMap, BpfProgAux, BpfProgram, BpfProgramAux};
use panoptes_decoders::kernel::bpf_attach::{attachment_kind, cgroup_attach_kind};
use panoptes_decoders::layout::{View, u64_at};
use panoptes_decoders::paging::KernelSpace;
use panoptes_decoders::source::PAGE_BYTES;
use panoptes_tables::AddressMap;

use super::bpf_rows::{
    BPF_LINKS_MAX, BPF_MAPS_MAX, BPF_PROGRAMS_MAX, BpfFileKind, BpfMapRow, BpfProgramRow,
    TRACEPOINT_NAME_BYTES, bpf_view,
};
use super::bpf_walk::BpfWalk;
use super::copied::MemoryCopyMode;
use super::idr::IdrKind;
use super::losses::WalkedStructure;
use super::machine_row::BpfMarks;
use super::module_details::text_of;
use super::snapshot::Index;
use super::{Kernel, ScannedMemory, Walker, fetch, fetch_each};
use crate::address::MemoryReader;

/// How its trees are counted.
const TREE: IdrKind =
    IdrKind { node: WalkedStructure::BpfTreeNode, tree: WalkedStructure::BpfTree };

/// Adds the marks of eBPF to a batch: the IDRs, and the head of the list of symbols.
pub(crate) fn push_bpf_marks(reader: &mut MemoryReader, kernel: &Kernel) -> [Option<u32>; 4] {
    let (space, roots) = (&kernel.space, &kernel.roots.bpf);
    let packing = &kernel.layouts.idr.packing;
    [
        reader.push(space, roots.programs, packing),
        reader.push(space, roots.maps, packing),
        reader.push(space, roots.links, packing),
        reader.push_bytes(space, roots.symbols, 16),
    ]
}

/// The marks that were added to a batch that has run.
pub(crate) fn take_bpf_marks(
    reader: &MemoryReader,
    kernel: &Kernel,
    pushed: [Option<u32>; 4],
) -> BpfMarks {
    let layout = &kernel.layouts.idr;
    let object = |pushed: Option<u32>| reader.object(pushed? as usize);
    let idr = |pushed| {
        let view = View::new(object(pushed)?);
        Some([view.unsigned(layout.xa_head), view.unsigned(layout.idr_next)])
    };
    let [programs, maps, links, symbols] = pushed;
    BpfMarks {
        idrs: [idr(programs), idr(maps), idr(links)],
        symbols: object(symbols).map(|bytes| [u64_at(bytes, 0), u64_at(bytes, 8)]),
    }
}

impl Walker {
    /// Whether this scan must read eBPF even if it is none that reads everything.
    pub(super) fn must_read_bpf(&self, kernel: &Kernel) -> bool {
        has_bpf(kernel) && self.bpf.known.must_read(&self.snapshot.machine.bpf_marks)
    }

    /// Fills the rows of eBPF, in whole scans and where something has changed.
    pub(super) fn read_bpf(&mut self, memory: &mut ScannedMemory<'_>) {
        let kernel = memory.kernel;
        let is_due = !self.snapshot.is_light || self.must_read_bpf(kernel);
        let Some(aux) = kernel.layouts.bpf_prog_aux.as_ref().filter(|_| has_bpf(kernel) && is_due)
        else {
            return;
        };
        let before = self.read_bpf_marks(memory);
        self.bpf.begin();
        let programs = self.read_idr(memory, before.idrs[0], BPF_PROGRAMS_MAX)
            & self.read_wanted_programs(memory, bpf_view::PROGRAM_IDR);
        let symbols = self.read_bpf_symbols(memory, before.symbols);
        let links = self.read_idr(memory, before.idrs[2], BPF_LINKS_MAX)
            & self.read_wanted_links(memory, bpf_view::PROGRAM_IDR);
        let maps = self.read_idr(memory, before.idrs[1], BPF_MAPS_MAX)
            & self.read_wanted_maps(memory, bpf_view::PROGRAM_IDR);
        let attachments = self.read_attachments(memory);
        let pins = self.read_pins(memory);
        self.read_references(memory);
        let is_rechecked = self.recheck_programs(memory, aux);
        let after = self.read_bpf_marks(memory);
        if memory.is_stopped() {
            self.snapshot.bpf.clear();
            return;
        }
        let scan = &mut self.snapshot.bpf;
        let roots = &kernel.roots.bpf;
        let views = [
            (bpf_view::PROGRAM_IDR, roots.programs, programs && is_rechecked),
            (bpf_view::SYMBOLS, roots.symbols, symbols),
            (bpf_view::LINK_IDR, roots.links, links),
            (bpf_view::MAP_IDR, roots.maps, maps),
        ];
        let views = views.into_iter().filter(|(_, root, _)| !root.is_null());
        let attachments = attachments.map(|is_whole| (bpf_view::ATTACHMENT, is_whole));
        let pins = pins.map(|is_whole| (bpf_view::PIN, is_whole));
        for (view, is_whole) in
            views.map(|(view, _, is_whole)| (view, is_whole)).chain(attachments).chain(pins)
        {
            *(if is_whole { &mut scan.complete } else { &mut scan.stopped }) |= view;
        }
        // In such a copy, a view may lack what the other has from another moment.
        if self.snapshot.copied == MemoryCopyMode::PageByPage {
            scan.complete = 0;
        }
        scan.quiet = before == after;
        scan.is_fresh = true;
        if scan.quiet
            && let Some((structure, address)) = self.bpf.undecoded
        {
            self.snapshot.losses.miss(structure, address);
        }
        self.join_bpf_rows();
        // A filter of classic BPF is no program of eBPF.
        let scan = &mut self.snapshot.bpf;
        scan.links.retain(|link| !link.is_attachment() || link.program.is_some());
        self.read_program_details(memory);
        self.read_link_places(memory);
        self.read_helpers(memory);
        self.end_bpf_read(before);
    }

    fn read_bpf_marks(&mut self, memory: &mut ScannedMemory<'_>) -> BpfMarks {
        self.reader.clear();
        let pushed = push_bpf_marks(&mut self.reader, memory.kernel);
        memory.run(&mut self.reader);
        take_bpf_marks(&self.reader, memory.kernel, pushed)
    }

    /// Lists the entries of an IDR in `wanted`. Returns whether these are all.
    fn read_idr(
        &mut self,
        memory: &mut ScannedMemory<'_>,
        marks: Option<[u64; 2]>,
        rows_max: usize,
    ) -> bool {
        self.bpf.wanted.clear();
        let Some([head, _]) = marks else { return false };
        let mut nodes = core::mem::take(&mut self.scratch.addresses);
        nodes.clear();
        let is_whole = self.find_entries(memory, head, &mut nodes, TREE);
        self.scratch.addresses = nodes;
        let entries = &self.scratch.pids;
        let listed = entries.get(..rows_max.min(entries.len())).unwrap_or(&[]);
        self.bpf.wanted.extend_from_slice(listed);
        if entries.len() > rows_max {
            self.snapshot.losses.cut(WalkedStructure::BpfTree, rows_max);
        }
        is_whole && entries.len() <= rows_max
    }

    /// Makes rows of the listed programs, which a view shows. Returns whether all have one.
    pub(super) fn read_wanted_programs(
        &mut self,
        memory: &mut ScannedMemory<'_>,
        view: u16,
    ) -> bool {
        let layouts = &memory.kernel.layouts;
        let Some((layout, rest)) = layouts.bpf_prog.as_ref().zip(layouts.bpf_prog_aux.as_ref())
        else {
            return false;
        };
        let scan = &mut self.snapshot.bpf;
        let walk = &mut self.bpf;
        let (wanted, mut begun) =
            (core::mem::take(&mut walk.wanted), core::mem::take(&mut walk.begun));
        let auxes = &mut walk.addresses;
        begun.clear();
        auxes.clear();
        let mut undecoded = None;
        fetch(&mut self.reader, memory, &layout.packing, &wanted, |index, bytes| {
            match bytes.and_then(|bytes| BpfProgram::decode(layout, bytes)) {
                Some(program) => {
                    begun.push((wanted[index], program));
                    auxes.push(program.aux);
                }
                None => undecoded = undecoded.or(Some(wanted[index])),
            }
        });
        let auxes = core::mem::take(auxes);
        let mut end = Ok(());
        fetch(&mut self.reader, memory, &rest.packing, &auxes, |index, bytes| {
            let (address, program) = begun[index];
            let aux = bytes.and_then(|bytes| BpfProgramAux::decode(rest, bytes));
            match aux.filter(|aux| aux.program == address) {
                Some(aux) => {
                    let added = walk.add_program(scan, rest, (address, &program, &aux), view);
                    end = end.and(added);
                }
                None => undecoded = undecoded.or(Some(address)),
            }
        });
        if let Err(stop) = end {
            self.snapshot.losses.stop(WalkedStructure::BpfProgram, stop);
        }
        let first = undecoded.map(|address| (WalkedStructure::BpfProgram, address));
        // A link or a descriptor may lead to one that has just been freed.
        if !matches!(view, bpf_view::REFERENCE | bpf_view::ATTACHMENT | bpf_view::PIN) {
            walk.undecoded = walk.undecoded.or(first);
        }
        (walk.wanted, walk.begun, walk.addresses) = (wanted, begun, auxes);
        walk.wanted.clear();
        undecoded.is_none() && end.is_ok()
    }

    /// The same of maps.
    fn read_wanted_maps(&mut self, memory: &mut ScannedMemory<'_>, view: u16) -> bool {
        let Some(layout) = &memory.kernel.layouts.bpf_map else { return false };
        let scan = &mut self.snapshot.bpf;
        let BpfWalk { wanted, maps, undecoded, .. } = &mut self.bpf;
        let mut is_whole = true;
        fetch(&mut self.reader, memory, &layout.packing, wanted, |index, bytes| {
            let address = wanted[index];
            let Some(map) = bytes.and_then(|bytes| BpfMap::decode(layout, bytes)) else {
                is_whole = false;
                let first = Some((WalkedStructure::BpfMap, address));
                *undecoded = undecoded.or(first.filter(|_| view == bpf_view::PROGRAM_IDR));
                return;
            };
            let row = BpfMapRow {
                address,
                id: map.id,
                kind: map.kind,
                name: text_of(&map.name),
                key_bytes: map.key_bytes,
                value_bytes: map.value_bytes,
                entries_max: map.entries_max,
                flags: map.flags,
                views: view,
                holder: None,
            };
            match scan.maps.push(row) {
                Some(row) => _ = maps.insert(address.0, row.number()),
                None => is_whole = false,
            }
        });
        wanted.clear();
        is_whole
    }

    /// Reads the objects that only attachments, pins, descriptors or links show.
    fn read_references(&mut self, memory: &mut ScannedMemory<'_>) {
        self.want_programs_of_links(bpf_view::ATTACHMENT);
        self.read_wanted_programs(memory, bpf_view::ATTACHMENT);
        self.want_pinned_programs();
        self.read_wanted_programs(memory, bpf_view::PIN);
        self.want_files(BpfFileKind::Link);
        self.read_wanted_links(memory, bpf_view::REFERENCE);
        self.want_files(BpfFileKind::Map);
        self.read_wanted_maps(memory, bpf_view::REFERENCE);
        self.want_files(BpfFileKind::Program);
        self.want_programs_of_links(bpf_view::REFERENCE);
        self.read_wanted_programs(memory, bpf_view::REFERENCE);
    }

    /// Lists the programs of links that have no row, and notes them as a view of the others; or
    /// those of attachments.
    fn want_programs_of_links(&mut self, view: u16) {
        let (scan, walk) = (&mut self.snapshot.bpf, &mut self.bpf);
        for row in 0..scan.links.len() {
            let link = scan.links.as_slice().get(row).copied().unwrap_or_default();
            if link.is_attachment() == (view == bpf_view::ATTACHMENT) {
                walk.want_program(scan, link.program_address, view);
            }
        }
    }

    /// Lists what descriptors of a kind lead to and has no row, and notes them as a view of the
    /// others.
    fn want_files(&mut self, kind: BpfFileKind) {
        let (scan, walk) = (&mut self.snapshot.bpf, &mut self.bpf);
        walk.wanted.clear();
        for at in 0..walk.files.len() {
            let Some(file) = walk.files.get(at).copied().filter(|file| file.kind == kind) else {
                continue;
            };
            let object = file.object;
            let is_known = match kind {
                BpfFileKind::Program => {
                    walk.want_program(scan, object, bpf_view::REFERENCE);
                    continue;
                }
                BpfFileKind::Map => note(&walk.maps, object, |row| {
                    let row = scan.maps.at_mut(Index::from_number(row))?;
                    row.views |= bpf_view::REFERENCE;
                    Some(())
                }),
                BpfFileKind::Event => continue,
                BpfFileKind::Link => note(&walk.links, object, |row| {
                    let row = scan.links.at_mut(Index::from_number(row))?;
                    row.views |= bpf_view::REFERENCE;
                    Some(())
                }),
            };
            let has_room = walk.wanted.len() < walk.wanted.capacity();
            if !is_known && object.is_plausible() && has_room && !walk.wanted.contains(&object) {
                walk.wanted.push(object);
            }
        }
    }

    /// Reads the IDR again if it lacks a program, and drops those that have no reference any more.
    /// Returns whether this could be done.
    fn recheck_programs(&mut self, memory: &mut ScannedMemory<'_>, layout: &BpfProgAux) -> bool {
        let is_missing = |row: &BpfProgramRow| row.views & bpf_view::PROGRAM_IDR == 0;
        if !self.snapshot.bpf.programs.iter().any(is_missing) {
            return true;
        }
        let marks = self.read_bpf_marks(memory);
        let is_whole = self.read_idr(memory, marks.idrs[0], BPF_PROGRAMS_MAX);
        let scan = &mut self.snapshot.bpf;
        let walk = &mut self.bpf;
        for at in 0..walk.wanted.len() {
            let row = walk.wanted.get(at).and_then(|&address| walk.program_at(address));
            if let Some(row) = scan.programs.at_mut(row) {
                row.views |= bpf_view::PROGRAM_IDR;
            }
        }
        walk.wanted.clear();
        let rows = scan.programs.as_mut_slice();
        walk.addresses.clear();
        walk.addresses.extend(walk.parts.iter().map(|parts| parts.aux));
        fetch(&mut self.reader, memory, &layout.packing, &walk.addresses, |index, bytes| {
            let Some(row) = rows.get_mut(index).filter(|row| is_missing(row)) else { return };
            let aux = bytes.and_then(|bytes| BpfProgramAux::decode(layout, bytes));
            match aux.filter(|aux| aux.program == row.address && aux.references != 0) {
                Some(aux) => (row.id, row.references) = (aux.id, aux.references),
                None => row.views = 0,
            }
        });
        walk.drop_unseen(scan, layout);
        is_whole
    }

    /// Joins links with their programs, and all objects with the processes that hold them.
    fn join_bpf_rows(&mut self) {
        let (scan, walk) = (&mut self.snapshot.bpf, &self.bpf);
        for link in scan.links.as_mut_slice() {
            link.program = walk.program_at(link.program_address);
            let program = scan.programs.at(link.program);
            if link.kind == attachment_kind::CGROUP {
                let (kind, expected) = program.map_or((0, 0), |it| (it.kind, it.attach_kind));
                link.attach_kind =
                    cgroup_attach_kind(link.attach_kind.unwrap_or(0), kind, expected);
            }
        }
        for file in &walk.files {
            let number = |map: &AddressMap| map.get(file.object.0);
            match file.kind {
                BpfFileKind::Event => {}
                BpfFileKind::Program => {
                    if let Some(row) = scan.programs.at_mut(walk.program_at(file.object)) {
                        row.holder = row.holder.or(file.process);
                    }
                }
                BpfFileKind::Map => {
                    let row = number(&walk.maps).and_then(Index::from_number);
                    if let Some(row) = scan.maps.at_mut(row) {
                        row.holder = row.holder.or(file.process);
                    }
                }
                BpfFileKind::Link => {
                    let row = number(&walk.links).and_then(Index::from_number);
                    let Some(link) = scan.links.at_mut(row) else { continue };
                    link.holder = link.holder.or(file.process);
                    if let Some(row) = scan.programs.at_mut(link.program) {
                        row.holder = row.holder.or(file.process);
                    }
                }
            }
        }
    }

    /// Reads who loaded each program, and the name of the function that it is for.
    fn read_program_details(&mut self, memory: &mut ScannedMemory<'_>) {
        let rows = self.snapshot.bpf.programs.as_mut_slice();
        let BpfWalk { parts, addresses, .. } = &mut self.bpf;
        if let Some(layout) = &memory.kernel.layouts.user_struct {
            addresses.clear();
            addresses.extend(parts.iter().map(|parts| parts.user));
            fetch(&mut self.reader, memory, &layout.packing, addresses, |index, bytes| {
                let user = bytes.map(|bytes| View::new(bytes).unsigned(layout.uid) as u32);
                if let Some(row) = rows.get_mut(index) {
                    row.user_id = user;
                }
            });
        }
        addresses.clear();
        addresses.extend(parts.iter().map(|parts| parts.function));
        let push =
            |reader: &mut MemoryReader, space: &_, &text: &KernelVa| push_text(reader, space, text);
        fetch_each(&mut self.reader, memory, addresses, push, |index, bytes| {
            if let Some((row, bytes)) = rows.get_mut(index).zip(bytes) {
                row.function = text_of(bytes);
            }
        });
    }

    /// Notes what the next scans must know.
    fn end_bpf_read(&mut self, marks: BpfMarks) {
        let scan = &self.snapshot.bpf;
        let known = &mut self.bpf.known;
        let is_settled = |row: &BpfProgramRow| row.views & bpf_view::PROGRAM_IDR != 0;
        let is_settled = scan.quiet && scan.programs.iter().all(is_settled);
        let successive = if known.marks == marks { known.unsettled } else { 0 };
        known.unsettled = if is_settled { 0 } else { successive.saturating_add(1) };
        (known.marks, known.is_read) = (marks, true);
    }
}

/// Adds the first bytes of a C string to a batch: all within its page, so that they can be read.
pub(super) fn push_text(
    reader: &mut MemoryReader,
    space: &KernelSpace,
    text: KernelVa,
) -> Option<u32> {
    let left = PAGE_BYTES - text.0 % PAGE_BYTES;
    reader.push_bytes(space, text, left.min(TRACEPOINT_NAME_BYTES as u64) as u32)
}

/// Whether a map has an address whose row `take` finds.
fn note(map: &AddressMap, address: KernelVa, take: impl FnOnce(u32) -> Option<()>) -> bool {
    map.get(address.0).and_then(take).is_some()
}

/// Whether the kernel has eBPF, and the scan knows where.
fn has_bpf(kernel: &Kernel) -> bool {
    let layouts = &kernel.layouts;
    layouts.bpf_prog.is_some() && !kernel.roots.bpf.programs.is_null()
}

#[cfg(test)]
mod tests;
