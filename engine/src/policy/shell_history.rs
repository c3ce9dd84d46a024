//! §10.9: records of commands typed into shells, and of histories that were cleared or are off.

use core::fmt::Write as _;

use arrayvec::ArrayString;
use panoptes_sinks::activities::Activity;
use panoptes_sinks::json::time::Timestamp;
use panoptes_sinks::record::detection::{Confidence, Detection};
use panoptes_sinks::record::shell_history::{ShellCommand, ShellHistoryDetails};
use panoptes_sinks::record::value::Objects;
use panoptes_sinks::record::{Details, Record};

use super::describe;
use super::reporter::{Reporter, Subject};
use super::techniques::{ATTACK_VERSION, CLEAR_HISTORY, PREVENT_HISTORY, SENSOR};
use crate::history::{Clearing, Command, Finding, Findings, Way, What};
use crate::state::ScanContext;

/// Maximum length of the reason in bytes.
const REASON_BYTES: usize = 240;

impl Findings for Reporter<'_> {
    fn found(&mut self, scene: &ScanContext<'_>, finding: &Finding<'_>) {
        let (activity, techniques) = match finding.what {
            What::Executed(_) => (Activity::ShellCommandExecuted, None),
            What::Cleared(_) => (Activity::ShellHistoryCleared, Some(CLEAR_HISTORY)),
            What::Disabled { .. } => (Activity::ShellHistoryDisabled, Some(PREVENT_HISTORY)),
        };
        if !self.is_wanted(activity) {
            return;
        }
        let command = match finding.what {
            What::Executed(command) => Some(command),
            // The command before it, if known.
            _ => finding.last,
        };
        let command = command.as_ref().map(shell_command);
        let details =
            ShellHistoryDetails { shell_command_execution_history: Objects(command.as_slice()) };
        let process = describe::process(&finding.process, scene.snapshot.machine.tsc_khz);
        let parents = [Details::Process(&process)];
        let record = Record::new(activity, Details::ShellHistory(&details)).with_parents(&parents);
        let subject = Subject::process(&finding.process);
        let Some(techniques) = techniques else {
            self.write(scene, subject, &record);
            return;
        };
        let reason = reason(finding);
        let detection = Detection {
            reason: Some(reason.as_str().into()),
            mitre_attack: Some(techniques),
            attack_version: Some(ATTACK_VERSION),
            sensor: Some(SENSOR),
            confidence: Some(confidence(&finding.what)),
            first_seen: Some(Timestamp::from_ns(finding.since_ns)),
            scans_confirmed: Some(finding.scans),
        };
        self.write(scene, subject, &Record { detection: Some(&detection), ..record });
    }
}

/// A command as records and lines contain it.
pub(super) fn shell_command<'a>(command: &Command<'a>) -> ShellCommand<'a> {
    let time_ns = command.time_s.and_then(|time| time.checked_mul(1_000_000_000));
    ShellCommand {
        command_execution_time_iso_8601_ns: time_ns.map(Timestamp::from_ns),
        command_line: command.line.into(),
    }
}

fn confidence(what: &What<'_>) -> Confidence {
    match what {
        // No command is lost yet, and users have reasons for it.
        What::Disabled { way: Way::Spaces, .. } => Confidence::Low,
        // A startup file may have a reason for it, and a pattern may have another purpose.
        What::Disabled { was_on: false, .. } | What::Disabled { way: Way::Ignored, .. } => {
            Confidence::Medium
        }
        _ => Confidence::High,
    }
}

fn reason(finding: &Finding<'_>) -> ArrayString<REASON_BYTES> {
    let mut reason = ArrayString::new();
    let process = finding.process.process_id;
    // Text that does not fit is cut off: the sentence begins with the most important part.
    let _ = match finding.what {
        What::Executed(_) => Ok(()),
        What::Cleared(Clearing::All { count }) => write!(
            reason,
            "all {count} commands that bash (process {process}) remembered are gone (history -c)"
        ),
        What::Cleared(Clearing::Size { count }) => write!(
            reason,
            "all {count} commands that bash (process {process}) remembered are gone: it may \
             remember none (HISTSIZE=0)"
        ),
        What::Cleared(Clearing::Some { removed, count }) => write!(
            reason,
            "{removed} of {count} commands that bash (process {process}) remembered were taken out \
             (history -d)"
        ),
        What::Disabled { way, was_on } => {
            let (what, how) = match way {
                Way::Off => ("remembers no commands", "set +o history"),
                Way::NoFile => ("will not save its history", "HISTFILE is unset or empty"),
                Way::NullFile => ("will not save its history", "HISTFILE=/dev/null"),
                Way::NoSize => ("remembers no commands", "HISTSIZE=0"),
                Way::NoFileSize => ("will not save its history", "HISTFILESIZE=0"),
                Way::Spaces => (
                    "does not remember what is typed behind a space",
                    "HISTCONTROL has ignorespace",
                ),
                Way::Ignored => ("remembers no commands", "HISTIGNORE fits all of them"),
            };
            let since = if was_on { "from now on" } else { "since before it was first seen" };
            write!(reason, "bash (process {process}) {what} {since}: {how}")
        }
    };
    reason
}
