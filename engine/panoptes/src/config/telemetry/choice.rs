//! Which records a receiver gets.

use panoptes_engine::container_config::Glob;
use panoptes_sinks::activities::{Activity, Preset, Severity};
use panoptes_sinks::filter::{Activities, Filter};

use super::Others;
use super::values::ActivityName;
use crate::config::events::{Enabled, Events};
use crate::config::section::Section;
use crate::config::value::{AutoOr, Setting as _};

/// Which records a receiver gets: those that fit in each respect.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RecordChoice {
    pub preset: Preset,
    /// No record below this severity.
    pub severity: Severity,
    /// Only these of the preset; empty: all.
    pub activities: Vec<Activity>,
    /// Only records about systems with such names (`*` and `?`), and those about Panoptes itself;
    /// empty: all.
    pub systems: Vec<String>,
}

impl RecordChoice {
    pub(super) fn read(others: &Others<'_>, section: &mut Section<'_>) -> Self {
        let (mut preset, mut severity) = (AutoOr::Auto, Severity::Info);
        section.value("preset", &mut preset);
        section.value("severity", &mut severity);
        let preset = match preset {
            AutoOr::Auto => others.preset,
            AutoOr::Given(preset) => preset,
        };
        let (mut names, mut systems) = (Vec::new(), Vec::new());
        section.checked_values("activities", &mut names, |ActivityName(activity)| {
            check_activity(*activity, preset, &others.events)
        });
        section.values("systems", &mut systems);
        let activities = names.into_iter().map(|ActivityName(activity)| activity).collect();
        Self { preset, severity, activities, systems }
    }

    /// What the receiver's output takes; `number` is the receiver's place in the list.
    pub fn filter(&self, number: usize) -> Filter {
        let activities = match self.activities.as_slice() {
            [] => Activities::ALL,
            some => Activities::of(some.iter().copied()),
        };
        let receiver = u8::try_from(number).ok().filter(|_| !self.systems.is_empty());
        let (preset, severity) = (self.preset, self.severity);
        Filter { preset, severity, activities, receiver, ..Filter::ALL }
    }

    /// Patterns of the names of systems that it is about; none: all systems.
    pub(crate) fn systems(&self) -> Vec<Glob> {
        self.systems.iter().map(|pattern| Glob::new(pattern)).collect()
    }
}

/// Refuses an activity that a receiver of this preset would never get: to name it narrows what the
/// receiver gets, and changes nothing for the other outputs.
fn check_activity(activity: Activity, preset: Preset, events: &[&Events]) -> Result<(), String> {
    if events.iter().any(|events| events.is_in(activity, preset)) {
        return Ok(());
    }
    let is_off = |events: &&Events| events.get(activity).enabled == Enabled::Never;
    if events.iter().all(is_off) {
        return Err("is off; enable it in `events`".to_owned());
    }
    let (needed, preset) = (activity.preset().show(), preset.show());
    Err(format!(
        "is not in the preset {preset}; write `preset: {needed}`, or enable it in `events`"
    ))
}
