//! Which records a receiver gets.

use panoptes_engine::container_config::Glob;
use panoptes_records::activities::{Activity, Preset, Severity};
use panoptes_records::filter::{Activities, Filter, FlowRecords};

use super::LogSettings;
use super::values::ActivityName;
use crate::config::events::{EventSwitch, Events};
use crate::config::section::Section;
use crate::config::value::{AutoOr, Setting as _};

/// Which records a receiver gets: those that fit in each respect.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RecordChoice {
    pub preset: Preset,
    /// No record below this severity.
    pub severity: Severity,
    /// Only these of the preset; `None`: all.
    pub activities: Option<Vec<Activity>>,
    /// Whether it gets records of flows, too.
    pub flows: bool,
    /// Only records about systems with such names (`*` and `?`), and those about Panoptes itself;
    /// empty: all.
    pub systems: Vec<String>,
}

impl RecordChoice {
    /// `can_have_flows`: whether its form has what records of flows have.
    pub(super) fn read(
        others: &LogSettings<'_>,
        can_have_flows: bool,
        section: &mut Section<'_>,
    ) -> Self {
        let (mut preset, mut severity) = (AutoOr::Auto, Severity::Info);
        section.value("preset", &mut preset);
        section.value("severity", &mut severity);
        let preset = match preset {
            AutoOr::Auto => others.preset,
            AutoOr::Given(preset) => preset,
        };
        let (mut names, mut systems) = (Vec::new(), Vec::new());
        section.checked_values("activities", &mut names, |name| match name {
            ActivityName::Activity(activity) => check_activity(*activity, preset, &others.events),
            ActivityName::NetworkFlow => check_flows(can_have_flows, preset),
        });
        section.values("systems", &mut systems);
        let are_flows_named = names.iter().any(|name| matches!(name, ActivityName::NetworkFlow));
        // They have no severity: that of events.
        let is_everything = preset == Preset::Everything && severity == Severity::Info;
        let flows = can_have_flows && is_everything && (names.is_empty() || are_flows_named);
        let activities = (!names.is_empty()).then(|| {
            let activity = |name| match name {
                ActivityName::Activity(activity) => Some(activity),
                ActivityName::NetworkFlow => None,
            };
            names.into_iter().filter_map(activity).collect()
        });
        Self { preset, severity, activities, flows, systems }
    }

    /// What the receiver's output takes; `number` is the receiver's place in the list.
    pub fn filter(&self, number: usize) -> Filter {
        let activities = match &self.activities {
            None => Activities::ALL,
            Some(some) => Activities::of(some.iter().copied()),
        };
        let flows = if self.flows { FlowRecords::With } else { FlowRecords::Without };
        let receiver = u8::try_from(number).ok().filter(|_| !self.systems.is_empty());
        let (preset, severity) = (self.preset, self.severity);
        Filter { preset, severity, activities, receiver, flows, ..Filter::ALL }
    }

    /// Patterns of the names of systems that it is about; none: all systems.
    pub(crate) fn systems(&self) -> Vec<Glob> {
        self.systems.iter().map(|pattern| Glob::new(pattern)).collect()
    }
}

/// Refuses records of flows where a receiver would never get them.
fn check_flows(can_have_flows: bool, preset: Preset) -> Result<(), String> {
    if !can_have_flows {
        return Err(
            "is not possible with `format: ocsf` or `ecs`, whose events are activities".to_owned()
        );
    }
    if preset < Preset::Everything {
        let preset = preset.show();
        return Err(format!("is not in the preset {preset}; write `preset: everything`"));
    }
    Ok(())
}

/// Refuses an activity that a receiver of this preset would never get: to name it narrows what the
/// receiver gets, and changes nothing for the other outputs.
fn check_activity(activity: Activity, preset: Preset, events: &[&Events]) -> Result<(), String> {
    if events.iter().any(|events| events.is_in(activity, preset)) {
        return Ok(());
    }
    let is_off = |events: &&Events| events.get(activity).enabled == EventSwitch::Never;
    if events.iter().all(is_off) {
        return Err("is off; enable it in `events`".to_owned());
    }
    let (needed, preset) = (activity.preset().show(), preset.show());
    Err(format!(
        "is not in the preset {preset}; write `preset: {needed}`, or enable it in `events`"
    ))
}
