//! The checks of `panoptes doctor`: from facts about this machine to what they mean.
//!
//! Not for: reading the facts (`super`).

use std::io::{Error, ErrorKind};
use std::path::Path;

use panoptes_sinks::output::OutputKind;
use panoptes_sinks::output::remote::Reached;
use serde_json::{Value, json};

use crate::guests::Guest;
use crate::size::show;

/// What a check has found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    /// Nothing stands in the way.
    Fine,
    /// The configuration does not need it.
    Unused,
    /// It works, but not as well as it could.
    Warning,
    /// Something that the configuration asks for does not work.
    Obstacle,
}

impl State {
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
pub(super) struct Check {
    pub(super) what: &'static str,
    pub(super) state: State,
    /// What was found.
    pub(super) message: String,
    /// What to do about it.
    pub(super) fix: Option<String>,
}

impl Check {
    pub(super) fn new(what: &'static str, state: State, message: impl Into<String>) -> Self {
        Self { what, state, message: message.into(), fix: None }
    }

    pub(super) fn fine(what: &'static str, message: impl Into<String>) -> Self {
        Self::new(what, State::Fine, message)
    }

    pub(super) fn unused(what: &'static str, message: impl Into<String>) -> Self {
        Self::new(what, State::Unused, message)
    }

    pub(super) fn warning(
        what: &'static str,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { fix: Some(fix.into()), ..Self::new(what, State::Warning, message) }
    }

    pub(super) fn obstacle(
        what: &'static str,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { fix: Some(fix.into()), ..Self::new(what, State::Obstacle, message) }
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

pub(super) fn configuration(mistakes: &[String], path: &str) -> Check {
    let what = "configuration";
    match mistakes {
        [] => Check::fine(what, format!("{path} is sound")),
        [first, ..] => {
            let plural = if mistakes.len() == 1 { "" } else { "s" };
            let message = format!("{} mistake{plural}; the first: {first}", mistakes.len());
            Check::obstacle(what, message, format!("panoptes check {path}"))
        }
    }
}

/// `kind`: how an output writes here; `disabled`: the sysctl `kernel.io_uring_disabled`.
pub(super) fn io_uring(kind: OutputKind, disabled: Option<u32>) -> Check {
    let what = "io_uring";
    match (kind, disabled) {
        (OutputKind::IoUring, _) => Check::fine(what, "records are written by io_uring"),
        (OutputKind::Plain, Some(1 | 2)) => Check::warning(
            what,
            "the kernel refuses it, so records are written by write(2)",
            "sysctl kernel.io_uring_disabled=0",
        ),
        (OutputKind::Plain, _) => Check::warning(
            what,
            "it is refused, so records are written by write(2)",
            "allow io_uring_setup, io_uring_enter and io_uring_register in the seccomp profile of \
             the container; the kernel must be 5.6 or newer",
        ),
    }
}

/// `limit`: how much memory this process may lock; `None` is no limit.
pub(super) fn locked_memory(limit: Option<u64>, needed: u64, has: Capabilities) -> Check {
    let what = "locked memory";
    match limit {
        Some(limit) if limit < needed && !has.has(IPC_LOCK) => Check::warning(
            what,
            format!("{} may be locked, of {} that are needed", show(limit), show(needed)),
            "LimitMEMLOCK=infinity in the unit, or ulimit -l unlimited; else swap may delay scans",
        ),
        _ => Check::fine(what, format!("{} can be locked", show(needed))),
    }
}

/// `result`: what is needed, or why that is too much; `preset`: the set of limits that would fit,
/// and how many bytes it needs.
pub(super) fn memory(result: Result<String, String>, preset: Option<(&str, u64)>) -> Check {
    let what = "memory";
    match (result, preset) {
        (Ok(needed), _) => Check::fine(what, needed),
        (Err(reason), Some((name, bytes))) => {
            let needs = show(bytes);
            let fix =
                format!("--limits {name}, or `limits: {name}` under `default`, needs {needs}");
            Check::obstacle(what, reason, fix)
        }
        (Err(reason), None) => {
            let fix = "watch fewer systems or add memory: no set of limits is small enough";
            Check::obstacle(what, reason, fix)
        }
    }
}

/// What reading other processes takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Access {
    /// Whether guests are to be watched by their processes.
    pub(super) wants_guests: bool,
    /// Whether these may be processes of other users.
    pub(super) has_other_users: bool,
    pub(super) has: Capabilities,
    /// The sysctl `kernel.yama.ptrace_scope`, if the kernel has it.
    pub(super) ptrace_scope: Option<u32>,
}

const NO_GUESTS: &str = "no guest is watched by its process";

pub(super) fn ptrace_scope(access: Access) -> Check {
    let what = "ptrace_scope";
    match access.ptrace_scope {
        _ if !access.wants_guests => Check::unused(what, NO_GUESTS),
        Some(3..) => Check::obstacle(
            what,
            "kernel.yama.ptrace_scope is 3: no process may read another one",
            "set it to 2 in /etc/sysctl.d, and boot again: 3 cannot be lowered",
        ),
        Some(scope @ 1..) if !access.has.has(SYS_PTRACE) => Check::obstacle(
            what,
            format!("kernel.yama.ptrace_scope is {scope}, and CAP_SYS_PTRACE is missing"),
            DROP_IN,
        ),
        _ => Check::fine(what, "the kernel allows to read guests"),
    }
}

const DROP_IN: &str = "run as root, or with the drop-in qemu.conf of /usr/share/panoptes/systemd; \
                       without guests, set auto_scan: false";

pub(super) fn capabilities(access: Access) -> Check {
    let what = "capabilities";
    if !access.wants_guests {
        return Check::unused(what, NO_GUESTS);
    }
    if !access.has_other_users {
        return Check::fine(what, "guests of this user need none");
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
        return Check::fine(what, "processes of other users can be read");
    }
    let message = format!("guests of other users cannot be read without {}", missing.join(", "));
    Check::obstacle(what, message, DROP_IN)
}

/// `users`: the names of `service.guest_users`, and whether this machine knows them.
pub(super) fn guest_users(wants_guests: bool, users: &[(String, bool)]) -> Check {
    let what = "guest_users";
    let of = |known: bool| {
        let names = users.iter().filter(|(_, is_known)| *is_known == known);
        names.map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
    };
    match (of(true), of(false)) {
        _ if !wants_guests => Check::unused(what, NO_GUESTS),
        (known, _) if known.is_empty() => Check::warning(
            what,
            "only guests of the own user are watched: no other one is both named and known here",
            "name the users that run guests in service.guest_users",
        ),
        (known, unknown) if unknown.is_empty() => Check::fine(what, format!("guests of {known}")),
        (known, unknown) => {
            Check::fine(what, format!("guests of {known} (not known here: {unknown})"))
        }
    }
}

/// A system that is named by a guest, and why that is not known.
pub(super) fn missing_guest(system: &str, why: &str) -> Check {
    let fix = "start the guest, or write the name that `panoptes systems` lists";
    Check::warning("guests", format!("{system}: {why}"), fix)
}

/// `found`: the guests that run and are to be watched.
pub(super) fn guests(found: &Result<Vec<Guest>, String>) -> Vec<Check> {
    let what = "guests";
    let found = match found {
        Ok(found) => found,
        Err(error) => {
            let message = format!("this machine's processes cannot be listed: {error}");
            return vec![Check::obstacle(what, message, "mount /proc")];
        }
    };
    let obstacles = found.iter().filter_map(|guest| Some((guest, guest.obstacle.as_ref()?)));
    let mut checks: Vec<_> = obstacles
        .map(|(guest, obstacle)| {
            let name = guest.name.as_deref().unwrap_or("a guest");
            let message = format!("{name} (qemu:{}): {obstacle}", guest.pid);
            Check::obstacle(what, message, fix_of(guest))
        })
        .collect();
    let count = found.len() - checks.len();
    if count > 0 || checks.is_empty() {
        let plural = if count == 1 { "guest runs" } else { "guests run" };
        checks.push(Check::fine(what, format!("{count} {plural} that can be watched")));
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
pub(super) fn huge_pages(access: Access, mounts: &[(String, bool)]) -> Check {
    let what = "huge pages";
    let closed = mounts.iter().find(|(_, is_open)| !is_open);
    match closed {
        _ if !access.wants_guests => Check::unused(what, NO_GUESTS),
        _ if mounts.is_empty() => Check::unused(what, "no hugetlbfs is mounted"),
        Some((path, _)) if !access.has.reads_all_files() => {
            Check::obstacle(what, format!("the memory of guests in {path} is closed"), DROP_IN)
        }
        _ => Check::fine(what, "the memory of guests on them can be opened"),
    }
}

/// `lockdown`: /sys/kernel/security/lockdown; `opened`: whether /proc/kcore could be opened.
pub(super) fn host(wanted: bool, lockdown: &str, opened: Result<(), String>) -> Check {
    let what = "host:";
    match opened {
        Ok(()) if !wanted => {
            Check::unused(what, "this machine itself is not watched; /proc/kcore could be read")
        }
        Err(error) if !wanted => {
            let could_not =
                format!("this machine itself is not watched, and could not be: {error}");
            Check::unused(what, could_not)
        }
        Ok(()) => Check::fine(what, "/proc/kcore can be read"),
        Err(error) if lockdown.contains("[confidentiality]") => Check::obstacle(
            what,
            error,
            "boot with lockdown=integrity, or without lockdown; Secure Boot may set it",
        ),
        Err(error) => {
            let fix = "run as root, or with the drop-in host.conf of /usr/share/panoptes/systemd";
            Check::obstacle(what, error, fix)
        }
    }
}

/// `found`: the version of the library and the number of functions, or why there is none.
pub(super) fn doca(wanted: bool, found: Result<(Option<String>, usize), String>) -> Check {
    let what = "DOCA";
    match found {
        _ if !wanted => Check::unused(what, "no memory behind a DMA device is watched"),
        Ok((version, count)) => {
            let version = version.unwrap_or_else(|| "of unknown version".to_owned());
            Check::fine(what, format!("the library {version} lists {count} functions"))
        }
        Err(reason) => Check::obstacle(
            what,
            reason,
            "install NVIDIA's DOCA runtime, name its folder in service.doca_library_path, and use \
             the drop-in doca.conf",
        ),
    }
}

/// `opened`: whether the memory file of a system could be opened.
pub(super) fn memory_file(system: &str, path: &Path, opened: Result<(), Error>) -> Check {
    let (what, path) = ("file:", path.display());
    match opened {
        Ok(()) => Check::fine(what, format!("{system}: {path} can be read")),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let message = format!("{system}: {path} does not exist, so it is waited for");
            Check::warning(what, message, "start the guest, or correct the path")
        }
        Err(error) => Check::obstacle(
            what,
            format!("{system}: {path}: {error}"),
            "let the user of the service read it: SupplementaryGroups= in the unit, chgrp and \
             chmod g+r",
        ),
    }
}

/// `read`: whether a file that a setting names can be read.
pub(super) fn file(key: &'static str, path: &Path, read: Result<(), Error>) -> Check {
    let path = path.display();
    match read {
        Ok(()) => Check::fine(key, format!("{path} can be read")),
        Err(error) => Check::obstacle(key, format!("{path}: {error}"), FILE_FIX),
    }
}

/// Why an SBOM can't be used.
pub(super) fn sbom(reason: &str) -> Check {
    Check::obstacle("sbom", reason, FILE_FIX)
}

/// `files`: how many files the settings of a receiver name; `read`: whether they can be used.
pub(super) fn receiver(name: &str, files: usize, read: Result<(), Error>) -> Check {
    let what = "telemetry";
    match read {
        Ok(()) if files == 0 => Check::fine(what, format!("{name}: it needs no file")),
        Ok(()) => Check::fine(what, format!("{name}: the files that it needs are there")),
        Err(error) => Check::obstacle(what, format!("{name}: {error}"), FILE_FIX),
    }
}

/// `reached`: whether a receiver can be reached, and what it has shown of itself.
pub(super) fn reached(name: &str, reached: Result<Reached, Error>) -> Check {
    let what = "receiver";
    match reached {
        Ok(Reached::Connection) => Check::fine(what, format!("{name}: it accepts connections")),
        Ok(Reached::Address) => {
            let message = format!("{name}: it has an address, but nothing answers datagrams");
            Check::fine(what, message)
        }
        Ok(Reached::Http { status, words }) => {
            let message = format!("{name}: an inquiry (OPTIONS) is answered {words}");
            match status {
                401 | 403 => Check::warning(what, message, TOKEN_FIX),
                300..=399 | 404 => Check::warning(what, message, "is the URL in `address` right?"),
                500.. if status != 501 => {
                    Check::warning(what, message, "the receiver's log should have the reason")
                }
                // A server need not know OPTIONS.
                _ => Check::fine(what, message),
            }
        }
        // The message says what to look at.
        Err(error) => Check::obstacle(what, error.to_string(), TEST_FIX),
    }
}

const TEST_FIX: &str = "follow the message; `panoptes doctor --receivers` then tries again";

const TOKEN_FIX: &str = "it may refuse every record: is the token in `headers` right, such as \
                         {Authorization: file:/PATH}?";

const FILE_FIX: &str = "correct the path, or let the user of the service read it";

/// `usable`: whether this process may make files in a folder, or make the folder.
pub(super) fn folder(what: &'static str, path: Option<&Path>, usable: Result<(), Error>) -> Check {
    let Some(path) = path else { return Check::unused(what, "none is configured") };
    let path = path.display();
    match usable {
        Ok(()) => Check::fine(what, format!("{path} can be written to")),
        Err(error) => Check::obstacle(
            what,
            format!("{path}: {error}"),
            "give it to the user of the service; in a unit with ProtectSystem=strict, add \
             ReadWritePaths=",
        ),
    }
}

/// `bound`: whether a socket could be bound to the address of metrics, and is reachable only from
/// this machine.
pub(super) fn metrics(address: Option<&str>, bound: Result<bool, Error>) -> Check {
    let what = "metrics";
    let Some(address) = address else { return Check::unused(what, "they are off") };
    match bound {
        Ok(true) => Check::fine(what, format!("{address} is free")),
        Ok(false) => Check::warning(
            what,
            format!("{address} is free; other machines can reach it, and it asks for no password"),
            "set output.metrics.address to 127.0.0.1:9464, or let a firewall protect the port",
        ),
        Err(error) if error.kind() == ErrorKind::AddrInUse => Check::warning(
            what,
            format!("{address} is in use"),
            "by a panoptes that runs: nothing; else set output.metrics.address",
        ),
        Err(error) => {
            let fix = "set output.metrics.address to an address of this machine";
            Check::obstacle(what, format!("{address}: {error}"), fix)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Capabilities = Capabilities(0);

    fn with(names: &[(u32, &str)]) -> Capabilities {
        Capabilities(names.iter().map(|(number, _)| 1 << number).sum())
    }

    fn access(has: Capabilities, ptrace_scope: Option<u32>) -> Access {
        Access { wants_guests: true, has_other_users: true, has, ptrace_scope }
    }

    /// Checks the state, a part of the message or of the fix, and that what is wrong has a fix.
    #[track_caller]
    fn expect(check: &Check, state: State, text: &str) {
        assert_eq!(check.state, state, "{check:?}");
        let all = format!("{}\n{}", check.message, check.fix.as_deref().unwrap_or_default());
        assert!(all.contains(text), "{check:?}");
        let is_wrong = matches!(state, State::Warning | State::Obstacle);
        assert_eq!(check.fix.is_some(), is_wrong, "{check:?}");
    }

    #[test]
    fn capabilities_are_read_from_the_status() {
        // What the kernel shows for CAP_SYS_PTRACE alone (bit 19), and for none.
        let status = "Name:\tx\nCapPrm:\t000001ffffffffff\nCapEff:\t0000000000080000\n";
        assert_eq!(Capabilities::of(status), with(&[SYS_PTRACE]));
        assert_eq!(Capabilities::of("Name:\tx\n"), NONE);
    }

    #[test]
    fn io_uring_is_better_but_not_needed() {
        expect(&io_uring(OutputKind::IoUring, None), State::Fine, "io_uring");
        expect(&io_uring(OutputKind::Plain, Some(2)), State::Warning, "io_uring_disabled=0");
        expect(&io_uring(OutputKind::Plain, Some(0)), State::Warning, "seccomp");
    }

    #[test]
    fn memory_should_be_lockable() {
        expect(&locked_memory(None, 1 << 30, NONE), State::Fine, "1024.0 MiB");
        expect(&locked_memory(Some(8 << 20), 1 << 30, NONE), State::Warning, "LimitMEMLOCK");
        expect(&locked_memory(Some(8 << 20), 1 << 30, with(&[IPC_LOCK])), State::Fine, "MiB");
        let much = || Err("too much".to_owned());
        expect(&memory(much(), Some(("small", 1 << 20))), State::Obstacle, "--limits small");
        expect(&memory(much(), None), State::Obstacle, "no set of limits is small enough");
        expect(&memory(Ok("needs 1 MiB".to_owned()), None), State::Fine, "needs 1 MiB");
    }

    #[test]
    fn each_missing_capability_is_named() {
        let all = with(&[SYS_PTRACE, CHECKPOINT_RESTORE, DAC_READ_SEARCH]);
        expect(&capabilities(access(all, None)), State::Fine, "other users");
        let old = with(&[SYS_PTRACE, SYS_ADMIN, DAC_OVERRIDE]);
        expect(&capabilities(access(old, None)), State::Fine, "other users");
        let one = capabilities(access(with(&[SYS_PTRACE]), None));
        expect(&one, State::Obstacle, "without CAP_CHECKPOINT_RESTORE, CAP_DAC_READ_SEARCH");
        let own = Access { has_other_users: false, ..access(NONE, None) };
        expect(&capabilities(own), State::Fine, "need none");
        let unused = Access { wants_guests: false, ..access(NONE, Some(3)) };
        expect(&capabilities(unused), State::Unused, "no guest");
        expect(&ptrace_scope(unused), State::Unused, "no guest");
    }

    #[test]
    fn yama_decides_who_may_read_a_process() {
        // Documentation/admin-guide/LSM/Yama.rst: 0 classic, 1 children, 2 CAP_SYS_PTRACE, 3 none.
        let all = with(&[SYS_PTRACE]);
        expect(&ptrace_scope(access(NONE, None)), State::Fine, "allows");
        expect(&ptrace_scope(access(NONE, Some(0))), State::Fine, "allows");
        expect(&ptrace_scope(access(NONE, Some(1))), State::Obstacle, "is 1");
        expect(&ptrace_scope(access(all, Some(2))), State::Fine, "allows");
        expect(&ptrace_scope(access(all, Some(3))), State::Obstacle, "boot again");
    }

    #[test]
    fn users_of_guests_should_exist() {
        let user = |name: &str, is_known| (name.to_owned(), is_known);
        let users = [user("root", true), user("qemu", false)];
        expect(&guest_users(true, &users), State::Fine, "guests of root (not known here: qemu)");
        expect(&guest_users(true, &users[..1]), State::Fine, "guests of root");
        expect(&guest_users(true, &users[1..]), State::Warning, "service.guest_users");
        expect(&guest_users(false, &users), State::Unused, "no guest");
    }

    #[test]
    fn each_guest_that_cannot_be_watched_has_a_line() {
        let guest = |name: &str, why: Option<&str>| Guest {
            pid: 7,
            name: Some(name.to_owned()),
            obstacle: why.map(str::to_owned),
            ..Guest::default()
        };
        let found = Ok(vec![guest("a", None), guest("b", Some("encrypted")), guest("c", None)]);
        let checks = guests(&found);
        assert_eq!(checks.len(), 2);
        expect(&checks[0], State::Obstacle, "b (qemu:7): encrypted");
        let fix = checks[0].fix.as_deref().unwrap();
        assert!(fix.ends_with("leave it out: auto_scan: {exclude: ['b']}"), "{fix}");
        expect(&checks[1], State::Fine, "2 guests run");
        expect(&guests(&Ok(Vec::new()))[0], State::Fine, "0 guests");
        assert_eq!(guests(&Ok(vec![guest("b", Some("encrypted"))])).len(), 1);
        expect(&guests(&Err("denied".to_owned()))[0], State::Obstacle, "denied");
    }

    #[test]
    fn a_system_whose_guest_is_not_known_is_a_warning() {
        let check = missing_guest("web-1", "2 guests have this name");
        expect(&check, State::Warning, "web-1: 2 guests have this name");
    }

    #[test]
    fn huge_pages_may_be_closed() {
        let mounts = [("/dev/hugepages".to_owned(), true), ("/huge".to_owned(), false)];
        expect(&huge_pages(access(NONE, None), &mounts), State::Obstacle, "/huge");
        expect(&huge_pages(access(NONE, None), &mounts[..1]), State::Fine, "opened");
        expect(&huge_pages(access(with(&[DAC_READ_SEARCH]), None), &mounts), State::Fine, "opened");
        expect(&huge_pages(access(NONE, None), &[]), State::Unused, "no hugetlbfs");
    }

    #[test]
    fn a_kernel_may_hide_its_own_memory() {
        let error = || Err("refused".to_owned());
        expect(&host(false, "", error()), State::Unused, "not watched");
        expect(&host(true, "[none] integrity confidentiality", Ok(())), State::Fine, "kcore");
        let locked = "none integrity [confidentiality]";
        expect(&host(true, locked, error()), State::Obstacle, "lockdown=integrity");
        expect(&host(true, "", error()), State::Obstacle, "host.conf");
    }

    #[test]
    fn a_library_matters_where_it_is_wanted() {
        let error = || Err("no library".to_owned());
        expect(&doca(false, error()), State::Unused, "DMA");
        expect(&doca(true, error()), State::Obstacle, "doca_library_path");
        let found = Ok((Some("3.2.0".to_owned()), 4));
        expect(&doca(true, found), State::Fine, "3.2.0 lists 4 functions");
    }

    #[test]
    fn files_folders_and_ports_are_tried() {
        let (path, denied) = (Path::new("/x"), || Err(Error::from(ErrorKind::PermissionDenied)));
        expect(&memory_file("web", path, Ok(())), State::Fine, "web: /x");
        expect(&memory_file("web", path, denied()), State::Obstacle, "SupplementaryGroups=");
        let missing = Err(Error::from(ErrorKind::NotFound));
        expect(&memory_file("web", path, missing), State::Warning, "waited for");
        expect(&folder("log_folder", None, Ok(())), State::Unused, "none");
        expect(&folder("log_folder", Some(path), Ok(())), State::Fine, "/x");
        expect(&folder("log_folder", Some(path), denied()), State::Obstacle, "ReadWritePaths=");
        expect(&metrics(None, Ok(true)), State::Unused, "off");
        expect(&metrics(Some("127.0.0.1:1"), Ok(true)), State::Fine, "free");
        expect(&metrics(Some("0.0.0.0:1"), Ok(false)), State::Warning, "no password");
        let used = Err(Error::from(ErrorKind::AddrInUse));
        expect(&metrics(Some("127.0.0.1:1"), used), State::Warning, "in use");
        let absent = Err(Error::from(ErrorKind::AddrNotAvailable));
        expect(&metrics(Some("192.0.2.1:1"), absent), State::Obstacle, "output.metrics.address");
    }

    #[test]
    fn a_configuration_with_mistakes_is_an_obstacle() {
        expect(&configuration(&[], "/p.yaml"), State::Fine, "/p.yaml");
        let mistakes = ["line 1".to_owned(), "line 2".to_owned()];
        let check = configuration(&mistakes, "/p.yaml");
        expect(&check, State::Obstacle, "2 mistakes; the first: line 1");
        assert_eq!(check.fix.as_deref(), Some("panoptes check /p.yaml"));
    }
}
