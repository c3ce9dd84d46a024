//! Records of what was not written or not seen: floods that are summed up, and gaps.

use core::fmt::Write as _;
use core::mem;

use arrayvec::{ArrayString, ArrayVec};
use panoptes_records::activities::{Activity, MessageType};
use panoptes_records::json::text::Text;
use panoptes_records::json::time::Timestamp;
use panoptes_records::record::detection::Detection;
use panoptes_records::record::header::Weight;
use panoptes_records::record::system_activity::SystemActivityDetails;
use panoptes_records::record::value::Hash;
use panoptes_records::record::{Details, Record};

use super::Reporter;
use super::changes::describe_process;
use super::evidence::AlertEvidence;
use super::gaps::{GAPS_MAX, OVER_NS, Report, ScanShortfall};
use super::intervals::BUDGET_PERCENT;
use super::last_contents::PATHS_MAX;
use super::repetitions::{self, Common, NAMES_MAX, Repetition};
use super::write::EventSubject;
use crate::detect::Acceptance;
use crate::loss::{BlamedProcess, LISTED_MAX};
use crate::state::process::Process;
use crate::state::{MachineState, ScanContext};
use crate::time::SECOND_NS;

impl Reporter<'_> {
    /// Reports what was counted of a process that ends.
    pub(super) fn sum_up(&mut self, cx: &ScanContext<'_>, process: &Process) {
        for (activity, more) in self.policy.floods.take(&process.key).into_iter().flatten() {
            self.more_events(cx, process, activity, more);
        }
    }

    /// Reports once a second what was counted of all processes.
    fn sum_up_all(&mut self, cx: &ScanContext<'_>, state: &MachineState) {
        if self.policy.floods.is_over(cx.now.monotonic) {
            self.sum_up_events(cx, state);
        }
    }

    /// Reports what was counted of all processes, and begins to count anew. Those that are not
    /// tracked any more are summed up together.
    fn sum_up_events(&mut self, cx: &ScanContext<'_>, state: &MachineState) {
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
            let owners = " of processes that are not tracked any more";
            self.more_events_of_others(cx, activity, more, owners);
        }
        self.sum_up_kernel_events(cx);
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
        let owners =
            if is_of_children(activity) { "this process's children" } else { "this process" };
        let _ = write!(reason, "{more} more events {name} of {owners} were not written");
        let details = SystemActivityDetails {
            reason: reason.as_str().into(),
            activity: Some(name),
            count: Some(more.into()),
            ..SystemActivityDetails::default()
        };
        let subject = EventSubject::of(cx, process);
        let process = describe_process(cx, process);
        let parents = [Details::Process(&process)];
        let record = Record::new(Activity::EventsSummedUp, Details::SystemActivity(&details));
        let accepted = self.try_write(cx, subject, &record.with_parents(&parents));
        self.count_refused_events(accepted, more.into());
    }

    /// Reports how many events were not written that have no tracked process.
    pub(super) fn more_events_of_others(
        &mut self,
        cx: &ScanContext<'_>,
        activity: Activity,
        more: u64,
        owners: &str,
    ) {
        let mut reason = ArrayString::<160>::new();
        let name = activity.name();
        let _ = write!(reason, "{more} more events {name}{owners} were not written");
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
    fn count_refused_events(&mut self, accepted: Acceptance, more: u64) {
        if accepted == Acceptance::No {
            self.policy.gaps.refused[0] += more;
            self.out.count_refused(more);
        }
    }

    /// Reports what is only counted so far: no scan follows. What finds no room is lost, and so are
    /// findings that detectors still have.
    pub fn finish(&mut self, cx: &ScanContext<'_>, state: &MachineState, findings_left: u64) {
        self.sum_up_events(cx, state);
        self.finish_alerts(cx);
        self.out.count_refused(findings_left);
        self.policy.drop_undelivered(self.out);
    }

    /// Ends a scan: reports what was summed up.
    pub fn end_scan(&mut self, cx: &ScanContext<'_>, state: &MachineState) {
        self.sum_up_all(cx, state);
        self.sum_up_alerts(cx);
        self.late_scans(cx);
    }

    /// Reports what scans begin to miss, still miss, or see again.
    pub fn report_gaps(&mut self, cx: &ScanContext<'_>, missed: &mut ScanShortfall<'_>) {
        let now = cx.now;
        self.policy.gaps.begin_scan(missed, now.monotonic);
        for gap in 0..GAPS_MAX {
            let Some(report) = self.policy.gaps.report(gap, missed, now) else { continue };
            if self.gap(cx, &report, missed.folder_of(gap)) == Acceptance::Yes {
                self.policy.gaps.accept(gap, missed, &report, now.monotonic);
            }
        }
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
        } else if reached.budget_used > BUDGET_PERCENT {
            write!(reason, "a scan used {} % of its budget of work", reached.budget_used)
        } else {
            write!(
                reason,
                "{} changes were found up to a second late: no task had run by the kernel's counts",
                reached.found_late
            )
        };
        let details = SystemActivityDetails {
            reason: reason.as_str().into(),
            ..self.coverage(Some(reached))
        };
        self.system(cx, Activity::CoverageReport, &details);
    }

    fn gap(&mut self, cx: &ScanContext<'_>, report: &Report, folder: &[u8]) -> Acceptance {
        let Report { key, words, .. } = *report;
        let mut reason = ArrayString::<160>::new();
        let activity = if let Some(missed) = report.missed {
            let _ = write!(reason, "{missed} {words}");
            Activity::CoverageDegraded
        } else {
            let _ = write!(reason, "over for {} s: {words}", OVER_NS / SECOND_NS);
            Activity::CoverageRestored
        };
        let processes: ArrayVec<u32, LISTED_MAX> =
            report.blamed.iter().map(|it| it.process_id).collect();
        let counts: ArrayVec<u64, LISTED_MAX> =
            report.blamed.iter().map(BlamedProcess::missed).collect();
        let stop = report.stop.map(|stop| {
            let mut text = ArrayString::<96>::new();
            let _ = write!(text, "{stop}");
            text
        });
        let has_any = !processes.is_empty();
        let has_folder = report.missed.is_some() && !folder.is_empty();
        let details = SystemActivityDetails {
            reason: reason.as_str().into(),
            gap: Some(key),
            missed: report.missed,
            stop_reason: stop.as_ref().map(|text| text.as_str().into()),
            process_id: processes.last().copied(),
            process_ids: has_any.then_some(&processes),
            missed_by_process: has_any.then_some(&counts),
            further_processes: Some(report.unlisted).filter(|&count| count > 0),
            since_iso_8601_ns: Some(Timestamp::from_ns(report.since.ns())),
            path: has_folder.then(|| folder.into()),
            ..SystemActivityDetails::default()
        };
        self.try_system(cx, activity, &details)
    }
}

impl Reporter<'_> {
    /// Writes the numbers of alerts that were counted for a minute.
    pub(super) fn sum_up_alerts(&mut self, cx: &ScanContext<'_>) {
        if self.policy.repetitions.is_time_to_sum_up() {
            self.sum_up_repetitions(cx, false);
        }
    }

    /// Writes the numbers of all alerts that were counted. What finds no room is lost.
    pub(super) fn finish_alerts(&mut self, cx: &ScanContext<'_>) {
        self.sum_up_repetitions(cx, true);
    }

    fn sum_up_repetitions(&mut self, cx: &ScanContext<'_>, is_end: bool) {
        for row in 0..self.policy.repetitions.rows() {
            let Some(repetition) = self.policy.repetitions.due(row, is_end) else { continue };
            let key = repetition.common.key();
            let is_wanted = self.is_wanted(Activity::AlertsSummedUp);
            if !is_wanted || self.repeated(cx, &repetition) == Acceptance::Yes {
                self.policy.repetitions.accept(row);
                self.policy.last_contents.forget(key);
            } else if is_end {
                self.policy.gaps.refused[1] += u64::from(repetition.count);
                self.out.count_refused(repetition.count.into());
                self.policy.repetitions.accept(row);
                self.policy.last_contents.forget(key);
            }
        }
    }

    /// Writes the number of a cause's alerts.
    fn repeated(&mut self, cx: &ScanContext<'_>, repetition: &Repetition) -> Acceptance {
        let Common { activity, severity, techniques, confidence, container, .. } =
            repetition.common;
        let names: ArrayVec<Text<'_>, NAMES_MAX> = repetition.names().map(Text::from).collect();
        let reason = repetitions::reason(repetition, cx.now);
        let contents = mem::take(&mut self.policy.last_contents);
        let content = contents.get(repetition.common.key());
        let listed = content.iter().flat_map(|content| contents.paths(content));
        let paths: ArrayVec<Text<'_>, PATHS_MAX> = listed.take(PATHS_MAX).map(Text::from).collect();
        // A content that found no room is not known.
        let is_of_files = matches!(
            activity,
            Activity::FileContentChange | Activity::FileDescriptorFileContentChange
        );
        let has_more = content.map_or(is_of_files, |content| content.has_more);
        // None of several files was the only one that changed last.
        let last = content.filter(|_| paths.len() < 2 && !has_more);
        let details = SystemActivityDetails {
            reason: reason.as_str().into(),
            activity: Some(activity.name()),
            count: Some(repetition.count.into()),
            process_names: (!names.is_empty()).then_some(&names),
            path: last.and_then(|_| paths.first().copied()),
            paths: (last.is_none() && !paths.is_empty()).then_some(&paths),
            paths_truncated: has_more.then_some(true),
            last_file_size_bytes: last.map(|last| last.size),
            last_file_modify_time_iso_8601_ns: last
                .map(|last| Timestamp::from_ns(last.modify_time_ns)),
            last_file_hash_sha256: last.and_then(|last| last.sha256).map(Hash),
            ..SystemActivityDetails::default()
        };
        let own = Activity::AlertsSummedUp;
        let evidence = AlertEvidence {
            reason: &reason,
            techniques,
            confidence,
            since_ns: repetition.since.real,
            scans: 1,
            cause: self.cause(),
        };
        let earlier = [repetition.last_whole];
        let detection: Detection<'_> = evidence.detection().with_past(&earlier, &[], false);
        let severity = severity.max(self.policy.header.class(own).severity);
        let record = Record {
            detection: Some(&detection),
            weight: Some(Weight { message_type: MessageType::Alert, severity }),
            incident: repetition.incident,
            ..Record::new(own, Details::SystemActivity(&details))
        };
        let subject = EventSubject::owned_by(container, repetition.container_id());
        let accepted = self.write_sum(cx, subject, &record);
        drop(paths);
        self.policy.last_contents = contents;
        accepted
    }
}

/// Whether events of this kind are about the children of the process for which they count.
fn is_of_children(activity: Activity) -> bool {
    matches!(
        activity,
        Activity::ProcessCreated
            | Activity::ProcessExecuted
            | Activity::ProcessTerminated
            | Activity::ProcessZombie
    )
}
