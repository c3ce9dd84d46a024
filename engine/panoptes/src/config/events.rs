//! Which activities are reported, their severities, and the thresholds of some.
//!
//! The names come from the table of all activities (`panoptes_records::activities`); this file adds
//! only the thresholds.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use panoptes_engine::container_config::Glob;
use panoptes_engine::detect::shell_history::ACTIVITIES as OF_SHELL_HISTORY;
use panoptes_engine::policy::exceptions::Exceptions;
use panoptes_engine::policy::{BpfTag, PolicyConfig};
use panoptes_engine::state::Thresholds;
use panoptes_engine::watch::PolicySettings;
use panoptes_records::activities::{Activity, Preset, Severity};
use panoptes_records::redact::Redactor;

use super::content::ContentChanges;
use super::section::Section;
use super::value::{ByteSize, Setting, listed};

/// Whether an activity is reported.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum EventSwitch {
    /// To the outputs whose preset contains it.
    #[default]
    ByPreset,
    /// To every output, whatever its preset.
    Always,
    Never,
}

impl Setting for EventSwitch {
    const FORM: &'static str = "preset, true or false";

    fn show(&self) -> String {
        match self {
            Self::ByPreset => "preset".to_owned(),
            Self::Always => true.show(),
            Self::Never => false.show(),
        }
    }

    fn read(text: &str, base: &Path) -> Result<Self, String> {
        if text == "preset" {
            return Ok(Self::ByPreset);
        }
        match bool::read(text, base) {
            Ok(true) => Ok(Self::Always),
            Ok(false) => Ok(Self::Never),
            Err(_) => Err(format!("is not {}", Self::FORM)),
        }
    }
}

/// The setting of one activity.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EventSetting {
    pub enabled: EventSwitch,
    pub severity: Severity,
}

/// The settings of all activities.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Events {
    /// One for each activity, in the table's order.
    settings: Vec<EventSetting>,
    /// The largest preset of an output: nothing beyond it is collected, unless it is always
    /// reported.
    pub preset: Preset,
    /// Whether the histories of shells are read: nothing else gives the activities about them.
    pub reads_shell_history: bool,
    pub thresholds: Thresholds,
    /// `reverse_shell_detected`: programs whose purpose is to give shells to their peers.
    pub login_servers: Vec<ProgramPath>,
    /// `file_descriptor_file_content_change`: which files matter.
    pub content: ContentChanges,
    /// `ebpf_program_dangerous`: programs that are known and allowed.
    pub allowed_tags: Vec<ProgramTag>,
}

/// The activities that `panoptes watch` is to report.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Choice {
    /// No activity below this severity.
    pub severity: Option<Severity>,
    /// Only these, also those that are off by default; empty: all.
    pub activities: Vec<Activity>,
}

/// The path of a program in a watched machine; its folders may contain the wildcards `*` and `?`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProgramPath(pub String);

impl Setting for ProgramPath {
    const FORM: &'static str = "path of a program";

    fn show(&self) -> String {
        self.0.clone()
    }

    fn read(text: &str, base: &Path) -> Result<Self, String> {
        let text = String::read(text, base)?;
        let name = text.rsplit_once('/').map(|(_, name)| name).unwrap_or_default();
        if !text.starts_with('/') || name.is_empty() {
            return Err("is not the path of a program; write an absolute path".to_owned());
        }
        if name.contains(['*', '?']) {
            return Err("names no program; only its folders may contain `*` and `?`".to_owned());
        }
        Ok(Self(text))
    }
}

/// The tag of a program of eBPF.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ProgramTag(pub BpfTag);

impl Setting for ProgramTag {
    const FORM: &'static str = "tag of a program";

    fn show(&self) -> String {
        format!("{:016x}", u64::from_be_bytes(self.0))
    }

    fn read(text: &str, base: &Path) -> Result<Self, String> {
        let text = String::read(text, base)?;
        let is_tag = text.len() == 2 * size_of::<BpfTag>()
            && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u64::from_str_radix(&text, 16).ok().filter(|_| is_tag);
        let number = number.ok_or(
            "is not the tag of a program; write its 16 hexadecimal digits, as `bpftool prog` and \
             `ebpf_program_tag` have them",
        )?;
        Ok(Self(number.to_be_bytes()))
    }
}

impl Events {
    /// The setting of one activity.
    pub fn get(&self, activity: Activity) -> EventSetting {
        self.settings[activity as usize]
    }

    /// Whether an activity is collected, since an output wants it.
    pub fn is_enabled(&self, activity: Activity) -> bool {
        self.is_in(activity, self.preset)
    }

    /// Whether an output of this preset has an activity.
    pub(super) fn is_in(&self, activity: Activity, preset: Preset) -> bool {
        if !self.reads_shell_history && OF_SHELL_HISTORY.contains(&activity) {
            return false;
        }
        match self.get(activity).enabled {
            EventSwitch::ByPreset => activity.preset() <= preset,
            EventSwitch::Always => true,
            EventSwitch::Never => false,
        }
    }

    /// The smallest preset that has the records of an activity.
    pub fn preset_of(&self, activity: Activity) -> Preset {
        match self.get(activity).enabled {
            EventSwitch::Always => Preset::Alerts,
            EventSwitch::ByPreset | EventSwitch::Never => activity.preset(),
        }
    }

    /// Leaves out what the command line does not ask for.
    pub(crate) fn choose(&mut self, choice: &Choice) {
        for &activity in Activity::ALL {
            let setting = &mut self.settings[activity as usize];
            if !choice.activities.is_empty() {
                let is_named = choice.activities.contains(&activity);
                setting.enabled = if is_named { EventSwitch::Always } else { EventSwitch::Never };
            }
            if choice.severity.is_some_and(|least| setting.severity < least) {
                setting.enabled = EventSwitch::Never;
            }
        }
    }

    /// Every activity with its setting, in the table's order.
    pub fn iter(&self) -> impl Iterator<Item = (Activity, EventSetting)> + '_ {
        Activity::ALL.iter().copied().zip(self.settings.iter().copied())
    }

    /// How many activities are enabled.
    pub fn enabled_count(&self) -> usize {
        Activity::ALL.iter().filter(|activity| self.is_enabled(**activity)).count()
    }

    /// The programs whose purpose is to give shells to their peers.
    pub(crate) fn login_servers(&self) -> Arc<[Glob]> {
        self.login_servers.iter().map(|path| Glob::new(&path.0)).collect()
    }

    /// What the engine does with them.
    pub(crate) fn policy(
        &self,
        exceptions: Arc<Exceptions>,
        redactor: Option<Redactor>,
    ) -> PolicySettings {
        let weights = self.iter();
        let weights = weights
            .map(|(activity, setting)| (activity, setting.severity, self.preset_of(activity)));
        PolicySettings {
            config: self.into(),
            weights: weights.collect(),
            login_servers: self.login_servers(),
            content_rules: Arc::new(self.content.rules()),
            exceptions,
            redactor,
        }
    }

    pub(crate) fn read(&mut self, section: &mut Section<'_>) {
        for activity in Activity::ALL {
            let mut setting = self.get(*activity);
            let thresholds = &mut self.thresholds;
            section.section_or_value(activity.name(), "enabled", |section| {
                section.value("enabled", &mut setting.enabled);
                if *activity == Activity::FileDescriptorFileContentChange {
                    self.content.read(&mut setting.severity, section);
                } else {
                    section.value("severity", &mut setting.severity);
                }
                read_thresholds(thresholds, *activity, section);
                if *activity == Activity::ReverseShellDetected {
                    section.values("login_servers", &mut self.login_servers);
                }
                if *activity == Activity::EbpfProgramDangerous {
                    section.values("allowed_tags", &mut self.allowed_tags);
                }
            });
            self.settings[*activity as usize] = setting;
        }
    }
}

impl Default for Events {
    fn default() -> Self {
        let settings = Activity::ALL
            .iter()
            .map(|activity| {
                let info = activity.info();
                let enabled =
                    if info.default_on { EventSwitch::ByPreset } else { EventSwitch::Never };
                EventSetting { enabled, severity: info.severity }
            })
            .collect();
        let thresholds =
            Thresholds { status_period_ns: Some(STATUS_PERIOD_NS), ..Thresholds::default() };
        let (login_servers, content) = (Vec::new(), ContentChanges::default());
        Self {
            settings,
            preset: Preset::default(),
            reads_shell_history: true,
            thresholds,
            login_servers,
            content,
            allowed_tags: Vec::new(),
        }
    }
}

/// Reads the thresholds of an activity.
fn read_thresholds(into: &mut Thresholds, activity: Activity, section: &mut Section<'_>) {
    let mut bytes = |key, bytes: &mut u64| {
        let mut size = ByteSize(*bytes);
        section.value_in(key, &mut size, ByteSize(1)..=ByteSize::UNBOUNDED);
        *bytes = size.0;
    };
    match activity {
        Activity::TcpConnectionExcessiveData => {
            bytes("bytes_in", &mut into.bytes_in);
            bytes("bytes_out", &mut into.bytes_out);
        }
        Activity::TcpLongLastingConnection => time(section, "duration", &mut into.duration_ns),
        Activity::ProcessZombie => time(section, "after", &mut into.zombie_after_ns),
        Activity::TcpNetworkConnectionStatus => {
            time(section, "period", into.status_period_ns.get_or_insert(STATUS_PERIOD_NS));
        }
        _ => {}
    }
}

fn time(section: &mut Section<'_>, key: &'static str, ns: &mut u64) {
    let mut time = Duration::from_nanos(*ns);
    section.value_in(key, &mut time, Duration::from_millis(1)..=Duration::from_hours(365 * 24));
    *ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
}

/// From one `tcp_network_connection_status` of a connection to the next.
const STATUS_PERIOD_NS: u64 = 60_000_000_000;

impl Setting for Severity {
    fn form() -> String {
        listed(Self::WORDS.iter().copied())
    }

    fn show(&self) -> String {
        self.word().to_owned()
    }

    fn read(text: &str, _base: &Path) -> Result<Self, String> {
        Self::from_word(&text.to_ascii_uppercase())
            .ok_or_else(|| format!("is not a severity; write {}", Self::form()))
    }
}

impl From<&Events> for PolicyConfig {
    fn from(events: &Events) -> Self {
        let mut policy = Self::default();
        for &activity in Activity::ALL {
            policy.set_enabled(activity, events.is_enabled(activity));
        }
        policy.thresholds = events.thresholds;
        policy.allowed_tags = events.allowed_tags.iter().map(|tag| tag.0).collect();
        policy
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use panoptes_engine::detect::with_memory;

    use super::*;

    #[test]
    fn the_default_thresholds_are_those_of_the_engine() {
        let policy = PolicyConfig::from(&Events::default());
        assert_eq!(policy.wanted(policy.thresholds), Thresholds::default());
        assert_eq!(policy.thresholds.status_period_ns, Some(60_000_000_000));
    }

    fn enabled(events: &Events) -> Vec<&'static str> {
        let all = Activity::ALL.iter().filter(|activity| events.is_enabled(**activity));
        all.map(|activity| activity.name()).collect()
    }

    #[test]
    fn nothing_is_reported_of_histories_that_are_not_read() {
        let mut events = Events { reads_shell_history: false, ..Events::default() };
        for activity in OF_SHELL_HISTORY {
            for enabled in [EventSwitch::ByPreset, EventSwitch::Always] {
                events.settings[activity as usize].enabled = enabled;
                assert!(!PolicyConfig::from(&events).is_enabled(activity));
            }
        }
        let with_memory = with_memory(&|activity| events.is_enabled(activity));
        assert_eq!(with_memory[..], ["file_content"]);
    }

    #[test]
    fn what_is_enabled_by_name_is_collected_whatever_the_preset_and_what_is_disabled_never() {
        let (opened, memory) = (Activity::FileDescriptorOpen, Activity::ProcessMemoryCreated);
        let (created, shell) = (Activity::ProcessCreated, Activity::ReverseShellDetected);
        let mut events = Events { preset: Preset::Alerts, ..Events::default() };
        assert!(events.is_enabled(shell) && !events.is_enabled(created));
        events.settings[opened as usize].enabled = EventSwitch::Always;
        events.settings[shell as usize].enabled = EventSwitch::Never;
        assert!(events.is_enabled(opened) && !events.is_enabled(shell));
        assert_eq!(events.preset_of(opened), Preset::Alerts);
        events.preset = Preset::Everything;
        assert!(events.is_enabled(created) && !events.is_enabled(memory));
        assert!(!events.is_enabled(shell));
        assert_eq!(events.preset_of(created), Preset::Security);
    }

    #[test]
    fn the_command_line_chooses_by_name_and_severity() {
        let mut events = Events { preset: Preset::Alerts, ..Events::default() };
        let activities = vec![Activity::ThreadCreated, Activity::ProcessMemoryCreated];
        events.choose(&Choice { activities, severity: None });
        assert_eq!(enabled(&events), ["process_memory_created", "thread_created"]);
        let mut events = Events::default();
        events.choose(&Choice { severity: Some(Severity::High), ..Choice::default() });
        let enabled = enabled(&events);
        assert!(
            enabled.contains(&"process_hidden") && enabled.contains(&"host_initialization_failed")
        );
        assert!(!enabled.contains(&"process_created") && !enabled.contains(&"records_dropped"));
    }

    /// Collects the activities that the sources in a folder name, except in tests and in `config`.
    fn named_in(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() && !matches!(name, "config" | "tests") {
                named_in(&path, found);
            } else if path.extension().is_some_and(|end| end == "rs") && name != "tests.rs" {
                let text = fs::read_to_string(&path).unwrap();
                let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
                for after in text.split("Activity::").skip(1) {
                    let end = after.find(|letter: char| !letter.is_ascii_alphanumeric());
                    found.insert(after[..end.unwrap_or(after.len())].to_owned());
                }
            }
        }
    }

    #[test]
    fn every_activity_is_reported_somewhere() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut named = BTreeSet::new();
        named_in(&here.join("../src"), &mut named);
        named_in(&here.join("src"), &mut named);
        for &activity in Activity::ALL {
            assert!(named.contains(&format!("{activity:?}")), "{}", activity.name());
        }
    }
}
