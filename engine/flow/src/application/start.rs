//! Where a protocol begins in the data of a segment: at once, or behind what a proxy, a request for
//! encryption or an empty line puts before it.

use memchr::memchr;
use panoptes_records::flow::application::ApplicationProtocol;

use super::settings::Protocols;
use super::{STREAM_READERS, tls};

/// The most headers and lines that are passed in one segment.
const STEPS_MAX: usize = 32;
/// The longest line of text that is passed: that of SMTP is the longest (RFC 5321 §4.5.3.1.6).
const LINE_BYTES_MAX: usize = 1000;
/// The header of HAProxy's PROXY protocol: what version 1 and version 2 begin with, and the length
/// of the fixed part of version 2 (proxy-protocol.txt §2.1 and §2.2).
const PROXY_1: &[u8] = b"PROXY ";
const PROXY_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const PROXY_2_BYTES: usize = 16;

/// A protocol in the data of a segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Start {
    /// Where it begins, in bytes.
    pub(super) at: usize,
    pub(super) protocol: ApplicationProtocol,
}

/// The first of some protocols whose beginning data have. If the data are short, they may only be
/// the first bytes of such a beginning.
pub(super) fn find(data: &[u8], wanted: Protocols) -> Option<Start> {
    let mut at = 0;
    let mut is_behind_text = false;
    for _ in 0..STEPS_MAX {
        let rest = data.get(at..).filter(|rest| !rest.is_empty())?;
        // A line of a text may be a request of HTTP that somebody quotes.
        if let Some(protocol) = protocol_of(rest).filter(|protocol| wanted.has(*protocol))
            && (protocol != ApplicationProtocol::Http || !is_behind_text)
        {
            return Some(Start { at, protocol });
        }
        let step = before(rest)?;
        is_behind_text |= step.is_text;
        at += step.bytes;
    }
    None
}

/// The number of bytes that show what follows, if data are only a part of a header that ends later.
pub(super) fn missing(data: &[u8]) -> Option<usize> {
    let length = data.len().min(PROXY_2.len());
    let end = proxy_2(data).map_or(PROXY_2_BYTES, |bytes| bytes + 1);
    (data[..length] == PROXY_2[..length] && data.len() < end).then_some(end)
}

/// Which protocol data begin with.
fn protocol_of(data: &[u8]) -> Option<ApplicationProtocol> {
    if tls::may_begin_hello(data) {
        return Some(ApplicationProtocol::Tls);
    }
    let reader = STREAM_READERS.iter().find(|reader| (reader.begins)(data))?;
    Some(reader.protocol)
}

/// A header or a line before another protocol.
struct StreamPreamble {
    bytes: usize,
    /// A line of text that no proxy writes.
    is_text: bool,
}

/// The header or the line that data begin with.
fn before(data: &[u8]) -> Option<StreamPreamble> {
    let header = |bytes| Some(StreamPreamble { bytes, is_text: false });
    match *data {
        // An empty line, as clients of HTTP may send it (RFC 9112 §2.2).
        [b'\r', b'\n', ..] if !data.starts_with(PROXY_2) => header(2),
        [b'\n', ..] => header(1),
        [b'\r', ..] => header(proxy_2(data)?),
        // SOCKS 5: a request or its reply, methods (RFC 1928), name and password (RFC 1929).
        [5, 0 | 1, 0, 1, ..] => header(10),
        [5, 0 | 1, 0, 3, length, ..] => header(7 + usize::from(length)),
        [5, 0 | 1, 0, 4, ..] => header(22),
        [5, count, ..] => header(2 + usize::from(count)),
        [1, name, ..] => {
            let password = *data.get(2 + usize::from(name))?;
            header(3 + usize::from(name) + usize::from(password))
        }
        // SOCKS 4: port, address, name of the user; the name of the host if the address is 0.0.0.x.
        [4, 1, _, _, a, b, c, _, ref after @ ..] => {
            let user = end_of_text(after)?;
            let host = if [a, b, c] == [0; 3] { end_of_text(after.get(user..)?)? } else { 0 };
            header(8 + user + host)
        }
        // Its reply, the request for encryption of PostgreSQL, and the packet around a hello in
        // TDS ([MS-TDS] §2.2.3.1).
        [0, 0x5a, ..]
        | [0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f, ..]
        | [18, 0 | 1, _, _, 0, 0, _, 0, ..] => header(8),
        // The request for encryption of MySQL.
        [32, 0, 0, 1, ..] => header(36),
        _ => {
            let is_text = |byte: &u8| matches!(byte, b'\t' | b'\r' | b' '..=b'~');
            // Most data have no line: neither all their text nor all their bytes are looked at.
            data.first().filter(|first| is_text(first))?;
            let length = memchr(b'\n', &data[..data.len().min(LINE_BYTES_MAX)])?;
            let is_line = data[..length].iter().all(is_text);
            let is_text = !data.starts_with(PROXY_1);
            is_line.then_some(StreamPreamble { bytes: length + 1, is_text })
        }
    }
}

/// Length in bytes of a text with the zero at its end.
fn end_of_text(data: &[u8]) -> Option<usize> {
    let text = &data[..data.len().min(LINE_BYTES_MAX)];
    text.iter().position(|byte| *byte == 0).map(|zero| zero + 1)
}

/// Length in bytes of the header of version 2.
fn proxy_2(data: &[u8]) -> Option<usize> {
    let header: &[u8; PROXY_2_BYTES] = data.first_chunk()?;
    let length = u16::from_be_bytes([header[14], header[15]]);
    data.starts_with(PROXY_2).then_some(PROXY_2_BYTES + usize::from(length))
}
