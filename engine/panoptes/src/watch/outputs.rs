//! Opens the writer's outputs from the configuration's `output`.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use panoptes_sinks::filter::Filter;
use panoptes_sinks::output::file::{FileOptions, FileOutput};
use panoptes_sinks::output::folder::FolderLock;
use panoptes_sinks::output::stream::StreamOutput;
use panoptes_sinks::output::transport::TransportSettings;
use panoptes_sinks::output::{Counters, Output, OutputKind};

use super::telemetry;
use crate::boot_ids::default_folder;
use crate::config::{Configuration, Output as OutputConfiguration, Sync, Telemetry};
use crate::exit::{Exit, Failure};
use crate::message::Messages;
use crate::request::Shown;

/// The files in the folder of logs, and whether they have alerts alone. Events rotate only the
/// first.
const LOGS: [(&str, bool); 2] = [("events.jsonl", false), ("alerts.jsonl", true)];

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
        lock: Arc<FolderLock>,
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
                Box::new(FileOutput::open(path, *options)?.with_lock(lock))
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
    let state_dir = configuration.service.state_dir.clone().or_else(default_folder);
    let configuration = &configuration.output;
    let mut outputs = Vec::new();
    let mut watched = Vec::new();
    let mut add = |name: String, output: Box<dyn Output>, recipe| {
        match output.kind() {
            OutputKind::IoUring => messages.debug(format_args!("{name}: uses io_uring")),
            OutputKind::Plain => {
                messages.info(format_args!("{name}: io_uring is not available, uses write(2)"));
            }
        }
        watched.push(Watched { name, counters: Arc::clone(output.counters()), recipe });
        outputs.push(output);
    };
    if configuration.stdout {
        let failed = |error| Failure::new(Exit::Output, format!("standard output: {error}"));
        let recipe = Recipe::Stdout(stdout);
        add("standard output".to_owned(), recipe.open().map_err(failed)?, recipe);
    }
    let mut locked = None;
    if let Some(folder) = &configuration.log_folder {
        let failed = |path: &Path, error: io::Error| {
            Failure::io(&error, Exit::Output, format_args!("cannot write to {}", path.display()))
        };
        let lock = FolderLock::take(folder).map_err(|error| failed(folder, error))?;
        for (name, alerts_only) in LOGS {
            let path = folder.join(name);
            let options = options(configuration);
            let filter = Filter { alerts_only, ..options.filter };
            let options = FileOptions { filter, ..options };
            let name = path.display().to_string();
            let recipe = Recipe::File { path: path.clone(), options, lock: Arc::clone(&lock) };
            add(name, recipe.open().map_err(|error| failed(&path, error))?, recipe);
        }
        locked = Some(lock);
    }
    for (number, receiver) in configuration.telemetry.iter().enumerate() {
        let failed = |error: io::Error| {
            let what = format_args!("output.telemetry[{number}]");
            Failure::io(&error, Exit::Output, what)
        };
        let (receiver, state_dir) = (Box::new(receiver.clone()), state_dir.clone());
        let name = telemetry::name_of(&receiver);
        let recipe = Recipe::Receiver { number, receiver, state_dir };
        add(name, recipe.open().map_err(failed)?, recipe);
    }
    Ok((outputs, watched, locked))
}

/// How files are kept.
pub(super) fn options(configuration: &OutputConfiguration) -> FileOptions {
    FileOptions {
        rotate_size: configuration.rotate_size.0,
        // The configuration counts the current file, `FileOptions` does not.
        max_files: configuration.max_files.saturating_sub(1),
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
    use crate::config::{AutoOr, LogLevel, Mode};

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
