//! Shell history: records of commands typed into shells, and of histories that were cleared or are
//! off.

use core::fmt::Write as _;

use arrayvec::ArrayString;
use panoptes_records::activities::Activity;
use panoptes_records::json::time::Timestamp;
use panoptes_records::record::detection::Confidence;
use panoptes_records::record::shell_history::{ShellCommand, ShellHistoryDetails};
use panoptes_records::record::value::Objects;
use panoptes_records::record::{Details, Record};

use super::Reporter;
use super::describe;
use super::evidence::AlertEvidence;
use super::techniques::{CLEAR_HISTORY, PREVENT_HISTORY};
use super::write::EventSubject;
use crate::detect::Acceptance;
use crate::detect::shell_history::{
    DisableMethod, HistoryChange, HistoryClearing, HistoryEvent, ShellKind, TypedCommand,
};
use crate::state::ScanContext;

/// Maximum length of the reason in bytes.
const REASON_BYTES: usize = 240;

impl Reporter<'_> {
    /// Reports a command, or a history that was cleared or is off.
    pub(super) fn shell_history(
        &mut self,
        cx: &ScanContext<'_>,
        event: &HistoryEvent<'_>,
    ) -> Acceptance {
        let (activity, techniques) = match event.change {
            HistoryChange::Executed(_) => (Activity::ShellCommandExecuted, None),
            HistoryChange::Cleared(_) => (Activity::ShellHistoryCleared, Some(CLEAR_HISTORY)),
            HistoryChange::Disabled { .. } => {
                (Activity::ShellHistoryDisabled, Some(PREVENT_HISTORY))
            }
        };
        if !self.is_wanted(activity) {
            return Acceptance::Yes;
        }
        if !self.admits(event.process.key(), activity) {
            return Acceptance::No;
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
        let subject = EventSubject::process(&event.process);
        let Some(techniques) = techniques else {
            return self.try_write(cx, subject, &record);
        };
        let reason = reason(event);
        let evidence = AlertEvidence {
            reason: &reason,
            techniques,
            confidence: confidence(event.kind, &event.change),
            since_ns: event.since_ns,
            scans: event.scans,
            cause: self.cause().of_history(event),
        };
        self.alert(cx, subject, &record, evidence)
    }
}

/// A command as records and lines contain it.
pub(super) fn shell_command<'a>(command: &TypedCommand<'a>) -> ShellCommand<'a> {
    let time_ns = command.time_s.and_then(|time| time.checked_mul(1_000_000_000));
    ShellCommand {
        command_execution_time_iso_8601_ns: time_ns.map(Timestamp::from_ns),
        command_line: command.line.into(),
    }
}

fn confidence(kind: ShellKind, change: &HistoryChange<'_>) -> Confidence {
    match change {
        // The program that runs at the prompt may clear its own list.
        HistoryChange::Cleared(_) if kind == ShellKind::Python => Confidence::Medium,
        // The list comes back with `fc -P`, and is saved then.
        HistoryChange::Cleared(_) if kind == ShellKind::Zsh => Confidence::Medium,
        // No command is lost yet, or the history is saved as far as is known. Users have reasons
        // for both.
        HistoryChange::Disabled {
            way: DisableMethod::Spaces | DisableMethod::Elsewhere, ..
        } => Confidence::Low,
        // A startup file may have a reason for it, a pattern may have another purpose, and a file
        // or a folder may be made until the shell ends.
        HistoryChange::Disabled { was_on: false, .. }
        | HistoryChange::Disabled {
            way:
                DisableMethod::Ignored
                | DisableMethod::SpecialFile
                | DisableMethod::NotAFile
                | DisableMethod::NoFolder,
            ..
        } => Confidence::Medium,
        _ => Confidence::High,
    }
}

fn reason(event: &HistoryEvent<'_>) -> ArrayString<REASON_BYTES> {
    let mut reason = ArrayString::new();
    let (kind, process) = (event.kind.name(), event.process.process_id);
    let how_cleared = match event.kind {
        ShellKind::Bash => "history -c",
        ShellKind::Zsh => "fc -p",
        ShellKind::Python => "readline.clear_history",
    };
    // Text that does not fit is cut off: the sentence begins with the most important part.
    let _ = match event.change {
        HistoryChange::Executed(_) => Ok(()),
        HistoryChange::Cleared(HistoryClearing::All { count }) => write!(
            reason,
            "all {count} commands that {kind} (process {process}) remembered are gone \
             ({how_cleared})"
        ),
        HistoryChange::Cleared(HistoryClearing::Size { count }) => write!(
            reason,
            "all {count} commands that {kind} (process {process}) remembered are gone: it may \
             remember none (HISTSIZE=0)"
        ),
        HistoryChange::Cleared(HistoryClearing::Some { removed, count }) => write!(
            reason,
            "{removed} of {count} commands that {kind} (process {process}) remembered were taken \
             out (history -d)"
        ),
        HistoryChange::Disabled { way, was_on, value } => {
            let (what, how) = words(event.kind, way, value);
            let since = if was_on { "from now on" } else { "since before it was first seen" };
            let named = way.names_file().then_some(value).filter(|value| !value.is_empty());
            write!(reason, "{kind} (process {process}) {what} {since}: {how}").and_then(|()| {
                named.map_or(Ok(()), |path| write!(reason, ": HISTFILE={}", path.escape_ascii()))
            })
        }
    };
    reason
}

/// What a shell with a history that is disabled so does not do, and how that is.
fn words(kind: ShellKind, way: DisableMethod, value: &[u8]) -> (&'static str, &'static str) {
    const NOT_SAVED: &str = "will not save its history";
    const NO_COMMANDS: &str = "remembers no commands";
    match (kind, way) {
        (ShellKind::Zsh, DisableMethod::NoSize) => (NO_COMMANDS, "HISTSIZE is 1 or less"),
        (ShellKind::Zsh, DisableMethod::NoFileSize) => (NOT_SAVED, "SAVEHIST=0"),
        (ShellKind::Zsh, DisableMethod::Ignored) => {
            (NOT_SAVED, "HISTORY_IGNORE fits nearly all commands")
        }
        (_, DisableMethod::Off) => (NO_COMMANDS, "set +o history"),
        (_, DisableMethod::NoFile) => (NOT_SAVED, "HISTFILE is unset or empty"),
        (_, DisableMethod::NullFile) => (NOT_SAVED, "the file is a device that keeps nothing"),
        (_, DisableMethod::SpecialFile) => (NOT_SAVED, "the file is below /dev, /proc or /sys"),
        (_, DisableMethod::NotAFile) => (NOT_SAVED, "the path cannot be that of a file"),
        (_, DisableMethod::NoFolder) => (NOT_SAVED, "the folder of the file does not exist"),
        (_, DisableMethod::Elsewhere) if value.starts_with(b"/dev/shm/") => {
            ("will save its history in memory only", "a changed path")
        }
        (_, DisableMethod::Elsewhere) => {
            ("will save its history at another place", "a changed path")
        }
        (_, DisableMethod::NoSize) => (NO_COMMANDS, "HISTSIZE=0"),
        (_, DisableMethod::NoFileSize) => (NOT_SAVED, "HISTFILESIZE=0"),
        (_, DisableMethod::Spaces) => {
            ("does not remember what is typed behind a space", "HISTCONTROL has ignorespace")
        }
        (_, DisableMethod::Ignored) => (NO_COMMANDS, "HISTIGNORE fits nearly all of them"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_after_which_the_history_may_be_saved_is_less_certain() {
        let of = |way, was_on| {
            let change = HistoryChange::Disabled { way, was_on, value: b"/nonexistent/x" };
            confidence(ShellKind::Bash, &change)
        };
        assert_eq!(of(DisableMethod::NullFile, true), Confidence::High);
        assert_eq!(of(DisableMethod::NullFile, false), Confidence::Medium);
        for way in [
            DisableMethod::SpecialFile,
            DisableMethod::NotAFile,
            DisableMethod::NoFolder,
            DisableMethod::Ignored,
        ] {
            assert_eq!(of(way, true), Confidence::Medium, "{way:?}");
        }
        assert_eq!(of(DisableMethod::Elsewhere, true), Confidence::Low);
        assert_eq!(of(DisableMethod::Elsewhere, false), Confidence::Low);
    }

    #[test]
    fn a_list_may_be_cleared_for_a_reason() {
        let cleared = HistoryChange::Cleared(HistoryClearing::All { count: 5 });
        assert_eq!(confidence(ShellKind::Python, &cleared), Confidence::Medium);
        assert_eq!(confidence(ShellKind::Zsh, &cleared), Confidence::Medium);
        assert_eq!(confidence(ShellKind::Bash, &cleared), Confidence::High);
    }
}
