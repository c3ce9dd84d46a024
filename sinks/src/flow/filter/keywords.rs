//! The keywords of the language, by what may follow them.

use super::fields::{Comparison, NumberField, RealField};
use super::terms::{FilterProtocol, FlowStateName};
use crate::flow::protocol::{ESP, ICMP, ICMPV6, SCTP, TCP, UDP};

/// What an operand is compared with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum OperandKind {
    Host,
    SourceId,
    /// The router that sent an error message.
    Inode,
    Net,
    Gateway,
    /// `proto`: the number or the name of a protocol follows.
    Proto,
    Port,
    Encapsulation,
    Country,
    Number(NumberField),
    Real(RealField),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Keyword {
    And,
    Or,
    Not,
    Source,
    Destination,
    Compare(Comparison),
    Mask,
    Protocol(FilterProtocol),
    Operand(OperandKind),
    State(FlowStateName),
    Multicast,
    Broadcast,
    Unsupported,
}

/// The keyword that a word is. Argus's sensor also knows some in capital letters.
pub(super) fn keyword(word: &str) -> Option<Keyword> {
    match word {
        "and" | "AND" => Some(Keyword::And),
        "or" | "OR" => Some(Keyword::Or),
        "not" | "NOT" => Some(Keyword::Not),
        "src" => Some(Keyword::Source),
        "dst" => Some(Keyword::Destination),
        "mask" => Some(Keyword::Mask),
        "host" => Some(Keyword::Operand(OperandKind::Host)),
        "srcid" => Some(Keyword::Operand(OperandKind::SourceId)),
        "inode" => Some(Keyword::Operand(OperandKind::Inode)),
        "net" => Some(Keyword::Operand(OperandKind::Net)),
        "gateway" => Some(Keyword::Operand(OperandKind::Gateway)),
        "proto" => Some(Keyword::Operand(OperandKind::Proto)),
        "port" => Some(Keyword::Operand(OperandKind::Port)),
        "encaps" => Some(Keyword::Operand(OperandKind::Encapsulation)),
        "co" => Some(Keyword::Operand(OperandKind::Country)),
        "broadcast" => Some(Keyword::Broadcast),
        "multicast" => Some(Keyword::Multicast),
        "anon" | "auth" | "recurs" | "req" | "rsp" | "svc" | "tcprtt" | "gap" | "dup" | "len"
        | "length" | "inbound" | "outbound" | "cor" | "corolated" => Some(Keyword::Unsupported),
        _ => comparison(word)
            .map(Keyword::Compare)
            .or_else(|| protocol(word).map(Keyword::Protocol))
            .or_else(|| field(word).map(|field| Keyword::Operand(OperandKind::Number(field))))
            .or_else(|| real_field(word).map(|field| Keyword::Operand(OperandKind::Real(field))))
            .or_else(|| state(word).map(Keyword::State)),
    }
}

fn comparison(word: &str) -> Option<Comparison> {
    Some(match word {
        "eq" | "equal" | "EQ" => Comparison::Equal,
        "lt" | "less" | "LT" | "LESS" => Comparison::Less,
        "lte" | "LTE" => Comparison::LessOrEqual,
        "gt" | "greater" | "GT" | "GREATER" => Comparison::Greater,
        "gte" | "GTE" => Comparison::GreaterOrEqual,
        _ => return None,
    })
}

fn protocol(word: &str) -> Option<FilterProtocol> {
    Some(match word {
        "ether" | "link" | "ppp" | "slip" | "fddi" => FilterProtocol::Link,
        "ip" => FilterProtocol::Ip,
        "ipv4" => FilterProtocol::Ipv4,
        "ipv6" | "ip6" => FilterProtocol::Ipv6,
        "arp" => FilterProtocol::Arp,
        "rarp" => FilterProtocol::Rarp,
        "tcp" => FilterProtocol::Number(TCP),
        "udp" => FilterProtocol::Number(UDP),
        "icmp" => FilterProtocol::Number(ICMP),
        "igmp" => FilterProtocol::Number(2),
        // Those that follow are no words of argus, but of tcpdump, or documented.
        "icmp6" => FilterProtocol::Number(ICMPV6),
        "esp" => FilterProtocol::Number(ESP),
        "ah" => FilterProtocol::Number(51),
        "sctp" => FilterProtocol::Number(SCTP),
        "mpls" => FilterProtocol::Mpls,
        "vlan" => FilterProtocol::Vlan,
        "rtp" => FilterProtocol::Rtp,
        "rtcp" => FilterProtocol::Rtcp,
        "udt" | "isis" => FilterProtocol::Unseen,
        _ => return None,
    })
}

fn field(word: &str) -> Option<NumberField> {
    Some(match word {
        "seq" => NumberField::Sequence,
        "vid" => NumberField::VlanId,
        "vni" => NumberField::Vni,
        "vpri" => NumberField::VlanPriority,
        "mid" => NumberField::Label,
        "ipid" => NumberField::Identification,
        "spi" => NumberField::Spi,
        "ttl" => NumberField::Ttl,
        "tos" => NumberField::Tos,
        "dsb" | "dsbyte" => NumberField::CodePoint,
        "trans" => NumberField::Merged,
        "pkt" | "pkts" => NumberField::Packets,
        "byte" | "bytes" => NumberField::Bytes,
        "data" | "appbyte" | "appbytes" => NumberField::ApplicationBytes,
        "loss" => NumberField::Lost,
        "tcpb" | "base" => NumberField::TcpBase,
        "as" | "asn" | "nstroke" | "nstrokes" | "deldur" | "delstime" | "delltime" => {
            NumberField::Unknown
        }
        _ => return None,
    })
}

fn real_field(word: &str) -> Option<RealField> {
    Some(match word {
        "pcr" | "pcratio" | "abr" | "abratio" => RealField::ProducerConsumer,
        "rate" => RealField::Rate,
        "load" => RealField::Load,
        "ploss" => RealField::LossPercentage,
        // The mean of one record is its duration.
        "dur" | "avgdur" => RealField::Duration,
        "inter" | "intpkt" | "intpktact" => RealField::Interval,
        "intpktidle" => RealField::IntervalIdle,
        "jit" | "jitter" | "jitact" => RealField::Jitter,
        "jitidle" => RealField::JitterIdle,
        _ => return None,
    })
}

fn state(word: &str) -> Option<FlowStateName> {
    Some(match word {
        "start" | "init" => FlowStateName::Cause(0x10),
        "status" => FlowStateName::Cause(0x20),
        "stop" => FlowStateName::Cause(0x30),
        "timeout" => FlowStateName::Cause(0x40),
        "shut" => FlowStateName::Cause(0x60),
        "error" => FlowStateName::Cause(0x80),
        "man" | "mar" => FlowStateName::Management,
        "far" => FlowStateName::Flow,
        "event" | "index" | "cocode" | "psnp" | "csnp" | "lsp" | "hello" => FlowStateName::Unseen,
        "normal" => FlowStateName::TcpStatus(0x20),
        "wait" => FlowStateName::TcpStatus(0x40),
        "synack" => FlowStateName::TcpStatus(0x2),
        "finack" => FlowStateName::TcpStatus(0x10),
        "est" | "con" | "avail" => FlowStateName::Connected,
        "syn" => FlowStateName::TcpFlag(0x02),
        "ack" => FlowStateName::TcpFlag(0x10),
        "push" => FlowStateName::TcpFlag(0x08),
        "urg" => FlowStateName::TcpFlag(0x20),
        "fin" => FlowStateName::TcpFlag(0x01),
        "rst" | "reset" => FlowStateName::TcpFlag(0x04),
        "ece" => FlowStateName::TcpFlag(0x40),
        "cwr" => FlowStateName::TcpFlag(0x80),
        // The bit of the source in each pair.
        "outoforder" | "ooo" => FlowStateName::TcpPair(0x1_0000),
        "winshut" => FlowStateName::TcpPair(0x400),
        "ecn" => FlowStateName::TcpPair(0x4000),
        "retrans" | "drop" => FlowStateName::Retransmitted,
        "frag" => FlowStateName::Fragments,
        "fragonly" => FlowStateName::FragmentsOnly,
        "multipath" | "mpath" => FlowStateName::SeveralPaths,
        "icmpmap" => FlowStateName::Errors(0x7),
        "echo" => FlowStateName::Echo,
        "unreach" => FlowStateName::Errors(0x1),
        "redirect" => FlowStateName::Errors(0x2),
        "timexed" => FlowStateName::Errors(0x4),
        "rtr" => FlowStateName::IgmpQuery,
        "mbr" => FlowStateName::IgmpMember,
        "lvg" => FlowStateName::IgmpLeave,
        // Bits of the options in `include/argus_def.h`.
        "tcpopt" => FlowStateName::TcpOption(0xfff0_0000),
        "mss" => FlowStateName::TcpOption(0x0010_0000),
        "wscale" => FlowStateName::TcpOption(0x0020_0000),
        "selackok" => FlowStateName::TcpOption(0x0040_0000),
        "selack" => FlowStateName::TcpOption(0x0080_0000),
        "tcpecho" => FlowStateName::TcpOption(0x0100_0000),
        "tcpechoreply" => FlowStateName::TcpOption(0x0200_0000),
        "tcptimestamp" => FlowStateName::TcpOption(0x0400_0000),
        "tcpcc" => FlowStateName::TcpOption(0x0800_0000),
        "tcpccnew" => FlowStateName::TcpOption(0x1000_0000),
        "tcpccecho" => FlowStateName::TcpOption(0x2000_0000),
        "secn" => FlowStateName::TcpOption(0x4000_0000),
        "decn" => FlowStateName::TcpOption(0x8000_0000),
        _ => return None,
    })
}
