//! From a command line to a request: the interface between the arguments and the engine.
//!
//! [`resolve`] turns parsed [`Arguments`] into a checked and typed [`Request`], or returns the
//! mistakes. It reads the configuration and nothing else.
//!
//! Not for: executing a request (`program`).

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap_complete::Shell;
use panoptes_reference::build::Options;
use panoptes_reference::digest::PageHashes;
use panoptes_sinks::record::scan::{Kind, Kinds};

use crate::cli::{self, Arguments, Command, ProfileCommand, SbomCommand, Settings};
use crate::config::{
    Configuration, Loader, Mode, NOTHING_TO_WATCH, Overrides, Place, Problem, Report, Service,
    System, SystemAddress, printable,
};
use crate::exit::{Exit, Failure};

/// A checked request, one variant for each command.
#[derive(Clone, Debug)]
pub enum Request {
    Scan(Box<ScanRequest>),
    Watch(Box<WatchRequest>),
    Systems {
        json: bool,
        /// The users whose guests may be read, and the path of DOCA.
        service: Box<Service>,
    },
    ProfileBuild(ProfileBuildRequest),
    ProfileShow(ProfileShowRequest),
    ProfileVerify(ProfileVerifyRequest),
    SbomBuild(SbomBuildRequest),
    Check {
        file: PathBuf,
        json: bool,
    },
    Schema(Schema),
    Completions(Shell),
    /// The manual page of a command, or of the program if the list is empty.
    Man(Vec<String>),
}

/// The kinds of schema.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Schema {
    Records,
    /// The lines of `panoptes scan`.
    Scan,
    Sbom,
}

/// `panoptes scan`: one snapshot of one system.
#[derive(Clone, Debug)]
pub struct ScanRequest {
    pub system: System,
    /// The kinds to print.
    pub kinds: Kinds,
    /// `Some`: counts and timings are printed instead of objects.
    pub summary: Option<SummaryFormat>,
    pub configuration: Configuration,
    /// Warnings about the configuration.
    pub warnings: Report,
}

/// The format of a summary.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SummaryFormat {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

/// `panoptes watch` and `panoptes run`: watching systems until stopped.
#[derive(Clone, Debug)]
pub struct WatchRequest {
    /// The service (`run`) or a person (`watch`).
    pub mode: Mode,
    /// The systems to watch, with unique names; empty only if `auto_scan` is on.
    pub systems: Vec<System>,
    /// Whether to find and watch systems that are not named, too.
    pub auto_scan: bool,
    pub configuration: Configuration,
    /// Warnings about the configuration.
    pub warnings: Report,
    /// For reading the configuration again on SIGHUP: [`WatchRequest::reload`].
    source: Source,
}

/// `panoptes profile build`.
#[derive(Clone, Debug)]
pub struct ProfileBuildRequest {
    /// The kernel.
    pub source: ProfileSource,
    /// Whether DWARF is read even if there is BTF.
    pub dwarf: bool,
    /// `None` is standard output.
    pub output: Option<PathBuf>,
}

/// `panoptes sbom build`.
#[derive(Clone, Debug)]
pub struct SbomBuildRequest {
    pub source: PathBuf,
    pub options: Options,
    /// `None` is standard output.
    pub output: Option<PathBuf>,
    /// Whether only errors are printed.
    pub quiet: bool,
}

/// `panoptes profile show`.
#[derive(Clone, Debug)]
pub struct ProfileShowRequest {
    /// The profile, or its source; `None` lists the built-in profiles.
    pub source: Option<ProfileSource>,
    pub json: bool,
}

/// `panoptes profile verify`.
#[derive(Clone, Debug)]
pub struct ProfileVerifyRequest {
    /// The profile, or its source.
    pub profile: ProfileSource,
    /// The system whose memory is checked.
    pub system: SystemAddress,
    pub json: bool,
}

/// What a profile is made from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ProfileSource {
    /// The kernel of this machine, from the files in which it describes itself.
    RunningKernel,
    /// The memory of a machine that runs the kernel, or a file of the kernel.
    System(SystemAddress),
}

/// Why a request can't be made.
#[derive(Clone, Debug)]
pub enum Refusal {
    /// One message.
    Failure(Failure),
    /// The mistakes of a configuration.
    Report(Report),
}

impl Refusal {
    /// The exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Failure(failure) => failure.exit,
            Self::Report(report) => report.exit(),
        }
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<Report> for Refusal {
    fn from(report: Report) -> Self {
        Self::Report(report)
    }
}

/// The source of a configuration, and the systems of the command line.
#[derive(Clone, Debug)]
struct Source {
    loader: Loader,
    systems: Vec<OsString>,
}

impl WatchRequest {
    /// Makes the same request with the current content of the configuration file.
    pub fn reload(&self) -> Result<Self, Refusal> {
        Self::make(self.source.clone())
    }

    fn make(source: Source) -> Result<Self, Refusal> {
        let loaded = source.loader.load()?;
        let systems = if source.systems.is_empty() {
            loaded.configuration.systems.clone()
        } else {
            pick_all(&source.systems, &loaded.configuration)?
        };
        // A user who names systems wants only those.
        let auto_scan = loaded.configuration.auto_scan && source.systems.is_empty();
        if systems.is_empty() && !auto_scan {
            return Err(nothing_to_watch(&source.loader).into());
        }
        Ok(Self {
            mode: source.loader.mode,
            systems,
            auto_scan,
            configuration: loaded.configuration,
            warnings: loaded.warnings,
            source,
        })
    }
}

/// Turns a command line into a request; `default_config` is the file that the service reads
/// without `--config`, if it exists.
pub fn resolve(arguments: Arguments, default_config: &Path) -> Result<Request, Refusal> {
    match arguments.command {
        Command::Scan(scan) => Ok(Request::Scan(Box::new(scan_request(scan)?))),
        Command::Watch(watch) => {
            let loader = loader(Mode::Watch, watch.settings);
            let source = Source { loader, systems: watch.systems };
            Ok(Request::Watch(Box::new(WatchRequest::make(source)?)))
        }
        Command::Run(run) => {
            let mut loader = loader(Mode::Run, run.settings);
            if loader.file.is_none() && default_config.exists() {
                loader.file = Some(default_config.to_owned());
            }
            let source = Source { loader, systems: Vec::new() };
            Ok(Request::Watch(Box::new(WatchRequest::make(source)?)))
        }
        Command::Profile(profile) => Ok(profile_request(profile.command)?),
        Command::Systems(systems) => {
            let settings = Settings { config: systems.config, ..Settings::default() };
            let loaded = loader(Mode::Scan, settings).load()?;
            let service = Box::new(loaded.configuration.service);
            Ok(Request::Systems { json: systems.json, service })
        }
        Command::Check(check) => Ok(Request::Check { file: check.file, json: check.json }),
        Command::Sbom(cli::Sbom { command: SbomCommand::Build(build) }) => {
            Ok(Request::SbomBuild(sbom_request(build)))
        }
        Command::Schema(schema) => Ok(Request::Schema(match (schema.scan, schema.sbom) {
            (true, _) => Schema::Scan,
            (false, true) => Schema::Sbom,
            (false, false) => Schema::Records,
        })),
        Command::Completions(completions) => Ok(Request::Completions(completions.shell)),
        Command::Man(man) => Ok(Request::Man(man.command)),
    }
}

fn scan_request(scan: cli::Scan) -> Result<ScanRequest, Refusal> {
    let summary = match (scan.summary, scan.json) {
        (false, _) => None,
        (true, false) => Some(SummaryFormat::Text),
        (true, true) => Some(SummaryFormat::Json),
    };
    let loaded = loader(Mode::Scan, scan.settings).load()?;
    Ok(ScanRequest {
        system: pick(&scan.system, &loaded.configuration)?,
        kinds: wanted(&scan.only),
        summary,
        configuration: loaded.configuration,
        warnings: loaded.warnings,
    })
}

fn profile_request(command: ProfileCommand) -> Result<Request, Failure> {
    Ok(match command {
        ProfileCommand::Build(build) => Request::ProfileBuild(ProfileBuildRequest {
            source: profile_source(&build.source)?,
            dwarf: build.dwarf,
            output: build.output,
        }),
        ProfileCommand::Show(show) => Request::ProfileShow(ProfileShowRequest {
            source: show.source.as_deref().map(profile_source).transpose()?,
            json: show.json,
        }),
        ProfileCommand::Verify(verify) => Request::ProfileVerify(ProfileVerifyRequest {
            profile: profile_source(&verify.profile)?,
            system: address(&verify.system)?,
            json: verify.json,
        }),
    })
}

fn sbom_request(build: cli::SbomBuild) -> SbomBuildRequest {
    SbomBuildRequest {
        source: build.source,
        options: Options {
            name: build.name,
            containers: build.containers,
            image: build.image,
            platform: build.platform,
            page_hashes: match build.page_hashes {
                cli::PageHashes::Executables => PageHashes::Executables,
                cli::PageHashes::All => PageHashes::All,
                cli::PageHashes::None => PageHashes::None,
            },
            excluded: build.excluded,
            trust_dpkg: build.trust_dpkg,
        },
        output: build.output,
        quiet: build.quiet,
    }
}

fn loader(mode: Mode, settings: Settings) -> Loader {
    Loader {
        mode,
        file: settings.config,
        overrides: Overrides {
            set: settings.set,
            limits: settings.limits,
            interval: settings.interval,
            cores: settings.cores,
            log_folder: settings.log_folder,
        },
    }
}

/// The kinds to print: those that are named, or all.
fn wanted(only: &[Kind]) -> Kinds {
    if only.is_empty() { Kinds::ALL } else { only.iter().copied().collect() }
}

fn pick_all(texts: &[OsString], configuration: &Configuration) -> Result<Vec<System>, Failure> {
    let mut systems: Vec<System> = Vec::with_capacity(texts.len());
    for text in texts {
        let mut system = pick(text, configuration)?;
        if systems.iter().any(|other| other.address == system.address) {
            let message = format!("{} is named twice", system.address);
            return Err(Failure::new(Exit::Usage, message));
        }
        // Two files in different folders can have the same name.
        if systems.iter().any(|other| other.name == system.name) {
            system.name = system.address.to_string();
        }
        systems.push(system);
    }
    Ok(systems)
}

/// The system that an argument names: a configured one with its settings, by name or address, or
/// else the system at that address, with the settings of `default`.
fn pick(text: &OsStr, configuration: &Configuration) -> Result<System, Failure> {
    if let Some(system) =
        configuration.systems.iter().find(|system| OsStr::new(&system.name) == text)
    {
        return Ok(system.clone());
    }
    let address = address(text)?;
    let configured = configuration.systems.iter().find(|system| system.address == address);
    Ok(configured.cloned().unwrap_or_else(|| System {
        name: address.default_name(),
        address,
        settings: configuration.default.clone(),
    }))
}

fn address(text: &OsStr) -> Result<SystemAddress, Failure> {
    SystemAddress::from_argument(text).map_err(|why| {
        let message = format!("`{}` {why}", printable(&text.to_string_lossy()));
        Failure::new(Exit::Usage, message)
    })
}

/// The source of a profile. `host:` needs no memory: the kernel of this machine describes itself.
fn profile_source(text: &OsStr) -> Result<ProfileSource, Failure> {
    if matches!(SystemAddress::from_argument(text), Ok(SystemAddress::Host)) {
        return Ok(ProfileSource::RunningKernel);
    }
    address(text).map(ProfileSource::System)
}

/// The report for `run` without a system: a mistake of the file if there is one, else of the
/// command line.
fn nothing_to_watch(loader: &Loader) -> Report {
    let place = match loader.file {
        Some(_) => None,
        None => Some(Place::Option("panoptes run".into())),
    };
    Report {
        file: loader.file.clone(),
        problems: vec![Problem::error(place, NOTHING_TO_WATCH)],
        denied: false,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use clap::Parser;
    use tempfile::{TempDir, tempdir};

    use super::*;

    fn configured(text: &str) -> (TempDir, PathBuf) {
        let folder = tempdir().unwrap();
        let file = folder.path().join("p.yaml");
        fs::write(&file, text).unwrap();
        (folder, file)
    }

    fn asked(line: &str, default_config: &Path) -> Result<Request, Refusal> {
        let arguments = Arguments::try_parse_from(line.split_whitespace()).unwrap();
        resolve(arguments, default_config)
    }

    fn watch(line: &str) -> WatchRequest {
        match asked(line, Path::new("/missing")) {
            Ok(Request::Watch(request)) => *request,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn names(request: &WatchRequest) -> Vec<&str> {
        request.systems.iter().map(|system| system.name.as_str()).collect()
    }

    #[test]
    fn kinds_are_printed_in_their_order_and_once() {
        let kinds = |line| match asked(line, Path::new("/missing")) {
            Ok(Request::Scan(request)) => request.kinds.iter().collect::<Vec<_>>(),
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(
            kinds("panoptes scan x --only files,processes --only files"),
            [Kind::Processes, Kind::Files]
        );
        assert_eq!(kinds("panoptes scan x"), Kind::ALL);
    }

    #[test]
    fn a_system_is_named_by_its_file() {
        let request = watch("panoptes watch /a/web.mem file:/b/db.mem /b/web.mem");
        assert_eq!(names(&request), ["web.mem", "db.mem", "file:/b/web.mem"]);
        assert!(request.configuration.output.stdout);
    }

    #[test]
    fn a_configured_system_keeps_its_settings() {
        let (_folder, file) = configured(
            "default: {limits: {processes: 5}}\n\
             systems:\n\
             \x20 web: {system: /a/web.mem, limits: {processes: 7}}\n\
             \x20 db: {system: /a/db.mem}\n",
        );
        let line = format!("panoptes watch --config {}", file.display());
        assert_eq!(names(&watch(&line)), ["web", "db"]);
        // By its name, by its address, and one that is not configured.
        let request = watch(&format!("{line} db /a/web.mem /a/other"));
        assert_eq!(names(&request), ["db", "web", "other"]);
        let limits = request.systems.iter().map(|system| system.settings.limits.processes);
        assert_eq!(limits.collect::<Vec<_>>(), [5, 7, 5]);
    }

    #[test]
    fn the_service_has_a_default_configuration() {
        let (_folder, file) = configured("systems: {web: {system: /a}}");
        let Ok(Request::Watch(request)) = asked("panoptes run", &file) else {
            panic!("it is good")
        };
        assert_eq!((request.mode, names(&request)), (Mode::Run, vec!["web"]));
        // Without a configuration, the service watches the guests that it finds.
        let Ok(Request::Watch(request)) = asked("panoptes run", Path::new("/missing")) else {
            panic!("it is good")
        };
        assert!(request.systems.is_empty() && request.auto_scan);
        let refusal =
            asked("panoptes run --set auto_scan=false", Path::new("/missing")).unwrap_err();
        assert_eq!(refusal.exit(), Exit::Usage);
    }

    #[test]
    fn a_configuration_is_read_again_and_a_bad_one_refused() {
        let (_folder, file) = configured("systems: {web: {system: /a}}");
        let request = watch(&format!("panoptes watch --config {}", file.display()));
        fs::write(&file, "systems: {db: {system: /b}}\nservice: {scan_interval: 1s}\n").unwrap();
        let again = request.reload().unwrap();
        assert_eq!(names(&again), ["db"]);
        assert_eq!(again.configuration.service.scan_interval, Duration::from_secs(1));
        fs::write(&file, "auto_scan: false").unwrap();
        assert_eq!(again.reload().unwrap_err().exit(), Exit::Configuration);
    }
}
