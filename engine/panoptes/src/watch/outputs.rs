//! Opens the writer's outputs from the configuration's `output`.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use panoptes_sinks::filter::Filter;
use panoptes_sinks::output::file::{FileOptions, FileOutput};
use panoptes_sinks::output::folder::FolderLock;
use panoptes_sinks::output::lines::Form;
use panoptes_sinks::output::stream::StreamOutput;
use panoptes_sinks::output::transport::TransportSettings;
use panoptes_sinks::output::{Counters, Output, OutputKind};
use panoptes_sinks::people::LineStyle;

use super::telemetry;
use crate::boot_ids::default_folder;
use crate::config::{
    Configuration, LogLevel, Output as OutputConfiguration, Service, Sync, Telemetry,
};
use crate::exit::{Exit, Failure};
use crate::message::Messages;
use crate::request::Shown;

/// The alerts once more, in a file that events do not rotate. Consumers of another product do not
/// look for this name, so they get each alert once.
const ALERTS: &str = "alerts.jsonl";

/// The lines about all records, in the folder of the debug log.
const DEBUG_EVENTS: &str = "panoptes-events.log";

/// An output's name and counters, which can be read while the writer owns the output itself.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    /// `standard output`, the file's path, or the receiver's address.
    pub(super) name: String,
    pub(super) counters: Arc<Counters>,
    pub(super) recipe: Recipe,
}

/// How an output is opened, at first and after it has panicked.
#[derive(Clone, Debug)]
pub(super) enum Recipe {
    Stdout(Shown),
    File {
        path: PathBuf,
        options: FileOptions,
        lock: Option<Arc<FolderLock>>,
    },
    /// The receiver of this number.
    Receiver {
        number: usize,
        receiver: Box<Telemetry>,
        state_dir: Option<PathBuf>,
    },
}

impl Recipe {
    pub(super) fn open(&self) -> io::Result<Box<dyn Output>> {
        Ok(match self {
            Self::Stdout(shown) => {
                let file = io::stdout().as_fd().try_clone_to_owned()?;
                let output = StreamOutput::new(File::from(file), TransportSettings::default());
                Box::new(output.with_form(shown.form).with_filter(Filter::of_preset(shown.preset)))
            }
            Self::File { path, options, lock } => {
                let output = FileOutput::open(path, *options)?;
                Box::new(match lock {
                    Some(lock) => output.with_lock(lock),
                    None => output,
                })
            }
            Self::Receiver { number, receiver, state_dir } => {
                telemetry::open(*number, receiver, state_dir.as_deref())?
            }
        })
    }
}

type Opened = (Vec<Box<dyn Output>>, Vec<Watched>, Option<Arc<FolderLock>>);

/// Opens all configured outputs, and locks the folder of logs; `stdout` is what standard output
/// shows.
pub(super) fn open(
    configuration: &Configuration,
    stdout: Shown,
    messages: &Messages,
) -> Result<Opened, Failure> {
    let Configuration { output, service, .. } = configuration;
    let event_log = service.compatibility.event_log();
    let mut opening = Opening { outputs: Vec::new(), watched: Vec::new(), messages };
    if output.stdout {
        let failed = |error| Failure::new(Exit::Output, format!("standard output: {error}"));
        opening.add("standard output".to_owned(), Recipe::Stdout(stdout), failed)?;
    }
    let mut locked = None;
    if let Some(folder) = &output.log_folder {
        let lock =
            FolderLock::take(folder).map_err(|error| Failure::not_written(folder, &error))?;
        for (name, alerts_only) in [(event_log, false), (ALERTS, true)] {
            let options = options(output);
            let filter = Filter { alerts_only, ..options.filter };
            let options = FileOptions { filter, ..options };
            opening.add_file(&folder.join(name), options, Some(Arc::clone(&lock)))?;
        }
        locked = Some(lock);
    }
    if let Some(folder) = events_folder(service) {
        let form = Form::ForPeople(LineStyle { names_system: true, ..LineStyle::default() });
        let filter = Filter::ALL;
        let options = FileOptions { filter, form, sync_ns: None, ..options(output) };
        opening.add_file(&folder.join(DEBUG_EVENTS), options, None)?;
    }
    let state_dir = service.state_dir.clone().or_else(default_folder);
    for (number, receiver) in output.telemetry.iter().enumerate() {
        let failed = |error: io::Error| {
            let what = format_args!("output.telemetry[{number}]");
            Failure::io(&error, Exit::Output, what)
        };
        let (receiver, state_dir) = (Box::new(receiver.clone()), state_dir.clone());
        let name = telemetry::name_of(&receiver);
        opening.add(name, Recipe::Receiver { number, receiver, state_dir }, failed)?;
    }
    Ok((opening.outputs, opening.watched, locked))
}

/// The outputs that are open so far.
struct Opening<'a> {
    outputs: Vec<Box<dyn Output>>,
    watched: Vec<Watched>,
    messages: &'a Messages,
}

impl Opening<'_> {
    fn add(
        &mut self,
        name: String,
        recipe: Recipe,
        failed: impl Fn(io::Error) -> Failure,
    ) -> Result<(), Failure> {
        let output = recipe.open().map_err(failed)?;
        match output.kind() {
            OutputKind::IoUring => self.messages.debug(format_args!("{name}: uses io_uring")),
            OutputKind::Plain => {
                self.messages
                    .info(format_args!("{name}: io_uring is not available, uses write(2)"));
            }
        }
        self.watched.push(Watched { name, counters: Arc::clone(output.counters()), recipe });
        self.outputs.push(output);
        Ok(())
    }

    fn add_file(
        &mut self,
        path: &Path,
        options: FileOptions,
        lock: Option<Arc<FolderLock>>,
    ) -> Result<(), Failure> {
        let name = path.display().to_string();
        let recipe = Recipe::File { path: path.to_owned(), options, lock };
        self.add(name, recipe, |error| Failure::not_written(path, &error))
    }
}

/// Where the debug log has a line about each record: from the level DEBUG on (guide §8.2).
fn events_folder(service: &Service) -> Option<&Path> {
    let is_wanted = service.log_level >= LogLevel::Debug;
    service.debug_log_folder.as_deref().filter(|_| is_wanted)
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
    use panoptes_sinks::activities::Preset;

    use super::*;
    use crate::config::{AutoOr, Mode};

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
        let (outputs, ..) = open(&configuration, Shown::default(), &messages).unwrap();
        let filters: Vec<Filter> = outputs.iter().map(|output| output.filter()).collect();
        let events = Filter::of_preset(Preset::Security);
        assert_eq!(filters, [events, Filter { alerts_only: true, ..events }]);
    }
}
