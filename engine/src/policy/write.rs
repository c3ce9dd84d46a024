//! How a record is written: with its container, its incident and, for alerts, its evidence.

use panoptes_records::activities::{Activity, Severity};
use panoptes_records::json::Full;
use panoptes_records::record::process::ProcessDetails;
use panoptes_records::record::value::Uuid;
use panoptes_records::record::{Details, Record};

use super::causes::Cause;
use super::containers::RecordDecision;
use super::evidence::{AlertEvidence, CopyReason};
use super::exceptions::{AlertSubject, Processes};
use super::incidents::Party;
use super::last_contents::ChangedContent;
use super::repetitions::{Common, Treatment};
use super::{Policy, Reporter, describe};
use crate::detect::Acceptance;
use crate::detect::reverse_shells::ChainMember;
use crate::state::ScanContext;
use crate::state::container::{Container, ContainerKey};
use crate::state::facts::{ConnectionFacts, ProcessFacts};
use crate::state::process::{Process, ProcessKey};

/// What became of a record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum RecordOutcome {
    Yes,
    /// Its container is not reported.
    Silent,
    /// The queue is full.
    No,
}

impl From<RecordOutcome> for Acceptance {
    fn from(written: RecordOutcome) -> Self {
        if written == RecordOutcome::No { Self::No } else { Self::Yes }
    }
}

impl Reporter<'_> {
    pub(super) fn is_wanted(&self, activity: Activity) -> bool {
        self.policy.config.is_enabled(activity)
    }

    /// Writes the record of a change. No later scan shows the change again: an event that finds no
    /// room is lost.
    pub(super) fn write(
        &mut self,
        cx: &ScanContext<'_>,
        subject: EventSubject<'_>,
        record: &Record<'_>,
    ) {
        let _ = self.try_write(cx, subject, record);
    }

    /// Writes a record, unless its container is not reported. An urgent record that finds no room
    /// in the queue is kept for the next scan.
    pub(super) fn try_write(
        &mut self,
        cx: &ScanContext<'_>,
        subject: EventSubject<'_>,
        record: &Record<'_>,
    ) -> Acceptance {
        let Policy { writer, incidents, .. } = &mut *self.policy;
        let id = writer.next_id(cx.now.real.ns());
        let incident = incidents.find(subject.process, subject.connection);
        self.write_as(id, cx, subject, &Record { incident, ..*record }).into()
    }

    /// Whether an alert of a process is accepted now: there may be too many. To be asked before a
    /// record is made.
    pub(super) fn admits(&self, process: ProcessKey, activity: Activity) -> bool {
        !self.is_wanted(activity) || self.policy.alert_floods.admits(process, activity)
    }

    /// Writes an alert's record with its evidence, if the alert is wanted and no exception silences
    /// it.
    pub(super) fn alert(
        &mut self,
        cx: &ScanContext<'_>,
        subject: EventSubject<'_>,
        record: &Record<'_>,
        evidence: AlertEvidence<'_>,
    ) -> Acceptance {
        let activity = record.activity;
        if !self.is_wanted(activity) || self.is_silenced(cx, activity, subject) {
            return Acceptance::Yes;
        }
        let own = subject.process.map(|process| Party { process, includes_children: true });
        let parties = if subject.parties.is_empty() { own.as_slice() } else { subject.parties };
        let of_party = parties.iter().map(|party| party.process);
        let found = self.policy.incidents.find(of_party, subject.connection);
        let is_high = activity.info().severity >= Severity::High && !parties.is_empty();
        let common = self.common(cx, subject, record, &evidence, is_high);
        let treatment = self.policy.repetitions.treat(&common);
        // Alerts of one cause are one story.
        let found = found.or(treatment.incident);
        let act = subject.content.and_then(|content| content.act).filter(|_| treatment.is_first);
        let act = act.map(|cause| AlertEvidence { cause, ..evidence });
        let act = act.map(|act| self.common(cx, subject, record, &act, is_high));
        if let Some(counted) = self.counted(&common, treatment, act) {
            self.count_repetition(cx, subject, &counted, found);
            if let Some(incident) = found.filter(|_| is_high) {
                self.join_incident(cx, subject, incident, parties);
            }
            return Acceptance::Yes;
        }
        for details in record.parents.iter().chain([&record.own]) {
            if let Details::Process(details) = details {
                self.write_beginning(cx, subject, details);
            }
        }
        let Policy { writer, incidents, ancestors, .. } = &mut *self.policy;
        let id = writer.next_id(cx.now.real.ns());
        let begins = is_high && found.is_none();
        let incident = found.or(begins.then_some(id));
        let earlier = if begins { incidents.earlier(parties, id) } else { <_>::default() };
        let mut ancestors = ancestors.take();
        let parent = subject.parent.filter(|_| is_high).unwrap_or(0);
        let line = ancestors.as_mut().map(|ancestors| ancestors.of(cx.snapshot, parent));
        let (line, is_cut) = line.unwrap_or_default();
        let mut of_copy = CopyReason::new();
        let evidence = evidence.of_copy(cx.snapshot.copied, &mut of_copy);
        let detection = evidence.detection().with_past(&earlier, &line, is_cut);
        let record = Record { detection: Some(&detection), incident, ..*record };
        let written = self.write_as(id, cx, subject, &record);
        drop(line);
        self.policy.ancestors = ancestors;
        if written == RecordOutcome::Yes {
            if let Some(incident) = incident.filter(|_| is_high) {
                self.join_incident(cx, subject, incident, parties);
            }
            let container = subject.key.and_then(|key| cx.containers.find(key));
            let container = container.map(|(_, container)| container.facts(cx.strings).id);
            let container = subject.id.or(container);
            for cause in [Some(common), act].into_iter().flatten() {
                self.policy.repetitions.note_whole(&cause, id, incident, container);
            }
            if let Some(process) = subject.process {
                self.policy.alert_floods.count(process, activity);
            }
        }
        written.into()
    }

    /// What an alert is counted for instead of being written: its cause, or the act that has made
    /// many such changes.
    fn counted(&self, common: &Common, treated: Treatment, act: Option<Common>) -> Option<Common> {
        let act = act.filter(|act| !self.policy.repetitions.treat(act).is_whole);
        let counted = if treated.is_whole { act } else { Some(*common) };
        // Nothing is counted that no record would sum up.
        counted.filter(|_| self.is_wanted(Activity::AlertsSummedUp))
    }

    /// The beginning of the cause of an alert.
    pub(super) const fn cause(&self) -> Cause {
        self.policy.repetitions.cause()
    }

    /// What an alert has in common with others of its cause: the cause itself, and whose it is.
    fn common(
        &self,
        cx: &ScanContext<'_>,
        subject: EventSubject<'_>,
        record: &Record<'_>,
        evidence: &AlertEvidence<'_>,
        is_story: bool,
    ) -> Common {
        let severity = self.policy.header.class_of(record).severity;
        let process = subject.processes.last(cx);
        let user = process.and_then(|process| process.numbers.ids).map(|ids| (ids.uid, ids.euid));
        Common::of(record.activity, severity, evidence, subject.key, user, is_story)
    }

    /// Counts an alert that is not written: several of its cause were.
    fn count_repetition(
        &mut self,
        cx: &ScanContext<'_>,
        subject: EventSubject<'_>,
        common: &Common,
        incident: Option<Uuid>,
    ) {
        let process = subject.processes.last(cx);
        let name = process.as_ref().map_or(&[][..], |process| process.name);
        self.policy.repetitions.count(common, cx.now, incident, name);
        if let Some(content) = &subject.content {
            self.policy.last_contents.note(common.key(), content);
        }
    }

    /// Adds the processes and the connection of an alert to an incident.
    fn join_incident(
        &mut self,
        cx: &ScanContext<'_>,
        subject: EventSubject<'_>,
        incident: Uuid,
        parties: &[Party],
    ) {
        let EventSubject { key, connection, .. } = subject;
        self.policy.incidents.add(cx.snapshot, incident, parties, key, connection);
    }

    /// Writes the record that sums up alerts, with the incident that it has.
    pub(super) fn write_sum(
        &mut self,
        cx: &ScanContext<'_>,
        subject: EventSubject<'_>,
        record: &Record<'_>,
    ) -> Acceptance {
        let id = self.policy.writer.next_id(cx.now.real.ns());
        self.write_as(id, cx, subject, record).into()
    }

    /// Whether an exception silences an alert.
    fn is_silenced(
        &mut self,
        cx: &ScanContext<'_>,
        activity: Activity,
        subject: EventSubject<'_>,
    ) -> bool {
        let Policy { exceptions, containers, .. } = &mut *self.policy;
        let EventSubject { processes, connection, .. } = subject;
        exceptions.silences(cx, activity, AlertSubject { processes, connection }, containers)
    }

    /// Writes that a process began, if that was left out in a flood: an alert about it follows.
    pub(super) fn write_beginning(
        &mut self,
        cx: &ScanContext<'_>,
        subject: EventSubject<'_>,
        details: &ProcessDetails<'_>,
    ) {
        if subject.process.is_some_and(|process| self.policy.unwritten.remove(process)) {
            let record = Record::new(Activity::ProcessCreated, Details::Process(details));
            self.write(cx, subject, &record);
        }
    }

    /// Writes a record with the context of its container.
    fn write_as(
        &mut self,
        message_id: Uuid,
        cx: &ScanContext<'_>,
        subject: EventSubject<'_>,
        record: &Record<'_>,
    ) -> RecordOutcome {
        let Policy { header, writer, containers, undelivered, gaps, incidents, .. } =
            &mut *self.policy;
        let EventSubject { key, id, .. } = subject;
        let class = header.class_of(record);
        // The rules are for what runtimes made. A user can choose every name by which they judge.
        let is_due = class.is_alert || key.is_some_and(ContainerKey::is_by_user);
        let judged = match (key.and_then(|key| cx.containers.find(key)), key, id) {
            (Some((row, container)), ..) => containers.tracked(cx, row, container, is_due),
            (None, _, Some(id)) => containers.untracked(key, id, is_due),
            (None, Some(key), None) => containers.gone(key, is_due),
            (None, None, None) => RecordDecision::Outside,
        };
        let reported = match judged {
            RecordDecision::Silent => return RecordOutcome::Silent,
            RecordDecision::Outside => None,
            RecordDecision::Reported(reported) => Some(reported),
        };
        let context = reported.map(|reported| {
            let machine = &cx.snapshot.machine;
            let address = reported.facts.pod_address(cx.snapshot);
            describe::container_context(&reported.facts, reported.image, address, machine)
        });
        let record = &Record { container: context.as_ref(), ..*record };
        let now_ns = cx.now.real.ns();
        let mut write = |room: &mut [u8]| writer.write_as(message_id, room, header, record, now_ns);
        // Those that wait come first.
        let mut pushed = Err(Full);
        if !class.is_urgent || undelivered.is_empty() {
            pushed = self.out.offer_with(class, &mut write);
        }
        if class.is_urgent {
            pushed = pushed.or_else(|_| undelivered.keep(class, &mut write));
        }
        if pushed.is_ok() {
            if let Some(process) = subject.process {
                let kind = (record.activity, class.is_alert);
                incidents.note_record(cx.snapshot, process, kind, message_id);
            }
            return RecordOutcome::Yes;
        }
        self.out.count_refused(1);
        gaps.refused[usize::from(class.is_urgent)] += 1;
        RecordOutcome::No
    }
}

/// What a record is about: its container, as far as that is known, unless it is outside of
/// containers; its process; and what else decides to which incident it belongs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct EventSubject<'a> {
    key: Option<ContainerKey>,
    id: Option<&'a [u8]>,
    pub(super) process: Option<ProcessKey>,
    /// The process's parent, if it is known.
    parent: Option<u32>,
    /// All processes that an alert is about, if there may be several.
    parties: &'a [Party],
    connection: Option<&'a ConnectionFacts>,
    processes: Processes<'a>,
    /// The content of a changed file.
    content: Option<ChangedContent<'a>>,
}

impl<'a> EventSubject<'a> {
    /// A process, or an object that it holds.
    pub(super) fn process(facts: &'a ProcessFacts<'a>) -> Self {
        Self {
            key: facts.container_key,
            id: facts.container,
            process: Some(facts.key()),
            processes: Processes::Described(facts),
            parent: facts.numbers.parent_process_id.get(),
            ..Self::default()
        }
    }

    /// The same for records that do not list the process's ancestors.
    pub(super) fn of(cx: &ScanContext<'a>, process: &'a Process) -> Self {
        let (key, id) = (process.container_key(), process.container(cx.strings));
        let processes = Processes::Tracked(process);
        Self { key, id, process: Some(process.key), processes, ..Self::default() }
    }

    pub(super) fn container(container: &Container, process: Option<&Process>) -> Self {
        let process = process.map(|process| process.key);
        Self { key: Some(container.key), process, ..Self::default() }
    }

    /// An object whose process has ended, with the process's container.
    pub(super) fn ended(process: ProcessKey, key: Option<ContainerKey>) -> Self {
        Self { key, process: Some(process), ..Self::default() }
    }

    /// What several processes of a container have in common, or of none. `id` is the container's.
    pub(super) fn owned_by(key: Option<ContainerKey>, id: Option<&'a [u8]>) -> Self {
        Self { key, id, ..Self::default() }
    }

    /// The code of a kernel module that the kernel's list has; of none if the name is empty.
    pub(super) fn module(name: &'a str) -> Self {
        let processes = if name.is_empty() { Processes::Unknown } else { Processes::Module(name) };
        Self { processes, ..Self::default() }
    }

    /// Adds the connection that a record is about.
    pub(super) fn with_connection(self, connection: Option<&'a ConnectionFacts>) -> Self {
        Self { connection, ..self }
    }

    /// Adds the content of the changed file that an alert is about.
    pub(super) fn with_content(self, content: ChangedContent<'a>) -> Self {
        Self { content: Some(content), ..self }
    }

    /// Adds all processes that an alert is about.
    pub(super) fn with_parties(self, parties: &'a [Party], members: &'a [ChainMember<'a>]) -> Self {
        Self { parties, processes: Processes::Members(members), ..self }
    }
}
