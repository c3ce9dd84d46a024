//! §10.9: records of commands typed into shells, and of histories that were cleared or are off.

use core::fmt::Write as _;

use arrayvec::ArrayString;
use panoptes_sinks::activities::Activity;
use panoptes_sinks::json::time::Timestamp;
use panoptes_sinks::record::detection::Confidence;
use panoptes_sinks::record::shell_history::{ShellCommand, ShellHistoryDetails};
use panoptes_sinks::record::value::Objects;
use panoptes_sinks::record::{Details, Record};

use super::describe;
use super::evidence::Evidence;
use super::techniques::{CLEAR_HISTORY, PREVENT_HISTORY};
use super::writing::{Reporter, Subject};
use crate::detect::Accepted;
use crate::detect::shell_history::{Clearing, Command, DisableMethod, HistoryChange, HistoryEvent};
use crate::state::ScanContext;

/// Maximum length of the reason in bytes.
const REASON_BYTES: usize = 240;

impl Reporter<'_> {
    /// Reports a command, or a history that was cleared or is off.
    pub(super) fn shell_history(
        &mut self,
        cx: &ScanContext<'_>,
        event: &HistoryEvent<'_>,
    ) -> Accepted {
        let (activity, techniques) = match event.change {
            HistoryChange::Executed(_) => (Activity::ShellCommandExecuted, None),
            HistoryChange::Cleared(_) => (Activity::ShellHistoryCleared, Some(CLEAR_HISTORY)),
            HistoryChange::Disabled { .. } => {
                (Activity::ShellHistoryDisabled, Some(PREVENT_HISTORY))
            }
        };
        if !self.is_wanted(activity) {
            return Accepted::Yes;
        }
        if !self.admits(event.process.key(), activity) {
            return Accepted::No;
        }
        let command = match event.change {
            HistoryChange::Executed(command) => Some(command),
            // The command before it, if known.
            _ => event.last,
        };
        let command = command.as_ref().map(shell_command);
        let details = ShellHistoryDetails {
            shell_command_execution_history: Objects::new(command.as_slice()),
        };
        let process = describe::process(&event.process, cx.snapshot.machine.tsc_khz);
        let parents = [Details::Process(&process)];
        let record = Record::new(activity, Details::ShellHistory(&details)).with_parents(&parents);
        let subject = Subject::process(&event.process);
        let Some(techniques) = techniques else {
            return self.try_write(cx, subject, &record);
        };
        let reason = reason(event);
        let evidence = Evidence {
            reason: &reason,
            techniques,
            confidence: confidence(&event.change),
            since_ns: event.since_ns,
            scans: event.scans,
        };
        self.alert(cx, subject, &record, evidence)
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

fn confidence(change: &HistoryChange<'_>) -> Confidence {
    match change {
        // No command is lost yet, and users have reasons for it.
        HistoryChange::Disabled { way: DisableMethod::Spaces, .. } => Confidence::Low,
        // A startup file may have a reason for it, and a pattern may have another purpose.
        HistoryChange::Disabled { was_on: false, .. }
        | HistoryChange::Disabled { way: DisableMethod::Ignored, .. } => Confidence::Medium,
        _ => Confidence::High,
    }
}

fn reason(event: &HistoryEvent<'_>) -> ArrayString<REASON_BYTES> {
    let mut reason = ArrayString::new();
    let process = event.process.process_id;
    // Text that does not fit is cut off: the sentence begins with the most important part.
    let _ = match event.change {
        HistoryChange::Executed(_) => Ok(()),
        HistoryChange::Cleared(Clearing::All { count }) => write!(
            reason,
            "all {count} commands that bash (process {process}) remembered are gone (history -c)"
        ),
        HistoryChange::Cleared(Clearing::Size { count }) => write!(
            reason,
            "all {count} commands that bash (process {process}) remembered are gone: it may \
             remember none (HISTSIZE=0)"
        ),
        HistoryChange::Cleared(Clearing::Some { removed, count }) => write!(
            reason,
            "{removed} of {count} commands that bash (process {process}) remembered were taken out \
             (history -d)"
        ),
        HistoryChange::Disabled { way, was_on } => {
            let (what, how) = match way {
                DisableMethod::Off => ("remembers no commands", "set +o history"),
                DisableMethod::NoFile => {
                    ("will not save its history", "HISTFILE is unset or empty")
                }
                DisableMethod::NullFile => ("will not save its history", "HISTFILE=/dev/null"),
                DisableMethod::NoSize => ("remembers no commands", "HISTSIZE=0"),
                DisableMethod::NoFileSize => ("will not save its history", "HISTFILESIZE=0"),
                DisableMethod::Spaces => (
                    "does not remember what is typed behind a space",
                    "HISTCONTROL has ignorespace",
                ),
                DisableMethod::Ignored => {
                    ("remembers no commands", "HISTIGNORE fits nearly all of them")
                }
            };
            let since = if was_on { "from now on" } else { "since before it was first seen" };
            write!(reason, "bash (process {process}) {what} {since}: {how}")
        }
    };
    reason
}
