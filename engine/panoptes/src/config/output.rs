//! `output`: where records go.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use panoptes_records::activities::Preset;
use panoptes_records::record::RECORD_BYTES_MAX;
use panoptes_records::redact::{PATTERNS_MAX, Pattern, Redactor};
use panoptes_sinks::output::lines::LineForm;

use super::events::Events;
use super::header::HeaderForm;
use super::section::Section;
use super::service::Compatibility;
use super::telemetry::{self, NetworkAddress, Telemetry};
use super::value::{AutoOr, ByteSize, FolderOrNone, KeywordSetting, Setting};

/// Where records go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OutputSettings {
    /// Whether records go to standard output.
    pub stdout: bool,
    /// The folder of the event log; `None` is no event log.
    pub log_folder: Option<PathBuf>,
    /// Whether each system has an event log of its own, too.
    pub log_per_system: bool,
    /// A file that reaches this size is rotated.
    pub rotate_size: ByteSize,
    /// How many files are kept, including the current one.
    pub max_files: u32,
    pub sync: Sync,
    /// Which activities the outputs have; auto is everything, and security on a terminal.
    pub preset: AutoOr<Preset>,
    pub header: HeaderForm,
    /// `user_data` of every record.
    pub user_data: String,
    /// Texts to replace in arguments and shell commands.
    pub redact: Vec<Arc<Pattern>>,
    /// Remote receivers of records.
    pub telemetry: Vec<Telemetry>,
    /// The address that serves metrics of the program.
    pub metrics: Option<NetworkAddress>,
}

/// When written records are forced to the disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sync {
    /// Left to the operating system.
    Never,
    /// At most this long after the write.
    Every(Duration),
    /// With every write.
    Always,
}

impl OutputSettings {
    /// Reads the section. `log_folder` is the option of the command line, which may be a path that
    /// is not text; `events` are those of `default` and of all systems.
    pub(crate) fn read(
        &mut self,
        log_folder: Option<&Path>,
        compatibility: Compatibility,
        events: Vec<&Events>,
        section: &mut Section<'_>,
    ) {
        section.value("stdout", &mut self.stdout);
        let mut folder = FolderOrNone(self.log_folder.take());
        section.value("log_folder", &mut folder);
        self.log_folder = log_folder.map(Path::to_owned).or(folder.0);
        if let Some(folder) = log_folder {
            let folder = folder.display().to_string();
            section.note_option("log_folder", folder.clone(), format!("--log-folder {folder}"));
        }
        section.value("log_per_system", &mut self.log_per_system);
        if self.log_per_system && self.log_folder.is_none() {
            let message = format!("`{}` needs a log_folder", section.full("log_per_system"));
            section.refuse("log_per_system", message);
        }
        section.value_in(
            "rotate_size",
            &mut self.rotate_size,
            ROTATE_SIZE_MIN..=ByteSize::UNBOUNDED,
        );
        section.value_in("max_files", &mut self.max_files, 1..=1000);
        section.value("sync", &mut self.sync);
        if let Sync::Every(duration) = self.sync
            && !(Duration::from_millis(1)..=Duration::from_hours(1)).contains(&duration)
        {
            let message = format!(
                "`{}` is {}; it must be from 1ms to 1h, or never or always",
                section.full("sync"),
                duration.show()
            );
            section.refuse("sync", message);
        }
        section.value("preset", &mut self.preset);
        section.value("header", &mut self.header);
        let mut user_data = UserData(std::mem::take(&mut self.user_data));
        section.value("user_data", &mut user_data);
        self.user_data = user_data.0;
        section.values("redact", &mut self.redact);
        if self.redact.len() > PATTERNS_MAX {
            let (key, count) = (section.full("redact"), self.redact.len());
            let message =
                format!("`{key}` has {count} patterns; at most {PATTERNS_MAX} are possible");
            section.refuse("redact", message);
        }
        let needs_full_header = compatibility == Compatibility::DocaArgus;
        if needs_full_header && self.header == HeaderForm::Compact {
            section.refuse("header", HeaderForm::full_is_needed(&section.full("header")));
        }
        let (preset, header) = (self.preset(), self.header);
        let others = telemetry::LogSettings { preset, header, needs_full_header, events };
        self.telemetry = telemetry::read(&others, section);
        if !self.stdout && self.log_folder.is_none() && self.telemetry.is_empty() {
            let message =
                "`output` sends records nowhere; give it a log_folder, stdout or telemetry";
            section.refuse("log_folder", message);
        }
        section.section("metrics", |section| {
            let mut address = self.metrics.take().map(MetricsAddress);
            section.value("address", &mut address);
            self.metrics = address.map(|address| address.0);
        });
    }
}

impl OutputSettings {
    /// The size at which a file is rotated, and how many old files are kept beside it.
    pub(crate) fn rotation(&self) -> (u64, u32) {
        (self.rotate_size.0, self.max_files.saturating_sub(1))
    }

    /// What finds the secrets in arguments and shell commands.
    pub fn redactor(&self) -> Option<Redactor> {
        Redactor::new(&self.redact)
    }

    /// The form of records for programs.
    pub fn form(&self) -> LineForm {
        self.header.form()
    }

    /// The preset of logs, and of standard output that is no terminal.
    pub fn preset(&self) -> Preset {
        self.preset_or(Preset::default())
    }

    /// The preset of a terminal on which a person watches.
    pub fn preset_on_terminal(&self) -> Preset {
        self.preset_or(Preset::Security)
    }

    /// The largest preset of all outputs, of which standard output has `stdout`: the rest is not
    /// collected.
    pub(crate) fn collected(&self, stdout: Preset) -> Preset {
        let log = self.log_folder.as_ref().map(|_| self.preset());
        let receivers = self.telemetry.iter().map(|receiver| receiver.choice.preset);
        let all = log.into_iter().chain(self.stdout.then_some(stdout)).chain(receivers);
        all.max().unwrap_or_default()
    }

    fn preset_or(&self, preset: Preset) -> Preset {
        match self.preset {
            AutoOr::Auto => preset,
            AutoOr::Given(preset) => preset,
        }
    }
}

impl Default for OutputSettings {
    fn default() -> Self {
        Self {
            stdout: false,
            log_folder: None,
            log_per_system: false,
            rotate_size: ByteSize::mebibytes(64),
            max_files: 10,
            sync: Sync::Every(Duration::from_secs(1)),
            preset: AutoOr::Auto,
            header: HeaderForm::Full,
            user_data: "NONE".to_owned(),
            redact: Vec::new(),
            telemetry: Vec::new(),
            metrics: None,
        }
    }
}

/// Free text of a bounded length, since every record contains it.
struct UserData(String);

impl Setting for UserData {
    const FORM: &'static str = "text";

    fn show(&self) -> String {
        self.0.clone()
    }

    fn read(text: &str, _base: &Path) -> Result<Self, String> {
        if text.len() > USER_DATA_BYTES_MAX {
            return Err(format!("is longer than {USER_DATA_BYTES_MAX} bytes"));
        }
        Ok(Self(text.to_owned()))
    }
}

/// Where metrics are served: on the loopback interface, unless another address is written.
struct MetricsAddress(NetworkAddress);

impl Setting for MetricsAddress {
    const FORM: &'static str = "host:port, or a port of 127.0.0.1";

    fn show(&self) -> String {
        self.0.show()
    }

    fn read(text: &str, base: &Path) -> Result<Self, String> {
        let is_port = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let local = format!("127.0.0.1:{text}");
        NetworkAddress::read(if is_port { &local } else { text }, base).map(Self)
    }
}

impl Setting for Arc<Pattern> {
    const FORM: &'static str = "regular expression";

    fn show(&self) -> String {
        self.text().to_owned()
    }

    fn read(text: &str, _base: &Path) -> Result<Self, String> {
        Pattern::new(text).map(Self::new).map_err(|error| error.to_string())
    }
}

impl Setting for Sync {
    const FORM: &'static str = "duration from 1ms to 1h, never or always";

    fn show(&self) -> String {
        match self {
            Self::Never => "never".to_owned(),
            Self::Always => "always".to_owned(),
            Self::Every(duration) => duration.show(),
        }
    }

    fn read(text: &str, base: &Path) -> Result<Self, String> {
        match text {
            "never" => Ok(Self::Never),
            "always" => Ok(Self::Always),
            _ => Duration::read(text, base)
                .map(Self::Every)
                .map_err(|_| "is not one of never, always, or a duration such as 1s".to_owned()),
        }
    }
}

impl KeywordSetting for Preset {
    const WORDS: &'static [(&'static str, Self)] = &[
        (Self::Alerts.word(), Self::Alerts),
        (Self::Security.word(), Self::Security),
        (Self::Everything.word(), Self::Everything),
    ];
}

/// A record is at most 31 KiB and is never split over two files.
const ROTATE_SIZE_MIN: ByteSize = ByteSize(64 << 10);

/// Leaves most of a record, which is at most 31 KiB, for other data.
const USER_DATA_BYTES_MAX: usize = 4096;
const _: () = {
    assert!(ROTATE_SIZE_MIN.0 >= RECORD_BYTES_MAX as u64, "a file holds the longest record");
    // Quotation marks are escaped.
    assert!(2 * USER_DATA_BYTES_MAX < RECORD_BYTES_MAX / 2);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syncing_is_never_always_or_a_time() {
        let read = |text| Sync::read(text, Path::new(""));
        assert_eq!(read("never"), Ok(Sync::Never));
        assert_eq!(read("always"), Ok(Sync::Always));
        assert_eq!(read("1s"), Ok(Sync::Every(Duration::from_secs(1))));
        assert!(read("sometimes").is_err());
    }

    #[test]
    fn metrics_are_served_nowhere_or_on_the_loopback_interface_unless_an_address_is_written() {
        assert_eq!(OutputSettings::default().metrics, None);
        let read = |text| MetricsAddress::read(text, Path::new("")).map(|address| address.show());
        assert_eq!(read("9464").as_deref(), Ok("127.0.0.1:9464"));
        assert_eq!(read("10.0.0.7:9464").as_deref(), Ok("10.0.0.7:9464"));
        for wrong in ["", "0", "65536", ":9464", "host"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
