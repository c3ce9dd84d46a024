//! From a system's address to a kernel that can be walked: opens memory, finds the kernel and
//! verifies it.
//!
//! Not for: using the kernel (`scan`, `watch`, `profile`).

mod doubt;

use std::io;
use std::path::{Path, PathBuf};

use panoptes_decoders::source::MemorySource as _;
use panoptes_engine::system::{self, AttachError, Stop};
use panoptes_profiles::import::{self, TypePreference};
use panoptes_profiles::{DiscoveryOptions, Event, Profile, ProfileFile};
use panoptes_sources::{
    AnySource, FileFormat, FileSource, FileSourceOptions, Kcore, MachineSource as _,
};

use crate::config::{
    AutoOr, Configuration, GuestName, Service, System, SystemAddress, SystemSettings,
};
use crate::dma;
use crate::exit::{Exit, Failure};
use crate::guests::{self, Guest, GuestNameOwner};
use crate::message::Messages;

/// The options with which a kernel is searched; `files` are the system's profiles.
pub fn options<'a>(
    files: &'a [ProfileFile],
    configuration: &Configuration,
) -> DiscoveryOptions<'a> {
    DiscoveryOptions {
        files,
        use_builtin: configuration.built_in_profiles,
        generate: configuration.profile_generation,
        ..DiscoveryOptions::default()
    }
}

/// Opens a system's memory. `report` receives the regions of memory if they must be found first.
/// If `watching`, threads that all systems share read it: memory on a file system that may block is
/// refused.
pub fn open_with(
    address: &SystemAddress,
    settings: &SystemSettings,
    service: &Service,
    watching: bool,
    report: &mut dyn FnMut(&dma::Regions),
) -> Result<AnySource, Failure> {
    Ok(match address {
        SystemAddress::File(path) => {
            let regions = match &settings.memory_regions_path {
                AutoOr::Auto => None,
                AutoOr::Given(path) => Some(dma::regions_file(path)?),
            };
            let opening = FileSourceOptions {
                format: settings.file_format,
                is_watched: watching,
                regions: regions.as_deref(),
            };
            AnySource::File(Box::new(FileSource::open_with(path, opening)?))
        }
        SystemAddress::Qemu(pid) => {
            let users = guests::Users::of(&service.guest_users);
            AnySource::Guest(Box::new(guests::open(*pid, &users)?))
        }
        SystemAddress::Guest(name) => {
            let users = guests::Users::of(&service.guest_users);
            let resolution = find_guest(name, || guests::find(&users), None)?;
            let source = open_with(&resolution.address, settings, service, watching, report)?;
            resolution.check(&source)?;
            source
        }
        SystemAddress::Doca { device, vuid } => dma::open(device, vuid, settings, service, report)?,
        SystemAddress::Host => AnySource::Host(Box::new(Kcore::open()?)),
    })
}

/// What the name of a guest stands for now.
#[derive(Clone, Debug)]
pub struct GuestResolution {
    pub address: SystemAddress,
    /// The guest with the memory; `None` for a file.
    pub owner: Option<GuestNameOwner>,
    /// The id and the start time of the guest's process.
    process: Option<(u32, u64)>,
}

impl GuestResolution {
    /// Checks memory that was opened at the address.
    ///
    /// # Errors
    ///
    /// The guest has ended, and another process has its id.
    pub fn check(&self, source: &AnySource) -> Result<(), Failure> {
        match (self.process, source) {
            (Some(process), AnySource::Guest(memory)) if memory.process().key() != process => {
                let message = format!("{}: another process has this id now", self.address);
                Err(Failure::new(Exit::Source, message))
            }
            _ => Ok(()),
        }
    }
}

/// The process that is the guest of a name now, or the file of that name. `guests` are those that
/// run, and `earlier` is whose guest it was before.
///
/// # Errors
///
/// No guest has the name, or it does not tell which one.
pub fn find_guest(
    name: &GuestName,
    guests: impl FnOnce() -> io::Result<Vec<Guest>>,
    earlier: Option<&GuestNameOwner>,
) -> Result<GuestResolution, Failure> {
    if let GuestName::Bare { file, .. } = name
        && file.symlink_metadata().is_ok()
    {
        let address = SystemAddress::File(file.clone());
        return Ok(GuestResolution { address, owner: None, process: None });
    }
    let found = guests().map_err(|error| {
        Failure::io(&error, Exit::Source, "cannot list this machine's processes")
    })?;
    match guests::resolve(name, &found, earlier) {
        Ok(guest) => Ok(GuestResolution {
            address: SystemAddress::Qemu(guest.pid),
            owner: Some(GuestNameOwner::of(guest)),
            process: Some((guest.pid, guest.began)),
        }),
        Err(why) => {
            let what = match name {
                GuestName::Bare { file, .. } => {
                    format!("cannot open {}: No such file or directory, and ", file.display())
                }
                _ => format!("{name}: "),
            };
            Err(Failure::new(Exit::Source, what + &why))
        }
    }
}

/// Writes a message about what is missing in a dump; if `watching`, also that it never changes.
pub fn log_source(source: &AnySource, system: &System, watching: bool, messages: &Messages) {
    let AnySource::File(source) = source else { return };
    let messages = messages.of(system);
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
            "{name}: {what} is a snapshot and never changes; use `panoptes scan {address}` to \
             print its contents, or `panoptes scan {address} --alerts` for its alerts",
            address = system.address
        ));
    }
}

/// Receives the progress of attaching to a system; ignores it unless implemented otherwise.
pub trait Observer {
    /// The regions of memory, if they had to be found.
    fn regions(&mut self, _: &dma::Regions) {}

    /// The memory is open.
    fn opened(&mut self, _: &AnySource) {}

    fn event(&mut self, _: &Event<'_>) {}

    /// The profile that is configured can't be used.
    fn no_profile(&mut self, _: &ProfileProblem) {}

    /// Which files of a folder of profiles can't be used; none if all can.
    fn left_out(&mut self, _: &[ProfileProblem]) {}

    /// The memory has no kernel that can be scanned.
    fn not_attached(&mut self, _: &AnySource, _: &AttachError) {}
}

impl Observer for () {}

/// Writes messages about attaching to a system in order to scan it once.
#[derive(Clone, Copy, Debug)]
pub struct MessageObserver<'a> {
    pub system: &'a System,
    pub messages: &'a Messages,
}

impl Observer for MessageObserver<'_> {
    fn regions(&mut self, regions: &dma::Regions) {
        // If the regions are not found, the failure reports it.
        if matches!(regions, dma::Regions::Found { .. }) {
            let messages = self.messages.of(self.system);
            messages.info(format_args!("{}: {regions}", self.system.name));
        }
    }

    fn left_out(&mut self, problems: &[ProfileProblem]) {
        for problem in problems {
            let messages = self.messages.of(self.system);
            messages.warning(format_args!("{}: {problem}", self.system.name));
        }
    }

    fn opened(&mut self, source: &AnySource) {
        log_source(source, self.system, false, self.messages);
    }

    fn event(&mut self, event: &Event<'_>) {
        log_event(event, self.system, self.messages);
    }

    fn not_attached(&mut self, source: &AnySource, error: &AttachError) {
        if matches!(error, AttachError::NoKernel(_)) {
            warn_losses(source, self.system, self.messages);
        }
    }
}

/// Attaches to a system in order to scan it once.
///
/// # Errors
///
/// As [`attach`]. Where the memory may be that of a machine that starts, the message names that.
pub(crate) fn attach_once(
    system: &System,
    configuration: &Configuration,
    messages: &Messages,
) -> Result<(AnySource, Profile), Failure> {
    let inner = MessageObserver { system, messages };
    let mut observer = OnceObserver { inner, is_live: false };
    attach(system, configuration, false, &mut observer, Stop::NEVER).map_err(|failure| {
        if failure.exit != Exit::NoKernel || !observer.is_live {
            return failure;
        }
        let message = format!("{failure}{STARTING}");
        Failure { message, ..failure }
    })
}

const STARTING: &str = "; if the machine is still starting, try again in a minute: `panoptes \
                        watch` waits for that";

/// Notes whether the memory can change.
struct OnceObserver<'a> {
    inner: MessageObserver<'a>,
    is_live: bool,
}

impl Observer for OnceObserver<'_> {
    fn regions(&mut self, regions: &dma::Regions) {
        self.inner.regions(regions);
    }

    fn left_out(&mut self, problems: &[ProfileProblem]) {
        self.inner.left_out(problems);
    }

    fn opened(&mut self, source: &AnySource) {
        self.is_live = !source.is_still();
        self.inner.opened(source);
    }

    fn event(&mut self, event: &Event<'_>) {
        self.inner.event(event);
    }

    fn not_attached(&mut self, source: &AnySource, error: &AttachError) {
        self.inner.not_attached(source, error);
    }
}

/// Opens a system's memory, as [`open_with`] does, and finds its kernel.
pub fn attach(
    system: &System,
    configuration: &Configuration,
    watching: bool,
    observer: &mut dyn Observer,
    stop: Stop<'_>,
) -> Result<(AnySource, Profile), Failure> {
    let Profiles { files, left_out } = profile_files(&system.settings).map_err(|problem| {
        observer.no_profile(&problem);
        Failure::new(Exit::NoKernel, format!("{}: {problem}", system.name))
    })?;
    observer.left_out(&left_out);
    let mut regions = |regions: &dma::Regions| observer.regions(regions);
    let (settings, service) = (&system.settings, &configuration.service);
    let mut source = open_with(&system.address, settings, service, watching, &mut regions)?;
    observer.opened(&source);
    let options = options(&files, configuration);
    let find = |source: &mut AnySource, observer: &mut dyn Observer| {
        let mut progress = |event: Event<'_>| observer.event(&event);
        system::attach(source, &options, &mut progress, stop)
    };
    let mut found = find(&mut source, observer);
    let end = source.regions().last().map_or(0, |region| region.end);
    // Raw memory whose ranges stand one after another. A watcher asks for that by a file's length,
    // because it tries again and again.
    if let (Err(AttachError::NoKernel(error)), AnySource::File(file)) = (&found, &mut source)
        && !watching
        && !error.is_placed()
        && file.find_gaps()?
    {
        let again = find(&mut source, observer);
        let is_better = match &again {
            Err(AttachError::NoKernel(error)) => error.is_placed(),
            _ => true,
        };
        if is_better {
            observer.opened(&source);
            found = again;
        }
    }
    match found {
        Ok(profile) => Ok((source, profile)),
        Err(error) => {
            observer.not_attached(&source, &error);
            let failure = attach_failure(system, &error);
            Err(doubt::add(failure, &error, &mut source, end, system))
        }
    }
}

/// Writes a warning if the transport has lost anything.
pub fn warn_losses(source: &AnySource, system: &System, messages: &Messages) {
    let (messages, name) = (messages.of(system), &system.name);
    source.losses(&mut |losses| messages.warning(format_args!("{name}: {losses}")));
}

/// Writes a message about an event of discovery; most are of level `debug`.
pub fn log_event(event: &Event<'_>, system: &System, messages: &Messages) {
    let (messages, system) = (messages.of(system), &system.name);
    match event {
        Event::OsIdentifierFound { trace, at, release, .. } => {
            messages.debug(format_args!("{system}: {trace} at {at}: Linux {release}"));
        }
        Event::OsIdentifierDiscoveryExtended { to } => {
            messages.info(format_args!("{system}: no kernel in the usual place; {to}"));
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

/// The profiles that are configured for a system.
#[derive(Debug, Default)]
pub struct Profiles {
    pub files: Vec<ProfileFile>,
    /// The files of a folder that can't be used. The others can.
    pub left_out: Vec<ProfileProblem>,
}

/// Why a file of profiles, or a folder of them, can't be used.
#[derive(Debug, thiserror::Error)]
#[error("profile {}: {error}", path.display())]
pub struct ProfileProblem {
    pub path: PathBuf,
    pub error: import::ImportError,
}

impl ProfileProblem {
    /// Whether its content is damaged; otherwise, it can't be read.
    pub fn is_damage(&self) -> bool {
        let import::ImportError::Io(error) = &self.error else { return true };
        matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
    }
}

/// Reads the profile files that are configured for a system.
pub fn profile_files(settings: &SystemSettings) -> Result<Profiles, ProfileProblem> {
    let AutoOr::Given(path) = &settings.os_symbol_path else { return Ok(Profiles::default()) };
    let problem = |path: &Path, error| ProfileProblem { path: path.to_owned(), error };
    if !path.is_dir() {
        let file = read_profile(path).map_err(|error| problem(path, error))?;
        return Ok(Profiles { files: vec![file], left_out: Vec::new() });
    }
    let entries = std::fs::read_dir(path).map_err(|error| problem(path, error.into()))?;
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            let endings = [".json", ".json.xz", ".json.gz", ".json.zst"];
            name.is_some_and(|name| endings.iter().any(|ending| name.ends_with(ending)))
        })
        .collect();
    paths.sort();
    let mut profiles = Profiles::default();
    for path in paths {
        match read_profile(&path) {
            Ok(file) => profiles.files.push(file),
            // One bad file in a folder must not prevent the use of the others.
            Err(error) => profiles.left_out.push(problem(&path, error)),
        }
    }
    Ok(profiles)
}

fn read_profile(path: &Path) -> Result<ProfileFile, import::ImportError> {
    // Opening a pipe would wait for a writer, and a device may do anything.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file").into());
    }
    import::from_kernel(&mut std::fs::File::open(path)?, TypePreference::default())
}

/// The failure for memory without a kernel that can be scanned.
pub fn attach_failure(system: &System, error: &AttachError) -> Failure {
    let exit = match error {
        AttachError::Ended => Exit::Source,
        AttachError::NoKernel(_) | AttachError::Stopped => Exit::NoKernel,
    };
    Failure::new(exit, format!("{}: {error}", system.name))
}
