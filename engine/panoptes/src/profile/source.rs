//! Where a profile comes from: told by looking, whatever the command that needs it.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};

use panoptes_profiles::import::{self, Kind, Wanted};
use panoptes_profiles::{Event, ProfileFile};

use crate::attach::{KnownProfiles, discovery_failure, find_kernel, open, remark, tell};
use crate::config::{Configuration, Mode, System, SystemAddress};
use crate::exit::{Exit, Failure};
use crate::message::Messages;
use crate::request::ProfileSource;

/// The types of the kernel that this machine runs, as it shows them.
const RUNNING_BTF: &str = "/sys/kernel/btf/vmlinux";

/// A profile of the kernel that a source has, or the profile that it is.
pub(super) fn profile_of(
    source: &ProfileSource,
    wanted: Wanted,
    messages: &Messages,
) -> Result<ProfileFile, Failure> {
    match source {
        ProfileSource::RunningKernel => of_running_kernel(),
        ProfileSource::System(SystemAddress::File(path)) if path == Path::new(RUNNING_BTF) => {
            of_running_kernel()
        }
        ProfileSource::System(SystemAddress::File(path)) => {
            match of_file(path, wanted, messages)? {
                Some(profile) => Ok(profile),
                None => of_memory(&SystemAddress::File(path.clone()), messages),
            }
        }
        ProfileSource::System(address) => of_memory(address, messages),
    }
}

/// From a file that is no memory; `None` if it may be.
fn of_file(
    path: &Path,
    wanted: Wanted,
    messages: &Messages,
) -> Result<Option<ProfileFile>, Failure> {
    let refused = |error: io::Error| {
        let exit = Exit::from_io(&error, Exit::Source);
        Failure::new(exit, format!("cannot open {}: {error}", path.display()))
    };
    let failed = |error: import::Error| import_failure(path, &error);
    // A pipe would wait for somebody, a device may do anything.
    if !std::fs::metadata(path).map_err(refused)?.is_file() {
        return Ok(None);
    }
    let mut file = File::open(path).map_err(refused)?;
    match import::kind(&mut file).map_err(failed)? {
        None => Ok(None),
        Some(Kind::Package) => {
            messages.info(format_args!("unpacking {}", path.display()));
            let (folder, mut kernel) = scratch()?;
            let name = import::package::unpack(&mut file, &mut kernel).map_err(failed)?;
            kernel.flush().and_then(|()| kernel.rewind()).map_err(|error| {
                let place = folder.display();
                Failure::new(Exit::Output, format!("cannot write into {place}: {error}"))
            })?;
            messages.info(format_args!("reading {name} out of it"));
            import::from_kernel(&mut kernel, wanted).map(Some).map_err(failed)
        }
        Some(_) => import::from_kernel(&mut file, wanted).map(Some).map_err(failed),
    }
}

/// A file without a name for what is taken out of a package: it may have a gigabyte.
fn scratch() -> Result<(PathBuf, File), Failure> {
    let folder = std::env::temp_dir();
    let failed = |error: io::Error| {
        Failure::new(Exit::Output, format!("cannot write into {}: {error}", folder.display()))
    };
    let file = tempfile::tempfile_in(&folder).map_err(failed)?;
    Ok((folder, file))
}

/// From the memory of a machine that runs it.
fn of_memory(address: &SystemAddress, messages: &Messages) -> Result<ProfileFile, Failure> {
    let system = system_at(address);
    let mut source = open(&system.address, &Configuration::defaults(Mode::Scan).service)?;
    remark(&source, &system, false, messages);
    let profile = find_kernel(&mut source, &KnownProfiles::none(), &mut |event: Event<'_>| {
        tell(&event, &system.name, messages);
    })
    .map_err(|error| discovery_failure(&system, &error))?;
    profile.to_file().ok_or_else(|| {
        let message = format!(
            "{}: Linux {} says no build id, so nothing could tell later which kernel a profile is for",
            system.name, profile.release
        );
        Failure::new(Exit::NoKernel, message)
    })
}

/// A system that nobody configured.
pub(super) fn system_at(address: &SystemAddress) -> System {
    System {
        name: address.default_name(),
        address: address.clone(),
        settings: Configuration::defaults(Mode::Scan).default,
    }
}

/// From what this machine's kernel shows of itself.
fn of_running_kernel() -> Result<ProfileFile, Failure> {
    let refused = |path: &str, error: io::Error| {
        let exit = Exit::from_io(&error, Exit::Source);
        Failure::new(exit, format!("cannot read {path}: {error}"))
    };
    let read = |path: &str| std::fs::read(path).map_err(|error| refused(path, error));
    let kallsyms = "/proc/kallsyms";
    let btf = read(RUNNING_BTF)?;
    let notes = read("/sys/kernel/notes")?;
    let release = read("/proc/sys/kernel/osrelease")?;
    let release = String::from_utf8_lossy(release.trim_ascii()).into_owned();
    let symbols = File::open(kallsyms).map_err(|error| refused(kallsyms, error))?;
    import::live::from_running(&btf, symbols, &notes, release)
        .map_err(|error| import_failure(Path::new(RUNNING_BTF), &error))
}

/// The exit code and line for a file of which no profile can be made.
fn import_failure(path: &Path, error: &import::Error) -> Failure {
    let exit = match error {
        import::Error::Io(error) => Exit::from_io(error, Exit::Source),
        import::Error::Hidden(_) => Exit::Permission,
        _ => Exit::NoKernel,
    };
    Failure::new(exit, format!("{}: {error}", path.display()))
}
