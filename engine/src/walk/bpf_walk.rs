//! What reads of eBPF use and remember. The module [`super::bpf`] reads.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::early_stop::EarlyStop;
use panoptes_decoders::kernel::bpf::{BpfProgAux, BpfProgram, BpfProgramAux};
use panoptes_tables::{AddressMap, HashKey, room};

use super::bpf_attach::AttachWalk;
use super::bpf_pins::PinWalk;
use super::bpf_rows::{
    BPF_LINKS_MAX, BPF_MAPS_MAX, BPF_PROGRAMS_MAX, BpfFile, BpfFileKind, BpfHelpers, BpfLinkRow,
    BpfProgramRow, BpfScan,
};
use super::losses::WalkedStructure;
use super::machine_row::BpfMarks;
use super::module_details::text_of;
use super::snapshot::{DentryRow, FileRow, Index};

/// Number of successive scans that read eBPF because the last read found something unsettled: a
/// program that a view lacks, or whose helpers are unknown. After them, whole scans do.
const UNSETTLED_BPF_SCANS_MAX: u32 = 64;
/// Maximum number of descriptors that lead to eBPF and are followed.
const FILES_MAX: usize = 4096;
/// Maximum number of descriptors of performance events that are followed.
const EVENTS_MAX: usize = 1024;
/// Maximum number of symbols that are of no program. A program has some functions at most.
pub(super) const OTHERS_MAX: usize = 4096;
/// Number of pieces of instructions that a scan reads: 2 MiB.
pub(super) const CHUNKS_MAX: usize = 512;
/// A program whose helpers are known.
#[derive(Clone, Copy, Debug)]
pub(super) struct KnownProgram {
    pub(super) address: KernelVa,
    /// Its number, which differs from that of another one in the same place.
    pub(super) id: u32,
    pub(super) helpers: Option<BpfHelpers>,
}

/// A piece of the instructions of a program.
#[derive(Clone, Copy, Debug)]
pub(super) struct CodeChunk {
    pub(super) program: Index<BpfProgramRow>,
    pub(super) at: KernelVa,
    pub(super) bytes: u32,
    /// Whether it is the first one of its program.
    pub(super) is_first: bool,
}

/// A step on the way from a link to its place: what is read next.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlaceHop {
    pub(super) link: Index<BpfLinkRow>,
    pub(super) at: KernelVa,
    pub(super) step: PlaceStep,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum PlaceStep {
    /// The link itself, as one of its type.
    Link(u32),
    Trampoline,
    RawEvent,
    Tracepoint,
    /// A C string.
    Name,
    Cgroup,
    Directory,
    Net,
    Device,
    /// `struct trace_event_call`, and what its name leads to.
    EventCall,
    EventName,
    /// Addresses of functions, so many.
    Functions(u32),
}

/// What scans of a system remember of eBPF.
#[derive(Debug)]
pub(super) struct KnownBpf {
    /// Programs of the last read.
    pub(super) programs: Vec<KnownProgram>,
    /// Links of the symbols that are of no program.
    pub(super) others: Vec<KernelVa>,
    /// The marks at the beginning of the last read.
    pub(super) marks: BpfMarks,
    pub(super) is_read: bool,
    /// Number of successive reads that found something unsettled.
    pub(super) unsettled: u32,
}

impl KnownBpf {
    pub(super) fn new() -> Self {
        Self {
            programs: room::list(BPF_PROGRAMS_MAX),
            others: room::list(OTHERS_MAX),
            marks: BpfMarks::default(),
            is_read: false,
            unsettled: 0,
        }
    }

    pub(super) fn forget(&mut self) {
        self.programs.clear();
        self.others.clear();
        (self.is_read, self.unsettled) = (false, 0);
    }

    /// Whether what has these marks differs from the last read, or may soon.
    pub(super) fn must_read(&self, marks: &BpfMarks) -> bool {
        !self.is_read
            || self.marks != *marks
            || (1..UNSETTLED_BPF_SCANS_MAX).contains(&self.unsettled)
    }

    pub(super) const fn is_read(&self) -> bool {
        self.is_read
    }
}

/// What a program leads to. There is one for each row of a program.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProgramParts {
    /// `struct bpf_prog_aux *`
    pub(super) aux: KernelVa,
    /// The link behind it in the list of symbols.
    pub(super) next_symbol: KernelVa,
    pub(super) user: KernelVa,
    pub(super) function: KernelVa,
}

/// What reads of eBPF use. Nothing but what is known has a meaning after a read.
#[derive(Debug)]
pub(super) struct BpfWalk {
    pub(super) known: KnownBpf,
    /// Descriptors of this scan that lead to eBPF.
    pub(super) files: Vec<BpfFile>,
    /// The same that lead to performance events.
    pub(super) events: Vec<BpfFile>,
    /// The number of the row of each program, and the same by its link in the list of symbols.
    pub(super) programs: AddressMap,
    pub(super) by_symbol: AddressMap,
    pub(super) parts: Vec<ProgramParts>,
    /// Objects to be read.
    pub(super) wanted: Vec<KernelVa>,
    pub(super) begun: Vec<(KernelVa, BpfProgram)>,
    pub(super) addresses: Vec<KernelVa>,
    pub(super) maps: AddressMap,
    pub(super) links: AddressMap,
    /// Symbols that are of no program: positions in `other_links`, by their links.
    pub(super) others: AddressMap,
    /// The links behind these; null where it must be read anew.
    pub(super) other_links: Vec<KernelVa>,
    /// Those of them that the list has.
    pub(super) shown_others: Vec<KernelVa>,
    pub(super) hops: Vec<PlaceHop>,
    pub(super) more_hops: Vec<PlaceHop>,
    pub(super) chunks: Vec<CodeChunk>,
    pub(super) attach: AttachWalk,
    pub(super) pins: PinWalk,
    pub(super) lone_reads_left: u32,
    /// The first object of each view that is none.
    pub(super) undecoded: Option<(WalkedStructure, KernelVa)>,
}

impl BpfWalk {
    pub(super) fn new(key: HashKey) -> Self {
        Self {
            known: KnownBpf::new(),
            files: room::list(FILES_MAX),
            events: room::list(EVENTS_MAX),
            programs: AddressMap::new(2 * BPF_PROGRAMS_MAX, key.derive("walk: programs")),
            by_symbol: AddressMap::new(BPF_PROGRAMS_MAX, key.derive("walk: symbols of programs")),
            parts: room::list(BPF_PROGRAMS_MAX),
            wanted: room::list(BPF_PROGRAMS_MAX.max(BPF_MAPS_MAX).max(BPF_LINKS_MAX)),
            begun: room::list(BPF_PROGRAMS_MAX),
            addresses: room::list(OTHERS_MAX.max(BPF_PROGRAMS_MAX)),
            maps: AddressMap::new(2 * BPF_MAPS_MAX, key.derive("walk: maps")),
            links: AddressMap::new(2 * BPF_LINKS_MAX, key.derive("walk: links")),
            others: AddressMap::new(OTHERS_MAX, key.derive("walk: other symbols")),
            other_links: room::list(OTHERS_MAX),
            shown_others: room::list(OTHERS_MAX),
            hops: room::list(BPF_LINKS_MAX),
            more_hops: room::list(BPF_LINKS_MAX),
            chunks: room::list(CHUNKS_MAX),
            attach: AttachWalk::new(key),
            pins: PinWalk::new(key),
            lone_reads_left: 0,
            undecoded: None,
        }
    }

    /// Forgets what is known of a system.
    pub(super) fn forget(&mut self) {
        self.known.forget();
        self.attach.forget();
        self.pins.forget();
    }

    /// Forgets the descriptors of the last scan.
    pub(super) fn begin_scan(&mut self) {
        self.files.clear();
        self.events.clear();
    }

    pub(super) fn begin(&mut self) {
        self.programs.clear();
        self.by_symbol.clear();
        self.parts.clear();
        self.maps.clear();
        self.links.clear();
        self.undecoded = None;
    }

    /// Notes an open file of the filesystem of anonymous inodes if it leads to eBPF.
    pub(super) fn note_file(&mut self, file: &FileRow, dentry: &DentryRow) {
        let kind = match dentry.text.get(..dentry.name.length as usize) {
            Some(b"bpf-prog") => BpfFileKind::Program,
            Some(b"bpf-map") => BpfFileKind::Map,
            Some(b"bpf_link" | b"bpf-link") => BpfFileKind::Link,
            Some(b"[perf_event]") => BpfFileKind::Event,
            _ => return,
        };
        let is_event = kind == BpfFileKind::Event;
        let files = if is_event { &mut self.events } else { &mut self.files };
        if files.len() < files.capacity() {
            let (object, process) = (file.open.private_data, file.process);
            files.push(BpfFile { kind, object, process });
        }
    }

    /// The row of a program, if it has one.
    pub(super) fn program_at(&self, address: KernelVa) -> Option<Index<BpfProgramRow>> {
        self.programs.get(address.0).and_then(Index::from_number)
    }

    /// Notes that a view shows the program at an address, which is read later if it has no row.
    pub(super) fn want_program(&mut self, scan: &mut BpfScan, address: KernelVa, view: u16) {
        if let Some(row) = scan.programs.at_mut(self.program_at(address)) {
            row.views |= view;
        } else if address.is_plausible()
            && self.wanted.len() < BPF_PROGRAMS_MAX
            && !self.wanted.contains(&address)
        {
            self.wanted.push(address);
        }
    }

    /// Makes the row of a program. An error says that there is no room.
    pub(super) fn add_program(
        &mut self,
        scan: &mut BpfScan,
        layout: &BpfProgAux,
        (address, program, aux): (KernelVa, &BpfProgram, &BpfProgramAux),
        view: u16,
    ) -> Result<(), EarlyStop> {
        let full = EarlyStop::NoRoom { rows: BPF_PROGRAMS_MAX as u32 };
        let row = scan.programs.push(row_of(address, program, aux, view)).ok_or(full)?;
        self.programs.insert(address.0, row.number());
        let (at, next_symbol) = (program.aux, aux.next_symbol);
        if let Some(link) = layout.ksym_lnode {
            self.by_symbol.insert(at.plus(link.offset.into()).0, row.number());
        }
        let (user, function) = (aux.user, aux.attach_function);
        self.parts.push(ProgramParts { aux: at, next_symbol, user, function });
        Ok(())
    }

    /// Drops the rows that no view shows.
    pub(super) fn drop_unseen(&mut self, scan: &mut BpfScan, layout: &BpfProgAux) {
        let mut rows = scan.programs.iter();
        self.parts.retain(|_| rows.next().is_some_and(|row| row.views != 0));
        scan.programs.retain(|row| row.views != 0);
        self.programs.clear();
        self.by_symbol.clear();
        for ((row, program), parts) in scan.programs.indexed().zip(&self.parts) {
            self.programs.insert(program.address.0, row.number());
            if let Some(link) = layout.ksym_lnode {
                self.by_symbol.insert(parts.aux.plus(link.offset.into()).0, row.number());
            }
        }
    }
}

fn row_of(
    address: KernelVa,
    program: &BpfProgram,
    aux: &BpfProgramAux,
    views: u16,
) -> BpfProgramRow {
    let [start, end] = aux.symbol;
    let is_compiled = program.image_bytes != 0 || !start.is_null();
    let image = if is_compiled { program.function } else { KernelVa::NULL };
    let from_symbol = u32::try_from(end.0.saturating_sub(image.0)).unwrap_or(0);
    let image_bytes = if program.image_bytes == 0 { from_symbol } else { program.image_bytes };
    BpfProgramRow {
        address,
        id: aux.id,
        kind: program.kind,
        attach_kind: program.attach_kind,
        name: text_of(&aux.name),
        tag: program.tag,
        instructions: program.instructions,
        image,
        image_bytes: if is_compiled { image_bytes } else { 0 },
        loaded_ns: aux.loaded_ns,
        views,
        maps: aux.maps,
        references: aux.references,
        ..BpfProgramRow::default()
    }
}
