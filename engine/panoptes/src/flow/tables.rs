//! The tables of flows: one for each stream of packets, or one for captures.

use std::hint::black_box;

use panoptes_decoders::packet::mirror::{MirrorPacket, decode_mirrored};
use panoptes_decoders::packet::{self, Packet, Tunnels};
use panoptes_flow::{FlowTableCounts, FlowTableSettings, Flows, Reports};
use panoptes_packet_files::Frame;
use panoptes_tables::{HashKey, room};

use super::links::UnreadLinks;
use super::request::FlowRequest;
use crate::exit::{Exit, Failure};
use crate::random;
use crate::size::show;

/// The flows of all streams, and what was counted of their packets.
#[derive(Debug)]
pub(super) struct Tables {
    streams: Vec<Flows>,
    tunnels: Tunnels,
    /// Packets whose times were wrong.
    wrong_times: u64,
    unread: UnreadLinks,
}

fn settings(request: &FlowRequest, part: usize) -> FlowTableSettings {
    FlowTableSettings {
        capacity: capacity(request),
        status_interval_ns: request.records.status_interval_ns,
        timeouts: request.flows.timeouts,
        has_jitter: request.records.has_jitter,
        has_size_squares: request.records.options.packet_sizes,
        user_bytes: request.records.user_bytes,
        application: request.records.application,
        control: request.control(),
        identity: request.flows.identity,
        is_unidirectional: request.flows.is_unidirectional,
        has_overlays: request.flows.has_overlays,
        waits_by_clock: !request.reads_captures(),
        part: (part as u32, request.interfaces.threads as u32),
    }
}

/// The flows of a table: threads divide them.
fn capacity(request: &FlowRequest) -> usize {
    request.flows.capacity.div_ceil(request.interfaces.threads)
}

/// Number of tables: one for each stream, or one for captures, in each thread.
fn count(request: &FlowRequest) -> u64 {
    (request.interfaces.streams.len().max(1) * request.interfaces.threads) as u64
}

/// How many flows all tables can have together.
pub(super) fn capacity_of_all(request: &FlowRequest) -> u64 {
    (capacity(request) as u64).saturating_mul(count(request))
}

/// Bytes that the tables of flows need; `None` if they are not a number of 64 bits.
pub(super) fn table_bytes(request: &FlowRequest) -> Option<u64> {
    let bytes = room::measure(|| Flows::new(&settings(request, 0), HashKey::new(0)))?;
    bytes.checked_mul(count(request))
}

/// Checks that the tables of flows can be made: an allocation that fails ends the process. What is
/// allocated here is not used, and so takes no memory.
pub(super) fn check_room(request: &FlowRequest) -> Result<(), Failure> {
    let bytes = table_bytes(request).unwrap_or(u64::MAX);
    let fits = usize::try_from(bytes).is_ok_and(|bytes| {
        let mut all: Vec<u8> = Vec::new();
        // A compiler may leave out an allocation that nobody sees.
        black_box(all.try_reserve_exact(bytes).is_ok() && black_box(&all).is_empty())
    });
    if fits {
        return Ok(());
    }
    let (needed, flows) = (show(bytes), request.flows.capacity);
    let message = format!(
        "the tables for {flows} flows need {needed}, which this process may not allocate: use a \
         smaller --flows, or raise the limit (ulimit -v, vm.overcommit_memory)"
    );
    Err(Failure::new(Exit::Configuration, message))
}

impl Tables {
    /// Without tables: others have the flows.
    pub(super) fn none(request: &FlowRequest) -> Self {
        let discovers = request.flows.discovers_tunnels;
        Self {
            streams: Vec::new(),
            tunnels: if discovers { Tunnels::Discover } else { Tunnels::Declared },
            wrong_times: 0,
            unread: UnreadLinks::default(),
        }
    }

    /// Makes the tables of a part of the packets; without threads, there is the first part only.
    pub(super) fn new(request: &FlowRequest, part: usize) -> Self {
        let settings = settings(request, part);
        let streams = (0..request.interfaces.streams.len().max(1))
            .map(|_| Flows::new(&settings, random::hash_key()))
            .collect();
        Self { streams, ..Self::none(request) }
    }

    pub(super) const fn tunnels(&self) -> Tunnels {
        self.tunnels
    }

    /// Counts a packet of a stream.
    #[inline]
    pub(super) fn packet(&mut self, stream: usize, frame: &Frame<'_>, to: &mut impl Reports) {
        let length = length_of(frame);
        let packet = packet::decode(frame.link, frame.bytes, length, self.tunnels);
        self.count(stream, &packet, (frame.link, frame.time_ns, length), to);
    }

    /// Counts a packet of a stream with its link type, its time and its length on the wire.
    #[inline]
    pub(super) fn count(
        &mut self,
        stream: usize,
        packet: &Packet<'_>,
        (link, time_ns, length): (u16, i64, u32),
        to: &mut impl Reports,
    ) {
        self.unread.look_at(packet, link);
        self.streams[stream].packet(packet, time_ns, length, to);
    }

    /// Counts a mirrored packet of a stream.
    #[inline(never)]
    pub(super) fn mirrored(
        &mut self,
        stream: usize,
        time_ns: i64,
        mirrored: &MirrorPacket<'_>,
        to: &mut impl Reports,
    ) {
        let packet = decode_mirrored(mirrored, self.tunnels);
        self.count_apart(stream, &packet, (mirrored.link, time_ns, mirrored.length), to);
    }

    /// The same as [`count`](Self::count), as a function of its own.
    #[inline(never)]
    pub(super) fn count_apart(
        &mut self,
        stream: usize,
        packet: &Packet<'_>,
        (link, time_ns, length): (u16, i64, u32),
        to: &mut impl Reports,
    ) {
        self.unread.look_at(packet, link);
        self.streams[stream].packet_apart(packet, time_ns, length, to);
    }

    /// Takes an error message about a flow of these, that is counted elsewhere.
    pub(super) fn error_message(&mut self, stream: usize, packet: &Packet<'_>, time_ns: i64) {
        self.streams[stream].error_message(packet, time_ns);
    }

    /// The clock of packets was set by so many nanoseconds.
    pub(super) fn set_clock(&mut self, by_ns: i64) {
        for flows in &mut self.streams {
            flows.set_clock(by_ns);
        }
    }

    /// Whether the packets that follow pass time; those with wrong times must not.
    pub(super) fn let_time_pass(&mut self, passes: bool) {
        for flows in &mut self.streams {
            flows.let_time_pass(passes);
        }
    }

    /// Adds packets whose times are wrong.
    pub(super) const fn add_wrong_times(&mut self, count: u64) {
        self.wrong_times += count;
    }

    /// Packets whose times were wrong.
    pub(super) const fn wrong_times(&self) -> u64 {
        self.wrong_times
    }

    /// Packets whose link layer could not be read.
    pub(super) const fn unread(&self) -> &UnreadLinks {
        &self.unread
    }

    /// The flows of all streams, by the stream.
    pub(super) fn streams(&mut self) -> impl Iterator<Item = (usize, &mut Flows)> {
        self.streams.iter_mut().enumerate()
    }

    /// The highest number of a flow that was reported.
    pub(super) fn last_sequence(&self) -> u32 {
        self.streams.iter().map(Flows::last_sequence).max().unwrap_or(0)
    }

    /// What all streams have counted.
    pub(super) fn counts(&self) -> FlowTableCounts {
        self.streams.iter().map(Flows::counts).fold(FlowTableCounts::default(), add)
    }
}

/// The sum of what two tables have counted.
pub(super) const fn add(sum: FlowTableCounts, one: FlowTableCounts) -> FlowTableCounts {
    FlowTableCounts {
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
    }
}

/// Some captures have a length on the wire that is too small.
#[inline]
pub(super) fn length_of(frame: &Frame<'_>) -> u32 {
    frame.wire_length.max(frame.bytes.len() as u32)
}
