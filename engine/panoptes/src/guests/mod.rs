//! The QEMU guests of this machine: finds their processes, and checks whether and how their memory
//! may be read.
//!
//! Facts about a process come from the kernel: its executable, its user, its mappings. Its
//! arguments are only a claim: they give names, and select among existing memory areas. Only
//! processes of users that the configuration allows are read.
//!
//! Not for: reading the memory (`panoptes_sources::GuestMemory`), or watching.

mod arguments;
pub(crate) mod cpu_time;
mod processor;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User, geteuid};
use panoptes_sources::{GuestMemory, GuestProcess, Placed, SourceError};

use crate::exit::{Exit, Failure};

pub use arguments::Arguments;

/// Maximum number of processes that are checked: as many as can exist (`PID_MAX_LIMIT`).
const PROCESSES_MAX: usize = 1 << 22;

/// A guest that runs on this machine.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Guest {
    /// QEMU's process id.
    pub pid: u32,
    /// Printable.
    pub name: Option<String>,
    pub uuid: Option<String>,
    /// The user's name, or the number.
    pub user: String,
    /// The size of its memory in bytes; unknown if Panoptes may not read the process.
    pub memory_bytes: Option<u64>,
    pub memory: Option<Keeping>,
    /// Whether it runs on KVM, or else is emulated; unknown if Panoptes may not read the process.
    pub has_kvm: Option<bool>,
    /// The technology that encrypts its memory.
    pub encryption: Option<&'static str>,
    /// Why the guest can't be watched; `None` if it can.
    pub obstacle: Option<String>,
    /// The files of its memory, by major and minor device number and inode.
    pub files: Vec<(u32, u32, u64)>,
}

impl Guest {
    /// The process, with what the kernel shows of it (the user) and what it claims (the UUID).
    fn described(&self) -> String {
        format!("qemu:{} ({})", self.pid, Owner::of(self))
    }
}

/// A process that had a name first, with what the kernel shows of it (the user) and what it claims
/// (the UUID).
#[derive(Clone, Debug, Eq, PartialEq)]
struct Owner {
    user: String,
    uuid: Option<String>,
}

impl Owner {
    fn of(guest: &Guest) -> Self {
        Self { user: guest.user.clone(), uuid: guest.uuid.clone() }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, uuid } = self;
        match uuid {
            Some(uuid) => write!(out, "user {user}, UUID {uuid}"),
            None => write!(out, "user {user}, no UUID"),
        }
    }
}

/// Who was the first to have each name, since the start of the service: a guest that does not run
/// keeps its name.
#[derive(Debug, Default)]
pub struct Owners(BTreeMap<String, Owner>);

/// Names that are remembered. Behind that, a name has no owner, and is given to nobody.
const OWNERS_MAX: usize = 1 << 14;

impl Owners {
    /// Gives the name of a guest to it if nobody had it; returns to whom it belongs otherwise.
    fn take(&mut self, name: &str, guest: &Guest) -> Option<String> {
        let new = Owner::of(guest);
        match self.0.get(name) {
            Some(owner) => (*owner != new).then(|| format!("an earlier guest ({owner})")),
            None if self.0.len() >= OWNERS_MAX => Some("nobody: there were too many".to_owned()),
            None => {
                self.0.insert(name.to_owned(), new);
                None
            }
        }
    }
}

/// The name of a system that is a guest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Named {
    pub name: String,
    /// Why the guest's own name does not identify it; `None` if it does.
    pub ambiguity: Option<String>,
}

/// Names a guest. Any process of an allowed user can claim the name of another guest. So a name
/// that another of `guests` claims, that `is_taken` by another system, or that another guest had
/// first, is followed by what the kernel shows of the process.
pub fn name_of(
    guest: &Guest,
    guests: &[Guest],
    owners: &mut Owners,
    is_taken: impl Fn(&str) -> bool,
) -> Named {
    let Some(name) = &guest.name else {
        return Named { name: format!("qemu:{}", guest.pid), ambiguity: None };
    };
    let rivals = guests.iter().filter(|other| other.pid != guest.pid && other.name == guest.name);
    let mut rivals: Vec<String> = rivals.map(Guest::described).collect();
    if rivals.is_empty() && is_taken(name) {
        rivals.push("another system".to_owned());
    }
    if rivals.is_empty() {
        rivals.extend(owners.take(name, guest));
    }
    if rivals.is_empty() {
        return Named { name: name.clone(), ambiguity: None };
    }
    let ambiguity = format!(
        "the name {name} does not identify a guest: {} has it, and so has {}",
        guest.described(),
        rivals.join(", ")
    );
    let name = format!("{name} (qemu:{}, user {})", guest.pid, guest.user);
    Named { name, ambiguity: Some(ambiguity) }
}

/// A guest's process, as records name it: its user, and the UUID that it claims.
pub fn describe(process: &GuestProcess) -> io::Result<String> {
    let user = user_name(process.users()?[1]);
    let uuid = Arguments::parse(&process.arguments()?).uuid;
    let guest = Guest { pid: process.pid(), user, uuid, ..Guest::default() };
    Ok(guest.described())
}

/// What distinguishes a guest from others, also after its process has been restarted: its user, and
/// the UUID and the name that it claims.
pub fn identity(process: &GuestProcess) -> io::Result<String> {
    let user = process.users()?[1];
    let arguments = Arguments::parse(&process.arguments()?);
    let (uuid, name) = (arguments.uuid, arguments.name);
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    Ok(format!("qemu user {user} uuid {} name {}", or_none(uuid), or_none(name)))
}

/// How QEMU keeps a guest's memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Keeping {
    /// In files that other processes can open.
    Shared,
    /// In private memory of QEMU.
    Private,
    /// Partly shared, partly private.
    Mixed,
}

impl Keeping {
    /// The name that is shown to users.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Private => "private",
            Self::Mixed => "mixed",
        }
    }

    fn of(layout: &[Placed]) -> Self {
        match layout.iter().filter(|one| one.is_shared()).count() {
            0 => Self::Private,
            count if count == layout.len() => Self::Shared,
            _ => Self::Mixed,
        }
    }
}

/// The users whose guests may be read.
#[derive(Clone, Debug)]
pub struct Users(Vec<u32>);

impl Users {
    /// Resolves the names and numbers of `service.guest_users`. A name that is not known on this
    /// machine is ignored: it has no processes here.
    pub fn of(names: &[String]) -> Self {
        let number = |name: &String| {
            name.parse().ok().or_else(|| Some(User::from_name(name).ok()??.uid.as_raw()))
        };
        let mut users: Vec<u32> = names.iter().filter_map(number).collect();
        users.push(geteuid().as_raw());
        Self(users)
    }

    fn allow(&self, ids: [u32; 4]) -> bool {
        ids.iter().all(|id| self.0.contains(id))
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

/// Returns where QEMU has a guest's memory now.
pub fn plan(pid: u32, users: &Users) -> Result<Vec<Placed>, Failure> {
    let (process, arguments) = examine(pid, users)?;
    Ok(GuestMemory::plan(&process, &arguments.memory)?)
}

/// Checks whether a process is a guest that may be read.
fn examine(pid: u32, users: &Users) -> Result<(GuestProcess, Arguments), Failure> {
    let failed = |doing| move |error: io::Error| SourceError::Process { pid, doing, error };
    let process = GuestProcess::open(pid)
        .map_err(|_| Failure::new(Exit::Source, format!("qemu:{pid}: no such process")))?;
    let ids = process.users().map_err(failed("inspect"))?;
    if !users.allow(ids) {
        return Err(not_allowed(pid, ids));
    }
    let program = process.executable().map_err(failed("inspect"))?;
    let has_kvm = process.has_kvm().map_err(failed("read the memory map of"))?;
    if !is_qemu(&program) && !has_kvm {
        let program = crate::config::printable(&program.to_string_lossy());
        let message = format!("qemu:{pid} executes {program}, which is not QEMU");
        return Err(Failure::new(Exit::Source, message));
    }
    let arguments = Arguments::parse(&process.arguments().map_err(failed("inspect"))?);
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

/// Whether a program is QEMU that emulates a machine, by the name of its file: `qemu-system-x86_64`,
/// `qemu-kvm`, `qemu-vanilla-system-x86_64`, `kvm`. Its tools, and those that emulate one program
/// (`qemu-aarch64-static`), are not.
fn is_qemu(program: &Path) -> bool {
    let name = program.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    // The kernel adds this to the name of a program that was replaced while it ran.
    let name = name.strip_suffix(" (deleted)").unwrap_or(&name);
    let is_system = name.contains("qemu-system-")
        || name.contains("qemu-kvm")
        || name.starts_with("qemu-") && name.contains("-system-");
    is_system || matches!(name, "qemu" | "kvm")
}

/// Finds every guest that runs on this machine, in the order of process ids.
pub fn find(users: &Users) -> io::Result<Vec<Guest>> {
    let mut pids: Vec<u32> = std::fs::read_dir("/proc")?
        .take(PROCESSES_MAX)
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    Ok(pids.into_iter().filter_map(|pid| look(pid, users)).collect())
}

/// Describes a process as a guest; `None` if it is no guest, or has ended.
fn look(pid: u32, users: &Users) -> Option<Guest> {
    let process = GuestProcess::open(pid).ok()?;
    // The kernel shows a process's executable only to users who may trace it. For other users, the
    // name that the process claims is enough to list the guest.
    let program = match process.executable() {
        Ok(program) => program,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let claimed = process.claimed_program().ok()?;
            PathBuf::from(&*String::from_utf8_lossy(&claimed))
        }
        Err(_) => return None,
    };
    if !is_qemu(&program) {
        return None;
    }
    // Not earlier: reading the arguments of a process takes time, and a lock of that process.
    let arguments = Arguments::parse(&process.arguments().ok()?);
    let ids = process.users().ok()?;
    let mut guest = Guest {
        pid,
        name: arguments.name.clone(),
        uuid: arguments.uuid.clone(),
        user: user_name(ids[1]),
        encryption: arguments.encryption,
        obstacle: arguments.encryption.map(encrypted).or_else(|| {
            let program = program.file_name().unwrap_or_default().to_string_lossy();
            processor::obstacle(&program, arguments.processor.as_deref())
        }),
        ..Guest::default()
    };
    if !users.allow(ids) {
        guest.obstacle.get_or_insert("its user is not in service.guest_users".to_owned());
        return Some(guest);
    }
    guest.has_kvm = process.has_kvm().ok();
    match GuestMemory::plan(&process, &arguments.memory) {
        Ok(layout) => {
            guest.memory_bytes = Some(layout.iter().map(|one| one.bytes).sum());
            guest.memory = Some(Keeping::of(&layout));
            guest.files = files(&process, &layout);
            if let Err(error) = GuestMemory::permits(&process, &layout) {
                guest.obstacle.get_or_insert(error.to_string());
            }
        }
        // A process that is just starting QEMU, or a tool of that name.
        Err(SourceError::NoGuest { .. }) => return None,
        Err(error) => _ = guest.obstacle.get_or_insert(error.to_string()),
    }
    Some(guest)
}

/// The identities of the files that are a guest's memory: those in the process's list of areas, and
/// those of the files themselves, which can differ.
fn files(process: &GuestProcess, layout: &[Placed]) -> Vec<(u32, u32, u64)> {
    let mut files = Vec::new();
    let is_any = layout.iter().any(Placed::is_shared);
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

fn user_name(id: u32) -> String {
    match User::from_uid(Uid::from_raw(id)) {
        Ok(Some(user)) => crate::config::printable(&user.name),
        _ => id.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qemu_is_known_by_what_is_executed() {
        for program in [
            "/usr/bin/qemu-system-x86_64",
            "/usr/libexec/qemu-kvm",
            "/usr/bin/kvm",
            "/usr/bin/qemu-system-x86_64 (deleted)",
        ] {
            assert!(is_qemu(Path::new(program)), "{program}");
        }
        for program in ["/usr/bin/sleep", "/opt/qemu/bin/sleep", "/usr/bin/qemu-img", "/", ""] {
            assert!(!is_qemu(Path::new(program)), "{program}");
        }
    }

    fn guest(pid: u32, name: Option<&str>, user: &str, uuid: Option<&str>) -> Guest {
        let text = |text: &str| text.to_owned();
        Guest {
            pid,
            name: name.map(text),
            user: text(user),
            uuid: uuid.map(text),
            ..Guest::default()
        }
    }

    #[test]
    fn a_process_that_poses_as_another_guest_is_told_apart() {
        let owner = guest(7, Some("web"), "libvirt-qemu", Some("4dea22b3"));
        let poser = guest(9, Some("web"), "mallory", Some("4dea22b3"));
        let other = guest(11, Some("db"), "libvirt-qemu", None);
        let nobody = |_: &str| false;
        let both = [owner.clone(), poser.clone(), other.clone()];
        // In any order, both get a name of their own, and each report names both.
        for (one, name) in
            [(&owner, "web (qemu:7, user libvirt-qemu)"), (&poser, "web (qemu:9, user mallory)")]
        {
            let named = name_of(one, &both, &mut Owners::default(), nobody);
            assert_eq!(named.name, name);
            let ambiguity = named.ambiguity.unwrap();
            assert!(ambiguity.contains("qemu:7 (user libvirt-qemu, UUID 4dea22b3)"), "{ambiguity}");
            assert!(ambiguity.contains("qemu:9 (user mallory, UUID 4dea22b3)"), "{ambiguity}");
        }
        assert_eq!(
            name_of(&other, &both, &mut Owners::default(), nobody),
            Named { name: "db".to_owned(), ambiguity: None }
        );
        // The name of a system that is configured.
        let named = name_of(&other, &both, &mut Owners::default(), |name| name == "db");
        assert_eq!(named.name, "db (qemu:11, user libvirt-qemu)");
        assert!(named.ambiguity.unwrap().contains("(user libvirt-qemu, no UUID)"));
        let unnamed = [guest(3, None, "root", None), guest(4, None, "root", None)];
        let named = name_of(&unnamed[0], &unnamed, &mut Owners::default(), nobody);
        assert_eq!(named, Named { name: "qemu:3".to_owned(), ambiguity: None });
    }

    /// The owner of the name is off, so no other process shows that it is not the poser's.
    #[test]
    fn a_process_that_poses_as_a_guest_that_is_off_is_told_apart() {
        let owner = guest(7, Some("web"), "libvirt-qemu", Some("4dea22b3"));
        let restarted = Guest { pid: 8, ..owner.clone() };
        let poser = guest(9, Some("web"), "mallory", Some("4dea22b3"));
        let other = guest(10, Some("web"), "libvirt-qemu", Some("ffff0000"));
        let mut owners = Owners::default();
        let mut name =
            |guest: &Guest| name_of(guest, std::slice::from_ref(guest), &mut owners, |_| false);
        assert_eq!(name(&owner).ambiguity, None);
        for (one, expected, who) in [
            (&poser, "web (qemu:9, user mallory)", "qemu:9 (user mallory, UUID 4dea22b3)"),
            (&other, "web (qemu:10, user libvirt-qemu)", "(user libvirt-qemu, UUID ffff0000)"),
        ] {
            let named = name(one);
            assert_eq!(named.name, expected);
            let ambiguity = named.ambiguity.unwrap();
            assert!(ambiguity.contains(who), "{ambiguity}");
            let earlier = "an earlier guest (user libvirt-qemu, UUID 4dea22b3)";
            assert!(ambiguity.contains(earlier), "{ambiguity}");
        }
        assert_eq!(name(&restarted), Named { name: "web".to_owned(), ambiguity: None });
    }

    #[test]
    fn names_beyond_those_that_are_remembered_are_given_to_nobody() {
        let mut owners = Owners::default();
        let mut take = |number: usize| owners.take(&number.to_string(), &guest(7, None, "a", None));
        assert!((0..OWNERS_MAX).all(|number| take(number).is_none()));
        assert!(take(OWNERS_MAX).is_some());
        assert!(take(5).is_none(), "it has its name");
    }

    #[test]
    fn the_identity_of_a_guest_is_its_user_and_what_it_claims() {
        let process = GuestProcess::open(std::process::id()).unwrap();
        let user = geteuid();
        assert_eq!(identity(&process).unwrap(), format!("qemu user {user} uuid - name -"));
    }

    #[test]
    fn all_ids_of_a_process_must_be_allowed() {
        let users = Users(vec![0, 107]);
        assert!(users.allow([107, 107, 107, 107]) && users.allow([0, 107, 0, 107]));
        // A set-user-ID program that a user started.
        assert!(!users.allow([1000, 0, 0, 0]) && !users.allow([0, 0, 1000, 0]));
        let users = Users::of(&["root".into(), "4242".into(), "nobody-has-this-name".into()]);
        assert!(users.allow([4242; 4]) && users.allow([geteuid().as_raw(); 4]));
    }

    #[test]
    fn what_is_no_guest_is_refused() {
        let users = Users::of(&[]);
        let failure = open(u32::MAX, &users).unwrap_err();
        assert_eq!(failure.exit, Exit::Source);
        let failure = open(std::process::id(), &users).unwrap_err();
        assert_eq!(failure.exit, Exit::Source);
        assert!(failure.message.contains("which is not QEMU"), "{failure}");
        let failure = open(std::process::id(), &Users(vec![u32::MAX])).unwrap_err();
        assert_eq!(failure.exit, Exit::Permission);
        assert!(failure.message.contains("service.guest_users"), "{failure}");
    }
}
