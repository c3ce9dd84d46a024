//! Answers of DNS as JSON lines.

use std::net::IpAddr;

use super::{Full, JsonWriter, Lines, Text, Timestamp, application, line, write_source_id};

/// Bytes that are always enough for the line of a [`Resolution`].
pub const RESOLUTION_BYTES_MAX: usize = 8192;

/// What a server of DNS has told a client about a name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Resolution<'a> {
    pub server: IpAddr,
    pub client: IpAddr,
    /// Whether the server is one of those that are expected, if any are.
    pub is_known_server: Option<bool>,
    /// The name, as in zone files and in lower case, and the record type.
    pub name: &'a [u8],
    pub kind: u16,
    /// The answer as in zone files; empty if there is none, or if its type is not decoded.
    pub answer: &'a [u8],
    pub response_code: u8,
    /// How often it was seen, and the times of the first and the last one in nanoseconds since
    /// 1970.
    pub count: u64,
    pub first_ns: i64,
    pub last_ns: i64,
}

impl Lines {
    /// Writes an answer and a line feed to the beginning of `out`, and returns the length in bytes;
    /// `None` if there is no room.
    pub fn resolution(&self, out: &mut [u8], resolution: &Resolution<'_>) -> Option<usize> {
        line(out, |out| {
            out.word(",\"kind\":", "passive_dns")?;
            write_source_id(out, self.options.source_id)?;
            write(out, resolution)
        })
    }
}

fn write(out: &mut JsonWriter<'_>, resolution: &Resolution<'_>) -> Result<(), Full> {
    out.ip_address(",\"server_address\":", resolution.server)?;
    if let Some(is_known) = resolution.is_known_server {
        out.boolean(",\"is_known_server\":", is_known)?;
    }
    out.ip_address(",\"client_address\":", resolution.client)?;
    out.text(",\"name\":", &Text::new(resolution.name))?;
    application::kind(out, ",\"type\":", resolution.kind)?;
    application::response_code(out, resolution.response_code)?;
    if !resolution.answer.is_empty() {
        out.text(",\"answer\":", &Text::new(resolution.answer))?;
    }
    out.integer(",\"count\":", resolution.count)?;
    out.timestamp(",\"first_time\":", Timestamp::from_ns(resolution.first_ns))?;
    out.timestamp(",\"last_time\":", Timestamp::from_ns(resolution.last_ns))
}
