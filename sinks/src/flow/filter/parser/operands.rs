//! Operands behind qualifiers: numbers, ports, addresses and names.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::{FilterResult, OperandKind, Parser, Qualifiers};
use crate::flow::filter::condition::{Condition, Network};
use crate::flow::filter::fields::{Comparison, Number, NumberField, Real, RealField};
use crate::flow::filter::keywords::Keyword;
use crate::flow::filter::terms::{FilterProtocol, FlowEnds};
use crate::flow::filter::words::Token;
use crate::flow::filter::{FilterStep, NameSource, hosts, names};
use crate::flow::protocol::{ICMP, SCTP, TCP, UDP};

impl Parser<'_> {
    pub(super) fn number(
        &mut self,
        qualifiers: Qualifiers,
        field: NumberField,
        comparison: Option<Comparison>,
    ) -> FilterResult<()> {
        let value = match self.whole() {
            Some(number) => number,
            None if field == NumberField::CodePoint => {
                let code_point = self.name().and_then(names::code_point);
                let Some(code_point) = code_point else {
                    return self.fail_before("this is no differentiated service");
                };
                i64::from(code_point)
            }
            None => return self.fail("a whole number is missing here"),
        };
        let comparison = comparison.unwrap_or(Comparison::Equal);
        let number = Number { field, ends: qualifiers.ends, comparison, value };
        self.qualified_by(qualifiers, Condition::Number(number))
    }

    pub(super) fn real(
        &mut self,
        qualifiers: Qualifiers,
        field: RealField,
        comparison: Option<Comparison>,
    ) -> FilterResult<()> {
        let value = match self.peek().map(|word| &word.token) {
            Some(Token::Number(number)) => *number as f64,
            Some(Token::Real(number)) => *number,
            _ => return self.fail("a number is missing here"),
        };
        self.next += 1;
        let comparison = comparison.unwrap_or(Comparison::Equal);
        let real = Real { field, ends: qualifiers.ends, comparison, value };
        self.qualified_by(qualifiers, Condition::Real(real))
    }

    pub(super) fn port(
        &mut self,
        qualifiers: Qualifiers,
        comparison: Option<Comparison>,
    ) -> FilterResult<()> {
        let protocol = qualifiers.protocol;
        match protocol {
            None | Some(FilterProtocol::Number(TCP | UDP | SCTP) | FilterProtocol::Unseen) => {}
            _ => return self.fail("this protocol has no ports"),
        }
        let (protocol, range) = match (self.whole(), comparison) {
            (Some(number), _) => (protocol, ports(comparison.unwrap_or(Comparison::Equal), number)),
            (None, None) => self.named_ports(protocol)?,
            (None, Some(_)) => return self.fail("a port is missing here"),
        };
        let condition = Condition::Port(protocol, qualifiers.ends, range);
        self.emit(FilterStep::Test(condition))?;
        if comparison == Some(Comparison::NotEqual) { self.emit(FilterStep::Not) } else { Ok(()) }
    }

    /// A range such as `53-215`, or a name, which may be one of TCP or of UDP only.
    fn named_ports(
        &mut self,
        protocol: Option<FilterProtocol>,
    ) -> FilterResult<(Option<FilterProtocol>, RangeInclusive<u16>)> {
        let Some(name) = self.name() else { return self.fail("a port is missing here") };
        if let Some((first, last)) = name.split_once('-')
            && let (Ok(first), Ok(last)) = (first.parse(), last.parse())
        {
            return Ok((protocol, first..=last));
        }
        let found = match self.names {
            NameSource::System => names::port_of_system(name).or_else(|| names::port(name)),
            NameSource::BuiltIn => names::port(name),
        };
        let shown = name.escape_default();
        let Some((port, tcp, udp)) = found else {
            return self.fail_before(format!("port '{shown}' is unknown"));
        };
        let named = match (tcp, udp) {
            (true, false) => Some(TCP),
            (false, true) => Some(UDP),
            _ => None,
        };
        match (protocol, named) {
            (Some(FilterProtocol::Number(asked @ (TCP | UDP))), Some(named)) if asked != named => {
                self.fail_before(format!("port '{shown}' belongs to another protocol"))
            }
            (None, named) => Ok((named.map(FilterProtocol::Number), port..=port)),
            _ => Ok((protocol, port..=port)),
        }
    }

    pub(super) fn host(&mut self, qualifiers: Qualifiers) -> FilterResult<()> {
        let ends = qualifiers.ends;
        let is_net = qualifiers.subject == OperandKind::Net;
        let Some(word) = self.peek() else { return self.fail("an address is missing here") };
        if let Token::Hardware(address) = word.token {
            if qualifiers.protocol != Some(FilterProtocol::Link) || is_net {
                return self.fail("'ether host' goes before a hardware address");
            }
            self.next += 1;
            return self.emit(FilterStep::Test(Condition::Hardware(ends, address)));
        }
        self.check_version(qualifiers.protocol)?;
        let networks = match word.token {
            Token::Ipv4(address) => {
                self.next += 1;
                let mask = self.mask_v4(is_net)?;
                vec![Network::V4(u32::from(address) & mask, mask)]
            }
            Token::Ipv6(address) => {
                self.next += 1;
                let mask = prefix(self.prefix_length(is_net, 128)?, u128::MAX, 128);
                vec![Network::V6(u128::from(address) & mask, mask)]
            }
            Token::Number(number) => {
                self.next += 1;
                vec![self.number_of_host(number, is_net)?]
            }
            _ => self.named_host(is_net)?,
        };
        // Each address of a name, and only if the protocol is right.
        let protocol = qualifiers.protocol.map(Condition::Protocol);
        let at = match protocol {
            Some(protocol) => {
                self.emit(FilterStep::Test(protocol))?;
                Some(self.skip(false)?)
            }
            None => None,
        };
        let hosts = networks.into_iter().map(|network| Condition::Host(ends, network));
        self.conditions(hosts, false)?;
        if let Some(at) = at {
            self.end_skip(at);
        }
        Ok(())
    }

    /// Whether hosts of a protocol have addresses that are compared.
    fn check_version(&self, protocol: Option<FilterProtocol>) -> FilterResult<()> {
        match protocol {
            None
            | Some(
                FilterProtocol::Ip
                | FilterProtocol::Ipv4
                | FilterProtocol::Ipv6
                | FilterProtocol::Arp
                | FilterProtocol::Rarp
                | FilterProtocol::Number(ICMP),
            ) => Ok(()),
            Some(FilterProtocol::Link) => self.fail("a hardware address is missing here"),
            Some(_) => self.fail("join this protocol to an address by 'and'"),
        }
    }

    /// The mask behind an address: a length, or an address behind `mask`.
    fn mask_v4(&mut self, is_net: bool) -> FilterResult<u32> {
        if is_net && self.take(Keyword::Mask) {
            let Some(Token::Ipv4(mask)) = self.peek().map(|word| &word.token) else {
                return self.fail("a mask is missing here");
            };
            self.next += 1;
            return Ok(u32::from(*mask));
        }
        let length = self.prefix_length(is_net, 32)?;
        Ok(prefix(length, u128::from(u32::MAX), 32) as u32)
    }

    /// The length of a prefix in bits, up to `all`.
    fn prefix_length(&mut self, is_net: bool, all: u32) -> FilterResult<u32> {
        if !self.take_symbol('/') {
            return Ok(all);
        }
        if !is_net {
            return self.fail_before("'net' goes before a network");
        }
        let length = self.whole().and_then(|length| u32::try_from(length).ok());
        match length.filter(|length| *length <= all) {
            Some(length) => Ok(length),
            None => self.fail_before(format!("the length of a network is 0 to {all}")),
        }
    }

    /// An address as one number. Of a network, it is its first bytes: 10 is 10.0.0.0/8.
    fn number_of_host(&self, number: i64, is_net: bool) -> FilterResult<Network> {
        let Ok(number) = u32::try_from(number) else {
            return self.fail_before("an address is a number below 2^32");
        };
        let shift = if is_net && number > 0 { number.leading_zeros() / 8 * 8 } else { 0 };
        Ok(Network::V4(number << shift, u32::MAX << shift))
    }

    fn named_host(&mut self, is_net: bool) -> FilterResult<Vec<Network>> {
        let Some(Token::Name(name) | Token::Quoted(name)) = self.peek().map(|word| &word.token)
        else {
            return self.fail("an address is missing here");
        };
        self.next += 1;
        if is_net {
            return self.fail_before("a network is an address, '/' and the length of its prefix");
        }
        Ok(self.addresses(name)?.into_iter().map(network).collect())
    }

    /// Asks the resolver, if the expression may.
    fn addresses(&self, name: &str) -> FilterResult<Vec<IpAddr>> {
        if self.names == NameSource::BuiltIn {
            return self.fail_before(format!(
                "'{}': names of hosts are not looked up for clients; give an address",
                name.escape_default()
            ));
        }
        hosts::addresses(name).or_else(|what| self.fail_before(what))
    }

    pub(super) fn gateway(&mut self, qualifiers: Qualifiers) -> FilterResult<()> {
        let Some(name) = self.name() else {
            return self.fail("the name of a host is missing here");
        };
        let addresses = self.addresses(name)?;
        let hardware = match hosts::hardware(name) {
            Ok(hardware) => hardware,
            Err(what) => return self.fail_before(what),
        };
        self.conditions(
            qualifiers
                .protocol
                .map(Condition::Protocol)
                .into_iter()
                .chain([Condition::Hardware(FlowEnds::Either, hardware)]),
            true,
        )?;
        for address in addresses {
            let at = self.skip(false)?;
            self.emit(FilterStep::Test(Condition::Host(FlowEnds::Either, network(address))))?;
            self.emit(FilterStep::Not)?;
            self.end_skip(at);
        }
        Ok(())
    }

    /// The id of a sensor, or the router that sent an error message.
    pub(super) fn id(&mut self, qualifiers: Qualifiers) -> FilterResult<()> {
        let Some(word) = self.peek() else { return self.fail("an id is missing here") };
        self.next += 1;
        let ids = match word.token {
            Token::Ipv4(address) => vec![u32::from(address)],
            Token::Number(number) => match u32::try_from(number) {
                Ok(number) => vec![number],
                Err(_) => return self.fail_before("an id is a number below 2^32"),
            },
            Token::Quoted(text) => {
                let mut bytes = [0; 4];
                for (byte, character) in bytes.iter_mut().zip(text.bytes()) {
                    *byte = character;
                }
                vec![u32::from_be_bytes(bytes)]
            }
            Token::Name(name) => {
                let of_v4 = |address| match address {
                    IpAddr::V4(address) => Some(u32::from(address)),
                    IpAddr::V6(_) => None,
                };
                self.addresses(name)?.into_iter().filter_map(of_v4).collect()
            }
            _ => return self.fail_before("an id is an address, a number or quoted text"),
        };
        if ids.is_empty() {
            return self.fail_before("this host has no address of IPv4");
        }
        let is_router = qualifiers.subject == OperandKind::Inode;
        let condition = if is_router { Condition::Router } else { Condition::SourceId };
        self.conditions(ids.into_iter().map(condition), false)
    }

    pub(super) fn proto(&mut self, qualifiers: Qualifiers) -> FilterResult<()> {
        if qualifiers.ends != FlowEnds::Default {
            return self.fail_before("a protocol has no 'src' and 'dst'");
        }
        let number = self.whole();
        let name = if number.is_none() { self.name() } else { None };
        if number.is_none() && name.is_none() {
            return self.fail("a protocol is missing here");
        }
        let condition = match qualifiers.protocol {
            Some(FilterProtocol::Link) => {
                let named = name.and_then(names::ethernet_type);
                let number = number.and_then(|number| u16::try_from(number).ok()).or(named);
                number.map(Condition::EthernetType)
            }
            None | Some(FilterProtocol::Ip | FilterProtocol::Ipv4 | FilterProtocol::Ipv6) => {
                let named = name.and_then(names::protocol);
                let number = number.and_then(|number| u8::try_from(number).ok()).or(named);
                let version = qualifiers.protocol.unwrap_or(FilterProtocol::Ip);
                number.map(|number| Condition::IpProtocol(version, number))
            }
            Some(_) => return self.fail_before("only 'ether' and 'ip' go before 'proto'"),
        };
        match condition {
            Some(condition) => self.emit(FilterStep::Test(condition)),
            None => self.fail_before("this protocol is unknown"),
        }
    }

    pub(super) fn named(&mut self, qualifiers: Qualifiers) -> FilterResult<()> {
        let Some(name) = self.name() else { return self.fail("a name is missing here") };
        let condition = match names::encapsulation(name) {
            // A sensor knows no countries.
            _ if qualifiers.subject == OperandKind::Country => {
                Condition::Protocol(FilterProtocol::Unseen)
            }
            Some(bits) => Condition::Encapsulation(qualifiers.ends, bits),
            None => return self.fail_before("this encapsulation is unknown"),
        };
        self.qualified_by(qualifiers, condition)
    }
}

/// The address of a host.
fn network(address: IpAddr) -> Network {
    match address {
        IpAddr::V4(address) => Network::V4(u32::from(address), u32::MAX),
        IpAddr::V6(address) => Network::V6(u128::from(address), u128::MAX),
    }
}

/// A mask of `all` bits, of which the first ones are set.
fn prefix(length: u32, every: u128, all: u32) -> u128 {
    every & every.checked_shl(all - length).unwrap_or(0)
}

/// The ports that a comparison allows; of `!=`, those that it does not allow.
fn ports(comparison: Comparison, number: i64) -> RangeInclusive<u16> {
    let all = i64::from(u16::MAX);
    let (first, last) = match comparison {
        Comparison::Less => (0, number.saturating_sub(1)),
        Comparison::LessOrEqual => (0, number),
        Comparison::Equal | Comparison::NotEqual => (number, number),
        Comparison::GreaterOrEqual => (number, all),
        Comparison::Greater => (number.saturating_add(1), all),
    };
    if first > all || last < 0 || first > last {
        #[expect(clippy::reversed_empty_ranges, reason = "no port")]
        return 1..=0;
    }
    first.max(0) as u16..=last.min(all) as u16
}
