//! What the data of a flow tell, each protocol as an object, and the sizes of its first packets.

use panoptes_records::flow::application::{
    Application, BytePrefix, Dns, DnsAnswer, Hello, Http, Quic, Ssh, TlsHellos,
};
use panoptes_records::flow::{Extra, FlowDirection, Sequence, SequencePacket};
use panoptes_records::json::text::Text;

use super::{Full, JsonWriter};
use crate::flow::column_type::{ParquetColumnSpec, ParquetColumnType as Column};

/// The keys of these objects as columns of Parquet files. Lists of objects have no column. The
/// columns of a new protocol follow the others, so that files keep their order.
pub(in crate::flow) const APPLICATION_COLUMNS: &[ParquetColumnSpec] = &[
    ("tls_version", Column::Text, false),
    ("tls_cipher", Column::Text, false),
    ("tls_selected_protocol", Column::Text, false),
    ("tls_offered_version", Column::Text, false),
    ("tls_server_name", Column::Text, false),
    ("tls_offered_protocols", Column::List, false),
    ("tls_ja4", Column::Text, false),
    ("quic_version", Column::Number, false),
    ("quic_offered_version", Column::Text, false),
    ("quic_server_name", Column::Text, false),
    ("quic_offered_protocols", Column::List, false),
    ("quic_ja4", Column::Text, false),
    ("http_method", Column::Text, false),
    ("http_host", Column::Text, false),
    ("http_target", Column::Text, false),
    ("http_user_agent", Column::Text, false),
    ("http_status", Column::Number, false),
    ("ssh_client_banner", Column::Text, false),
    ("ssh_server_banner", Column::Text, false),
    ("dns_name", Column::Text, false),
    ("dns_type", Column::Text, false),
    ("dns_response_code", Column::Text, false),
    ("dns_is_authoritative", Column::Flag, false),
    ("dns_is_truncated", Column::Flag, false),
    ("dns_is_known_server", Column::Flag, false),
    ("dns_queries", Column::Number, false),
    ("dns_responses", Column::Number, false),
    ("dns_answers_left_out", Column::Number, false),
];

/// Names of record types (IANA, "Resource Record (RR) TYPEs"). Others are `TYPE` and the number, as
/// in RFC 3597 §5.
const TYPES: [(u16, &str); 24] = [
    (1, "A"),
    (2, "NS"),
    (5, "CNAME"),
    (6, "SOA"),
    (10, "NULL"),
    (12, "PTR"),
    (13, "HINFO"),
    (15, "MX"),
    (16, "TXT"),
    (28, "AAAA"),
    (33, "SRV"),
    (35, "NAPTR"),
    (39, "DNAME"),
    (43, "DS"),
    (46, "RRSIG"),
    (47, "NSEC"),
    (48, "DNSKEY"),
    (52, "TLSA"),
    (64, "SVCB"),
    (65, "HTTPS"),
    (251, "IXFR"),
    (252, "AXFR"),
    (255, "ANY"),
    (257, "CAA"),
];

/// Names of the results (IANA, "DNS RCODEs"), from 0 on.
const RESPONSE_CODES: [&str; 11] = [
    "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET",
    "NXRRSET", "NOTAUTH", "NOTZONE",
];

pub(super) fn write(out: &mut JsonWriter<'_>, extra: &Extra<'_>) -> Result<(), Full> {
    for application in [extra.application, extra.later_application].into_iter().flatten() {
        write_application(out, application)?;
    }
    match extra.sequence {
        Some(sequence) => write_sequence(out, sequence),
        None => Ok(()),
    }
}

macro_rules! objects {
    ($($name:ident: $protocol:ident($facts:ty),)+) => {
        /// Writes an application that is known as an object, whose key is the protocol's name. The
        /// function of this name writes the members.
        fn write_application(
            out: &mut JsonWriter<'_>,
            application: &Application,
        ) -> Result<(), Full> {
            match application {
                Application::Unknown => Ok(()),
                $(Application::$protocol(facts) => {
                    member(out, concat!(",\"", stringify!($name), "\":"), |out| $name(out, facts))
                })+
            }
        }
    };
}

panoptes_records::applications!(objects);

fn member(
    out: &mut JsonWriter<'_>,
    key: &str,
    write: impl FnOnce(&mut JsonWriter<'_>) -> Result<(), Full>,
) -> Result<(), Full> {
    out.raw(key.as_bytes())?;
    out.object(write)
}

fn kept<const MAX: usize>(
    out: &mut JsonWriter<'_>,
    key: &str,
    text: &BytePrefix<MAX>,
) -> Result<(), Full> {
    let bytes = text.bytes();
    match (bytes.is_empty(), text.is_cut()) {
        (true, _) => Ok(()),
        (false, false) => out.text(key, &Text::new(bytes)),
        (false, true) => out.text(key, &Text::cut(bytes)),
    }
}

fn tls(out: &mut JsonWriter<'_>, tls: &TlsHellos) -> Result<(), Full> {
    if let Some(server) = &tls.server {
        version(out, ",\"version\":", server.version)?;
        out.hex_bytes(",\"cipher\":", &server.cipher.to_be_bytes())?;
        kept(out, ",\"selected_protocol\":", &server.protocol)?;
    }
    match &tls.client {
        Some(hello) => write_hello(out, hello),
        None => Ok(()),
    }
}

fn quic(out: &mut JsonWriter<'_>, quic: &Quic) -> Result<(), Full> {
    // RFC 9369 has a number for version 2 that nothing else has.
    let number = if quic.version == 0x6b33_43cf { 2 } else { quic.version };
    out.integer(",\"version\":", number.into())?;
    match &quic.client {
        Some(hello) => write_hello(out, hello),
        None => Ok(()),
    }
}

fn write_hello(out: &mut JsonWriter<'_>, hello: &Hello) -> Result<(), Full> {
    version(out, ",\"offered_version\":", hello.version)?;
    kept(out, ",\"server_name\":", &hello.server_name)?;
    if !hello.protocols.bytes().is_empty() {
        out.raw(b",\"offered_protocols\":")?;
        out.list(protocols(hello.protocols.bytes()), |out, name| out.text(",", &Text::new(name)))?;
    }
    match &hello.ja4 {
        Some(ja4) => out.text(",\"ja4\":", &Text::new(ja4)),
        None => Ok(()),
    }
}

/// The names in a list of TLS, each behind its length. One that is cut is left out.
fn protocols(mut list: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (&length, rest) = list.split_first()?;
        let (name, rest) = rest.split_at_checked(usize::from(length))?;
        list = rest;
        Some(name)
    })
}

/// A version of TLS or DTLS.
fn version(out: &mut JsonWriter<'_>, key: &str, number: u16) -> Result<(), Full> {
    let word = match number {
        0x0300 => "SSL 3.0",
        0x0301 => "1.0",
        0x0302 => "1.1",
        0x0303 => "1.2",
        0x0304 => "1.3",
        0xfeff => "DTLS 1.0",
        0xfefd => "DTLS 1.2",
        0xfefc => "DTLS 1.3",
        _ => return out.hex_bytes(key, &number.to_be_bytes()),
    };
    out.word(key, word)
}

fn http(out: &mut JsonWriter<'_>, http: &Http) -> Result<(), Full> {
    kept(out, ",\"method\":", &http.method)?;
    if let Some(host) = &http.host {
        kept(out, ",\"host\":", host)?;
    }
    kept(out, ",\"target\":", &http.target)?;
    if let Some(user_agent) = &http.user_agent {
        kept(out, ",\"user_agent\":", user_agent)?;
    }
    match http.status {
        0 => Ok(()),
        status => out.integer(",\"status\":", status.into()),
    }
}

fn ssh(out: &mut JsonWriter<'_>, ssh: &Ssh) -> Result<(), Full> {
    kept(out, ",\"client_banner\":", &ssh.client)?;
    kept(out, ",\"server_banner\":", &ssh.server)
}

fn dns(out: &mut JsonWriter<'_>, dns: &Dns) -> Result<(), Full> {
    if !dns.name.bytes().is_empty() {
        kept(out, ",\"name\":", &dns.name)?;
        kind(out, ",\"type\":", dns.kind)?;
    }
    if let Some(code) = dns.response_code {
        response_code(out, code)?;
    }
    if dns.is_authoritative {
        out.boolean(",\"is_authoritative\":", true)?;
    }
    if dns.is_truncated {
        out.boolean(",\"is_truncated\":", true)?;
    }
    if let Some(is_known) = dns.is_known_server {
        out.boolean(",\"is_known_server\":", is_known)?;
    }
    out.integer(",\"queries\":", dns.queries.into())?;
    out.integer(",\"responses\":", dns.responses.into())?;
    let answers = dns.answers.iter();
    if answers.len() > 0 {
        out.raw(b",\"answers\":")?;
        out.list(answers, |out, answer| member(out, ",", |out| write_answer(out, answer)))?;
    }
    match dns.answers.left_out {
        0 => Ok(()),
        count => out.integer(",\"answers_left_out\":", count.into()),
    }
}

fn write_answer(out: &mut JsonWriter<'_>, answer: DnsAnswer<'_>) -> Result<(), Full> {
    kind(out, ",\"type\":", answer.kind)?;
    out.integer(",\"ttl_s\":", answer.ttl_s.into())?;
    match answer.data {
        [] => Ok(()),
        data => out.text(",\"data\":", &Text::new(data)),
    }
}

/// The name of a record type.
pub(super) fn kind(out: &mut JsonWriter<'_>, key: &str, number: u16) -> Result<(), Full> {
    if let Some((_, name)) = TYPES.iter().find(|(known, _)| *known == number) {
        return out.word(key, name);
    }
    out.raw(key.as_bytes())?;
    out.number("\"TYPE", number.into())?;
    out.raw(b"\"")
}

/// The name of a result, or its number as a text.
pub(super) fn response_code(out: &mut JsonWriter<'_>, code: u8) -> Result<(), Full> {
    const KEY: &str = ",\"response_code\":";
    if let Some(name) = RESPONSE_CODES.get(usize::from(code)) {
        return out.word(KEY, name);
    }
    out.raw(KEY.as_bytes())?;
    out.number("\"", code.into())?;
    out.raw(b"\"")
}

/// Each packet as its bytes, negative if the destination sent them, and its microseconds since the
/// packet before.
fn write_sequence(out: &mut JsonWriter<'_>, sequence: &Sequence) -> Result<(), Full> {
    let packets = sequence.packets();
    if packets.len() == 0 {
        return Ok(());
    }
    out.raw(b",\"packet_sequence\":")?;
    out.list(packets, |out, packet: SequencePacket| {
        let before = match packet.direction {
            FlowDirection::FromSource => ",[",
            FlowDirection::FromDestination => ",[-",
        };
        out.number(before, packet.size.into())?;
        out.number(",", packet.gap_us.into())?;
        out.raw(b"]")
    })
}
