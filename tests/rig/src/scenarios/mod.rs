//! Scenarios: acts inside a guest, the records that a watcher must emit for them, and must not.
//!
//! A [`Scenario`] is a row of a table: scripts that bash runs inside, and the records that must
//! follow, by value. An expected record must come exactly as often as stated; an alert that is not
//! expected is *extra*, and so is one record too many. The twins, which look hostile and are not,
//! expect no alert, but a record which shows that the watcher saw them at all.
//!
//! Acts that no script inside can do, a rootkit's work on the kernel's memory, are done from
//! outside: [`Scenario::host`].
//!
//! Start reading at [`Scenario`]; [`run`] plays scenarios; the scenarios are in
//! `tests/scenarios`, and `load` reads them.

mod image;
mod load;
mod moments;
mod outcome;
mod pace;
mod run;
pub mod shells;
mod stage;
mod tables;
pub mod twins;
mod upgrade;
pub(crate) mod watcher;

pub use load::all;
pub use outcome::{Outcome, Report};
pub use run::{Choice, HostAct, run};
pub use tables::{acts, ways};
pub use watcher::Volume;

use std::time::Duration;

use crate::userland::Userland;

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// As in the list of scenarios, with a letter if one has several forms: `F04`, `F04b`.
    pub id: &'static str,
    /// The description for people.
    pub name: &'static str,
    pub stage: Stage,
    /// bash, before records count. `fact NAME VALUE` defines `$NAME` for the expectations.
    pub prepare: &'static str,
    /// Acts from outside, after `prepare` and before `act`: words, in which `$NAME` stands for a
    /// fact. `pause MILLISECONDS` pauses the machine for that time; other acts are for
    /// [`Choice::host`].
    pub host: &'static [&'static str],
    /// bash; runs `act` right before the act that must be seen, unless that is done from outside.
    /// Processes that must be seen live until they were: `pace` has the functions for that.
    pub act: &'static str,
    /// Acts from outside when every expected record came or its time was over; before `clean`.
    pub undo: &'static [&'static str],
    /// bash, after that.
    pub clean: &'static str,
    /// The records that must come, each exactly as often as stated.
    pub expect: &'static [Expected],
    /// Maximum time from the last fact that the first record names to that record; from the act if
    /// the guest's kernel has not noted that fact.
    pub within: Option<Duration>,
    /// Further records that may come. A change of a file's content may come if the scripts name the
    /// file.
    pub besides: &'static [Expected],
}

/// The watcher's knowledge of what should run. One watcher serves all scenarios of a stage, in the
/// order here.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Stage {
    /// The guest's root and an image, as shipped.
    Shipped,
    /// Also newer packages.
    Upgraded,
    /// Nothing, so nothing is foreign: only behaviour counts. Files may be written.
    Behaviour,
    /// The same, with thresholds of fifteen seconds for long connections and one mebibyte for large
    /// ones.
    Thresholds,
    /// As `Behaviour`, in a guest with many more programs.
    Equipped,
    /// In such a guest, too, but each change of a file counts.
    Administered,
}

impl Stage {
    /// The root of this stage's guests.
    const fn userland(self) -> Userland {
        match self {
            Self::Equipped | Self::Administered => Userland::Equipped,
            _ => Userland::Debian,
        }
    }

    /// Whether the watcher has lists of what should run.
    const fn has_lists(self) -> bool {
        matches!(self, Self::Shipped | Self::Upgraded)
    }

    /// Whether files may change without an alert that counts as extra.
    const fn is_about_behaviour(self) -> bool {
        matches!(self, Self::Behaviour | Self::Thresholds | Self::Equipped)
    }
}

/// A record that must come, or may.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// `activity_data.name`; any name if empty.
    pub activity: &'static str,
    /// Fields and their required values: as `key`, `value`.
    pub fields: &'static [(&'static str, &'static str)],
    pub count: Count,
    /// A field in which no two of the records may be equal.
    pub distinct: Option<&'static str>,
}

/// How often a record must come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Count {
    Exactly(usize),
    AtLeast(usize),
}

impl Scenario {
    /// A scenario without scripts, in the first stage.
    pub const fn new(id: &'static str, name: &'static str) -> Self {
        Self {
            id,
            name,
            stage: Stage::Shipped,
            prepare: "",
            host: &[],
            act: "",
            undo: &[],
            clean: "",
            expect: &[],
            within: None,
            besides: &[],
        }
    }

    /// Whether changes of files are what the scenario tests.
    fn is_about_changes(&self) -> bool {
        self.stage == Stage::Administered
            || self.expect.iter().any(|expected| is_of_change(expected.activity))
    }
}

const CONTENT_CHANGE: &str = "file_descriptor_file_content_change";
/// The same, by a descriptor that no scan has seen.
const PATH_CHANGE: &str = "file_content_change";
/// Permissions or an owner.
const PERMISSION_CHANGE: &str = "file_permissions_changed";

const PROCESS_CREATED: &str = "process_created";
const PROCESS_TERMINATED: &str = "process_terminated";
/// Something was not seen.
const DEGRADED: &str = "coverage_degraded";

/// Whether an activity is about a changed file.
fn is_of_change(activity: &str) -> bool {
    [CONTENT_CHANGE, PATH_CHANGE, PERMISSION_CHANGE].contains(&activity)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the first part of a field's name may be: see `outcome::field`.
    const KINDS: [&str; 17] = [
        "record",
        "detection",
        "changed",
        "container_context",
        "process",
        "process_executed",
        "process_memory",
        "thread",
        "container",
        "file",
        "file_descriptor",
        "elf_file",
        "network_connection",
        "package",
        "reverse_shell",
        "shell_history",
        "system_activity",
    ];

    #[test]
    fn every_scenario_has_a_name_of_its_own_and_can_fail() {
        for scenario in all().unwrap() {
            assert!(!scenario.expect.is_empty(), "{} expects nothing at all", scenario.id);
            let all = scenario.expect.iter().chain(scenario.besides);
            for (key, _) in all.flat_map(|expected| expected.fields) {
                let kind = key.split_once('.').map_or(*key, |(kind, _)| kind);
                assert!(KINDS.contains(&kind), "{}: no record has {key}", scenario.id);
            }
            assert!(
                !scenario.host.is_empty()
                    || ["\nact\n", "\nact;", " act\n", " act;", " act)", "@act"].iter().any(
                        |word| { scenario.act.contains(word) || scenario.act.starts_with("act\n") }
                    ),
                "{} never runs `act`",
                scenario.id
            );
        }
    }
}
