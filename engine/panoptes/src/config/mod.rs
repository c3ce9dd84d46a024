//! The configuration: all settings, checked and typed, with a default for each.
//!
//! [`Loader::load`] reads a file and the options that override it, in this order: built-in
//! defaults, the file, `--set`, the special options. It returns a [`Configuration`] of valid
//! values, or a [`Report`] of all mistakes, each with its place. [`read`] does the same for text,
//! without a file.
//!
//! Not for: acting on the settings, or checking whether a folder or a source exists.
//!
//! Each key is named once, where it is read, with its range. [`keys`] lists them for the
//! documentation.
//!
//! Start reading at [`Configuration`], then `section`, which reads all keys.

mod address;
mod argus_keys;
mod auto_scan;
mod content;
mod duration;
mod events;
mod examples;
mod exceptions;
mod flows;
mod guest_name;
mod header;
mod key;
mod load;
mod output;
mod overrides;
mod problem;
mod section;
mod service;
mod system;
mod telemetry;
mod tree;
mod value;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use panoptes_engine::policy::exceptions::{EXCEPTIONS_MAX, Exceptions};
use panoptes_records::activities::Preset;

pub use address::SystemAddress;
pub use auto_scan::{AutoScan, GuestPattern, SizeRange, UuidPattern};
pub use content::{ContentChanges, FilePattern};
pub use duration::show_duration;
pub use events::{Choice, EventSetting, EventSwitch, Events};
pub use exceptions::Exception;
pub(crate) use flows::FLOW_THREADS_MAX;
pub use flows::{FlowApplication, FlowInterfaces, Flows, PacketExpression};
pub use guest_name::GuestName;
pub use header::HeaderForm;
pub use key::{ChangedKey, ConfigKey, Effect, changed_keys, keys_with_old};
pub use load::{LoadedConfiguration, Loader};
pub use output::{OutputSettings, Sync};
pub use overrides::Overrides;
pub(crate) use problem::one_line;
pub use problem::{ConfigLocation, Problem, Report, Weight, printable};
pub(crate) use section::nearest;
pub use service::{Compatibility, Cores, Service};
pub use system::{
    ContainerFilter, LimitsPreset, OsType, Reference, System, SystemSettings, UserMemory,
};
pub use telemetry::{
    Backlog, Facility, FieldName, FieldValue, HostName, NetworkAddress, RecordChoice,
    SyslogFraming, Telemetry, TelemetryAddress, TelemetryFormat, TelemetryTls, TelemetryTransport,
    Url,
};
pub use value::{AutoOr, ByteSize, LogLevel};

use section::{Context, Section};
use tree::{ConfigOrigin, parse};
use value::Setting;

/// All that can be configured.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Configuration {
    pub service: Service,
    /// Whether to find and watch systems that are not configured, too.
    pub auto_scan: bool,
    /// Which guests these are.
    pub auto_scan_guests: AutoScan,
    /// Whether a profile may be made from the contents of the kernel's memory.
    pub profile_generation: bool,
    /// Whether built-in profiles are used.
    pub built_in_profiles: bool,
    /// The settings of systems that are not in `systems`.
    pub default: SystemSettings,
    /// The configured systems, in the order of the file.
    pub systems: Vec<System>,
    pub output: OutputSettings,
    /// Alerts that are silenced, of all systems.
    pub exceptions: Vec<Exception>,
    /// The sensor of network flows; only `run` has it.
    pub flows: Flows,
}

/// The command that uses the configuration; some defaults depend on it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// The service: records go to a folder.
    Run,
    /// A person at a terminal: records go to standard output.
    Watch,
    /// One scan: its lines go to standard output.
    Scan,
    /// A test of the service's outputs, whether the service has something to watch or not.
    Test,
}

impl Configuration {
    /// The configuration of an empty file.
    pub fn defaults(mode: Mode) -> Self {
        let output = match mode {
            Mode::Run | Mode::Test => OutputSettings {
                log_folder: Some(PathBuf::from(LOG_FOLDER)),
                ..OutputSettings::default()
            },
            Mode::Watch | Mode::Scan => {
                OutputSettings { stdout: true, ..OutputSettings::default() }
            }
        };
        Self {
            service: Service::default(),
            auto_scan: true,
            auto_scan_guests: AutoScan::default(),
            profile_generation: true,
            built_in_profiles: true,
            default: SystemSettings::default(),
            systems: Vec::new(),
            output,
            exceptions: Vec::new(),
            flows: Flows::default(),
        }
    }

    fn read(&mut self, mode: Mode, log_folder: Option<&Path>, section: &mut Section<'_>) {
        section.section("service", |section| self.service.read(section));
        section.value_or_section("auto_scan", &mut self.auto_scan, auto_scan::FORM, |section| {
            self.auto_scan_guests.read(section);
        });
        section.value("profile_generation", &mut self.profile_generation);
        section.value("built_in_profiles", &mut self.built_in_profiles);
        section.section("default", |section| {
            for key in ["system", "representor_id", "dma_device"] {
                if section.has(key) {
                    let message = format!("`{key}` is for a single system; move it to `systems`");
                    section.refuse_known(key, message);
                }
            }
            self.default.read(section);
        });
        section.section("systems", |section| {
            section.named(|name, place, section| {
                if let Err(why) = String::read(name, Path::new("")) {
                    let message = format!("the system name `{}` {why}", printable(name));
                    section.refuse_at(place, message);
                }
                let Some(system) = System::read(name, &self.default, section) else { return };
                warn_of_another(&self.systems, &system, section);
                self.systems.push(system);
            });
        });
        section.section("output", |section| {
            let events = self.systems.iter().map(|system| &system.settings.events);
            let events = events.chain([&self.default.events]).collect();
            self.output.read(log_folder, self.service.compatibility, events, section);
        });
        let mut settings = self.systems.iter().map(|system| &system.settings);
        let reads_lines = self.default.user_memory.command_lines
            && settings.all(|settings| settings.user_memory.command_lines);
        section.sections("exceptions", |section| {
            self.exceptions.extend(Exception::read(reads_lines, section));
        });
        if self.exceptions.len() > EXCEPTIONS_MAX {
            let message = format!(
                "`exceptions` has {} entries; at most {EXCEPTIONS_MAX} are possible",
                self.exceptions.len()
            );
            section.refuse("exceptions", message);
        }
        let names: Vec<&str> = self.systems.iter().map(|system| system.name.as_str()).collect();
        section.section("flows", |section| {
            self.flows.read(section);
            self.flows.check_system(&names, self.auto_scan, section);
        });
        self.collect(self.output.collected(self.output.preset()));
        if self.service.compatibility == Compatibility::DocaArgus {
            // DOCA Argus reports every change as an alert.
            self.each_events(|events| events.content = ContentChanges::every_change());
        }
        if mode == Mode::Run {
            self.check_auto_scan(section);
        } else {
            self.flows = Flows::default();
        }
    }

    /// Sets the largest preset of all outputs.
    pub(crate) fn collect(&mut self, preset: Preset) {
        self.each_events(|events| events.preset = preset);
    }

    /// The exceptions as the engine compares them, with new counts.
    pub(crate) fn exceptions(&self) -> Exceptions {
        Exceptions::new(self.exceptions.iter().map(Into::into))
    }

    /// Leaves out what the command line does not ask for.
    pub(crate) fn choose(&mut self, choice: &Choice) {
        self.each_events(|events| events.choose(choice));
    }

    fn each_events(&mut self, mut change: impl FnMut(&mut Events)) {
        change(&mut self.default.events);
        self.systems.iter_mut().for_each(|system| change(&mut system.settings.events));
    }

    /// Refuses a service that has nothing to watch. An empty file is valid.
    fn check_auto_scan(&self, section: &Section<'_>) {
        let has_systems = !self.systems.is_empty() || section.has_content("systems");
        if !self.auto_scan && !has_systems && !self.flows.are_wanted() {
            section.refuse("auto_scan", NOTHING_TO_WATCH);
        }
    }
}

/// Reads a configuration from text; relative paths in it start at `folder`.
///
/// It always returns a configuration: a wrong value keeps its default and adds a [`Problem`].
pub fn read(
    text: &str,
    folder: &Path,
    mode: Mode,
    overrides: &Overrides,
) -> (Configuration, Vec<Problem>) {
    let context = Context::new(folder);
    let configuration = read_in(&context, text, mode, overrides);
    (configuration, context.problems.into_inner())
}

/// The same, with the keys that the context lists.
fn read_with_keys(
    context: Context<'_>,
    text: &str,
    mode: Mode,
    overrides: &Overrides,
) -> (Configuration, Vec<Problem>, Vec<ConfigKey>) {
    let configuration = read_in(&context, text, mode, overrides);
    let keys = context.keys.map(RefCell::into_inner).unwrap_or_default();
    (configuration, context.problems.into_inner(), keys)
}

/// Every key of the configuration with its default, in the order of reading. A system is called
/// `NAME` and has only the keys that `default` lacks; a list of mappings has one element.
pub fn keys() -> Vec<ConfigKey> {
    let text = "auto_scan: {include: [{name: a}]}\n\
                systems: {NAME: {system: 'file:/'}}\noutput: {telemetry: [{address: 'a:1'}]}\n\
                exceptions: [{activity: process_hidden}]";
    let context = Context::listing_all(Path::new(""));
    let (_, _, mut keys) = read_with_keys(context, text, Mode::Run, &Overrides::default());
    let known: Vec<String> = keys.iter().map(|key| key.path.clone()).collect();
    keys.retain(|key| {
        let rest = key.path.strip_prefix("systems.NAME.");
        rest.is_none_or(|rest| !known.contains(&format!("default.{rest}")))
    });
    keys
}

/// Reads a configuration; its problems, and its keys if they are listed, are in `context` then.
fn read_in(context: &Context<'_>, text: &str, mode: Mode, overrides: &Overrides) -> Configuration {
    let (mut root, mut problems) = parse(text, &ConfigOrigin::File);
    overrides.apply(&mut root, &mut problems);
    context.problems.replace(problems);
    let mut configuration = Configuration::defaults(mode);
    let mut section = Section::root(context, &root);
    configuration.read(mode, overrides.log_folder.as_deref(), &mut section);
    section.finish();
    let mut problems = context.problems.borrow_mut();
    // Drop warnings after an error: a wrong value has its default, which can cause false warnings.
    if problems.iter().any(|problem| problem.weight == Weight::Error) {
        problems.retain(|problem| problem.weight == Weight::Error);
    }
    problems.sort_by(|left, right| left.place.cmp(&right.place));
    problems.dedup();
    configuration
}

/// Warns of a system whose memory another one has, too.
fn warn_of_another(systems: &[System], system: &System, section: &Section<'_>) {
    if let Some(other) = systems.iter().find(|other| other.address == system.address) {
        let (name, other) = (printable(&system.name), printable(&other.name));
        let address = &system.address;
        section.warn(
            "system",
            format!("`{name}` and `{other}` are both {address}: it is watched twice"),
        );
    }
}

/// The message for a configuration without systems and without `auto_scan`.
pub const NOTHING_TO_WATCH: &str = "nothing to watch: `auto_scan` is off and `systems` is empty";

/// The service's default folder for the event log.
const LOG_FOLDER: &str = "/var/log/panoptes";
