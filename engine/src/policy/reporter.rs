//! Turns changes into records: the activity of each, its subject, and its reason.
//!
//! There is one function per section of the guide's §10. The state decides what a change means, and
//! the configuration whether it is reported.

use core::fmt::Write as _;
use std::sync::Arc;

use arrayvec::ArrayString;
use panoptes_decoders::kernel::vm_area_struct::VM_EXEC;
use panoptes_sinks::activities::Activity;
use panoptes_sinks::json::Full;
use panoptes_sinks::queue::Producer;
use panoptes_sinks::record::detection::Confidence;
use panoptes_sinks::record::header::Header;
use panoptes_sinks::record::process::ProcessDetails;
use panoptes_sinks::record::system_activity::SystemActivityDetails;
use panoptes_sinks::record::{Details, Record, RecordWriter};

use super::PolicyConfig;
use super::alert_floods::AlertFloods;
use super::containers::{ContainerPolicy, Judged};
use super::describe;
use super::evidence::Evidence;
use super::floods::Floods;
use super::gaps::{GAPS_MAX, Gaps};
use super::hidden;
use super::intervals::{self, Intervals};
use super::techniques::ROOTKIT;
use super::undelivered::Undelivered;
use super::unwritten::Unwritten;
use crate::container_config::ContainerConfig;
use crate::detect::binary_attestation::Shipped;
use crate::detect::{Accepted, Finding, Findings};
use crate::limits::Limits;
use crate::state::container::{Container, ContainerKey};
use crate::state::facts::{AreaFacts, DescriptorFacts, ProcessFacts, ThreadFacts};
use crate::state::process::{Process, ProcessKey};
use crate::state::{AreaBefore, Births, Change, Changes, Limit, ScanContext};
use crate::time::{Monotonic, RealTime};
use panoptes_tables::HashKey;

/// Decides about the records of one machine and writes them.
#[derive(Debug)]
pub struct Policy {
    config: PolicyConfig,
    header: Header,
    writer: RecordWriter,
    containers: ContainerPolicy,
    pub(super) floods: Floods,
    alert_floods: AlertFloods,
    unwritten: Unwritten,
    undelivered: Undelivered,
    pub(super) gaps: Gaps,
    pub(super) intervals: Intervals,
}

impl Policy {
    /// `message_ids` is random, drawn afresh for each machine.
    pub fn new(
        limits: &Limits,
        config: PolicyConfig,
        header: Header,
        message_ids: u64,
        key: HashKey,
    ) -> Self {
        let writer = RecordWriter::new(message_ids, limits.string_length as usize);
        let containers = ContainerPolicy::new(limits.containers);
        let floods = Floods::new(limits, key);
        let alert_floods = AlertFloods::new(limits, key);
        let unwritten = Unwritten::new(limits, key);
        let undelivered = Undelivered::new();
        Self {
            config,
            header,
            writer,
            containers,
            floods,
            alert_floods,
            unwritten,
            undelivered,
            gaps: Gaps::new(),
            intervals: Intervals::new(),
        }
    }

    /// Sets the SBOMs, which may name the images of containers.
    pub fn set_shipped(&mut self, shipped: Arc<Shipped>) {
        self.containers.set_shipped(shipped);
    }

    /// Sets which containers are reported, and their images.
    pub fn set_containers(&mut self, config: Arc<ContainerConfig>) {
        self.containers.set(config);
    }

    pub fn config(&self) -> &PolicyConfig {
        &self.config
    }

    pub fn header_mut(&mut self) -> &mut Header {
        &mut self.header
    }

    /// By gap, how much scans missed since it began; 0 if there is no gap.
    pub fn gap_counts(&self) -> [u64; GAPS_MAX] {
        self.gaps.counts()
    }

    /// Sets the time from one scan to the next that is wanted, in nanoseconds.
    pub fn set_scan_interval(&mut self, ns: u64) {
        self.intervals.wanted = ns;
    }

    /// Notes that a scan begins.
    pub fn note_scan(&mut self, now: Monotonic) {
        self.intervals.note_scan(now);
        self.alert_floods.note_time(now);
    }

    /// Notes how much of its budget of work a scan has used, in percent.
    pub fn note_budget_used(&mut self, percent: u32) {
        self.intervals.note_budget_used(percent);
    }

    /// Passes on urgent records for which the queue had no room before.
    pub fn offer_undelivered(&mut self, out: &mut Producer) {
        if !self.undelivered.is_empty() {
            self.undelivered.offer(out);
        }
    }

    /// Drops urgent records for which the queue had no room, and counts them.
    pub(super) fn drop_undelivered(&mut self, out: &mut Producer) {
        out.count_refused(self.undelivered.clear() as u64);
    }

    /// Accepts all alerts from now on, however many: no scan follows.
    pub fn end_alert_floods(&mut self) {
        self.alert_floods.end();
    }

    /// A receiver of changes that writes records into `out`.
    pub fn reporter<'a>(&'a mut self, out: &'a mut Producer) -> Reporter<'a> {
        Reporter { policy: self, out }
    }
}

/// Turns changes into records.
#[derive(Debug)]
pub struct Reporter<'a> {
    pub(super) policy: &'a mut Policy,
    pub(super) out: &'a mut Producer,
}

impl Changes for Reporter<'_> {
    fn change(&mut self, cx: &ScanContext<'_>, change: &Change<'_>) {
        match *change {
            Change::ProcessCreated(process) => {
                self.process(cx, Activity::ProcessCreated, process);
            }
            Change::ProcessExecuted { process, before, mapped } => {
                self.executed(cx, process, before, mapped);
            }
            Change::ProcessTerminated(process) => {
                self.sum_up(cx, process);
                self.process(cx, Activity::ProcessTerminated, process);
            }
            Change::ProcessZombie(process) => {
                self.process(cx, Activity::ProcessZombie, process);
            }
            Change::ProcessHidden { process, missing, shown, scans, since_ns, is_accepted } => {
                let reason = hidden::reason(process, missing, shown, scans);
                let accepted = self.hidden(cx, process, &reason, scans, since_ns);
                is_accepted.set(accepted == Accepted::Yes);
            }
            Change::ThreadCreated { process, thread } => {
                self.object(cx, Activity::ThreadCreated, process, Object::Thread(&thread));
            }
            Change::ThreadTerminated { process, thread } => {
                self.object(cx, Activity::ThreadTerminated, process, Object::Thread(&thread));
            }
            Change::DescriptorOpened { process, descriptor } => {
                let opened = Object::Descriptor(&descriptor);
                self.object(cx, Activity::FileDescriptorOpen, process, opened);
            }
            Change::DescriptorClosed { process, descriptor } => {
                let closed = Object::Descriptor(&descriptor);
                self.object(cx, Activity::FileDescriptorClose, process, closed);
            }
            Change::AreaMapped { process, area } => self.area_mapped(cx, process, &area),
            Change::AreaUnmapped { process, area } => self.area_unmapped(cx, process, &area),
            Change::AreaPermissionsChanged { process, area, before } => {
                self.code_mapped(cx, process, &area, before);
            }
            // Written files are reported after they are checked.
            Change::WriterClosed { .. } => {}
            Change::ConnectionCreated(ref connection) => {
                self.connection(cx, Activity::NetworkConnectionCreated, connection, None);
            }
            Change::ConnectionTerminated(ref connection) => {
                self.connection(cx, Activity::NetworkConnectionTerminated, connection, None);
            }
            Change::ConnectionStateChanged(ref connection) => {
                self.connection(cx, Activity::TcpNetworkConnectionStateChange, connection, None);
            }
            Change::ConnectionExceeded { change: ref connection, exceeded } => {
                self.connection_exceeded(cx, connection, exceeded);
            }
            Change::ConnectionStatus(ref connection) => {
                self.connection(cx, Activity::TcpNetworkConnectionStatus, connection, None);
            }
            Change::ContainerStarted { container, process } => {
                self.container(cx, Activity::ContainerStarted, container, process);
            }
            Change::ContainerTerminated { container } => {
                self.container(cx, Activity::ContainerTerminated, container, None);
            }
            Change::BirthsMissed(births) => self.births_missed(cx, births),
            Change::LimitReached { limit, capacity, untracked } => {
                self.limit(cx, limit, capacity, Some(untracked));
            }
            Change::LimitCleared { limit, capacity } => self.limit(cx, limit, capacity, None),
        }
    }
}

impl Findings for Reporter<'_> {
    fn found(&mut self, cx: &ScanContext<'_>, finding: &Finding<'_>) -> Accepted {
        match *finding {
            Finding::BinaryAttestation(alert) => self.binary_attestation(cx, alert),
            Finding::FileContent(change) => self.file_content(cx, change),
            Finding::MemoryPermissions(judged) => self.memory_permissions(cx, judged),
            Finding::PackageFiles(found) => self.package_files(cx, found),
            Finding::ReverseShell(shell) => self.reverse_shell(cx, shell),
            Finding::ShellHistory(event) => self.shell_history(cx, event),
        }
    }
}

impl Reporter<'_> {
    /// Writes the record of a change. No later scan shows the change again: an event that finds no
    /// room is lost.
    pub(super) fn write(
        &mut self,
        cx: &ScanContext<'_>,
        subject: Subject<'_>,
        record: &Record<'_>,
    ) {
        let _ = self.try_write(cx, subject, record);
    }

    /// Writes a record with the context of its container, unless that container is not reported. An
    /// urgent record that finds no room in the queue is kept for the next scan.
    pub(super) fn try_write(
        &mut self,
        cx: &ScanContext<'_>,
        subject: Subject<'_>,
        record: &Record<'_>,
    ) -> Accepted {
        let Policy { header, writer, containers, undelivered, gaps, .. } = &mut *self.policy;
        let Subject { key, id, .. } = subject;
        let class = header.class_of(record);
        // The rules are for what runtimes made. A user can choose every name by which they judge.
        let is_due = class.is_alert || key.is_some_and(ContainerKey::is_by_user);
        let judged = match (key.and_then(|key| cx.containers.find(key)), key, id) {
            (Some((row, container)), ..) => containers.tracked(cx, row, container, is_due),
            (None, _, Some(id)) => containers.untracked(key, id, is_due),
            (None, Some(key), None) => containers.gone(key, is_due),
            (None, None, None) => Judged::Outside,
        };
        let reported = match judged {
            Judged::Silent => return Accepted::Yes,
            Judged::Outside => None,
            Judged::Reported(reported) => Some(reported),
        };
        let context = reported.map(|reported| {
            let machine = &cx.snapshot.machine;
            let address = reported.facts.pod_address(cx.snapshot);
            describe::container_context(&reported.facts, reported.image, address, machine)
        });
        let record = &Record { container: context.as_ref(), ..*record };
        let mut write = |room: &mut [u8]| writer.write(room, header, record, cx.now.real.ns());
        // Those that wait come first.
        let mut pushed = Err(Full);
        if !class.is_urgent || undelivered.is_empty() {
            pushed = self.out.offer_with(class, &mut write);
        }
        if class.is_urgent {
            pushed = pushed.or_else(|_| undelivered.keep(class, &mut write));
        }
        if pushed.is_ok() {
            return Accepted::Yes;
        }
        self.out.count_refused(1);
        gaps.refused[usize::from(class.is_urgent)] += 1;
        Accepted::No
    }

    pub(super) fn is_wanted(&self, activity: Activity) -> bool {
        self.policy.config.is_enabled(activity)
    }

    // §10.1

    fn process(&mut self, cx: &ScanContext<'_>, activity: Activity, process: &Process) {
        if activity == Activity::ProcessTerminated {
            self.policy.unwritten.remove(process.key);
        }
        if !self.is_wanted(activity) {
            return;
        }
        let facts = process.facts(cx.strings);
        if !self.admits_child(cx, activity, facts.numbers.parent_process_id) {
            if activity == Activity::ProcessCreated {
                self.policy.unwritten.add(process.key);
            }
            return;
        }
        let details = describe::process(&facts, cx.snapshot.machine.tsc_khz);
        let record = Record::new(activity, Details::Process(&details));
        self.write(cx, Subject::of(cx, process), &record);
    }

    /// Counts an event of a child of a process; returns whether it is written. The children of
    /// process 1, which adopts those of all others, are not a flood of it.
    pub(super) fn admits_child(
        &mut self,
        cx: &ScanContext<'_>,
        activity: Activity,
        parent: Option<u32>,
    ) -> bool {
        let parent = parent.and_then(|parent| cx.snapshot.process_by_pid(parent));
        let parent = parent.and_then(|parent| cx.snapshot.leader(parent));
        let parent = parent.map(|leader| ProcessKey::of(&leader.task));
        parent
            .filter(|parent| parent.process_id > 1)
            .is_none_or(|parent| self.policy.floods.admit(parent, activity))
    }

    /// Writes that a process began, if that was left out in a flood: an alert about it follows.
    pub(super) fn write_beginning(
        &mut self,
        cx: &ScanContext<'_>,
        subject: Subject<'_>,
        details: &ProcessDetails<'_>,
    ) {
        if subject.process.is_some_and(|process| self.policy.unwritten.remove(process)) {
            let record = Record::new(Activity::ProcessCreated, Details::Process(details));
            self.write(cx, subject, &record);
        }
    }

    fn hidden(
        &mut self,
        cx: &ScanContext<'_>,
        process: &Process,
        reason: &str,
        scans: u32,
        since_ns: RealTime,
    ) -> Accepted {
        let activity = Activity::ProcessHidden;
        let details = describe_process(cx, process);
        let record = Record::new(activity, Details::Process(&details));
        let (techniques, confidence) = (ROOTKIT, Confidence::High);
        let evidence = Evidence { reason, techniques, confidence, since_ns, scans };
        self.alert(cx, Subject::of(cx, process), &record, evidence)
    }

    // §10.5

    fn area_mapped(&mut self, cx: &ScanContext<'_>, process: &Process, area: &AreaFacts<'_>) {
        let object = Object::Area(area);
        self.object(cx, Activity::ProcessMemoryCreated, process, object);
        if area.has_file {
            self.object(cx, Activity::NewFileMapped, process, object);
        } else if area.flags & VM_EXEC != 0 && !area.special {
            self.object(cx, Activity::NewExecutableAnonymousMemoryMapped, process, object);
        }
    }

    /// A loader maps a whole library before it maps the library's code over a part of that. A scan
    /// between the two sees only an area whose permissions change. Other changes of permissions are
    /// reported where they are a finding.
    fn code_mapped(
        &mut self,
        cx: &ScanContext<'_>,
        process: &Process,
        area: &AreaFacts<'_>,
        before: AreaBefore,
    ) {
        let was_code = before.was_executable || before.flags & VM_EXEC != 0;
        if area.has_file && area.flags & VM_EXEC != 0 && !was_code {
            self.object(cx, Activity::NewFileMapped, process, Object::Area(area));
        }
    }

    fn area_unmapped(&mut self, cx: &ScanContext<'_>, process: &Process, area: &AreaFacts<'_>) {
        let object = Object::Area(area);
        self.object(cx, Activity::ProcessMemoryTerminated, process, object);
        if area.has_file {
            self.object(cx, Activity::FileUnmapped, process, object);
        }
    }

    // §10.5 to §10.7

    pub(super) fn object(
        &mut self,
        cx: &ScanContext<'_>,
        activity: Activity,
        process: &Process,
        object: Object<'_>,
    ) {
        if !self.is_wanted(activity) || !self.policy.floods.admit(process.key, activity) {
            return;
        }
        let (memory, descriptor, thread);
        let details = match object {
            Object::Area(area) => {
                memory = describe::memory(area);
                Details::ProcessMemory(&memory)
            }
            Object::Descriptor(facts) => {
                descriptor = describe::file_descriptor(facts);
                Details::FileDescriptor(&descriptor)
            }
            Object::Thread(facts) => {
                thread = describe::thread(facts);
                Details::Thread(&thread)
            }
        };
        let subject = Subject::of(cx, process);
        let process = describe_process(cx, process);
        let record = Record::new(activity, details);
        self.write(cx, subject, &record.with_parents(&[Details::Process(&process)]));
    }

    // §10.8

    fn container(
        &mut self,
        cx: &ScanContext<'_>,
        activity: Activity,
        container: &Container,
        process: Option<&Process>,
    ) {
        if self.is_wanted(activity) {
            let details = describe::container(&container.facts(cx.strings));
            let process = process.map(|process| describe_process(cx, process));
            let parent = process.as_ref().map(Details::Process);
            let record = Record::new(activity, Details::Container(&details));
            let record = record.with_parents(parent.as_slice());
            self.write(cx, Subject::container(container), &record);
        }
    }

    // §10.10

    fn births_missed(&mut self, cx: &ScanContext<'_>, births: Births) {
        let mut reason = ArrayString::<200>::new();
        let (born, unseen) = (births.born, births.unseen());
        let _ = write!(
            reason,
            "{unseen} of {born} processes and threads that were born came and went between two \
             scans, or found no room"
        );
        let details = SystemActivityDetails {
            reason: reason.as_str().into(),
            processes_born: Some(born),
            processes_seen: Some(births.seen),
            processes_unseen: Some(unseen),
            ..intervals::details(self.policy.intervals.take(cx.now.monotonic))
        };
        self.system(cx, Activity::CoverageReport, &details);
    }

    /// Reports a table that is full, with the number of untracked entries, or that has room again.
    fn limit(&mut self, cx: &ScanContext<'_>, limit: Limit, capacity: u64, untracked: Option<u64>) {
        let (activity, what) = match untracked {
            Some(_) => (limit.activity(), "is full; new ones are not tracked until some end"),
            None => (Activity::LimitCleared, "has room again"),
        };
        let mut reason = ArrayString::<160>::new();
        let _ = write!(reason, "the table of {} {what}", limit.noun());
        let details = SystemActivityDetails {
            reason: reason.as_str().into(),
            limit: Some(limit.key()),
            capacity: Some(capacity),
            untracked,
            ..SystemActivityDetails::default()
        };
        self.system(cx, activity, &details);
    }

    pub(super) fn system(
        &mut self,
        cx: &ScanContext<'_>,
        activity: Activity,
        details: &SystemActivityDetails<'_>,
    ) {
        let _ = self.try_system(cx, activity, details);
    }

    pub(super) fn try_system(
        &mut self,
        cx: &ScanContext<'_>,
        activity: Activity,
        details: &SystemActivityDetails<'_>,
    ) -> Accepted {
        if !self.is_wanted(activity) {
            return Accepted::Yes;
        }
        let record = Record::new(activity, Details::SystemActivity(details));
        self.try_write(cx, Subject::default(), &record)
    }
}

impl Reporter<'_> {
    /// Whether an alert of a process is accepted now: there may be too many. To be asked before a
    /// record is made.
    pub(super) fn admits(&self, process: ProcessKey, activity: Activity) -> bool {
        !self.is_wanted(activity) || self.policy.alert_floods.admits(process, activity)
    }

    /// Writes an alert's record with its evidence, if the alert is wanted.
    pub(super) fn alert(
        &mut self,
        cx: &ScanContext<'_>,
        subject: Subject<'_>,
        record: &Record<'_>,
        evidence: Evidence<'_>,
    ) -> Accepted {
        if !self.is_wanted(record.activity) {
            return Accepted::Yes;
        }
        for details in record.parents.iter().chain([&record.own]) {
            if let Details::Process(details) = details {
                self.write_beginning(cx, subject, details);
            }
        }
        let detection = evidence.detection();
        let record = Record { detection: Some(&detection), ..*record };
        let accepted = self.try_write(cx, subject, &record);
        if let Some(process) = subject.process.filter(|_| accepted == Accepted::Yes) {
            self.policy.alert_floods.count(process, record.activity);
        }
        accepted
    }
}

pub(super) fn describe_process<'a>(
    cx: &'a ScanContext<'_>,
    process: &'a Process,
) -> ProcessDetails<'a> {
    describe::process(&process.facts(cx.strings), cx.snapshot.machine.tsc_khz)
}

/// What a process has, and a record is about.
#[derive(Clone, Copy, Debug)]
pub(super) enum Object<'a> {
    Area(&'a AreaFacts<'a>),
    Descriptor(&'a DescriptorFacts<'a>),
    Thread(&'a ThreadFacts),
}

/// The container of a record, as far as it is known, and the process that it is about; without the
/// former for a subject outside of containers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Subject<'a> {
    key: Option<ContainerKey>,
    id: Option<&'a [u8]>,
    process: Option<ProcessKey>,
}

impl<'a> Subject<'a> {
    /// The container of a process, or of an object that it holds.
    pub(super) fn process(facts: &ProcessFacts<'a>) -> Self {
        let process = Some(facts.key());
        Self { key: facts.container_key, id: facts.container, process }
    }

    pub(super) fn of(cx: &ScanContext<'a>, process: &'a Process) -> Self {
        let (key, id) = (process.container_key(), process.container(cx.strings));
        Self { key, id, process: Some(process.key) }
    }

    const fn container(container: &Container) -> Self {
        Self { key: Some(container.key), id: None, process: None }
    }

    /// The container of an object whose process has ended.
    pub(super) const fn ended(key: Option<ContainerKey>) -> Self {
        Self { key, id: None, process: None }
    }
}
