//! A watched system beside the auditor (`--system`): whose the flows are, and which connections the
//! kernel denies.
//!
//! A thread scans the system's memory, as `panoptes watch` does. It and the auditor share a
//! [`TrafficLink`]: scans note sockets there, and the auditor asks it about each record. Alerts are
//! records of `panoptes watch`, in a file of their own or on standard output.
//!
//! In the service, its own scanner has the system: it and the sensor share a [`TrafficLink`] alone.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arrayvec::ArrayString;
use panoptes_decoders::layout::c_string;
use panoptes_engine::detect::hidden_connections::{
    FlowOwners, ScanCounts, SeenEnd, SeenFlow, SocketOwner, TrafficLink,
};
use panoptes_engine::policy::PolicyConfig;
use panoptes_engine::system::Stop;
use panoptes_engine::time::{Monotonic, Now, RealTime};
use panoptes_engine::watch::{Setup, WatchedMachine, Workspace};
use panoptes_profiles::Profile;
use panoptes_records::activities::Activity;
use panoptes_records::flow::{Detail, FlowKeyKind, FlowProcess, FlowRecord, FlowSide};
use panoptes_records::queue::{Consumer, Producer, QueueSize, Waker, queue};
use panoptes_records::record::header::RecordHeader;
use panoptes_sources::{AnySource, MachineSource as _};
use uuid::Uuid;

use super::alerts::AlertOutput;
use super::live_output::Loss;
use super::patience::Patience;
use super::request::{Alerts, FlowRequest, SystemRequest};
use super::sensor_records::SensorRecords;
use crate::attach::{MessageObserver, attach};
use crate::config::{Configuration, EventSwitch, Loader, Mode, Overrides, System};
use crate::exit::{Exit, Failure};
use crate::message::Messages;
use crate::random;
use crate::record_header::header_of_system;
use crate::system_argument::{check_name, pick};
use crate::watched::{kind_of_copy, setup};

/// The alerts that come of packets and memory together.
const ALERTS: [Activity; 2] =
    [Activity::HiddenConnectionDetected, Activity::HiddenListenerDetected];
/// Room for a label: its name, two numbers of ten digits, a name of 15 bytes and 12 of an id.
type ProcessLabel = ArrayString<64>;
/// Number of consecutive failed scans after which the system is searched again.
const FAILED_SCANS_MAX: u32 = 5;
/// The time between two searches for a system that was lost.
const SEARCH: Duration = Duration::from_secs(1);

/// A system whose memory is open and whose kernel was found. What follows needs no privilege.
pub(super) struct OpenSystem(Box<Scanner>);

impl OpenSystem {
    pub(super) const fn system(&self) -> &System {
        &self.0.system
    }
}

/// Finds the kernel of the system that is named. To be called while the program has all its
/// privileges and the root of the machine.
pub(super) fn attach_beside(
    request: &FlowRequest,
    messages: &Messages,
) -> Result<Option<OpenSystem>, Failure> {
    let Some(beside) = &request.beside else { return Ok(None) };
    let (system, configuration) = requested(beside)?;
    let traffic_link = Arc::new(TrafficLink::new(&system.settings.limits, random::hash_key()));
    let mut scanner = Scanner::new((system, configuration), traffic_link, messages.clone());
    scanner.attach()?;
    Ok(Some(OpenSystem(Box::new(scanner))))
}

/// What the sensor and the scanner of a system share in the service.
#[derive(Clone, Debug)]
pub(crate) struct SharedSystem {
    pub(crate) traffic_link: Arc<TrafficLink>,
    /// Whether a scanner has the system.
    pub(crate) is_attached: Arc<AtomicBool>,
}

/// A system that is scanned while its packets are audited.
#[derive(Debug)]
pub(super) struct WatchedSystem {
    traffic_link: Arc<TrafficLink>,
    /// Whether the scanner has the system.
    is_attached: Arc<AtomicBool>,
    losses: ScanLosses,
    /// All scans, as of the last look.
    scans: ScanCounts,
    /// `None`: the service scans the system, and writes the alerts.
    own: Option<OwnScanner>,
    /// What writes records about the sensor, as the configuration has them.
    records: Option<SensorRecords>,
}

/// The thread that scans, and where alerts go.
#[derive(Debug)]
struct OwnScanner {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    alerts: SharedAlertOutput,
}

/// What scans did not show since the start.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ScanLosses {
    /// Seconds without scans.
    pub(super) away_s: u64,
    /// Scans that did not show all sockets, of seconds in which most did not.
    pub(super) without_tcp: u64,
    pub(super) without_udp: u64,
}

/// Alerts of the scanner and of the auditor.
type SharedAlertOutput = Arc<Mutex<AlertOutput>>;

impl WatchedSystem {
    /// Scans a system once, and begins to scan it again and again.
    pub(super) fn start(
        attached: OpenSystem,
        alerts: &Alerts,
        messages: &Messages,
    ) -> Result<Self, Failure> {
        let OpenSystem(mut scanner) = attached;
        let traffic_link = Arc::clone(&scanner.traffic_link);
        let alerts = AlertOutput::open(alerts, messages)?;
        let alerts: SharedAlertOutput = Arc::new(Mutex::new(alerts));
        scanner.alerts = Some(Arc::clone(&alerts));
        let header = scanner.header();
        let all = Activity::ALL.iter().copied();
        let disabled = all.filter(|activity| !scanner.is_enabled(*activity)).collect();
        let records = Some(SensorRecords::new(header, disabled));
        scanner.scan();
        let is_attached = Arc::clone(&scanner.is_attached);
        let stop = Arc::new(AtomicBool::new(false));
        let must_stop = Arc::clone(&stop);
        let run = move || scanner.run(&must_stop);
        let thread = std::thread::Builder::new().name("scanner".to_owned()).spawn(run);
        let thread = thread
            .map_err(|error| Failure::io(&error, Exit::Source, "cannot start the scanner"))?;
        let own = Some(OwnScanner { stop, thread: Some(thread), alerts });
        let (losses, scans) = (ScanLosses::default(), ScanCounts::default());
        Ok(Self { traffic_link, is_attached, losses, scans, own, records })
    }

    /// A system that the service scans.
    pub(super) fn of_service(shared: SharedSystem) -> Self {
        let SharedSystem { traffic_link, is_attached } = shared;
        // The scanner may have been there before this sensor.
        let scans = traffic_link.scans();
        let losses = ScanLosses::default();
        Self { traffic_link, is_attached, losses, scans, own: None, records: None }
    }

    /// Compares a flow with the system's sockets. Returns the holders of those at its ends.
    pub(super) fn seen(&self, record: &FlowRecord) -> FlowOwners {
        seen_flow(record).map(|flow| self.traffic_link.seen(&flow)).unwrap_or_default()
    }

    /// What writes records about the sensor, as the configuration has them. It is there once.
    pub(super) const fn take_records(&mut self) -> Option<SensorRecords> {
        self.records.take()
    }

    /// Writes a record to the alerts.
    pub(super) fn alert(&self, line: &[u8]) {
        if let Some(own) = &self.own {
            locked(&own.alerts).write_line(line);
        }
    }

    /// Looks at the scans of the last second.
    pub(super) fn look_at_scans(&mut self) -> ScanLosses {
        let before = std::mem::replace(&mut self.scans, self.traffic_link.scans());
        let has_ended = |own: &OwnScanner| own.thread.as_ref().is_none_or(JoinHandle::is_finished);
        let ended = self.own.as_ref().is_some_and(has_ended);
        if ended || !self.is_attached.load(Ordering::Relaxed) {
            self.losses.away_s += 1;
        }
        let all = self.scans.all - before.all;
        let most = |count: u64| if count * 2 > all { count } else { 0 };
        self.losses.without_tcp += most(self.scans.without_tcp - before.without_tcp);
        self.losses.without_udp += most(self.scans.without_udp - before.without_udp);
        self.losses
    }

    /// Returns what is to be reported of the output of alerts.
    pub(super) fn look(&self, now_ns: Option<u64>) -> Option<Loss> {
        locked(&self.own.as_ref()?.alerts).look(now_ns)
    }

    /// Ends the scans, after one more, which reports what the last records have shown.
    pub(super) fn finish(self, patience: &Patience, messages: &Messages) -> Result<(), Failure> {
        let Some(mut own) = self.own else { return Ok(()) };
        own.stop.store(true, Ordering::Relaxed);
        // A thread that has panicked has written a message.
        let _ = own.thread.take().map(JoinHandle::join);
        let ScanCounts { all, without_tcp, without_udp } = self.traffic_link.scans();
        if without_tcp > 0 {
            messages.warning(format_args!(
                "{without_tcp} of {all} scans did not show all sockets, so hidden connections were \
                 not looked for in their time"
            ));
        }
        if without_udp > 0 {
            messages.warning(format_args!(
                "{without_udp} of {all} scans did not show the owners of UDP ports, so hidden \
                 packets of UDP were not looked for in their time: the kernel may translate \
                 addresses"
            ));
        }
        locked(&own.alerts).finish(patience)
    }
}

fn locked(alerts: &SharedAlertOutput) -> MutexGuard<'_, AlertOutput> {
    alerts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The system and the configuration that are named.
fn requested(beside: &SystemRequest) -> Result<(System, Configuration), Failure> {
    let file = beside.configuration.clone();
    let loader = Loader { mode: Mode::Scan, file, overrides: Overrides::default() };
    let loaded = loader.load_to_use().map_err(|report| {
        let text = report.to_string();
        let first = text.lines().next().unwrap_or_default();
        Failure::new(Exit::Configuration, first.to_owned())
    })?;
    let system = pick(&beside.system, &loaded.configuration)?;
    check_name(&beside.system, &loaded.configuration)?;
    Ok((system, loaded.configuration))
}

/// What the scanner's thread has.
struct Scanner {
    system: System,
    configuration: Configuration,
    traffic_link: Arc<TrafficLink>,
    messages: Messages,
    /// Open once the program has given up its privileges.
    alerts: Option<SharedAlertOutput>,
    workspace: Workspace,
    queue: (Producer, Consumer),
    /// `None` while the system is lost.
    attached: Option<(Box<WatchedMachine>, AnySource)>,
    is_attached: Arc<AtomicBool>,
    failures: u32,
    start: Instant,
}

impl Scanner {
    fn new(
        (system, configuration): (System, Configuration),
        traffic_link: Arc<TrafficLink>,
        messages: Messages,
    ) -> Self {
        let workspace = Workspace::new(&system.settings.limits, random::hash_key());
        let queue = queue(QueueSize::default(), &Waker::default());
        Self {
            system,
            configuration,
            traffic_link,
            messages,
            alerts: None,
            workspace,
            queue,
            attached: None,
            is_attached: Arc::new(AtomicBool::new(false)),
            failures: 0,
            start: Instant::now(),
        }
    }

    /// Finds the kernel, and allocates what scans need.
    fn attach(&mut self) -> Result<(), Failure> {
        let Self { system, configuration, messages, .. } = self;
        let mut observer = MessageObserver { system, messages };
        let (source, profile) = attach(system, configuration, false, &mut observer, Stop::NEVER)?;
        let release = &profile.release;
        messages.info(format_args!("{}: Linux {release}: comparing packets", system.name));
        let mut watched = Box::new(WatchedMachine::new(self.setup(&profile)));
        watched.set_copied(kind_of_copy(&source));
        watched.set_command_lines(false);
        watched.set_traffic_link(Arc::clone(&self.traffic_link));
        watched.set_boot_uuid(Uuid::new_v4().into_bytes());
        self.attached = Some((watched, source));
        self.is_attached.store(true, Ordering::Relaxed);
        self.failures = 0;
        Ok(())
    }

    fn is_enabled(&self, activity: Activity) -> bool {
        self.system.settings.events.get(activity).enabled != EventSwitch::Never
    }

    /// The header of its records, as the configuration has them.
    fn header(&self) -> RecordHeader {
        header_of_system(&self.configuration, &self.system)
    }

    fn setup<'a>(&self, profile: &'a Profile) -> Setup<'a> {
        let mut policy = PolicyConfig::default();
        for &activity in Activity::ALL {
            let is_alert = ALERTS.contains(&activity);
            policy.set_enabled(activity, is_alert && self.is_enabled(activity));
        }
        let exceptions = Arc::new(self.configuration.exceptions());
        Setup { policy, ..setup(&self.system, self.header(), exceptions, profile) }
    }

    /// Scans until the auditor ends.
    fn run(mut self, must_stop: &AtomicBool) {
        let interval = self.configuration.service.scan_interval;
        while !must_stop.load(Ordering::Relaxed) {
            let begin = Instant::now();
            let wait = if self.attached.is_some() {
                self.scan();
                // At most half of a core.
                interval.saturating_sub(begin.elapsed()).max(begin.elapsed())
            } else {
                let _ = self.attach();
                SEARCH
            };
            let until = Instant::now() + wait;
            while Instant::now() < until && !must_stop.load(Ordering::Relaxed) {
                std::thread::sleep((until - Instant::now().min(until)).min(interval));
            }
        }
        self.scan();
    }

    /// Scans once, and writes the alerts. A system that cannot be scanned is searched again.
    fn scan(&mut self) {
        let Some((watched, source)) = &mut self.attached else { return };
        source.refresh();
        let passed = i64::try_from(self.start.elapsed().as_nanos()).unwrap_or(i64::MAX);
        let now =
            Now { monotonic: Monotonic::from_ns(passed), real: RealTime::from_ns(super::now_ns()) };
        let (producer, consumer) = &mut self.queue;
        let scanned = watched.scan(&mut self.workspace, source, now, producer);
        producer.flush();
        if let Some(alerts) = &self.alerts {
            locked(alerts).write(consumer);
        }
        let name = &self.system.name;
        match scanned {
            Ok(()) => self.failures = 0,
            Err(error) => {
                self.failures += 1;
                if self.failures >= FAILED_SCANS_MAX {
                    self.messages.warning(format_args!("{name}: {error}; searching it again"));
                    self.lose();
                    return;
                }
            }
        }
        if self.attached.as_ref().is_some_and(|(_, source)| source.has_ended()) {
            self.messages.warning(format_args!("{name}: the guest has ended"));
            self.lose();
        }
    }

    /// Forgets the system.
    fn lose(&mut self) {
        self.attached = None;
        self.is_attached.store(false, Ordering::Relaxed);
        self.traffic_link.forget();
    }
}

/// A process, as records have it.
pub(super) fn process(owner: &SocketOwner) -> FlowProcess<'_> {
    FlowProcess {
        id: owner.process_id,
        name: c_string(&owner.name),
        user_id: owner.user_id,
        container_id: &owner.container,
    }
}

/// The labels of the processes at both ends, for records of argus: `sproc=ID,NAME,USER`, and the
/// beginning of the container's id. Empty if there is none.
pub(super) fn labels(owners: [Option<FlowProcess<'_>>; 2]) -> [ProcessLabel; 2] {
    let mut labels = [ProcessLabel::new(), ProcessLabel::new()];
    for ((label, owner), name) in labels.iter_mut().zip(owners).zip(["sproc", "dproc"]) {
        let Some(process) = owner else { continue };
        let user = process.user_id.map_or(-1, i64::from);
        // There is room: see the test of the longest one.
        let _ = write!(label, "{name}={},", process.id);
        push_plain(label, process.name);
        let _ = write!(label, ",{user}");
        if !process.container_id.is_empty() {
            let _ = label.try_push(',');
            push_plain(label, &process.container_id[..process.container_id.len().min(12)]);
        }
    }
    labels
}

/// Clients take some bytes as the end of a label.
fn push_plain(label: &mut ProcessLabel, text: &[u8]) {
    for byte in text {
        let is_plain = byte.is_ascii_alphanumeric() || b"-_./+@".contains(byte);
        let _ = label.try_push(if is_plain { char::from(*byte) } else { '_' });
    }
}

/// What a record shows of a flow that may have sockets.
fn seen_flow(record: &FlowRecord) -> Option<SeenFlow> {
    let key = &record.key;
    let address = |address: panoptes_records::flow::Address| match key.kind {
        FlowKeyKind::Ipv4 => Some(IpAddr::V4(Ipv4Addr::from_bits(address.v4()))),
        FlowKeyKind::Ipv6 => Some(IpAddr::V6(Ipv6Addr::from(address.v6()))),
        _ => None,
    };
    let flags = match &record.detail {
        Detail::Tcp(tcp) => [tcp.source.flags, tcp.destination.flags],
        _ => [0; 2],
    };
    let end = |address: IpAddr, port: u16, side: &FlowSide, flags: u8| SeenEnd {
        address: SocketAddr::new(address, port),
        packets: side.packets,
        first_ns: side.first_ns,
        last_ns: side.last_ns,
        flags,
        hops: side.ttl,
    };
    let (source, destination) = (address(key.source)?, address(key.destination)?);
    Some(SeenFlow {
        protocol: key.protocol,
        ends: [
            end(source, key.source_port, &record.source, flags[0]),
            end(destination, key.destination_port, &record.destination, flags[1]),
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_label_fits() {
        let process = FlowProcess {
            id: u32::MAX,
            name: b"fifteen:bytes,=",
            user_id: Some(u32::MAX),
            container_id: &[b'a'; 64],
        };
        let [source, destination] = labels([Some(process), None]);
        assert_eq!(source.as_str(), "sproc=4294967295,fifteen_bytes__,4294967295,aaaaaaaaaaaa");
        assert_eq!(destination.as_str(), "");
    }
}
