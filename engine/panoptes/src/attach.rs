//! From a system's address to a kernel that can be walked: opening memory, finding the kernel, verifying.
//!
//! Not for: what is done with it (`scan`, `watch`, `profile`).

use std::path::{Path, PathBuf};
use std::time::Instant;

use panoptes_engine::source::{AnySource, ErrorClass, FileFormat, FileSource, SourceError};
use panoptes_engine::system::kernel_of;
use panoptes_engine::walk::Kernel;
use panoptes_profiles::import::{self, Wanted};
use panoptes_profiles::{
    DiscoveryError, Event, Options, Profile, ProfileFile, Progress, discover, mapped_share,
};

use crate::config::{AutoOr, Configuration, Service, System, SystemAddress, SystemSettings};
use crate::dma;
use crate::exit::{Exit, Failure};
use crate::guests;
use crate::message::Messages;

/// A system's memory, open, and the kernel in it.
#[derive(Debug)]
pub struct Attached {
    /// Its memory.
    pub source: AnySource,
    /// What was found.
    pub profile: Profile,
    /// The same, ready to be walked.
    pub kernel: Kernel,
}

/// Where a kernel's layouts may come from.
#[derive(Debug)]
pub struct KnownProfiles {
    /// Profiles that were made before.
    pub files: Vec<ProfileFile>,
    /// Whether built-in tables are looked at.
    pub use_builtin: bool,
    /// Whether they may be made from what the kernel's memory holds.
    pub generate: bool,
}

impl KnownProfiles {
    /// Nothing is known: all must come from memory.
    pub const fn none() -> Self {
        Self { files: Vec::new(), use_builtin: false, generate: true }
    }

    /// What a system is configured to have.
    pub fn of(
        system: &System,
        configuration: &Configuration,
        messages: &Messages,
    ) -> Result<Self, Failure> {
        Ok(Self {
            files: profile_files(system, messages)?,
            use_builtin: configuration.built_in_profiles,
            generate: configuration.profile_generation,
        })
    }
}

/// Opens memory by its address alone.
pub fn open(address: &SystemAddress, service: &Service) -> Result<AnySource, Failure> {
    open_with(address, &SystemSettings::default(), service, &mut |_| {})
}

/// Opens a system's memory; `told` hears of where it lies, if that has to be found out.
pub fn open_with(
    address: &SystemAddress,
    settings: &SystemSettings,
    service: &Service,
    told: &mut dyn FnMut(&dma::Regions),
) -> Result<AnySource, Failure> {
    match address {
        SystemAddress::File(path) => FileSource::open_as(path, settings.file_format)
            .map(|source| AnySource::File(Box::new(source)))
            .map_err(|error| source_failure(&error)),
        SystemAddress::Qemu(pid) => {
            let users = guests::Users::of(&service.guest_users);
            guests::open(*pid, &users).map(|source| AnySource::Guest(Box::new(source)))
        }
        SystemAddress::Doca { device, vuid } => dma::open(device, vuid, settings, service, told),
        SystemAddress::Host => FileSource::open_host()
            .map(|source| AnySource::File(Box::new(source)))
            .map_err(|error| source_failure(&error)),
    }
}

/// Tells people what a dump lacks; `watching`, also that it does not change.
pub fn remark(source: &AnySource, system: &System, watching: bool, messages: &Messages) {
    let AnySource::File(source) = source else { return };
    let (name, format, lacks) = (&system.name, source.format(), source.lacks());
    let what = format.name();
    if lacks.is_damage() {
        messages.warning(format_args!("{name}: {what}; {lacks}"));
    } else if !lacks.is_empty() {
        messages.info(format_args!("{name}: {what}; {lacks}"));
    }
    if let Some(looks) =
        source.disregarded().filter(|_| system.settings.file_format != FileFormat::Raw)
    {
        messages.warning(format_args!(
            "{name}: taken for a live guest's memory, although its first bytes are those of {}; if it \
             is no guest's, set `file_format: dump`",
            looks.name()
        ));
    }
    if watching && format.is_still() {
        messages.warning(format_args!(
            "{name}: {what}, one moment of a machine: nothing will change in it; \
             `panoptes scan` prints what it holds"
        ));
    }
}

/// Finds and verifies the kernel in `source`.
pub fn find_kernel(
    source: &mut AnySource,
    known: &KnownProfiles,
    progress: &mut dyn Progress,
) -> Result<Profile, DiscoveryError> {
    let mut options = Options {
        files: &known.files,
        use_builtin: known.use_builtin,
        generate: known.generate,
        ..Options::default()
    };
    let layouts = source.layouts();
    if layouts == 1 {
        return discover(source, &options, &mut |event: Event<'_>| progress.event(event));
    }
    // Where the file does not tell where its memory lies: the usual places first, for each layout.
    let mut best: Option<(f64, usize, Profile)> = None;
    let mut failure = None;
    for everywhere in [false, true] {
        options.everywhere = everywhere;
        for index in 0..layouts {
            source.choose_layout(index);
            match discover(source, &options, &mut |event: Event<'_>| progress.event(event)) {
                Ok(profile) => {
                    let share = mapped_share(source, &profile);
                    if share > SHARE_ENOUGH {
                        return Ok(profile);
                    }
                    if best.as_ref().is_none_or(|(most, ..)| share > *most) {
                        best = Some((share, index, profile));
                    }
                }
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        // A kernel that was told to use less than there is maps no more in any layout.
        if let Some((_, index, profile)) = best {
            source.choose_layout(index);
            return Ok(profile);
        }
    }
    source.choose_layout(0);
    // Without a layout in which one was found there was a failure.
    failure.map_or_else(|| discover(source, &options, &mut ()), Err)
}

/// The share of a region that a kernel maps where the layout is right: the firmware keeps a few MiB.
const SHARE_ENOUGH: f64 = 0.9;

/// Opens a system and finds its kernel, telling people how it goes.
pub fn attach(
    system: &System,
    configuration: &Configuration,
    messages: &Messages,
) -> Result<Attached, Failure> {
    let begin = Instant::now();
    let known = KnownProfiles::of(system, configuration, messages)?;
    let mut told = |regions: &dma::Regions| {
        // What was not found is said by the failure.
        if matches!(regions, dma::Regions::Found { .. }) {
            messages.info(format_args!("{}: {regions}", system.name));
        }
    };
    let mut source =
        open_with(&system.address, &system.settings, &configuration.service, &mut told)?;
    remark(&source, system, false, messages);
    let found = find_kernel(&mut source, &known, &mut |event: Event<'_>| {
        tell(&event, &system.name, messages);
    });
    // Whatever was found or not: memory of a machine that has ended may be another's by now.
    still_there(&mut source, system)?;
    let profile = found.map_err(|error| {
        tell_losses(&source, &system.name, messages);
        discovery_failure(system, &error)
    })?;
    messages.info(format_args!(
        "{}: Linux {} found and verified by the {} in {:.0} ms",
        system.name,
        profile.release,
        profile.origin,
        begin.elapsed().as_secs_f64() * 1e3
    ));
    let kernel = kernel_of(&profile);
    Ok(Attached { source, profile, kernel })
}

/// Fails if the machine has ended since its memory was opened.
pub fn still_there(source: &mut AnySource, system: &System) -> Result<(), Failure> {
    // What cannot be looked at shows again when it is read.
    let _ = source.refresh();
    if source.has_ended() {
        let message = format!("{}: it ended while its kernel was looked for", system.name);
        return Err(Failure::new(Exit::Source, message));
    }
    Ok(())
}

/// Says what the transport has lost, if anything.
pub fn tell_losses(source: &AnySource, system: &str, messages: &Messages) {
    if let Some(losses) = source.losses() {
        messages.warning(format_args!("{system}: {losses}"));
    }
}

/// What discovery meets on its way, for people who want details.
pub fn tell(event: &Event<'_>, system: &str, messages: &Messages) {
    match event {
        Event::OsIdentifierFound { trace, at, release, .. } => {
            messages.debug(format_args!("{system}: {trace} at {at} says Linux {release}"));
        }
        Event::OsIdentifierDiscoveryExtended { to } => {
            messages
                .info(format_args!("{system}: no kernel in the usual place, going on ({to:?})"));
        }
        Event::CandidateRefused(attempt) => {
            messages.debug(format_args!("{system}: refused {attempt}"));
        }
        Event::LoadingProfileCandidate(origin) => {
            messages.debug(format_args!("{system}: taking the layouts from the {origin}"));
        }
        Event::ProfileVerificationSuccessful(checks) => {
            for check in *checks {
                messages.debug(format_args!("{system}: {check}"));
            }
        }
        _ => {}
    }
}

/// The profile files that a system is configured to have.
fn profile_files(system: &System, messages: &Messages) -> Result<Vec<ProfileFile>, Failure> {
    let AutoOr::Given(path) = &system.settings.os_symbol_path else { return Ok(Vec::new()) };
    let wrong = |path: &Path, error: &dyn std::fmt::Display| {
        let message = format!("{}: profile {}: {error}", system.name, path.display());
        Failure::new(Exit::NoKernel, message)
    };
    if !path.is_dir() {
        return Ok(vec![read_profile(path).map_err(|error| wrong(path, &*error))?]);
    }
    let entries = std::fs::read_dir(path).map_err(|error| wrong(path, &error))?;
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            let endings = [".json", ".json.xz", ".json.gz", ".json.zst"];
            name.is_some_and(|name| endings.iter().any(|ending| name.ends_with(ending)))
        })
        .collect();
    paths.sort();
    let mut files = Vec::new();
    for path in paths {
        match read_profile(&path) {
            Ok(file) => files.push(file),
            // One bad file in a folder must not keep the others from being used.
            Err(error) => messages.warning(wrong(&path, &*error)),
        }
    }
    Ok(files)
}

fn read_profile(path: &Path) -> Result<ProfileFile, Box<dyn std::error::Error>> {
    // A pipe would wait for somebody, a device may do anything.
    if !std::fs::metadata(path)?.is_file() {
        return Err("it is no file".into());
    }
    Ok(import::from_kernel(&mut std::fs::File::open(path)?, Wanted::default())?)
}

/// The exit code and line for memory that can't be opened.
pub fn source_failure(error: &SourceError) -> Failure {
    let exit = match error.class() {
        ErrorClass::CannotOpen => Exit::Source,
        ErrorClass::Permission => Exit::Permission,
        ErrorClass::Unreadable => Exit::NoKernel,
    };
    Failure::new(exit, error.to_string())
}

/// The exit code and line for memory in which no kernel was found.
pub fn discovery_failure(system: &System, error: &DiscoveryError) -> Failure {
    Failure::new(Exit::NoKernel, format!("{}: {error}", system.name))
}
