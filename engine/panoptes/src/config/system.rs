//! The settings of one watched system, and the default settings.
//!
//! `default` overrides the built-in values, and each system overrides `default`: a key that a
//! system leaves out has the value of `default`; a list replaces the whole list.

use std::path::{Path, PathBuf};

use panoptes_engine::container_config::{ContainerConfig, Glob, Images};
use panoptes_engine::detect::shell_history::ACTIVITIES as OF_SHELL_HISTORY;
use panoptes_engine::limits::Limits;
use panoptes_records::activities::Activity;
use panoptes_sources::FileFormat;

use super::address::SystemAddress;
use super::events::{EventSwitch, Events};
use super::guest_name::GuestName;
use super::section::Section;
use super::value::{AutoOr, KeywordSetting, LogLevel, Setting, listed};

/// A system to watch.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct System {
    /// The `unique_identifier` of its records.
    pub name: String,
    pub address: SystemAddress,
    pub settings: SystemSettings,
}

/// The settings of one system.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SystemSettings {
    /// A file that lists the regions of the machine's physical memory.
    pub memory_regions_path: AutoOr<PathBuf>,
    pub file_format: FileFormat,
    /// A profile, or a folder of profiles.
    pub os_symbol_path: AutoOr<PathBuf>,
    pub os_type: OsType,
    /// `None` is the service's level.
    pub log_level: Option<LogLevel>,
    /// The log level of the SDK of a DMA engine.
    pub sdk_log_level: Option<LogLevel>,
    /// The set of limits that `limits` changes.
    pub limits_preset: LimitsPreset,
    pub limits: Limits,
    pub containers: ContainerFilter,
    /// What should run on the machine.
    pub sbom: Vec<Reference>,
    pub events: Events,
    pub user_memory: UserMemory,
}

/// A set of limits, by its place in [`Limits::PRESETS`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LimitsPreset(usize);

impl Default for LimitsPreset {
    fn default() -> Self {
        Self(Limits::PRESETS.len() - 1)
    }
}

impl Setting for LimitsPreset {
    fn form() -> String {
        listed(Self::words().into_iter())
    }

    fn words() -> Vec<&'static str> {
        Limits::PRESETS.iter().map(|(name, _)| *name).collect()
    }

    fn show(&self) -> String {
        Limits::PRESETS.get(self.0).map(|(name, _)| (*name).to_owned()).unwrap_or_default()
    }

    fn read(text: &str, _base: &Path) -> Result<Self, String> {
        let place = Limits::PRESETS.iter().position(|(name, _)| name.eq_ignore_ascii_case(text));
        place.map(Self).ok_or_else(|| {
            format!("is not one of {}; or write limits, such as {{processes: 8192}}", Self::form())
        })
    }
}

/// Parts of the memory of processes themselves that are read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct UserMemory {
    /// Arguments, and the titles that programs write over them.
    pub command_lines: bool,
    /// The commands and variables of shells.
    pub shell_history: bool,
}

/// The operating system of a watched machine.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum OsType {
    #[default]
    Linux,
}

/// Which containers are reported, by patterns of ids, names and images; empty lists mean all.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ContainerFilter {
    pub include: Vec<String>,
    pub exclude: Vec<String>,
    /// Patterns of ids or names, and the image of the containers that match; the first match
    /// applies.
    pub images: Vec<(String, String)>,
}

/// One reference of what should run: a hash, or a file of hashes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reference {
    /// SHA-256, SHA-1 or MD5, in lower-case hex.
    Hash(String),
    /// A software bill of materials, or a folder of them.
    File(PathBuf),
}

impl SystemSettings {
    /// Reads the keys that `default` and the systems have in common.
    pub(crate) fn read(&mut self, section: &mut Section<'_>) {
        section.value("memory_regions_path", &mut self.memory_regions_path);
        section.value("file_format", &mut self.file_format);
        section.value("os_symbol_path", &mut self.os_symbol_path);
        section.value("os_type", &mut self.os_type);
        section.value("log_level", &mut self.log_level);
        section.value("sdk_log_level", &mut self.sdk_log_level);
        section.section_or_value("limits", "preset", |section| {
            section.value("preset", &mut self.limits_preset);
            if let Some((_, limits)) = Limits::PRESETS.get(self.limits_preset.0)
                && section.has("preset")
            {
                self.limits = *limits;
            }
            read_limits(&mut self.limits, section);
        });
        section.section("containers", |section| self.containers.read(section));
        section.values("sbom", &mut self.sbom);
        section.section("user_memory", |section| {
            section.value("command_lines", &mut self.user_memory.command_lines);
            section.value("shell_history", &mut self.user_memory.shell_history);
        });
        section.section("events", |section| self.events.read(section));
        self.events.reads_shell_history = self.user_memory.shell_history;
        self.warn_of_what_is_not_read(section);
    }

    /// Warns of activities that are wanted by name and need memory that is not read.
    fn warn_of_what_is_not_read(&self, section: &Section<'_>) {
        let key = ["user_memory", "events"].into_iter().find(|key| section.has(key));
        let Some(key) = key else { return };
        let UserMemory { command_lines, shell_history } = self.user_memory;
        let not_read = [
            ("command_lines", command_lines, &[Activity::BinaryExecutedNotAsIntended][..]),
            ("shell_history", shell_history, &OF_SHELL_HISTORY[..]),
        ];
        for (name, is_read, activities) in not_read {
            let is_wanted = |activity: &&Activity| {
                !is_read && self.events.get(**activity).enabled == EventSwitch::Always
            };
            for activity in activities.iter().filter(is_wanted) {
                let message = format!(
                    "`{}.{}` is true, but is never reported: `{}.{name}` is false",
                    section.full("events"),
                    activity.name(),
                    section.full("user_memory"),
                );
                section.warn(key, message);
            }
        }
    }
}

impl Default for UserMemory {
    fn default() -> Self {
        Self { command_lines: true, shell_history: true }
    }
}

fn read_limits(limits: &mut Limits, section: &mut Section<'_>) {
    for setting in Limits::SETTINGS {
        section.value_in(setting.key, (setting.field)(limits), setting.range.clone());
    }
    if limits.threads < limits.processes && (section.has("threads") || section.has("processes")) {
        let key = if section.has("threads") { "threads" } else { "processes" };
        let message = format!(
            "`{}` is {}, less than `{}`, {}: every process has a thread, so the table of threads \
             fills up first",
            section.full("threads"),
            limits.threads,
            section.full("processes"),
            limits.processes
        );
        section.warn(key, message);
    }
}

impl ContainerFilter {
    fn read(&mut self, section: &mut Section<'_>) {
        section.values("include", &mut self.include);
        section.values("exclude", &mut self.exclude);
        section.texts("images", "patterns and texts", &mut self.images);
    }
}

impl From<&ContainerFilter> for ContainerConfig {
    fn from(filter: &ContainerFilter) -> Self {
        let globs = |patterns: &[String]| patterns.iter().map(|glob| Glob::new(glob)).collect();
        let images = filter.images.iter().map(|(glob, image)| (glob.as_str(), image.as_str()));
        Self {
            include: globs(&filter.include),
            exclude: globs(&filter.exclude),
            images: Images::new(images),
        }
    }
}

impl System {
    /// Reads one of `systems`; `None` if there is nothing to watch in it.
    pub(crate) fn read(
        name: &str,
        default: &SystemSettings,
        section: &mut Section<'_>,
    ) -> Option<Self> {
        let mut address: Option<SystemAddress> = None;
        let mut representor: Option<String> = None;
        let mut device: Option<String> = None;
        section.value("system", &mut address);
        section.value("representor_id", &mut representor);
        section.value("dma_device", &mut device);
        let mut settings = default.clone();
        settings.read(section);

        let doca_key = ["representor_id", "dma_device"].into_iter().find(|key| section.has(key));
        match (section.has("system"), doca_key) {
            (true, Some(key)) => {
                let message = format!(
                    "`{}` conflicts with `system`; write either `system: doca:DEVICE/VUID`, or \
                     `representor_id` and `dma_device`",
                    section.full(key)
                );
                section.refuse(key, message);
            }
            (false, Some(key)) => match (&device, &representor) {
                (Some(device), Some(representor)) => {
                    address = SystemAddress::doca_from_parts(device, representor);
                    if address.is_none() {
                        let message = format!("`{}` may not contain a `/`", section.full(key));
                        section.refuse(key, message);
                    }
                }
                // A wrong value has been refused already.
                _ if section.has("dma_device") && section.has("representor_id") => {}
                _ => {
                    let message = "`representor_id` and `dma_device` belong together; give both";
                    section.refuse(key, message);
                }
            },
            // The name of a system is that of a guest.
            (false, None) => match SystemAddress::of_key(name) {
                Ok(of_key) => address = Some(of_key),
                Err(why) => {
                    let message = format!(
                        "`{}` is missing, and the system's name is not that of a guest: it {why}",
                        section.full("system")
                    );
                    section.refuse("system", message);
                }
            },
            (true, None) => {}
        }
        let address = address?;
        let is_doca = matches!(address, SystemAddress::Doca { .. });
        let is_file = matches!(
            address,
            SystemAddress::File(_) | SystemAddress::Guest(GuestName::Bare { .. })
        );
        let effects = [
            ("memory_regions_path", is_doca || is_file, "a doca: or file: system"),
            ("sdk_log_level", is_doca, "a doca: system"),
        ];
        for (key, has_effect, systems) in effects {
            if section.has(key) && !has_effect {
                let key_path = section.full(key);
                section.warn(key, format!("`{key_path}` has an effect only in {systems}"));
            }
        }
        Some(Self { name: name.to_owned(), address, settings })
    }
}

impl KeywordSetting for FileFormat {
    const WORDS: &'static [(&'static str, Self)] =
        &[("auto", Self::Auto), ("raw", Self::Raw), ("dump", Self::Dump)];
}

impl Setting for OsType {
    const FORM: &'static str = "Linux";

    fn show(&self) -> String {
        "Linux".to_owned()
    }

    fn read(text: &str, _base: &Path) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("linux") {
            Ok(Self::Linux)
        } else if text.eq_ignore_ascii_case("windows") {
            Err("is not supported: only Linux can be watched; write Linux".to_owned())
        } else {
            Err("is not a known operating system; write Linux".to_owned())
        }
    }
}

impl Setting for Reference {
    const FORM: &'static str = "path or hash";

    fn show(&self) -> String {
        match self {
            Self::Hash(hash) => hash.clone(),
            Self::File(path) => path.show(),
        }
    }

    fn read(text: &str, base: &Path) -> Result<Self, String> {
        let hash = matches!(text.len(), MD5_DIGITS | SHA1_DIGITS | SHA256_DIGITS)
            && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if hash {
            Ok(Self::Hash(text.to_ascii_lowercase()))
        } else {
            PathBuf::read(text, base).map(Self::File)
        }
    }
}

const MD5_DIGITS: usize = 32;
const SHA1_DIGITS: usize = 40;
const SHA256_DIGITS: usize = 64;
