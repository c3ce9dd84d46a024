//! `panoptes doctor`: lists what on this machine stands in the way of a configuration, each with
//! its fix.
//!
//! This module reads the facts, as the user and with the capabilities that the program has;
//! [`checks`] decides what they mean. Nothing is changed. Not for: mistakes of a configuration
//! (`check`).

mod checks;
mod ethtool;
mod flow;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Error;
use std::net::TcpListener;
use std::path::Path;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use nix::unistd::{Uid, User, geteuid};
use panoptes_sinks::output::stream::StreamOutput;
use panoptes_sinks::output::transport::TransportSettings;
use panoptes_sinks::output::{Output as _, OutputKind};
use panoptes_sources::Kcore;
use rustix::fs::{self as rights, AtFlags, CWD, accessat};
use serde_json::json;

use crate::boot_ids::folder_of;
use crate::config::{AutoOr, Configuration, Loader, Mode, Overrides, SystemAddress, Weight};
use crate::dma;
use crate::exit::{CommandOutput, Exit};
use crate::guests::{self, Guest};
use crate::memory::{MemoryDemand, MemoryLeft, Plan, TOO_MUCH};
use crate::sbom::Sboms;
use crate::watch::{check_files, files_of, name_of, probe};
use checks::{Capabilities, DoctorCheck, DoctorCheckState, GuestProcessAccess};

/// Checks this machine for a configuration, or for an empty one.
///
/// `reaches_receivers`: connects to the receivers, too.
pub(crate) fn doctor(file: Option<&Path>, as_json: bool, reaches_receivers: bool) -> CommandOutput {
    answer(&examine(file, reaches_receivers), as_json)
}

/// The same for the flow sensor, with its `argus.conf`.
pub(crate) fn doctor_of_flow(file: &Path, as_json: bool) -> CommandOutput {
    answer(&flow::examine(file), as_json)
}

fn answer(checks: &[DoctorCheck], as_json: bool) -> CommandOutput {
    let obstacles = checks.iter().filter(|check| check.state == DoctorCheckState::Obstacle).count();
    let exit = if obstacles == 0 { Exit::Done } else { Exit::Failed };
    let user = user_name(geteuid());
    let out = if as_json {
        let list: Vec<_> = checks.iter().map(DoctorCheck::object).collect();
        format!("{}\n", json!({ "user": user, "obstacles": obstacles, "checks": list }))
    } else {
        table(&user, obstacles, checks)
    };
    CommandOutput { out, err: Vec::new(), exit }
}

/// For people: a line a check, and one for its fix.
fn table(user: &str, obstacles: usize, checks: &[DoctorCheck]) -> String {
    let mut text = format!("as user {user}:\n");
    for DoctorCheck { what, state, message, fix } in checks {
        let _ = writeln!(text, "{:8}  {what:13}  {message}", state.word());
        if let Some(fix) = fix {
            let _ = writeln!(text, "{:25}fix: {fix}", "");
        }
    }
    let _ = match obstacles {
        0 => writeln!(text, "nothing stands in the way"),
        1 => writeln!(text, "1 obstacle stands in the way"),
        count => writeln!(text, "{count} obstacles stand in the way"),
    };
    text
}

fn examine(file: Option<&Path>, reaches_receivers: bool) -> Vec<DoctorCheck> {
    let (configuration, first) = load(file);
    let service = &configuration.service;
    let is_watched = |is_it: fn(&SystemAddress) -> bool| {
        configuration.systems.iter().any(|system| is_it(&system.address))
    };
    let is_guest = |it: &_| matches!(it, SystemAddress::Qemu(_) | SystemAddress::Guest(_));
    let wants_guests = configuration.auto_scan || is_watched(is_guest);
    let wants_host = is_watched(|it| matches!(it, SystemAddress::Host));
    let wants_doca = service.doca_library_path.is_some()
        || is_watched(|it| matches!(it, SystemAddress::Doca { .. }));
    let users: Vec<_> = service.guest_users.iter().map(|user| (user, user_id(user))).collect();
    let own = geteuid().as_raw();
    let access = GuestProcessAccess {
        wants_guests,
        has_other_users: users.iter().any(|(_, id)| id.is_some_and(|id| id != own || own == 0)),
        has: Capabilities::of(&fs::read_to_string("/proc/self/status").unwrap_or_default()),
        ptrace_scope: number("/proc/sys/kernel/yama/ptrace_scope"),
    };
    let known: Vec<_> = users.iter().map(|(name, id)| ((*name).clone(), id.is_some())).collect();
    let mut checks =
        vec![first, checks::io_uring(way_to_write(), number("/proc/sys/kernel/io_uring_disabled"))];
    checks.extend(memory(&configuration, access.has));
    checks.extend([
        checks::ptrace_scope(access),
        checks::capabilities(access),
        checks::guest_users(wants_guests, &known),
    ]);
    if wants_guests {
        checks.extend(guest_checks(&configuration));
    }
    checks.push(checks::huge_pages(access, &huge_page_mounts()));
    let lockdown = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    let opened = Kcore::open().map(drop).map_err(|error| error.to_string());
    checks.push(checks::host(wants_host, &lockdown, opened));
    let finds_doca = wants_doca || configuration.auto_scan;
    let functions = if finds_doca { functions(service) } else { Ok((None, 0)) };
    // Most machines have no functions for `auto_scan` to find.
    let wants_doca = wants_doca || functions.as_ref().is_ok_and(|(_, count)| *count > 0);
    checks.push(checks::doca(wants_doca, functions));
    checks.extend(places(&configuration));
    if reaches_receivers {
        let receivers = &configuration.output.telemetry;
        checks.extend(receivers.iter().map(|one| checks::reached(&name_of(one), probe(one))));
    }
    checks
}

/// The configuration, or the default one if it has mistakes, and the check of it.
fn load(file: Option<&Path>) -> (Configuration, DoctorCheck) {
    let loader =
        Loader { mode: Mode::Run, file: file.map(Path::to_owned), overrides: Overrides::default() };
    let name = file.map_or_else(|| "the default".to_owned(), |file| file.display().to_string());
    match loader.load_to_use() {
        Ok(loaded) => (loaded.configuration, checks::configuration(&[], &name)),
        Err(report) => {
            let errors = report.lines().filter(|(weight, _)| *weight == Weight::Error);
            let errors: Vec<_> = errors.map(|(_, line)| line).collect();
            (Configuration::defaults(Mode::Run), checks::configuration(&errors, &name))
        }
    }
}

/// How outputs write here: as the service finds out.
fn way_to_write() -> OutputKind {
    let null = File::options().write(true).open("/dev/null");
    null.map_or(OutputKind::Plain, |null| {
        StreamOutput::new(null, TransportSettings::default()).kind()
    })
}

fn memory(configuration: &Configuration, has: Capabilities) -> [DoctorCheck; 2] {
    let plan = Plan {
        configuration,
        systems: &configuration.systems,
        auto_scan: configuration.auto_scan,
        sboms: None,
    };
    let needed = MemoryDemand::of(&plan);
    let sum = needed.as_ref().and_then(MemoryDemand::sum).unwrap_or(u64::MAX);
    let left = MemoryLeft::now();
    let checked = match (&needed, &left) {
        (None, _) => Err(TOO_MUCH.to_owned()),
        (Some(needed), None) => Ok(needed.to_string()),
        (Some(needed), Some(left)) => {
            needed.check(left).map(|()| needed.to_string()).map_err(|failure| failure.message)
        }
    };
    let left = left.filter(|_| checked.is_err());
    let preset = left.and_then(|left| MemoryDemand::fitting_preset(&plan, &left));
    // Without a limit that is known, none is assumed.
    let limit = getrlimit(Resource::RLIMIT_MEMLOCK).ok().map(|(soft, _)| soft);
    let limit = limit.filter(|limit| *limit != RLIM_INFINITY);
    [checks::memory(checked, preset), checks::locked_memory(limit, sum, has)]
}

/// The checks of the guests that are to be watched, and of the systems that are named by guests.
fn guest_checks(configuration: &Configuration) -> Vec<DoctorCheck> {
    let users = guests::Users::of(&configuration.service.guest_users);
    let found = match guests::find(&users) {
        Ok(found) => found,
        Err(error) => return checks::guests(&Err(error.to_string())),
    };
    let mut wanted: BTreeSet<u32> = BTreeSet::new();
    let mut missing = Vec::new();
    for system in &configuration.systems {
        match &system.address {
            SystemAddress::Qemu(pid) => _ = wanted.insert(*pid),
            SystemAddress::Guest(name) => match guests::resolve(name, &found, None) {
                Ok(guest) => _ = wanted.insert(guest.pid),
                Err(why) => missing.push(checks::missing_guest(&system.name, &why)),
            },
            _ => {}
        }
    }
    let (is_on, patterns) = (configuration.auto_scan, &configuration.auto_scan_guests);
    let is_wanted = |guest: &Guest| wanted.contains(&guest.pid) || is_on && patterns.takes(guest);
    let found = found.into_iter().filter(is_wanted).collect();
    let mut checks = checks::guests(&Ok(found));
    checks.extend(missing);
    checks
}

fn functions(service: &crate::config::Service) -> Result<(Option<String>, usize), String> {
    let found = dma::find(service.doca_library_path.as_deref());
    match found.obstacle {
        Some(obstacle) => Err(obstacle),
        None => Ok((found.version, found.functions.len())),
    }
}

/// Where huge pages are mounted, and whether these folders can be entered.
fn huge_page_mounts() -> Vec<(String, bool)> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let paths = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let path = words.next()?;
        (words.next()? == "hugetlbfs").then(|| path.to_owned())
    });
    let can_enter = |path: &str| may(Path::new(path), rights::Access::EXEC_OK).is_ok();
    paths.map(|path| (path.clone(), can_enter(&path))).collect()
}

/// Whether this process may use a file so, with the capabilities that it has: access(2) ignores
/// those of a user other than root.
fn may(path: &Path, access: rights::Access) -> Result<(), Error> {
    Ok(accessat(CWD, path, access, AtFlags::EACCESS)?)
}

/// Files that are read, folders that are written to, and the port of metrics.
fn places(configuration: &Configuration) -> Vec<DoctorCheck> {
    let (service, output) = (&configuration.service, &configuration.output);
    let mut checks = Vec::new();
    for system in &configuration.systems {
        if let SystemAddress::File(path) = &system.address {
            // Nothing is opened: a pipe would wait for a writer.
            let opened = may(path, rights::Access::READ_OK);
            checks.push(checks::memory_file(&system.name, path, opened));
        }
    }
    checks.extend(files(configuration));
    for receiver in &output.telemetry {
        checks.push(checks::receiver(
            &name_of(receiver),
            files_of(receiver).count(),
            check_files(receiver),
        ));
    }
    let state_folder = folder_of(service);
    for (what, path) in [
        ("log_folder", output.log_folder.as_deref()),
        ("debug_log", service.debug_log_folder.as_deref()),
        ("state_dir", state_folder.as_deref()),
    ] {
        checks.push(checks::folder(what, path, path.map_or(Ok(()), writable)));
    }
    let address = output.metrics.as_ref();
    let bind = |address: &crate::config::NetworkAddress| {
        let bound = TcpListener::bind((&*address.host, address.port))?.local_addr()?;
        Ok(bound.ip().to_canonical().is_loopback())
    };
    let bound = address.map_or(Ok(true), bind);
    checks.push(checks::metrics(address.map(ToString::to_string).as_deref(), bound));
    checks
}

/// The files and folders that the settings of systems name, each once.
fn files(configuration: &Configuration) -> Vec<DoctorCheck> {
    let systems = configuration.systems.iter().map(|system| &system.settings);
    let mut files = BTreeSet::new();
    for settings in systems.chain([&configuration.default]) {
        let keys = [
            ("os_symbol_path", &settings.os_symbol_path),
            ("memory_regions_path", &settings.memory_regions_path),
        ];
        for (key, path) in keys {
            if let AutoOr::Given(path) = path {
                files.insert((key, path));
            }
        }
    }
    let read = |path: &Path| may(path, rights::Access::READ_OK);
    let mut checks: Vec<_> =
        files.into_iter().map(|(key, path)| checks::file(key, path, read(path))).collect();
    let faults = Sboms::load(configuration).err().unwrap_or_default();
    checks.extend(faults.iter().map(|fault| checks::sbom(&fault.reason)));
    checks
}

/// Whether files can be made in a folder, or, if it does not exist, the folder itself.
fn writable(folder: &Path) -> Result<(), Error> {
    let existing = folder.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    if !existing.is_dir() {
        return Err(Error::from(nix::errno::Errno::ENOTDIR));
    }
    may(existing, rights::Access::WRITE_OK | rights::Access::EXEC_OK)
}

/// The number in a file of the kernel's.
fn number(path: &str) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The number of a user, or the first one of several.
fn user_id(name: &str) -> Option<u32> {
    guests::user_numbers(name).map(|numbers| *numbers.start())
}

fn user_name(id: Uid) -> String {
    User::from_uid(id).ok().flatten().map_or_else(|| id.to_string(), |user| user.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_does_not_exist_is_judged_by_its_parent() {
        let folder = tempfile::tempdir().unwrap();
        assert!(writable(&folder.path().join("a/b")).is_ok());
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let error = writable(&file.join("a")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(nix::libc::ENOTDIR));
    }

    #[test]
    fn an_sbom_that_cannot_be_used_is_an_obstacle() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.yaml");
        fs::write(&file, "default: {sbom: [missing.json]}").unwrap();
        let checks = examine(Some(&file), false);
        let of_it: Vec<_> = checks.iter().filter(|check| check.what == "sbom").collect();
        let [check] = &of_it[..] else { panic!("{}", of_it.len()) };
        assert!(
            check.state == DoctorCheckState::Obstacle && check.message.contains("missing.json")
        );
    }

    #[test]
    fn a_table_ends_with_a_verdict() {
        let check = checks::metrics(None, Ok(true));
        let bad = checks::memory(Err("too much".to_owned()), Some(("small", 3 << 20)));
        assert_eq!(
            table("root", 0, std::slice::from_ref(&check)),
            "as user root:\nunused    metrics        they are off\nnothing stands in the way\n"
        );
        assert_eq!(
            table("root", 1, &[check, bad]),
            "as user root:\n\
             unused    metrics        they are off\n\
             obstacle  memory         too much\n                         \
             fix: --limits small, or `limits: small` under `default`, needs 3.0 MiB\n\
             1 obstacle stands in the way\n"
        );
    }
}
