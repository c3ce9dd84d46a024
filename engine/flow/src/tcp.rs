//! TCP as somebody sees it who is between both ends: the states of argus 3.0.8
//! (`argus/ArgusTcp.c`), retransmissions, order, and round-trip times.

use panoptes_decoders::packet::transport::{Tcp as Segment, flag};
use panoptes_records::flow::{FlowDirection, Tcp, TcpSide, TcpState, tcp_status};

/// How far an identification of IP may go back in a packet that was overtaken.
const OVERTAKEN_MAX: u16 = 5000;
/// A packet that was overtaken comes this soon after the one that overtook it, in nanoseconds.
/// Senders wait longer before they send again (`TCP_RTO_MIN`, include/net/tcp.h: 200 ms).
const OVERTAKEN_NS: i64 = 100_000_000;
/// After a pause of both ends as long as this one, in nanoseconds, a SYN with another number is of
/// another connection. Linux sends a SYN again after 64 s at most, with the same number
/// (`tcp_syn_retries` in Documentation/networking/ip-sysctl.rst).
const PAUSE_NS: i64 = 60_000_000_000;

/// What a segment was for its flow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum SegmentOutcome {
    /// It belongs to the flow. `is_active`: it was sent while others were in flight.
    Continues { is_active: bool },
    /// It begins another connection with the same addresses and ports.
    Restarts,
}

/// Whether a sequence number is before another one, modulo 2^32 (RFC 9293 §3.4).
pub(crate) const fn is_before(one: u32, other: u32) -> bool {
    (one.wrapping_sub(other) as i32) < 0
}

/// Whether a segment begins a connection: SYN, and nothing that answers or ends.
const fn is_syn(flags: u8) -> bool {
    flags & (flag::SYN | flag::ACK | flag::FIN | flag::RST) == flag::SYN
}

/// A microsecond count that fits its field.
fn microseconds(from_ns: i64, to_ns: i64) -> u32 {
    u32::try_from(to_ns.saturating_sub(from_ns).max(0) / 1000).unwrap_or(u32::MAX)
}

/// The end that sends in a direction, and the other one.
#[inline]
fn ends(tcp: &mut Tcp, direction: FlowDirection) -> (&mut TcpSide, &mut TcpSide) {
    // Only the addresses are exchanged, which takes no branch.
    let (mut this, mut other) = (&mut tcp.source, &mut tcp.destination);
    if direction == FlowDirection::FromDestination {
        core::mem::swap(&mut this, &mut other);
    }
    (this, other)
}

/// The connection after its first segment, which the source has sent.
pub(crate) fn begin(segment: &Segment<'_>, ip_id: u16, now_ns: i64) -> Tcp {
    let flags = segment.flags;
    let end = segment.sequence.wrapping_add(segment.data_length);
    let mut source = TcpSide {
        last_ns: now_ns,
        sequence_base: segment.sequence.wrapping_sub(1),
        sequence: end,
        bytes: segment.data_length,
        window: segment.window,
        flags,
        window_scale: segment.window_scale.unwrap_or(0),
        ip_id,
        has_begun: true,
        ..TcpSide::default()
    };
    if flags & flag::ACK != 0 {
        source.acknowledged = segment.acknowledgement.wrapping_sub(1);
        source.has_acknowledged = true;
    }
    let mut options = segment.options;
    let important = flag::SYN | flag::ACK | flag::FIN;
    let (status, state) = if flags & flag::RST != 0 {
        source.status |= tcp_status::RESET;
        source.window = 0;
        (tcp_status::RESET, TcpState::Listen)
    } else if flags & important == flag::SYN {
        source.sequence_base = segment.sequence;
        source.sequence = segment.sequence;
        if flags & (flag::ECE | flag::CWR) == flag::ECE | flag::CWR {
            options |= tcp_status::ECN_SOURCE;
        }
        (tcp_status::SAW_SYN, TcpState::SynSent)
    } else if flags & important == flag::SYN | flag::ACK {
        source.sequence_base = segment.sequence;
        source.sequence = segment.sequence;
        if flags & (flag::ECE | flag::CWR) == flag::ECE {
            options |= tcp_status::ECN_DESTINATION;
        }
        (tcp_status::SAW_SYN_ACK, TcpState::SynReceived)
    } else if flags & flag::FIN != 0 {
        source.status |= tcp_status::FIN;
        (tcp_status::FIN, TcpState::FinWait1)
    } else {
        (tcp_status::ESTABLISHED, TcpState::Established)
    };
    Tcp { status, options, source, state, ..Tcp::default() }
}

/// Follows a later segment. `ip_id` is the identification of its IP header.
#[inline]
pub(crate) fn follow(
    tcp: &mut Tcp,
    direction: FlowDirection,
    segment: &Segment<'_>,
    ip_id: u16,
    now_ns: i64,
) -> SegmentOutcome {
    let flags = segment.flags;
    let begins = flags & (flag::SYN | flag::FIN | flag::RST) == flag::SYN;
    if begins && may_restart(tcp, direction, segment, now_ns) {
        return SegmentOutcome::Restarts;
    }
    tcp.has_continued = true;
    let options = tcp.options | segment.options;
    tcp.options = options;
    let mut has_random_ids = tcp.has_random_ids[direction as usize];
    let (this, other) = ends(tcp, direction);
    this.flags |= flags;
    if let Some(scale) = segment.window_scale {
        this.window_scale = scale;
    }
    let has_ecn = options & (tcp_status::ECN_SOURCE | tcp_status::ECN_DESTINATION) != 0;
    if has_ecn && flags & (flag::ECE | flag::ACK) == flag::ECE | flag::ACK {
        this.status |= tcp_status::CONGESTED;
    }
    // A SYN without more says nothing about what was sent before.
    let mut packet = SegmentPacket { ip_id, now_ns, has_random_ids: &mut has_random_ids };
    let is_active = flags == flag::SYN || sequence(this, other, segment, &mut packet);
    let times = SegmentTimes { other: other.last_ns, before: this.last_ns, now: now_ns };
    this.last_ns = now_ns;
    tcp.has_random_ids[direction as usize] = has_random_ids;
    advance(tcp, direction, segment, times);
    SegmentOutcome::Continues { is_active }
}

/// Whether a SYN begins a new connection: the old one has ended, one end has closed it, it was
/// refused and this is no second try, or nobody has sent anything for long. A SYN+ACK, whose SYN
/// came another way, does after such a pause only.
fn may_restart(
    tcp: &mut Tcp,
    direction: FlowDirection,
    segment: &Segment<'_>,
    now_ns: i64,
) -> bool {
    let last_ns = tcp.source.last_ns.max(tcp.destination.last_ns);
    let was_refused = tcp.status & tcp_status::RESET != 0;
    let has_other_number = ends(tcp, direction).0.sequence != segment.sequence;
    let is_behind_pause = has_other_number && now_ns.saturating_sub(last_ns) > PAUSE_NS;
    match tcp.state {
        TcpState::SynSent => is_syn(segment.flags) && was_refused && has_other_number,
        TcpState::SynReceived | TcpState::Established => is_behind_pause,
        TcpState::Closed
        | TcpState::Listen
        | TcpState::FinWait1
        | TcpState::FinWait2
        | TcpState::Closing => is_syn(segment.flags) || is_behind_pause,
    }
}

/// The packet of a segment: its identification and time, which show the order of sending.
struct SegmentPacket<'a> {
    ip_id: u16,
    now_ns: i64,
    /// Whether the identifications of the sender's packets do not count them.
    has_random_ids: &'a mut bool,
}

/// Follows the sequence numbers of a segment; whether it was sent while others were in flight.
#[inline]
fn sequence(
    this: &mut TcpSide,
    other: &mut TcpSide,
    segment: &Segment<'_>,
    packet: &mut SegmentPacket<'_>,
) -> bool {
    let (flags, ip_id) = (segment.flags, packet.ip_id);
    let mut is_active = true;
    if flags & (flag::FIN | flag::RST) == 0 {
        if segment.window == 0 {
            this.status |= tcp_status::WINDOW_CLOSED;
            is_active = false;
        } else {
            this.window = segment.window;
        }
    }
    let end = segment.sequence.wrapping_add(segment.data_length);
    if segment.data_length > 0 {
        is_active &= this.in_flight > 0;
        this.bytes = this.bytes.wrapping_add(segment.data_length);
        if this.has_begun {
            is_active &= order(this, other, segment, end, packet);
        }
    } else {
        is_active = false;
    }
    if !this.has_begun {
        this.has_begun = true;
        this.sequence_base = segment.sequence;
        this.sequence = end;
        this.in_flight = segment.data_length;
        this.ip_id = ip_id;
    }
    if flags & flag::ACK != 0 {
        acknowledge(this, other, segment);
    }
    is_active
}

/// Decides whether data is new, was sent again, or was overtaken; `false` if it was sent again.
#[inline]
fn order(
    this: &mut TcpSide,
    other: &TcpSide,
    segment: &Segment<'_>,
    end: u32,
    packet: &mut SegmentPacket<'_>,
) -> bool {
    let (seq, length, ip_id) = (segment.sequence, segment.data_length, packet.ip_id);
    let is_soon = packet.now_ns.saturating_sub(this.last_ns) < OVERTAKEN_NS;
    let (back, forward) = (this.ip_id.wrapping_sub(ip_id), ip_id.wrapping_sub(this.ip_id));
    let has_ids = this.ip_id != 0 && ip_id != 0;
    // What continues the data was sent next: with a number that is no later one. A copy of earlier
    // data may have overtaken it: then its number is a little earlier.
    let is_near = forward.min(back) <= OVERTAKEN_MAX;
    *packet.has_random_ids |= has_ids && is_soon && seq == this.sequence && !is_near;
    let has_ids = has_ids && !*packet.has_random_ids;
    let is_overtaken = has_ids && is_soon && back > 0 && back < OVERTAKEN_MAX;
    // Numbered behind the last one, or after a pause: sent after it.
    let is_later = has_ids && forward < OVERTAKEN_MAX || !is_soon;
    if !is_overtaken {
        this.ip_id = ip_id;
    }
    if other.has_acknowledged && is_before(seq, other.acknowledged) {
        resent(this);
        return false;
    }
    let is_new = is_before(this.sequence, end);
    let largest = if is_new { end } else { this.sequence };
    if is_overtaken && end == this.sequence {
        // What overtook it has the same last byte, so it is a copy that was sent again.
        resent(this);
        return false;
    }
    if is_overtaken {
        this.in_flight = this.in_flight.saturating_add(length);
        this.status |= tcp_status::OUT_OF_ORDER;
    } else if other.has_acknowledged {
        // More is in flight than there is between the acknowledged and the largest number, so
        // something was sent twice; or the last byte was seen already.
        let span = largest.wrapping_sub(1).wrapping_sub(other.acknowledged);
        let in_flight = this.in_flight.saturating_add(length);
        if !is_new && (in_flight > span || end == this.sequence) {
            this.sequence = largest;
            resent(this);
            return false;
        }
        this.in_flight = in_flight.min(span);
        if is_before(end, this.sequence) {
            // The first one that is missing, or another one of several that are.
            if is_later || seq == other.acknowledged.wrapping_add(1) {
                this.in_flight = this.in_flight.saturating_sub(length);
                resent(this);
                return false;
            }
            this.status |= tcp_status::OUT_OF_ORDER;
        }
    } else if !is_new {
        resent(this);
        return false;
    }
    this.sequence = largest;
    true
}

/// Follows an acknowledgement.
#[inline]
fn acknowledge(this: &mut TcpSide, other: &mut TcpSide, segment: &Segment<'_>) {
    let acknowledged = segment.acknowledgement.wrapping_sub(1);
    let is_new = !this.has_acknowledged || is_before(this.acknowledged, acknowledged);
    if is_new {
        if this.has_acknowledged {
            other.windows += 1;
        }
        this.acknowledged = acknowledged;
        this.has_acknowledged = true;
    }
    let span = other.sequence.wrapping_sub(this.acknowledged.wrapping_add(1));
    other.in_flight = if (span as i32) < 0 { 0 } else { span };
}

/// When segments came, in nanoseconds since 1970.
#[derive(Clone, Copy)]
struct SegmentTimes {
    /// The last one of the other end, and the last but one of this end; 0 if there is none.
    other: i64,
    before: i64,
    /// This one.
    now: i64,
}

/// What a segment changes in the state of a connection.
struct TcpTransition {
    state: TcpState,
    status: u32,
    syn_ack_us: u32,
    ack_data_us: u32,
    syn_ns: i64,
}

/// Goes to the next state.
#[inline]
fn advance(tcp: &mut Tcp, direction: FlowDirection, segment: &Segment<'_>, times: SegmentTimes) {
    let flags = segment.flags;
    let has = |bits: u8| flags & bits != 0;
    if has(flag::SYN) && !has(flag::FIN | flag::RST) && is_late(tcp, direction, segment) {
        return take_late(tcp, direction, segment, times);
    }
    let mut step = TcpTransition {
        state: tcp.state,
        status: 0,
        syn_ack_us: tcp.syn_ack_us,
        ack_data_us: tcp.ack_data_us,
        syn_ns: tcp.syn_ns,
    };
    let (this, other) = ends(tcp, direction);
    if has(flag::RST) {
        step.status = tcp_status::RESET;
        if step.state != TcpState::SynSent {
            step.state = TcpState::Closed;
        }
        this.status |= step.status;
    } else {
        match step.state {
            TcpState::Listen | TcpState::SynSent => open(&mut step, this, other, segment, times),
            TcpState::SynReceived => establish(&mut step, this, other, segment, times),
            TcpState::Established => {
                if has(flag::FIN) {
                    (step.state, step.status) = (TcpState::FinWait1, tcp_status::FIN);
                    this.status |= step.status;
                } else if has(flag::SYN) && segment.sequence == this.sequence_base {
                    // With another number it is of another connection, or a feint.
                    resent(this);
                }
            }
            TcpState::FinWait1 | TcpState::FinWait2 => {
                (step.state, step.status) = close(this, other, segment, step.state);
            }
            TcpState::Closing | TcpState::Closed => {}
        }
    }
    tcp.state = step.state;
    tcp.status |= step.status;
    tcp.syn_ack_us = step.syn_ack_us;
    tcp.ack_data_us = step.ack_data_us;
    tcp.syn_ns = step.syn_ns;
}

/// What follows the first SYN.
#[inline]
fn open(
    step: &mut TcpTransition,
    this: &mut TcpSide,
    other: &mut TcpSide,
    segment: &Segment<'_>,
    times: SegmentTimes,
) {
    let has = |bits: u8| segment.flags & bits != 0;
    if is_syn(segment.flags) {
        begin_again(this, segment.sequence);
    } else if has(flag::SYN) && has(flag::ACK) {
        (step.state, step.status) = (TcpState::SynReceived, tcp_status::SAW_SYN_ACK);
        if other.sequence == this.acknowledged && times.other != 0 {
            step.syn_ack_us = microseconds(times.other, times.now);
        }
        answer(this, other, segment);
    } else if has(flag::FIN) {
        (step.state, step.status) = (TcpState::FinWait1, tcp_status::FIN);
    } else if has(flag::ACK) {
        (step.state, step.status) = (TcpState::Established, tcp_status::ESTABLISHED);
        // The SYN+ACK in between may come later.
        if segment.sequence == this.sequence_base.wrapping_add(1) {
            step.syn_ns = times.before;
        }
    }
    this.status |= step.status;
}

/// What follows the SYN+ACK.
#[inline]
fn establish(
    step: &mut TcpTransition,
    this: &mut TcpSide,
    other: &mut TcpSide,
    segment: &Segment<'_>,
    times: SegmentTimes,
) {
    let has = |bits: u8| segment.flags & bits != 0;
    if has(flag::FIN) {
        (step.state, step.status) = (TcpState::FinWait1, tcp_status::FIN);
    } else if is_syn(segment.flags) {
        // Another number counts when it is answered.
        if segment.sequence == this.sequence {
            resent(this);
        }
    } else if has(flag::SYN) {
        // Nothing can be measured of a connection whose other end is not seen.
        if begin_again(this, segment.sequence) && times.other != 0 {
            step.syn_ack_us = microseconds(times.other, times.now);
        }
        answer(this, other, segment);
    } else if has(flag::ACK) {
        (step.state, step.status) = (TcpState::Established, tcp_status::ESTABLISHED);
        if segment.sequence == other.acknowledged.wrapping_add(1) && times.other != 0 {
            step.ack_data_us = microseconds(times.other, times.now);
        }
    }
    this.status |= step.status;
}

/// Whether an end's first number shows that it is the one behind the SYN's.
const fn is_behind(end: &TcpSide, syn: u32) -> bool {
    end.has_begun && end.sequence_base.wrapping_sub(syn) <= 1
}

/// Whether a SYN comes that the destination sends, and that the source has answered: the source is
/// the server, if no SYN of its own was seen.
pub(crate) fn turns_round(tcp: &Tcp, direction: FlowDirection, segment: &Segment<'_>) -> bool {
    let is_answered = tcp.source.has_acknowledged && tcp.source.acknowledged == segment.sequence;
    let answers = tcp.status & tcp_status::SAW_SYN_ACK != 0 && is_answered;
    direction == FlowDirection::FromDestination
        && is_syn(segment.flags)
        && tcp.status & tcp_status::SAW_SYN == 0
        && matches!(tcp.state, TcpState::SynReceived | TcpState::Established)
        && (answers || is_behind(&tcp.destination, segment.sequence))
}

/// Whether a SYN or a SYN+ACK comes behind what follows it: packets take several ways to a sensor,
/// or come from several points.
fn is_late(tcp: &mut Tcp, direction: FlowDirection, segment: &Segment<'_>) -> bool {
    let (state, status) = (tcp.state, tcp.status);
    let (this, other) = ends(tcp, direction);
    if is_syn(segment.flags) {
        let is_answered = other.has_acknowledged && other.acknowledged == segment.sequence;
        return (status | this.status) & tcp_status::SAW_SYN == 0
            && matches!(state, TcpState::SynReceived | TcpState::Established)
            && (is_behind(this, segment.sequence) || !this.has_begun && is_answered);
    }
    let answered = segment.acknowledgement.wrapping_sub(1);
    segment.flags & flag::ACK != 0
        && status & tcp_status::SAW_SYN_ACK == 0
        && state == TcpState::Established
        && is_behind(other, answered)
}

/// Takes a segment that [`is_late`]. Durations of the handshake are those between the times of
/// packets, in whatever order they come; where one of these is not known, there is none.
#[cold]
fn take_late(tcp: &mut Tcp, direction: FlowDirection, segment: &Segment<'_>, times: SegmentTimes) {
    let (known, syn_ns) = (tcp.status, tcp.syn_ns);
    let (this, other) = ends(tcp, direction);
    if !this.has_begun {
        (this.sequence, this.in_flight, this.has_begun) = (segment.sequence, 0, true);
    }
    this.sequence_base = segment.sequence;
    this.last_ns = times.before.max(times.now);
    if is_syn(segment.flags) {
        // Its last segment was the SYN+ACK if it has acknowledged no more, and sent no more.
        let is_only = other.bytes == 0 && other.acknowledged == segment.sequence;
        this.status |= tcp_status::SAW_SYN;
        // Readers take it for one of the source. A flow that was not turned round has an answer.
        if direction == FlowDirection::FromSource {
            tcp.status |= tcp_status::SAW_SYN;
        }
        if segment.flags & (flag::ECE | flag::CWR) == flag::ECE | flag::CWR {
            tcp.options |= tcp_status::ECN_SOURCE;
        }
        if known & tcp_status::SAW_SYN_ACK == 0 {
            tcp.syn_ns = times.now;
        } else if is_only {
            tcp.syn_ack_us = microseconds(times.now, times.other);
        }
        return;
    }
    // The last segment of the other end was its ACK if it has sent no data.
    let is_only = other.bytes == 0;
    this.status |= tcp_status::SAW_SYN_ACK;
    tcp.status |= tcp_status::SAW_SYN_ACK;
    if syn_ns != 0 {
        tcp.syn_ack_us = microseconds(syn_ns, times.now);
    }
    if is_only {
        tcp.ack_data_us = microseconds(times.now, times.other);
    }
}

/// Counts a SYN that was sent again, or begins anew with one of another number, which is another
/// connection's (RFC 9293 §3.5): nobody has answered the one before. Whether it does.
fn begin_again(this: &mut TcpSide, sequence: u32) -> bool {
    let is_same = this.sequence == sequence || this.sequence_base == sequence;
    if this.has_begun && is_same {
        resent(this);
        return false;
    }
    (this.sequence_base, this.sequence) = (sequence, sequence);
    (this.in_flight, this.has_begun) = (0, true);
    true
}

/// Takes the number that a SYN+ACK acknowledges: it belongs to the SYN that is answered, perhaps
/// not the last one. Data that came with the SYN may be acknowledged, too (RFC 7413).
fn answer(this: &mut TcpSide, other: &mut TcpSide, segment: &Segment<'_>) {
    let answered = segment.acknowledgement.wrapping_sub(1);
    (this.acknowledged, this.has_acknowledged) = (answered, true);
    if answered.wrapping_sub(other.sequence) > other.bytes {
        (other.sequence_base, other.sequence) = (answered, answered);
    }
    other.in_flight = 0;
}

/// Counts a segment that was sent again.
fn resent(this: &mut TcpSide) {
    this.retransmitted += 1;
    this.status |= tcp_status::RETRANSMITTED;
}

/// What a segment adds after a FIN of either end.
fn close(
    this: &mut TcpSide,
    other: &mut TcpSide,
    segment: &Segment<'_>,
    state: TcpState,
) -> (TcpState, u32) {
    let flags = segment.flags;
    let (mut state, mut status) = (state, 0);
    if flags & flag::FIN != 0 {
        status |= tcp_status::FIN;
        this.status |= tcp_status::FIN;
    }
    let acknowledges_all = other.sequence == this.acknowledged;
    if flags & flag::ACK != 0
        && segment.data_length == 0
        && other.status & tcp_status::FIN != 0
        && acknowledges_all
    {
        state = TcpState::FinWait2;
        status |= tcp_status::FIN_ACKNOWLEDGED;
        other.status |= tcp_status::FIN_ACKNOWLEDGED;
    }
    (state, status)
}
