//! From a system's address to a kernel that can be walked: opens memory, finds the kernel and
//! verifies it.
//!
//! Not for: using the kernel (`scan`, `watch`, `profile`).

use std::path::{Path, PathBuf};
use std::time::Instant;

use panoptes_engine::system::kernel_of;
use panoptes_engine::walk::Kernel;
use panoptes_profiles::import::{self, Wanted};
use panoptes_profiles::{
    DiscoveryError, Event, Options, Profile, ProfileFile, Progress, discover, mapped_share,
};
use panoptes_sources::{AnySource, ErrorClass, FileFormat, FileSource, SourceError};

use crate::config::{AutoOr, Configuration, Service, System, SystemAddress, SystemSettings};
use crate::dma;
use crate::exit::{Exit, Failure};
use crate::guests;
use crate::message::Messages;

/// A system's open memory, and the kernel in it.
#[derive(Debug)]
pub struct Attached {
    pub source: AnySource,
    pub profile: Profile,
    /// Made from the profile, ready to be walked.
    pub kernel: Kernel,
}

/// The allowed sources of a kernel's layouts.
#[derive(Debug)]
pub struct KnownProfiles {
    pub files: Vec<ProfileFile>,
    /// Whether built-in tables are used.
    pub use_builtin: bool,
    /// Whether layouts may be made from the contents of the kernel's memory.
    pub generate: bool,
}

impl KnownProfiles {
    /// No known profiles: all layouts must come from memory.
    pub const fn none() -> Self {
        Self { files: Vec::new(), use_builtin: false, generate: true }
    }

    /// The sources that are configured for a system. Fails if its profile can't be read.
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

/// Opens memory by its address, with default settings.
pub fn open(address: &SystemAddress, service: &Service) -> Result<AnySource, Failure> {
    open_with(address, &SystemSettings::default(), service, &mut |_| {})
}

/// Opens a system's memory. `report` receives the regions of memory if they must be found first.
pub fn open_with(
    address: &SystemAddress,
    settings: &SystemSettings,
    service: &Service,
    report: &mut dyn FnMut(&dma::Regions),
) -> Result<AnySource, Failure> {
    match address {
        SystemAddress::File(path) => FileSource::open_as(path, settings.file_format)
            .map(|source| AnySource::File(Box::new(source)))
            .map_err(|error| source_failure(&error)),
        SystemAddress::Qemu(pid) => {
            let users = guests::Users::of(&service.guest_users);
            guests::open(*pid, &users).map(|source| AnySource::Guest(Box::new(source)))
        }
        SystemAddress::Doca { device, vuid } => dma::open(device, vuid, settings, service, report),
        SystemAddress::Host => FileSource::open_host()
            .map(|source| AnySource::File(Box::new(source)))
            .map_err(|error| source_failure(&error)),
    }
}

/// Writes a message about what is missing in a dump; if `watching`, also that it never changes.
pub fn log_source(source: &AnySource, system: &System, watching: bool, messages: &Messages) {
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
            "{name}: read as the raw memory of a live guest, although its first bytes are those of \
             {}; if it is a dump, set `file_format: dump`",
            looks.name()
        ));
    }
    if watching && format.is_still() {
        messages.warning(format_args!(
            "{name}: {what} is a snapshot and never changes; use `panoptes scan` to print its \
             contents"
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
    // The file does not define the addresses of its memory, so each layout is tried: first only
    // the usual places of a kernel, then all of memory.
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
        // A kernel that is configured to use only a part of the memory maps no more in any layout.
        if let Some((_, index, profile)) = best {
            source.choose_layout(index);
            return Ok(profile);
        }
    }
    source.choose_layout(0);
    // No layout has a kernel, so there was at least one failure.
    failure.map_or_else(|| discover(source, &options, &mut ()), Err)
}

/// The share of a region that a kernel maps if the layout is correct: firmware reserves a few MiB.
const SHARE_ENOUGH: f64 = 0.9;

/// Opens a system and finds its kernel, with messages about the progress.
pub fn attach(
    system: &System,
    configuration: &Configuration,
    messages: &Messages,
) -> Result<Attached, Failure> {
    let begin = Instant::now();
    let known = KnownProfiles::of(system, configuration, messages)?;
    let mut report = |regions: &dma::Regions| {
        // If the regions are not found, the failure reports it.
        if matches!(regions, dma::Regions::Found { .. }) {
            messages.info(format_args!("{}: {regions}", system.name));
        }
    };
    let mut source =
        open_with(&system.address, &system.settings, &configuration.service, &mut report)?;
    log_source(&source, system, false, messages);
    let found = find_kernel(&mut source, &known, &mut |event: Event<'_>| {
        log_event(&event, &system.name, messages);
    });
    // Check even if a kernel was found: memory of a machine that has ended may belong to another.
    still_there(&mut source, system)?;
    let profile = found.map_err(|error| {
        warn_losses(&source, &system.name, messages);
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
    // An error here occurs again when memory is read.
    let _ = source.refresh();
    if source.has_ended() {
        let message =
            format!("{}: the machine ended during the search for its kernel", system.name);
        return Err(Failure::new(Exit::Source, message));
    }
    Ok(())
}

/// Writes a warning if the transport has lost anything.
pub fn warn_losses(source: &AnySource, system: &str, messages: &Messages) {
    if let Some(losses) = source.losses() {
        messages.warning(format_args!("{system}: {losses}"));
    }
}

/// Writes a message about an event of discovery; most are of level `debug`.
pub fn log_event(event: &Event<'_>, system: &str, messages: &Messages) {
    match event {
        Event::OsIdentifierFound { trace, at, release, .. } => {
            messages.debug(format_args!("{system}: {trace} at {at}: Linux {release}"));
        }
        Event::OsIdentifierDiscoveryExtended { to } => {
            messages.info(format_args!(
                "{system}: no kernel in the usual place, the search continues ({to:?})"
            ));
        }
        Event::CandidateRefused(attempt) => {
            messages.debug(format_args!("{system}: refused {attempt}"));
        }
        Event::LoadingProfileCandidate(origin) => {
            messages.debug(format_args!("{system}: loading the layouts from the {origin}"));
        }
        Event::ProfileVerificationSuccessful(checks) => {
            for check in *checks {
                messages.debug(format_args!("{system}: {check}"));
            }
        }
        _ => {}
    }
}

/// Reads the profile files that are configured for a system.
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
            // One bad file in a folder must not prevent the use of the others.
            Err(error) => messages.warning(wrong(&path, &*error)),
        }
    }
    Ok(files)
}

fn read_profile(path: &Path) -> Result<ProfileFile, Box<dyn std::error::Error>> {
    // Opening a pipe would wait for a writer, and a device may do anything.
    if !std::fs::metadata(path)?.is_file() {
        return Err("it is not a regular file".into());
    }
    Ok(import::from_kernel(&mut std::fs::File::open(path)?, Wanted::default())?)
}

/// The failure for memory that can't be opened.
pub fn source_failure(error: &SourceError) -> Failure {
    let exit = match error.class() {
        ErrorClass::CannotOpen => Exit::Source,
        ErrorClass::Permission => Exit::Permission,
        ErrorClass::Unreadable => Exit::NoKernel,
    };
    Failure::new(exit, error.to_string())
}

/// The failure for memory in which no kernel was found.
pub fn discovery_failure(system: &System, error: &DiscoveryError) -> Failure {
    Failure::new(Exit::NoKernel, format!("{}: {error}", system.name))
}
