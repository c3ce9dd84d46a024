//! Turns changes into records: the activity of each, its subject, and its reason.
//!
//! There is one function per section of guide §10. The state decides what a change means, and
//! the configuration whether it is reported.

use core::fmt::Write as _;

use arrayvec::ArrayString;
use panoptes_decoders::kernel::vm_area_struct::VM_EXEC;
use panoptes_records::activities::Activity;
use panoptes_records::json::text::Text;
use panoptes_records::record::detection::Confidence;
use panoptes_records::record::process::ProcessDetails;
use panoptes_records::record::system_activity::SystemActivityDetails;
use panoptes_records::record::{Details, Record};

use super::Reporter;
use super::evidence::AlertEvidence;
use super::techniques::ROOTKIT;
use super::write::EventSubject;
use super::{describe, hidden};
use crate::detect::Acceptance;
use crate::state::container::Container;
use crate::state::facts::{AreaFacts, DescriptorFacts, ThreadFacts};
use crate::state::process::{Process, ProcessKey};
use crate::state::{AreaBefore, Births, Change, Changes, Limit, ScanContext};
use crate::time::RealTime;
use crate::walk::Views;

impl Changes for Reporter<'_> {
    fn change(&mut self, cx: &ScanContext<'_>, change: &Change<'_>) {
        use ProcessObject::{Descriptor, Thread};
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
                is_accepted.set(self.hidden(cx, process, (missing, shown), (scans, since_ns)));
            }
            Change::ThreadCreated { process, ref thread } => {
                self.object(cx, Activity::ThreadCreated, process, Thread(thread));
            }
            Change::ThreadTerminated { process, ref thread } => {
                self.object(cx, Activity::ThreadTerminated, process, Thread(thread));
            }
            Change::DescriptorOpened { process, ref descriptor } => {
                self.object(cx, Activity::FileDescriptorOpen, process, Descriptor(descriptor));
            }
            Change::DescriptorClosed { process, ref descriptor } => {
                self.object(cx, Activity::FileDescriptorClose, process, Descriptor(descriptor));
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
            Change::ModuleLoaded { .. }
            | Change::ModuleUnloaded { .. }
            | Change::ModuleChanged { .. }
            | Change::ModuleHidden { .. } => self.module(cx, change),
            Change::BpfProgramLoaded { .. }
            | Change::BpfProgramUnloaded { .. }
            | Change::BpfProgramAttached { .. }
            | Change::BpfProgramDetached { .. }
            | Change::BpfProgramHidden { .. }
            | Change::BpfProgramDangerous { .. } => self.ebpf_program(cx, change),
            Change::BirthsMissed(births) => self.births_missed(cx, births),
            Change::LimitReached { limit, capacity, untracked } => {
                self.limit(cx, limit, capacity, Some(untracked));
            }
            Change::LimitCleared { limit, capacity } => self.limit(cx, limit, capacity, None),
        }
    }
}

impl Reporter<'_> {
    // Processes (guide §10.1).

    fn process(&mut self, cx: &ScanContext<'_>, activity: Activity, process: &Process) {
        if activity == Activity::ProcessCreated {
            self.policy.incidents.note_beginning(cx.snapshot, process.key);
        } else if activity == Activity::ProcessTerminated {
            self.policy.incidents.note_end(process.key);
            self.policy.unwritten.remove(process.key);
        }
        if !self.is_wanted(activity) {
            return;
        }
        let facts = process.facts(cx.strings);
        if !self.admits_child(cx, activity, facts.numbers.parent_process_id.get()) {
            if activity == Activity::ProcessCreated {
                self.policy.unwritten.add(process.key);
            }
            return;
        }
        let details = describe::process(&facts, cx.snapshot.machine.tsc_khz);
        let record = Record::new(activity, Details::Process(&details));
        self.write(cx, EventSubject::of(cx, process), &record);
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

    /// Writes the alert of a hidden process; returns whether it is accepted.
    fn hidden(
        &mut self,
        cx: &ScanContext<'_>,
        process: &Process,
        (missing, shown): (Views, Views),
        (scans, since_ns): (u32, RealTime),
    ) -> bool {
        let activity = Activity::ProcessHidden;
        let facts = process.facts(cx.strings);
        let sentence = hidden::reason(process, facts.name, missing, shown, scans);
        let details = describe::process(&facts, cx.snapshot.machine.tsc_khz);
        let record = Record::new(activity, Details::Process(&details));
        let (reason, techniques, confidence) = (sentence.as_str(), ROOTKIT, Confidence::High);
        let cause = self.cause().of_hidden(&facts, missing);
        let evidence = AlertEvidence { reason, techniques, confidence, since_ns, scans, cause };
        self.alert(cx, EventSubject::process(&facts), &record, evidence) == Acceptance::Yes
    }

    // Process memory (guide §10.5).

    fn area_mapped(&mut self, cx: &ScanContext<'_>, process: &Process, area: &AreaFacts<'_>) {
        let object = ProcessObject::Area(area);
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
            self.object(cx, Activity::NewFileMapped, process, ProcessObject::Area(area));
        }
    }

    fn area_unmapped(&mut self, cx: &ScanContext<'_>, process: &Process, area: &AreaFacts<'_>) {
        let object = ProcessObject::Area(area);
        self.object(cx, Activity::ProcessMemoryTerminated, process, object);
        if area.has_file {
            self.object(cx, Activity::FileUnmapped, process, object);
        }
    }

    // Process memory, file descriptors, threads (guide §10.5 to §10.7).

    pub(super) fn object(
        &mut self,
        cx: &ScanContext<'_>,
        activity: Activity,
        process: &Process,
        object: ProcessObject<'_>,
    ) {
        if !self.is_wanted(activity) || !self.policy.floods.admit(process.key, activity) {
            return;
        }
        let (memory, descriptor, thread);
        let details = match object {
            ProcessObject::Area(area) => {
                memory = describe::memory(area);
                Details::ProcessMemory(&memory)
            }
            ProcessObject::Descriptor(facts) => {
                descriptor = describe::file_descriptor(facts);
                Details::FileDescriptor(&descriptor)
            }
            ProcessObject::Thread(facts) => {
                thread = describe::thread(facts);
                Details::Thread(&thread)
            }
        };
        let subject = EventSubject::of(cx, process);
        let mut process = describe_process(cx, process);
        // In the middle of an exec, the program is known by its mapping alone.
        if let ProcessObject::Area(area) = object
            && area.is_main_executable
            && process.process_executable_path.is_none()
        {
            process.process_executable_path = area.file.map(Text::new);
        }
        let record = Record::new(activity, details);
        self.write(cx, subject, &record.with_parents(&[Details::Process(&process)]));
    }

    /// Adds changes that only a scan of everything found.
    pub fn note_found_late(&mut self, count: u64) {
        self.policy.note_found_late(count);
    }

    // Containers (guide §10.8).

    fn container(
        &mut self,
        cx: &ScanContext<'_>,
        activity: Activity,
        container: &Container,
        process: Option<&Process>,
    ) {
        if self.is_wanted(activity) {
            let details = describe::container(&container.facts(cx.strings));
            let described = process.map(|process| describe_process(cx, process));
            let parent = described.as_ref().map(Details::Process);
            let record = Record::new(activity, Details::Container(&details));
            let record = record.with_parents(parent.as_slice());
            self.write(cx, EventSubject::container(container, process), &record);
        }
    }

    // System events (guide §10.10).

    fn births_missed(&mut self, cx: &ScanContext<'_>, births: Births) {
        let mut reason = ArrayString::<200>::new();
        let (born, unseen) = (births.born, births.unseen());
        let _ = write!(
            reason,
            "{unseen} of {born} processes and threads that were born came and went between two \
             scans, or found no room"
        );
        let reached = self.policy.intervals.take(cx.now.monotonic);
        let details = SystemActivityDetails {
            reason: reason.as_str().into(),
            processes_born: Some(born),
            processes_seen: Some(births.seen),
            processes_unseen: Some(unseen),
            ..self.coverage(reached)
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
    ) -> Acceptance {
        if !self.is_wanted(activity) {
            return Acceptance::Yes;
        }
        let record = Record::new(activity, Details::SystemActivity(details));
        self.try_write(cx, EventSubject::default(), &record)
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
pub(super) enum ProcessObject<'a> {
    Area(&'a AreaFacts<'a>),
    Descriptor(&'a DescriptorFacts<'a>),
    Thread(&'a ThreadFacts),
}
