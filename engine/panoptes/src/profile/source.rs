//! Makes a profile from any source, whose type is detected.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};

use panoptes_engine::system::{AttachError, Stop, find_kernel};
use panoptes_profiles::import::{self, KernelFileKind, TypePreference};
use panoptes_profiles::{DiscoveryOptions, Event, Profile, ProfileFile};

use crate::attach::{attach_failure, log_event, log_source, open_with};
use crate::config::{Configuration, Mode, System, SystemAddress};
use crate::exit::{Exit, Failure};
use crate::message::Messages;

/// The types of the kernel of this machine.
const RUNNING_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Makes a profile of the source's kernel, or reads it if the source is a profile.
pub(super) fn profile_of(
    source: &SystemAddress,
    wanted: TypePreference,
    messages: &Messages,
) -> Result<ProfileFile, Failure> {
    match source {
        // No memory is needed: the kernel of this machine describes itself.
        SystemAddress::Host => of_running_kernel(),
        SystemAddress::File(path) if path == Path::new(RUNNING_BTF) => of_running_kernel(),
        SystemAddress::File(path) => match of_file(path, wanted, messages)? {
            Some(profile) => Ok(profile),
            None => of_memory(source, messages),
        },
        _ => of_memory(source, messages),
    }
}

/// Makes a profile from a file; `None` if the file may be memory.
fn of_file(
    path: &Path,
    wanted: TypePreference,
    messages: &Messages,
) -> Result<Option<ProfileFile>, Failure> {
    let refused = |error: io::Error| {
        Failure::io(&error, Exit::Source, format_args!("cannot open {}", path.display()))
    };
    let failed = |error: import::ImportError| import_failure(path, &error);
    // Opening a pipe would wait for a writer, and a device may do anything.
    if !std::fs::metadata(path).map_err(refused)?.is_file() {
        return Ok(None);
    }
    let mut file = File::open(path).map_err(refused)?;
    match import::kind(&mut file).map_err(failed)? {
        None => Ok(None),
        Some(KernelFileKind::Package) => {
            messages.info(format_args!("unpacking {}", path.display()));
            let (folder, mut kernel) = scratch()?;
            let name = import::package::unpack(&mut file, &mut kernel).map_err(failed)?;
            kernel.flush().and_then(|()| kernel.rewind()).map_err(|error| {
                let place = folder.display();
                Failure::new(Exit::Output, format!("cannot write into {place}: {error}"))
            })?;
            messages.info(format_args!("reading {name} from the package"));
            import::from_kernel(&mut kernel, wanted).map(Some).map_err(failed)
        }
        Some(_) => import::from_kernel(&mut file, wanted).map(Some).map_err(failed),
    }
}

/// Opens an unnamed file for the kernel from a package, which may have a gigabyte.
fn scratch() -> Result<(PathBuf, File), Failure> {
    let folder = std::env::temp_dir();
    let failed = |error: io::Error| {
        Failure::new(Exit::Output, format!("cannot write into {}: {error}", folder.display()))
    };
    let file = tempfile::tempfile_in(&folder).map_err(failed)?;
    Ok((folder, file))
}

/// Makes a profile from the memory of a machine that runs the kernel.
fn of_memory(address: &SystemAddress, messages: &Messages) -> Result<ProfileFile, Failure> {
    // Without known profiles, all layouts come from memory.
    let (system, found) = kernel_in(address, &DiscoveryOptions::default(), messages)?;
    let profile = found.map_err(|error| attach_failure(&system, &error))?;
    Ok(profile.to_file())
}

/// Opens a system that is not configured, and searches its kernel. Types of modules are no part of
/// a profile.
pub(super) fn kernel_in(
    address: &SystemAddress,
    options: &DiscoveryOptions<'_>,
    messages: &Messages,
) -> Result<(System, Result<Profile, AttachError>), Failure> {
    let Configuration { service, default: settings, .. } = Configuration::defaults(Mode::Scan);
    let system = System { name: address.default_name(), address: address.clone(), settings };
    let mut source = open_with(address, &system.settings, &service, false, &mut |_| {})?;
    log_source(&source, &system, false, messages);
    let mut progress = |event: Event<'_>| log_event(&event, &system, messages);
    let found = find_kernel(&mut source, options, &mut progress, Stop::NEVER);
    Ok((system, found))
}

/// Makes a profile from the files in which this machine's kernel describes itself.
fn of_running_kernel() -> Result<ProfileFile, Failure> {
    let refused = |path: &str, error: io::Error| {
        Failure::io(&error, Exit::Source, format_args!("cannot read {path}"))
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

/// The failure for a file of which no profile can be made.
pub(super) fn import_failure(path: &Path, error: &import::ImportError) -> Failure {
    let exit = match error {
        import::ImportError::Io(error) => Exit::from_io(error, Exit::Source),
        import::ImportError::Hidden(_) => Exit::Permission,
        _ => Exit::NoKernel,
    };
    Failure::new(exit, format!("{}: {error}", path.display()))
}
