//! The guests of this machine: finds their processes, and checks whether and how their memory may
//! be read.
//!
//! Facts about a process come from the kernel: its executable, its user, its mappings. Its
//! arguments are only a claim: they give names, and select among existing memory areas. What a
//! service has registered proves a name ([`registration`]). Only processes of users that the
//! configuration allows are read.
//!
//! [`monitor`] knows the programs that guests run in, and [`resolution`] finds the guest that a
//! user names.
//!
//! Not for: reading the memory (`panoptes_sources::GuestMemory`), or watching.

mod arguments;
#[cfg(test)]
mod command_lines;
pub(crate) mod cpu_time;
mod filter;
mod monitor;
mod names;
mod processor;
mod registration;
mod resolution;
mod search;
#[cfg(test)]
mod tests;

use std::io;
use std::ops::RangeInclusive;

use nix::unistd::{Uid, User, geteuid};
use panoptes_sources::{GuestMemory, GuestProcess, PlacedArea, SourceError};

use crate::exit::{Exit, Failure};

pub use arguments::Arguments;
pub use monitor::Monitor;
pub use names::{GuestNameOwner, GuestNameOwners, GuestSystemName, name_of};
pub use registration::{GuestManager, Registration};
pub use resolution::resolve;
#[cfg(test)]
use search::Strangers;
pub use search::{Census, find};

/// A guest that runs on this machine.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Guest {
    /// The monitor's process id.
    pub pid: u32,
    /// When that process started, in clock ticks since the boot: another may have its id later.
    pub began: u64,
    pub monitor: Monitor,
    /// Printable.
    pub name: Option<String>,
    /// What else its tool calls it. Printable.
    pub other_names: Vec<String>,
    /// What a service of this machine calls it.
    pub registration: Option<Registration>,
    pub uuid: Option<String>,
    /// The user's name, or the number.
    pub user: String,
    /// The size of its memory in bytes; unknown if Panoptes may not read the process.
    pub memory_bytes: Option<u64>,
    pub memory: Option<GuestMemoryKind>,
    /// Whether it runs on KVM, or else is emulated; unknown if Panoptes may not read the process.
    pub has_kvm: Option<bool>,
    /// The technology that encrypts its memory.
    pub encryption: Option<&'static str>,
    /// Whether its user is not allowed.
    pub is_forbidden: bool,
    /// Why the guest can't be watched; `None` if it can.
    pub obstacle: Option<String>,
    /// The files of its memory, by major and minor device number and inode.
    pub files: Vec<(u32, u32, u64)>,
}

impl Guest {
    /// The process, with what the kernel shows of it (the user) and what it claims (the UUID).
    pub(crate) fn described(&self) -> String {
        format!("qemu:{} ({})", self.pid, GuestNameOwner::of(self))
    }
}

/// A guest's process, as records name it: its user, and the UUID that it claims.
pub fn describe(process: &GuestProcess) -> io::Result<String> {
    let user = user_name(process.users()?[1]);
    let uuid = arguments_of(process)?.uuid;
    let guest = Guest { pid: process.pid(), user, uuid, ..Guest::default() };
    Ok(guest.described())
}

/// What distinguishes a guest from others, also after its process has been restarted: its user, and
/// the UUID and the name that it claims.
pub fn identity(process: &GuestProcess) -> io::Result<String> {
    let user = process.users()?[1];
    let arguments = arguments_of(process)?;
    let (uuid, name) = (arguments.uuid, arguments.name);
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    Ok(format!("qemu user {user} uuid {} name {}", or_none(uuid), or_none(name)))
}

/// What the arguments of a guest's process tell.
fn arguments_of(process: &GuestProcess) -> io::Result<Arguments> {
    let command_line = process.arguments()?;
    let monitor = search::monitor_of(process, &command_line)?.unwrap_or_default();
    Ok(monitor.read(&command_line))
}

/// How a monitor keeps a guest's memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum GuestMemoryKind {
    /// In files that other processes can open.
    Shared,
    /// In private memory of the monitor.
    Private,
    /// Partly shared, partly private.
    Mixed,
}

impl GuestMemoryKind {
    /// The name that is shown to users.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Private => "private",
            Self::Mixed => "mixed",
        }
    }

    fn of(layout: &[PlacedArea]) -> Self {
        match layout.iter().filter(|one| one.is_shared()).count() {
            0 => Self::Private,
            count if count == layout.len() => Self::Shared,
            _ => Self::Mixed,
        }
    }
}

/// The users whose guests may be read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Users(Vec<RangeInclusive<u32>>);

impl Users {
    /// Resolves the names, numbers and ranges of numbers of `service.guest_users`. A name that is
    /// not known on this machine is ignored: it has no processes here.
    pub fn of(names: &[String]) -> Self {
        let mut users: Vec<_> = names.iter().filter_map(|name| user_numbers(name)).collect();
        let own = geteuid().as_raw();
        users.push(own..=own);
        Self(users)
    }

    fn allow(&self, ids: [u32; 4]) -> bool {
        ids.iter().all(|id| self.0.iter().any(|numbers| numbers.contains(id)))
    }
}

/// Opens the memory of a guest. Fails if its user is not allowed, or it is no guest.
pub fn open(pid: u32, users: &Users) -> Result<GuestMemory, Failure> {
    let (process, arguments) = examine(pid, users)?;
    let memory = GuestMemory::open(process, &arguments.memory)?;
    // Check the users again: they may have changed before the memory was opened.
    let ids = memory.process().users().map_err(|error| SourceError::Process {
        pid,
        doing: "inspect",
        error,
    })?;
    if users.allow(ids) { Ok(memory) } else { Err(not_allowed(pid, ids)) }
}

/// Whether a process runs as a user that is not allowed. One that has ended is not.
pub fn is_forbidden(pid: u32, users: &Users) -> bool {
    let ids = GuestProcess::open(pid).and_then(|process| process.users());
    ids.is_ok_and(|ids| !users.allow(ids))
}

/// Returns where a monitor has a guest's memory now.
pub fn plan(pid: u32, users: &Users) -> Result<Vec<PlacedArea>, Failure> {
    let (process, arguments) = examine(pid, users)?;
    Ok(GuestMemory::plan(&process, &arguments.memory)?)
}

/// Checks whether a process is a guest that may be read.
fn examine(pid: u32, users: &Users) -> Result<(GuestProcess, Arguments), Failure> {
    let failed = |doing| move |error: io::Error| SourceError::Process { pid, doing, error };
    let process = GuestProcess::open(pid).map_err(|_| {
        let message =
            format!("qemu:{pid}: no such process; `panoptes systems` lists the guests that run");
        Failure::new(Exit::Source, message)
    })?;
    let ids = process.users().map_err(failed("inspect"))?;
    if !users.allow(ids) {
        return Err(not_allowed(pid, ids));
    }
    let command_line = process.arguments().map_err(failed("inspect"))?;
    let monitor = search::monitor_of(&process, &command_line).map_err(failed("inspect"))?;
    let Some(monitor) = monitor else {
        let program = process.executable().map_err(failed("inspect"))?;
        let program = crate::config::printable(&program.to_string_lossy());
        let message = format!(
            "qemu:{pid} executes {program}, which is not QEMU, nor another monitor with a guest"
        );
        return Err(Failure::new(Exit::Source, message));
    };
    let arguments = monitor.read(&command_line);
    if let Some(what) = arguments.encryption {
        let message = format!("qemu:{pid}: {}", encrypted(what));
        return Err(Failure::new(Exit::Source, message));
    }
    Ok((process, arguments))
}

fn not_allowed(pid: u32, ids: [u32; 4]) -> Failure {
    let (user, id) = (user_name(ids[1]), ids[1]);
    let message = format!(
        "qemu:{pid} belongs to user {user} ({id}), whose guests may not be read; \
         add that user to service.guest_users"
    );
    Failure::new(Exit::Permission, message)
}

fn encrypted(what: &str) -> String {
    format!("its memory is encrypted ({what}) and cannot be read from outside")
}

/// The numbers of users that are given as a name, a number, or the first and the last of several
/// (`100000-101999`).
pub(crate) fn user_numbers(text: &str) -> Option<RangeInclusive<u32>> {
    if let Ok(number) = text.parse() {
        return Some(number..=number);
    }
    let ends = text.split_once('-').map(|(first, last)| (first.parse(), last.parse()));
    if let Some((Ok(first), Ok(last))) = ends {
        return Some(first..=last);
    }
    let number = User::from_name(text).ok()??.uid.as_raw();
    Some(number..=number)
}

fn user_name(id: u32) -> String {
    match User::from_uid(Uid::from_raw(id)) {
        Ok(Some(user)) => crate::config::printable(&user.name),
        _ => id.to_string(),
    }
}
