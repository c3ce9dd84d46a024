//! Messages of DNS.

use std::io::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use panoptes_decoders::application::dns::{
    Data, DnsMessage, DomainName, NAME_TEXT_MAX, ResourceRecord, Strings,
};
use panoptes_records::flow::application::{
    ANSWERS_MAX, Application, Dns, DnsAnswer, DnsAnswerList,
};

use super::stream::StreamDemand;

/// The most bytes of an answer as text: two names and some numbers are never longer.
pub(super) const DATA_TEXT_MAX: usize = NAME_TEXT_MAX + 32;
/// The most answers of a message that are looked at.
pub(super) const LOOKED_AT_MAX: usize = 64;
/// Length in bytes of what is before a message over TCP (RFC 1035 §4.2.2).
const LENGTH_BYTES: usize = 2;

/// DNS itself, multicast DNS (RFC 6762) and LLMNR (RFC 4795).
pub(super) const PORTS: [u16; 3] = [53, 5353, 5355];

/// The message at the beginning of a TCP stream.
pub(super) fn of_stream(stream: &[u8]) -> Result<DnsMessage<'_>, StreamDemand> {
    let Some(&[high, low]) = stream.first_chunk() else {
        return Err(StreamDemand::Wait(LENGTH_BYTES));
    };
    let end = LENGTH_BYTES + usize::from(u16::from_be_bytes([high, low]));
    match DnsMessage::decode_tcp(stream) {
        Some((message, _)) if stream.len() >= end && is_plausible(&message, false) => Ok(message),
        _ if stream.len() < end => Err(StreamDemand::Wait(end)),
        _ => Err(StreamDemand::Done),
    }
}

/// Whether this may be a query or an answer: updates and notifications are not. Only queries of
/// multicast DNS have several questions (RFC 6762 §5.3, RFC 9619).
pub(super) fn is_plausible(message: &DnsMessage<'_>, is_multicast: bool) -> bool {
    message.opcode() == 0 && (message.counts[0] <= 1 || is_multicast)
}

/// Takes a message. `is_known_server` says whether its sender is expected.
pub(super) fn take(
    message: &DnsMessage<'_>,
    is_known_server: Option<bool>,
    application: &mut Application,
) {
    let mut dns = match *application {
        Application::Unknown => Dns::default(),
        Application::Dns(dns) => dns,
        _ => return,
    };
    let mut buffer = [0; DATA_TEXT_MAX];
    let question = message.question();
    if let Some(question) = question {
        let name = question.name.write(&mut buffer).unwrap_or_default();
        (dns.name, dns.kind) = (name.as_bytes().into(), question.kind);
    }
    if message.is_response() {
        dns.responses = dns.responses.saturating_add(1);
        dns.response_code = Some(message.response_code());
        dns.is_authoritative = message.is_authoritative();
        dns.is_truncated = message.is_truncated();
        dns.is_known_server = is_known_server;
        if let Some(first) = message.answers().next().filter(|_| question.is_none()) {
            let name = first.name.write(&mut buffer).unwrap_or_default();
            (dns.name, dns.kind) = (name.as_bytes().into(), first.kind);
        }
        dns.answers = DnsAnswerList::default();
        for record in message.answers().take(LOOKED_AT_MAX) {
            let data = text(&record, &mut buffer);
            dns.answers.push(DnsAnswer { kind: record.kind, ttl_s: record.ttl, data });
        }
        let others = usize::from(message.counts[1]).saturating_sub(LOOKED_AT_MAX.max(ANSWERS_MAX));
        let others = u16::try_from(others).unwrap_or(u16::MAX);
        dns.answers.left_out = dns.answers.left_out.saturating_add(others);
    } else {
        dns.queries = dns.queries.saturating_add(1);
    }
    *application = Application::Dns(dns);
}

/// What an answer says, as in zone files; empty for types that are not decoded.
pub(super) fn text<'a>(
    record: &ResourceRecord<'_>,
    buffer: &'a mut [u8; DATA_TEXT_MAX],
) -> &'a [u8] {
    let length = match &record.data {
        Data::A(address) => numbers(buffer, format_args!("{}", Ipv4Addr::from(*address))),
        Data::Aaaa(address) => numbers(buffer, format_args!("{}", Ipv6Addr::from(*address))),
        Data::Cname(name) | Data::Ns(name) | Data::Ptr(name) => with_name(buffer, 0, *name),
        Data::Mx { preference, exchange } => {
            let begin = numbers(buffer, format_args!("{preference} "));
            with_name(buffer, begin, *exchange)
        }
        Data::Srv { priority, weight, port, target } => {
            let begin = numbers(buffer, format_args!("{priority} {weight} {port} "));
            with_name(buffer, begin, *target)
        }
        Data::Https { priority, target, .. } => {
            let begin = numbers(buffer, format_args!("{priority} "));
            with_name(buffer, begin, *target)
        }
        Data::Txt(strings) => with_strings(buffer, strings.clone()),
        Data::Other(_) => 0,
    };
    &buffer[..length]
}

/// Writes numbers to the beginning of a buffer, and returns their length.
fn numbers(buffer: &mut [u8; DATA_TEXT_MAX], numbers: std::fmt::Arguments<'_>) -> usize {
    let mut rest = &mut buffer[..];
    // They always fit.
    let _ = rest.write_fmt(numbers);
    DATA_TEXT_MAX - rest.len()
}

/// Writes a name behind what is in a buffer. The length of both, or 0 if the name is wrong.
fn with_name(buffer: &mut [u8; DATA_TEXT_MAX], begin: usize, name: DomainName<'_>) -> usize {
    name.write(&mut buffer[begin..]).map_or(0, |name| begin + name.len())
}

/// Writes strings in quotes, as far as there is room, and returns their length.
fn with_strings(buffer: &mut [u8; DATA_TEXT_MAX], strings: Strings<'_>) -> usize {
    let mut length = 0;
    let mut push = |byte: u8| {
        if let Some(room) = buffer.get_mut(length) {
            *room = byte;
            length += 1;
        }
    };
    for (number, string) in strings.enumerate() {
        if number > 0 {
            push(b' ');
        }
        push(b'"');
        for &byte in string {
            if matches!(byte, b'"' | b'\\') {
                push(b'\\');
            }
            push(byte);
        }
        push(b'"');
    }
    length
}
