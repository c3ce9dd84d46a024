//! Each command that is typed into bash is reported with bash's own time. Each method of clearing
//! or disabling the history is distinguished.

use panoptes_rig::Guest;
use serde_json::Value;

use crate::record::{Life, Record, list, nanoseconds};
use crate::watcher::Watcher;
use crate::{barrier, inside};

const EXECUTED: &str = "shell_command_executed";
const CLEARED: &str = "shell_history_cleared";
const DISABLED: &str = "shell_history_disabled";

/// A command and when it was typed, in seconds since 1970.
type Typed = (String, i64);

fn types(guest: &mut Guest, line: &str) -> Vec<String> {
    guest.agent(&format!("shell {line}")).unwrap()
}

/// The history from bash itself.
fn history(guest: &mut Guest) -> Vec<Typed> {
    let output = types(guest, "HISTTIMEFORMAT='%s ' history");
    let of_line = |line: &String| {
        let (number, rest) = line.trim_start().split_once("  ")?;
        number.parse::<u32>().ok()?;
        let (time, command) = rest.split_once(' ')?;
        Some((command.to_owned(), time.parse().ok()?))
    };
    output.iter().filter_map(of_line).collect()
}

fn typed(command: &Value) -> Typed {
    let time = command["command_execution_time_iso_8601_ns"].as_str().expect("bash keeps times");
    let time = nanoseconds(time);
    assert_eq!(time % 1_000_000_000, 0, "bash keeps whole seconds");
    (command["command_line"].as_str().unwrap().to_owned(), time / 1_000_000_000)
}

fn commands(record: &Record) -> Vec<Typed> {
    let all = &record.details("shell_history")["shell_command_execution_history"];
    all.as_array().unwrap().iter().map(typed).collect()
}

fn reason(record: &Record) -> &str {
    record.0["detection"]["reason"].as_str().unwrap_or("")
}

/// Runs the test in a guest that is being watched.
pub(crate) fn are_reported(guest: &mut Guest, watcher: &Watcher) {
    let before = watcher.seen();
    for line in
        ["echo one", "echo 'two  words'", "for i in 1 2; do", "echo $i", "done", "true", "true"]
    {
        types(guest, line);
    }
    let expected = history(guest);
    // The first command is from the history file of the tour's shell, and is not reported again.
    assert_eq!(expected[0].0, "exit");
    assert_eq!(expected.len(), 7, "{expected:?}");
    assert_eq!(expected[3].0, "for i in 1 2; do echo $i; done");
    let is_last = |record: &Record| record.is(EXECUTED) && commands(record).contains(&expected[6]);
    let last = watcher.wait_for_since(before, "the last command", is_last);
    let shell = last.life().unwrap();
    assert_eq!(last.process_name(), "bash");
    let reported = |records: &[Record]| -> Vec<Typed> {
        let of_shell =
            |record: &&Record| record.is(EXECUTED) && record.life().as_ref() == Some(&shell);
        records.iter().filter(of_shell).flat_map(commands).collect()
    };
    assert_eq!(reported(&watcher.records()[before..]), expected[1..]);
    assert_eq!(remembered(guest, shell.process_id), expected);

    scripts_and_subshells_have_none(guest, watcher, &shell);

    types(guest, "history -c");
    let is_cleared =
        |record: &Record, how: &str| record.is(CLEARED) && reason(record).contains(how);
    watcher.wait_for_since(before, "history -c", |record| is_cleared(record, "(history -c)"));
    assert_eq!(history(guest).len(), 1);
    for (line, how) in [
        ("set +o history", "set +o history"),
        ("echo unseen; set -o history; unset HISTFILE", "HISTFILE is unset or empty"),
        ("HISTFILE=/dev/null", "HISTFILE=/dev/null"),
        ("HISTFILE=~/shells HISTFILESIZE=0", "HISTFILESIZE=0"),
        ("HISTIGNORE='ls:*'", "HISTIGNORE fits nearly all of them"),
        ("HISTSIZE=0", "HISTSIZE=0"),
    ] {
        types(guest, line);
        let is_it = |record: &Record| record.is(DISABLED) && reason(record).ends_with(how);
        watcher.wait_for_since(before, how, is_it);
    }
    watcher.wait_for_since(before, "it is empty", |record| is_cleared(record, "(HISTSIZE=0)"));
    barrier::passed(guest, watcher);
    let records = watcher.records();
    let records = &records[before..];
    let of =
        |name: &str| -> Vec<&Record> { records.iter().filter(|record| record.is(name)).collect() };
    let (cleared, disabled) = (of(CLEARED), of(DISABLED));
    assert_eq!(cleared.len(), 2, "{}", list(cleared));
    assert!(reason(cleared[0]).contains("(history -c)"), "{}", cleared[0]);
    assert!(reason(cleared[1]).contains("(HISTSIZE=0)"), "{}", cleared[1]);
    assert_eq!(disabled.len(), 6, "{}", list(disabled));
    for (alerts, technique) in [(cleared, "T1070.003"), (disabled, "T1690")] {
        for alert in alerts {
            assert_eq!(alert.life().as_ref(), Some(&shell), "{alert}");
            assert_eq!(alert.0["severity"], "HIGH");
            assert_eq!(alert.0["detection"]["mitre_attack"][0], technique);
            assert_eq!(alert.0["detection"]["scans_confirmed"], 2);
        }
    }
    let reported = reported(records);
    assert!(!reported.iter().any(|(line, _)| line.contains("unseen")), "{reported:?}");
}

/// Commands of scripts and subshells are in no history. The processes stay until the watcher has
/// scanned them.
fn scripts_and_subshells_have_none(guest: &mut Guest, watcher: &Watcher, shell: &Life) {
    let seen = watcher.seen();
    // With another command after it, `sleep` is a child instead of replacing the shell.
    types(
        guest,
        "bash -c 'set +o history; unset HISTFILE; sleep 1000; true' & \
         (set +o history; HISTSIZE=0; sleep 1000; true) &",
    );
    let children = |all: &[Record], parents: &[Life]| -> Vec<Life> {
        let is_child = |record: &&Record| {
            let parent = &record.process()["process_parent_process_id"];
            record.is("process_created") && parents.iter().any(|life| *parent == life.process_id)
        };
        all[seen..].iter().filter(is_child).filter_map(Record::life).collect()
    };
    let both = watcher.wait("a script and a subshell", |all| {
        let both = children(&all.records, std::slice::from_ref(shell));
        (children(&all.records, &both).len() == 2).then_some(both)
    });
    barrier::passed(guest, watcher);
    for child in children(&watcher.records(), &both) {
        barrier::end(guest, watcher, &child);
    }
    for life in both {
        barrier::wait_for_end(watcher, &life);
    }
}

/// The history of a shell from `panoptes scan`.
fn remembered(guest: &Guest, process_id: u64) -> Vec<Typed> {
    let lines = inside::scan(guest, "shell-history");
    lines.iter().filter(|line| line["process_id"] == process_id).map(typed).collect()
}
