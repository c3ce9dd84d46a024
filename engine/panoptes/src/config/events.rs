//! Which activities are reported, their severities, and the thresholds of some.
//!
//! The names come from the table of all activities (`panoptes_sinks::activities`); this file adds
//! only the thresholds.

use std::path::Path;
use std::time::Duration;

use panoptes_engine::container_config::Glob;
use panoptes_engine::policy::PolicyConfig;
use panoptes_engine::state::ConnectionThresholds;
use panoptes_sinks::activities::{Activity, Severity};

use super::content::ContentChanges;
use super::section::Section;
use super::value::{ByteSize, Setting, listed};

/// Whether this version reports an activity at all. A configuration may name activities that are
/// not reported, so that a file can list all of them; `panoptes check` does not count them.
const fn reports(activity: Activity) -> bool {
    !matches!(activity, Activity::ServiceRuntimeFailure)
}

/// The setting of one activity.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EventSetting {
    pub enabled: bool,
    pub severity: Severity,
}

/// The settings of all activities.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Events {
    /// One for each activity, in the table's order.
    settings: Vec<EventSetting>,
    pub thresholds: ConnectionThresholds,
    /// `reverse_shell_detected`: programs whose purpose is to give shells to their peers.
    pub login_servers: Vec<ProgramPath>,
    /// `file_descriptor_file_content_change`: which files matter.
    pub content: ContentChanges,
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

impl Events {
    /// The setting of one activity.
    pub fn get(&self, activity: Activity) -> EventSetting {
        self.settings[activity as usize]
    }

    /// Every activity with its setting, in the table's order.
    pub fn iter(&self) -> impl Iterator<Item = (Activity, EventSetting)> + '_ {
        Activity::ALL.iter().copied().zip(self.settings.iter().copied())
    }

    /// How many activities are reported: enabled, and built in this version.
    pub fn enabled_count(&self) -> usize {
        self.iter().filter(|(activity, setting)| setting.enabled && reports(*activity)).count()
    }

    /// The programs whose purpose is to give shells to their peers.
    pub(crate) fn login_servers(&self) -> Vec<Glob> {
        self.login_servers.iter().map(|path| Glob::new(&path.0)).collect()
    }

    pub(crate) fn read(&mut self, section: &mut Section<'_>) {
        for activity in Activity::ALL {
            let mut setting = self.get(*activity);
            let thresholds = &mut self.thresholds;
            // `process_created: false` is the short form of `{ enabled: false }`.
            let mut enabled = setting.enabled;
            section.value_or_section(activity.name(), &mut enabled, |enabled, section| {
                section.value("enabled", enabled);
                if *activity == Activity::FileDescriptorFileContentChange {
                    self.content.read(&mut setting.severity, section);
                } else {
                    section.value("severity", &mut setting.severity);
                }
                read_thresholds(thresholds, *activity, section);
                if *activity == Activity::ReverseShellDetected {
                    section.values("login_servers", &mut self.login_servers);
                }
            });
            setting.enabled = enabled;
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
                EventSetting { enabled: info.default_on, severity: info.severity }
            })
            .collect();
        let thresholds = ConnectionThresholds {
            status_period_ns: Some(STATUS_PERIOD_NS),
            ..ConnectionThresholds::default()
        };
        let (login_servers, content) = (Vec::new(), ContentChanges::default());
        Self { settings, thresholds, login_servers, content }
    }
}

/// Reads the thresholds of an activity.
fn read_thresholds(into: &mut ConnectionThresholds, activity: Activity, section: &mut Section<'_>) {
    let mut bytes = |key, bytes: &mut u64| {
        let mut size = ByteSize(*bytes);
        section.value_in(key, &mut size, ByteSize(1)..=ByteSize(u64::MAX));
        *bytes = size.0;
    };
    match activity {
        Activity::TcpConnectionExcessiveData => {
            bytes("bytes_in", &mut into.bytes_in);
            bytes("bytes_out", &mut into.bytes_out);
        }
        Activity::TcpLongLastingConnection => time(section, "duration", &mut into.duration_ns),
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
        for (activity, setting) in events.iter() {
            policy.set_enabled(activity, setting.enabled);
        }
        policy.thresholds = events.thresholds;
        policy
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::*;

    #[test]
    fn the_default_thresholds_are_those_of_the_engine() {
        let policy = PolicyConfig::from(&Events::default());
        assert_eq!(policy.wanted(policy.thresholds), ConnectionThresholds::default());
        assert_eq!(policy.thresholds.status_period_ns, Some(60_000_000_000));
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

    /// Fails if [`reports`] excludes an activity that the code names, or includes one that it
    /// does not.
    #[test]
    fn reported_activities_are_those_that_the_code_names() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut named = BTreeSet::new();
        named_in(&here.join("../src"), &mut named);
        named_in(&here.join("src"), &mut named);
        for &activity in Activity::ALL {
            let is_named = named.contains(&format!("{activity:?}"));
            assert_eq!(reports(activity), is_named, "{}", activity.name());
        }
    }

    #[test]
    fn the_example_marks_what_is_not_built() {
        let example = include_str!("../../panoptes.yaml");
        for &activity in Activity::ALL {
            let key = format!("    {}: ", activity.name());
            let line = example.lines().find(|line| line.starts_with(&key)).expect(&key);
            assert_eq!(line.ends_with("# not built yet"), !reports(activity), "{line}");
        }
    }
}
