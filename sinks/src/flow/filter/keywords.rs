//! The keywords of the language, by what may follow them.

use super::fields::{Comparison, Field, RealField};
use super::terms::{ESP, ICMP, ICMPV6, Protocol, SCTP, State, TCP, UDP};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Keyword {
    And,
    Or,
    Not,
    Source,
    Destination,
    Compare(Comparison),
    Mask,
    Protocol(Protocol),
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
    Number(Field),
    Real(RealField),
    State(State),
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
        "host" => Some(Keyword::Host),
        "srcid" => Some(Keyword::SourceId),
        "inode" => Some(Keyword::Inode),
        "net" => Some(Keyword::Net),
        "gateway" => Some(Keyword::Gateway),
        "proto" => Some(Keyword::Proto),
        "port" => Some(Keyword::Port),
        "encaps" => Some(Keyword::Encapsulation),
        "co" => Some(Keyword::Country),
        "broadcast" => Some(Keyword::Broadcast),
        "multicast" => Some(Keyword::Multicast),
        "anon" | "auth" | "recurs" | "req" | "rsp" | "svc" | "tcprtt" | "gap" | "dup" | "len"
        | "length" | "inbound" | "outbound" | "cor" | "corolated" => Some(Keyword::Unsupported),
        _ => comparison(word)
            .map(Keyword::Compare)
            .or_else(|| protocol(word).map(Keyword::Protocol))
            .or_else(|| field(word).map(Keyword::Number))
            .or_else(|| real_field(word).map(Keyword::Real))
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

fn protocol(word: &str) -> Option<Protocol> {
    Some(match word {
        "ether" | "link" | "ppp" | "slip" | "fddi" => Protocol::Link,
        "ip" => Protocol::Ip,
        "ipv4" => Protocol::Ipv4,
        "ipv6" | "ip6" => Protocol::Ipv6,
        "arp" => Protocol::Arp,
        "rarp" => Protocol::Rarp,
        "tcp" => Protocol::Number(TCP),
        "udp" => Protocol::Number(UDP),
        "icmp" => Protocol::Number(ICMP),
        "igmp" => Protocol::Number(2),
        // Those that follow are no words of argus, but of tcpdump, or documented.
        "icmp6" => Protocol::Number(ICMPV6),
        "esp" => Protocol::Number(ESP),
        "ah" => Protocol::Number(51),
        "sctp" => Protocol::Number(SCTP),
        "mpls" => Protocol::Mpls,
        "vlan" => Protocol::Vlan,
        "rtp" => Protocol::Rtp,
        "rtcp" => Protocol::Rtcp,
        "udt" | "isis" => Protocol::Unseen,
        _ => return None,
    })
}

fn field(word: &str) -> Option<Field> {
    Some(match word {
        "seq" => Field::Sequence,
        "vid" => Field::VlanId,
        "vni" => Field::Vni,
        "vpri" => Field::VlanPriority,
        "mid" => Field::Label,
        "ipid" => Field::Identification,
        "spi" => Field::Spi,
        "ttl" => Field::Ttl,
        "tos" => Field::Tos,
        "dsb" | "dsbyte" => Field::CodePoint,
        "trans" => Field::Merged,
        "pkt" | "pkts" => Field::Packets,
        "byte" | "bytes" => Field::Bytes,
        "data" | "appbyte" | "appbytes" => Field::ApplicationBytes,
        "loss" => Field::Lost,
        "tcpb" | "base" => Field::TcpBase,
        "as" | "asn" | "nstroke" | "nstrokes" | "deldur" | "delstime" | "delltime" => {
            Field::Unknown
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

fn state(word: &str) -> Option<State> {
    Some(match word {
        "start" | "init" => State::Cause(0x10),
        "status" => State::Cause(0x20),
        "stop" => State::Cause(0x30),
        "timeout" => State::Cause(0x40),
        "shut" => State::Cause(0x60),
        "error" => State::Cause(0x80),
        "man" | "mar" => State::Management,
        "far" => State::Flow,
        "event" | "index" | "cocode" | "psnp" | "csnp" | "lsp" | "hello" => State::Unseen,
        "normal" => State::TcpStatus(0x20),
        "wait" => State::TcpStatus(0x40),
        "synack" => State::TcpStatus(0x2),
        "finack" => State::TcpStatus(0x10),
        "est" | "con" | "avail" => State::Connected,
        "syn" => State::TcpFlag(0x02),
        "ack" => State::TcpFlag(0x10),
        "push" => State::TcpFlag(0x08),
        "urg" => State::TcpFlag(0x20),
        "fin" => State::TcpFlag(0x01),
        "rst" | "reset" => State::TcpFlag(0x04),
        "ece" => State::TcpFlag(0x40),
        "cwr" => State::TcpFlag(0x80),
        // Of each pair, the bit of the source.
        "outoforder" | "ooo" => State::TcpPair(0x1_0000),
        "winshut" => State::TcpPair(0x400),
        "ecn" => State::TcpPair(0x4000),
        "retrans" | "drop" => State::Retransmitted,
        "frag" => State::Fragments,
        "fragonly" => State::FragmentsOnly,
        "multipath" | "mpath" => State::SeveralPaths,
        "icmpmap" => State::Errors(0x7),
        "echo" => State::Echo,
        "unreach" => State::Errors(0x1),
        "redirect" => State::Errors(0x2),
        "timexed" => State::Errors(0x4),
        "rtr" => State::IgmpQuery,
        "mbr" => State::IgmpMember,
        "lvg" => State::IgmpLeave,
        // Bits of the options in `include/argus_def.h`.
        "tcpopt" => State::TcpOption(0xfff0_0000),
        "mss" => State::TcpOption(0x0010_0000),
        "wscale" => State::TcpOption(0x0020_0000),
        "selackok" => State::TcpOption(0x0040_0000),
        "selack" => State::TcpOption(0x0080_0000),
        "tcpecho" => State::TcpOption(0x0100_0000),
        "tcpechoreply" => State::TcpOption(0x0200_0000),
        "tcptimestamp" => State::TcpOption(0x0400_0000),
        "tcpcc" => State::TcpOption(0x0800_0000),
        "tcpccnew" => State::TcpOption(0x1000_0000),
        "tcpccecho" => State::TcpOption(0x2000_0000),
        "secn" => State::TcpOption(0x4000_0000),
        "decn" => State::TcpOption(0x8000_0000),
        _ => return None,
    })
}
