//! Which records an output takes.

use crate::activities::{Activity, Severity};
use crate::preset::Preset;

/// What outputs must know of a record to choose.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    pub(crate) activity: Activity,
    pub(crate) severity: Severity,
    pub(crate) is_alert: bool,
    /// The smallest preset that contains it.
    pub(crate) preset: Preset,
}

/// Which records an output takes: those that fit in each respect.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Filter {
    /// Alerts alone.
    pub alerts_only: bool,
    /// The records of this preset.
    pub preset: Preset,
    /// Records of this severity or a higher one.
    pub severity: Severity,
    pub activities: Activities,
    /// The records about the system of this number ([`Producer::set_system`]) alone.
    ///
    /// [`Producer::set_system`]: crate::queue::Producer::set_system
    pub system: Option<u32>,
}

impl Filter {
    /// All records.
    pub const ALL: Self = Self {
        alerts_only: false,
        preset: Preset::Everything,
        severity: Severity::Info,
        activities: Activities::ALL,
        system: None,
    };

    /// Alerts alone.
    pub const ALERTS: Self = Self { alerts_only: true, ..Self::ALL };

    /// The records of a preset.
    pub const fn of_preset(preset: Preset) -> Self {
        Self { preset, ..Self::ALL }
    }

    /// The records about the system of this number alone.
    pub const fn of_system(number: u32) -> Self {
        Self { system: Some(number), ..Self::ALL }
    }

    pub(crate) fn takes(&self, mark: &Mark) -> bool {
        (mark.is_alert || !self.alerts_only)
            && mark.preset <= self.preset
            && mark.severity >= self.severity
            && self.activities.has(mark.activity)
    }

    pub(crate) fn takes_system(&self, system: Option<u32>) -> bool {
        self.system.is_none() || self.system == system
    }
}

impl Default for Filter {
    fn default() -> Self {
        Self::ALL
    }
}

/// A set of activities, a bit for each.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Activities(u128);

const _: () = assert!(Activity::ALL.len() <= u128::BITS as usize);

impl Activities {
    pub const ALL: Self = Self(u128::MAX);

    /// The set of these.
    pub fn of(activities: impl IntoIterator<Item = Activity>) -> Self {
        Self(activities.into_iter().fold(0, |set, activity| set | 1 << activity as u32))
    }

    const fn has(self, activity: Activity) -> bool {
        self.0 & 1 << activity as u32 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::{Class, QueueSize, Waker, queue};

    /// The records that a filter takes of these.
    fn taken(filter: &Filter, classes: &[(Class, Option<u32>)]) -> Vec<usize> {
        let (mut producer, mut consumer) = queue(QueueSize::default(), &Waker::default());
        for &(class, system) in classes {
            producer.set_system(system);
            producer.try_push(class, b"a record").unwrap();
        }
        producer.flush();
        let block = consumer.pop().unwrap();
        let (mut at, mut found) = (0, Vec::new());
        while at < block.records() {
            assert_eq!(block.wanted_from(filter, at), block.wanted_from(filter, 0) - found.len());
            let run = block.next_wanted(filter, at);
            found.extend(run.clone());
            at = run.end;
        }
        found
    }

    #[test]
    fn a_record_must_fit_in_each_respect() {
        let class = |activity: Activity, severity, is_alert| Class {
            activity,
            severity,
            is_alert,
            preset: activity.preset(),
            ..Class::default()
        };
        let classes = [
            (class(Activity::ProcessCreated, Severity::Info, false), Some(1)),
            (class(Activity::ProcessHidden, Severity::High, true), Some(1)),
            (class(Activity::ProcessHidden, Severity::Low, true), Some(2)),
            (class(Activity::ProcessZombie, Severity::Warning, false), Some(2)),
            (class(Activity::FileDescriptorOpen, Severity::Info, false), None),
            (class(Activity::ServiceInitializationStarted, Severity::Info, false), None),
        ];
        let activities = Activities::of([Activity::ProcessHidden, Activity::FileDescriptorOpen]);
        let severity = Severity::Medium;
        for (filter, expected) in [
            (Filter::ALL, &[0, 1, 2, 3, 4, 5][..]),
            (Filter::ALERTS, &[1, 2]),
            (Filter::of_preset(Preset::Alerts), &[1, 2, 5]),
            (Filter { severity, ..Filter::ALL }, &[1]),
            (Filter { activities, ..Filter::ALL }, &[1, 2, 4]),
            (Filter { activities, ..Filter::of_preset(Preset::Security) }, &[1, 2]),
            (Filter::of_system(2), &[2, 3]),
            (Filter { system: Some(2), ..Filter::ALERTS }, &[2]),
        ] {
            assert_eq!(taken(&filter, &classes), expected, "{filter:?}");
        }
    }
}
