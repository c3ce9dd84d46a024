//! All flows: finding the one of a packet, counting it, and what is due.

mod ending;

use core::hint::select_unpredictable;

use panoptes_decoders::packet::transport::protocol;
use panoptes_decoders::packet::{Ip, Network, Packet};
use panoptes_records::flow::{
    Address, Cause, FlowDirection, FlowKey, FlowKeyKind, FlowRecord, Interval, Intervals, Jitter,
};
use panoptes_tables::{GOLDEN_RATIO, HashIndex, HashKey, room};

use crate::application::Applications;
use crate::flow::{Arrival, Effect, Flow, message_of};
use crate::identity::{self, FlowIdentity};
use crate::prefetch::prefetch;
use crate::queues::{FlowPlace, FlowPlaces, Queues, Waits};
use crate::reports::Reports;
use crate::settings::{FlowTableCounts, FlowTableSettings};
use crate::user::UserData;

/// How often the queues are looked at, in nanoseconds.
const TICK_NS: i64 = 200_000_000;

/// All flows.
#[derive(Debug)]
pub struct Flows {
    settings: FlowTableSettings,
    key: HashKey,
    index: HashIndex,
    slots: Vec<Flow>,
    /// Slots without a flow.
    free: Vec<u32>,
    queues: Queues,
    /// The place of each flow in the queues.
    places: FlowPlaces,
    jitter: Vec<Jitter>,
    /// The sums of the squared sizes of the packets of both ends.
    squares: Vec<[u64; 2]>,
    user: UserData,
    /// `None` unless something of it is asked for.
    applications: Option<Box<Applications>>,
    counts: FlowTableCounts,
    /// The time by which flows wait, in nanoseconds. It never goes back.
    now_ns: i64,
    /// What a packet's time needs to become such a time. [`i64::MIN`]: no packet passes time.
    shift_ns: i64,
    /// The same for packets whose times are right.
    clock_shift_ns: i64,
    /// When the clock of packets was last set. No record has packets from before and after that.
    set_ns: i64,
    next_tick_ns: i64,
    /// The number of the last flow that was reported.
    last_sequence: u32,
    is_plain: bool,
}

impl Flows {
    /// Allocates. `key` must be secret: senders choose what is hashed.
    pub fn new(settings: &FlowTableSettings, key: HashKey) -> Self {
        let capacity = settings.capacity.clamp(1, (1 << 26) - 2);
        let settings = FlowTableSettings { capacity, ..*settings };
        let application = &settings.application;
        let applications =
            application.is_on().then(|| Box::new(Applications::new(application, capacity, key)));
        let mut index = HashIndex::new(capacity);
        index.begin_small();
        let clock_shift_ns = if settings.waits_by_clock { i64::MIN } else { 0 };
        Self {
            is_plain: settings.are_plain(),
            settings,
            applications,
            key: key.derive("flows"),
            index,
            slots: room::list(capacity),
            free: room::list(capacity),
            queues: Queues::new(),
            places: room::list(capacity),
            jitter: room::list(if settings.has_jitter { capacity } else { 0 }),
            squares: room::list(if settings.has_size_squares { capacity } else { 0 }),
            user: UserData::new(capacity, settings.user_bytes, settings.control.as_ref()),
            counts: FlowTableCounts::default(),
            now_ns: i64::MIN,
            shift_ns: clock_shift_ns,
            clock_shift_ns,
            set_ns: i64::MIN,
            next_tick_ns: i64::MIN,
            last_sequence: 0,
        }
    }

    pub fn counts(&self) -> FlowTableCounts {
        let fallow = u64::from(self.queues.fallow());
        let tracked = (self.slots.len() - self.free.len()) as u64 - fallow;
        let of_applications = self.applications.as_ref().map(|all| all.overflows());
        let (given_up, resolutions_overflowed) = of_applications.unwrap_or_default();
        FlowTableCounts {
            tracked,
            fallow,
            lost_user_bytes: self.user.lost_bytes(),
            given_up,
            resolutions_overflowed,
            ..self.counts
        }
    }

    /// The number of the last flow that was reported.
    pub const fn last_sequence(&self) -> u32 {
        self.last_sequence
    }

    /// Counts a packet in its flow. `time_ns` is its time in nanoseconds since 1970, `wire_length`
    /// its length in bytes on the wire.
    ///
    /// Inlined, so that decoded fields stay in registers. Callers with few packets use
    /// [`packet_apart`](Self::packet_apart).
    #[expect(clippy::inline_always, reason = "a fifth of the time of a packet")]
    #[inline(always)]
    pub fn packet(
        &mut self,
        packet: &Packet<'_>,
        time_ns: i64,
        wire_length: u32,
        reports: &mut impl Reports,
    ) {
        if self.is_plain {
            self.arrive::<true>(packet, Arrival { time_ns, bytes: wire_length }, reports);
        } else {
            self.packet_apart(packet, time_ns, wire_length, reports);
        }
    }

    /// The same as [`packet`](Self::packet), as a function of its own.
    #[inline(never)]
    pub fn packet_apart(
        &mut self,
        packet: &Packet<'_>,
        time_ns: i64,
        wire_length: u32,
        reports: &mut impl Reports,
    ) {
        self.arrive::<false>(packet, Arrival { time_ns, bytes: wire_length }, reports);
    }

    /// Counts a packet. `IS_PLAIN` is [`FlowTableSettings::are_plain`], or `false`, which is always
    /// right.
    #[expect(clippy::inline_always, reason = "part of `packet`")]
    #[inline(always)]
    fn arrive<const IS_PLAIN: bool>(
        &mut self,
        packet: &Packet<'_>,
        arrival: Arrival,
        reports: &mut impl Reports,
    ) {
        self.counts.packets += 1;
        self.counts.bytes += u64::from(arrival.bytes);
        self.now_ns = self.now_ns.max(arrival.time_ns.saturating_add(self.shift_ns));
        let identity = self.settings.identity;
        let key = if IS_PLAIN { identity::of(packet) } else { identity.of(packet) };
        match key {
            Some(key) => self.count::<IS_PLAIN>(packet, key, arrival, reports),
            None => self.counts.unaccounted += 1,
        }
        self.pass_time(reports);
    }

    /// Whether the packets that follow pass time; those with wrong times must not.
    pub const fn let_time_pass(&mut self, passes: bool) {
        self.shift_ns = if passes { self.clock_shift_ns } else { i64::MIN };
    }

    /// The clock of packets was set by so many nanoseconds: those that follow pass time from where
    /// it is now. Records end before the step, each when the next packet of its flow comes.
    pub const fn set_clock(&mut self, by_ns: i64) {
        if self.clock_shift_ns != i64::MIN {
            self.clock_shift_ns = self.clock_shift_ns.saturating_sub(by_ns);
            self.shift_ns = self.clock_shift_ns;
        }
        self.set_ns = self.now_ns;
        // What begins now begins behind the step.
        self.now_ns = self.now_ns.saturating_add(1);
    }

    /// Lets time pass while no packet comes. `now_ns` is the time by which flows wait: that of
    /// packets, or of a clock ([`FlowTableSettings::waits_by_clock`]). One before the last changes
    /// nothing.
    pub fn pass_time_to(&mut self, now_ns: i64, reports: &mut impl Reports) {
        self.now_ns = self.now_ns.max(now_ns);
        self.pass_time(reports);
    }

    /// Reports and removes the flows whose time has come.
    #[inline]
    fn pass_time(&mut self, reports: &mut impl Reports) {
        if self.now_ns >= self.next_tick_ns {
            self.next_tick_ns = self.now_ns.saturating_add(TICK_NS);
            self.report_due(reports);
            self.remove_idle();
        }
    }

    #[expect(clippy::inline_always, reason = "part of `packet`")]
    #[inline(always)]
    fn count<const IS_PLAIN: bool>(
        &mut self,
        packet: &Packet<'_>,
        key: FlowKey,
        arrival: Arrival,
        reports: &mut impl Reports,
    ) {
        let overlay = if IS_PLAIN { 0 } else { self.overlay_of(packet) };
        let hash = self.hash(&key, overlay);
        let (mut flow, mut direction, is_first) = match self.find::<IS_PLAIN>(hash, &key, overlay) {
            Some((flow, direction)) => {
                self.wake(flow, reports);
                (flow, direction, false)
            }
            None => match self.add(hash, (key, overlay), reports) {
                Some(flow) => (flow, FlowDirection::FromSource, true),
                None => return self.counts.unaccounted += 1,
            },
        };
        let now_ns = arrival.time_ns;
        if !IS_PLAIN && self.settings.identity != FlowIdentity::Conversation {
            return self.count_in_matrix(packet, flow, direction, arrival);
        }
        let mut effect = self.slots[flow as usize].follow(packet, direction, is_first, now_ns);
        if effect.restarts {
            direction = FlowDirection::FromSource;
            effect = self.restart(flow, key, packet, now_ns, reports);
        }
        if effect.turns_round {
            direction = FlowDirection::FromSource;
            effect = self.turn_round(flow, packet, now_ns);
        }
        let mut counted = effect.data_length;
        if let Network::Ip(ip) = &packet.network {
            if !ip.is_first_fragment() {
                if let Some(parent) = self.parent_of(flow) {
                    // Clients add up datagrams by their first fragment, as argus does.
                    counted = 0;
                    direction = self.direction_in(parent, &key);
                    flow = parent;
                    self.renew_if_written(parent, reports);
                }
            } else if ip.fragment.is_some_and(|fragment| fragment.more) {
                self.expect_fragments(flow, ip, &key, direction, reports);
            }
            if matches!(ip.protocol, protocol::ICMP | protocol::ICMPV6) {
                self.refer(ip, overlay, now_ns);
            }
        }
        self.slots[flow as usize].count(packet, direction, counted, arrival);
        if IS_PLAIN {
            return;
        }
        self.keep(flow, direction, &effect, arrival);
        if let Some(applications) = &mut self.applications
            && let Network::Ip(ip) = &packet.network
        {
            applications.packet(flow, direction, ip, effect.data_length, now_ns, reports);
        }
    }

    /// Counts a packet in a flow that has several protocols: none is followed.
    fn count_in_matrix(
        &mut self,
        packet: &Packet<'_>,
        flow: u32,
        direction: FlowDirection,
        arrival: Arrival,
    ) {
        let (data, data_length) = match &packet.network {
            Network::Ip(ip) => (ip.payload, ip.payload_length),
            _ => (&[][..], 0),
        };
        let effect = Effect::of(data, data_length);
        self.slots[flow as usize].count(packet, direction, data_length, arrival);
        self.keep(flow, direction, &effect, arrival);
    }

    /// The same for both directions. Which one it is cannot be predicted, so nothing branches here.
    #[expect(clippy::needless_bitwise_bool, reason = "a lazy operator branches")]
    #[inline]
    fn hash(&self, key: &FlowKey, overlay: u32) -> u64 {
        // Only numbers of the same key could have the same hash, and an odd factor keeps them
        // apart.
        let of_overlay = u64::from(overlay).wrapping_mul(GOLDEN_RATIO);
        let words = key.words();
        if key.kind == FlowKeyKind::Ipv4 {
            let end = |address: Address, port: u16| address.0[1] << 16 | u64::from(port);
            let source = end(key.source, key.source_port);
            let destination = end(key.destination, key.destination_port);
            let in_order = source <= destination;
            let first = select_unpredictable(in_order, source, destination);
            let second = select_unpredictable(in_order, destination, source);
            return self.key.hash_three([first, second, words[4] & 0xffff_ffff]) ^ of_overlay;
        }
        let (source, destination) = (key.source.value(), key.destination.value());
        let is_less = source < destination;
        let is_same = source == destination;
        let in_order = is_less | is_same & (key.source_port <= key.destination_port);
        let reversed = key.reversed().words();
        let ordered: [u64; 5] =
            core::array::from_fn(|at| select_unpredictable(in_order, words[at], reversed[at]));
        self.key.hash_numbers(ordered) ^ of_overlay
    }

    #[expect(clippy::inline_always, reason = "each packet needs it")]
    #[inline(always)]
    fn find<const IS_PLAIN: bool>(
        &self,
        hash: u64,
        key: &FlowKey,
        overlay: u32,
    ) -> Option<(u32, FlowDirection)> {
        let is_one_way = !IS_PLAIN
            && self.settings.is_unidirectional
            && !matches!(key.kind, FlowKeyKind::Arp | FlowKeyKind::Rarp);
        let words = key.words();
        let reversed = if is_one_way { words } else { key.reversed().words() };
        let mut is_from_source = false;
        let flow = self.index.find(hash, |row| {
            let record = &self.slots[row as usize].record;
            // The direction decides which of them is needed, and waits for the key.
            prefetch(&record.source);
            prefetch(&record.destination);
            prefetch(&record.detail);
            let known = record.key.words();
            is_from_source = differences(&known, &words) == 0;
            let is_known = is_from_source | (differences(&known, &reversed) == 0);
            is_known && (IS_PLAIN || record.overlay == overlay)
        })?;
        let (from_source, from_destination) =
            (FlowDirection::FromSource, FlowDirection::FromDestination);
        Some((flow, select_unpredictable(is_from_source, from_source, from_destination)))
    }

    /// The same for rare packets, apart from the code for all.
    #[inline(never)]
    fn find_rarely(&self, key: &FlowKey, overlay: u32) -> Option<(u32, FlowDirection)> {
        self.find::<false>(self.hash(key, overlay), key, overlay)
    }

    /// What of a packet's overlay identifies its flow.
    fn overlay_of(&self, packet: &Packet<'_>) -> u32 {
        let vni = packet.vni.filter(|_| self.settings.has_overlays);
        vni.map_or(0, |vni| vni.saturating_add(1))
    }

    /// Fetches a flow that will be needed soon.
    #[inline]
    fn prefetch(&self, flow: Option<u32>) {
        if let Some(flow) = flow {
            prefetch(&self.slots[flow as usize]);
        }
    }

    /// Prepares a flow for a packet: reports it if it is due, and begins a new record if the last
    /// one is written.
    #[expect(clippy::inline_always, reason = "each packet needs it")]
    #[inline(always)]
    fn wake(&mut self, flow: u32, reports: &mut impl Reports) {
        let place = &self.places[flow as usize];
        let due_ns = self.now_ns.saturating_sub(self.settings.status_interval_ns);
        let is_due = place.since_ns <= due_ns.max(self.set_ns);
        if place.is_written || is_due || place.queue != Waits::Status {
            self.wake_rarely(flow, reports);
        }
    }

    #[inline(never)]
    fn wake_rarely(&mut self, flow: u32, reports: &mut impl Reports) {
        let place = self.places[flow as usize];
        let age_ns = self.now_ns.saturating_sub(place.since_ns);
        if place.queue == Waits::Status && age_ns >= self.settings.status_interval_ns {
            self.report_due(reports);
        } else if place.queue == Waits::Status && place.since_ns <= self.set_ns {
            self.report(flow, None, reports);
            self.queues.remove(&mut self.places, flow);
        }
        if self.places[flow as usize].queue != Waits::Status {
            self.queues.remove(&mut self.places, flow);
            self.queues.add(&mut self.places, flow, Waits::Status, self.now_ns);
        }
        self.renew(flow);
    }

    /// Begins a new record if the last one is written.
    #[inline]
    fn renew(&mut self, flow: u32) {
        let place = &mut self.places[flow as usize];
        if !place.is_written {
            return;
        }
        place.is_written = false;
        self.slots[flow as usize].renew();
        if let Some(jitter) = self.jitter.get_mut(flow as usize) {
            for intervals in [&mut jitter.source, &mut jitter.destination] {
                (intervals.active, intervals.idle) = (Interval::default(), Interval::default());
            }
        }
        self.user.clear(flow);
        if let Some(squares) = self.squares.get_mut(flow as usize) {
            *squares = [0; 2];
        }
    }

    fn renew_if_written(&mut self, flow: u32, reports: &mut impl Reports) {
        if self.places[flow as usize].is_written {
            self.wake(flow, reports);
        }
    }

    /// Adds a flow with a key, and what of its overlay belongs to that; `None` if there is no room
    /// even after a removal.
    fn add(&mut self, hash: u64, key: (FlowKey, u32), reports: &mut impl Reports) -> Option<u32> {
        let flow = match self.free.pop() {
            Some(flow) => {
                self.prefetch(self.free.last().copied());
                flow
            }
            None if self.slots.len() < self.settings.capacity => {
                self.slots.push(Flow::default());
                self.places.push(FlowPlace::default());
                if self.settings.has_jitter {
                    self.jitter.push(Jitter::default());
                }
                if self.settings.has_size_squares {
                    self.squares.push([0; 2]);
                }
                self.slots.len() as u32 - 1
            }
            None => {
                self.evict(reports);
                self.free.pop()?
            }
        };
        if self.index.is_crowded() {
            let rows = self.places.iter().zip(0..);
            let tracked = rows.filter(|(place, _)| place.queue != Waits::Nowhere);
            self.index.grow(tracked.map(|(place, flow)| (place.hash, flow)));
        }
        if !self.index.insert(hash, flow) {
            self.free.push(flow);
            return None;
        }
        self.begin(flow, hash, key);
        Some(flow)
    }

    /// Begins a flow in a slot that is in no queue.
    fn begin(&mut self, flow: u32, hash: u64, (key, overlay): (FlowKey, u32)) {
        self.counts.flows += 1;
        let place = &mut self.places[flow as usize];
        (place.hash, place.number) = (hash, place.number.wrapping_add(1));
        place.is_written = false;
        let record = FlowRecord { key, overlay, ..FlowRecord::default() };
        self.slots[flow as usize] = Flow { record, ..Flow::default() };
        if let Some(jitter) = self.jitter.get_mut(flow as usize) {
            *jitter = Jitter::default();
        }
        self.user.begin(flow, &key);
        if let Some(squares) = self.squares.get_mut(flow as usize) {
            *squares = [0; 2];
        }
        if let Some(applications) = &mut self.applications {
            applications.begin(flow);
        }
        self.queues.add(&mut self.places, flow, Waits::Status, self.now_ns);
    }

    /// Reports the connection of a flow, and begins another one in its place with a packet.
    #[inline(never)]
    fn restart<'a>(
        &mut self,
        flow: u32,
        key: FlowKey,
        packet: &Packet<'a>,
        now_ns: i64,
        reports: &mut impl Reports,
    ) -> Effect<'a> {
        self.report(flow, Some(Cause::Stop), reports);
        self.queues.remove(&mut self.places, flow);
        let overlay = self.slots[flow as usize].record.overlay;
        self.begin(flow, self.places[flow as usize].hash, (key, overlay));
        self.slots[flow as usize].follow(packet, FlowDirection::FromSource, true, now_ns)
    }

    /// Makes the destination of a flow its source, and takes a packet that this new source has
    /// sent. No end has sent data, and no record has the flow.
    #[cold]
    fn turn_round<'a>(&mut self, flow: u32, packet: &Packet<'a>, now_ns: i64) -> Effect<'a> {
        if let Some(jitter) = self.jitter.get_mut(flow as usize) {
            core::mem::swap(&mut jitter.source, &mut jitter.destination);
        }
        if let Some(squares) = self.squares.get_mut(flow as usize) {
            squares.reverse();
        }
        if let Some(applications) = &mut self.applications {
            applications.turn_round(flow);
        }
        let slot = &mut self.slots[flow as usize];
        slot.turn_round();
        slot.follow(packet, FlowDirection::FromSource, false, now_ns)
    }

    /// The flow to which fragments without ports belong, if its first fragment was seen.
    fn parent_of(&self, flow: u32) -> Option<u32> {
        let (parent, number) = self.slots[flow as usize].parent?;
        (self.places[parent as usize].number == number).then_some(parent)
    }

    /// In which direction of a flow the source of a key sends.
    fn direction_in(&self, flow: u32, key: &FlowKey) -> FlowDirection {
        if self.slots[flow as usize].record.key.source.0[1] == key.source.0[1] {
            FlowDirection::FromSource
        } else {
            FlowDirection::FromDestination
        }
    }

    /// Finds the fragments that came before their first one, or prepares for those to come.
    fn expect_fragments(
        &mut self,
        flow: u32,
        ip: &Ip<'_>,
        key: &FlowKey,
        direction: FlowDirection,
        reports: &mut impl Reports,
    ) {
        let addresses = FlowKey { source_port: 0, destination_port: 0, extra: 0, ..*key };
        let mut wanted = identity::of_fragment(ip, addresses);
        wanted.protocol = ip.protocol;
        let number = self.places[flow as usize].number;
        let overlay = self.slots[flow as usize].record.overlay;
        let hash = self.hash(&wanted, overlay);
        let fragments = match self.find_rarely(&wanted, overlay) {
            Some((fragments, _)) => fragments,
            None => match self.add(hash, (wanted, overlay), reports) {
                Some(fragments) => fragments,
                None => return,
            },
        };
        let early = &mut self.slots[fragments as usize];
        early.parent = Some((flow, number));
        if self.places[fragments as usize].is_written || early.record.source.packets == 0 {
            return;
        }
        let early = core::mem::take(&mut early.record.source);
        if let Some(squares) = self.squares.get_mut(fragments as usize) {
            let early = core::mem::take(&mut squares[0]);
            self.squares[flow as usize]
                [usize::from(direction == FlowDirection::FromDestination)] += early;
        }
        let side = self.slots[flow as usize].record.side(direction);
        side.size_min = match side.packets {
            0 => early.size_min,
            _ => side.size_min.min(early.size_min),
        };
        side.size_max = side.size_max.max(early.size_max);
        side.packets += early.packets;
        side.bytes += early.bytes;
        side.status |= early.status;
        side.first_ns = match side.first_ns {
            0 => early.first_ns,
            first => first.min(early.first_ns),
        };
        side.last_ns = side.last_ns.max(early.last_ns);
    }

    /// Adds an error message to the flow whose packet it quotes, as
    /// [`packet`](Self::packet) does, and counts nothing: another table has the flow of the message
    /// itself.
    pub fn error_message(&mut self, packet: &Packet<'_>, time_ns: i64) {
        if let Network::Ip(ip) = &packet.network
            && self.settings.identity == FlowIdentity::Conversation
        {
            self.refer(ip, self.overlay_of(packet), time_ns);
        }
    }

    /// Adds an error message to the flow whose packet it quotes.
    #[inline(never)]
    fn refer(&mut self, ip: &Ip<'_>, overlay: u32, now_ns: i64) {
        let Some((message, quoted)) = identity::error_of(ip) else { return };
        let key = identity::of_ip(&quoted);
        let Some((flow, _)) = self.find_rarely(&key, overlay) else { return };
        if self.places[flow as usize].is_written {
            return;
        }
        let slot = &mut self.slots[flow as usize];
        slot.record.error = Some(message_of(ip, &message));
        // The answer ends the exchange: it is part of the flow's time, as in argus.
        slot.record.source.last_ns = slot.record.source.last_ns.max(now_ns);
        if slot.record.source.first_ns == 0 {
            slot.record.source.first_ns = now_ns;
        }
    }

    /// Keeps the time and the data of a packet, if asked for.
    #[inline]
    fn keep(&mut self, flow: u32, direction: FlowDirection, effect: &Effect<'_>, arrival: Arrival) {
        if let Some(jitter) = self.jitter.get_mut(flow as usize) {
            let intervals = match direction {
                FlowDirection::FromSource => &mut jitter.source,
                FlowDirection::FromDestination => &mut jitter.destination,
            };
            let limit_ns = self.settings.status_interval_ns.saturating_mul(2);
            add_time(intervals, effect.is_active, arrival.time_ns, limit_ns);
        }
        let end = usize::from(direction == FlowDirection::FromDestination);
        self.user.add(flow, end, effect.data);
        if let Some(squares) = self.squares.get_mut(flow as usize) {
            let size = u64::from(arrival.bytes);
            squares[end] = squares[end].saturating_add(size * size);
        }
    }
}

/// The bits that differ, without a branch for each word.
#[inline]
fn differences(one: &[u64; 5], other: &[u64; 5]) -> u64 {
    one.iter().zip(other).fold(0, |bits, (one, other)| bits | (one ^ other))
}

/// Adds the time since the last packet unless it exceeds two status intervals: argus ignores
/// those.
fn add_time(intervals: &mut Intervals, is_active: bool, now_ns: i64, limit_ns: i64) {
    let last_ns = intervals.last_ns;
    if now_ns <= last_ns {
        return;
    }
    intervals.last_ns = now_ns;
    let time_us = (now_ns - last_ns) / 1000;
    if last_ns != 0 && time_us > 0 && now_ns - last_ns < limit_ns {
        let kept = if is_active { &mut intervals.active } else { &mut intervals.idle };
        kept.add(u32::try_from(time_us).unwrap_or(u32::MAX));
    }
}
