//! The checks of `panoptes doctor`: from facts about this machine to what they mean.
//!
//! Not for: reading the facts (`super`).

use std::io::{Error, ErrorKind};
use std::path::Path;

use panoptes_sinks::output::OutputKind;
use panoptes_sinks::output::remote::ReachedLayer;
use serde_json::{Value, json};

use crate::guests::Guest;
use crate::size::show;

/// What a check has found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum DoctorCheckState {
    /// Nothing stands in the way.
    Fine,
    /// The configuration does not need it.
    Unused,
    /// It works, but not as well as it could.
    Warning,
    /// Something that the configuration asks for does not work.
    Obstacle,
}

impl DoctorCheckState {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Fine => "ok",
            Self::Unused => "unused",
            Self::Warning => "warning",
            Self::Obstacle => "obstacle",
        }
    }
}

/// The result of a check.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct DoctorCheck {
    pub(super) what: &'static str,
    pub(super) state: DoctorCheckState,
    /// What was found.
    pub(super) message: String,
    /// What to do about it.
    pub(super) fix: Option<String>,
}

impl DoctorCheck {
    pub(super) fn new(
        what: &'static str,
        state: DoctorCheckState,
        message: impl Into<String>,
    ) -> Self {
        Self { what, state, message: message.into(), fix: None }
    }

    pub(super) fn fine(what: &'static str, message: impl Into<String>) -> Self {
        Self::new(what, DoctorCheckState::Fine, message)
    }

    pub(super) fn unused(what: &'static str, message: impl Into<String>) -> Self {
        Self::new(what, DoctorCheckState::Unused, message)
    }

    pub(super) fn warning(
        what: &'static str,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { fix: Some(fix.into()), ..Self::new(what, DoctorCheckState::Warning, message) }
    }

    pub(super) fn obstacle(
        what: &'static str,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { fix: Some(fix.into()), ..Self::new(what, DoctorCheckState::Obstacle, message) }
    }

    pub(super) fn object(&self) -> Value {
        json!({
            "check": self.what,
            "state": self.state.word(),
            "message": self.message,
            "fix": self.fix,
        })
    }
}

/// Capabilities that this process may use: `CapEff` in /proc/self/status.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Capabilities(u64);

/// Numbers of capabilities (include/uapi/linux/capability.h).
const DAC_OVERRIDE: (u32, &str) = (1, "CAP_DAC_OVERRIDE");
const DAC_READ_SEARCH: (u32, &str) = (2, "CAP_DAC_READ_SEARCH");
const IPC_LOCK: (u32, &str) = (14, "CAP_IPC_LOCK");
const SYS_PTRACE: (u32, &str) = (19, "CAP_SYS_PTRACE");
const SYS_ADMIN: (u32, &str) = (21, "CAP_SYS_ADMIN");
const CHECKPOINT_RESTORE: (u32, &str) = (40, "CAP_CHECKPOINT_RESTORE");

impl Capabilities {
    /// Reads the content of /proc/self/status.
    pub(super) fn of(status: &str) -> Self {
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        Self(line.and_then(|word| u64::from_str_radix(word.trim(), 16).ok()).unwrap_or(0))
    }

    pub(super) const fn has(self, (number, _): (u32, &str)) -> bool {
        self.0 >> number & 1 == 1
    }

    fn reads_all_files(self) -> bool {
        self.has(DAC_READ_SEARCH) || self.has(DAC_OVERRIDE)
    }
}

pub(super) fn configuration(mistakes: &[String], path: &str) -> DoctorCheck {
    let what = "configuration";
    match mistakes {
        [] => DoctorCheck::fine(what, format!("{path} is sound")),
        [first, ..] => {
            let plural = if mistakes.len() == 1 { "" } else { "s" };
            let message = format!("{} mistake{plural}; the first: {first}", mistakes.len());
            DoctorCheck::obstacle(what, message, format!("panoptes check {path}"))
        }
    }
}

/// `kind`: how an output writes here; `disabled`: the sysctl `kernel.io_uring_disabled`.
pub(super) fn io_uring(kind: OutputKind, disabled: Option<u32>) -> DoctorCheck {
    let what = "io_uring";
    match (kind, disabled) {
        (OutputKind::IoUring, _) => DoctorCheck::fine(what, "records are written by io_uring"),
        (OutputKind::Plain, Some(1 | 2)) => DoctorCheck::warning(
            what,
            "the kernel refuses it, so records are written by write(2)",
            "sysctl kernel.io_uring_disabled=0",
        ),
        (OutputKind::Plain, _) => DoctorCheck::warning(
            what,
            "it is refused, so records are written by write(2)",
            "allow io_uring_setup, io_uring_enter and io_uring_register in the seccomp profile of \
             the container; the kernel must be 5.6 or newer",
        ),
    }
}

/// `limit`: how much memory this process may lock; `None` is no limit.
pub(super) fn locked_memory(limit: Option<u64>, needed: u64, has: Capabilities) -> DoctorCheck {
    let what = "locked memory";
    match limit {
        Some(limit) if limit < needed && !has.has(IPC_LOCK) => DoctorCheck::warning(
            what,
            format!("{} may be locked, of {} that are needed", show(limit), show(needed)),
            "LimitMEMLOCK=infinity in the unit, or ulimit -l unlimited; else swap may delay scans",
        ),
        _ => DoctorCheck::fine(what, format!("{} can be locked", show(needed))),
    }
}

/// `result`: what is needed, or why that is too much; `preset`: the set of limits that would fit,
/// and how many bytes it needs.
pub(super) fn memory(result: Result<String, String>, preset: Option<(&str, u64)>) -> DoctorCheck {
    let what = "memory";
    match (result, preset) {
        (Ok(needed), _) => DoctorCheck::fine(what, needed),
        (Err(reason), Some((name, bytes))) => {
            let needs = show(bytes);
            let fix =
                format!("--limits {name}, or `limits: {name}` under `default`, needs {needs}");
            DoctorCheck::obstacle(what, reason, fix)
        }
        (Err(reason), None) => {
            let fix = "watch fewer systems or add memory: no set of limits is small enough";
            DoctorCheck::obstacle(what, reason, fix)
        }
    }
}

/// What reading other processes takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct GuestProcessAccess {
    /// Whether guests are to be watched by their processes.
    pub(super) wants_guests: bool,
    /// Whether these may be processes of other users.
    pub(super) has_other_users: bool,
    pub(super) has: Capabilities,
    /// The sysctl `kernel.yama.ptrace_scope`, if the kernel has it.
    pub(super) ptrace_scope: Option<u32>,
}

const NO_GUESTS: &str = "no guest is watched by its process";

pub(super) fn ptrace_scope(access: GuestProcessAccess) -> DoctorCheck {
    let what = "ptrace_scope";
    match access.ptrace_scope {
        _ if !access.wants_guests => DoctorCheck::unused(what, NO_GUESTS),
        Some(3..) => DoctorCheck::obstacle(
            what,
            "kernel.yama.ptrace_scope is 3: no process may read another one",
            "set it to 2 in /etc/sysctl.d, and boot again: 3 cannot be lowered",
        ),
        Some(scope @ 1..) if !access.has.has(SYS_PTRACE) => DoctorCheck::obstacle(
            what,
            format!("kernel.yama.ptrace_scope is {scope}, and CAP_SYS_PTRACE is missing"),
            DROP_IN,
        ),
        _ => DoctorCheck::fine(what, "the kernel allows to read guests"),
    }
}

const DROP_IN: &str = "run as root, or with the drop-in qemu.conf of /usr/share/panoptes/systemd; \
                       without guests, set auto_scan: false";

pub(super) fn capabilities(access: GuestProcessAccess) -> DoctorCheck {
    let what = "capabilities";
    if !access.wants_guests {
        return DoctorCheck::unused(what, NO_GUESTS);
    }
    if !access.has_other_users {
        return DoctorCheck::fine(what, "guests of this user need none");
    }
    let has = access.has;
    let needed = [
        (SYS_PTRACE, has.has(SYS_PTRACE)),
        (CHECKPOINT_RESTORE, has.has(CHECKPOINT_RESTORE) || has.has(SYS_ADMIN)),
        (DAC_READ_SEARCH, has.reads_all_files()),
    ];
    let missing: Vec<_> =
        needed.iter().filter(|(_, has)| !has).map(|((_, name), _)| *name).collect();
    if missing.is_empty() {
        return DoctorCheck::fine(what, "processes of other users can be read");
    }
    let message = format!("guests of other users cannot be read without {}", missing.join(", "));
    DoctorCheck::obstacle(what, message, DROP_IN)
}

/// `users`: the names of `service.guest_users`, and whether this machine knows them.
pub(super) fn guest_users(wants_guests: bool, users: &[(String, bool)]) -> DoctorCheck {
    let what = "guest_users";
    let of = |known: bool| {
        let names = users.iter().filter(|(_, is_known)| *is_known == known);
        names.map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
    };
    match (of(true), of(false)) {
        _ if !wants_guests => DoctorCheck::unused(what, NO_GUESTS),
        (known, _) if known.is_empty() => DoctorCheck::warning(
            what,
            "only guests of the own user are watched: no other one is both named and known here",
            "name the users that run guests in service.guest_users",
        ),
        (known, unknown) if unknown.is_empty() => {
            DoctorCheck::fine(what, format!("guests of {known}"))
        }
        (known, unknown) => {
            DoctorCheck::fine(what, format!("guests of {known} (not known here: {unknown})"))
        }
    }
}

/// A system that is named by a guest, and why that is not known.
pub(super) fn missing_guest(system: &str, why: &str) -> DoctorCheck {
    let fix = "start the guest, or write the name that `panoptes systems` lists";
    DoctorCheck::warning("guests", format!("{system}: {why}"), fix)
}

/// `found`: the guests that run and are to be watched.
pub(super) fn guests(found: &Result<Vec<Guest>, String>) -> Vec<DoctorCheck> {
    let what = "guests";
    let found = match found {
        Ok(found) => found,
        Err(error) => {
            let message = format!("this machine's processes cannot be listed: {error}");
            return vec![DoctorCheck::obstacle(what, message, "mount /proc")];
        }
    };
    let obstacles = found.iter().filter_map(|guest| Some((guest, guest.obstacle.as_ref()?)));
    let mut checks: Vec<_> = obstacles
        .map(|(guest, obstacle)| {
            let name = guest.name.as_deref().unwrap_or("a guest");
            let message = format!("{name} (qemu:{}): {obstacle}", guest.pid);
            DoctorCheck::obstacle(what, message, fix_of(guest))
        })
        .collect();
    let count = found.len() - checks.len();
    if count > 0 || checks.is_empty() {
        let plural = if count == 1 { "guest runs" } else { "guests run" };
        checks.push(DoctorCheck::fine(what, format!("{count} {plural} that can be watched")));
    }
    checks
}

/// What to do about a guest that cannot be watched.
fn fix_of(guest: &Guest) -> String {
    const TABLE: &str = "see the troubleshooting table in operations.md (/usr/share/doc/panoptes, \
                         or the folder docs of the sources)";
    match &guest.name {
        Some(name) => {
            let name = name.replace('\'', "''");
            format!("{TABLE}, or leave it out: auto_scan: {{exclude: ['{name}']}}")
        }
        None => TABLE.to_owned(),
    }
}

/// `mounts`: where huge pages are mounted, and whether this process may enter these folders.
pub(super) fn huge_pages(access: GuestProcessAccess, mounts: &[(String, bool)]) -> DoctorCheck {
    let what = "huge pages";
    let closed = mounts.iter().find(|(_, is_open)| !is_open);
    match closed {
        _ if !access.wants_guests => DoctorCheck::unused(what, NO_GUESTS),
        _ if mounts.is_empty() => DoctorCheck::unused(what, "no hugetlbfs is mounted"),
        Some((path, _)) if !access.has.reads_all_files() => DoctorCheck::obstacle(
            what,
            format!("the memory of guests in {path} is closed"),
            DROP_IN,
        ),
        _ => DoctorCheck::fine(what, "the memory of guests on them can be opened"),
    }
}

/// `lockdown`: /sys/kernel/security/lockdown; `opened`: whether /proc/kcore could be opened.
pub(super) fn host(wanted: bool, lockdown: &str, opened: Result<(), String>) -> DoctorCheck {
    let what = "host:";
    match opened {
        Ok(()) if !wanted => DoctorCheck::unused(
            what,
            "this machine itself is not watched; /proc/kcore could be read",
        ),
        Err(error) if !wanted => {
            let could_not =
                format!("this machine itself is not watched, and could not be: {error}");
            DoctorCheck::unused(what, could_not)
        }
        Ok(()) => DoctorCheck::fine(what, "/proc/kcore can be read"),
        Err(error) if lockdown.contains("[confidentiality]") => DoctorCheck::obstacle(
            what,
            error,
            "boot with lockdown=integrity, or without lockdown; Secure Boot may set it",
        ),
        Err(error) => {
            let fix = "run as root, or with the drop-in host.conf of /usr/share/panoptes/systemd";
            DoctorCheck::obstacle(what, error, fix)
        }
    }
}

/// `found`: the version of the library and the number of functions, or why there is none.
pub(super) fn doca(wanted: bool, found: Result<(Option<String>, usize), String>) -> DoctorCheck {
    let what = "DOCA";
    match found {
        _ if !wanted => DoctorCheck::unused(what, "no memory behind a DMA device is watched"),
        Ok((version, count)) => {
            let version = version.unwrap_or_else(|| "of unknown version".to_owned());
            DoctorCheck::fine(what, format!("the library {version} lists {count} functions"))
        }
        Err(reason) => DoctorCheck::obstacle(
            what,
            reason,
            "install NVIDIA's DOCA runtime, name its folder in service.doca_library_path, and use \
             the drop-in doca.conf",
        ),
    }
}

/// `opened`: whether the memory file of a system could be opened.
pub(super) fn memory_file(system: &str, path: &Path, opened: Result<(), Error>) -> DoctorCheck {
    let (what, path) = ("file:", path.display());
    match opened {
        Ok(()) => DoctorCheck::fine(what, format!("{system}: {path} can be read")),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let message = format!("{system}: {path} does not exist, so it is waited for");
            DoctorCheck::warning(what, message, "start the guest, or correct the path")
        }
        Err(error) => DoctorCheck::obstacle(
            what,
            format!("{system}: {path}: {error}"),
            "let the user of the service read it: SupplementaryGroups= in the unit, chgrp and \
             chmod g+r",
        ),
    }
}

/// `read`: whether a file that a setting names can be read.
pub(super) fn file(key: &'static str, path: &Path, read: Result<(), Error>) -> DoctorCheck {
    let path = path.display();
    match read {
        Ok(()) => DoctorCheck::fine(key, format!("{path} can be read")),
        Err(error) => DoctorCheck::obstacle(key, format!("{path}: {error}"), FILE_FIX),
    }
}

/// Why an SBOM can't be used.
pub(super) fn sbom(reason: &str) -> DoctorCheck {
    DoctorCheck::obstacle("sbom", reason, FILE_FIX)
}

/// `files`: how many files the settings of a receiver name; `read`: whether they can be used.
pub(super) fn receiver(name: &str, files: usize, read: Result<(), Error>) -> DoctorCheck {
    let what = "telemetry";
    match read {
        Ok(()) if files == 0 => DoctorCheck::fine(what, format!("{name}: it needs no file")),
        Ok(()) => DoctorCheck::fine(what, format!("{name}: the files that it needs are there")),
        Err(error) => DoctorCheck::obstacle(what, format!("{name}: {error}"), FILE_FIX),
    }
}

/// `reached`: whether a receiver can be reached, and what it has shown of itself.
pub(super) fn reached(name: &str, reached: Result<ReachedLayer, Error>) -> DoctorCheck {
    let what = "receiver";
    match reached {
        Ok(ReachedLayer::Connection) => {
            DoctorCheck::fine(what, format!("{name}: it accepts connections"))
        }
        Ok(ReachedLayer::Address) => {
            let message = format!("{name}: it has an address, but nothing answers datagrams");
            DoctorCheck::fine(what, message)
        }
        Ok(ReachedLayer::Http { status, words }) => {
            let message = format!("{name}: an inquiry (OPTIONS) is answered {words}");
            match status {
                401 | 403 => DoctorCheck::warning(what, message, TOKEN_FIX),
                300..=399 | 404 => {
                    DoctorCheck::warning(what, message, "is the URL in `address` right?")
                }
                500.. if status != 501 => {
                    DoctorCheck::warning(what, message, "the receiver's log should have the reason")
                }
                // A server need not know OPTIONS.
                _ => DoctorCheck::fine(what, message),
            }
        }
        // The message says what to look at.
        Err(error) => DoctorCheck::obstacle(what, error.to_string(), TEST_FIX),
    }
}

const TEST_FIX: &str = "follow the message; `panoptes doctor --receivers` then tries again";

const TOKEN_FIX: &str = "it may refuse every record: is the token in `headers` right, such as \
                         {Authorization: file:/PATH}?";

const FILE_FIX: &str = "correct the path, or let the user of the service read it";

/// `usable`: whether this process may make files in a folder, or make the folder.
pub(super) fn folder(
    what: &'static str,
    path: Option<&Path>,
    usable: Result<(), Error>,
) -> DoctorCheck {
    let Some(path) = path else { return DoctorCheck::unused(what, "none is configured") };
    let path = path.display();
    match usable {
        Ok(()) => DoctorCheck::fine(what, format!("{path} can be written to")),
        Err(error) => DoctorCheck::obstacle(
            what,
            format!("{path}: {error}"),
            "give it to the user of the service; in a unit with ProtectSystem=strict, add \
             ReadWritePaths=",
        ),
    }
}

/// `bound`: whether a socket could be bound to the address of metrics, and is reachable only from
/// this machine.
pub(super) fn metrics(address: Option<&str>, bound: Result<bool, Error>) -> DoctorCheck {
    let what = "metrics";
    let Some(address) = address else { return DoctorCheck::unused(what, "they are off") };
    match bound {
        Ok(true) => DoctorCheck::fine(what, format!("{address} is free")),
        Ok(false) => DoctorCheck::warning(
            what,
            format!("{address} is free; other machines can reach it, and it asks for no password"),
            "set output.metrics.address to 127.0.0.1:9464, or let a firewall protect the port",
        ),
        Err(error) if error.kind() == ErrorKind::AddrInUse => DoctorCheck::warning(
            what,
            format!("{address} is in use"),
            "by a panoptes that runs: nothing; else set output.metrics.address",
        ),
        Err(error) => {
            let fix = "set output.metrics.address to an address of this machine";
            DoctorCheck::obstacle(what, format!("{address}: {error}"), fix)
        }
    }
}

#[cfg(test)]
mod tests;
