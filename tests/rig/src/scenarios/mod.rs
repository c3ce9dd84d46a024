//! Scenarios: what is done inside a guest, what a watcher must say of it, and what it must not.
//!
//! A [`Scenario`] is a row of a table: scripts that bash runs inside, and the records that must come of them,
//! by value. What is expected comes exactly as often as said; an alert that nothing expects is *extra*, and so is
//! one record too many. The twins, which look hostile and are not, expect no alert, but something that shows
//! that they were seen at all.
//!
//! What no script inside can do, a rootkit's work on the kernel's memory, the machine outside does: [`Scenario::host`].
//!
//! Start reading at [`Scenario`]; [`run`] is what does it; the tables are in `files`, `libraries`, ….

mod image;
mod load;
mod moments;
mod outcome;
mod pace;
mod run;
pub mod shells;
mod stage;
pub mod twins;
mod upgrade;
mod watcher;

pub use load::all;
pub use outcome::{Outcome, Report};
pub use run::{Choice, HostAct, run};

use crate::userland::Userland;

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// As in the list of scenarios, with a letter where one has several forms: `F04`, `F04b`.
    pub id: &'static str,
    /// For people.
    pub name: &'static str,
    /// What the watcher knows of what should run.
    pub stage: Stage,
    /// bash, before anything counts. `fact NAME VALUE` says what `$NAME` means in the expectations.
    pub prepare: &'static str,
    /// What is done outside, to the machine, after `prepare` and before `act`: words, in which `$NAME` stands for a fact.
    /// `pause MILLISECONDS` lets the machine stand still for so long; anything else is for [`Choice::host`].
    pub host: &'static [&'static str],
    /// bash; says `act` right before what is to be seen, unless that is done outside. What must be
    /// seen lives until it was: `pace` has the words for that.
    pub act: &'static str,
    /// What is done outside, to the machine, when everything was seen or waited for in vain; before `clean`.
    pub undo: &'static [&'static str],
    /// bash, after that.
    pub clean: &'static str,
    /// What must come, each exactly as often as it says.
    pub expect: &'static [Expected],
    /// What may come besides. A change of a file's content may, where the scripts name the file.
    pub besides: &'static [Expected],
}

/// What the watcher knows of what should run. One watcher serves all scenarios of a stage, in the order here.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Stage {
    /// The guest's root and an image, as they were shipped.
    Shipped,
    /// Newer packages, too.
    Upgraded,
    /// Nothing, so that nothing is foreign: what processes do counts, not what they are. Files may be written.
    Behaviour,
    /// The same, where connections are long after fifteen seconds, and large from one mebibyte on.
    Thresholds,
    /// The same as `Behaviour`, in a guest with many more programs.
    Equipped,
}

impl Stage {
    /// What the guests of this stage are made of.
    const fn userland(self) -> Userland {
        match self {
            Self::Equipped => Userland::Equipped,
            _ => Userland::Debian,
        }
    }

    /// Whether files may change without being told of.
    const fn is_about_behaviour(self) -> bool {
        matches!(self, Self::Behaviour | Self::Thresholds | Self::Equipped)
    }
}

/// A record that must come, or may.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// `activity_data.name`; every name where it is empty.
    pub activity: &'static str,
    /// Fields and what they must be: see [`Expected::with`].
    pub fields: &'static [(&'static str, &'static str)],
    /// How often.
    pub count: Count,
    /// A field that no two of them share, if any.
    pub distinct: Option<&'static str>,
}

/// How often a record must come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Count {
    /// Exactly so often.
    Exactly(usize),
    /// At least so often.
    AtLeast(usize),
}

impl Scenario {
    /// One that does nothing yet, while the guest's root is known.
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
            besides: &[],
        }
    }

    /// Whether a changed file is its subject.
    fn is_about_changes(&self) -> bool {
        self.expect.iter().any(|expected| expected.activity == CONTENT_CHANGE)
    }
}

const CONTENT_CHANGE: &str = "file_descriptor_file_content_change";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_has_a_name_of_its_own_and_can_fail() {
        for scenario in all().unwrap() {
            assert!(!scenario.expect.is_empty(), "{} expects nothing at all", scenario.id);
            assert!(
                !scenario.host.is_empty()
                    || ["\nact\n", "\nact;", " act\n", " act;", " act)", "@act"].iter().any(
                        |word| { scenario.act.contains(word) || scenario.act.starts_with("act\n") }
                    ),
                "{} never says when it acts",
                scenario.id
            );
        }
    }
}
