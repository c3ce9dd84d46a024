//! How many records of each activity the writer has received.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::activities::{Activity, MessageType};
use crate::queue::RecordBlock;

/// Counts of records; any thread may read them at any time.
#[derive(Debug)]
pub struct RecordCounts([Kinds; Activity::ALL.len()]);

/// Records of one activity: those that are no alerts, and alerts.
type Kinds = [AtomicU64; 2];

impl Default for RecordCounts {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Kinds::default()))
    }
}

impl RecordCounts {
    /// Counts the records of a block that have an activity.
    pub fn add(&self, block: &RecordBlock) {
        for index in 0..block.records() {
            let mark = block.mark(index);
            if mark.is_flow {
                continue;
            }
            let kinds = &self.0[mark.activity as usize];
            kinds[usize::from(mark.is_alert)].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The number of records of each activity. One whose records can be alerts or events occurs
    /// twice.
    pub fn all(&self) -> impl Iterator<Item = (Activity, MessageType, u64)> {
        Activity::ALL.iter().zip(&self.0).flat_map(|(&activity, kinds)| {
            let [others, alerts] = kinds.each_ref().map(|count| count.load(Ordering::Relaxed));
            let usual = activity.info().message_type;
            let is_weighed = activity.is_weighed();
            let first = if is_weighed { MessageType::Event } else { usual };
            let one = (activity, first, if is_weighed { others } else { others + alerts });
            let second = is_weighed.then_some((activity, MessageType::Alert, alerts));
            [Some(one), second].into_iter().flatten()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::{QueueSize, RecordClass, Waker, queue};

    #[test]
    fn records_are_counted_by_activity_and_kind() {
        let (mut producer, mut consumer) = queue(QueueSize::default(), &Waker::default());
        let changed = Activity::FileContentChange;
        for (activity, is_alert) in [
            (Activity::ProcessCreated, false),
            (changed, true),
            (changed, false),
            (Activity::ProcessCreated, false),
            (changed, false),
        ] {
            let class = RecordClass { activity, is_alert, ..RecordClass::default() };
            producer.push_with(class, |_| Ok(0)).unwrap();
        }
        producer
            .push_with(RecordClass { is_flow: true, ..RecordClass::default() }, |_| Ok(0))
            .unwrap();
        producer.flush();
        let counts = RecordCounts::default();
        counts.add(&consumer.pop().unwrap());
        let found: Vec<_> = counts.all().filter(|(.., count)| *count > 0).collect();
        let expected = [
            (Activity::ProcessCreated, MessageType::Event, 2),
            (changed, MessageType::Event, 2),
            (changed, MessageType::Alert, 1),
        ];
        assert_eq!(found, expected);
        assert_eq!(counts.all().count(), Activity::ALL.len() + 3, "three activities are weighed");
    }
}
