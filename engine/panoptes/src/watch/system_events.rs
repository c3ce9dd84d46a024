//! Records about Panoptes itself: service, host and profile activities (§10.10 of the guide of DOCA
//! Argus).

use std::collections::HashMap;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use panoptes_engine::container_config::Glob;
use panoptes_engine::watch::KnownMachine;
use panoptes_profiles::{DiscoveryError, Event};
use panoptes_records::activities::Activity;
use panoptes_records::dialect::Dialect;
use panoptes_records::filter::{DEBUG_RECEIVER, FilterSubject};
use panoptes_records::json::Limits;
use panoptes_records::queue::Producer;
use panoptes_records::record::header::RecordHeader;
use panoptes_records::record::system_activity::SystemActivityDetails;
use panoptes_records::record::workload::Workload;
use panoptes_records::record::{Details, Record, RecordWriter};

use crate::attach::ProfileProblem;
use crate::config::{Configuration, Events, LogLevel, System};
use crate::dma::Regions;
use crate::interfaces::HostInterface;
use crate::record_header::{header, os_version, set_weight};
use crate::watch::missing_facts::Topic;
use crate::watch::outputs::{ConfiguredOutput, Recipe, WatchedOutput};
use crate::watch::system_logs::{LogPlace, SystemLogs};

/// Writes system activities into the control thread's queue.
#[derive(Debug)]
pub(super) struct SystemEvents {
    producer: Producer,
    writer: RecordWriter,
    header: RecordHeader,
    dialect: Dialect,
    user_data: String,
    interfaces: Vec<HostInterface>,
    events: Events,
    logs: SystemLogs,
    /// Number of each receiver that does not take all systems, and the patterns of those it takes.
    receivers: Vec<(usize, Vec<Glob>)>,
    /// The level of messages about systems that have none of their own.
    log_level: LogLevel,
    /// Facts about each system's machine since it was attached to, by the system's name.
    machines: HashMap<String, Arc<Mutex<KnownMachine>>>,
}

/// Maximum number of refused candidates that one search reports: a hostile guest can offer one in
/// each page.
const REFUSALS_MAX: u32 = 16;

impl SystemEvents {
    pub(super) fn new(
        producer: Producer,
        configuration: &Configuration,
        interfaces: Vec<HostInterface>,
        (logs, outputs): (SystemLogs, &[ConfiguredOutput]),
    ) -> Self {
        let dialect = configuration.service.compatibility.dialect();
        let limits = Limits::new(configuration.default.limits.string_length as usize);
        let writer = RecordWriter::new(
            crate::random::key(),
            configuration.default.limits.string_length as usize,
        );
        let user_data = configuration.output.user_data.clone();
        let events = configuration.default.events.clone();
        Self {
            producer,
            writer,
            header: header(dialect, &user_data, &interfaces, limits, &events),
            dialect,
            user_data,
            interfaces,
            events,
            logs,
            receivers: receivers(outputs),
            log_level: configuration.service.log_level,
            machines: HashMap::new(),
        }
    }

    /// Uses other settings from now on.
    pub(super) fn set_default(&mut self, configuration: &Configuration) {
        let settings = &configuration.default;
        self.log_level = configuration.service.log_level;
        let string_length = settings.limits.string_length as usize;
        let Self { dialect, user_data, interfaces, .. } = self;
        let limits = Limits::new(string_length);
        self.header = header(*dialect, user_data, interfaces, limits, &settings.events);
        self.writer.set_string_length(string_length);
        self.events.clone_from(&settings.events);
    }

    /// Chooses among these outputs from now on, and has the logs of single systems there. Returns
    /// what becomes of those that are open.
    pub(super) fn set_outputs(
        &mut self,
        outputs: &[ConfiguredOutput],
        logs: Option<LogPlace>,
    ) -> Vec<ConfiguredOutput> {
        self.receivers = receivers(outputs);
        self.logs.set_place(logs)
    }

    /// Which outputs take a system's records. Its own event log is opened if it is not open.
    pub(super) fn subject_of(&mut self, system: &System) -> FilterSubject {
        let level = system.settings.log_level.unwrap_or(self.log_level);
        let mut receivers = u64::from(level >= LogLevel::Debug) << DEBUG_RECEIVER;
        for (number, patterns) in &self.receivers {
            let is_taken = patterns.iter().any(|pattern| pattern.matches(system.name.as_bytes()));
            receivers |= u64::from(is_taken) << number;
        }
        FilterSubject { system: self.logs.number_of(&system.name), receivers }
    }

    /// Reports logs of systems that could not be opened, and tries them again when they are due;
    /// returns whether it has.
    pub(super) fn retry_logs(&mut self, now: Instant) -> bool {
        for reason in self.logs.failures() {
            self.service(Activity::DetailsGatheringFailed, &because(&reason));
        }
        self.logs.retry(now)
    }

    /// Records about a system have from now on what is known of its machine.
    pub(super) fn know(&mut self, system: &System, machine: &Arc<Mutex<KnownMachine>>) {
        self.machines.insert(system.name.clone(), Arc::clone(machine));
    }

    /// Forgets the machine of a system.
    pub(super) fn forget_machine(&mut self, system: &str) {
        self.machines.remove(system);
    }

    /// Ends the log of a system that is gone, and forgets its machine.
    pub(super) fn forget(&mut self, system: &str) {
        self.forget_machine(system);
        self.logs.close(system);
    }

    /// Notes that a log of a system is another output now.
    pub(super) fn renew_log(&mut self, output: &WatchedOutput) {
        self.logs.renew(output);
    }

    /// The logs that were opened since the last call.
    pub(super) fn opened_logs(&mut self) -> Vec<WatchedOutput> {
        self.logs.opened()
    }

    /// How many records did not fit in the queue.
    pub(super) fn refused(&self) -> u64 {
        self.producer.refused()
    }

    /// A header for a system's records; the workload is set later.
    pub(super) fn header_for(&self, system: &System) -> RecordHeader {
        let limits = Limits::new(system.settings.limits.string_length as usize);
        let Self { dialect, user_data, interfaces, .. } = self;
        header(*dialect, user_data, interfaces, limits, &system.settings.events)
    }

    /// Reports an activity of the service itself.
    pub(super) fn service(&mut self, activity: Activity, details: &SystemActivityDetails<'_>) {
        if self.events.is_enabled(activity) {
            self.header.set_workload(&Workload::default());
            set_weight(&mut self.header, &self.events, activity);
            self.write(activity, details);
        }
    }

    /// Reports an activity of a system, outside of its scans.
    pub(super) fn host(
        &mut self,
        system: &System,
        activity: Activity,
        details: &SystemActivityDetails<'_>,
    ) {
        self.search(system, None, activity, details);
    }

    /// The same while its kernel is searched, with the version of the one that may be it.
    pub(super) fn search(
        &mut self,
        system: &System,
        os_version: Option<&str>,
        activity: Activity,
        details: &SystemActivityDetails<'_>,
    ) {
        if !system.settings.events.is_enabled(activity) {
            return;
        }
        if let Some(machine) = self.machines.get(&system.name) {
            // A panic amid a copy leaves parts that are older.
            machine.lock().unwrap_or_else(PoisonError::into_inner).write(&mut self.header);
        } else {
            self.header.set_workload(&Workload {
                unique_identifier: Some(system.name.as_str().into()),
                os_version: os_version.map(Into::into),
                ..Workload::default()
            });
        }
        let subject = self.subject_of(system);
        self.producer.set_subject(subject);
        set_weight(&mut self.header, &system.settings.events, activity);
        self.write(activity, details);
        self.producer.set_subject(FilterSubject::SERVICE);
    }

    fn write(&mut self, activity: Activity, details: &SystemActivityDetails<'_>) {
        let now_ns = super::clocks::wall_clock_ns();
        let record = Record::new(activity, Details::SystemActivity(details));
        let (writer, header) = (&mut self.writer, &self.header);
        let class = header.class(activity);
        // The queue counts records that do not fit.
        let _ = self.producer.push_with(class, |room| writer.write(room, header, &record, now_ns));
        self.producer.flush();
    }
}

/// What another thread asks the control thread to report.
#[derive(Debug)]
pub(super) enum Notice {
    /// A record about a system.
    Activity {
        system: Arc<System>,
        /// Version of the kernel that was found, unless it was refused.
        os_version: Option<String>,
        activity: Activity,
        reason: String,
        /// The profile's build id or path.
        profile: Option<String>,
    },
    /// What could not be found out of a system, or of this machine; without a reason, it was.
    Problem { system: Option<Arc<System>>, topic: Topic, reason: Option<String> },
}

impl Notice {
    /// The system that it is about.
    pub(super) fn system(&self) -> Option<&System> {
        match self {
            Self::Activity { system, .. } => Some(system),
            Self::Problem { system, .. } => system.as_deref(),
        }
    }
}

/// Asks the control thread for records about the search for a system's kernel.
#[derive(Debug)]
pub(super) struct SearchEvents {
    system: Arc<System>,
    notices: Sender<Notice>,
    /// How many more refused candidates the search may report.
    refusals_left: u32,
    /// Version of the kernel that was found last, unless it was refused.
    os_version: Option<String>,
}

impl SearchEvents {
    pub(super) fn new(system: Arc<System>, notices: Sender<Notice>) -> Self {
        Self { system, notices, refusals_left: REFUSALS_MAX, os_version: None }
    }

    fn host(&self, activity: Activity, reason: String) {
        self.with_profile(activity, reason, None);
    }

    fn with_profile(&self, activity: Activity, reason: String, profile: Option<String>) {
        let (system, os_version) = (Arc::clone(&self.system), self.os_version.clone());
        let notice = Notice::Activity { system, os_version, activity, reason, profile };
        // Without a receiver, the program ends.
        let _ = self.notices.send(notice);
    }

    /// Reports what could not be found out of the system, once until it changes.
    pub(super) fn problem(&self, topic: Topic, reason: Option<String>) {
        let system = Some(Arc::clone(&self.system));
        let _ = self.notices.send(Notice::Problem { system, topic, reason });
    }

    /// Reports that the system's profile can't be used.
    pub(super) fn no_profile(&self, problem: &ProfileProblem) {
        let activity = if problem.is_damage() {
            Activity::ProfileParsingFailed
        } else {
            Activity::DetailsGatheringFailed
        };
        let path = problem.path.display().to_string();
        self.with_profile(activity, problem.to_string(), Some(path));
    }

    /// Reports an event of discovery.
    pub(super) fn discovery(&mut self, event: &Event<'_>) {
        let (activity, reason) = match event {
            Event::OsIdentifierFound { trace, at, release, build_id } => {
                self.os_version = Some(os_version(release));
                let reason = format!("{trace} at {at}: Linux {release}");
                let profile = build_id.map(ToOwned::to_owned);
                return self.with_profile(Activity::OsIdentifierFound, reason, profile);
            }
            Event::OsIdentifierDiscoveryExtended { to } => (
                Activity::OsIdentifierDiscoveryExtended,
                format!("no kernel in the usual place; {to}"),
            ),
            Event::LoadingProfileCandidate(origin) => (
                Activity::LoadingProfileCandidate,
                format!("loading the layouts from the {origin}"),
            ),
            Event::ProfileVerificationSuccessful(checks) => (
                Activity::ProfileVerificationSuccessful,
                format!("all {} checks of the profile passed", checks.len()),
            ),
            Event::CandidateRefused(attempt) => {
                self.os_version = None;
                match of_refusal(&attempt.refusal) {
                    Some(activity) if self.refusals_left > 0 => {
                        self.refusals_left -= 1;
                        (activity, attempt.to_string())
                    }
                    _ => return,
                }
            }
            _ => return,
        };
        self.host(activity, reason);
    }

    /// Reports why no kernel was found in the system's memory, where that has a record of its own.
    pub(super) fn not_found(&self, error: &DiscoveryError) {
        // Mistakes of a profile have been reported when its candidate was refused.
        match error {
            DiscoveryError::NoMatchingProfileFound(_) => {
                self.host(Activity::NoMatchingProfileFound, error.to_string());
            }
            DiscoveryError::UnableToDetermineTargetOs(_) | DiscoveryError::Unsupported { .. } => {
                self.host(Activity::UnableToDetermineTargetOs, error.to_string());
            }
            _ => {}
        }
    }

    /// Reports the result of the search for the system's memory regions.
    pub(super) fn regions(&self, regions: &Regions) {
        let activity = match regions {
            Regions::Found { .. } => Activity::LoadMemRegionsSuccessful,
            Regions::NotFound { .. } => Activity::LoadMemRegionsFailed,
        };
        self.host(activity, regions.to_string());
    }
}

/// Details with a reason only.
pub(super) fn because(reason: &str) -> SystemActivityDetails<'_> {
    SystemActivityDetails { reason: reason.into(), ..SystemActivityDetails::default() }
}

/// The activity that reports a refused candidate; most candidates are only noise in memory.
fn of_refusal(refusal: &panoptes_profiles::report::CandidateRefusal) -> Option<Activity> {
    use panoptes_profiles::report::CandidateRefusal;
    match refusal {
        CandidateRefusal::NoInitTask
        | CandidateRefusal::NoDirectMap
        | CandidateRefusal::Verification(_) => Some(Activity::ProfileVerificationFailed),
        CandidateRefusal::Btf(_) | CandidateRefusal::Missing(_) => {
            Some(Activity::ProfileParsingFailed)
        }
        _ => None,
    }
}

/// The patterns of the systems that receivers take, by number.
fn receivers(outputs: &[ConfiguredOutput]) -> Vec<(usize, Vec<Glob>)> {
    let of = |output: &ConfiguredOutput| match &output.recipe {
        Recipe::Receiver { number, receiver, .. } => Some((*number, receiver.choice.systems())),
        _ => None,
    };
    outputs.iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::mpsc::channel;

    use panoptes_records::queue::{QueueSize, Waker, queue};

    use super::*;
    use crate::config::{Mode, Overrides, SystemAddress, SystemSettings, read};
    use crate::message::Messages;
    use crate::request::OutputView;
    use crate::watch::outputs::{Receivers, wanted};
    use crate::watch::signals::Signals;
    use crate::watch::system_logs::openers;
    use crate::watch::threads::OtherCores;

    #[test]
    fn releases_become_versions() {
        assert_eq!(os_version("6.1.0-37-amd64"), "Linux Kernel 6.1");
        assert_eq!(os_version("6.12.107+deb13-amd64"), "Linux Kernel 6.12");
        assert_eq!(os_version(""), "Linux Kernel .");
    }

    #[test]
    fn a_receiver_takes_the_systems_whose_names_match_a_pattern() {
        let text = "output:\n\
                    \x20 telemetry:\n\
                    \x20 - {address: 'a:1'}\n\
                    \x20 - {address: 'b:1', systems: ['web-*', db]}\n\
                    \x20 - {address: 'c:1', systems: ['*']}\n\
                    \x20 - {address: 'd:1', systems: ['web-?']}\n";
        let (configuration, _) = read(text, Path::new(""), Mode::Run, &Overrides::default());
        let (producer, _consumer) = queue(QueueSize::default(), &Waker::default());
        let outputs =
            wanted(&configuration, OutputView::default(), None, &Receivers::NONE).unwrap();
        let messages = Arc::new(Messages::on_stderr(LogLevel::Disable));
        let openers = openers(OtherCores::without(&[]), Signals::take().unwrap().waker());
        let logs = SystemLogs::new(None, (channel().0, Waker::default()), openers, &messages);
        let outputs = (logs, outputs.as_slice());
        let mut events = SystemEvents::new(producer, &configuration, Vec::new(), outputs);
        let mut of = |name: &str, log_level| {
            let settings = SystemSettings { log_level, ..SystemSettings::default() };
            let system = System { name: name.to_owned(), address: SystemAddress::Host, settings };
            let subject = events.subject_of(&system);
            assert_eq!(subject.system, None, "{name}");
            subject.receivers
        };
        for (name, receivers) in
            [("web-1", 0b1110), ("web-17", 0b0110), ("db", 0b0110), ("db-2", 0b0100)]
        {
            assert_eq!(of(name, None), receivers, "{name}");
        }
        // The debug log takes the records of systems by their level.
        assert_eq!(of("db-2", Some(LogLevel::Debug)), 0b0100 | 1 << DEBUG_RECEIVER);
        assert_eq!(of("db-2", Some(LogLevel::Info)), 0b0100);
        // The first one takes all systems, and does not ask.
        assert_eq!(configuration.output.telemetry[0].choice.filter(0).receiver, None);
    }
}
