//! `exceptions`: alerts that are silenced, because what they are about is known.
//!
//! An exception that could never match, or that would switch an activity off, is a mistake. Users
//! of the watched machines choose some of what alerts say of them; what is worth less for that
//! reason is a warning. The engine decides what counts ([`panoptes_engine::policy::exceptions`]).

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::time::SystemTime;

use panoptes_decoders::kernel::task_struct::TASK_COMM_LEN;
use panoptes_engine::container_config::Glob;
use panoptes_engine::policy::exceptions::{self as engine, AddressPattern};
use panoptes_engine::time::RealTime;
use panoptes_records::activities::{Activity, MessageType};
use panoptes_records::record::DetailsKind;

use super::section::{Section, advice};
use super::value::Setting;

/// Alerts that are silenced: those of an activity for which all that is given matches.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Exception {
    activity: Activity,
    process_executable_path: Option<ProgramPattern>,
    process_name: Option<ProcessName>,
    user_id: Option<u32>,
    container: Option<String>,
    image: Option<String>,
    address: Option<PeerPattern>,
    command_line: Option<String>,
    kernel_module_name: Option<String>,
    reason: String,
    until: Option<ExceptionEnd>,
}

/// A pattern of paths of programs, in a folder that it names.
#[derive(Clone, Debug, Eq, PartialEq)]
struct ProgramPattern(String);

/// A pattern of names of processes.
#[derive(Clone, Debug, Eq, PartialEq)]
struct ProcessName(String);

/// Addresses of peers: one, a network or a pattern.
#[derive(Clone, Debug, Eq, PartialEq)]
struct PeerPattern {
    text: String,
    pattern: AddressPattern,
}

/// The time at which an exception ends.
#[derive(Clone, Debug, Eq, PartialEq)]
struct ExceptionEnd {
    text: String,
    /// In seconds since 1970.
    end: i64,
}

/// The activity of an alert.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Alert(Activity);

impl Exception {
    /// Reads one of `exceptions`; `None` if it can't be used. `reads_lines`: whether the arguments
    /// of processes are read in all systems.
    pub(crate) fn read(reads_lines: bool, section: &mut Section<'_>) -> Option<Self> {
        let mut activity: Option<Alert> = None;
        let mut reason: Option<String> = None;
        let mut exception = Self {
            activity: Activity::ProcessHidden,
            process_executable_path: None,
            process_name: None,
            user_id: None,
            container: None,
            image: None,
            address: None,
            command_line: None,
            kernel_module_name: None,
            reason: String::new(),
            until: None,
        };
        section.value("activity", &mut activity);
        section.value("process_executable_path", &mut exception.process_executable_path);
        section.value("process_name", &mut exception.process_name);
        section.value("user_id", &mut exception.user_id);
        section.value("container", &mut exception.container);
        section.value("image", &mut exception.image);
        section.value("address", &mut exception.address);
        section.value("command_line", &mut exception.command_line);
        section.value("kernel_module_name", &mut exception.kernel_module_name);
        section.value("reason", &mut reason);
        section.value("until", &mut exception.until);
        for (key, what) in [
            ("activity", "the alert to silence, such as executable_permissions_added"),
            ("reason", "why these alerts need no attention"),
        ] {
            if !section.has(key) {
                section.refuse(key, format!("`{}` is missing; write {what}", section.full(key)));
            }
        }
        if exception.command_line.is_some() && !reads_lines {
            let message = format!(
                "`{}` silences nothing where `user_memory.command_lines` is false: arguments are \
                 not read there",
                section.full("command_line")
            );
            section.warn("command_line", message);
        }
        exception.activity = activity?.0;
        exception.reason = reason?;
        exception.check(section).then_some(exception)
    }

    /// Whether it silences anything: it has not ended, and has a condition that no process can
    /// choose.
    pub(crate) fn has_effect(&self) -> bool {
        let has_ended = self.until.as_ref().is_some_and(|until| until.end <= now());
        !has_ended && engine::Exception::from(self).can_apply()
    }

    /// Refuses what can never match or always would; warns of what may surprise.
    fn check(&self, section: &Section<'_>) -> bool {
        let name = self.activity.name();
        if !CONDITIONS.iter().any(|key| section.has(key)) {
            let message = format!(
                "`{}` is the only condition, which silences every alert `{name}`; name a program, \
                 a user, a container or an address, or write `default: {{events: {{{name}: \
                 false}}}}`",
                section.full("activity")
            );
            section.refuse("activity", message);
            return false;
        }
        if self.address.is_some() && !has_connection(self.activity) {
            let key = section.full("address");
            section.refuse("address", format!("`{key}`: alerts `{name}` are about no connection"));
            return false;
        }
        for key in CONDITIONS.iter().filter(|key| section.has(key)) {
            let is_of_modules = *key == "kernel_module_name";
            if is_of_modules != has_module(self.activity) {
                let what = if is_of_modules { "no module that hooks" } else { "no process" };
                let message = format!("`{}`: alerts `{name}` are about {what}", section.full(key));
                section.refuse(key, message);
                return false;
            }
        }
        if let Some(until) = self.until.as_ref().filter(|until| until.end <= now()) {
            let key = section.full("until");
            let message = format!(
                "`{key}` was {}: the exception has ended and silences nothing; remove it",
                until.text
            );
            section.warn("until", message);
        }
        self.warn_of_the_forgeable(section);
        true
    }

    /// Warns if all that is given could be chosen by a user of the watched machine.
    fn warn_of_the_forgeable(&self, section: &Section<'_>) {
        let is_given = |key: &&&str| section.has(key);
        if !engine::Exception::from(self).can_apply() {
            for key in ["process_name", "command_line"].iter().filter(is_given) {
                let message = format!(
                    "`{}` can be chosen by any process, so it counts only together with \
                     `process_executable_path`, `container` or `image`: this exception silences \
                     nothing",
                    section.full(key)
                );
                section.warn(key, message);
            }
            return;
        }
        let is_proven =
            ["process_executable_path", "user_id", "address"].iter().any(|key| section.has(key));
        let container = ["container", "image"].iter().find(is_given);
        if let Some(key) = container.filter(|_| !is_proven) {
            let message = format!(
                "`{}` is for whatever runs in a container that root's runtime made (those of other \
                 users never count); name the program, too, by `process_executable_path`",
                section.full(key)
            );
            section.warn(key, message);
        }
        let path = "process_executable_path";
        let is_narrowed =
            ["user_id", "container", "image", "address"].iter().any(|key| section.has(key));
        if self.activity == Activity::ReverseShellDetected && section.has(path) && !is_narrowed {
            let message = format!(
                "`{}` matches if any process between the shell and its peer runs it; an attacker \
                 who runs it there is silenced, so name the peer, too, by `address`",
                section.full(path)
            );
            section.warn(path, message);
        }
    }
}

/// The keys that are conditions beside the activity.
const CONDITIONS: [&str; 8] = [
    "process_executable_path",
    "process_name",
    "user_id",
    "container",
    "image",
    "address",
    "command_line",
    "kernel_module_name",
];

fn has_connection(activity: Activity) -> bool {
    matches!(activity.info().own, DetailsKind::NetworkConnection | DetailsKind::ReverseShell)
}

/// Whether its alerts may be about what a kernel module does that hides nothing of itself.
fn has_module(activity: Activity) -> bool {
    activity == Activity::KernelHookDetected
}

fn can_be_silenced(activity: Activity) -> bool {
    has_process(activity) || has_module(activity)
}

fn has_process(activity: Activity) -> bool {
    let info = activity.info();
    matches!(info.own, DetailsKind::Process | DetailsKind::ReverseShell)
        || info.parents.contains(&DetailsKind::Process)
}

impl fmt::Display for Exception {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "alerts {} are silenced", self.activity.name())?;
        let conditions = [
            self.process_executable_path.as_ref().map(Setting::show),
            self.process_name.as_ref().map(Setting::show),
            self.user_id.as_ref().map(Setting::show),
            self.container.clone(),
            self.image.clone(),
            self.address.as_ref().map(Setting::show),
            self.command_line.clone(),
            self.kernel_module_name.clone(),
        ];
        for (key, value) in CONDITIONS.iter().zip(conditions) {
            if let Some(value) = value {
                write!(out, ", {key} {value}")?;
            }
        }
        if let Some(until) = &self.until {
            write!(out, ", until {}", until.text)?;
        }
        write!(out, ": {}", self.reason)
    }
}

impl From<&Exception> for engine::Exception {
    fn from(exception: &Exception) -> Self {
        let glob = |text: &Option<String>| text.as_deref().map(Glob::new);
        let ns = |until: &ExceptionEnd| RealTime::from_ns(until.end.saturating_mul(1_000_000_000));
        let path = exception.process_executable_path.as_ref();
        Self {
            activity: exception.activity,
            process_executable_path: path.map(|pattern| Glob::new(&pattern.0)),
            process_name: exception.process_name.as_ref().map(|name| Glob::new(&name.0)),
            user_id: exception.user_id,
            container: glob(&exception.container),
            image: glob(&exception.image),
            address: exception.address.as_ref().map(|addresses| addresses.pattern.clone()),
            command_line: glob(&exception.command_line),
            kernel_module_name: glob(&exception.kernel_module_name),
            reason: exception.reason.as_str().into(),
            until: exception.until.as_ref().map(ns),
        }
    }
}

impl Setting for Alert {
    const FORM: &'static str = "alert";

    fn show(&self) -> String {
        self.0.name().to_owned()
    }

    fn read(text: &str, _base: &Path) -> Result<Self, String> {
        let is_alert = |one: &Activity| one.info().message_type == MessageType::Alert;
        match Activity::from_name(text) {
            Some(activity) if !is_alert(&activity) => Err(format!(
                "is not an alert, and exceptions silence only alerts; to have no such events, \
                 write `default: {{events: {{{}: false}}}}`",
                activity.name()
            )),
            Some(activity) if !can_be_silenced(activity) => {
                Err("is about no process and no connection, so no exception matches it".to_owned())
            }
            Some(activity) => Ok(Self(activity)),
            None => {
                let is_possible = |one: &&Activity| is_alert(one) && can_be_silenced(**one);
                let alerts = Activity::ALL.iter().filter(is_possible);
                let names: Vec<&str> = alerts.map(|activity| activity.name()).collect();
                Err(format!("is not an alert; {}", advice(text, &names)))
            }
        }
    }
}

impl Setting for ProgramPattern {
    const FORM: &'static str = "pattern of paths of programs";

    fn show(&self) -> String {
        self.0.clone()
    }

    fn read(text: &str, base: &Path) -> Result<Self, String> {
        let text = String::read(text, base)?;
        let beginning = text.split(['*', '?']).next().unwrap_or_default();
        if !beginning.starts_with('/') || beginning.len() < 2 {
            let why = "does not begin with a folder; write a path such as /usr/bin/node or \
                       /opt/agent/*/bin/agent";
            return Err(why.to_owned());
        }
        Ok(Self(text))
    }
}

/// The bytes of a process's name that Linux keeps.
const NAME_BYTES: usize = TASK_COMM_LEN - 1;

impl Setting for ProcessName {
    const FORM: &'static str = "pattern of names";

    fn show(&self) -> String {
        self.0.clone()
    }

    fn read(text: &str, base: &Path) -> Result<Self, String> {
        let text = String::read(text, base)?;
        if text.bytes().filter(|&byte| byte != b'*').count() > NAME_BYTES {
            return Err(format!(
                "is longer than the {NAME_BYTES} bytes of a process's name that Linux keeps"
            ));
        }
        Ok(Self(text))
    }
}

impl Setting for PeerPattern {
    const FORM: &'static str = "address, network or pattern";

    fn show(&self) -> String {
        self.text.clone()
    }

    fn read(text: &str, _base: &Path) -> Result<Self, String> {
        let pattern = pattern_of(text)
            .ok_or("is not an address; write one such as 10.0.0.7, 10.0.0.0/8 or 10.0.*")?;
        Ok(Self { text: text.to_owned(), pattern })
    }
}

fn pattern_of(text: &str) -> Option<AddressPattern> {
    let bits = |address: &IpAddr| if address.is_ipv4() { 32 } else { 128 };
    if let Ok(address) = text.parse::<IpAddr>() {
        let address = address.to_canonical();
        return Some(AddressPattern::Network(address, bits(&address)));
    }
    if let Some((address, prefix)) = text.split_once('/') {
        let (address, prefix) = (address.parse().ok()?, prefix.parse().ok()?);
        return (prefix <= bits(&address)).then_some(AddressPattern::Network(address, prefix));
    }
    let is_part = |byte: u8| byte.is_ascii_hexdigit() || b".:*?".contains(&byte);
    let is_pattern = text.contains(['*', '?']) && text.bytes().all(is_part);
    is_pattern.then(|| AddressPattern::Glob(Glob::new(&text.to_ascii_lowercase())))
}

impl Setting for ExceptionEnd {
    const FORM: &'static str = "date, or date and time";

    fn show(&self) -> String {
        self.text.clone()
    }

    fn read(text: &str, _base: &Path) -> Result<Self, String> {
        let end = end_of(text).ok_or(
            "is not a date; write one such as 2027-03-31 (to the end of that day) or \
             2027-03-31T18:00:00Z",
        )?;
        Ok(Self { text: text.to_owned(), end })
    }
}

/// The end of a day, or a time, in seconds since 1970.
fn end_of(text: &str) -> Option<i64> {
    let (date, time) = match text.split_once(['T', 't', ' ']) {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let day = day_number(year, month, day)?;
    match time {
        None => Some((day + 1) * DAY),
        Some(time) => Some(day * DAY + seconds_of(time)?),
    }
}

const DAY: i64 = 86_400;

/// The seconds of a time of day with its offset from UTC: `18:00:00Z`, `18:00+02:00`.
fn seconds_of(time: &str) -> Option<i64> {
    let at = time.find(['Z', 'z', '+', '-'])?;
    let (clock, offset) = time.split_at(at);
    let [hour, minute, second] = match clock.len() {
        5 => numbers(&format!("{clock}:00"), ':', [2, 2, 2])?,
        _ => numbers(clock, ':', [2, 2, 2])?,
    };
    let offset = match offset.split_at(1) {
        ("Z" | "z", "") => 0,
        (sign, offset) => {
            let [hours, minutes] = numbers(offset, ':', [2, 2])?;
            let seconds = (hours * 60 + minutes) * 60;
            let is_valid = hours < 24 && minutes < 60;
            is_valid.then_some(if sign == "-" { -seconds } else { seconds })?
        }
    };
    (hour < 24 && minute < 60 && second < 60).then_some((hour * 60 + minute) * 60 + second - offset)
}

/// Numbers of so many digits with this between them.
fn numbers<const N: usize>(text: &str, between: char, digits: [usize; N]) -> Option<[i64; N]> {
    let mut numbers = [0; N];
    let mut parts = text.split(between);
    for (number, digits) in numbers.iter_mut().zip(digits) {
        let part = parts.next().filter(|part| part.len() == digits)?;
        let is_number = part.bytes().all(|byte| byte.is_ascii_digit());
        *number = part.parse().ok().filter(|_| is_number)?;
    }
    parts.next().is_none().then_some(numbers)
}

/// The number of days from 1970-01-01 to a date; `None` if there is no such date.
fn day_number(year: i64, month: i64, day: i64) -> Option<i64> {
    let is_leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = [31, if is_leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let before = usize::try_from(month).ok()?.checked_sub(1)?;
    if !(1970..).contains(&year) || !(1..=*days.get(before)?).contains(&day) {
        return None;
    }
    let years: i64 = (1970..year).map(|year| if is_leap(year) { 366 } else { 365 }).sum();
    Some(years + days.iter().take(before).sum::<i64>() + day - 1)
}

/// Seconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
