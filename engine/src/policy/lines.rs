//! The lines of `panoptes scan`: everything that one scan saw, in the contract's order.
//!
//! Kinds are in the order of [`ScanKind`]. Within a kind, lines are sorted by process id (those
//! without one first), then by thread id, descriptor, address or 4-tuple; kernel modules by name,
//! objects of eBPF by kind and number.
//! Attributes that depend on when the scan ran are left out, so that two scans can be compared.

mod integrity;

use arrayvec::ArrayVec;
use panoptes_decoders::early_stop::EarlyStop;
use panoptes_decoders::kernel::module::ModuleStage;
use panoptes_decoders::kernel::vm_area_struct::Vma;
use panoptes_decoders::layout::c_string;
use panoptes_records::json::text::Text;
use panoptes_records::record::kernel_module::{KernelModuleDetails, KernelModuleSection};
pub use panoptes_records::record::scan::{Kinds, ScanKind};
use panoptes_records::record::scan::{SCAN_LINE_BYTES, ScanLine, ScanObject};
use panoptes_records::record::value::{MemoryAddress, Objects};
use panoptes_records::redact::Redactor;
use panoptes_tables::room;

use super::describe;
use super::ebpf_lines::{self, EbpfWords};
use super::module_words::ModuleWords;
use super::shell_history::shell_command;
use crate::detect::shell_history::{HistoryCommand, TypedCommand};
use crate::limits::Limits;
use crate::loss::{FREQUENT_STOPS_MAX, FrequentStop, StopTallies};
use crate::page_cache::Contents;
use crate::path::is_beyond_paths;
use crate::state::container::ContainerFacts;
use crate::state::facts::{
    AreaFacts, ConnectionFacts, DescriptorFacts, HeapRule, NameBuffers, ProcessFacts, ThreadFacts,
    executable_of,
};
use crate::state::holders::Holders;
use crate::state::modules::ModuleFacts;
use crate::walk::{
    BPF_LINKS_MAX, BPF_MAPS_MAX, BPF_PROGRAMS_MAX, ConnectionRow, ContainerRow, Index, MODULES_MAX,
    ModuleRow, ModuleSection, ProcessRow, Snapshot,
};

/// Maximum number of sections in the line of a kernel module.
const LINE_SECTIONS_MAX: usize = 256;

/// What lines need besides a snapshot.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traits<'a> {
    /// Which areas are called `[heap]`.
    pub heap: HeapRule,
    /// The area of the vsyscall page, if the kernel shows it.
    pub gate_area: Option<Vma>,
    /// Contents of files, if requested.
    pub contents: Option<&'a Contents>,
    /// Commands in the shells' lists, if requested.
    pub commands: &'a [HistoryCommand],
}

/// Totals of one [`LineWriter::write`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LineCounts {
    pub lines: u64,
    /// Names of files that could not be read.
    pub unnamed: u64,
    /// Lines that were left out because even their shortest form is too long.
    pub too_long: u64,
    /// Reasons of unnamed files.
    stops: StopTallies<1>,
}

impl LineCounts {
    /// The most frequent reasons why files are unnamed.
    pub fn frequent_stops(&self) -> ArrayVec<FrequentStop, FREQUENT_STOPS_MAX> {
        self.stops.most_frequent(|_, _| Some("path in a line"))
    }

    /// Counts an open file without a name, unless that exceeds the kernel's own limit.
    #[cold]
    fn add_unnamed(&mut self, stop: EarlyStop) {
        if !is_beyond_paths(stop) {
            self.unnamed += 1;
            self.stops.add(0, stop);
        }
    }
}

/// Writes lines, in memory allocated at start.
#[derive(Debug)]
pub struct LineWriter {
    out: Box<[u8]>,
    string_length: usize,
    redactor: Option<Redactor>,
    scratch: LineScratch,
}

#[derive(Debug)]
struct LineScratch {
    names: NameBuffers,
    holders: Holders,
    /// Containers in the order of their lines.
    order: Vec<Index<ContainerRow>>,
    /// Kernel modules in the order of their lines.
    modules: Vec<Index<ModuleRow>>,
    /// Numbers of objects of eBPF, and the positions of their rows, in the order of their lines.
    ebpf: Vec<(u32, usize)>,
}

/// Passes lines to a sink, and counts them.
struct ScanLineEmitter<'a, E> {
    out: &'a mut [u8],
    string_length: usize,
    redactor: Option<&'a mut Redactor>,
    counts: LineCounts,
    sink: &'a mut dyn FnMut(&[u8]) -> Result<(), E>,
}

impl<E> ScanLineEmitter<'_, E> {
    fn write<T: ScanObject>(&mut self, line: &ScanLine<'_, T>) -> Result<(), E> {
        let redactor = self.redactor.as_deref_mut();
        let Ok(length) = line.write_redacted(self.out, self.string_length, redactor) else {
            self.counts.too_long += 1;
            return Ok(());
        };
        self.counts.lines += 1;
        (self.sink)(&self.out[..length])
    }

    fn threads(&mut self, snapshot: &Snapshot) -> Result<(), E> {
        for &index in snapshot.by_tid.iter() {
            let Some(row) = snapshot.threads.at(index) else { continue };
            let details = describe::thread(&ThreadFacts::read(row));
            let line = ScanLine::of_process(row.task.tgid, &details);
            self.write(&line)?;
        }
        Ok(())
    }

    fn connection(
        &mut self,
        snapshot: &Snapshot,
        index: Index<ConnectionRow>,
        holder: Option<(u32, u32)>,
    ) -> Result<(), E> {
        let Some(row) = snapshot.connections.at(index) else { return Ok(()) };
        let facts = ConnectionFacts::read(snapshot, row, holder.map(|(_, descriptor)| descriptor));
        let interface = describe::interface_of(snapshot, &facts);
        let details = describe::network_connection(&facts, interface);
        let process_id = holder.map(|(process_id, _)| process_id);
        self.write(&ScanLine { process_id, ..ScanLine::new(&details) })
    }

    fn interfaces(&mut self, snapshot: &Snapshot) -> Result<(), E> {
        for row in snapshot.interfaces.iter() {
            let line = ScanLine {
                process_id: None,
                details: &describe::interface(row),
                network_namespace: describe::namespace("net", row.network_namespace),
            };
            self.write(&line)?;
        }
        Ok(())
    }

    fn commands(&mut self, commands: &[HistoryCommand]) -> Result<(), E> {
        for &HistoryCommand { process_id, ref line, time_s } in commands {
            let details = shell_command(&TypedCommand { line, time_s });
            self.write(&ScanLine::of_process(process_id, &details))?;
        }
        Ok(())
    }
}

impl LineWriter {
    pub fn new(limits: &Limits) -> Self {
        Self {
            out: room::copies(0, SCAN_LINE_BYTES),
            string_length: limits.string_length as usize,
            redactor: None,
            scratch: LineScratch {
                names: NameBuffers::default(),
                holders: Holders::new(limits),
                order: room::list(limits.containers_seen_max()),
                modules: room::list(MODULES_MAX),
                ebpf: room::list(BPF_PROGRAMS_MAX.max(BPF_MAPS_MAX).max(BPF_LINKS_MAX)),
            },
        }
    }

    /// Sets what finds the secrets in arguments and shell commands.
    pub fn set_redactor(&mut self, redactor: Option<Redactor>) {
        self.redactor = redactor;
    }

    /// Passes every line of `snapshot`, with its line feed, to `sink`. Stops at the sink's first
    /// error.
    pub fn write<E>(
        &mut self,
        snapshot: &Snapshot,
        kinds: Kinds,
        traits: &Traits<'_>,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<LineCounts, E> {
        let Self { out, string_length, redactor, scratch } = self;
        let (redactor, counts) = (redactor.as_mut(), LineCounts::default());
        let lines =
            &mut ScanLineEmitter { out, string_length: *string_length, redactor, counts, sink };
        for kind in kinds.iter() {
            match kind {
                ScanKind::Processes => scratch.processes(snapshot, traits, lines)?,
                ScanKind::Threads => lines.threads(snapshot)?,
                ScanKind::Files => scratch.files(snapshot, lines)?,
                ScanKind::Memory => scratch.memory(snapshot, traits, lines)?,
                ScanKind::Connections => scratch.connections(snapshot, lines)?,
                ScanKind::Modules => scratch.modules(snapshot, lines)?,
                ScanKind::Bpf => scratch.ebpf(snapshot, lines)?,
                ScanKind::Interfaces => lines.interfaces(snapshot)?,
                ScanKind::Containers => scratch.containers(snapshot, lines)?,
                ScanKind::ShellHistory => lines.commands(traits.commands)?,
                // A snapshot has none of it: see `write_integrity`.
                ScanKind::Integrity => {}
            }
        }
        Ok(lines.counts)
    }
}

impl LineScratch {
    fn processes<E>(
        &mut self,
        snapshot: &Snapshot,
        traits: &Traits<'_>,
        lines: &mut ScanLineEmitter<'_, E>,
    ) -> Result<(), E> {
        for &index in snapshot.by_pid.iter() {
            let Some(row) = snapshot.processes.at(index) else { continue };
            let facts = ProcessFacts::read(snapshot, row, &mut self.names);
            let Some(mut facts) = facts else { continue };
            facts.executable_hashes = traits
                .contents
                .and_then(|contents| contents.get(&executable_of(snapshot, row)?)?.hashes());
            if let Some(stop) = facts.executable_stop {
                lines.counts.add_unnamed(stop);
            }
            let details = describe::process(&facts, snapshot.machine.tsc_khz);
            lines.write(&ScanLine::new(&details))?;
        }
        Ok(())
    }

    fn files<E>(
        &mut self,
        snapshot: &Snapshot,
        lines: &mut ScanLineEmitter<'_, E>,
    ) -> Result<(), E> {
        for (process, process_id) in processes_by_pid(snapshot) {
            for table in snapshot.files_structs_of(process) {
                // A list without all threads would be wrong.
                let has_all = snapshot.has_all_holders(process);
                let threads =
                    if has_all { snapshot.files_threads.range(table.threads) } else { &[] };
                let descriptors = snapshot.descriptors.range(table.descriptors);
                for descriptor in descriptors.iter().filter(|descriptor| !descriptor.moved) {
                    let facts =
                        DescriptorFacts::read(snapshot, descriptor, threads, &mut self.names);
                    if let Some(stop) = facts.name_stop {
                        lines.counts.add_unnamed(stop);
                    }
                    let details = describe::file_descriptor(&facts);
                    lines.write(&ScanLine::of_process(process_id, &details))?;
                }
            }
        }
        Ok(())
    }

    fn memory<E>(
        &mut self,
        snapshot: &Snapshot,
        traits: &Traits<'_>,
        lines: &mut ScanLineEmitter<'_, E>,
    ) -> Result<(), E> {
        for (process, process_id) in processes_by_pid(snapshot) {
            let Some(mm) = snapshot.mms.at(process.mm) else { continue };
            for area in snapshot.vmas.range(mm.vmas) {
                let names = &mut self.names;
                let facts = AreaFacts::read(snapshot, process_id, mm, area, traits.heap, names);
                if let Some(stop) = facts.file_stop {
                    lines.counts.add_unnamed(stop);
                }
                let details = describe::memory(&facts);
                lines.write(&ScanLine::new(&details))?;
            }
            if let Some(gate) = traits.gate_area.filter(|_| mm.has_gate()) {
                let details = describe::memory(&AreaFacts::gate(process_id, &gate));
                lines.write(&ScanLine::new(&details))?;
            }
        }
        Ok(())
    }

    fn connections<E>(
        &mut self,
        snapshot: &Snapshot,
        lines: &mut ScanLineEmitter<'_, E>,
    ) -> Result<(), E> {
        self.holders.find(snapshot);
        for index in snapshot.connections.indexes() {
            if self.holders.of(index).is_empty() {
                lines.connection(snapshot, index, None)?;
            }
        }
        self.holders.sort_by_process();
        for at in 0..self.holders.all().len() {
            let holder = self.holders.all()[at];
            let holding = Some((holder.process_id, holder.descriptor));
            lines.connection(snapshot, holder.connection, holding)?;
        }
        Ok(())
    }

    fn modules<E>(
        &mut self,
        snapshot: &Snapshot,
        lines: &mut ScanLineEmitter<'_, E>,
    ) -> Result<(), E> {
        let modules = &snapshot.modules;
        self.modules.clear();
        self.modules.extend(modules.rows.indexes().take(MODULES_MAX));
        self.modules.sort_unstable_by_key(|&index| {
            modules.rows.at(index).map(|row| (row.module.name, row.address))
        });
        // Made once: to move so many would cost more than the lines.
        let mut names = ArrayVec::<&[u8], MODULES_MAX>::new();
        let mut holders = ArrayVec::<Text<'_>, MODULES_MAX>::new();
        let mut sections = ArrayVec::new();
        for &index in &self.modules {
            let Some(row) = modules.rows.at(index) else { continue };
            let facts = ModuleFacts::read(row, modules.complete);
            // As in /proc/modules: it is being loaded or unloaded.
            if facts.stage == ModuleStage::Unformed && facts.missing.is_empty() {
                continue;
            }
            names.clear();
            names.extend(modules.holders_of(row).take(MODULES_MAX).map(|one| one.module.name()));
            names.sort_unstable();
            holders.clear();
            holders.extend(names.iter().map(|name| Text::new(name)));
            let is_cut = list_sections(snapshot, index, &mut sections);
            let words = ModuleWords::of(&facts);
            let version = row.version.as_str();
            lines.write(&ScanLine::new(&KernelModuleDetails {
                kernel_module_holders: (!holders.is_empty()).then_some(&holders),
                kernel_module_version: (!version.is_empty()).then(|| version.into()),
                kernel_module_sections: (!sections.is_empty())
                    .then(|| Objects::cut_if(&sections, is_cut)),
                ..describe::kernel_module(&facts, &words)
            }))?;
        }
        Ok(())
    }

    fn ebpf<E>(
        &mut self,
        snapshot: &Snapshot,
        lines: &mut ScanLineEmitter<'_, E>,
    ) -> Result<(), E> {
        let scan = &snapshot.bpf;
        sort_by_id(&mut self.ebpf, scan.programs.iter().map(|row| row.id));
        for row in self.ebpf.iter().filter_map(|&(_, at)| scan.programs.as_slice().get(at)) {
            let words = EbpfWords::of_program(row);
            lines.write(&ScanLine::new(&ebpf_lines::program(snapshot, row, &words)))?;
        }
        sort_by_id(&mut self.ebpf, scan.maps.iter().map(|row| row.id));
        for row in self.ebpf.iter().filter_map(|&(_, at)| scan.maps.as_slice().get(at)) {
            let words = EbpfWords::of_map(row);
            lines.write(&ScanLine::new(&ebpf_lines::map(snapshot, row, &words)))?;
        }
        sort_by_id(&mut self.ebpf, scan.links.iter().map(|row| row.id));
        for row in self.ebpf.iter().filter_map(|&(_, at)| scan.links.as_slice().get(at)) {
            let words = EbpfWords::of_link(row);
            lines.write(&ScanLine::new(&ebpf_lines::link(snapshot, row, &words)))?;
        }
        Ok(())
    }

    fn containers<E>(
        &mut self,
        snapshot: &Snapshot,
        lines: &mut ScanLineEmitter<'_, E>,
    ) -> Result<(), E> {
        // Sorted by first process. If two have the same one, the outer one comes first: its path is
        // shorter.
        self.order.clear();
        let alive = snapshot.containers.indexed().filter(|(_, row)| row.is_alive());
        self.order.extend(alive.map(|(index, _)| index));
        self.order.sort_unstable_by_key(|&index| {
            let facts =
                snapshot.containers.at(index).map(|row| ContainerFacts::read(snapshot, row));
            facts.map(|facts| (facts.first_process_id, facts.path.map(<[u8]>::len), facts.path))
        });
        for &index in &self.order {
            let Some(row) = snapshot.containers.at(index) else { continue };
            let details = describe::container(&ContainerFacts::read(snapshot, row));
            lines.write(&ScanLine::new(&details))?;
        }
        Ok(())
    }
}

/// Lists the positions of rows in the order of their numbers.
fn sort_by_id(order: &mut Vec<(u32, usize)>, ids: impl Iterator<Item = u32>) {
    order.clear();
    let room = order.capacity();
    order.extend(ids.zip(0..).take(room));
    order.sort_unstable();
}

/// Lists the sections of a kernel module, sorted by name. Returns whether it has more.
fn list_sections<'a>(
    snapshot: &'a Snapshot,
    module: Index<ModuleRow>,
    listed: &mut ArrayVec<KernelModuleSection<'a>, LINE_SECTIONS_MAX>,
) -> bool {
    listed.clear();
    let mut of_module = snapshot.modules.sections.iter().filter(|section| section.module == module);
    let mut sections = ArrayVec::<&ModuleSection, LINE_SECTIONS_MAX>::new();
    sections.extend(of_module.by_ref().take(LINE_SECTIONS_MAX));
    sections.sort_unstable_by_key(|section| (section.name, section.address));
    listed.extend(sections.iter().map(|section| KernelModuleSection {
        section_name: Text::new(c_string(&section.name)),
        section_address: MemoryAddress(section.address),
    }));
    of_module.next().is_some()
}

/// Every process with its id, sorted by id.
fn processes_by_pid(snapshot: &Snapshot) -> impl Iterator<Item = (&ProcessRow, u32)> {
    snapshot.by_pid.iter().filter_map(|&index| {
        let process = snapshot.processes.at(index)?;
        Some((process, snapshot.leader(process)?.task.tgid))
    })
}

#[cfg(test)]
mod tests {
    use panoptes_decoders::address::KernelVa;

    use super::*;
    use crate::walk::{DescriptorRow, FileRow};

    #[test]
    fn a_file_without_a_name_has_its_reason() {
        let mut snapshot = Snapshot::empty(&Limits { processes: 64, ..Limits::default() });
        let mut names = NameBuffers::default();
        let [unread, unplaced] = [KernelVa::NULL, KernelVa(0x30)].map(|dentry| {
            let mut file = FileRow::from(KernelVa(0x20 + dentry.0));
            file.open.dentry = dentry;
            snapshot.files.row_of(file.address.0, || file)
        });
        let mut counts = LineCounts::default();
        for file in [unread, unread, unplaced, None] {
            let descriptor = DescriptorRow { file, ..DescriptorRow::default() };
            let facts = DescriptorFacts::read(&snapshot, &descriptor, &[], &mut names);
            assert!(facts.name.is_none() && facts.lacks_name());
            counts.add_unnamed(facts.name_stop.expect("there is a reason"));
        }
        counts.add_unnamed(EarlyStop::TooLong { limit: 4095 });
        counts.add_unnamed(EarlyStop::Loop { address: KernelVa(0x40) });
        let stops = counts.frequent_stops();
        let stops: Vec<_> = stops.iter().map(|stop| (stop.count, stop.to_string())).collect();
        let rows = snapshot.dentries.capacity();
        let expected = [
            (2, "path in a line: unreadable at 0x20".to_owned()),
            (2, format!("path in a line: no room among {rows}")),
            (1, "path in a line: loop at 0x40".to_owned()),
        ];
        assert_eq!(stops, expected);
        assert_eq!(counts.unnamed, 5);
    }
}
