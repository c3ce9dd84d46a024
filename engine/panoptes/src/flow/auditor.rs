//! The auditor: packets to their flows, records to outputs, and the sensor's own state.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use panoptes_capture::Frame;
use panoptes_decoders::netflow::{self, Datagram, Exporters, Item};
use panoptes_decoders::packet::mirror::{Mirrored, decode_mirrored};
use panoptes_decoders::packet::transport::protocol;
use panoptes_decoders::packet::{self, Network, Tunnels};
use panoptes_flow::netflow::{exporter_of, record_of};
use panoptes_flow::{Counts, Flows, Reports as _, Settings};
use panoptes_sinks::activities::Activity;
use panoptes_sinks::flow::Cause;
use panoptes_sinks::flow::argus::{Extra, Interim, Management, Options};
use panoptes_sinks::record::system_activity::SystemActivityDetails;
use panoptes_tables::{HashKey, room};

use super::devices::Stream;
use super::figures::SensorFigures;
use super::gaps::{Gap, Gaps, Missed};
use super::limit::FlowLimit;
use super::links::UnreadLinks;
use super::outputs::Outputs;
use super::request::Request;
use crate::exit::{Exit, Failure};
use crate::random;
use crate::size::show;

/// Everything between packets and outputs.
#[derive(Debug)]
pub(super) struct Auditor {
    streams: Vec<Audited>,
    outputs: Outputs,
    /// What is known of exporters of flows; made when the first of their packets comes.
    exporters: Option<Box<Exporters>>,
    /// Records of exported flows.
    exported: u64,
    tunnels: Tunnels,
    /// Numbers of the first and of the last packet that counts, from 1 on.
    packets: (u64, u64),
    number: u64,
    start: Instant,
    next_step_ns: u64,
    interval_ns: u64,
    next_state_ns: u64,
    /// The time of the last management record, and all that had happened by then.
    since_ns: i64,
    reported: Counts,
    reported_dropped: u64,
    limit: FlowLimit,
    /// Packets whose times were wrong.
    wrong_times: u64,
    unread: UnreadLinks,
    gaps: Gaps,
    next_look_ns: u64,
    /// As of the last look.
    missing: Missing,
    /// How many flows can be tracked in all tables together.
    flows_max: u64,
}

/// How many sources of packets there are, and what they have missed since the start.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Missing {
    /// Number of interfaces that are open. A capture counts as one.
    pub(super) interfaces: u32,
    /// Packets that found no room.
    pub(super) packets: u64,
    /// Datagrams that held no mirrored packet.
    pub(super) mirrors: u64,
    /// Seconds in which an interface was away.
    pub(super) interface_seconds: u64,
}

impl Missing {
    /// Of captures.
    pub(super) const NOTHING: Self =
        Self { interfaces: 1, packets: 0, mirrors: 0, interface_seconds: 0 };
}

/// The flows of one stream, and the options of their records.
#[derive(Debug)]
struct Audited {
    flows: Flows,
    records: Options,
}

/// Length of the header of UDP.
const UDP_BYTES: usize = 8;
/// How often outputs are looked at.
const STEP_NS: u64 = 10_000_000;
/// How often losses are looked for.
const LOOK_NS: u64 = 1_000_000_000;

fn settings(request: &Request) -> Settings {
    Settings {
        capacity: request.capacity,
        status_interval_ns: request.status_interval_ns,
        timeouts: request.timeouts,
        has_jitter: request.has_jitter,
        has_size_squares: request.records.packet_sizes,
        user_bytes: request.user_bytes,
        application: request.application,
        control: request.control(),
        identity: request.identity,
        is_unidirectional: request.is_unidirectional,
        has_overlays: request.has_overlays,
        waits_by_clock: !request.reads_captures(),
    }
}

/// Bytes that the tables of flows need; `None` if they are not a number of 64 bits.
pub(super) fn table_bytes(request: &Request) -> Option<u64> {
    let bytes = room::measure(|| Flows::new(&settings(request), HashKey::new(0)))?;
    bytes.checked_mul(request.streams.len().max(1) as u64)
}

/// Checks that the tables of flows can be made: an allocation that fails ends the process. What is
/// allocated here is not used, and so takes no memory.
pub(super) fn check_room(request: &Request) -> Result<(), Failure> {
    let bytes = table_bytes(request).unwrap_or(u64::MAX);
    let fits = usize::try_from(bytes).is_ok_and(|bytes| {
        let mut all: Vec<u8> = Vec::new();
        // A compiler may leave out an allocation that nobody sees.
        black_box(all.try_reserve_exact(bytes).is_ok() && black_box(&all).is_empty())
    });
    if fits {
        return Ok(());
    }
    let (needed, flows) = (show(bytes), request.capacity);
    let message = format!(
        "the tables for {flows} flows need {needed}, which this process may not allocate: use a \
         smaller --flows, or raise the limit (ulimit -v, vm.overcommit_memory)"
    );
    Err(Failure::new(Exit::Configuration, message))
}

impl Auditor {
    /// Makes the tables of flows: one for each stream, or one for captures.
    pub(super) fn new(request: &Request, outputs: Outputs, begin_ns: i64) -> Self {
        let settings = settings(request);
        let no_stream = request.streams.is_empty().then(Stream::default);
        let streams = request.streams.iter().chain(&no_stream).map(|stream| Audited {
            flows: Flows::new(&settings, random::hash_key()),
            records: Options {
                source_id: stream.source_id.unwrap_or(request.records.source_id),
                interface: request.interface_of(stream),
                ..request.records
            },
        });
        let streams: Vec<_> = streams.collect();
        let discovers = request.discovers_tunnels;
        let setting = if outputs.figures().is_some() { "flows.flows" } else { "--flows" };
        let limit = FlowLimit::new(request.capacity, setting);
        let interval_ns = u64::from(request.management_interval_s) * 1_000_000_000;
        Self {
            flows_max: request.capacity as u64 * streams.len() as u64,
            streams,
            outputs,
            exporters: None,
            exported: 0,
            tunnels: if discovers { Tunnels::Discover } else { Tunnels::Declared },
            packets: request.packets,
            number: 0,
            start: Instant::now(),
            next_step_ns: 0,
            interval_ns,
            next_state_ns: interval_ns,
            since_ns: begin_ns,
            reported: Counts::default(),
            reported_dropped: 0,
            limit,
            wrong_times: 0,
            unread: UnreadLinks::default(),
            gaps: Gaps::default(),
            next_look_ns: 0,
            missing: Missing::NOTHING,
        }
    }

    /// Whether no more packets are needed.
    pub(super) fn has_ended(&self) -> bool {
        self.has_all_packets() || self.outputs.has_ended()
    }

    /// How many packets have come.
    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// Whether the last packet that counts has come.
    #[inline]
    pub(super) const fn has_all_packets(&self) -> bool {
        self.number >= self.packets.1
    }

    /// Counts a packet of a stream, if it is one of those that count.
    #[inline]
    pub(super) fn packet(&mut self, stream: usize, frame: &Frame<'_>) {
        if self.is_left_out() {
            return;
        }
        let length = length_of(frame);
        let packet = packet::decode(frame.link, frame.bytes, length, self.tunnels);
        self.unread.look_at(&packet, frame.link);
        let audited = &mut self.streams[stream];
        let mut recording = self.outputs.of(&audited.records);
        audited.flows.packet(&packet, frame.time_ns, length, &mut recording);
    }

    /// Counts a mirrored packet of a stream, if it is one of those that count.
    #[inline(never)]
    pub(super) fn mirrored(&mut self, stream: usize, time_ns: i64, mirrored: &Mirrored<'_>) {
        if self.is_left_out() {
            return;
        }
        let packet = decode_mirrored(mirrored, self.tunnels);
        self.unread.look_at(&packet, mirrored.link);
        let Audited { flows, records } = &mut self.streams[stream];
        flows.packet_apart(&packet, time_ns, mirrored.length, &mut self.outputs.of(records));
    }

    /// Numbers a packet; whether it is none of those that count.
    #[inline]
    const fn is_left_out(&mut self) -> bool {
        self.number += 1;
        self.number < self.packets.0 || self.number > self.packets.1
    }

    /// Counts a packet, and takes the flows that it exports: `-r cisco:`.
    #[inline(never)]
    pub(super) fn exports(&mut self, frame: &Frame<'_>) {
        if self.is_left_out() {
            return;
        }
        let length = length_of(frame);
        let packet = packet::decode(frame.link, frame.bytes, length, self.tunnels);
        self.unread.look_at(&packet, frame.link);
        let Audited { flows, records } = &mut self.streams[0];
        flows.packet_apart(&packet, frame.time_ns, length, &mut self.outputs.of(records));
        let Network::Ip(ip) = packet.network else { return };
        if ip.protocol != protocol::UDP || !ip.is_first_fragment() {
            return;
        }
        let datagram = Datagram {
            exporter: ip.source,
            received_ns: frame.time_ns,
            payload: ip.payload.get(UDP_BYTES..).unwrap_or_default(),
            wire_length: ip.payload_length.saturating_sub(UDP_BYTES as u32),
        };
        let (exporters, tunnels) = (self.exporters.get_or_insert_default(), self.tunnels);
        let Audited { flows, records } = &mut self.streams[0];
        let mut recording = self.outputs.of(records);
        let exported = &mut self.exported;
        netflow::decode(&datagram, exporters, |item| match item {
            Item::Flow(flow) => {
                *exported += 1;
                let exporter = Some(exporter_of(flow));
                recording.report(&record_of(flow), &Extra { exporter, ..Extra::default() });
            }
            Item::Sample(_, sample) => {
                let wire_length = sample.wire_length.max(sample.header.len() as u32);
                let packet = packet::decode(sample.link, sample.header, wire_length, tunnels);
                flows.packet_apart(&packet, frame.time_ns, wire_length, &mut recording);
            }
        });
    }

    /// What the exporters have sent.
    pub(super) fn exporters(&self) -> netflow::Counts {
        self.exporters.as_ref().map(|exporters| exporters.counts()).unwrap_or_default()
    }

    /// The clock of packets was set by so many nanoseconds.
    pub(super) fn set_clock(&mut self, by_ns: i64) {
        for audited in &mut self.streams {
            audited.flows.set_clock(by_ns);
        }
        let (seconds, way) = (by_ns.unsigned_abs() / 1_000_000_000, by_ns.signum());
        let way = if way < 0 { "back" } else { "forward" };
        let reason = format!("the clock of packets was set {way} by {seconds} s; flows go on");
        self.outputs.report(Activity::DetailsGatheringFailed, &reason);
    }

    /// Reports that something of the sensor has failed.
    pub(super) fn report_failure(&mut self, reason: &str) {
        self.outputs.report(Activity::DetailsGatheringFailed, reason);
    }

    /// Adds packets whose times are wrong.
    pub(super) const fn add_wrong_times(&mut self, count: u64) {
        self.wrong_times += count;
    }

    /// Counts a packet of a stream whose time is wrong, with the time when it was read.
    #[cold]
    pub(super) fn packet_of_now(&mut self, stream: usize, frame: &Frame<'_>, now_ns: i64) {
        self.wrong_times += 1;
        self.packet(stream, &Frame { time_ns: now_ns, ..*frame });
    }

    /// Packets whose times were wrong.
    pub(super) const fn wrong_times(&self) -> u64 {
        self.wrong_times
    }

    /// Packets whose link layer could not be read.
    pub(super) const fn unread(&self) -> &UnreadLinks {
        &self.unread
    }

    /// Whether the packets that follow pass time; those with wrong times must not.
    pub(super) fn let_time_pass(&mut self, passes: bool) {
        for audited in &mut self.streams {
            audited.flows.let_time_pass(passes);
        }
    }

    /// Lets the time of flows pass, in nanoseconds of the clock by which they wait.
    pub(super) fn pass_time(&mut self, now_ns: i64) {
        for audited in &mut self.streams {
            audited.flows.pass_time_to(now_ns, &mut self.outputs.of(&audited.records));
        }
    }

    /// Looks at the outputs, and reports the sensor's state when its time has come. `missing` gives
    /// what the sources have missed since the start.
    pub(super) fn step(&mut self, missing: impl FnOnce() -> Missing) {
        let now_ns = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        if now_ns < self.next_step_ns {
            return;
        }
        self.next_step_ns = now_ns + STEP_NS;
        if now_ns >= self.next_look_ns.min(self.next_state_ns) {
            self.missing = missing();
        }
        if now_ns >= self.next_look_ns {
            self.next_look_ns = now_ns + LOOK_NS;
            self.look(Some(now_ns));
        }
        if now_ns >= self.next_state_ns {
            self.next_state_ns += self.interval_ns;
            let interim = self.interim(self.missing);
            self.outputs.report_state(Cause::Status, &interim);
            for audited in &mut self.streams {
                audited.flows.report_resolutions(&mut self.outputs.of(&audited.records));
            }
        }
        self.report_limit(Some(now_ns));
        self.outputs.step(now_ns);
    }

    /// Reports what is missed; `None` is the end.
    fn look(&mut self, now_ns: Option<u64>) {
        let (counts, unread) = (self.counts(), self.unread.unread());
        let scans = self.outputs.scans();
        let missed = Missed::default()
            .with(Gap::Packets, self.missing.packets)
            .with(Gap::Mirrors, self.missing.mirrors)
            .with(Gap::Links, unread)
            .with(Gap::Untracked, counts.unaccounted.saturating_sub(self.unread.total()))
            .with(Gap::Times, self.wrong_times)
            .with(Gap::Streams, counts.given_up)
            .with(Gap::Fallow, counts.forgotten)
            .with(Gap::Answers, counts.resolutions_overflowed)
            .with(Gap::UserData, counts.lost_user_bytes)
            .with(Gap::Exports, unread_exports(&self.exporters()))
            .with(Gap::Interfaces, self.missing.interface_seconds)
            .with(Gap::System, scans.away_s)
            .with(Gap::TcpSockets, scans.without_tcp)
            .with(Gap::UdpSockets, scans.without_udp);
        let (Self { gaps, outputs, flows_max, .. }, real_ns) = (self, super::now_ns());
        let report = |activity: Activity, details: &SystemActivityDetails<'_>| {
            outputs.report_activity(activity, details);
        };
        match now_ns {
            Some(now_ns) => gaps.look(&missed, (now_ns, real_ns), report),
            None => gaps.finish(&missed, real_ns, report),
        }
        if let Some(figures) = outputs.figures() {
            figures.set(&counts, *flows_max, gaps.missed());
        }
    }

    /// What the service shows of its sensor.
    pub(super) fn figures(&self) -> Option<Arc<SensorFigures>> {
        self.outputs.figures().map(Arc::clone)
    }

    /// Reports that a table of flows was full, if a record is due; `None` is the end.
    fn report_limit(&mut self, now_ns: Option<u64>) {
        let evicted = self.counts().evicted;
        self.limit.look(evicted, now_ns, |details| {
            self.outputs.report_activity(Activity::FlowsLimitReached, details);
        });
    }

    /// What all streams have counted.
    pub(super) fn counts(&self) -> Counts {
        let counts = self.streams.iter().map(|audited| audited.flows.counts());
        let exported = Counts { records: self.exported, ..Counts::default() };
        counts.fold(exported, |sum, one| Counts {
            packets: sum.packets + one.packets,
            bytes: sum.bytes + one.bytes,
            flows: sum.flows + one.flows,
            records: sum.records + one.records,
            evicted: sum.evicted + one.evicted,
            lost_user_bytes: sum.lost_user_bytes + one.lost_user_bytes,
            unaccounted: sum.unaccounted + one.unaccounted,
            tracked: sum.tracked + one.tracked,
            fallow: sum.fallow + one.fallow,
            forgotten: sum.forgotten + one.forgotten,
            given_up: sum.given_up + one.given_up,
            resolutions_overflowed: sum.resolutions_overflowed + one.resolutions_overflowed,
        })
    }

    /// What has happened since the last management record.
    fn interim(&mut self, missing: Missing) -> Interim {
        let dropped = missing.packets;
        let (counts, last, now_ns) = (self.counts(), self.reported, super::now_ns());
        let narrow = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        let sequences = self.streams.iter().map(|audited| audited.flows.last_sequence());
        let interim = Interim {
            since_ns: self.since_ns,
            now_ns,
            sequence: sequences.max().unwrap_or(0),
            packets: counts.packets - last.packets,
            bytes: counts.bytes - last.bytes,
            records: narrow(counts.records - last.records),
            flows: narrow(counts.flows - last.flows),
            dropped: narrow(dropped - self.reported_dropped),
            tracked: narrow(counts.tracked),
            fallow: narrow(counts.fallow),
            interfaces: missing.interfaces,
            clients: narrow(self.outputs.clients() as u64),
        };
        (self.since_ns, self.reported, self.reported_dropped) = (now_ns, counts, dropped);
        interim
    }

    /// Writes all flows and the last management record. What was counted, and how it went.
    pub(super) fn finish(mut self, missing: Missing) -> (Counts, Result<Exit, Failure>) {
        self.missing = missing;
        self.outputs.begin_to_end();
        for audited in &mut self.streams {
            audited.flows.finish(&mut self.outputs.of(&audited.records));
        }
        self.report_limit(None);
        self.look(None);
        let interim = self.interim(missing);
        (self.counts(), self.outputs.finish(&interim))
    }
}

/// What exporters have sent and no record has.
const fn unread_exports(counts: &netflow::Counts) -> u64 {
    counts.malformed
        + counts.sets_without_template
        + counts.templates_refused
        + counts.lost_records
        + counts.lost_datagrams
        + counts.not_followed
}

/// Some captures have a length on the wire that is too small.
#[inline]
fn length_of(frame: &Frame<'_>) -> u32 {
    frame.wire_length.max(frame.bytes.len() as u32)
}

/// What all management records have in common. `link` is the LINKTYPE of the first source.
pub(super) fn management(request: &Request, begin_ns: i64, link: u16) -> Management {
    let whole_seconds = request.status_interval_ns / 1_000_000_000;
    let mut ids = request.streams.iter().map(|stream| stream.source_id);
    let first = ids.next().flatten();
    // Streams with several ids have none in common; then it is that of the sensor.
    let common = first.filter(|_| ids.all(|id| id == first));
    Management {
        source_id: common.unwrap_or(request.records.source_id),
        begin_ns,
        link: u8::try_from(link).unwrap_or(0),
        flow_interval_s: u16::try_from(whole_seconds).unwrap_or(u16::MAX),
        interval_s: request.management_interval_s,
        user_bytes: request.user_bytes as u16,
    }
}
