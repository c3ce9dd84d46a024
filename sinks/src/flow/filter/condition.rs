//! Conditions on a record.

use std::ops::RangeInclusive;

use panoptes_records::flow::{Address, Cause, Detail, Extra, FlowKeyKind, FlowRecord, status};

use super::fields::{Number, Real, side};
use super::terms::{FilterProtocol, FlowEnds, FlowStateName};
use crate::flow::argus::{SourceId, error_group};
use crate::flow::protocol::{ICMP, ICMPV6, TCP, UDP};

/// What a filter looks at: a flow record, or a management record.
pub(super) struct FilteredRecord<'a> {
    pub flow: Option<(&'a FlowRecord, &'a Extra<'a>)>,
    pub source: SourceId,
    pub cause: Cause,
}

/// A network, or a host of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Network {
    /// The address and the mask.
    V4(u32, u32),
    V6(u128, u128),
}

#[derive(Clone, Debug)]
pub(super) enum Condition {
    SourceId(u32),
    Protocol(FilterProtocol),
    /// The version of IP, if it is given, and the number of a protocol in its header.
    IpProtocol(FilterProtocol, u8),
    EthernetType(u16),
    Host(FlowEnds, Network),
    Hardware(FlowEnds, [u8; 6]),
    /// The router that sent an error message.
    Router(u32),
    /// TCP or UDP, if no protocol is given.
    Port(Option<FilterProtocol>, FlowEnds, RangeInclusive<u16>),
    Encapsulation(FlowEnds, u32),
    Number(Number),
    Real(Real),
    State(FlowStateName, FlowEnds),
    /// A group or broadcast address: first those of hardware, then those of IP.
    HardwareGroup,
    HardwareBroadcast,
    Multicast,
    Broadcast,
}

impl Condition {
    pub(super) fn holds(&self, subject: &FilteredRecord<'_>) -> bool {
        match (self, subject.flow) {
            (Self::SourceId(id), _) => u32::from_be_bytes(subject.source.code().1) == *id,
            (Self::State(FlowStateName::Cause(bits), _), _) => subject.cause as u8 & bits == *bits,
            (Self::State(FlowStateName::Management, _), flow) => flow.is_none(),
            (_, None) => false,
            (_, Some((record, extra))) => self.holds_for(record, extra),
        }
    }

    fn holds_for(&self, record: &FlowRecord, extra: &Extra<'_>) -> bool {
        match self {
            Self::Protocol(protocol) => is_of(record, *protocol),
            Self::IpProtocol(version, number) => {
                is_of(record, *version) && ip_protocol(record) == Some(*number)
            }
            Self::EthernetType(number) => ethernet_type(record) == Some(*number),
            Self::Host(ends, network) => {
                let ends_of = [record.key.source, record.key.destination];
                let family = family(record.key.kind);
                ends.any(|is_destination| network.has(family, ends_of[usize::from(is_destination)]))
            }
            Self::Hardware(ends, address) => {
                ends.any(|is_destination| hardware(record, is_destination) == *address)
            }
            Self::Router(address) => record.error.is_some_and(|error| error.sender == *address),
            Self::Port(protocol, ends, range) => has_port(record, *protocol, *ends, range),
            Self::Encapsulation(ends, bits) => {
                ends.any(|is_destination| side(record, is_destination).encapsulation & bits != 0)
            }
            Self::Number(number) => number.holds(record),
            Self::Real(real) => real.holds(record, extra),
            Self::State(state, ends) => state.holds(record, *ends),
            Self::HardwareGroup => {
                FlowEnds::Either.any(|is_destination| hardware(record, is_destination)[0] & 1 != 0)
            }
            Self::HardwareBroadcast => {
                FlowEnds::Either.any(|is_destination| hardware(record, is_destination) == [0xff; 6])
            }
            Self::Multicast => {
                // RFC 5771 section 3, RFC 4291 section 2.7.
                let groups = [Network::V4(0xe000_0000, 0xf000_0000), Network::prefix_v6(0xff, 8)];
                let [source, destination] = [record.key.source, record.key.destination];
                let family = family(record.key.kind).filter(|_| is_of(record, FilterProtocol::Ip));
                groups
                    .iter()
                    .any(|group| group.has(family, source) || group.has(family, destination))
            }
            Self::Broadcast => {
                let ends = [record.key.source, record.key.destination];
                is_of(record, FilterProtocol::Ipv4) && ends.iter().any(|end| end.v4() == u32::MAX)
            }
            Self::SourceId(_) => false,
        }
    }
}

/// What an address of a flow is.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Family {
    V4,
    V6,
}

const fn family(kind: FlowKeyKind) -> Option<Family> {
    match kind {
        FlowKeyKind::Ipv4
        | FlowKeyKind::Icmp
        | FlowKeyKind::Igmp
        | FlowKeyKind::EspV4
        | FlowKeyKind::FragmentV4
        | FlowKeyKind::Arp => Some(Family::V4),
        FlowKeyKind::Ipv6 | FlowKeyKind::Icmpv6 | FlowKeyKind::EspV6 | FlowKeyKind::FragmentV6 => {
            Some(Family::V6)
        }
        FlowKeyKind::Rarp | FlowKeyKind::Ethernet | FlowKeyKind::Llc | FlowKeyKind::Wireless => {
            None
        }
    }
}

impl Network {
    /// The network of IPv6 whose first bits these are.
    const fn prefix_v6(bits: u128, length: u32) -> Self {
        let mask = u128::MAX << (128 - length);
        Self::V6(bits << (128 - length), mask)
    }

    fn has(self, family: Option<Family>, address: Address) -> bool {
        match (self, family) {
            (Self::V4(network, mask), Some(Family::V4)) => address.v4() & mask == network,
            (Self::V6(network, mask), Some(Family::V6)) => {
                u128::from_be_bytes(address.v6()) & mask == network
            }
            _ => false,
        }
    }
}

fn is_of(record: &FlowRecord, protocol: FilterProtocol) -> bool {
    let kind = record.key.kind;
    let is_arp = kind == FlowKeyKind::Arp;
    match protocol {
        FilterProtocol::Link => {
            matches!(kind, FlowKeyKind::Ethernet | FlowKeyKind::Llc | FlowKeyKind::Wireless)
        }
        FilterProtocol::Ip => !is_arp && family(kind).is_some(),
        FilterProtocol::Ipv4 => !is_arp && family(kind) == Some(Family::V4),
        FilterProtocol::Ipv6 => family(kind) == Some(Family::V6),
        FilterProtocol::Arp => is_arp,
        FilterProtocol::Rarp => kind == FlowKeyKind::Rarp,
        FilterProtocol::Number(number) => ip_protocol(record) == Some(number),
        FilterProtocol::Mpls => record.source.mpls_depth > 0 || record.destination.mpls_depth > 0,
        FilterProtocol::Vlan => has_status(record, FlowEnds::Either, status::VLAN),
        FilterProtocol::Rtp => record.rtp().is_some_and(|rtp| !rtp.is_control),
        FilterProtocol::Rtcp => record.rtp().is_some_and(|rtp| rtp.is_control),
        FilterProtocol::Unseen => false,
    }
}

/// The number of the protocol above IP.
fn ip_protocol(record: &FlowRecord) -> Option<u8> {
    match record.key.kind {
        FlowKeyKind::Icmp => Some(ICMP), // Its key has the protocol of the packet that it quotes.
        FlowKeyKind::Icmpv6 => Some(ICMPV6),
        _ => is_of(record, FilterProtocol::Ip).then_some(record.key.protocol),
    }
}

fn ethernet_type(record: &FlowRecord) -> Option<u16> {
    match record.key.kind {
        FlowKeyKind::Arp => Some(0x0806),
        FlowKeyKind::Rarp => Some(0x8035),
        FlowKeyKind::Ethernet => Some(record.key.extra),
        FlowKeyKind::Llc | FlowKeyKind::Wireless => None,
        kind => family(kind).map(|family| if family == Family::V4 { 0x0800 } else { 0x86dd }),
    }
}

/// The hardware address of an end. Records have that of the destination first.
const fn hardware(record: &FlowRecord, is_destination: bool) -> [u8; 6] {
    record.hardware[if is_destination { 0 } else { 1 }]
}

fn has_port(
    record: &FlowRecord,
    protocol: Option<FilterProtocol>,
    ends: FlowEnds,
    range: &RangeInclusive<u16>,
) -> bool {
    let is_right = match protocol {
        Some(protocol) => is_of(record, protocol),
        None => matches!(ip_protocol(record), Some(TCP | UDP)),
    };
    let ports = [record.key.source_port, record.key.destination_port];
    // Fragments have no ports: their numbers are the identification.
    let has_ports = matches!(record.key.kind, FlowKeyKind::Ipv4 | FlowKeyKind::Ipv6);
    is_right
        && has_ports
        && ends.any(|is_destination| range.contains(&ports[usize::from(is_destination)]))
}

fn has_status(record: &FlowRecord, ends: FlowEnds, bits: u8) -> bool {
    ends.any(|is_destination| side(record, is_destination).status & bits != 0)
}

impl FlowStateName {
    /// Whether the state has ends.
    pub(super) const fn has_ends(self) -> bool {
        matches!(
            self,
            Self::TcpPair(_)
                | Self::TcpFlag(_)
                | Self::Retransmitted
                | Self::Fragments
                | Self::SeveralPaths
        )
    }

    fn holds(self, record: &FlowRecord, ends: FlowEnds) -> bool {
        let tcp = match &record.detail {
            Detail::Tcp(tcp) => Some(tcp),
            _ => None,
        };
        let has_pair = |bit: u32| {
            tcp.is_some_and(|tcp| {
                ends.any(|is_destination| tcp.bits() & bit << u8::from(is_destination) != 0)
            })
        };
        match self {
            Self::Flow => true,
            Self::Management | Self::Cause(_) | Self::Unseen => false,
            Self::TcpStatus(bits) => tcp.is_some_and(|tcp| tcp.bits() & bits == bits),
            Self::TcpOption(bits) => tcp.is_some_and(|tcp| tcp.options & bits != 0),
            Self::TcpPair(bit) => has_pair(bit),
            Self::TcpFlag(bit) => tcp.is_some_and(|tcp| {
                ends.any(|is_destination| {
                    let end = if is_destination { &tcp.destination } else { &tcp.source };
                    side(record, is_destination).packets > 0 && end.flags & bit != 0
                })
            }),
            Self::Connected => {
                let is_two_way = record.source.packets > 0 && record.destination.packets > 0;
                is_of(record, FilterProtocol::Ip) && is_two_way
                    || tcp.is_some_and(|tcp| tcp.bits() & 0x4 != 0)
            }
            Self::Retransmitted => match &record.detail {
                Detail::Esp(esp) => {
                    ends.any(|is_destination| esp.status & 0x10 << u8::from(is_destination) != 0)
                }
                _ => has_pair(0x100),
            },
            Self::Fragments => has_status(record, ends, status::FRAGMENTS),
            Self::FragmentsOnly => {
                matches!(record.key.kind, FlowKeyKind::FragmentV4 | FlowKeyKind::FragmentV6)
            }
            Self::SeveralPaths => has_status(record, ends, status::SEVERAL_PATHS),
            Self::Echo => matches!(icmp_type(record), Some((false, 0 | 8) | (true, 128 | 129))),
            Self::Errors(groups) => has_error(record, groups),
            Self::IgmpQuery => igmp_type(record) == Some(0x11),
            Self::IgmpMember => igmp_type(record).is_some_and(|kind| kind != 0x11),
            Self::IgmpLeave => igmp_type(record) == Some(0x17),
        }
    }
}

/// Whether it is ICMPv6, and the type of the message.
const fn icmp_type(record: &FlowRecord) -> Option<(bool, u8)> {
    match (&record.detail, record.key.kind) {
        (Detail::Icmp(icmp), FlowKeyKind::Icmp) => Some((false, icmp.kind)),
        (Detail::Icmp(icmp), FlowKeyKind::Icmpv6) => Some((true, icmp.kind)),
        _ => None,
    }
}

/// The type of a message of IGMP (RFC 2236 section 2.1).
fn igmp_type(record: &FlowRecord) -> Option<u8> {
    (record.key.kind == FlowKeyKind::Igmp).then_some((record.key.source_port >> 8) as u8)
}

/// Whether a record is of an ICMP error of these groups, or of a flow that drew one.
fn has_error(record: &FlowRecord, groups: u8) -> bool {
    let drawn = record.error.is_some_and(|error| error_group(&error) & groups != 0);
    // `icmpmap` is for flows that drew an error.
    let own = match icmp_type(record) {
        _ if groups == 0x7 => 0,
        Some((false, 3) | (true, 1)) => 0x1,
        Some((false, 5) | (true, 137)) => 0x2,
        Some((false, 11) | (true, 3)) => 0x4,
        _ => 0,
    };
    drawn || own & groups != 0
}
