//! Finds the processes of guests.
//!
//! A monitor with a known name is a guest by that. Any other process is one if it has a virtual
//! machine of KVM, or the options and the memory of QEMU. Finding that out is dear, so a process
//! that is no guest is looked at often when it is new, and seldom later.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use panoptes_decoders::kernel::task_struct::PID_MAX_LIMIT;
use panoptes_sources::{Area, AreaLabel, GuestMemory, GuestProcess, PlacedArea, SourceError};

use super::arguments::Arguments;
use super::monitor::{Monitor, emulates_programs, has_options_of_qemu};
use super::registration::Registry;
use super::{Guest, GuestMemoryKind, Users, encrypted, processor, user_name};

/// Maximum number of processes that are checked: as many as can exist.
const PROCESSES_MAX: usize = PID_MAX_LIMIT as usize;
/// A process that is no guest is looked at in this many searches, and then in each of as many.
const LOOKS_WHEN_NEW: u32 = 20;
/// Maximum number of processes that are remembered: a few times the usual limit of them.
const STRANGERS_MAX: usize = 1 << 17;

/// Processes that were no guests when they were looked at.
#[derive(Debug, Default)]
pub(super) struct Strangers(BTreeMap<u32, Stranger>);

#[derive(Clone, Copy, Debug)]
struct Stranger {
    /// The start time of the process: another one may have its id later.
    began: u64,
    searches: u32,
}

impl Strangers {
    /// Counts a search; whether it should look at this process.
    fn is_due(&mut self, (pid, began): (u32, u64)) -> bool {
        if self.0.len() >= STRANGERS_MAX && !self.0.contains_key(&pid) {
            self.0.clear();
        }
        let new = Stranger { began, searches: 0 };
        let stranger = self.0.entry(pid).or_insert(new);
        if stranger.began != began {
            *stranger = new;
        }
        stranger.searches = stranger.searches.saturating_add(1);
        let is_new = stranger.searches <= LOOKS_WHEN_NEW;
        // Not all in the same search.
        is_new || stranger.searches % LOOKS_WHEN_NEW == pid % LOOKS_WHEN_NEW
    }

    /// Forgets processes that have ended.
    fn keep(&mut self, pids: &[u32]) {
        self.0.retain(|pid, _| pids.binary_search(pid).is_ok());
    }
}

/// A process that is a guest.
#[derive(Debug)]
struct GuestCandidate {
    guest: Guest,
    parent: Option<u32>,
    /// First addresses and sizes of its memory in the process.
    places: Vec<(u64, u64)>,
}

/// The guests as of the last search, which several users share: a search takes milliseconds.
#[derive(Debug, Default)]
pub struct Census {
    strangers: Strangers,
    last: Option<(Instant, Users, Vec<Guest>)>,
}

impl Census {
    /// Finds every guest now.
    pub fn renew(&mut self, users: &Users) -> io::Result<Vec<Guest>> {
        let guests = find_with(users, &mut self.strangers)?;
        self.last = Some((Instant::now(), users.clone(), guests.clone()));
        Ok(guests)
    }

    /// The guests as of a search that is at most this old.
    pub fn recent(&mut self, users: &Users, most: Duration) -> io::Result<Vec<Guest>> {
        match &self.last {
            Some((when, of, guests)) if when.elapsed() <= most && of == users => Ok(guests.clone()),
            _ => self.renew(users),
        }
    }
}

/// Finds every guest that runs on this machine, in the order of process ids.
pub fn find(users: &Users) -> io::Result<Vec<Guest>> {
    find_with(users, &mut Strangers::default())
}

fn find_with(users: &Users, strangers: &mut Strangers) -> io::Result<Vec<Guest>> {
    find_in(Path::new("/proc"), &Registry::read(Path::new("/run")), users, strangers)
}

pub(super) fn find_in(
    folder: &Path,
    registry: &Registry,
    users: &Users,
    strangers: &mut Strangers,
) -> io::Result<Vec<Guest>> {
    let mut pids: Vec<u32> = std::fs::read_dir(folder)?
        .take(PROCESSES_MAX)
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    strangers.keep(&pids);
    let look = |pid: u32| {
        let process = GuestProcess::open_in(folder, pid).ok()?;
        look(&process, registry, users, strangers)
    };
    let seen: Vec<GuestCandidate> = pids.into_iter().filter_map(look).collect();
    // A process may share the memory of its parent: QEMU's helper that frees the memory
    // (`-run-with async-teardown=on`), and the devices of crosvm.
    let is_copy = |one: &GuestCandidate| {
        let is_parent = |other: &GuestCandidate| Some(other.guest.pid) == one.parent;
        !one.places.is_empty()
            && seen.iter().any(|other| is_parent(other) && other.places == one.places)
    };
    let copies: Vec<bool> = seen.iter().map(is_copy).collect();
    let guests = seen.into_iter().zip(copies).filter(|(_, is_copy)| !is_copy);
    Ok(guests.map(|(one, _)| one.guest).collect())
}

/// The monitor that a process is; `None` if it runs no guest.
pub(super) fn monitor_of(
    process: &GuestProcess,
    command_line: &[u8],
) -> io::Result<Option<Monitor>> {
    let program = process.executable()?;
    let named = Monitor::of_program(&program);
    if named == Some(Monitor::Qemu) {
        return Ok(named);
    }
    if process.has_machine()? || process.has_kvm()? {
        let areas = process.areas()?;
        return Ok(named.or_else(|| Some(Monitor::of_machine(&areas, command_line))));
    }
    let is_emulated = named.is_none()
        && !emulates_programs(&program)
        && has_options_of_qemu(command_line)
        && has_memory(&process.areas()?, &Arguments::parse(command_line));
    Ok(is_emulated.then_some(Monitor::Qemu))
}

/// Whether a process has the memory that QEMU's arguments name.
fn has_memory(areas: &[Area], arguments: &Arguments) -> bool {
    let main = &arguments.memory.main;
    let has = |bytes: &u64| areas.iter().any(|area| area.bytes() == *bytes);
    areas.iter().any(|area| area.label == AreaLabel::Qemu)
        || !main.is_empty() && main.iter().all(has)
}

/// The program of a process, and whether the kernel shows it. Only users who may trace a process
/// see that. For other users, the name that the process claims is enough to list the guest.
fn program_of(process: &GuestProcess) -> Option<(PathBuf, bool)> {
    match process.executable() {
        Ok(program) => Some((program, true)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let claimed = process.claimed_program().ok()?;
            Some((String::from_utf8_lossy(&claimed).into_owned().into(), false))
        }
        Err(_) => None,
    }
}

/// Describes a process as a guest; `None` if it is no guest, or has ended.
fn look(
    process: &GuestProcess,
    registry: &Registry,
    users: &Users,
    strangers: &mut Strangers,
) -> Option<GuestCandidate> {
    let (program, is_shown) = program_of(process)?;
    let named = Monitor::of_program(&program);
    if named.is_none() && (!is_shown || !strangers.is_due(process.key())) {
        return None;
    }
    let ids = process.users().ok()?;
    if named.is_none() && !users.allow(ids) {
        return None;
    }
    // Not earlier: reading the arguments of a process takes time, and a lock of that process.
    let command_line = process.arguments().ok()?;
    let monitor = match named {
        Some(Monitor::Qemu) => Monitor::Qemu,
        Some(monitor) if !is_shown => monitor,
        _ => monitor_of(process, &command_line).ok()??,
    };
    let mut arguments = monitor.read(&command_line);
    let groups = process.control_groups().unwrap_or_default();
    let names = arguments.name.iter().chain(&arguments.other_names);
    let names: Vec<&str> = names.map(String::as_str).collect();
    let registration = registry.find(process.pid(), &names, &groups);
    if let Some(registration) = &registration {
        arguments.add_name(&registration.name);
    }
    if arguments.name.is_none() && !arguments.other_names.is_empty() {
        arguments.name = Some(arguments.other_names.remove(0));
    }
    let mut guest = Guest {
        pid: process.pid(),
        began: process.key().1,
        monitor,
        name: arguments.name.clone(),
        other_names: arguments.other_names.clone(),
        registration,
        uuid: arguments.uuid.clone(),
        user: user_name(ids[1]),
        encryption: arguments.encryption,
        obstacle: arguments.encryption.map(encrypted).or_else(|| {
            let program = program.file_name().unwrap_or_default().to_string_lossy();
            let is_qemu = monitor == Monitor::Qemu;
            is_qemu.then(|| processor::obstacle(&program, arguments.processor.as_deref()))?
        }),
        ..Guest::default()
    };
    let parent = process.parent();
    if !users.allow(ids) {
        guest.is_forbidden = true;
        guest.obstacle.get_or_insert("its user is not in service.guest_users".to_owned());
        return Some(GuestCandidate { guest, parent, places: Vec::new() });
    }
    guest.has_kvm = process.has_kvm().ok();
    let places = match GuestMemory::plan(process, &arguments.memory) {
        Ok(layout) => describe_memory(process, &layout, &mut guest),
        // A process that is just starting QEMU, or a tool of that name.
        Err(SourceError::NoGuest { .. }) => return None,
        Err(error) => {
            guest.obstacle.get_or_insert(error.to_string());
            Vec::new()
        }
    };
    Some(GuestCandidate { guest, parent, places })
}

/// Describes the memory of a guest; returns where it is in the process.
fn describe_memory(
    process: &GuestProcess,
    layout: &[PlacedArea],
    guest: &mut Guest,
) -> Vec<(u64, u64)> {
    guest.memory_bytes = Some(layout.iter().map(|one| one.bytes).sum());
    guest.memory = Some(GuestMemoryKind::of(layout));
    guest.files = files(process, layout);
    if let Err(error) = GuestMemory::permits(process, layout) {
        guest.obstacle.get_or_insert(error.to_string());
    }
    layout.iter().map(|one| (one.address, one.bytes)).collect()
}

/// The identities of the files that are a guest's memory: those in the process's list of areas, and
/// those of the files themselves, which can differ.
fn files(process: &GuestProcess, layout: &[PlacedArea]) -> Vec<(u32, u32, u64)> {
    let mut files = Vec::new();
    let is_any = layout.iter().any(PlacedArea::is_shared);
    let areas = if is_any { process.areas().unwrap_or_default() } else { Vec::new() };
    for one in layout {
        let Some(identity) = one.file() else { continue };
        if files.contains(&identity) {
            continue;
        }
        files.push(identity);
        let area = areas.iter().find(|area| area.range.contains(&one.address));
        let own = area.and_then(|area| process.mapped_identity(&area.range));
        files.extend(own.filter(|own| *own != identity));
    }
    files
}
