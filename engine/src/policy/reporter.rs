//! From changes to records: which activity each is, what it is about, and why it is reported.
//!
//! One function a section of the guide's §10. Nothing is remembered here: what a change means was decided
//! by the state, whether anybody wants to hear of it by the configuration.

use core::fmt::Write as _;

use arrayvec::{ArrayString, ArrayVec};
use panoptes_decoders::kernel::vm_area_struct::VM_EXEC;
use panoptes_sinks::activities::Activity;
use panoptes_sinks::json::time::Timestamp;
use panoptes_sinks::queue::Producer;
use panoptes_sinks::record::detection::{Confidence, Detection};
use panoptes_sinks::record::file_descriptor::FileDescriptorDetails;
use panoptes_sinks::record::header::Header;
use panoptes_sinks::record::network_connection::Holder;
use panoptes_sinks::record::process::ProcessDetails;
use panoptes_sinks::record::system_activity::SystemActivityDetails;
use panoptes_sinks::record::value::Objects;
use panoptes_sinks::record::workload::ContainerContext;
use panoptes_sinks::record::{Details, Record, RecordWriter};

use super::PolicyConfig;
use super::describe::{self, InterfaceAddresses};
use crate::limits::Limits;
use crate::state::facts::{AreaFacts, DescriptorFacts, ProcessFacts, ThreadFacts};
use crate::state::process::Process;
use crate::state::{Change, Changes, ConnectionChange, HiddenFrom, Limit, Scene};

/// The version of ATT&CK that technique ids are of.
const ATTACK_VERSION: &str = "19";
/// Hiding of what runs (ATT&CK T1014, Rootkit).
const ROOTKIT: &[&str] = &["T1014"];
/// Most other holders of a connection that a record names.
const HOLDERS_MAX: usize = 64;

/// Decides and writes the records of one machine.
#[derive(Debug)]
pub struct Policy {
    config: PolicyConfig,
    header: Header,
    writer: RecordWriter,
    refused: u64,
}

impl Policy {
    /// `message_ids` is random, drawn afresh for each machine.
    pub fn new(limits: &Limits, config: PolicyConfig, header: Header, message_ids: u64) -> Self {
        let writer = RecordWriter::new(message_ids, limits.string_length as usize);
        Self { config, header, writer, refused: 0 }
    }

    /// The constant parts of the records.
    pub fn header_mut(&mut self) -> &mut Header {
        &mut self.header
    }

    /// How many records found no room in the queue.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Whoever is to be told of changes, writing records into `out`.
    pub fn reporter<'a>(&'a mut self, out: &'a mut Producer) -> Reporter<'a> {
        Reporter { policy: self, out }
    }
}

/// Turns changes into records.
#[derive(Debug)]
pub struct Reporter<'a> {
    policy: &'a mut Policy,
    out: &'a mut Producer,
}

impl Changes for Reporter<'_> {
    fn change(&mut self, scene: &Scene<'_>, change: &Change<'_>) {
        match *change {
            Change::ProcessCreated(process) => {
                self.process(scene, Activity::ProcessCreated, process);
            }
            Change::ProcessTerminated(process) => {
                self.process(scene, Activity::ProcessTerminated, process);
            }
            Change::ProcessZombie { process, .. } => {
                self.process(scene, Activity::ProcessZombie, process);
            }
            Change::ProcessHidden { process, from, scans, since_ns } => {
                self.hidden(scene, process, from, scans, since_ns);
            }
            Change::ThreadCreated { process, thread } => {
                self.thread(scene, Activity::ThreadCreated, process, &thread);
            }
            Change::ThreadTerminated { process, thread } => {
                self.thread(scene, Activity::ThreadTerminated, process, &thread);
            }
            Change::DescriptorOpened { process, descriptor } => {
                self.descriptor(scene, Activity::FileDescriptorOpen, process, &descriptor);
            }
            Change::DescriptorClosed { process, descriptor } => {
                self.descriptor(scene, Activity::FileDescriptorClose, process, &descriptor);
            }
            Change::AreaMapped { process, area } => self.area_mapped(scene, process, &area),
            Change::AreaUnmapped { process, area } => self.area_unmapped(scene, process, &area),
            // Their two alerts come with the rule that keeps them quiet at every start of a program.
            Change::AreaPermissionsChanged { .. } => {}
            Change::ConnectionCreated(ref connection) => {
                self.connection(scene, Activity::NetworkConnectionCreated, connection);
            }
            Change::ConnectionTerminated(ref connection) => {
                self.connection(scene, Activity::NetworkConnectionTerminated, connection);
            }
            Change::ConnectionStateChanged(ref connection) => {
                self.connection(scene, Activity::TcpNetworkConnectionStateChange, connection);
            }
            Change::LimitReached { limit, capacity, untracked } => {
                self.limit_reached(scene, limit, capacity, untracked);
            }
            Change::LimitCleared { limit, capacity } => {
                self.limit_cleared(scene, limit, capacity);
            }
        }
    }
}

impl Reporter<'_> {
    fn write(&mut self, scene: &Scene<'_>, record: &Record<'_>) {
        let Policy { header, writer, refused, .. } = &mut *self.policy;
        let container = container_of(record);
        let record = &Record { container: container.as_ref(), ..*record };
        let pushed = self.out.push_with(|room| writer.write(room, header, record, scene.now_ns));
        *refused += u64::from(pushed.is_err());
    }

    fn is_wanted(&self, activity: Activity) -> bool {
        self.policy.config.is_enabled(activity)
    }

    // §10.1

    fn process(&mut self, scene: &Scene<'_>, activity: Activity, process: &Process) {
        if self.is_wanted(activity) {
            let details = describe_process(scene, process);
            self.write(scene, &Record::new(activity, Details::Process(&details)));
        }
    }

    fn hidden(
        &mut self,
        scene: &Scene<'_>,
        process: &Process,
        from: HiddenFrom,
        scans: u32,
        since_ns: i64,
    ) {
        let activity = Activity::ProcessHidden;
        if !self.is_wanted(activity) {
            return;
        }
        let details = describe_process(scene, process);
        let (where_not, where_it_is) = match from {
            HiddenFrom::TaskList => ("the task list, which closes", "the pid IDR"),
            HiddenFrom::PidIdr => ("the pid IDR, which was read whole", "the task list"),
            HiddenFrom::Both => ("the task list or the pid IDR", "its threads' lists"),
        };
        let mut reason = ArrayString::<320>::new();
        // What does not fit is left out: the sentence begins with what matters.
        let _ = write!(
            reason,
            "process {} (task_struct at {}) is not in {where_not}, but in {where_it_is}, in {scans} scans in a row",
            process.process_id(),
            process.address,
        );
        let detection = Detection {
            reason: Some(reason.as_str().into()),
            mitre_attack: Some(ROOTKIT),
            attack_version: Some(ATTACK_VERSION),
            sensor: Some("PANOPTES"),
            confidence: Some(Confidence::High),
            first_seen: Some(Timestamp::from_ns(since_ns)),
            scans_confirmed: Some(scans),
        };
        let mut record = Record::new(activity, Details::Process(&details));
        record.detection = Some(&detection);
        self.write(scene, &record);
    }

    // §10.2

    fn connection(&mut self, scene: &Scene<'_>, activity: Activity, change: &ConnectionChange<'_>) {
        if !self.is_wanted(activity) {
            return;
        }
        let connection = change.connection;
        let interfaces = &scene.snapshot.interfaces;
        let interface = InterfaceAddresses::of_connection(interfaces, &connection.facts);
        let others: ArrayVec<Holder, HOLDERS_MAX> = change
            .holders
            .iter()
            .skip(1)
            .take(HOLDERS_MAX)
            .map(|holder| Holder {
                process_id: holder.process_id,
                file_descriptor_id: holder.descriptor,
            })
            .collect();
        let mut details = describe::network_connection(&connection.facts, interface.as_ref());
        details.tcp_connection_creation_time_iso_8601_ns =
            Some(Timestamp::from_ns(connection.first_seen_ns));
        if activity == Activity::NetworkConnectionTerminated {
            let end = connection.absent_since_ns.unwrap_or(scene.now_ns);
            details.tcp_connection_termination_time_iso_8601_ns = Some(Timestamp::from_ns(end));
            details.tcp_connection_overall_duration_ns =
                u64::try_from(end.saturating_sub(connection.first_seen_ns)).ok();
        }
        details.other_holders = (!others.is_empty()).then_some(Objects(&others));
        // Of an owner that has gone there is its name and number.
        let owner = connection.owner.as_ref().map(|owner| ProcessFacts {
            name: owner.name(),
            process_id: owner.process.process_id,
            ..ProcessFacts::default()
        });
        let process = match change.process {
            Some(process) => Some(describe_process(scene, process)),
            None => owner.map(|facts| describe::process(&facts, None)),
        };
        let descriptor = change.descriptor.as_ref().map(describe::file_descriptor);
        let own = Details::NetworkConnection(&details);
        let parents = parents(process.as_ref(), descriptor.as_ref());
        self.write(scene, &Record::new(activity, own).with_parents(&parents));
    }

    // §10.5

    fn area_mapped(&mut self, scene: &Scene<'_>, process: &Process, area: &AreaFacts<'_>) {
        self.area(scene, Activity::ProcessMemoryCreated, process, area);
        if area.has_file {
            self.area(scene, Activity::NewFileMapped, process, area);
        } else if area.flags & VM_EXEC != 0 && !area.special {
            self.area(scene, Activity::NewExecutableAnonymousMemoryMapped, process, area);
        }
    }

    fn area_unmapped(&mut self, scene: &Scene<'_>, process: &Process, area: &AreaFacts<'_>) {
        self.area(scene, Activity::ProcessMemoryTerminated, process, area);
        if area.has_file {
            self.area(scene, Activity::FileUnmapped, process, area);
        }
    }

    fn area(
        &mut self,
        scene: &Scene<'_>,
        activity: Activity,
        process: &Process,
        area: &AreaFacts<'_>,
    ) {
        if self.is_wanted(activity) {
            let process = describe_process(scene, process);
            let details = describe::memory(area);
            let record = Record::new(activity, Details::ProcessMemory(&details));
            self.write(scene, &record.with_parents(&[Details::Process(&process)]));
        }
    }

    // §10.6

    fn descriptor(
        &mut self,
        scene: &Scene<'_>,
        activity: Activity,
        process: &Process,
        descriptor: &DescriptorFacts<'_>,
    ) {
        if self.is_wanted(activity) {
            let process = describe_process(scene, process);
            let details = describe::file_descriptor(descriptor);
            let record = Record::new(activity, Details::FileDescriptor(&details));
            self.write(scene, &record.with_parents(&[Details::Process(&process)]));
        }
    }

    // §10.7

    fn thread(
        &mut self,
        scene: &Scene<'_>,
        activity: Activity,
        process: &Process,
        thread: &ThreadFacts,
    ) {
        if self.is_wanted(activity) {
            let process = describe_process(scene, process);
            let details = describe::thread(thread);
            let record = Record::new(activity, Details::Thread(&details));
            self.write(scene, &record.with_parents(&[Details::Process(&process)]));
        }
    }

    // §10.10

    fn limit_reached(&mut self, scene: &Scene<'_>, limit: Limit, capacity: u64, untracked: u64) {
        let (activity, key) = of_limit(limit);
        if !self.is_wanted(activity) {
            return;
        }
        let mut reason = ArrayString::<160>::new();
        let _ = write!(
            reason,
            "the table of {} is full; new ones are not tracked until some end",
            what(limit)
        );
        let details = SystemActivityDetails {
            reason: reason.as_str().into(),
            limit: Some(key),
            capacity: Some(capacity),
            untracked: Some(untracked),
            ..SystemActivityDetails::default()
        };
        self.write(scene, &Record::new(activity, Details::SystemActivity(&details)));
    }

    fn limit_cleared(&mut self, scene: &Scene<'_>, limit: Limit, capacity: u64) {
        let activity = Activity::LimitCleared;
        if !self.is_wanted(activity) {
            return;
        }
        let mut reason = ArrayString::<160>::new();
        let _ = write!(reason, "the table of {} has room again", what(limit));
        let details = SystemActivityDetails {
            reason: reason.as_str().into(),
            limit: Some(of_limit(limit).1),
            capacity: Some(capacity),
            ..SystemActivityDetails::default()
        };
        self.write(scene, &Record::new(activity, Details::SystemActivity(&details)));
    }
}

fn describe_process<'a>(scene: &'a Scene<'_>, process: &'a Process) -> ProcessDetails<'a> {
    describe::process(&process.facts(scene.strings), scene.snapshot.machine.tsc_khz)
}

/// The container that a record's process is in.
fn container_of<'a>(record: &Record<'a>) -> Option<ContainerContext<'a>> {
    let mut all = core::iter::once(&record.own).chain(record.parents);
    let container_id = all.find_map(|details| match details {
        Details::Process(process) => process.process_container_id,
        _ => None,
    })?;
    Some(ContainerContext { container_id: Some(container_id), ..ContainerContext::default() })
}

/// The details that a record of a connection has behind its own, in the contract's order.
fn parents<'a>(
    process: Option<&'a ProcessDetails<'a>>,
    descriptor: Option<&'a FileDescriptorDetails<'a>>,
) -> ArrayVec<Details<'a>, 2> {
    let descriptor = descriptor.map(Details::FileDescriptor);
    descriptor.into_iter().chain(process.map(Details::Process)).collect()
}

/// The message for a limit, and the limit's key in the configuration.
fn of_limit(limit: Limit) -> (Activity, &'static str) {
    match limit {
        Limit::Processes => (Activity::ProcessLimitReached, "processes"),
        Limit::Threads => (Activity::ThreadsLimitReached, "threads"),
        Limit::Descriptors => (Activity::FileHandlesLimitReached, "file_descriptors"),
        Limit::Areas => (Activity::ProcessMemoryLimitReached, "vmas"),
        Limit::Connections => (Activity::NetworkConnectionsLimitReached, "connections"),
        // Names have no limit of their own in the configuration: their room goes by the processes'.
        Limit::Strings => (Activity::ProcessLimitReached, "strings"),
    }
}

fn what(limit: Limit) -> &'static str {
    match limit {
        Limit::Processes => "processes",
        Limit::Threads => "threads",
        Limit::Descriptors => "file descriptors",
        Limit::Areas => "memory areas",
        Limit::Connections => "connections",
        Limit::Strings => "names and paths",
    }
}
