//! The records of all threads, in the order of the times when they were reported.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::batches::Emptier;
use super::reported::Records;
use crate::flow::thread_counts::ThreadReport;

/// The records of a thread.
#[derive(Debug)]
struct MergeSource {
    emptier: Emptier<Records>,
    batch: Option<Records>,
    /// The time up to which all its records were passed on.
    until_ns: Arc<AtomicI64>,
}

/// Merges the records of threads.
#[derive(Debug, Default)]
pub(super) struct Merge(Vec<MergeSource>);

impl Merge {
    /// Adds a thread. What it passes on has times that never go back. `until_ns` is the time up to
    /// which it has passed on all: those that follow are later.
    pub(super) fn add(&mut self, emptier: Emptier<Records>, until_ns: Arc<AtomicI64>) {
        self.0.push(MergeSource { emptier, batch: None, until_ns });
    }

    /// Calls `take` with records and their streams, up to so many: those than which no earlier one
    /// can come. Whether there was one.
    pub(super) fn pass(
        &mut self,
        most: usize,
        mut take: impl FnMut(usize, &ThreadReport<'_>),
    ) -> bool {
        for count in 0..most {
            let mut limit_ns = i64::MAX;
            let mut earliest: Option<(i64, usize)> = None;
            for (at, source) in self.0.iter_mut().enumerate() {
                match source.next_time() {
                    Ok(time_ns) if earliest.is_none_or(|(first, _)| time_ns < first) => {
                        earliest = Some((time_ns, at));
                    }
                    Ok(_) => {}
                    Err(until_ns) => limit_ns = limit_ns.min(until_ns),
                }
            }
            let next = earliest.filter(|(time_ns, _)| *time_ns <= limit_ns);
            let batch = next.and_then(|(_, at)| self.0[at].batch.as_mut());
            let Some(batch) = batch else { return count > 0 };
            batch.take(&mut take);
        }
        most > 0
    }
}

impl MergeSource {
    /// The time of its next record, or the time up to which there is none.
    fn next_time(&mut self) -> Result<i64, i64> {
        loop {
            if let Some(time_ns) = self.batch.as_ref().and_then(Records::next_time) {
                return Ok(time_ns);
            }
            if let Some(batch) = self.batch.take() {
                self.emptier.give_back(batch);
            }
            // Read before the batches: it has passed on what it has up to then.
            let until_ns = self.until_ns.load(Ordering::Acquire);
            match self.emptier.next() {
                Some(batch) => self.batch = Some(batch),
                None => return Err(until_ns),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use panoptes_flow::Reports as _;
    use panoptes_records::flow::{Extra, FlowRecord};
    use proptest::prelude::*;

    use super::super::batches::circle;
    use super::super::reported::RecordSender;
    use super::*;

    /// A thread, as a test has it.
    struct Thread {
        sender: RecordSender,
        until_ns: Arc<AtomicI64>,
        now_ns: i64,
    }

    proptest! {
        /// Threads report at their own pace, and records are taken now and then.
        #[test]
        fn records_come_as_if_they_were_sorted(
            threads in 1..5_usize,
            turns in prop::collection::vec((0..5_usize, 0..4_i64, 0..4_usize, 0..20_usize), 0..200),
        ) {
            let mut merge = Merge::default();
            let mut all: Vec<Thread> = (0..threads)
                .map(|_| {
                    let (filler, emptier) = circle(256);
                    let until_ns = Arc::new(AtomicI64::new(i64::MIN));
                    merge.add(emptier, Arc::clone(&until_ns));
                    Thread { sender: RecordSender::new(filler), until_ns, now_ns: 0 }
                })
                .collect();
            let (mut model, mut merged) = (Vec::new(), Vec::new());
            let mut number = 0;
            for (thread, later, records, taken) in turns {
                let thread = thread % threads;
                let Thread { sender, until_ns, now_ns } = &mut all[thread];
                *now_ns = sender.pass_time(*now_ns + later);
                for _ in 0..records {
                    number += 1;
                    let record = FlowRecord { sequence: number, ..FlowRecord::default() };
                    sender.report(&record, &Extra::default());
                    model.push((*now_ns, thread, number));
                }
                sender.pass_on();
                until_ns.store(*now_ns, Ordering::Release);
                merge.pass(taken, |_, reported| merged.extend(sequence(reported)));
                prop_assert!(merged.len() <= model.len());
            }
            for thread in &all {
                thread.until_ns.store(i64::MAX, Ordering::Release);
            }
            while merge.pass(7, |_, reported| merged.extend(sequence(reported))) {}
            model.sort_unstable();
            let expected: Vec<_> = model.iter().map(|(_, _, number)| *number).collect();
            prop_assert_eq!(merged, expected);
        }
    }

    fn sequence(reported: &ThreadReport<'_>) -> Option<u32> {
        let ThreadReport::Flow(record, _) = reported else { return None };
        Some(record.sequence)
    }

    #[test]
    fn a_record_waits_for_threads_that_are_behind() {
        let mut merge = Merge::default();
        let mut senders = [0, 1].map(|_| {
            let (filler, emptier) = circle(4);
            let until_ns = Arc::new(AtomicI64::new(i64::MIN));
            merge.add(emptier, Arc::clone(&until_ns));
            (RecordSender::new(filler), until_ns)
        });
        let [(first, first_until), (_, second_until)] = &mut senders;
        first.pass_time(10);
        first.report(&FlowRecord::default(), &Extra::default());
        first.pass_on();
        first_until.store(10, Ordering::Release);
        let mut count = 0;
        for (until_ns, expected) in [(i64::MIN, 0), (9, 0), (10, 1), (11, 1)] {
            second_until.store(until_ns, Ordering::Release);
            let has_taken = merge.pass(8, |_, _| count += 1);
            assert_eq!((count, has_taken), (expected, until_ns == 10), "{until_ns}");
        }
    }
}
