//! Which activities are reported, their severities, and the thresholds of some.
//!
//! The names come from the table of all activities (`panoptes_sinks::activities`); this file adds
//! only the thresholds.

use std::path::Path;
use std::time::Duration;

use panoptes_sinks::activities::{Activity, Severity};

use super::built::reports;
use super::section::Section;
use super::value::{ByteSize, Line, Setting, listed};

/// The setting of one activity.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EventSetting {
    pub enabled: bool,
    pub severity: Severity,
}

/// The thresholds of some activities.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Thresholds {
    /// `tcp_connection_excessive_data`: the connection received more bytes than this.
    pub bytes_in: ByteSize,
    /// `tcp_connection_excessive_data`: the connection sent more bytes than this.
    pub bytes_out: ByteSize,
    /// `tcp_long_lasting_connection`: the connection has lasted longer than this.
    pub duration: Duration,
    /// `tcp_network_connection_status`: from one record of a connection to the next.
    pub period: Duration,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            bytes_in: ByteSize::mebibytes(100),
            bytes_out: ByteSize::mebibytes(100),
            duration: Duration::from_hours(1),
            period: Duration::from_mins(1),
        }
    }
}

/// The settings of all activities.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Events {
    /// One for each activity, in the table's order.
    settings: Vec<EventSetting>,
    pub thresholds: Thresholds,
    /// `reverse_shell_detected`: programs whose purpose is to give shells to their peers.
    pub login_servers: Vec<ProgramPath>,
}

/// The path of a program in a watched machine; its folders may contain the wildcards `*` and `?`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProgramPath(pub String);

impl Setting for ProgramPath {
    fn read(text: &str, base: &Path) -> Result<Self, String> {
        let Line(text) = Line::read(text, base)?;
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

    pub(crate) fn read(&mut self, section: &mut Section<'_>) {
        for activity in Activity::ALL {
            let mut setting = self.get(*activity);
            let thresholds = &mut self.thresholds;
            // `process_created: false` is the short form of `{ enabled: false }`.
            let mut enabled = setting.enabled;
            section.value_or_section(activity.name(), &mut enabled, |enabled, section| {
                section.value("enabled", enabled);
                section.value("severity", &mut setting.severity);
                thresholds.read(*activity, section);
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
        Self { settings, thresholds: Thresholds::default(), login_servers: Vec::new() }
    }
}

impl Thresholds {
    fn read(&mut self, activity: Activity, section: &mut Section<'_>) {
        let bytes = ByteSize(1)..=ByteSize(u64::MAX);
        match activity {
            Activity::TcpConnectionExcessiveData => {
                section.value_in("bytes_in", &mut self.bytes_in, bytes.clone());
                section.value_in("bytes_out", &mut self.bytes_out, bytes);
            }
            Activity::TcpLongLastingConnection => {
                let range = Duration::from_millis(1)..=Duration::from_hours(365 * 24);
                section.value_in("duration", &mut self.duration, range);
            }
            Activity::TcpNetworkConnectionStatus => {
                let range = Duration::from_millis(1)..=Duration::from_hours(365 * 24);
                section.value_in("period", &mut self.period, range);
            }
            _ => {}
        }
    }
}

impl Setting for Severity {
    fn read(text: &str, _base: &Path) -> Result<Self, String> {
        Self::from_name(&text.to_ascii_uppercase()).ok_or_else(|| {
            format!("is not a severity; write {}", listed(Self::ALL.iter().map(|one| one.name())))
        })
    }
}
