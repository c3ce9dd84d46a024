//! `service`: the program itself.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use panoptes_records::dialect::Dialect;

use super::section::Section;
use super::value::{KeywordSetting, LogLevel, Setting};

/// The settings of the program itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Service {
    /// Whether SIGTERM and SIGINT end the program at once, without last records.
    pub immediate_shutdown: bool,
    pub log_level: LogLevel,
    /// The folder of the debug log, which has messages of every level; `None`: no debug log.
    pub debug_log_folder: Option<PathBuf>,
    /// From the start of one scan to the start of the next.
    pub scan_interval: Duration,
    /// Whether a scan keeps what the one before has read if no task has run since, and leaves what
    /// processes have that have not run.
    pub shortcuts: bool,
    /// Whether a system that starts a process is scanned before the interval is over.
    pub early_scans: bool,
    pub cores: Cores,
    /// The folder for state that outlives the program; `None` is the default
    /// ([`crate::boot_ids::default_folder`]).
    pub state_dir: Option<PathBuf>,
    /// The users whose QEMU processes may be read, by name or number. The user that Panoptes runs
    /// as is always allowed.
    pub guest_users: Vec<String>,
    /// NVIDIA's DOCA libraries: a folder of them, or one file that has all functions. `None`: the
    /// paths of the dynamic linker and of NVIDIA's packages. The library is loaded, and its code
    /// runs, when a `doca:` system is opened or systems are listed.
    pub doca_library_path: Option<PathBuf>,
    pub compatibility: Compatibility,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            immediate_shutdown: false,
            log_level: LogLevel::Info,
            debug_log_folder: None,
            scan_interval: Duration::from_millis(10),
            shortcuts: true,
            early_scans: true,
            cores: Cores::Auto,
            state_dir: None,
            guest_users: ["root", "qemu", "libvirt-qemu"].map(str::to_owned).to_vec(),
            doca_library_path: None,
            compatibility: Compatibility::None,
        }
    }
}

/// The processor cores that scan: one pinned thread on each.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Cores {
    /// One thread, on the last core that the process may use, and more, up to a quarter of the
    /// cores, while they are needed.
    #[default]
    Auto,
    /// Core numbers, ascending.
    Given(Vec<u32>),
}

/// The product whose record format is used.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Compatibility {
    /// The format of Panoptes.
    #[default]
    None,
    /// The format of DOCA Argus, as its consumers read it.
    DocaArgus,
}

impl Service {
    pub(crate) fn read(&mut self, section: &mut Section<'_>) {
        section.value("immediate_shutdown", &mut self.immediate_shutdown);
        section.value("log_level", &mut self.log_level);
        section.value("debug_log_folder", &mut self.debug_log_folder);
        let range = SCAN_INTERVAL_MIN..=SCAN_INTERVAL_MAX;
        section.value_in("scan_interval", &mut self.scan_interval, range);
        section.value("shortcuts", &mut self.shortcuts);
        section.value("early_scans", &mut self.early_scans);
        section.value("cores", &mut self.cores);
        section.value("state_dir", &mut self.state_dir);
        section.values("guest_users", &mut self.guest_users);
        section.value("doca_library_path", &mut self.doca_library_path);
        section.value("compatibility", &mut self.compatibility);
    }
}

impl Compatibility {
    /// The form of the records.
    pub(crate) const fn dialect(self) -> Dialect {
        match self {
            Self::None => Dialect::Panoptes,
            Self::DocaArgus => Dialect::DocaArgus,
        }
    }

    /// The file name of event logs.
    pub(crate) const fn event_log(self) -> &'static str {
        match self {
            Self::None => "events.jsonl",
            Self::DocaArgus => "doca_argus_log.json.log",
        }
    }
}

impl KeywordSetting for Compatibility {
    const WORDS: &'static [(&'static str, Self)] =
        &[("none", Self::None), ("doca_argus", Self::DocaArgus)];
}

impl Setting for Cores {
    const FORM: &'static str = "numbers and ranges, or auto";

    fn show(&self) -> String {
        match self {
            Self::Auto => "auto".to_owned(),
            Self::Given(cores) => cores.iter().map(u32::to_string).collect::<Vec<_>>().join(","),
        }
    }

    /// Reads a list in the syntax of `taskset -c`: `0-3,8`.
    fn read(text: &str, _base: &Path) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let mut cores = BTreeSet::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (Some(first), Some(last)) = (core_number(first), core_number(last)) else {
                return Err(CORES_FORM.to_owned());
            };
            if first > last {
                return Err(format!("has the range {part}; write {last}-{first}"));
            }
            cores.extend(first..=last);
        }
        Ok(Self::Given(cores.into_iter().collect()))
    }
}

fn core_number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().filter(|core| *core <= CORE_MAX)
}

const CORES_FORM: &str =
    "is not a list of core numbers; write auto, or numbers and ranges such as \"2\" or \"0-3,8\"";

/// The largest `NR_CPUS` that kernels are built with is 8192.
const CORE_MAX: u32 = 8191;

const SCAN_INTERVAL_MIN: Duration = Duration::from_millis(1);
const SCAN_INTERVAL_MAX: Duration = Duration::from_hours(24);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_written_as_for_taskset() {
        let read = |text| Cores::read(text, Path::new(""));
        assert_eq!(read("auto"), Ok(Cores::Auto));
        assert_eq!(read("2"), Ok(Cores::Given(vec![2])));
        assert_eq!(read("8,0-3,2"), Ok(Cores::Given(vec![0, 1, 2, 3, 8])));
        for wrong in ["", ",", "1,", "a", "-1", "1-", "3-1", "8192", "0-99999999999"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
