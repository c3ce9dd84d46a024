//! One flow, and what a packet changes in it.

use panoptes_decoders::packet::transport::{Esp, Icmp as Message, Tcp as Segment, flag, protocol};
use panoptes_decoders::packet::{
    Arp as ArpPacket, ArpOperation, Encapsulation, Ip, Network, Packet,
};
use panoptes_decoders::source::CACHE_LINE_BYTES;
use panoptes_records::flow::{
    Arp, Cause, Detail, Esp as EspDetail, FlowDirection, FlowKeyKind, FlowRecord, FlowSide, Icmp,
    TcpSide, TcpState, header, status, tcp_status,
};

use crate::queues::Waits;
use crate::rtp;
use crate::tcp::{self, SegmentOutcome};

/// Bits of the status of ESP (`include/argus_def.h`).
mod esp_status {
    pub(super) const LOST: u32 = 0x100;
    pub(super) const OUT_OF_ORDER: u32 = 0x1_0000;
}

/// How far a sequence number of ESP may be from the last one.
const ESP_WINDOW: u32 = 0x1_0000;

/// A flow. It begins a line of the processor's cache, and so do the parts of its record.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Flow {
    pub(crate) record: FlowRecord,
    /// For fragments: the flow of the first one, and its number.
    pub(crate) parent: Option<(u32, u32)>,
}

const _: () = {
    assert!(align_of::<Flow>() == CACHE_LINE_BYTES);
    // Records have the bits of the decoder ([`Flow::count`]).
    assert!(Encapsulation::VXLAN == header::VXLAN);
    assert!(Encapsulation::L2TP == header::L2TP);
    assert!(Encapsulation::GENEVE == header::GENEVE);
    assert!(Encapsulation::ERSPAN == header::ERSPAN);
    assert!(Encapsulation::GTP_USER == header::GTP_USER);
};

/// When a packet came, and its length on the wire.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    /// Nanoseconds since 1970.
    pub(crate) time_ns: i64,
    pub(crate) bytes: u32,
}

/// What a packet has done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effect<'a> {
    /// Whether the protocol could send it at once.
    pub(crate) is_active: bool,
    /// What was captured of the application's data.
    pub(crate) data: &'a [u8],
    pub(crate) data_length: u32,
    /// Whether it begins another flow, and was not counted.
    pub(crate) restarts: bool,
    /// Whether its sender is the source of the flow, which the other end was until now; it was not
    /// counted.
    pub(crate) turns_round: bool,
}

impl<'a> Effect<'a> {
    /// That of a packet that changes nothing but counters.
    pub(crate) const fn of(data: &'a [u8], data_length: u32) -> Self {
        Self { is_active: true, data, data_length, restarts: false, turns_round: false }
    }
}

impl Flow {
    /// The queue in which the flow waits for its removal.
    pub(crate) const fn idle_queue(&self) -> Waits {
        match self.record.key.kind {
            FlowKeyKind::Ipv4 | FlowKeyKind::Ipv6 if self.record.key.protocol == protocol::TCP => {
                Waits::IdleTcp
            }
            FlowKeyKind::Ipv4
            | FlowKeyKind::Ipv6
            | FlowKeyKind::Igmp
            | FlowKeyKind::EspV4
            | FlowKeyKind::EspV6 => Waits::IdleIp,
            FlowKeyKind::Icmp | FlowKeyKind::Icmpv6 => Waits::IdleIcmp,
            FlowKeyKind::Arp | FlowKeyKind::Rarp => Waits::IdleArp,
            FlowKeyKind::FragmentV4 | FlowKeyKind::FragmentV6 => Waits::IdleFragment,
            FlowKeyKind::Ethernet | FlowKeyKind::Llc | FlowKeyKind::Wireless => Waits::IdleOther,
        }
    }

    /// Whether it is a connection of TCP that may continue after any pause. Argus also remembers
    /// those that have ended, and SYNs without an answer: a flood of SYNs would drive out all
    /// others.
    pub(crate) fn may_go_on(&self) -> bool {
        let Detail::Tcp(tcp) = &self.record.detail else { return false };
        let have_both_ended = tcp.source.status & tcp.destination.status & tcp_status::FIN != 0;
        match tcp.state {
            TcpState::SynReceived
            | TcpState::Established
            | TcpState::FinWait1
            | TcpState::FinWait2 => !have_both_ended,
            TcpState::Closed | TcpState::Listen | TcpState::SynSent | TcpState::Closing => false,
        }
    }

    /// Makes the destination the source.
    pub(crate) fn turn_round(&mut self) {
        let record = &mut self.record;
        record.key = record.key.reversed();
        record.hardware.reverse();
        record.vnis.reverse();
        core::mem::swap(&mut record.source, &mut record.destination);
        if let Detail::Tcp(tcp) = &mut record.detail {
            *tcp = tcp.reversed();
        }
    }

    /// Begins a new record of the same flow.
    pub(crate) fn renew(&mut self) {
        let record = &mut self.record;
        record.cause = Cause::Status;
        (record.error, record.vnis) = (None, [None; 2]);
        for side in [&mut record.source, &mut record.destination] {
            *side = FlowSide {
                ttl: side.ttl,
                tos: side.tos,
                ip_id: side.ip_id,
                status: side.status & (status::IP | status::SEVERAL_PATHS),
                ..FlowSide::default()
            };
        }
        match &mut record.detail {
            Detail::Tcp(tcp) => {
                for side in [&mut tcp.source, &mut tcp.destination] {
                    *side = TcpSide {
                        status: side.status & !tcp_status::PAIRS,
                        sequence_base: side.sequence,
                        bytes: 0,
                        retransmitted: 0,
                        in_flight: 0,
                        flags: 0,
                        ..*side
                    };
                }
            }
            Detail::Esp(esp) => (esp.status, esp.lost) = (0, 0),
            Detail::Rtp(rtp) => {
                (rtp.status, rtp.source.lost, rtp.destination.lost) = (0, 0, 0);
            }
            _ => {}
        }
    }

    /// Counts a packet, without its payload.
    #[inline]
    pub(crate) fn count(
        &mut self,
        packet: &Packet<'_>,
        direction: FlowDirection,
        data_length: u32,
        arrival: Arrival,
    ) {
        if let Some(ether) = &packet.ether {
            let pair = match direction {
                FlowDirection::FromSource => [ether.destination, ether.source],
                FlowDirection::FromDestination => [ether.source, ether.destination],
            };
            if self.record.ethertype == 0 && self.record.hardware == [[0; 6]; 2] {
                (self.record.hardware, self.record.ethertype) = (pair, ether.kind);
            } else if self.record.hardware != pair {
                self.record.side(direction).status |= status::SEVERAL_PATHS;
            }
        }
        let side = self.record.side(direction);
        if side.packets == 0 {
            side.size_min = u16::MAX;
        }
        side.packets += 1;
        side.bytes += u64::from(arrival.bytes);
        side.application_bytes += u64::from(data_length);
        let size = u16::try_from(arrival.bytes).unwrap_or(u16::MAX);
        side.size_min = side.size_min.min(size);
        side.size_max = side.size_max.max(size);
        // Packets of several queues or files are not always in order.
        if side.first_ns == 0 || arrival.time_ns < side.first_ns {
            side.first_ns = arrival.time_ns;
        }
        side.last_ns = side.last_ns.max(arrival.time_ns);
        side.encapsulation |= packet.encapsulation.0;
        if let Some(tag) = packet.vlan {
            side.vlan = tag;
            side.status |= status::VLAN;
        }
        if let Some(mpls) = packet.mpls {
            (side.mpls, side.mpls_depth) = (mpls.word, mpls.depth);
        }
        if let Some(vni) = packet.vni {
            self.record.vnis[direction as usize] = Some(vni);
        }
        let side = self.record.side(direction);
        if let Network::Ip(ip) = &packet.network {
            side.status |= status::IP;
            (side.ttl, side.tos) = (ip.ttl, ip.tos);
            (side.ip_id, side.ip_options) = (ip.id, ip.options);
            if ip.fragment.is_some() {
                side.status |= status::FRAGMENTS;
            }
        }
    }

    /// Follows the protocol of a packet.
    #[inline]
    pub(crate) fn follow<'a>(
        &mut self,
        packet: &Packet<'a>,
        direction: FlowDirection,
        is_first: bool,
        now_ns: i64,
    ) -> Effect<'a> {
        let mut effect = Effect::of(&[], 0);
        match &packet.network {
            Network::Ip(ip) => {
                (effect.data, effect.data_length) = (ip.payload, ip.payload_length);
                self.follow_ip(ip, direction, is_first, now_ns, &mut effect);
            }
            Network::Arp(arp) => self.follow_arp(arp),
            _ => {}
        }
        effect
    }

    #[inline]
    fn follow_ip<'a>(
        &mut self,
        ip: &Ip<'a>,
        direction: FlowDirection,
        is_first: bool,
        now_ns: i64,
        effect: &mut Effect<'a>,
    ) {
        if !ip.is_first_fragment() {
            return;
        }
        match ip.protocol {
            protocol::TCP => {
                if let Some(segment) = Segment::decode(ip.payload, ip.payload_length) {
                    (effect.data, effect.data_length) = (segment.data, segment.data_length);
                    self.follow_tcp(&segment, ip, direction, now_ns, effect);
                }
            }
            protocol::UDP => {
                effect.data = ip.payload.get(8..).unwrap_or_default();
                effect.data_length = ip.payload_length.saturating_sub(8);
                // The ports of both ends; which is whose does not matter.
                let ports = (self.record.key.source_port, self.record.key.destination_port);
                let (data, length) = (effect.data, effect.data_length);
                rtp::follow(&mut self.record.detail, direction, ports, data, length);
            }
            protocol::ICMP | protocol::ICMPV6 => {
                if let Some(message) = Message::decode(ip.payload).filter(|_| is_first) {
                    self.record.detail = Detail::Icmp(message_of(ip, &message));
                }
            }
            protocol::ESP => {
                if let Some(esp) = Esp::decode(ip.payload) {
                    self.follow_esp(esp);
                }
            }
            _ => {}
        }
    }

    #[inline]
    fn follow_tcp(
        &mut self,
        segment: &Segment<'_>,
        ip: &Ip<'_>,
        direction: FlowDirection,
        now_ns: i64,
        effect: &mut Effect<'_>,
    ) {
        let record = &mut self.record;
        match &mut record.detail {
            // Readers add up the records of a flow, so all have the same source.
            Detail::Tcp(tcp)
                if segment.flags & flag::SYN != 0
                    && record.sequence == 0
                    && record.source.application_bytes == 0
                    && record.destination.application_bytes == 0
                    && tcp::turns_round(tcp, direction, segment) =>
            {
                effect.turns_round = true;
            }
            Detail::Tcp(tcp) => match tcp::follow(tcp, direction, segment, ip.id, now_ns) {
                SegmentOutcome::Continues { is_active } => effect.is_active = is_active,
                SegmentOutcome::Restarts => effect.restarts = true,
            },
            detail => *detail = Detail::Tcp(tcp::begin(segment, ip.id, now_ns)),
        }
    }

    fn follow_esp(&mut self, esp: Esp) {
        let Detail::Esp(known) = &mut self.record.detail else {
            let detail =
                EspDetail { spi: esp.spi, last_sequence: esp.sequence, ..EspDetail::default() };
            self.record.detail = Detail::Esp(detail);
            return;
        };
        let forwards = esp.sequence.wrapping_sub(known.last_sequence);
        match forwards {
            1..=ESP_WINDOW => {
                if forwards > 1 {
                    known.status |= esp_status::LOST;
                    known.lost += forwards - 1;
                }
                known.last_sequence = esp.sequence;
            }
            // One that was counted as lost, and was only overtaken.
            _ if forwards.wrapping_neg() <= ESP_WINDOW && forwards != 0 => {
                known.status |= esp_status::OUT_OF_ORDER;
                known.lost = known.lost.saturating_sub(1);
            }
            _ => {}
        }
    }

    fn follow_arp(&mut self, arp: &ArpPacket) {
        if arp.operation == ArpOperation::Reply {
            self.record.detail = Detail::Arp(Arp { responder: arp.sender_hardware });
        }
    }
}

/// A message of ICMP as records have it.
pub(crate) fn message_of(ip: &Ip<'_>, message: &Message<'_>) -> Icmp {
    let mut icmp = Icmp {
        kind: message.kind,
        code: message.code,
        sequence: message.sequence(),
        ..Icmp::default()
    };
    if !ip.is_v6 {
        (icmp.sender, icmp.receiver) = (ip.source as u32, ip.destination as u32);
        if let Some(quoted) = message.quoted().filter(|_| is_error(ip, message)) {
            icmp.quoted_source = quoted.source as u32;
            icmp.quoted_destination = quoted.destination as u32;
            icmp.gateway = message.word;
        }
    }
    icmp
}

/// Whether a message refers to a packet that it quotes.
pub(crate) const fn is_error(ip: &Ip<'_>, message: &Message<'_>) -> bool {
    if ip.is_v6 { message.kind < 128 } else { matches!(message.kind, 3 | 4 | 5 | 11 | 12) }
}
