//! `panoptes profile build`: a profile of a kernel, written down.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use panoptes_profiles::import::{self, Wanted};
use panoptes_profiles::{Event, ProfileFile};

use super::{import_failure, open_kernel, print};
use crate::attach::{KnownProfiles, discovery_failure, find_kernel, open, remark, tell};
use crate::config::{Configuration, Mode, System, SystemAddress};
use crate::exit::{Exit, Failure};
use crate::message::Messages;
use crate::request::{ProfileBuildRequest, ProfileSource};

/// The types of the kernel that this machine runs, as it shows them.
const RUNNING_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Makes a kernel's profile and writes it to the file that was asked for, or to `out`.
pub fn build(
    request: &ProfileBuildRequest,
    out: &mut dyn Write,
    messages: &Messages,
) -> Result<Exit, Failure> {
    let profile = match &request.source {
        ProfileSource::RunningKernel => of_running_kernel()?,
        ProfileSource::System(SystemAddress::File(path)) if path == Path::new(RUNNING_BTF) => {
            of_running_kernel()?
        }
        ProfileSource::System(SystemAddress::File(path)) => match open_kernel(path)? {
            Some((mut file, _)) => import::from_kernel(&mut file, Wanted::default())
                .map_err(|error| import_failure(path, &error))?,
            None => of_memory(&SystemAddress::File(path.clone()), messages)?,
        },
        ProfileSource::System(address) => of_memory(address, messages)?,
    };
    let bytes = profile.to_bytes();
    let Some(path) = &request.output else { return print(out, &bytes) };
    std::fs::write(path, &bytes).map_err(|error| {
        let exit = Exit::from_io(&error, Exit::Output);
        Failure::new(exit, format!("cannot write to {}: {error}", path.display()))
    })?;
    messages.info(format_args!(
        "wrote the profile of Linux {} to {}; name it as os_symbol_path to use it",
        profile.release,
        path.display()
    ));
    Ok(Exit::Done)
}

/// From the memory of a machine that runs it.
fn of_memory(address: &SystemAddress, messages: &Messages) -> Result<ProfileFile, Failure> {
    let configuration = Configuration::defaults(Mode::Scan);
    let system = System {
        name: address.default_name(),
        address: address.clone(),
        settings: configuration.default,
    };
    let mut source = open(&system.address, &configuration.service)?;
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

/// From what this machine's kernel shows of itself.
fn of_running_kernel() -> Result<ProfileFile, Failure> {
    let refused = |path: &str, error: std::io::Error| {
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
