//! Which records an output takes.

use crate::activities::{Activity, Severity};
use crate::preset::Preset;

/// What outputs must know of a record to choose.
#[derive(Clone, Copy, Debug)]
pub struct RecordAttributes {
    pub activity: Activity,
    pub severity: Severity,
    pub is_alert: bool,
    /// The smallest preset that contains it.
    pub preset: Preset,
    /// Whether it is one of the sensor of flows, which has no activity.
    pub is_flow: bool,
}

/// The name that stands for the records of the sensor of flows where others have an activity.
pub const NETWORK_FLOW: &str = "network_flow";

/// Whether an output takes the records of the sensor of flows. They have no activity, severity or
/// preset.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum FlowRecords {
    #[default]
    Without,
    /// Those, too.
    With,
    /// Those alone.
    Alone,
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
    /// The records about the system of this number ([`FilterSubject::system`]) alone.
    pub system: Option<u32>,
    /// The number of this output, if it takes some systems only: those that have its bit
    /// ([`FilterSubject::receivers`]).
    pub receiver: Option<u8>,
    pub flows: FlowRecords,
}

/// What records are about, for outputs that choose by it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FilterSubject {
    /// The number of a system that has an output of its own.
    pub system: Option<u32>,
    /// A bit for each of the outputs that take some systems only, set if it takes this one.
    pub receivers: u64,
}

/// Maximum number of receivers.
pub const RECEIVERS_MAX: usize = u64::BITS as usize - 1;

/// The number of the debug log's file of records ([`Filter::receiver`]).
pub const DEBUG_RECEIVER: u8 = RECEIVERS_MAX as u8;

impl FilterSubject {
    /// No system: records about Panoptes itself.
    pub const SERVICE: Self = Self { system: None, receivers: u64::MAX };
}

impl Filter {
    /// All records but those of flows.
    pub const ALL: Self = Self {
        alerts_only: false,
        preset: Preset::Everything,
        severity: Severity::Info,
        activities: Activities::ALL,
        system: None,
        receiver: None,
        flows: FlowRecords::Without,
    };

    /// The records of a preset.
    pub const fn of_preset(preset: Preset) -> Self {
        Self { preset, ..Self::ALL }
    }

    pub fn takes(&self, mark: RecordAttributes) -> bool {
        if mark.is_flow {
            return !matches!(self.flows, FlowRecords::Without);
        }
        !matches!(self.flows, FlowRecords::Alone)
            && (mark.is_alert || !self.alerts_only)
            && mark.preset <= self.preset
            && mark.severity >= self.severity
            && self.activities.has(mark.activity)
    }

    pub fn takes_subject(&self, subject: &FilterSubject) -> bool {
        (self.system.is_none() || self.system == subject.system)
            && self.receiver.is_none_or(|number| subject.receivers >> number & 1 != 0)
    }
}

impl Default for FilterSubject {
    fn default() -> Self {
        Self::SERVICE
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
    use crate::queue::{QueueSize, RecordClass, Waker, queue};

    /// The records that a filter takes of these.
    fn taken(filter: &Filter, classes: &[(RecordClass, FilterSubject)]) -> Vec<usize> {
        let (mut producer, mut consumer) = queue(QueueSize::default(), &Waker::default());
        for &(class, subject) in classes {
            producer.set_subject(subject);
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
    fn flow_records_go_where_they_are_wanted_whatever_else_is() {
        let (flow, event) =
            (RecordClass { is_flow: true, ..RecordClass::default() }, RecordClass::default());
        let of = |class| (class, FilterSubject::SERVICE);
        let records = [of(event), of(flow), of(event), of(flow)];
        let few = Filter { alerts_only: true, activities: Activities::of([]), ..Filter::ALL };
        for (flows, expected, of_few) in [
            (FlowRecords::Without, &[0, 2][..], &[][..]),
            (FlowRecords::With, &[0, 1, 2, 3], &[1, 3]),
            (FlowRecords::Alone, &[1, 3], &[1, 3]),
        ] {
            assert_eq!(taken(&Filter { flows, ..Filter::ALL }, &records), expected, "{flows:?}");
            assert_eq!(taken(&Filter { flows, ..few }, &records), of_few, "{flows:?}");
        }
    }

    #[test]
    fn a_record_must_fit_in_each_respect() {
        let class = |activity: Activity, severity, is_alert| RecordClass {
            activity,
            severity,
            is_alert,
            preset: activity.preset(),
            ..RecordClass::default()
        };
        let of = |system, receivers| FilterSubject { system: Some(system), receivers };
        let (first, second, service) = (of(1, 0b01), of(2, 0b11), FilterSubject::SERVICE);
        let classes = [
            (class(Activity::ProcessCreated, Severity::Info, false), first),
            (class(Activity::ProcessHidden, Severity::High, true), first),
            (class(Activity::ProcessHidden, Severity::Low, true), second),
            (class(Activity::ProcessZombie, Severity::Warning, false), second),
            (class(Activity::FileDescriptorOpen, Severity::Info, false), service),
            (class(Activity::ServiceInitializationStarted, Severity::Info, false), service),
        ];
        let activities = Activities::of([Activity::ProcessHidden, Activity::FileDescriptorOpen]);
        let (severity, alerts_only) = (Severity::Medium, true);
        let of_system = Filter { system: Some(2), ..Filter::ALL };
        for (filter, expected) in [
            (Filter::ALL, &[0, 1, 2, 3, 4, 5][..]),
            (Filter { alerts_only, ..Filter::ALL }, &[1, 2]),
            (Filter::of_preset(Preset::Alerts), &[1, 2, 5]),
            (Filter { severity, ..Filter::ALL }, &[1]),
            (Filter { activities, ..Filter::ALL }, &[1, 2, 4]),
            (Filter { activities, ..Filter::of_preset(Preset::Security) }, &[1, 2]),
            (of_system, &[2, 3]),
            (Filter { alerts_only, ..of_system }, &[2]),
            (Filter { receiver: Some(0), ..Filter::ALL }, &[0, 1, 2, 3, 4, 5]),
            (Filter { receiver: Some(1), ..Filter::ALL }, &[2, 3, 4, 5]),
            (Filter { receiver: Some(63), ..Filter::ALL }, &[4, 5]),
            (Filter { receiver: Some(1), alerts_only, ..Filter::ALL }, &[2]),
        ] {
            assert_eq!(taken(&filter, &classes), expected, "{filter:?}");
        }
    }
}
