//! Records of what was not written or not seen: floods that are summed up, and gaps.

use core::fmt::Write as _;

use arrayvec::ArrayString;
use panoptes_sinks::activities::Activity;
use panoptes_sinks::json::time::Timestamp;
use panoptes_sinks::record::system_activity::SystemActivityDetails;
use panoptes_sinks::record::{Details, Record};

use super::alert_floods::More;
use super::gaps::{Missed, OVER_NS, Report, SECOND_NS};
use super::intervals;
use super::reporter::{Reporter, Subject, describe_process};
use crate::detect::Accepted;
use crate::state::process::Process;
use crate::state::{ScanContext, State};

impl Reporter<'_> {
    /// Reports what was counted of a process that ends.
    pub(super) fn sum_up(&mut self, cx: &ScanContext<'_>, process: &Process) {
        for (activity, more) in self.policy.floods.take(&process.key).into_iter().flatten() {
            self.more_events(cx, process, activity, more);
        }
    }

    /// Reports once a second what was counted of all processes.
    fn sum_up_all(&mut self, cx: &ScanContext<'_>, state: &State) {
        if self.policy.floods.is_over(cx.now.monotonic) {
            self.sum_up_events(cx, state);
        }
    }

    /// Reports what was counted of all processes, and begins to count anew. Those that are not
    /// tracked any more are summed up together.
    fn sum_up_events(&mut self, cx: &ScanContext<'_>, state: &State) {
        for row in 0..self.policy.floods.rows() {
            let Some((key, exceeded)) = self.policy.floods.flooding(row) else { continue };
            let process = state.find(&key);
            for (activity, more) in exceeded {
                match process {
                    Some(process) => self.more_events(cx, process, activity, more),
                    None => self.policy.floods.add_untracked(activity, more),
                }
            }
        }
        for (activity, more) in self.policy.floods.take_untracked() {
            self.more_events_of_others(cx, activity, more);
        }
        self.policy.floods.begin_period(cx.now.monotonic);
    }

    fn more_events(
        &mut self,
        cx: &ScanContext<'_>,
        process: &Process,
        activity: Activity,
        more: u32,
    ) {
        if !self.is_wanted(Activity::EventsSummedUp) {
            return;
        }
        let mut reason = ArrayString::<160>::new();
        let name = activity.name();
        let _ = write!(reason, "{more} more events {name} of this process were not written");
        let details = SystemActivityDetails {
            reason: reason.as_str().into(),
            activity: Some(name),
            count: Some(more.into()),
            ..SystemActivityDetails::default()
        };
        let subject = Subject::of(cx, process);
        let process = describe_process(cx, process);
        let parents = [Details::Process(&process)];
        let record = Record::new(Activity::EventsSummedUp, Details::SystemActivity(&details));
        let accepted = self.try_write(cx, subject, &record.with_parents(&parents));
        self.count_refused_events(accepted, more.into());
    }

    fn more_events_of_others(&mut self, cx: &ScanContext<'_>, activity: Activity, more: u64) {
        let mut reason = ArrayString::<160>::new();
        let name = activity.name();
        let _ = write!(
            reason,
            "{more} more events {name} of processes that are not tracked any more were not written"
        );
        let details = SystemActivityDetails {
            reason: reason.as_str().into(),
            activity: Some(name),
            count: Some(more),
            ..SystemActivityDetails::default()
        };
        let accepted = self.try_system(cx, Activity::EventsSummedUp, &details);
        self.count_refused_events(accepted, more);
    }

    /// Counts the events of a sum that found no room as lost.
    fn count_refused_events(&mut self, accepted: Accepted, more: u64) {
        if accepted == Accepted::No {
            self.policy.gaps.refused[0] += more;
            self.out.count_refused(more);
        }
    }

    /// Reports what is only counted so far: no scan follows. What finds no room is lost.
    pub fn finish(&mut self, cx: &ScanContext<'_>, state: &State) {
        self.sum_up_events(cx, state);
        let mut row = 0;
        while let Some(more) = self.policy.alert_floods.next_more(&mut row) {
            if self.more_alerts(cx, &more) == Accepted::No {
                self.out.count_refused(more.count.into());
            }
            self.policy.alert_floods.forget(&more);
        }
        self.policy.drop_undelivered(self.out);
    }

    /// Ends a scan: reports what was summed up, and what scans begin to miss, still miss, or see
    /// again.
    pub fn end_scan(&mut self, cx: &ScanContext<'_>, state: &State, missed: &Missed) {
        self.sum_up_all(cx, state);
        self.sum_up_alerts(cx);
        self.late_scans(cx);
        let mut gaps = core::mem::take(&mut self.policy.gaps);
        gaps.update(missed, cx.now, |report| self.gap(cx, report));
        // Reporting may have added refused records.
        let refused = self.policy.gaps.refused;
        for (all, more) in gaps.refused.iter_mut().zip(refused) {
            *all += more;
        }
        self.policy.gaps = gaps;
    }

    /// Reports once a minute the alerts that were only counted.
    fn sum_up_alerts(&mut self, cx: &ScanContext<'_>) {
        if self.policy.alert_floods.is_over(cx.now.monotonic) {
            self.write_alert_sums(cx);
        }
    }

    fn write_alert_sums(&mut self, cx: &ScanContext<'_>) {
        let mut row = 0;
        while let Some(more) = self.policy.alert_floods.next_more(&mut row) {
            if self.more_alerts(cx, &more) == Accepted::No {
                return;
            }
            self.policy.alert_floods.forget(&more);
        }
        self.policy.alert_floods.begin_period(cx.now.monotonic);
    }

    fn more_alerts(&mut self, cx: &ScanContext<'_>, more: &More) -> Accepted {
        let More { process, activity, count } = *more;
        let process_id = process.process_id;
        let mut reason = ArrayString::<160>::new();
        let name = activity.name();
        let _ = write!(
            reason,
            "{count} more alerts {name} of process {process_id} were not written in a minute"
        );
        let details = SystemActivityDetails {
            reason: reason.as_str().into(),
            activity: Some(name),
            count: Some(count.into()),
            process_id: Some(process_id),
            ..SystemActivityDetails::default()
        };
        self.try_system(cx, Activity::EventsSummedUp, &details)
    }

    /// Reports scans that are much farther apart than is wanted, or that use more than their
    /// budget.
    fn late_scans(&mut self, cx: &ScanContext<'_>) {
        let Some(reached) = self.policy.intervals.late(cx.now.monotonic) else { return };
        let mut reason = ArrayString::<160>::new();
        let milliseconds = |ns: u64| ns as f64 / 1e6;
        let _ = if reached.is_late() {
            write!(
                reason,
                "scans are {:.1} ms apart on average, not {:.1} ms",
                milliseconds(reached.mean),
                milliseconds(reached.wanted)
            )
        } else {
            write!(reason, "a scan used {} % of its budget of work", reached.budget_used)
        };
        let details = SystemActivityDetails {
            reason: reason.as_str().into(),
            ..intervals::details(Some(reached))
        };
        self.system(cx, Activity::CoverageReport, &details);
    }

    fn gap(&mut self, cx: &ScanContext<'_>, report: &Report) -> Accepted {
        let Report { key, words, .. } = *report;
        let mut reason = ArrayString::<160>::new();
        let activity = if let Some(missed) = report.missed {
            let _ = write!(reason, "{missed} {words}");
            Activity::CoverageDegraded
        } else {
            let _ = write!(reason, "over for {} s: {words}", OVER_NS / SECOND_NS);
            Activity::CoverageRestored
        };
        let details = SystemActivityDetails {
            reason: reason.as_str().into(),
            gap: Some(key),
            missed: report.missed,
            process_id: report.process_id,
            since_iso_8601_ns: Some(Timestamp::from_ns(report.since.ns())),
            ..SystemActivityDetails::default()
        };
        self.try_system(cx, activity, &details)
    }
}
