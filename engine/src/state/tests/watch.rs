//! Updates a state from scans of a [`World`] and collects the changes, one line each.

use panoptes_decoders::kernel::sock::TcpState;
use panoptes_decoders::kernel::vm_area_struct::{VM_EXEC, VM_READ, VM_WRITE};
use panoptes_tables::HashKey;

use super::world::World;
use crate::limits::Limits;
use crate::state::bpf::BpfProgramFacts;
use crate::state::facts::FileName;
use crate::state::process::Process;
use crate::state::{
    Change, ConnectionChange, MachineState, MappedFile, ScanContext, StateSettings, Thresholds,
};
use crate::time::{Now, RealTime};
use crate::walk::Snapshot;

/// No change.
pub(super) const NOTHING: [&str; 0] = [];

pub(crate) struct Watch {
    pub(crate) state: MachineState,
    pub(crate) snapshot: Snapshot,
    pub(crate) now: Now,
    /// Whether execs have lines: most tests are about something else.
    pub(crate) shows_execs: bool,
    /// Whether the lines about areas and descriptors end with the program of their process.
    pub(crate) shows_programs: bool,
}

impl Watch {
    pub(crate) fn new(limits: &Limits, settings: StateSettings) -> Self {
        let mut state = MachineState::new(limits, settings, HashKey::new(7));
        // Zombies are reported as soon as two scans have seen them.
        state.set_thresholds(Thresholds { zombie_after_ns: 0, ..Thresholds::default() });
        let (snapshot, now) = (Snapshot::empty(limits), Now::at(1_000_000));
        Self { state, snapshot, now, shows_execs: false, shows_programs: false }
    }

    /// With small limits, and a baseline that is not reported.
    pub(crate) fn quiet() -> Self {
        Self::new(&limits(), at_once())
    }

    /// The same, after a first scan, which reports nothing.
    pub(crate) fn after(world: &World) -> Self {
        let mut watch = Self::quiet();
        assert_eq!(watch.scan(world), Vec::<String>::new());
        watch
    }

    /// Scans once, ten milliseconds after the last scan.
    pub(crate) fn scan(&mut self, world: &World) -> Vec<String> {
        world.show(&mut self.snapshot);
        self.update_from()
    }

    /// The same as [`Self::scan`] with a request to stop.
    pub(super) fn scan_unless(
        &mut self,
        must_stop: &dyn Fn() -> bool,
        world: &World,
    ) -> Vec<String> {
        world.show(&mut self.snapshot);
        self.now = next_scan(self.now);
        let mut changes = Vec::new();
        let Self { state, snapshot, now, shows_execs, shows_programs } = self;
        let mut lines = lines(*shows_execs, *shows_programs, &mut changes);
        state.update_unless(must_stop, snapshot, *now, &mut (), &mut lines);
        drop(lines);
        changes
    }

    /// Updates the state from the snapshot.
    pub(crate) fn update_from(&mut self) -> Vec<String> {
        self.now = next_scan(self.now);
        let mut changes = Vec::new();
        let Self { state, snapshot, now, shows_execs, shows_programs } = self;
        let mut lines = lines(*shows_execs, *shows_programs, &mut changes);
        state.update(snapshot, *now, &mut lines);
        drop(lines);
        changes
    }

    /// Ends the watch: no scan follows.
    pub(crate) fn finish(&mut self) -> Vec<String> {
        let mut changes = Vec::new();
        let Self { state, snapshot, now, shows_execs, shows_programs } = self;
        let mut lines = lines(*shows_execs, *shows_programs, &mut changes);
        state.finish(snapshot, *now, &mut lines);
        drop(lines);
        changes
    }
}

/// Adds a line for each change.
fn lines(
    shows_execs: bool,
    shows_programs: bool,
    lines: &mut Vec<String>,
) -> impl FnMut(&ScanContext<'_>, &Change<'_>) {
    move |cx, change| {
        if !shows_execs && matches!(change, Change::ProcessExecuted { .. }) {
            return;
        }
        let program = change.maker().filter(|_| shows_programs).map(|process| {
            let facts = process.facts(cx.strings);
            let arguments = facts.command_line.map_or_else(|| "?".to_owned(), text);
            let path = facts.executable.map_or_else(|| "?".to_owned(), text);
            format!(" by {path}: {}", arguments.trim_end_matches('\0').replace('\0', " "))
        });
        lines.push(format!("{}{}", line(cx, change), program.unwrap_or_default()));
    }
}

/// The time of the next scan, ten milliseconds later. Someone sets the real time an hour forth
/// and back.
pub(crate) fn next_scan(now: Now) -> Now {
    const HOUR_NS: i64 = 3_600_000_000_000;
    let next = now.after(10_000_000);
    let step = if now.real.ns() < HOUR_NS { HOUR_NS } else { -HOUR_NS };
    Now { real: RealTime::from_ns(next.real.ns().saturating_add(step)), ..next }
}

/// Connections are reported as soon as they are seen.
pub(crate) fn at_once() -> StateSettings {
    StateSettings { accept_grace_scans: 0, ..StateSettings::default() }
}

pub(crate) fn limits() -> Limits {
    Limits {
        processes: 64,
        threads: 64,
        file_descriptors: 64,
        vmas: 64,
        connections: 64,
        containers: 8,
        ..Limits::DEFAULT
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn mapped_file(file: &MappedFile<'_>) -> String {
    let path = file.path.map_or_else(|| "?".to_owned(), text);
    let letter = |flag, letter| if file.flags & flag == 0 { "" } else { letter };
    format!(" {path}:{}{}{}", letter(VM_READ, "r"), letter(VM_WRITE, "w"), letter(VM_EXEC, "x"))
}

fn line(cx: &ScanContext<'_>, change: &Change<'_>) -> String {
    match change {
        Change::ProcessCreated(process) => {
            let facts = process.facts(cx.strings);
            format!("+process {} {}", facts.process_id, text(facts.name))
        }
        Change::ProcessExecuted { process, before, mapped } => {
            let before = before.map_or_else(String::new, |path| format!(" after {}", text(path)));
            let mapped: String = mapped.iter().map(|file| mapped_file(&file)).collect();
            format!("exec {} {}{before}{mapped}", process.process_id(), text(process.name()))
        }
        Change::ProcessTerminated(process) => {
            let facts = process.facts(cx.strings);
            format!("-process {} {}", facts.process_id, text(facts.name))
        }
        Change::ProcessZombie(process) => {
            format!("zombie {}", process.process_id())
        }
        Change::ProcessHidden { process, missing, shown, scans, .. } => {
            assert!(missing.and(*shown).is_empty());
            format!("hidden {} {:#x} {scans}", process.process_id(), missing.0)
        }
        Change::ThreadCreated { process, thread } => {
            format!("+thread {}/{}", process.process_id(), thread.thread_id)
        }
        Change::ThreadTerminated { process, thread } => {
            format!("-thread {}/{}", process.process_id(), thread.thread_id)
        }
        Change::DescriptorOpened { process, descriptor } => {
            format!("+fd {}/{} {}", process.process_id(), descriptor.index, name(descriptor.name))
        }
        Change::DescriptorClosed { process, descriptor } => {
            format!("-fd {}/{} {}", process.process_id(), descriptor.index, name(descriptor.name))
        }
        Change::WriterClosed { process, descriptor, opened, .. } => {
            format!("writer {}/{} {opened:?}", process.process_id(), descriptor.index)
        }
        Change::AreaMapped { process, area } => format!(
            "+area {} {:x}-{:x} {}",
            process.process_id(),
            area.start,
            area.end,
            if area.special {
                "special".into()
            } else {
                text(area.file.or(area.name).unwrap_or(b"-"))
            }
        ),
        Change::AreaUnmapped { process, area } => format!(
            "-area {} {:x}-{:x} {}",
            process.process_id(),
            area.start,
            area.end,
            text(area.file.or(area.name).unwrap_or(b"-"))
        ),
        Change::AreaPermissionsChanged { process, area, before } => format!(
            "~area {} {:x}-{:x} {}>{}",
            process.process_id(),
            area.start,
            area.end,
            before.flags,
            area.flags
        ),
        Change::ConnectionCreated(change) => format!("+connection {}", connection(change)),
        Change::ConnectionTerminated(change) => format!("-connection {}", connection(change)),
        Change::ConnectionStateChanged(change) => format!("~connection {}", connection(change)),
        Change::ConnectionExceeded { change, exceeded } => {
            format!("!connection {} {exceeded:?}", connection(change))
        }
        Change::ConnectionStatus(change) => format!("=connection {}", connection(change)),
        Change::ContainerStarted { container, process } => {
            let facts = container.facts(cx.strings);
            let process = process.map_or(0, Process::process_id);
            format!("+container {} of {process}", text(facts.id))
        }
        Change::ContainerTerminated { container } => {
            let facts = container.facts(cx.strings);
            format!("-container {} of {}", text(facts.id), container.first.process_id)
        }
        Change::ModuleLoaded { .. }
        | Change::ModuleUnloaded { .. }
        | Change::ModuleChanged { .. }
        | Change::ModuleHidden { .. } => module(change),
        Change::BpfProgramLoaded { .. }
        | Change::BpfProgramUnloaded { .. }
        | Change::BpfProgramAttached { .. }
        | Change::BpfProgramDetached { .. }
        | Change::BpfProgramHidden { .. }
        | Change::BpfProgramDangerous { .. } => bpf(change),
        Change::BirthsMissed(births) => format!("missed {} of {}", births.unseen(), births.born),
        Change::LimitReached { limit, capacity, untracked } => {
            format!("limit {limit:?} {capacity} {untracked}")
        }
        Change::LimitCleared { limit, capacity } => format!("cleared {limit:?} {capacity}"),
    }
}

/// The process that caused a change, or holds what has changed.
fn by(process: Option<&Process>) -> String {
    process.map_or_else(String::new, |process| format!(" by {}", process.process_id()))
}

/// A change of a program of eBPF, or of a link.
fn bpf(change: &Change<'_>) -> String {
    let of = |program: &BpfProgramFacts| format!("program {} {}", text(program.name()), program.id);
    match change {
        Change::BpfProgramLoaded { program, process } => {
            format!("+{}{}", of(program), by(*process))
        }
        Change::BpfProgramUnloaded { program } => format!("-{}", of(program)),
        Change::BpfProgramAttached { link, program, process } => {
            let program = program.map(of).unwrap_or_default();
            format!("+link {} of {program}{}", link.id, by(*process))
        }
        Change::BpfProgramDetached { link, program } => {
            format!("-link {} of {}", link.id, program.map(of).unwrap_or_default())
        }
        Change::BpfProgramHidden { program, process, scans, .. } => {
            format!("hidden {} {:#x} {scans}{}", of(program), program.views, by(*process))
        }
        Change::BpfProgramDangerous { program, process, .. } => {
            format!("dangerous {} {:#x}{}", of(program), program.helpers.0, by(*process))
        }
        _ => String::new(),
    }
}

/// A change of a kernel module.
fn module(change: &Change<'_>) -> String {
    match change {
        Change::ModuleLoaded { module, process } => {
            format!("+module {}{}", text(module.name()), by(*process))
        }
        Change::ModuleUnloaded { module, process } => {
            format!("-module {}{}", text(module.name()), by(*process))
        }
        Change::ModuleChanged { module, before, what } => {
            let (now, before) = (text(module.name()), text(before.name()));
            format!("~module {before} {now} {:#x}", what.0)
        }
        Change::ModuleHidden { module, missing, shown, scans, .. } => {
            assert!(missing.and(*shown).is_empty());
            format!("hidden module {} {:#x} {scans}", text(module.name()), missing.0)
        }
        _ => String::new(),
    }
}

fn name(name: Option<FileName<'_>>) -> String {
    match name {
        Some(FileName::Text(bytes)) => text(bytes),
        Some(FileName::Numbered(kind, number)) => format!("{kind}:[{number}]"),
        None => "-".into(),
    }
}

/// `FIN_WAIT_1` of `TcpState::FinWait1`.
fn state_name(state: TcpState) -> String {
    let mut name = String::new();
    for letter in format!("{state:?}").chars() {
        if !letter.is_ascii_lowercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

fn connection(change: &ConnectionChange<'_>) -> String {
    let facts = change.connection.facts();
    let mut words = vec![facts.source_port.to_string(), state_name(facts.state)];
    if let Some(owner) = change.connection.owner() {
        words.push(format!("{}/{}", owner.process.process_id, owner.descriptor));
        words.push(text(owner.name()));
    }
    words.extend(change.descriptor.as_ref().map(|descriptor| name(descriptor.name)));
    words.join(" ")
}
