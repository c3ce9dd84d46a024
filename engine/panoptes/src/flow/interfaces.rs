//! Network interfaces that are open: their packets to what takes them.
//!
//! One thread reads all interfaces in turn. It waits only when none has a packet. An interface that
//! goes away is opened again when it is back. Of several threads (`threads`), each does so for its
//! part of the packets.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use panoptes_packet_rings::{InterfaceError, InterfaceOptions, MirrorPort, all, default_name};

use super::audit::{Audit, PacketSourceLosses};
use super::auditor::Auditor;
use super::clocks::{Clocks, PlausibleTimes};
use super::devices::{self, FlowStream, Means, NamedInterface};
use super::figures::SensorFigures;
use super::filter::PacketFilters;
use super::part::InterfacePart;
use super::receiver::{Receiver, failure};
use super::request::FlowRequest;
use super::signals::Signals;
use crate::exit::{Exit, Failure};
use crate::message::Messages;
use crate::sandbox::Role;

/// Packets that one interface may pass on before the next one has its turn.
const PACKETS_IN_TURN: u32 = 4096;
/// The longest wait for packets, in milliseconds: clients are served in between.
pub(super) const WAIT_MS: u16 = 20;
/// How often interfaces are looked at.
pub(super) const CHECK: Duration = Duration::from_secs(1);
/// How long what came before the end is waited for: the kernel keeps packets for up to 10 ms.
const LAST_WAIT: Duration = Duration::from_millis(50);

/// An interface of a stream.
#[derive(Debug)]
struct StreamInterface {
    stream: usize,
    /// `None`: it has all packets of the interface.
    part: Option<InterfacePart>,
    options: InterfaceOptions,
    means: Means,
    /// Its LINKTYPE_ number.
    link: u16,
    /// `None` while it is away.
    interface: Option<Receiver>,
    /// Packets that were lost before it was opened again.
    lost_before: u64,
    /// Lost packets that figures have.
    lost_shown: u64,
    /// Seconds in which it was away.
    away_s: u64,
    /// Why it could not be opened again, as far as that was reported.
    refusal: String,
}

/// Network interfaces that are open, and what decides about their packets.
#[derive(Debug)]
pub(super) struct Interfaces {
    /// With the names of the interfaces.
    request: FlowRequest,
    filters: PacketFilters,
    sources: Vec<StreamInterface>,
    /// Packets before this time, in nanoseconds since 1970, are left to another sensor.
    from_ns: i64,
    /// What shows how many packets each has lost, if somebody looks.
    figures: Option<Arc<SensorFigures>>,
    /// Packets that were lost on the way to other threads, as far as figures have them.
    passed_lost_shown: u64,
}

impl Interfaces {
    /// Opens all interfaces. They receive nothing yet. `ports` are those of another sensor, which
    /// this one takes over.
    pub(super) fn open(request: &FlowRequest, mut ports: Vec<MirrorPort>) -> Result<Self, Failure> {
        let mut request = request.clone();
        request.interfaces.streams = streams(&request)?;
        let mut interfaces = Self::none(&request);
        for (stream, named) in interfaces.request.interfaces.streams.iter().enumerate() {
            for named in &named.interfaces {
                let options = options(named, &interfaces.request);
                let receiver = match named.means {
                    Means::Datagrams(mirror, address) => {
                        let known = ports.iter().position(|port| port.address() == address);
                        let known = known.map(|at| (mirror, ports.swap_remove(at)));
                        known.map(|port| Receiver::take_over(&options, port))
                    }
                    _ => None,
                };
                let receiver = receiver.unwrap_or_else(|| Receiver::open(&options, named.means));
                let receiver = receiver.map_err(|error| failure(&error))?;
                let source = StreamInterface::new((stream, named), options, receiver);
                source.compile(&mut interfaces.filters)?;
                interfaces.sources.push(source);
            }
        }
        Ok(interfaces)
    }

    /// Without one yet; the request has their names.
    pub(super) fn none(request: &FlowRequest) -> Self {
        let filters = PacketFilters::new(request);
        Self {
            request: request.clone(),
            filters,
            sources: Vec::new(),
            from_ns: i64::MIN,
            figures: None,
            passed_lost_shown: 0,
        }
    }

    /// Shows in figures what each has lost. Several threads may do so.
    pub(super) fn show_in(&mut self, figures: &Arc<SensorFigures>) {
        self.figures = Some(Arc::clone(figures));
    }

    /// Leaves the packets before a time, in nanoseconds since 1970, to the sensor that it follows.
    pub(super) const fn leave_before(&mut self, from_ns: i64) {
        self.from_ns = from_ns;
    }

    /// Adds what receives a part of the packets of an interface, the one with this number.
    pub(super) fn add(
        &mut self,
        (stream, named): (usize, &NamedInterface),
        receiver: Receiver,
        part: InterfacePart,
    ) -> Result<(), Failure> {
        let options = options(named, &self.request);
        let source = StreamInterface {
            part: Some(part),
            ..StreamInterface::new((stream, named), options, receiver)
        };
        source.compile(&mut self.filters)?;
        self.sources.push(source);
        Ok(())
    }

    /// Begins to receive.
    pub(super) fn start(&mut self, messages: &Messages) -> Result<(), Failure> {
        for source in &mut self.sources {
            if source.must_wait() {
                source.interface = None;
                continue;
            }
            let reports = source.part.as_ref().is_none_or(InterfacePart::is_last);
            match source.start(&mut self.filters)? {
                Ok(()) if !reports => continue,
                Ok(()) => messages.info(format_args!("{}: auditing", source.options.name)),
                Err(error) => {
                    messages.warning(error);
                    // A part joins the others when it is opened again, and the next ones after it.
                    if source.part.is_some() {
                        source.interface = None;
                    }
                }
            }
            source.report(messages);
        }
        Ok(())
    }

    /// Shows how many packets the thread has lost on the way to other threads.
    pub(super) fn show_passed_lost(&mut self, lost: u64) {
        if let Some(figures) = &self.figures {
            figures.add_lost(self.sources.len(), lost - self.passed_lost_shown);
            self.passed_lost_shown = lost;
        }
    }

    /// Notes a step of a thread that has a part of the packets. It makes some steps a second.
    pub(super) fn note_step(&self) {
        if let (Some(figures), Some(part)) = (&self.figures, self.part()) {
            figures.note_step_of(part.number);
        }
    }

    /// The thread ends.
    pub(super) fn note_end(&self) {
        if let (Some(figures), Some(part)) = (&self.figures, self.part()) {
            figures.note_end_of(part.number);
        }
    }

    /// The part of the packets that it has; `None` for all.
    pub(super) fn part(&self) -> Option<&InterfacePart> {
        self.sources.first()?.part.as_ref()
    }

    pub(super) const fn request(&self) -> &FlowRequest {
        &self.request
    }

    /// The ports, for a sensor that takes them over.
    pub(super) fn ports(&self) -> Vec<MirrorPort> {
        let all = self.sources.iter();
        all.filter_map(|source| source.interface.as_ref()?.port(source.means)).collect()
    }

    /// The names of the interfaces.
    pub(super) fn names(&self) -> Vec<String> {
        self.sources.iter().map(|source| source.options.name.clone()).collect()
    }

    /// The LINKTYPE_ number of the first one.
    pub(super) fn link(&self) -> u16 {
        self.sources.first().map_or(0, |source| source.link)
    }

    /// Passes packets on, until a signal or the auditor needs no more of them.
    pub(super) fn audit(&mut self, auditor: &mut Auditor, signals: &Signals, messages: &Messages) {
        let mut clocks = Clocks::start();
        let mut last_check = Instant::now();
        while !auditor.has_ended() && !signals.have_ended() {
            let has_read = self.read(auditor, &mut clocks, signals);
            auditor.step(|| self.missing());
            if !has_read {
                self.wait(signals, WAIT_MS);
            }
            if last_check.elapsed() >= CHECK {
                last_check = Instant::now();
                self.check(auditor, messages);
            }
        }
        let (begin, wait) = (Instant::now(), last_wait(signals));
        while !auditor.has_ended() && begin.elapsed() < wait {
            if !self.read(auditor, &mut clocks, signals) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        // What comes to ports from here on is for a sensor that takes them over.
        let receivers = self.sources.iter_mut().filter_map(|source| source.interface.as_mut());
        receivers.for_each(Receiver::leave);
        self.read(auditor, &mut clocks, signals);
    }

    /// Gives each interface its turn, and leaves packets to the sensors before and after this one.
    /// Whether one had a packet.
    pub(super) fn read(
        &mut self,
        auditor: &mut impl Audit,
        clocks: &mut Clocks,
        signals: &Signals,
    ) -> bool {
        let own = self.from_ns..signals.until_ns();
        let times = clocks.look(auditor);
        let mut has_read = false;
        for source in &mut self.sources {
            has_read |= source.read(auditor, &times, &own);
        }
        has_read
    }

    /// Looks whether the interfaces are still there, and opens those again that have come back. To
    /// be called each second.
    pub(super) fn check(&mut self, auditor: &mut impl Audit, messages: &Messages) {
        for source in &mut self.sources {
            source.check(&mut self.filters, auditor, messages);
        }
    }

    /// Waits so many milliseconds for packets or for a signal.
    pub(super) fn wait(&self, signals: &Signals, wait_ms: u16) {
        let interfaces = self.sources.iter().filter_map(|source| source.interface.as_ref());
        let descriptors = interfaces.flat_map(Receiver::descriptors);
        let mut polled: Vec<_> =
            descriptors.map(|descriptor| PollFd::new(descriptor, PollFlags::POLLIN)).collect();
        polled.push(PollFd::new(signals.descriptor(), PollFlags::POLLIN));
        let begin = Instant::now();
        // An error here is an interrupted wait, the same as no packet.
        let _ = poll(&mut polled, PollTimeout::from(wait_ms));
        // An interface in trouble is always ready, until it is looked at.
        let is_trouble = polled.iter().any(|one| {
            one.revents()
                .is_some_and(|events| events.intersects(PollFlags::POLLERR | PollFlags::POLLHUP))
        });
        if is_trouble {
            std::thread::sleep(
                Duration::from_millis(u64::from(wait_ms)).saturating_sub(begin.elapsed()),
            );
        }
    }

    /// What all interfaces have missed since the start.
    pub(super) fn missing(&mut self) -> PacketSourceLosses {
        let mut all = PacketSourceLosses::default();
        for (at, source) in self.sources.iter_mut().enumerate() {
            let now = source.interface.as_mut().map_or(0, |interface| interface.losses().dropped);
            let lost = source.lost_before + now;
            all.interfaces += u32::from(source.interface.is_some());
            all.packets += lost;
            all.mirrors += source.interface.as_ref().map_or(0, Receiver::others);
            all.interface_seconds += source.away_s;
            if let Some(figures) = &self.figures {
                figures.add_lost(at, lost - source.lost_shown);
                source.lost_shown = lost;
            }
        }
        all
    }

    /// What the thread of packets has to do.
    pub(super) fn role(&self) -> Role {
        let by_xdp = self.sources.iter().any(|source| source.means == Means::Xdp);
        let is_interface = |source: &StreamInterface| !matches!(source.means, Means::Datagrams(..));
        Role::Packets { from_interfaces: self.sources.iter().any(is_interface), by_xdp }
    }
}

/// How long packets that came before the end are waited for, and those up to the time from which on
/// they are left to another sensor.
pub(super) fn last_wait(signals: &Signals) -> Duration {
    let until_ns = signals.until_ns();
    if until_ns == i64::MAX {
        return LAST_WAIT;
    }
    let ahead_ns = until_ns.saturating_sub(super::now_ns()).try_into().unwrap_or(0);
    // The clock may be set meanwhile.
    LAST_WAIT + Duration::from_nanos(ahead_ns).min(CHECK)
}

/// How an interface is opened; several threads divide the memory of its ring.
pub(super) fn options(named: &NamedInterface, request: &FlowRequest) -> InterfaceOptions {
    InterfaceOptions {
        name: named.name.clone(),
        promiscuous: request.interfaces.is_promiscuous,
        snap_length: request.interfaces.snap_length,
        ring_bytes: request.interfaces.ring_bytes / request.interfaces.threads,
        hardware_time: true,
        ..InterfaceOptions::default()
    }
}

/// The streams, with names of interfaces for `all` and for none.
pub(super) fn streams(request: &FlowRequest) -> Result<Vec<FlowStream>, Failure> {
    let failed =
        |error: &std::io::Error| Failure::io(error, Exit::Source, "cannot list the interfaces");
    if request.interfaces.streams.is_empty() {
        let name = default_name().map_err(|error| failed(&error))?;
        let missing = || Failure::new(Exit::Source, "no network interface is up: name one with -i");
        let name = name.ok_or_else(missing)?;
        return Ok(vec![FlowStream {
            interfaces: vec![NamedInterface::plain(&name)],
            source_id: None,
        }]);
    }
    let mut streams = Vec::new();
    for stream in &request.interfaces.streams {
        if stream.interfaces != [NamedInterface::plain(devices::ALL)] {
            streams.push(stream.clone());
            continue;
        }
        // The loopback interface only if it is named: argus.conf(5).
        let devices = all().map_err(|error| failed(&error))?;
        let devices = devices.into_iter().filter(|device| device.is_up && device.name != "lo");
        let names = devices.map(|device| NamedInterface::plain(&device.name));
        if request.is_endpoint {
            // One table of flows for all.
            streams.push(FlowStream { interfaces: names.collect(), ..*stream });
            continue;
        }
        streams.extend(names.map(|name| FlowStream { interfaces: vec![name], ..*stream }));
    }
    if streams.iter().all(|stream| stream.interfaces.is_empty()) {
        return Err(Failure::new(Exit::Source, "no network interface is up"));
    }
    Ok(streams)
}

/// Whether there is an interface of this name that is not up.
fn is_down(name: &str) -> bool {
    all().is_ok_and(|devices| devices.iter().any(|one| one.name == name && !one.is_up))
}

impl StreamInterface {
    fn new(
        (stream, named): (usize, &NamedInterface),
        options: InterfaceOptions,
        receiver: Receiver,
    ) -> Self {
        Self {
            stream,
            part: None,
            options,
            means: named.means,
            link: receiver.link(),
            interface: Some(receiver),
            lost_before: 0,
            lost_shown: 0,
            away_s: 0,
            refusal: String::new(),
        }
    }

    /// Compiles the filter for it.
    fn compile(&self, filters: &mut PacketFilters) -> Result<(), Failure> {
        let snap_length = self.options.snap_length;
        self.interface.as_ref().map_or(Ok(()), |one| one.compile(filters, snap_length))
    }

    /// Whether it is a part of an interface which others must join before.
    fn must_wait(&self) -> bool {
        let may_join = |part: &InterfacePart| part.may_join();
        self.means == Means::Ring && !self.part.as_ref().is_none_or(may_join)
    }

    /// Begins to receive; the inner error is that of an interface that is down.
    fn start(
        &mut self,
        filters: &mut PacketFilters,
    ) -> Result<Result<(), InterfaceError>, Failure> {
        let Some(interface) = &mut self.interface else { return Ok(Ok(())) };
        interface.start(filters, self.options.snap_length, self.part.as_mut())
    }

    /// Reports how it receives.
    fn report(&self, messages: &Messages) {
        if let Some(interface) = &self.interface {
            interface.report(&self.options.name, messages);
        }
    }

    /// Passes packets on, as many as may be in turn. Those whose times are not in `own` belong to
    /// another sensor. Whether there was one.
    fn read(&mut self, auditor: &mut impl Audit, times: &PlausibleTimes, own: &Range<i64>) -> bool {
        let Some(interface) = &mut self.interface else { return false };
        let has_read = interface.read(PACKETS_IN_TURN, |frame| {
            if !times.plausible.contains(&frame.time_ns) {
                auditor.packet_of_now(self.stream, frame, times.now_ns);
            } else if own.contains(&frame.time_ns) {
                auditor.packet(self.stream, frame);
            }
        });
        let has_mirrored = interface.read_mirrored(PACKETS_IN_TURN, |time_ns, mirrored| {
            let is_plausible = times.plausible.contains(&time_ns);
            auditor.add_wrong_times(u64::from(!is_plausible));
            let time_ns = if is_plausible { time_ns } else { times.now_ns };
            auditor.mirrored(self.stream, time_ns, mirrored);
        });
        has_read || has_mirrored
    }

    /// Looks whether the interface is still there, and opens it again if it has come back.
    fn check(
        &mut self,
        filters: &mut PacketFilters,
        auditor: &mut impl Audit,
        messages: &Messages,
    ) {
        let Some(interface) = &mut self.interface else {
            self.away_s += 1;
            return self.reopen(filters, auditor, messages);
        };
        // The first part joins before the others.
        let reports = self.part.as_ref().is_none_or(InterfacePart::is_first);
        match interface.check() {
            Err(error @ InterfaceError::Removed { .. }) => {
                if reports {
                    auditor.report_failure(&error.to_string());
                }
                self.refusal.clear();
                self.lost_before += interface.losses().dropped;
                self.interface = None;
            }
            Err(error) if reports => messages.warning(error),
            _ => {}
        }
    }

    /// Opens the interface again if there is one of this name.
    fn reopen(
        &mut self,
        filters: &mut PacketFilters,
        auditor: &mut impl Audit,
        messages: &Messages,
    ) {
        if self.must_wait() {
            return;
        }
        // A part needs an interface that is up, and its ring is large.
        if self.part.is_some() && is_down(&self.options.name) {
            let name = self.options.name.clone();
            return self.refuse(InterfaceError::Down { name }.to_string(), auditor);
        }
        match Receiver::open(&self.options, self.means) {
            Ok(interface) => self.interface = Some(interface),
            Err(InterfaceError::Missing { .. }) => return,
            Err(error) => return self.refuse(error.to_string(), auditor),
        }
        match self.start(filters) {
            Ok(Ok(())) if self.part.as_ref().is_some_and(|part| !part.is_last()) => {}
            Ok(Ok(())) => messages.info(format_args!("{}: auditing again", self.options.name)),
            // The next ones wait for it.
            Ok(Err(error)) if self.part.is_some() => self.refuse(error.to_string(), auditor),
            Err(failure) if self.part.is_some() => self.refuse(failure.to_string(), auditor),
            Ok(Err(error)) => messages.warning(error),
            Err(failure) => messages.error(failure),
        }
    }

    /// Reports why it cannot be opened again. It is tried each second, and reported once.
    fn refuse(&mut self, refusal: String, auditor: &mut impl Audit) {
        self.interface = None;
        if refusal != self.refusal {
            auditor.report_failure(&refusal);
            self.refusal = refusal;
        }
    }
}
