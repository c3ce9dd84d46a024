//! From a command line to a request: the interface between the arguments and the engine.
//!
//! [`ScanRequest`] and [`WatchRequest`] are made from parsed arguments and the configuration, which
//! is all that they read, or the mistakes are returned.
//!
//! Not for: executing a request (`program`).

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::slice;

use panoptes_records::activities::Preset;
use panoptes_records::people::LineStyle;
use panoptes_records::record::scan::{Kinds, ScanKind};
use panoptes_sinks::output::lines::LineForm;

use crate::cli::{ConfigOptions, Scan, Watch};
use crate::config::{
    Choice, ConfigKey, ConfigLocation, Configuration, LoadedConfiguration, Loader, Mode,
    NOTHING_TO_WATCH, OutputSettings, Problem, Report, System,
};
use crate::dma;
use crate::exit::{Exit, Failure};
use crate::message::{has_status_line, wants_colour};
use crate::sandbox::{Sources, have_dma};
use crate::system_argument::{bare_word, check_name, guests_of, pick, prefer_memory};

/// `panoptes scan`: one snapshot of one system.
#[derive(Clone, Debug)]
pub struct ScanRequest {
    pub system: System,
    /// The kinds to print.
    pub kinds: Kinds,
    pub printed: ScanOutputKind,
    /// Whether anything that could not be read is a failure.
    pub strict: bool,
    /// Whether the summary is one JSON object, and alerts are records on a terminal, too.
    pub json: bool,
    /// Whether alerts are lines for people also in a pipe.
    pub lines: bool,
    pub configuration: Configuration,
    /// Warnings about the configuration.
    pub warnings: Report,
}

/// What `panoptes scan` prints.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ScanOutputKind {
    Objects,
    Alerts,
    /// Counts and timings.
    Summary,
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
    /// What standard output shows, if records go there.
    pub stdout: OutputView,
    /// Warnings about the configuration.
    pub warnings: Report,
    /// The keys of the configuration with their values; of systems only what is given.
    pub keys: Vec<ConfigKey>,
    /// What the command line asks to see.
    view: View,
    /// For reading the configuration again on SIGHUP: [`WatchRequest::reload`].
    loader: Loader,
    /// The systems of the command line.
    named: Vec<OsString>,
}

/// What an output shows, and how.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct OutputView {
    pub preset: Preset,
    pub form: LineForm,
}

/// What the command line of `panoptes watch` asks to see.
#[derive(Clone, Debug, Default)]
struct View {
    /// Whether a person reads standard output.
    is_terminal: bool,
    /// Whether even a person reads JSON.
    json: bool,
    /// Whether a pipe gets what a person would read.
    lines: bool,
    choice: Choice,
}

impl View {
    /// What standard output shows.
    fn shown(&self, output: &OutputSettings, names_system: bool) -> OutputView {
        if !self.is_terminal && !self.lines {
            return OutputView { preset: output.preset(), form: output.form() };
        }
        let style = LineStyle {
            has_colours: wants_colour(self.is_terminal),
            names_system,
            columns: if self.is_terminal { columns() } else { 0 },
            has_status: self.is_terminal && has_status_line(),
        };
        let form = if self.json { output.form() } else { LineForm::ForPeople(style) };
        OutputView { preset: output.preset_on_terminal(), form }
    }
}

/// Columns of the terminal on standard output; 0 if they are not known.
fn columns() -> u16 {
    rustix::termios::tcgetwinsize(std::io::stdout()).map_or(0, |size| size.ws_col)
}

/// Why a request can't be made.
#[derive(Clone, Debug, thiserror::Error)]
#[error(transparent)]
pub enum RequestError {
    /// One message.
    Failure(#[from] Failure),
    /// The mistakes of a configuration.
    Report(#[from] Report),
}

impl ScanRequest {
    pub fn new(scan: Scan) -> Result<Self, RequestError> {
        let mut loaded = loader(Mode::Scan, scan.settings).load_to_use()?;
        loaded.configuration.collect(Preset::Alerts);
        let all = scan.only.is_empty();
        let mut system = pick(&scan.system, &loaded.configuration)?;
        check_name(&scan.system, &loaded.configuration)?;
        loaded.words.extend(bare_word(&scan.system, &loaded.configuration));
        let notes = prefer_memory(slice::from_mut(&mut system), &loaded.words, || {
            guests_of(&loaded.configuration)
        });
        loaded.warnings.problems.extend(notes);
        Ok(Self {
            system,
            kinds: if all { Kinds::OBJECTS } else { scan.only.into_iter().collect() },
            printed: match (scan.alerts, scan.summary) {
                (true, _) => ScanOutputKind::Alerts,
                (false, true) => ScanOutputKind::Summary,
                (false, false) => ScanOutputKind::Objects,
            },
            strict: scan.strict,
            json: scan.json,
            lines: scan.lines,
            configuration: loaded.configuration,
            warnings: loaded.warnings,
        })
    }
}

impl ScanRequest {
    /// A scan for what is mapped in a system.
    pub fn of_executables(system: OsString, config: Option<PathBuf>) -> Result<Self, RequestError> {
        Self::new(Scan {
            system,
            only: vec![ScanKind::Memory],
            alerts: false,
            summary: false,
            json: false,
            lines: false,
            strict: false,
            settings: ConfigOptions { config, ..ConfigOptions::default() },
        })
    }
}

impl WatchRequest {
    pub(crate) fn sources(&self) -> Sources<'_> {
        Sources {
            systems: &self.systems,
            auto_scan: self.auto_scan,
            has_dma: self.has_dma(),
            flows: &self.configuration.flows,
        }
    }

    /// Whether NVIDIA's library may read a system of this request, now or later: `auto_scan` finds
    /// functions only if the library is there at the start.
    pub(crate) fn has_dma(&self) -> bool {
        let library = self.configuration.service.doca_library_path.as_deref();
        have_dma(&self.systems) || self.auto_scan && dma::is_installed(library)
    }

    /// The request of `panoptes watch`; `is_terminal` is whether standard output is a terminal.
    pub fn watch(watch: Watch, is_terminal: bool) -> Result<Self, RequestError> {
        let Watch { systems, json, lines, alerts, severity, activities, mut settings } = watch;
        if alerts {
            settings.overrides.set.push("output.preset=alerts".to_owned());
        }
        let view = View { is_terminal, json, lines, choice: Choice { severity, activities } };
        let request = Self::make(loader(Mode::Watch, settings), systems, view)?;
        // Not when it is read again: a file may have been removed since then.
        for name in &request.named {
            check_name(name, &request.configuration)?;
        }
        Ok(request)
    }

    /// The request of `panoptes run`; `default_config` is the file that the service reads without
    /// `--config`, if it exists.
    pub fn run(settings: ConfigOptions, default_config: &Path) -> Result<Self, RequestError> {
        let mut loader = loader(Mode::Run, settings);
        if loader.file.is_none() && default_config.exists() {
            loader.file = Some(default_config.to_owned());
        }
        Self::make(loader, Vec::new(), View::default())
    }

    /// Whether SIGHUP means that a person's terminal has gone: there is no file to read again.
    pub(crate) fn ends_with_terminal(&self) -> bool {
        self.mode == Mode::Watch && self.loader.file.is_none()
    }

    /// Makes the same request with the current content of the configuration file.
    pub fn reload(&self) -> Result<Self, RequestError> {
        Self::make(self.loader.clone(), self.named.clone(), self.view.clone())
    }

    /// Makes the request that `read`, which was just read, stands for until a restart: of the keys
    /// that decide about others, it has the old values.
    pub fn reload_as_far_as_possible(&self, read: &Self) -> Result<Self, RequestError> {
        let value = |request: &Self, path: &str| {
            let key = request.keys.iter().find(|key| key.path == path);
            key.map(|key| key.value.clone()).unwrap_or_default()
        };
        let mut loader = self.loader.clone();
        for path in ["service.compatibility", "output.stdout"] {
            let old = value(self, path);
            if old != value(read, path) {
                loader.overrides.set.push(format!("{path}={old}"));
            }
        }
        if loader.overrides.set.len() == self.loader.overrides.set.len() {
            return Ok(read.clone());
        }
        let made = Self::make(loader, self.named.clone(), self.view.clone())?;
        Ok(Self { loader: self.loader.clone(), ..made })
    }

    fn make(loader: Loader, named: Vec<OsString>, view: View) -> Result<Self, RequestError> {
        let LoadedConfiguration { mut configuration, mut warnings, keys, mut words } =
            loader.load_to_use()?;
        // A user who names systems wants only those.
        let auto_scan = configuration.auto_scan && named.is_empty();
        let count = if named.is_empty() { configuration.systems.len() } else { named.len() };
        let stdout = view.shown(&configuration.output, auto_scan || count > 1);
        configuration.collect(configuration.output.collected(stdout.preset));
        configuration.choose(&view.choice);
        let mut systems = if named.is_empty() {
            configuration.systems.clone()
        } else {
            pick_all(&named, &configuration)?
        };
        words.extend(named.iter().filter_map(|text| bare_word(text, &configuration)));
        let notes = prefer_memory(&mut systems, &words, || guests_of(&configuration));
        warnings.problems.extend(notes);
        if systems.is_empty() && !auto_scan && !configuration.flows.are_wanted() {
            return Err(nothing_to_watch(&loader).into());
        }
        Ok(Self {
            mode: loader.mode,
            systems,
            auto_scan,
            configuration,
            stdout,
            warnings,
            keys,
            view,
            loader,
            named,
        })
    }
}

pub(crate) fn loader(mode: Mode, settings: ConfigOptions) -> Loader {
    Loader { mode, file: settings.config, overrides: settings.overrides }
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

/// The report for `run` without a system: a mistake of the file if there is one, else of the
/// command line.
fn nothing_to_watch(loader: &Loader) -> Report {
    let place = match loader.file {
        Some(_) => None,
        None => Some(ConfigLocation::Option("panoptes run".into())),
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
    use std::path::PathBuf;
    use std::time::Duration;

    use clap::Parser;
    use panoptes_records::activities::Activity;
    use panoptes_records::record::scan::ScanKind;
    use tempfile::{TempDir, tempdir};

    use super::*;
    use crate::cli::{Arguments, Command};

    fn configured(text: &str) -> (TempDir, PathBuf) {
        let folder = tempdir().unwrap();
        let file = folder.path().join("p.yaml");
        fs::write(&file, text).unwrap();
        (folder, file)
    }

    fn command(line: &str) -> Command {
        Arguments::try_parse_from(line.split_whitespace()).unwrap().command
    }

    fn watch(line: &str) -> WatchRequest {
        match command(line) {
            Command::Watch(watch) => WatchRequest::watch(watch, false).unwrap(),
            other => panic!("{line}: {other:?}"),
        }
    }

    fn watch_on_terminal(line: &str) -> WatchRequest {
        match command(line) {
            Command::Watch(watch) => WatchRequest::watch(watch, true).unwrap(),
            other => panic!("{line}: {other:?}"),
        }
    }

    fn run(line: &str, default_config: &Path) -> Result<WatchRequest, RequestError> {
        match command(line) {
            Command::Run(settings) => WatchRequest::run(settings, default_config),
            other => panic!("{line}: {other:?}"),
        }
    }

    fn exit(refusal: &RequestError) -> Exit {
        match refusal {
            RequestError::Failure(failure) => failure.exit,
            RequestError::Report(report) => report.exit(),
        }
    }

    fn names(request: &WatchRequest) -> Vec<&str> {
        request.systems.iter().map(|system| system.name.as_str()).collect()
    }

    #[test]
    fn kinds_are_printed_in_their_order_and_once() {
        let kinds = |line| match command(line) {
            Command::Scan(scan) => ScanRequest::new(scan).unwrap().kinds.iter().collect::<Vec<_>>(),
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(
            kinds("panoptes scan x --only files,processes --only files"),
            [ScanKind::Processes, ScanKind::Files]
        );
        assert_eq!(kinds("panoptes scan x"), Kinds::OBJECTS.iter().collect::<Vec<_>>());
        assert_eq!(kinds("panoptes scan x --only integrity"), [ScanKind::Integrity]);
    }

    #[test]
    fn a_system_is_named_by_its_file() {
        let request = watch("panoptes watch /a/web.mem file:/b/db.mem /b/web.mem");
        assert_eq!(names(&request), ["web.mem", "db.mem", "file:/b/web.mem"]);
        assert!(request.configuration.output.stdout);
    }

    /// Whether the first system's opened descriptors and new processes are collected.
    fn collected(request: &WatchRequest) -> [bool; 2] {
        let events = &request.systems[0].settings.events;
        [Activity::FileDescriptorOpen, Activity::ProcessCreated].map(|one| events.is_enabled(one))
    }

    #[test]
    fn a_terminal_shows_the_preset_security_unless_another_is_set() {
        let request = watch("panoptes watch /a");
        assert_eq!(request.stdout, OutputView::default());
        assert_eq!(collected(&request), [true, true]);
        let request = watch_on_terminal("panoptes watch /a");
        assert_eq!(request.stdout.preset, Preset::Security);
        assert!(matches!(request.stdout.form, LineForm::ForPeople(style) if !style.names_system));
        assert_eq!(collected(&request), [false, true]);
        let again = request.reload().unwrap();
        assert_eq!((again.stdout, collected(&again)), (request.stdout, [false, true]));
        let request = watch_on_terminal("panoptes watch /a /b --set output.preset=everything");
        assert_eq!(request.stdout.preset, Preset::Everything);
        assert!(matches!(request.stdout.form, LineForm::ForPeople(style) if style.names_system));
        assert_eq!(collected(&request), [true, true]);
    }

    #[test]
    fn a_pipe_gets_lines_for_people_on_request() {
        let request = watch("panoptes watch /a --lines");
        assert_eq!(request.stdout.preset, Preset::Security);
        let LineForm::ForPeople(style) = request.stdout.form else {
            panic!("{:?}", request.stdout)
        };
        assert!(!style.has_colours && !style.has_status && style.columns == 0);
        let line = "panoptes watch /a --lines --json";
        assert!(Arguments::try_parse_from(line.split_whitespace()).is_err());
    }

    #[test]
    fn a_log_beside_a_terminal_is_complete() {
        let request = watch_on_terminal("panoptes watch /a --json --log-folder /tmp/log");
        assert_eq!(request.stdout, OutputView { preset: Preset::Security, form: LineForm::Full });
        assert_eq!(collected(&request), [true, true]);
    }

    #[test]
    fn watch_reports_what_its_options_name() {
        let request = watch_on_terminal("panoptes watch /a --activities file_descriptor_open");
        assert_eq!(collected(&request), [true, false]);
        assert_eq!(collected(&watch("panoptes watch /a --severity LOW")), [false, false]);
        let request = watch("panoptes watch /a --set output.preset=everything --alerts");
        assert_eq!(request.stdout.preset, Preset::Alerts);
        assert_eq!(collected(&request), [false, false]);
        assert_eq!(collected(&request.reload().unwrap()), [false, false]);
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
        // One by its name, one by its address, and one that is not configured.
        let request = watch(&format!("{line} db /a/web.mem /a/other"));
        assert_eq!(names(&request), ["db", "web", "other"]);
        let limits = request.systems.iter().map(|system| system.settings.limits.processes);
        assert_eq!(limits.collect::<Vec<_>>(), [5, 7, 5]);
    }

    #[test]
    fn a_name_that_is_not_configured_is_answered_with_those_that_are() {
        let (_folder, file) = configured("systems: {web: {system: /a}, db: {system: /b}}");
        let file = file.display();
        let expected = "`wbe` is neither a configured system (web, db) nor a file; for a file that \
                        does not exist yet write ./wbe";
        let check = |refusal: RequestError| {
            assert_eq!((exit(&refusal), &*refusal.to_string()), (Exit::Source, expected));
        };
        match command(&format!("panoptes scan wbe --config {file}")) {
            Command::Scan(scan) => check(ScanRequest::new(scan).unwrap_err()),
            other => panic!("{other:?}"),
        }
        match command(&format!("panoptes watch db wbe --config {file}")) {
            Command::Watch(named) => check(WatchRequest::watch(named, false).unwrap_err()),
            other => panic!("{other:?}"),
        }
        // A path, an existing file, and a name where none is configured.
        let line = format!("panoptes watch ./wbe file:wbe2 Cargo.toml --config {file}");
        assert_eq!(names(&watch(&line)), ["wbe", "wbe2", "Cargo.toml"]);
        assert_eq!(names(&watch("panoptes watch wbe")), ["wbe"]);
    }

    #[test]
    fn many_configured_names_are_cut() {
        let systems: Vec<String> = (0..17).map(|at| format!("s{at}: {{system: /{at}}}")).collect();
        let (_folder, file) = configured(&format!("systems: {{{}}}", systems.join(", ")));
        let refusal = match command(&format!("panoptes watch wbe --config {}", file.display())) {
            Command::Watch(named) => WatchRequest::watch(named, false).unwrap_err(),
            other => panic!("{other:?}"),
        };
        assert!(refusal.to_string().contains("s14, s15, …) nor"), "{refusal}");
    }

    #[test]
    fn the_service_has_a_default_configuration() {
        let (_folder, file) = configured("systems: {web: {system: /a}}");
        let request = run("panoptes run", &file).unwrap();
        assert_eq!((request.mode, names(&request)), (Mode::Run, vec!["web"]));
        // Without a configuration, the service watches the guests that it finds.
        let request = run("panoptes run", Path::new("/missing")).unwrap();
        assert!(request.systems.is_empty() && request.auto_scan);
        let refusal = run("panoptes run --set auto_scan=false", Path::new("/missing")).unwrap_err();
        assert_eq!(exit(&refusal), Exit::Usage);
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
        assert_eq!(exit(&again.reload().unwrap_err()), Exit::Configuration);
    }
}
