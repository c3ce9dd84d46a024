//! The auditor: packets to their flows, records to outputs, and the sensor's own state.

use std::time::Instant;

use panoptes_decoders::netflow::{self, Datagram, Exporters, Item};
use panoptes_decoders::packet::mirror::MirrorPacket;
use panoptes_decoders::packet::transport::{UDP_BYTES, protocol};
use panoptes_decoders::packet::{self, Network};
use panoptes_flow::netflow::{exporter_of, record_of};
use panoptes_flow::{FlowTableCounts, Reports as _};
use panoptes_packet_files::Frame;
use panoptes_records::activities::Activity;
use panoptes_records::flow::{Cause, Extra};
use panoptes_records::record::system_activity::SystemActivityDetails;
use panoptes_sinks::flow::argus::{ArgusOptions, Interim, Management};

use super::audit::{Audit, PacketSourceLosses, clock_was_set};
use super::devices::FlowStream;
use super::gaps::{FlowGapTotals, Gap, Gaps};
use super::limit::FlowLimit;
use super::links::UnreadLinks;
use super::live_output::LOSSES_NS;
use super::outputs::Outputs;
use super::request::FlowRequest;
use super::tables::{Tables, add, capacity_of_all, length_of};
use super::thread_counts::{ThreadCounts, ThreadReport};
use crate::exit::{Exit, Failure};

/// Everything between packets and outputs.
#[derive(Debug)]
pub(super) struct Auditor {
    tables: Tables,
    /// What threads have counted, if they have the flows.
    thread_counts: ThreadCounts,
    /// The options of the records of each stream.
    records: Vec<ArgusOptions>,
    outputs: Outputs,
    /// State of the exporters of flows; created when the first of their packets comes.
    exporters: Option<Box<Exporters>>,
    /// Records of exported flows.
    exported: u64,
    /// Numbers of the first and of the last packet that counts, from 1 on.
    packets: (u64, u64),
    number: u64,
    start: Instant,
    next_step_ns: u64,
    interval_ns: u64,
    next_state_ns: u64,
    /// The time of the last management record, and all that had happened by then.
    since_ns: i64,
    reported: FlowTableCounts,
    reported_dropped: u64,
    limit: FlowLimit,
    /// Records that threads have lost, as far as that was reported, and when the next report may
    /// be.
    reported_lost: u64,
    next_report_ns: u64,
    gaps: Gaps,
    next_look_ns: u64,
    /// As of the last look.
    missing: PacketSourceLosses,
    /// How many flows can be tracked in all tables together.
    flows_max: u64,
}

/// How often outputs are looked at.
const STEP_NS: u64 = 10_000_000;
/// How often losses are looked for.
const POLL_INTERVAL_NS: u64 = 1_000_000_000;

impl Auditor {
    /// Without packets of a live interface yet. With threads, these have the tables of flows.
    pub(super) fn new(request: &FlowRequest, outputs: Outputs, begin_ns: i64) -> Self {
        let no_stream = request.interfaces.streams.is_empty().then(FlowStream::default);
        let records =
            request.interfaces.streams.iter().chain(&no_stream).map(|stream| ArgusOptions {
                source_id: stream.source_id.unwrap_or(request.records.options.source_id),
                interface: request.interface_of(stream),
                ..request.records.options
            });
        let has_threads = request.interfaces.threads > 1;
        let tables = if has_threads { Tables::none(request) } else { Tables::new(request, 0) };
        let setting = if outputs.figures().is_some() { "flows.flows" } else { "--flows" };
        let interval_ns = u64::from(request.records.management_interval_s) * 1_000_000_000;
        Self {
            records: records.collect(),
            tables,
            thread_counts: ThreadCounts::default(),
            outputs,
            exporters: None,
            exported: 0,
            packets: request.input.packets,
            number: 0,
            start: Instant::now(),
            next_step_ns: 0,
            interval_ns,
            next_state_ns: interval_ns,
            since_ns: begin_ns,
            reported: FlowTableCounts::default(),
            reported_dropped: 0,
            limit: FlowLimit::new(request.flows.capacity, setting),
            reported_lost: 0,
            next_report_ns: 0,
            gaps: Gaps::default(),
            next_look_ns: 0,
            missing: PacketSourceLosses::NOTHING,
            flows_max: capacity_of_all(request),
        }
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

    /// Writes a record, or an answer of DNS, of a stream: a thread has its flow.
    pub(super) fn reported(&mut self, stream: usize, reported: &ThreadReport<'_>) {
        let mut recording = self.outputs.of(&self.records[stream]);
        match reported {
            ThreadReport::Flow(record, extra) => recording.report(record, extra),
            ThreadReport::Answer(resolution) => recording.resolved(resolution),
        }
    }

    /// Sets what threads have counted.
    pub(super) fn set_thread_counts(&mut self, thread_counts: ThreadCounts) {
        self.thread_counts = thread_counts;
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
        let (length, tunnels) = (length_of(frame), self.tables.tunnels());
        let packet = packet::decode(frame.link, frame.bytes, length, tunnels);
        let mut recording = self.outputs.of(&self.records[0]);
        self.tables.count_apart(0, &packet, (frame.link, frame.time_ns, length), &mut recording);
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
        let exporters = self.exporters.get_or_insert_default();
        let (tables, mut recording) = (&mut self.tables, self.outputs.of(&self.records[0]));
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
                let facts = (sample.link, frame.time_ns, wire_length);
                tables.count_apart(0, &packet, facts, &mut recording);
            }
        });
    }

    /// What the exporters have sent.
    pub(super) fn exporters(&self) -> netflow::ExporterCounts {
        self.exporters.as_ref().map(|exporters| exporters.counts()).unwrap_or_default()
    }

    /// Packets whose times were wrong.
    pub(super) const fn wrong_times(&self) -> u64 {
        self.tables.wrong_times() + self.thread_counts.wrong_times
    }

    /// Packets whose link layer could not be read.
    pub(super) fn unread(&self) -> UnreadLinks {
        let mut unread = self.tables.unread().clone();
        unread.add_all(&self.thread_counts.unread);
        unread
    }

    /// Whether the packets that follow pass time; those with wrong times must not.
    pub(super) fn let_time_pass(&mut self, passes: bool) {
        self.tables.let_time_pass(passes);
    }

    /// Looks at the outputs, and reports the sensor's state when its time has come. `missing` gives
    /// what the sources have missed since the start.
    pub(super) fn step(&mut self, missing: impl FnOnce() -> PacketSourceLosses) {
        let now_ns = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        if now_ns < self.next_step_ns {
            return;
        }
        self.next_step_ns = now_ns + STEP_NS;
        if now_ns >= self.next_look_ns.min(self.next_state_ns) {
            self.missing = missing();
        }
        if now_ns >= self.next_look_ns {
            self.next_look_ns = now_ns + POLL_INTERVAL_NS;
            self.look(Some(now_ns));
        }
        if now_ns >= self.next_state_ns {
            self.next_state_ns += self.interval_ns;
            let interim = self.interim(self.missing);
            self.outputs.report_state(Cause::Status, &interim);
            for (stream, flows) in self.tables.streams() {
                flows.report_resolutions(&mut self.outputs.of(&self.records[stream]));
            }
        }
        self.report_limit(Some(now_ns));
        self.report_lost_records(Some(now_ns));
        self.outputs.step(now_ns);
    }

    /// Reports what is missed; `None` is the end.
    fn look(&mut self, now_ns: Option<u64>) {
        let (counts, links) = (self.counts(), self.unread());
        let scans = self.outputs.scans();
        let missed = FlowGapTotals::default()
            .with(Gap::Packets, self.missing.packets)
            .with(Gap::Mirrors, self.missing.mirrors)
            .with(Gap::Links, links.unread())
            .with(Gap::Untracked, counts.unaccounted.saturating_sub(links.total()))
            .with(Gap::Times, self.wrong_times())
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

    /// Reports that a table of flows was full, if a record is due; `None` is the end.
    fn report_limit(&mut self, now_ns: Option<u64>) {
        let evicted = self.counts().evicted;
        self.limit.look(evicted, now_ns, |details| {
            self.outputs.report_activity(Activity::FlowsLimitReached, details);
        });
    }

    /// Reports the records that threads have lost, if a report is due; `None` is the end.
    fn report_lost_records(&mut self, now_ns: Option<u64>) {
        let new = self.thread_counts.lost_records.saturating_sub(self.reported_lost);
        if new == 0 || now_ns.is_some_and(|now_ns| now_ns < self.next_report_ns) {
            return;
        }
        self.reported_lost = self.thread_counts.lost_records;
        self.next_report_ns = now_ns.unwrap_or(0).saturating_add(LOSSES_NS);
        self.outputs.report_dropped(
            "threads",
            "the threads had more records than can be merged",
            new,
        );
    }

    /// What all streams have counted.
    pub(super) fn counts(&self) -> FlowTableCounts {
        let exported = FlowTableCounts { records: self.exported, ..FlowTableCounts::default() };
        [self.thread_counts.counts, exported].into_iter().fold(self.tables.counts(), add)
    }

    /// What has happened since the last management record.
    fn interim(&mut self, missing: PacketSourceLosses) -> Interim {
        let dropped = missing.packets;
        let (counts, last, now_ns) = (self.counts(), self.reported, super::now_ns());
        let narrow = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        let interim = Interim {
            since_ns: self.since_ns,
            now_ns,
            sequence: self.tables.last_sequence().max(self.thread_counts.last_sequence),
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

    /// What the sources had missed at the last look.
    pub(super) const fn missing(&self) -> PacketSourceLosses {
        self.missing
    }

    /// Lets the records to come wait for the outputs: packets wait no more.
    pub(super) fn wait_for_outputs(&mut self) {
        self.outputs.wait_for_room();
    }

    /// Writes all flows and the last management record. What was counted, and how it went.
    pub(super) fn finish(
        mut self,
        missing: PacketSourceLosses,
    ) -> (FlowTableCounts, Result<Exit, Failure>) {
        self.missing = missing;
        self.outputs.begin_to_end();
        for (stream, flows) in self.tables.streams() {
            flows.finish(&mut self.outputs.of(&self.records[stream]));
        }
        self.report_limit(None);
        self.report_lost_records(None);
        self.look(None);
        let interim = self.interim(missing);
        (self.counts(), self.outputs.finish(&interim))
    }
}

impl Audit for Auditor {
    fn has_ended(&self) -> bool {
        self.has_all_packets() || self.outputs.has_ended()
    }

    /// Counts a packet of a stream, if it is one of those that count.
    #[inline]
    fn packet(&mut self, stream: usize, frame: &Frame<'_>) {
        if self.is_left_out() {
            return;
        }
        let mut recording = self.outputs.of(&self.records[stream]);
        self.tables.packet(stream, frame, &mut recording);
    }

    fn mirrored(&mut self, stream: usize, time_ns: i64, mirrored: &MirrorPacket<'_>) {
        if self.is_left_out() {
            return;
        }
        let mut recording = self.outputs.of(&self.records[stream]);
        self.tables.mirrored(stream, time_ns, mirrored, &mut recording);
    }

    fn add_wrong_times(&mut self, count: u64) {
        self.tables.add_wrong_times(count);
    }

    fn set_clock(&mut self, by_ns: i64) {
        self.tables.set_clock(by_ns);
        self.report_failure(&clock_was_set(by_ns));
    }

    fn pass_time(&mut self, now_ns: i64) {
        for (stream, flows) in self.tables.streams() {
            flows.pass_time_to(now_ns, &mut self.outputs.of(&self.records[stream]));
        }
    }

    fn report_failure(&mut self, reason: &str) {
        self.outputs.report(Activity::DetailsGatheringFailed, reason);
    }
}

/// What exporters have sent and no record has.
const fn unread_exports(counts: &netflow::ExporterCounts) -> u64 {
    counts.malformed
        + counts.sets_without_template
        + counts.templates_refused
        + counts.lost_records
        + counts.lost_datagrams
        + counts.not_followed
}

/// What all management records have in common. `link` is the LINKTYPE of the first source.
pub(super) fn management(request: &FlowRequest, begin_ns: i64, link: u16) -> Management {
    let whole_seconds = request.records.status_interval_ns / 1_000_000_000;
    let mut ids = request.interfaces.streams.iter().map(|stream| stream.source_id);
    let first = ids.next().flatten();
    // Streams with several ids have none in common; then it is that of the sensor.
    let common = first.filter(|_| ids.all(|id| id == first));
    Management {
        source_id: common.unwrap_or(request.records.options.source_id),
        begin_ns,
        link: u8::try_from(link).unwrap_or(0),
        flow_interval_s: u16::try_from(whole_seconds).unwrap_or(u16::MAX),
        interval_s: request.records.management_interval_s,
        user_bytes: request.records.user_bytes as u16,
    }
}
