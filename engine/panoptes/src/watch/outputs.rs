//! Opens the writer's outputs from the configuration's `output`.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use panoptes_records::activities::Preset;
use panoptes_records::filter::{DEBUG_RECEIVER, Filter, FlowRecords, RECEIVERS_MAX};
use panoptes_records::people::LineStyle;
use panoptes_sinks::output::file::{FileOptions, FileOutput};
use panoptes_sinks::output::folder::FolderLock;
use panoptes_sinks::output::lines::LineForm;
use panoptes_sinks::output::stream::StreamOutput;
use panoptes_sinks::output::transport::TransportSettings;
use panoptes_sinks::output::{IsolatedOutput, Output, OutputCounters, OutputKind};
use rustix::fs::{Access, AtFlags, CWD, FileType, accessat, fstat};

use super::telemetry;
use crate::boot_ids::folder_of;
use crate::config::{
    Configuration, LogLevel, OutputSettings as OutputConfiguration, Sync, Telemetry,
};
use crate::exit::{Exit, Failure};
use crate::message::Messages;
use crate::request::OutputView;
use crate::sandbox::Role;

/// The alerts once more, in a file that events do not rotate. Consumers of another product do not
/// look for this name, so they get each alert once.
const ALERTS: &str = "alerts.jsonl";

/// The records of the sensor of flows. They are many: events and alerts must not rotate with them.
const FLOWS: &str = "flows.jsonl";

/// The name of standard output.
const STDOUT: &str = "standard output";

/// The lines about all records, in the folder of the debug log.
const DEBUG_EVENTS: &str = "panoptes-events.log";

/// An output's name and counters, which can be read while the writer owns the output itself.
#[derive(Clone, Debug)]
pub(super) struct WatchedOutput {
    /// `standard output`, the file's path, or the receiver's address.
    pub(super) name: String,
    pub(super) counters: Arc<OutputCounters>,
    pub(super) recipe: Recipe,
}

/// How an output is opened, at first and after it has panicked.
#[derive(Clone, Debug)]
pub(super) enum Recipe {
    Stdout(OutputView),
    File {
        path: PathBuf,
        options: FileOptions,
        /// That of its folder. `None`: the file has one of its own while it is open.
        lock: Option<Arc<FolderLock>>,
    },
    /// The receiver of this number.
    Receiver {
        number: usize,
        receiver: Box<Telemetry>,
        /// Digest of the files that the receiver's settings name.
        digest: u64,
        state_dir: Option<PathBuf>,
    },
}

impl Recipe {
    /// Why it can't be opened.
    fn failure(&self, error: &io::Error) -> Failure {
        match self {
            Self::Stdout(_) => Failure::new(Exit::Output, format!("{STDOUT}: {error}")),
            Self::File { path, .. } => Failure::not_written(path, error),
            Self::Receiver { receiver, .. } => {
                let name = telemetry::name_of(receiver);
                Failure::io(error, Exit::Output, format_args!("output.telemetry: {name}"))
            }
        }
    }

    /// Whether the other one opens the same output with the same settings.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Stdout(left), Self::Stdout(right)) => left == right,
            (
                Self::File { path, options, .. },
                Self::File { path: other_path, options: other_options, .. },
            ) => path == other_path && options == other_options,
            (
                Self::Receiver { number, receiver, digest, .. },
                Self::Receiver { number: other_number, receiver: other, digest: others, .. },
            ) => number == other_number && receiver == other && digest == others,
            _ => false,
        }
    }

    /// Whether the next one takes its place: both write to the same file or receiver, or are the
    /// log of the same system.
    pub(super) fn is_replaced_by(&self, next: &Self) -> bool {
        match (self, next) {
            (Self::Stdout(_), Self::Stdout(_)) => true,
            (Self::File { path, .. }, Self::File { path: next_path, .. }) => {
                let (system, next) = (self.filter().system, next.filter().system);
                system == next && (system.is_some() || path == next_path)
            }
            (
                Self::Receiver { number, receiver, .. },
                Self::Receiver { number: next_number, receiver: next, .. },
            ) => number == next_number && telemetry::name_of(receiver) == telemetry::name_of(next),
            _ => false,
        }
    }

    /// The folder of what waits on the disk for a receiver.
    pub(super) fn backlog_folder(&self) -> Option<PathBuf> {
        match self {
            Self::Receiver { receiver, state_dir, .. } => {
                telemetry::folder_of(receiver, state_dir.as_deref())
            }
            Self::Stdout(_) | Self::File { .. } => None,
        }
    }

    /// Whether it is the log of a single system.
    pub(super) fn is_of_system(&self) -> bool {
        self.filter().system.is_some()
    }

    /// Whether it is a file.
    pub(super) const fn is_file(&self) -> bool {
        matches!(self, Self::File { .. })
    }

    /// Checks what can be checked before it is opened: the files of a receiver's settings, and
    /// whether a log's folder can be written.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let checked = match self {
            Self::Receiver { receiver, state_dir, .. } => {
                telemetry::check(receiver, state_dir.as_deref())
            }
            Self::File { path, .. } => match path.parent() {
                // One that is missing is made anew.
                Some(folder) if folder.exists() => {
                    let rights = Access::WRITE_OK | Access::EXEC_OK;
                    accessat(CWD, folder, rights, AtFlags::EACCESS).map_err(Into::into)
                }
                _ => Ok(()),
            },
            Self::Stdout(_) => Ok(()),
        };
        checked.map_err(|error| self.failure(&error))
    }

    /// Which records the output takes.
    pub(super) fn filter(&self) -> Filter {
        match self {
            Self::Stdout(shown) => {
                let is_whole = shown.preset == Preset::Everything
                    && !matches!(shown.form, LineForm::ForPeople(_));
                let flows = if is_whole { FlowRecords::With } else { FlowRecords::Without };
                Filter { flows, ..Filter::of_preset(shown.preset) }
            }
            Self::File { options, .. } => options.filter,
            Self::Receiver { number, receiver, .. } => receiver.choice.filter(*number),
        }
    }

    /// Whether it may wait for a disk.
    fn may_wait(&self, stdout: impl AsFd) -> bool {
        let is_file = |file| FileType::from_raw_mode(file) == FileType::RegularFile;
        match self {
            Self::Stdout(_) => fstat(stdout).is_ok_and(|stat| is_file(stat.st_mode)),
            Self::File { .. } => true,
            Self::Receiver { .. } => self.backlog_folder().is_some(),
        }
    }

    /// Gives an output that may wait for a disk a thread of its own.
    fn isolate(&self, output: Box<dyn Output>, messages: &Messages) -> io::Result<Box<dyn Output>> {
        if !self.may_wait(io::stdout()) {
            return Ok(output);
        }
        let messages = messages.clone();
        let isolated = IsolatedOutput::start(output, move || Role::Writer.enter(&messages))?;
        Ok(Box::new(isolated))
    }

    /// Opens it, with a thread of its own if it may wait for a disk.
    pub(super) fn open_isolated(&self, messages: &Messages) -> io::Result<Box<dyn Output>> {
        self.open().and_then(|output| self.isolate(output, messages))
    }

    pub(super) fn open(&self) -> io::Result<Box<dyn Output>> {
        Ok(match self {
            Self::Stdout(shown) => {
                let file = io::stdout().as_fd().try_clone_to_owned()?;
                let output = StreamOutput::new(File::from(file), TransportSettings::default());
                Box::new(output.with_form(shown.form).with_filter(self.filter()))
            }
            Self::File { path, options, lock } => {
                let lock = match lock {
                    Some(lock) => Arc::clone(lock),
                    None => FolderLock::take_file(path)?,
                };
                Box::new(FileOutput::open(path, *options)?.with_lock(&lock))
            }
            Self::Receiver { number, receiver, state_dir, .. } => {
                telemetry::open(*number, receiver, state_dir.as_deref())?
            }
        })
    }
}

/// An output that the configuration wants.
#[derive(Clone, Debug)]
pub(super) struct ConfiguredOutput {
    pub(super) name: String,
    pub(super) recipe: Recipe,
}

impl ConfiguredOutput {
    pub(super) fn file(path: PathBuf, options: FileOptions, lock: Option<Arc<FolderLock>>) -> Self {
        Self { name: path.display().to_string(), recipe: Recipe::File { path, options, lock } }
    }

    /// Opens it.
    ///
    /// # Errors
    ///
    /// The message names the output.
    pub(super) fn open(
        self,
        messages: &Messages,
    ) -> Result<(Box<dyn Output>, WatchedOutput), Failure> {
        let Self { name, recipe } = self;
        let output = recipe.open_isolated(messages).map_err(|error| recipe.failure(&error))?;
        match output.kind() {
            OutputKind::IoUring => messages.debug(format_args!("{name}: uses io_uring")),
            OutputKind::Plain => {
                messages.info(format_args!("{name}: io_uring is not available, uses write(2)"));
            }
        }
        let counters = Arc::clone(output.counters());
        Ok((output, WatchedOutput { name, counters, recipe }))
    }
}

/// The folder of logs, and what keeps other programs out of it.
#[derive(Clone, Debug)]
pub(super) struct LogFolder {
    pub(super) path: PathBuf,
    pub(super) lock: Arc<FolderLock>,
}

impl LogFolder {
    /// Takes the configured folder, if there is one; `present` are those in use.
    pub(super) fn take(
        output: &OutputConfiguration,
        present: &[Self],
    ) -> Result<Option<Self>, Failure> {
        let Some(path) = &output.log_folder else { return Ok(None) };
        if let Some(present) = present.iter().find(|present| present.path == *path) {
            return Ok(Some(present.clone()));
        }
        let lock = FolderLock::take(path).map_err(|error| {
            let failure = Failure::not_written(path, &error);
            // That another program writes there explains itself.
            let is_taken = error.kind() == io::ErrorKind::ResourceBusy;
            if is_taken { failure } else { failure.about("output.log_folder") }
        })?;
        Ok(Some(Self { path: path.clone(), lock }))
    }
}

/// The receivers that are in use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Receivers<'a> {
    /// All outputs.
    pub(super) present: &'a [ConfiguredOutput],
    /// The number that was given last.
    pub(super) last: usize,
}

impl Receivers<'_> {
    /// The first one gets 0.
    pub(super) const NONE: Self = Self { present: &[], last: RECEIVERS_MAX - 1 };
}

/// All configured outputs but the logs of single systems. `stdout` is what standard output shows,
/// and `folder` that of logs.
///
/// # Errors
///
/// More receivers have changed at once than there are numbers for.
pub(super) fn wanted(
    configuration: &Configuration,
    stdout: OutputView,
    folder: Option<&LogFolder>,
    receivers: &Receivers<'_>,
) -> Result<Vec<ConfiguredOutput>, Failure> {
    let Configuration { output, service, .. } = configuration;
    let mut wanted = Vec::new();
    if output.stdout {
        wanted.push(ConfiguredOutput { name: STDOUT.to_owned(), recipe: Recipe::Stdout(stdout) });
    }
    if let Some(LogFolder { path, lock }) = folder {
        for (name, alerts_only) in [(service.compatibility.event_log(), false), (ALERTS, true)] {
            let options = options(output);
            let filter = Filter { alerts_only, ..options.filter };
            let options = FileOptions { filter, ..options };
            wanted.push(ConfiguredOutput::file(path.join(name), options, Some(Arc::clone(lock))));
        }
        if configuration.flows.are_wanted() {
            let filter = Filter { flows: FlowRecords::Alone, ..Filter::ALL };
            let options = FileOptions { filter, form: LineForm::Full, ..options(output) };
            wanted.push(ConfiguredOutput::file(path.join(FLOWS), options, Some(Arc::clone(lock))));
        }
    }
    if let Some(folder) = events_folder(configuration) {
        let form = LineForm::ForPeople(LineStyle { names_system: true, ..LineStyle::default() });
        let filter = Filter { receiver: Some(DEBUG_RECEIVER), ..Filter::ALL };
        let options = FileOptions { filter, form, sync_ns: None, ..options(output) };
        wanted.push(ConfiguredOutput::file(folder.join(DEBUG_EVENTS), options, None));
    }
    let state_dir = folder_of(service);
    let numbers = numbers(&output.telemetry, receivers).ok_or_else(|| {
        let message = "too many receivers change at once: restart the service";
        Failure::new(Exit::Configuration, message)
    })?;
    for (number, receiver) in numbers.into_iter().zip(&output.telemetry) {
        let (receiver, state_dir) = (Box::new(receiver.clone()), state_dir.clone());
        let (name, digest) = (telemetry::name_of(&receiver), telemetry::digest_of_files(&receiver));
        let recipe = Recipe::Receiver { number, receiver, digest, state_dir };
        wanted.push(ConfiguredOutput { name, recipe });
    }
    Ok(wanted)
}

/// The numbers of receivers. Records that are on their way are marked by them, so a receiver that
/// is in use keeps its number, and a new one gets that which was given longest ago.
fn numbers(receivers: &[Telemetry], known: &Receivers<'_>) -> Option<Vec<usize>> {
    let present: Vec<(usize, &Telemetry)> = known
        .present
        .iter()
        .filter_map(|output| match &output.recipe {
            Recipe::Receiver { number, receiver, .. } => Some((*number, &**receiver)),
            _ => None,
        })
        .collect();
    let mut numbers = vec![None; receivers.len()];
    let are_same: [fn(&Telemetry, &Telemetry) -> bool; 2] = [
        |left, right| left == right,
        |left, right| telemetry::name_of(left) == telemetry::name_of(right),
    ];
    for is_same in are_same {
        for (at, receiver) in receivers.iter().enumerate() {
            if numbers[at].is_none() {
                let mut free =
                    present.iter().filter(|(number, _)| !numbers.contains(&Some(*number)));
                numbers[at] =
                    free.find(|(_, one)| is_same(one, receiver)).map(|(number, _)| *number);
            }
        }
    }
    let after_last = (1..=RECEIVERS_MAX).map(|step| (known.last + step) % RECEIVERS_MAX);
    let mut unused = after_last.filter(|number| present.iter().all(|one| one.0 != *number));
    numbers.into_iter().map(|number| number.or_else(|| unused.next())).collect()
}

/// The number that was given last when these outputs follow those.
pub(super) fn last_number(wanted: &[ConfiguredOutput], known: &Receivers<'_>) -> usize {
    let number = |output: &ConfiguredOutput| match output.recipe {
        Recipe::Receiver { number, .. } => Some(number),
        _ => None,
    };
    let is_present = |of_it: &usize| known.present.iter().any(|one| number(one) == Some(*of_it));
    let new = wanted.iter().filter_map(number).filter(|of_it| !is_present(of_it));
    let steps = |of_it: &usize| (of_it + RECEIVERS_MAX - 1 - known.last) % RECEIVERS_MAX;
    new.max_by_key(steps).unwrap_or(known.last)
}

/// Where the debug log has a line about each record of systems whose level is DEBUG or higher, and
/// of the service (§8.2 of the guide of DOCA Argus). `None` without such a level.
fn events_folder(configuration: &Configuration) -> Option<&Path> {
    let Configuration { service, default, systems, .. } = configuration;
    let of_systems = systems.iter().map(|system| &system.settings).chain([default]);
    let mut levels = of_systems.filter_map(|settings| settings.log_level);
    let is_wanted = |level| level >= LogLevel::Debug;
    let is_any = is_wanted(service.log_level) || levels.any(is_wanted);
    service.debug_log_folder.as_deref().filter(|_| is_any)
}

/// How files are kept.
pub(super) fn options(configuration: &OutputConfiguration) -> FileOptions {
    let (rotate_size, max_files) = configuration.rotation();
    FileOptions {
        rotate_size,
        max_files,
        sync_ns: match configuration.sync {
            Sync::Never => None,
            Sync::Every(time) => Some(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)),
            Sync::Always => Some(0),
        },
        // Another output may have a larger preset.
        filter: Filter::of_preset(configuration.preset()),
        form: configuration.form(),
        ..FileOptions::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AutoOr, Mode, Overrides};

    #[test]
    fn logs_have_their_own_preset_whatever_else_is_collected() {
        let folder = tempfile::tempdir().unwrap();
        let output = OutputConfiguration {
            log_folder: Some(folder.path().to_owned()),
            preset: AutoOr::Given(Preset::Security),
            ..OutputConfiguration::default()
        };
        let configuration = Configuration { output, ..Configuration::defaults(Mode::Run) };
        let messages = Messages::on_stderr(LogLevel::Disable);
        let folder = LogFolder::take(&configuration.output, &[]).unwrap();
        let wanted =
            wanted(&configuration, OutputView::default(), folder.as_ref(), &Receivers::NONE)
                .unwrap();
        let opened = wanted.into_iter().map(|output| output.open(&messages).unwrap().0);
        let filters: Vec<Filter> = opened.map(|output| output.filter()).collect();
        let events = Filter::of_preset(Preset::Security);
        assert_eq!(filters, [events, Filter { alerts_only: true, ..events }]);
    }

    #[test]
    fn standard_output_may_wait_for_a_disk_if_it_is_a_file() {
        let stdout = Recipe::Stdout(OutputView::default());
        assert!(stdout.may_wait(tempfile::tempfile().unwrap()));
        let (reader, writer) = io::pipe().unwrap();
        assert!(!stdout.may_wait(&writer) && !stdout.may_wait(&reader));
        assert!(!stdout.may_wait(File::open("/dev/null").unwrap()));
    }

    #[test]
    fn a_folder_of_logs_that_cannot_be_made_is_named_with_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let path = file.join("log");
        let output = OutputConfiguration {
            log_folder: Some(path.clone()),
            ..OutputConfiguration::default()
        };
        let failure = LogFolder::take(&output, &[]).unwrap_err();
        let begin = format!("output.log_folder: cannot write to {}: Not a dir", path.display());
        assert!(failure.message.starts_with(&begin), "{}", failure.message);
        assert_eq!(failure.exit, Exit::Output);
    }

    #[test]
    fn two_programs_do_not_write_one_debug_log_of_records() {
        let folder = tempfile::tempdir().unwrap();
        let mut configuration = Configuration::defaults(Mode::Watch);
        configuration.output.stdout = false;
        configuration.service.log_level = LogLevel::Debug;
        configuration.service.debug_log_folder = Some(folder.path().to_owned());
        let messages = Messages::on_stderr(LogLevel::Disable);
        let open = || {
            let wanted =
                wanted(&configuration, OutputView::default(), None, &Receivers::NONE).unwrap();
            let [output] = <[ConfiguredOutput; 1]>::try_from(wanted).unwrap();
            output.open(&messages).map(|(output, _)| output)
        };
        let first = open().unwrap();
        let failure = open().unwrap_err();
        let who = format!("another panoptes (process {}) writes its logs", std::process::id());
        assert!(failure.message.contains(&who), "{}", failure.message);
        assert!(failure.message.contains(DEBUG_EVENTS), "{}", failure.message);
        drop(first);
        open().unwrap();
    }

    #[test]
    fn receivers_keep_their_numbers_and_new_ones_get_none_that_was_in_use() {
        let read = |receivers: &str| {
            let text = format!("output: {{telemetry: [{receivers}]}}");
            let (configuration, problems) =
                crate::config::read(&text, Path::new(""), Mode::Run, &Overrides::default());
            assert!(problems.is_empty(), "{problems:?}");
            configuration
        };
        let mut known = (Vec::new(), Receivers::NONE.last);
        let mut change = |receivers: &str| {
            let configuration = read(receivers);
            let before = Receivers { present: &known.0, last: known.1 };
            let wanted = wanted(&configuration, OutputView::default(), None, &before).unwrap();
            let last = last_number(&wanted, &before);
            let number = |output: &ConfiguredOutput| match output.recipe {
                Recipe::Receiver { number, .. } => number,
                _ => panic!("{output:?}"),
            };
            let numbers: Vec<usize> = wanted.iter().map(number).collect();
            known = (wanted, last);
            numbers
        };
        let [a, b, c] = ["{address: 'a:1'}", "{address: 'b:1'}", "{address: 'c:1'}"];
        assert_eq!(change(&format!("{a}, {b}")), [0, 1]);
        assert_eq!(change(&format!("{b}, {a}")), [1, 0]);
        assert_eq!(change(b), [1]);
        assert_eq!(change(&format!("{c}, {b}")), [2, 1]);
        assert_eq!(change("{address: 'b:1', severity: HIGH}"), [1]);
        for round in 0..RECEIVERS_MAX {
            assert_eq!(change(if round % 2 == 0 { a } else { c }), [(3 + round) % RECEIVERS_MAX]);
        }
    }
}
