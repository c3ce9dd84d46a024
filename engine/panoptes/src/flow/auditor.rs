//! The auditor: packets to their flows, records to outputs, and the sensor's own state.

use std::time::Instant;

use panoptes_capture::Frame;
use panoptes_decoders::netflow::{self, Datagram, Exporters, Item};
use panoptes_decoders::packet::transport::protocol;
use panoptes_decoders::packet::{self, Network, Tunnels};
use panoptes_flow::netflow::{exporter_of, record_of};
use panoptes_flow::{Counts, Flows, Reports as _, Settings};
use panoptes_sinks::flow::Cause;
use panoptes_sinks::flow::argus::{Extra, Interim, Management, Options};

use super::devices::Stream;
use super::limit::FlowLimit;
use super::outputs::Outputs;
use super::request::Request;
use crate::exit::{Exit, Failure};
use crate::random;

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

impl Auditor {
    /// Makes the tables of flows: one for each stream, or one for captures.
    pub(super) fn new(request: &Request, mut outputs: Outputs, begin_ns: i64) -> Self {
        let settings = Settings {
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
        };
        let no_stream = request.streams.is_empty().then(Stream::default);
        let streams = request.streams.iter().chain(&no_stream).map(|stream| Audited {
            flows: Flows::new(&settings, random::hash_key()),
            records: Options {
                source_id: stream.source_id.unwrap_or(request.records.source_id),
                interface: request.interface_of(stream),
                ..request.records
            },
        });
        let discovers = request.discovers_tunnels;
        let limit = FlowLimit::new(request.capacity, outputs.take_limit_header());
        let interval_ns = u64::from(request.management_interval_s) * 1_000_000_000;
        Self {
            streams: streams.collect(),
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
        }
    }

    /// Whether no more packets are needed.
    pub(super) fn has_ended(&self) -> bool {
        self.has_all_packets() || self.outputs.has_ended()
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
        let audited = &mut self.streams[stream];
        let mut recording = self.outputs.of(&audited.records);
        audited.flows.packet(&packet, frame.time_ns, length, &mut recording);
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

    /// Lets the time of flows pass while no packet comes. `now_ns` is the time since 1970.
    pub(super) fn pass_time(&mut self, now_ns: i64) {
        for audited in &mut self.streams {
            audited.flows.pass_time_to(now_ns, &mut self.outputs.of(&audited.records));
        }
    }

    /// Looks at the outputs, and reports the sensor's state when its time has come. `dropped` are
    /// the packets that the sources have lost since the start.
    pub(super) fn step(&mut self, dropped: impl FnOnce() -> u64) {
        let now_ns = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        if now_ns < self.next_step_ns {
            return;
        }
        self.next_step_ns = now_ns + STEP_NS;
        if now_ns >= self.next_state_ns {
            self.next_state_ns += self.interval_ns;
            let interim = self.interim(dropped());
            self.outputs.report_state(Cause::Status, &interim);
            for audited in &mut self.streams {
                audited.flows.report_resolutions(&mut self.outputs.of(&audited.records));
            }
        }
        self.report_limit(Some(now_ns));
        self.outputs.step(now_ns);
    }

    /// Reports that a table of flows was full, if a record is due; `None` is the end.
    fn report_limit(&mut self, now_ns: Option<u64>) {
        let evicted = self.counts().evicted;
        if let Some(line) = self.limit.due(evicted, now_ns) {
            self.outputs.report_activity(line);
        }
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
            given_up: sum.given_up + one.given_up,
            resolutions_overflowed: sum.resolutions_overflowed + one.resolutions_overflowed,
        })
    }

    /// What has happened since the last management record.
    fn interim(&mut self, dropped: u64) -> Interim {
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
            clients: narrow(self.outputs.clients() as u64),
        };
        (self.since_ns, self.reported, self.reported_dropped) = (now_ns, counts, dropped);
        interim
    }

    /// Writes all flows and the last management record. What was counted, and how it went.
    pub(super) fn finish(mut self, dropped: u64) -> (Counts, Result<Exit, Failure>) {
        self.outputs.begin_to_end();
        for audited in &mut self.streams {
            audited.flows.finish(&mut self.outputs.of(&audited.records));
        }
        self.report_limit(None);
        let interim = self.interim(dropped);
        (self.counts(), self.outputs.finish(&interim))
    }
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
